"""Fits and pools: made once, nested, known by their content, and refused where they are no films."""

from dataclasses import replace

import numpy as np
import pytest

from cxrbench.cache import Cache
from cxrbench.contracts import RunContext
from cxrbench.datasets.phantom import Phantom
from cxrbench.spec import spec_of_tier
from cxrbench.stages import index_data, load_and_split
from cxrbench.synthesis import fit_generator, synthesise
from cxrbench_baselines.generators.classical import Classical
from cxrbench_baselines.generators.controls import Oracle

SPEC = spec_of_tier("smoke")


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def index():
    return index_data("phantom", Phantom(patients_per_class=12))


@pytest.fixture
def context(tmp_path):
    return RunContext(0, "cpu", 2, tmp_path)


def test_a_longer_pool_begins_with_the_shorter_one(index, cache, context):
    data = load_and_split(index, SPEC, 0, cache)
    generator, _ = fit_generator(Classical(), "key", data, 1.0, context, cache)
    short = synthesise(generator, "key", data, {0: 5, 1: 70, 2: 5}, context, cache)
    long = synthesise(generator, "key", data, {0: 150, 1: 150, 2: 150}, context, cache)
    counts = {0: 5, 1: 70, 2: 5}
    assert np.array_equal(short.images.pixels, long.prefix(counts).pixels)
    assert np.array_equal(short.images.labels, long.prefix(counts).labels)


def test_an_equal_fit_is_loaded_not_trained(index, cache, context, monkeypatch):
    data = load_and_split(index, SPEC, 0, cache)
    fit_generator(Classical(), "key", data, 1.0, context, cache)
    monkeypatch.setattr(Classical, "fit", lambda *args: pytest.fail("fitted again"))
    fit_generator(Classical(), "key", data, 1.0, context, Cache(cache.root))


def test_a_pool_is_known_by_the_weights_it_comes_from(index, cache, context):
    data = load_and_split(index, SPEC, 0, cache)
    _, first = fit_generator(Classical(), "key", data, 1.0, context, cache)
    assert fit_generator(Classical(), "key", data, 1.0, context, cache)[1] == first
    cache.drop("fit", "key")
    changed = data.images.pixels.copy()
    changed[data.split.train[0]] = 0
    other = replace(data, images=replace(data.images, pixels=changed))
    assert fit_generator(Classical(), "key", other, 1.0, context, cache)[1] != first


def test_a_generator_that_returns_floats_is_refused(index, cache, context):
    data = load_and_split(index, SPEC, 0, cache)
    generator, _ = fit_generator(Classical(), "key", data, 1.0, context, cache)
    generator.sample = lambda labels, ctx: np.zeros((len(labels), 1, 32, 32))
    with pytest.raises(ValueError, match="sample must return uint8"):
        synthesise(generator, "other", data, {0: 4}, context, cache)


def test_blank_films_are_refused_by_class(index, cache, context):
    data = load_and_split(index, SPEC, 0, cache)
    generator, _ = fit_generator(Classical(), "key", data, 1.0, context, cache)
    generator.sample = lambda labels, ctx: np.full((len(labels), 1, 32, 32), 7, np.uint8)
    with pytest.raises(ValueError, match="64 of 64 films sampled for class 'COVID' are blank"):
        synthesise(generator, "other", data, {0: 4}, context, cache)
    assert not list((cache.root / "pool").rglob("pixels.npy"))


def test_a_reserved_generator_gets_the_other_training_films_and_no_test_film(index, cache, context):
    data = load_and_split(index, SPEC, 0, cache)
    generator, _ = fit_generator(Oracle(), "oracle", data, 1 / 3, context, cache)
    pool = synthesise(generator, "pool", data, {0: 40, 1: 40, 2: 40}, context, cache)
    train, reserve = data.train_and_reserve(1 / 3)

    def shown(films):
        return {film.tobytes() for film in films.pixels}

    assert shown(pool.images) <= shown(reserve)
    assert not shown(pool.images) & (shown(train) | shown(data.held_out))
