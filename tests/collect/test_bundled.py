import datetime as dt
import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from habitue import collect
from habitue.collect import bundled
from habitue.core.schemas import EVENTS, ITEMS, REFUND, REFUSED, USERS, check
from habitue.core.workspace import init
from habitue.protect import people

WHEEL_MB = 15


def test_the_ledger_is_the_published_one():
    rows = pl.read_parquet(bundled.ledger().file)
    assert rows.schema == {
        "InvoiceNo": pl.String,
        "StockCode": pl.String,
        "Description": pl.String,
        "Quantity": pl.Int64,
        "InvoiceDate": pl.Datetime("us"),
        "UnitPrice": pl.Float64,
        "CustomerID": pl.Int32,
        "Country": pl.String,
    }
    assert rows.height == 541_909
    assert rows.select(pl.all().null_count()).row(0) == (0, 0, 1_454, 0, 0, 0, 135_080, 0)
    assert rows["StockCode"].n_unique() == 4_070 and rows["CustomerID"].drop_nulls().n_unique() == 4_372


@pytest.mark.parametrize(
    ("path", "shape", "label", "positive"),
    [
        (bundled.reviews(), (23_486, 11), "Recommended IND", 19_314),
        (bundled.sessions(), (12_330, 18), "Revenue", 1_908),
        (bundled.bandit().random, (10_000, 43), "click", 46),
        (bundled.bandit().bts, (10_000, 43), "click", 69),
    ],
    ids=["reviews", "sessions", "random", "bts"],
)
def test_the_other_sets_are_the_published_ones(path, shape, label, positive):
    rows = pl.read_parquet(path)
    assert (rows.shape, rows[label].sum()) == (shape, positive)


def test_every_product_of_the_logs_has_features():
    logs = bundled.bandit()
    items = pl.read_parquet(logs.items)
    assert items.height == 34
    for log in (logs.random, logs.bts):
        assert set(pl.read_parquet(log)["item_id"]) <= set(items["item_id"])


def test_the_launched_products_are_those_the_ledger_sells_first_after_the_cut():
    sold = pl.col("Quantity").gt(0) & pl.col("UnitPrice").gt(0) & pl.col("StockCode").str.contains(r"^\d{5}")
    first = pl.read_parquet(bundled.ledger().file).filter(sold).group_by("StockCode").agg(pl.col("InvoiceDate").min())
    launched = first.filter(pl.col("InvoiceDate") >= dt.datetime(2011, 9, 9))["StockCode"]
    assert (
        pl.read_csv(bundled.launches().file)["StockCode"].cast(pl.String).sort().to_list() == launched.sort().to_list()
    )


def test_the_launched_products_can_be_imported(tmp_path):
    shop = init(tmp_path / "shop")
    done = collect.import_file(shop, *bundled.launches())
    assert (done.read, done.new, done.refused) == (246, 246, 0)
    assert shop.lake.read(ITEMS)["title"].null_count() == 0


def test_every_file_is_attributed_and_fits_into_the_wheel():
    folder = Path(bundled.attribution()).parent
    said = bundled.attribution().read_text(encoding="utf-8")
    data = {file.name for file in folder.iterdir() if file.suffix in (".parquet", ".csv")}
    sections = said.split("\n## ")[1:]
    assert len(data) == 7
    assert {name for section in sections for name in section.splitlines()[0].split(", ")} == data
    for section in sections:
        assert "* Author" in section and "icence" in section and "* Changes: " in section
    assert sum(file.stat().st_size for file in folder.rglob("*")) < (WHEEL_MB - 5) * 1e6


IMPORTED = """
import datetime as dt, json, sys, time
from habitue import collect
from habitue.collect import bundled
from habitue.core.runtime import peak_mb
from habitue.core.workspace import open_workspace

shop, cut = open_workspace(sys.argv[1]), dt.datetime.fromisoformat(sys.argv[2])
file, mapping = bundled.ledger()
start = time.process_time()
before = collect.import_file(shop, file, mapping, seed=0, before=cut)
after = collect.import_file(shop, file, mapping, seed=0)
cpu_s = time.process_time() - start
told = ("new", "known", "refused", "money", "first", "last")
both = [{name: getattr(one, name) for name in told} for one in (before, after)]
print(json.dumps([*both, cpu_s, peak_mb()], default=str))
"""


def test_the_whole_ledger_is_imported_within_time_and_memory(tmp_path):
    shop = init(tmp_path / "shop")
    cut = dt.datetime(2011, 9, 8, 23, tzinfo=dt.UTC)
    command = [sys.executable, "-c", IMPORTED, str(shop.root), cut.isoformat()]  # memory is measured: alone
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    before, after, cpu_s, peak = json.loads(said)
    assert cpu_s < 2 * 2 * 10  # twice 10 s on 2 cores
    assert peak < 1_500
    assert before["new"] + after["new"] == 541_909 and after["known"] == before["new"]
    assert before["refused"] == after["refused"] == 0
    assert round(float(before["money"]) + float(after["money"]), 2) == 9_747_747.93
    last, first = dt.datetime.fromisoformat(before["last"]), dt.datetime.fromisoformat(after["first"])
    assert last < cut <= first
    events = shop.lake.read(EVENTS)
    check(events, EVENTS, at="test")
    refunds = events.filter(pl.col("kind") == REFUND)
    assert (refunds.height, refunds["order_id"].n_unique()) == (9_288, 3_836)
    known = people.known_keys(shop.identities)
    assert known["known"].value_counts().sort("known").rows() == [(False, 3_710), (True, 4_372)]
    guests = events.join(known.filter(~pl.col("known")), on="user_key", how="semi")
    assert guests.height == 135_080
    assert shop.lake.read(ITEMS)["item_id"].n_unique() == 4_070
    assert shop.lake.read(USERS)["user_key"].n_unique() == 4_372 + 3_710
    assert shop.lake.read(REFUSED).is_empty()
