"""What real clients sent, byte for byte, and the lines it became when it was recorded: no later change may alter them.

`recorded/requests.json`: client, path and inflated body of every request of the journey (tests/clients), and the moment
it was received. `recorded/lines.ndjson`: the columns, then for each request its events as the log holds them with ids
in the place of the key, and what was refused. A line changes on purpose only: then run this file as a program.
"""

import datetime as dt
import json
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from habitue.collect import lines
from habitue.collect.entry import COLUMNS, Group, encoded
from habitue.collect.ids import keyed_one
from habitue.collect.wires import ga4, gorse, personalize, posthog, segment, snowplow
from habitue.collect.wires.body import OF_BODY, parsed

HERE = Path(__file__).parent / "recorded"
REQUESTS = json.loads((HERE / "requests.json").read_text(encoding="utf-8"))
WIRES = {
    "/v1/batch": segment,
    "/v1/b": segment,
    "/v1/t": segment,
    "/batch/": posthog,
    "/e/": posthog,
    "/com.snowplowanalytics.snowplow/tp2": snowplow,
    "/mp/collect": ga4,
    "/api/feedback": gorse,
    "/events": personalize,
}


def read(request):
    """The lines of one request: its group without keys, and who each event is about."""
    path, received = urlsplit(request["path"]).path, dt.datetime.fromisoformat(request["received"])
    wire = WIRES[path]
    body = request["body"].encode()
    if wire is segment:
        content = segment.content_of(body, several="batch" in parsed(body))
    else:
        content = posthog.content_of(body) if wire is posthog else parsed(body)
    if wire is segment and "batch" not in content:
        messages = segment.one(content, kind=path.rpartition("/")[2], received=received)
    else:
        take = {gorse: "feedback", personalize: "events"}.get(wire, "batch")
        messages = getattr(wire, take)(content, received=received)
    group, people = Group(), []
    for number, said in messages:
        if isinstance(said, str):
            group.refused.append((wire.SOURCE, number, said, "{}"))
        elif isinstance(said, dict):
            if said["event_id"].startswith(OF_BODY):
                said["event_id"] = keyed_one(said["event_id"], source=wire.SOURCE, secret=b"secret")
            found = lines.read(said, source=wire.SOURCE, received=received, currency="EUR")
            if isinstance(found, str):
                group.refused.append((wire.SOURCE, number, found, lines.refused(said, None)))
            else:
                group.events.append(found[0])
                people.append([found[1].user_id, found[1].anonymous_id])
    return group, people


def held():
    first, *others = (HERE / "lines.ndjson").read_text(encoding="utf-8").splitlines()
    assert tuple(json.loads(first)) == COLUMNS
    return [json.loads(line) for line in others]


@pytest.mark.parametrize("number", range(len(REQUESTS)), ids=[f"{r['client']} {r['path'][:12]}" for r in REQUESTS])
def test_a_recorded_request_becomes_the_same_bytes(number):
    group, people = read(REQUESTS[number])
    expected = held()[number]
    same = {"columns": COLUMNS, "events": expected["events"], "refused": expected["refused"]}
    same |= {"items": [], "users": [], "consents": [], "exposures": [], "signals": [], "media": []}
    assert encoded(group) == msgspec.msgpack.encode(same)
    assert people == expected["people"]


def test_every_client_said_something_that_was_kept():
    kept = {request["client"] for request, lines in zip(REQUESTS, held(), strict=True) if lines["events"]}
    assert kept == {request["client"] for request in REQUESTS} and len(kept) >= 13


if __name__ == "__main__":
    written = [json.dumps(COLUMNS)]
    for one in REQUESTS:
        found, about = read(one)
        rows = msgspec.msgpack.decode(encoded(found))
        kept = {"events": rows["events"], "refused": rows["refused"], "people": about}
        written.append(json.dumps(kept, ensure_ascii=False))
    (HERE / "lines.ndjson").write_text("\n".join(written) + "\n", encoding="utf-8")
