"""What is wrong with a generator's films, in a few words: copies, copied parts, leaks, wrong labels, farther off than
noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from cxrbench.report.copies import flags_of
from cxrbench.report.fidelity import HELD_OUT, overall

WRONG_LABELS, HARDLY_APART, BEYOND_NOISE = "wrong labels", "classes hardly told apart", "farther off than noise"
MEANING = {
    WRONG_LABELS: "most of its films look like another class than the one they were made for",
    HARDLY_APART: "no extractor finds its films much nearer to the class they were made for than to the others",
    BEYOND_NOISE: "its films lie farther from real films than uniform noise does: it has collapsed or not converged",
}
LEAST_SIGHT = 0.15  # label agreement of real films above chance, for an extractor to be asked about classes
HARDLY = 0.25  # of the way from chance to the agreement of real films


def find_flags(fidelity: pd.DataFrame, copies: pd.DataFrame, classes: int) -> dict[str, list[str]]:
    """Generator -> flags, from ``fidelity_table`` and ``copy_findings``.

    Labels are wrong, and films beyond noise, if one extractor sees it; classes are hardly told apart if all do that
    tell those of real films apart.
    """
    labels: dict[str, list[str]] = {}
    flags: dict[str, list[str]] = {}
    for row in copies.to_dict("records"):
        if found := flags_of(row):
            flags[row["generator"]] = found
    for extractor in [] if fidelity.empty else fidelity["extractor"].unique():
        distances = overall(fidelity, extractor, "fid")
        for noise in distances[distances["control"] == "noise"]["value"]:
            beyond = distances[distances["control"].isna() & (distances["value"] > noise)]
            _add(flags, beyond.index, BEYOND_NOISE)
        agreement = overall(fidelity, extractor, "label_agreement")["value"]
        if HELD_OUT in agreement and sees_classes(agreement[HELD_OUT], classes):
            for name, value in agreement.items():
                labels.setdefault(str(name), []).append(label_flag(value, agreement[HELD_OUT], classes))
    for name, seen in labels.items():
        if WRONG_LABELS in seen:
            _add(flags, [name], WRONG_LABELS)
        elif set(seen) == {HARDLY_APART}:
            _add(flags, [name], HARDLY_APART)
    return flags


def label_flag(agreement: float, real: float, classes: int) -> str:
    """What label agreement says, given that of held-out real films; empty where nothing is wrong or can be seen.

    Films under the labels of other classes agree less often than chance would have it; films that all look alike, or
    like no class, agree as often as chance.
    """
    if not sees_classes(real, classes):
        return ""
    chance = 1 / classes
    exchanged = (1 - real) / (classes - 1)
    if agreement < (exchanged + chance) / 2:
        return WRONG_LABELS
    return HARDLY_APART if agreement < chance + HARDLY * (real - chance) else ""


def sees_classes(real: float, classes: int) -> bool:
    """Can an extractor tell the classes of real films, whose label agreement is ``real``?"""
    return classes > 1 and real >= 1 / classes + LEAST_SIGHT


def flag_sentences(flags: Mapping[str, Sequence[str]], generators: Sequence[str]) -> list[str]:
    """In words, those flags that are not about copies."""
    return [f"`{name}`: {MEANING[flag]}" for name in generators for flag in flags.get(name, ()) if flag in MEANING]


def _add(flags: dict[str, list[str]], generators: Sequence[str], flag: str) -> None:
    for name in generators:
        own = flags.setdefault(str(name), [])
        if flag not in own:
            own.append(flag)
