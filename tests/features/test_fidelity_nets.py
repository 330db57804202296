"""VGG16 and CLIP through torch-fidelity: files in the real formats, of nets that are smaller inside."""

import warnings

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from cxrbench.features.fidelity_nets import VGG16, ClipViTB32

FILMS = np.random.default_rng(0).integers(0, 256, (3, 1, 32, 32), dtype=np.uint8)


class Narrow(nn.Module):
    """VGG16's parts in its order, with few channels and the real width of the second hidden layer."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 2, 32, 32), nn.ReLU(), nn.Flatten())
        hidden = [nn.Linear(98, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 4096), nn.ReLU(), nn.Dropout()]
        self.classifier = nn.Sequential(*hidden, nn.Linear(4096, 10))

    def forward(self, x):
        return self.classifier(self.features(x))


def test_vgg16_gives_the_second_hidden_layer_after_its_relu(tmp_path, sha256, monkeypatch):
    monkeypatch.setattr(torchvision.models, "vgg16", Narrow)
    torch.manual_seed(0)
    net, path = Narrow(), tmp_path / "vgg16-397923af.pth"
    torch.save(net.state_dict(), path)
    monkeypatch.setenv("CXRBENCH_WEIGHTS", str(path))
    features = VGG16(sha256_prefix=sha256(path)).extract(FILMS, "cpu")
    grey = np.full((1, 1, 32, 32), 124, np.uint8)  # a film without resizing artefacts, for the net by hand
    x = (torch.full((1, 3, 224, 224), 124 / 255.0) - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / (
        torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    )
    with torch.inference_mode():
        by_hand = net.classifier[:4].eval()(net.features(x)).relu().numpy()
    np.testing.assert_allclose(VGG16(sha256_prefix=sha256(path)).extract(grey, "cpu"), by_hand, atol=1e-5)
    assert features.shape == (3, 4096)
    assert not np.allclose(features[0], features[1])


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory):
    """TorchScript with CLIP's names: one layer 64 wide instead of 12 of 768."""
    from torch_fidelity.feature_extractor_clip import CLIPVisual

    class Clip(nn.Module):
        def __init__(self):
            super().__init__()
            self.visual = CLIPVisual(512, 224, 1, 64, 32).visual
            self.text_projection = nn.Parameter(torch.zeros(4, 512))

        def forward(self, x):
            return self.visual(x) + self.text_projection.sum()

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("clip") / "ViT-B-32.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(Clip().eval(), torch.zeros(1, 3, 224, 224)).save(str(path))
    return path


def test_clip_reads_the_published_format_under_either_name(clip_file, sha256, monkeypatch):
    monkeypatch.setenv("CXRBENCH_WEIGHTS", str(clip_file.parent))
    extractor = ClipViTB32(sha256_prefix=sha256(clip_file))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = extractor.extract(FILMS, "cpu")
    assert features.shape == (3, 512)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert not np.allclose(features[0], features[1])
    clip_file.rename(clip_file.with_name(extractor.filename))
    np.testing.assert_array_equal(extractor.extract(FILMS, "cpu"), features)
