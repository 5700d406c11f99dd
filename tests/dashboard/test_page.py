from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from habitue.core.errors import SchemaError
from habitue.dashboard import page, render, write

HERE = Path(__file__).parent
HOSTILE = ("<script>alert", "<img src=x", "<b>d</b>", "<b>quality</b>", "<!--<script>")


@pytest.fixture
def report() -> dict[str, Any]:
    """A small made-up report whose names are hostile: tags, template marks, 90 letters without a space."""
    return json.loads((HERE / "report.json").read_text(encoding="utf-8"))


class Page(HTMLParser):
    """Elements with attributes, and the text of each script, style and paragraph."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, str]] = []
        self._open: str | None = None
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._open = tag
            self.raw.append((tag, ""))

    def handle_endtag(self, tag: str) -> None:
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open:
            self.raw[-1] = (self._open, self.raw[-1][1] + data)
        else:
            self.words += " " + data

    def texts(self, tag: str) -> list[str]:
        return [text for name, text in self.raw if name == tag]

    def with_attribute(self, name: str) -> Iterator[tuple[str, str]]:
        return ((tag, attrs[name] or "") for tag, attrs in self.elements if name in attrs)

    @property
    def plain(self) -> str:
        return re.sub(r"\s+", " ", self.words.replace("\u202f", " ").replace("\xa0", " "))


def test_every_section_stands_in_the_order_of_the_menu(report: dict[str, Any]) -> None:
    drawn = Page(render(report))
    sections = [attrs["id"] for tag, attrs in drawn.elements if tag == "section"]
    assert sections == [
        "lost",
        "spend",
        "buy",
        "launches",
        "try_it",
        "personas",
        "quality",
        "other_shops",
        "words",
    ]
    assert [link for tag, link in drawn.with_attribute("href") if tag == "a"] == [
        "#top",
        "#top",
        *(f"#{section}" for section in sections),
    ]
    assert "Not in this report" not in drawn.plain


def test_how_the_flagship_learnt_is_drawn_where_it_is_known(report: dict[str, Any]) -> None:
    def row(step: int, loss: float, metric: float | None) -> dict[str, float | None]:
        return {"step": step, "targets": 384 * step, "cpu_s": step / 10, "loss": loss, "metric": metric}

    assert "How the flagship learnt" not in Page(render(report)).plain
    report["buy"]["curve"] = [row(50, 6.0, None), row(100, 5.0, 0.25), row(200, 4.0, 0.3), row(400, 4.5, 0.2)]
    drawn = Page(render(report))
    lines = [attrs["points"] for tag, attrs in drawn.elements if tag == "polyline"]
    assert lines == ["75.0,0.0 150.0,60.0 300.0,120.0 600.0,90.0", "150.0,60.0 300.0,0.0 600.0,120.0"]
    assert "400 steps, 153,600 orders to foretell, 40.0 CPU seconds. The loss fell from 6.00 to 4.50" in drawn.plain
    assert "NDCG at 10 of customers held back (dashed) went from 0.250 to 0.300 at its best." in drawn.plain
    for each in report["buy"]["curve"]:
        each["metric"] = None
    drawn = Page(render(report))
    assert [tag for tag, _ in drawn.elements].count("polyline") == 1 and "held back" not in drawn.plain


def test_every_chart_has_rows_a_label_and_a_sentence(report: dict[str, Any]) -> None:
    html = render(report)
    drawn = Page(html)
    charts = [attrs for tag, attrs in drawn.elements if "data-chart" in attrs]
    assert {c["data-chart"] for c in charts} == {
        "weeks",
        "gains",
        "calibration",
        "forest",
        "deciles",
        "totals",
        "paired",
        "launches",
        "moves",
        "findings",
        "deciding",
        "visits",
        "importance",
        "map",
    }
    scripts = (HERE.parents[1] / "src/habitue/dashboard/templates").glob("*.js")
    drawing = "".join(script.read_text(encoding="utf-8") for script in scripts)
    for chart in charts:
        assert f"charts.{chart['data-chart']} = function" in drawing
        assert chart["role"] == "img"
        assert len(chart["aria-label"] or "") > 15
        part: Any = report
        for key in (chart["data-path"] or "").split("."):
            part = part[key]
        assert part
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html, re.S)
    assert len(captions) == len(charts)
    assert all(len(caption.split()) >= 5 and caption.strip().endswith(".") for caption in captions)


def test_names_from_the_shop_are_text_everywhere(report: dict[str, Any]) -> None:
    html = render(report)
    for hostile in HOSTILE:
        assert hostile in json.dumps(report)
        assert hostile not in html
    drawn = Page(html)
    assert [tag for tag, _ in drawn.elements].count("script") == 3
    assert "img" not in {tag for tag, _ in drawn.elements}
    assert not [name for _, attrs in drawn.elements for name in attrs if name.startswith("on") or name == "style"]
    assert drawn.plain.count("<script>alert(1)</script>") > 20
    assert "{{ 7 * 7 }} {%raw%} ${alert(4)} {b|bold}" in drawn.plain


def test_the_embedded_json_is_the_report_and_cannot_end_its_element(report: dict[str, Any]) -> None:
    data = Page(render(report)).texts("script")[0]
    assert json.loads(data)["report"] == report
    assert not set(data) & set("<>&\u2028\u2029")


def test_nothing_is_fetched_and_only_the_known_blocks_may_run(report: dict[str, Any]) -> None:
    drawn = Page(render(report))
    assert [(tag, link) for tag, link in drawn.with_attribute("href") if not link.startswith("#")] == [
        ("link", "data:,")
    ]
    assert not list(drawn.with_attribute("src"))
    style = drawn.texts("style")[0]
    assert "url(" not in style and "@import" not in style
    policy = next(content for _, content in drawn.with_attribute("content") if "default-src" in content)
    _, charts, script = drawn.texts("script")
    hashes = [
        "'sha256-" + base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() + "'"
        for block in (charts, script, style)
    ]
    assert policy == (
        f"default-src 'none'; script-src {hashes[0]} {hashes[1]}; style-src {hashes[2]}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def test_no_script_of_ours_can_end_its_element_early(report: dict[str, Any]) -> None:
    for script in Page(render(report)).texts("script"):
        assert "</script" not in script.lower()
        assert "<!--" not in script


def test_our_scripts_never_write_html() -> None:
    for script in (HERE.parents[1] / "src/habitue/dashboard/templates").glob("*.js"):
        text = script.read_text(encoding="utf-8")
        assert not re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function|fetch\(", text)


def test_numbers_are_written_for_people(report: dict[str, Any]) -> None:
    said = Page(render(report)).plain
    for words in (
        "£1,234,567",  # found
        "£0 Of the next 92 days",  # -0.4 is no minus
        "Sealed on 9 September 2011, opened up to 9 December 2011",
        "The plain forecast ended 33.2 % below the fact; with the season, 14.7 % below it",
        "reach 38 % of those who were lost; calling at random reaches 20 %",  # .2 ** .6 between points
        "10.2 % of them bought, against 32.7 %",
        "lost no order since",
        "came back and spent £1,771",
        "−£896,812",
        "in 3 min 34 s",
        "rank 1,032 without",
        "because you bought it before",
        "4 of 10 came true",
        "×8.0",
        "3 rows",
        "0.740 0.720 to 0.760 n 120",
        "£634 £594 to £674",
        "−33.2 % −43.2 % to −23.2 %",
        "2 more products",
    ):
        assert words in said, words
    assert said.count("because you bought it before") == 5


def test_the_flagship_that_lost_is_marked_in_the_first_sentence(report: dict[str, Any]) -> None:
    assert '<p class="lost-first">The flagship lost' in render(report)
    assert render(report).count('class="lost-first"') == 1
    report["headline"]["flagship_lost"] = False
    assert 'class="lost-first"' not in render(report)


def test_a_group_is_called_unstable_below_one_half_only(report: dict[str, Any]) -> None:
    assert Page(render(report)).plain.count("not stable") == 1
    report["personas"]["cards"][2]["stability"] = 0.499
    assert Page(render(report)).plain.count("not stable") == 2


def test_other_shops_are_closed(report: dict[str, Any]) -> None:
    others = [attrs for tag, attrs in Page(render(report)).elements if tag == "details" and attrs.get("id") == "others"]
    assert len(others) == 1
    assert "open" not in others[0]


@pytest.mark.parametrize("section", page.SECTIONS, ids=lambda s: s.key)
def test_an_absent_section_says_so_and_why(report: dict[str, Any], section: page.Section) -> None:
    whole = Page(render(report))
    for empty in (None, {}):
        report[section.key] = empty
        said = Page(render(report)).plain
        assert "Not in this report. This run did not compute it." in said
    report[section.key] = {"absent": "The shop is too small <b>."}
    drawn = Page(render(report))
    assert "Not in this report. The shop is too small <b>." in drawn.plain
    assert section.title in drawn.plain
    lacking = [a for _, a in whole.elements if (a.get("data-path") or "").split(".")[0] == section.key]
    there = [a for _, a in drawn.elements if "data-path" in a]
    assert len(there) == len([a for _, a in whole.elements if "data-path" in a]) - len(lacking)


OPTIONAL = [
    *(("lost", key) for key in ("metrics", "gains", "calibration", "customers")),
    *(("spend", key) for key in ("metrics", "deciles", "season")),
    *(("buy", key) for key in ("metrics", "paired", "customers")),
    ("launches", "products"),
    ("personas", "cards"),
    ("personas", "moves"),
    ("personas", "map"),
    ("quality", "scores"),
    ("quality", "findings"),
    *(("other_shops", key) for key in ("reviews", "sessions", "slots")),
]


def test_where_no_season_was_stated_none_is_drawn(report: dict[str, Any]) -> None:
    spent = report["spend"]
    spent["season"] = {"factor": 1.0, "source": "none was stated"}
    spent["totals"] |= {"adjusted": spent["totals"]["forecast"], "bias_adjusted": spent["totals"]["bias"]}
    said = Page(render(report)).plain
    assert "The forecast ended 33.2 % below the fact. " in said
    assert "season-adjusted" not in said and "the season" not in said.lower()


@pytest.mark.parametrize(("section", "part"), OPTIONAL)
def test_an_absent_part_says_so_and_why(report: dict[str, Any], section: str, part: str) -> None:
    del report[section][part]
    report[section]["missing"] = {part: "Too few customers <i>."}
    said = Page(render(report)).plain
    assert re.search(r"Not in this report: [^.]+\. Too few customers <i>\.", said)
    del report[section]["missing"]
    assert "This run did not compute it." in Page(render(report)).plain


def test_a_page_of_nothing_but_a_headline_is_a_page(report: dict[str, Any]) -> None:
    headline = {k: v for k, v in report["headline"].items() if k not in ("weeks", "money_words")}
    drawn = Page(render({"meta": report["meta"], "headline": headline}))
    assert drawn.plain.count("Not in this report.") == 8
    assert not [attrs for _, attrs in drawn.elements if "data-chart" in attrs]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (("meta",), "holds nothing under 'meta'"),
        (("headline",), "holds nothing under 'headline'"),
        (("meta", "currency"), "a value the page draws is missing .*currency"),
        (("lost", "verdict"), "a value the page draws is missing .*verdict"),
        (("buy", "customers", 0, "list", 0, "title"), "a value the page draws is missing .*title"),
        (("spend", "season", "factor"), "a value the page draws is missing .*factor"),
        (("quality", "findings", 0, "rows"), "a value the page draws is missing .*rows"),
        (("lost", "metrics", 0, "mean"), "a value the page draws is missing .*mean"),
    ],
)
def test_a_missing_value_is_named(report: dict[str, Any], path: tuple[Any, ...], found: str) -> None:
    part: Any = report
    for key in path[:-1]:
        part = part[key]
    del part[path[-1]]
    with pytest.raises(SchemaError, match=rf"dashboard.render: {found}|dashboard.render: the report {found}"):
        render(report)


def test_a_value_of_the_wrong_kind_is_refused(report: dict[str, Any]) -> None:
    report["headline"]["money"]["found"] = "much"
    with pytest.raises(SchemaError, match="a value the page draws is of the wrong kind .*hole nobody sees"):
        render(report)


def test_what_is_no_json_is_refused(report: dict[str, Any]) -> None:
    for bad in (float("nan"), float("inf"), {1, 2}):
        broken = copy.deepcopy(report)
        broken["lost"]["extra"] = bad
        with pytest.raises(SchemaError, match=r"a value is not JSON .* Mend the summary"):
            render(broken)


def test_write_leaves_the_page_and_the_json_behind_it(report: dict[str, Any], tmp_path: Path) -> None:
    path = write(report, tmp_path / "new" / "reports", name="mine")
    assert path == tmp_path / "new" / "reports" / "mine.html"
    assert path.read_text(encoding="utf-8") == render(report)
    assert json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) == report
    assert b"\r" not in path.read_bytes()


def test_nothing_is_written_when_the_page_cannot_be_drawn(report: dict[str, Any], tmp_path: Path) -> None:
    del report["buy"]["verdict"]
    with pytest.raises(SchemaError, match="verdict"):
        write(report, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_vendored_library_is_the_one_that_is_named() -> None:
    vendor = HERE.parents[1] / "src/habitue/dashboard/vendor"
    digest = hashlib.sha256((vendor / "echarts.min.js").read_bytes()).hexdigest()
    assert f"`{digest}`" in (vendor / "README.md").read_text(encoding="utf-8")
    for licence in ("LICENSE-echarts", "NOTICE-echarts", "LICENSE-d3", "LICENSE-zrender"):
        assert (vendor / licence).stat().st_size > 100
