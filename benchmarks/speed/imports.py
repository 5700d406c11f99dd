"""A CSV of many gigabytes through `habitue import`: rows and MB a second, and the peak memory of the process.

    python benchmarks/speed/imports.py [--gb 5] [--out benchmarks/speed]

The file is the bundled ledger over and over, with what a shop's export has beside it (status, payment, a link, a note),
each round with invoices of its own. It is written to a temporary folder and removed; three times its size must be free.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from habitue.collect import bundled
from habitue.core.schemas import METRICS
from habitue.evaluate import bench

HABITUE = str(Path(sys.executable).with_name("habitue"))
PAYMENTS = ("visa", "mastercard", "paypal", "invoice")
MAPPING = """\
source = "ledger"
time_zone = "Europe/London"
currency = "GBP"

[columns]
at = "date"
order_id = "invoice"
item_id = "code"
title = "description"
quantity = "quantity"
price = "price"

[user]
column = "customer"

[user_attributes]
country = "country"

[[kind.rules]]
field = "order_id"
prefix = "C"
kind = "Order Refunded"
"""


def write(path: Path, size: int) -> int:
    """Write the ledger again and again until the file has `size` bytes; returns its rows."""
    ledger = pl.read_parquet(bundled.ledger().file).with_row_index("row")
    cancelled = pl.col("InvoiceNo").str.starts_with("C")
    lines = ledger.select(
        date=pl.col("InvoiceDate").dt.strftime("%Y-%m-%d %H:%M:%S"),
        invoice=pl.when(cancelled).then(pl.lit("C")).otherwise(pl.lit("")) + "@" + pl.col("InvoiceNo"),
        code="StockCode",
        description="Description",
        quantity="Quantity",
        price="UnitPrice",
        customer=pl.col("CustomerID").cast(pl.Int64),
        country="Country",
        status=pl.when(cancelled).then(pl.lit("refunded")).otherwise(pl.lit("paid")),
        payment=pl.Series([PAYMENTS[n % 4] for n in range(ledger.height)]),
        link=pl.format("https://shop.example/products/{}?ref=mail", "StockCode"),
        note=pl.when(pl.col("row") % 9 == 0).then(pl.lit('Leave it "at the door", please')).otherwise(None),
    )
    written = rows = turn = 0
    text = lines.write_csv(include_header=False)
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(lines.columns) + "\n")
        while written < size:
            turn += 1
            written += file.write(text.replace("@", f"{turn:02d}-"))
            rows += lines.height
    return rows


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--gb", type=float, default=5)
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = asked.parse_args()
    size = int(options.gb * 1e9)
    if shutil.disk_usage(tempfile.gettempdir()).free < 3 * size:
        raise SystemExit(f"{tempfile.gettempdir()} has less than {3 * options.gb:.0f} GB of space left")
    with tempfile.TemporaryDirectory() as folder:
        rows = write(Path(folder) / "ledger.csv", size)
        (Path(folder) / "ledger.toml").write_text(MAPPING)
        size = (Path(folder) / "ledger.csv").stat().st_size
        subprocess.run([HABITUE, "init", "shop"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        start = time.perf_counter()
        command = [HABITUE, "import", "ledger.csv", "-w", "shop", "--json"]
        with (Path(folder) / "printed").open("w+") as printed:
            process = subprocess.Popen(command, cwd=folder, stdout=printed)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
            if status:
                raise SystemExit(f"habitue import ended with {os.waitstatus_to_exitcode(status)}")
            printed.seek(0)
            done = json.load(printed)
    assert done["read"] == rows == done["new"] + done["refused"], done
    cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    shared = {"dataset": "Replicated ledger", "protocol": "import", "model": "habitue import", "modalities": []}
    shared |= {"slice": f"{size / 1e9:.1f} GB", "n": rows, "seeds": 1, "cpu_s": cpu, "peak_mb": peak}
    figures = {
        "rows per second": rows / seconds,
        "rows per CPU-second": rows / cpu,
        "MB per second": size / 1e6 / seconds,
        "seconds": seconds,
    }
    frame = pl.DataFrame(
        [shared | {"metric": name, "mean": value} for name, value in figures.items()],
        schema_overrides={"modalities": pl.List(pl.String)},
    )
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    for path in bench.write(METRICS.shape(frame), options.out, commit=commit.stdout.strip()):
        print(path, *(f"{name}: {value:,.0f}" for name, value in figures.items()), f"peak {peak:,.0f} MB", sep="; ")


if __name__ == "__main__":
    main()
