"""What somebody may send to a server in the open: each gets its code and a sentence, and nobody else waits."""

import contextlib
import gzip
import json
import signal
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from habitue.core import workspace
from habitue.core.schemas import EVENTS, REFUSED

SERVE = """
import sys
from habitue.cli import main
from habitue.serve import fields, running
running.HEADERS_S = fields.SLOWEST_S = 1.0
sys.argv = ["habitue", "serve", "-w", sys.argv[1], "--port", "0"]
main()
"""
ASKED = [  # with a body
    *(b"/v1/recommendations", b"/v1/predictions", b"/v1/tokens", b"/v1/jobs"),
    *(b"/api/session/recommend", b"/recommendations", b"/personalize-ranking"),
]
GOOD = {"type": "track", "event": "Product Viewed", "anonymousId": "a1", "properties": {"product_id": "A"}}


class Server:
    def __init__(self, folder):
        self.shop = workspace.init(folder)
        self.start()

    def start(self):
        command = [sys.executable, "-c", SERVE, self.shop.root]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().rpartition(":")[2])

    def open(self):
        there = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        there.settimeout(30)
        return there

    def say(self, head, body=b"", *, half=False):
        """Send raw bytes; returns the status and the JSON of the answer, or None when the connection just ended."""
        with self.open() as there:
            there.sendall(head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body)
            if half:
                there.shutdown(socket.SHUT_WR)
            return heard(there)

    def post(self, path, body, *more):
        head = b"\n".join(
            [b"POST %s HTTP/1.1" % path.encode(), b"Host: localhost", b"Content-Length: %d" % len(body), *more]
        )
        return self.say(head, body)

    def memory_mb(self):
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1_024 for line in lines if line.startswith("VmRSS"))


def heard(there):
    answer = b""
    while True:
        try:
            more = there.recv(65_536)
        except ConnectionResetError:
            more = b""
        answer += more
        head, blank, body = answer.partition(b"\r\n\r\n")
        if blank:
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            if len(body) >= int(fields.get(b"content-length", 0)):
                status = int(head.split()[1])
                return status, json.loads(body) if body.startswith(b"{") else body
        if not more:
            return None


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("hostile") / "shop")
    yield server
    server.process.kill()
    server.process.communicate()


@pytest.fixture(autouse=True)
def goes_on(server):
    """After whatever a test did, the next shopper is served."""
    yield
    assert server.post("/v1/track", json.dumps(GOOD).encode()) == (200, {"success": True})


def test_a_body_that_stops_half_way_is_not_taken(server):
    head = b"POST /v1/track HTTP/1.1\nHost: localhost\nContent-Length: 500"
    assert server.say(head, json.dumps(GOOD).encode(), half=True) is None
    chunked = b"POST /v1/track HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked"
    assert server.say(chunked, b'5\r\n{"eve\r\n', half=True) is None


def test_a_body_that_does_not_come_is_a_408(server):
    head = b"POST /v1/track HTTP/1.1\nHost: localhost\nContent-Length: 500"
    began = time.monotonic()
    status, said = server.say(head, b'{"event": ')
    assert (status, said["code"]) == (408, "too_slow")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("path", ASKED)
def test_a_question_that_stops_half_way_is_let_go(server, path, half):
    before = server.say(b"GET /metrics HTTP/1.1\nHost: localhost")[1].count(b'code="500"')
    answer = server.say(b"POST %s HTTP/1.1\nHost: localhost\nContent-Length: 100" % path, b'{"user_id"', half=half)
    assert answer is None if half else (answer[0], answer[1]["code"]) == (408, "too_slow")
    assert server.say(b"GET /metrics HTTP/1.1\nHost: localhost")[1].count(b'code="500"') == before


@pytest.mark.parametrize("start", [b"", b"POST /v1/tr", b"POST /v1/track HTTP/1.1\r\nHost: localhost\r\nX-A: "])
def test_a_head_that_never_ends_is_closed(server, start):
    with server.open() as there:
        there.sendall(start)
        began = time.monotonic()
        assert heard(there) is None
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ", b"GET / HTTP/1.1\r\n"])
def test_a_head_without_end_is_a_431_and_is_not_kept(server, start):
    before = server.memory_mb()
    more = b"X-A: b\r\n" * 8_000 if start.endswith(b"\r\n") else b"a" * 64_000
    with server.open() as there:
        there.sendall(start)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(2_000):  # 128 MB
                there.sendall(more)
        status, said = heard(there)
    assert (status, said["code"]) == (431, "too_large")
    assert server.memory_mb() < before + 20
    assert server.say(b"GET /health/live HTTP/1.1\nHost: localhost\nX-A: " + b"a" * 100_000)[0] == 200
    status, said = server.say(b"GET /health/live HTTP/1.1\nHost: localhost\nX-A: " + b"a" * 400_000, half=True)
    assert (status, said["code"]) == (431, "too_large")


def test_what_is_no_http_is_told_so_in_json(server):
    for head in (b"HELLO", b"GET /health/live?a=" + b"a" * 70_000 + b" HTTP/1.1\nHost: localhost"):
        status, said = server.say(head)
        assert (status, said["code"], said["success"]) == (400, "no_http", False)


def test_a_hundred_slow_connections_keep_nobody_waiting(server):
    slow = [server.open() for _ in range(100)]
    try:
        for there in slow:
            there.sendall(b"POST /v1/track HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        began = time.monotonic()
        assert server.post("/v1/track", json.dumps(GOOD).encode())[0] == 200
        assert time.monotonic() - began < 5
    finally:
        for there in slow:
            there.close()


def test_bombs_cost_no_memory(server):
    bomb = gzip.compress(b"[" + b"0," * 100_000_000, compresslevel=1, mtime=0)
    nested = gzip.compress(gzip.compress(b" " * 50_000_000), mtime=0)
    server.post("/v1/batch", b"{}")
    before = server.memory_mb()
    for path in ("/v1/batch", "/batch/", "/v1/track", "/mp/collect", "/events", "/v1/signals", "/v1/media"):
        status, said = server.post(path, bomb[:5_000_000])
        assert status == 400 and said["code"] in ("too_large", "unauthorized"), path
        assert server.post(path, nested)[0] == 400
    assert server.memory_mb() - before < 100
    raw = zlib.compress(b" " * 10_000_000)
    assert server.post("/v1/batch", raw, b"Content-Encoding: deflate")[1]["code"] == "invalid_json"


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/track", "/v1/batch", "/batch/", "/e/", "/api/feedback", "/events", "/mp/collect"),
        *("/v1/signals", "/v1/media"),
    ],
)
def test_json_nested_a_thousand_deep_is_refused(server, path):
    status, said = server.post(path, b'{"a":' * 1_000 + b"1" + b"}" * 1_000)
    assert (status, said["code"]) == (400, "too_deep")


def test_ten_thousand_properties_are_read_and_those_nobody_knows_left_out(server):
    many = {f"p{n}": "x" for n in range(10_000)}
    body = json.dumps({"batch": [GOOD | {"messageId": "many", "properties": many | {"product_id": "A"}}]}).encode()
    assert server.post("/v1/batch", body) == (200, {"success": True})
    assert server.post("/v1/track", json.dumps(GOOD | {"properties": many}).encode())[1]["code"] == "too_large"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"messageId": "x" * 1_000_000}, "too_long"),
        ({"timestamp": "0001-01-01T00:00:00Z"}, "far_time"),
        ({"timestamp": "9999-12-31T23:59:59Z"}, "far_time"),
        ({"timestamp": "-2026-05-01T11:59:00Z"}, "bad_time"),  # ISO 8601 has years before 0
        ({"timestamp": "+12026-05-01T11:59:00Z"}, "bad_time"),
        ({"originalTimestamp": "9999-12-31T23:59:59Z", "sentAt": "0001-01-01T00:00:00Z"}, "far_time"),
        ({"properties": {"product_id": "A" * 10_000}}, "too_long"),
        ({"properties": {"price": 10**400}}, "bad_price"),
        ({"properties": {"product_id": 10**4_000}}, "too_long"),
        ({"userId": ["x"] * 1_000}, "too_long"),
        ({"event": {"a": 1} | {"b": "x" * 300}}, "missing_kind"),
        ({"event": "\u0000"}, None),
        ({"context": [], "properties": 3, "integrations": "x"}, None),
    ],
)
def test_an_odd_event_is_refused_alone_and_its_neighbours_are_stored(server, more, code):
    batch = [GOOD | {"messageId": f"before {more!r}"[:90]}, GOOD | more, GOOD]
    assert server.post("/v1/batch", json.dumps({"batch": batch}).encode()) == (200, {"success": True})
    server.expected = [*getattr(server, "expected", []), code]


@pytest.mark.parametrize("label", [b"application/xml", b"multipart/form-data", b"image/png; a=b", b"\xff"])
def test_an_unknown_content_type_changes_nothing(server, label):
    body = json.dumps(GOOD).encode()
    assert server.post("/v1/track", body, b"Content-Type: " + label)[0] == 200
    assert server.post("/v1/track", b"<xml/>", b"Content-Type: " + label)[1]["code"] == "invalid_json"


@pytest.mark.parametrize("head", [b"GARBAGE", b"POST /v1/track HTTP/1.1\nContent-Length: -5", b"\x16\x03\x01\x02\x00"])
def test_what_is_no_http_is_refused(server, head):
    answer = server.say(head + b"\nHost: localhost")
    assert answer is None or answer[0] == 400


def test_path_tricks_lead_nowhere(server):
    for path in ("/../../etc/passwd", "/v1/%2e%2e/x", "/array/../../x/config", "//etc/passwd", "/habitue.js/../keys"):
        head = b"GET %s HTTP/1.1\nHost: localhost" % path.encode()
        assert server.say(head)[0] in (400, 404, 405), path


def test_in_the_end_everything_good_is_stored_and_everything_bad_is_told(server):
    server.process.send_signal(signal.SIGTERM)
    out, errors = server.process.communicate(timeout=60)
    assert server.process.returncode == 0 and "Traceback" not in errors
    codes = sorted(code for code in server.expected if code)
    refused = server.shop.lake.read(REFUSED)
    assert sorted(refused["code"]) == codes
    assert refused["raw"].str.len_chars().max() < 5_000
    assert server.shop.lake.read(EVENTS).filter(event_id="many").height == 1
    server.start()
