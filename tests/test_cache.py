"""The artifact cache: built once, complete or absent, checked when opened."""

import os
import shutil

import pytest

from cxrbench.cache import MANIFEST, Cache, default_cache_root, write_atomically
from cxrbench.errors import UsageError

KEY = "ab" * 32


class Builder:
    """Writes two files and counts how often."""

    def __init__(self):
        self.calls = 0

    def __call__(self, folder):
        self.calls += 1
        (folder / "pixels.bin").write_bytes(b"pixels")
        (folder / "facts.json").write_text("{}")


@pytest.fixture
def build():
    return Builder()


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def test_an_artifact_is_built_once(tmp_path, build):
    cache = Cache(tmp_path)
    assert not cache.has("load", KEY)
    folder = cache.get("load", KEY, build)
    assert cache.has("load", KEY)
    assert cache.get("load", KEY, build) == folder == cache.folder("load", KEY)
    assert Cache(tmp_path).get("load", KEY, build) == folder
    assert build.calls == 1
    assert (folder / "pixels.bin").read_bytes() == b"pixels"


def test_stages_and_keys_do_not_share_artifacts(tmp_path, build):
    cache = Cache(tmp_path)
    places = {cache.get(stage, key, build) for stage in ("load", "fit") for key in (KEY, "cd" * 32)}
    assert len(places) == build.calls == 4


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_build_leaves_nothing_that_counts_as_complete(tmp_path, build, stop):
    def interrupted(folder):
        (folder / "remains.bin").write_bytes(b"half")
        raise stop

    cache = Cache(tmp_path)
    with pytest.raises(stop):
        cache.get("fit", KEY, interrupted)
    assert not cache.has("fit", KEY)
    assert not Cache(tmp_path).has("fit", KEY)

    folder = cache.get("fit", KEY, build)
    assert build.calls == 1
    assert not (folder / "remains.bin").exists()


@pytest.mark.parametrize("name", ["pixels.bin", "facts.json"])
def test_a_flipped_byte_is_noticed_by_the_next_process_and_mended(tmp_path, build, name):
    folder = Cache(tmp_path).get("load", KEY, build)
    right = (folder / name).read_bytes()
    flip_a_byte(folder / name)
    Cache(tmp_path).get("load", KEY, build)
    assert build.calls == 2
    assert (folder / name).read_bytes() == right


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / MANIFEST).unlink(),
        lambda folder: (folder / MANIFEST).write_text('{"pixels.bin": '),
        lambda folder: (folder / "pixels.bin").unlink(),
        shutil.rmtree,
    ],
    ids=["manifest missing", "manifest torn", "file missing", "folder missing"],
)
def test_a_damaged_artifact_is_built_anew(tmp_path, build, damage):
    damage(Cache(tmp_path).get("load", KEY, build))
    Cache(tmp_path).get("load", KEY, build)
    assert build.calls == 2
    assert Cache(tmp_path).has("load", KEY)


def test_a_dropped_artifact_is_built_anew(tmp_path, build):
    cache = Cache(tmp_path)
    cache.get("load", KEY, build)
    cache.drop("load", KEY)
    assert not cache.has("load", KEY)
    cache.get("load", KEY, build)
    assert build.calls == 2


def test_dropping_what_is_not_there_is_harmless(tmp_path):
    Cache(tmp_path).drop("load", KEY)


def test_write_atomically_replaces_the_content_and_makes_the_folder(tmp_path):
    path = tmp_path / "new" / "record.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["record.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_write_atomically_keeps_the_old_content_when_the_write_fails(tmp_path, monkeypatch, step):
    path = tmp_path / "record.json"
    write_atomically(path, b"old")

    def disk_full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, step, disk_full)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize("below", ["", "below/it"])
def test_a_root_that_cannot_be_written_is_a_usage_error(tmp_path, below):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match=r"cannot be written .* set \$CXRBENCH_CACHE"):
        Cache(tmp_path / "file" / below)


def test_backup_programs_are_told_to_leave_the_cache_out(tmp_path):
    Cache(tmp_path / "cache")
    tag = (tmp_path / "cache" / "CACHEDIR.TAG").read_text()
    assert tag.startswith("Signature: 8a477f597d28d172789f06886806bc55")


def test_the_environment_decides_where_the_cache_lies(tmp_path, monkeypatch):
    monkeypatch.setenv("CXRBENCH_CACHE", str(tmp_path / "here"))
    assert default_cache_root() == tmp_path / "here"
    monkeypatch.delenv("CXRBENCH_CACHE")
    assert default_cache_root().name == "cxrbench"


@pytest.mark.parametrize("manifest", ["[]", "null", "3"])
def test_a_manifest_that_is_no_object_is_rebuilt(tmp_path, manifest):
    cache = Cache(tmp_path / "c")
    folder = cache.get("fit", "k" * 8, lambda path: (path / "a").write_text("one"))
    (folder / "manifest.json").write_text(manifest)
    again = Cache(tmp_path / "c").get("fit", "k" * 8, lambda path: (path / "a").write_text("two"))
    assert (again / "a").read_text() == "two"


def test_an_artifact_deleted_while_in_use_is_made_anew(tmp_path):
    cache = Cache(tmp_path / "c")
    folder = cache.get("fit", "k" * 8, lambda path: (path / "a").write_text("one"))
    shutil.rmtree(folder)
    assert (cache.get("fit", "k" * 8, lambda path: (path / "a").write_text("two")) / "a").read_text() == "two"


def test_a_subfolder_in_an_artifact_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no subfolders"):
        Cache(tmp_path / "c").get("fit", "k" * 8, lambda path: (path / "sub").mkdir())


def test_a_working_folder_outlives_a_kill_but_not_the_complete_artifact(tmp_path, build):
    work = Cache(tmp_path).workdir("fit", KEY)
    (work / "checkpoint").write_text("half way")
    assert (Cache(tmp_path).workdir("fit", KEY) / "checkpoint").read_text() == "half way"
    assert not any(Cache(tmp_path).workdir("fit", "cd" * 32).iterdir())
    Cache(tmp_path).get("fit", KEY, build)
    assert not work.exists()


def test_dropping_an_artifact_drops_what_was_begun_of_it(tmp_path):
    cache = Cache(tmp_path)
    (cache.workdir("fit", KEY) / "checkpoint").write_text("half way")
    cache.drop("fit", KEY)
    assert not any(cache.workdir("fit", KEY).iterdir())


def test_what_was_made_or_begun_since_a_moment_is_told_from_what_is_older(tmp_path, build):
    cache = Cache(tmp_path)
    assert not cache.begun_since("fit", KEY, 0.0)
    work = cache.workdir("fit", KEY)
    os.utime(work, (100.0, 100.0))
    assert cache.begun_since("fit", KEY, 100.0)
    assert not cache.begun_since("fit", KEY, 101.0)
    folder = cache.get("fit", KEY, build)
    assert cache.begun_since("fit", KEY, 101.0)
    os.utime(folder / MANIFEST, (100.0, 100.0))
    assert not cache.begun_since("fit", KEY, 101.0)
