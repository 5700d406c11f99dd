import base64
import gzip
import json

import pytest
from litestar.testing import TestClient

from habitue.core.schemas import EVENTS, ITEMS, REFUSED, USERS
from habitue.serve import app, collecting, keys
from habitue.serve.shop import in_stock

VIEW = {"event": "Product Viewed", "anonymousId": "a1", "properties": {"product_id": "A"}}


def stored(shop):
    return shop.lake.read(EVENTS)


def as_client(shop, **more):
    return TestClient(app.create(shop, **more))


@pytest.mark.parametrize("path", ["/v1/track", "/v1/t", "/v1/batch", "/v1/b"])
@pytest.mark.parametrize("label", ["application/json", "text/plain", "application/x-www-form-urlencoded", None, "x/y"])
def test_the_answer_is_exactly_200_success_whatever_the_label(shop, path, label):
    body = {"batch": [{"type": "track"} | VIEW]} if "b" in path.rsplit("/", 1)[-1] else VIEW
    with as_client(shop) as client:
        headers = {} if label is None else {"Content-Type": label}
        answer = client.post(path, content=json.dumps(body).encode(), headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"success": True})
        assert answer.headers["content-type"] == "application/json"
    assert stored(shop)["kind"].to_list() == ["Product Viewed"]


@pytest.mark.parametrize("said", [{"Content-Encoding": "gzip"}, {}])
def test_gzip_is_told_by_its_content(shop, said):
    with as_client(shop) as client:
        answer = client.post("/v1/track", content=gzip.compress(json.dumps(VIEW).encode(), mtime=0), headers=said)
        assert answer.status_code == 200
    assert stored(shop).height == 1


def test_the_kind_of_a_message_comes_from_its_route(shop):
    with as_client(shop) as client:
        for path in ("page", "p", "screen", "s"):
            body = {"anonymousId": "a", "context": {"page": {"path": "/x"}}}
            assert client.post(f"/v1/{path}", content=json.dumps(body)).status_code == 200
        for path in ("identify", "i", "group", "g", "alias", "a"):
            assert client.post(f"/v1/{path}", content=json.dumps({"userId": "u"})).status_code == 200
    assert sorted(stored(shop)["kind"]) == ["Page Viewed"] * 2 + ["Screen Viewed"] * 2
    assert shop.lake.read(REFUSED).is_empty()


@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        (b"", "invalid_json", "The body is no JSON that can be read."),
        (b'{"event": ', "invalid_json", "The body is no JSON that can be read."),
        (b"\xff\xfe", "invalid_json", "The body is no JSON that can be read."),
        (b"[1, 2]", "invalid_request", "The body is JSON, but no object."),
        (b'{"a":' * 1000 + b"1" + b"}" * 1000, "too_deep", "The JSON is nested too deep."),
        (gzip.compress(b"{}", mtime=0)[:-9], "invalid_gzip", "The gzip body is cut off."),
        (b"\x1f\x8bnothing", "invalid_gzip", "The body begins like gzip and is none."),
        (b" " * 32_769, "too_large", "The body holds more than 32,768 bytes."),
        (gzip.compress(b" " * 50_000_000, mtime=0), "too_large", "The body holds more than 32,768 bytes."),
    ],
)
def test_what_cannot_be_read_is_a_400_that_every_client_understands(post, body, code, sentence):
    answer = post("/v1/track", body)
    assert answer.status_code == 400
    detail = "Nothing of it was stored (docs/collect.md)"
    assert answer.json() == {"success": False, "code": code, "message": sentence, "detail": detail}


def test_a_batch_without_its_list_or_with_too_many(post):
    assert post("/v1/batch", {"batch": {}}).json()["message"] == "The body has no list named batch."
    assert post("/v1/batch", {"batch": [1] * 2_501}).json()["code"] == "too_many"


def test_an_unknown_path_and_another_method_are_said_in_the_same_words(client):
    assert client.get("/nowhere").json()["code"] == "not_found"
    answer = client.get("/v1/track")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


WRITE = "the key"


@pytest.mark.parametrize(
    ("header", "body", "code"),
    [
        ("Basic {}:", None, None),
        ("Basic {}", None, None),  # without the colon
        ("basic {}:", None, None),
        (None, WRITE, None),
        ("Basic other:", WRITE, "unknown_key"),  # the header counts
        ("Bearer {}", None, "unknown_key"),  # base64 of one is none
        ("Basic", None, "no_key"),
        (None, 3, "no_key"),
        (None, None, "no_key"),
    ],
)
def test_a_write_key_comes_by_basic_or_in_the_body(shop, header, body, code):
    _, key = keys.create(shop.root / "state", "write")
    headers, more = {}, {} if body is None else {"writeKey": key if body == WRITE else body}
    if header is not None:
        scheme, _, named = header.format(key).partition(" ")
        headers["Authorization"] = f"{scheme} {base64.b64encode(named.encode()).decode()}"
    with as_client(shop) as client:
        for path, content in (("/v1/track", VIEW | more), ("/v1/batch", {"batch": [VIEW]} | more)):
            answer = client.post(path, content=json.dumps(content), headers=headers)
            assert answer.status_code == (401 if code else 200)
            assert answer.json().get("code") == code
    assert stored(shop).height == (0 if code else 2)


@pytest.mark.parametrize("given", ["é".encode("latin-1"), b"!", base64.b64encode(b"\xff:")])
def test_what_is_no_base64_in_the_header_names_no_key(shop, given):
    keys.create(shop.root / "state", "write")
    with as_client(shop) as client:
        answer = client.post("/v1/track", content=json.dumps(VIEW), headers={b"Authorization": b"Basic " + given})
    assert (answer.status_code, answer.json()["code"]) == (401, "no_key")


def test_what_cannot_be_stored_is_a_503_that_says_when_to_come_again(client, post, monkeypatch):
    def full(_file):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("habitue.collect.log.os.fsync", full)
        answer = post("/v1/track", VIEW)
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["code"]) == (503, "5", "unavailable")
    assert "No space" not in answer.text
    assert post("/v1/track", VIEW).status_code == 200


def test_too_much_waiting_is_a_429_with_retry_after(client, post):
    client.app.state.receiver._waiting_events = 10**9
    answer = post("/v1/track", VIEW)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.json()["code"] == "too_many_requests"


def test_a_mistake_of_ours_is_a_500_that_tells_nothing_of_the_request(client, post, monkeypatch, caplog):
    def broken(*_args, **_more):
        raise ZeroDivisionError("secret words")

    monkeypatch.setattr(collecting.segment, "one", broken)
    answer = post("/v1/track", VIEW)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text and "ZeroDivisionError" in caplog.text


HEADERS = {"Origin": "https://shop.example"}
ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


def test_a_page_may_ask_from_anywhere_and_its_preflight_is_answered(client):
    answer = client.options("/v1/t", headers=HEADERS | ASKS)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
    assert "POST" in answer.headers["access-control-allow-methods"]
    for path, body in (("/v1/t", json.dumps(VIEW)), ("/v1/t", "{")):  # an error too must be readable for the page
        answer = client.post(path, content=body, headers=HEADERS)
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in client.post("/v1/t", content=json.dumps(VIEW)).headers


def test_segments_browser_client_is_told_to_send_here(client):
    answer = client.get("/v1/projects/wk/settings", headers={"Host": "events.shop.example:8080"})
    there = {"apiKey": "wk", "apiHost": "events.shop.example:8080/v1", "protocol": "http"}
    assert answer.json() == {"integrations": {"Segment.io": there}}


def test_every_dialect_has_its_route_and_the_answer_its_clients_need(shop):
    feedback = [{"FeedbackType": "read", "UserId": "u", "ItemId": "A", "Timestamp": "2026-01-01T00:00:00Z"}]
    personal = {"sessionId": "s", "eventList": [{"eventType": "View", "itemId": "A", "sentAt": 1_770_000_000}]}
    view = {"event": "$pageview", "distinct_id": "u"}
    sent = [
        ("/com.snowplowanalytics.snowplow/tp2", {"data": [{"e": "pv", "duid": "u"}]}, b'{"success":true}'),
        ("/batch/", {"batch": [view]}, b'{"success":true}'),
        ("/capture", view, b'{"success":true}'),
        ("/e/", [view], b'{"success":true}'),
        ("/i/v0/e/", {"batch": [view]}, b'{"success":true}'),
        ("/api/feedback", feedback, b'{"RowAffected":1}'),
        ("/api/item", {"ItemId": "A"}, b'{"RowAffected":1}'),
        ("/api/users", [{"UserId": "u", "Labels": {"tier": "gold"}}], b'{"RowAffected":1}'),
        ("/events", personal, b""),
        ("/items", {"items": [{"itemId": "B", "properties": '{"title": "Bowl"}'}]}, b""),
        ("/users", {"users": [{"userId": "u", "properties": "{}"}]}, b""),
    ]
    with as_client(shop) as client:
        for path, body, answer in sent:
            got = client.post(path, content=json.dumps(body))
            assert (path, got.status_code, got.content) == (path, 200, answer)
        mp = client.post("/mp/collect", content=json.dumps({"client_id": "c", "events": [{"name": "page_view"}]}))
        assert (mp.status_code, mp.content) == (204, b"")
        pixel = client.get("/i", params={"e": "pv", "duid": "u"})
        assert (pixel.status_code, pixel.headers["content-type"]) == (200, "image/gif")
        assert pixel.content.startswith(b"GIF89a")
        assert client.get("/array/k/config").content == client.post("/flags/?v=2").content == b"{}"
    assert stored(shop).group_by("source").len().sort("source").rows() == [
        ("ga4", 1),
        ("gorse", 1),
        ("personalize", 1),
        ("posthog", 4),
        ("snowplow", 2),
    ]
    assert set(shop.lake.read(ITEMS)["item_id"]) == {"A", "B"}
    assert shop.lake.read(USERS)["attributes"].to_list() == ['{"tier": "gold"}']
    assert shop.lake.read(REFUSED).is_empty()


def test_where_each_dialect_puts_its_key(shop):
    _, key = keys.create(shop.root / "state", "write")
    aws = f"AWS4-HMAC-SHA256 Credential={key}/20260101/eu/personalize/aws4_request, SignedHeaders=host, Signature=0"
    sent = [
        (f"/com.snowplowanalytics.snowplow/tp2?write_key={key}", {"data": []}, {}),
        (f"/mp/collect?api_secret={key}", {"events": []}, {}),
        ("/batch/", {"batch": [], "api_key": key}, {}),
        ("/e/", [{"event": "$pageview", "properties": {"token": key}}], {}),
        ("/api/feedback", [], {"X-API-Key": key}),
        ("/events", {"eventList": []}, {"Authorization": aws}),
    ]
    with as_client(shop) as client:
        for path, body, headers in sent:
            assert client.post(path, content=json.dumps(body), headers=headers).is_success, path
            bare = json.loads(json.dumps(body).replace(key, "x"))
            assert client.post(path.partition("?")[0], content=json.dumps(bare)).status_code == 401, path


def test_a_product_that_gorse_hides_is_shown_to_nobody_until_it_is_said_again(shop):
    labels = {"availability": "in stock", "tag": "new"}
    with as_client(shop) as client:
        for hidden in (True, False, None):
            said = {"ItemId": f"hidden {hidden}", "IsHidden": hidden, "Labels": labels}
            assert client.post("/api/item", content=json.dumps(said)).status_code == 200
        for item, labels in (("plain", ["a"]), ("none", None)):
            client.post("/api/items", content=json.dumps([{"ItemId": item, "IsHidden": True, "Labels": labels}]))
    told = dict(shop.lake.read(ITEMS).select("item_id", "attributes").rows())
    shown = {"hidden True": False, "hidden False": True, "hidden None": True, "plain": False, "none": False}
    assert {item: in_stock(attributes) for item, attributes in told.items()} == shown
    assert json.loads(told["hidden True"])["tag"] == "new"


def test_every_route_takes_a_key_where_the_description_says(shop):
    _, key = keys.create(shop.root / "state", "write")
    named = base64.b64encode(f"{key}:".encode()).decode()
    sent = [
        ("/v1/track", VIEW),
        ("/v1/batch", {"batch": [VIEW]}),
        ("/com.snowplowanalytics.snowplow/tp2", {"data": []}),
        ("/mp/collect", {"events": []}),
        ("/batch/", {"batch": []}),
        ("/api/feedback", []),
        ("/events", {"eventList": []}),
    ]
    with as_client(shop) as client:
        for path, body in sent:
            for place in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}, {"Authorization": f"Basic {named}"}):
                assert client.post(path, content=json.dumps(body), headers=place).is_success, (path, place)
        assert client.get("/i?e=pv", headers={"Authorization": f"Bearer {key}"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/item", {"ItemId": "A", "Comment": "cheap"}),
        ("/api/items", [{"ItemId": "A", "Comment": "cheap"}]),
        ("/api/user", {"UserId": "u1", "Labels": {"plan": "gold"}}),
        ("/api/users", [{"UserId": "u1", "Labels": {"plan": "gold"}}]),
        ("/items", {"datasetArn": "x", "items": [{"itemId": "A", "properties": '{"price": 1}'}]}),
        ("/users", {"datasetArn": "x", "users": [{"userId": "u1", "properties": '{"plan": "gold"}'}]}),
    ],
)
def test_what_products_and_users_are_is_not_said_with_a_key_that_stands_in_pages(shop, path, body):
    write, secret = (keys.create(shop.root / "state", kind)[1] for kind in ("write", "secret"))
    narrow = keys.create(shop.root / "state", "secret", scopes=["collect"])[1]
    with as_client(shop) as client:

        def send(key):
            headers = {"X-API-Key": key, "Authorization": f"AWS4-HMAC-SHA256 Credential={key}/20260501/eu/personalize"}
            return client.post(path, content=json.dumps(body), headers=headers)

        for key in (write, narrow):
            refused = send(key)
            assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
        assert send(secret).status_code == 200
