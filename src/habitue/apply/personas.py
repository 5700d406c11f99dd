"""Who the customers are: groups of known customers by how they buy and what they buy, named by what sets them apart.

A customer is a point: declared features (logarithms), and taste, the share of the purchase lines in each group of
products with like words (Hellinger: square roots). Both are scaled by median and quartiles as of the cut; k-means
makes the personas. Stability is Hennig's (2007): the mean Jaccard similarity of a persona with its best match when the
customers are drawn again with replacement and grouped anew.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
import threadpoolctl  # comes with scikit-learn
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.preprocessing import normalize

from habitue.apply.wording import percent
from habitue.core.errors import ModelError
from habitue.core.metrics import Floats, Ints
from habitue.core.schemas import FEATURES, Features, check
from habitue.model.past import PURCHASE, Past

WORD = re.compile(r"[^\W\d_]{3,}")
LITTLE = frozenset("and the with for from set pack box pair assorted asstd".split())  # say nothing of a taste
SCALED = 3.0  # scaled values are cut here: a wholesaler is big, not a group of his own


@dataclass(frozen=True)
class Behaviour:
    """A declared feature in words: what many and few of it make a customer, and how its middle value is said."""

    feature: str
    high: str
    low: str
    said: str


BEHAVIOURS = (
    Behaviour("order_count", "frequent", "occasional", "{:,.1f} orders"),
    Behaviour("value_per_order", "big", "small", "{:,.0f} an order"),
    Behaviour("days_since_last", "quiet", "recent", "{:,.0f} days since the last order"),
    Behaviour("items_per_order", "broad", "narrow", "{:,.0f} products an order"),
    Behaviour("price_per_unit", "pricey", "thrifty", "{:,.2f} a unit"),
)


@dataclass(frozen=True)
class Config:
    """Settings; taste_weight and groups were found on the first nine months of Online Retail by stability and lifts."""

    personas: int = 6
    behaviours: int = 3  # the first so many of BEHAVIOURS are coordinates, the others only describe
    groups: int = 12  # of products with like words
    taste_weight: float = 2.5  # of all taste coordinates together, against all behaviours together
    prior_lines: float = 10.0  # lines of the average customer added to each, so that two lines make no taste
    bootstraps: int = 20
    stable: float = 0.5  # below: "not stable"
    lift: float = 3.0
    min_buyers: int = 10  # customers of the persona who bought a product, before its lift is told
    products: int = 5  # shown of each persona
    different: float = 0.3  # standard deviations from which a behaviour is part of the name


@dataclass(frozen=True)
class Personas:
    """The answer: what the report shows. Cards stand by money, the most first."""

    cards: pl.DataFrame  # name, sentence, size, share, money (net), stability, stable
    products: pl.DataFrame  # name, item_id, title, lift, buyers: most lift first
    members: pl.DataFrame  # user_key, name
    moves: pl.DataFrame  # from, to, n; null = not yet a customer, or no purchase in the second period
    periods: tuple[str, str]
    verdict: str


@dataclass(frozen=True)
class Space:
    """How customers become points, learnt as of the cut."""

    names: tuple[str, ...]  # F declared features, taken as logarithms
    group: Ints  # [I] group of each product
    average: Floats  # [G] share of all purchase lines
    middle: Floats  # [F + G] median
    spread: Floats  # [F + G] quartile distance / 1.349, a standard deviation for a normal
    weight: Floats  # [F + G]
    prior_lines: float


def find(past: Past, titles: Mapping[str, str], config: Config | None = None, *, seed: int = 0) -> Personas:
    """Group the known customers who have ordered, describe the groups, and count who moved between them.

    Reads `past.features`, purchases and words as of the cut; movement also `past.train_features` one horizon earlier
    (without them there is none). `titles`: item_id -> words. O(customers x coordinates x bootstraps), about 5
    CPU-seconds for 3,400 customers. Raises ModelError without a declared feature and with too few customers.
    """
    check(past.features, FEATURES, at="apply.personas")
    config = config or Config()
    features = _ordered(past.features)
    if features.height < 10 * config.personas:
        raise ModelError(
            "apply.personas",
            found=f"{features.height:,} known customers have ordered, for {config.personas} personas",
            consequence="Groups of fewer than ten people describe chance, and may point to a person",
            remedy="Ask for fewer personas, or wait for more customers",
        )
    lines = _lines(past, features)
    with threadpoolctl.threadpool_limits(
        1
    ):  # sums of several threads have no fixed order: the same seed, the same groups
        space = _space(past, features, lines, config, seed)
        points = _points(space, features, lines)
        model = KMeans(config.personas, n_init=10, random_state=seed).fit(points)
        stability = _stability(points, model.labels_, config, seed)
    labels = model.labels_.astype(np.int64)
    words = _words(past, titles, lines, labels)
    names = _names(features, labels, words, config)
    cards = _cards(features, labels, names, words, stability, config)
    moves, periods = _moves(past, space, model, names, features, labels)
    return Personas(
        cards=cards,
        products=_products(past, titles, lines, labels, names, config),
        members=features.select("user_key").with_columns(name=pl.Series([names[k] for k in labels], dtype=pl.String)),
        moves=moves,
        periods=periods,
        verdict=_verdict(cards, moves, config),
    )


def to_dict(found: Personas) -> dict[str, Any]:
    """Return the cards with their products, the moves and the verdict as plain lists, for a report."""
    return {
        "cards": [
            card | {"products": found.products.filter(pl.col("name") == card["name"]).drop("name").to_dicts()}
            for card in found.cards.to_dicts()
        ],
        "moves": found.moves.to_dicts(),
        "periods": list(found.periods),
        "verdict": found.verdict,
    }


def _ordered(features: Features) -> Features:
    """Return the rows of customers who have ordered at least once."""
    wanted = [b.feature for b in BEHAVIOURS] + ["spend", "refunded"]
    missing = [name for name in wanted if name not in features.columns]
    if missing:
        raise ModelError(
            "apply.personas",
            found=f"FEATURES has no column '{missing[0]}'",
            consequence="Personas could not be described",
            remedy="Declare that feature (prepare/declared.py)",
        )
    return features.filter(pl.col("order_count") > 0).sort("user_key")


def _lines(past: Past, features: Features) -> sp.csr_matrix:
    """Count the purchase lines before `past.as_of` of each row of `features` [B, I]."""
    bought = past.histories.of_kind(PURCHASE)
    row = np.searchsorted(past.histories.user_keys, features["user_key"].to_numpy())
    bought = bought.take(row)
    cells = (np.ones(len(bought.row_item)), (bought.set_user[bought.row_set], bought.row_item))
    return sp.csr_matrix(cells, shape=(len(row), len(past.items)))


def _space(past: Past, features: Features, lines: sp.csr_matrix, config: Config, seed: int) -> Space:
    """Learn groups of products and the scale of every coordinate."""
    names = tuple(b.feature for b in BEHAVIOURS[: config.behaviours])
    group = _groups(past, lines, config.groups, seed)
    total = np.bincount(group, weights=_sum(lines), minlength=group.max() + 1)
    raw = Space(names, group, total / total.sum(), np.zeros(1), np.ones(1), np.ones(1), prior_lines=config.prior_lines)
    values = _coordinates(raw, features, lines)
    low, middle, high = np.percentile(values, [25, 50, 75], axis=0)
    spread = (high - low) / 1.349
    spread[spread < 1e-9] = np.inf  # a coordinate that hardly varies says nothing
    f, g = len(names), len(total)
    weight = np.r_[np.full(f, 1 / np.sqrt(max(f, 1))), np.full(g, config.taste_weight / np.sqrt(g))]
    return Space(names, group, raw.average, middle, spread, weight, config.prior_lines)


def _groups(past: Past, lines: sp.csr_matrix, groups: int, seed: int) -> Ints:
    """Put products with like words into groups [I], much-bought products counting more; without words, like buyers."""
    what = past.words if past.words is not None else normalize(lines.T.tocsr())
    vectors = normalize(TruncatedSVD(min(40, min(what.shape) - 1), random_state=seed).fit_transform(what))
    k = min(groups, len(np.unique(vectors.round(6), axis=0)))
    model = KMeans(k, n_init=4, random_state=seed).fit(vectors, sample_weight=_sum(lines) + 1e-3)
    return np.asarray(model.labels_, dtype=np.int64)


def _coordinates(space: Space, features: Features, lines: sp.csr_matrix) -> Floats:
    """Return log features and square roots of taste shares, unscaled [B, F + G]."""
    behaviour = features.select(pl.col(name).clip(0).log1p() for name in space.names).fill_null(strategy="zero")
    belongs = sp.csr_matrix((np.ones(len(space.group)), (np.arange(len(space.group)), space.group)))
    counts = (lines @ belongs).toarray() + space.prior_lines * space.average
    taste = np.sqrt(counts / counts.sum(axis=1, keepdims=True))
    return np.hstack([behaviour.to_numpy(), taste])


def _points(space: Space, features: Features, lines: sp.csr_matrix) -> Floats:
    """Return the customers as scaled and weighed points [B, F + G]."""
    scaled = (_coordinates(space, features, lines) - space.middle) / space.spread
    return np.asarray(np.clip(scaled, -SCALED, SCALED) * space.weight)


def _stability(points: Floats, labels: Ints, config: Config, seed: int) -> Floats:
    """Return the mean Jaccard similarity of each persona with its best match over bootstraps [K] (Hennig 2007)."""
    rng = np.random.default_rng(seed)
    found = np.zeros((config.bootstraps, config.personas))
    for draw in range(config.bootstraps):
        rows = rng.integers(len(points), size=len(points))
        drawn = np.unique(rows)
        again = KMeans(config.personas, n_init=3, random_state=seed + draw).fit(points[rows]).predict(points[drawn])
        both = np.zeros((config.personas, config.personas))
        np.add.at(both, (labels[drawn], again), 1)
        either = both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True) - both
        found[draw] = (both / np.maximum(either, 1)).max(axis=1)
    return np.asarray(found.mean(axis=0))


def _words(past: Past, titles: Mapping[str, str], lines: sp.csr_matrix, labels: Ints) -> list[list[str]]:
    """Return for each persona the words of its purchases, those that set it apart from the others first.

    Log-odds against the other personas with the words of all as prior, over their standard deviation (Monroe,
    Colaresi and Quinn, "Fightin' words", 2008, equations 16, 20 and 22). A customer counts a product once.
    """
    words = [sorted(set(WORD.findall(titles.get(item, "").lower())) - LITTLE) for item in past.items]
    vocabulary = sorted({word for of in words for word in of})
    if not vocabulary:
        return [[] for _ in range(labels.max() + 1)]
    index = {word: i for i, word in enumerate(vocabulary)}
    cells = [(item, index[word]) for item, of in enumerate(words) for word in of]
    item, word = np.array(cells).T
    has = sp.csr_matrix((np.ones(len(cells)), (item, word)), shape=(len(words), len(vocabulary)))
    once = lines.sign()
    mine = np.stack([_sum(once[labels == k] @ has) for k in range(labels.max() + 1)])  # [K, words]
    every = mine.sum(axis=0)
    prior = every / every.sum() * 1000 + 1e-9  # as many words as 1,000 of the shop's
    total, other = mine.sum(axis=1, keepdims=True), every - mine
    a = np.log((mine + prior) / (total + 1000 - mine - prior))
    b = np.log((other + prior) / (every.sum() - total + 1000 - other - prior))
    z = (a - b) / np.sqrt(1 / (mine + prior) + 1 / (other + prior))
    return [[vocabulary[i] for i in np.argsort(-row, kind="stable") if row[i] > 1.96] for row in z]


def _names(features: Features, labels: Ints, words: list[list[str]], config: Config) -> list[str]:
    """Name each persona by its two most different behaviours and its two most different words; no name twice."""
    far = _differences(features, labels)
    names: list[str] = []
    for k, mine in enumerate(words):
        order = np.argsort(-np.abs(far[k]), kind="stable")
        said = [
            BEHAVIOURS[i].high if far[k][i] > 0 else BEHAVIOURS[i].low
            for i in order[:2]
            if abs(far[k][i]) >= config.different
        ]
        for count in range(2, max(len(mine), 2) + 1):
            name = ", ".join([*said, "-and-".join(mine[:count])] if mine else said) or "average"
            if name.capitalize() not in names:
                break
        name = name.capitalize()
        names.append(name if name not in names else f"{name} {k + 1}")
    return names


def _differences(features: Features, labels: Ints) -> Floats:
    """Return how far each persona's mean logarithm of each behaviour is from all customers', in deviations [K, F]."""
    values = (
        features.select(pl.col(b.feature).clip(0).log1p() for b in BEHAVIOURS).fill_null(strategy="mean").to_numpy()
    )
    scaled = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-9)
    return np.stack([scaled[labels == k].mean(axis=0) for k in range(labels.max() + 1)])


def _cards(
    features: Features, labels: Ints, names: list[str], words: list[list[str]], stability: Floats, config: Config
) -> pl.DataFrame:
    """Describe each persona; the values said are geometric means of its members and, behind them, of all customers."""
    far, net = _differences(features, labels), (features["spend"] + features["refunded"]).to_numpy()
    rows = []
    for k, name in enumerate(names):
        mine, said = features.filter(labels == k), []
        for i in np.argsort(-np.abs(far[k]), kind="stable")[:2]:
            behaviour = BEHAVIOURS[i]
            typical = pl.col(behaviour.feature).clip(0).log1p().mean().exp() - 1
            here, all_ = (behaviour.said.format(table.select(typical).item()) for table in (mine, features))
            said.append(f"{here} ({all_.split()[0]} for all)")
        apart = f"; {' and '.join(repr(w) for w in words[k][:2])} set their purchases apart" if words[k] else ""
        rows.append(
            {
                "name": name,
                "sentence": f"Typically {' and '.join(said)}{apart}.",
                "size": mine.height,
                "share": mine.height / features.height,
                "money": float(net[labels == k].sum()),
                "stability": float(stability[k]),
                "stable": bool(stability[k] >= config.stable),
            }
        )
    return pl.DataFrame(rows).sort("money", "name", descending=[True, False])


def _products(
    past: Past, titles: Mapping[str, str], lines: sp.csr_matrix, labels: Ints, names: list[str], config: Config
) -> pl.DataFrame:
    """Return the products whose share of the persona's lines is at least `lift` times their share of all lines."""
    every = _sum(lines) / lines.sum()
    rows = []
    for k, name in enumerate(names):
        mine = lines[labels == k]
        lift = np.divide(_sum(mine) / mine.sum(), every, out=np.zeros(len(every)), where=every > 0)
        buyers = mine.getnnz(axis=0)
        told = np.flatnonzero((buyers >= config.min_buyers) & (lift >= config.lift))
        for i in told[np.argsort(-lift[told], kind="stable")][: config.products]:
            item = past.items[i]
            rows.append((name, item, titles.get(item, item), float(lift[i]), int(buyers[i])))
    schema = {"name": pl.String, "item_id": pl.String, "title": pl.String, "lift": pl.Float64, "buyers": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _moves(
    past: Past, space: Space, model: KMeans, names: list[str], features: Features, labels: Ints
) -> tuple[pl.DataFrame, tuple[str, str]]:
    """Count customers by persona at the end of each of the last two periods of one horizon.

    Counted are those who bought in either; from null = had not bought before the end of the first, to null = bought
    nothing in the second.
    """
    length = dt.timedelta(days=past.horizon_days)
    then = past.rewind(past.as_of - length)
    periods = (_period(then.as_of - length, then.as_of), _period(then.as_of, past.as_of))
    empty = pl.DataFrame(schema={"from": pl.String, "to": pl.String, "n": pl.Int64})
    if not then.features.height:
        return empty, periods
    before = _ordered(then.features)
    with threadpoolctl.threadpool_limits(1):
        earlier = model.predict(_points(space, before, _lines(then, before)))
    bought = past.histories.of_kind(PURCHASE)
    recent, previous = (
        set(bought.user_keys[np.unique(bought.set_user[(bought.set_at >= low) & (bought.set_at < high)])].tolist())
        for low, high in ((then.day, past.day), (then.day - past.horizon_days, then.day))
    )
    was = dict(zip(before["user_key"].to_list(), earlier.tolist(), strict=True))
    rows = [
        (names[was[key]] if key in was else None, names[label] if key in recent else None)
        for key, label in zip(features["user_key"].to_list(), labels.tolist(), strict=True)
        if key in recent or key in previous
    ]
    moved = pl.DataFrame(rows, schema={"from": pl.String, "to": pl.String}, orient="row")
    return moved.group_by("from", "to").agg(n=pl.len().cast(pl.Int64)).sort("n", "from", "to", descending=True), periods


def _period(start: dt.datetime, end: dt.datetime) -> str:
    return f"{start:%b} to {end:%b %Y}"


def _sum(matrix: sp.csr_matrix) -> Floats:
    """Sum the rows: one number a column."""
    return np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel()


def _verdict(cards: pl.DataFrame, moves: pl.DataFrame, config: Config) -> str:
    steady = int(cards["stable"].sum())
    low, high = np.quantile(cards["stability"].to_numpy(), [0, 1])
    first = (
        f"{steady} of {cards.height} personas come back when the customers are drawn again {config.bootstraps} times "
        f"(stability {low:.2f} to {high:.2f}, below {config.stable:g} = not stable)"
    )
    stayed = moves.drop_nulls()
    there = int(stayed["n"].sum())
    if not there:
        return f"{first}."
    moved = int(stayed.filter(pl.col("from") != pl.col("to"))["n"].sum())
    return f"{first}; of {there:,} customers seen in both periods {percent(moved / there)} moved."
