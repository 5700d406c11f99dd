from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from habitue import prepare
from habitue.apply.personas import profile
from habitue.apply.personas.profile import TASTE
from habitue.core.errors import ModelError
from habitue.core.schemas import FEATURES, ITEMS, Events, check
from habitue.model.past import Past


@pytest.fixture(scope="module")
def habits(past: Past, titles: dict[str, str]) -> profile.Habits:
    return profile.learn(past, titles, groups=4)


@pytest.fixture(scope="module")
def frame(past: Past, habits: profile.Habits) -> pl.DataFrame:
    return profile.profiles(past, past.features, habits)


def test_a_profile_is_a_features_table_without_a_nan(frame: pl.DataFrame) -> None:
    check(frame, FEATURES, at="test")
    assert frame["user_key"].is_sorted() and frame.height == 80


def test_products_with_like_words_are_one_taste_named_by_their_word(habits: profile.Habits) -> None:
    assert sorted(habits.groups) == ["garden", "kitchen", "music", "travel"]
    assert habits.average.sum() == pytest.approx(1)


def test_taste_is_the_share_of_lines_drawn_to_the_average(
    frame: pl.DataFrame, habits: profile.Habits, past: Past
) -> None:
    lines = profile.lines(past, frame["user_key"].to_numpy()).toarray()[7]
    for i, name in enumerate(habits.groups):
        mine = lines[habits.group == i].sum()
        expected = (mine + 10 * habits.average[i]) / (lines.sum() + 10)
        assert frame[TASTE + name][7] == pytest.approx(expected)


def test_clock_shares_are_read_in_the_shops_time_zone(
    lines: Callable[..., Events], past_of: Callable[..., Past]
) -> None:
    friday = 4 + 23 / 24  # 1 January 2024 is a Monday: Friday 23:00 UTC is Saturday 00:00 in Paris
    events = lines(
        *({"user_key": 1, "day": friday + 7 * k, "order_id": f"a{k}", "item_id": f"P{k % 2}"} for k in range(6)),
        *({"user_key": 2, "day": 1.5 + 7 * k, "order_id": f"b{k}", "item_id": f"P{k % 2}"} for k in range(6)),
        {"user_key": 2, "day": 1.2, "order_id": "c", "item_id": "P1"},
    )
    past = past_of(events, dt.datetime(2024, 3, 1, tzinfo=dt.UTC))
    utc, paris = (
        profile.profiles(past, past.features, profile.learn(past, {}, time_zone=zone))
        for zone in ("UTC", "Europe/Paris")
    )
    assert utc["weekend_share"].to_list() == [0.0, 0.0]
    share = 6 / 13
    assert paris["weekend_share"].to_list() == pytest.approx([(6 + 4 * share) / 10, 4 * share / 11])
    assert utc["evening_share"].to_list() == pytest.approx([(6 + 4 * share) / 10, 4 * share / 11])


def test_dates_without_a_time_tell_no_time_of_day(lines: Callable[..., Events], past_of: Callable[..., Past]) -> None:
    events = lines(
        *({"user_key": k % 3, "day": float(k), "order_id": f"o{k}", "item_id": f"P{k % 2}"} for k in range(9))
    )
    past = past_of(events, dt.datetime(2024, 3, 1, tzinfo=dt.UTC))
    habits = profile.learn(past, {})
    assert "evening_share" not in profile.profiles(past, past.features, habits).columns
    assert "Time of day is left out: the orders carry a date, not a time." in habits.left_out


def test_the_high_season_is_known_after_a_year(lines: Callable[..., Events], past_of: Callable[..., Past]) -> None:
    days = [*range(0, 730, 45), *range(330, 360, 2)]
    events = lines(
        *({"user_key": k % 2, "day": d + 0.5, "order_id": f"o{k}", "item_id": f"P{k % 2}"} for k, d in enumerate(days))
    )
    old, young = (past_of(events, dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=d)) for d in (731, 300))
    habits = profile.learn(old, {})
    assert habits.peak in (10, 11) and "peak_share" in profile.profiles(old, old.features, habits).columns
    assert profile.learn(young, {}).peak is None
    assert "Seasons are left out: less than a year of orders is known." in profile.learn(young, {}).left_out


def test_categories_are_used_where_they_cover_the_lines(past: Past, titles: dict[str, str]) -> None:
    named = {item: f"dep{int(item[1:]) % 3}" for item in past.items}
    assert set(profile.learn(past, titles, categories=named).groups) == {"dep0", "dep1", "dep2", "other"}
    assert len(profile.learn(past, titles, categories=named, groups=2).groups) == 3
    few = dict(list(named.items())[:20])
    assert "garden" in profile.learn(past, titles, categories=few, groups=4).groups


def test_a_category_is_the_first_part_of_the_latest_path_before_the_moment() -> None:
    rows = [("P1", 1, "Food > Tea"), ("P1", 3, "Drinks > Tea"), ("P1", 9, "Late"), ("P2", 1, None)]
    items = ITEMS.shape(
        pl.DataFrame(
            [
                {
                    "item_id": i,
                    "valid_from": dt.datetime(2024, 1, d, tzinfo=dt.UTC),
                    "category": c,
                    "source": "",
                    "import_id": "",
                }
                for i, d, c in rows
            ]
        )
    )
    assert profile.categories(items, dt.datetime(2024, 1, 9, tzinfo=dt.UTC)) == {"P1": "Drinks"}
    assert profile.categories(None, dt.datetime(2024, 1, 9, tzinfo=dt.UTC)) == {}


def test_without_words_the_buyers_make_the_tastes(past: Past) -> None:
    habits = profile.learn(dataclasses.replace(past, words=None), {}, groups=4)
    assert [len(set(habits.group[k : k + 10])) for k in range(0, 40, 10)] == [1, 1, 1, 1]
    assert len(set(habits.groups)) == 4


def test_one_product_makes_no_taste(past: Past) -> None:
    single = dataclasses.replace(
        past,
        items=("P0",),
        words=None,
        histories=dataclasses.replace(past.histories, row_item=np.zeros_like(past.histories.row_item)),
    )
    habits = profile.learn(single, {"P0": "mug"})
    frame = profile.profiles(single, single.features, habits)
    assert not [c for c in frame.columns if c.startswith(TASTE)]
    assert any("fewer than two products" in said for said in habits.left_out)
    assert profile.points(profile.measure(frame, habits, taste_weight=1.0), frame).shape[0] == 80


def test_columns_without_a_difference_are_left_out_and_said(frame: pl.DataFrame, habits: profile.Habits) -> None:
    dull = frame.with_columns(price_per_unit=pl.lit(2.0), gap_mean=pl.lit(None, dtype=pl.Float64))
    scale = profile.measure(dull, habits, taste_weight=1.0)
    assert not {"price_per_unit", "gap_mean", "refunded_share"} & set(scale.names)
    assert "Left out because all customers have the same: money a unit." in scale.left_out
    assert "Left out because nothing is known: days between orders." in scale.left_out
    assert "Left out because all customers have the same: refunds." in scale.left_out


def test_all_customers_equal_is_said_in_words(frame: pl.DataFrame, habits: profile.Habits) -> None:
    same = pl.concat([frame.head(1)] * 30)
    with pytest.raises(ModelError, match="all 30 customers are equal in everything.*Any groups would be drawn by lot"):
        profile.measure(same, habits, taste_weight=1.0)


def test_what_is_not_known_lies_at_the_median(frame: pl.DataFrame, habits: profile.Habits) -> None:
    scale = profile.measure(frame, habits, taste_weight=1.0)
    unknown = frame.with_columns(value_per_order=pl.lit(None, dtype=pl.Float64))
    middle = frame.with_columns(value_per_order=pl.lit(frame["value_per_order"].median()))
    a, b = (profile.points(scale, f) for f in (unknown, middle))
    assert np.isfinite(a).all() and np.abs(a - b).max() < 0.05
    assert np.allclose(profile.points(scale, frame.drop("value_per_order")), a)


def test_a_wholesaler_is_no_group_of_his_own(frame: pl.DataFrame, habits: profile.Habits) -> None:
    giant = frame.with_columns(
        value_per_order=pl.when(pl.col("user_key") == 3).then(1e12).otherwise(pl.col("value_per_order"))
    )
    scale = profile.measure(giant, habits, taste_weight=1.0)
    assert np.abs(profile.points(scale, giant)).max() < 3 * np.sqrt(len(scale.names))


def test_families_weigh_the_same(frame: pl.DataFrame, habits: profile.Habits) -> None:
    scale = profile.measure(frame, habits, taste_weight=2.0)
    squares: dict[str, float] = {}
    for name, weight in zip(scale.names, scale.weight, strict=True):
        family = "taste" if name.startswith(TASTE) else profile.BY_NAME[name].family
        squares[family] = squares.get(family, 0.0) + weight**2
    assert squares.pop("taste") == pytest.approx(4.0)
    assert {"clock", "money"} <= set(squares)
    assert all(value == pytest.approx(4.0 if family in profile.CORE else 1.0) for family, value in squares.items())


def test_nothing_later_changes_a_profile(shop: Events, past: Past, titles: dict[str, str]) -> None:
    then = past.as_of - dt.timedelta(days=90)
    seen, _ = prepare.split(shop, then)
    habits = profile.learn(past, titles, groups=4)
    features = prepare.features(shop, as_of=then, declared=profile.DECLARED)
    from_all = profile.profiles(past.rewind(then), features, habits)
    cut = prepare.features(seen, as_of=then, declared=profile.DECLARED)
    assert from_all.equals(profile.profiles(past.rewind(then), cut, habits))
    assert (from_all["as_of"] == then).all()


def test_a_missing_feature_is_named(past: Past, habits: profile.Habits) -> None:
    with pytest.raises(ModelError, match="FEATURES has no column 'price_per_unit'. Customers could not be described"):
        profile.profiles(past, past.features.drop("price_per_unit"), habits)
