"""What is foretold of a customer as a whole: no more orders, and money."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from habitue.model.losses import expected_money, zero_inflated_log_normal


class Forecast(nn.Module):
    """One customer vector -> the logit of no order in the horizon, and a zero-inflated log-normal of the money in it.

    Starts from what holds of everybody: the share that leaves, the share that spends, mean and spread of log money.
    """

    def __init__(self, inputs: int, *, churned: Tensor, money: Tensor, hidden: int = 64) -> None:
        super().__init__()
        last = nn.Linear(hidden, 4)
        self.layers = nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), last)
        spent = money[money > 0].log() if bool((money > 0).any()) else torch.zeros(1)
        spread = spent.std(correction=0).clamp(0.1, 2.0)
        start = (_logit(churned.mean()), _logit((money > 0).float().mean()), spent.mean(), spread.expm1().log())
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.copy_(torch.stack(start))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [N, 4]: churn logit, and the three parameters of `losses.zero_inflated_log_normal`."""
        answer: Tensor = self.layers(inputs)
        return answer

    @staticmethod
    def loss(answer: Tensor, churned: Tensor, money: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of both."""
        churn = F.binary_cross_entropy_with_logits(answer[:, 0], churned)
        return churn + zero_inflated_log_normal(answer[:, 1:], money).mean()

    @staticmethod
    def read(answer: Tensor) -> tuple[Tensor, Tensor]:
        """Return the probability of no order, and the expected money."""
        return torch.sigmoid(answer[:, 0]), expected_money(answer[:, 1:])


def _logit(share: Tensor) -> Tensor:
    return torch.logit(share.float().nan_to_num(0.5), eps=1e-3)
