"""habitue apply experiment, from two files to a page."""

import json
import random

import polars as pl
import pytest

MAILS = """\
source = "mails"
time_zone = "Europe/Paris"
what = "exposures"

[columns]
at = "sent at"
what = "campaign"
arm = "version"

[user]
column = "customer"
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory, run):
    """Every customer gets a mail or none on one day; a mail brings 5 more in the two weeks after."""
    folder = tmp_path_factory.mktemp("mails")
    draw = random.Random(0)
    orders = [
        (f"c{n}", f"2024-03-{day:02d}", f"o{n}-{day}", round(20 + draw.random() + more, 2))
        for n in range(200)
        for day, more in ((1, 0.0), (15, 5.0 * (n % 2)))
    ]
    orders.append(("c0", "2024-06-01", "last", 1.0))
    names = ("customer", "date", "order", "price")
    pl.DataFrame(orders, schema=names, orient="row").with_columns(product=pl.lit("p1"), quantity=1).write_csv(
        folder / "orders.csv"
    )
    mails = [(f"c{n}", "2024-03-10", "spring", ("none", "mail")[n % 2]) for n in range(200)]
    pl.DataFrame(mails, schema=("customer", "sent at", "campaign", "version"), orient="row").write_csv(
        folder / "mails.csv"
    )
    (folder / "mails.toml").write_text(MAILS)
    assert run("init", "shop", cwd=folder).returncode == 0
    (folder / "orders.toml").write_text(run("import", "--guess", "orders.csv", cwd=folder).stdout)
    for name in ("orders", "mails"):
        done = run("import", f"{name}.csv", "--mapping", f"{name}.toml", "-w", "shop", cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder / "shop"


def test_what_a_campaign_brought(shop, run):
    done = run("apply", "experiment", "spring", "--control", "none", "-w", "shop", "--json", cwd=shop.parent)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    none, mail = told["arms"]
    assert (none["arm"], none["users"], mail["users"]) == ("none", 100, 100)
    assert mail["difference"] == pytest.approx(5.0, abs=0.2) and mail["always_low"] > 4.5
    assert mail["incremental"] == pytest.approx(500, abs=20)
    page = shop / "reports/experiment-spring.html"
    assert told["sentences"][0].startswith("mail brings more than none: +")
    assert told["sentences"][0] in page.read_text(encoding="utf-8").replace("&#43;", "+")
    assert json.loads(page.with_suffix(".json").read_text())["arms"] == told["arms"]


def test_in_words(shop, run):
    done = run("apply", "experiment", "spring", "--metric", "orders", "-w", "shop", cwd=shop.parent)
    assert done.returncode == 0, done.stderr
    assert (
        "share who order in 14 days" in done.stdout and "As a page: shop/reports/experiment-spring.html" in done.stdout
    )


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("sprnig",), "nobody met an experiment 'sprnig'. There is nothing to compare. Did you mean 'spring'?"),
        (("spring", "--control", "non"), "nobody met the control 'non'"),
        (("spring", "--shares", "none:1"), "'none:1' is no list of shares"),
        (("spring", "--metric", "clicks"), "there is no metric 'clicks'"),
        (("spring", "--out", "page.txt"), "'page.txt' does not end in .html"),
    ],
)
def test_wrong_use_is_one_sentence(shop, run, asked, words):
    done = run("apply", "experiment", *asked, "-w", "shop", cwd=shop.parent)
    assert done.returncode in (1, 2) and words in done.stderr and "Traceback" not in done.stderr
