"""habitue apply states, by the command line: what customers do, and the picture of their moves."""

import json

import pytest


@pytest.fixture(scope="module")
def shop(tmp_path_factory, owner, run):
    folder = owner(tmp_path_factory.mktemp("owner"))
    assert run("init", "shop", cwd=folder).returncode == 0
    assert run("import", "orders.csv", "--mapping", "orders.toml", "-w", "shop", cwd=folder).returncode == 0
    return folder / "shop"


def test_the_states_add_up_and_the_page_draws_their_moves(shop, run):
    done = run("apply", "states", "-w", "shop", "--json", cwd=shop.parent)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    rows = told["states"]
    assert len(rows) >= 2 and sum(row["share"] for row in rows) == pytest.approx(1)
    quiet, busy = rows[0], rows[-1]  # half of the toy shop's customers have stopped, the others go on
    assert quiet["no_order"] > busy["no_order"] + 0.3 and quiet["orders"] < busy["orders"]
    html = (shop / "reports/states.html").read_text(encoding="utf-8")
    assert told["page"].endswith("reports/states.html") and "the chance to do something else a week later" in html
    assert all(row["state"] in html for row in rows)


def test_a_moment_is_kept_to_and_the_table_is_printed(shop, run):
    early = run("apply", "states", "-w", "shop", "--as-of", "2024-06-01", cwd=shop.parent)
    assert early.returncode == 0, early.stderr
    assert "as of 2024-06-01" in early.stdout and "As a page: " in early.stdout
    assert "1 June 2024" in (shop / "reports/states.html").read_text(encoding="utf-8")


def test_too_few_customers_are_refused_in_words(tmp_path, owner, run):
    folder = owner(tmp_path)
    lines = (folder / "orders.csv").read_text().splitlines(keepends=True)
    (folder / "orders.csv").write_text("".join([lines[0], *(line for line in lines if ",c1\n" in line)]))
    assert run("init", "shop", cwd=folder).returncode == 0
    assert run("import", "orders.csv", "--mapping", "orders.toml", "-w", "shop", cwd=folder).returncode == 0
    done = run("apply", "states", "-w", "shop", cwd=folder)
    assert done.returncode == 1 and "1 known customers have an event" in done.stderr
