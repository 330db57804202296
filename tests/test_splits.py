"""Splits share no patient and no near-copy."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.fft import idctn

from cxrbench.datasets.phantom import Phantom
from cxrbench.errors import DataError
from cxrbench.splits import (
    CANDIDATE_BITS,
    COPY_CORRELATION,
    Split,
    check_disjoint,
    film_groups,
    near_copies,
    perceptual_hashes,
    split_films,
)

CLASSES = ("COVID", "Normal", "Viral Pneumonia")
FRACTIONS = (0.6, 0.2, 0.2)
NO_PAIRS = np.empty((0, 2), np.int64)


def films_of_patients(per_class=60, most=3, seed=0):
    """Labels and groups of patients with 1 to ``most`` films each."""
    rng = np.random.default_rng(seed)
    films = rng.integers(1, most + 1, len(CLASSES) * per_class)
    patients = np.arange(len(films))
    return np.repeat(patients // per_class, films), np.repeat(patients, films)


def parts_of(split):
    return {"train": split.train, "val": split.val, "test": split.test}


def all_equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(parts_of(one).values(), parts_of(other).values(), strict=True))


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(8, 40), st.integers(1, 5))
def test_every_film_stands_in_one_part_and_every_group_too(seed, per_class, most):
    labels, groups = films_of_patients(per_class, most, seed)
    parts = parts_of(split_films(labels, groups, CLASSES, FRACTIONS, seed))
    np.testing.assert_array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(len(labels)))
    assert sum(len(np.unique(groups[rows])) for rows in parts.values()) == len(np.unique(groups))


@pytest.mark.parametrize("label", range(3))
def test_each_class_is_dealt_out_sixty_twenty_twenty(label):
    labels, groups = films_of_patients()
    split = split_films(labels, groups, CLASSES, FRACTIONS, seed=0)
    count = (labels == label).sum()
    for rows, fraction in zip(parts_of(split).values(), FRACTIONS, strict=True):
        assert (labels[rows] == label).sum() / count == pytest.approx(fraction, abs=0.04)


def test_other_fractions_are_obeyed():
    labels, groups = films_of_patients()
    split = split_films(labels, groups, CLASSES, (0.5, 0.25, 0.25), seed=0)
    assert len(split.train) / len(labels) == pytest.approx(0.5, abs=0.03)


def test_fractions_that_are_no_whole_folds_are_refused():
    labels, groups = films_of_patients()
    with pytest.raises(DataError, match="no multiples of 5 %"):
        split_films(labels, groups, CLASSES, (0.617, 0.193, 0.19), seed=0)


def test_an_empty_part_is_refused():
    labels, groups = films_of_patients()
    with pytest.raises(DataError, match="split fractions"):
        split_films(labels, groups, CLASSES, (0.8, 0.0, 0.2), seed=0)


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    labels, groups = films_of_patients()
    first, again, other = (split_films(labels, groups, CLASSES, FRACTIONS, seed) for seed in (3, 3, 4))
    assert all_equal(first, again)
    assert not all_equal(first, other)


def test_a_class_of_few_patients_with_many_films_each_is_refused():
    labels = np.repeat([0, 1], 40)
    groups = np.where(labels == 0, np.arange(80), 100 + np.arange(80) % 4)
    with pytest.raises(DataError, match=r"class 'few' has 40 films of 4 distinct patients .* needs at least 5"):
        split_films(labels, groups, ("many", "few"), FRACTIONS, seed=0)


def test_a_class_without_films_is_refused():
    with pytest.raises(DataError, match="class 'absent' has 0 films"):
        split_films(np.repeat([0, 1], 20), np.arange(40), ("a", "b", "absent"), FRACTIONS, seed=0)


def test_groups_that_hold_two_classes_are_kept_whole():
    labels = np.tile([0, 1], 30)
    groups = np.repeat(np.arange(30), 2)
    check_disjoint(split_films(labels, groups, ("a", "b"), FRACTIONS, seed=0), groups)


@pytest.mark.parametrize(
    ("split", "where"),
    [
        (Split(np.array([0, 1]), np.array([2]), np.array([3])), "train and val"),
        (Split(np.array([0, 3]), np.array([1]), np.array([2])), "train and test"),
        (Split(np.array([3]), np.array([0]), np.array([1, 2])), "val and test"),
    ],
)
def test_the_leakage_gate_names_the_parts_that_share_a_group(split, where):
    groups = np.array([7, 8, 7, 9])
    with pytest.raises(DataError, match=f"leakage: 1 patients or duplicate clusters stand in {where}"):
        check_disjoint(split, groups)


def test_the_leakage_gate_lets_a_clean_split_pass():
    check_disjoint(Split(np.array([0, 2]), np.array([1]), np.array([3])), np.array([7, 8, 7, 9]))


def test_films_of_one_patient_share_a_group():
    groups = film_groups(["p", "q", "p", None, None], NO_PAIRS)
    assert groups[0] == groups[2]
    assert len(set(groups)) == 4


def test_unknown_patients_are_not_taken_for_one_patient():
    assert len(set(film_groups([None, None, "", ""], NO_PAIRS))) == 4


def test_groups_join_transitively_through_patients_and_copies():
    groups = film_groups(["p", "p", None, "q", "q", "r"], np.array([[1, 2], [2, 3]]))
    assert len(set(groups[:5])) == 1
    assert groups[5] != groups[0]


@given(
    st.lists(st.sampled_from([None, "a", "b", "c", "d"]), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=8),
)
def test_groups_are_the_connected_films(patients, drawn):
    pairs = [(i, j) for i, j in drawn if i < len(patients) and j < len(patients)]
    groups = film_groups(patients, np.asarray(pairs, np.int64).reshape(-1, 2))

    expected = list(range(len(patients)))
    links = pairs + [(i, j) for i, p in enumerate(patients) for j, q in enumerate(patients) if p and p == q]
    for _ in patients:
        for i, j in links:
            expected[i] = expected[j] = min(expected[i], expected[j])
    assert [list(groups).index(g) for g in groups] == [expected.index(e) for e in expected]


SIDE = 128


@pytest.fixture(scope="module")
def originals():
    """One 128-pixel film of each of 60 patients."""
    phantom = Phantom(patients_per_class=20, max_films=1)
    return [Image.fromarray(phantom.read(film, SIDE)) for film in phantom.films()]


def thumbnails(films):
    return np.stack([np.asarray(film.resize((32, 32), Image.Resampling.BICUBIC)) for film in films])


def recompressed(film):
    buffer = io.BytesIO()
    film.save(buffer, "JPEG", quality=40)
    return Image.open(buffer)


def relit(factor, offset):
    return lambda film: film.point(lambda grey: grey * factor + offset)


COPIES = {
    "same file": lambda film: film,
    "recompressed": recompressed,
    "brighter": relit(0.8, 40),
    "darker": relit(0.7, 0),
    "rescaled": lambda film: film.resize((90, 90)).resize((200, 200)),
    "cropped by a pixel all round": lambda film: film.crop((1, 1, SIDE - 1, SIDE - 1)),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_changed_copies_of_a_film_are_found(originals, change):
    count = len(originals)
    pairs = near_copies(thumbnails([*originals, *map(change, originals)]))
    found = set(map(tuple, pairs.tolist()))
    assert sum((i, i + count) in found for i in range(count)) >= 0.95 * count


def test_films_of_different_patients_are_mostly_no_copies(originals):
    possible = len(originals) * (len(originals) - 1) / 2
    assert len(near_copies(thumbnails(originals))) <= 0.001 * possible


def test_films_that_agree_only_in_their_coarse_shape_are_no_copies():
    rng = np.random.default_rng(0)
    spectrum = np.zeros((6, 32, 32))
    spectrum[:, :9, :9] = rng.normal(0, 30, (9, 9))
    spectrum[:, :3, :3] *= 25
    spectrum[:, 10:, 10:] = rng.normal(0, 6, (6, 22, 22))
    films = np.clip(128 + idctn(spectrum, axes=(1, 2), norm="ortho"), 0, 255).astype(np.uint8)
    hashes = perceptual_hashes(films)
    assert np.bitwise_count(hashes[:, None] ^ hashes).max() <= CANDIDATE_BITS
    assert np.corrcoef(films.reshape(6, -1)).min() > COPY_CORRELATION
    assert len(near_copies(films)) == 0


def test_a_mirrored_film_is_no_copy(originals):
    mirrored = [film.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for film in originals]
    pairs = near_copies(thumbnails([*originals, *mirrored]))
    assert not any(j - i == len(originals) for i, j in pairs)


@pytest.mark.parametrize("block", [1, 7, 50, 1024])
def test_pairs_do_not_depend_on_the_block_size(originals, block):
    films = thumbnails(originals[:20] * 2 + originals[:5])
    pairs = near_copies(films, block=block)
    assert np.all(pairs[:, 0] < pairs[:, 1])
    assert sorted(pairs.tolist()) == sorted(near_copies(films).tolist())
    assert len(pairs) >= 20 + 2 * 5


def test_a_single_film_has_no_copies(originals):
    assert near_copies(thumbnails(originals[:1])).shape == (0, 2)


def test_the_perceptual_hash_ignores_brightness_but_not_the_picture(originals):
    one, brighter, other = perceptual_hashes(thumbnails([originals[0], relit(0.8, 20)(originals[0]), originals[1]]))
    assert np.bitwise_count(one ^ brighter) <= 2
    assert np.bitwise_count(one ^ other) > 2
