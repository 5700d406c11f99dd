"""`basket` against a plain loop over customers; every mutant of ranking.py must fail that check."""

import datetime as dt
import inspect
import math
import types

import numpy as np
import pytest
import scipy.sparse as sp

from habitue.core.errors import ModelError
from habitue.core.schemas import FEATURES, LABELS
from habitue.evaluate import basket, ranking
from habitue.model.past import Histories, Past

ITEMS = 15


def past_of(sets, known):
    """A Past of `sets`: per user, (kind index, items) in order of time."""
    flat = [(kind, items) for user in sets for kind, items in user]
    rows = [item for _, items in flat for item in items]
    histories = Histories(
        user_keys=np.arange(len(sets), dtype=np.int64) * 7,
        set_start=np.cumsum([0, *(len(user) for user in sets)]),
        set_at=np.concatenate([[0.0], *(np.arange(len(user)) for user in sets)])[1:],
        set_kind=np.array([kind for kind, _ in flat], dtype=np.int8),
        row_start=np.cumsum([0, *(len(items) for _, items in flat)]),
        row_item=np.array(rows, dtype=np.int32),
        row_quantity=np.ones(len(rows), dtype=np.float32),
        row_value=np.ones(len(rows), dtype=np.float32),
    )
    return Past(
        as_of=dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        horizon_days=92,
        items=tuple(f"P{i:02d}" for i in range(ITEMS)),
        histories=histories,
        known=np.array(known),
        words=None,
        features=FEATURES.empty(),
        train_features=FEATURES.empty(),
        train_labels=LABELS.empty(),
    )


def toy(seed=0, users=40):
    """Random purchases and refunds, next orders and distinct scores; some users are guests, some order nothing."""
    rng = np.random.default_rng(seed)

    def some():
        return sorted(rng.choice(ITEMS, size=rng.integers(1, 4), replace=False).tolist())

    sets = [[(int(rng.random() < 0.3), some()) for _ in range(rng.integers(0, 4))] for _ in range(users)]
    past = past_of(sets, rng.random(users) < 0.8)
    orders = [set(some()) | {0} if rng.random() < 0.7 else set() for _ in range(users)]
    target = sp.lil_matrix((users, ITEMS - 1))
    for user, order in enumerate(orders):
        orders[user] = {item for item in order if item < ITEMS - 1}
        target[user, sorted(orders[user])] = 2.0
    return (
        rng.permuted(np.tile(np.arange(ITEMS, dtype=np.float32), (users, 1)), axis=1),
        past,
        target.tocsr(),
        orders,
        sets,
    )


def by_loop(scores, past, orders, sets):
    """(slice, metric) -> {user_key: value}, written from the definition."""
    told = {}
    for user, order in enumerate(orders):
        bought = {item for kind, items in sets[user] if kind == 0 for item in items}
        for name, relevant, hidden in (
            ("all", order, set()),
            ("repeat", order & bought, set()),
            ("first_time", order - bought, bought),
        ):
            if not past.known[user] or not relevant:
                continue
            best = [i for i in np.argsort(-scores[user]) if i not in hidden]
            places = sorted(best.index(item) + 1 for item in relevant)
            ideal = sum(1 / math.log2(p + 1) for p in range(1, min(5, len(relevant)) + 1))
            values = {
                "ndcg@5": sum(1 / math.log2(p + 1) for p in places if p <= 5) / ideal,
                "hit@5": float(places[0] <= 5),
                "recall@5": sum(p <= 5 for p in places) / len(relevant),
                "mrr": 1 / places[0],
            }
            for metric, value in values.items():
                told.setdefault((name, metric), {})[int(past.histories.user_keys[user])] = value
    return told


def check_basket(function):
    for seed in range(3):
        scores, past, target, orders, sets = toy(seed)
        measured = function(scores, past, target, model="toy", cutoffs=(5,))
        told = {(m.slice, m.metric): dict(zip(m.user_keys.tolist(), m.values.tolist(), strict=True)) for m in measured}
        expected = by_loop(scores, past, orders, sets)
        assert told.keys() == expected.keys()
        for key, values in expected.items():
            assert told[key] == pytest.approx(values), key
            one = next(m for m in measured if (m.slice, m.metric) == key)
            assert one.statistic(np.ones((1, len(values))))[0] == pytest.approx(np.mean(list(values.values())))


def test_equals_a_loop_over_customers():
    check_basket(basket)


def test_chunks_change_nothing(monkeypatch):
    monkeypatch.setattr(ranking, "USERS", 3)
    check_basket(basket)


MUTANTS = [
    ("past.known & ", ""),
    ("again = order.multiply(had).tocsr()", "again = order"),
    ("_binary(order - again, had.shape[1]), had", "_binary(order - again, had.shape[1]), None"),
    ('"repeat": (again, None)', '"repeat": (_binary(order - again, had.shape[1]), None)'),
    ("bought(past.histories, items)", "bought(past.histories.before(1.0), items)"),
    ("values(scores[some]", "values(-scores[some]"),
    ("values(scores[some]", "values(np.roll(scores, 1, axis=0)[some]"),
    ("metrics.ndcg_at(at, k)", "metrics.ndcg_at(at, k + 1)"),
    ("metrics.recall_at", "metrics.precision_at"),
    ("metrics.hit_at", "metrics.recall_at"),
]


@pytest.mark.parametrize(("old", "new"), MUTANTS)
def test_a_mutant_fails_the_check(old, new):
    source = inspect.getsource(ranking)
    assert source.count(old) == 1, "the mutation must hit exactly one place"
    mutant = types.ModuleType(ranking.__name__)
    exec(compile(source.replace(old, new), "mutant of ranking.py", "exec"), mutant.__dict__)
    with pytest.raises((AssertionError, ModelError)):
        check_basket(mutant.basket)


def test_a_cutoff_beyond_the_catalogue_finds_everything():
    scores, past, target, *_ = toy()
    told = {(m.slice, m.metric): m.values for m in basket(scores, past, target, model="toy", cutoffs=(10_000,))}
    assert (told["all", "recall@10000"] == 1).all()
    assert (told["all", "hit@10000"] == 1).all()


def test_one_customer_is_enough():
    past = past_of([[(0, [1, 2])]], [True])
    scores = np.arange(ITEMS, dtype=np.float32)[None]
    told = {(m.slice, m.metric): m.values for m in basket(scores, past, sp.csr_matrix(np.eye(1, ITEMS)), model="toy")}
    assert set(told) == {(s, m) for s in ("all", "first_time") for m in ("ndcg@10", "hit@10", "recall@10", "mrr")}
    assert told["all", "mrr"] == pytest.approx([1 / 15])
    assert told["first_time", "mrr"] == pytest.approx([1 / 13])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s, p, t: (s[:, 1:], p, t),
            r"model 'toy': scores are 40 x 14, not 40 users x 15 products\..*in its order",
        ),
        (lambda s, p, t: (s[0], p, t), "scores are 15, not 40 users x 15 products"),
        (lambda s, p, t: (s, p, t[1:]), "the target is 39 x 14, not 40 users x 15 products"),
        (lambda s, p, t: (s, p, sp.csr_matrix((40, 16))), "the target is 40 x 16"),
        (lambda s, p, t: (np.where(s == 3, np.nan, s), p, t), "model 'toy': 40 scores are NaN or infinite"),
        (lambda s, p, t: (np.where(s == 3, -np.inf, s), p, t), "40 scores are NaN or infinite"),
        (lambda s, p, t: (s, p, t * 0), "model 'toy': no known customer ordered a known product after the cut"),
    ],
)
def test_bad_input_is_refused_naming_the_model(change, message):
    scores, past, target, *_ = toy()
    with pytest.raises(ModelError, match=message):
        basket(*change(scores, past, target), model="toy")
