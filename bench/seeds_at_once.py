"""Do several seeds of a classifier train faster as one net than one after the other?

    python -m bench.seeds_at_once results/throughput/seeds-at-once.json [--seeds 3] [--seconds 20]

One net holds all seeds side by side: convolutions in groups and batch norms over all their channels, so that every
seed computes what it would alone (the outputs are compared first). Both ways take turns in one process, one thread.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.quality import write_row
from bench.throughput_timing import Loop, interleaved, ratio_of
from cxrbench.machine import computing_with, describe_machine
from cxrbench_baselines.classifiers.small_cnn import SmallCNN
from cxrbench_baselines.nets import on_device, precision

BATCH, SIZE, CLASSES = 32, 32, 3
STEPS = 20  # of a round
DEVICE = "cpu"
SAME = 1e-4  # of float32 outputs


class SideBySide(nn.Module):
    """Nets of one architecture as one: films ``[B, S, H, W]`` of S seeds to logits ``[B, S, classes]``."""

    def __init__(self, nets: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.count, self.parts = len(nets), nn.Sequential(*(_merged(layers) for layers in zip(*nets, strict=True)))

    def forward(self, films: Tensor) -> Tensor:
        logits: Tensor = self.parts(films)
        return logits.unflatten(1, (self.count, -1))


class _ApartLinear(nn.Module):
    """Linear layers, each of its own share of the features."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias for layer in layers]))

    def forward(self, features: Tensor) -> Tensor:
        own = features.unflatten(1, (len(self.weight), -1))
        return (torch.einsum("bsi,soi->bso", own, self.weight) + self.bias).flatten(1)


def _merged(layers: Sequence[nn.Module]) -> nn.Module:
    """One layer that does what all of them do.

    Raises:
        TypeError: there is no such layer for these.
    """
    first, count = layers[0], len(layers)
    if isinstance(first, nn.Conv2d):
        merged: nn.Module = nn.Conv2d(
            count * first.in_channels,
            count * first.out_channels,
            first.kernel_size,  # type: ignore[arg-type]
            first.stride,  # type: ignore[arg-type]
            first.padding,  # type: ignore[arg-type]
            groups=count,
            bias=first.bias is not None,
        )
    elif isinstance(first, nn.BatchNorm2d):
        merged = nn.BatchNorm2d(count * first.num_features)
    elif isinstance(first, nn.Linear):
        return _ApartLinear(layers)  # type: ignore[arg-type]
    elif isinstance(first, nn.ReLU | nn.AdaptiveAvgPool2d | nn.Flatten):
        return first
    else:
        raise TypeError(f"no layer for several seeds of {type(first).__name__}")
    states = [layer.state_dict() for layer in layers]
    joined = {key: torch.cat([s[key] for s in states]) if states[0][key].ndim else states[0][key] for key in states[0]}
    merged.load_state_dict(joined)
    return merged


def trained(
    nets: Sequence[nn.Module], films: Sequence[Tensor], labels: Sequence[Tensor]
) -> Iterator[dict[str, Tensor]]:
    """Step after step of all nets, as ``NetClassifier`` does it; losses of a net's seeds are added."""
    optimizers = [torch.optim.AdamW(net.parameters(), 1e-3, fused=True) for net in nets]
    while True:
        for net, optimizer, shown, wanted in zip(nets, optimizers, films, labels, strict=True):
            with precision(DEVICE):
                logits = net(shown)
            loss = F.cross_entropy(logits.float().flatten(0, -2), wanted.flatten()) * wanted.shape[-1]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        yield {"loss": loss.detach()}


def compare(seeds: int, seconds: float) -> dict[str, object]:
    """Milliseconds per seed and step both ways, and how many times as fast one net is.

    Raises:
        AssertionError: the merged net does not compute what the nets compute.
    """
    nets = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        built = SmallCNN().build(CLASSES, SIZE)
        assert isinstance(built, nn.Sequential)
        nets.append(on_device(built, DEVICE))
    films = torch.randn(BATCH, seeds, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (BATCH, seeds))
    merged = on_device(SideBySide(nets), DEVICE)
    each = [films[:, i : i + 1].clone() for i in range(seeds)]
    alone = torch.stack([net(one) for net, one in zip(nets, each, strict=True)], dim=1)
    torch.testing.assert_close(merged(films), alone, rtol=SAME, atol=SAME)
    loops = {
        "at once": trained([merged], [films], [labels]),
        "one by one": trained(nets, each, labels.split(1, dim=1)),
    }
    rounds = interleaved({way: Loop(steps, DEVICE, {}, 0, 0.0) for way, steps in loops.items()}, STEPS, seconds)
    found = {f"{way}, ms": 1000 * statistics.median(taken) / seeds for way, taken in rounds.items()}
    return found | {"times as fast at once": asdict(ratio_of(rounds["at once"], rounds["one by one"]))}


def main() -> int:
    """Measure and write FILE."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20)
    asked = parser.parse_args()
    with computing_with(threads=1):
        found = compare(asked.seeds, asked.seconds)
        machine = describe_machine(DEVICE)
    what = f"per seed and step, small-cnn, {SIZE} px, batch {BATCH}"
    write_row(asked.file, {"what": what, "seeds": asked.seeds, **found, "machine": machine})
    print(f"{asked.seeds} seeds, {what}: {found}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
