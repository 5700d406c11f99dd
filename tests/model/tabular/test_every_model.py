"""Every tabular model goes through the same checks, on tables whose truth was planted; found by listing the folder."""

import dataclasses
import functools
import importlib
import pkgutil
import time

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

import habitue.model.tabular
from habitue.core import settings
from habitue.core.errors import ModelError, SettingsError
from habitue.core.runtime import Runtime
from habitue.model.tabular import (
    Clock,
    Table,
    Target,
    bagging,
    boosting,
    forest,
    linear,
    members,
    ngrams,
    profile,
    stacking,
)

ROWS = 300
SMALL = {
    "members": ("linear", "svm", "profile"),
    "trees": 40,
    "most_trees": 60,
    "times": 2,
    "passes": 40,
    "hidden": 16,
    "folds": 2,
}
KINDS = ("binary", "classes", "number")


def models():
    names = [m.name for m in pkgutil.iter_modules(habitue.model.tabular.__path__)]
    files = [importlib.import_module(f"habitue.model.tabular.{name}") for name in names]
    return [m for m in files if hasattr(m, "KINDS")]


def every_model(*, without=()):
    chosen = [m for m in models() if m.__name__.rpartition(".")[2] not in without]
    return pytest.mark.parametrize("model", chosen, ids=lambda m: m.__name__.rpartition(".")[2])


every_kind = pytest.mark.parametrize("kind", KINDS)


def planted(kind: str, rows: int = ROWS, seed: int = 0) -> tuple[Table, Target]:
    """A number, a category, a text and a vector that each carry a part of the answer; unknown cells here and there."""
    rng = np.random.default_rng(seed)
    size, colour = rng.normal(size=rows), rng.integers(3, size=rows)
    word, direction = rng.integers(2, size=rows), rng.normal(size=rows)
    truth = size + 1.5 * colour + 2 * word + 2.5 * direction
    unknown = rng.random(rows) < 0.05
    frame = pl.DataFrame(
        {
            "size": np.where(unknown, np.nan, size),
            "noise": rng.normal(size=rows),
            "colour": [None if u else ("red", "green", "blue")[c] for u, c in zip(unknown, colour, strict=True)],
            "constant": np.ones(rows),
        },
    )
    texts = {"words": ngrams.counts([("bad day", "fine and good")[w] for w in word], ngrams.Config(bits=10))}
    axis = np.linspace(-1, 1, 8)
    vectors = direction[:, None] * axis + rng.normal(scale=0.1, size=(rows, 8))
    vectors[unknown] = np.nan
    table = Table(frame, texts, {"face": vectors.astype(np.float32)})
    if kind == "number":
        return table, Target("number", truth)
    edges = np.quantile(truth, [0.5] if kind == "binary" else [0.33, 0.66])
    return table, Target(kind, np.digitize(truth, edges).astype(np.int64), ("low", "middle", "high")[: len(edges) + 1])


def small(model):
    config = model.Config()
    chosen = {f.name: SMALL[f.name] for f in dataclasses.fields(config) if f.name in SMALL}
    return dataclasses.replace(config, **chosen)


def fit(model, table, target, *, seed=1, clock=None):
    return model.fit(table, target, small(model), runtime=Runtime(seed=seed), clock=clock or Clock())


@functools.cache
def learnt(model, kind):
    table, target = planted(kind)
    return fit(model, table, target)


def checked(model, state, table, target) -> np.ndarray:
    """The answer, held against the contract."""
    said = model.answer(state, table)
    assert said.dtype == np.float64
    assert np.isfinite(said).all()
    if target.kind == "number":
        assert said.shape == (table.height,)
    else:
        assert said.shape == (table.height, len(target.classes))
        assert said.min() >= 0
        np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-9)
    return said


def test_the_models_are_found():
    found = {m.__name__.rpartition(".")[2] for m in models()}
    assert found >= {
        "constant",
        "linear",
        "svm",
        "tree",
        "forest",
        "boosting",
        "profile",
        "bagging",
        "voting",
        "stacking",
    }


@every_kind
@every_model(without=("constant",))
def test_learns_what_was_planted(model, kind):
    table, target = planted(kind, rows=200, seed=9)
    said = checked(model, learnt(model, kind), table, target)
    alone = 0.75 if model is profile else 0.8  # the vectors hold a part of the answer
    if kind == "number":
        assert np.corrcoef(said, target.values)[0, 1] > (0.6 if model is profile else 0.75)
    elif kind == "binary":
        assert roc_auc_score(target.values, said[:, 1]) > alone
    else:
        assert np.mean(said.argmax(axis=1) == target.values) > (0.48 if model is profile else 0.55)


@every_kind
@every_model()
def test_the_same_seed_gives_the_same_answers(model, kind):
    table, target = planted(kind)
    again = model.answer(fit(model, table, target), table)
    assert np.array_equal(model.answer(learnt(model, kind), table), again)


@every_kind
@every_model()
def test_leaves_what_it_is_given_as_it_was(model, kind):
    table, target = planted(kind)
    fit(model, table, target)
    fresh, same = planted(kind)
    assert table.frame.equals(fresh.frame, null_equal=True)
    assert (table.texts["words"] != fresh.texts["words"]).nnz == 0
    np.testing.assert_array_equal(table.vectors["face"], fresh.vectors["face"])
    np.testing.assert_array_equal(target.values, same.values)


@every_kind
@every_model()
def test_a_row_is_answered_alone_as_among_others(model, kind):
    table, target = planted(kind)
    whole = model.answer(learnt(model, kind), table)
    alone = checked(model, learnt(model, kind), table.take(np.array([5])), target)
    np.testing.assert_allclose(alone, whole[[5]], rtol=1e-5, atol=1e-6)


@every_kind
@every_model()
def test_survives_what_it_never_met(model, kind):
    """A new level, infinite and huge numbers, no text, no vector: an answer still, and none of them NaN."""
    table, target = planted(kind, rows=6)
    strange = table.frame.with_columns(
        size=pl.Series([np.inf, -np.inf, np.nan, 1e300, -1e300, 0.0]),
        colour=pl.Series(["violet", None, "red", "", "ü🙂", "green"]),
    )
    empty = {"words": ngrams.counts([None, "", "Ω 漢字 🙂", "good", "bad", "fine"], ngrams.Config(bits=10))}
    nothing = {"face": np.full((6, 8), np.nan, dtype=np.float32)}
    checked(model, learnt(model, kind), Table(strange, empty, nothing), target)


@every_kind
@every_model(without=("profile",))
def test_survives_columns_that_tell_nothing(model, kind):
    table, target = planted(kind, rows=60)
    dull = pl.DataFrame({"all unknown": np.full(60, np.nan), "same": np.full(60, 3.0), "one": ["x"] * 60})
    checked(model, fit(model, Table(dull), target), Table(dull), target)


@every_kind
@every_model()
def test_survives_ten_rows_and_a_class_nobody_had(model, kind):
    table, target = planted(kind, rows=10)
    if kind != "number":
        target = Target(kind, target.values, (*target.classes, "never met"))
    said = checked(model, fit(model, table, target), table, target)
    if kind != "number":
        assert (said[:, -1] > 0).all()
        assert said[:, -1].max() < 0.15


@every_kind
@every_model()
def test_rows_of_a_group_stay_together_inside(model, kind):
    """Every row stands there twice; inner folds that parted the copies would be fooled, and must not fail either."""
    table, target = planted(kind, rows=40)
    twice = np.repeat(np.arange(40), 2)
    grouped = dataclasses.replace(table.take(twice), group=twice)
    checked(model, fit(model, grouped, target.take(twice)), table, target)


@every_kind
@every_model()
def test_importance_adds_up_and_names_columns(model, kind):
    if not hasattr(model, "importance"):
        pytest.skip("tells none")
    told = model.importance(learnt(model, kind))
    assert told.columns == ["column", "importance"]
    assert set(told["column"]) <= set(planted(kind)[0].columns)
    assert told["column"].is_unique().all()
    assert told["importance"].sum() == pytest.approx(1)
    assert told["importance"].is_sorted(descending=True)
    dull = told.filter(pl.col("column") == "constant")["importance"]
    assert dull.sum() == 0


@every_model()
def test_settings_that_may_be_tuned_hold_their_default(model):
    for name, choice in settings.space(model.Config).items():
        value = getattr(model.Config(), name)
        assert value in choice.values if choice.values else choice.low <= value <= choice.high, name


@pytest.mark.parametrize("model", [forest, boosting, bagging, profile, stacking], ids=lambda m: m.__name__[22:])
def test_stops_with_what_it_has_when_the_time_is_up(model):
    table, target = planted("binary")
    over = Clock(until=time.process_time() - 1)
    state = fit(model, table, target, clock=over)
    checked(model, state, table, target)
    if model is forest:
        assert state.model.n_estimators == 40  # the first portion of trees, and no more
    if model in (bagging, stacking):
        assert len(state.fitted) == 1
    if model is boosting:
        assert state.trees <= 1


def test_boosting_finds_fewer_trees_where_there_is_little_to_learn():
    table, target = planted("binary")
    noise = dataclasses.replace(target, values=np.random.default_rng(0).permutation(target.values))
    assert fit(boosting, table, noise).trees < learnt(boosting, "binary").trees


def test_stacking_listens_to_who_knows():
    table, target = planted("number")
    state = learnt(stacking, "number")
    weights = dict(zip([name for name, _ in state.fitted], state.weights, strict=True))
    assert min(weights.values()) >= 0
    assert weights["linear"] + weights["svm"] > weights["profile"]  # the truth is a sum, and the vectors a part of it
    assert target.values.std() > 0
    assert table.height == ROWS


def test_trees_are_left_out_of_ensembles_where_they_would_only_repeat():
    table, _ = planted("binary")
    words = table.only("words")
    many = Target("classes", np.arange(ROWS) % 30, tuple(str(i) for i in range(30)))
    assert members.fitting(("linear", "forest"), words, many) == ("linear",)
    assert members.fitting(("linear", "forest"), table, many) == ("linear", "forest")
    assert members.fitting(("linear", "profile"), words, many) == ("linear",)


def test_profile_asks_for_vectors():
    table, target = planted("binary")
    assert "--encoder" in profile.needs(table.only("words"))
    with pytest.raises(ModelError, match="reads the vectors of an encoder, and there are none"):
        fit(profile, table.only("words"), target)


def test_an_ensemble_of_something_unknown_is_refused():
    table, target = planted("binary")
    with pytest.raises(SettingsError, match="'boostin' is no model.*Did you mean 'boosting'"):
        bagging.fit(table, target, bagging.Config(member="boostin"), runtime=Runtime(), clock=Clock())
    with pytest.raises(ModelError, match="none of its members can read this table"):
        stacking.fit(
            table.only("words"), target, stacking.Config(members=("profile",)), runtime=Runtime(), clock=Clock()
        )


@every_kind
def test_l1_takes_out_what_tells_nothing_and_ridge_does_not(kind):
    table, target = planted(kind)
    plain = Table(table.frame.select("size", "noise"))
    share = {}
    for l1_share in (0.0, 0.5, 1.0):
        config = linear.Config(strength=30.0 if kind == "number" else 12.0, l1_share=l1_share)
        told = dict(linear.importance(linear.fit(plain, target, config, runtime=Runtime(), clock=Clock())).rows())
        assert told["size"] > told["noise"]
        share[l1_share] = told["noise"]
    assert share[0.0] > 0
    assert share[1.0] == 0
    assert share[0.5] <= share[0.0]
