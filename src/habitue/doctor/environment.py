"""Python, packages, memory, disk, threads."""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

from habitue.core import runtime
from habitue.doctor.finding import BROKEN, FINE, NOTICE, Finding

PYTHONS = ((3, 11), (3, 14))
LEAST_MEMORY = 2 * 2**30  # bytes; the demo's peak is half of it
LEAST_DISK = 256 * 2**20  # bytes; an import of a real shop's year, twice


def findings(folder: Path) -> list[Finding]:
    """Return what the machine has and lacks; `folder` tells which disk."""
    return [_python(), *_packages(), _memory(), _disk(folder), _threads()]


def _python() -> Finding:
    here = sys.version_info[:2]
    (low, high), words = PYTHONS, ".".join(map(str, sys.version_info[:3]))
    if low <= here <= high:
        return Finding(FINE, "python", f"Python {words}.")
    return Finding(BROKEN, "python", f"Python {words} is not one Habitue runs on.", "Take 3.11 to 3.14.")


def _packages() -> list[Finding]:
    """Return what is missing, extra by extra; without an extra what it serves is left out, and says so."""
    try:
        declared = metadata.requires("habitue") or []
    except metadata.PackageNotFoundError:
        remedy = "Install it: pip install habitue"
        return [Finding(NOTICE, "packages", "Habitue runs from a folder and is not installed.", remedy)]
    missing: dict[str, list[str]] = {}
    for requirement in declared:
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        if name is None or name[0] == "habitue" or (extra is not None and extra[1] == "dev"):
            continue
        group = missing.setdefault("" if extra is None else extra[1], [])
        if not _installed(name[0]):
            group.append(name[0])
    found = []
    if lost := missing.pop("", []):
        found.append(Finding(BROKEN, "packages", f"{', '.join(lost)} is missing.", "Run: pip install habitue"))
    there = [named for named, absent in missing.items() if not absent]
    found.append(Finding(FINE, "packages", f"Extras installed: {', '.join(sorted(there)) or 'none'}."))
    lacking = {named: ", ".join(sorted(set(absent))) for named, absent in sorted(missing.items()) if absent}
    if len(lacking) > 1:
        lacking.pop("all", None)  # it is the others together
    if lacking:
        words = f"Extras not installed: {'; '.join(f'{named} ({absent})' for named, absent in lacking.items())}."
        remedy = f"If you want one of them: pip install 'habitue[{next(iter(lacking))}]'"
        found.append(Finding(NOTICE, "packages", words, remedy))
    return found


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _memory() -> Finding:
    free = runtime.free_memory()
    if free is None:
        return Finding(FINE, "memory", "How much is free cannot be told on this system.")
    words = f"{free / 2**30:.1f} GiB are free."
    if free < LEAST_MEMORY:
        remedy = "Close other programs; imports need about 1 kB a row, training the report about 1 GiB."
        return Finding(NOTICE, "memory", words, remedy)
    return Finding(FINE, "memory", words)


def _disk(folder: Path) -> Finding:
    there = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(there).free
    words = f"{free / 2**30:.1f} GiB are free where {folder} lies."
    if free < LEAST_DISK:
        return Finding(BROKEN, "disk", words, "Make room: a write that finds none is refused, and nothing is lost.")
    return Finding(FINE, "disk", words)


def _threads() -> Finding:
    cores, named = os.cpu_count() or 1, runtime.named_threads()
    if named is not None and named > cores:
        words = f"OMP_NUM_THREADS is {named}, and there are {cores} cores."
        return Finding(NOTICE, "threads", words, "Set it to 1: on many small operations more threads are slower.")
    return Finding(FINE, "threads", f"{cores} cores" + ("." if named is None else f", {named} threads asked for."))
