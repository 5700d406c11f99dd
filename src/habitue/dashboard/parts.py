"""The parts of a sheet: what each kind must hold, its numbers as a table, and a sentence for who cannot see it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from habitue.core.errors import SchemaError, did_you_mean
from habitue.dashboard import words

Check = Callable[[Any, str], None]
Row = list[Any]
DEEP = 100  # levels of a spec: more is no sheet, and Python's own stack ends at 1,000
POINTS = 20_000  # marks a browser still draws as SVG within a second or two
WIDE = 9  # columns a table of a grid may have; a wider grid is listed cell by cell
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def cleaned(value: Any, where: str, depth: int = 0) -> Any:
    """Return a copy made of dict, list, str, int, float, bool and None only; numpy's numbers become Python's.

    Characters that no page can hold (control codes, halves of a surrogate pair) become U+FFFD. Raises SchemaError at
    anything else, and at NaN and infinity.
    """
    if depth > DEEP:
        raise broken(where[:80], f"it is nested deeper than {DEEP} levels")
    if isinstance(value, str):
        return UNPRINTABLE.sub("\ufffd", value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): cleaned(inner, f"{where}.{key}", depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(inner, f"{where}[{i}]", depth + 1) for i, inner in enumerate(value)]
    if hasattr(value, "tolist") and getattr(value, "ndim", 0) <= 2:  # a number or an array of numpy
        return cleaned(value.tolist(), where, depth + 1)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise broken(where, f"{value} is no number a page can draw")
        return value
    raise broken(where, f"a {type(value).__name__} is neither text, number, list nor mapping")


def text(value: Any, where: str) -> None:
    """A text."""
    if not isinstance(value, str):
        raise broken(where, f"this is no text but {_kind(value)}")


def filled(value: Any, where: str) -> None:
    """A text that is not empty."""
    text(value, where)
    if not value.strip():
        raise broken(where, "this text is empty")


def number(value: Any, where: str) -> None:
    """A number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise broken(where, f"this is no number but {_kind(value)}")


def positive(value: Any, where: str) -> None:
    """A number of zero or more."""
    number(value, where)
    if value < 0:
        raise broken(where, f"{value} is below zero")


def flag(value: Any, where: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise broken(where, f"this is neither true nor false but {_kind(value)}")


def cell(value: Any, where: str) -> None:
    """A value of a table."""
    if isinstance(value, dict | list):
        raise broken(where, f"a cell holds {_kind(value)}")


def maybe(check: Check) -> Check:
    """Null, or what `check` asks for."""
    return lambda value, where: None if value is None else check(value, where)


def one_of(*allowed: str) -> Check:
    """One of these words."""

    def check(value: Any, where: str) -> None:
        if value not in allowed:
            raise broken(where, f"{_kind(value)} is none of: {', '.join(allowed)}")

    return check


def each(inner: Check, *, least: int = 0) -> Check:
    """A list of at least `least` things that each are what `inner` asks for."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise broken(where, f"this is no list but {_kind(value)}")
        if len(value) < least:
            raise broken(where, f"this list holds {len(value)}, and needs {least} or more")
        for i, thing in enumerate(value):
            inner(thing, f"{where}[{i}]")

    return check


def point(*checks: Check, least: int) -> Check:
    """A short list whose places have meanings: [x, y] or [x, y, label]."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or not least <= len(value) <= len(checks):
            raise broken(where, f"a point is a list of {least}{f' or {len(checks)}' * (least < len(checks))} values")
        for inner, thing in zip(checks, value, strict=False):
            inner(thing, where)

    return check


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """A mapping with these keys and no other: a misspelt key would be ignored in silence."""
    known = {**required, **(optional or {})}

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise broken(where, f"this is no mapping but {_kind(value)}")
        for key in required:
            if key not in value:
                raise broken(where, f"'{key}' is missing")
        for key, inner in value.items():
            if key not in known:
                raise broken(where, f"there is no '{key}' here. {did_you_mean(key, known)}")
            known[key](inner, f"{where}.{key}")

    return check


def node(value: Any, where: str) -> None:
    """A node of a tree, with all below it."""
    record({"name": filled}, {"value": maybe(number), "note": text, "children": each(node)})(value, where)


AXES = each(one_of("x", "y"))
SERIES = record(
    {"name": filled, "points": each(point(number, number, least=2), least=1)}, {"dashed": flag, "dots": flag}
)
BARS = record(
    {"name": filled, "values": each(maybe(number), least=1)},
    {"low": each(maybe(number)), "high": each(maybe(number))},
)
GROUP = record({"name": filled, "points": each(point(number, number, maybe(text), least=2))})
COLUMN = record({"name": text}, {"align": one_of("left", "right"), "percent": flag})
CHART = {"note": text, "summary": filled}
PARTS: dict[str, Check] = {
    "table": record({"columns": each(COLUMN, least=1), "rows": each(each(cell))}, {"title": text, "note": text}),
    "lines": record(
        {"title": filled, "x": text, "y": text, "series": each(SERIES, least=1)},
        {**CHART, "percent": AXES, "log": AXES},
    ),
    "bars": record(
        {"title": filled, "x": text, "labels": each(text, least=1), "series": each(BARS, least=1)},
        {**CHART, "percent": flag},
    ),
    "scatter": record({"title": filled, "x": text, "y": text, "groups": each(GROUP, least=1)}, {**CHART, "log": AXES}),
    "sankey": record(
        {
            "title": filled,
            "nodes": each(record({"name": filled}, {"label": text}), least=1),
            "links": each(record({"source": text, "target": text, "value": positive}), least=1),
        },
        CHART,
    ),
    "tree": record({"title": filled, "root": node}, CHART),
    "heat": record(
        {
            "title": filled,
            "x_labels": each(text, least=1),
            "y_labels": each(text, least=1),
            "values": each(each(maybe(number))),
        },
        {**CHART, "x": text, "y": text, "percent": flag},
    ),
}


def check(part: Any, where: str) -> None:
    """Raise SchemaError when a cleaned part is not what its kind must hold, naming the place."""
    if not isinstance(part, dict) or "kind" not in part:
        raise broken(where, "a part is a mapping with a 'kind'")
    kind = part["kind"]
    if kind not in PARTS:
        raise broken(where, f"there is no kind of part {_kind(kind)}. {did_you_mean(str(kind), PARTS)}")
    PARTS[kind]({key: value for key, value in part.items() if key != "kind"}, where)
    if kind in FITS:
        FITS[kind](part, where)


def _table_fits(part: Mapping[str, Any], where: str) -> None:
    for i, row in enumerate(part["rows"]):
        _long(row, len(part["columns"]), f"{where}.rows[{i}]", "columns")


def _lines_fit(part: Mapping[str, Any], where: str) -> None:
    for i, series in enumerate(part["series"]):
        for axis, place in (("x", 0), ("y", 1)):
            lowest = min(p[place] for p in series["points"])
            if axis in part.get("log", ()) and lowest <= 0:
                raise broken(f"{where}.series[{i}]", f"{axis} is drawn as a logarithm, and {lowest} has none")


def _bars_fit(part: Mapping[str, Any], where: str) -> None:
    for i, series in enumerate(part["series"]):
        for key in ("values", "low", "high"):
            if key in series:
                _long(series[key], len(part["labels"]), f"{where}.series[{i}].{key}", "labels")
        if ("low" in series) != ("high" in series):
            raise broken(f"{where}.series[{i}]", "an interval needs both 'low' and 'high'")


def _scatter_fits(part: Mapping[str, Any], where: str) -> None:
    n = sum(len(group["points"]) for group in part["groups"])
    if not 0 < n <= POINTS:
        raise broken(f"{where}.groups", f"they hold {n:,} points, and a map has 1 to {POINTS:,}")
    _lines_fit({**part, "series": [g for g in part["groups"] if g["points"]]}, where)


def _sankey_fits(part: Mapping[str, Any], where: str) -> None:
    names = [node["name"] for node in part["nodes"]]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise broken(f"{where}.nodes", f"two nodes have the name '{clip(twice, 60)}'")
    after: dict[str, set[str]] = {name: set() for name in names}
    for i, link in enumerate(part["links"]):
        for end in ("source", "target"):
            if link[end] not in after:
                raise broken(f"{where}.links[{i}]", f"its {end} '{clip(link[end], 60)}' is no node")
        after[link["source"]].add(link["target"])
    while after:  # take away the nodes nothing flows out of; what remains flows in a circle
        ends = {name for name, targets in after.items() if not targets & after.keys()}
        if not ends:
            raise broken(f"{where}.links", f"the flow goes in a circle through '{clip(min(after), 60)}'")
        after = {name: targets for name, targets in after.items() if name not in ends}


def _heat_fits(part: Mapping[str, Any], where: str) -> None:
    _long(part["values"], len(part["y_labels"]), f"{where}.values", "y_labels")
    for i, row in enumerate(part["values"]):
        _long(row, len(part["x_labels"]), f"{where}.values[{i}]", "x_labels")
    if len(part["y_labels"]) * len(part["x_labels"]) > POINTS:
        raise broken(where, f"it has more than {POINTS:,} cells, too many to draw")


FITS: dict[str, Callable[[Mapping[str, Any], str], None]] = {
    "table": _table_fits,
    "lines": _lines_fit,
    "bars": _bars_fit,
    "scatter": _scatter_fits,
    "sankey": _sankey_fits,
    "heat": _heat_fits,
}


def numbers(part: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[Row]]:
    """Return the columns and the rows of the table that stands behind a chart."""
    kind = part["kind"]
    if kind == "lines":
        return _line_numbers(part)
    if kind == "scatter":
        rows = [[g["name"], *p, *[None] * (3 - len(p))] for g in part["groups"] for p in g["points"]]
        return _columns("Group", (part["x"] or "x", True), (part["y"] or "y", True), "Label"), rows
    if kind == "bars":
        return _bar_numbers(part)
    if kind == "sankey":
        said = {n["name"]: n.get("label") or n["name"] for n in part["nodes"]}
        rows = [[said[link["source"]], said[link["target"]], link["value"]] for link in part["links"]]
        return _columns("From", "To", ("How many", True)), rows
    if kind == "tree":
        return _columns("Path", ("Value", True), "Note"), list(_branches(part["root"], ()))
    return _grid_numbers(part)


def _grid_numbers(part: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[Row]]:
    percent = part.get("percent", False)
    if len(part["x_labels"]) > WIDE:  # a row a cell, the largest first
        cells = [
            [down, across, value]
            for down, row in zip(part["y_labels"], part["values"], strict=True)
            for across, value in zip(part["x_labels"], row, strict=True)
            if value
        ]
        columns = _columns(part.get("y") or "Row", part.get("x") or "Column", ("Value", True))
        columns[2]["percent"] = percent
        return columns, sorted(cells, key=lambda cell: -float(cell[2]))
    columns = [{"name": label, "align": "right", "percent": percent} for label in part["x_labels"]]
    rows = [[label, *row] for label, row in zip(part["y_labels"], part["values"], strict=True)]
    return [{"name": part.get("y", ""), "align": "left"}, *columns], rows


def _line_numbers(part: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[Row]]:
    x = {"name": part["x"] or "x", "align": "right", "percent": "x" in part.get("percent", ())}
    percent = "y" in part.get("percent", ())
    series = part["series"]
    places = [[p[0] for p in s["points"]] for s in series]
    if len(set(places[0])) == len(places[0]) and all(xs == places[0] for xs in places):  # one table, a column a line
        ys = [{"name": s["name"], "align": "right", "percent": percent} for s in series]
        return [x, *ys], [[at, *(s["points"][i][1] for s in series)] for i, at in enumerate(places[0])]
    y = {"name": part["y"] or "y", "align": "right", "percent": percent}
    return [{"name": "Line", "align": "left"}, x, y], [[s["name"], *p] for s in series for p in s["points"]]


def _bar_numbers(part: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[Row]]:
    percent = part.get("percent", False)
    columns: list[dict[str, Any]] = [{"name": "", "align": "left"}]
    values: list[Sequence[Any]] = [part["labels"]]
    for series in part["series"]:
        for key, name in (("values", "{}"), ("low", "{}, low"), ("high", "{}, high")):
            if key in series:
                columns.append({"name": name.format(series["name"]), "align": "right", "percent": percent})
                values.append(series[key])
    return columns, [list(row) for row in zip(*values, strict=True)]


def _branches(branch: Mapping[str, Any], above: tuple[str, ...]) -> Iterable[Row]:
    path = (*above, clip(branch["name"], 80))
    yield [" › ".join(path), branch.get("value"), branch.get("note")]
    for child in branch.get("children", ()):
        yield from _branches(child, path)


def summary(part: Mapping[str, Any]) -> str:
    """Return what a chart shows, as a sentence for a screen reader; the part's own `summary` where it has one."""
    if "summary" in part:
        return str(part["summary"])
    said = {"lines": _lines_said, "bars": _bars_said, "scatter": _scatter_said, "sankey": _sankey_said}
    kind = part["kind"]
    if kind in said:
        short = {key: clip(part[key], 60) for key in ("x", "y") if key in part}
        return f"{clip(part['title'], 120)}: {said[kind]({**part, **short})}."
    if kind == "tree":
        n = sum(1 for _ in _branches(part["root"], ()))
        return (
            f"{clip(part['title'], 120)}: a tree of {words.counted(n, 'node')} under {clip(part['root']['name'], 60)}."
        )
    across, down = len(part["x_labels"]), len(part["y_labels"])
    return f"{clip(part['title'], 120)}: a grid of {down} rows by {across} columns, darker for more."


def _lines_said(part: Mapping[str, Any]) -> str:
    percent = "y" in part.get("percent", ())
    ends = [
        f"{clip(s['name'], 60)} from {figure(s['points'][0][1], percent)} to {figure(s['points'][-1][1], percent)}"
        for s in part["series"]
        if not s.get("dashed")
    ]
    return f"lines of {part['y'] or 'y'} by {part['x'] or 'x'}; {_some(ends)}"


def _bars_said(part: Mapping[str, Any]) -> str:
    percent, first = part.get("percent", False), part["series"][0]
    said = [
        f"{clip(label, 60)} {figure(value, percent)}"
        for label, value in zip(part["labels"], first["values"], strict=True)
    ]
    return f"bars of {part['x'] or first['name']}; {_some(said)}"


def _scatter_said(part: Mapping[str, Any]) -> str:
    groups = [f"{clip(g['name'], 60)} with {words.counted(len(g['points']), 'point')}" for g in part["groups"]]
    return f"points by {part['x'] or 'x'} and {part['y'] or 'y'}; {_some(groups)}"


def _sankey_said(part: Mapping[str, Any]) -> str:
    said = {n["name"]: n.get("label") or n["name"] for n in part["nodes"]}
    flows = [
        f"{clip(said[link['source']], 60)} to {clip(said[link['target']], 60)} {figure(link['value'])}"
        for link in sorted(part["links"], key=lambda link: -float(link["value"]))
    ]
    return f"flows, the largest first; {_some(flows)}"


def _some(things: Sequence[str], most: int = 6) -> str:
    more = f"; and {words.number(len(things) - most)} more in the table" if len(things) > most else ""
    return "; ".join(things[:most]) + more


def figure(value: float | None, percent: bool = False) -> str:
    """1234567 -> '1,234,567'; 0.123456 -> '0.1235': four digits that count; None -> '–'."""
    if value is None:
        return "–"
    if percent:
        return words.percent(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return words.number(value)
    if abs(value) < 1e-6 or abs(value) >= 1e15:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", words.MINUS)
    return words.number(value, max(0, 3 - math.floor(math.log10(abs(value)))))


def clip(value: str, most: int) -> str:
    """A text of at most `most` characters, its cut marked."""
    return value if len(value) <= most else value[: most - 1].rstrip() + "…"


def broken(where: str, found: str) -> SchemaError:
    """The error of a sheet that cannot be drawn, naming the part."""
    return SchemaError(
        where,
        found=found,
        consequence="The page would be drawn with a hole nobody sees",
        remedy="Mend that part of the sheet, or leave it out",
    )


def _long(value: Sequence[Any], n: int, where: str, beside: str) -> None:
    if len(value) != n:
        raise broken(where, f"it holds {len(value)}, beside {n} {beside}")


def _columns(*names: str | tuple[str, bool]) -> list[dict[str, Any]]:
    pairs = [(name, False) if isinstance(name, str) else name for name in names]
    return [{"name": name, "align": "right" if right else "left"} for name, right in pairs]


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return f"'{clip(value, 40)}'"
    return {type(None): "null", dict: "a mapping", list: "a list", bool: "true or false"}.get(type(value), repr(value))
