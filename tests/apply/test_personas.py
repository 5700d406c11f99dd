from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from habitue import prepare
from habitue.apply import personas
from habitue.collect import synthetic
from habitue.core.errors import ModelError
from habitue.core.schemas import Events
from habitue.model.past import Past

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
CUT = START + dt.timedelta(days=200)
CONFIG = personas.Config(personas=4, groups=4, taste_weight=4.0, bootstraps=5, min_buyers=3)


@pytest.fixture(scope="module")
def shop() -> Events:
    return synthetic.shop(users=80, seed=1)


@pytest.fixture(scope="module")
def titles(shop: Events) -> dict[str, str]:
    return dict(shop.select("item_id", "title").unique().iter_rows())


@pytest.fixture(scope="module")
def past(shop: Events, past_of: Callable[..., Past]) -> Past:
    known = past_of(shop, CUT)
    seen, _ = prepare.split(shop, CUT)
    return dataclasses.replace(known, train_features=prepare.features(seen, as_of=CUT - dt.timedelta(days=60)))


@pytest.fixture(scope="module")
def found(past: Past, titles: dict[str, str]) -> personas.Personas:
    return personas.find(past, titles, CONFIG)


def test_the_planted_tastes_are_the_personas(found: personas.Personas) -> None:
    tastes = found.members.with_columns(taste=pl.col("user_key") % 4)
    assert tastes.group_by("name").agg(pl.col("taste").n_unique())["taste"].to_list() == [1, 1, 1, 1]
    assert found.cards["size"].to_list() == [20, 20, 20, 20]
    assert found.cards["share"].sum() == pytest.approx(1)
    assert found.cards["stability"].min() > 0.95 and found.cards["stable"].all()
    assert "4 of 4 personas come back" in found.verdict


def test_names_and_sentences_say_the_taste(found: personas.Personas) -> None:
    for name, sentence in found.cards.select("name", "sentence").iter_rows():
        taste = found.members.filter(pl.col("name") == name)["user_key"][0] % 4
        assert synthetic.TASTES[taste] in name.lower()
        assert f"'{synthetic.TASTES[taste]}'" in sentence and "for all" in sentence
    assert found.cards["name"].n_unique() == 4


def test_lift_is_the_share_of_lines_against_everybodys(found: personas.Personas, past: Past, shop: Events) -> None:
    assert found.products.group_by("name").len()["len"].to_list() == [5, 5, 5, 5]
    seen = shop.filter(pl.col("at") < CUT)
    for name, item, title, lift, buyers in found.products.iter_rows():
        assert title == f"{synthetic.TASTES[int(item[1:]) // 10]} thing {int(item[1:])}"
        mine = seen.join(found.members.filter(pl.col("name") == name), on="user_key", how="semi")
        here, all_ = (mine["item_id"] == item).mean(), (seen["item_id"] == item).mean()
        assert lift == pytest.approx(here / all_) and lift >= 3
        assert buyers == mine.filter(pl.col("item_id") == item)["user_key"].n_unique() >= 3
    top = found.products.filter(pl.col("name") == found.cards["name"][0])["lift"]
    assert top.is_sorted(descending=True)


def test_a_product_few_of_them_bought_has_no_lift(past: Past, titles: dict[str, str]) -> None:
    strict = personas.find(past, titles, dataclasses.replace(CONFIG, min_buyers=19))
    assert (strict.products["buyers"] >= 19).all()
    assert personas.find(past, titles, dataclasses.replace(CONFIG, lift=1000.0)).products.height == 0


def test_the_report_gets_plain_lists(found: personas.Personas) -> None:
    plain = personas.to_dict(found)
    assert json.loads(json.dumps(plain)) == plain
    assert [card["name"] for card in plain["cards"]] == found.cards["name"].to_list()
    assert sum(len(card["products"]) for card in plain["cards"]) == found.products.height
    first = plain["cards"][0]
    assert first["products"][0]["item_id"] in found.products.filter(pl.col("name") == first["name"])["item_id"]
    assert plain["periods"] == list(found.periods) and plain["moves"] == found.moves.to_dicts()


def test_money_is_net_and_cards_stand_by_it(found: personas.Personas, past: Past) -> None:
    net = past.features.select("user_key", net=pl.col("spend") + pl.col("refunded"))
    for name, money in found.cards.select("name", "money").iter_rows():
        mine = found.members.filter(pl.col("name") == name).join(net, on="user_key")
        assert money == pytest.approx(mine["net"].sum())
    assert found.cards["money"].is_sorted(descending=True)


def test_refunds_are_subtracted_from_the_money(past: Past, titles: dict[str, str]) -> None:
    sent_back = past.features.with_columns(refunded=-pl.col("spend") / 4)
    cards = personas.find(dataclasses.replace(past, features=sent_back), titles, CONFIG).cards
    assert cards["money"].sum() == pytest.approx(past.features["spend"].sum() * 3 / 4)


def test_a_name_says_in_which_way_behaviour_differs(past: Past, titles: dict[str, str]) -> None:
    taste = pl.col("user_key") % 4
    times = pl.when(taste == 0).then(20.0).when(taste == 1).then(0.05).otherwise(1.0)
    planted = past.features.with_columns(value_per_order=pl.col("value_per_order") * times)
    found = personas.find(dataclasses.replace(past, features=planted), titles, CONFIG)
    name_of = dict(found.members.select(pl.col("user_key") % 4, "name").unique().iter_rows())
    assert "big" in name_of[0].lower() and "small" not in name_of[0].lower()
    assert "small" in name_of[1].lower() and "big" not in name_of[1].lower()
    assert not {"big", "small"} & set(name_of[2].lower().replace(",", "").split())
    sentence = found.cards.filter(pl.col("name") == name_of[0])["sentence"].item()
    typical = [
        f"{np.expm1(np.log1p(table['value_per_order'].to_numpy()).mean()):,.0f}"
        for table in (planted.filter(taste == 0), planted)
    ]
    assert f"{typical[0]} an order ({typical[1]} for all)" in sentence


def test_who_bought_in_neither_period_does_not_move(past: Past, titles: dict[str, str], shop: Events) -> None:
    seen, _ = prepare.split(shop, CUT)
    short = dataclasses.replace(
        past, horizon_days=15, train_features=prepare.features(seen, as_of=CUT - dt.timedelta(days=15))
    )
    lately = seen.filter(pl.col("at") >= CUT - dt.timedelta(days=30))["user_key"].n_unique()
    assert personas.find(short, titles, CONFIG).moves["n"].sum() == lately < 80


def test_moves_count_those_who_bought_in_either_period(found: personas.Personas, shop: Events) -> None:
    middle, first = CUT - dt.timedelta(days=60), CUT - dt.timedelta(days=120)
    seen = shop.filter(pl.col("at") < CUT)
    active = set(seen.filter(pl.col("at") >= first)["user_key"])
    lately = set(seen.filter(pl.col("at") >= middle)["user_key"])
    assert found.moves["n"].sum() == len(active)
    gone = found.moves.filter(pl.col("to").is_null())["n"].sum()
    assert gone == len(active - lately) > 0
    stayed = found.moves.drop_nulls()
    assert (stayed["from"] == stayed["to"]).all()  # nobody changes taste in this shop
    assert found.periods == ("Mar to May 2024", "May to Jul 2024")
    assert "0.0 % moved" in found.verdict


def test_a_new_customer_comes_from_nowhere(past: Past, titles: dict[str, str]) -> None:
    early = past.train_features.filter(pl.col("user_key") != 8)
    later = dataclasses.replace(past, train_features=early)
    moves = personas.find(later, titles, CONFIG).moves
    assert moves.filter(pl.col("from").is_null())["n"].to_list() == [1]
    none = dataclasses.replace(past, train_features=past.train_features.clear())
    silent = personas.find(none, titles, CONFIG)
    assert silent.moves.height == 0 and "moved" not in silent.verdict


def test_groups_drawn_from_noise_are_called_not_stable() -> None:
    noise = np.random.default_rng(0).normal(size=(300, 12))
    labels = personas.KMeans(6, n_init=10, random_state=0).fit(noise).labels_
    stability = personas._stability(noise, labels, personas.Config(), seed=0)
    assert (stability < 0.5).mean() > 0.5
    apart = noise + 30 * np.eye(12)[np.arange(300) % 6]
    labels = personas.KMeans(6, n_init=10, random_state=0).fit(apart).labels_
    assert personas._stability(apart, labels, personas.Config(), seed=0).min() > 0.99


def test_stability_is_the_jaccard_similarity_with_the_best_match() -> None:
    points = np.r_[np.zeros((100, 2)), np.ones((300, 2))] + np.random.default_rng(0).normal(scale=0.01, size=(400, 2))
    labels = np.r_[np.zeros(200), np.ones(200)].astype(np.int64)  # not the two groups there are
    stability = personas._stability(points, labels, dataclasses.replace(CONFIG, personas=2, bootstraps=20), seed=0)
    assert stability == pytest.approx([100 / 200, 200 / 300], abs=0.04)


def test_taste_is_the_square_root_of_the_shares_with_some_average_lines_added(past: Past) -> None:
    lines = personas._lines(past, past.features)
    space = personas._space(past, past.features, lines, CONFIG, seed=0)
    values = personas._coordinates(space, past.features, lines)
    assert space.names == ("order_count", "value_per_order", "days_since_last")
    assert values[:, 0] == pytest.approx(np.log1p(past.features["order_count"].to_numpy()))
    mine = np.bincount(space.group, weights=lines[7].toarray()[0])
    every = np.bincount(space.group, weights=np.asarray(lines.sum(axis=0)).ravel())
    shares = (mine + CONFIG.prior_lines * every / every.sum()) / (mine.sum() + CONFIG.prior_lines)
    assert values[7, 3:] ** 2 == pytest.approx(shares)


def test_a_wholesaler_is_no_group_of_his_own(past: Past) -> None:
    giant = past.features.with_columns(
        value_per_order=pl.when(pl.col("user_key") == 3).then(1e9).otherwise(pl.col("value_per_order"))
    )
    lines = personas._lines(past, giant)
    space = personas._space(past, giant, lines, CONFIG, seed=0)
    assert np.abs(personas._points(space, giant, lines) / space.weight).max() <= personas.SCALED


def test_the_same_seed_gives_the_same_personas(past: Past, titles: dict[str, str]) -> None:
    one, two = (personas.find(past, titles, CONFIG, seed=5) for _ in range(2))
    assert one.cards.equals(two.cards) and one.members.equals(two.members) and one.moves.equals(two.moves)


def test_without_words_the_buyers_make_the_groups(past: Past) -> None:
    bare = personas.find(dataclasses.replace(past, words=None), {}, CONFIG)
    tastes = bare.members.with_columns(taste=pl.col("user_key") % 4)
    assert tastes.group_by("name").agg(pl.col("taste").n_unique())["taste"].to_list() == [1, 1, 1, 1]
    assert bare.cards["name"].n_unique() == 4  # though there is no word to tell them apart
    assert not bare.cards["sentence"].str.contains("apart").any()


def test_guests_are_in_no_persona(past: Past, titles: dict[str, str]) -> None:
    known = dataclasses.replace(past, features=past.features.filter(pl.col("user_key") != 3))
    found = personas.find(known, titles, CONFIG)
    assert found.members.height == 79 and 3 not in found.members["user_key"]
    assert found.moves["n"].sum() < 80


def test_too_few_customers_and_missing_features_are_said_in_words(past: Past, titles: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="80 known customers have ordered, for 9 personas. Groups of fewer than ten"):
        personas.find(past, titles, dataclasses.replace(CONFIG, personas=9))
    with pytest.raises(ModelError, match="FEATURES has no column 'price_per_unit'. Personas could not be described"):
        personas.find(dataclasses.replace(past, features=past.features.drop("price_per_unit")), titles, CONFIG)
