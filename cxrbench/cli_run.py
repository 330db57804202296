"""``cxrbench run`` and ``cxrbench plan``: the options they share, and what they show."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cxrbench.asked import DEFAULT_GENERATORS, Asked, prepare, request_of
from cxrbench.cli_audit import cleaned
from cxrbench.errors import UsageError

if TYPE_CHECKING:
    from cxrbench.costs.prediction import Prediction
    from cxrbench.plan import Plan
    from cxrbench.recipes import Recipe
    from cxrbench.records import Trial
    from cxrbench.report.analysis import Analysis
    from cxrbench.runner import Outcome
    from cxrbench.stages import DataIndex
    from cxrbench.store import Store

EXIT_FAILED_TRIALS = 1
EXIT_INTERRUPTED = 130

RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe", help="A published study (see `cxrbench list`) or a .toml: its options, where none is given here."
    ),
]
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
SeedsOption = Annotated[int | None, typer.Option("--seeds", help="Generator seeds in each split; default by tier.")]
ClassifierSeedsOption = Annotated[
    int, typer.Option("--classifier-seeds", help="Classifiers trained with each generator seed.")
]
SplitsOption = Annotated[int, typer.Option("--splits", help="Independent splits of the data, the whole grid in each.")]
TuneOption = Annotated[
    int, typer.Option("--tune", help="Classifier configurations tried in every arm; validation films choose.")
]
ControlsOption = Annotated[
    str, typer.Option("--controls", help="all, none, or names: generators whose place in the ranking is known.")
]
ExtractorsOption = Annotated[
    str, typer.Option("--extractors", help="auto, or comma-separated names; see `cxrbench list`.")
]
WeightsOption = Annotated[
    str, typer.Option("--weights", help="Weights of extractors: files or folders, as in $CXRBENCH_WEIGHTS.")
]
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

JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=0,
        help="Trials that run side by side, one process and thread each; default $CXRBENCH_JOBS, else one a core on a "
        "CPU; 0: in the command's own process, as on a GPU. Scores do not depend on it.",
    ),
]


def run(
    context: typer.Context,
    recipe: RecipeOption = "",
    data: DataOption = "phantom",
    generators: GeneratorsOption = DEFAULT_GENERATORS,
    classifiers: ClassifiersOption = "small-cnn",
    ratios: RatiosOption = "0,0.5,1",
    tier: TierOption = "quick",
    seeds: SeedsOption = None,
    classifier_seeds: ClassifierSeedsOption = 1,
    splits: SplitsOption = 1,
    tune: TuneOption = 1,
    controls: ControlsOption = "all",
    extractors: ExtractorsOption = "auto",
    device: DeviceOption = "auto",
    pretrained: PretrainedOption = "",
    split_by: SplitByOption = "auto",
    labels: LabelsOption = "",
    external: ExternalOption = "",
    clean: CleanOption = "none",
    results: ResultsOption = Path("results"),
    weights: WeightsOption = "",
    jobs: JobsOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run every trial again.")] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first failed trial.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Train generators and classifiers, measure, and write the leaderboard."""
    started = time.monotonic()
    signal.signal(signal.SIGTERM, interrupt)
    asked, study = _asked(context, recipe)
    store, index, planned = _prepare(asked, results, weights, quiet=quiet, fresh=fresh)

    from cxrbench.cache import Cache, default_cache_root
    from cxrbench.progress import make_reporter
    from cxrbench.recipes import keep_recipe
    from cxrbench.report.analysis import analyse_store
    from cxrbench.report.freshness import PAGE, is_current
    from cxrbench.report.page import write_report
    from cxrbench.runner import run_plan

    reporter = make_reporter(quiet)
    for note in [*planned.notes, *(planned.external.notes if planned.external else ())]:
        reporter.say(f"note: {note}")
    if study:
        keep_recipe(results, study, index.hash, planned.request.spec.hash)
    outcome = run_plan(
        planned,
        index,
        store,
        Cache(default_cache_root()),
        reporter,
        command=shlex.join(["cxrbench", *sys.argv[1:]]),
        asked=asked.model_dump(),
        jobs=jobs,
        fresh=fresh,
        fail_fast=fail_fast,
    )
    current = is_current(store)
    analyses = analyse_store(store, index.hash if current else "")
    page = store.root / PAGE if current else write_report(store, analyses)
    if not quiet:
        _summarise(outcome, page, analyses, index, time.monotonic() - started)
    if outcome.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if outcome.failed:
        raise typer.Exit(EXIT_FAILED_TRIALS)


def plan(
    context: typer.Context,
    recipe: RecipeOption = "",
    data: DataOption = "phantom",
    generators: GeneratorsOption = DEFAULT_GENERATORS,
    classifiers: ClassifiersOption = "small-cnn",
    ratios: RatiosOption = "0,0.5,1",
    tier: TierOption = "quick",
    seeds: SeedsOption = None,
    classifier_seeds: ClassifierSeedsOption = 1,
    splits: SplitsOption = 1,
    tune: TuneOption = 1,
    controls: ControlsOption = "all",
    extractors: ExtractorsOption = "auto",
    device: DeviceOption = "auto",
    pretrained: PretrainedOption = "",
    split_by: SplitByOption = "auto",
    labels: LabelsOption = "",
    external: ExternalOption = "",
    clean: CleanOption = "none",
    results: ResultsOption = Path("results"),
    weights: WeightsOption = "",
    jobs: JobsOption = None,
    costs: Annotated[
        bool,
        typer.Option(
            "--costs",
            help="Predict seconds and memory; what is new here is tried first: 5 s of trying, some 20 s in all.",
        ),
    ] = False,
) -> None:
    """Show the trials of a run and which of them are done, without running any (--clean may audit the data first)."""
    asked, _ = _asked(context, recipe)
    store, index, planned = _prepare(asked, results, weights, quiet=False)
    todo = [trial for trial in planned.trials if not store.is_done(trial.key)]
    waiting = {trial.key for trial in todo}
    prediction, jobs = _predicted(planned, index, jobs) if costs else (None, 1)
    table = Table("trial", "state", *(["seconds", "MiB"] if prediction else []), "key")
    for trial in planned.trials:
        shown = _shown_cost(trial, prediction, trial.key in waiting) if prediction else []
        table.add_row(trial.describe(), "to run" if trial.key in waiting else "[green]done[/]", *shown, trial.key[:12])
    console = Console()
    console.print(table)
    console.print(f"{len(planned.trials)} trials, {len(planned.trials) - len(todo)} done, {len(todo)} to run")
    if prediction:
        for line in _summary_of_costs(prediction, todo, jobs):
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def _predicted(planned: Plan, index: DataIndex, jobs: int | None) -> tuple[Prediction, int]:
    from cxrbench.cache import Cache, default_cache_root
    from cxrbench.costs.prediction import predict
    from cxrbench.runner import chosen_jobs

    chosen = chosen_jobs(jobs, planned.request.device)
    return predict(planned, index, Cache(default_cache_root())), max(chosen, 1)


def _shown_cost(trial: Trial, prediction: Prediction, waiting: bool) -> list[str]:
    cost = prediction.trials[trial.key]
    if not waiting:
        return ["0", ""]
    return [f"{cost.seconds:.1f}", f"{cost.peak_bytes / 2**20:.0f}"] if cost else ["unknown", ""]


def _summary_of_costs(prediction: Prediction, todo: Sequence[Trial], jobs: int) -> list[str]:
    minutes, seconds = divmod(round(prediction.run_seconds(todo, jobs)), 60)
    peak = prediction.run_bytes(todo, jobs) / 2**30
    beside = f"{jobs} processes" if jobs > 1 else "one process"
    unknown = sum(prediction.trials[trial.key] is None for trial in todo)
    without = f", without {unknown} trials of unknown cost" if unknown else ""
    line = f"about {minutes}:{seconds:02} with {beside}, peak memory about {peak:.1f} GiB{without}"
    return [*(f"cost unknown: {line}" for line in prediction.broken), line]


def use_weights(weights: str) -> None:
    """Let the extractors find the weights that ``--weights`` names.

    Raises:
        UsageError: one of them does not exist.
    """
    if not weights:
        return
    for named in filter(None, weights.split(os.pathsep)):
        if not Path(named).exists():
            raise UsageError(f"--weights {named}: there is no such file or folder")
    os.environ["CXRBENCH_WEIGHTS"] = weights


def _asked(context: typer.Context, recipe_name: str) -> tuple[Asked, Recipe | None]:
    """The options of the command, where a recipe is named with its own in place of those that were not given."""
    asked = Asked(**{option: context.params[option] for option in Asked.model_fields})
    if not recipe_name:
        return asked, None
    from cxrbench.recipes import asked_under, find_recipe

    recipe = find_recipe(recipe_name)
    sources = {option: context.get_parameter_source(option) for option in Asked.model_fields}
    given = {option for option, source in sources.items() if source and source.name != "DEFAULT"}
    return asked_under(recipe, asked, given), recipe


def _prepare(
    asked: Asked, results: Path, weights: str, *, quiet: bool, fresh: bool = False
) -> tuple[Store, DataIndex, Plan]:
    from cxrbench.store import Store

    use_weights(weights)
    request = request_of(asked)
    store = Store(results)
    store.prepare()
    clean = partial(cleaned, policy=asked.clean, device=request.device, quiet=quiet, records=() if fresh else store)
    index, planned = prepare(asked, request, clean)
    return store, index, planned


def _summarise(outcome: Outcome, page: Path, analyses: Sequence[Analysis], index: DataIndex, seconds: float) -> None:
    from cxrbench.report.terminal import summaries

    console = Console()
    for table in summaries(analyses, index.hash):
        console.print(table)
    state = "interrupted" if outcome.interrupted else "finished"
    console.print(
        f"{state} in {seconds:.0f} s: {len(outcome.ran)} trials run, {len(outcome.failed)} failed, "
        f"{outcome.cached} already done; see {page}",
        highlight=False,
        soft_wrap=True,
    )


def interrupt(signum: int, frame: object) -> None:
    """A signal handler: SIGTERM ends a command as Ctrl-C does."""
    raise KeyboardInterrupt
