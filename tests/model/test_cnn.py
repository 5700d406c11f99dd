"""The convolutions against plain ones of torch, how far they see, and what they may not see."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from habitue.core.runtime import Runtime
from habitue.model import cnn, streams

PLACE = torch.cat([torch.arange(40), torch.arange(7), torch.arange(1)])


def made(**settings) -> cnn.Model:
    torch.manual_seed(3)
    config = cnn.Config(width=6, dropout=0.0, **settings)
    return cnn.Model(config, streams.Reader(6, kinds=2, content=1, met=np.ones(4, dtype=bool), dropout=0.0)).eval()


@pytest.mark.parametrize("gap", [1, 2, 8])
def test_a_convolution_is_that_of_torch(gap):
    """Each stretch alone, with zeros before its first set."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(48, 6), torch.randn(6, 18), torch.randn(6)
    found = F.linear(cnn.before(x, PLACE, count=3, gap=gap), weight, bias)
    kernel = weight.view(6, 3, 6).permute(0, 2, 1).flip(2)  # torch's last tap is the newest
    parts = [F.pad(part.T[None], (2 * gap, 0)) for part in x.split([40, 7, 1])]
    expected = torch.cat([F.conv1d(part, kernel, bias, dilation=gap)[0].T for part in parts])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_block_is_two_convolutions_beside_a_way_past_them():
    model = made(dilations=(2,))
    block, x = model.blocks[0], torch.randn(48, 6)
    hidden = x
    for mix, norm, gap in zip(block.mix, block.norm, (2, 4), strict=True):
        hidden = torch.relu(norm(mix(cnn.before(hidden, PLACE, count=3, gap=gap))))
    torch.testing.assert_close(block(x, PLACE), x + hidden)
    assert (hidden > 0).any()


@pytest.mark.parametrize(("dilations", "far"), [((1,), 7), ((1, 4), 31), ((2,), 13)])
def test_a_set_is_seen_as_far_ahead_as_the_field_says(dilations, far):
    model = made(dilations=dilations)
    assert cnn.field(cnn.Config(dilations=dilations)) == far
    x = torch.randn(48, 6)
    changed = x.clone()
    changed[3] += 1
    moved = (model(x, PLACE) != model(changed, PLACE)).any(1).nonzero()[:, 0].tolist()
    assert moved[0] == 3 and moved[-1] == 3 + far - 1  # nothing before it, nothing in another stretch


def test_it_learns_what_follows_what(make_past):
    """After A comes B, after B comes C, after C comes A; where a user stands is known from the order alone."""
    starts = np.random.default_rng(0).integers(0, 3, 60)
    past = make_past(*[(u, 9 - t, "ABC"[(s + t) % 3]) for u, s in enumerate(starts) for t in range(6)], items="ABC")
    config = dataclasses.replace(cnn.Config(), passes=30, stretches=16, learning_rate=1e-2)
    state = cnn.fit(past, config, runtime=Runtime(seed=1))
    assert cnn.score(state, past).argmax(1).tolist() == ((starts + 6) % 3).tolist()
