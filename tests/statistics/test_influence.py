"""AUROC and influence: agreement with scikit-learn, DeLong's closed form, reweighting, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cxrbench.statistics.influence import macro_auroc_influence, score_run


def predictions(films, classes=3, seed=0, levels=None):
    """Labels and probabilities that know something of them; ``levels`` makes ties."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(films) % classes)
    scores = rng.dirichlet(np.ones(classes), films) + 0.3 * np.eye(classes)[labels]
    if levels:
        scores = np.ceil(scores * levels)
    return labels, (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


def weighted_auroc(labels, probabilities, weights):
    """scikit-learn's, with film i counted ``weights[i]`` times."""
    return np.mean([roc_auc_score(labels == c, probabilities[:, c], sample_weight=weights) for c in np.unique(labels)])


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 60), st.integers(2, 4), st.integers(0, 10_000), st.sampled_from([None, 2, 4]))
def test_the_score_is_scikit_learns_also_with_ties(films, classes, seed, levels):
    labels, probabilities = predictions(films, classes, seed, levels)
    score, influence = macro_auroc_influence(labels, probabilities)
    assert score == pytest.approx(weighted_auroc(labels, probabilities, None), abs=1e-12)
    assert influence.sum() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("levels", [None, 3])
def test_influence_is_the_derivative_by_a_films_weight(levels):
    labels, probabilities = predictions(30, levels=levels)
    _, influence = macro_auroc_influence(labels, probabilities)
    step = 1e-5
    for film in range(30):
        up, down = np.ones(30), np.ones(30)
        up[film] += step
        down[film] -= step
        slope = (weighted_auroc(labels, probabilities, up) - weighted_auroc(labels, probabilities, down)) / (2 * step)
        assert influence[film] == pytest.approx(slope, abs=1e-8)


def test_a_reweighted_auroc_is_predicted_to_first_order():
    labels, probabilities = predictions(900)
    score, influence = macro_auroc_influence(labels, probabilities)
    rng = np.random.default_rng(1)
    weights = [rng.multinomial(900, np.full(900, 1 / 900)) for _ in range(50)]
    actual = np.asarray([weighted_auroc(labels, probabilities, w) for w in weights])
    predicted = np.asarray([score + (w - 1) @ influence for w in weights])
    assert np.std(actual - predicted) < 0.1 * np.std(actual)


def test_squared_influence_of_two_classes_is_delongs_variance():
    labels, probabilities = predictions(60, classes=2)
    _, influence = macro_auroc_influence(labels, probabilities)
    mine, others = probabilities[labels == 1, 1], probabilities[labels == 0, 1]
    better = (mine[:, None] > others) + 0.5 * (mine[:, None] == others)
    delong = np.var(better.mean(axis=1)) / len(mine) + np.var(better.mean(axis=0)) / len(others)
    assert (influence**2).sum() == pytest.approx(delong, rel=1e-9)


def test_perfect_and_constant_predictions_have_no_influence():
    labels = np.arange(12) % 3
    for probabilities, expected in ((np.eye(3)[labels], 1.0), (np.full((12, 3), 1 / 3), 0.5)):
        score, influence = macro_auroc_influence(labels, probabilities.astype(np.float32))
        assert score == pytest.approx(expected)
        assert np.allclose(influence, 0, atol=1e-15)


def test_a_class_without_films_is_not_counted():
    labels, probabilities = predictions(40)
    seen = labels < 2
    score, _ = macro_auroc_influence(labels[seen], probabilities[seen])
    assert score == pytest.approx(weighted_auroc(labels[seen], probabilities[seen], None), abs=1e-12)


def test_renaming_classes_changes_nothing():
    labels, probabilities = predictions(40)
    one, other = macro_auroc_influence(labels, probabilities), macro_auroc_influence(2 - labels, probabilities[:, ::-1])
    assert one[0] == pytest.approx(other[0])
    assert np.allclose(one[1], other[1])


def test_a_run_adds_up_the_influence_of_each_patients_films():
    labels, probabilities = predictions(60)
    groups = np.asarray([f"p{i % 7}" for i in range(60)])
    run = score_run(labels, probabilities, groups, split=1, generator_seed=2, classifier_seed=3)
    score, influence = macro_auroc_influence(labels, probabilities)
    assert (run.split, run.generator_seed, run.classifier_seed, run.score) == (1, 2, 3, score)
    assert list(run.clusters) == [f"p{i}" for i in range(7)]
    assert np.allclose(run.influence, [influence[groups == name].sum() for name in run.clusters])


def test_malformed_input_is_refused():
    labels, probabilities = predictions(12)
    with pytest.raises(ValueError, match="films of two classes, got 1"):
        macro_auroc_influence(np.zeros(12, np.int64), probabilities)
    with pytest.raises(ValueError, match="films of two classes, got 0"):
        macro_auroc_influence(labels[:0], probabilities[:0])
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\), got 1 to 3"):
        macro_auroc_influence(labels + 1, probabilities)
    with pytest.raises(ValueError, match=r"labels must be \[N\]"):
        macro_auroc_influence(labels[:, None], probabilities)
    with pytest.raises(ValueError, match="float32"):
        macro_auroc_influence(labels[:-1], probabilities)
    broken = probabilities.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        macro_auroc_influence(labels, broken)
    with pytest.raises(ValueError, match=r"groups must be str \[12\]"):
        score_run(labels, probabilities, np.asarray(["a"]), split=0, generator_seed=None, classifier_seed=0)
