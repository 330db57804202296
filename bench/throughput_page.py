"""The record of a run as a page to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.quality import machine_lines, markdown
from bench.throughput_timing import LEAST_ROUNDS, MEMORY, ROUND_SECONDS

HEAD = (
    "plug-in",
    "px",
    "images per step",
    "ours, ms per step",
    "plain, ms per step",
    "ours / plain",
    "pairs",
    "ours, images/s",
    "ours, GFLOP per step",
    "plain, GFLOP per step",
    "in bf16",
    "ours, share of peak",
    "plain, share of peak",
    "ours, MB",
    "plain, MB",
)


def page(record: Mapping[str, Any]) -> str:
    """``THROUGHPUT.md``."""
    rows = record["rows"]
    peaks = ", ".join(f"{kind} {speed:.0f}" for kind, speed in record["peaks_gflops"].items())
    alone = [name for name, row in rows.items() if row["status"] == "ok" and "plain" not in row]
    said = [f"No plain loop is written for {', '.join(alone)}: what ours takes is shown alone."] if alone else []
    said += [f"{name} was not timed: {row['error']}." for name, row in rows.items() if row["status"] != "ok"]
    notes = "".join(f"{line}\n\n" for line in said)
    return f"""# Train steps, against plain PyTorch loops

{markdown(HEAD, [_cells(row) for row in rows.values() if row["status"] == "ok"])}

{notes}*Ours* is a plug-in's `training_step`; *plain* trains the same nets by the same losses as a tutorial would write
it (`bench/reference/`): float32, default memory format, a DataLoader, one pass for real and one for generated films,
`loss.item()` at every step. Ours keeps freed memory, as the command line tells glibc to; plain has what glibc comes to
by itself. Both run in one process by turns (ours, plain, plain, ours), in rounds of whole cycles
that take at least {ROUND_SECONDS:g} s, at least {LEAST_ROUNDS} of each. Milliseconds are medians of the rounds;
*ours / plain* is the median, with quartiles, of the ratio of neighbouring rounds: above 1, ours trains more images
per second.

Peaks measured in the same run, in GFLOP/s: {peaks}.
*Share of peak* is the time that a step's convolutions and matrix products would take at the peaks of their kind and
precision, over the time it takes. What ours computes in bf16 (*in bf16*, of its operations) is held against bf16's
peak, the rest and all of plain against fp32's. Operations are counted over a cycle, forward and backward, by the
formulas of `torch.utils.flop_counter`: nothing but convolutions and matrix products, on a CPU no attention, and the
backward of a grouped convolution as if it had no groups (no net here has any). Memory is
{MEMORY[record["device"]]}.{_on_muon(record)}

{machine_lines([record["machine"]])}
- Load average before the run: {record["load_average"]:.1f}.{_took(record)} Everything is in `throughput.json`;
  `python -m bench.throughput_compare OLD NEW` compares two of these by their ratios.
- `python -m bench.throughput FOLDER` makes this page.
"""


def _took(record: Mapping[str, Any]) -> str:
    return f" It took {record['seconds']} s." if "seconds" in record else ""


def _on_muon(record: Mapping[str, Any]) -> str:
    """Why a net that is trained in float32 does a little in bf16."""
    peaks = record["peaks_gflops"]
    if any("bf16" in kind for kind in peaks):
        return ""
    return (
        " torch's Muon makes its steps orthogonal in bf16 whatever the net is trained in; no peak of bf16 was measured"
        "\nhere, so the share of such a step is not known."
    )


def _cells(row: Mapping[str, Any]) -> list[str]:
    ours, plain = row["ours"], row.get("plain")
    flops = ours["flops_per_step"]
    in_bf16 = sum(n for kind, n in flops.items() if kind.endswith("bf16")) / max(sum(flops.values()), 1)
    ratio = row.get("ratio")
    shown = {key: _shown(loop) for key, loop in (("ours", ours), ("plain", plain))}
    return [
        f"`{row['plugin']}`",
        str(row["size"]),
        str(row["images_per_step"]),
        shown["ours"]["ms"],
        shown["plain"]["ms"],
        f"**{ratio['median']:.2f}** ({ratio['low']:.2f} to {ratio['high']:.2f})" if ratio else "",
        str(ratio["pairs"]) if ratio else "",
        f"{ours['images_per_second']:.1f}",
        shown["ours"]["gflop"],
        shown["plain"]["gflop"],
        f"{in_bf16:.0%}",
        shown["ours"]["share"],
        shown["plain"]["share"],
        shown["ours"]["mb"],
        shown["plain"]["mb"],
    ]


def _shown(loop: Mapping[str, Any] | None) -> dict[str, str]:
    """Of one loop; empty where there is none."""
    if loop is None:
        return dict.fromkeys(("ms", "gflop", "share", "mb"), "")
    share = loop["share_of_peak"]
    return {
        "ms": f"{1e3 * loop['step_seconds']:.1f}",
        "gflop": f"{sum(loop['flops_per_step'].values()) / 1e9:.2f}",
        "share": "" if share is None else f"{share:.0%}",
        "mb": f"{loop['memory_bytes'] / 1e6:.0f}",
    }
