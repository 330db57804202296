"""Records -> LEADERBOARD.md, tables and figures."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from cxrbench.cache import write_atomically
from cxrbench.records import Record
from cxrbench.report import tables
from cxrbench.report.tables import REAL_ONLY, Section
from cxrbench.store import Store

if TYPE_CHECKING:
    import pandas as pd

QUARANTINE_SHOWN = 20
LEAST_SEEDS = 3  # fewer repetitions have no interval worth printing
MISSING = ""


def write_report(store: Store) -> Path:
    """Rebuild everything under the results folder but the records.

    Returns:
        The path of LEADERBOARD.md.
    """
    from cxrbench.report import figures

    found = tables.sections(store)
    for folder in (store.root / "tables", store.root / "figures", store.private / "figures"):
        shutil.rmtree(folder, ignore_errors=True)
    parts = ["# Leaderboard", "", _INTRODUCTION]
    if not found:
        parts += ["", "No trial has been run yet: `cxrbench run`."]
    for section in found:
        _write_tables(section, store.root / "tables")
        public = store.root / "figures" / section.slug
        drawn = {
            "ratio curves": (
                public / "ratio_curves.png",
                figures.ratio_curves(section, public / "ratio_curves.png"),
            ),
            "confusion matrices": (
                public / "confusion.png",
                figures.confusion_matrices(section, store, public / "confusion.png"),
            ),
        }
        open_data = all(store.is_public(record.key) for record in section.of("fidelity"))
        grid = (public if open_data else store.private / "figures" / section.slug) / "samples.png"
        drawn["sample grid"] = (grid, figures.sample_grid(section, store, grid))
        pictures = {name: path.relative_to(store.root).as_posix() for name, (path, done) in drawn.items() if done}
        parts += ["", *_section_page(section, pictures, open_data)]
    page = store.root / "LEADERBOARD.md"
    write_atomically(page, ("\n".join(parts) + "\n").encode())
    return page


_INTRODUCTION = (
    "Does adding synthetic films to the training set help the classifier? Each table below compares arms under one "
    "fixed protocol: same data, same split, same optimizer steps, real-only validation, real-only test. Tables with "
    "different data or spec hashes must not be compared. Values are mean ± standard deviation over seeds; the gain "
    "is paired with the real-only run of the same seed. A difference smaller than the spread is no result. "
    "Rebuilt from `records/` by `cxrbench report`."
)


def _section_page(section: Section, pictures: dict[str, str], open_data: bool) -> list[str]:
    lines = [f"## {section.data}, tier `{section.tier}`", ""]
    lines += _facts(section)
    ranked, fidelity = tables.leaderboard(section), tables.fidelity_table(section)
    if not ranked.empty:
        lines += [
            "",
            "### Utility: what the classifier gains",
            "",
            tables.markdown(_utility_view(ranked, fidelity)),
        ]
        lines += ["", _reading(ranked)]
    if not fidelity.empty:
        lines += ["", "### Fidelity: distance to the training films", "", _FIDELITY_NOTE, ""]
        lines += [tables.markdown(_fidelity_view(fidelity))]
        lines += [f"\n{note}" for note in _notes_of_the_newest(section.of("fidelity"))]
    speed = tables.throughput_table(section)
    if not speed.empty:
        lines += ["", "### Train-step throughput", "", tables.markdown(_speed_view(speed))]
    for name, path in pictures.items():
        private = path.startswith("private/")
        lines += ["", f"### {name.capitalize()}", ""]
        lines += (
            [f"`{path}` (shows films of a data set that may not be republished, so it is kept out of git)"]
            if private
            else [f"![{name}]({path})"]
        )
    if not open_data and "sample grid" not in pictures:
        lines += ["", "Sample films of this data set are private and not in this copy of the results."]
    if section.failures:
        lines += ["", "### Trials that did not end well", ""]
        lines += [f"- **{r.status}**: {r.trial.describe()}: {_one_line(r.error)}" for r in section.failures]
    if section.superseded:
        lines += [
            "",
            f"{section.superseded} records of earlier versions of a plug-in are kept but not shown.",
        ]
    return lines


def _facts(section: Section) -> list[str]:
    newest = max(section.records or section.failures, key=lambda r: str(r.provenance.get("started", "")))
    facts = newest.provenance
    devices = sorted({str(r.provenance.get("device", "?")) for r in section.records or section.failures})
    versions = facts.get("versions", {})
    seconds = sum(float(r.provenance.get("seconds", 0)) for r in section.records)
    lines = [
        f"- data `{section.data}`, hash `{section.data_hash[:16]}`; spec hash `{section.spec_hash[:16]}`; "
        f"films at {newest.trial.setting.image_size} px",
    ]
    for record in section.of("data"):
        c = record.counts
        per_part = "; ".join(
            f"{part} " + ", ".join(f"{c.get(f'{part}/{name}', 0)} {name}" for name in record.classes)
            for part in ("train", "val", "test")
        )
        lines.append(
            f"- {c['films']} films of {c['groups']} patients or duplicate clusters ({c['near_copy_pairs']} pairs of "
            f"near-copies); {per_part}"
        )
        if c["quarantined"]:
            shown = record.notes[:QUARANTINE_SHOWN]
            lines.append(f"- {c['quarantined']} files could not be read and were left out:")
            lines += [f"  - {_one_line(note)}" for note in shown]
            if len(record.notes) > len(shown):
                lines.append(f"  - and {len(record.notes) - len(shown)} more, listed in `records/{record.key}.json`")
    lines += [
        f"- device: {'; '.join(devices)}; {facts.get('threads', '?')} threads; "
        f"python {facts.get('python', '?')}, " + ", ".join(f"{name} {v}" for name, v in versions.items()),
        f"- last command: `{facts.get('command', '?')}`; measuring took {seconds:.0f} s in all",
    ]
    return lines


def _utility_view(ranked: pd.DataFrame, fidelity: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

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


_FIDELITY_NOTE = (
    "Lower is better. `real held-out` is what films of the validation and test sets score at the same n; it is not "
    "zero because the Frechet distance at small n is mostly bias. A generator that scores clearly lower is probably "
    "copying training films. Only InceptionV3 distances are FID."
)


def _fidelity_view(table: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

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


def _speed_view(table: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

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


def _reading(ranked: pd.DataFrame) -> str:
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


def _change(row: pd.Series, arms: int) -> str:
    """What an arm does to AUROC, and whether more than chance is needed to explain it."""
    from scipy.stats import t

    gain, seeds = row["gain_mean"], int(row["gain_seeds"])
    if seeds < LEAST_SEEDS:
        return f"changes AUROC by {gain:+.3f} over {seeds} seed{'s' if seeds > 1 else ''}: too few to tell from chance"
    half = float(t.ppf(1 - 0.025 / arms, seeds - 1) * row["gain_sd"] / seeds**0.5)
    change = f"changes AUROC by {gain:+.3f} (95% interval {gain - half:+.3f} to {gain + half:+.3f}, {seeds} seeds)"
    if abs(gain) <= half:
        return f"{change}: no evidence that synthetic films help or harm here"
    return f"{change}: it {'helps' if gain > 0 else 'harms'} on this test set"


def _write_tables(section: Section, folder: Path) -> None:
    for name, table in (
        ("leaderboard", tables.leaderboard(section)),
        ("utility", tables.utility_table(section)),
        ("per_class", tables.per_class_table(section)),
        ("fidelity", tables.fidelity_table(section)),
        ("throughput", tables.throughput_table(section)),
    ):
        if not table.empty:
            text = io.StringIO()
            table.to_csv(text, index=False, float_format="%.6g")
            write_atomically(folder / section.slug / f"{name}.csv", text.getvalue().encode())


def _notes_of_the_newest(records: list[Record]) -> list[str]:
    """Older notes may have been mended since, e.g. by weights that are there now."""
    return tables.newest_first(records)[0].notes


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _spread(mean: float, sd: float, *, digits: int = 3, signed: bool = False) -> str:
    if mean != mean:  # NaN: there is no such value
        return MISSING
    text = f"{mean:+.{digits}f}" if signed else f"{mean:.{digits}f}"
    return text if sd != sd else f"{text} ± {sd:.{digits}f}"
