"""Is the page that stands in a results folder made of what stands there now?

Drawing the page takes longer than everything else a run does that finds all its trials done.
"""

from __future__ import annotations

import json
from pathlib import Path

import cxrbench
from cxrbench.cache import write_atomically
from cxrbench.hashing import canonical_hash, file_sha256
from cxrbench.store import Store

PAGE = "LEADERBOARD.md"
MADE = (PAGE, "tables", "figures", "private/figures")  # by ``page.write_report``, under the results folder


def note_made(store: Store) -> None:
    """Remember of what the page was made just now, and what was made; a store that was not prepared stays as it is."""
    if not store.private.is_dir():
        return
    written = {"of": _sources(store), "files": _states(store.root, made=True)}
    write_atomically(_note(store), json.dumps(written, indent=1).encode())


def is_current(store: Store) -> bool:
    """Would ``page.write_report`` make again what is there?

    A note that is absent or torn says no.
    """
    try:
        noted = json.loads(_note(store).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(noted == {"of": _sources(store), "files": _states(store.root, made=True)})


def _note(store: Store) -> Path:
    return store.private / "page.json"  # what it says of private pictures is true in this folder only


def _sources(store: Store) -> str:
    code = _states(Path(cxrbench.__file__).parent, made=False)
    own = _states(store.root, made=False)
    own.pop(_note(store).relative_to(store.root).as_posix(), None)
    return canonical_hash([own, {name: state for name, state in code.items() if name.endswith(".py")}])


def _states(root: Path, *, made: bool) -> dict[str, str]:
    """sha256 (hex) of the files under ``root``: of those ``MADE``, or of all others."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and made == any(name == top or name.startswith(f"{top}/") for top in MADE):
            found[name] = file_sha256(path)
    return found
