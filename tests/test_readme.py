"""README does what it says: its commands and its Python, in its order, on a shop's own file."""

import re
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import polars as pl
import pytest

from habitue.collect import bundled
from habitue.collect.mapping import read_mapping

ROOT = Path(__file__).parents[1]
COLUMNS = {
    "InvoiceDate": "date",
    "InvoiceNo": "order",
    "StockCode": "product",
    "Description": "name",
    "Quantity": "quantity",
    "UnitPrice": "price",
    "CustomerID": "customer",
}


def blocks(name: str) -> list[tuple[str, str]]:
    """(language, text) of every code block, in order."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def without_comments(blocks: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(language, re.sub(r" +# .*", "", text)) for language, text in blocks]


def test_both_languages_show_the_same_code():
    assert without_comments(blocks("README.zh.md")) == without_comments(blocks("README.md"))


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), f"{page} links to {target}, which is not there"


@pytest.mark.parametrize("page", ["README.md", "docs/mapping.md"])
def test_every_mapping_shown_is_one(page, tmp_path):
    shown = [text for language, text in blocks(page) if language == "toml"]
    assert shown
    for text in shown:
        (tmp_path / "shown.toml").write_text(text, encoding="utf-8")
        assert read_mapping(tmp_path / "shown.toml").source in text


def test_the_make_targets_of_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"^make (\S+)", "".join(text for _, text in blocks("README.md")), flags=re.MULTILINE)
    assert {"demo", "test"} <= set(named)
    assert not [target for target in named if f"\n{target}:" not in makefile]


@pytest.mark.slow
def test_the_commands_and_the_python_of_readme_run_in_order(tmp_path):
    ledger, _ = bundled.ledger()
    customers = pl.col("CustomerID")
    some = pl.read_parquet(ledger).filter((customers % 8 == 2) | customers.is_null() & (pl.col("InvoiceNo") < "540000"))
    some.select(pl.col(old).alias(new) for old, new in COLUMNS.items()).write_csv(tmp_path / "orders.csv")
    ran = []
    for language, text in blocks("README.md"):
        if language == "toml":
            (tmp_path / "orders.toml").write_text(text, encoding="utf-8")
        elif language == "python":
            ran.append(run([sys.executable, "-W", "error", "-c", text], tmp_path))
        for line in text.splitlines():
            if language == "sh" and line.startswith("habitue "):
                command = shlex.split(line, comments=True)
                if command[1] == "serve":
                    ran.append(served(command, tmp_path))
                    continue
                ran.append(run([str(Path(sys.executable).with_name("habitue")), *command[1:]], tmp_path))
    assert len(ran) == 9, "eight commands and one Python example"
    assert "17850" in some["CustomerID"].cast(pl.String).to_list() and "score" in ran[-1]
    assert list((tmp_path / "my-shop/reports").glob("*.html"))


def served(command: list[str], folder: Path) -> str:
    """Start the server on any free port, ask it whether it can answer, and stop it as an operator would."""
    command[0] = str(Path(sys.executable).with_name("habitue"))
    command[command.index("--port") + 1] = "0"
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip().removeprefix("Listening on ")
        try:
            for _ in range(600):
                try:
                    with urllib.request.urlopen(f"{address}/health/ready", timeout=10) as answer:
                        told = str(answer.read().decode())
                    break
                except urllib.error.HTTPError as error:  # 503: it is still reading the lake
                    error.close()
                    time.sleep(0.1)
        finally:
            server.terminate()
    assert server.returncode == 0
    return told


def run(command: list[str], folder: Path) -> str:
    result = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}{result.stderr}"
    return result.stdout
