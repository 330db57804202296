"""Fixtures of all tests: a private cache, the command, small runs, and the real films where they are."""

from __future__ import annotations

import csv
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cxrbench.records import Setting

# The extractor that takes least: where another counts, a test says so.
SMALL = ["--data", "phantom:patients_per_class=8", "--tier", "smoke", "--device", "cpu", "--controls", "none"]
SMALL += ["--extractors", "radio-texture"]


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CXRBENCH_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run beside each other, and many look at what a plug-in did in their own process."""
    monkeypatch.setenv("CXRBENCH_JOBS", "0")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real chest X-rays."""
    named = os.environ.get("CXRBENCH_DATA")
    if not named:
        pytest.skip("CXRBENCH_DATA is not set: it names the folder of real chest X-rays")
    return Path(named)


@pytest.fixture
def cli() -> Callable[..., int]:
    """Runs the command in this process and returns its exit code."""
    from cxrbench.cli import main

    def command(*arguments: object) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["cxrbench", *map(str, arguments)])
            before = signal.getsignal(signal.SIGTERM)
            try:
                main()
            except SystemExit as end:
                return int(end.code or 0)
            finally:
                signal.signal(signal.SIGTERM, before)
        return 0

    return command


@pytest.fixture
def run(cli: Callable[..., int]) -> Callable[..., int]:
    """`cxrbench run` on a small phantom; returns the exit code."""

    def command(results: Path, *more: object, generators: str = "classical", ratios: str = "0,1") -> int:
        return cli("run", *SMALL, "--results", results, "--generators", generators, "--ratios", ratios, *more)

    return command


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures on the page: drawing them takes half of a small run."""
    monkeypatch.setattr("cxrbench.report.figures.draw_figures", lambda analysis, store: {})


@pytest.fixture(scope="session")
def setting() -> Callable[..., Setting]:
    """Makes what the trials of a toy run share."""
    from cxrbench.records import Setting

    digest = "0" * 64
    toy = {"data": "toy", "data_hash": digest, "split_seed": 0, "split_key": digest, "spec_hash": digest}
    toy |= {"tier": "smoke", "image_size": 32, "split_by": "patient", "clean": "none"}
    return lambda **facts: Setting(**(toy | facts))


@pytest.fixture
def statuses() -> Callable[[Path], dict[str, str]]:
    """``statuses(results)`` is how each trial ended, by its description."""
    from cxrbench.store import Store

    return lambda results: {record.trial.describe(): record.status for record in Store(results)}


@pytest.fixture
def draw_hospital() -> Callable[..., list[dict[str, str]]]:
    """Draws a folder of PNGs and the metadata.csv that names them."""
    from PIL import Image

    from cxrbench.datasets.phantom import CLASSES, Phantom

    def draw(
        root: Path, facts: Callable[[int], dict[str, str]], patients: int = 12, seed: int = 0
    ) -> list[dict[str, str]]:
        """One film of each of a phantom's patients; ``facts`` gives the further columns of film number i.

        Returns:
            The rows of the table; ``write_table`` writes them again where a test has changed them.
        """
        root.mkdir(parents=True)
        phantom, rows = Phantom(patients_per_class=patients, max_films=1, seed=seed), []
        for number, film in enumerate(phantom.listing().films):
            name = f"{film.file.replace('/', '-')}.png"
            Image.fromarray(phantom.read(film, 64)).save(root / name)
            rows.append({"file": name, "label": CLASSES[film.label], **facts(number)})
        write_table(root, rows)
        return rows

    return draw


def write_table(root: Path, rows: list[dict[str, str]]) -> None:
    """``metadata.csv`` beside the films."""
    with (root / "metadata.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


@pytest.fixture(name="write_table")
def write_table_fixture() -> Callable[[Path, list[dict[str, str]]], None]:
    """``write_table``, for tests that spoil a table."""
    return write_table
