"""Records -> tables. A section holds the records that may be compared: same data, same spec."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxrbench.records import PluginRef, Record, Status, Trial

REAL_ONLY = "real only"
ARM = ["classifier", "generator", "ratio"]
HEADLINE = ("auroc_macro", "f1_macro", "balanced_accuracy", "accuracy")
FD_LABELS = {"lite0": ("FD-lite0", "KID-lite0"), "inception": ("FID", "KID")}


@dataclass(frozen=True)
class Section:
    """Comparable records.

    Attributes:
        records: those that ended ``ok``, the newest of each plug-in's versions.
        failures: the trials that did not end ``ok``.
        superseded: records of older versions of a plug-in, kept but not shown.
    """

    data: str
    tier: str
    data_hash: str
    spec_hash: str
    records: list[Record]
    failures: list[Record]
    superseded: int

    @property
    def slug(self) -> str:
        """A folder name that tells sections apart."""
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in self.data)
        return f"{safe}-{self.tier}-{self.data_hash[:6]}{self.spec_hash[:6]}"

    @property
    def classes(self) -> tuple[str, ...]:
        return next((record.classes for record in self.records if record.classes), ())

    @property
    def split_by(self) -> str:
        """How the films were divided."""
        return (self.records or self.failures)[0].trial.setting.split_by

    def of(self, kind: str) -> list[Record]:
        """The records of one kind of trial."""
        return [record for record in self.records if record.trial.kind == kind]


def sections(records: Iterable[Record]) -> list[Section]:
    """Sort records into comparable sections, by data set and tier."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        setting = record.trial.setting
        groups.setdefault((setting.data_hash, setting.split_key, setting.spec_hash), []).append(record)
    found = []
    for (data_hash, _, spec_hash), group in groups.items():
        current = _newest_versions(group)
        found.append(
            Section(
                group[0].trial.setting.data,
                group[0].trial.setting.tier,
                data_hash,
                spec_hash,
                [record for record in current if record.status is Status.OK],
                [record for record in current if record.status is not Status.OK],
                len(group) - len(current),
            )
        )
    return sorted(found, key=lambda s: (s.data, s.tier, s.spec_hash))


def utility_table(section: Section) -> pd.DataFrame:
    """One row per trained classifier, with every score."""
    return _scored(section.of("utility"))


def external_sets(section: Section) -> dict[str, list[Record]]:
    """The external trials of each external test set, the set measured last first."""
    found: dict[str, list[Record]] = {}
    for record in newest_first(section.of("external")):
        found.setdefault(record.trial.external, []).append(record)
    return found


def external_table(section: Section) -> pd.DataFrame:
    """One row per external test set and arm: mean and spread of macro AUROC inside and outside.

    Both are means over the classes that the external set has, and over the seeds that have both; gains are
    paired with the real-only run of the same seed.
    """
    inside, found = utility_table(section), []
    for external, records in external_sets(section).items():
        outside = _scored(records)
        present = [f"auroc/{name}" for name in section.classes if f"auroc/{name}" in outside]
        table = outside[[*ARM, "seed", "test"]].assign(external_auroc=outside[present].mean(axis=1))
        if inside.empty:
            table["internal_auroc"] = float("nan")
        else:
            same = inside[[*ARM, "seed"]].assign(internal_auroc=inside[present].mean(axis=1))
            table = table.merge(same, on=[*ARM, "seed"], how="left")
        for where in ("internal", "external"):
            table[f"{where}_gain"] = _paired_gain(table, f"{where}_auroc")
        table["drop"] = table["internal_auroc"] - table["external_auroc"]
        measured = ("internal_auroc", "external_auroc", "drop", "internal_gain", "external_gain")
        arms = table.groupby(ARM, sort=False).agg(
            n=("test", "first"),
            seeds=("seed", "nunique"),
            gain_seeds=("external_gain", "count"),
            **{f"{name}_mean": (name, "mean") for name in measured},
            **{f"{name}_sd": (name, "std") for name in measured},
        )
        arms = arms.reset_index().sort_values(
            ["classifier", "internal_gain_mean"], ascending=[True, False], kind="stable"
        )
        gains = [f"{where}_gain_{what}" for where in ("internal", "external") for what in ("mean", "sd")]
        arms.loc[arms["generator"] == REAL_ONLY, gains] = float("nan")
        arms.insert(0, "external", records[0].trial.external_data or external[:12])
        arms.insert(1, "external_key", external[:12])
        found.append(arms)
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _scored(records: list[Record]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "classifier": _name(record.trial.classifier),
                "generator": _generator(record.trial),
                "ratio": record.trial.ratio,
                "seed": record.trial.classifier_seed,
                **record.scores,
                **record.counts,
                "seconds": record.provenance.get("seconds"),
                "key": record.key,
            }
            for record in records
        ]
    )


def _paired_gain(table: pd.DataFrame, score: str) -> NDArray[np.float64]:
    """Over the real-only run of the same classifier and seed; NaN where there is none."""
    base = table[table["generator"] == REAL_ONLY].set_index(["classifier", "seed"])[score]
    pairs = pd.MultiIndex.from_frame(table[["classifier", "seed"]])
    return np.asarray(table[score].to_numpy() - base.reindex(pairs).to_numpy(), np.float64)


def leaderboard(section: Section) -> pd.DataFrame:
    """Each classifier's arms, ranked by their mean gain in macro AUROC over real films alone.

    The gain is paired with the real-only run of the same seed, so arms that ran other seeds can be ranked
    together; an arm without a baseline to pair with stands last, unranked. Where an external test set was
    scored, the one measured last adds ``external_auroc`` and ``external_gain`` (mean and sd).
    """
    table = utility_table(section)
    if table.empty:
        return table
    table["gain"] = _paired_gain(table, "auroc_macro")
    by_arm = table.groupby(ARM, sort=False)
    ranked = by_arm.agg(
        seeds=("seed", "nunique"),
        gain_seeds=("gain", "count"),
        **{f"{name}_mean": (name, "mean") for name in (*HEADLINE, "gain")},
        **{f"{name}_sd": (name, "std") for name in (*HEADLINE, "gain")},
        train_synthetic=("train_synthetic", "first"),
        train_real=("train_real", "first"),
        test=("test", "first"),
    ).reset_index()
    ranked = ranked.sort_values(["classifier", "gain_mean"], ascending=[True, False], kind="stable")
    places = ranked.groupby("classifier")["gain_mean"].rank(ascending=False, method="min")
    ranked.insert(0, "rank", places.astype("Int64"))
    ranked.loc[ranked["generator"] == REAL_ONLY, ["gain_mean", "gain_sd"]] = float("nan")
    outside = external_table(section)
    if not outside.empty:
        newest = outside[outside["external_key"] == outside["external_key"].iloc[0]]
        columns = [f"external_{name}_{what}" for name in ("auroc", "gain") for what in ("mean", "sd")]
        ranked = ranked.merge(newest[[*ARM, *columns]], on=ARM, how="left")
    return ranked.reset_index(drop=True)


def rank_text(rank: object) -> str:
    """A rank of ``leaderboard`` as it is shown: nothing where an arm is unranked."""
    return "" if rank is pd.NA else str(rank)


def per_class_table(section: Section) -> pd.DataFrame:
    """Mean precision, recall, F1 and AUROC of each class in every arm."""
    table = utility_table(section)
    if table.empty:
        return table
    rows = []
    for arm, group in table.groupby(ARM, sort=False):
        for name in section.classes:
            values = {m: group[f"{m}/{name}"].mean() for m in ("precision", "recall", "f1", "auroc")}
            rows.append({**dict(zip(ARM, arm, strict=True)), "class": name, **values})
    return pd.DataFrame(rows)


def fidelity_table(section: Section) -> pd.DataFrame:
    """Distances to the training films, mean and spread over generator seeds, per class and overall."""
    rows = []
    for record in newest_first(section.of("fidelity")):
        for key, value in record.scores.items():
            extractor, _, rest = key.partition("/")
            who, _, metric = rest.rpartition("/")  # a class name may hold a slash
            rows.append(
                {
                    "generator": record.trial.generator.name if record.trial.generator else "real held-out",
                    "extractor": extractor,
                    "class": who,
                    "n": record.counts.get(f"n/{who}", sum(record.counts.values())),
                    "seed": record.trial.generator_seed,
                    "metric": metric,
                    "value": value,
                }
            )
    if not rows:
        return pd.DataFrame()
    # A run that found another extractor's weights measures the others again: only the newest value counts.
    long = pd.DataFrame(rows).drop_duplicates(["generator", "seed", "extractor", "class", "metric"])
    by = long.groupby(["extractor", "generator", "class", "n", "metric"], sort=False)["value"]
    wide = by.agg(["mean", "std"]).unstack("metric")
    wide.columns = [f"{metric}_{which}" for which, metric in wide.columns]
    wide["seeds"] = long.groupby(["extractor", "generator", "class", "n"], sort=False)["seed"].nunique()
    return wide.reset_index().sort_values(["extractor", "class", "fid_mean"], kind="stable")


def throughput_table(section: Section) -> pd.DataFrame:
    """Train-step speed of every plug-in that can be stepped, fastest first."""
    rows = [
        {
            "kind": plugin.kind,
            "plugin": plugin.name,
            "device": record.trial.environment,
            "batch": record.counts.get("images_per_step"),
            "step_ms": 1000 * record.scores["step_seconds"],
            "images_per_second": record.scores["images_per_second"],
            "peak_memory_mb": record.scores["peak_memory_bytes"] / 2**20,
        }
        for record in section.of("throughput")
        if (plugin := record.trial.generator or record.trial.classifier) is not None
    ]
    table = pd.DataFrame(rows)
    return table if table.empty else table.sort_values(["kind", "images_per_second"], ascending=[True, False])


def markdown(table: pd.DataFrame) -> str:
    """A GitHub table; floats must have been formatted before."""

    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    rows = [line(list(table.columns)), line(["---"] * len(table.columns))]
    return "\n".join(rows + [line(row) for row in table.itertuples(index=False)])


def newest_first(records: Iterable[Record]) -> list[Record]:
    """By the time they were measured."""
    return sorted(records, key=_started, reverse=True)


def _newest_versions(records: list[Record]) -> list[Record]:
    """Drop records that rest on a version of a plug-in that a newer one has replaced.

    Only a trial that ended well replaces an older version; a failure is shown if nothing newer went well.
    """
    newest: dict[tuple[str, str], tuple[str, str]] = {}
    for record in records:
        if record.status is Status.OK:
            for plugin in _plugins(record.trial):
                known = newest.get((plugin.kind, plugin.name), ("", ""))
                newest[plugin.kind, plugin.name] = max(known, (_started(record), plugin.identity))

    def is_current(record: Record) -> bool:
        versions = [(newest.get((p.kind, p.name), ("", p.identity)), p) for p in _plugins(record.trial)]
        if all(known[1] == plugin.identity for known, plugin in versions):
            return True
        return record.status is not Status.OK and all(_started(record) > known[0] for known, _ in versions)

    return [record for record in records if is_current(record)]


def _started(record: Record) -> str:
    return str(record.provenance.get("started", ""))


def _plugins(trial: Trial) -> list[PluginRef]:
    return [plugin for plugin in (trial.generator, trial.classifier) if plugin is not None]


def _generator(trial: Trial) -> str:
    return trial.generator.name if trial.generator else REAL_ONLY


def _name(plugin: PluginRef | None) -> str:
    return plugin.name if plugin else ""
