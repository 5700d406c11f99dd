"""Benchmark results as JSON: one document a data set and protocol, the schema of benchmarks/README.md."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import polars as pl

from habitue import __version__
from habitue.core.errors import UsageError
from habitue.core.schemas import METRICS, Metrics, check

PACKAGES = ("habitue", "numpy", "scipy", "polars", "torch", "lightgbm", "scikit-learn", "deltalake")


def header(dataset: str, protocol: str, *, commit: str | None = None) -> dict[str, Any]:
    """Return {machine, commit, versions, dataset, protocol}; `commit`: the revision measured, None = this version."""
    return {
        "machine": machine(),
        "commit": commit or f"habitue {__version__}",
        "versions": versions(),
        "dataset": dataset,
        "protocol": protocol,
    }


def document(metrics: Metrics, *, commit: str | None = None) -> dict[str, Any]:
    """Return `header` and rows, which are METRICS without data set and protocol.

    Raises UsageError when the rows are of more than one data set and protocol.
    """
    check(metrics, METRICS, at="evaluate.bench")
    pairs = metrics.select("dataset", "protocol").unique().sort("dataset", "protocol").rows()
    if len(pairs) != 1:
        raise UsageError(
            "evaluate.bench",
            found=f"the rows are of {len(pairs)} pairs of data set and protocol",
            consequence="One document holds one protocol on one data set",
            remedy="Call write(), which makes one document of each",
        )
    return header(*pairs[0], commit=commit) | {"rows": metrics.drop("dataset", "protocol").to_dicts()}


def write(metrics: Metrics, folder: Path, *, commit: str) -> list[Path]:
    """Save `<dataset>-<protocol>.json` in `folder` for each data set and protocol; return the paths."""
    check(metrics, METRICS, at="evaluate.bench")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for dataset, protocol in metrics.select("dataset", "protocol").unique().sort("dataset", "protocol").iter_rows():
        rows = metrics.filter(pl.col("dataset") == dataset, pl.col("protocol") == protocol)
        written.append(save(document(rows, commit=commit), folder / f"{_slug(dataset, protocol)}.json"))
    return written


def save(document: Mapping[str, Any], path: Path) -> Path:
    """Write a document as JSON; an older file of that name is replaced whole or not at all. ValueError for a NaN."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)  # nobody measures for minutes to be told of a folder then
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text + "\n", encoding="utf-8")
    unfinished.replace(path)
    return path


def machine() -> str:
    """Return system, processor, cores, memory and the accelerator that torch would take, in words; no name, no user."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    told = f"{platform.system()} {platform.machine()}, {_processor()}, {os.cpu_count()} cores, {memory:.0f} GB"
    torch = sys.modules.get("torch")  # where it was not loaded nothing ran on an accelerator
    return f"{told}, {torch.cuda.get_device_name()}" if torch is not None and torch.cuda.is_available() else told


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of those `packages` that are installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # what is not installed was not measured
    return found


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _slug(*words: str) -> str:
    return "-".join(re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-") for word in words)
