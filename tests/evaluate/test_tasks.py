"""Churn and value tables against scikit-learn and scipy on the same rows; every mutant of tasks.py must fail."""

import datetime as dt
import inspect
import types

import numpy as np
import polars as pl
import pytest
import scipy.stats
import sklearn.metrics as sk

from habitue.core.errors import ModelError, SchemaError
from habitue.core.schemas import LABELS
from habitue.evaluate import churn, tasks, value

MOMENT = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)


def toy(seed=0, n=200):
    """Labels of n customers, forecasts of n + 5 in another order; customers with an odd key are to be evaluated."""
    rng = np.random.default_rng(seed)
    keys = rng.permutation(n + 5).astype(np.int64)
    risk = np.round(rng.random(n + 5), 2)
    spend = np.round(rng.gamma(1.0, 100.0, size=n + 5), 1)
    forecast = pl.DataFrame({"user_key": keys, "churn": risk, "value": spend})
    churned = rng.random(n + 5) < risk
    labels = pl.DataFrame(
        {
            "user_key": keys,
            "as_of": MOMENT,
            "horizon_end": MOMENT + dt.timedelta(days=92),
            "churned": churned,
            "orders": np.where(churned, 0, 2),
            "value": np.where(churned, 0, np.round(spend * rng.uniform(0.5, 3, size=n + 5), 1)),
        }
    )
    users = keys[(keys % 2 == 1) & (keys < n)]
    return forecast.sample(fraction=1, shuffle=True, seed=1), LABELS.shape(labels), users


def told_of(measured):
    return {m.metric: float(m.statistic(np.ones((1, m.user_keys.size)))[0]) for m in measured}


def rows_of(forecast, labels, users):
    kept = labels.filter(pl.col("user_key").is_in(users.tolist())).sort("user_key")
    kept = kept.rename({"value": "actual"}).join(forecast, on="user_key", maintain_order="left")
    return (kept[c].to_numpy() for c in ("churned", "churn", "actual", "value"))


def check_tasks(module):
    for seed in range(2):
        forecast, labels, users = toy(seed)
        lost, risk, actual, said = rows_of(forecast, labels, users)
        told = told_of(module.churn(forecast, labels, users, model="toy"))
        top = np.argsort(-risk, kind="stable")[: round(0.1 * len(risk))]
        assert told.pop("lift@10%") == pytest.approx(lost[top].mean() / lost.mean(), rel=0.15)  # ties at the edge
        bins = np.minimum((risk * 10).astype(int), 9)
        assert told == pytest.approx(
            {
                "auc": sk.roc_auc_score(lost, risk),
                "ap": sk.average_precision_score(lost, risk),
                "log_loss": sk.log_loss(lost, risk),
                "brier": sk.brier_score_loss(lost, risk),
                "ece": sum(abs((risk - lost)[bins == b].sum()) for b in range(10)) / len(lost),
            }
        )
        assert told_of(module.value(forecast, labels, users, model="toy", factor=1.3)) == pytest.approx(
            {
                "mae": sk.mean_absolute_error(actual, said),
                "spearman": scipy.stats.spearmanr(actual, said).statistic,
                "bias": said.sum() / actual.sum() - 1,
                "mae_adjusted": sk.mean_absolute_error(actual, said * 1.3),
                "bias_adjusted": said.sum() * 1.3 / actual.sum() - 1,
            }
        )
        curve = module.gains(forecast, labels, users, model="toy", points=11)
        assert [share for share, _ in curve] == pytest.approx(np.linspace(0, 1, 11))
        best = np.argsort(-risk, kind="stable")
        found = [lost[best[: round(share * len(lost))]].sum() / lost.sum() for share, _ in curve]
        assert [y for _, y in curve] == pytest.approx(found, abs=0.03)
        told = module.calibration(forecast, labels, users, model="toy", bins=4)
        inside = np.minimum((risk * 4).astype(int), 3)
        assert told["n"].to_list() == np.bincount(inside).tolist()
        assert told["forecast"].to_list() == pytest.approx([risk[inside == b].mean() for b in range(4)])
        assert told["observed"].to_list() == pytest.approx([lost[inside == b].mean() for b in range(4)])
        told = module.deciles(forecast, labels, users, model="toy", factor=2.0, groups=3)
        order = np.argsort(-said, kind="stable")
        cuts = np.array_split(order, 3)
        assert told["decile"].to_list() == [1, 2, 3]
        assert told["n"].sum() == len(said)
        assert told["n"].max() - told["n"].min() <= 1
        start = 0
        for n, forecast_sum, adjusted, actual_sum in told.select("n", "forecast", "adjusted", "actual").iter_rows():
            part = order[start : start + n]
            start += n
            assert forecast_sum == pytest.approx(said[part].sum())
            assert adjusted == pytest.approx(2 * said[part].sum())
            assert actual_sum == pytest.approx(actual[part].sum())
        assert len(cuts) == told.height


def test_equals_independent_implementations():
    check_tasks(tasks)


METRIC = "lambda weight: metric(truth, forecast, weight=weight)"
JOINED = 'wanted.join(said, on="user_key"'
MUTANTS = [
    ('rows["churn"].to_numpy()\n    if', 'rows["churn"].to_numpy()\n    truth = 1 - truth\n    if'),  # swapped class
    (METRIC, METRIC.replace("truth, forecast", "forecast, truth")),
    (METRIC, METRIC.replace("forecast", "forecast[::-1]")),
    ("share=TOP, weight=weight) / TOP", "share=TOP / 2, weight=weight) / TOP"),
    ('"bias_adjusted", metrics.bias, said * factor', '"bias_adjusted", metrics.bias, said / factor'),
    ('"mae_adjusted", metrics.mae, said * factor', '"mae_adjusted", metrics.mae, said'),
    ("np.unique(np.asarray(users, dtype=np.int64))", 'labels["user_key"].unique()'),
    ("metrics.gain(truth, score, share=share)", "metrics.gain(truth, -score, share=share)"),
    ("descending=[True, False]", "descending=[False, False]"),
    ('adjusted=pl.col("value").sum() * factor', 'adjusted=pl.col("value").sum()'),
    ('actual=pl.col("actual").sum()', 'actual=pl.col("value").sum()'),
    ("bins=bins)\n    return", "bins=bins + 1)\n    return"),
    (JOINED, JOINED.replace("said", 'said.with_columns(pl.exclude("user_key").shift(1, fill_value=0.5))')),  # shifted
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), MUTANTS, ids=range(len(MUTANTS)))
def test_a_mutant_fails_the_check(old, new):
    source = inspect.getsource(tasks)
    assert source.count(old) == 1, "the mutation must hit exactly one place"
    mutant = types.ModuleType(tasks.__name__)
    exec(compile(source.replace(old, new), "mutant of tasks.py", "exec"), mutant.__dict__)
    with pytest.raises((AssertionError, ModelError)):
        check_tasks(mutant)


def test_rows_say_what_they_are():
    forecast, labels, users = toy()
    for measured, protocol in ((churn, "churn-92d"), (value, "value-92d")):
        for one in measured(forecast, labels, users, model="toy"):
            assert (one.protocol, one.model, one.slice) == (protocol, "toy", "all")
            np.testing.assert_array_equal(one.user_keys, np.sort(users))
    better = {
        m.metric: m.better
        for m in (*churn(forecast, labels, users, model="t"), *value(forecast, labels, users, model="t"))
    }
    assert better == {
        "auc": "higher", "ap": "higher", "lift@10%": "higher", "log_loss": "lower", "brier": "lower", "ece": "lower",
        "mae": "lower", "spearman": "higher", "bias": "near 0",
    }  # fmt: skip


def test_a_constant_forecast_has_no_spearman_and_an_auc_of_one_half():
    forecast, labels, users = toy()
    constant = forecast.with_columns(churn=pl.lit(0.5), value=pl.lit(10.0))
    assert told_of(churn(constant, labels, users, model="toy"))["auc"] == 0.5
    assert "spearman" not in told_of(value(constant, labels, users, model="toy"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f, la, u: (f, la.with_columns(churned=True), u),
            "evaluate.churn, model 'toy': all 100 customers churned",
        ),
        (lambda f, la, u: (f, la.with_columns(churned=False), u), "all 100 customers ordered"),
        (lambda f, la, u: (f, la, u[:1]), "all 1 customers"),
        (lambda f, la, u: (f, la, []), "no customer to evaluate"),
        (lambda f, la, u: (f.with_columns(pl.col("churn") * 2), la, u), "forecasts run from 0.* to 1.9.*probability"),
        (lambda f, la, u: (f.drop("churn"), la, u), "the forecast has no column 'churn'"),
        (lambda f, la, u: (f.filter(pl.col("user_key") > 7), la, u), "4 of 100 customers have no forecast"),
        (lambda f, la, u: (f.with_columns(churn=np.nan), la, u), "100 of 100 customers have no forecast, or a NaN"),
        (lambda f, la, u: (f.with_columns(churn=None), la, u), "100 of 100 customers have no forecast"),
        (lambda f, la, u: (pl.concat([f, f]), la, u), "a customer has several forecasts"),
        (lambda f, la, u: (f, la.filter(pl.col("user_key") > 7), u), "4 of 100 customers have no label"),
        (lambda f, la, u: (f, pl.concat([la, la]), u), "a customer has several labels"),
        (lambda f, la, u: (f, two_moments(la), u), "labels are of several moments"),
    ],
)
def test_bad_churn_input_is_refused_naming_the_model(change, message):
    with pytest.raises(ModelError, match=message):
        churn(*change(*toy()), model="toy")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, la, u: (f, la.with_columns(value=0.0), u), "evaluate.value, model 'toy': the money .* adds up to 0"),
        (lambda f, la, u: (f.with_columns(value=np.inf), la, u), "100 of 100 customers have no forecast"),
    ],
)
def test_bad_value_input_is_refused_naming_the_model(change, message):
    with pytest.raises(ModelError, match=message):
        value(*change(*toy()), model="toy")


def two_moments(labels):
    return pl.concat([labels, labels.with_columns(pl.col("as_of").dt.offset_by("1d"))])


def test_labels_must_keep_their_contract():
    forecast, labels, users = toy()
    with pytest.raises(SchemaError, match="evaluate.churn"):
        churn(forecast, labels.drop("churned"), users, model="toy")
