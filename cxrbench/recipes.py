"""Recipes: published studies as files. What a study used, the options of a run that repeats it, and what it claims.

A recipe is a TOML file. Folders of recipes are found through the entry points of the group ``cxrbench.recipes``, each
of which names the path of one; ``--recipe`` takes the name of a recipe there, or the path of any ``.toml``. Claims
are kept in the results folder beside the records they are held against, so that the report needs nothing else.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Container
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cxrbench.asked import Asked
from cxrbench.cache import write_atomically
from cxrbench.errors import UsageError
from cxrbench.registry import NAME
from cxrbench.renames import parse_labels

GROUP = "cxrbench.recipes"
REAL_ONLY = "real only"
# What a claim may put a number to: columns of the leaderboard, and of its table per class.
MEASURES = (
    "auroc_macro",
    "auprc_macro",
    "f1_macro",
    "balanced_accuracy",
    "accuracy",
    "sensitivity_at_95_macro",
    "brier",
    "ece",
)
CLASS_MEASURES = ("precision", "recall", "f1", "auroc", "auprc", "sensitivity_at_95")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(_Part):
    """Where a study was published.

    Attributes:
        year: None where it is not known.
        url: its DOI or address; empty where it has none.
    """

    authors: str = Field(min_length=1)
    year: int | None = None
    venue: str = Field(min_length=1)
    url: str = ""


class Data(_Part):
    """The films a study used, in words.

    Attributes:
        what: the data set.
        classes: what the study told apart, under its own names.
        films: how many.
        get: how a user gets films to repeat it on.
        labels: the ``--labels`` that turns the classes of those films into the study's.
    """

    what: str = Field(min_length=1)
    classes: tuple[str, ...] = Field(min_length=2)
    films: str = Field(min_length=1)
    get: str = Field(min_length=1)
    labels: str = ""


class Claim(_Part):
    """One thing that a study says it found.

    Attributes:
        what: a measure of ``MEASURES``, or of ``CLASS_MEASURES`` where ``of_class`` names a class (``recall`` is
            sensitivity); any words where there is no value.
        of_class: the class it is about (``class`` in the file); empty for all of them.
        generator: by its name here, or ``real only``.
        ratio: synthetic films per real one in the study; None where it does not say.
        classifier: by its name here; empty where the study's is none of ours.
        classes: how many classes the study told apart there; None for as many as the recipe's data have.
        value: in the unit of the measure, so 0.85 for 85 %; None where the claim is one in words.
        says: the claim in words, where it has no value.
        where: the sentence, table or figure it stands in.
    """

    what: str = Field(min_length=1)
    of_class: str = Field("", alias="class")
    generator: str = Field(min_length=1)
    ratio: float | None = Field(None, gt=0)
    classifier: str = ""
    classes: int | None = Field(None, ge=2)
    value: float | None = None
    says: str = ""
    where: str = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.value is None) == (not self.says):
            raise ValueError("a claim has a value, or says in words what was found")
        known = CLASS_MEASURES if self.of_class else MEASURES
        if self.value is not None and self.what not in known:
            kind = "of a class" if self.of_class else "of all classes"
            raise ValueError(f"what = {self.what!r} is no measure {kind}; there are {', '.join(known)}")
        if self.generator == REAL_ONLY and self.ratio is not None:
            raise ValueError("real only has no ratio")
        return self


class Recipe(_Part):
    """A study, ready to be run.

    Attributes:
        name: that of its file.
        run: options of ``cxrbench run``; only those that the file sets count.
        notes: how the run departs from the study and why, and what of the study could not be checked.
    """

    name: str = Field(pattern=NAME)
    title: str = Field(min_length=1)
    source: Source
    data: Data
    run: Asked
    notes: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()

    @property
    def study(self) -> str:
        """Authors and year."""
        return f"{self.source.authors} ({self.source.year})" if self.source.year else self.source.authors

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "labels" in self.run.model_fields_set:
            raise ValueError("run.labels: the renaming of classes stands in [data]")
        return self


class Kept(_Part):
    """A recipe in a results folder, with the sections that were run under it: ``data_hash``, ``spec_hash``."""

    recipe: Recipe
    sections: tuple[tuple[str, str], ...]


def read_recipe(path: Path) -> Recipe:
    """Read and check one file.

    Raises:
        UsageError: it is not there, no TOML, or a key of it is unknown, missing or wrong.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"recipe {path}: there is no such file") from None
    except OSError as error:
        raise UsageError(f"recipe {path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # no TOML, or not UTF-8
        raise UsageError(f"recipe {path} is no TOML: {error}") from None
    try:
        # As JSON, whose lists may be strictly tuples; a date of TOML becomes a text, which is then refused.
        recipe = Recipe.model_validate_json(json.dumps(document, default=str), strict=True)
        parse_labels(recipe.data.labels)
    except ValidationError as error:
        raise UsageError(f"recipe {path}: {_first_problem(error)}") from None
    except UsageError as error:
        raise UsageError(f"recipe {path}: data.labels: {error}") from None
    if recipe.name != path.stem:
        raise UsageError(f"recipe {path}: name = {recipe.name!r} must be the file's own, {path.stem!r}")
    return recipe


def find_recipe(name: str) -> Recipe:
    """The recipe of a name that ``cxrbench list`` shows, or of a path that ends in ``.toml``.

    Raises:
        UsageError: there is none (the nearest names are given), two distributions bring it, or it is wrong.
    """
    if name.endswith(".toml"):
        return read_recipe(Path(name))
    files = recipe_files()
    found = [path for path in files if path.stem == name]
    if not found:
        names = sorted({path.stem for path in files})
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names) or 'none'}"
        raise UsageError(f"unknown recipe {name!r}; {hint} (or the path of a .toml)")
    if len(found) > 1:
        raise UsageError(
            f"recipe {name!r} is there more than once; name one by its path: {' or '.join(map(str, found))}"
        )
    return read_recipe(found[0])


def recipe_files() -> dict[Path, str]:
    """Every file of every declared folder, sorted by name -> the distribution that brings it.

    A folder that cannot be had is passed over: ``broken_folders`` tells.
    """
    found: dict[Path, str] = {}
    for point in entry_points(group=GROUP):
        folder = _folder(point)
        if isinstance(folder, Path):
            origin = point.dist.name if point.dist else "this process"
            found |= dict.fromkeys(folder.glob("*.toml"), origin)
    return dict(sorted(found.items(), key=lambda item: item[0].stem))


def broken_folders() -> dict[str, str]:
    """Entry points that lead to no folder: name -> why."""
    folders = {point.name: _folder(point) for point in entry_points(group=GROUP)}
    return {name: folder for name, folder in folders.items() if isinstance(folder, str)}


def asked_under(recipe: Recipe, asked: Asked, given: Container[str]) -> Asked:
    """What is asked where a recipe gives the defaults.

    Args:
        given: the options that were given explicitly, which win.

    Raises:
        UsageError: neither names the films.
    """
    options = recipe.run.model_dump(exclude_unset=True) | {"labels": recipe.data.labels}
    if "data" not in options and "data" not in given:
        raise UsageError(
            f"recipe {recipe.name} needs films ({recipe.data.what}): {recipe.data.get}; then name their folder with "
            "--data"
        )
    return asked.model_copy(update={name: value for name, value in options.items() if name not in given})


def keep_recipe(root: Path, recipe: Recipe, data_hash: str, spec_hash: str) -> None:
    """Write a recipe into a results folder, for the section that is run under it; its newest text counts."""
    path = root / "recipes" / f"{recipe.name}.json"
    before = [kept for kept in kept_recipes(root) if isinstance(kept, Kept) and kept.recipe.name == recipe.name]
    sections = {(data_hash, spec_hash), *(section for kept in before for section in kept.sections)}
    kept = Kept(recipe=recipe, sections=tuple(sorted(sections)))
    write_atomically(path, kept.model_dump_json(indent=1, by_alias=True, exclude_unset=True).encode())


def kept_recipes(root: Path) -> list[Kept | Path]:
    """The recipes of a results folder, by name; the path of a file that cannot be read."""
    found: list[Kept | Path] = []
    for path in sorted((root / "recipes").glob("*.json")):
        try:
            found.append(Kept.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError):
            found.append(path)
    return found


def _folder(point: EntryPoint) -> Path | str:
    """The folder an entry point names, or why it names none."""
    try:
        folder = Path(point.load())
    except Exception as error:  # noqa: BLE001 - whatever a stranger's module raises
        return f"{point.value} cannot be imported: {type(error).__name__}: {error}"
    return folder if folder.is_dir() else f"{point.value} names {folder}, which is no folder"


def _first_problem(error: ValidationError) -> str:
    """The key and what is wrong with it; claims are counted from 1."""
    problem = error.errors()[0]
    where = ".".join(str(part + 1) if isinstance(part, int) else part for part in problem["loc"])
    what = str(problem["msg"]).removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
