"""Somebody is erased; then every byte of the workspace is unpacked by other means than the product's and searched."""

import datetime as dt
import gzip
import html
import json
import os
import re
import sqlite3
import stat
import struct
from pathlib import Path

import duckdb
import polars as pl
import pytest

from habitue.core import workspace
from habitue.core.errors import LakeError, UsageError
from habitue.core.schemas import CONSENT, EVENTS, EXPOSURES, FEATURES, MEDIA, REFUSED, TABLES, USERS
from habitue.protect import erase as erasing
from habitue.protect import identities, people
from habitue.protect.people import pseudonym

DAY = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
NAMES = {"user_id": "ANN-17850-RAW", "email": "ann@secret.example", "anonymous_id": "cookie-äöü-<secret>"}


def day(n: float) -> dt.datetime:
    return DAY + dt.timedelta(days=n)


def filled(table, rows: list[dict]) -> pl.DataFrame:
    """Rows of a table; what is not given and may not be null is any value of its type."""
    blank = {"str": "x", "i64": 0, "i32": 0, "f64": 0.0, "bool": True, "utc": DAY}
    full = [{c.name: None if c.nullable else blank.get(c.type, []) for c in table.columns} | row for row in rows]
    return table.shape(pl.DataFrame(full, schema=table.schema))


@pytest.fixture
def shop(tmp_path):
    """Ann by number, e-mail and cookie, and thirty others, in every table of people, in pages and in two models."""
    space = workspace.init(tmp_path / "shop", buckets=2)
    mine = {
        kind: identities.keys_for(space.identities, kind, pl.Series([name]), linked_at=DAY, source="web")[0]
        for kind, name in NAMES.items()
    }
    names = pl.Series([f"other-{i}" for i in range(30)])
    others = identities.keys_for(space.identities, "user_id", names, linked_at=DAY, source="web").to_list()
    pairs = pl.DataFrame({"user_key": [mine["email"], mine["anonymous_id"]], "became": [mine["user_id"]] * 2})
    with identities.book(space.identities) as connection:
        people.claim(connection, pairs.with_columns(at=pl.lit(day(1))), source="web")
    every = [*mine.values(), *others]
    lake = space.lake
    for turn in range(3):
        at = [day(2 + turn + i / 100) for i in range(len(every))]
        lake.append(
            EVENTS,
            filled(
                EVENTS,
                [
                    {"event_id": f"e{turn}-{i}", "user_key": key, "at": when, "order_id": f"order-of-{key}-{turn}"}
                    for i, (key, when) in enumerate(zip(every, at, strict=True))
                ],
            ),
        )
    about = [{"user_key": key, "attributes": json.dumps({"email": NAMES["email"]} if i == 0 else {})} for i, key in
             enumerate(every)]  # fmt: skip
    lake.append(USERS, filled(USERS, about))
    lake.append(CONSENT, filled(CONSENT, [{"user_key": key, "purpose": "marketing"} for key in every]))
    shown = [{"user_key": k, "exposure_id": str(i), "propensity": 0.5} for i, k in enumerate(every)]
    lake.append(EXPOSURES, filled(EXPOSURES, shown))
    lake.replace(FEATURES, filled(FEATURES, [{"user_key": key, "as_of": day(9)} for key in every]))
    raw = [json.dumps({"InvoiceNo": f"order-of-{key}-0", "CustomerID": "***"}) for key in every]
    lake.append(REFUSED, filled(REFUSED, [{"raw": text, "row": i} for i, text in enumerate(raw)]))
    (space.reports / "sealed").mkdir()
    pl.DataFrame({"user_key": every, "score": 0.5}).write_parquet(space.reports / "sealed/scores.parquet")
    (space.reports / "report.html").write_text(f"<p>{pseudonym(mine['user_id'])} left</p>")
    (space.reports / "mail.html").write_text(f"<p>{html.escape(NAMES['anonymous_id'])}</p>")
    (space.reports / "other.html").write_text(f"<p>{pseudonym(others[0])} left</p>")
    (space.root / "state/live.json").write_text(json.dumps({str(mine["email"]): {"cart": []}}))
    for name, as_of in (("early", day(1)), ("late", day(8))):
        (space.models / "blend" / name).mkdir(parents=True)
        manifest = {"added": {"as_of": as_of.isoformat()}}
        (space.models / "blend" / name / "manifest.json").write_text(json.dumps(manifest))
    return space, mine, others


def unpacked(path: Path) -> bytes:
    """Everything a file says: its bytes, and what is packed in it."""
    content = path.read_bytes()
    if content[:4] == b"PAR1":
        for say in ("read_parquet('{}', hive_partitioning=false)", "parquet_metadata('{}')"):
            content += repr(
                duckdb.sql(f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM {say.format(path)}").fetchall()
            ).encode()
    if content[:16] == b"SQLite format 3\0":
        connection = sqlite3.connect(path)
        content += "\n".join(connection.iterdump()).encode()
        connection.close()
    if content[:2] == b"\x1f\x8b":
        content += gzip.decompress(content)
    return content


def traces(root: Path, mine: dict[str, int]) -> list[str]:
    """Files in which a raw id or a key of hers is, in any of the forms a program might write them."""
    forms = [repr(name)[1:-1].encode() for name in NAMES.values()] + [name.encode() for name in NAMES.values()]
    forms += [json.dumps(name)[1:-1].encode() for name in NAMES.values()]
    forms += [html.escape(name).encode() for name in NAMES.values()]
    for key in mine.values():
        forms += [str(key).encode(), struct.pack("<q", key), struct.pack(">q", key), pseudonym(key).encode()]
    hits = []
    for path in sorted(root.rglob("*")):
        if path.is_file():
            content = unpacked(path)
            if any(form in content for form in forms):
                hits.append(str(path.relative_to(root)))
    return hits


def test_the_search_of_this_test_finds_her_everywhere_before(shop):
    space, mine, _ = shop
    hits = traces(space.root, mine)
    tables = {hit.split("/")[1] for hit in hits if hit.startswith("lake/")}
    assert tables == {"events", "users", "consent", "exposures", "features", "refused"}
    assert {"identities.sqlite", "reports/sealed/scores.parquet", "reports/report.html", "state/live.json"} < set(hits)


def test_nothing_of_her_is_left_in_any_byte(shop):
    space, mine, others = shop
    receipt = erasing.erase(space, [mine["email"]])
    assert traces(space.root, mine) == []
    assert receipt["complete"] and receipt["files_left"] == []
    assert receipt["rows"] == {"events": 9, "users": 3, "consent": 3, "exposures": 3, "features": 3, "refused": 3}
    assert (receipt["keys"], receipt["aliases"]) == (3, 3)
    assert not (space.lake.root / erasing.NOTE).exists()


def test_what_a_tracker_sent_of_her_and_was_refused_goes_too(shop):
    space, mine, others = shop
    keys = [mine["anonymous_id"], others[0], int(f"{mine['user_id']}0")]  # hers, another's, one that begins like hers
    raw = [f'{{"event_id":"m{i}","price":"x12","extra":{{}},"user_key":{key}}}' for i, key in enumerate(keys)]
    raw.append(f'{{"user_key": {mine["user_id"]}, "event_id": "m9"}}')
    space.lake.append(REFUSED, filled(REFUSED, [{"raw": text, "row": 100 + i} for i, text in enumerate(raw)]))
    receipt = erasing.erase(space, [mine["email"]])
    assert receipt["complete"] and receipt["rows"]["refused"] == 5
    left = space.lake.read(REFUSED)["raw"]
    assert left.filter(left.str.contains("event_id")).to_list() == raw[1:3]


def test_an_erasure_of_nobody_takes_nothing(shop):
    space, _, others = shop
    raw = f'{{"event_id":"m1","user_key":{others[0]}}}'
    space.lake.append(REFUSED, filled(REFUSED, [{"raw": raw, "row": 100}]))
    assert erasing.erase(space, [])["rows"] == {}
    assert raw in space.lake.read(REFUSED)["raw"].to_list()


def test_everybody_else_is_as_before(shop):
    space, mine, others = shop
    before = {t.name: space.lake.read(t) for t in TABLES if t.name != "identities"}
    ids = identities.aliases(space.identities).filter(~pl.col("user_key").is_in(list(mine.values())))
    erasing.erase(space, [mine["user_id"]])
    for table in TABLES:
        if "user_key" in table.schema and table.name != "identities":
            kept = before[table.name].filter(~pl.col("user_key").is_in(list(mine.values())))
            assert space.lake.read(table).equals(kept), table.name
    assert space.lake.read(REFUSED).height == 30
    assert identities.aliases(space.identities).equals(ids)
    assert (space.reports / "other.html").exists()


def test_the_receipt_names_what_was_done_and_nobody(shop):
    space, mine, _ = shop
    receipt = erasing.erase(space, [mine["user_id"]])
    assert receipt["files_removed"] == [
        "reports/mail.html",
        "reports/report.html",
        "reports/sealed/scores.parquet",
        "state/live.json",
    ]
    assert receipt["models_to_retrain"] == ["blend/late"]
    path = space.receipts / f"erasure-{receipt['id']}.json"
    assert json.loads(path.read_text()) == receipt == erasing.verify(path)
    assert receipt["searched"]["files"] > 20 and receipt["searched"]["bytes"] > 10_000


def test_the_servers_copy_of_events_goes_whole_and_its_keys_stay(shop):
    space, mine, others = shop
    (space.root / "state/live.7").mkdir()
    (space.root / "state/live.7/live.ndjson").write_text('{"at": 1, "item_id": "p1"}\n')  # whose it is stands nowhere
    for name in erasing.KEPT:
        (space.root / "state" / name).write_text(f"made for {NAMES['email']}")
    receipt = erasing.erase(space, [mine["user_id"]])
    assert "state/live.7" in receipt["files_removed"] and not (space.root / "state/live.7").exists()
    assert [name for name in erasing.KEPT if (space.root / "state" / name).exists()] == list(erasing.KEPT)
    assert receipt["files_left"] == [f"state/{name}" for name in erasing.KEPT]  # and a note in one is told


def test_a_signed_receipt_can_be_held_against_its_key(shop):
    space, mine, _ = shop
    receipt = erasing.erase(space, [mine["user_id"]], sign_with=b"secret")
    path = space.receipts / f"erasure-{receipt['id']}.json"
    assert erasing.verify(path, sign_with=b"secret") == receipt
    with pytest.raises(UsageError, match="it was signed with another key. It proves nothing"):
        erasing.verify(path, sign_with=b"other")
    path.write_text(json.dumps(receipt | {"aliases": 0}))
    with pytest.raises(UsageError, match="the receipt was changed after it was written"):
        erasing.verify(path)
    path.write_text("{}")
    with pytest.raises(UsageError, match="this is no receipt of an erasure"):
        erasing.verify(path)
    unsigned = erasing._receipt({}, None)
    path.write_text(json.dumps(unsigned))
    with pytest.raises(UsageError, match="the receipt was not signed"):
        erasing.verify(path, sign_with=b"secret")


def test_her_media_go_and_their_files_are_named(shop, tmp_path):
    space, mine, others = shop
    for name in ("face.png", "voice.wav", "other.png"):
        (tmp_path / name).write_bytes(b"x")
    mine_event = space.lake.read(EVENTS).filter(user_key=mine["email"])["event_id"][0]
    rows = [
        {"media_id": "1", "owner": "user", "user_key": mine["user_id"], "path": str(tmp_path / "face.png")},
        {"media_id": "2", "owner": "event", "owner_id": mine_event, "path": str(tmp_path / "voice.wav")},
        {"media_id": "3", "owner": "user", "user_key": others[0], "path": str(tmp_path / "other.png")},
    ]
    space.lake.append(MEDIA, filled(MEDIA, rows))
    receipt = erasing.erase(space, [mine["user_id"]])
    assert receipt["rows"]["media"] == 2 and space.lake.read(MEDIA)["media_id"].to_list() == ["3"]
    assert receipt["files_left"] == [str(tmp_path / "face.png"), str(tmp_path / "voice.wav")]
    assert not receipt["complete"]


def test_a_file_of_the_shops_own_is_named_and_left(shop):
    space, mine, _ = shop
    (space.root / "orders.csv").write_text(f"customer\n{NAMES['user_id']}\n")
    receipt = erasing.erase(space, [mine["user_id"]])
    assert not receipt["complete"] and receipt["files_left"] == ["orders.csv"]
    assert (space.root / "orders.csv").exists()


@pytest.mark.parametrize("after", ["_refused", "_derived", "_receipt", "_keep"])
def test_what_was_interrupted_is_finished(shop, monkeypatch, after):
    space, mine, _ = shop
    step = getattr(erasing, after)

    def interrupted(*args):
        step(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(erasing, after, interrupted)
        with pytest.raises(KeyboardInterrupt):
            erasing.erase(space, [mine["user_id"]])
    assert erasing.unfinished(space) == sorted(mine.values())
    receipt = erasing.erase(space, erasing.unfinished(space))
    assert traces(space.root, mine) == [] and receipt["complete"] and erasing.unfinished(space) == []


def test_between_two_tables_too(shop, monkeypatch):
    space, mine, _ = shop
    calls = []
    purge = type(space.lake).purge

    def interrupted(lake, table):
        calls.append(table.name)
        if len(calls) == 3:
            raise KeyboardInterrupt  # rows of the third table are out of its latest version, not of its files
        purge(lake, table)

    with monkeypatch.context() as patched:
        patched.setattr(type(space.lake), "purge", interrupted)
        with pytest.raises(KeyboardInterrupt):
            erasing.erase(space, [mine["user_id"]])
    assert traces(space.root, mine) != []
    erasing.erase(space, erasing.unfinished(space))
    assert traces(space.root, mine) == []


def test_an_unreadable_note_is_said(shop):
    space, _, _ = shop
    (space.lake.root / erasing.NOTE).write_text("{")
    with pytest.raises(LakeError, match="note of an unfinished erasure cannot be read.*Erase the person again"):
        erasing.unfinished(space)


def test_a_file_that_cannot_be_searched_is_said(shop):
    space, mine, _ = shop
    (space.root / "broken.parquet").write_bytes(b"PAR1 junk PAR1")
    with pytest.raises(LakeError, match=r"broken.parquet: the file cannot be searched.*cannot be told.*take it away"):
        erasing.erase(space, [mine["user_id"]])
    (space.root / "broken.parquet").unlink()
    assert erasing.erase(space, erasing.unfinished(space))["complete"]


def test_a_receipt_that_cannot_be_written(shop, monkeypatch):
    space, mine, _ = shop
    space.receipts.write_text("a file in the way")
    with pytest.raises(LakeError, match="cannot be written.*erasure is not finished.*habitue erase --resume"):
        erasing.erase(space, [mine["user_id"]])
    space.receipts.unlink()
    assert erasing.erase(space, erasing.unfinished(space))["complete"]


def test_a_short_number_counts_only_where_it_stands_alone(tmp_path):
    from habitue.protect import traces as searching

    person = searching.Person((2**40,), ("17850", "order:7"))
    texts = {
        '{"customer": "17850"}': True,
        '{"money": 17850.5, "n": 17850}': False,
        "<b>order:7</b>": True,
        "reorder:77": False,
        f"key {2**40}!": True,
        f"key {2**40}9": False,
    }
    for i, (text, found) in enumerate(texts.items()):
        path = tmp_path / f"{i}.txt"
        path.write_text(text)
        assert searching.holds(path, person) == found, text
    frames = {"id": (pl.Series(["17850"]), True), "n": (pl.Series([17850]), False), "k": (pl.Series([2**40]), True)}
    frames |= {"list": (pl.Series([["a", "17850"]]), True), "bytes": (pl.Series([b'"17850"']), True)}
    for name, (column, found) in frames.items():
        pl.DataFrame({name: column}).write_parquet(tmp_path / "t.parquet")
        assert searching.holds(tmp_path / "t.parquet", person) == found, name


def test_modes_of_files_stay(shop):
    space, mine, _ = shop
    erasing.erase(space, [mine["user_id"]])
    assert stat.S_IMODE(space.identities.stat().st_mode) == 0o600
    assert not [name for name in os.listdir(space.root) if re.search("journal|draft|wal", name)]
