"""A small shop on disk, as its owner would have it, and the command line to run on it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import habitue
from habitue import cli
from habitue.collect import synthetic

HABITUE = str(Path(sys.executable).with_name("habitue"))
MAPPING = """\
source = "orders"
time_zone = "Europe/Paris"
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
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def orders() -> pl.DataFrame:
    """The toy shop as an export: one line a product, local times without an offset."""
    events = synthetic.shop(users=60, items=24, days=400)
    return events.select(
        date=pl.col("at").dt.convert_time_zone("Europe/Paris").dt.strftime("%Y-%m-%d %H:%M:%S"),
        order="order_id",
        product="item_id",
        name="title",
        quantity="quantity",
        price="price",
        customer=pl.format("c{}", "user_key"),
    )


@pytest.fixture(scope="session")
def owner(orders: pl.DataFrame) -> Callable[[Path], Path]:
    """Put orders.csv and orders.toml into a folder."""

    def put(folder: Path) -> Path:
        orders.write_csv(folder / "orders.csv")
        (folder / "orders.toml").write_text(MAPPING)
        return folder

    return put


@pytest.fixture
def folder(tmp_path: Path, owner: Callable[[Path], Path]) -> Path:
    """A folder with orders.csv and orders.toml."""
    return owner(tmp_path)


@pytest.fixture(scope="session")
def run() -> Run:
    """Run the command line in a folder, as a program of its own."""

    def habitue(*arguments: str, cwd: Path, **more: object) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "160"}
        return subprocess.run([HABITUE, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)

    return habitue


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """Type a command for a new workspace, in this process; returns (exit code, standard output, standard error)."""
    habitue.init(tmp_path / "shop")

    def command(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["habitue", *words, "--workspace", str(tmp_path / "shop")])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return command
