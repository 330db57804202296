"""The Kaggle COVID-19 Radiography Database layout: ``CLASS/images/*.png`` beside ``CLASS/masks``.

Chowdhury et al., "Can AI help in screening viral and COVID-19 pneumonia?", IEEE Access 8 (2020); Rahman
et al., Computers in Biology and Medicine 132 (2021). Masks are ignored. An optional ``metadata.csv``
(``file,label,source,patient_id``) adds patients and sources.
"""

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


@dataclass
class Radiography:
    """One folder per class with an ``images`` folder inside.

    Args:
        root: the folder that holds the class folders.
    """

    root: str = ""

    redistributable: ClassVar[bool] = False

    @staticmethod
    def recognises(root: Path) -> bool:
        """Does the folder have this layout?"""
        return any(path.is_dir() for path in root.glob("*/images"))

    def classes(self) -> tuple[str, ...]:
        return tuple(sorted(path.parent.name for path in self._root().glob("*/images") if path.is_dir()))

    def films(self) -> list[Film]:
        """Raises UsageError for a missing folder, DataError for an empty class or bad metadata."""
        root = self._root()
        known = read_metadata(root / "metadata.csv") if (root / "metadata.csv").is_file() else {}
        names = self.classes()
        folders = [image_files(root / name / "images") for name in names]
        check_classes(root, names, [len(paths) for paths in folders])
        return list_films(
            root,
            [
                (path, label, known.get(path.relative_to(root).as_posix(), Metadata()))
                for label, paths in enumerate(folders)
                for path in paths
            ],
        )

    def read(self, film: Film, size: int) -> NDArray[np.uint8]:
        return read_film(self._root(), film, size)

    def _root(self) -> Path:
        return existing_folder(self.root, "data set 'radiography'")
