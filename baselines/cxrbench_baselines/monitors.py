"""The monitors of a fit: about twenty looks at nets and films, so that a fit that fails says so, and why.

A look costs a sampling of a few films and no step of the optimizer, and changes nothing that training depends on.
What is made of the numbers lies in ``diagnosis``, the picture in ``evolution``.
"""

from __future__ import annotations

import contextlib
import csv
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from cxrbench.contracts import Features, Images, Labels, Pixels
from cxrbench.errors import Diverged, UsageError
from cxrbench.metrics.nearest import SIDE, appearance
from cxrbench_baselines.diagnosis import (
    DIVERSITY,
    EXPLODED,
    GRADIENT,
    MOVEMENT,
    TRAIN_DISTANCE,
    TURN,
    WEIGHTS,
    Look,
    explain_divergence,
    find_all,
    has_exploded,
)
from cxrbench_baselines.evolution import draw_evolution, pack, shrink, unpack

LOOKS = 20  # of a fit, about
APART = 10  # steps between two looks, at least; a multiple, since some discriminators move at every tenth step only
PER_CLASS = 16  # films drawn at a look
SHOWN = 2  # of these kept, for the picture and for the movement
REAL_FILMS = 64  # at most, that tell how far apart the real films of a class lie, and near ones of all
TRAIN_FILMS = 8192  # at most, that near ones are looked for in: 70 MB
TENSORBOARD = "CXRBENCH_TENSORBOARD"


class Watch:
    """Looks at a fit now and then.

    It draws the same films of each class again and again (``sample`` must use the same noise at every call, and not
    the global random numbers) and compares them by ``appearance``: small pictures of fixed brightness and contrast.
    That stands in for LPIPS, the usual distance here, which needs a network and its weights; it does not see texture
    finer than 32 pixels a side.

    A class with fewer than 2 training films, or whose films are all alike, is drawn but not judged. Of more than 8,192
    training films, evenly chosen ones are compared: with twice as many, copies of them all would go unseen.

    Args:
        train: what the fit learns.
        sample: labels int64 ``[M]`` to films uint8 ``[M, 1, H, W]``.
        nets: by the name a reader knows them by, e.g. ``generator``; averages, too.
        folder: for ``history.csv`` (a row per look) and ``evolution.png``; with ``CXRBENCH_TENSORBOARD=1`` the same
            numbers go to its subfolder ``tensorboard``.

    Raises:
        UsageError: TensorBoard is asked for and not installed.
    """

    def __init__(
        self, train: Images, sample: Callable[[Labels], Pixels], nets: Mapping[str, nn.Module], folder: Path
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        present = np.unique(train.labels)
        self._classes, self._sample, self._nets, self._folder = train.classes, sample, nets, folder
        self._labels = np.repeat(present, PER_CLASS)
        self._kept = np.flatnonzero(np.tile(np.arange(PER_CLASS) < SHOWN, len(present)))
        self._real = _measure_real(train)
        self._scalars = _tensorboard(folder / "tensorboard") if os.environ.get(TENSORBOARD) == "1" else None
        self._budget = 0
        self._looks: list[Look] = []
        self._films: list[Pixels] = []  # of each look, those kept

    def due(self, number: int, budget: int) -> bool:
        """Is step ``number`` (from 0) of ``budget`` one to look at? The first and the last are, and about 20 in all."""
        self._budget = budget
        every = APART * max(-(-budget // (APART * LOOKS)), 1)
        return number % every == 0 or number == budget - 1

    def look(self, number: int, losses: Mapping[str, Tensor]) -> None:
        """Measure what can be measured after step ``number`` (from 0), and bring the files up to date.

        Args:
            losses: scalars, and whatever else the step returned.

        Raises:
            Diverged: a loss, a gradient or a weight is not finite, or a gradient has exploded. The message says what
                the looks before had seen.
            UsageError: the files cannot be written.
        """
        step = number + 1
        values = self._numbers_of_nets(step, losses)
        with _modes_kept(self._nets.values()):
            films = self._sample(self._labels)
        self._films.append(shrink(films[self._kept]))
        values |= self._real.compare(appearance(films), self._labels) | self._movement()
        self._looks.append(Look(step, values))
        self._write()
        if self._scalars is not None:
            for key, value in values.items():
                self._scalars.add_scalar(key, value, step)
            self._scalars.flush()

    def findings(self) -> list[str]:
        """What is wrong at the last look, in sentences; a healthy fit has none."""
        return [finding.sentence for finding in find_all(self._looks)]

    def state_dict(self) -> dict[str, Any]:
        """The whole history, as plain JSON; at 128 px and more some 15 kB per kept film and look."""
        return {
            "looks": [{"step": look.step, "values": dict(look.values)} for look in self._looks],
            "films": [pack(films) for films in self._films],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``; the files are written anew, as they were then."""
        self._looks = [Look(look["step"], dict(look["values"])) for look in state["looks"]]
        self._films = [unpack(text, len(self._kept)) for text in state["films"]]
        if self._looks:
            self._write()

    def _numbers_of_nets(self, step: int, losses: Mapping[str, Tensor]) -> dict[str, float]:
        values = {name: float(value) for name, value in losses.items()}
        for name, value in values.items():
            self._require(math.isfinite(value), f"{name} became {value}", step)
        for name, net in self._nets.items():
            weights = _norm(net.parameters())
            sound = math.isfinite(weights or 0.0) and not math.isnan(_norm(net.buffers()) or 0.0)
            self._require(sound, f"weights of the {name} became nan or infinite", step)  # so would be its films
            gradient = _norm(p.grad for p in net.parameters() if p.grad is not None)
            if gradient is None or weights is None:  # an average has no gradient
                continue
            said = f"the gradient norm of the {name} became {gradient:.2g}"
            self._require(math.isfinite(gradient), said, step)
            beyond = has_exploded(self._looks, name, gradient, weights)
            self._require(not beyond, f"{said}, more than {EXPLODED:,.0f} times its median so far,", step)
            values |= {GRADIENT + name: gradient, WEIGHTS + name: weights}
        return values

    def _require(self, holds: bool, otherwise: str, step: int) -> None:
        if not holds:
            raise Diverged(explain_divergence(otherwise, self._looks, step, self._budget))

    def _movement(self) -> dict[str, float]:
        """How far the kept films have moved since the last look, and whether they turned back."""
        if len(self._films) < 2 or not self._real.spread:
            return {}
        moves = np.diff([appearance(films) for films in self._films[-3:]], axis=0).astype(np.float64)
        usual = float(np.mean(list(self._real.spread.values())))
        values = {MOVEMENT: float(np.linalg.norm(moves[-1], axis=1).mean()) / usual}
        lengths = float(np.linalg.norm(moves[0]) * np.linalg.norm(moves[-1]))
        if len(moves) == 2 and lengths > 0:
            values[TURN] = float((moves[0] * moves[1]).sum()) / lengths
        return values

    def _write(self) -> None:
        rows = [{"step": look.step, **look.values} for look in self._looks]
        columns = list(dict.fromkeys(key for row in rows for key in row))
        names = [self._classes[label] for label in self._labels[self._kept]]
        try:
            with (self._folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, columns, restval="")
                table.writeheader()
                table.writerows(rows)
            draw_evolution(self._films, [look.step for look in self._looks], names, self._folder / "evolution.png")
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"the history of the fit cannot be written to {self._folder} ({reason})") from None


@dataclass(frozen=True)
class _Real:
    """What real films are like.

    Attributes:
        names: of all classes.
        spread: class -> mean distance between two of its training films; classes without a spread are left out.
        known: float32 ``[D, 2 M]``, the training films that near ones are looked for in, and their mirror images.
        half_squares: float32 ``[2 M]``, half of their squared lengths.
        usual: median distance of a training film to its nearest other; 0 where half are copies, or there is one film.
    """

    names: tuple[str, ...]
    spread: dict[str, float]
    known: Features
    half_squares: Features
    usual: float

    def compare(self, films: Features, labels: Labels) -> dict[str, float]:
        """Diversity of each class, and the distance to the training films, both in units of real films."""
        values = {
            DIVERSITY + name: _mean_distance(films[labels == self.names.index(name)]) / spread
            for name, spread in self.spread.items()
        }
        if self.usual > 0:
            closeness = films @ self.known - self.half_squares
            values[TRAIN_DISTANCE] = _median_distance(films, closeness) / self.usual
        return values


def _measure_real(train: Images) -> _Real:
    spread = {}
    for label, name in enumerate(train.classes):
        rows = _evenly(np.flatnonzero(train.labels == label), REAL_FILMS)
        if len(rows) > 1 and (distance := _mean_distance(appearance(train.pixels[rows]))) > 0:
            spread[name] = distance
    films = appearance(train.pixels[_evenly(np.arange(len(train)), TRAIN_FILMS)])
    pictures = films.reshape(len(films), -1, min(train.pixels.shape[-1], SIDE))
    known = np.concatenate([films, pictures[..., ::-1].reshape(films.shape)]).T
    half_squares = (known**2).sum(axis=0) / 2
    usual = 0.0
    if len(films) > 1:
        probes = _evenly(np.arange(len(films)), REAL_FILMS)
        closeness = films[probes] @ known - half_squares
        each = np.arange(len(probes))
        closeness[each, probes] = closeness[each, len(films) + probes] = -np.inf  # itself, and its own mirror image
        usual = _median_distance(films[probes], closeness)
    return _Real(train.classes, spread, known, half_squares, usual)


def _median_distance(films: Features, closeness: Features) -> float:
    """Of films to what they are closest to, where closeness is ``x y - |y|^2 / 2``; below 0.001 it is rounding."""
    squares = (films**2).sum(axis=1) - 2 * closeness.max(axis=1)
    return float(np.median(np.sqrt(np.maximum(squares, 0))))


def _evenly(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most ``count`` of the rows, evenly spread."""
    return rows if len(rows) <= count else rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]


def _mean_distance(films: Features) -> float:
    """Mean Euclidean distance over all pairs of two rows or more, float ``[N, D]``."""
    rows = films.astype(np.float64)
    squares = (rows**2).sum(axis=1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0))
    return float(apart[np.triu_indices(len(rows), 1)].mean())


def _norm(tensors: Iterable[Tensor]) -> float | None:
    """Euclidean norm of all floating-point tensors together; None where there are none."""
    floating = [tensor.detach() for tensor in tensors if tensor.is_floating_point()]
    return float(nn.utils.get_total_norm(floating)) if floating else None


@contextlib.contextmanager
def _modes_kept(nets: Iterable[nn.Module]) -> Iterator[None]:
    """Training and evaluation modes are afterwards as they were: sampling sets a net to evaluation."""
    before = [(module, module.training) for net in nets for module in net.modules()]
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError(
            f"{TENSORBOARD}=1 asks for TensorBoard, which is not installed: pip install 'cxrbench[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder))
