"""Do the controls come out where they must? If not, no number of the section may be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from cxrbench.contracts import Role
from cxrbench.records import Record
from cxrbench.report.effects import Effect
from cxrbench.report.fidelity import HELD_OUT, overall
from cxrbench.report.flags import WRONG_LABELS, label_flag, sees_classes

Status = Literal["VALID", "INVALID", "PARTLY VALIDATED", "NOT VALIDATED"]

NEEDED: tuple[Role, ...] = ("oracle", "copy", "shuffle", "noise", "oversample")

SPREADS = 4.0  # standard deviations that chance may move a distance by
SHARE = 0.1  # of the floor, which is known to about that
MOSTLY = 0.5  # of the copy control's films must be called copies
SELDOM = 0.1  # of the oracle's may be


@dataclass(frozen=True)
class Check:
    """One thing that is known beforehand.

    Attributes:
        holds: None where it could not be checked.
        weak: it holds only in that it is not contradicted.
    """

    control: str
    expected: str
    found: str
    holds: bool | None
    weak: bool = False


@dataclass(frozen=True)
class Validity:
    """The stamp of a section, and what it rests on."""

    status: Status
    checks: tuple[Check, ...]

    @property
    def missing(self) -> list[str]:
        """Controls of which nothing could be checked."""
        settled = {check.control for check in self.checks if check.holds is not None}
        return [role for role in NEEDED if role not in settled]

    @property
    def reasons(self) -> list[str]:
        """What is broken, in words."""
        return [f"{c.control}: expected {c.expected}; found {c.found}" for c in self.checks if c.holds is False]


def judge_validity(
    fidelity: pd.DataFrame,
    copies: pd.DataFrame,
    effects: Sequence[Effect],
    classes: int,
    failures: Sequence[Record] = (),
) -> Validity:
    """Check every control that was run.

    Args:
        fidelity: of ``fidelity_table``; copies: of ``copy_findings``; effects: of ``effects``.
        classes: how many the data have.
        failures: of the section. A control whose trials failed is named, since its checks are missing.
    """
    checks = [*_distance_checks(fidelity), *_label_checks(fidelity, classes), *_copy_checks(copies)]
    checks += [*_utility_checks(effects), *_unmade(failures)]
    settled = [check for check in checks if check.holds is not None]
    if not settled:
        return Validity("NOT VALIDATED", tuple(checks))
    if not all(check.holds for check in settled):
        return Validity("INVALID", tuple(checks))
    whole = set(NEEDED) <= {check.control for check in settled}
    return Validity("VALID" if whole else "PARTLY VALIDATED", tuple(checks))


def _distance_checks(table: pd.DataFrame) -> list[Check]:
    """oracle ~ floor; copy no worse than any generator; noise worse than all that is made of real films."""
    if table.empty:
        return []
    checks = []
    for extractor in table["extractor"].unique():
        rows = overall(table, extractor, "fid")
        rows = rows[rows.index != HELD_OUT]
        role = {str(r): name for name, r in rows["control"].items() if isinstance(r, str)}
        where = f"FD of {extractor}"
        if "oracle" in role:
            oracle = rows.loc[role["oracle"]]
            allowed = SPREADS * max(oracle["floor_sd"], (oracle["high"] - oracle["low"]) / 4) + SHARE * oracle["floor"]
            known = oracle["floor"] == oracle["floor"]  # NaN: too few real films for a floor
            checks.append(
                Check(
                    "oracle",
                    f"{where} within {allowed:.3g} of the floor {oracle['floor']:.3g}"
                    if known
                    else f"{where} at the floor",
                    f"{oracle['value']:.3g}" if known else "no floor: too few real films",
                    bool(oracle["excess"] <= allowed) if known else None,
                )
            )
        made_of_films = rows[rows["control"].notna() & (rows["control"] != "noise")]["value"]
        if "noise" in role and not made_of_films.empty:
            # Not against generators: one that has collapsed may lie farther off than noise. Its row is flagged.
            noise, worst = rows.loc[role["noise"], "value"], made_of_films.max()
            found = f"{noise:.3g}, and {worst:.3g} for {made_of_films.idxmax()}"
            checks.append(Check("noise", f"{where} larger than of any real films", found, bool(noise > worst)))
        learned = rows[rows["control"].isna()]
        if "copy" in role and not learned.empty:
            copy, best = rows.loc[role["copy"]], learned["value"].min()
            allowed = SPREADS * copy["floor_sd"] if copy["floor_sd"] == copy["floor_sd"] else SHARE * best
            found = f"{copy['value']:.3g}, and {best:.3g} for {learned['value'].idxmin()}"
            checks.append(
                Check("copy", f"{where} no larger than any generator's", found, bool(copy["value"] <= best + allowed))
            )
    return checks


def _label_checks(table: pd.DataFrame, classes: int) -> list[Check]:
    """shuffle's films do not show the class they are labelled with, wherever an extractor can see classes."""
    checks = []
    for extractor in [] if table.empty else table["extractor"].unique():
        rows = overall(table, extractor, "label_agreement")
        if HELD_OUT not in rows.index or not sees_classes(rows.loc[HELD_OUT, "value"], classes):
            continue
        for _, row in rows[rows["control"] == "shuffle"].iterrows():
            wrong = label_flag(row["value"], rows.loc[HELD_OUT, "value"], classes) == WRONG_LABELS
            found = f"label agreement {row['value']:.2f}, and {rows.loc[HELD_OUT, 'value']:.2f} for real films"
            checks.append(Check("shuffle", f"labels seen to be wrong by {extractor}", found, wrong))
    return checks


def _copy_checks(table: pd.DataFrame) -> list[Check]:
    """copy is caught, oracle is not; as a whole and by its parts."""
    checks = []
    for measure, what, test in (
        ("copies", "near-copies", "the memorization test"),
        ("copied_parts", "made from parts of training films", "the memorization test of parts"),
    ):
        measured = [] if table.empty or measure not in table else table.dropna(subset=[measure]).to_dict("records")
        for row in measured:
            found, limit = f"{row[measure]:.0%} {what}", SELDOM + row.get("copies_limit", 0.0)
            if row["control"] == "copy":
                checks.append(Check("copy", f"caught by {test}", found, bool(row[measure] > MOSTLY)))
            if row["control"] == "oracle":
                checks.append(Check("oracle", f"passed by {test}", found, bool(row[measure] < limit)))
    return checks


def _utility_checks(effects: Sequence[Effect]) -> list[Check]:
    """What controls do to the classifier.

    shuffle and noise never help; oracle helps where training films are few, and never hurts; oversample does neither,
    being the same films in as many steps.
    """
    checks = []
    for effect in effects:
        role: Role | None = effect.trial.generator.control if effect.trial.generator else None
        if role not in ("shuffle", "noise", "oracle", "oversample"):
            continue
        gain = effect.gain
        if gain is None or gain.reason:
            checks.append(Check(role, "a verdict", f"none: {gain.reason if gain else effect.verdict.reason}", None))
            continue
        classifier = effect.trial.classifier.name if effect.trial.classifier else ""
        found = f"{effect.verdict.word} ({gain.gain:+.3f}, {gain.low:+.3f} to {gain.high:+.3f}) in {classifier}"
        if role == "oracle":
            weak = effect.verdict.word == "undetermined"
            found += "; so this run is too small to see even what real films do" if weak else ""
            checks.append(
                Check(role, "real films help where they are few", found, effect.verdict.word != "hurts", weak)
            )
        elif role == "oversample":
            checks.append(Check(role, "neither helps nor hurts", found, effect.verdict.word == "undetermined"))
        else:
            checks.append(Check(role, "does not help", found, effect.verdict.word != "helps"))
    return checks


def _unmade(failures: Sequence[Record]) -> list[Check]:
    """Checks that could not be made because a control failed."""
    errors: dict[Role, list[str]] = {}
    for record in failures:
        role = record.trial.generator.control if record.trial.generator else None
        if role:
            errors.setdefault(role, []).append(f"{record.trial.describe()}: {record.error}")
    return [
        Check(role, "trials that end well", f"{len(found)} of its trials failed, such as {found[0]}", None)
        for role, found in errors.items()
    ]
