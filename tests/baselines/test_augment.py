"""How a GAN's films are changed before its discriminator sees them."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from cxrbench_baselines.generators.augment import DRAWS, _moved, augmented


def films(count=4, size=16, seed=0):
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def sampled_from_a_grid(pictures, pixels):
    """The same by torch's own sampler, nearest pixel."""
    matrix = torch.zeros(len(pictures), 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1.0
    matrix[:, :, 2] = pixels * 2 / pictures.shape[-1]
    grid = F.affine_grid(matrix, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, mode="nearest", padding_mode="zeros", align_corners=False)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(0, 1000))
def test_films_and_their_gradients_are_moved_as_by_torchs_own_sampler(size, seed):
    ours = films(3, size, seed).requires_grad_(True)
    theirs = ours.detach().clone().requires_grad_(True)
    pixels = torch.from_numpy(np.random.default_rng(seed).integers(-size - 1, size + 2, (3, 2))).float()
    one, other = _moved(ours, pixels), sampled_from_a_grid(theirs, pixels)
    assert torch.equal(one, other)
    weight = films(3, size, seed + 1)
    (one * weight).sum().backward()
    (other * weight).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


def test_a_film_that_is_moved_out_of_itself_is_a_middle_grey():
    assert not _moved(films(), torch.full((4, 2), 16.0)).any()
    assert torch.equal(_moved(films(), torch.zeros(4, 2)), films())


def test_r1_differentiates_it_twice_by_operators_that_every_torch_can():
    """torch 2.11 has no second derivative of grid_sample: cgan would fail at its first step there."""
    pictures = films().requires_grad_(True)
    weight = films(1, 16, seed=1).flatten().mul(0.1).requires_grad_(True)
    shown = augmented(pictures, torch.randn(4, DRAWS, generator=torch.Generator().manual_seed(1)))
    (gradient,) = torch.autograd.grad((shown.flatten(1) * weight).sum().tanh(), pictures, create_graph=True)
    gradient.square().sum().backward()
    assert weight.grad.abs().sum() > 0
    waiting, seen = [shown.grad_fn], set()
    while waiting:
        node = waiting.pop()
        seen.add(node.name())
        waiting += [before for before, _ in node.next_functions if before is not None]
    assert not [name for name in seen if "Grid" in name]


def test_augmentation_at_the_middle_of_its_ranges_only_cuts_out_the_centre():
    films = torch.rand(2, 1, 32, 32) * 2 - 1
    seen = augmented(films, torch.zeros(2, DRAWS))
    cut = torch.zeros(32, 32, dtype=torch.bool)
    cut[9:24, 9:24] = True  # places less than a quarter of the side from the middle, 16
    assert torch.allclose(seen[..., ~cut], films[..., ~cut], atol=1e-5)
    assert seen[..., cut].abs().max() == 0


def test_augmentation_moves_a_film_by_whole_pixels():
    films = torch.zeros(1, 1, 32, 32)
    films[..., 5, 6] = 1.0
    draws = torch.zeros(1, DRAWS)
    draws[0, 2] = 8.0  # to the end of the range: an eighth of the side
    draws[0, 4:] = 8.0  # the cutout in a corner
    mean = films.mean()
    moved = augmented(films, draws)
    assert torch.nonzero(moved > 0.5).tolist() == [[0, 0, 5, 2]]
    assert abs(moved.max() - (1 - mean + mean)) < 1e-4


def test_augmentation_finds_every_row_of_a_large_film_under_autocast():
    """A place rounded to bf16 would be off by more than half a pixel near the edge of 299."""
    rows = torch.linspace(-1, 1, 299).view(1, 1, 299, 1).expand(1, 1, 299, 299)
    draws = torch.zeros(1, DRAWS)
    draws[0, 4:] = 8.0
    with torch.autocast("cpu", torch.bfloat16):
        seen = augmented(rows, draws)
    assert torch.allclose(seen[..., :200, :200], rows[..., :200, :200], atol=1e-4)


def test_each_film_is_augmented_by_its_own_draws_and_differentiably():
    film = torch.rand(1, 1, 16, 16).repeat(2, 1, 1, 1).requires_grad_(True)
    seen = augmented(film, torch.randn(2, DRAWS, generator=torch.Generator().manual_seed(0)))
    assert not torch.allclose(seen[0], seen[1])
    seen.sum().backward()
    assert film.grad.abs().sum() > 0
