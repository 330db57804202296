"""``results/``: one JSON per trial key, with the predictions beside it.

``records/`` is meant to be committed. ``private/`` holds pictures that show somebody's films; a
``.gitignore`` inside keeps them out of version control unless the data set may be redistributed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cxrbench.cache import write_atomically
from cxrbench.errors import UsageError
from cxrbench.records import Record, Status

Arrays = dict[str, NDArray]


class Store:
    """The records of one results folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records = root / "records"
        self.private = root / "private"

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            UsageError: they cannot be written.
        """
        try:
            self.records.mkdir(parents=True, exist_ok=True)
            self.private.mkdir(exist_ok=True)
            write_atomically(self.private / ".gitignore", b"*\n")
        except OSError as error:
            raise UsageError(
                f"results folder {self.root} cannot be written ({error.strerror}); choose another with --results"
            ) from None

    def get(self, key: str) -> Record | None:
        """The record of a key, or None. A record that cannot be read counts as absent."""
        path = self.records / f"{key}.json"
        try:
            record = Record.model_validate_json(path.read_bytes())
            return record if record.key == key else None
        except FileNotFoundError:
            return None
        except (OSError, ValidationError):  # torn or of another schema: the trial is run again
            return None

    def is_done(self, key: str) -> bool:
        """Has this trial ended well?"""
        record = self.get(key)
        return record is not None and record.status is Status.OK

    def put(self, record: Record, arrays: Arrays, pictures: Arrays, *, publish: bool) -> None:
        """Write a record; its arrays first, so that a record never names what is not there.

        Args:
            arrays: committed with the record (predictions).
            pictures: films for the sample grids; kept private unless ``publish``.
        """
        if arrays:
            write_atomically(self.records / f"{record.key}.npz", _packed(arrays))
        places = [folder / f"{record.key}.samples.npz" for folder in (self.records, self.private / "samples")]
        for place in places:
            place.unlink(missing_ok=True)
        if pictures:
            write_atomically(places[0] if publish else places[1], _packed(pictures))
        self.replace(record)

    def replace(self, record: Record) -> None:
        """Write a record's JSON alone; its arrays and pictures stay as they are."""
        write_atomically(self.records / f"{record.key}.json", record.model_dump_json(indent=1).encode())

    def arrays(self, key: str) -> Arrays:
        """The arrays of a record; empty where it has none."""
        return _unpacked(self.records / f"{key}.npz")

    def pictures(self, key: str) -> Arrays:
        """The sample films of a record; empty where this copy of the results has none."""
        return _unpacked(self.records / f"{key}.samples.npz") or _unpacked(
            self.private / "samples" / f"{key}.samples.npz"
        )

    def is_public(self, key: str) -> bool:
        """May the pictures of this record be published?"""
        return (self.records / f"{key}.samples.npz").is_file()

    def __iter__(self) -> Iterator[Record]:
        for path in sorted(self.records.glob("*.json")):
            record = self.get(path.stem)
            if record is not None:
                yield record


def _packed(arrays: Arrays) -> bytes:
    if any(array.dtype.hasobject for array in arrays.values()):
        raise ValueError("Object arrays cannot be saved: reading them back would unpickle")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _unpacked(path: Path) -> Arrays:
    try:
        content = path.read_bytes()  # at once: of a file, np.load asks for many small pieces
    except FileNotFoundError:
        return {}
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
