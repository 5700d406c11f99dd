"""habitue erase, as an operator types it."""

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from habitue.cli import app
from habitue.collect import synthetic
from habitue.core import workspace
from habitue.core.errors import HabitueError, UsageError
from habitue.core.schemas import EVENTS
from habitue.protect import erase as erasing
from habitue.protect import identities


@pytest.fixture
def shop(tmp_path):
    made = workspace.init(tmp_path / "shop", buckets=2)
    events = synthetic.shop(users=6, days=80)
    names = events.select(pl.format("customer-{}", "user_key")).to_series()
    keys = identities.keys_for(made.identities, "user_id", names, linked_at=events["at"], source="x")
    made.lake.append(EVENTS, events.with_columns(user_key=keys))
    return made


def habitue(*arguments: str, code: int = 0, typed: str | None = None) -> str:
    done = CliRunner().invoke(app, arguments, input=typed)
    if isinstance(done.exception, HabitueError):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


def test_one_person_goes_and_the_receipt_verifies(shop):
    key = identities.lookup(shop.identities, "user_id", "customer-3")
    rows = shop.lake.read(EVENTS).filter(user_key=key).height
    said = habitue("erase", "customer-3", "--yes", "-w", str(shop.root))
    assert f"{rows} of events; 1 ids." in said and "customer-3" not in said
    assert shop.lake.read(EVENTS).filter(user_key=key).is_empty()
    (receipt,) = shop.receipts.iterdir()
    assert habitue("erase", "--verify", str(receipt)).startswith("The receipt holds. Erased on")
    with pytest.raises(UsageError, match="nobody has the id that was named"):
        habitue("erase", "customer-3", "--yes", "-w", str(shop.root))


def test_it_asks_first(shop):
    before = shop.lake.read(EVENTS).height
    assert "cannot be undone" in habitue("erase", "customer-3", "-w", str(shop.root), code=1, typed="n\n")
    assert shop.lake.read(EVENTS).height == before and not shop.receipts.exists()
    habitue("erase", "customer-3", "-w", str(shop.root), typed="y\n")
    assert shop.lake.read(EVENTS).height < before


def test_a_file_of_ones_own_makes_the_exit_code_1(shop):
    (shop.root / "orders.csv").write_text('customer\n"customer-3"\n')
    said = habitue("erase", "customer-3", "--yes", "-w", str(shop.root), code=1)
    assert "Still names the person, and is yours to change: orders.csv" in said
    told = json.loads(habitue("erase", "customer-2", "--yes", "--json", "-w", str(shop.root)))
    assert told["complete"] and told["rows"].keys() == {"events"}


def test_signed_when_the_plan_says_so(shop, monkeypatch):
    plan = shop.root / "habitue.toml"
    plan.write_text(plan.read_text() + "\n[erase]\nsign = true\n")
    monkeypatch.delenv("HABITUE_SIGNING_KEY", raising=False)
    with pytest.raises(UsageError, match="HABITUE_SIGNING_KEY is not set. Nothing was erased"):
        habitue("erase", "customer-3", "--yes", "-w", str(shop.root))
    assert not shop.receipts.exists()
    monkeypatch.setenv("HABITUE_SIGNING_KEY", "k1")
    habitue("erase", "customer-3", "--yes", "-w", str(shop.root))
    (receipt,) = shop.receipts.iterdir()
    assert "so does its signature" in habitue("erase", "--verify", str(receipt))
    monkeypatch.setenv("HABITUE_SIGNING_KEY", "k2")
    with pytest.raises(UsageError, match="signed with another key"):
        habitue("erase", "--verify", str(receipt))


def test_an_interrupted_erasure_is_resumed(shop, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(erasing, "_derived", interrupted)
        with pytest.raises(KeyboardInterrupt):
            erasing.erase(shop, [identities.lookup(shop.identities, "user_id", "customer-3")])
    assert "An erasure that was interrupted is finished." in habitue("erase", "--resume", "-w", str(shop.root))
    with pytest.raises(UsageError, match="no erasure was interrupted.*Name somebody"):
        habitue("erase", "--resume", "-w", str(shop.root))


@pytest.mark.parametrize(("arguments", "words"), [((), "nobody is named"), (("x", "--resume"), "more than one thing")])
def test_one_thing_at_a_time(shop, arguments, words):
    with pytest.raises(UsageError, match=words):
        habitue("erase", *arguments, "-w", str(shop.root))


def test_help_shows_examples(tmp_path: Path):
    for command in (("erase",), ("identity", "merge"), ("lake", "files"), ("migrate",)):
        assert "Example" in habitue(*command, "--help")
