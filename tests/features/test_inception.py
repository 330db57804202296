"""FID's extractor, with a file in the real format."""

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


def test_weights_are_fetched_once_and_used(weights, serve, sha256):
    digest = sha256(weights)
    extractor = Inception(url=f"{serve(weights.parent)}/{weights.name}", sha256_prefix=digest[:8])
    assert extractor.weights_sha256() == digest
    offline = Inception(url=f"http://127.0.0.1:9/{weights.name}", sha256_prefix=digest[:8])
    assert offline.weights_sha256() == digest
    features = offline.extract(np.random.default_rng(0).integers(0, 256, (2, 1, 32, 32), dtype=np.uint8), "cpu")
    assert features.shape == (2, 2048)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert not np.array_equal(features[0], features[1])


def test_a_local_file_or_folder_is_used(weights, sha256, monkeypatch):
    extractor = Inception(url=f"http://127.0.0.1:9/{weights.name}", sha256_prefix=sha256(weights)[:8])
    for named in (weights, weights.parent):
        monkeypatch.setenv("CXRBENCH_WEIGHTS", str(named))
        assert extractor.weights_file() == weights


def test_another_file_is_never_used(tmp_path, monkeypatch):
    other = tmp_path / "other.pth"
    other.write_bytes(b"no weights")
    monkeypatch.setenv("CXRBENCH_WEIGHTS", str(other))
    with pytest.raises(WeightsUnavailable, match=r"other\.pth is not the known"):
        Inception(url="http://127.0.0.1:9/weights.pth").extract(np.zeros((1, 1, 32, 32), np.uint8), "cpu")


def test_a_missing_local_file_is_a_usage_error(monkeypatch):
    monkeypatch.setenv("CXRBENCH_WEIGHTS", "/nowhere/weights.pth")
    with pytest.raises(UsageError, match="does not exist"):
        Inception().weights_file()
