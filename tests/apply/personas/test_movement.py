from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from habitue.apply.personas import movement
from habitue.apply.personas.movement import ASLEEP, NOT_YET
from habitue.core.schemas import Events
from habitue.model.past import Past


def frame(day: int, **silence: float) -> pl.DataFrame:
    """A profile at a moment: customer a1 = key 1 and so on, days since the last order."""
    keys = [int(name[1:]) for name in silence]
    return pl.DataFrame(
        {
            "user_key": keys,
            "as_of": [dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=day)] * len(keys),
            "days_since_last": list(silence.values()),
            "spend_90d": [10.0 * k for k in keys],
            "refunded_90d": [-1.0] * len(keys),
            "orders_180d": [float(k) for k in keys],
            "value_per_order": [2.0 * k for k in keys],
        },
        schema_overrides={"as_of": pl.Datetime("us", "UTC")},
    )


FRAMES = [frame(0, c1=5.0, c2=5.0), frame(90, c1=5.0, c2=95.0, c3=5.0)]
NAMED = [["Big", "Small"], ["Big", "Small", "Big"]]


def test_a_state_is_the_persona_then_asleep_or_not_yet() -> None:
    told = movement.states(FRAMES, NAMED)
    assert told.rows() == [
        (1, 0, "Big"),
        (2, 0, "Small"),
        (3, 0, NOT_YET),
        (1, 1, "Big"),
        (2, 1, ASLEEP),
        (3, 1, "Big"),
    ]


def test_flows_count_customers_and_leave_out_who_is_nobody_twice() -> None:
    told = movement.states(FRAMES, NAMED)
    flows = movement.flows(told, least=1)
    assert set(flows.select("step", "from", "to", "n").rows()) == {
        (0, "Big", "Big", 1),
        (0, "Small", ASLEEP, 1),
        (0, NOT_YET, "Big", 1),
    }
    nobody = told.vstack(pl.DataFrame({"user_key": [9, 9], "step": [0, 1], "state": [NOT_YET, NOT_YET]}))
    assert movement.flows(nobody, least=1).equals(flows)
    assert movement.flows(told.filter(pl.col("step") == 0), least=1).height == 0


def test_chance_keeps_the_margins_of_the_movers() -> None:
    n = np.array([[50.0, 10, 5], [8, 40, 12], [0, 30, 0]])
    sources, targets = ["A", "B", NOT_YET], ["A", "B", ASLEEP]
    chance = movement.by_chance(n, sources, targets)
    stay = n[:2].sum(axis=0) * n.sum(axis=1)[:2].reshape(2, 1) / n[:2].sum()
    assert chance[0, 0] == pytest.approx(stay[0, 0]) and chance[1, 1] == pytest.approx(stay[1, 1])
    moved = np.where(np.eye(3, dtype=bool) & np.array([[1], [1], [0]], dtype=bool), 0, chance)
    observed = n * (1 - np.diag([1, 1, 0]))
    assert moved.sum(axis=1) == pytest.approx(observed.sum(axis=1), abs=1e-6)
    assert moved.sum(axis=0) == pytest.approx(observed.sum(axis=0), abs=1e-6)


def test_a_planted_move_is_larger_than_chance_and_the_others_are_not() -> None:
    names = ["A", "B", "C", "D", "E", "F", "G"]
    counts = np.full((7, 7), 20.0) + np.diag([200.0] * 7)
    counts[0, 3] = 90
    rows = [(i, j) for i in range(7) for j in range(7) for _ in range(int(counts[i, j]))]
    told = pl.DataFrame(
        {
            "user_key": list(range(len(rows))) * 2,
            "step": [0] * len(rows) + [1] * len(rows),
            "state": [names[i] for i, _ in rows] + [names[j] for _, j in rows],
        }
    )
    flows = movement.flows(told, least=10)
    more = flows.filter("more")
    assert {(a, b) for a, b in more.select("from", "to").rows() if a != b} == {("A", "D")}
    assert {(a, b) for a, b in more.select("from", "to").rows() if a == b} == {(x, x) for x in names}
    said = movement.surprises(flows, ("1 Jan 2024", "1 Apr 2024"))
    assert len(said) == 1 and said[0].startswith("90 went from A to D between 1 Jan 2024 and 1 Apr 2024; by chance ")
    assert not movement.flows(told, least=91).filter((pl.col("from") != pl.col("to")) & pl.col("more")).height


def test_who_arrives_is_no_surprise_sentence() -> None:
    flows = pl.DataFrame(
        [(0, NOT_YET, "A", 99, 1.0, 98.0, True), (0, "A", "A", 99, 1.0, 98.0, True)],
        schema=movement.FLOWS,
        orient="row",
    )
    assert movement.surprises(flows, ("a", "b")) == []


def test_periods_hold_the_awake_of_each_persona_with_money_and_medians() -> None:
    told = movement.states(FRAMES, NAMED)
    table = movement.periods(FRAMES, told, ["Big", "Small"])
    later = {row["name"]: row for row in table.filter(pl.col("step") == 1).to_dicts()}
    assert later["Big"]["size"] == 2 and later["Big"]["share"] == 1.0
    assert later["Big"]["money"] == pytest.approx(10 - 1 + 30 - 1)
    assert (later["Big"]["orders"], later["Big"]["an_order"], later["Big"]["silence"]) == (2.0, 4.0, 5.0)
    assert later["Small"]["size"] == 0 and later["Small"]["orders"] is None
    assert later[ASLEEP]["size"] == 1 and later[ASLEEP]["share"] is None
    assert later["Big"]["as_of"] == FRAMES[1]["as_of"][0]
    assert movement.changes(table) == [
        "Big: 1 customers at the first moment, 2 at the last (+100%); money in 90 days 9, then 38 (+322%).",
        "Small: 1 customers at the first moment, 0 at the last (-100%); money in 90 days 19, then 0 (-100%).",
        "Asleep: 0 customers at the first moment, 1 at the last.",
    ]
    assert movement.changes(table.filter(pl.col("step") == 0)) == []
    assert len(movement.changes(table.with_columns(size=pl.lit(0)))) == 0


def test_moments_are_quarters_back_while_the_shop_has_a_past(past: Past, shop: Events) -> None:
    found = movement.moments(past, 6)
    assert found[-1] == past.as_of
    assert [b - a for a, b in zip(found, found[1:], strict=False)] == [dt.timedelta(days=90)] * (len(found) - 1)
    first = shop["at"].min()
    assert isinstance(first, dt.datetime)
    assert found[0] - first >= dt.timedelta(days=30) > found[0] - dt.timedelta(days=90) - first
    assert movement.moments(past, 1) == [past.as_of]
    assert len(movement.moments(past, 2)) == 2
