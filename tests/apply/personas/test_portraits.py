from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from habitue.apply.personas import portraits
from habitue.core.schemas import FEATURES

N = 200
LABELS = (np.arange(N) % 2).astype(np.int64)


def frame(**columns: list[float | None]) -> pl.DataFrame:
    base = pl.DataFrame({"user_key": range(N)}).with_columns(as_of=pl.lit(None, dtype=FEATURES.schema["as_of"]))
    return base.with_columns(pl.Series(name, values, dtype=pl.Float64) for name, values in columns.items())


def spread(low: float, high: float, seed: int = 0) -> list[float]:
    """About `low` for the first group, about `high` for the second."""
    rng = np.random.default_rng(seed)
    return (np.where(LABELS == 0, low, high) * rng.uniform(0.8, 1.25, N)).tolist()


def test_hedges_g_is_the_difference_in_deviations_with_its_interval() -> None:
    one, two = np.array([1.0, 2, 3, 4]), np.array([3.0, 4, 5, 6])
    found = portraits.hedges(one, two)
    assert found is not None
    g = -2 / np.sqrt(5 / 3) * (1 - 3 / 23)
    error = np.sqrt(8 / 16 + g * g / 16)
    assert found == pytest.approx((g, g - 1.96 * error, g + 1.96 * error))
    assert portraits.hedges(one[:1], two) is None
    assert portraits.hedges(np.ones(4), np.ones(4)) is None


def test_effects_are_against_the_rest_largest_first_with_medians() -> None:
    told = frame(
        order_count=spread(2, 20), value_per_order=spread(50, 60), days_since_last=[5.0] * N, gap_mean=[None] * N
    )
    table = portraits.effects(told, LABELS, 2)
    mine = table.filter(pl.col("group") == 1)
    assert mine["column"].to_list() == ["order_count", "value_per_order"]
    first = mine.row(0, named=True)
    assert first["difference"] > 3 and first["low"] < first["difference"] < first["high"]
    raw = np.array(told["order_count"].to_list())
    assert first["here"] == np.median(raw[LABELS == 1]) and first["rest"] == np.median(raw[LABELS == 0])


def test_what_is_known_of_few_of_a_group_is_not_said_of_it() -> None:
    gaps = [None if k % 2 and k > 80 else value for k, value in enumerate(spread(60, 7))]
    table = portraits.effects(frame(order_count=spread(2, 20), gap_mean=gaps), LABELS, 2)
    assert table.filter(pl.col("column") == "gap_mean")["group"].to_list() == [0]


def test_a_name_says_which_way_and_only_what_is_large_and_sure() -> None:
    told = frame(order_count=spread(2, 20), value_per_order=spread(90, 40, 1), price_per_unit=spread(2, 2, 2))
    table = portraits.effects(told, LABELS, 2)
    assert portraits.names(table, [[], []]) == ["Occasional, big-spending customers", "Loyal, small-spending customers"]
    assert set(portraits.apart(table, 0)["column"]) == {"order_count", "value_per_order"}


def test_active_and_recent_are_not_said_both() -> None:
    told = frame(days_since_last=spread(90, 9), orders_180d=spread(2, 18, 1), value_per_order=spread(90, 40, 2))
    name = portraits.names(portraits.effects(told, LABELS, 2), [[], []])[1].lower()
    assert ("recent" in name) != ("active" in name) and "small-spending" in name


def test_a_taste_is_named_by_the_words_of_the_purchases() -> None:
    told = frame(**{"taste: garden": spread(0.1, 0.6), "taste: kitchen": spread(0.7, 0.2)})
    table = portraits.effects(told, LABELS, 2)
    assert portraits.names(table, [["kitchen"], ["garden", "gnome"]]) == ["Buyers of kitchen", "Buyers of garden"]


def test_no_name_comes_twice() -> None:
    table = pl.DataFrame(schema=portraits.EFFECTS)
    assert portraits.names(table, [[], [], []]) == [
        "Customers like all others",
        "Customers like all others (2)",
        "Customers like all others (3)",
    ]
    assert portraits.names(table, [["tea"], ["tea"], []]) == ["Customers like all others", "Buyers of tea"] + [
        "Customers like all others (2)"
    ]


def test_sentences_say_rhythm_money_and_what_differs() -> None:
    told = frame(order_count=spread(2, 20), gap_mean=spread(60, 7, 1), value_per_order=spread(50, 90, 2))
    table = portraits.effects(told, LABELS, 2)
    said = portraits.sentences(table, 1, money_share=0.41, share=0.17, spoken=["garden", "gnome", "tree"])
    assert said[0] == "They order every 7 days: 17 % of the customers, 41 % of the money."
    assert said[1].startswith("Typical of them, and in brackets of the rest: ")
    here, rest = (np.median(np.array(told["order_count"].to_list())[LABELS == k]) for k in (1, 0))
    assert f"{here:,.1f} orders so far ({rest:,.1f})" in said[1] and "days between" not in said[1]
    assert said[2] == "'garden' and 'gnome' set their purchases apart."
    once = portraits.effects(frame(order_count=spread(1, 4), gap_mean=spread(60, 7)), LABELS, 2)
    assert portraits.sentences(once, 0, money_share=0.1, share=0.5, spoken=[])[0].startswith(
        "Most of them have ordered once:"
    )
    plain = portraits.sentences(
        portraits.effects(frame(order_count=spread(3, 3)), LABELS, 2), 0, money_share=0, share=1, spoken=[]
    )
    assert plain[1:] == ["In no habit are they clearly different from the rest."]


def test_words_that_set_a_group_apart_come_first_and_others_never() -> None:
    titles = {"P0": "garden thing", "P1": "garden gnome", "P2": "kitchen things"}
    lines = sp.csr_matrix(np.array([[1, 1, 0]] * 400 + [[0, 0, 1]] * 400, dtype=float))
    labels = np.repeat([0, 1], 400)
    assert portraits.words(("P0", "P1", "P2"), titles, lines, labels, 2) == [
        ["garden", "gnome", "thing"],
        ["kitchen", "things"],
    ]
    returned = lines.tolil()
    returned[0, 2] = -3.0  # sent back more than was bought: no purchase, and no logarithm of less than nothing
    assert portraits.words(("P0", "P1", "P2"), titles, returned.tocsr(), labels, 2) == portraits.words(
        ("P0", "P1", "P2"), titles, lines, labels, 2
    )
    assert portraits.words(("P0", "P1", "P2"), {}, lines, labels, 2) == [[], []]
    assert portraits.words(("P0", "P1", "P2"), titles, lines * 0, labels, 2) == [[], []]
    assert portraits.words(("P0", "P1", "P2"), titles, lines, labels * 0, 1) == [[]]


def test_lift_is_drawn_to_one_and_needs_buyers() -> None:
    lines = sp.csr_matrix(np.array([[3, 0, 1]] * 20 + [[0, 2, 1]] * 60, dtype=float))
    labels = np.repeat([0, 1], [20, 60])
    asked = {"lift": 1.5, "buyers": 10, "shown": 5}
    table = portraits.products(("P0", "P1", "P2"), {"P0": "mug"}, lines, labels, ["A", "B"], **asked)
    expected = (60 + 5) / (80 * 60 / 260 + 5)
    assert table.filter(pl.col("name") == "A").rows() == [("A", "P0", "mug", pytest.approx(expected), 20)]
    assert portraits.products(("P0", "P1", "P2"), {}, lines, labels, ["A", "B"], **(asked | {"buyers": 61})).height == 0
    two = sp.csr_matrix(np.array([[1, 0]] * 2 + [[0, 9]] * 98, dtype=float))
    few = portraits.products(("P0", "P1"), {}, two, np.repeat([0, 1], [2, 98]), ["A", "B"], **(asked | {"buyers": 1}))
    assert few.filter(pl.col("name") == "A").height == 0  # 440 times its share, from two lines


def test_how_sure_has_words() -> None:
    assert portraits.again(0.8).endswith("almost always")
    assert portraits.again(0.6).endswith("mostly")
    assert portraits.again(0.2) == "does not come back"
