"""Claimed beside measured: which arm a claim is about, and what is said where there is none."""

import pytest

from cxrbench import recipes
from cxrbench.recipes import Recipe, keep_recipe
from cxrbench.report.claims import claim_lines, claimed_gains, claims_table, gains_table, measured_arms, unmeasured
from cxrbench.report.effects import REAL_ONLY
from cxrbench.report.tables import HEADLINE, PER_CLASS


def recipe(*claims, notes=()):
    """A study with these claims; each has a value of 0.9 and a place, unless it says otherwise."""
    return Recipe.model_validate(
        {
            "name": "toy",
            "title": "A toy study",
            "source": {"authors": "Doe & Roe", "year": 2020, "venue": "a journal", "url": "https://doi.org/10.1/1"},
            "data": {"what": "toy films", "classes": ("ill", "well"), "films": "12", "get": "draw them"},
            "run": {},
            "notes": tuple(notes),
            "claims": tuple({"where": "table 1", **({} if "says" in c else {"value": 0.9}), **c} for c in claims),
        }
    )


REAL = {"what": "accuracy", "generator": "real only", "value": 0.85}
DCGAN = {"what": "accuracy", "generator": "dcgan", "value": 0.95}


@pytest.fixture
def page(results):
    """What the page says of claims on a sound section of real films alone and two ratios of ``dcgan``."""
    results.runs(0.70)
    results.runs(0.80, "dcgan", 1.0)
    results.runs(0.75, "dcgan", 2.0)

    def lines(*claims, notes=()):
        setting = results.setting
        keep_recipe(results.store.root, recipe(*claims, notes=notes), setting.data_hash, setting.spec_hash)
        return "\n".join(claim_lines(results.store.root, results.analysis()))

    return lines


def arms(results, claim):
    (found,) = recipe(claim).claims
    table = measured_arms(found, results.analysis())
    return [(row["classifier"], row["generator"], row["ratio"]) for row in table.to_dict("records")]


def test_claims_may_be_of_every_measure_of_the_leaderboard_and_of_no_other():
    assert recipes.MEASURES == HEADLINE
    assert recipes.CLASS_MEASURES == PER_CLASS
    assert recipes.REAL_ONLY == REAL_ONLY


def test_the_mean_of_the_runs_and_the_gain_of_the_page_stand_beside_the_claim(results):
    records = results.runs(0.70), results.runs(0.80, "dcgan", 1.0)
    analysis = results.analysis()
    real, both = claims_table(recipe(REAL, DCGAN).claims, analysis).to_dict("records")
    means = [sum(r.scores["accuracy"] for r in group) / 3 for group in records]
    assert [row["measured"].partition(" ")[0] for row in (real, both)] == [f"{mean:.3f}" for mean in means]
    assert [row["claimed"] for row in (real, both)] == ["0.850", "0.950"]
    assert [row["runs"] for row in (real, both)] == [3, 3]
    (arm,) = analysis.board[analysis.board["generator"] == "dcgan"].to_dict("records")
    assert both["gain in AUROC (95 % interval)"].startswith(f"{arm['gain']:+.3f} ({arm['low']:+.3f} to ")
    assert real["gain in AUROC (95 % interval)"] == real["verdict"] == ""
    assert both["verdict"] == arm["verdict"]


def test_a_claimed_gain_is_set_beside_the_measured_one(results):
    records = results.runs(0.70), results.runs(0.80, "dcgan", 1.0)
    (row,) = gains_table(recipe(REAL, DCGAN).claims, results.analysis()).to_dict("records")
    real, both = (sum(r.scores["accuracy"] for r in group) / 3 for group in records)
    assert row["claimed gain"] == "+0.100"
    assert row["measured gain"] == f"{both - real:+.3f}"
    assert both > real


def test_a_gain_turns_its_sign_with_its_arms(results):
    results.runs(0.80)
    results.runs(0.70, "dcgan", 1.0)
    (row,) = gains_table(recipe(REAL, DCGAN).claims, results.analysis()).to_dict("records")
    assert row["measured gain"].startswith("-")


def test_gains_are_paired_within_measure_class_classifier_and_number_of_classes():
    assert len(claimed_gains(recipe(REAL, DCGAN).claims)) == 1
    for other in ({"what": "f1_macro"}, {"classifier": "resnet18"}, {"classes": 3}):
        assert claimed_gains(recipe(REAL, {**DCGAN, **other}).claims) == []
    assert claimed_gains(recipe(DCGAN).claims) == []
    of_class = {"what": "recall", "class": "COVID"}
    assert len(claimed_gains(recipe({**REAL, **of_class}, {**DCGAN, **of_class}).claims)) == 1


def test_the_claimed_ratio_is_taken_where_it_was_measured_else_all_are_shown(results):
    results.runs(0.70)
    results.runs(0.80, "dcgan", 1.0)
    results.runs(0.75, "dcgan", 2.0)
    results.runs(0.75, "dcgan", 1.0, arm="copy-adjusted")
    results.runs(0.60, real_share=1 / 3)
    assert arms(results, {**DCGAN, "ratio": 2.0}) == [("small-cnn", "dcgan", 2.0)]
    both = {("small-cnn", "dcgan", 1.0), ("small-cnn", "dcgan", 2.0)}
    assert set(arms(results, {**DCGAN, "ratio": 9.0})) == set(arms(results, DCGAN)) == both
    assert arms(results, REAL) == [("small-cnn", "real only", 0.0)]


def test_a_claim_of_one_classifier_is_not_held_against_another(results):
    for classifier in ("small-cnn", "resnet18:pretrained=imagenet"):
        results.runs(0.70, classifier=classifier)
        results.runs(0.80, "dcgan", 1.0, classifier=classifier)
    assert arms(results, {**DCGAN, "classifier": "resnet18"}) == [("resnet18:pretrained=imagenet", "dcgan", 1.0)]
    assert len(arms(results, DCGAN)) == 2
    assert arms(results, {**DCGAN, "classifier": "alexnet"}) == []
    # Each classifier's gain is over its own real-only runs.
    assert len(gains_table(recipe(REAL, DCGAN).claims, results.analysis())) == 2


def test_a_claim_of_a_class_is_held_against_that_class(results):
    (record,) = results.runs(0.80, "dcgan", 1.0, seeds=1)
    claim = {**DCGAN, "what": "recall", "class": "COVID"}
    (row,) = claims_table(recipe(claim).claims, results.analysis()).to_dict("records")
    assert row["what"] == "recall of COVID"
    assert row["measured"] == f"{record.scores['recall/COVID']:.3f}"


@pytest.mark.parametrize(
    ("claim", "why"),
    [
        ({**DCGAN, "classes": 4}, "it is of 4 classes, and here are 2"),
        ({**DCGAN, "what": "recall", "class": "flu"}, "no class is called 'flu' here"),
        ({**DCGAN, "generator": "acgan"}, "no arm of `acgan` was measured"),
        ({**DCGAN, "classifier": "alexnet"}, "no arm of `dcgan` with `alexnet` was measured"),
        ({**REAL, "classifier": "alexnet"}, "no arm of `alexnet` was measured"),
    ],
)
def test_a_claim_without_a_measured_arm_says_why(page, results, claim, why):
    shown = page(claim)
    assert f"claimed to be {claim['value']:.3f} (table 1): {why}" in shown
    assert "| --- |" not in shown
    (found,) = recipe(claim).claims
    assert unmeasured(found, results.analysis()).startswith(why)


def test_how_a_generator_failed_is_said_where_it_has_no_arm(results):
    results.runs(0.70)
    results.run(0.0, "cgan-seed", kept=False, error="loss became nan")
    (claim,) = recipe({"what": "usable films", "generator": "cgan-seed", "says": "none"}).claims
    assert unmeasured(claim, results.analysis()) == "no arm of `cgan-seed` was measured; its trials ended diverged"


def test_a_claim_in_words_is_set_beside_the_flags_of_the_films(results):
    results.benchmark(distances={"cgan": 2000.0})
    says = {"what": "usable films", "says": "none: it did not converge"}
    analysis = results.analysis()
    (bad,) = claims_table(recipe({**says, "generator": "cgan"}).claims, analysis).to_dict("records")
    assert bad["claimed"] == "none: it did not converge"
    assert bad["measured"] == "farther off than noise"
    results.runs(0.70, "dcgan")
    (good,) = claims_table(recipe({**says, "generator": "dcgan"}).claims, results.analysis()).to_dict("records")
    assert good["measured"] == "no flag"


def test_the_page_names_study_films_and_notes(page, results):
    results.put("data", counts={"films": 1234})
    shown = page(REAL, DCGAN, notes=("all films are used",))
    assert shown.startswith("\n### Claimed and measured: Doe & Roe (2020)\n")
    assert "*A toy study*, a journal, <https://doi.org/10.1/1>. Claimed for toy films: 12, in 2 classes" in shown
    assert "Measured on `toy`, tier `quick`: 1234 films in 2 classes (COVID, Normal)" in shown
    assert "- all films are used" in shown
    assert "small-cnn, dcgan x 2" in shown
    assert "No gain is claimed" not in shown


def test_a_study_without_a_baseline_is_said_to_claim_no_gain(page):
    assert "No gain is claimed that could be compared: there is no claim for real films alone." in page(DCGAN)


def test_a_recipe_without_claims_says_nothing(page):
    assert page() == ""


def test_claims_are_shown_in_the_sections_of_their_recipe_alone(results):
    root, setting = results.store.root, results.setting
    results.runs(0.80, "dcgan", 1.0, seeds=1)
    keep_recipe(root, recipe(DCGAN), "other data", setting.spec_hash)
    keep_recipe(root, recipe(DCGAN), setting.data_hash, "other spec")
    assert claim_lines(root, results.analysis()) == []
    keep_recipe(root, recipe(DCGAN), setting.data_hash, setting.spec_hash)
    assert claim_lines(root, results.analysis()) != []


def test_a_torn_recipe_is_said_and_stops_nothing(page, results):
    page(DCGAN)
    (results.store.root / "recipes" / "toy.json").write_text("{")
    assert claim_lines(results.store.root, results.analysis()) == [
        "",
        "`recipes/toy.json` cannot be read: run its recipe again.",
    ]


@pytest.mark.usefixtures("undrawn")
def test_the_leaderboard_holds_the_claims_after_the_verdicts(page, results):
    page(REAL, DCGAN)
    shown = results.page()
    assert shown.index("### Verdicts") < shown.index("### Claimed and measured") < shown.index("### All scores")
