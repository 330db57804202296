"""What a study claims beside what was measured here, in the sections that were run under its recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from cxrbench.recipes import REAL_ONLY, Claim, Recipe, kept_recipes
from cxrbench.report import tables
from cxrbench.report.analysis import Analysis
from cxrbench.report.formats import MISSING, interval, number, spread

NO_FLAG = "no flag"


def claim_lines(root: Path, analysis: Analysis) -> list[str]:
    """One part of the page for each recipe that the section was run under and that claims something.

    Args:
        root: the results folder.
    """
    lines: list[str] = []
    for kept in kept_recipes(root):
        if isinstance(kept, Path):
            lines += ["", f"`{kept.relative_to(root).as_posix()}` cannot be read: run its recipe again."]
        elif kept.recipe.claims and (analysis.section.data_hash, analysis.section.spec_hash) in kept.sections:
            lines += ["", f"### Claimed and measured: {kept.recipe.study}", "", *_part(kept.recipe, analysis)]
    return lines


def claims_table(claims: Iterable[Claim], analysis: Analysis) -> pd.DataFrame:
    """One row, as it is shown, per claim and arm it is about; none for a claim that nothing was measured for.

    Scores are means ± standard deviations over the arm's runs; gains are the leaderboard's, in macro AUROC. A claim
    in words is set beside the flags of the generator's films.
    """
    rows = []
    for claim in claims:
        for arm in measured_arms(claim, analysis).to_dict("records"):
            scores = _scores(claim, arm, analysis)
            flags = ", ".join(analysis.flags.get(str(arm["generator"]), ()))
            verdict = arm.get("verdict")
            rows.append(
                {
                    "what": _what(claim),
                    "claimed for": _claimed_arm(claim),
                    "claimed": claim.says or number(_value(claim), ".3f"),
                    "where": claim.where,
                    "measured for": _arm(arm),
                    "measured": (flags or NO_FLAG) if claim.says else spread(scores.mean(), scores.std()),
                    "runs": arm["runs"],
                    "gain in AUROC (95 % interval)": interval(arm["gain"], arm["low"], arm["high"]),
                    "verdict": verdict if isinstance(verdict, str) else MISSING,
                    "flags": flags,
                }
            )
    return pd.DataFrame(rows)


def gains_table(claims: Sequence[Claim], analysis: Analysis) -> pd.DataFrame:
    """One row, as it is shown, per claimed gain and arm it is about: both sides and their difference, twice."""
    rows = []
    for claim, base in claimed_gains(claims):
        without = {
            arm["classifier"]: _scores(base, arm, analysis).mean()
            for arm in measured_arms(base, analysis).to_dict("records")
        }
        for arm in measured_arms(claim, analysis).to_dict("records"):
            real, both = without.get(arm["classifier"], float("nan")), _scores(claim, arm, analysis).mean()
            rows.append(
                {
                    "what": _what(claim),
                    "arm": _arm(arm),
                    "claimed: real only": number(_value(base), ".3f"),
                    "claimed: with synthetic": number(_value(claim), ".3f"),
                    "claimed gain": number(_value(claim) - _value(base), "+.3f"),
                    "measured: real only": number(real, ".3f"),
                    "measured: with synthetic": number(both, ".3f"),
                    "measured gain": number(both - real, "+.3f"),
                    "gain in AUROC (95 % interval)": interval(arm["gain"], arm["low"], arm["high"]),
                }
            )
    return pd.DataFrame(rows)


def claimed_gains(claims: Sequence[Claim]) -> list[tuple[Claim, Claim]]:
    """Each number claimed with synthetic films, and the one of the same measure and classifier claimed without."""

    def subject(claim: Claim) -> tuple[object, ...]:
        return claim.what, claim.of_class, claim.classifier, claim.classes

    numbers = [claim for claim in claims if claim.value is not None]
    bases = {subject(claim): claim for claim in numbers if claim.generator == REAL_ONLY}
    augmented = [claim for claim in numbers if claim.generator != REAL_ONLY]
    return [(claim, bases[subject(claim)]) for claim in augmented if subject(claim) in bases]


def measured_arms(claim: Claim, analysis: Analysis) -> pd.DataFrame:
    """The rows of the leaderboard that a claim is about.

    The claim's own ratio where it was measured, else every ratio of its generator: the tables name it.
    """
    board, section = analysis.board, analysis.section
    if board.empty or _other_classes(claim, section.classes):
        return board[:0]
    arms = board[(board["arm"] == "augment") & (board["real_share"] == 1)]
    arms = arms[[_is_called(name, claim.generator) for name in arms["generator"]]]
    if claim.classifier:
        arms = arms[[_is_called(name, claim.classifier) for name in arms["classifier"]]]
    same = arms[arms["ratio"] == claim.ratio]
    return arms if same.empty else same


def unmeasured(claim: Claim, analysis: Analysis) -> str:
    """Why no measured arm matches a claim; empty where one does."""
    if not measured_arms(claim, analysis).empty:
        return ""
    section = analysis.section
    if other := _other_classes(claim, section.classes):
        return other
    plugins = [name for name in (claim.generator, claim.classifier) if name and name != REAL_ONLY]
    wanted = " with ".join(f"`{name}`" for name in plugins) or REAL_ONLY
    ended = {
        str(record.status)
        for record in section.failures
        if record.trial.generator and _is_called(record.trial.generator.name, claim.generator)
    }
    return f"no arm of {wanted} was measured" + (f"; its trials ended {', '.join(sorted(ended))}" if ended else "")


def _part(recipe: Recipe, analysis: Analysis) -> list[str]:
    section, source = analysis.section, recipe.source
    films = {record.counts["films"] for record in section.of("data")}
    here = f"{', '.join(map(str, sorted(films)))} films" if films else "films"
    lines = [
        f"*{recipe.title}*, {source.venue}{f', <{source.url}>' if source.url else ''}. Claimed for {recipe.data.what}: "
        f"{recipe.data.films}, in {len(recipe.data.classes)} classes ({', '.join(recipe.data.classes)}). Measured on "
        f"`{section.data}`, tier `{section.tier}`: {here} in {len(section.classes)} classes "
        f"({', '.join(section.classes)}). " + _CLAIMS_NOTE
    ]
    for table in (claims_table(recipe.claims, analysis), gains_table(recipe.claims, analysis)):
        if not table.empty:
            lines += ["", tables.markdown(table)]
    numbers = [claim for claim in recipe.claims if claim.value is not None and claim.generator != REAL_ONLY]
    missing = [(claim, why) for claim in recipe.claims if (why := unmeasured(claim, analysis))]
    said = [
        f"Not measured here: {_what(claim)} of {_claimed_arm(claim)}, claimed to be "
        f"{claim.says or number(_value(claim), '.3f')} ({claim.where}): {why}."
        for claim, why in missing
    ]
    if numbers and not claimed_gains(recipe.claims):
        said.append("No gain is claimed that could be compared: there is no claim for real films alone.")
    return [*lines, "", *(f"- {text}" for text in [*said, *recipe.notes])]


_CLAIMS_NOTE = (
    "Films, splits, steps and test set are others than the study's, so a difference alone refutes nothing; a claim "
    "has no interval. Scores: mean ± standard deviation over runs, on test films."
)


def _scores(claim: Claim, arm: Mapping[str, object], analysis: Analysis) -> pd.Series:
    """The claimed measure in every run of an arm; empty where it is none, or was not measured."""
    name = f"{claim.what}/{claim.of_class}" if claim.of_class else claim.what
    runs = analysis.utility[analysis.utility["row"] == arm["row"]]
    return runs[name] if name in runs else pd.Series(dtype=float)


def _other_classes(claim: Claim, classes: Sequence[str]) -> str:
    """Why a claim is about other classes than were run; empty where it is not."""
    if claim.classes and claim.classes != len(classes):
        return f"it is of {claim.classes} classes, and here are {len(classes)}"
    if claim.of_class and claim.of_class not in classes:
        return f"no class is called {claim.of_class!r} here"
    return ""


def _is_called(name: str, wanted: str) -> bool:
    """Whatever its parameters, unless the claim names them."""
    return wanted in (name, name.partition(":")[0])


def _value(claim: Claim) -> float:
    return float("nan") if claim.value is None else claim.value


def _what(claim: Claim) -> str:
    return f"{claim.what} of {claim.of_class}" if claim.of_class else claim.what


def _claimed_arm(claim: Claim) -> str:
    arm = claim.generator if claim.ratio is None else f"{claim.generator} x {claim.ratio:g}"
    return f"{claim.classifier}, {arm}" if claim.classifier else arm


def _arm(arm: Mapping[str, object]) -> str:
    generator = arm["generator"]
    name = generator if generator == REAL_ONLY else f"{generator} x {float(str(arm['ratio'])):g}"
    return f"{arm['classifier']}, {name}"
