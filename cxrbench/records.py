"""Trials and their records: plain data, checked when read."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cxrbench.hashing import canonical_hash

TrialKind = Literal["data", "fidelity", "utility", "external", "throughput"]


class Status(StrEnum):
    """How a trial ended. Only ``ok`` counts as done; the others are tried again by the next run."""

    OK = "ok"
    FAILED = "failed"
    DIVERGED = "diverged"
    OOM = "oom"
    INTERRUPTED = "interrupted"


class PluginRef(BaseModel):
    """A plug-in as named in a trial: what it is called, and the hash of all that decides its behaviour."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["generator", "classifier"]
    params: dict[str, Any]
    identity: str  # sha256 of name, params and source


class Setting(BaseModel):
    """What all trials of a run share; only results of one setting may be compared.

    Attributes:
        data, tier: names for people; ``data_hash`` and ``spec_hash`` are the identities.
        split_key: identity of the split.
        split_by: how the films were divided, for people: ``split_key`` depends on it.
        clean: how the data were cleaned, for people: ``data_hash`` depends on it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    data_hash: str
    split_key: str
    spec_hash: str
    tier: str
    image_size: int
    split_by: str = "patient"  # what it was before there was a choice
    clean: str = "none"


class Trial(BaseModel):
    """One cell of the grid.

    Attributes:
        kind: what is measured: ``data`` (what was read and how it was split), ``fidelity`` (of a generator's
            pool; of held-out real films where the generator is None), ``utility`` (a classifier trained with
            a ratio of synthetic films; the baseline where the generator is None), ``external`` (the same
            classifier, scored on an external test set) or ``throughput`` (of a plug-in's train step).
        environment: device name for ``throughput``, whose result belongs to the machine; else empty.
        extractors: name -> weights sha256 for ``fidelity``; else empty.
        external: identity of the external films as they are loaded, for ``external``; else empty.
        external_data: their name, for people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: TrialKind
    setting: Setting
    generator: PluginRef | None = None
    generator_seed: int | None = None
    ratio: float | None = None
    classifier: PluginRef | None = None
    classifier_seed: int | None = None
    environment: str = ""
    extractors: dict[str, str] = Field(default_factory=dict)
    external: str = ""
    external_data: str = ""

    @property
    def key(self) -> str:
        """sha256 of everything that decides the result: names for people are left out."""
        names = {"data", "tier", "split_by", "clean"}
        content = self.model_dump(mode="json", exclude={"setting": names, "external_data": True})
        if not self.external:  # so trials of the other kinds keep the keys they had before there was this kind
            del content["external"]
        for plugin in ("generator", "classifier"):
            if content[plugin] is not None:
                content[plugin] = content[plugin]["identity"]
        return canonical_hash(content)

    def describe(self) -> str:
        """A short line for people."""
        if self.kind == "data":
            return f"data {self.setting.data}"
        if self.kind == "throughput":
            plugin = self.generator or self.classifier
            return f"throughput of {plugin.name if plugin else '?'}"
        if self.kind == "fidelity":
            who = self.generator.name if self.generator else "real held-out films"
            return f"fidelity of {who}" + (f", seed {self.generator_seed}" if self.generator else "")
        classifier = self.classifier.name if self.classifier else "?"
        where = f", on {self.external_data or 'external films'}" if self.kind == "external" else ""
        if self.generator is None:
            return f"{classifier} on real films, seed {self.classifier_seed}{where}"
        return f"{classifier} with {self.ratio:g} x {self.generator.name}, seed {self.classifier_seed}{where}"


class Record(BaseModel):
    """The result of one trial.

    Attributes:
        scores: metric key -> value. Fidelity keys are ``EXTRACTOR/CLASS/METRIC`` (``all`` for the pooled
            classes). A missing value is a missing key.
        counts: how many films the scores rest on.
        notes: facts in words, e.g. why an extractor was left out.
        provenance: command, machine, versions, device and seconds.
    """

    # A score that is not finite must not be written: JSON has no word for it.
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = 1
    key: str
    trial: Trial
    status: Status
    error: str | None = None
    classes: tuple[str, ...] = ()
    scores: dict[str, float] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)
    provenance: dict[str, Any] = Field(default_factory=dict)
