"""Small whole runs for plug-ins that cheat or are broken, by a classifier that takes no time."""

import signal
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest

from cxrbench.contracts import Images
from cxrbench.metrics.nearest import appearance
from cxrbench.registry import CLASSIFIERS
from cxrbench.report.analysis import Analysis, analyse
from cxrbench.report.fidelity import overall
from cxrbench.report.sections import sections
from cxrbench.store import Store

PATIENTS, SIGNAL = 32, 3.0
DATA = f"phantom:patients_per_class={PATIENTS}:class_signal={SIGNAL:g}"
COMMAND = ["run", "--quiet", "--data", DATA, "--tier", "smoke", "--device", "cpu", "--ratios", "0,1", "--seeds", "2"]
EXTRACTOR = "radio-texture"


@dataclass
class ByHeart:
    """Votes of all training films, the nearest counting most: knows a film again, and learns in no time."""

    width: float = 0.02

    _train: Images | None = field(default=None, init=False, repr=False, compare=False)

    def fit(self, train, val, ctx):
        self._train = train
        return self

    def predict_proba(self, pixels, ctx):
        known, films = appearance(self._train.pixels).astype(float), appearance(pixels).astype(float)
        apart = ((films[:, None] - known) ** 2).sum(axis=2)
        votes = np.exp(-apart / self.width) @ np.eye(len(self._train.classes))[self._train.labels] + 1e-9
        return (votes / votes.sum(axis=1, keepdims=True)).astype(np.float32)


@dataclass
class SumsToTwo(ByHeart):
    def predict_proba(self, pixels, ctx):
        return 2 * super().predict_proba(pixels, ctx)


@dataclass
class Ran:
    """A finished run: its exit code, leaderboard, tables and records."""

    code: int
    page: str
    analysis: Analysis
    records: list

    def arms(self, generator):
        """The rows of a generator, by arm."""
        board = self.analysis.board
        return board[board["generator"] == generator].set_index("arm")

    def of(self, generator, kind):
        """Its records of one kind."""
        named = [r for r in self.records if r.trial.generator and r.trial.generator.name == generator]
        return [record for record in named if record.trial.kind == kind]

    def measured(self, generator, metric):
        """A fidelity measure over all classes, and its floor."""
        row = overall(self.analysis.fidelity, EXTRACTOR, metric).loc[generator]
        return row["value"], row["floor"]


def run(results, *options):
    from cxrbench.cli import main

    before, code = signal.getsignal(signal.SIGTERM), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["cxrbench", *COMMAND, "--results", str(results), *options])
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            signal.signal(signal.SIGTERM, before)
    store = Store(results)
    (section,) = sections(store)
    return Ran(code, (results / "LEADERBOARD.md").read_text(), analyse(section, store), list(store))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One for all runs, so that the films are drawn and dealt out once."""
    return tmp_path_factory.mktemp("shared-cache")


@pytest.fixture
def run_small(tmp_path, cache, monkeypatch, undrawn):
    """A run of ``classical`` without pictures, which would take most of its time."""
    monkeypatch.setenv("CXRBENCH_CACHE", str(cache))
    monkeypatch.setitem(CLASSIFIERS._decorated, "by-heart", ByHeart)
    return lambda *options: run(tmp_path / "r", "--generators", "classical", "--classifiers", "by-heart", *options)


@pytest.fixture(name="run", scope="session")
def run_fixture():
    """``run``, for a run that many tests look at."""
    return run


@pytest.fixture(scope="session")
def classifiers():
    """Those of the runs, by name; one is sound."""
    return {"by-heart": ByHeart, "sums-to-two": SumsToTwo}
