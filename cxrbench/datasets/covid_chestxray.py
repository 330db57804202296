"""The COVID-19 image data collection: ``metadata.csv`` beside ``images``.

Cohen et al., "COVID-19 Image Data Collection: Prospective Predictions Are the Future", arXiv:2006.11988;
https://github.com/ieee8023/covid-chestxray-dataset. Frontal radiographs only: CT, lateral views and volumes
are left out. Films come from publications, so ``source`` is the place (``location``), or the host of ``url``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cxrbench.contracts import Listing
from cxrbench.datasets.files import FileDataset, Metadata, parse_age
from cxrbench.datasets.labels import Claim, claimed_films, declared_classes
from cxrbench.datasets.tables import Row, find_table, has_columns, read_rows, short_source
from cxrbench.errors import DataError

COLUMNS = ("patientid", "finding", "view", "modality", "filename")
FRONTAL = frozenset({"pa", "ap", "ap supine", "ap semi erect", "ap erect"})


@dataclass
class CovidChestXray(FileDataset):
    """Films whose finding, a path such as ``Pneumonia/Viral/COVID-19``, passes through one declared class.

    Args:
        root: the folder of ``metadata.csv``.
        labels: the classes, separated by commas; each a component of the findings. A film that passes through
            two of them (Pneumonia and COVID-19) is left out.
    """

    labels: str = "COVID-19,Bacterial"

    @staticmethod
    def recognises(root: Path) -> bool:
        """Does the folder have this layout?"""
        return has_columns(root / "metadata.csv", COLUMNS)

    def classes(self) -> tuple[str, ...]:
        return declared_classes(self.labels)

    def listing(self) -> Listing:
        """Raises UsageError for a missing folder; DataError for no table, or a class that no film has."""
        root, classes = self.folder(), self.classes()
        table = find_table(root, "metadata.csv")
        rows = read_rows(table, COLUMNS)
        found = {part for _, row in rows for part in _parts(row)}
        for name in classes:
            if name not in found:
                raise DataError(f"{table}: no film has the label {name!r}; there are {', '.join(sorted(found))}")
        left_out: Counter[str] = Counter()
        claims = []
        for line, row in rows:
            if not row["filename"]:
                raise DataError(f"{table}, line {line}: filename is empty")
            if row["modality"] != "X-ray":
                left_out[f"modality {row['modality'] or 'unknown'}"] += 1
            elif row["view"].lower() not in FRONTAL:
                left_out[f"view {row['view'] or 'unknown'}"] += 1
            else:
                claims.append(_claim(line, row))
        return claimed_films(root, claims, classes, left_out)


def _parts(row: Row) -> frozenset[str]:
    return frozenset(part.strip() for part in row["finding"].split("/") if part.strip())


def _claim(line: int, row: Row) -> Claim:
    meta = Metadata(
        patient_id=row["patientid"] or None,
        source=row.get("location") or short_source(row.get("url", "")),
        view=row["view"],
        age=parse_age(row.get("age", "")),
        sex=row.get("sex") or None,
    )
    return Claim(f"{row.get('folder') or 'images'}/{row['filename']}", _parts(row), meta, line)
