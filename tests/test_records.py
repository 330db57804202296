"""Trials and records as plain data: keys and validation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cxrbench.records import ExtractorRef, PluginRef, Record, Setting, Status, Trial

SETTING = Setting(
    data="phantom", data_hash="d", split_seed=0, split_key="s", spec_hash="x", tier="smoke", image_size=32
)
GENERATOR = PluginRef(name="cgan", kind="generator", params={"width": 8}, identity="g")
CLASSIFIER = PluginRef(name="small-cnn", kind="classifier", params={}, identity="c")
TRIAL = Trial(
    kind="utility",
    setting=SETTING,
    generator=GENERATOR,
    generator_seed=0,
    ratio=0.5,
    classifier=CLASSIFIER,
    classifier_seed=0,
)

LITE0 = ExtractorRef(weights="w", fd_label="FD-lite0", kd_label="KID-lite0", resize="to 224 px")

settings = st.builds(
    Setting,
    data=st.text(),
    data_hash=st.text(),
    split_seed=st.integers(0, 5),
    split_key=st.text(),
    spec_hash=st.text(),
    tier=st.text(),
    image_size=st.integers(1, 512),
    split_by=st.sampled_from(["patient", "source", "official"]),
    clean=st.sampled_from(["none", "safe"]),
)
trials = st.builds(
    Trial,
    kind=st.sampled_from(["data", "fidelity", "memorization", "utility", "external", "throughput"]),
    setting=settings,
    generator=st.none() | st.just(GENERATOR),
    generator_seed=st.none() | st.integers(0, 9),
    ratio=st.none() | st.floats(0, 8),
    arm=st.sampled_from(["augment", "synthetic-only", "copy-adjusted", "longer"]),
    real_share=st.floats(0.1, 1),
    classifier=st.none() | st.just(CLASSIFIER),
    classifier_seed=st.none() | st.integers(0, 9),
    environment=st.text(),
    extractors=st.dictionaries(st.text(), st.just(LITE0), max_size=2),
    external=st.text(),
    external_data=st.text(),
)
records = st.builds(
    Record,
    key=st.text(),
    trial=trials,
    status=st.sampled_from(Status),
    error=st.none() | st.text(),
    classes=st.lists(st.text(), max_size=3).map(tuple),
    scores=st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    counts=st.dictionaries(st.text(), st.integers(), max_size=2),
    notes=st.lists(st.text(), max_size=2),
    provenance=st.dictionaries(st.text(), st.text() | st.integers(), max_size=2),
)


def changed(part, **update):
    return part.model_validate({**part.model_dump(), **update})


@given(records)
def test_a_record_survives_json(record):
    assert Record.model_validate_json(record.model_dump_json()) == record


@given(trials)
def test_the_key_of_a_trial_survives_json(trial):
    assert Trial.model_validate_json(trial.model_dump_json()).key == trial.key


@pytest.mark.parametrize(
    "update", [{"data": "a folder renamed"}, {"tier": "renamed"}, {"split_by": "source"}, {"clean": "safe"}], ids=str
)
def test_the_key_ignores_names_of_the_setting(update):
    assert changed(TRIAL, setting=changed(SETTING, **update)).key == TRIAL.key


@pytest.mark.parametrize("who", ["generator", "classifier"])
def test_the_key_ignores_how_a_plugin_is_named(who):
    renamed = changed(getattr(TRIAL, who), name="renamed", params={"shown": "elsewhere"})
    assert changed(TRIAL, **{who: renamed}).key == TRIAL.key


@pytest.mark.parametrize(
    "update", [{"data_hash": "D"}, {"split_key": "S"}, {"spec_hash": "X"}, {"image_size": 64}], ids=str
)
def test_the_key_depends_on_every_identity_of_the_setting(update):
    assert changed(TRIAL, setting=changed(SETTING, **update)).key != TRIAL.key


@pytest.mark.parametrize("who", ["generator", "classifier"])
def test_the_key_depends_on_the_identity_of_each_plugin(who):
    assert changed(TRIAL, **{who: changed(getattr(TRIAL, who), identity="changed")}).key != TRIAL.key


@pytest.mark.parametrize(
    "update",
    [
        {"kind": "fidelity"},
        {"generator": None},
        {"generator_seed": 1},
        {"generator_seed": None},
        {"ratio": 1.0},
        {"ratio": None},
        {"classifier": None},
        {"classifier_seed": 1},
        {"environment": "NVIDIA H100"},
        {"extractors": {"lite0": LITE0}},
        {"arm": "synthetic-only"},
        {"real_share": 0.5},
        {"external": "e"},
    ],
    ids=str,
)
def test_the_key_depends_on_every_part_of_the_trial(update):
    assert changed(TRIAL, **update).key != TRIAL.key


def test_the_key_ignores_names_of_extractors_and_external_films():
    assert changed(TRIAL, external_data="a name for people").key == TRIAL.key
    measured = changed(TRIAL, extractors={"lite0": LITE0})
    renamed = changed(TRIAL, extractors={"lite0": changed(LITE0, fd_label="elsewhere", resize="in other words")})
    assert renamed.key == measured.key
    assert changed(TRIAL, extractors={"lite0": changed(LITE0, weights="other")}).key != measured.key


def test_the_key_is_the_same_in_every_version():
    """Records are found by it: it must only change where the trial means something else."""
    assert TRIAL.key == "1f8e953eeb0c65eacf6911837f8db29c97632f0333321891f84bc400f8d90863"


def test_repetitions_are_one_row_and_other_arms_are_not():
    other = changed(SETTING, split_seed=1, split_key="other")
    repeats = [{"generator_seed": 5}, {"classifier_seed": 3}, {"setting": other}]
    assert {changed(TRIAL, **update).row for update in repeats} == {TRIAL.row}
    for update in ({"ratio": 1.0}, {"arm": "copy-adjusted"}, {"real_share": 0.5}, {"generator": None}):
        assert changed(TRIAL, **update).row != TRIAL.row
    assert len(TRIAL.row) == 10


def test_a_generator_and_a_classifier_cannot_trade_places_in_a_key():
    swapped = changed(TRIAL, generator=changed(GENERATOR, identity="c"), classifier=changed(CLASSIFIER, identity="g"))
    assert swapped.key != TRIAL.key


def test_a_whole_ratio_is_the_same_trial_however_it_is_written():
    assert changed(TRIAL, ratio=1).key == changed(TRIAL, ratio=1.0).key


@pytest.mark.parametrize(("part", "name"), [(TRIAL, "ratio"), (SETTING, "tier"), (GENERATOR, "name")])
def test_trials_cannot_be_changed(part, name):
    with pytest.raises(ValidationError, match="frozen"):
        setattr(part, name, getattr(part, name))


@pytest.mark.parametrize("part", [SETTING, GENERATOR, TRIAL, Record(key="k", trial=TRIAL, status=Status.OK)])
def test_unknown_fields_are_refused(part):
    with pytest.raises(ValidationError, match="Extra inputs"):
        changed(part, surprise=1)


@pytest.mark.parametrize("update", [{"schema_version": 1}, {"status": "fine"}, {"scores": {"fid": "N/A"}}], ids=str)
def test_records_of_another_schema_are_refused(update):
    with pytest.raises(ValidationError):
        changed(Record(key="k", trial=TRIAL, status=Status.OK), **update)


@pytest.mark.parametrize(
    ("trial", "line"),
    [
        (TRIAL, "small-cnn on real films with 0.5 x cgan, seed 0"),
        (changed(TRIAL, arm="copy-adjusted"), "small-cnn on real films with 0.5 x cgan (copy-adjusted), seed 0"),
        (changed(TRIAL, generator=None, real_share=1 / 3), "small-cnn on 33% of the real films, seed 0"),
        (changed(TRIAL, generator=None, ratio=None), "small-cnn on real films, seed 0"),
        (
            changed(TRIAL, kind="external", external="e"),
            "small-cnn on real films with 0.5 x cgan, seed 0, on external films",
        ),
        (
            changed(TRIAL, kind="external", external="e", external_data="elsewhere", generator=None),
            "small-cnn on real films, seed 0, on elsewhere",
        ),
        (Trial(kind="data", setting=SETTING), "data phantom"),
        (Trial(kind="fidelity", setting=SETTING), "fidelity of real held-out films"),
        (Trial(kind="fidelity", setting=SETTING, generator=GENERATOR, generator_seed=3), "fidelity of cgan, seed 3"),
        (Trial(kind="throughput", setting=SETTING, classifier=CLASSIFIER), "throughput of small-cnn"),
    ],
)
def test_a_trial_describes_itself_in_a_line(trial, line):
    assert trial.describe() == line
