"""What a customer is doing now: buying, considering, lapsing ... A dynamic Bayesian network of two hidden things.

Every week a customer is in one of K states that nobody sees; which of G kinds of customer this is stays the same. Seen
are the days with an order and the days with an event of each other kind, Poisson with rate level[kind] x rate[state].
Into the next week the state moves by one of two tables: that for weeks with an order, or that for weeks without. So the
network's own last output is its input, as in an input-output hidden Markov model (Bengio and Frasconi, NIPS 1994): a
customer may lapse after an order, as in BG/NBD, or out of silence. A customer's first day opens the chain and is not
counted. The money of an order is Gamma-Gamma (clv.py): what it tells about the states is less than it costs (LOG.md).

Learnt by EM (Baum, Petrie, Soules and Weiss, 1970; Dempster, Laird and Rubin, 1977; rates in two half-steps: Meng and
Rubin's ECM, 1993) on the log-likelihood plus weak priors; K by BIC (Schwarz, 1978). "As of" is the exact forward
filter: nothing later moves a week's belief. The forecast runs the chain through the horizon, exactly (`forecast`).

Axes: B users, T weeks, G kinds of customer, K states, C channels (orders first, then the other kinds of event).
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import gammaln, ndtri

from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.core.settings import check_range, tuned
from habitue.model import clv
from habitue.model.past import PURCHASE, REFUND, Ints, Past

ANSWERS = frozenset({"churn", "value"})

Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

USERS_A_CALL = 2048  # whose weeks are held at once: about 3 x 8 bytes x T x G x K each
LEAST_GAIN = 1e-4  # of the objective, a user and step: EM has arrived
STAY = 0.9  # chance to stay a week in a state, before anything is learnt
LITTLE = 1e-9
SEEN = 0.1  # events that are no orders, expected in the horizon, below which a state is not called by them
GONE = 0.9  # chance of no order in the horizon from which a state is called lapsed
FOR_GOOD = 3650  # days of a mean stay that are not worth a number


@dataclass(frozen=True)
class Config:
    """Settings, picked on Online Retail with the last 92 days before the cut as validation (LOG.md, "states")."""

    states: int = tuned(0, values=(0, 2, 3, 4, 5))  # 0 = as many as BIC asks for, up to `most_states`
    most_states: int = 4
    kinds: int = tuned(4, values=(1, 2, 4, 8))  # of customers
    days: int = 7  # a step of the chain
    steps: int = 150  # of EM, at most
    prior: float = tuned(1.0, 0.1, 30, log=True)  # weight of the priors, in steps of one customer
    least_customers: int = 10

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing here. Raises SettingsError."""
        positive = ("most_states", "kinds", "days", "steps", "prior", "least_customers")
        check_range(self, positive=positive, not_negative=("states",))


@dataclass(frozen=True)
class Chain:
    """What is learnt by EM."""

    kind: Doubles  # [G] share of the customers
    level: Doubles  # [G, C] how much more often than others
    start: Doubles  # [2, K] of the first step, after a first day without / with an order
    move: Doubles  # [2, K, K] from row to column, after a step without / with an order
    rate: Doubles  # [K, C] days with such an event a step, at level 1


@dataclass(frozen=True)
class State:
    """The chain, its states from the quietest to the busiest buyer, and what is read off them."""

    chain: Chain
    names: tuple[str, ...]  # [K]
    channels: tuple[str, ...]  # [C]
    share: Doubles  # [G, K] of all steps of all customers
    now: Doubles  # [K] of the customers at `as_of`
    money: Doubles  # [3] p, q, gamma of Gamma-Gamma (clv.py)
    kept: float  # net money / money of purchases: what refunds leave
    days: int
    first_day: float  # first event of the record, days since 1970-01-01 UTC
    horizon_days: int
    bic: dict[str, float]  # of each number of states that was tried


@dataclass(frozen=True)
class Weeks:
    """What was seen of B users, those known longest first: T steps, the last one ends at `as_of`."""

    user: Ints  # [B] index into the past
    count: Doubles  # [T, B, C] days with an event
    length: Doubles  # [T, B] steps in sight: 0 before the user begins, a share in the first step
    ordered: Bools  # [T, B]
    begin: Ints  # [B] first step, ascending; T for one whose first day is the last of all
    first_ordered: Bools  # [B] an order on the first day

    @property
    def here(self) -> list[int]:
        """[T] how many users have begun: they are the first ones."""
        return [int(n) for n in np.searchsorted(self.begin, np.arange(len(self.count)), side="right")]


def fit(past: Past, config: Config, *, runtime: Runtime) -> State:  # noqa: ARG001  nothing random
    """Learn from the known customers with an event; O(steps x B T G K^2) for each K tried.

    Raises ModelError for too few of them.
    """
    past = _before(past)
    every = past.histories
    some = np.flatnonzero(past.known & (np.diff(every.set_start) > 0))
    if len(some) < config.least_customers:
        raise ModelError(
            "model.states",
            found=f"{len(some):,} known customers have an event",
            consequence="No pattern of weeks can be learnt from them",
            remedy=f"Import more events, or lower 'least_customers' of model.states (now {config.least_customers})",
        )
    asked = past.take(some)
    channels = (PURCHASE, *sorted(set(every.kinds) - {PURCHASE, REFUND}))
    first_day = float(every.set_at.min())
    seen = list(_observed(asked, channels, config.days, first_day))
    tried: list[tuple[float, Chain]] = []
    for size in [config.states] if config.states else range(2, config.most_states + 1):
        chain, fits = learn(seen, size, kinds=config.kinds, prior=config.prior, steps=config.steps)
        tried.append((bic(fits[-1], chain, len(some)), chain))
    chain = _ordered(min(tried, key=lambda one: one[0])[1], past.horizon_days / config.days)
    held = np.sum([expect(chain, weeks).length for weeks in seen], axis=0)
    now = np.concatenate([_next(chain, weeks, forward(chain, weeks)) for weeks in seen]).sum(1).mean(0)
    money, kept = _money(asked, first_day)
    share = held / max(held.sum(), LITTLE)
    return State(
        chain=chain,
        names=named(chain, share, channels, steps=past.horizon_days / config.days, days=config.days),
        channels=channels,
        share=share,
        now=now,
        money=money,
        kept=kept,
        days=config.days,
        first_day=first_day,
        horizon_days=past.horizon_days,
        bic={str(len(chain.rate)): told for told, chain in tried},
    )


def predict(state: State, past: Past) -> pl.DataFrame:
    """Return user_key, churn (probability of no order in the horizon), value (expected net money); one row a user.

    A user without an event is taken for one whose only event lies just before the record begins. O(B T G K^2).
    """
    past = _before(past)
    now = belief(state, past)
    silent, orders = forecast(state.chain, state.horizon_days / state.days)
    spend = clv.expected_spend(state.money, clv.customers(past, first_day=state.first_day))
    churn, count = ((now * told).sum((1, 2)) for told in (silent, orders))
    return pl.DataFrame(
        {"user_key": past.histories.user_keys, "churn": np.minimum(churn, 1), "value": count * spend * state.kept}
    )


def belief(state: State, past: Past) -> Doubles:
    """Return [B, G, K]: P(kind of customer, state in the step that begins at `past.as_of` | all before it)."""
    past, told = _before(past), np.empty((len(past.known), *state.share.shape))
    for weeks in _observed(past, state.channels, state.days, state.first_day):
        told[weeks.user] = _next(state.chain, weeks, forward(state.chain, weeks))
    return told


def forecast(chain: Chain, steps: float) -> tuple[Doubles, Doubles]:
    """Return P(no order in the next `steps` steps) and E[orders in them] of each kind and state now, two [G, K].

    Backwards from the end, with q = exp(-rate): silent = q (M0 silent), orders = rate + q (M0 orders) + (1 - q)(M1
    orders); M0, M1 = the moves after a step without and with an order. A last step that is cut short has its share.
    """
    rate = chain.level[:, None, 0] * chain.rate[:, 0]
    silent, orders = np.ones_like(rate), np.zeros_like(rate)
    quiet, busy = (move.T for move in chain.move)
    for length in reversed([1.0] * int(steps) + [steps % 1]):
        none = np.exp(-rate * length)
        orders = rate * length + none * (orders @ quiet) + (1 - none) * (orders @ busy)
        silent = none * (silent @ quiet)
    return silent, orders


def picture(state: State) -> dict[str, Any]:
    """Return the moves of a step as a "heat" of a sheet (dashboard/sheet.py); a note says what each state is like."""
    moves, days = _moves(state.chain, state.share), state.days
    step = "week" if days == 7 else f"{days} days"
    kind_given = state.share / np.maximum(state.share.sum(0), LITTLE)
    rate = (kind_given.T @ state.chain.level) * state.chain.rate / days
    notes = []
    for k, name in enumerate(state.names):
        stay = days / max(1 - moves[k, k], LITTLE)
        kept = "stays for good" if stay > FOR_GOOD else f"stays {stay:,.0f} days"
        often = [f"{what} every {1 / r:,.3g} days" for what, r in zip(state.channels, rate[k], strict=True) if r > 1e-4]
        notes.append(f"{name}: {kept}, {', '.join(often) or 'nothing is seen'}.")
    return {
        "kind": "heat",
        "title": f"What customers do, and the chance to do something else a {step} later",
        "x": f"a {step} later",
        "y": "now",
        "x_labels": list(state.names),
        "y_labels": [f"{name} ({share:.0%} of customers)" for name, share in zip(state.names, state.now, strict=True)],
        "values": [[round(float(chance), 4) for chance in row] for row in moves],
        "percent": True,
        "note": " ".join(notes),
    }


# --- EM -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sums:
    """What one step of EM expects of some users."""

    told: float  # their log-likelihood
    start: Doubles  # [2, K]
    move: Doubles  # [2, K, K]
    kind: Doubles  # [G]
    count: Doubles  # [G, K, C]
    length: Doubles  # [G, K]

    def __add__(self, other: Sums) -> Sums:
        """Return the sums of both."""
        return Sums(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Prior:
    """What is held before anything is seen, and how many steps of a customer it is worth."""

    weight: float
    rate: Doubles  # [C] mean of everybody


def learn(seen: list[Weeks], size: int, *, kinds: int, prior: float, steps: int) -> tuple[Chain, list[float]]:
    """Return the chain of `size` states and the objective before each step of EM; it never falls.

    The objective is the log-likelihood plus, up to constants, the log-density of the priors (`_log_prior`).
    """
    before = _prior(seen, prior)
    chain, users = _first(before, size, kinds), sum(len(weeks.begin) for weeks in seen)
    fits: list[float] = []
    for _ in range(steps):
        first, *others = (expect(chain, weeks) for weeks in seen)
        sums = sum(others, start=first)
        fits.append(sums.told + _log_prior(chain, before))
        if len(fits) > 1 and fits[-1] - fits[-2] < LEAST_GAIN * users:
            break
        chain = _best(sums, chain, before)
    return chain, fits


def expect(chain: Chain, weeks: Weeks) -> Sums:
    """Return the expected sums (the E step); backward pass and sums in one sweep. O(B T G K^2)."""
    seen = _emitted(chain, weeks)
    alpha = forward(chain, weeks, seen)
    steps, users, kinds, size = alpha.shape
    told = _log_sum(alpha[-1]) if steps else np.zeros(users)
    start, move = np.zeros((2, size)), np.zeros((2, size, size))
    count, length = np.zeros((kinds, size, weeks.count.shape[2])), np.zeros((kinds, size))
    kind = np.zeros(kinds)
    beta = np.zeros((users, kinds, size))
    here = weeks.here
    for t in reversed(range(steps)):
        n, earlier = here[t], here[t - 1] if t else 0
        share = np.exp(alpha[t, :n] + beta[:n] - told[:n, None, None])  # P(kind, state at t | all that was seen)
        flat = share.reshape(n, -1).T
        count += (flat @ weeks.count[t, :n]).reshape(count.shape)
        length += (flat @ weeks.length[t, :n]).reshape(length.shape)
        opens, opened = share[earlier:], weeks.first_ordered[earlier:n]
        start += np.stack([opens[~opened].sum((0, 1)), opens[opened].sum((0, 1))])
        kind += opens.sum((0, 2))
        if t:
            ahead = seen[t, :earlier] + beta[:earlier]
            left, right = _top(alpha[t - 1, :earlier]), _top(ahead)
            ends = np.exp(ahead - right)
            starts = np.exp(alpha[t - 1, :earlier] - left) * np.exp(left + right - told[:earlier, None, None])
            ordered = weeks.ordered[t - 1, :earlier]
            for u, on in enumerate((~ordered, ordered)):
                move[u] += chain.move[u] * (starts[on].reshape(-1, size).T @ ends[on].reshape(-1, size))
            beta[:earlier] = _mixed(ahead, chain.move.transpose(0, 2, 1), ordered)
    return Sums(float(told[weeks.begin < steps].sum()), start, move, kind, count, length)


def forward(chain: Chain, weeks: Weeks, seen: Doubles | None = None) -> Doubles:
    """Return log P(all seen up to step t, kind, state at t) as [T, B, G, K]; what comes before a user begins is 0."""
    seen = _emitted(chain, weeks) if seen is None else seen
    alpha, opened, here = np.zeros_like(seen), _opened(chain, weeks), weeks.here
    for t in range(len(alpha)):
        n, earlier = here[t], here[t - 1] if t else 0
        alpha[t, earlier:n] = opened[earlier:n] + seen[t, earlier:n]
        if earlier:
            moved = _mixed(alpha[t - 1, :earlier], chain.move, weeks.ordered[t - 1, :earlier])
            alpha[t, :earlier] = moved + seen[t, :earlier]
    return alpha


def bic(objective: float, chain: Chain, users: int) -> float:
    """Return -2 objective + free parameters x log(users): less is better."""
    (size, channels), kinds = chain.rate.shape, len(chain.kind)
    parameters = 2 * (size - 1) * (1 + size) + size * channels + kinds - 1 + (kinds - 1) * channels
    told: float = -2 * objective + parameters * math.log(max(users, 1))
    return told


def _best(sums: Sums, chain: Chain, prior: Prior) -> Chain:
    """Return the chain of the greatest objective given the expected sums; rates first, then levels given the rates."""
    weight, size = prior.weight, len(chain.rate)
    counted = sums.count.sum(0) + weight * prior.rate
    rate = counted / (sums.length.T @ chain.level + weight)
    level = (sums.count.sum(1) + weight) / (sums.length @ rate + weight)
    return Chain(
        kind=_shares(sums.kind + weight),
        level=level,
        start=_shares(sums.start + weight / size),
        move=_shares(sums.move + weight / size),
        rate=rate,
    )


def _log_prior(chain: Chain, prior: Prior) -> float:
    """Dirichlet for shares, Gamma for rates and levels, each worth `prior.weight`."""
    size = len(chain.rate)
    shares = np.log(chain.kind).sum() + (np.log(chain.start).sum() + np.log(chain.move).sum()) / size
    rates = (prior.rate * np.log(chain.rate) - chain.rate).sum() + (np.log(chain.level) - chain.level).sum()
    return float(prior.weight * (shares + rates))


def _prior(seen: list[Weeks], weight: float) -> Prior:
    counted, length = sum(w.count.sum((0, 1)) for w in seen), sum(float(w.length.sum()) for w in seen)
    return Prior(weight, np.maximum(counted / max(length, 1.0), LITTLE))


def _first(prior: Prior, size: int, kinds: int) -> Chain:
    """Start: rates a factor of 4 apart, a chain that mostly stays, kinds spread evenly over level and money."""
    ladder = np.append(0.05, 3.0 ** (np.arange(size - 1) - (size - 2) * 0.5) * 1.3)
    ladder = ladder[-size:] if size > 1 else np.ones(1)
    stay = STAY * np.eye(size) + (1 - STAY) / size
    level = np.exp(ndtri((np.arange(kinds) + 0.5) / kinds))
    return Chain(
        kind=np.full(kinds, 1 / kinds),
        level=np.repeat(level[:, None], len(prior.rate), axis=1),
        start=np.full((2, size), 1 / size),
        move=np.stack([stay, stay]),
        rate=ladder[:, None] * prior.rate,
    )


def _emitted(chain: Chain, weeks: Weeks) -> Doubles:
    """Return log P(what was seen in step t | kind, state) as [T, B, G, K]; 0 before a user begins."""
    log_length = np.log(np.where(weeks.length > 0, weeks.length, 1.0))
    rate = chain.level[:, None] * chain.rate  # [G, K, C]
    either = weeks.count.sum(2) * log_length - gammaln(weeks.count + 1).sum(2)
    told: Doubles = np.tensordot(weeks.count, np.log(rate), (2, 2)) - weeks.length[..., None, None] * rate.sum(2)
    told += either[..., None, None]
    return told


def _opened(chain: Chain, weeks: Weeks) -> Doubles:
    """Return log P(kind of customer, state of the first step | an order on the first day or not) [B, G, K]."""
    start = np.log(chain.start)[weeks.first_ordered.astype(int)]
    opened: Doubles = np.log(chain.kind)[:, None] + start[:, None]
    return opened


def _next(chain: Chain, weeks: Weeks, alpha: Doubles) -> Doubles:
    """Return the belief about the step after the last one, [B, G, K]."""
    logs = _opened(chain, weeks)
    begun = weeks.here[-1] if len(alpha) else 0
    if begun:
        logs[:begun] = _mixed(alpha[-1, :begun], chain.move, weeks.ordered[-1, :begun])
    told: Doubles = np.exp(logs - _log_sum(logs)[:, None, None])
    return told


def _mixed(logs: Doubles, move: Doubles, ordered: Bools) -> Doubles:
    """Return log(exp(logs) move[ordered]), both [B, G, K]."""
    top = _top(logs)
    plain = np.exp(logs - top)
    moved = np.where(ordered[:, None, None], plain @ move[1], plain @ move[0])
    mixed: Doubles = np.log(np.maximum(moved, np.finfo(float).tiny)) + top
    return mixed


def _top(logs: Doubles) -> Doubles:
    top: Doubles = logs.max((1, 2), keepdims=True)
    return top


def _log_sum(logs: Doubles) -> Doubles:
    top = _top(logs)
    total: Doubles = np.log(np.exp(logs - top).sum((1, 2))) + top[:, 0, 0]
    return total


def _shares(weights: Doubles) -> Doubles:
    shares: Doubles = weights / weights.sum(-1, keepdims=True)
    return shares


# --- what is seen ---------------------------------------------------------------------------------------------------


def _observed(past: Past, channels: tuple[str, ...], days: int, first_day: float) -> Iterator[Weeks]:
    """Yield what was seen of USERS_A_CALL users at once."""
    for start in range(0, len(past.known), USERS_A_CALL):
        users = np.arange(start, min(start + USERS_A_CALL, len(past.known)))
        yield observe(past, users, channels, days=days, first_day=first_day)


def observe(past: Past, users: Ints, channels: tuple[str, ...], *, days: int, first_day: float) -> Weeks:
    """Count the days with an event of each channel; days are counted back from `as_of`, 0 = the last. O(rows + T B C).

    Several events of a channel on a day are one; `first_day` stands in for the first event of a user without one.
    """
    every = past.histories.take(users)
    ago = np.ceil(past.day - every.set_at).astype(np.int64) - 1
    oldest = np.full(len(users), max(math.ceil(past.day - first_day) - 1, 0))
    has = np.diff(every.set_start) > 0
    oldest[has] = ago[every.set_start[:-1][has]]
    rank = np.argsort(-oldest, kind="stable")
    oldest, owner = oldest[rank], np.argsort(rank, kind="stable")[every.set_user]
    steps = int(-(-oldest.max(initial=0) // days))
    channel = np.array([channels.index(k) if k in channels else -1 for k in every.kinds])[every.set_kind]
    later, order = ago < oldest[owner], channel == 0
    step = steps - 1 - ago // days
    some = later & (channel >= 0)
    count = np.zeros((steps, len(users), len(channels)))
    np.add.at(count, tuple(np.unique(np.stack([step, owner, channel, ago])[:, some], axis=1)[:3]), 1)
    back = steps - np.arange(steps)[:, None]  # 1 for the last step
    return Weeks(
        user=users[rank],
        count=count,
        length=np.clip(oldest / days - back + 1, 0, 1),
        ordered=count[..., 0] > 0,
        begin=steps - -(-oldest // days),
        first_ordered=np.bincount(owner[~later & order], minlength=len(users)) > 0,
    )


def _before(past: Past) -> Past:
    return dataclasses.replace(past, histories=past.histories.before(past.day))


def _money(past: Past, first_day: float) -> tuple[Doubles, float]:
    """Return the parameters of Gamma-Gamma, and the share of the money that refunds leave."""
    every = clv.customers(past, first_day=first_day)
    paid = (every.orders > 0) & (every.spend > 0)
    bought, refunded = (float(past.histories.of_kind(k).row_value.sum(dtype=np.float64)) for k in (PURCHASE, REFUND))
    kept = max(1 + refunded / bought, 0.0) if bought > 0 else 1.0
    return clv.fit_money(every.orders[paid], every.spend[paid], ridge=clv.Config().ridge), kept


# --- names ----------------------------------------------------------------------------------------------------------


def named(chain: Chain, share: Doubles, channels: tuple[str, ...], *, steps: float, days: int) -> tuple[str, ...]:
    """Name each state by what is done in it, against the mean of all steps.

    buying: orders at least at the mean rate. considering, browsing: other events at least at the mean rate, at a
    quarter of it, and SEEN of them in the horizon: where next to nothing is seen, anything is a quarter of the mean.
    Of the rest, by the chance of no order in the horizon: lapsed from GONE on, lapsing above the mean, pausing below
    it. States that would be called the same get their pace beside the name.
    """
    kind_given = share / np.maximum(share.sum(0), LITTLE)
    rate = (kind_given.T @ chain.level) * chain.rate
    silent = (kind_given * forecast(chain, steps)[0]).sum(0)
    held = share.sum(0)
    looks, mean = rate[:, 1:].sum(1), held @ rate
    seen = looks * steps >= SEEN
    names = []
    for k in range(len(rate)):
        if rate[k, 0] >= mean[0]:
            names.append("buying")
        elif len(channels) > 1 and seen[k] and looks[k] >= mean[1:].sum():
            names.append("considering")
        elif len(channels) > 1 and seen[k] and looks[k] >= mean[1:].sum() / 4:
            names.append("browsing")
        elif silent[k] >= GONE:
            names.append("lapsed")
        else:
            names.append("lapsing" if silent[k] >= held @ silent else "pausing")
    pace = [f", an order every {days / max(r, LITTLE):,.3g} days" for r in rate[:, 0]]
    counted = Counter(names)
    return tuple(name + pace[k] if counted[name] > 1 else name for k, name in enumerate(names))


def _ordered(chain: Chain, steps: float) -> Chain:
    """Put the state first in which the fewest orders are to be expected."""
    order = np.argsort(chain.kind @ forecast(chain, steps)[1], kind="stable")
    move = chain.move[:, order][:, :, order]
    return Chain(chain.kind, chain.level, chain.start[:, order], move, chain.rate[order])


def _moves(chain: Chain, share: Doubles) -> Doubles:
    """Return the chance to move from row to column in a step, ordered in it or not, [K, K]."""
    kind_given = share / np.maximum(share.sum(0), LITTLE)
    none = (kind_given * np.exp(-chain.level[:, None, 0] * chain.rate[:, 0])).sum(0)[:, None]
    moves: Doubles = none * chain.move[0] + (1 - none) * chain.move[1]
    return moves
