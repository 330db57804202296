"""A record's own request, planned again: which options are taken, and each difference in one line."""

import dataclasses

import pytest

from cxrbench.asked import Asked
from cxrbench.errors import UsageError
from cxrbench.records import ExtractorRef
from cxrbench.rerun import asked_again, explain_mismatch, plan_again


def test_a_row_made_by_two_commands_is_planned_by_both(ran):
    first, second = (ran.record("utility", classifier_seed=seed) for seed in (0, 1000))
    asked = ran.asked.model_copy(update={"classifier_seeds": 3, "ratios": "1,2"})
    later = second.model_copy(update={"provenance": {**second.provenance, "request": asked.model_dump()}})
    reruns, why = plan_again([first, later], lambda index, policy, device: index)
    assert why == []
    assert [[trial.key for trial in rerun.plan.trials] for rerun in reruns] == [[first.key], [second.key]]
    assert [rerun.plan.request.ratios for rerun in reruns] == [(1.0,), (1.0, 2.0)]


def test_each_part_of_a_key_is_explained_in_one_line(ran):
    record = ran.record("utility")

    def why(**changes):
        """Plan the record's trial with something changed; ``setting`` changes go into the setting."""
        setting = record.trial.setting.model_copy(update=changes.pop("setting", {}))
        planned = record.trial.model_copy(update={**changes, "setting": setting})
        return explain_mismatch(record, dataclasses.replace(ran.plan, trials=[planned]))

    assert [line.split(":")[0] for line in why(setting={"split_key": "0" * 64})] == ["split"]
    # A split follows from its data: only the cause is named.
    assert [line.split(":")[0] for line in why(setting={"split_key": "0" * 64, "data_hash": "1" * 64})] == ["data hash"]
    (line,) = why(setting={"spec_hash": "0" * 64, "image_size": 64})
    assert "films at 32 px, now 64" in line
    assert why(real_share=0.5) == ["share of the real films: 1 in the record, 0.5 here"]
    assert why(ratio=0.5) == [f"plan: the record's own request does not lead to {record.trial.describe()} (split 0)"]
    assert [line.split(":")[0] for line in why(setting={"spec_hash": "0", "data_hash": "1"})] == [
        "data hash",
        "spec hash",
    ]


def test_extractors_are_explained_one_by_one(ran):
    record = ran.record("fidelity")
    ((name, extractor),) = record.trial.extractors.items()
    other = extractor.model_copy(update={"weights": "0" * 64})
    changed = record.trial.model_copy(update={"extractors": {name: other}})
    (line,) = explain_mismatch(record, dataclasses.replace(ran.plan, trials=[changed]))
    assert line == f"extractor {name}: weights differ: {extractor.weights[:12]} in the record, {'0' * 12} here"

    fid = ExtractorRef(weights="1" * 64, fd_label="FID", kd_label="KID", resize="")
    trial = record.trial.model_copy(update={"extractors": {name: extractor, "inception": fid}})
    wider = record.model_copy(update={"trial": trial, "key": trial.key})
    plan = dataclasses.replace(ran.plan, trials=[record.trial], notes=["FID is left out: no network"])
    assert explain_mismatch(wider, plan) == ["extractor inception: FID is left out: no network"]


# ---------------------------------------------------------------- the options anew


@pytest.fixture
def with_request(ran):
    """A record whose run was asked for with other options."""

    def made(device="auto", machine="AMD EPYC, 2 cores", kind="utility", **asked):
        request = Asked(device=device, **asked).model_dump()
        return ran.record(kind).model_copy(update={"provenance": {"request": request, "device": machine}})

    return made


def test_the_recorded_device_is_taken_unless_one_is_named(with_request):
    assert asked_again(with_request("cuda")).device == "cuda"
    assert asked_again(with_request("cuda"), device="cpu").device == "cpu"
    # `auto` on a machine without a GPU was the CPU, and a GPU here must not make it another.
    assert asked_again(with_request("auto", "AMD EPYC, 2 cores")).device == "cpu"
    assert asked_again(with_request("auto", "arm64, 1 core")).device == "cpu"
    assert asked_again(with_request("auto", "NVIDIA H100 80GB HBM3")).device == "auto"


def test_external_films_are_asked_for_only_where_they_matter(with_request):
    assert asked_again(with_request(external="there")).external == ""
    assert asked_again(with_request(external="there", labels="A=B")).external == "there"
    assert asked_again(with_request(external="there", kind="external")).external == "there"
    assert asked_again(with_request(external="there"), external="here").external == "here"
    with pytest.raises(UsageError, match="had no external films"):
        asked_again(with_request(), external="here")


def test_an_extractor_that_is_new_here_does_not_change_an_old_fidelity_row(ran):
    record = ran.record("fidelity")
    asked = asked_again(record)
    assert ran.asked.extractors == "auto"
    assert asked.extractors == ",".join(record.trial.extractors)
