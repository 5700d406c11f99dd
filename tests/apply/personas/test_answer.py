from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from habitue.apply import personas
from habitue.apply.personas.movement import ASLEEP, NOT_YET
from habitue.core.errors import ModelError, UsageError
from habitue.core.schemas import Events
from habitue.model.past import Past


def noise(past: Past, seed: int = 0) -> Past:
    """The same customers with numbers drawn by lot, and no taste."""
    rng = np.random.default_rng(seed)
    named = ("days_since_last", "orders_180d", "gap_mean", "value_per_order", "items_per_order", "price_per_unit")
    columns = (pl.Series(name, np.expm1(rng.normal(3, 0.5, past.features.height))) for name in named)
    return dataclasses.replace(past, features=past.features.with_columns(columns))


def test_the_planted_tastes_are_the_personas(found: personas.Personas, taste: pl.Expr) -> None:
    tastes = found.members.with_columns(taste=taste)
    assert tastes.group_by("name").agg(pl.col("taste").n_unique())["taste"].to_list() == [1, 1, 1, 1]
    assert found.cards["size"].to_list() == [20, 20, 20, 20]
    assert found.cards["share"].sum() == pytest.approx(1)
    assert found.cards["money_share"].sum() == pytest.approx(1)
    assert found.cards["stability"].min() > 0.95 and found.cards["stable"].all()
    assert found.verdict.startswith("4 personas that come back: two random halves")


def test_names_say_the_taste_and_no_name_comes_twice(found: personas.Personas, taste: pl.Expr) -> None:
    from habitue.collect.synthetic import TASTES

    for name, key in found.members.group_by("name").agg(taste.first()).rows():
        assert TASTES[key] in name.lower()
    assert found.cards["name"].n_unique() == 4


def test_the_number_of_tastes_is_found_without_being_told(
    past: Past, titles: dict[str, str], config: personas.Config
) -> None:
    free = dataclasses.replace(config, count=None, method="auto")
    told = personas.find(past, titles, free)
    assert told.cards.height == 4
    assert told.tried["taken"].sum() == 1 and told.tried.filter("taken")["groups"].item() == pytest.approx(4, abs=0.3)
    assert {said.split(",")[0].split(" (")[0] for said in told.tried["said"]} == {
        "k-means",
        "HDBSCAN",
        "Gaussian mixture",
    }


def test_money_is_net_and_cards_stand_by_it(past: Past, titles: dict[str, str], config: personas.Config) -> None:
    sent_back = past.features.with_columns(refunded=-pl.col("spend") / 4)
    told = personas.find(dataclasses.replace(past, features=sent_back), titles, config)
    for name, money in told.cards.select("name", "money").iter_rows():
        mine = told.members.filter(pl.col("name") == name).join(sent_back, on="user_key")
        assert money == pytest.approx((mine["spend"] * 3 / 4).sum())
    assert told.cards["money"].is_sorted(descending=True)


def test_the_risk_of_a_persona_is_the_mean_of_its_customers(
    past: Past, titles: dict[str, str], config: personas.Config, taste: pl.Expr
) -> None:
    risk = past.features.select("user_key", churn=taste / 10)
    told = personas.find(past, titles, config, risk=risk)
    for name, expected in told.members.group_by("name").agg((taste / 10).first()).rows():
        card = told.cards.filter(pl.col("name") == name)
        assert card["risk"].item() == pytest.approx(expected)
        assert f"{expected * 100:.0f} % of them to place no order" in card["sentence"].item()
    assert personas.find(past, titles, config).cards["risk"].null_count() == 4


def test_nobody_changes_taste_between_the_moments(found: personas.Personas) -> None:
    assert len(found.moments) == 2 and found.labels == ("20 Apr 2024", "19 Jul 2024")
    stayed = found.flows.filter(~pl.col("from").is_in([NOT_YET, ASLEEP]), pl.col("to") != ASLEEP)
    assert (stayed["from"] == stayed["to"]).all() and stayed["n"].sum() > 0
    assert "0.0 % moved" in found.verdict
    assert found.flows["n"].sum() == 80


def test_without_an_earlier_moment_there_is_no_movement(
    past: Past, titles: dict[str, str], config: personas.Config, shop: Events
) -> None:
    silent = personas.find(past, titles, config)
    assert silent.flows.height == 0 and "moved" not in silent.verdict and len(silent.moments) == 1
    young = dataclasses.replace(config, periods=1)
    assert personas.earlier(past, shop, young).height == 0


def test_an_answer_for_the_past_reads_nothing_later(
    past_of: Callable[..., Past], shop: Events, titles: dict[str, str], config: personas.Config
) -> None:
    then = dt.datetime(2024, 5, 20, tzinfo=dt.UTC)
    seen = past_of(shop, then)
    with_later, without = (
        personas.find(seen, titles, config, before=personas.earlier(seen, events, config))
        for events in (shop, shop.filter(pl.col("at") < then))
    )
    assert with_later.cards.equals(without.cards) and with_later.flows.equals(without.flows)


def test_groups_by_lot_are_called_so_first(past: Past) -> None:
    told = personas.find(
        dataclasses.replace(noise(past), items=("P",), words=None, histories=past.histories.of_kind("nothing")),
        {},
        personas.Config(method="kmeans", count=7, least=2, draws=3),
    )
    assert told.verdict.startswith("No grouping of these customers is stable: ")
    assert "not as kinds of customers that are there" in told.verdict


def test_who_resembles_nobody_is_in_no_group_and_counted(
    past: Past, titles: dict[str, str], config: personas.Config
) -> None:
    rng = np.random.default_rng(3)
    odd = pl.col("user_key") % 10 == 0
    strange = past.features.with_columns(
        pl.when(odd).then(pl.Series(rng.choice([0.01, 1e4], 80)) * pl.col(name)).otherwise(name).alias(name)
        for name in ("value_per_order", "price_per_unit", "items_per_order", "days_since_last", "orders_180d")
    )
    asked = dataclasses.replace(config, method="hdbscan", count=None)
    found = personas.find(dataclasses.replace(past, features=strange), titles, asked)
    outside = found.members.filter(pl.col("name") == "No group").height
    assert 0 < outside < 40 and found.cards["size"].sum() == 80
    card = found.cards.filter(pl.col("name") == "No group").row(0, named=True)
    assert card["size"] == outside and card["stability"] is None and not card["stable"]
    assert f"{outside / 80 * 100:.1f} % of the customers are in no group" in found.verdict
    assert found.members["distance"].null_count() == 0 and found.members["probability"].null_count() == 80


def test_a_mixture_tells_probabilities(past: Past, titles: dict[str, str], config: personas.Config) -> None:
    found = personas.find(past, titles, dataclasses.replace(config, method="mixture"))
    assert found.members["probability"].is_between(0.25, 1).all() and found.members["distance"].null_count() == 80


def test_the_same_seed_gives_the_same_personas(past: Past, titles: dict[str, str], config: personas.Config) -> None:
    one, two = (personas.find(past, titles, config, seed=5) for _ in range(2))
    assert one.cards.equals(two.cards) and one.members.equals(two.members) and one.map.equals(two.map)


def test_a_page_gets_plain_lists_without_a_customer(found: personas.Personas) -> None:
    plain = personas.to_dict(found)
    text = json.dumps(plain)
    assert "user_key" not in text
    assert [card["name"] for card in plain["cards"]] == found.cards["name"].to_list()
    assert sum(len(card["products"]) for card in plain["cards"]) == found.products.height > 0
    assert sum(len(group["points"]) for group in plain["map"]) == 50
    assert plain["periods"] == list(found.labels) and plain["moves"] == found.flows.to_dicts()
    assert plain["as_of"] == found.as_of.isoformat()


def test_guests_are_in_no_persona(past: Past, titles: dict[str, str], config: personas.Config) -> None:
    known = past.features.filter(pl.col("user_key") != 3)
    told = personas.find(dataclasses.replace(past, features=known), titles, dataclasses.replace(config))
    assert told.members.height == 79 and 3 not in told.members["user_key"]


@pytest.mark.parametrize("n", [0, 1, 3, 19])
def test_too_few_customers_are_said_in_words(past: Past, titles: dict[str, str], n: int) -> None:
    few = dataclasses.replace(past, features=past.features.head(n))
    with pytest.raises(ModelError, match=rf"{n} known customers have ordered before 2024-07-19\. Personas need 20"):
        personas.find(few, titles)


def test_a_shop_of_guests_only_is_said_in_words(past: Past, titles: dict[str, str]) -> None:
    guests = dataclasses.replace(past, features=past.features.clear(), known=np.zeros(80, dtype=bool))
    with pytest.raises(ModelError, match="0 known customers .* beside 80 guests, who are nobody twice"):
        personas.find(guests, titles)


def test_twenty_customers_are_enough(past: Past, titles: dict[str, str]) -> None:
    few = dataclasses.replace(past, features=past.features.filter(pl.col("user_key") % 4 < 2).head(20))
    told = personas.find(few, titles, personas.Config(groups=4, taste_weight=4.0, draws=3, least=5))
    assert told.cards["size"].sum() == 20 and told.cards.height >= 2


def test_unknown_numbers_and_constant_columns_do_not_stop_it(
    past: Past, titles: dict[str, str], config: personas.Config
) -> None:
    holes = past.features.with_columns(
        gap_mean=pl.lit(None, dtype=pl.Float64),
        price_per_unit=pl.lit(2.0),
        value_per_order=pl.when(pl.col("user_key") % 3 == 0).then(None).otherwise(pl.col("value_per_order")),
    )
    told = personas.find(dataclasses.replace(past, features=holes), titles, config)
    assert told.cards["size"].to_list() == [20, 20, 20, 20]
    assert "Left out because all customers have the same: money a unit." in told.left_out


def test_groups_that_would_point_to_a_person_are_refused(
    past: Past, titles: dict[str, str], config: personas.Config
) -> None:
    with pytest.raises(ModelError, match="4 personas of at least 21 are asked of 80 customers.*Ask for at most 3"):
        personas.find(past, titles, dataclasses.replace(config, least=21))
    config = dataclasses.replace(config, count=3)
    with pytest.raises(ModelError, match="no grouping of 80 customers .of 1. has only groups of 26 or more"):
        personas.find(past, titles, dataclasses.replace(config, least=26))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"method": "kmean"}, "there is no method 'kmean'.*Did you mean 'kmeans'"),
        ({"method": "hdbscan"}, "4 personas are asked of HDBSCAN. It finds their number by itself"),
        ({"count": 1}, "1 personas are asked. One group tells nobody apart"),
        ({"time_zone": "Paris"}, "there is no time zone 'Paris'.*Europe/London"),
    ],
)
def test_settings_that_make_no_sense_are_refused(config: personas.Config, wrong: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        dataclasses.replace(config, **wrong)  # type: ignore[arg-type]
