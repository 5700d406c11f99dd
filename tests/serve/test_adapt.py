"""A model follows its shop: it is held against the one that answers, promoted, tried out, or refused in words."""

import dataclasses
import datetime as dt
import os
import shutil
import time

import numpy as np
import pytest
from litestar.testing import TestClient

import habitue
from habitue import adapting, background, serving
from habitue.core import workspace
from habitue.core.errors import ModelError, UsageError
from habitue.model import artifact
from habitue.serve import app, desk, keys, registry, work
from habitue.serve.registry import Adapt, Canary

TRAINED = "2024-04-15"
NOW = dt.datetime(2024, 8, 1, 12, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def earlier(trained_shop, tmp_path_factory):
    """The shop with a model that knows nothing after TRAINED; orders go on until July."""
    folder = tmp_path_factory.mktemp("adapt") / "shop"
    shutil.copytree(trained_shop, folder)
    shutil.rmtree(folder / "models")
    (folder / "models").mkdir()
    habitue.open(folder).train(as_of=TRAINED)
    return folder


@pytest.fixture
def space(earlier, tmp_path):
    shutil.copytree(earlier, tmp_path / "shop")
    return workspace.open_workspace(tmp_path / "shop")


def adapted(space, **settings):
    plan = habitue.open(space.root).plan
    plan = dataclasses.replace(plan, adapt=Adapt(**settings))
    steps = []
    told = adapting.adapt(space, plan, said=lambda *one: steps.append(one))
    assert [one[0] for one in steps] == [0, 1, 2]
    return told


def test_what_was_held_against_is_what_is_promoted_and_rolled_back(space):
    before = registry.current(space.models).name
    told = adapted(space, margin=10.0)
    assert told["promoted"] and told["words"].startswith("Promoted. NDCG@10 0.")
    assert registry.current(space.models).name == told["version"] != before
    cut = dt.datetime.fromisoformat(told["as_of"])
    assert dt.datetime(2024, 5, 15, tzinfo=dt.UTC) < cut < dt.datetime(2024, 7, 1, tzinfo=dt.UTC)
    assert 20 < told["customers"] <= 40 and told["low"] <= told["difference"] <= told["high"]
    assert told["difference"] == pytest.approx(told["candidate"] - told["now"], abs=1e-9)
    now, old = (artifact.load(space.models / registry.MODEL / name) for name in (told["version"], before))
    assert now.manifest["adapted"]["from"] == before and now.manifest["as_of"] == told["as_of"]
    assert 0 < now.manifest["train_s"] != old.manifest["train_s"]
    assert keys.audit(space.state)[0][1:] == ("background", "models adapt", f"{told['version']}, promoted")
    views = [one.state.views["behaviour"] for one in (now, old)]
    assert views[0].day > views[1].day and views[0].steps < views[1].steps and views[0].config == views[1].config
    moved = np.abs(views[0].weights["items"].numpy() - views[1].weights["items"].numpy()).max()
    assert 0 < moved < 0.5  # gone on from, not begun anew
    assert registry.rollback(space.models) == before


def test_a_candidate_that_may_be_worse_is_refused_and_nothing_is_left_of_it(space, monkeypatch):
    before = [one.name for one in registry.listed(space.models)]
    real = adapting.hold_against

    def worse(*args, **more):
        return dataclasses.replace(real(*args, **more), low=-0.3, candidate=0.1, difference=-0.2)

    monkeypatch.setattr(adapting, "hold_against", worse)
    told = adapted(space)
    assert (told["promoted"], told["version"]) == (False, None)
    assert told["words"].startswith("Refused: it may be worse than the model that answers by more than 5%.")
    assert [one.name for one in registry.listed(space.models)] == before


def test_too_few_orders_and_no_model_are_said(space):
    with pytest.raises(ModelError, match="orders came since the model was trained, fewer than 5,000"):
        adapted(space, least_orders=5_000)
    shutil.rmtree(space.models / registry.MODEL)
    with pytest.raises(ModelError, match="there is no trained model"):
        adapting.adapt(space, habitue.open(space.root).plan, said=lambda *_: None)


def test_it_is_due_by_the_clock_once(space):
    plan = dataclasses.replace(habitue.open(space.root).plan, adapt=Adapt(every_hours=6, drift=0))
    began = (space.models / registry.MODEL / registry.current(space.models).name).stat().st_mtime
    assert adapting.due(space, plan, now=began + 5.9 * 3_600) is None
    assert adapting.due(space, plan, now=began + 6.1 * 3_600) == "6 hours have gone by"
    number = work.submit(space.state, adapting.KIND, {})
    assert adapting.due(space, plan, now=time.time() + 7 * 3_600) is None  # it waits already
    work.claim(space.state)
    work.finish(space.state, number, {})
    assert adapting.due(space, plan, now=time.time() + 5.9 * 3_600) is None
    assert adapting.due(space, plan, now=time.time() + 6.1 * 3_600) is not None
    never = dataclasses.replace(plan, adapt=Adapt())
    assert adapting.due(space, never, now=time.time() + 1e9) is None


def test_data_that_moved_are_a_reason(space):
    def reason(drift):
        config = Adapt(every_hours=1e6, drift=drift, drift_hours=1, drift_days=20)
        plan = dataclasses.replace(habitue.open(space.root).plan, adapt=config)
        return adapting.due(space, plan, now=time.time() + 7_200)

    assert reason(0.25) is None
    looked = space.state / adapting.LOOKED
    assert looked.exists()
    looked.unlink()
    events = space.lake.read(adapting.EVENTS).sort("at").tail(60)
    dear = events.with_columns(event_id=events["event_id"] + "x", price=events["price"] * 50)
    space.lake.append(adapting.EVENTS, dear)
    assert reason(0.25).startswith("the column price of the events moved (PSI ")
    os.utime(looked, (time.time() + 3_700,) * 2)
    assert reason(0.25) is None  # it was looked at an hour ago
    looked.unlink()
    assert reason(1e6) is None


def test_the_background_queues_it_only_where_the_plan_asks(space):
    background._schedule(space)
    assert work.listed(space.state) == []
    space.plan.write_text(space.plan.read_text() + "\n[adapt]\nevery_hours = 1e-9\n")
    background._schedule(space)
    background._schedule(space)
    (job,) = work.listed(space.state)
    assert job.kind == "adapt" and "hours have gone by" in job.arguments["reason"]


class TestCanary:
    def test_a_share_of_the_people_get_it_always_the_same(self):
        canary = Canary("v2", 0.2)
        got = [person for person in range(5_000) if canary.gets(person)]
        assert 850 < len(got) < 1_150 and got == [person for person in range(5_000) if canary.gets(person)]
        assert set(got) != {person for person in range(5_000) if Canary("v3", 0.2).gets(person)}
        assert set(got) <= {person for person in range(5_000) if Canary("v2", 0.4).gets(person)}

    def test_it_answers_nobody_else_until_it_is_promoted(self, space):
        now = registry.current(space.models).name
        folder = space.models / registry.MODEL
        registry.try_out(space.models, "2099-later", share=0.5)
        assert registry.canary(space.models) is None  # it is not there yet
        shutil.copytree(folder / now, folder / "2099-later")
        assert registry.canary(space.models) == Canary("2099-later", 0.5)
        assert registry.current(space.models).name == now
        assert registry.rollback(space.models) == now and registry.canary(space.models) is None
        assert registry.current(space.models).name == now  # the newest, but nobody promoted it
        registry.try_out(space.models, "2099-later", share=0.5)
        registry.promote(space.models, "2099-later")
        assert registry.current(space.models).name == "2099-later" and registry.canary(space.models) is None

    @pytest.mark.parametrize("share", [0, 1, -1, 2])
    def test_a_share_of_nobody_is_refused(self, space, share):
        with pytest.raises(UsageError, match=f"a share of {share:g}"):
            registry.try_out(space.models, "v", share=share)

    def test_both_models_answer_and_what_follows_is_counted(self, space):
        now, folder = registry.current(space.models).name, space.models / registry.MODEL
        shutil.copytree(folder / now, folder / "2099-later")
        registry.try_out(space.models, "2099-later", share=0.5)
        made = app.create(
            space, read=lambda: serving.read(space), clock=lambda: NOW, answering=desk.Config(look_s=0.05)
        )
        with TestClient(made) as client:
            versions = {}
            for user in range(40):
                answer = client.get("/v1/recommendations", params={"user_id": f"u{user}", "n": 3}).json()
                versions[user] = answer["model_version"]
            again = client.get("/v1/recommendations", params={"user_id": "u3", "n": 3}).json()
            assert again["model_version"] == versions[3]
            assert {"2099-later", now} == set(versions.values())
            for user in range(40):
                client.post("/v1/track", json={"event": "Product Clicked", "userId": f"u{user}", "properties": {}})
            told = client.get("/metrics").text
            for version in (now, "2099-later"):
                people = sum(1 for one in versions.values() if one == version)
                assert f'habitue_model_lists_total{{version="{version}"}}' in told
                assert f'habitue_model_outcomes_total{{version="{version}",kind="Product Clicked"}} {people}\n' in told
            registry.promote(space.models, "2099-later")
            until = time.monotonic() + 60
            while time.monotonic() < until and set(versions.values()) != {"2099-later"}:
                for user in versions:
                    answer = client.get("/v1/recommendations", params={"user_id": f"u{user}", "n": 3})
                    assert answer.status_code == 200
                    versions[user] = answer.json()["model_version"]
            assert set(versions.values()) == {"2099-later"}
