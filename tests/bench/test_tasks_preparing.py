"""A preparation stands before every model, and knows no row that is held back."""

import json

import numpy as np
import polars as pl
import pytest

from habitue.bench.tasks import folds, leaks, measuring, reading
from habitue.bench.tasks.preparing import Prepared
from habitue.bench.tasks.reading import Columns
from habitue.core.errors import UsageError
from habitue.core.runtime import Runtime
from habitue.model.tabular import Clock, Table, Target, linear, tree
from habitue.prepare import recipe

RUNTIME = Runtime()


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=240)
    y = (x + rng.normal(0, 0.7, 240) > 1.2).astype(int)
    frame = pl.DataFrame({"x": x, "noise": rng.normal(size=240), "bought": y})
    frame.with_columns(x=pl.when(pl.int_range(240) % 9 == 4).then(None).otherwise("x")).write_parquet(
        tmp_path / "t.parquet"
    )
    return reading.read(tmp_path / "t.parquet", Columns("bought"), task="purchase")


def recorder(seen: list[pl.DataFrame]):
    class Model:
        KINDS = linear.KINDS
        Config = linear.Config

        @staticmethod
        def fit(table, target, config, *, runtime, clock):
            seen.append(table.frame.with_columns(bought=pl.Series(target.values)))
            return linear.fit(table, target, config, runtime=runtime, clock=clock)

        answer = staticmethod(linear.answer)

    return Model


def test_what_the_model_learns_from_is_prepared_and_balanced_and_answers_are_whole(data):
    seen: list[pl.DataFrame] = []
    model = Prepared(recorder(seen), recipe.parse("impute=mean,scale=standard,balance=over"))
    state = model.fit(data.table, data.target, model.Config(), runtime=RUNTIME, clock=Clock())
    counts = np.bincount(seen[0]["bought"].to_numpy())
    assert counts[0] == counts[1] == (data.target.values == 0).sum()
    assert seen[0].columns == ["x", "noise", "x is unknown", "bought"]
    assert np.isfinite(seen[0]["x"].to_numpy()).all()
    assert model.answer(state, data.table).shape == (240, 2)


def test_nothing_is_learnt_from_rows_that_are_held_back(data):
    """Rows held back are made wild: what was fitted in the fold must not change by a bit."""
    fold = folds.split(data, 3, seed=0)[0]
    wild = data.table.frame.with_columns(
        x=pl.when(pl.int_range(240).is_in(fold.held.tolist())).then(1e9).otherwise("x")
    )
    states = []
    for frame in (data.table.frame, wild):
        model = Prepared(linear, recipe.parse("outliers=winsorise,impute=median,scale=quantile,reduce=lda"))
        table = Table(frame).take(fold.learn)
        state = model.fit(table, data.target.take(fold.learn), linear.Config(), runtime=RUNTIME, clock=Clock())
        states.append(model.answer(state, Table(data.table.frame).take(fold.held)))
    np.testing.assert_array_equal(*states)


def test_every_model_of_the_bench_runs_after_a_recipe(data):
    splits = [folds.split(data, 3, seed=0)]
    steps = recipe.parse("impute=median,outliers=iqr,scale=robust,reduce=pca,balance=under")
    answers = measuring.every(data, ["linear", "tree"], splits, runtime=RUNTIME, cpu_hours=None, recipe=steps)
    for one in answers:
        assert one.row.tolist() == list(range(240))
        assert np.isfinite(one.said).all()
        told = measuring.importance(data, one, seed=0)
        assert set(told["column"]) == {"x", "noise"}  # the columns of the file, not of the recipe
        assert told["column"][0] == "x"
    leaks.shuffled(data, splits[0][0], runtime=RUNTIME, recipe=steps)


def test_words_alone_are_balanced(tmp_path):
    texts = ["good mug and nice"] * 40 + ["bad mug it broke"] * 10
    frame = pl.DataFrame({"text": texts, "label": ["yes"] * 40 + ["no"] * 10})
    frame.write_parquet(tmp_path / "t.parquet")
    data = reading.read(tmp_path / "t.parquet", Columns("label", texts=("text",)), task="liked")
    heights: list[int] = []

    class Model:
        Config = tree.Config

        @staticmethod
        def fit(table, target, config, *, runtime, clock):
            heights.append(table.height)
            return np.bincount(target.values).tolist()

    state = Prepared(Model, recipe.parse("balance=over")).fit(
        data.table, data.target, None, runtime=RUNTIME, clock=Clock()
    )
    assert heights == [80]
    assert state.model == [40, 40]


def test_numbers_are_answered_too():
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"x": rng.normal(size=50)})
    target = Target("number", 3 * frame["x"].to_numpy())
    model = Prepared(linear, recipe.parse("scale=standard,balance=over"))  # no classes: nothing to balance
    state = model.fit(Table(frame), target, linear.Config(), runtime=RUNTIME, clock=Clock())
    assert np.corrcoef(model.answer(state, Table(frame)), target.values)[0, 1] > 0.99


def test_the_command_line_reads_a_recipe(data, tmp_path):
    from typer.testing import CliRunner

    from habitue.cli import app

    out = tmp_path / "out.json"
    command = ["bench", "tasks", "--data", str(tmp_path / "t.parquet"), "--label", "bought", "--models", "linear,tree"]
    done = CliRunner().invoke(app, [*command, "--prepare", "impute=median,balance=over", "--out", str(out)])
    assert done.exit_code == 0, done.output
    told = json.loads(out.read_text())["settings"]["prepare"]
    assert told["impute"]["method"] == "median"
    assert told["balance"]["method"] == "over"
    assert told["scale"] is None
    wrong = CliRunner().invoke(app, [*command, "--prepare", "impute=magic"])
    assert "there is no preparation 'impute=magic'" in str(wrong.exception)


def test_invented_rows_are_learnt_from_and_never_answered():
    seen = []

    class Spy:
        def fit(self, table, target, config, **more):
            seen.append((table, target))
            return linear.fit(table, target, config, **more)

        answer = staticmethod(linear.answer)

    rng = np.random.default_rng(0)
    table = Table(pl.DataFrame({"x": rng.normal(size=60)}), group=np.arange(60))
    target = Target("binary", np.repeat([0, 1], [50, 10]), ("no", "yes"))
    model = Prepared(Spy(), recipe.parse("generate=mixture"))
    state = model.fit(table, target, linear.Config(), runtime=Runtime(), clock=Clock())
    learnt, taught = seen[0]
    assert learnt.height == taught.values.size == 100 and np.bincount(taught.values).tolist() == [50, 50]
    assert np.unique(learnt.group).size == 100
    assert model.answer(state, table).shape == (60, 2)
    words = Table(pl.DataFrame({"x": rng.normal(size=60)}), {}, {"v": np.zeros((60, 2), dtype=np.float32)})
    with pytest.raises(UsageError, match="the rows have words, pictures or sounds"):
        model.fit(words, target, linear.Config(), runtime=Runtime(), clock=Clock())
