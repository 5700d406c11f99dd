"""gzip, zstandard and zip around a file, inflated as it is read and never beyond a limit.

Nothing is ever unpacked under a name that an archive brings: a member is a stream of bytes.
"""

from __future__ import annotations

import gzip
import importlib
import io
import shutil
import stat
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from habitue.collect.sources.blocks import GIB, Limits
from habitue.core.errors import HabitueError, InputError
from habitue.core.extras import need

LAYERS = 3  # an archive in an archive in an archive; deeper is no export

GZIP, ZSTD, ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
_CHUNK = 1 << 20
DAMAGE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Opened:
    """A file whose archives are taken off: its content as a stream, and its name for messages."""

    stream: BinaryIO
    name: str
    done: Callable[[], float]  # share of the file on disk that has been read, 0 to 1
    packed: bool  # the stream cannot be sought in

    def head(self, size: int = 65_536) -> bytes:
        """Return the first bytes without consuming them; the stream must not have been read from."""
        return cast(io.BufferedReader, self.stream).peek(size)[:size]


def unwrap(path: Path, limits: Limits, stack: ExitStack) -> Opened:
    """Open a file and take off up to three archives; `stack` closes it.

    Raises OSError when it cannot be opened; InputError: damaged, several members, a link, a password, too many layers.
    """
    size = max(path.stat().st_size, 1)
    raw = path.open("rb", buffering=0)
    stream = cast(BinaryIO, stack.enter_context(io.BufferedReader(raw, 1 << 17)))

    def done() -> float:
        return min(raw.tell() / size, 1.0)

    name, packed = path.name, False
    for _ in range(LAYERS + 1):
        head = cast(io.BufferedReader, stream).peek(8)[:4]
        opener = next((o for magic, o in _OPENERS.items() if head.startswith(magic)), None)
        if opener is None:
            return Opened(stream, name, done, packed)
        if head == ZIP and _is_workbook(stream if not packed else None, path):
            return Opened(stream, name, done, packed)
        inner = opener(stream, name, packed, stack)
        bounded = io.BufferedReader(_Bounded(inner, name, limits.max_bytes), 1 << 17)
        stream = cast(BinaryIO, stack.enter_context(bounded))
        packed = True
    raise InputError(
        name,
        found=f"there are more than {LAYERS} archives inside each other",
        consequence="No shop exports its data so, and reading on might never end",
        remedy="Unpack it, and import the file inside",
    )


def seekable(opened: Opened, stack: ExitStack) -> BinaryIO:
    """Return a stream that can be sought in: the file itself, or a copy without a name that ends with the process."""
    if not opened.packed:
        opened.stream.seek(0)
        return opened.stream
    return _copied(opened.stream, opened.name, stack)


class _Bounded(io.RawIOBase):
    """Counts what an archive inflates to, and turns damage into words."""

    def __init__(self, inner: BinaryIO, name: str, limit: int) -> None:
        self._inner, self._name, self._limit, self._count = inner, name, limit, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            content = self._inner.read(min(len(buffer), _CHUNK))
        except HabitueError:
            raise
        except Exception as error:
            if not isinstance(error, DAMAGE) and type(error).__name__ != "ZstdError":
                raise
            raise damaged(self._name, self._count) from error
        self._count += len(content)
        if self._count > self._limit:
            raise InputError(
                self._name,
                found=f"the archive inflates to more than {_size(self._limit)}",
                consequence="It might do so without end; reading stopped there, and nothing was stored",
                remedy="Raise the limit if the file is meant to be that large: --max-bytes",
            )
        buffer[: len(content)] = content
        return len(content)


def damaged(name: str, after: int) -> InputError:
    """Say that an archive ends too early or holds bytes that cannot be."""
    return InputError(
        name,
        found=f"the archive is cut off or damaged after {after:,} inflated bytes",
        consequence="What follows is unknown; nothing was stored",
        remedy="Copy or export it again",
    )


def _copied(stream: BinaryIO, name: str, stack: ExitStack) -> BinaryIO:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < GIB // 4:
        raise InputError(
            name,
            found=f"{tempfile.gettempdir()} has {_size(free)} of space left",
            consequence="The archive must be unpacked there to be read",
            remedy="Free some space, or unpack it yourself and import the file inside",
        )
    copy = stack.enter_context(tempfile.TemporaryFile())
    shutil.copyfileobj(stream, copy, _CHUNK)
    copy.seek(0)
    return cast(BinaryIO, copy)


def _open_gzip(stream: BinaryIO, name: str, packed: bool, stack: ExitStack) -> BinaryIO:
    del name, packed
    return cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=stream)))


def _open_zstd(stream: BinaryIO, name: str, packed: bool, stack: ExitStack) -> BinaryIO:
    del packed
    if sys.version_info >= (3, 14):
        module = importlib.import_module("compression.zstd")
    else:
        module = need("backports.zstd", extra="zstd", purpose=name)
    return cast(BinaryIO, stack.enter_context(module.ZstdFile(stream)))


def _open_zip(stream: BinaryIO, name: str, packed: bool, stack: ExitStack) -> BinaryIO:
    if packed:  # a zip's list of members stands at its end
        stream = _copied(stream, name, stack)
    try:
        archive = stack.enter_context(zipfile.ZipFile(stream))
        members = [m for m in archive.infolist() if not m.is_dir() and not _is_litter(m.filename)]
        if len(members) != 1:
            raise _not_one(name, [m.filename for m in members])
        member = members[0]
        if stat.S_ISLNK(member.external_attr >> 16):
            raise InputError(
                name,
                found="the archive holds a symbolic link, not a file",
                consequence="It would lead to a file outside the archive",
                remedy="Pack the file itself",
            )
        if member.flag_bits & 1:
            raise InputError(
                name,
                found="the archive is locked with a password",
                consequence="Nothing can be read from it",
                remedy="Unpack it, and import the file inside",
            )
        return cast(BinaryIO, stack.enter_context(archive.open(member)))
    except DAMAGE as error:
        raise damaged(name, 0) from error


_OPENERS = {GZIP: _open_gzip, ZSTD: _open_zstd, ZIP: _open_zip, b"PK\x05\x06": _open_zip}  # the last is empty


def _is_workbook(stream: BinaryIO | None, path: Path) -> bool:
    """Whether a zip is an Excel workbook; one inside another archive is not looked into here."""
    if stream is None:
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except DAMAGE as error:
        raise damaged(path.name, 0) from error


def _is_litter(name: str) -> bool:
    """What a Mac adds beside every file."""
    return name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith(".")


def _not_one(name: str, members: list[str]) -> InputError:
    shown = ", ".join(ascii(m.replace("\\", "/").rpartition("/")[2])[1:-1] for m in members[:5])
    return InputError(
        name,
        found=f"the archive holds {len(members)} files ({shown}{', ...' if len(members) > 5 else ''})"
        if members
        else "the archive holds no file",
        consequence="One file is imported at a time" if members else "There is nothing to import",
        remedy="Unpack it, and import the files one by one" if members else "Pack it again",
    )


def _size(count: int) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 10_000 or unit == "GB":
            return f"{count:,} {unit}"
        count //= 1000
    raise AssertionError
