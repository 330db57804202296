"""Cards: what is kept of a plug-in is what its class says, and never of another source than today's."""

import errno
import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest

from cxrbench.cache import Cache
from cxrbench.cards import STAGE, Card, card_of, describe, look_up
from cxrbench.errors import UsageError
from cxrbench.hashing import source_hash
from cxrbench.plan import Request, make_plan
from cxrbench.registry import CLASSIFIERS, GENERATORS, Registry
from cxrbench.spec import spec_of_tier
from cxrbench.stages import index_data

GROUP = "cxrbench.things"
ALL_CARDS = """
import json, sys
from pathlib import Path
from cxrbench.cache import Cache
from cxrbench.cards import card_of
from cxrbench.registry import CLASSIFIERS, GENERATORS
cache, texts = Cache(Path(sys.argv[1])), json.loads(sys.argv[2])
cards = [
    card_of(registry, text, cache) for registry, mine in zip((GENERATORS, CLASSIFIERS), texts) for text in mine
]
print(json.dumps([[card.model_dump() for card in cards], "torch" in sys.modules]))
"""


def in_a_fresh_process(cache, texts):
    """Cards of generators and of classifiers, and whether torch was imported."""
    arguments = [sys.executable, "-c", ALL_CARDS, str(cache), json.dumps(texts)]
    shown = subprocess.run(arguments, capture_output=True, text=True, check=True)
    cards, with_torch = json.loads(shown.stdout)
    return [Card(**card) for card in cards], with_torch


def test_every_plugins_card_says_what_its_class_says_and_is_read_without_torch(tmp_path):
    with_parameters = ["cgan:width=8:augment=false", "dcgan:batch=4"]
    texts = [[*GENERATORS.names(), *with_parameters], [*CLASSIFIERS.names(), "small-cnn:width=8"]]
    wanted = [
        describe(*registry.parse(text))
        for registry, mine in zip((GENERATORS, CLASSIFIERS), texts, strict=True)
        for text in mine
    ]
    assert in_a_fresh_process(tmp_path, texts) == (wanted, True)
    assert in_a_fresh_process(tmp_path, texts) == (wanted, False)


@pytest.fixture
def things(tmp_path, monkeypatch):
    """A registry of one declared plug-in, ``thing``, whose base class comes from another package."""
    for name, text in {
        "basepkg": "class Base:\n    def sample(self): return 1\n",
        "thingpkg": "from dataclasses import dataclass\nfrom basepkg import Base\n\n\n@dataclass\nclass Thing(Base):\n"
        "    width: int = 4\n",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint("thing", "thingpkg:Thing", GROUP)]
    monkeypatch.setattr("cxrbench.registry.entry_points", lambda group: [p for p in points if p.group == group])
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    source_hash.cache_clear()
    yield Registry("thing", GROUP)
    source_hash.cache_clear()
    forget()


def forget():
    """As in a new process."""
    for name in ("basepkg", "thingpkg"):
        sys.modules.pop(name, None)
    source_hash.cache_clear()


def kept(cache):
    return sorted((cache.root / STAGE).glob("*/*/card.json"))


def test_a_kept_card_is_read_without_importing_the_plugin(things, tmp_path):
    cache = Cache(tmp_path / "cache")
    card = card_of(things, "thing:width=8", cache)
    assert (card.name, card.params, set(card.identity["source"])) == (
        "thing:width=8",
        {"width": 8},
        {"basepkg", "thingpkg"},
    )
    forget()
    assert card_of(things, "thing:width=8", cache) == card
    assert "thingpkg" not in sys.modules


@pytest.mark.parametrize(("edited", "cards"), [("thingpkg", 2), ("basepkg", 1)])
def test_a_card_is_of_todays_source(things, tmp_path, edited, cards):
    cache = Cache(tmp_path / "cache")
    before = card_of(things, "thing", cache)
    forget()
    source = tmp_path / f"{edited}.py"
    source.write_text(source.read_text() + "\nEDITED = True\n")
    after = card_of(things, "thing", cache)
    assert after.identity != before.identity
    assert after == describe(*things.parse("thing"))
    assert len(kept(cache)) == cards  # that of the edited base is replaced
    forget()
    assert card_of(things, "thing", Cache(cache.root)) == after
    assert "thingpkg" not in sys.modules


def test_nothing_is_kept_of_a_plugin_without_source_or_of_this_process(things, tmp_path, monkeypatch):
    cache = Cache(tmp_path / "cache")
    monkeypatch.setattr("cxrbench.cards.source_path", lambda module: None)
    assert card_of(things, "thing", cache).params == {"width": 4}
    monkeypatch.undo()
    things.register("here")(dataclass(type("Here", (), {"__module__": __name__})))
    assert card_of(things, "here", cache).params == {}
    assert kept(cache) == []


def test_a_full_disk_costs_an_import_and_no_more(things, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = Cache(tmp_path / "cache")
    monkeypatch.setattr("cxrbench.cache.write_atomically", full)
    assert card_of(things, "thing", cache) == describe(*things.parse("thing"))
    assert kept(cache) == [] or not cache.has(STAGE, kept(cache)[0].parent.name)  # nothing is taken for whole


@pytest.mark.parametrize(("text", "said"), [("thong", "did you mean thing"), ("thing:w=1", "no parameter 'w'")])
def test_what_the_registry_refuses_is_refused(things, tmp_path, text, said):
    for _ in range(2):
        with pytest.raises(UsageError, match=said):
            card_of(things, text, Cache(tmp_path / "cache"))


def test_plugins_are_made_when_they_are_asked_for_and_once(things, tmp_path):
    cache = Cache(tmp_path / "cache")
    look_up(things, ["thing", "thing:width=8"], cache)
    forget()
    cards, plugins = look_up(things, ["thing", "thing:width=8"], cache)
    assert ([card.name for card in cards], list(plugins), len(plugins)) == (["thing", "thing:width=8"],) * 2 + (2,)
    assert "thingpkg" not in sys.modules
    assert plugins["thing:width=8"].width == 8
    assert plugins["thing"] is plugins["thing"]
    with pytest.raises(KeyError):
        plugins["other"]


def test_a_plan_is_the_same_with_and_without_cards(tmp_path):
    request = Request(spec_of_tier("smoke"), ("cgan-seed", "classical"), ("small-cnn", "resnet18"), (1.0,), 1, "cpu")
    from cxrbench.datasets.phantom import Phantom

    index = index_data("phantom", Phantom(patients_per_class=8))
    cache = Cache(tmp_path)
    plain, cards, again = (make_plan(request, index, cache=held) for held in (None, cache, cache))
    assert plain.trials == cards.trials == again.trials
    assert [trial.key for trial in plain.trials] == [trial.key for trial in again.trials]
    assert dict(plain.generators) == dict(again.generators)


def test_a_plugin_that_cannot_be_imported_any_more_stops_the_run_before_its_first_trial(things, tmp_path):
    cache = Cache(tmp_path / "cache")
    look_up(things, ["thing"], cache)
    forget()
    _, plugins = look_up(things, ["thing"], cache)
    (tmp_path / "basepkg.py").unlink()
    with pytest.raises(UsageError, match="cannot be imported"):
        plugins["thing"]
