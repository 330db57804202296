"""What was asked of a run, in the words of the command line: kept with every record, so that a row can be re-run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from cxrbench.errors import UsageError
from cxrbench.spec import DEFAULT_CONTROLS, DEFAULT_EXTRACTORS, DEFAULT_SEEDS, spec_of_tier

if TYPE_CHECKING:  # plug-ins and torch are imported by the functions, so that `--help` is fast
    from cxrbench.plan import Plan, Request
    from cxrbench.stages import DataIndex

DEFAULT_GENERATORS = "cgan,dcgan,classical"


class Asked(BaseModel):
    """The options of ``cxrbench run``, as they were given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = "phantom"
    generators: str = DEFAULT_GENERATORS
    classifiers: str = "small-cnn"
    ratios: str = "0,0.5,1"
    tier: str = "quick"
    seeds: int | None = None
    classifier_seeds: int = 1
    splits: int = 1
    tune: int = 1
    controls: str = "all"
    extractors: str = "auto"
    device: str = "auto"
    pretrained: str = ""
    split_by: str = "auto"
    labels: str = ""
    external: str = ""
    clean: str = "none"


def request_of(asked: Asked) -> Request:
    """Check the options that need no data.

    Raises:
        UsageError: one of them is wrong.
    """
    from cxrbench.machine import choose_device
    from cxrbench.plan import Request, parse_names, parse_ratios

    spec = spec_of_tier(asked.tier, asked.split_by, asked.tune)
    repeats = {"--seeds": asked.seeds, "--classifier-seeds": asked.classifier_seeds, "--splits": asked.splits}
    for option, count in repeats.items():
        if count is not None and count < 1:
            raise UsageError(f"{option} {count}: at least one repetition is needed")
    classifiers = parse_names(asked.classifiers, "classifier")
    if asked.pretrained:
        classifiers = tuple(f"{name}:pretrained={asked.pretrained}" for name in classifiers)
    return Request(
        spec=spec,
        generators=parse_names(asked.generators, "generator"),
        classifiers=classifiers,
        ratios=parse_ratios(asked.ratios),
        seeds=asked.seeds or DEFAULT_SEEDS[asked.tier],
        device=choose_device(asked.device),
        classifier_seeds=asked.classifier_seeds,
        splits=asked.splits,
        controls=_controls(asked.controls),
        extractors=_extractors(asked),
    )


def prepare(asked: Asked, request: Request, clean: Callable[[DataIndex], DataIndex]) -> tuple[DataIndex, Plan]:
    """List the data and plan the trials; everything that can go wrong before the first trial goes wrong here.

    Args:
        clean: applies ``asked.clean`` to the listed data.

    Raises:
        UsageError: an option or plug-in is wrong.
        DataError: the data cannot be benchmarked.
    """
    from cxrbench.cache import Cache, default_cache_root
    from cxrbench.datasets.resolve import resolve_dataset
    from cxrbench.external import match_external
    from cxrbench.plan import make_plan
    from cxrbench.renames import parse_labels
    from cxrbench.stages import index_data

    renames, cache = parse_labels(asked.labels), Cache(default_cache_root())
    name, dataset = resolve_dataset(asked.data)
    if not asked.external:
        index = clean(index_data(name, dataset, renames))
        return index, make_plan(request, index, cache=cache)
    other_name, other = resolve_dataset(asked.external)
    index = clean(index_data(name, dataset, renames, other.classes()))
    tested = replace(index_data(other_name, other, renames, dataset.classes()), clean=asked.clean)
    return index, make_plan(request, index, match_external(tested, index.classes), cache)


def _extractors(asked: Asked) -> tuple[str, ...]:
    from cxrbench.plan import parse_names

    if asked.extractors != "auto":
        return parse_names(asked.extractors, "extractor")
    return ("radio-texture",) if asked.tier == "smoke" else DEFAULT_EXTRACTORS  # a net would take most of a smoke run


def _controls(text: str) -> tuple[str, ...]:
    """``all``, ``none`` or names."""
    if text == "all":
        return DEFAULT_CONTROLS
    from cxrbench.plan import parse_names

    return () if text == "none" else parse_names(text, "control")
