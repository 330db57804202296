"""How long a report of 2,000 records takes, in all and by part.

    python -m bench.report_speed [OUT.json]

The store is made up: generators, controls, ratios and arms as a run has them, with 10 seeds, 2 splits and 2
classifiers; every trained classifier has predictions of 1,000 films of 3 classes. Making it takes longer than the
report.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from cxrbench.contracts import Role
from cxrbench.machine import describe_machine
from cxrbench.records import Arm, ExtractorRef, PluginRef, Record, Setting, Status, Trial
from cxrbench.report import analysis, effects, figures, page
from cxrbench.statistics.influence import macro_auroc_influence
from cxrbench.store import Arrays, Store

CLASSES = ("COVID", "Normal", "Pneumonia")
GENERATORS = {"classical": 0.03, "cgan": -0.10, "dcgan": 0.0, "diffusion": 0.15, "flow": 0.05}  # gain in d'
CONTROLS: dict[Role, float] = {"oracle": 0.3, "copy": 0.0, "shuffle": -0.5, "noise": -0.2, "oversample": 0.0}
CLASSIFIERS = {"small-cnn": 1.0, "resnet18": 1.2}  # d' on real films alone
RATIOS = (0.5, 1.0, 2.0)
FEW = 1 / 3
SEEDS, SPLITS, FILMS, TRAIN, SIZE, SHOWN = 10, 2, 1000, 3000, 32, 8
METRICS = ("fid", "fid_infinity", "kid_mean", "precision", "recall", "density", "coverage", "vendi")
AGREEMENT = 0.9  # of labels
SCORES = ("f1_macro", "balanced_accuracy", "accuracy", "auprc_macro", "sensitivity_at_95_macro", "brier", "ece")
PER_CLASS = ("precision", "recall", "f1", "auroc", "auprc", "sensitivity_at_95")
PARTS: tuple[tuple[str, Any, str], ...] = (
    ("reading records", analysis, "sections"),
    ("reading predictions", Store, "arrays"),
    ("reading films", Store, "pictures"),
    ("scoring predictions", effects.Predictions, "_run"),
    ("gains", effects, "estimate_gain"),
    ("gains", effects, "_components"),
    ("gains", effects, "judge"),
    ("other tables", analysis, "analyse"),
    ("writing tables", page, "_write_tables"),
    ("page", page, "_section_page"),
    ("figures", figures, "draw_figures"),
    ("metric audit", analysis, "metric_audit"),
)


@dataclass
class Stopwatch:
    """Seconds by part; a part's seconds do not count those of the parts it calls."""

    seconds: dict[str, float] = field(default_factory=dict)
    _running: list[float] = field(default_factory=list)  # of every part under way, seconds spent in other parts

    def watched(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, timed."""

        @functools.wraps(function)
        def timed(*arguments: Any) -> Any:
            started = time.perf_counter()
            self._running.append(0.0)
            try:
                return function(*arguments)
            finally:
                spent = time.perf_counter() - started
                self.seconds[part] = self.seconds.get(part, 0.0) + spent - self._running.pop()
                if self._running:
                    self._running[-1] += spent

        return timed


def fill(store: Store) -> int:
    """Write the records; returns how many."""
    store.prepare()
    count = 0
    for split in range(SPLITS):
        rng = np.random.default_rng(split)
        for record, arrays, pictures in _of_split(split, rng):
            store.put(record, arrays, pictures, publish=True)
            count += 1
    return count


def measure(store: Store) -> dict[str, float]:
    """Write the report once: seconds in all, of the processor (which neighbours slow less), and by part."""
    watch = Stopwatch()
    with ExitStack() as stack:
        for part, place, name in PARTS:
            stack.enter_context(patch.object(place, name, watch.watched(part, getattr(place, name))))
        started, busy = time.perf_counter(), time.process_time()
        page.write_report(store)
        total, busy = time.perf_counter() - started, time.process_time() - busy
    return {"in all": total, "of the processor": busy, **watch.seconds, "other": total - sum(watch.seconds.values())}


@contextmanager
def filled_store() -> Iterator[tuple[Store, int]]:
    """A store of made-up records in a folder that vanishes, and their number."""
    with tempfile.TemporaryDirectory(prefix="cxrbench-report-") as folder:
        store = Store(Path(folder))
        yield store, fill(store)


def _of_split(split: int, rng: np.random.Generator) -> Iterator[tuple[Record, Arrays, Arrays]]:
    setting = Setting(
        data="made-up",
        data_hash="d" * 64,
        split_seed=split,
        split_key=f"{split}" * 64,
        spec_hash="c" * 64,
        tier="cpu",
        image_size=64,
    )
    labels = np.arange(FILMS) % len(CLASSES)
    groups = np.char.add("p", (split * FILMS // 4 + np.arange(FILMS) // 2).astype(str))
    hardness = rng.standard_normal((FILMS, len(CLASSES)))

    def scored(trial: Trial, power: float) -> tuple[Record, Arrays, Arrays]:
        logits = 0.8 * hardness + 0.6 * rng.standard_normal(hardness.shape)
        logits[np.arange(FILMS), labels] += power + 0.02 * rng.standard_normal()
        odds = np.exp(logits)
        probabilities = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
        auroc = macro_auroc_influence(labels, probabilities)[0]
        scores = dict.fromkeys(SCORES, auroc) | {f"{m}/{name}": auroc for m in PER_CLASS for name in CLASSES}
        real = 0 if trial.arm == "synthetic-only" else round(trial.real_share * TRAIN)
        counts = {"train_real": real, "train_synthetic": round((trial.ratio or 0) * trial.real_share * TRAIN)}
        counts |= {"steps": 1500, "tuning_trials": 1, "test": FILMS}
        arrays = {"labels": labels, "groups": groups, "probabilities": probabilities}
        return _record(trial, {"auroc_macro": auroc, **scores}, counts), arrays, {}

    films = {who: TRAIN // 3 for who in CLASSES} | {"all": TRAIN}
    facts = {"films": 5000, "groups": 2500, "near_copy_pairs": 3}
    yield _record(Trial(kind="data", setting=setting), {}, facts), {}, {}
    yield _fidelity(setting, None, None, rng, films)
    for (name, strength), seed in itertools.product(CLASSIFIERS.items(), range(SEEDS)):
        classifier = _plugin(name, "classifier", None)
        real = Trial(kind="utility", setting=setting, ratio=0.0, classifier=classifier, classifier_seed=seed)
        yield scored(real, strength)
        yield scored(real.model_copy(update={"arm": "longer"}), strength)
        for share in (FEW, 2 * FEW):
            yield scored(real.model_copy(update={"real_share": share}), strength + 0.15 * float(np.log(share)))
        for generator, gain in GENERATORS.items():
            for ratio, arm in _arms():
                update = {"generator": _plugin(generator, "generator", None), "generator_seed": seed}
                yield scored(real.model_copy(update={**update, "ratio": ratio, "arm": arm}), strength + ratio * gain)
        for role, gain in CONTROLS.items():
            update = {"generator": _plugin(role, "generator", role), "generator_seed": seed, "ratio": 1.0}
            share = FEW if role == "oracle" else 1.0
            yield scored(real.model_copy(update={**update, "real_share": share}), strength + gain)
    roles: dict[str, Role | None] = {**dict.fromkeys(GENERATORS), **{role: role for role in CONTROLS}}
    for (generator, own), seed in itertools.product(roles.items(), range(SEEDS)):
        plugin = _plugin(generator, "generator", own)
        yield _fidelity(setting, plugin, seed, rng, films)
        yield _memorization(setting, plugin, seed, rng, films)


def _arms() -> list[tuple[float, Arm]]:
    arms: tuple[Arm, ...] = ("augment", "copy-adjusted")
    return [*itertools.product(RATIOS, arms), (1.0, "synthetic-only")]


def _fidelity(
    setting: Setting, generator: PluginRef | None, seed: int | None, rng: np.random.Generator, films: dict[str, int]
) -> tuple[Record, Arrays, Arrays]:
    extractors = {
        name: ExtractorRef(weights=name * 9, fd_label=f"FD-{name}", kd_label=f"KID-{name}", resize="224 px")
        for name in ("lite0", "inception")
    }
    worse = {"noise": 900.0, "oracle": 0.0, "copy": 0.0}.get(generator.name, 50.0) if generator else 0.0
    scores: dict[str, float] = {}
    for name, who, metric in itertools.product(extractors, films, METRICS):
        value = 10.0 + worse + float(rng.random())
        scores |= {f"{name}/{who}/{metric}": value}
        scores |= {f"{name}/{who}/{metric}_low": value - 1, f"{name}/{who}/{metric}_high": value + 1}
        scores |= {f"{name}/{who}/label_agreement": AGREEMENT}
        if generator is None:
            scores |= {f"{name}/{who}/{metric}_floor": 10.0, f"{name}/{who}/{metric}_floor_sd": 1.0}
    trial = Trial(kind="fidelity", setting=setting, generator=generator, generator_seed=seed, extractors=extractors)
    pictures = rng.integers(0, 256, (len(CLASSES) * SHOWN, 1, SIZE, SIZE)).astype(np.uint8)
    record = _record(trial, scores, {f"n/{who}": n for who, n in films.items()})
    return record, {}, {"generated" if generator else "real": pictures}


def _memorization(
    setting: Setting, generator: PluginRef, seed: int, rng: np.random.Generator, films: dict[str, int]
) -> tuple[Record, Arrays, Arrays]:
    copies = 1.0 if generator.control in ("copy", "shuffle", "oversample") else 0.01
    found = {"nn_ratio": 1.0, "nn_p": 0.5, "authpct": 70.0, "authpct_expected": 70.0, "ct": 0.0}
    found |= {"copies": copies, "copies_expected": 0.01}
    scores = {f"{who}/{name}": value for who in films for name, value in found.items()}
    scores |= {"all/held_out_copies": 0.01, "all/held_out_copies_expected": 0.01, "all/threshold": 0.1}
    trial = Trial(kind="memorization", setting=setting, generator=generator, generator_seed=seed)
    pictures = rng.integers(0, 256, (SHOWN, 2, 1, SIZE, SIZE)).astype(np.uint8)
    return _record(trial, scores, {f"n/{who}": n for who, n in films.items()}), {}, {"suspicious": pictures}


def _plugin(name: str, kind: Any, control: Role | None) -> PluginRef:
    return PluginRef(name=name, kind=kind, params={"width": 32, "rate": 2e-4}, identity=name * 8, control=control)


def _record(trial: Trial, scores: dict[str, float], counts: dict[str, int]) -> Record:
    facts = {"started": "2026-01-01T00:00:00+00:00", "seconds": 60.0, "device": "CPU", "versions": {"numpy": "2"}}
    return Record(
        key=trial.key,
        trial=trial,
        status=Status.OK,
        classes=CLASSES,
        scores=scores,
        counts=counts,
        provenance={"command": "cxrbench run", "request": {"data": "made-up", "seeds": SEEDS}, **facts},
    )


def main(out: Path | None) -> None:
    """Time a report twice, the first time with the imports, and print and write what was found."""
    with filled_store() as (store, count):
        first, second = measure(store), measure(store)
    print(f"{count} records; seconds of the first report of a process, and of the second")
    for part in first:
        print(f"{part:22}{first[part]:8.2f}{second.get(part, 0.0):8.2f}")
    if out:
        rounded = [{part: round(seconds, 3) for part, seconds in run.items()} for run in (first, second)]
        content = {"machine": describe_machine("cpu"), "records": count, "first": rounded[0], "second": rounded[1]}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
