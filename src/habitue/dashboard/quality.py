"""One check of a shop's tables as a sheet: scores, findings, drift, trend, repairs, every column."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl

from habitue import __version__
from habitue.core.schemas import Checks
from habitue.dashboard.words import counted, money, percent, plain, tidy
from habitue.quality import limits
from habitue.quality.drift import MUCH, SOME, Period
from habitue.quality.examine import Examined

DIMENSIONS = ("completeness", "consistency", "accuracy", "diversity")
DRAWN = 20  # columns of the drift chart, worst first
LINES = 8  # lines of the trend chart: more cannot be told apart
Sheet = dict[str, Any]


def sheet(
    examined: Examined,
    *,
    trend: Checks,
    in_force: pl.DataFrame,
    refused: pl.DataFrame,
    shop: str,
    currency: str,
    at: dt.datetime,
    command: str,
) -> Sheet:
    """Return the page as `dashboard.sheet` draws it; `trend`: every check so far, this one last."""
    return {
        "title": f"{shop}: what the data is worth trusting",
        "lead": _lead(examined, currency),
        "sections": [
            _scores(examined),
            _findings(examined, refused, currency),
            _repairs(examined, in_force, currency),
            _drift(examined),
            _trend(trend),
            _columns(examined),
        ],
        "made": {"version": __version__, "at": at.isoformat(timespec="seconds"), "command": command},
    }


def _lead(examined: Examined, currency: str) -> list[str]:
    rows, tables = sum(examined.rows.values()), len(examined.rows)
    found = examined.findings
    told = [f"{counted(rows, 'row')} in {counted(tables, 'table')}; {counted(found.height, 'thing')} found."]
    largest = found.filter(pl.col("table") == "events").sort(pl.col("money").abs(), descending=True).head(1)
    told += [f"The most money: {tidy(sentence, currency)}" for sentence in largest["sentence"]]
    if examined.broken:
        told.append(f"{counted(len(examined.broken), 'limit')} of the plan broken: {' '.join(examined.broken)}")
    elif examined.proposals:
        told.append(f"{counted(len(examined.proposals), 'repair')} can be made; none is made unless you ask.")
    return told


def _scores(examined: Examined) -> Sheet:
    by = limits.dimensions(examined.scores)
    tables = by["table"].unique(maintain_order=True).to_list()
    cells = {(table, dimension): score for table, dimension, score in by.iter_rows()}
    parts: list[Sheet] = []
    if tables:
        parts.append(
            {
                "kind": "heat",
                "title": "Mean score of each table, 1 is best",
                "x_labels": list(DIMENSIONS),
                "y_labels": tables,
                "values": [[_short(cells.get((table, dimension))) for dimension in DIMENSIONS] for table in tables],
                "note": "A cell is the mean of the measures below. Diversity is no fault: a shop may sell one thing.",
            }
        )
    rows = [
        [s["table"], s["dimension"], s["measure"], _short(s["score"]), s["formula"]] for s in examined.scores.to_dicts()
    ]
    parts.append(_table(["Table", "Dimension", "Measure", "Score", "Formula"], rows, right=("Score",)))
    return {"title": "Scores", "text": ["Every measure is a share of what could have been right."], "parts": parts}


def _findings(examined: Examined, refused: pl.DataFrame, currency: str) -> Sheet:
    ordered = examined.findings.sort(pl.col("money").abs(), "rows", descending=True, maintain_order=True)
    rows = [
        [
            f"{f['table']}: {plain(f['code'])}",
            tidy(f["sentence"], currency),
            f["rows"],
            money(f["money"], currency) if f["money"] else "",
            percent(f["share"]) if f["share"] else "",
            f["treatment"],
        ]
        for f in ordered.to_dicts()
    ]
    columns = ["What", "Found", "Rows", "Money", "Share", "What happens to it"]
    parts = [_table(columns, rows, right=("Rows", "Money", "Share"))] if rows else []
    if refused.height:
        told = [[plain(r["code"]), r["rows"], r["sentence"]] for r in refused.to_dicts()]
        parts.append(_table(["Reason", "Rows", "For example"], told, right=("Rows",), title="Refused at the door"))
    text = "A row may be in several findings, so their money does not add up." if rows else "Nothing was found."
    return {"title": "What was found", "text": [text], "parts": parts}


def _repairs(examined: Examined, in_force: pl.DataFrame, currency: str) -> Sheet:
    parts = []
    if examined.proposals:
        rows = [
            [
                one.name,
                tidy(one.sentence, currency),
                one.rows,
                money(one.money, currency),
                f"habitue check --repair {one.name}",
            ]
            for one in examined.proposals
        ]
        parts.append(_table(["Repair", "What it does", "Rows", "Money", "Command"], rows, right=("Rows", "Money")))
    if in_force.height:
        rows = [
            [
                r["repair"],
                f"{r['applied_at']:%Y-%m-%d %H:%M} UTC",
                r["rows"],
                money(r["money"], currency),
                f"habitue check --undo {r['repair']}",
            ]
            for r in in_force.to_dicts()
        ]
        columns = ["Repair", "Since", "Entries", "Money", "Take it back"]
        parts.append(_table(columns, rows, right=("Entries", "Money"), title="In force"))
    said = "Nothing is changed unless you ask, and every repair can be taken back: the rows stay as they were imported."
    return {"title": "Repairs", "text": [said if parts else "There is nothing to repair."], "parts": parts}


def _drift(examined: Examined) -> Sheet:
    spans = f"{_span(examined.before)} against {_span(examined.after)}"
    drifts = examined.drift
    if drifts.is_empty():
        return {"title": "Drift", "text": [f"Too few rows in one of the two periods to compare {spans}."], "parts": []}
    drawn = drifts.head(DRAWN)
    names = [f"{table}.{column}" for table, column in drawn.select("table", "column").iter_rows()]
    bars = {
        "kind": "bars",
        "title": f"How far each column moved, {spans}",
        "x": "PSI",
        "labels": names,
        "series": [
            {"name": "PSI", "values": [_short(v) for v in drawn["psi"]]},
            {"name": "what chance alone gives", "values": [_short(v) for v in drawn["chance"]]},
        ],
        "note": f"PSI: below {SOME:g} little, from {MUCH:g} on much; below what chance gives, nothing.",
    }
    columns = ["Table", "Column", "Kind", "Rows before", "Rows after", "PSI", "JS, bits", "KS", "p of KS", "Moved"]
    fields = ["table", "column", "kind", "before", "after", "psi", "js", "ks", "ks_p", "verdict"]
    rows = [[_short(v) if isinstance(v, float) else v for v in row] for row in drifts.select(fields).iter_rows()]
    moved = drifts.filter(pl.col("verdict") == "much").height
    text = f"{counted(moved, 'column')} of {drifts.height} moved much, {spans}."
    return {"title": "Drift", "text": [text], "parts": [bars, _table(columns, rows, right=tuple(columns[3:9]))]}


def _trend(trend: Checks) -> Sheet:
    checks = trend["checked_at"].unique().sort()
    place = {moment: number for number, moment in enumerate(checks, start=1)}
    means = trend.group_by("checked_at", "table", "dimension", maintain_order=True).agg(
        pl.col("score").mean(), pl.col("rows").first()
    )
    series: list[Sheet] = []
    spread = means.group_by("table", "dimension", maintain_order=True).agg(
        moved=pl.col("score").max() - pl.col("score").min()
    )
    for table, dimension, _ in spread.sort("moved", descending=True, maintain_order=True).head(LINES).iter_rows():
        mine = means.filter(pl.col("table") == table, pl.col("dimension") == dimension)
        points = [[place[moment], _short(score)] for moment, score in mine.select("checked_at", "score").iter_rows()]
        series.append({"name": f"{table}, {dimension}", "points": points})
    rows = [
        [place[moment], f"{moment:%Y-%m-%d %H:%M} UTC", *sums]
        for moment, *sums in means.unique(["checked_at", "table"], keep="first", maintain_order=True)
        .group_by("checked_at", maintain_order=True)
        .agg(pl.col("rows").sum(), pl.len())
        .iter_rows()
    ]
    parts: list[Sheet] = []
    if len(checks) > 1:
        parts.append(
            {"kind": "lines", "title": "Mean scores over the checks", "x": "check", "y": "score", "series": series}
        )
    parts.append(_table(["Check", "When", "Rows", "Tables"], rows, right=("Check", "Rows", "Tables")))
    text = f"{counted(len(checks), 'check')} so far; the scores of each are kept in the table CHECKS."
    return {"title": "Trend", "text": [text], "parts": parts}


def _columns(examined: Examined) -> Sheet:
    rows = [
        [c.table, c.column, c.type, c.rows, percent(c.present), c.different or "", c.least or "", c.most or ""]
        for c in examined.columns
    ]
    columns = ["Table", "Column", "Type", "Rows", "Present", "Different", "Least", "Most"]
    text = "What each column holds. A column that is never filled has 0.0 % and is no fault by itself."
    return {
        "title": "Every column",
        "text": [text],
        "parts": [_table(columns, rows, right=("Rows", "Present", "Different"))] if rows else [],
    }


def _table(columns: list[str], rows: list[list[Any]], *, right: tuple[str, ...], title: str | None = None) -> Sheet:
    named = [{"name": name, "align": "right" if name in right else "left"} for name in columns]
    return {"kind": "table", **({"title": title} if title else {}), "columns": named, "rows": rows}


def _span(period: Period) -> str:
    first, last = period[0], period[1] - dt.timedelta(microseconds=1)
    return f"{first:%-d %B %Y} to {last:%-d %B %Y}"


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
