"""The benchmark of CDNOW reads the published file, sees nothing after its moment, and counts what it says it counts."""

import datetime as dt
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from habitue import prepare

SCRIPT = Path(__file__).parents[2] / "benchmarks/quality/cdnow.py"
CUT, DAYS = dt.datetime(1997, 10, 1, tzinfo=dt.UTC), 91


@pytest.fixture(scope="module")
def cdnow():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def rows():
    """Half of 200 customers order every month or so to the end, half once or twice in the first weeks."""
    rng = np.random.default_rng(0)
    found = []
    for user in range(1, 201):
        pauses = rng.exponential(30 if user % 2 else 10, 20 if user % 2 else 2)
        days = rng.integers(0, 60) + np.r_[0, np.cumsum(pauses)]
        found += [(user, int(day)) for day in days if day < 400]
    return found


def written(folder: Path, rows) -> Path:
    first = dt.date(1997, 1, 1)
    lines = [f"{user + 9000:05d} {user:04d} {first + dt.timedelta(days=day):%Y%m%d}  1  11.77" for user, day in rows]
    (folder / "cdnow").mkdir()
    (folder / "cdnow/cdnow_sample.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_orders_of_a_day_are_one(cdnow, tmp_path):
    events = cdnow["orders"](written(tmp_path, [(7, 3), (7, 3), (7, 4), (8, 3)]))
    assert events.select("user_key", "value").rows() == [(7, 2 * 11.77), (7, 11.77), (8, 11.77)]
    assert events["at"][1] == dt.datetime(1997, 1, 5, tzinfo=dt.UTC)


def test_nothing_after_the_moment_is_read(cdnow, rows, tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    last = (CUT.date() - dt.date(1997, 1, 1)).days
    whole = cdnow["orders"](written(tmp_path / "whole", rows))
    before = cdnow["orders"](written(tmp_path / "cut", [row for row in rows if row[1] < last]))
    assert len(before) < len(whole)
    told = [cdnow["foretold"](cdnow["known"](events, CUT, DAYS), DAYS) for events in (whole, before)]
    for model, (silent, count, _) in told[0].items():
        for one, other in zip((silent, count), told[1][model][:2], strict=True):
            assert one is None if other is None else np.array_equal(one, other), model


def test_the_table_is_what_a_loop_counts(cdnow, rows, tmp_path):
    events = cdnow["orders"](written(tmp_path, rows))
    past = cdnow["known"](events, CUT, DAYS)
    labels = prepare.labels(events, as_of=CUT, horizon_days=DAYS, users=past.histories.user_keys, until=cdnow["UNTIL"])
    told = cdnow["foretold"](past, DAYS)
    table = cdnow["measured"](told, past, labels, DAYS)
    start = (CUT.date() - dt.date(1997, 1, 1)).days
    later = {user: len({d for u, d in rows if u == user and start <= d < start + DAYS}) for user, _ in rows}
    actual = np.array([later[user] for user in past.histories.user_keys.tolist()])
    off = {row["model"]: row["mean"] for row in table.filter(metric="mae").to_dicts()}
    assert off["nobody"] == pytest.approx(actual.mean())
    for model, said in off.items():
        assert said == pytest.approx(np.abs(told[model][1] - actual).mean())
    areas = {row["model"]: row["mean"] for row in table.filter(metric="auc").to_dicts()}
    assert set(areas) == {"clv", "clv, by orders", "states", "clv + states"} and min(areas.values()) > 0.85
    assert table.filter(metric="log_loss")["model"].to_list() == ["clv", "states"]


def test_without_the_data_it_says_so(cdnow, monkeypatch, capsys):
    monkeypatch.delenv("HABITUE_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["cdnow.py"])
    cdnow["main"]()
    assert "HABITUE_DATA is not set" in capsys.readouterr().out
