"""What is shown of a run: monotone, and one line per ten seconds where there is no terminal."""

import io

import pytest
from rich.console import Console

from cxrbench import progress


@pytest.fixture
def shown(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    buffer = io.StringIO()
    return clock, buffer, progress.Lines(Console(file=buffer, width=200))


def test_a_line_appears_every_ten_seconds_with_the_time_left(shown):
    clock, buffer, lines = shown
    lines.start(work=10.0)
    lines.begin("fit", work=10.0)
    for second in range(1, 26):
        clock[0] = float(second)
        lines.step("fit", second, 50)
    assert len(buffer.getvalue().splitlines()) == 2
    assert "20%" in buffer.getvalue().splitlines()[0]
    assert "about 40 s left" in buffer.getvalue().splitlines()[0]


def test_a_second_phase_that_counts_from_zero_does_not_go_back(shown):
    clock, buffer, lines = shown
    lines.start(work=10.0)
    lines.begin("fit", work=10.0)
    clock[0] = 11.0
    lines.step("fit", 50, 100)
    clock[0] = 22.0
    lines.step("fit", 1, 100)
    assert [line.split("%")[0].strip() for line in buffer.getvalue().splitlines()] == ["50", "50"]


def test_pieces_of_work_under_way_together_are_added_up(shown):
    clock, buffer, lines = shown
    lines.start(work=10.0)
    lines.begin("fit", work=4.0)
    lines.begin("train", work=6.0)
    lines.step("fit", 1, 2)
    clock[0] = 10.0
    lines.step("train", 1, 3)
    assert " 40%  train (1/3) and 1 more" in buffer.getvalue()
    lines.end("fit", None)
    clock[0] = 20.0
    lines.step("train", 2, 3)
    assert " 80%  train (2/3), 20 s" in buffer.getvalue()
