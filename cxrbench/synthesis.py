"""Fit a generator and sample its pool of films; both lie in the cache under their content's key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cxrbench.cache import MANIFEST, Cache
from cxrbench.contracts import AskedOnce, Generator, Images, Pixels, Reserved, RunContext
from cxrbench.hashing import canonical_hash, file_sha256
from cxrbench.spec import BenchSpec
from cxrbench.stages import LoadedData

SAMPLE_CHUNK = 64  # films sampled under one seed; a pool's prefix never depends on its length


@dataclass(frozen=True)
class Pool:
    """Synthetic films of one fitted generator, class after class; a prefix of each class is an arm."""

    images: Images
    key: str

    def prefix(self, counts: Mapping[int, int]) -> Images:
        """The first ``counts[label]`` films of each class."""
        rows = [np.flatnonzero(self.images.labels == label)[:count] for label, count in counts.items()]
        return self.images.subset(np.concatenate(rows).astype(np.int64))


def fit_key(identity: str, data: LoadedData, share: float, spec: BenchSpec, seed: int) -> str:
    """Identity of a fitted generator: plug-in, training films, budget and seed."""
    return canonical_hash([spec.version, identity, data.key, share, spec.generator_steps, seed])


def fit_generator(
    generator: Generator,
    key: str,
    data: LoadedData,
    share: float,
    ctx: RunContext,
    cache: Cache,
) -> tuple[Generator, str]:
    """Fit on a share of the training films, or load the checkpoint of an equal fit.

    A ``Reserved`` generator is handed the training films that are not in that share, too. The fit's working folder
    lies in the cache: a fit whose process was killed finds there what it left.

    Returns:
        The fitted generator, and the identity of its weights: a GPU does not repeat a fit bit by bit, so
        what is sampled from a checkpoint must be known by its content and not by how it was made.
    """

    def build(folder: Path) -> None:
        train, reserve = data.train_and_reserve(share)
        if isinstance(generator, Reserved):
            generator.keep(reserve)
        generator.fit(train, replace(ctx, workdir=cache.workdir("fit", key))).save(folder)

    folder = cache.get("fit", key, build)
    return generator.load(folder), canonical_hash([key, file_sha256(folder / MANIFEST)])


def synthesise(
    generator: Generator,
    key: str,
    data: LoadedData,
    counts: Mapping[int, int],
    ctx: RunContext,
    cache: Cache,
) -> Pool:
    """Sample ``counts[label]`` films of each class from a fitted generator.

    A longer pool begins with the shorter one (see ``sample_chunks``). The returned pool has identity ``key``
    whatever its length.

    Raises:
        ValueError: the generator returned something other than uint8 films of the right shape, or blank films.
    """

    def build(folder: Path) -> None:
        chunks = sample_chunks(generator, counts, data.images.classes, data.images.size, ctx)
        np.save(folder / "pixels.npy", np.concatenate([films for _, films in chunks]))

    pool_key = canonical_hash([key, sorted(counts.items()), sorted(_chunk_sizes(generator, counts).items())])
    pixels = np.load(cache.get("pool", pool_key, build) / "pixels.npy", mmap_mode="r")
    labels = np.repeat(np.fromiter(counts.keys(), np.int64), np.fromiter(counts.values(), np.int64))
    return Pool(Images(pixels, labels, data.images.classes), key)


def sample_chunks(
    generator: Generator, counts: Mapping[int, int], classes: tuple[str, ...], size: int, ctx: RunContext
) -> Iterator[tuple[int, Pixels]]:
    """Sample ``counts[label]`` films of ``size`` pixels of each class, class after class.

    Chunks of ``SAMPLE_CHUNK`` films of one class have a seed each, made of ``ctx.seed``, the label and the place of
    the chunk: films 1 to k of a class are the same whatever the count (those of an ``AskedOnce`` generator are so by
    themselves).

    Yields:
        A label, and uint8 ``[n, 1, size, size]`` films of it.

    Raises:
        ValueError: the generator returned something other than uint8 films of the right shape, or blank films.
    """
    sizes = _chunk_sizes(generator, counts)
    chunks = [(label, start) for label, count in counts.items() for start in range(0, count, sizes[label])]
    for number, (label, start) in enumerate(chunks):
        seed = int(canonical_hash([ctx.seed, label, start])[:8], 16)
        films = generator.sample(np.full(sizes[label], label, np.int64), _reseeded(ctx, seed))
        check_pixels(films, sizes[label], size)
        check_not_blank(films, classes[label])
        yield label, films[: counts[label] - start]
        ctx.progress(number + 1, len(chunks))


def _chunk_sizes(generator: Generator, counts: Mapping[int, int]) -> dict[int, int]:
    """Label -> films of it that are asked for at once."""
    at_once = isinstance(generator, AskedOnce) and generator.asked_once
    return {label: max(count, 1) if at_once else SAMPLE_CHUNK for label, count in counts.items()}


def check_pixels(films: Pixels, count: int, size: int) -> None:
    """Raises ValueError unless uint8 ``[count, 1, size, size]``."""
    if not isinstance(films, np.ndarray) or films.dtype != np.uint8 or films.shape != (count, 1, size, size):
        found = f"{getattr(films, 'dtype', type(films).__name__)} {getattr(films, 'shape', '')}"
        raise ValueError(f"sample must return uint8 [{count}, 1, {size}, {size}], got {found}")


def check_not_blank(films: Pixels, name: str) -> None:
    """Raises ValueError if a film of class ``name`` has the same value in every pixel: no measure means anything
    on such films."""
    flat = films.reshape(len(films), -1)
    blank = int((flat.min(axis=1) == flat.max(axis=1)).sum())
    if blank:
        raise ValueError(f"{blank} of {len(films)} films sampled for class {name!r} are blank (one value everywhere)")


def _reseeded(ctx: RunContext, seed: int) -> RunContext:
    return RunContext(seed, ctx.device, ctx.budget, ctx.workdir)
