"""Our forward pass of DINOv2 is the published one."""

import pickle

import numpy as np
import pytest
import torch

from cxrbench.features import dinov2
from cxrbench.features.dinov2 import DinoV2


def wave(shape, phase=0):
    """Numbers that look random and are the same everywhere."""
    count = np.arange(np.prod(shape))
    return torch.from_numpy((0.5 * np.sin(0.37 * count**2 + phase)).astype(np.float32)).reshape(shape)


def tensors(width, depth, side):
    """Tensors by their published names; ``side`` patches a side."""
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, side**2 + 1, width), "mask_token": (1, width)}
    shapes |= {"patch_embed.proj.weight": (width, 3, 14, 14), "patch_embed.proj.bias": (width,)}
    layers = {"norm": (width,)}
    for block in (f"blocks.{number}" for number in range(depth)):
        shapes |= {f"{block}.ls1.gamma": (width,), f"{block}.ls2.gamma": (width,)}
        layers |= {f"{block}.norm1": (width,), f"{block}.norm2": (width,)}
        layers |= {f"{block}.attn.qkv": (3 * width, width), f"{block}.attn.proj": (width, width)}
        layers |= {f"{block}.mlp.fc1": (4 * width, width), f"{block}.mlp.fc2": (width, 4 * width)}
    shapes |= {f"{layer}.weight": shape for layer, shape in layers.items()}
    shapes |= {f"{layer}.bias": shape[:1] for layer, shape in layers.items()}
    return {name: wave(shapes[name], phase) for phase, name in enumerate(sorted(shapes))}


@pytest.mark.parametrize(
    ("side", "published"),
    [
        (42, [-0.80995, -0.41757, -0.36122, 0.28441, 0.1996, 0.47881, -0.35982, -0.55068]),
        (70, [-0.79528, -0.4185, -0.36423, 0.27032, 0.13104, 0.48502, -0.36487, -0.61678]),
    ],
)
def test_the_class_token_is_that_of_the_published_code(side, published):
    """Numbers of facebookresearch/dinov2 (b8931f7) with these tensors; at 42 px the positions are resized."""
    token = dinov2.class_token(tensors(24, 2, 5), 4 * wave((2, 3, side, side)), heads=3)
    np.testing.assert_allclose(token[1, :8], published, atol=2e-5)


def test_films_are_scaled_to_imagenets_mean_and_deviation():
    grey = dinov2.network_input(torch.full((1, 3, 30, 30), 100, dtype=torch.uint8))
    assert grey.shape == (1, 3, 224, 224)
    expected = (100 / 255 - np.array(dinov2.MEAN)) / np.array(dinov2.SD)
    np.testing.assert_allclose(grey.amin(dim=(0, 2, 3)), expected, atol=1e-6)
    np.testing.assert_allclose(grey.amax(dim=(0, 2, 3)), expected, atol=1e-6)


def test_positions_of_the_stored_grid_are_not_touched():
    stored = wave((1, 26, 24))
    own, grid = dinov2.positions_for(stored, 5, 5)
    assert torch.equal(torch.cat([own, grid], dim=1), stored)


def test_a_file_of_tensors_is_used(tmp_path, sha256, monkeypatch):
    path = tmp_path / "dinov2_vits14_pretrain.pth"
    torch.save(tensors(384, 1, 37), path)
    monkeypatch.setenv("CXRBENCH_WEIGHTS", str(path))
    films = np.random.default_rng(0).integers(0, 256, (3, 1, 32, 32), dtype=np.uint8)
    features = DinoV2(sha256_prefix=sha256(path)).extract(films, "cpu")
    assert features.shape == (3, 384)
    assert np.isfinite(features).all()
    assert not np.allclose(features[0], features[1])


def test_even_under_the_known_hash_no_code_is_read(set_trap, tmp_path, sha256, monkeypatch):
    path = tmp_path / "dinov2_vits14_pretrain.pth"
    mark = set_trap(path)
    monkeypatch.setenv("CXRBENCH_WEIGHTS", str(path))
    with pytest.raises(pickle.UnpicklingError):
        DinoV2(sha256_prefix=sha256(path)).extract(np.zeros((1, 1, 32, 32), np.uint8), "cpu")
    assert not mark.exists()
