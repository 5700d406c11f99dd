"""Average precision of boxes, against cases worked by hand and a second way of counting."""

import numpy as np
import polars as pl
import pytest

from habitue.core.errors import SchemaError
from habitue.evaluate import detection


def boxes(*rows) -> pl.DataFrame:
    schema = ["picture", "kind", *detection.SIDES] + ["score"] * (len(rows[0]) == 7)
    return pl.DataFrame(list(rows), schema=schema, orient="row")


SHIRT = ("p1", "shirt", 0.0, 0.0, 0.5, 0.5)
TRUE = boxes(SHIRT, ("p2", "shirt", 0.5, 0.5, 1.0, 1.0))


def ap(true, said, **settings) -> float:
    return detection.average_precision(true, said, **settings)["ap"][0]


def test_a_case_worked_by_hand():
    """Right, wrong, right: precision 1 up to a recall of .5, 2/3 from there to 1; 51 and 50 of 101 levels."""
    said = boxes(
        ("p1", "shirt", 0.0, 0.0, 0.5, 0.5, 0.9),
        ("p1", "shirt", 0.6, 0.6, 0.9, 0.9, 0.8),
        ("p2", "shirt", 0.5, 0.5, 1.0, 1.0, 0.7),
    )
    assert ap(TRUE, said) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_true_box_is_taken_once():
    twice = boxes((*SHIRT, 0.9), (*SHIRT, 0.8))
    assert ap(boxes(SHIRT), twice) == 1.0, "the second is wrong, but comes after everything was found"
    assert ap(TRUE, twice) == pytest.approx(51 / 101)


@pytest.mark.parametrize(("right", "found"), [(0.26, 1.0), (0.24, 0.0)])
def test_half_must_be_shared(right, found):
    said = boxes(("p1", "shirt", 0.0, 0.0, right, 0.5, 0.9))
    assert ap(boxes(SHIRT), said) == found


def test_kinds_and_pictures_are_apart():
    elsewhere = boxes(("p2", "shirt", 0.0, 0.0, 0.5, 0.5, 0.9))
    other = boxes(("p1", "shoe", 0.0, 0.0, 0.5, 0.5, 0.9))
    assert ap(boxes(SHIRT), elsewhere) == ap(boxes(SHIRT), other) == 0.0
    told = detection.average_precision(boxes(SHIRT, ("p1", "hat", 0.5, 0.5, 1.0, 1.0)), boxes((*SHIRT, 0.9)))
    assert told.rows() == [("hat", 1, 0.0), ("shirt", 1, 1.0)]


def test_nothing_said_is_nothing_found():
    assert ap(TRUE, boxes((*SHIRT, 0.9)).clear()) == 0.0


def plain(hits: list[bool], positives: int) -> float:
    """The definition, level by level."""
    points = [(sum(hits[: n + 1]) / positives, sum(hits[: n + 1]) / (n + 1)) for n in range(len(hits))]
    return float(
        np.mean([max((p for r, p in points if r >= level - 1e-12), default=0.0) for level in detection.RECALLS])
    )


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_the_definition_says(seed):
    rng = np.random.default_rng(seed)
    hits = (rng.random(30) < 0.5).tolist()
    true = boxes(*[(f"p{n}", "k", 0.0, 0.0, 1.0, 1.0) for n in range(30)])
    said = boxes(*[(f"p{n}", "k", 0.0 if hit else 0.9, 0.0, 1.0, 1.0, 1 - n / 100) for n, hit in enumerate(hits)])
    assert ap(true, said) == pytest.approx(plain(hits, 30))
    weighed = detection.mean_average_precision(true, said, [f"p{n}" for n in range(30)])
    often = rng.integers(0, 3, (2, 30)).astype(float)
    for n, times in enumerate(often):
        again = [hit for hit, t in zip(hits, times, strict=True) for _ in range(int(t))]
        assert weighed(often)[n] == pytest.approx(plain(again, int(times.sum())), abs=0.02), "copies of one box tie"
    assert weighed(np.ones((1, 30)))[0] == pytest.approx(plain(hits, 30))


def test_a_missing_column_is_named():
    with pytest.raises(SchemaError, match="`said` has no column 'score'"):
        detection.average_precision(TRUE, TRUE)
