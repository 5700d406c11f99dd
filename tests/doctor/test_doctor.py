"""Broken workspaces, each made from a whole one by one change, and the sentence that is said of it."""

import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from habitue.cli import app
from habitue.collect import synthetic
from habitue.core import workspace
from habitue.core.schemas import CONSENT, EVENTS, ITEMS, MEDIA, REFUSED
from habitue.core.workspace import Workspace
from habitue.doctor import Finding, examine
from habitue.doctor import environment as machine
from habitue.model import artifact
from habitue.model.popular import State
from habitue.protect import erase, identities, people

HABITUE = str(Path(sys.executable).with_name("habitue"))
NOW = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)
ORIGIN = {"source": "orders", "import_id": "test"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A workspace in which nothing is broken: 30 customers over 200 days, a catalogue, a model."""
    space = workspace.init(tmp_path_factory.mktemp("whole") / "shop", buckets=2)
    events = synthetic.shop(users=30, days=200).with_columns(source=pl.lit("orders"))
    names = events.select(pl.format("c{}", "user_key")).to_series()
    keys = identities.keys_for(space.identities, "user_id", names, linked_at=events["at"], source="orders", seed=1)
    space.lake.append(EVENTS, events.with_columns(user_key=keys))
    items = events.select("item_id", "title").unique().with_columns(valid_from=pl.lit(NOW), **lit(ORIGIN))
    space.lake.append(ITEMS, ITEMS.shape(items))
    state = State(("P0",), np.ones(1, dtype=np.float32), 365.0, 0.3, 0.2)
    artifact.save(space.models / "popular/20240601T000000Z-a", "popular", state, {"as_of": NOW.isoformat()})
    return space.root


@pytest.fixture
def shop(whole, tmp_path) -> Workspace:
    shutil.copytree(whole, tmp_path / "shop")
    return workspace.open_workspace(tmp_path / "shop")


def lit(values: dict) -> dict[str, pl.Expr]:
    return {name: pl.lit(value) for name, value in values.items()}


def events_are(*changes: pl.Expr, **named: pl.Expr) -> Callable[[Workspace], None]:
    def change(shop: Workspace) -> None:
        events = shop.lake.read(EVENTS)
        shop.lake.replace(EVENTS, EVENTS.shape(events.with_columns(*changes, **named)))

    return change


def plan_says(text: str) -> Callable[[Workspace], object]:
    return lambda shop: shop.plan.write_text(text + "\n" + shop.plan.read_text())


def plan_without(old: str, new: str) -> Callable[[Workspace], object]:
    return lambda shop: shop.plan.write_text(shop.plan.read_text().replace(old, new))


def consent_is(purpose: str, granted: bool, people: int) -> Callable[[Workspace], object]:
    def change(shop: Workspace) -> None:
        keys = shop.lake.read(EVENTS)["user_key"].unique().sort().head(people)
        rows = pl.DataFrame({"user_key": keys}).with_columns(
            purpose=pl.lit(purpose), granted=pl.lit(granted), at=pl.lit(NOW), **lit(ORIGIN)
        )
        shop.lake.append(CONSENT, CONSENT.shape(rows))

    return change


def refused(shop: Workspace) -> None:
    sentence = "The time is not in the form %d/%m/%Y."
    rows = pl.DataFrame({"row": range(5_000)}).with_columns(
        raw=pl.lit("{}"), code=pl.lit("bad_time"), sentence=pl.lit(sentence), **lit(ORIGIN)
    )
    shop.lake.append(REFUSED, REFUSED.shape(rows))


def cut_off(shop: Workspace) -> None:
    path = Path(shop.lake.files(EVENTS)[0])
    path.write_bytes(path.read_bytes()[:-100])


def journal(shop: Workspace) -> None:
    (shop.lake.root / ".journal").write_text(json.dumps({"events": 0}))


def guests_only(shop: Workspace) -> None:
    events = shop.lake.read(EVENTS)
    names = events.select(pl.format("order:{}", "order_id")).to_series()
    keys = identities.keys_for(shop.identities, "anonymous_id", names, linked_at=events["at"], source="orders", seed=1)
    shop.lake.replace(EVENTS, events.with_columns(user_key=keys))


def conflict(shop: Workspace) -> None:
    one, other, cookie = shop.lake.read(EVENTS)["user_key"].unique().sort().head(3)
    pairs = pl.DataFrame({"user_key": [cookie] * 2, "became": [one, other]}).with_columns(at=pl.lit(NOW))
    with identities.book(shop.identities) as connection:
        people.claim(connection, pairs, source="web")


def no_words(shop: Workspace) -> None:
    shop.lake.replace(ITEMS, shop.lake.read(ITEMS).with_columns(title=pl.lit(None, dtype=pl.String)))


def pictures(shop: Workspace) -> None:
    rows = [{"media_id": f"m{n}", "owner": "item", "owner_id": f"P{n}", "modality": "image"} for n in range(3)]
    told = {"path": "/nowhere/a.png", "sha256": "0"} | ORIGIN
    shop.lake.append(MEDIA, MEDIA.shape(pl.DataFrame([row | told for row in rows])))


def pictures_read(shop: Workspace) -> None:
    pictures(shop)
    plan_says('[content]\nsenses = ["colour"]\n')(shop)


def other_codes(shop: Workspace) -> None:
    items = shop.lake.read(ITEMS).with_columns(item_id="00" + pl.col("item_id"), source=pl.lit("catalogue"))
    shop.lake.replace(ITEMS, items)


def damaged_model(shop: Workspace) -> None:
    (shop.models / "popular/20240601T000000Z-a/config.json").write_text("{}")


def older_model(shop: Workspace) -> None:
    path = shop.models / "popular/20240601T000000Z-a/manifest.json"
    manifest = json.loads(path.read_bytes())
    del manifest["sha256"]
    path.write_bytes(artifact._signed(manifest | {"artifact": 1})[0])


def receipt(shop: Workspace) -> None:
    shop.receipts.mkdir()
    said = {"models_to_retrain": ["popular/20240601T000000Z-a"]}
    (shop.receipts / "erasure-1.json").write_text(json.dumps(said))


def made(name: str) -> Callable[[Workspace], object]:
    return lambda shop: (shop.root / name).mkdir(parents=True)


def gone(name: str) -> Callable[[Workspace], object]:
    def remove(shop: Workspace) -> None:
        path = shop.root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return remove


def written(name: str, content: bytes | str) -> Callable[[Workspace], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda shop: (shop.root / name).write_bytes(data)


BOUGHT = pl.col("kind") == "Order Completed"
# name: what is done to a whole workspace, where it is found, the sentence, what to do
BROKEN: dict[str, tuple[Callable[[Workspace], object], str, str, str]] = {
    "no workspace": (gone("habitue.toml"), "shop", r"no habitue\.toml, so this is not a workspace", "habitue init"),
    "newer": (plan_without("schema_version = 2", "schema_version = 9"), "shop", "layout 9; this.*up to 2", "Install"),
    "older": (plan_without("schema_version = 2", "schema_version = 1"), "shop", "layout 1;.* layout 2", "migrate"),
    "unknown setting": (plan_says("horizont_days = 30"), "habitue.toml", "'horizont_days'", "Did you mean 'horizon_da"),
    "not TOML": (plan_says("seed = = 1"), "habitue.toml", "this is not TOML", "Mend that line"),
    "other buckets": (plan_without("buckets = 2", "buckets = 4"), "lake.events", "has 2 buckets and.* says 4", "= 2"),
    "missing source": (
        lambda shop: shop.plan.write_text(shop.plan.read_text() + '\n[[source]]\nfile = "o.csv"\nmapping = "m.toml"\n'),
        "[[source]]",
        "There is no file 'o.csv', which the plan names",
        "mend the path",
    ),
    "events cut off": (cut_off, "lake.events", "version 0 of the table cannot be read.*damaged", "new workspace"),
    "a file of a table is gone": (
        lambda shop: Path(shop.lake.files(EVENTS)[0]).unlink(),
        "lake.events",
        "version 0 of the table cannot be read",
        "latest version",
    ),
    "broken log": (
        written("lake/events/_delta_log/00000000000000000000.json", "{"),
        "lake.events",
        "the table cannot be read",
        "import",
    ),
    "interrupted change": (journal, ".journal", "several tables was interrupted; its rows are not read", "compact"),
    "unreadable journal": (
        written("lake/.journal", "{"),
        "lake",
        "journal of an unfinished change cannot be",
        "Restore",
    ),
    "interrupted erasure": (written("lake/.erasing", '{"keys": [1]}'), ".erasing", "An erasure was interr", "--resume"),
    "identities are gone": (
        gone("identities.sqlite"),
        "identities.sqlite",
        "missing, and 30 customers have rows: nobody can be told",
        "Restore it",
    ),
    "identities are junk": (
        written("identities.sqlite", b"junk" * 999),
        "identities",
        "cannot be used",
        "file is whole",
    ),
    "identities of another copy": (
        events_are(user_key=pl.col("user_key") // 2),
        "identities.sqlite",
        "30 of 30 customers with rows have no id here",
        "same copy",
    ),
    "identities open to all": (
        lambda shop: shop.identities.chmod(0o644),
        "identities.sqlite",
        "Others on this machine may read the raw ids",
        "chmod 600",
    ),
    "model without a manifest": (
        made("models/blend/1"),
        "models/blend/1",
        "there is no manifest.json in it",
        "Name a f",
    ),
    "damaged model": (
        damaged_model,
        "models/popular",
        "config.json is not what was written: its sha256",
        "Train it again",
    ),
    "older model": (
        older_model,
        "models/popular",
        "version 1 of the artefact, this program reads 2",
        "habitue migrate",
    ),
    "model of somebody erased": (receipt, "models/popular", "trained on somebody who has been erased", "habitue train"),
    "nothing imported": (gone("lake/events"), "events", "0 events are stored: every answer would be empty", "import"),
    "no orders": (
        events_are(kind=pl.when(BOUGHT).then(pl.lit("purchase")).otherwise("kind")),
        "events",
        r"0 of [\d,]+ events are positive; the kinds are 'purchase' [\d,]+.*: map `Order Completed`",
        r"\[kind\] in the mapping",
    ),
    "refunds only": (
        events_are(kind=pl.lit("Order Refunded")),
        "events",
        r"0 of [\d,]+ events are positive; all are refunds: map `Order Completed`",
        "kind",
    ),
    "guests only": (guests_only, "events", r"0 of [\d,]+ orders name a customer: churn, value and personas", "user"),
    "one customer": (
        events_are(user_key=pl.col("user_key").min()),
        "events",
        r"All [\d,]+ events are of one customer",
        "same in every row",
    ),
    "no product": (
        events_are(item_id=pl.lit(None, dtype=pl.String)),
        "events",
        r"0 of [\d,]+ events name a product: there is nothing to recommend",
        "item_id",
    ),
    "one product": (
        events_are(item_id=pl.lit("P1")),
        "events",
        r"All [\d,]+ events with a product name the same",
        "wrong",
    ),
    "other codes": (other_codes, "items", r"0 of \d+ products in events are among the \d+ of the catalogue", "zeros"),
    "no money": (
        events_are(price=pl.lit(None, dtype=pl.Float64), value=pl.lit(None, dtype=pl.Float64)),
        "events",
        r"0 of [\d,]+ order lines have money: value would be 0 for everybody",
        "Map price",
    ),
    "nothing left after cleaning": (
        events_are(price=pl.lit(0.0)),
        "events",
        r"0 of [\d,]+ events are left after cleaning; most: zero_price",
        "habitue check",
    ),
    "1970": (
        events_are(at=pl.col("at") - pl.duration(days=365 * 54)),
        "events",
        r"([\d,]+) of \1 events lie before 1990 \(seconds read as milliseconds",
        "time_format",
    ),
    "the future": (
        events_are(at=pl.col("at") + pl.duration(days=365 * 100)),
        "events",
        r"([\d,]+) of \1 events lie in the future \(day and month exchanged",
        "time_zone",
    ),
    "too short a history": (
        events_are(at=pl.lit(NOW) + pl.duration(hours=pl.int_range(pl.len()) % 900)),
        "events",
        "span 38 days, and churn and value learn from 152 or more: they have 0 training rows",
        "longer history",
    ),
    "more refused than accepted": (
        refused,
        "refused",
        r"5,000 rows were refused, and [\d,]+ accepted; most: The time",
        "map",
    ),
    "nobody agrees": (
        consent_is("personalisation", False, 30),
        "consent",
        "0 of 30 customers may be used for personalisation",
        r"\[consent\] personalisation = true",
    ),
    "nobody is counted": (
        plan_says("[consent]\nanalytics = false"),
        "consent",
        "0 of 30 customers may be used for analytics",
        "Import who",
    ),
}
NOTICES: dict[str, tuple[Callable[[Workspace], object], str, str, str]] = {
    "unknown folder": (made("lake/orders"), "lake/orders", "no table of this Habitue", "Take it away"),
    "an id of two people": (conflict, "identities", "1 ids are claimed by two people; the first", "identity conflicts"),
    "an interrupted training": (made("models/blend/.2024"), "models/blend/.2024", "training was interr", "goes on"),
    "no model": (gone("models/popular"), "models", "No model is trained: recommend and predict", "habitue train"),
    "a model of other data": (
        lambda shop: (
            artifact.save(
                shop.models / "popular/b", "popular", State((), np.ones(0), 1.0, 0.1, 0.1), {"as_of": "2030-01-01"}
            )
            and None
        ),
        "models/popular/b",
        "knows the shop up to 2030-01-01, and the events end on 2024-07-1",
        "of other data",
    ),
    "no words": (no_words, "items", r"0 of \d+ products have words", "Map title"),
    "pictures nobody reads": (
        pictures,
        "media",
        "3 pictures of products.* does not read them",
        r'senses = \["picture"',
    ),
    "two currencies": (
        events_are(currency=pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("GBP")).otherwise(pl.lit("EUR"))),
        "events",
        r"Money is in 2 currencies \(EUR, GBP\)",
        "Convert",
    ),
    "a purpose nothing asks for": (
        consent_is("newsletter", True, 4),
        "consent",
        r"4 rows are about purposes that nothing asks for \(newsletter\)",
        "Map them to analytics",
    ),
    "half a change of identities": (
        written("identities.sqlite-journal", b""),
        "identities",
        "was interrupted",
        "SQLite",
    ),
    "no lake yet": (gone("lake"), "lake", "There is no folder lake: nothing was imported yet", "habitue import"),
}


def said(found: list[Finding], level: str, where: str, words: str, remedy: str) -> bool:
    return any(
        one.level == level and where in one.where and re.search(words, one.found) and re.search(remedy, one.remedy)
        for one in found
    )


def test_there_are_more_than_twenty():
    assert len(BROKEN) >= 20


def test_a_whole_workspace_has_nothing_broken(shop):
    found = examine(shop.root)
    assert [one for one in found if one.level == "broken"] == []
    assert [one.where for one in found if one.level == "notice" and one.where not in ("packages", "memory")] == [
        "consent"
    ], found  # marketing wants a yes
    fine = {one.where for one in found if one.level == "fine"}
    assert {"python", "disk", "threads", "tables", "identities.sqlite", "models", "events"} <= fine


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_said(shop, name):
    change, where, words, remedy = BROKEN[name]
    change(shop)
    before = {p: p.read_bytes() for p in shop.root.rglob("*") if p.is_file() and p.name != ".lock"}
    found = examine(shop.root)
    assert said(found, "broken", where, words, remedy), found
    changed = {p for p, content in before.items() if not p.exists() or p.read_bytes() != content}
    assert {p.name for p in changed} <= {".journal"}, "the doctor changes nothing"


@pytest.mark.parametrize("name", NOTICES)
def test_what_is_worth_a_notice_is_said(shop, name):
    change, where, words, remedy = NOTICES[name]
    change(shop)
    found = examine(shop.root)
    assert said(found, "notice", where, words, remedy), found


def test_pictures_that_are_read_are_no_notice(shop):
    pictures_read(shop)
    assert not [one for one in examine(shop.root) if one.where == "media"]


@contextmanager
def without_rights(folder: Path):
    """Take away the right to write in `folder`; root, who may do everything, becomes nobody for the while."""
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_a_folder_that_cannot_be_written(whole):
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        shutil.copytree(whole, Path(name) / "shop")
        lake = Path(name) / "shop/lake"
        (Path(name) / "shop/identities.sqlite").chmod(0o644)
        with without_rights(lake):
            found = examine(Path(name) / "shop")
        assert said(found, "broken", str(lake), "cannot be written; it can be read", "right to write"), found


HOLD = """
import sys
from pathlib import Path
from habitue.core import lock
with lock.exclusive(Path(sys.argv[1]), wait_s=1):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_process_at_work_is_no_fault(shop):
    (shop.lake.root / ".journal").write_text(json.dumps({"events": 0}))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, shop.lake.root / ".lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        found = examine(shop.root)
        holder.stdin.close()
    assert said(found, "notice", "lake", rf"Another writer \(process {holder.pid}\) is at work", "when it ended")
    assert not any(one.where == "lake/.journal" for one in found)


def test_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.runtime, "free_memory", lambda: 2**29)
    monkeypatch.setattr(machine.runtime, "named_threads", lambda: 512)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**40, 2**40, 2**20))
    monkeypatch.setattr(machine.sys, "version_info", (3, 9, 1))
    monkeypatch.setattr(machine, "_installed", lambda name: name not in ("polars", "optuna"))
    found = machine.findings(tmp_path / "absent")
    assert said(found, "broken", "python", r"Python 3\.9\.1 is not one Habitue runs on", r"3\.11 to 3\.14")
    assert said(found, "broken", "packages", "^polars is missing", "pip install habitue")
    assert said(found, "notice", "packages", r"Extras not installed: tune \(optuna\)\.$", r"habitue\[tune\]")
    monkeypatch.setattr(machine, "_installed", lambda name: name not in ("optuna", "implicit"))
    lacking = [one for one in machine.findings(tmp_path) if one.level == "notice" and one.where == "packages"]
    assert [one.found for one in lacking] == [
        "Extras not installed: als (implicit); tune (optuna)."
    ]  # one line for all
    assert said(found, "fine", "packages", "Extras installed: .*speed", "")
    assert said(found, "notice", "memory", r"0\.5 GiB are free", "1 kB a row")
    assert said(found, "broken", "disk", r"0\.0 GiB are free", "Make room")
    assert said(found, "notice", "threads", r"OMP_NUM_THREADS is 512, and there are \d+ cores", "Set it to 1")
    monkeypatch.setattr(machine.runtime, "free_memory", lambda: None)
    assert said(machine.findings(tmp_path), "fine", "memory", "cannot be told", "")


def habitue(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["doctor", *arguments])
    return done.exit_code, done.stdout


def test_the_exit_code_says_whether_something_is_broken(shop, monkeypatch):
    monkeypatch.setattr(machine, "findings", lambda path: [])
    code, words = habitue("-w", str(shop.root))
    assert code == 0 and words.endswith("\nNothing is broken.\n") and "notice  consent: 0 of 30" in words
    events_are(kind=pl.lit("purchase"))(shop)
    code, words = habitue("-w", str(shop.root))
    assert code == 1 and words.endswith("\n1 broken.\n")
    assert re.search(r"broken  events: 0 of [\d,]+ events are positive.*\n        -> Say which rows", words)
    code, text = habitue("-w", str(shop.root), "--json")
    told = json.loads(text)
    assert (code, told["ok"], told["broken"]) == (1, False, 1)
    assert {"level", "where", "found", "remedy"} == set(told["findings"][0])
    assert "Example" in habitue("--help")[1]


def test_no_raw_id_is_ever_printed(shop):
    conflict(shop)
    _, words = habitue("-w", str(shop.root), "--json")
    names = identities.aliases(shop.identities)["alias"]
    assert not any(re.search(rf"\b{name}\b", words) for name in names)
    assert erase.NOTE not in words
