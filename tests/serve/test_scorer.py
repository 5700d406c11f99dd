"""From a shopper and a question to a list: as `habitue recommend` ranks, filtered, ruled, never empty."""

import dataclasses
import datetime as dt

import numpy as np
import pytest

import habitue
from habitue import serving
from habitue.encode import search
from habitue.model import blend
from habitue.serve import foretold, rules, scorer, shop, state
from habitue.serve.events import mapped
from habitue.serve.persons import Persons
from habitue.serve.problems import Problem
from habitue.serve.scorer import Filters, Question

NOW = dt.datetime(2024, 8, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="session")
def served(trained_shop):
    """The shop made ready, and its shoppers by the shop's own ids."""
    space = habitue.open(trained_shop).space
    folder = serving.read(space)
    ready = shop.opened(folder, models=space.models)
    persons = Persons(space.identities)
    everybody = state.Shoppers(mapped(folder), persons)

    def known(user_id):
        return everybody.of(persons.key("user_id", user_id))

    return ready, known


@pytest.fixture
def ask(served):
    ready, known = served

    def answer(user="u0", *rules_, **more):
        filters = Filters(**{k: more.pop(k) for k in list(more) if k in Filters.__dataclass_fields__ and k != "price"})
        shopper = user if isinstance(user, state.Shopper) or user is None else known(user)
        return scorer.recommend(ready, shopper, Question(filters=filters, **more), rules_, now=NOW)

    return answer


def rule(action, *items, **more):
    return rules.Rule("r", action, items, **more)


def problem(ask, *args, **more):
    with pytest.raises(Problem) as caught:
        ask(*args, **more)
    return caught.value


def test_home_ranks_as_the_offline_command_does(served, ask, trained_shop):
    ready, known = served
    offline = habitue.open(trained_shop)
    for user in ("u0", "u1", "u17"):
        frame = offline.recommend(user_id=user, n=20, why=False, as_of=NOW)
        past, _, trained = offline._ask(offline._tables(NOW), NOW)
        place = int(np.flatnonzero(past.histories.user_keys == offline._key(user, None))[0])
        wanted = blend.score(trained.state, past.take([place]))[0]
        found = scorer.personal(ready, known(user), now=NOW)
        assert past.items == ready.items
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
        assert (
            frame["item_id"].to_list()[:5] == [i for i in np.array(ready.items)[np.argsort(-found, kind="stable")]][:5]
        )


def test_the_two_tastes_are_told_apart(ask):
    for user, colour in (("u0", "red"), ("u1", "blue")):
        answer = ask(user, n=5)
        assert [item.split("-")[0] for item in answer.items] == [colour] * 5
        assert answer.fallback is None and answer.model == "blend" and answer.version.startswith("2024")
        assert list(answer.scores) == sorted(answer.scores, reverse=True)


def test_who_is_not_known_gets_what_everyone_buys(served, ask):
    ready, _ = served
    for nobody in (None, state.Shopper()):
        answer = ask(nobody, n=4, explain=True)
        assert answer.fallback == "popular"
        order = [i for i in np.argsort(-ready.trend, kind="stable") if ready.in_stock[i]][:4]
        assert answer.items == tuple(ready.items[i] for i in order)
        assert {r.code for some in answer.reasons for r in some} == {"popular"}


def test_an_event_changes_the_answer(served, ask):
    shopper = state.Shopper()
    for n, item in enumerate(("blue-1", "blue-2", "blue-4")):
        at = NOW - dt.timedelta(minutes=3 - n)
        shopper.add({"at": at, "event_id": f"e{n}", "line": 0, "kind": "Product Viewed", "item_id": item} | _none())
    answer = ask(shopper, n=3, placement="session")
    assert answer.fallback is None
    before = ask(shopper, n=10, placement="session").scores
    shopper.add({"at": NOW, "event_id": "e9", "line": 0, "kind": "Product Viewed", "item_id": "red-5"} | _none())
    assert ask(shopper, n=10, placement="session").scores != before
    ready, _ = served
    history = shopper.history(ready.index)
    assert [ready.items[i] for i in scorer.in_session(history, NOW)] == ["red-5", "blue-4", "blue-2", "blue-1"]
    assert scorer.in_session(history, NOW + dt.timedelta(minutes=31)) == []


def test_a_search_changes_the_answer_and_is_not_seen(served, ask):
    """What was searched just now is the visit; a product that a search names has not been looked at."""
    ready, _ = served
    assert ready.searches.vocabulary is not None
    (meant,) = search.products(ready.searches, ["blue"])
    assert meant and all(item.startswith("blue") for item in meant)
    shopper = state.Shopper()
    event = {"at": NOW, "event_id": "e0", "line": 0, "kind": search.SEARCHED, "item_id": None, "meant": meant}
    shopper.add(event | _none())
    answer = ask(shopper, n=6, placement="session")
    assert answer.fallback is None and answer.scores != ask(state.Shopper(), n=6, placement="session").scores
    assert set(scorer.in_session(shopper.history(ready.index), NOW)) == {ready.index[item] for item in meant}
    unseen = ask(shopper, n=len(ready.items), exclude=frozenset({"seen"}))
    assert set(meant) <= set(unseen.items)


def _none():
    return {"quantity": None, "value": None, "order_id": None}


def test_the_cart_is_what_was_added_and_not_removed_since_the_last_order():
    shopper = state.Shopper()
    story = [(scorer.ADDED, "a"), (scorer.ADDED, "b"), (scorer.REMOVED, "a"), (scorer.ADDED, "c"), (scorer.ADDED, "b")]
    for n, (kind, item) in enumerate(story):
        at = NOW + dt.timedelta(seconds=n)
        shopper.add({"at": at, "event_id": f"e{n}", "line": 0, "kind": kind, "item_id": item} | _none())
    places = {"a": 0, "b": 1, "c": 2}
    assert scorer.in_cart(shopper.history(places)) == [2, 1]
    shopper.add(
        {"at": NOW + dt.timedelta(1), "event_id": "z", "line": 0, "kind": "Order Completed", "item_id": "b"} | _none()
    )
    assert scorer.in_cart(shopper.history(places)) == []


def test_similar_and_bought_together_are_of_the_items_taste_and_without_it(ask):
    for placement in ("similar", "bought_together"):
        answer = ask(None, placement=placement, item_id="red-1", n=5, explain=True)
        assert "red-1" not in answer.items and answer.fallback is None
        assert answer.reasons[0][0].code == placement and "red bowl b" in answer.reasons[0][0].text
    assert all(item.startswith("red") for item in answer.items)


def test_bought_together_is_the_cosine_of_the_orders_and_ten_more_of_each(served, trained_shop):
    ready, _ = served
    events = habitue.open(trained_shop)._tables(NOW).events
    a, b = ready.index["red-1"], ready.index["red-2"]
    orders = {}
    for row in events.iter_rows(named=True):
        orders.setdefault(row["item_id"], set()).add(row["order_id"])
    both = orders["red-1"] & orders["red-2"]
    wanted = len(both) / np.sqrt((len(orders["red-1"]) + 10) * (len(orders["red-2"]) + 10))
    assert shop.together(ready, a).scores()[b] == pytest.approx(wanted, rel=1e-6) and wanted > 0


def test_a_product_nobody_buys_together_with_anything_gets_what_everyone_buys(ask):
    assert ask(None, placement="bought_together", item_id="blue-9", n=3).fallback == "popular"


def test_the_cart_placement_asks_what_goes_with_it(ask):
    answer = ask(None, placement="cart", item_ids=("blue-1", "blue-2"), n=4)
    assert answer.fallback is None and all(item.startswith("blue") for item in answer.items)
    assert ask(None, placement="cart", n=4).fallback == "popular"


def test_the_cart_counts_for_seven_tenths(served, ask):
    ready, _ = served

    def told(user, **more):
        answer = ask(user, n=len(ready.items), **more)
        return np.array([score for _, score in sorted(zip(answer.items, answer.scores, strict=True))])

    cart = {"placement": "cart", "item_ids": ("blue-1", "red-2")}
    around, own, both = told(None, **cart), told("u0"), told("u0", **cart)
    apart = [
        np.std(both - np.polyval(np.polyfit(one, both, 1), one)) for one in (0.7 * around + 0.3 * own, around, own)
    ]
    assert apart[0] < 1e-4 and min(apart[1:]) > 0.01  # scores of a list have mean 0 and spread 1: up to that they agree


def test_without_a_model_a_list_says_what_it_is_near_to(served):
    """A visitor of a shop that never trained: words and orders rank, and are not called popularity."""
    ready, known = served
    bare = dataclasses.replace(
        ready, snapshot=dataclasses.replace(ready.snapshot, state=None), reader=None, vectors=None
    )

    def told(placement, **more):
        return scorer.recommend(
            bare, known("u0"), Question(placement=placement, n=2, explain=True, **more), (), now=NOW
        )

    similar, together = told("similar", item_id="blue-1"), told("bought_together", item_id="blue-1")
    assert (similar.model, similar.fallback) == ("words" if bare.past.words is not None else "orders", None)
    assert {r.code for some in similar.reasons for r in some} == {"similar"}
    assert (together.model, together.reasons[0][0].code) == ("orders", "bought_together")
    cart = told("cart", item_ids=("blue-1", "red-1"))
    assert cart.model == "orders" and cart.reasons[0][0].text.startswith("Bought together with ")
    assert 0 < cart.reasons[0][0].weight <= 1
    assert (told("home").model, told("home").fallback) == ("popular", "popular")


def test_search_orders_what_was_found(ask):
    found = ("blue-1", "red-2", "blue-3", "red-4", "not-there")
    answer = ask("u0", placement="search", item_ids=found)
    assert set(answer.items) == set(found) - {"not-there"}
    assert [item.split("-")[0] for item in answer.items] == ["red", "red", "blue", "blue"]
    assert problem(ask, "u0", placement="search", item_ids=("nope",)).code == "unknown_item"


class TestFilters:
    def test_category_and_below(self, ask):
        assert {i[-1] for i in ask("u0", n=20, category="Table > Cups").items} <= set("0369")
        assert len(ask("u0", n=20, category="Table").items) == 18

    def test_brand_and_price(self, ask):
        answer = ask("u0", n=20, brand="Blue", price_from=4, price_to=6)
        assert set(answer.items) == {"blue-2", "blue-3", "blue-4"} and answer.fallback is None

    def test_bought_and_seen_and_given_ones(self, ask, served):
        _, known = served
        bought = {item for one in known("u0").sets for item in one.items}
        answer = ask("u0", n=20, exclude=frozenset({"bought"}), without=("blue-1",))
        assert not bought & set(answer.items) and "blue-1" not in answer.items and len(answer.items) > 3

    def test_out_of_stock_is_never_shown(self, ask):
        assert {"red-8", "blue-8"}.isdisjoint(ask("u0", n=1000).items) and len(ask("u0", n=1000).items) == 18

    def test_a_filter_that_fits_nothing_is_left_out_and_said(self, ask):
        answer = ask("u0", n=3, category="Garden")
        assert answer.fallback == "unfiltered" and answer.items == ask("u0", n=3).items
        found = problem(ask, "u0", category="Garden", strict=True)
        assert (found.status, found.code) == (404, "nothing_matches")


class TestRules:
    def test_pin(self, ask):
        answer = ask("u0", rule("pin", "blue-9", number=2), rule("pin", "red-8", number=1), n=4)
        plain = ask("u0", n=4).items
        assert answer.items == (plain[0], "blue-9", *plain[1:3])  # red-8 is out of stock

    def test_boost_and_bury(self, ask):
        assert ask("u0", rule("boost", brand="Blue", number=50.0), n=3).items[0].startswith("blue")
        buried = ask("u0", rule("bury", category="Table > Cups"), n=18).items
        assert {i[-1] for i in buried[-8:]} <= set("0369") and {i[-1] for i in buried[:10]}.isdisjoint("0369")

    def test_exclude_and_stock(self, ask):
        first = ask("u0", n=1).items[0]
        assert first not in ask("u0", rule("exclude", first), n=20).items
        assert first not in ask("u0", rule("stock", first, number=0.0), n=20).items
        assert "red-8" in ask("u0", rule("stock", "red-8", number=3.0), n=20).items

    def test_a_rule_of_one_placement_holds_there_alone(self, ask):
        only = rule("exclude", brand="Red", placement="similar")
        assert ask("u0", only, n=3).items[0].startswith("red")
        assert {i[:4] for i in ask("u0", only, placement="similar", item_id="red-1", n=20).items} == {"blue"}

    def test_everything_excluded_is_an_error_in_words(self, ask):
        assert problem(ask, "u0", rule("exclude", category="Table")).code == "no_products"


def test_diversity_holds_back_what_is_alike(served, ask):
    ready, _ = served

    def likeness(items):
        vectors = ready.vectors[[ready.index[i] for i in items]]
        return float((vectors @ vectors.T)[np.triu_indices(len(items), 1)].mean())

    plain, mixed = ask("u0", n=4).items, ask("u0", n=4, diversity=0.9).items
    assert mixed[0] == plain[0] and likeness(mixed) < likeness(plain)
    assert ask("u0", n=4, diversity=1e-9).items == plain


def test_the_price_knob_raises_what_is_dear(served, ask):
    ready, _ = served

    def mean(answer):
        return np.mean([ready.price[ready.index[i]] for i in answer.items])

    assert mean(ask("u0", n=5, price=1.0)) > mean(ask("u0", n=5)) > mean(ask("u0", n=5, price=-1.0))


def test_reasons_are_products_of_the_history_that_a_deletion_confirms(ask, served):
    _, known = served
    answer = ask("u0", n=3, explain=True)
    titles = {f"Because of {t}" for t in served[0].titles}
    told = [r for some in answer.reasons for r in some]
    assert told and all(r.code == "bought" and r.text in titles for r in told)
    assert ask("u0", n=3).reasons == ()


def test_predictions_are_those_of_the_offline_command(served, trained_shop):
    ready, known = served
    offline = habitue.open(trained_shop)
    for task in ("churn", "value"):
        frame = offline.predict(task, as_of=NOW)
        for user in ("u0", "u7"):
            wanted = next(row for row in frame.to_dicts() if row["user_id"] == user)
            assert foretold.predictions(ready, [known(user)], now=NOW)[0][task] == pytest.approx(
                wanted["score"], rel=1e-3
            )


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"n": 0}, "bad_n"),
        ({"n": 10**9}, "bad_n"),
        ({"placement": "nowhere"}, "bad_placement"),
        ({"item_id": "x" * 257}, "bad_too_long"),
        ({"item_ids": ("x",) * 1001}, "bad_too_many"),
        ({"diversity": 1.5}, "bad_diversity"),
        ({"diversity": float("nan")}, "bad_diversity"),
        ({"price": -2.0}, "bad_price"),
        ({"placement": "similar"}, "bad_item_id"),
        ({"placement": "search"}, "bad_item_ids"),
        ({"price_from": 3.0, "price_to": 2.0}, "bad_price_from"),
        ({"price_from": float("nan")}, "bad_price_from"),
        ({"exclude": frozenset({"sold"})}, "bad_exclude"),
    ],
)
def test_a_question_that_cannot_be_meant_is_refused_in_words(ask, more, code):
    found = problem(ask, None, **more)
    assert (found.status, found.code) == (400, code) and len(found.message) > 10


def test_an_unknown_item_is_said(ask):
    found = problem(ask, None, placement="similar", item_id="nope")
    assert (found.status, found.code) == (404, "unknown_item")
