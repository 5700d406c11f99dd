"""The shop's own rules: made, listed, taken away; the file read again when it has changed."""

import os

import pytest

from habitue.core.errors import SettingsError, UsageError
from habitue.serve import rules


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
    book = rules.Book(tmp_path)
    assert book.now() == () and book.version == 1
    rule = rules.add(tmp_path, "exclude", items=["a"])
    assert book.now() == (rule,) == book.now() and book.version == 2
    (tmp_path / rules.FILE).unlink()
    assert book.now() == ()


@pytest.mark.parametrize("content", ["{", "{}", '[{"id": "x"}]', '[{"id": "x", "action": "pin", "item": "a"}]', "[1]"])
def test_a_broken_file_is_said_in_words(tmp_path, content):
    (tmp_path / rules.FILE).write_text(content)
    with pytest.raises(SettingsError, match="rules.json"):
        rules.Book(tmp_path).now()
    os.unlink(tmp_path / rules.FILE)
