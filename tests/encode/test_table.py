"""Columns as numbers, worked by hand."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from habitue import encode
from habitue.core.errors import SchemaError, SettingsError
from habitue.encode.table import Config

UTC = dt.UTC


def columns(frame: pl.DataFrame, config: Config | None = None, **options) -> dict[str, np.ndarray]:
    vectors = encode.run(
        "table", frame.with_row_index("id").with_columns(pl.col("id").cast(pl.String)), config, **options
    )
    assert vectors.dense.dtype == np.float32 and np.isfinite(vectors.dense).all()
    return dict(zip(vectors.fitted.names, vectors.dense.T, strict=True))


def test_numbers_are_standardised_and_say_what_is_missing():
    got = columns(pl.DataFrame({"x": [1.0, 3.0, None, float("nan"), float("-inf")]}))
    assert list(got) == ["x", "x missing"]
    assert got["x"] == pytest.approx([-1, 1, 0, 0, 0])
    assert got["x missing"].tolist() == [0, 0, 1, 1, 1]


def test_no_number_is_too_large_and_a_constant_is_nothing():
    got = columns(pl.DataFrame({"big": [1e308, -1e308, 1e308], "same": [0.1, 0.1, 0.1], "none": [None] * 3}))
    assert got["big"] == pytest.approx([0.7071, -1.4142, 0.7071], abs=1e-3)
    assert not got["same"].any() and not got["none"].any()
    assert got["none missing"].tolist() == [1, 1, 1]


def test_what_lies_far_out_counts_as_the_limit():
    got = columns(pl.DataFrame({"x": [0.0] * 999 + [1e9]}), Config(limit=3.0))
    assert got["x"].max() == 3.0


def test_few_categories_have_a_column_each():
    frame = pl.DataFrame({"colour": ["red", "blue", None, "red"]})
    got = columns(frame)
    assert list(got) == ["colour=blue", "colour=red", "colour other", "colour missing"]
    assert got["colour=red"].tolist() == [1, 0, 0, 1] and got["colour missing"].tolist() == [0, 0, 1, 0]
    for kind in (pl.Categorical, pl.Enum(["blue", "red"])):
        assert columns(frame.cast({"colour": kind}))["colour=red"].tolist() == [1, 0, 0, 1]


def test_many_categories_are_hashed_with_a_sign():
    many = [f"c{i}" for i in range(200)]
    got = columns(pl.DataFrame({"code": [*many, None]}), Config(one_hot=32, buckets=16))
    block = np.stack([got[f"code#{i}"] for i in range(16)], axis=1)
    assert list(got) == [*(f"code#{i}" for i in range(16)), "code missing"]
    assert (np.abs(block).sum(axis=1) == [1] * 200 + [0]).all() and got["code missing"].tolist() == [0] * 200 + [1]
    assert (block > 0).any() and (block < 0).any()
    assert (np.abs(block).sum(axis=0) > 0).all(), "every bucket is used"


def test_the_last_day_of_a_year_is_near_the_first_and_midnight_near_both_sides():
    moments = [dt.datetime(2023, 12, 31, 23, 59), dt.datetime(2024, 1, 1, 0, 1), dt.datetime(2023, 7, 1, 12)]
    got = columns(pl.DataFrame({"at": moments}).with_columns(pl.col("at").dt.replace_time_zone("Europe/Paris")))
    for circle in ("day", "year"):
        place = np.stack([got[f"at {circle} sin"], got[f"at {circle} cos"]], axis=1)
        assert np.linalg.norm(place[0] - place[1]) < 0.05 and np.linalg.norm(place[0] - place[2]) > 1.5
        assert np.linalg.norm(place, axis=1) == pytest.approx(1, abs=1e-6)
    assert got["at week sin"][1] == 0 and got["at week cos"][1] == 1, "2024-01-01 is a Monday"


def test_dates_times_and_durations_have_their_own_circles():
    frame = pl.DataFrame(
        {
            "d": [dt.date(2024, 1, 1), None, dt.date(2024, 7, 1)],
            "t": [dt.time(6), None, dt.time(18)],
            "s": [dt.timedelta(days=1), None, dt.timedelta(days=3)],
            "b": [True, None, False],
        }
    )
    got = columns(frame)
    assert [n for n in got if n.startswith("d ")] == [
        "d week sin",
        "d week cos",
        "d year sin",
        "d year cos",
        "d missing",
    ]
    assert [n for n in got if n.startswith("t ")] == ["t day sin", "t day cos", "t missing"]
    assert got["t day sin"] == pytest.approx([1, 0, -1], abs=1e-6) and got["t day cos"][1] == 0
    assert got["s"] == pytest.approx([-1, 0, 1]) and got["b"] == pytest.approx([1, 0, -1])


def frame(**columns) -> pl.DataFrame:
    first = next(iter(columns.values()))
    return pl.DataFrame({"id": [str(i) for i in range(len(first))], **columns})


def test_later_rows_come_into_the_same_columns():
    learnt = encode.run("table", frame(x=[1.0, 3.0], colour=["red", "blue"], at=[dt.date(2024, 1, 1)] * 2))
    later = frame(x=[5, None], colour=["green", None], at=[dt.date(2024, 1, 1), None], label=[1, 0])
    got = encode.run("table", later, fitted=learnt.fitted)
    named = dict(zip(got.fitted.names, got.dense.T, strict=True))
    assert named["x"].tolist() == [3, 0] and named["colour other"].tolist() == [1, 0]
    assert not any("label" in name for name in named), "a column that was not learnt is left out"
    same = encode.run(
        "table", frame(x=[1.0, 3.0], colour=["red", "blue"], at=[dt.date(2024, 1, 1)] * 2), fitted=learnt.fitted
    )
    assert same.sha256 == learnt.sha256


def test_units_of_time_do_not_matter():
    moments = pl.Series("at", [dt.datetime(2024, 1, 1), dt.datetime(2024, 3, 1)])
    learnt = encode.run("table", frame(at=moments.dt.cast_time_unit("us")))
    again = encode.run("table", frame(at=moments.dt.cast_time_unit("ms")), fitted=learnt.fitted)
    assert (again.dense == learnt.dense).all()


def test_a_column_of_nulls_is_missing_whatever_it_was():
    learnt = encode.run("table", frame(x=[1.0, 2], c=["a", "b"], at=[dt.date(2024, 1, 1)] * 2))
    got = encode.run("table", frame(x=[None], c=[None], at=[None]), fitted=learnt.fitted)
    named = dict(zip(got.fitted.names, got.dense[0], strict=True))
    assert {n for n, value in named.items() if value} == {"x missing", "c missing", "at missing"}


@pytest.mark.parametrize(
    ("later", "found"),
    [
        ({"y": [1.0]}, "column 'x' is missing"),
        ({"x": ["one"]}, "column 'x' is String; it was fitted as number"),
    ],
)
def test_other_columns_than_those_learnt_are_refused(later, found):
    learnt = encode.run("table", frame(x=[1.0, 2.0])).fitted
    with pytest.raises(SchemaError, match=f"encode.table: {found}.*Give the columns that were fitted"):
        encode.run("table", frame(**later), fitted=learnt)


def test_other_settings_than_those_learnt_are_refused():
    learnt = encode.run("table", frame(x=[1.0, 2.0])).fitted
    with pytest.raises(SettingsError, match="the columns were made with Config"):
        encode.run("table", frame(x=[1.0]), Config(limit=2.0), fitted=learnt)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (frame(x=[[1], [2]]), r"column 'x' is List\(Int64\).*Leave it out"),
        (frame(x=[b"a", b"b"]), "column 'x' is Binary"),
        (pl.DataFrame({"id": ["a"]}), "there is no column beside 'id'"),
        (pl.DataFrame({"x": [1]}), "column 'id' is missing"),
        (pl.DataFrame({"id": ["a", "a"], "x": [1, 2]}), "an id comes twice"),
    ],
)
def test_what_is_no_table_of_things_is_refused(wrong, found):
    with pytest.raises(SchemaError, match=found):
        encode.run("table", wrong)


def test_one_row_and_no_row():
    assert encode.run("table", frame(x=[1.0])).dense.tolist() == [[0, 0]]
    assert encode.run("table", frame(x=pl.Series([], dtype=pl.Float64))).dense.shape == (0, 2)
