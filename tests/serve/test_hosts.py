"""A server without keys answers to the names of this machine only; one with keys to any."""

import pytest
from litestar.testing import TestClient

from habitue import serving
from habitue.serve import app, hosts, keys, operational

PATHS = ("/v1/users/u0", "/v1/recommendations?user_id=u0", "/metrics", "/openapi.json", "/nothing")
LIST = PATHS[1]


@pytest.fixture
def server(trained):
    made = app.create(trained, read=lambda: serving.read(trained))
    hosts.guard(made)
    with TestClient(made) as client:
        yield client


@pytest.mark.parametrize(
    "host", ["rebound.example", "rebound.example:8080", "localhost.example", "10.0.0.1", "", "x" * 400]
)
def test_without_keys_another_host_is_told_nothing(server, host):
    for path in PATHS:
        answer = server.get(path, headers={"Host": host})
        assert (answer.status_code, answer.json()["code"]) == (421, "other_host")
        assert "keys create secret" in answer.json()["detail"] and "u0" not in answer.text
    body = {"userId": "u0", "messageId": "m", "event": "Product Viewed"}
    assert server.post("/v1/track", json=body, headers={"Host": host}).status_code == 421


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1:8080", "127.8.8.8", "[::1]:8080", "LocalHost", "a.localhost"]
)
def test_without_keys_this_machine_is_answered(server, host):
    assert server.get(LIST, headers={"Host": host}).status_code == 200


def test_refusals_are_counted(server):
    server.get(LIST, headers={"Host": "rebound.example"})
    counted = server.get("/metrics", headers={"Host": "localhost"}).text
    assert 'habitue_http_request_duration_seconds_count{route="none",method="GET",code="421"} 1' in counted


def test_with_keys_any_host_is_answered(trained):
    _, secret = keys.create(trained.state, "secret")
    made = app.create(trained, read=lambda: serving.read(trained))
    hosts.guard(made)
    with TestClient(made) as client:
        there = {"Host": "shop.example"}
        assert client.get(LIST, headers=there).json()["code"] == "no_key"
        assert client.get(LIST, headers=there | {"X-API-Key": secret}).status_code == 200


def test_keys_that_cannot_be_read_let_nobody_in(trained):
    made = app.create(trained, read=lambda: serving.read(trained))
    hosts.guard(made)
    with TestClient(made) as client:
        (trained.state / operational.FILE).write_bytes(b"no database" * 100)
        client.app.state.door._looked = -1.0
        answer = client.get(LIST, headers={"Host": "shop.example"})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
