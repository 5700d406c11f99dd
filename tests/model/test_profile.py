"""One vector a customer: what is in it, when it knows it, and that it stays the same."""

import dataclasses
import datetime as dt
import functools

import numpy as np
import polars as pl
import pytest

from habitue import prepare
from habitue.collect import synthetic
from habitue.core.errors import ModelError, SettingsError
from habitue.core.runtime import Runtime
from habitue.core.schemas import PROFILES, check
from habitue.encode import text
from habitue.model import behaviour, load, profile, save, trees
from habitue.model.past import REFUND, Past, histories

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
CUT = START + dt.timedelta(days=120)
HORIZON = 28
RUNTIME = Runtime(seed=1, threads=1)
CONFIG = profile.Config(
    behaviour=behaviour.Config(width=16, blocks=1, content=8, steps=10),
    trees=trees.Config(most_trees=5, usual_trees=5),
    content=8,
    leading=10,
    groups=4,
)


@functools.cache
def events() -> pl.DataFrame:
    return synthetic.shop(users=60, items=30, days=150, start=START)


def past_at(as_of: dt.datetime, shop: pl.DataFrame) -> Past:
    seen, _ = prepare.split(shop, as_of)
    items = tuple(seen["item_id"].unique().sort())
    moments = [as_of - dt.timedelta(days=days) for days in (56, 42, 28)]
    features = prepare.features(seen, as_of=[*moments, as_of])
    titles = seen.group_by("item_id").agg(pl.col("title").min()).sort("item_id")
    every = histories(prepare.timeline(seen), items)
    return Past(
        as_of=as_of,
        horizon_days=HORIZON,
        items=items,
        histories=every,
        known=np.ones(len(every.user_keys), dtype=bool),
        words=text.encode(titles).matrix,
        features=features.filter(pl.col("as_of") == as_of),
        train_features=features.filter(pl.col("as_of") < as_of),
        train_labels=prepare.labels(seen, as_of=moments, horizon_days=HORIZON, until=as_of),
    )


@functools.cache
def past() -> Past:
    return past_at(CUT, events())


@functools.cache
def fitted() -> profile.State:
    return profile.fit(past(), CONFIG, runtime=RUNTIME)


def numbers(state: profile.State, asked: Past) -> dict[str, np.ndarray]:
    return dict(zip(state.names, profile.vectors(state, asked).T, strict=True))


def of_part(state: profile.State, part: str) -> np.ndarray:
    return np.array([name.startswith(f"{part}.") for name in state.names])


def test_one_row_a_user_within_the_contract():
    told = profile.profiles(fitted(), past())
    check(told, PROFILES, at="test")
    assert told["user_key"].to_list() == past().histories.user_keys.tolist()
    assert told["as_of"].unique().to_list() == [CUT]
    assert told["vector"].list.len().unique().to_list() == [len(fitted().names)]
    assert len(fitted().names) == len(set(fitted().names)) <= profile.MOST
    np.testing.assert_array_equal(
        np.array(told["vector"].to_list(), dtype=np.float16), profile.vectors(fitted(), past())
    )


def test_every_part_is_in_and_scaled():
    state, found = fitted(), profile.vectors(fitted(), past()).astype(np.float64)
    assert state.absent == {}
    assert tuple(dict.fromkeys(name.partition(".")[0] for name in state.names)) == profile.PARTS
    for part in profile.PARTS:
        mine = found[:, of_part(state, part)]
        np.testing.assert_allclose(mine.mean(axis=0), 0, atol=0.35 * mine.std(axis=0).max())
        # the same spread in sum: USUAL, less what the bound cuts and what says the same of everybody
        assert 0.5 * profile.USUAL < mine.var(axis=0).sum() < 1.05 * profile.USUAL, part


def test_a_decayed_mean_is_what_a_loop_says():
    asked = past()
    every, state = (
        asked.histories,
        dataclasses.replace(fitted(), config=dataclasses.replace(CONFIG, parts=("content",))),
    )
    (_, raw, names), *_ = profile._raw(state, asked)
    met = every.set_kind != every.kinds.index(REFUND)
    for user in (0, 7):
        sets = [s for s in range(every.set_start[user], every.set_start[user + 1]) if met[s]]
        for days in CONFIG.half_lives_days:
            total, weight = np.zeros(state.content.shape[1]), 0.0
            for s in sets:
                for item in every.row_item[every.row_start[s] : every.row_start[s + 1]]:
                    worth = 0.5 ** ((asked.day - every.set_at[s]) / days)
                    total, weight = total + worth * state.content[item], weight + worth
            mine = [name.startswith(f"content.{days:g}d.") for name in names]
            np.testing.assert_allclose(raw[user, mine], total / weight, rtol=1e-4, atol=1e-6)


def test_a_score_is_told_under_its_product():
    asked, state = past(), fitted()
    (_, raw, names), *_ = profile._raw(state, asked)
    told = dict(zip(names, raw.T, strict=True))
    logits = behaviour.score(state.behaviour, asked).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    best = state.items[state.leading[0]]
    assert best == past().items[int(np.argmax(state.popular.trend))]
    np.testing.assert_allclose(told[f"scores.behaviour.{best}"], np.log(shares[:, state.leading[0]]), rtol=1e-4)
    np.testing.assert_allclose(
        told["scores.behaviour.group 2"], np.log(shares[:, state.group == 2].sum(axis=1)), rtol=1e-3, atol=1e-5
    )
    churn = trees.predict(state.trees, asked)["churn"].to_numpy()
    np.testing.assert_allclose(told["forecast.trees.churn"], np.log(churn / (1 - churn)), rtol=1e-4)


def test_what_comes_later_changes_nothing():
    later = past_at(CUT, events().filter(pl.col("at") < CUT))
    again = profile.fit(later, CONFIG, runtime=RUNTIME)
    assert profile.vectors(again, later).tobytes() == profile.vectors(fitted(), past()).tobytes()


def test_a_later_moment_with_new_products_and_users():
    after = past_at(CUT + dt.timedelta(days=14), events())
    new = events().filter(pl.col("at") >= CUT).head(3)
    new = new.with_columns(
        item_id=pl.lit("P007x"), user_key=pl.lit(10**6, dtype=pl.Int64), event_id=pl.format("{}-x", "event_id")
    )
    with_new = past_at(CUT + dt.timedelta(days=14), pl.concat([events(), new]))
    assert "P007x" in with_new.items
    assert 10**6 in with_new.histories.user_keys
    before, told = numbers(fitted(), after), numbers(fitted(), with_new)
    assert all(np.isfinite(values).all() for values in told.values())
    for name in ("scores.popular." + fitted().items[fitted().leading[0]], "content.30d.0", "declared.order_count"):
        np.testing.assert_allclose(told[name][:-1], before[name], atol=5e-3)


def test_a_user_without_a_history_has_the_mean_of_what_is_not_known():
    keys = [*past().histories.user_keys, 10**6]
    seen = prepare.timeline(prepare.split(events(), CUT)[0])
    asked = dataclasses.replace(
        past(), histories=histories(seen, past().items, users=keys), known=np.ones(len(keys), dtype=bool)
    )
    found = profile.vectors(fitted(), asked)
    for part in ("content", "ids", "declared"):
        assert (found[-1, of_part(fitted(), part)] == 0).all(), part
    np.testing.assert_allclose(found[:-1], profile.vectors(fitted(), past()), atol=5e-3)


def test_without_words_and_before_any_horizon_what_is_absent_is_said():
    bare = dataclasses.replace(
        past(),
        words=None,
        features=past().features.head(0),
        train_features=past().train_features.head(0),
        train_labels=past().train_labels.head(0),
    )
    state = profile.fit(bare, CONFIG, runtime=RUNTIME)
    assert set(state.absent) == {"content", "declared", "forecast.trees", "forecast.behaviour"}
    assert state.absent["content"] == "no product has words"
    assert {name for name in state.names if name.startswith("forecast.")} == {
        "forecast.clv.churn",
        "forecast.clv.value",
    }
    assert not of_part(state, "content").any()
    assert np.isfinite(profile.vectors(state, bare)).all()


def test_saved_and_loaded_bit_for_bit(tmp_path):
    save(tmp_path / "one", "profile", fitted(), {})
    again = load(tmp_path / "one").state
    assert again.config == fitted().config
    assert profile.vectors(again, past()).tobytes() == profile.vectors(fitted(), past()).tobytes()


def test_users_do_not_see_each_other():
    together = profile.vectors(fitted(), past()).astype(np.float32)
    alone = profile.vectors(fitted(), past().take([7])).astype(np.float32)
    np.testing.assert_allclose(alone[0], together[7], rtol=5e-3, atol=5e-3)


def test_a_part_that_does_not_exist():
    with pytest.raises(SettingsError, match="there is no part 'contents'.*Did you mean 'content'"):
        profile.fit(past(), dataclasses.replace(CONFIG, parts=("contents",)), runtime=RUNTIME)


@pytest.mark.parametrize("wrong", [{"parts": ()}, {"half_lives_days": ()}, {"half_lives_days": (7.0, 0.0)}])
def test_settings_that_tell_nothing(wrong):
    with pytest.raises(SettingsError, match="nothing to tell.*half-lives above 0"):
        profile.fit(past(), dataclasses.replace(CONFIG, **wrong), runtime=RUNTIME)


def test_more_numbers_than_a_profile_may_hold():
    many = dataclasses.replace(CONFIG, half_lives_days=tuple(range(1, 120)))
    with pytest.raises(ModelError, match=r"a profile would have 4,\d+ numbers.*at most 2,048.*Lower 'leading'"):
        profile.fit(past(), many, runtime=RUNTIME)


def test_a_past_without_users():
    with pytest.raises(ModelError, match="no user in the past"):
        profile._scaled(fitted(), past().take([]))
