"""What everybody buys and what stands in one order, counted event by event, is what counting all of it again gives."""

import dataclasses
import datetime as dt
import json

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from litestar.testing import TestClient

from habitue import prepare, serving
from habitue.core.runtime import Runtime
from habitue.core.schemas import EVENTS, FEATURES, LABELS, PURCHASE, REFUND
from habitue.model import popular, quick
from habitue.model.past import Past, histories
from habitue.serve import app, counts
from habitue.serve import shop as shops

ITEMS = tuple("abcdef")
INDEX = {item: place for place, item in enumerate(ITEMS)}
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
WINDOW = 10.0


def row(number, *, at, item, user=1, order=None, kind=PURCHASE, line=0):
    made = dict.fromkeys(EVENTS.schema) | {"event_id": f"e{number:04d}", "line": line, "at": at, "user_key": user}
    return made | {
        "kind": kind, "item_id": item, "order_id": order, "source": "test", "import_id": "t", "received_at": at
    }  # fmt: skip


@pytest.fixture
def stream():
    """Forty days of orders of five people, most with several lines, some without a number, some of two events."""
    rng = np.random.default_rng(4)
    rows = []
    for number in range(160):
        at = START + dt.timedelta(hours=int(rng.integers(0, 40 * 24)))
        user, kind = int(rng.integers(1, 6)), [PURCHASE, PURCHASE, PURCHASE, REFUND, "Product Viewed"][rng.integers(5)]
        order = None if number % 7 == 0 else f"o{number // 2 if number % 5 == 0 else number}"
        for line in range(rng.integers(1, 5)):
            item = str(rng.choice(list("aaabbcdefg"))) if rng.random() > 0.05 else None
            rows.append(row(number, at=at, item=item, user=user, order=order, kind=kind, line=line))
    return rows


def frame(rows):
    return EVENTS.shape(pl.DataFrame(rows, schema=EVENTS.schema))


def counted(rows, folder, *, as_of=None, floor=1.0):
    folder.mkdir()
    counts.write(frame(rows), ITEMS, folder, as_of=as_of, window=WINDOW)
    return counts.Counts(folder, INDEX, np.full(len(ITEMS), floor, dtype=np.float32))


def lines(rows):
    return [one for one in (counts.line(event, event["user_key"]) for event in rows) if one is not None]


def fitted(rows, as_of):
    """The trend as training would count it at a moment."""
    none = FEATURES.empty()
    every = histories(prepare.timeline(frame(rows)), ITEMS)
    past = Past(as_of, 30, ITEMS, every, np.ones(len(every.user_keys), dtype=bool), None, none, none, LABELS.empty())
    return popular.fit(past, popular.Config(window_days=WINDOW), runtime=Runtime(seed=0, threads=1)).trend


def together(counted, item):
    """Orders with each product, in the order of ITEMS."""
    found = np.zeros(len(ITEMS))
    at, orders = counted.together(item)
    found[at] = orders
    return found


def assert_equal(ours, theirs):
    np.testing.assert_allclose(ours.trend, theirs.trend, rtol=1e-6)
    np.testing.assert_array_equal(ours.orders, theirs.orders)
    for item in range(len(ITEMS)):
        np.testing.assert_array_equal(together(ours, item), together(theirs, item))


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("known", [0, 0.3, 0.9])
def test_counting_on_is_counting_again(stream, tmp_path, shuffled, known):
    stream.sort(key=lambda one: one["at"])
    if shuffled:  # late events too
        np.random.default_rng(1).shuffle(stream)
    half = int(known * len(stream))
    ours = counted(stream[:half], tmp_path / "half")
    before = ours.version
    for start in range(half, len(stream), 5):
        ours.take(lines(stream[start : start + 5]))
    ours.take(lines(stream[:20]))  # what it knows already changes nothing
    assert ours.version > before
    assert_equal(ours, counted(stream, tmp_path / "all"))
    newest = max(one["at"] for one in stream if one["kind"] == PURCHASE and one["item_id"] is not None)
    wanted = fitted(stream, newest)
    np.testing.assert_allclose(ours.trend, wanted, rtol=1e-6)
    assert len(np.unique(wanted)) > 3


def test_together_is_how_many_orders_have_both(stream, tmp_path):
    ours = counted([], tmp_path / "none")
    ours.take(lines(stream))
    orders = {}
    for one in lines(stream):
        orders.setdefault(one.order, set()).add(one.item_id)
    known = [order & set(ITEMS) for order in orders.values()]
    matrix = sp.csr_matrix(np.array([[item in order for item in ITEMS] for order in known], dtype=np.float32))
    wanted = (matrix.T @ matrix).toarray()
    np.testing.assert_array_equal([together(ours, item) for item in range(len(ITEMS))], wanted)
    np.testing.assert_array_equal(ours.orders, wanted.diagonal())
    assert wanted.sum() > 300


def test_old_purchases_leave_as_time_goes_on(tmp_path):
    day = dt.timedelta(days=1)
    old = [row(n, at=START + n * dt.timedelta(minutes=1), item="a", user=n) for n in range(4)]
    ours = counted(old, tmp_path / "old")
    assert ours.trend.tolist() == pytest.approx([1.0, *[0.2] * 5])
    ours.take(lines([row(9, at=START + 9 * day, item="b")]))
    assert ours.trend.tolist() == pytest.approx([1.0, 0.4, *[0.2] * 4])
    ours.take(lines([row(10, at=START + 13 * day, item="c")]))  # the old ones are more than ten days ago
    assert ours.trend.tolist() == pytest.approx([0.5, 1.0, 1.0, *[0.5] * 3])
    ours.take(lines([row(11, at=START, item="a", user=9)]))  # too late to count
    ours.take(lines([row(12, at=START + 20 * day, item="c")]))  # b leaves, which came since
    assert ours.trend.tolist() == pytest.approx([1 / 3, 1 / 3, 1.0, *[1 / 3] * 3])
    assert ours.orders.tolist() == [5, 1, 2, 0, 0, 0]  # orders stay


def test_it_is_counted_as_of_the_training_where_that_is_later(tmp_path):
    rows = [row(0, at=START, item="a"), row(1, at=START + dt.timedelta(days=8), item="b")]
    later = counted(rows, tmp_path / "later", as_of=START + dt.timedelta(days=12))
    assert later.trend.tolist() == pytest.approx([0.5, 1.0, *[0.5] * 4])
    assert counted(rows, tmp_path / "now").trend.tolist() == pytest.approx([1.0, 1.0, *[0.5] * 4])


def test_without_purchases_what_was_met_counts(tmp_path):
    (tmp_path / "x").mkdir()
    counts.write(frame([]), ITEMS, tmp_path / "x", as_of=None, window=WINDOW)
    met = np.array([0, 2e-3, 0, 0, 0, 0], dtype=np.float32)
    ours = counts.Counts(tmp_path / "x", INDEX, met)
    assert ours.trend.tolist() == pytest.approx(met.tolist())
    ours.take(lines([row(0, at=START, item="a"), row(0, at=START, item="b", line=1)]))
    assert ours.trend.tolist() == pytest.approx([1 / 1.002, 1.0, 0, 0, 0, 0])


def test_of_a_very_long_order_the_first_products_are_paired(tmp_path, monkeypatch):
    monkeypatch.setattr(counts, "LONGEST", 3)
    ours = counted([], tmp_path / "none")
    ours.take(lines([row(0, at=START, item=item, order="o", line=n) for n, item in enumerate("abcdef")]))
    assert ours.orders.tolist() == [1, 1, 1, 0, 0, 0]
    assert together(ours, 0).tolist() == [1, 1, 1, 0, 0, 0]


def test_what_is_no_purchase_of_a_product_is_not_counted():
    assert counts.line(row(0, at=START, item="a", kind=REFUND), 1) is None
    assert counts.line(row(0, at=START, item=None), 1) is None
    assert counts.line(row(7, at=START, item="a"), 3) == counts.Line(3, 19_723.0, "a", "e0007")
    assert counts.line(row(7, at=START, item="a", order="o1"), 3).order == "o1"


def test_the_view_moves_with_the_counts(stream, tmp_path):
    ours = counted(stream[:50], tmp_path / "x")
    state = popular.State(ITEMS, ours.trend.copy(), 30.0, 0.3, 0.2)
    bought = quick.Bought(np.array([1, 1, 4]), np.array([2.0, 40.0, 1.0]))
    view = quick.popularity(state, ours)
    np.testing.assert_allclose(view(bought).scores(), quick.ready("popular", state, ITEMS)(bought).scores(), rtol=1e-6)
    before = view(bought).scores()
    ours.take(lines(stream[50:]))
    again = dataclasses.replace(state, trend=ours.trend.copy())
    wanted = quick.ready("popular", again, ITEMS)(bought)
    np.testing.assert_allclose(view(bought).scores(), wanted.scores(), rtol=1e-6)
    np.testing.assert_allclose(view(bought).moments(), wanted.moments(), rtol=1e-5)
    assert np.abs(before - wanted.scores()).max() > 1e-3


def test_an_order_moves_the_next_answers_of_everybody_and_a_reading_says_the_same(trained):
    """Over HTTP: what everybody buys, what stands in one order; the lake read again, nothing is counted twice."""
    made = app.create(trained, read=lambda: serving.read(trained))
    with TestClient(made) as client:

        def ask(**query):
            found = client.get("/v1/recommendations", params={"n": 20, **query}).json()
            return [(one["item_id"], one["score"]) for one in found["items"]]

        def told():
            return ask(), ask(placement="bought_together", item_id="red-3"), ask(user_id="u1")

        before = told()
        for number in range(60):
            products = [{"product_id": "blue-9", "quantity": 1}, {"product_id": "red-3", "quantity": 1}]
            event = {"userId": f"v{number}", "messageId": f"m{number}", "event": "Order Completed"}
            event["properties"] = {"order_id": f"live{number}", "products": products}
            assert client.post("/v1/track", content=json.dumps(event)).status_code == 200
        after = told()
        assert [one[0][0] for one in after[:2]] == ["blue-9", "blue-9"] and before[0][0][0] != "blue-9"
        assert all(old != new for old, new in zip(before, after, strict=True))
        client.blocking_portal.call(made.state.desk.renew)
        again = told()
        for now, then in zip(again, after, strict=True):
            assert [item for item, _ in now] == [item for item, _ in then]
            np.testing.assert_allclose([s for _, s in now], [s for _, s in then], atol=2e-3)
        assert not made.state.desk._bought


def test_who_withdrew_is_not_counted(trained):
    made = app.create(trained, read=lambda: serving.read(trained))
    with TestClient(made) as client:
        desk = made.state.desk
        client.post("/v1/identify", content=json.dumps({"userId": "v", "messageId": "i", "traits": {"a": 1}}))
        said = {"userId": "v", "messageId": "x", "event": "Product Viewed", "properties": {"product_id": "red-1"}}
        client.post("/v1/track", content=json.dumps(said))
        key = client.blocking_portal.call(lambda: desk.key(user_id="v"))
        client.blocking_portal.call(desk.on_consents, [(key, "analytics", False, dt.datetime.now(dt.UTC), "test")])
        orders = desk.shop.counts.orders.copy()
        event = {"userId": "v", "messageId": "o", "event": "Order Completed"}
        event["properties"] = {"order_id": "o", "products": [{"product_id": "red-1", "quantity": 1}]}
        assert client.post("/v1/track", content=json.dumps(event)).status_code == 200
        np.testing.assert_array_equal(desk.shop.counts.orders, orders)
        client.post("/v1/track", content=json.dumps(event | {"userId": "w", "messageId": "p"}))
        assert desk.shop.counts.orders.sum() == orders.sum() + 1
    assert isinstance(desk.shop, shops.Shop)
