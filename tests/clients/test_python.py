"""The journey by every Python client a shop may have, against a real server; the first answer to each gets lost."""

import datetime as dt
import subprocess
import sys
from pathlib import Path

import expected
import pytest
from way import SHIFT_S, in_order, key_of, of, refused_people, stored

from habitue.protect import identities, people

pytestmark = pytest.mark.slow
CLIENTS = ("segment", "rudder", "posthog", "snowplow", "personalize", "ga4", "gorse")
RESENDS = {
    "segment": "analytics-python/2",
    "rudder": "analytics-python/2.1",
    "posthog": "posthog",
    "personalize": "Boto3",
}


@pytest.fixture(scope="module")
def sent(server, losing):
    """Let every client send; returns what the server stored."""
    address, lost = losing
    began = dt.datetime.now(dt.UTC)
    for client in CLIENTS:
        way = server.address if client in ("ga4", "gorse") else address
        command = [sys.executable, Path(__file__).parent / "send.py", client, way, f"user-{client}", str(SHIFT_S)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return stored(server, lost, began)


@pytest.mark.parametrize("client", CLIENTS)
def test_every_event_a_wire_can_say_is_stored_equal_on_every_field_it_carries(sent, client):
    rows, _ = of(sent, client)
    assert in_order(rows) == in_order(expected.rows(client))


@pytest.mark.parametrize("client", CLIENTS)
def test_the_clients_wrong_clock_is_corrected_where_it_says_when_it_sent(sent, client):
    _, moments = of(sent, client)
    last = sent["began"] - dt.timedelta(minutes=0 if client == "snowplow" else 10)
    ahead = (max(moments) - last).total_seconds()
    if client in expected.CORRECTED:
        assert -5 <= ahead <= 120
    else:
        assert SHIFT_S - 5 <= ahead <= SHIFT_S + 120


def test_an_answer_was_lost_and_what_was_sent_again_is_stored_once(sent):
    for sender in RESENDS.values():
        assert any(lost.startswith(sender) for lost in sent["lost"]), sender
    keys = sent["events"].group_by("event_id", "line").len()
    assert keys["len"].max() == 1


def test_one_event_that_cannot_be_accepted_is_refused_alone(sent):
    assert sent["refused"]["code"].unique().to_list() == ["bad_price"]
    assert refused_people(sent) == {key_of(sent, client) for client in expected.REFUSES}


@pytest.mark.parametrize("client", ["segment", "rudder", "snowplow", "ga4"])
def test_the_cookie_and_the_user_are_one_person(sent, client):
    path = sent["shop"].identities
    user = identities.lookup(path, "user_id", f"user-{client}")
    cookie = identities.lookup(path, "anonymous_id", f"user-{client}-cookie")
    assert user in people.keys_of(path, [cookie])
