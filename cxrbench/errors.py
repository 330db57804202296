"""The errors a user can cause or mend, each with the exit code the CLI gives for it."""

from __future__ import annotations

from typing import ClassVar


class CxrbenchError(Exception):
    """Base of every error that ends in one clear line instead of a traceback."""

    exit_code: ClassVar[int] = 1


class UsageError(CxrbenchError):
    """The command, a parameter or the machine does not allow what was asked (exit 2)."""

    exit_code = 2


class DataError(CxrbenchError):
    """The data cannot be benchmarked as they are (exit 4)."""

    exit_code = 4


class UnreadableFilm(Exception):
    """One file is no film; it is quarantined by name with this reason and the load goes on."""


class Diverged(Exception):
    """Training left the finite numbers; the trial ends with status ``diverged``."""
