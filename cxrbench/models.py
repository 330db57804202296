"""The folder of one trained generator: what it holds, and whether it is whole.

``cxrbench train --out DIR`` makes::

    DIR/fit.json            what is being trained; written first, so that only the same fit goes on in DIR
    DIR/training/           the plug-in's own: checkpoints, history
    DIR/model/              what the plug-in saves, and model.json with the sha256 of every file, written last
    DIR/samples.png         its first films
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from cxrbench.cache import write_atomically
from cxrbench.contracts import Generator, Pixels, RunContext
from cxrbench.errors import CxrbenchError, UsageError
from cxrbench.hashing import canonical_hash, file_sha256, plugin_identity
from cxrbench.records import PluginRef
from cxrbench.registry import GENERATORS
from cxrbench.synthesis import sample_chunks

FIT = "fit.json"
MODEL = "model"
MODEL_CARD = "model.json"
LOCK = ".lock"
MEND = "copy it again, or remove it and train again"

CardT = TypeVar("CardT", bound="Fit")


class Fit(BaseModel):
    """What decides a trained generator, and what people call it.

    Attributes:
        key: as in the cache of a run (``synthesis.fit_key``): equal fits have equal keys, wherever the films lie.
        code: hash of the plug-in's name, parameters and source; ``generator.identity`` also holds the files it read.
        made_by: the distribution that the plug-in comes from, and its version.
        steps: the budget, in optimizer steps.
        data, split_by, clean: for people; ``data_hash`` and ``key`` depend on what they mean.
        train_films: class -> films it was trained on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    key: str
    generator: PluginRef
    code: str
    made_by: str
    classes: tuple[str, ...]
    size: int
    seed: int
    steps: int
    data: str
    data_hash: str
    split_by: str
    clean: str
    train_films: dict[str, int]

    def differences(self, other: Fit) -> str:
        """In words, what ``other`` has otherwise; for two fits whose keys differ."""
        words = {
            "generator": (self.generator.name, other.generator.name),
            "films": (f"{self.data} ({self.data_hash[:8]})", f"{other.data} ({other.data_hash[:8]})"),
            "split by": (self.split_by, other.split_by),
            "size": (f"{self.size} px", f"{other.size} px"),
            "steps": (str(self.steps), str(other.steps)),
            "seed": (str(self.seed), str(other.seed)),
        }
        if self.data_hash == other.data_hash:
            del words["films"]
        apart = [f"{name} {here}, not {there}" for name, (here, there) in words.items() if here != there]
        if not apart and self.generator.identity != other.generator.identity:
            apart = [f"other source code of {self.generator.name}"]
        return "; ".join(apart) or "the films were dealt out in another way"


class Model(Fit):
    """A trained generator's ``model.json``.

    Attributes:
        provenance: command, machine and versions as records have them, and the seconds it took.
        files: name below the folder -> sha256.
        sha256: of all the other fields, as canonical JSON.
    """

    provenance: dict[str, Any]
    files: dict[str, str]
    sha256: str

    def is_intact(self) -> bool:
        """Do the fields have the recorded sha256?"""
        return self.sha256 == canonical_hash(self.model_dump(mode="json", exclude={"sha256"}))


@contextmanager
def training_folder(out: Path, *, publish: bool) -> Iterator[Path]:
    """``out``, made where it is not there, and held against a second training at the same time.

    Args:
        publish: may films be published? If not, a ``.gitignore`` keeps the folder out of version control.

    Raises:
        UsageError: it cannot be written, holds something else, or another process trains there.
    """
    try:
        if out.is_dir() and not (out / FIT).exists() and any(not path.name.startswith(".") for path in out.iterdir()):
            raise UsageError(f"--out {out} holds something else and no training; choose a new folder")
        out.mkdir(parents=True, exist_ok=True)
        if not publish:
            write_atomically(out / ".gitignore", b"*\n")
        held = FileLock(out / LOCK).acquire(timeout=0)
    except Timeout:
        raise UsageError(f"another `cxrbench train` is at work in {out}; choose another --out") from None
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written ({error.strerror})") from None
    with held:
        yield out


def begin_fit(out: Path, fit: Fit) -> Model | None:
    """Note in ``out`` what is trained there.

    Returns:
        The model, where the same fit is complete.

    Raises:
        UsageError: ``out`` belongs to another fit, its model is damaged, or the note cannot be read or written.
    """
    path = out / FIT
    try:
        if not path.exists():
            write_atomically(path, fit.model_dump_json(indent=1).encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror})") from None
    model = read_model(out / MODEL) if (out / MODEL).exists() else None
    for there in (_read(Fit, path), *([model] if model else [])):
        if there.key != fit.key:
            raise UsageError(f"{out} holds another fit ({there.differences(fit)}); choose another --out")
    return model


def code_of(name: str, generator: Generator) -> str:
    """Hash of what a plug-in is, whatever files its fit reads: those need not be here to sample."""
    return canonical_hash(plugin_identity(name, generator))


def describe_origin(generator: PluginRef) -> str:
    """The distribution that brings a plug-in, and its version."""
    origin = GENERATORS.origin(generator.name.partition(":")[0])
    try:
        return f"{origin} {version(origin)}"
    except PackageNotFoundError:  # registered by this process, not installed
        return origin


def save_model(generator: Generator, fit: Fit, provenance: Mapping[str, Any], folder: Path) -> None:
    """Write a fitted generator: all of it, or nothing.

    Raises:
        UsageError: it cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        generator.save(temporary)
        saved = sorted(path for path in temporary.rglob("*") if path.is_file())
        files = {path.relative_to(temporary).as_posix(): file_sha256(path) for path in saved}
        content = {**fit.model_dump(mode="json"), "provenance": dict(provenance), "files": files}
        model = Model.model_validate({**content, "sha256": canonical_hash(content)})
        write_atomically(temporary / MODEL_CARD, model.model_dump_json(indent=1).encode())
        os.replace(temporary, folder)
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise UsageError(
            f"{fit.generator.name} could not be saved to {folder} ({reason}); mend that and give the same command again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def find_model(folder: Path) -> Path:
    """The model in ``folder``: itself, or the one that was trained in it.

    Raises:
        UsageError: there is none.
    """
    found = next((place for place in (folder, folder / MODEL) if (place / MODEL_CARD).is_file()), None)
    if found is None:
        if not folder.is_dir():
            raise UsageError(f"{folder} {'is no folder' if folder.exists() else 'does not exist'}")
        if (folder / FIT).exists():
            raise UsageError(f"the training in {folder} did not end; give its `cxrbench train` command again to go on")
        raise UsageError(f"{folder} holds no trained model (no {MODEL_CARD}); `cxrbench train --out DIR` makes one")
    return found


def read_model(folder: Path) -> Model:
    """Read ``model.json`` and check every byte that it vouches for.

    Raises:
        UsageError: it cannot be read, or a file is missing or is not as it was written.
    """
    model = _read(Model, folder / MODEL_CARD)
    if not model.is_intact():
        raise UsageError(f"{folder / MODEL_CARD} is not as it was written; {MEND}")
    for name, digest in model.files.items():
        path = folder / name
        try:
            changed = file_sha256(path) != digest
        except OSError as error:
            raise UsageError(f"{path}, part of a model, cannot be read ({error.strerror}); {MEND}") from None
        if changed:
            raise UsageError(f"{path} is not as it was written (its sha256 differs); {MEND}")
    return model


def load_generator(folder: Path, model: Model) -> Generator:
    """The generator in ``folder``, ready to sample; ``model`` is what ``read_model`` returned.

    Raises:
        UsageError: the plug-in is not here, or is another version than the one that was trained.
        CxrbenchError: the plug-in cannot load what it saved.
    """
    reference = model.generator
    name = reference.name.partition(":")[0]
    mend = f"install the version that made it ({model.made_by}), or train again to another --out"
    try:
        generator = GENERATORS.create(name, **reference.params)
    except UsageError as error:
        raise UsageError(f"{folder} needs a plug-in that is not here: {error}; {mend}") from None
    if code_of(name, generator) != model.code:
        here = describe_origin(reference)
        raise UsageError(f"{folder} was made by other source code of {name} than is installed here ({here}); {mend}")
    with plugin_errors(f"{reference.name} cannot load {folder}"):
        return generator.load(folder)


def sample_model(
    generator: Generator, model: Model, counts: Mapping[int, int], seed: int, device: str
) -> Iterator[tuple[int, Pixels]]:
    """Films of a trained generator, a chunk at a time: ``synthesis.sample_chunks``.

    With the seed that a run's generator had, they are the films of that run's pool.

    Raises:
        CxrbenchError: the plug-in fails, or returns what are no films.
    """
    with TemporaryDirectory(prefix="cxrbench-") as workdir, plugin_errors(f"{model.generator.name} cannot sample"):
        ctx = RunContext(seed, device, model.steps, Path(workdir))
        yield from sample_chunks(generator, counts, model.classes, model.size, ctx)


@contextmanager
def plugin_errors(what: str) -> Iterator[None]:
    """Whatever a plug-in raises becomes one line that begins with ``what``.

    Raises:
        CxrbenchError: in place of any other error.
    """
    try:
        yield
    except CxrbenchError:
        raise
    except Exception as error:
        raise CxrbenchError(f"{what}: {type(error).__name__}: {error}") from error


def _read(kind: type[CardT], path: Path) -> CardT:
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise UsageError(
            f"{path} is damaged, or of another version of cxrbench ({where}: {problem['msg']}); {MEND}"
        ) from None
