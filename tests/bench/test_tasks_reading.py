import datetime as dt

import numpy as np
import polars as pl
import pytest

from habitue.bench.tasks import Columns, reading
from habitue.core.errors import InputError, UsageError
from habitue.model.tabular import ngrams

ROWS = 60


def frame(**more):
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "amount": rng.normal(size=ROWS),
            "visits": rng.integers(5, size=ROWS),
            "colour": rng.choice(["red", "green"], ROWS),
            "bought": rng.integers(2, size=ROWS),
            **more,
        }
    )


def read(tmp_path, table, columns=None, **more):
    path = tmp_path / "data.parquet"
    table.write_parquet(path)
    return reading.read(path, columns or Columns("bought"), task=more.pop("task", "purchase"), **more)


def test_columns_become_numbers_and_categories(tmp_path):
    data = read(
        tmp_path, frame(member=[True, False] * 30, when=[dt.datetime(2024, 1, 1 + i % 28, i % 24) for i in range(60)])
    )
    assert data.table.numbers == ("amount", "visits", "member", "when (day)", "when (hour)")
    assert set(data.table.categories) == {"colour", "when (weekday)"}  # it is January in every row
    assert "column 'when (month)' is the same in every row and is not read" in data.notes
    assert data.target.kind == "binary"
    assert data.target.classes == ("0", "1")


def test_nan_and_infinity_are_unknown_and_counted(tmp_path):
    wild = np.arange(ROWS, dtype=float) ** 0.5
    wild[:3] = np.inf, -np.inf, np.nan
    data = read(tmp_path, frame(wild=wild))
    assert np.isnan(data.table.frame["wild"].to_numpy()[:3]).all()
    assert data.table.frame["wild"].is_finite().sum() == ROWS - 3
    assert "infinite values count as unknown: 'wild' (2)" in data.notes


def test_running_numbers_and_names_are_not_read_and_said(tmp_path):
    data = read(
        tmp_path, frame(row=range(100, 100 + ROWS), name=[f"customer {i}" for i in range(ROWS)], n=["a"] * ROWS)
    )
    assert data.table.columns == ("amount", "visits", "colour")
    said = " / ".join(data.notes)
    assert "column 'row' looks like a number of the row" in said
    assert "'name' looks like a number of the row or a name of its own (60 different values in 60 rows)" in said
    assert "column 'n' is the same in every row" in said
    kept = read(tmp_path, frame(row=range(ROWS)), Columns("bought", categories=("row",)))
    assert "row" in kept.table.categories


def test_rows_without_a_label_are_left_out_and_counted(tmp_path):
    label = [None, " ", "yes", "no"] * 15
    data = read(tmp_path, frame().with_columns(bought=pl.Series(label)))
    assert data.target.values.size == 30
    assert data.row[:4].tolist() == [2, 3, 6, 7]
    assert "30 of 60 rows have no label and are left out" in data.notes
    assert data.target.classes == ("no", "yes")
    real = read(tmp_path, frame().with_columns(bought=pl.Series([np.nan, np.inf, 1.5, 2.5] * 15)), task="value")
    assert real.target.values.size == 30


def test_labels_with_spaces_and_pictures_in_letters(tmp_path):
    data = read(
        tmp_path,
        frame().with_columns(bought=pl.Series(["so good 🙂", " ", "très  mal", "so good 🙂"] * 15)),
        task="sentiment",
    )
    assert data.target.classes == ("so good 🙂", "très  mal")
    assert data.target.values.size == 45


@pytest.mark.parametrize(
    ("label", "task", "kind", "classes"),
    [
        ([0, 1], "purchase", "binary", ("0", "1")),
        ([0.0, 1.0], "churn", "binary", ("0", "1")),
        ([True, False], "anything", "binary", ("false", "true")),
        (["good", "bad"], "sentiment", "binary", ("bad", "good")),
        (["left", "left", "stayed"], "churn", "binary", ("left", "stayed")),  # the rarer is the yes
        ([1, 2, 3, 4, 5], "rating", "classes", ("1", "2", "3", "4", "5")),
        ([10, 9, 2], "rating", "classes", ("2", "9", "10")),
        (list(range(30)), "intent", "classes", None),
        (list(range(30)), "points", "number", ()),
        ([0, 1], "value", "number", ()),
        ([0.5, 1.5, 7.25], "rating", "number", ()),
        (["b", "a", "c"], "intent", "classes", ("a", "b", "c")),
    ],
)
def test_the_kind_of_answer_is_found(tmp_path, label, task, kind, classes):
    table = frame().with_columns(bought=pl.Series((label * ROWS)[:ROWS]))
    data = read(tmp_path, table, task=task)
    assert data.target.kind == kind
    if classes is not None:
        assert data.target.classes == classes


def test_the_kind_may_be_said(tmp_path):
    table = frame().with_columns(bought=pl.Series([1, 2, 3, 4, 5] * 12))
    assert read(tmp_path, table, task="rating", kind="number").target.kind == "number"
    with pytest.raises(UsageError, match="5 different values.*Yes or no has two"):
        read(tmp_path, table, kind="binary")
    with pytest.raises(UsageError, match="'numbr' is none.*Did you mean 'number'"):
        read(tmp_path, table, kind="numbr")
    words = frame().with_columns(bought=pl.Series(["a", "b", "c"] * 20))
    with pytest.raises(UsageError, match="no number.*--kind classes"):
        read(tmp_path, words, task="value")
    real = frame().with_columns(bought=pl.Series(np.linspace(0, 1, ROWS)))
    with pytest.raises(UsageError, match="60 different numbers.*'churn' asks for one of a few.*--task value"):
        read(tmp_path, real, task="churn")


@pytest.mark.parametrize(
    ("change", "columns", "message"),
    [
        ({}, Columns("bougth"), "no column 'bougth'.*Did you mean 'bought'"),
        ({}, Columns("bought", texts=("titel",)), "no column 'titel'"),
        ({}, Columns("bought", drop=("bought",)), "'bought' is named for something else too"),
        ({"bought": [1] * ROWS}, Columns("bought"), r"all 60 labels are the same \('1'\)"),
        ({"bought": [None] * ROWS}, Columns("bought"), "none of 60 rows has a label"),
        ({"bought": [[1]] * ROWS}, Columns("bought"), "it is List"),
        ({"voice": [1] * ROWS}, Columns("bought", sounds=("voice",)), "--sound 'voice'.*Int64.*paths relative"),
        ({"photo": [1] * ROWS}, Columns("bought", pictures=("photo",)), "'photo'.*Int64.*paths relative"),
        ({"photo": [b"x"] * ROWS}, Columns("bought", texts=("photo",)), "--text 'photo'.*Binary"),
        ({"at": [None] * ROWS}, Columns("bought", time="at"), "60 rows have no moment"),
    ],
)
def test_what_cannot_be_set_up_is_said(tmp_path, change, columns, message):
    table = frame().with_columns(**{name: pl.Series(values) for name, values in change.items()})
    with pytest.raises((UsageError, InputError), match=message):
        read(tmp_path, table, columns)


def test_an_encoder_needs_a_name_and_a_text(tmp_path):
    with pytest.raises(UsageError, match="no encoder called 'sentnce'.*Did you mean 'sentence'"):
        read(tmp_path, frame(), encoders=("sentnce",))
    with pytest.raises(UsageError, match="'sentence' reads text, and no column of text is named.*--text COLUMN"):
        read(tmp_path, frame(), encoders=("sentence",))
    with pytest.raises(UsageError, match="'speech-en' reads sound, and no column of sound is named.*--sound COLUMN"):
        read(tmp_path, frame(), encoders=("speech-en",))


def test_nothing_left_to_learn_from_is_said(tmp_path):
    with pytest.raises(InputError, match="no column is left.*'same' is the same in every row"):
        read(tmp_path, pl.DataFrame({"bought": [0, 1] * 30, "same": [1] * 60}))


def test_a_long_text_is_cut_and_counted(tmp_path):
    table = frame(note=["word " * 2_000_000, "short", None] * 1 + ["fine"] * (ROWS - 3))
    data = read(tmp_path, table, Columns("bought", texts=("note",)))
    assert f"1 texts of 'note' are longer than {ngrams.Config().longest:,} letters and are cut" in data.notes
    assert data.table.texts["note"].shape[0] == ROWS
    assert data.modalities == ("table", "text")


def test_copies_of_rows_are_counted(tmp_path):
    table = frame()
    data = read(tmp_path, pl.concat([table, table.head(3)]))
    assert any(note.startswith("6 rows equal another row") for note in data.notes)


def test_a_test_file_is_read_beside(tmp_path):
    path, test = tmp_path / "a.csv", tmp_path / "b.csv"
    frame().write_csv(path)
    frame().head(10).write_csv(test)
    data = reading.read(path, Columns("bought"), task="purchase", test=test)
    assert data.test.tolist() == list(range(60, 70))
    assert data.row[60:].tolist() == list(range(10))
    frame().drop("colour").write_csv(test)
    with pytest.raises(InputError, match="b.csv.*lacks the column 'colour'"):
        reading.read(path, Columns("bought"), task="purchase", test=test)


def test_a_group_is_not_read_and_unknown_ones_are_alone(tmp_path):
    data = read(tmp_path, frame(who=["a", "b", None] * 20), Columns("bought", group="who"))
    assert "who" not in data.table.columns
    group = data.table.group
    assert np.unique(group[0::3]).size == np.unique(group[1::3]).size == 1
    assert np.unique(group[2::3]).size == 20


def test_a_label_too_large_for_a_whole_number_is_a_class(tmp_path):
    table = pl.DataFrame({"a": [1.5, 2.5, 3.5, 4.5], "label": [1e308, 1.0, 1e308, 1.0]})
    found = read(tmp_path, table, Columns(label="label"))
    assert sorted(found.target.classes) == ["1.0", "1e+308"]
