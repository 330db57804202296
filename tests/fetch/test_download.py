"""Downloads: against a real server that breaks off, changes its file, lies and redirects."""

import hashlib
import os
import random
import urllib.request

import pytest

from cxrbench.errors import DataError, UsageError
from cxrbench.fetch import download as module
from cxrbench.fetch.catalogue import Remote
from cxrbench.fetch.download import download, forget

BODY = random.Random(0).randbytes(300_000)  # the same for all workers, since it names tests


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def remote(site, **facts):
    return Remote(url=f"{site.url}/film.zip", filename="film.zip", **facts)


@pytest.fixture
def part(tmp_path):
    return tmp_path / "set.film.zip.part"


def test_a_whole_file_comes_with_its_sha256(site, part):
    page = site.add("/film.zip", BODY)
    seen = []
    got = download(remote(site), part, lambda *what: seen.append(what))
    assert (got.path.read_bytes(), got.sha256, got.bytes) == (BODY, sha256(BODY), len(BODY))
    assert seen[-1] == ("fetching film.zip", len(BODY), len(BODY))
    assert "Range" not in page.asked[0]
    assert page.asked[0]["User-Agent"].startswith("cxrbench/")
    forget(part)
    assert not list(part.parent.iterdir())


def test_a_whole_part_is_not_asked_for_again(site, part):
    page = site.add("/film.zip", BODY)
    first = download(remote(site), part)
    assert download(remote(site), part) == first
    assert len(page.asked) == 1


@pytest.mark.parametrize("digest", [f"sha256:{sha256(BODY)}", f"md5:{hashlib.md5(BODY).hexdigest()}"])
def test_a_broken_transfer_goes_on_where_it_stopped(site, part, digest):
    page = site.add("/film.zip", BODY, cut=[100_000, 50_000])
    assert download(remote(site, digest=digest), part).sha256 == sha256(BODY)
    assert part.read_bytes() == BODY
    assert [asked.get("Range") for asked in page.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert page.asked[1]["If-Range"] == '"one"'


def test_a_later_fetch_goes_on_where_an_earlier_one_gave_up(site, part):
    page = site.add("/film.zip", BODY, cut=[100_000], statuses=[])
    page.cut += [0] * module.TRIES
    with pytest.raises(UsageError, match="go on from 100 kB"):
        download(remote(site), part)
    page.asked.clear()
    assert download(remote(site), part).sha256 == sha256(BODY)
    assert [asked.get("Range") for asked in page.asked] == ["bytes=100000-"]


def test_a_server_without_ranges_starts_from_zero(site, part):
    page = site.add("/film.zip", BODY, cut=[100_000], ranges=False)
    assert download(remote(site), part).sha256 == sha256(BODY)
    assert part.read_bytes() == BODY
    assert len(page.asked) == 2


def test_a_part_whose_file_cannot_be_told_apart_starts_from_zero(site, part):
    page = site.add("/film.zip", BODY, cut=[100_000], etag=None)
    assert download(remote(site), part).sha256 == sha256(BODY)
    assert [asked.get("Range") for asked in page.asked] == [None, None]


def test_last_modified_or_a_known_digest_will_do_instead_of_an_etag(site, part):
    page = site.add("/film.zip", BODY, cut=[100_000], etag='W/"weak"', modified="Mon, 01 Jan 2024 00:00:00 GMT")
    assert download(remote(site), part).sha256 == sha256(BODY)
    assert page.asked[1]["If-Range"] == "Mon, 01 Jan 2024 00:00:00 GMT"
    forget(part)
    page = site.add("/film.zip", BODY, cut=[100_000], etag=None)
    assert download(remote(site, digest=f"sha256:{sha256(BODY)}"), part).sha256 == sha256(BODY)
    assert page.asked[1]["Range"] == "bytes=100000-"


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changed_between_attempts_starts_from_zero(site, part, if_range):
    page = site.add("/film.zip", os.urandom(300_000), cut=[100_000] + [0] * module.TRIES)
    with pytest.raises(UsageError):
        download(remote(site), part)
    page.body, page.etag, page.if_range, page.cut = BODY, '"two"', if_range, []
    assert download(remote(site), part).sha256 == sha256(BODY)
    assert part.read_bytes() == BODY


def test_a_part_of_another_address_is_not_used(site, part):
    site.add("/film.zip", BODY, cut=[100_000] + [0] * module.TRIES)
    with pytest.raises(UsageError):
        download(remote(site), part)
    other = site.add("/other.zip", b"x" * 200_000)
    got = download(Remote(url=f"{site.url}/other.zip", filename="film.zip"), part)
    assert got.sha256 == sha256(b"x" * 200_000)
    assert "Range" not in other.asked[0]


def test_a_part_longer_than_the_file_starts_from_zero(site, part):
    page = site.add("/film.zip", BODY, cut=[100_000] + [0] * module.TRIES)
    with pytest.raises(UsageError):
        download(remote(site), part)
    page.body, page.cut = BODY[:50_000], []  # the ETag stayed: 416
    assert download(remote(site), part).sha256 == sha256(BODY[:50_000])


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_wrong_digest_names_both_and_removes_the_bad_file_only(site, part, kind):
    site.add("/film.zip", BODY)
    other = part.with_name("kept")
    other.write_bytes(b"kept")
    wanted = f"{kind}:{'0' * (64 if kind == 'sha256' else 32)}"
    with pytest.raises(DataError, match=wanted) as caught:
        download(remote(site, digest=wanted), part)
    assert f"{kind}:{hashlib.new(kind, BODY).hexdigest()}" in str(caught.value)
    assert list(part.parent.iterdir()) == [other]


def test_a_page_that_is_missing_is_one_line_and_not_tried_again(site, part):
    with pytest.raises(UsageError, match=r"answers 404 .*--from"):
        download(remote(site), part)


def test_a_server_in_trouble_is_tried_again(site, part):
    page = site.add("/film.zip", BODY, statuses=[500, 503])
    assert download(remote(site), part).sha256 == sha256(BODY)
    page.statuses += [500] * (module.TRIES + 1)
    forget(part)
    with pytest.raises(UsageError, match="500"):
        download(remote(site), part)


def test_a_size_other_than_the_catalogue_says_is_refused_before_it_is_fetched(site, part):
    site.add("/film.zip", BODY)
    with pytest.raises(DataError, match="300000 bytes"):
        download(remote(site, bytes=299_999), part)
    assert not part.exists()


def test_a_file_without_length_ends_where_the_catalogue_says(site, part):
    page = site.add("/film.zip", BODY, length=False, cut=[100_000])
    assert download(remote(site, bytes=len(BODY)), part).sha256 == sha256(BODY)
    assert len(page.asked) == 2


def test_redirects_are_followed_with_the_range(site, part):
    site.add("/film.zip", location="/real")
    real = site.add("/real", BODY, cut=[100_000])
    assert download(remote(site), part).sha256 == sha256(BODY)
    assert real.asked[1]["Range"] == "bytes=100000-"


def test_only_https_and_the_loopback_address_are_asked(site, part):
    with pytest.raises(UsageError, match="not https"):
        download(Remote(url="http://example.org/film.zip", filename="film.zip"), part)
    site.add("/film.zip", location="http://example.org/film.zip")
    with pytest.raises(UsageError, match="not https"):
        download(remote(site), part)


def test_a_redirect_from_https_to_http_is_refused_even_where_http_is_allowed():
    request = urllib.request.Request("https://example.org/film.zip")
    for address in ("http://127.0.0.1/film.zip", "ftp://example.org/film.zip"):
        with pytest.raises(UsageError, match="not encrypted"):
            module._Redirects(True).redirect_request(request, None, 302, "Found", request.headers, address)


def test_no_server_is_one_line(part, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(UsageError, match=r"cannot be fetched \(.*refused"):
        download(Remote(url="http://127.0.0.1:9/film.zip", filename="film.zip"), part)


def test_no_room_is_said_before_anything_is_written(site, part, monkeypatch):
    site.add("/film.zip", BODY)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("usage", (), {"free": 1000})())
    with pytest.raises(UsageError, match="1 kB free"):
        download(remote(site), part)


def test_ctrl_c_keeps_the_part(site, part):
    page = site.add("/film.zip", BODY * 10)

    def interrupt(what, done, total):
        if done >= 1 << 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(remote(site), part, interrupt)
    kept = part.stat().st_size
    assert kept >= 1 << 20
    assert download(remote(site), part).sha256 == sha256(BODY * 10)
    assert page.asked[1]["Range"] == f"bytes={kept}-"
