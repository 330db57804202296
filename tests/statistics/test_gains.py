"""Gains: pairing, a bootstrap over patients, Student's t, Nadeau and Bengio's factor, calibration on normal data."""

import math

import numpy as np
import pytest
from scipy import stats

from cxrbench.statistics.gains import estimate_gain, pair_runs
from cxrbench.statistics.influence import ScoredRun, macro_auroc_influence, score_run

PATIENTS = np.asarray([f"{i:03d}" for i in range(100)])


def runs(scores, generators=None, classifiers=None, splits=None, influence=None):
    """One run per score; without influence the test patients play no part."""
    count = len(scores)
    influence = np.zeros((count, len(PATIENTS))) if influence is None else influence
    return [
        ScoredRun(
            splits[i] if splits else 0,
            generators[i] if generators else None,
            classifiers[i] if classifiers else i,
            float(scores[i]),
            PATIENTS,
            influence[i],
        )
        for i in range(count)
    ]


def base_of(arm, score=0.8):
    seeds = {(run.split, run.classifier_seed) for run in arm}
    return [ScoredRun(split, None, seed, score, PATIENTS, np.zeros(len(PATIENTS))) for split, seed in sorted(seeds)]


def predicted_runs(count, side, signal, films=240, patients=90):
    """Real scores of made-up predictions on one test set."""
    rng = np.random.default_rng(0)
    labels = np.sort(np.arange(films) % 3)
    groups = np.asarray([f"{label}-{rng.integers(patients // 3)}" for label in labels])
    hard = rng.standard_normal((films, 3))
    found = []
    for seed in range(count):
        own = np.random.default_rng([side, seed])
        logits = hard + 0.7 * own.standard_normal((films, 3)) + signal * np.eye(3)[labels]
        found.append((np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32))
    scored = [
        score_run(labels, p, groups, split=0, generator_seed=i if side else None, classifier_seed=i)
        for i, p in enumerate(found)
    ]
    return scored, found, labels, groups


def test_gains_are_paired_by_split_and_classifier_seed():
    arm = runs([0.9, 0.8, 0.7, 0.6], [0, 1, 0, 0], [0, 1, 0, 5], [0, 0, 1, 1])
    base = runs([0.5, 0.4, 0.3, 0.1], None, [0, 1, 0, 9], [0, 0, 1, 1])
    paired = pair_runs(arm, base)
    assert paired.gain == pytest.approx([0.4, 0.4, 0.4])
    assert list(paired.generator_seed) == [0, 1, 0]
    assert pair_runs(arm[:1], base[1:]) is None
    assert estimate_gain(arm[:1], base[1:]) is None
    assert estimate_gain([], base) is None


def test_the_film_error_is_that_of_a_bootstrap_over_patients():
    arm, arm_p, labels, groups = predicted_runs(3, 1, 1.2)
    base, base_p, _, _ = predicted_runs(3, 0, 0.8)
    gain = estimate_gain(arm, base)
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    drawn = []
    for _ in range(400):
        rows = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        scores = [[macro_auroc_influence(labels[rows], p[rows])[0] for p in side] for side in (arm_p, base_p)]
        drawn.append(np.mean(scores[0]) - np.mean(scores[1]))
    assert gain.gain == pytest.approx(np.mean([a.score - b.score for a, b in zip(arm, base, strict=True)]))
    assert gain.se_film == pytest.approx(np.std(drawn), rel=3 / math.sqrt(2 * 400))  # three Monte Carlo errors


def test_films_of_a_patient_are_not_independent():
    arm, arm_p, labels, groups = predicted_runs(3, 1, 1.2)
    base, base_p, _, _ = predicted_runs(3, 0, 0.8)
    alone = np.asarray([f"{i:03d}" for i in range(len(labels))])
    apart = [
        [
            score_run(labels, p, alone, split=0, generator_seed=i if side else None, classifier_seed=i)
            for i, p in enumerate(found)
        ]
        for side, found in enumerate((base_p, arm_p))
    ]
    together = estimate_gain([*arm], [*base])
    single = estimate_gain(apart[1], apart[0])
    assert single.gain == together.gain
    assert together.film.df == len(np.unique(groups)) - 1
    assert single.film.df == len(labels) - 1
    twice = np.asarray([f"{i % 120:03d}" for i in range(240)])
    both = [np.concatenate([labels[:120]] * 2), [np.concatenate([p[:120]] * 2) for p in arm_p]]
    copied = score_run(both[0], both[1][0], twice, split=0, generator_seed=0, classifier_seed=0)
    once = score_run(labels[:120], arm_p[0][:120], twice[:120], split=0, generator_seed=0, classifier_seed=0)
    assert np.allclose(copied.influence, once.influence)  # a second film of everybody tells nothing new


def test_without_patients_the_interval_is_students():
    gains = np.asarray([0.02, 0.05, 0.03])
    arm = runs(0.8 + gains, [0, 1, 2])
    found = estimate_gain(arm, base_of(arm))
    low, high = stats.t.interval(0.95, 2, gains.mean(), stats.sem(gains))
    assert (found.low, found.gain, found.high) == pytest.approx((low, gains.mean(), high))
    assert found.p == pytest.approx(stats.ttest_1samp(gains, 0).pvalue, rel=1e-5)
    assert (found.units, found.unit, found.pairs) == (3, "seed", 3)
    assert found.df == pytest.approx(2, rel=1e-3)
    assert found.se_film == 0
    assert found.standard_error == pytest.approx(stats.sem(gains))


def test_swapping_the_sides_turns_the_gain_over():
    arm, _, _, _ = predicted_runs(3, 1, 1.2)
    base, _, _, _ = predicted_runs(3, 0, 0.8)
    there, back = estimate_gain(arm, base), estimate_gain(base, arm)
    assert (there.gain, there.low, there.high) == pytest.approx((-back.gain, -back.high, -back.low))
    assert there.p == pytest.approx(back.p)


def test_means_of_units_carry_all_that_varies_beneath_them():
    scores = [0.82, 0.86, 0.80, 0.90, 0.95]
    arm = runs(scores, [0, 0, 1, 1, 1], [0, 1, 2, 3, 4])
    found = estimate_gain(arm, base_of(arm))
    means = np.asarray([0.84, np.mean([0.80, 0.90, 0.95])]) - 0.8
    assert found.gain == pytest.approx(means.mean())
    assert (found.unit, found.units, found.pairs) == ("generator seed", 2, 5)
    assert found.p == pytest.approx(stats.ttest_1samp(means, 0).pvalue, rel=1e-5)


def test_one_generator_rests_on_its_classifier_seeds():
    arm = runs([0.82, 0.86, 0.80], [4, 4, 4])
    found = estimate_gain(arm, base_of(arm))
    assert (found.unit, found.units) == ("classifier seed", 3)
    assert estimate_gain(runs([0.82, 0.86, 0.80]), base_of(arm)).p == found.p


def test_repeated_splits_are_widened_for_the_films_they_share():
    gains = np.asarray([0.02, 0.05, 0.03, 0.04])
    arm = runs(0.8 + gains, [0] * 4, [0] * 4, [0, 1, 2, 3])
    found = estimate_gain(arm, base_of(arm), test_to_train=0.25)
    expected = math.sqrt((1 / 4 + 0.25) * gains.var(ddof=1))
    assert found.standard_error == pytest.approx(expected)
    assert found.high - found.gain == pytest.approx(stats.t.ppf(0.975, 3) * expected)
    assert found.unit == "split"


def test_generators_that_share_real_only_runs_count_the_spread_of_both():
    scores = np.asarray([[0.82, 0.88], [0.80, 0.87], [0.85, 0.93]])
    arm = runs(scores.ravel(), [0, 0, 1, 1, 2, 2], [0, 1] * 3)
    found = estimate_gain(arm, base_of(arm))
    variance = scores.mean(axis=1).var(ddof=1) / 3 + scores.mean(axis=0).var(ddof=1) / 2
    assert found.standard_error == pytest.approx(math.sqrt(variance))
    assert [(part.source, part.df) for part in found.parts] == [
        ("film", 99),
        ("generator seed", 2),
        ("classifier seed", 1),
    ]
    assert (found.unit, found.units) == ("generator seed and classifier seed", 2)


@pytest.mark.parametrize(
    ("arm", "missing"),
    [
        (runs([0.9], [0]), "one classifier seed"),
        (runs([0.9, 0.91, 0.92], [0, 1, 2], [0, 0, 0]), "one classifier seed"),
    ],
)
def test_without_a_second_unit_there_is_no_interval(arm, missing):
    found = estimate_gain(arm, base_of(arm))
    assert found.reason.startswith(missing)
    assert all(math.isnan(value) for value in (found.low, found.high, found.p, found.se_seed, found.standard_error))
    assert found.gain > 0


def test_patients_of_several_splits_add_up():
    rng = np.random.default_rng(0)
    first = rng.standard_normal(100) / 1000
    first -= first.mean()
    arm = runs([0.82, 0.82], [0, 0], [0, 0], [0, 1], np.stack([first, first]))
    same = estimate_gain(arm, base_of(arm))
    others = [ScoredRun(1, 0, 0, 0.82, np.char.add("x", PATIENTS), first)]
    base = [ScoredRun(1, None, 0, 0.8, others[0].clusters, np.zeros(100))]
    apart = estimate_gain([arm[0], *others], [base_of(arm)[0], *base])
    assert same.se_film == pytest.approx(math.sqrt(2) * apart.se_film, rel=0.01)
    assert (same.film.df, apart.film.df) == (99, 199)


def test_the_variance_is_never_less_than_the_patients_part():
    rng = np.random.default_rng(0)
    influence = rng.standard_normal((3, 100)) / 1000
    arm = runs([0.82, 0.82, 0.82], [0, 1, 2], influence=influence - influence.mean(axis=1, keepdims=True))
    found = estimate_gain(arm, base_of(arm))
    assert found.se_seed == 0
    assert found.high - found.gain == pytest.approx(stats.t.ppf(0.975, 99) * found.se_film)


def gaussian_benchmark(rng, seeds, patients, together, spread):
    """An arm that gains nothing; standard deviations of what patients, patients with seeds, and seeds do."""
    scale = math.sqrt(len(PATIENTS))
    influence = rng.normal(0, patients / scale, 100) + rng.normal(0, together / scale, (seeds, 100))
    gains = rng.normal(0, spread, seeds) + influence.sum(axis=1)
    arm = runs(gains, list(range(seeds)), influence=influence - influence.mean(axis=1, keepdims=True))
    return estimate_gain(arm, base_of(arm, 0.0))


@pytest.mark.parametrize(("patients", "together", "spread"), [(0, 1, 0), (0, 1, 2), (1, 1, 1), (1, 0.3, 2), (1, 0, 0)])
@pytest.mark.parametrize("seeds", [2, 3])
def test_no_more_than_a_twentieth_of_arms_without_a_gain_seem_to_have_one(seeds, patients, together, spread):
    rng = np.random.default_rng(1)
    found = [gaussian_benchmark(rng, seeds, patients, together, spread) for _ in range(600)]
    assert np.mean([gain.p <= 0.05 for gain in found]) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)


def test_the_stated_variance_is_the_true_one_though_patients_and_seeds_overlap():
    rng = np.random.default_rng(2)
    found = [gaussian_benchmark(rng, 5, 1.0, 1.0, 2.0) for _ in range(800)]
    truth = 1.0 + (1.0 + 4.0) / 5
    assert np.mean([gain.standard_error**2 for gain in found]) == pytest.approx(truth, rel=0.08)
    assert np.var([gain.gain for gain in found]) == pytest.approx(truth, rel=0.2)


def test_repeated_or_unlike_runs_are_refused():
    arm = runs([0.9, 0.8])
    with pytest.raises(ValueError, match=r"two real-only runs have the same split and seeds: \(0, 1\)"):
        estimate_gain(arm, [*base_of(arm), base_of(arm)[1]])
    with pytest.raises(ValueError, match="two augmented runs"):
        estimate_gain([*arm, arm[0]], base_of(arm))
    other = [ScoredRun(0, None, 0, 0.8, PATIENTS[:50], np.zeros(50))]
    with pytest.raises(ValueError, match=r"split 0 .* tested on different patients"):
        estimate_gain(arm, other)
