"""A fitted model on disk: safetensors and JSON, written at once or not at all, refused when it is not what it says.

    <folder>/tensors.safetensors   every array, named by its place in the state ("views.ease.table")
    <folder>/config.json           the state's other fields: numbers, words, which class it is
    <folder>/vocabulary.json       tuples of words (the products)
    <folder>/manifest.json         model, versions, what the caller adds (data version, metrics), sha256 of each file

No pickle: loading runs no code but the dataclasses of modules that are part of Habitue or already imported.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import scipy.sparse as sp

from habitue.core.errors import ModelError
from habitue.core.schemas import EVENTS, FEATURES, ITEMS, LABELS, PROFILES, TIMELINE

VERSION = 2  # 1 named the version of every table there was, so that any new table made it useless
READ = (EVENTS, ITEMS, TIMELINE, FEATURES, LABELS, PROFILES)  # what a state is made of and asked with
TENSORS, CONFIG, VOCABULARY, MANIFEST = "tensors.safetensors", "config.json", "vocabulary.json", "manifest.json"
Array = npt.NDArray[Any]
CSR = ("data", "indices", "indptr")


@dataclass(frozen=True)
class Artifact:
    """What lies in one folder."""

    model: str  # file name of the model, or its dotted path when it is a plug-in
    state: Any
    manifest: dict[str, Any]  # what the caller of `save` added


def save(folder: Path, model: str, state: Any, manifest: dict[str, Any]) -> str:
    """Write a state into a new folder; return the sha256 over its files.

    `state`: a frozen dataclass of numpy arrays, scipy csr matrices, torch tensors, numbers, words, None, tuples, dicts
    with words as keys, and further dataclasses. `manifest`: JSON of the caller's own (data version, metrics).
    The folder appears at once, complete. Raises ModelError when it exists or a field is of another type.
    """
    folder = Path(folder)
    if folder.exists():
        raise ModelError(
            folder.name,
            found="there is an artefact of that name already",
            consequence="Writing over it would change a model under whoever uses it",
            remedy="Save under a new version",
        )
    pack = _Pack({}, {})
    tree = pack.add(state, "")
    files = {
        TENSORS: safetensors.numpy.save(pack.tensors),
        CONFIG: _json(tree),
        VOCABULARY: _json(pack.vocabulary),
    }
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    files[MANIFEST], digest = _signed(
        {"artifact": VERSION, "model": model, "schemas": _schemas(), "files": sums, "added": manifest}
    )
    _write(folder, files)
    return digest


def inspect(folder: Path) -> dict[str, Any]:
    """Return the manifest of an artefact whose files are all what was written; the state is not put together.

    Raises ModelError as `load` does.
    """
    manifest = _manifest(Path(folder))
    _contents(Path(folder), manifest)
    return manifest


def upgrade(folder: Path) -> bool:
    """Bring the manifest of an older artefact to this version, in place; returns whether there was anything to do.

    The state is not touched: its files keep their sha256. Raises ModelError for a damaged artefact, a newer one, and
    one fitted on another version of a table it reads: that one has to be trained again.
    """
    folder = Path(folder)
    manifest = _manifest(folder, older=True)
    if manifest["artifact"] == VERSION:
        return False
    content, _ = _signed({**manifest, "artifact": VERSION, "schemas": _schemas()})
    beside = folder / f".{MANIFEST}"
    try:
        beside.write_bytes(content)
        beside.replace(folder / MANIFEST)
    except OSError as error:
        raise ModelError(
            folder.name,
            found=f"{MANIFEST} cannot be written ({error.strerror})",
            consequence="The model is as it was",
            remedy="Check the disk's space and the folder's rights, then again: habitue migrate",
        ) from error
    return True


def load(folder: Path) -> Artifact:
    """Read what `save` wrote, every array bit for bit.

    Raises ModelError for a folder without an artefact, a damaged file, one written for another version of a table.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    contents = _contents(folder, manifest)
    unpack = _Unpack(folder.name, safetensors.numpy.load(contents[TENSORS]), json.loads(contents[VOCABULARY]))
    state = unpack.take(json.loads(contents[CONFIG]), "")
    return Artifact(manifest["model"], state, manifest["added"])


@dataclass(frozen=True)
class _Pack:
    """A state taken apart: arrays and words by their place, the rest as JSON.

    A list is a tuple, `{"is": kind, ...}` everything else that JSON has no word for.
    """

    tensors: dict[str, Array]
    vocabulary: dict[str, list[str]]

    def add(self, value: Any, at: str) -> Any:
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int | float) and not isinstance(value, np.generic):
            return value if np.isfinite(value) else {"is": "float", "text": repr(value)}
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
            self.tensors[at] = _plain(value)
            return {"is": "array" if isinstance(value, np.ndarray) else "scalar"}
        if isinstance(value, sp.csr_matrix | sp.csr_array):
            for part in CSR:
                self.tensors[_below(at, part)] = _plain(getattr(value, part))
            return {"is": type(value).__name__, "shape": list(value.shape)}
        if isinstance(value, tuple):
            if value and all(isinstance(word, str) for word in value):
                self.vocabulary[at] = list(value)
                return {"is": "words"}
            return [self.add(item, _below(at, str(place))) for place, item in enumerate(value)]
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {"is": "dict", "of": {key: self.add(item, _below(at, key)) for key, item in value.items()}}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {f.name: self.add(getattr(value, f.name), _below(at, f.name)) for f in dataclasses.fields(value)}
            return {"is": "dataclass", "class": f"{type(value).__module__}:{type(value).__qualname__}", "of": fields}
        if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
            self.tensors[at], kind = _from_torch(value)
            return {"is": "tensor", "dtype": kind}
        raise ModelError(
            f"the state's field '{at}'",
            found=f"it is a {type(value).__module__}.{type(value).__qualname__}",
            consequence="It cannot be written without pickle, which could run anything when it is read",
            remedy="Keep arrays, tensors, numbers, words, tuples, dicts and dataclasses in a state",
        )


@dataclass(frozen=True)
class _Unpack:
    """The way back."""

    folder: str
    tensors: dict[str, Array]
    vocabulary: dict[str, list[str]]

    def take(self, tree: Any, at: str) -> Any:
        if isinstance(tree, list):
            return tuple(self.take(item, _below(at, str(place))) for place, item in enumerate(tree))
        if not isinstance(tree, dict):
            return tree
        kind = tree["is"]
        if kind == "float":
            return float(tree["text"])
        if kind == "array":
            return self._array(at)
        if kind == "scalar":
            return self._array(at)[()]
        if kind == "tensor":
            return _to_torch(self._array(at), tree["dtype"])
        if kind == "words":
            return tuple(self.vocabulary[at])
        if kind in ("csr_matrix", "csr_array"):
            parts = tuple(self._array(_below(at, part)) for part in CSR)
            return getattr(sp, kind)(parts, shape=tuple(tree["shape"]))
        fields = {key: self.take(item, _below(at, key)) for key, item in tree["of"].items()}
        return fields if kind == "dict" else self._class(tree["class"], fields)

    def _array(self, at: str) -> Array:
        return self.tensors[at].copy()  # what safetensors hands out is read-only

    def _class(self, name: str, fields: dict[str, Any]) -> Any:
        module, _, path = name.partition(":")
        if module.startswith("habitue."):
            importlib.import_module(module)
        found: Any = sys.modules.get(module)
        for part in path.split("."):
            found = getattr(found, part, None)
        if not dataclasses.is_dataclass(found) or not _fits(found, set(fields)):
            raise ModelError(
                self.folder,
                found=f"its state is a {name}, which this program does not know in that shape",
                consequence="The model cannot be put together again",
                remedy=f"Import {module} first if it is a plug-in; else train again with this version of Habitue",
            )
        return found(**fields)  # type: ignore[operator]


def _fits(found: Any, fields: set[str]) -> bool:
    """Whether a state of these fields is one of the class; what came to it later and has a default may be absent."""
    known = dataclasses.fields(found)
    needed = {f.name for f in known if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
    return needed <= fields <= {f.name for f in known}


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Write beside the folder, flush to disk, then rename: a crash leaves no half artefact under its name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, content in files.items():
            with (beside / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        beside.chmod(0o755)  # mkdtemp makes it private
        beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _contents(folder: Path, manifest: dict[str, Any]) -> dict[str, bytes]:
    """Read the files of the state. Raises ModelError when one is not what was written."""
    contents: dict[str, bytes] = {}
    for name in (TENSORS, CONFIG, VOCABULARY):
        try:
            contents[name] = (folder / name).read_bytes()
        except OSError as error:
            raise _damaged(folder, f"{name} cannot be read ({error.strerror})") from error
        if hashlib.sha256(contents[name]).hexdigest() != manifest["files"].get(name):
            raise _damaged(folder, f"{name} is not what was written: its sha256 has changed")
    return contents


def _signed(about: dict[str, Any]) -> tuple[bytes, str]:
    """Return the manifest as it is written, and the sha256 in it."""
    digest = hashlib.sha256(_json(about)).hexdigest()
    return _json({**about, "sha256": digest}), digest


def _manifest(folder: Path, *, older: bool = False) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise ModelError(
            folder.name,
            found=f"there is no {MANIFEST} in it",
            consequence="It is not a fitted model",
            remedy="Name a folder that 'habitue train' wrote, such as models/<name>/<version>",
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        digest = manifest.pop("sha256")
        broken = digest != hashlib.sha256(_json(manifest)).hexdigest()
        written, schemas = manifest["artifact"], manifest["schemas"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, f"{MANIFEST} is not what was written ({type(error).__name__})") from error
    if broken:
        raise _damaged(folder, f"{MANIFEST} is not what was written: its sha256 has changed")
    if written > VERSION or (written < VERSION and not older):
        found = f"it was written in version {written} of the artefact, this program reads {VERSION}"
        raise _outdated(folder, found, "habitue migrate" if written < VERSION else None)
    for table, version in _schemas().items():
        if schemas.get(table) != version:
            raise _outdated(
                folder, f"it was fitted on version {schemas.get(table)} of {table.upper()}, this program has {version}"
            )
    return manifest


def _schemas() -> dict[str, int]:
    return {table.name: table.version for table in READ}


def _plain(value: Any) -> Array:
    """Return the array as safetensors wants it: rows one after the other, this machine's byte order."""
    return np.array(value, dtype=value.dtype.newbyteorder("="), order="C")


def _from_torch(tensor: Any) -> tuple[Array, str]:
    """Return a tensor's bits as an array, and its dtype; numpy has no bfloat16, so that one travels as int16."""
    import torch

    plain = tensor.detach().cpu().contiguous()
    kind = str(plain.dtype).removeprefix("torch.")
    return (plain.view(torch.int16) if kind == "bfloat16" else plain).numpy(), kind


def _to_torch(array: Array, kind: str) -> Any:
    import torch

    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if kind == "bfloat16" else tensor


def _below(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False).encode()


def _damaged(folder: Path, found: str) -> ModelError:
    return ModelError(
        folder.name,
        found=found,
        consequence="A damaged model would answer wrongly without a word",
        remedy="Train it again, or restore the folder from a copy",
    )


def _outdated(folder: Path, found: str, command: str | None = None) -> ModelError:
    again = "Train it again with this version of Habitue"
    return ModelError(
        folder.name,
        found=found,
        consequence="What its columns mean may have changed since",
        remedy=again if command is None else f"Bring the workspace up to date: {command}",
    )
