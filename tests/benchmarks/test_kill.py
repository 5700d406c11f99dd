"""R1: a killed server loses and doubles nothing, and the script that says so would notice."""

import json
import runpy
from pathlib import Path

import pytest

from habitue.core import workspace

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks/reliability/kill.py"))


def test_the_committed_result_lost_and_doubled_nothing():
    rows = json.loads((ROOT / "benchmarks/reliability/none-r1-kill-9.json").read_text(encoding="utf-8"))["rows"]
    found = {row["metric"]: row["mean"] for row in rows}
    assert found["kills"] >= 100 and found["kills while starting"] >= 10
    assert found["events acknowledged"] > 100_000 and found["batches sent again"] >= 50
    assert found["acknowledged and lost"] == found["stored twice"] == found["stored and never sent"] == 0


def test_what_is_lost_or_doubled_would_be_counted(tmp_path):
    from datetime import UTC, datetime

    import polars as pl

    from habitue.core.schemas import EVENTS

    shop = workspace.init(tmp_path / "shop")
    rows = pl.DataFrame({"event_id": ["a", "a", "b"], "line": [0, 0, 0]})
    same = {"at": datetime(2026, 1, 1, tzinfo=UTC), "user_key": 1, "kind": "x", "source": "s", "import_id": "i"}
    shop.lake.append(EVENTS, EVENTS.shape(rows.with_columns(**{name: pl.lit(value) for name, value in same.items()})))
    found = SCRIPT["counted"](shop, ["a", "lost"], {"a", "lost"})
    assert (found["acknowledged and lost"], found["stored twice"], found["stored and never sent"]) == (1, 1, 1)


@pytest.mark.slow
def test_four_kills_lose_and_double_nothing(tmp_path):
    found = SCRIPT["killed"](tmp_path / "shop", 4, 1)
    assert found["events acknowledged"] > 0
    assert found["acknowledged and lost"] == found["stored twice"] == found["stored and never sent"] == 0
    assert found["segments left in the inbox"] == 0
