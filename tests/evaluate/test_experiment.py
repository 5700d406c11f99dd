import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from habitue.core.errors import ModelError, UsageError
from habitue.evaluate.experiment import HELD_OUT, assign, compare


def users(arm, outcome, before=None):
    frame = {"arm": arm, "outcome": outcome}
    return pl.DataFrame(frame if before is None else frame | {"before": before})


# Who meets which arm


def test_the_same_user_meets_the_same_arm_and_shares_are_kept():
    keys = np.arange(40_000)
    first = assign(keys, experiment="banner", arms={"old": 0.7, "new": 0.3}, hold_out=0.1)
    again = assign(keys[::-1], experiment="banner", arms={"old": 0.7, "new": 0.3}, hold_out=0.1)
    assert first.equals(again.sort("user_key"))
    share = dict(first["arm"].value_counts().with_columns(pl.col("count") / first.height).iter_rows())
    assert share["old"] == pytest.approx(0.63, abs=0.01) and share["new"] == pytest.approx(0.27, abs=0.01)
    assert dict(first.select("arm", "propensity").unique().iter_rows()) == pytest.approx(
        {"old": 0.63, "new": 0.27, HELD_OUT: 0.1}
    )


def test_experiments_are_independent_and_the_hold_out_is_not():
    keys = np.arange(20_000)
    one, two = (assign(keys, experiment=e, arms={"a": 0.5, "b": 0.5}, hold_out=0.1) for e in ("one", "two"))
    held = [frame.filter(arm=HELD_OUT)["user_key"].to_list() for frame in (one, two)]
    assert held[0] == held[1] and len(held[0]) == pytest.approx(2_000, abs=150)
    both = one.join(two, on="user_key").filter(pl.col("arm") != HELD_OUT)
    counts = both.group_by("arm", "arm_right").len()["len"].to_numpy().reshape(2, 2)
    assert stats.chi2_contingency(counts).pvalue > 0.001


@given(share=st.floats(0.0, 0.5), more=st.floats(0.0, 0.5))
@settings(max_examples=20)
def test_a_share_that_grows_takes_nobody_out_of_its_arm(share, more):
    keys = np.arange(500)
    small = assign(keys, experiment="x", arms={"new": share, "old": 1 - share})
    large = assign(keys, experiment="x", arms={"new": share + more, "old": 1 - share - more})
    assert set(small.filter(arm="new")["user_key"]) <= set(large.filter(arm="new")["user_key"])


@pytest.mark.parametrize(
    "asked",
    [
        {"arms": {}},
        {"arms": {"a": 0.5}},
        {"arms": {"a": 1.5, "b": -0.5}},
        {"arms": {"a": math.nan, "b": 1.0}},
        {"arms": {"a": 1.0}, "hold_out": 1.0},
        {"arms": {HELD_OUT: 1.0}},
    ],
)
def test_shares_that_are_none_are_refused(asked):
    with pytest.raises(UsageError, match=r"not a division of the users|would be held out"):
        assign([1, 2], experiment="x", **asked)


# What the arms did


def test_a_hand_worked_case():
    """40 users an arm: control 0 or 2, the arm 1 or 3, half and half; variance 40/39 each."""
    frame = users(["a"] * 40 + ["b"] * 40, [0.0, 2.0] * 20 + [1.0, 3.0] * 20)
    found = compare(frame, control="a")
    error = math.sqrt(2 * (40 / 39) / 40)
    row = found.arms.row(1, named=True)
    assert (row["users"], row["mean"], row["difference"], row["relative"]) == (40, 2.0, 1.0, 1.0)
    assert row["low"] == pytest.approx(1 - 1.959964 * error, abs=1e-5)
    r2 = (-2 * math.log(0.05) + math.log(-2 * math.log(0.05) + 1)) / 80
    width = (
        error * math.sqrt(80) * math.sqrt(2 * (80 * r2 + 1) / (80**2 * r2) * math.log(math.sqrt(80 * r2 + 1) / 0.05))
    )
    assert row["always_high"] == pytest.approx(1 + width)
    assert row["incremental"] == pytest.approx(40) and row["incremental_low"] == pytest.approx(40 * (1 - width))
    assert found.arms["arm"].to_list() == ["a", "b"] and found.balance == 1.0


def test_what_users_did_before_makes_the_interval_shorter_and_moves_no_mean():
    rng = np.random.default_rng(0)
    before = rng.gamma(2.0, 20.0, 6_000)
    arm = rng.integers(2, size=6_000)
    outcome = 0.8 * before + rng.normal(0, 10, 6_000) + 2.0 * arm
    names = np.array(["control", "new"])[arm]
    plain = compare(users(names, outcome), control="control")
    freed = compare(users(names, outcome, before), control="control")
    share = np.corrcoef(before, outcome - 2.0 * arm)[0, 1] ** 2
    assert freed.explained == pytest.approx(share, abs=0.01) and plain.explained == 0.0
    widths = [f.arms["high"][1] - f.arms["low"][1] for f in (plain, freed)]
    assert (widths[1] / widths[0]) ** 2 == pytest.approx(1 - share, abs=0.02)
    assert freed.arms["low"][1] < 2.0 < freed.arms["high"][1]
    assert any("explained" in s for s in freed.sentences)


def test_looking_twenty_times_fools_the_plain_interval_and_not_the_sequence():
    """Two arms alike, 150 experiments, 20 looks at each: how often an interval leaves 0 at any look."""
    rng = np.random.default_rng(1)
    looks = np.linspace(100, 2_000, 20).astype(int)
    fooled = {"once": 0, "always": 0}
    for _ in range(150):
        arm, outcome = rng.integers(2, size=2_000), rng.exponential(size=2_000)
        names = np.array(["a", "b"])[arm]
        rows = [
            compare(users(names[:n], outcome[:n]), control="a", planned=2_000).arms.row(1, named=True) for n in looks
        ]
        fooled["once"] += any(r["low"] > 0 or r["high"] < 0 for r in rows)
        fooled["always"] += any(r["always_low"] > 0 or r["always_high"] < 0 for r in rows)
    assert fooled["once"] / 150 > 0.15  # five per cent were promised
    assert fooled["always"] / 150 <= 0.05


def test_arms_whose_sizes_cannot_be_chance_are_called_out():
    frame = users(["a"] * 1_000 + ["b"] * 1_200, np.tile([0.0, 1.0], 1_100))
    found = compare(frame, control="a")
    assert found.balance == pytest.approx(stats.binomtest(1_000, 2_200).pvalue, rel=0.15)
    assert found.sentences[0].startswith("Do not believe this yet")
    planned = compare(frame, control="a", shares={"a": 1_000, "b": 1_200})
    assert planned.balance == 1.0 and not planned.sentences[0].startswith("Do not")


@pytest.mark.parametrize(
    ("lift", "words"),
    [
        (0.0, "No difference between b and a is clear yet"),
        (1.0, "b brings more than a"),
        (-1.0, "b brings less than a"),
    ],
)
def test_the_sentence_says_what_is_clear(lift, words):
    outcome = np.tile([0.0, 2.0], 200)
    frame = users(["a"] * 200 + ["b"] * 200, outcome + np.repeat([0.0, lift], 200))
    assert words in compare(frame, control="a").sentences[0]


def test_clear_at_one_look_only_is_said_so():
    outcome = np.tile([0.0, 2.0], 200)
    found = compare(users(["a"] * 200 + ["b"] * 200, outcome + np.repeat([0.0, 0.24], 200)), control="a")
    assert "had this been the only look" in found.sentences[0]


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (users(["a"] * 40 + ["b"] * 3, [1.0] * 43), r"3 users in 'b'"),
        (users(["a"] * 40 + ["b"] * 40, [1.0] * 79 + [None]), "an outcome that is no number"),
        (users(["b"] * 40 + ["contrl"] * 40, [1.0] * 80), r"nobody met the control 'control'.*Did you mean 'contrl'"),
    ],
)
def test_what_cannot_be_compared_is_said(frame, words):
    with pytest.raises(ModelError, match=words):
        compare(frame, control="control" if "contrl" in frame["arm"] else "a")


def test_outcomes_that_are_all_the_same():
    found = compare(users(["a"] * 40 + ["b"] * 40, [0.0] * 80, [1.0] * 80), control="a")
    assert found.arms["difference"][1] == 0.0 and found.arms["relative"][1] is None and found.explained == 0.0
