"""A sheet in a real browser: every kind is drawn, at the width of a phone and of a desk, by day and by night."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from habitue.dashboard import sheet

pytestmark = pytest.mark.slow

SHEET = Path(__file__).parents[1] / "dashboard" / "sheet.json"
HOSTILE = {
    "Loyal weekly": "</script><script>alert(1)</script><img src=x onerror=alert(1)>",
    "Gift buyers": "\u202eقائمة العملاء المخلصين",
    "Gone quiet": "x" * 10_000,
}
CHARTS = """() => [...document.querySelectorAll("[data-chart]")].map((c) => ({
    name: c.dataset.chart,
    marks: c.querySelectorAll("svg path, svg rect, svg circle").length,
    words: [...c.querySelectorAll("svg text")].map((t) => t.textContent).join(" "),
    inside: [...c.querySelectorAll("svg")].every((s) => s.getBoundingClientRect().width <= c.clientWidth + 1),
    failed: c.classList.contains("failed"),
}))"""


@pytest.fixture(params=["plain", "hostile"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    text = SHEET.read_text(encoding="utf-8")
    if request.param == "hostile":
        for name, evil in HOSTILE.items():
            text = text.replace(name, json.dumps(evil)[1:-1])
    return sheet.write(json.loads(text), tmp_path / "sheet.html")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (375, "dark")])
def test_every_kind_is_drawn_and_nothing_leaves_the_page(path: Path, visit: Any, width: int, scheme: str) -> None:
    page = visit(path, width=width, scheme=scheme)
    charts = page.tab.evaluate(CHARTS)
    assert len(charts) == 8
    for chart in charts:
        assert chart["marks"] >= 3, chart
        assert chart["inside"] and not chart["failed"], chart
        assert len(chart["words"]) < 3_000, chart["name"]
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= width
    assert page.tab.evaluate("document.querySelector('#script-state').hidden")
    assert page.complaints == []


def test_the_tree_is_an_outline_on_a_phone(visit: Any, tmp_path: Path) -> None:
    path = sheet.write(json.loads(SHEET.read_text(encoding="utf-8")), tmp_path / "sheet.html")
    tall = {
        width: visit(path, width=width).tab.evaluate(
            "echarts.getInstanceByDom(document.querySelector('[data-chart=tree]')).getOption().series.length"
        )
        for width in (375, 1280)
    }
    assert tall == {375: 0, 1280: 1}


def test_without_scripts_all_text_and_tables_stand(visit: Any, tmp_path: Path) -> None:
    path = sheet.write(json.loads(SHEET.read_text(encoding="utf-8")), tmp_path / "sheet.html")
    page = visit(path, script=False)
    said = page.tab.inner_text("body")
    assert "it has not run" in said
    assert "Loyal weekly" in said
    assert page.complaints == [] or all("script" in c for c in page.complaints)
