"""What generators say of their fits: on the page near the fidelity table, once, and of the newest record alone."""

import pytest

from cxrbench.report.diagnoses import diagnosis_lines

COLLAPSED = "diagnosis: class COVID has collapsed"


def test_each_sentence_names_the_generator_and_the_seed(results):
    results.fidelity("dcgan", {"fid": 10.0}, seed=1, notes=["weights are here", COLLAPSED, "diagnosis: it\noscillates"])
    results.fidelity("cgan", {"fid": 10.0}, seed=2, notes=[COLLAPSED])
    results.fidelity("cgan", {"fid": 10.0}, seed=0, notes=["no diagnosis: not at the beginning"])
    results.fidelity(None, {"fid": 10.0}, notes=[])
    assert diagnosis_lines(results.section()) == [
        "- `cgan` (seed 2): class COVID has collapsed",
        "- `dcgan` (seed 1): class COVID has collapsed",
        "- `dcgan` (seed 1): it oscillates",
    ]


def test_of_several_splits_each_fit_is_named_with_its_own(results):
    for split in (0, 1):
        results.fidelity("cgan", {"fid": 10.0}, split=split, notes=[COLLAPSED] if split else [])
    assert diagnosis_lines(results.section()) == ["- `cgan` (split 1, seed 0): class COVID has collapsed"]


def test_a_newer_record_of_the_same_fit_takes_the_place_of_the_older(results):
    results.fidelity("cgan", {"fid": 10.0}, notes=[COLLAPSED], started="2025-01-01")
    results.fidelity("cgan", {"fid": 10.0}, notes=[], started="2026-01-01", extractors=("inception",))
    assert diagnosis_lines(results.section()) == []


@pytest.mark.usefixtures("undrawn")
def test_the_page_tells_it_once_under_fidelity(results):
    results.fidelity(None, {"fid": 10.0})
    results.fidelity("cgan", {"fid": 30.0}, notes=["inception: no weights", COLLAPSED], started="2026-02-01")
    page = results.page()
    assert page.count("has collapsed") == 1
    assert page.count("inception: no weights") == 1
    assert page.index("### Fidelity") < page.index("- `cgan` (seed 0): class COVID has collapsed")
