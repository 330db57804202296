"""Splits share no patient and no near-copy."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from cxrbench.contracts import Film
from cxrbench.errors import DataError
from cxrbench.leakage import NO_PAIRS
from cxrbench.splits import Split, check_disjoint, deal_groups, resolve_policy, split_films

CLASSES = ("COVID", "Normal", "Viral Pneumonia")
FRACTIONS = (0.6, 0.2, 0.2)


def films_of_patients(per_class=60, most=3, seed=0):
    """Labels and groups of patients with 1 to ``most`` films each."""
    rng = np.random.default_rng(seed)
    films = rng.integers(1, most + 1, len(CLASSES) * per_class)
    patients = np.arange(len(films))
    return np.repeat(patients // per_class, films), np.repeat(patients, films)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(8, 40), st.integers(1, 5))
def test_every_film_stands_in_one_part_and_every_group_too(seed, per_class, most):
    labels, groups = films_of_patients(per_class, most, seed)
    parts = deal_groups(labels, groups, CLASSES, FRACTIONS, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    assert sum(len(np.unique(groups[rows])) for rows in parts) == len(np.unique(groups))


@pytest.mark.parametrize("label", range(3))
def test_each_class_is_dealt_out_sixty_twenty_twenty(label):
    labels, groups = films_of_patients()
    parts = deal_groups(labels, groups, CLASSES, FRACTIONS, seed=0)
    count = (labels == label).sum()
    for rows, fraction in zip(parts, FRACTIONS, strict=True):
        assert (labels[rows] == label).sum() / count == pytest.approx(fraction, abs=0.04)


def test_other_fractions_are_obeyed():
    labels, groups = films_of_patients()
    train, _, _ = deal_groups(labels, groups, CLASSES, (0.5, 0.25, 0.25), seed=0)
    assert len(train) / len(labels) == pytest.approx(0.5, abs=0.03)


def test_fractions_that_are_no_whole_folds_are_refused():
    labels, groups = films_of_patients()
    with pytest.raises(DataError, match="no multiples of 5 %"):
        deal_groups(labels, groups, CLASSES, (0.617, 0.193, 0.19), seed=0)


def test_an_empty_part_is_refused():
    labels, groups = films_of_patients()
    with pytest.raises(DataError, match="split fractions"):
        deal_groups(labels, groups, CLASSES, (0.8, 0.0, 0.2), seed=0)


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    labels, groups = films_of_patients()
    first, again, other = (deal_groups(labels, groups, CLASSES, FRACTIONS, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_class_of_few_patients_with_many_films_each_is_refused():
    labels = np.repeat([0, 1], 40)
    groups = np.where(labels == 0, np.arange(80), 100 + np.arange(80) % 4)
    with pytest.raises(DataError, match=r"class 'few' has 40 films of 4 distinct patients .* needs at least 5"):
        deal_groups(labels, groups, ("many", "few"), FRACTIONS, seed=0)


def test_a_class_without_films_is_refused():
    with pytest.raises(DataError, match="class 'absent' has 0 films"):
        deal_groups(np.repeat([0, 1], 20), np.arange(40), ("a", "b", "absent"), FRACTIONS, seed=0)


def test_groups_that_hold_two_classes_are_kept_whole():
    labels = np.tile([0, 1], 30)
    groups = np.repeat(np.arange(30), 2)
    parts = deal_groups(labels, groups, ("a", "b"), FRACTIONS, seed=0)
    assert sum(len(np.unique(groups[rows])) for rows in parts) == 30


def gate(*parts, groups=(7, 8, 9, 10), patients=(None,) * 4, digests="abcd", pairs=()):
    films = [Film(f"f{i}", 0, digests[i], patients[i]) for i in range(4)]
    split = Split(*(np.asarray(part, np.int64) for part in parts))
    check_disjoint(split, np.asarray(groups), films, np.asarray(pairs, np.int64).reshape(-1, 2))


@pytest.mark.parametrize(
    ("parts", "where"),
    [
        (([0, 1], [2], [3]), "train and val"),
        (([0, 3], [1], [2]), "train and test"),
        (([3], [0], [1, 2]), "val and test"),
    ],
)
def test_the_leakage_gate_names_the_parts_that_share_a_group(parts, where):
    with pytest.raises(DataError, match=f"leakage: 1 patients or duplicate clusters stand in {where}"):
        gate(*parts, groups=(7, 8, 7, 9))


@pytest.mark.parametrize(
    ("tie", "said"),
    [
        ({"patients": ("p", None, "p", None)}, "1 patient, 0 identical files and 0 near-copies"),
        ({"digests": "abad"}, "0 patients, 1 identical file and 0 near-copies"),
        ({"pairs": [[0, 2]]}, "0 patients, 0 identical files and 1 near-copy"),
    ],
)
def test_the_leakage_gate_sees_each_kind_though_the_groups_are_wrong(tie, said):
    gate([0, 2], [1], [3], **tie)
    for parts in (([0], [2], [1, 3]), ([0], [1, 3], [2]), ([1, 3], [2], [0])):
        with pytest.raises(DataError, match=f"leakage: .* share {said}") as complaint:
            gate(*parts, **tie)
        assert "'f0'" in str(complaint.value)
        assert "'f2'" in str(complaint.value)


def test_the_leakage_gate_lets_a_clean_split_pass():
    gate([0, 2], [1], [3], groups=(7, 8, 7, 9), patients=("p", "q", "p", None), digests="abad", pairs=[[0, 2]])


def films_with(facts, count=120):
    """Films of unknown patients, class after class; ``facts(i)`` says more of film i."""
    return [Film(f"f{i}", i % len(CLASSES), f"digest-{i}", **facts(i)) for i in range(count)]


def divide(films, policy="auto", pairs=NO_PAIRS, classes=CLASSES, seed=0):
    return split_films(policy, films, np.asarray(pairs, np.int64).reshape(-1, 2), classes, FRACTIONS, seed)[0]


def parts_by_origin(films):
    return {part: {i for i, film in enumerate(films) if film.split == part} for part in ("train", "val", "test")}


def official(i):
    return {"split": "test" if i % 12 < 3 else "val" if i % 12 < 6 else "train"}


def test_official_parts_are_taken_as_they_are_given():
    films = films_with(official)
    split = divide(films, "official")
    assert {part: set(rows) for part, rows in split.parts().items()} == parts_by_origin(films)
    assert (split.by, split.left_out, split.notes) == ("official", {}, ())


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (lambda i: {"split": "test" if i < 30 else "train"}, "is empty"),
        (lambda i: {"split": "test" if i < 30 else "val" if i < 33 else "train"}, "has 3 films to 87 for training"),
        (
            lambda i: {"split": "test" if i < 30 else "val" if i < 60 and i % 3 else "train"},
            "has no film of COVID",
        ),
    ],
)
def test_validation_films_are_taken_from_training_where_the_origin_has_too_few(facts, why):
    films = films_with(facts)
    split = divide(films, "official")
    given = parts_by_origin(films)
    assert set(split.test) == given["test"]
    assert set(split.train) | set(split.val) == given["train"] | given["val"]
    assert len(split.val) / len(films) == pytest.approx(90 / 120 / 4, abs=0.03)
    assert split.notes == (f"the official validation part {why}: validation films were taken from the training films",)


def test_carved_validation_films_share_nothing_with_training():
    films = films_with(lambda i: {"split": "test" if i < 30 else "train", "patient_id": f"p{i // 6}"})
    pairs = [[i, i + 6] for i in range(30, 54, 12)]
    split = divide(films, "official", pairs)
    in_val = np.isin(np.arange(len(films)), split.val)
    assert all(in_val[i] == in_val[j] for i, j in pairs)
    assert not {films[i].patient_id for i in split.train} & {films[i].patient_id for i in split.val}


def test_films_without_an_official_part_are_left_out_and_counted():
    films = films_with(lambda i: official(i) if i < 100 else {})
    split = divide(films, "official")
    assert split.left_out == {"the origin names no official part": 20}
    assert max(np.concatenate(list(split.parts().values()))) < 100


def test_a_film_that_is_left_out_ties_no_others():
    films = films_with(lambda i: official(i) if i < 119 else {})
    divide(films, "official", [[0, 119], [6, 119]])  # 0 is a test film, 6 a training film


@pytest.mark.parametrize(
    ("spoil", "pairs", "said"),
    [
        ({6: {"patient_id": "p"}, 0: {"patient_id": "p"}}, [], "train and test share 1 patient, 0 identical"),
        ({6: {"digest": "d"}, 0: {"digest": "d"}}, [], "train and test share 0 patients, 1 identical file and"),
        ({}, [[0, 6]], "train and test share 0 patients, 0 identical files and 1 near-copy"),
        ({}, [[3, 6]], "train and val share .* 1 near-copy"),
        ({}, [[0, 3], [1, 6]], "train and test share .* 1 near-copy .*; val and test share .* 1 near-copy"),
    ],
)
def test_official_parts_that_share_films_are_refused_with_the_way_out(spoil, pairs, said):
    films = [replace(film, **spoil.get(i, {})) for i, film in enumerate(films_with(official))]
    with pytest.raises(DataError, match=said) as complaint:
        divide(films, "official", pairs)
    assert "--split-by patient" in str(complaint.value)
    assert "(e.g. 'f" in str(complaint.value)
    divide(films, "patient", pairs)


def test_official_parts_need_training_and_test_films_of_every_class():
    with pytest.raises(DataError, match="no film is named as an official test film"):
        divide(films_with(lambda i: {"split": "train"}), "official")
    with pytest.raises(DataError, match="the test part has no film of Normal"):
        divide(films_with(lambda i: {"split": "train" if i % 3 == 1 else official(i)["split"]}), "official")


def test_auto_is_official_only_where_every_film_has_a_part():
    assert resolve_policy("auto", films_with(official)) == "official"
    assert resolve_policy("auto", films_with(lambda i: official(i) if i else {})) == "patient"
    assert resolve_policy("auto", films_with(lambda i: {})) == "patient"
    assert resolve_policy("auto", films_with(lambda i: {"split": "train"})) == "patient"
    assert resolve_policy("source", films_with(official)) == "source"
    assert divide(films_with(official)).by == "official"
    assert divide(films_with(lambda i: {})).by == "patient"


def hospital(i):
    return {"source": "abc"[(i // 3) % 3 if i < 90 else 0], "patient_id": f"p{i}"}


def test_whole_sources_are_tested_on():
    films = films_with(hospital)
    split = divide(films, "source")
    sources = {part: {films[i].source for i in rows} for part, rows in split.parts().items()}
    assert sources["test"] in ({"b"}, {"c"})
    assert sources["train"] == sources["val"] == set("abc") - sources["test"]
    assert sum(map(len, split.parts().values())) == len(films)
    assert split.notes == (
        f"sources tested on: {next(iter(sources['test']))}",
        f"sources trained on: {', '.join(sorted(sources['train']))}",
    )


def test_films_of_unknown_sources_and_films_tied_to_the_test_are_left_out_and_counted():
    films = films_with(lambda i: {**hospital(i), "source": None} if i >= 110 else hospital(i))
    tested = set(divide(films, "source").test)
    here, there = min(tested), min(set(range(90)) - tested)
    split = divide(films, "source", [[min(here, there), max(here, there)]])
    assert set(split.test) == tested
    assert there not in {*split.train, *split.val}
    assert split.left_out == {
        "the source is unknown": 10,
        "shares a patient or a near-copy with a test film of another source": 1,
    }


def test_a_class_of_one_source_cannot_be_tested_on_another():
    films = films_with(lambda i: {"source": "here" if i % 3 == 2 else "ab"[i % 2]})
    with pytest.raises(DataError, match="class 'Viral Pneumonia' comes only from source 'here'"):
        divide(films, "source")


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["patient", "official", "source"]),
    st.integers(0, 2**32 - 1),
    st.integers(0, 12),
)
def test_every_policy_divides_all_films_once_and_shares_nothing(policy, seed, ties):
    """Disjoint, complete, deterministic, whatever ties there are; or refused."""
    rng = np.random.default_rng(seed)
    count = 150
    films = [
        Film(
            f"f{i}",
            int(rng.integers(3)),
            f"digest-{rng.integers(count * 5) if ties else i}",
            patient_id=f"p{rng.integers(2 * count)}" if ties and rng.random() < 0.5 else None,
            source=str(rng.choice(["a", "b", "c", "d", ""], p=[0.4, 0.2, 0.2, 0.15, 0.05])) or None,
            split=str(rng.choice(["train", "val", "test", ""], p=[0.6, 0.1, 0.25, 0.05])) or None,
        )
        for i in range(count)
    ]
    pairs = np.sort(rng.integers(count, size=(ties, 2)), axis=1)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    try:
        split = divide(films, policy, pairs)
    except DataError as refusal:
        if "leakage in the official split" not in str(refusal):
            raise
        reject()
    rows = np.concatenate(list(split.parts().values()))
    assert len(np.unique(rows)) == len(rows)
    assert len(rows) + sum(split.left_out.values()) == count
    part = np.full(count, -1)
    for number, chosen in enumerate(split.parts().values()):
        part[chosen] = number
    both = (part >= 0)[:, None] & (part >= 0)[None] & (part[:, None] != part[None])
    for i, j in np.argwhere(both):
        assert films[i].digest != films[j].digest
        assert films[i].patient_id is None or films[i].patient_id != films[j].patient_id
    assert not any(both[i, j] for i, j in pairs)
    again = divide(films, policy, pairs)
    assert all(np.array_equal(a, b) for a, b in zip(split.parts().values(), again.parts().values(), strict=True))
