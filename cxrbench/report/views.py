"""Tables -> tables as they are shown: text, with spreads and units."""

from __future__ import annotations

import pandas as pd

from cxrbench.report import tables

MISSING = ""


def utility_view(ranked: pd.DataFrame, fidelity: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard, with each generator's overall distances."""
    headline = _overall_fidelity(fidelity)
    rows = []
    for row in ranked.to_dict("records"):
        arm = {
            "rank": tables.rank_text(row["rank"]),
            "classifier": row["classifier"],
            "generator": row["generator"],
            "ratio": f"{row['ratio']:g}",
            "AUROC (macro)": _spread(row["auroc_macro_mean"], row["auroc_macro_sd"]),
            "gain in AUROC": _spread(row["gain_mean"], row["gain_sd"], signed=True),
            "F1 (macro)": _spread(row["f1_macro_mean"], row["f1_macro_sd"]),
            "balanced accuracy": _spread(row["balanced_accuracy_mean"], row["balanced_accuracy_sd"]),
            "accuracy": _spread(row["accuracy_mean"], row["accuracy_sd"]),
            "seeds": row["seeds"],
            "films added to real": f"{row['train_synthetic']} to {row['train_real']}",
            "test films": row["test"],
        }
        if "external_auroc_mean" in ranked:
            arm["external AUROC"] = _spread(row["external_auroc_mean"], row["external_auroc_sd"])
            arm["external gain"] = _spread(row["external_gain_mean"], row["external_gain_sd"], signed=True)
        for label, values in headline.items():
            value = values.get(row["generator"])
            arm[label] = f"{value:.1f}" if value is not None else MISSING
        rows.append(arm)
    return pd.DataFrame(rows)


def _overall_fidelity(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Column label -> generator -> value over all classes; the kernel distance times 1000."""
    columns: dict[str, dict[str, float]] = {}
    if table.empty:
        return columns
    for row in table[table["class"] == "all"].to_dict("records"):
        fd, kd = tables.FD_LABELS[row["extractor"]]
        columns.setdefault(fd, {})[row["generator"]] = row["fid_mean"]
        columns.setdefault(f"{kd} x 1000", {})[row["generator"]] = 1000 * row["kid_mean_mean"]
    return columns


def external_view(table: pd.DataFrame) -> pd.DataFrame:
    """Scores inside beside scores outside."""
    return pd.DataFrame(
        [
            {
                "classifier": row["classifier"],
                "generator": row["generator"],
                "ratio": f"{row['ratio']:g}",
                "AUROC inside": _spread(row["internal_auroc_mean"], row["internal_auroc_sd"]),
                "AUROC outside": _spread(row["external_auroc_mean"], row["external_auroc_sd"]),
                "drop": _spread(row["drop_mean"], row["drop_sd"], signed=True),
                "gain inside": _spread(row["internal_gain_mean"], row["internal_gain_sd"], signed=True),
                "gain outside": _spread(row["external_gain_mean"], row["external_gain_sd"], signed=True),
                "n": row["n"],
                "seeds": row["seeds"],
            }
            for row in table.to_dict("records")
        ]
    )


def fidelity_view(table: pd.DataFrame) -> pd.DataFrame:
    """Distances per class."""
    rows = []
    for row in table.to_dict("records"):
        fd, kd = tables.FD_LABELS[row["extractor"]]
        rows.append(
            {
                "measure": f"{fd}; {kd}",
                "class": row["class"],
                "n per side": row["n"],
                "generator": row["generator"],
                "Frechet distance": _spread(row["fid_mean"], row["fid_std"], digits=1),
                "kernel distance x 1000": _spread(1000 * row["kid_mean_mean"], 1000 * row["kid_mean_std"], digits=1),
                "seeds": max(int(row["seeds"]), 1),
            }
        )
    return pd.DataFrame(rows)


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


def _spread(mean: float, sd: float, *, digits: int = 3, signed: bool = False) -> str:
    if mean != mean:  # NaN: there is no such value
        return MISSING
    text = f"{mean:+.{digits}f}" if signed else f"{mean:.{digits}f}"
    return text if sd != sd else f"{text} ± {sd:.{digits}f}"
