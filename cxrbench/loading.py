"""Decode every film of a data set once, at one size."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.cache import Cache
from cxrbench.contracts import Dataset, Film, Labels, Pixels
from cxrbench.duplicates import THUMBNAIL
from cxrbench.errors import UnreadableFilm


@dataclass(frozen=True)
class Decoded:
    """The films that could be read.

    Attributes:
        films: what is known of each, in the order of ``pixels``.
        pixels: uint8 ``[N, 1, size, size]``, mapped from the cache.
        thumbnails: uint8 ``[N, THUMBNAIL, THUMBNAIL]``, mapped from the cache.
        quarantined: file -> reason, of the films that could not be read.
        key: identity of the pixels.
    """

    films: list[Film]
    pixels: Pixels
    thumbnails: NDArray[np.uint8]
    quarantined: dict[str, str]
    key: str

    @property
    def labels(self) -> Labels:
        """int64 ``[N]``."""
        return np.asarray([film.label for film in self.films], dtype=np.int64)


def decode_films(
    dataset: Dataset, films: Sequence[Film], key: str, size: int, cache: Cache, progress: Callable[[int, int], None]
) -> Decoded:
    """Decode ``films``, or map what an earlier run decoded under ``key``."""
    folder = cache.get("load", key, lambda path: _decode_all(dataset, films, size, path, progress))
    facts = json.loads((folder / "facts.json").read_text())
    pixels, thumbnails = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("pixels", "thumbnails"))
    return Decoded([films[i] for i in facts["kept"]], pixels, thumbnails, facts["quarantined"], key)


def _decode_all(
    dataset: Dataset, films: Sequence[Film], size: int, folder: Path, progress: Callable[[int, int], None]
) -> None:
    count = len(films)
    pixels = np.lib.format.open_memmap(
        folder / "pixels.tmp.npy", mode="w+", dtype=np.uint8, shape=(count, 1, size, size)
    )
    thumbnails = np.empty((count, THUMBNAIL, THUMBNAIL), np.uint8)
    reasons: dict[int, str] = {}

    def decode(i: int) -> None:
        try:
            pixels[i, 0] = dataset.read(films[i], size)
            thumbnails[i] = pixels[i, 0] if size == THUMBNAIL else dataset.read(films[i], THUMBNAIL)
        except UnreadableFilm as error:
            reasons[i] = str(error)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(decode, range(count)), start=1):
            progress(done, count)
    kept = [i for i in range(count) if i not in reasons]
    if reasons:
        np.save(folder / "pixels.npy", pixels[kept])
        del pixels
        (folder / "pixels.tmp.npy").unlink()
    else:
        pixels.flush()
        del pixels
        (folder / "pixels.tmp.npy").rename(folder / "pixels.npy")
    np.save(folder / "thumbnails.npy", thumbnails[kept])
    quarantined = {films[i].file: reasons[i] for i in sorted(reasons)}
    (folder / "facts.json").write_text(json.dumps({"kept": kept, "quarantined": quarantined}))
