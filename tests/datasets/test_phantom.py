"""The phantom's truth: what its parameters promise is in the pixels."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrbench.datasets.phantom import CLASSES, HOSPITALS, Phantom, draw_film
from cxrbench.errors import UsageError

NORMAL = CLASSES.index("Normal")


def films_of(phantom, size):
    return np.stack([phantom.read(film, size) for film in phantom.listing().films]).astype(float)


def draw(label, patient, class_signal, size=32, hospital=0):
    return draw_film(
        label=label,
        hospital=hospital,
        anatomy=np.random.default_rng([patient, 1]),
        pose=np.random.default_rng([patient, 2]),
        disease=np.random.default_rng([patient, 3]),
        size=size,
        class_signal=class_signal,
    )


def accuracy_on_unseen_patients(phantom):
    """Of the nearest class mean, learned from every other film."""
    pixels = films_of(phantom, 16).reshape(-1, 256)
    labels = np.array([film.label for film in phantom.listing().films])
    learn = np.arange(len(labels)) % 2 == 0
    means = np.stack([pixels[learn & (labels == label)].mean(axis=0) for label in range(len(CLASSES))])
    distances = np.linalg.norm(pixels[~learn, None] - means, axis=2)
    return (distances.argmin(axis=1) == labels[~learn]).mean()


@pytest.fixture(scope="module")
def normals():
    """A 64-pixel film of each of 60 healthy patients."""
    phantom = Phantom(patients_per_class=60, max_films=1)
    return np.stack([phantom.read(film, 64) for film in phantom.listing().films if film.label == NORMAL]).astype(float)


def test_the_same_seed_draws_the_same_films():
    one, other = Phantom(patients_per_class=4), Phantom(patients_per_class=4)
    assert one.listing().films == other.listing().films
    np.testing.assert_array_equal(films_of(one, 32), films_of(other, 32))


def test_another_seed_draws_other_films():
    one, other = Phantom(patients_per_class=3, max_films=1), Phantom(patients_per_class=3, max_films=1, seed=1)
    assert not set(f.digest for f in one.listing().films) & set(f.digest for f in other.listing().films)
    assert all(not np.array_equal(a, b) for a, b in zip(films_of(one, 32), films_of(other, 32), strict=True))


@settings(deadline=None, max_examples=10)
@given(st.integers(8, 100))
def test_films_have_the_size_that_was_asked_for(size):
    phantom = Phantom(patients_per_class=1, max_films=1)
    film = phantom.read(phantom.listing().films[0], size)
    assert film.shape == (size, size)
    assert film.dtype == np.uint8
    assert film.min() < 60
    assert film.max() > 180


@pytest.mark.parametrize("label", range(3))
def test_a_film_shows_the_same_picture_at_every_size(label):
    small = draw(label, 5, 1.0, size=32).astype(float)
    large = draw(label, 5, 1.0, size=64).reshape(32, 2, 32, 2).mean(axis=(1, 3))
    assert np.abs(small - large).mean() < 6


def test_patients_have_one_to_max_films_films():
    films = Phantom(patients_per_class=60, max_films=4).listing().films
    counts = Counter(film.patient_id for film in films)
    assert len(counts) == 3 * 60
    assert set(counts.values()) == {1, 2, 3, 4}


def test_a_patient_has_one_class_and_one_hospital():
    facts = {(film.patient_id, film.label, film.source) for film in Phantom(patients_per_class=60).listing().films}
    assert len(facts) == len({patient for patient, _, _ in facts})


def test_every_film_has_its_own_name_and_digest():
    films = Phantom(patients_per_class=20).listing().films
    assert len({film.file for film in films}) == len({film.digest for film in films}) == len(films)


def test_more_patients_leave_the_films_of_the_first_ones_as_they_were():
    few = {film.file: film for film in Phantom(patients_per_class=3).listing().films}
    many = {film.file: film for film in Phantom(patients_per_class=6).listing().films}
    assert few.items() < many.items()


def test_films_of_one_patient_differ_less_than_those_of_strangers():
    phantom = Phantom(patients_per_class=30, max_films=2, class_signal=0.0)
    films = phantom.listing().films
    pixels = films_of(phantom, 32)
    pixels -= pixels.mean(axis=(1, 2), keepdims=True)
    neighbours = [(i, films[i].patient_id == films[i + 1].patient_id) for i in range(len(films) - 1)]
    of_one, of_two = (
        np.mean([np.abs(pixels[i] - pixels[i + 1]).mean() for i, same in neighbours if same is wanted])
        for wanted in (True, False)
    )
    assert 0 < of_one < 0.85 * of_two


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"class_signal": 0.5}, {"shortcut": 0.5}], ids=lambda change: next(iter(change))
)
def test_digests_follow_the_parameters_that_decide_the_pixels(change):
    phantom = Phantom(patients_per_class=2, max_films=1)
    assert phantom.listing().films[0].digest != replace(phantom, **change).listing().films[0].digest


@pytest.mark.parametrize("patient", range(5))
def test_healthy_films_do_not_depend_on_the_class_signal(patient):
    np.testing.assert_array_equal(draw(NORMAL, patient, 0.0), draw(NORMAL, patient, 1.0))


@pytest.mark.parametrize("label", [label for label in range(3) if label != NORMAL])
def test_disease_whitens_the_lungs_and_more_so_with_more_signal(label):
    none, mild, strong = (np.stack([draw(label, k, s) for k in range(8)]).astype(float) for s in (0.0, 1.0, 2.0))
    lungs = np.s_[:, 10:20, 6:26]
    assert none[lungs].mean() + 1 < mild[lungs].mean() < strong[lungs].mean() - 1


@pytest.mark.parametrize("label", [label for label in range(3) if label != NORMAL])
def test_without_class_signal_the_label_leaves_no_trace(label):
    for patient in range(5):
        np.testing.assert_array_equal(draw(label, patient, 0.0), draw(NORMAL, patient, 0.0))
        assert not np.array_equal(draw(label, patient, 1.0), draw(NORMAL, patient, 1.0))


def test_classes_can_be_told_apart_only_with_class_signal():
    phantom = Phantom(patients_per_class=100, max_films=1)
    assert accuracy_on_unseen_patients(replace(phantom, class_signal=0.0)) < 0.45
    assert accuracy_on_unseen_patients(replace(phantom, class_signal=2.0)) > 0.55


def test_the_heart_lies_right_of_the_middle(normals):
    lower = normals[:, 36:44]
    right, left = lower[:, :, 34:46].mean(axis=(1, 2)), lower[:, :, 18:30].mean(axis=(1, 2))
    assert np.all(right > left + 5)
    assert (right - left).mean() > 30


def test_the_upper_chest_is_about_symmetric_so_the_asymmetry_below_is_the_heart(normals):
    upper = normals.mean(axis=0)[16:24]
    assert abs(upper[:, 34:46].mean() - upper[:, 18:30].mean()) < 8


def test_lungs_are_darker_than_the_mediastinum_between_them(normals):
    band = normals[:, 24:36]
    middle = band[:, :, 29:35].mean(axis=(1, 2))
    for lung in (band[:, :, 14:22], band[:, :, 42:50]):
        assert np.all(lung.mean(axis=(1, 2)) < 0.6 * middle)


def hospitals_by_class(shortcut):
    table = np.zeros((len(CLASSES), len(HOSPITALS)))
    for film in Phantom(patients_per_class=200, max_films=1, shortcut=shortcut).listing().films:
        table[film.label, HOSPITALS.index(film.source)] += 1 / 200
    return table


def test_a_full_shortcut_gives_every_class_its_own_hospital():
    np.testing.assert_allclose(hospitals_by_class(1.0), np.eye(3))


def test_without_a_shortcut_the_hospital_says_nothing_of_the_class():
    np.testing.assert_allclose(hospitals_by_class(0.0), np.full((3, 3), 1 / 3), atol=0.1)


def test_half_a_shortcut_lies_between():
    np.testing.assert_allclose(np.diag(hospitals_by_class(0.5)), 2 / 3, atol=0.1)


@pytest.mark.parametrize("hospital", range(len(HOSPITALS)))
def test_every_hospital_puts_its_marker_in_its_own_corner(hospital):
    film = draw(NORMAL, 3, 1.0, size=64, hospital=hospital)
    corners = [film[4:8, 3:5], film[4:6, 58:61], film[56:57, 3:7]]
    assert [corner.min() > 200 for corner in corners] == [place == hospital for place in range(len(HOSPITALS))]


@pytest.mark.parametrize(
    "bad",
    [
        {"shortcut": -0.1},
        {"shortcut": 1.1},
        {"shortcut": float("nan")},
        {"class_signal": -1.0},
        {"patients_per_class": 0},
        {"max_films": 0},
    ],
    ids=str,
)
def test_parameters_out_of_range_are_usage_errors(bad):
    with pytest.raises(UsageError, match=f"phantom: .*{next(iter(bad))}"):
        Phantom(**bad).listing()
