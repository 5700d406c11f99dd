"""The ids of the events that are in the lake, on the disk: 8 bytes an id, in a few sorted files.

Whoever brings a segment of the inbox into the lake writes its ids here before the segment goes (`compaction`). So the
files and what still lies in the inbox are every id that was ever acknowledged, whatever is killed when, and no clock is
asked. Files are never changed: small ones are merged into larger ones, those of a later SPAN stay apart, so that what
is older than the horizon can be let go file by file. A file that two runs wrote, or that was merged and not yet
removed, does no harm: it is a set.

An id counts by 64 bits of BLAKE2b under the workspace's own secret: nobody who sends events can make two ids agree, and
nobody who finds the files can try ids out. Of a thousand million ids a new one agrees with one of them once in 18
thousand million times.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from habitue.core import durable
from habitue.core.errors import LakeError

Numbers = npt.NDArray[np.int64]  # ascending, each once

SUFFIX = ".ids"
SPAN = dt.timedelta(days=4)  # of the segments whose ids are merged into one file
TOGETHER = 2**20  # ids of each of two files that are merged at a time: 16 MB
_TYPE = np.dtype("<i8")
_US = dt.timedelta(microseconds=1)


def numbers(event_ids: Iterable[str], secret: bytes) -> list[int]:
    """Return the number that each id counts by. About .4 us an id."""
    start = hashlib.blake2b(digest_size=8, key=secret, person=b"habitue met")
    digests = []
    for event_id in event_ids:
        one = start.copy()
        one.update(event_id.encode("utf-8", "surrogatepass"))
        digests.append(one.digest())
    found: list[int] = np.frombuffer(b"".join(digests), dtype=_TYPE).tolist()
    return found


def folder_of(state: Path, secret: bytes) -> Path:
    """Return where the files of a workspace lie; under another secret they would mean nothing, and so lie elsewhere."""
    return state / f"met-{hashlib.blake2b(digest_size=4, key=secret, person=b'habitue met').hexdigest()}"


def build(folder: Path, found: Iterable[tuple[int, Iterable[str]]], secret: bytes) -> None:
    """Write the files of a lake whose ids were never written: (day since 1970, ids) each. Raises LakeError.

    Memory: the ids of one pair. The folder is there whole or not at all.
    """
    draft = folder.with_name(f".{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(mode=0o700, parents=True)
        for day, ids in found:
            add(draft, numbers(ids, secret), at=dt.timedelta(days=day) // _US)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
        durable.sync(folder.parent)
    except OSError as error:
        raise _unwritable(folder, error) from error


def add(folder: Path, met: Iterable[int], *, at: int) -> None:
    """Write the numbers of a segment; they are on the disk when this returns. One process at a time. Raises LakeError.

    `at`: microseconds since 1970, when the segment was begun. Then merges files of like size; memory stays TOGETHER.
    """
    new = np.unique(np.fromiter(met, dtype=_TYPE))
    if not len(new):
        return
    try:
        for left in folder.glob(f".*{SUFFIX}"):  # whoever wrote it was killed
            left.unlink()
        _write(folder, [new], first=at, last=at)
        while pair := _alike(folder):
            (one, other), first = pair, min(_first(path) for path in pair)
            _write(folder, _merged(_mapped(one), _mapped(other)), first=first, last=_last(other))
            one.unlink()
            other.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from error


def opened(folder: Path, *, since: dt.datetime) -> list[Numbers]:
    """Map every file and remove those of segments begun before a moment; the pages are the system's, not ours.

    Raises LakeError when a file cannot be read.
    """
    while True:
        try:
            for path in _files(folder):
                if _last(path) < since.timestamp() * 1e6:
                    path.unlink()
            return [_mapped(path) for path in _files(folder)]
        except FileNotFoundError:
            continue  # two were merged meanwhile
        except OSError as error:
            raise _unwritable(folder, error) from error


def whole(folder: Path) -> bool:
    """Whether the files are there, and of a size that files of numbers can have; else they are built again."""
    sizes = [path.stat().st_size for path in _files(folder)]
    return folder.is_dir() and all(size > 0 and size % _TYPE.itemsize == 0 for size in sizes)


def _files(folder: Path) -> list[Path]:
    """Return the files, those of the earliest segments first."""
    return sorted(folder.glob(f"[0-9]*{SUFFIX}"), key=lambda path: (_last(path), path.name))


def _alike(folder: Path) -> tuple[Path, Path] | None:
    """Return the two latest neighbours of which the later is not smaller than half the earlier; None: all is well."""
    for other, one in itertools.pairwise(reversed(_files(folder))):
        near = _last(other) - min(_first(one), _first(other)) < SPAN // _US
        if near and one.stat().st_size < 2 * other.stat().st_size:
            return one, other
    return None


def _merged(one: Numbers, other: Numbers) -> Iterator[Numbers]:
    """Yield the numbers of both in order, each once."""
    while len(one) and len(other):
        a, b = one[:TOGETHER], other[:TOGETHER]
        end = min(a[-1], b[-1])
        of_one, of_other = (int(np.searchsorted(part, end, side="right")) for part in (a, b))
        both = np.concatenate([a[:of_one], b[:of_other]])
        both.sort(kind="stable")  # of two runs: linear
        yield both[np.append(True, both[1:] != both[:-1])]
        one, other = one[of_one:], other[of_other:]
    rest = one if len(one) else other
    yield from (rest[i : i + TOGETHER] for i in range(0, len(rest), TOGETHER))


def _write(folder: Path, parts: Iterable[Numbers], *, first: int, last: int) -> None:
    path = folder / f"{last:016d}-{first:016d}-{secrets.token_hex(4)}{SUFFIX}"
    durable.write(path, (part.astype(_TYPE).tobytes() for part in parts))


def _mapped(path: Path) -> Numbers:
    return np.asarray(np.memmap(path, dtype=_TYPE, mode="r"))


def _last(path: Path) -> int:
    return int(path.name.split("-")[0])


def _first(path: Path) -> int:
    return int(path.name.split("-")[1])


def _unwritable(folder: Path, error: OSError) -> LakeError:
    return LakeError(
        str(folder),
        found=f"the ids of what was received cannot be kept ({error.strerror})",
        consequence="What was received stays in the inbox until they can; nothing is lost",
        remedy="Check the disk's space and the folder's rights",
    )
