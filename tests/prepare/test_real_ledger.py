"""The bundled ledger, its numbers counted a second way."""

import datetime as dt
from collections import defaultdict

import polars as pl
import pytest

from habitue.prepare import catalogue, features, labels, split, timeline
from habitue.prepare.declared import LEDGER
from habitue.prepare.leakage import guard
from habitue.prepare.replay import start, update, values
from habitue.quality import clean

CUT = dt.datetime(2011, 9, 8, 23, tzinfo=dt.UTC)  # 9 September in London
HORIZON = 92


@pytest.fixture(scope="module")
def events(ledger) -> pl.DataFrame:
    return clean(ledger.events)[0]


@pytest.fixture(scope="module")
def customers(ledger) -> pl.Series:
    return ledger.known.filter("known")["user_key"].sort()


def test_labels_counted_line_by_line(events, customers):
    end = CUT + dt.timedelta(days=HORIZON)
    told = labels(events, as_of=CUT, horizon_days=HORIZON, users=customers, until=end)
    met, orders, money = set(), defaultdict(set), defaultdict(float)
    named = set(customers)
    for user, at, kind, order, value in events.select("user_key", "at", "kind", "order_id", "value").iter_rows():
        if user in named and at < CUT:
            met.add(user)
        elif user in named and at < end:
            money[user] += value
            if kind == "Order Completed":
                orders[user].add(order)
    assert told["user_key"].to_list() == sorted(met)
    assert told["orders"].to_list() == [len(orders[user]) for user in sorted(met)]
    assert told["value"].to_list() == pytest.approx([money[user] for user in sorted(met)], abs=1e-6)
    assert told["churned"].to_list() == [not orders[user] for user in sorted(met)]
    assert (told.height, int(told["churned"].sum())) == (3_404, 1_472)
    assert told["value"].sum() == pytest.approx(2_605_717.92, abs=0.01)


def test_features_replayed_line_by_line(events, customers):
    past, _ = split(events, CUT)
    table = features(past, as_of=CUT, users=customers)
    some = table["user_key"].gather_every(60)
    mine = past.filter(pl.col("user_key").is_in(some.implode())).sort("user_key", "at", "event_id", "line")
    states = {user: start(LEDGER) for user in some}
    for row in mine.iter_rows(named=True):
        update(LEDGER, states[row["user_key"]], row)
    decayed = {f.name for f in LEDGER if f.kind == "decayed_sum"}
    for row in table.filter(pl.col("user_key").is_in(some.implode())).iter_rows(named=True):
        online = values(LEDGER, states[row["user_key"]], at=CUT)
        for name, number in online.items():
            expected = pytest.approx(row[name], rel=1e-9, abs=1e-9) if name in decayed else row[name]
            assert number == expected, name


def test_nothing_from_after_the_cut_is_in_the_training_rows(events, customers):
    past, _ = split(events, CUT)
    moments = [CUT - dt.timedelta(days=HORIZON + 14 * back) for back in range(4)]
    rows = features(past, as_of=moments, users=customers)
    answers = labels(past, as_of=moments, horizon_days=HORIZON, users=customers, until=CUT)
    assert rows.select("user_key", "as_of").equals(answers.select("user_key", "as_of"))
    guard(events, rows, answers, cut=CUT)
    whole = features(events, as_of=[*moments, CUT], users=customers)
    assert whole.equals(features(past, as_of=[*moments, CUT], users=customers))


def test_sets_and_words(events, ledger):
    past, _ = split(events, CUT)
    sets = timeline(past)
    assert sets.height == past.select("user_key", "at", "kind").n_unique() == 15_519
    assert sets["values"].list.sum().sum() == pytest.approx(past["value"].sum(), abs=0.01)
    words = catalogue(past, ledger.items, as_of=CUT)
    assert words.height == ledger.items.filter(pl.col("valid_from") < CUT)["item_id"].n_unique()
    assert dict(words.iter_rows())["85123A"] == "WHITE HANGING HEART T-LIGHT HOLDER"
