"""The personas as a page: what is on it, and what never is."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path

import polars as pl
import pytest

from habitue import pipeline
from habitue.apply import personas
from habitue.apply.personas import Personas
from habitue.apply.personas.movement import FLOWS, NOT_YET
from habitue.collect import synthetic
from habitue.core.schemas import ITEMS, REFUSED, USERS
from habitue.dashboard import sheet
from habitue.dashboard.personas import sheet as arranged
from habitue.plan import Plan
from habitue.protect.people import pseudonym
from habitue.tables import Tables

AS_OF = dt.datetime(2024, 7, 19, tzinfo=dt.UTC)
MADE = {"shop": "Toy <b>shop</b>", "currency": "EUR", "command": "habitue apply personas"}


@pytest.fixture(scope="module")
def found() -> Personas:
    events = synthetic.shop(users=80, seed=1).with_columns(pl.col("user_key") + 10_000_000)
    known = events.select("user_key").unique().sort("user_key").with_columns(known=pl.lit(True))
    tables = Tables(events, events, pl.DataFrame(), ITEMS.empty(), USERS.empty(), REFUSED.empty(), known)
    past, titles = pipeline.look_back(tables, as_of=AS_OF, plan=Plan(horizon_days=60), train=False)
    config = personas.Config(method="kmeans", count=3, least=5, draws=2, map_rows=40)
    risk = known.select("user_key", churn=pl.lit(0.25))
    return personas.find(past, titles, config, before=personas.earlier(past, events, config), risk=risk)


def part(page: dict[str, object], kind: str) -> dict[str, object]:
    return next(p for section in page["sections"] for p in section.get("parts", []) if p["kind"] == kind)  # type: ignore[attr-defined]


def test_the_page_holds_every_part_and_can_be_drawn(found: Personas, tmp_path: Path) -> None:
    page = arranged(found, **MADE)
    titles = [section["title"] for section in page["sections"]]
    assert titles == ["The personas", *found.cards["name"], "Map", "Who moved", "What changed", "How sure it is"]
    html = sheet.write(page, tmp_path / "personas.html").read_text(encoding="utf-8")
    assert "Toy &lt;b&gt;shop&lt;/b&gt;" in html and "<b>shop</b>" not in html
    assert page["lead"][0].startswith("3 personas that come back") or "stable" in page["lead"][0]


def test_a_customer_is_on_it_under_a_pseudonym_only(found: Personas) -> None:
    text = json.dumps(arranged(found, **MADE))
    keys = found.members["user_key"].to_list()
    assert not any(str(key) in text for key in keys)
    shown = [point[2] for group in part(arranged(found, **MADE), "scatter")["groups"] for point in group["points"]]  # type: ignore[attr-defined]
    assert len(shown) == 40 and set(shown) <= {pseudonym(key) for key in keys}


def test_numbers_are_those_of_the_answer(found: Personas) -> None:
    page = arranged(found, **MADE)
    rows = part(page, "table")["rows"]
    assert [(r[0], r[1]) for r in rows] == found.cards.select("name", "size").rows()  # type: ignore[attr-defined]
    assert all(r[-1] == "25\u202f%" for r in rows)  # type: ignore[attr-defined]
    links = part(page, "sankey")["links"]
    drawn = found.flows.filter(pl.col("n") >= 10)
    assert sum(link["value"] for link in links) == drawn["n"].sum() > 0  # type: ignore[attr-defined]
    best = page["sections"][-1]["parts"][0]["rows"]
    assert [row[0] for row in best if "(taken)" in row[0]] == ["k-means, 3 groups (taken)"]


def test_who_joins_later_waits_in_the_column_of_each_moment(found: Personas) -> None:
    flows = pl.DataFrame(
        [
            (0, NOT_YET, "A", 20, 1.0, 0.0, False),
            (1, NOT_YET, "A", 30, 1.0, 0.0, False),
            (1, "A", "A", 20, 1.0, 0.0, True),
        ],
        schema=FLOWS,
        orient="row",
    )
    three = dataclasses.replace(found, flows=flows, moments=tuple(AS_OF + k * dt.timedelta(90) for k in (-2, -1, 0)))
    links = part(arranged(three, **MADE), "sankey")["links"]
    assert {"source": f"0 | {NOT_YET}", "target": f"1 | {NOT_YET}", "value": 30} in links  # type: ignore[operator]
    assert sum(link["value"] for link in links) == 100  # type: ignore[attr-defined]


def test_without_a_model_or_an_earlier_moment_those_parts_are_left_out(found: Personas) -> None:
    bare = dataclasses.replace(
        found,
        cards=found.cards.with_columns(risk=pl.lit(None, dtype=pl.Float64)),
        moments=found.moments[-1:],
        flows=found.flows.clear(),
    )
    page = arranged(bare, **MADE)
    assert [s["title"] for s in page["sections"]][-2:] == ["Map", "How sure it is"]
    assert "Likely lost" not in [c["name"] for c in part(page, "table")["columns"]]  # type: ignore[attr-defined]
