"""The benchmark of visits adds up what was just seen as the server does, and never finds what was not trained on."""

import dataclasses
import datetime as dt
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from habitue.serve import scorer, shop, state
from habitue.serve.scorer import Question

NOW = dt.datetime(2026, 1, 5, 12, tzinfo=dt.UTC)


@pytest.fixture
def session(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks/quality")
    import session

    yield session
    sys.modules.pop("session")


@pytest.fixture
def vectors():
    found = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_what_was_just_seen_is_added_up_as_the_server_does(session, vectors, monkeypatch):
    monkeypatch.setattr(scorer, "personal", lambda *_, **__: None)
    items = tuple("abcdef")
    ready = SimpleNamespace(
        items=items,
        index={item: at for at, item in enumerate(items)},
        vectors=vectors,
        shortlist=None,
        trend=vectors[:, 0],
    )
    seen = {"line": 0, "kind": "Product Viewed", "quantity": None, "value": None}
    visit = [2, 5, 2, 0]
    rows = [
        seen | {"at": NOW - dt.timedelta(minutes=9 - n), "event_id": f"e{n}", "item_id": items[item]}
        for n, item in enumerate(visit)
    ]
    placed = scorer._placed(ready, state.Shopper(kept=rows), Question(placement="session"), (), np.ones(6, bool), NOW)
    np.testing.assert_allclose(placed.score, session.standard(session.just_seen(visit, vectors)[None])[0], atol=1e-6)
    assert shop.alike(ready, 2)[2] == vectors.dot(vectors[2]).min()


def test_a_product_that_was_not_trained_on_is_never_found(session, monkeypatch):
    monkeypatch.setattr(session, "CONFIG", dataclasses.replace(session.CONFIG, width=8, passes=30.0))
    visits = [[i, i + 1, i + 2] for i in range(20)] * 10
    past, model = session.trained(pl.DataFrame({"session": range(len(visits)), "items": visits}))
    assert len(past.items) == 22
    questions = [(["3", "4"], "5"), (["3", "nothing"], "4"), (["3"], "nothing"), (["nothing"], "7")]
    told = session.measured(questions, past, model, shares=(0.0, 1.0))
    assert told[0.0]["hit@10"].tolist()[:3] == [1.0, 1.0, 0.0] and told[1.0]["mrr"][2] == 0.0
    assert told[0.0]["mrr"][0] >= 1 / 3 and set(told[1.0]) == set(told[0.0])
