"""Who bought what as a graph along which products' vectors are smoothed (LightGCN, He et al., SIGIR 2020).

S = D_u^-1/2 R D_i^-1/2 is the graph: R says who bought what, D how many edges each has. A trip from products to users
and back is eq. 7 applied twice, S'S: no weights, no activation. A product's vector is the mean over trips 0 ... K
(eq. 8), its own, of trip 0, at the weight `own` (1 in the paper). Two tables are learnt and smoothed so: a product as a
reason, and a product to buy. With words a part of each trip goes to the products told in the same words instead; so a
product that nobody has bought gets its vector from those.

A user has no vector of its own to learn, as it has in the paper. It is asked with eq. 3 for its history of that
moment: the sum of the reasons in it, each times D_i^-popularity of the fit (1/2 in the paper; less lets popular
products say more) and worth less the older the purchase is. So a new user or a longer history needs no new fit; the
products' vectors stay those of the fit. A score is the cosine over a temperature. Every purchase but a user's first is
foretold from what was before it, by the softmax over all products.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from habitue.core.runtime import Runtime
from habitue.core.settings import check_range, tuned
from habitue.model import train
from habitue.model.bags import Bags, lessons, scores
from habitue.model.losses import half_is_quick, set_cross_entropy
from habitue.model.neighbours import largest_of_rows, product
from habitue.model.past import FOR_EVER, Floats, Past, check_words, purchases
from habitue.model.streams import UNSOLD, fingerprint

ANSWERS = frozenset({"rank"})
SEEDED = True  # another seed is another model

ALIKE = 20  # products that words join to each


@dataclass(frozen=True)
class Config:
    """Settings, picked on the validation of Beauty and of Online Retail (LOG.md, "graph")."""

    width: int = tuned(64, values=(32, 64, 128))
    trips: int = tuned(1, 0, 2)  # from products to users and back; 0 = no graph
    own: float = tuned(0.1, 0.01, 1, log=True)  # weight of a product's vector before any trip
    popularity: float = tuned(0.2, 0.0, 0.6)  # power of a product's edges that divides it as a reason
    half_life_days: float = tuned(FOR_EVER, 7, FOR_EVER, log=True)  # of a purchase as an edge
    history_half_life_days: float = tuned(120.0, 0.5, FOR_EVER, log=True)  # of a purchase as a reason
    temperature: float = tuned(0.1, 0.03, 0.5, log=True)
    words: float = tuned(0.2, 0, 1)  # part of a trip that goes along words; 0 = ids only
    steps: int = tuned(300, 100, 3000, log=True)
    queries: int = 1024  # a step
    learning_rate: float = tuned(3e-2, 1e-3, 1e-1, log=True)

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing here. Raises SettingsError."""
        half_lives = ("half_life_days", "history_half_life_days")
        positive = ("width", "own", *half_lives, "temperature", "queries", "learning_rate")
        check_range(self, positive=positive, not_negative=("trips", "steps"), share=("words",))


# Without a clock a "day" is one step of a user's sequence (bench/sequences.py); LOG.md, "graph".
SEQUENCE = Config(history_half_life_days=2.0, words=0.5)


@dataclass(frozen=True)
class State:
    """Smoothed vectors of the products that sales or words have reached."""

    items: tuple[str, ...]
    reasons: Floats  # [I, D] times edges ^ -popularity
    goods: Floats  # [I, D] of length 1 / temperature
    history_half_life_days: float
    steps: int  # trained; fewer than in the settings where the budget of CPU time ended


@dataclass(frozen=True)
class Graph:
    """The edges, normalised; sparse tensors."""

    there: Tensor  # [B, I] S, from products to users
    back: Tensor  # [I, B] its transpose
    alike: Tensor  # [I, I] edges of words, symmetric, the largest eigenvalue at most 1
    config: Config

    def smooth(self, table: Tensor) -> Tensor:
        """Return the mean of the table [I, D] after 0, 1, ... `trips` trips; O(trips x edges x D)."""
        config, here = self.config, table
        total = config.own * table
        for _ in range(config.trips):
            by_users = _product(self.back, self.there, _product(self.there, self.back, here))
            by_words = _product(self.alike, self.alike, here) if config.words else 0.0
            here = (1 - config.words) * by_users + config.words * by_words
            total = total + here
        return total / (config.own + config.trips)

    def to(self, device: str) -> Graph:
        """Return the graph on a device."""
        return Graph(self.there.to(device), self.back.to(device), self.alike.to(device), self.config)


class Model(nn.Module):
    """The two vectors of each product, before they are smoothed."""

    def __init__(self, config: Config, *, sold: Tensor) -> None:
        super().__init__()
        # `sold` [I] is 0 or 1: a product without sales starts without a vector of its own.
        start = torch.randn(2, len(sold), config.width) * sold[:, None]
        self.reasons, self.goods = (nn.Parameter(table) for table in start / config.width**0.5)

    def forward(self, graph: Graph, scale: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Return reasons and goods [I, D] as they are asked; scale [I]."""
        reasons, goods = graph.smooth(self.reasons), graph.smooth(self.goods)
        return reasons * scale[:, None], F.normalize(goods, dim=1) / temperature


def fit(
    past: Past,
    config: Config,
    *,
    runtime: Runtime,
    folder: Path | None = None,
    progress: train.Progress | None = None,
) -> State:
    """Train for `config.steps` steps, each over the whole graph; about 130 ms for Beauty's 154,000 edges on one core.

    A step costs 8 x trips x edges x D multiplications for the graph and 6 x queries x I x D for the softmax. `folder`,
    `progress`: see train.run. Same seed, machine, build and threads: the same State, bit for bit. Raises ModelError
    when nobody bought twice.
    """
    taught = lessons(past, model="model.graph")
    bought = purchases(past, past.items, half_life_days=config.half_life_days, cap=1)
    edges = np.asarray(bought.sum(axis=0)).ravel()
    sold = torch.from_numpy((edges > 0).astype(np.float32))
    scale = torch.from_numpy(np.maximum(edges, 1) ** np.float32(-config.popularity)).to(runtime.device)
    bias = ((1 - sold) * UNSOLD).to(runtime.device)
    graph = edges_of(bought, past.words, config).to(runtime.device)
    half = half_is_quick(runtime.device)

    with train.seeded(runtime.seed), train.threads(runtime.threads):
        model = Model(config, sold=sold).to(runtime.device)

        def loss(step: int) -> tuple[Tensor, int]:
            chosen = taught.drawn(step, config.queries, seed=runtime.seed)
            before, wanted = taught.asked(chosen, half_life_days=config.history_half_life_days, device=runtime.device)
            reasons, goods = model(graph, scale, config.temperature)
            users = F.normalize(before.total(reasons), dim=1)
            weight = users.new_full((len(users),), 1 / len(users))
            told = set_cross_entropy(users, goods, target=wanted, weight=weight, bias=bias, half=half)
            return told, len(users)

        trained = train.run(
            model,
            loss,
            train.Schedule(config.steps, config.learning_rate),
            seed=runtime.seed,
            folder=folder,
            fingerprint=fingerprint(past, config, runtime) if folder else "",
            progress=progress,
            budget_s=runtime.budget_s,
        )
        with torch.inference_mode():
            reasons, goods = (table.cpu().numpy() for table in model(graph, scale, config.temperature))
    reached = goods.any(axis=1)
    return State(
        items=tuple(item for item, there in zip(past.items, reached, strict=True) if there),
        reasons=reasons[reached],
        goods=goods[reached],
        history_half_life_days=config.history_half_life_days,
        steps=trained.steps,
    )


def score(state: State, past: Past) -> Floats:
    """Return float32 [B, I], logits of the next set; O(rows x D + B x I x D).

    A user without a history gets the same score for everything; a product that neither sales nor words have joined to
    the others at the fit gets the lowest of its row.
    """
    reasons, goods = torch.from_numpy(state.reasons), torch.from_numpy(state.goods)

    def answer(asked: Bags) -> Tensor:
        return F.normalize(asked.total(reasons), dim=1) @ goods.T

    return scores(past, state.items, answer, half_life_days=state.history_half_life_days)


def edges_of(bought: sp.csr_matrix, words: sp.csr_matrix | None, config: Config) -> Graph:
    """Return the graph of who bought what [B, I], and of the ALIKE nearest products by words [I, V]."""
    users, items = (np.asarray(bought.sum(axis=axis)).ravel() for axis in (1, 0))
    normal = sp.diags_array(_power(users, -0.5)) @ bought @ sp.diags_array(_power(items, -0.5))
    if words is None or not words.nnz or not config.words:
        nothing = sp.csr_matrix((len(items),) * 2, dtype=np.float32)
        return Graph(_sparse(normal), _sparse(normal.T), _sparse(nothing), dataclasses.replace(config, words=0.0))
    check_words(words)
    near = largest_of_rows(product(words, words.T), len(items), ALIKE)
    near = near.maximum(near.T)
    length = sp.diags_array(_power(np.asarray(near.sum(axis=1)).ravel(), -0.5))
    return Graph(_sparse(normal), _sparse(normal.T), _sparse(length @ near @ length), config)


class _Product(torch.autograd.Function):
    """matrix @ table for a sparse matrix whose transpose is at hand: the gradient is as cheap, and needs no sorting."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, table: Tensor) -> Tensor:
        ctx.transposed = transposed
        product: Tensor = torch.sparse.mm(matrix, table)
        return product

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, None, Tensor]:
        return None, None, torch.sparse.mm(ctx.transposed, upstream[0])


def _product(matrix: Tensor, transposed: Tensor, table: Tensor) -> Tensor:
    product: Tensor = _Product.apply(matrix, transposed, table)  # type: ignore[no-untyped-call]
    return product


def _power(counts: Floats, power: float) -> Floats:
    """Return counts ^ power, 0 for a count of 0."""
    powered: Floats = np.where(counts > 0, np.maximum(counts, 1e-12) ** power, 0).astype(np.float32)
    return powered


def _sparse(matrix: Any) -> Tensor:
    """Return a scipy matrix as a torch one."""
    there = sp.coo_matrix(matrix)
    place = torch.from_numpy(np.stack([there.row, there.col]).astype(np.int64))
    value = torch.from_numpy(there.data.astype(np.float32))
    made: Tensor = torch.sparse_coo_tensor(place, value, there.shape, check_invariants=False).coalesce()
    return made
