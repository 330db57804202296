"""Content hashes: canonical JSON to sha256, and the identity of a plug-in."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import json
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any


def canonical_hash(value: Any) -> str:
    """Return the sha256 (hex) of ``value`` as JSON with sorted keys and no spaces.

    Raises:
        TypeError: ``value`` holds something JSON cannot say.
        ValueError: it holds NaN or an infinity, which are not JSON.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plugin_parameters(plugin: Any) -> dict[str, Any]:
    """The hyper-parameters of a plug-in: its init fields, in order of declaration.

    Raises:
        TypeError: the plug-in is not a dataclass, so its parameters cannot be listed.
    """
    if not dataclasses.is_dataclass(plugin):
        raise TypeError(f"{type(plugin).__name__} is no dataclass; plug-ins declare parameters as fields")
    return {field.name: getattr(plugin, field.name) for field in dataclasses.fields(plugin) if field.init}


def plugin_identity(name: str, plugin: Any) -> dict[str, Any]:
    """What decides a plug-in's behaviour: its name, parameters and source code."""
    return {
        "name": name,
        "params": plugin_parameters(plugin),
        "source": {module: source_hash(module) for module in _modules(type(plugin))},
    }


def _modules(cls: type) -> list[str]:
    """The modules of a class and its bases, which may come from another package; not Python's own."""
    found = {base.__module__ for base in cls.__mro__}
    return sorted(name for name in found if name.partition(".")[0] not in sys.stdlib_module_names)


@functools.cache
def source_hash(module: str) -> str:
    """Hash a module's source with that of every module it imports from its own top-level package.

    So an edit to a training loop that a generator shares changes the generator's cache key, too.
    """
    root = module.partition(".")[0]
    sources: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = source_path(name)
        if name in sources or path is None:
            continue
        text = path.read_text(encoding="utf-8")
        sources[name] = hashlib.sha256(text.encode()).hexdigest()
        waiting += [
            found
            for found in _imported_names(text, name, path.name == "__init__.py")
            if found.partition(".")[0] == root
        ]
    return canonical_hash(sources)


def source_path(module: str) -> Path | None:
    """Where a module's source is, or None where it has none. Imports neither the module nor its packages."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        spec = _spec(module)
        file = spec.origin if spec else None
    return Path(file) if file and file.endswith(".py") else None


def _spec(module: str) -> ModuleSpec | None:
    """``importlib.util.find_spec``, which imports a module's packages to find it, without that."""
    package, _, name = module.rpartition(".")
    try:
        if not package:
            return importlib.util.find_spec(name)
    except ValueError:  # __main__
        return None
    parent = _spec(package)
    if parent is None or parent.submodule_search_locations is None:  # `from module import name` is no module
        return None
    return PathFinder.find_spec(module, parent.submodule_search_locations)


@functools.lru_cache(maxsize=512)  # plug-ins share most of what they import
def _imported_names(text: str, module: str, is_package: bool) -> list[str]:
    """What a module imports, and its packages, whose ``__init__`` runs first."""
    package = module if is_package else module.rpartition(".")[0]
    names = [package]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package
                for _ in range(node.level - 1):
                    parent = parent.rpartition(".")[0]
                base = f"{parent}.{base}" if base else parent
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return names
