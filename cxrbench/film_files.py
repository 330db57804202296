"""Sampled films as files: a picture to look at, a folder that ``--data`` reads, or arrays.

Each is written beside its place and then moved there, so that a full disk leaves nothing half.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from cxrbench.cache import write_atomically
from cxrbench.contracts import Pixels
from cxrbench.errors import UsageError

Chunks = Iterable[tuple[int, Pixels]]  # label, uint8 [n, 1, H, W]; class after class
Writer = Callable[[Path, Chunks, tuple[str, ...], Mapping[str, str]], None]

SMALLEST = 96  # pixels: smaller films are magnified by a whole factor in a picture
GAP, MARGIN = 2, 8  # pixels between films, and around a class's name
FONT = 14  # pixels


def write_grid(path: Path, chunks: Chunks, classes: tuple[str, ...], facts: Mapping[str, str]) -> None:
    """One PNG, a row per class with its name; films side by side, not resampled. ``facts`` go into its text.

    Raises:
        UsageError: it cannot be written.
    """
    rows = _by_label(chunks)
    size = next(iter(rows.values())).shape[-1]
    factor = -(-SMALLEST // size)
    font = ImageFont.load_default(FONT)
    left = max(round(font.getlength(classes[label])) for label in rows) + 2 * MARGIN
    pitch = factor * size + GAP
    sheet = Image.new("L", (left + pitch * max(map(len, rows.values())), pitch * len(rows)), 255)
    draw = ImageDraw.Draw(sheet)
    for place, (label, films) in enumerate(rows.items()):
        top = place * pitch
        draw.text((MARGIN, top + pitch // 2), classes[label], fill=0, font=font, anchor="lm")
        for column, film in enumerate(films[:, 0]):
            magnified = film.repeat(factor, axis=0).repeat(factor, axis=1)
            sheet.paste(Image.fromarray(magnified), (left + column * pitch, top))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", pnginfo=_text(facts))
    with _told(path):
        write_atomically(path, buffer.getvalue())


def write_arrays(path: Path, chunks: Chunks, classes: tuple[str, ...], facts: Mapping[str, str]) -> None:
    """One npz: ``pixels`` uint8 ``[N, 1, H, W]``, ``labels`` int64 ``[N]``, ``classes`` and each of ``facts``.

    Raises:
        UsageError: it cannot be written.
    """
    rows = _by_label(chunks)
    labels = np.repeat(np.fromiter(rows, np.int64), [len(films) for films in rows.values()])
    buffer = io.BytesIO()
    arrays = {"pixels": np.concatenate(list(rows.values())), "labels": labels, "classes": np.array(classes)}
    arrays |= {name: np.array(text) for name, text in facts.items()}
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    with _told(path):
        write_atomically(path, buffer.getvalue())


def write_folder(path: Path, chunks: Chunks, classes: tuple[str, ...], facts: Mapping[str, str]) -> None:
    """A folder in the layout of the COVID-19 Radiography Database (``datasets.radiography``).

    ``CLASS/images/CLASS-1.png`` and on, and ``metadata.csv`` with file, label and ``facts`` of every film.

    Raises:
        UsageError: it cannot be written, or a class has a name that no folder can have.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with _told(path):
            temporary.mkdir(parents=True)
        table = [["file", "label", *facts]]
        counts = dict.fromkeys(range(len(classes)), 0)
        for label, films in chunks:
            name = classes[label]
            folder = temporary / name / "images"
            with _told(path):
                folder.mkdir(parents=True, exist_ok=True)
                for film in films[:, 0]:
                    counts[label] += 1
                    Image.fromarray(film).save(folder / f"{name}-{counts[label]}.png")
                    table.append([f"{name}/images/{name}-{counts[label]}.png", name, *facts.values()])
        with _told(path):
            with (temporary / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(table)
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


WRITERS: Mapping[str, Writer] = {"grid": write_grid, "png": write_folder, "npz": write_arrays}
PLACES: Mapping[str, str] = {"grid": "films.png", "png": "films", "npz": "films.npz"}


def check_place(path: Path, form: str, names: Iterable[str]) -> None:
    """Is ``path`` free, and can films of classes ``names`` be written there as ``form``? Asked before they are made.

    Raises:
        UsageError: there is no such form, something is there, or a class has a name that no folder can have.
    """
    if form not in WRITERS:
        raise UsageError(f"unknown --format {form!r}; there are {', '.join(WRITERS)}")
    if form == "png":
        for name in names:
            if "/" in name or "\\" in name or name in ("", ".", ".."):
                raise UsageError(f"class {name!r} cannot be the name of a folder; use --format npz")
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        empty = path.is_dir() and not any(path.iterdir())
        if (path.exists() or path.is_symlink()) and not (empty and form == "png"):
            raise UsageError(f"{path} is there already and is not overwritten; name another place with --out")


def _by_label(chunks: Chunks) -> dict[int, Pixels]:
    parts: dict[int, list[Pixels]] = {}
    for label, films in chunks:
        parts.setdefault(label, []).append(films)
    return {label: np.concatenate(films) for label, films in parts.items()}


def _text(facts: Mapping[str, str]) -> PngInfo:
    text = PngInfo()
    for name, value in facts.items():
        text.add_itxt(name, value)
    return text


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Raises UsageError in place of an OSError."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); choose another place with --out") from None
