"""The table, against loops over dictionaries."""

import collections
import math

import numpy as np
import pytest

from habitue.core.runtime import Runtime
from habitue.core.schemas import REFUND
from habitue.model import rules

ITEMS = "ABCDEF"


def sets(seed: int = 0, users: int = 9) -> list[tuple]:
    rng = np.random.default_rng(seed)
    made = []
    for user in range(users):
        for day in sorted(rng.choice(np.arange(1, 90), size=rng.integers(1, 6), replace=False).tolist(), reverse=True):
            made.append((user, day, "".join(rng.choice(list(ITEMS[:5]), size=rng.integers(1, 4), replace=False))))
    return [*made, (0, 2, "F", REFUND)]  # what was given back was not bought


def by_loops(made, config) -> dict[tuple[str, str], float]:
    """row item, column item -> score; nothing is cut off."""
    bought = [s for s in made if len(s) == 3]
    table = collections.defaultdict(float)
    follows, votes = collections.defaultdict(float), collections.defaultdict(float)
    for user in {user for user, *_ in bought}:
        mine = [s for s in bought if s[0] == user]
        for t, (_, day, items) in enumerate(mine):
            for d in range(1, config.window + 1):
                if t >= d:
                    weight = 0.5 ** (day / config.half_life_days) / d
                    before = mine[t - d][2]
                    for i in before:
                        votes[i] += weight / math.sqrt(len(before))
                        for j in items:
                            follows[i, j] += weight / math.sqrt(len(before))
    for (i, j), count in follows.items():
        table[i, j] += count / (votes[i] + config.shrink)
    recent, ever = collections.Counter(), collections.Counter()
    for _, day, items in bought:
        ever.update(items)
        recent.update(items if day <= config.window_days else "")
    return {(i, j): w * ((recent[j] + 1) / (ever[j] + 5)) ** config.trend for (i, j), w in table.items()}


@pytest.mark.parametrize(
    "settings", [{}, {"shrink": 0.0, "window": 2, "trend": 0.0}, {"shrink": 5.0, "half_life_days": 20.0}]
)
@pytest.mark.parametrize("rows", [4, 1024])
def test_the_table_is_that_of_the_loops(make_past, monkeypatch, settings, rows):
    monkeypatch.setattr(rules, "ROWS_A_BLOCK", rows)
    config = rules.Config(**settings)
    made = sets()
    state = rules.fit(make_past(*made, items=ITEMS), config, runtime=Runtime())
    expected = np.zeros((len(ITEMS), len(ITEMS)))
    for (i, j), weight in by_loops(made, config).items():
        expected[ITEMS.index(i), ITEMS.index(j)] = weight
    assert expected[:5, :5].min() >= 0 and not expected[5].any()
    assert expected.diagonal()[:5].any()  # repeats
    np.testing.assert_allclose(state.table.toarray(), expected, rtol=2e-5, atol=1e-7)


def test_only_the_likeliest_successors_are_kept(make_past):
    past = make_past(*sets(users=40), items=ITEMS)  # enough of them that no two counts are equal
    every = rules.fit(past, rules.Config(trend=0.0), runtime=Runtime()).table.toarray()
    kept = rules.fit(past, rules.Config(successors=2, trend=0.0), runtime=Runtime()).table.toarray()
    assert (every > 0).sum() > (kept > 0).sum() == 10
    for row, all_of_them in zip(kept[:5], every[:5], strict=True):
        assert sorted(row[row > 0]) == sorted(all_of_them)[-2:]


def test_score_by_hand(make_past):
    past = make_past((1, 10, "A"), (1, 0, "AB"), (2, 20, "B"), (3, 1, "Z"), items="ABZ")
    table = rules.sp.csr_matrix(np.array([[1, 2, 1], [4, 0, 0], [0, 0, 8]], dtype=np.float32))
    state = rules.State(("A", "B", "C"), table, history_half_life_days=10)
    assert rules.score(state, past).tolist() == [[5, 2, 0], [1, 0, 0], [0, 0, 0]]


def test_nobody_ever_bought_a_thing(make_past):
    past = make_past((1, 1, "A", REFUND), items="AB")
    assert rules.score(rules.fit(past, rules.Config(), runtime=Runtime()), past).tolist() == [[0, 0]]
