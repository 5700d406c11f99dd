"""The short way to the routes that are asked most answers as the framework does."""

import datetime as dt
import json
import shutil

from litestar.testing import TestClient

from habitue import serving
from habitue.core import workspace
from habitue.serve import app, desk, front, keys

NOW = dt.datetime(2024, 8, 1, 12, tzinfo=dt.UTC)
VIEW = {"userId": "u0", "messageId": "m1", "event": "Product Viewed", "properties": {"product_id": "red-1"}}
LIST = "/v1/recommendations"


def requests(secret, write):
    """Yield (method, path, body, headers): good ones, and every way to be wrong."""
    key = {"x-api-key": secret}
    yield "POST", LIST, {"user_id": "u0", "n": 3, "explain": True}, key
    yield "POST", LIST, {"user_id": "u0", "n": 3}, {"authorization": f"Bearer {secret}", "origin": "https://shop.test"}
    yield "GET", f"{LIST}?user_id=u1&n=2&exclude=bought,seen", None, key
    yield "GET", f"{LIST}?anonymous_id=nobody&n=2", None, {"x-api-key": write}
    yield "POST", "/v1/track", VIEW | {"writeKey": write}, {}
    yield "POST", "/v1/track", VIEW | {"writeKey": write, "messageId": "m2"}, {"origin": "https://shop.test"}
    yield "POST", "/v1/t", VIEW | {"writeKey": write, "messageId": "m3"}, {"content-type": "text/plain"}
    yield "POST", "/v1/batch", {"writeKey": write, "batch": [{"type": "track"} | VIEW]}, {}
    yield "POST", "/batch/", {"api_key": write, "batch": [{"event": "x", "distinct_id": "u0", "uuid": "1"}]}, {}
    yield "POST", LIST, {"user_id": "u0", "n": 0}, key
    yield "POST", LIST, {"user": "u0"}, key
    yield "POST", LIST, b"{", key
    yield "POST", LIST, b"[" * 5_000, key
    yield "POST", LIST, b" " * 70_000, key
    yield "POST", LIST, {"user_id": "u0"}, {}
    yield "POST", LIST, {"user_id": "u0"}, {"x-api-key": write}
    yield "POST", LIST, {"placement": "similar", "item_id": "green"}, key
    yield "POST", "/v1/track", VIEW, {}
    yield "POST", "/v1/track", b"\x1f\x8bnothing", {"x-api-key": write}
    yield "POST", "/v1/track", b"x" * 40_000, {}
    yield "POST", "/v1/batch", {"writeKey": write}, {}
    yield "PUT", LIST, {}, key
    yield "HEAD", LIST, None, key
    yield "GET", "/v1/track", None, {}
    yield "OPTIONS", LIST, None, {"origin": "https://shop.test", "access-control-request-headers": "x-api-key"}
    yield "POST", f"{LIST}/", {"user_id": "u0", "n": 3}, key
    yield "POST", "/v1//track", VIEW | {"writeKey": write, "messageId": "m4"}, {}
    yield "GET", f"{LIST}?n=2", None, key | {"host": "a b"}
    yield "GET", f"{LIST}?n=2&n=3", None, key


def told(shop, secret, write):
    """Return what a server says to each request, and what it counted."""
    with TestClient(app.create(shop, read=lambda: serving.read(shop), clock=lambda: NOW)) as client:
        found = []
        for method, path, body, headers in requests(secret, write):
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            answer = client.request(method, path, content=content, headers=headers)
            said = sorted((name, value) for name, value in answer.headers.items() if name != "content-length")
            text = answer.text
            if text.startswith("{"):
                text = {k: v for k, v in answer.json().items() if k not in ("recommendation_id", "took_ms")}
            found.append((method, path, answer.status_code, said, text))
        counted = client.get("/metrics").text
        lines = sorted(line.partition(" ")[0] for line in counted.splitlines() if "duration_seconds_count" in line)
    return found, lines


def test_every_request_is_answered_as_the_framework_answers_it(trained, tmp_path, monkeypatch):
    _, secret = keys.create(trained.state, "secret")
    _, write = keys.create(trained.state, "write")
    shutil.copytree(trained.root, tmp_path / "twin")
    short = told(trained, secret, write)
    monkeypatch.setattr(front, "shorten", lambda made, handlers: None)
    whole = told(workspace.open_workspace(tmp_path / "twin"), secret, write)
    assert {code for _, _, code, _, _ in short[0]} >= {200, 204, 400, 401, 403, 404, 405}
    for ours, theirs in zip(short[0], whole[0], strict=True):
        assert ours == theirs
    assert short[1] == whole[1] and len(short[1]) > 10


def test_a_mistake_of_ours_is_a_500_that_tells_nothing(trained, monkeypatch, caplog):
    def broken(*args, **more):
        raise ZeroDivisionError("u0 bought blue-9")

    monkeypatch.setattr(desk.Desk, "recommend", broken)
    with TestClient(app.create(trained, read=lambda: serving.read(trained))) as client:
        answer = client.post(LIST, content=b'{"user_id": "u0"}')
    assert answer.status_code == 500 and answer.json()["code"] == "internal"
    assert "blue-9" not in answer.text
    assert any(record.exc_info for record in caplog.records)


def test_what_is_shortened_goes_past_the_framework(trained, monkeypatch):
    asked, shorten = [], front.shorten

    def watched(made, handlers):
        framework = made.asgi_handler

        async def counting(scope, receive, send):
            asked.append(scope["path"])
            await framework(scope, receive, send)

        made.asgi_handler = counting
        shorten(made, handlers)

    monkeypatch.setattr(front, "shorten", watched)
    with TestClient(app.create(trained, read=lambda: serving.read(trained))) as client:
        for path in (LIST, "/v1/track", "/v1/batch", f"{LIST}/"):
            client.post(path, content=b"{}")
        client.get("/health/live")
    assert asked == [f"{LIST}/", "/health/live"]
