"""Faults of the disk or the network, told apart from faults of a film."""

from __future__ import annotations

from pathlib import Path

from cxrbench.errors import DataError


def refuse_faults(path: Path, error: Exception) -> None:
    """A file that cannot be read today may be read tomorrow: it must not be remembered as a damaged film.

    Raises:
        DataError: the operating system refused (it numbers its errors; a decoder's own have no number).
    """
    if isinstance(error, OSError) and error.errno is not None:
        raise DataError(f"{path} cannot be read: {error.strerror}; run again when it can") from None
