"""Take out of a data set what an audit found, by a policy that becomes part of the data's identity."""

from __future__ import annotations

from dataclasses import replace

from cxrbench.audit.audit import Audit
from cxrbench.audit.findings import removed_by
from cxrbench.errors import DataError
from cxrbench.stages import DataIndex


def clean_index(index: DataIndex, audit: Audit, policy: str) -> DataIndex:
    """The data set without the films that ``policy`` removes.

    Raises:
        UsageError: there is no such policy.
        DataError: a class would lose all its films.
    """
    removed = removed_by(audit.findings, policy)
    listed = {film.file for film in index.films}
    removed = {file: why for file, why in removed.items() if file in listed}
    kept = [film for film in index.films if film.file not in removed]
    for label, name in enumerate(index.classes):
        if not any(film.label == label for film in kept):
            raise DataError(f"--clean {policy} would remove every film of class {name!r}; look at the audit first")
    return replace(index, films=kept, clean=policy, removed=removed)
