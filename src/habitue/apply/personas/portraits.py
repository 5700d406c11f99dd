"""What makes each group different, in numbers, in a name and in sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import scipy.sparse as sp

from habitue.apply.personas.profile import BY_NAME, COLUMNS, LITTLE, TASTE, WORD, Floats, Ints, curved
from habitue.apply.wording import percent
from habitue.core.schemas import Features

DIFFERENT = 0.4  # standard deviations from which a difference is worth a word (Cohen 1988: 0.2 small, 0.5 medium)
SURE = 1.96  # two-sided 95 %
PRIOR = 5.0  # lines added to bought and expected, so that two lines make no lift
ALIKE = {"orders_180d": "recency"}  # inactive and quiet say the same in a name
NO_GROUP = "No group"
EFFECTS = {
    "group": pl.Int64,
    "column": pl.String,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "here": pl.Float64,
    "rest": pl.Float64,
}
AGAIN = ((0.75, "comes back almost always"), (0.5, "comes back mostly"), (-1.0, "does not come back"))


def effects(frame: Features, labels: Ints, groups: int) -> pl.DataFrame:
    """Return group, column, difference, low, high, here, rest: the largest difference of a group first.

    Difference: Hedges' g of the group against all other customers, on the scale where the column is compared
    (logarithm, square root), with its 95 % interval (Hedges and Olkin 1985, chapter 5). Here, rest: medians in the
    column's unit. A column that is known of less than half of a group, or of fewer than two others, has no row for it.
    """
    rows = []
    for name in [c.name for c in COLUMNS if c.name in frame.columns] + [
        c for c in frame.columns if c.startswith(TASTE)
    ]:
        values, raw = curved(frame, name), frame[name].to_numpy()
        there = ~np.isnan(values)
        for k in range(groups):
            mine, other = there & (labels == k), there & (labels != k)
            half = 2 * int(mine.sum()) >= int((labels == k).sum())
            told = hedges(values[mine], values[other]) if half else None
            if told is not None:
                middle = [float(np.median(raw[side])) for side in (mine, other)]
                rows.append((k, name, *told, *middle))
    table = pl.DataFrame(rows, schema=EFFECTS, orient="row")
    return table.sort("group", pl.col("difference").abs(), "column", descending=[False, True, False])


def hedges(one: Floats, two: Floats) -> tuple[float, float, float] | None:
    """Return Hedges' g of `one` against `two` with its 95 % interval; None when it cannot be told."""
    n, m = len(one), len(two)
    if min(n, m) < 2:
        return None
    pooled = ((n - 1) * one.var(ddof=1) + (m - 1) * two.var(ddof=1)) / (n + m - 2)
    if pooled < 1e-12:
        return None
    g = float((one.mean() - two.mean()) / np.sqrt(pooled) * (1 - 3 / (4 * (n + m) - 9)))
    error = float(np.sqrt((n + m) / (n * m) + g * g / (2 * (n + m))))
    return g, g - SURE * error, g + SURE * error


def apart(table: pl.DataFrame, group: int) -> pl.DataFrame:
    """Return the rows of `effects` of one group that are large and sure enough for a word."""
    sure = (pl.col("low") > 0) | (pl.col("high") < 0)
    return table.filter(pl.col("group") == group, sure, pl.col("difference").abs() >= DIFFERENT)


def words(
    items: tuple[str, ...], titles: Mapping[str, str], lines: sp.csr_matrix, labels: Ints, groups: int
) -> list[list[str]]:
    """Return for each group the words of its purchases, those that set it apart from the others first.

    Log-odds against the other customers with the words of all as prior, over their standard deviation (Monroe,
    Colaresi and Quinn, "Fightin' words", 2008, equations 16, 20 and 22). A customer counts a product once.
    """
    spoken = [sorted(set(WORD.findall(titles.get(item, "").lower())) - LITTLE) for item in items]
    vocabulary = sorted({word for of in spoken for word in of})
    if not vocabulary or groups < 2:
        return [[] for _ in range(groups)]
    index = {word: i for i, word in enumerate(vocabulary)}
    cells = [(item, index[word]) for item, of in enumerate(spoken) for word in of]
    item, word = np.array(cells).T
    has = sp.csr_matrix((np.ones(len(cells)), (item, word)), shape=(len(items), len(vocabulary)))
    once = lines.maximum(0).sign()  # more sent back than bought is no purchase
    mine = np.stack([_sum(once[labels == k] @ has) for k in range(groups)])  # [K, words]
    every = _sum(once @ has)
    if not every.sum():
        return [[] for _ in range(groups)]
    prior = every / every.sum() * 1000 + 1e-9  # as many words as 1,000 of the shop's
    total, other = mine.sum(axis=1, keepdims=True), every - mine
    a = np.log((mine + prior) / (total + 1000 - mine - prior))
    b = np.log((other + prior) / (every.sum() - total + 1000 - other - prior))
    z = (a - b) / np.sqrt(1 / (mine + prior) + 1 / (other + prior))
    return [[vocabulary[i] for i in np.argsort(-row, kind="stable") if row[i] > SURE] for row in z]


def names(table: pl.DataFrame, spoken: Sequence[Sequence[str]]) -> list[str]:
    """Name each group by its two largest differences and, where its taste differs, a word of its purchases.

    No name comes twice: a group whose name is taken says more of itself, and a number if there is no more to say.
    """
    given: list[str] = []
    for k, mine in enumerate(spoken):
        name = next((n for n in _possible(apart(table, k), mine) if n not in given), None)
        if name is None:
            plain = next(iter(_possible(apart(table, k), mine)))
            name = next(f"{plain} ({i})" for i in range(2, len(spoken) + 2) if f"{plain} ({i})" not in given)
        given.append(name)
    return given


def sentences(table: pl.DataFrame, group: int, *, money_share: float, share: float, spoken: Sequence[str]) -> list[str]:
    """Return two or three plain sentences on one group."""
    mine = {row["column"]: row for row in table.filter(pl.col("group") == group).to_dicts()}
    gap = mine.get("gap_mean")
    once = mine.get("order_count", {}).get("here", 2.0) < 1.5
    rhythm = "Most of them have ordered once" if once or gap is None else f"They order every {gap['here']:,.0f} days"
    money = f"{percent(share, 0)} of the customers, {percent(money_share, 0)} of the money"
    told = [f"{rhythm}: {money}."]
    large = [row for row in apart(table, group).to_dicts() if row["column"] in BY_NAME and row["column"] != "gap_mean"]
    if large:
        said = "; ".join(_said(row["column"], row["here"], row["rest"]) for row in large[:3])
        told.append(f"Typical of them, and in brackets of the rest: {said}.")
    else:
        told.append("In no habit are they clearly different from the rest.")
    if spoken:
        told.append(f"{' and '.join(repr(w) for w in spoken[:2])} set their purchases apart.")
    return told


def again(stability: float) -> str:
    """Say how well a group comes back when the customers are drawn again (limits of Hennig 2008)."""
    return next(text for least, text in AGAIN if stability >= least)


def products(
    items: tuple[str, ...],
    titles: Mapping[str, str],
    lines: sp.csr_matrix,
    labels: Ints,
    given: Sequence[str],
    *,
    lift: float,
    buyers: int,
    shown: int,
) -> pl.DataFrame:
    """Return name, item_id, title, lift, buyers: what a group buys more than its share of all lines, most first.

    Lift: (lines + 5) / (lines expected from all customers + 5), which draws the few towards 1 (after DuMouchel 1999).
    Only products that at least `buyers` customers of the group bought.
    """
    every = _sum(lines) / max(lines.sum(), 1.0)
    rows = []
    for k, name in enumerate(given):
        mine = lines[labels == k]
        raised = (_sum(mine) + PRIOR) / (mine.sum() * every + PRIOR)
        bought = mine.getnnz(axis=0)
        told = np.flatnonzero((bought >= buyers) & (raised >= lift))
        for i in told[np.argsort(-raised[told], kind="stable")][:shown]:
            rows.append((name, items[i], titles.get(items[i], items[i]), float(raised[i]), int(bought[i])))
    schema = {"name": pl.String, "item_id": pl.String, "title": pl.String, "lift": pl.Float64, "buyers": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _possible(large: pl.DataFrame, spoken: Sequence[str]) -> list[str]:
    """Return names from short to long."""
    habits, seen, taste = [], set(), False
    for row in large.to_dicts():
        if row["column"].startswith(TASTE):
            taste = taste or row["difference"] > 0
            continue
        column = BY_NAME[row["column"]]
        about = ALIKE.get(column.name, column.family or column.name)
        if about not in seen:
            seen.add(about)
            habits.append(column.high if row["difference"] > 0 else column.low)
    found = []
    for count in range(2, max(len(habits), 2) + 1):
        for said in (0, 1, 2, 3) if not taste else (1, 2, 3):
            if said <= len(spoken):
                found.append(_name(habits[:count], spoken[:said]))
    return found or [_name(habits[:2], [])]


def _name(habits: Sequence[str], spoken: Sequence[str]) -> str:
    who = f"buyers of {' and '.join(spoken)}" if spoken else "customers"
    text = f"{', '.join(habits)} {who}" if habits else (who if spoken else "customers like all others")
    return text[:1].upper() + text[1:]


def _said(name: str, here: float, rest: float) -> str:
    """'8.1 orders so far (2.0)'."""
    said = BY_NAME[name].said
    number = re.search(r"\{[^}]*\}", said)
    assert number is not None
    return f"{said.format(here)} ({number[0].format(rest)})"


def _sum(matrix: sp.csr_matrix) -> Floats:
    """Sum the rows: one number a column."""
    return np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel()
