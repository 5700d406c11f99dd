"""Losses: cross-entropy against a whole set in bounded memory, and money that is mostly zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 128  # queries whose scores exist at once; 32 to 256 take the same time on Online Retail
SCORES = 2**24  # that exist at once, at most: of more than 131,072 products fewer queries
LOG_MONEY = (-20.0, 20.0)  # exp of more than this is not money
SPREAD = (0.05, 2.0)  # of log money within one customer's forecast; 2 lets a mean be 7.4 times the median


@dataclass(frozen=True)
class Sparse:
    """A sparse matrix as places and values: at most one value a place, ordered by row."""

    row: Tensor  # int64 [N], ascending
    column: Tensor  # int64 [N]
    value: Tensor  # float32 [N]


@dataclass(frozen=True)
class Trend:
    """What every product gains at a moment, weighed by each query."""

    rates: Tensor  # [K, G, I]
    row: Tensor  # int64 [Q], the moment of each query
    weight: Tensor  # [Q, K]


def set_cross_entropy(
    queries: Tensor,
    table: Tensor,
    *,
    target: Sparse,
    weight: Tensor,
    bias: Tensor | None = None,
    trend: Trend | None = None,
    extra: Sparse | None = None,
    half: bool = False,
) -> Tensor:
    """Return sum_q weight_q x -sum_i target_qi log softmax(scores_q)_i, the gradient formed on the way forward.

    scores_qi = queries_q . table_i + bias_i + sum_k trend.weight_qk trend.rates[k, trend.row_q, i] + extra_qi

    Shapes: queries [Q, D], table [I, D], bias [I], weight [Q]; `extra` and `target` [Q, I], a row of `target` adds up
    to 1. Differentiable in queries, table, trend.weight and extra.value. Never holds more than SCORES scores, or a row;
    where even those find no room, half as many, down to one row; then the error of memory is passed on. 6 Q I D
    multiplications. `half`: scores and products in bfloat16, sums in float32: six times faster where the
    processor multiplies bfloat16, and the rankings learnt are as good (LOG.md, "bfloat16").
    """
    device = queries.device
    if extra is None:
        none = torch.zeros(0, dtype=torch.int64, device=device)
        extra = Sparse(none, none, queries.new_zeros(0))
    if bias is None:
        bias = table.new_zeros(len(table))
    if trend is None:
        row = torch.zeros(len(queries), dtype=torch.int64, device=device)
        trend = Trend(table.new_zeros(0, 1, len(table)), row, queries.new_zeros(len(queries), 0))
    number = table.dtype  # under autocast some come in bfloat16
    queries, trend_weight, extra_value = (t.to(number) for t in (queries, trend.weight, extra.value))
    size = min(CHUNK, max(1, SCORES // max(len(table), 1)))
    while True:
        try:
            with torch.autocast(device.type, enabled=False):
                loss: Tensor = _SetCrossEntropy.apply(  # type: ignore[no-untyped-call]
                    queries, table, trend_weight, extra_value, bias, trend, extra, target, weight, half, size
                )
            return loss
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or size == 1:
                raise
            size //= 2


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ended; torch's processor allocator says so in a bare RuntimeError."""
    said = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("not enough memory" in said or "can't allocate memory" in said)
    )


class _SetCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        table: Tensor,
        trend_weight: Tensor,
        extra_value: Tensor,
        bias: Tensor,
        trend: Trend,
        extra: Sparse,
        target: Sparse,
        weight: Tensor,
        half: bool,
        size: int,
    ) -> Tensor:
        count, items = len(queries), len(table)
        number = torch.bfloat16 if half else queries.dtype
        to_queries, to_table = torch.empty_like(queries), torch.zeros_like(table)
        to_trend, to_extra = torch.empty_like(trend_weight), torch.empty_like(extra_value)
        loss = queries.new_zeros(())
        edges = torch.arange(0, count + size, size, device=queries.device)
        extra_edge = torch.searchsorted(extra.row, edges).tolist()
        target_edge = torch.searchsorted(target.row, edges).tolist()
        small, left = table.to(number), queries.to(number)
        bias, weighted = bias.to(number), (queries * weight[:, None]).to(number)
        for chunk, start in enumerate(range(0, count, size)):
            part = slice(start, min(start + size, count))
            more = slice(extra_edge[chunk], extra_edge[chunk + 1])
            true = slice(target_edge[chunk], target_edge[chunk + 1])
            scores = torch.addmm(bias, left[part], small.T)
            lately = [rates.index_select(0, trend.row[part]).to(number) for rates in trend.rates]
            for k, rates in enumerate(lately):
                scores.addcmul_(rates, trend_weight[part, k : k + 1].to(number))
            at_extra = (extra.row[more] - start) * items + extra.column[more]
            at_target = (target.row[true] - start) * items + target.column[true]
            scores.view(-1)[at_extra] += extra_value[more].to(number)
            share = torch.softmax(scores, dim=1)  # d loss / d scores = weight x (softmax - target)
            flat = share.view(-1)
            likely = flat[at_target].float().clamp_min(torch.finfo(torch.float32).tiny)
            loss -= (likely.log() * target.value[true] * weight[target.row[true]]).sum()
            flat[at_target] -= target.value[true].to(number)
            to_queries[part] = (share @ small) * weight[part, None]
            to_table += share.T @ weighted[part]
            for k, rates in enumerate(lately):
                to_trend[part, k] = torch.linalg.vecdot(share, rates) * weight[part]
            to_extra[more] = flat[at_extra] * weight[extra.row[more]]
        ctx.save_for_backward(to_queries, to_table, to_trend, to_extra)
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (*(upstream[0] * gradient for gradient in ctx.saved_tensors), *[None] * 7)


def generalised_bce(
    queries: Tensor,
    table: Tensor,
    *,
    target: Sparse,
    weight: Tensor,
    negatives: Tensor,
    trust: float,
    trend: Trend | None = None,
    extra: Sparse | None = None,
) -> Tensor:
    """Return sum_q weight_q x gBCE of a question's targets and of products drawn evenly, the same for all questions.

    gBCE = -(beta sum_i target_qi log sigmoid(score_qi) + sum_negatives log(1 - sigmoid(score_qj))) / (K + 1), beta =
    alpha (t (1 - 1 / alpha) + 1 / alpha), alpha = K / (I - 1), t = `trust` (Petrov and Macdonald, RecSys 2023, section
    5): with t = 0 binary cross-entropy, which is too sure of itself when only some negatives are seen; with t = 1 the
    sigmoid is the probability a model of all negatives would tell. A question's own targets are no negatives of it.
    Every score is lowered by ln I, so that training starts where each product has about its fair share of the whole;
    the order of the products is not changed by it, and without it a short training never gets there (LOG.md, "gBCE").

    Scores and shapes as in `set_cross_entropy`; `negatives` int64 [K] without repeats. 6 Q K D multiplications, and K Q
    scores held for the gradient.
    """
    rate = len(negatives) / max(len(table) - 1, 1)
    beta = rate * (trust * (1 - 1 / rate) + 1 / rate)
    row, column = target.row, target.column
    positive, negative = (queries[row] * table[column]).sum(1), queries @ table[negatives].T
    if trend is not None:
        positive = positive + (trend.weight[row].T * trend.rates[:, trend.row[row], column]).sum(0)
        gains = trend.rates[:, trend.row[:, None], negatives]  # [trends, Q, K]
        negative = negative + (trend.weight.T[:, :, None] * gains).sum(0)
    share = math.log(len(table))
    positive, negative = positive - share, negative - share
    if extra is not None:
        positive = positive + _at(extra, row, column, len(table))
        among = among_columns(extra, negatives, len(table))
        negative = negative.index_put((among.row, among.column), among.value, accumulate=True)
    own = among_columns(target, negatives, len(table))
    never = negative.new_full((len(own.row),), -torch.inf)  # softplus, and what it passes back, are 0
    others = F.softplus(negative.index_put((own.row, own.column), never)).sum(1)
    loss = others.index_add(0, row, beta * target.value * F.softplus(-positive))
    return (loss * weight).sum() / (len(negatives) + 1)


def among_columns(values: Sparse, kept: Tensor, columns: int) -> Sparse:
    """Keep the columns `kept`, numbered as they stand in it; O(columns + values)."""
    place = kept.new_full((columns,), -1)
    place[kept] = torch.arange(len(kept), device=kept.device)
    found = place[values.column]
    there = found >= 0
    return Sparse(values.row[there], found[there], values.value[there])


def _at(values: Sparse, row: Tensor, column: Tensor, columns: int) -> Tensor:
    """Return the values at some places, 0 where there is none."""
    key, order = torch.sort(values.row * columns + values.column)
    wanted = row * columns + column
    if not len(key):
        return torch.zeros_like(wanted, dtype=values.value.dtype)
    place = torch.searchsorted(key, wanted).clamp_max(len(key) - 1)
    return torch.where(key[place] == wanted, values.value[order[place]], 0.0)


def half_is_quick(device: str) -> bool:
    """Tell whether the device multiplies bfloat16 faster than float32; a processor must have the instruction for it."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and any(
        getattr(torch.cpu, name, lambda: False)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )


def zero_inflated_log_normal(parameters: Tensor, money: Tensor) -> Tensor:
    """Return the negative log-likelihood of each amount (Wang, Liu and Miao, 2019, eq. 3-6), float [N].

    parameters [N, 3]: logit of spending anything, mean and raw spread of log money; money [N] >= 0, major units.
    The constants ln(money) and ln(2 pi) / 2, which no parameter moves, are left out.
    """
    spends = money > 0
    mean, spread = log_normal(parameters)
    log_money = torch.where(spends, money, torch.ones_like(money)).log()
    amount = ((log_money - mean) / spread).square() / 2 + spread.log()
    loss = F.binary_cross_entropy_with_logits(parameters[:, 0], spends.to(parameters.dtype), reduction="none")
    return loss + torch.where(spends, amount, torch.zeros_like(amount))


def expected_money(parameters: Tensor) -> Tensor:
    """Return p exp(mean + spread^2 / 2), the mean of the zero-inflated log-normal (ibid., eq. 7), float [N]."""
    mean, spread = log_normal(parameters)
    return torch.sigmoid(parameters[:, 0]) * (mean + spread.square() / 2).exp()


def log_normal(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and spread of log money, both within bounds that keep `exp` finite."""
    return parameters[:, 1].clamp(*LOG_MONEY), F.softplus(parameters[:, 2]).clamp(*SPREAD)
