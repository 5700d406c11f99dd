"""The check as a page: what is on it, and what never is."""

import datetime as dt

import polars as pl
import pytest

from habitue.core.schemas import CHECKS, ITEMS, REFUSED, USERS
from habitue.dashboard import sheet
from habitue.dashboard.quality import sheet as arranged
from habitue.quality import limits
from habitue.quality.examine import Examined, examine

NOW = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)


def looked(events: pl.DataFrame, config: limits.Config | None = None) -> Examined:
    tables = {"events": events, "items": ITEMS.empty(), "users": USERS.empty(), "refused": REFUSED.empty()}
    known = events.select("user_key").unique().with_columns(known=True)
    return examine(tables, known=known, now=NOW, currency="EUR", config=config)


def page(examined: Examined, checks: int = 1, in_force: pl.DataFrame | None = None):
    rows = examined.scores.drop("formula").with_columns(rows=pl.lit(9, dtype=pl.Int64))
    moment = pl.lit(NOW).cast(pl.Datetime("us", "UTC"))
    trend = pl.concat(
        [
            CHECKS.shape(rows.with_columns(checked_at=moment + pl.duration(days=i), score=pl.col("score") / (i + 1)))
            for i in range(checks)
        ]
    )
    nothing = pl.DataFrame(
        schema={"repair": pl.String, "applied_at": pl.Datetime("us", "UTC"), "rows": pl.Int64, "money": pl.Float64}
    )
    return arranged(
        examined,
        trend=trend,
        in_force=nothing if in_force is None else in_force,
        refused=pl.DataFrame({"code": ["no_time"], "rows": [3], "sentence": ["There is <b>no</b> time."]}),
        shop="Toy <b>shop</b>",
        currency="EUR",
        at=NOW,
        command="habitue check",
    )


def part(made, section: str, kind: str):
    found = next(s for s in made["sections"] if s["title"] == section)
    return next(p for p in found["parts"] if p["kind"] == kind)


@pytest.fixture(scope="module")
def events(lines):
    rows = [{"user_key": i, "day": i / 4, "order_id": f"o{i}", "price": 2.0 if i < 200 else 7.0} for i in range(400)]
    return lines(*rows, rows[0], {"currency": None, "quantity": 500.0})


def test_every_section_is_there_and_the_page_can_be_drawn(events):
    made = page(looked(events, limits.Config(drift=limits.drift.Config(days=50))), checks=3)
    assert [s["title"] for s in made["sections"]] == [
        "Scores",
        "What was found",
        "Repairs",
        "Drift",
        "Trend",
        "Every column",
    ]
    heat = part(made, "Scores", "heat")
    assert heat["y_labels"] == ["events", "users"]
    assert heat["values"][0][0] == pytest.approx(1.0, abs=0.01)
    bars = part(made, "Drift", "bars")
    assert bars["labels"][0] == "events.price"
    assert bars["series"][0]["values"][0] > 0.25
    lines_ = part(made, "Trend", "lines")
    assert [len(s["points"]) for s in lines_["series"]] == [3] * 5  # four dimensions of events, one of users
    first = lines_["series"][0]["points"]
    assert [x for x, _ in first] == [1, 2, 3]
    assert first[1][1] == pytest.approx(first[0][1] / 2, abs=1e-3)
    repairs = part(made, "Repairs", "table")["rows"]
    assert {row[0] for row in repairs} == {"drop_exact_repeats", "fix_currency"}
    assert all(row[-1] == f"habitue check --repair {row[0]}" for row in repairs)
    html = sheet.render(made)
    assert "<b>shop</b>" not in html
    assert "There is &lt;b&gt;no&lt;/b&gt; time." in html


def test_the_largest_finding_and_the_broken_limits_lead(events):
    made = page(looked(events, limits.Config(most={"exact_repeat": 0.0})))
    assert made["lead"][0].startswith("402 rows in 1 table; ")
    assert made["lead"][1].startswith("The most money: ")
    assert "€" in made["lead"][1]
    assert made["lead"][2].startswith("1 limit of the plan broken: 'exact_repeat' is ")
    assert all(p["kind"] != "lines" for p in next(s for s in made["sections"] if s["title"] == "Trend")["parts"])


def test_repairs_in_force_say_how_to_take_them_back(lines):
    force = pl.DataFrame({"repair": ["drop_bots"], "applied_at": [NOW], "rows": [3], "money": [9.0]})
    made = page(looked(lines({})), in_force=force)
    assert part(made, "Repairs", "table")["rows"][0][-1] == "habitue check --undo drop_bots"
    assert sheet.render(made)


def test_a_shop_of_one_row_has_a_page(lines):
    made = page(looked(lines({})))
    assert "Too few rows" in next(s for s in made["sections"] if s["title"] == "Drift")["text"][0]
    assert next(s for s in made["sections"] if s["title"] == "What was found")["text"] == [
        "A row may be in several findings, so their money does not add up."
    ]
    assert sheet.render(made)
