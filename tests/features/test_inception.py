"""FID's extractor, with a file in the real format."""

import copy

import numpy as np
import pytest
import torch

from cxrbench.contracts import WeightsUnavailable
from cxrbench.errors import UsageError
from cxrbench.features.inception import Inception, for_grey_films, network_input


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


@pytest.fixture(scope="module")
def original(weights):
    """torch-fidelity's network as it comes, its batch norms away from what they start as."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights))
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2.0)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    return net


@pytest.mark.parametrize("size", [64, 299])
def test_features_are_torch_fidelitys(original, size):
    films = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 1, size, size), dtype=np.uint8))
    with torch.inference_mode():
        theirs = original(films.expand(-1, 3, -1, -1))[0]
        ours = for_grey_films(copy.deepcopy(original), "cpu", torch.float32)(films)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def test_half_precision_is_near(original):
    films = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 1, 64, 64), dtype=np.uint8))
    with torch.inference_mode():
        exact, half = (
            for_grey_films(copy.deepcopy(original), "cpu", t)(films) for t in (torch.float32, torch.bfloat16)
        )
    assert not torch.equal(exact, half)
    assert float((half - exact).norm() / exact.norm()) < 0.05


def test_films_of_the_networks_own_size_are_only_scaled():
    films = torch.tensor([[[[0, 128], [255, 64]]]], dtype=torch.uint8).repeat(1, 1, 150, 150)[..., :299, :299]
    assert torch.equal(network_input(films), (films.float() - 128) / 128)


def test_an_unknown_precision_is_refused(weights, sha256):
    with pytest.raises(UsageError, match="precision 'half' is unknown; use float32 or bfloat16"):
        Inception(precision="half").network(weights, "cpu")
