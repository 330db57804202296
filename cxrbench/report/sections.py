"""Records -> sections. A section holds the records that may be compared: same data, same spec."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cxrbench.records import ExtractorRef, Record, Status, Trial


@dataclass(frozen=True)
class Section:
    """Comparable records.

    Attributes:
        records: those that ended ``ok``, the newest of each plug-in's versions.
        failures: the trials that did not end ``ok``.
        superseded: records of older versions of a plug-in, kept but not shown.
    """

    data: str
    tier: str
    data_hash: str
    spec_hash: str
    records: list[Record]
    failures: list[Record]
    superseded: int

    @property
    def slug(self) -> str:
        """A folder name that tells sections apart."""
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in self.data)
        return f"{safe}-{self.tier}-{self.data_hash[:6]}{self.spec_hash[:6]}"

    @property
    def classes(self) -> tuple[str, ...]:
        return next((record.classes for record in self.records if record.classes), ())

    @property
    def split_by(self) -> str:
        """How the films were divided."""
        return (self.records or self.failures)[0].trial.setting.split_by

    @property
    def splits(self) -> int:
        """How many splits of the data were run."""
        return len({record.trial.setting.split_seed for record in self.records})

    @property
    def extractors(self) -> dict[str, ExtractorRef]:
        """Every extractor that measured something, as it was last."""
        return {name: e for r in newest_first(self.of("fidelity"))[::-1] for name, e in r.trial.extractors.items()}

    def of(self, kind: str) -> list[Record]:
        """The records of one kind of trial."""
        return [record for record in self.records if record.trial.kind == kind]


def sections(records: Iterable[Record]) -> list[Section]:
    """Sort records into comparable sections, by data set and tier."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        setting = record.trial.setting
        groups.setdefault((setting.data_hash, setting.spec_hash), []).append(record)
    found = []
    for (data_hash, spec_hash), group in groups.items():
        current = _newest_versions(group)
        found.append(
            Section(
                group[0].trial.setting.data,
                group[0].trial.setting.tier,
                data_hash,
                spec_hash,
                [record for record in current if record.status is Status.OK],
                [record for record in current if record.status is not Status.OK],
                len(group) - len(current),
            )
        )
    return sorted(found, key=lambda s: (s.data, s.tier, s.spec_hash))


def newest_first(records: Iterable[Record]) -> list[Record]:
    """By the time they were measured."""
    return sorted(records, key=_started, reverse=True)


def _newest_versions(records: list[Record]) -> list[Record]:
    """Drop records that rest on a version of a plug-in, or of the way to split, that a newer one has replaced.

    Only a trial that ended well replaces an older version; a failure is shown if nothing newer went well.
    """
    newest: dict[tuple[str, str], tuple[str, str]] = {}
    for record in records:
        if record.status is Status.OK:
            for what, identity in _versions(record.trial):
                newest[what] = max(newest.get(what, ("", "")), (_started(record), identity))

    def is_current(record: Record) -> bool:
        versions = [(newest.get(what, ("", identity)), identity) for what, identity in _versions(record.trial)]
        if all(known[1] == identity for known, identity in versions):
            return True
        return record.status is not Status.OK and all(_started(record) > known[0] for known, _ in versions)

    return [record for record in records if is_current(record)]


def _started(record: Record) -> str:
    return str(record.provenance.get("started", ""))


def _versions(trial: Trial) -> list[tuple[tuple[str, str], str]]:
    """What has versions, by kind and name, and the version this trial rests on."""
    plugins = [plugin for plugin in (trial.generator, trial.classifier) if plugin is not None]
    found = [((plugin.kind, plugin.name), plugin.identity) for plugin in plugins]
    return [*found, (("split", str(trial.setting.split_seed)), trial.setting.split_key)]
