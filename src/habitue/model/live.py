"""One customer kept up to date: a set is appended, a question is asked, and nothing else is computed again.

    reader = live.reader(state, past)            once: the trained model, its products in the order of `past.items`
    memory = live.begin(reader)                  a customer nobody has met
    memory = live.append(reader, memory, at=..., kind=..., items=..., quantities=..., values=...)
    scores = live.ask(reader, memory, at=..., traits=...)      float32 [I], what `behaviour.score` says of the same

A memory is plain arrays and numbers: what the sets of the newest stretch show to later tokens (in each block keys and
values, or the fading state), and what the numbers and the repeats of a question are counted from. Its size has a bound,
whatever the length of the history: with the settings' width D, window W and `blocks` blocks some

    4 W D (1 + 2 blocks) bytes for attention,  4 W D + 4 blocks D^2 / heads for the recurrent block,

80 and 32 KB at the defaults, and 8 bytes a product of the newest W sets. `append` costs O(W D) a block and once in
W / 2 sets, when the stretch is full and begins again with its newest half (`batches.first_in_sight`), O(W^2 D).
Softmax blocks are read in NumPy (swift.py), several times as fast for a single token.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from habitue.core.errors import ModelError
from habitue.model import batches, behaviour, swift
from habitue.model.batches import Doubles, Group, Questions
from habitue.model.blocks import Block
from habitue.model.encoder import AGAIN_DAYS, Model
from habitue.model.past import PURCHASE, REFUND, Floats, Histories, Ints, Past


@dataclass(frozen=True)
class Reader:
    """A trained model made ready; the same for all customers, and read by many threads at once."""

    state: behaviour.State
    model: Model
    blocks: tuple[Block, ...]
    products: Floats  # [I, E], see behaviour.opened; column by column, which is multiplied whole in half the time
    swift: swift.Weights | None  # None: its blocks are of another kind than softmax


@dataclass(frozen=True)
class Memory:
    """What is kept of a customer; k <= window newest sets with r products, t <= k of them in the stretch."""

    sets: int  # ever
    orders: int  # purchases ever
    cents: int  # money ever, hundredths of a unit
    first_at: float  # days since 1970-01-01 UTC, as all moments
    ordered_at: Doubles  # moments of the newest purchases, batches.RECENT at most
    at: Doubles  # [k]
    bought: npt.NDArray[np.bool_]  # [k] the set is a purchase
    size: Ints  # [k] products
    item: npt.NDArray[np.int32]  # [r] places in `past.items`
    quantity: Floats  # [r]
    pause: Floats  # [t] days since the set before
    tokens: Floats  # [t, D] what the first block reads
    shown: tuple[Floats, ...]  # one a block: what later tokens see
    answer: Floats  # [D] of the newest set, without a clock; what is known of the person is not in it

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = [value for value in vars(self).values() if isinstance(value, np.ndarray)]
        return sum(array.nbytes for array in (*arrays, *self.shown))


def reader(state: behaviour.State, past: Past, *, some: bool = False) -> Reader:
    """Make a trained model ready to be asked about the products of `past`; nothing else of `past` is read.

    `some`: it will be asked about some products at a time, whose rows then lie together.
    """
    model, products = behaviour.opened(state, past)
    blocks = tuple(block for block in model.blocks if isinstance(block, Block))
    products = products if some else np.asfortranarray(products)
    return Reader(state, model, blocks, products, swift.weights(model))


def begin(reader: Reader) -> Memory:
    """Return the memory of a customer nobody has met."""
    width = reader.state.config.width
    none = np.zeros(0)
    return Memory(
        sets=0,
        orders=0,
        cents=0,
        first_at=0.0,
        ordered_at=none,
        at=none,
        bought=none.astype(np.bool_),
        size=none.astype(np.int64),
        item=none.astype(np.int32),
        quantity=none.astype(np.float32),
        pause=none.astype(np.float32),
        tokens=np.zeros((0, width), dtype=np.float32),
        shown=tuple(block.begin().detach().numpy() for block in reader.blocks),
        answer=np.zeros(width, dtype=np.float32),
    )


def append(
    reader: Reader,
    memory: Memory,
    *,
    at: float,
    kind: str,
    items: npt.ArrayLike,
    quantities: npt.ArrayLike,
    values: npt.ArrayLike,
) -> Memory:
    """Return the memory after one set more; the one given stays as it was.

    at: days since 1970-01-01 UTC, not before the newest set; kind: a name as in TIMELINE; items: places in
    `past.items`, each once; quantities in units, values in major units of money, one an item. A set is appended whole:
    what belongs to one basket comes in one call. Raises ModelError for a set that is none.
    """
    after, gone = _met_one_more(reader, memory, at, kind, items, quantities, values)
    return _read(reader, after, whole=gone > 0)


@dataclass(frozen=True)
class Set:
    """What `append` takes, for `resume`."""

    at: float
    kind: str
    items: Sequence[int] | Ints
    quantities: Sequence[float] | Floats
    values: Sequence[float] | Floats


def resume(reader: Reader, sets: Iterable[Set]) -> Memory:
    """Return the memory after a whole history, as one `append` a set would leave it; the blocks read its end alone.

    O(sets + W^2 D). Raises ModelError for a set that is none.
    """
    memory = begin(reader)
    for one in sets:
        memory, _ = _met_one_more(reader, memory, one.at, one.kind, one.items, one.quantities, one.values)
    return _read(reader, memory, whole=True) if memory.sets else memory


def recall(reader: Reader, history: Histories) -> Memory:
    """Return the memory after a whole history of one customer, as `resume` of its sets, all of them at once.

    O(rows + W^2 D), a millisecond where `resume` takes a tenth of one a set. Nothing is checked: the places are those
    of a catalogue, the sets in time.
    """
    sets, window, kinds = len(history.set_at), reader.state.config.window, history.kinds
    if reader.swift is None or not sets:
        edges = zip(history.row_start[:-1], history.row_start[1:], strict=True)
        item, columns = history.row_item.astype(np.int64), (history.row_quantity, history.row_value)
        return resume(
            reader,
            (
                Set(float(history.set_at[s]), kinds[history.set_kind[s]], item[a:b], columns[0][a:b], columns[1][a:b])
                for s, (a, b) in enumerate(edges)
            ),
        )
    state = reader.state
    known = batches.known(history, season=state.season, clock=state.config.clock)
    newest, first = max(sets - window, 0), int(batches.first_in_sight(np.array([sets]), window)[0])
    orders = history.set_at[history.set_kind == kinds.index(PURCHASE)]
    rows = history.row_start[newest]
    numbers = known.numbers[first:] if state.config.clock else np.zeros((sets - first, batches.NUMBERS), np.float32)
    memory = Memory(
        sets=sets,
        orders=len(orders),
        cents=int(known.cents[-1]),
        first_at=float(history.set_at[0]),
        ordered_at=orders[-batches.RECENT :],
        at=history.set_at[newest:],
        bought=history.set_kind[newest:] == kinds.index(PURCHASE),
        size=np.diff(history.row_start[newest:]),
        item=history.row_item[rows:],
        quantity=history.row_quantity[rows:],
        pause=np.expm1(numbers[:, 0]),
        tokens=_tokens(reader, reader.swift, history, first, numbers),
        shown=(np.zeros((0, 0), dtype=np.float32),) * len(reader.blocks),
        answer=np.zeros(state.config.width, dtype=np.float32),
    )
    return _read(reader, memory, whole=True)


def _tokens(reader: Reader, w: swift.Weights, history: Histories, first: int, numbers: Floats) -> Floats:
    """Return what the first block reads of the sets from `first` on, [t, D]."""
    at, own = history.set_at[first:], reader.state.kinds
    start = history.row_start[first:]
    baskets = np.add.reduceat(w.items[history.row_item[start[0] :]], start[:-1] - start[0], axis=0)
    baskets = (baskets / np.diff(start)[:, None]).astype(np.float32)
    places = np.array([own.index(kind) if kind in own else len(own) for kind in history.kinds])
    hour, weekday = (at % 1 * 24).astype(np.int64), ((np.floor(at) + 3) % 7).astype(np.int64)
    return swift.token(w, baskets, places[history.set_kind[first:]], hour, weekday, numbers)


def _met_one_more(
    reader: Reader,
    memory: Memory,
    at: float,
    kind: str,
    items: npt.ArrayLike,
    quantities: npt.ArrayLike,
    values: npt.ArrayLike,
) -> tuple[Memory, int]:
    """Return the memory with a set more that no block has read, and how many sets left the stretch."""
    item = np.asarray(items, dtype=np.int32)
    quantity, money = np.asarray(quantities, dtype=np.float32), np.asarray(values, dtype=np.float32)
    _check(reader, memory, at, item, quantity, money)
    state = reader.state
    own = int(np.rint(money.astype(np.float64) * 100).sum())
    numbers = _numbers(memory, state, at, size=len(item), money=own / 100)
    purchase = kind == PURCHASE
    old, new = (batches.first_in_sight_of(count, state.config.window) for count in (memory.sets, memory.sets + 1))
    gone = new - old  # sets that leave the stretch
    late = max(len(memory.at) + 1 - state.config.window, 0)  # sets that leave the window
    rows = int(memory.size[:late].sum())
    after = Memory(
        sets=memory.sets + 1,
        orders=memory.orders + purchase,
        cents=memory.cents + own,
        first_at=memory.first_at if memory.sets else at,
        ordered_at=_with(memory.ordered_at, at, start=1 - batches.RECENT) if purchase else memory.ordered_at,
        at=_with(memory.at, at, start=late),
        bought=_with(memory.bought, purchase, start=late),
        size=_with(memory.size, len(item), start=late),
        item=np.concatenate([memory.item, item])[rows:],
        quantity=np.concatenate([memory.quantity, quantity])[rows:],
        pause=_with(memory.pause, np.expm1(numbers[0]), start=gone),
        tokens=_with(memory.tokens, _token(reader, item, kind, at, numbers), start=gone),
        shown=memory.shown,
        answer=memory.answer,
    )
    return after, gone


def _with(kept: npt.NDArray[Any], one: Any, *, start: int = 0) -> npt.NDArray[Any]:
    """Return what is kept from `start` on, and one more at the end, in half the time of `np.append`."""
    kept = kept[start:]
    found = np.empty((len(kept) + 1, *kept.shape[1:]), dtype=kept.dtype)
    found[:-1] = kept
    found[-1] = one
    return found


def _token(reader: Reader, item: npt.NDArray[np.int32], kind: str, at: float, numbers: Floats) -> Floats:
    """Return what the first block reads of a set, [D]."""
    state, model = reader.state, reader.model
    place = state.kinds.index(kind) if kind in state.kinds else len(state.kinds)
    hour, weekday = int(at % 1 * 24), int((math.floor(at) + 3) % 7)
    if reader.swift is not None:
        return swift.token(reader.swift, reader.swift.items[item].mean(0), place, hour, weekday, numbers)
    with torch.inference_mode():
        basket = model.items[torch.from_numpy(item.astype(np.int64))].mean(0, keepdim=True)
        said = torch.tensor([[place], [hour], [weekday]])
        found: Floats = model.tokens(basket, said[0], said[1], said[2], torch.from_numpy(numbers)[None])[0].numpy()
    return found


def ask(reader: Reader, memory: Memory, *, at: float, traits: Floats | None = None) -> Floats:
    """Return float32 [I], logits of the customer's next set at `at`; O(W D + I D).

    `traits`: what is known of the person [1, U], as `Past` has it; None = nothing.
    A customer without a set gets what `behaviour.answers` says of a stranger. Raises ModelError when `at` is not after
    the newest set: a question sees only what came strictly before it.
    """
    asked = query(reader, memory, at=at, traits=traits)
    scores: Floats = reader.products @ asked.vector
    scores[asked.item] += asked.gain
    return scores


@dataclass(frozen=True)
class Query:
    """A question to the products: each one's logit is its row of `Reader.products` times `vector`, and its gain."""

    vector: Floats  # [E]
    item: Ints  # [n] products of the history, ascending; none where the model knows no gain
    gain: Floats  # [n] what they gain for being in it


def query(reader: Reader, memory: Memory, *, at: float, traits: Floats | None = None) -> Query:
    """Return what products are multiplied with at `at`; O(W D). Raises ModelError as `ask` does."""
    if memory.sets and not at > memory.at[-1]:
        raise ModelError(
            "model.live",
            found="the question's moment is not after the customer's newest set",
            consequence="A question sees only what came strictly before it, and the set is in the memory already",
            remedy="Ask at a later moment, or with the memory from before that set",
        )
    state = reader.state
    vector = np.zeros(reader.products.shape[1], dtype=np.float32)
    width = state.config.width
    if state.config.clock:
        answer, trend = _question(reader, memory, at, traits)
        vector[:width], vector[width:] = answer, trend
    else:
        answer = _whole(reader, memory.answer, traits) if memory.sets else memory.answer
        vector[:width], vector[width] = answer, not memory.sets
    if not (state.again and memory.sets):
        return Query(vector, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))
    _, item, met = batches.met_before(*_met(memory, at), AGAIN_DAYS, state.config.window)
    return Query(vector, item, _gain(reader, answer, item, met))


def _gain(reader: Reader, answer: Floats, item: Ints, met: Floats) -> Floats:
    """Return [n] what products gain for being in the history."""
    if reader.swift is not None:
        return swift.gain(reader.swift, answer, item, met)
    with torch.inference_mode():
        places, asked = torch.from_numpy(item), torch.from_numpy(answer)[None]
        told = reader.model.gain(asked, torch.zeros_like(places), places, torch.from_numpy(met))
        found: Floats = told.value.numpy()
    return found


def _read(reader: Reader, memory: Memory, *, whole: bool) -> Memory:
    """Let the newest set be read by every block; `whole`: the stretch began anew, read all of it."""
    sets = len(memory.tokens)
    new = range(sets) if whole else range(sets - 1, sets)
    clock, rows = reader.state.config.clock, [memory.tokens[token] for token in new]
    deepest = len(memory.shown) - 1
    read = [None if whole else shown for shown in memory.shown]
    for place in range(len(read)):
        needed = place < deepest or not clock  # with a clock nobody asks what the last block makes of a set
        read[place], rows = _through(reader, place, rows, read[place], memory, needed=needed)
    answer = memory.answer if clock else _left(reader, rows[-1])
    return dataclasses.replace(memory, shown=tuple(shown for shown in read if shown is not None), answer=answer)


def _through(
    reader: Reader, place: int, rows: list[Floats], seen: Floats | None, memory: Memory, *, needed: bool
) -> tuple[Floats, list[Floats]]:
    """Let the newest sets, `rows` [D] each, go through one block; returns what it remembers then, and the rows after.

    `seen`: what it remembers of the sets before; None = these are all sets of the stretch.
    """
    at, clock = memory.at[-len(memory.tokens) :], reader.state.config.clock
    first = len(at) - len(rows)
    if reader.swift is not None:
        layer = reader.swift.layers[place]
        if seen is None:
            whole = np.stack(rows)
            after = list(swift.stretch(layer, whole, at if clock else None)) if needed else rows
            return swift.remember(layer, whole), after
        shown = _with(seen, swift.remember(layer, rows[0]))  # a set of its own, after all others
        if needed:
            rows = [swift.look(layer, rows[0], shown, at[-1] - at if clock else None)]
        return shown, rows
    block, left = reader.blocks[place], []
    with torch.inference_mode():
        state = block.begin() if seen is None else torch.from_numpy(seen)
        for token, row in enumerate(rows, first):
            x, pause = torch.from_numpy(row)[None], torch.from_numpy(memory.pause[token : token + 1])
            state = block.remember(x, pause, state)
            if needed:
                x = block.look(x, pause, state, _sight(at[: token + 1], at[token], clock))
            left.append(x[0].numpy())
    return state.numpy(), left


def _left(reader: Reader, x: Floats) -> Floats:
    """Return what the last layer makes of a token."""
    if reader.swift is not None:
        return swift.normed(x, reader.swift.exit)
    with torch.inference_mode():
        found: Floats = reader.model.exit(torch.from_numpy(x)).numpy()
    return found


def _whole(reader: Reader, answer: Floats, traits: Floats | None) -> Floats:
    """Return the answer [D] joined with what is known of the person [1, U]."""
    if reader.model.who is None:
        return answer
    with torch.inference_mode():
        known = None if traits is None else torch.from_numpy(np.array(traits))
        found: Floats = reader.model.whole(torch.from_numpy(answer)[None], known)[0].numpy()
    return found


def _question(reader: Reader, memory: Memory, at: float, traits: Floats | None) -> tuple[Floats, Floats]:
    """Return the vector of a question at a moment [D], and how much each trend counts for it [K]."""
    state, model = reader.state, reader.model
    numbers = _numbers(memory, state, at)
    when = memory.at[len(memory.at) - len(memory.tokens) :]
    place = len(state.kinds) + 1
    if reader.swift is not None:
        w = reader.swift
        x = swift.token(w, None, place, 0, 0, numbers)
        for layer, shown in zip(w.layers, memory.shown, strict=True):
            x = swift.look(layer, x, shown, at - when)
        x = _whole(reader, swift.normed(x, w.exit), traits)
        return x, x @ w.trend[0] + w.trend[1]
    with torch.inference_mode():
        nobody, told = torch.zeros(0, dtype=torch.int64), torch.from_numpy(numbers)[None]
        token = model.tokens(torch.zeros(0, state.config.width), torch.tensor([place]), nobody, nobody, told)
        sight = _sight(when, at, clock=True, asks=True)
        for block, shown in zip(reader.blocks, memory.shown, strict=True):
            token = block.look(token, told[:, 0].expm1(), torch.from_numpy(shown), sight)
        asked = torch.from_numpy(_whole(reader, model.exit(token)[0].numpy(), traits))
        return asked.numpy(), model.trend(asked).numpy()


def _sight(at: Doubles, now: float, clock: bool, *, asks: bool = False) -> Group:
    """Return a group of one token that sees all sets of a stretch."""
    back = torch.arange(len(at), 0, -1)[None, None]
    gap = torch.from_numpy(batches.gaps(now - at))[None, None] if clock else None
    ones = torch.ones(1, 1) if asks else None
    return Group(torch.zeros(1, 1, dtype=torch.int64), torch.arange(len(at))[None], back, gap, ones)


def _numbers(memory: Memory, state: behaviour.State, at: float, *, size: int = 0, money: float = 0.0) -> Floats:
    """Return what is known at a moment of the sets before it, [NUMBERS], as `batches.scaled` tells it."""
    if not state.config.clock:
        return np.zeros(batches.NUMBERS, dtype=np.float32)
    known, orders = memory.sets > 0, memory.orders
    tenure = at - memory.first_at if known else 0.0
    angle = at / batches.YEAR * 2 * math.pi
    recent = (int(np.count_nonzero(memory.ordered_at >= at - days)) for days in batches.RECENT_DAYS)
    numbers = [
        math.log1p(at - float(memory.at[-1]) if known else batches.NEVER),
        math.log1p(tenure),
        math.log1p(orders),
        math.log1p(size),
        math.copysign(math.log1p(abs(money)), money) if money else 0.0,
        math.log1p(max(memory.cents / 100, 0.0) / max(orders, 1)),
        *(math.log1p(min(count, batches.RECENT)) for count in recent),
        math.log1p(tenure / max(orders, 1)),
        known,
        math.sin(angle) * state.season,
        math.cos(angle) * state.season,
    ]
    return np.array(numbers, dtype=np.float32)


def _met(memory: Memory, at: float) -> tuple[Histories, Questions]:
    """Return the newest sets as a history of one user, and a question that sees them all."""
    sets = len(memory.at)
    history = Histories(
        user_keys=np.zeros(1, dtype=np.int64),
        set_start=np.array([0, sets]),
        set_at=memory.at,
        set_kind=np.where(memory.bought, 0, 1).astype(np.int8),
        row_start=np.r_[0, np.cumsum(memory.size)],
        row_item=memory.item,
        row_quantity=memory.quantity,
        row_value=np.zeros(len(memory.item), dtype=np.float32),
        kinds=(PURCHASE, REFUND),
    )
    zero = np.zeros(1, dtype=np.int64)
    end = np.array([sets])
    return history, Questions(start=zero, end=end, user=zero, of=zero, before=end, at=np.array([at]), ranked=1)


def _check(
    reader: Reader, memory: Memory, at: float, item: npt.NDArray[np.int32], quantity: Floats, money: Floats
) -> None:
    """Raise ModelError for a set that is none."""
    found, places = "", item.tolist()  # few: plain numbers are looked at in less time than arrays
    if not len(item) or item.ndim != 1 or not item.shape == quantity.shape == money.shape:
        found = "it has no product, or not one quantity and one value for each"
    elif min(places) < 0 or max(places) >= len(reader.products) or len(set(places)) < len(places):
        found = f"a product is not one of the {len(reader.products):,} of the catalogue, or stands in it twice"
    elif not all(map(math.isfinite, (at, *quantity.tolist(), *money.tolist()))):
        found = "a quantity, a value or its moment is no finite number"
    elif memory.sets and at < memory.at[-1]:
        found = "it came before the customer's newest set"
    if found:
        raise ModelError(
            "model.live, a set to append",
            found=found,
            consequence="What is kept of the customer would no longer be what the whole history gives",
            remedy="Leave out what is not in the catalogue, add up what stands twice, and append sets by time",
        )
