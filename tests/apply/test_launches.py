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
EARLY = ["P004", "P014", "P024", "P034"]  # launched on day 90, so that a rewind to day 90 or before knows new things
FIRST = ["P006", "P016", "P026", "P036"]  # launched on day 45, so that appetite can be seen by day 90
CONFIG = launches.Config(told=10, min_buyers=3, new_days=30, rewind_days=10, min_history_days=20)


def _launched(items: list[str], day: int) -> pl.Expr:
    return pl.col("item_id").is_in(items) & (pl.col("at") < START + dt.timedelta(days=day))


@pytest.fixture(scope="module")
def shop() -> Events:
    events = synthetic.shop(users=120, seed=3)
    return events.filter(~_launched(LATE, 150), ~_launched(EARLY, 90), ~_launched(FIRST, 45))


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
    for model, right in (("words", 8), ("words_alone", 10)):
        named = told.scores.filter(pl.col("model") == model)
        for item, users in named.group_by("item_id").agg("user_key").iter_rows():
            assert len(users) == 10
            assert sum(_taste(u) == LATE.index(item) for u in users) >= right
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
    late = shop.filter(pl.col("item_id").is_in(LATE))
    other = (pl.col("user_key") + 1) % 120  # another taste: nobody who bought these products
    more = pl.concat(
        [
            shop,
            late.with_columns(user_key=pl.col("user_key") + 1000),  # a stranger: nobody could tell him
            late.with_columns(user_key=other, at=pl.lit(CUT + dt.timedelta(days=60), dtype=shop.schema["at"])),
            late.with_columns(user_key=other, kind=pl.lit("Product Viewed")),
        ]
    )
    again = launches.outcome(told, more, horizon_days=60, dataset="toy", config=CONFIG)
    assert again.metrics.drop("cpu_s").equals(whole.metrics.drop("cpu_s"))


def test_a_product_with_too_few_buyers_is_not_measured(told: launches.Told, shop: Events) -> None:
    whole = launches.outcome(told, shop, horizon_days=60, dataset="toy", config=CONFIG)
    most = whole.products["buyers"][0]
    strict = dataclasses.replace(CONFIG, min_buyers=most)
    few = launches.outcome(told, shop, horizon_days=60, dataset="toy", config=strict)
    assert few.n_measured == (whole.products["buyers"] == most).sum() < 4 and few.products.equals(whole.products)
    assert few.metrics["n"].unique().to_list() == [few.n_measured]


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
    blind = dataclasses.replace(CONFIG, curiosity=(50.0, 0.0))  # who likes new things, whatever they are
    assert launches.tell(past, blind).setting.curiosity == 0.0


def test_buyers_of_a_past_launch_are_counted_in_its_own_horizon(past: Past, shop: Events) -> None:
    then = past.rewind(START + dt.timedelta(days=80))
    users = launches._customers(then)
    truth = launches._bought_since(past, then, users)
    inside = shop.filter(pl.col("at").is_between(then.as_of, then.as_of + dt.timedelta(days=60), closed="left"))
    for item in ("P004", "P000"):
        bought = set(inside.filter(pl.col("item_id") == item)["user_key"])
        assert set(past.histories.user_keys[users[truth[:, past.items.index(item)].nonzero()[0]]]) == bought
    assert set(truth.data.tolist()) == {1.0}


def test_appetite_is_the_decayed_count_of_purchases_of_what_was_new(past: Past, shop: Events) -> None:
    likes = launches._appetite(past, np.arange(len(past.known)), CONFIG)
    seen = shop.filter(pl.col("at") < CUT)
    first = seen.group_by("item_id").agg(first=pl.col("at").min())
    new = seen.join(first.filter(pl.col("first") >= seen["at"].min() + dt.timedelta(days=30)), on="item_id")
    new = new.filter(pl.col("at") - pl.col("first") < dt.timedelta(days=30)).unique(["user_key", "item_id", "at"])
    age = (CUT - pl.col("at")).dt.total_seconds() / 86_400
    worth = dict(new.group_by("user_key").agg((0.5 ** (age / CONFIG.half_life_days)).sum()).iter_rows())
    assert set(new["item_id"]) == {*EARLY, *FIRST} and 0 < len(worth) < 120
    assert likes == pytest.approx([worth.get(int(key), 0.0) for key in past.histories.user_keys])
    some = launches._appetite(past, np.array([5, 2]), CONFIG)
    assert some == pytest.approx(likes[[5, 2]])


def test_curiosity_lifts_who_likes_new_things() -> None:
    lifted = launches._lift(np.array([0.0, 0.9, 3.9]), 0.5)[:, 0]
    assert lifted == pytest.approx([0.1**0.5, 1.0, 2.0])
    assert (launches._lift(np.array([0.0, 5.0]), 0.0) == 1).all()


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
