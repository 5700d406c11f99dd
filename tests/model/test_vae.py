"""The pieces of the bound are those of torch.distributions, the encoder its formula; what is learnt was planted."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import distributions

from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.model import vae
from habitue.model.bags import bags
from habitue.model.losses import Sparse, set_cross_entropy
from habitue.model.past import purchases

ITEMS = "ABCDEFGH"
SMALL = vae.Config(hidden=16, width=4, ahead=True, steps=120, queries=64, beta=0.01, dropout=0.1)


def two_tastes(users: int = 40, seed: int = 3) -> list[tuple]:
    """Even users buy A to D, odd ones E to H, two products each time."""
    rng = np.random.default_rng(seed)
    return [
        (user, int(day), "".join(rng.choice(list(ITEMS[4 * (user % 2) :][:4]), size=2, replace=False)))
        for user in range(users)
        for day in rng.choice(np.arange(1, 60), size=3, replace=False)
    ]


@pytest.fixture
def past(make_past):
    return make_past(*two_tastes(), items=ITEMS)


def drawn(config: vae.Config) -> vae.Model:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = vae.Model(config, content=1, sold=torch.ones(8))
        for weight in model.parameters():
            weight.data += 0.3 * torch.randn(weight.shape)
    return model.requires_grad_(False)


def test_the_divergence_is_that_of_torch():
    mean, log_spread = torch.randn(5, 3), torch.randn(5, 3)
    normal = distributions.Normal(mean, log_spread.exp())
    expected = distributions.kl_divergence(normal, distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(vae.divergence(mean, log_spread), expected)


def test_the_likelihood_is_the_multinomial_s():
    """Told per product: N times it is the log-likelihood of N draws, less how many orders they could come in."""
    model, z = drawn(SMALL), torch.randn(1, 4)
    counts = torch.tensor([2.0, 0, 1, 0, 0, 3, 0, 0])
    table = model.table(torch.zeros(8, 1))
    column = counts.nonzero()[:, 0]
    target = Sparse(torch.zeros(3, dtype=torch.int64), column, counts[column] / 6)
    told = set_cross_entropy(vae.with_one(z), table, target=target, weight=torch.ones(1))
    multinomial = distributions.Multinomial(6, logits=(z @ model.goods(torch.zeros(8, 1)).T + model.bias)[0])
    orders = torch.lgamma(torch.tensor(7.0)) - torch.lgamma(counts + 1).sum()
    torch.testing.assert_close(-6 * told, multinomial.log_prob(counts) - orders)


def test_the_bound_lies_below_the_likelihood_and_is_close_when_the_encoder_is_right():
    """log p(x) by drawing from the prior, for a decoder that is all but blind to z, and for one that is not."""
    model = drawn(SMALL)
    table, x = model.table(torch.zeros(8, 1)), torch.tensor([0, 0, 5])
    mean, log_spread = torch.zeros(1, 4), torch.zeros(1, 4)

    def likelihood(z: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(vae.with_one(z) @ table.T, dim=1)[:, x].sum(1)

    z = torch.randn(20_000, 4)
    whole = torch.logsumexp(likelihood(z), 0) - np.log(20_000)
    bound = likelihood(z).mean() - vae.divergence(mean, log_spread)[0]
    assert bound < whole - 0.1  # this encoder, the prior, says nothing of x
    table[:, :-1] *= 0.01
    whole = torch.logsumexp(likelihood(z), 0) - np.log(20_000)
    bound = likelihood(z).mean() - vae.divergence(mean, log_spread)[0]
    assert whole - 0.01 < bound <= whole


def test_the_encoder_reads_the_bag_brought_to_length_1(past):
    model, every = drawn(SMALL), past.histories
    made = bags(every, every.set_start[:-1], every.set_start[1:], half_life_days=1e9)
    mean, log_spread = model.encode(made)
    bag = purchases(past, past.items, half_life_days=1e9).toarray()
    unit = bag / np.sqrt(np.diff(every.row_start[every.set_start]))[:, None]  # rows of worth 1
    hidden = np.tanh(unit @ model.read.numpy() + model.offset.numpy())
    for said, layer in ((mean, model.mean), (log_spread, model.spread)):
        np.testing.assert_allclose(said, hidden @ layer.weight.numpy().T + layer.bias.numpy(), rtol=1e-4, atol=1e-4)
    assert model.encode(made)[0].isfinite().all()


@pytest.mark.parametrize("ahead", [True, False])
def test_it_learns_who_likes_what_and_asks_the_history_of_the_moment(past, make_past, ahead):
    config = dataclasses.replace(SMALL, ahead=ahead, history_half_life_days=1.0 if ahead else 1e6)
    state = vae.fit(past, config, runtime=Runtime())
    for user, row in enumerate(vae.score(state, past)):
        mine = slice(4 * (user % 2), 4 * (user % 2) + 4)
        assert row[mine].min() > np.delete(row, np.arange(8)[mine]).max()
    later = make_past(*two_tastes(), (0, 0.5, "EFGH"), (99, 3, "AB"), items=ITEMS)
    now = vae.score(state, later)
    keys = later.histories.user_keys.tolist()
    stranger = now[keys.index(99)]
    assert stranger[:4].min() > stranger[4:].max()  # never seen at the fit
    assert (now[keys.index(0)][4:].min() > now[keys.index(0)][:4].max()) == ahead  # only a fading bag turns


def test_what_comes_after_what_is_learnt_only_ahead(make_past):
    """B follows A and D follows C."""
    sets = [(user, 10 - place, one) for user in range(30) for place, one in enumerate("ABCD"[2 * (user % 2) :][:2])]
    past, asked = make_past(*sets, items="ABCD"), make_past((1, 1, "A"), (2, 1, "C"), items="ABCD")
    state = vae.fit(past, SMALL, runtime=Runtime())
    assert vae.score(state, asked).argmax(axis=1).tolist() == [1, 3]
    rebuilt = vae.score(vae.fit(past, dataclasses.replace(SMALL, ahead=False), runtime=Runtime()), asked)
    assert set(rebuilt[0].argsort()[-2:]) == {0, 1}
    assert abs(rebuilt[0, 0] - rebuilt[0, 1]) < rebuilt[0].std()


def test_strangers_get_what_most_buy_and_a_product_without_sales_comes_last(make_past):
    sets = [(user, 5 + day, "A" if user % 4 else "B") for user in range(40) for day in range(2)]
    state = vae.fit(make_past(*sets, items="ABC"), SMALL, runtime=Runtime())
    row = vae.score(state, make_past((1, 2, "A"), items="ABC", users=[1, 7]))[1]
    assert row[0] > row[1] >= row[2]


def test_content_speaks_for_a_product_nobody_has_bought(make_past):
    sets = [(user, day, one.replace("H", "G")) for user, day, one in two_tastes()]
    words = np.eye(8)
    words[7] = words[6]
    config = dataclasses.replace(SMALL, content=7)
    state = vae.fit(make_past(*sets, items=ITEMS, words=words), config, runtime=Runtime())
    scores = vae.score(state, make_past((1, 2, "EF"), (2, 2, "AB"), items=ITEMS))
    gap = scores[0] - scores[1]
    assert gap[7] > gap[:4].max()
    silent = vae.fit(make_past(*sets, items=ITEMS), config, runtime=Runtime())
    assert silent.items == tuple(ITEMS[:7])


def test_seeds_differ_and_repeat(past):
    config = dataclasses.replace(SMALL, steps=3)
    states = (vae.fit(past, config, runtime=Runtime(seed=seed)) for seed in (1, 1, 2))
    one, again, other = (vae.score(state, past) for state in states)
    assert one.tobytes() == again.tobytes()
    assert np.abs(one - other).max() > 0.01


def test_it_goes_on_where_it_was_cut_off(past, tmp_path):
    class Killed(Exception):
        pass

    def kill(done: int, *_: object) -> None:
        if done == 110:
            raise Killed

    with pytest.raises(Killed):
        vae.fit(past, SMALL, runtime=Runtime(), folder=tmp_path, progress=kill)
    steps = []
    there = vae.fit(past, SMALL, runtime=Runtime(), folder=tmp_path, progress=lambda done, *_: steps.append(done))
    assert steps[0] == 101
    assert vae.score(there, past).tobytes() == vae.score(vae.fit(past, SMALL, runtime=Runtime()), past).tobytes()
    with pytest.raises(ModelError, match="checkpoint.safetensors: it was written by a run with other data, settings"):
        vae.fit(past, dataclasses.replace(SMALL, beta=0.5), runtime=Runtime(), folder=tmp_path)


def test_a_budget_ends_the_training(past):
    state = vae.fit(past, dataclasses.replace(SMALL, steps=10**6), runtime=Runtime(budget_s=0.2))
    assert 1 <= state.steps < 10**6
    assert np.isfinite(vae.score(state, past)).all()


def test_beta_keeps_what_is_said_of_a_bag_near_nothing(past):
    """With a beta that outweighs everything the posterior is the prior: all users get the same scores."""
    states = (vae.fit(past, dataclasses.replace(SMALL, beta=beta), runtime=Runtime()) for beta in (0.01, 100.0))
    spread, none = (vae.score(state, past).std(axis=0).mean() for state in states)
    assert none < 0.2 * spread


def test_nobody_bought_twice(make_past):
    past = make_past((1, 1, "A"), (2, 1, "B"), items="AB")
    with pytest.raises(ModelError, match="model.vae: no user has two purchases before as_of"):
        vae.fit(past, SMALL, runtime=Runtime())
    assert vae.fit(past, dataclasses.replace(SMALL, ahead=False, steps=2), runtime=Runtime()).steps == 2
