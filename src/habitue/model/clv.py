"""How often a customer still buys and how much each time: BG/NBD and Gamma-Gamma by maximum likelihood.

BG/NBD (Fader, Hardie & Lee, "Counting your customers the easy way", Marketing Science 2005): while a customer is one,
orders come at random with rate L ~ Gamma(r, alpha); after each order the customer leaves with probability
p ~ Beta(a, b). Gamma-Gamma (Fader, Hardie & Lee, "RFM and CLV", JMR 2005, and Fader & Hardie's 2013 note): the money of
an order ~ Gamma(p, v) with v ~ Gamma(q, gamma). The two are taken to be independent.

A customer is four numbers: x repeat orders, the age t_x of the customer at the last of them, the age T at `as_of`
(weeks), and the mean money of an order. Orders of one day count as one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.optimize import minimize
from scipy.special import betaln, digamma, gammaln, hyp2f1
from scipy.stats import nbinom

from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.core.settings import check_range
from habitue.model.past import PURCHASE, REFUND, Past

ANSWERS = frozenset({"churn", "value"})
WEEK = 7.0

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Config:
    """Settings."""

    ridge: float = 1e-3  # pull of the log-parameters towards 0, times their squares: keeps a tiny shop finite
    least_customers: int = 10

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing here. Raises SettingsError."""
        check_range(self, positive=("least_customers",), not_negative=("ridge",))


@dataclass(frozen=True)
class State:
    """Eight numbers."""

    orders: Doubles  # [4] r, alpha (weeks), a, b
    money: Doubles  # [3] p, q, gamma (money)
    kept: float  # net money / money of purchases: what refunds leave
    first_day: float  # first purchase of the record, days since 1970-01-01 UTC
    horizon_days: int


@dataclass(frozen=True)
class Customers:
    """What the formulas read, one entry a customer, weeks and money."""

    repeats: Doubles  # x
    recency: Doubles  # t_x, weeks from the first order to the last
    age: Doubles  # T, weeks from the first order to `as_of`
    orders: Doubles  # x + 1; 0 without an order
    spend: Doubles  # mean money of an order; 0 without an order


def fit(past: Past, config: Config, *, runtime: Runtime) -> State:  # noqa: ARG001  nothing random
    """Fit both models on the known customers with an order; under a second. Raises ModelError for too few."""
    histories = past.histories
    bought = histories.of_kind(PURCHASE)
    first_day = float(bought.set_at.min(initial=past.day))
    every = customers(past, first_day=first_day)
    of = (every.orders > 0) & past.known
    if of.sum() < config.least_customers:
        raise ModelError(
            "model.clv",
            found=f"{of.sum():,} known customers have an order",
            consequence="Seven parameters cannot be learnt from them",
            remedy=f"Import more orders, or lower 'least_customers' of model.clv (now {config.least_customers})",
        )
    purchased, refunded = (float(histories.of_kind(k).row_value.sum(dtype=np.float64)) for k in (PURCHASE, REFUND))
    paid = of & (every.spend > 0)
    return State(
        orders=fit_orders(every.repeats[of], every.recency[of], every.age[of], ridge=config.ridge),
        money=fit_money(every.orders[paid], every.spend[paid], ridge=config.ridge),
        kept=max(1 + refunded / purchased, 0.0) if purchased > 0 else 1.0,
        first_day=first_day,
        horizon_days=past.horizon_days,
    )


def predict(state: State, past: Past) -> pl.DataFrame:
    """Return user_key, churn (probability of no order in the horizon), value (expected net money); one row a user.

    A user without a purchase is taken for one whose only order lies just before the record begins.
    """
    of = customers(past, first_day=state.first_day)
    weeks = state.horizon_days / WEEK
    value = expected_orders(state.orders, of, weeks) * expected_spend(state.money, of) * state.kept
    return pl.DataFrame(
        {"user_key": past.histories.user_keys, "churn": no_order(state.orders, of, weeks), "value": value}
    )


def customers(past: Past, *, first_day: float) -> Customers:
    """Sum up each user's purchases; `first_day` stands in for the first order of a user without one. O(rows)."""
    bought = past.histories.of_kind(PURCHASE)
    n_users = len(bought.user_keys)
    money = np.bincount(bought.row_set, weights=bought.row_value, minlength=len(bought.set_at))
    owner = bought.set_user
    # Whole days back from `as_of`, so that two orders of a day are one and midnight is the shop's own.
    ago = np.floor(past.day - bought.set_at)
    new_day = np.r_[True, (owner[1:] != owner[:-1]) | (ago[1:] != ago[:-1])] if len(ago) else np.zeros(0, dtype=bool)
    orders = np.bincount(owner[new_day], minlength=n_users).astype(np.float64)
    total = np.bincount(owner, weights=money, minlength=n_users)
    oldest = np.full(n_users, max(past.day - first_day, 0.0))
    latest = oldest.copy()
    has = np.diff(bought.set_start) > 0
    oldest[has] = ago[bought.set_start[:-1][has]]
    latest[has] = ago[bought.set_start[1:][has] - 1]
    return Customers(
        repeats=np.maximum(orders - 1, 0),
        recency=(oldest - latest) / WEEK,
        age=oldest / WEEK,
        orders=orders,
        spend=np.divide(total, orders, out=np.zeros(n_users), where=orders > 0),
    )


# --- BG/NBD ---------------------------------------------------------------------------------------------------------


def fit_orders(repeats: Doubles, recency: Doubles, age: Doubles, *, ridge: float = 0.0) -> Doubles:
    """Return r, alpha, a, b of greatest likelihood (eq. 6); the unit of alpha is that of `recency` and `age`."""
    scale = float(age.mean()) or 1.0  # the search is easiest where times are near 1

    def loss(logs: Doubles) -> tuple[float, Doubles]:
        value, slope = orders_likelihood(np.exp(logs), repeats, recency / scale, age / scale)
        return _penalised(logs, value / len(repeats), slope / len(repeats), ridge)

    r, alpha, a, b = _search(loss, 4)
    return np.array([r, alpha * scale, a, b])


def orders_likelihood(parameters: Doubles, repeats: Doubles, recency: Doubles, age: Doubles) -> tuple[float, Doubles]:
    """Return the log-likelihood of BG/NBD (eq. 6) and its slope along r, alpha, a, b.

    Per customer B(a, b + x) / B(a, b) x Gamma(r + x) alpha^r / Gamma(r) x (A + [x > 0] a / (b + x - 1) D) with
    A = (alpha + T)^-(r + x), D = (alpha + t_x)^-(r + x); the sum in brackets is taken in logs.
    """
    r, alpha, a, b = parameters
    x, bought = repeats, repeats > 0
    before = np.where(bought, b + x - 1, 1.0)
    alive = -(r + x) * np.log(alpha + age)
    with np.errstate(divide="ignore"):
        left = np.where(bought, np.log(a) - np.log(before) - (r + x) * np.log(alpha + recency), -np.inf)
    either = np.logaddexp(alive, left)
    total = (
        gammaln(r + x) - gammaln(r) + r * np.log(alpha)
        + gammaln(a + b) + gammaln(b + x) - gammaln(b) - gammaln(a + b + x) + either
    )  # fmt: skip
    dead = np.exp(left - either)  # P(left | data)
    slope = np.array(
        [
            (
                digamma(r + x) - digamma(r) + np.log(alpha)
                - (1 - dead) * np.log(alpha + age) - dead * np.log(alpha + recency)
            ).sum(),
            (r / alpha - (1 - dead) * (r + x) / (alpha + age) - dead * (r + x) / (alpha + recency)).sum(),
            (digamma(a + b) - digamma(a + b + x) + dead / a).sum(),
            (digamma(a + b) + digamma(b + x) - digamma(b) - digamma(a + b + x) - dead / before).sum(),
        ]
    )  # fmt: skip
    return float(total.sum()), slope


def alive(parameters: Doubles, of: Customers) -> Doubles:
    """Return P(still a customer at `as_of` | x, t_x, T) (Fader & Hardie's note of 2008 on P(alive))."""
    r, alpha, a, b = parameters
    x = of.repeats
    odds = a / np.where(x > 0, b + x - 1, 1.0) * ((alpha + of.age) / (alpha + of.recency)) ** (r + x)
    share: Doubles = np.where(x > 0, 1 / (1 + odds), 1.0)
    return share


def no_order(parameters: Doubles, of: Customers, weeks: float) -> Doubles:
    """Return P(no order in the next `weeks`): left already, or still here (L ~ Gamma(r + x, alpha + T)) but silent."""
    r, alpha, _, _ = parameters
    silent: Doubles = ((alpha + of.age) / (alpha + of.age + weeks)) ** (r + of.repeats)
    return 1 - alive(parameters, of) * (1 - silent)


def expected_orders(parameters: Doubles, of: Customers, weeks: float) -> Doubles:
    """Return E[orders in the next `weeks` | x, t_x, T] (eq. 10).

    Its 2F1(r + x, b + x; c; z) overflows for a busy customer, so it is written by Euler's transformation:
    (1 - z)^(r + x) 2F1(r + x, b + x; c; z) = (1 - z)^(a - 1) 2F1(a + b - 1 - r, a - 1; c; z).
    """
    r, alpha, a, b = parameters
    if abs(a - 1) < 1e-6:
        a = 1 + 1e-6  # eq. 10 is 0 / 0 at a = 1 and continuous there
    c = a + b + of.repeats - 1
    z = weeks / (alpha + of.age + weeks)
    fade = (1 - z) ** (a - 1) * hyp2f1(a + b - 1 - r, a - 1, c, z)
    count: Doubles = np.maximum(c / (a - 1) * (1 - fade) * alive(parameters, of), 0.0)
    return count


def order_chance(parameters: Doubles, of: Customers, weeks: float, orders: int) -> Doubles:
    """Return P(exactly `orders` orders in the next `weeks` | x, t_x, T).

    Eq. 8, the chance of so many orders in a time that begins with a customer, with L ~ Gamma(r + x, alpha + T) and
    p ~ Beta(a, b + x), which are what is left of the two for one who is still here; for one who left it is none.
    """
    r, alpha, a, b = parameters
    n, x, here = orders, of.repeats, alive(parameters, of)
    count = nbinom(r + x, (alpha + of.age) / (alpha + of.age + weeks))  # of orders at rate L
    still = np.exp(betaln(a, b + x + n) - betaln(a, b + x))  # E[(1 - p)^n]: none of them was the last
    last = np.exp(betaln(a + 1, b + x + n - 1) - betaln(a, b + x)) if n else 0.0  # E[p (1 - p)^(n - 1)]: the n-th was
    chance: Doubles = here * (still * count.pmf(n) + last * count.sf(n - 1))
    return chance if n else chance + 1 - here


def middle_orders(parameters: Doubles, of: Customers, weeks: float, *, most: int = 1_000) -> Doubles:
    """Return the least n with P(at most n orders in the next `weeks`) >= 1/2, up to `most`.

    It is the forecast of least mean absolute error; that of least squared error, whose total is right, is the mean.
    """
    middle = np.full(len(of.repeats), float(most))
    below = np.zeros(len(middle))
    for orders in range(most):
        below += order_chance(parameters, of, weeks, orders)
        middle[(below >= 0.5) & (middle == most)] = orders
        if middle.max(initial=0) < most:
            break
    return middle


# --- Gamma-Gamma ----------------------------------------------------------------------------------------------------


def fit_money(orders: Doubles, spend: Doubles, *, ridge: float = 0.0) -> Doubles:
    """Return p, q, gamma of greatest likelihood; `spend` is the mean money of `orders` orders, both above 0."""
    if not len(spend):
        return np.array([1.0, 2.0, 0.0])  # nobody ever paid: every order is worth 0
    scale = float(spend.mean())

    def loss(logs: Doubles) -> tuple[float, Doubles]:
        value, slope = money_likelihood(np.exp(logs), orders, spend / scale)
        return _penalised(logs, value / len(orders), slope / len(orders), ridge)

    p, q, gamma = _search(loss, 3)
    return np.array([p, q, gamma * scale])


def money_likelihood(parameters: Doubles, orders: Doubles, spend: Doubles) -> tuple[float, Doubles]:
    """Return the log-likelihood of Gamma-Gamma (2013 note, eq. 1a) and its slope along p, q, gamma."""
    p, q, gamma = parameters
    x, total = orders, gamma + orders * spend
    value = (
        gammaln(p * x + q) - gammaln(p * x) - gammaln(q) + q * np.log(gamma)
        + (p * x - 1) * np.log(spend) + p * x * np.log(x) - (p * x + q) * np.log(total)
    )  # fmt: skip
    slope = np.array(
        [
            (x * (digamma(p * x + q) - digamma(p * x) + np.log(spend) + np.log(x) - np.log(total))).sum(),
            (digamma(p * x + q) - digamma(q) + np.log(gamma) - np.log(total)).sum(),
            (q / gamma - (p * x + q) / total).sum(),
        ]
    )
    return float(value.sum()), slope


def expected_spend(parameters: Doubles, of: Customers) -> Doubles:
    """Return E[money of an order | orders, mean so far] (2013 note, eq. 5); finite for q at or below 1 too.

    The mean over customers is p gamma / (q - 1), which does not exist for q <= 1: there a customer without an order is
    worth what one order of the middle customer is, p gamma / q.
    """
    p, q, gamma = parameters
    seen = p * of.orders
    mean = p * (gamma + of.orders * of.spend) / np.maximum(seen + q - 1, 1e-9)
    spend: Doubles = np.where(seen + q > 1, mean, p * gamma / q)
    return spend


def _penalised(logs: Doubles, value: float, slope: Doubles, ridge: float) -> tuple[float, Doubles]:
    """Return what is minimised along the logs, and its slope there, from a likelihood and its slope."""
    return ridge * float(logs @ logs) - value, 2 * ridge * logs - slope * np.exp(logs)


def _search(loss: Callable[[Doubles], tuple[float, Doubles]], size: int) -> Doubles:
    """Minimise along the logs of `size` positive parameters from 1, within e^-12 to e^12."""
    found = minimize(loss, np.zeros(size), jac=True, method="L-BFGS-B", bounds=[(-12, 12)] * size,
                     options={"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-8})  # fmt: skip
    best: Doubles = np.exp(found.x)
    return best
