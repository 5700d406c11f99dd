import numpy as np
import polars as pl
import pytest

from habitue.bench.tasks import Columns, folds, leaks, reading
from habitue.core.errors import LeakageError
from habitue.core.runtime import Runtime
from habitue.model.tabular import tree

ROWS = 300
RNG = np.random.default_rng(0)
HONEST = RNG.normal(size=ROWS)
BOUGHT = (HONEST + RNG.normal(size=ROWS) > 0).astype(int)


def read(tmp_path, label=BOUGHT, task="purchase", columns=None, **more):
    path = tmp_path / "data.parquet"
    pl.DataFrame({"honest": HONEST, "other": RNG.normal(size=ROWS), "bought": label, **more}).write_parquet(path)
    asked = columns or Columns("bought")
    return reading.read(path, asked, task=task), asked


def found(tmp_path, **more):
    data, asked = read(tmp_path, **more)
    return {leak.column: leak.sentence for leak in leaks.columns(data, asked, seed=0)}


def test_honest_columns_are_let_through(tmp_path):
    assert found(tmp_path) == {}
    assert found(tmp_path, label=HONEST + RNG.normal(size=ROWS), task="value") == {}
    leaks.refuse([])


@pytest.mark.parametrize(
    ("name", "column", "sentence"),
    [
        ("copy", BOUGHT, "equals the label in every row"),
        ("words", np.where(BOUGHT == 1, "sold", "none"), "stands for the label"),
        ("upside down", 1 - BOUGHT, "stands for the label"),
        ("money", np.where(BOUGHT == 1, RNG.uniform(5, 90, ROWS), 0.0), "alone tells the label with an AUC of 1.0000"),
        ("nearly", BOUGHT + RNG.normal(0, 0.1, ROWS), "alone tells the label"),
        ("unknown then", np.where(BOUGHT == 1, np.nan, RNG.normal(size=ROWS)), "alone tells the label"),
    ],
)
def test_a_column_that_is_the_answer_is_named(tmp_path, name, column, sentence):
    told = found(tmp_path, **{name: column})
    assert list(told) == [name]
    assert told[name].startswith(sentence)


def test_a_leak_of_classes_and_of_numbers_is_named(tmp_path):
    intent = RNG.choice(["card", "loan", "cash"], ROWS)
    codes = {"card": 17, "loan": 3, "cash": 99}
    told = found(tmp_path, label=intent, task="intent", code=[codes[i] for i in intent])
    assert list(told) == ["code"]
    spaced = [codes[i] + RNG.integers(3) / 10 for i in intent]
    assert found(tmp_path, label=intent, task="intent", code=spaced)["code"].startswith(
        "alone tells the class of 100.0 %"
    )
    amount = RNG.exponential(size=ROWS)
    told = found(
        tmp_path, label=amount, task="value", pence=amount * 100 + RNG.normal(0, 0.1, ROWS), noisy=amount + HONEST
    )
    assert list(told) == ["pence"]
    assert "alone explains 100.00 % of the label's variance" in told["pence"]


def test_dropped_columns_and_groups_are_not_judged(tmp_path):
    copy = np.where(BOUGHT == 1, "sold", "none")
    assert found(tmp_path, columns=Columns("bought", drop=("copy",)), copy=copy) == {}


def test_the_refusal_names_every_column_and_what_to_do():
    with pytest.raises(LeakageError, match=r"column 'a' equals.*column 'b' alone.*--drop 'a' --drop 'b'.*--keep-leaks"):
        leaks.refuse([leaks.Leak("a", "equals the label"), leaks.Leak("b", "alone tells it")])


@pytest.mark.parametrize("task", ["purchase", "intent", "value"])
def test_mixed_labels_give_chance(tmp_path, task):
    label = {"purchase": BOUGHT, "intent": np.digitize(HONEST, [-1, 1]), "value": HONEST * 2}[task]
    data, _ = read(tmp_path, label=label, task=task)
    told = leaks.shuffled(data, folds.split(data, 3, seed=0)[0], runtime=Runtime())
    assert {name for name, _ in told.scores} == {"linear", "tree"}
    for _, score in told.scores:
        assert abs(score - told.expected) < max(told.allowed, 0.2)
    assert 0 < told.allowed < 0.35


@pytest.mark.parametrize("task", ["purchase", "intent", "value"])
def test_a_model_that_reads_held_out_labels_is_caught(tmp_path, monkeypatch, task):
    label = {"purchase": BOUGHT, "intent": np.digitize(HONEST, [-1, 1]), "value": HONEST * 2}[task]
    data, _ = read(tmp_path, label=label, task=task)
    taken = []
    take = type(data.target).take
    monkeypatch.setattr(type(data.target), "take", lambda self, rows: taken.append(take(self, rows)) or taken[-1])

    def peek(state, table):
        true = taken[-1].values  # the labels that were set aside last are those it will be judged by
        return true.astype(float) if task == "value" else np.eye(len(data.target.classes))[true]

    monkeypatch.setattr(tree, "answer", peek)
    with pytest.raises(LeakageError, match="permutation check: with labels mixed over all rows 'tree' still reaches"):
        leaks.shuffled(data, folds.split(data, 3, seed=0)[0], runtime=Runtime())
