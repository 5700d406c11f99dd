"""What is foretold of a customer as a whole: no more orders, money, the wait for the next order, what is done next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from habitue.model.losses import expected_money, zero_inflated_log_normal

EDGES = (1.0, 3.0, 7.0, 14.0, 30.0, 60.0, 90.0)  # days; ends of the steps in which the wait is told
HORIZONS = (7, 30, 90)  # days, each the end of a step: "no order within" is answered for these


@dataclass(frozen=True)
class Outcomes:
    """What became of N customers after the moments they were asked at."""

    churned: Tensor  # float [N] 1 = no order in the horizon
    money: Tensor  # float [N] at least 0
    wait: Tensor  # float [N] days until the next order; infinite where none is known
    seen: Tensor  # float [N] days that are known after the moment
    kind: Tensor  # int64 [N] of the next set, -1 = none in the horizon


class Forecast(nn.Module):
    """One customer vector -> what Outcomes holds, each as the parameters of its distribution.

    Columns of an answer: the logit of no order in the horizon; three of a zero-inflated log-normal of the money; the
    logit of an order in each step of the wait, given none before (a discrete hazard; Gensheimer and Narasimhan, PeerJ
    2019, eq. 3); one logit a kind of action. Starts from what holds of everybody.
    """

    def __init__(self, inputs: int, *, kinds: int, known: Outcomes, hidden: int = 64) -> None:
        super().__init__()
        last = nn.Linear(hidden, 4 + len(EDGES) + kinds)
        self.layers = nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), last)
        money = known.money
        spent = money[money > 0].log() if bool((money > 0).any()) else torch.zeros(1)
        spread = spent.std(correction=0).clamp(0.1, 2.0)
        ordered, asked = steps_of_wait(known.wait, known.seen)
        hazard = (ordered.sum(0) + 0.5) / (asked.sum(0) + 1)
        done = torch.bincount(known.kind[known.kind >= 0], minlength=kinds) + 0.5
        start = (_logit(known.churned.mean()), _logit((money > 0).float().mean()), spent.mean(), spread.expm1().log())
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.copy_(torch.cat([torch.stack(start), torch.logit(hazard), (done / done.sum()).log()]))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [N, 4 + steps + kinds]."""
        answer: Tensor = self.layers(inputs)
        return answer

    @staticmethod
    def losses(answer: Tensor, known: Outcomes) -> Tensor:
        """Return the mean negative log-likelihoods [4]: churn, money, wait, kind (over those who did something)."""
        wait = 4 + len(EDGES)
        churn = F.binary_cross_entropy_with_logits(answer[:, 0], known.churned)
        ordered, asked = steps_of_wait(known.wait, known.seen)
        steps = F.binary_cross_entropy_with_logits(answer[:, 4:wait], ordered, weight=asked, reduction="sum")
        some = known.kind >= 0
        kind = F.cross_entropy(answer[some, wait:], known.kind[some], reduction="sum") / max(len(answer), 1)
        return torch.stack(
            [churn, zero_inflated_log_normal(answer[:, 1:4], known.money).mean(), steps / max(len(answer), 1), kind]
        )

    @staticmethod
    def read(answer: Tensor) -> dict[str, Tensor]:
        """Return churn and churn_7 ... (probabilities of no order), value (expected money), kind [N, kinds]."""
        staying = F.logsigmoid(-answer[:, 4 : 4 + len(EDGES)]).cumsum(1).exp()  # no order until each edge
        within = {f"churn_{days}": staying[:, EDGES.index(days)] for days in HORIZONS}
        kinds = torch.softmax(answer[:, 4 + len(EDGES) :], dim=1)
        return {"churn": torch.sigmoid(answer[:, 0]), "value": expected_money(answer[:, 1:4]), **within, "kind": kinds}


def steps_of_wait(wait: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each step of EDGES whether the order came in it, and whether it is known what happened in it.

    float [N, steps] of 0 and 1. A step tells something when no order came before it and the whole of it was seen: were
    orders in a step half seen counted, and their absence not, orders would look likelier than they are.
    """
    end = torch.tensor(EDGES, device=wait.device)
    begin = F.pad(end[:-1], (1, 0))
    asked = (wait[:, None] >= begin) & (seen[:, None] >= end)
    return (asked & (wait[:, None] < end)).float(), asked.float()


def _logit(share: Tensor) -> Tensor:
    return torch.logit(share.float().nan_to_num(0.5), eps=1e-3)
