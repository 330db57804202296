"""Films against real films: the right rows are compared, floors are real against real, copies are told."""

from dataclasses import replace

import numpy as np
import pytest

from cxrbench.cache import Cache
from cxrbench.comparison import (
    MemorizationTest,
    choose_real_sets,
    measure_pool_fidelity,
    measure_real_floor,
)
from cxrbench.contracts import Images
from cxrbench.datasets.phantom import Phantom
from cxrbench.spec import spec_of_tier
from cxrbench.stages import index_data, load_and_split

SPEC = spec_of_tier("smoke").model_copy(update={"fidelity_images": 24, "floor_halves": 10})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    index = index_data("phantom", Phantom(patients_per_class=90, max_films=2, class_signal=4, shortcut=1))
    return load_and_split(index, SPEC, 0, Cache(tmp_path_factory.mktemp("cache")))


def coarse(films):
    """A stand-in for an extractor: a film in 4 x 4 squares."""
    squares = films.pixels.reshape(len(films), 4, 8, 4, 8).mean(axis=(2, 4))
    return {"coarse": squares.reshape(len(films), 16).astype(np.float32)}


@pytest.fixture(scope="module")
def sets(data):
    return choose_real_sets(data, SPEC)


def measured(films, sets):
    return measure_pool_fidelity(films, sets, coarse, SPEC)


def rows_of(part, data):
    return {film.tobytes() for film in data.images.pixels[part]}


def test_the_reference_is_trained_on_and_the_held_out_films_are_not(data, sets):
    assert set(sets.n.values()) == {24}
    shown = {film.tobytes() for film in sets.reference.pixels}
    assert shown <= rows_of(data.split.train, data)
    assert shown <= rows_of(data.train_rows(SPEC.few_share), data)  # so the oracle's films are others
    assert not {film.tobytes() for film in sets.held_out.pixels} & rows_of(data.split.train, data)
    assert len(sets.bank) == 3 * len(sets.reference)


def test_real_films_score_as_the_floor_and_noise_does_not(sets):
    floor = measure_real_floor(sets, coarse, SPEC)
    real = measured(sets.held_out, sets)
    noise_films = np.random.default_rng(0).integers(0, 256, sets.held_out.pixels.shape, dtype=np.uint8)
    noise = measured(replace(sets.held_out, pixels=noise_films), sets)
    for who in ("all", *sets.reference.classes):
        assert real[f"coarse/{who}/fid"] < 2 * floor[f"coarse/{who}/fid_floor"]
        assert noise[f"coarse/{who}/fid"] > 5 * floor[f"coarse/{who}/fid_floor"]
        assert noise[f"coarse/{who}/coverage"] < real[f"coarse/{who}/coverage"]
        assert real[f"coarse/{who}/fid_low"] < real[f"coarse/{who}/fid"] < real[f"coarse/{who}/fid_high"]


def test_wrong_labels_show_in_the_label_agreement_and_not_in_the_distance_over_all(sets):
    turned = replace(sets.held_out, labels=(sets.held_out.labels + 1) % 3)
    order = np.argsort(turned.labels, kind="stable")
    wrong, right = measured(turned.subset(order), sets), measured(sets.held_out, sets)
    assert wrong["coarse/all/label_agreement"] < 0.5 * right["coarse/all/label_agreement"]
    assert wrong["coarse/all/fid"] == pytest.approx(right["coarse/all/fid"], rel=1e-6)


def test_halves_of_the_floor_share_no_patient(data, sets, monkeypatch):
    seen = []

    def spy(labels, groups, films, rng):
        one, other = halves(labels, groups, films, rng)
        seen.append((set(groups[one]), set(groups[other]), len(one), len(other)))
        return one, other

    from cxrbench.metrics import fidelity

    halves = fidelity._halves
    monkeypatch.setattr(fidelity, "_halves", spy)
    measure_real_floor(sets, coarse, SPEC)
    assert seen
    for one, other, size, other_size in seen:
        assert not one & other
        assert size == other_size > 0


def test_copies_of_training_films_are_told_and_new_films_are_not(data):
    test = MemorizationTest(data.train, data.val, data.held_out)
    copies = test.measure(data.train)
    new = test.measure(data.held_out)
    assert copies["all/copies"] == 1
    assert copies["all/nn_ratio"] == 0
    assert copies["all/authpct"] == 0
    assert new["all/copies"] < 0.05
    assert new["all/nn_ratio"] == pytest.approx(1)
    assert new["all/authpct"] == new["all/authpct_expected"]
    assert test.near_copies(data.train.pixels[:5]).all()


def test_films_sewn_from_training_films_of_their_class_are_told_class_by_class(data):
    """Class 0 is sewn together from four training films each, class 1 mirrored ones, class 2 is new."""
    test, rng = MemorizationTest(data.train, data.val, data.held_out), np.random.default_rng(0)
    films = data.held_out.pixels.copy()
    for row in np.flatnonzero(data.held_out.labels < 2):
        label = data.held_out.labels[row]
        real = data.train.of_class(int(label)).pixels[..., :: -1 if label else 1]
        for y, x in ((0, 0), (0, 16), (16, 0), (16, 16)):
            films[row, :, y : y + 16, x : x + 16] = real[rng.integers(len(real)), :, y : y + 16, x : x + 16]
    scores = test.measure(replace(data.held_out, pixels=films))
    shares = [scores[f"{name}/copied_parts"] for name in data.images.classes]
    assert min(shares[:2]) > 0.9
    assert shares[2] < 0.1
    assert test.measure(data.train)["all/copied_parts"] == 1
    assert test.measure(data.held_out)["all/copied_parts"] < 0.05


def test_copies_of_held_out_films_are_told_from_copies_of_training_films(data):
    test = MemorizationTest(data.train, data.val, data.held_out)
    leaked, trained = test.measure(data.test), test.measure(data.train)
    assert leaked["all/held_out_copies"] == 1
    assert trained["all/held_out_copies"] == trained["all/held_out_copies_expected"] < 0.1


def test_the_most_suspicious_film_is_shown_beside_the_film_it_copies(data):
    fresh = np.random.default_rng(0).integers(0, 256, (4, 1, 32, 32), dtype=np.uint8)
    pixels = np.concatenate([fresh, data.train.pixels[7:8]])
    pairs = MemorizationTest(data.train, data.val, data.held_out).suspicious_pairs(
        Images(pixels, np.zeros(5, np.int64), data.images.classes)
    )
    assert pairs.shape[1:] == (2, 1, 32, 32)
    assert np.array_equal(pairs[0, 0], pairs[0, 1])
    assert np.array_equal(pairs[0, 1], data.train.pixels[7])
