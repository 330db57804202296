"""Everything that is computed from one section's records, once, for the page, the tables and the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from cxrbench.report.copies import LEAK, copy_findings, memorization_table
from cxrbench.report.effects import Effect, Predictions, effects, effects_table, with_worth
from cxrbench.report.fidelity import extractor_agreement, fidelity_long, fidelity_table
from cxrbench.report.flags import find_flags
from cxrbench.report.metric_audit import metric_audit
from cxrbench.report.sections import Section, sections
from cxrbench.report.tables import external_table, leaderboard, utility_table
from cxrbench.report.validity import Validity, judge_validity
from cxrbench.store import Store

DISQUALIFIED = "disqualified"  # in place of a verdict
_OF_THE_DISQUALIFIED = {"verdict": DISQUALIFIED, "over_classical_verdict": DISQUALIFIED, "worth": float("nan")}


@dataclass(frozen=True)
class Analysis:
    """A section's tables.

    Attributes:
        utility: one row per trained classifier.
        flags: generator -> what is wrong with its films.
        leaking: generators whose films must not be counted.
        board: of ``leaderboard``, with a column ``flags``.
        fidelity_long: of ``fidelity_long``: one row per measure.
        outside: gains on the external test set that was measured last.
    """

    section: Section
    effects: list[Effect]
    flags: dict[str, list[str]]
    leaking: list[str]
    utility: pd.DataFrame
    board: pd.DataFrame
    fidelity_long: pd.DataFrame
    fidelity: pd.DataFrame
    memorization: pd.DataFrame
    copies: pd.DataFrame
    validity: Validity
    external: pd.DataFrame
    outside: pd.DataFrame

    # These two are on the page alone; a run that finds its page current has no use for them.

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """Do the extractors put the generators in the same order?"""
        return extractor_agreement(self.fidelity)

    @cached_property
    def metric_audit(self) -> pd.DataFrame:
        """Does fidelity tell which generator helps?"""
        return metric_audit(
            self.fidelity_long, [effect for effect in self.effects if effect.generator not in self.leaking]
        )


def analyse_store(store: Store, data_hash: str = "") -> list[Analysis]:
    """The analysis of every section, or of those of one data set, for the page and the terminal alike."""
    return [analyse(section, store) for section in sections(store) if data_hash in ("", section.data_hash)]


def analyse(section: Section, store: Store) -> Analysis:
    """Compute all tables of a section."""
    predictions = Predictions(store)
    found = with_worth(effects(section, predictions), section)
    utility = utility_table(section)
    long = fidelity_long(section)
    fidelity = fidelity_table(long)
    memorization = memorization_table(section)
    copies = copy_findings(memorization)
    flags = find_flags(fidelity, copies, len(section.classes))
    leaking = [name for name, found_flags in flags.items() if LEAK in found_flags]
    board = leaderboard(utility, effects_table(found), leaking)
    if not board.empty:
        board["flags"] = [", ".join(flags.get(name, [])) for name in board["generator"]]
        _disqualify(board, leaking)
    outside = effects_table(effects(section, predictions, "external"))
    _disqualify(outside, leaking)
    return Analysis(
        section=section,
        effects=found,
        flags=flags,
        leaking=leaking,
        utility=utility,
        board=board,
        fidelity_long=long,
        fidelity=fidelity,
        memorization=memorization,
        copies=copies,
        validity=judge_validity(fidelity, copies, found, len(section.classes), section.failures),
        external=external_table(section, utility),
        outside=outside,
    )


def _disqualify(table: pd.DataFrame, generators: Sequence[str]) -> None:
    """Nothing is said of the arms of these generators."""
    for name, said in _OF_THE_DISQUALIFIED.items():
        if generators and name in table:
            table.loc[table["generator"].isin(generators), name] = said
