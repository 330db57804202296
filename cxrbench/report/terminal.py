"""Records -> the short tables that end a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cxrbench.report.analysis import Analysis
from cxrbench.report.formats import number
from cxrbench.report.tables import rank_text

STYLES = {"helps": "green", "hurts": "red"}


def summaries(analyses: Sequence[Analysis], data_hash: str) -> Iterator[Table]:
    """A leaderboard for each section of one data set: the ranked arms, and the stamp of the controls."""
    for analysis in analyses:
        section = analysis.section
        if section.data_hash != data_hash or analysis.board.empty:
            continue
        validity = analysis.validity
        caption = f"controls: {validity.status}" + ("; " + "; ".join(validity.reasons) if validity.reasons else "")
        classifiers = list(analysis.board["classifier"].unique())
        several = len(classifiers) > 1
        title = f"{section.data}, tier {section.tier}, split {section.split_by}"
        table = Table(
            title=title if several else f"{title}, {classifiers[0]}",
            caption=caption,
            caption_style="bold red" if validity.status == "INVALID" else "",
            box=SIMPLE_HEAD,
            padding=0,
        )
        table.add_column("rank", justify="right", no_wrap=True)
        for column in ("classifier", "generator") if several else ("generator",):
            table.add_column(column, overflow="fold")  # a name may take two lines, but is not cut short either
        for column in ("ratio", "AUROC", "gain", "95 % interval", "verdict", "row"):
            table.add_column(column, justify="right", no_wrap=True)  # a number must not be cut short
        for row in analysis.board[analysis.board["ranked"]].to_dict("records"):
            verdict = row.get("verdict")
            interval = "" if row["low"] != row["low"] else f"{row['low']:+.3f} to {row['high']:+.3f}"
            table.add_row(
                rank_text(row["rank"]),
                *([row["classifier"]] if several else []),
                row["generator"],
                f"{row['ratio']:g}",
                number(row["auroc_macro_mean"], ".3f"),
                number(row["gain"], "+.3f"),
                interval,
                verdict if isinstance(verdict, str) else "",
                row["row"],
                style=STYLES.get(str(verdict), ""),
            )
        yield table
