"""The registry: names, loading, parameters and collisions."""

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cxrbench.errors import UsageError
from cxrbench.registry import CLASSIFIERS, DATASETS, EXTRACTORS, GENERATORS, NAME, Registry

GROUP = "cxrbench.things"


@dataclass
class Thing:
    width: int = 32
    rate: float = 0.5
    smooth: bool = False
    mode: str = "fast"


@dataclass
class OtherThing:
    pass


@pytest.fixture
def registry():
    made = Registry("thing", GROUP)
    made.register("thing")(Thing)
    return made


@pytest.fixture
def declare(monkeypatch):
    """Declare entry points of the group: ``declare(name="module:Class")``."""
    points = []
    monkeypatch.setattr("cxrbench.registry.entry_points", lambda group: [p for p in points if p.group == group])

    def add(**declared):
        points.extend(EntryPoint(name.replace("_", "-"), value, GROUP) for name, value in declared.items())

    return add


def test_a_decorated_class_can_be_had_by_its_name(registry):
    assert registry.names() == ["thing"]
    assert registry.get("thing") is Thing


def test_the_decorator_returns_the_class_unchanged():
    assert Registry("thing", GROUP).register("thing")(Thing) is Thing


@pytest.mark.parametrize("name", ["", "Thing", "-a", ".a", "a b", "a/b", "a:b", "ä", "a" * 65])
def test_malformed_names_are_refused(name):
    with pytest.raises(ValueError, match="does not match"):
        Registry("thing", GROUP).register(name)


@example("a" * 64)
@given(st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,63}", fullmatch=True))
def test_well_formed_names_are_accepted(name):
    registry = Registry("thing", GROUP)
    registry.register(name)(Thing)
    assert name in registry.names()


def test_two_classes_cannot_have_one_name(registry):
    with pytest.raises(ValueError, match=r"'thing' is taken by .*Thing; rename .*OtherThing"):
        registry.register("thing")(OtherThing)


def test_a_reloaded_class_replaces_itself(registry):
    reloaded = dataclass(type("Thing", (), {"__module__": Thing.__module__}))
    assert registry.register("thing")(reloaded) is registry.get("thing")
    assert registry.get("thing") is reloaded


def test_an_unknown_name_gives_the_nearest_names(registry):
    with pytest.raises(UsageError, match=r"unknown thing 'thnig'; did you mean thing\?"):
        registry.get("thnig")


def test_an_unknown_name_far_from_all_lists_what_there_is(registry):
    registry.register("other")(OtherThing)
    with pytest.raises(UsageError, match="there are other, thing"):
        registry.get("zzzzzzz")


def test_create_sets_the_parameters(registry):
    assert registry.create("thing", width=8, mode="slow") == Thing(width=8, mode="slow")


@pytest.mark.parametrize(
    ("text", "shown", "plugin"),
    [
        ("thing", "thing", Thing()),
        ("thing:width=8", "thing:width=8", Thing(width=8)),
        ("thing:smooth=true:rate=1e-3", "thing:rate=0.001:smooth=True", Thing(rate=0.001, smooth=True)),
        ("thing:mode=a=b", "thing:mode=a=b", Thing(mode="a=b")),
        ("thing:width=32", "thing", Thing()),
    ],
)
def test_parameters_are_parsed_from_text_and_shown_where_they_differ_from_the_default(registry, text, shown, plugin):
    assert registry.parse(text) == (shown, plugin)


@given(st.builds(Thing, st.integers(-(10**6), 10**6), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_a_display_name_parses_back_to_the_same_plugin(plugin):
    registry = Registry("thing", GROUP)
    registry.register("thing")(Thing)
    shown, parsed = registry.parse(f"thing:width={plugin.width}:rate={plugin.rate}:smooth={plugin.smooth}")
    assert parsed == plugin
    assert registry.parse(shown) == (shown, plugin)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("thing:width=wide", "parameter width='wide'"),
        ("thing:width=1.5", r"parameter width='1\.5'"),
        ("thing:width=", "parameter width=''"),
        ("thing:smooth=perhaps", "parameter smooth='perhaps'"),
        ("thing:wdith=8", "has no parameter 'wdith'; it has width, rate, smooth, mode"),
        ("thing:width", "'width' is no key=value; write thing:key=value"),
        ("thing:", "'' is no key=value"),
        ("nothing:width=8", "unknown thing 'nothing'"),
    ],
)
def test_bad_parameters_are_usage_errors_that_say_what_is_wrong(registry, text, message):
    with pytest.raises(UsageError, match=message):
        registry.parse(text)


def test_a_plugin_that_is_no_dataclass_is_a_usage_error(registry):
    registry.register("plain")(type("Plain", (), {}))
    with pytest.raises(UsageError, match="'plain' is no dataclass"):
        registry.create("plain")


def test_an_entry_point_is_loaded_when_asked_for(declare):
    declare(thing=f"{__name__}:Thing")
    assert Registry("thing", GROUP).get("thing") is Thing


def test_a_class_both_decorated_and_declared_does_not_collide(registry, declare):
    declare(thing=f"{__name__}:Thing")
    assert registry.names() == ["thing"]
    assert registry.get("thing") is Thing


def test_an_entry_point_whose_module_decorates_the_same_class_loads(declare, tmp_path, monkeypatch):
    (tmp_path / "selfregistering.py").write_text(
        "from dataclasses import dataclass\n"
        "from cxrbench.registry import CLASSIFIERS\n"
        "@CLASSIFIERS.register('self-registering')\n"
        "@dataclass\n"
        "class Mine:\n    width: int = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(CLASSIFIERS, "group", GROUP)
    monkeypatch.setattr(CLASSIFIERS, "_decorated", {})
    declare(self_registering="selfregistering:Mine")
    assert CLASSIFIERS.create("self-registering").width == 3
    assert CLASSIFIERS.get("self-registering") is sys.modules["selfregistering"].Mine


def test_one_class_declared_twice_is_no_collision(declare):
    declare(thing=f"{__name__}:Thing")
    declare(thing=f"{__name__}:Thing")
    assert Registry("thing", GROUP).get("thing") is Thing


def test_two_classes_declared_under_one_name_are_a_usage_error(declare):
    declare(thing=f"{__name__}:Thing")
    declare(thing=f"{__name__}:OtherThing")
    with pytest.raises(UsageError, match="uninstall all but one"):
        Registry("thing", GROUP).get("thing")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("import no_such_module_at_all", "ModuleNotFoundError"),
        ("def broken(:", "SyntaxError"),
        ("", "AttributeError"),
    ],
)
def test_a_broken_plugin_is_listed_and_only_fails_when_it_is_used(declare, tmp_path, monkeypatch, body, reason):
    (tmp_path / "brokenplugin.py").write_text(body + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    declare(thing=f"{__name__}:Thing", broken="brokenplugin:Broken")
    registry = Registry("thing", GROUP)

    assert registry.names() == ["broken", "thing"]
    assert "brokenplugin" not in sys.modules
    with pytest.raises(UsageError, match=rf"thing 'broken' \(brokenplugin:Broken\) cannot be imported: {reason}"):
        registry.get("broken")
    sys.modules.pop("brokenplugin", None)
    assert registry.get("thing") is Thing


def test_malformed_names_of_entry_points_are_not_listed(declare):
    declare(**{"Not Valid": f"{__name__}:Thing"})
    assert Registry("thing", GROUP).names() == []


def test_cxrbench_brings_its_own_plugins_through_entry_points():
    assert {"phantom", "radiography", "folder"} <= set(DATASETS.names())
    assert {"lite0", "inception"} <= set(EXTRACTORS.names())
    assert {"cgan", "dcgan", "classical"} <= set(GENERATORS.names())
    assert GENERATORS.origin("cgan") == "cxrbench"
    assert all(NAME.match(name) for registry in (DATASETS, GENERATORS, CLASSIFIERS) for name in registry.names())


def test_a_class_of_this_process_says_so(registry):
    assert registry.origin("thing") == "this process"


def test_listing_names_imports_no_plugin():
    code = (
        "import sys; from cxrbench.registry import GENERATORS, EXTRACTORS, DATASETS, CLASSIFIERS\n"
        "assert all(r.names() for r in (GENERATORS, EXTRACTORS, DATASETS, CLASSIFIERS))\n"
        "bad = [m for m in sys.modules if m.startswith(('torch', 'cxrbench_baselines', 'cxrbench.datasets'))]\n"
        "assert not bad, bad"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
