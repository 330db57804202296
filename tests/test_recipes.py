"""Recipes: those that are shipped, what is said of bad ones, and what a command makes of them."""

import importlib.util
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.asked import Asked, request_of
from cxrbench.cli_run import DEFAULT_GENERATORS
from cxrbench.errors import UsageError
from cxrbench.recipes import (
    REAL_ONLY,
    Kept,
    asked_under,
    broken_folders,
    find_recipe,
    keep_recipe,
    kept_recipes,
    read_recipe,
    recipe_files,
)
from cxrbench.registry import CLASSIFIERS, GENERATORS
from cxrbench.renames import parse_labels
from cxrbench_baselines import recipes as shipped_module

ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "baselines" / "recipes").glob("*.toml"))
GOOD = """
name = "toy"
title = "A toy study"

[source]
authors = "Doe & Roe"
year = 2020
venue = "a journal"

[data]
what = "toy films"
classes = ["ill", "well"]
films = "12"
get = "draw them"

[run]
generators = "classical"
tune = 2

[[claims]]
what = "accuracy"
generator = "classical"
ratio = 1
value = 0.9
where = "table 1"
"""


@pytest.fixture
def write(tmp_path):
    """Writes a recipe whose text is ``GOOD`` but for one replacement; returns its path."""

    def write_recipe(old="", new="", name="toy"):
        assert old in GOOD
        path = tmp_path / f"{name}.toml"
        path.write_text(GOOD.replace(old, new, 1) if old else GOOD + new)
        return path

    return write_recipe


@pytest.fixture
def declared(monkeypatch):
    """Replaces the installed entry points by (name, value) pairs."""

    def declare(*points):
        found = [EntryPoint(name, value, "cxrbench.recipes") for name, value in points]
        monkeypatch.setattr("cxrbench.recipes.entry_points", lambda group: [p for p in found if p.group == group])

    return declare


def asked_of(cli, monkeypatch, *arguments):
    """What a command asks for, stopped before it looks at any data."""
    seen = []

    def stop(asked, *rest, **named):
        seen.append(asked)
        raise UsageError("stopped by the test")

    monkeypatch.setattr("cxrbench.cli_run._prepare", stop)
    assert cli(*arguments) == 2
    return seen[0]


def test_the_published_studies_are_shipped():
    names = {"govind-thakkar", "khalifa-2020", "loey-2020", "covidgan-2020", "cxrbench-recommended"}
    assert names <= {path.stem for path in SHIPPED}
    assert {path.stem for path in recipe_files()} >= names


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_names_only_what_is_registered(path):
    recipe = read_recipe(path)
    generators, classifiers = recipe.run.generators.split(","), recipe.run.classifiers.split(",")
    for name in generators:
        GENERATORS.parse(name)
    for name in classifiers:
        CLASSIFIERS.parse(name)
    for claim in recipe.claims:
        assert claim.generator in [REAL_ONLY, *generators]
        assert claim.classifier in ["", *classifiers]
        assert claim.ratio is None or claim.ratio in map(float, recipe.run.ratios.split(","))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_options_of_a_shipped_recipe_are_ones_that_can_be_asked_for(path):
    recipe = read_recipe(path)
    asked = asked_under(recipe, Asked(data="films"), {"data"})
    request = request_of(asked)
    assert ",".join(request.generators) == recipe.run.generators
    assert parse_labels(asked.labels) == parse_labels(recipe.data.labels)


def test_every_number_of_a_shipped_recipe_says_where_it_stands():
    claims = [claim for path in SHIPPED for claim in read_recipe(path).claims]
    assert len(claims) >= 7
    for claim in claims:
        assert claim.value is None or 0 <= claim.value <= 1
        assert "abstract" in claim.where or claim.value is None


BAD = [
    ('title = "A toy study"', 'titel = "A toy study"', "title: Field required"),
    ('title = "A toy study"', 'title = "A"\nauthor = "B"', "author: Extra inputs are not permitted"),
    ('generators = "classical"', 'generator = "classical"', "run.generator: Extra inputs are not permitted"),
    ("tune = 2", 'tune = "2"', "run.tune: Input should be a valid integer"),
    ("tune = 2", "ratios = [0, 1]", "run.ratios: Input should be a valid string"),
    ("tune = 2", 'labels = "a=b"', "run.labels: the renaming of classes stands in [data]"),
    ('get = "draw them"', 'get = "draw them"\nlabels = "ill"', "data.labels: --labels: 'ill' is no OLD=NEW"),
    ('classes = ["ill", "well"]', 'classes = ["ill"]', "data.classes: Tuple should have at least 2 items"),
    ("year = 2020", "year = 2020-01-01", "source.year: Input should be a valid integer"),
    ('where = "table 1"', "", "claims.1.where: Field required"),
    ('where = "table 1"', 'where = ""', "claims.1.where: String should have at least 1 character"),
    ("value = 0.9", "", "claims.1: a claim has a value, or says in words what was found"),
    ("value = 0.9", 'value = 0.9\nsays = "fine"', "claims.1: a claim has a value, or says in words"),
    ("value = 0.9", "value = nan", "claims.1.value: Input should be a finite number"),
    ("value = 0.9", 'value = "90 %"', "claims.1.value: Input should be a valid number"),
    ("ratio = 1", "ratio = 0", "claims.1.ratio: Input should be greater than 0"),
    ('what = "accuracy"', 'what = "acuracy"', "claims.1: what = 'acuracy' is no measure of all classes; there are"),
    ('what = "accuracy"', 'what = "accuracy"\nclass = "ill"', "claims.1: what = 'accuracy' is no measure of a class"),
    ('generator = "classical"', 'generator = "real only"', "claims.1: real only has no ratio"),
    ('name = "toy"', 'name = "Toy"', "name: String should match pattern"),
    ('name = "toy"', 'name = "other"', "name = 'other' must be the file's own, 'toy'"),
    ('name = "toy"', "name = toy", "is no TOML: Invalid value"),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD, ids=[message[:40] for _, _, message in BAD])
def test_a_bad_recipe_is_refused_with_its_file_and_key(write, cli, capsys, old, new, message):
    claims = 'generator = "real only"' in new  # of two lines alike, the second is the claim's
    path = write('generator = "classical"\nratio' if claims else old, f"{new}\nratio" if claims else new)
    assert cli("run", "--recipe", path) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"cxrbench: recipe {path}: ") or "is no TOML" in message
    assert message in line
    assert str(path) in line


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no such file"):
        find_recipe(str(tmp_path / "none.toml"))
    (tmp_path / "film.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is no TOML"):
        read_recipe(tmp_path / "film.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_recipe(tmp_path / "folder.toml")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"unknown recipe 'loey-2021'; did you mean loey-2020\?"):
        find_recipe("loey-2021")
    with pytest.raises(UsageError, match="there are covidgan-2020, "):
        find_recipe("zzz")


@given(given=st.sets(st.sampled_from(sorted(Asked.model_fields))))
def test_what_is_given_wins_and_the_rest_is_the_recipes(given):
    recipe = read_recipe(ROOT / "baselines" / "recipes" / "khalifa-2020.toml")
    mine = Asked(**{name: "mine" for name, field in Asked.model_fields.items() if field.annotation is str}, tune=9)
    set_by_recipe = {*recipe.run.model_fields_set, "labels"}
    if "data" not in given:
        with pytest.raises(UsageError, match=r"needs films \(Kermany.*`cxrbench data fetch kermany`.*--data"):
            asked_under(recipe, mine, given)
        given = {*given, "data"}
    asked = asked_under(recipe, mine, given)
    for name in Asked.model_fields:
        if name in given or name not in set_by_recipe:
            assert getattr(asked, name) == getattr(mine, name)
        else:
            assert getattr(asked, name) == (recipe.data.labels if name == "labels" else getattr(recipe.run, name))


@pytest.mark.parametrize("command", ["run", "plan"])
def test_the_command_line_wins_over_the_recipe_and_the_recipe_over_defaults(cli, monkeypatch, command):
    named = (command, "--recipe", "khalifa-2020", "--data", "films")
    asked = asked_of(cli, monkeypatch, *named)
    assert (asked.data, asked.generators, asked.ratios) == ("films", "dcgan", "0,9")
    assert (asked.tier, asked.pretrained, asked.tune) == ("standard", "imagenet", 1)
    asked = asked_of(cli, monkeypatch, *named, "--pretrained", "", "--tier", "quick", "--ratios", "0,0.5,1")
    assert (asked.pretrained, asked.tier, asked.ratios) == ("", "quick", "0,0.5,1")
    assert asked.classifiers == "alexnet,googlenet,squeezenet1_1,resnet18"
    assert asked_of(cli, monkeypatch, command).generators == DEFAULT_GENERATORS


def test_a_recipe_that_names_its_data_needs_none_and_gives_way(cli, monkeypatch):
    assert asked_of(cli, monkeypatch, "plan", "--recipe", "cxrbench-recommended").data == "phantom"
    assert asked_of(cli, monkeypatch, "plan", "--recipe", "cxrbench-recommended", "--data", "x").data == "x"


def test_films_that_nobody_names_are_asked_for_with_the_way_to_get_them(cli, capsys):
    assert cli("run", "--recipe", "covidgan-2020") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "needs films (COVID-19 and normal films" in line
    assert "`cxrbench data fetch covid19-radiography`; then name their folder with --data" in line


def test_strangers_bring_recipes_by_an_entry_point(write, declared, monkeypatch, tmp_path):
    write()
    monkeypatch.setattr(shipped_module, "FOLDER", tmp_path)
    declared(("stranger", "cxrbench_baselines.recipes:FOLDER"))
    assert find_recipe("toy").study == "Doe & Roe (2020)"
    assert list(recipe_files()) == [tmp_path / "toy.toml"]


def test_a_name_that_two_folders_hold_must_be_given_as_a_path(write, declared, monkeypatch, tmp_path):
    first = write()
    (tmp_path / "other").mkdir()
    second = Path(shutil.copy(first, tmp_path / "other"))
    monkeypatch.setattr(shipped_module, "FOLDER", first.parent)
    monkeypatch.setattr(shipped_module, "SECOND", second.parent, raising=False)
    declared(("a", "cxrbench_baselines.recipes:FOLDER"), ("b", "cxrbench_baselines.recipes:SECOND"))
    with pytest.raises(UsageError, match="more than once; name one by its path"):
        find_recipe("toy")
    assert find_recipe(str(second)).name == "toy"


def test_broken_recipes_and_folders_are_rows_of_the_list_and_not_its_end(
    cli, write, declared, monkeypatch, capsys, tmp_path
):
    write("tune = 2", "tunes = 2")
    monkeypatch.setattr(shipped_module, "FOLDER", tmp_path)
    monkeypatch.setattr("cxrbench.cli._registries", lambda: [])
    monkeypatch.setenv("COLUMNS", "300")
    declared(
        ("fine", "cxrbench_baselines.recipes:FOLDER"),
        ("gone", "no_such_module:FOLDER"),
        ("odd", "cxrbench_baselines.recipes:__doc__"),
    )
    assert cli("list") == 0
    shown = capsys.readouterr().out
    assert "run.tunes: Extra inputs are not permitted" in shown
    assert "no_such_module:FOLDER cannot be imported: ModuleNotFoundError" in shown
    assert "which is no folder" in shown
    assert set(broken_folders()) == {"gone", "odd"}


def test_recipes_are_listed_by_name_and_title(cli, monkeypatch, capsys):
    monkeypatch.setattr("cxrbench.cli._registries", lambda: [])
    monkeypatch.setenv("COLUMNS", "300")
    assert cli("list") == 0
    shown = capsys.readouterr().out
    for path in SHIPPED:
        assert path.stem in shown
        assert read_recipe(path).title in shown


def test_reading_the_recipes_does_not_import_torch():
    code = "import sys; from cxrbench.recipes import *\nfor path in recipe_files(): read_recipe(path)\n"
    code += "print(len(recipe_files()) > 4, 'torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["True", "False"]


def test_an_installed_package_finds_its_recipes_inside_itself(tmp_path):
    """As the wheel lays them out, which is what pyproject.toml says."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {"cxrbench", "baselines/cxrbench_baselines", "baselines/recipes"} == set(wheel["only-include"])
    places = {source: tmp_path / place for source, place in wheel["sources"].items()}
    package = places["baselines/cxrbench_baselines"]
    package.mkdir()
    shutil.copy(shipped_module.__file__, package)
    shutil.copytree(ROOT / "baselines" / "recipes", places["baselines/recipes"])
    spec = importlib.util.spec_from_file_location("installed_recipes", package / "recipes.py")
    installed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(installed)
    assert places["baselines/recipes"] == installed.FOLDER == package / "recipes"
    assert sorted(path.name for path in installed.FOLDER.glob("*.toml")) == [path.name for path in SHIPPED]


def test_a_kept_recipe_holds_its_newest_text_and_all_its_sections(write, tmp_path):
    results, toy = tmp_path / "results", read_recipe(write())
    keep_recipe(results, toy, "data", "spec")
    keep_recipe(results, read_recipe(SHIPPED[0]), "data", "spec")
    keep_recipe(results, read_recipe(write("value = 0.9", "value = 0.8")), "data", "other")
    kept = {found.recipe.name: found for found in kept_recipes(results)}
    assert set(kept) == {"toy", SHIPPED[0].stem}
    assert kept["toy"].recipe.claims[0].value == 0.8
    assert kept["toy"].recipe.run.model_fields_set == {"generators", "tune"}
    assert kept["toy"].sections == (("data", "other"), ("data", "spec"))
    assert kept[SHIPPED[0].stem].recipe == read_recipe(SHIPPED[0])


def test_a_kept_recipe_that_is_torn_is_told_by_its_path_and_mended_by_the_next_run(write, tmp_path):
    results, toy = tmp_path / "results", read_recipe(write())
    keep_recipe(results, toy, "data", "spec")
    path = results / "recipes" / "toy.json"
    path.write_text(path.read_text()[:-9])
    assert kept_recipes(results) == [path]
    keep_recipe(results, toy, "data", "spec")
    assert kept_recipes(results) == [Kept(recipe=toy, sections=(("data", "spec"),))]


@pytest.mark.usefixtures("undrawn")
def test_a_run_under_a_recipe_sets_claims_beside_records_that_were_there_before(cli, write, tmp_path, capsys):
    results, recipe = tmp_path / "results", write("tune = 2", 'controls = "none"\nratios = "0,1"')
    small = ["--data", "phantom:patients_per_class=8", "--tier", "smoke", "--device", "cpu", "--results", results]
    options = ["--generators", "classical", "--ratios", "0,1", "--controls", "none"]
    assert cli("run", *small, *options) == 0
    page = results / "LEADERBOARD.md"
    assert "Claimed and measured" not in page.read_text()
    capsys.readouterr()
    assert cli("run", *small, "--recipe", recipe) == 0
    assert "0 trials run" in capsys.readouterr().out
    shown = page.read_text()
    assert "### Claimed and measured: Doe & Roe (2020)" in shown
    recipe.unlink()  # the page needs the results folder alone
    assert cli("report", "--results", results) == 0
    assert page.read_text() == shown
