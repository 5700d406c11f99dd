"""Tokens, lessons and what nobody may see, worked out by hand."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.core.schemas import REFUND
from habitue.model import gru, streams

VIEW = "Product Viewed"
SETS = [
    (1, 40, "AB"),
    (1, 30, "C", VIEW),
    (1, 29, "B"),
    (1, 2, "AC"),
    (2, 9, "C"),
    (2, 8, "A", REFUND),
    (3, 5, "B"),
    (3, 4, "D"),
]


def test_every_set_before_a_purchase_is_a_lesson_about_the_whole_of_it(make_past):
    lessons = streams.lessons(make_past(*SETS, items="ABCDE"), window=10, model="m")
    assert lessons.target.tolist() == [2, 2, 3, -1, -1, -1, 7, -1]
    assert list(zip(lessons.first.tolist(), lessons.last.tolist(), strict=True)) == [
        (0, 4),
        (6, 8),
    ]  # 2 teaches nothing
    assert lessons.met.tolist() == [True, True, True, True, False]


def test_a_long_stream_is_cut_into_stretches_from_the_newest_and_no_lesson_is_lost(make_past):
    past = make_past(
        *[(1, day, "A") for day in range(7, 0, -1)], *[(2, day, "B") for day in range(3, 0, -1)], items="AB"
    )
    lessons = streams.lessons(past, window=3, model="m")
    pieces = sorted(zip(lessons.first.tolist(), lessons.last.tolist(), strict=True))
    assert pieces == [(0, 1), (1, 4), (4, 7), (7, 10)]
    assert lessons.target.tolist() == [1, 2, 3, 4, 5, 6, -1, 8, 9, -1]


def test_a_batch_lies_longest_first_without_padding(make_past):
    past = make_past(*SETS, items="ABCD")
    every, kinds = past.histories, np.array([5, 6, 7])
    target = streams.lessons(past, window=10, model="m").target
    batch, order = streams.collate(every, np.array([6, 0]), np.array([8, 4]), kinds=kinds, target=target)
    assert order.tolist() == [1, 0]
    assert batch.place.tolist() == [0, 1, 2, 3, 0, 1]
    assert batch.kind.tolist() == [5, 7, 5, 5, 5, 5]
    days = [0, 10, 1, 27, 0, 1]
    assert batch.gap.tolist() == [int(1.5 * np.log1p(24 * d)) for d in days] == [0, 8, 4, 9, 0, 4]
    assert batch.row_set.tolist() == [0, 0, 1, 2, 3, 3, 4, 5]
    assert batch.row_item.tolist() == [0, 1, 2, 1, 0, 2, 1, 3]
    assert batch.row_share.tolist() == [0.5, 0.5, 1, 1, 0.5, 0.5, 1, 1]
    assert batch.lesson.tolist() == [0, 1, 2, 4]
    assert batch.target.row.tolist() == [0, 1, 2, 2, 3]
    assert batch.target.column.tolist() == [1, 1, 0, 2, 3]
    assert batch.target.value.tolist() == [1, 1, 0.5, 0.5, 1]


def test_two_and_a_half_years_are_the_longest_pause(make_past):
    past = make_past((1, 9000, "A"), (1, 602, "A"), (1, 601, "A"), (1, 1, "A"), items="A")
    batch, _ = streams.collate(past.histories, np.array([0]), np.array([4]), kinds=np.arange(3))
    assert batch.gap.tolist() == [0, 15, 4, 14] and not len(batch.lesson)


def test_a_set_is_the_mean_of_its_items(make_past):
    past = make_past(*SETS, items="ABCD")
    batch, _ = streams.collate(past.histories, np.array([0]), np.array([4]), kinds=np.arange(3))
    read = streams.Reader(8, kinds=3, content=1, met=np.ones(4, dtype=bool), dropout=0.0)
    table = torch.randn(4, 8)
    tokens = read(batch, table)
    mean = torch.stack([table[[0, 1]].mean(0), table[2], table[1], table[[0, 2]].mean(0)])
    torch.testing.assert_close(tokens, torch.nn.functional.layer_norm(mean, (8,)))
    with torch.no_grad():
        read.kind.weight[2], read.gap.weight[4] = 1.0, 3.0
    shifted = mean + torch.tensor([0.0, 1.0, 3.0, 0.0])[:, None] * torch.ones(8)
    torch.testing.assert_close(read(batch, table), torch.nn.functional.layer_norm(shifted, (8,)))


def test_words_become_a_few_numbers_of_mean_square_one():
    words = sp.csr_matrix(np.array([[1, 0, 0], [1, 0, 0], [0, 1, 1]], dtype=np.float32))
    found = streams.content(words, 2, 3)
    assert found.shape == (3, 2) and np.square(found).mean() == pytest.approx(1)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert abs(found[0] @ found[2]) < 1e-5
    assert not streams.content(words, 0, 3).any() and streams.content(None, 5, 3).shape == (3, 1)


def test_nobody_came_back(make_past):
    with pytest.raises(ModelError, match="model.gru: no user has a purchase after another event before as_of"):
        gru.fit(make_past((1, 3, "A"), (2, 3, "B"), items="AB"), gru.Config(), runtime=Runtime())


SMALL = gru.Config(width=8, hidden=8, passes=2, content=2)


def fitted(past, **settings):
    return gru.fit(past, dataclasses.replace(SMALL, **settings), runtime=Runtime(seed=1))


def test_a_stranger_is_told_what_sells_and_an_unknown_item_comes_last(make_past):
    state = fitted(make_past(*SETS, items="ABCDE"))
    asked = make_past((1, 3, "A"), (1, 2, "Z"), (2, 3, "Z"), items="ABCDEZ", users=[1, 2, 3])
    told = gru.score(state, asked)
    np.testing.assert_allclose(told[2, :5], np.log1p([2, 3, 2, 1, 0]), rtol=1e-6)
    np.testing.assert_array_equal(told[1], told[2])  # an unknown item says nothing
    np.testing.assert_array_equal(told[:, 5], np.minimum(told[:, :5].min(axis=1), 0))
    alone = gru.score(state, make_past((1, 3, "A"), items="ABCDE", users=[1, 3]))
    np.testing.assert_allclose(told[0, :5], alone[0], rtol=1e-5)


def test_only_the_newest_sets_of_the_window_are_read(make_past):
    state = fitted(make_past(*SETS, items="ABCD"), window=2)
    one = make_past((1, 9, "D"), (1, 5, "A"), (1, 2, "B"), items="ABCD")
    other = make_past((1, 9, "C"), (1, 5, "A"), (1, 2, "B"), items="ABCD")
    third = make_past((1, 9, "C"), (1, 5, "D"), (1, 2, "B"), items="ABCD")
    np.testing.assert_array_equal(gru.score(state, one), gru.score(state, other))
    assert np.abs(gru.score(state, one) - gru.score(state, third)).max() > 1e-6


def test_what_comes_after_as_of_is_not_read(make_past):
    past, longer = make_past(*SETS, items="ABCD"), make_past(*SETS, (1, -1, "D"), (3, -5, "D"), items="ABCD")
    one, other = fitted(past), fitted(longer)
    assert all(one.weights[name].equal(other.weights[name]) for name in one.weights)
    assert gru.score(one, past).tobytes() == gru.score(other, longer).tobytes()


def test_an_item_nobody_met_is_no_evidence_while_training(make_past):
    """Its id vector stays at zero: no lesson pushed it away."""
    state = fitted(make_past(*SETS, items="ABCDE"))
    table = state.weights["read.items.identity"]
    assert not table[4].any() and table[:4].abs().sum() > 0


def test_every_pass_takes_each_stretch_once(make_past, monkeypatch):
    past = make_past(*[(user, day, "A") for user in range(5) for day in (3, 2)], items="AB")
    seen = []
    collate = streams.collate

    def spied(every, first, last, **more):
        seen.append(first.tolist())
        return collate(every, first, last, **more)

    monkeypatch.setattr(streams, "collate", spied)
    state = fitted(past, stretches=2, passes=3)
    assert state.steps == 9 and [len(s) for s in seen] == [2, 2, 1] * 3
    passes = [sum(seen[i : i + 3], []) for i in (0, 3, 6)]
    assert all(sorted(p) == [0, 2, 4, 6, 8] for p in passes) and len({tuple(p) for p in passes}) > 1


def test_a_step_is_small_enough_for_many_steps_a_pass_and_not_smaller_than_it_may_be(make_past, monkeypatch):
    past = make_past(*[(user, day, "A") for user in range(60) for day in (3, 2)], items="A")
    monkeypatch.setattr(streams, "STEPS_A_PASS", 3)
    assert fitted(past, stretches=64, passes=1).steps == 3
    assert fitted(past, stretches=6, passes=1).steps == 10
    monkeypatch.setattr(streams, "STEPS_A_PASS", 30)
    assert fitted(past, stretches=64, passes=1).steps == 4  # of LEAST_STRETCHES
    assert fitted(past, stretches=64, passes=9, steps=7).steps == 7
    cut = gru.fit(past, dataclasses.replace(SMALL, passes=50), runtime=Runtime(budget_s=0.0))
    assert cut.steps < cut.planned == 200  # 4 steps a pass
    assert (whole := gru.fit(past, SMALL, runtime=Runtime())).steps == whole.planned == 8


def test_training_goes_on_after_a_kill_to_the_same_weights(make_past, tmp_path):
    past = make_past(*SETS, items="ABCD")

    def stop(done: int, *_: object) -> None:
        if done == 120:
            raise KeyboardInterrupt

    config = dataclasses.replace(SMALL, passes=150)
    whole = gru.fit(past, config, runtime=Runtime(seed=1))
    with pytest.raises(KeyboardInterrupt):
        gru.fit(past, config, runtime=Runtime(seed=1), folder=tmp_path, progress=stop)
    resumed = gru.fit(past, config, runtime=Runtime(seed=1), folder=tmp_path)
    assert whole.steps == resumed.steps == 150
    assert all(whole.weights[name].equal(resumed.weights[name]) for name in whole.weights)
    with pytest.raises(ModelError, match="written by a run with other data, settings, seed or threads"):
        gru.fit(past, config, runtime=Runtime(seed=2), folder=tmp_path)
