"""Experiments of the server: who meets which arm, what is kept of it, and what the table says of a planted effect."""

import datetime as dt
import json
import math
from collections import Counter

import numpy as np
import polars as pl
import pytest
from litestar.testing import TestClient
from typer.testing import CliRunner

import habitue
from habitue import cli, serving
from habitue.collect import synthetic
from habitue.core.errors import LakeError, SettingsError, UsageError
from habitue.core.schemas import EXPOSURES
from habitue.evaluate.experiment import HELD_OUT
from habitue.protect import people
from habitue.serve import app, experiments, scorer
from habitue.serve.experiments import HOLD_OUT, REST, Arm, Experiment, Trials
from habitue.serve.operational import Followed

CONTROL, NEW = Arm("control", 0.5), Arm("new", 0.5, diversity=0.4)
BANNER = Experiment("banner", (CONTROL, NEW))


def trials(state, **more):
    return Trials(state, Followed(state), **more)


class TestBegin:
    def test_one_begins_is_listed_and_ends(self, tmp_path):
        begun = experiments.begin(tmp_path, BANNER)
        assert begun.began_at and not begun.ended_at and experiments.listed(tmp_path) == (begun,)
        assert trials(tmp_path).running() == (begun,)
        assert experiments.end(tmp_path, "banner").ended_at and trials(tmp_path).running() == ()
        with pytest.raises(UsageError, match="no experiment 'banner' runs"):
            experiments.end(tmp_path, "banner")
        with pytest.raises(UsageError, match="there was an experiment 'banner' already"):
            experiments.begin(tmp_path, BANNER)

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            (Experiment("", (CONTROL, NEW)), "its name"),
            (Experiment(HOLD_OUT, (CONTROL, NEW)), "its name"),
            (Experiment("x", (CONTROL,)), "its arms"),
            (Experiment("x", (CONTROL, CONTROL)), "its arms"),
            (Experiment("x", (CONTROL, Arm(HELD_OUT, 0.5))), "its arms"),
            (Experiment("x", (CONTROL, Arm("b", 0.6))), "shares that add up to 1.1"),
            (Experiment("x", (CONTROL, Arm("b", math.nan))), "shares that add up to nan"),
            (Experiment("x", (CONTROL, NEW), ("hom",)), "no placement 'hom'.*'home'"),
            (Experiment("x", (CONTROL, Arm("b", 0.5, lists="populer"))), "lists 'populer'.*'popular'"),
            (Experiment("x", (CONTROL, Arm("b", 0.5, lists="drawn", temperature=0))), "temperature of 0"),
            (Experiment("x", (CONTROL, Arm("b", 0.5, diversity=2))), "a knob of 'b'"),
            (Experiment("x", (CONTROL, Arm("b", 0.5, lists="drawn", diversity=0.5))), "drawn and diverse"),
        ],
    )
    def test_one_that_means_nothing_is_refused(self, tmp_path, wrong, words):
        with pytest.raises(UsageError, match=words):
            experiments.begin(tmp_path, wrong)
        assert experiments.listed(tmp_path) == ()

    def test_two_may_not_change_one_knob_at_one_placement(self, tmp_path):
        experiments.begin(tmp_path, Experiment("a", (CONTROL, NEW), ("home",)))
        experiments.begin(tmp_path, Experiment("b", (CONTROL, NEW), ("cart",)))
        experiments.begin(tmp_path, Experiment("c", (CONTROL, Arm("dear", 0.5, price=0.5)), ("home",)))
        with pytest.raises(UsageError, match="'a' changes diversity at the same placement.*habitue experiment end a"):
            experiments.begin(tmp_path, Experiment("d", (CONTROL, NEW)))

    def test_the_plan_declares_them_once(self, shop):
        shop.plan.write_text(
            '[[experiment]]\nname = "banner"\narms = [{ name = "a", share = 0.5 }, { name = "b", share = 0.5 }]\n'
            + shop.plan.read_text()
        )
        for _ in range(2):
            experiments.declare(shop.state)
        assert [one.name for one in experiments.listed(shop.state)] == ["banner"]
        assert habitue.open(shop.root).plan.experiment[0].shares == {"a": 0.5, "b": 0.5}
        shop.plan.write_text(shop.plan.read_text().replace('"b", share', '"c", share'))
        with pytest.raises(SettingsError, match="it is not what it was when it began.*People would change their arms"):
            experiments.declare(shop.state)

    @pytest.mark.parametrize("told", ["experiment = 3", 'experiment = ["a"]', "[experiment]\nname = 1"])
    def test_a_plan_that_tells_none_is_refused(self, shop, told):
        shop.plan.write_text(f"{told}\n" + shop.plan.read_text())
        with pytest.raises(SettingsError, match=r"\[\[experiment\]\]"):
            experiments.declare(shop.state)


class TestWhoMeetsWhat:
    def test_half_meet_each_arm_and_for_ever(self, tmp_path):
        experiments.begin(tmp_path, BANNER)
        one, other = trials(tmp_path), trials(tmp_path)
        arms = [one.of(key, {key}, "home")[0].arm for key in range(600)]
        assert 250 < Counter(arms)["new"] < 350
        assert arms == [other.of(key, {key}, "similar")[0].arm for key in range(600)]

    def test_an_experiment_of_one_placement_is_met_nowhere_else(self, tmp_path):
        experiments.begin(tmp_path, Experiment("banner", (CONTROL, NEW), ("cart",)))
        assert trials(tmp_path).of(1, {1}, "home") == [] and len(trials(tmp_path).of(1, {1}, "cart")) == 1

    def test_the_held_out_meet_nothing_else(self, tmp_path):
        experiments.begin(tmp_path, BANNER)
        held = trials(tmp_path, hold_out=0.2, hold_out_lists="popular")
        met = {key: held.of(key, {key}, "home") for key in range(1_000)}
        out = {key for key, found in met.items() if found[0].arm == HELD_OUT}
        assert 150 < len(out) < 250
        assert all([m.experiment.name for m in met[key]] == [HOLD_OUT] for key in out)
        inside = [found for key, found in met.items() if key not in out]
        assert all([m.experiment.name for m in found] == [HOLD_OUT, "banner"] for found in inside)
        assert {(m.arm, round(m.propensity, 9)) for found in inside for m in found} == {
            (REST, 0.8),
            ("control", 0.4),
            ("new", 0.4),
        }
        question = scorer.Question()
        assert experiments.changed(question, met[min(out)], seed=1).popular
        assert experiments.changed(question, inside[0][:1], seed=1) == question

    def test_a_login_moves_nobody(self, tmp_path):
        experiments.begin(tmp_path, BANNER)
        running = trials(tmp_path)
        by_hash = {key: running.of(key, {key}, "home")[0].arm for key in range(200)}
        visitor = next(key for key, arm in by_hash.items() if arm == "control")
        customer = next(key for key, arm in by_hash.items() if arm == "new")
        met = running.of(visitor, {visitor}, "home")
        running.shown(met, visitor, dt.datetime(2024, 1, 2, tzinfo=dt.UTC))
        assert running.of(customer, {customer, visitor}, "home")[0].arm == "control"
        # the customer had met the other arm before, elsewhere: that was first
        running.shown(running.of(customer, {customer}, "home"), customer, dt.datetime(2024, 1, 1, tzinfo=dt.UTC))
        assert running.of(customer, {customer, visitor}, "home")[0].arm == "new"

    @pytest.mark.parametrize(("share", "lists"), [(1.0, "usual"), (-0.1, "usual"), (math.nan, "usual"), (0.1, "drawn")])
    def test_a_hold_out_that_is_none(self, tmp_path, share, lists):
        with pytest.raises(SettingsError, match="Nobody, or everybody, would be held out"):
            trials(tmp_path, hold_out=share, hold_out_lists=lists)


def test_the_chances_of_a_drawn_list_are_how_often_it_is_drawn():
    score = np.array([1.0, 0.4, 0.1, -2.0], dtype=np.float32)
    drawn = [
        scorer._drawn(score, [0, 1, 2, 3], scorer.Question(n=2, temperature=0.5, seed=seed)) for seed in range(4_000)
    ]
    often = Counter(tuple(one) for one in drawn)
    for order, count in often.items():
        if count > 100:
            told = next(one for one in drawn if tuple(one) == order)
            assert count / 4_000 == pytest.approx(math.prod(told.values()), abs=0.03)
    assert sum(often.values()) == 4_000 and len(often) >= 6
    weights = np.exp(score / 0.5)
    assert drawn[0][next(iter(drawn[0]))] == pytest.approx(
        float(weights[next(iter(drawn[0]))] / weights.sum()), rel=1e-5
    )


BEGAN = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(days=30)
USERS = 240


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """240 customers get lists for two experiments; who meets `dear` spends 4 more afterwards, `aa` does nothing."""
    folder = tmp_path_factory.mktemp("measured")
    shop = habitue.init(folder / "shop")
    rng = np.random.default_rng(1)
    usual = rng.normal(30, 5, USERS).round(2)
    before = [
        (f"o{n}", f"p{n % 12}", "a cup", 1, (BEGAN - dt.timedelta(days=9, minutes=n)).isoformat(), usual[n], f"u{n}")
        for n in range(USERS)
    ]
    names = ("order", "item", "title", "quantity", "at", "price", "user")
    pl.DataFrame(before, schema=names, orient="row").write_csv(folder / "orders.csv")
    (folder / "orders.toml").write_text(synthetic.ORDERS)
    shop.import_(folder / "orders.csv", seed=7)
    experiments.begin(shop.space.state, Experiment("prices", (CONTROL, Arm("dear", 0.5, price=1.0)), ("home",)))
    experiments.begin(shop.space.state, Experiment("aa", (Arm("a", 0.5), Arm("b", 0.5))))
    space, told = shop.space, {}
    made = app.create(space, read=lambda: serving.read(space), clock=lambda: BEGAN)
    with TestClient(made) as client:
        for n in range(USERS):
            body = client.get("/v1/recommendations", params={"user_id": f"u{n}", "n": 3}).json()
            told[n] = body
        nobody = client.get("/v1/recommendations", params={"user_id": "stranger"}).json()
        noise = rng.normal(0, 1, USERS)
        events = [
            {
                "type": "track",
                "event": "Order Completed",
                "messageId": f"m{n}",
                "userId": f"u{n}",
                "timestamp": (BEGAN + dt.timedelta(days=3, seconds=n)).isoformat(),
                "properties": {
                    "order_id": f"after{n}",
                    "currency": "EUR",
                    "products": [
                        {
                            "product_id": "p1",
                            "price": round(
                                float(usual[n] + noise[n]) + 4 * (told[n]["experiments"]["prices"] == "dear"), 2
                            ),
                            "quantity": 1,
                        }
                    ],
                },
            }
            for n in range(USERS)
        ]
        events.append({"type": "track", "event": "Product Viewed", "messageId": "end", "userId": "u0"})
        events[-1] |= {"timestamp": dt.datetime.now(dt.UTC).isoformat(), "properties": {"product_id": "p1"}}
        assert client.post("/v1/batch", json={"batch": events}).status_code == 200
        metrics = client.get("/metrics").text
    return shop, told, nobody, metrics


def test_every_list_is_an_exposure(measured):
    shop, told, nobody, metrics = measured
    rows = shop.space.lake.read(EXPOSURES)
    assert rows.height == 2 * USERS and nobody["experiments"] == {}
    assert f'habitue_exposures_total{{result="kept"}} {2 * USERS}' in metrics
    by_list = {(row["recommendation_id"], row["what"]): row for row in rows.iter_rows(named=True)}
    for body in told.values():
        assert set(body["experiments"]) == {"prices", "aa"}
        for name, arm in body["experiments"].items():
            row = by_list[body["recommendation_id"], name]
            assert (row["arm"], row["placement"], row["propensity"], row["at"]) == (arm, "home", 0.5, BEGAN)
            assert json.loads(row["items"]) == [one["item_id"] for one in body["items"]] and row["chances"] is None
    dear = next(body for body in told.values() if body["experiments"]["prices"] == "dear")
    cheap = next(body for body in told.values() if body["experiments"]["prices"] == "control")
    assert [one["item_id"] for one in dear["items"]] != [one["item_id"] for one in cheap["items"]]


def test_a_planted_effect_is_found_and_one_that_is_none_is_not(measured, run):
    shop = measured[0]
    said, error = run("experiment", "show", "prices", "--days", "14", "--json", "-w", str(shop.folder))
    assert error is None
    told = json.loads(said)
    dear = told["arms"][1]
    assert told["control"] == "control" and dear["arm"] == "dear" and dear["difference"] == pytest.approx(4, abs=0.6)
    assert dear["always_low"] > 2 and dear["incremental_low"] > 2 * dear["users"]
    assert told["explained"] > 0.8  # what they spent before tells most of what they spend after
    assert "dear brings more than control" in told["sentences"][0]
    page = shop.folder / "reports/experiment-prices.html"
    assert "dear brings more than control" in page.read_text() and json.loads(page.with_suffix(".json").read_text())
    same = shop.experiment("aa", control="a", days=14)
    row = same.compared.arms.row(1, named=True)
    assert row["always_low"] < 0 < row["always_high"] and "No difference" in same.compared.sentences[0]


def test_an_exposure_that_cannot_be_kept_does_not_keep_the_list_back(trained):
    experiments.begin(trained.state, BANNER)
    made = app.create(trained, read=lambda: serving.read(trained))

    async def full(rows):
        raise LakeError("inbox", found="the disk is full", consequence="-", remedy="-")

    with TestClient(made) as client:
        client.app.state.desk._expose = full
        answer = client.get("/v1/recommendations", params={"user_id": "u0"})
        assert answer.status_code == 200 and len(answer.json()["items"]) == 10
        assert 'habitue_exposures_total{result="lost"} 1' in client.get("/metrics").text
    assert trained.lake.read(EXPOSURES).is_empty()


def test_an_arm_survives_a_restart_and_a_login(trained):
    experiments.begin(trained.state, Experiment("drawn", (CONTROL, Arm("drawn", 0.5, lists="drawn"))))

    def serve():
        return TestClient(app.create(trained, read=lambda: serving.read(trained)))

    def ask(client, **who):
        return client.post("/v1/recommendations", json={**who, "n": 4}).json()["experiments"]["drawn"]

    def event(name, **who):
        said = {"type": "track", "event": "Product Viewed", "messageId": name, "properties": {"product_id": "red-1"}}
        return {**said, **who, "timestamp": dt.datetime.now(dt.UTC).isoformat()}

    visitors = [f"v{n}" for n in range(16)]
    with serve() as client:
        batch = [event(f"a{one}", anonymousId=one) for one in visitors]
        assert client.post("/v1/batch", json={"batch": batch}).status_code == 200
        before = {one: ask(client, anonymous_id=one) for one in visitors}
    assert set(before.values()) == {"control", "drawn"}
    with serve() as client:
        batch = [event(f"b{one}", anonymousId=one, userId=f"new-{one}") for one in visitors]
        assert client.post("/v1/batch", json={"batch": batch}).status_code == 200
        assert {one: ask(client, user_id=f"new-{one}") for one in visitors} == before
    rows = people.joined(trained.lake.read(EXPOSURES), trained.identities)
    assert rows.height == 32 and rows.group_by("user_key").agg(pl.col("arm").n_unique())["arm"].to_list() == [1] * 16
    drawn = rows.filter(arm="drawn")
    assert all(len(json.loads(row)) == 4 for row in drawn["chances"])
    assert rows.filter(arm="control")["chances"].null_count() == rows.filter(arm="control").height


def test_the_held_out_get_what_everyone_buys_and_are_told_apart(trained):
    trained.plan.write_text(trained.plan.read_text() + '\n[serve]\nhold_out = 0.4\nhold_out_lists = "popular"\n')
    experiments.begin(trained.state, Experiment("aa", (Arm("a", 0.5), Arm("b", 0.5))))
    with TestClient(app.create(trained, read=lambda: serving.read(trained))) as client:
        told = [client.get("/v1/recommendations", params={"user_id": f"u{n}", "n": 3}).json() for n in range(40)]
    out = [body for body in told if body["experiments"][HOLD_OUT] == HELD_OUT]
    inside = [body for body in told if body["experiments"][HOLD_OUT] == REST]
    assert len(out) + len(inside) == 40 and out and inside
    assert all(body["experiments"].keys() == {HOLD_OUT} and body["model"] == "popular" for body in out)
    assert all(body["experiments"].keys() == {HOLD_OUT, "aa"} and body["model"] == "blend" for body in inside)
    assert len({tuple(one["item_id"] for one in body["items"]) for body in out}) == 1
    rows = trained.lake.read(EXPOSURES)
    assert rows.filter(arm=HELD_OUT).height == len(out) and set(rows["what"]) == {HOLD_OUT, "aa"}
    assert [arm.share for arm in experiments.named(trained.state, HOLD_OUT).arms] == [0.6, 0.4]


@pytest.fixture(scope="module")
def run():
    """Run a command; returns (what it printed, its error)."""

    def command(*arguments):
        done = CliRunner().invoke(cli.app, arguments)
        return done.stdout, done.exception

    return command


def test_the_commands(shop, run):
    where = ("-w", str(shop.root))
    arms = ("--arm", "control share=0.5", "--arm", "very dear share=0.5 price=1")
    assert run("experiment", "begin", "p", *arms, "--placement", "home", *where) == (
        "p runs. What it brought: habitue experiment show p\n",
        None,
    )
    (found,) = json.loads(run("experiment", "list", "--json", *where)[0])
    assert [(arm["name"], arm["price"]) for arm in found["arms"]] == [("control", None), ("very dear", 1.0)]
    assert found["placements"] == ["home"]
    assert run("experiment", "end", "p", *where)[0] == "p has ended.\n"
    for arguments, words in (
        (("begin", "q", "--arm", "a share=x"), "'a share=x' is no arm"),
        (("begin", "q", "--arm", "a shar=1"), "no setting 'shar'.*'share'"),
        (("show", "absent"), "never ran an experiment 'absent'"),
        (
            ("show", "p"),
            "the lake holds no list of 'p' yet. There is nothing to compare. A list comes into the lake with",
        ),
    ):
        with pytest.raises(UsageError, match=words):
            raise run("experiment", *arguments, *where)[1]
    assert shop.lake.read(EXPOSURES).is_empty()
