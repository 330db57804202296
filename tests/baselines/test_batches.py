"""What a step sees depends on (seed, step) only."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.checks import toy_films
from cxrbench.errors import UsageError
from cxrbench_baselines.batches import FilmBatches, to_pixels, to_signed


def test_every_film_is_seen_once_before_any_is_seen_again():
    films = toy_films(8, per_class=5)
    batches = FilmBatches(films, 4, "cpu", seed=3)
    seen = torch.cat([batches.at(step)[0] for step in range(15)])[: 4 * 15]
    one_epoch = {film.numpy().tobytes() for film in seen[:15]}
    assert len(one_epoch) == 15


def test_a_batch_larger_than_the_films_is_still_full():
    batches = FilmBatches(toy_films(8, per_class=2), 32, "cpu", seed=0)
    assert [len(batches.at(step)[1]) for step in range(3)] == [32, 32, 32]


def test_a_batch_depends_on_seed_and_step_alone():
    films = toy_films(8)
    one, other = (FilmBatches(films, 4, "cpu", seed=1) for _ in range(2))
    one.at(0)
    assert torch.equal(one.at(7)[0], other.at(7)[0])
    assert not torch.equal(one.at(7)[0], FilmBatches(films, 4, "cpu", seed=2).at(7)[0])


def test_balanced_batches_draw_rare_classes_as_often():
    films = toy_films(8, per_class=40)
    rare = films.subset(np.flatnonzero((films.labels != 2) | (np.arange(len(films)) < 6)))
    batches = FilmBatches(rare, 300, "cpu", seed=0, balanced=True)
    counts = np.bincount(batches.at(0)[1].numpy(), minlength=3)
    assert counts.min() > 70


def test_no_films_is_an_error_not_a_hang():
    with pytest.raises(UsageError, match="no training films"):
        FilmBatches(toy_films(8).subset(np.empty(0, np.int64)), 4, "cpu", 0)


@given(st.binary(min_size=1, max_size=64))
def test_pixels_survive_the_round_trip_to_the_nets_range(content):
    pixels = torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(1, 1, 1, -1)
    signed = to_signed(pixels)
    assert signed.min() >= -1
    assert signed.max() <= 1
    assert np.array_equal(to_pixels(signed), pixels.numpy())
