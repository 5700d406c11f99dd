import datetime as dt

import lightgbm as lgb
import numpy as np
import polars as pl
import pytest

from habitue.core.errors import ModelError, SchemaError
from habitue.core.schemas import REASONS, check
from habitue.explain import features

MOMENT = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)
NAMES = ["days_since_last", "orders", "noise"]


@pytest.fixture(scope="module")
def grown():
    """Churn grows with the days since the last order and falls with the orders; noise tells nothing."""
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.uniform(0, 200, 800), rng.integers(1, 20, 800), rng.normal(size=800)]).astype(float)
    truth = rng.random(800) < 1 / (1 + np.exp(-(rows[:, 0] - 100) / 20 + (rows[:, 1] - 10) / 4))
    settings = {
        "objective": "binary",
        "num_leaves": 6,
        "verbosity": -1,
        "num_threads": 1,
        "seed": 0,
        "feature_fraction": 0.8,
    }
    booster = lgb.train(settings, lgb.Dataset(rows, truth, feature_name=NAMES), 40)
    frame = pl.DataFrame(rows, schema=NAMES).with_columns(
        user_key=pl.arange(0, 800, dtype=pl.Int64, eager=True), as_of=MOMENT
    )
    table = frame.with_columns(pl.col("as_of").cast(pl.Datetime("us", "UTC"))).select("user_key", "as_of", *NAMES)
    table = table.with_columns(orders=pl.when(pl.col("user_key") == 7).then(None).otherwise("orders"))
    return booster, table


def test_every_reason_is_a_contribution_and_falls_when_the_usual_value_stands_in_its_place(grown):
    booster, table = grown
    users = np.arange(0, 800, 20)
    frame = features(booster.model_to_string(), table, users, model="trees", most=2)
    check(frame, REASONS, at="test")
    assert 0 < frame.height <= 2 * users.size
    rows = table.select(pl.col(name).fill_null(float("nan")) for name in NAMES).to_numpy()
    shap = booster.predict(rows, pred_contrib=True)
    for user in users:
        told = booster.predict(rows[[user]])[0]
        expected = []
        for f in np.argsort(-shap[user, :-1]):
            changed = rows[[user]].copy()
            changed[0, f] = np.nanmedian(rows[:, f])
            fall = told - booster.predict(changed)[0]
            if shap[user, f] > 0 and fall > 0:
                expected.append((NAMES[f], pytest.approx(fall)))
        assert frame.filter(pl.col("user_key") == user).select("because", "weight").rows() == expected[:2]


def test_the_planted_cause_is_found(grown):
    booster, table = grown
    late = table.filter(pl.col("days_since_last") > 180, pl.col("orders") < 8)["user_key"]
    frame = features(booster.model_to_string(), table, late, model="trees", most=1)
    assert (frame["because"] == "days_since_last").mean() > 0.8
    assert frame.select("as_of", "model", "task", "code").unique().rows() == [(MOMENT, "trees", "churn", "feature")]


def test_a_customer_like_everyone_has_no_reason(grown):
    booster, table = grown
    usual = table.with_columns(pl.col(name).median() for name in NAMES)
    assert features(booster.model_to_string(), usual, [0, 1], model="trees").equals(REASONS.empty())
    assert features(booster.model_to_string(), table, [], model="trees").is_empty()


def test_what_is_missing_is_named(grown):
    booster, table = grown
    text = booster.model_to_string()
    with pytest.raises(ModelError, match="explain.features, model 'trees': the table has no feature 'noise'"):
        features(text, table.drop("noise"), [0], model="trees")
    with pytest.raises(ModelError, match="0 feature rows of 1 customers"):
        features(text, table, [900], model="trees")
    with pytest.raises(ModelError, match="2 feature rows of 1 customers.*one moment"):
        features(text, pl.concat([table, table]), [0], model="trees")
    with pytest.raises(SchemaError, match="explain.features"):
        features(text, table.drop("as_of"), [0], model="trees")
