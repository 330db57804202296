"""Unpacking: honest archives come out whole, and nothing else touches the disk."""

import contextlib
import hashlib
import io
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxrbench.errors import CxrbenchError, DataError, UsageError
from cxrbench.fetch import archive as module
from cxrbench.fetch.archive import Limits, Unpacker
from cxrbench.fetch.guards import member_path

FILES = {"set/COVID/images/a.png": b"\x89PNG" * 50, "set/Normal/images/b.png": bytes(range(256)), "set/readme.txt": b""}


def make_zip(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as whole:
        for name, content in files.items():
            whole.writestr(name, content)
    return path


def make_tar(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as whole:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            whole.addfile(member, io.BytesIO(content))
    return path


def tar_with(path, **facts):
    with tarfile.open(path, "w:gz") as whole:
        member = tarfile.TarInfo("set/odd")
        for key, value in facts.items():
            setattr(member, key, value)
        whole.addfile(member)
    return path


def unpack(archive, folder, **limits):
    folder.mkdir(exist_ok=True)
    unpacker = Unpacker(folder, Limits(**limits))
    unpacker.add(archive, archive.name)
    return unpacker.files


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.tar.bz2"])
def test_every_kind_of_archive_comes_out_whole(tmp_path, name):
    mode = {"a.tar": "w", "a.tar.xz": "w:xz", "a.tar.bz2": "w:bz2"}.get(name, "w:gz")
    archive = make_zip(tmp_path / name, FILES) if name == "a.zip" else make_tar(tmp_path / name, FILES, mode)
    files = unpack(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    assert {name: (facts.bytes, facts.sha256) for name, facts in files.items()} == {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in FILES.items()
    }


def test_an_npz_is_copied_and_checked(tmp_path):
    archive = make_zip(tmp_path / "films.npz", {"train_images.npy": b"array" * 100})
    assert list(unpack(archive, tmp_path / "out")) == ["films.npz"]
    assert (tmp_path / "out" / "films.npz").read_bytes() == archive.read_bytes()
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(DataError, match="no whole zip, tar or npz"):
        unpack(archive, tmp_path / "out2")


def test_folders_and_the_litter_of_file_browsers(tmp_path):
    more = {
        "./": b"",
        "set/": b"",
        "__MACOSX/set/._a.png": b"x",
        "set/.DS_Store": b"x",
        "cxrbench-manifest.json": b"{}",
    }
    assert set(unpack(make_zip(tmp_path / "a.zip", FILES | more), tmp_path / "zip")) == set(FILES)
    with tarfile.open(tmp_path / "a.tar", "w") as whole:
        (tmp_path / "zip" / "empty").mkdir()
        whole.add(tmp_path / "zip", arcname=".")
    assert set(unpack(tmp_path / "a.tar", tmp_path / "tar")) == set(FILES)


BAD_NAMES = ["../out.png", "a/../../out.png", "/etc/out.png", "C:/out.png", "c:out.png", "a\\..\\out.png", "a\nb.png"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_written(tmp_path, make, name):
    archive = make(tmp_path / "a.archive", {name: b"evil", "fine.png": b"fine"})
    with pytest.raises(DataError, match="whose name"):
        unpack(archive, tmp_path / "out")
    assert contents(tmp_path) == {"a.archive": archive.read_bytes()}


@pytest.mark.parametrize(
    "facts",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": "set/readme.txt"},
        {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3},
        {"type": tarfile.BLKTYPE},
        {"type": tarfile.FIFOTYPE},
    ],
)
def test_links_and_devices_of_a_tar_are_refused(tmp_path, facts):
    with pytest.raises(DataError, match="link or device"):
        unpack(tar_with(tmp_path / "a.tar.gz", **facts), tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*"))


def test_a_symbolic_link_of_a_zip_is_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as whole:
        whole.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="a link"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_an_encrypted_zip_is_refused(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"film.png": b"x" * 100})
    content = bytearray(archive.read_bytes())
    content[6] |= 1  # flags of the local header
    content[content.index(b"PK\x01\x02") + 8] |= 1  # flags of the central directory
    archive.write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        unpack(archive, tmp_path / "out")
    npz = archive.rename(tmp_path / "a.npz")
    with pytest.raises(DataError, match="encrypted"):
        unpack(npz, tmp_path / "out")


def test_bombs_are_refused(tmp_path):
    zeros = {"zeros.png": bytes(20_000_000)}
    for archive in (make_zip(tmp_path / "a.zip", zeros), make_tar(tmp_path / "a.tar.xz", zeros, "w:xz")):
        with pytest.raises(DataError, match="bomb"):
            unpack(archive, tmp_path / "out")
        assert not contents(tmp_path / "out")
    with pytest.raises(DataError, match="bomb"):
        unpack(tmp_path / "a.zip", tmp_path / "out", ratio=1e9)  # of one member, then


def test_a_tar_whose_header_asks_for_the_memory_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as whole:
        member = tarfile.TarInfo("film.png")
        member.pax_headers = {"comment": "x" * (65 << 20)}
        whole.addfile(member)
    with pytest.raises(DataError, match="bomb"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_limits_of_members_and_bytes(tmp_path, make):
    archive = make(tmp_path / "a.archive", {f"{i}.png": b"x" * 10 for i in range(20)})
    with pytest.raises(DataError, match="more than 19 members"):
        unpack(archive, tmp_path / "out", members=19)
    with pytest.raises(DataError, match="more than 199 B"):
        unpack(archive, tmp_path / "out2", total=199)
    assert len(unpack(archive, tmp_path / "out3", members=20, total=200)) == 20


def test_the_limit_of_bytes_is_for_all_archives_of_a_set_together(tmp_path):
    unpacker = Unpacker(tmp_path / "out", Limits(total=150))
    (tmp_path / "out").mkdir()
    unpacker.add(make_zip(tmp_path / "a.zip", {"a.png": b"x" * 100}), "a.zip")
    with pytest.raises(DataError, match="more than 150 B"):
        unpacker.add(make_tar(tmp_path / "b.tar.gz", {"b.png": b"x" * 100}), "b.tar.gz")


def test_no_room_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("usage", (), {"free": 100})())
    with pytest.raises(UsageError, match="100 B free"):
        unpack(make_zip(tmp_path / "a.zip", FILES), tmp_path / "out")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
@pytest.mark.parametrize("keep", [0.0, 0.2, 0.5, 0.8])
def test_a_truncated_archive_is_one_line(tmp_path, name, keep):
    files = {f"{i}.png": hashlib.sha512(bytes([i])).digest() * 20 for i in range(30)}
    archive = tmp_path / name
    make_zip(archive, files) if name == "a.zip" else make_tar(archive, files, "w" + name[5:].replace(".", ":"))
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * keep)])
    with pytest.raises(DataError, match="download it again"):
        unpack(archive, tmp_path / "out")


def test_a_tar_cut_between_two_members_is_not_taken_for_whole(tmp_path):
    archive = make_tar(tmp_path / "a.tar", {"a.png": b"x" * 512, "b.png": b"y" * 512}, "w")
    archive.write_bytes(archive.read_bytes()[:1024])
    with pytest.raises(DataError, match="cut short"):
        unpack(archive, tmp_path / "out")


def test_no_archive_and_a_wrong_crc(tmp_path):
    (tmp_path / "page.zip").write_text("<html>please log in</html>")
    with pytest.raises(DataError, match="no whole zip, tar or npz"):
        unpack(tmp_path / "page.zip", tmp_path / "out")
    archive = make_zip(tmp_path / "a.zip", {"film.png": b"x" * 1000}, zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"xxxx", b"xxyx", 1))
    with pytest.raises(DataError, match="Bad CRC"):
        unpack(archive, tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as whole:
        whole.writestr("a.png", b"1")
        whole.writestr("a.png", b"2")
    with pytest.raises(DataError, match="twice"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    with pytest.raises(DataError, match="twice, or as file and folder"):
        unpack(make_zip(tmp_path / "b.zip", {"a": b"1", "a/b": b"2"}), tmp_path / "out2")


PIECES = st.sampled_from(["..", ".", "/", "\\", "a", "b.png", "C:", "~", "\x00", "\n", "é", "\ud800", "__MACOSX", " "])
NAMES = st.one_of(st.text(max_size=20), st.lists(PIECES, max_size=6).map("".join), st.lists(PIECES).map("/".join))


@given(name=NAMES)
def test_whatever_a_member_is_called_it_lies_inside_the_folder(name):
    try:
        place = member_path(name)
    except ValueError:
        return
    if place is not None:
        folder = Path("/srv/set")
        inside = Path(f"{folder}/{place}")
        assert folder in inside.parents
        assert ".." not in inside.parts
        assert "\\" not in str(place)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(names=st.lists(NAMES, max_size=4, unique=True), tar=st.booleans())
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_whatever_the_members_are_called_only_the_folder_is_written(names, tar):
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "a.archive"
        try:
            (make_tar if tar else make_zip)(archive, dict.fromkeys(names, b"film"))
        except (ValueError, IndexError):
            return  # Python itself cannot write such an archive
        before = archive.read_bytes()
        folder = Path(scratch) / "deep" / "out"
        folder.parent.mkdir()
        try:
            files = unpack(archive, folder)
        except CxrbenchError:
            files = None
        archive.unlink()
        outside = [p for p in Path(scratch).rglob("*") if folder not in p.parents and p not in (folder, folder.parent)]
        assert outside == []
        assert before
        if files is not None:
            assert set(files) == set(contents(folder))


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(kind=st.sampled_from(["zip", "tar", "tar.gz"]), where=st.floats(0, 1), value=st.integers(0, 255))
def test_a_flipped_byte_ends_in_whole_files_or_in_one_line(kind, where, value):
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / f"a.{kind}"
        make_zip(archive, FILES) if kind == "zip" else make_tar(archive, FILES, "w:gz" if kind == "tar.gz" else "w")
        content = bytearray(archive.read_bytes())
        content[int(where * (len(content) - 1))] = value
        archive.write_bytes(content)
        with contextlib.suppress(CxrbenchError):  # and nothing else
            unpack(archive, Path(scratch) / "out")
