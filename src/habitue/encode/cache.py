"""Vectors on disk by content hash, so that a second run encodes only what changed.

`<cache>/<modality>/<key of the encoder>/` holds `encoder.json` for people and shards: safetensors files of many rows,
each called after the SHA-256 of its bytes. A shard appears whole or not at all and is never changed, so two processes
may write at once, a killed run leaves what it finished, and a damaged file is found out by its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from habitue.core.errors import LakeError
from habitue.core.lock import exclusive
from habitue.encode.things import HASH_BYTES
from habitue.encode.vectors import Dense, Encoder

SHARDS = 64  # more than so many become few
ROWS = 8192  # of a shard made from several
STALE_S = 24 * 3600.0  # a half-written file this old has no writer any more


class CacheWarning(UserWarning):
    """A file of the cache was damaged: its vectors are encoded again."""


def folder(cache: Path, modality: str, encoder: Encoder) -> Path:
    """Return where the vectors of one encoder lie."""
    return cache / modality / encoder.key[:24]


def read(
    shelf: Path, wanted: Collection[bytes], encoder: Encoder
) -> dict[bytes, np.ndarray[tuple[int], np.dtype[np.float32]]]:
    """Return {content hash: float32[D]} for those of `wanted` that `shelf` holds.

    Reads every shard once and keeps only what is wanted. A damaged shard is removed with a CacheWarning.
    """
    found: dict[bytes, np.ndarray[tuple[int], np.dtype[np.float32]]] = {}
    wanted = frozenset(wanted)
    for hashes, rows in _shards(shelf, encoder):
        places = [i for i, content in enumerate(hashes) if content in wanted]
        kept = rows[places]  # a copy, so that the rest of the shard can go
        found.update(zip((hashes[i] for i in places), kept, strict=True))
    return found


def write(shelf: Path, hashes: Sequence[bytes], rows: Dense, encoder: Encoder) -> Path | None:
    """Add one shard of `rows` float32[N, D], one a content hash; return it, or None when there is nothing to add.

    Raises LakeError when the folder cannot be written.
    """
    if not len(hashes):
        return None
    from safetensors.numpy import save

    contents = np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(-1, HASH_BYTES)
    data = save({"contents": contents, "rows": np.ascontiguousarray(rows, dtype=np.float32)})
    try:
        shelf.mkdir(parents=True, exist_ok=True)
        about = shelf / "encoder.json"
        if not about.exists():
            _whole(about, json.dumps(encoder.about, indent=1).encode())
        shard = shelf / f"{hashlib.sha256(data).hexdigest()}.safetensors"
        _whole(shard, data)
    except OSError as error:
        raise LakeError(
            str(shelf),
            found=f"the cache of vectors cannot be written ({error.strerror})",
            consequence="The next run would encode everything again",
            remedy="Make room or give the right to write there, or pass another folder",
        ) from error
    return shard


def compact(shelf: Path, encoder: Encoder) -> None:
    """Make few shards of many when there are more than 64, and clear what a killed writer left half-written.

    Readers may go on; when another process is at it already, this one leaves it to that one.
    """
    if sum(1 for _ in shelf.glob("*.safetensors")) <= SHARDS:
        return
    try:
        with exclusive(shelf / ".lock", wait_s=0.0):
            old = sorted(shelf.glob("*.safetensors"))
            merged: dict[bytes, np.ndarray[tuple[int], np.dtype[np.float32]]] = {}
            for hashes, rows in _shards(shelf, encoder):
                merged.update(zip(hashes, rows, strict=True))
            names = sorted(merged)
            parts = [names[start : start + ROWS] for start in range(0, len(names), ROWS)]
            fresh = {write(shelf, part, np.stack([merged[name] for name in part]), encoder) for part in parts}
            for path in old:
                if path not in fresh:  # a shard that held everything already keeps its name
                    path.unlink(missing_ok=True)
            for path in shelf.glob("*.part"):
                with contextlib.suppress(FileNotFoundError):  # its writer has just finished it
                    if time.time() - path.stat().st_mtime > STALE_S:
                        path.unlink()
    except LakeError:
        if not (shelf / ".lock").exists():
            raise  # it is not that somebody else is at work


def _shards(shelf: Path, encoder: Encoder) -> Iterator[tuple[list[bytes], Dense]]:
    """Yield (content hashes, rows) of every shard; of one that another process merged meanwhile, its successor."""
    from safetensors.numpy import load

    seen: set[Path] = set()
    while fresh := sorted(set(shelf.glob("*.safetensors")) - seen):
        for path in fresh:
            seen.add(path)
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue  # merged into a shard that the next glob finds
            if hashlib.sha256(data).hexdigest() != path.stem:
                warnings.warn(
                    f"{path}: the file is damaged. Its vectors are encoded again. Check the disk if this comes back.",
                    CacheWarning,
                    stacklevel=2,
                )
                path.unlink(missing_ok=True)
                continue
            tensors = load(data)
            rows = tensors["rows"].reshape(-1, encoder.dimension)
            packed = tensors["contents"].tobytes()
            yield [packed[i : i + HASH_BYTES] for i in range(0, len(packed), HASH_BYTES)], rows


def _whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
