"""The command line. Torch and the plug-ins are imported by the commands that need them, not before."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cxrbench import __version__
from cxrbench.cli_audit import audit, cleaned
from cxrbench.cli_data import data_app
from cxrbench.errors import CxrbenchError, UsageError

if TYPE_CHECKING:
    from cxrbench.plan import Plan, Request
    from cxrbench.registry import Registry
    from cxrbench.runner import Outcome
    from cxrbench.stages import DataIndex
    from cxrbench.store import Store

EXIT_FAILED_TRIALS = 1
EXIT_INTERRUPTED = 130

app = typer.Typer(
    help="Does synthetic chest X-ray augmentation help a classifier, by how much, and at what cost?\n\n"
    "Exit codes: 0 ok, 1 some trials failed, 2 usage, 4 bad data, 130 interrupted.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data_app, name="data")
app.command()(audit)

DataOption = Annotated[
    str, typer.Option("--data", help="A data set's name (phantom, phantom:shortcut=0.5) or a folder or CSV.")
]
GeneratorsOption = Annotated[
    str, typer.Option("--generators", help="Comma-separated; parameters as cgan:width=64:batch=16.")
]
ClassifiersOption = Annotated[str, typer.Option("--classifiers", help="Comma-separated.")]
RatiosOption = Annotated[
    str, typer.Option("--ratios", help="Synthetic films per real training film; 0 (real only) always runs.")
]
TierOption = Annotated[str, typer.Option("--tier", help="smoke, quick, cpu, standard or full.")]
SeedsOption = Annotated[int | None, typer.Option("--seeds", help="Repetitions; default by tier.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
ResultsOption = Annotated[Path, typer.Option("--results", help="Folder of records, tables and figures.")]
PretrainedOption = Annotated[
    str,
    typer.Option("--pretrained", help="Fine-tune the classifiers: imagenet, or a file of weights."),
]
SplitByOption = Annotated[
    str, typer.Option("--split-by", help="auto, patient, source (test on other hospitals) or official.")
]
LabelsOption = Annotated[
    str, typer.Option("--labels", help="Rename, merge or drop classes: 'Viral Pneumonia=Pneumonia,Other=-'.")
]
ExternalOption = Annotated[
    str, typer.Option("--external", help="A second data set on which every classifier is tested, too.")
]
CleanOption = Annotated[
    str, typer.Option("--clean", help="Leave out what an audit finds: none, quarantine (grave faults) or strict.")
]


def _version(show: bool) -> None:
    if show:
        typer.echo(f"cxrbench {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """The options of every command; without a command, the help."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def run(
    data: DataOption = "phantom",
    generators: GeneratorsOption = "cgan,dcgan,classical",
    classifiers: ClassifiersOption = "small-cnn",
    ratios: RatiosOption = "0,0.5,1",
    tier: TierOption = "quick",
    seeds: SeedsOption = None,
    device: DeviceOption = "auto",
    results: ResultsOption = Path("results"),
    pretrained: PretrainedOption = "",
    split_by: SplitByOption = "auto",
    labels: LabelsOption = "",
    external: ExternalOption = "",
    clean: CleanOption = "none",
    fresh: Annotated[bool, typer.Option("--fresh", help="Run every trial again.")] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first failed trial.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Train generators and classifiers, measure, and write the leaderboard."""
    started = time.monotonic()
    signal.signal(signal.SIGTERM, _interrupt)
    request = _request(generators, classifiers, ratios, tier, seeds, device, pretrained, split_by)
    store, index, plan = _prepare(request, data, results, labels, external, clean, quiet)

    from cxrbench.cache import Cache, default_cache_root
    from cxrbench.progress import make_reporter
    from cxrbench.report.page import write_report
    from cxrbench.runner import run_plan

    reporter = make_reporter(quiet)
    for note in [*plan.notes, *(plan.external.notes if plan.external else ())]:
        reporter.say(f"note: {note}")
    outcome = run_plan(
        plan,
        index,
        store,
        Cache(default_cache_root()),
        reporter,
        command=_command_line(),
        fresh=fresh,
        fail_fast=fail_fast,
    )
    page = write_report(store)
    if not quiet:
        _summarise(outcome, page, store, index, time.monotonic() - started)
    if outcome.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if outcome.failed:
        raise typer.Exit(EXIT_FAILED_TRIALS)


@app.command()
def plan(
    data: DataOption = "phantom",
    generators: GeneratorsOption = "cgan,dcgan,classical",
    classifiers: ClassifiersOption = "small-cnn",
    ratios: RatiosOption = "0,0.5,1",
    tier: TierOption = "quick",
    seeds: SeedsOption = None,
    device: DeviceOption = "auto",
    results: ResultsOption = Path("results"),
    pretrained: PretrainedOption = "",
    split_by: SplitByOption = "auto",
    labels: LabelsOption = "",
    external: ExternalOption = "",
    clean: CleanOption = "none",
) -> None:
    """Show the trials of a run and which of them are done, without running any (--clean audits the data first)."""
    request = _request(generators, classifiers, ratios, tier, seeds, device, pretrained, split_by)
    store, _, planned = _prepare(request, data, results, labels, external, clean, quiet=False)
    table = Table("trial", "state", "key")
    done = 0
    for trial in planned.trials:
        is_done = store.is_done(trial.key)
        done += is_done
        table.add_row(trial.describe(), "[green]done[/]" if is_done else "to run", trial.key[:12])
    console = Console()
    console.print(table)
    console.print(f"{len(planned.trials)} trials, {done} done, {len(planned.trials) - done} to run")


@app.command()
def report(results: ResultsOption = Path("results")) -> None:
    """Rebuild LEADERBOARD.md, tables and figures from the records."""
    from cxrbench.report.page import write_report
    from cxrbench.store import Store

    if not results.is_dir():
        raise UsageError(f"results folder {results} does not exist; name one with --results")
    store = Store(results)
    store.prepare()
    typer.echo(f"wrote {write_report(store)}")


@app.command(name="list")
def list_plugins() -> None:
    """Show every generator, classifier, data set and extractor that is installed."""
    table = Table("kind", "name", "from", "what it is")
    for registry in _registries():
        for name in registry.names():
            try:
                summary, style = _summary(registry.get(name)), ""
            except CxrbenchError as error:
                summary, style = str(error), "red"
            table.add_row(registry.kind, name, registry.origin(name), summary, style=style)
    Console().print(table)


@app.command()
def info(name: Annotated[str, typer.Argument(help="Any name that `cxrbench list` shows.")]) -> None:
    """Explain one plug-in: what it does, its parameters and their defaults."""
    import inspect

    from cxrbench.hashing import plugin_parameters

    holders = [registry for registry in _registries() if name in registry.names()]
    if not holders:
        import difflib

        known = sorted({n for registry in _registries() for n in registry.names()})
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        raise UsageError(
            f"no plug-in is called {name!r}; "
            + (f"did you mean {' or '.join(near)}?" if near else "see `cxrbench list`")
        )
    for registry in holders:
        cls = registry.get(name)
        typer.echo(f"{registry.kind} {name} ({registry.origin(name)}; {cls.__module__}.{cls.__qualname__})\n")
        module = inspect.getdoc(sys.modules[cls.__module__])
        for text in (module, inspect.getdoc(cls)):
            if text:
                typer.echo(text + "\n")
        for key, value in plugin_parameters(cls()).items():
            typer.echo(f"  {key} = {value!r}")


def _request(
    generators: str,
    classifiers: str,
    ratios: str,
    tier: str,
    seeds: int | None,
    device: str,
    pretrained: str,
    split_by: str,
) -> Request:
    from cxrbench.machine import choose_device
    from cxrbench.plan import Request, parse_names, parse_ratios
    from cxrbench.spec import DEFAULT_SEEDS, spec_of_tier

    spec = spec_of_tier(tier, split_by)
    if seeds is not None and seeds < 1:
        raise UsageError(f"--seeds {seeds}: at least one repetition is needed")
    names = parse_names(classifiers, "classifier")
    if pretrained:
        names = tuple(f"{name}:pretrained={pretrained}" for name in names)
    return Request(
        spec,
        parse_names(generators, "generator"),
        names,
        parse_ratios(ratios),
        seeds or DEFAULT_SEEDS[tier],
        choose_device(device),
    )


def _prepare(
    request: Request, data: str, results: Path, labels: str, external: str, clean: str, quiet: bool
) -> tuple[Store, DataIndex, Plan]:
    """Everything that can go wrong before the first trial goes wrong here."""
    from cxrbench.datasets.resolve import resolve_dataset
    from cxrbench.external import match_external
    from cxrbench.plan import make_plan
    from cxrbench.renames import parse_labels
    from cxrbench.stages import index_data
    from cxrbench.store import Store

    renames = parse_labels(labels)
    store = Store(results)
    store.prepare()
    name, dataset = resolve_dataset(data)
    if not external:
        index = cleaned(index_data(name, dataset, renames), clean, request.device, quiet=quiet)
        return store, index, make_plan(request, index)
    other_name, other = resolve_dataset(external)
    index = cleaned(index_data(name, dataset, renames, other.classes()), clean, request.device, quiet=quiet)
    tested = replace(index_data(other_name, other, renames, dataset.classes()), clean=clean)
    matched = match_external(tested, index.classes)
    return store, index, make_plan(request, index, matched)


def _summarise(outcome: Outcome, page: Path, store: Store, index: DataIndex, seconds: float) -> None:
    from cxrbench.report.terminal import summaries

    console = Console()
    for table in summaries(store, index.hash):
        console.print(table)
    state = "interrupted" if outcome.interrupted else "finished"
    console.print(
        f"{state} in {seconds:.0f} s: {len(outcome.ran)} trials run, {len(outcome.failed)} failed, "
        f"{outcome.cached} already done; see {page}",
        highlight=False,
        soft_wrap=True,
    )


def _registries() -> list[Registry]:
    from cxrbench.registry import CLASSIFIERS, DATASETS, EXTRACTORS, GENERATORS

    return [GENERATORS, CLASSIFIERS, DATASETS, EXTRACTORS]


def _summary(cls: type) -> str:
    """First sentence of the module's docstring, which names the model better than the class's does."""
    text = (sys.modules[cls.__module__].__doc__ or cls.__doc__ or "").strip()
    return " ".join(text.partition("\n\n")[0].split())


def _command_line() -> str:
    return shlex.join(["cxrbench", *sys.argv[1:]])


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


# Typer brings its own copy of click in some versions and uses the installed one in others.
COMMAND_LINE_ERROR: type[Exception] = typer.BadParameter.__mro__[2]
assert COMMAND_LINE_ERROR.__name__ == "ClickException"


def main() -> None:
    """Entry point: errors a user can mend become one line and their exit code."""
    try:
        code = app(standalone_mode=False)
    except CxrbenchError as error:
        _complain(str(error))
        code = error.exit_code
    except COMMAND_LINE_ERROR as error:
        _complain(f"{error.format_message().rstrip('.')}; see `cxrbench --help`")  # type: ignore[attr-defined]
        code = UsageError.exit_code
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted; finished trials are kept")
        code = EXIT_INTERRUPTED
    raise SystemExit(code or 0)


def _complain(text: str) -> None:
    typer.echo(f"cxrbench: {' '.join(text.split())}", err=True)
