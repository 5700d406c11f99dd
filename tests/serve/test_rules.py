"""The shop's own rules: made, listed, taken away; the file read again when it has changed."""

import os

import polars as pl
import pytest

from habitue.core.errors import LakeError, SettingsError, UsageError
from habitue.core.schemas import EVENTS
from habitue.serve import keys, operational, rules
from habitue.serve.operational import Followed


def test_rules_come_and_go(tmp_path):
    assert rules.listed(tmp_path) == ()
    pin = rules.add(tmp_path, "pin", items=["a"], number=2, placement="home")
    bury = rules.add(tmp_path, "bury", category="Old")
    assert rules.listed(tmp_path) == (pin, bury)
    assert pin == rules.Rule(pin.id, "pin", ("a",), "", "", "home", 2.0)
    assert rules.remove(tmp_path, pin.id) == pin and rules.listed(tmp_path) == (bury,)
    with pytest.raises(UsageError, match=f"there is no rule '{pin.id}'.*habitue rules list"):
        rules.remove(tmp_path, pin.id)


@pytest.mark.parametrize(
    ("action", "more", "words"),
    [
        ("pinn", {"items": ["a"]}, "there is no rule 'pinn'.*pin"),
        ("bury", {}, "it names no product"),
        ("bury", {"items": ["a"], "placement": "hom"}, "there is no placement 'hom'.*home"),
        ("pin", {"items": ["a"]}, "a pin is one product at one place"),
        ("pin", {"items": ["a", "b"], "number": 1}, "a pin is one product at one place"),
        ("pin", {"items": ["a"], "number": 1.5}, "a pin is one product at one place"),
        ("pin", {"category": "c", "number": 1}, "a pin is one product at one place"),
        ("boost", {"items": ["a"]}, "a boost without a strength"),
        ("boost", {"items": ["a"], "number": float("nan")}, "a boost without a strength"),
        ("stock", {"items": ["a"]}, "stock without a number of units"),
        ("stock", {"items": ["a"], "number": -1.0}, "stock without a number of units"),
        ("exclude", {"items": ["a"], "number": 1.0}, "'exclude' takes no number"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(tmp_path, action, more, words):
    with pytest.raises(UsageError, match=words):
        rules.add(tmp_path, action, **more)
    assert rules.listed(tmp_path) == ()


def test_a_running_server_reads_them_again_only_when_they_changed(tmp_path):
    book = rules.Rules(tmp_path, Followed(tmp_path))
    assert book.now() == () and book.version == 1
    rule = rules.add(tmp_path, "exclude", items=["a"])
    assert book.now() == (rule,) == book.now() and book.version == 2
    keys.Door(tmp_path).note(keys.create(tmp_path, "write")[0], "users", "found")
    assert book.now() == (rule,) and book.version == 3  # a key is a change, a line of the audit log is none
    (tmp_path / operational.FILE).unlink()
    for _ in range(2):
        with pytest.raises(LakeError, match="the file is gone"):
            book.now()


@pytest.mark.parametrize(
    "content", ["{", "{}", '[{"id": "x"}]', '[{"id": "x", "action": "pin", "item": "a"}]', "[1]", "[" * 9_000]
)
def test_a_broken_file_is_said_in_words(tmp_path, content):
    (tmp_path / rules.BEFORE).write_text(content)
    with pytest.raises(SettingsError, match="rules.json"):
        rules.Rules(tmp_path, Followed(tmp_path)).now()
    os.unlink(tmp_path / rules.BEFORE)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"items": ["blue-9", "red-0"], "category": "Table", "brand": "Blue"}, []),  # blue-9 is in the catalogue alone
        ({"items": ["red-0", "reed-0"]}, ["the product 'reed-0'"]),
        ({"category": "Table > Cups"}, []),
        ({"category": "Tab"}, ["the category 'Tab'"]),
        ({"items": ["x"], "brand": "blue"}, ["the product 'x'", "the brand 'blue'"]),
    ],
)
def test_what_a_rule_names_and_nobody_has_met_is_told(trained, about, words):
    assert rules.unknown(trained.lake, rules.add(trained.state, "exclude", **about)) == words


def test_a_product_that_only_an_event_names_is_known(trained):
    event = trained.lake.read(EVENTS).head(1).with_columns(item_id=pl.lit("new"), event_id=pl.lit("e"))
    trained.lake.append(EVENTS, event)
    assert rules.unknown(trained.lake, rules.add(trained.state, "bury", items=["new", "newer"])) == [
        "the product 'newer'"
    ]
