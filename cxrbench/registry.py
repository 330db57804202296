"""One registry for every kind of plug-in: names are listed without importing anything."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

import pydantic

from cxrbench.contracts import Classifier, Dataset, FeatureExtractor, Generator
from cxrbench.errors import UsageError
from cxrbench.hashing import plugin_parameters

NAME = re.compile(r"^[a-z0-9][a-z0-9_.-]{0,63}$")

T = TypeVar("T")


class Registry(Generic[T]):
    """Plug-ins of one kind, from the ``register`` decorator and from the entry points of a group.

    Args:
        kind: what one plug-in is called in messages, e.g. ``generator``.
        group: the entry-point group, e.g. ``cxrbench.generators``.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._decorated: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator. Registering the same class twice (decorator and entry point) is harmless.

        Raises:
            ValueError: the name is malformed, or another class has it.
        """
        if not NAME.fullmatch(name):
            raise ValueError(f"{self.kind} name {name!r} does not match {NAME.pattern}")

        def decorate(cls: type[T]) -> type[T]:
            holder = self._decorated.setdefault(name, cls)
            if (holder.__module__, holder.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ValueError(
                    f"{self.kind} {name!r} is taken by {holder.__module__}.{holder.__qualname__}; "
                    f"rename {cls.__module__}.{cls.__qualname__}"
                )
            self._decorated[name] = cls  # a reloaded module replaces its own class
            return cls

        return decorate

    def names(self) -> list[str]:
        """All known names, sorted. Imports no plug-in."""
        return sorted({*self._decorated, *self._entry_points()})

    def origin(self, name: str) -> str:
        """The distribution that brings a plug-in, for listings. Imports no plug-in."""
        points = self._entry_points().get(name, [])
        distributions = sorted({point.dist.name for point in points if point.dist})
        return ", ".join(distributions) or "this process"

    def get(self, name: str) -> type[T]:
        """Import one plug-in's class.

        Raises:
            UsageError: no plug-in has the name (the nearest names are given), two distributions claim
                it, or importing it failed.
        """
        if name in self._decorated:
            return self._decorated[name]
        point = self._declared(name)
        try:
            loaded: type[T] = point.load()
        except Exception as error:
            raise UsageError(
                f"{self.kind} {name!r} ({point.value}) cannot be imported: {type(error).__name__}: {error}"
            ) from error
        return self._decorated.get(name, loaded)

    def declared_module(self, name: str) -> str | None:
        """The module of the entry point that ``get`` takes this name's class from; None where it is from elsewhere.

        Raises:
            UsageError: no plug-in has the name, or two distributions claim it.
        """
        held = self._decorated.get(name)
        if held is not None and not self._entry_points().get(name):
            return None
        point = self._declared(name)
        return point.module if held is None or f"{held.__module__}:{held.__qualname__}" == point.value else None

    def create(self, name: str, **params: Any) -> T:
        """Make a plug-in with these hyper-parameters, checked against its fields' types.

        Raises:
            UsageError: unknown name or parameter, or a value of the wrong type.
        """
        cls = self.get(name)
        if not dataclasses.is_dataclass(cls):
            raise UsageError(f"{self.kind} {name!r} is no dataclass; plug-ins declare parameters as fields")
        types = typing.get_type_hints(cls)
        known = [field.name for field in dataclasses.fields(cls) if field.init]
        checked = {}
        for key, value in params.items():
            if key not in known:
                raise UsageError(f"{self.kind} {name!r} has no parameter {key!r}; it has {', '.join(known) or 'none'}")
            try:
                checked[key] = pydantic.TypeAdapter(types[key]).validate_python(value)
            except pydantic.ValidationError as error:
                problem = error.errors()[0]["msg"]
                raise UsageError(f"{self.kind} {name!r}: parameter {key}={value!r}: {problem}") from None
        try:
            return typing.cast(T, cls(**checked))
        except (TypeError, ValueError) as error:  # a required field, or a value its own check refuses
            raise UsageError(f"{self.kind} {name!r}: {error}") from None

    def parse(self, text: str) -> tuple[str, T]:
        """Make a plug-in from ``name`` or ``name:key=value:key=value``.

        Returns:
            Its display name (the name, with the parameters that differ from the defaults) and itself.
        """
        name, *pairs = text.split(":")
        params: dict[str, Any] = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not equals:
                raise UsageError(f"{text!r}: {pair!r} is no key=value; write {name}:key=value:key=value")
            if key in params:
                raise UsageError(f"{text!r}: {key} is given twice")
            params[key] = value
        plugin = self.create(name, **params)
        values, defaults = plugin_parameters(plugin), _defaults(self.get(name))
        shown = [f":{key}={value}" for key, value in values.items() if value != defaults.get(key)]
        return name + "".join(shown), plugin

    def _declared(self, name: str) -> EntryPoint:
        points = self._entry_points().get(name, [])
        if not points:
            raise UsageError(self._unknown(name))
        if len({point.value for point in points}) > 1:
            raise UsageError(f"{self.kind} {name!r} is declared by {self.origin(name)}; uninstall all but one of them")
        return points[0]

    def _entry_points(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            if NAME.fullmatch(point.name):
                found.setdefault(point.name, []).append(point)
        return found

    def _unknown(self, name: str) -> str:
        names = self.names()
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
        return f"unknown {self.kind} {name!r}; {hint}"


def _defaults(cls: type) -> dict[str, Any]:
    """The defaults of a dataclass's parameters; ``MISSING`` where there is none."""
    return {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(cls)
        if field.init
    }


GENERATORS: Registry[Generator] = Registry("generator", "cxrbench.generators")
CLASSIFIERS: Registry[Classifier] = Registry("classifier", "cxrbench.classifiers")
DATASETS: Registry[Dataset] = Registry("data set", "cxrbench.datasets")
EXTRACTORS: Registry[FeatureExtractor] = Registry("extractor", "cxrbench.extractors")
