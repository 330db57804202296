"""The embedded extractor is the published network; what every extractor promises is in test_contract.py."""

import numpy as np
import pytest
import torch

from cxrbench.contracts import WeightsUnavailable
from cxrbench.features import lite0
from cxrbench.features.lite0 import Lite0, weights_file
from cxrbench.features.lite0_net import build_network, network_input


@pytest.mark.parametrize(("photo", "imagenet_class"), [("chelsea", 285), ("coffee", 967), ("rocket", 657)])
def test_network_names_well_known_photos(photo, imagenet_class):
    data = pytest.importorskip("skimage.data")
    image = torch.from_numpy(getattr(data, photo)().copy()).permute(2, 0, 1)[None]
    side = min(image.shape[-2:])
    top, left = (image.shape[-2] - side) // 2, (image.shape[-1] - side) // 2
    network = build_network(weights_file())
    with torch.inference_mode():
        maps = network.get_submodule("features")(network_input(image[..., top : top + side, left : left + side]))
        logits = network.get_submodule("head")(maps.mean(dim=(2, 3)))
    assert logits.argmax().item() == imagenet_class


def test_folding_batch_norms_and_paddings_changes_nothing():
    films = np.random.default_rng(0).integers(0, 256, (5, 1, 32, 32), dtype=np.uint8)
    with torch.inference_mode():
        maps = build_network(weights_file()).get_submodule("features")(network_input(torch.from_numpy(films)))
    np.testing.assert_allclose(Lite0().extract(films, "cpu"), maps.mean(dim=(2, 3)).numpy(), atol=1e-4)


def test_a_replaced_weights_file_is_refused(tmp_path, monkeypatch):
    other = tmp_path / "weights.pth"
    other.write_bytes(b"not the weights")
    monkeypatch.setattr(lite0, "weights_file", lambda: other)
    with pytest.raises(WeightsUnavailable, match="expected"):
        Lite0().extract(np.zeros((1, 1, 32, 32), np.uint8), "cpu")
