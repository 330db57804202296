"""``cxrbench train`` and ``cxrbench sample``: one generator alone, and its films."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cxrbench.cli_audit import cleaned
from cxrbench.cli_run import (
    EXIT_INTERRUPTED,
    CleanOption,
    DataOption,
    DeviceOption,
    LabelsOption,
    SplitByOption,
    TierOption,
    interrupt,
)
from cxrbench.errors import CxrbenchError, Diverged, UsageError

if TYPE_CHECKING:
    from cxrbench.contracts import Generator, RunContext
    from cxrbench.models import Fit, Model
    from cxrbench.progress import Reporter
    from cxrbench.records import PluginRef
    from cxrbench.spec import BenchSpec
    from cxrbench.stages import DataIndex, LoadedData

SPLIT_SEED = 0  # the first split of every run
SAMPLES = "samples.png"
SHOWN = 8  # films per class in a picture
DEFAULT_COUNT = 100
SEEDS = 2**31  # all that torch and numpy take as a seed, whatever a plug-in makes of it

QuietOption = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]


def train(
    generator: Annotated[str, typer.Option("--generator", help="One; parameters as cgan:width=64:batch=16.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to make; the same command goes on in it.")],
    data: DataOption = "phantom",
    tier: TierOption = "quick",
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Optimizer steps; default by tier.")] = None,
    size: Annotated[
        int | None, typer.Option("--size", min=16, help="Pixels of a film's side; default by tier.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=SEEDS, help="Of all that training draws.")] = 0,
    device: DeviceOption = "auto",
    split_by: SplitByOption = "auto",
    labels: LabelsOption = "",
    clean: CleanOption = "none",
    save_every: Annotated[float, typer.Option("--save-every", min=0, help="Seconds between two checkpoints.")] = 60.0,
    quiet: QuietOption = False,
) -> None:
    """Train one generator, on the films that the first split of `cxrbench run` trains on: it sees no test film.

    Interrupted, it goes on where it was with the same command. Exit codes: 0 ok, 1 diverged or failed, 2 usage,
    4 bad data, 130 interrupted.
    """
    signal.signal(signal.SIGTERM, interrupt)
    from cxrbench.contracts import Diagnosed, RunContext
    from cxrbench.machine import choose_device, slow_precision_note
    from cxrbench.models import MODEL, begin_fit, load_generator, training_folder
    from cxrbench.progress import make_reporter
    from cxrbench.references import plugin_reference
    from cxrbench.registry import GENERATORS
    from cxrbench.spec import spec_of_tier

    spec = spec_of_tier(tier, split_by)
    changed = {"image_size": size or spec.image_size, "generator_steps": steps or spec.generator_steps}
    spec, chosen = spec.model_copy(update=changed), choose_device(device)
    name, plugin = GENERATORS.parse(generator)
    reference = plugin_reference(name, plugin, "generator", spec.image_size)
    reporter, folder = make_reporter(quiet), out.expanduser()
    try:
        index = cleaned(_index(data, labels), clean, chosen, quiet=quiet)
        with training_folder(folder, publish=index.dataset.redistributable):
            loaded = _load(index, spec, reporter)
            fit = _describe(plugin, reference, index, loaded, spec, seed)
            there = begin_fit(folder, fit)
            if there is None and (slow := slow_precision_note(chosen)):
                reporter.say(f"note: {slow}")
            progress = partial(reporter.step, _training(name))
            ctx = RunContext(seed, chosen, fit.steps, folder / "training", progress, save_every)
            model = there or _train(plugin, fit, loaded, ctx, folder, reporter)
            fitted = load_generator(folder / MODEL, model)
            if there is None or not (folder / SAMPLES).exists():
                _draw(fitted, model, folder, chosen)
    except KeyboardInterrupt:
        typer.echo(f"cxrbench: interrupted; the same command {_goes_on(folder)}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    finally:
        reporter.close()
    if quiet:
        return
    for sentence in fitted.diagnosis() if isinstance(fitted, Diagnosed) else ():
        typer.echo(f"{name}: {sentence}")
    if there:
        typer.echo(f"already trained: {folder / MODEL} is this fit, and complete; nothing was done")
    else:
        seconds = model.provenance["seconds"]
        typer.echo(f"trained {name} for {fit.steps} steps in {seconds:.0f} s: see {folder / SAMPLES}")
        typer.echo(f"next: cxrbench sample {shlex.quote(str(folder))}")


def sample(
    model: Annotated[Path, typer.Argument(help="A folder that `cxrbench train` made, or the model in it.")],
    labels: Annotated[str, typer.Option("--labels", help="Comma-separated classes; default all of the model's.")] = "",
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="Films of each class; default 100, and 8 in a grid.")
    ] = None,
    form: Annotated[
        str,
        typer.Option("--format", help="grid (one picture), png (a folder that --data reads) or npz (uint8 arrays)."),
    ] = "grid",
    seed: Annotated[int, typer.Option("--seed", min=0, max=SEEDS, help="Of the films; a longer set begins alike.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write; default films.png, films or films.npz by the model.")
    ] = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Sample films from a trained generator; the data it was trained on need not be here."""
    signal.signal(signal.SIGTERM, interrupt)
    from cxrbench.film_files import PLACES, WRITERS, check_place
    from cxrbench.machine import choose_device
    from cxrbench.models import find_model, load_generator, read_model, sample_model

    folder = find_model(model.expanduser())
    card, chosen = read_model(folder), choose_device(device)
    wanted = _wanted(labels, card.classes)
    names = [card.classes[label] for label in wanted]
    target = out.expanduser() if out else folder.resolve().parent / PLACES.get(form, "")
    check_place(target, form, names)
    each = count or (SHOWN if form == "grid" else DEFAULT_COUNT)
    films = sample_model(load_generator(folder, card), card, dict.fromkeys(wanted, each), seed, chosen)
    try:
        WRITERS[form](target, films, card.classes, _facts(card, seed))
    except KeyboardInterrupt:
        typer.echo("cxrbench: interrupted; nothing was written", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if not quiet:
        typer.echo(f"wrote {target}: {each} film{'s' if each > 1 else ''} of each of {', '.join(names)}")


def _index(data: str, labels: str) -> DataIndex:
    from cxrbench.datasets.resolve import resolve_dataset
    from cxrbench.renames import parse_labels
    from cxrbench.stages import index_data

    name, dataset = resolve_dataset(data)
    return index_data(name, dataset, parse_labels(labels))


def _load(index: DataIndex, spec: BenchSpec, reporter: Reporter) -> LoadedData:
    """Decode and split the films, and say which of them will be trained on."""
    from cxrbench.cache import Cache, default_cache_root
    from cxrbench.stages import load_and_split

    reporter.start(1.0)
    what = f"load {index.name}"
    reporter.begin(what, 0.0)
    loaded = load_and_split(index, spec, SPLIT_SEED, Cache(default_cache_root()), partial(reporter.step, what))
    reporter.end(what, None)
    parts = {name: len(rows) for name, rows in loaded.split.parts().items()}
    reporter.say(
        f"{parts['train']} training films at {spec.image_size} px (split by {loaded.split.by}, seed {SPLIT_SEED}); "
        f"{parts['val']} validation and {parts['test']} test films are kept from the generator"
    )
    return loaded


def _describe(
    plugin: Generator, reference: PluginRef, index: DataIndex, loaded: LoadedData, spec: BenchSpec, seed: int
) -> Fit:
    from cxrbench.models import Fit, code_of, describe_origin
    from cxrbench.stages import class_counts
    from cxrbench.synthesis import fit_key

    counts = class_counts(loaded.train.labels, len(index.classes))
    return Fit(
        key=fit_key(reference.identity, loaded, 1.0, spec, seed),
        generator=reference,
        code=code_of(reference.name.partition(":")[0], plugin),
        made_by=describe_origin(reference),
        classes=index.classes,
        size=spec.image_size,
        seed=seed,
        steps=spec.generator_steps,
        data=index.name,
        data_hash=index.hash,
        split_by=loaded.split.by,
        clean=index.clean,
        train_films={index.classes[label]: count for label, count in counts.items()},
    )


def _train(plugin: Generator, fit: Fit, loaded: LoadedData, ctx: RunContext, folder: Path, reporter: Reporter) -> Model:
    """Fit, and save to ``folder``.

    Raises:
        CxrbenchError: it diverged or failed, in one line.
        UsageError: the plug-in refuses these films or parameters, or cannot be saved.
    """
    from cxrbench.contracts import Reserved
    from cxrbench.machine import describe_machine
    from cxrbench.models import MODEL, read_model, save_model

    name, started = fit.generator.name, time.monotonic()
    reporter.begin(_training(name), 1.0)
    films, reserve = loaded.train_and_reserve()
    trace = ctx.workdir / "error.txt"
    try:
        ctx.workdir.mkdir(exist_ok=True)
        trace.unlink(missing_ok=True)
        if isinstance(plugin, Reserved):
            plugin.keep(reserve)
        plugin.fit(films, ctx)
    except CxrbenchError:
        raise
    except Diverged as reason:
        kept = ctx.workdir / "checkpoint"
        where = f"; the last good checkpoint is {kept}" if kept.is_dir() else ""
        raise CxrbenchError(f"{name} diverged: {reason}{where}") from None
    except Exception as error:
        with contextlib.suppress(OSError):  # a full disk may be the reason
            trace.write_text(traceback.format_exc())
        raise CxrbenchError(f"{name} failed: {type(error).__name__}: {error} (see {trace})") from error
    provenance = {
        "command": shlex.join(["cxrbench", *sys.argv[1:]]),
        **describe_machine(ctx.device),
        "seconds": round(time.monotonic() - started, 3),
    }
    save_model(plugin, fit, provenance, folder / MODEL)
    shutil.rmtree(ctx.workdir / "checkpoint", ignore_errors=True)  # what it was kept for is done
    return read_model(folder / MODEL)


def _training(name: str) -> str:
    return f"train {name}"


def _draw(generator: Generator, model: Model, folder: Path, device: str) -> None:
    """The first films of each class."""
    from cxrbench.film_files import write_grid
    from cxrbench.models import MODEL, sample_model

    counts = dict.fromkeys(range(len(model.classes)), SHOWN)
    try:
        films = sample_model(generator, model, counts, 0, device)
        write_grid(folder / SAMPLES, films, model.classes, _facts(model, 0))
    except CxrbenchError as error:
        raise type(error)(f"{folder / MODEL} is complete, but: {error}") from None


def _goes_on(folder: Path) -> str:
    """What a training that was interrupted will do next."""
    from cxrbench.models import MODEL

    if (folder / MODEL).exists():
        return f"finds {folder / MODEL} complete"
    kept = folder / "training" / "checkpoint"
    return f"goes on from the last checkpoint in {kept}" if kept.is_dir() else "starts anew: there is no checkpoint yet"


def _wanted(labels: str, classes: tuple[str, ...]) -> list[int]:
    """Names to labels, in the order they were given; all where none is named."""
    names = list(dict.fromkeys(filter(None, (name.strip() for name in labels.split(",")))))
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise UsageError(
            f"--labels: the model has no class {', '.join(map(repr, unknown))}; it has {', '.join(map(repr, classes))}"
        )
    return [classes.index(name) for name in names or classes]


def _facts(model: Model, seed: int) -> dict[str, str]:
    """What every file of sampled films says of their origin."""
    return {"source": f"synthetic:{model.generator.name}", "model": model.key, "seed": str(seed)}
