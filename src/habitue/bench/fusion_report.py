"""What a bench of fusion found, as the one JSON schema of benchmarks/README.md and as a page of it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from habitue import __version__, evaluate
from habitue.bench.fusion import AS_IT_IS, COLD_ITEMS, Cell, slice_of, table
from habitue.dashboard import sheet
from habitue.evaluate import bench, paired

MAIN = "ndcg@10"
ALONE = "events"  # no modality of the items
TITLES = {
    "all": "The next set, among all items",
    "cold": "New items, among themselves: their events were taken away",
    "cold, trained": "The same items with their events",
    "warm": "The other items, among themselves",
    "warm, trained": "The other items, with everybody's events",
}


def document(cells: Sequence[Cell], *, dataset: str, seeds: int, notes: Sequence[str]) -> dict[str, Any]:
    """Return the one JSON schema; beside it what each subset gains over events alone, and what is kept of it."""
    metrics = table(cells, dataset=dataset, seeds=seeds)
    gains = _gains(cells)
    kept = _kept(metrics)
    return bench.header(dataset, "fusion") | {
        "rows": metrics.drop("dataset", "protocol").to_dicts(),
        "sentence": _sentence(gains, kept),
        "paired": gains.to_dicts(),
        "kept": kept,
        "notes": list(notes),
    }


def write(told: Mapping[str, Any], out: Path, *, command: str) -> None:
    """Save the JSON as `out` and the page beside it, .html; `command`: what was typed, for the page's last line."""
    bench.save(told, out)
    sheet.write(page(told, command), out.with_suffix(".html"))


def named(row: Mapping[str, Any]) -> str:
    """Return `slist: text + picture (decision)`."""
    content = " + ".join(row["modalities"][1:]) or ALONE
    return f"{row['model']}: {content}" + (f" ({row['fusion']})" if row["fusion"] else "")


def page(told: Mapping[str, Any], command: str) -> dict[str, Any]:
    """Return the page: what each modality buys, then a picture and a table of every slice."""
    rows = [row for row in told["rows"] if row["metric"] == MAIN]
    gains = [
        [g["model"], g["slice"], f"{g['mean']:+.4f}", f"{g['low']:+.4f} to {g['high']:+.4f}"] for g in told["paired"]
    ]
    kept = [[k["model"], k["condition"], f"{k['share']:.0%}"] for k in told["kept"]]
    sections: list[dict[str, Any]] = [
        {
            "title": "What it buys",
            "text": ["NDCG@10 less that of the same model without the content, the same users; intervals are 95 %."],
            "parts": [_plain("Gain over events alone", ("model", "slice", "gain", "95 %"), gains)],
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
    for name in dict.fromkeys(row["slice"] for row in rows):
        some = sorted((row for row in rows if row["slice"] == name), key=lambda row: -row["mean"])
        series = {"name": "NDCG@10"} | {
            key: [row[of] for row in some] for key, of in (("values", "mean"), ("low", "low"), ("high", "high"))
        }
        bars = {"kind": "bars", "title": "NDCG@10", "x": "NDCG@10", "labels": [named(r) for r in some]}
        sections.append(
            {
                "title": TITLES.get(name, name[0].upper() + name[1:]),
                "text": [f"{some[0]['n']:,} users; intervals are 95 % over users."],
                "parts": [
                    bars | {"series": [series]},
                    _plain(
                        "Cost", ("model", "NDCG@10", "CPU s"),
                        [[named(r), f"{r['mean']:.4f}", f"{r['cpu_s']:,.1f}"] for r in some],
                    ),
                ],
            }
        )  # fmt: skip
    sections[0]["text"] += [f"{note[0].upper()}{note[1:]}." for note in told["notes"]]
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


def _gains(cells: Sequence[Cell]) -> pl.DataFrame:
    """Return each subset minus events alone, the same model and condition, paired over the same users."""
    found = [pl.DataFrame(schema=paired.SCHEMA)]
    for cell in cells:
        # Events alone have no modality to lose: a poorer content is held against them as they are.
        like = AS_IT_IS if cell.condition.startswith("missing") else cell.condition
        base = next((c for c in cells if not c.subset and (c.model, c.condition) == (cell.model, like)), None)
        if not cell.subset or base is None:
            continue
        slices = {one.slice for one in cell.measured} & {one.slice for one in base.measured}
        label = named({"model": cell.model, "modalities": ["events", *cell.subset], "fusion": cell.fusion})
        both = [
            dataclasses.replace(one, model=name, slice=slice_of(one.slice, cell.condition))
            for name, of in ((label, cell), (ALONE, base))
            for one in of.measured
            if one.metric == MAIN and one.slice in slices
        ]
        found.append(evaluate.compare(both, against=ALONE))
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
        return "No model here reads what the items hold: there is nothing to compare."
    if clear.height:
        told = f"{clear['model'][0]} gains most on all items, NDCG@10 {clear['mean'][0]:+.4f} over events alone"
        told += f", one of {clear.height} of {whole.height} that clearly gain."
    else:
        best = whole.sort("mean", descending=True)
        told = f"No content clearly helps on all items: the best, {best['model'][0]}, gains {best['mean'][0]:+.4f}"
        told += f" ({best['low'][0]:+.4f} to {best['high'][0]:+.4f})."
    if cold:
        told += f" On items without events {cold['model']} keeps most: {cold['share']:.0%} of what their events give."
    return told


def _plain(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return a table, all but the first columns of words to the right."""
    numbers = ("gain", "kept", "NDCG@10", "CPU s", "95 %")
    aligned = [{"name": name, "align": "right" if name in numbers else "left"} for name in columns]
    return {"kind": "table", "title": title, "columns": aligned, "rows": [list(row) for row in rows]}
