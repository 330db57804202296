"""From the labels a data set gives a film to one declared class, or a reason why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrbench.contracts import Listing
from cxrbench.datasets.files import Entry, Metadata, check_classes, list_films
from cxrbench.errors import DataError, UsageError

NO_FINDING = "No Finding"
# ChestX-ray14's findings in the order of the columns of ChestMNIST, which is made of it.
NIH_FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)


@dataclass(frozen=True)
class Claim:
    """What a data set says of one file; ``line`` is where it says so (0: in the file's own name)."""

    file: str
    labels: frozenset[str]
    meta: Metadata
    line: int = 0


def declared_classes(text: str, known: Collection[str] = ()) -> tuple[str, ...]:
    """The class set in a parameter such as ``No Finding,Pneumonia``, in its order.

    Raises:
        UsageError: empty, a class twice, or one that is not among ``known`` (where that is not empty).
    """
    names = tuple(name.strip() for name in text.split(","))
    if "" in names or len(set(names)) < len(names):
        raise UsageError(f"labels={text!r} must name each class once, separated by commas")
    strange = [name for name in names if known and name not in known]
    if strange:
        raise UsageError(f"labels={text!r}: {strange[0]!r} is no label of this data set; it has {', '.join(known)}")
    return names


def check_vocabulary(found: Iterable[tuple[int, str]], known: Collection[str], path: Path) -> None:
    """Raises DataError where the (line, label) pairs ``found`` in ``path`` hold labels outside ``known``."""
    strange = [(line, label) for line, label in found if label not in known]
    if strange:
        names = sorted({label for _, label in strange})
        shown = ", ".join(map(repr, names[:5])) + (" ..." if len(names) > 5 else "")
        raise DataError(
            f"{path}, line {strange[0][0]}: {len(names)} unknown label(s) in {len(strange)} place(s): {shown}; "
            f"the data set's labels are {', '.join(known)}"
        )


def class_of(labels: Collection[str], classes: Sequence[str]) -> int | str:
    """The index of the one declared class among ``labels``; the reason where there is none or are several."""
    found = [index for index, name in enumerate(classes) if name in labels]
    if len(found) == 1:
        return found[0]
    return f"labelled with {'several' if found else 'none'} of the classes {', '.join(classes)}"


def claimed_films(
    root: Path, claims: Iterable[Claim], classes: Sequence[str], left_out: Mapping[str, int] | None = None
) -> Listing:
    """The films of the declared classes.

    A file that is claimed twice counts once; where the two claims differ it is quarantined.

    Raises:
        DataError: a class without films.
    """
    first: dict[str, Claim] = {}
    quarantined: dict[str, str] = {}
    for claim in claims:
        other = first.setdefault(claim.file, claim)
        if (other.labels, other.meta) != (claim.labels, claim.meta):
            quarantined[claim.file] = f"listed twice with different facts (line {claim.line}); keep one line"
    entries = []
    reasons = Counter(left_out or {})
    for file, claim in first.items():
        if file in quarantined:
            continue
        if file.startswith("/") or ".." in Path(file).parts:
            quarantined[file] = "lies outside the data set's folder"
            continue
        label = class_of(claim.labels, classes)
        if isinstance(label, str):
            reasons[label] += 1
        else:
            entries.append(Entry(file, label, claim.meta))
    return check_classes(root, classes, list_films(root, entries, quarantined, reasons))
