"""MedMNIST's chest X-rays: one ``.npz`` file, ``pneumoniamnist*.npz`` or ``chestmnist*.npz``.

Yang et al., "MedMNIST v2", Scientific Data 10 (2023), arXiv:2110.14795; https://medmnist.com. Films are 28, 64,
128 or 224 pixels wide. PneumoniaMNIST is made of Kermany's films and ChestMNIST of ChestX-ray14's; neither
names patients. The whole file is held in memory: 5.6 GB for ``chestmnist_224.npz``.
"""

from __future__ import annotations

import functools
import hashlib
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrbench.contracts import Film, Listing
from cxrbench.datasets.files import check_classes
from cxrbench.datasets.labels import NIH_FINDINGS, NO_FINDING, class_of, declared_classes
from cxrbench.datasets.pixels import to_square
from cxrbench.errors import DataError, UsageError

SPLITS = ("train", "val", "test")
Arrays = Mapping[str, NDArray[Any]]


_LOADING = threading.Lock()


@dataclass
class MedMNIST:
    """Films of one MedMNIST file, with its official split.

    Args:
        root: the ``.npz`` file, named as published.
        labels: the classes, separated by commas. PneumoniaMNIST has normal and pneumonia (the default);
            ChestMNIST the 14 findings of ChestX-ray14 and ``No Finding``, which is a row of zeros (the default
            is No Finding against Pneumonia). A film with two declared classes is left out.
    """

    root: str = ""
    labels: str = ""

    redistributable: ClassVar[bool] = False

    @staticmethod
    def recognises(root: Path) -> bool:
        """Is the path such a file?"""
        return root.suffix.lower() == ".npz" and root.is_file()

    def classes(self) -> tuple[str, ...]:
        if self._multi_label():
            return declared_classes(self.labels or f"{NO_FINDING},Pneumonia", (NO_FINDING, *NIH_FINDINGS))
        return declared_classes(self.labels or "normal,pneumonia", ("normal", "pneumonia"))

    def listing(self) -> Listing:
        """Raises UsageError for a missing file or an unknown class; DataError for a file that is not as published
        or a class without films. A film's digest is the sha256 of its pixels' bytes."""
        path, classes = self._path(), self.classes()
        arrays = self._arrays()
        films: list[Film] = []
        left_out: Counter[str] = Counter()
        for split in SPLITS:
            pixels, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
            for row in range(len(pixels)):
                label = class_of(self._names(labels[row], path), classes)
                if isinstance(label, str):
                    left_out[label] += 1
                else:
                    digest = hashlib.sha256(pixels[row].tobytes()).hexdigest()
                    films.append(Film(f"{split}/{row:06d}", label, digest, split=split))
        return check_classes(path, classes, Listing(films, left_out=dict(left_out)))

    def read(self, film: Film, size: int) -> NDArray[np.uint8]:
        """uint8 ``[size, size]``. Raises UnreadableFilm for a blank one."""
        return to_square(Image.fromarray(self._stored(film)), size)

    def dimensions(self, film: Film) -> tuple[int, int]:
        """Width and height of the stored film in pixels."""
        height, width = self._stored(film).shape
        return width, height

    def _stored(self, film: Film) -> NDArray[np.uint8]:
        split, row = film.file.split("/")
        stored: NDArray[np.uint8] = self._arrays()[f"{split}_images"][int(row)]
        return stored

    def _names(self, labels: NDArray[Any], path: Path) -> frozenset[str]:
        if self._multi_label():
            return frozenset(np.asarray(NIH_FINDINGS)[labels == 1].tolist()) or frozenset({NO_FINDING})
        if labels[0] not in (0, 1):
            raise DataError(f"{path} holds the label {labels[0]}; PneumoniaMNIST has 0 (normal) and 1 (pneumonia)")
        return frozenset({("normal", "pneumonia")[int(labels[0])]})

    def _path(self) -> Path:
        if not self.root:
            raise UsageError("data set 'medmnist' needs a file: --data PATH.npz")
        path = Path(self.root).expanduser()
        if not path.is_file():
            raise UsageError(f"data path {path} {'is no file' if path.exists() else 'does not exist'}")
        if not path.name.lower().startswith(("pneumoniamnist", "chestmnist")):
            raise UsageError(f"{path.name} is no pneumoniamnist*.npz or chestmnist*.npz; name it as published")
        return path

    def _multi_label(self) -> bool:
        return self._path().name.lower().startswith("chest")

    def _arrays(self) -> Arrays:
        path = self._path()
        found = path.stat()
        with _LOADING:  # or every decoding thread would load the file for itself
            return _load(path, len(NIH_FINDINGS) if self._multi_label() else 1, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=2)  # a data set and an external one
def _load(path: Path, columns: int, size: int, changed: int) -> Arrays:
    """All arrays of the file, checked; ``size`` and ``changed`` only tell one state of the file from another."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {
                name: stored[name] for name in (f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels"))
            }
    except KeyError as error:
        raise DataError(f"{path} is no MedMNIST file: {error.args[0]}") from None
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as an .npz file: {error}; download it again") from None
    for split in SPLITS:
        pixels, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if pixels.dtype != np.uint8 or pixels.ndim != 3:
            raise DataError(f"{path}: {split}_images is {pixels.dtype} {list(pixels.shape)}, not uint8 [N, H, W]")
        if labels.shape != (len(pixels), columns):
            raise DataError(f"{path}: {split}_labels is {list(labels.shape)}, not [{len(pixels)}, {columns}]")
    return arrays
