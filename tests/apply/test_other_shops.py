"""The three public sets that come with Habitue: floors that were measured before, and never worse."""

from __future__ import annotations

import pytest

from habitue.apply import reviews, sessions, slots
from habitue.apply.heldout import one
from habitue.collect import bundled
from habitue.core.runtime import Runtime

pytestmark = pytest.mark.slow
ONE = Runtime(threads=1)


def test_reviews() -> None:
    answer = reviews.run(reviews.read(bundled.reviews()), runtime=ONE)
    assert one(answer.metrics, "words", "auc")["low"] > 0.955 and one(answer.metrics, "words", "f1")["low"] > 0.765
    assert one(answer.metrics, "product_share", "auc")["high"] < 0.6
    words = dict(answer.words.select("word", "weight").iter_rows())
    assert words["disappointed"] < 0 < words["perfect"]


def test_sessions() -> None:
    table = sessions.run(sessions.read(bundled.sessions()), runtime=ONE).metrics
    assert one(table, "trees", "auc")["low"] > 0.925 and one(table, "trees", "f1")["low"] > 0.67
    assert 0.77 < one(table, "trees_without_page_values", "auc")["mean"] < 0.81
    assert one(table, "logistic_without_page_values", "auc")["mean"] > 0.73


def test_slots() -> None:
    logs = bundled.bandit()
    answer = slots.run(slots.read(logs.random), slots.read(logs.bts))
    assert answer.clicks == {"random": 46, "own_log": 69} and not answer.decides
    truth = one(answer.metrics, "own_log", "value")["mean"]
    assert truth == pytest.approx(0.0069)
    for model in ("ips", "snips", "dr"):
        told = one(answer.metrics, model, "value")
        assert told["low"] < truth < told["high"] and abs(told["mean"] - truth) < 0.002
