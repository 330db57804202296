"""The family's table and the seed recipe's diagnosis, on a few phantom films."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import family, quality, seed_diagnosis, seed_diagnosis_page, seed_variants
from bench.family import Row
from cxrbench.cache import Cache
from cxrbench.contracts import Images
from cxrbench.errors import DataError, Diverged, UsageError
from cxrbench.registry import GENERATORS
from cxrbench_baselines.generators.cgan_seed import SeedDiscriminator, SeedGenerator

DATA, PER_CLASS = "phantom:patients_per_class=36", 16


@pytest.fixture(scope="module")
def index():
    return quality.index_real(DATA)


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("shared-cache")


@pytest.fixture(autouse=True)
def one_cache(shared_cache, private_cache, monkeypatch):
    """The phantom is drawn once for this file, not once for each test."""
    monkeypatch.setenv("CXRBENCH_CACHE", str(shared_cache))


@pytest.fixture(scope="module")
def stick(index, shared_cache):
    return quality.load_yardstick(index, 32, PER_CLASS, "cpu", Cache(shared_cache))


def films_of(pixels):
    return Images(pixels, np.zeros(len(pixels), np.int64), ("a",))


def test_training_films_themselves_score_as_copies(stick):
    scores = stick.measure(stick.sets.reference)
    assert list(scores) == [*stick.sets.reference.classes, "mean"]
    for found in scores.values():
        assert found["precision"] == found["recall"] == 1
        assert found["diversity"] == pytest.approx(1)
        assert found["nn_ratio"] < 0.01
        assert found["kid_mean"] < 0  # unbiased: pairs of a film with itself are left out on each side alone


def test_one_film_over_and_over_has_no_diversity_and_lies_far(stick):
    reference = stick.sets.reference
    same = Images(np.repeat(reference.pixels[:1], len(reference), axis=0), reference.labels, reference.classes)
    collapsed, real = stick.measure(same)["mean"], stick.floor()["mean"]
    assert collapsed["diversity"] == pytest.approx(0, abs=1e-4)
    assert collapsed["vendi"] == pytest.approx(1, abs=1e-3)
    assert collapsed["kid_mean"] > 10 * abs(real["kid_mean"])
    assert real["nn_ratio"] == 1


def test_the_mean_over_classes_is_one_and_its_error_shrinks_by_the_root():
    one = {"kid_mean": 0.1, "kid_std": 0.03, "vendi": 2.0}
    assert quality._mean([one] * 9) == pytest.approx(one | {"kid_std": 0.01})


def test_mean_distance_of_a_triangle_is_the_mean_of_its_sides():
    assert quality.mean_distance(np.asarray([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])) == pytest.approx(4)


def test_films_are_shrunk_by_averaging_areas():
    blocks = np.random.default_rng(0).integers(0, 255, (2, 1, 8, 8)).astype(np.uint8)
    small = quality.shrunk(films_of(blocks.repeat(4, axis=2).repeat(4, axis=3)), 8)
    assert np.array_equal(small.pixels, blocks)
    assert quality.shrunk(small, 8) is small


def test_a_picture_holds_the_films_pixel_for_pixel_class_by_class(tmp_path):
    from PIL import Image

    pixels = np.arange(24, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    quality.write_picture(Images(pixels, np.repeat([0, 1], 12), ("a", "b")), tmp_path / "films.png")
    drawn = np.asarray(Image.open(tmp_path / "films.png"))
    assert np.array_equal(drawn[::4, ::4], [np.arange(10), np.arange(12, 22)])


def test_a_stored_row_counts_only_for_what_was_asked(tmp_path):
    asked = {"generator": "cgan", "steps": 5, "measured_at": (64, 300)}
    quality.write_row(tmp_path / "rows" / "a.json", {"asked": asked, "status": "ok"})
    assert quality.read_row(tmp_path / "rows" / "a.json", asked)["status"] == "ok"
    assert quality.read_row(tmp_path / "rows" / "a.json", asked | {"steps": 6}) is None
    assert quality.read_row(tmp_path / "rows" / "b.json", asked) is None


def test_too_few_films_are_refused(index, shared_cache):
    with pytest.raises(DataError, match=r"5 films of class .* can be measured, 16 are needed"):
        quality.load_yardstick(index, 32, 5, "cpu", Cache(shared_cache))


def test_rows_are_made_once_and_real_films_are_not_pictured(index, tmp_path, capsys):
    rows = {
        "gan": Row("cgan-seed:width=4", 2, size=64, measured_at=(32, 64)),
        "turned": Row("classical", 0, size=32, measured_at=(32,), pictured=False),
    }
    family.make_rows(rows, index, tmp_path, PER_CLASS, "cpu")
    family.write_page({**rows, "later": Row("cgan", 2)}, index, tmp_path, PER_CLASS)
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["family.png", "gan.png"]
    page = (tmp_path / "FAMILY.md").read_text()
    assert "Rows still to be made: later." in page
    assert [page.count(f"| `cgan-seed:width=4` | 64 | {size} | 2 |") for size in (32, 64)] == [1, 1]
    assert page.count("| held-out real films |") == 2
    scores = json.loads((tmp_path / "rows" / "turned.json").read_text())["scores"]["32"]
    recalls, coverages = (
        " / ".join(f"{scores[name][what]:.2f}" for name in index.classes) for what in ("recall", "coverage")
    )
    assert f"| {recalls} | {coverages} |" in next(
        row for row in page.splitlines() if row.startswith("| `classical` | 32 | ") and " / " in row
    )
    stored = json.loads((tmp_path / "rows" / "gan.json").read_text())
    assert stored["n"] == dict.fromkeys(index.classes, PER_CLASS)
    assert stored["cost"]["cpu_seconds"] > 0
    capsys.readouterr()
    before = (tmp_path / "rows" / "gan.json").read_bytes()
    family.make_rows(rows, index, tmp_path, PER_CLASS, "cpu")
    assert capsys.readouterr().out == "gan: kept\nturned: kept\n"
    assert (tmp_path / "rows" / "gan.json").read_bytes() == before


def test_a_fit_that_diverges_is_a_row(index, tmp_path, monkeypatch):
    def diverge(self, train, ctx):
        raise Diverged("generator_loss became nan at step 3 of 5")

    monkeypatch.setattr(GENERATORS.get("classical"), "fit", diverge)
    rows = {"turned": Row("classical", 5, size=32, measured_at=(32,), pictured=False)}
    family.make_rows(rows, index, tmp_path, PER_CLASS, "cpu")
    family.write_page(rows, index, tmp_path, PER_CLASS)
    line = next(row for row in (tmp_path / "FAMILY.md").read_text().splitlines() if "`classical`" in row)
    assert "generator_loss became nan at step 3 of 5" in line
    head = next(row for row in (tmp_path / "FAMILY.md").read_text().splitlines() if row.startswith("| generator"))
    assert line.count("|") == head.count("|")
    assert "family.png" not in (tmp_path / "FAMILY.md").read_text()


def test_an_unknown_generator_stops_the_table_before_any_fit(index, tmp_path):
    rows = {"turned": Row("classical", 0, size=32, measured_at=(32,)), "typo": Row("clasical", 0)}
    with pytest.raises(UsageError, match="did you mean classical"):
        family.make_rows(rows, index, tmp_path, PER_CLASS, "cpu")
    assert not list(tmp_path.iterdir())


def test_every_row_that_gives_back_real_films_is_kept_out_of_the_picture():
    hidden = {name for name, row in family.FAMILY.items() if not row.pictured}
    assert hidden == {"flow-quilt", "quilt", "mixup", "classical", "classical-strong", "oversample"}


@pytest.mark.parametrize("module", [family, seed_diagnosis])
def test_an_unknown_row_ends_in_one_line(module, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", str(tmp_path), "--data", DATA, "--only", "nonsense"])
    assert module.main() == 2
    assert capsys.readouterr().err.startswith("error: --only nonsense: there are ")


def test_the_diagnosis_is_made_variant_by_variant(tmp_path, monkeypatch, capsys):
    def diagnose(*more):
        options = ["--steps", "11", "--size", "32", "--width", "4", "--per-class", str(PER_CLASS)]
        monkeypatch.setattr(sys, "argv", ["bench", str(tmp_path), "--data", DATA, *options, *more])
        return seed_diagnosis.main()

    assert diagnose("--only", "study") == 0
    assert diagnose("--only", "study,undo-label") == 0
    assert "study: kept\nundo-label: ok" in capsys.readouterr().out
    page = (tmp_path / "DIAGNOSIS.md").read_text()
    head, *rows = [line for line in page.splitlines() if line.count("|") > 12]
    assert {line.count("|") for line in rows} == {head.count("|")}
    assert page.count("| as the study has it |") == page.count("| undone: the label as one map |") == 1
    effects = [line for line in page.splitlines() if line.startswith("| the label as one map |")]
    assert "; diversity " in effects[0]
    assert "What the fits say" not in page  # of one size, nothing can be said of sizes
    row = {"row": "study", "status": "ok", "scores": {"mean": {"kid_mean": 0.8, "kid_std": 0.01}}}
    sizes = [{**row, "asked": {"size": size}} for size in (300, 64)]
    assert "* as the study has it: 800 ± 10 at 64 px, 800 ± 10 at 300 px" in seed_diagnosis_page.on_size(
        [64, 300], sizes
    )
    stored = json.loads((tmp_path / "rows" / "32px-study.json").read_text())
    assert len(stored["accuracy"]) == 2  # steps 0 and 10
    assert Path(tmp_path / "32px.png").exists()


def test_each_variant_differs_from_the_study_by_its_choices_alone():
    found = seed_variants.variants(8)
    study, names = found["study"], list(seed_variants.CHOICES)
    parameters = {name: choice.parameter for name, choice in seed_variants.CHOICES.items()}

    def changed(variant):
        return {key for key, value in vars(variant).items() if value != getattr(study, key)}

    assert len(found) == 3 + 2 * len(names)
    assert changed(found["undo-all"]) == set(parameters.values())
    assert changed(found["batch-16"]) == {"batch"}
    for name, parameter in parameters.items():
        assert changed(found[f"undo-{name}"]) == {parameter}
        assert changed(found[f"keep-{name}"]) == set(parameters.values()) - {parameter}
    assert len({seed_variants.title(name) for name in found}) == len(found)


def test_what_breaks_the_recipe_is_what_mends_it_alone_and_last():
    kids = {"study": 0.8, "undo-all": 0.6}
    kids |= {"undo-discriminator": 0.6, "keep-discriminator": 0.8}  # either way 200 better without it
    kids |= {"undo-norm": 0.79, "keep-norm": 0.61}  # within what chance does
    kids |= {"undo-label": 0.9, "keep-label": 0.5}  # worse without it
    kids |= {"undo-dropout": 0.8, "keep-dropout": 0.7}  # of use once the rest is undone
    rows = {name: {"scores": {"mean": {"kid_mean": kid, "kid_std": 0.006}}} for name, kid in kids.items()}
    breaks, late, harmless = seed_diagnosis_page.blame(rows).splitlines()[:3]
    assert "Breaks it**: a discriminator step per 10 of the generator (KID falls by 200 undone alone, by 200" in breaks
    assert "dropout" in late
    assert late.count("KID falls") == 1
    assert "batch norm, over 4 films (KID falls by 10" in harmless
    assert "the label as one map (KID falls by -100" in harmless
    del rows["keep-norm"]
    assert seed_diagnosis_page.blame(rows) == ""


def test_sensitivity_is_zero_to_what_changes_nothing():
    levels = np.asarray([10, 10, 10], np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    assert seed_diagnosis.sensitivity({0: levels, 1: 3 * levels}) == pytest.approx({"noise": 0, "label": 20})
    ramp = np.asarray([10, 20, 30], np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    assert seed_diagnosis.sensitivity({0: ramp, 1: ramp}) == pytest.approx({"noise": 40 / 3, "label": 0})


def test_a_checkerboard_is_told_from_grey_stripes_and_slopes():
    down, across = np.mgrid[:7, :7]
    boards = (100 + 10 * (-1.0) ** (down + across)).astype(np.uint8)[None, None]
    assert seed_diagnosis.checkerboard(boards) == pytest.approx(10)
    for flat in (np.full((7, 7), 9), across * 20, 50 + 40 * (across % 2)):
        assert seed_diagnosis.checkerboard(flat.astype(np.uint8)[None, None]) == 0


def test_reach_is_how_far_gradients_go():
    torch.manual_seed(0)
    films = torch.randn(1, 1, 256, 256, requires_grad=True)
    discriminator = SeedDiscriminator(256, 1, 4, 0.0).eval()
    maps = discriminator.encode[:-2](torch.cat([films, torch.zeros_like(films)], dim=1))
    maps[0, :, 7, 7].sum().backward()
    assert int((films.grad != 0).any(dim=2).sum()) == seed_diagnosis_page.reach(seed_diagnosis_page.CONVOLUTIONS) == 94

    generator = SeedGenerator(256, 1, 4, 8).eval()
    start = torch.randn(1, 33, 16, 16)
    changed = start.clone()
    changed[:, :, 8, 8] += 1
    moved = (generator.decode(start) != generator.decode(changed)).any(dim=2)
    assert int(moved.sum()) == seed_diagnosis_page.reach(seed_diagnosis_page.CONVOLUTIONS[:4]) == 46
