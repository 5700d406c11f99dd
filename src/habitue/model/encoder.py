"""The flagship's network: sets and questions in, one vector a question out, and the terms of a score."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from habitue.model import blocks
from habitue.model.batches import NUMBERS, Batch
from habitue.model.fuse import Customer, Table
from habitue.model.heads import Forecast, Outcomes
from habitue.model.losses import Sparse

TREND_DAYS = (7.0, 30.0, 90.0)  # half-lives
AGAIN_DAYS = (15.0, 60.0, 240.0)  # half-lives
BOUND = 3.0  # numbers are cut this many spreads from their mean: later moments lie outside what was trained on


class Model(nn.Module):
    """Sets and questions in, one vector a question out; and the three terms of a score."""

    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        shape: blocks.Shape,
        *,
        mixer: str,
        depth: int,
        kinds: int,
        items: Tensor,
        labels: Outcomes,
        fused: Table | None = None,
        who: Customer | None = None,
    ) -> None:
        """`fused`: what makes the products' table of their own vectors and their content; None = `items` is it.

        `who`: what joins an answer with what is known of the person.
        """
        super().__init__()
        self.fused, self.who = fused, who
        self.made: tuple[Tensor, Tensor] | None = None  # table and loss of `fused`, of the newest step
        width, self.clock = shape.width, shape.clock
        self.items = nn.Parameter(items)  # [I, D]
        self.kind, self.hour, self.weekday = (_embedding(n, width) for n in (kinds + 2, 24, 7))
        self.register_buffer("centre", torch.zeros(NUMBERS))
        self.register_buffer("spread", torch.ones(NUMBERS))
        self.numbers = nn.Linear(NUMBERS, width)
        self.entry, self.exit = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(blocks.block(mixer, shape) for _ in range(depth))
        self.trend = _constant(nn.Linear(width, len(TREND_DAYS)), 1 / len(TREND_DAYS))
        self.again = nn.Sequential(nn.Linear(len(AGAIN_DAYS) + 4, 16), nn.GELU(), nn.Linear(16, 1))
        self.again_customer = _constant(nn.Linear(width, 1), 0.0)
        self.again_item = nn.Parameter(torch.zeros(len(items)))
        self.forecast = Forecast(width + NUMBERS, kinds=kinds, known=labels)
        self.drop = blocks.Drop(shape.dropout)

    def forward(self, batch: Batch) -> Tensor:
        """Return one vector a question, [Q, D]; of the last block only what they need is computed."""
        self.made = None if self.fused is None else self.fused(self.items)
        if batch.last is None:
            return self.whole(self.read(batch)[batch.asked], batch.traits)
        x = self.mixed(batch, self.blocks[:-1])
        return self.whole(self.exit(self.blocks[-1](x, batch.last, batch.asked)), batch.traits)

    @property
    def table(self) -> Tensor:
        """The products' vectors [I, D]; of the newest `forward` where they are made of their modalities."""
        return self.items if self.made is None else self.made[0]

    def whole(self, answer: Tensor, traits: Tensor | None = None) -> Tensor:
        """Return answers [Q, D] joined with what is known of the person [Q, U]; None = nothing."""
        if self.who is None:
            return answer
        joined: Tensor = self.who(answer, traits)
        return joined

    def read(self, batch: Batch) -> Tensor:
        """Return one vector a token, [N, D], the sets first."""
        read: Tensor = self.exit(self.mixed(batch, self.blocks))
        return read

    def mixed(self, batch: Batch, some: nn.ModuleList) -> Tensor:
        """Return the tokens [N, D] after some blocks."""
        table = self.table
        members = table[batch.row_item] * batch.row_share[:, None]
        baskets = table.new_zeros(batch.sets, table.shape[1]).index_add(0, batch.row_set, members)  # [S, D]
        x: Tensor = self.drop(self.tokens(baskets, batch.kind, batch.hour, batch.weekday, batch.numbers))
        for block in some:
            x = block(x, batch.every)
        return x

    def tokens(self, baskets: Tensor, kind: Tensor, hour: Tensor, weekday: Tensor, numbers: Tensor) -> Tensor:
        """Return what the first block reads, [N, D]; baskets, hour and weekday are of sets, the first of N tokens."""
        x: Tensor = self.entry(baskets)
        if self.clock:
            x = x + self.hour(hour) + self.weekday(weekday)
            x = torch.cat([x, x.new_zeros(len(kind) - len(x), x.shape[1])]) + self.numbers(self.scaled(numbers))
        token: Tensor = x + self.kind(kind)
        return token

    def scaled(self, numbers: Tensor) -> Tensor:
        """Bring the numbers to mean 0 and spread 1, cut at BOUND spreads."""
        return ((numbers - self.centre) / self.spread).clamp(-BOUND, BOUND)

    def met_before(self, asked: Tensor, batch: Batch) -> Sparse:
        """Return what products gain for being in the history; `asked` = vectors of the batch's first questions."""
        return self.gain(asked, batch.met_query, batch.met_item, batch.met)

    def gain(self, asked: Tensor, query: Tensor, item: Tensor, met: Tensor) -> Sparse:
        """Return what `item` gains for `query`, its history told by `met` (batches.met_before)."""
        habit = self.again(met)[:, 0] + self.again_item[item]
        return Sparse(query, item, habit + self.again_customer(asked)[query, 0])

    def foretell(self, asked: Tensor, batch: Batch) -> Tensor:
        """Return the heads' answer for each question, [Q, 4]."""
        numbers = self.scaled(batch.numbers[batch.sets :])
        answer: Tensor = self.forecast(torch.cat([self.drop(asked), numbers], dim=1))
        return answer


def _embedding(count: int, width: int) -> nn.Embedding:
    table = nn.Embedding(count, width)
    nn.init.normal_(table.weight, std=0.02)
    return table


def _constant(layer: nn.Linear, value: float) -> nn.Linear:
    """Start as the same number for everybody."""
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, value)
    return layer
