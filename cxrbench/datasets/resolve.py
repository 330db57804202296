"""``--data``: a registered name (with parameters) or a path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cxrbench.contracts import Dataset
from cxrbench.datasets.chestxray14 import ChestXray14
from cxrbench.datasets.covid_chestxray import CovidChestXray
from cxrbench.datasets.covidx import CovidX
from cxrbench.datasets.kermany import Kermany
from cxrbench.datasets.medmnist import MedMNIST
from cxrbench.datasets.radiography import Radiography
from cxrbench.datasets.vinbigdata import VinBigData
from cxrbench.errors import UsageError
from cxrbench.registry import DATASETS

# The first that recognises a path wins; what none recognises is a ``folder``. Those with a table of their own
# come first: ChestX-ray14's images_001/images would pass for a class of ``radiography``.
LAYOUTS: Mapping[str, Callable[[Path], bool]] = {
    "medmnist": MedMNIST.recognises,
    "chestxray14": ChestXray14.recognises,
    "vinbigdata": VinBigData.recognises,
    "covid-chestxray": CovidChestXray.recognises,
    "covidx": CovidX.recognises,
    "kermany": Kermany.recognises,
    "radiography": Radiography.recognises,
}


def resolve_dataset(text: str) -> tuple[str, Dataset]:
    """Find the data set that ``text`` means: a name, or a path whose layout is recognised (see ``LAYOUTS``).

    Returns:
        The name to print, and the data set.

    Raises:
        UsageError: neither a known name nor an existing path.
    """
    if text.partition(":")[0] in DATASETS.names() and not Path(text).exists():
        return DATASETS.parse(text)
    if not text.strip():
        raise UsageError("--data is empty; give a folder or a name that `cxrbench list` shows")
    path = Path(text).expanduser()
    if not path.exists():
        looks_like_path = "/" in text or text.startswith((".", "~"))
        if not looks_like_path:
            DATASETS.get(text.partition(":")[0])  # raises with the nearest names
        raise UsageError(f"data path {path} does not exist")
    layout = next((name for name, recognises in LAYOUTS.items() if recognises(path)), "folder")
    return path.resolve().name, DATASETS.create(layout, root=str(path))
