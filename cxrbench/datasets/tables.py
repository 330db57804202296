"""Tables that come with data sets: CSV and xlsx to rows of text."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from cxrbench.errors import DataError

Row = dict[str, str]


def read_rows(path: Path, required: Sequence[str] = ()) -> list[tuple[int, Row]]:
    """Read a CSV or xlsx file whose first line names the columns.

    Returns:
        (line number, column -> stripped text) of every line that is not empty; a missing cell is ``""``.

    Raises:
        DataError: the file cannot be read as such a table, or lacks a required column.
    """
    lines = _xlsx_lines(path) if path.suffix.lower() == ".xlsx" else _csv_lines(path)
    header = next(lines, (0, []))[1]
    missing = [name for name in required if name not in header]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; its first line must name them")
    rows = []
    for line, cells in lines:
        if any(cells):
            padded = [*cells, *[""] * (len(header) - len(cells))]
            rows.append((line, dict(zip(header, padded, strict=False))))
    return rows


def _csv_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            for cells in reader:
                yield reader.line_num, [cell.strip() for cell in cells]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _xlsx_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, InvalidFileException) as error:
        raise DataError(f"{path} cannot be read as an xlsx file: {error}") from None
    try:
        sheet = book.worksheets[0]
        for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
            yield number, ["" if cell is None else str(cell).strip() for cell in cells]
    finally:
        book.close()
