"""flow-quilt: learned coarse films, quilted detail."""

import numpy as np
import pytest

from cxrbench.checks import toy_films
from cxrbench.contracts import RunContext
from cxrbench.errors import UsageError
from cxrbench_baselines.generators.flow_quilt import FlowQuilt

SMALL = {"batch": 4, "width": 8, "steps": 2}


def context(tmp_path, seed=0, budget=2):
    return RunContext(seed, "cpu", budget, tmp_path)


@pytest.mark.parametrize("size", [16, 50, 75])
def test_any_size(tmp_path, size):
    made = FlowQuilt(**SMALL).fit(toy_films(size), context(tmp_path))
    assert made.sample(np.asarray([0, 2, 1]), context(tmp_path)).shape == (3, 1, size, size)


def test_detail_is_of_real_films_whatever_was_learned(tmp_path):
    """Films of pure noise: after two steps the coarse films are poor, and the detail is as rough as the real films'."""
    train = toy_films(32, per_class=20)
    films = FlowQuilt(**SMALL).fit(train, context(tmp_path)).sample(np.repeat([0, 1, 2], 10), context(tmp_path))

    def roughness(pixels):
        return np.abs(np.diff(pixels.astype(float), axis=-1)).mean()

    assert roughness(films) == pytest.approx(roughness(train.pixels), rel=0.15)


def test_looking_leaves_the_steps_of_sampling_as_they_are(tmp_path):
    made = FlowQuilt(**{**SMALL, "steps": 5}).fit(toy_films(32), context(tmp_path))
    before = made.sample(np.asarray([0, 1]), context(tmp_path))
    made.preview(np.asarray([0, 1]), context(tmp_path))
    assert np.array_equal(made.sample(np.asarray([0, 1]), context(tmp_path)), before)


def test_too_few_films_are_refused_before_training(tmp_path):
    with pytest.raises(UsageError, match="needs 5 training films of class 'a', there are 4"):
        FlowQuilt(**SMALL).fit(toy_films(32, per_class=4), context(tmp_path))


@pytest.mark.parametrize("params", [{"pieces": 0}, {"agreement": -1.0}])
def test_parameters_outside_their_range_are_refused(params):
    with pytest.raises(ValueError, match=next(iter(params))):
        FlowQuilt(**params)
