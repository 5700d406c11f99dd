import dataclasses
import datetime as dt
import json
import math
import signal
import subprocess
import sys
import textwrap

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from habitue import collect
from habitue.collect.mapping import Kind, Mapping, Rule, User
from habitue.core.errors import InputError, LakeError, SettingsError, UsageError
from habitue.core.lake import Lake
from habitue.core.schemas import EVENTS, ITEMS, REFUSED, TABLES, USERS, check
from habitue.core.workspace import init
from habitue.protect import identities, people

MAPPING = Mapping(
    source="shop",
    time_zone="Europe/London",
    currency="GBP",
    columns={
        "at": "When",
        "order_id": "Order",
        "item_id": "Code",
        "title": "Words",
        "quantity": "Units",
        "price": "Price",
    },
    user=User("Customer"),
    user_attributes={"country": "Country"},
    kind=Kind(rules=(Rule("order_id", "C", "Order Refunded"),)),
)
TOML = """
source = "shop"
time_zone = "Europe/London"
currency = "GBP"
columns = {at = "When", order_id = "Order", item_id = "Code", title = "Words", quantity = "Units", price = "Price"}
user = {column = "Customer"}
user_attributes = {country = "Country"}
kind = {rules = [{field = "order_id", prefix = "C", kind = "Order Refunded"}]}
"""
NAMES = ("When", "Order", "Code", "Words", "Units", "Price", "Customer", "Country")
LINES = [
    ("2011-07-01 10:00", "1", "A", "Apple", "2", "1.5", "17850", "France"),
    ("2011-07-01 10:00", "1", "B", "Bell", "1", "4", "17850", "France"),
    ("2011-07-02 10:00", "2", "A", "Apple, red", "1", "1.5", "", "Spain"),
    ("2011-07-03 10:00", "C3", "A", "Apple", "-1", "1.5", "17850", "Italy"),
    ("2011-07-04 10:00", "4", "A", "", "1", "1.5", "12346", "France"),
    ("2011-07-04 10:00", "4", "A", "", "1", "1.5", "12346", "France"),
]


def frame(lines=LINES) -> pl.DataFrame:
    schema = dict.fromkeys(NAMES, pl.String())
    return pl.DataFrame(lines, schema=schema, orient="row").with_columns(pl.all().replace("", None))


@pytest.fixture
def shop(tmp_path):
    return init(tmp_path / "shop")


def everything(shop) -> dict[str, pl.DataFrame]:
    """What a workspace holds, but for the ids of imports and the moment of linking."""
    tables = {table.name: shop.lake.read(table).drop("import_id") for table in (EVENTS, ITEMS, USERS, REFUSED)}
    # what an earlier row already says, a later one only repeats
    tables["items"] = tables["items"].unique(["item_id", "title"], keep="first", maintain_order=True)
    tables["users"] = tables["users"].unique(["user_key", "attributes"], keep="first", maintain_order=True)
    return {name: table.sort(pl.all()) for name, table in tables.items()}


def assert_same(one, other) -> None:
    for name, table in everything(one).items():
        assert_frame_equal(table, everything(other)[name])


def bad(shop) -> list[tuple[int, str]]:
    return shop.lake.read(REFUSED).select("row", "code").sort("row").rows()


# What an import brings


def test_an_import_says_what_it_did(shop):
    done = collect.import_frame(shop, frame(), MAPPING)
    assert dataclasses.asdict(done) == {
        "source": "shop",
        "import_id": done.import_id,
        "read": 6,
        "new": 6,
        "known": 0,
        "refused": 0,
        "money": 10.0,
        "currency": "GBP",
        "sums": {"GBP": 10.0},
        "orders": 4,
        "users": 2,
        "guests": 1,
        "first": dt.datetime(2011, 7, 1, 9, tzinfo=dt.UTC),
        "last": dt.datetime(2011, 7, 4, 9, tzinfo=dt.UTC),
    }


def test_every_table_keeps_its_contract(shop):
    collect.import_frame(shop, frame([*LINES, ("never", *LINES[0][1:])]), MAPPING)
    for table in (EVENTS, ITEMS, USERS, REFUSED):
        check(shop.lake.read(table), table, at="test")
        assert shop.lake.read(table).height > 0
        assert shop.lake.read(table, columns=table.key).is_unique().all()


def test_a_line_becomes_an_event(shop):
    done = collect.import_frame(shop, frame(LINES[:1]), MAPPING)
    (event,) = shop.lake.read(EVENTS).to_dicts()
    assert {name: value for name, value in event.items() if value is not None and name != "event_id"} == {
        "line": 0,
        "at": dt.datetime(2011, 7, 1, 9, tzinfo=dt.UTC),
        "kind": "Order Completed",
        "order_id": "1",
        "item_id": "A",
        "title": "Apple",
        "price": 1.5,
        "quantity": 2.0,
        "value": 3.0,
        "currency": "GBP",
        "source": "shop",
        "import_id": done.import_id,
        "user_key": identities.lookup(shop.identities, "user_id", "17850"),
    }


def test_a_rule_makes_refunds(shop):
    collect.import_frame(shop, frame(), MAPPING)
    events = shop.lake.read(EVENTS, columns=["order_id", "kind", "quantity", "value"])
    assert events.filter(pl.col("kind") == "Order Refunded").rows() == [("C3", "Order Refunded", -1.0, -1.5)]
    assert set(events.filter(~pl.col("order_id").str.starts_with("C"))["kind"]) == {"Order Completed"}


def test_a_refund_written_with_positive_numbers_still_counts_against_the_shop(shop):
    done = collect.import_frame(shop, frame([("2011-07-01", "C1", "A", "", "2", "1.5", "1", "")]), MAPPING)
    assert done.money == -3.0
    assert shop.lake.read(EVENTS, columns=["quantity", "price", "value"]).rows() == [(-2.0, 1.5, -3.0)]


def test_a_negative_quantity_that_is_no_refund_stays_for_quality(shop):
    collect.import_frame(shop, frame([("2011-07-01", "1", "A", "", "-2", "1.5", "1", "")]), MAPPING)
    assert shop.lake.read(EVENTS, columns=["kind", "quantity"]).rows() == [("Order Completed", -2.0)]


def test_the_files_own_kind_and_value_win(shop):
    mapping = Mapping(
        source="s",
        time_zone="UTC",
        columns={"at": "t", "kind": "k", "price": "p", "quantity": "q", "value": "v"},
        user=User("u", alias_kind="email"),
        kind=Kind(default="Product Viewed"),
    )
    raw = {"t": ["2024-01-01"] * 2, "k": ["Product Added", None], "p": [2.0] * 2, "q": [3] * 2, "v": [5.0, None]}
    done = collect.import_frame(shop, pl.DataFrame({**raw, "u": ["a@b.c"] * 2}), mapping)
    rows = shop.lake.read(EVENTS, columns=["kind", "value", "currency"]).sort("kind").rows()
    assert rows == [("Product Added", 5.0, "EUR"), ("Product Viewed", None, "EUR")]
    assert (done.currency, done.orders) == ("EUR", 0)
    assert identities.aliases(shop.identities)["alias_kind"].to_list() == ["email"]


def test_a_price_without_a_quantity_is_the_value(shop):
    mapping = Mapping(source="s", time_zone="UTC", columns={"at": "t", "order_id": "o", "price": "p"})
    collect.import_frame(shop, pl.DataFrame({"t": ["2024-01-01"], "o": [1], "p": [2.5]}), mapping)
    assert shop.lake.read(EVENTS, columns=["value", "quantity"]).rows() == [(2.5, None)]


def test_a_line_without_a_price_or_quantity_is_no_reason_to_refuse_it(shop):
    lines = [("2011-07-01", "1", "A", "", "2", "", "1", ""), ("2011-07-01", "1", "A", "", "", "1.255", "1", "")]
    done = collect.import_frame(shop, frame([*lines, ("2011-07-01", "1", "A", "", "1", "1.255", "1", "")]), MAPPING)
    assert (done.new, done.refused, done.money) == (3, 0, 1.25)  # a float just below 1.255
    assert shop.lake.read(EVENTS)["value"].null_count() == 2


def test_guests_are_people_of_one_order(shop):
    lines = [
        ("2011-07-01", "1", "A", "", "1", "1", "", ""),
        ("2011-07-01", "1", "B", "", "1", "1", "", ""),
        ("2011-07-02", "2", "A", "", "1", "1", "", ""),
    ]
    done = collect.import_frame(shop, frame(lines), MAPPING)
    assert (done.users, done.guests) == (0, 2)
    aliases = identities.aliases(shop.identities)
    assert aliases.select("alias_kind", "alias").rows() == [("anonymous_id", "order:1"), ("anonymous_id", "order:2")]
    assert not people.known_keys(shop.identities)["known"].any()
    assert shop.lake.read(EVENTS)["user_key"].n_unique() == 2


def test_titles_count_from_their_first_moment(shop):
    collect.import_frame(shop, frame(), MAPPING)
    july = [dt.datetime(2011, 7, day, 9, tzinfo=dt.UTC) for day in range(5)[1:]]
    expected = {("A", "Apple", july[0]), ("A", "Apple, red", july[1]), ("A", None, july[3]), ("B", "Bell", july[0])}
    assert set(shop.lake.read(ITEMS, columns=["item_id", "title", "valid_from"]).rows()) == expected


def test_words_seen_earlier_in_a_later_import_count_from_then(shop):
    collect.import_frame(shop, frame(LINES[3:4]), MAPPING)
    collect.import_frame(shop, frame(LINES[:1]), MAPPING)
    collect.import_frame(shop, frame(LINES[:1] * 2), MAPPING)
    moments = shop.lake.read(ITEMS, columns=["valid_from"])["valid_from"]
    assert moments.dt.day().to_list() == [1, 3]


def test_attributes_count_from_their_first_moment(shop):
    collect.import_frame(shop, frame(), MAPPING)
    key = identities.lookup(shop.identities, "user_id", "17850")
    users = shop.lake.read(USERS).filter(pl.col("user_key") == key)
    assert users.select(pl.col("valid_from").dt.day(), "attributes").rows() == [
        (1, '{"country": "France"}'),
        (3, '{"country": "Italy"}'),
    ]
    assert shop.lake.read(USERS).height == 4


def test_two_attributes_of_one_moment_are_one_row(shop):
    lines = [("2011-07-01", "1", c, "", "1", "1", "1", land) for c, land in (("A", "Spain"), ("B", "France"))]
    collect.import_frame(shop, frame(lines), MAPPING)
    assert shop.lake.read(USERS)["attributes"].to_list() == ['{"country": "France"}']


def test_a_person_without_attributes_has_no_row(shop):
    collect.import_frame(shop, frame([(*LINES[0][:-1], "")]), MAPPING)
    assert shop.lake.read(USERS).is_empty()


def test_no_raw_id_gets_into_the_lake(shop):
    secret = "SECRET17850"
    lines = [(*LINES[0][:6], secret, "France"), ("never", *LINES[0][1:6], secret, "France")]
    collect.import_frame(shop, frame(lines), MAPPING)
    for table in TABLES:
        if (shop.lake.root / table.name).exists():
            assert secret not in shop.lake.read(table).write_csv()
    files = [file for file in shop.root.rglob("*") if file.is_file() and file.suffix != ".sqlite"]
    assert not any(secret.encode() in file.read_bytes() for file in files)


def test_an_event_id_cannot_be_found_by_trying_customer_numbers(tmp_path):
    ids = []
    for name in ("a", "b"):
        shop = init(tmp_path / name)
        collect.import_frame(shop, frame(LINES[:1]), MAPPING)
        ids += shop.lake.read(EVENTS)["event_id"].to_list()
    assert ids[0] != ids[1]  # the same row: only the workspace's secret differs


def test_a_seed_makes_two_workspaces_equal_whatever_the_order_of_rows(tmp_path):
    shops = [init(tmp_path / name) for name in ("a", "b", "c")]
    for shop, lines, seed in zip(shops, (LINES, LINES[::-1], LINES), (1, 1, 2), strict=True):
        collect.import_frame(shop, frame(lines), MAPPING, seed=seed)
    assert_same(shops[0], shops[1])
    assert set(shops[0].lake.read(EVENTS)["user_key"]).isdisjoint(shops[2].lake.read(EVENTS)["user_key"])


# Only what is new


def test_the_same_file_again_adds_nothing(shop):
    first = collect.import_frame(shop, frame(), MAPPING)
    before = everything(shop)
    again = collect.import_frame(shop, frame(LINES[::-1]), MAPPING)
    assert (again.read, again.new, again.known, again.money, again.first) == (6, 0, 6, 0.0, None)
    assert again.import_id == first.import_id
    for name, table in everything(shop).items():
        assert_frame_equal(table, before[name])


def test_csv_and_parquet_of_the_same_rows_are_the_same(shop, tmp_path):
    typed = frame().with_columns(
        pl.col("When").str.to_datetime("%Y-%m-%d %H:%M"),
        pl.col("Units").cast(pl.Int64),
        pl.col("Price").cast(pl.Float64),
        pl.col("Customer").cast(pl.Int32),
    )
    typed.select(reversed(NAMES)).write_parquet(tmp_path / "a.parquet")
    frame().write_csv(tmp_path / "a.csv")
    (tmp_path / "a.toml").write_text(TOML)
    assert collect.import_file(shop, tmp_path / "a.csv").new == 6
    assert collect.import_file(shop, tmp_path / "a.parquet", tmp_path / "a.toml").new == 0


lines = st.lists(st.sampled_from(LINES), max_size=8)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=lines.filter(bool), more=lines, order=st.randoms(use_true_random=False))
def test_a_longer_export_in_any_order_adds_only_its_new_rows(tmp_path_factory, first, more, order):
    shops = [init(tmp_path_factory.mktemp("shop") / name) for name in ("grown", "whole")]
    longer = first + more
    order.shuffle(longer)
    collect.import_frame(shops[0], frame(first), MAPPING, seed=1)
    grown = collect.import_frame(shops[0], frame(longer), MAPPING, seed=1)
    collect.import_frame(shops[1], frame(longer), MAPPING, seed=1)
    assert (grown.new, grown.known) == (len(more), len(first))
    assert_same(*shops)


def test_only_rows_of_a_span_of_time(tmp_path):
    shops = [init(tmp_path / name) for name in ("parts", "whole")]
    cut = dt.datetime(2011, 7, 3, 9, tzinfo=dt.UTC)
    early = collect.import_frame(shops[0], frame(), MAPPING, seed=1, before=cut)
    late = collect.import_frame(shops[0], frame(), MAPPING, seed=1, since=cut)
    assert (early.read, early.new, early.last) == (3, 3, dt.datetime(2011, 7, 2, 9, tzinfo=dt.UTC))
    assert (late.read, late.new, late.known, late.first) == (3, 3, 0, cut)
    collect.import_frame(shops[1], frame(), MAPPING, seed=1)
    assert_same(*shops)


def test_a_span_without_rows_brings_nothing(shop):
    done = collect.import_frame(shop, frame(), MAPPING, before=dt.datetime(2000, 1, 1, tzinfo=dt.UTC))
    assert (done.read, done.new, done.money, done.users, done.guests, done.last) == (0, 0, 0.0, 0, 0, None)
    assert shop.lake.read(EVENTS).is_empty()


# Rows that are refused

GOOD = ("2011-07-01", "1", "A", "", "1", "1", "1", "")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (("", *GOOD[1:]), "missing_time"),
        (("1/7/2011", *GOOD[1:]), "bad_time"),
        (("2011-03-27 01:30:00", *GOOD[1:]), "bad_time"),
        ((*GOOD[:5], "NaN", *GOOD[6:]), "bad_price"),
        ((*GOOD[:5], "1e308", *GOOD[6:]), "bad_price"),
        ((*GOOD[:5], "inf", *GOOD[6:]), "bad_price"),
        ((*GOOD[:5], "1,50", *GOOD[6:]), "bad_price"),
        ((*GOOD[:4], "many", *GOOD[5:]), "bad_quantity"),
        ((*GOOD[:4], "1e10", "1e10", *GOOD[6:]), "bad_value"),
        ((GOOD[0], "", *GOOD[2:6], "", ""), "missing_user_and_order"),
    ],
)
def test_a_row_is_refused_alone_and_kept_with_its_reason(shop, line, code):
    done = collect.import_frame(shop, frame([GOOD, line, GOOD]), MAPPING)
    assert (done.read, done.new, done.refused) == (3, 2, 1)
    assert bad(shop) == [(2, code)]
    (row,) = shop.lake.read(REFUSED).to_dicts()
    assert row["source"] == "shop" and row["import_id"] == done.import_id
    assert row["sentence"].startswith("The ") and set(json.loads(row["raw"])) == set(NAMES)


def test_typed_nan_and_huge_prices_are_refused(shop):
    mapping = Mapping(source="s", time_zone="UTC", columns={"at": "t", "order_id": "o", "price": "p"})
    raw = pl.DataFrame({"t": ["2024-01-01"] * 5, "o": range(5), "p": [1.0, math.nan, 1e308, -math.inf, None]})
    done = collect.import_frame(shop, raw, mapping)
    assert (done.new, done.money) == (2, 1.0)
    assert bad(shop) == [(2, "bad_price"), (3, "bad_price"), (4, "bad_price")]


def test_a_shop_may_refuse_guests(shop):
    mapping = dataclasses.replace(MAPPING, user=User("Customer", guest="refuse"))
    assert collect.import_frame(shop, frame(), mapping).guests == 0
    assert bad(shop) == [(3, "missing_user")]


def test_refused_rows_are_kept_once_however_often_they_come(shop):
    never = ("never", *GOOD[1:])
    collect.import_frame(shop, frame([GOOD, never, never]), MAPPING)
    collect.import_frame(shop, frame([never, never, GOOD]), MAPPING)
    assert bad(shop) == [(2, "bad_time"), (3, "bad_time")]
    longer = collect.import_frame(shop, frame([never, GOOD, never, never]), MAPPING)
    assert longer.refused == 3
    assert shop.lake.read(REFUSED).height == 3


def test_empty_lines_are_no_rows_but_count_in_the_number_of_a_row(shop, tmp_path):
    (tmp_path / "a.csv").write_text(f"{','.join(NAMES)}\n\n{','.join(GOOD)}\nnever,1,A,,1,1,1,\n\n")
    done = collect.import_file(shop, tmp_path / "a.csv", MAPPING)
    assert (done.read, done.new, bad(shop)) == (2, 1, [(3, "bad_time")])


def test_a_file_of_which_no_row_can_be_accepted_is_one_sentence(shop, tmp_path):
    frame([("1/7/2011 8:00", *GOOD[1:])] * 3).write_csv(tmp_path / "a.csv")
    with pytest.raises(
        InputError, match=r"a\.csv: every one of its 3 rows would be refused; most: The time is not in ISO"
    ):
        collect.import_file(shop, tmp_path / "a.csv", MAPPING)
    assert list(shop.lake.root.iterdir()) == [] and not shop.identities.exists()


# Catalogues

CATALOGUE = Mapping(
    source="catalogue",
    time_zone="Europe/London",
    what="items",
    columns={"item_id": "Code", "title": "Words", "price": "Price"},
    valid_from=dt.datetime(2011, 9, 9, tzinfo=dt.UTC),
)


def test_a_catalogue_brings_items_and_no_people(shop):
    raw = pl.DataFrame(
        {"Code": ["A", "A", None, "B"], "Words": ["Apple", "Apple", "x", None], "Price": ["1", "1", "1", "x"]}
    )
    done = collect.import_frame(shop, raw, CATALOGUE)
    assert (done.read, done.new, done.known, done.refused) == (4, 1, 1, 2)
    assert (done.orders, done.users, done.guests, done.money) == (0, 0, 0, 0.0)
    assert bad(shop) == [(3, "missing_item"), (4, "bad_price")]
    (item,) = shop.lake.read(ITEMS).to_dicts()
    assert (item["title"], item["price"], item["currency"], item["valid_from"]) == (
        *("Apple", 1.0, "EUR"),
        CATALOGUE.valid_from,
    )
    assert not shop.identities.exists()
    assert collect.import_frame(shop, raw, CATALOGUE).new == 0
    assert shop.lake.read(REFUSED).height == 2


def test_a_catalogue_may_say_from_when_each_product_is_valid(shop):
    mapping = dataclasses.replace(CATALOGUE, columns={"item_id": "c", "valid_from": "t"}, valid_from=None)
    raw = pl.DataFrame({"c": ["A", "B", "C"], "t": ["2011-07-01", "2011-07-02", "soon"]})
    done = collect.import_frame(shop, raw, mapping, before=dt.datetime(2011, 7, 1, tzinfo=dt.UTC))
    assert (done.new, done.refused) == (1, 1)
    assert shop.lake.read(ITEMS)["valid_from"].to_list() == [dt.datetime(2011, 6, 30, 23, tzinfo=dt.UTC)]


# Bad input: a sentence, and nothing half-written


def test_no_mapping_at_all(shop, tmp_path):
    (tmp_path / "orders.csv").write_text("a\n1\n")
    with pytest.raises(UsageError, match=r"orders\.csv: no mapping is given.*Write orders\.toml.*--mapping"):
        collect.import_file(shop, tmp_path / "orders.csv")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("", InputError, "the file is empty"),
        (",".join(NAMES) + "\n", InputError, "there is a header and no row"),
        (",".join(NAMES).replace("Price", "Prise") + "\n1\n", InputError, "no column 'Price'.*Did you mean 'Prise'"),
        (b"PAR1 and no more", InputError, "cut off or damaged"),
        (bytes(range(256)), InputError, "a binary file"),
        (None, InputError, "no such file"),
        ("folder", InputError, "this is a folder.*could only be media"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence_and_changes_nothing(shop, tmp_path, content, error, message):
    collect.import_frame(shop, frame(), MAPPING)
    before = {table.name: shop.lake.version(table) for table in (EVENTS, ITEMS, USERS, REFUSED)}
    path = tmp_path / "orders.csv"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error, match=message) as raised:
        collect.import_file(shop, path, MAPPING)
    assert raised.value.exit_code == 1 and "\n" not in str(raised.value)
    assert before == {table.name: shop.lake.version(table) for table in (EVENTS, ITEMS, USERS, REFUSED)}


def test_an_unknown_time_zone_is_one_sentence(shop, tmp_path):
    frame().write_csv(tmp_path / "a.csv")
    (tmp_path / "a.toml").write_text(TOML.replace("Europe/London", "Europe/Londn"))
    with pytest.raises(SettingsError, match="'Europe/Londn' is no time zone.*Did you mean 'Europe/London'"):
        collect.import_file(shop, tmp_path / "a.csv")


def test_a_column_of_lists_is_one_sentence(shop):
    with pytest.raises(InputError, match=r"frame: column 'Code' holds List\(Int64\).*map another column"):
        collect.import_frame(shop, frame().with_columns(Code=pl.lit([1])), MAPPING)


# Interruptions


@pytest.mark.parametrize("moment", range(4))
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, LakeError("x", found="f", consequence="c", remedy="r")])
def test_an_interrupted_import_leaves_the_old_version_and_a_repeat_completes_it(
    shop, tmp_path, monkeypatch, moment, interruption
):
    start, more = (
        frame([*LINES[:1], ("never", *GOOD[1:])]),
        frame([*LINES, ("never", *GOOD[1:]), ("not yet", *GOOD[1:])]),
    )
    collect.import_frame(shop, start, MAPPING, seed=1)
    before, people = everything(shop), identities.aliases(shop.identities)
    appends, append = iter(range(4)), Lake.append

    def interrupted(self, table, rows):
        written = append(self, table, rows)
        if next(appends) == moment:
            raise interruption
        return written

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "append", interrupted)
        with pytest.raises(BaseException) as raised:
            collect.import_frame(shop, more, MAPPING, seed=1)
    assert raised.type in (KeyboardInterrupt, LakeError)
    for name, table in everything(shop).items():
        assert_frame_equal(table, before[name])
    assert_frame_equal(identities.aliases(shop.identities), people)
    collect.import_frame(shop, more, MAPPING, seed=1)
    straight = init(tmp_path / "straight")
    collect.import_frame(straight, start, MAPPING, seed=1)
    collect.import_frame(straight, more, MAPPING, seed=1)
    assert_same(shop, straight)


PROGRAM = """
import os, signal, sys
import polars as pl
from habitue import collect
from habitue.core.lake import Lake
from habitue.core.workspace import open_workspace
shop, file, mapping, moment = open_workspace(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
append, appends = Lake.append, iter(range(100))
def killed(self, table, rows):
    n = next(appends)
    written = append(self, table, rows)
    if n == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    return written
Lake.append = killed
print(collect.import_file(shop, file, mapping, seed=1).new)
"""


def importing(shop, folder, moment=-1) -> subprocess.Popen:
    frame([*LINES, ("never", *GOOD[1:])]).write_csv(folder / "a.csv")
    (folder / "a.toml").write_text(TOML)
    arguments = [shop.root, folder / "a.csv", folder / "a.toml", str(moment)]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("moment", range(4))
def test_a_killed_import_leaves_nothing_and_a_repeat_completes_it(shop, tmp_path, moment):
    process = importing(shop, tmp_path, moment)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert all(table.is_empty() for table in everything(shop).values())
    assert identities.aliases(shop.identities).is_empty()
    assert collect.import_file(shop, tmp_path / "a.csv", seed=1).new == 6
    straight = init(tmp_path / "straight")
    collect.import_file(straight, tmp_path / "a.csv", seed=1)
    assert_same(shop, straight)


def test_two_processes_that_import_the_same_file_bring_its_rows_once(shop, tmp_path):
    both = [importing(shop, tmp_path) for _ in range(2)]
    assert sorted(int(process.communicate()[0]) for process in both) == [0, 6]
    assert shop.lake.read(EVENTS).height == 6


def test_an_import_beside_another_writer_is_refused_in_words(shop, tmp_path, monkeypatch):
    hold = """
        import sys
        from habitue.core.workspace import open_workspace
        with open_workspace(sys.argv[1]).lake.exclusive():
            print("held", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(hold), shop.root]
    monkeypatch.setattr("habitue.core.lake.WAIT_S", 0.1)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LakeError, match=rf"another writer \(process {holder.pid}\) is at work"):
            collect.import_frame(shop, frame(), MAPPING)
        holder.stdin.close()
    assert collect.import_frame(shop, frame(), MAPPING).new == 6
