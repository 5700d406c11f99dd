import datetime as dt

import numpy as np
import polars as pl
import pytest

from habitue.core.errors import LeakageError, SchemaError, SettingsError
from habitue.prepare.impute import Config, apply, fit

NAN = float("nan")
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def day(n: float) -> dt.datetime:
    return START + dt.timedelta(days=n)


@pytest.mark.parametrize(("method", "value"), [("constant", -1.0), ("mean", 4.0), ("median", 2.0)])
def test_what_fills_a_gap_is_what_was_known_before(method, value):
    before = pl.DataFrame({"x": [1.0, 2.0, 9.0, None], "y": [5.0, 5.0, 5.0, 5.0], "word": ["a", None, "b", "c"]})
    state = fit(before, Config(method, value=-1.0))
    after = apply(state, pl.DataFrame({"x": [None, 100.0, NAN], "y": [None, 1.0, 2.0], "word": [None, "a", "b"]}))
    assert after["x"].to_list() == [value, 100.0, value]
    assert after["y"].to_list() == [5.0 if method != "constant" else -1.0, 1.0, 2.0]
    assert after["x is unknown"].to_list() == [1.0, 0.0, 1.0]
    assert "y is unknown" not in after.columns  # nobody learnt from a gap in y
    assert after["word"].to_list() == [None, "a", "b"]
    assert "x is unknown" not in apply(fit(before, Config(method, flags=False)), before).columns


def test_a_column_nobody_knew_gets_the_constant():
    rows = pl.DataFrame({"x": [None, None]}, schema={"x": pl.Float64})
    for method in ("mean", "median", "model"):
        assert apply(fit(rows, Config(method, value=7.0)), rows)["x"].to_list() == [7.0, 7.0]


def test_a_line_in_time_for_each_series():
    before = pl.DataFrame(
        {
            "at": [day(4), day(0), day(1), day(0), day(2), day(2)],
            "who": ["a", "a", "a", "b", "b", "b"],
            "x": [40.0, 0.0, None, 7.0, 8.0, 10.0],
        }
    )
    state = fit(before, Config("interpolate", time="at", group="who"), until=day(5))
    asked = pl.DataFrame(
        {
            "at": [day(1), day(3), day(99), day(-5), day(1), day(1)],
            "who": ["a", "a", "a", "a", "b", "c"],
            "x": [None] * 6,
        },
        schema_overrides={"x": pl.Float64},
    )
    # c was never seen: the median of 40, 0, 7, 8, 10
    assert apply(state, asked)["x"].to_list() == [10.0, 30.0, 40.0, 0.0, 8.0, 8.0]
    assert apply(state, before)["x"].to_list() == [40.0, 0.0, 10.0, 7.0, 8.0, 10.0]


def test_a_value_that_comes_later_never_fills_an_earlier_gap():
    before = pl.DataFrame({"at": [day(0), day(1)], "x": [1.0, 2.0]})
    later = pl.DataFrame({"at": [day(2), day(3)], "x": [None, 900.0]})
    state = fit(before, Config("interpolate", time="at"), until=day(2))
    assert apply(state, later)["x"].to_list() == [2.0, 900.0]
    assert apply(state, pl.concat([before, later]))["x"].to_list() == [1.0, 2.0, 2.0, 900.0]


def test_interpolation_between_forecasts_is_a_leak():
    rows = pl.DataFrame({"as_of": [day(0), day(1)], "x": [1.0, None]})
    with pytest.raises(LeakageError, match=r"column 'as_of': each row is the moment of a forecast of its own"):
        fit(rows, Config("interpolate", time="as_of"))
    with pytest.raises(SettingsError, match=r"prepare.impute: interpolate has no time"):
        fit(rows, Config("interpolate"))
    with pytest.raises(SchemaError, match=r"prepare.impute: column 'when' is missing"):
        fit(rows, Config("interpolate", time="when"))


def test_the_model_reads_the_other_columns():
    rng = np.random.default_rng(0)
    a = rng.normal(size=300)
    rows = pl.DataFrame({"a": a, "b": 3 * a + 1 + rng.normal(0, 0.01, 300), "c": rng.normal(size=300)})
    state = fit(rows, Config("model"))
    asked = pl.DataFrame({"a": [2.0, -1.0], "b": [None, None], "c": [0.0, 0.0]}, schema_overrides={"b": pl.Float64})
    assert apply(state, asked)["b"].to_list() == pytest.approx([7.0, -2.0], abs=0.05)
    assert apply(state, rows).equals(rows)  # what is known stays to the bit


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_models_kept_as_arrays_fill_what_scikit_learns_chain_fills():
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    rng = np.random.default_rng(0)
    table = rng.normal(size=(80, 4)) @ rng.normal(size=(4, 4))
    table[rng.random(table.shape) < 0.2] = np.nan
    middle, spread = np.nanmean(table[:60], axis=0), np.nanstd(table[:60], axis=0)
    scaled = (table - middle) / spread
    known, asked = (pl.DataFrame(part, schema=list("abcd"), orient="row") for part in (table[:60], table[60:]))
    theirs = IterativeImputer(max_iter=10, random_state=0, tol=1e-3).fit(scaled[:60])
    ours = apply(fit(known, Config("model", flags=False)), asked).to_numpy()
    np.testing.assert_allclose(ours, theirs.transform(scaled[60:]) * spread + middle, rtol=1e-9)
    alone = apply(fit(known, Config("model", flags=False)), asked[3:4]).to_numpy()
    assert np.array_equal(alone[0], ours[3])


def test_the_model_finds_what_there_is_whatever_the_unit():
    """In dollars as in millions of them: Bayesian ridge alone takes a column of large numbers for noise."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=200)
    gone = rng.random(200) < 0.2
    for unit in (1.0, 1e5):
        y = (2 * x + 0.01 * rng.normal(size=200)) * unit + 3 * unit
        rows = pl.DataFrame({"x": x, "y": np.where(gone, np.nan, y)})
        filled = apply(fit(rows, Config("model", flags=False)), rows)["y"].to_numpy()
        assert np.abs(filled - y)[gone].max() < 0.1 * unit
