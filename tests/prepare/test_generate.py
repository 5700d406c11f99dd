"""Invented rows: like the class they are of, no copies of it, and a check that sees both."""

import numpy as np
import polars as pl
import pytest

from habitue.core.errors import SettingsError, UsageError
from habitue.prepare import generate, recipe
from habitue.prepare.generate import Config


def real(count: int, seed: int, *, rare: bool = True) -> pl.DataFrame:
    """Two numbers that go together, one with many zeros, a whole one, and a category that goes with the first."""
    rng = np.random.default_rng(seed)
    one = rng.normal(3.0 if rare else 0.0, 1.0, count)
    spent = np.where(rng.random(count) < 0.4, 0.0, np.exp(one / 2 + rng.normal(0, 0.2, count)))
    return pl.DataFrame(
        {
            "one": one,
            "two": 2 * one + rng.normal(0, 0.5, count),
            "spent": spent,
            "pages": rng.poisson(3, count).astype(float),
            "from": np.where(one + rng.normal(0, 0.3, count) > 3, "mail", "search"),
        }
    )


def table(seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    return pl.concat([real(400, seed, rare=False), real(80, seed + 1)]), np.repeat([0, 1], [400, 80])


@pytest.mark.parametrize("method", generate.METHODS)
def test_rare_classes_are_filled_up_and_real_rows_stay_first(method):
    rows, classes = table()
    more, labels = generate.balanced(rows, classes, Config(method=method))
    assert more.head(480).equals(rows) and (labels[:480] == classes).all()
    assert np.bincount(labels).tolist() == [400, 400] and more.schema == rows.schema
    half, told = generate.balanced(rows, classes, Config(method=method, share=0.5))
    assert np.bincount(told).tolist() == [400, 200] and half.height == 600
    again, _ = generate.balanced(rows, classes, Config(method=method))
    other, _ = generate.balanced(rows, classes, Config(method=method, seed=1))
    assert again.equals(more) and not other.equals(more)


def test_a_mixture_keeps_what_columns_look_like_and_how_they_go_together():
    rows = real(600, 3)
    made = generate.draw(rows, 4000, Config(), np.random.default_rng(0))
    assert made["one"].mean() == pytest.approx(rows["one"].mean(), abs=0.1)
    assert made["one"].std() == pytest.approx(rows["one"].std(), rel=0.1)
    assert np.corrcoef(made["one"], made["two"])[0, 1] > 0.9
    assert (made["spent"] == 0).mean() == pytest.approx((rows["spent"] == 0).mean(), abs=0.05)
    assert set(made["from"]) == {"mail", "search"}
    mail, search = (made.filter(pl.col("from") == name)["one"].mean() for name in ("mail", "search"))
    assert mail - search > 1, "the category still goes with the number"
    assert (made["pages"] == made["pages"].round()).all() and made["pages"].min() >= 0
    assert made["one"].is_in(rows["one"].to_list()).mean() < 0.01, "numbers that occur once are not handed out again"
    assert made["one"].min() >= rows["one"].min() and made["one"].max() <= rows["one"].max()


def test_unknown_values_stay_as_frequent_as_they_were():
    rows = real(500, 4).with_columns(
        one=pl.when(pl.int_range(500) % 5 == 0)
        .then(pl.when(pl.int_range(500) % 2 == 0).then(float("nan")).otherwise(float("inf")))
        .otherwise(pl.col("one")),
    )
    rows = rows.with_columns(pl.when(pl.int_range(500) % 4 == 0).then(None).otherwise(pl.col("from")).alias("from"))
    made = generate.draw(rows, 3000, Config(), np.random.default_rng(0))
    assert made["one"].is_nan().mean() == pytest.approx(0.2, abs=0.04)
    assert made["from"].is_null().mean() == pytest.approx(0.25, abs=0.04)


def test_neighbours_lie_between_rows_of_their_class():
    rows = pl.DataFrame({"x": [0.0, 1.0, 10.0, 11.0], "y": [0.0, 0.0, 5.0, 5.0], "k": ["a", "a", "b", "b"]})
    made = generate.draw(rows, 300, Config(method="neighbours"), np.random.default_rng(0))
    assert set(made["k"]) <= {"a", "b"} and made["x"].min() >= 0 and made["x"].max() <= 11
    line = made["y"].to_numpy() == 0
    assert (made["x"].to_numpy()[line] <= 1).all() and line.any()
    gap = rows.with_columns(x=pl.Series([float("nan"), 1.0, 10.0, 11.0]))
    assert generate.draw(gap, 50, Config(method="neighbours"), np.random.default_rng(0)).height == 50


def test_the_check_tells_good_rows_from_copies_and_from_nonsense():
    train, held = real(400, 5), real(400, 6)
    made = generate.draw(train, 400, Config(), np.random.default_rng(0))
    good = generate.check(train, made, held)
    assert good.told_apart < 0.7 and good.copies == 0 and good.too_near < 0.12
    assert good.distance == pytest.approx(good.distance_of_real, rel=0.35)
    copied = generate.check(train, train, held)
    assert copied.copies == 1 and copied.too_near == 1 and copied.distance == 0 < copied.distance_of_real
    nonsense = train.with_columns(pl.col("two").shuffle(seed=0))
    assert generate.check(train, nonsense, held).told_apart > 0.75
    fresh = generate.check(train, real(400, 7), held)
    assert 0.4 < fresh.told_apart < 0.6 and fresh.too_near == pytest.approx(0.05, abs=0.04)


def test_a_class_of_one_row_stays_alone_and_level_ones_as_they_are():
    rows, classes = real(21, 0), np.array(["a"] * 10 + ["b"] * 10 + ["c"])
    more, labels = generate.balanced(rows, classes)
    assert more.equals(rows) and labels.tolist() == classes.tolist()


def test_what_cannot_be_asked_is_said():
    with pytest.raises(SettingsError, match="there is no method 'mixtur'.*Did you mean 'mixture'"):
        Config(method="mixtur")
    with pytest.raises(SettingsError, match="share 2, parts 4"):
        Config(share=2.0)
    with pytest.raises(UsageError, match="there are 0 rows of 5 columns"):
        generate.balanced(real(0, 0), np.zeros(0))


def test_it_is_a_preparation_of_its_own_and_off_unless_asked():
    rows, classes = table()
    asked = recipe.parse("scale=standard,generate=mixture")
    state = recipe.fit(rows, asked, classes=classes)
    more, labels = recipe.invented(state, recipe.apply(state, rows), classes)
    assert more.height == labels.size == 800
    assert recipe.apply(state, rows).height == 480, "rows that are answered are never invented"
    plain = recipe.fit(rows, recipe.parse("scale=standard"), classes=classes)
    assert recipe.invented(plain, rows, classes) is None


def test_what_its_page_says_was_measured():
    import json
    from pathlib import Path

    root = Path(__file__).parents[2]
    page = (root / "docs/prepare.md").read_text(encoding="utf-8")
    told = json.loads((root / "benchmarks/quality/generated-online-shoppers.json").read_text(encoding="utf-8"))
    for slice_ in ("15 % buy", "1.8 % buy"):
        for model in ("linear", "boosting"):
            start = f"| {slice_.removesuffix(' buy')} | {model} |"
            (line,) = [line for line in page.splitlines() if line.startswith(start)]
            cells = [cell.strip() for cell in line.split("|")[3:6]]
            for cell, way in zip(cells, ("repeated", "neighbours", "mixture"), strict=True):
                (gap,) = [
                    g
                    for g in told["differences"]
                    if (g["slice"], g["model"], g["metric"]) == (slice_, f"{model}, {way}", "auc")
                ]
                assert cell.strip("*").replace("−", "-") == f"{gap['mean']:+.4f}"
                assert cell.startswith("**") == (gap["low"] > 0 or gap["high"] < 0)
    check = told["check"]
    assert f"AUC {check['mixture']['told_apart']:.2f}".replace("0.", ".") in page
    assert f"neighbours {check['neighbours']['too_near']:.2f} do".replace("0.", ".") in page
