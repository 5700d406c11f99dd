from __future__ import annotations

import numpy as np
import pytest

from habitue.apply.heldout import Forecast, deal, one, yes_no
from habitue.core.errors import ModelError


def test_folds_hold_each_answer_in_equal_shares_and_repeat_with_the_seed() -> None:
    truth = np.arange(100) % 5 == 0
    fold = deal(truth, 4, seed=3, where="test")
    for answer in (True, False):
        counts = np.bincount(fold[truth == answer], minlength=4)
        assert counts.max() - counts.min() <= 1
    assert (fold == deal(truth, 4, seed=3, where="test")).all()
    assert (fold != deal(truth, 4, seed=4, where="test")).any()


def test_too_few_of_an_answer_is_said_in_words() -> None:
    with pytest.raises(ModelError, match=r"test: of 30 examples 2 are labelled yes, for 3 folds\. A fold without both"):
        deal(np.arange(30) < 2, 3, seed=0, where="test")
    with pytest.raises(ModelError, match="of 30 examples 0 are labelled no"):
        deal(np.ones(30, dtype=bool), 2, seed=0, where="test")


def test_the_threshold_of_a_fold_is_chosen_on_the_others() -> None:
    truth = np.array([True, False, True, False])
    fold = np.array([0, 0, 1, 1])
    # Fold 0 is told apart at .9, fold 1 at .4: each other's threshold says "no" twice in 0, "yes" twice in 1.
    forecast = Forecast("planted", ("text",), np.array([0.3, 0.1, 0.9, 0.8]), 0.0)
    table = yes_no(truth, fold, [forecast], dataset="toy", seed=0)
    # fold 1's best threshold .9 refuses all of fold 0; fold 0's best .3 accepts all of fold 1: TP 1, FP 1, FN 1
    assert one(table, "planted", "f1")["mean"] == pytest.approx(2 / 4)
    assert one(table, "planted", "auc")["mean"] == pytest.approx(3 / 4)
    assert table["protocol"].unique().to_list() == ["2-fold"]


def test_a_score_at_the_threshold_says_yes() -> None:
    truth, fold = np.array([True, False, True, False]), np.array([0, 0, 1, 1])
    forecast = Forecast("planted", ("text",), np.array([0.9, 0.1, 0.9, 0.8]), 0.0)
    assert one(yes_no(truth, fold, [forecast], dataset="toy", seed=0), "planted", "f1")["mean"] == 1
