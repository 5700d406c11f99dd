"""A shop in which what comes next is of the kind last bought, and the items' content tells the kind."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

from habitue.bench import fusion, fusion_fits, fusion_report, protocols, sequences
from habitue.cli import app
from habitue.core.errors import ModelError, UsageError
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


EVENTS = ("events",)
LOOK, NOISE, BOTH = ("events", "look"), ("events", "noise"), ("events", "look", "noise")
SMALL = {"behaviour": {"width": 8, "blocks": 1, "heads": 1, "window": 8, "passes": 3.0, "questions": 64, "content": 8}}


def people() -> pl.DataFrame:
    """What is known of everybody but the first two: the kind they buy."""
    return pl.DataFrame(
        {"user": [f"u{u}" for u in range(2, USERS)], "club": [f"club {u % KINDS}" for u in range(2, USERS)]}
    )


def asked(data: sequences.Sequences, **options) -> fusion.Result:
    return fusion.run(data, options=fusion.Options(**options), runtime=Runtime(threads=1))


@pytest.fixture(scope="module")
def result() -> fusion.Result:
    events, items = shop()
    data = sequences.read(events, items, wanted=("look", "noise"))
    return asked(data, models=("popular", "ease"), conditions=("as it is", "cold", "missing 50", "missing 100"))


@pytest.fixture(scope="module")
def cells(result) -> tuple[fusion.Cell, ...]:
    return result.cells


def ndcg(cells, model, subset, condition, slice_, fused=None, how=""):
    (cell,) = [
        c for c in cells
        if (c.model, c.subset, c.condition, c.fusion, c.how) == (model, subset, condition, fused, how)
    ]  # fmt: skip
    (found,) = [m for m in cell.measured if (m.slice, m.metric) == (slice_, "ndcg@10")]
    return float(np.mean(found.values))


def test_every_subset_under_every_condition_once(cells):
    met = [(c.model, c.subset, c.fusion, c.how, c.condition) for c in cells]
    assert len(met) == len(set(met))
    assert {(c.subset, c.fusion) for c in cells if c.model == "ease" and c.condition == "as it is"} == {
        (EVENTS, None), (LOOK, None), (NOISE, None), (BOTH, "concat"), (BOTH, "decision"),
    }  # fmt: skip
    assert {c.condition for c in cells if c.model == "ease" and c.subset == EVENTS} == {"as it is", "cold"}
    popular = {(c.subset, c.condition) for c in cells if c.model == "popular"}  # reads no content
    assert popular == {(EVENTS, "as it is"), (EVENTS, "cold")}


def test_content_carries_the_items_that_lost_their_events(cells):
    blind = ndcg(cells, "ease", EVENTS, "cold", "cold")
    seen = ndcg(cells, "ease", LOOK, "cold", "cold")
    assert seen > 0.85 > 0.55 > blind  # eight items, two of each kind: the right two come first
    assert ndcg(cells, "ease", NOISE, "cold", "cold") < 0.75
    assert ndcg(cells, "ease", BOTH, "cold", "cold", "concat") > 0.75
    assert ndcg(cells, "ease", BOTH, "cold", "cold", "decision", "average") > 0.75
    assert ndcg(cells, "ease", EVENTS, "as it is", "cold") > 0.7  # with their events they are as known as any


def test_what_is_lost_for_every_item_is_as_if_it_had_never_been(cells):
    alone = ndcg(cells, "ease", EVENTS, "as it is", "all")
    assert ndcg(cells, "ease", LOOK, "missing 100", "all") == pytest.approx(alone)
    assert ndcg(cells, "ease", LOOK, "missing 50", "all") != alone


@pytest.fixture(scope="module")
def flagship(tmp_path_factory) -> tuple[fusion.Result, sequences.Sequences, dict]:
    """The flagship by events, traits and looks, every fit kept in a folder."""
    events, items = shop()
    data = sequences.read(events, items, wanted=("look",), people=people())
    folder = tmp_path_factory.mktemp("fits")
    options = {"models": ("behaviour",), "conditions": ("as it is", "missing 50"), "settings": SMALL, "folder": folder}
    return asked(data, **options, whole_seeds=2), data, options


def test_the_flagship_is_asked_with_every_subset_in_every_fusion(flagship):
    cells = [c for c in flagship[0].cells if c.condition == "as it is"]
    assert not flagship[0].left_out
    subsets = {("events", "traits", "look"), ("events", "traits"), LOOK, ("traits", "look")}
    late = {("decision", how) for how in ("vote", "average", "stacked")}
    ways = {("concat", ""), ("gate", ""), ("attention", ""), ("model", "")} | late
    assert {(c.subset, c.fusion, c.how) for c in cells if len(c.subset) > 1} == {(s, *w) for s in subsets for w in ways}
    assert {c.subset for c in cells if c.fusion is None} == {EVENTS, ("traits",), ("look",)}
    assert {c.seeds for c in cells if len(c.subset) == 3} == {2} and {c.seeds for c in cells if len(c.subset) < 3} == {
        1
    }
    assert all(c.cpu_s > 0 for c in cells)
    votes = [c for c in cells if c.how == "vote" and c.subset == LOOK]
    assert {m.model for m in votes[0].measured} == {"behaviour (vote)"}


def test_without_events_traits_tell_what_is_wanted():
    events, items = shop()
    data = sequences.read(events, items, wanted=(), people=people())
    longer = {"behaviour": SMALL["behaviour"] | {"passes": 20.0, "learning_rate": 1e-2}}
    cells = asked(
        data, models=("popular", "behaviour"), conditions=("as it is",), fusions=("concat",), settings=longer
    ).cells
    known = ndcg(cells, "behaviour", ("traits",), "as it is", "all")
    assert known > ndcg(cells, "popular", EVENTS, "as it is", "all") + 0.1


def test_what_was_fitted_is_not_fitted_again(flagship, monkeypatch):
    result, data, options = flagship

    def never(*_args, **_more):
        raise AssertionError("fitted again")

    monkeypatch.setattr(fusion, "fitted", never)
    again = asked(data, **options, whole_seeds=2)
    for one, other in zip(result.cells, again.cells, strict=True):
        assert [m.values.tolist() for m in one.measured] == [m.values.tolist() for m in other.measured]
    with pytest.raises(AssertionError, match="fitted again"):  # other settings are another model
        asked(data, **options | {"settings": {"behaviour": SMALL["behaviour"] | {"passes": 2.0}}})
    with pytest.raises(AssertionError, match="fitted again"):  # so are other traits
        asked(dataclasses.replace(data, traits=data.traits + 1), **options)


def test_what_does_not_fit_into_the_budget_is_named(flagship):
    _, data, options = flagship
    told = asked(data, **options | {"folder": None, "conditions": ("as it is",)}, budget_s=0.0)
    assert not told.cells and len(told.left_out) == 4 * 7 + 3
    assert told.left_out["behaviour: events + look (decision vote), as it is"] == "it did not fit into the budget"


def test_every_cell_has_its_first_seed_before_any_has_a_second(flagship, monkeypatch):
    """The first seeds lie in the folder; the budget is too small for another fit but for those of all modalities."""
    first, data, options = flagship
    told = asked(data, **options, seeds=2, budget_s=0.0)
    assert not told.left_out and len(told.cells) == len(first.cells)
    whole = ("events", "traits", "look")
    assert {c.seeds for c in told.cells if c.subset == whole and c.condition == "as it is"} == {2}
    assert {c.seeds for c in told.cells if c.subset == ("look",)} == {1}
    for one, other in zip(first.cells, told.cells, strict=True):
        assert one.cpu_s == other.cpu_s or other.seeds != one.seeds
    fitted = []

    def failing(job, *_args, **_more):
        fitted.append(job.seed)
        raise ModelError("behaviour", found="nothing", consequence="nothing", remedy="nothing")

    monkeypatch.setattr(fusion, "fitted", failing)
    told = asked(data, **options | {"folder": None}, seeds=3)
    assert fitted == sorted(fitted) and set(fitted) == {0, 1, 2} and not told.cells


def test_a_model_that_cannot_be_fitted_is_named(monkeypatch):
    from habitue.model import ease

    def broken(*_args, **_more):
        raise ModelError("ease", found="nothing", consequence="nothing", remedy="nothing")

    monkeypatch.setattr(ease, "fit", broken)
    events, items = shop()
    told = asked(sequences.read(events, items, wanted=()), models=("popular", "ease"), conditions=("as it is",))
    assert [c.model for c in told.cells] == ["popular"] and "nothing" in told.left_out["ease: events, as it is"]


def test_traits_are_lost_for_a_share_of_the_users():
    events, items = shop()
    data = sequences.read(events, items, wanted=("look",), people=people())
    assert (data.traits[data.users.index("u0")] == 0).all() and (data.traits != 0).any(axis=1).sum() == USERS - 2
    past = data.past(horizon_days=1)
    job = fusion_fits.Job("behaviour", ("events", "traits", "look"), "gate", "missing 50", 0)
    poorer = fusion_fits.told(past, job)
    left = (poorer.traits != 0).any(axis=1).sum() / (USERS - 2)
    assert 0.35 < left < 0.65 and 0.3 < (poorer.words.getnnz(axis=1) > 0).mean() < 0.7
    assert fusion_fits.told(past, dataclasses.replace(job, subset=("events",))).traits is None


def test_a_stranger_is_asked_by_nothing_that_came_before():
    events, items = shop()
    data = sequences.read(events, items, wanted=(), people=people())
    past = data.past(horizon_days=1)
    strangers = fusion_fits.alone(past)
    assert (np.diff(strangers.histories.set_start) == 1).all() and strangers.known.all()
    assert np.array_equal(strangers.histories.row_item, past.histories.row_item)
    assert np.array_equal(strangers.traits, past.traits[past.histories.set_user])


def test_wide_vectors_are_made_narrow_and_say_the_same():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(300, 20)) @ rng.normal(size=(20, 400))
    hidden[7] = 0
    rows = sp.csr_matrix((hidden / np.maximum(np.linalg.norm(hidden, axis=1, keepdims=True), 1e-9)).astype(np.float32))
    narrow = fusion.narrow(rows)
    assert narrow.shape == (300, 128) and not narrow[7].nnz
    np.testing.assert_allclose((narrow @ narrow.T).toarray(), (rows @ rows.T).toarray(), atol=1e-4)
    sparse = sp.csr_matrix(np.eye(300, dtype=np.float32))
    assert fusion.narrow(sparse) is sparse


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pl.DataFrame({"person": ["u1"], "age": [3]}), r"--users: the columns are person, age\."),
        (pl.DataFrame({"user": ["u1"]}), r"--users: the columns are user\."),
    ],
)
def test_a_table_of_users_that_is_none(table, said):
    events, items = shop()
    with pytest.raises(UsageError, match=said):
        sequences.read(events, items, people=table)


def test_cold_items_are_a_share_of_every_class_of_sales_and_the_same_each_time():
    events, items = shop()
    past = sequences.read(events, items).past(horizon_days=1)
    held = fusion_fits.cold_items(past)
    assert held.sum() == 8 and (held == fusion_fits.cold_items(past)).all()
    sold = np.bincount(past.histories.row_item, minlength=len(past.items))
    quarter = np.argsort(sold, kind="stable").reshape(4, -1)
    assert [int(held[some].sum()) for some in quarter] == pytest.approx([2, 2, 2, 2], abs=1)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_each_modality_is_lost_for_other_items(share):
    names = [f"i{n}" for n in range(2000)]
    ones = sp.csr_matrix(np.ones((2000, 1), dtype=np.float32))
    left = {
        name: rows.toarray()[:, 0] for name, rows in fusion_fits.missing({"a": ones, "b": ones}, names, share).items()
    }
    assert left["a"].mean() == pytest.approx(1 - share, abs=0.04)
    if share == 0.3:
        assert (left["a"] != left["b"]).mean() == pytest.approx(2 * 0.3 * 0.7, abs=0.04)


def test_the_held_items_leave_no_event_behind():
    events, items = shop()
    task = protocols.time(sequences.read(events, items), protocols.Settings())
    held = fusion_fits.cold_items(task.test.fit)
    poorer = fusion_fits.poorer(task.test, held, "cold")
    for past in (poorer.fit, poorer.ask):
        assert not held[past.histories.row_item].any() and len(past.histories.row_item)
    assert set(poorer.slices) == {"cold", "warm"}
    for name, asked in (("cold", held), ("warm", ~held)):
        relevant, hidden = poorer.slices[name]
        assert not relevant[:, ~asked].nnz and relevant.nnz
        assert (hidden.toarray()[:, ~asked] == 1).all() and not (hidden.multiply(relevant)).nnz


def test_a_condition_and_a_fusion_nobody_knows():
    events, items = shop()
    data = sequences.read(events, items)
    with pytest.raises(UsageError, match=r"--conditions: 'warm' is not known\. .*missing 100"):
        asked(data, models=("ease",), conditions=("warm",))
    with pytest.raises(
        UsageError, match=r"--fusions: 'late' is not known\. .*concat, gate, attention, model, decision"
    ):
        asked(data, models=("ease",), fusions=("late",))


def test_the_document_says_what_each_subset_gains_and_keeps(result, cells):
    told = fusion_report.document(result, dataset="planted", notes=["a note"])
    gain = {(row["model"], row["slice"]): row for row in told["paired"]}
    assert gain["ease: events + look", "cold"]["low"] > 0 and ("ease: events + look", "cold, trained") in gain
    assert gain["ease: events + look", "all, missing 100"]["mean"] == pytest.approx(0)
    kept = {(row["model"], row["condition"]): row["share"] for row in told["kept"]}
    seen, trained = (ndcg(cells, "ease", LOOK, c, "cold") for c in ("cold", "as it is"))
    assert kept["ease: events + look", "cold"] == pytest.approx(seen / trained)
    assert ("ease: events", "missing 50") not in kept and ("popular: events", "cold") in kept
    assert {row["slice"] for row in told["rows"]} >= {"all", "cold", "cold, trained", "warm", "all, missing 50"}
    assert "On items without events" in told["sentence"] and told["left_out"] == []


def test_the_flagship_is_held_against_every_other_model():
    events, items = shop()
    data = sequences.read(events, items, wanted=("look",))
    options = {"models": ("popular", "ease", "behaviour"), "conditions": ("as it is",), "fusions": ("gate",)}
    told = fusion_report.document(asked(data, **options, settings=SMALL), dataset="planted", notes=[])
    pairs = {(row["model"], row["against"]) for row in told["versus"]}
    ours = "behaviour: events + look (gate)"
    assert pairs == {(ours, "popular: events"), (ours, "ease: events + look")}
    columns, rows = fusion_report.grid(told)
    assert columns == ["model", "all", "warm", "cold, with events", "95 % of the first", "seeds", "CPU s"]
    assert [row[1] for row in rows] == sorted((row[1] for row in rows), reverse=True) and len(rows) == 6


def test_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    events, items = shop()
    events.write_parquet("events.parquet")
    seen = pl.int_range(pl.len()) >= 3
    items.with_columns(pl.when(seen).then("look")).write_parquet("items.parquet")
    asked = ["bench", "fusion", "--events", "events.parquet", "--items", "items.parquet", "--models", "ease"]
    done = CliRunner().invoke(app, [*asked, "--modalities", "look", "--out", "f.json"])
    assert done.exit_code == 0, done.output
    assert "ease: events + look" in done.output and "3 of 40 items have no look" in done.output
    told = json.loads((tmp_path / "f.json").read_text())
    assert told["protocol"] == "fusion" and {row["fusion"] for row in told["rows"]} == {None}
    assert "What it buys" in (tmp_path / "f.html").read_text()
    wrong = CliRunner().invoke(app, [*asked, "--modalities", "sound"])
    assert isinstance(wrong.exception, UsageError) and "holds no 'sound'" in str(wrong.exception)
