"""Pictures, sounds and videos: a folder of them by file name, or the files a manifest names.

A path is followed only inside the folder: `..`, an absolute path or a symbolic link that leads out of it is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from habitue.collect.sources.blocks import Record
from habitue.core.errors import InputError

ROW = ("path", "name", "owner", "folder", "modality", "sha256")

_MAGIC = (
    (b"\xff\xd8\xff", "image"),
    (b"\x89PNG\r\n\x1a\n", "image"),
    (b"GIF8", "image"),
    (b"BM", "image"),
    (b"II*\x00", "image"),
    (b"MM\x00*", "image"),
    (b"fLaC", "audio"),
    (b"OggS", "audio"),
    (b"ID3", "audio"),
    (b"\xff\xfb", "audio"),
    (b"\xff\xf3", "audio"),
    (b"#!AMR", "audio"),
    (b"\x1aE\xdf\xa3", "video"),
)
_NUMBERED = re.compile(r"[-_ .]\d{1,3}$")


def files(folder: Path) -> Iterator[tuple[int, Record | str]]:
    """Yield (number, row) of every file below `folder`, by path; what is no medium or leads outside has a reason.

    `owner` is the file's name without its ending and a trailing number: SKU1-2.jpg and SKU1_3.jpg are SKU1's.
    """
    if not any(folder.iterdir()):
        raise InputError(
            str(folder),
            found="the folder is empty",
            consequence="There is nothing to import",
            remedy="Check the path",
        )
    found = sorted(p for p in folder.rglob("*") if not p.is_dir() and not p.name.startswith("."))
    for number, path in enumerate(found, start=1):
        relative = path.relative_to(folder).as_posix()
        described = describe(folder, relative)
        if isinstance(described, str):
            yield number, described
            continue
        stem = path.stem
        names = {"name": stem, "owner": _NUMBERED.sub("", stem) or stem, "folder": path.parent.name}
        yield number, {"path": relative, **names, **described}


def describe(folder: Path, relative: str) -> Record | str:
    """Return modality and sha256 of a file inside `folder`, or the reason code why it is not accepted."""
    pure = PurePosixPath(relative.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or "\x00" in relative or re.match(r"[A-Za-z]:", relative):
        return "path_outside"
    try:
        path = (folder / pure).resolve(strict=True)
        if not path.is_relative_to(folder.resolve()):
            return "path_outside"
        if not path.is_file():
            return "no_such_file"
        with path.open("rb") as content:
            kind = modality(content.read(64))
            content.seek(0)
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        return "no_such_file"
    return "no_medium" if kind is None else {"modality": kind, "sha256": digest}


def modality(head: bytes) -> str | None:
    """Return image, audio, video or text by a file's first bytes, never by its name; None for anything else."""
    if head[:4] == b"RIFF":
        return {b"WAVE": "audio", b"AVI ": "video", b"WEBP": "image"}.get(head[8:12])
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return "image" if brand in (b"avif", b"heic", b"mif1") else "audio" if brand == b"M4A " else "video"
    kind = next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)
    if kind is None and head and b"\x00" not in head:
        try:
            head.decode("utf-8")
        except UnicodeDecodeError as error:
            return "text" if error.start > len(head) - 4 else None
        return "text"
    return kind
