"""The data sets that can be fetched: facts, licences and sources, read from ``catalogue.toml``."""

from __future__ import annotations

import difflib
import functools
import tomllib
from importlib.resources import files
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from cxrbench.errors import UsageError

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class Remote(BaseModel):
    """One file to download.

    Attributes:
        filename: what the file is called here; its ending says how it is unpacked.
        digest: ``sha256:HEX`` or ``md5:HEX`` as published; None where none is.
        bytes: the exact size; None where it is not known.
        allow_http: may the file come unencrypted? (Its digest is then all that vouches for it.)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$")]
    filename: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    digest: Annotated[str, StringConstraints(pattern=r"^(sha256:[0-9a-f]{64}|md5:[0-9a-f]{32})$")] | None = None
    bytes: Annotated[int, Field(gt=0)] | None = None
    allow_http: bool = False


class Source(BaseModel):
    """One data set of the catalogue: what ``cxrbench data info`` shows.

    Attributes:
        adapter: the registered cxrbench data set that reads it.
        licence: an SPDX identifier, or words where none fits.
        size: approximate bytes to download.
        terms: what must be accepted elsewhere first; empty where nothing.
        files: what to download; empty where Kaggle has it.
        kaggle: ``OWNER/DATASET``, or a competition's name (no slash); None where ``files`` says it all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
    title: Text
    adapter: Text
    licence: Text
    citation: Text
    homepage: Annotated[str, StringConstraints(pattern=r"^https://[^\s]+$")]
    size: Annotated[int, Field(gt=0)]
    terms: str = ""
    note: str = ""
    files: tuple[Remote, ...] = ()
    kaggle: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)?$")] | None = None

    @model_validator(mode="after")
    def _one_way_to_get_it(self) -> Self:
        if bool(self.files) == (self.kaggle is not None):
            raise ValueError(f"{self.name} needs either files or a kaggle handle")
        if len({remote.filename for remote in self.files}) != len(self.files):
            raise ValueError(f"{self.name} has two files of one name")
        return self

    @property
    def how(self) -> Literal["url", "kaggle"]:
        """By which way the data set comes."""
        return "kaggle" if self.kaggle else "url"

    @property
    def origin(self) -> str:
        """Where it comes from, for the manifest and for people."""
        return f"kaggle:{self.kaggle}" if self.kaggle else " ".join(remote.url for remote in self.files)


@functools.cache
def catalogue() -> dict[str, Source]:
    """Every data set that can be fetched, by name, in the order of the file."""
    text = files("cxrbench.fetch").joinpath("catalogue.toml").read_text(encoding="utf-8")
    return {name: Source(name=name, **facts) for name, facts in tomllib.loads(text).items()}


def find(name: str) -> Source:
    """The entry of that name.

    Raises:
        UsageError: there is none; names the nearest ones.
    """
    known = catalogue()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see `cxrbench data list`"
        raise UsageError(f"no data set in the catalogue is called {name!r}; {hint}")
    return known[name]


def size_text(count: int) -> str:
    """Bytes for people, in powers of ten as download sites count: ``1.2 GB``."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.5 else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
