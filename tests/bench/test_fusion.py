"""A shop in which what comes next is of the kind last bought, and the items' content tells the kind."""

import json

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

from habitue.bench import fusion, fusion_report, protocols, sequences
from habitue.cli import app
from habitue.core.errors import UsageError
from habitue.core.runtime import Runtime

KINDS, EACH, USERS = 4, 10, 120
ITEMS = [f"{kind}-{n:02d}" for kind in range(KINDS) for n in range(EACH)]


def shop(seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Every user buys of one kind; `look` tells the kind, `noise` nothing, and the titles half of the kinds."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"u{u}", f"{u % KINDS}-{n:02d}", 1_700_000_000 + 86_400 * day + 60 * u)
        for u in range(USERS)
        for day, n in enumerate(rng.permutation(EACH)[:6])
    ]
    events = pl.DataFrame(rows, schema=["user", "item", "at"], orient="row")
    kind = np.array([int(item[0]) for item in ITEMS])
    look = np.eye(KINDS)[kind] + 0.01 * rng.normal(size=(len(ITEMS), KINDS))
    items = pl.DataFrame(
        {
            "item": ITEMS,
            "look": look.tolist(),
            "noise": rng.normal(size=(len(ITEMS), 3)).tolist(),
            "title": [f"warm coat {'wool' if k == 0 else 'down'}" if k < 2 else "thing of steel" for k in kind],
        }
    )
    return events, items


@pytest.fixture(scope="module")
def cells() -> list[fusion.Cell]:
    events, items = shop()
    data = sequences.read(events, items, wanted=("look", "noise"))
    return fusion.run(
        data,
        models=("popular", "ease"),
        conditions=("as it is", "cold", "missing 50", "missing 100"),
        runtime=Runtime(),
        settings=protocols.Settings(),
    )


def ndcg(cells, model, subset, condition, slice_, fused=None):
    (cell,) = [c for c in cells if (c.model, c.subset, c.condition, c.fusion) == (model, subset, condition, fused)]
    (found,) = [m for m in cell.measured if (m.slice, m.metric) == (slice_, "ndcg@10")]
    return float(np.mean(found.values))


def test_every_subset_under_every_condition_once(cells):
    met = [(c.model, c.subset, c.fusion, c.condition) for c in cells]
    assert len(met) == len(set(met))
    both = ("look", "noise")
    assert {(s, f) for m, s, f, c in met if m == "ease" and c == "as it is"} == {
        ((), None), (("look",), None), (("noise",), None), (both, "concat"), (both, "decision"),
    }  # fmt: skip
    assert {c for m, s, _, c in met if m == "ease" and not s} == {"as it is", "cold"}  # nothing to lose
    assert {(s, c) for m, s, _, c in met if m == "popular"} == {((), "as it is"), ((), "cold")}  # reads no content


def test_content_carries_the_items_that_lost_their_events(cells):
    blind = ndcg(cells, "ease", (), "cold", "cold")
    seen = ndcg(cells, "ease", ("look",), "cold", "cold")
    assert seen > 0.85 > 0.55 > blind  # eight items, two of each kind: the right two come first
    assert ndcg(cells, "ease", ("noise",), "cold", "cold") < 0.75
    for fused in ("concat", "decision"):
        assert ndcg(cells, "ease", ("look", "noise"), "cold", "cold", fused) > 0.75
    assert ndcg(cells, "ease", (), "as it is", "cold") > 0.7  # with their events they are as known as any


def test_what_is_lost_for_every_item_is_as_if_it_had_never_been(cells):
    alone = ndcg(cells, "ease", (), "as it is", "all")
    assert ndcg(cells, "ease", ("look",), "missing 100", "all") == pytest.approx(alone)
    assert ndcg(cells, "ease", ("look",), "missing 50", "all") != alone


def test_cold_items_are_a_share_of_every_class_of_sales_and_the_same_each_time():
    events, items = shop()
    past = sequences.read(events, items).past(horizon_days=1)
    held = fusion.cold_items(past)
    assert held.sum() == 8 and (held == fusion.cold_items(past)).all()
    sold = np.bincount(past.histories.row_item, minlength=len(past.items))
    quarter = np.argsort(sold, kind="stable").reshape(4, -1)
    assert [int(held[some].sum()) for some in quarter] == pytest.approx([2, 2, 2, 2], abs=1)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_each_modality_is_lost_for_other_items(share):
    names = [f"i{n}" for n in range(2000)]
    ones = sp.csr_matrix(np.ones((2000, 1), dtype=np.float32))
    left = {name: rows.toarray()[:, 0] for name, rows in fusion.missing({"a": ones, "b": ones}, names, share).items()}
    assert left["a"].mean() == pytest.approx(1 - share, abs=0.04)
    if share == 0.3:
        assert (left["a"] != left["b"]).mean() == pytest.approx(2 * 0.3 * 0.7, abs=0.04)


def test_the_held_items_leave_no_event_behind():
    events, items = shop()
    task = protocols.time(sequences.read(events, items), protocols.Settings())
    held = fusion.cold_items(task.test.fit)
    poorer = fusion._poorer(task.test, held, cold=True, asks_cold=True)
    for past in (poorer.fit, poorer.ask):
        assert not held[past.histories.row_item].any() and len(past.histories.row_item)
    assert set(poorer.slices) == {"cold", "warm"}
    for name, asked in (("cold", held), ("warm", ~held)):
        relevant, hidden = poorer.slices[name]
        assert not relevant[:, ~asked].nnz and relevant.nnz
        assert (hidden.toarray()[:, ~asked] == 1).all() and not (hidden.multiply(relevant)).nnz


def test_a_condition_nobody_knows():
    events, items = shop()
    with pytest.raises(UsageError, match=r"--conditions: 'warm' is not known\. .*missing 100"):
        fusion.run(sequences.read(events, items), models=("ease",), conditions=("warm",), runtime=Runtime())


def test_the_document_says_what_each_subset_gains_and_keeps(cells):
    told = fusion_report.document(cells, dataset="planted", seeds=1, notes=["a note"])
    gain = {(row["model"], row["slice"]): row for row in told["paired"]}
    assert gain["ease: look", "cold"]["low"] > 0 and ("ease: look", "cold, trained") in gain
    assert gain["ease: look", "all, missing 100"]["mean"] == pytest.approx(0)
    kept = {(row["model"], row["condition"]): row["share"] for row in told["kept"]}
    seen, trained = (ndcg(cells, "ease", ("look",), c, "cold") for c in ("cold", "as it is"))
    assert kept["ease: look", "cold"] == pytest.approx(seen / trained)
    assert ("ease: events", "missing 50") not in kept and ("popular: events", "cold") in kept
    assert {row["slice"] for row in told["rows"]} >= {"all", "cold", "cold, trained", "warm", "all, missing 50"}
    assert "On items without events" in told["sentence"]


def test_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    events, items = shop()
    events.write_parquet("events.parquet")
    items.write_parquet("items.parquet")
    asked = ["bench", "fusion", "--events", "events.parquet", "--items", "items.parquet", "--models", "ease"]
    done = CliRunner().invoke(app, [*asked, "--modalities", "look", "--out", "f.json"])
    assert done.exit_code == 0, done.output
    assert "ease: look" in done.output and "0 of 40 items have no look" in done.output
    told = json.loads((tmp_path / "f.json").read_text())
    assert told["protocol"] == "fusion" and {row["fusion"] for row in told["rows"]} == {None}
    assert "What it buys" in (tmp_path / "f.html").read_text()
    wrong = CliRunner().invoke(app, [*asked, "--modalities", "sound"])
    assert isinstance(wrong.exception, UsageError) and "holds no 'sound'" in str(wrong.exception)
