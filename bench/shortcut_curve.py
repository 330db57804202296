"""How the shortcut probes follow the truth: the phantom at five strengths of its shortcut, one table, one figure.

python -m bench.shortcut_curve results/audit/phantom-shortcuts
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from cxrbench.audit.shortcuts import Probe, audit_shortcuts, draw_probes
from cxrbench.datasets.phantom import Phantom
from cxrbench.machine import describe_machine

KNOBS = (0.0, 0.25, 0.5, 0.75, 1.0)
SIDE = 64  # pixels


def probe_phantom(shortcut: float, class_signal: float) -> list[Probe]:
    """Draw the default phantom and probe it; films of a patient are one group."""
    phantom = Phantom(shortcut=shortcut, class_signal=class_signal)
    films = phantom.listing().films
    pixels = np.stack([phantom.read(film, SIDE) for film in films])[:, None]
    groups = np.unique([film.patient_id or "" for film in films], return_inverse=True)[1].astype(np.int64)
    small = pixels[:, 0].reshape(len(films), 16, 4, 16, 4).mean(axis=(2, 4)).reshape(len(films), -1)
    labels = np.asarray([film.label for film in films], np.int64)
    sources = [film.source for film in films]
    return audit_shortcuts(pixels, labels, phantom.classes(), groups, sources, small.astype(np.float32))


def main(folder: Path) -> None:
    """Write ``shortcuts.json``, ``shortcuts.md`` and ``shortcuts.png`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {f"shortcut {knob:g}": probe_phantom(knob, 1.0) for knob in KNOBS}
    found["shortcut 0, no disease"] = probe_phantom(0.0, 0.0)
    draw_probes(found, folder / "shortcuts.png")
    record = {"machine": describe_machine("cpu"), "probes": {k: [asdict(p) for p in v] for k, v in found.items()}}
    (folder / "shortcuts.json").write_text(json.dumps(record, indent=1))
    names = [probe.name for probe in found["shortcut 0"]]
    lines = ["# Shortcut probes on the phantom", "", "| phantom | " + " | ".join(names) + " |"]
    lines.append("| --- " * (len(names) + 1) + "|")
    for knob, probes in found.items():
        cells = ["" if p.auroc is None else f"{p.auroc:.3f} ({p.low:.3f} to {p.high:.3f})" for p in probes]
        lines.append(f"| {knob} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "![AUROC of each probe](shortcuts.png)",
        "",
        "`python -m bench.shortcut_curve FOLDER` makes this page.",
    ]
    (folder / "shortcuts.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines[2:-4]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
