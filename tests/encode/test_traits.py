"""Attributes of people become columns: as of a moment, nobody's own, the same again for whoever comes later."""

import datetime as dt
import json

import numpy as np
import polars as pl
import pytest

from habitue.core.errors import SchemaError, SettingsError
from habitue.core.schemas import USERS
from habitue.encode import traits

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
LATER = START + dt.timedelta(days=90)


def users(*said):
    """Return USERS of (user_key, day, attributes)."""
    rows = [
        {"user_key": k, "valid_from": START + dt.timedelta(days=day), "attributes": json.dumps(told)}
        for k, day, told in said
    ]
    return USERS.shape(pl.DataFrame(rows).with_columns(source=pl.lit("t"), import_id=pl.lit("t")))


@pytest.fixture
def shop():
    """40 people: 12 French, 12 Dutch, 3 Maltese and some of nowhere; everybody's age, half their postcode."""
    said = []
    for key in range(40):
        country = "FR" if key < 12 else "NL" if key < 24 else "MT" if key < 27 else None
        told = {"age": str(20 + key), "postcode": f"0{key:03}", "shoe": "x"}
        said.append((key, 0, told | ({"country": country} if country else {})))
    return users(*said)


def test_what_was_said_last_before_the_moment_counts():
    told = users((7, 0, {"plan": "free", "age": "30"}), (7, 10, {"plan": "plus"}), (7, 20, {"plan": ""}), (3, 10, {}))
    assert traits.told(told, ["plan", "age"], as_of=START + dt.timedelta(days=10)).to_dicts() == [
        {"user_key": 7, "plan": "free", "age": "30"}
    ]  # what is said at the moment itself is not known yet, and who says nothing has no row
    later = traits.told(told, ["age", "plan"], as_of=LATER).to_dicts()
    assert later == [{"user_key": 7, "age": "30", "plan": "plus"}]  # an empty word takes nothing back


def test_values_that_few_people_share_are_not_read(shop):
    learnt = traits.learn(shop, ["country", "age", "postcode"], as_of=LATER)
    assert [column.name for column in learnt.columns] == ["country", "age"]  # every postcode is somebody's own
    assert learnt.columns[0].values == ("FR", "NL") and learnt.columns[1].kind == "number"
    found = dict(zip(learnt.names, traits.rows(shop, learnt, np.arange(40), as_of=LATER).T, strict=True))
    assert found["country=FR"].sum() == 12 and found["country=NL"].sum() == 12
    assert found["country missing"].sum() == 16 and not found["country other"].any()
    assert found["age"][0] == pytest.approx(-found["age"][39]) and found["age"].mean() == pytest.approx(0, abs=1e-6)
    assert traits.learn(shop, ["postcode", "unheard of"], as_of=LATER) is None
    assert traits.learn(shop, ["country"], as_of=START) is None  # nobody had said anything


def test_whoever_comes_later_gets_the_same_columns(shop):
    learnt = traits.read(
        {"traits": json.loads(json.dumps(traits.written(traits.learn(shop, ["age", "country"], as_of=LATER))))}
    )
    assert learnt == traits.learn(shop, ["age", "country"], as_of=LATER)
    new = users(
        (90, 0, {"country": "NL", "age": "20"}), (95, 0, {"country": "IT", "age": "old"}), (91, 0, {"shoe": "y"})
    )
    keys = np.array([95, 0, 90, 91, 12])
    found = traits.rows(pl.concat([shop, new]), learnt, keys, as_of=LATER)
    name = dict(zip(learnt.names, found.T, strict=True))
    np.testing.assert_array_equal(name["country=NL"], [0, 0, 1, 0, 1])
    assert name["age"][2] == name["age"][1] and not name["age missing"].any()
    assert not found[[0, 3]].any()  # of these nothing is known: a land nobody had, no number, another attribute
    assert traits.rows(new[:0], learnt, keys, as_of=LATER).shape == (5, len(learnt.names))
    assert traits.read({}) is None and traits.written(None) is None and traits.read({"traits": None}) is None


def test_another_table_is_refused(shop):
    with pytest.raises(SchemaError, match="encode.traits"):
        traits.told(shop.drop("attributes"), ["age"], as_of=LATER)


def test_a_name_that_nobody_has_is_refused_in_words(shop):
    traits.named(shop, ["age", "country"])
    with pytest.raises(SettingsError, match=r"habitue.toml, traits: no customer has an attribute 'contry'.*country"):
        traits.named(shop, ["age", "contry"])
    with pytest.raises(SettingsError, match="'age'.*Import customers first"):
        traits.named(shop[:0], ["age"])
