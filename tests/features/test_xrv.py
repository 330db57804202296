"""TorchXRayVision's network: a stand-in for the library where it is not installed, the library where it is."""

import importlib.machinery
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from cxrbench.contracts import WeightsUnavailable
from cxrbench.features import xrv
from cxrbench.features.xrv import XRVDenseNet

FILMS = np.random.default_rng(0).integers(0, 256, (3, 1, 64, 64), dtype=np.uint8)


@pytest.fixture
def library(monkeypatch):
    """A package of the library's name whose DenseNet is one convolution."""

    class DenseNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(1, 1024, 56, 56), nn.BatchNorm2d(1024))

    DenseNet.__module__, DenseNet.__qualname__ = "torchxrayvision.models", "DenseNet"
    package, models = types.ModuleType("torchxrayvision"), types.ModuleType("torchxrayvision.models")
    package.__spec__ = importlib.machinery.ModuleSpec("torchxrayvision", None)
    package.models, models.DenseNet = models, DenseNet
    monkeypatch.setitem(sys.modules, "torchxrayvision", package)
    monkeypatch.setitem(sys.modules, "torchxrayvision.models", models)
    return package


@pytest.fixture
def published(library, tmp_path, monkeypatch):
    """A whole module in one pickle, as the library publishes it."""
    torch.manual_seed(0)
    net, path = library.models.DenseNet().eval(), tmp_path / "densenet.pt"
    torch.save(net, path)
    monkeypatch.setenv("CXRBENCH_WEIGHTS", str(path))
    return net, path


def test_features_are_the_pooled_maps_of_the_published_module(published, sha256):
    net, path = published
    features = XRVDenseNet(sha256_prefix=sha256(path)).extract(FILMS, "cpu")
    with torch.inference_mode():
        maps = net.features(xrv.network_input(torch.from_numpy(FILMS)))
    np.testing.assert_allclose(features, maps.relu().mean(dim=(2, 3)), atol=1e-3)
    assert features.shape == (3, 1024)
    assert features.std() > 0


def test_a_file_that_is_exchanged_after_the_check_is_not_read(published, sha256, set_trap):
    path = published[1]
    extractor = XRVDenseNet(sha256_prefix=sha256(path))
    found = extractor.weights_file()
    mark = set_trap(found)
    with pytest.raises(WeightsUnavailable, match="was exchanged"):
        extractor.network(found, "cpu")
    assert not mark.exists()


def test_without_the_library_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchxrayvision", None)
    with pytest.raises(WeightsUnavailable, match=r"pip install 'cxrbench\[xrv\]'"):
        XRVDenseNet().weights_sha256()


def test_greys_reach_the_network_as_it_was_trained():
    ends = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 32, 32)
    x = xrv.network_input(ends)
    assert x.shape == (2, 1, 224, 224)
    assert x.amin(dim=(1, 2, 3)).tolist() == x.amax(dim=(1, 2, 3)).tolist() == [-1024.0, 1024.0]
    native = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 1, 224, 224), dtype=np.uint8))
    assert torch.equal(((xrv.network_input(native) + 1024) / 2048 * 255).round().to(torch.uint8), native)


def test_features_are_those_of_the_library_itself(tmp_path, sha256, monkeypatch):
    pytest.importorskip("torchxrayvision")
    filters = list(warnings.filters)
    library = xrv._library()
    torch.manual_seed(0)
    net, path = library.models.DenseNet().eval(), tmp_path / "densenet.pt"
    torch.save(net, path)
    monkeypatch.setenv("CXRBENCH_WEIGHTS", str(path))
    features = XRVDenseNet(sha256_prefix=sha256(path)).extract(FILMS, "cpu")
    assert list(warnings.filters) == filters  # the library silences every warning when it is imported
    net.input_resolution = 224
    with torch.inference_mode():
        expected = net.features2(torch.from_numpy(library.datasets.normalize(FILMS[:, 0], 255))[:, None])
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-3)
