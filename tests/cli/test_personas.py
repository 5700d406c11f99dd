"""habitue apply personas, by the command line and by Python."""

import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest

import habitue
from habitue.core.errors import UsageError


@pytest.fixture(scope="module")
def shop(tmp_path_factory, owner, run) -> Path:
    """A workspace with orders in it, and one order of a customer whose id a spreadsheet would run."""
    folder = owner(tmp_path_factory.mktemp("owner"))
    orders = pl.read_csv(folder / "orders.csv", schema_overrides={"customer": pl.String})
    orders.with_columns(customer=pl.col("customer").replace("c8", "=1+2")).write_csv(folder / "orders.csv")
    assert run("init", "shop", cwd=folder).returncode == 0
    assert run("import", "orders.csv", "--mapping", "orders.toml", "-w", "shop", cwd=folder).returncode == 0
    with (folder / "shop/habitue.toml").open("a") as plan:
        plan.write("\n[consent]\nmarketing = true\n")
    return folder / "shop"


@pytest.fixture(scope="module")
def told(shop, run) -> dict[str, object]:
    """The personas as JSON, with everybody exported."""
    done = run(*"apply personas -w shop --method kmeans --count 3 --json --export all.csv".split(), cwd=shop.parent)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_page_and_its_numbers_are_written(told, shop):
    page = shop / "reports/personas.html"
    assert told["page"] == "shop/reports/personas.html" and told["exported"] == 60
    html = page.read_text(encoding="utf-8")
    assert "who the customers are" in html and all(card["name"] in html for card in told["cards"])
    assert not re.search(r"\bc\d+\b.{0,40}customer id", html)
    numbers = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert numbers["cards"] == told["cards"] and len(numbers["cards"]) == 3


def test_an_export_holds_the_shops_own_ids_and_no_formula(told, shop):
    table = pl.read_csv(shop.parent / "all.csv")
    assert table.columns == ["user_id", "user_key", "persona", "distance", "probability", "as_of"]
    assert set(table["user_id"]) == {f"c{k}" for k in range(60) if k != 8} | {"'=1+2"}
    assert table["persona"].value_counts().sort("persona")["count"].to_list() == [
        card["size"] for card in sorted(told["cards"], key=lambda card: card["name"])
    ]


def test_one_persona_is_exported_alone(told, shop, run):
    name = told["cards"][0]["name"]
    done = run("apply", "personas", "-w", "shop", "--method", "kmeans", "--count", "3", "--persona", name,
               "--export", "one.parquet", "--out", "groups.html", cwd=shop.parent)  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pl.read_parquet(shop.parent / "one.parquet")
    assert table["persona"].unique().to_list() == [name] and table.height == told["cards"][0]["size"]
    assert table["distance"].is_sorted()
    assert "are left out" not in done.stdout and name in done.stdout
    assert (shop.parent / "groups.html").exists() and (shop.parent / "groups.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("--persona X", 2, "a persona to export is named, but no file.*Add --export"),
        ("--method kmean", 2, "there is no method 'kmean'.*Did you mean 'kmeans'"),
        ("--out page.pdf", 2, "'page.pdf' is no page.*End the name in .html"),
        ("--as-of 2020-01-01", 1, "0 known customers have ordered before 2020-01-01"),
        ("--as-of 2024-01-03", 1, "known customers have ordered before 2024-01-03.*Personas need 20"),
        ("--time-zone Mars", 2, "there is no time zone 'Mars'"),
        (
            "--count 2000 --method kmeans",
            1,
            "2,000 personas of at least 10 are asked of 60 customers.*Ask for at most 6",
        ),
    ],
)
def test_wrong_use_is_one_sentence(shop, run, arguments, code, words):
    done = run("apply", "personas", "-w", "shop", *arguments.split(), cwd=shop.parent)
    assert done.returncode == code, done.stderr
    assert re.search(words, done.stderr), done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1


def test_who_has_not_granted_marketing_is_not_exported(shop, run, tmp_path):
    shutil.copytree(shop, tmp_path / "shop")
    plan = tmp_path / "shop/habitue.toml"
    plan.write_text(plan.read_text().replace("\n[consent]\nmarketing = true\n", ""))
    export = ("--method", "kmeans", "--count", "3", "--export", "all.csv")
    done = run("apply", "personas", "-w", "shop", *export, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0 customers: all.csv." in done.stdout
    assert re.search(r"60 are left out: no consent to marketing.*\[consent\] marketing = true", done.stdout, re.DOTALL)
    assert pl.read_csv(tmp_path / "all.csv").height == 0


def test_python_names_the_nearest_persona(shop):
    opened = habitue.open(shop)
    found = opened.personas(method="kmeans", count=3)
    name = found.cards["name"][0]
    with pytest.raises(UsageError, match=f"there is no persona '{name[:-1]}'.*Did you mean '{name}'"):
        opened.audience(found, name[:-1])
    assert opened.audience(found).height == 60
    early = opened.personas(method="kmeans", count=3, as_of="2024-06-01")
    assert early.as_of.isoformat() == "2024-06-01T00:00:00+00:00" and early.cards.height == 3
    assert early.cards["risk"].null_count() == 3  # no model was trained


def test_a_shop_of_guests_only_is_said_in_words(tmp_path, owner, run):
    folder = owner(tmp_path)
    orders = pl.read_csv(folder / "orders.csv").with_columns(customer=pl.lit(None, dtype=pl.String))
    orders.write_csv(folder / "orders.csv")
    assert run("init", "shop", cwd=folder).returncode == 0
    assert run("import", "orders.csv", "--mapping", "orders.toml", "-w", "shop", cwd=folder).returncode == 0
    done = run("apply", "personas", "-w", "shop", cwd=folder)
    assert done.returncode == 1
    assert re.search("0 known customers .* beside .* guests, who are nobody twice", done.stderr), done.stderr
