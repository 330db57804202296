"""Which gains compare classifiers that were trained on two machines."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cxrbench.records import Record, Trial
from cxrbench.report.sections import Section


def machine_lines(section: Section) -> list[str]:
    """A sentence where runs and their real-only partners were not all trained on one machine; else nothing."""
    trained = section.of("utility")
    partners = {
        _partner(r.trial): _device(r) for r in trained if r.trial.generator is None and r.trial.arm == "augment"
    }
    apart = sorted({_name(r.trial) for r in trained if _trained_apart(r, partners)})
    if not apart:
        return []
    return [
        "",
        f"Trained on another machine than the real-only runs they are compared with: {', '.join(apart)}. What a net "
        "learns differs from CPU to CPU in the last digits, and more where only one of them has bf16, so such a gain "
        "holds that difference, too.",
    ]


def _trained_apart(record: Record, partners: Mapping[tuple[object, ...], str]) -> bool:
    device = _device(record)
    return partners.get(_partner(record.trial), device) != device


def _partner(trial: Trial) -> tuple[object, ...]:
    classifier = trial.classifier.identity if trial.classifier else None
    return classifier, trial.classifier_seed, trial.setting.split_seed, trial.real_share


def _name(trial: Trial) -> str:
    return f"`{trial.generator.name}`" if trial.generator else "real films alone, trained longer"


def _device(record: Record) -> str:
    """Without the cores that it may use: on a CPU trials compute with one thread, and scores do not hang on them."""
    return re.sub(r", \d+ cores?$", "", str(record.provenance.get("device", "")))
