import datetime as dt

import pytest

from habitue.core.schemas import EVENTS
from habitue.quality.ledger import ledger
from habitue.quality.traffic import Config, bots, bursts, traffic

SECOND, MINUTE, HOUR = 1 / 86_400, 1 / 1_440, 1 / 24
VIEW = {"kind": "Product Viewed", "price": None, "quantity": None, "order_id": None}


def shopper(user: int, start: float, gaps, **more) -> list[dict]:
    days, rows = start, []
    for gap in gaps:
        rows.append({**VIEW, "user_key": user, "day": days, **more})
        days += gap
    return rows


def human(user: int, start: float = 0.0, n: int = 40) -> list[dict]:
    return shopper(user, start, [(7 + (i * 37 + user * 11) % 90) * SECOND for i in range(n)])


def test_programs_are_told_and_shoppers_are_not(lines):
    fast = shopper(1, 0.0, [0.9 * SECOND] * 70)
    sleepless = shopper(2, 0.0, [(5 + 4 * (i % 2)) * MINUTE for i in range(205)])  # all day, unevenly
    steady = shopper(3, 0.0, [10 * MINUTE] * 60)
    slow = shopper(4, 0.0, [2 * HOUR] * 60)  # a machine of the house, too slow to be a robot
    found = bots(lines(*fast, *sleepless, *steady, *slow, *human(5)))
    assert found.rows() == [(1, "fast", 70), (2, "sleepless", 205), (3, "steady", 60)]


def test_an_order_of_a_hundred_lines_is_one_moment(lines):
    assert bots(lines(*({"item_id": str(i)} for i in range(300)))).is_empty()


@pytest.mark.parametrize(("clicks", "is_one"), [(60, True), (59, False)])
def test_a_moment_a_second_for_a_minute(lines, clicks, is_one):
    uneven = [(0.5 + (i % 3) / 4) * SECOND for i in range(clicks)]
    assert bots(lines(*shopper(1, 0.0, uneven))).height == is_one


def test_the_settings_are_heard(lines):
    events = lines(*human(1, n=40))
    assert bots(events).is_empty()
    assert bots(events, Config(per_minute=2)).rows() == [(1, "fast", 40)]


def test_an_hour_far_above_the_others_is_a_burst(lines):
    quiet = [row for h in range(30) for row in human(h, h * HOUR, n=4 + h % 3)]
    loud = [row for u in range(100, 140) for row in human(u, 12 * HOUR + u * SECOND, n=10)]
    assert bursts(lines(*quiet)).is_empty()
    hours = bursts(lines(*quiet, *loud))
    assert hours["hour"].to_list() == [dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)]
    assert hours["moments"][0] == 400 + 4 + 12 % 3
    usual = 5.0
    assert hours["usual"][0] == usual
    assert hours["z"][0] == pytest.approx(0.6745 * (404 - usual) / max(1.0, 0.6745 * usual**0.5))


def test_findings_say_rows_and_money(lines):
    rows = [*shopper(1, 0.0, [0.9 * SECOND] * 70), {"user_key": 1, "day": 1.0, "quantity": 4.0}, *human(2)]
    events = lines(*rows)
    known = events.select("user_key").unique().with_columns(known=True)
    (found,) = traffic(ledger(events, known))
    assert (found["code"], found["rows"], found["money"]) == ("bots", 71, 8.0)
    assert found["sentence"].startswith("1 users behave like programs (1 fast): 71 rows, EUR 8.00.")


def test_nothing_is_no_program(lines):
    assert bots(EVENTS.empty()).is_empty()
    assert bursts(EVENTS.empty()).is_empty()
    assert bots(lines({})).is_empty()
    assert bursts(lines({})).is_empty()
