"""What follows what, counted on purchase by purchase, is what training again would count."""

import dataclasses
import datetime as dt
import json
import logging
from collections import defaultdict

import numpy as np
import polars as pl
import pytest
from litestar.testing import TestClient

from habitue import prepare, serving
from habitue.core.runtime import Runtime
from habitue.core.schemas import EVENTS, FEATURES, LABELS, PURCHASE
from habitue.model import quick, rules
from habitue.model.past import Past, histories
from habitue.serve import app, counts, follows

ITEMS = tuple("abcdefgh")
INDEX = {item: place for place, item in enumerate(ITEMS)}
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
TRAINED = START + dt.timedelta(days=50)
CONFIG = rules.Config(half_life_days=20.0, shrink=3.0, window=3, window_days=15.0, trend=0.4)


@pytest.fixture
def stream():
    """Ninety days of orders of six people, in time; two lines a set or more, some products twice."""
    rng = np.random.default_rng(7)
    rows = []
    for number in range(150):
        at = START + dt.timedelta(minutes=int(rng.integers(0, 90 * 24 * 60)))
        for line in range(rng.integers(1, 5)):
            row = dict.fromkeys(EVENTS.schema) | {"event_id": f"e{number}", "line": line, "at": at, "kind": PURCHASE}
            row |= {"user_key": int(rng.integers(1, 7)) if line == 0 else rows[-1]["user_key"], "received_at": at}
            rows.append(row | {"item_id": str(rng.choice(list("abcdefgx"))), "source": "t", "import_id": "t"})
    return sorted(rows, key=lambda row: row["at"])


def frame(rows):
    return EVENTS.shape(pl.DataFrame(rows, schema=EVENTS.schema))


def past(rows, as_of):
    none = FEATURES.empty()
    every = histories(prepare.timeline(frame(rows)), ITEMS)
    return Past(as_of, 30, ITEMS, every, np.ones(len(every.user_keys), dtype=bool), None, none, none, LABELS.empty())


def trained(rows, as_of, config=CONFIG):
    return rules.fit(
        past([row for row in rows if row["at"] < as_of], as_of), config, runtime=Runtime(seed=0, threads=1)
    )


def read(rows, folder, *, state=None, config=CONFIG):
    """Counts of a reading, with the rules of a model trained at TRAINED."""
    folder.mkdir()
    told = {"as_of": TRAINED, "window": 30.0, "longest": config.window_days}
    counts.write(frame(rows), ITEMS, folder, **told)
    state = state or trained(rows, TRAINED)
    follows.write(frame(rows), ITEMS, folder, state=state, config=config, as_of=TRAINED)
    made = counts.Counts(folder, INDEX, np.ones(len(ITEMS), dtype=np.float32))
    if (folder / follows.FILE).exists():
        made.follows = follows.Follows(folder, state, ITEMS, made.window)
    return made


def count_on(made, known, rows):
    """Take rows as the desk does: the counts first, then each buyer's sets."""
    new = defaultdict(lambda: defaultdict(set))
    for person, day, place in made.take([counts.line(row, row["user_key"]) for row in rows]):
        new[person][day].add(place)
    every = past([*known, *rows], TRAINED).histories
    for person, days in new.items():
        h = every.take([int(np.flatnonzero(every.user_keys == person)[0])])
        sets = list(zip(h.set_at.tolist(), np.split(h.row_item.astype(np.int64), h.row_start[1:-1]), strict=True))
        made.follows.take(sets, days)


def asked():
    return [quick.Bought(np.array([place, (place + 3) % 8]), np.array([3.0, 40.0])) for place in range(len(ITEMS))] + [
        quick.Bought(np.zeros(0, dtype=np.int64), np.zeros(0))
    ]


def assert_as_trained_now(made, rows):
    now = max(row["at"] for row in rows)
    whole = trained(rows, now + dt.timedelta(microseconds=1))
    view, wanted = made.follows.view(), quick.ready("rules", whole, ITEMS)
    for bought in asked():
        np.testing.assert_allclose(view(bought).scores(), wanted(bought).scores(), rtol=2e-4, atol=1e-7)
    assert len(np.unique(wanted(asked()[0]).scores())) > 4
    return whole


@pytest.mark.parametrize("order", ["in time", "late", "one by one"])
@pytest.mark.parametrize("known", [0.6, 0.8])
def test_counting_on_is_training_again(stream, tmp_path, order, known):
    half = int(known * len(stream))
    rest = stream[half:]
    if order == "late":  # sets in the middle of a history, and sets that grow
        np.random.default_rng(0).shuffle(rest)
    made = read(stream[:half], tmp_path / "x")
    step = 1 if order == "one by one" else 7
    before = made.follows.view()(asked()[1]).scores()
    for start in range(0, len(rest), step):
        count_on(made, stream[:half] + rest[:start], rest[start : start + step])
    assert_as_trained_now(made, stream)
    count_on(made, stream, rest[:9])  # what it knows already
    assert_as_trained_now(made, stream)
    assert np.abs(made.follows.view()(asked()[1]).scores() - before).max() > 1e-3


def test_what_the_lake_got_since_the_training_is_in_a_reading(stream, tmp_path):
    assert_as_trained_now(read(stream, tmp_path / "x"), stream)


def test_right_after_the_training_it_is_the_trained_table(stream, tmp_path):
    rows = [row for row in stream if row["at"] < TRAINED]
    made, state = read(rows, tmp_path / "x"), trained(rows, TRAINED)
    for bought in asked():
        wanted = quick.ready("rules", state, ITEMS)(bought).scores()
        np.testing.assert_allclose(made.follows.view()(bought).scores(), wanted, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("other", ["settings", "lake"])
def test_a_table_that_the_lake_does_not_give_stays_as_trained(stream, tmp_path, caplog, other):
    state = trained(stream, TRAINED)
    config = dataclasses.replace(CONFIG, shrink=30.0) if other == "settings" else CONFIG
    rows = stream if other == "settings" else [row for row in stream if row["user_key"] != 3]
    with caplog.at_level(logging.WARNING, logger="habitue.serve"):
        made = read(rows, tmp_path / "x", state=state, config=config)
    assert made.follows is None
    assert "the view 'rules' stays as trained: the lake or the settings are not those" in caplog.text


def test_a_very_long_set_waits_for_the_next_reading(stream, tmp_path, monkeypatch):
    monkeypatch.setattr(follows, "LONGEST", 2)
    made = read(stream, tmp_path / "x")
    votes = made.follows.votes.copy()
    at = max(row["at"] for row in stream) + dt.timedelta(days=1)
    long = [stream[-1] | {"event_id": "n", "line": n, "item_id": item, "at": at} for n, item in enumerate("abc")]
    count_on(made, stream, long)
    np.testing.assert_allclose(made.follows.votes, votes)


def test_an_order_moves_what_follows_for_others(trained_shop, trained):
    """Over HTTP, with a model that has such a view; a reading says the same."""
    plan = trained.plan.read_text()
    assert '"rules"' in plan
    made = app.create(trained, read=lambda: serving.read(trained))
    with TestClient(made) as client:
        desk = made.state.desk
        shop = desk.shop
        assert shop.counts.follows is not None
        red, blue = shop.index["red-1"], shop.index["blue-9"]
        asked = quick.Bought(np.array([red]), np.array([1.0]))
        before = shop.views["rules"](asked).scores()
        assert before[blue] == 0
        for user in range(8):
            for number, item in enumerate(("red-1", "blue-9")):
                event = {"userId": f"v{user}", "messageId": f"m{user}-{number}", "event": "Order Completed"}
                event["timestamp"] = f"2024-07-2{number}T10:0{user}:00Z"
                event["properties"] = {"order_id": f"n{user}-{number}", "products": [{"product_id": item}]}
                assert client.post("/v1/track", content=json.dumps(event)).status_code == 200
        after = shop.views["rules"](asked).scores()
        assert after[blue] > 0
        client.blocking_portal.call(desk.renew)
        assert desk.shop is not shop and desk.shop.counts.follows is not None
        np.testing.assert_allclose(desk.shop.views["rules"](asked).scores(), after, rtol=1e-3, atol=1e-6)
