"""What a fit leaves behind so that it can go on after its process was killed: written whole or not at all.

A checkpoint is a folder ``step-NNNNNNNNNNNN`` of ``parts.pt`` (tensors), ``fit.json`` (the step, whose fit it is,
the watch's state) and ``manifest.json`` with the sha256 of both. It is filled under another name, flushed to the disk
and renamed last, so a kill at any moment leaves the one before intact. torch loads a file with a flipped byte without
a word, so the sums are compared before anything is used.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cxrbench.errors import UsageError

MANIFEST = "manifest.json"
PARTS, FIT = "parts.pt", "fit.json"
KEPT = 2  # the newest, and the one before in case the newest is damaged
DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Checkpoint:
    """A fit after ``step`` steps.

    Attributes:
        parts: name -> state dict of everything that training changes.
        watch: state of the watch (JSON values), or None where there is none.
        gradients: name of a net -> name of a parameter -> its gradient, which no state dict holds.
    """

    step: int
    parts: Mapping[str, Mapping[str, Any]]
    watch: Mapping[str, Any] | None = None
    gradients: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


class _Damaged(Exception):
    """A checkpoint that must not be used; the message is the reason."""


class Checkpoints:
    """The checkpoints of one fit.

    Args:
        folder: where they lie; nothing else should.
        facts: what identifies the fit (JSON values), in words for people: a checkpoint with other facts is refused.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder = folder
        # As they come back from a file: a tuple is a list there.
        self.facts: dict[str, Any] = json.loads(json.dumps(dict(facts)))
        self._intact: list[Path] = []

    def newest(self) -> Checkpoint | None:
        """The newest intact checkpoint, or None where there is none; each damaged one is named in a warning.

        Raises:
            UsageError: it is of another fit; the message names what differs.
        """
        places = sorted(self.folder.glob("step-*"), reverse=True)
        for place in places:
            try:
                found, facts = _read(place)
            except _Damaged as reason:
                warnings.warn(f"checkpoint {place} is damaged ({reason}) and is not used", stacklevel=2)
                continue
            self._refuse_another_fit(place, facts)
            self._intact = [place]
            return found
        if places:
            warnings.warn(f"no checkpoint in {self.folder} is intact: the fit starts anew", stacklevel=2)
        return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, and delete all but this and the last intact one before it.

        Raises:
            UsageError: it cannot be written (a full disk); the one before is as it was.
        """
        place, new = self.folder / f"step-{checkpoint.step:012d}", self.folder / "unfinished"
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            _write(new, checkpoint, self.facts)
            if place.exists():  # a damaged one, or os.replace would refuse
                shutil.rmtree(place)
            os.replace(new, place)
        except OSError as error:
            raise UsageError(
                f"the checkpoint of step {checkpoint.step} cannot be written to {self.folder} "
                f"({error.strerror or error}); make room there and run again: the fit goes on from the last one"
            ) from None
        finally:
            shutil.rmtree(new, ignore_errors=True)
        self._intact = [*(other for other in self._intact if other != place), place][-KEPT:]
        for other in self.folder.glob("step-*"):
            if other not in self._intact:
                shutil.rmtree(other, ignore_errors=True)

    def remove(self) -> None:
        """Delete all of them: the fit is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._intact = []

    def _refuse_another_fit(self, place: Path, facts: Mapping[str, Any]) -> None:
        differing = [
            _difference(name, facts.get(name), self.facts.get(name))
            for name in sorted(facts.keys() | self.facts.keys())
            if facts.get(name) != self.facts.get(name)
        ]
        if differing:
            raise UsageError(
                f"checkpoint {place} is of another fit: {'; '.join(differing)}. "
                f"Give another --out, or delete {self.folder} to start anew"
            )


def _write(folder: Path, checkpoint: Checkpoint, facts: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    states = {name: dict(state) for name, state in checkpoint.parts.items()}
    torch.save({"states": states, "gradients": dict(checkpoint.gradients)}, buffer)
    fit = {"step": checkpoint.step, "facts": facts, "watch": checkpoint.watch}
    contents: dict[str, bytes | memoryview] = {PARTS: buffer.getbuffer(), FIT: json.dumps(fit, indent=1).encode()}
    # The sums are of what was meant to be written, not of what the disk made of it.
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    for name, content in {**contents, MANIFEST: json.dumps(sums, indent=1).encode()}.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def _read(folder: Path) -> tuple[Checkpoint, dict[str, Any]]:
    """A checkpoint whose sums are right, and its facts; on the CPU, whatever device it was made on."""
    try:
        sums = json.loads((folder / MANIFEST).read_text())
        contents = {name: (folder / name).read_bytes() for name in (PARTS, FIT)}
    except OSError as error:
        raise _Damaged(f"{Path(error.filename).name}: {error.strerror}") from None
    except ValueError:
        raise _Damaged(f"{MANIFEST} is torn") from None
    for name, content in contents.items():
        if not isinstance(sums, dict) or sums.get(name) != hashlib.sha256(content).hexdigest():
            raise _Damaged(f"{name} does not have the sha256 that {MANIFEST} says")
    fit = json.loads(contents[FIT])
    try:
        stored = torch.load(io.BytesIO(contents[PARTS]), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _Damaged(f"{PARTS} holds more than tensors and plain values: {str(error).splitlines()[0]}") from None
    return Checkpoint(fit["step"], stored["states"], fit["watch"], stored["gradients"]), fit["facts"]


def _difference(name: str, there: object, here: object) -> str:
    if all(isinstance(value, str) and DIGEST.fullmatch(value) for value in (there, here)):
        return f"{name} differs"  # 64 hexadecimal digits say nothing to people
    return f"{name} is {_shown(there)} there and {_shown(here)} here"


def _shown(value: object) -> str:
    if value is None:
        return "not given"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
