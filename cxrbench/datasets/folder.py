"""Films in one folder per class, or anywhere with a CSV that names them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Film
from cxrbench.datasets.files import (
    Metadata,
    check_classes,
    existing_folder,
    image_files,
    list_films,
    read_film,
    read_metadata,
)
from cxrbench.errors import DataError


@dataclass
class Folder:
    """``CLASS/*.png``, or a CSV with the columns file,label[,patient_id][,source].

    Args:
        root: the folder of the class folders, or the folder that holds ``metadata.csv``, or a CSV file.
            File names in a CSV are relative to the CSV.
    """

    root: str = ""

    redistributable: ClassVar[bool] = False

    def classes(self) -> tuple[str, ...]:
        table = self._table()
        if table:
            return tuple(sorted({str(meta.label) for meta in read_metadata(table, ("file", "label")).values()}))
        return tuple(sorted(p.name for p in self._root().iterdir() if p.is_dir() and not p.name.startswith(".")))

    def films(self) -> list[Film]:
        """Raises UsageError for a missing folder; DataError for an empty class, or a CSV that is malformed
        or names files that are not there."""
        root, names, table = self._root(), self.classes(), self._table()
        if table:
            rows = read_metadata(table, ("file", "label"))
            outside = [file for file in rows if not (root / file).resolve().is_relative_to(root.resolve())]
            if outside:
                raise DataError(f"{table} names {outside[0]}, which lies outside {root}; use paths relative to it")
            absent = [file for file in rows if not (root / file).is_file()]
            if absent:
                raise DataError(f"{table} names {len(absent)} files that do not exist, first {absent[0]}")
            label_of = {name: i for i, name in enumerate(names)}
            chosen = [(root / file, label_of[str(meta.label)], meta) for file, meta in rows.items()]
        else:
            chosen = [
                (path, label, Metadata()) for label, name in enumerate(names) for path in image_files(root / name)
            ]
        check_classes(root, names, [sum(row[1] == label for row in chosen) for label in range(len(names))])
        return list_films(root, chosen)

    def read(self, film: Film, size: int) -> NDArray[np.uint8]:
        return read_film(self._root(), film, size)

    def _table(self) -> Path | None:
        path = Path(self.root).expanduser()
        table = path if path.suffix.lower() == ".csv" else path / "metadata.csv"
        return table if table.is_file() else None

    def _root(self) -> Path:
        path = Path(self.root).expanduser()
        if path.suffix.lower() == ".csv" and path.is_file():
            return path.parent
        return existing_folder(self.root, "data set 'folder'")
