"""Invented rows of rare classes, for the rows of training alone, and a check of how true and how private they are.

mixture      of each class: numbers and categories become normal scores by their own distribution, a mixture of normals
             is fitted to the scores, and drawn scores go back through the same distributions (Nelsen 2006, section 2.9;
             ties as in Rueschendorf 2009, "the distributional transform")
neighbours   a row between a row and one of its five nearest of the same class (Chawla et al. 2002, "SMOTE")

    more, labels = balanced(rows, classes, Config())            train a model on these
    check(train, made, held)                                    can they be told from real ones, do they copy real ones?

Numbers are Float64 (NaN = unknown), categories String (null = unknown). Forecasts of a model that learnt from such rows
must be calibrated on real ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import ndtr, ndtri

from habitue.core import metrics
from habitue.core.errors import SettingsError, UsageError, did_you_mean
from habitue.core.metrics import Floats

METHODS = ("mixture", "neighbours")
NEAREST = 5
FEWEST = 2  # rows of a class from which others can be invented
ROWS_A_PART = 10  # of a class, for each column, for each normal of its mixture
SPREAD = 1e-2  # added to every variance, so that few rows do not collapse on a line


@dataclass(frozen=True)
class Config:
    """Which rows are invented, and how many. Raises SettingsError for settings that make no sense."""

    method: str = "mixture"
    share: float = 1.0  # rows of the rarest class over rows of the commonest afterwards: 1 = level
    parts: int = 4  # normals in a mixture, at most
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a method that is not there and shares that change nothing."""
        if self.method not in METHODS or not 0 < self.share <= 1 or self.parts < 1:
            wrong = self.method not in METHODS
            raise SettingsError(
                "prepare.generate",
                found=f"there is no method '{self.method}'" if wrong else f"share {self.share:g}, parts {self.parts}",
                consequence="No row could be invented",
                remedy=did_you_mean(self.method, METHODS)
                if wrong
                else "Give a share above 0, up to 1, and parts from 1",
            )


@dataclass(frozen=True)
class Check:
    """How true and how private invented rows are."""

    told_apart: float  # AUC of a model that tells them from real rows it did not see: .5 = it cannot, 1 = always
    distance: float  # median distance to the nearest row they were made from
    distance_of_real: float  # the same of real rows that were held back
    too_near: float  # share nearer than 19 of 20 held-back real rows are: .05 = as private as a stranger
    copies: float  # share that equal a row they were made from in every column


def balanced(
    rows: pl.DataFrame, classes: npt.ArrayLike, config: Config | None = None
) -> tuple[pl.DataFrame, npt.NDArray[np.generic]]:
    """Return the rows of training with invented ones of the rare classes below them, and the classes of both.

    A class of fewer than FEWEST rows stays as it is. O(rows x columns^2). Raises UsageError when there is no row.
    """
    config, told = config or Config(), np.asarray(classes)
    if not told.size or rows.width == 0:
        raise UsageError(
            "prepare.generate",
            found=f"there are {told.size} rows of {rows.width} columns",
            consequence="Nothing can be learnt of what a row looks like",
            remedy="Give the rows of training with their numbers and categories",
        )
    rng = np.random.default_rng(config.seed)
    labels, count = np.unique(told, return_counts=True)
    frames, names = [rows], [told]
    for label, have in zip(labels, count, strict=True):
        want = round(config.share * int(count.max())) - int(have)
        if want > 0 and have >= FEWEST:
            frames.append(draw(rows.filter(pl.Series(told == label)), want, config, rng))
            names.append(np.full(want, label, dtype=told.dtype))
    return pl.concat(frames), np.concatenate(names)


def draw(rows: pl.DataFrame, count: int, config: Config, rng: np.random.Generator) -> pl.DataFrame:
    """Return `count` invented rows like `rows`, which are of one class."""
    if config.method == "neighbours":
        return _between(rows, count, rng)
    from sklearn.mixture import GaussianMixture

    margins = [_Margin.of(column) for column in rows]
    scores = np.column_stack([m.scores(column, rng) for m, column in zip(margins, rows, strict=True)])
    parts = int(np.clip(rows.height // (ROWS_A_PART * rows.width), 1, config.parts))
    seed = int(rng.integers(2**31))
    mixture = GaussianMixture(parts, reg_covar=SPREAD, random_state=seed).fit(scores)
    which = rng.choice(parts, count, p=mixture.weights_)
    roots = np.linalg.cholesky(mixture.covariances_)
    drawn = mixture.means_[which] + np.einsum("nij,nj->ni", roots[which], rng.standard_normal((count, rows.width)))
    return pl.DataFrame([m.values(drawn[:, n]) for n, m in enumerate(margins)])


def check(train: pl.DataFrame, made: pl.DataFrame, held: pl.DataFrame, *, seed: int = 0) -> Check:
    """Compare invented rows with real rows of the same class: `train` they were made from, `held` was kept back.

    `told_apart`: the classifier two-sample test (Lopez-Paz and Oquab, ICLR 2017), by a forest in five folds, as many
    rows of each. Distances: numbers in standard deviations, a different category counts 1. O(rows^2 x columns).
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_predict

    rng = np.random.default_rng(seed)
    size = min(made.height, held.height)
    some, real = (frame[np.sort(rng.permutation(frame.height)[:size])] for frame in (made, held))
    space = _Space.of(train)
    both, kind = np.vstack([space.place(some), space.place(real)]), np.repeat([1, 0], size)
    forest = RandomForestClassifier(100, min_samples_leaf=3, random_state=seed)
    said = cross_val_predict(forest, both, kind, cv=5, method="predict_proba")[:, 1]
    away, usual = (space.nearest(space.place(frame), space.place(train))[0] for frame in (some, real))
    return Check(
        told_apart=float(metrics.auc(kind, said)),
        distance=float(np.median(away)),
        distance_of_real=float(np.median(usual)),
        too_near=float((away < np.quantile(usual, 0.05)).mean()),
        copies=float((away < 1e-9).mean()),
    )


@dataclass(frozen=True)
class _Margin:
    """How one column is distributed: its levels ascending, the unknown first, and the share up to each."""

    name: str
    dtype: pl.DataType
    levels: tuple[float | str | None, ...]
    below: Floats  # [L] share of rows under each level
    upto: Floats  # [L]
    whole: bool  # numbers without a fraction
    rows: int

    @classmethod
    def of(cls, column: pl.Series) -> _Margin:
        counted = _known(column).alias("level").value_counts(name="rows").sort("level", nulls_last=False)
        upto = np.cumsum(counted["rows"].to_numpy()) / column.len()
        levels = tuple(counted["level"].to_list())
        numbers = [v for v in levels if isinstance(v, float)]
        whole = column.dtype == pl.Float64 and all(v == round(v) for v in numbers)
        return cls(column.name, column.dtype, levels, np.concatenate([[0.0], upto[:-1]]), upto, whole, column.len())

    def scores(self, column: pl.Series, rng: np.random.Generator) -> Floats:
        """Return normal scores; a level that several rows share is spread over its part."""
        place = {level: n for n, level in enumerate(self.levels)}
        at = np.array([place[v] for v in _known(column)])
        share = self.below[at] + (self.upto - self.below)[at] * rng.random(at.size)
        return np.asarray(ndtri(share.clip(1e-6, 1 - 1e-6)))

    def values(self, scores: Floats) -> pl.Series:
        """Return the column of these scores; between two neighbouring numbers that occur once, any number may come."""
        share = ndtr(scores)
        at = np.searchsorted(self.upto, share).clip(0, len(self.levels) - 1)
        if self.dtype != pl.Float64:
            return pl.Series(self.name, [self.levels[n] for n in at], dtype=self.dtype)
        numbers = np.array([np.nan if level is None else level for level in self.levels], dtype=np.float64)
        told, wide = numbers[at], self.upto - self.below
        after = np.minimum(at + 1, numbers.size - 1)
        single = wide < 1.5 / self.rows
        free = single[at] & single[after] & np.isfinite(told)
        inside = (share - self.below[at]) / wide[at]
        told = np.where(free, told + inside * (numbers[after] - told), told)
        return pl.Series(self.name, np.rint(told) if self.whole else told, dtype=pl.Float64)


def _known(column: pl.Series) -> pl.Series:
    """Return the column with null where a number is not finite."""
    return column.set(~column.is_finite(), None) if column.dtype == pl.Float64 else column


@dataclass(frozen=True)
class _Space:
    """Where rows lie: numbers in standard deviations (unknown = the mean), a column a level for categories."""

    numbers: dict[str, tuple[float, float]]
    categories: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, rows: pl.DataFrame) -> _Space:
        numbers, categories = {}, {}
        for column in rows:
            if column.dtype == pl.Float64:
                known = column.to_numpy()[np.isfinite(column.to_numpy())]
                numbers[column.name] = (float(known.mean()), float(known.std()) or 1.0) if known.size else (0.0, 1.0)
            else:
                categories[column.name] = tuple(sorted(column.drop_nulls().unique().to_list()))
        return cls(numbers, categories)

    def place(self, rows: pl.DataFrame) -> Floats:
        parts: list[Floats] = []
        for name, (mean, deviation) in self.numbers.items():
            parts.append(np.nan_to_num((rows[name].to_numpy() - mean) / deviation)[:, None])
        for name, levels in self.categories.items():
            parts.append((rows[name].to_numpy()[:, None] == np.array(levels, dtype=object)) / np.sqrt(2))
        return np.hstack(parts)

    @staticmethod
    def nearest(asked: Floats, known: Floats, most: int = 1) -> tuple[Floats, npt.NDArray[np.intp]]:
        """Return distance and place of the nearest row, or distances and places [N, most]."""
        from sklearn.neighbors import NearestNeighbors

        far, place = NearestNeighbors(n_neighbors=min(most, len(known))).fit(known).kneighbors(asked)
        return (far[:, 0], place[:, 0]) if most == 1 else (far, place)


def _between(rows: pl.DataFrame, count: int, rng: np.random.Generator) -> pl.DataFrame:
    """Return rows on the way from a row to a near one; each category is that of one of the two."""
    space = _Space.of(rows)
    at = space.place(rows)
    _, near = space.nearest(at, at, NEAREST + 1)
    one = rng.integers(rows.height, size=count)
    other = near[one, rng.integers(1, near.shape[1], size=count)]
    share = rng.random(count)
    columns = []
    for column in rows:
        left, right = column.to_numpy()[one], column.to_numpy()[other]
        if column.dtype == pl.Float64:
            between = left + share * (right - left)
            columns.append(pl.Series(column.name, np.where(np.isfinite(between), between, left), dtype=pl.Float64))
        else:
            columns.append(pl.Series(column.name, np.where(share < 0.5, left, right), dtype=column.dtype))
    return pl.DataFrame(columns)
