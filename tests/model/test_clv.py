"""BG/NBD and Gamma-Gamma: against numerical integration, against a simulated shop, and on CDNOW."""

import datetime as dt
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import integrate, optimize, special, stats
from sklearn.metrics import roc_auc_score

from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.core.schemas import REFUND
from habitue.model import clv

NODES = special.roots_legendre(400)
PARAMETERS = np.array([0.6, 5.0, 0.8, 2.5])
CASES = [(0, 0.0, 20.0), (0, 0.0, 0.5), (1, 3.0, 20.0), (4, 18.0, 20.0), (2, 2.0, 2.0), (9, 10.0, 40.0)]


def of(*cases: tuple[float, float, float], spend: float = 1.0) -> clv.Customers:
    x, recency, age = np.array(cases, dtype=float).T
    return clv.Customers(x, recency, age, x + 1, np.full(len(x), spend))


def integrated(parameters, x, recency, age, of_customer) -> tuple[float, float]:
    """Return the likelihood of x, t_x, T and E[of_customer(rate, p, alive) | x, t_x, T], by Bayes' rule on a grid.

    Given the customer's rate and chance p of leaving, the likelihood is rate^x (1-p)^x exp(-rate T) while alive, and
    rate^x p (1-p)^(x-1) exp(-rate t_x) if the customer left after the last order. No closed form is used.
    """
    r, alpha, a, b = parameters
    nodes, weights = NODES
    grid, step = (nodes + 1) / 2, weights / 2
    # Quantiles of the priors as coordinates: the integrand is smooth where the mass is.
    rate = stats.gamma.ppf(grid, r, scale=1 / alpha)[:, None]
    p = stats.beta.ppf(grid, a, b)[None, :]
    area = step[:, None] * step[None, :]
    alive = rate**x * (1 - p) ** x * np.exp(-rate * age)
    left = rate**x * p * (1 - p) ** (x - 1) * np.exp(-rate * recency) if x > 0 else np.zeros_like(alive)
    likelihood = float((area * (alive + left)).sum())
    answer = of_customer(rate, p, True) * alive + of_customer(rate, p, False) * left
    return likelihood, float((area * answer).sum()) / likelihood


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("parameters", [PARAMETERS, [1.5, 2.0, 1.0, 1.7], [0.5, 8.0, 0.3, 0.4], [2.0, 30.0, 3.0, 0.9]])
def test_likelihood_and_forecasts_are_integrals(case, parameters):
    parameters, weeks = np.array(parameters), 13.0

    def orders(rate, p, alive):  # the n-th order comes with chance (1 - p)^(n - 1): 1 / p (1 - exp(-rate p t))
        return np.where(p > 1e-9, -np.expm1(-rate * p * weeks) / np.maximum(p, 1e-9), rate * weeks) * alive

    def silent(rate, p, alive):
        return np.exp(-rate * weeks) if alive else 1.0

    def alive(rate, p, alive):
        return float(alive)

    for formula, answer in ((clv.expected_orders, orders), (clv.no_order, silent)):
        likelihood, expected = integrated(parameters, *case, answer)
        assert formula(parameters, of(case), weeks)[0] == pytest.approx(expected, rel=5e-3)
    assert clv.alive(parameters, of(case))[0] == pytest.approx(integrated(parameters, *case, alive)[1], rel=5e-3)
    found, _ = clv.orders_likelihood(parameters, *(np.array([v], dtype=float) for v in case))
    assert found == pytest.approx(np.log(likelihood), abs=5e-3)


def test_the_money_likelihood_is_an_integral():
    p, q, gamma = 3.0, 2.2, 15.0
    for x, mean in ((1, 4.0), (5, 30.0), (2, 0.3)):
        # The mean of x orders, each Gamma(p, v), is Gamma(p x, v x); v is Gamma(q, gamma).
        def joint(v, x=x, mean=mean):
            return stats.gamma.pdf(mean, p * x, scale=1 / (v * x)) * stats.gamma.pdf(v, q, scale=1 / gamma)

        area, _ = integrate.quad(joint, 0, 8, limit=300)
        found, _ = clv.money_likelihood(np.array([p, q, gamma]), np.array([x]), np.array([mean]))
        assert found == pytest.approx(np.log(area), rel=1e-6)
        expected, _ = integrate.quad(lambda v, j=joint: j(v) * p / v, 1e-9, 8, limit=300)
        customer = clv.Customers(*np.array([[0.0], [0.0], [0.0], [x], [mean]]))
        assert clv.expected_spend(np.array([p, q, gamma]), customer)[0] == pytest.approx(expected / area, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_slopes_are_the_likelihoods(seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 6, 20).astype(float)
    age = rng.uniform(1, 30, 20)
    recency = np.where(x > 0, age * rng.uniform(0.1, 1, 20), 0)
    at = rng.uniform(0.4, 3, 4)
    error = optimize.check_grad(
        lambda v: clv.orders_likelihood(v, x, recency, age)[0],
        lambda v: clv.orders_likelihood(v, x, recency, age)[1],
        at,
    )
    assert error < 1e-4 * np.linalg.norm(clv.orders_likelihood(at, x, recency, age)[1])
    spend = rng.uniform(0.5, 4, 20)
    error = optimize.check_grad(
        lambda v: clv.money_likelihood(v, x + 1, spend)[0], lambda v: clv.money_likelihood(v, x + 1, spend)[1], at[:3]
    )
    assert error < 1e-4 * np.linalg.norm(clv.money_likelihood(at[:3], x + 1, spend)[1])


def simulated(rng, users: int, weeks: float, after: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Repeats, recency, age and orders of the `after` weeks, of customers who live by the model."""
    r, alpha, a, b = PARAMETERS
    rate, leave, age = rng.gamma(r, 1 / alpha, users), rng.beta(a, b, users), rng.uniform(0, weeks, users)
    found = []
    for u in range(users):
        now, x, last, later = 0.0, 0, 0.0, 0
        while True:
            now += rng.exponential(1 / rate[u])
            if now > age[u] + after:
                break
            if now < age[u]:
                x, last = x + 1, now
            else:
                later += 1
            if rng.random() < leave[u]:
                break
        found.append((x, last, age[u], later))
    return tuple(np.array(found, dtype=float).T)


def test_finds_the_parameters_of_a_simulated_shop_and_foretells_it():
    x, recency, age, later = simulated(np.random.default_rng(0), 12_000, 52, 13)
    found = clv.fit_orders(x, recency, age)
    np.testing.assert_allclose(found[:2], PARAMETERS[:2], rtol=0.1)
    assert found[2] / found[2:].sum() == pytest.approx(0.8 / 3.3, rel=0.1)  # the mean chance of leaving
    best, _ = clv.orders_likelihood(found, x, recency, age)
    assert best > clv.orders_likelihood(PARAMETERS, x, recency, age)[0]
    customers = clv.Customers(x, recency, age, x + 1, x)
    assert clv.expected_orders(found, customers, 13).sum() == pytest.approx(later.sum(), rel=0.03)
    for count in (0, 1, 3):
        some = x == count
        told = clv.no_order(found, customers, 13)[some].mean()
        assert told == pytest.approx((later[some] == 0).mean(), abs=0.03)


def test_finds_the_money_of_a_simulated_shop():
    rng = np.random.default_rng(1)
    orders = rng.integers(1, 9, 20_000).astype(float)
    spend = rng.gamma(4.0 * orders, 1 / (rng.gamma(3.0, 1 / 25.0, 20_000) * orders))
    np.testing.assert_allclose(clv.fit_money(orders, spend), [4, 3, 25], rtol=0.08)


def test_a_strong_ridge_leaves_nothing_to_the_data():
    x, recency, age, _ = simulated(np.random.default_rng(2), 300, 52, 0)
    np.testing.assert_allclose(clv.fit_orders(x, recency, age, ridge=1e4), [1, age.mean(), 1, 1], rtol=1e-2)
    np.testing.assert_allclose(clv.fit_money(x + 1, age, ridge=1e4), [1, 1, age.mean()], rtol=1e-2)


def test_a_busy_customer_does_not_overflow():
    busy = of((900, 51.9, 52.0))
    r, alpha, a, b = PARAMETERS
    leave = stats.beta.ppf((np.arange(2000) + 0.5) / 2000, a, b + 900)  # what is known of a customer still here
    rate = (r + 900) / (alpha + 52)
    expected = (-np.expm1(-rate * leave * 13) / leave).mean() * clv.alive(PARAMETERS, busy)[0]
    assert clv.expected_orders(PARAMETERS, busy, 13)[0] == pytest.approx(expected, rel=1e-3)
    assert clv.no_order(PARAMETERS, busy, 13)[0] < 0.01
    assert np.isfinite(clv.orders_likelihood(PARAMETERS, busy.repeats, busy.recency, busy.age)[0])


def test_longer_means_more_orders_and_less_silence():
    weeks = [1.0, 4.0, 13.0, 52.0]
    for case in CASES:
        orders = [clv.expected_orders(PARAMETERS, of(case), w)[0] for w in weeks]
        silent = [clv.no_order(PARAMETERS, of(case), w)[0] for w in weeks]
        assert orders == sorted(orders) and silent == sorted(silent, reverse=True)
    assert clv.expected_orders(PARAMETERS, of(CASES[0]), 0.0)[0] == 0
    assert clv.no_order(PARAMETERS, of(CASES[0]), 0.0)[0] == 1


def test_the_chances_of_so_many_orders_are_one_forecast():
    """They add up to 1, their mean is eq. 10 (found without them), and none is what the chance of silence says."""
    repeats, recency, age = [0, 0, 1, 4, 30], [0, 0, 3, 11, 38], [1, 38, 38, 39, 39]
    of = clv.Customers(*(np.array(part, dtype=float) for part in (repeats, recency, age, [1] * 5, [9] * 5)))
    for parameters in (np.array([0.243, 4.414, 0.793, 2.426]), np.array([1.5, 9.0, 2.0, 3.0])):
        chances = np.array([clv.order_chance(parameters, of, 39.0, n) for n in range(2_000)])
        np.testing.assert_allclose(chances.sum(axis=0), 1, atol=1e-6)
        mean = np.arange(2_000) @ chances
        np.testing.assert_allclose(mean, clv.expected_orders(parameters, of, 39.0), rtol=1e-3)
        np.testing.assert_allclose(chances[0], clv.no_order(parameters, of, 39.0), rtol=1e-12)
        middle = clv.middle_orders(parameters, of, 39.0)
        below = np.cumsum(chances, axis=0)
        for customer, orders in enumerate(middle.astype(int)):
            assert below[orders, customer] >= 0.5 and (orders == 0 or below[orders - 1, customer] < 0.5)
        assert middle[-1] > 5 > middle[1]


def test_the_middle_of_very_many_orders_ends_at_the_most():
    busy = clv.Customers(*(np.array([part], dtype=float) for part in (500, 10, 10, 501, 9)))
    assert clv.middle_orders(np.array([1.0, 1.0, 0.1, 9.0]), busy, 52.0, most=40).tolist() == [40]


def test_spend_leans_on_the_customers_own_orders_the_more_there_are():
    money = np.array([3.0, 2.0, 10.0])
    told = clv.expected_spend(money, clv.Customers(*(np.zeros(3),) * 3, np.array([0.0, 1, 100]), np.full(3, 90.0)))
    np.testing.assert_allclose(told, [30, 3 * 100 / 4, 3 * 9010 / 301])


def test_spend_is_finite_where_its_mean_is_not():
    customers = clv.Customers(*(np.zeros(2),) * 3, np.array([0.0, 4.0]), np.array([0.0, 10.0]))
    np.testing.assert_allclose(clv.expected_spend(np.array([2.0, 0.5, 10.0]), customers), [40, 2 * 50 / 7.5])


def test_customers_are_summed_up_by_days(make_past):
    past = make_past(
        (1, 69.9, "AB", "Order Completed", 5.0),
        (1, 69.2, "A", "Order Completed", 2.0),  # the same day back from `as_of`: one order of 12
        (1, 14.5, "A", "Order Completed", 6.0),
        (1, 7.0, "B", REFUND, -3.0),
        (2, 0.5, "A", "Order Completed", 8.0),
        (3, 3.0, "A", REFUND, -8.0),
        items="AB",
    )
    found = clv.customers(past, first_day=past.day - 84)
    assert found.repeats.tolist() == [1, 0, 0]
    assert found.orders.tolist() == [2, 1, 0]
    np.testing.assert_allclose(found.recency, [(69 - 14) / 7, 0, 0])
    np.testing.assert_allclose(found.age, [69 / 7, 0, 12])
    assert found.spend.tolist() == [9, 8, 0]


def shop(make_past, **more):
    rng = np.random.default_rng(5)
    sets = []
    for user in range(60):
        for k in range(rng.integers(1, 7)):
            sets.append((user, float(rng.uniform(1, 180)), "A", "Order Completed", float(rng.gamma(4, 5)) + k))
    return make_past(*sets, (7, 1.0, "A", REFUND, -50.0), items="A", horizon_days=28, **more)


def test_predicts_what_the_formulas_say(make_past):
    past = shop(make_past)
    state = clv.fit(past, clv.Config(), runtime=Runtime())
    told = clv.predict(state, past)
    customers = clv.customers(past, first_day=state.first_day)
    orders = clv.expected_orders(state.orders, customers, 4.0)
    np.testing.assert_allclose(told["churn"], clv.no_order(state.orders, customers, 4.0))
    np.testing.assert_allclose(told["value"], orders * clv.expected_spend(state.money, customers) * state.kept)
    purchases = past.histories.row_value[past.histories.row_value > 0].sum()
    assert state.kept == pytest.approx(1 - 50 / purchases)


def test_money_is_learnt_from_everybody_who_paid(make_past):
    """Pennies are money; an order of nothing is none."""
    rng = np.random.default_rng(6)
    paid = [(user, 5.0 + user, "A", "Order Completed", float(rng.uniform(0.1, 0.9))) for user in range(30)]
    free = [(user, 5.0, "A", "Order Completed", 0.0) for user in range(30, 40)]
    past = make_past(*paid, *free, items="A")
    spend = np.array([money for *_, money in paid], dtype=np.float32).astype(float)
    found = clv.fit(past, clv.Config(ridge=0.01), runtime=Runtime()).money
    np.testing.assert_allclose(found, clv.fit_money(np.ones(30), spend, ridge=0.01))


def test_guests_teach_nothing_but_are_answered(make_past):
    past = shop(make_past)
    guests = shop(make_past, guests=range(30))
    half = clv.fit(guests, clv.Config(), runtime=Runtime())
    alone = clv.fit(past.take(range(30, 60)), clv.Config(), runtime=Runtime())
    np.testing.assert_array_equal(half.orders, alone.orders)
    np.testing.assert_array_equal(half.money, alone.money)
    assert clv.predict(half, guests).height == 60


def test_too_few_customers_are_refused_in_words(make_past):
    past = make_past(*((u, 5.0, "A") for u in range(9)), (20, 2.0, "A"), items="A", guests=[20])
    with pytest.raises(ModelError, match=r"model.clv: 9 known customers have an order\. .* 'least_customers' .*now 10"):
        clv.fit(past, clv.Config(), runtime=Runtime())
    assert np.isfinite(clv.fit(past, clv.Config(least_customers=5), runtime=Runtime()).orders).all()


def test_a_shop_where_nobody_pays(make_past):
    past = make_past(*((u, 5.0 + u, "A", "Order Completed", 0.0) for u in range(12)), items="A")
    state = clv.fit(past, clv.Config(), runtime=Runtime())
    assert clv.predict(state, past)["value"].to_list() == [0] * 12


@pytest.fixture(scope="module")
def cdnow() -> tuple[pl.DataFrame, np.ndarray]:
    """The summaries of the first 39 weeks, and the orders of the 39 weeks after them."""
    if "HABITUE_DATA" not in os.environ:
        pytest.skip("HABITUE_DATA is not set: CDNOW is not here")
    folder = Path(os.environ["HABITUE_DATA"]) / "cdnow"
    seen = pl.read_parquet(folder / "cdnow_customers_summary_with_transactions.parquet").cast(pl.Float64)
    rows = [line.split() for line in (folder / "cdnow_sample.txt").read_text().splitlines()]
    later = pl.DataFrame({"ID": [float(r[1]) for r in rows], "day": [r[2] for r in rows]})
    later = later.with_columns(pl.col("day").str.to_date("%Y%m%d")).filter(pl.col("day") > dt.date(1997, 9, 30))
    counts = later.unique().group_by("ID").len("orders")
    return seen, seen.join(counts, on="ID", how="left", maintain_order="left")["orders"].fill_null(0).to_numpy()


def test_cdnow_orders_as_published(cdnow):
    """Fader, Hardie & Lee 2005, table 2: r .243, alpha 4.414, a .793, b 2.426, log-likelihood -9582.4."""
    seen, later = cdnow
    x, recency, age = (seen[c].to_numpy() for c in ("x", "t_x", "T"))
    found = clv.fit_orders(x, recency, age)
    np.testing.assert_allclose(found, [0.243, 4.414, 0.793, 2.426], atol=6e-4)
    assert clv.orders_likelihood(found, x, recency, age)[0] == pytest.approx(-9582.4, abs=0.05)
    customers = clv.Customers(x, recency, age, x + 1, seen["zbar"].to_numpy())
    told = clv.expected_orders(found, customers, 39.0)
    assert np.abs(told - later).mean() == pytest.approx(0.7855, abs=5e-4)
    assert roc_auc_score(later == 0, -told) == pytest.approx(0.7725, abs=5e-4)
    assert roc_auc_score(later == 0, clv.no_order(found, customers, 39.0)) > 0.75


def test_cdnow_money_as_published(cdnow):
    """Fader & Hardie 2013: p 6.25, q 3.74, gamma 15.44 on the 946 customers with a repeat order."""
    seen, _ = cdnow
    paid = seen.filter(pl.col("x") > 0)
    found = clv.fit_money(paid["x"].to_numpy(), paid["zbar"].to_numpy())
    assert paid.height == 946
    np.testing.assert_allclose(found, [6.25, 3.74, 15.44], rtol=2e-3)
