"""Verdicts -> sentences that claim no more than was found."""

from __future__ import annotations

import pandas as pd

from cxrbench.report.copies import LEAK
from cxrbench.report.validity import Validity


def stamp(validity: Validity) -> str:
    """The first line of a section: may its numbers be believed?"""
    if validity.status == "INVALID":
        return "**INVALID.** The controls did not come out where they must; no row below may be believed. " + " ".join(
            f"{reason[0].upper()}{reason[1:]}." for reason in validity.reasons
        )
    if validity.status == "NOT VALIDATED":
        return "**NOT VALIDATED.** No control could be checked: run with `--controls all`."
    weak = [check for check in validity.checks if check.weak]
    unknown = [check for check in validity.checks if check.holds is None]
    text = f"**{validity.status}.** All {len(validity.checks) - len(unknown)} checks of the controls hold."
    if validity.status == "PARTLY VALIDATED":
        text += f" Nothing could be checked of {', '.join(validity.missing)}."
    if weak:
        text += (
            " But the oracle, real films added to few, is itself undetermined: this run is too small to see what real "
            "films do, and *undetermined* below means *unknown*."
        )
    if unknown:
        text += f" {len(unknown)} could not be made: " + "; ".join(f"{c.control}: {c.found}" for c in unknown) + "."
    return text


def utility_reading(board: pd.DataFrame) -> str:
    """What the arms that augment do, in words."""
    return " ".join([_judged_reading(board), *_disqualified_reading(board)])


def _disqualified_reading(board: pd.DataFrame) -> list[str]:
    if "flags" not in board:
        return []
    names = board[board["flags"].str.contains(LEAK, regex=False)]["generator"].unique()
    return [f"`{name}` is disqualified: it returns validation or test films ({LEAK})." for name in names]


def _judged_reading(board: pd.DataFrame) -> str:
    arms = board[board["ranked"] & (board["generator"] != "real only")]
    if arms.empty:
        return "No arm with synthetic films has been run, or none may be counted."
    judged = arms.dropna(subset=["p_holm"])
    if judged.empty:
        reasons = sorted(set(arms["reason"].dropna()))
        return (
            "Nothing can be said of any arm: "
            + "; ".join(reasons or ["there is no real-only run to compare with"])
            + "."
        )
    sentences = []
    for word in ("helps", "hurts"):
        found = judged[judged["verdict"] == word].sort_values("gain", ascending=False)
        if len(found):
            listed = "; ".join(_arm(row) for _, row in found.iterrows())
            sentences.append(f"{len(found)} of {len(judged)} arms: it {word}: {listed}.")
    open_arms = judged[judged["verdict"] == "undetermined"]
    if len(open_arms):
        sentences.append(
            f"{len(open_arms)} of {len(judged)} arms are undetermined: neither help nor harm is shown after correction "
            f"for {len(judged)} arms; {_found(open_arms['mde'].min(), open_arms['mde'].max())}."
        )
    for word, verb in (("helps", "beats"), ("hurts", "falls short of")):
        against = arms[arms["over_classical_verdict"] == word] if "over_classical_verdict" in arms else arms[:0]
        listed = "; ".join(
            f"`{row['generator']}` at ratio {row['ratio']:g} ({row['over_classical_gain']:+.3f})"
            for _, row in against.iterrows()
        )
        sentences += [f"Against flips and rotations at the same ratio, it {verb} them: {listed}."] if listed else []
    for _, row in board[board["arm"] == "longer"].iterrows():
        if row["verdict"] in ("helps", "hurts"):
            sentences.append(
                f"Training longer on the real films alone {row['verdict']}: {_gain(row)} ({row['classifier']})."
            )
    reasons = sorted(set(arms["worth_reason"].dropna()) - {""}) if "worth_reason" in arms else []
    if reasons:
        sentences.append("What arms are worth in real films cannot be said of all: " + "; ".join(reasons) + ".")
    return " ".join(sentences)


def _found(least: float, most: float) -> str:
    """What could have been seen, by the least and the greatest minimum detectable effect; above 0.5 nothing could."""
    if least > 0.5:
        return "no gain, however large, could have been shown"
    if most > 0.5:
        reach = f"of {least:.3f} (in some arms none)"
    else:
        reach = f"of {least:.3f}" if f"{least:.3f}" == f"{most:.3f}" else f"of {least:.3f} to {most:.3f}, by arm,"
    return f"a gain {reach} would have been shown in 80 % of such runs, half of it in about a third"


def _arm(row: pd.Series) -> str:
    return f"`{row['generator']}` at ratio {row['ratio']:g} ({row['classifier']}) {_gain(row)}"


def _gain(row: pd.Series) -> str:
    known = row["low"] == row["low"]  # NaN: no interval
    return f"{row['gain']:+.3f} " + (f"({row['low']:+.3f} to {row['high']:+.3f})" if known else "(no interval)")


def external_reading(board: pd.DataFrame, outside: pd.DataFrame, name: str) -> str:
    """Does the arm that gains most inside gain outside, too?"""
    arms = board[board["ranked"] & (board["generator"] != "real only")].dropna(subset=["gain"])
    if arms.empty or outside.empty:
        return "There is no gain to compare."
    best = arms.sort_values("gain", ascending=False).iloc[0]
    same = (outside["generator"] == best["generator"]) & (outside["ratio"] == best["ratio"])
    there = outside[same & (outside["classifier"] == best["classifier"]) & (outside["arm"] == "augment")]
    there = there.dropna(subset=["gain"])
    if there.empty:
        return "The arm that gains most inside was not tested outside."
    other = there.iloc[0]
    return (
        f"The arm that gains most inside, {_arm(best)}, changes AUROC on {name} by {_gain(other)}: "
        f"*{best['verdict']}* inside, *{other['verdict']}* outside."
    )
