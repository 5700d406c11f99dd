import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitue.core.errors import SettingsError, UsageError
from habitue.prepare.balance import Config, rows, weights

CLASSES = np.array(["no"] * 70 + ["yes"] * 7 + ["maybe"] * 20)


def test_over_repeats_the_rare_evenly_and_keeps_every_row():
    chosen = rows(CLASSES)
    names, counts = np.unique(CLASSES[chosen], return_counts=True)
    assert dict(zip(names, counts, strict=True)) == {"maybe": 70, "no": 70, "yes": 70}
    times = np.bincount(chosen, minlength=CLASSES.size)
    assert times[:70].tolist() == [1] * 70
    assert times[70:77].tolist() == [10] * 7
    assert set(times[77:]) == {3, 4}
    assert (np.diff(chosen) >= 0).all()
    half = rows(CLASSES, Config(share=0.5))
    assert np.unique(CLASSES[half], return_counts=True)[1].tolist() == [35, 70, 35]


def test_under_draws_from_the_common_without_repeat():
    chosen = rows(CLASSES, Config("under"))
    assert np.unique(CLASSES[chosen], return_counts=True)[1].tolist() == [7, 7, 7]
    assert np.unique(chosen).size == chosen.size
    assert np.unique(CLASSES[rows(CLASSES, Config("under", share=0.5))], return_counts=True)[1].tolist() == [14, 14, 7]
    assert rows(CLASSES, Config("under")).tolist() == chosen.tolist()
    assert rows(CLASSES, Config("under", seed=1)).tolist() != chosen.tolist()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_weights_make_every_class_as_heavy(classes):
    told = weights(classes)
    heavy = [told[np.array(classes) == c].sum() for c in set(classes)]
    assert heavy == pytest.approx([len(classes) / len(set(classes))] * len(heavy))
    assert told.mean() == pytest.approx(1.0)
    assert set(rows(classes)) == set(range(len(classes)))
    assert set(rows(classes, Config("under"))) <= set(range(len(classes)))


def test_one_class_stays_and_no_row_is_refused():
    assert rows([1, 1, 1]).tolist() == rows([1, 1, 1], Config("under")).tolist() == [0, 1, 2]
    for empty in (rows, weights):
        with pytest.raises(UsageError, match=r"prepare.balance: there is no row"):
            empty([])
    with pytest.raises(SettingsError, match="prepare.balance: there is no method 'smote'"):
        rows([1, 2], Config("smote"))
    with pytest.raises(SettingsError, match="prepare.balance: a share of 0"):
        rows([1, 2], Config(share=0.0))
