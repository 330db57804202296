"""What a plan needs to know of a plug-in, kept, so that what is not going to run is not imported.

Importing plug-ins means importing torch, which takes longer than all else that a plan or a finished run needs. A card
holds what only the imported class can say; a plug-in's source is hashed anew each time, and a card is of one source.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from cxrbench.cache import Cache
from cxrbench.contracts import Classifier, Generator, Preflight, Role, Steppable, Tunable, role_of
from cxrbench.hashing import canonical_hash, plugin_identity, source_hash, source_path
from cxrbench.registry import Registry

STAGE = "cards"
CARD = "card.json"

T = TypeVar("T", Generator, Classifier)


class Card(BaseModel):
    """What is known of a plug-in with these parameters.

    Attributes:
        name: as ``Registry.parse`` returns it.
        identity: ``plugin_identity``: name, parameters and the source of its class and of that class's bases.
        control: its role, where it is a control.
        steppable, tunable, preflight: does it follow the contract of that name?
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    identity: dict[str, Any]
    control: Role | None
    steppable: bool
    tunable: bool
    preflight: bool

    @property
    def params(self) -> dict[str, Any]:
        """Its parameters by name, those that were not given included."""
        params: dict[str, Any] = self.identity["params"]
        return params


def describe(name: str, plugin: Generator | Classifier) -> Card:
    """The card of a plug-in that is imported; ``name`` is what ``Registry.parse`` returned."""
    return Card(
        name=name,
        identity=plugin_identity(name.partition(":")[0], plugin),
        control=role_of(plugin),
        steppable=isinstance(plugin, Steppable),
        tunable=isinstance(plugin, Tunable),
        preflight=isinstance(plugin, Preflight),
    )


def card_of(registry: Registry[T], text: str, cache: Cache | None) -> Card:
    """The card of ``name`` or ``name:key=value:key=value``; the plug-in is imported where none is kept.

    Args:
        cache: None where none is to be kept.

    Raises:
        UsageError: as ``Registry.parse``.
    """
    module = registry.declared_module(text.partition(":")[0])
    if cache is None or module is None or source_path(module) is None:  # None: made in this process; no source to hash
        return describe(*registry.parse(text))
    key = canonical_hash([registry.kind, text, module, source_hash(module), source_hash(__name__)])

    def build(folder: Path) -> None:
        (folder / CARD).write_text(describe(*registry.parse(text)).model_dump_json(), encoding="utf-8")

    try:
        card = _read(cache.get(STAGE, key, build))
        if any(source_hash(name) != digest for name, digest in card.identity["source"].items()):
            cache.drop(STAGE, key)  # a base class in another package was edited
            card = _read(cache.get(STAGE, key, build))
    except OSError:  # the cache's disk is full or read-only: that costs time, and a plan needs nothing else of it
        return describe(*registry.parse(text))
    return card


def _read(folder: Path) -> Card:
    return Card(**json.loads((folder / CARD).read_text(encoding="utf-8")))


class PlugIns(Mapping[str, T]):
    """Plug-ins by the name on their card, each imported and made when it is first asked for.

    Args:
        texts: what ``Registry.parse`` takes, by the name that it returns.
    """

    def __init__(self, registry: Registry[T], texts: Mapping[str, str]) -> None:
        self._registry: Registry[T] = registry
        self._texts = dict(texts)
        self._made: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._made:
            self._made[name] = self._registry.parse(self._texts[name])[1]
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


def look_up(registry: Registry[T], texts: Sequence[str], cache: Cache | None) -> tuple[list[Card], PlugIns[T]]:
    """The card behind each text, and the plug-ins.

    Raises:
        UsageError: as ``Registry.parse``.
    """
    cards = [card_of(registry, text, cache) for text in texts]
    return cards, PlugIns(registry, {card.name: text for card, text in zip(cards, texts, strict=True)})
