"""Labels that are probably wrong."""

import numpy as np
import pytest

from cxrbench.audit.labels import label_findings, out_of_fold, suspects, swap_labels
from cxrbench.contracts import Film


def clouds(n=300, apart=3.0, seed=0):
    """Features of three classes, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=n).astype(np.int64)
    features = rng.normal(0, 1, (n, 8)) + apart * np.eye(8)[labels]
    return features.astype(np.float32), labels


def test_swapped_labels_are_found():
    features, labels = clouds(n=1500, apart=6.0)
    swapped, chosen = swap_labels(labels, 3, 0.05, np.random.default_rng(1))
    margin, taken = suspects(out_of_fold(features, swapped, np.arange(len(labels)), 3), swapped)
    assert (margin[chosen] > 0).mean() > 0.7
    assert (margin[~chosen] > 0).mean() < 0.02
    assert (taken[chosen & (margin > 0)] == labels[chosen & (margin > 0)]).all()


def test_the_rule_in_a_closed_form():
    probabilities = np.float32([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.05, 0.95], [0.2, 0.8]])
    labels = np.array([0, 0, 1, 1, 0])  # thresholds: 0.633 of class 0, 0.925 of class 1
    margin, taken = suspects(probabilities, labels)
    assert margin.tolist() == [0, 0, 0, 0, 0]  # 0.8 is less sure than class 1 usually is
    probabilities[4] = [0.04, 0.96]
    margin, taken = suspects(probabilities, labels)
    assert margin[4] == pytest.approx(0.92)
    assert taken.tolist() == [0, 0, 1, 1, 1]


def test_certain_and_right_labels_are_never_suspect():
    labels = np.arange(60) % 3
    margin, taken = suspects(np.eye(3, dtype=np.float32)[labels], labels)
    assert not margin.any()
    assert np.array_equal(taken, labels)


def test_swapping_changes_the_share_asked_for_and_nothing_else():
    labels = np.arange(200) % 3
    swapped, chosen = swap_labels(labels, 3, 0.05, np.random.default_rng(0))
    assert chosen.sum() == 10
    assert ((swapped != labels) == chosen).all()


def test_a_film_of_a_group_is_judged_without_its_group():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(0, 1, (120, 40)).astype(np.float32), rng.integers(3, size=120).astype(np.int64)
    doubled, twice = np.repeat(features, 2, axis=0), np.repeat(labels, 2)
    alone = out_of_fold(doubled, twice, np.arange(240), 3)
    together = out_of_fold(doubled, twice, np.repeat(np.arange(120), 2), 3)
    own = np.arange(240), twice
    assert alone[own].mean() > together[own].mean() + 0.02  # with its twin among the teachers a label looks certain


def test_a_class_of_one_group_gives_no_verdict():
    features, labels = clouds(n=30)
    groups = np.where(labels == 0, 0, np.arange(30) + 1)
    assert out_of_fold(features, labels, groups, 3) is None
    films = [Film(str(i), int(label), str(i)) for i, label in enumerate(labels)]
    assert label_findings(films, features, labels, groups, ("a", "b", "c")) == ([], [])


def test_groups_that_hold_every_film_of_a_class_give_no_verdict_instead_of_a_crash():
    labels = np.repeat([0, 1, 0, 0, 0, 1], [18, 1, 7, 18, 18, 14]).astype(np.int64)
    groups = np.repeat([0, 0, 1, 2, 3, 3], [18, 1, 7, 18, 18, 14]).astype(np.int64)
    features = np.random.default_rng(0).normal(0, 1, (len(labels), 6)).astype(np.float32)
    found = out_of_fold(features, labels, groups, 2)
    assert found is None or np.allclose(found.sum(axis=1), 1, atol=1e-5)
