"""What a bench of fusion found, as the one JSON schema of benchmarks/README.md and as a page of it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from habitue import __version__, evaluate
from habitue.bench.fusion import Cell, Result, slice_of, table
from habitue.bench.fusion_fits import AS_IT_IS, COLD_ITEMS, EVENTS
from habitue.dashboard import sheet
from habitue.evaluate import bench, paired

MAIN = "ndcg@10"
COLUMNS = {
    "all": "all",
    "warm, trained": "warm",
    "cold, trained": "cold, with events",
    "cold": "cold",
    **{f"all, missing {share}": f"missing {share}" for share in (30, 50, 70, 100)},
}


def document(result: Result, *, dataset: str, notes: Sequence[str]) -> dict[str, Any]:
    """Return the one JSON schema; beside it what each cell gains over events and other models, and what is kept."""
    cells = result.cells
    metrics = table(cells, dataset=dataset)
    gains, versus = _gains(cells), _versus(cells)
    kept = _kept(metrics)
    return bench.header(dataset, "fusion") | {
        "rows": metrics.drop("dataset", "protocol").to_dicts(),
        "sentence": _sentence(gains, kept),
        "paired": gains.to_dicts(),
        "versus": versus.to_dicts(),
        "kept": kept,
        "left_out": [{"cell": cell, "why": why} for cell, why in result.left_out.items()],
        "notes": list(notes),
    }


def write(told: Mapping[str, Any], out: Path, *, command: str) -> None:
    """Save the JSON as `out` and the page beside it, .html; `command`: what was typed, for the page's last line."""
    bench.save(told, out)
    sheet.write(page(told, command), out.with_suffix(".html"))


def named(row: Mapping[str, Any]) -> str:
    """Return `slist: events + text + picture (decision)`."""
    return f"{row['model']}: {' + '.join(row['modalities'])}" + (f" ({row['fusion']})" if row["fusion"] else "")


def grid(told: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of the whole table: a row a model, subset and fusion, a column a condition."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in told["rows"]:
        if row["metric"] == MAIN:
            found.setdefault(named(row), {})[row["slice"]] = row
    met = [name for name in COLUMNS if any(name in cells for cells in found.values())]
    order = sorted(found.items(), key=lambda one: -one[1]["all"]["mean"] if "all" in one[1] else 0.0)
    rows = []
    for name, cells in order:
        numbers = [f"{cells[slice_]['mean']:.4f}" if slice_ in cells else "" for slice_ in met]
        one = cells.get("all", next(iter(cells.values())))
        rows.append([name, *numbers, _interval(one), str(one["seeds"]), f"{one['cpu_s']:,.1f}"])
    return ["model", *(COLUMNS[name] for name in met), "95 % of the first", "seeds", "CPU s"], rows


def page(told: Mapping[str, Any], command: str) -> dict[str, Any]:
    """Return the page: every cell, what each buys, what is kept of it, and how it stands beside other models."""
    columns, rows = grid(told)
    gains = [[g["model"], g["slice"], *_signed(g)] for g in told["paired"]]
    kept = [[k["model"], k["condition"], f"{k['share']:.0%}"] for k in told["kept"]]
    versus = [[v["model"], v["against"], *_signed(v)] for v in told["versus"]]
    sections: list[dict[str, Any]] = [
        {
            "title": "Every subset in every fusion",
            "text": [
                "NDCG@10. all: the next set among all items. warm, cold: everything later, among the items that keep "
                "their events and among one in five that lost them, and among the same with their events. missing: the "
                "next set where each modality is lost for a share of the items or users.",
                *(f"{note[0].upper()}{note[1:]}." for note in told["notes"]),
                *(f"Not measured: {one['cell']}. {one['why']}." for one in told["left_out"]),
            ],
            "parts": [_plain("NDCG@10", columns, rows)],
        },
        {
            "title": "What it buys",
            "text": ["NDCG@10 less that of the same model by events alone, the same users; intervals are 95 %."],
            "parts": [_plain("Gain over events alone", ("model", "slice", "gain", "95 %"), gains)],
        },
        {
            "title": "Beside other models",
            "text": ["All modalities, NDCG@10 on all items less that of each other model with the same."],
            "parts": [_plain("Difference", ("model", "against", "gain", "95 %"), versus)],
        },
        {
            "title": "What is kept of it",
            "text": [
                "cold: NDCG@10 of items without events by that of the same items with them. missing: NDCG@10 where "
                "each modality is lost for a share of the items by that where none is."
            ],
            "parts": [_plain("Kept", ("model", "condition", "kept"), kept)],
        },
    ]
    return {
        "title": f"What each modality buys on {told['dataset']}",
        "lead": [told["sentence"]],
        "sections": sections,
        "made": {
            "version": __version__,
            "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "command": command,
        },
    }


def _label(cell: Cell) -> str:
    return named({"model": cell.measured[0].model, "modalities": cell.subset, "fusion": cell.fusion})


def _gains(cells: Sequence[Cell]) -> pl.DataFrame:
    """Return each cell minus the same model by events alone, under the same condition, paired over the same users."""
    found = [pl.DataFrame(schema=paired.SCHEMA)]
    alone = {(c.model, c.condition): c for c in cells if c.subset == (EVENTS,)}
    for cell in cells:
        # Events alone have no modality to lose: a poorer content is held against them as they are.
        like = AS_IT_IS if cell.condition.startswith("missing") else cell.condition
        base = alone.get((cell.model, like))
        if cell.subset == (EVENTS,) or base is None:
            continue
        slices = {one.slice for one in cell.measured} & {one.slice for one in base.measured}
        both = [
            dataclasses.replace(one, model=name, slice=slice_of(one.slice, cell.condition))
            for name, of in ((_label(cell), cell), (EVENTS, base))
            for one in of.measured
            if one.metric == MAIN and one.slice in slices
        ]
        found.append(evaluate.compare(both, against=EVENTS))
    return pl.concat(found)


def _versus(cells: Sequence[Cell]) -> pl.DataFrame:
    """Return the largest subset of the models that fuse, in each fusion, minus every other model with most it reads."""
    found = [pl.DataFrame(schema=paired.SCHEMA)]
    whole = [c for c in cells if c.condition == AS_IT_IS]
    fuse = {c.model for c in whole if EVENTS not in c.subset or c.fusion not in (None, "concat", "decision")}
    most = max((len(c.subset) for c in whole), default=0)
    ours = [c for c in whole if c.model in fuse and len(c.subset) == most]
    others = [c for c in whole if c.model not in fuse]
    widest = {c.model: max(len(o.subset) for o in others if o.model == c.model) for c in others}
    for rival in (c for c in others if len(c.subset) == widest[c.model]):
        both = [
            dataclasses.replace(one, model=_label(cell))
            for cell in (*ours, rival)
            for one in cell.measured
            if (one.slice, one.metric) == ("all", MAIN)
        ]
        if ours and both:
            found.append(evaluate.compare(both, against=_label(rival)))
    return pl.concat(found)


def _kept(metrics: pl.DataFrame) -> list[dict[str, Any]]:
    """Return model, condition, share: the NDCG@10 of a poorer past by that of the whole one."""
    rows = [r for r in metrics.filter(metric=MAIN).iter_rows(named=True)]
    mean = {(named(r), r["slice"]): r["mean"] for r in rows}
    found = []
    for (model, slice_), value in mean.items():
        whole = mean.get((model, "cold, trained" if slice_ == COLD_ITEMS else "all"))
        if whole and (slice_ == COLD_ITEMS or slice_.startswith("all, missing")):
            found.append({"model": model, "condition": slice_.removeprefix("all, "), "share": value / whole})
    return found


def _sentence(gains: pl.DataFrame, kept: Sequence[Mapping[str, Any]]) -> str:
    """Say how many of the subsets clearly help on all items, and the most that is kept on new ones."""
    whole = gains.filter(pl.col("slice") == "all")
    clear = whole.filter(pl.col("low") > 0).sort("mean", descending=True)
    cold = max((k for k in kept if k["condition"] == COLD_ITEMS), key=lambda k: k["share"], default=None)
    if not whole.height:
        return "No model here reads anything beside events: there is nothing to compare."
    if clear.height:
        told = f"{clear['model'][0]} gains most on all items, NDCG@10 {clear['mean'][0]:+.4f} over events alone"
        told += f", one of {clear.height} of {whole.height} that clearly gain."
    else:
        best = whole.sort("mean", descending=True)
        told = f"Nothing clearly helps on all items: the best, {best['model'][0]}, gains {best['mean'][0]:+.4f}"
        told += f" ({best['low'][0]:+.4f} to {best['high'][0]:+.4f})."
    if cold:
        told += f" On items without events {cold['model']} keeps most: {cold['share']:.0%} of what their events give."
    return told


def _interval(row: Mapping[str, Any]) -> str:
    return "" if row["low"] is None else f"{row['low']:.4f}-{row['high']:.4f}"


def _signed(row: Mapping[str, Any]) -> list[str]:
    return [f"{row['mean']:+.4f}", "" if row["low"] is None else f"{row['low']:+.4f} to {row['high']:+.4f}"]


def _plain(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return a table, all but the columns of words to the right."""
    words = ("model", "slice", "condition", "against")
    aligned = [{"name": name, "align": "left" if name in words else "right"} for name in columns]
    return {"kind": "table", "title": title, "columns": aligned, "rows": [list(row) for row in rows]}
