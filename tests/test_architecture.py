"""The shape of the code: imports point one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the bottom up: a module may import from lines above its own, and from its own line.
LAYERS = [
    {"errors", "hashing"},
    {"contracts"},
    {"leakage", "renames", "sources"},
    {"cache", "spec", "splits", "duplicates", "machine", "records"},
    {"registry"},
    {"cards", "datasets", "features", "fetch", "metrics", "store"},
    {"loading", "stages", "film_features", "feature_files", "throughput", "progress", "statistics"},
    {"external", "synthesis", "learning", "comparison", "references"},
    {"plan", "executors", "checks", "audit"},
    {"workbench", "costs"},
    {"asked", "recipes", "runner", "report", "verification", "rerun", "rescoring", "models", "film_files"},
    {"cli_data", "cli_audit", "cli_compare", "cli_run", "cli_train", "cli_verify"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def modules():
    return sorted((ROOT / "cxrbench").rglob("*.py"))


def part(path):
    """The top-level part of the package a file belongs to."""
    relative = path.relative_to(ROOT / "cxrbench")
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (names if node.module == "cxrbench" else [node.module])
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_up_the_list_of_layers(path):
    if path.name == "__init__.py":
        return
    for name in imported(path):
        if name.startswith("cxrbench.") and name != "cxrbench.__version__":
            other = name.split(".")[1]
            assert LEVEL[other] <= LEVEL[part(path)], f"{path.name} imports {name}, which lies below it"


def test_every_part_of_the_package_has_a_layer():
    assert {part(path) for path in modules()} - {"__init__"} == set(LEVEL)


def test_the_harness_knows_no_concrete_generator_or_classifier():
    for path in modules():
        assert not any(name.startswith("cxrbench_baselines") for name in imported(path)), path


def test_no_file_swallows_an_exception():
    for path in [*modules(), *sorted((ROOT / "baselines").rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                assert not all(isinstance(line, ast.Pass) for line in node.body), f"{path}:{node.lineno}"
