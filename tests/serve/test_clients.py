"""Other people's recommender clients, as they are on the shelf, against a server that really runs."""

import datetime as dt
import json
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import node
import pytest

from habitue.serve import keys

COMMAND = [sys.executable, "-c", "from habitue.cli import main; main()", "serve", "--port", "0", "--log"]


@pytest.fixture
def server(trained):
    """Start `habitue serve` on a trained workspace; gives its address, a secret key, a write key, what it printed."""
    secret, write = (keys.create(trained.state, kind)[1] for kind in ("secret", "write"))
    process = subprocess.Popen(
        [*COMMAND, "-w", trained.root], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        address = process.stdout.readline().removeprefix("Listening on ").strip()
        if not address:
            raise AssertionError(process.stderr.read())
        printed = []
        reader = threading.Thread(target=lambda: printed.extend(process.stdout), daemon=True)
        reader.start()
        yield address, secret, write, printed
        process.terminate()
        reader.join(60)
        errors = process.stderr.read()
        assert process.wait(60) == 0, errors
        assert "Traceback" not in errors
    finally:
        process.kill()
        process.stdout.close()
        process.stderr.close()


def get(address, path, key, **query):
    url = f"{address}{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"X-API-Key": key}), timeout=60) as answer:
        return json.loads(answer.read())


def track(address, key, event, properties, **who):
    """Send one event as Segment's clients do."""
    body = {"event": event, "properties": properties, "writeKey": key, "messageId": f"m{time.time_ns()}", **who}
    body["timestamp"] = dt.datetime.now(dt.UTC).isoformat()
    request = urllib.request.Request(f"{address}/v1/track", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.loads(answer.read()) == {"success": True}


def boto(address, secret):
    boto3 = pytest.importorskip("boto3")
    return boto3.client(
        "personalize-runtime",
        endpoint_url=address,
        region_name="eu-west-1",
        aws_access_key_id=secret,
        aws_secret_access_key="-",
    )


ARN = "arn:aws:personalize:eu-west-1:1:recommender/"


@pytest.mark.slow
def test_events_change_the_next_answer_and_the_clients_work_unchanged(server):
    address, secret, write, printed = server
    gorse = pytest.importorskip("gorse").Gorse(address, secret)

    # who has done nothing gets what everyone buys; one visit to blue products changes that at once
    session = {"placement": "session", "anonymous_id": "v1", "n": 5}
    assert get(address, "/v1/recommendations", write, **session)["fallback"] == "popular"
    for item in ("blue-1", "blue-2", "blue-4"):
        track(address, write, "Product Viewed", {"product_id": item}, anonymousId="v1")
    answer = get(address, "/v1/recommendations", write, **session)
    assert answer["fallback"] is None

    # who logs in is the same person
    track(address, write, "Product Viewed", {"product_id": "blue-5"}, anonymousId="v1", userId="new")
    assert [one["item_ids"] for one in get(address, "/v1/users/new", secret)["timeline"]][::-1] == [
        ["blue-1"],
        ["blue-2"],
        ["blue-4"],
        ["blue-5"],
    ]

    # PyGorse: a slash stands before its question mark
    found = gorse.get_recommend("u1", n=4)
    assert len(found) == 4 and all(one.id.startswith("blue-") for one in found)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert [one.id for one in gorse.get_recommend("u1", n=2, offset=2)] == [one.id for one in found[2:]]
    assert {one.id[-1] for one in gorse.get_recommend("u1", category="Table", n=20)} >= {"0", "9"}
    with urllib.request.urlopen(
        urllib.request.Request(f"{address}/api/recommend/u1?n=3", headers={"X-API-Key": secret}), timeout=60
    ) as plain:
        assert json.loads(plain.read()) == [one.id for one in found[:3]]
    with urllib.request.urlopen(
        urllib.request.Request(f"{address}/api/collaborative-filtering/u1?n=3", headers={"X-API-Key": secret}),
        timeout=60,
    ) as plain:
        assert [one["Id"] for one in json.loads(plain.read())] == [one.id for one in found[:3]]
    near = gorse.get_neighbors("red-1", n=3)
    assert len(near) == 3 and "red-1" not in [one["Id"] for one in near]
    assert [one["Id"][:4] for one in gorse.session_recommend([{"ItemId": "red-1"}, {"ItemId": "red-2"}], n=2)] == [
        "red-"
    ] * 2
    assert gorse.get_item("red-1")["Categories"] == ["Table", "Bowls"]
    items, cursor = gorse.get_items(15)
    assert len(items) == 15 and len(gorse.get_items(15, cursor)[0]) == 5
    assert gorse.get_user("u1")["UserId"] == "u1"
    with pytest.raises(Exception) as caught:
        gorse.get_item("nope")
    assert caught.value.status_code == 404

    # boto3
    client = boto(address, secret)
    answer = client.get_recommendations(recommenderArn=ARN + "home", userId="u1", numResults=4)
    assert [one["itemId"] for one in answer["itemList"]] == [one.id for one in found]
    assert re.fullmatch("[0-9a-f]{32}", answer["recommendationId"])
    scores = [one["score"] for one in answer["itemList"]]
    assert scores == sorted(scores, reverse=True) and scores[0] == 1.0
    near = client.get_recommendations(recommenderArn=ARN + "similar", itemId="red-1", numResults=3)
    assert "red-1" not in [one["itemId"] for one in near["itemList"]] and len(near["itemList"]) == 3
    ranked = client.get_personalized_ranking(
        campaignArn=ARN + "x", userId="u1", inputList=["red-1", "blue-1", "gone", "blue-2"]
    )
    ids = [one["itemId"] for one in ranked["personalizedRanking"]]
    assert {*ids[:2]} == {"blue-1", "blue-2"} and ids[2:] == ["red-1", "gone"]
    cups = client.get_recommendations(
        recommenderArn=ARN + "home",
        userId="u1",
        filterArn=ARN + "category",
        filterValues={"CATEGORY": '"Table > Cups"'},
    )
    assert {one["itemId"][-1] for one in cups["itemList"]} <= set("0369")
    with pytest.raises(client.exceptions.InvalidInputException, match="There is no filter of that name"):
        client.get_recommendations(recommenderArn=ARN + "home", userId="u1", filterArn=ARN + "what")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_recommendations(recommenderArn=ARN + "similar", itemId="nope")

    # a product that came with an event alone can be recommended: its neighbours know it by its words
    for visitor in ("v2", "v3"):
        wanted = {"product_id": "green-1", "name": "blue cup k", "price": 7.0, "quantity": 1}
        order = {
            "order_id": f"n-{visitor}",
            "products": [wanted, {"product_id": "blue-1", "price": 3.0, "quantity": 1}],
        }
        track(address, write, "Order Completed", order, anonymousId=visitor)
    until = time.monotonic() + 90
    ids = []
    while "green-1" not in ids and time.monotonic() < until:
        time.sleep(0.5)
        asked = {"placement": "bought_together", "item_id": "blue-1", "n": 20}
        ids = [one["item_id"] for one in get(address, "/v1/recommendations", write, **asked)["items"]]
    assert "green-1" in ids
    assert "green-1" in [one.id for one in gorse.get_recommend("u1", n=21)]
    recommended = client.get_recommendations(recommenderArn=ARN + "home", userId="u1", numResults=100)
    assert "green-1" in [one["itemId"] for one in recommended["itemList"]]

    # the log names routes and never anybody
    lines = [json.loads(line) for line in list(printed)]
    assert {"/v1/users/{user_id}", "/api/recommend/{user_id}", "/v1/track"} <= {line["route"] for line in lines}
    assert set(lines[0]) == {"route", "method", "code", "ms"}
    assert not re.search("u1|v1|blue|hb[sw]_", "".join(printed).replace("/v1/", "/"))


@pytest.mark.slow
def test_the_recommender_clients_of_node_read_what_those_of_python_read(server):
    address, secret, _, _ = server
    try:
        home = node.packages()
    except node.NoNode as why:
        pytest.skip(str(why))
    script = Path(node.__file__).parent / "read.mjs"
    done = subprocess.run(["node", script, address, secret], capture_output=True, text=True, timeout=120, cwd=home)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    python = pytest.importorskip("gorse").Gorse(address, secret)
    assert found["recommend"] == [one.id for one in python.get_recommend("u1", n=4)]
    assert all(one.startswith("blue-") for one in found["recommend"])
    assert found["second"] == found["recommend"][2:]
    assert len(found["table"]) >= 15 and "blue-0" in found["table"]
    assert len(found["popular"]) == 3 and set(found["popular"][0]) == {"Id", "Score"}
    assert [one["Id"][:4] for one in found["session"]] == ["red-"] * 2
    assert found["item"]["Categories"] == ["Table", "Bowls"]

    assert [one["itemId"] for one in found["runtime"]["itemList"]] == found["recommend"]
    assert re.fullmatch("[0-9a-f]{32}", found["runtime"]["recommendationId"])
    assert len(found["similar"]["itemList"]) == 3
    ranked = [one["itemId"] for one in found["ranking"]["personalizedRanking"]]
    assert {*ranked[:2]} == {"blue-1", "blue-2"} and ranked[2:] == ["red-1", "gone"]
    assert (found["bad"], found["absent"]) == ("InvalidInputException", "ResourceNotFoundException")


@pytest.mark.slow
def test_every_method_of_pygorse_works_or_is_refused_in_words(server):
    gorse = pytest.importorskip("gorse")
    client = gorse.Gorse(server[0], server[1])
    at, one = "2026-01-01T00:00:00Z", {"RowAffected": 1}
    said = {"FeedbackType": "read", "UserId": "py", "ItemId": "red-1", "Timestamp": at}
    wrote = {
        "insert_feedback": lambda: client.insert_feedback("star", "py", "red-2", at),
        "insert_feedbacks": lambda: client.insert_feedbacks([said]),
        "insert_item": lambda: client.insert_item({"ItemId": "py-1", "Comment": "a lamp"}),
        "update_item": lambda: client.update_item("py-1", is_hidden=False, categories=["Table"], comment="a red lamp"),
        "delete_item": lambda: client.delete_item("py-1"),
        "insert_user": lambda: client.insert_user({"UserId": "py", "Labels": {"tier": "gold"}}),
        "insert_users": lambda: client.insert_users([{"UserId": "py2", "Labels": {"tier": "gold"}}]),
    }
    assert {name: call() for name, call in wrote.items()} == dict.fromkeys(wrote, one)
    refused = {
        "delete_feedback": lambda: client.delete_feedback("py", "red-1"),
        "delete_user": lambda: client.delete_user("py"),
    }
    for call in refused.values():
        with pytest.raises(gorse.GorseException) as caught:
            call()
        assert caught.value.status_code == 404 and "habitue erase" in caught.value.message
    users, cursor = client.get_users(30)
    items, more = client.get_items(3)
    feedback, _ = client.get_feedbacks(2)
    asked = {
        "list_feedbacks": [one["ItemId"] for one in client.list_feedbacks("star", "py")] == ["red-2"],
        "get_feedbacks": len(feedback) == 2 and set(feedback[0]) == set(said),
        "get_recommend": len(client.get_recommend("py", n=3)) == 3,
        "session_recommend": len(client.session_recommend([said], n=3)) == 3,
        "get_neighbors": len(client.get_neighbors("red-1", n=3)) == 3,
        "get_item": client.get_item("red-1")["ItemId"] == "red-1",
        "get_items": items[0] != client.get_items(3, more)[0][0],
        "search_items": "red plate" in client.search_items("red plate", n=1)[0]["Comment"],
        "get_user": client.get_user("py")["UserId"] == "py",
        "get_users": {"py", "py2"} < {one["UserId"] for one in users + client.get_users(30, cursor)[0]},
    }
    assert asked == dict.fromkeys(asked, True)
    for kind in (gorse.Gorse, gorse.AsyncGorse):
        assert {name for name in vars(kind) if not name.startswith("_")} <= {*wrote, *refused, *asked}


@pytest.mark.slow
def test_every_method_of_gorsejs_works_or_is_refused_in_words(server):
    try:
        home = node.packages()
    except node.NoNode as why:
        pytest.skip(str(why))
    script = Path(node.__file__).parent / "gorse.mjs"
    done = subprocess.run(["node", script, *server[:2]], capture_output=True, text=True, timeout=120, cwd=home)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    found = told["found"]
    assert {name.split()[0] for name in found} == set(told["methods"])

    refused = {name: given for name, given in found.items() if isinstance(given, dict) and "refused" in given}
    assert set(refused) == {
        "deleteFeedback",
        "getItemFeedback",
        "getItemFeedbackByType",
        "insertItemCategory",
        "deleteItemCategory",
        "deleteUser",
        "getUserNeighbors",
        "getRecommend written back",
    }
    assert {given["refused"] for given in refused.values()} == {404}
    wrote = ("insert", "upsert", "update", "deleteItem")
    assert {given for name, given in found.items() if name.startswith(wrote) and name not in refused} == {1}
    assert found["getFeedback"] == found["getUserFeedback"][0] | {"FeedbackType": "read"}
    assert found["getUserFeedbackByType"] == found["getFeedbacks read"]["Feedback"] == [found["getFeedback"]]
    assert len(found["getFeedbacks"]["Feedback"]) == 3 and found["getFeedbacks"]["Cursor"]
    assert (found["getItem"]["ItemId"], found["getUser"]["UserId"]) == ("red-2", "node")
    pages = found["getItems"]["Items"] + found["getItems second"]["Items"]
    assert len({one["ItemId"] for one in pages}) == 6
    assert {"node", "node2"} < {one["UserId"] for one in found["getUsers"]["Users"]}
    for name in ("getItemNeighbors", "getPopular", "getLatest", "getRecommend", "getSessionRecommend"):
        assert len(found[name]) == 3, name
