import numpy as np
import polars as pl
import pytest
from sklearn.decomposition import PCA

from habitue.core.errors import UsageError
from habitue.prepare.reduce import Config, apply, fit


def cloud(n: int = 200) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    a = rng.normal(size=n)
    return pl.DataFrame({"a": a * 100, "b": a + rng.normal(0, 0.1, n), "c": rng.normal(size=n), "word": ["w"] * n})


def test_pca_is_scikit_learns_on_scaled_columns():
    rows = cloud()
    told = apply(fit(rows, Config(count=2)), rows)
    assert told.columns == ["word", "pc1", "pc2"]
    table = rows.drop("word").to_numpy()
    theirs = PCA(2).fit_transform((table - table.mean(axis=0)) / table.std(axis=0))
    for i, name in enumerate(("pc1", "pc2")):
        ours = told[name].to_numpy()
        assert abs(np.corrcoef(ours, theirs[:, i])[0, 1]) == pytest.approx(1.0, abs=1e-9)
        assert ours.std() == pytest.approx(theirs[:, i].std(), rel=1e-9)


def test_as_many_directions_as_hold_the_variance():
    assert len(fit(cloud(), Config(variance=0.6)).names) == 1
    assert len(fit(cloud(), Config(variance=0.95)).names) == 2
    assert len(fit(cloud(), Config(variance=1.0)).names) == 3
    assert apply(fit(cloud(), Config(keep=True, count=1)), cloud()).columns == ["a", "b", "c", "word", "pc1"]
    assert fit(cloud()).directions[np.abs(fit(cloud()).directions).argmax(axis=0), [0, 1]].min() > 0  # signs are fixed


def test_lda_sets_the_classes_apart():
    rng = np.random.default_rng(1)
    classes = np.repeat(["x", "y", "z"], 60)
    far = np.repeat([0.0, 4.0, 8.0], 60)
    rows = pl.DataFrame(
        {"noise": rng.normal(0, 50, 180), "signal": far + rng.normal(size=180), "more": rng.normal(size=180)}
    )
    state = fit(rows, Config("lda"), classes=classes)
    assert state.names == ("ld1", "ld2")
    told = apply(state, rows)["ld1"].to_numpy()
    means = np.array([told[classes == c].mean() for c in "xyz"])
    within = np.mean([told[classes == c].std() for c in "xyz"])
    assert abs(means[2] - means[0]) > 6 * within
    assert fit(rows, Config("lda", count=1), classes=classes).names == ("ld1",)


@pytest.mark.parametrize(
    ("rows", "classes", "config", "said"),
    [
        (
            pl.DataFrame({"a": [1.0, None], "b": [None, None]}, schema_overrides={"b": pl.Float64}),
            None,
            Config(),
            "column 'b' is unknown in 2 of 2 rows",
        ),
        (pl.DataFrame({"word": ["a", "b"]}), None, Config(), "0 columns of numbers in 2 rows"),
        (pl.DataFrame({"a": [1.0]}), None, Config(), "1 columns of numbers in 1 rows"),
        (pl.DataFrame({"a": [1.0, 2.0]}), None, Config("lda"), "no classes"),
        (pl.DataFrame({"a": [1.0, 2.0]}), [1, 1], Config("lda"), "1 class for 2 rows"),
        (pl.DataFrame({"a": [1.0, 2.0]}), [1], Config("lda"), "1 class for 2 rows"),
    ],
)
def test_what_has_no_direction(rows, classes, config, said):
    with pytest.raises(UsageError, match=f"prepare.reduce: {said}"):
        fit(rows, config, classes=classes)


def test_a_constant_table_has_one_direction_of_nothing():
    rows = pl.DataFrame({"a": [3.0] * 4, "b": [1.0] * 4})
    assert apply(fit(rows), rows)["pc1"].to_list() == [0.0] * 4


def test_a_gap_in_what_is_asked_is_said():
    state = fit(cloud())
    with pytest.raises(UsageError, match=r"column 'a' is unknown in 1 of 1 rows.*Fill unknown values first"):
        apply(state, pl.DataFrame({"a": [None], "b": [1.0], "c": [1.0]}, schema_overrides={"a": pl.Float64}))
