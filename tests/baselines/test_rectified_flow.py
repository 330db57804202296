"""The mathematics of the flows, by closed forms."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrbench_baselines.generators.rectified_flow import drawn_times, followed, mixed, spread_at, velocity


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
