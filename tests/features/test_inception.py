"""FID's extractor, with a file in the real format."""

import copy

import numpy as np
import pytest
import torch

from bench.feature_speed import differences, write_random_weights
from cxrbench.cache import Cache
from cxrbench.contracts import Images, WeightsUnavailable, no_progress
from cxrbench.errors import UsageError
from cxrbench.features.inception import Inception
from cxrbench.features.inception_net import for_grey_films, network_input
from cxrbench.features.pretrained import in_colour
from cxrbench.film_features import extract_features

CLASSES = ("a",)


def noise(count, size):
    """Films that differ in more than their noise."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 256, (count, 1, size, size)) * rng.uniform(0.1, 1, (count, 1, 1, 1))
    return drawn.astype(np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """torch-fidelity's InceptionV3 with random weights, whose batch norms shift and scale."""
    path = tmp_path_factory.mktemp("weights") / "weights-inception.pth"
    write_random_weights(path, noise(3, 75))
    tensors, generator = torch.load(path, weights_only=True), torch.Generator().manual_seed(1)
    for name, tensor in tensors.items():
        if name.endswith("bn.weight"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith("bn.bias"):
            tensor.normal_(0, 0.1, generator=generator)
    torch.save(tensors, path)
    return path


@pytest.fixture(scope="module")
def original(weights):
    """torch-fidelity's network as it is."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights))


@pytest.fixture
def make(weights, sha256, monkeypatch):
    """Extractors of that network."""
    monkeypatch.setenv("CXRBENCH_WEIGHTS", str(weights))
    return lambda precision="float32": Inception(sha256_prefix=sha256(weights), precision=precision)


def test_weights_are_fetched_once_and_used(weights, serve, sha256):
    digest = sha256(weights)
    extractor = Inception(url=f"{serve(weights.parent)}/{weights.name}", sha256_prefix=digest[:8])
    assert extractor.weights_sha256() == digest
    offline = Inception(url=f"http://127.0.0.1:9/{weights.name}", sha256_prefix=digest[:8])
    assert offline.weights_sha256() == digest
    features = offline.extract(noise(2, 32), "cpu")
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


@pytest.mark.parametrize("size", [64, 299, 320])
def test_films_are_resized_and_scaled_bit_for_bit_as_by_torch_fidelity(original, size):
    class Reached(Exception):
        pass

    def stop(_, inputs):
        raise Reached(inputs[0])

    films, hook = torch.from_numpy(noise(2, size)), original.Conv2d_1a_3x3.register_forward_pre_hook(stop)
    with pytest.raises(Reached) as reached:
        original(in_colour(films))
    hook.remove()
    assert torch.equal(reached.value.args[0], network_input(films).expand(-1, 3, -1, -1))


@pytest.mark.parametrize("size", [64, 299])
def test_float32_features_are_torch_fidelitys_own(original, make, size):
    films = noise(4, size)
    with torch.inference_mode():
        theirs = original(in_colour(torch.from_numpy(films)))[0].numpy()
    ours = make().extract(films, "cpu")
    assert np.linalg.norm(ours - theirs) < 1e-4 * np.linalg.norm(theirs - theirs.mean(axis=0))
    np.testing.assert_array_equal(films, noise(4, size))


def test_bfloat16_features_are_nearly_the_same(make):
    films = noise(8, 64)
    exact, rounded = (make(precision).extract(films, "cpu") for precision in ("float32", "bfloat16"))
    assert rounded.dtype == np.float32
    apart = differences(rounded, exact)
    assert 1e-4 < apart["relative"] < 0.3
    assert apart["fd_median"] < 0.05
    held = torch.from_numpy(rounded)
    assert (held.bfloat16().float() != held).float().mean() > 0.5  # the mean over a film is taken in float32


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_films_features_do_not_depend_on_its_companions(make, precision):
    films = noise(18, 32)  # a batch and a bit
    alone, together = (make(precision).extract(some, "cpu") for some in (films[16:], films))
    np.testing.assert_allclose(alone, together[16:], rtol=1e-3, atol=1e-4 if precision == "float32" else 1e-2)


def test_an_unknown_precision_is_refused(make):
    with pytest.raises(UsageError, match="'float16' is unknown; use float32 or bfloat16"):
        make("float16").extract(noise(1, 32), "cpu")


def test_the_first_kernel_is_summed_over_colours_and_no_batch_norm_is_left(original):
    net = copy.deepcopy(original)
    kernel = net.Conv2d_1a_3x3.conv.weight.sum(dim=1, keepdim=True)
    for_grey_films(net, "cpu", torch.float32)
    norm = original.Conv2d_1a_3x3.bn
    scale = norm.weight * norm.running_var.add(norm.eps).rsqrt()
    torch.testing.assert_close(net.Conv2d_1a_3x3.conv.weight, kernel * scale.view(-1, 1, 1, 1))
    assert not [layer for layer in net.modules() if isinstance(layer, torch.nn.BatchNorm2d)]


def test_features_of_another_precision_or_device_are_not_taken_from_the_cache(make, tmp_path, monkeypatch):
    asked = []

    def extract(self, pixels, device, progress):
        asked.append((self.precision, device))
        return np.full((len(pixels), self.dim), len(asked), np.float32)

    monkeypatch.setattr(Inception, "extract", extract)
    films, cache = Images(noise(2, 32), np.zeros(2, np.int64), CLASSES), Cache(tmp_path / "cache")
    ways = [("float32", "cpu"), ("bfloat16", "cpu"), ("float32", "cuda"), ("bfloat16", "cuda")]
    for _ in range(2):
        found = [extract_features(films, make(way), device, cache, no_progress)[0, 0] for way, device in ways]
        assert found == [1, 2, 3, 4]
    assert asked == ways
