"""The Kaggle COVID-19 Radiography Database layout: ``CLASS/images/*.png`` beside ``CLASS/masks``.

Chowdhury et al., "Can AI help in screening viral and COVID-19 pneumonia?", IEEE Access 8 (2020); Rahman
et al., Computers in Biology and Medicine 132 (2021). Masks are ignored. An optional ``metadata.csv``
(``file,label,source,patient_id``) adds patients and sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cxrbench.contracts import Listing
from cxrbench.datasets.files import (
    Entry,
    FileDataset,
    Metadata,
    check_classes,
    image_files,
    list_films,
    read_metadata,
)


@dataclass
class Radiography(FileDataset):
    """One folder per class with an ``images`` folder inside.

    Args:
        root: the folder that holds the class folders.
    """

    @staticmethod
    def recognises(root: Path) -> bool:
        """Does the folder have this layout?"""
        return any(path.is_dir() for path in root.glob("*/images"))

    def classes(self) -> tuple[str, ...]:
        return tuple(sorted(path.parent.name for path in self.folder().glob("*/images") if path.is_dir()))

    def listing(self) -> Listing:
        """Raises UsageError for a missing folder, DataError for an empty class or bad metadata."""
        root, names = self.folder(), self.classes()
        known, refused = read_metadata(root / "metadata.csv") if (root / "metadata.csv").is_file() else ({}, {})
        files = [
            (f"{name}/images/{path.name}", label)
            for label, name in enumerate(names)
            for path in image_files(root / name / "images")
        ]
        entries = [Entry(file, label, known.get(file, Metadata())) for file, label in files if file not in refused]
        return check_classes(root, names, list_films(root, entries, refused))
