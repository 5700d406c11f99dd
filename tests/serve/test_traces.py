"""Traces: a span for the request and one for each part of it, a parent that came, nobody's id; and the same of logs."""

import datetime as dt
import json
import logging
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from litestar.testing import TestClient

from habitue import serving
from habitue.core.errors import HabitueError, LakeError
from habitue.serve import app, experiments, keys, logs, traces
from habitue.serve.experiments import Arm, Experiment

WHO = "ann.smith@example.org"


@pytest.fixture
def spans():
    export = pytest.importorskip("opentelemetry.sdk.trace.export", reason="opentelemetry-sdk is not installed")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter = memory.InMemorySpanExporter()
    return exporter, traces.through(export.SimpleSpanProcessor(exporter))


def test_the_spans_of_requests(trained, spans):
    exporter, tracing = spans
    experiments.begin(trained.state, Experiment("aa", (Arm("a", 0.5), Arm("b", 0.5))))
    event = {"type": "track", "event": "Product Viewed", "userId": WHO, "properties": {"product_id": "red-1"}}
    event |= {"messageId": "m1", "timestamp": dt.datetime.now(dt.UTC).isoformat()}
    with TestClient(app.create(trained, read=lambda: serving.read(trained), tracing=tracing)) as client:
        assert client.post("/v1/batch", json={"batch": [event]}).status_code == 200
        parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        query = {"user_id": WHO, "placement": "session"}
        assert client.get("/v1/recommendations", params=query, headers=parent).status_code == 200
        assert client.get("/v1/users/somebody-else").status_code == 404
        found = exporter.get_finished_spans()
    by_name = {span.name: span for span in found}
    assert set(by_name) == {
        *("POST /v1/batch", "store", "GET /v1/recommendations", "rank", "expose", "GET /v1/users/{user_id}")
    }
    request, rank = by_name["GET /v1/recommendations"], by_name["rank"]
    assert format(request.context.trace_id, "032x") == "0af7651916cd43dd8448eb211c80319c"
    assert format(request.parent.span_id, "016x") == "b7ad6b7169203331"
    assert rank.parent.span_id == by_name["expose"].parent.span_id == request.context.span_id
    assert by_name["store"].parent.span_id == by_name["POST /v1/batch"].context.span_id
    assert dict(request.attributes) == {
        "http.route": "/v1/recommendations",
        "http.request.method": "GET",
        "http.response.status_code": 200,
    }
    assert dict(rank.attributes) == {"placement": "session", "model": "blend", "fallback": "none"}
    assert by_name["GET /v1/users/{user_id}"].attributes["http.response.status_code"] == 404
    whole = "".join(span.to_json() for span in found)
    assert WHO not in whole and "somebody-else" not in whole and "m1" not in whole


def test_off_by_default_and_without_a_cost():
    with traces.Traces().span("a", carried={"traceparent": "x"}) as span:
        assert span is None


def test_without_the_extra_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    with pytest.raises(HabitueError, match=r"habitue\[traces\]"):
        traces.sent_to("http://127.0.0.1:1")


def lines_of(error):
    record = logging.LogRecord("habitue.serve", logging.ERROR, "x.py", 1, "a request failed", (), None)
    try:
        raise error
    except Exception:
        record.exc_info = sys.exc_info()
    return json.loads(logs.Lines().format(record))


def test_a_mistake_is_logged_without_its_text():
    told = lines_of(KeyError(WHO))
    assert (told["error"], told["level"], told["message"]) == ("KeyError", "error", "a request failed")
    assert told["where"][-1].startswith("test_traces.py:") and "words" not in told and WHO not in json.dumps(told)
    told = lines_of(LakeError("inbox", found="the disk is full", consequence="-", remedy="-"))
    assert told["words"].startswith("inbox: the disk is full")


def test_what_a_library_puts_into_its_words_is_left_out():
    record = logging.LogRecord("psycopg", logging.WARNING, "x.py", 1, "no row for %s", (WHO,), None)
    assert json.loads(logs.Lines().format(record))["message"] == "no row for %s"


@pytest.mark.slow
def test_no_line_of_a_running_server_holds_anybody(trained):
    secret = keys.create(trained.state, "secret")[1]
    program = [sys.executable, "-c", "from habitue.cli import main; main()"]
    command = [*program, "serve", "-w", str(trained.root), "--port", "0", "--log"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().removeprefix("Listening on ").strip()
        event = {"type": "track", "event": "Product Viewed", "userId": WHO, "context": {"ip": "203.0.113.9"}}
        event |= {"messageId": "m1", "properties": {"product_id": "red-1", "email": WHO}}
        for path, body in (
            ("/v1/batch", {"batch": [event, {"type": "track", "userId": WHO, "event": WHO}], "writeKey": secret}),
            ("/v1/recommendations", {"user_id": WHO}),
            ("/v1/recommendations", {"user_id": WHO, "n": 0}),
            (f"/v1/recommendations?user_id={WHO}", None),
            (f"/v1/users/{WHO}", None),
            (f"/api/recommend/{WHO}", None),
            (f"/nothing/{WHO}?q={WHO}", None),
            (f"/v1/jobs/{WHO}", None),
            (f"/v1/predictions?user_id={WHO}&anonymous_id=203.0.113.9", None),
        ):
            request = urllib.request.Request(f"{address}{path}", None if body is None else json.dumps(body).encode())
            request.add_header("Authorization", f"Bearer {secret}")
            try:
                urllib.request.urlopen(request, timeout=20).close()
            except urllib.error.HTTPError as error:
                error.close()
        server.terminate()
        out, err = server.communicate(timeout=60)
    finally:
        server.kill()
        server.communicate()
    told = [json.loads(line) for line in out.splitlines()]
    assert [line["code"] for line in told] == [
        200,
        200,
        400,
        200,
        200,
        200,
        404,
        200,
    ]  # a path that is none has no line
    assert {tuple(line) for line in told} == {("route", "method", "code", "ms")}
    for private in (WHO, "ann.smith", "203.0.113.9", "m1", secret, "?"):
        assert private not in out + err
