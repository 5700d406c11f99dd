"""Bags are worked out by hand."""

import dataclasses

import numpy as np
import pytest
import torch

from habitue.core.errors import ModelError
from habitue.core.schemas import REFUND
from habitue.model import bags as file
from habitue.model.bags import bags, lessons, scores

SETS = ((1, 10, "A"), (1, 4, "BC"), (1, 1, "A"), (1, 0.5, "D", REFUND), (2, 7, "B"), (3, 3, "CD"), (3, 2, "AC"))


@pytest.fixture
def past(make_past):
    return make_past(*SETS, items="ABCD", users=[1, 2, 3, 4])


def everybody(past, half_life_days=3.0):
    every = past.histories.of_kind("Order Completed")
    return bags(every, every.set_start[:-1], every.set_start[1:], half_life_days=half_life_days)


def test_the_newest_set_is_worth_1_and_older_ones_less(past):
    made = everybody(past)
    assert made.start.tolist() == [0, 4, 5, 9]
    assert made.item.tolist() == [0, 1, 2, 0, 1, 2, 3, 0, 2]
    np.testing.assert_allclose(made.worth, [1 / 8, 1 / 2, 1 / 2, 1, 1, *[0.5 ** (1 / 3)] * 2, 1, 1], rtol=1e-6)
    assert made.of.tolist() == [0, 0, 0, 0, 1, 2, 2, 2, 2]


def test_sums_over_a_bag(past):
    made, table = everybody(past), torch.tensor([[1.0, 10], [2, 20], [4, 40], [8, 80]])
    fade = 0.5 ** (1 / 3)
    expected = [1.125 + 1 + 2, 2, 4 * fade + 8 * fade + 1 + 4, 0]
    np.testing.assert_allclose(made.total(table)[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(made.total(table)[:, 1], np.multiply(expected, 10), rtol=1e-6)
    np.testing.assert_allclose(made.length(), [np.sqrt(1 / 64 + 1.5), 1, np.sqrt(2 * fade**2 + 2), 0], rtol=1e-6)


def test_only_the_newest_sets_of_a_long_history_count(past, monkeypatch):
    monkeypatch.setattr(file, "WINDOW", 2)
    made = everybody(past)
    assert made.start.tolist() == [0, 3, 4, 8]
    assert made.item[:3].tolist() == [1, 2, 0]
    taught = lessons(past, model="model.x", ahead=False)
    assert (taught.wanted[:, 1] - taught.wanted[:, 0]).tolist() == [2, 1, 2]


def test_every_purchase_but_the_first_is_a_lesson(past):
    taught = lessons(past, model="model.x")
    made, wanted = taught.asked(np.arange(3), half_life_days=3.0, device="cpu")
    assert made.item.tolist() == [0, 0, 1, 2, 2, 3]  # A | A, BC | CD; user 2 has no second purchase
    assert made.start.tolist() == [0, 1, 4]
    assert wanted.row.tolist() == [0, 0, 1, 2, 2]
    assert wanted.column.tolist() == [1, 2, 0, 0, 2]
    assert wanted.value.tolist() == [0.5, 0.5, 1, 0.5, 0.5]


def test_a_bag_may_be_asked_for_itself(past):
    taught = lessons(past, model="model.x", ahead=False)
    made, wanted = taught.asked(np.array([2, 0]), half_life_days=3.0, device="cpu")
    assert made.item.tolist() == [2, 3, 0, 2, 0, 1, 2, 0]
    assert wanted.row.tolist() == [0, 0, 0, 1, 1, 1]
    assert wanted.column.tolist() == [0, 2, 3, 0, 1, 2]
    np.testing.assert_allclose(wanted.value, 1 / 3)


def test_a_pass_takes_every_lesson_once(past):
    taught = lessons(past, model="model.x")
    first = [taught.drawn(step, 2, seed=5) for step in (0, 1)]
    assert sorted(np.concatenate(first)) == [0, 1, 2]
    assert [len(part) for part in first] == [2, 1]
    many = dataclasses.replace(taught, bag=np.zeros((100, 2), dtype=np.int64))
    one, again = many.drawn(0, 100, seed=5), many.drawn(0, 100, seed=5)
    other, later = many.drawn(0, 100, seed=6), many.drawn(1, 100, seed=5)
    assert (one == again).all() and (one != other).any() and (one != later).any()


def test_rows_are_left_out_at_random(past):
    made = everybody(past)
    torch.manual_seed(0)
    for field in ("start", "item", "worth"):
        assert getattr(made.thinned(0.0), field).tolist() == getattr(made, field).tolist()
    assert made.thinned(1.0).start.tolist() == [0, 0, 0, 0]
    table = torch.eye(4)
    drawn = torch.stack([made.thinned(0.25).total(table) for _ in range(2000)]).mean(0)
    np.testing.assert_allclose(drawn, 0.75 * made.total(table), atol=0.06)


@pytest.mark.parametrize("at_once", [1, 256])
def test_everybody_is_asked_and_an_unknown_item_comes_last(past, monkeypatch, at_once):
    monkeypatch.setattr(file, "USERS_A_CALL", at_once)
    table = torch.tensor([[0.0, -2.0], [0.0, 3.0]])  # of C and A
    told = scores(past, ("C", "A"), lambda asked: asked.total(table) - 1, half_life_days=3.0)
    assert told.dtype == np.float32
    weight = 3 * (1 / 8 + 1)
    c = -2 * 0.5
    np.testing.assert_allclose(told[0], [weight + c - 1, -1, -1, -1], rtol=1e-6)
    assert told[1].tolist() == [-1, -1, -1, -1]  # B is not known
    assert told[3].tolist() == [-1, -1, -1, -1]


def test_nobody_bought_twice(make_past):
    past = make_past((1, 3, "A"), (2, 2, "B"), (2, 1, "A", REFUND), items="AB")
    with pytest.raises(ModelError, match="model.x: no user has two purchases before as_of.*nothing to learn from"):
        lessons(past, model="model.x")
    assert len(lessons(past, model="model.x", ahead=False).bag) == 2


def test_nobody_bought_a_thing(make_past):
    with pytest.raises(ModelError, match="model.x: no user has a purchase before as_of"):
        lessons(make_past((1, 1, "A", REFUND), items="AB"), model="model.x", ahead=False)
