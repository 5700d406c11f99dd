from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from habitue.apply import launches
from habitue.collect import synthetic
from habitue.core.errors import ModelError
from habitue.core.schemas import METRICS, SCORES, Events, check
from habitue.model.past import Past

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
CUT = START + dt.timedelta(days=150)
LATE = ["P002", "P012", "P022", "P032"]  # one staple of each taste: launched at the cut
EARLY = ["P004", "P014", "P024", "P034"]  # launched on day 70, so that a rewind to day 90 knows new things
CONFIG = launches.Config(told=10, min_buyers=3, new_days=30, rewind_days=10, min_history_days=20)


def _launched(events: Events, items: list[str], day: int) -> pl.Expr:
    return pl.col("item_id").is_in(items) & (pl.col("at") < START + dt.timedelta(days=day))


@pytest.fixture(scope="module")
def shop() -> Events:
    events = synthetic.shop(users=120, seed=3)
    return events.filter(~_launched(events, LATE, 150), ~_launched(events, EARLY, 90))


@pytest.fixture(scope="module")
def past(shop: Events, past_of: Callable[..., Past]) -> Past:
    return past_of(shop, CUT, catalogue=shop)


@pytest.fixture(scope="module")
def told(past: Past) -> launches.Told:
    return launches.tell(past, CONFIG)


def _taste(key: int) -> int:
    return key % len(synthetic.TASTES)


def test_words_find_those_of_the_products_taste(told: launches.Told) -> None:
    check(told.scores, SCORES, at="test")
    words = told.scores.filter(pl.col("model") == "words")
    assert words["item_id"].unique().sort().to_list() == LATE
    for item, users in words.group_by("item_id").agg("user_key").iter_rows():
        assert len(users) == 10
        assert {_taste(u) for u in users} == {LATE.index(item)}
    assert words.filter(pl.col("item_id") == "P012").sort("rank")["score"].is_sorted(descending=True)
    assert words["rank"].unique().sort().to_list() == list(range(1, 11))


def test_what_happened_is_measured_beside_the_busiest_and_chance(told: launches.Told, shop: Events) -> None:
    answer = launches.outcome(told, shop, horizon_days=60, dataset="toy", config=CONFIG)
    check(answer.metrics, METRICS, at="test")
    share = dict(answer.metrics.select("model", "mean").iter_rows())
    assert share["words"] > 2 * share["busiest"] and share["words"] > 2 * share["chance"]
    assert (answer.n_new, answer.n_measured) == (4, 4)
    assert "The words help" in answer.verdict
    lead = answer.paired.row(by_predicate=pl.col("model") == "words", named=True)
    assert lead["mean"] == pytest.approx(share["words"] - share["busiest"]) and lead["low"] > 0
    until = CUT + dt.timedelta(days=60)
    truth = shop.filter(pl.col("item_id") == "P012", pl.col("at").is_between(CUT, until, closed="left"))
    buyers = set(truth["user_key"]) & set(told.user_keys.tolist())
    assert dict(answer.products.select("item_id", "buyers").iter_rows())["P012"] == len(buyers)
    mine = answer.told.filter(pl.col("item_id") == "P012")
    assert {u for u, b in mine.select("user_key", "bought").iter_rows() if b} == buyers & set(mine["user_key"])
    assert share["chance"] == pytest.approx(answer.products["buyers"].mean() / len(told.user_keys))


def test_only_purchases_inside_the_horizon_by_those_who_could_be_told_count(told: launches.Told, shop: Events) -> None:
    whole = launches.outcome(told, shop, horizon_days=60, dataset="toy", config=CONFIG)
    edge = CUT + dt.timedelta(days=60)
    stranger = pl.col("user_key") + 1000
    more = pl.concat(
        [
            shop,
            shop.filter(pl.col("item_id").is_in(LATE)).with_columns(user_key=stranger),  # nobody could tell them
            shop.filter(pl.col("item_id").is_in(LATE)).with_columns(at=pl.lit(edge, dtype=shop.schema["at"])),  # late
            shop.filter(pl.col("item_id").is_in(LATE)).with_columns(kind=pl.lit("Product Viewed")),  # no purchase
        ]
    )
    again = launches.outcome(told, more, horizon_days=60, dataset="toy", config=CONFIG)
    assert again.metrics.drop("cpu_s").equals(whole.metrics.drop("cpu_s"))


def test_the_setting_is_picked_on_the_past_alone(past: Past, told: launches.Told) -> None:
    assert told.setting.products > 0
    assert told.setting.sharpness in CONFIG.sharpness and told.setting.curiosity in CONFIG.curiosity
    young = dataclasses.replace(CONFIG, min_history_days=1000)
    assert launches.tell(past, young).setting == launches.Setting(1.0, 0.0, products=0)


def test_the_pick_is_the_one_that_found_most(past: Past) -> None:
    one_each = [
        launches.tell(past, dataclasses.replace(CONFIG, sharpness=(s,), curiosity=(c,)))
        for s in CONFIG.sharpness
        for c in CONFIG.curiosity
    ]
    assert len({t.setting.products for t in one_each}) == 1  # every setting is tried on the same launches
    both = launches.tell(past, dataclasses.replace(CONFIG, curiosity=(0.0, 50.0)))
    assert both.setting.curiosity == 0.0  # who buys everything new has no taste


def test_a_customer_who_tries_new_things_is_named_first_for_curiosity(past: Past) -> None:
    likes = launches._appetite(past, np.arange(len(past.known)), CONFIG)
    early = past.histories.of_kind("Order Completed")
    tried = np.isin(early.row_item, [past.items.index(i) for i in EARLY])
    since = early.set_at[early.row_set] < START.timestamp() / 86_400 + 120
    eager = np.unique(early.set_user[early.row_set[tried & since]])
    assert (likes[eager] > 0).all() and likes.argmax() in eager
    assert (likes[np.setdiff1d(np.arange(len(likes)), np.unique(early.set_user[early.row_set[tried]]))] == 0).all()


def test_an_honest_verdict_when_words_say_nothing(past: Past, shop: Events) -> None:
    assert past.words is not None
    order = np.random.default_rng(0).permutation(len(past.items))
    mixed = dataclasses.replace(past, words=past.words[order])
    answer = launches.outcome(launches.tell(mixed, CONFIG), shop, horizon_days=60, dataset="toy", config=CONFIG)
    assert "does not show that words are worth more than telling your busiest customers" in answer.verdict


def test_guests_and_those_who_never_bought_are_not_told(past: Past, told: launches.Told) -> None:
    guest = dataclasses.replace(past, known=past.histories.user_keys != 4)
    assert 4 in told.scores["user_key"] and 4 not in launches.tell(guest, CONFIG).scores["user_key"]


def test_what_cannot_be_told_is_said_in_words(past: Past, told: launches.Told, shop: Events) -> None:
    with pytest.raises(ModelError, match="the products have no words. Nobody can be told about a new product. Map a"):
        launches.tell(dataclasses.replace(past, words=None), CONFIG)
    assert past.words is not None
    with pytest.raises(ModelError, match="no product of the catalogue has words and was never bought"):
        launches.tell(dataclasses.replace(past, words=sp.csr_matrix(past.words.shape, dtype=np.float32)), CONFIG)
    with pytest.raises(ModelError, match="120 known customers have bought something, and 500 are to be named"):
        launches.tell(past, dataclasses.replace(CONFIG, told=500))
    with pytest.raises(ModelError, match="none of 4 new products found 3 buyers in the horizon. Nobody can be told"):
        launches.outcome(told, shop.clear(), horizon_days=60, dataset="toy", config=CONFIG)
