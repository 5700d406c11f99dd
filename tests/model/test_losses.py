"""Losses against plain references and values worked by hand."""

import math

import pytest
import torch
from torch.distributions import LogNormal

from habitue.model import losses
from habitue.model.losses import (
    CHUNK,
    Sparse,
    Trend,
    expected_money,
    generalised_bce,
    set_cross_entropy,
    zero_inflated_log_normal,
)

Q, ITEMS, WIDTH, TRENDS, MOMENTS = 2 * CHUNK + 7, 23, 5, 2, 4  # three chunks, the last one short


def sparse(dense: torch.Tensor) -> Sparse:
    row, column = dense.nonzero(as_tuple=True)
    return Sparse(row, column, dense[row, column].clone())


@pytest.fixture
def given() -> dict:
    torch.manual_seed(0)
    mask = torch.rand(Q, ITEMS) < 0.2
    mask[5] = False  # a question without an extra
    target = (torch.rand(Q, ITEMS) < 0.15).float()
    target[:, 0] = 1
    return {
        "queries": torch.randn(Q, WIDTH),
        "table": torch.randn(ITEMS, WIDTH),
        "bias": torch.randn(ITEMS),
        "trend": Trend(torch.randn(TRENDS, MOMENTS, ITEMS), torch.randint(MOMENTS, (Q,)), torch.randn(Q, TRENDS)),
        "extra": sparse(torch.randn(Q, ITEMS) * mask),
        "target": sparse(target / target.sum(1, keepdim=True)),
        "weight": torch.rand(Q),
    }


def plain(given: dict) -> torch.Tensor:
    """The same loss, every score at once, gradients by autograd."""
    scores = given["queries"] @ given["table"].T + given["bias"]
    trend = given["trend"]
    scores = scores + torch.einsum("qk,kqi->qi", trend.weight, trend.rates[:, trend.row])
    scores = scores.index_put((given["extra"].row, given["extra"].column), given["extra"].value, accumulate=True)
    target = torch.zeros(Q, ITEMS, dtype=scores.dtype)
    target[given["target"].row, given["target"].column] = given["target"].value.to(scores.dtype)
    return -(given["weight"] * (target * scores.log_softmax(1)).sum(1)).sum()


def learnt(given: dict) -> list[torch.Tensor]:
    tensors = [given["queries"], given["table"], given["trend"].weight, given["extra"].value]
    return [t.requires_grad_() for t in tensors]


def test_set_cross_entropy_and_its_gradient_equal_autograds(given):
    tensors = learnt(given)
    loss = set_cross_entropy(**given)
    torch.testing.assert_close(loss, plain(given), rtol=1e-5, atol=0)
    mine = torch.autograd.grad(3 * loss, tensors)  # a factor upstream must reach every gradient
    for got, expected in zip(mine, torch.autograd.grad(3 * plain(given), tensors), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_what_is_not_given_adds_nothing(given):
    bare = {name: given[name] for name in ("queries", "table", "target", "weight")}
    nothing = torch.zeros(0, dtype=torch.int64)
    full = {
        **bare,
        "bias": torch.zeros(ITEMS),
        "trend": Trend(torch.zeros(1, 1, ITEMS), torch.zeros(Q, dtype=torch.int64), torch.ones(Q, 1)),
        "extra": Sparse(nothing, nothing, torch.zeros(0)),
    }
    assert set_cross_entropy(**bare).item() == pytest.approx(plain(full).item(), rel=1e-5)


def test_in_bfloat16_the_loss_and_its_gradient_are_near(given):
    tensors = learnt(given)
    loss = set_cross_entropy(**given, half=True)
    torch.testing.assert_close(loss, plain(given), rtol=1e-2, atol=0)
    for got, expected in zip(
        torch.autograd.grad(loss, tensors), torch.autograd.grad(plain(given), tensors), strict=True
    ):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, expected, rtol=0.05, atol=0.02 * expected.abs().max().item())


def test_set_cross_entropy_by_hand():
    """Scores ln 1, ln 2, ln 5; half the target on the second and half on the third: -(ln 1/4 + ln 5/8) / 2."""
    loss = set_cross_entropy(
        torch.tensor([[1.0]]),
        torch.zeros(3, 1),
        bias=torch.tensor([0.0, math.log(2), 0.0]),
        trend=Trend(
            torch.tensor([[[9.0, 9.0, 9.0], [0.0, 0.0, math.log(5) / 2]]]), torch.tensor([1]), torch.tensor([[1.0]])
        ),
        extra=Sparse(torch.tensor([0]), torch.tensor([2]), torch.tensor([math.log(5) / 2])),
        target=Sparse(torch.tensor([0, 0]), torch.tensor([1, 2]), torch.tensor([0.5, 0.5])),
        weight=torch.tensor([2.0]),
    )
    assert loss.item() == pytest.approx(-(math.log(1 / 4) + math.log(5 / 8)), rel=1e-6)


def test_set_cross_entropy_of_one_question_does_not_depend_on_the_others(given):
    whole = set_cross_entropy(**given)
    alone = []
    for q in range(Q):
        rows = {name: given[name][q : q + 1] for name in ("queries", "weight")}
        trend = given["trend"]
        rows["trend"] = Trend(trend.rates, trend.row[q : q + 1], trend.weight[q : q + 1])
        for name in ("extra", "target"):
            one = given[name]
            here = one.row == q
            rows[name] = Sparse(one.row[here] - q, one.column[here], one.value[here])
        alone.append(set_cross_entropy(**{**given, **rows}))
    torch.testing.assert_close(whole, torch.stack(alone).sum(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("most", "error"),
    [
        (40, MemoryError()),
        (40, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")),
        (1, RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")),
    ],
)
def test_where_memory_ends_fewer_questions_are_scored_at_once(given, monkeypatch, most, error):
    """Memory for the scores of `most` questions: halved until it fits, and the answer is the same."""
    sizes, softmax = [], torch.softmax

    def scarce(scores, dim):
        sizes.append(len(scores))
        if len(scores) > most:
            raise error
        return softmax(scores, dim=dim)

    tensors = learnt(given)
    expected = torch.autograd.grad(set_cross_entropy(**given), tensors)
    monkeypatch.setattr(losses.torch, "softmax", scarce)
    loss = set_cross_entropy(**given)
    torch.testing.assert_close(loss, plain(given), rtol=1e-5, atol=0)
    assert sizes[:3] == [128, 64, 32] and max(sizes[-5:]) <= most
    for got, same in zip(torch.autograd.grad(loss, tensors), expected, strict=True):
        torch.testing.assert_close(got, same, rtol=1e-4, atol=1e-5)


def test_no_room_for_one_row_and_other_errors_are_passed_on(given, monkeypatch):
    def never(error):
        def softmax(scores, dim):
            raise error

        return softmax

    monkeypatch.setattr(losses.torch, "softmax", never(MemoryError("none left")))
    with pytest.raises(MemoryError, match="none left"):
        set_cross_entropy(**given)
    monkeypatch.setattr(losses.torch, "softmax", never(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="^a bug$"):
        set_cross_entropy(**given)


def test_under_autocast_the_loss_is_the_same_but_for_what_comes_in_rounded(given):
    """An accelerator's step runs under autocast: bfloat16 is brought back, nothing else moves."""
    expected = set_cross_entropy(**given)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(set_cross_entropy(**given), expected, rtol=1e-6, atol=0)
        rounded = {**given, "queries": given["queries"].bfloat16().requires_grad_()}
        loss = set_cross_entropy(**rounded)
    torch.testing.assert_close(loss, expected, rtol=1e-2, atol=0)
    loss.backward()
    assert rounded["queries"].grad.dtype == torch.bfloat16 and loss.dtype == torch.float32


def test_generalised_bce_by_hand():
    """Five products, two negatives: alpha = 1/2, t = 1/2: beta = 1/2 (1/2 (1 - 2) + 2) = 3/4.

    Scores, lowered by ln 5, ln 3 (target, sigmoid 3/4) and -ln 3 and 0 (negatives, 1 - sigmoid 3/4 and 1/2).
    """
    table = torch.tensor([[0.0], [math.log(3)], [-math.log(3)], [9.0], [0.0]]) + math.log(5)
    given = {
        "queries": torch.tensor([[1.0]]),
        "table": table,
        "target": Sparse(torch.tensor([0]), torch.tensor([1]), torch.tensor([1.0])),
        "weight": torch.tensor([2.0]),
        "trust": 0.5,
    }
    expected = -2 * (0.75 * math.log(3 / 4) + math.log(3 / 4) + math.log(1 / 2)) / 3
    assert generalised_bce(**given, negatives=torch.tensor([2, 0])).item() == pytest.approx(expected, rel=1e-6)
    # The target drawn as a negative is none: it counts among the drawn, and pushes nobody away.
    expected = -2 * (0.75 * math.log(3 / 4) + math.log(1 / 2)) / 3
    assert generalised_bce(**given, negatives=torch.tensor([1, 0])).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("trust", [0.0, 1.0])
def test_generalised_bce_with_all_terms_equals_a_plain_sum(given, trust):
    """Over all products drawn beta is 1 but for the one place between K and I - 1, whatever t."""
    drawn = torch.tensor([0, 3, 4, 8, 9, 11, 20])
    scores = given["queries"] @ given["table"].T
    trend, extra, target = given["trend"], given["extra"], given["target"]
    scores = scores - math.log(ITEMS) + torch.einsum("qk,kqi->qi", trend.weight, trend.rates[:, trend.row])
    scores = scores.index_put((extra.row, extra.column), extra.value, accumulate=True)
    wanted = torch.zeros(Q, ITEMS).index_put((target.row, target.column), target.value)
    beta = {0.0: 1.0, 1.0: 7 / 22}[trust]
    told = -beta * (wanted * scores.sigmoid().log()).sum(1)
    left = [-sum((1 - scores[q, j].sigmoid()).log() for j in drawn if wanted[q, j] == 0) for q in range(Q)]
    expected = (given["weight"] * (told + torch.stack(left))).sum() / 8
    bare = {name: value for name, value in given.items() if name != "bias"}
    for name in ("target", "extra"):  # in whatever order they come within a row
        some = bare[name]
        order = torch.argsort(some.row * 100 - some.column)
        bare[name] = given[name] = Sparse(some.row[order], some.column[order], some.value[order])
    tensors = learnt(given)
    loss = generalised_bce(**bare, negatives=drawn, trust=trust)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(loss, tensors))
    nothing = Sparse(*(torch.zeros(0, dtype=torch.int64) for _ in range(2)), torch.zeros(0))
    without = {**bare, "trend": None, "extra": None}
    same = generalised_bce(**{**without, "extra": nothing}, negatives=drawn, trust=trust)
    torch.testing.assert_close(generalised_bce(**without, negatives=drawn, trust=trust), same)


def test_zero_inflated_log_normal_by_hand():
    """p = 1/2 and nothing spent: ln 2. p = 1/2, log money 1 at mean 0 and spread 1: ln 2 + 1/2."""
    raw_spread = math.log(math.e - 1)  # softplus of it is 1
    parameters = torch.tensor([[0.0, 7.0, raw_spread], [0.0, 0.0, raw_spread]])
    loss = zero_inflated_log_normal(parameters, torch.tensor([0.0, math.e]))
    torch.testing.assert_close(loss, torch.tensor([math.log(2), math.log(2) + 0.5]))


def test_zero_inflated_log_normal_is_the_likelihood_torch_knows():
    torch.manual_seed(0)
    parameters, money = torch.randn(50, 3), torch.rand(50) * 9 + 0.1
    spread = torch.nn.functional.softplus(parameters[:, 2]).clamp(0.05, 2)
    known = LogNormal(parameters[:, 1], spread).log_prob(money) + torch.sigmoid(parameters[:, 0]).log()
    left_out = money.log() + math.log(2 * math.pi) / 2
    torch.testing.assert_close(zero_inflated_log_normal(parameters, money), -(known + left_out))


def test_no_money_moves_no_amount():
    parameters = torch.randn(4, 3, requires_grad=True)
    zero_inflated_log_normal(parameters, torch.zeros(4)).sum().backward()
    assert (parameters.grad[:, 1:] == 0).all() and (parameters.grad[:, 0] > 0).all()


def test_expected_money_is_the_mean_of_what_is_drawn():
    torch.manual_seed(0)
    parameters = torch.tensor([[0.4, 2.0, -0.5]])
    spread = torch.nn.functional.softplus(parameters[0, 2])
    amounts = LogNormal(parameters[0, 1], spread).sample((400_000,))
    spends = torch.rand(400_000) < torch.sigmoid(parameters[0, 0])
    assert expected_money(parameters).item() == pytest.approx((amounts * spends).mean().item(), rel=0.01)


def test_expected_money_stays_finite():
    wild = torch.tensor([[50.0, 1e9, 1e9], [-50.0, -1e9, -1e9]])
    assert expected_money(wild).isfinite().all()
    assert zero_inflated_log_normal(wild, torch.tensor([1.0, 1e30])).isfinite().all()
