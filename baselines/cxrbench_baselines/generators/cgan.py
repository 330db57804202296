"""The study's idea, a label-conditional GAN, by an objective that converges on small data.

Against the seed recipe (``cgan-seed``): the discriminator is stepped every step, has no batch norm, sees the spread
of its batch and every film augmented. The objective is that of R3GAN (Huang et al., "The GAN is dead; long live the
GAN! A modern GAN baseline", NeurIPS 2024): relativistic pairing, whose landscape has no collapsed minima, with R1
and R2 penalties, with which it converges. The label enters as in a conditional norm (generator) and by projection
(discriminator; Miyato & Koyama, "cGANs with projection discriminator", ICLR 2018, equation 3). The generator is also
held to the variety of real films' detail (``detail.py``), which that objective does not see. Films are sampled from a
moving average of the weights. No batch norm anywhere: a film must not depend on the batch it is in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cxrbench.contracts import Images, RunContext
from cxrbench.errors import UsageError
from cxrbench.registry import GENERATORS
from cxrbench_baselines.batches import FilmBatches, step_noise
from cxrbench_baselines.generators.augment import DRAWS, augmented
from cxrbench_baselines.generators.cgan_nets import CGANDiscriminator, CGANGenerator
from cxrbench_baselines.generators.detail import excess_likeness
from cxrbench_baselines.generators.stabilisers import r1_penalty
from cxrbench_baselines.generators.two_nets import TwoNetGenerator, TwoNets
from cxrbench_baselines.nets import adam, averaged, frozen, on_device, precision, seed_everything
from cxrbench_baselines.schedules import falling, set_rate


class _Part(NamedTuple):
    """Films of a batch that are computed with at once.

    Attributes:
        real: ``[B, 1, size, size]`` in [-1, 1].
        labels: ``[B]``.
        noise: ``[B, latent]``.
        views: ``[B, 4, DRAWS]``: how each film is augmented, real and generated, for one net and for the other.
    """

    real: Tensor
    labels: Tensor
    noise: Tensor
    views: Tensor


@GENERATORS.register("cgan")
@dataclass
class CGAN(TwoNetGenerator):
    """Args:
    width: channels of the generator's finest maps; four times as many in its coarse ones.
    discriminator_width: channels of the discriminator's finest maps; up to four times as many below.
    latent: dimensions of the noise.
    batch: films per step.
    rate: Adam's learning rate, of both nets; after a short warm-up level, over the second half it falls to nothing:
        nets that are still moving at the end leave films that are blurred by their average.
    penalty: weight of R1 and of R2, the squared gradients at real and at generated films.
    penalty_every: steps between two penalties (each weighted up by this number).
    average_over: share of the budget that the moving average of the generator's weights goes back: over more it keeps
        the beginning, over less it is as restless as the weights.
    augment: show the discriminator augmented films.
    variety: weight of the loss on films whose detail has a nearer twin than real films' has; 0: there is none.
    accumulate: equal parts that a batch is computed in, their gradients added before a step: less memory, more time.
        Spread and likeness of films are those of a part.
    """

    latent: int = 64
    width: int = 16
    discriminator_width: int = 32
    batch: int = 32
    rate: float = 1e-3
    penalty: float = 0.05
    penalty_every: int = 8
    average_over: float = 0.1
    augment: bool = True
    variety: float = 1.0
    accumulate: int = 1

    _budget: int = field(default=0, init=False, repr=False, compare=False)

    def setup(self, train: Images, ctx: RunContext) -> None:
        """Raises UsageError for a batch that cannot be had in equal parts."""
        if not 1 <= self.accumulate <= self.batch or self.batch % self.accumulate:
            raise UsageError(
                f"cgan:accumulate={self.accumulate} does not divide the batch of {self.batch} films; give a divisor"
            )
        seed_everything(ctx.seed)
        self._facts = {"size": train.size, "classes": len(train.classes)}
        generator = on_device(self.build_generator(), ctx.device)
        discriminator = on_device(CGANDiscriminator(**self._facts, width=self.discriminator_width), ctx.device)
        average = averaged(generator, average_decay(self.average_over, ctx.budget))
        self._sampler = average.module
        self._budget = ctx.budget
        self._nets = TwoNets(
            # Classes are drawn equally often: a rare class is what the films are wanted for.
            FilmBatches(train, self.batch, ctx.device, ctx.seed, balanced=True),
            generator,
            discriminator,
            adam(generator, self.rate, 0.0, 0.99),
            adam(discriminator, self.rate, 0.0, 0.99),
            ctx.seed,
            ctx.device,
            average,
        )

    def steps_per_cycle(self) -> int:
        return self.penalty_every

    def training_step(self, step: int) -> Mapping[str, Tensor]:
        """One discriminator step (with R1 and R2 at every ``penalty_every``-th) and one generator step."""
        nets = self._ready()
        assert nets.average is not None
        for optimizer in (nets.generator_optimizer, nets.discriminator_optimizer):
            set_rate(optimizer, self.rate * falling(step, self._budget))
        parts = self._parts_of_batch(step)
        seen = []
        nets.discriminator_optimizer.zero_grad(set_to_none=True)
        for part in parts:
            # One part's films serve both nets; of several, those of the first would have to be kept in memory.
            with torch.set_grad_enabled(len(parts) == 1):
                fake = self._drawn(part)
            d_loss, right = self._discriminator_loss(part, fake)
            (self._penalised(d_loss, part, fake, step) / len(parts)).backward()
            seen.append((d_loss.detach(), right))
        nets.discriminator_optimizer.step()

        g_losses = []
        nets.generator_optimizer.zero_grad(set_to_none=True)
        with frozen(nets.discriminator):
            for part in parts:
                g_loss = self._generator_loss(part, fake if len(parts) == 1 else self._drawn(part))
                (g_loss / len(parts)).backward()
                g_losses.append(g_loss.detach())
        nets.generator_optimizer.step()
        nets.average.update_parameters(nets.generator)
        return {
            "generator_loss": torch.stack(g_losses).mean(),
            "discriminator_loss": torch.stack([loss for loss, _ in seen]).mean(),
            "discriminator_accuracy": torch.stack([right for _, right in seen]).mean(),
        }

    def _parts_of_batch(self, step: int) -> list[_Part]:
        nets = self._ready()
        real, labels = nets.batches.at(step)
        noise = step_noise(nets.seed, step, (len(real), self.latent + 4 * DRAWS), nets.device)
        views = noise[:, self.latent :].unflatten(1, (4, DRAWS))
        pieces = (whole.chunk(self.accumulate) for whole in (real, labels, noise[:, : self.latent], views))
        return [_Part(*piece) for piece in zip(*pieces, strict=True)]

    def _drawn(self, part: _Part) -> Tensor:
        nets = self._ready()
        with precision(nets.device):
            fake: Tensor = nets.generator(part.noise, part.labels).float()
        return fake

    def _discriminator_loss(self, part: _Part, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Huang et al., equation 2: each generated film is judged against a real one, here of its class.

        Returns:
            loss, and the share of pairs that are judged rightly.
        """
        nets, views = self._ready(), part.views
        with precision(nets.device):
            shown = torch.cat([self._shown(part.real, views[:, 0]), self._shown(fake.detach(), views[:, 1])])
            on_real, on_fake = nets.discriminator(shown, part.labels.repeat(2), groups=2).float().chunk(2)
            return F.softplus(on_fake - on_real).mean(), (on_real > on_fake).float().mean()

    def _penalised(self, loss: Tensor, part: _Part, fake: Tensor, step: int) -> Tensor:
        if step % self.penalty_every:
            return loss
        return loss + self.penalty * self.penalty_every * sum(
            r1_penalty(partial(self._judged, view, part.labels), films, self._ready().device)
            for films, view in ((part.real, part.views[:, 0]), (fake, part.views[:, 1]))
        )

    def _generator_loss(self, part: _Part, fake: Tensor) -> Tensor:
        nets, views = self._ready(), part.views
        with precision(nets.device):
            with torch.no_grad():
                beside = nets.discriminator(self._shown(part.real, views[:, 2]), part.labels).float()
            judged = nets.discriminator(self._shown(fake, views[:, 3]), part.labels).float()
            loss = F.softplus(beside - judged).mean()
            if self.variety:
                loss = loss + self.variety * excess_likeness(fake, part.real, part.labels)
            return loss

    def build_generator(self) -> CGANGenerator:
        return CGANGenerator(**self._facts, width=self.width, latent=self.latent)

    def _judged(self, draws: Tensor, labels: Tensor, films: Tensor) -> Tensor:
        logits: Tensor = self._ready().discriminator(self._shown(films, draws), labels)
        return logits

    def _shown(self, films: Tensor, draws: Tensor) -> Tensor:
        return augmented(films, draws) if self.augment else films


def average_decay(share: float, budget: int) -> float:
    """Decay of a moving average that reaches back over ``share`` of the budget."""
    return 1 - 1 / max(share * budget, 1)
