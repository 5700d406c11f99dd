import numpy as np
import polars as pl
import pytest

from habitue.bench.tasks import folds
from habitue.bench.tasks.reading import Data
from habitue.core.errors import InputError, UsageError
from habitue.model.tabular import Table, Target


def data(values, *, kind="binary", group=None, time=None, test=None):
    values = np.asarray(values)
    classes = tuple(str(c) for c in range(int(values.max()) + 1)) if kind != "number" else ()
    table = Table(pl.DataFrame({"x": np.arange(values.size, dtype=float)}), group=group)
    return Data(table, Target(kind, values, classes), pl.DataFrame(), np.arange(values.size), test, time)


def test_every_row_is_answered_once_by_who_never_saw_it():
    made = folds.split(data([0, 1] * 30), 5, seed=0)
    assert np.array_equal(np.sort(np.concatenate([one.held for one in made])), np.arange(60))
    for one in made:
        assert not set(one.learn) & set(one.held)
        assert one.learn.size + one.held.size == 60
        assert (np.array([0, 1] * 30)[one.held]).mean() == pytest.approx(0.5, abs=0.1)


def test_a_group_is_never_on_both_sides():
    group = np.random.default_rng(0).integers(12, size=100)
    for one in folds.split(data([0, 1] * 50, group=group), 4, seed=0):
        assert not set(group[one.learn]) & set(group[one.held])


def test_time_learns_from_earlier_rows_only():
    time = np.random.default_rng(0).integers(20, size=200)
    made = folds.split(data([0, 1] * 100, time=time), 3, seed=0)
    assert len(made) == 3
    seen = []
    for one in made:
        assert time[one.learn].max() < time[one.held].min()
        assert np.array_equal(one.learn, np.flatnonzero(time < time[one.held].min()))
        seen.extend(one.held)
    assert len(seen) == len(set(seen))
    assert time.max() in time[made[-1].held]


def test_time_and_group_together():
    time, group = np.arange(100), np.arange(100) % 50  # each group comes back once
    made = folds.split(data([0, 1] * 50, time=time, group=group), 3, seed=0)
    for one in made:
        assert not set(group[one.learn]) & set(group[one.held])
        assert time[one.learn].max() < time[one.held].min()
    assert made[1].learn.tolist() == list(range(25, 50))


def test_a_test_file_is_the_only_fold():
    made = folds.split(data([0, 1] * 10, test=np.arange(15, 20)), 5, seed=3)
    assert len(made) == 1
    assert made[0].held.tolist() == list(range(15, 20))


@pytest.mark.parametrize(
    ("given", "count", "message"),
    [
        (data([0, 1]), 5, "2 rows for 5 folds.*at least 5"),
        (data([0, 1] * 9, group=np.arange(18) // 6), 5, "3 groups for 5 folds"),
        (data([0, 1] * 9, time=np.ones(18, dtype=np.int64)), 2, "1 different moments for 2 folds.*at most 0 folds"),
        (data([0] * 10 + [1] * 10, time=np.arange(20)), 3, "fold 1.*5 rows to learn from with 1 different label "),
        (data([0] * 10 + [1]), 5, "with 1 different label"),
    ],
)
def test_folds_that_could_not_learn_are_refused(given, count, message):
    with pytest.raises(InputError, match=message):
        folds.split(given, count, seed=0)


def test_one_fold_is_wrong_use():
    with pytest.raises(UsageError, match="1 is given.*2 or more"):
        folds.split(data([0, 1] * 9), 1, seed=0)


def test_the_inner_part_is_held_back_by_group_or_the_latest():
    group = np.arange(100) // 4
    given = data([0, 1] * 50, group=group)
    one = folds.inner(given.table, given.target, None, seed=0)
    assert not set(group[one.learn]) & set(group[one.held])
    assert 15 <= one.held.size <= 25
    late = folds.inner(given.table, given.target, np.arange(100), seed=0)
    assert late.learn.max() < late.held.min()
    assert late.held.size == 20
    few = data([0, 1, 0, 1])
    assert folds.inner(few.table, few.target, None, seed=0) is None


def test_rare_classes_are_counted():
    values = np.r_[np.zeros(50, dtype=int), np.ones(3, dtype=int), [2]]
    sentence = folds.rare(Target("classes", values, ("a", "b", "c")), 5)
    assert sentence.startswith("2 of 3 classes have fewer rows than the 5 folds (4 rows)")
    assert folds.rare(Target("classes", values[:50], ("a",)), 5) is None
    assert folds.rare(Target("number", values.astype(float)), 5) is None
