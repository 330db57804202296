"""VinBigData's Kaggle competition: ``train/IMAGE_ID.dicom`` (or its PNG and JPEG re-issues) and ``train.csv``.

Nguyen et al., "VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations", Scientific Data 9
(2022), arXiv:2012.15029; https://www.kaggle.com/c/vinbigdata-chest-xray-abnormalities-detection. The test
films' labels are not public, so there is no official split; patients are not named, so each film is its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cxrbench.contracts import Listing
from cxrbench.datasets.files import FileDataset, Metadata
from cxrbench.datasets.labels import Claim, check_vocabulary, claimed_films, declared_classes
from cxrbench.datasets.tables import find_table, has_columns, read_rows

COLUMNS = ("image_id", "class_name", "rad_id")
FINDINGS = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Nodule/Mass",
    "Other lesion",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
    "No finding",
)
SUFFIXES = (".dicom", ".dcm", ".png", ".jpg", ".jpeg")  # the original goes before what was made of it


@dataclass
class VinBigData(FileDataset):
    """Films with one declared class among the labels that most of their radiologists agree on.

    A label counts when at least two of the radiologists who read the film gave it, or the only one did; one
    radiologist's boxes of one class count once.

    Args:
        root: the folder of ``train.csv``.
        labels: the classes, separated by commas.
    """

    labels: str = "No finding,Lung Opacity"

    @staticmethod
    def recognises(root: Path) -> bool:
        """Does the folder have this layout?"""
        return has_columns(root / "train.csv", COLUMNS)

    def classes(self) -> tuple[str, ...]:
        return declared_classes(self.labels, FINDINGS)

    def listing(self) -> Listing:
        """Raises UsageError for a missing folder or an unknown class; DataError for no table, an unknown label
        in it, or a class without films."""
        root, classes = self.folder(), self.classes()
        table = find_table(root, "train.csv")
        rows = read_rows(table, COLUMNS)
        check_vocabulary(((line, row["class_name"]) for line, row in rows), FINDINGS, table)
        readings: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for _, row in rows:
            readings[row["image_id"]][row["rad_id"]].add(row["class_name"])
        files = _stored(root / "train")
        claims = [
            Claim(files.get(image, f"train/{image}.dicom"), agreed(of_film.values()), Metadata(source="VinDr-CXR"))
            for image, of_film in readings.items()
        ]
        return claimed_films(root, claims, classes)


def agreed(readings: Iterable[set[str]]) -> frozenset[str]:
    """The labels that two radiologists gave, or the only one; ``readings`` has one set per radiologist."""
    sets = list(readings)
    votes = Counter(label for one in sets for label in one)
    return frozenset(label for label, count in votes.items() if count >= min(2, len(sets)))


def _stored(folder: Path) -> Mapping[str, str]:
    """Image id -> file below the root."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES] if folder.is_dir() else []
    files.sort(key=lambda path: SUFFIXES.index(path.suffix.lower()), reverse=True)
    return {path.stem: f"train/{path.name}" for path in files}
