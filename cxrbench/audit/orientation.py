"""Which way round is a film? A small net learns it from the set's own films.

Most films of a set lie right, so turned, mirrored, inverted and stretched copies of them teach what a right
film looks like here, without a single label from outside; films the net takes for turned are then looked at.
A net never judges a film it was taught with: the caller fits one per half of the set. Predictions are averaged
over all sixteen turns and inversions of a film (each undone), which makes them exactly symmetric: no
orientation is favoured but by what was learned.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxrbench.duplicates import SYMMETRIES, Symmetry
from cxrbench.machine import cpu_has_bf16

if TYPE_CHECKING:
    import torch
    from torch import nn

SIDE = 48  # pixels; what the net sees
WIDTH = 32
STEPS = 1000
BATCH = 128
CHUNKS = 16  # parts of a batch that are turned alike
TURNS = SYMMETRIES[:8]
NAMES = [turn.name for turn in TURNS]
UNTURNED, MIRRORED = NAMES.index("unturned"), NAMES.index("mirrored")
UPSIDE_DOWN = [NAMES.index("upside down"), NAMES.index("mirrored upside down")]
QUARTER_TURNS = [number for number, turn in enumerate(TURNS) if turn.transpose]
STRETCH = (1.45, 2.0)  # how far a stretched film is drawn out along one axis

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Orientation:
    """What the net says of films; each float32 ``[N]``, above 0 where it believes so.

    Attributes:
        flipped, upside_down, rotated: log-likelihood of the likeliest such turn over that of lying right.
        inverted, distorted: logits.
    """

    flipped: Floats
    upside_down: Floats
    rotated: Floats
    inverted: Floats
    distorted: Floats


def shrink(films: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 ``[N, S, S]`` to float32 ``[N, 1, SIDE, SIDE]``, each of mean 0 and spread 1."""
    import torch
    from torch.nn.functional import interpolate

    parts = [torch.empty(0, 1, SIDE, SIDE)]
    for start in range(0, len(films), 512):
        part = torch.from_numpy(np.array(films[start : start + 512])).float()[:, None]
        small = interpolate(part, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        mean, spread = small.mean(dim=(1, 2, 3), keepdim=True), small.std(dim=(1, 2, 3), keepdim=True)
        parts.append((small - mean) / (spread + 1e-3))
    return torch.cat(parts)


def fit_net(films: torch.Tensor, seed: int, device: str, progress: Callable[[int, int], None]) -> nn.Module:
    """Teach a net with turned, mirrored, inverted and stretched versions of ``films`` (as ``shrink`` gives)."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        torch.manual_seed(seed)  # of the first weights and of dropout
        net = _build().to(device).to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=STEPS)
        for step in range(STEPS):
            rows = torch.randint(len(films), (BATCH,), generator=generator)
            batch, turned, inverted, stretched = _corrupt(films[rows], generator)
            batch, turned, inverted, stretched = (x.to(device) for x in (batch, turned, inverted, stretched))
            with _precision(device):
                out = net(batch.contiguous(memory_format=torch.channels_last)).float()
            loss = cross_entropy(out[:, :8], turned)
            loss = loss + binary_cross_entropy_with_logits(out[:, 8], inverted)
            loss = loss + binary_cross_entropy_with_logits(out[:, 9], stretched)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress(step + 1, STEPS)
    return net.eval()


def _precision(device: str) -> torch.autocast:
    import torch

    return torch.autocast(device, torch.bfloat16, enabled=device != "cpu" or cpu_has_bf16())


def judge(net: nn.Module, films: torch.Tensor, device: str) -> Orientation:
    """What the net says of ``films`` (as ``shrink`` gives), averaged over all turns and inversions."""
    import torch

    table = torch.from_numpy(_composition())
    turned, inverted, stretched = torch.zeros(len(films), 8), torch.zeros(len(films)), torch.zeros(len(films))
    with torch.inference_mode(), _precision(device):
        for start in range(0, len(films), 512):
            part = films[start : start + 512].to(device)
            rows = slice(start, start + len(part))
            for number, turn in enumerate(TURNS):
                for sign in (1.0, -1.0):
                    seen = (sign * turn_films(part, turn)).contiguous(memory_format=torch.channels_last)
                    out = net(seen).float().cpu()
                    turned[rows] += out[:, :8].log_softmax(dim=1)[:, table[number]] / 16
                    inverted[rows] += sign * out[:, 8] / 16
                    stretched[rows] += out[:, 9] / 16
    likelihood = turned.numpy()
    right = likelihood[:, UNTURNED]
    return Orientation(
        likelihood[:, MIRRORED] - right,
        likelihood[:, UPSIDE_DOWN].max(axis=1) - right,
        likelihood[:, QUARTER_TURNS].max(axis=1) - right,
        inverted.numpy(),
        stretched.numpy(),
    )


def turn_films(films: torch.Tensor, turn: Symmetry) -> torch.Tensor:
    """``[..., H, W]`` transposed, then mirrored."""
    if turn.transpose:
        films = films.transpose(-1, -2)
    axes = [axis for axis, wanted in ((-2, turn.up_down), (-1, turn.left_right)) if wanted]
    return films.flip(axes) if axes else films


def stretch(films: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Each film (uint8 ``[N, S, S]``) drawn out along one axis by ``STRETCH``, its ends cut off."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    n = len(films)
    if n == 0:
        return films
    theta = np.tile(np.eye(2, 3, dtype=np.float32), (n, 1, 1))
    axis = rng.integers(2, size=n)
    theta[np.arange(n), axis, axis] = 1 / rng.uniform(*STRETCH, n)
    grid = affine_grid(torch.from_numpy(theta), [n, 1, *films.shape[1:]], align_corners=False)
    drawn = grid_sample(torch.from_numpy(films).float()[:, None], grid, padding_mode="border", align_corners=False)
    return drawn[:, 0].round().clamp(0, 255).byte().numpy()


def _build() -> nn.Module:
    from torch import nn

    widths = [1, WIDTH, 2 * WIDTH, 4 * WIDTH, 5 * WIDTH]
    layers: list[nn.Module] = []
    for narrow, wide in itertools.pairwise(widths):
        layers += [nn.Conv2d(narrow, wide, 3, stride=2, padding=1), nn.BatchNorm2d(wide), nn.ReLU()]
    cells = (SIDE // 16) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(widths[-1] * cells, 10))


def _corrupt(
    films: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A batch moved a little, then stretched, inverted and turned; and what was done to each film."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    n = len(films)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    def chance(share: float) -> torch.Tensor:
        return (torch.rand(n, generator=generator) < share).float()

    stretched = chance(0.3)
    draw = 1 + stretched * (STRETCH[0] - 1 + (STRETCH[1] - STRETCH[0]) * torch.rand(n, generator=generator))
    upright = chance(0.5)
    theta = torch.zeros(n, 2, 3)
    scale = 1 + 0.1 * normal(n)
    theta[:, 0, 0] = scale / torch.where(upright > 0, draw, torch.ones(n)) * (1 + 0.04 * normal(n))
    theta[:, 1, 1] = scale / torch.where(upright > 0, torch.ones(n), draw)
    theta[:, 0, 1] = 0.08 * normal(n)
    theta[:, 1, 0] = -theta[:, 0, 1]
    theta[:, :, 2] = 0.08 * normal(n, 2)
    grid = affine_grid(theta, list(films.shape), align_corners=False)
    films = grid_sample(films, grid, padding_mode="border", align_corners=False)
    inverted = chance(0.5)
    films = films * (1 - 2 * inverted)[:, None, None, None]
    films = films * (1 + 0.1 * normal(n, 1, 1, 1)) + 0.1 * normal(n, 1, 1, 1)
    # A mirror image is the hardest to tell, so half of the films are mirrored or not and nothing else.
    mirror = torch.where(torch.rand(CHUNKS, generator=generator) < 0.5, MIRRORED, UNTURNED)
    any_turn = torch.randint(8, (CHUNKS,), generator=generator)
    turns = torch.where(torch.rand(CHUNKS, generator=generator) < 0.5, mirror, any_turn)
    parts = films.chunk(CHUNKS)
    films = torch.cat([turn_films(part, TURNS[int(turn)]) for part, turn in zip(parts, turns, strict=True)])
    return films, turns.repeat_interleave(n // CHUNKS), inverted, stretched


def _composition() -> NDArray[np.int64]:
    """``[8, 8]``: a film in state k, turned by h, is in state ``table[h, k]``."""
    cells = np.arange(9, dtype=np.uint8).reshape(1, 3, 3)
    states = [turn.apply(cells) for turn in TURNS]
    table = np.empty((8, 8), np.int64)
    for h, turn in enumerate(TURNS):
        for k, state in enumerate(states):
            table[h, k] = next(i for i, other in enumerate(states) if np.array_equal(other, turn.apply(state)))
    return table
