"""Plug-ins that cheat or are broken: whole runs that must tell."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pytest

from bench.deliberate_breaks import Giver, GivesTestFilms, GivesTrainingFilms, GivesWrongLabels
from cxrbench.contracts import Images
from cxrbench.film_features import STAGE
from cxrbench.records import Status
from cxrbench.registry import CLASSIFIERS, EXTRACTORS, GENERATORS
from cxrbench.report.analysis import DISQUALIFIED
from cxrbench.report.fidelity import HELD_OUT

PATIENTS, SIGNAL = 32, 3.0  # of the phantom in conftest.py
EXTRACTOR = "radio-texture"


# ---------------------------------------------------------------- broken plug-ins


@dataclass
class KnowsTestFilms(GivesTestFilms):
    patients_per_class: int = PATIENTS
    class_signal: float = SIGNAL


@dataclass
class WrongLabels(GivesWrongLabels):
    patients_per_class: int = PATIENTS
    class_signal: float = SIGNAL


@dataclass
class OneFilm(Giver):
    """Has collapsed: one film, of a patient nobody else knows, for every class."""

    patients_per_class: int = PATIENTS
    class_signal: float = SIGNAL

    def choose(self, train):
        films = self.redrawn(7, train.size)
        return Images(np.repeat(films.pixels[40:41], 3, axis=0), np.arange(3), films.classes)


@dataclass
class Blank(Giver):
    """Every pixel of every film is 90."""

    def choose(self, train):
        return Images(np.full((3, 1, train.size, train.size), 90, np.uint8), np.arange(3), train.classes)


@dataclass
class OneNaN:
    """An extractor that fails on one film in a set."""

    name = "one-nan"
    dim = 4
    fd_label, kd_label, resize = "FD-one-nan", "KID-one-nan", "none"

    def weights_sha256(self):
        return "0" * 64

    def extract(self, pixels, device, progress):
        features = np.random.default_rng(0).random((len(pixels), self.dim), np.float32)
        features[3, 1] = np.nan
        return features


CHEATS = {
    "test-films": KnowsTestFilms,
    "training-copies": GivesTrainingFilms,
    "wrong-labels": WrongLabels,
    "one-film": OneFilm,
    "blank": Blank,
}


@pytest.fixture(scope="module")
def cheated(tmp_path_factory, cache, run, classifiers):
    """One run of all cheats beside an honest generator, and of a classifier whose probabilities are none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXRBENCH_CACHE", str(cache))
        for name, plugin in CHEATS.items():
            patch.setitem(GENERATORS._decorated, name, plugin)
        for name, plugin in classifiers.items():
            patch.setitem(CLASSIFIERS._decorated, name, plugin)
        generators = ",".join([*CHEATS, "classical"])
        options = ["--controls", "none", "--generators", generators, "--classifiers", "by-heart,sums-to-two"]
        return run(tmp_path_factory.mktemp("cheated"), *options)


# ---------------------------------------------------------------- generators that cheat


def test_test_films_are_flagged_and_disqualified_however_much_they_help(cheated):
    arms = cheated.arms("test-films")
    assert arms.loc["augment", "auroc_macro_mean"] == 1
    assert arms.loc["augment", "low"] > 0.1  # a verdict would be "helps"
    assert set(arms["flags"]) == {"LEAK"}
    assert set(arms["verdict"]) == {DISQUALIFIED}
    assert arms["rank"].isna().all()
    assert not arms["ranked"].any()


def test_disqualification_is_said_in_words(cheated):
    assert "`test-films` is disqualified: it returns validation or test films" in cheated.page
    assert "- `test-films` returns validation or test films: 100% of its films" in cheated.page
    assert "it helps" not in cheated.page
    first = next(line for line in cheated.page.splitlines() if "| by-heart | test-films | x 1 |" in line)
    assert first.startswith("|  | ")  # no rank
    assert "| disqualified |" in first


def test_whoever_knows_no_test_film_is_not_disqualified(cheated):
    board = cheated.analysis.board
    others = board[(board["generator"] != "test-films") & (board["arm"] == "augment") & (board["real_share"] == 1)]
    assert set(others["generator"]) == {"real only", "training-copies", "wrong-labels", "one-film", "classical"}
    assert not others["flags"].str.contains("LEAK").any()
    assert sorted(others["rank"]) == [1, 2, 3, 4, 5]


def test_copies_of_training_films_are_counted_and_flagged(cheated):
    found = cheated.analysis.copies.set_index("generator").loc["training-copies"]
    assert found["copies"] == 1
    assert found["nn_ratio"] == found["authpct"] == 0
    assert found["nn_p"] < 1e-6
    assert found["ct"] < -3
    assert set(cheated.arms("training-copies")["flags"]) == {"copies"}
    assert "- `training-copies` returns near-copies of training films: 100% of its films" in cheated.page


def test_an_arm_without_its_copies_is_the_real_only_arm_to_the_last_digit(cheated):
    real = {
        record.trial.classifier_seed: record
        for record in cheated.records
        if record.status is Status.OK
        and record.trial.kind == "utility"
        and record.trial.generator is None
        and (record.trial.arm, record.trial.real_share) == ("augment", 1)
    }
    adjusted = [
        record
        for record in cheated.of("training-copies", "utility")
        if record.trial.arm == "copy-adjusted" and record.status is Status.OK
    ]
    assert len(adjusted) == len(real) == 2
    for record in adjusted:
        assert record.scores == real[record.trial.classifier_seed].scores
        assert record.counts["train_synthetic"] == 0
        assert "111 of 111 synthetic films are near-copies" in record.notes[0]
    assert cheated.arms("training-copies").loc["copy-adjusted", "gain"] == 0


def test_wrong_labels_are_flagged_and_never_help(cheated):
    arms = cheated.arms("wrong-labels")
    assert arms["flags"].str.contains("wrong labels").all()
    assert not (arms["verdict"] == "helps").any()
    assert arms.loc["augment", "gain"] < -0.05
    right, _ = cheated.measured(HELD_OUT, "label_agreement")
    assert right > 0.5  # so that the extractor sees the classes
    assert cheated.measured("wrong-labels", "label_agreement")[0] < 0.5 * right
    assert not cheated.arms("classical")["flags"].str.contains("wrong labels").any()


def test_one_film_for_everything_shows_in_every_measure_of_diversity_and_in_no_other(cheated):
    recall, recall_floor = cheated.measured("one-film", "recall")
    coverage, coverage_floor = cheated.measured("one-film", "coverage")
    vendi, vendi_floor = cheated.measured("one-film", "vendi")
    assert (recall, vendi) == (0, pytest.approx(1))
    assert recall_floor > 0.9
    assert coverage < 0.5 * coverage_floor
    assert vendi_floor > 1.3
    assert cheated.measured("one-film", "precision")[0] == 1
    assert cheated.measured("one-film", "fid")[0] > 3 * cheated.measured(HELD_OUT, "fid")[0]
    shown = next(line for line in cheated.page.splitlines() if line.startswith("| one-film | 48 |"))
    assert f"0.00 ({recall_floor:.2f}) |" in shown
    assert f"1.0 ({vendi_floor:.1f}) |" in shown


# ---------------------------------------------------------------- plug-ins that return rubbish


def test_blank_films_fail_with_a_clear_line_and_the_others_go_on(cheated):
    assert cheated.code == 1
    blank = [r for kind in ("fidelity", "memorization", "utility") for r in cheated.of("blank", kind)]
    assert {record.status for record in blank} == {Status.FAILED}
    assert {record.error for record in blank} == {
        "ValueError: 64 of 64 films sampled for class 'COVID' are blank (one value everywhere)"
    }
    others = [r for r in cheated.records if r not in blank]
    by_heart = [r for r in others if r.trial.classifier is None or r.trial.classifier.name == "by-heart"]
    assert {record.status for record in by_heart} == {Status.OK}
    assert "- **failed**: fidelity of blank, seed 0: ValueError: 64 of 64 films" in cheated.page
    assert cheated.arms("blank").empty


def test_probabilities_that_do_not_sum_to_one_fail_with_a_clear_line(cheated):
    wrong = [r for r in cheated.records if r.trial.classifier and r.trial.classifier.name == "sums-to-two"]
    wrong = [r for r in wrong if not (r.trial.generator and r.trial.generator.name == "blank")]
    assert len(wrong) == 8 + 2 * 3 * 5  # of real films, and three arms of each of five generators with two seeds
    assert {(r.status, r.error) for r in wrong} == {
        (Status.FAILED, "ValueError: predict_proba returned rows that do not sum to one")
    }
    assert set(cheated.analysis.board["classifier"]) == {"by-heart"}


def test_an_extractor_with_a_nan_fails_fidelity_alone_and_leaves_nothing_in_the_cache(run_small, cache, monkeypatch):
    monkeypatch.setitem(EXTRACTORS._decorated, "one-nan", OneNaN)
    ran = run_small("--controls", "none", "--extractors", f"{EXTRACTOR},one-nan")
    assert ran.code == 1
    failed = [record for record in ran.records if record.status is not Status.OK]
    assert len(failed) == 3  # of held-out real films, and of both seeds
    assert {record.trial.kind for record in failed} == {"fidelity"}
    assert all("one-nan returned features of shape" in record.error for record in failed)
    assert all("NaN; expected finite" in record.error for record in failed)
    assert not ran.arms("classical").empty
    kept = list((cache / STAGE).iterdir())
    assert len(kept) == 1
    with closing(sqlite3.connect(kept[0])) as table:
        rows = [np.frombuffer(row, "<f4") for (row,) in table.execute("SELECT row FROM films")]
    assert {len(row) for row in rows} == {EXTRACTORS.create(EXTRACTOR).dim}
    assert np.isfinite(rows).all()
