"""What a bench of universal profiles found, as the one JSON schema of benchmarks/README.md and as a page of it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from habitue import __version__
from habitue.bench.universal import AGGREGATES, BOTH, PROFILE, TASKS, Result
from habitue.dashboard import sheet
from habitue.evaluate import bench


def write(told: Mapping[str, Any], out: Path, *, command: str) -> None:
    """Save the JSON as `out` and the page beside it, .html; `command`: what was typed, for the page's last line."""
    bench.save(told, out)
    sheet.write(page(told, command), out.with_suffix(".html"))


def document(result: Result, *, commit: str | None = None) -> dict[str, Any]:
    """Return the one JSON schema of benchmarks/README.md, and beside it all that explains the numbers."""
    return bench.document(result.metrics, commit=commit) | {
        "sentence": result.sentence,
        "paired": result.paired.to_dicts(),
        "cut": result.case.cut.isoformat(),
        "notes": list(result.case.notes),
        "settings": _plain(dataclasses.asdict(result.config)),
    }


def page(told: Mapping[str, Any], command: str) -> dict[str, Any]:
    """Return the page: who won, the three tasks, what each part brings, how it was measured."""
    mean = {(r["model"], r["slice"]): r for r in told["rows"]}
    models = list(dict.fromkeys(r["model"] for r in told["rows"]))
    difference = {(r["model"], r["slice"]): r for r in told["paired"] if r["against"] == AGGREGATES}
    first = [m for m in (AGGREGATES, PROFILE, BOTH) if m in models]
    bars = {
        "kind": "bars",
        "title": "Area under the ROC curve",
        "x": "AUROC",
        "labels": list(TASKS),
        "series": [
            {
                "name": m,
                "values": [mean[m, t]["mean"] for t in TASKS],
                "low": [mean[m, t]["low"] for t in TASKS],
                "high": [mean[m, t]["high"] for t in TASKS],
            }
            for m in first
        ],
    }
    rows = [[m, *(_number(mean[m, t]["mean"]) for t in TASKS), f"{mean[m, 'churn']['cpu_s']:,.0f}"] for m in first]
    beyond = [[m, *(_span(difference[m, t]) for t in TASKS)] for m in first if m != AGGREGATES]
    sections: list[dict[str, Any]] = [
        {
            "title": "One vector, three tasks",
            "text": [f"{mean[PROFILE, 'churn']['n']:,} customers; intervals are 95 % over them."],
            "parts": [
                bars,
                _sheet_table("AUROC", [*TASKS, "CPU s"], rows),
                _sheet_table("Minus the aggregates, same customers", list(TASKS), beyond),
            ],
        }
    ]
    others = [m for m in models if m not in first]
    if others:
        parts = [[m, *(_number(mean[m, t]["mean"]) for t in TASKS)] for m in others]
        sections.append({"title": "What each part brings", "parts": [_sheet_table("AUROC", list(TASKS), parts)]})
    sections.append({"title": "How it was measured", "text": [f"{n[0].upper()}{n[1:]}." for n in told["notes"]]})
    return {
        "title": f"One vector for every task: {told['dataset']}",
        "lead": [told["sentence"]],
        "sections": sections,
        "made": {
            "version": __version__,
            "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "command": command,
        },
    }


def _sheet_table(title: str, names: list[str], rows: list[list[str]]) -> dict[str, Any]:
    columns = [{"name": "vector", "align": "left"}, *({"name": n, "align": "right"} for n in names)]
    return {"kind": "table", "title": title, "columns": columns, "rows": rows}


def _number(value: float) -> str:
    return f"{value:.4f}"


def _span(row: Mapping[str, Any]) -> str:
    between = f" ({row['low']:+.4f} to {row['high']:+.4f})" if row["low"] is not None else ""
    return f"{row['mean']:+.4f}{between}"


def _plain(value: Any) -> Any:
    """Return settings as JSON has them: tuples as lists, endless numbers as words."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value if not isinstance(value, float) or np.isfinite(value) else str(value)
