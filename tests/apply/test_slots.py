from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from habitue.apply import slots
from habitue.core.errors import ModelError
from habitue.core.schemas import EXPOSURES, METRICS, Exposures, check

RATES = np.array([0.05, 0.1, 0.6])  # planted: arm 2 is clicked most, in every place


def _log(n: int, policy: np.ndarray, seed: int) -> Exposures:
    rng = np.random.default_rng(seed)
    arm = rng.choice(3, size=n, p=policy)
    return EXPOSURES.shape(
        pl.DataFrame(
            {
                "exposure_id": [str(i) for i in range(n)],
                "at": [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)] * n,
                "what": [f"place {i}" for i in rng.integers(1, 3, n)],
                "arm": [f"A{a}" for a in arm],
                "propensity": policy[arm],
                "outcome": (rng.random(n) < RATES[arm]).astype(float),
                "source": ["toy"] * n,
            },
            schema_overrides={"at": pl.Datetime("us", "UTC")},
        )
    )


EVEN, KEEN = np.full(3, 1 / 3), np.array([0.1, 0.2, 0.7])


def test_the_planted_value_is_estimated_from_the_other_log() -> None:
    answer = slots.run(_log(4000, EVEN, 0), _log(4000, KEEN, 1))
    check(answer.metrics, METRICS, at="test")
    value = {row["model"]: row for row in answer.metrics.to_dicts()}
    assert list(value) == ["ips", "snips", "dm", "dr", "own_log", "random"]
    for model in ("ips", "snips", "dr", "own_log"):
        assert value[model]["low"] < KEEN @ RATES < value[model]["high"]
        assert abs(value[model]["mean"] - KEEN @ RATES) < 0.03
    assert value["random"]["low"] < EVEN @ RATES < value["random"]["high"]
    assert answer.decides and "That is more, beyond doubt" in answer.verdict
    assert answer.difference.mean == pytest.approx(value["dr"]["mean"] - value["random"]["mean"])
    assert answer.effective_n < 4000 and answer.clicks["random"] == round(value["random"]["mean"] * 4000)


def test_a_policy_that_is_worse_is_called_worse() -> None:
    assert "That is less, beyond doubt" in slots.run(_log(4000, EVEN, 0), _log(4000, KEEN[::-1].copy(), 1)).verdict


def test_few_clicks_cannot_decide() -> None:
    answer = slots.run(_log(60, EVEN, 2), _log(60, np.array([0.3, 0.3, 0.4]), 3))
    assert not answer.decides
    assert "So few clicks cannot decide whether that is more" in answer.verdict


def test_clicks_of_the_own_log_do_not_touch_the_estimates() -> None:
    random, own = _log(500, EVEN, 0), _log(500, KEEN, 1)
    flipped = own.with_columns(outcome=1 - pl.col("outcome"))
    first, second = slots.run(random, own).metrics, slots.run(random, flipped).metrics
    same = pl.col("model") != "own_log"
    assert first.filter(same).equals(second.filter(same)) and not first.equals(second)


def test_the_policy_is_what_its_log_showed_not_the_mean_propensity() -> None:
    log = _log(400, EVEN, 0).with_columns(propensity=pl.lit(0.9))
    policy = slots.shares(log)
    assert policy.group_by("what").agg(pl.col("probability").sum())["probability"].to_list() == pytest.approx([1, 1])
    shown = log.filter(pl.col("what") == "place 1")
    expected = (shown["arm"] == "A2").mean()
    got = policy.filter(pl.col("what") == "place 1", pl.col("arm") == "A2")["probability"].item()
    assert got == pytest.approx(expected)


def test_an_own_log_without_outcomes_is_refused() -> None:
    random, own = _log(50, EVEN, 0), _log(50, KEEN, 1)
    missing = own.with_columns(outcome=pl.when(pl.col("exposure_id") == "3").then(None).otherwise(pl.col("outcome")))
    with pytest.raises(ModelError, match="1 of 50 rows of the policy's own log have no outcome. The estimate could"):
        slots.run(random, missing)
    with pytest.raises(ModelError, match="0 of 0 rows of the policy's own log"):
        slots.run(random, own.clear())


def test_the_published_file_reads_as_exposures(tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "timestamp": ["2019-11-24 00:03:13.442536+00:00", "2019-11-24 00:03:14+00:00"],
            "item_id": [14, 3],
            "position": [3, 1],
            "click": [0, 1],
            "propensity_score": [0.03, 0.5],
        }
    ).write_parquet(tmp_path / "log.parquet")
    exposures = slots.read(tmp_path / "log.parquet")
    check(exposures, EXPOSURES, at="test")
    assert exposures["what"].to_list() == ["place 3", "place 1"] and exposures["outcome"].to_list() == [0.0, 1.0]
    assert exposures["at"][0] == dt.datetime(2019, 11, 24, 0, 3, 13, 442536, tzinfo=dt.UTC)
