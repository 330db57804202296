"""Memorization records -> a table: does a generator return films it was trained on, or films it must not know?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cxrbench.report.sections import Section, newest_first

LEAK, COPIES, PARTS = "LEAK", "copies", "copied parts"
MANY = 0.05  # share of near-copies, beyond what new real films would have, that is worth a flag
# The same of films made from parts: blurred films that are all alike have been seen to reach 0.17, sewn ones 0.85.
MANY_PARTS = 0.3
LEAST_LEAKED = 5  # films: fewer may be chance in a class with few
LEAK_RATE = 0.05  # share of films equal to held-out ones, above what training films have, that is no chance


MEASURES = (
    "nn_ratio",
    "nn_p",
    "authpct",
    "authpct_expected",
    "ct",
    "copies",
    "copies_expected",
    "copies_limit",
    "copied_parts",
    "held_out_copies",
    "held_out_copies_expected",
)


def memorization_table(section: Section) -> pd.DataFrame:
    """One row per generator, class, split and seed."""
    rows = []
    for record in newest_first(section.of("memorization")):
        trial = record.trial
        assert trial.generator is not None
        found: dict[str, dict[str, float]] = {}
        for key, value in record.scores.items():
            who, _, metric = key.rpartition("/")
            found.setdefault(who, {})[metric] = value
        for who, values in found.items():
            rows.append(
                {
                    "generator": trial.generator.name,
                    "control": trial.generator.control,
                    "class": who,
                    "split": trial.setting.split_seed,
                    "seed": trial.generator_seed,
                    "n": record.counts.get(f"n/{who}"),
                    **values,
                }
            )
    return pd.DataFrame(rows)


def copy_findings(table: pd.DataFrame) -> pd.DataFrame:
    """One row per generator, all classes and seeds together, and what is to be said of it.

    ``copies`` and ``nn_ratio`` are means, ``nn_p`` the largest p over seeds. ``flag`` is that of the worst class, named
    in ``flag_class``: a class with few films hardly counts among all. ``parts_class`` is likewise where films are made
    from parts of training films, or empty: copies of one class must not hide it.
    """
    found = by_class(table)
    if found.empty:
        return found
    whole = found[found["class"] == "all"].reset_index(drop=True)
    flags: list[tuple[str, str]] = []
    parts: list[str] = []
    for name in whole["generator"]:
        own = sorted(found[found["generator"] == name].to_dict("records"), key=lambda row: row["class"] != "all")
        flagged = [(_flag(row), row["class"]) for row in own if _flag(row)]
        flags.append(min(flagged, key=lambda flag: flag[0] != LEAK, default=("", "")))
        copied = (COPIES, "all") in flagged  # as a whole, so that their parts need no word
        parts.append("" if copied else next((row["class"] for row in own if _has_parts(row)), ""))
    return whole.assign(flag=[flag for flag, _ in flags], flag_class=[name for _, name in flags], parts_class=parts)


def by_class(table: pd.DataFrame) -> pd.DataFrame:
    """One row per generator and class, seeds and splits together."""
    if table.empty:
        return table
    measures = [name for name in MEASURES if name in table]
    found = table.groupby(["generator", "control", "class"], sort=False, dropna=False).agg(
        n=("n", "sum"),
        seeds=("seed", "count"),
        **{name: (name, "max" if name == "nn_p" else "mean") for name in measures},
    )
    found = found.reset_index()
    found["control"] = found["control"].astype(object).where(found["control"].notna(), None)  # NaN would count as true
    return found


def _flag(row: dict[str, Any]) -> str:
    beyond = row["held_out_copies"] - row["held_out_copies_expected"]
    if beyond > LEAK_RATE and row["n"] * beyond >= LEAST_LEAKED:
        return LEAK
    if row.get("copies", 0.0) > row.get("copies_limit", 0.0) + MANY:  # too few held-out films: no copy can be told
        return COPIES
    return ""


def _has_parts(row: dict[str, Any]) -> bool:
    return bool(row.get("copied_parts", 0.0) > row.get("copies_limit", 0.0) + MANY_PARTS)


def flags_of(row: Mapping[Any, Any]) -> list[str]:
    """All flags of a row of ``copy_findings``, the gravest first."""
    return [flag for flag in (row["flag"], PARTS if row["parts_class"] else "") if flag]


def flag_meaning(row: dict[str, Any], classes: pd.DataFrame) -> str:
    """A flag in words; ``classes``: of ``by_class``, where the numbers of the worst class stand."""
    worst, of = _of_class(row["generator"], row["flag_class"], classes)
    if row["flag"] == LEAK:
        return (
            f"`{row['generator']}` returns validation or test films: {worst['held_out_copies']:.0%} of {of} are "
            f"near-copies of films it must not know (of the training films {worst['held_out_copies_expected']:.0%} "
            "are); its rows are disqualified"
        )
    return (
        f"`{row['generator']}` returns near-copies of training films: {worst['copies']:.0%} of {of} "
        f"(of new real films {worst['copies_limit']:.0%} at most would be called so)"
    )


def parts_meaning(row: dict[str, Any], classes: pd.DataFrame) -> str:
    """What ``parts_class`` means in words, for a row that has one; arguments as of ``flag_meaning``."""
    worst, of = _of_class(row["generator"], row["parts_class"], classes)
    return (
        f"`{row['generator']}` makes films from parts of training films: {worst['copied_parts']:.0%} of {of} have "
        f"quarters whose detail is nearer to that of training films than new real films have it "
        f"({worst['copies_limit']:.0%} of those at most)"
    )


def _of_class(generator: str, name: str, classes: pd.DataFrame) -> tuple[pd.Series[Any], str]:
    """A generator's row for one class or all, and whose films these are, in words."""
    own = classes[(classes["generator"] == generator) & (classes["class"] == name)].iloc[0]
    return own, "its films" if name == "all" else f"its films of class {name}"
