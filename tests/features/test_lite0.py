"""The embedded extractor is the published network, and its distances point the right way."""

import numpy as np
import pytest
import torch

from cxrbench.contracts import WeightsUnavailable, no_progress
from cxrbench.datasets.phantom import Phantom
from cxrbench.features import lite0
from cxrbench.features.lite0 import Lite0
from cxrbench.metrics.distances import frechet_distance


@pytest.mark.parametrize(("photo", "imagenet_class"), [("chelsea", 285), ("coffee", 967), ("rocket", 657)])
def test_network_names_well_known_photos(photo, imagenet_class):
    data = pytest.importorskip("skimage.data")
    image = torch.from_numpy(getattr(data, photo)().copy()).permute(2, 0, 1)[None]
    side = min(image.shape[-2:])
    top, left = (image.shape[-2] - side) // 2, (image.shape[-1] - side) // 2
    network = lite0.build_network()
    with torch.inference_mode():
        maps = network.get_submodule("features")(lite0.network_input(image[..., top : top + side, left : left + side]))
        logits = network.get_submodule("head")(maps.mean(dim=(2, 3)))
    assert logits.argmax().item() == imagenet_class


def test_folding_the_batch_norms_changes_nothing():
    films = np.random.default_rng(0).integers(0, 256, (5, 1, 32, 32), dtype=np.uint8)
    with torch.inference_mode():
        maps = lite0.build_network().get_submodule("features")(lite0.network_input(torch.from_numpy(films)))
    np.testing.assert_allclose(Lite0().extract(films, "cpu"), maps.mean(dim=(2, 3)).numpy(), atol=1e-4)


def test_features_do_not_depend_on_how_films_are_batched():
    films = np.random.default_rng(0).integers(0, 256, (lite0.BATCH + 3, 1, 32, 32), dtype=np.uint8)
    whole = Lite0().extract(films, "cpu")
    np.testing.assert_allclose(whole[-2:], Lite0().extract(films[-2:], "cpu"), atol=1e-4)
    assert whole.shape == (lite0.BATCH + 3, 1280)
    assert whole.dtype == np.float32
    assert Lite0().extract(films[:0], "cpu").shape == (0, 1280)


def test_other_films_are_nearer_than_noise():
    phantom = Phantom(patients_per_class=16, max_films=1)
    films = np.stack([phantom.read(film, 32) for film in phantom.listing().films])[:, None]
    noise = np.random.default_rng(0).integers(0, 256, (24, 1, 32, 32), dtype=np.uint8)
    real, others, noisy = (Lite0().extract(x, "cpu", no_progress) for x in (films[::2], films[1::2], noise))
    assert frechet_distance(others, real) < frechet_distance(noisy, real) / 3


def test_a_replaced_weights_file_is_refused(tmp_path, monkeypatch):
    other = tmp_path / "weights.pth"
    other.write_bytes(b"not the weights")
    monkeypatch.setattr(lite0, "weights_file", lambda: other)
    with pytest.raises(WeightsUnavailable, match="expected"):
        Lite0().extract(np.zeros((1, 1, 32, 32), np.uint8), "cpu")
