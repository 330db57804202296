"""Plug-ins as trials name them: whatever decides what they do is in their identity, and nothing else."""

from dataclasses import dataclass, field

import pytest

from cxrbench.errors import UsageError
from cxrbench.references import files_of, identity_of, plugin_reference, usable_extractors


@dataclass
class Reader:
    """A generator that reads files."""

    strength: float = 1.0
    files: dict[str, str] = field(default_factory=dict, repr=False, compare=False, init=False)

    def preflight(self, size):
        if size < 8:
            raise UsageError(f"reader cannot draw films of {size} pixels")
        return self.files

    def fit(self, train, ctx): ...

    def sample(self, labels, ctx): ...


def reference(plugin, name="reader", size=32):
    return plugin_reference(name, plugin, "generator", size)


def test_another_file_is_another_plugin_and_the_order_of_files_is_not():
    plugin, other = Reader(), Reader()
    plugin.files, other.files = {"a.npz": "1" * 64, "b.npz": "2" * 64}, {"b.npz": "2" * 64, "a.npz": "1" * 64}
    assert reference(plugin) == reference(other)
    other.files = {**other.files, "a.npz": "3" * 64}
    assert reference(plugin).identity != reference(other).identity


def test_another_parameter_is_another_plugin():
    one, two = reference(Reader()), reference(Reader(strength=2.0), "reader:strength=2.0")
    assert (one.params["strength"], two.params["strength"]) == (1.0, 2.0)
    assert one.identity != two.identity


def test_a_plugin_without_a_preflight_reads_nothing_and_one_that_fails_it_is_refused():
    assert files_of(object(), 32) == {}
    with pytest.raises(UsageError, match="cannot draw films of 4 pixels"):
        reference(Reader(), size=4)


def test_an_identity_is_of_what_decides_and_of_the_files_together():
    decides = {"name": "reader", "params": {"strength": 1.0}}
    assert identity_of(decides, {}) != identity_of(decides, {"a": "1"}) != identity_of({}, {"a": "1"})
    assert identity_of(decides, {"a": "1"}) == identity_of(dict(reversed(decides.items())), {"a": "1"})


def test_an_extractor_nobody_registered_is_a_usage_error():
    with pytest.raises(UsageError, match="nonsense"):
        usable_extractors(["nonsense"])
