"""Which trials may run side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cxrbench.records import Trial


def packed(trials: Sequence[Trial], cost: Callable[[Trial], float]) -> tuple[list[list[Trial]], list[Trial]]:
    """Trials that may run side by side, in groups that share a fit or a training, the dearest group first; and those
    that need the machine for themselves, because they are timed."""
    groups: dict[tuple[object, ...], list[Trial]] = {}
    alone = []
    for trial in trials:
        if trial.kind == "throughput":
            alone.append(trial)
        else:
            groups.setdefault(_shared(trial), []).append(trial)
    # A long group that starts last would be waited for by idle cores.
    return sorted(groups.values(), key=lambda group: -sum(map(cost, group))), alone


def _shared(trial: Trial) -> tuple[object, ...]:
    split = trial.setting.split_seed
    if trial.generator is not None:
        return split, trial.generator.identity, trial.generator_seed
    if trial.classifier is not None:
        return split, trial.classifier.identity, trial.classifier_seed, trial.real_share, trial.arm
    return split, trial.kind
