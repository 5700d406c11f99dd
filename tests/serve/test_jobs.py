"""Jobs: many customers answered by the child's code, in parts, gone on with after a death, without the erased."""

import datetime as dt
import json

import pytest
from litestar.testing import TestClient

from habitue import batch, serving
from habitue.core.errors import UsageError
from habitue.protect import erase, identities
from habitue.serve import app, jobs, keys, rules, work


@pytest.fixture
def client(trained):
    with TestClient(app.create(trained, read=lambda: serving.read(trained))) as client:
        yield client


def work_off(space):
    """Do what the child does with the oldest job."""
    job = work.claim(space.state)
    result = batch.run(space, {**job.arguments, "job": job.number}, lambda *_: None)
    work.finish(space.state, job.number, result)
    return result


def rows(answer):
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def test_everybody_gets_what_the_route_answers(trained, client, monkeypatch):
    monkeypatch.setattr(batch, "CUSTOMERS", 15)
    rules.add(trained.state, "exclude", items=["red-1"])
    began = client.post("/v1/jobs", json={"what": "recommendations", "n": 3, "category": "Table > Cups"})
    assert began.status_code == 202 and began.json()["state"] == "waiting"
    number = began.json()["job_id"]
    assert client.get(f"/v1/jobs/{number}/result").json()["code"] == "not_done"
    assert work_off(trained)["parts"] == 3
    told = client.get(f"/v1/jobs/{number}").json()
    assert (told["state"], told["customers"], told["parts"], told["what"]) == ("done", 40, 3, "recommendations")
    moments = [dt.datetime.fromisoformat(told[name]) for name in ("submitted_at", "started_at", "ended_at")]
    assert moments == sorted(moments) and abs(dt.datetime.now(dt.UTC) - moments[0]) < dt.timedelta(minutes=5)
    found = rows(client.get(f"/v1/jobs/{number}/result"))
    assert {row["user_id"] for row in found} == {f"u{n}" for n in range(40)} and "user_key" not in found[0]
    for row in found[:5]:
        query = {"user_id": row["user_id"], "n": 3, "category": "Table > Cups"}
        answer = client.get("/v1/recommendations", params=query).json()
        assert [one["item_id"] for one in row["items"]] == [one["item_id"] for one in answer["items"]]
    assert "red-1" not in json.dumps(found)
    parts = [rows(client.get(f"/v1/jobs/{number}/result", params={"part": part})) for part in range(3)]
    assert [len(part) for part in parts] == [15, 15, 10] and sum(parts, []) == found
    assert client.get(f"/v1/jobs/{number}/result", params={"part": 3}).json()["code"] == "no_part"
    assert client.get("/v1/jobs").json()["jobs"][0]["job_id"] == number


def test_some_get_predictions_and_the_unknown_are_counted(trained, client):
    asked = {"what": "predictions", "user_ids": ["u3", "nobody", "u5", "u3"]}
    began = client.post("/v1/jobs", json=asked).json()
    assert began["unknown_users"] == 1
    work_off(trained)
    found = rows(client.get(f"/v1/jobs/{began['job_id']}/result"))
    assert sorted(row["user_id"] for row in found) == ["u3", "u5"]
    for row in found:
        answer = client.get("/v1/predictions", params={"user_id": row.pop("user_id")}).json()
        assert row["churn"] == pytest.approx(answer["churn"]) and row["stale"] is answer["stale"] is True
    assert not list((trained.state / work.FOLDER).glob("asked-*"))


def test_what_is_known_of_each(trained, client):
    began = client.post("/v1/jobs", json={"what": "users", "user_ids": ["u3"]}).json()
    work_off(trained)
    (row,) = rows(client.get(f"/v1/jobs/{began['job_id']}/result"))
    assert row["features"]["order_count"] == 8 and len(row["timeline"]) == 8


def test_personas_are_found_anew_for_who_asks_next(trained, client):
    assert client.get("/v1/users/u3").json()["persona"] is None
    number = client.post("/v1/jobs", json={"what": "personas"}).json()["job_id"]
    names = work_off(trained)["personas"]
    assert client.get("/v1/users/u3").json()["persona"]["name"] in names
    assert client.get(f"/v1/jobs/{number}").json()["customers"] == 40
    assert rows(client.get(f"/v1/jobs/{number}/result")) == []


def test_a_death_in_the_middle_goes_on_with_the_missing_part(trained, client, monkeypatch):
    monkeypatch.setattr(batch, "CUSTOMERS", 10)
    number = client.post("/v1/jobs", json={"what": "users"}).json()["job_id"]
    job = work.claim(trained.state)

    class Killed(BaseException):
        pass

    def killed(done, steps, words):
        if done == 20:
            raise Killed

    with pytest.raises(Killed):
        batch.run(trained, {**job.arguments, "job": number}, killed)
    folder = work.folder(trained.state, number)
    first = {path.name: path.stat().st_mtime_ns for path in folder.glob(jobs.PARTS)}
    assert len(first) == 2
    work.recover(trained.state)
    assert work_off(trained)["parts"] == 4
    assert first.items() <= {path.name: path.stat().st_mtime_ns for path in folder.glob(jobs.PARTS)}.items()
    assert len(rows(client.get(f"/v1/jobs/{number}/result"))) == 40


def test_another_model_meanwhile_starts_anew(trained, client, monkeypatch):
    monkeypatch.setattr(batch, "CUSTOMERS", 10)
    number = client.post("/v1/jobs", json={"what": "users"}).json()["job_id"]
    folder = work.folder(trained.state, number)
    folder.mkdir(parents=True)
    key = identities.lookup(trained.identities, "user_id", "u7")
    (folder / batch.ABOUT).write_text(json.dumps({"version": "older", "at": "2024-01-01", "users": [key]}))
    (folder / "part-000000.ndjson").write_text("{}\n")
    assert work_off(trained)["customers"] == 1
    assert [row["user_id"] for row in rows(client.get(f"/v1/jobs/{number}/result"))] == ["u7"]


def test_an_erased_customer_takes_the_part_along(trained, client):
    number = client.post("/v1/jobs", json={"what": "users", "user_ids": ["u3", "u4"]}).json()["job_id"]
    waiting = client.post("/v1/jobs", json={"what": "users", "user_ids": ["u3", "u4"]}).json()["job_id"]
    work_off(trained)
    erase.erase(trained, [identities.lookup(trained.identities, "user_id", "u3")])
    answer = client.get(f"/v1/jobs/{number}/result")
    assert (answer.status_code, answer.json()["code"]) == (410, "gone")
    with pytest.raises(UsageError, match="the list of customers is gone: somebody on it was erased"):
        work_off(trained)
    assert client.get(f"/v1/jobs/{waiting}").json()["state"] == "running"


def test_what_waits_can_be_cancelled(trained, client):
    number = client.post("/v1/jobs", json={"what": "users"}).json()["job_id"]
    assert client.delete(f"/v1/jobs/{number}").json()["state"] == "failed"
    assert client.delete(f"/v1/jobs/{number}").json()["code"] == "too_late"
    assert client.get(f"/v1/jobs/{number}").json()["words"] == "It was cancelled before it began"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({}, "bad_what"),
        ({"what": "everything"}, "bad_what"),
        ({"what": "users", "n": 3}, "bad_what"),
        ({"what": "personas", "user_ids": ["a"]}, "bad_what"),
        ({"what": "users", "user_ids": []}, "bad_user_ids"),
        ({"what": "users", "user_ids": "u1"}, "bad_user_ids"),
        ({"what": "users", "user_ids": ["x" * 300]}, "bad_too_long"),
        ({"what": "recommendations", "n": 0}, "bad_n"),
        ({"what": "recommendations", "n": 10**9}, "bad_n"),
        ({"what": "recommendations", "placement": "similar"}, "bad_item_id"),
        ({"what": "recommendations", "user_id": "u1"}, "unknown_parameter"),
    ],
)
def test_bad_input_is_refused_at_once(trained, client, asked, code):
    answer = client.post("/v1/jobs", json=asked)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert work.listed(trained.state) == []


def test_jobs_take_a_secret_key(trained, client):
    write, secret = keys.create(trained.state, "write")[1], keys.create(trained.state, "secret")[1]
    client.app.state.door._looked = -1.0

    def ask(text):
        return client.post("/v1/jobs", json={"what": "users"}, headers={"Authorization": f"Bearer {text}"})

    assert (ask(write).status_code, ask(write).json()["code"]) == (403, "not_allowed")
    assert ask(secret).status_code == 202
    assert (
        client.get("/v1/jobs/" + "0" * 32, headers={"Authorization": f"Bearer {secret}"}).json()["code"]
        == "unknown_job"
    )
    assert [line[2:] for line in keys.audit(trained.state)][0] == ("jobs", "users")


def test_a_job_about_nobody_fails_in_words(shop):
    work.submit(shop.state, jobs.KIND, {"what": "users", "question": {}})
    with pytest.raises(UsageError, match="the shop knows no customer by a user_id.*nobody to answer about.*alias_kind"):
        work_off(shop)
