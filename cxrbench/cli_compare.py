"""``cxrbench compare``: fidelity without a run, of films, or of features that were extracted where the films are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cxrbench.cli_run import DeviceOption, ExtractorsOption, WeightsOption, use_weights
from cxrbench.errors import CxrbenchError, DataError, UsageError

if TYPE_CHECKING:
    from cxrbench.contracts import FeatureExtractor
    from cxrbench.feature_files import Compared, FeatureSet
    from cxrbench.stages import DataIndex

    Given = DataIndex | FeatureSet
    Sets = Mapping[str, Sequence[FeatureSet]]
    Found = Mapping[str, Mapping[str, Compared]]
    Stage = Callable[[str], Callable[[int, int], None]]

ROLES = ("GENERATED", "REFERENCE")
DEFAULT_SIZE = 224  # pixels: what most extractors look at
SIZES = range(16, 2049)


@dataclass(frozen=True)
class _Way:
    """How films become features; ``stage`` starts a bar and returns its progress callback."""

    size: int
    device: str
    stage: Stage


def compare(
    generated: Annotated[str, typer.Argument(help="Films (folder, CSV, data set) or an .npz of their features.")],
    reference: Annotated[str, typer.Argument(help="Real films, likewise; for a floor, twice as many.")],
    extractors: ExtractorsOption = "auto",
    size: Annotated[int, typer.Option("--size", help="Pixels that films are decoded to; 0: 224, or the .npz's.")] = 0,
    device: DeviceOption = "auto",
    weights: WeightsOption = "",
    out: Annotated[Path | None, typer.Option("--out", help="JSON file for all numbers.")] = None,
    kept: Annotated[Path | None, typer.Option("--save-features", help="Folder for the features (.npz).")] = None,
    resamples: Annotated[int, typer.Option("--resamples", help="Of each bootstrap interval.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Of all that is drawn: films, intervals, halves.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Measure how close generated films come to real ones: FD, KID, precision, recall, coverage, diversity."""
    from cxrbench.feature_files import FeatureSet, compare_features, oddities, save_features
    from cxrbench.machine import choose_device, describe_machine

    given = (generated, reference)
    _check_options(size, resamples, seed, out, kept, given)
    use_weights(weights)
    chosen = choose_device(device)
    sides = [_open_side(role, text) for role, text in zip(ROLES, given, strict=True)]
    usable, notes = _choose_extractors(sides, extractors)
    size = _choose_size(sides, size)
    sets: dict[str, list[FeatureSet]] = {}
    found: dict[str, dict[str, Compared]] = {}
    with _bar(quiet) as stage:
        way = _Way(size, chosen, stage)
        for name, extractor in usable.items():
            sets[name] = [_features(role, side, extractor, way, notes) for role, side in zip(ROLES, sides, strict=True)]
        for name, (mine, theirs) in sets.items():
            found[name] = compare_features(mine, theirs, resamples, seed, stage(f"{name}: measure"))
            notes += [f"{name}: {oddity}" for oddity in oddities(mine, theirs)]
    notes = list(dict.fromkeys(notes))  # that a film cannot be read is found once for each extractor
    written = []
    for name, pair in sets.items():
        for role, side, features in zip(ROLES, sides, pair, strict=True):
            if kept is not None and not isinstance(side, FeatureSet):
                written.append(kept / f"{role.lower()}-{name}.npz")
                save_features(written[-1], features)
    if out is not None:
        asked = {"given": given, "resamples": resamples, "seed": seed, "notes": notes}
        _write_json(out, asked | {"machine": describe_machine(chosen)}, sets, found)
        written.append(out)
    if not quiet:
        _show(sets, found, [*(f"note: {note}" for note in notes), *(f"wrote {path}" for path in written)])


def _check_options(
    size: int, resamples: int, seed: int, out: Path | None, kept: Path | None, given: tuple[str, str]
) -> None:
    """What could go wrong at the end goes wrong here, before the work."""
    if size and size not in SIZES:
        raise UsageError(f"--size {size}: use 0 or {SIZES[0]} to {SIZES[-1]} pixels")
    if resamples < 2:
        raise UsageError(f"--resamples {resamples}: an interval needs at least 2")
    if seed < 0:
        raise UsageError(f"--seed {seed}: must not be negative")
    if out is not None and (out.is_dir() or str(out) in given):
        raise UsageError(f"--out {out} is {'a folder' if out.is_dir() else 'what is to be read'}; name another file")
    for option, folder in (("--out", out and out.parent), ("--save-features", kept)):
        there = next((path for path in (folder, *folder.parents) if path.exists()), None) if folder else None
        if there and not (there.is_dir() and os.access(there, os.W_OK)):
            raise UsageError(f"{option}: {there} is no folder that can be written to; name another")


def _open_side(role: str, text: str) -> Given:
    """The features that ``text`` holds, or the films that it names, listed but not decoded."""
    from cxrbench.feature_files import is_feature_file, load_features

    path = Path(text).expanduser()
    try:
        if is_feature_file(path):
            return load_features(path)
        index = _list_films(text, path)
    except CxrbenchError as error:
        raise type(error)(f"{role}: {error}") from None
    # By content, so that no batch and no draw depends on the names of the files.
    return replace(index, films=sorted(index.films, key=lambda film: (index.classes[film.label], film.digest)))


def _list_films(text: str, root: Path) -> DataIndex:
    """As ``run --data`` does, but one class is enough, and so are films in a folder without classes."""
    from cxrbench.datasets.files import Entry, image_files, list_films
    from cxrbench.datasets.resolve import resolve_dataset
    from cxrbench.feature_files import ALL
    from cxrbench.registry import DATASETS
    from cxrbench.stages import DataIndex, index_data

    name, dataset = resolve_dataset(text)
    has_table = not root.is_dir() or (root / "metadata.csv").is_file()
    if type(dataset) is not DATASETS.get("folder") or has_table or len(dataset.classes()) > 1:
        return index_data(name, dataset)
    labels = {root: ALL} | {root / label: label for label in dataset.classes()}
    filled = [folder for folder in labels if image_files(folder)]
    if len(filled) != 1:
        what = "loose films and a folder of films" if filled else "no film and no class folder with films"
        raise DataError(f"{root} holds {what}; name the folder that is meant")
    listing = list_films(filled[0], [Entry(path.name, 0) for path in image_files(filled[0])])
    reader = DATASETS.create("folder", root=str(filled[0]))
    return DataIndex(name, reader, (labels[filled[0]],), listing.films, listing.quarantined)


def _choose_extractors(sides: Sequence[Given], asked: str) -> tuple[dict[str, FeatureExtractor | None], list[str]]:
    """Extractors by name (None where all features are there), and which are left out."""
    from cxrbench.feature_files import FeatureSet, check_same_extractor
    from cxrbench.plan import parse_names
    from cxrbench.references import usable_extractors
    from cxrbench.spec import DEFAULT_EXTRACTORS

    held = [side for side in sides if isinstance(side, FeatureSet)]
    names = DEFAULT_EXTRACTORS if asked == "auto" else parse_names(asked, "extractor")
    if held:
        if asked != "auto" and names != (held[0].extractor,):
            raise UsageError(f"--extractors {asked}: the .npz is of {held[0].extractor}; leave the option out")
        names = (held[0].extractor,)
    if len(held) == 2:
        check_same_extractor(held[0], held[1])
        return {names[0]: None}, []
    usable, notes = usable_extractors(names)
    for name, extractor in usable.items():
        here = extractor.weights_sha256()
        if held and held[0].weights_sha256 != here:
            differ = f"those of the .npz have sha256 {held[0].weights_sha256}, those here {here}"
            raise UsageError(f"{name} has two different weights: {differ}; name the same with --weights")
    return dict(usable), notes


def _choose_size(sides: Sequence[Given], asked: int) -> int:
    from cxrbench.feature_files import FeatureSet

    held = next((side.size for side in sides if isinstance(side, FeatureSet)), 0)
    if held and asked not in (0, held):
        raise UsageError(f"--size {asked}: the .npz is of films of {held} px; leave the option out")
    return held or asked or DEFAULT_SIZE


def _features(role: str, side: Given, extractor: FeatureExtractor | None, way: _Way, notes: list[str]) -> FeatureSet:
    """Decode and extract, or take what is there; ``notes`` gets how many films cannot be read."""
    from cxrbench.cache import Cache, default_cache_root
    from cxrbench.contracts import Images
    from cxrbench.feature_files import FeatureSet
    from cxrbench.film_features import extract_features
    from cxrbench.leakage import NO_PAIRS, film_groups
    from cxrbench.loading import decode_films
    from cxrbench.stages import load_key

    if isinstance(side, FeatureSet):
        return side
    assert extractor is not None
    cache, key = Cache(default_cache_root()), load_key(side, way.size)
    decoded = decode_films(side.dataset, side.films, key, way.size, cache, way.stage(f"{role}: decode"))
    if unread := {**side.quarantined, **decoded.quarantined}:
        count, example = f"{len(unread)} of {len(decoded.films) + len(unread)}", ": ".join(next(iter(unread.items())))
        if not decoded.films:
            raise DataError(f"{role}: {count} films cannot be read, e.g. {example}; give others")
        notes.append(f"{role}: {count} films cannot be read and are left out, e.g. {example}")
    films = Images(decoded.pixels, decoded.labels, side.classes)
    try:
        stage = way.stage(f"{role}: {extractor.name}")
        features = extract_features(films, extractor, way.device, cache, stage)
    except ValueError as error:  # NaN, or a wrong shape
        raise DataError(f"{role}: {error}; leave this extractor out with --extractors") from None
    identity = replace(side, films=decoded.films).hash
    patients = film_groups([film.patient_id for film in decoded.films], NO_PAIRS)
    made_by = (extractor.name, extractor.weights_sha256(), extractor.resize, way.size)
    return FeatureSet(features, decoded.labels, side.classes, *made_by, identity, patients)


@contextmanager
def _bar(quiet: bool) -> Iterator[Stage]:
    """A bar on standard error that goes away; nothing where there is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("list", total=None)

        def stage(what: str) -> Callable[[int, int], None]:
            bar.update(task, description=what, completed=0, total=None)
            return lambda done, total: bar.update(task, completed=done, total=total)

        yield stage


def _labels(name: str) -> dict[str, str]:
    """What the measures are called in these features; an extractor that is not installed has a name, too."""
    from cxrbench.registry import EXTRACTORS

    known = EXTRACTORS.create(name) if name in EXTRACTORS.names() else None
    fd, kd = (known.fd_label, known.kd_label) if known else (f"FD-{name}", f"KID-{name}")
    others = {other: other for other in ("precision", "recall", "density", "coverage", "vendi")}
    return {"fid": fd, "fid_infinity": f"{fd}∞", "kid_mean": kd} | others


def _show(sets: Sets, found: Found, last: Sequence[str]) -> None:
    console, lines = Console(), []
    for name, results in found.items():
        console.print(_table(name, results))
        side = sets[name][0]
        way = f"films decoded to {side.size} px (square), then {side.resize}"
        lines.append(f"{name}: {way}; weights sha256 {side.weights_sha256}")
        lines += [f"{name}, {who}: {note}" for who, result in results.items() for note in result.notes]
    lines.append("values depend on n, the size and the way films are resized: compare like with like")
    for line in [*lines, *last]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _table(name: str, results: Mapping[str, Compared]) -> Table:
    labels = {metric: escape(label) for metric, label in _labels(name).items()}
    table = Table(title=escape(f"{name}: generated against real films"), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("class, measure")
    for column in ("value", "95 % interval", "real vs real", "excess"):
        table.add_column(column, justify="right", no_wrap=True)
    for who, result in results.items():
        scores = result.scores
        table.add_row(escape(who), f"n = {result.n}", f"of {result.generated} and {result.reference}", style="bold")
        for metric, label in labels.items():
            if metric not in scores:
                table.add_row(f"  {label}", "abstains", f"below n = {result.abstained.get(metric)}", style="dim")
                continue
            cells = [f"{scores[metric]:.4g}", f"{scores[f'{metric}_low']:.3g} to {scores[f'{metric}_high']:.3g}"]
            if f"{metric}_excess" in scores:
                # Its deviation stays in the JSON: halves of one set share films, so it is too small to judge by.
                cells += [f"{scores[f'{metric}_floor']:.4g}", f"{scores[f'{metric}_excess']:+.3g}"]
            table.add_row(f"  {label}", *cells)
    return table


def _write_json(out: Path, asked: Mapping[str, object], sets: Sets, found: Found) -> None:
    from cxrbench.cache import write_atomically

    extractors = {
        name: {
            "labels": _labels(name),
            **{role.lower(): side.facts() for role, side in zip(ROLES, sides, strict=True)},
            "classes": {who: asdict(result) for who, result in found[name].items()},
        }
        for name, sides in sets.items()
    }
    try:
        write_atomically(out, json.dumps({**asked, "extractors": extractors}, indent=1, allow_nan=False).encode())
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written ({error.strerror}); name another file") from None
