import datetime as dt

import polars as pl
import pytest

from habitue.core.schemas import EXAMPLES, EXPOSURES, TABLES, check
from habitue.core.schemas import QUALITY as CONTRACT
from habitue.quality import contents

NOW = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)


def exposures(*rows: dict) -> pl.DataFrame:
    ordinary = {"at": NOW, "what": "banner", "arm": "a", "source": "t"}
    schema = {c.name: c.dtype for c in EXPOSURES.columns}
    full = [{"exposure_id": str(i), **ordinary, **row} for i, row in enumerate(rows)]
    return EXPOSURES.shape(pl.DataFrame([{n: r.get(n) for n in schema} for r in full], schema=schema))


def taken(tables) -> dict[tuple[str, str], float]:
    scores = contents.scores(tables, now=NOW)
    check(scores, CONTRACT, at="test")
    return {(t, m): s for t, m, s in scores.select("table", "measure", "score").iter_rows()}


def test_every_table_a_shop_brings_is_looked_at_and_no_other():
    names = {table.name for table in contents.imported()}
    assert {"events", "items", "users", "exposures", "examples", "refused"} <= names
    made = {"identities", "metrics", "checks", "repairs", "features", "labels", "quality", "findings", "timeline"}
    assert not made & names
    assert names | contents.DERIVED == {table.name for table in TABLES}


def test_scores_of_a_table_by_its_contract():
    late = NOW + dt.timedelta(microseconds=1)
    frame = exposures(
        {"propensity": 0.5, "cost": 1.0},
        {"propensity": 1.2, "arm": "b"},
        {"at": late, "exposure_id": "0"},
        {"propensity": 0.0, "arm": "b"},
    )
    found = taken({"exposures": frame})
    assert found == {
        ("exposures", "propensity present"): 3 / 4,
        ("exposures", "cost present"): 1 / 4,
        ("exposures", "one row a key"): 3 / 4,
        ("exposures", "not in the future"): 3 / 4,
        ("exposures", "propensity in range"): 2 / 3,
        ("exposures", "cost in range"): 1.0,
        ("exposures", "arms"): 1.0,
    }


def test_events_get_only_what_their_own_scores_do_not_say(lines):
    found = taken({"events": lines({"scroll": 0.5}, {"scroll": 1.5}, {"kind": "Product Viewed", "dwell_s": -1.0})})
    assert found == {
        ("events", "one row a key"): 1.0,
        ("events", "not in the future"): 1.0,
        ("events", "scroll in range"): 1 / 2,
        ("events", "dwell_s in range"): 0.0,
        ("events", "kinds"): pytest.approx(0.9182958),
    }


def test_columns_say_what_they_hold_and_no_name(lines):
    described = {
        c.column: c for c in contents.columns({"events": lines({"price": 1.5, "text": "secret"}, {"user_key": 9})})
    }
    assert (described["price"].least, described["price"].most, described["price"].different) == ("1.5", "2.0", 2)
    third = contents.columns({"events": lines({"price": 3 * 627.6})})  # 1882.8000000000002
    assert next(c.most for c in third if c.column == "price") == "1882.8"
    assert (described["text"].present, described["text"].different) == (0.5, 1)
    assert described["text"].least is described["user_key"].least is described["item_id"].most is None
    assert described["query"].present == 0
    assert described["at"].type == "utc"


def test_nothing_and_one_row_and_all_null():
    assert contents.columns({"exposures": exposures().clear()}) == []
    assert taken({"exposures": exposures().clear()}) == {}
    one = EXAMPLES.shape(pl.DataFrame({"example_id": ["a"], "source": ["t"]}))
    assert taken({"examples": one}) == {("examples", "one row a key"): 1.0}
