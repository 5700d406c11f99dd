import numpy as np
import pytest

from habitue.core.runtime import Runtime
from habitue.core.schemas import PURCHASE, REFUND
from habitue.model import popular

SETS = (
    (1, 40, "A"),  # out of the window
    (1, 20, "AB"),
    (2, 20, "A"),
    (2, 10, "A", REFUND),
    (3, 30, "B"),  # exactly at the start of the window: inside
    (4, 1, "C", "Product Viewed"),
)


@pytest.fixture
def past(make_past):
    return make_past(*SETS, items="ABCD", guests=[3])


def test_trend_counts_the_orders_of_the_window_guests_too(past):
    state = popular.fit(past, popular.Config(window_days=30), runtime=Runtime())
    np.testing.assert_allclose(state.trend, [3 / 3, 3 / 3, 1 / 3, 1 / 3])
    state = popular.fit(past, popular.Config(window_days=29), runtime=Runtime())
    np.testing.assert_allclose(state.trend, [3 / 3, 2 / 3, 1 / 3, 1 / 3])


def test_score_by_hand(past):
    state = popular.State(tuple("ABCD"), np.array([1.0, 0.25, 0.1, 0.1], dtype=np.float32), 20.0, 0.5, 0.2)
    a = 0.5**2 + 0.5  # user 1 bought A 40 and 20 days ago
    expected = [
        [a + 0.2, 0.5 * 0.5 + 0.05, 0.02, 0.02],
        [0.5 + 0.2, 0.05, 0.02, 0.02],
        [0.2, 0.5**1.5 * 0.5 + 0.05, 0.02, 0.02],
        [0.2, 0.05, 0.02, 0.02],
    ]
    np.testing.assert_allclose(popular.score(state, past), expected, rtol=1e-6)


def test_a_product_it_never_met_is_the_rarest_and_can_be_bought_again(make_past):
    state = popular.State(("A", "C"), np.array([0.25, 1.0], dtype=np.float32), 20.0, 0.5, 0.2)
    later = make_past((1, 20, "B"), (2, 20, "C"), items="ABC")
    expected = [[0.05, 0.5 * 0.5 + 0.05, 0.2], [0.05, 0.05, 0.5 + 0.2]]
    np.testing.assert_allclose(popular.score(state, later), expected, rtol=1e-6)


def test_a_shop_without_a_purchase(make_past):
    past = make_past((1, 5, "A", REFUND), items="AB")
    state = popular.fit(past, popular.Config(), runtime=Runtime())
    assert state.trend.tolist() == [1, 1]
    assert popular.score(state, past).tolist() == [pytest.approx([0.2, 0.2])]


def test_settings_reach_the_state(past):
    config = popular.Config(window_days=30, half_life_days=7, lift=0.9, background=0.4)
    state = popular.fit(past, config, runtime=Runtime())
    assert (state.items, state.half_life_days, state.lift, state.background) == (tuple("ABCD"), 7, 0.9, 0.4)
    assert PURCHASE in past.histories.kinds
