"""Records -> the short tables that end a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cxrbench.records import Record
from cxrbench.report.tables import leaderboard, rank_text, sections

TEXT = ("classifier", "generator")
INSIDE = ("AUROC", "gain", "F1", "seeds")
OUTSIDE = ("AUROC", "gain", "seeds", "external\nAUROC", "external\ngain")  # eighty columns do not hold more


def summaries(records: Iterable[Record], data_hash: str) -> Iterator[Table]:
    """A leaderboard for each section of one data set; with external scores where there are any."""
    for section in sections(records):
        ranked = leaderboard(section)
        if section.data_hash != data_hash or ranked.empty:
            continue
        columns = OUTSIDE if "external_auroc_mean" in ranked else INSIDE
        table = Table(
            title=f"{section.data}, tier {section.tier}, split {section.split_by}", box=SIMPLE_HEAD, padding=0
        )
        table.add_column("rank", justify="right", no_wrap=True)
        for column in TEXT:
            table.add_column(column)
        for column in ("ratio", *columns):
            table.add_column(column, justify="right", no_wrap=True)  # a number must not be cut short
        for row in ranked.to_dict("records"):
            cells = {
                "AUROC": _number(row["auroc_macro_mean"], ".3f"),
                "gain": _number(row["gain_mean"], "+.3f"),
                "F1": _number(row["f1_macro_mean"], ".3f"),
                "seeds": str(row["seeds"]),
                "external\nAUROC": _number(row.get("external_auroc_mean", float("nan")), ".3f"),
                "external\ngain": _number(row.get("external_gain_mean", float("nan")), "+.3f"),
            }
            first = (rank_text(row["rank"]), row["classifier"], row["generator"], f"{row['ratio']:g}")
            table.add_row(*first, *(cells[column] for column in columns))
        yield table


def _number(value: float, form: str) -> str:
    return "" if value != value else format(value, form)  # NaN: there is no such value
