"""What everybody buys now, and what stands in one order: counted at a reading, and counted on with every event.

    popularity    purchases of the last `window` days, a product once for each person and moment, as `model.popular`
                  counts them: trend = (purchases + 1) / (those of the busiest + 1). "Now" is the newest purchase, or
                  the moment the model was trained as of where that is later; as it moves on, old purchases leave
    together      orders with two products, and with one: what `shop.together` divides
    follows       what follows what, where the model has such a view (follows.py)

The reading's purchases lie in files (`write`); what came since is held here until the next reading has it. Equal to
counting all of it again (tests/serve/test_counts.py), whatever the order the events come in. For one thread: a reading
makes new Counts beside those that are served, takes into them what it did not hold, and they are exchanged together.
Of an order of more than LONGEST products the rest waits for the next reading.
"""

from __future__ import annotations

import bisect
import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from habitue.core.schemas import PURCHASE
from habitue.model.batches import Doubles
from habitue.model.past import DAY_US, Floats, Ints, placed_once, ranges
from habitue.model.quick import summed
from habitue.prepare.replay import EPOCH
from habitue.serve.follows import Follows
from habitue.serve.mapped import sparse, write_sparse

LONGEST = 200  # products of one order that are paired at once


@dataclass(frozen=True)
class Line:
    """One product of a purchase that came."""

    person: int
    day: float  # days since 1970-01-01 UTC
    item_id: str
    order: str  # order_id, or the event's id without one


def line(event: Mapping[str, Any], person: int) -> Line | None:
    """Return what is counted of a row of EVENTS; None where it is no purchase of a product."""
    if event["kind"] != PURCHASE or event["item_id"] is None:
        return None
    order = event["event_id"] if event["order_id"] is None else event["order_id"]
    return Line(person, (event["at"] - EPOCH) / dt.timedelta(days=1), event["item_id"], order)


def write(
    events: pl.DataFrame,
    items: tuple[str, ...],
    folder: Path,
    *,
    as_of: dt.datetime | None,
    window: float,
    longest: float = 0.0,
) -> None:
    """Write what of clean EVENTS is counted into a folder; joined people under one key. O(purchases log purchases).

    `window`: days of what everybody buys; `longest`: days of another count that is made of the same purchases.
    """
    bought = events.filter(pl.col("kind") == PURCHASE, pl.col("item_id").is_not_null())
    sold = bought.select("at", person="user_key", item="item_id").unique(maintain_order=True).sort("at")
    day = sold["at"].dt.epoch("us").to_numpy() / DAY_US
    now = max(float(day.max(initial=0.0)), 0.0 if as_of is None else as_of.timestamp() / 86_400)
    place = placed_once(items, sold["item"].to_list())
    kept = (place >= 0) & (day >= now - max(window, longest))
    np.save(folder / "sold-day.npy", day[kept])
    np.save(folder / "sold-item.npy", place[kept].astype(np.int32))
    np.save(folder / "sold-person.npy", sold["person"].to_numpy()[kept])
    np.save(folder / "sold-until.npy", np.array([now, window]))
    lines = bought.select(order=pl.coalesce("order_id", "event_id"), item="item_id").unique(maintain_order=True)
    known = placed_once(items, lines["item"].to_list())
    lines = lines.with_columns(place=known).filter(pl.col("place") >= 0)
    orders = lines.select("order").unique(maintain_order=True).with_row_index("row")
    rows = lines.join(orders, on="order", how="left", maintain_order="left")
    ones = np.ones(rows.height, dtype=np.float32)
    shape = (orders.height, len(items))
    baskets = sp.csr_matrix((ones, (rows["row"].to_numpy().astype(np.int64), rows["place"].to_numpy())), shape=shape)
    write_sparse(folder / "orders", baskets)
    write_sparse(folder / "orders-of", baskets.tocsc())
    hashed = orders["order"].hash(seed=0).to_numpy()
    by_hash = np.argsort(hashed, kind="stable")
    np.save(folder / "orders-hash.npy", hashed[by_hash])
    np.save(folder / "orders-row.npy", by_hash.astype(np.int64))


class Window:
    """Purchases of each product in the last days before the newest one."""

    def __init__(self, day: Doubles, item: npt.NDArray[np.int32], size: int, *, now: float, days: float) -> None:
        """Begin with purchases in time: `day` [N] and `item` [N], places below `size`; it is `now`."""
        self._day, self._item, self._days, self.now = day, item, days, now
        self._gone = int(np.searchsorted(day, now - days))  # of them, oldest first
        self._since: list[tuple[float, int]] = []  # day and product of those that came, ascending
        self.sold: npt.NDArray[np.float64] = np.bincount(item[self._gone :], minlength=size).astype(np.float64)

    def sell(self, day: float, place: int) -> bool:
        """Count one more; whether it is within the window."""
        if day < self.now - self._days:
            return False
        bisect.insort(self._since, (day, place))
        self.sold[place] += 1
        if day > self.now:
            self.now = day
            self._let_go(day - self._days)
        return True

    def _let_go(self, first: float) -> None:
        """Take purchases before a moment out of the counts."""
        end = max(int(np.searchsorted(self._day, first)), self._gone)
        np.subtract.at(self.sold, self._item[self._gone : end], 1)
        self._gone = end
        late = bisect.bisect_left(self._since, (first, -1))
        for _, place in self._since[:late]:
            self.sold[place] -= 1
        del self._since[:late]


class Counts:
    """The counts of one reading, and what came since. `trend` [I] moves in place; `version` says that it did."""

    def __init__(self, folder: Path, index: Mapping[str, int], floor: Floats) -> None:
        """Map a written folder; `floor` [I]: what a product is worth without a purchase, 1 where a model counts."""
        self._index, self._floor = index, floor
        self._day, self._item, self._person = (
            np.load(folder / f"sold-{name}.npy", mmap_mode="r") for name in ("day", "item", "person")
        )
        self._now, days = np.load(folder / "sold-until.npy").tolist()
        self._met: set[tuple[int, float, int]] = set()  # person, day, product of those that came
        self._windows: dict[float, Window] = {}
        self._lately = self.window(days)
        self.follows: Follows | None = None  # of a model with sequential rules
        self.trend: Floats = np.zeros(len(index), dtype=np.float32)
        self.version = 0
        self._shown()
        self.baskets: sp.csr_matrix = sparse(folder / "orders", sp.csr_matrix)
        self.orders_of: sp.csc_matrix = sparse(folder / "orders-of", sp.csc_matrix)
        self._hash, self._row = (np.load(folder / f"orders-{name}.npy", mmap_mode="r") for name in ("hash", "row"))
        self.orders: Floats = np.diff(self.orders_of.indptr).astype(np.float32)  # [I] that each product is in
        self.pairs: dict[int, Counter[int]] = defaultdict(Counter)  # product -> another -> orders with both, since
        self._open: dict[str, set[int]] = {}  # orders that grew since -> their products

    def window(self, days: float) -> Window:
        """Return the purchases of the last days, counted on with these counts."""
        if days not in self._windows:
            self._windows[days] = Window(self._day, self._item, len(self._index), now=self._now, days=days)
        return self._windows[days]

    def take(self, lines: Iterable[Line]) -> list[tuple[int, float, int]]:
        """Count on; returns person, day and product of the lines that were not counted yet.

        Constant time for a line, beside its order's products; O(I) once where what everybody buys moved.
        """
        new = []
        for one in lines:
            place = self._index.get(one.item_id)
            if place is None:
                continue
            self._pair(one.order, place)
            if not self._known(one.person, one.day, place):
                new.append((one.person, one.day, place))
                self._met.add(new[-1])
        moved = [window.sell(day, place) for window in self._windows.values() for _, day, place in new]
        if any(moved):
            self._shown()
        return new

    def together(self, item: int) -> tuple[Ints, Floats]:
        """Return the products [N] that are in an order with `item`, ascending, and in how many; itself in all of them.

        O(lines of those orders); nothing is done for the other products of the catalogue.
        """
        with_it = self.orders_of.indices[self.orders_of.indptr[item] : self.orders_of.indptr[item + 1]]
        start, stop = (self.baskets.indptr[with_it + end].astype(np.int64) for end in (0, 1))
        lines = self.baskets.indices[ranges(start, stop)]
        since: Mapping[int, int] = self.pairs.get(item, {})
        met = np.concatenate([lines, np.fromiter(since, dtype=np.int64, count=len(since))])
        orders = np.ones(len(met), dtype=np.float32)
        orders[len(lines) :] = np.fromiter(since.values(), dtype=np.float32, count=len(since))
        return summed(met, orders, len(self.orders))

    def _shown(self) -> None:
        worth = self._lately.sold + self._floor
        self.trend[:] = worth / max(float(worth.max(initial=0)), 1.0)
        self.version += 1

    def _known(self, person: int, day: float, place: int) -> bool:
        """Whether this product of this person at this moment is counted already: an order's second line of it."""
        if (person, day, place) in self._met:
            return True
        first, last = np.searchsorted(self._day, day), np.searchsorted(self._day, day, side="right")
        same = (self._person[first:last] == person) & (self._item[first:last] == place)
        return bool(same.any())

    def _pair(self, order: str, place: int) -> None:
        members = self._open.get(order)
        if members is None:
            members = self._open[order] = self._before(order)
        if place in members or len(members) >= LONGEST:
            return
        for other in members:
            self.pairs[place][other] += 1
            self.pairs[other][place] += 1
        self.pairs[place][place] += 1
        self.orders[place] += 1
        members.add(place)

    def _before(self, order: str) -> set[int]:
        """Return the products that an order had at the reading."""
        hashed = pl.Series([order]).hash(seed=0).to_numpy()[0]
        at = int(np.searchsorted(self._hash, hashed))
        if at >= len(self._hash) or self._hash[at] != hashed:
            return set()
        row = int(self._row[at])
        return set(self.baskets.indices[self.baskets.indptr[row] : self.baskets.indptr[row + 1]].tolist())
