"""``cxrbench data``: what public data sets there are, and how to get them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from cxrbench.errors import DataError, UsageError

if TYPE_CHECKING:
    from cxrbench.fetch.catalogue import Source
    from cxrbench.fetch.digests import Progress
    from cxrbench.fetch.manifest import Damage

LISTED = 100  # damaged files named one by one; then only counted

data_app = typer.Typer(help="Find and fetch public chest X-ray data sets.", invoke_without_command=True)

NameArgument = Annotated[str, typer.Argument(help="A name that `cxrbench data list` shows.")]
ToOption = Annotated[Path | None, typer.Option("--to", help="Folder to make; default data/NAME.")]


@data_app.callback()
def data(context: typer.Context) -> None:
    """Find and fetch public chest X-ray data sets."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@data_app.command(name="list")
def list_sources() -> None:
    """Show every data set that can be fetched."""
    from cxrbench.fetch.catalogue import catalogue, size_text

    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    for column in ("name", "what it is", "size", "licence", "how", "adapter"):
        table.add_column(column, no_wrap=column not in ("what it is", "licence"), overflow="fold")
    for source in catalogue().values():
        title, licence = (text.partition(":")[0] for text in (source.title, source.licence))
        table.add_row(source.name, title, size_text(source.size), licence, source.how, source.adapter)
    Console().print(table)
    typer.echo("`cxrbench data info NAME` tells more; `cxrbench data fetch NAME` gets one")


@data_app.command()
def info(name: NameArgument, to: ToOption = None) -> None:
    """Show one data set: its licence, how to cite it, and what will be downloaded where."""
    from cxrbench.fetch.catalogue import find, size_text

    source = find(name)
    _introduce(source)
    typer.echo(f"read by:  {source.adapter}")
    typer.echo(f"size:     about {size_text(source.size)} to download")
    for remote in source.files:
        exact = f" ({remote.bytes} bytes)" if remote.bytes else ""
        typer.echo(f"file:     {remote.filename}{exact} from {remote.url}")
        unknown = "none is published; the first fetch records it in the manifest, and later checks go by that"
        typer.echo(f"digest:   {remote.digest or unknown}")
    if source.kaggle:
        kind = "data set" if "/" in source.kaggle else "competition"
        typer.echo(f"file:     all of Kaggle's {kind} {source.kaggle}, by kagglehub (pip install 'cxrbench[kaggle]')")
        typer.echo("digest:   none is published; the first fetch records that of every file in the manifest")
    typer.echo(f"goes to:  {_folder(source, to)}")


@data_app.command()
def fetch(
    name: NameArgument,
    to: ToOption = None,
    archives: Annotated[
        list[Path] | None,
        typer.Option("--from", help="A zip, tar or npz downloaded by hand, instead of the network."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Accept the licence and the terms; do not ask.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check every byte of a folder fetched before.")] = False,
) -> None:
    """Download a data set (or take an archive), check it and unpack it."""
    from cxrbench.fetch.catalogue import find, size_text
    from cxrbench.fetch.dataset import already_here, check_folder, check_request
    from cxrbench.fetch.dataset import fetch as fetch_dataset

    source, given = find(name), archives or []
    folder = _folder(source, to)
    _introduce(source)
    check_archives = [] if verify else given
    manifest = already_here(source, folder, check_archives) if folder.exists() else None
    if manifest is not None:
        with _bar() as progress:
            damage = check_folder(folder, manifest, verify, progress)
        _complain_of(damage, folder)
        how = "every sha256 is right" if verify else "all sizes are right; --verify reads every byte"
        typer.echo(f"already here: {folder} ({len(manifest.files)} files; {how})")
    elif verify:
        raise UsageError(f"{folder} holds no {source.name} to verify; fetch it first, or name its folder with --to")
    else:
        check_request(source, given)
        if not yes:
            what = f"unpack {', '.join(map(str, given))}" if given else f"download about {size_text(source.size)}"
            _ask(f"Accept this, and {what} to {folder}?")
        try:
            with _bar() as progress:
                manifest = fetch_dataset(source, folder, given, progress)
        except KeyboardInterrupt:
            typer.echo("the part that came is kept; give the same command again to go on", err=True)
            raise
        total = size_text(sum(facts.bytes for facts in manifest.files.values()))
        typer.echo(f"wrote {len(manifest.files)} files ({total}) to {folder}")
    _say_next(folder)


def _folder(source: Source, to: Path | None) -> Path:
    return to.expanduser() if to is not None else Path("data") / source.name


def _introduce(source: Source) -> None:
    """Licence and citation come before anything is asked or fetched."""
    typer.echo(f"{source.name}: {source.title}")
    typer.echo(f"licence:  {source.licence}")
    typer.echo(f"cite:     {source.citation}")
    typer.echo(f"homepage: {source.homepage}")
    if source.terms:
        typer.echo(f"terms:    {source.terms}")
    if source.note:
        typer.echo(f"note:     {source.note}")


def _ask(question: str) -> None:
    if not _interactive():
        raise UsageError("nobody is there to accept the licence; add --yes to accept it")
    if not typer.confirm(question):
        raise UsageError("not accepted; nothing was fetched")


def _interactive() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _complain_of(damage: Damage, folder: Path) -> None:
    lines = list(damage.lines())
    for line in lines[:LISTED]:
        typer.echo(line)
    if len(lines) > LISTED:
        typer.echo(f"and {len(lines) - LISTED} more")
    if lines:
        raise DataError(
            f"{folder} is not as it was fetched: {len(damage.changed)} changed, {len(damage.missing)} missing, "
            f"{len(damage.extra)} extra; move the folder away and fetch it again"
        )


def _say_next(folder: Path) -> None:
    from cxrbench.fetch.dataset import films_path

    typer.echo(f"next: cxrbench run --data {shlex.quote(str(films_path(folder)))}")


@contextmanager
def _bar() -> Iterator[Progress]:
    """A bar that goes away when done; nothing where there is no terminal."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield show
