"""Which records may be compared, and which of them count."""

import pytest

from cxrbench.report.sections import sections


@pytest.mark.parametrize("field", ["data_hash", "spec_hash"])
def test_other_data_or_another_spec_is_never_ranked_together(results, field):
    results.run(0.7)
    results.setting = results.setting.model_copy(update={field: "e" * 64})
    results.run(0.7)
    found = sections(results.store)
    assert [len(section.records) for section in found] == [1, 1]
    assert len({section.slug for section in found}) == 2


def test_an_empty_store_has_no_sections(results):
    assert sections(results.store) == []


def test_only_the_newest_version_of_a_plugin_counts(results):
    results.run(0.7)
    results.run(0.9, "cgan@old", started="2026-01-01")
    new = results.run(0.6, "cgan@new", started="2026-02-01")
    section = results.section()
    assert section.superseded == 1
    assert [record for record in section.records if record.trial.generator] == [new]


def test_a_newer_classifier_supersedes_every_arm_of_the_old_one(results):
    results.run(0.7, classifier="small-cnn@old")
    results.run(0.8, "cgan", classifier="small-cnn@old")
    new = results.run(0.7, classifier="small-cnn@new", started="2026-02-01")
    section = results.section()
    assert section.records == [new]
    assert section.superseded == 2


def test_records_of_a_split_that_is_dealt_out_anew_are_superseded(results):
    other = results.run(0.7, split=1)
    stale = results.run(0.7)
    new = stale.trial.model_copy(update={"setting": stale.trial.setting.model_copy(update={"split_key": "dealt anew"})})
    newer = stale.model_copy(update={"trial": new, "key": new.key, "provenance": {"started": "2026-02-01"}})
    results.store.put(newer, {}, {}, publish=True)
    section = results.section()
    assert {record.key for record in section.records} == {other.key, newer.key}
    assert section.superseded == 1
    assert section.splits == 2


def test_a_failure_of_an_edited_plugin_does_not_hide_the_results_of_the_old_one(results):
    results.runs(0.8, "cgan@old")
    failed = results.run(0.0, "cgan@new", started="2026-03-01", error="boom", kept=False)
    section = results.section()
    assert len(section.records) == 3
    assert section.failures == [failed]


def test_an_old_failure_is_forgotten_once_a_newer_version_went_well(results):
    results.run(0.0, "cgan@old", seed=5, error="boom", kept=False)
    results.run(0.8, "cgan@new", started="2026-03-01")
    section = results.section()
    assert section.failures == []
    assert section.superseded == 1


def test_a_failure_of_the_version_that_counts_is_kept_however_old(results):
    failed = results.run(0.0, "cgan", seed=5, error="boom", kept=False, started="2025-01-01")
    results.run(0.8, "cgan", started="2026-03-01")
    assert results.section().failures == [failed]


def test_sections_come_in_an_order_that_does_not_depend_on_keys(results):
    for name, tier in (("b", "cpu"), ("a", "quick"), ("a", "cpu")):
        update = {"data": name, "data_hash": name * 64, "tier": tier, "spec_hash": tier * 9}
        results.setting = results.setting.model_copy(update=update)
        results.run(0.7)
    assert [(s.data, s.tier) for s in sections(results.store)] == [("a", "cpu"), ("a", "quick"), ("b", "cpu")]


def test_a_folder_name_is_safe_whatever_the_data_are_called(results):
    results.setting = results.setting.model_copy(update={"data": "../films of A&B"})
    results.run(0.7)
    assert "/" not in results.section().slug
    assert results.section().slug.startswith(".._films_of_A_B-quick-")


def test_an_extractor_is_named_as_it_was_last(results):
    results.fidelity("cgan", {"fid": 1.0}, extractors=("lite0",))
    newer = results.fidelity("dcgan", {"fid": 1.0}, extractors=("inception", "lite0"), started="2026-02-01")
    assert results.section().extractors == newer.trial.extractors


def test_a_section_of_failures_alone_knows_how_it_was_split(results):
    results.run(0.7, error="boom", kept=False)
    assert results.section().split_by == "patient"
    assert results.section().classes == ()
