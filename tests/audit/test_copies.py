"""Duplicates as findings, and the copies that are planted to measure how well they are found."""

import numpy as np
import pytest
from PIL import Image

from cxrbench.audit import copies as planting
from cxrbench.audit.copies import KINDS, change, duplicate_findings, measure_copies
from cxrbench.contracts import Film
from cxrbench.datasets.phantom import Phantom
from cxrbench.duplicates import SYMMETRIES, Copies, find_copies

NONE = Copies(np.empty((0, 2), np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def film(file, label=0, digest=None, patient=None):
    return Film(file, label, digest or file, patient)


def pair(i, j, symmetry=0, agreement=0.9):
    return Copies(np.array([[i, j]]), np.array([symmetry]), np.float32([agreement]))


def test_of_equal_files_the_first_is_kept_and_the_others_are_findings():
    films = [film("a", digest="x"), film("b"), film("c", digest="x"), film("d", digest="x")]
    found = duplicate_findings(films, NONE, ("A", "B"))
    assert [(f.file, f.finding, f.partner) for f in found] == [
        ("c", "exact-duplicate", "a"),
        ("d", "exact-duplicate", "a"),
    ]


def test_one_film_under_two_labels_is_a_conflict_of_both():
    found = duplicate_findings([film("a", 0), film("b", 1)], pair(0, 1), ("A", "B"))
    assert {(f.file, f.finding, f.partner) for f in found} == {
        ("b", "near-duplicate", "a"),
        ("a", "label-conflict", "b"),
        ("b", "label-conflict", "a"),
    }
    assert {f.detail for f in found if f.finding == "label-conflict"} == {"A and B"}


def test_a_mirrored_copy_and_two_patients_are_said():
    mirrored = [symmetry.name for symmetry in SYMMETRIES].index("mirrored")
    found = duplicate_findings([film("a", patient="p"), film("b", patient="q")], pair(0, 1, mirrored), ("A",))
    assert found[0].detail == "mirrored; two patient ids"


def test_equal_files_are_no_near_duplicates_as_well():
    found = duplicate_findings([film("a", digest="x"), film("b", digest="x")], pair(0, 1, agreement=1.0), ("A",))
    assert [f.finding for f in found] == ["exact-duplicate"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_copy_differs_from_its_film_and_keeps_its_size(kind):
    original = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96)).astype(np.uint8))
    copy = change(original, kind, np.random.default_rng(1))
    assert copy.size == original.size
    assert (np.asarray(copy) != np.asarray(original)).mean() > 0.2


def test_planted_copies_are_found_and_a_blind_search_scores_nothing(monkeypatch):
    phantom = Phantom(patients_per_class=12, max_films=1)
    listed = phantom.listing().films
    films = np.stack([phantom.read(f, 128) for f in listed])
    thumbnails = np.stack([phantom.read(f, 64) for f in listed])
    monkeypatch.setattr(planting, "PLANTED", 12)
    found = find_copies(thumbnails)
    results = measure_copies(films, thumbnails, found, np.random.default_rng(0))
    assert [r.finding for r in results] == [f"near-duplicate ({kind})" for kind in KINDS]
    assert min(r.recall for r in results) >= 10 / 12
    assert min(r.precision for r in results) >= 0.8
    monkeypatch.setattr(planting, "find_copies", lambda thumbnails: NONE)
    blind = measure_copies(films, thumbnails, found, np.random.default_rng(0))
    assert {(r.recall, r.precision) for r in blind} == {(0.0, 0.0)}
