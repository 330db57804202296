"""Plug-ins and extractors as trials name them: by what they are called, and a hash of all that decides what they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from cxrbench.cards import Card, describe
from cxrbench.contracts import Classifier, FeatureExtractor, Generator, Preflight, WeightsUnavailable
from cxrbench.errors import UsageError
from cxrbench.hashing import canonical_hash
from cxrbench.records import ExtractorRef, PluginRef
from cxrbench.registry import EXTRACTORS

PlugInKind = Literal["generator", "classifier"]
PlugInT = TypeVar("PlugInT", Generator, Classifier)


def plugin_references(
    cards: Mapping[str, Card], plugins: Mapping[str, PlugInT], kind: PlugInKind, size: int
) -> list[PluginRef]:
    """The plug-ins of these cards; of them only those are asked for that have files to look at.

    Raises:
        UsageError: a preflight fails.
    """
    return [
        _reference(card, kind, files_of(plugins[name], size) if card.preflight else {}) for name, card in cards.items()
    ]


def plugin_reference(name: str, plugin: Generator | Classifier, kind: PlugInKind, size: int) -> PluginRef:
    """A plug-in as trials name it, for films of ``size`` pixels; ``name`` is what ``Registry.parse`` returned.

    Raises:
        UsageError: its preflight fails.
    """
    return _reference(describe(name, plugin), kind, files_of(plugin, size))


def files_of(plugin: object, size: int) -> dict[str, str]:
    """File -> sha256 of what the plug-in reads, for films of ``size`` pixels.

    Raises:
        UsageError: its preflight fails.
    """
    return dict(plugin.preflight(size)) if isinstance(plugin, Preflight) else {}


def identity_of(decides: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """sha256 of name, source and parameters (``plugin_identity``), and the files that are read."""
    return canonical_hash({**decides, "files": dict(files)})


def _reference(card: Card, kind: PlugInKind, files: Mapping[str, str]) -> PluginRef:
    identity = identity_of(card.identity, files)
    return PluginRef(name=card.name, kind=kind, params=card.params, identity=identity, control=card.control)


def usable_extractors(names: Sequence[str]) -> tuple[dict[str, FeatureExtractor], list[str]]:
    """Those extractors whose weights can be had, by name, and a note on each of the others.

    Raises:
        UsageError: an unknown name, or none can be used.
    """
    usable: dict[str, FeatureExtractor] = {}
    notes: list[str] = []
    for name in names:
        extractor = EXTRACTORS.create(name)
        try:
            extractor.weights_sha256()
        except WeightsUnavailable as error:
            notes.append(f"{extractor.fd_label} is left out: {error}")
        else:
            usable[name] = extractor
    if not usable:
        raise UsageError("no feature extractor can be used: " + "; ".join(notes))
    return usable, notes


def extractor_reference(extractor: FeatureExtractor) -> ExtractorRef:
    """The extractor with its weights as they are here."""
    return ExtractorRef(
        weights=extractor.weights_sha256(),
        fd_label=extractor.fd_label,
        kd_label=extractor.kd_label,
        resize=extractor.resize,
    )
