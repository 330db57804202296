"""The contracts between the harness and its plug-ins.

Images at every boundary are uint8, NCHW, on the CPU, one channel. Conversions to other ranges, types and
devices are the plug-in's own affair. Plug-ins are dataclasses whose fields are their hyper-parameters and
whose ``__init__`` does no work, so that they can be listed, hashed and shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Features = NDArray[np.float32]
Probabilities = NDArray[np.float32]
Scores = dict[str, float]
Role = Literal["oracle", "copy", "shuffle", "noise", "oversample"]


@dataclass(frozen=True)
class Images:
    """A labelled set of films.

    Attributes:
        pixels: uint8 ``[N, 1, H, W]``.
        labels: int64 ``[N]``, indices into ``classes``.
        classes: the class names; a subset keeps them all.
        groups: str ``[N]`` (patient or duplicate cluster), or None where it has no meaning.
    """

    pixels: Pixels
    labels: Labels
    classes: tuple[str, ...]
    groups: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or self.pixels.shape[1] != 1:
            raise ValueError(f"pixels must be uint8 [N, 1, H, W], got {self.pixels.dtype} {self.pixels.shape}")
        if self.labels.dtype != np.int64 or self.labels.shape != self.pixels.shape[:1]:
            raise ValueError(f"labels must be int64 [{len(self.pixels)}], got {self.labels.shape}")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(f"labels must lie in [0, {len(self.classes)})")
        if self.groups is not None and self.groups.shape != self.labels.shape:
            raise ValueError(f"groups must be str [{len(self.labels)}], got {self.groups.shape}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> int:
        """Height and width in pixels."""
        return int(self.pixels.shape[-1])

    def subset(self, rows: NDArray[np.int64]) -> Images:
        """The films at ``rows``, in that order (copied)."""
        groups = None if self.groups is None else self.groups[rows]
        return Images(np.ascontiguousarray(self.pixels[rows]), self.labels[rows], self.classes, groups)

    def of_class(self, label: int) -> Images:
        """The films of one class."""
        return self.subset(np.flatnonzero(self.labels == label))


def no_progress(done: int, total: int) -> None:
    """A progress callback that shows nothing."""


@dataclass(frozen=True)
class RunContext:
    """What a plug-in may know of the run it is part of.

    Attributes:
        seed: of every random choice the plug-in makes.
        device: ``cpu`` or ``cuda`` (anything torch accepts).
        budget: optimizer steps (for a GAN: generator steps); never epochs.
        workdir: a folder the plug-in may write to; a fit that was interrupted finds there what it left.
        progress: called as ``progress(done, total)``; cheap to call often.
        save_every: seconds of wall time between two checkpoints of a fit, for plug-ins that keep any.
    """

    seed: int
    device: str
    budget: int
    workdir: Path
    progress: Callable[[int, int], None] = no_progress
    save_every: float = 60.0


@runtime_checkable
class Generator(Protocol):
    """Learns a training set and returns new films of a wanted class.

    It is handed the train split and nothing else, so it cannot see test data.
    """

    def fit(self, train: Images, ctx: RunContext) -> Self: ...

    def sample(self, labels: Labels, ctx: RunContext) -> Pixels:
        """Return uint8 ``[M, 1, H, W]`` whose row i shows class ``labels[i]``."""
        ...

    def save(self, path: Path) -> None:
        """Write everything ``load`` needs into the folder ``path``."""
        ...

    def load(self, path: Path) -> Self: ...


@runtime_checkable
class Classifier(Protocol):
    """Learns to tell the classes apart; ``val`` holds real films only and chooses the checkpoint."""

    def fit(self, train: Images, val: Images, ctx: RunContext) -> Self: ...

    def predict_proba(self, pixels: Pixels, ctx: RunContext) -> Probabilities:
        """Return float32 ``[N, classes]`` whose rows sum to one."""
        ...


@runtime_checkable
class Steppable(Protocol):
    """Optional: a plug-in whose train step can be timed."""

    def setup(self, train: Images, ctx: RunContext) -> None: ...

    def training_step(self, step: int) -> Mapping[str, Any]:
        """Do optimizer step number ``step`` and return its losses (device scalars; not synchronised)."""
        ...

    def images_per_step(self) -> int:
        """Images one step trains on (its batch size); asked after ``setup``."""
        ...

    def steps_per_cycle(self) -> int:
        """Steps after which the work repeats: 10 where the discriminator moves at every tenth step."""
        ...


@runtime_checkable
class Control(Protocol):
    """Optional: a generator whose place in the ranking is known before it is measured.

    ``control`` is its role: ``oracle`` returns real films that nothing else was trained on, ``copy`` the training
    films, ``shuffle`` training films under wrong labels, ``noise`` no films at all, ``oversample`` training films
    drawn again.
    """

    control: ClassVar[Role]


def role_of(plugin: object) -> Role | None:
    """A plug-in's role, where it is a control; it may have a field of that name for something else."""
    role = plugin.control if isinstance(plugin, Control) else None
    return role if role in get_args(Role) else None


@runtime_checkable
class AskedOnce(Protocol):
    """Optional: a generator that is asked for all films of a class at once, and not in chunks with a seed each.

    It is for those that give back films which they keep (controls, a folder of films): only so can none come twice
    before all came once. ``sample`` must return the same first films however many are asked for.
    """

    asked_once: ClassVar[bool]


@runtime_checkable
class Reserved(Protocol):
    """Optional, for a control: a generator that is handed real training films which the run keeps from training."""

    def keep(self, reserve: Images) -> None:
        """Called before ``fit``; ``reserve`` shares no patient with the films that ``fit`` gets."""
        ...


@runtime_checkable
class Diagnosed(Protocol):
    """Optional: a generator that can say what went wrong in its fit."""

    def diagnosis(self) -> Sequence[str]:
        """Sentences for people, asked for after ``load``; none where the fit was healthy.

        They are printed with the generator's name and seed before them, beside its fidelity.
        """
        ...


@runtime_checkable
class Tunable(Protocol):
    """Optional: a classifier that can propose other hyper-parameters of itself."""

    def candidates(self, count: int) -> Sequence[Self]:
        """``count`` unfitted configurations, itself first; the one with the best validation AUROC is used."""
        ...


class FeatureExtractor(Protocol):
    """Maps films to vectors in which distances mean something.

    ``fd_label`` and ``kd_label`` are how its distances are printed: only torch-fidelity's InceptionV3 may say
    ``FID``. ``resize`` says in words how a film reaches the net.
    """

    name: str
    dim: int
    fd_label: str
    kd_label: str
    resize: str

    def weights_sha256(self) -> str:
        """The sha256 of the weights in use.

        Raises:
            WeightsUnavailable: they are neither here nor can they be had.
        """
        ...

    def extract(self, pixels: Pixels, device: str, progress: Callable[[int, int], None]) -> Features:
        """uint8 ``[N, 1, H, W]`` to float32 ``[N, dim]``. A film's row must not depend on the films beside it: rows are
        kept one by one."""
        ...


@runtime_checkable
class Rounded(Protocol):
    """Optional: an extractor that computes in one of several precisions, e.g. ``float32`` or ``bfloat16``.

    The same film then has other features, so the precision is part of what identifies them in the cache.
    """

    precision: str


class WeightsUnavailable(Exception):
    """Weights of an extractor cannot be had; the message says how to get them."""


@dataclass(frozen=True)
class Film:
    """One film of a data set, before it is decoded.

    Attributes:
        file: its name within the data set.
        label: index into the data set's classes.
        digest: sha256 of its content (of its recipe, for a film that is drawn).
        patient_id: the patient, or None where the origin does not say.
        source: the hospital or collection, or None.
        view: the projection as the origin names it (``PA``, ``AP``, ``L`` ...), or None.
        age: of the patient in years, or None.
        sex: of the patient as the origin names it, or None.
        split: ``train``, ``val`` or ``test`` where the origin has an official split, or None.
    """

    file: str
    label: int
    digest: str
    patient_id: str | None = None
    source: str | None = None
    view: str | None = None
    age: float | None = None
    sex: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Listing:
    """What a data set holds, before any film is decoded.

    Attributes:
        films: in a fixed order.
        quarantined: file -> reason, of what should be a film and cannot be one (named but not there ...).
        left_out: reason -> number of films that were not asked for (another view, another class ...).
    """

    films: list[Film]
    quarantined: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)


class Dataset(Protocol):
    """Lists films and decodes one at a time; the harness does the rest."""

    redistributable: bool  # may pictures of its films be published with the results?

    def classes(self) -> Sequence[str]: ...

    def listing(self) -> Listing:
        """List every film; decodes none.

        Raises:
            UsageError: a path or parameter is wrong.
            DataError: the data set is not in its layout, or holds labels outside its classes.
        """
        ...

    def read(self, film: Film, size: int) -> NDArray[np.uint8]:
        """Decode one film to uint8 ``[size, size]``.

        Raises:
            UnreadableFilm: the file is no film; the message is the reason.
        """
        ...


@runtime_checkable
class Measured(Protocol):
    """Optional: a data set that knows a film's own width and height without decoding it."""

    def dimensions(self, film: Film) -> tuple[int, int]:
        """Width and height of the stored film, in pixels.

        Raises:
            UnreadableFilm: the file is no film; the message is the reason.
        """
        ...


@runtime_checkable
class Preflight(Protocol):
    """Optional: a plug-in that can say before the run whether it will be able to work."""

    def preflight(self, size: int) -> Mapping[str, str]:
        """Check what ``fit`` will need for films of ``size`` pixels.

        Returns:
            The sha256 of every file it will read (e.g. weights), which becomes part of the trial's key.

        Raises:
            UsageError: it cannot work; the message says how to mend that.
        """
        ...
