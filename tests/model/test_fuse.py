"""Every way of fusing goes through the same checks: what is missing, in which order, and what is learnt."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.model import behaviour, fuse, fused

ITEMS, WIDTH = 24, 8
every_way = pytest.mark.parametrize("kind", fuse.WAYS)


def two(seed: int = 0) -> tuple[sp.csr_matrix, tuple[tuple[str, int], ...]]:
    """Two modalities of 24 products; the last four lack the first, the one before them lacks both."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(ITEMS, 3))
    look, told = (hidden @ rng.normal(size=(3, width)) for width in (6, 9))
    look[-5:], told[-5] = 0, 0
    return sp.csr_matrix(np.c_[look, told].astype(np.float32)), (("look", 6), ("told", 9))


def table(kind: str, *, drop: float = 0.0, fill: bool = False, words=None, parts=None) -> fuse.Table:
    whole, named = two()
    content = fuse.content(whole if words is None else words, parts or named, 16, ITEMS, fill=fill)
    torch.manual_seed(0)
    sold = torch.ones(ITEMS)
    sold[3] = 0
    made = fuse.Table(fuse.Config(kind, drop), content, WIDTH, sold=sold, scale=0.3)
    return made


def shaken(made: fuse.Table) -> fuse.Table:
    """Return it as if it had been trained: no weight is what it starts as."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return made.eval()


@every_way
def test_starts_as_the_sum_of_what_is_present(kind):
    made, own = table(kind).eval(), torch.randn(ITEMS, WIDTH)
    vectors, _ = made(own)
    rows = [getattr(made, name) for name in made.names]
    wanted = own * made.there[:, :1] + sum(layer(row) for layer, row in zip(made.fused.project, rows, strict=True))
    torch.testing.assert_close(vectors, wanted, atol=1e-5, rtol=1e-5)


@every_way
def test_what_is_missing_is_not_read(kind):
    """Whatever stands in the row of a modality that is absent, the vector is the same: the mask decides."""
    made, own = shaken(table(kind)), torch.randn(ITEMS, WIDTH)
    before, _ = made(own)
    look = made.view_look
    look[-5:] = 7.0
    torch.testing.assert_close(made(own)[0], before)
    other = own.clone()
    other[3] = 9.0  # never sold: its own vector is missing
    torch.testing.assert_close(made(other)[0], before)
    look[:-5] += 1.0
    after, _ = made(own)
    assert (after - before)[:-5].abs().min(dim=1).values.max() > 1e-3 and torch.equal(after[-5:], before[-5:])


@every_way
def test_a_mask_given_takes_a_modality_away(kind):
    made, own = shaken(table(kind)), torch.randn(ITEMS, WIDTH)
    before, _ = made(own)
    there = made.there.clone()
    there[0, 2] = fuse.MISSING
    after, _ = made(own, there)
    assert not torch.allclose(after[0], before[0]) and torch.equal(after[1:], before[1:])


@every_way
def test_nothing_known_of_anything(kind):
    made, own = shaken(table(kind)), torch.randn(ITEMS, WIDTH)
    vectors, apart = made(own, torch.zeros_like(made.there))
    assert torch.isfinite(vectors).all() and torch.isfinite(apart)
    torch.testing.assert_close(vectors, vectors[:1].expand_as(vectors))  # one and the same: learnt, not made of content
    loss = vectors.sum() + apart
    loss.backward()
    assert made.fused.missing.grad.abs().sum() > 0
    assert all(torch.isfinite(w.grad).all() for w in made.parameters() if w.grad is not None)


@every_way
def test_one_modality(kind):
    words, parts = two()
    made = shaken(table(kind, words=words[:, :6], parts=parts[:1]))
    assert made.names == ["view_look"] and torch.isfinite(made(torch.randn(ITEMS, WIDTH))[0]).all()


@every_way
def test_the_order_of_the_modalities_is_nothing(kind):
    words, parts = two()
    turned = sp.csr_matrix(sp.hstack([words[:, 6:], words[:, :6]]))
    one, other = shaken(table(kind)), shaken(table(kind, words=turned, parts=parts[::-1]))
    own = torch.randn(ITEMS, WIDTH)
    assert torch.equal(one(own)[0], other(own)[0])


@every_way
def test_a_thing_does_not_see_the_others(kind):
    made = shaken(table(kind))
    own, rows = torch.randn(ITEMS, WIDTH), [getattr(made, name) for name in made.names]
    alone, _ = made.fused(own[4:5], made.there[4:5], [row[4:5] for row in rows])
    torch.testing.assert_close(alone, made(own)[0][4:5], atol=1e-5, rtol=1e-5)


def test_ways_that_are_learnt_differ():
    own = torch.randn(ITEMS, WIDTH)
    vectors = {kind: shaken(table(kind))(own)[0] for kind in fuse.WAYS}
    assert all(not torch.allclose(a, b) for n, a in vectors.items() for m, b in vectors.items() if n != m)


def test_a_gate_weighs_only_what_is_there():
    gate = fuse.Gate(3, WIDTH)
    views, seen = torch.randn(5, 3, WIDTH), torch.ones(5, 3, dtype=torch.bool)
    seen[:, 1] = False
    assert torch.equal(gate.weights(views, seen), torch.tensor([[1.0, 0.0, 1.0]]).expand(5, 3))


def test_shared_parts_are_drawn_together_and_own_ones_away():
    way = fuse.Shared(2, WIDTH)
    views, seen = torch.randn(50, 2, WIDTH), torch.ones(50, 2, dtype=torch.bool)
    steps = torch.optim.Adam(way.parameters(), lr=0.05)
    first = float(way.apart(views, seen).detach())
    for _ in range(60):
        steps.zero_grad()
        way.apart(views, seen).backward()
        steps.step()
    assert float(way.apart(views, seen).detach()) < 0.5 * first
    assert float(way.apart(views, torch.zeros_like(seen)).detach()) == 0


def test_in_training_things_lose_one_modality_and_never_the_last():
    torch.manual_seed(0)
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False], [False, False, False]])
    many = present.repeat(2000, 1)
    left = fuse.lost(many, 0.5).reshape(2000, 4, 3)
    gone = present.sum(1) - left.sum(2)
    assert gone[:, :2].float().mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.05)
    assert gone.max() == 1 and not gone[:, 2:].any() and not (left & ~present).any()
    assert left[:, 0].float().mean(0).tolist() == pytest.approx([5 / 6] * 3, abs=0.03)  # each as often as the others


def test_dropping_is_for_training_only():
    made, own = shaken(table("concat", drop=0.9)), torch.randn(ITEMS, WIDTH)
    assert torch.equal(made(own)[0], made(own)[0])
    made.train()
    assert not torch.equal(made(own)[0], made(own)[0])


def test_what_is_missing_is_filled_from_the_like_and_marked():
    words, parts = two()
    content = fuse.content(words, parts, 16, ITEMS, fill=True)
    plain = fuse.content(words, parts, 16, ITEMS)
    look = content.names.index("look")
    assert content.there[-4:, look].tolist() == [fuse.FILLED] * 4 and (plain.there[-4:, look] == fuse.MISSING).all()
    assert not content.there[-5].any() and not content.views[look][-5].any()  # nothing known: nothing made up
    assert (content.there[:-5] == fuse.THERE).all() and np.array_equal(content.views[look][:-5], plain.views[look][:-5])
    full, _ = two()
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(ITEMS, 3))
    truth = hidden @ rng.normal(size=(3, 6))
    near = np.linalg.norm(truth[-4:, None] - truth[None, :-5], axis=2).argsort(axis=1)[:, :8]
    cosine = lambda a, b: a @ b.T / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)  # noqa: E731
    like = cosine(content.views[look][-4:], content.views[look][:-5])
    assert np.mean([like[i][near[i]].mean() - like[i].mean() for i in range(4)]) > 0.3


def test_what_is_made_up_can_be_told_from_what_is_known():
    made, own = shaken(table("gate", fill=True)), torch.randn(ITEMS, WIDTH)
    there = made.there.clone()
    assert (there == fuse.FILLED).any()
    there[there == fuse.FILLED] = fuse.THERE
    assert not torch.allclose(made(own)[0][-1], made(own, there)[0][-1])


def test_too_few_pairs_fill_nothing():
    words, parts = two()
    few = words.tolil()
    few[5:, :6] = 0
    content = fuse.content(sp.csr_matrix(few), parts, 16, ITEMS, fill=True)
    assert not (content.there == fuse.FILLED).any()


def test_a_modality_that_nobody_has_is_none():
    words, parts = two()
    words = sp.csr_matrix(sp.hstack([sp.csr_matrix((ITEMS, 6), dtype=np.float32), words[:, 6:]]))
    assert fuse.content(words, parts, 16, ITEMS).names == ("told",)
    assert fuse.content(None, (), 16, ITEMS).names == () and fuse.content(words, parts, 0, ITEMS).names == ()


def test_parts_that_are_not_those_of_the_words():
    words, _ = two()
    with pytest.raises(ModelError, match=r"modalities: look 6, told 8 of 15 columns\. Which numbers belong"):
        fuse.content(words, (("look", 6), ("told", 8)), 16, ITEMS)
    with pytest.raises(ModelError, match="a 6, a 9 of 15 columns"):
        fuse.content(words, (("a", 6), ("a", 9)), 16, ITEMS)


def test_numbers_that_are_none():
    words, parts = two()
    words.data[3] = np.nan
    with pytest.raises(ModelError, match="1 weights are NaN or infinite"):
        fuse.content(words, parts, 16, ITEMS)


def test_a_way_there_is_not():
    with pytest.raises(ModelError, match=r"kind 'sum', drop 0.2\. .*seed, concat, gate, attention, model"):
        fuse.Config("sum")
    with pytest.raises(ModelError, match="drop 1"):
        fuse.Config("gate", drop=1)
    with pytest.raises(ModelError, match=r"fusion 'late', how 'average'\. .*concat, gate, attention, model, decision"):
        fused.Config("late")


# Behind the networks.


def test_decisions_by_hand():
    one = np.array([[3.0, 2.0, 1.0, 0.0], [0, 0, 0, 0]], dtype=np.float32)
    other = np.array([[0.0, 2.0, 2.0, -9.0], [1, 2, 3, 4]], dtype=np.float32)
    z = lambda row: (row - row.mean()) / row.std()  # noqa: E731
    mean = fuse.decided([one, other], "average")
    np.testing.assert_allclose(mean[0], (z(one[0]) + z(other[0])) / 2, rtol=1e-6)
    np.testing.assert_allclose(mean[1], z(other[1]) / 2, rtol=1e-6)  # who says nothing is not heard
    votes = fuse.decided([one, other], "vote")
    wanted = [1 / 61 + 1 / 63, 1 / 62 + 1 / 61.5, 1 / 63 + 1 / 61.5, 1 / 64 + 1 / 64]
    np.testing.assert_allclose(votes[0], wanted, rtol=1e-6)
    stacked = fuse.decided([one, other], "stacked", [0.0, 2.0])
    np.testing.assert_allclose(stacked, [2 * z(other[0]), 2 * z(other[1])], rtol=1e-6)
    np.testing.assert_array_equal(fuse.decided([one, other], "vote"), fuse.decided([other, one], "vote"))


@pytest.mark.parametrize(
    ("scores", "how", "weights", "found"),
    [
        ([np.zeros((2, 3))], "loudest", None, "the way 'loudest' without weights"),
        ([np.zeros((2, 3))], "stacked", None, "the way 'stacked' without weights"),
        ([np.zeros((2, 3))], "vote", [1.0], "the way 'vote' with weights"),
        ([np.zeros((2, 3)), np.zeros((3, 2))], "vote", None, r"shapes \[\(2, 3\), \(3, 2\)\]"),
        ([], "average", None, r"shapes \[\]"),
        ([np.zeros((2, 3))], "stacked", [1.0, 1.0], r"\[1.0, 1.0\] as weights"),
        ([np.full((2, 3), np.nan)], "average", None, "a score that is NaN or infinite"),
    ],
)
def test_decisions_that_are_none(scores, how, weights, found):
    with pytest.raises(ModelError, match=found):
        fuse.decided(scores, how, weights)


# Customers of whom something is known.


@every_way
def test_an_answer_takes_in_what_is_known_of_the_person(kind):
    torch.manual_seed(0)
    who = fuse.Customer(fuse.Config(kind, 0.5), 3, WIDTH)
    with torch.no_grad():
        for weight in who.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    who.eval()
    answer, traits = torch.randn(4, WIDTH), torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]])
    told = who(answer, traits)
    assert torch.equal(told[2:], who(answer)[2:])  # nothing known of two of them
    assert not torch.allclose(told[:2], who(answer)[:2])
    assert torch.equal(who(answer, traits[:, :0]), who(answer))
    who.train()
    assert not torch.equal(who(answer, traits), who(answer, traits))  # some are forgotten


@pytest.fixture
def shop(make_past):
    """Four kinds of six products; `look` tells the kind. Each customer buys one kind, which `traits` tell."""
    names = "abcdefghijklmnopqrstuvwx"
    rng = np.random.default_rng(0)
    sets = []
    for user in range(48):
        kind = user % 4
        for day, n in enumerate(rng.permutation(6)[:4]):
            sets.append((user, 40 - 9 * day, names[6 * kind + n]))
    words = np.c_[np.eye(4)[np.repeat(np.arange(4), 6)], rng.normal(size=(24, 3))].astype(np.float32)
    past = make_past(*sets, items=names, words=words)
    traits = np.eye(4, dtype=np.float32)[past.histories.user_keys % 4]
    return dataclasses.replace(past, parts=(("look", 4), ("noise", 3)), traits=traits)


def right(scores: np.ndarray, kinds: np.ndarray) -> float:
    """Return the share of the three best that are of the customer's kind."""
    return float((np.argsort(-scores, axis=1)[:, :3] // 6 == kinds[:, None]).mean())


SMALL = behaviour.Config(width=16, blocks=1, passes=30, questions=96, content=8, learning_rate=1e-2)


LATE = [pytest.param("decision", how, marks=pytest.mark.slow) for how in ("vote", "stacked")]


@pytest.mark.parametrize(("fusion", "how"), [*((fusion, "average") for fusion in fused.FUSIONS), *LATE])
def test_every_fusion_learns_the_kind(shop, fusion, how):
    runtime = Runtime(seed=0, threads=1)
    state = fused.fit(shop, fused.Config(fusion, how, SMALL), runtime=runtime)
    kinds = shop.histories.user_keys % 4
    assert right(fused.score(state, shop), kinds) > 0.8
    assert np.isfinite(fused.score(state, shop.of(()))).all()
    if fusion == "decision":
        assert set(state.members) == {"events", "look", "noise", "traits"}
        assert (state.weights is None) == (how != "stacked")
        return  # members that know nothing of a stranger outvote the one that does
    strangers = dataclasses.replace(shop, histories=shop.histories.keep_sets(np.zeros(192, dtype=bool)))
    told, untold = (right(fused.score(state, past), kinds) for past in (strangers, strangers.of(("look", "noise"))))
    assert told > untold + 0.1 and 0.15 < untold < 0.4  # only the traits tell a stranger's kind


def test_traits_that_are_none_are_refused_in_words(shop):
    runtime = Runtime(seed=0, threads=1)
    broken = shop.traits.copy()
    broken[2, 1] = np.nan
    with pytest.raises(ModelError, match="the customers' traits: 1 numbers are NaN or infinite"):
        behaviour.fit(dataclasses.replace(shop, traits=broken), SMALL, runtime=runtime)
    with pytest.raises(ModelError, match=r"numbers of the shape \(3, 4\) for 48 customers"):
        behaviour.fit(dataclasses.replace(shop, traits=shop.traits[:3]), SMALL, runtime=runtime)
    state = behaviour.fit(shop, dataclasses.replace(SMALL, passes=1), runtime=runtime)
    with pytest.raises(ModelError, match=r"2 numbers a customer; the model was trained with 4"):
        behaviour.score(state, dataclasses.replace(shop, traits=shop.traits[:, :2].copy()))


def test_goes_on_from_an_earlier_table(shop):
    """What the modalities add at the start is taken off the earlier vectors, so that their sum is these."""
    runtime = Runtime(seed=0, threads=1)
    early = behaviour.fit(shop, dataclasses.replace(SMALL, fusion=fuse.Config("gate", 0.0)), runtime=runtime)
    again = dataclasses.replace(SMALL, fusion=fuse.Config("concat", 0.0), steps=1, learning_rate=1e-9)
    late = behaviour.fit(shop, again, runtime=runtime, start=early)
    np.testing.assert_allclose(late.weights["items"], early.weights["items"], atol=1e-4)


def test_a_past_of_some_modalities(shop):
    one = shop.of(("look",))
    assert one.parts == (("look", 4),) and one.traits is None
    np.testing.assert_allclose(one.words.toarray(), np.eye(4)[np.repeat(np.arange(4), 6)], atol=1e-6)
    assert shop.of(("traits", "noise")).words.shape == (24, 3) and shop.of(("traits",)).traits is shop.traits
    none = shop.of(())
    assert none.words is None and none.traits is None and none.parts == ()
    assert dataclasses.replace(shop, parts=()).of(("content",)).words.shape == (24, 7)
    words = shop.words.copy()
    words.data[3] = np.nan
    with pytest.raises(ModelError, match="1 weights are NaN or infinite"):
        dataclasses.replace(shop, words=words).of(("look",))
