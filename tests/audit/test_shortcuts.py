"""The shortcut audit finds the hospital where it gives the class away, and nothing where there is nothing."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cxrbench.audit import shortcuts
from cxrbench.audit.shortcuts import audit_shortcuts, draw_probes, rank_aurocs
from cxrbench.datasets.phantom import Phantom

CLASSES = ("COVID", "Normal", "Viral Pneumonia")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Fewer fits of fewer trees: they take nearly all of these tests' time."""
    monkeypatch.setattr(shortcuts, "MOST_FOLDS", 3)
    monkeypatch.setattr(shortcuts, "TREES", 12)


@cache
def phantom(shortcut, class_signal=1.0, patients=50):
    data = Phantom(patients, shortcut=shortcut, class_signal=class_signal)
    films = data.listing().films
    pixels = np.stack([data.read(film, 64) for film in films])[:, None]
    groups = np.unique([film.patient_id for film in films], return_inverse=True)[1]
    return pixels, np.asarray([film.label for film in films]), groups, [film.source for film in films]


@cache
def probes_of(shortcut, class_signal=1.0, patients=50):
    pixels, labels, groups, sources = phantom(shortcut, class_signal, patients)
    features = pixels[:, 0, ::2, ::2].reshape(len(pixels), -1).astype(np.float32)
    return {p.name: p for p in audit_shortcuts(pixels, labels, CLASSES, groups, sources, features)}


def grey_films(count, size=32, seed=0):
    return np.random.default_rng(seed).integers(90, 110, (count, 1, size, size), dtype=np.uint8)


def audit(films, labels, groups=None, sources=None, features=None, classes=("a", "b"), seed=0):
    groups = np.arange(len(films)) if groups is None else groups
    sources = [None] * len(films) if sources is None else sources
    found = audit_shortcuts(films, np.asarray(labels, np.int64), classes, groups, sources, features, seed)
    return {probe.name: probe for probe in found}


def test_the_border_gives_away_as_much_as_the_shortcut_does():
    found = [probes_of(shortcut)["border"] for shortcut in (0.0, 0.5, 1.0)]
    assert found[0].auroc == pytest.approx(0.5, abs=0.08)
    assert found[0].verdict.startswith("no sign that the border alone tells the classes apart")
    assert all(b.auroc > a.auroc + 0.05 for a, b in pairwise(found))
    assert "part of any reported score may be the hospital" in found[1].verdict
    assert found[2].low > 0.95
    assert "most of the task can be solved with the lungs blacked out" in found[2].verdict


def test_disease_does_not_reach_the_border():
    ill, well = (shortcuts._looks(phantom(0.0, signal)[0]) for signal in (1.0, 0.0))
    assert np.abs(ill["border"] - well["border"]).max() < 1.0  # of 255 grey levels
    assert np.abs(ill["blur"] - well["blur"]).max() > 30.0


def test_without_disease_and_shortcut_no_content_tells_the_classes_apart():
    found = probes_of(0.0, 0.0)
    for name in ("border", "blur", "histogram"):
        assert found[name].auroc == pytest.approx(0.5, abs=0.1)
        assert found[name].verdict.startswith("no sign")


def test_disease_alone_shows_in_brightness_and_the_words_say_that_it_may():
    for name in ("blur", "histogram"):
        probe = probes_of(0.0)[name]
        assert probe.low > 0.7
        assert "disease itself changes brightness, so this is no proof of a shortcut" in probe.verdict


def test_hospitals_are_told_apart_within_each_class():
    probe = probes_of(0.0)["source"]
    assert probe.low > 0.95
    assert set(probe.per_class) == set(CLASSES)
    assert probe.verdict.startswith("hospitals can be told apart within COVID (")
    assert probe.n == len(phantom(0.0)[1])
    assert probe.groups == 150


@pytest.mark.parametrize("size", [32, 50, 64, 97])
def test_the_border_probe_cannot_see_the_centre(size):
    films = grey_films(5, size)
    changed = films.copy()
    top, bottom, side = (-(-size * cells // 32) for cells in (3, 4, 2))
    changed[:, :, top : size - bottom, side : size - side] = 255
    before, after = shortcuts._looks(films), shortcuts._looks(changed)
    np.testing.assert_array_equal(before["border"], after["border"])
    assert not np.array_equal(before["blur"], after["blur"])
    changed[:, :, 0, 0] = 255
    assert not np.array_equal(before["border"], shortcuts._looks(changed)["border"])


def test_a_letter_in_a_corner_is_found():
    films, labels = grey_films(120, 64), np.tile([0, 1], 60)
    films[labels == 1, :, 2:6, 57:61] = 250
    probe = audit(films, labels)["border"]
    assert probe.low > 0.95
    assert probe.per_class == {"a": probe.auroc, "b": probe.auroc}
    assert (probe.n, probe.groups) == (120, 120)


def test_labels_that_are_shuffled_by_patient_are_at_chance():
    pixels, labels, groups, _ = phantom(1.0)
    of_patient = np.zeros(groups.max() + 1, np.int64)
    of_patient[groups] = labels
    seen, rng = shortcuts._looks(pixels)["histogram"], np.random.default_rng(0)
    found = []
    for seed in range(8):
        shuffled = rng.permutation(of_patient)[groups]
        held = shortcuts._hold_out(seen, shuffled, CLASSES, groups, False, seed)
        found.append(shortcuts._class_probe("histogram", held, CLASSES, seed))
    assert np.mean([probe.auroc for probe in found]) == pytest.approx(0.5, abs=0.04)
    assert sum(not probe.verdict.startswith("no sign") for probe in found) <= 1  # luck of a few patients


def test_sources_that_leave_no_trace_are_at_chance():
    rng = np.random.default_rng(0)
    sources, noise = [f"s{i}" for i in rng.integers(2, size=160)], rng.standard_normal((160, 8)).astype(np.float32)
    probe = audit(grey_films(160), np.tile([0, 1], 80), sources=sources, features=noise)["source"]
    assert probe.auroc == pytest.approx(0.5, abs=0.12)
    assert probe.verdict.startswith("no sign that hospitals can be told apart within a or b (AUROC 0.")


def test_what_is_seen_of_a_film_does_not_depend_on_its_chunk():
    films = grey_films(7, 40)
    whole = shortcuts._looks(films)
    for name, seen in whole.items():
        np.testing.assert_array_equal(seen, np.concatenate([shortcuts._looks(film[None])[name] for film in films]))
    np.testing.assert_allclose(whole["histogram"].sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(shortcuts._cell_means(films[:, 0], 8), films[:, 0].reshape(7, 8, 5, 8, 5).mean((2, 4)))


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31), st.integers(2, 25), st.integers(1, 4))
def test_no_group_stands_in_two_folds_and_every_film_is_scored(seed, per_class, most):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, most + 1, 2 * per_class)
    groups = np.repeat(np.arange(2 * per_class), sizes)
    kinds = groups // per_class
    held = shortcuts._hold_out(rng.standard_normal((len(groups), 3)), kinds, "ab", groups, True, seed)
    if not isinstance(held, str):
        assert len({*zip(groups.tolist(), held.folds.tolist(), strict=True)}) == 2 * per_class
        np.testing.assert_allclose(held.scores.sum(axis=1), 1.0)


def test_a_patient_whose_films_are_alike_is_not_recognised():
    """Each patient has a look of his own, which says nothing of the class: only a leak could use it."""
    groups = np.repeat(np.arange(60), 6)
    films = np.random.default_rng(0).integers(0, 256, (60, 1, 32, 32), dtype=np.uint8)[groups]
    assert audit(films, groups % 2, groups)["blur"].auroc < 0.65


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 4)), min_size=2, max_size=60))
def test_ranks_give_the_auroc_of_sklearn_with_ties_and_weights(rows):
    scores, truth, weights = (np.asarray(column) for column in zip(*rows, strict=True))
    won, pairs = rank_aurocs(scores.astype(float), truth, np.stack([np.ones(len(rows)), weights.astype(float)]))
    for i, w in enumerate((np.ones(len(rows)), weights)):
        if (w * truth).sum() and (w * ~truth).sum():
            assert won[i] / pairs[i] == pytest.approx(roc_auc_score(truth, scores, sample_weight=w))
        else:
            assert pairs[i] == 0


def test_the_interval_covers_the_auroc_of_two_normal_scores():
    """Scores of two unit normals 1 apart: AUROC = Phi(1 / sqrt 2). Copies of a film add nothing."""
    known, covered, widths = 0.7602, 0, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        kinds = np.repeat([0, 1], 60)
        score = rng.standard_normal(120) + kinds
        for copies in (1, 4):
            scores = np.repeat(np.stack([-score, score], axis=1), copies, axis=0)
            groups = np.repeat(np.arange(120), copies)
            held = shortcuts._Scored(scores, np.repeat(kinds, copies), np.zeros(len(groups), np.int64), groups)
            low, high = np.percentile(shortcuts._bootstrap([held], seed)[1][0], shortcuts.MIDDLE)
            widths.append(high - low)
        covered += low <= known <= high
    assert covered >= 34  # of 40 expected 38; fewer than 34 has a chance below 1 in 70
    assert np.mean(widths[1::2]) == pytest.approx(np.mean(widths[::2]), rel=0.05)
    assert np.mean(widths) == pytest.approx(4 * 0.044, rel=0.1)  # Hanley and McNeil's standard error


def test_films_of_two_folds_are_not_compared():
    kinds = np.tile([0, 1], 10)
    folds = np.repeat([0, 1], 10)
    scores = kinds + 10.0 * folds  # perfect in either fold, though the second model says more of everything
    held = shortcuts._Scored(np.stack([-scores, scores], axis=1), kinds, folds, np.arange(20))
    np.testing.assert_array_equal(shortcuts._aurocs(held, np.ones((1, 20))), 1.0)


def test_too_few_patients_or_classes_are_named_and_not_measured():
    films = grey_films(30)
    few = audit(films, [0] * 29 + [1])["border"]
    assert few.verdict == "not measured: class 'b' has 1 patients or duplicate clusters of 2 needed"
    assert (few.auroc, few.low, few.high, few.n, few.groups, few.per_class) == (None, None, None, 0, 0, {})
    assert audit(films, [0] * 30, classes=("a",))["blur"].verdict == "not measured: there is one class only"
    mixed = audit(grey_films(8), [0, 1] * 4, np.repeat([0, 1], 4))["border"]
    assert mixed.auroc is not None
    assert "class 'a' has 0 patients" in audit(grey_films(0), [])["histogram"].verdict


def test_sources_need_features_and_two_large_ones_in_a_class():
    films, labels = grey_films(80), np.repeat([0, 1], 40)
    noise = np.random.default_rng(0).standard_normal((80, 5)).astype(np.float32)
    assert audit(films, labels)["source"].verdict == "not measured: there are no features to tell sources apart in"
    for sources in (["x"] * 40 + ["y"] * 40, ["x"] * 30 + ["y"] * 10 + [None] * 40, [None] * 80):
        probe = audit(films, labels, sources=sources, features=noise)["source"]
        assert probe.auroc is None
        assert "no class has two known sources of at least 20 films and 2 groups" in probe.verdict
    noise[:20] += 5
    sources = ["x"] * 20 + ["y"] * 20 + ["z"] * 39 + [None]
    probe = audit(films, labels, sources=sources, features=noise)["source"]
    assert probe.verdict.startswith("hospitals can be told apart within a (1.00)")
    assert (set(probe.per_class), probe.n, probe.groups) == ({"a"}, 40, 40)


def test_the_same_seed_gives_the_same_probes_and_progress_is_told():
    films, labels = grey_films(60), np.tile([0, 1], 30)
    assert audit(films, labels, seed=3) == audit(films, labels, seed=3)
    assert audit(films, labels, seed=3) != audit(films, labels, seed=4)
    told = []
    audit_shortcuts(films, labels, "ab", np.arange(60), [""] * 60, None, progress=lambda *at: told.append(at))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("films", "labels", "features", "said"),
    [
        (grey_films(4)[:, :, :20], [0, 1, 0, 1], None, "at least 32 x 32"),
        (grey_films(4).astype(float), [0, 1, 0, 1], None, "must be uint8"),
        (grey_films(4), [0, 1, 0], None, "one row for each of the 4 films"),
        (grey_films(4), [0, 1, 0, 2], None, r"labels must lie in \[0, 2\)"),
        (grey_films(4), [0, 1, 0, 1], np.full((4, 2), np.nan, np.float32), "features must be finite"),
    ],
)
def test_malformed_input_is_refused(films, labels, features, said):
    with pytest.raises(ValueError, match=said):
        audit(films, labels, features=features)


def test_the_picture_is_written_also_where_probes_abstained(tmp_path):
    few = list(audit(grey_films(4), [0, 1, 0, 1]).values())
    draw_probes({"phantom": list(probes_of(1.0).values()), "few films": few}, tmp_path / "probes.png")
    draw_probes({}, tmp_path / "empty.png")
    assert min((tmp_path / name).stat().st_size for name in ("probes.png", "empty.png")) > 2000
