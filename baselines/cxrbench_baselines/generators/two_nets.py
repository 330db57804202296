"""What GANs of one generator and one discriminator share around their losses."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from cxrbench_baselines.batches import FilmBatches, step_noise
from cxrbench_baselines.generators.net import LatentGenerator
from cxrbench_baselines.training import Stateful


@dataclass
class TwoNets:
    """What training needs: films, nets, their optimizers and, where there is one, the generator's moving average."""

    batches: FilmBatches
    generator: nn.Module
    discriminator: nn.Module
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    seed: int
    device: str
    average: AveragedModel | None = None


@dataclass
class TwoNetGenerator(LatentGenerator):
    """A subclass makes ``_nets`` in ``setup``.

    Args:
        batch: films per step.
    """

    batch: int = 64

    _nets: TwoNets | None = field(default=None, init=False, repr=False, compare=False)

    def parts(self) -> dict[str, Stateful]:
        nets = self._ready()
        found: dict[str, Stateful] = {
            "generator": nets.generator,
            "discriminator": nets.discriminator,
            "generator_optimizer": nets.generator_optimizer,
            "discriminator_optimizer": nets.discriminator_optimizer,
        }
        return found | ({} if nets.average is None else {"average": nets.average})

    def images_per_step(self) -> int:
        return self.batch

    def steps_per_cycle(self) -> int:
        return 1

    def _noise(self, number: int) -> Tensor:
        """Noise of a batch, ``[batch, latent]``; each number has its own."""
        nets = self._ready()
        return step_noise(nets.seed, number, (self.batch, self.latent), nets.device)

    def _ready(self) -> TwoNets:
        assert self._nets is not None, "call setup first"
        return self._nets


def descend(loss: Tensor, optimizer: Optimizer) -> None:
    """One step of the optimizer along the loss's gradient alone."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
