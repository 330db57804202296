"""Tables that come with data sets: CSV and xlsx to rows of text."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

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


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, stripped text) of every line of a text file that is not empty.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, text in enumerate(file, start=1):
                if text.strip():
                    yield number, text.strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def find_table(root: Path, pattern: str) -> Path:
    """The file in ``root`` whose name matches ``pattern``; the last by name where several do.

    Raises:
        DataError: there is none.
    """
    found = sorted(path for path in root.glob(pattern) if path.is_file())
    if not found:
        raise DataError(f"{root} has no {pattern}, which says what its films show; is this the right folder?")
    return found[-1]


def has_columns(path: Path, names: Sequence[str]) -> bool:
    """Is ``path`` a CSV file whose first line names these columns? Reads no more than that line."""
    try:
        return path.is_file() and set(names) <= set(next(_csv_lines(path), (0, []))[1])
    except DataError:  # not a CSV file, so none with these columns
        return False


def short_source(url: str) -> str | None:
    """A short name for where a film comes from: the host, and on GitHub and Kaggle the owner, too.

    ``https://github.com/ieee8023/covid-chestxray-dataset`` is ``github.com/ieee8023``; a competition is its own
    owner: ``kaggle.com/c/rsna-pneumonia-detection-challenge``. None for a text that names no host.
    """
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
    except ValueError:  # brackets that are no IPv6 address
        return None
    host = parts.netloc.lower().removeprefix("www.")
    if "." not in host or " " in host:
        return None
    if host not in ("github.com", "kaggle.com"):
        return host
    path = [part for part in parts.path.split("/") if part and part != "datasets"]
    return "/".join([host, *path[: 2 if path[:1] in (["c"], ["competitions"]) else 1]])


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
