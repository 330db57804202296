"""Kermany's paediatric chest X-rays: ``{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg``.

Kermany et al., "Identifying Medical Diagnoses and Treatable Diseases by Image-Based Deep Learning", Cell 172
(2018); https://data.mendeley.com/datasets/rscbjbr9sj; as ``chest_xray`` on Kaggle, where the official
validation folder holds 16 films only. The archive's ``__MACOSX`` is ignored and its second copy,
``chest_xray/chest_xray``, is read only where the first is missing.

Patients come from the file names: ``person1_virus_6`` is patient person1_virus, since virus and bacteria are
numbered apart. With the kind, none of the 428 patients in test stands in train; without it 170 would, and 979
children would have had both (counted over the 5,840 names of train and test). Normal films such as
``IM-0115-0001`` are of patient IM-0115.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cxrbench.contracts import Listing
from cxrbench.datasets.files import SPLITS, FileDataset, Metadata, image_files
from cxrbench.datasets.labels import Claim, claimed_films, declared_classes
from cxrbench.errors import DataError

FOLDERS = ("NORMAL", "PNEUMONIA")
KINDS = ("bacteria", "virus")
SICK = re.compile(r"(person\d+_(bacteria|virus))(?:_\d+)+", re.IGNORECASE)
NORMAL = re.compile(r"((?:NORMAL\d*-)?IM-\d+)(?:-\d+)+", re.IGNORECASE)
NUMBERED = re.compile(r"(NORMAL|BACTERIA|VIRUS)-(\d+)(?:-\d+)+", re.IGNORECASE)  # of another version of the set


@dataclass
class Kermany(FileDataset):
    """Normal films against pneumonia, or against bacterial and viral pneumonia.

    Args:
        root: the folder of ``train`` and ``test``, or of the ``chest_xray`` that holds them.
        labels: the classes, separated by commas, of NORMAL, PNEUMONIA, bacteria and virus. The last two come
            from the file name; a film that is of two declared classes (PNEUMONIA and virus) is left out.
    """

    labels: str = "NORMAL,PNEUMONIA"

    @staticmethod
    def recognises(root: Path) -> bool:
        """Does the folder have this layout?"""
        return _inner(root) is not None

    def classes(self) -> tuple[str, ...]:
        return declared_classes(self.labels, FOLDERS + KINDS)

    def listing(self) -> Listing:
        """Raises UsageError for a missing folder or an unknown class; DataError for a class without films."""
        root, classes = self.folder(), self.classes()
        inner = _inner(root)
        if inner is None:
            raise DataError(f"{root} has no train/NORMAL and train/PNEUMONIA; is this the right folder?")
        claims = []
        for split in ("train", "val", "test"):
            for name in FOLDERS:
                folder = inner / split / name
                for path in image_files(folder) if folder.is_dir() else []:
                    patient, kind = parse_name(path.stem)
                    meta = Metadata(patient_id=patient, source="Guangzhou", split=SPLITS[split])
                    file = path.relative_to(root).as_posix()
                    claims.append(
                        Claim(file, frozenset({name, kind} if kind and name == "PNEUMONIA" else {name}), meta)
                    )
        return claimed_films(root, claims, classes)


def parse_name(stem: str) -> tuple[str | None, str | None]:
    """Patient and kind (``bacteria``, ``virus`` or None) from a file's name without its suffix.

    ``person1_virus_6`` is patient person1_virus; ``IM-0115-0001`` is IM-0115 and ``NORMAL2-IM-1427-0001`` is
    NORMAL2-IM-1427; ``VIRUS-1008087-0001`` is 1008087. Both are None for any other name.
    """
    if sick := SICK.fullmatch(stem):
        return sick[1].lower(), sick[2].lower()
    if numbered := NUMBERED.fullmatch(stem):
        kind = numbered[1].lower()
        return numbered[2], kind if kind in KINDS else None
    normal = NORMAL.fullmatch(stem)
    return (normal[1].upper(), None) if normal else (None, None)


def _inner(root: Path) -> Path | None:
    """The folder that holds ``train``, at most two ``chest_xray`` below ``root``."""
    places = (root, root / "chest_xray", root / "chest_xray" / "chest_xray")
    return next((p for p in places if all((p / "train" / name).is_dir() for name in FOLDERS)), None)
