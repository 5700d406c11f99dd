"""The journey by the clients of Node, as `test_python` has it for Python's."""

import datetime as dt
import subprocess
from pathlib import Path

import expected
import node
import pytest
from way import SHIFT_S, in_order, key_of, of, refused_people, stored

pytestmark = pytest.mark.slow
CLIENTS = ("segment", "rudder", "posthog", "snowplow", "personalize", "gorse")


@pytest.fixture(scope="module")
def sent(server, losing):
    """Let every client send; returns what the server stored."""
    try:
        home = node.packages()
    except node.NoNode as why:
        pytest.skip(str(why))
    address, lost = losing
    began = dt.datetime.now(dt.UTC)
    script = Path(__file__).parent / "send.mjs"
    for client in CLIENTS:
        way = server.address if client == "gorse" else address
        command = ["node", script, client, way, f"user-{client}", str(SHIFT_S)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=home)
        assert (done.returncode, done.stdout) == (0, ""), (client, done.stdout, done.stderr)
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
    shift = 0 if client in expected.CORRECTED else SHIFT_S
    assert shift - 5 <= ahead <= shift + 240


def test_what_was_sent_again_after_a_lost_answer_is_stored_once(sent):
    assert len(sent["lost"]) >= 3
    assert sent["events"].group_by("event_id", "line").len()["len"].max() == 1


def test_one_event_that_cannot_be_accepted_is_refused_alone(sent):
    assert sent["refused"]["code"].unique().to_list() == ["bad_price"]
    assert refused_people(sent) == {key_of(sent, client) for client in expected.REFUSES}
