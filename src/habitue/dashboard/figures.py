"""Small arrangements of the report's rows for a table or a caption; nothing is measured here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from habitue.dashboard import words

Row = Mapping[str, Any]


def rows(report: Mapping[str, Any], path: str, metric: str | None = None, slice: str | None = None) -> Any:
    """What stands at a dotted path of the report, of one metric and slice where asked; None when nothing does."""
    part: Any = report
    for key in path.split("."):
        part = part.get(key) if part else None
    if part and metric:
        return best(part, metric, slice) or None
    return part or None


def best(metrics: Iterable[Row], metric: str, slice: str | None = None) -> list[Row]:
    """The rows of one metric (and slice), best model first; equal means keep their order."""
    chosen = [r for r in metrics if r["metric"] == metric and (slice is None or r["slice"] == slice)]
    better = words.measure(metric).better
    if better == "near 0":
        return sorted(chosen, key=lambda r: abs(r["mean"]))
    return sorted(chosen, key=lambda r: r["mean"], reverse=better == "higher")


def reach(points: Sequence[Sequence[float]], share: float) -> float:
    """Height of a gains curve at `share` of the customers, by linear interpolation between its points."""
    left = (0.0, 0.0)
    for x, y in points:
        if x >= share:
            return y if x == left[0] else left[1] + (y - left[1]) * (share - left[0]) / (x - left[0])
        left = (x, y)
    return left[1]


def pivot(metrics: Iterable[Row]) -> list[dict[str, Any]]:
    """Arrange METRICS rows as one table per slice: [{slice, metrics: [...], costs, rows: [{model, cells,
    cpu_s}]}].

    Slices, metrics and models stand in the order of their first row; a cell that was not measured is None.
    """
    given = list(metrics)
    tables = []
    for slice in dict.fromkeys(r["slice"] for r in given):
        part = [r for r in given if r["slice"] == slice]
        names = list(dict.fromkeys(r["metric"] for r in part))
        cells = {(r["model"], r["metric"]): r for r in part}
        rows = [
            {
                "model": model,
                "cells": [cells.get((model, name)) for name in names],
                "cpu_s": next((r["cpu_s"] for r in part if r["model"] == model and r.get("cpu_s") is not None), None),
            }
            for model in dict.fromkeys(r["model"] for r in part)
        ]
        costs = any(row["cpu_s"] is not None for row in rows)
        tables.append({"slice": slice, "metrics": names, "rows": rows, "costs": costs})
    return tables


def largest(findings: Iterable[Row]) -> list[Row]:
    """Findings by the money they touch, the most first."""
    return sorted(findings, key=lambda row: -abs(row["money"]))


def learning(curve: Sequence[Row], column: str, width: float = 600, height: float = 120) -> dict[str, Any] | None:
    """One column of a learning curve as the points of a line in a box; None with fewer than two rows that tell it.

    Left to right by step, the largest value on top; `first`, `last`, `low` and `high` are values of the column.
    """
    told = [(row["step"], row[column]) for row in curve if row[column] is not None]
    if len(told) < 2:
        return None
    steps, values = zip(*told, strict=True)
    low, high, end = min(values), max(values), curve[-1]["step"]
    points = ((width * s / end, height * (high - v) / ((high - low) or 1)) for s, v in told)
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return {"line": line, "first": values[0], "last": values[-1], "low": low, "high": high}


def shown_models(report: Mapping[str, Any]) -> list[str]:
    """The models of the shop's own tables, in the order of their first row."""
    parts = [rows(report, f"{key}.metrics") or [] for key in ("buy", "lost", "spend")]
    return list(dict.fromkeys(r["model"] for part in parts for r in part))
