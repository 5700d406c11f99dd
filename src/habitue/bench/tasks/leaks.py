"""A column that is the answer, and a pipeline that lets it through: both are looked for before anything is believed.

`columns` looks at every column alone. `shuffled` runs the real preparation and models on mixed labels: what is better
than chance then came by a way that labels should not have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from habitue.bench.tasks.folds import Fold
from habitue.bench.tasks.preparing import Prepared
from habitue.bench.tasks.reading import Columns, Data
from habitue.core import metrics
from habitue.core.errors import LeakageError
from habitue.core.metrics import Floats
from habitue.core.runtime import Runtime
from habitue.model.tabular import Clock, Target, deal, linear, narrow, tree
from habitue.prepare.recipe import Recipe

CERTAIN = 0.995  # AUC, share of hits, or R2 on held-out rows from which a column alone knows too much
LEAVES = 32  # of the tree that reads one column; a class more than that gets leaves of its own
FEW = 20  # rows below which no column alone can be judged
MIXED_ROWS = 1000  # rows the permutation check learns from: mixed labels are slow to fit
ASKED_ROWS = 4000
MIXED_TIMES = 3
DEVIATIONS = 4.5  # standard errors above chance before the check calls it a leak: 3 of a million honest runs
METRIC = {"binary": "AUC", "classes": "accuracy", "number": "a correlation of"}


@dataclass(frozen=True)
class Leak:
    """One column and what it gives away."""

    column: str
    sentence: str


@dataclass(frozen=True)
class Chance:
    """What models reached on mixed labels, and what chance allows."""

    metric: str
    scores: tuple[tuple[str, float], ...]
    expected: float
    allowed: float


def columns(data: Data, asked: Columns, *, seed: int) -> list[Leak]:
    """Return the columns that alone give the label away, with what was found.

    A column that says the same as the label, one whose values stand one to one for labels, and one from which a small
    tree answers held-out rows almost without a mistake. O(columns x rows log rows).
    """
    truth = data.raw[asked.label].cast(pl.String)
    found = []
    used = {asked.label, *asked.drop, *asked.pictures, *asked.sounds, asked.group}
    for name in data.raw.columns:
        if name in used or data.raw.schema[name].is_nested() or data.raw.schema[name] == pl.Binary:
            continue
        sentence = _the_same(data.raw[name], truth) or _alone(data, name, seed)
        if sentence:
            found.append(Leak(name, sentence))
    return found


def refuse(leaks: list[Leak]) -> None:
    """Raise LeakageError naming the columns when there are any."""
    if not leaks:
        return
    drops = " ".join(f"--drop '{leak.column}'" for leak in leaks)
    raise LeakageError(
        "leak check",
        found="; ".join(f"column '{leak.column}' {leak.sentence}" for leak in leaks),
        consequence="Every number would be that of the column, and none would hold when the answer is not known yet",
        remedy=f"Leave it out with {drops}, or say --keep-leaks when it is known in time",
    )


def shuffled(data: Data, fold: Fold, *, runtime: Runtime, recipe: Recipe | None = None) -> Chance:
    """Fit `linear` and `tree` on labels mixed over all rows of a fold and judge them on its held-out rows.

    Mixed labels have nothing to do with the columns, so whoever is better than chance read them elsewhere. Raises
    LeakageError when the mean over MIXED_TIMES mixes is further above chance than DEVIATIONS of its standard errors.
    """
    rng = np.random.default_rng(runtime.seed)
    learn = rng.permutation(fold.learn)[:MIXED_ROWS]
    held = rng.permutation(fold.held)[:ASKED_ROWS]
    table, asked = data.table.take(learn), data.table.take(held)
    reached: dict[str, list[float]] = {"linear": [], "tree": []}
    allowed = []
    for i in range(MIXED_TIMES):
        mixed = data.target.take(rng.permutation(np.r_[learn, held]))
        taught, true = mixed.take(np.arange(learn.size)), mixed.take(np.arange(learn.size, mixed.values.size))
        if np.unique(taught.values).size < 2:
            continue  # so few rows that a mix left one label to learn: it shows nothing
        allowed.append(_chance(true))
        one = replace(runtime, seed=runtime.seed + i)
        for name, file in (("linear", linear), ("tree", tree)):
            model: Any = file if recipe is None else Prepared(file, recipe)
            state = model.fit(table, taught, model.Config(), runtime=one, clock=Clock())
            reached[name].append(_score(model.answer(state, asked), true))
    metric, chance = METRIC[data.target.kind], float(np.mean([c for c, _ in allowed]))
    room = DEVIATIONS * float(np.sqrt(np.mean([d**2 for _, d in allowed]) / len(allowed)))
    scores = tuple((name, float(np.mean(values))) for name, values in reached.items())
    name, worst = max(scores, key=lambda pair: pair[1])
    if worst - chance > room:
        raise LeakageError(
            "permutation check",
            found=f"with labels mixed over all rows '{name}' still reaches {metric} {worst:.3f} where chance gives "
            f"{chance:.3f}, give or take {room:.3f}",
            consequence="Its answers do not come by way of training, so no number here can be believed",
            remedy="Look for code that reads held-out labels: a mistake of the program, or of a model of your own",
        )
    return Chance(metric, scores, chance, room)


def _the_same(values: pl.Series, truth: pl.Series) -> str | None:
    """Say whether a column is the label, or stands one to one for it."""
    text = values.cast(pl.String)
    both = pl.DataFrame({"value": text, "truth": truth}).drop_nulls()
    if both.height < max(2, 0.5 * len(truth)):
        return None
    if both.height == len(truth) and bool((both["value"] == both["truth"]).all()):
        return "equals the label in every row"
    pairs = both.unique()
    different = both["truth"].n_unique()
    one_to_one = pairs.height == different == both["value"].n_unique()
    if one_to_one and 1 < different <= both.height / 2:
        return "stands for the label: each of its values goes with one label and back"
    return None


def _alone(data: Data, name: str, seed: int) -> str | None:
    """Say whether a small tree on the parts of this column alone answers held-out rows almost without a mistake."""
    parts = [c for c in data.table.frame.columns if c == name or c.startswith(f"{name} (")]
    if not parts or data.target.values.size < FEW:
        return None
    fold = deal(data.target, 3, seed=seed, group=data.table.group)
    rest, held = np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)
    if data.target.kind != "number" and min(np.unique(data.target.values[r]).size for r in (rest, held)) < 2:
        return None
    table = replace(data.table, frame=data.table.frame.select(parts), texts={}, vectors={})
    prepared, rows = narrow.fit(table.take(rest), data.target.take(rest), runtime=Runtime(seed=seed))
    kind = DecisionTreeRegressor if data.target.kind == "number" else DecisionTreeClassifier
    leaves = max(LEAVES, 2 * len(data.target.classes))
    model = kind(max_leaf_nodes=leaves, min_samples_leaf=2, random_state=seed).fit(rows, data.target.values[rest])
    truth, asked = data.target.values[held], narrow.design(prepared, table.take(held))
    if data.target.kind == "number":
        numbers = [table.frame[c].to_numpy()[held] for c in parts if table.frame.schema[c] == pl.Float64]
        return _explained(truth, np.asarray(model.predict(asked)), numbers)
    if data.target.kind == "binary":
        area = float(metrics.auc(truth, model.predict_proba(asked)[:, 1]))
        return f"alone tells the label with an AUC of {area:.4f}" if area >= CERTAIN else None
    right = float(np.mean(model.predict(asked) == truth))
    usual = float(np.bincount(truth.astype(np.int64)).max() / truth.size)
    if right >= CERTAIN and 1 - right <= (1 - usual) / 10:
        return f"alone tells the class of {100 * right:.1f} % of the rows"
    return None


def _explained(truth: Floats, said: Floats, values: list[Floats]) -> str | None:
    """Say whether a tree's answers or a straight line through `values` explain almost all of a number."""
    if np.ptp(truth) == 0:
        return None
    best = float(metrics.r2(truth, said))
    for x in values:
        known = np.isfinite(x)
        if known.mean() > 0.5 and np.ptp(x[known]) > 0 and np.ptp(truth[known]) > 0:
            best = max(best, float(np.corrcoef(x[known], truth[known])[0, 1] ** 2))
    return f"alone explains {100 * best:.2f} % of the label's variance" if best >= CERTAIN else None


def _chance(true: Target) -> tuple[float, float]:
    """Return what chance gives on these labels, and its standard deviation."""
    n = true.values.size
    if true.kind == "binary":
        yes = float(true.values.sum())
        both = yes * (n - yes)
        return 0.5, float(np.sqrt((n + 1) / (12 * both))) if both else 0.5  # Mann and Whitney 1947
    if true.kind == "classes":
        usual = float(np.bincount(true.values.astype(np.int64)).max() / n)  # no constant answer is right more often
        return usual, float(np.sqrt(usual * (1 - usual) / n)) + 1 / n
    return 0.0, float(1 / np.sqrt(max(n - 1, 1)))


def _score(answer: Floats, true: Target) -> float:
    if true.kind == "binary":
        return float(metrics.auc(true.values, answer[:, 1])) if np.unique(true.values).size == 2 else 0.5
    if true.kind == "classes":
        return float(np.mean(answer.argmax(axis=1) == true.values))
    if np.ptp(answer) == 0 or np.ptp(true.values) == 0:
        return 0.0
    return float(np.corrcoef(answer, true.values)[0, 1])
