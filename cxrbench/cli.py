"""The command line. Torch and the plug-ins are imported by the commands that need them, not before."""

from __future__ import annotations

import errno
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cxrbench import __version__
from cxrbench.cli_audit import audit
from cxrbench.cli_compare import compare
from cxrbench.cli_data import data_app
from cxrbench.cli_run import EXIT_INTERRUPTED, ResultsOption, plan, run
from cxrbench.cli_train import sample, train
from cxrbench.cli_verify import rescore, verify
from cxrbench.errors import CxrbenchError, UsageError
from cxrbench.machine import keep_freed_memory

if TYPE_CHECKING:
    from cxrbench.registry import Registry

app = typer.Typer(
    help="Does synthetic chest X-ray augmentation help a classifier, by how much, and at what cost?\n\n"
    "Exit codes: 0 ok, 1 some trials failed, 2 usage, 4 bad data, 5 verify found a difference, 130 interrupted.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data_app, name="data")
app.command()(run)
app.command()(plan)
app.command()(audit)
app.command()(compare)
app.command()(verify)
app.command()(rescore)
app.command()(train)
app.command()(sample)


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
    """Show every generator, classifier, data set, extractor and recipe that is installed."""
    table = Table("kind", "name", "from", "what it is")
    for registry in _registries():
        for name in registry.names():
            try:
                summary, style = _summary(registry.get(name)), ""
            except CxrbenchError as error:
                summary, style = str(error), "red"
            table.add_row(registry.kind, name, registry.origin(name), summary, style=style)
    _add_recipes(table)
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


def _add_recipes(table: Table) -> None:
    """One row per recipe; one that is wrong, or a folder that cannot be had, is a red row."""
    from cxrbench.recipes import broken_folders, read_recipe, recipe_files

    for path, origin in recipe_files().items():
        try:
            table.add_row("recipe", path.stem, origin, read_recipe(path).title)
        except CxrbenchError as error:
            table.add_row("recipe", path.stem, origin, str(error), style="red")
    for name, why in broken_folders().items():
        table.add_row("recipes", name, "", why, style="red")


def _registries() -> list[Registry]:
    from cxrbench.registry import CLASSIFIERS, DATASETS, EXTRACTORS, GENERATORS

    return [GENERATORS, CLASSIFIERS, DATASETS, EXTRACTORS]


def _summary(cls: type) -> str:
    """First sentence of the module's docstring, which names the model better than the class's does."""
    text = (sys.modules[cls.__module__].__doc__ or cls.__doc__ or "").strip()
    return " ".join(text.partition("\n\n")[0].split())


# Typer brings its own copy of click in some versions and uses the installed one in others.
COMMAND_LINE_ERROR: type[Exception] = typer.BadParameter.__mro__[2]
assert COMMAND_LINE_ERROR.__name__ == "ClickException"

# Of a disk that takes no more: full, over quota, read-only. What else is wrong with a file is said where it is opened.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def main() -> None:
    """Entry point: errors a user can mend become one line and their exit code."""
    keep_freed_memory()
    warnings.formatwarning = _in_one_line
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
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        _complain(_what_the_disk_refused(error))
        code = UsageError.exit_code
    raise SystemExit(code or 0)


def _what_the_disk_refused(error: OSError) -> str:
    from cxrbench.cache import default_cache_root

    where = error.filename or f"the results or the cache ({default_cache_root()})"
    return (
        f"{where} cannot be written ({error.strerror}); make room there and give the same command again: finished "
        "trials are kept"
    )


def _in_one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning to users, without the source that it comes from; others as Python has them."""
    if category is UserWarning:
        return f"cxrbench: warning: {' '.join(str(message).split())}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def _complain(text: str) -> None:
    typer.echo(f"cxrbench: {' '.join(text.split())}", err=True)
