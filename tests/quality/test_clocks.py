import datetime as dt
import random

import pytest

from habitue.core.schemas import EVENTS
from habitue.quality.clocks import Config, batches, clocks, shifts
from habitue.quality.ledger import ledger


def day_of(source: str, n: int, *, hours: int = 0, seed: int = 0, **more) -> list[dict]:
    """Orders at the hours people are awake, the evening twice as busy."""
    dice = random.Random(seed)
    rows = []
    for i in range(n):
        hour = (dice.choice([9, 10, 11, 12, 13, 14, 15, 16, 19, 19, 20, 20, 21, 21]) + hours) % 24
        moment = (hour + dice.random()) / 24 + dice.randrange(30)
        rows.append({"source": source, "user_key": i, "order_id": f"{source}{i}", "day": moment, **more})
    return rows


def said(events):
    known = events.select("user_key").unique().with_columns(known=True)
    return {one["code"]: one for one in clocks(ledger(events, known))}


def test_a_source_in_another_zone_is_told_with_its_hours(lines):
    events = lines(*day_of("web", 900), *day_of("app", 400, hours=8, seed=1))
    (row,) = shifts(events).rows(named=True)
    assert (row["by"], row["group"], row["hours"]) == ("source", "app", -8)
    assert row["shifted"] < 0.5 * row["distance"]
    told = said(events)["shifted_clock"]
    assert told["rows"] == 400
    assert "The day of source 'app' matches the rest of the shop when its clock is moved by -8 h" in told["sentence"]


def test_the_same_day_or_another_shape_of_day_is_no_shift(lines):
    assert shifts(lines(*day_of("web", 900), *day_of("app", 400, seed=1))).is_empty()
    night = [{**row, "day": int(row["day"]) + 3 / 24 + i % 2 / 100} for i, row in enumerate(day_of("robot", 400))]
    assert shifts(lines(*day_of("web", 900), *night)).is_empty()


def test_few_moments_are_not_judged(lines):
    events = lines(*day_of("web", 900), *day_of("app", 150, hours=8, seed=1))
    assert shifts(events).is_empty()
    assert shifts(events, Config(least=100)).height == 1


def test_dates_without_a_time(lines):
    days = [{"day": float(i % 40), "user_key": i, "order_id": str(i)} for i in range(300)]
    told = batches(lines(*days))
    assert told.select("source", "time", "moments", "share").rows() == [("test", dt.time(0), 300, 1.0)]
    sentence = said(lines(*days))["one_time_of_day"]["sentence"]
    assert sentence.startswith("100% of the moments of 'test' are at 00:00:00 UTC: dates without a time")


@pytest.mark.parametrize(("nightly", "found"), [(59, False), (60, True)])
def test_a_fifth_of_the_moments_at_one_second_is_a_batch(lines, nightly, found):
    rest = day_of("test", 300 - nightly)
    batch = [{"day": 3 / 24 + i % 9, "user_key": 1000 + i, "order_id": str(i)} for i in range(nightly)]
    assert (not batches(lines(*rest, *batch)).is_empty()) == found


def test_one_day_or_nothing_is_not_judged(lines):
    assert batches(lines(*({"user_key": i} for i in range(300)))).is_empty()
    assert batches(EVENTS.empty()).is_empty()
    assert shifts(EVENTS.empty()).is_empty()


def test_braces_in_a_source_stay_words(lines):
    days = [{"day": float(i % 40), "user_key": i, "source": "{x}"} for i in range(300)]
    assert "'{x}'" in said(lines(*days))["one_time_of_day"]["sentence"]
