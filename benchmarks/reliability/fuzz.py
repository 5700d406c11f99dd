"""R3: a coverage fuzzer on every parser of the wires: whatever bytes come, an event, a refusal or a BodyError, soon.

python benchmarks/reliability/fuzz.py --seconds 300 --out benchmarks/reliability

Each wire begins with good bodies. An input is a body that was changed, in its bytes or in its values; one that reaches
a step from line to line of `habitue.collect` that none has reached before is kept and changed further. Its way is the
server's without HTTP and disk: inflated, parsed, read by the wire, typed, packed for the log; and, where it reached
something new, out of the log into tables under the lake's contract. Failures, with the input that shows them:

* an exception that is no BodyError, which would have been a 500, or a record of the log that cannot be read again;
* the fast way to type a line (`lines._plain`) says otherwise than the careful one;
* an input that takes longer than LATEST_S of CPU, or the whole run more than MOST_MB of memory.
"""

from __future__ import annotations

import argparse
import copy
import datetime as dt
import gzip
import json
import os
import random
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import polars as pl

import habitue.collect
from habitue.collect import entry, lines, told
from habitue.collect.wires import ga4, gorse, personalize, posthog, segment, sensed, snowplow
from habitue.collect.wires.body import BodyError, Described, Introduction, Messages, Owned, an_object, inflated, parsed
from habitue.core import runtime
from habitue.core.schemas import EVENTS, METRICS
from habitue.evaluate import bench

NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
SECRET = bytes(32)
LATEST_S = 1.0
MOST_MB = 300.0  # more than before
OURS = os.fspath(Path(habitue.collect.__file__).parent)
MOMENT = "2026-05-01T11:59:00Z"
PRODUCT = {"product_id": "A", "name": "Mug", "price": 2.5, "quantity": 2, "position": 1, "category": "Home > Kitchen"}
ORDER = {"order_id": "o1", "currency": "EUR", "products": [PRODUCT, {"product_id": "B", "price": "3"}], "coupon": "X"}
ABOUT = {"page": {"path": "/p"}, "consent": {"categoryPreferences": {"analytics": True}}, "location": {"country": "DE"}}
TRACK = {"type": "track", "event": "Order Completed", "messageId": "m1", "userId": "u1", "anonymousId": "a1"}
TRACK |= {"timestamp": MOMENT, "sentAt": MOMENT, "context": ABOUT, "properties": ORDER}
HELLO = {"type": "identify", "messageId": "i1", "userId": "u1", "traits": {"plan": "gold"}, "timestamp": MOMENT}
SHOP = "iglu:com.snowplowanalytics.snowplow.ecommerce/"
ACTION = {"schema": f"{SHOP}snowplow_ecommerce_action/jsonschema/1-0-2", "data": {"type": "transaction"}}
ENTITY = {"schema": f"{SHOP}product/jsonschema/1-0-0", "data": {"id": "A", "currency": "EUR", "price": 2.5}}
PLOW = {"e": "ue", "eid": "e1", "duid": "a1", "uid": "u1", "dtm": "1777636740000", "stm": "1777636745000"}
PLOW |= {"ue_pr": json.dumps({"data": ACTION}), "co": json.dumps({"data": [ENTITY]}), "url": "https://x/p?q=1"}
PING = {"e": "pp", "eid": "e2", "duid": "a1", "pp_miy": "10", "pp_may": "90", "dh": "100", "vp": "9x9"}
GIVEN = {
    "id": "A",
    "item_id": "A",
    "item_name": "Mug",
    "item_category": "Home",
    "price": 2.5,
    "quantity": 1,
    "index": 1,
}
CAPTURED = {"event": "Order Completed", "distinct_id": "u1", "uuid": "p1", "timestamp": MOMENT, "properties": ORDER}
BOUGHT = {"eventType": "Order Completed", "itemId": "A", "sentAt": 1_777_636_740, "eventId": "x", "impression": ["B"]}
BOUGHT |= {"properties": json.dumps(ORDER | {"product_id": "A"}), "recommendationId": "r1"}
LIKED = {"FeedbackType": "read", "UserId": "u1", "ItemId": "A", "Timestamp": MOMENT, "Value": 1.0}
ITEM = {"ItemId": "A", "Categories": ["Home"], "Labels": {"price": 2}, "Timestamp": MOMENT, "Comment": "Mug"}
PULSE = {"signal": "heart_rate", "at": MOMENT, "value": 72, "unit": "1/min", "id": "1"}

ODD: list[Any] = [None, True, False, 0, -1, 1.5, -0.0, 2**31, 2**63, -(2**63) - 1, 10**400, 1e308, -1e-320]
ODD += [
    "",
    " ",
    "\u0000",
    "\ud800",
    "é" * 300,
    "x" * 9_000,
    "1e5",
    "1,5",
    "NaN",
    "-inf",
    "0x10",
    "١٢",
    "=1+1",
    "$pageview",
]
ODD += ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-02-30", "2026-05-01T11:59:00+99:00", "1777636740", MOMENT]
ODD += [
    [],
    {},
    [[]],
    {"a": {"b": [1]}},
    [None],
    {"": ""},
    ["A", 1],
    "track",
    "page",
    "Product Viewed",
    "jane@shop.example",
]
ODD += [dt.datetime.max.year, 253_402_300_800, -62_135_596_801, 1e18, 4_111_111_111_111_111, "4111 1111 1111 1111"]
TOKENS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"\\",
    b"\\ud800",
    b"\x00",
    b"\xff",
    b"\x1f\x8b",
    b"1e999",
    b"-",
    b"null",
]


def _one(kind: str) -> Callable[[bytes], Messages]:
    return lambda body: segment.one(segment.content_of(body, several=False), kind=kind, received=NOW)


def _object(read: Callable[..., Messages], **more: Any) -> Callable[[bytes], Messages]:
    return lambda body: read(an_object(parsed(body)), received=NOW, **more)


def _pixel(body: bytes) -> Messages:
    said = an_object(parsed(body))
    return snowplow.pixel({str(k): v for k, v in said.items() if isinstance(v, str)}, received=NOW)


WIRES: dict[str, tuple[Callable[[bytes], Messages], list[Any]]] = {  # how a body is read, good bodies
    "segment, one": (_one("track"), [TRACK, TRACK | {"event": "Products Searched", "properties": {"query": "mug"}}]),
    "segment, page": (_one("p"), [TRACK | {"name": "Home", "properties": {"title": "T", "url": "https://x"}}]),
    "segment, identify": (_one("identify"), [HELLO, HELLO | {"previousId": "a1", "type": "alias"}]),
    "segment, batch": (
        lambda body: segment.batch(segment.content_of(body, several=True), received=NOW),
        [{"batch": [TRACK, HELLO, TRACK | {"event": "Product Viewed", "properties": PRODUCT}], "sentAt": MOMENT}],
    ),
    "snowplow": (_object(snowplow.batch), [{"schema": "payload_data", "data": [PLOW, PING, PLOW | {"e": "pv"}]}]),
    "snowplow, pixel": (_pixel, [PLOW, PING]),
    "ga4": (
        _object(ga4.batch),
        [
            {
                "client_id": "a1",
                "user_id": "u1",
                "timestamp_micros": 1_777_636_740_000_000,
                "events": [
                    {"name": "purchase", "params": {"transaction_id": "o1", "value": 5, "items": [GIVEN, GIVEN]}},
                    {"name": "view_promotion", "params": {"promotion_id": "p", "items": []}},
                ],
            }
        ],
    ),
    "posthog": (
        lambda body: posthog.batch(posthog.content_of(body), received=NOW),
        [{"api_key": "k", "batch": [CAPTURED], "sent_at": MOMENT}, [CAPTURED], CAPTURED | {"event": "$identify"}],
    ),
    "gorse, feedback": (lambda body: gorse.feedback(parsed(body), received=NOW), [[LIKED, LIKED], LIKED]),
    "gorse, items": (lambda body: gorse.items(parsed(body), received=NOW), [[ITEM], ITEM]),
    "gorse, users": (lambda body: gorse.users(parsed(body), received=NOW), [[{"UserId": "u", "Labels": {"a": 1}}]]),
    "personalize": (_object(personalize.events), [{"sessionId": "s", "userId": "u1", "eventList": [BOUGHT]}]),
    "personalize, items": (_object(personalize.items), [{"items": [{"itemId": "A", "properties": '{"price": 1}'}]}]),
    "personalize, users": (_object(personalize.users), [{"users": [{"userId": "u", "properties": '{"a": 1}'}]}]),
    "signals": (_object(sensed.signals, secret=SECRET), [{"user_id": "u1", "sent_at": MOMENT, "signals": [PULSE]}]),
}


@dataclass
class Corpus:
    """The inputs of one wire that reached something new; of JSON, also as values."""

    bodies: list[bytes] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def keep(self, body: bytes) -> None:
        """Keep an input."""
        self.bodies.append(body)
        try:
            self.values.append(json.loads(inflated(body, limit=5 * 2**20)))
        except (BodyError, ValueError, RecursionError):
            return

    def changed(self, dice: random.Random) -> bytes:
        """Return an input that is one to four changes away from one that is kept."""
        if dice.random() < 0.7 and self.values:
            value = copy.deepcopy(dice.choice(self.values[-200:] if dice.random() < 0.5 else self.values))
            for _ in range(dice.randint(1, 4)):
                value = _other_value(value, self.values, dice)
            body = json.dumps(value).encode()  # what JSON may hold, NaN and half letters too
        else:
            body = dice.choice(self.bodies)
            for _ in range(dice.randint(1, 4)):
                body = _other_bytes(body, self.bodies, dice)
        return (
            gzip.compress(body, 1, mtime=0)[: dice.choice([-1, -9, None, None, None])] if dice.random() < 0.03 else body
        )


def _other_bytes(body: bytes, others: list[bytes], dice: random.Random) -> bytes:
    """Cut, overwrite, double, fill or join."""
    at, end = sorted((dice.randint(0, len(body)), dice.randint(0, len(body))))
    ways = [
        lambda: body[:at] + body[end:],
        lambda: body[:at] + bytes([dice.randrange(256)]) + body[at + 1 :],
        lambda: body[:at] + dice.choice(TOKENS) + body[at:],
        lambda: body[:at] + body[at:end][:2_000] * 2 + body[end:],
        lambda: body[:at] + dice.choice(others)[at:],
    ]
    return dice.choice(ways)()


def _other_value(value: Any, others: list[Any], dice: random.Random) -> Any:
    """Change one place of a JSON value, or of the JSON within one of its texts."""
    places = list(_places(value))
    if not places:
        return copy.deepcopy(dice.choice(ODD))
    holder, key = dice.choice(places)
    roll, donors = dice.random(), list(_places(dice.choice(others)))
    if isinstance(holder[key], str) and holder[key][:1] in ("{", "[") and roll < 0.5:
        try:
            holder[key] = json.dumps(_other_value(json.loads(holder[key]), others, dice))
        except (ValueError, RecursionError):
            holder[key] = dice.choice(ODD)
    elif roll < 0.55:
        holder[key] = copy.deepcopy(dice.choice(ODD))
    elif roll < 0.7 and donors:
        other, name = dice.choice(donors)
        holder[key] = copy.deepcopy(other[name])
    elif roll < 0.85 and isinstance(holder, dict):
        kept = holder.pop(key)
        if dice.random() < 0.5 and donors:
            holder[str(dice.choice(donors)[1])] = kept
    elif isinstance(holder, list):
        holder.extend(copy.deepcopy(holder[:50]))
    return value


def _places(value: Any, depth: int = 0) -> Iterable[tuple[Any, Any]]:
    """Yield every place of a value as its holder and its key there."""
    if depth > 12 or not isinstance(value, dict | list):
        return
    for key in list(value) if isinstance(value, dict) else range(min(len(value), 60)):
        yield value, key
        yield from _places(value[key], depth + 1)


def taken(read: Callable[[bytes], Messages], body: bytes) -> entry.Group:
    """Do with a body what the receiver does, without people, log and disk."""
    group = entry.Group()
    for number, said in read(inflated(body, limit=5 * 2**20)):
        if isinstance(said, str):
            if said != "no_event":
                group.refused.append(("fuzz", number, said, lines.refused({}, None)))
        elif isinstance(said, Described):
            row = told.item(said, source="fuzz", received=NOW, currency="EUR")
            group.items += [] if isinstance(row, str) else [row]
        elif isinstance(said, Introduction):
            attributes, at = told.attributes(said.attributes), lines.moment(said.at)
            group.users += [] if attributes is None or at is None else [(1, at, attributes, "fuzz")]
            group.consents += [(1, name, yes, NOW, "fuzz") for name, yes in told.consents(said.consent)]
        elif isinstance(said, Owned):
            group.signals.append({**said.row, "user_key": 1, "source": "fuzz"})
        else:
            _typed(group, number, said)
    return group


def _typed(group: entry.Group, number: int, said: dict[str, Any]) -> None:
    careful = lines._careful(said, "fuzz", NOW, "EUR")
    plain = lines._plain(said, "fuzz", NOW, "EUR")
    assert plain is None or repr(plain) == repr(careful), f"the fast way says {plain!r}, the careful one {careful!r}"
    if isinstance(careful, str):
        group.refused.append(("fuzz", number, careful, lines.refused(said, 1)))
    else:
        event, person = careful
        assert person != (None, None) or event["order_id"] is not None
        group.events.append(event | {"user_key": 1})


class Ways:
    """The steps from line to line of our code that an input took, and all that any input took before."""

    def __init__(self) -> None:
        self.met: set[tuple[CodeType, int, int]] = set()
        self._new = False

    def of(self, run: Callable[[], None]) -> bool:
        """Run; returns whether a step was new."""
        self._new = False
        sys.settrace(self._called)
        try:
            run()
        finally:
            sys.settrace(None)
        return self._new

    def _called(self, frame: FrameType, _event: str, _arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        code, before = frame.f_code, 0

        def line(inner: FrameType, event: str, _arg: object) -> Any:
            nonlocal before
            if event == "line":
                step = (code, before, inner.f_lineno)
                before = inner.f_lineno
                if step not in self.met:
                    self.met.add(step)
                    self._new = True
            return line

        return line


def fuzzed(seconds: float, seed: int) -> tuple[dict[str, float], list[tuple[str, str, bytes]]]:
    """Let every wire have its share of the CPU-seconds; returns counts, and (wire, what it says, input) that fail."""
    dice, ways, found = random.Random(seed), Ways(), Counter[str]()
    failures: dict[str, tuple[str, str, bytes]] = {}
    before, slowest = runtime.peak_mb(), 0.0
    for wire, (read, good) in WIRES.items():
        corpus = Corpus()
        waiting = [json.dumps(body).encode() for body in good]
        until = time.process_time() + seconds / len(WIRES)
        while waiting or time.process_time() < until:
            first = bool(waiting)
            body = waiting.pop() if first else corpus.changed(dice)
            began, group = time.process_time(), entry.Group()

            def run(body: bytes = body, read: Callable[[bytes], Messages] = read) -> None:
                nonlocal group
                group = taken(read, body)
                entry.encoded(group)

            try:
                new = ways.of(run)
                if new:
                    EVENTS.shape(entry.tables([entry.encoded(group)])["events"].with_columns(import_id=pl.lit("x")))
                found["events"] += len(group.events)
                found["lines refused"] += len(group.refused)
            except BodyError as error:
                new = ways._new
                found["bodies refused"] += 1
                assert error.status == 400
            except Exception as error:
                new = False
                place = traceback.extract_tb(error.__traceback__)[-1]
                failures.setdefault(
                    f"{wire} {type(error).__name__} {place.filename}:{place.lineno}", (wire, repr(error), body)
                )
            if new or first:
                corpus.keep(body)
            took = time.process_time() - began
            slowest = max(slowest, took)
            if took > LATEST_S:
                failures.setdefault(f"{wire} slow", (wire, f"{took:.1f} seconds of CPU", body))
            found["inputs"] += 1
        found["inputs kept"] += len(corpus.bodies)
    grown = runtime.peak_mb() - before
    if grown > MOST_MB:
        failures["memory"] = ("all", f"{grown:,.0f} MB more than before", b"")
    counts = {
        name: float(found[name]) for name in ("inputs", "inputs kept", "events", "lines refused", "bodies refused")
    }
    counts |= {"wires": float(len(WIRES)), "steps from line to line": float(len(ways.met))}
    counts |= {"slowest input, ms": 1e3 * slowest, "memory, MB more": grown, "kinds of failure": float(len(failures))}
    return counts, list(failures.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="of CPU, for all wires together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for none-r3-fuzz.json")
    args = parser.parse_args()
    counts, failures = fuzzed(args.seconds, args.seed)
    for name, count in counts.items():
        print(f"{name:<28} {count:>12,.0f}")
    for wire, words, body in failures:
        print(f"{wire}: {words[:600]}\n    {body[:600]!r}")
    if args.out is not None:
        same = {
            "dataset": "none",
            "protocol": "R3 fuzz",
            "model": "habitue.collect",
            "modalities": [],
            "slice": "wires",
        }
        rows = [same | {"metric": name, "mean": count} for name, count in counts.items()]
        head = ["git", "rev-parse", "HEAD"]
        commit = subprocess.run(head, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        frame = pl.DataFrame(rows).with_columns(n=int(counts["inputs"]), seeds=1, cpu_s=args.seconds)
        bench.write(METRICS.shape(frame), args.out, commit=commit.stdout.strip())
    sys.exit(int(bool(failures)))


if __name__ == "__main__":
    main()
