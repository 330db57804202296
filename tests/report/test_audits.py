"""What the page says of audits."""

import json
from types import SimpleNamespace

import pytest

from cxrbench.report.audits import audit_lines


def section(data_hash="abc", clean="none"):
    record = SimpleNamespace(trial=SimpleNamespace(setting=SimpleNamespace(clean=clean)))
    return SimpleNamespace(data="films", data_hash=data_hash, records=[record])


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "audit" / "films"
    folder.mkdir(parents=True)
    content = {
        "name": "films",
        "data_hash": "abc",
        "counts": {"blank": 2, "text": 0, "flipped": 1},
        "probes": [{"name": "border", "verdict": "no sign of a shortcut"}],
    }
    (folder / "audit.json").write_text(json.dumps(content))
    return tmp_path


def test_an_audit_of_the_same_data_is_named(results):
    assert audit_lines(results, section()) == [
        "- [audit](audit/films/AUDIT.md) of the data: 2 blank, 1 flipped; no sign of a shortcut"
    ]


def test_an_audit_of_other_data_is_not(results):
    assert audit_lines(results, section("other")) == []


def test_cleaned_data_name_the_audit_of_what_they_were(results):
    assert "before cleaning (data hash `abc`)" in audit_lines(results, section("other", "quarantine"))[0]


def test_a_torn_audit_is_said_and_stops_nothing(results):
    (results / "audit" / "films" / "audit.json").write_text("{")
    assert "cannot be read (JSONDecodeError); run the audit again" in audit_lines(results, section())[0]
