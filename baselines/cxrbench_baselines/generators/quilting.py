"""Fine films from coarse ones, with detail cut from real films: nothing is learned.

Detail is what a film has beyond its coarse version. The film is divided into pieces that overlap; each gets the
detail, at the same place, of the real film whose coarse version fits there and whose detail continues that of the
pieces before it (Freeman, Jones & Pasztor, "Example-based super-resolution", IEEE CG&A 2002; Efros & Freeman, "Image
quilting for texture synthesis and transfer", SIGGRAPH 2001). Chest films are all taken alike, so only one place needs
to be searched (Ma, Zhang & Qi, "Hallucinating face by position-patch", Pattern Recognition 2010).

Every piece comes from another film. Left free, the search takes nearly all of a film's pieces from one real film,
since nothing continues a film as well as itself: its detail would be a copy, which a measure of whole films does not
notice because the grey levels below it are new.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cxrbench_baselines.batches import to_signed

OVERLAP = 1 / 8  # of the film's side, between neighbouring pieces
AROUND = 2  # coarse pixels around a piece that are compared, too
MOST_PIECES = 8  # along a side; narrower ones would be all overlap
FILMS_AT_ONCE = 256  # all at once may fill the memory


def enlarged(coarse: Tensor, size: int) -> Tensor:
    """Coarse films ``[B, 1, h, h]`` at ``size`` pixels."""
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)


@dataclass(frozen=True)
class Span:
    """Where a piece lies along one side of a film: pixels ``start`` to ``stop``."""

    start: int
    stop: int


def spans(size: int, pieces: int) -> list[Span]:
    """A side of ``size`` pixels in equal parts, each lengthened by half the overlap at its inner ends."""
    cuts = [round(size * number / pieces) for number in range(pieces + 1)]
    half = max(round(size * OVERLAP / 2), 1)
    return [Span(max(a - half, 0), min(b + half, size)) for a, b in itertools.pairwise(cuts)]


@dataclass(frozen=True)
class Library:
    """Real films of one class to take detail from.

    Attributes:
        coarse: float ``[N, h, h]`` in [-1, 1].
        detail: float ``[N, size, size]``: what the films have beyond their coarse versions.
    """

    coarse: Tensor
    detail: Tensor


def library(films: Tensor, side: int) -> Library:
    """Cut the detail off films uint8 ``[N, 1, size, size]``, of which coarse versions have ``side`` pixels.

    ``size`` is a multiple of ``side``.
    """
    size = films.shape[-1]
    coarse = torch.empty(len(films), side, side, device=films.device)
    detail = torch.empty(len(films), size, size, device=films.device)
    for rows in torch.arange(len(films)).split(FILMS_AT_ONCE):
        some = to_signed(films[rows])
        shrunk = F.avg_pool2d(some, size // side)
        coarse[rows], detail[rows] = shrunk[:, 0], (some - enlarged(shrunk, size))[:, 0]
    return Library(coarse, detail)


def quilted(coarse: Tensor, real: Library, pieces: int, agreement: float, banned: Tensor | None = None) -> Tensor:
    """Coarse films with the detail of real films of the same class.

    Args:
        coarse: ``[B, 1, h, h]`` in about [-1, 1].
        real: with films of h pixels.
        pieces: along each side; a film gets ``pieces**2``, all of different films.
        agreement: weight of the squared difference where pieces overlap, against that of the coarse films.
        banned: int64 ``[B]``, a film that row i must take nothing from; None where there is none.

    Returns:
        ``[B, 1, size, size]``.

    Raises:
        ValueError: fewer films than are needed.
    """
    count, size = len(real.detail), real.detail.shape[-1]
    needed = films_needed(pieces) - (banned is None)
    if count < needed:
        raise ValueError(f"{needed} films are needed for {pieces} x {pieces} pieces, there are {count}")
    parts = []
    for rows in torch.arange(len(coarse), device=coarse.device).split(FILMS_AT_ONCE):
        used = torch.zeros(len(rows), count, dtype=torch.bool, device=coarse.device)
        if banned is not None:
            used[torch.arange(len(rows)), banned[rows]] = True
        sewn = _sewn(coarse[rows, 0], real, used, pieces, agreement)
        parts.append(enlarged(coarse[rows], size) + sewn[:, None])
    return torch.cat(parts)


def films_needed(pieces: int) -> int:
    """Real films that a class must have: one for each piece, and one that may be banned."""
    return pieces**2 + 1


def _sewn(coarse: Tensor, real: Library, used: Tensor, pieces: int, agreement: float) -> Tensor:
    """Detail ``[B, size, size]`` for coarse films ``[B, h, h]``; marks in ``used`` what was taken from."""
    detail, size, side = real.detail, real.detail.shape[-1], coarse.shape[-1]
    sewn = torch.zeros(len(coarse), size, size, device=detail.device)
    filled = torch.zeros(size, size, dtype=torch.bool, device=detail.device)
    each = torch.arange(len(coarse), device=detail.device)
    for down in spans(size, pieces):
        for across in spans(size, pieces):
            place = (slice(None), slice(down.start, down.stop), slice(across.start, across.stop))
            seen = (slice(None), _around(down, size // side, side), _around(across, size // side, side))
            cost = _distances(_centred(coarse[seen]), _centred(real.coarse[seen]))
            before, offered, there = sewn[place], detail[place], filled[place[1:]]
            if there.any():
                cost = cost + agreement * _distances(before[:, there], offered[:, there])
            chosen = cost.masked_fill(used, math.inf).argmin(dim=1)
            used[each, chosen] = True
            share = _fade(down, size, detail.device)[:, None] * _fade(across, size, detail.device)
            share = torch.where(there, share, 1.0)
            # Details of two films are as good as uncorrelated: these weights keep their power, a + b = 1 would not.
            sewn[place] = (1 - share**2).sqrt() * before + share * offered[chosen]
            filled[place[1:]] = True
    return sewn


def _around(span: Span, factor: int, side: int) -> slice:
    """The coarse pixels that a piece is compared in."""
    return slice(max(span.start // factor - AROUND, 0), min(-(-span.stop // factor) + AROUND, side))


def _centred(films: Tensor) -> Tensor:
    """``[B, h, w]`` to ``[B, h * w]`` without their means: how bright a piece is does not matter for its detail."""
    flat = films.flatten(1)
    return flat - flat.mean(dim=1, keepdim=True)


def _distances(some: Tensor, others: Tensor) -> Tensor:
    """Mean squared differences ``[B, N]`` of the rows of ``[B, D]`` and ``[N, D]``."""
    squares = some.square().sum(dim=1)[:, None] + others.square().sum(dim=1) - 2 * some @ others.T
    return squares / some.shape[1]


def _fade(span: Span, size: int, device: torch.device) -> Tensor:
    """Weight of a piece along one side, 0 to 1 over the overlap with the piece before it."""
    weight = torch.ones(span.stop - span.start, device=device)
    if span.start > 0:
        overlap = 2 * max(round(size * OVERLAP / 2), 1)
        ramp = (torch.arange(overlap, device=device) + 0.5) / overlap
        weight[:overlap] = torch.sin(ramp * math.pi / 2)
    return weight
