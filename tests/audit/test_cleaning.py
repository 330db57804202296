"""What is left out, by an audit or by the record of an earlier run."""

from dataclasses import replace
from functools import partial

import pytest

from cxrbench.audit.cleaning import _removed, clean_as_recorded
from cxrbench.datasets.phantom import Phantom
from cxrbench.records import Record, Status, Trial
from cxrbench.stages import index_data


@pytest.fixture(scope="module")
def index():
    return index_data("phantom", Phantom(patients_per_class=4))


@pytest.fixture
def record_of(setting):
    """The data record of a run that removed some files."""
    return partial(_record_of, setting)


def _record_of(setting, index, files, *, clean="quarantine", status=Status.OK, kind="data"):
    removed = dict.fromkeys(files, "exact-duplicate (of a: b.png)")
    left = [film for film in index.films if film.file not in removed]
    cleaned = replace(index, films=left, clean=clean, removed=removed)
    trial = Trial(kind=kind, setting=setting(data_hash=cleaned.hash, clean=clean))
    notes = ["split: patient", *(f"removed: {file}: {why}" for file, why in removed.items())]
    return Record(key=trial.key, trial=trial, status=status, notes=notes, provenance={})


def test_what_an_earlier_run_removed_is_removed_again(index, record_of):
    files = [film.file for film in index.films[1:4]]
    record = record_of(index, files)
    cleaned, by = clean_as_recorded(index, "quarantine", [record_of(index, [], clean="none"), record])
    assert by is record
    assert dict(cleaned.removed) == dict.fromkeys(files, "exact-duplicate (of a: b.png)")
    assert [film.file for film in cleaned.films] == [film.file for film in index.films if film.file not in files]
    assert cleaned.hash == record.trial.setting.data_hash != index.hash


def test_of_two_machines_removals_that_counts_which_most_trials_rest_on(index, record_of):
    few, many = ([film.file for film in index.films[:count]] for count in (1, 2))
    records = [record_of(index, few), record_of(index, many), record_of(index, many, kind="fidelity")]
    for order in (records, records[::-1]):
        assert set(clean_as_recorded(index, "quarantine", order)[0].removed) == set(many)


def test_a_policy_that_found_nothing_is_known_too(index, record_of):
    cleaned, _ = clean_as_recorded(index, "quarantine", [record_of(index, [])])
    assert cleaned.removed == {}
    assert cleaned.clean == "quarantine"


def test_records_of_other_films_policies_kinds_or_failures_say_nothing(index, record_of):
    files = [index.films[0].file]
    others = [
        record_of(index, files, clean="strict"),
        record_of(index, files, status=Status.FAILED),
        record_of(index, files, kind="fidelity"),
        record_of(index_data("phantom", Phantom(patients_per_class=5)), files),
    ]
    assert clean_as_recorded(index, "quarantine", others) is None
    assert clean_as_recorded(index, "quarantine", []) is None


def test_a_colon_in_a_name_is_no_end_of_it():
    notes = [
        "removed: a: b.png: blank",
        "removed: c.png: exact-duplicate (of a: b.png)",
        "removed: gone.png: blank",
        "x",
    ]
    listed = {"a: b.png", "a", "c.png"}
    assert _removed(notes, listed) == {"a: b.png": "blank", "c.png": "exact-duplicate (of a: b.png)"}
