"""Any data set of TorchXRayVision, through the optional extra: ``pip install "cxrbench[xrv]"``.

Cohen et al., "TorchXRayVision: A library of chest X-ray datasets and models", MIDL 2022, arXiv:2111.00595;
https://github.com/mlmed/torchxrayvision. Each class of ``torchxrayvision.datasets`` knows its own layout and
gives films as float32 ``[1, H, W]`` in [-1024, 1024]; views and patients are limited as its defaults say
(often PA only, and one film per patient).
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrbench.contracts import Film, Listing
from cxrbench.datasets.files import check_classes, existing_folder, parse_age
from cxrbench.datasets.labels import NO_FINDING, class_of, declared_classes
from cxrbench.datasets.pixels import to_square
from cxrbench.errors import DataError, UnreadableFilm, UsageError


@dataclass
class XRV:
    """Films of one TorchXRayVision data set with one declared class among their labels.

    Args:
        dataset: the name of its class, e.g. ``NIH_Dataset``.
        imgpath: the folder of its images.
        csvpath: its table, where the library does not bring one.
        labels: the classes, separated by commas, of its ``pathologies``. A label that is unknown (NaN) counts
            as absent. ``No Finding`` also means a film on which all labels are 0, where the data set has no
            such label of its own.
    """

    dataset: str = ""
    imgpath: str = ""
    csvpath: str = ""
    labels: str = f"{NO_FINDING},Pneumonia"

    redistributable: ClassVar[bool] = False

    def classes(self) -> tuple[str, ...]:
        return declared_classes(self.labels)

    def listing(self) -> Listing:
        """List the films; each is decoded once, since its digest is the sha256 of its uint8 pixels: the library
        does not tell the names of all its files.

        Raises:
            UsageError: the library is not installed, or a parameter is wrong.
            DataError: it cannot open the data set, or a class has no film.
        """
        source = self._open()
        names = [str(name) for name in source.pathologies]
        classes = declared_classes(self.labels, (*names, *([] if NO_FINDING in names else [NO_FINDING])))
        values = np.asarray(source.labels, dtype=np.float32)
        if values.shape != (len(source.csv), len(names)):
            raise DataError(f"{self.dataset}: labels {values.shape} do not fit {len(source.csv)} rows of its table")
        wanted: list[tuple[int, int]] = []
        left_out: Counter[str] = Counter()
        for row, labels in enumerate(values):
            found = {name for name, value in zip(names, labels, strict=True) if value == 1}
            label = class_of(found or ({NO_FINDING} if not labels.any() else set()), classes)
            if isinstance(label, str):
                left_out[label] += 1
            else:
                wanted.append((row, label))
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            digests = list(pool.map(lambda pair: self._digest(pair[0]), wanted))
        films, quarantined = [], {}
        for (row, label), (digest, reason) in zip(wanted, digests, strict=True):
            if reason:
                quarantined[self._file(row)] = reason
            else:
                films.append(self._film(source, row, label, digest))
        return check_classes(existing_folder(self.imgpath, "imgpath"), classes, Listing(films, quarantined, left_out))

    def read(self, film: Film, size: int) -> NDArray[np.uint8]:
        """uint8 ``[size, size]``. Raises UnreadableFilm with the library's reason, or for a blank film."""
        return to_square(Image.fromarray(self._pixels(int(film.file.rpartition("/")[2]))), size)

    def _open(self) -> Any:
        """The library's data set; opened once for each set of parameters."""
        existing_folder(self.imgpath, "parameter imgpath")
        return _open(self.dataset, self.imgpath, self.csvpath)

    def _pixels(self, row: int) -> NDArray[np.uint8]:
        """uint8 ``[H, W]`` as the library reads it."""
        try:
            image = np.asarray(self._open()[row]["img"], dtype=np.float32)[0]
        except Exception as error:  # whatever the library's readers raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UnreadableFilm(f"torchxrayvision cannot read it: {reason}") from error
        if not np.isfinite(image).all():
            raise UnreadableFilm("has non-finite grey values")
        return np.clip(np.rint((image / 1024 + 1) * 127.5), 0, 255).astype(np.uint8)

    def _digest(self, row: int) -> tuple[str, str]:
        """The sha256 of a film's pixels and the reason why it has none; one of them is empty."""
        try:
            return hashlib.sha256(self._pixels(row).tobytes()).hexdigest(), ""
        except UnreadableFilm as error:
            return "", str(error)

    def _file(self, row: int) -> str:
        return f"{self.dataset}/{row:06d}"

    def _film(self, source: Any, row: int, label: int, digest: str) -> Film:
        def fact(column: str) -> str | None:
            text = str(source.csv[column].iloc[row]) if column in source.csv.columns else ""
            return None if text.strip().lower() in ("", "nan", "none", "unknown") else text.strip()

        sex = next((sex for sex, column in (("M", "sex_male"), ("F", "sex_female")) if fact(column) == "True"), None)
        return Film(
            self._file(row),
            label,
            digest,
            patient_id=fact("patientid"),
            source=self.dataset,
            view=fact("view"),
            age=parse_age(fact("age_years") or ""),
            sex=sex,
        )


@functools.lru_cache(maxsize=4)
def _open(dataset: str, imgpath: str, csvpath: str) -> Any:
    try:
        from torchxrayvision import datasets
    except ImportError as error:
        raise UsageError(f"data set 'xrv' needs torchxrayvision ({error}): pip install \"cxrbench[xrv]\"") from None
    known = sorted(name for name in vars(datasets) if name.endswith("_Dataset") and name != "Merge_Dataset")
    if dataset not in known:
        raise UsageError(f"dataset={dataset!r} is no data set of torchxrayvision; it has {', '.join(known)}")
    paths = {"imgpath": imgpath, **({"csvpath": csvpath} if csvpath else {})}
    try:
        return getattr(datasets, dataset)(**paths)
    except TypeError as error:
        raise UsageError(f"{dataset} does not take {' and '.join(paths)}: {error}") from None
    except Exception as error:
        raise DataError(f"torchxrayvision cannot open {dataset} in {imgpath}: {error}") from error
