"""Six messy files: what `guess` prints imports each as it is, and the orders lead to a report."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from habitue import collect
from habitue.core.schemas import EVENTS, ITEMS, USERS
from habitue.core.workspace import init
from habitue.protect import identities

HABITUE = str(Path(sys.executable).with_name("habitue"))


@pytest.fixture
def brought(tmp_path, messy):
    """Guess, write the mapping beside the file, import; returns the workspace and what the import did."""

    def bring(name: str):
        file = messy[name](tmp_path)
        file.with_suffix(".toml").write_text(collect.guess(file), encoding="utf-8")
        shop = init(tmp_path / "shop", currency="EUR")
        return shop, collect.import_file(shop, file), file

    return bring


@pytest.mark.parametrize(
    ("name", "table", "read"),
    [
        ("chinese orders", EVENTS, 1_616),
        ("shopify orders", EVENTS, 1_600),
        ("ga4", EVENTS, 1_332),
        ("merchant feed", ITEMS, 30),
        ("reviews", EVENTS, 200),
        ("support log", EVENTS, 150),
    ],
)
def test_each_is_imported_as_it_was_guessed_and_a_second_time_adds_nothing(brought, name, table, read):
    shop, done, file = brought(name)
    assert (done.read, done.new, done.refused) == (read, read, 0)
    assert shop.lake.read(table).height == read
    again = collect.import_file(shop, file)
    assert (again.new, again.known) == (0, read)


def test_a_chinese_order_list(brought):
    shop, done, _ = brought("chinese orders")
    assert (done.currency, done.orders, done.users) == ("CNY", 800, 160)
    events = shop.lake.read(EVENTS)
    assert events["kind"].value_counts().sort("kind").rows() == [("Order Completed", 1_564), ("Order Refunded", 52)]
    assert set(events["title"]) <= {"马克杯", "盘子", "大碗", "相框", "茶壶", "勺子", "台灯", "花瓶", "篮子", "蜡烛"}
    assert events["at"].dt.hour().is_between(1, 23).any()
    first = events.filter(pl.col("order_id") == "202300000001")["at"][0]
    assert (first.hour - 1 - 9) % 24 >= 0  # read in Shanghai's time
    assert json.loads(shop.lake.read(USERS)["attributes"][0]) == {"region": "浙江省"}
    every = b"".join(f.read_bytes() for f in (shop.root / "lake").rglob("*") if f.is_file())
    assert "张三".encode() not in every and b"13812345678" not in every


def test_the_three_date_formats_are_the_same_moments(tmp_path, messy):
    shop = init(tmp_path / "shop")
    file = messy["chinese orders"](tmp_path)
    text = collect.guess(file)
    assert 'time_zone = "Asia/Shanghai"' in text and "mixes 3 ways to write a time" in text
    assert 'encoding = "gb18030"' in text and "may name a person: left out" in text
    file.with_suffix(".toml").write_text(text, encoding="utf-8")
    collect.import_file(shop, file)
    events = shop.lake.read(EVENTS).select("order_id", "at").unique().sort("order_id")
    gaps = events["at"].dt.epoch("s").diff().drop_nulls()
    assert gaps.min() > -60 and gaps.median() < 86_400  # orders are numbered as they came, to the minute


def test_a_shopify_export(brought):
    shop, done, file = brought("shopify orders")
    assert (done.currency, done.orders, done.users) == ("USD", 800, 160)
    refunds = shop.lake.read(EVENTS).filter(pl.col("kind") == "Order Refunded")
    assert refunds["order_id"].n_unique() == 26 and (refunds["value"] < 0).all()
    assert identities.aliases(shop.identities)["alias_kind"].unique().to_list() == ["email"]
    assert "Note Attributes 283" in file.read_text(encoding="utf-8-sig")


def test_ga4(brought):
    shop, _, _ = brought("ga4")
    events = shop.lake.read(EVENTS)
    kinds = set(events["kind"])
    assert kinds == {"Product Viewed", "Product Added", "Order Completed", "Page Viewed"}
    assert events.filter(pl.col("kind") == "Order Completed")["order_id"].n_unique() == 150
    assert set(identities.aliases(shop.identities)["alias_kind"]) == {"user_id", "anonymous_id"}
    many = events.group_by("event_id").agg(pl.len(), pl.col("line").max())
    assert (many["len"] == many["line"] + 1).all() and many["len"].max() == 3


def test_a_feed(brought):
    shop, _, _ = brought("merchant feed")
    item = shop.lake.read(ITEMS).filter(pl.col("item_id") == "SKU-00-S").to_dicts()[0]
    assert (item["title"], item["price"], item["currency"]) == ("Mug & friends, S", 10.5, "EUR")
    assert (item["category"], item["brand"], item["description"]) == (
        *("Home > Kitchen", "Töpfer"),
        "<b>Mug</b> made of clay",
    )
    assert json.loads(json.loads(item["attributes"])["additional_image_link"]) == ["a.jpg", "b.jpg"]


def test_reviews_and_tickets_are_masked(brought):
    shop, _, _ = brought("reviews")
    reviews = shop.lake.read(EVENTS)
    assert reviews["kind"].unique().to_list() == ["Product Reviewed"]
    assert reviews["rating"].is_between(1, 5).all()
    said = reviews.filter(pl.col("text").str.contains("call me"))["text"]
    assert said.str.contains(r"call me on \[phone\]").all() and len(said) > 20


def test_a_support_log(brought):
    shop, _, _ = brought("support log")
    tickets = shop.lake.read(EVENTS)
    assert tickets["kind"].unique().to_list() == ["Question Asked"]
    assert tickets["text"][0].startswith("Hello,\nmy parcel") and "[email] or [phone]" in tickets["text"][0]
    assert set(tickets["event_id"]) == {f"TK-{i}" for i in range(150)}
    assert json.loads(tickets["extra"][0]) == {"priority": "high", "headline": "Parcel"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chinese orders", "shopify orders"])
def test_orders_lead_to_a_report_without_a_line_of_code(tmp_path, messy, name):
    file = messy[name](tmp_path)

    def habitue(*arguments: str) -> str:
        done = subprocess.run([HABITUE, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    habitue("init", "shop")
    (tmp_path / "m.toml").write_text(habitue("import", "--guess", file.name), encoding="utf-8")
    done = json.loads(habitue("import", file.name, "--mapping", "m.toml", "-w", "shop", "--json"))
    assert done["refused"] == 0 and done["new"] == done["read"] > 1_000 and done["known"] == 0
    habitue("report", "-w", "shop")
    assert (tmp_path / "shop/reports/report.html").stat().st_size > 10_000
