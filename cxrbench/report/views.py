"""Tables of utility and speed -> tables as they are shown."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from cxrbench.report import tables
from cxrbench.report.formats import MISSING, interval, number, p_value, spread


def verdict_view(board: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard: what each arm gains, and what can be said of it."""
    rows = []
    for row in board.to_dict("records"):
        shown = {
            "rank": tables.rank_text(row["rank"]),
            "row": f"`{row['row']}`",
            "classifier": row["classifier"],
            "generator": row["generator"],
            "arm": _arm(row),
            "AUROC (macro)": spread(row["auroc_macro_mean"], row["auroc_macro_sd"]),
            "gain in AUROC (95 % interval)": interval(row["gain"], row["low"], row["high"]),
            "p (Holm)": p_value(row["p_holm"]),
            "verdict": row.get("verdict") if isinstance(row.get("verdict"), str) else MISSING,
            "least gain it would have found": _least(row["mde"]),
            "over classical": _over_classical(row),
            "runs": row["runs"],
            "flags": row.get("flags") or MISSING,
        }
        if "worth" in board:
            shown["worth in real films"] = row["worth_text"] if row["worth"] == row["worth"] else MISSING
        rows.append(shown)
    return pd.DataFrame(rows)


def scores_view(board: pd.DataFrame) -> pd.DataFrame:
    """All scores of every arm."""
    names = {
        "AUROC": "auroc_macro",
        "AUPRC": "auprc_macro",
        "F1": "f1_macro",
        "balanced accuracy": "balanced_accuracy",
        "accuracy": "accuracy",
        "sensitivity at 95 % specificity": "sensitivity_at_95_macro",
        "Brier": "brier",
        "ECE": "ece",
    }
    return pd.DataFrame(
        [
            {
                "row": f"`{row['row']}`",
                "classifier": row["classifier"],
                "generator": row["generator"],
                "arm": _arm(row),
                **{label: spread(row[f"{name}_mean"], row[f"{name}_sd"]) for label, name in names.items()},
            }
            for row in board.to_dict("records")
        ]
    )


def ledger_view(board: pd.DataFrame) -> pd.DataFrame:
    """What every arm was given: films, steps, and configurations tried."""
    return pd.DataFrame(
        [
            {
                "classifier": row["classifier"],
                "generator": row["generator"],
                "arm": _arm(row),
                "real films": round(row["train_real"]),
                "synthetic films": round(row["train_synthetic"]),
                "optimizer steps": row["steps"],
                "configurations tried": row["tuning_trials"],
                "test films": round(row["test"]),
                "runs": row["runs"],
            }
            for row in board.to_dict("records")
        ]
    )


def external_view(table: pd.DataFrame, effects: pd.DataFrame) -> pd.DataFrame:
    """Scores inside beside scores outside, and the gain outside."""
    gains = {} if effects.empty else {_key(row): row for row in effects.to_dict("records")}
    rows = []
    for row in table.to_dict("records"):
        gain = gains.get(_key(row), {})
        nan = float("nan")
        rows.append(
            {
                "classifier": row["classifier"],
                "generator": row["generator"],
                "ratio": f"{row['ratio']:g}",
                "AUROC inside": spread(row["internal_auroc_mean"], row["internal_auroc_sd"]),
                "AUROC outside": spread(row["external_auroc_mean"], row["external_auroc_sd"]),
                "drop": spread(row["drop_mean"], row["drop_sd"], signed=True),
                "gain outside (95 % interval)": interval(
                    gain.get("gain", nan), gain.get("low", nan), gain.get("high", nan)
                ),
                "p (Holm)": p_value(gain.get("p_holm", nan)),
                "verdict outside": gain.get("verdict", MISSING),
                "over classical, outside": _over_classical(gain),
                "n": row["n"],
                "runs": row["runs"],
            }
        )
    return pd.DataFrame(rows)


def components_view(table: pd.DataFrame) -> pd.DataFrame:
    """Variance components as standard deviations."""
    shown = table.copy()
    for name in [name for name in shown.columns if name.startswith("sd of ")]:
        shown[name] = [number(value, ".4f") for value in shown[name]]
    return shown


def curve_view(table: pd.DataFrame) -> pd.DataFrame:
    """The learning curve on real films."""
    return pd.DataFrame(
        [
            {
                "classifier": row["classifier"],
                "real training films": row["films"],
                "AUROC (macro)": spread(row["mean"], row["sd"]),
                "runs": row["runs"],
            }
            for row in table.to_dict("records")
        ]
    )


def speed_view(table: pd.DataFrame) -> pd.DataFrame:
    """Train-step speed."""
    return pd.DataFrame(
        [
            {
                "kind": row["kind"],
                "plug-in": row["plugin"],
                "batch": row["batch"],
                "ms per step": f"{row['step_ms']:.1f}",
                "films per second": f"{row['images_per_second']:.0f}",
                "peak memory (MiB; on a CPU of the whole process)": f"{row['peak_memory_mb']:.0f}",
                "device": row["device"],
            }
            for row in table.to_dict("records")
        ]
    )


def _arm(row: Mapping[str, object]) -> str:
    """What an arm is, in a few words."""
    share = float(str(row["real_share"]))
    few = "" if share == 1 else f" on {share:.0%} of the real films"
    if row["arm"] == "synthetic-only":
        return "synthetic only (TSTR)"
    if row["arm"] == "longer":
        return "trained longer"
    if row["generator"] == tables.REAL_ONLY:
        return f"real only{few}"
    return f"x {row['ratio']:g}{few}" + (", copies removed" if row["arm"] == "copy-adjusted" else "")


def _key(row: Mapping[str, object]) -> tuple[object, ...]:
    return tuple(row[name] for name in tables.SAME_ARM)


def _over_classical(row: Mapping[str, float]) -> str:
    if row.get("over_classical_gain") is None or row["over_classical_gain"] != row["over_classical_gain"]:
        return MISSING
    text = interval(row["over_classical_gain"], row["over_classical_low"], row["over_classical_high"])
    return f"{text}: {row['over_classical_verdict']}"


def _least(mde: float) -> str:
    """An AUROC cannot rise by more than a half above chance: such an effect says that nothing could have been found."""
    return "none" if mde > 0.5 else number(mde, ".3f") if mde else MISSING  # 0: nothing varies, so it says nothing
