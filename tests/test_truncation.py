"""Nothing from the future: what is forecast at t is the same, bit for bit, whether or not the ledger goes on."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from habitue import prepare, quality
from habitue.collect import synthetic
from habitue.core.runtime import Runtime
from habitue.core.schemas import EVENTS, ITEMS, PURCHASE, REFUND
from habitue.encode import text
from habitue.model import clv, ease, neighbours, popular, trees
from habitue.model.past import Past, histories

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
CUT = START + dt.timedelta(days=150)
HORIZON = 28
MODELS = (popular, neighbours, ease, clv, trees)


@pytest.fixture(scope="module")
def ledger():
    """A shop whose later rows do what they can to reach back: refunds, repeats, new words, new products, new people."""
    events = synthetic.shop(users=60, items=24, days=220, start=START, seed=2)
    before, later = events.filter(pl.col("at") < CUT), events.filter(pl.col("at") >= CUT)
    moved = before.with_columns(at=pl.lit(CUT).cast(pl.Datetime("us", "UTC")))
    refunds = moved.with_columns(
        pl.col("event_id") + "-back", kind=pl.lit(REFUND), quantity=-pl.col("quantity"), value=-pl.col("value")
    )
    renamed = moved.with_columns(pl.col("event_id") + "-new", title="bank charges " + pl.col("item_id"))
    launched = moved.head(50).with_columns(pl.col("event_id") + "-launch", item_id="NEW" + pl.col("item_id"))
    strangers = moved.head(50).with_columns(pl.col("event_id") + "-guest", user_key=pl.col("user_key") + 1000)
    dirt = before.gather_every(9).with_columns(pl.col("event_id") + "-dirt", quantity=-1.0)
    repeats = before.gather_every(7).with_columns(pl.col("event_id") + "-twice")
    parts = (before, later, refunds, renamed, launched, strangers, dirt, repeats)
    return pl.concat([EVENTS.shape(part) for part in parts]).sort("at", "event_id")


def forecast(events, *, leak=None):
    """Every table and answer at CUT; `leak` lets one step see the rows after it, as a mistake would."""
    clean, _ = quality.clean(events)
    past, _ = prepare.split(clean, CUT)
    seen = {step: clean if step == leak else past for step in ("catalogue", "timeline", "features", "labels")}
    late = CUT + dt.timedelta(days=60)
    words = prepare.catalogue(seen["catalogue"], ITEMS.empty(), as_of=late if leak == "catalogue" else CUT)
    products = quality.products(words)
    words = words.filter(pl.col("item_id").is_in(list(products)))
    moments = [CUT - dt.timedelta(days=HORIZON + 14 * i) for i in range(5)]
    features = prepare.features(seen["features"], as_of=[*moments, late if leak == "features" else CUT])
    features = features.with_columns(pl.col("as_of").clip(upper_bound=CUT))
    told = Past(
        as_of=CUT,
        horizon_days=HORIZON,
        items=tuple(words["item_id"]),
        histories=histories(prepare.timeline(seen["timeline"]), tuple(words["item_id"]), users=past["user_key"]),
        known=np.ones(past["user_key"].n_unique(), dtype=bool),
        words=text.encode(words).matrix,
        features=features.filter(pl.col("as_of") == CUT),
        train_features=features.filter(pl.col("as_of") < CUT),
        train_labels=prepare.labels(
            seen["labels"],
            as_of=[m + dt.timedelta(days=14) if leak == "labels" else m for m in moments],
            horizon_days=HORIZON,
            until=None if leak == "labels" else CUT,
        ).with_columns(pl.col("as_of").dt.offset_by("-14d" if leak == "labels" else "0d")),
    )
    answers = {}
    for model in MODELS:
        state = model.fit(told, model.Config(), runtime=Runtime(seed=1, threads=1))
        name = model.__name__.rpartition(".")[2]
        if "rank" in model.ANSWERS:
            answers[name] = model.score(state, told)
        else:
            answers[name] = model.predict(state, told).sort("user_key").select("churn", "value").to_numpy()
    return told, answers


def check_untouched(one, other):
    (past, answers), (again, same) = one, other
    assert past.items == again.items
    assert past.features.equals(again.features)
    assert past.train_features.equals(again.train_features)
    assert past.train_labels.equals(again.train_labels)
    assert past.words.shape == again.words.shape
    assert past.words.toarray().tobytes() == again.words.toarray().tobytes()
    for name in ("user_keys", "set_start", "set_at", "set_kind", "row_start", "row_item", "row_quantity", "row_value"):
        np.testing.assert_array_equal(getattr(past.histories, name), getattr(again.histories, name), err_msg=name)
    for model, values in answers.items():
        assert values.tobytes() == same[model].tobytes(), model


def test_forecasts_do_not_know_whether_the_ledger_goes_on(ledger):
    before = ledger.filter(pl.col("at") < CUT)
    assert before.height < ledger.height / 1.5
    assert set(ledger["kind"].unique()) == {PURCHASE, REFUND}
    check_untouched(forecast(ledger), forecast(before))


@pytest.mark.parametrize("leak", ["catalogue", "timeline", "features", "labels"])
def test_a_step_that_looks_ahead_is_caught(ledger, leak):
    with pytest.raises(AssertionError):
        check_untouched(forecast(ledger, leak=leak), forecast(ledger.filter(pl.col("at") < CUT)))
