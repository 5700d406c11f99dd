"""Every block against its formula written out token by token, and its two ways of answering against each other."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from habitue.core.errors import SettingsError
from habitue.model import blocks
from habitue.model.batches import GAPS, Group, Sight

SHAPE = blocks.Shape(width=8, heads=2, window=6, clock=True, dropout=0.0)


def made(mixer, clock=True, seed=0):
    """Return a block whose every weight is a random number, biases and tables too."""
    torch.manual_seed(seed)
    block = blocks.block(mixer, dataclasses.replace(SHAPE, clock=clock)).eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return block


def stretch(sets, clock=True):
    """Return the sight of one stretch of `sets` sets a few days apart, then with a clock a question that sees all."""
    count = sets + clock
    at = torch.tensor([0.0, 1.0, 1.5, 8.0, 9.0, 30.0, 31.0][:count])
    pause = torch.cat([torch.tensor([400.0]), at.diff()]) if clock else torch.zeros(count)
    end = torch.tensor([*range(1, sets + 1), *[sets] * clock])
    back = (end[:, None] - torch.arange(sets)).clamp_min(0)[None]
    gap = (2 * (at[:, None] - at[:sets]).clamp_min(0).log1p()).long().clamp_max(GAPS - 1)[None] if clock else None
    asks = torch.tensor([[0.0] * sets + [1.0]]) if clock else None
    group = Group(torch.arange(count)[None], torch.arange(sets)[None], back, gap, asks)
    return Sight(sets, pause, (group,), torch.arange(count))


def by_hand(block, x, sight, token):
    """Return what one token sees by the formula, head by head and set by set."""
    y = block.before_attention(x)
    three, width = block.all_three(y), x.shape[1]
    each, (group,) = width // 2, sight.groups
    found = []
    for head in range(2):
        part = slice(head * each, (head + 1) * each)

        def column(number, at, part=part):
            return three[at, number * width :][part]

        near = [s for s in range(sight.sets) if group.back[0, token, s]]
        if isinstance(block, blocks.Recurrent):
            state = torch.zeros(each, each)
            log_a = -F.softplus(block.fade(y))[:, head]
            if block.daily is not None:
                log_a = log_a - F.softplus(block.daily[head]) * sight.pause
            for s in near:
                state = log_a[s].exp() * state + torch.outer(column(2, s), column(3, s))
            state = state * log_a[token].exp() if token >= sight.sets else state
            read = F.layer_norm(state.T @ column(0, token), (each,))
            found.append(read * F.silu(column(1, token)))
            continue
        bias = [block.back[head, group.back[0, token, s]] for s in near]
        if group.gap is not None:
            bias = [b + block.gap[head, group.gap[0, token, s]] for b, s in zip(bias, near, strict=True)]
        if isinstance(block, blocks.Softmax):
            keys = [block.nothing[0, head, 0], *(column(1, s) for s in near)]
            values = [block.nothing[1, head, 0], *(column(2, s) for s in near)]
            logit = [k @ column(0, token) / math.sqrt(each) + b for k, b in zip(keys, [0.0, *bias], strict=True)]
            found.append(sum(w * v for w, v in zip(torch.stack(logit).softmax(0), values, strict=True)))
        else:
            weight = [
                F.silu(F.silu(column(0, token)) @ F.silu(column(2, s)) + b) for s, b in zip(near, bias, strict=True)
            ]
            total = sum(w * F.silu(column(3, s)) for w, s in zip(weight, near, strict=True))
            found.append(total / len(near) if near else torch.zeros(each))
    mixed = torch.cat(found)
    if isinstance(block, blocks.Gated):
        mixed = F.layer_norm(mixed, (width,)) * F.silu(three[token, width : 2 * width])
    out = x[token] + block.out(mixed)
    return out + block.narrow(F.gelu(block.wide(block.before_forward(out)))) if block.FORWARD else out


every_mixer = pytest.mark.parametrize("mixer", blocks.KINDS)
both_clocks = pytest.mark.parametrize("clock", [True, False])


@every_mixer
@both_clocks
@pytest.mark.parametrize("sets", [0, 1, 5])
@torch.no_grad()
def test_it_is_its_formula(mixer, clock, sets):
    if not sets and not clock:
        return  # no token at all
    block, sight = made(mixer, clock), stretch(sets, clock)
    x = torch.randn(sets + clock, 8)
    expected = torch.stack([by_hand(block, x, sight, token) for token in range(len(x))])
    torch.testing.assert_close(block(x, sight), expected, rtol=1e-4, atol=1e-5)


@every_mixer
@both_clocks
@torch.no_grad()
def test_one_token_at_a_time_is_all_at_once(mixer, clock):
    block, sight = made(mixer, clock), stretch(5, clock)
    x, (group,) = torch.randn(5 + clock, 8), sight.groups
    memory, found = block.begin(), []
    for token in range(len(x)):
        one, pause = x[token : token + 1], sight.pause[token : token + 1]
        if token < 5:
            memory = block.remember(one, pause, memory)
        seen = min(token + 1, 5)
        look = Group(
            torch.zeros(1, 1, dtype=torch.int64),
            torch.arange(seen)[None],
            group.back[:, token : token + 1, :seen],
            None if group.gap is None else group.gap[:, token : token + 1, :seen],
            torch.ones(1, 1) if token == 5 else None,
        )
        found.append(block.look(one, pause, memory, look))
    torch.testing.assert_close(torch.cat(found), block(x, sight), rtol=1e-4, atol=1e-5)
    assert len(memory) == (2 if mixer == "recurrent" else 5)  # a state of constant size, or a row a set


@every_mixer
@torch.no_grad()
def test_only_those_asked_are_computed_and_get_what_they_get_among_all(mixer):
    block, sight = made(mixer), stretch(5)
    x, (group,) = torch.randn(6, 8), sight.groups
    some = torch.tensor([5, 2])
    asks = torch.tensor([[1.0, 0.0]])
    groups = (Group(torch.arange(2)[None], group.seen, group.back[:, some], group.gap[:, some], asks),)
    last = dataclasses.replace(sight, groups=groups, order=torch.arange(2))
    torch.testing.assert_close(block(x, last, some), block(x, sight)[some], rtol=1e-5, atol=1e-6)


@every_mixer
@torch.no_grad()
def test_nobody_sees_a_question_or_what_comes_later(mixer):
    block, sight = made(mixer), stretch(5)
    x = torch.randn(6, 8)
    changed = x.clone()
    changed[3:] += 1
    one, other = block(x, sight), block(changed, sight)
    assert one[:3].equal(other[:3]) and not one[3:].equal(other[3:])
    asked = x.clone()
    asked[5] += 1
    assert block(asked, sight)[:5].equal(one[:5])


@every_mixer
@both_clocks
@torch.no_grad()
def test_the_time_between_counts_with_a_clock(mixer, clock):
    block, sight = made(mixer, clock), stretch(5, clock)
    x, (group,) = torch.randn(5 + clock, 8), sight.groups
    later = dataclasses.replace(
        sight,
        pause=sight.pause * 3,
        groups=(dataclasses.replace(group, gap=None if group.gap is None else (group.gap + 3).clamp_max(GAPS - 1)),),
    )
    assert block(x, sight).equal(block(x, later)) == (not clock)


@every_mixer
def test_every_weight_learns(mixer):
    block, sight = made(mixer), stretch(5)
    block(torch.randn(6, 8), sight).square().sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_a_mixer_nobody_knows_is_named():
    with pytest.raises(SettingsError, match=r"no mixer 'sofmax'.*how its tokens see each other.*mean 'softmax'"):
        made("sofmax")


def test_the_state_forgets_at_the_start_half_in_five_sets():
    torch.manual_seed(0)
    block = blocks.block("recurrent", SHAPE)
    fade = block.faded(torch.zeros(1, 8), torch.zeros(1)).exp()
    np.testing.assert_allclose(fade[0].detach() ** 5, 0.5, atol=0.2)
    paused = block.faded(torch.zeros(1, 8), torch.tensor([100.0])).exp()
    np.testing.assert_allclose((paused / fade).detach()[0], 0.5, atol=0.02)  # and by time half in a hundred days


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_a_share_of_the_numbers_is_dropped_and_the_mean_stays(share):
    drop, x = blocks.Drop(share).train(), torch.ones(501, 333, requires_grad=True)  # no multiple of eight
    torch.manual_seed(0)
    y = drop(x)
    kept = y != 0
    assert kept.float().mean().item() == pytest.approx(1 - share, abs=0.004)
    assert y[kept].unique().numel() == 1
    assert y.mean().item() == pytest.approx(1, abs=0.006)
    assert (
        abs(np.corrcoef(kept[:, :-1].flatten(), kept[:, 1:].flatten())[0, 1]) < 0.01
    )  # one draw tells nothing of the next
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    torch.manual_seed(0)
    assert torch.equal(drop(x), y)


def test_nothing_is_dropped_in_answers_and_at_a_share_of_none():
    x = torch.randn(5, 7)
    assert torch.equal(blocks.Drop(0.5).eval()(x), x)
    assert torch.equal(blocks.Drop(0.0).train()(x), x)
