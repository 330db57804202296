"""FID's extractor: real fetching code against a local server, and the offline paths."""

import functools
import hashlib
import http.server
import threading

import numpy as np
import pytest
import torch

from cxrbench.contracts import WeightsUnavailable
from cxrbench.errors import UsageError
from cxrbench.features.inception import Inception


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file in the real format: torch-fidelity's InceptionV3 with random weights."""
    import torch_fidelity.feature_extractor_inceptionv3 as upstream

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    blank = upstream.FeatureExtractorInceptionV3.__new__(upstream.FeatureExtractorInceptionV3)
    captured = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upstream, "load_state_dict_from_url", lambda *args, **kwargs: captured)
        patch.setattr(upstream.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        blank.__init__("inception-v3-compat", ["2048"])
    path = folder / "weights-inception.pth"
    torch.save(blank.state_dict(), path)
    return path


@pytest.fixture
def server(weights):
    """Serves the weights' folder on the loopback address."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(weights.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture(autouse=True)
def empty_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("CXRBENCH_WEIGHTS", raising=False)


def prefix(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def test_weights_are_fetched_once_and_used(weights, server):
    extractor = Inception(url=f"{server}/{weights.name}", sha256_prefix=prefix(weights))
    digest = extractor.weights_sha256()
    assert digest == hashlib.sha256(weights.read_bytes()).hexdigest()
    offline = Inception(url=f"http://127.0.0.1:9/{weights.name}", sha256_prefix=prefix(weights))
    assert offline.weights_sha256() == digest
    features = offline.extract(np.random.default_rng(0).integers(0, 256, (2, 1, 32, 32), dtype=np.uint8), "cpu")
    assert features.shape == (2, 2048)
    assert np.isfinite(features).all()


def test_a_download_with_the_wrong_hash_is_refused_and_not_kept(weights, server, tmp_path):
    with pytest.raises(WeightsUnavailable, match="cannot be fetched"):
        Inception(url=f"{server}/{weights.name}", sha256_prefix="00000000").weights_sha256()
    assert not list((tmp_path / "torch").rglob("*.pth"))


def test_without_a_network_the_message_says_how_to_go_on():
    with pytest.raises(WeightsUnavailable, match="set CXRBENCH_WEIGHTS"):
        Inception(url="http://127.0.0.1:9/weights.pth").weights_sha256()


def test_a_local_file_or_folder_is_used(weights, monkeypatch):
    extractor = Inception(url=f"http://127.0.0.1:9/{weights.name}", sha256_prefix=prefix(weights))
    for named in (weights, weights.parent):
        monkeypatch.setenv("CXRBENCH_WEIGHTS", str(named))
        assert extractor.weights_file() == weights


def test_another_file_is_never_unpickled(tmp_path, monkeypatch):
    other = tmp_path / "evil.pth"
    other.write_bytes(b"pickle")
    monkeypatch.setenv("CXRBENCH_WEIGHTS", str(other))
    with pytest.raises(WeightsUnavailable, match="not the known"):
        Inception().extract(np.zeros((1, 1, 32, 32), np.uint8), "cpu")


def test_a_missing_local_file_is_a_usage_error(monkeypatch):
    monkeypatch.setenv("CXRBENCH_WEIGHTS", "/nowhere/weights.pth")
    with pytest.raises(UsageError, match="does not exist"):
        Inception().weights_file()
