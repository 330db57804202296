"""Tables of fidelity and memorization -> tables as they are shown."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from cxrbench.records import ExtractorRef
from cxrbench.report.copies import flags_of
from cxrbench.report.formats import MISSING, distance, distances, interval, number, p_value


def fidelity_view(table: pd.DataFrame, extractor: str, reference: ExtractorRef, who: str) -> pd.DataFrame:
    """One extractor's measures of one class (or of all), a row per generator; distances as excess over the floor."""
    own = table[(table["extractor"] == extractor) & (table["class"] == who)]
    if own.empty:
        return pd.DataFrame()
    labels = {"fid": (reference.fd_label, 1.0), "kid_mean": (f"{reference.kd_label} x 1000", 1000.0)}
    rows = []
    for (generator, n), group in own.groupby(["generator", "n"], sort=False):
        measures = {row["metric"]: row for row in group.to_dict("records")}
        shown: dict[str, object] = {"generator": generator, "n": int(n)}
        for metric, (label, unit) in labels.items():
            floor = "floor" if metric == "fid" else "floor (kernel)"
            if metric not in measures:
                shown |= {f"{label}, excess over floor": MISSING, label: "too few films", floor: MISSING}
                continue
            m = {key: unit * measures[metric][key] for key in ("value", "low", "high", "floor", "floor_sd", "excess")}
            shown |= {
                f"{label}, excess over floor": distance(m["excess"], signed=True),
                f"{label} (95 % interval)": distances(m["value"], m["low"], m["high"]),
                floor: f"{distance(m['floor'])} ± {distance(m['floor_sd'])}" if m["floor"] == m["floor"] else MISSING,
            }
        for metric in ("precision", "recall", "density", "coverage", "vendi", "label_agreement", "fid_infinity"):
            if metric in measures:
                value, floor_value = measures[metric]["value"], measures[metric]["floor"]
                form = ".1f" if metric in ("vendi", "fid_infinity") else ".2f"
                beside = f" ({number(floor_value, form)})" if floor_value == floor_value else MISSING
                shown[METRIC_NAMES[metric]] = f"{value:{form}}{beside}"
        rows.append((measures["fid"]["value"] if "fid" in measures else 0.0, shown))
    return pd.DataFrame([shown for _, shown in sorted(rows, key=lambda row: row[0])]).fillna(MISSING)


METRIC_NAMES = {
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "vendi": "Vendi",
    "label_agreement": "label agreement",
    "fid_infinity": "FD-infinity",
}


def agreement_view(table: pd.DataFrame) -> pd.DataFrame:
    """How alike the extractors rank."""
    return pd.DataFrame(
        [
            {
                "extractors": f"{row['extractor']}, {row['and']}",
                "generators": row["generators"],
                "Kendall's tau": number(row["tau"], "+.2f") or "ranks are tied",
            }
            for row in table.to_dict("records")
        ]
    )


def copies_view(table: pd.DataFrame) -> pd.DataFrame:
    """Memorization, a row per generator (of one class, or of all)."""
    rows = []
    for row in table.to_dict("records"):
        rows.append(
            {
                "generator": row["generator"],
                "films": row["n"],
                "near-copies": number(row.get("copies", math.nan), ".1%") or "too few held-out films",
                "made from parts": number(row.get("copied_parts", math.nan), ".1%"),
                "of new real films, at most": number(row.get("copies_limit", math.nan), ".1%"),
                "distance to training films / held-out films'": number(row.get("nn_ratio", math.nan), ".2f"),
                "p": p_value(row.get("nn_p", math.nan)),
                "AuthPct (real films)": f"{row['authpct']:.0f} ({row['authpct_expected']:.0f})",
                "C_T": number(row.get("ct", math.nan), "+.1f"),
                "copies of held-out films": f"{row['held_out_copies']:.1%}",
                "expected": f"{row['held_out_copies_expected']:.1%}",
                **({"flag": ", ".join(flags_of(row))} if "flag" in row else {}),
            }
        )
    return pd.DataFrame(rows)


def audit_view(table: pd.DataFrame, extractors: Mapping[str, ExtractorRef]) -> pd.DataFrame:
    """The metric audit."""
    rows = []
    for row in table.to_dict("records"):
        reference = extractors[row["extractor"]]
        label = {"fid": reference.fd_label, "kid_mean": reference.kd_label}.get(
            row["metric"], f"{METRIC_NAMES.get(row['metric'], row['metric'])} ({row['extractor']})"
        )
        rows.append(
            {
                "measure": label,
                "classifier": row["classifier"],
                "Spearman's rho with the gain (95 % interval)": interval(row["rho"], row["low"], row["high"], ".2f"),
                "pools": row["pools"],
            }
        )
    return pd.DataFrame(rows)
