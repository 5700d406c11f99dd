"""The heads: what is known of a wait, the likelihoods by hand, and that they are learnt as probabilities."""

import math

import pytest
import torch

from habitue.model.heads import EDGES, HORIZONS, Forecast, Outcomes, steps_of_wait

NEVER = math.inf


def outcomes(*rows: tuple) -> Outcomes:
    """One customer a row: churned, money, wait, seen, kind."""
    churned, money, wait, seen, kind = zip(*rows, strict=True)
    floats = (torch.tensor(column, dtype=torch.float32) for column in (churned, money, wait, seen))
    return Outcomes(*floats, torch.tensor(kind))


@pytest.mark.parametrize(
    ("wait", "seen", "ordered", "asked"),
    [
        (5, 100, [0, 0, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0]),
        (7, 100, [0, 0, 0, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0]),  # an edge begins the next step
        (0, 1, [1, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]),
        (NEVER, 20, [0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0]),  # of 14 to 30 too little was seen
        (NEVER, 14, [0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0]),
        (25, 26, [0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0]),  # nor of the same step where an order came
        (25, 30, [0, 0, 0, 0, 1, 0, 0], [1, 1, 1, 1, 1, 0, 0]),
        (200, 400, [0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_what_is_known_of_a_wait(wait, seen, ordered, asked):
    found = steps_of_wait(torch.tensor([float(wait)]), torch.tensor([float(seen)]))
    assert [row[0].tolist() for row in found] == [ordered, asked]


def test_the_likelihoods_by_hand():
    """Logits of 0: each step asked costs ln 2, a kind of three ln 3; nobody who did nothing has a kind."""
    known = outcomes((1, 0.0, NEVER, 20, -1), (0, math.e, 5, 20, 2))
    answer = torch.zeros(2, 4 + len(EDGES) + 3)
    answer[:, 3] = math.log(math.e - 1)  # softplus of it is 1: the spread
    churn, money, wait, kind = Forecast.losses(answer, known).tolist()
    assert churn == pytest.approx(math.log(2))
    assert money == pytest.approx((math.log(2) + math.log(2) + 0.5) / 2)
    assert wait == pytest.approx((4 + 3) / 2 * math.log(2))
    assert kind == pytest.approx(math.log(3) / 2)


def test_what_was_not_seen_moves_nothing():
    answer = torch.zeros(1, 4 + len(EDGES) + 2, requires_grad=True)
    Forecast.losses(answer, outcomes((1, 0.0, NEVER, 20, -1))).sum().backward()
    gradient = answer.grad[0]
    assert (gradient[4:8] > 0).all() and (gradient[8:] == 0).all() and gradient[0] < 0 < gradient[1]


def test_it_starts_from_what_holds_of_everybody():
    """Ten customers, all seen for 50 days: two ordered on day 5 and three on day 20."""
    rows = [(0, 9.0, 5, 50, 0)] * 2 + [(0, 9.0, 20, 50, 0)] * 3 + [(1, 0.0, NEVER, 50, 1)] * 5
    head = Forecast(3, kinds=2, known=outcomes(*rows))
    told = head.read(head(torch.zeros(4, 3)))
    hazard = [0.5 / 11, 0.5 / 11, 2.5 / 11, 0.5 / 9, 3.5 / 9, 0.5, 0.5]  # half an order more, of one customer more
    staying = torch.tensor([1 - h for h in hazard]).cumprod(0)
    for days in HORIZONS:
        torch.testing.assert_close(told[f"churn_{days}"], staying[EDGES.index(days)].expand(4), atol=0.03, rtol=0)
    torch.testing.assert_close(told["kind"], torch.tensor([[5.5, 5.5]]).expand(4, 2) / 11, atol=0.03, rtol=0)
    torch.testing.assert_close(told["churn"], torch.full((4,), 0.5), atol=0.03, rtol=0)


def test_longer_is_never_likelier_and_kinds_add_up_to_one():
    torch.manual_seed(0)
    told = Forecast.read(3 * torch.randn(50, 4 + len(EDGES) + 3))
    assert (told["churn_7"] >= told["churn_30"]).all() and (told["churn_30"] >= told["churn_90"]).all()
    assert (told["churn_90"] >= 0).all() and (told["churn_7"] <= 1).all()
    torch.testing.assert_close(told["kind"].sum(1), torch.ones(50))


def test_probabilities_are_learnt_though_most_are_still_waited_for():
    """Two groups order at random, every 10 and every 60 days on average; each customer was seen for 5 to 120 days."""
    torch.manual_seed(0)
    group = torch.arange(4_000) % 2
    mean = torch.where(group == 0, 10.0, 60.0)
    wait = -mean * torch.rand(4_000).log()
    seen = 5 + 115 * torch.rand(4_000)
    wait = torch.where(wait < seen, wait, math.inf)
    known = Outcomes(group.float(), torch.zeros(4_000), wait, seen, torch.full((4_000,), -1))
    head = Forecast(2, kinds=2, known=known)
    inputs = torch.nn.functional.one_hot(group, 2).float()
    adam = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(200):
        adam.zero_grad()
        Forecast.losses(head(inputs), known)[2].backward()
        adam.step()
    told = head.read(head(torch.eye(2)))
    for days in HORIZONS:
        for g, average in enumerate((10, 60)):
            assert told[f"churn_{days}"][g].item() == pytest.approx(math.exp(-days / average), abs=0.04)


def test_nobody_known_is_no_error():
    none = torch.zeros(0)
    head = Forecast(3, kinds=2, known=Outcomes(none, none, none, none, none.long()))
    assert torch.isfinite(head(torch.zeros(1, 3))).all()
    some = outcomes((1, 0.0, NEVER, 0.5, -1))  # a moment ago: nothing is known of it yet
    assert Forecast.losses(torch.zeros(1, 4 + len(EDGES) + 2), some)[2:].tolist() == [0, 0]
