"""``cxrbench audit``, and the audit that ``run --clean`` rests on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cxrbench.errors import UsageError

if TYPE_CHECKING:
    from cxrbench.audit.audit import Audit
    from cxrbench.records import Record
    from cxrbench.stages import DataIndex


def audit(
    data: Annotated[str, typer.Argument(help="A folder, a CSV, or a data set's name with parameters.")],
    results: Annotated[Path, typer.Option("--results", help="Folder; the audit goes to audit/<data>/ in it.")] = Path(
        "results"
    ),
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Find what is wrong with a data set, and how far a classifier could get by cheating on it."""
    from cxrbench.audit.findings import MEANING, count_findings
    from cxrbench.audit.page import write_audit
    from cxrbench.datasets.resolve import resolve_dataset
    from cxrbench.stages import index_data

    started = time.monotonic()
    name, dataset = resolve_dataset(data)
    index = index_data(name, dataset)
    found = audited(index, device, quiet=quiet)
    page = write_audit(found, results, publish=dataset.redistributable)
    if quiet:
        return
    console = Console()
    table = Table("finding", "films", "meaning", title=f"{name}: {found.facts['films']} films")
    for kind, count in count_findings(found.findings).items():
        table.add_row(kind, str(count), MEANING[kind], style="bold" if count else "dim")
    console.print(table)
    for probe in found.probes:
        value = "" if probe.auroc is None else f" AUROC {probe.auroc:.3f} ({probe.low:.3f} to {probe.high:.3f})"
        console.print(f"shortcut {probe.name}:{value} {probe.verdict}", highlight=False)
    for warning in found.warnings:
        console.print(f"warning: {warning}", highlight=False)
    seconds = time.monotonic() - started
    console.print(f"audited in {seconds:.0f} s; see {page}", highlight=False, soft_wrap=True)


def audited(index: DataIndex, device: str, *, quiet: bool) -> Audit:
    """The audit of a data set, from the cache where its content is known; shows a bar while it works."""
    from cxrbench.audit.audit import is_audited, run_audit
    from cxrbench.cache import Cache, default_cache_root
    from cxrbench.machine import choose_device

    cache = Cache(default_cache_root())
    chosen = "cpu" if is_audited(index, cache) else choose_device(device)
    columns = (TextColumn("audit: {task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True, disable=quiet or not Console().is_terminal) as bar:
        task = bar.add_task("list", total=None)

        def stage(what: str) -> Callable[[int, int], None]:
            bar.update(task, description=what, completed=0, total=None)
            return lambda done, total: bar.update(task, completed=done, total=total)

        found = run_audit(index, cache, chosen, stage)
    return replace(found, name=index.name)


def cleaned(index: DataIndex, policy: str, device: str, *, quiet: bool, records: Iterable[Record] = ()) -> DataIndex:
    """``index`` after ``--clean policy``.

    Args:
        records: where one of them says what was removed of these films by this policy, that is removed, and said.

    Raises:
        UsageError: there is no such policy.
    """
    from cxrbench.audit.findings import POLICIES

    if policy not in POLICIES:
        raise UsageError(f"--clean {policy}: use {', '.join(POLICIES)}")
    if policy == "none":
        return index
    from cxrbench.audit.cleaning import clean_as_recorded, clean_index

    if known := clean_as_recorded(index, policy, records):
        found, record = known
        if not quiet:
            there = f"the {len(found.removed)} films that record {record.key[:12]} lists are left out"
            typer.echo(f"note: --clean {policy}: {there}, without a new audit", err=True)
        return found
    return clean_index(index, audited(index, device, quiet=quiet), policy)
