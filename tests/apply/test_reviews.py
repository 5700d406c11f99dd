from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from habitue.apply import reviews
from habitue.apply.heldout import one
from habitue.core.errors import ModelError
from habitue.core.schemas import EXAMPLES, METRICS, Examples, check


def test_the_planted_words_decide_reviews_it_has_not_read(reviews_: Examples) -> None:
    answer = reviews.run(reviews_)
    check(answer.metrics, METRICS, at="test")
    assert one(answer.metrics, "words", "auc")["mean"] > 0.999
    assert one(answer.metrics, "words", "f1")["mean"] > 0.99
    assert one(answer.metrics, "product_share", "auc")["high"] < 0.7
    pushes = dict(answer.words.select("word", "weight").iter_rows())
    assert pushes["lovely"] > 0 > pushes["horrid"]
    assert answer.words["word"][0] in ("lovely", "lovely fabric")  # most towards recommended comes first
    row = answer.words.row(by_predicate=pl.col("word") == "horrid", named=True)
    assert (row["reviews"], row["share"]) == (60, 0.0)
    assert "the words add much" in answer.verdict
    assert "240 reviews" in answer.verdict and "25 %" in answer.verdict


def test_examples_name_the_words_that_moved_them(reviews_: Examples) -> None:
    shown = reviews.run(reviews_).examples
    assert shown["happened"].to_list() == [False, False, True, True]  # two of each kind; nothing was wrong here
    for row in shown.to_dicts():
        words = [w["word"] for w in row["words"]]
        assert any(("lovely" if row["happened"] else "horrid") in word for word in words)
        assert (row["forecast"] > 0.5) == row["happened"] == (sum(w["weight"] for w in row["words"]) > 0)
        assert row["text"].startswith("my view. ") and len(words) == 5


def test_wrong_forecasts_are_shown_too(reviews_: Examples) -> None:
    liar = reviews_.with_columns(
        label=pl.when(pl.col("example_id") == "1").then(pl.lit(reviews.NO)).otherwise(pl.col("label"))
    )
    wrong = reviews.run(liar).examples.filter((pl.col("forecast") > 0.5) != pl.col("happened"))
    assert wrong["example_id"].to_list() == ["1"]


def test_dealt_labels_give_chance(reviews_: Examples) -> None:
    answer = reviews.run(reviews_.with_columns(label=reviews_["label"].shuffle(seed=1)))
    measured = one(answer.metrics, "words", "auc")
    assert 0.4 < measured["mean"] < 0.6
    assert "no better than that count" in answer.verdict


def test_a_title_counts_as_words(reviews_: Examples) -> None:
    only = reviews_.with_columns(
        text=pl.lit(None, dtype=pl.String),
        columns=pl.concat_str(
            pl.lit('{"title": "'), pl.col("text").str.extract("(horrid|lovely)"), pl.lit('", "item_id": null}')
        ),
    )
    assert one(reviews.run(only).metrics, "words", "auc")["mean"] > 0.999


def test_a_review_without_words_gets_the_average(reviews_: Examples) -> None:
    empty = reviews_.with_columns(
        text=pl.when(pl.col("example_id").is_in(["0", "1"])).then(pl.lit("")).otherwise(pl.col("text")), columns=None
    )
    answer = reviews.run(EXAMPLES.shape(empty))
    assert one(answer.metrics, "words", "auc")["mean"] > 0.98


@pytest.mark.parametrize("label", ["good", None])
def test_a_label_it_does_not_know_is_refused(reviews_: Examples, label: str | None) -> None:
    bad = reviews_.with_columns(
        label=pl.when(pl.col("example_id") == "7").then(pl.lit(label)).otherwise(pl.col("label"))
    )
    with pytest.raises(
        ModelError, match=r"1 of 240 reviews have a label other than 'recommended' or 'not recommended'"
    ):
        reviews.run(bad)
    with pytest.raises(ModelError, match="0 of 0 reviews have a label other"):
        reviews.run(EXAMPLES.empty())


def test_one_class_is_refused(reviews_: Examples) -> None:
    with pytest.raises(ModelError, match="of 240 examples 0 are labelled yes, for 3 folds"):
        reviews.run(reviews_.with_columns(label=pl.lit(reviews.YES)))


def test_texts_without_words_are_refused(reviews_: Examples) -> None:
    with pytest.raises(ModelError, match="no word stands in 3 of the 240 reviews. There is nothing to forecast from"):
        reviews.run(EXAMPLES.shape(reviews_.with_columns(text=pl.lit("..."), columns=pl.lit(None, dtype=pl.String))))


def test_a_column_a_fold_hardly_knows_weighs_nothing() -> None:
    counts = sp.csr_matrix(np.array([[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 0, 0], [1, 0, 1, 0]], dtype=np.float32))
    refused = np.array([True, True, False, False])
    idf, contrast = reviews._weights(counts, refused, reviews.Config(min_reviews=2, contrast=1.0))
    assert idf[[0, 1, 3]] == pytest.approx([1 + np.log(5 / 5), 1 + np.log(5 / 3), 1 + np.log(5 / 3)]) and idf[2] == 0
    # in 2, 1, 0, 2 refusals and 2, 1, 1, 0 recommendations; one is added to each count (Wang and Manning, equation 1)
    p, q = np.array([3, 2, 1, 3]) / 9, np.array([3, 2, 2, 1]) / 8
    assert contrast == pytest.approx(np.abs(np.log(p / q)))


def test_the_baseline_is_the_products_record_in_the_other_folds() -> None:
    item = pl.Series(["a", "a", "b", None, "a", "b"])
    refused = np.array([True, False, False, True, True, True])
    share = reviews._product_share(item, refused, np.array([0, 0, 1, 1, 2, 2]))
    # fold 0 learns: a 1 of 1, b 1 of 2, no product 1 of 1, all 3 of 4; fold 1: a 2 of 3, b 1 of 1, all 3 of 4;
    # fold 2: a 1 of 2, b 0 of 1, all 2 of 4
    assert share == pytest.approx([8.5 / 11, 8.5 / 11, 8.5 / 11, 7.5 / 10, 6 / 12, 5 / 11])


def test_the_surest_of_each_kind_are_shown() -> None:
    probability = np.array([0.6, 0.9, 0.99, 0.1, 0.01, 0.4, 0.3, 0.95])
    refused = np.array([True, True, True, False, False, False, True, False])
    texts = pl.DataFrame({"example_id": [str(i) for i in range(8)], "text": [""] * 8})
    pushes = sp.csr_matrix(np.tile([0.5, -2.0, 1.0], (8, 1)))
    config = reviews.Config(examples=1)
    shown = reviews._shown(texts, probability, refused, pushes, np.array(["so", "bad", "good"]), config)
    assert shown["example_id"].to_list() == ["2", "4", "7"]
    assert shown["forecast"].to_list() == pytest.approx([0.01, 0.99, 0.05])
    assert shown["happened"].to_list() == [False, True, True]
    assert shown["words"][0].to_list() == [
        {"word": "bad", "weight": 2.0},
        {"word": "good", "weight": -1.0},
        {"word": "so", "weight": -0.5},
    ]


def test_the_published_file_reads_as_examples(tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "row": [0, 1],
            "Clothing ID": [767, None],
            "Title": [None, 'So "lovely"'],
            "Review Text": ["Nice", None],
            "Recommended IND": [1, 0],
        }
    ).write_parquet(tmp_path / "reviews.parquet")
    examples = reviews.read(tmp_path / "reviews.parquet")
    check(examples, EXAMPLES, at="test")
    assert examples["label"].to_list() == ["recommended", "not recommended"]
    assert examples["columns"].to_list() == [
        '{"title": null, "item_id": "767"}',
        '{"title": "So \\"lovely\\"", "item_id": null}',
    ]
