"""Controls that do not do their work: whole runs that must tell."""

from dataclasses import dataclass

import pytest

from bench.deliberate_breaks import Giver, GivesTestFilms, GivesTrainingFilms
from cxrbench.registry import GENERATORS
from cxrbench_baselines.generators.controls import Noise

PATIENTS, SIGNAL = 32, 3.0  # of the phantom in conftest.py
EXTRACTOR = "radio-texture"


@dataclass
class OracleOfNoise(Noise):
    control = "oracle"


@dataclass
class CopyOfNewFilms(Giver):
    patients_per_class: int = PATIENTS
    class_signal: float = SIGNAL

    control = "copy"

    def choose(self, train):
        return self.redrawn(7, train.size)


@dataclass
class NoiseOfFilms(GivesTrainingFilms):
    control = "noise"


@dataclass
class ShuffleThatKnows(GivesTestFilms):
    patients_per_class: int = PATIENTS
    class_signal: float = SIGNAL

    control = "shuffle"


@dataclass
class NoiseThatFails(Noise):
    control = "noise"

    def fit(self, train, ctx):
        raise RuntimeError("boom")


def test_sound_controls_make_the_leaderboard_valid(run_small):
    ran = run_small("--controls", "all")
    assert ran.code == 0
    assert "**VALID.** All 12 checks of the controls hold." in ran.page
    assert "BROKEN" not in ran.page
    assert set(ran.arms("shuffle")["flags"]) == {"copies, wrong labels"}


@pytest.mark.parametrize(
    ("control", "broken", "reason"),
    [
        ("oracle", OracleOfNoise, f"Oracle: expected FD of {EXTRACTOR} within"),
        ("copy", CopyOfNewFilms, "Copy: expected caught by the memorization test"),
        ("noise", NoiseOfFilms, f"Noise: expected FD of {EXTRACTOR} larger than"),
        ("shuffle", ShuffleThatKnows, "Shuffle: expected does not help; found helps"),
    ],
)
def test_a_control_that_does_not_do_its_work_makes_the_leaderboard_invalid(
    run_small, monkeypatch, control, broken, reason
):
    monkeypatch.setitem(GENERATORS._decorated, control, broken)
    page = run_small("--controls", "all").page
    stamp = next(line for line in page.splitlines() if line.startswith("**"))
    assert stamp.startswith("**INVALID.** The controls did not come out where they must")
    assert reason in stamp
    assert f"| {control} | {reason.split('expected ')[1].split(';')[0]}" in page
    assert "| BROKEN |" in page


def test_a_control_that_fails_is_named_in_the_stamp(run_small, monkeypatch):
    monkeypatch.setitem(GENERATORS._decorated, "noise", NoiseThatFails)
    ran = run_small("--controls", "all")
    assert ran.code == 1
    stamp = next(line for line in ran.page.splitlines() if line.startswith("**"))
    assert stamp.startswith(
        "**PARTLY VALIDATED.** All 10 checks of the controls hold. Nothing could be checked of noise."
    )
    assert "1 could not be made: noise: 6 of its trials failed, such as" in stamp
    assert "RuntimeError: boom" in stamp
