"""Content hashes and plug-in identities."""

import hashlib
import sys
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cxrbench.hashing import canonical_hash, file_sha256, plugin_identity, plugin_parameters, source_hash

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)


@dataclass
class Knobs:
    width: int = 32
    rate: float = 0.1
    fitted: int = field(default=0, init=False)
    shared: ClassVar[int] = 7


def reversed_keys(value):
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


@given(JSON)
def test_the_order_of_keys_does_not_matter(value):
    assert canonical_hash(reversed_keys(value)) == canonical_hash(value)


@given(JSON, JSON)
def test_different_values_have_different_hashes(one, other):
    assume(one != other)
    assert canonical_hash(one) != canonical_hash(other)


def test_the_order_of_a_list_matters():
    assert canonical_hash([1, 2]) != canonical_hash([2, 1])


def test_the_hash_is_the_sha256_of_compact_json():
    assert canonical_hash({"b": [1, None], "a": "x"}) == hashlib.sha256(b'{"a":"x","b":[1,null]}').hexdigest()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_cannot_say_are_refused(number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_hash({"deep": [number]})


def test_objects_that_json_cannot_say_are_refused():
    with pytest.raises(TypeError):
        canonical_hash({"a": {1, 2}})


def test_a_file_is_hashed_by_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"film")
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"film").hexdigest()


def test_parameters_are_the_init_fields_in_order_of_declaration():
    assert list(plugin_parameters(Knobs(width=8)).items()) == [("width", 8), ("rate", 0.1)]


def test_a_plugin_that_is_no_dataclass_has_no_parameters_to_list():
    with pytest.raises(TypeError, match="object is no dataclass"):
        plugin_parameters(object())


def test_equal_plugins_have_equal_identities():
    assert plugin_identity("knobs", Knobs(width=8)) == plugin_identity("knobs", Knobs(width=8))


@pytest.mark.parametrize(("name", "plugin"), [("knobs", Knobs(width=9)), ("other", Knobs(width=8))])
def test_the_identity_depends_on_parameters_and_name(name, plugin):
    assert plugin_identity(name, plugin) != plugin_identity("knobs", Knobs(width=8))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An importable package ``sourcepkg`` beside another, ``strangerpkg``."""
    for name in ("sourcepkg", "strangerpkg"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
        (tmp_path / name / "loop.py").write_text("STEPS = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    source_hash.cache_clear()
    yield tmp_path / "sourcepkg"
    source_hash.cache_clear()
    for name in [m for m in sys.modules if m.partition(".")[0] in ("sourcepkg", "strangerpkg")]:
        del sys.modules[name]


def hash_before_and_after(edited):
    before = source_hash("sourcepkg.model")
    edited.write_text("STEPS = 2\n")
    source_hash.cache_clear()
    return before, source_hash("sourcepkg.model")


@pytest.mark.parametrize(
    "statement",
    [
        "from sourcepkg.loop import STEPS",
        "from sourcepkg import loop",
        "import sourcepkg.loop",
        "from .loop import STEPS",
        "from . import loop",
        "def fit():\n    from .loop import STEPS",
    ],
)
def test_editing_an_imported_sibling_changes_the_source_hash(package, statement):
    (package / "model.py").write_text(statement + "\n")
    before, after = hash_before_and_after(package / "loop.py")
    assert before != after


def test_editing_a_module_reached_through_another_changes_the_source_hash(package):
    (package / "model.py").write_text("from .between import anything\n")
    (package / "between.py").write_text("from .loop import STEPS\n")
    before, after = hash_before_and_after(package / "loop.py")
    assert before != after


def test_modules_that_import_each_other_are_hashed_once(package):
    (package / "model.py").write_text("from . import between\n")
    (package / "between.py").write_text("from . import model\n")
    assert source_hash("sourcepkg.model") == source_hash("sourcepkg.between")


def test_editing_the_module_itself_changes_the_source_hash(package):
    (package / "model.py").write_text("WIDTH = 1\n")
    before, after = hash_before_and_after(package / "model.py")
    assert before != after


def test_editing_a_module_that_is_not_imported_leaves_the_source_hash(package):
    (package / "model.py").write_text("WIDTH = 1\n")
    before, after = hash_before_and_after(package / "loop.py")
    assert before == after


def test_the_source_hash_stays_within_its_own_package(package):
    (package / "model.py").write_text("import strangerpkg.loop\n")
    before, after = hash_before_and_after(package.parent / "strangerpkg" / "loop.py")
    assert before == after


def test_a_package_that_imports_its_own_module_follows_that_modules_source(tmp_path, monkeypatch):
    package = tmp_path / "pkg_with_init"
    package.mkdir()
    (package / "__init__.py").write_text("from .impl import A\n")
    (package / "impl.py").write_text("A = 1\n")
    (package / "user.py").write_text("from pkg_with_init import A\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = source_hash("pkg_with_init"), source_hash("pkg_with_init.user")
    (package / "impl.py").write_text("A = 2\n")
    source_hash.cache_clear()
    after = source_hash("pkg_with_init"), source_hash("pkg_with_init.user")
    assert before[0] != after[0]
    assert before[1] != after[1]
