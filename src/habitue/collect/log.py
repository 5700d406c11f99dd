"""What was received and is not in the lake yet: an append-only log, on the disk before anybody is told so.

The folder holds segments, each written from its start to its end and never changed. A segment is named after the
moment it was begun (microseconds since 1970, always later than the one before), so no two ever have one name. It is
MAGIC, then records; a record is what one group of requests brought, written and fsynced as one:

    MARK | u32 length | u32 crc32(payload) | payload              (little endian)

The next record is not written before the last one is on the disk. So after a crash only the last record of a segment
can be torn: it was never acknowledged, and `opened` cuts it away. A bad record with a good one behind it is damage, and
is refused in words. When a write or an fsync fails, nothing after it is trusted to that file: its end is cut back, and
the next record starts a new segment.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from habitue.core import durable
from habitue.core.errors import LakeError

MAGIC = b"habitue inbox 1\n"
SUFFIX = ".log"
LONGEST = 2**28  # bytes of a record; a length beyond it is no length
MARK = b"rec\n"
_HEAD = struct.Struct("<4sII")


class Log:
    """The segment that is being written; for one thread at a time."""

    def __init__(self, folder: Path, *, segment_bytes: int = 2**26) -> None:
        self._folder, self._limit = folder, segment_bytes
        self._file = -1
        self._end = 0  # bytes of the open segment that are on the disk for certain
        self._number = 0
        self.last = 0  # bytes of the record written last

    def append(self, payload: bytes) -> None:
        """Put a record on the disk; when this returns, a power cut does not lose it. Raises LakeError: it may be lost.

        Costs one write and one fsync.
        """
        assert len(payload) <= LONGEST
        record = _HEAD.pack(MARK, len(payload), zlib.crc32(payload)) + payload
        try:
            if self._file < 0 or self._end + len(record) > self._limit:
                self.rotate()
                self._start()
            _write_all(self._file, record)
            os.fsync(self._file)
        except OSError as error:
            self._give_up()
            raise _unwritable(self._folder, error) from error
        self._end += len(record)
        self.last = len(record)

    def rotate(self) -> None:
        """Close the open segment; the next record starts a new one."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    @property
    def size(self) -> int:
        """Bytes of the open segment."""
        return self._end if self._file >= 0 else 0

    def closed(self) -> list[Path]:
        """Return the segments that are not written any more, oldest first."""
        every = segments(self._folder)
        return [path for path in every if self._file < 0 or _number(path) != self._number]

    def _start(self) -> None:
        """Make the next segment, and its name in the folder, durable."""
        latest = max([self._number, *map(_number, segments(self._folder))])
        self._number = max(latest + 1, time.time_ns() // 1_000)
        path = self._folder / f"{self._number:016d}{SUFFIX}"
        self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        self._end = 0
        _write_all(self._file, MAGIC)
        os.fsync(self._file)
        durable.sync(self._folder)
        self._end = len(MAGIC)

    def _give_up(self) -> None:
        """Cut off what may be half on the disk and leave the segment: after a failed fsync its pages are not known."""
        if self._file >= 0:
            with contextlib.suppress(OSError):  # what cannot be cut off was never acknowledged, and ids tell a repeat
                os.ftruncate(self._file, self._end)
            with contextlib.suppress(OSError):
                self.rotate()
        self._file = -1


def segments(folder: Path) -> list[Path]:
    """Return every segment of a folder, oldest first."""
    return sorted(folder.glob(f"[0-9]*{SUFFIX}"))


def opened(folder: Path, *, segment_bytes: int = 2**26) -> tuple[Log, int]:
    """Make the folder ready for writing; returns the log and how many bytes of torn records were cut away.

    One process at a time (the caller holds the folder's lock). Raises LakeError for a damaged segment.
    """
    cut = 0
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for path in segments(folder):
            size = path.stat().st_size
            end = _whole(path)
            if end < size:
                with path.open("r+b") as file:
                    file.truncate(end)
                    os.fsync(file.fileno())
                cut += size - end
            if end <= len(MAGIC):
                path.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from error
    return Log(folder, segment_bytes=segment_bytes), cut


def keep_aside(path: Path, payloads: list[bytes]) -> None:
    """Write records into a file of their own, on the disk when this returns. Raises LakeError."""
    content = MAGIC + b"".join(_HEAD.pack(MARK, len(one), zlib.crc32(one)) + one for one in payloads)
    try:
        durable.write(path, content)
    except OSError as error:
        raise _unwritable(path.parent, error) from error


def records(path: Path) -> Iterator[bytes]:
    """Yield the payloads of a segment in order; a torn end is left out. Raises LakeError for a damaged one."""
    yield from (payload for payload, _ in _scan(path))


def _whole(path: Path) -> int:
    """Return where the last good record ends."""
    end = 0 if path.stat().st_size < len(MAGIC) else len(MAGIC)
    for _, good in _scan(path):
        end = good
    return end


def _scan(path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield each good payload and where its record ends."""
    with path.open("rb") as file:
        magic = file.read(len(MAGIC))
        if magic != MAGIC:
            if MAGIC.startswith(magic):
                return
            raise _damaged(path, 0)
        place = len(MAGIC)
        while payload := _next(file, place):
            yield payload, place + _HEAD.size + len(payload)
            place += _HEAD.size + len(payload)
        if _good_behind(file, place):
            raise _damaged(path, place)


def _next(file: BinaryIO, place: int) -> bytes | None:
    """Read the record at `place`, or None when it is not whole and good."""
    file.seek(place)
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    mark, length, checksum = _HEAD.unpack(head)
    if mark != MARK or not 0 < length <= LONGEST:
        return None
    payload: bytes = file.read(length)
    return payload if len(payload) == length and zlib.crc32(payload) == checksum else None


def _good_behind(file: BinaryIO, place: int) -> bool:
    """Whether anywhere behind the bad record at `place` a good one begins: then it was no torn end."""
    file.seek(place)
    rest = file.read()
    found = rest.find(MARK, 1)
    while found >= 0:
        if _next(file, place + found) is not None:
            return True
        found = rest.find(MARK, found + 1)
    return False


def _number(path: Path) -> int:
    return int(path.stem)


def _write_all(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]


def _damaged(path: Path, place: int) -> LakeError:
    return LakeError(
        str(path),
        found=f"a record at byte {place:,} is damaged, and there are good ones behind it",
        consequence="Events that were acknowledged would be left out in silence",
        remedy="Restore the file from a copy, or move it out of the folder to go on without its events",
    )


def _unwritable(folder: Path, error: OSError) -> LakeError:
    return LakeError(
        str(folder),
        found=f"what was received cannot be put on the disk ({error.strerror})",
        consequence="It was not accepted; whoever sent it is told to send it again",
        remedy="Check the disk's space and the folder's rights",
    )
