"""Products of which facts tell how much is bought: the loud ones are bought ten times as often as the quiet."""

import dataclasses
import datetime as dt

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from habitue.bench import sequences
from habitue.core.errors import ModelError, SettingsError
from habitue.core.runtime import Runtime
from habitue.model import artifact, newcomers
from habitue.model.newcomers import Config, foretold, found_weight, lifted
from habitue.model.past import next_sets

ITEMS, NEW, DAYS = 160, 40, 100
NAMES = [f"i{n:03d}" for n in range(ITEMS)]
RUN = Runtime(threads=1)
LOUD = np.random.default_rng(1).integers(0, 2, ITEMS)


def past_of(rate, seed=0):
    """Return a past of a hundred days in which 20 products a day are bought; the last NEW of them never."""
    rng = np.random.default_rng(seed)
    rate = np.where(np.arange(ITEMS) < ITEMS - NEW, rate, 0.0)
    rows = [
        (f"u{rng.integers(50)}", NAMES[n], 1_700_000_000 + 86_400 * day + second)
        for day in range(DAYS)
        for second, n in enumerate(rng.choice(ITEMS, size=20, p=rate / rate.sum()))
    ]
    events = pl.DataFrame(rows, schema=["user", "item", "at"], orient="row")
    return sequences.read(events, pl.DataFrame({"item": NAMES})).past(horizon_days=1)


def facts_of(past):
    """Return what is known of each product, in the order of the past: is it loud, and something that tells nothing."""
    nothing = np.random.default_rng(2).integers(0, 2, ITEMS)
    place = [NAMES.index(item) for item in past.items]
    return np.c_[LOUD[place], nothing[place]].astype(float), LOUD[place]


@pytest.fixture(scope="module")
def shop():
    past = past_of(np.where(LOUD == 1, 10.0, 1.0))
    return past, *facts_of(past)


def never_sold(past):
    return np.bincount(past.histories.row_item, minlength=ITEMS) == 0


def test_the_loud_are_foretold_to_be_bought_as_often_as_they_are(shop):
    past, facts, loud = shop
    told = foretold(past, facts, Config(trees=600, columns=1.0, rows_in_leaf=2), runtime=RUN)
    new = never_sold(past)
    assert new.sum() >= NEW and told.dtype == np.float32
    lately = past.histories.set_at[past.histories.row_set] >= past.day - 60
    sales = np.bincount(past.histories.row_item[lately], minlength=ITEMS)
    for kind in (0, 1):
        expected = np.exp(told[new & (loud == kind)]).mean()
        assert expected == pytest.approx(sales[~new & (loud == kind)].mean(), rel=0.2)
    few = foretold(past, facts, runtime=RUN)  # as shipped: drawn towards the mean of all
    assert told[new & (loud == 1)].mean() > few[new & (loud == 1)].mean() > few[new & (loud == 0)].mean() + 0.7


def test_an_unknown_fact_and_the_same_seed(shop):
    past, facts, loud = shop
    facts = facts.copy()
    facts[:5, 0] = np.nan
    told = foretold(past, facts, runtime=RUN)
    assert np.isfinite(told).all() and np.array_equal(told, foretold(past, facts, runtime=RUN))
    other = foretold(past, facts, runtime=Runtime(threads=1, seed=5))
    assert not np.array_equal(told, other) and np.corrcoef(told, other)[0, 1] > 0.9


def test_only_sales_of_the_last_days_count(shop):
    past, facts, _ = shop
    every, late = (foretold(past, facts, Config(days=days), runtime=RUN) for days in (1000.0, 20.0))
    new = never_sold(past)
    assert np.exp(every[new]).sum() == pytest.approx(5 * np.exp(late[new]).sum(), rel=0.2)  # 100 days and 20


def test_what_was_only_looked_at_was_not_sold(shop):
    past, facts, _ = shop
    histories = past.histories
    late = (histories.set_at >= past.day - 30).astype(histories.set_kind.dtype)
    seen = dataclasses.replace(histories, kinds=("Order Completed", "Product Viewed"), set_kind=late)
    told = foretold(dataclasses.replace(past, histories=seen), facts, Config(days=60.0), runtime=RUN)
    every = foretold(past, facts, Config(days=60.0), runtime=RUN)
    new = never_sold(past)
    assert np.exp(every[new]).sum() == pytest.approx(2 * np.exp(told[new]).sum(), rel=0.2)  # half of them were looks


def test_too_few_products_teach_nothing(shop):
    past, facts, _ = shop
    few = past.rewind(past.as_of.replace(year=2000))
    with pytest.raises(ModelError, match=r"newcomers: 0 products were sold before 2000-.*at least 50 products"):
        foretold(few, facts, runtime=RUN)


def scores_and_new():
    rng = np.random.default_rng(3)
    return rng.normal(5, 2, size=(6, 30)).astype(np.float32), np.arange(30) >= 18


def test_what_is_lifted_keeps_its_place_among_the_others():
    scores, new = scores_and_new()
    expected = np.random.default_rng(4).normal(size=30).astype(np.float32)
    moved = lifted(scores, expected, new, 2.0)
    np.testing.assert_array_equal(moved[:, ~new], scores[:, ~new])
    np.testing.assert_allclose(moved[:, new].mean(axis=1), scores[:, new].mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(moved[:, new].std(axis=1), scores[:, new].std(axis=1), rtol=1e-4)
    far = lifted(scores, expected, new, 1e6)
    assert (np.argsort(far[:, new], axis=1) == np.argsort(expected[new])).all()
    by_hand = scores[0, new]
    by_hand = (by_hand - by_hand.mean()) / by_hand.std() + 2 * (expected[new] - expected[new].mean()) / expected[
        new
    ].std()
    assert (np.argsort(moved[0, new]) == np.argsort(by_hand)).all()


def test_new_products_that_score_the_same_get_an_order_and_hardly_a_spread():
    scores, new = scores_and_new()
    scores[:, new] = np.float32(1.1)
    expected = np.random.default_rng(4).normal(size=30).astype(np.float32)
    moved = lifted(scores, expected, new, 0.25)
    assert (np.argsort(moved[:, new], axis=1) == np.argsort(expected[new])).all()
    np.testing.assert_allclose(moved[:, new].std(axis=1), 1e-3 * scores.std(axis=1), rtol=1e-2)
    np.testing.assert_allclose(moved[:, new].mean(axis=1), 1.1, rtol=1e-5)
    nothing = np.zeros((2, 30), dtype=np.float32)
    np.testing.assert_array_equal(lifted(nothing, expected, new, 1.0), nothing)


def test_nothing_is_lifted_without_a_weight_or_new_products():
    scores, new = scores_and_new()
    expected = np.ones(30, dtype=np.float32)
    assert lifted(scores, expected, new, 0.0) is scores
    assert lifted(scores, expected, np.zeros(30, dtype=bool), 1.0) is scores
    np.testing.assert_allclose(lifted(scores, expected, new, 1.0), scores, rtol=1e-4)  # all are foretold the same


def test_the_weight_is_found_at_which_what_was_bought_stands_best():
    scores, new = scores_and_new()
    expected = np.zeros(30, dtype=np.float32)
    expected[20] = 3.0
    target = sp.csr_matrix((np.ones(6), (np.arange(6), np.full(6, 20))), shape=(6, 30))
    assert found_weight(scores, expected, new, target) > 0
    assert found_weight(scores, -expected, new, target) == 0.0
    old = sp.csr_matrix((np.ones(6), (np.arange(6), np.full(6, 2))), shape=(6, 30))
    assert found_weight(scores, expected, new, old) == 0.0
    assert found_weight(scores, expected, new, target, tried=(0.5, 0.5)) == 0.5


BRAND = np.array(["quiet", "loud"])[LOUD]
AGREED = Config(least_users=5, alike=0)


def launched_shop(brand=BRAND):
    """Return a past in which the last NEW products are first sold in the last ten days, at their own rates."""
    rng = np.random.default_rng(7)
    rate = np.where(LOUD == 1, 10.0, 1.0)
    rows = []
    for day in range(DAYS):
        there = np.where((np.arange(ITEMS) < ITEMS - NEW) | (day >= DAYS - 10), rate, 0.0)
        for second, n in enumerate(rng.choice(ITEMS, size=20, p=there / there.sum())):
            rows.append((f"u{rng.integers(150)}", NAMES[n], 1_700_000_000 + 86_400 * day + second))
    events = pl.DataFrame(rows, schema=["user", "item", "at"], orient="row")
    past = sequences.read(events, pl.DataFrame({"item": NAMES})).past(horizon_days=10)
    place = [NAMES.index(item) for item in past.items]
    told = {"department": None, "category": None, "brand": brand[place], "price": None, "listed": 19_000.0}
    types = {"department": pl.String, "category": pl.String, "brand": pl.String, "price": pl.Float64}
    return dataclasses.replace(
        past,
        facts=pl.DataFrame({"n": range(ITEMS)}).select(
            *(
                pl.Series(k, [v] * ITEMS if np.ndim(v) == 0 else v, dtype=types.get(k, pl.Float64))
                for k, v in told.items()
            )
        ),
    )


def judged(past, config=AGREED):
    """Return what is judged ten days before the end, where everybody is told the same of every product."""
    earlier = past.rewind(past.as_of - dt.timedelta(days=10))
    target = next_sets(past.histories, after=earlier.day, until=past.day)
    scores = np.random.default_rng(0).normal(size=(len(past.histories.user_keys), ITEMS)).astype(np.float32)
    return newcomers.judge(earlier, scores, target, config, runtime=RUN)


@pytest.fixture(scope="module")
def launched():
    return launched_shop()


def test_what_is_shown_to_help_is_kept_and_lifts_the_new_alone(launched):
    told = judged(launched)
    assert told.weight > 0 and told.helps and told.low < told.gain < told.high
    assert 20 <= told.users <= 150 and 0 < told.without < told.without + told.gain <= 1
    past = past_of(np.where(LOUD == 1, 10.0, 1.0))  # the last forty of the names are sold to nobody
    past = dataclasses.replace(past, facts=launched.facts)
    state = newcomers.fit(past, AGREED, told, runtime=RUN)
    assert state.weight == told.weight and state.judged == told
    new, expected = newcomers.expected_of_new(state, past)
    np.testing.assert_array_equal(new, never_sold(past))
    loud = LOUD[[NAMES.index(item) for item in past.items]] == 1
    assert expected[new & loud].min() > expected[new & ~loud].max() + 0.5 and not expected[~new].any()
    scores = np.random.default_rng(1).normal(size=(3, ITEMS)).astype(np.float32)
    found = newcomers.applied(state, past, scores)
    np.testing.assert_array_equal(found[:, ~new], scores[:, ~new])
    assert found[:, new & loud].mean() > scores[:, new & loud].mean() + 0.2
    again = newcomers.expected_of_new(state, dataclasses.replace(past, histories=past.histories.take([0])))
    assert again[0] is new  # the same facts: nothing is foretold twice


def test_a_product_that_came_after_training_is_lifted_too(launched):
    past = dataclasses.replace(launched, items=(*launched.items, "later-loud", "later-quiet"))
    rows = launched.facts.head(2).with_columns(brand=pl.Series(["loud", "quiet"]))
    state = newcomers.fit(launched, Config(weight=1.0, alike=0), None, runtime=RUN)
    new, expected = newcomers.expected_of_new(state, dataclasses.replace(past, facts=pl.concat([launched.facts, rows])))
    assert new[-2:].all() and expected[-2] > expected[-1] + 0.5
    strange = rows.with_columns(brand=pl.Series(["never seen", None]), price=pl.Series([1e300, -1.0]))
    told = newcomers.expected_of_new(state, dataclasses.replace(past, facts=pl.concat([launched.facts, strange])))[1]
    assert np.isfinite(told).all()


def test_words_are_read_where_facts_say_nothing(launched):
    past = dataclasses.replace(
        past_of(np.where(LOUD == 1, 10.0, 1.0)), facts=launched.facts.with_columns(brand=pl.lit(None, dtype=pl.String))
    )
    loud = LOUD[[NAMES.index(item) for item in past.items]]
    words = sp.csr_matrix(np.c_[loud, 1 - loud, np.full(ITEMS, 0.1)].astype(np.float32))
    with_words = dataclasses.replace(past, words=words)
    for one, told in ((with_words, True), (past, False)):
        state = newcomers.fit(one, Config(weight=1.0), None, runtime=RUN)
        new, expected = newcomers.expected_of_new(state, one)
        apart = expected[new & (loud == 1)].mean() - expected[new & (loud == 0)].mean()
        assert (apart > 0.5) == told
    wider = sp.csr_matrix(sp.hstack([np.zeros((ITEMS, 2)), words[:, ::-1]]).astype(np.float32))  # as catalogues grow
    grown = dataclasses.replace(with_words, words=wider, facts=past.facts.clone())
    state = newcomers.fit(with_words, Config(weight=1.0), None, runtime=RUN)
    pair = [newcomers.expected_of_new(state, one)[1] for one in (with_words, grown)]
    np.testing.assert_allclose(*pair, rtol=1e-5)
    lost = dataclasses.replace(past, facts=past.facts.clone())  # the words went since the fit: unknown, no error
    assert np.isfinite(newcomers.expected_of_new(state, lost)[1]).all()


def test_it_is_off_where_nothing_shows_that_it_helps(launched):
    past = launched_shop(np.random.default_rng(5).permutation(BRAND))  # the brand says nothing
    told = judged(past)
    assert told is not None and not told.helps
    state = newcomers.fit(past, AGREED, told, runtime=RUN)
    scores = np.ones((1, ITEMS), dtype=np.float32)
    assert state.weight == 0 and state.trees == () and newcomers.applied(state, past, scores) is scores
    assert "not shown to help" in newcomers.words(state)
    assert judged(launched, dataclasses.replace(AGREED, least_users=151)) is None
    unjudged = newcomers.fit(launched, AGREED, None, runtime=RUN)
    assert unjudged.weight == 0 and "too few customers" in newcomers.words(unjudged)
    assert judged(launched, dataclasses.replace(AGREED, weight=2.0)) is None  # the shop said it
    assert judged(dataclasses.replace(launched, facts=None)) is None


def test_the_setting_names_the_weight_or_turns_it_off(launched):
    told = newcomers.Judged(3.0, 40, 0.1, 0.05, 0.01, 0.09)
    assert newcomers.fit(launched, Config(weight=0.5), told, runtime=RUN).weight == 0.5
    assert newcomers.fit(launched, Config(weight=0.0), told, runtime=RUN).trees == ()
    named = newcomers.fit(launched, Config(weight=0.5), None, runtime=RUN)
    assert newcomers.words(named).endswith("weight 0.5 by the settings.")
    on = newcomers.fit(launched, Config(), told, runtime=RUN)
    assert newcomers.words(on) == (
        "New products are also ranked by the sales that facts foretell, weight 3. NDCG@10 among them 0.100, with it "
        "+0.050 (+0.010 to +0.090), 40 buyers, one horizon earlier."
    )
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(
            SettingsError, match=r"\[blend.newcomers\] weight: .* ranked by how little .* from 0 \(off\)"
        ):
            Config(weight=wrong)


def test_without_facts_or_with_too_few_products_there_is_nothing(launched):
    assert newcomers.fit(dataclasses.replace(launched, facts=None), AGREED, None, runtime=RUN) is None
    few = launched.rewind(launched.as_of.replace(year=2000))
    assert newcomers.fit(few, Config(weight=1.0), None, runtime=RUN) is None and newcomers.words(None) == ""
    scores = np.ones((1, ITEMS), dtype=np.float32)
    assert newcomers.applied(None, launched, scores) is scores


def test_it_is_the_same_after_the_disk(launched, tmp_path):
    state = newcomers.fit(launched, Config(weight=1.0), judged(launched), runtime=RUN)
    artifact.save(tmp_path / "m", "newcomers", state, {})
    back = artifact.load(tmp_path / "m").state
    past = dataclasses.replace(launched, items=tuple(f"x{n}" for n in range(ITEMS)))  # all of them new
    np.testing.assert_array_equal(*(newcomers.expected_of_new(one, past)[1] for one in (state, back)))
    assert back.weight == 1.0 and back.sold == state.sold


def test_the_sales_of_the_likest_by_hand(launched, monkeypatch):
    """A product is not like itself, and one without words is like nothing."""
    monkeypatch.setattr(newcomers, "ROWS", 2)
    words = sp.csr_matrix(np.array([[1, 0], [0.6, 0.8], [0, 1], [0, 0]], dtype=np.float32))
    past = dataclasses.replace(launched, items=("a", "b", "c", "d"), words=words, facts=launched.facts.head(4))
    state = newcomers.State(1.0, None, ("a", "b", "gone", "z"), None, np.array([2, 4, 9, 9], dtype=np.float32), 2, ())
    found = newcomers._alike(past, state, np.arange(4))
    np.testing.assert_allclose(found, [4, 2, 4, np.nan], rtol=1e-6)
    one = dataclasses.replace(state, sold=("a", "c"), sales=np.array([2, 4], dtype=np.float32))
    np.testing.assert_allclose(newcomers._alike(past, one, np.array([1])), [(0.6 * 2 + 0.8 * 4) / 1.4], rtol=1e-6)
    monkeypatch.setattr(newcomers, "LIKEST", 1)
    np.testing.assert_allclose(newcomers._alike(past, one, np.array([1])), [4])
