"""A page is drawn anew when anything it is made of, or it made, has changed; and only then."""

import json

import pytest

from cxrbench.report import freshness
from cxrbench.report.freshness import is_current
from cxrbench.report.page import write_report
from cxrbench.store import Store


@pytest.fixture
def current(results, monkeypatch):
    monkeypatch.setattr("cxrbench.report.figures.draw_figures", lambda analysis, store: {})
    results.store.prepare()
    results.run(0.7)
    write_report(results.store)
    assert is_current(results.store)
    return results


def test_before_the_first_page_nothing_is_current(results):
    results.store.prepare()
    results.run(0.7)
    assert not is_current(results.store)


def test_a_folder_that_was_not_prepared_gets_no_note(tmp_path):
    """Without the .gitignore beside it, somebody might commit it."""
    write_report(Store(tmp_path / "bare"))
    assert [path.name for path in (tmp_path / "bare").iterdir()] == ["LEADERBOARD.md"]


def test_preparing_the_folder_again_changes_nothing(current):
    current.store.prepare()
    assert is_current(current.store)


def test_a_new_record_asks_for_a_new_page(current):
    current.run(0.6, generator="noise")
    assert not is_current(current.store)


@pytest.mark.parametrize("name", ["audit.json", "private/samples/a.npz"])
def test_so_does_any_other_file(current, name):
    path = current.store.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    assert not is_current(current.store)


def test_a_page_that_was_edited_or_a_table_that_is_gone_is_made_again(current):
    page = current.store.root / "LEADERBOARD.md"
    page.write_text(page.read_text() + "ours is best\n")
    assert not is_current(current.store)
    write_report(current.store)
    next((current.store.root / "tables").rglob("*.csv")).unlink()
    assert not is_current(current.store)


def test_changed_code_asks_for_a_new_page(current, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "__init__.py").write_text("changed = True\n")
    monkeypatch.setattr(freshness.cxrbench, "__file__", str(tmp_path / "elsewhere" / "__init__.py"))
    assert not is_current(current.store)


@pytest.mark.parametrize("torn", ["", "[]", '{"of": 1'])
def test_a_torn_note_says_no(current, torn):
    (current.store.private / "page.json").write_text(torn)
    assert not is_current(current.store)


def test_the_note_names_what_was_made(current):
    note = json.loads((current.store.private / "page.json").read_text())
    assert "LEADERBOARD.md" in note["files"]
