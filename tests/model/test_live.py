"""A memory kept up to date answers what the whole history, read anew, answers."""

import dataclasses
import datetime as dt

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.model import batches, behaviour, blocks, live
from habitue.model.past import PURCHASE, REFUND

RUNTIME = Runtime(seed=1, threads=1)
TINY = behaviour.Config(width=16, blocks=2, passes=1000, steps=8, questions=64, content=0, window=8)
ITEMS = "abcdefghij"

every_mixer = pytest.mark.parametrize("mixer", blocks.KINDS)
both_clocks = pytest.mark.parametrize("clock", [True, False])


@pytest.fixture(scope="module")
def shops():
    """Return (mixer, clock) -> a trained model, its past made once a call to `make_past`."""
    return {}


@pytest.fixture
def shop(make_past, shops):
    """Return a past, and (mixer, clock) -> a model trained on it."""
    past = past_of(make_past, days=300)

    def trained(mixer, clock):
        if (mixer, clock) not in shops:
            shops[mixer, clock] = fitted(past, mixer, clock)
        return past, shops[mixer, clock]

    return trained


def past_of(make_past, days):
    """Return a past of 12 users of 0 to 45 sets at odd moments, some given back, some only looked at."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(1, 12):
        for day in np.sort(rng.uniform(0.1, days, rng.integers(1, 46)))[::-1]:
            basket = "".join(sorted(rng.choice(list(ITEMS), rng.integers(1, 5), replace=False)))
            kind = [PURCHASE, PURCHASE, REFUND, "Product Viewed"][rng.integers(4)]
            rows.append((user, float(day), basket, kind, float(rng.integers(-400, 4000)) / 100))
    past = make_past(*rows, items=ITEMS, users=range(12))
    assert np.diff(past.histories.set_start).max() > 4 * TINY.window
    return past


def fitted(past, mixer, clock):
    """Return a trained model; biases, tables and rates that have learnt little are all set to something."""
    state = behaviour.fit(past, dataclasses.replace(TINY, mixer=mixer, clock=clock), runtime=RUNTIME)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: w if name in ("items", "centre", "spread") else w + 0.2 * torch.randn(w.shape, generator=generator)
        for name, w in state.weights.items()
    }
    return dataclasses.replace(state, weights=weights)


def appended(reader, past, user, memory=None, sets=None):
    """Append the sets of a user, or some of them, one after the other."""
    every = past.histories
    memory = live.begin(reader) if memory is None else memory
    for place in range(every.set_start[user], every.set_start[user + 1])[sets or slice(None)]:
        rows = slice(every.row_start[place], every.row_start[place + 1])
        memory = live.append(
            reader,
            memory,
            at=float(every.set_at[place]),
            kind=every.kinds[every.set_kind[place]],
            items=every.row_item[rows],
            quantities=every.row_quantity[rows],
            values=every.row_value[rows],
        )
    return memory


@every_mixer
@both_clocks
def test_it_is_the_score_of_the_whole_history(shop, mixer, clock):
    past, state = shop(mixer, clock)
    reader = live.reader(state, past)
    found = [live.ask(reader, appended(reader, past, user), at=past.day) for user in range(12)]
    whole = behaviour.score(state, past)
    assert whole.std(axis=0).min() > 0.01  # users differ
    assert not clock or state.again
    np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-4)


@every_mixer
def test_a_shop_known_for_more_than_a_year_is_told_the_season(make_past, mixer):
    past = past_of(make_past, days=900)
    state = fitted(past, mixer, True)
    assert state.season
    reader = live.reader(state, past)
    found = [live.ask(reader, appended(reader, past, user), at=past.day) for user in range(12)]
    np.testing.assert_allclose(found, behaviour.score(state, past), rtol=1e-4, atol=1e-4)
    blind = behaviour.score(dataclasses.replace(state, season=False), past)
    assert np.abs(blind - found).max() > 0.01  # it is read


@every_mixer
@both_clocks
def test_what_is_known_of_the_person_is_joined(shop, mixer, clock):
    past, _ = shop(mixer, clock)
    traits = np.random.default_rng(1).normal(size=(12, 3)).astype(np.float32)
    traits[:5] = 0  # of these nothing is known; user 0 has no set either
    told = dataclasses.replace(past, traits=traits)
    state = fitted(told, mixer, clock)
    reader = live.reader(state, past)
    memories = [appended(reader, past, user) for user in range(12)]
    found = [
        live.ask(reader, memory, at=past.day, traits=row[None]) for memory, row in zip(memories, traits, strict=True)
    ]
    np.testing.assert_allclose(found, behaviour.score(state, told), rtol=1e-4, atol=1e-4)
    untold = [live.ask(reader, memory, at=past.day) for memory in memories]
    np.testing.assert_allclose(untold, behaviour.score(state, past), rtol=1e-4, atol=1e-4)
    gap = np.abs(np.array(found) - untold).max(axis=1)
    assert not gap[:5].any() and gap[5:].min() > 0.01


@every_mixer
@both_clocks
def test_it_is_so_after_every_set_and_asking_changes_nothing(shop, mixer, clock):
    past, state = shop(mixer, clock)
    every = past.histories
    reader, user = live.reader(state, past), int(np.diff(every.set_start).argmax())
    memory = live.begin(reader)
    for place in range(int(np.diff(every.set_start).max())):
        memory = appended(reader, past, user, memory, slice(place, place + 1))
        asked = dt.datetime.fromtimestamp(memory.at[-1] * 86_400 + 3_600, dt.UTC)
        then = dataclasses.replace(past.take([user]), as_of=asked)
        found = live.ask(reader, memory, at=then.day)
        np.testing.assert_allclose(found, behaviour.score(state, then)[0], rtol=1e-4, atol=1e-4)
        assert live.ask(reader, memory, at=then.day).tobytes() == found.tobytes()
        later = live.ask(reader, memory, at=then.day + 20)
        assert (later.tobytes() != found.tobytes()) == (clock or state.again)


@every_mixer
@both_clocks
def test_a_history_read_at_once_is_the_same_as_set_by_set(shop, mixer, clock):
    past, state = shop(mixer, clock)
    reader, every = live.reader(state, past), past.histories
    for user in range(12):
        sets = []
        for place in range(every.set_start[user], every.set_start[user + 1]):
            rows = slice(every.row_start[place], every.row_start[place + 1])
            told = (every.row_item[rows], every.row_quantity[rows], every.row_value[rows])
            sets.append(live.Set(float(every.set_at[place]), every.kinds[every.set_kind[place]], *told))
        one, other = live.resume(reader, sets), appended(reader, past, user)
        for name, value in vars(other).items():
            for a, b in zip(*(v if name == "shown" else (v,) for v in (getattr(one, name), value)), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=name)


@every_mixer
def test_a_memory_has_a_bound_and_survives_being_written(shop, mixer):
    past, state = shop(mixer, True)
    reader = live.reader(state, past)
    memory, sizes = live.begin(reader), []
    for day in range(400):
        memory = live.append(
            reader,
            memory,
            at=1000.0 + day,
            kind=PURCHASE,
            items=[day % 10, 3 - (day % 10 == 3)],
            quantities=[1, 2],
            values=[1, 1],
        )
        sizes.append(memory.nbytes)
    assert memory.sets == memory.orders == 400 and memory.cents == 80_000
    assert len(memory.ordered_at) == batches.RECENT and len(memory.at) == 8 and len(memory.item) == 16
    assert max(sizes[200:]) == max(sizes[150:200]) < 20_000
    arrays = {
        f"{f.name}": v for f in dataclasses.fields(memory) if isinstance(v := getattr(memory, f.name), np.ndarray)
    }
    arrays |= {f"shown.{place}": part for place, part in enumerate(memory.shown)}
    back = load(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
    again = dataclasses.replace(
        memory,
        **{name: back[name] for name in arrays if "." not in name},
        shown=tuple(back[f"shown.{place}"] for place in range(len(memory.shown))),
    )
    assert live.ask(reader, again, at=1400.0).tobytes() == live.ask(reader, memory, at=1400.0).tobytes()


def test_more_recent_purchases_than_are_counted(shop, make_past):
    """Ten orders a day: both ways stop counting at the same number."""
    _, state = shop("softmax", True)
    past = make_past(*((1, 20 - n / 10, "ab"[n % 2]) for n in range(190)), items=ITEMS)
    reader = live.reader(state, past)
    memory = appended(reader, past, 0)
    assert memory.orders == 190 > batches.RECENT == len(memory.ordered_at)
    np.testing.assert_allclose(
        live.ask(reader, memory, at=past.day), behaviour.score(state, past)[0], rtol=1e-4, atol=1e-4
    )


@both_clocks
def test_a_stranger_gets_what_a_stranger_gets(shop, clock):
    past, state = shop("softmax", clock)
    reader = live.reader(state, past)
    assert np.diff(past.histories.set_start)[0] == 0
    found = live.ask(reader, live.begin(reader), at=past.day)
    np.testing.assert_allclose(found, behaviour.score(state, past)[0], rtol=1e-5, atol=1e-5)


def test_the_memory_given_stays_as_it_was(shop):
    past, state = shop("recurrent", True)
    reader = live.reader(state, past)
    memory = appended(reader, past, 3, sets=slice(0, 3))
    before = live.ask(reader, memory, at=past.day)
    appended(reader, past, 3, memory, slice(3, 12))
    assert live.ask(reader, memory, at=past.day).tobytes() == before.tobytes()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"items": []}, "no product"),
        ({"quantities": [1.0]}, "not one quantity and one value for each"),
        ({"items": [1, 1]}, "stands in it twice"),
        ({"items": [1, 10]}, "not one of the 10 of the catalogue"),
        ({"items": [-1, 1]}, "not one of the 10 of the catalogue"),
        ({"values": [1.0, float("nan")]}, "no finite number"),
        ({"at": float("inf")}, "no finite number"),
        ({"at": 99.0}, "came before the customer's newest set"),
    ],
)
def test_a_set_that_is_none_is_refused_in_words(shop, changed, words):
    past, state = shop("softmax", True)
    reader = live.reader(state, past)
    good = {"at": 100.0, "kind": PURCHASE, "items": [1, 2], "quantities": [1.0, 1.0], "values": [1.0, 1.0]}
    memory = live.append(reader, live.begin(reader), **good)
    with pytest.raises(ModelError, match=rf"a set to append: .*{words}.*whole history.*append sets by time"):
        live.append(reader, memory, **(good | changed))


def test_a_question_at_the_moment_of_the_newest_set_is_refused(shop):
    past, state = shop("softmax", True)
    reader = live.reader(state, past)
    memory = appended(reader, past, 2)
    with pytest.raises(
        ModelError, match=r"not after the customer's newest set.*strictly before.*Ask at a later moment"
    ):
        live.ask(reader, memory, at=float(memory.at[-1]))


@every_mixer
@both_clocks
def test_a_history_recalled_at_once_is_the_memory_of_its_sets(shop, mixer, clock):
    past, state = shop(mixer, clock)
    reader = live.reader(state, past)
    for user in range(12):
        found, wanted = live.recall(reader, past.histories.take([user])), appended(reader, past, user)
        for name, value in vars(wanted).items():
            got = getattr(found, name)
            for one, other in zip(got, value, strict=True) if name == "shown" else [(got, value)]:
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4, err_msg=name)
        at = past.day + 0.5
        np.testing.assert_allclose(
            live.ask(reader, found, at=at), live.ask(reader, wanted, at=at), rtol=1e-4, atol=1e-4
        )
        later = {"at": past.day + 0.25, "kind": PURCHASE, "items": [1, 3], "quantities": [1, 2], "values": [3, 4]}
        both = [live.append(reader, memory, **later) for memory in (found, wanted)]
        asked = [live.ask(reader, memory, at=at) for memory in both]
        np.testing.assert_allclose(*asked, rtol=1e-4, atol=1e-4)
