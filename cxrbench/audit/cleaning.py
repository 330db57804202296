"""Take out of a data set what an audit found, by a policy that becomes part of the data's identity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from cxrbench.audit.audit import Audit
from cxrbench.audit.findings import removed_by
from cxrbench.errors import DataError
from cxrbench.records import REMOVED, Record, Status
from cxrbench.stages import DataIndex


def clean_index(index: DataIndex, audit: Audit, policy: str) -> DataIndex:
    """The data set without the films that ``policy`` removes.

    Raises:
        UsageError: there is no such policy.
        DataError: a class would lose all its films.
    """
    removed = removed_by(audit.findings, policy)
    listed = {film.file for film in index.films}
    cleaned = _without(index, {file: why for file, why in removed.items() if file in listed}, policy)
    for label, name in enumerate(index.classes):
        if not any(film.label == label for film in cleaned.films):
            raise DataError(f"--clean {policy} would remove every film of class {name!r}; look at the audit first")
    return cleaned


def clean_as_recorded(index: DataIndex, policy: str, records: Iterable[Record]) -> tuple[DataIndex, Record] | None:
    """The data set without the films that an earlier run removed, and the record that lists them.

    What an audit finds hangs on nets, and so on the arithmetic of a machine: whoever goes on with a run elsewhere, or
    runs a row again, must not come to other films.

    Returns:
        None where no record is of these films under this policy. Where several removed different films, those count
        that most other trials rest on.
    """
    known = [r for r in records if r.trial.setting.clean == policy and r.status is Status.OK]
    finished = Counter(record.trial.setting.data_hash for record in known)
    found: list[tuple[DataIndex, Record]] = []
    for record in known:
        if record.trial.kind == "data":
            cleaned = _without(index, _removed(record.notes, {film.file for film in index.films}), policy)
            if cleaned.hash == record.trial.setting.data_hash:  # else other films lie there today
                found.append((cleaned, record))
    return max(found, key=lambda each: finished[each[0].hash], default=None)


def _without(index: DataIndex, removed: Mapping[str, str], policy: str) -> DataIndex:
    kept = [film for film in index.films if film.file not in removed]
    return replace(index, films=kept, clean=policy, removed=removed)


def _removed(notes: Sequence[str], listed: set[str]) -> dict[str, str]:
    """File -> finding, of a data record's notes; a file's name may hold what stands between the two."""
    found = {}
    for note in notes:
        if note.startswith(REMOVED):
            parts = note.removeprefix(REMOVED).split(": ")
            for cut in range(len(parts) - 1, 0, -1):
                if (file := ": ".join(parts[:cut])) in listed:
                    found[file] = ": ".join(parts[cut:])
                    break
    return found
