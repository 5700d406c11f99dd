from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from habitue.apply import sessions
from habitue.apply.heldout import one
from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.core.schemas import EXAMPLES, METRICS, Examples, check

ONE = Runtime(threads=1)
SMALL = sessions.Config(trees=30, learning_rate=0.1, min_rows=20)


def test_the_planted_giveaway_is_named_and_what_is_left_without_it_measured(sessions_: Examples) -> None:
    answer = sessions.run(sessions_, SMALL, runtime=ONE)
    check(answer.metrics, METRICS, at="test")
    assert one(answer.metrics, "trees", "auc")["mean"] > 0.99
    assert one(answer.metrics, "logistic", "auc")["mean"] > 0.99
    for model in ("trees_without_page_values", "logistic_without_page_values"):
        assert 0.65 < one(answer.metrics, model, "auc")["mean"] < 0.95
    assert "PageValues" in answer.note and "33.3 %" in answer.verdict
    assert answer.importance["column"][0] == "Duration"
    assert "PageValues" not in answer.importance["column"]
    assert answer.importance["share"].sum() == pytest.approx(1)


def test_gains_start_at_nothing_and_end_at_all(sessions_: Examples) -> None:
    gains = sessions.run(sessions_, SMALL, runtime=ONE).gains
    for model in ("trees", "trees_without_page_values"):
        curve = gains.filter(pl.col("model") == model)["share_of_purchases"]
        assert curve[0] == 0 and curve[-1] == pytest.approx(1) and curve.is_sorted()
    at = gains.filter(pl.col("share_of_visits").is_between(0.335, 0.345), pl.col("model") == "trees")
    assert at["share_of_purchases"].item() > 0.95  # a third of the visits bought, and the giveaway finds them


def test_dealt_labels_give_chance_and_the_verdict_says_so(sessions_: Examples) -> None:
    answer = sessions.run(sessions_.with_columns(label=sessions_["label"].shuffle(seed=1)), SMALL, runtime=ONE)
    for model in answer.metrics["model"].unique():
        assert 0.42 < one(answer.metrics, model, "auc")["mean"] < 0.58
    assert "hardly more than" in answer.verdict


def test_another_suspect_column_can_be_named(sessions_: Examples) -> None:
    answer = sessions.run(sessions_, SMALL, runtime=ONE, suspect="Noise")
    assert "trees_without_noise" in answer.metrics["model"].to_list() and answer.note == ""
    assert "Noise may be read" in answer.verdict
    with pytest.raises(ModelError, match="there is no column 'Gone' among 4 columns. It cannot be learnt which visits"):
        sessions.run(sessions_, SMALL, runtime=ONE, suspect="Gone")


def test_bad_examples_are_refused_in_words(sessions_: Examples) -> None:
    with pytest.raises(ModelError, match="600 of 600 visits have a label other than 'bought' or 'left'"):
        sessions.run(sessions_.with_columns(label=pl.lit("yes")), SMALL, runtime=ONE)
    with pytest.raises(ModelError, match="0 of 0 visits have a label"):
        sessions.run(EXAMPLES.empty(), SMALL, runtime=ONE)
    with pytest.raises(ModelError, match="of 600 examples 0 are labelled yes, for 5 folds"):
        sessions.run(sessions_.with_columns(label=pl.lit("left")), SMALL, runtime=ONE)
    gap = sessions_.with_columns(
        columns=pl.when(pl.col("example_id") == "5")
        .then(pl.lit(json.dumps({"PageValues": 1.0, "Month": "May", "Noise": 0.0})))
        .otherwise(pl.col("columns"))
    )
    with pytest.raises(ModelError, match="column 'Duration' is missing in some visits"):
        sessions.run(gap, SMALL, runtime=ONE)
    with pytest.raises(ModelError, match="there is no column 'PageValues' among 0 columns"):
        sessions.run(sessions_.with_columns(columns=pl.lit(None, dtype=pl.String)), SMALL, runtime=ONE)


def test_the_published_file_reads_as_examples(tmp_path: Path) -> None:
    pl.DataFrame({"PageValues": [0.0, 2.5], "Month": ["May", "Nov"], "Revenue": [0, 1]}).write_parquet(
        tmp_path / "s.parquet"
    )
    examples = sessions.read(tmp_path / "s.parquet")
    check(examples, EXAMPLES, at="test")
    assert examples["label"].to_list() == ["left", "bought"]
    assert json.loads(examples["columns"][1]) == {"PageValues": 2.5, "Month": "Nov"}
