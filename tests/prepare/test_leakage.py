import datetime as dt

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect import synthetic
from habitue.core.errors import LeakageError, UsageError
from habitue.core.schemas import FEATURES, LABELS
from habitue.prepare import features, labels
from habitue.prepare.leakage import check_foresight, check_times, check_truncation, guard

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
KEY = ["user_key", "as_of"]


def day(n: float) -> dt.datetime:
    return START + dt.timedelta(days=n)


MOMENTS = [day(n) for n in (90, 120, 165)]
CUT = day(225)


@pytest.fixture(scope="module")
def shop() -> pl.DataFrame:
    return synthetic.shop(users=80, days=240)


@pytest.fixture(scope="module")
def told(shop) -> tuple[pl.DataFrame, pl.DataFrame]:
    past = shop.filter(pl.col("at") < CUT)
    return features(past, as_of=MOMENTS), labels(past, as_of=MOMENTS, horizon_days=60, until=CUT)


def test_honest_columns_pass(shop, told):
    guard(shop, *told, cut=CUT)
    noise = pl.Series("noise", np.random.default_rng(0).normal(size=told[0].height))
    guard(shop, told[0].with_columns(noise), told[1], cut=CUT)


@pytest.mark.parametrize("planted", ["value", "orders", "churned"])
def test_a_copy_of_a_label_fails_the_run_by_name(shop, told, planted):
    rows, answers = told
    leaky = rows.join(answers.select(*KEY, promising=pl.col(planted).cast(pl.Float64)), on=KEY)
    with pytest.raises(LeakageError, match=r"column 'promising': alone it tells '\w+' with (0\.9[7-9]|1\.0)"):
        guard(shop, leaky, answers, cut=CUT)


def test_a_planted_future_column_fails_the_run_by_name(shop, told):
    rows, answers = told
    later = shop.select("user_key", after="at").filter(pl.col("after") >= MOMENTS[-1]).sort("after")
    following = rows.sort("as_of").join_asof(
        later, left_on="as_of", right_on="after", by="user_key", strategy="forward", check_sortedness=False
    )
    days_to_next = (following["after"] - following["as_of"]).dt.total_seconds() / 86_400
    leaky = following.drop("after").with_columns(days_to_next.cast(pl.Float64).alias("days_to_next"))
    assert leaky["days_to_next"].null_count() > 0  # who never comes back has none: the null itself is the leak
    last = leaky.filter(pl.col("as_of") == MOMENTS[-1])
    with pytest.raises(LeakageError, match="column 'days_to_next': alone it tells 'churned'"):
        guard(shop, last, answers, cut=CUT)


def test_null_itself_is_a_leak(told):
    rows, answers = told
    noise = pl.Series(np.random.default_rng(3).normal(size=answers.height))
    empty_when_lost = answers.select(*KEY, reply=pl.when(~pl.col("churned")).then(noise))
    with pytest.raises(LeakageError, match="column 'reply': alone it tells 'churned' with 1.000 of 1"):
        check_foresight(empty_when_lost, answers)


def test_an_upside_down_copy_is_named(told):
    rows, answers = told
    stays = answers.select(*KEY, stays=1.0 - pl.col("churned").cast(pl.Float64))
    with pytest.raises(LeakageError, match="column 'stays': alone it tells 'churned' with 1.000 of 1"):
        check_foresight(stays, answers)
    kept = answers.filter(~pl.col("churned"))
    with pytest.raises(LeakageError, match="column 'debt': alone it tells 'value' with 1.000 of 1"):
        check_foresight(kept.select(*KEY, debt=-pl.col("value")), kept)


def test_a_noisy_copy_of_the_future_is_named(told):
    rows, answers = told
    rng = np.random.default_rng(1)
    noisy = answers.select(*KEY, hint=pl.col("value") * pl.Series(rng.uniform(0.95, 1.05, answers.height)))
    with pytest.raises(LeakageError, match="column 'hint'"):
        check_foresight(noisy, answers)


def test_a_declared_column_computed_from_later_events_is_named(shop, told):
    rows, answers = told
    later = features(shop, as_of=day(166)).select("user_key", late="spend_half_15d")
    swapped = rows.join(later, on="user_key", how="left", maintain_order="left")
    swapped = swapped.with_columns(spend_half_15d=pl.col("late")).drop("late")
    with pytest.raises(
        LeakageError, match=r"column 'spend_half_15d': .* rows change when what comes later is taken away"
    ):
        guard(shop, swapped, answers, cut=CUT)


def test_a_customer_from_the_future_is_named(shop, told):
    rows, answers = told
    stranger = rows.head(1).with_columns(
        user_key=pl.lit(0, dtype=pl.Int64), as_of=pl.lit(START).cast(pl.Datetime("us", "UTC"))
    )
    with pytest.raises(LeakageError, match="column 'user_key': 1 customers are known, and 0 from the past alone"):
        guard(shop, pl.concat([rows, stranger]), answers, cut=CUT)


def test_labels_must_close_by_the_cut(shop, told):
    with pytest.raises(LeakageError, match="column 'horizon_end': .* rows hold a time at or after the moment"):
        guard(shop, *told, cut=CUT - dt.timedelta(seconds=1))


def test_truncation_names_the_column_that_changes(shop):
    def honest(events):
        return features(events, as_of=[day(50), day(100)])

    def leaky(events):
        total = events.group_by("user_key").agg(ever=pl.col("value").sum())
        return honest(events).join(total, on="user_key", how="left", maintain_order="left")

    check_truncation(honest, shop, as_of=day(100))
    with pytest.raises(LeakageError, match="column 'ever': .* rows change when what comes later is taken away"):
        check_truncation(leaky, shop, as_of=day(100))


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 239))
def test_no_moment_of_the_toy_shop_leaks(shop, n):
    check_truncation(lambda events: features(events, as_of=[day(n)]), shop, as_of=day(n))


def test_times_at_or_after_the_moment_are_named():
    frame = pl.DataFrame(
        {"as_of": [day(5), day(6)], "joined": [day(1), None], "seen": [day(5), day(7)], "n": [1.0, 2.0]}
    )
    check_times(frame.select("as_of", "joined"))
    check_times(frame.select("joined"), as_of=day(2))
    with pytest.raises(LeakageError, match="column 'seen': 2 of 2 rows hold a time at or after the moment"):
        check_times(frame)
    with pytest.raises(LeakageError, match="column 'seen': 1 of 2 rows"):
        check_times(frame, closed=True)
    with pytest.raises(LeakageError, match="column 'seen': 1 of 2 rows"):
        check_times(frame.select("seen"), as_of=day(6))
    with pytest.raises(UsageError, match="prepare.leakage: the moment .* has no time zone"):
        check_times(frame, as_of=dt.datetime(2024, 1, 1))


def test_too_few_rows_are_not_judged(told):
    rows, answers = told
    few = answers.head(30)
    copy = few.select(*KEY, copy=pl.col("value"))
    check_foresight(copy, few)
    check_foresight(FEATURES.empty(), LABELS.empty())


def test_a_constant_or_empty_column_tells_nothing(told):
    rows, answers = told
    flat = rows.select(*KEY, one=pl.lit(1.0), none=pl.lit(None, dtype=pl.Float64))
    check_foresight(flat, answers)


def test_a_strong_but_honest_column_passes_below_the_limit(told):
    rows, answers = told
    rng = np.random.default_rng(2)
    weak = answers.select(
        *KEY, weak=pl.col("value").rank() + pl.Series(rng.normal(0, answers.height / 4, answers.height))
    )
    check_foresight(weak, answers)
    with pytest.raises(LeakageError, match="column 'weak'"):
        check_foresight(weak, answers, too_good=0.6)
