"""Made-up benchmarks whose truth is known: records with kept predictions of a chosen AUROC."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, ndtri

from cxrbench.contracts import Role
from cxrbench.metrics.classification import score_predictions
from cxrbench.records import Arm, ExtractorRef, PluginRef, Record, Setting, Status, Trial, TrialKind
from cxrbench.report.analysis import Analysis, analyse
from cxrbench.report.page import write_report
from cxrbench.report.sections import Section, sections
from cxrbench.store import Arrays, Store

CLASSES = ("COVID", "Normal")
FILMS = 200  # of a test set, two of each patient
TRAIN = 600
FEW = 1 / 3
SIZE = 8  # of the pictures, in pixels
SHOWN = 8  # films of a class in a sample grid
STARTED = "2026-01-01T00:00:00"
SETTING = Setting(
    data="toy", data_hash="d" * 64, split_seed=0, split_key="s0", spec_hash="c" * 64, tier="quick", image_size=32
)
EXTRACTORS = {
    "lite0": ExtractorRef(weights="a" * 64, fd_label="FD-lite0", kd_label="KID-lite0", resize="224 px"),
    "inception": ExtractorRef(weights="b" * 64, fd_label="FID", kd_label="KID", resize="299 px"),
}
# What a sound benchmark finds, by generator.
AUROCS = {"cgan": 0.70, "oracle": 0.70, "copy": 0.70, "shuffle": 0.60, "noise": 0.68, "oversample": 0.70}
DISTANCES = {"cgan": 60.0, "oracle": 10.5, "copy": 5.0, "shuffle": 5.0, "noise": 900.0, "oversample": 5.0}
COPIES = {"cgan": 0.01, "oracle": 0.01, "copy": 1.0, "shuffle": 1.0, "noise": 0.0, "oversample": 1.0}
MEMORIZATION = {"nn_ratio": 1.0, "nn_p": 0.5, "authpct": 70.0, "authpct_expected": 69.0, "ct": 0.1}


CNN = "small-cnn"


def plugin(text: str | None, kind: Literal["generator", "classifier"] = "generator") -> PluginRef | None:
    """``NAME`` or ``NAME@VERSION``; a control where the name is a role."""
    if text is None:
        return None
    name = text.partition("@")[0]
    control = name if name in get_args(Role) else None
    return PluginRef(name=name, kind=kind, params={}, identity=text, control=control)


@functools.cache
def predictions(auroc: float, split: int, run: tuple[object, ...], own: float) -> Arrays:
    """Predictions of two classes whose AUROC is ``auroc``, but for chance.

    What makes a film hard is the same for all runs of a split; ``own`` is the share of the noise that a run has for
    itself. The noise has the normal quantiles, so that the AUROC of each test set is very nearly the chosen one.
    """
    patients = np.arange(FILMS // 2)
    labels = np.repeat(patients % 2, 2)
    groups = np.repeat(np.char.add("p", np.char.zfill((20 * split + patients).astype(str), 4)), 2)  # splits overlap
    shared = _normal(labels, np.random.default_rng([1, split]))
    mine = _normal(labels, np.random.default_rng([2, split, *_number(run)]))
    margin = np.sqrt(1 - own) * shared + np.sqrt(own) * mine + np.sqrt(2) * ndtri(auroc) * (labels - 0.5)
    positive = expit(margin)
    return {
        "labels": labels,
        "groups": groups,
        "probabilities": np.stack([1 - positive, positive], axis=1).astype(np.float32),
    }


@functools.cache
def scored(auroc: float, split: int, run: tuple[object, ...], own: float, classes: tuple[str, ...]) -> dict[str, float]:
    """Every score of ``predictions``."""
    arrays = predictions(auroc, split, run, own)
    return score_predictions(arrays["labels"], arrays["probabilities"], classes)


def _normal(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Normal quantiles in random order, float64 ``[N]``, for each class."""
    noise = np.zeros(len(labels))
    for label in (0, 1):
        count = int((labels == label).sum())
        noise[labels == label] = rng.permutation(ndtri((np.arange(count) + 0.5) / count))
    return noise


def _number(run: tuple[object, ...]) -> list[int]:
    return list(repr(run).encode())


class Results:
    """A results folder that is filled record by record.

    Attributes:
        setting: of the records to come; ``split`` of a call replaces its split.
        publish: may pictures be published?
    """

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.store.prepare()
        self.setting = SETTING
        self.classes: tuple[str, ...] = CLASSES
        self.publish = True

    def put(
        self,
        kind: TrialKind,
        *,
        split: int = 0,
        scores: Mapping[str, float] | None = None,
        counts: Mapping[str, int] | None = None,
        notes: Iterable[str] = (),
        arrays: Arrays | None = None,
        pictures: Arrays | None = None,
        started: str = STARTED,
        error: str | None = None,
        device: str = "abacus",
        **of_trial: object,
    ) -> Record:
        """Any record; with an ``error``, a failed one. Further arguments are the trial's; plug-ins go by name."""
        setting = self.setting.model_copy(update={"split_seed": split, "split_key": f"s{split}"})
        for role in ("generator", "classifier"):
            of_trial[role] = plugin(of_trial.get(role), role)
        trial = Trial.model_validate({"kind": kind, "setting": setting, **of_trial})
        record = Record(
            key=trial.key,
            trial=trial,
            status=Status.DIVERGED if error else Status.OK,
            error=error,
            classes=self.classes,
            scores=dict(scores or {}),
            counts=dict(counts or {}),
            notes=list(notes),
            provenance={"started": started, "seconds": 1.0, "command": "cxrbench run", "device": device},
        )
        self.store.put(record, arrays or {}, pictures or {}, publish=self.publish)
        return record

    def run(
        self,
        auroc: float,
        generator: str | None = None,
        ratio: float | None = None,
        *,
        seed: int = 0,
        split: int = 0,
        generator_seed: int | None = None,
        arm: Arm = "augment",
        real_share: float = 1.0,
        classifier: str = CNN,
        own: float = 0.02,
        kept: bool = True,
        external: str = "",
        train_real: int | None = None,
        **more,
    ) -> Record:
        """One trained classifier, tested on the internal films, or on ``external`` ones; ``kept``: its predictions."""
        ratio = (1.0 if generator else 0.0) if ratio is None else ratio
        run = (generator, ratio, arm, round(real_share, 3), classifier, seed, external)
        real = 0 if arm == "synthetic-only" else round(TRAIN * real_share) if train_real is None else train_real
        counts = {"train_real": real, "train_synthetic": round(TRAIN * real_share * ratio)}
        return self.put(
            "external" if external else "utility",
            split=split,
            scores=scored(auroc, split, run, own, self.classes),
            counts={**counts, "steps": 300, "tuning_trials": 1, "test": FILMS},
            arrays=predictions(auroc, split, run, own) if kept else None,
            notes=[f"external set: {external}"] if external else [],
            generator=generator,
            generator_seed=(seed if generator_seed is None else generator_seed) if generator else None,
            ratio=ratio,
            arm=arm,
            real_share=real_share,
            classifier=classifier,
            classifier_seed=seed,
            external=external * 8,
            external_data=external,
            **more,
        )

    def runs(
        self, auroc: float, generator: str | None = None, ratio: float | None = None, *, seeds: int = 3, **more
    ) -> list[Record]:
        """``run`` with several seeds."""
        return [self.run(auroc, generator, ratio, seed=seed, **more) for seed in range(seeds)]

    def fidelity(
        self,
        generator: str | None,
        values: Mapping[str, float],
        *,
        seed: int = 0,
        extractors: Iterable[str] = ("lite0",),
        n: int = 100,
        **more,
    ) -> Record:
        """A pool's fidelity, alike for all extractors; of held-out real films where there is no generator.

        Args:
            values: ``METRIC`` (of all classes) or ``CLASS/METRIC`` -> value; with ``EXTRACTOR:`` before it, only
                that extractor's.
        """
        scores = {}
        for extractor in extractors:
            for key, value in values.items():
                own, _, metric = key.rpartition(":")
                if own in ("", extractor):
                    scores[f"{extractor}/{metric if '/' in metric else f'all/{metric}'}"] = value
        return self.put(
            "fidelity",
            scores=scores,
            counts={f"n/{name}": n // len(self.classes) for name in self.classes} | {"n/all": n},
            generator=generator,
            generator_seed=seed if generator else None,
            extractors={name: EXTRACTORS[name] for name in extractors},
            pictures={("generated" if generator else "real"): _films(len(self.classes) * SHOWN)},
            **more,
        )

    def memorization(
        self,
        generator: str,
        copies: float | None = 0.01,
        held_out_copies: float = 0.01,
        *,
        seed: int = 0,
        **more,
    ) -> Record:
        """Of a pool: the shares of near-copies of training films, and of films that it must not know."""
        found = {**MEMORIZATION, "held_out_copies": held_out_copies, "held_out_copies_expected": 0.02}
        if copies is not None:
            found |= {"copies": copies, "copies_expected": 0.01, "copies_limit": 0.01}
        return self.put(
            "memorization",
            scores={f"all/{name}": value for name, value in found.items()},
            counts={"n/all": 100},
            generator=generator,
            generator_seed=seed,
            pictures={"suspicious": _films(2 * SHOWN).reshape(SHOWN, 2, 1, SIZE, SIZE)},
            **more,
        )

    def benchmark(
        self,
        aurocs: Mapping[str, float] | None = None,
        distances: Mapping[str, float] | None = None,
        copies: Mapping[str, float] | None = None,
        seeds: int = 3,
    ) -> None:
        """A sound run of one generator with all controls, but for what is given by the name of its generator."""
        self.runs(0.70, seeds=seeds)
        self.runs(0.60, real_share=FEW, seeds=seeds)
        for name, auroc in {**AUROCS, **(aurocs or {})}.items():
            self.runs(auroc, name, real_share=FEW if name == "oracle" else 1.0, seeds=seeds)
        self.fidelity(None, {"fid": 10.0, "fid_floor": 10.0, "fid_floor_sd": 0.5})
        for name, distance in {**DISTANCES, **(distances or {})}.items():
            for seed in range(seeds):
                self.fidelity(name, {"fid": distance, "fid_low": distance - 1, "fid_high": distance + 1}, seed=seed)
        for name, share in {**COPIES, **(copies or {})}.items():
            for seed in range(seeds):
                self.memorization(name, share, seed=seed)

    def section(self) -> Section:
        """The only one."""
        (found,) = sections(self.store)
        return found

    def analysis(self) -> Analysis:
        """Of the only section."""
        return analyse(self.section(), self.store)

    def page(self) -> str:
        """LEADERBOARD.md."""
        return write_report(self.store).read_text(encoding="utf-8")


def _films(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 1, SIZE, SIZE)).astype(np.uint8)


@pytest.fixture(autouse=True)
def unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores are not written through to the disk, which takes most of the time: none has to outlive a power cut."""
    monkeypatch.setattr("os.fsync", lambda file: None)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Results of every kind of trial, and what is written of them: drawn once, since pictures take seconds."""
    results = Results(tmp_path_factory.mktemp("rendered") / "results")
    results.classes = ("COVID/ARDS", "Normal|none")
    results.benchmark()
    results.runs(0.65, real_share=2 * FEW)
    results.runs(0.72, "classical")
    results.runs(0.78, "cgan", 0.5)
    results.runs(0.71, "cgan", 0.5, arm="copy-adjusted")
    results.runs(0.64, "cgan", arm="synthetic-only")
    results.runs(0.70, arm="longer")
    results.runs(0.95, "leaky")
    results.memorization("leaky", 0.01, 0.5)
    for generator, auroc in ((None, 0.60), ("cgan", 0.66)):
        results.runs(auroc, generator, external="there")
    for name, distance in (("dcgan", 40.0), ("leaky", 12.0)):
        values = {"fid": distance, "fid_low": distance - 1, "fid_high": distance + 1, "COVID/ARDS/fid": distance}
        results.fidelity(name, values, extractors=("lite0", "inception"))
    speed = {"step_seconds": 0.02, "images_per_second": 50.0, "peak_memory_bytes": 2.0**20}
    results.put("throughput", scores=speed, counts={"images_per_step": 1}, generator="cgan", environment="abacus")
    results.put("data", counts={"films": 1000, "groups": 500, "near_copy_pairs": 3}, notes=["split: patient"])
    results.run(0.0, "cgan", 2.0, kept=False, error="loss became\nnan | at step 3")
    results.run(0.5, "vae@old", started="2025-01-01")
    results.run(0.5, "vae@new", started="2026-01-01")
    results.page()
    return results


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Empty results."""
    return Results(tmp_path / "results")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages come without pictures, which take most of the time."""
    monkeypatch.setattr("cxrbench.report.figures.draw_figures", lambda analysis, store: {})
