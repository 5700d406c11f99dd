"""A shortlist of a large catalogue: what it misses is measured, filters and rules hold, and no list becomes empty."""

import dataclasses
import datetime as dt
import json
import logging
import sys

import numpy as np
import pytest
from litestar.testing import TestClient

import habitue
from habitue import serving
from habitue.model.quick import Told
from habitue.serve import app, personal, rules, scorer, shortlist, state
from habitue.serve import shop as shops
from habitue.serve.events import mapped
from habitue.serve.persons import Persons
from habitue.serve.scorer import Filters, Question

NOW = dt.datetime(2024, 8, 1, tzinfo=dt.UTC)
NONE = np.zeros(0, dtype=np.int64)


def planted(products, *, width=16, tastes=60, seed=0):
    """Vectors of products around tastes, and questions of the same tastes."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(tastes, width))
    table = centre[rng.integers(0, tastes, products)] + 0.3 * rng.normal(size=(products, width))
    asked = centre[rng.integers(0, tastes, 30)] + 0.3 * rng.normal(size=(30, width))
    return table.astype(np.float32), asked.astype(np.float32)


@pytest.fixture
def faiss():
    return pytest.importorskip("faiss", reason="the extra `retrieval` is not installed")


@pytest.fixture
def filed(faiss, tmp_path):
    """20,000 products in an inverted file, and the questions."""
    table, asked = planted(20_000)
    shortlist.write(table, tmp_path, before=None)
    trend = np.random.default_rng(1).uniform(size=len(table)).astype(np.float32)
    return dataclasses.replace(shortlist.opened(tmp_path, trend), probes=32), table, asked, tmp_path


def test_the_best_products_are_found_among_those_that_fit(filed):
    opened, table, asked, _ = filed
    for fits in (np.ones(len(table), dtype=bool), np.arange(len(table)) % 3 == 0):
        shares = []
        for question in asked:
            wanted = np.argsort(np.where(fits, -(table @ question), np.inf))[:100]
            found = shortlist.found(opened, question, fits, 400)
            assert fits[found].all() and len(np.unique(found)) == len(found) == 400
            shares.append(np.isin(wanted, found).mean())
        assert np.mean(shares) >= 0.97


def test_what_is_found_is_little_of_the_catalogue(filed):
    """It would be no shortlist if every cell were looked into."""
    opened, table, asked, _ = filed
    fewer = dataclasses.replace(opened, probes=1)
    missed = [np.isin(np.argsort(-(table @ q))[:100], shortlist.found(fewer, q, table[:, 0] < 9, 400)) for q in asked]
    assert 0.2 < np.mean(missed) < 0.97


def test_a_later_catalogue_keeps_the_centres_and_finds_what_is_new(filed, tmp_path):
    opened, table, asked, folder = filed
    later = tmp_path / "later"
    later.mkdir()
    more = np.concatenate([table, 3 * asked[:1]])  # a new product that the first question wants most
    shortlist.write(more, later, before=folder / shortlist.FILE)
    again = shortlist.opened(later, np.ones(len(more), dtype=np.float32))
    np.testing.assert_array_equal(
        again.index.quantizer.reconstruct_n(0, again.index.nlist),
        opened.index.quantizer.reconstruct_n(0, opened.index.nlist),
    )
    assert shortlist.found(again, asked[0], np.ones(len(more), dtype=bool), 10)[0] == len(table)


def test_candidates_are_united_and_fit(filed):
    opened, table, asked, _ = filed
    fits = np.ones(len(table), dtype=bool)
    fits[:7_000] = False
    told = Told(len(table), np.array([3, 7_003, 19_999]), np.ones(3, dtype=np.float32))
    raised = np.zeros(len(table), dtype=bool)
    raised[9_000:9_010] = True
    found = shortlist.candidates(
        opened, asked[0], [told], fits=fits, count=50, more=np.array([5, 7_005]), raised=raised
    )
    assert (np.diff(found) > 0).all() and fits[found].all()
    assert {7_003, 19_999, 7_005, *range(9_000, 9_010)} <= set(found.tolist())
    popular = opened.leading[fits[opened.leading]][:20]
    assert set(popular.tolist()) <= set(found.tolist())
    assert shortlist.NEAR <= len(found) < 2 * shortlist.NEAR


def test_of_a_view_that_speaks_of_very_many_the_best_are_taken(filed, monkeypatch):
    opened, table, asked, _ = filed
    monkeypatch.setattr(shortlist, "MANY", 5_000)
    added = np.random.default_rng(0).uniform(size=len(table)).astype(np.float32)
    told = Told(len(table), np.arange(len(table)), added)
    every = np.ones(len(table), dtype=bool)
    found = shortlist.candidates(opened, asked[0], [told], fits=every, count=50, more=NONE, raised=None)
    assert set(np.argsort(-added)[: shortlist.NEAR].tolist()) <= set(found.tolist())
    assert len(found) < 4 * shortlist.NEAR


def test_where_few_fit_all_of_them_are_scored(filed):
    opened, table, asked, _ = filed
    fits = np.arange(len(table)) < 4_000
    found = shortlist.candidates(opened, asked[0], [], fits=fits, count=10, more=NONE, raised=None)
    np.testing.assert_array_equal(found, np.arange(4_000))


def test_a_sample_stands_for_what_was_not_chosen():
    places, chosen = np.array([1, 4, 6, 9]), np.array([1, 6])
    np.testing.assert_allclose(shortlist.weights(places, chosen, 12), [1, 5, 1, 5])
    np.testing.assert_allclose(shortlist.weights(chosen, chosen, 12), [1, 1])


@pytest.fixture
def large(faiss, trained, monkeypatch):
    """The trained shop of 20 products as if that were too many."""
    text = trained.plan.read_text()
    trained.plan.write_text(text.replace("[blend]", "[serve]\nexact_products = 5\n\n[blend]", 1))
    monkeypatch.setattr(shortlist, "FEW", 0)
    monkeypatch.setattr(shortlist, "NEAR", 4)
    monkeypatch.setattr(shortlist, "TIMES", 1)
    return trained


@pytest.fixture
def served(large):
    """The shop with a shortlist, the same without, and its customers."""
    folder = serving.read(large)
    ready = shops.opened(folder, models=large.models)
    persons = Persons(large.identities)
    everybody = state.Shoppers(mapped(folder), persons)
    assert ready.shortlist is not None
    return ready, dataclasses.replace(ready, shortlist=None), lambda name: everybody.of(persons.key("user_id", name))


def ask(shop, shopper, *ruled, **more):
    filters = Filters(**{k: more.pop(k) for k in list(more) if k in Filters.__dataclass_fields__ and k != "price"})
    return scorer.recommend(shop, shopper, Question(filters=filters, **more), ruled, now=NOW)


def test_where_the_sample_is_the_catalogue_the_scores_are_the_exact_ones(served):
    ready, exact, known = served
    every = np.ones(len(ready.items), dtype=bool)
    assert len(ready.shortlist.sample) == len(ready.items)
    for user in ("u0", "u1", "u7"):
        found = personal.shortened(ready, known(user), personal.Sought(every, 3), now=NOW)
        wanted = personal.personal(exact, known(user), now=NOW)
        assert found.places.tolist() == list(range(len(ready.items)))
        np.testing.assert_allclose(found.scores, (wanted - wanted.mean()) / wanted.std(), rtol=1e-3, atol=1e-4)
        short, whole = ask(ready, known(user), n=8), ask(exact, known(user), n=8)
        assert short.items == whole.items and short.fallback is None and short.model == "blend"
        np.testing.assert_allclose(short.scores, whole.scores, atol=1e-4)


def test_a_smaller_sample_estimates_the_scores(served, monkeypatch):
    ready, exact, known = served
    some = dataclasses.replace(ready, shortlist=dataclasses.replace(ready.shortlist, sample=np.array([2, 9, 13, 18])))
    every = np.ones(len(ready.items), dtype=bool)
    found = personal.shortened(some, known("u0"), personal.Sought(every, 3), now=NOW)
    wanted = personal.personal(exact, known("u0"), now=NOW)
    assert 3 < len(found.places) < len(ready.items)
    wanted = ((wanted - wanted.mean()) / wanted.std())[found.places]
    assert np.corrcoef(found.scores, wanted)[0, 1] > 0.99
    assert np.abs(found.scores - wanted).max() < 0.6


@pytest.mark.parametrize(
    "more",
    [
        {"brand": "Blue"},
        {"category": "Table > Bowls"},
        {"price_to": 6.0},
        {"exclude": frozenset({"bought"})},
        {"without": ("red-1", "blue-2")},
        {"diversity": 0.7},
        {"price": 0.9},
        {"placement": "search", "item_ids": ("blue-3", "red-7", "blue-1")},
        {"temperature": 0.3, "seed": 3},
        {"placement": "session"},
        {"placement": "cart", "item_ids": ("blue-3",)},
    ],
)
def test_filters_and_knobs_hold(served, more):
    ready, exact, known = served
    short, whole = ask(ready, known("u1"), n=3, **dict(more)), ask(exact, known("u1"), n=3, **dict(more))
    assert short.items == whole.items and short.fallback == whole.fallback
    np.testing.assert_allclose(short.scores, whole.scores, atol=1e-4)
    np.testing.assert_allclose(short.chances, whole.chances, rtol=1e-3)


@pytest.mark.parametrize("share", [0.4, 0.7])
def test_what_is_near_is_on_the_shortlist_and_mixed_as_in_the_exact_list(served, share, monkeypatch):
    """Of products that only the cart or the visit speaks for, too: a blend that finds none of them misses none."""
    ready, exact, known = served
    near = np.zeros(len(ready.items), dtype=np.float32)
    near[[3, 16, 17]] = [0.5, 2.0, 1.0]
    own = personal.personal(exact, known("u1"), now=NOW)
    wanted = share * near / near.std() + (1 - share) * own / own.std()
    every = np.ones(len(ready.items), dtype=bool)
    for many in (20_000, 1):  # all that are near, or the best of them
        monkeypatch.setattr(shortlist, "MANY", many)
        found = personal.mixed(ready, known("u1"), near, share, personal.Sought(every, 3), now=NOW)
        best = np.argsort(-wanted)[:5]
        np.testing.assert_array_equal(found.places[np.argsort(-found.scores)[:5]], best)
    some = dataclasses.replace(ready, shortlist=dataclasses.replace(ready.shortlist, sample=np.array([2, 9])))
    monkeypatch.setattr(shortlist, "candidates", lambda *a, more, **m: np.unique(more))
    found = personal.mixed(some, known("u1"), near, share, personal.Sought(every, 3), now=NOW)
    assert {3, 16, 17} <= set(found.places.tolist()) and len(found.places) < len(ready.items)


def test_what_is_sought_is_what_candidates_are_looked_for_by(served, monkeypatch):
    """Two products that rules pin and raise: a shortlist that is not told of them would lose them."""
    ready, _, known = served
    fits, raised, asked = np.arange(len(ready.items)) != 4, np.arange(len(ready.items)) == 7, []

    def candidates(*_, **told):
        asked.append(told)
        return np.unique(told["more"])

    monkeypatch.setattr(shortlist, "candidates", candidates)
    personal.shortened(ready, known("u0"), personal.Sought(fits, 1, np.array([16]), raised), now=NOW)
    (told,) = asked
    assert told["fits"] is fits and told["raised"] is raised and told["count"] == 1 and 16 in told["more"]


@pytest.mark.parametrize(
    "rule",
    [
        rules.Rule("r", "pin", ("blue-9",), number=2),
        rules.Rule("r", "boost", brand="Blue", number=5.0),
        rules.Rule("r", "bury", brand="Red"),
        rules.Rule("r", "exclude", ("red-4", "red-6")),
        rules.Rule("r", "stock", ("red-8",), number=3),
        rules.Rule("r", "stock", ("red-5",), number=0),
    ],
)
def test_rules_hold(served, rule):
    ready, exact, known = served
    short, whole = ask(ready, known("u0"), rule, n=6), ask(exact, known("u0"), rule, n=6)
    assert short.items == whole.items
    assert short.items != ask(exact, known("u0"), n=6).items or rule.items == ("red-8",)


def test_a_shortlist_that_is_too_short_is_not_used(served, monkeypatch):
    ready, exact, known = served
    whole = ask(exact, known("u1"), n=6, brand="Blue")
    monkeypatch.setattr(shortlist, "candidates", lambda *args, **more: np.array([12]))
    assert ask(ready, known("u1"), n=6, brand="Blue").items == whole.items
    assert len(ask(ready, known("u1"), n=6, brand="Blue").items) == 6


def test_its_recall_is_measured_kept_and_shown(large):
    with TestClient(app.create(large, read=lambda: serving.read(large))) as client:
        told = client.get("/health/ready").json()["retrieval"]
        text = client.get("/metrics").text
        assert client.get("/v1/recommendations", params={"user_id": "u0", "n": 3}).json()["model"] == "blend"
    assert told["scored"] == "shortlist" and told["products"] == 20
    assert 0 < told["recall_at_10"] <= 1 and 0 < told["recall_at_100"] <= 1
    assert 0 < told["recall_at_100_session"] <= 1
    assert f'habitue_retrieval_recall{{at="100",placement="cart"}} {told["recall_at_100_cart"]:g}' in text
    assert f'habitue_retrieval_recall{{at="10",placement="home"}} {told["recall_at_10"]:g}' in text
    assert f'habitue_retrieval_recall{{at="100",placement="home"}} {told["recall_at_100"]:g}' in text


def test_the_measure_sees_what_is_missed(served, large, monkeypatch):
    ready, _, _ = served
    base = mapped(max(large.state.glob(f"{shops.FOLDER}*")))
    whole = personal.measured(ready, base, now=NOW)
    assert (whole.at_10, whole.at_100, whole.customers) == (1.0, 1.0, 40)
    assert whole.probes == shortlist.PROBES[0]
    assert whole.cart_at_100 == whole.session_at_100 == 1.0
    asked = []

    def blind(tried, shopper, sought, *, now):
        asked.append(tried.shortlist.probes)
        return personal.Shortened(np.arange(12), np.arange(12, dtype=np.float32), np.ones(12))

    monkeypatch.setattr(personal, "shortened", blind)
    worse = personal.measured(ready, base, now=NOW)
    assert 0 < worse.at_10 < 0.9 and 0.3 < worse.at_100 < 0.7
    assert 0.3 < worse.cart_at_100 <= 0.8 and 0.3 < worse.session_at_100 <= 0.8
    assert worse.probes == shortlist.PROBES[-1] and sorted(set(asked)) == list(shortlist.PROBES)


def test_carts_are_measured_by_orders_and_visits_by_likeness(served, large, monkeypatch):
    ready, _, _ = served
    monkeypatch.setattr(personal, "_beside", lambda shop, shoppers, near_to, share, *, now: (near_to, share))
    told = personal.measured(ready, mapped(max(large.state.glob(f"{shops.FOLDER}*"))), now=NOW)
    assert told.cart_at_100 == (personal.paired, personal.CART_SHARE)
    assert told.session_at_100 == (shops.around, personal.SESSION_SHARE)


def test_a_recall_of_nobody_is_not_shown(served):
    ready, _, _ = served
    nobody = shortlist.Recall(1.0, 1.0, 0, 512)
    asked = dataclasses.replace(ready, shortlist=dataclasses.replace(ready.shortlist, recall=nobody))
    assert asked.retrieval == {"products": 20, "scored": "shortlist"}


def test_a_bad_recall_is_warned_of(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="habitue.serve"):
        shortlist.keep(shortlist.Recall(0.99, 0.96, 50, 32), tmp_path)
        assert not caplog.records
        shortlist.keep(shortlist.Recall(0.93, 0.9, 50, 512), tmp_path)
    assert "shortlists miss products: recall@10 0.930, recall@100 0.900 of the exact lists of 50" in caplog.text
    assert json.loads((tmp_path / shortlist.ABOUT).read_text())["at_100"] == 0.9


def test_without_faiss_every_product_is_scored_and_that_is_said_once(trained, monkeypatch, caplog):
    text = trained.plan.read_text()
    trained.plan.write_text(text.replace("[blend]", "[serve]\nexact_products = 5\n\n[blend]", 1))
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(shortlist, "_said", set())
    with caplog.at_level(logging.WARNING, logger="habitue.serve"):
        folder = serving.read(trained)
        serving.read(trained)
    assert sum("every answer scores all 20 products" in record.message for record in caplog.records) == 1
    assert "habitue[retrieval]" in caplog.text
    ready = shops.opened(folder, models=trained.models)
    assert ready.shortlist is None and ready.retrieval == {"products": 20, "scored": "all"}


def test_a_catalogue_that_is_not_large_has_none(trained_shop):
    space = habitue.open(trained_shop).space
    ready = shops.opened(serving.read(space), models=space.models)
    assert ready.shortlist is None and not list(space.state.glob(f"*/{shortlist.FILE}"))
