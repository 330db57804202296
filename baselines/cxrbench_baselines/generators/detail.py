"""Whether the fine detail of generated films is as varied as that of real ones, as a loss.

A GAN of a few hundred films learns to vary the coarse film and lays one of a few dozen patterns of ribs and vessels
over it. A discriminator that sees one film at a time cannot object, and the spread of a batch, place by place, looks
right with a dozen patterns; that films have a twin among a few hundred others shows in their recall, which is nearly
nothing. So the generator is told: two films' detail must be no more alike than two real films' is.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cxrbench_baselines.nets import full_precision

COARSE = 16  # places a side of the film that is no longer detail
FAINTEST = 0.01  # length of detail below which a film counts as having none: at the start it is next to nothing


def excess_likeness(generated: Tensor, real: Tensor, labels: Tensor) -> Tensor:
    """How much more alike the detail of generated films is than that of real ones; a scalar, 0 where it is not.

    The likeness of two films is the squared cosine of their detail in one octave of resolution. Of each film that to
    its nearest fellow counts, and the mean of a class must not exceed that of as many real films of the class. To hold
    a generated batch to the kernel of a real one is the idea of Elfeki et al., "GDPP: learning diverse generations
    using determinantal point processes" (ICML 2019); this looks not at eigenvalues but at what a film's twin shows in,
    and at pixels, not at the discriminator's maps, which can be blind to what repeats.

    Args:
        generated, real: ``[B, 1, size, size]``, film by film of the same class.
        labels: ``[B]``. Films of a class are compared; one that has no fellow counts as like no other.
    """
    with full_precision(generated.device):
        fellows = (labels[:, None] == labels).float()
        within = fellows / fellows.sum(dim=1, keepdim=True)  # films to means over their class, film by film
        others = fellows.fill_diagonal_(0.0)
        excess = [
            F.relu(within @ (_likeness(ours, others) - _likeness(theirs, others))).mean()
            for ours, theirs in zip(_octaves(generated.float()), _octaves(real.float()), strict=True)
        ]
        return torch.stack(excess).sum() if excess else generated.new_zeros(())


def _octaves(films: Tensor) -> list[Tensor]:
    """What each halving down to ``COARSE`` places takes from the films: a list of ``[B, pixels]``, finest first."""
    found = []
    while min(films.shape[-2:]) > COARSE:
        half = F.avg_pool2d(films, 2)
        smooth = F.interpolate(half, size=films.shape[-2:], mode="bilinear", align_corners=False)
        found.append((films - smooth).flatten(1))
        films = half
    return found


def _likeness(detail: Tensor, others: Tensor) -> Tensor:
    """``[B]``: of each film the squared cosine with its nearest, among those that ``others`` ``[B, B]`` is 1 for."""
    directions = F.normalize(detail, dim=1, eps=FAINTEST)
    return ((directions @ directions.T).square() * others).amax(dim=1)
