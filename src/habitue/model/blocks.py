"""How the tokens of a stretch are mixed: three kinds of block, one contract.

    softmax     attention over the sets in sight (Vaswani et al., 2017, eq. 1), then a feed-forward layer
    gated       pointwise attention (Zhai et al., ICML 2024, eq. 1-3): SiLU for softmax, and a gate for the
                feed-forward layer
    recurrent   a state of constant size that fades (Dao and Gu, ICML 2024, "structured state space duality"; Yang et
                al., ICML 2024, "gated linear attention"), then a feed-forward layer

A token brings something of its own (a query, a gate) and looks at what the sets in sight show (keys and values). So a
block answers in two ways that agree: for a whole batch at once, and for one token at a time, with a memory of what the
sets before it have shown. Attention remembers every set in sight; the recurrent block one matrix a head,

    S_t = a_t S_(t-1) + k_t v_t'        o_t = S_t' q_t        log a_t = -softplus(w x_t + b) - softplus(r) days_t

where days_t is the pause before the token. Unrolled, o_t = sum_(s <= t) (a_(s+1) ... a_t) (q_t . k_s) v_s: attention
with products of a's for a softmax, which is how a whole batch is computed. A question fades the state by its own a_t
and adds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from habitue.core.errors import SettingsError, did_you_mean
from habitue.model.batches import GAPS, Group, Sight


@dataclass(frozen=True)
class Shape:
    """What every block of a model has in common."""

    width: int
    heads: int
    window: int  # newest sets a token may see
    clock: bool
    dropout: float  # share


class Drop(nn.Dropout):
    """Dropout whose draws cost a third on a processor: one byte a number, so the share is one of 256."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x with a share of its numbers 0 and the rest grown by as much; in training only."""
        least = round(self.p * 256)
        if not self.training or not least or x.device.type != "cpu":
            return super().forward(x)
        drawn = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)  # eight draws in one
        kept = (drawn.view(torch.uint8)[: x.numel()] >= least).view(x.shape)
        left: Tensor = x * kept.to(x.dtype).mul_(256 / (256 - least))
        return left


class Block(nn.Module):
    """Pre-norm, mix, add; then, where there is one, a feed-forward layer in the same way (Xiong et al., 2020)."""

    OWN = 1  # times the width: what a token brings to look with
    SEEN = 2  # times the width: what a set shows
    FORWARD = 4  # times the width: units of the feed-forward layer; 0 = none

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, self.heads = shape.width, shape.heads
        self.own_width = self.OWN * width
        self.before_attention = nn.LayerNorm(width)
        self.all_three, self.out = nn.Linear(width, (self.OWN + self.SEEN) * width), nn.Linear(width, width)
        if self.FORWARD:
            self.before_forward = nn.LayerNorm(width)
            self.wide, self.narrow = nn.Linear(width, self.FORWARD * width), nn.Linear(self.FORWARD * width, width)
        self.drop = Drop(shape.dropout)

    def forward(self, x: Tensor, sight: Sight, asked: Tensor | None = None) -> Tensor:
        """Return [N, D] from [N, D], the sets first; with `asked` [Q] only of those tokens, `sight` being theirs."""
        y = self.before_attention(x)
        seen = self.seen(y[: sight.sets], sight.pause[: sight.sets])
        if asked is not None:
            x, y = x[asked], y[asked]
        own = self.own(y, sight.pause if asked is None else sight.pause[asked])
        mixed = [self.mix(own, seen, group).flatten(0, 1) for group in sight.groups]
        return self.finish(x, torch.cat(mixed)[sight.order])

    def own(self, y: Tensor, pause: Tensor) -> Tensor:  # noqa: ARG002
        """Return what tokens look with, [T, OWN D] or wider; `pause` [T] days since the set before each."""
        return F.linear(y, self.all_three.weight[: self.own_width], self.all_three.bias[: self.own_width])

    def seen(self, y: Tensor, pause: Tensor) -> Tensor:  # noqa: ARG002
        """Return what sets show, [S, SEEN D] or wider."""
        return F.linear(y, self.all_three.weight[self.own_width :], self.all_three.bias[self.own_width :])

    def mix(self, own: Tensor, seen: Tensor, group: Group) -> Tensor:
        """Return what the tokens of a group see, [b, T, D]; rows of tokens that are not there mean nothing."""
        raise NotImplementedError

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Add what was seen, and what the feed-forward layer makes of it."""
        x = x + self.drop(self.out(mixed))
        if self.FORWARD:
            x = x + self.drop(self.narrow(F.gelu(self.wide(self.before_forward(x)))))
        return x

    def begin(self) -> Tensor:
        """Return the memory of a stretch without a set."""
        return self.all_three.weight.new_zeros(0, self.all_three.out_features - self.own_width)

    def remember(self, x: Tensor, pause: Tensor, memory: Tensor) -> Tensor:
        """Return the memory after one set more, x [1, D]."""
        return torch.cat([memory, self.seen(self.before_attention(x), pause)])

    def look(self, x: Tensor, pause: Tensor, memory: Tensor, group: Group) -> Tensor:
        """Return [1, D] from [1, D]: one token of a group of its own, asked of what the sets in sight have shown."""
        own = self.own(self.before_attention(x), pause)
        return self.finish(x, self.mix(own, memory, group)[0])

    def _heads(self, rows: Tensor, places: Tensor, parts: int) -> Tensor:
        """Return [parts, b, H, T, D / H] of the rows at `places` [b, T]."""
        b, tokens = places.shape
        some = rows[places.clamp_max(len(rows) - 1)]  # what is not there is hidden by `back`, or read by nobody
        return some.view(b, tokens, parts, self.heads, rows.shape[1] // (parts * self.heads)).permute(2, 0, 3, 1, 4)


class _Biased(Block):
    """Attention with a learnt number for distance in sets and one for the time between."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.back = nn.Parameter(torch.zeros(shape.heads, shape.window + 1))
        self.gap = nn.Parameter(torch.zeros(shape.heads, GAPS)) if shape.clock else None

    def bias(self, group: Group) -> Tensor:
        """Return [H, b or 1, T, K]."""
        bias = self.back[:, group.back]
        if group.gap is not None and self.gap is not None:
            bias = bias + self.gap[:, group.gap]
        return bias


class Softmax(_Biased):
    """Attention over the sets in sight and over nothing; O(pairs x D)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.nothing = nn.Parameter(torch.zeros(2, shape.heads, 1, shape.width // shape.heads))  # what else is seen

    def mix(self, own: Tensor, seen: Tensor, group: Group) -> Tensor:
        """softmax(q k' / sqrt(D / H) + bias) v."""
        b = len(group.token)
        (query,), shown = self._heads(own, group.token, 1), self._heads(seen, group.seen, 2)
        key, value = (
            torch.cat([none.expand(b, -1, -1, -1), part], dim=2) for none, part in zip(self.nothing, shown, strict=True)
        )  # each [b, H, K + 1, D / H]
        bias = self.bias(group).masked_fill(group.back == 0, -torch.inf)
        bias = F.pad(bias, (1, 0)).transpose(0, 1)  # [b or 1, H, T, K + 1]
        # Written out: torch's own looks in every row for one in which nothing is seen, and there is none.
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
        mixed: Tensor = scores.add_(bias).softmax(-1) @ value
        return mixed.transpose(1, 2).flatten(2)


class Gated(_Biased):
    """Pointwise attention with a gate: SiLU(q k' + bias) v, a mean over the sets in sight; O(pairs x D).

    The mean stands for the division by the longest sequence of a batch: so an answer does not depend on the others.
    """

    OWN, FORWARD = 2, 0

    def own(self, y: Tensor, pause: Tensor) -> Tensor:
        """Return query and gate (ibid., eq. 1)."""
        return F.silu(super().own(y, pause))

    def seen(self, y: Tensor, pause: Tensor) -> Tensor:
        """Return key and value (ibid., eq. 1)."""
        return F.silu(super().seen(y, pause))

    def mix(self, own: Tensor, seen: Tensor, group: Group) -> Tensor:
        """norm(SiLU(q k' + bias) v / n) x gate (ibid., eq. 2 and 3)."""
        query, gate = self._heads(own, group.token, 2)
        key, value = self._heads(seen, group.seen, 2)
        there = group.back > 0
        weight = F.silu(query @ key.transpose(2, 3) + self.bias(group).transpose(0, 1)) * there[:, None]
        mean = (weight @ value) / there.sum(-1).clamp_min(1)[:, None, :, None]
        mean, gate = mean.transpose(1, 2).flatten(2), gate.transpose(1, 2).flatten(2)
        mixed: Tensor = F.layer_norm(mean, mean.shape[-1:]) * gate
        return mixed


class Recurrent(Block):
    """A state a head that fades by a number of its own at each token; O(pairs x D) at once, O(D^2 / H) a token."""

    OWN = 2

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.fade = nn.Linear(shape.width, shape.heads)
        nn.init.constant_(self.fade.bias, -2.0)  # a = .88 at the start: half is left after five sets
        self.daily = nn.Parameter(torch.full((shape.heads,), -5.0)) if shape.clock else None  # .7 % a day

    def own(self, y: Tensor, pause: Tensor) -> Tensor:
        """Return query, gate and log a."""
        return torch.cat([super().own(y, pause), self.faded(y, pause)], dim=1)

    def seen(self, y: Tensor, pause: Tensor) -> Tensor:
        """Return key, value and log a."""
        return torch.cat([super().seen(y, pause), self.faded(y, pause)], dim=1)

    def faded(self, y: Tensor, pause: Tensor) -> Tensor:
        """Return log a, [T, H]."""
        fade: Tensor = -F.softplus(self.fade(y))
        return fade if self.daily is None else fade - F.softplus(self.daily) * pause[:, None]

    def mix(self, own: Tensor, seen: Tensor, group: Group) -> Tensor:
        """The unrolled sum; log a is added up along the stretch, a question's own on top."""
        query, gate = self._heads(own[:, : -self.heads], group.token, 2)
        key, value = self._heads(seen[:, : -self.heads], group.seen, 2)
        (fade,) = self._heads(seen[:, -self.heads :], group.seen, 1)  # [b, H, K, 1]
        (more,) = self._heads(own[:, -self.heads :], group.token, 1)
        total = fade.cumsum(2)
        newest = group.back[:, None, :, :1].clamp_min(1) - 1  # the newest set in sight of each token, [b or 1, 1, T, 1]
        until = total.gather(2, newest.expand(*total.shape[:2], -1, -1)) if total.shape[2] else more * 0
        if group.asks is not None:
            until = until + more * group.asks[:, None, :, None]
        left = (until - total.transpose(2, 3)).masked_fill((group.back == 0)[:, None], -torch.inf).exp()
        return self._read((query @ key.transpose(2, 3) * left) @ value, gate)

    def begin(self) -> Tensor:
        """Return [H, D / H, D / H], zeros."""
        each = self.out.in_features // self.heads
        return self.out.weight.new_zeros(self.heads, each, each)

    def remember(self, x: Tensor, pause: Tensor, memory: Tensor) -> Tensor:
        """Fade the state and add the set's key times its value."""
        seen = self.seen(self.before_attention(x), pause)
        key, value = seen[:, : -self.heads].view(2, self.heads, -1)
        after: Tensor = memory * seen[0, -self.heads :, None, None].exp() + key[:, :, None] * value[:, None, :]
        return after

    def look(self, x: Tensor, pause: Tensor, memory: Tensor, group: Group) -> Tensor:
        """Ask the state; a question fades it first, a set is in it already."""
        own = self.own(self.before_attention(x), pause)
        query, gate = own[:, : -self.heads].view(2, 1, self.heads, 1, -1)
        if group.asks is not None:
            memory = memory * own[0, -self.heads :, None, None].exp()
        return self.finish(x, self._read(query @ memory, gate)[0])

    def _read(self, found: Tensor, gate: Tensor) -> Tensor:
        """Norm each head, then gate (Yang et al., 2024, section 4.4), [b, T, D] from [b, H, T, D / H]."""
        read: Tensor = F.layer_norm(found, found.shape[-1:]) * F.silu(gate)
        return read.transpose(1, 2).flatten(2)


KINDS: dict[str, type[Block]] = {"softmax": Softmax, "gated": Gated, "recurrent": Recurrent}


def block(mixer: str, shape: Shape) -> Block:
    """Return a new block of a kind. Raises SettingsError for one that is not known."""
    if mixer not in KINDS:
        raise SettingsError(
            "model.behaviour.mixer",
            found=f"there is no mixer '{mixer}'",
            consequence="The flagship does not know how its tokens see each other",
            remedy=did_you_mean(mixer, KINDS),
        )
    return KINDS[mixer](shape)
