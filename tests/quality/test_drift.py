import datetime as dt
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp

from habitue.core.errors import UsageError
from habitue.core.schemas import EVENTS, ITEMS
from habitue.quality import drift

counts = st.lists(st.integers(0, 500), min_size=2, max_size=12).filter(lambda c: sum(c) > 0)


def test_psi_worked_by_hand():
    # (30 + .5) / 101 = .30198 and so on; two bins
    old, new = [60, 40], [30, 70]
    b, a = [60.5 / 101, 40.5 / 101], [30.5 / 101, 70.5 / 101]
    by_hand = (a[0] - b[0]) * math.log(a[0] / b[0]) + (a[1] - b[1]) * math.log(a[1] / b[1])
    assert drift.psi(old, new) == pytest.approx(by_hand, rel=1e-12)
    assert drift.psi(old, new) == pytest.approx(0.3681, abs=1e-4)
    assert drift.psi([5, 0], [5, 0]) == 0
    assert math.isfinite(drift.psi([5, 0], [0, 5]))


@settings(deadline=None)
@given(counts, st.randoms())
def test_jensen_shannon_is_scipys_squared_distance(old, random):
    new = [random.randint(0, 300) for _ in old]
    new[0] += 1
    ours = drift.jensen_shannon(old, new)
    assert ours == pytest.approx(jensenshannon(np.array(old, float), np.array(new, float), base=2) ** 2, abs=1e-12)
    assert ours == pytest.approx(drift.jensen_shannon(new, old), abs=1e-12)
    assert 0 <= ours <= 1
    assert drift.psi(old, new) == pytest.approx(drift.psi(new, old), rel=1e-9)  # Jeffreys' divergence is symmetric
    assert drift.psi(old, new) >= -1e-12


def test_jensen_shannon_ends():
    assert drift.jensen_shannon([3, 0], [0, 9]) == pytest.approx(1.0)
    assert drift.jensen_shannon([1, 3], [2, 6]) == pytest.approx(0.0, abs=1e-15)


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_kolmogorov_smirnov_is_the_largest_gap(old, new):
    d, p = drift.kolmogorov_smirnov(old, new)
    gaps = [abs(sum(v <= x for v in old) / len(old) - sum(v <= x for v in new) / len(new)) for x in range(10)]
    assert d == pytest.approx(max(gaps))
    assert 0 <= p <= 1


def test_kolmogorov_smirnov_is_scipys():
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=4000), rng.normal(0.05, 1.0, size=3000)
    d, p = drift.kolmogorov_smirnov(old, new)
    exact = ks_2samp(old, new)
    assert d == pytest.approx(exact.statistic, abs=1e-12)
    assert p == pytest.approx(exact.pvalue, rel=0.05)


def test_what_chance_gives_is_what_chance_gives():
    rng = np.random.default_rng(0)
    share = np.full(10, 0.1)
    draws = [drift.psi(rng.multinomial(800, share), rng.multinomial(500, share)) for _ in range(2000)]
    limit = drift.psi_by_chance(np.full(10, 80), np.full(10, 50))
    assert np.mean(np.array(draws) < limit) == pytest.approx(0.99, abs=0.006)
    # only the bins that are filled count
    assert drift.psi_by_chance([50, 50, 0], [50, 50, 0]) == drift.psi_by_chance([50, 50], [50, 50])


def events(lines, n, **columns):
    rows = [{name: values[i % len(values)] for name, values in columns.items()} for i in range(n)]
    return lines(*({"order_id": f"o{i}", "user_key": i, **row} for i, row in enumerate(rows)))


def told(before, after, table=EVENTS):
    return {row["column"]: row for row in drift.drift(before, after, table).iter_rows(named=True)}


def test_a_column_that_moves_is_named_and_the_others_are_not(lines):
    old = events(lines, 400, price=[1.0, 2.0, 3.0, 4.0], channel=["web", "app"], title=["mug"])
    new = events(lines, 400, price=[3.0, 4.0, 5.0, 9.0], channel=["web", "web", "app", "store"], title=["mug"])
    found = told(old, new)
    assert found["price"]["verdict"] == found["channel"]["verdict"] == "much"
    assert (found["price"]["kind"], found["channel"]["kind"]) == ("number", "category")
    assert found["price"]["ks"] == 0.5
    assert found["price"]["ks_p"] < 1e-9
    assert found["channel"]["ks"] is None
    assert not {"quantity", "title"} & set(found)  # the same in every row of both
    assert not {"order_id", "user_key", "at", "event_id", "extra", "import_id"} & set(found)


def test_hand_worked_levels_and_bins(lines):
    old = events(
        lines, 100, channel=["web"] * 6 + ["app"] * 4, price=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]
    )
    new = events(lines, 100, channel=["web"] * 3 + ["app"] * 6 + [None], price=[0.5, 100.0])
    found = told(old, new)
    shares = drift.psi([60, 40, 0, 0], [30, 60, 0, 10])  # two levels, the rest, the unknown
    assert found["channel"]["psi"] == pytest.approx(shares)
    tenths = drift.psi([10] * 10 + [0], [50] + [0] * 8 + [50] + [0])
    assert found["price"]["psi"] == pytest.approx(tenths)


def test_a_column_that_is_no_longer_filled_drifts(lines):
    old = events(lines, 60, channel=["web", "app"])
    new = events(lines, 60, channel=["web", "app", None, None])
    assert told(old, new)["channel"]["verdict"] == "much"
    words = events(lines, 60, query=[f"mug {i}" for i in range(60)])
    gone = events(lines, 60, query=[None])
    assert (told(words, gone)["query"]["kind"], told(words, gone)["query"]["verdict"]) == ("present", "much")
    fresh = events(lines, 60, query=[f"plate {i}" for i in range(60)])
    assert told(words, fresh)["query"]["verdict"] == "none"  # free words are always new


def test_small_periods_are_not_compared_and_chance_is_no_drift(lines):
    assert told(events(lines, 29, channel=["web"]), events(lines, 300, channel=["app"])) == {}
    old = events(lines, 30, channel=["a", "b", "c", "d", "e"])
    new = events(lines, 30, channel=["a", "a", "b", "c", "d", "e"])
    assert told(old, new)["channel"]["verdict"] == "none"


def test_between_two_periods_of_every_table(lines):
    start = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    frame = lines(*({"user_key": i, "day": i / 10, "channel": "web" if i < 600 else "app"} for i in range(1200)))
    before, after = drift.periods(start + dt.timedelta(days=119.9), drift.Config(days=60))
    assert after[1] - after[0] == before[1] - before[0] == dt.timedelta(days=60)
    assert before[1] == after[0] == start + dt.timedelta(days=59.9, microseconds=1)
    found = drift.between({"events": frame, "items": ITEMS.empty()}, before, after)
    assert found.select("table", "column", "before", "after", "verdict").row(0) == (
        "events",
        "channel",
        600,
        600,
        "much",
    )
    (said,) = drift.findings(found, before, after)
    assert (said["code"], said["rows"]) == ("drift", 600)
    assert "1 column of EVENTS moved much (PSI: channel" in said["sentence"]
    assert "from 2023-12-31..2024-02-29 to 2024-02-29..2024-04-29" in said["sentence"]


def test_periods_that_cannot_be(lines):
    day = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    with pytest.raises(UsageError, match="quality.drift: the period from 2024-01-01 ends on 2024-01-01"):
        drift.between({"events": lines({})}, (day, day), (day, day))
    with pytest.raises(UsageError, match="quality.drift: a period of 0 days"):
        drift.periods(day, drift.Config(days=0))


@pytest.mark.parametrize("price", [[None], [1.0], [0.0, -0.0]])
def test_a_column_of_nothing_or_of_one_value_is_not_told(lines, price):
    assert "price" not in told(events(lines, 40, price=price), events(lines, 40, price=price))
    assert drift.drift(EVENTS.empty(), EVENTS.empty(), EVENTS).is_empty()


def test_a_constant_that_changes_is_told(lines):
    found = told(events(lines, 40, price=[1.0]), events(lines, 40, price=[2.0]))["price"]
    assert (found["verdict"], found["ks"], found["js"]) == ("much", 1.0, pytest.approx(1.0))
