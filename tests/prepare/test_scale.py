import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from habitue.prepare.scale import FURTHEST, Config, apply, fit


def test_standard_and_robust_worked_by_hand():
    before = pl.DataFrame({"x": [0.0, 2.0, 4.0, 6.0, 18.0]})
    after = pl.DataFrame({"x": [6.0, 4.0, None]})
    mean, deviation = 6.0, np.std([0, 2, 4, 6, 18])
    assert apply(fit(before), after)["x"].fill_nan(None).to_list() == [0.0, pytest.approx((4 - mean) / deviation), None]
    robust = apply(fit(before, Config("robust")), after)["x"].fill_nan(None).to_list()
    assert robust == [0.5, 0.0, None]  # median 4, quartiles 2 and 6


def test_a_constant_column_stands_at_zero():
    before = pl.DataFrame({"x": [0.1] * 7})
    for method in ("standard", "robust", "quantile"):
        assert apply(fit(before, Config(method)), before)["x"].to_list() == pytest.approx([0.0] * 7)


def test_quantiles_are_normal_and_ties_share_the_middle():
    rng = np.random.default_rng(0)
    before = pl.DataFrame({"x": np.exp(rng.normal(size=5000))})
    told = apply(fit(before, Config("quantile")), before)["x"].to_numpy()
    assert np.quantile(told, [0.1, 0.5, 0.9]) == pytest.approx(norm.ppf([0.1, 0.5, 0.9]), abs=0.01)
    beyond = apply(fit(before, Config("quantile")), pl.DataFrame({"x": [-1.0, 1e9]}))["x"].to_list()
    assert beyond == pytest.approx([-FURTHEST, FURTHEST], abs=1e-3)
    half = pl.DataFrame({"x": [0.0] * 500 + [float(i) for i in range(1, 501)]})
    zeros = apply(fit(half, Config("quantile")), half)["x"][0]
    assert zeros == pytest.approx(norm.ppf(0.25), abs=0.01)  # ranks 0 to a half


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.sampled_from(["standard", "robust", "quantile"]))
def test_order_is_kept(values, method):
    rows = pl.DataFrame({"x": values})
    told = apply(fit(rows, Config(method)), rows)["x"].to_numpy()
    order = np.argsort(values)
    assert (np.diff(told[order]) >= -1e-9).all()
