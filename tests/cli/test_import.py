"""habitue import as its user runs it."""

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

HABITUE = str(Path(sys.executable).with_name("habitue"))


@pytest.fixture
def shop(folder, run) -> Path:
    assert run("init", "shop", cwd=folder).returncode == 0
    return folder


def test_guess_prints_a_mapping_that_imports_the_file(shop, run, orders):
    guessed = run("import", "--guess", "orders.csv", cwd=shop)
    assert guessed.returncode == 0 and guessed.stderr == ""
    assert guessed.stdout.startswith("# A guess from the first") and 'at = "date"' in guessed.stdout
    (shop / "guessed.toml").write_text(guessed.stdout)
    done = run("import", "orders.csv", "--mapping", "guessed.toml", "-w", "shop", "--json", cwd=shop)
    assert done.returncode == 0 and done.stdout.count("\n") == 1
    counts = {name: json.loads(done.stdout)[name] for name in ("read", "new", "known", "refused")}
    assert counts == {"read": orders.height, "new": orders.height, "known": 0, "refused": 0}
    assert all(type(count) is int for count in counts.values())
    assert not list((shop / "shop").glob("*.toml.*"))


def test_currencies_are_told_apart_and_a_file_without_money_says_so(shop, run):
    mapping = (shop / "orders.toml").read_text()
    (shop / "mixed.csv").write_text(
        "date,order,product,name,quantity,price,customer\n"
        + "".join(
            f"2024-01-0{day} 12:00:00,{day},A,cup,1,{price},c1\n"
            for day, price in enumerate(("€ 5.00", "$7.25", "€ 2.00", "$1"), 1)
        )
    )
    (shop / "mixed.toml").write_text(mapping.replace("[columns]\n", '[columns]\ncurrency = "price"\n'))
    done = run("import", "mixed.csv", "--mapping", "mixed.toml", "-w", "shop", cwd=shop)
    assert "net 8.25 USD and 7.00 EUR, 2024-01-01" in done.stdout and "Money is in 2 currencies" in done.stdout
    (shop / "none.toml").write_text(mapping.replace('price = "price"\n', "").replace('"orders"', '"others"'))
    free = run("import", "orders.csv", "--mapping", "none.toml", "-w", "shop", cwd=shop)
    assert free.returncode == 0 and "No new row carries money: name the column of the price" in free.stdout


def test_guess_needs_no_workspace_and_stores_nothing(tmp_path, run):
    (tmp_path / "a.csv").write_text("date,order,sku,price\n2024-01-01,1,A,2\n")
    assert run("import", "--guess", "a.csv", cwd=tmp_path).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv"]


def test_a_limit_stops_an_archive_in_words(shop, run):
    import gzip

    (shop / "bomb.gz").write_bytes(gzip.compress(b"date,order\n" + b"2024-01-01,1\n" * 1_000_000))
    done = run("import", "bomb.gz", "--mapping", "orders.toml", "-w", "shop", "--max-bytes", "100000", cwd=shop)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "inflates to more than 100 kB" in done.stderr and "Traceback" not in done.stderr


def test_a_database_by_its_address(shop, run, orders):
    _sqlite(shop / "shop.db", orders)
    mapping = (shop / "orders.toml").read_text()
    (shop / "sql.toml").write_text('query = "SELECT * FROM orders"\n' + mapping)
    done = run("import", "sqlite:///shop.db", "--mapping", "sql.toml", "-w", "shop", "--json", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["new"] == orders.height
    again = run("import", "orders.csv", "--mapping", "orders.toml", "-w", "shop", "--json", cwd=shop)
    assert json.loads(again.stdout)["known"] == orders.height  # the same rows from another place


def _sqlite(path: Path, frame: pl.DataFrame) -> None:
    import sqlite3

    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE orders (" + ", ".join(f'"{c}"' for c in frame.columns) + ")")
        marks = ", ".join("?" * frame.width)
        connection.executemany(f"INSERT INTO orders VALUES ({marks})", frame.rows())
    connection.close()


def test_help_shows_examples(run, tmp_path):
    done = run("import", "--help", cwd=tmp_path)
    assert "habitue import --guess orders.csv > orders.toml" in done.stdout
    for option in ("--guess", "--mapping", "--max-bytes", "--max-rows", "--json"):
        assert option in done.stdout


LIMIT = 2**30  # bytes


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of address space means something on Linux only")
@pytest.mark.parametrize(
    ("piece", "words"),
    [
        (b"2024-01-01,1,A,2\n" * 300_000, "inflates to more than 30 MB"),
        (b"x" * 5_000_000, "longer than|do not close"),
    ],
    ids=["lines", "one line"],
)
def test_five_gigabytes_in_a_small_archive_stop_under_the_limit(shop, piece, words):
    """Memory is bounded whatever an archive's ratio: members of one gzip, a thousand times the same."""
    import gzip

    packed = gzip.compress(piece)
    with (shop / "bomb.csv").open("wb") as file:
        file.write(gzip.compress(b"date,order,product,price\n"))
        for _ in range(1_000):
            file.write(packed)
    assert (shop / "bomb.csv").stat().st_size < 30_000_000 < 5_000_000_000 <= len(piece) * 1_000
    (shop / "bomb.toml").write_text(
        'source = "b"\ntime_zone = "UTC"\ncolumns = {at = "date", order_id = "order", item_id = "product"}\n'
    )
    command = [HABITUE, "import", "bomb.csv", "--mapping", "bomb.toml", "-w", "shop", "--max-bytes", "30000000"]
    if len(set(piece)) == 1:
        command = command[:-2]  # it ends by itself: no record is that long
    done = subprocess.run(
        command,
        cwd=shop,
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT)),
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert re.search(words, done.stderr) and "Traceback" not in done.stderr
    assert not list((shop / "shop/state").glob("import-*"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a limit of address space means something on Linux only")
def test_300_mb_under_a_limit_of_address_space(shop, orders):
    """The whole process, Python and its libraries included, may have LIMIT of address space."""
    text = orders.with_columns(pl.format("@{}", "order").alias("order")).write_csv(include_header=False)
    size = rows = turn = 0
    with (shop / "large.csv").open("w") as file:
        file.write(",".join(orders.columns) + "\n")
        while size < 300_000_000:
            size += file.write(text.replace("@", f"{turn}-"))
            rows, turn = rows + orders.height, turn + 1
    limited = subprocess.Popen(
        [HABITUE, "import", "large.csv", "--mapping", "orders.toml", "-w", "shop", "--json"],
        cwd=shop,
        env=os.environ | {"POLARS_MAX_THREADS": "2", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT)),
    )
    out, err = limited.communicate()
    assert limited.returncode == 0, err
    done = json.loads(out)
    assert (done["read"], done["new"] + done["refused"]) == (rows, rows)
