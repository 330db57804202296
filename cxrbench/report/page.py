"""Records -> LEADERBOARD.md, tables and figures."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

from cxrbench.cache import write_atomically
from cxrbench.records import Record
from cxrbench.report import tables
from cxrbench.report.audits import audit_lines
from cxrbench.report.reading import external_reading, utility_reading
from cxrbench.report.tables import Section
from cxrbench.report.views import external_view, fidelity_view, speed_view, utility_view
from cxrbench.store import Store

FILES_SHOWN = 20


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
        parts += ["", *_section_page(section, pictures, open_data, audit_lines(store.root, section))]
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


def _section_page(section: Section, pictures: dict[str, str], open_data: bool, audits: list[str]) -> list[str]:
    lines = [f"## {section.data}, tier `{section.tier}`", ""]
    lines += [*_facts(section), *audits]
    ranked, fidelity = tables.leaderboard(section), tables.fidelity_table(section)
    if not ranked.empty:
        lines += [
            "",
            "### Utility: what the classifier gains",
            "",
            tables.markdown(utility_view(ranked, fidelity)),
        ]
        lines += ["", utility_reading(ranked)]
    outside = tables.external_table(section)
    for key, records in tables.external_sets(section).items():
        arms = outside[outside["external_key"] == key[:12]]
        name = records[0].trial.external_data or "external films"
        lines += ["", f"### External validation: {name}", "", _EXTERNAL_NOTE, ""]
        lines += [tables.markdown(external_view(arms)), "", external_reading(arms, f"`{name}`"), ""]
        lines += _files_and_facts(records[0])
    if not fidelity.empty:
        lines += ["", "### Fidelity: distance to the training films", "", _FIDELITY_NOTE, ""]
        lines += [tables.markdown(fidelity_view(fidelity))]
        lines += [f"\n{note}" for note in _notes_of_the_newest(section.of("fidelity"))]
    speed = tables.throughput_table(section)
    if not speed.empty:
        lines += ["", "### Train-step throughput", "", tables.markdown(speed_view(speed))]
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
        f"films at {newest.trial.setting.image_size} px; split: {section.split_by}; "
        f"cleaned: {newest.trial.setting.clean}",
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
        lines += _files_and_facts(record)
    lines += [
        f"- device: {'; '.join(devices)}; {facts.get('threads', '?')} threads; "
        f"python {facts.get('python', '?')}, " + ", ".join(f"{name} {v}" for name, v in versions.items()),
        f"- last command: `{facts.get('command', '?')}`; measuring took {seconds:.0f} s in all",
    ]
    return lines


_EXTERNAL_NOTE = (
    "The classifiers above, scored on films of another data set that none of them saw: no film of it is identical to, "
    "a near-copy of, or of the same patient as a training or validation film. AUROC is the mean over the classes that "
    "the external set has, inside as outside; drop is inside minus outside."
)


_FIDELITY_NOTE = (
    "Lower is better. `real held-out` is what films of the validation and test sets score at the same n; it is not "
    "zero because the Frechet distance at small n is mostly bias. A generator that scores clearly lower is probably "
    "copying training films. Only InceptionV3 distances are FID."
)


def _files_and_facts(record: Record) -> list[str]:
    """The notes of a record: facts first, then the files that were refused or removed, not all of them."""
    lists = {
        "quarantined: ": "files could not be read and were left out",
        "removed: ": f"films were removed by the cleaning policy `{record.trial.setting.clean}`",
    }
    lines = [f"- {_one_line(note)}" for note in record.notes if not note.startswith(tuple(lists))]
    for prefix, meaning in lists.items():
        named = [note for note in record.notes if note.startswith(prefix)]
        if named:
            lines.append(f"- {len(named)} {meaning}:")
            lines += [f"  - {_one_line(note)}" for note in named[:FILES_SHOWN]]
        if len(named) > FILES_SHOWN:
            lines.append(f"  - and {len(named) - FILES_SHOWN} more, listed in `records/{record.key}.json`")
    return lines


def _write_tables(section: Section, folder: Path) -> None:
    for name, table in (
        ("leaderboard", tables.leaderboard(section)),
        ("utility", tables.utility_table(section)),
        ("per_class", tables.per_class_table(section)),
        ("external", tables.external_table(section)),
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
