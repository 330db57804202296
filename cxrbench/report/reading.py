"""Tables -> sentences that claim no more than the seeds allow."""

from __future__ import annotations

from typing import Literal

import pandas as pd

from cxrbench.report.tables import REAL_ONLY

LEAST_SEEDS = 3  # fewer repetitions have no interval worth printing

Verdict = Literal["helps", "harms", "undetermined", "too few"]


def utility_reading(ranked: pd.DataFrame) -> str:
    """Says in words what the table shows, without claiming more than the seeds allow."""
    arms = ranked[ranked["generator"] != REAL_ONLY]
    if arms.empty:
        return "Only the real-only baseline has been run."
    arms = arms.dropna(subset=["gain_mean"]).sort_values("gain_mean", ascending=False)
    if arms.empty:
        return "No arm has a real-only run of the same seed to be compared with, so there is no gain to speak of."
    best, worst = arms.iloc[0], arms.iloc[-1]
    sentences = [f"The best arm, {_arm(best)}, {_change(best, len(arms))}."]
    if len(arms) > 1:
        sentences.append(f"The worst, {_arm(worst)}, {_change(worst, len(arms))}.")
    sentences.append(
        f"Intervals are Student's over seeds, widened for {len(arms)} arms (Bonferroni); the chance of which films are "
        "in the test set is not in them."
    )
    return " ".join(sentences)


def _arm(row: pd.Series) -> str:
    return f"`{row['generator']}` at ratio {row['ratio']:g} ({row['classifier']})"


def external_reading(arms: pd.DataFrame, name: str) -> str:
    """Does the arm that gains most inside gain outside, too? ``arms``: one set's rows of ``external_table``."""
    count = len(arms[arms["generator"] != REAL_ONLY])
    rows = arms[arms["generator"] != REAL_ONLY].dropna(subset=["internal_gain_mean", "external_gain_mean"])
    if rows.empty:
        return "No arm has a real-only run of the same seed inside and outside, so there is no gain to compare."
    best = rows.sort_values("internal_gain_mean", ascending=False).iloc[0]
    seeds = int(best["gain_seeds"])
    verdicts = [
        _verdict(best[f"{where}_gain_mean"], best[f"{where}_gain_sd"], seeds, count)[0]
        for where in ("internal", "external")
    ]
    return (
        f"The arm that gains most inside, {_arm(best)}, changes AUROC by {best['internal_gain_mean']:+.3f} inside and "
        f"by {best['external_gain_mean']:+.3f} on {name} ({_seeds(seeds)}): {_carried_over(*verdicts)}."
    )


def _carried_over(inside: Verdict, outside: Verdict) -> str:
    if "too few" in (inside, outside):
        return "too few to tell from chance, so nothing is shown to hold outside"
    if inside == "helps":
        return {
            "helps": "the gain holds outside",
            "harms": "the gain inside is a loss outside",
        }.get(outside, "the gain inside is not shown to hold outside")
    found = "a loss" if inside == "harms" else "no gain beyond chance"
    return {
        "helps": f"{found} inside, although it helps outside",
        "harms": f"{found} inside, and it harms outside",
    }.get(outside, f"{found} inside, so there is none to hold outside")


def _change(row: pd.Series, arms: int) -> str:
    """What an arm does to AUROC, and whether more than chance is needed to explain it."""
    gain, seeds = row["gain_mean"], int(row["gain_seeds"])
    verdict, half = _verdict(gain, row["gain_sd"], seeds, arms)
    if verdict == "too few":
        return f"changes AUROC by {gain:+.3f} over {_seeds(seeds)}: too few to tell from chance"
    change = f"changes AUROC by {gain:+.3f} (95% interval {gain - half:+.3f} to {gain + half:+.3f}, {seeds} seeds)"
    if verdict == "undetermined":
        return f"{change}: no evidence that synthetic films help or harm here"
    return f"{change}: it {verdict} on this test set"


def _verdict(gain: float, sd: float, seeds: int, arms: int) -> tuple[Verdict, float]:
    """What a gain over seeds shows, and half its 95% interval, widened for as many arms."""
    from scipy.stats import t

    if seeds < LEAST_SEEDS:
        return "too few", float("nan")
    half = float(t.ppf(1 - 0.025 / arms, seeds - 1) * sd / seeds**0.5)
    if abs(gain) <= half:
        return "undetermined", half
    return ("helps" if gain > 0 else "harms"), half


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count > 1 else ''}"
