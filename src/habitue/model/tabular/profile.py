"""A small head on the vectors of frozen encoders: the bench of what an encoder (or a profile) knows.

A perceptron with one hidden layer on the vectors side by side, AdamW, the best pass by loss on a held-back part; the
numbers and categories of the table are not read, so that the vectors alone are measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from habitue.core.errors import ModelError
from habitue.core.metrics import Floats
from habitue.core.runtime import Runtime
from habitue.core.settings import tuned
from habitue.model.tabular import wide
from habitue.model.tabular.table import Clock, Table, Target, deal

KINDS = frozenset({"binary", "classes", "number"})
INNER = 5
BATCH = 256


@dataclass(frozen=True)
class Config:
    """Size of the head and of its steps."""

    hidden: int = tuned(256, 0, 1024)  # 0 = a logistic (linear) head
    dropout: float = tuned(0.3, 0.0, 0.7)
    learning_rate: float = tuned(1e-3, 1e-4, 1e-2, log=True)
    decay: float = tuned(0.01, 1e-4, 1.0, log=True)
    passes: int = 40
    patience: int = 5


@dataclass(frozen=True)
class State:
    """The scaling of the vectors and the head."""

    wide: wide.State
    head: nn.Module
    target: Target
    middle: float
    spread: float


def needs(table: Table) -> str | None:
    """Ask for vectors."""
    if table.vectors:
        return None
    return "it reads the vectors of an encoder, and there are none: name one with --encoder, or give --picture"


def fit(table: Table, target: Target, config: Config, *, runtime: Runtime, clock: Clock) -> State:
    """Train; O(passes x rows x width x hidden). Keeps the best pass so far when the time is up."""
    if (why := needs(table)) is not None:
        raise ModelError(
            "tabular.profile", found=why, consequence="It has nothing to read", remedy="Leave the model out"
        )
    prepared = wide.fit(_vectors(table))
    rows = torch.from_numpy(_rows(prepared, table)).float()
    number = target.kind == "number"
    middle, spread = (float(target.values.mean()), float(target.values.std()) or 1.0) if number else (0.0, 1.0)
    truth = torch.from_numpy((target.values - middle) / spread if number else target.compact())
    truth = truth.float() if number else truth
    generator = torch.Generator().manual_seed(runtime.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(runtime.seed)
        head = _head(rows.shape[1], 1 if number else target.known.size, config)
        head = _trained(head, rows, truth, _held(table, target, runtime.seed), config, generator, clock)
    return State(prepared, head, target, middle, spread)


def answer(state: State, table: Table) -> Floats:
    """Return shares [N, classes], or numbers [N]."""
    with torch.no_grad():
        said = state.head(torch.from_numpy(_rows(state.wide, table)).float())
    if state.target.kind == "number":
        return np.asarray(said[:, 0].double().numpy() * state.spread + state.middle)
    return state.target.spread(said.double().softmax(dim=1).numpy())


def _vectors(table: Table) -> Table:
    return Table(table.frame.select(), {}, table.vectors, table.group)


def _rows(prepared: wide.State, table: Table) -> Floats:
    rows = wide.design(prepared, _vectors(table))
    return np.asarray(rows * (np.sqrt(rows.shape[1]) / wide.VECTOR_LENGTH))  # about variance 1 a column


def _head(width: int, out: int, config: Config) -> nn.Module:
    if config.hidden == 0:
        return nn.Linear(width, out)
    drop = nn.Dropout(config.dropout)
    return nn.Sequential(drop, nn.Linear(width, config.hidden), nn.GELU(), drop, nn.Linear(config.hidden, out))


def _held(table: Table, target: Target, seed: int) -> Tensor:
    units = table.height if table.group is None else np.unique(table.group).size
    if units < 2 * INNER:
        return torch.ones(table.height, dtype=torch.bool)  # too few to hold any back: judged on all
    return torch.from_numpy(deal(target, INNER, seed=seed, group=table.group) == 0)


def _trained(
    head: nn.Module, rows: Tensor, truth: Tensor, held: Tensor, config: Config, generator: torch.Generator, clock: Clock
) -> nn.Module:
    """One visible loop: passes over what is not held back; the weights of the best pass."""
    loss = nn.MSELoss() if truth.is_floating_point() else nn.CrossEntropyLoss()
    steps = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=config.decay)
    seen = torch.arange(len(rows)) if bool(held.all()) else torch.nonzero(~held)[:, 0]
    best, best_weights, since = float("inf"), head.state_dict(), 0
    for _ in range(config.passes):
        head.train()
        for batch in torch.split(seen[torch.randperm(len(seen), generator=generator)], BATCH):
            steps.zero_grad()
            loss(_out(head, rows[batch], truth), truth[batch]).backward()
            steps.step()
        head.eval()
        with torch.no_grad():
            now = float(loss(_out(head, rows[held], truth), truth[held]))
        since += 1
        if now < best:
            best, since = now, 0
            best_weights = {name: weight.clone() for name, weight in head.state_dict().items()}
        if since >= config.patience or clock.over:
            break
    head.load_state_dict(best_weights)
    return head.eval()


def _out(head: nn.Module, rows: Tensor, truth: Tensor) -> Tensor:
    said: Tensor = head(rows)
    return said[:, 0] if truth.is_floating_point() else said
