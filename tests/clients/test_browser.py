"""The journey by the trackers of a page, in a real browser, from another origin; the first answer to each gets lost."""

import datetime as dt
import functools
import http.server
import re
import threading
import time
import urllib.request
from pathlib import Path

import chromium
import expected
import node
import pytest
from way import SHIFT_S, in_order, key_of, of, refused_people, stored

pytestmark = pytest.mark.slow
CLIENTS = {"segment": "segment", "batching": "segment", "snowplow": "snowplow", "posthog": "posthog"}  # their wires
PAGE = """<!doctype html><title>Mugs</title>
<script src="/node_modules/@segment/analytics-next/dist/umd/index.js"></script>
<script src="/node_modules/@snowplow/browser-tracker/dist/index.umd.js"></script>
<script src="/node_modules/@snowplow/browser-plugin-snowplow-ecommerce/dist/index.umd.js"></script>
<script type="module">
import posthog from "/node_modules/posthog-js/dist/module.js";
window.posthog = posthog;
</script>
<script src="/send_from_page.js"></script>"""
AHEAD = """{
  const Real = Date;
  globalThis.Date = class extends Real {
    constructor(...args) { super(...(args.length ? args : [Real.now() + SHIFT])); }
    static now() { return Real.now() + SHIFT; }
  };
}"""


class Pages(http.server.SimpleHTTPRequestHandler):
    """The page and the packages it loads."""

    def log_message(self, *_args):
        """Say nothing."""

    def do_GET(self):
        """Serve the page, what it sends with, or a file of a package."""
        here = {
            "/shop.html": PAGE.encode(),
            "/send_from_page.js": (Path(__file__).parent / "send_from_page.js").read_bytes(),
        }
        if self.path not in here:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if self.path.endswith("html") else "text/javascript")
        self.end_headers()
        self.wfile.write(here[self.path])


@pytest.fixture(scope="module")
def pages():
    """The address of the shop's own pages."""
    try:
        home = node.packages()
    except node.NoNode as why:
        pytest.skip(str(why))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Pages, directory=home))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


def new_events(server):
    """How many new events the server counts by now."""
    with urllib.request.urlopen(f"{server.address}/metrics", timeout=30) as answer:
        found = re.findall(r'habitue_events_received_total{[^}]*result="new"} (\d+)', answer.read().decode())
    return sum(int(count) for count in found)


@pytest.fixture(scope="module")
def sent(server, losing, pages):
    """Let every tracker send from a page of its own; returns what the server stored, and the pages' errors."""
    sync_api = pytest.importorskip("playwright.sync_api")
    try:
        found = chromium.find()
    except chromium.NoBrowser as why:
        pytest.skip(str(why))
    address, lost = losing
    began, errors, total = dt.datetime.now(dt.UTC), [], 0
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found.path, env=dict(found.env), args=list(found.args))
        for client, wire in CLIENTS.items():
            context = browser.new_context(user_agent=f"a page with {client}")
            context.add_init_script(AHEAD.replace("SHIFT", str(SHIFT_S * 1_000)))
            page = context.new_page()
            page.on("pageerror", lambda error, client=client: errors.append((client, str(error))))
            page.goto(f"{pages}/shop.html")
            page.wait_for_function("window.posthog && window.send")
            page.evaluate(
                "([client, address, who, journey]) => window.send[client](address, who, journey)",
                [client, address, f"user-{client}", expected.JOURNEY],
            )
            total += len(expected.SAYS[wire])
            until = time.monotonic() + 90
            while new_events(server) < total and time.monotonic() < until:
                page.wait_for_timeout(250)
            context.close()
        browser.close()
    return stored(server, lost, began) | {"errors": errors}


@pytest.mark.parametrize("client", CLIENTS)
def test_every_event_a_tracker_can_say_is_stored_equal_on_every_field_it_carries(sent, client):
    rows, _ = of(sent, client)
    assert in_order(rows) == in_order(expected.rows_of_page(CLIENTS[client]))


@pytest.mark.parametrize("client", CLIENTS)
def test_the_pages_wrong_clock_is_corrected(sent, client):
    _, moments = of(sent, client)
    last = sent["began"] - dt.timedelta(minutes=0 if client == "snowplow" else 10)
    assert -5 <= (max(moments) - last).total_seconds() <= 400


def test_an_answer_was_lost_to_each_and_what_was_sent_again_is_stored_once(sent):
    assert sorted(sent["lost"]) == sorted(f"a page with {client}" for client in CLIENTS)
    assert sent["events"].group_by("event_id", "line").len()["len"].max() == 1


def test_one_event_that_cannot_be_accepted_is_refused_alone(sent):
    assert sent["refused"]["code"].unique().to_list() == ["bad_price"]
    assert refused_people(sent) == {key_of(sent, client) for client in ("segment", "batching", "posthog")}


def test_the_pages_asked_as_browsers_do_and_met_no_error(sent, asked):
    paths = set(asked)
    assert sent["errors"] == []
    assert {("GET", "/v1/projects/wk/settings"), ("OPTIONS", "/v1/t"), ("POST", "/v1/t"), ("POST", "/v1/b")} <= paths
    assert {
        ("OPTIONS", "/com.snowplowanalytics.snowplow/tp2"),
        ("POST", "/com.snowplowanalytics.snowplow/tp2"),
    } <= paths
    assert ("POST", "/e/") in paths and any(path.startswith("/array/wk/config") for _, path in paths)
    assert any(path == "/flags/" for _, path in paths)
