"""Against a bandit whose value is known exactly, and against simulated logs for what the intervals promise."""

import datetime as dt
import inspect
import os
import types
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from habitue.core.errors import ModelError
from habitue.core.schemas import EXPOSURES
from habitue.evaluate import offpolicy

MOMENT = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
F = Fraction
SLOTS = {"left": F(1, 4), "right": F(3, 4)}  # how often each slot comes up
LOGGING = {"left": (F(1, 2), F(1, 4), F(1, 4)), "right": (F(1, 4), F(1, 4), F(1, 2))}
TARGET = {"left": (F(1, 8), F(5, 8), F(1, 4)), "right": (F(0), F(1, 3), F(2, 3))}
TRUTH = {"left": (F(1, 4), F(3, 4), F(1, 2)), "right": (F(1, 2), F(1, 4), F(3, 4))}  # chance of a click
ARMS = ("a", "b", "c")
VALUE = float(sum(SLOTS[s] * sum(t * q for t, q in zip(TARGET[s], TRUTH[s], strict=True)) for s in SLOTS))


def exposures(rows):
    frame = pl.DataFrame(rows, schema=["what", "arm", "propensity", "outcome"], orient="row")
    return EXPOSURES.shape(
        frame.with_columns(
            exposure_id=pl.arange(frame.height, eager=True).cast(pl.String),
            at=pl.lit(MOMENT).cast(pl.Datetime("us", "UTC")),
            source=pl.lit("toy"),
        )
    )


def policy_frame(policy=TARGET):
    rows = [(s, arm, float(p)) for s in policy for arm, p in zip(ARMS, policy[s], strict=True)]
    return pl.DataFrame(rows, schema=offpolicy.POLICY, orient="row")


def exact_log():
    """Every (slot, arm, click) exactly as often as it is expected in 64 rows."""
    rows = []
    for slot, often in SLOTS.items():
        for arm, p, q in zip(ARMS, LOGGING[slot], TRUTH[slot], strict=True):
            for click, chance in ((1.0, q), (0.0, 1 - q)):
                count = 64 * often * p * chance
                assert count.denominator == 1
                rows += [(slot, arm, float(p), click)] * int(count)
    return exposures(rows)


def drawn_log(n, seed):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        slot = "left" if rng.random() < 0.25 else "right"
        arm = rng.choice(3, p=[float(p) for p in LOGGING[slot]])
        rows.append((slot, ARMS[arm], float(LOGGING[slot][arm]), float(rng.random() < TRUTH[slot][arm])))
    return exposures(rows)


def truth_for(logged):
    q = np.array([[float(x) for x in TRUTH[s]] for s in sorted(SLOTS)])
    return q[logged.slot]


def check_exact(module):
    logged = module.read(exact_log(), policy_frame())
    q = truth_for(logged)
    wrong = np.random.default_rng(0).random(q.shape)[0] * np.ones_like(q)
    assert float(module.ips(logged)) == pytest.approx(VALUE)
    assert float(module.snips(logged)) == pytest.approx(VALUE)
    assert float(module.dm(logged, q)) == pytest.approx(VALUE)
    assert float(module.dr(logged, wrong)) == pytest.approx(VALUE)  # the propensities are right
    badly = module.Logged(logged.outcome, np.full_like(logged.propensity, 0.2), logged.slot, logged.arm, logged.policy)
    assert float(module.dr(badly, q)) == pytest.approx(VALUE)  # q is right
    assert float(module.ips(badly)) != pytest.approx(VALUE, abs=0.05)
    assert float(module.dm(logged, wrong)) != pytest.approx(VALUE, abs=0.02)
    counts = np.random.default_rng(1).integers(0, 3, size=(2, 64))
    for estimator in (module.ips, module.snips):
        for row, told in zip(counts, estimator(logged, weight=counts.astype(float)), strict=True):
            i = np.repeat(np.arange(64), row)
            w = logged.policy[logged.slot[i], logged.arm[i]] / logged.propensity[i]
            expected = (w * logged.outcome[i]).sum() / (w.sum() if estimator is module.snips else i.size)
            assert told == pytest.approx(expected)


def test_estimates_equal_the_exact_value():
    check_exact(offpolicy)


MUTANTS = [
    ("self.policy[self.slot, self.arm] / self.propensity", "self.policy[self.slot, self.arm] * self.propensity"),
    ("self.policy[self.slot, self.arm] / self.propensity", "self.propensity / self.policy[self.slot, self.arm]"),
    ("direct + logged.weight * (logged.outcome - shown)", "direct + logged.weight * (shown - logged.outcome)"),
    ("direct + logged.weight * (logged.outcome - shown)", "direct + (logged.outcome - shown)"),
    ("expected[np.arange(logged.outcome.size), logged.arm]", "expected[np.arange(logged.outcome.size), 0]"),
    ("mean(logged.weight, weight=weight)\n", "mean(logged.weight)\n"),
    ("(logged.policy[logged.slot] * expected).sum(axis=1), weight", "expected.mean(axis=1), weight"),
]


@pytest.mark.parametrize(("old", "new"), MUTANTS, ids=range(len(MUTANTS)))
def test_a_mutant_fails_the_check(old, new):
    source = inspect.getsource(offpolicy)
    assert source.count(old) == 1, "the mutation must hit exactly one place"
    mutant = types.ModuleType(offpolicy.__name__)
    exec(compile(source.replace(old, new), "mutant of offpolicy.py", "exec"), mutant.__dict__)
    with np.errstate(all="ignore"), pytest.raises((AssertionError, ModelError)):
        check_exact(mutant)


def test_a_policy_that_is_the_log_s_own_is_worth_what_was_earned():
    log = exact_log()
    told = offpolicy.estimate(offpolicy.read(log, policy_frame(LOGGING)))
    assert told["estimator"].to_list() == ["ips", "snips", "dm", "dr"]
    assert told["mean"][:2].to_list() == pytest.approx([log["outcome"].mean()] * 2)
    assert told["mean"][3] == pytest.approx(log["outcome"].mean(), abs=0.01)
    assert told["effective_n"].unique().to_list() == pytest.approx([64])
    assert told["unseen"].unique().to_list() == [0]


def test_intervals_hold_the_truth_as_often_as_they_promise():
    inside = {"ips": 0, "snips": 0, "dm": 0, "dr": 0}
    for seed in range(100):
        told = offpolicy.estimate(offpolicy.read(drawn_log(400, seed), policy_frame()), draws=300, seed=seed)
        for name, _, low, high, *_ in told.iter_rows():
            inside[name] += low <= VALUE <= high
    assert all(0.90 <= hits / 100 <= 0.99 for hits in inside.values()), inside


def test_cell_means_never_use_a_row_for_its_own_forecast():
    logged = offpolicy.read(drawn_log(100, 0), policy_frame())
    before = offpolicy.cell_means(logged, folds=100)
    outcome = logged.outcome.copy()
    outcome[17] = 1 - outcome[17]
    flipped = offpolicy.Logged(outcome, logged.propensity, logged.slot, logged.arm, logged.policy)
    after = offpolicy.cell_means(flipped, folds=100)
    np.testing.assert_array_equal(after[17], before[17])
    assert not np.array_equal(np.delete(after, 17, axis=0), np.delete(before, 17, axis=0))


def test_cell_means_come_to_the_truth_with_many_rows():
    logged = offpolicy.read(drawn_log(20_000, 0), policy_frame())
    np.testing.assert_allclose(offpolicy.cell_means(logged), truth_for(logged), atol=0.04)


def test_the_refitted_direct_estimate_equals_cell_means_over_resampled_rows():
    logged = offpolicy.read(drawn_log(60, 3), policy_frame())
    counts = np.random.default_rng(0).integers(0, 3, size=(2, 60))
    told = offpolicy.refitted_dm(logged, prior=2.0, weight=counts.astype(float))
    for row, value in zip(counts, told, strict=True):
        i, expected = np.repeat(np.arange(60), row), 0.0
        r, slot, arm = logged.outcome[i], logged.slot[i], logged.arm[i]
        for s in range(2):
            for a in range(3):
                by_arm = (r[arm == a].sum() + 2 * r.mean()) / ((arm == a).sum() + 2)
                cell = (arm == a) & (slot == s)
                q = (r[cell].sum() + 2 * by_arm) / (cell.sum() + 2)
                expected += (slot == s).mean() * logged.policy[s, a] * q
        assert value == pytest.approx(expected)


def test_a_direct_estimate_from_a_given_model_has_no_interval():
    logged = offpolicy.read(exact_log(), policy_frame())
    told = offpolicy.estimate(logged, truth_for(logged))
    assert told.filter(pl.col("low").is_null())["estimator"].to_list() == ["dm"]
    assert told["mean"].to_list() == pytest.approx([VALUE] * 4)


def test_what_the_log_cannot_tell_is_told():
    log = exact_log().filter(~((pl.col("what") == "right") & (pl.col("arm") == "c")))
    told = offpolicy.estimate(offpolicy.read(log, policy_frame()))
    share = (log["what"] == "right").mean()
    assert told["unseen"].unique().to_list() == pytest.approx([share * 2 / 3])


@pytest.mark.parametrize(
    ("log", "policy", "message"),
    [
        (lambda la: la.head(0), lambda p: p, r"evaluate.offpolicy: the log has 0 row\(s\)"),
        (lambda la: la.head(1), lambda p: p, r"the log has 1 row\(s\)"),
        (lambda la: la.with_columns(outcome=None), lambda p: p, "64 of 64 rows have no outcome"),
        (lambda la: la.with_columns(propensity=None), lambda p: p, "64 of 64 rows have no propensity"),
        (lambda la: la.with_columns(propensity=0.0), lambda p: p, r"a propensity is not in \(0, 1\]"),
        (lambda la: la.with_columns(propensity=1.1), lambda p: p, r"a propensity is not in \(0, 1\]"),
        (lambda la: la, lambda p: p.filter(pl.col("what") == "left"), "slot 'right' add up to 0.*add up to 1"),
        (lambda la: la, lambda p: p.with_columns(pl.col("probability") * 2), "slot 'left' add up to 2"),
        (lambda la: la, lambda p: p.with_columns(pl.col("arm") + "x"), "never shows anything that was shown.*overlaps"),
    ],
)
def test_bad_input_is_refused(log, policy, message):
    shaped = log(exact_log()).cast({"outcome": pl.Float64, "propensity": pl.Float64})
    with pytest.raises(ModelError, match=message):
        offpolicy.read(shaped, policy(policy_frame()))


@pytest.mark.skipif("HABITUE_DATA" not in os.environ, reason="HABITUE_DATA is not set")
def test_a_real_policy_told_from_a_real_random_log():
    folder = Path(os.environ["HABITUE_DATA"]) / "obd"
    random, thompson = (
        pl.read_parquet(folder / name).select(
            what=pl.col("position").cast(pl.String),
            arm=pl.col("item_id").cast(pl.String),
            propensity=pl.col("propensity_score"),
            outcome=pl.col("click").cast(pl.Float64),
        )
        for name in ("random_men.parquet", "bts_men.parquet")
    )
    policy = thompson.select("what", "arm", probability=1 / pl.len().over("what"))
    told = offpolicy.estimate(offpolicy.read(exposures(random.rows()), policy))
    truth = thompson["outcome"].mean()
    for _, mean, low, high, *_ in told.iter_rows():
        assert low < truth < high or abs(mean / truth - 1) < 0.5
    assert (
        told.filter(pl.col("estimator") != "dm").select(pl.col("high") - pl.col("low")).to_series() > truth / 2
    ).all()
