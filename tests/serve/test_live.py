"""Live streams of a server that really runs: an answer at once, another after an event, bounded, ended in words."""

import datetime as dt
import http.client
import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from habitue.serve import keys, live
from habitue.serve.problems import Problem

HABITUE = [sys.executable, "-c", "from habitue.cli import main; main()"]
OPEN = []  # connections and answers, closed at the end


@contextmanager
def running(space):
    command = [*HABITUE, "serve", "-w", str(space.root), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline().rsplit(":", 1)[1])
        yield process, port
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        while OPEN:
            OPEN.pop().close()


def ask(port, method, path, body=None, **headers):
    there = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    OPEN.append(there)
    there.request(method, path, None if body is None else json.dumps(body), headers)
    answer = there.getresponse()
    OPEN.append(answer)
    return there, answer


def told(answer):
    """Read one event of a stream: its name and its data."""
    lines = []
    while (line := answer.readline().decode()) not in ("\n", ""):
        lines.append(line.rstrip("\n"))
    return lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))


def viewed(name, item, **who):
    said = {"type": "track", "event": "Product Viewed", "messageId": name, "properties": {"product_id": item}}
    return {**said, **who, "timestamp": dt.datetime.now(dt.UTC).isoformat()}


def test_write_keys_leave_places_to_secret_ones():
    streams = live.Streams(SimpleNamespace(listeners=[]))
    for number in range(live.MOST - live.KEPT):
        streams.admit(lambda: None, address=f"192.0.2.{number}")
    with pytest.raises(Problem, match="80 people listen already") as told:
        streams.admit(lambda: None, address="198.51.100.1")
    assert told.value.status == 503
    for _ in range(live.KEPT):
        streams.admit(lambda: None)
    with pytest.raises(Problem, match="100 people listen already"):
        streams.admit(lambda: None)


def test_an_address_with_a_write_key_has_a_few_streams_whomever_it_names():
    streams = live.Streams(SimpleNamespace(listeners=[]))
    opened = [streams.admit(lambda: None, address="192.0.2.1") for _ in range(live.EACH)]
    with pytest.raises(Problem, match="10 streams are open from this address") as told:
        streams.admit(lambda: None, address="192.0.2.1")
    assert told.value.status == 429 and told.value.headers() == {"Retry-After": "5"}
    streams.admit(lambda: None, address="192.0.2.2")
    streams._open.discard(opened[0])  # as when it ends
    streams.admit(lambda: None, address="192.0.2.1")


@pytest.mark.slow
def test_streams_follow_their_people_and_end_with_the_server(trained):
    write, secret = (keys.create(trained.state, kind)[1] for kind in ("write", "secret"))
    public, own = {"Authorization": f"Bearer {write}"}, {"Authorization": f"Bearer {secret}"}
    with running(trained) as (process, port):
        _, stream = ask(port, "GET", "/v1/live?anonymous_id=v1&n=3", **public)
        assert stream.status == 200 and stream.headers["content-type"].startswith("text/event-stream")
        name, body = told(stream)
        assert (name, body["fallback"], len(body["items"])) == ("recommendations", "popular", 3)
        _, foretold = ask(port, "GET", "/v1/live?user_id=u1&what=predictions", **own)
        assert told(foretold)[1]["stale"] is True

        batch = [viewed("a", "red-2", anonymousId="somebody else"), viewed("b", "blue-2", anonymousId="v1")]
        began = time.monotonic()
        assert ask(port, "POST", "/v1/batch", {"batch": batch, "writeKey": write})[1].status == 200
        name, body = told(stream)
        assert name == "recommendations" and body["fallback"] is None and time.monotonic() - began < 5
        batch = [viewed("c", "blue-3", userId="u1")]
        assert ask(port, "POST", "/v1/batch", {"batch": batch, "writeKey": write})[1].status == 200
        name, body = told(foretold)
        assert name == "predictions" and body["stale"] is False  # the shop has spoken

        for path, headers, status, code in (
            ("/v1/live?user_id=u1", public, 403, "not_allowed"),
            ("/v1/live?anonymous_id=v1&what=predictions", public, 403, "not_allowed"),
            ("/v1/live?user_id=nobody&what=predictions", own, 404, "unknown_user"),
            ("/v1/live?user_id=u1&what=all", own, 400, "bad_what"),
            ("/v1/live?user_id=u1&n=0", own, 400, "bad_n"),
        ):
            answer = ask(port, "GET", path, **headers)[1]
            assert (answer.status, json.loads(answer.read())["code"]) == (status, code)

        more = [ask(port, "GET", f"/v1/live?anonymous_id=v{n}&n=1", **public) for n in range(1, live.EACH)]
        assert {answer.status for _, answer in more} == {200}
        _, answer = ask(port, "GET", "/v1/live?anonymous_id=v", **public)  # a write key is anybody's
        assert (answer.status, json.loads(answer.read())["code"]) == (429, "too_many_streams")
        assert answer.headers["Retry-After"] == "5"
        more += [ask(port, "GET", "/v1/live?user_id=u1&n=1", **own) for _ in range(live.MOST - live.EACH - 1)]
        assert {answer.status for _, answer in more} == {200}
        _, answer = ask(port, "GET", "/v1/live?user_id=u1", **own)
        assert (answer.status, json.loads(answer.read())["code"]) == (503, "too_many_streams")
        assert f"habitue_live_streams {live.MOST}" in ask(port, "GET", "/metrics")[1].read().decode()
        gone, answer = more.pop()
        answer.close()
        gone.close()  # who hangs up makes room
        until = time.monotonic() + 10
        while (answer := ask(port, "GET", "/v1/live?user_id=u1", **own)[1]).status == 503:
            assert time.monotonic() < until
            time.sleep(0.1)

        process.send_signal(signal.SIGTERM)
        assert told(stream) == ("end", {}) and told(foretold) == ("end", {})
        assert process.wait(timeout=15) == 0
