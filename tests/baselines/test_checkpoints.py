"""Checkpoints: whole or not at all, never used where damaged, and only by the fit that wrote them."""

import errno
import json
import os
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.errors import CxrbenchError, UsageError
from cxrbench_baselines.checkpoints import FIT, MANIFEST, PARTS, Checkpoint, Checkpoints

FACTS = {"seed": 0, "classes": ("COVID", "Normal"), "films": "ab" * 32}
FILES = [MANIFEST, FIT, PARTS]


def after(step):
    """A checkpoint whose content tells its step."""
    return Checkpoint(step, {"net": {"weight": torch.full((3,), float(step))}}, {"losses": [0.1 * step]})


def written(folder, *steps, facts=FACTS):
    checkpoints = Checkpoints(folder, facts)
    for step in steps:
        checkpoints.save(after(step))
    return checkpoints


def place(folder, step):
    return folder / f"step-{step:012d}"


def flip(path, position=None, bits=0x10):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if position is None else position] ^= bits
    path.write_bytes(content)


def assert_is(found, step):
    expected = after(step)
    assert found.step == step
    assert torch.equal(found.parts["net"]["weight"], expected.parts["net"]["weight"])
    assert found.watch == expected.watch


def test_what_was_saved_comes_back_in_the_same_bits(tmp_path):
    net = torch.nn.Conv2d(1, 3, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    net(torch.randn(2, 1, 8, 8)).sum().backward()
    optimizer.step()
    average = torch.optim.swa_utils.AveragedModel(net, use_buffers=True)
    average.update_parameters(net)
    parts = {"net": net, "optimizer": optimizer, "average": average}
    Checkpoints(tmp_path, FACTS).save(Checkpoint(7, {name: part.state_dict() for name, part in parts.items()}))

    found = Checkpoints(tmp_path, FACTS).newest()
    assert (found.step, found.watch) == (7, None)
    for key, value in net.state_dict().items():
        assert torch.equal(found.parts["net"][key], value)
    assert found.parts["average"]["n_averaged"] == 1
    state = optimizer.state_dict()["state"][0]["exp_avg"]
    assert torch.equal(found.parts["optimizer"]["state"][0]["exp_avg"], state)
    assert found.parts["optimizer"]["state"][0]["exp_avg"].stride() == state.stride()


def test_the_newest_is_found_and_the_last_two_are_kept(tmp_path):
    written(tmp_path, 3, 20, 100)
    assert sorted(p.name for p in tmp_path.iterdir()) == [place(tmp_path, 20).name, place(tmp_path, 100).name]
    assert_is(Checkpoints(tmp_path, FACTS).newest(), 100)


def test_where_there_is_none_none_is_found(tmp_path):
    with warnings.catch_warnings(action="error"):
        assert Checkpoints(tmp_path / "nowhere", FACTS).newest() is None


def test_removed_checkpoints_are_gone(tmp_path):
    checkpoints = written(tmp_path / "c", 1, 2)
    checkpoints.remove()
    assert not (tmp_path / "c").exists()
    assert checkpoints.newest() is None


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage",
    [flip, lambda path: path.write_bytes(path.read_bytes()[:-9]), lambda path: path.unlink()],
    ids=["flipped", "torn", "missing"],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, name, damage):
    written(tmp_path, 10, 20)
    damage(place(tmp_path, 20) / name)
    checkpoints = Checkpoints(tmp_path, FACTS)
    with pytest.warns(UserWarning, match=r"checkpoint .*step-000000000020 is damaged \(.*\) and is not used"):
        assert_is(checkpoints.newest(), 10)
    checkpoints.save(after(30))  # the damaged one must not count as one of the two that are kept
    assert sorted(p.name for p in tmp_path.iterdir()) == [place(tmp_path, 10).name, place(tmp_path, 30).name]


def test_a_damaged_checkpoint_is_replaced_by_a_good_one_of_the_same_step(tmp_path):
    written(tmp_path, 10, 20)
    flip(place(tmp_path, 20) / PARTS)
    checkpoints = Checkpoints(tmp_path, FACTS)
    with pytest.warns(UserWarning, match="damaged"):
        checkpoints.newest()
    checkpoints.save(after(20))
    assert_is(Checkpoints(tmp_path, FACTS).newest(), 20)


def test_where_all_are_damaged_the_fit_starts_anew_and_says_so(tmp_path):
    written(tmp_path, 10, 20)
    for step in (10, 20):
        flip(place(tmp_path, step) / PARTS)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert Checkpoints(tmp_path, FACTS).newest() is None
    newest, older, end = (str(warning.message) for warning in said)
    assert place(tmp_path, 20).name in newest
    assert place(tmp_path, 10).name in older
    assert end == f"no checkpoint in {tmp_path} is intact: the fit starts anew"


@given(file=st.sampled_from(FILES), position=st.integers(0, 10**6), bits=st.integers(1, 255))
def test_no_flipped_byte_changes_what_is_loaded(tmp_path_factory, file, position, bits):
    folder = tmp_path_factory.mktemp("flips")
    written(folder, 5)
    path = place(folder, 5) / file
    flip(path, position % path.stat().st_size, bits)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = Checkpoints(folder, FACTS).newest()
    if found is None:
        assert "damaged" in str(said[0].message)
    else:  # white space in the manifest
        assert_is(found, 5)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"classes": ("COVID", "Pneumonia")}, "classes is COVID, Normal there and COVID, Pneumonia here"),
        ({"films": "cd" * 32}, "films differs"),
        ({"size": 64}, "size is not given there and 64 here"),
    ],
)
def test_a_checkpoint_of_another_fit_is_refused_by_what_differs(tmp_path, facts, said):
    written(tmp_path, 5)
    with pytest.raises(UsageError) as refused:
        Checkpoints(tmp_path, {**FACTS, **facts}).newest()
    message = str(refused.value)
    assert f"is of another fit: {said}. Give another --out, or delete {tmp_path}" in message
    assert "\n" not in message
    assert_is(Checkpoints(tmp_path, FACTS).newest(), 5)


def test_a_state_that_torch_would_have_to_run_code_for_is_not_run(tmp_path):
    Checkpoints(tmp_path, FACTS).save(Checkpoint(1, {"odd": {"callable": os.getcwd}}))
    with (
        pytest.warns(UserWarning, match="starts anew"),
        pytest.warns(UserWarning, match="holds more than tensors and plain values"),
    ):
        assert Checkpoints(tmp_path, FACTS).newest() is None


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_one_clear_line_and_costs_nothing_that_was_there(tmp_path, monkeypatch, call):
    checkpoints = written(tmp_path, 10)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(CxrbenchError, match=r"step 20 cannot be written to .* \(No space left on device\)") as said:
            checkpoints.save(after(20))
    assert "\n" not in str(said.value)
    assert [p.name for p in tmp_path.iterdir()] == [place(tmp_path, 10).name]
    assert_is(Checkpoints(tmp_path, FACTS).newest(), 10)
    checkpoints.save(after(20))
    assert_is(Checkpoints(tmp_path, FACTS).newest(), 20)


def test_what_a_kill_leaves_of_an_unfinished_checkpoint_is_not_used(tmp_path, monkeypatch):
    checkpoints = written(tmp_path, 10)
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / PARTS).write_bytes(b"half of it")
    assert_is(Checkpoints(tmp_path, FACTS).newest(), 10)
    checkpoints.save(after(20))
    assert sorted(p.name for p in (place(tmp_path, 20)).iterdir()) == sorted(FILES)
    assert not (tmp_path / "unfinished").exists()


def test_the_manifest_is_written_last(tmp_path, monkeypatch):
    """Where the order of writes were another, a torn folder could pass for a whole one."""
    there = []
    monkeypatch.setattr(os, "fsync", lambda fd: there.append({p.name for p in (tmp_path / "unfinished").iterdir()}))
    written(tmp_path, 1)
    assert there[-1] == set(FILES)
    assert all(MANIFEST not in names for names in there[:-1])
    assert set(json.loads((place(tmp_path, 1) / MANIFEST).read_text())) == {PARTS, FIT}
