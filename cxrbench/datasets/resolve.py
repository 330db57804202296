"""``--data``: a registered name (with parameters) or a path."""

from __future__ import annotations

from pathlib import Path

from cxrbench.contracts import Dataset
from cxrbench.datasets.radiography import Radiography
from cxrbench.errors import UsageError
from cxrbench.registry import DATASETS


def resolve_dataset(text: str) -> tuple[str, Dataset]:
    """Find the data set that ``text`` means.

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
    layout = "radiography" if path.is_dir() and Radiography.recognises(path) else "folder"
    return path.resolve().name, DATASETS.create(layout, root=str(path))
