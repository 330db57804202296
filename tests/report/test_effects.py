"""Kept predictions -> gains, verdicts and prices, where the truth is known."""

import math

import pytest

from cxrbench.report.effects import Predictions, arm_label, effects, effects_table, learning_points, with_worth

FEW = 1 / 3


def judged(results, kind="utility"):
    """Name of the generator -> its effect, of results with one arm per generator."""
    found = effects(results.section(), Predictions(results.store), kind)
    return {effect.trial.generator.name: effect for effect in found if effect.trial.generator}


def auroc(record):
    return record.scores["auroc_macro"]


def test_gains_are_paired_by_classifier_seed(results):
    real = results.runs(0.70, seeds=3)
    arm = [results.run(0.72, "cgan", seed=1), results.run(0.74, "cgan", seed=2)]
    effect = judged(results)["cgan"]
    expected = [auroc(a) - auroc(r) for a, r in zip(arm, real[1:], strict=True)]
    assert sorted(gain for _, gain in effect.gains) == pytest.approx(sorted(expected))
    assert effect.gain.gain == pytest.approx(sum(expected) / 2)
    assert effect.gain.pairs == 2


def test_gains_are_paired_within_the_split(results):
    real = [results.run(auroc, split=split) for split, auroc in enumerate((0.6, 0.8))]
    arm = [results.run(auroc, "cgan", split=split) for split, auroc in enumerate((0.65, 0.85))]
    results.run(0.9, "cgan", split=2)  # without a partner
    effect = judged(results)["cgan"]
    assert {run.split: gain for run, gain in effect.gains} == pytest.approx(
        {split: auroc(arm[split]) - auroc(real[split]) for split in (0, 1)}
    )
    assert (effect.gain.unit, effect.gain.units) == ("split", 2)


def test_every_classifier_is_compared_with_itself(results):
    for classifier, base in (("small-cnn", 0.6), ("large-cnn", 0.8)):
        results.runs(base, classifier=classifier)
        results.runs(base + 0.05, "cgan", classifier=classifier)
    found = effects(results.section(), Predictions(results.store))
    assert [effect.gain.gain for effect in found] == pytest.approx([0.05, 0.05], abs=0.02)


@pytest.mark.parametrize(("auroc", "word"), [(0.80, "helps"), (0.60, "hurts"), (0.70, "undetermined")])
def test_the_verdict_is_that_of_the_true_gain(results, auroc, word):
    results.runs(0.70)
    results.runs(auroc, "cgan")
    effect = judged(results)["cgan"]
    assert effect.verdict.word == word
    assert effect.gain.low < auroc - 0.70 < effect.gain.high


def test_a_gain_that_seeds_do_not_agree_on_is_within_the_noise(results):
    results.runs(0.70)
    for seed, lucky in enumerate((0.60, 0.75, 0.90)):
        results.run(lucky, "cgan", seed=seed)
    effect = judged(results)["cgan"]
    assert effect.gain.gain > 0.03
    assert effect.verdict.word == "undetermined"
    assert effect.verdict.mde > 0.1


def test_the_interval_widens_with_the_spread_of_the_seeds(results):
    results.runs(0.70)
    for name, spread in (("steady", 0.0), ("wavering", 0.02), ("wild", 0.06)):
        for seed in range(3):
            results.run(0.75 + spread * (seed - 1), name, seed=seed)
    found = judged(results)
    widths = [found[name].gain.high - found[name].gain.low for name in ("steady", "wavering", "wild")]
    assert widths[0] < widths[1] < widths[2]
    assert found["wild"].gain.se_seed > 3 * found["steady"].gain.se_seed


def test_one_seed_has_a_gain_but_no_interval_and_no_verdict(results):
    results.run(0.70)
    results.run(0.90, "cgan")
    effect = judged(results)["cgan"]
    assert effect.gain.gain == pytest.approx(0.20, abs=0.02)
    assert math.isnan(effect.gain.low)
    assert effect.verdict.word == "undetermined"
    assert effect.verdict.reason.startswith("one classifier seed")


def test_an_arm_without_real_only_runs_has_no_gain(results):
    results.run(0.7, error="boom", kept=False)
    results.runs(0.9, "cgan")
    effect = judged(results)["cgan"]
    assert effect.gain is None
    assert effect.verdict.reason == "no real-only run of the same split and classifier seed to compare with"
    table = effects_table([effect])
    assert list(table["verdict"]) == ["undetermined"]
    assert table["gain"].isna().all()


def test_records_without_predictions_are_passed_over(results):
    results.runs(0.70)
    results.runs(0.80, "cgan")
    results.runs(0.80, "dcgan", kept=False)
    assert set(judged(results)) == {"cgan"}


def test_real_films_alone_are_no_arm(results):
    results.runs(0.70)
    results.runs(0.60, real_share=FEW)
    assert effects(results.section(), Predictions(results.store)) == []


def families(results):
    return {(e.trial.generator.name if e.trial.generator else "", e.trial.arm): e.family for e in found(results)}


def found(results):
    return effects(results.section(), Predictions(results.store))


def with_every_arm(results):
    results.runs(0.70)
    results.runs(0.60, real_share=FEW)
    results.runs(0.71, "cgan")
    results.runs(0.72, "classical")


def test_arms_that_answer_different_questions_are_of_different_families(results):
    with_every_arm(results)
    results.runs(0.70, arm="longer")
    results.runs(0.70, "cgan", arm="copy-adjusted")
    results.runs(0.65, "cgan", arm="synthetic-only")
    results.runs(0.70, "oracle", real_share=FEW)
    results.runs(0.70, "copy")
    assert families(results) == {
        ("cgan", "augment"): "main",
        ("classical", "augment"): "main",
        ("", "longer"): "side",
        ("cgan", "copy-adjusted"): "side",
        ("cgan", "synthetic-only"): "side",
        ("oracle", "augment"): "control",
        ("copy", "augment"): "control",
    }


def test_verdicts_are_corrected_within_their_family_alone(results):
    with_every_arm(results)
    main = ["cgan", "classical"]
    before = {name: judged(results)[name] for name in main}
    results.runs(0.70, arm="longer")
    results.runs(0.70, "copy")
    results.runs(0.75, "oracle", real_share=FEW)
    after = judged(results)
    assert {name: after[name].verdict for name in main} == {name: before[name].verdict for name in main}
    assert least(before, main, "p_holm") == pytest.approx(2 * least(before, main, "p"))
    results.runs(0.70, "dcgan")
    third = judged(results)
    assert least(third, [*main, "dcgan"], "p_holm") == pytest.approx(3 * least(third, main, "p"))


def least(effects_by_name, names, p):
    """Of the arms' p-values, or of the corrected ones."""
    return min(getattr(effects_by_name[n].gain if p == "p" else effects_by_name[n].verdict, p) for n in names)


def test_learned_generators_are_compared_with_flips_and_rotations_too(results):
    results.runs(0.70)
    results.runs(0.80, "classical")
    results.runs(0.75, "cgan")
    results.runs(0.75, "cgan", ratio=2.0)
    results.runs(0.70, "copy")
    results.runs(0.75, "cgan", arm="synthetic-only")
    over = {
        (e.trial.generator.name, e.trial.ratio, e.trial.arm): e.over_classical
        for e in effects(results.section(), Predictions(results.store))
    }
    compared = over.pop(("cgan", 1.0, "augment"))
    assert compared.gain == pytest.approx(-0.05, abs=0.02)
    assert set(over.values()) == {None}  # classical itself, another ratio, a control, another arm
    verdict = judged_of(results, "cgan").verdict_over_classical
    assert verdict.word == "hurts"
    assert verdict.p_holm == pytest.approx(compared.p)  # the only one of its family


def judged_of(results, name):
    return next(
        e
        for e in effects(results.section(), Predictions(results.store))
        if e.trial.generator and e.trial.generator.name == name and e.trial.arm == "augment" and e.trial.ratio == 1
    )


def test_the_oracle_is_measured_against_as_few_real_films(results):
    results.runs(0.70)
    results.runs(0.60, real_share=FEW)
    results.runs(0.68, "oracle", real_share=FEW)
    assert judged(results)["oracle"].gain.gain == pytest.approx(0.08, abs=0.02)


def test_gains_outside_are_paired_outside_and_only_the_newest_set_counts(results):
    for where, base, arm, started in (("old", 0.8, 0.9, "2026-01-01"), ("new", 0.60, 0.65, "2026-02-01")):
        results.runs(base, external=where, started=started)
        results.runs(arm, "cgan", external=where, started=started)
    results.runs(0.70)
    results.runs(0.90, "cgan")
    (effect,) = effects(results.section(), Predictions(results.store), "external")
    assert effect.trial.external_data == "new"
    assert effect.gain.gain == pytest.approx(0.05, abs=0.02)


def with_a_learning_curve(results, arm):
    for share, auroc in ((FEW, 0.60), (2 * FEW, 0.65), (1.0, 0.70)):
        results.runs(auroc, real_share=share)
    results.runs(arm, "cgan")
    results.runs(0.70, "copy")
    return {e.trial.generator.name: e for e in with_worth(found(results), results.section())}


def test_a_gain_is_priced_in_real_films(results):
    effect = with_a_learning_curve(results, 0.72)["cgan"]
    worth = effect.worth
    assert worth.low < worth.per_thousand < worth.high
    assert 100 < worth.per_thousand < 1000  # 600 films, 0.09 per e-fold: exp(0.02 / 0.09) - 1 = 25 % more
    (row,) = effects_table([effect]).to_dict("records")
    assert row["worth"] == worth.per_thousand


def test_what_is_beyond_the_curve_has_no_price_and_the_table_says_why(results):
    priced = with_a_learning_curve(results, 0.95)
    table = effects_table(list(priced.values())).set_index("generator")
    assert math.isnan(table.loc["cgan", "worth"])
    assert "beyond the learning curve" in table.loc["cgan", "worth_reason"]
    assert priced["copy"].worth is None  # controls are not for sale


def test_the_learning_curve_rests_on_real_films_alone(results):
    with_a_learning_curve(results, 0.72)
    results.runs(0.9, arm="longer")
    results.runs(0.9, "cgan", arm="synthetic-only")
    points = learning_points(results.section())["small-cnn"]
    assert {films: len(scores) for films, scores in points.items()} == {200: 3, 400: 3, 600: 3}


def test_predictions_are_read_once(results, monkeypatch):
    with_every_arm(results)
    read, arrays = [], results.store.arrays
    monkeypatch.setattr(results.store, "arrays", lambda key: read.append(key) or arrays(key))
    predictions = Predictions(results.store)
    effects(results.section(), predictions)
    effects(results.section(), predictions)
    assert len(read) == len(set(read)) >= 9


@pytest.mark.parametrize(
    ("made", "label"),
    [
        ({}, "real only"),
        ({"real_share": FEW}, "real only on 33% real"),
        ({"arm": "longer"}, "real only, longer"),
        ({"generator": "cgan", "ratio": 0.5}, "cgan x 0.5"),
        ({"generator": "cgan", "arm": "copy-adjusted"}, "cgan x 1, copies removed"),
        ({"generator": "cgan", "arm": "synthetic-only"}, "cgan, synthetic-only"),
        ({"generator": "oracle", "real_share": FEW}, "oracle x 1 on 33% real"),
    ],
)
def test_an_arm_has_a_short_name(results, made, label):
    trial = results.run(0.7, kept=False, **made).trial
    assert arm_label(trial, with_classifier=False) == label
    assert arm_label(trial, with_classifier=True) == f"small-cnn: {label}"


def test_copy_adjusted_arms_of_two_ratios_have_different_names(results):
    trials = [results.run(0.7, "cgan", ratio, arm="copy-adjusted", kept=False).trial for ratio in (0.5, 1.0)]
    assert len({arm_label(trial, with_classifier=False) for trial in trials}) == 2
