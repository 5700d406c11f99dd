"""Every bad input: one clear sentence, the right exit code, nothing half-written, no traceback."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

HABITUE = str(Path(sys.executable).with_name("habitue"))


def rows(shop: Path) -> int:
    from habitue.core import workspace
    from habitue.core.schemas import EVENTS

    return workspace.open_workspace(shop).lake.read(EVENTS).height


def one_sentence(done: subprocess.CompletedProcess[str], code: int, words: str) -> None:
    assert done.returncode == code, done.stderr
    assert re.search(words, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.fixture
def shop(folder, run) -> Path:
    assert run("init", "shop", cwd=folder).returncode == 0
    return folder / "shop"


def bad_files(folder: Path) -> dict[str, str]:
    """file -> what must be said of it."""
    (folder / "empty.csv").write_text("")
    (folder / "header.csv").write_text("date,order,product,name,quantity,price,customer\n")
    (folder / "column.csv").write_text("date,order,produkt,name,quantity,price,customer\n2024-01-01,1,P,n,1,1,c\n")
    whole = folder / "whole.parquet"
    pl.read_csv(folder / "orders.csv").write_parquet(whole)
    (folder / "cut.parquet").write_bytes(whole.read_bytes()[:2000])
    (folder / "folder.csv").mkdir()
    (folder / "junk.csv").write_bytes(bytes(range(256)) * 20)
    return {
        "empty.csv": "empty",
        "header.csv": "no row",
        "column.csv": "Did you mean 'produkt'",
        "cut.parquet": "Parquet",
        "folder.csv": "this is a folder",
        "junk.csv": "UTF-8|binary|text",
        "absent.csv": "absent.csv",
    }


@pytest.mark.parametrize(
    "name",
    ["empty.csv", "header.csv", "column.csv", "cut.parquet", "folder.csv", "junk.csv", "absent.csv"],
)
def test_a_bad_file_is_refused_in_one_sentence(name, shop, run):
    folder = shop.parent
    words = bad_files(folder)[name]
    done = run("import", name, "--mapping", "orders.toml", "-w", "shop", cwd=folder)
    one_sentence(done, done.returncode, words)
    assert done.returncode in (1, 2)
    assert rows(shop) == 0


def test_an_unknown_time_zone_is_wrong_use(shop, run):
    mapping = shop.parent / "orders.toml"
    mapping.write_text(mapping.read_text().replace("Europe/Paris", "Europe/Pariss"))
    done = run("import", "orders.csv", "--mapping", "orders.toml", "-w", "shop", cwd=shop.parent)
    one_sentence(done, 2, "Europe/Pariss.*Did you mean 'Europe/Paris'")


def test_impossible_prices_are_refused_row_by_row_and_the_rest_is_kept(shop, run):
    path = shop.parent / "prices.csv"
    path.write_text(
        "date,order,product,name,quantity,price,customer\n"
        "2024-01-01 10:00:00,1,P1,mug,1,2.50,c1\n"
        "2024-01-01 10:00:00,2,P1,mug,1,NaN,c1\n"
        "2024-01-01 10:00:00,3,P1,mug,1,1e308,c1\n"
    )
    done = run("import", "prices.csv", "--mapping", "orders.toml", "-w", "shop", "--json", cwd=shop.parent)
    assert done.returncode == 0, done.stderr
    assert '"read": 3, "new": 1, "known": 0, "refused": 2' in done.stdout
    assert rows(shop) == 1


def test_a_folder_that_is_no_workspace_is_wrong_use(tmp_path, run):
    one_sentence(run("check", cwd=tmp_path), 2, "habitue init")


def test_an_unknown_setting_says_which_was_meant(shop, run):
    plan = shop / "habitue.toml"
    plan.write_text("horizont_days = 30\n" + plan.read_text())
    one_sentence(run("train", "-w", "shop", cwd=shop.parent), 2, "Did you mean 'horizon_days'")


def test_asking_before_training_says_what_to_do(shop, run):
    folder = shop.parent
    one_sentence(run("predict", "churn", "-w", "shop", cwd=folder), 2, "habitue import")
    assert run("import", "orders.csv", "--mapping", "orders.toml", "-w", "shop", cwd=folder).returncode == 0
    one_sentence(run("predict", "churn", "-w", "shop", cwd=folder), 1, "habitue train")
    one_sentence(run("predict", "chrun", "-w", "shop", cwd=folder), 2, "churn")


def test_ctrl_c_leaves_nothing_half_written_and_the_same_command_completes(shop, run, orders):
    folder = shop.parent
    many = pl.concat([orders.with_columns(order=pl.format("{}-{}", "order", pl.lit(i))) for i in range(60)])
    many.write_csv(folder / "many.csv")
    command = [HABITUE, "import", "many.csv", "--mapping", "orders.toml", "-w", "shop"]
    lock = shop / "state" / ".import.lock"
    for wait in (0.0, 0.6):
        process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 60
        while not (lock.exists() and lock.read_text() == str(process.pid)) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(wait)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
        assert "Traceback" not in said
        if process.returncode != 0:
            assert process.returncode in (130, -signal.SIGINT)
            assert rows(shop) == 0
    assert subprocess.run(command, cwd=folder, capture_output=True).returncode == 0
    assert rows(shop) == many.height
