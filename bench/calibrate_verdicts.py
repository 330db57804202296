"""Are verdicts as often wrong as they say? Simulated benchmarks on the phantom, where the truth is known.

    python -m bench.calibrate_verdicts results/calibration

Real-only classifiers of 24 seeds are trained once and predict a large population of phantom patients. A simulated
benchmark draws test patients from the population, and seeds for its real-only runs and its arms:

* Arms that are real-only runs of other seeds gain nothing, so every "helps" or "hurts" is false: at most 5 % of
  families may hold one.
* Arms whose log-probabilities of the true class are raised gain a known AUROC. Where that equals the minimum
  detectable effect that benchmarks without a gain stated on average, "helps" is to be said in about 80 %.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Images, Probabilities, RunContext
from cxrbench.datasets.phantom import Phantom
from cxrbench.machine import describe_machine
from cxrbench.registry import CLASSIFIERS
from cxrbench.statistics.gains import Gain, estimate_gain
from cxrbench.statistics.influence import ScoredRun, macro_auroc_influence, score_run
from cxrbench.statistics.verdicts import ALPHA, POWER, judge, minimum_detectable_effect

CLASSIFIER, SIDE, BUDGET, RUNS = "small-cnn", 32, 300, 24
TRAIN, VAL, POPULATION = 90, 30, 1500  # patients of each class
TESTED = 100  # patients of each class in a test set
SEEDS, ARMS = (2, 3, 5), (1, 3)
EFFECTS = (0.5, 1.0, 1.5)  # of the minimum detectable effect
SIGNAL = 0.6  # of the phantom's classes: at 1.0 an AUROC of 0.93 leaves no room for a gain


@dataclass(frozen=True)
class Population:
    """Films with a known truth and what every trained classifier says of them.

    Attributes:
        labels: int64 ``[N]``.
        patients: int64 ``[N]``, numbered from 0, the patients of a class in a row.
        predictions: float32 ``[RUNS, N, classes]``.
    """

    labels: NDArray[np.int64]
    patients: NDArray[np.int64]
    predictions: Probabilities

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
        """Rows and group names of a test set; a patient who is drawn twice counts as two."""
        classes = self.predictions.shape[2]
        drawn = (rng.integers(POPULATION, size=(classes, TESTED)) + POPULATION * np.arange(classes)[:, None]).ravel()
        first, last = (np.searchsorted(self.patients, drawn, side) for side in ("left", "right"))
        names = np.asarray([f"{number:04d}" for number in range(len(drawn))])
        return np.concatenate(list(map(np.arange, first, last))), np.repeat(names, last - first)

    def sharpened(self, amount: float) -> Population:
        """Log-probabilities of the true class raised by ``amount``, in every run alike."""
        factor = np.ones(self.predictions.shape[1:], np.float32)
        factor[np.arange(len(self.labels)), self.labels] = np.exp(amount)
        raised = self.predictions * factor
        return replace(self, predictions=raised / raised.sum(axis=2, keepdims=True))

    def aurocs(self) -> NDArray[np.float64]:
        """Of every run, on all films."""
        return np.asarray([macro_auroc_influence(self.labels, row)[0] for row in self.predictions])

    def score(self, run: int, rows: NDArray[np.int64], groups: NDArray[np.str_]) -> ScoredRun:
        predicted = self.predictions[run, rows]
        return score_run(self.labels[rows], predicted, groups, split=0, generator_seed=None, classifier_seed=run)


def train_population(signal: float) -> Population:
    """Draw the phantom's patients, train the classifier once per seed and predict everybody else."""
    phantom = Phantom(patients_per_class=TRAIN + VAL + POPULATION, class_signal=signal)
    films = phantom.listing().films
    pixels = np.stack([phantom.read(film, SIDE) for film in films])[:, None]
    labels = np.asarray([film.label for film in films], np.int64)
    number = np.asarray([int((film.patient_id or "").rpartition("-")[2]) for film in films])
    everything = Images(pixels, labels, phantom.classes())
    train, val, tested = (
        np.flatnonzero((number >= low) & (number < low + count))
        for low, count in ((0, TRAIN), (TRAIN, VAL), (TRAIN + VAL, POPULATION))
    )
    predictions = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(RUNS):
            ctx = RunContext(seed, "cpu", BUDGET, Path(folder))
            fitted = CLASSIFIERS.create(CLASSIFIER).fit(everything.subset(train), everything.subset(val), ctx)
            predictions.append(fitted.predict_proba(pixels[tested], ctx))
    return Population(labels[tested], (labels * POPULATION + number - TRAIN - VAL)[tested], np.stack(predictions))


def gain_of(arm: Sequence[ScoredRun], base: Sequence[ScoredRun]) -> Gain:
    """The i-th run of an arm is paired with the i-th real-only one, whatever their seeds were."""
    runs = [replace(run, generator_seed=i, classifier_seed=i) for i, run in enumerate(arm)]
    gain = estimate_gain(runs, [replace(run, classifier_seed=i) for i, run in enumerate(base)])
    assert gain is not None, "runs are paired by their place"
    return gain


def satterthwaite_p(gain: Gain) -> float:
    """By Welch and Satterthwaite's degrees of freedom, to compare with; patients' and seeds' variance simply added."""
    from scipy.stats import t

    parts = (gain.film, *gain.parts[1:])
    total = sum(part.variance for part in parts)
    return float(2 * t.sf(abs(gain.gain) / total**0.5, total**2 / sum(part.variance**2 / part.df for part in parts)))


def without_a_gain(population: Population, simulations: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """False verdicts, by seeds and arms."""
    found: dict[tuple[int, int], list[list[float]]] = {(s, a): [] for s in SEEDS for a in ARMS}
    for _ in range(simulations):
        rows, groups = population.draw(rng)
        scored = [population.score(run, rows, groups) for run in rng.permutation(RUNS)]
        for (seeds, arms), outcomes in found.items():
            base, *others = (scored[start : start + seeds] for start in range(0, seeds * (arms + 1), seeds))
            gains = [gain_of(arm, base) for arm in others]
            words = [verdict.word for verdict in judge(gains)]
            wrong = any(word != "undetermined" for word in words)
            other = min(map(satterthwaite_p, gains)) * arms <= ALPHA  # Holm's first step decides on any rejection
            errors = (gains[0].gain, gains[0].standard_error, gains[0].se_film)
            outcomes.append([wrong, words[0] == "helps", other, minimum_detectable_effect(gains[0], arms), *errors])
    cells = []
    for (seeds, arms), outcomes in found.items():
        wrong, helps, other, effect, gain, error, film = np.asarray(outcomes, np.float64).T
        shares = {"false_verdicts": wrong, "first_arm_helps": helps, "false_by_satterthwaite": other}
        sizes = {"mean_mde": effect.mean(), "sd_of_gain": gain.std()}
        sizes |= {"rms_standard_error": np.sqrt((error**2).mean()), "rms_se_film": np.sqrt((film**2).mean())}
        cell: dict[str, Any] = {"seeds": seeds, "arms": arms} | {name: rate(found) for name, found in shares.items()}
        cells.append(cell | {name: float(size) for name, size in sizes.items()})
    return cells


def with_a_gain(
    population: Population, cells: Sequence[dict[str, Any]], simulations: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """How often "helps" is said of an arm that gains a multiple of the stated minimum detectable effect."""
    before, amounts = float(population.aurocs().mean()), np.linspace(0, 6, 25)
    reached = np.asarray([population.sharpened(amount).aurocs().mean() - before for amount in amounts])
    cases = []
    for cell, effect in ((c, e) for c in cells for e in EFFECTS if c["arms"] == 1 or e == 1.0):
        seeds, arms, wanted = cell["seeds"], cell["arms"], effect * cell["mean_mde"]
        cases.append(case := {"seeds": seeds, "arms": arms, "effect": effect, "true_gain": wanted, "helps": None})
        if wanted > reached[-1]:
            continue
        better = population.sharpened(float(np.interp(wanted, reached, amounts)))
        outcomes = []
        for _ in range(simulations):
            rows, groups = population.draw(rng)
            base, first, *others = rng.permutation(RUNS)[: seeds * (arms + 1)].reshape(-1, seeds)
            real = [population.score(run, rows, groups) for run in base]
            gains = [gain_of([better.score(run, rows, groups) for run in first], real)]
            gains += [gain_of([population.score(run, rows, groups) for run in other], real) for other in others]
            outcomes.append(judge(gains)[0].word == "helps")
        after = better.aurocs()
        case |= {"true_gain": float(after.mean() - before), "sd_of_auroc": float(after.std(ddof=1))}
        case["helps"] = rate(np.asarray(outcomes, np.float64))
    return cases


def rate(outcomes: NDArray[np.float64]) -> dict[str, float]:
    """A share with its exact binomial 95 % interval (Clopper and Pearson)."""
    from scipy.stats import binomtest

    interval = binomtest(int(outcomes.sum()), len(outcomes)).proportion_ci(0.95)
    return {"share": float(outcomes.mean()), "low": float(interval.low), "high": float(interval.high)}


def draw_figure(cells: Sequence[dict[str, Any]], cases: Sequence[dict[str, Any]], path: Path) -> None:
    """Left: false verdicts against 5 %. Right: power against 80 %."""
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
    places = np.arange(len(cells))
    _bars(left, places - 0.08, [cell["false_verdicts"] for cell in cells], "o", "as judged")
    _bars(left, places + 0.08, [cell["false_by_satterthwaite"] for cell in cells], "s", "with Satterthwaite's df")
    left.axhline(ALPHA, color="black", linestyle="--", linewidth=0.8)
    left.set_xticks(places, [_name(cell).replace(", ", "\n") for cell in cells])
    left.set(ylim=(0, None), ylabel="families with a false verdict", title="No arm gains anything")
    left.legend(fontsize=8)
    for null in (cell for cell in cells if cell["arms"] == 1):
        shown = [case for case in cases if _name(case) == _name(null) and case["helps"]]
        shares = [null["first_arm_helps"], *[case["helps"] for case in shown]]
        label = f"{null['seeds']} seeds: effect {null['mean_mde']:.3f}" + ", out of reach" * (len(shown) < len(EFFECTS))
        _bars(right, [0.0, *[case["effect"] for case in shown]], shares, "o-", label)
    right.axhline(POWER, color="black", linestyle="--", linewidth=0.8)
    right.set(ylim=(0, 1.02), ylabel='"helps"', xlabel="true gain / stated minimum detectable effect")
    right.set_title("One arm, with a gain")
    right.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


def _bars(axis: Any, places: Any, shares: Sequence[dict[str, float]], style: str, label: str) -> None:
    middle, low, high = (np.asarray([share[key] for share in shares]) for key in ("share", "low", "high"))
    axis.errorbar(places, middle, [middle - low, high - middle], fmt=style, capsize=3, label=label, markersize=5)


def page(facts: dict[str, Any]) -> str:
    """The findings in Markdown."""

    def table(*rows: Sequence[str]) -> str:
        head, *body = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([head, "| --- " * len(rows[0]) + "|", *body])

    def percent(share: dict[str, float]) -> str:
        return f"{share['share']:.1%} ({share['low']:.1%} to {share['high']:.1%})"

    sizes = ("sd_of_gain", "rms_standard_error", "rms_se_film", "mean_mde")
    null = [
        [_name(cell), percent(cell["false_verdicts"]), percent(cell["false_by_satterthwaite"])]
        + [f"{cell[key]:.4f}" for key in sizes]
        for cell in facts["without_a_gain"]
    ]
    power = [
        [_name(case), f"{case['effect']:g} x", f"{case['true_gain']:.4f}"]
        + ([percent(case["helps"]), f"{case['sd_of_auroc']:.4f}"] if case["helps"] else ["out of reach", ""])
        for case in facts["with_a_gain"]
    ]
    of_a_gain = ("true sd of a gain", "stated standard error", "patients' part of it", "minimum detectable effect")
    return f"""# Are verdicts as often wrong as they say?

Simulated benchmarks with {3 * TESTED} test patients: {CLASSIFIER}, {SIDE} px, {BUDGET} steps, on the phantom with
class signal {facts["class_signal"]:g}. Over the whole population the AUROC of {RUNS} seeds is {facts["mean_auroc"]:.3f}
with a standard deviation of {facts["sd_of_auroc"]:.4f}.

No arm gains anything. A false verdict is any *helps* or *hurts* in a family of arms, and may occur in 5 %.

{table(("benchmark", "false verdicts (95 % interval)", "with Satterthwaite's df", *of_a_gain), *null)}

One arm gains a multiple of the effect that is stated above; at 1 x *helps* is due in 80 % if the arm's seeds vary as
much as the real-only ones, and in more if they vary less.

{table(("benchmark", "effect", "true gain", "*helps* (95 % interval)", "sd over the arm's seeds"), *power)}

![False verdicts and power](calibration.png)

`python -m bench.calibrate_verdicts FOLDER` makes this page.
"""


def _name(cell: dict[str, Any]) -> str:
    return f"{cell['seeds']} seeds, {cell['arms']} arm{'s' * (cell['arms'] > 1)}"


def main() -> None:
    """Write ``calibration.json``, ``CALIBRATION.md`` and ``calibration.png`` into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--predictions", type=Path, help="read from there; written where it is not there yet")
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--class-signal", type=float, default=SIGNAL)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    cache, started = asked.predictions or asked.folder / "predictions.npz", time.perf_counter()
    if not cache.exists():
        np.savez_compressed(cache, **asdict(train_population(asked.class_signal)), class_signal=asked.class_signal)
    with np.load(cache) as stored:
        population = Population(stored["labels"], stored["patients"], stored["predictions"])
        if stored["class_signal"] != asked.class_signal:
            parser.error(f"{cache} holds predictions at class signal {stored['class_signal']}")
    trained = time.perf_counter()
    aurocs, rng = population.aurocs(), np.random.default_rng(0)
    cells = without_a_gain(population, asked.simulations, rng)
    facts: dict[str, Any] = {
        "machine": describe_machine("cpu") | {"scipy": version("scipy")},
        "classifier": {"name": CLASSIFIER, "size": SIDE, "budget": BUDGET, "seeds": f"0 to {RUNS - 1}"},
        "patients_per_class": {"train": TRAIN, "val": VAL, "population": POPULATION, "test": TESTED},
        "films": len(population.labels),
        "class_signal": asked.class_signal,
        "mean_auroc": float(aurocs.mean()),
        "sd_of_auroc": float(aurocs.std(ddof=1)),
        "simulations": asked.simulations,
        "without_a_gain": cells,
        "with_a_gain": with_a_gain(population, cells, asked.simulations // 2, rng),
        "seconds": {"training": round(trained - started, 1), "simulating": round(time.perf_counter() - trained, 1)},
    }
    (asked.folder / "calibration.json").write_text(json.dumps(facts, indent=1) + "\n")
    (asked.folder / "CALIBRATION.md").write_text(page(facts))
    draw_figure(cells, facts["with_a_gain"], asked.folder / "calibration.png")
    print(page(facts))


if __name__ == "__main__":
    main()
