from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np
import pytest

from habitue.core.errors import SchemaError
from habitue.dashboard import parts

TABLE = {"kind": "table", "columns": [{"name": "a"}, {"name": "b"}], "rows": [[1, 2]]}
LINES = {"kind": "lines", "title": "t", "x": "x", "y": "y", "series": [{"name": "s", "points": [[1, 2]]}]}
BARS = {"kind": "bars", "title": "t", "x": "x", "labels": ["a", "b"], "series": [{"name": "s", "values": [1, None]}]}
SCATTER = {"kind": "scatter", "title": "t", "x": "x", "y": "y", "groups": [{"name": "g", "points": [[1, 2, "l"]]}]}
FLOW = {
    "kind": "sankey",
    "title": "t",
    "nodes": [{"name": n} for n in "abc"],
    "links": [{"source": "a", "target": "b", "value": 1}, {"source": "b", "target": "c", "value": 0}],
}
TREE = {"kind": "tree", "title": "t", "root": {"name": "r", "children": [{"name": "c", "value": 1}]}}
HEAT = {"kind": "heat", "title": "t", "x_labels": ["a", "b"], "y_labels": ["c"], "values": [[1, None]]}


@pytest.mark.parametrize("part", [TABLE, LINES, BARS, SCATTER, FLOW, TREE, HEAT], ids=lambda p: p["kind"])
def test_a_right_part_passes(part: dict[str, Any]) -> None:
    parts.check(parts.cleaned(part, "p"), "p")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"kind": "pie", "title": "t"}, r"^p: there is no kind of part 'pie'\. Known: bars, heat, lines"),
    ({**LINES, "kind": "line"}, r"Did you mean 'lines'\?"),
    ({**TABLE, "rows": [[1, 2], [1]]}, r"^p.rows\[1\]: it holds 1, beside 2 columns"),
    ({**TABLE, "rows": [[1, [2]]]}, r"^p.rows\[0\]\[1\]: a cell holds a list"),
    ({**TABLE, "columns": [{"name": "a", "align": "middle"}]}, r"columns\[0\].align: 'middle' is none of: left, right"),
    ({**TABLE, "columns": []}, r"^p.columns: this list holds 0, and needs 1 or more"),
    ({**LINES, "title": ""}, r"^p.title: this text is empty"),
    ({**LINES, "x": None}, r"^p.x: this is no text but null"),
    ({**LINES, "series": []}, r"^p.series: this list holds 0"),
    ({**LINES, "series": [{"name": "s", "points": []}]}, r"^p.series\[0\].points: this list holds 0"),
    ({**LINES, "series": [{"name": "s", "points": [[1]]}]}, r"points\[0\]: a point is a list of 2 values"),
    ({**LINES, "series": [{"name": "s", "points": [[1, "2"]]}]}, r"points\[0\]: this is no number but '2'"),
    ({**LINES, "series": [{"name": "s", "points": [[1, True]]}]}, r"this is no number but true or false"),
    ({**LINES, "series": [{"name": "s", "points": [[1, 0]]}], "log": ["y"]}, r"y is drawn as a logarithm, and 0 has"),
    ({**LINES, "percent": ["z"]}, r"^p.percent\[0\]: 'z' is none of: x, y"),
    ({**LINES, "series": [{"name": "s", "points": [[1, 2]], "dashed": 1}]}, r"neither true nor false but 1"),
    ({**BARS, "series": [{"name": "s", "values": [1]}]}, r"^p.series\[0\].values: it holds 1, beside 2 labels"),
    ({**BARS, "series": [{"name": "s", "values": [1, 2], "low": [0, 1]}]}, r"needs both 'low' and 'high'"),
    ({**SCATTER, "groups": [{"name": "g", "points": []}]}, r"^p.groups: they hold 0 points"),
    ({**SCATTER, "groups": [{"name": "g", "points": [[1, 2]] * 20_001}]}, r"20,001 points, and a map has 1 to 20,000"),
    ({**SCATTER, "groups": [{"name": "g", "points": [[1, 2, "a", "b"]]}]}, r"a point is a list of 2 or 3 values"),
    ({**FLOW, "nodes": [{"name": "a"}, {"name": "a"}]}, r"^p.nodes: two nodes have the name 'a'"),
    ({**FLOW, "links": [{"source": "a", "target": "d", "value": 1}]}, r"links\[0\]: its target 'd' is no node"),
    ({**FLOW, "links": [{"source": "a", "target": "b", "value": -1}]}, r"links\[0\].value: -1 is below zero"),
    (
        {**FLOW, "links": [{"source": s, "target": t, "value": 1} for s, t in ("ab", "bc", "cb")]},
        r"^p.links: the flow goes in a circle through '[abc]'",
    ),
    ({**FLOW, "links": [{"source": "a", "target": "a", "value": 1}]}, r"in a circle through 'a'"),
    ({**TREE, "root": {"name": "r", "children": [{"value": 1}]}}, r"^p.root.children\[0\]: 'name' is missing"),
    ({**TREE, "root": {"name": "r", "kids": []}}, r"^p.root: there is no 'kids' here"),
    ({**HEAT, "values": []}, r"^p.values: it holds 0, beside 1 y_labels"),
    ({**HEAT, "values": [[1]]}, r"^p.values\[0\]: it holds 1, beside 2 x_labels"),
    (
        {**HEAT, "x_labels": ["a"] * 150, "y_labels": ["b"] * 150, "values": [[0] * 150] * 150},
        r"^p: it has more than 20,000 cells",
    ),
]


@pytest.mark.parametrize(("part", "match"), WRONG)
def test_a_wrong_part_is_named(part: dict[str, Any], match: str) -> None:
    with pytest.raises(SchemaError, match=match):
        parts.check(parts.cleaned(part, "p"), "p")


def test_numbers_of_numpy_become_pythons_own() -> None:
    cleaned = parts.cleaned({"a": np.float32(0.5), "b": np.arange(2), "c": (1, np.bool_(True)), 4: None}, "s")
    assert cleaned == {"a": 0.5, "b": [0, 1], "c": [1, True], "4": None}
    assert [type(v) for v in cleaned["b"]] == [int, int]


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float64("nan")])
def test_a_value_that_is_no_number_is_named(value: Any) -> None:
    with pytest.raises(SchemaError, match=r"^s.a\[1\]: (nan|inf) is no number a page can draw"):
        parts.cleaned({"a": [1, value]}, "s")


def test_other_types_are_refused() -> None:
    with pytest.raises(SchemaError, match="a datetime is neither text, number, list nor mapping"):
        parts.cleaned([dt.datetime(2026, 1, 1)], "s")


def test_a_bottomless_tree_is_refused() -> None:
    root: dict[str, Any] = {"name": "leaf"}
    for _ in range(300):
        root = {"name": "n", "children": [root]}
    with pytest.raises(SchemaError, match="nested deeper than 100 levels"):
        parts.cleaned({"root": root}, "s")


@pytest.mark.parametrize(
    ("value", "percent", "said"),
    [
        (None, False, "–"),
        (1234567, False, "1,234,567"),
        (-3.0, False, "\u22123"),
        (0.0, False, "0"),
        (0.123456, False, "0.1235"),
        (0.0412, False, "0.04120"),
        (1234.567, False, "1,235"),
        (12.3456, False, "12.35"),
        (1.5e-7, False, "1.50e\u22127"),
        (2e300, False, "2.00e300"),
        (0.1234, True, "12.3\u202f%"),
    ],
)
def test_four_digits_count(value: float | None, percent: bool, said: str) -> None:
    assert parts.figure(value, percent) == said


def test_clip_marks_its_cut() -> None:
    assert parts.clip("abc", 3) == "abc"
    assert parts.clip("abcd", 3) == "ab…"
