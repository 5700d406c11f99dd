"""The deletion test: every reason, deleted alone, really lowers the rank; nothing else is called a reason."""

import dataclasses
import datetime as dt
import functools
import inspect
import types

import numpy as np
import polars as pl
import pytest

from habitue import prepare
from habitue.collect import synthetic
from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.core.schemas import FEATURES, LABELS, REASONS, check
from habitue.explain import deletion, reasons
from habitue.model import ease, popular
from habitue.model.past import Past, histories

CUT = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def past():
    events = synthetic.shop(users=40, items=24, seed=1)
    seen, _ = prepare.split(events, CUT)
    items = tuple(sorted(seen["item_id"].unique()))
    history = histories(prepare.timeline(seen), items)
    return Past(
        as_of=CUT,
        horizon_days=30,
        items=items,
        histories=history,
        known=np.ones(len(history.user_keys), dtype=bool),
        words=None,
        features=FEATURES.empty(),
        train_features=FEATURES.empty(),
        train_labels=LABELS.empty(),
    )


@pytest.fixture(scope="module")
def scores(past):
    states = {model: model.fit(past, model.Config(), runtime=Runtime()) for model in (popular, ease)}
    return [functools.partial(model.score, state) for model, state in states.items()]


@pytest.fixture(params=[0, 1], ids=["popular", "ease"])
def score(request, scores):
    return scores[request.param]


def recommended(score, past, user, n=5):
    return np.argsort(-score(past.take([user]))[0], kind="stable")[:n].tolist()


def rank_of(scores, item):
    """1 + items above, and half of those with the same score, rounded down."""
    others = np.delete(scores, item)
    return 1 + int((others > scores[item]).sum()) + int((others == scores[item]).sum()) // 2


def forgotten(past, user, product):
    """The past of one user who never bought the product: written again from the rows, one by one."""
    one = past.take([user])
    keep = np.array([item != product for item in one.histories.row_item])
    return dataclasses.replace(one, histories=one.histories.keep_rows(keep))


def check_reasons(function, score, past):
    found = 0
    for user in range(0, 40, 3):
        items = recommended(score, past, user)
        frame = function(score, past, user, items, model="toy", most=2)
        check(frame, REASONS, at="test")
        before = score(past.take([user]))[0]
        falls = {}
        for item in items:
            for product in sorted(set(past.take([user]).histories.row_item.tolist())):
                after = score(forgotten(past, user, product))[0]
                if rank_of(after, item) > rank_of(before, item):
                    fall = (rank_of(before, item), rank_of(after, item), float(before[item]) - float(after[item]))
                    falls.setdefault(item, {})[product] = fall
                    found += 1
        assert set(frame["item_id"]) == {past.items[item] for item in falls}
        for item, worse in falls.items():
            told = frame.filter(pl.col("item_id") == past.items[item])
            best = sorted(worse.values(), key=lambda fall: (fall[0] - fall[1], -fall[2]))[:2]
            assert told.select("rank_with", "rank_without").rows() == [fall[:2] for fall in best]
            assert told["weight"].to_list() == pytest.approx([fall[2] for fall in best])
            assert {past.items.index(x) for x in told["because"]} <= worse.keys()
    assert found > 20


def test_reasons_are_those_whose_deletion_lowers_the_rank(score, past):
    check_reasons(reasons, score, past)


def test_rows_say_whose_answer_they_are_about(score, past):
    frame = reasons(score, past, 3, recommended(score, past, 3), model="toy")
    assert frame.select("user_key", "as_of", "model", "task", "code").unique().rows() == [
        (3, CUT, "toy", "rank", "bought")
    ]
    assert frame.group_by("item_id").len()["len"].max() <= 2


MUTANTS = [
    ("row_item != products[owner]", "row_item == products[owner]"),  # keeps what should go
    ("row_item != products[owner]", "row_item != products[owner] - 1"),  # deletes a neighbour
    ("without.rank > told.rank", "without.rank >= told.rank"),  # invents reasons
    ("without.rank > told.rank", "without.rank < told.rank"),
    ("told.score[0, i] - without.score[x, i]", "without.score[x, i] - told.score[0, i]"),
    ("above + (tied + 1) // 2", "above"),
    ("row[2] - row[3], -row[4]", "row[3] - row[2], -row[4]"),  # the weakest first
    ("[:most]", "[: most + 1]"),
]


@pytest.mark.parametrize(("old", "new"), MUTANTS)
def test_a_mutant_fails_the_check(old, new, scores, past):
    source = inspect.getsource(deletion)
    assert source.count(old) == 1, "the mutation must hit exactly one place"
    mutant = types.ModuleType(deletion.__name__)
    exec(compile(source.replace(old, new), "mutant of deletion.py", "exec"), mutant.__dict__)
    with pytest.raises((AssertionError, IndexError)):
        for score in scores:
            check_reasons(mutant.reasons, score, past)


def test_many_products_are_asked_in_several_calls(score, past, monkeypatch):
    items = recommended(score, past, 0)
    whole = reasons(score, past, 0, items, model="toy")
    monkeypatch.setattr(deletion, "VARIANTS", 2)
    sizes = []

    def counted(asked):
        sizes.append(len(asked.histories.user_keys))
        return score(asked)

    assert reasons(counted, past, 0, items, model="toy").equals(whole)
    assert max(sizes) == 2


def test_a_model_that_does_not_read_the_history_has_no_reasons(past):
    trend = np.arange(len(past.items), dtype=np.float32)
    frame = reasons(lambda asked: np.tile(trend, (len(asked.histories.user_keys), 1)), past, 0, [5, 6], model="toy")
    assert frame.equals(REASONS.empty())


def test_a_customer_without_a_history_has_no_reasons(score, past):
    nobody = dataclasses.replace(
        past, histories=past.histories.keep_sets(np.zeros(len(past.histories.set_at), dtype=bool))
    )
    assert reasons(score, nobody, 0, [1, 2], model="toy").is_empty()
    assert reasons(score, past, 0, [], model="toy").is_empty()


def test_ranks_are_counted_among_the_candidates(score, past):
    bought = np.isin(np.arange(len(past.items)), past.take([0]).histories.row_item)
    item = next(i for i in np.argsort(-score(past.take([0]))[0], kind="stable") if not bought[i])
    frame = reasons(score, past, 0, [int(item)], model="toy", candidates=~bought)
    assert set(frame["rank_with"]) <= {1}
    with pytest.raises(ModelError, match="explain.reasons, model 'toy': a recommended product is no candidate"):
        reasons(score, past, 0, [int(item)], model="toy", candidates=bought)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda s: s * np.nan, "explain.reasons, model 'toy': scores are NaN or infinite"),
        (lambda s: s[:, 1:], r"scores are \(1, 23\), not \(1, 24\).*in its order"),
    ],
)
def test_scores_that_cannot_be_read_are_refused(wrong, message, score, past):
    with pytest.raises(ModelError, match=message):
        reasons(lambda asked: wrong(score(asked)), past, 0, [1], model="toy")
