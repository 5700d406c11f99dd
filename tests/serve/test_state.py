"""A day replayed event by event agrees with the same day read from the lake."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from habitue import prepare, quality
from habitue.core.runtime import Runtime
from habitue.core.schemas import EVENTS, FEATURES, LABELS, PURCHASE, REFUND
from habitue.encode import search, text
from habitue.model import behaviour, live
from habitue.model.past import Past, histories
from habitue.prepare.declared import LEDGER
from habitue.protect import identities, people
from habitue.serve import state
from habitue.serve.events import lay_out, mapped, mark
from habitue.serve.persons import Persons

ITEMS = tuple("abcdef")
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
UTC = dt.UTC


def row(number, *, at, user=1, **more):
    made = dict.fromkeys(EVENTS.schema) | {"event_id": f"e{number:04d}", "line": 0, "at": at, "user_key": user}
    made |= {"kind": PURCHASE, "source": "test", "import_id": "test", "received_at": at} | more
    if "value" not in more and made["quantity"] is not None and made["price"] is not None:
        made["value"] = made["quantity"] * made["price"]
    return made


@pytest.fixture
def stream():
    """Ninety odd events of two people: baskets of several lines, views, refunds, wrong rows, repeats; some late."""
    rng = np.random.default_rng(3)
    rows, number = [], 0
    for _ in range(60):
        at = START + dt.timedelta(hours=int(rng.integers(0, 400)))
        kind = [PURCHASE, PURCHASE, REFUND, "Product Viewed", "Products Searched"][rng.integers(5)]
        user = int(rng.integers(1, 3))
        for line in range(rng.integers(1, 4)):
            item = None if kind == "Products Searched" else str(rng.choice(list("abcdefg")))
            quantity = None if kind[:8] == "Products" else float(rng.integers(-1, 4))
            price = None if kind[:8] == "Products" else float(rng.integers(0, 5))
            told = {"kind": kind, "item_id": item, "quantity": quantity, "price": price, "order_id": f"o{number // 3}"}
            rows.append(row(number, at=at, user=user, **told) | {"line": line, "event_id": f"e{number // 3:04d}"})
            number += 1
    again = [one | {"event_id": f"r{n}", "line": 0} for n, one in enumerate(rows[50:62:3])]  # exact repeats
    return rows[:62] + again + rows[62:]


def laid_out(events, tmp_path, searches=None, **more):
    folder = tmp_path / f"state-{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    lay_out(events, folder, searches=searches, **more)
    return mapped(folder)


@pytest.fixture
def shoppers(tmp_path):
    def make(rows=(), **more):
        frame = EVENTS.shape(pl.DataFrame(list(rows), schema=EVENTS.schema))
        clean, _ = quality.clean(frame)
        base = laid_out(clean, tmp_path, more.get("searches"))
        return state.Shoppers(base, Persons(tmp_path / "identities.sqlite"), **more)

    return make


def offline(rows, user):
    """What the tables say of one user, the offline way."""
    clean, _ = quality.clean(EVENTS.shape(pl.DataFrame(rows, schema=EVENTS.schema)))
    mine = clean.filter(pl.col("user_key") == user)
    return mine, histories(prepare.timeline(mine), ITEMS, users=[user])


def assert_equal(history, wanted):
    for name in ("set_start", "set_at", "row_start", "row_item", "row_quantity", "row_value"):
        np.testing.assert_array_equal(getattr(history, name), getattr(wanted, name), err_msg=name)
    kinds = [[h.kinds[k] for k in h.set_kind] for h in (history, wanted)]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("in_base", [0, 40, 10_000])
@pytest.mark.parametrize("asked_first", [False, True])
def test_sets_and_features_are_those_of_the_tables(stream, shoppers, in_base, asked_first):
    everybody = shoppers(stream[:in_base])
    if asked_first:
        for user in (1, 2):
            everybody.of(user).values(START + dt.timedelta(days=400))
    for at in range(in_base, len(stream), 7):
        everybody.take(stream[at : at + 7])
    index = {item: place for place, item in enumerate(ITEMS)}
    moment = START + dt.timedelta(days=30)
    for user in (1, 2):
        mine, wanted = offline(stream, user)
        shopper = everybody.of(user)
        assert len(shopper.rows) == mine.height > 20
        assert_equal(shopper.history(index), wanted)
        bought, (item, when) = wanted.of_kind(PURCHASE), shopper.purchases(index)
        np.testing.assert_array_equal(item, bought.row_item)
        np.testing.assert_array_equal(when, bought.set_at[bought.row_set])
        assert shopper.known(index) and not shopper.known({})
        table = prepare.features(mine, as_of=moment).to_dicts()[0]
        found = shopper.values(moment)
        for feature in LEDGER:
            if table[feature.name] is None:
                assert found[feature.name] is None, feature.name
            else:
                assert found[feature.name] == pytest.approx(table[feature.name], rel=1e-9, abs=1e-9), feature.name
        assert shopper.values(moment) == found  # asked again, from what is kept


@pytest.fixture
def searches():
    titles = ["red lamp", "blue lamp", "mug", "red mug", None, "rug"]
    return search.index(text.encode(pl.DataFrame({"item_id": list(ITEMS), "title": titles})))


@pytest.mark.parametrize("in_base", [0, 3, 10])
@pytest.mark.parametrize("asked_first", [False, True])
def test_a_search_is_a_set_of_the_products_it_means_as_in_the_tables(shoppers, searches, in_base, asked_first):
    said = [("Products Searched", None, "lamps"), ("Product Viewed", "f", None), ("Products Searched", None, "bicycle")]
    said += [("Products Searched", None, "mug"), (PURCHASE, "d", None), ("Products Searched", "c", "rug")]
    stream = [
        row(n, at=START + dt.timedelta(hours=n // 2), kind=kind, item_id=item, query=query)
        for n, (kind, item, query) in enumerate(said)
    ]
    everybody = shoppers(stream[:in_base], searches=searches)
    index = {item: place for place, item in enumerate(ITEMS)}
    if asked_first:
        everybody.of(1).history(index)
    for one in stream[in_base:]:
        everybody.take([one])
        if asked_first:
            everybody.of(1).history(index)
    mine, blind = offline(stream, 1)
    wanted = histories(prepare.timeline(search.meant(mine, searches)), ITEMS, users=[1])
    assert_equal(everybody.of(1).history(index), wanted)
    assert len(wanted.set_at) == 5 and len(wanted.row_item) == 2 + 1 + 2 + 1 + 1 and len(blind.set_at) == 3
    table = prepare.features(mine, as_of=START + dt.timedelta(days=3)).to_dicts()[0]
    assert everybody.of(1).values(START + dt.timedelta(days=3))["lines"] == table["lines"]  # a search is one line


def test_a_moment_in_the_past_counts_only_what_came_before_it(stream, shoppers):
    everybody = shoppers(stream)
    moment = START + dt.timedelta(days=5)
    early, _ = offline([one for one in stream if one["at"] < moment], 1)
    table = prepare.features(early, as_of=moment).to_dicts()[0]
    assert everybody.of(1).values(moment)["lines"] == table["lines"] > 0


class TestMemory:
    @pytest.fixture
    def reader(self):
        rng = np.random.default_rng(0)
        rows = [
            row(
                n,
                at=START + dt.timedelta(hours=float(h)),
                user=int(n % 9),
                item_id=ITEMS[rng.integers(6)],
                quantity=1.0,
            )
            for n, h in enumerate(np.sort(rng.uniform(0, 2000, 150)))
        ]
        timeline = prepare.timeline(EVENTS.shape(pl.DataFrame(rows, schema=EVENTS.schema)))
        past = Past(
            as_of=START + dt.timedelta(days=90),
            horizon_days=30,
            items=ITEMS,
            histories=histories(timeline, ITEMS),
            known=np.ones(9, dtype=bool),
            words=None,
            features=FEATURES.empty(),
            train_features=FEATURES.empty(),
            train_labels=LABELS.empty(),
        )
        config = behaviour.Config(width=16, steps=5, content=0, window=8)
        return live.reader(behaviour.fit(past, config, runtime=Runtime(seed=1, threads=1)), past)

    def test_it_is_the_memory_of_the_whole_history_after_any_event(self, stream, shoppers, reader):
        everybody = shoppers(stream[:30])
        index = {item: place for place, item in enumerate(ITEMS)}
        met = stream[:30]
        at = START.timestamp() / 86_400 + 500
        for one in stream[30:]:  # line by line: a basket grows under a memory that has met it
            everybody.take([one])
            met.append(one)
            user = one["user_key"]
            found = live.ask(reader, everybody.of(user).remembered(reader, index), at=at)
            _, whole = offline(met, user)
            sets = [
                live.Set(
                    float(whole.set_at[s]),
                    whole.kinds[whole.set_kind[s]],
                    *(c[whole.row_start[s] : whole.row_start[s + 1]] for c in told(whole)),
                )
                for s in range(len(whole.set_at))
            ]
            wanted = live.ask(reader, live.resume(reader, sets), at=at)
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)

    def test_another_reader_gets_a_memory_of_its_own(self, stream, shoppers, reader):
        shopper = shoppers(stream).of(1)
        index = {item: place for place, item in enumerate(ITEMS)}
        first = shopper.remembered(reader, index)
        assert shopper.remembered(reader, index) is first
        other = live.Reader(reader.state, reader.model, reader.blocks, reader.products, reader.swift)
        assert shopper.remembered(other, index) is not first
        assert shopper.remembered(other, index).sets == first.sets


def told(whole):
    return whole.row_item, whole.row_quantity, whole.row_value


def test_who_logs_in_brings_what_the_visitor_did(tmp_path, shoppers):
    path = tmp_path / "identities.sqlite"
    named = pl.Series(["v", "u", "w"])
    visitor, user, other = identities.keys_for(path, "id", named, linked_at=START, source="test").to_list()
    everybody = shoppers([row(1, at=START, user=visitor, item_id="a"), row(2, at=START, user=user, item_id="b")])
    assert [r["item_id"] for r in everybody.of(visitor).rows] == ["a"]
    with identities.book(path) as book:
        pair = pl.DataFrame({"user_key": [visitor], "became": [user], "at": [START]})
        people.claim(book, pair, source="test")
    everybody.take([row(3, at=START + dt.timedelta(hours=1), user=visitor, item_id="c")])
    assert everybody.of(visitor) is everybody.of(user)
    assert [r["item_id"] for r in everybody.of(user).rows] == ["a", "b", "c"]
    number = people.merge(path, other, into=user, at=START, source="operator")
    assert everybody.of(other) is everybody.of(visitor)
    people.undo(path, number, at=START)
    everybody.persons._checked = -100.0  # half a minute has gone by
    identities.keys_for(path, "id", pl.Series(["z"]), linked_at=START, source="test")
    assert everybody.of(other) is not everybody.of(user)


def test_a_visitor_alone_is_what_was_done_under_the_key_before_and_after_a_login(tmp_path, shoppers):
    path = tmp_path / "identities.sqlite"
    named = pl.Series(["v", "u"])
    visitor, user = identities.keys_for(path, "id", named, linked_at=START, source="test").to_list()
    everybody = shoppers([row(1, at=START, user=visitor, item_id="a"), row(2, at=START, user=user, item_id="b")])
    assert everybody.alone(visitor) is everybody.of(visitor)  # nobody else's: one memory
    with identities.book(path) as book:
        people.claim(book, pl.DataFrame({"user_key": [visitor], "became": [user], "at": [START]}), source="test")
    alone = everybody.alone(visitor)
    index = {item: place for place, item in enumerate(ITEMS)}
    assert alone.history(index).row_item.tolist() == [0]
    assert everybody.of(visitor).history(index).row_item.tolist() == [0, 1]
    for number, (who, item) in enumerate(((visitor, "c"), (user, "d")), 3):
        everybody.take([row(number, at=START + dt.timedelta(hours=number), user=who, item_id=item)])
    assert everybody.alone(visitor) is alone  # kept, and follows its events
    assert alone.history(index).row_item.tolist() == [0, 2]
    assert everybody.of(user).history(index).row_item.tolist() == [0, 1, 2, 3]
    assert everybody.alone(user).history(index).row_item.tolist() == [1, 3]


def test_memory_has_a_bound(shoppers):
    everybody = shoppers([row(n, at=START, user=n, item_id="a") for n in range(30)], hot=10)
    for user in range(30):
        assert len(everybody.of(user).rows) == 1
    assert len(everybody) == 10
    assert everybody.waiting() == 0


def test_of_a_long_history_the_newest_is_in_sight_and_clicks_move_no_feature(stream, tmp_path):
    """What features and purchases are told of agrees with the tables, whatever number of clicks came in between."""
    clean, _ = quality.clean(EVENTS.shape(pl.DataFrame(stream, schema=EVENTS.schema)))
    clicks = [row(900 + n, at=START + dt.timedelta(minutes=n), kind="Product Viewed", item_id="a") for n in range(500)]
    both = pl.concat([clean, EVENTS.shape(pl.DataFrame(clicks, schema=EVENTS.schema))])
    orders = clean.filter(pl.col("user_key") == 1, pl.col("kind").is_in([PURCHASE, REFUND])).height
    everybody = state.Shoppers(laid_out(both, tmp_path, most=orders), Persons(tmp_path / "identities.sqlite"))
    shopper, index = everybody.of(1), {item: place for place, item in enumerate(ITEMS)}
    views = both.filter(pl.col("user_key") == 1, pl.col("kind").str.starts_with("Product")).sort(
        "at", "event_id", "line"
    )
    kept = [one["event_id"] for one in shopper.rows if one["kind"].startswith("Product")]
    assert kept == views["event_id"].to_list()[-orders:] and len(shopper.rows) == 2 * orders
    moment = START + dt.timedelta(days=30)
    wanted = prepare.features(both.filter(pl.col("user_key") == 1), as_of=moment).to_dicts()[0]
    for name, told in shopper.values(moment).items():
        assert told == pytest.approx(wanted[name], rel=1e-9, abs=1e-9) if told is not None else wanted[name] is None
    bought = offline(both.to_dicts(), 1)[1].of_kind(PURCHASE)
    np.testing.assert_array_equal(shopper.purchases(index)[0], bought.row_item)
    assert everybody.base.mark(1) == shopper.mark


def test_long_histories_share_the_memory_there_is(tmp_path):
    rows = [row(n, at=START + dt.timedelta(minutes=n), user=n % 8, item_id="a") for n in range(80_000)]
    base = laid_out(EVENTS.shape(pl.DataFrame(rows, schema=EVENTS.schema)), tmp_path)
    everybody = state.Shoppers(base, Persons(tmp_path / "identities.sqlite"), hot_mb=1)
    for _ in range(2):
        for user in range(8):
            before = len(everybody)
            assert len(everybody.of(user).history({"a": 0}).set_at) == 10_000
            assert sum(shopper.nbytes for shopper in everybody._hot.values()) < 2**20 + 10_000 * 29 + 4_096
    assert 2 <= len(everybody) <= before <= 4 and everybody._bytes == sum(everybody._weight.values())


def test_what_is_more_than_memory_takes_counts_from_the_next_reading_on(tmp_path, shoppers):
    rows = [row(n, at=START + dt.timedelta(hours=n), item_id="a") for n in range(8)]
    everybody = shoppers(rows[:1], fresh=3)
    assert len(everybody.take(rows[1:3])) == 2 and not everybody.behind
    assert len(everybody.take(rows[3:6])) == 1 and everybody.behind and everybody.waiting() == 3
    assert [one["event_id"] for one in everybody.of(1).rows] == [f"e{n:04d}" for n in range(4)]
    everybody.rebase(laid_out(EVENTS.shape(pl.DataFrame(rows[:5], schema=EVENTS.schema)), tmp_path), taken=4)
    assert everybody.behind and everybody.waiting() == 0  # the sixth came after that reading
    assert len(everybody.take(rows[6:])) == 2
    everybody.rebase(laid_out(EVENTS.shape(pl.DataFrame(rows, schema=EVENTS.schema)), tmp_path), taken=7)
    assert not everybody.behind
    assert [one["event_id"] for one in everybody.of(1).rows] == [f"e{n:04d}" for n in range(8)]


def test_a_later_base_takes_the_fresh_events_over(tmp_path, shoppers):
    rows = [row(n, at=START + dt.timedelta(hours=n), item_id="a") for n in range(6)]
    everybody = shoppers(rows[:2])
    everybody.take(rows[2:])
    before = [r["event_id"] for r in everybody.of(1).rows]
    later = laid_out(EVENTS.shape(pl.DataFrame(rows[:4], schema=EVENTS.schema)), tmp_path)
    assert everybody.waiting() == 4
    everybody.rebase(later, taken=2)
    assert everybody.waiting() == 2
    assert [r["event_id"] for r in everybody.of(1).rows] == before == [f"e{n:04d}" for n in range(6)]


def test_what_tells_a_repeat_of_fresh_events_goes_with_them(tmp_path, shoppers):
    """Of somebody who never rests too: what is kept is bounded by the events since the last reading."""
    rows = [row(n, at=START + dt.timedelta(hours=n), item_id="a") for n in range(9)]
    everybody = shoppers([])
    for turn in range(3):
        assert len(everybody.take(rows[3 * turn : 3 * turn + 3])) == 3
        later = laid_out(EVENTS.shape(pl.DataFrame(rows[: 3 * turn + 2], schema=EVENTS.schema)), tmp_path)
        everybody.rebase(later, taken=3 * turn + 2)
        assert len(everybody.fresh.said) == len(everybody.fresh.newest) == everybody.waiting() == 1
    assert everybody.take([rows[8] | {"event_id": "again"}]) == []  # the fresh one is known still
    everybody.rebase(laid_out(EVENTS.shape(pl.DataFrame(rows, schema=EVENTS.schema)), tmp_path), taken=10)
    assert not everybody.fresh.said and not everybody.fresh.newest


def test_a_flood_of_repeats_is_bounded_too(shoppers):
    rows = [row(n, at=START, item_id="a") for n in range(5)]  # under other ids the same event
    everybody = shoppers([], fresh=3)
    assert everybody.take(rows) == rows[:1]
    assert everybody.waiting() == 3 and everybody.behind
    assert [one["event_id"] for one in everybody.of(1).rows] == ["e0000"]


def test_somebody_nobody_has_met_has_no_history(shoppers):
    shopper = shoppers().of(7)
    assert shopper.rows == [] and len(shopper.history({"a": 0}).set_at) == 0
    assert shopper.values(START)["lines"] == 0


def test_who_is_in_memory_stays_there_over_a_base_that_holds_the_same_events(tmp_path, shoppers):
    rows = [row(n, at=START + dt.timedelta(hours=n), user=1 + n % 2, item_id="a") for n in range(8)]
    everybody = shoppers(rows[:4])
    everybody.take(rows[4:7])
    first, second = everybody.of(1), everybody.of(2)
    later = [one for one in rows[:6] if one["event_id"] != "e0001"]  # of the second somebody erased one
    everybody.rebase(laid_out(EVENTS.shape(pl.DataFrame(later, schema=EVENTS.schema)), tmp_path), taken=2)
    everybody.take(rows[7:])
    assert everybody.of(1) is first and everybody.of(2) is not second
    assert [r["event_id"] for r in everybody.of(2).rows] == ["e0003", "e0005", "e0007"]
    assert [r["event_id"] for r in first.rows] == ["e0000", "e0002", "e0004", "e0006"]
    assert everybody.waiting() == 2


def test_the_mark_of_one_event_is_that_of_the_table(tmp_path):
    odd = [row(n, at=START + dt.timedelta(microseconds=7**n), user=n, item_id="a") | {"line": n} for n in range(9)]
    base = laid_out(EVENTS.shape(pl.DataFrame(odd, schema=EVENTS.schema)), tmp_path)
    assert [base.mark(n) for n in range(9)] == [mark(one) for one in odd]
    assert len({base.mark(n) for n in range(9)}) == 9 and base.mark(77) == 0


def test_a_day_of_questions_between_events_leaves_the_history_of_the_tables(stream, shoppers):
    """Asked after every event: what is laid out bit by bit is what is laid out at once."""
    index = {item: place for place, item in enumerate(ITEMS)}
    everybody = shoppers()
    for one in stream:
        everybody.take([one])
        everybody.of(one["user_key"]).history(index)
    for user in (1, 2):
        assert_equal(everybody.of(user).history(index), offline(stream, user)[1])
