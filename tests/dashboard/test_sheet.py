from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from habitue.core.errors import InputError, SchemaError
from habitue.dashboard import sheet

HERE = Path(__file__).parent
TAG = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
HOSTILE = (TAG, "=cmd|' /C calc'!A0", "\u202eقائمة", "x" * 10_000, "{b} {{7*7}} %s", "\ud800\x00", "")


@pytest.fixture
def spec() -> dict[str, Any]:
    """A sheet with every kind of part."""
    return json.loads((HERE / "sheet.json").read_text(encoding="utf-8"))


class Page(HTMLParser):
    """The elements of a page and the words outside its scripts and style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words, self._raw = "", False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._raw = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._raw = False

    def handle_data(self, data: str) -> None:
        if not self._raw:
            self.words += " " + data

    @property
    def said(self) -> str:
        return re.sub(r"[ \n]+", " ", self.words)

    def charts(self) -> list[dict[str, str | None]]:
        return [attrs for _, attrs in self.elements if "data-chart" in attrs]


def _drawn(spec: dict[str, Any]) -> Page:
    return Page(sheet.render(spec))


def test_every_part_stands_on_the_page_with_its_numbers(spec: dict[str, Any]) -> None:
    page = _drawn(spec)
    said = page.said
    for words in (
        "Groups of customers",
        "Two of them moved.",
        "Each dot is a trial.",
        "By money.",
        "Higher is better.",
    ):
        assert words in said
    assert "Loyal weekly 50.0\u202f% 12,345 0.1235 yes" in said
    assert "Gift buyers 30.0\u202f% 0 – no" in said
    assert "Gone quiet 20.0\u202f% 7 \u22122.500 –" in said
    assert [c["data-chart"] for c in page.charts()] == [
        *("lines", "lines", "bars", "bars", "scatter", "sankey", "tree", "heat")
    ]
    assert sum(tag == "details" for tag, _ in page.elements) == 8
    assert "habitue tune --model ease on 22 November 2026" in said
    assert sum(tag == "section" for tag, _ in page.elements) == 2


def test_the_tables_behind_the_charts_hold_every_number(spec: dict[str, Any]) -> None:
    said = _drawn(spec).said
    assert "false positives Loyal weekly Gift buyers guessing 0.0\u202f%" in said  # equal x: a column a line
    assert "50.0\u202f% 80.0\u202f% 60.0\u202f% 50.0\u202f%" in said
    assert "Line trial NDCG@10 Loyal weekly 0 0.03000 Loyal weekly 1 0.04120 Loyal weekly 2 0.003510" in said
    assert "default default, low default, high tuned Loyal weekly 0.04000 0.03800 0.04200 0.04100" in said
    assert "Gone quiet – – – 0.03000" in said
    assert "ridge 71.0\u202f%" in said
    assert "Group first second Label Loyal weekly 1.288 " in said and "Loyal weekly 11 Gift buyers" in said
    assert "From To How many Loyal weekly Loyal weekly 9 Loyal weekly Gift buyers 1" in said
    assert "orders ≤ 3 › money > 100 › Gift buyers 15" in said
    assert "orders ≤ 3 › Loyal weekly 10 sure" in said
    assert "was Loyal weekly Gift buyers Gone quiet Loyal weekly 9 1 0 Gift buyers 2 7 –" in said


def test_a_screen_reader_is_told_what_a_chart_shows(spec: dict[str, Any]) -> None:
    spec["sections"][1]["parts"][3]["summary"] = "Nine of ten are right"
    labels = [c["aria-label"] for c in _drawn(spec).charts()]
    assert labels[0] == (
        "ROC: lines of true positives by false positives; Loyal weekly from 0.0\u202f% to 100.0\u202f%; "
        "Gift buyers from 0.0\u202f% to 100.0\u202f%."
    )
    assert labels[2] == "Tuned: bars of NDCG@10; Loyal weekly 0.04000; Gift buyers 0.05500; Gone quiet –."
    assert labels[4] == (
        "Map: points by first and second; Loyal weekly with 12 points; Gift buyers with 12 points; "
        "Gone quiet with 12 points."
    )
    assert labels[5] is not None and labels[5].startswith(
        "Movement: flows, the largest first; Loyal weekly to Loyal weekly 9; Gift buyers to Gift buyers 9; "
    )
    assert labels[5].endswith("and 3 more in the table.")
    assert labels[6] == "Decision: a tree of 5 nodes under orders ≤ 3."
    assert labels[7] == "Nine of ten are right"


def test_a_chart_finds_its_part_by_its_path(spec: dict[str, Any]) -> None:
    html = sheet.render(spec)
    embedded = re.search(r'<script type="application/json" id="report">(.*?)</script>', html, re.S)
    assert embedded
    report = json.loads(embedded[1])["report"]
    script = (Path(sheet.__file__).parent / "templates/sheet.js").read_text(encoding="utf-8")
    for chart in Page(html).charts():
        part: Any = report
        for key in str(chart["data-path"]).split("."):
            part = part[int(key)] if isinstance(part, list) else part[key]
        assert part["kind"] == chart["data-chart"]
        assert f"charts.{part['kind']} = function" in script


def _renamed(value: Any, name: str) -> Any:
    """The sheet with every free name replaced; those that must differ or be known keep a number."""
    if isinstance(value, dict):
        kept = ("kind", "align", "percent", "log")
        return {k: v if k in kept else _renamed(v, name) for k, v in value.items()}
    if isinstance(value, list):
        return [_renamed(v, name) for v in value]
    if isinstance(value, str):
        return f"{value[:2]}{name}" if value.startswith("Q") else name or "-"
    return value


@pytest.mark.parametrize("name", HOSTILE, ids=["tag", "formula", "rtl", "long", "template", "unprintable", "empty"])
def test_hostile_names_are_text_only(spec: dict[str, Any], name: str) -> None:
    evil = _renamed(spec, name)
    for part in ("nodes", "links"):  # the sankey's names must stay apart
        evil["sections"][1]["parts"][1][part] = copy.deepcopy(spec["sections"][1]["parts"][1][part])
    for node in evil["sections"][1]["parts"][1]["nodes"]:
        node["label"] = name
    html = sheet.render(evil)
    page = Page(html)
    assert sum(tag == "script" for tag, _ in page.elements) == 3
    assert not any(tag == "img" or "onerror" in attrs for tag, attrs in page.elements)
    html.encode("utf-8")
    assert "x" * 2_000 not in page.words


def test_the_policy_allows_only_the_blocks_of_the_page(spec: dict[str, Any]) -> None:
    policy = next(a["content"] for _, a in _drawn(spec).elements if a.get("http-equiv"))
    assert policy and policy.startswith("default-src 'none'; script-src 'sha256-")
    assert policy.count("sha256-") == 3
    assert "unsafe" not in policy


def test_a_long_table_says_how_many_rows_it_leaves_out(spec: dict[str, Any]) -> None:
    spec["sections"][0]["parts"] = [{"kind": "table", "columns": [{"name": "n"}], "rows": [[i] for i in range(1_003)]}]
    said = _drawn(spec).said
    assert "999 And 3 more rows, left out here." in said


def test_a_wide_grid_is_listed_cell_by_cell_the_largest_first(spec: dict[str, Any]) -> None:
    names = [f"c{i}" for i in range(10)]
    values = [[0.0] * 10 for _ in range(10)]
    values[1][2], values[3][3] = 0.25, 0.5
    heat = {"kind": "heat", "title": "t", "x_labels": names, "y_labels": names, "values": values, "percent": True}
    spec["sections"][0]["parts"] = [heat]
    assert "Row Column Value c3 c3 50.0\u202f% c1 c2 25.0\u202f% Drawn" in _drawn(spec).said


def test_a_sheet_may_be_empty_but_for_its_title() -> None:
    made = {"version": "1", "at": "some day", "command": "c"}
    said = _drawn({"title": "Nothing", "lead": [], "sections": [], "made": made}).said
    assert "Nothing" in said and "on some day." in said


def test_write_makes_the_folder(spec: dict[str, Any], tmp_path: Path) -> None:
    path = sheet.write(spec, tmp_path / "a/b/tune.html")
    assert path == tmp_path / "a/b/tune.html"
    assert path.read_text(encoding="utf-8") == sheet.render(spec)


def test_write_says_when_it_cannot(spec: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this file cannot be written"):
        sheet.write(spec, tmp_path)


def test_what_is_wrong_with_the_sheet_itself_is_named(spec: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match=r"^sheet: 'made' is missing\."):
        sheet.render({"title": "t", "lead": [], "sections": []})
    with pytest.raises(SchemaError, match=r"^sheet.title: this text is empty\."):
        sheet.render({**spec, "title": " "})
    with pytest.raises(SchemaError, match=r"sheet: there is no 'titel' here\. Did you mean 'title'\?"):
        sheet.render({**spec, "titel": "t"})
    with pytest.raises(SchemaError, match=r"^sheet.lead: this is no list but 'one sentence'"):
        sheet.render({**spec, "lead": "one sentence"})
    with pytest.raises(SchemaError, match=r"sections\[0\]\.parts\[0\]: a part is a mapping with a 'kind'"):
        sheet.render({**spec, "sections": [{"title": "t", "parts": ["table"]}]})
