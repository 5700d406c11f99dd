"""What may be known at one moment, as the arrays every model reads.

A model is one file that defines

    Config                                   frozen dataclass of its settings
    ANSWERS                                  frozenset of "rank", "churn", "value"
    fit(past, config, *, runtime) -> State   State: frozen dataclass of arrays, tensors by name, numbers and words
    score(state, past) -> float32[B, I]      when "rank" in ANSWERS: higher = sooner in the next order
    predict(state, past) -> DataFrame        when "churn" in ANSWERS: user_key, churn (probability), value (money)

`past.histories` holds B users, `past.items` I products; answers are in their order.
Axes: B users, S sets, R rows, I items.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from habitue.core.errors import ModelError
from habitue.core.schemas import FEATURES, LABELS, TIMELINE, Features, Labels, Timeline, check
from habitue.encode import content

if TYPE_CHECKING:
    from habitue.model.knowledge import Knowledge

PURCHASE = "Order Completed"
REFUND = "Order Refunded"
TRAITS = "traits"  # the modality of what is known of a person
DAY_US = 86_400_000_000
FOR_EVER = 1e6  # days; a half-life that halves nothing

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Histories:
    """Every user's sets, flat. Users ascend by key; a user's sets ascend by time; rows of a set are distinct items.

    A user may have no set. Sets of user b are `set_start[b]:set_start[b + 1]`, rows of set s are
    `row_start[s]:row_start[s + 1]`.
    """

    user_keys: Ints  # [B]
    set_start: Ints  # [B + 1]
    set_at: npt.NDArray[np.float64]  # [S] days since 1970-01-01 UTC
    set_kind: npt.NDArray[np.int8]  # [S] index into `kinds`
    row_start: Ints  # [S + 1]
    row_item: npt.NDArray[np.int32]  # [R] index into Past.items
    row_quantity: Floats  # [R] units
    row_value: Floats  # [R] money, major units
    kinds: tuple[str, ...] = (PURCHASE, REFUND)

    @property
    def set_user(self) -> Ints:
        """[S] index of the user of each set."""
        return np.repeat(np.arange(len(self.user_keys)), np.diff(self.set_start))

    @property
    def row_set(self) -> Ints:
        """[R] index of the set of each row."""
        return np.repeat(np.arange(len(self.set_at)), np.diff(self.row_start))

    def keep_sets(self, keep: npt.NDArray[np.bool_]) -> Histories:
        """Return the same users with only the sets where `keep` [S] is true."""
        rows = np.repeat(keep, np.diff(self.row_start))
        return self._rebuild(keep, rows)

    def keep_rows(self, keep: npt.NDArray[np.bool_]) -> Histories:
        """Return the same users with only the rows where `keep` [R] is true; a set left empty goes too."""
        left = np.bincount(self.row_set[keep], minlength=len(self.set_at)) > 0
        return self._rebuild(left, keep)

    def of_kind(self, kind: str) -> Histories:
        """Return the same users with only the sets of one kind."""
        index = self.kinds.index(kind) if kind in self.kinds else -1
        return self.keep_sets(self.set_kind == index)

    def before(self, day: float) -> Histories:
        """Return the same users with only the sets strictly before `day` (days since 1970-01-01 UTC)."""
        return self.keep_sets(self.set_at < day)

    def take(self, users: npt.ArrayLike) -> Histories:
        """Return the users at these indices, in this order (an index may repeat)."""
        index = np.asarray(users, dtype=np.int64)
        sets = ranges(self.set_start[index], self.set_start[index + 1])
        rows = ranges(self.row_start[sets], self.row_start[sets + 1])
        return dataclasses.replace(
            self,
            user_keys=self.user_keys[index],
            set_start=_starts(self.set_start[index + 1] - self.set_start[index]),
            set_at=self.set_at[sets],
            set_kind=self.set_kind[sets],
            row_start=_starts(self.row_start[sets + 1] - self.row_start[sets]),
            row_item=self.row_item[rows],
            row_quantity=self.row_quantity[rows],
            row_value=self.row_value[rows],
        )

    def _rebuild(self, sets: npt.NDArray[np.bool_], rows: npt.NDArray[np.bool_]) -> Histories:
        per_user = np.bincount(self.set_user[sets], minlength=len(self.user_keys))
        per_set = np.bincount(self.row_set[rows], minlength=len(self.set_at))[sets]
        return dataclasses.replace(
            self,
            set_start=_starts(per_user),
            set_at=self.set_at[sets],
            set_kind=self.set_kind[sets],
            row_start=_starts(per_set),
            row_item=self.row_item[rows],
            row_quantity=self.row_quantity[rows],
            row_value=self.row_value[rows],
        )


@dataclass(frozen=True)
class Past:
    """Everything that may be known at `as_of`; what a model is fitted on and asked with."""

    as_of: dt.datetime  # UTC; nothing at or after it is in here
    horizon_days: int  # length of the churn and value forecast
    items: tuple[str, ...]  # I products, ascending; may hold products nobody has bought yet
    histories: Histories  # B users, guests too
    known: npt.NDArray[np.bool_]  # [B] False = known only by a guest order: never evaluated, never a churn or value row
    words: (
        sp.csr_matrix | None
    )  # [I, V] unit rows of the products' words (a zero row = no words); None = modality missing
    features: Features  # FEATURES at as_of, known users only
    train_features: Features  # FEATURES at earlier moments whose horizon closed at or before as_of
    train_labels: Labels  # LABELS of the same (user_key, as_of) pairs
    parts: tuple[tuple[str, int], ...] = ()  # of `words`: each modality's name and columns, in order; () = it is one
    traits: Floats | None = None  # [B, U] what is known of the person; a row of zeros = nothing
    knowledge: Knowledge | None = None  # rules of the shop about the products; None = none
    facts: pl.DataFrame | None = None  # [I] what was said first of each product (`prepare.facts`); None = not read

    @property
    def day(self) -> float:
        """`as_of` in days since 1970-01-01 UTC."""
        return self.as_of.timestamp() / 86_400

    def take(self, users: npt.ArrayLike) -> Past:
        """Return the same past, asked about the users at these indices of `histories` only."""
        index = np.asarray(users, dtype=np.int64)
        traits = None if self.traits is None else self.traits[index]
        return dataclasses.replace(self, histories=self.histories.take(index), known=self.known[index], traits=traits)

    @property
    def modalities(self) -> tuple[tuple[str, int], ...]:
        """Name and columns of each modality of `words`; one called "content" where `parts` does not tell them apart."""
        return self.parts or (() if self.words is None else (("content", self.words.shape[1]),))

    def of(self, modalities: Collection[str]) -> Past:
        """Return the same past with only these of its modalities: names of `parts`, and "traits". O(weights).

        Raises ModelError for weights that are NaN or infinite.
        """
        parts = self.modalities
        end = np.cumsum([width for _, width in parts])
        kept = [place for place, (name, _) in enumerate(parts) if name in modalities]
        words = None
        if self.words is not None and kept:
            check_words(self.words)  # a row that holds no number would be taken for one that is missing
            blocks = [self.words[:, end[place] - parts[place][1] : end[place]] for place in kept]
            words = content.unit(sp.csr_matrix(sp.hstack(blocks)))
        return dataclasses.replace(
            self,
            words=words,
            parts=tuple(parts[place] for place in kept),
            traits=self.traits if TRAITS in modalities else None,
        )

    def rewind(self, as_of: dt.datetime) -> Past:
        """Return what was known at an earlier moment: sets before it, labels closed by it.

        FEATURES at that moment are those of `train_features` when they hold it, else none. The catalogue stays.
        """
        earlier = dataclasses.replace(
            self,
            as_of=as_of,
            histories=self.histories.before(as_of.timestamp() / 86_400),
            train_features=self.train_features.filter(pl.lit(False)),
            train_labels=self.train_labels.filter(pl.col("horizon_end") <= as_of),
            features=self.train_features.filter(pl.col("as_of") == as_of),
        )
        pairs = earlier.train_labels.select("user_key", "as_of")
        return dataclasses.replace(
            earlier, train_features=pairs.join(self.train_features, on=["user_key", "as_of"], maintain_order="left")
        )


def histories(timeline: Timeline, items: tuple[str, ...], *, users: npt.ArrayLike | None = None) -> Histories:
    """Flatten TIMELINE into arrays; `items` ascending, rows of products outside it are dropped.

    `users`: keys to hold, in any order (default: everyone in the timeline); one without a set gets an empty history.
    O(rows log items).
    """
    check(timeline, TIMELINE, at="model.histories")
    keys = np.unique(np.asarray(timeline["user_key"] if users is None else users, dtype=np.int64))
    kinds = tuple(dict.fromkeys((PURCHASE, REFUND, *sorted(timeline["kind"].unique().to_list()))))
    sets = timeline.filter(pl.col("user_key").is_in(keys.tolist()), pl.col("item_ids").list.len() > 0)
    sets = sets.sort("user_key", "step").with_row_index("set")
    rows = sets.select("set", "item_ids", "quantities", "values").explode("item_ids", "quantities", "values")
    vocabulary = pl.DataFrame(
        {"item_ids": list(items), "item": np.arange(len(items), dtype=np.int32)},
        schema={"item_ids": pl.String, "item": pl.Int32},
    )
    rows = rows.join(vocabulary, on="item_ids", how="inner", maintain_order="left")
    per_set = np.bincount(rows["set"].to_numpy(), minlength=sets.height)
    owner = np.searchsorted(keys, sets["user_key"].to_numpy())
    every = Histories(
        user_keys=keys,
        set_start=_starts(np.bincount(owner, minlength=len(keys))),
        set_at=sets["at"].dt.epoch("us").to_numpy() / DAY_US,
        set_kind=np.array([kinds.index(k) for k in sets["kind"].to_list()], dtype=np.int8),
        row_start=_starts(per_set),
        row_item=rows["item"].to_numpy().astype(np.int32),
        row_quantity=rows["quantities"].fill_null(0).to_numpy().astype(np.float32),
        row_value=rows["values"].fill_null(0).to_numpy().astype(np.float32),
        kinds=kinds,
    )
    return every.keep_sets(per_set > 0)


def next_sets(every: Histories, *, after: float, until: float, kind: str = PURCHASE) -> sp.csr_matrix:
    """Return each user's first set of `kind` in [after, until) as a 0/1 matrix [B, items seen]; a row may be empty.

    Columns: index into the items `every` was built with (width = largest index + 1; pad as needed).
    """
    wanted = every.of_kind(kind)
    wanted = wanted.keep_sets((wanted.set_at >= after) & (wanted.set_at < until))
    owner = wanted.set_user
    first = np.r_[True, owner[1:] != owner[:-1]] if len(owner) else np.zeros(0, dtype=bool)
    wanted = wanted.keep_sets(first)
    rows = wanted.set_user[wanted.row_set]
    width = int(every.row_item.max()) + 1 if len(every.row_item) else 0
    ones = np.ones(len(rows), dtype=np.float32)
    return sp.csr_matrix((ones, (rows, wanted.row_item)), shape=(len(every.user_keys), width))


def bought(every: Histories, items: int) -> sp.csr_matrix:
    """Return [B, items] 1 where the user bought the item, float32; refunds do not undo a purchase."""
    kept = every.of_kind(PURCHASE)
    place = (kept.set_user[kept.row_set], kept.row_item)
    matrix = sp.csr_matrix((np.ones(len(kept.row_item), dtype=np.float32), place), (len(kept.user_keys), items))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def most_bought(past: Past, count: int) -> Past:
    """Return the same past with only the `count` products bought most often (the first ones where as often); O(rows).

    Rows of the others are gone, and sets that held nothing else. Where there are no more products, the past itself.
    """
    if len(past.items) <= count:
        return past
    bought_rows = past.histories.of_kind(PURCHASE).row_item
    sold = np.bincount(bought_rows, minlength=len(past.items))
    kept = np.sort(np.argsort(-sold, kind="stable")[:count])
    place = np.full(len(past.items), -1, dtype=np.int32)
    place[kept] = np.arange(count, dtype=np.int32)
    every = past.histories.keep_rows(place[past.histories.row_item] >= 0)
    return dataclasses.replace(
        past,
        items=tuple(past.items[i] for i in kept),
        histories=dataclasses.replace(every, row_item=place[every.row_item]),
        words=None if past.words is None else past.words[kept],
        knowledge=None if past.knowledge is None else past.knowledge.take(kept),
        facts=None if past.facts is None else past.facts[kept],
    )


def reads(config: Any) -> list[str]:
    """Return the modalities a model with these settings reads: words where a setting gives them weight or room.

    Of a model of several views those count that are among them.
    """
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    inner = [fields[name] for name in fields.get("views", fields) if dataclasses.is_dataclass(fields.get(name))]
    words = fields.get("words") or fields.get("content") or any("text" in reads(one) for one in inner)
    return ["events", "text"] if words else ["events"]


def places(items: tuple[str, ...], wanted: tuple[str, ...]) -> Ints:
    """Return the index in `items` of each of `wanted`, -1 for one that is not there; O(items + wanted). Read only.

    A server asks with the same two tuples at every answer: the newest few results are kept, by identity.
    """
    pair = (id(items), id(wanted))
    if (kept := _placed.get(pair)) is not None and kept[0] is items and kept[1] is wanted:
        return kept[2]
    found = placed_once(items, wanted)
    found.flags.writeable = False
    _placed[pair] = (items, wanted, found)
    while len(_placed) > PLACED:
        _placed.pop(next(iter(_placed)), None)
    return found


def placed_once(items: Sequence[str], wanted: Sequence[str]) -> Ints:
    """Return the same as `places`, and keep nothing: for tables that nobody asks about again."""
    if items == wanted:
        return np.arange(len(wanted), dtype=np.int64)
    index = {item: place for place, item in enumerate(items)}
    return np.array([index.get(item, -1) for item in wanted], dtype=np.int64)


PLACED = 32
_placed: dict[tuple[int, int], tuple[tuple[str, ...], tuple[str, ...], Ints]] = {}  # holds its tuples: no id is reused


def columns(values: npt.NDArray[np.float32], index: Ints, *, missing: float = 0.0) -> Floats:
    """Return `values` [..., I] with columns picked by `index` (see `places`); a column of -1 is `missing`."""
    if len(index) == values.shape[-1] and np.array_equal(index, np.arange(len(index))):
        return values
    picked = np.full((*values.shape[:-1], len(index)), missing, dtype=np.float32)
    picked[..., index >= 0] = values[..., index[index >= 0]]
    return picked


def purchases(past: Past, items: tuple[str, ...], *, half_life_days: float, cap: float = np.inf) -> sp.csr_matrix:
    """Add up each user's purchases of each of `items`, float32 csr [B, items], columns ascending in a row.

    A purchase is worth 1 at `as_of` and half as much `half_life_days` earlier; a sum above `cap` is cut to it.
    Products outside `items` do not count. O(rows).
    """
    bought = past.histories.of_kind(PURCHASE)
    column = places(items, past.items)[bought.row_item]
    met = column >= 0
    row_set = bought.row_set[met]
    worth = 0.5 ** ((past.day - bought.set_at[row_set]) / half_life_days)
    shape = (len(bought.user_keys), len(items))
    matrix = sp.csr_matrix((worth.astype(np.float32), (bought.set_user[row_set], column[met])), shape=shape)
    matrix.sum_duplicates()
    matrix.data = np.minimum(matrix.data, np.float32(cap))
    return matrix


def freshness(past: Past, *, window_days: float) -> Floats:
    """Return [I] (sales of the last `window_days` + 1) / (all sales + 5): a product that fades has a small one.

    The numbers added keep a product of few sales near the middle, where nothing is known of it.
    """
    bought = past.histories.of_kind(PURCHASE)
    late = bought.keep_sets(bought.set_at >= past.day - window_days)
    ever, recent = (np.bincount(h.row_item, minlength=len(past.items)) for h in (bought, late))
    fresh: Floats = ((recent + 1) / (ever + 5)).astype(np.float32)
    return fresh


def check_past(past: Past) -> None:
    """Hold the tables inside `past` against their contracts. Raises SchemaError."""
    check(past.features, FEATURES, at="model.past.features")
    check(past.train_features, FEATURES, at="model.past.train_features")
    check(past.train_labels, LABELS, at="model.past.train_labels")


def check_words(words: sp.csr_matrix) -> None:
    """Raise ModelError for words' weights that are NaN or infinite; O(weights)."""
    if not np.isfinite(words.data).all():
        raise ModelError(
            "the products' words",
            found=f"{int((~np.isfinite(words.data)).sum()):,} weights are NaN or infinite",
            consequence="Every score that reads them would become NaN",
            remedy="Mend what encodes the words, or leave them out (a model's setting 'words' or 'content' = 0)",
        )


def check_traits(past: Past) -> None:
    """Raise ModelError for traits that are not a row of finite numbers a user."""
    told, users = past.traits, len(past.histories.user_keys)
    if told is not None and (told.ndim != 2 or len(told) != users or not np.isfinite(told).all()):
        raise ModelError(
            "the customers' traits",
            found=f"numbers of the shape {told.shape} for {users:,} customers"
            if told.ndim != 2 or len(told) != users
            else f"{int((~np.isfinite(told)).sum()):,} numbers are NaN or infinite",
            consequence="What is known of whom could not be told",
            remedy="Give every customer a row of finite numbers, of zeros where nothing is known",
        )


def _starts(counts: npt.NDArray[np.int64]) -> Ints:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])


def ranges(start: Ints, end: Ints) -> Ints:
    """Concatenate the ranges start[i]:end[i]; O(length of the answer)."""
    counts = end - start
    offsets = np.repeat(start - _starts(counts)[:-1], counts)
    return np.arange(int(counts.sum()), dtype=np.int64) + offsets
