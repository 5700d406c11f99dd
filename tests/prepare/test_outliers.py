import numpy as np
import polars as pl
import pytest

from habitue.core.errors import SettingsError
from habitue.prepare.outliers import Config, apply, fit, kept


def test_winsorise_draws_in_to_the_fitted_quantiles():
    before = pl.DataFrame({"x": [float(i) for i in range(101)]})
    state = fit(before, Config("winsorise", share=0.05))
    after = apply(state, pl.DataFrame({"x": [-50.0, 4.0, 5.0, 95.0, 96.0, 1e9, None]}))
    assert after["x"].fill_nan(None).to_list() == [5.0, 5.0, 5.0, 95.0, 95.0, 95.0, None]


def test_fences_stand_so_many_interquartile_ranges_out():
    before = pl.DataFrame({"x": [0.0, 1.0, 2.0, 3.0, 4.0]})  # quartiles 1 and 3
    after = apply(fit(before, Config("iqr", fences=1.5)), pl.DataFrame({"x": [-2.0, -2.5, 6.0, 6.5]}))
    assert after["x"].to_list() == [-2.0, -2.0, 6.0, 6.0]


def test_isolation_leaves_out_rows_and_changes_none():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=200), rng.normal(size=200)
    x[7], y[7] = 30.0, -30.0
    rows = pl.DataFrame({"x": x, "y": y}).with_columns(y=pl.when(pl.int_range(200) == 9).then(None).otherwise("y"))
    state = fit(rows, Config("isolation", rows=0.01))
    stays = kept(state, rows)
    assert not stays[7]
    assert stays[9]  # unknown is not far out
    assert (~stays).sum() == 2
    assert apply(state, rows)["x"].to_list() == rows["x"].to_list()
    assert kept(fit(rows, Config("iqr")), rows).all()


@pytest.mark.parametrize("wrong", [{"share": 0.5}, {"share": -0.1}, {"fences": -1.0}, {"rows": 0.0}, {"rows": 0.6}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(SettingsError, match="prepare.outliers: share .*Half of the values or more would lie far out"):
        fit(pl.DataFrame({"x": [1.0]}), Config(**wrong))
