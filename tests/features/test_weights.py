"""Weights: found where they may lie, fetched once, and never handed on unchecked."""

import http.server
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from cxrbench.contracts import WeightsUnavailable
from cxrbench.errors import UsageError
from cxrbench.features.dinov2 import DinoV2
from cxrbench.features.fidelity_nets import VGG16, ClipViTB32
from cxrbench.features.inception import Inception
from cxrbench.features.weights import find_weights, weights_digest
from cxrbench.features.xrv import XRVDenseNet

NOWHERE = "http://127.0.0.1:9/published.pth"


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "elsewhere" / "net.pth"
    path.parent.mkdir()
    path.write_bytes(os.urandom(3_000_000))
    return path


def test_weights_are_fetched_once_whole_and_checked(weights, serve, sha256, private_cache):
    url = f"{serve(weights.parent)}/{weights.name}"
    found = find_weights("net.pth", url, sha256(weights))
    assert found == private_cache / "weights" / "net.pth"
    assert found.read_bytes() == weights.read_bytes()
    assert weights_digest(found) == sha256(weights)
    assert find_weights("net.pth", NOWHERE, sha256(weights)) == found
    assert [path.name for path in found.parent.iterdir()] == ["net.pth"]


def test_a_download_with_another_hash_is_refused_and_not_kept(weights, serve, sha256, private_cache):
    url = f"{serve(weights.parent)}/{weights.name}"
    with pytest.raises(WeightsUnavailable, match=rf"cannot be fetched .*sha256 {sha256(weights)[:16]}.*expected 0000"):
        find_weights("net.pth", url, "0" * 64)
    assert not list((private_cache / "weights").iterdir())


def test_a_transfer_that_breaks_off_leaves_nothing(private_cache):
    class Half(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 500)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Half) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        with pytest.raises(WeightsUnavailable, match="cannot be fetched"):
            find_weights("net.pth", f"http://127.0.0.1:{running.server_port}/net.pth", "0" * 64)
        running.shutdown()
    assert not list((private_cache / "weights").iterdir())


@pytest.mark.parametrize("url", [NOWHERE, "no-such-scheme://x/net.pth", "net.pth"])
def test_without_a_network_the_message_says_how_to_go_on(url):
    with pytest.raises(WeightsUnavailable, match=f"cannot be fetched .*download {url} and set CXRBENCH_WEIGHTS"):
        find_weights("net.pth", url, "0" * 64)


def test_a_page_that_is_not_there_is_named(weights, serve):
    with pytest.raises(WeightsUnavailable, match=r"cannot be fetched \(the server answers 404"):
        find_weights("net.pth", f"{serve(weights.parent)}/other.pth", "0" * 64)


def test_named_files_and_folders_are_used(weights, sha256, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    other = tmp_path / "other.pth"
    other.write_bytes(b"other")
    folder = weights.parent
    for named in ([weights], [folder], [tmp_path / "empty", folder], [other, weights], [folder, other]):
        monkeypatch.setenv("CXRBENCH_WEIGHTS", os.pathsep.join(map(str, named)) + os.pathsep)
        assert find_weights("net.pth", NOWHERE, sha256(weights)) == weights


def test_the_published_name_will_do(weights, sha256, monkeypatch):
    published = weights.rename(weights.with_name("published.pth"))
    monkeypatch.setenv("CXRBENCH_WEIGHTS", str(weights.parent))
    assert find_weights("net.pth", NOWHERE, sha256(published)) == published


def test_a_file_named_alone_may_be_called_anything(weights, sha256, monkeypatch):
    renamed = weights.rename(weights.with_name("my own copy.bin"))
    monkeypatch.setenv("CXRBENCH_WEIGHTS", str(renamed))
    assert find_weights("net.pth", NOWHERE, sha256(renamed)) == renamed
    with pytest.raises(WeightsUnavailable, match=r"my own copy\.bin is not the known file: its sha256 is"):
        find_weights("net.pth", NOWHERE, "0" * 64)


def test_torchs_hub_folder_is_looked_at(weights, sha256, tmp_path):
    held = tmp_path / "torch" / "hub" / "checkpoints" / "net.pth"
    held.parent.mkdir(parents=True)
    held.write_bytes(weights.read_bytes())
    assert find_weights("net.pth", NOWHERE, sha256(weights)) == held


def test_torchs_hub_folder_is_known_without_torch():
    code = """
import os, sys
from cxrbench.features.weights import _hub_folder

def folders():
    for named in ({}, {"TORCH_HOME": "~/t"}, {"XDG_CACHE_HOME": "/x"}, {"TORCH_HOME": "/t", "XDG_CACHE_HOME": "/x"}):
        for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
            os.environ.pop(name, None)
        os.environ.update(named)
        yield _hub_folder()

without = list(folders())
assert "torch" not in sys.modules
import torch
print(without == list(folders()), len(set(without)))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "True 4\n"


def test_a_missing_named_file_is_a_usage_error(weights, sha256, monkeypatch):
    monkeypatch.setenv("CXRBENCH_WEIGHTS", f"/nowhere/net.pth{os.pathsep}{weights}")
    with pytest.raises(UsageError, match=r"/nowhere/net\.pth, which does not exist"):
        find_weights("net.pth", NOWHERE, sha256(weights))


@pytest.mark.parametrize("place", ["named", "torch/hub/checkpoints", "cache"])
def test_a_file_of_the_right_name_and_another_hash_is_refused(place, tmp_path, private_cache, monkeypatch):
    held = (private_cache / "weights" if place == "cache" else tmp_path / place) / "net.pth"
    held.parent.mkdir(parents=True)
    held.write_bytes(b"damaged")
    if place == "named":
        monkeypatch.setenv("CXRBENCH_WEIGHTS", str(held))
    with pytest.raises(WeightsUnavailable, match=f"{held} is not the known net.pth: .*expected 0000.*replace it"):
        find_weights("net.pth", NOWHERE, "0" * 64)


def test_a_file_that_is_exchanged_is_hashed_again(weights, sha256, monkeypatch):
    monkeypatch.setenv("CXRBENCH_WEIGHTS", str(weights))
    known = sha256(weights)
    assert find_weights("net.pth", NOWHERE, known) == weights
    weights.write_bytes(b"exchanged")
    with pytest.raises(WeightsUnavailable, match="is not the known"):
        find_weights("net.pth", NOWHERE, known)


def test_a_prefix_that_any_file_might_have_is_refused(weights):
    with pytest.raises(ValueError, match="8 hex digits"):
        find_weights("net.pth", NOWHERE, "6726")


@pytest.mark.parametrize("kind", [Inception, VGG16, ClipViTB32, DinoV2, XRVDenseNet])
def test_a_pickle_under_another_hash_is_never_read(kind, set_trap, tmp_path, monkeypatch):
    monkeypatch.setattr("cxrbench.features.xrv.installed", lambda: True)
    extractor = kind()
    assert len(extractor.sha256_prefix) == 64  # shorter ones can be met by trying
    trap = tmp_path / "folder" / extractor.filename
    mark = set_trap(trap)
    monkeypatch.setenv("CXRBENCH_WEIGHTS", str(trap.parent))
    films = np.zeros((1, 1, 32, 32), np.uint8)
    for ask in (extractor.weights_sha256, lambda: extractor.extract(films, "cpu")):
        with pytest.raises(WeightsUnavailable, match="is not the known"):
            ask()
    assert not mark.exists()
    pickle.loads(trap.read_bytes()).close()
    assert mark.exists()  # so it would have shown
