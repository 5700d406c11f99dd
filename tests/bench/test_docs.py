"""docs/ranking.md and docs/models.md do what they say: their commands run, the model of one's own ranks."""

import json
import pkgutil
import re
import shlex
import sys
from pathlib import Path

import polars as pl
import pytest

import habitue.model
from habitue import cli
from habitue.bench import protocols, ranking
from habitue.collect import synthetic

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """orders.csv and products.csv of the toy shop, with the columns of the pages; its end lies after 2011-09-09."""
    events = synthetic.shop(users=60, items=24, days=400)
    start = pl.datetime(2010, 12, 1)
    shift = start - events["at"].dt.replace_time_zone(None).min()
    events.select(
        date=pl.col("at").dt.replace_time_zone(None) + shift, order="order_id", product="item_id", customer="user_key"
    ).write_csv(tmp_path / "orders.csv")
    events.group_by("item_id").agg(pl.col("title").min()).rename({"item_id": "product"}).write_csv(
        tmp_path / "products.csv"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str, monkeypatch) -> None:
    words = [word for word in shlex.split(line) if not word.startswith("PYTHONPATH=")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0, line


def test_the_command_of_ranking_runs(folder, monkeypatch):
    command = next(line for line in blocks("ranking.md", "sh")[0].splitlines() if line.startswith("habitue"))
    run(command, monkeypatch)
    assert json.loads((folder / "ranking.json").read_text())["protocol"] == "basket"
    assert pl.read_parquet(folder / "lists.parquet")["model"].n_unique() == 4


def test_the_model_of_ones_own_is_in_the_table(folder, monkeypatch, capsys):
    (folder / "my_shop").mkdir()
    (folder / "my_shop/regulars.py").write_text(next(b for b in blocks("models.md", "python") if "def fit" in b))
    monkeypatch.syspath_prepend(str(folder))
    run(blocks("models.md", "sh")[0], monkeypatch)
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith("my_shop.regulars"))
    assert float(row.split()[1]) > 0.1
    assert row.split()[-1] == "5"  # trials


def test_every_model_has_a_row_and_every_protocol_too():
    page = (DOCS / "models.md").read_text()
    files = [m.name for m in pkgutil.iter_modules(habitue.model.__path__)]
    models = [name for name in files if hasattr(__import__(f"habitue.model.{name}", fromlist=["x"]), "ANSWERS")]
    assert [name for name in models if f"| `{name}` |" not in page] == []
    assert set(ranking.MODELS) <= set(models)
    page = (DOCS / "ranking.md").read_text()
    assert [name for name in (*ranking.MODELS, *protocols.PROTOCOLS) if f"`{name}`" not in page] == []
