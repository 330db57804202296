"""Records -> tables of utility and speed: a row per trained classifier, and a row per arm."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cxrbench.records import Record
from cxrbench.report.effects import REAL_ONLY, arm_names
from cxrbench.report.sections import Section, newest_first

ARM = ["row", "classifier", "generator", "control", "arm", "ratio", "real_share"]
SAME_ARM = ["classifier", "generator", "arm", "ratio", "real_share"]  # as ARM, of utility and external alike
PER_CLASS = ("precision", "recall", "f1", "auroc", "auprc", "sensitivity_at_95")
HEADLINE = (
    "auroc_macro",
    "auprc_macro",
    "f1_macro",
    "balanced_accuracy",
    "accuracy",
    "sensitivity_at_95_macro",
    "brier",
    "ece",
)


def utility_table(section: Section) -> pd.DataFrame:
    """One row per trained classifier, with every score."""
    return _scored(section.of("utility"))


def leaderboard(utility: pd.DataFrame, effects: pd.DataFrame, disqualified: Sequence[str] = ()) -> pd.DataFrame:
    """One row per arm: scores over seeds (mean, sd), the gain and its verdict; each classifier's arms ranked by gain.

    Ranked are the real-only baseline and the arms that augment it with films of a generator that is no control and
    not disqualified. The others follow, unranked.

    Args:
        utility: of ``utility_table``; effects: of ``effects_table``.
        disqualified: generators whose films must not be counted.
    """
    if utility.empty:
        return utility
    by_arm = utility.groupby(ARM, sort=False, dropna=False)
    arms = by_arm.agg(
        runs=("key", "count"),
        seeds=("seed", "nunique"),
        **{f"{name}_mean": (name, "mean") for name in HEADLINE},
        **{f"{name}_sd": (name, "std") for name in HEADLINE},
        train_synthetic=("train_synthetic", "mean"),  # seeds differ where copies were removed
        train_real=("train_real", "mean"),  # splits may differ by a few films
        test=("test", "mean"),
        steps=("steps", "first"),
        tuning_trials=("tuning_trials", "first"),
    ).reset_index()
    known = [name for name in effects.columns if name not in ARM] if not effects.empty else []
    if known:
        arms = arms.merge(effects[["row", *known]], on="row", how="left")
    for name in ("gain", "low", "high", "p_holm", "mde"):
        arms[name] = arms[name] if name in arms else float("nan")
    baseline = (arms["generator"] == REAL_ONLY) & (arms["arm"] == "augment") & (arms["real_share"] == 1)
    main = arms["family"] == "main" if "family" in arms else pd.Series(False, index=arms.index)
    arms["ranked"] = baseline | (main & ~arms["generator"].isin(disqualified))
    standing = arms["gain"].where(~baseline, 0.0).where(arms["ranked"])
    arms.insert(0, "rank", standing.groupby(arms["classifier"]).rank(ascending=False, method="min").astype("Int64"))
    family = arms["family"].fillna("real") if "family" in arms else pd.Series("real", index=arms.index)
    arms["_place"] = family.map({"main": 0, "side": 1, "control": 2, "real": 3}).where(~arms["ranked"], -1)
    arms = arms.sort_values(
        ["classifier", "_place", "rank", "gain"], ascending=[True, True, True, False], kind="stable"
    )
    return arms.drop(columns="_place").reset_index(drop=True)


def external_sets(section: Section) -> dict[str, list[Record]]:
    """The external trials of each external test set, the set measured last first."""
    found: dict[str, list[Record]] = {}
    for record in newest_first(section.of("external")):
        found.setdefault(record.trial.external, []).append(record)
    return found


def external_table(section: Section, inside: pd.DataFrame) -> pd.DataFrame:
    """One row per external test set and arm: mean and spread of macro AUROC inside and outside.

    Both are means over the classes that the external set has, and over the repetitions that have both.

    Args:
        inside: of ``utility_table``.
    """
    found = []
    for external, records in external_sets(section).items():
        outside = _scored(records)
        present = [f"auroc/{name}" for name in section.classes if f"auroc/{name}" in outside]
        same_run = [*SAME_ARM, "split", "generator_seed", "seed"]
        table = outside[[*same_run, "test"]].assign(external_auroc=outside[present].mean(axis=1))
        if inside.empty:
            table["internal_auroc"] = float("nan")
        else:
            table = table.merge(
                inside[same_run].assign(internal_auroc=inside[present].mean(axis=1)), on=same_run, how="left"
            )
        table["drop"] = table["internal_auroc"] - table["external_auroc"]
        measured = ("internal_auroc", "external_auroc", "drop")
        arms = table.groupby(SAME_ARM, sort=False, dropna=False).agg(
            n=("test", "first"),
            runs=("test", "count"),
            **{f"{name}_mean": (name, "mean") for name in measured},
            **{f"{name}_sd": (name, "std") for name in measured},
        )
        arms = arms.reset_index().sort_values(
            ["classifier", "internal_auroc_mean"], ascending=[True, False], kind="stable"
        )
        arms.insert(0, "external", records[0].trial.external_data or external[:12])
        arms.insert(1, "external_key", external[:12])
        found.append(arms)
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _scored(records: list[Record]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                **arm_names(record.trial),
                "split": record.trial.setting.split_seed,
                "generator_seed": record.trial.generator_seed,
                "seed": record.trial.classifier_seed,
                **record.scores,
                **record.counts,
                "seconds": record.provenance.get("seconds"),
                "key": record.key,
            }
            for record in records
        ]
    )


def rank_text(rank: object) -> str:
    """A rank of ``leaderboard`` as it is shown: nothing where an arm is unranked."""
    return "" if pd.isna(rank) else str(rank)


def per_class_table(utility: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Mean scores of each class in every arm."""
    if utility.empty:
        return utility
    rows = []
    for arm, group in utility.groupby(ARM, sort=False, dropna=False):
        for name in classes:
            values = {m: group[f"{m}/{name}"].mean() for m in PER_CLASS}
            rows.append({**dict(zip(ARM, arm, strict=True)), "class": name, **values})
    return pd.DataFrame(rows)


def throughput_table(section: Section) -> pd.DataFrame:
    """Train-step speed of every plug-in that can be stepped, fastest first."""
    rows = [
        {
            "kind": plugin.kind,
            "plugin": plugin.name,
            "device": record.trial.environment,
            "batch": record.counts.get("images_per_step"),
            "step_ms": 1000 * record.scores["step_seconds"],
            "images_per_second": record.scores["images_per_second"],
            "peak_memory_mb": record.scores["peak_memory_bytes"] / 2**20,
        }
        for record in section.of("throughput")
        if (plugin := record.trial.generator or record.trial.classifier) is not None
    ]
    table = pd.DataFrame(rows)
    return table if table.empty else table.sort_values(["kind", "images_per_second"], ascending=[True, False])


def markdown(table: pd.DataFrame) -> str:
    """A GitHub table; floats must have been formatted before."""

    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    rows = [line(list(table.columns)), line(["---"] * len(table.columns))]
    return "\n".join(rows + [line(row) for row in table.itertuples(index=False)])
