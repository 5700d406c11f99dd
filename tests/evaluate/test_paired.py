import re

import numpy as np
import pytest

from habitue.core.errors import ModelError
from habitue.evaluate import compare
from habitue.evaluate.measured import Measured, per_user
from habitue.evaluate.paired import verdict

RNG = np.random.default_rng(0)
BASE = RNG.random(400)
NOISE = RNG.normal(scale=0.05, size=400)
SIMPLE = ("popular",)


def model(name, values, metric="ndcg@10", keys=None):
    values = np.asarray(values, dtype=float)
    return per_user("BASKET", name, "all", metric, np.arange(values.size) if keys is None else keys, values)


def amount(name, forecast, better="near 0", metric="bias"):
    """A total of forecasts per customer against an actual 1 each."""
    forecast = np.asarray(forecast, dtype=float)
    return Measured(
        "value-92d", name, "all", metric, np.arange(forecast.size), lambda w: w @ forecast / w.sum(-1) - 1, better
    )


def test_differences_are_taken_customer_by_customer():
    frame = compare(
        [model("popular", BASE), model("behaviour", BASE + 0.02 + NOISE), model("worse", BASE - 0.1)], against="popular"
    )
    assert frame.select("model", "against", "slice", "metric", "n").rows() == [
        ("behaviour", "popular", "all", "ndcg@10", 400),
        ("worse", "popular", "all", "ndcg@10", 400),
    ]
    assert frame["mean"].to_list() == pytest.approx([(0.02 + NOISE).mean(), -0.1])
    spread = 1.96 * NOISE.std() / 20
    assert frame["low"][0] == pytest.approx(frame["mean"][0] - spread, abs=0.001)
    assert frame["high"][0] == pytest.approx(frame["mean"][0] + spread, abs=0.001)
    assert (frame["low"][1], frame["high"][1]) == pytest.approx((-0.1, -0.1))


def test_a_bias_is_compared_by_its_distance_to_0():
    frame = compare([amount("over", np.full(50, 1.1)), amount("under", np.full(50, 0.7))], against="under")
    assert frame["mean"][0] == pytest.approx(0.1 - 0.3)
    told = verdict([amount("over", np.full(50, 1.1)), amount("under", np.full(50, 0.7))], metric="bias")
    assert (told.best, told.rival, told.clear) == ("over", "under", True)
    assert told.difference.mean == pytest.approx(0.2)
    assert told.sentence == (
        "over beats under: error of the total 10.0 % against -30.0 % "
        "(20.0 % better, 95 % interval 20.0 % to 20.0 %, 50 customers)."
    )


def test_lower_is_better_where_it_is():
    errors = [amount("close", 2 + NOISE, "lower", "mae"), amount("far", 4 + NOISE, "lower", "mae")]
    told = verdict(errors, metric="mae")
    assert (told.best, told.rival, told.clear, told.difference.mean) == ("close", "far", True, pytest.approx(2.0))
    assert told.sentence.startswith(
        "close beats far: mean error 1.00 against 3.00 (2.00 better, 95 % interval 2.00 to 2.00"
    )
    assert compare(errors, against="far")["mean"][0] == pytest.approx(-2.0)


def test_a_clear_winner_is_measured_against_the_best_simple_count():
    field = [model("popular", BASE), model("behaviour", BASE + 0.02 + NOISE), model("neighbours", BASE - 0.2)]
    told = verdict(field, metric="ndcg@10", simple=SIMPLE, names={"popular": "'bought before'"})
    assert (told.best, told.rival, told.clear, told.level) == ("behaviour", "popular", True, ())
    pattern = (
        r"behaviour beats the simple count 'bought before': NDCG@10 0\.\d{3} against 0\.\d{3} "
        r"\(0\.0\d\d better, 95 % interval 0\.0\d\d to 0\.0\d\d, 400 customers\)\."
    )
    assert re.fullmatch(pattern, told.sentence)


def test_models_that_are_level_with_the_winner_are_named():
    field = [
        model("popular", BASE - 0.1),
        model("behaviour", BASE + NOISE),
        model("ease", BASE + NOISE - 0.001 + NOISE[::-1]),
    ]
    told = verdict(field, metric="ndcg@10", simple=SIMPLE)
    assert (told.best, told.rival, told.clear, told.level) == ("behaviour", "popular", True, ("ease",))
    assert told.sentence.endswith("400 customers); not clearly better than ease.")


def test_an_interval_with_0_in_it_leaves_the_simple_count_as_good():
    told = verdict([model("popular", BASE), model("behaviour", BASE + 0.001 + NOISE)], metric="ndcg@10", simple=SIMPLE)
    assert (told.best, told.rival, told.clear) == ("behaviour", "popular", False)
    assert told.difference.low < 0 < told.difference.high
    assert told.sentence.startswith("No clear winner: behaviour leads the simple count popular, NDCG@10 0.")
    assert "but the interval contains 0" in told.sentence
    assert told.sentence.endswith(", so the simple count is as good.")


def test_a_simple_count_that_wins_is_said_to_win():
    told = verdict([model("popular", BASE + 0.1), model("behaviour", BASE)], metric="ndcg@10", simple=SIMPLE)
    assert (told.best, told.rival, told.clear) == ("popular", "behaviour", True)
    assert told.sentence.startswith("The simple count popular beats behaviour: NDCG@10 0.")
    unclear = verdict(
        [model("popular", BASE + 0.001 + NOISE), model("behaviour", BASE)], metric="ndcg@10", simple=SIMPLE
    )
    assert unclear.sentence.startswith("No clear winner: the simple count popular leads behaviour")
    assert "as good" not in unclear.sentence


def test_an_exact_draw_goes_to_the_simple_count_and_is_no_win():
    told = verdict([model("behaviour", BASE), model("popular", BASE)], metric="ndcg@10", simple=SIMPLE)
    assert (told.best, told.clear, told.difference.mean) == ("popular", False, 0.0)
    assert told.sentence.startswith("No clear winner")


def test_one_customer_decides_nothing():
    told = verdict([model("popular", [0.2]), model("behaviour", [0.9])], metric="ndcg@10", simple=SIMPLE)
    assert (told.difference.low, told.clear) == (None, False)
    assert told.sentence == (
        "behaviour is ahead of the simple count popular, NDCG@10 0.900 against 0.200, but 1 customer cannot decide: "
        "no interval can be told."
    )


@pytest.mark.parametrize(
    ("metric", "words"),
    [("hit@10", "hit rate@10"), ("mrr", "MRR"), ("brier", "Brier score"), ("own", "own"), ("recall@5", "recall@5")],
)
def test_metrics_are_called_what_people_call_them(metric, words):
    told = verdict([model("a", BASE, metric), model("b", BASE + 0.1, metric)], metric=metric)
    assert told.sentence.startswith(f"b beats a: {words} 0.")
    adjusted = [amount("a", np.full(50, 1.1), metric="bias_adjusted"), amount("b", np.ones(50), metric="bias_adjusted")]
    assert "season-adjusted error of the total 0.0 %" in verdict(adjusted, metric="bias_adjusted").sentence


def test_small_leads_are_told_with_the_digits_they_need():
    told = verdict([model("a", BASE), model("b", BASE + 0.0004)], metric="ndcg@10")
    assert "(0.0004 better, 95 % interval 0.0004 to 0.0004, 400 customers)" in told.sentence


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(
        ModelError, match=r"'b' and 'a' were measured on different customers \(ndcg@10, all\).*same past"
    ):
        compare([model("a", BASE), model("b", BASE, keys=np.arange(400) + 1)], against="a")
    with pytest.raises(ModelError, match="'c' was not measured by ndcg@10 on 'all' of BASKET"):
        compare([model("a", BASE)], against="c")
    with pytest.raises(ModelError, match=r"1 model\(s\) measured by ndcg@10 on 'all'.*at least two"):
        verdict([model("a", BASE)], metric="ndcg@10")
