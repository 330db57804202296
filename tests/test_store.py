"""The results folder: records, predictions, and pictures that stay private."""

import json

import numpy as np
import pytest

from cxrbench.errors import UsageError
from cxrbench.records import Record, Setting, Status, Trial
from cxrbench.store import Store

SETTING = Setting(
    data="phantom", data_hash="d", split_seed=0, split_key="s", spec_hash="x", tier="smoke", image_size=32
)
ARRAYS = {"labels": np.arange(3), "groups": np.asarray(["a", "b", "b"]), "probabilities": np.eye(3, dtype=np.float32)}
PICTURES = {"generated": np.full((2, 1, 4, 4), 7, np.uint8)}


def record_of(seed=0, status=Status.OK):
    trial = Trial(kind="utility", setting=SETTING, classifier_seed=seed)
    return Record(
        key=trial.key,
        trial=trial,
        status=status,
        error=None if status is Status.OK else "CUDA out of memory",
        classes=("COVID", "Normal"),
        scores={"auroc_macro": 0.1 + 0.2},
        counts={"test": 3},
        notes=["a note: äöü"],
        provenance={"seconds": 1.5, "versions": {"torch": "2"}},
    )


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "results")
    made.prepare()
    return made


@pytest.fixture
def record():
    return record_of()


def test_a_record_comes_back_as_it_was(store, record):
    store.put(record, ARRAYS, {}, publish=False)
    assert store.get(record.key) == record
    assert Store(store.root).get(record.key) == record


def test_arrays_come_back_exactly(store, record):
    store.put(record, ARRAYS, {}, publish=False)
    back = store.arrays(record.key)
    assert back.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_what_was_never_stored_is_absent(store):
    assert store.get("unknown") is None
    assert not store.is_done("unknown")
    assert store.arrays("unknown") == store.pictures("unknown") == {}
    assert list(store) == []


def test_a_store_whose_folder_does_not_exist_is_empty(tmp_path):
    assert list(Store(tmp_path / "nowhere")) == []


@pytest.mark.parametrize("kept", [0, 1, 0.5, -2])
def test_a_torn_record_counts_as_absent(store, record, kept):
    store.put(record, {}, {}, publish=False)
    path = store.records / f"{record.key}.json"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    assert store.get(record.key) is None
    assert not store.is_done(record.key)
    assert list(store) == []


def test_a_record_of_another_schema_counts_as_absent(store, record):
    store.put(record, {}, {}, publish=False)
    path = store.records / f"{record.key}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 1}))
    assert store.get(record.key) is None


def test_a_torn_record_is_mended_by_writing_it_again(store, record):
    (store.records / f"{record.key}.json").write_text("{")
    store.put(record, {}, {}, publish=False)
    assert store.is_done(record.key)


@pytest.mark.parametrize("status", Status)
def test_only_ok_is_done(store, status):
    record = record_of(status=status)
    store.put(record, {}, {}, publish=False)
    assert store.is_done(record.key) is (status is Status.OK)
    assert store.get(record.key).error == record.error


def test_iterating_gives_every_record_in_an_order_that_does_not_depend_on_writing(store):
    made = [record_of(seed) for seed in range(4)]
    for record in reversed(made):
        store.put(record, ARRAYS, PICTURES, publish=True)
    assert list(store) == sorted(made, key=lambda record: record.key)


def test_private_pictures_stay_out_of_the_committed_folder(store, record):
    store.put(record, ARRAYS, PICTURES, publish=False)
    assert not store.is_public(record.key)
    assert {p.name for p in store.records.iterdir()} == {f"{record.key}.json", f"{record.key}.npz"}
    np.testing.assert_array_equal(store.pictures(record.key)["generated"], PICTURES["generated"])


def test_public_pictures_lie_beside_the_record(store, record):
    store.put(record, {}, PICTURES, publish=True)
    assert store.is_public(record.key)
    assert [p.name for p in store.private.rglob("*") if p.is_file()] == [".gitignore"]
    np.testing.assert_array_equal(store.pictures(record.key)["generated"], PICTURES["generated"])


def test_pictures_do_not_mix_with_arrays(store, record):
    store.put(record, ARRAYS, PICTURES, publish=True)
    assert store.arrays(record.key).keys() == ARRAYS.keys()
    assert store.pictures(record.key).keys() == PICTURES.keys()


def test_a_gitignore_keeps_the_private_folder_out_of_version_control(store):
    assert (store.private / ".gitignore").read_text() == "*\n"


def test_preparing_twice_keeps_the_records(store, record):
    store.put(record, {}, {}, publish=False)
    store.prepare()
    assert store.is_done(record.key)


@pytest.mark.parametrize("below", ["", "below"])
def test_a_results_folder_that_cannot_be_written_is_a_usage_error(tmp_path, below):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="choose another with --results"):
        Store(tmp_path / "file" / below).prepare()


@pytest.mark.parametrize(("arrays", "pictures"), [(True, False), (False, True)])
def test_a_record_whose_arrays_cannot_be_written_is_not_written(store, record, arrays, pictures):
    unstorable = {"objects": np.asarray([object()])}
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        store.put(record, unstorable if arrays else {}, unstorable if pictures else {}, publish=False)
    assert store.get(record.key) is None


def test_replacing_a_record_leaves_its_arrays_and_pictures_as_they_are(store, record):
    store.put(record, ARRAYS, PICTURES, publish=False)
    before = {path: path.read_bytes() for path in store.root.rglob("*.npz")}
    store.replace(record.model_copy(update={"scores": {"auroc_macro": 0.75}}))
    assert store.get(record.key).scores == {"auroc_macro": 0.75}
    assert {path: path.read_bytes() for path in store.root.rglob("*.npz")} == before
    assert len(before) == 2
    store.replace(record)
    assert store.get(record.key) == record


def test_pictures_made_private_leave_the_public_place(tmp_path):
    store = Store(tmp_path)
    store.prepare()
    entry = record_of()
    films = np.zeros((1, 1, 4, 4), np.uint8)
    store.put(entry, {}, {"generated": films}, publish=True)
    store.put(entry, {}, {"generated": films + 1}, publish=False)
    assert not store.is_public(entry.key)
    assert store.pictures(entry.key)["generated"].max() == 1


def test_a_record_copied_to_another_name_does_not_count(tmp_path):
    store = Store(tmp_path)
    store.prepare()
    entry = record_of()
    store.put(entry, {}, {}, publish=True)
    (store.records / "other.json").write_bytes((store.records / f"{entry.key}.json").read_bytes())
    assert store.get("other") is None
