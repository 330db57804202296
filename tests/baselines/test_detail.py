"""Likeness of detail, by closed forms and directions."""

import pytest
import torch

from cxrbench_baselines.generators.detail import FAINTEST, excess_likeness


@pytest.fixture(autouse=True)
def same_noise():
    """Films of noise are hardly alike, but for one draw in thousands."""
    torch.manual_seed(0)


def checkered(size, period):
    """A film whose detail is stripes across, another's stripes down: orthogonal, and as strong."""
    wave = torch.sign(torch.arange(size) % period - period / 2 + 0.5) * 0.5
    return torch.stack([wave.expand(size, size), wave[:, None].expand(size, size)])[:, None]


def test_films_that_are_one_film_exceed_orthogonal_ones_by_one_in_the_octave_they_repeat():
    real = checkered(32, 2)
    labels = torch.zeros(2, dtype=torch.int64)
    assert excess_likeness(real[:1].repeat(2, 1, 1, 1), real, labels).item() == pytest.approx(1.0, abs=1e-5)
    assert excess_likeness(real, real[:1].repeat(2, 1, 1, 1), labels).item() == 0.0  # more varied than asked: no loss


def test_contrast_and_brightness_do_not_make_films_unlike():
    film, other = torch.randn(1, 1, 64, 64), torch.randn(2, 1, 64, 64)
    labels = torch.zeros(2, dtype=torch.int64)
    alike = excess_likeness(torch.cat([film, 0.3 * film + 0.2]), other, labels)
    assert alike.item() == pytest.approx(2.0, abs=0.02)  # both octaves; noise is hardly like noise


def test_a_mirrored_sign_is_like_its_film():
    """Detail and its negative are one pattern."""
    film, other = torch.randn(1, 1, 32, 32), torch.randn(2, 1, 32, 32)
    alike = excess_likeness(torch.cat([film, -film]), other, torch.zeros(2, dtype=torch.int64))
    assert alike.item() == pytest.approx(1.0, abs=0.02)


def test_films_as_varied_as_the_real_ones_are_left_alone():
    films = torch.randn(6, 1, 64, 64)
    assert excess_likeness(films, films.flip(0), torch.zeros(6, dtype=torch.int64)).item() == pytest.approx(0, abs=1e-6)


def test_only_films_of_a_class_are_compared():
    film, other = torch.randn(1, 1, 32, 32).repeat(4, 1, 1, 1), torch.randn(4, 1, 32, 32)
    assert excess_likeness(film, other, torch.arange(4)).item() == 0.0
    assert excess_likeness(film, other, torch.tensor([0, 1, 2, 0])).item() == pytest.approx(0.5, abs=0.01)


def test_what_one_class_repeats_is_not_made_good_by_another():
    """Real films of the first class are twins, generated ones of the second: on the whole, they are as much alike."""
    one, two, three, four = torch.randn(4, 1, 1, 32, 32)
    labels = torch.tensor([0, 0, 1, 1])
    generated, real = torch.cat([one, two, three, three]), torch.cat([one, one, three, four])
    assert excess_likeness(generated, real, labels).item() == pytest.approx(0.5, abs=0.01)


def test_a_single_pair_of_twins_counts_among_many_films_as_much_as_among_few():
    """Twins are two films of eight, but one pair of twenty-eight, of which a mean over pairs would see nothing."""
    films, labels = torch.randn(8, 1, 32, 32), torch.zeros(8, dtype=torch.int64)
    twins = torch.cat([films[:7], films[:1]])
    assert excess_likeness(twins, films, labels).item() == pytest.approx(2 / 8, abs=0.01)


@pytest.mark.parametrize("size", [8, 16])
def test_films_too_coarse_to_have_detail_have_no_loss_and_no_gradient(size):
    films = torch.ones(2, 1, size, size, requires_grad=True)
    loss = excess_likeness(films, torch.randn(2, 1, size, size), torch.zeros(2, dtype=torch.int64))
    (loss + 0 * films.sum()).backward()
    assert loss.item() == 0.0
    assert films.grad.abs().max() == 0


def test_gradients_at_films_of_nothing_are_finite():
    films = torch.zeros(3, 1, 32, 32, requires_grad=True)
    (excess_likeness(films, torch.randn(3, 1, 32, 32), torch.zeros(3, dtype=torch.int64)) + films.sum()).backward()
    assert torch.isfinite(films.grad).all()
    faint = (torch.randn(3, 1, 32, 32) * FAINTEST / 1000).requires_grad_(True)
    excess_likeness(faint, torch.randn(3, 1, 32, 32), torch.zeros(3, dtype=torch.int64)).backward()
    assert faint.grad.abs().max() < 1 / FAINTEST


@pytest.mark.parametrize("size", [33, 64, 299])
def test_a_step_down_the_gradient_makes_films_less_alike(size):
    films = (torch.randn(1, 1, size, size) + 0.3 * torch.randn(4, 1, size, size)).requires_grad_(True)
    real, labels = torch.randn(4, 1, size, size), torch.tensor([0, 0, 1, 1])
    before = excess_likeness(films, real, labels)
    (slope,) = torch.autograd.grad(before, films)
    after = excess_likeness(films - 0.1 * slope / slope.square().sum(), real, labels)
    assert after.item() == pytest.approx(before.item() - 0.1, rel=0.05)


def test_autocast_changes_nothing():
    """Films that are alike: where nothing exceeds, there would be nothing to round."""
    films, real = torch.randn(1, 1, 32, 32) + 0.3 * torch.randn(4, 1, 32, 32), torch.randn(4, 1, 32, 32)
    labels = torch.tensor([0, 0, 0, 1])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = excess_likeness(films, real, labels)
    assert rounded > 0.5
    assert torch.equal(rounded, excess_likeness(films, real, labels))
