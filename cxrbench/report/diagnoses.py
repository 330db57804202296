"""What the generators say of their own fits, as it stands in the notes of their fidelity records."""

from __future__ import annotations

from cxrbench.records import Record
from cxrbench.report.sections import Section, newest_first

DIAGNOSIS = "diagnosis: "  # begins such a note


def diagnosis_lines(section: Section) -> list[str]:
    """One Markdown line per sentence and fit, by generator, split and seed; of several records of a fit the newest."""
    newest: dict[tuple[str, int, int], Record] = {}
    for record in newest_first(section.of("fidelity")):
        trial = record.trial
        if trial.generator is not None:
            newest.setdefault((trial.generator.name, trial.setting.split_seed, trial.generator_seed or 0), record)
    lines = []
    for (name, split, seed), record in sorted(newest.items(), key=lambda item: item[0]):
        fit = f"seed {seed}" if section.splits == 1 else f"split {split}, seed {seed}"
        said = [note.removeprefix(DIAGNOSIS) for note in record.notes if note.startswith(DIAGNOSIS)]
        lines += [f"- `{name}` ({fit}): {' '.join(sentence.split())}" for sentence in said]
    return lines
