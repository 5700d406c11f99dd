from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable

import polars as pl
import pytest

from habitue import prepare
from habitue.apply import risk
from habitue.collect import synthetic
from habitue.core.errors import ModelError
from habitue.core.schemas import Events, Labels
from habitue.model.past import Past

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
CUT = START + dt.timedelta(days=170)  # ten days after half of them placed their last order
HORIZON = 60


@pytest.fixture(scope="module")
def shop() -> Events:
    return synthetic.shop(users=40, seed=2)


@pytest.fixture(scope="module")
def past(shop: Events, past_of: Callable[..., Past]) -> Past:
    return past_of(shop, CUT, horizon_days=HORIZON)


@pytest.fixture(scope="module")
def labels(shop: Events, past: Past) -> Labels:
    return prepare.labels(
        shop,
        as_of=CUT,
        horizon_days=HORIZON,
        users=past.features["user_key"],
        until=CUT + dt.timedelta(days=HORIZON),
    )


@pytest.fixture(scope="module")
def knowing(past: Past) -> pl.DataFrame:
    """A model that knows who lapsed, and gives the last of them .4."""
    gone = pl.col("user_key") // 4 % 2 == 0
    sure = pl.when(pl.col("user_key") == 32).then(0.4).otherwise(0.9)
    return past.features.select("user_key", churn=pl.when(gone).then(sure).otherwise(0.1))


def test_most_at_stake_comes_first_and_the_safe_are_not_named(past: Past, knowing: pl.DataFrame) -> None:
    told = risk.name(knowing, past)
    named = told.filter("named")
    assert set(named["user_key"]) == {u for u in range(40) if u // 4 % 2 == 0 and u != 32}
    assert told.head(named.height).equals(named) and named["stake"].is_sorted(descending=True)
    assert (told.filter(~pl.col("named"))["stake"] == 0).all()
    row = named.row(3, named=True)
    known = past.features.filter(pl.col("user_key") == row["user_key"])
    usual = known["spend"].item() / known["days_since_first"].item() * HORIZON
    assert row["usual"] == pytest.approx(usual) and row["stake"] == pytest.approx(0.9 * usual)


def test_last_order_and_orders_are_the_customers_own(past: Past, knowing: pl.DataFrame, shop: Events) -> None:
    seen = shop.filter(pl.col("at") < CUT).group_by("user_key").agg(pl.col("at").max(), pl.col("order_id").n_unique())
    both = risk.name(knowing, past).join(seen, on="user_key")
    assert both.height == 40
    assert (both["last_order"] == both["at"]).all() and (both["orders"] == both["order_id"]).all()


def test_a_young_customer_is_not_taken_for_a_big_one(past: Past, knowing: pl.DataFrame) -> None:
    young = past.features.with_columns(
        days_since_first=pl.when(pl.col("user_key") == 1).then(0.5).otherwise(pl.col("days_since_first"))
    )
    told = risk.name(knowing, dataclasses.replace(past, features=young))
    spent = past.features.filter(pl.col("user_key") == 1)["spend"].item()
    assert told.filter(pl.col("user_key") == 1)["usual"].item() == pytest.approx(spent)


def test_refunds_are_subtracted(past: Past, knowing: pl.DataFrame) -> None:
    sent_back = past.features.with_columns(refunded=-pl.col("spend") / 2)
    half = risk.name(knowing, dataclasses.replace(past, features=sent_back))
    assert half["usual"].sum() == pytest.approx(risk.name(knowing, past)["usual"].sum() / 2)


def test_what_happened_is_held_against_the_longest_silence_and_all(
    past: Past, knowing: pl.DataFrame, labels: Labels
) -> None:
    found = risk.outcome(risk.name(knowing, past), labels, risk.Config(shown=5))
    assert (found.named, found.lost) == (19, 1.0)
    assert found.every == pytest.approx(labels["churned"].mean()) and found.every == pytest.approx(0.5, abs=0.06)
    silent = past.features.sort("days_since_last", "user_key", descending=[True, False]).head(19)
    quiet = silent.join(labels.select("user_key", "churned"), on="user_key")["churned"].mean()
    assert found.quietest == pytest.approx(quiet) and found.every < found.quietest < 1
    assert found.customers.height == 5 and not found.customers["came_back"].any()
    assert (found.customers["money"] == 0).all()
    assert "Of 19 customers held more likely lost than not, 100.0 % placed no order" in found.verdict
    assert "Of the 5 with most money at stake 5 were lost" in found.verdict


def test_an_inverted_model_names_those_who_come_back(past: Past, knowing: pl.DataFrame, labels: Labels) -> None:
    wrong = knowing.with_columns(churn=1 - pl.col("churn"))
    found = risk.outcome(risk.name(wrong, past), labels)
    assert found.lost < 0.2 and found.customers["came_back"].sum() >= 8


def test_what_cannot_be_told_is_said_in_words(past: Past, knowing: pl.DataFrame, labels: Labels) -> None:
    with pytest.raises(ModelError, match="FEATURES has no column 'refunded'. It cannot be told whom to call first"):
        risk.name(knowing, dataclasses.replace(past, features=past.features.drop("refunded")))
    with pytest.raises(ModelError, match="3 customers have no answer"):
        risk.name(knowing.head(37), past)
    told = risk.name(knowing, past, risk.Config(risk=0.95))
    with pytest.raises(ModelError, match="nobody is held 95 % likely to be lost"):
        risk.outcome(told, labels, risk.Config(risk=0.95))
    with pytest.raises(ModelError, match="1 customers have no label"):
        risk.outcome(risk.name(knowing, past), labels.filter(pl.col("user_key") != 7))
