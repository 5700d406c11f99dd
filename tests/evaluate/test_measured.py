import numpy as np
import pytest

from habitue.core.schemas import METRICS, check
from habitue.evaluate import table
from habitue.evaluate.measured import estimates, per_user


def one(n, metric="hit@10", seed=0):
    values = (np.random.default_rng(seed).random(n) < 0.4).astype(float)
    return per_user("BASKET", "popular", "all", metric, np.arange(n), values)


def test_rows_keep_the_contract_and_carry_the_cost():
    frame = table(
        [one(200), one(50, "mrr")], dataset="toy", modalities=["id"], fusion="decision", seeds=3, cpu_s=1.5, peak_mb=9.0
    )
    check(frame, METRICS, at="test")
    assert frame["n"].to_list() == [200, 50]
    assert frame["mean"].to_list() == [m.values.mean() for m in (one(200), one(50))]
    spread = 1.96 * np.sqrt(0.4 * 0.6 / 200)
    assert frame["low"][0] == pytest.approx(frame["mean"][0] - spread, abs=0.02)
    assert frame["high"][0] == pytest.approx(frame["mean"][0] + spread, abs=0.02)
    same = frame.select("dataset", "protocol", "model", "fusion", "slice", "seeds", "cpu_s", "peak_mb").unique()
    assert same.rows() == [("toy", "BASKET", "popular", "decision", "all", 3, 1.5, 9.0)]
    assert frame["modalities"].to_list() == [["id"], ["id"]]


def test_one_customer_has_a_mean_and_no_interval():
    frame = table([one(1)], dataset="toy")
    assert frame.select("low", "high", "n").rows() == [(None, None, 1)]


def test_no_measurement_is_an_empty_table():
    assert table([], dataset="toy").equals(METRICS.empty())


def test_the_same_seed_gives_the_same_table():
    rows = [one(200), one(50, "mrr")]
    assert table(rows, dataset="toy").equals(table(rows, dataset="toy"))
    assert not table(rows, dataset="toy").equals(table(rows, dataset="toy", seed=1))


def test_estimates_come_back_in_order_whatever_their_sizes():
    measured = [one(n, seed=n) for n in (50, 20, 50, 30)]
    told = estimates([m.statistic for m in measured], [m.user_keys.size for m in measured], draws=50, seed=0)
    assert [e.n for e in told] == [50, 20, 50, 30]
    assert [e.mean for e in told] == pytest.approx([m.values.mean() for m in measured])
