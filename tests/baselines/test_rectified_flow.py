"""The mathematics of the flows, by closed forms."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrbench_baselines.generators.rectified_flow import drawn_times, followed, guided, mixed, spread_at, velocity


def test_the_line_begins_in_noise_and_ends_in_data():
    data, noise = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    assert torch.equal(mixed(data, noise, torch.zeros(3)), noise)
    assert torch.equal(mixed(data, noise, torch.ones(3)), data)


@given(st.floats(0, 1))
def test_the_spread_is_that_of_independent_unit_data_and_noise(time):
    generator = torch.Generator().manual_seed(0)
    data, noise = (torch.randn(20_000, 1, generator=generator) for _ in range(2))
    state = mixed(data, noise, torch.full((20_000,), time))
    assert state.std().item() == pytest.approx(spread_at(torch.tensor([time]), state).item(), rel=0.03)


@given(st.floats(0, 1))
def test_what_remains_for_the_net_has_unit_variance_at_every_time(time):
    generator = torch.Generator().manual_seed(1)
    data, noise = (torch.randn(20_000, 1, generator=generator) for _ in range(2))
    t = torch.full((20_000,), time)
    state = mixed(data, noise, t)
    remaining = (data - noise - velocity(torch.zeros_like(state), state, t)) * spread_at(t, state)
    assert remaining.var().item() == pytest.approx(1.0, rel=0.05)


def test_a_net_of_zeros_draws_a_standard_normal():
    noise = torch.randn(5000, 2, generator=torch.Generator().manual_seed(2))
    drawn = followed(lambda state, time: velocity(torch.zeros_like(state), state, time), noise, 40)
    assert drawn.std(dim=0).tolist() == pytest.approx([1.0, 1.0], abs=0.05)


def test_the_true_velocity_of_one_film_leads_every_noise_to_it():
    film, noise = torch.randn(1, 6), torch.randn(8, 6)
    drawn = followed(lambda state, time: (film - state) / (1 - time[:, None]), noise, 10)
    assert torch.allclose(drawn, film.expand(8, 6), atol=1e-4)


@given(st.floats(0, 4), st.floats(-2, 2), st.floats(-2, 2))
def test_guidance_goes_on_along_the_line_from_the_worse_velocity_to_the_better(guidance, better, worse):
    at = guided(lambda state, time: better + 0 * state, lambda state, time: worse + 0 * state, guidance)
    assert at(torch.zeros(2), torch.zeros(2)).tolist() == pytest.approx(
        [worse + guidance * (better - worse)] * 2, abs=1e-5
    )


def test_without_guidance_the_worse_net_is_not_asked():
    def asked(state, time):
        raise AssertionError("asked")

    assert guided(lambda state, time: state, asked, 1.0)(torch.ones(1), torch.zeros(1)).item() == 1.0


def test_guidance_gives_back_the_spread_that_a_net_in_training_has_not_learned_yet():
    """Data of spread 1.5; nets that are to unit spread (a net of zeros) a third and two thirds of their way to it draw
    too narrow, the better one guided by the worse one does not."""
    noise = torch.randn(4000, 1, generator=torch.Generator().manual_seed(3))

    def drawn(spread):
        return lambda state, time: (
            state
            * ((spread**2 + 1) * time[:, None] - 1)
            / (spread**2 * time[:, None].square() + (1 - time[:, None]).square())
        )

    better, worse = drawn(1.35), drawn(1.2)
    assert followed(better, noise, 40).std().item() == pytest.approx(1.35, rel=0.03)
    assert followed(guided(better, worse, 2.0), noise, 40).std().item() == pytest.approx(1.5, rel=0.03)


def test_heun_is_of_second_order():
    """The error of dx/dt = x over [0, 1] falls fourfold when the step is halved."""
    start = torch.ones(1, 1, dtype=torch.float64)
    errors = [abs(followed(lambda state, time: state, start, steps).item() - torch.e) for steps in (40, 80)]
    assert 3.5 < errors[0] / errors[1] < 4.5


def test_times_are_inside_the_interval_and_densest_in_the_middle():
    times = drawn_times(torch.randn(10_000, generator=torch.Generator().manual_seed(0)))
    assert times.min() > 0
    assert times.max() < 1
    assert ((times > 0.4) & (times < 0.6)).float().mean() > 0.25
