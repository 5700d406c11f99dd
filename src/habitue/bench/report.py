"""What a bench of rankings found, as the one JSON schema of benchmarks/README.md and as a page of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from habitue import __version__
from habitue.bench.ranking import Result
from habitue.bench.sequences import Sequences
from habitue.dashboard import sheet
from habitue.evaluate import bench

SLICES = {
    "all": "The next set",
    "later": "Everything later",
    "repeat": "Bought before",
    "first_time": "New to the user",
}
SHOWN = ("ndcg@10", "hit@10", "recall@10", "ndcg@20", "mrr")


def document(
    result: Result, data: Sequences, protocol: str, notes: Sequence[str], dataset: str, *, top: bool
) -> dict[str, Any]:
    """Return the one JSON schema of benchmarks/README.md, and beside it all that explains the numbers."""
    return bench.header(dataset, protocol) | {
        "rows": result.metrics.drop("dataset", "protocol").to_dicts(),
        "sentence": result.sentence,
        "paired": result.paired.to_dicts(),
        "data": {
            "users": len(data.users),
            "items": len(data.items),
            "events": len(data.histories.row_item),
            "ties": data.ties,
            "repeats": data.repeats,
            "content": list(data.content),
            "left_out": dict(data.dropped),
        },
        "notes": list(notes),
        "models": {
            cell.model: {
                "settings": asdict(cell.config),
                "trials": [vars(trial) for trial in cell.trials],
                "cpu_s": cell.cpu_s,
                "tuning_cpu_s": cell.tuning_cpu_s,
                "coverage@10": cell.coverage,
                "lists": cell.lists.height if top else None,
                "notes": list(cell.notes),
            }
            for cell in result.cells
        },
        "failed": dict(result.failed),
    }


def write(document: dict[str, Any], out: Path, *, command: str) -> None:
    """Save the JSON as `out` and the page beside it, .html.

    `command`: what was typed, for the page's last line.
    """
    bench.save(document, out)
    sheet.write(page(document, command), out.with_suffix(".html"))


def page(document: dict[str, Any], command: str) -> dict[str, Any]:
    """Return the page: who won, the tables, quality against cost, what was tried and chosen."""
    slices = list(dict.fromkeys(row["slice"] for row in document["rows"]))
    sections = [_section(document, name) for name in slices]
    if len(document["models"]) > 1 and slices:
        sections.append(_costs(document, slices[0]))
    if any(len(told["trials"]) > 1 for told in document["models"].values()):
        sections.append(_trials(document))
    about = document["data"]
    settings = [
        [name, setting, str(value)]
        for name, told in document["models"].items()
        for setting, value in told["settings"].items()
        if not isinstance(value, dict)
    ]
    sections.append(
        {
            "title": "What was measured",
            "text": [
                f"{about['events']:,} events of {about['users']:,} users and {about['items']:,} items; "
                f"{about['ties']:.1%} share user and moment with another, {about['repeats']:.1%} are repeats.",
                *(f"{note[0].upper()}{note[1:]}." for note in document["notes"]),
                *(f"{count:,} rows left out: {why}." for why, count in about["left_out"].items()),
                *(f"{name}: {note}." for name, told in document["models"].items() for note in told["notes"]),
                *(f"{name} has no row: {why}" for name, why in document["failed"].items()),
            ],
            "parts": [
                {
                    "kind": "table",
                    "title": "Settings",
                    "columns": [{"name": n, "align": "left"} for n in ("model", "setting", "value")],
                    "rows": settings,
                }
            ],
        }
    )
    return {
        "title": f"Ranking on {document['dataset']}, {document['protocol']}",
        "lead": [document["sentence"]],
        "sections": sections,
        "made": {
            "version": __version__,
            "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "command": command,
        },
    }


def _section(document: dict[str, Any], slice_: str) -> dict[str, Any]:
    rows = [row for row in document["rows"] if row["slice"] == slice_]
    main = sorted((r for r in rows if r["metric"] == "ndcg@10"), key=lambda r: -r["mean"])
    cell = {(r["model"], r["metric"]): r["mean"] for r in rows}
    measured = {r["metric"] for r in rows}
    names = [name for name in SHOWN if name in measured]  # the rest stands in the JSON
    return {
        "title": SLICES.get(slice_, slice_),
        "text": [f"{main[0]['n']:,} users, full catalogue; intervals are 95 % over users."],
        "parts": [
            {
                "kind": "bars",
                "title": "NDCG@10",
                "x": "NDCG@10",
                "labels": [r["model"] for r in main],
                "series": [
                    {
                        "name": "NDCG@10",
                        "values": [r["mean"] for r in main],
                        "low": [r["low"] for r in main],
                        "high": [r["high"] for r in main],
                    }
                ],
            },
            {
                "kind": "table",
                "title": "Metrics",
                "columns": [
                    {"name": "model", "align": "left"},
                    *({"name": n, "align": "right"} for n in names),
                    {"name": "CPU s", "align": "right"},
                ],
                "rows": [
                    [r["model"], *(short(cell.get((r["model"], n))) for n in names), f"{r['cpu_s']:,.1f}"] for r in main
                ],
            },
        ],
    }


def _costs(document: dict[str, Any], slice_: str) -> dict[str, Any]:
    rows = [r for r in document["rows"] if r["slice"] == slice_ and r["metric"] == "ndcg@10"]
    points = [{"name": r["model"], "points": [[max(r["cpu_s"], 0.01), r["mean"], r["model"]]]} for r in rows]
    return {
        "title": "Quality and cost",
        "text": ["CPU-seconds of fit and scores, one core; up and to the left is better."],
        "parts": [
            {"kind": "scatter", "title": "NDCG@10 for its CPU-seconds", "x": "CPU-seconds", "y": "NDCG@10",
             "groups": points, "log": ["x"]}
        ],
    }  # fmt: skip


def _trials(document: dict[str, Any]) -> dict[str, Any]:
    series = [
        {"name": name, "points": [[i, t["validation"]] for i, t in enumerate(told["trials"]) if t["validation"]]}
        for name, told in document["models"].items()
    ]
    return {
        "title": "What was tried",
        "text": ["Every point is one try of a model's settings, judged on validation; the best went to the test."],
        "parts": [
            {
                "kind": "lines",
                "title": "NDCG@10 on validation",
                "x": "trial",
                "y": "NDCG@10",
                "series": [one for one in series if one["points"]],
            }
        ],
    }


def short(value: float | None) -> str:
    """Four decimals; nothing for nothing."""
    return "" if value is None else f"{value:.4f}"
