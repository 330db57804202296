"""Trials and their records: plain data, checked when read."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cxrbench.contracts import Role
from cxrbench.hashing import canonical_hash

TrialKind = Literal["data", "fidelity", "memorization", "utility", "external", "throughput"]
ROW_DIGITS = 10
REMOVED = "removed: "  # before a file and the finding that it was removed for, in the notes of a data record
Arm = Literal["augment", "synthetic-only", "copy-adjusted", "longer"]


class Status(StrEnum):
    """How a trial ended. Only ``ok`` counts as done; the others are tried again by the next run."""

    OK = "ok"
    FAILED = "failed"
    DIVERGED = "diverged"
    OOM = "oom"
    INTERRUPTED = "interrupted"


class PluginRef(BaseModel):
    """A plug-in as named in a trial: what it is called, and the hash of all that decides its behaviour.

    Attributes:
        control: its role, where it is a control.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["generator", "classifier"]
    params: dict[str, Any]
    identity: str  # sha256 of name, params and source
    control: Role | None = None


class ExtractorRef(BaseModel):
    """A feature extractor as named in a trial.

    Attributes:
        weights: sha256; the identity.
        fd_label, kd_label, resize: for people: what its distances are called, and how a film reaches the net.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str
    fd_label: str
    kd_label: str
    resize: str


class Setting(BaseModel):
    """What all trials of a run share; only results of one setting may be compared.

    Attributes:
        data, tier: names for people; ``data_hash`` and ``spec_hash`` are the identities.
        split_seed: of the shuffle that makes the split; runs with several splits are compared.
        split_key: identity of the split.
        split_by: how the films were divided, for people: ``split_key`` depends on it.
        clean: how the data were cleaned, for people: ``data_hash`` depends on it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    data_hash: str
    split_seed: int
    split_key: str
    spec_hash: str
    tier: str
    image_size: int
    split_by: str = "patient"
    clean: str = "none"


class Trial(BaseModel):
    """One cell of the grid.

    Attributes:
        kind: what is measured: ``data`` (what was read and how it was split), ``fidelity`` (of a generator's
            pool; of held-out real films, and the real-vs-real floor, where the generator is None),
            ``memorization`` (does the pool copy real films?), ``utility`` (a classifier trained with a ratio of
            synthetic films; on real films alone where the generator is None), ``external`` (the same classifier,
            scored on an external test set) or ``throughput`` (of a plug-in's train step).
        arm: what a classifier is trained on: ``augment`` (real and synthetic films), ``synthetic-only`` (TSTR:
            train on synthetic, test on real), ``copy-adjusted`` (as augment, without the synthetic films that are
            near-copies of training films) or ``longer`` (real films alone, with a larger budget).
        real_share: share of the training films that generator and classifier are given.
        environment: device name for ``throughput``, whose result belongs to the machine; else empty.
        extractors: by name, for ``fidelity``; else empty.
        external: identity of the external films as they are loaded, for ``external``; else empty.
        external_data: their name, for people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: TrialKind
    setting: Setting
    generator: PluginRef | None = None
    generator_seed: int | None = None
    ratio: float | None = None
    arm: Arm = "augment"
    real_share: float = 1.0
    classifier: PluginRef | None = None
    classifier_seed: int | None = None
    environment: str = ""
    extractors: dict[str, ExtractorRef] = Field(default_factory=dict)
    external: str = ""
    external_data: str = ""

    @property
    def key(self) -> str:
        """sha256 of everything that decides the result: names for people are left out."""
        return canonical_hash(self._content())

    @property
    def row(self) -> str:
        """Identity of the table row this trial is a repetition of: the key without seeds and split, shortened."""
        content = self._content()
        for seed in ("generator_seed", "classifier_seed"):
            del content[seed]
        for split in ("split_seed", "split_key"):
            del content["setting"][split]
        return canonical_hash(content)[:ROW_DIGITS]

    def _content(self) -> dict[str, Any]:
        names = {"data", "tier", "split_by", "clean"}
        content = self.model_dump(mode="json", exclude={"setting": names, "external_data": True})
        content["extractors"] = {name: extractor.weights for name, extractor in self.extractors.items()}
        for plugin in ("generator", "classifier"):
            if content[plugin] is not None:
                content[plugin] = content[plugin]["identity"]
        return content

    def describe(self) -> str:
        """A short line for people."""
        if self.kind == "data":
            return f"data {self.setting.data}"
        if self.kind == "throughput":
            plugin = self.generator or self.classifier
            return f"throughput of {plugin.name if plugin else '?'}"
        if self.kind in ("fidelity", "memorization"):
            who = self.generator.name if self.generator else "real held-out films"
            return f"{self.kind} of {who}" + (f", seed {self.generator_seed}" if self.generator else "")
        classifier = self.classifier.name if self.classifier else "?"
        where = f", on {self.external_data or 'external films'}" if self.kind == "external" else ""
        films = "real films" if self.real_share == 1 else f"{self.real_share:.0%} of the real films"
        if self.arm == "synthetic-only" and self.generator:
            return f"{classifier} on {self.generator.name} alone, seed {self.classifier_seed}{where}"
        how = "" if self.arm == "augment" else f" ({self.arm})"
        added = f" with {self.ratio:g} x {self.generator.name}" if self.generator else ""
        return f"{classifier} on {films}{added}{how}, seed {self.classifier_seed}{where}"


class Record(BaseModel):
    """The result of one trial.

    Attributes:
        scores: metric key -> value. Fidelity keys are ``EXTRACTOR/CLASS/METRIC`` (``all`` for the pooled
            classes). A missing value is a missing key.
        counts: how many films the scores rest on.
        notes: facts in words, e.g. why an extractor was left out.
        provenance: command, what it asked for (``request``), machine, versions, device and seconds.
    """

    # A score that is not finite must not be written: JSON has no word for it.
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    schema_version: Literal[2] = 2
    key: str
    trial: Trial
    status: Status
    error: str | None = None
    classes: tuple[str, ...] = ()
    scores: dict[str, float] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)
    provenance: dict[str, Any] = Field(default_factory=dict)
