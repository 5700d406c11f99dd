"""docs/benchmarks.md from the JSON documents of this folder, and from nothing else.

python benchmarks/tables.py            write the page again (make docs)
python benchmarks/tables.py --check    exit 1 when it is not what the documents say
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/benchmarks.md"
PARTS = {
    "quality": "How good the answers are",
    "speed": "How long they take, and how much they hold",
    "reliability": "What they survive",
}
MAIN = (
    "ndcg@10",
    "hit@10",
    "auc",
    "accuracy",
    "f1",
    "macro_f1",
    "mae",
    "spearman",
    "bias",
)  # shown first where measured
METRICS_SHOWN = 6


def page(folder: Path) -> str:
    """Return the page: a table a document and slice, best model first."""
    lines = [
        "# Benchmarks",
        "",
        "Made by `make docs` from the JSON files under `benchmarks/`; nothing here is typed by hand. Each file says",
        "the machine, the versions and the revision; [benchmarks/README.md](../benchmarks/README.md) says what each",
        "field means and how to run them again. An interval is 95 %, over users or rows. CPU s is fit and score.",
        "",
    ]
    for part, title in PARTS.items():
        lines += [f"## {title}", ""]
        for file in sorted((folder / part).glob("*.json")):
            lines += _document(json.loads(file.read_text(encoding="utf-8")), file.relative_to(ROOT))
    return "\n".join(lines).rstrip() + "\n"


def _document(document: Mapping[str, Any], file: Path) -> list[str]:
    rows = document["rows"]
    lines = [f"### {document['dataset']}, {document['protocol']}{_told_apart(rows, file)}", ""]
    if "sentence" in document:
        lines += [document["sentence"], ""]
    if document["protocol"] == "fusion":  # several rows a model: what each reads is part of its name
        lines += [*_grid(rows), *_standing(document)]
    else:
        for slice_ in dict.fromkeys(row["slice"] for row in rows):
            some = [row for row in rows if row["slice"] == slice_]
            if len({row["slice"] for row in rows}) > 1:
                lines += [f"{slice_}, n = {some[0]['n']:,}", ""]
            lines += _table(some)
    lines += [f"[{file.name}](../{file.as_posix()}), {document['machine']}, {_revision(document['commit'])}", ""]
    return lines


def _told_apart(rows: Sequence[Mapping[str, Any]], file: Path) -> str:
    """Return what the models of a ranking read, and its seeds: one file of data has several such tables."""
    if not file.name.startswith("ranking-"):
        return ""
    read = dict.fromkeys(sense for row in rows for sense in row["modalities"])
    seeds = max(row["seeds"] for row in rows)
    return f", {' and '.join('ids' if one == 'events' else one for one in read)}" + f", {seeds} seeds" * (seeds > 1)


def _reads(row: Mapping[str, Any]) -> str:
    """Return `slist: events + text + picture (decision)`."""
    return f"{row['model']}: {' + '.join(row['modalities'])}" + (f" ({row['fusion']})" if row["fusion"] else "")


def _grid(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one table: a row a model, subset and fusion, a column a slice, the first metric; best of `all` first."""
    metric = rows[0]["metric"]
    rows = [row for row in rows if row["metric"] == metric]
    cells = {(_reads(row), row["slice"]): row for row in rows}
    slices = sorted({row["slice"] for row in rows}, key=lambda s: (not s.startswith("all"), len(s) > 3, s))
    most = max(cells.values(), key=lambda row: row["n"])["n"]
    names = sorted(
        dict.fromkeys(_reads(row) for row in rows),
        key=lambda name: -cells[name, "all"]["mean"] if (name, "all") in cells else 0.0,
    )
    lines = [f"{metric}, n = {most:,} at most", "", f"| model | {' | '.join(slices)} | CPU s |"]
    lines += ["|---|" + "---:|" * (len(slices) + 1)]
    for name in names:
        shown = [cells.get((name, slice_)) for slice_ in slices]
        numbers = [_cell(row, first=slice_ == "all") for row, slice_ in zip(shown, slices, strict=True)]
        spent = next(row["cpu_s"] for row in shown if row)
        lines.append(f"| {name} | {' | '.join(numbers)} | {spent:,.1f} |")
    return [*lines, ""]


def _standing(document: Mapping[str, Any]) -> list[str]:
    """Return what else a bench of fusion says: all modalities against other models, and how much was not measured."""
    versus = document.get("versus", [])
    best = max(versus, key=lambda v: v["mean"], default={"model": ""})["model"]
    told = [
        f"- {v['model']} less {v['against']}: {v['mean']:+.4f} ({v['low']:+.4f} to {v['high']:+.4f})"
        for v in versus
        if v["model"] == best
    ]
    left = len(document.get("left_out", []))
    lines = (
        [
            "All modalities, best of the fusions (the JSON has each), less other models with all they read:",
            "",
            *told,
            "",
        ]
        if told
        else []
    )
    return lines + ([f"{left} cells did not fit into the budget; the JSON names them.", ""] if left else [])


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = {(row["model"], row["metric"]): row for row in rows}
    measured = list(dict.fromkeys(row["metric"] for row in rows))
    metrics = sorted(measured, key=lambda m: (MAIN.index(m) if m in MAIN else len(MAIN), measured.index(m)))
    metrics = metrics[:METRICS_SHOWN]
    models = list(dict.fromkeys(row["model"] for row in rows))
    if metrics[0] in ("ndcg@10", "auc", "accuracy"):
        models.sort(key=lambda model: -cells[model, metrics[0]]["mean"] if (model, metrics[0]) in cells else 1)
    spent = {row["model"]: row["cpu_s"] for row in rows}
    costs = any(seconds is not None for seconds in spent.values())
    head = ["model", *metrics, *(["CPU s"] if costs else [])]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for model in models:
        cost = [f"{spent[model]:,.1f}" if spent[model] is not None else ""] if costs else []
        values = [_cell(cells.get((model, metric)), first=metric == metrics[0]) for metric in metrics]
        lines.append("| " + " | ".join([model, *values, *cost]) + " |")
    return [*lines, ""]


def _cell(row: Mapping[str, Any] | None, *, first: bool) -> str:
    if row is None:
        return ""
    value = _number(row["mean"])
    if first and row["low"] is not None:
        return f"{value} ({_number(row['low'])} to {_number(row['high'])})"
    return value


def _number(value: float) -> str:
    size = abs(value)
    return (
        f"{value:,.0f}"
        if size >= 1000
        else f"{value:.1f}"
        if size >= 100
        else f"{value:.2f}"
        if size >= 10
        else f"{value:.4f}"
    )


def _revision(commit: str) -> str:
    return f"revision {commit[:7]}" if len(commit) == 40 else commit


def main(arguments: Sequence[str]) -> int:
    made = page(ROOT / "benchmarks")
    if "--check" in arguments:
        same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == made
        if not same:
            print("docs/benchmarks.md is not what the JSON files say. Write it again with: make docs")
        return 0 if same else 1
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
