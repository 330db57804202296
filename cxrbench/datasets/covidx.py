"""COVIDx CXR: lists of films (``train.txt``, ``test.txt``, ``val.txt``) beside folders of that name.

Wang, Lin and Wong, "COVID-Net", Scientific Reports 10 (2020); https://github.com/lindawangg/COVID-Net
(``docs/COVIDx.md``, ``labels``); https://www.kaggle.com/datasets/andyczhao/covidx-cxr2. A line is
``patient file class source`` (the first versions have no source). Patients are numbered by each source, so two
sources may use one id for two persons; they then count as one, which costs nothing but freedom at the split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cxrbench.contracts import Listing
from cxrbench.datasets.files import FileDataset, Metadata
from cxrbench.datasets.labels import Claim, check_vocabulary, claimed_films, declared_classes
from cxrbench.datasets.tables import read_lines
from cxrbench.errors import DataError, UsageError

# Two sets of labels: A of three classes, B of two.
CLASSES = ("normal", "pneumonia", "COVID-19", "negative", "positive")
LIST = re.compile(r"(train|val|test)(_split|_COVIDx.*)?\.txt", re.IGNORECASE)
SPELLINGS = {"rnsa": "rsna"}  # COVIDx 9 writes it both ways


@dataclass
class CovidX(FileDataset):
    """Films as the lists name them, with the official split.

    Args:
        root: the folder of the lists and of ``train`` and ``test``.
        version: which lists, where there are several: a part of their names, e.g. ``9A``.
        labels: the classes, separated by commas; without it those that the lists hold.
    """

    version: str = ""
    labels: str = ""

    @staticmethod
    def recognises(root: Path) -> bool:
        """Does the folder have this layout?"""
        names = [path for path in root.glob("*.txt") if LIST.fullmatch(path.name)]
        if not names or not any((root / split).is_dir() for split in ("train", "test")):
            return False
        try:
            first = next((_fields(text) for _, text in read_lines(names[0])), None)
        except DataError:
            return False
        return first is not None and first[2] in CLASSES

    def classes(self) -> tuple[str, ...]:
        if self.labels:
            return declared_classes(self.labels, CLASSES)
        found = {label for claim in self._claims(self.folder()) for label in claim.labels}
        return tuple(name for name in CLASSES if name in found)

    def listing(self) -> Listing:
        """Raises UsageError for a missing folder, an unknown class or several versions; DataError for no list, a
        malformed line, an unknown label, or a class without films."""
        root = self.folder()
        return claimed_films(root, self._claims(root), self.classes())

    def _claims(self, root: Path) -> Iterator[Claim]:
        for split, path in self._lists(root).items():
            rows = []
            for line, text in read_lines(path):
                fields = _fields(text)
                if fields is None:
                    raise DataError(f"{path}, line {line}: {text[:60]!r} is not 'patient file class source'")
                rows.append((line, *fields))
            check_vocabulary(((line, label) for line, _, _, label, _ in rows), CLASSES, path)
            for line, patient, file, label, source in rows:
                meta = Metadata(patient_id=patient, source=SPELLINGS.get(source, source) or None, split=split)
                yield Claim(f"{split}/{file}", frozenset({label}), meta, line)

    def _lists(self, root: Path) -> dict[str, Path]:
        lists: dict[str, Path] = {}
        for path in sorted(root.glob("*.txt")):
            name = LIST.fullmatch(path.name)
            if name and self.version.lower() in path.name.lower():
                other = lists.setdefault(name[1].lower(), path)
                if other != path:
                    raise UsageError(f"{root} has both {other.name} and {path.name}; choose with version=..., e.g. 9A")
        if not lists:
            raise DataError(f"{root} has no train.txt or test.txt (version {self.version or 'any'}); is it COVIDx?")
        return lists


def _fields(text: str) -> tuple[str, str, str, str] | None:
    """Patient, file, class and source of one line, from the right: an old patient id such as ``COVID 1`` has a
    space in it. None for a line of fewer than three fields."""
    words = text.split()
    if len(words) < 3:
        return None
    tail = 2 if words[-1] in CLASSES or len(words) == 3 else 3  # how many words follow the patient
    file, label, *source = words[-tail:]
    return " ".join(words[:-tail]), file, label, source[0] if source else ""
