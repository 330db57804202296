"""What the monitors of a fit have seen, put in plain sentences: what is wrong, since when, what is usually done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

EXPLODED = 1e4  # times the median gradient norm so far
VANISHED = 1e-7  # gradient norm over the norm of the weights: float32 cannot add less to a weight
SATURATED = 0.99  # share of the films that the discriminator judges rightly
TINY_LOSS = 0.05  # mean cross-entropy of a discriminator that is 95 % sure of every film, and right
# Films of two equally frequent kinds are 0.5 as different as real ones; below 0.3, five in six are of one kind.
COLLAPSED = 0.3
NEAR = 0.5  # distance to the training films, over that between training films; new real films have 1
BACK = 1.1  # times the median distance of the near looks: no longer falling
TURNED = -0.4  # cosine of two movements in a row: -1 to and fro, -0.5 where no look resembles the one before
RESTLESS = 0.25  # movement between two looks, over the distance between real films
SEVERAL = 3  # looks that a verdict on gradients, a discriminator or movements needs
GREW = 10.0  # times: a change of a gradient norm that is worth a word when training diverges

GRADIENT, WEIGHTS, DIVERSITY = "gradient/", "weights/", "diversity/"
TRAIN_DISTANCE, MOVEMENT, TURN = "train_distance", "movement", "turn"
ACCURACY, DISCRIMINATOR_LOSS = "discriminator_accuracy", "discriminator_loss"


@dataclass(frozen=True)
class Look:
    """What was measured at one step.

    Attributes:
        step: steps done, counted from 1.
        values: finite numbers. The losses under their own names; ``gradient/NET`` and ``weights/NET``, Euclidean
            norms; ``diversity/CLASS``, mean distance between the films of a class over that between real ones;
            ``train_distance``, median distance to the nearest training film over that among training films;
            ``movement``, of the films since the look before, over the distance between real films; ``turn``, the
            cosine of that movement and the one before. What could not be measured is a missing key.
    """

    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and what is usually done about it."""

    what: str
    remedy: str

    @property
    def sentence(self) -> str:
        return f"{self.what}; usually done: {self.remedy}"


def find_all(looks: Sequence[Look]) -> list[Finding]:
    """All that is wrong at the end of a history, which is in order of step; nothing for a healthy fit."""
    return [*_vanished(looks), *_saturated(looks), *_collapsed(looks), *_memorized(looks), *_oscillating(looks)]


def has_exploded(looks: Sequence[Look], net: str, gradient: float, weights: float) -> bool:
    """Is a gradient norm more than 10,000 times its median so far?

    Not where it is smaller than the norm of the weights: one that had vanished may come back.

    Args:
        looks: those before.
        gradient, weights: Euclidean norms, now.
    """
    before = [look.values[GRADIENT + net] for look in looks if GRADIENT + net in look.values]
    return len(before) >= SEVERAL and gradient > max(EXPLODED * float(np.median(before)), weights)


def explain_divergence(what: str, looks: Sequence[Look], step: int, budget: int) -> str:
    """One line: what happened, at which step of how many, and what the looks before had seen.

    Args:
        what: e.g. ``generator_loss became nan``.
        step: counted from 1.
        budget: 0 where it is not known.
    """
    seen = [*_trends(looks), *(finding.what for finding in find_all(looks))]
    if not looks:
        before = "nothing had been looked at before"
    elif not seen:
        before = f"{len(looks)} looks before it, the last at step {looks[-1].step}, had seen nothing wrong"
    else:
        before = f"seen before: {'; '.join(seen)}"
    return f"{what} at step {step}{f' of {budget}' if budget else ''}; {before}; the last good checkpoint is kept"


def _trends(looks: Sequence[Look]) -> list[str]:
    """Gradient norms that have grown or shrunk tenfold."""
    said = []
    for net in _names(looks, GRADIENT):
        series = [(look.step, look.values[GRADIENT + net]) for look in looks if GRADIENT + net in look.values]
        (start, first), (end, last) = series[0], series[-1]
        if last > GREW * first or first > GREW * last:
            verb = "grew" if last > first else "fell"
            said.append(
                f"the gradient norm of the {net} {verb} from {first:.2g} (step {start}) to {last:.2g} (step {end})"
            )
    return said


def _vanished(looks: Sequence[Look]) -> list[Finding]:
    found = []
    for net in _names(looks, GRADIENT):
        measured = [look for look in looks if GRADIENT + net in look.values]
        small = [look.values[GRADIENT + net] < VANISHED * look.values[WEIGHTS + net] for look in measured]
        run = _last_run(measured, small)
        if len(run) >= SEVERAL:
            largest = max(look.values[GRADIENT + net] for look in run)
            found.append(
                Finding(
                    f"the gradient of the {net} has vanished: since step {run[0].step} its norm is {largest:.0e} or "
                    f"less, of weights whose norm is {run[-1].values[WEIGHTS + net]:.2g}, so it no longer learns",
                    "a non-saturating loss, a weaker opponent, another initialisation or activation",
                )
            )
    return found


def _saturated(looks: Sequence[Look]) -> list[Finding]:
    remedy = (
        "a lower rate or fewer steps for the discriminator, a stronger gradient penalty (R1), "
        "or the same augmentation of the real and synthetic films it sees"
    )
    measured = [look for look in looks if ACCURACY in look.values]
    if measured:
        end = _last_third(measured)
        share = float(np.mean([look.values[ACCURACY] for look in end]))
        if len(end) < SEVERAL or share < SATURATED:
            return []
        unbroken = _last_run(measured, [look.values[ACCURACY] >= SATURATED for look in measured])
        begin = min(look.step for look in (end[0], *unbroken))
        what = f"the discriminator has won: since step {begin} it judges {share:.1%} of the films rightly"
        return [Finding(what, remedy)]
    measured = [look for look in looks if DISCRIMINATOR_LOSS in look.values]
    # A critic's loss may be negative and says nothing of how often it is right.
    run = _last_run(measured, [0 <= look.values[DISCRIMINATOR_LOSS] < TINY_LOSS for look in measured])
    if len(run) < max(SEVERAL, len(_last_third(measured))):
        return []
    return [Finding(f"the discriminator has won: since step {run[0].step} its loss is below {TINY_LOSS}", remedy)]


def _collapsed(looks: Sequence[Look]) -> list[Finding]:
    found = []
    for name in _names(looks, DIVERSITY):
        measured = [look for look in looks if DIVERSITY + name in look.values]
        run = _last_run(measured, [look.values[DIVERSITY + name] < COLLAPSED for look in measured])
        if run:
            found.append(
                Finding(
                    f"class {name} has collapsed: its films are {run[-1].values[DIVERSITY + name]:.0%} as different "
                    f"from one another as real ones (below {COLLAPSED:.0%} since step {run[0].step})",
                    "let the discriminator see the spread of its batch, penalise its gradient (R1), lower both rates, "
                    "or draw rare classes as often as others",
                )
            )
    return found


def _memorized(looks: Sequence[Look]) -> list[Finding]:
    measured = [look for look in looks if TRAIN_DISTANCE in look.values]
    run = _last_run(measured, [look.values[TRAIN_DISTANCE] < NEAR for look in measured])
    near = [look.values[TRAIN_DISTANCE] for look in run]
    if not near or near[-1] > BACK * float(np.median(near)):  # moving away from the training films again
        return []
    first, last = measured[0], measured[-1]
    return [
        Finding(
            f"the films come near to copies: they lie {last.values[TRAIN_DISTANCE]:.0%} as far from the training "
            f"films as training films from each other ({first.values[TRAIN_DISTANCE]:.0%} at step {first.step}, below "
            f"{NEAR:.0%} since step {run[0].step})",
            "stop earlier, take a smaller net, or train on more films or augmented ones",
        )
    ]


def _oscillating(looks: Sequence[Look]) -> list[Finding]:
    half = [look for look in looks[len(looks) // 2 :] if TURN in look.values]
    turned = [look for look in half if look.values[TURN] < TURNED and look.values[MOVEMENT] > RESTLESS]
    if len(turned) < SEVERAL or 2 * len(turned) <= len(half):
        return []
    moved, turn = (float(np.mean([look.values[key] for look in turned])) for key in (MOVEMENT, TURN))
    return [
        Finding(
            f"the films go back and forth: in {len(turned)} of the last {len(half)} looks, from step "
            f"{turned[0].step} on, films of the same noise moved by {moved:.0%} of the distance between real films, "
            f"and back on the way they had come (cosine {turn:.2f})",
            "lower both rates, a moving average of the generator's weights, or a stronger gradient penalty (R1)",
        )
    ]


def _names(looks: Sequence[Look], prefix: str) -> list[str]:
    """What stands behind a prefix, in the order it came up."""
    keys = dict.fromkeys(key for look in looks for key in look.values if key.startswith(prefix))
    return [key.removeprefix(prefix) for key in keys]


def _last_third(looks: Sequence[Look]) -> Sequence[Look]:
    return looks[-max(len(looks) // 3, 1) :]


def _last_run(looks: Sequence[Look], holds: Sequence[bool]) -> Sequence[Look]:
    """The looks at the end for which something holds without a break."""
    start = len(looks)
    while start and holds[start - 1]:
        start -= 1
    return looks[start:]
