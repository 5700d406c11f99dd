"""A sheet: sentences, tables and charts from a plain dict, as one HTML page that needs nothing else.

    sheet = {"title": str, "lead": [sentence], "sections": [{"title", "text"?: [sentence], "parts"?: [part]}],
             "made": {"version", "at" (ISO 8601), "command"}}
    part = {"kind": "table",   "title"?, "columns": [{"name", "align": "left|right", "percent"?}], "rows": [[cell]]}
         | {"kind": "lines",   "title", "x", "y", "series": [{"name", "points": [[x, y]], "dashed"?, "dots"?}],
                               "percent"?: ["x", "y"], "log"?: ["x", "y"]}
         | {"kind": "bars",    "title", "x", "labels", "series": [{"name", "values", "low"?, "high"?}], "percent"?}
         | {"kind": "scatter", "title", "x", "y", "groups": [{"name", "points": [[x, y, label?]]}], "log"?}
         | {"kind": "sankey",  "title", "nodes": [{"name", "label"?}], "links": [{"source", "target", "value"}]}
         | {"kind": "tree",    "title", "root": {"name", "value"?, "note"?, "children"?: [...]}}
         | {"kind": "heat",    "title", "x_labels", "y_labels", "values": [[...]], "x"?, "y"?, "percent"?: bool}

Every part may hold a `note` (a sentence below it), every chart a `summary` (what a screen reader says; else made from
the numbers). x, y are the names of axes; points of `lines` are joined in the order given, or not (`dots`); `percent`
says shares as 12.3 %; `log` draws an axis of ratios. A null value is a gap.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from habitue.core.errors import InputError
from habitue.dashboard import document, parts, words

SCRIPTS = ("drawing.js", "sheet.js", "canvases.js")
ROWS = 1_000  # of a table; a page with more is no longer read, and slow
LETTERS = 400  # of a cell; more is cut with a mark

SHEET = parts.record(
    {
        "title": parts.filled,
        "lead": parts.each(parts.text),
        "sections": parts.each(
            parts.record({"title": parts.filled}, {"text": parts.each(parts.text), "parts": parts.each(parts.check)})
        ),
        "made": parts.record({"version": parts.text, "at": parts.text, "command": parts.text}),
    }
)


def render(sheet: Mapping[str, Any]) -> str:
    """Return a sheet as HTML, about 1.2 MB beside its numbers. Raises SchemaError naming the part that is wrong."""
    spec = parts.cleaned(sheet, "sheet")
    SHEET(spec, "sheet")
    return document.render(
        "sheet.html.j2",
        document.embedded({"report": spec, "words": {}}),
        scripts=SCRIPTS,
        styles=("page.css", "sheet.css"),
        filters={
            "cell": _cell,
            "clip": parts.clip,
            "numbers": lambda part: dict(zip(("columns", "rows"), parts.numbers(part), strict=True)),
            "shape": _shape,
            "summary": parts.summary,
            "count": words.counted,
            "date": _date,
        },
        title=parts.clip(spec["title"], 200),
        version=parts.clip(spec["made"]["version"], 40),
        sheet=spec,
        most=ROWS,
    )


def write(sheet: Mapping[str, Any], path: Path) -> Path:
    """Write a sheet to `path` (its folder made when missing) and return it.

    Raises SchemaError as `render` does, and InputError when the file cannot be written.
    """
    html = render(sheet)
    try:
        return document.save(html, path)
    except OSError as error:
        raise InputError(
            str(path),
            found=f"this file cannot be written ({error.strerror})",
            consequence="The page would be lost",
            remedy="Name a file in a folder you may write to",
        ) from error


def _cell(value: Any, percent: bool = False) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, int | float):
        return parts.figure(value, percent)
    return parts.clip(str(value), LETTERS)


def _shape(column: Mapping[str, Any]) -> str:
    """The classes of a column: figures stand at the right, and a name of one endless word may break."""
    endless = any(len(word) > 18 for word in column["name"].split())
    return " ".join(["num"] * (column.get("align") == "right") + ["long"] * endless)


def _date(at: str) -> str:
    """'2026-11-22T01:02:03+00:00' -> '22 November 2026'; a text that is no date stays as it is."""
    try:
        dt.datetime.fromisoformat(at)
    except ValueError:
        return parts.clip(at, 60)
    return words.date(at)
