"""Near-copies among films: candidates by a learned descriptor, confirmed by registration and correlation.

All chest films look alike, so a general perceptual hash either misses cropped copies or joins strangers. Here
the set's own films say which differences mean nothing: some are changed as copies are (cropped, relit, turned
by a degree or two), and a linear discriminant finds the directions in which films differ most while those
changes matter least. A copy's original is then nearly always among a film's nearest few. Only those are looked
at closely: one film is registered onto the other by an affine warp (Lucas and Kanade 1981), and the two must
agree in their finest structure, which strangers do not share however alike their chests are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

THUMBNAIL = 64  # pixels; near-copies are sought among thumbnails of this size
FREQUENCIES = 10  # per axis; the discriminant sees the lowest 10 x 10 of a thumbnail's spectrum
DIRECTIONS = 32  # length of the descriptor
TEACHERS = 1600  # changed films the metric is learned from; a small set's films are changed several times over
NEIGHBOURS = 6  # candidates per film and symmetry
REACH = 1.5  # candidates lie within this multiple of the squared distance that 99 % of the changed copies keep
BLOCK = 512  # rows handled at a time
COARSE_AGREEMENT = 0.45  # below it at half size, a candidate is given up
PATCHES = 8  # per axis; the fine structure is compared patch by patch
AGREEMENT = 0.75  # of three quarters of the patches of two registered thumbnails; strangers on real films reach 0.65

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Symmetry:
    """One of the sixteen ways a copy may be turned: transposed, then mirrored along each axis, then inverted."""

    name: str
    transpose: bool = False
    up_down: bool = False
    left_right: bool = False
    inverted: bool = False

    def apply(self, films: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 ``[N, T, T]`` to the same."""
        if self.transpose:
            films = films.swapaxes(1, 2)
        films = films[:, :: -1 if self.up_down else 1, :: -1 if self.left_right else 1]
        return 255 - films if self.inverted else films

    def apply_to_spectrum(self, spectrum: Floats) -> Floats:
        """The same on DCT coefficients ``[N, F, F]``: a mirror image changes the sign of the odd ones."""
        odd = np.where(np.arange(spectrum.shape[1]) % 2, -1.0, 1.0).astype(np.float32)
        if self.transpose:
            spectrum = spectrum.swapaxes(1, 2)
        if self.up_down:
            spectrum = spectrum * odd[:, None]
        if self.left_right:
            spectrum = spectrum * odd
        return -spectrum if self.inverted else spectrum


_TURNS = (
    Symmetry("unturned"),
    Symmetry("mirrored", left_right=True),
    Symmetry("mirrored upside down", up_down=True),
    Symmetry("upside down", up_down=True, left_right=True),
    Symmetry("transposed", transpose=True),
    Symmetry("turned clockwise", transpose=True, left_right=True),
    Symmetry("turned anticlockwise", transpose=True, up_down=True),
    Symmetry("transposed upside down", transpose=True, up_down=True, left_right=True),
)
SYMMETRIES = _TURNS + tuple(
    Symmetry(f"{turn.name}, inverted", turn.transpose, turn.up_down, turn.left_right, True) for turn in _TURNS
)


@dataclass(frozen=True)
class Copies:
    """Confirmed near-copies.

    Attributes:
        pairs: int64 ``[P, 2]``, rows i < j.
        symmetry: int64 ``[P]``, which of ``SYMMETRIES``, applied to film j, makes it look like film i.
        agreement: float32 ``[P]``, see ``agreements``; at least ``AGREEMENT``.
    """

    pairs: NDArray[np.int64]
    symmetry: NDArray[np.int64]
    agreement: Floats


def find_copies(thumbnails: NDArray[np.uint8]) -> Copies:
    """Near-copies among ``thumbnails`` (uint8 ``[N, T, T]``, T a multiple of 4; ``THUMBNAIL`` is meant).

    Found are films that were recompressed, resized, relit, cropped by up to about 5 % a side, turned by up to
    about 3 degrees, turned by a multiple of 90 degrees, mirrored or inverted, and any of these together.
    Comparing descriptors is quadratic, but in one matrix product per block of films.
    """
    n = len(thumbnails)
    if n < 2:
        return Copies(np.empty((0, 2), np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    spectrum = _spectrum(thumbnails)
    projection, radius = _learn_metric(thumbnails, spectrum)
    plain = _project(spectrum, projection)
    centre = plain.mean(axis=0)  # taken from both sides of every distance, which only spares rounding
    plain -= centre
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for number, symmetry in enumerate(SYMMETRIES):
        turned = _project(symmetry.apply_to_spectrum(spectrum), projection)
        candidates = np.concatenate([*_neighbours(plain, turned - centre, radius), np.empty((0, 2), np.int64)])
        for start in range(0, len(candidates), BLOCK):
            i, j = candidates[start : start + BLOCK].T
            agreement = agreements(thumbnails[i], symmetry.apply(thumbnails[j]))
            for at in np.flatnonzero(agreement >= AGREEMENT):
                pair, found = (int(i[at]), int(j[at])), (float(agreement[at]), number)
                best[pair] = max(best.get(pair, (0.0, 0)), found)
    order = sorted(best)
    return Copies(
        np.asarray(order, np.int64).reshape(-1, 2),
        np.asarray([best[pair][1] for pair in order], np.int64),
        np.asarray([best[pair][0] for pair in order], np.float32),
    )


def near_copies(thumbnails: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The pairs of ``find_copies`` alone."""
    return find_copies(thumbnails).pairs


def _spectrum(thumbnails: NDArray[np.uint8]) -> Floats:
    """Lowest DCT coefficients ``[N, F, F]`` of films of mean 0 and length 1, so that lighting drops out."""
    from scipy.fft import dctn

    parts = []
    for start in range(0, len(thumbnails), BLOCK):
        films = thumbnails[start : start + BLOCK].astype(np.float32)
        films -= films.mean(axis=(1, 2), keepdims=True)
        films /= np.maximum(np.linalg.norm(films, axis=(1, 2), keepdims=True), 1e-3)
        parts.append(dctn(films, axes=(1, 2), norm="ortho")[:, :FREQUENCIES, :FREQUENCIES])
    return np.concatenate(parts).astype(np.float32)


def _learn_metric(thumbnails: NDArray[np.uint8], spectrum: Floats) -> tuple[Floats, float]:
    """Fisher's discriminant: within a class are a film and its changed copies.

    Returns:
        The projection, float32 ``[F * F, directions]``, and the squared radius of the candidates.
    """
    from scipy.linalg import eigh

    rng = np.random.default_rng(0)
    rows = np.resize(rng.permutation(len(thumbnails)), TEACHERS)
    change = (_spectrum(_changed(thumbnails[rows], rng)) - spectrum[rows]).reshape(len(rows), -1)
    flat = spectrum.reshape(len(spectrum), -1)
    within = change.T @ change / len(change)
    within += (1e-3 * np.trace(within) / len(within) + 1e-9) * np.eye(len(within), dtype=np.float32)
    _, vectors = eigh(np.cov(flat.T), within)
    projection = vectors[:, ::-1][:, :DIRECTIONS].astype(np.float32)
    kept = ((change @ projection) ** 2).sum(axis=1)
    return projection, REACH * float(np.quantile(kept, 0.99))


def _changed(films: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Each film cropped, turned a little and relit, as copies are."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    n = len(films)
    angle = np.deg2rad(rng.uniform(-2.0, 2.0, n))
    low, high = rng.uniform(-1.0, -0.9, (2, n)), rng.uniform(0.9, 1.0, (2, n))  # what is left of each axis
    theta = np.zeros((n, 2, 3), np.float32)
    scale, shift = (high - low) / 2, (high + low) / 2
    theta[:, 0] = np.stack([scale[0] * np.cos(angle), -np.sin(angle), shift[0]], axis=1)
    theta[:, 1] = np.stack([np.sin(angle), scale[1] * np.cos(angle), shift[1]], axis=1)
    grid = affine_grid(torch.from_numpy(theta), [n, 1, *films.shape[1:]], align_corners=False)
    source = torch.from_numpy(films.astype(np.float32) / 255)[:, None]
    cropped = grid_sample(source, grid, padding_mode="border", align_corners=False)[:, 0].numpy()
    gamma, gain, offset = (rng.uniform(*limits, (n, 1, 1)) for limits in ((0.7, 1.4), (0.75, 1.15), (-0.1, 0.1)))
    return (np.clip(cropped**gamma * gain + offset, 0, 1) * 255).astype(np.uint8)


def _project(spectrum: Floats, projection: Floats) -> Floats:
    return np.ascontiguousarray(spectrum).reshape(len(spectrum), -1) @ projection


def _neighbours(plain: Floats, turned: Floats, radius: float) -> Iterator[NDArray[np.int64]]:
    """Pairs i < j whose descriptors lie within ``radius`` (squared), the nearest few of each i."""
    n = len(plain)
    squares = (turned**2).sum(axis=1)
    for start in range(0, n, BLOCK):
        rows = plain[start : start + BLOCK]
        distance = squares[None, start:] - 2 * (rows @ turned[start:].T)
        limit = radius - (rows**2).sum(axis=1)
        i, j = np.nonzero(distance <= limit[:, None])
        i, j = i[j > i], j[j > i]
        order = np.lexsort((distance[i, j], i))
        i, j = i[order], j[order]
        first = np.searchsorted(i, i)  # where each film's candidates begin
        near = np.arange(len(i)) - first < NEIGHBOURS
        yield np.stack([i[near], j[near]], axis=1).astype(np.int64) + start


def agreements(films: NDArray[np.uint8], others: NDArray[np.uint8]) -> Floats:
    """How far two films share their finest structure once the other is laid onto the first.

    Args:
        films, others: uint8 ``[P, T, T]``, T a multiple of 4.

    Returns:
        float32 ``[P]``: the correlation of fine structure that three quarters of the patches with any structure
        reach. Strangers agree where a strong edge crosses both, copies agree everywhere; so neither a black
        border nor a lead letter can decide. -1 where two films part already at half size.
    """
    import torch

    fixed = [torch.from_numpy(np.ascontiguousarray(films)).float()]
    moving = [torch.from_numpy(np.ascontiguousarray(others)).float()]
    for _ in range(2):
        fixed.insert(0, torch.nn.functional.avg_pool2d(fixed[0], 2))
        moving.insert(0, torch.nn.functional.avg_pool2d(moving[0], 2))
    kept = torch.arange(len(films))
    theta = torch.eye(2, 3).repeat(len(films), 1, 1)
    found = torch.full((len(films),), -1.0)
    with torch.inference_mode():
        for level, (steps, narrow, wide) in enumerate(((8, 0.6, 4.0), (8, 0.8, 4.0), (5, 0.8, 3.0))):
            one, other = fixed[level][kept], moving[level][kept]
            theta = _register(_band(one, narrow, wide), _band(other, narrow, wide), theta, steps)
            if level == 0:
                continue
            if level == 2:
                found[kept] = _patchwise(*_overlay(_band(one, 0.5, 1.5), _band(other, 0.5, 1.5), theta))
                break
            near = _correlation(*_overlay(_band(one, 0.4, 1.0), _band(other, 0.4, 1.0), theta)) >= COARSE_AGREEMENT
            kept, theta = kept[near], theta[near]
            if not len(kept):
                break
    return np.asarray(found.numpy(), np.float32)


def _register(fixed: torch.Tensor, moving: torch.Tensor, theta: torch.Tensor, steps: int) -> torch.Tensor:
    """Affine warps (``[P, 2, 3]`` in the [-1, 1] frame) that lay ``moving`` onto ``fixed``: Lucas and Kanade's
    Gauss-Newton steps on films standardised over what they share, so that lighting plays no part."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    count, side, _ = fixed.shape
    axis = (torch.arange(side) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    slope_y, slope_x = (torch.gradient(moving, dim=d)[0] * side / 2 for d in (1, 2))
    layers = torch.stack([moving, slope_x, slope_y], dim=1)
    still = torch.eye(2, 3)
    for _ in range(steps):
        grid = affine_grid(theta, [count, 1, side, side], align_corners=False)
        value, along_x, along_y = grid_sample(layers, grid, align_corners=False).unbind(dim=1)
        shared = (grid.abs() < 1).all(dim=-1).float()
        mean, spread = _moments(fixed, shared)
        other_mean, other_spread = _moments(value, shared)
        residual = ((fixed - mean) / spread - (value - other_mean) / other_spread) * shared
        along_x, along_y = along_x / other_spread * shared, along_y / other_spread * shared
        jacobian = torch.stack([along_x * x, along_x * y, along_x, along_y * x, along_y * y, along_y], dim=1).flatten(2)
        normal = jacobian @ jacobian.transpose(1, 2)
        normal = normal + torch.diag_embed(0.01 * normal.diagonal(dim1=1, dim2=2) + 1e-3)  # Levenberg's damping
        step = torch.linalg.solve(normal, jacobian @ residual.flatten(1)[:, :, None])
        theta = still + (theta + step.view(count, 2, 3) - still).clamp(-0.2, 0.2)
    return theta


def _overlay(
    fixed: torch.Tensor, moving: torch.Tensor, theta: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``fixed`` and the warped ``moving``, values limited, and where both have pixels."""
    from torch.nn.functional import affine_grid, grid_sample

    count, side, _ = fixed.shape
    grid = affine_grid(theta, [count, 1, side, side], align_corners=False)
    warped = grid_sample(moving[:, None], grid, align_corners=False)[:, 0]
    shared = (grid.abs() < 0.97).all(dim=-1).float()
    return _limited(fixed, shared), _limited(warped, shared), shared


def _correlation(one: torch.Tensor, other: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
    """Correlation ``[P]`` over the shared pixels."""
    (mean, spread), (other_mean, other_spread) = _moments(one, shared), _moments(other, shared)
    product = (one - mean) / spread * (other - other_mean) / other_spread * shared
    return product.sum(dim=(1, 2)) / shared.sum(dim=(1, 2)).clamp(min=1)


def _patchwise(one: torch.Tensor, other: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
    """Lower quartile ``[P]`` of the correlations of patches that both films have and that hold structure."""
    import torch

    side = one.shape[1] // PATCHES

    def patches(films: torch.Tensor) -> torch.Tensor:
        cut = films[:, : side * PATCHES, : side * PATCHES].reshape(len(films), PATCHES, side, PATCHES, side)
        return cut.transpose(2, 3).reshape(len(films), PATCHES**2, side * side)

    a, b = (patches(films * shared) for films in (one, other))
    a, b = a - a.mean(dim=2, keepdim=True), b - b.mean(dim=2, keepdim=True)
    power, other_power = (a**2).sum(dim=2), (b**2).sum(dim=2)
    correlation = (a * b).sum(dim=2) / (power * other_power).sqrt().clamp(min=1e-3)
    telling = patches(shared).mean(dim=2) > 0.8
    for energy in (power, other_power):
        telling &= energy > 0.1 * energy.mean(dim=1, keepdim=True)
    quartile = torch.where(telling, correlation, torch.nan).nanquantile(0.25, dim=1)
    return torch.where(telling.sum(dim=1) >= PATCHES, quartile, -1.0)


def _limited(film: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
    """Values beyond twice the mean magnitude are cut off there."""
    import torch

    most = 2 * (film.abs() * shared).sum(dim=(1, 2), keepdim=True) / shared.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    return torch.maximum(torch.minimum(film, most), -most)


def _moments(film: torch.Tensor, shared: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation over the shared pixels, ``[P, 1, 1]`` each."""
    count = shared.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    mean = (film * shared).sum(dim=(1, 2), keepdim=True) / count
    spread = (((film - mean) ** 2 * shared).sum(dim=(1, 2), keepdim=True) / count).sqrt()
    return mean, spread + 1e-4


def _band(films: torch.Tensor, narrow: float, wide: float) -> torch.Tensor:
    """Difference of two Gaussian blurs (sigmas in pixels) of ``[P, T, T]``."""
    return _blur(films, narrow) - _blur(films, wide)


def _blur(films: torch.Tensor, sigma: float) -> torch.Tensor:
    import torch
    from torch.nn.functional import conv2d, pad

    reach = int(3 * sigma + 0.5)
    kernel = torch.exp(-((torch.arange(-reach, reach + 1).float() / sigma) ** 2) / 2)
    kernel = kernel / kernel.sum()
    padded = pad(films[:, None], (reach,) * 4, mode="replicate")
    return conv2d(conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[:, 0]
