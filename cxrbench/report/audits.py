"""What the audits in a results folder say of a section's data."""

from __future__ import annotations

import json
from pathlib import Path

from cxrbench.report.sections import Section


def audit_lines(root: Path, section: Section) -> list[str]:
    """One line for each audit of the section's data; of the data before cleaning, where they were cleaned.

    An audit belongs to a section by its data hash; cleaned data have another hash than the data that were
    audited, so there the name decides, and the line says which hash was audited.
    """
    lines = []
    for path in sorted((root / "audit").glob("*/audit.json")):
        try:
            audit = json.loads(path.read_text(encoding="utf-8"))
            same = audit["data_hash"] == section.data_hash
            before = audit["name"] == section.data and any(r.trial.setting.clean != "none" for r in section.records)
            if not (same or before):
                continue
            found = ", ".join(f"{count} {kind}" for kind, count in audit["counts"].items() if count) or "nothing"
            probes = {probe["name"]: probe for probe in audit["probes"]}
            page = path.with_name("AUDIT.md").relative_to(root).as_posix()
            which = "" if same else f" before cleaning (data hash `{audit['data_hash'][:16]}`)"
            lines.append(f"- [audit]({page}) of the data{which}: {found}; {probes['border']['verdict']}")
        except (OSError, ValueError, KeyError) as error:
            lines.append(f"- `{path.relative_to(root)}` cannot be read ({type(error).__name__}); run the audit again")
    return lines
