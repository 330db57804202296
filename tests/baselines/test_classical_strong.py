"""Strong augmentation moves and exposes films differently, and never mirrors them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.checks import toy_films
from cxrbench.contracts import Images, RunContext
from cxrbench.errors import UsageError
from cxrbench.registry import GENERATORS
from cxrbench_baselines.generators.classical_strong import ClassicalStrong

NONE = {"degrees": 0.0, "zoom": 1.0, "shift": 0.0, "gamma": 1.0, "contrast": 1.0}


def sampled(train, labels, seed=0, **parameters):
    ctx = RunContext(seed, "cpu", 0, None)
    return ClassicalStrong(**parameters).fit(train, ctx).sample(np.asarray(labels, np.int64), ctx)


def one_film(pixels):
    """A training set of two classes that both show this film."""
    return Images(np.stack([pixels, pixels])[:, None].astype(np.uint8), np.arange(2), ("a", "b"))


def ramp(size=32):
    """Grey levels that rise from the left to the right."""
    return np.tile(np.linspace(0, 255, size), (size, 1)).round()


def test_without_any_amount_the_training_films_come_back():
    train = toy_films(16, per_class=1)
    assert np.array_equal(sampled(train, [2, 0, 1], **NONE), train.pixels[[2, 0, 1]])


def test_row_i_shows_the_class_that_was_asked_for():
    films = sampled(toy_films(32), [0, 2] * 30)
    assert films[0::2].mean() + 80 < films[1::2].mean()


@given(seed=st.integers(0, 2**31), bright=st.integers(30, 255))
def test_a_bright_corner_stays_on_its_side(seed, bright):
    """The heart's side: whatever is drawn, what was on the left is on the left."""
    film = np.zeros((32, 32))
    film[:10, :10] = bright
    films = sampled(one_film(film), np.zeros(8), seed)
    assert (films[..., :16].mean(axis=(1, 2, 3)) > 4 * films[..., 16:].mean(axis=(1, 2, 3))).all()


@given(seed=st.integers(0, 2**31))
def test_brightness_stays_within_bounds(seed):
    """A gamma of 1.2 moves a mid grey of 127.5 to no more than 255 * 0.5 ** (1 / 1.2), that is by 15.6 levels."""
    film = np.full((16, 16), 127.0)
    film[:8] = 128
    films = sampled(one_film(film), np.zeros(16), seed).astype(float)
    assert np.abs(films.mean(axis=(1, 2, 3)) - 127.5).max() < 17


def test_as_many_films_grow_darker_as_brighter():
    film = ramp()
    means = sampled(one_film(film), np.zeros(400), **(NONE | {"gamma": 1.5})).mean(axis=(1, 2, 3))
    darker = means < film.mean()
    assert 0.4 < darker.mean() < 0.6


def test_gamma_keeps_black_white_and_the_order_of_grey_levels():
    films = sampled(one_film(ramp()), np.zeros(20), **(NONE | {"gamma": 4.0}))
    assert set(films[..., 0].ravel()) == {0}
    assert set(films[..., -1].ravel()) == {255}
    assert (np.diff(films.astype(int), axis=-1) >= 0).all()
    assert len(np.unique(films[:, 0, 0, 16])) > 10


def test_contrast_spreads_grey_levels_about_an_unchanged_mean():
    film = np.full((16, 16), 120)
    film[:, 8:] = 140
    films = sampled(one_film(film), np.zeros(200), **(NONE | {"contrast": 2.0})).astype(float)
    assert np.abs(films.mean(axis=(1, 2, 3)) - 130).max() <= 0.5
    spreads = (films[..., -1] - films[..., 0])[:, 0, 0] / 20
    assert spreads.min() == pytest.approx(0.5, abs=0.06)
    assert spreads.max() == pytest.approx(2.0, abs=0.06)


def test_a_zoom_scales_both_axes_alike():
    """A centred square stays a square; its side grows and shrinks by at most the zoom."""
    film = np.zeros((64, 64))
    film[16:48, 16:48] = 255
    films = sampled(one_film(film), np.zeros(50), **(NONE | {"zoom": 1.5}))[:, 0].astype(float) / 255
    widths, heights = films[:, 32].sum(axis=1), films[:, :, 32].sum(axis=1)
    assert widths == pytest.approx(heights)
    assert 32 / 1.5 - 1 <= widths.min() < 25
    assert 41 < widths.max() <= 32 * 1.5 + 1


def test_a_shift_moves_films_by_no_more_than_its_share_of_the_side():
    film = np.zeros((64, 64))
    film[28:36, 28:36] = 255
    films = sampled(one_film(film), np.zeros(100), **(NONE | {"shift": 0.125}))[:, 0].astype(float)
    for axis in (1, 2):
        profile = films.sum(axis=axis)
        moved = (profile * np.arange(64)).sum(axis=1) / profile.sum(axis=1) - 31.5
        assert np.abs(moved).max() <= 8.1
        assert moved.max() > 6
        assert moved.min() < -6


@pytest.mark.parametrize(
    "parameter", ["degrees=-1", "degrees=46", "zoom=0.9", "zoom=nan", "shift=0.6", "gamma=0", "contrast=inf"]
)
def test_an_amount_outside_its_range_is_refused(parameter):
    name, _, value = parameter.partition("=")
    with pytest.raises(UsageError, match=rf"classical-strong.*{name}={float(value):g} must lie in"):
        GENERATORS.parse(f"classical-strong:{parameter}")
