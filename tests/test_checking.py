import datetime as dt
import json
from pathlib import Path

import polars as pl
import pytest

import habitue
from habitue import checking, pipeline
from habitue.core.errors import QualityError, SettingsError, UsageError
from habitue.core.schemas import CHECKS, EVENTS, ITEMS, REPAIRS, check
from habitue.core.workspace import init
from habitue.shop import Shop

MAPPING = """\
source = "orders"
time_zone = "UTC"
currency = "EUR"

[columns]
at = "date"
order_id = "order"
item_id = "product"
title = "name"
quantity = "quantity"
price = "price"

[user]
column = "customer"
"""
HEADER = "date,order,product,name,quantity,price,customer\n"


def order(day: int, number: int, product: str = "10001", name: str = "red mug", price: float = 2.0) -> str:
    return f"2024-01-{day:02d} 10:{number % 60:02d}:00,o{number},{product},{name},1,{price},c{number % 7}\n"


def bring(shop: Shop, *rows: str, name: str = "orders.csv") -> None:
    file = shop.folder / name
    file.write_text(HEADER + "".join(rows))
    (shop.folder / "orders.toml").write_text(MAPPING)
    shop.import_(file, mapping=shop.folder / "orders.toml")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = habitue.init(tmp_path / "shop")
    rows = [order(1 + i % 28, i) for i in range(60)]
    twice = [rows[3], rows[3]]
    codes = [
        order(20, 70, "85123A", "white heart"),
        order(21, 71, "85123A", "white heart"),
        order(22, 72, "85123a", "white heart"),
    ]
    bring(made, *rows, *twice, *codes)
    return made


def test_a_check_is_written_as_page_and_json_and_kept_for_the_trend(shop):
    first = shop.check()
    told = json.loads(first.path.read_text(encoding="utf-8"))
    assert {f["code"] for f in told["findings"]} >= {"exact_repeat", "code_case"}
    assert told["rows"]["events"] == 65
    assert told["broken"] == []
    assert {one["name"] for one in told["repairs"]} == {"drop_exact_repeats", "merge_items"}
    assert "Content-Security-Policy" in first.page.read_text(encoding="utf-8")
    second = shop.check()
    kept = shop.space.lake.read(CHECKS)
    check(kept, CHECKS, at="test")
    assert second.trend["checked_at"].n_unique() == 2
    assert kept.height == 2 * first.scores.height
    assert kept.filter(pl.col("table") == "events")["rows"].unique().to_list() == [65]
    assert json.loads(second.path.read_text(encoding="utf-8"))["checks"] == 2


def test_a_repair_changes_what_is_read_and_undoing_it_brings_every_row_back(shop):
    before = pipeline.read(shop.space, shop.plan)
    stored = shop.space.lake.read(EVENTS), shop.space.lake.read(ITEMS)
    done = shop.repair("drop_exact_repeats")
    assert (done.rows, done.money) == (2, 4.0)
    assert shop.repair("merge_items").rows == 1
    after = pipeline.read(shop.space, shop.plan)
    assert after.raw.height == before.raw.height - 2
    assert set(after.raw["item_id"]) == {"10001", "85123A"}
    assert set(after.items["item_id"]) == {"10001", "85123A"}
    assert set(after.events["item_id"]) == {"10001", "85123A"}
    checked = shop.check()
    assert checked.in_force.select("repair", "rows").rows() == [("drop_exact_repeats", 2), ("merge_items", 1)]
    assert {"exact_repeat", "code_case"} & set(checked.findings["code"]) == set()
    assert shop.space.lake.read(EVENTS).equals(stored[0])  # what was imported is never touched
    assert shop.space.lake.read(ITEMS).equals(stored[1])
    assert shop.undo("drop_exact_repeats") == 2
    assert shop.undo("merge_items") == 1
    again = pipeline.read(shop.space, shop.plan)
    assert again.raw.equals(before.raw)
    assert again.events.equals(before.events)
    assert again.items.sort(ITEMS.key).equals(before.items.sort(ITEMS.key))
    assert shop.space.lake.read(REPAIRS).is_empty()


def test_what_is_imported_between_a_repair_and_its_undoing_stays(shop):
    shop.repair("drop_exact_repeats")
    bring(shop, *[order(1 + i % 28, i) for i in range(60)], order(28, 99), name="longer.csv")
    assert pipeline.read(shop.space, shop.plan).raw.height == 64
    shop.undo("drop_exact_repeats")
    assert pipeline.read(shop.space, shop.plan).raw.height == 66


def test_a_repair_that_is_not_there_is_refused(shop):
    with pytest.raises(
        UsageError, match=r"repair 'drop_bots': it would touch no row.*now: drop_exact_repeats, merge_items"
    ):
        shop.repair("drop_bots")
    with pytest.raises(UsageError, match=r"there is no repair of that name.*Did you mean 'drop_bots'\?"):
        shop.repair("drop_bot")
    shop.repair("merge_items")
    with pytest.raises(UsageError, match="it would touch no row"):
        shop.repair("merge_items")
    assert shop.space.lake.read(REPAIRS)["repair"].unique().to_list() == ["merge_items"]


def test_a_limit_that_is_broken_fails_the_run_after_everything_is_written(shop):
    plan = shop.space.plan
    plan.write_text(plan.read_text() + '\n[check.least]\n"events.no exact repeat" = 0.99\n\n[check.most]\nbots = 0\n')
    opened = habitue.open(shop.folder)
    checked = opened.check()
    assert checked.page.exists()
    with pytest.raises(
        QualityError,
        match=r"check: 'events.no exact repeat' is 0.9692, and must be 0.99 or more\. The plan says that nothing may "
        r"be built on such data\. See .*quality.html, mend the data, or change the limits",
    ):
        checked.hold()
    with pytest.raises(QualityError, match="no exact repeat"):
        opened.run()
    opened.repair("drop_exact_repeats")
    opened.check().hold()


def test_a_limit_that_cannot_be_stops_the_check(shop):
    plan = shop.space.plan
    plan.write_text(plan.read_text() + "\n[check.most]\nbot = 0\n")
    with pytest.raises(SettingsError, match=r"there is no finding 'bot'.*Did you mean 'bots'\?"):
        habitue.open(shop.folder).check()
    assert shop.space.lake.read(CHECKS).is_empty()


def test_the_two_periods_may_be_named(shop):
    bring(shop, *[order(1 + i % 10, 200 + i, price=9.0) for i in range(60)], name="dear.csv")
    named = shop.check(before="2024-01-11..2024-01-28", after="2024-01-01..2024-01-10")
    assert named.examined.before == (dt.datetime(2024, 1, 11, tzinfo=dt.UTC), dt.datetime(2024, 1, 29, tzinfo=dt.UTC))
    moved = {row["column"]: row["verdict"] for row in named.examined.drift.to_dicts() if row["table"] == "events"}
    assert moved["price"] == "much"
    assert "quantity" not in moved  # one everywhere
    with pytest.raises(UsageError, match="'2024' is no period.*Write two days with two dots"):
        checking.period("2024")
    with pytest.raises(SettingsError, match="'soon' is not a date"):
        checking.period("2024-01-01..soon")


def test_an_empty_workspace_has_nothing_to_check(tmp_path):
    made = habitue.init(tmp_path / "empty")
    with pytest.raises(UsageError, match="no row is in the lake. There is nothing to look at"):
        made.check()
    with pytest.raises(UsageError, match=r"repair 'drop_bots': it would touch no row.*now: nothing"):
        made.repair("drop_bots")


def test_a_shop_with_a_catalogue_only_is_checked(tmp_path):
    space = init(tmp_path / "catalogue")
    start = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    rows = pl.DataFrame({"item_id": ["a", "b"], "title": ["mug", None], "source": "t", "import_id": "t"})
    space.lake.append(ITEMS, ITEMS.shape(rows.with_columns(valid_from=pl.lit(start))))
    checked = habitue.open(space.root).check()
    scores = {(s["table"], s["measure"]): s["score"] for s in checked.scores.to_dicts()}
    assert scores["items", "title present"] == 0.5
    assert set(checked.scores["table"]) == {"items"}
