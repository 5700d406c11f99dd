from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from habitue import prepare
from habitue.apply import spend
from habitue.collect import synthetic
from habitue.core.errors import ModelError
from habitue.core.schemas import Events, Labels
from habitue.model.past import Past

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
CUT = START + dt.timedelta(days=150)  # 30 May
PRIOR = spend.Season(1.5, "said so")


@pytest.fixture(scope="module")
def shop() -> Events:
    return synthetic.shop(users=40, seed=2)


@pytest.fixture(scope="module")
def past(shop: Events, past_of: Callable[..., Past]) -> Past:
    return past_of(shop, CUT, horizon_days=60)


@pytest.fixture(scope="module")
def labels(shop: Events, past: Past) -> Labels:
    users = past.features["user_key"]
    return prepare.labels(shop, as_of=CUT, horizon_days=60, users=users, until=CUT + dt.timedelta(days=60))


def _judge(labels: Labels, past: Past, share: float, season: spend.Season = PRIOR) -> spend.Spend:
    answers = labels.select("user_key", value=pl.col("value") * share)
    return spend.judge(answers, labels, past, season, users=labels["user_key"], model="toy")


def test_a_forecast_of_half_the_money_is_called_that(labels: Labels, past: Past) -> None:
    found = _judge(labels, past, 0.5)
    assert found.actual == pytest.approx(labels["value"].sum()) and found.forecast == pytest.approx(found.actual / 2)
    assert found.bias.mean == pytest.approx(-0.5) and found.bias_adjusted.mean == pytest.approx(-0.25)
    assert found.bias.low == pytest.approx(-0.5) and found.bias.high == pytest.approx(-0.5)
    assert found.adjusted == pytest.approx(found.actual * 0.75)
    assert "50.0 % below the fact (95 % interval -50.0 to -50.0 %)" in found.verdict
    assert "With the season factor 1.5, stated before the opening, it is 25.0 % below" in found.verdict
    assert "above the fact" in _judge(labels, past, 2.0).verdict


def test_deciles_add_up_and_hold_the_factor(labels: Labels, past: Past) -> None:
    table = _judge(labels, past, 0.5).deciles
    assert table["n"].to_list() == [4] * 10 and table["forecast"].is_sorted(descending=True)
    assert table["actual"].sum() == pytest.approx(labels["value"].sum())
    assert np.allclose(table["adjusted"], 1.5 * table["forecast"])


def test_without_a_season_none_is_claimed(labels: Labels, past: Past) -> None:
    assert _judge(labels, past, 0.5, spend.Season(1.0, "none")).verdict.endswith("No season was stated beforehand.")


def test_only_the_users_asked_about_count(labels: Labels, past: Past) -> None:
    answers = labels.select("user_key", "value")
    some = spend.judge(answers, labels, past, PRIOR, users=np.arange(20), model="toy")
    assert some.actual == pytest.approx(labels.filter(pl.col("user_key") < 20)["value"].sum())
    assert some.bias.n == 20


def test_months_of_the_horizon_never_seen_are_named(past: Past, past_of: Callable[..., Past]) -> None:
    assert spend.unseen_months(past) == ("June", "July")  # January to May is known; 30 May + 60 days = 28 July
    assert spend.unseen_months(past_of(synthetic.shop(users=8, days=400), START + dt.timedelta(days=380))) == ()


def test_the_verdict_names_them(labels: Labels, past: Past) -> None:
    assert "; no June or July was ever seen. With" in _judge(labels, past, 0.5).verdict


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_factor_that_means_nothing_is_refused(labels: Labels, past: Past, factor: float) -> None:
    with pytest.raises(ModelError, match="the season factor is .*. The adjusted forecast would have no meaning"):
        _judge(labels, past, 1.0, spend.Season(factor, "wrong"))
