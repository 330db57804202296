"""Training: what a classifier is shown, what it is refused for, and how its configuration is chosen."""

from dataclasses import dataclass

import numpy as np
import pytest

from cxrbench.cache import Cache
from cxrbench.checks import toy_films
from cxrbench.contracts import Images, RunContext
from cxrbench.datasets.phantom import Phantom
from cxrbench.errors import UsageError
from cxrbench.learning import join, train_and_predict
from cxrbench.spec import spec_of_tier
from cxrbench.stages import index_data, load_and_split


@pytest.fixture
def data(tmp_path):
    index = index_data("phantom", Phantom(patients_per_class=12))
    return load_and_split(index, spec_of_tier("smoke"), 0, Cache(tmp_path / "cache"))


@pytest.fixture
def context(tmp_path):
    return RunContext(0, "cpu", 2, tmp_path)


@dataclass
class Spy:
    """Remembers what it was shown."""

    skill: float = 0.0

    def fit(self, train, val, ctx):
        self.train, self.val = train, val
        return self

    def predict_proba(self, pixels, ctx):
        return np.full((len(pixels), 3), 1 / 3, np.float32)


@dataclass
class Tuned(Spy):
    """Knows the validation films by heart, to the degree of its skill."""

    def candidates(self, count):
        return [Tuned(skill) for skill in (self.skill, 0.9, 0.4)[:count]]

    def predict_proba(self, pixels, ctx):
        found = np.full((len(pixels), 3), 1 / 3)
        known = {film.tobytes(): label for film, label in zip(self.val.pixels, self.val.labels, strict=True)}
        for row, film in enumerate(pixels):
            if film.tobytes() in known and row % 10 < 10 * self.skill:
                found[row] = np.eye(3)[known[film.tobytes()]] * 0.9 + 0.1 / 3
        found[:, 0] += 1e-3 * self.skill  # tells which configuration predicted
        return (found / found.sum(axis=1, keepdims=True)).astype(np.float32)


def test_synthetic_films_are_added_to_training_and_nowhere_else(data, context):
    spy, added = Spy(), toy_films(32, per_class=4)
    joined = join(data.train, Images(added.pixels, added.labels, data.images.classes))
    trained = train_and_predict(spy, joined, data.val, [data.test.pixels, data.test.pixels[:4]], context)
    assert [len(probabilities) for probabilities in trained.predictions] == [len(data.test), 4]
    assert len(spy.train) == len(data.train) + len(added)
    assert np.array_equal(spy.val.pixels, data.val.pixels)
    shown = {film.tobytes() for film in spy.train.pixels} | {film.tobytes() for film in spy.val.pixels}
    assert not any(film.tobytes() in shown for film in data.test.pixels)


def test_synthetic_films_alone_can_be_trained_on_and_nothing_cannot(data):
    added = toy_films(32, per_class=4)
    assert np.array_equal(join(None, added).pixels, added.pixels)
    assert np.array_equal(join(data.train, None).pixels, data.train.pixels)
    with pytest.raises(ValueError, match="no film to train on"):
        join(None, None)


def test_malformed_probabilities_are_refused_for_every_set(data, context):
    spy = Spy()
    spy.predict_proba = lambda pixels, ctx: np.full((len(pixels) if len(pixels) > 4 else 3, 3), 1 / 3, np.float32)
    with pytest.raises(ValueError, match=r"must return float32 \[4, 3\]"):
        train_and_predict(spy, data.train, data.val, [data.test.pixels, data.test.pixels[:4]], context)


def test_the_configuration_is_chosen_on_validation_films(data, context):
    trained = train_and_predict(Tuned(), data.train, data.val, [data.test.pixels], context, tuning_trials=3)
    assert [params for params, _ in trained.tried] == [{"skill": 0.0}, {"skill": 0.9}, {"skill": 0.4}]
    scores = [score for _, score in trained.tried]
    assert max(scores) == scores[1]
    best = Tuned(0.9).fit(data.train, data.val, context).predict_proba(data.test.pixels, context)
    assert np.array_equal(trained.predictions[0], best)


def test_a_classifier_that_proposes_nothing_cannot_be_tuned(data, context):
    with pytest.raises(UsageError, match="--tune must be 1"):
        train_and_predict(Spy(), data.train, data.val, [data.test.pixels], context, tuning_trials=2)
