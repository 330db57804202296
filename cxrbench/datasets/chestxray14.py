"""NIH ChestX-ray14: ``Data_Entry_2017*.csv`` beside ``images`` or ``images_001/images`` to ``images_012/images``.

Wang et al., "ChestX-ray8", CVPR 2017, arXiv:1705.02315; https://nihcc.app.box.com/v/ChestXray-NIHCC. Labels
were mined from the reports' text. ``train_val_list.txt`` and ``test_list.txt`` give the official split, where
they are there; it parts no patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cxrbench.contracts import Listing
from cxrbench.datasets.files import FileDataset, Metadata, image_files, parse_age
from cxrbench.datasets.labels import (
    NIH_FINDINGS,
    NO_FINDING,
    Claim,
    check_vocabulary,
    claimed_films,
    declared_classes,
)
from cxrbench.datasets.tables import find_table, read_lines, read_rows

TABLE = "Data_Entry_2017*.csv"
COLUMNS = ("Image Index", "Finding Labels", "Patient ID")
KNOWN = (NO_FINDING, *NIH_FINDINGS)
LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}


@dataclass
class ChestXray14(FileDataset):
    """Films with one declared class among their labels; other labels beside it do not matter.

    Args:
        root: the folder of ``Data_Entry_2017*.csv``.
        labels: the classes, separated by commas, of the 14 findings and ``No Finding``.
    """

    labels: str = "No Finding,Pneumonia"

    @staticmethod
    def recognises(root: Path) -> bool:
        """Does the folder have this layout?"""
        return any(root.glob(TABLE))

    def classes(self) -> tuple[str, ...]:
        return declared_classes(self.labels, KNOWN)

    def listing(self) -> Listing:
        """Raises UsageError for a missing folder or an unknown class; DataError for no table, an unknown label
        in it, or a class without films."""
        root, classes = self.folder(), self.classes()
        table = find_table(root, TABLE)
        rows = [(line, row, row["Finding Labels"].split("|")) for line, row in read_rows(table, COLUMNS)]
        check_vocabulary(((line, label) for line, _, labels in rows for label in labels), KNOWN, table)
        files = {
            path.name: path.relative_to(root).as_posix()
            for folder in (root / "images", *sorted(root.glob("images_*/images")))
            if folder.is_dir()
            for path in image_files(folder)
        }
        split_of = {
            name: split
            for file, split in LISTS.items()
            if (root / file).is_file()
            for _, name in read_lines(root / file)
        }
        claims = []
        for line, row, labels in rows:
            name = row["Image Index"]
            meta = Metadata(
                patient_id=row["Patient ID"] or None,
                source="NIH ChestX-ray14",
                view=row.get("View Position") or None,
                age=parse_age(row.get("Patient Age", "")),
                sex=row.get("Patient Gender") or row.get("Patient Sex") or None,
                split=split_of.get(name),
            )
            claims.append(Claim(files.get(name, f"images/{name}"), frozenset(labels), meta, line))
        return claimed_films(root, claims, classes)
