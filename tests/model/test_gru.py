"""The net against the equations of its cells, and what it may not see."""

import dataclasses

import numpy as np
import pytest
import torch

from habitue.core.errors import SettingsError
from habitue.core.runtime import Runtime
from habitue.model import gru, streams

CONFIG = gru.Config(width=6, hidden=5, dropout=0.0)
PLACE = torch.tensor([0, 1, 2, 3, 0, 1, 2, 0])  # stretches of 4, 3 and 1 sets


def made(cell: str) -> gru.Model:
    torch.manual_seed(3)
    read = streams.Reader(6, kinds=2, content=1, met=np.ones(4, dtype=bool), dropout=0.0)
    return gru.Model(dataclasses.replace(CONFIG, cell=cell), read).eval()


every_cell = pytest.mark.parametrize("cell", gru.CELLS)


def test_each_step_is_that_of_cho_et_al():
    """r, z = sigmoid; n = tanh(W x + b + r (U h + c)); h' = (1 - z) n + z h, a stretch alone, from h = 0."""
    model = made("gru")
    x = torch.randn(8, 6)
    from_x, from_h = model.gru.weight_ih_l0, model.gru.weight_hh_l0
    bias_x, bias_h = model.gru.bias_ih_l0, model.gru.bias_hh_l0
    expected = []
    for n, place in enumerate(PLACE.tolist()):
        h = torch.zeros(5) if place == 0 else h  # noqa: F821  the step before it
        x_r, x_z, x_n = (from_x @ x[n] + bias_x).split(5)
        h_r, h_z, h_n = (from_h @ h + bias_h).split(5)
        z = torch.sigmoid(x_z + h_z)
        h = (1 - z) * torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n) + z * h
        expected.append(model.out.weight @ h + model.out.bias)
    torch.testing.assert_close(model(x, PLACE), torch.stack(expected))


def test_each_step_is_that_of_hochreiter_and_schmidhuber():
    """i, f, o = sigmoid; c' = f c + i tanh(g); h' = o tanh(c'), a stretch alone, from h = c = 0."""
    model = made("lstm")
    x = torch.randn(8, 6)
    net, expected = model.gru, []
    for n, place in enumerate(PLACE.tolist()):
        h, c = (torch.zeros(5), torch.zeros(5)) if place == 0 else (h, c)  # noqa: F821  of the step before it
        told = net.weight_ih_l0 @ x[n] + net.bias_ih_l0 + net.weight_hh_l0 @ h + net.bias_hh_l0
        i, f, g, o = told.split(5)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        expected.append(model.out.weight @ h + model.out.bias)
    torch.testing.assert_close(model(x, PLACE), torch.stack(expected))


def test_a_cell_nobody_knows_is_named():
    with pytest.raises(SettingsError, match=r"model.gru.cell: there is no cell 'lsmt'.*Did you mean 'lstm'"):
        made("lsmt")


@every_cell
def test_a_later_set_moves_nothing_before_it_and_no_other_stretch(cell):
    model = made(cell)
    x = torch.randn(8, 6)
    changed = x.clone()
    changed[2] += 1
    one, other = model(x, PLACE), model(changed, PLACE)
    same = [0, 1, 4, 5, 6, 7]
    assert one[same].equal(other[same])
    assert ((one[[2, 3]] - other[[2, 3]]).abs().amax(1) > 1e-4).all()


@every_cell
def test_it_learns_what_follows_what(make_past, cell):
    """After A comes B, after B comes C, after C comes A; where a user stands is known from the order alone."""
    rng = np.random.default_rng(0)
    starts = rng.integers(0, 3, 60)
    past = make_past(*[(u, 9 - t, "ABC"[(s + t) % 3]) for u, s in enumerate(starts) for t in range(6)], items="ABC")
    config = dataclasses.replace(gru.Config(), cell=cell, passes=30, stretches=16, learning_rate=1e-2)
    state = gru.fit(past, config, runtime=Runtime(seed=1))
    assert gru.score(state, past).argmax(1).tolist() == ((starts + 6) % 3).tolist()
