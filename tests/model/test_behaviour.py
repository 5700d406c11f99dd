"""The flagship on a toy shop whose truth was planted: what it learns, what it may see, and that it repeats."""

import dataclasses
import datetime as dt
import functools
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

from habitue import prepare
from habitue.collect import synthetic
from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime, detect
from habitue.encode import text
from habitue.model import behaviour, blocks, objective, slist, train
from habitue.model.batches import Questions, collate, known, sets_before
from habitue.model.behaviour import Config
from habitue.model.encoder import TREND_DAYS, Model
from habitue.model.lessons import hold_back, lessons
from habitue.model.past import PURCHASE, REFUND, Past, histories, next_sets
from habitue.model.trend import rates

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
CUT = START + dt.timedelta(days=210)
HORIZON = 28
RUNTIME = Runtime(seed=1, threads=1)
TINY = Config(width=16, blocks=1, passes=1000, steps=120, questions=128, content=8)

STILL = dataclasses.replace(TINY, dropout=0.0, steps=25)
every_mixer = pytest.mark.parametrize("mixer", blocks.KINDS)


@functools.cache
def past_at(as_of: dt.datetime = CUT) -> Past:
    shop = synthetic.shop(users=80, items=40, days=240, start=START)
    seen, _ = prepare.split(shop, as_of)
    items = tuple(shop["item_id"].unique().sort())
    moments = [as_of - dt.timedelta(days=7 * week) for week in range(4, 14)]
    features = prepare.features(seen, as_of=[*moments, as_of])
    titles = shop.group_by("item_id").agg(pl.col("title").min()).sort("item_id")
    history = histories(prepare.timeline(seen), items)
    return Past(
        as_of=as_of,
        horizon_days=HORIZON,
        items=items,
        histories=history,
        known=np.ones(len(history.user_keys), dtype=bool),
        words=text.encode(titles).matrix,
        features=features.filter(pl.col("as_of") == as_of),
        train_features=features.filter(pl.col("as_of") < as_of),
        train_labels=prepare.labels(seen, as_of=moments, horizon_days=HORIZON, until=as_of),
    )


@functools.cache
def fitted(config: Config = TINY) -> behaviour.State:
    return behaviour.fit(past_at(), config, runtime=RUNTIME)


def same(one: behaviour.State, other: behaviour.State) -> bool:
    return all(one.weights[name].equal(other.weights[name]) for name in one.weights | other.weights)


def recall(scores: np.ndarray, truth: np.ndarray, k: int) -> float:
    top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float(np.take_along_axis(truth, top, axis=1).sum() / np.minimum(truth.sum(axis=1), k).sum())


def truth() -> np.ndarray:
    shop = synthetic.shop(users=80, items=40, days=240, start=START)
    every = histories(prepare.timeline(shop), past_at().items)
    found = np.zeros((80, 40), dtype=bool)
    found[next_sets(every, after=past_at().day, until=past_at().day + HORIZON).nonzero()] = True
    return found


@every_mixer
def test_finds_staples_and_successors(mixer):
    """An order holds two staples (repeats), a lead and the successor of the last lead."""
    wanted, scores = truth(), behaviour.score(fitted(dataclasses.replace(TINY, mixer=mixer)), past_at())
    asked = wanted.any(axis=1)
    assert recall(scores[asked], wanted[asked], 5) > 0.65  # popularity: 0.13


def test_words_alone_tell_the_taste():
    """Products are never bought in training; only their words can put the customer's own taste first."""
    hidden = np.arange(5, 40, 10)  # one of each taste
    every = past_at().histories
    history = every.keep_rows(~np.isin(every.row_item, hidden))
    state = behaviour.fit(dataclasses.replace(past_at(), histories=history), TINY, runtime=RUNTIME)
    own = behaviour.score(state, dataclasses.replace(past_at(), histories=history))[:, hidden].argmax(axis=1)
    assert (own == np.arange(80) % 4).mean() > 0.8


def test_a_product_new_to_the_state_borrows_from_like_words():
    items = (*past_at().items, *(f"Q{i}" for i in range(4)))
    likes = np.arange(0, 40, 10)  # Qi is called what the first product of taste i is called
    words = sp.vstack([past_at().words, past_at().words[likes]], format="csr")
    later = dataclasses.replace(past_at(), items=items, words=words)
    scores = behaviour.score(fitted(), later)
    np.testing.assert_allclose(scores[:, :40], behaviour.score(fitted(), past_at()), rtol=1e-4, atol=1e-5)
    assert (scores[:, 40:].argmax(axis=1) == np.arange(80) % 4).mean() > 0.6  # chance: 0.25
    wordless = behaviour.score(fitted(), dataclasses.replace(later, words=None))[:, 40:]
    assert np.isfinite(wordless).all() and np.ptp(wordless, axis=1).max() < 1e-5


def test_foretells_who_left_and_what_the_others_spend():
    said = behaviour.predict(fitted(), past_at())
    lapsed = np.array([user // 4 % 2 == 0 for user in said["user_key"]])
    assert roc_auc_score(lapsed, said["churn"]) > 0.99
    assert roc_auc_score(~lapsed, said["value"]) > 0.99


def test_foretells_the_wait_and_what_is_done_next():
    """Half the users left on day 160; the others order every few days, and nobody ever sends anything back."""
    said = behaviour.predict(fitted(), past_at())
    assert said.columns == [
        *("user_key", "churn", "value", "churn_7", "churn_30", "churn_90"),
        *("next_order_completed", "next_order_refunded"),
    ]
    lapsed = np.array([user // 4 % 2 == 0 for user in said["user_key"]])
    assert roc_auc_score(lapsed, said["churn_30"]) > 0.95
    away, there = (said["churn_30"].to_numpy()[group].mean() for group in (lapsed, ~lapsed))
    assert away > 1.5 * there  # in 120 steps; who left had been silent for longer than anybody training saw
    assert (said["churn_7"] >= said["churn_30"]).all() and (said["churn_30"] >= said["churn_90"]).all()
    assert (said["next_order_completed"] > 0.9).all()
    np.testing.assert_allclose(said["next_order_completed"] + said["next_order_refunded"], 1, atol=1e-6)


def test_what_the_past_was_too_short_to_show_is_not_answered():
    young = dataclasses.replace(
        past_at(), train_labels=past_at().train_labels.filter(pl.col("as_of") >= CUT - dt.timedelta(days=45))
    )
    state = behaviour.fit(young, dataclasses.replace(TINY, steps=3), runtime=RUNTIME)
    assert state.seen == 42
    said = behaviour.predict(state, young)
    assert "churn_30" in said.columns and "churn_90" not in said.columns


def test_what_lies_after_a_set_does_not_reach_it():
    """Each question's answer is the same, bit for bit, whatever the sets after it hold."""
    every, model, state = past_at().histories, *restored()
    users = np.arange(80)
    at = np.full(80, START.timestamp() / 86_400 + 100.0)
    late = every.set_at[every.row_set] >= at[0]
    changed = dataclasses.replace(
        every,
        row_item=np.where(late, (every.row_item + 7) % 40, every.row_item).astype(np.int32),
        row_value=np.where(late, 1e6, every.row_value).astype(np.float32),
        row_quantity=np.where(late, 1e6, every.row_quantity).astype(np.float32),
    )
    assert late.any() and not late.all()
    one, other = (ask(model, state, h, users, at) for h in (every, changed))
    assert one.equal(other)
    assert not one.equal(ask(model, state, every, users, at + 50))


@every_mixer
@pytest.mark.parametrize("clock", [True, False])
def test_truncated_histories_give_the_same_scores_bit_for_bit(mixer, clock):
    state = fitted(dataclasses.replace(STILL, mixer=mixer, clock=clock))
    earlier = past_at().rewind(CUT - dt.timedelta(days=60))
    whole = dataclasses.replace(past_at(), as_of=earlier.as_of)  # later sets are still in its histories
    assert len(whole.histories.set_at) > len(earlier.histories.set_at)
    assert behaviour.score(state, whole).tobytes() == behaviour.score(state, earlier).tobytes()
    assert behaviour.score(state, whole).tobytes() != behaviour.score(state, past_at()).tobytes()
    if clock:
        assert behaviour.predict(state, whole).equals(behaviour.predict(state, earlier))


@every_mixer
@pytest.mark.parametrize("users", [[0], [79], [6, 7], [3, 1, 2], list(range(70))])
def test_an_answer_does_not_depend_on_who_else_is_asked(users, mixer):
    """But for the last bits: longer stretches beside one's own change the order of sums."""
    state = fitted(dataclasses.replace(STILL, mixer=mixer))
    alone, together = past_at().take(users), past_at()
    for answer in (behaviour.score, lambda s, p: behaviour.predict(s, p).drop("user_key").to_numpy()):
        np.testing.assert_allclose(answer(state, alone), answer(state, together)[users], rtol=1e-4, atol=1e-5)


def restored() -> tuple[Model, behaviour.State]:
    return behaviour._restored(fitted(), past_at(), np.arange(40)), fitted()


@torch.inference_mode()
def ask(model, state, every, users, at):
    questions = Questions(
        user=users,
        start=every.set_start[users],
        end=every.set_start[users + 1],
        of=np.arange(len(users)),
        before=sets_before(every, users, at),
        at=at,
        ranked=len(users),
    )
    batch = collate(
        known(every, season=False), questions, kinds=np.arange(3), half_lives=(), clock=state.config.clock, window=64
    )
    return model(batch)


def test_vectors_are_the_answer_and_the_mean_of_the_sets(make_past):
    past = past_at()
    found = behaviour.vectors(fitted(), past)
    assert found.shape == (80, 32) and found.dtype == np.float32
    model, every = behaviour._restored(fitted(), past, np.arange(40)), past.histories
    with torch.inference_mode():
        users, batch = next(behaviour._batches(fitted(), past))
        read, asked = model.read(batch), model(batch)
        told = model.forecast.read(model.foretell(asked, batch))["churn"].numpy()
    assert sorted(users) == list(range(80)) and (np.diff(np.diff(every.set_start)[users]) >= 0).all()
    torch.testing.assert_close(asked, read[batch.asked], rtol=1e-5, atol=1e-6)
    place = int(np.flatnonzero(users == 0)[0])
    first, last = np.cumsum(batch.length)[[place - 1, place]] if place else (0, batch.length[0])
    assert last - first == every.set_start[1] < fitted().config.window
    np.testing.assert_allclose(found[0, 16:], read[first:last].mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[users, :16], asked, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(told, behaviour.predict(fitted(), past)["churn"].to_numpy()[users], rtol=1e-5)
    stranger = dataclasses.replace(make_past(items=past.items, users=[5]), words=past.words)
    assert not behaviour.vectors(fitted(), stranger)[0, 16:].any()


def test_the_weights_repeat_and_depend_on_the_seed():
    short = dataclasses.replace(TINY, steps=6)
    first = behaviour.fit(past_at(), short, runtime=RUNTIME)
    assert same(first, behaviour.fit(past_at(), short, runtime=RUNTIME))
    assert not same(first, behaviour.fit(past_at(), short, runtime=Runtime(seed=2, threads=1)))


def test_an_interrupted_fit_goes_on_bit_for_bit(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, __file__, tmp_path], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    steps = []
    state = behaviour.fit(
        past_at(), TINY, runtime=RUNTIME, folder=tmp_path, progress=lambda done, *_: steps.append(done)
    )
    assert steps == list(range(101, 121))
    assert same(state, fitted())


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    short = dataclasses.replace(TINY, steps=2)
    behaviour.fit(past_at(), short, runtime=RUNTIME, folder=tmp_path)
    with pytest.raises(ModelError, match="other data"):
        behaviour.fit(past_at(CUT - dt.timedelta(days=1)), short, runtime=RUNTIME, folder=tmp_path)
    with pytest.raises(ModelError, match="other data"):
        behaviour.fit(past_at(), dataclasses.replace(short, width=8), runtime=RUNTIME, folder=tmp_path)


@pytest.mark.parametrize("clock", [True, False])
def test_a_sample_of_all_products_is_the_whole_softmax(clock, monkeypatch):
    """Nothing is left out and nothing corrected, so the weights agree but for the last bits; a small sample learns."""
    short = dataclasses.replace(TINY, clock=clock, steps=3)
    whole = behaviour.fit(past_at(), short, runtime=RUNTIME)
    monkeypatch.setattr(objective, "FULL", 10)
    monkeypatch.setattr(objective, "NEGATIVES", 100_000)
    sampled = behaviour.fit(past_at(), short, runtime=RUNTIME)
    for name, weight in whole.weights.items():
        torch.testing.assert_close(sampled.weights[name], weight, rtol=0.02, atol=2e-4)
    monkeypatch.setattr(objective, "NEGATIVES", 12)
    wanted, state = truth(), behaviour.fit(past_at(), TINY, runtime=RUNTIME)
    asked = wanted.any(axis=1)
    assert recall(behaviour.score(state, past_at())[asked], wanted[asked], 5) > 0.6  # all of them: above 0.65


def test_a_catalogue_above_the_limit_is_learnt_from_a_sample():
    """50,001 products, all but 40 never sold: a step's softmax goes over 8,192 of them."""
    small = past_at()
    more = tuple(f"z{n:05d}" for n in range(objective.FULL + 1 - len(small.items)))
    words = None if small.words is None else sp.vstack([small.words, sp.csr_matrix((len(more), small.words.shape[1]))])
    past = dataclasses.replace(small, items=small.items + more, words=words)
    state = behaviour.fit(past, TINY, runtime=RUNTIME)
    wanted, scores = truth(), behaviour.score(state, past)
    asked = wanted.any(axis=1)
    assert scores.shape[1] == objective.FULL + 1 and np.isfinite(scores).all()
    assert recall(scores[asked][:, : wanted.shape[1]], wanted[asked], 5) > 0.6
    assert (scores[asked].argmax(axis=1) < len(small.items)).mean() > 0.95  # what was never sold does not come first


@pytest.mark.parametrize("clock", [True, False])
def test_gbce_learns_from_a_few_negatives(clock, monkeypatch):
    monkeypatch.setattr(objective, "GBCE_NEGATIVES", 12)  # of 40 products
    state = behaviour.fit(past_at(), dataclasses.replace(TINY, clock=clock, loss="gbce"), runtime=RUNTIME)
    wanted = truth()
    asked = wanted.any(axis=1)
    assert recall(behaviour.score(state, past_at())[asked], wanted[asked], 5) > 0.4  # popularity: 0.13


@pytest.mark.parametrize("clock", [True, False])
def test_under_autocast_it_learns_the_same(clock, monkeypatch):
    """What an accelerator does, done on the processor: the products of a step in bfloat16."""
    short = dataclasses.replace(STILL, clock=clock)
    plain = behaviour.fit(past_at(), short, runtime=RUNTIME)
    monkeypatch.setattr(train, "in_half", lambda device: True)
    half = behaviour.fit(past_at(), short, runtime=RUNTIME)
    assert not same(plain, half) and all(weight.dtype == torch.float32 for weight in half.weights.values())
    one, other = (behaviour.score(state, past_at()) for state in (plain, half))
    assert np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(one, other, strict=True)]) > 0.99


def test_a_loss_that_there_is_not():
    with pytest.raises(ModelError, match="setting 'loss'.*no loss 'hinge'.*softmax or gbce"):
        behaviour.fit(past_at(), dataclasses.replace(TINY, loss="hinge"), runtime=RUNTIME)


def test_a_lesson_is_asked_in_the_pause_before_it_and_sees_what_came_before_that_moment(make_past):
    past = make_past((1, 30, "a"), (1, 20, "b", REFUND), (1, 10, "c"), (2, 5, "a"), items="abc")
    asked = lessons(past, clock=True)
    assert asked.target.tolist() == [0, 2, 3]
    loss = objective.Objective(None, asked, TINY, None, None, None, RUNTIME)
    seen = set()
    for seed in range(50):
        at, before = loss.moments(np.arange(3), np.random.default_rng(seed))
        days = past.day - at
        assert days[0] == 30 and before[0] == 0 and days[2] == 5 and before[2] == 3
        assert 10 <= days[1] < 30 and before[1] == (1 if days[1] >= 20 else 2)
        seen.add(int(before[1]))
    assert seen == {1, 2}


def test_without_a_clock_it_ranks_what_follows_and_knows_no_time(make_past):
    """Users go round a circle of six products; the moments say nothing and are mixed up."""
    start = np.arange(60) % 6
    rows = [(u, 40 - t - (u % 5) * 0.1, "abcdef"[(start[u] + t) % 6]) for u in range(60) for t in range(4 + u % 3)]
    past = make_past(*rows, items="abcdef")
    config = dataclasses.replace(behaviour.SEQUENCE, width=16, steps=150, passes=1000, questions=64, dropout=0.3)
    state = behaviour.fit(past, config, runtime=RUNTIME)
    assert not state.again and not state.labelled and state.steps == 150
    length = np.diff(past.histories.set_start)
    wanted = (start + length) % 6
    assert (behaviour.score(state, past).argmax(axis=1) == wanted).mean() > 0.95
    moved = dataclasses.replace(past.histories, set_at=past.histories.set_at - 1000.0)
    later = dataclasses.replace(past, histories=moved)
    assert behaviour.score(state, later).tobytes() == behaviour.score(state, past).tobytes()
    with pytest.raises(ModelError, match="without a clock.*leave `clock` on"):
        behaviour.predict(state, past)
    stranger = make_past(items="abcdefg", users=[9])
    np.testing.assert_allclose(
        behaviour.score(state, stranger), np.log1p([[*np.bincount(past.histories.row_item), 0]]), rtol=1e-6
    )


def test_the_more_there_is_to_foretell_the_less_is_dropped(make_past):
    past = make_past(*((user, day, "ab") for user in range(40) for day in (9, 5, 1)), items="ab")
    asked = lessons(past, clock=True)
    rows = 240 / (2 * 16)  # a number of the table
    assert behaviour._dropout(asked, 2, TINY) == pytest.approx(0.337 - 0.0915 * np.log(rows))
    assert behaviour._dropout(asked, 2, dataclasses.replace(TINY, dropout=2.0)) == pytest.approx(
        2 * (0.337 - 0.0915 * np.log(rows))
    )
    assert behaviour._dropout(asked, 1000, TINY) == 0.5


def test_it_goes_on_from_an_earlier_model():
    """One step at next to no rate: products, actions and answers are those of the model it went on from."""
    earlier = past_at(CUT - dt.timedelta(days=60))
    known = np.arange(3, 40)  # the earlier shop had fewer products, and another order of actions
    fewer = dataclasses.replace(
        earlier,
        items=earlier.items[3:],
        words=earlier.words[3:],
        histories=dataclasses.replace(
            (kept := earlier.histories.keep_rows(earlier.histories.row_item >= 3)),
            row_item=kept.row_item - 3,
        ),
    )
    start = behaviour.fit(fewer, TINY, runtime=RUNTIME)
    still = dataclasses.replace(TINY, steps=1, learning_rate=1e-9)
    now = past_at().histories
    swapped = dataclasses.replace(
        past_at(),
        histories=dataclasses.replace(
            now,
            kinds=("Product Viewed", REFUND, PURCHASE),
            set_kind=np.where(now.set_kind == 0, 2, now.set_kind).astype(np.int8),
        ),
    )
    warm = behaviour.fit(swapped, still, runtime=RUNTIME, start=start)
    assert warm.items == past_at().items and warm.day == past_at().day
    torch.testing.assert_close(warm.weights["items"][known], start.weights["items"], rtol=0, atol=1e-6)
    torch.testing.assert_close(warm.weights["kind.weight"][2], start.weights["kind.weight"][0], rtol=0, atol=1e-6)
    torch.testing.assert_close(warm.weights["centre"], start.weights["centre"])
    cold = behaviour.fit(past_at(), still, runtime=RUNTIME)
    wanted = truth()
    asked = wanted.any(axis=1)
    found = [recall(behaviour.score(s, past_at())[asked], wanted[asked], 5) for s in (warm, cold)]
    assert found[0] > found[1] + 0.2


def test_training_that_stops_getting_better_ends_and_keeps_the_best(tmp_path):
    """At a rate that spoils what it learnt: the metric of customers held back falls, and the best weights stay."""
    wild = dataclasses.replace(TINY, learning_rate=0.05, recipe=train.Recipe(patience=5))
    state = behaviour.fit(past_at(), wild, runtime=RUNTIME, folder=tmp_path)
    told = [(row["step"], row["metric"]) for row in train.curve(tmp_path) if row["metric"] is not None]
    metrics = [metric for _, metric in told]
    best = int(np.argmax(metrics))
    assert state.steps == told[-1][0] < state.planned == 120 and best == len(told) - 6
    held = hold_back(past_at())
    looked = dataclasses.replace(state, day=held.asked.day, trend=earlier_trend(held))
    assert held.ndcg(behaviour.score(looked, held.asked)) == pytest.approx(metrics[best], abs=1e-4)
    seen = lessons(held.past, clock=True).known.every
    assert state.sold.sum() == len(seen.row_item) < len(past_at().histories.row_item)


def earlier_trend(held):
    return rates(held.past, TREND_DAYS).at(np.array([held.asked.day]))[1]


SCARCE = dataclasses.replace(TINY, width=32)


def scarce() -> Past:
    """Few customers: 0.4 rows to foretell per number of SCARCE's table, so that a teacher has its say."""
    return past_at().take(np.arange(10))


def test_a_closed_form_teaches():
    """A teacher that always foretells product 7: the larger its share, the higher everybody's score of that."""
    table = np.zeros((40, 40), dtype=np.float32)
    table[:, 7] = 1
    ahead = []
    for taught in (0.0, 0.3, 0.9):
        config = dataclasses.replace(SCARCE, steps=40, taught=taught)
        always = slist.State(scarce().items, table, history_half_life_days=1e3)
        state = behaviour.fit(scarce(), config, runtime=RUNTIME, closed_form=always)
        scores = behaviour.score(state, past_at())
        ahead.append((scores > scores[:, [7]]).sum(axis=1).mean())
    assert ahead[0] > 1.5 * ahead[1] and ahead[1] > 1.5 * ahead[2]


def test_the_closed_form_that_teaches_is_fitted_on_what_the_flagship_sees():
    """One that is given spares the fit; not when customers are held back, whom it may have seen."""
    past, config = scarce(), dataclasses.replace(SCARCE, steps=3, taught=0.5)
    own = slist.fit(past, slist.Config(), runtime=RUNTIME)
    other = dataclasses.replace(own, table=own.table[::-1].copy())

    def fit(closed_form=None, **changes):
        return behaviour.fit(past, dataclasses.replace(config, **changes), runtime=RUNTIME, closed_form=closed_form)

    assert same(fit(), fit(own)) and not same(fit(), fit(other)) and not same(fit(), fit(taught=0.0))
    steps = dataclasses.replace(slist.SEQUENCE, words=0.0)  # the flagship reads no words, nor does its teacher
    assert same(fit(content=0, clock=False), fit(slist.fit(past, steps, runtime=RUNTIME), content=0, clock=False))
    patient = train.Recipe(patience=1)
    assert same(fit(recipe=patient), fit(other, recipe=patient))


def test_another_teacher_is_another_run(tmp_path):
    config = dataclasses.replace(SCARCE, steps=2, taught=0.5)
    own = slist.fit(scarce(), slist.Config(), runtime=RUNTIME)
    behaviour.fit(scarce(), config, runtime=RUNTIME, folder=tmp_path, closed_form=own)
    other = dataclasses.replace(own, table=own.table * 2)
    with pytest.raises(ModelError, match="a run with other data"):
        behaviour.fit(scarce(), config, runtime=RUNTIME, folder=tmp_path, closed_form=other)


def test_scarcity_is_what_is_missing_to_one_row_per_number_of_the_table(make_past):
    past = make_past(*((user, day, "ab") for user in range(8) for day in (9, 5, 1)), items="ab")  # 48 rows
    for width, share in ((48, 0.5), (240, 0.9), (24, 0.0), (8, 0.0)):
        assert behaviour.scarcity(past, dataclasses.replace(TINY, width=width)) == pytest.approx(share)
    steps = dataclasses.replace(TINY, width=48, clock=False)  # nothing answers for a first set: 32 rows
    assert behaviour.scarcity(past, steps) == pytest.approx(2 / 3)


def test_a_teacher_has_nothing_to_say_where_there_is_much_to_foretell():
    config = dataclasses.replace(TINY, steps=3, taught=0.5)
    assert behaviour.scarcity(past_at(), config) == 0
    plain = behaviour.fit(past_at(), dataclasses.replace(config, taught=0.0), runtime=RUNTIME)
    assert same(behaviour.fit(past_at(), config, runtime=RUNTIME), plain)


def test_a_budget_pays_for_the_teacher_too(monkeypatch):
    clock = iter([0.0, 100.0])
    monkeypatch.setattr(behaviour, "time", types.SimpleNamespace(process_time=lambda: next(clock)))
    config, runtime = dataclasses.replace(TINY, steps=50), dataclasses.replace(RUNTIME, budget_s=100.0)
    assert behaviour.fit(past_at(), config, runtime=runtime).steps == 1


def test_a_model_of_another_shape_or_of_later_days_is_no_start():
    short = dataclasses.replace(TINY, steps=1)
    with pytest.raises(ModelError, match="it has blocks 1, width 16, the settings say blocks 2, width 8.*no place"):
        behaviour.fit(past_at(), dataclasses.replace(short, width=8, blocks=2), runtime=RUNTIME, start=fitted())
    with pytest.raises(ModelError, match="trained 60.0 days after as_of.*knows what came later"):
        behaviour.fit(past_at(CUT - dt.timedelta(days=60)), short, runtime=RUNTIME, start=fitted())


@pytest.mark.parametrize("clock", [True, False])
@pytest.mark.parametrize("item", ["a", "ab"])
def test_a_user_of_very_many_events(make_past, clock, item):
    """Longer than the window many times over, all the same product; and a user of one event beside it."""
    past = make_past(*((1, days, item) for days in range(1, 700)), (2, 3, "b"), items="ab")
    config = dataclasses.replace(TINY, steps=4, questions=64, window=16, clock=clock)
    state = behaviour.fit(past, config, runtime=RUNTIME)
    assert np.isfinite(behaviour.score(state, past)).all()


def test_a_customer_of_more_orders_than_a_step_holds(make_past):
    past = make_past(*((1, days, "ab") for days in range(1, 30)), (2, 3, "b"), (3, 4, "a"), items="ab")
    state = behaviour.fit(past, dataclasses.replace(TINY, steps=9, questions=4), runtime=RUNTIME)
    assert np.isfinite(behaviour.score(state, past)).all()


def test_nobody_bought_anything(make_past):
    with pytest.raises(ModelError, match="no purchase of any product before as_of.*next order to learn from"):
        behaviour.fit(make_past(items="ab", users=[1]), TINY, runtime=RUNTIME)


def test_without_a_closed_horizon_it_ranks_but_does_not_foretell(make_past):
    past = make_past((1, 20, "ab"), (1, 10, "ab"), (2, 9, "b"), items="ab")
    state = behaviour.fit(past, dataclasses.replace(TINY, steps=3), runtime=RUNTIME)
    assert behaviour.score(state, past).shape == (2, 2)
    with pytest.raises(ModelError, match="no horizon had closed.*longer ledger or a shorter horizon"):
        behaviour.predict(state, past)


def test_a_kind_it_never_met_is_no_error():
    every = past_at().histories
    kind = np.where(np.arange(len(every.set_at)) % 5 == 0, 2, every.set_kind).astype(np.int8)
    asked = dataclasses.replace(
        past_at(), histories=dataclasses.replace(every, set_kind=kind, kinds=(*every.kinds, "Product Viewed"))
    )
    assert np.isfinite(behaviour.score(fitted(), asked)).all()


@pytest.mark.slow
@pytest.mark.parametrize("clock", [True, False])
def test_two_processes_under_torchrun_train_what_one_trains(tmp_path, clock):
    """The global batches are the same; dropout, which each process draws for its own share, is left out."""
    config = dataclasses.replace(STILL, clock=clock)
    alone = behaviour.fit(past_at(), config, runtime=RUNTIME)
    still = behaviour.fit(past_at(), dataclasses.replace(config, steps=1, learning_rate=1e-9), runtime=RUNTIME)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*command, __file__, str(tmp_path), str(clock)], check=True)
    one, other = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    for name in alone.weights:
        assert one[name].equal(other[name]), name
    moved, apart = (float((alone.weights["items"] - w["items"]).norm()) for w in (still.weights, one))
    assert 0 < apart < moved / 50
    np.testing.assert_allclose(
        behaviour.score(dataclasses.replace(alone, weights=one), past_at()),
        behaviour.score(alone, past_at()),
        atol=0.02 * float(np.ptp(behaviour.score(alone, past_at()))),
    )


def killed_after_step_110(folder: Path) -> None:
    behaviour.fit(
        past_at(),
        TINY,
        runtime=RUNTIME,
        folder=folder,
        progress=lambda done, *_: os.kill(os.getpid(), signal.SIGKILL) if done == 110 else None,
    )


def one_of_two(folder: Path, clock: bool) -> None:
    runtime = detect(seed=1, device="cpu")
    state = behaviour.fit(past_at(), dataclasses.replace(STILL, clock=clock), runtime=runtime)
    assert runtime.world == 2
    save_file({n: w.contiguous() for n, w in state.weights.items()}, folder / f"{runtime.rank}.safetensors")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    os._exit(0)  # while the interpreter ends a thread of gloo aborts now and then (seen once in forty runs)


if __name__ == "__main__":  # what the tests start as processes of their own
    if len(sys.argv) == 2:
        killed_after_step_110(Path(sys.argv[1]))
    else:
        one_of_two(Path(sys.argv[1]), sys.argv[2] == "True")
