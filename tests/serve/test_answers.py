"""The routes that answer, on a trained workspace: shapes, keys, bad input, health, metrics, the description."""

import datetime as dt
import json
import re
import shutil
import threading
import time
from contextlib import contextmanager

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

import habitue
from habitue import serving
from habitue.core import workspace
from habitue.core.schemas import CONSENT
from habitue.model import artifact
from habitue.protect import identities
from habitue.serve import answers, app, desk, keys, registry, rules

NOW = dt.datetime(2024, 8, 1, 12, tzinfo=dt.UTC)


@contextmanager
def served(space):
    """A client of a workspace; today is NOW."""
    made = app.create(space, read=lambda: serving.read(space), clock=lambda: NOW)
    with TestClient(made) as client:
        yield client


def asking(client):
    def get(path="/v1/recommendations", headers=None, **query):
        answer = client.get(path, params=query, headers=headers or {})
        return answer.status_code, answer.json()

    return get


@pytest.fixture(scope="module")
def server(trained_shop, tmp_path_factory):
    """One server without keys for all tests that change nothing."""
    folder = tmp_path_factory.mktemp("answers") / "shop"
    shutil.copytree(trained_shop, folder)
    with served(workspace.open_workspace(folder)) as client:
        yield client


@pytest.fixture
def ask(server):
    return asking(server)


@pytest.fixture
def own(trained):
    """A server of the test's own workspace, `trained`."""
    with served(trained) as client:
        yield client


@pytest.fixture
def ask_own(own):
    return asking(own)


def bearer(text, **more):
    return {"Authorization": f"Bearer {text}", **more}


def test_the_shape_of_an_answer(server, ask):
    code, body = ask(user_id="u0", n=3, explain="true")
    assert code == 200
    assert list(body) == ["recommendation_id", "model", "model_version", "items", "fallback", "experiments", "took_ms"]
    assert re.fullmatch("[0-9a-f]{32}", body["recommendation_id"]) and body["took_ms"] > 0
    assert (body["model"], body["fallback"]) == ("blend", None) and body["model_version"].startswith("2024")
    assert [one["rank"] for one in body["items"]] == [1, 2, 3]
    assert all(one["item_id"].startswith("red-") for one in body["items"])
    reasons = [reason for one in body["items"] for reason in one["reasons"]]
    assert reasons and all(set(reason) == {"code", "text", "weight"} for reason in reasons)
    same = server.post("/v1/recommendations", json={"user_id": "u0", "n": 3}).json()
    assert [one["item_id"] for one in same["items"]] == [one["item_id"] for one in body["items"]]
    assert same["recommendation_id"] != body["recommendation_id"]


def test_lists_stand_in_the_query_with_commas(ask):
    _, body = ask(placement="search", item_ids="red-1,blue-2,red-3", user_id="u1")
    assert [one["item_id"] for one in body["items"]][0] == "blue-2" and len(body["items"]) == 3
    assert ask(n=2, exclude="bought,seen", category="Table > Cups", price_to="9")[0] == 200


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"n": 0}, 400, "bad_n"),
        ({"n": 10**9}, 400, "bad_n"),
        ({"n": "ten"}, 400, "bad_n"),
        ({"n": "1.5"}, 400, "bad_n"),
        ({"n": "nan"}, 400, "bad_n"),
        ({"n": ""}, 400, "bad_n"),
        ({"explain": "maybe"}, 400, "bad_explain"),
        ({"user_id": "x" * 257}, 400, "bad_too_long"),
        ({"anonymous_id": "x" * 5000}, 400, "bad_anonymous_id"),
        ({"user_id": "a\x00b"}, 400, "bad_user_id"),
        ({"userid": "u0"}, 400, "unknown_parameter"),
        ({"n": [1, 2]}, 400, "bad_n"),
        ({"placement": "similar", "item_id": "nope"}, 404, "unknown_item"),
        ({"category": "Garden", "strict": "true"}, 404, "nothing_matches"),
        ({"price": "inf"}, 400, "bad_price"),
    ],
)
def test_bad_input_gets_its_code_and_a_sentence(ask, query, status, code):
    got, body = ask(**query)
    assert (got, body["code"], body["success"]) == (status, code, False)
    assert len(body["message"]) > 10 and len(body["detail"]) > 10
    assert "x" * 20 not in json.dumps(body)  # nothing of what was sent comes back


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", "invalid_request"),
        (b"[]", "invalid_request"),
        (b"\xff", "invalid_request"),
        (b"[" * 50_000, "invalid_request"),
        (b'{"n": "3"}', "bad_n"),
        (b'{"n": true}', "bad_n"),
        (b'{"n": 1e999}', "bad_n"),
        (b'{"user_id": 7}', "bad_user_id"),
        (b'{"user_id": "\\ud800"}', "bad_user_id"),
        (b'{"item_ids": "a"}', "bad_item_ids"),
        (b'{"user_id": "' + b"x" * 70_000 + b'"}', "too_large"),
    ],
)
def test_a_bad_body_gets_its_code(server, content, code):
    answer = server.post("/v1/recommendations", content=content)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_who_nobody_has_met_gets_what_everyone_buys(ask):
    for query in ({}, {"user_id": "nobody"}, {"anonymous_id": "nobody"}, {"user_id": "u0' OR 1=1 --"}):
        code, body = ask(**query)
        assert (code, body["fallback"], len(body["items"])) == (200, "popular", 10)


class TestKeys:
    @pytest.fixture
    def texts(self, trained):
        return {kind: keys.create(trained.state, kind)[1] for kind in keys.KINDS}

    def test_nothing_without_a_key(self, texts, ask_own):
        for path in ("/v1/recommendations", "/v1/predictions", "/v1/users/u0", "/api/recommend/u0", "/api/items"):
            code, body = ask_own(path)
            assert (code, body["code"]) == (401, "no_key"), path

    def test_a_write_key_asks_for_the_visitor_it_names_alone(self, texts, ask_own):
        write = bearer(texts["write"])
        assert ask_own(headers=write, anonymous_id="v1")[1]["fallback"] == "popular"
        assert ask_own(headers=write)[0] == 200
        code, body = ask_own(headers=write, user_id="u0")
        assert (code, body["code"], body["message"]) == (403, "not_allowed", "A write key may not ask for a named user")
        for path in ("/v1/predictions", "/v1/users/u0", "/api/recommend/u0", "/api/item/red-1", "/api/items"):
            assert ask_own(path, headers=write)[0] == 403, path

    def test_a_login_that_anybody_may_send_opens_nobodys_past(self, texts, ask_own, own):
        """A write key stands in the page: whoever reads it can say that a visitor of theirs is customer u1."""
        write, secret = bearer(texts["write"]), bearer(texts["secret"])
        own.get("/v1/recommendations", params={"anonymous_id": "mallory"}, headers=write)
        for said in (
            {"type": "track", "event": "Product Viewed", "properties": {"product_id": "red-2"}},
            {"type": "identify", "userId": "u1"},
            {"type": "track", "event": "Product Viewed", "properties": {"product_id": "red-3"}, "userId": "u1"},
        ):
            body = {"anonymousId": "mallory", "messageId": said.get("event", "i") + said.get("userId", ""), **said}
            assert own.post(f"/v1/{said['type']}", json=body | {"writeKey": texts["write"]}).status_code == 200
        mine = {"anonymous_id": "mallory", "exclude": "bought", "explain": True, "n": 20}
        joined, alone = (ask_own(headers=key, **mine)[1] for key in (secret, write))
        bought = {f"blue-{one}" for one in range(8)} - {one["item_id"] for one in joined["items"]}
        assert bought and bought <= {one["item_id"] for one in alone["items"]}
        assert "bought" not in {why["code"] for one in alone["items"] for why in one["reasons"]}
        assert alone["fallback"] is None  # the visitor's own click still counts
        token = own.post("/v1/tokens", json={"user_id": "never met"}, headers=secret).json()["user_token"]
        proven = {"X-User-Token": token}
        assert ask_own(headers=write | proven, **mine)[1]["items"] == alone["items"]
        token = own.post("/v1/tokens", json={"user_id": "u1"}, headers=secret).json()["user_token"]
        proven = {"X-User-Token": token}
        assert ask_own(headers=write | proven, **mine)[1]["items"] == joined["items"]

    def test_a_secret_key_asks_for_anybody_however_it_is_sent(self, texts, ask_own, own):
        secret = texts["secret"]
        for headers in (bearer(secret), {"X-API-Key": secret}):
            assert ask_own(headers=headers, user_id="u0")[1]["fallback"] is None
        answer = own.get("/v1/recommendations", params={"user_id": "u0"}, auth=(secret, ""))
        assert answer.json()["fallback"] is None

    def test_with_a_user_token_a_write_key_asks_for_that_user(self, texts, ask_own, own):
        minted = own.post("/v1/tokens", json={"user_id": "u0"}, headers=bearer(texts["secret"])).json()
        assert minted["expires_in"] == 3600
        write = bearer(texts["write"], **{"X-User-Token": minted["user_token"]})
        assert ask_own(headers=write)[1]["fallback"] is None
        assert ask_own(headers=write, user_id="u0")[0] == 200
        code, body = ask_own(headers=write, user_id="u1")
        assert (code, body["message"]) == (403, "The user token is another user's")
        broken = bearer(texts["write"], **{"X-User-Token": minted["user_token"][:-3]})
        assert ask_own(headers=broken)[1]["code"] == "bad_user_token"
        assert own.post("/v1/tokens", json={"user_id": "u0"}, headers=bearer(texts["write"])).status_code == 403
        wrong = own.post("/v1/tokens", json={"user_id": "u0", "seconds": 0}, headers=bearer(texts["secret"]))
        assert wrong.json()["code"] == "bad_seconds"

    def test_a_guest_order_is_no_visitor(self, trained, texts, ask_own):
        identities.keys_for(trained.identities, "anonymous_id", pl.Series(["order:77"]), linked_at=NOW, source="t")
        assert ask_own(headers=bearer(texts["write"]), anonymous_id="order:77")[1]["fallback"] == "popular"

    def test_too_many_requests_are_told_to_wait(self, trained, own):
        _, text = keys.create(trained.state, "write", rate=1.0)
        answers = [own.get("/v1/recommendations", params={"n": 1}, headers=bearer(text)) for _ in range(4)]
        assert [one.status_code for one in answers][:2] == [200, 200]
        last = answers[-1]
        assert last.status_code == 429 and last.headers["Retry-After"] == "1"
        assert last.json()["code"] == "too_many_requests"

    def test_who_asked_for_a_person_stands_in_the_audit_log(self, trained, texts, ask_own):
        ask_own("/v1/users/u0", headers=bearer(texts["secret"]))
        ask_own("/v1/predictions", headers=bearer(texts["secret"]), user_id="nobody")
        assert [row[2:] for row in keys.audit(trained.state)][:2] == [("predictions", "unknown"), ("users", "found")]
        assert "u0" not in json.dumps(keys.audit(trained.state))


def test_predictions(ask):
    code, body = ask("/v1/predictions", user_id="u0")
    assert code == 200 and body["horizon_days"] == 30
    assert body["purchase"] == pytest.approx(1 - body["churn"]) and 0 < body["churn"] < 1 and body["value"] > 0
    assert set(body["churn_within_days"]) == {"7", "30", "90"} or set(body["churn_within_days"]) <= {"7", "30", "90"}
    assert "order_completed" in body["next_action"]
    assert ask("/v1/predictions", user_id="nobody")[1]["code"] == "unknown_user"
    code, body = ask("/v1/predictions")
    assert (code, body["code"]) == (400, "bad_user_id") and "names nobody" in body["message"]


def test_a_user(ask):
    code, body = ask("/v1/users/u0")
    assert code == 200 and body["user_id"] == "u0" and body["may_be_personal"] and body["anonymous_ids"] == []
    assert re.fullmatch("customer [0-9a-f]{5}", body["pseudonym"])
    assert body["features"]["order_count"] == 8 and len(body["timeline"]) == 8
    assert body["timeline"][0]["at"] > body["timeline"][-1]["at"]
    assert ask("/v1/users/nobody")[1]["code"] == "unknown_user"
    assert ask("/v1/users/" + "x" * 300)[1]["code"] == "bad_too_long"


def test_who_does_not_agree_gets_no_personal_answer(trained):
    key = identities.lookup(trained.identities, "user_id", "u0")
    row = {"user_key": key, "purpose": "personalisation", "granted": False, "at": NOW, "source": "t", "import_id": "t"}
    trained.lake.append(CONSENT, pl.DataFrame([row], schema=CONSENT.schema))
    with served(trained) as client:
        assert client.get("/v1/recommendations", params={"user_id": "u0"}).json()["fallback"] == "popular"
        answer = client.get("/v1/predictions", params={"user_id": "u0"})
        assert (answer.status_code, answer.json()["code"]) == (403, "no_consent")
        body = client.get("/v1/users/u0").json()
        assert (body["may_be_personal"], body["features"], body["timeline"]) == (False, None, [])


def test_rules_are_read_again_without_a_restart(trained, ask_own):
    ask = ask_own
    first = ask(user_id="u0", n=1)[1]["items"][0]["item_id"]
    rule = rules.add(trained.state, "exclude", items=[first])
    assert ask(user_id="u0", n=1)[1]["items"][0]["item_id"] != first
    rules.remove(trained.state, rule.id)
    assert ask(user_id="u0", n=1)[1]["items"][0]["item_id"] == first


def test_health_and_metrics(own):
    server, ask = own, asking(own)
    assert ask("/health/live") == (200, {"live": True})
    code, body = ask("/health/ready")
    assert code == 200 and body["ready"] and body["model_version"].startswith("2024")
    ask(user_id="u0")
    ask("/v1/users/u0")
    ask(n=0)
    answer = server.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.text.splitlines()
    assert 'habitue_recommendations_total{placement="home",model="blend",fallback="none"} 1' in lines
    assert "habitue_recommendation_duration_seconds_count 1" in lines
    assert f'habitue_model_info{{model="blend",version="{body["model_version"]}"}} 1' in lines
    for route, code in (("/v1/recommendations", 200), ("/v1/recommendations", 400), ("/v1/users/{user_id}", 200)):
        wanted = f'habitue_http_request_duration_seconds_count{{route="{route}",method="GET",code="{code}"}} 1'
        assert wanted in lines, [line for line in lines if "_count" in line]
    assert "u0" not in answer.text
    names = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert names >= {"habitue_events_received_total", "habitue_event_ingest_lag_seconds", "habitue_products"}


def test_metrics_name_what_a_check_and_a_training_found(trained):
    def lines(client, name):
        return [line for line in client.get("/metrics").text.splitlines() if line.startswith(f"{name}{{")]

    ratio, took = "habitue_data_quality_ratio", "habitue_model_train_duration_seconds"
    with TestClient(app.create(trained, read=lambda: serving.read(trained))) as client:
        assert lines(client, ratio) == []  # nobody has checked
        (line,) = lines(client, took)
        assert line.startswith(f'{took}{{model="blend",version="2024') and 0 < float(line.split()[1]) < 600
        by = {}
        for row in habitue.open(trained.root).check().scores.to_dicts():
            by.setdefault((row["table"], row["dimension"]), []).append(row["score"])
        client.blocking_portal.call(client.app.state.desk.renew)
        told = {tuple(re.findall('"([a-z]+)"', line)): float(line.split()[1]) for line in lines(client, ratio)}
    assert told.keys() == by.keys() >= {("events", "completeness"), ("items", "completeness")}
    for at, scores in by.items():
        assert told[at] == pytest.approx(sum(scores) / len(scores), rel=1e-4)


def test_a_model_of_an_earlier_version_has_no_training_time(trained):
    folder = registry.current(trained.models)
    loaded = artifact.load(folder)
    manifest = {name: value for name, value in loaded.manifest.items() if name != "train_s"}
    shutil.rmtree(folder)
    artifact.save(folder, "blend", loaded.state, manifest)
    with TestClient(app.create(trained, read=lambda: serving.read(trained))) as client:
        assert "habitue_model_train_duration_seconds{" not in client.get("/metrics").text


def test_a_workspace_without_events_says_so(shop):
    with TestClient(app.create(shop, read=lambda: serving.read(shop))) as client:
        answer = client.get("/v1/recommendations")
        assert (answer.status_code, answer.json()["code"]) == (503, "no_products")
        retrieval = {"products": 0, "scored": "all"}
        assert client.get("/health/ready").json() == {"ready": True, "model_version": None, "retrieval": retrieval}
        assert client.get("/api/items").json() == {"Cursor": "", "Items": []}


def test_a_server_that_only_receives_is_not_ready(client):
    assert client.get("/health/ready").status_code == 503
    answer = client.get("/v1/recommendations")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")


def test_the_description_names_every_route_and_what_it_takes(ask):
    code, document = ask("/openapi.json")
    assert code == 200 and document["openapi"] == "3.1.0"
    about = document["paths"]["/v1/recommendations"]
    names = {one["name"] for one in about["get"]["parameters"]}
    assert names == set(about["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"])
    assert {"/v1/track", "/api/recommend/{user_id}", "/recommendations", "/metrics"} <= set(document["paths"])
    every = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(every) == len(set(every))
    assert "pickle" not in json.dumps(document)


def test_the_promoted_model_is_swapped_in_without_a_failed_request(trained, ask_own):
    ask = ask_own
    before = ask("/health/ready")[1]["model_version"]
    folder = trained.models / registry.MODEL
    later = before[:-1] + ("0" if before[-1] != "0" else "1")  # newer by its name or older
    shutil.copytree(folder / before, folder / later)
    registry.promote(trained.models, later)
    until = time.monotonic() + 60
    versions = []
    while time.monotonic() < until and (not versions or versions[-1] != later):
        code, body = ask(user_id="u0", n=2)
        assert code == 200
        versions.append(body["model_version"])
    assert set(versions) == {before, later} and versions == sorted(versions, key=[before, later].index)
    assert registry.rollback(trained.models) == before
    while time.monotonic() < until and ask()[1]["model_version"] != before:
        pass
    assert ask()[1]["model_version"] == before


def test_a_model_that_cannot_be_read_leaves_the_old_one_answering(trained, own):
    server, ask = own, asking(own)
    before = ask("/health/ready")[1]["model_version"]
    (trained.models / registry.MODEL / "20990101T000000Z-broken").mkdir()
    until = time.monotonic() + 60
    while time.monotonic() < until and 'habitue_refreshes_total{result="failed"}' not in server.get("/metrics").text:
        time.sleep(0.2)
    assert 'habitue_refreshes_total{result="failed"} 1' in server.get("/metrics").text
    assert ask(user_id="u0")[1]["model_version"] == before


NAMES = sorted({field.name for field in answers.RECOMMENDATIONS} | {"nope"})
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["home", "cart"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=120, deadline=None)
@given(
    path=st.sampled_from(["/v1/recommendations", "/v1/predictions", "/recommendations", "/personalize-ranking"]),
    body=st.dictionaries(
        st.sampled_from([*NAMES, "userId", "itemId", "numResults", "inputList", "filterArn", "filterValues"]),
        ODD,
        max_size=5,
    ),
)
def test_whatever_is_sent_is_answered_or_refused_in_words(server, path, body):
    answer = server.post(path, content=json.dumps(body).encode())
    assert answer.status_code in (200, 400, 404), answer.text
    if answer.status_code != 200:
        assert answer.json()["success"] is False and {"code", "message", "detail"} <= set(answer.json())


@settings(max_examples=120, deadline=None)
@given(
    path=st.sampled_from(["/v1/recommendations", "/api/recommend/u1", "/api/items", "/api/item/red-1/neighbors"]),
    query=st.dictionaries(
        st.sampled_from([*NAMES, "offset", "cursor"]), st.text(max_size=12) | st.integers(), max_size=4
    ),
)
def test_whatever_stands_in_a_query_is_answered_or_refused_in_words(server, path, query):
    assert server.get(path, params=query).status_code in (200, 400, 404)


def test_consent_that_is_withdrawn_reaches_a_running_server(trained):
    key = identities.lookup(trained.identities, "user_id", "u0")
    config = desk.Config(look_s=0.05, lake_s=0.0)
    with TestClient(
        app.create(trained, read=lambda: serving.read(trained), clock=lambda: NOW, answering=config)
    ) as client:
        assert client.get("/v1/recommendations", params={"user_id": "u0"}).json()["fallback"] is None
        row = {"user_key": key, "purpose": "analytics", "granted": False, "at": NOW, "source": "t", "import_id": "t"}
        trained.lake.append(CONSENT, pl.DataFrame([row], schema=CONSENT.schema))
        until = time.monotonic() + 60
        found = None
        while found is None and time.monotonic() < until:
            time.sleep(0.1)
            found = client.get("/v1/recommendations", params={"user_id": "u0"}).json()["fallback"]
        assert found == "popular"


def test_more_events_than_memory_takes_are_all_taken_and_counted_after_the_next_reading(trained):
    config = desk.Config(look_s=0.05, new_products_s=0.0, fresh=10)
    may_read = threading.Event()

    def read():
        assert may_read.wait(60)
        return serving.read(trained)

    may_read.set()
    made = app.create(trained, read=read, clock=lambda: NOW, answering=config)
    with TestClient(made) as client:
        may_read.clear()
        at = NOW - dt.timedelta(hours=1)
        events = [
            {"type": "track", "event": "Product Viewed", "userId": "u0", "messageId": f"more-{n}"}
            | {"timestamp": (at + dt.timedelta(seconds=n)).isoformat(), "properties": {"product_id": f"new-{n}"}}
            for n in range(30)
        ]
        assert client.post("/v1/batch", json={"batch": events}).json() == {"success": True}
        assert "habitue_events_left_to_reading 1" in client.get("/metrics").text
        assert client.get("/v1/users/u0").json()["timeline"][0]["item_ids"] == ["new-9"]
        may_read.set()
        until, newest = time.monotonic() + 60, None
        while newest != ["new-29"] and time.monotonic() < until:
            time.sleep(0.05)
            newest = client.get("/v1/users/u0").json()["timeline"][0]["item_ids"]
        assert newest == ["new-29"] and "habitue_events_left_to_reading 0" in client.get("/metrics").text


def seen(product, event="Product Viewed", who="u0", number=0, **more):
    """One event of a tracker an hour ago."""
    told = {"type": "track", "event": event, "userId": who, "messageId": f"{event}-{product}-{who}-{number}"}
    return told | {"timestamp": (NOW - dt.timedelta(hours=1)).isoformat(), "properties": {"product_id": product} | more}


def test_a_product_nobody_knew_is_read_at_once_and_what_came_meanwhile_counts_on(trained):
    """Only the new product is a reason to read again here; the purchases come while that reading is under way."""
    config = desk.Config(look_s=0.05, new_products_s=0.0, lake_s=1e9, at_most_s=1e9)
    may_read, reading = threading.Event(), threading.Event()

    def read():
        reading.set()
        assert may_read.wait(60)
        return serving.read(trained)

    may_read.set()
    with TestClient(app.create(trained, read=read, clock=lambda: NOW, answering=config)) as client:

        def ask(**query):
            return client.get("/v1/recommendations", params=query)

        first, last = (ask(n=50).json()["items"][place]["item_id"] for place in (0, -1))
        assert ask(placement="similar", item_id="fresh-1").status_code == 404
        may_read.clear()
        reading.clear()
        assert client.post("/v1/batch", json={"batch": [seen("fresh-1")]}).status_code == 200
        assert reading.wait(60)
        orders = [
            seen("", "Order Completed", f"n{n}", order_id=f"o{n}", products=[{"product_id": last, "price": 1}])
            for n in range(200)
        ]
        assert client.post("/v1/batch", json={"batch": orders}).status_code == 200
        assert ask(n=1).json()["items"][0]["item_id"] == last != first
        may_read.set()
        until = time.monotonic() + 60
        while ask(placement="similar", item_id="fresh-1").status_code == 404 and time.monotonic() < until:
            time.sleep(0.05)
        assert ask(placement="similar", item_id="fresh-1").status_code == 200
        assert ask(n=1).json()["items"][0]["item_id"] == last
