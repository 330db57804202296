"""Controls: each returns exactly what its role says."""

import numpy as np
import pytest

from cxrbench.checks import toy_films
from cxrbench.contracts import RunContext
from cxrbench.errors import UsageError
from cxrbench_baselines.generators.controls import Copy, Noise, Oracle, Oversample, Shuffle


@pytest.fixture
def context(tmp_path):
    return RunContext(0, "cpu", 1, tmp_path)


TRAIN = toy_films(32, per_class=6)
WANTED = np.repeat(np.arange(3), 6).astype(np.int64)


def labels_of(films, source=TRAIN):
    known = {film.tobytes(): int(label) for film, label in zip(source.pixels, source.labels, strict=True)}
    return np.asarray([known.get(film.tobytes(), -1) for film in films])


def test_copy_returns_every_training_film_once_before_any_twice(context):
    films = Copy().fit(TRAIN, context).sample(WANTED, context)
    assert np.array_equal(labels_of(films), WANTED)
    assert len({film.tobytes() for film in films}) == len(films)
    many = Copy().fit(TRAIN, context).sample(np.zeros(13, np.int64), context)
    assert max(np.unique([film.tobytes() for film in many], return_counts=True)[1]) == 3


def test_shuffle_never_returns_the_class_that_was_asked_for(context):
    found = labels_of(Shuffle().fit(TRAIN, context).sample(WANTED, context))
    assert (found >= 0).all()
    assert (found != WANTED).all()


def test_noise_knows_nothing_but_the_size(context):
    films = Noise().fit(TRAIN, context).sample(WANTED, context)
    assert films.shape == (18, 1, 32, 32)
    assert abs(films.mean() - 127.5) < 1
    other = Noise().fit(toy_films(32, seed=9), context).sample(WANTED, context)
    assert np.array_equal(films, other)


def test_oversample_draws_with_replacement_from_its_class(context):
    films = Oversample().fit(TRAIN, context).sample(WANTED, context)
    assert np.array_equal(labels_of(films), WANTED)
    assert len({film.tobytes() for film in films}) < len(films)


def test_oracle_returns_the_reserve_and_no_training_film(context):
    oracle, reserve = Oracle(), toy_films(32, per_class=6, seed=7)
    oracle.keep(reserve)
    films = oracle.fit(TRAIN, context).sample(WANTED, context)
    assert np.array_equal(labels_of(films, reserve), WANTED)
    assert (labels_of(films) == -1).all()


def test_oracle_without_a_reserve_of_every_class_says_so(context):
    with pytest.raises(UsageError, match="needs a reserve"):
        Oracle().fit(TRAIN, context)
    oracle = Oracle()
    oracle.keep(TRAIN.of_class(0))
    with pytest.raises(UsageError, match="needs a reserve"):
        oracle.fit(TRAIN, context)


def test_each_names_its_role():
    roles = {kind.control for kind in (Oracle, Copy, Shuffle, Noise, Oversample)}
    assert roles == {"oracle", "copy", "shuffle", "noise", "oversample"}
