"""Fidelity records -> tables: each measure beside its real-vs-real floor, and how far extractors agree."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from cxrbench.records import Record
from cxrbench.report.sections import Section, newest_first
from cxrbench.statistics.ranks import rank_agreement

HELD_OUT = "real held-out"


def fidelity_long(section: Section) -> pd.DataFrame:
    """One row per extractor, generator, seed, class and measure, with its interval, floor and excess.

    The floor is what disjoint halves of the real films score at the same n, in the same split.
    """
    records = newest_first(section.of("fidelity"))
    floors: dict[tuple[int, str], float] = {}
    for record in records[::-1]:  # the newest last, so that it stays
        if record.trial.generator is None:
            floors |= {(record.trial.setting.split_seed, key): value for key, value in record.scores.items()}
    rows = [row for record in records for row in _rows(record, floors)]
    if not rows:
        return pd.DataFrame()
    # A run that found another extractor's weights measures the others again: only the newest value counts.
    long = pd.DataFrame(rows).drop_duplicates(["generator", "split", "seed", "extractor", "class", "metric"])
    # Where films are so few that nothing has an interval or a floor, the type cannot be told from the values.
    return long.astype(dict.fromkeys(("low", "high", "floor", "floor_sd"), float))


def fidelity_table(long: pd.DataFrame) -> pd.DataFrame:
    """One row per extractor, class, generator and measure: the mean over seeds and splits.

    The interval joins the films' part (bootstrap) and the spread over seeds; ``excess`` is the value less the floor.

    Args:
        long: of ``fidelity_long``.
    """
    if long.empty:
        return long
    names = ["extractor", "class", "generator", "control", "metric"]
    long = long.assign(squared=((long["high"] - long["low"]) / 2) ** 2, excess=long["value"] - long["floor"])
    by = long.groupby(names, sort=False, dropna=False)
    table = by.agg(
        n=("n", "min"),  # splits may differ by a few films
        value=("value", "mean"),
        spread=("value", "var"),
        squared=("squared", "mean"),
        floor=("floor", "mean"),
        floor_sd=("floor_sd", "mean"),
        excess=("excess", "mean"),
        seeds=("value", "count"),
    ).reset_index()
    # The films' part does not shrink with the seeds, since all are compared with the same real films.
    quantile = stdtrit(np.maximum(table["seeds"] - 1, 1), 0.975)
    half = np.sqrt(table["squared"] + quantile**2 * table["spread"].fillna(0.0) / table["seeds"])
    low = table["value"] - half
    table = table.assign(low=low.where(table["metric"] != "fid", low.clip(lower=0.0)), high=table["value"] + half)
    return table.drop(columns=["squared", "spread"])


def overall(table: pd.DataFrame, extractor: str, metric: str) -> pd.DataFrame:
    """The rows of one measure over all classes, by generator."""
    if table.empty:
        return table
    chosen = (table["class"] == "all") & (table["extractor"] == extractor) & (table["metric"] == metric)
    return table[chosen].set_index("generator")


def extractor_agreement(table: pd.DataFrame) -> pd.DataFrame:
    """Kendall's tau between the rankings of the generators by Frechet distance, for each pair of extractors.

    Controls are left out: that noise is worst everyone agrees, and it would lift every tau.

    Args:
        table: of ``fidelity_table``.
    """
    rows = []
    for one, other in combinations([] if table.empty else table["extractor"].unique(), 2):
        ranked = [overall(table, name, "fid") for name in (one, other)]
        if any(r.empty for r in ranked):
            continue
        values = [r[r["control"].isna() & (r.index != HELD_OUT)]["value"] for r in ranked]
        both = sorted(set(values[0].index) & set(values[1].index))
        if len(both) > 1:
            tau = rank_agreement(values[0][both].to_numpy(), values[1][both].to_numpy())
            undefined = float("nan")
            rows.append(
                {"extractor": one, "and": other, "generators": len(both), "tau": undefined if tau is None else tau}
            )
    return pd.DataFrame(rows)


def _rows(record: Record, floors: dict[tuple[int, str], float]) -> list[dict[str, object]]:
    trial = record.trial
    rows: list[dict[str, object]] = []
    for key, value in record.scores.items():
        name, _, rest = key.partition("/")
        who, _, metric = rest.rpartition("/")  # a class name may hold a slash
        if metric.endswith(("_low", "_high", "_floor", "_floor_sd")) or metric == "kid_std":
            continue
        split = trial.setting.split_seed
        rows.append(
            {
                "extractor": name,
                "class": who,
                "generator": trial.generator.name if trial.generator else HELD_OUT,
                "control": trial.generator.control if trial.generator else None,
                "split": split,
                "seed": trial.generator_seed,
                "n": record.counts.get(f"n/{who}"),
                "metric": metric,
                "value": value,
                "low": record.scores.get(f"{key}_low"),
                "high": record.scores.get(f"{key}_high"),
                "floor": floors.get((split, f"{key}_floor")),
                "floor_sd": floors.get((split, f"{key}_floor_sd")),
            }
        )
    return rows
