"""The Kaggle COVID-19 Radiography Database layout: ``CLASS/images/*.png`` beside ``CLASS/masks``.

Chowdhury et al., "Can AI help in screening viral and COVID-19 pneumonia?", IEEE Access 8 (2020); Rahman
et al., Computers in Biology and Medicine 132 (2021);
https://www.kaggle.com/datasets/tawsifurrahman/covid19-radiography-database. The classes are the folders that
are there; Kaggle's are COVID, Lung_Opacity, Normal and Viral Pneumonia. Sources come from Kaggle's
``CLASS.metadata.xlsx``; an optional ``metadata.csv`` (``file,label,source,patient_id,...``) goes before them.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrbench.contracts import Film, Listing
from cxrbench.datasets.decode import opened
from cxrbench.datasets.files import (
    Entry,
    FileDataset,
    Metadata,
    check_classes,
    image_files,
    list_films,
    read_metadata,
)
from cxrbench.datasets.tables import read_rows, short_source


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
        known = {unicodedata.normalize("NFC", file): meta for file, meta in known.items()}
        sources = _kaggle_sources(root)
        entries = []
        for label, name in enumerate(names):
            for path in image_files(root / name / "images"):
                file = f"{name}/images/{path.name}"
                meta = known.pop(unicodedata.normalize("NFC", file), Metadata())
                meta = meta if meta.source else replace(meta, source=sources.get((_key(name), _key(path.stem))))
                if file not in refused:
                    entries.append(Entry(file, label, meta))
        refused |= dict.fromkeys(known, "named in metadata.csv, but not there")  # what no film has claimed
        return check_classes(root, names, list_films(root, entries, refused))

    def mask(self, film: Film, size: int) -> NDArray[np.uint8] | None:
        """The lungs of one film: uint8 ``[size, size]``, 255 inside and 0 outside; None where there is no mask.

        Raises:
            UnreadableFilm: the mask's file is no image.
        """
        name, _, file = film.file.split("/", 2)
        path = self.folder() / name / "masks" / f"{Path(file).stem}.png"
        if not path.is_file():
            return None
        with opened(path) as image:
            grey = image.convert("L").resize((size, size), Image.Resampling.NEAREST)
        return np.where(np.asarray(grey) >= 128, 255, 0).astype(np.uint8)


def _kaggle_sources(root: Path) -> dict[tuple[str, str], str | None]:
    """(class, name of the film) -> source, both as ``_key``; films that are not there do no harm."""
    return {
        (_key(path.name.removesuffix(".metadata.xlsx")), _key(row["FILE NAME"])): short_source(row["URL"])
        for path in sorted(root.glob("*.metadata.xlsx"))
        for _, row in read_rows(path, ("FILE NAME", "URL"))
    }


def _key(name: str) -> str:
    """Kaggle's tables say NORMAL-1 or Viral Pneumonia (7) for Normal-1.png and Viral Pneumonia-7.png."""
    return re.sub(r"[^0-9a-z]+", "-", name.casefold()).strip("-")
