"""The trials of a row planned anew from its records alone; or what of a record's key is different today."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from cxrbench.asked import Asked, prepare, request_of
from cxrbench.errors import UsageError
from cxrbench.hashing import plugin_identity
from cxrbench.records import PluginRef, Record, Trial
from cxrbench.references import files_of, identity_of
from cxrbench.spec import DEFAULT_EXTRACTORS

if TYPE_CHECKING:  # they import torch
    from cxrbench.plan import Plan
    from cxrbench.stages import DataIndex


class Clean(Protocol):
    """Takes out of a data set what an audit finds."""

    def __call__(self, index: DataIndex, policy: str, device: str) -> DataIndex: ...


@dataclass(frozen=True)
class Rerun:
    """Records that one request led to, and a plan of their trials alone."""

    asked: Asked
    records: list[Record]
    index: DataIndex
    plan: Plan


def asked_again(record: Record, data: str = "", external: str = "", device: str = "auto") -> Asked:
    """The options that make the plan of a record's run anew, without what does not decide the record.

    Args:
        data, external: where the films lie now, if not where the record says.
        device: ``auto`` is the recorded one.

    Raises:
        UsageError: the record keeps no request, or one that is none; or ``external`` is given for a run without.
    """
    what = f"record {record.key[:12]} ({record.trial.describe()})"
    request = record.provenance.get("request")
    if not request:
        raise UsageError(f"{what} keeps no request, so its run cannot be planned again: it is of an earlier cxrbench")
    try:
        asked = Asked.model_validate(request)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise UsageError(f"{what} keeps a request that is none: {where}: {problem['msg']}") from None
    if external and not asked.external:
        raise UsageError(f"--external {external}: the run of {what} had no external films")
    # Films that the trial is not scored on need not be here, unless a rename names one of their classes.
    needed = record.trial.kind == "external" or asked.labels
    # An extractor that is here today and was not then (or the other way round) would make another trial.
    extractors = ",".join(record.trial.extractors) or DEFAULT_EXTRACTORS[0]
    return asked.model_copy(
        update={
            "data": data or asked.data,
            "external": external or (asked.external if needed else ""),
            "device": _recorded_device(record, asked) if device == "auto" else device,
            "extractors": extractors,
        }
    )


def plan_again(
    records: Sequence[Record], clean: Clean, data: str = "", external: str = "", device: str = "auto"
) -> tuple[list[Rerun], list[str]]:
    """Plan every record's trial by the request that the record keeps (a row may be the work of several commands).

    Args:
        data, external, device: as for ``asked_again``.

    Returns:
        The runs; and for the records whose trials are in no plan, why: if there are such, nothing should be run.

    Raises:
        UsageError: a record without a usable request, or a plug-in or folder that is not there.
        DataError: the data cannot be benchmarked.
    """
    groups: dict[Asked, list[Record]] = {}
    for record in records:
        groups.setdefault(asked_again(record, data, external, device), []).append(record)
    reruns, why = [], []
    for asked, group in groups.items():
        _check_places(asked)
        request = request_of(asked)
        index, plan = prepare(asked, request, partial(clean, policy=asked.clean, device=request.device))
        planned = {trial.key: trial for trial in plan.trials}
        for record in group:
            if record.key not in planned or record.trial.key != record.key:
                why += explain_mismatch(record, plan)
            else:
                why += _misnamed(record, planned[record.key])
        wanted = [planned[record.key] for record in group if record.key in planned]
        reruns.append(Rerun(asked, group, index, replace(plan, trials=wanted)))
    return reruns, list(dict.fromkeys(why))  # repetitions differ in the same things: each is said once


def explain_mismatch(record: Record, plan: Plan) -> list[str]:
    """Why no trial of the plan has the record's key: one line for each thing that differs, most basic first.

    Of the planned trials in the record's place (same kind, arm, ratio, seeds and names of plug-ins), the one that
    differs least is compared.
    """
    trial = record.trial
    if trial.key != record.key:
        return [
            f"record {record.key[:12]}: its key is not the key of the trial it holds: it was edited, or keys are made "
            "in another way today"
        ]
    there = [_differences(trial, planned, plan) for planned in plan.trials if _place(planned) == _place(trial)]
    if not there:
        return [
            f"plan: the record's own request does not lead to {trial.describe()} (split {trial.setting.split_seed})"
        ]
    return min(there, key=len)


def _misnamed(record: Record, planned: Trial) -> list[str]:
    """Names are not part of the key, and they are what a reader of the leaderboard goes by."""
    # A folder may be moved, and an extractor described in other words.
    free: Any = {"setting": {"data"}, "extractors": True, "external_data": True}
    mine, theirs = (trial.model_dump(mode="json", exclude=free) for trial in (record.trial, planned))
    wrong = [name for name in mine if mine[name] != theirs[name]]
    who = f"record {record.key[:12]}"
    return [f"{who}: its {', '.join(wrong)} cannot be called what the record calls it"] if wrong else []


def _recorded_device(record: Record, asked: Asked) -> str:
    """Where ``auto`` was asked for, the machine's name tells: ``device_name`` gives a CPU its number of cores."""
    if asked.device == "auto" and re.search(r", \d+ cores?$", str(record.provenance.get("device", ""))):
        return "cpu"
    return asked.device


def _check_places(asked: Asked) -> None:
    from cxrbench.datasets.resolve import resolve_dataset

    for option, place in (("--data", asked.data), ("--external", asked.external)):
        try:
            if place:
                resolve_dataset(place)
        except UsageError as error:
            raise UsageError(f"{error}; if the films were moved, name their folder with {option}") from None


def _differences(trial: Trial, planned: Trial, plan: Plan) -> list[str]:
    """One line for each part of the two keys that differs; a part that only follows from another has none."""
    lines = []
    then, now = trial.setting, planned.setting
    if then.data_hash != now.data_hash:
        lines.append(f"data hash: {_hashes(then.data_hash, now.data_hash)}: other films, labels, patients or cleaning")
    elif then.split_key != now.split_key:
        lines.append(f"split: {_hashes(then.split_key, now.split_key)}: the same films are dealt out in another way")
    if (then.spec_hash, then.image_size) != (now.spec_hash, now.image_size):
        size = "" if then.image_size == now.image_size else f", films at {then.image_size} px, now {now.image_size}"
        lines.append(f"spec hash: {_hashes(then.spec_hash, now.spec_hash)}{size}: tier {now.tier} is another protocol")
    elif trial.real_share != planned.real_share:
        lines.append(f"share of the real films: {trial.real_share:g} in the record, {planned.real_share:g} here")
    if trial.generator and planned.generator:
        plugin: object = plan.generators[planned.generator.name]
        lines += _plugin_differences(trial.generator, planned.generator, plugin, now.image_size)
    if trial.classifier and planned.classifier:
        plugin = plan.classifiers[planned.classifier.name]
        lines += _plugin_differences(trial.classifier, planned.classifier, plugin, now.image_size)
    for name, extractor in trial.extractors.items():
        here = planned.extractors.get(name)
        if here is None:
            why = next(
                (note for note in plan.notes if note.startswith(f"{extractor.fd_label} ")), "it is not in the plan"
            )
            lines.append(f"extractor {name}: {why}")
        elif here.weights != extractor.weights:
            lines.append(f"extractor {name}: weights differ: {_hashes(extractor.weights, here.weights)}")
    if trial.external != planned.external and then.image_size == now.image_size:
        lines.append(f"external films: {_hashes(trial.external, planned.external)}: other films, labels or patients")
    return lines


def _plugin_differences(recorded: PluginRef, planned: PluginRef, plugin: object, size: int) -> list[str]:
    if recorded.identity == planned.identity:
        return []
    who = f"{recorded.kind} {recorded.name}"
    changed = [
        f"{name} {_value(recorded.params, name)} in the record, {_value(planned.params, name)} here"
        for name in {**recorded.params, **planned.params}
        if _value(recorded.params, name) != _value(planned.params, name)
    ]
    lines = [f"{who}: parameters differ: {'; '.join(changed)}"] if changed else []
    files = files_of(plugin, size)
    as_recorded = {**plugin_identity(planned.name.partition(":")[0], plugin), "params": recorded.params}
    if identity_of(as_recorded, files) != recorded.identity:
        # The record keeps one hash of both: which of them differs cannot be told where there are files.
        listed = ", ".join(f"{name} {digest[:12]}" for name, digest in files.items())
        lines.append(f"{who}: source or files differ (files here: {listed})" if files else f"{who}: source differs")
    return lines


def _value(params: Mapping[str, Any], name: str) -> str:
    return repr(params[name]) if name in params else "absent"


def _hashes(recorded: str, here: str) -> str:
    return f"{recorded[:12]} in the record, {here[:12]} here"


def _place(trial: Trial) -> tuple[object, ...]:
    """Where in the grid a trial stands, whatever its plug-ins and data are today."""
    plugins = [plugin.name.partition(":")[0] if plugin else None for plugin in (trial.generator, trial.classifier)]
    seeds = (trial.setting.split_seed, trial.generator_seed, trial.classifier_seed)
    return (trial.kind, trial.arm, trial.ratio, *seeds, *plugins)
