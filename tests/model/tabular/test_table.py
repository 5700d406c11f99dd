import numpy as np
import polars as pl
import pytest

from habitue.core.errors import ModelError
from habitue.model.tabular import Clock, Table, Target, deal, ngrams, wide


def classes(*rows):
    values = np.repeat(np.arange(len(rows)), rows)
    return Target("classes", values, tuple(str(i) for i in range(len(rows))))


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_every_class_is_dealt_evenly(folds):
    target = classes(50, 7, 3)
    fold = deal(target, folds, seed=0)
    for c, rows in enumerate((50, 7, 3)):
        counted = np.bincount(fold[target.values == c], minlength=folds)
        assert counted.sum() == rows
        assert counted.max() - counted.min() <= 1
    whole = np.bincount(fold, minlength=folds)
    assert whole.max() - whole.min() <= 1


def test_a_number_is_dealt_by_its_level():
    values = np.random.default_rng(0).exponential(size=100)
    fold = deal(Target("number", values), 5, seed=0)
    means = [values[fold == k].mean() for k in range(5)]
    assert max(means) - min(means) < 0.35
    assert np.array_equal(fold, deal(Target("number", values), 5, seed=0))
    assert not np.array_equal(fold, deal(Target("number", values), 5, seed=1))


def test_a_group_stays_together_and_folds_are_level():
    rng = np.random.default_rng(0)
    group = rng.integers(40, size=500)
    fold = deal(classes(250, 250), 4, seed=0, group=group)
    assert all(np.unique(fold[group == g]).size == 1 for g in np.unique(group))
    assert np.ptp(np.bincount(fold)) < 30


@pytest.mark.parametrize(("rows", "group"), [(2, None), (9, np.array([0, 0, 0, 1, 1, 1, 2, 2, 2]))])
def test_too_few_to_deal_is_said(rows, group):
    with pytest.raises(ModelError, match=f"{'2 rows' if group is None else '3 groups'} for 5 folds.*at least 5"):
        deal(classes(rows), 5, seed=0, group=group)


def test_unknown_classes_share_what_one_row_more_would_give():
    target = Target("classes", np.array([1, 1, 3, 3, 3, 1]), ("a", "b", "c", "d"))
    assert target.known.tolist() == [1, 3]
    assert target.compact().tolist() == [0, 0, 1, 1, 1, 0]
    said = target.spread(np.array([[0.25, 0.75]]))
    np.testing.assert_allclose(said, [[1 / 8, 0.25 * 6 / 8, 1 / 8, 0.75 * 6 / 8]])
    whole = classes(2, 2)
    np.testing.assert_allclose(whole.spread(np.array([[0.25, 0.75]])), [[0.25, 0.75]])


def test_rows_are_taken_and_shuffled_in_every_part():
    table = Table(
        pl.DataFrame({"n": [1.0, 2.0, 3.0], "c": ["x", "y", "z"]}),
        {"t": ngrams.counts(["a", "b", "c"], ngrams.Config(bits=8))},
        {"v": np.arange(6, dtype=np.float32).reshape(3, 2)},
        np.array([7, 8, 9]),
    )
    assert (table.numbers, table.categories, table.columns) == (("n",), ("c",), ("n", "c", "t", "v"))
    some = table.take(np.array([2, 0]))
    assert some.frame.rows() == [(3.0, "z"), (1.0, "x")]
    assert some.vectors["v"].tolist() == [[4, 5], [0, 1]]
    assert some.group.tolist() == [9, 7]
    assert (some.texts["t"][0] != table.texts["t"][2]).nnz == 0
    for column in table.columns:
        mixed = table.shuffled(column, np.array([1, 2, 0]))
        for other in table.columns:
            same = _part(mixed, other) == _part(table, other)
            assert same == (other != column)
    assert Table(pl.DataFrame(), {}, table.vectors).take(np.array([1])).height == 1


def _part(table, column):
    if column in table.texts:
        return table.texts[column].toarray().tolist()
    return (table.vectors[column] if column in table.vectors else table.frame[column].to_numpy()).tolist()


def test_a_clock_runs_out():
    assert not Clock().over
    assert not Clock.after(None).over
    assert not Clock.after(1000).over
    assert Clock.after(-1).over


def test_the_wide_table_is_fitted_on_training_rows_only():
    train = Table(pl.DataFrame({"n": [0.0, 2.0, np.nan, 2.0], "c": ["x", "x", "x", "rare"]}))
    state = wide.fit(train)
    assert state.sources == ("n", "n", "c", "c", "c")
    new = Table(pl.DataFrame({"n": [1e9, np.nan], "c": ["new", None]}))
    np.testing.assert_allclose(wide.design(state, new), [[8, 0, 0, 1, 0], [0, 1, 0, 0, 1]])
    values = wide.design(state, train)[:, 0]
    np.testing.assert_allclose(values[[0, 1, 3]].mean(), 0, atol=1e-12)


def test_a_huge_number_overflows_nothing():
    train = Table(pl.DataFrame({"n": [1e308, -1e308, 3.0, 4.0]}))
    rows = wide.design(wide.fit(train), train)
    assert np.isfinite(rows).all()
    assert rows[0, 0] > 1 > rows[2, 0] > rows[1, 0]


def test_texts_are_weighted_as_scikit_learn_does():
    from sklearn.feature_extraction.text import TfidfTransformer

    texts = ["red mug", "red red cup", "blue cup", "mug"]
    counts = ngrams.counts(texts, ngrams.Config(letters=0, words=1, bits=16))
    table = Table(pl.DataFrame(), {"t": counts})
    ours = wide.design(wide.fit(table), table).toarray()
    kept = counts[:, np.flatnonzero(np.bincount(counts.indices, minlength=counts.shape[1]) >= 2)]
    expected = TfidfTransformer(sublinear_tf=True).fit_transform(kept).toarray()
    np.testing.assert_allclose(ours, expected, atol=1e-7)


def test_vectors_of_a_missing_thing_stand_at_the_mean_and_say_so():
    rng = np.random.default_rng(0)
    matrix = rng.normal(3, 2, size=(50, 4)).astype(np.float32)
    matrix[7] = np.nan
    table = Table(pl.DataFrame(), {}, {"v": matrix})
    rows = wide.design(wide.fit(table), table)
    assert rows.shape == (50, 5)
    assert rows[7].tolist() == [0, 0, 0, 0, 1]
    known = np.delete(rows, 7, axis=0)[:, :4]
    np.testing.assert_allclose(known.mean(axis=0), 0, atol=1e-9)
    assert np.sqrt((known**2).sum(axis=1).mean()) == pytest.approx(wide.VECTOR_LENGTH)
