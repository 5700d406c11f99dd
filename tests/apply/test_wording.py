from __future__ import annotations

from habitue.apply.wording import clear, percent, points, rate


def test_shares_and_intervals_in_words() -> None:
    row = {"mean": 0.1234, "low": 0.11, "high": 0.135}
    assert percent(0.1234) == "12.3 %" and percent(0.18, 0) == "18 %"
    assert rate(row) == "12.3 % (11.0 to 13.5 %)" and rate({"mean": 0.1, "low": None, "high": None}) == "10.0 %"
    assert points(row) == "+12.3 points (95 % interval +11.0 to +13.5)"
    assert points({"mean": -0.01, "low": None, "high": 0.1}) == "-1.0 points (no interval can be told)"


def test_an_interval_is_clear_when_it_leaves_0_out() -> None:
    assert clear({"low": 0.1, "high": 0.2}) and clear({"low": -0.2, "high": -0.1})
    assert not clear({"low": -0.1, "high": 0.2}) and not clear({"low": 0.0, "high": 0.2})
    assert not clear({"low": None, "high": None})
