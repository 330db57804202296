"""An audit as files: AUDIT.md, one self-contained HTML page with thumbnails, findings.csv, the probes' figure."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.audit.audit import Audit
from cxrbench.audit.findings import MEANING, POLICIES, count_findings, most_suspicious, removed_by, to_csv
from cxrbench.cache import write_atomically
from cxrbench.errors import UsageError

Table = list[list[str]]
_ACCURACY = (
    "Measured on films of this set that were corrupted on purpose and did not choose the threshold. Recall: share of "
    "corrupted films found. False alarms: share of untouched films called so, their true faults included. Precision: "
    "what that makes if one film in twenty has the fault (near-duplicates: among the planted copies)."
)


def write_audit(audit: Audit, results: Path, *, publish: bool) -> Path:
    """Write the files of an audit below ``results/audit/<data>/``.

    Args:
        publish: the films may be shown to anybody; else a ``.gitignore`` keeps the HTML page out of git.

    Returns:
        The path of AUDIT.md.

    Raises:
        UsageError: the folder cannot be written.
    """
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in audit.name)
    folder = results / "audit" / safe
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "shortcuts.png", audit.figure)
        facts = {
            "name": audit.name,
            "data_hash": audit.data_hash,
            "counts": count_findings(audit.findings),
            "accuracies": [asdict(a) for a in audit.accuracies],
            "probes": [asdict(p) for p in audit.probes],
            "left_out": audit.left_out,
            "warnings": audit.warnings,
            "facts": audit.facts,
        }
        write_atomically(folder / "audit.json", json.dumps(facts, indent=1).encode())
        write_atomically(folder / "findings.csv", to_csv(audit.findings).encode("utf-8", "backslashreplace"))
        write_atomically(folder / "audit.html", _html(audit).encode("utf-8", "backslashreplace"))
        write_atomically(
            folder / ".gitignore", b"" if publish else b"# shows films that may not be republished\n*.html\n"
        )
        write_atomically(folder / "AUDIT.md", _markdown(audit).encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UsageError(f"audit folder {folder} cannot be written ({error.strerror}); use --results") from None
    return folder / "AUDIT.md"


def _markdown(audit: Audit) -> str:
    counts = count_findings(audit.findings)
    lines = [f"# Audit of {audit.name}", "", _summary(audit), ""]
    lines += [f"- **{warning}**" for warning in audit.warnings]
    lines += ["", "## What was found", ""]
    lines += _rows([["finding", "films", "meaning"], *([k, str(n), MEANING[k]] for k, n in counts.items())])
    lines += ["", "Every film is in `findings.csv`; `audit.html` shows the most suspicious ones.", ""]
    lines += ["## How well it is found", "", _ACCURACY, "", *_rows(_accuracy_table(audit))]
    lines += ["", "## Shortcuts: how far one gets by cheating", "", *_rows(_probe_table(audit)), ""]
    lines += ["![AUROC of each probe](shortcuts.png)", "", "## Composition"]
    for aspect, table in _composition(audit).items():
        lines += ["", f"### {aspect}", "", *_rows(table)]
    lines += ["", "## What cleaning would remove", ""]
    readable = [found for found in audit.findings if found.file not in audit.facts["quarantined"]]
    for policy in POLICIES:
        lines.append(f"- `--clean {policy}`: {len(removed_by(readable, policy))} of {audit.facts['films']} films")
    if audit.left_out:
        lines += ["", "## Left out on listing", "", *(f"- {n}: {reason}" for reason, n in audit.left_out.items())]
    return "\n".join(lines) + "\n"


def _summary(audit: Audit) -> str:
    facts = audit.facts
    per_class = ", ".join(f"{count} {name}" for name, count in facts["per_class"].items())
    return (
        f"{facts['films']} films ({per_class}) of {facts['groups']} patients or duplicate clusters; data hash "
        f"{audit.data_hash[:16]}. Examined in {facts['seconds']:.0f} s on {facts['device']}, torch "
        f"{facts['versions']['torch']}. A finding is a suspicion with a measured error rate, not a verdict: look at "
        "the film before you act on it."
    )


def _accuracy_table(audit: Audit) -> Table:
    rows = [["finding", "recall", "false alarms", "precision", "planted", "untouched", "note"]]
    for a in audit.accuracies:
        measured = [f"{a.recall:.3f}", f"{a.false_alarms:.4f}", f"{a.precision:.3f}"]
        rows.append([a.finding, *measured, str(a.planted), str(a.untouched), a.note])
    return rows


def _probe_table(audit: Audit) -> Table:
    rows = [["probe", "question", "AUROC (95% interval)", "n", "verdict"]]
    for p in audit.probes:
        value = "" if p.auroc is None else f"{p.auroc:.3f} ({p.low:.3f} to {p.high:.3f})"
        rows.append([p.name, p.question, value, str(p.n), p.verdict])
    return rows


def _composition(audit: Audit) -> dict[str, Table]:
    return {
        table.aspect: [
            [table.aspect, *audit.classes],
            *([value, *map(str, counts)] for value, counts in table.rows.items()),
        ]
        for table in audit.composition
    }


def _rows(table: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(table[0]), line(["---"] * len(table[0])), *(line(row) for row in table[1:])]


def _html(audit: Audit) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("cxrbench.audit", "."), autoescape=True, undefined=StrictUndefined)
    page: str = environment.get_template("page.html.j2").render(
        audit=audit,
        summary=_summary(audit),
        counts=count_findings(audit.findings),
        meaning=MEANING,
        accuracy_note=_ACCURACY,
        accuracy=_accuracy_table(audit),
        probes=_probe_table(audit),
        composition=_composition(audit),
        figure=base64.b64encode(audit.figure).decode(),
        shown={kind: films for kind in MEANING if (films := _shown(audit, kind))},
    )
    return page


def _shown(audit: Audit, kind: str) -> list[dict[str, object]]:
    return [
        {
            "file": found.file,
            "partner": found.partner,
            "score": f"{found.score:.3f}",
            "detail": found.detail,
            "pictures": [_jpeg(audit.pictures[f]) for f in (found.file, found.partner) if f in audit.pictures],
        }
        for found in most_suspicious(audit.findings, kind)
    ]


def _jpeg(film: NDArray[np.uint8]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(film).save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()
