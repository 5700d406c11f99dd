"""A real server, started as a shop starts it, and a way to it on which the first answer to each client is lost."""

import http.client
import json
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler

import polars as pl
from expected import ALL, EXTRA, FIELDS

from habitue.core import workspace
from habitue.core.schemas import EVENTS, REFUSED
from habitue.protect import identities

SHIFT_S = 7_200.0  # the clients' clocks are two hours ahead
SOURCE = {"rudder": "segment", "batching": "segment"}
SERVE = [sys.executable, "-c", "from habitue.cli import main; main()", "serve", "--port", "0"]


class Server:
    """`habitue serve` on a fresh workspace."""

    def __init__(self, folder):
        self.shop = workspace.init(folder)
        self._process = subprocess.Popen([*SERVE, "-w", folder], stdout=subprocess.PIPE, text=True)
        self.address = self._process.stdout.readline().removeprefix("Listening on ").strip()

    def stop(self):
        """End it, so that everything is in the lake."""
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0


def stored(server, lost, began):
    """Stop the server; returns what it stored, and whose answers were lost."""
    server.stop()
    events, refused = (server.shop.lake.read(table) for table in (EVENTS, REFUSED))
    return {"events": events, "refused": refused, "lost": lost, "began": began, "shop": server.shop}


def key_of(sent, client):
    """The key of the user a client spoke for."""
    return identities.lookup(sent["shop"].identities, "user_id", f"user-{client}")


def of(sent, client):
    """The rows of the journey as a client's are stored, and when each event happened."""
    return journey_of(sent["events"], SOURCE.get(client, client), key_of(sent, client))


def in_order(rows):
    """Rows as the journey has them."""
    return sorted(rows, key=lambda row: (ALL.index(row["kind"]), row["item_id"] or ""))


def refused_people(sent):
    """Whose messages were refused."""
    return set(sent["refused"]["raw"].str.json_path_match("$.user_key").cast(pl.Int64))


class Losing(BaseHTTPRequestHandler):
    """Hand a request on; of the first with a body from each sender, the answer gets lost on the way."""

    def log_message(self, *_args):
        """Say nothing."""

    def do_POST(self):
        self._on("POST")

    def do_GET(self):
        self._on("GET")

    def do_OPTIONS(self):
        self._on("OPTIONS")

    def _on(self, method):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((method, self.path.partition("?")[0]))
        there = http.client.HTTPConnection(self.server.host, timeout=60)
        there.request(method, self.path, body, dict(self.headers))
        answer = there.getresponse()
        content = answer.read()
        there.close()
        sender = self.headers.get("User-Agent", "")
        if body and sender not in self.server.lost:
            self.server.lost.append(sender)
            self.close_connection = True
            self.connection.close()
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("server", "date"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def finish(self):
        try:
            super().finish()
        except (OSError, ValueError):
            pass  # the connection that was closed


def journey_of(events, source, user_key):
    """One person's stored rows as `expected.rows` writes them, in the journey's order."""
    mine = events.filter(source=source, user_key=user_key).sort("at", "event_id", "line")
    found = []
    for row in mine.to_dicts():
        extra = json.loads(row["extra"] or "{}")
        found.append({name: row[name] for name in FIELDS} | {name: extra.get(name) for name in EXTRA})
    return found, mine["at"].to_list()
