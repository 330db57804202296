"""``cxrbench verify`` and ``cxrbench rescore``: are the numbers what the records say, and what are they today?"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cxrbench import __version__
from cxrbench.cli_audit import cleaned
from cxrbench.cli_run import EXIT_FAILED_TRIALS, EXIT_INTERRUPTED, ResultsOption
from cxrbench.errors import UsageError

if TYPE_CHECKING:
    from cxrbench.cache import Cache
    from cxrbench.records import Record
    from cxrbench.rerun import Rerun
    from cxrbench.store import Arrays, Store
    from cxrbench.verification import Comparison

EXIT_DIFFERS = 5  # a re-run gave other numbers, or what the records rest on is not what is here
SHOWN = 10  # records named of those without predictions


def verify(
    row: Annotated[
        str, typer.Argument(help="A row's id, or the first digits (at least 4) of it or of a record's key.")
    ],
    results: ResultsOption = Path("results"),
    data: Annotated[str, typer.Option("--data", help="Where the films lie now, if they were moved.")] = "",
    external: Annotated[str, typer.Option("--external", help="The same for the external films.")] = "",
    device: Annotated[str, typer.Option("--device", help="auto (the recorded one), cpu or cuda.")] = "auto",
    tolerance: Annotated[
        float | None,
        typer.Option("--tolerance", help="Largest difference that matches; default 1e-6, on another machine 0.02."),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Keep the new records and the cache in this (empty) folder.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Re-run a row of the leaderboard from its records alone, in a clean cache, and compare every number.

    Exit codes: 0 match, 1 a re-run trial failed, 5 differ (in the numbers, or in what the row rests on).
    """
    from cxrbench.cache import Cache
    from cxrbench.rerun import plan_again
    from cxrbench.rescoring import read_predictions
    from cxrbench.store import Store
    from cxrbench.verification import check_tolerance, find_row

    store = _open(results)
    check_tolerance(tolerance)
    records = find_row(store, row)
    kept = {record.key: read_predictions(store, record) for record in records}
    with _clean_folder(keep) as folder:
        cache, again = Cache(folder / "cache"), Store(folder / "results")
        hashes = {record.trial.setting.data_hash for record in records}
        same_films = [record for record in store if record.trial.setting.data_hash in hashes]
        reruns, why = plan_again(records, partial(cleaned, quiet=quiet, records=same_films), data, external, device)
        if why:
            for line in why:
                typer.echo(f"why: {line}", err=quiet)
            typer.echo(f"differ: row {records[0].trial.row} cannot be re-run as it was; nothing was run", err=quiet)
            raise typer.Exit(EXIT_DIFFERS)
        failed = _run(reruns, again, cache, quiet=quiet)
        compared = _compare(reruns, kept, again, tolerance)
    if compared and not quiet:
        _show(compared)
    for record in failed:
        typer.echo(f"failed: {record.trial.describe()}: {record.status}: {record.error}", err=quiet)
    if failed:
        raise typer.Exit(EXIT_FAILED_TRIALS)
    _conclude(compared, quiet=quiet)


def rescore(results: ResultsOption = Path("results")) -> None:
    """Recompute every score from the kept predictions by today's metrics, and rebuild the report; trains nothing."""
    from cxrbench.report.page import write_report
    from cxrbench.rescoring import rescore_store

    store = _open(results)
    store.prepare()
    note = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "cxrbench": __version__}
    found = rescore_store(store, note)
    page = write_report(store)
    for record in found.without[:SHOWN]:
        typer.echo(f"no predictions: {record.key[:12]} ({record.trial.describe()})")
    if len(found.without) > SHOWN:
        typer.echo(f"no predictions: {len(found.without) - SHOWN} more")
    most = max(found.changes, key=lambda change: change.difference, default=None)
    by = f", by at most {most.difference:.1e} ({most.score}, {most.record.key[:12]})" if most and most.score else ""
    gained = sorted({name.partition("/")[0] for change in found.changes for name in change.gained})
    lost = sorted({name.partition("/")[0] for change in found.changes for name in change.lost})
    by += f"; new: {', '.join(gained)}" if gained else ""
    by += f"; gone: {', '.join(lost)}" if lost else ""
    typer.echo(
        f"rescored {found.scored} records: {len(found.changes)} changed{by}; "
        f"{len(found.without)} have no predictions; see {page}"
    )


def _open(results: Path) -> Store:
    from cxrbench.store import Store

    if not results.is_dir():
        raise UsageError(f"results folder {results} does not exist; name one with --results")
    return Store(results)


@contextmanager
def _clean_folder(keep: Path | None) -> Iterator[Path]:
    """A folder that holds nothing yet, in which the cache is for a while; it vanishes unless it was named."""
    from cxrbench.cache import default_cache_root

    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise UsageError(f"--keep {keep}: it is no empty folder, and a verification needs a clean cache")
    own, named = default_cache_root(), os.environ.get("CXRBENCH_CACHE")
    with tempfile.TemporaryDirectory(prefix="cxrbench-verify-") as temporary:
        folder = Path(keep or temporary).resolve()
        try:
            (folder / "cache").mkdir(parents=True)
        except OSError as error:
            raise UsageError(f"--keep {keep} cannot be written ({error.strerror})") from None
        if (own / "weights").is_dir():  # published files, which are hashed before they are used: no need to fetch again
            (folder / "cache" / "weights").symlink_to((own / "weights").resolve())
        # Digests of files and audits are taken from the cache that is named here, too.
        os.environ["CXRBENCH_CACHE"] = str(folder / "cache")
        try:
            yield folder
        finally:
            del os.environ["CXRBENCH_CACHE"]
            if named is not None:
                os.environ["CXRBENCH_CACHE"] = named


def _run(reruns: Sequence[Rerun], again: Store, cache: Cache, *, quiet: bool) -> list[Record]:
    """Returns the records of the trials that did not end well."""
    from cxrbench.progress import make_reporter
    from cxrbench.runner import run_plan

    failed: list[Record] = []
    for rerun in reruns:
        outcome = run_plan(
            rerun.plan,
            rerun.index,
            again,
            cache,
            make_reporter(quiet),
            command=shlex.join(["cxrbench", *sys.argv[1:]]),
            asked=rerun.asked.model_dump(),
        )
        if outcome.interrupted:
            raise typer.Exit(EXIT_INTERRUPTED)
        failed += outcome.failed
    return failed


def _compare(
    reruns: Sequence[Rerun], kept: Mapping[str, Arrays], again: Store, wanted: float | None
) -> list[Comparison]:
    from cxrbench.verification import choose_tolerance, compare

    compared = []
    for rerun in reruns:
        for record in rerun.records:
            found = again.get(record.key)
            if found is None or found.status != "ok":
                continue
            limit = choose_tolerance(record.provenance, found.provenance, rerun.plan.request.device, wanted)
            compared.append(compare(record, found, limit, kept[record.key], again.arrays(record.key)))
    return compared


def _show(compared: Sequence[Comparison]) -> None:
    table = Table("trial", "largest difference", "in", "recorded", "again", "predictions", "")
    for found in compared:
        values = [f"{found.difference:.1e}", found.score, f"{found.recorded:.8g}", f"{found.again:.8g}"]
        apart = "" if found.predictions is None else f"{found.predictions:.1e}"
        state = "[green]match[/]" if found.matches else "[red]differ[/]"
        split = f", split {found.trial.setting.split_seed}" if found.trial.setting.split_seed else ""
        table.add_row(found.trial.describe() + split, *(values if found.score else [""] * 4), apart, state)
    Console().print(table)
    for limit in dict.fromkeys(found.tolerance for found in compared):
        typer.echo(f"tolerance {limit.describe()}")
    newer = sorted({name for found in compared for name in found.added})
    if newer:
        typer.echo(f"not in the record, so not compared: {', '.join(newer)}")


def _conclude(compared: Sequence[Comparison], *, quiet: bool) -> None:
    apart = [found for found in compared if not found.matches]
    for found in apart:
        for problem in found.problems:
            typer.echo(f"differs: {found.trial.describe()}: {problem}", err=quiet)
    worst = max(compared, key=lambda found: found.difference)
    limits = " and ".join(dict.fromkeys(f"{found.tolerance.limit:g}" for found in compared))
    state = f"differ: {len(apart)} of {len(compared)}" if apart else f"match: {len(compared)}"
    state += " record" if len(compared) == 1 else " records"
    if apart or not quiet:
        typer.echo(
            f"{state} re-run in a clean cache, largest difference {worst.difference:.1e}"
            f"{f' ({worst.score})' if worst.score else ''}, tolerance {limits}",
            err=quiet,
        )
    if apart:
        raise typer.Exit(EXIT_DIFFERS)
