"""Variance components: the classical analysis of variance, statsmodels' REML, confounded and unbalanced designs."""

import itertools

import numpy as np
import pandas as pd
import pytest

from cxrbench.statistics.components import variance_components
from cxrbench.statistics.influence import ScoredRun

PATIENTS = np.asarray([f"{i:02d}" for i in range(20)])


def benchmark(design, gains, influence=None):
    """An arm of (split, generator seed, classifier seed), and real-only runs that score 0."""
    influence = np.zeros((len(design), 20)) if influence is None else influence
    arm = [ScoredRun(s, g, c, float(gains[i]), PATIENTS, influence[i]) for i, (s, g, c) in enumerate(design)]
    pairs = sorted({(s, c) for s, _, c in design})
    return arm, [ScoredRun(s, None, c, 0.0, PATIENTS, np.zeros(20)) for s, c in pairs]


def variances(design, gains):
    return {found.source: found.variance for found in variance_components(*benchmark(design, gains))}


def nested(splits, generators, classifiers):
    """Every generator has classifier seeds of its own."""
    cells = itertools.product(range(splits), range(generators), range(classifiers))
    return [(s, g, g * classifiers + c) for s, g, c in cells]


def drawn(design, split, generator, classifier, seed=0):
    """Gains with these standard deviations."""
    rng = np.random.default_rng(seed)
    levels = [{key: rng.normal(0, sd) for key in {d[:n] for d in design}} for n, sd in ((1, split), (2, generator))]
    return np.asarray([sum(level[d[: n + 1]] for n, level in enumerate(levels)) for d in design]) + rng.normal(
        0, classifier, len(design)
    )


def test_a_balanced_nested_design_gives_the_classical_mean_squares():
    design = nested(3, 4, 5)
    gains = drawn(design, 2.0, 1.0, 0.5) + np.repeat([-3.0, 0.0, 3.0], 20)
    cells = gains.reshape(3, 4, 5)
    within = cells.var(axis=2, ddof=1).mean()
    between_generators = 5 * cells.mean(axis=2).var(axis=1, ddof=1).mean()
    between_splits = 20 * cells.mean(axis=(1, 2)).var(ddof=1)
    found = variances(design, gains)
    assert found["classifier seed"] == pytest.approx(within)
    assert found["generator seed"] == pytest.approx((between_generators - within) / 5)
    assert found["split"] == pytest.approx((between_splits - between_generators) / 20)


def test_a_balanced_design_agrees_with_statsmodels():
    import statsmodels.formula.api as smf

    design = nested(1, 8, 4)
    gains = drawn(design, 0.0, 1.0, 0.5)
    table = pd.DataFrame({"gain": gains, "generator": [g for _, g, _ in design]})
    fitted = smf.mixedlm("gain ~ 1", table, groups="generator").fit(reml=True)
    found = variances(design, gains)
    assert found["generator seed"] == pytest.approx(float(fitted.cov_re.iloc[0, 0]), rel=1e-3)
    assert found["classifier seed"] == pytest.approx(float(fitted.scale), rel=1e-3)


def test_crossed_seeds_give_the_two_way_mean_squares():
    design = [(0, g, c) for g in range(4) for c in range(5)]
    gains = drawn(design, 0.0, 1.0, 0.5) + np.tile([0.0, 3.0, -2.0, 1.0, 2.0], 4)
    cells = gains.reshape(4, 5)
    residual = cells - cells.mean(axis=1, keepdims=True) - cells.mean(axis=0) + cells.mean()
    together = (residual**2).sum() / 12
    found = variances(design, gains)
    assert found["generator seed x classifier seed"] == pytest.approx(together)
    assert found["generator seed"] == pytest.approx(cells.mean(axis=1).var(ddof=1) - together / 5)
    assert found["classifier seed"] == pytest.approx(cells.mean(axis=0).var(ddof=1) - together / 4)


def test_unbalanced_designs_are_unbiased():
    design = [run for run in nested(1, 6, 4) if run[2] not in (1, 2, 3, 6, 7, 20)]
    found = [variances(design, drawn(design, 0.0, 2.0, 1.0, seed)) for seed in range(400)]
    assert np.mean([f["generator seed"] for f in found]) == pytest.approx(4.0, rel=0.15)
    assert np.mean([f["classifier seed"] for f in found]) == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(
    ("design", "sources"),
    [
        ([(0, g, g) for g in range(3)], ["generator seed + classifier seed"]),
        ([(0, 0, c) for c in range(3)], ["classifier seed"]),
        ([(0, g, 0) for g in range(3)], ["generator seed"]),
        ([(0, None, c) for c in range(3)], ["classifier seed"]),
        ([(s, 0, 0) for s in range(3)], ["split + generator seed + classifier seed"]),
        ([(s, g, g) for s in range(3) for g in range(2)], ["split", "generator seed + classifier seed"]),
        ([(s, 0, c) for s in range(3) for c in range(2)], ["split + generator seed", "classifier seed"]),
        ([(s, None, c) for s in range(3) for c in range(2)], ["split", "classifier seed"]),
        ([(0, 0, 0)], []),
    ],
)
def test_what_the_design_varies_together_is_reported_together(design, sources):
    gains = np.random.default_rng(0).standard_normal(len(design))
    assert list(variances(design, gains)) == [*sources, "film"]


def test_a_negative_solution_becomes_zero():
    design = nested(1, 2, 2)
    found = variances(design, [1.0, -1.0, -1.0, 1.0])
    assert found["generator seed"] == 0
    assert found["classifier seed"] == pytest.approx(2.0)


def test_the_film_component_is_one_runs_variance_over_patients():
    influence = np.random.default_rng(0).standard_normal((3, 20))
    influence -= influence.mean(axis=1, keepdims=True)
    arm, base = benchmark(nested(1, 3, 1), np.zeros(3), influence)
    film = variance_components(arm, base)[-1]
    assert (film.source, film.groups) == ("film", 20)
    assert film.variance == pytest.approx(20 * influence.var(axis=1, ddof=1).mean())
    assert variance_components(arm, []) is None


def test_levels_that_cannot_be_told_apart_are_refused():
    # One split varies the classifier seed only, the other the generator seed only.
    design = [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 1, 0)]
    with pytest.raises(ValueError, match="told apart"):
        variances(design, [1.0, 2.0, 4.0, 8.0])
