"""What the report says of generators that cheat: four of them run beside an honest one, with all controls.

    python -m bench.deliberate_breaks results/breaks

* ``test-films`` returns validation and test films. The harness hands it none, so it draws the phantom again.
* ``training-copies`` returns the training films.
* ``wrong-labels`` returns new, flawless films, each under the label of another class.
* ``sewn-films`` sews each film together from quarters of four training films: none is a copy as a whole.

Writes ``BREAKS.md``: for each of them, verbatim, every line of the leaderboard that names it. Exits with 1 if one of
them is not caught. A run takes some minutes, nearly all of them the classifiers'.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from safetensors.numpy import load_file, save_file

from cxrbench.asked import Asked, prepare, request_of
from cxrbench.cache import Cache
from cxrbench.contracts import Generator, Images, Labels, Pixels, RunContext
from cxrbench.datasets.phantom import Phantom
from cxrbench.machine import describe_machine
from cxrbench.progress import make_reporter
from cxrbench.registry import GENERATORS
from cxrbench.report.analysis import Analysis, analyse
from cxrbench.report.effects import arm_names
from cxrbench.report.page import write_report
from cxrbench.report.reading import stamp
from cxrbench.report.sections import sections
from cxrbench.runner import run_plan
from cxrbench.store import Store

PATIENTS, SIGNAL = 150, 1.0  # of each class; how clearly a film shows its class (the phantom's default)
FRESH = 1000  # added to the phantom's seed: other patients
HONEST = "classical"


@functools.cache
def draw_phantom(patients_per_class: int, class_signal: float, seed: int, size: int) -> Images:
    """Every film of a phantom, uint8 ``[N, 1, size, size]``."""
    phantom = Phantom(patients_per_class=patients_per_class, class_signal=class_signal, seed=seed)
    films = phantom.listing().films
    pixels = np.stack([phantom.read(film, size) for film in films])[:, None]
    return Images(pixels, np.asarray([film.label for film in films], np.int64), phantom.classes())


@dataclass
class Giver:
    """Gives films that it has chosen, none twice until all films of the class have been given.

    Args:
        patients_per_class, class_signal: of the phantom that is benchmarked.
    """

    patients_per_class: int = PATIENTS
    class_signal: float = SIGNAL

    _films: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    def choose(self, train: Images) -> Images:
        """The films that it gives, under the labels that it gives them."""
        raise NotImplementedError

    def fit(self, train: Images, ctx: RunContext) -> Self:
        chosen = self.choose(train)
        self._films = {str(label): chosen.of_class(label).pixels for label in range(len(train.classes))}
        return self

    def sample(self, labels: Labels, ctx: RunContext) -> Pixels:
        rng = np.random.default_rng(ctx.seed)
        out = np.empty((len(labels), *self._films["0"].shape[1:]), np.uint8)
        for label in np.unique(labels):
            rows, films = np.flatnonzero(labels == label), self._films[str(label)]
            out[rows] = films[np.resize(rng.permutation(len(films)), len(rows))]
        return out

    def save(self, path: Path) -> None:
        save_file(self._films, path / "films.safetensors")

    def load(self, path: Path) -> Self:
        self._films = load_file(path / "films.safetensors")
        return self

    def redrawn(self, seed: int, size: int) -> Images:
        """The films of the phantom that is benchmarked (``seed`` 0), or of other patients of its kind."""
        return draw_phantom(self.patients_per_class, self.class_signal, seed, size)


@dataclass
class GivesTestFilms(Giver):
    """Validation and test films: all films of the phantom but those it was trained on."""

    def choose(self, train: Images) -> Images:
        known, every = {film.tobytes() for film in train.pixels}, self.redrawn(0, train.size)
        return every.subset(np.flatnonzero([film.tobytes() not in known for film in every.pixels]))


@dataclass
class GivesTrainingFilms(Giver):
    """The films it was trained on."""

    def choose(self, train: Images) -> Images:
        return train


@dataclass
class GivesWrongLabels(Giver):
    """Films of new patients, each under the label of the next class."""

    def choose(self, train: Images) -> Images:
        fresh = self.redrawn(FRESH, train.size)
        return Images(fresh.pixels, (fresh.labels + 1) % len(fresh.classes), fresh.classes)


@dataclass
class SewsFilms(Giver):
    """Films of which every quarter is that of another training film of their class."""

    def choose(self, train: Images) -> Images:
        rng, half, sewn = np.random.default_rng(0), train.size // 2, train.pixels.copy()
        for label in range(len(train.classes)):
            own = np.flatnonzero(train.labels == label)
            for y in (0, half):
                for x in (0, half):
                    quarter = (slice(None), slice(y, y + half), slice(x, x + half))
                    sewn[own, *quarter] = train.pixels[rng.permutation(own), *quarter]
        return Images(sewn, train.labels, train.classes)


@dataclass(frozen=True)
class Cheat:
    """A generator that cheats.

    Attributes:
        does, caught: in words: what it does, and what must be found of it.
        flag: that all its rows must bear.
    """

    plugin: type[Generator]
    does: str
    caught: str
    flag: str


CHEATS = {
    "test-films": Cheat(
        GivesTestFilms,
        "returns the validation and test films, rightly labelled",
        "flagged LEAK, and no row of it is ranked or called a help",
        "LEAK",
    ),
    "training-copies": Cheat(
        GivesTrainingFilms,
        "returns the films it was trained on",
        "flagged copies, and without its copies the arm is the real-only one to the last digit",
        "copies",
    ),
    "wrong-labels": Cheat(
        GivesWrongLabels,
        "returns flawless films of new patients, each labelled as another class",
        "flagged wrong labels, and not found to help",
        "wrong labels",
    ),
    "sewn-films": Cheat(
        SewsFilms,
        "sews each film together from quarters of four training films of its class",
        "flagged copied parts",
        "copied parts",
    ),
}


def faults(name: str, analysis: Analysis) -> list[str]:
    """In what ways a cheat was not caught; empty where it was."""
    own = analysis.board[analysis.board["generator"] == name]
    if own.empty:
        return ["no row"]
    found = [] if own["flags"].str.contains(CHEATS[name].flag).all() else ["flag is missing"]
    if name == "test-films" and own["ranked"].any():
        found.append("is ranked")
    if name != "training-copies" and (own["verdict"] == "helps").any():
        found.append("is said to help")
    without = [
        e.gains for e in analysis.effects if e.trial.arm == "copy-adjusted" and arm_names(e.trial)["generator"] == name
    ]
    if name == "training-copies" and not all(gain == 0 for gains in without for _, gain in gains):
        found.append("gains without its copies")
    return found


SAYS_NOTHING = ("All scores", "Ledger: what each arm was given")  # of cheating


def said_of(name: str, page: str) -> Iterator[str]:
    """Every line of a leaderboard that names a generator, below its heading; a table's rows below the table's head."""
    without_classes = re.sub("<details>.*?</details>", "", page, flags=re.DOTALL)
    for part in without_classes.split("\n### ")[1:]:
        heading, *blocks = part.split("\n\n")
        found: list[str] = []
        for lines in [] if heading in SAYS_NOTHING else map(str.splitlines, blocks):
            is_table = bool(lines) and lines[0].startswith("|")
            naming = [line for line in lines if (f"| {name} |" if is_table else f"`{name}`") in line]
            if naming:
                found += ["", *(lines[:2] if is_table else ()), *naming]
        if found:
            yield from ("", f"*{heading}*", *found)


def run_cheats(folder: Path, tier: str, seeds: int) -> tuple[str, Analysis]:
    """Run the cheats, an honest generator and all controls; the leaderboard, and what it was made from."""
    for name, cheat in CHEATS.items():
        GENERATORS.register(name)(cheat.plugin)
    asked = Asked(
        data=f"phantom:patients_per_class={PATIENTS}:class_signal={SIGNAL:g}",
        generators=",".join([*CHEATS, HONEST]),
        ratios="0,1",
        tier=tier,
        seeds=seeds,
        device="cpu",
    )
    index, plan = prepare(asked, request_of(asked), lambda found: found)
    store = Store(folder / "results")
    run_plan(
        plan,
        index,
        store,
        Cache(folder / "cache"),
        make_reporter(False),
        command="python -m bench.deliberate_breaks",
        asked=asked.model_dump(),
    )
    page = write_report(store).read_text()
    (section,) = sections(store)
    return page, analyse(section, store)


def describe(page: str, analysis: Analysis, about: str) -> str:
    """``BREAKS.md``."""
    machine = describe_machine("cpu")
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [
        "# Deliberate breaks: what the report says of generators that cheat",
        "",
        f"Four generators that cheat were run beside an honest one (`{HONEST}`) and all controls. Below stands, word "
        "for word, every line of the leaderboard that names them (but of its tables of single classes, of all scores "
        "and of the ledger).",
        "",
        "| generator | what it does | what must be found | what was found |",
        "| --- | --- | --- | --- |",
        *(
            f"| `{name}` | {cheat.does} | {cheat.caught} | {'; '.join(faults(name, analysis)) or 'all of it'} |"
            for name, cheat in CHEATS.items()
        ),
        "",
        f"- {about}",
        f"- {machine['device']}, {machine['threads']} threads, {machine['system']}",
        f"- python {machine['python']}, {versions}",
        "- `python -m bench.deliberate_breaks FOLDER` makes this page.",
        "",
        "## The stamp",
        "",
        stamp(analysis.validity),
    ]
    for name in (*CHEATS, HONEST):
        lines += ["", f"## `{name}`", *said_of(name, page)]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write ``BREAKS.md``; 1 where a cheat was not caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tier", default="quick")
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        page, analysis = run_cheats(Path(folder), asked.tier, asked.seeds)
    section = analysis.section
    about = (
        f"{section.data}, tier `{section.tier}`, {asked.seeds} seeds, {len(section.records)} trials, "
        f"{len(section.failures)} of them failed; {time.monotonic() - started:.0f} s in all"
    )
    asked.folder.mkdir(parents=True, exist_ok=True)
    (asked.folder / "BREAKS.md").write_text(describe(page, analysis, about))
    missed = {name: found for name in CHEATS if (found := faults(name, analysis))}
    print(f"wrote {asked.folder / 'BREAKS.md'}: {'every cheat was caught' if not missed else f'not caught: {missed}'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
