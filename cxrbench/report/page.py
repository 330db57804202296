"""Records -> LEADERBOARD.md, tables and figures."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cxrbench.cache import write_atomically
from cxrbench.records import REMOVED, Record
from cxrbench.report import tables
from cxrbench.report.analysis import Analysis, analyse_store
from cxrbench.report.audits import audit_lines
from cxrbench.report.claims import claim_lines
from cxrbench.report.copies import by_class, flag_meaning, parts_meaning
from cxrbench.report.diagnoses import DIAGNOSIS, diagnosis_lines
from cxrbench.report.film_views import agreement_view, audit_view, copies_view, fidelity_view
from cxrbench.report.flags import flag_sentences
from cxrbench.report.freshness import PAGE, note_made
from cxrbench.report.machines import machine_lines
from cxrbench.report.reading import external_reading, stamp, utility_reading
from cxrbench.report.sections import Section, newest_first
from cxrbench.report.uncertainty import components_table, curve_table
from cxrbench.report.views import (
    components_view,
    curve_view,
    external_view,
    ledger_view,
    scores_view,
    speed_view,
    verdict_view,
)
from cxrbench.store import Store

FILES_SHOWN = 20


def write_report(store: Store, analyses: Sequence[Analysis] | None = None) -> Path:
    """Rebuild everything under the results folder but the records.

    Args:
        analyses: of ``analyse_store``, where the caller needs them, too.

    Returns:
        The path of LEADERBOARD.md.
    """
    from cxrbench.report.figures import draw_figures

    found = analyse_store(store) if analyses is None else analyses
    for folder in (store.root / "tables", store.root / "figures", store.private / "figures"):
        shutil.rmtree(folder, ignore_errors=True)
    parts = ["# Leaderboard", "", _INTRODUCTION]
    if not found:
        parts += ["", "No trial has been run yet: `cxrbench run`."]
    for analysis in found:
        _write_tables(analysis, store.root / "tables")
        pictures = {
            name: path.relative_to(store.root).as_posix() for name, path in draw_figures(analysis, store).items()
        }
        audits, claims = audit_lines(store.root, analysis.section), claim_lines(store.root, analysis)
        parts += ["", *_section_page(analysis, pictures, audits, claims)]
    page = store.root / PAGE
    write_atomically(page, ("\n".join(parts) + "\n").encode())
    note_made(store)
    return page


_INTRODUCTION = (
    "Does adding synthetic films to the training set help the classifier? Each section compares arms under one fixed "
    "protocol: same data, same splits, same optimizer steps, real-only validation, real-only test. Sections must not "
    "be compared with each other. A **gain** is paired with the real-only run of the same split and classifier seed; "
    "its 95 % interval holds both the chance of the test patients and that of the seeds, of this arm alone. A "
    "**verdict** is *helps* or *hurts* where the gain differs from zero after Holm's correction over the ranked arms "
    "(over side arms, controls, and gains over `classical` separately), else *undetermined*, which an interval beside "
    "zero does not contradict; next to it stands the least gain that such a run would have found in 80 % of cases. "
    "`cxrbench verify ROW` re-runs a row from its records alone. Rebuilt from `records/` by `cxrbench report`."
)


def _section_page(analysis: Analysis, pictures: dict[str, str], audits: list[str], claims: list[str]) -> list[str]:
    section = analysis.section
    lines = [f"## {section.data}, tier `{section.tier}`", "", stamp(analysis.validity), "", *_facts(section), *audits]
    if not analysis.board.empty:
        lines += ["", "### Verdicts: what the classifier gains", "", *_verdicts(analysis)]
    lines += claims + _external(analysis)
    if not analysis.fidelity.empty:
        lines += ["", "### Fidelity", "", _FIDELITY_NOTE, *_fidelity(analysis)]
    if not analysis.copies.empty:
        lines += ["", "### Memorization", "", _COPIES_NOTE, "", tables.markdown(copies_view(analysis.copies))]
        classes = by_class(analysis.memorization)
        lines += ["", "<details><summary>per class</summary>"]
        for name in section.classes:
            lines += ["", f"{name}:", "", tables.markdown(copies_view(classes[classes["class"] == name]))]
        lines += ["", "</details>"]
        rows = [row for row in analysis.copies.to_dict("records") if not row["control"]]
        flagged = [flag_meaning(row, classes) for row in rows if row["flag"]]
        flagged += [parts_meaning(row, classes) for row in rows if row["parts_class"]]
        lines += ["", *(f"- {text}" for text in flagged)]
    if not analysis.metric_audit.empty:
        lines += ["", "### Metric audit: does fidelity tell which generator helps?", "", _AUDIT_NOTE, ""]
        lines += [tables.markdown(audit_view(analysis.metric_audit, section.extractors))]
    if analysis.validity.checks:
        lines += ["", "### Controls", "", tables.markdown(_controls(analysis))]
    if not analysis.board.empty:
        lines += ["", "### All scores", "", _SCORES_NOTE, "", tables.markdown(scores_view(analysis.board))]
        lines += ["", "### Ledger: what each arm was given", "", tables.markdown(ledger_view(analysis.board))]
    speed = tables.throughput_table(section)
    if not speed.empty:
        lines += ["", "### Train-step throughput", "", tables.markdown(speed_view(speed))]
    for name, path in pictures.items():
        private = path.startswith("private/")
        lines += ["", f"### {name[0].upper()}{name[1:]}", ""]
        lines += (
            [f"`{path}` (shows films of a data set that may not be republished, so it is kept out of git)"]
            if private
            else [f"![{name}]({path})"]
        )
    if "sample grid" not in pictures:
        lines += ["", "Sample films of this data set are private and not in this copy of the results."]
    if section.failures:
        lines += ["", "### Trials that did not end well", ""]
        lines += [f"- **{r.status}**: {r.trial.describe()}: {_one_line(r.error)}" for r in section.failures]
    if section.superseded:
        lines += ["", f"{section.superseded} records of earlier versions of a plug-in are kept but not shown."]
    return lines


def _verdicts(analysis: Analysis) -> list[str]:
    lines = [tables.markdown(verdict_view(analysis.board)), "", utility_reading(analysis.board)]
    lines += machine_lines(analysis.section)
    curve = curve_table(analysis.section)
    if not curve.empty:
        lines += ["", "Real films alone, by their number:", "", tables.markdown(curve_view(curve))]
    components = components_table(analysis.effects)
    if not components.empty:
        lines += ["", _COMPONENTS_NOTE, "", tables.markdown(components_view(components))]
    return lines


def _external(analysis: Analysis) -> list[str]:
    lines: list[str] = []
    newest = True
    for key, records in tables.external_sets(analysis.section).items():
        name = records[0].trial.external_data or "external films"
        arms = analysis.external[analysis.external["external_key"] == key[:12]]
        gains = analysis.outside if newest else pd.DataFrame()
        lines += ["", f"### External validation: {name}", "", _EXTERNAL_NOTE, ""]
        lines += [tables.markdown(external_view(arms, gains)), ""]
        if newest and not analysis.board.empty:
            lines += [external_reading(analysis.board, gains, f"`{name}`"), ""]
        lines += _files_and_facts(records[0])
        newest = False
    return lines


def _fidelity(analysis: Analysis) -> list[str]:
    section, lines = analysis.section, []
    for extractor, reference in section.extractors.items():
        lines += [
            "",
            f"**{reference.fd_label}** (`{extractor}`, weights `{reference.weights[:16]}`; {reference.resize})",
            "",
        ]
        lines += [tables.markdown(fidelity_view(analysis.fidelity, extractor, reference, "all"))]
        lines += ["", "<details><summary>per class</summary>"]
        for name in section.classes:
            view = fidelity_view(analysis.fidelity, extractor, reference, name)
            if not view.empty:
                lines += ["", f"{name}:", "", tables.markdown(view)]
        lines += ["", "</details>"]
    own = list(analysis.fidelity[analysis.fidelity["control"].isna()]["generator"].unique())
    lines += ["", *(f"- {text}" for text in flag_sentences(analysis.flags, own)), *diagnosis_lines(section)]
    if not analysis.agreement.empty:
        lines += [
            "",
            "Do extractors rank the generators alike (controls left out)? 1: wholly, 0: not at all, -1: the reverse.",
        ]
        lines += ["", tables.markdown(agreement_view(analysis.agreement))]
    newest = newest_first(section.of("fidelity"))[0]  # older notes may have been mended since, e.g. by weights
    return lines + [f"\n{note}" for note in newest.notes if not note.startswith(DIAGNOSIS)]


def _controls(analysis: Analysis) -> pd.DataFrame:
    state = {True: "holds", False: "BROKEN", None: "not checked"}
    return pd.DataFrame(
        [
            {
                "control": check.control,
                "expected": check.expected,
                "found": check.found,
                "": "not contradicted" if check.weak and check.holds else state[check.holds],
            }
            for check in analysis.validity.checks
        ]
    )


def _facts(section: Section) -> list[str]:
    newest = max(section.records or section.failures, key=lambda r: str(r.provenance.get("started", "")))
    facts = newest.provenance
    devices = sorted({str(r.provenance.get("device", "?")) for r in section.records or section.failures})
    versions = facts.get("versions", {})
    seconds = sum(float(r.provenance.get("seconds", 0)) for r in section.records)
    lines = [
        f"- data `{section.data}`, hash `{section.data_hash[:16]}`; spec hash `{section.spec_hash[:16]}`; "
        f"films at {newest.trial.setting.image_size} px; split: {section.split_by}"
        f"{f', {section.splits} times' if section.splits > 1 else ''}; "
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
    "Each generator's films against training films, over all classes. Distances: lower is better; the **floor** is "
    "what disjoint halves of the real films score against each other at the same n, since a distance at small n is "
    "mostly bias, so read the **excess**. In brackets behind other measures: their floor (for label agreement, look at "
    "`real held-out`). Vendi counts distinct films; label agreement is the share of films whose nearest real films are "
    "of the class they were made for. Only InceptionV3 distances are FID."
)
_COPIES_NOTE = (
    "Nearest training films (or their mirror images) at 32 px, brightness and contrast taken out. A near-copy lies "
    "nearer to a training film than 99 % of validation films do. Flips and small rotations of training films are "
    "partly near-copies by nature. Low distances without near-copies are blurred or collapsed films. Made from parts "
    "are films whose quarters, by their detail alone (up to 64 px, all that is broad taken away), lie nearer to those "
    "of training films than 99 % of held-out films do: films sewn together from real ones are near to none as a whole. "
    "Pieces much smaller than quarters go unseen; of blurred films some are called so."
)
_AUDIT_NOTE = (
    "Rank correlation of each measure with the gain, over the pools of this run, with the controls (but the oracle), "
    "better fidelity counted upwards: +1 says that the measure ranks generators as the classifier does. The interval "
    "resamples generators; with few of them it is wide, and a measure may then not be used to choose a generator."
)
_SCORES_NOTE = (
    "Mean ± standard deviation over runs, on the internal test films. Macro averages over classes; sensitivity at 95 % "
    "specificity one-vs-rest; Brier (0 to 2) and ECE: lower is better."
)
_COMPONENTS_NOTE = (
    "Where the uncertainty of a gain comes from: standard deviations in AUROC, of the test set's patients and of one "
    "repetition at each level:"
)


def _files_and_facts(record: Record) -> list[str]:
    """The notes of a record: facts first, then the files that were refused or removed, not all of them."""
    lists = {
        "quarantined: ": "files could not be read and were left out",
        REMOVED: f"films were removed by the cleaning policy `{record.trial.setting.clean}`",
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


def _write_tables(analysis: Analysis, folder: Path) -> None:
    section = analysis.section
    for name, table in (
        ("leaderboard", analysis.board),
        ("utility", analysis.utility),
        ("per_class", tables.per_class_table(analysis.utility, section.classes)),
        ("external", analysis.external),
        ("external_gains", analysis.outside),
        ("fidelity", analysis.fidelity),
        ("extractor_agreement", analysis.agreement),
        ("memorization", analysis.memorization),
        ("metric_audit", analysis.metric_audit),
        ("throughput", tables.throughput_table(section)),
    ):
        if not table.empty:
            text = io.StringIO()
            table.to_csv(text, index=False, float_format="%.6g")
            write_atomically(folder / section.slug / f"{name}.csv", text.getvalue().encode())


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())
