"""Findings, their table, and what cleaning removes."""

import csv
import io

import pytest

from cxrbench.audit.findings import MEANING, POLICIES, Finding, count_findings, removed_by, to_csv
from cxrbench.errors import UsageError

FINDINGS = [
    Finding("a.png", "exact-duplicate", 1.0, "b.png", "the same bytes"),
    Finding("c.png", "near-duplicate", 0.9, "d.png"),
    Finding("c.png", "near-duplicate", 0.8, "e.png"),
    Finding("f.png", "label-suspect", 0.7, detail='labelled "A, B", taken for C'),
    Finding("g.png", "unreadable", 1.0, detail="damaged"),
]


def test_the_table_has_the_promised_columns_and_survives_commas_and_quotes():
    rows = list(csv.reader(io.StringIO(to_csv(FINDINGS))))
    assert rows[0] == ["file", "finding", "score", "partner", "detail"]
    assert rows[4] == ["f.png", "label-suspect", "0.7000", "", 'labelled "A, B", taken for C']
    assert len(rows) == 6


def test_films_are_counted_once_per_finding():
    counts = count_findings(FINDINGS)
    assert (counts["near-duplicate"], counts["exact-duplicate"], counts["blank"]) == (1, 1, 0)
    assert list(counts) == list(MEANING)


@pytest.mark.parametrize(
    ("policy", "files"),
    [("none", set()), ("quarantine", {"a.png"}), ("strict", {"a.png", "c.png"})],
)
def test_a_policy_removes_its_findings(policy, files):
    assert set(removed_by(FINDINGS, policy)) == files


def test_no_policy_removes_what_a_classifier_finds_hard():
    assert all("label-suspect" not in kinds for kinds in POLICIES.values())


def test_every_policy_speaks_of_known_findings():
    assert frozenset().union(*POLICIES.values()) <= set(MEANING)


def test_an_unknown_policy_is_a_usage_error():
    with pytest.raises(UsageError, match="unknown cleaning policy 'all'; use none, quarantine, strict"):
        removed_by(FINDINGS, "all")


def test_a_lateral_view_is_removed_only_where_it_is_recorded():
    recorded, suspected = Finding("a", "lateral", 1.0), Finding("b", "lateral", 0.15)
    assert set(removed_by([recorded, suspected], "strict")) == {"a"}
