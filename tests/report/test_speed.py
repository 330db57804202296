"""A report of thousands of records is a matter of seconds."""

import pytest

from bench.report_speed import CLASSIFIERS, GENERATORS, filled_store, measure
from cxrbench.report.analysis import analyse
from cxrbench.report.sections import sections


@pytest.mark.slow
def test_a_report_of_two_thousand_records_takes_less_than_twenty_seconds():
    with filled_store() as (store, count):
        seconds = measure(store)
        (section,) = sections(store)
        board = analyse(section, store).board
    assert count >= 2000
    assert seconds["of the processor"] < 20, seconds  # by the clock a neighbour may take as much again
    assert board["ranked"].sum() == len(CLASSIFIERS) * (1 + 3 * len(GENERATORS))
    gains = board[board["ranked"] & (board["ratio"] == 2.0)].set_index("generator")["gain"]
    assert gains["diffusion"].min() > 0.01 > -0.01 > gains["cgan"].max()
