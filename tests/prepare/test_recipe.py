"""What every preparation must do: learn from the rows it is given, and from no others."""

import datetime as dt

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.core.errors import LeakageError, SchemaError, SettingsError
from habitue.prepare import balance, impute, outliers, recipe, reduce, scale

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
EVERY = [
    *((impute, impute.Config(method=m, time="at" if m == "interpolate" else None)) for m in impute.METHODS),
    *((outliers, outliers.Config(method=m)) for m in outliers.METHODS),
    *((scale, scale.Config(method=m)) for m in scale.METHODS),
    (reduce, reduce.Config(method="pca")),
]
NAMES = [f"{module.__name__.rpartition('.')[2]}-{config.method}" for module, config in EVERY]


def table(n: int = 60, seed: int = 0, gaps: bool = True) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(10, 3, n), rng.exponential(5, n)
    frame = pl.DataFrame(
        {
            "at": [START + dt.timedelta(days=i) for i in range(n)],
            "a": a,
            "b": b,
            "c": a + b,
            "name": ["x", "y"] * (n // 2),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )
    holes = pl.int_range(pl.len()) % 7 == 3
    return frame.with_columns(a=pl.when(holes).then(None).otherwise("a")) if gaps else frame


def rows_for(module) -> pl.DataFrame:
    return table(gaps=module is not reduce)


@pytest.mark.parametrize(("module", "config"), EVERY, ids=NAMES)
def test_a_row_comes_out_the_same_whatever_stands_beside_it(module, config):
    rows = rows_for(module)
    state = module.fit(rows.head(40), config)
    whole = module.apply(state, rows)
    alone = pl.concat([module.apply(state, rows[i : i + 1]) for i in range(0, 60, 6)])
    some = whole[list(range(0, 60, 6))]
    assert alone.columns == some.columns
    for name in alone.columns:
        if alone[name].dtype == pl.Float64:
            np.testing.assert_allclose(alone[name].to_numpy(), some[name].to_numpy(), rtol=1e-9, atol=1e-12)
    assert whole["name"].equals(rows["name"])


@pytest.mark.parametrize(("module", "config"), EVERY, ids=NAMES)
def test_what_comes_later_changes_nothing_that_was_learnt(module, config):
    rows = rows_for(module)
    wild = rows.with_columns(pl.when(pl.col("at") >= rows["at"][40]).then(1e6).otherwise(pl.col("b")).alias("b"))
    past = [frame.filter(pl.col("at") < rows["at"][40]) for frame in (rows, wild)]
    first, second = (module.apply(module.fit(part, config), rows.head(40)) for part in past)
    assert first.equals(second)


@pytest.mark.parametrize(("module", "config"), EVERY, ids=NAMES)
def test_rows_from_after_the_cut_are_refused_by_name(module, config):
    rows = rows_for(module)
    module.fit(rows.head(40), config, until=rows["at"][40])
    with pytest.raises(LeakageError, match=r"column 'at': 1 of 41 rows hold a time at or after the moment"):
        module.fit(rows.head(41), config, until=rows["at"][40])


@pytest.mark.parametrize(("module", "config"), EVERY, ids=NAMES)
def test_a_missing_column_is_named(module, config):
    rows = rows_for(module)
    state = module.fit(rows, config)
    with pytest.raises(SchemaError, match=r"prepare\.\w+: column 'b' is missing"):
        module.apply(state, rows.drop("b"))


@pytest.mark.parametrize(("module", "config"), EVERY[:-1], ids=NAMES[:-1])
@pytest.mark.parametrize(
    "rows",
    [
        pl.DataFrame({"at": [START], "x": [1.0]}),
        pl.DataFrame({"at": [START] * 3, "x": [None, None, None]}, schema_overrides={"x": pl.Float64}),
        pl.DataFrame({"at": [START] * 3, "x": [2.0, 2.0, 2.0]}),
        pl.DataFrame({"at": [START] * 4, "x": [1.0, float("nan"), float("inf"), -float("inf")]}),
        pl.DataFrame(
            {"at": [START] * 3, "x": [1.0, 2.0, None], "y": [None, None, None]}, schema_overrides={"y": pl.Float64}
        ),
        pl.DataFrame({"at": [START] * 2, "word": ["a", "b"]}),
    ],
    ids=["one row", "all unknown", "constant", "infinite", "one column unknown", "no number"],
)
def test_poor_tables_get_an_answer_without_a_new_unknown(module, config, rows):
    told = module.apply(module.fit(rows, config), rows)
    for name in [c for c, t in rows.schema.items() if t == pl.Float64]:
        known = rows[name].is_finite().fill_null(False)
        assert told[name].filter(known).is_finite().all()
        if module is impute:
            assert told[name].is_finite().all()


@pytest.mark.parametrize("module", [impute, outliers, scale, reduce])
def test_no_such_method(module):
    with pytest.raises(
        SettingsError, match=rf"prepare\.{module.__name__.rpartition('.')[2]}: there is no method 'magic'"
    ):
        module.fit(table(), module.Config(method="magic"))


def test_empty_tables_stay_empty():
    for module, config in EVERY[:-1]:
        state = module.fit(table().clear(), config)
        assert module.apply(state, table().clear()).is_empty()
        assert module.apply(state, table()).height == 60


def test_a_recipe_is_its_steps_in_order():
    rows = table()
    steps = recipe.parse("scale=standard, impute=mean,outliers=winsorise")
    state = recipe.fit(rows, steps)
    assert [name for name, _ in state.steps] == ["outliers", "impute", "scale"]
    far = outliers.fit(rows, outliers.Config())
    clipped = outliers.apply(far, rows)
    filled = impute.apply(impute.fit(clipped, impute.Config(method="mean")), clipped)
    by_hand = scale.apply(scale.fit(filled), filled)
    assert recipe.apply(state, rows).equals(by_hand)
    assert recipe.learnt_from(state, rows).tolist() == list(range(60))


def test_isolation_and_balance_choose_rows_of_training_alone():
    rows = table(gaps=False).with_columns(b=pl.when(pl.int_range(pl.len()) == 5).then(1e5).otherwise("b"))
    classes = np.array([0] * 50 + [1] * 10)
    steps = recipe.Recipe(outliers=outliers.Config("isolation", rows=0.02), balance=balance.Config("under"))
    state = recipe.fit(rows, steps, classes=classes)
    learn = recipe.learnt_from(state, rows, classes)
    assert 5 not in learn
    assert np.bincount(classes[learn]).tolist() == [10, 10] or np.bincount(classes[learn]).min() >= 9
    assert recipe.apply(state, rows).height == 60  # an answer for every row
    assert recipe.learnt_from(state, rows).size in (58, 59)  # without classes nothing is balanced


def test_lda_needs_the_classes_and_gets_them():
    rows = table(gaps=False)
    classes = (rows["a"] > 10).to_numpy().astype(int)
    state = recipe.fit(rows, recipe.parse("reduce=lda"), classes=classes)
    told = recipe.apply(state, rows)
    assert told.columns == ["at", "name", "ld1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("imput=mean", r"there is no preparation 'imput=mean'.*Did you mean 'impute'\?"),
        ("impute=meen", r"there is no preparation 'impute=meen'.*Did you mean 'mean'\?"),
        ("impute", r"there is no preparation 'impute'"),
        ("scale=robust,scale=standard", r"'scale' is asked for twice"),
    ],
)
def test_what_cannot_be_read(text, said):
    with pytest.raises(SettingsError, match=said):
        recipe.parse(text)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)), min_size=1, max_size=12),
    st.sampled_from(["impute=median,scale=robust", "outliers=iqr,impute=mean,scale=standard", "scale=quantile", ""]),
)
def test_any_column_of_floats_comes_through(values, text):
    rows = pl.DataFrame({"x": values}, schema={"x": pl.Float64})
    told = recipe.apply(recipe.fit(rows, recipe.parse(text)), rows)
    assert told.height == len(values)
    if "impute" in text:
        assert not told["x"].is_nan().any()
