"""The quilt generator: smoothed bootstrap of coarse films, detail of real ones."""

import numpy as np
import pytest

from cxrbench.checks import toy_films
from cxrbench.contracts import Images, RunContext
from cxrbench.datasets.phantom import Phantom
from cxrbench.errors import UsageError
from cxrbench_baselines.generators.quilt import COARSE, Quilt


def fitted(train, **params):
    return Quilt(**params).fit(train, RunContext(0, "cpu", 0, None))


def sampled(train, labels, seed=0, **params):
    return fitted(train, **params).sample(np.asarray(labels, np.int64), RunContext(seed, "cpu", 0, None))


def shrunk(films, side=COARSE):
    step = films.shape[-1] // side
    return films.astype(float).reshape(len(films), side, step, side, step).mean(axis=(2, 4))


@pytest.fixture(scope="module")
def phantom():
    data = Phantom(patients_per_class=80, max_films=1)
    listing = data.listing().films
    pixels = np.stack([data.read(film, 32) for film in listing])[:, None]
    return Images(pixels, np.asarray([film.label for film in listing], np.int64), tuple(data.classes()))


@pytest.mark.parametrize("bandwidth", [0.5, 1.0])
def test_coarse_films_keep_mean_and_spread_of_their_class(phantom, bandwidth):
    """Silverman, section 6.4.1: whatever the bandwidth, the first two moments are those of the real films."""
    films = sampled(phantom, np.ones(600), bandwidth=bandwidth)
    real, drawn = shrunk(phantom.of_class(1).pixels), shrunk(films)
    assert np.abs(drawn.mean(axis=0) - real.mean(axis=0)).max() < 0.5 * real.std(axis=0).max()
    assert drawn.std(axis=0).mean() == pytest.approx(real.std(axis=0).mean(), rel=0.2)


def test_without_bandwidth_coarse_films_are_real_ones(phantom):
    real, drawn = shrunk(phantom.of_class(0).pixels), shrunk(sampled(phantom, np.zeros(20), bandwidth=0.0))
    apart = np.abs(drawn[:, None] - real[None]).mean(axis=(2, 3)).min(axis=1)
    wide = shrunk(sampled(phantom, np.zeros(20), bandwidth=1.0))
    assert apart.max() < np.abs(wide[:, None] - real[None]).mean(axis=(2, 3)).min(axis=1).mean()


def test_a_row_does_not_depend_on_those_after_it(phantom):
    labels = [0, 1, 2, 1, 0, 2, 2, 1]
    few, more = sampled(phantom, labels[:5]), sampled(phantom, labels)
    assert np.abs(few.astype(int) - more[:5]).max() <= 1


def test_fitted_again_or_loaded_it_takes_detail_of_the_new_films(phantom, tmp_path):
    """Detail is kept between two calls, but never that of other films."""
    labels, ctx = np.zeros(4, np.int64), RunContext(1, "cpu", 0, None)
    other = Images(phantom.pixels[:, :, ::-1].copy(), phantom.labels, phantom.classes)
    wanted = fitted(other).sample(labels, ctx)
    again = fitted(phantom)
    assert not np.array_equal(again.sample(labels, ctx), wanted)
    assert np.array_equal(again.fit(other, ctx).sample(labels, ctx), wanted)
    again.save(tmp_path)
    loaded = fitted(phantom)
    loaded.sample(labels, ctx)
    assert np.array_equal(loaded.load(tmp_path).sample(labels, ctx), wanted)


def test_detail_is_of_the_wanted_class():
    """Class a is smooth, class b rough: quilted films are, too."""
    rng = np.random.default_rng(0)
    smooth = np.repeat(rng.integers(0, 256, (20, 1, 1, 1)), 32 * 32, axis=3).reshape(20, 1, 32, 32)
    rough = rng.integers(0, 256, (20, 1, 32, 32))
    train = Images(np.concatenate([smooth, rough]).astype(np.uint8), np.repeat([0, 1], 20), ("a", "b"))
    films = sampled(train, [0] * 5 + [1] * 5).astype(float)
    roughness = np.abs(np.diff(films, axis=-1)).mean(axis=(1, 2, 3))
    assert roughness[:5].max() < 0.2 * roughness[5:].min()


@pytest.mark.parametrize("size", [32, 50, 75])
def test_any_size(size):
    assert sampled(toy_films(size), [0, 1, 2]).shape == (3, 1, size, size)


def test_too_few_films_of_a_class_are_refused():
    with pytest.raises(UsageError, match="needs 5 training films of class 'a', there are 4"):
        fitted(toy_films(32, per_class=4))
    fitted(toy_films(32, per_class=5))
    with pytest.raises(UsageError, match="needs 10 training films"):
        fitted(toy_films(32), pieces=3)


@pytest.mark.parametrize(
    "params",
    [
        {"bandwidth": -0.1},
        {"bandwidth": 1.1},
        {"pieces": 0},
        {"pieces": 9},
        {"agreement": -1.0},
        {"agreement": float("inf")},
    ],
)
def test_parameters_outside_their_range_are_refused(params):
    with pytest.raises(ValueError, match=next(iter(params))):
        Quilt(**params)
