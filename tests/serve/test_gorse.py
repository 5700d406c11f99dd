"""Gorse's routes beyond recommending: what was said is read back, changed and hidden; what cannot be is said."""

import json

import pytest
from litestar.testing import TestClient

from habitue import serving
from habitue.core.schemas import USERS
from habitue.serve import app


@pytest.fixture
def client(trained):
    with TestClient(app.create(trained, read=lambda: serving.read(trained))) as client:
        yield client


def renew(client):
    """Bring what came into the lake, and read it again."""
    client.blocking_portal.call(client.app.state.desk.renew)


def pages(client, path, name, n):
    """Return what all pages hold, and how many there are."""
    found, cursor, count = [], "", 0
    while cursor or not count:
        told = client.get(path, params={"n": n, "cursor": cursor}).json()
        assert len(told[name]) <= n
        found, cursor, count = found + told[name], told["Cursor"], count + 1
    return found, count


def test_feedback_is_read_back_by_user_type_and_product(client):
    for kind, item, hour in (("read", "red-1", 1), ("star", "red-2", 2), ("read", "red-2", 3), ("read", "red-1", 4)):
        said = {"FeedbackType": kind, "UserId": "bob", "ItemId": item, "Timestamp": f"2026-01-01T0{hour}:00:00Z"}
        assert client.post("/api/feedback", json=[said]).json() == {"RowAffected": 1}
    every = client.get("/api/user/bob/feedback").json()
    assert [(one["FeedbackType"], one["ItemId"]) for one in every] == [
        ("Product Viewed", "red-1"),
        ("Product Added to Wishlist", "red-2"),
        ("Product Viewed", "red-2"),
        ("Product Viewed", "red-1"),
    ]
    read = client.get("/api/user/bob/feedback/read").json()
    assert [one["ItemId"] for one in read] == ["red-1", "red-2", "red-1"]
    assert read[0] == {
        "FeedbackType": "read",
        "UserId": "bob",
        "ItemId": "red-1",
        "Timestamp": "2026-01-01T01:00:00+00:00",
    }
    newest = client.get("/api/feedback/read/bob/red-1").json()
    assert newest["Timestamp"] == "2026-01-01T04:00:00+00:00"
    assert client.get("/api/feedback/star/bob/red-1").json()["code"] == "unknown_feedback"
    assert client.get("/api/user/nobody/feedback").json() == []


def test_everybodys_users_and_feedback_come_page_by_page_and_once(client):
    users, count = pages(client, "/api/users", "Users", 15)
    assert sorted(one["UserId"] for one in users) == sorted(f"u{i}" for i in range(40)) and count == 3
    one_page, count = pages(client, "/api/feedback", "Feedback", 1000)
    assert len(one_page) == 40 * 8 * 3 and count == 1
    assert pages(client, "/api/feedback", "Feedback", 50)[0] == one_page
    assert pages(client, "/api/feedback/purchase", "Feedback", 7)[0] == [
        one | {"FeedbackType": "purchase"} for one in one_page
    ]
    assert pages(client, "/api/feedback/read", "Feedback", 7)[0] == []
    assert client.get("/api/users", params={"n": 1, "Cursor": "u7"}).json()["Users"][0]["UserId"] == "u7"  # gorsejs
    assert client.get("/api/items", params={"n": 1, "Cursor": "3"}).json()["Items"][0]["ItemId"] == "blue-3"
    assert client.get("/api/feedback", params={"cursor": "x:u1"}).json()["code"] == "bad_cursor"


def test_a_person_of_two_ids_gives_their_feedback_once_and_who_did_not_agree_none(client):
    view = {"event": "Product Viewed", "messageId": "m1", "properties": {"product_id": "red-1"}}
    client.post("/v1/track", json=view | {"userId": "ann"})
    client.post("/v1/alias", json={"previousId": "ann", "userId": "anna"})
    told = pages(client, "/api/feedback/read", "Feedback", 10)[0]
    assert [one["UserId"] for one in told] == ["ann"]
    consent = {"categoryPreferences": {"personalisation": False}}
    client.post("/v1/identify", json={"userId": "u3", "context": {"consent": consent}})
    refused = client.get("/api/user/u3/feedback")
    assert (refused.status_code, refused.json()["code"]) == (403, "no_consent")
    assert "u3" not in {one["UserId"] for one in pages(client, "/api/feedback", "Feedback", 500)[0]}


def test_a_search_finds_products_by_their_words(client):
    found = client.get("/api/items", params={"q": "red plate", "n": 3}).json()["Items"]
    assert found and all("red plate" in one["Comment"] for one in found)
    assert client.get("/api/items", params={"q": "xyzzy"}).json() == {"Cursor": "", "Items": []}


@pytest.mark.parametrize(
    "path", ["/api/popular/Table > Cups", "/api/latest/Table > Cups", "/api/item/red-0/neighbors/Table > Cups"]
)
def test_a_category_in_the_path_filters(client, path):
    found = [one["Id"] for one in client.get(path, params={"n": 3}).json()]
    assert len(found) == 3 and all(item[-1] in "0369" for item in found)


def test_a_category_in_the_path_filters_a_session(client):
    found = client.post("/api/session/recommend/Table > Cups", params={"n": 3}, json=[{"ItemId": "red-1"}]).json()
    assert len(found) == 3 and all(one["Id"][-1] in "0369" for one in found)


def test_what_is_patched_changes_and_the_rest_stays(client):
    before = client.get("/api/item/red-1").json()
    said = {"Categories": ["Kitchen"], "Comment": None, "IsHidden": None, "Labels": None, "Timestamp": None}
    assert client.patch("/api/item/red-1", json=said).json() == {"RowAffected": 1}
    renew(client)
    after = client.get("/api/item/red-1").json()
    assert after["Categories"] == ["Kitchen"]
    same = ("ItemId", "IsHidden", "Labels", "Comment")
    assert [after[name] for name in same] == [before[name] for name in same]


def test_a_deleted_product_is_shown_to_nobody_until_it_is_shown_again_and_can_go_twice(client):
    def shown():
        renew(client)
        return "red-1" in [one["Id"] for one in client.get("/api/popular", params={"n": 100}).json()]

    assert shown()
    assert client.delete("/api/item/red-1").json() == {"RowAffected": 1}
    assert not shown() and client.get("/api/item/red-1").json()["IsHidden"] is True
    client.patch("/api/item/red-1", json={"Labels": {"tag": "new"}})  # says nothing of being hidden
    assert not shown()
    client.patch("/api/item/red-1", json={"IsHidden": False})
    assert shown()
    client.delete("/api/item/red-1")
    assert not shown()


def test_a_product_said_again_with_its_first_day_is_what_was_said_last(client):
    first = {"ItemId": "new-1", "Comment": "red lamp", "Timestamp": "2025-01-01T00:00:00Z"}
    for hidden in (False, True, True):
        client.post("/api/item", json=first | {"IsHidden": hidden})
    renew(client)
    assert client.get("/api/item/new-1").json()["IsHidden"] is True
    client.post("/api/item", json=first | {"IsHidden": False})
    renew(client)
    assert client.get("/api/item/new-1").json()["IsHidden"] is False


def test_the_labels_of_a_patched_user_are_kept_and_said_again_they_are_news(client, trained):
    for tier in ("gold", "silver", "gold", "gold"):
        assert client.patch("/api/user/u1", json={"UserId": "u2", "Labels": {"tier": tier}}).json() == {
            "RowAffected": 1
        }
    renew(client)
    told = trained.lake.read(USERS).sort("valid_from")
    assert [json.loads(text)["tier"] for text in told["attributes"]] == ["gold", "silver", "gold"]
    known = client.blocking_portal.call(lambda: client.app.state.desk.key(user_id="u1"))
    assert told["user_key"].unique().to_list() == [known]


@pytest.mark.parametrize(
    ("method", "path", "way"),
    [
        ("GET", "/api/user/u1/neighbors", "habitue apply personas"),
        ("GET", "/api/user-to-user/near/u1", "habitue apply personas"),
        ("GET", "/api/item/red-1/feedback", "habitue lake read"),
        ("GET", "/api/item/red-1/feedback/read", "habitue lake read"),
        ("PUT", "/api/item/red-1/category/Cups", "PATCH"),
        ("DELETE", "/api/item/red-1/category/Cups", "PATCH"),
        ("DELETE", "/api/user/u1", "habitue erase"),
        ("DELETE", "/api/feedback/u1/red-1", "habitue erase"),
        ("DELETE", "/api/feedback/read/u1/red-1", "habitue erase"),
        ("GET", "/api/recommend/u1?write-back-type=read", "write-back-type"),
    ],
)
def test_what_cannot_be_done_is_said_with_what_does_it(client, method, path, way):
    told = client.request(method, path)
    assert (told.status_code, told.json()["code"]) == (404, "not_done_here")
    assert way in told.json()["detail"] and "u1" not in told.text
