"""Features of films, each film's extracted once: they are kept under its own content, whatever sets it is in.

Real films stand in the reference, among the held-out films and in what the floor is drawn from, controls give them
back, and the next run asks for them again.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from cxrbench.cache import Cache
from cxrbench.contracts import FeatureExtractor, Features, Images, Pixels, Rounded
from cxrbench.hashing import canonical_hash
from cxrbench.stages import Progress

STAGE = "film-features"
AT_ONCE = 500  # films that one query asks for; SQLite takes 999 at least
PATIENCE = 120.0  # seconds to wait for another process that writes


def extract_features(
    films: Images, extractor: FeatureExtractor, device: str, cache: Cache, progress: Progress
) -> Features:
    """float32 ``[N, dim]``: features of films; of those that the cache does not hold yet, they are extracted.

    Those of another device, precision or, on a CPU, number of threads are other features: they round otherwise.

    Raises:
        ValueError: the extractor returned NaN, infinity or the wrong shape.
    """
    kept = FilmFeatures(_place(extractor, device, cache), extractor.dim)
    digests = [_digest(film) for film in films.pixels]
    found = kept.read(digests)
    missing = {digest: row for row, digest in enumerate(digests) if digest not in found}
    if missing:
        rows = sorted(missing.values())
        # All of them as they are: a large set is mapped from the cache and need not be copied.
        pixels = films.pixels if len(rows) == len(films) else films.pixels[rows]
        features = _extract(extractor, pixels, device, progress)
        extracted = dict(zip((digests[row] for row in rows), features, strict=True))
        kept.add(extracted)
        found |= extracted
    if not digests:
        return np.empty((0, extractor.dim), np.float32)
    return np.stack([found[digest] for digest in digests])


def _extract(extractor: FeatureExtractor, pixels: Pixels, device: str, progress: Progress) -> Features:
    features = extractor.extract(pixels, device, progress)
    if features.shape != (len(pixels), extractor.dim) or not np.isfinite(features).all():
        raise ValueError(
            f"{extractor.name} returned features of shape {features.shape} or with NaN; "
            f"expected finite [{len(pixels)}, {extractor.dim}]"
        )
    return features.astype(np.float32, copy=False)


def _place(extractor: FeatureExtractor, device: str, cache: Cache) -> Path:
    """The file of this extractor's features, as this device computes them."""
    from torch import get_num_threads

    precision = extractor.precision if isinstance(extractor, Rounded) else "float32"
    rounding = [device, precision, get_num_threads() if device == "cpu" else 0]
    key = canonical_hash([extractor.name, extractor.weights_sha256(), *rounding])
    return cache.root / STAGE / f"{key}.sqlite"


def _digest(film: Pixels) -> bytes:
    """What a film ``[C, H, W]`` is known by."""
    digest = hashlib.blake2b(repr((film.shape, film.dtype.str)).encode(), digest_size=20)
    digest.update(film.tobytes())
    return digest.digest()


class FilmFeatures:
    """Rows of ``dim`` float32 by the digest of their film, in one SQLite file that several processes may share.

    It is disposable: a file that is damaged is begun anew, and a row whose checksum is wrong is not there.
    """

    def __init__(self, path: Path, dim: int) -> None:
        self.path = path
        self.dim = dim

    def read(self, digests: Sequence[bytes]) -> dict[bytes, Features]:
        """The rows that are there."""
        if not self.path.exists():
            return {}
        wanted, found = list(dict.fromkeys(digests)), dict[bytes, Features]()
        try:
            with self._open() as table:
                for start in range(0, len(wanted), AT_ONCE):
                    some = wanted[start : start + AT_ONCE]
                    marks = ", ".join("?" * len(some))
                    query = f"SELECT digest, row, checksum FROM films WHERE digest IN ({marks})"
                    for digest, row, checksum in table.execute(query, some):
                        if zlib.crc32(row) == checksum and len(row) == 4 * self.dim:
                            found[digest] = np.frombuffer(row, "<f4").astype(np.float32)
        except sqlite3.OperationalError:  # another process holds it, or the disk is full: not a reason to delete it
            raise
        except sqlite3.DatabaseError:
            self.path.unlink(missing_ok=True)
            return {}
        return found

    def add(self, rows: Mapping[bytes, Features]) -> None:
        """Keep rows; all of them or, where the process ends, none."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        packed = ((digest, row.astype("<f4").tobytes()) for digest, row in rows.items())
        with self._open() as table, table:
            table.executemany(
                "INSERT OR REPLACE INTO films VALUES (?, ?, ?)",
                ((digest, row, zlib.crc32(row)) for digest, row in packed),
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=PATIENCE)) as table:
            table.execute("CREATE TABLE IF NOT EXISTS films (digest BLOB PRIMARY KEY, row BLOB, checksum INTEGER)")
            yield table
