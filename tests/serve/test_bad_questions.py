"""Every route that answers, asked with the wrong key, of nobody, for nothing and for a thousand million."""

import shutil

import pytest
from litestar.testing import TestClient

from habitue import serving
from habitue.core import workspace
from habitue.serve import app, keys

BODY = {"code", "message", "detail", "success"}


@pytest.fixture(scope="module")
def ask(trained_shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad") / "shop"
    shutil.copytree(trained_shop, folder)
    space = workspace.open_workspace(folder)
    texts = {kind: keys.create(space.state, kind)[1] for kind in ("write", "secret")}
    texts["revoked"] = "hbs_00000000_" + "x" * 43
    with TestClient(app.create(space, read=lambda: serving.read(space))) as client:

        def send(method, path, body=None, key="secret"):
            headers = {} if key is None else {"Authorization": f"Bearer {texts[key]}"}
            answer = client.request(method, path, json=body, headers=headers)
            return answer.status_code, answer.json() if answer.content else {}

        yield send


@pytest.fixture(scope="module")
def keyless(trained_shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keyless") / "shop"
    shutil.copytree(trained_shop, folder)
    space = workspace.open_workspace(folder)
    with TestClient(app.create(space, read=lambda: serving.read(space))) as client:
        yield client


SECRET = [  # what a write key in a page must not get
    ("GET", "/v1/recommendations?user_id=u1", None),
    ("POST", "/v1/recommendations", {"user_id": "u1"}),
    ("GET", "/v1/predictions?user_id=u1", None),
    ("GET", "/v1/predictions?anonymous_id=v1", None),
    ("POST", "/v1/predictions", {"user_id": "u1"}),
    ("GET", "/v1/users/u1", None),
    ("POST", "/v1/tokens", {"user_id": "u1"}),
    ("GET", "/v1/live?user_id=u1", None),
    ("GET", "/v1/live?anonymous_id=v1&what=predictions", None),
    ("POST", "/v1/jobs", {"what": "users"}),
    ("GET", "/v1/jobs", None),
    ("GET", "/v1/jobs/0", None),
    ("DELETE", "/v1/jobs/0", None),
    ("GET", "/v1/jobs/0/result", None),
    ("GET", "/api/recommend/u1", None),
    ("GET", "/api/recommend/u1/Table", None),
    ("GET", "/api/collaborative-filtering/u1", None),
    ("POST", "/api/session/recommend", []),
    ("GET", "/api/item/red-1", None),
    ("GET", "/api/items", None),
    ("GET", "/api/user/u1", None),
    ("GET", "/api/users", None),
    ("GET", "/api/feedback", None),
    ("GET", "/api/feedback/read", None),
    ("GET", "/api/feedback/read/u1/red-1", None),
    ("GET", "/api/user/u1/feedback", None),
    ("GET", "/api/user/u1/feedback/read", None),
    ("GET", "/api/user/u1/neighbors", None),
    ("GET", "/api/item/red-1/feedback", None),
    ("GET", "/api/item/red-1/neighbors/Table", None),
    ("PUT", "/api/item/red-1/category/Cups", None),
    ("PATCH", "/api/item/red-1", {"IsHidden": True}),
    ("DELETE", "/api/item/red-1", None),
    ("PATCH", "/api/user/u1", {"Labels": {}}),
    ("DELETE", "/api/user/u1", None),
    ("DELETE", "/api/feedback/u1/red-1", None),
    ("GET", "/api/popular", None),
    ("POST", "/recommendations", {"userId": "u1"}),
    ("POST", "/personalize-ranking", {"userId": "u1", "inputList": ["red-1"]}),
]


@pytest.mark.parametrize(("method", "path", "body"), SECRET)
@pytest.mark.parametrize(("key", "status", "codes"), [("write", 403, "not_allowed"), ("revoked", 401, "unknown_key")])
def test_a_key_that_is_not_enough(ask, method, path, body, key, status, codes):
    got, told = ask(method, path, body, key)
    assert (got, told["code"]) == (status, codes) and BODY <= set(told)
    assert len(told["message"]) > 15 and len(told["detail"]) > 10 and "u1" not in told["message"] + told["detail"]


@pytest.mark.parametrize(("method", "path", "body"), SECRET)
def test_no_key(ask, method, path, body):
    assert (ask(method, path, body, None)[0], ask(method, path, body, None)[1]["code"]) == (401, "no_key")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        # nobody
        ("GET", "/v1/predictions?user_id=nobody", None, 404, "unknown_user"),
        ("GET", "/v1/predictions", None, 400, "bad_user_id"),
        ("GET", "/v1/users/nobody", None, 404, "unknown_user"),
        ("GET", "/api/user/nobody", None, 404, "unknown_user"),
        ("GET", "/v1/live?user_id=nobody&what=predictions", None, 404, "unknown_user"),
        # nothing
        ("GET", "/v1/recommendations?placement=similar&item_id=nothing", None, 404, "unknown_item"),
        ("GET", "/v1/recommendations?placement=bought_together&item_id=nothing", None, 404, "unknown_item"),
        ("GET", "/v1/recommendations?placement=search&item_ids=nothing,none", None, 404, "unknown_item"),
        ("GET", "/api/item/nothing", None, 404, "unknown_item"),
        ("POST", "/recommendations", {"itemId": "nothing"}, 404, "unknown_item"),
        ("POST", "/personalize-ranking", {"userId": "u1", "inputList": ["nothing"]}, 404, "unknown_item"),
        # how many
        *(
            (method, path.format(n=n), body and {k: n if v == "n" else v for k, v in body.items()}, 400, code)
            for n in (0, 10**9, -1)
            for method, path, body, code in (
                ("GET", "/v1/recommendations?n={n}", None, "bad_n"),
                ("POST", "/v1/recommendations", {"n": "n"}, "bad_n"),
                ("GET", "/v1/live?n={n}", None, "bad_n"),
                ("POST", "/v1/jobs", {"what": "recommendations", "n": "n"}, "bad_n"),
                ("GET", "/api/recommend/u1?n={n}", None, "bad_n"),
                ("GET", "/api/popular?n={n}", None, "bad_n"),
                ("GET", "/api/items?n={n}", None, "bad_n"),
                ("POST", "/api/session/recommend?n={n}", [], "bad_n"),
            )
        ),
        ("POST", "/recommendations", {"userId": "u1", "numResults": 10**9}, 400, "InvalidInputException"),
        ("POST", "/recommendations", {"userId": "u1", "numResults": -1}, 400, "InvalidInputException"),
        ("POST", "/personalize-ranking", {"userId": "u1", "inputList": []}, 400, "InvalidInputException"),
        ("POST", "/personalize-ranking", {"userId": "u1", "inputList": ["a"] * 501}, 400, "InvalidInputException"),
        # filters that match nothing
        ("GET", "/v1/recommendations?category=Garden&strict=true", None, 404, "nothing_matches"),
        ("GET", "/v1/recommendations?price_from=1000&strict=true", None, 404, "nothing_matches"),
        ("GET", "/v1/recommendations?brand=Nobody&placement=cart&strict=true", None, 404, "nothing_matches"),
        ("GET", "/v1/recommendations?price_from=5&price_to=1", None, 400, "bad_price_from"),
        ("GET", "/v1/recommendations?exclude=hated", None, 400, "bad_exclude"),
    ],
)
def test_a_question_that_cannot_be_answered(ask, method, path, body, status, code):
    got, told = ask(method, path, body)
    assert (got, told["code"]) == (status, code) and BODY <= set(told)
    assert len(told["message"]) > 10 and len(told["detail"]) > 10
    assert "nobody" not in told["message"].split() and "nothing," not in told["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/recommendations?user_id=u1&category=Garden", None),
        ("/v1/recommendations?user_id=u1&price_from=1000", None),
        ("/v1/recommendations?user_id=u1&brand=Nobody&placement=session", None),
        ("/v1/recommendations?user_id=nobody&brand=Nobody", None),
    ],
)
def test_without_strict_filters_that_match_nothing_are_named(ask, path, body):
    status, told = ask("GET", path, body)
    assert (status, told["fallback"]) == (200, "unfiltered") and len(told["items"]) == 10


def test_gorse_and_personalize_answer_whom_nobody_knows_as_everybody(ask):
    assert len(ask("GET", "/api/recommend/nobody?n=3")[1]) == 3
    assert len(ask("POST", "/recommendations", {"userId": "nobody", "numResults": 3})[1]["itemList"]) == 3
    assert len(ask("GET", "/api/item/nothing/neighbors?n=3")[1]) == 3
    assert len(ask("POST", "/recommendations", {"userId": "u1", "numResults": 0})[1]["itemList"]) > 0


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://[", "http://127.0.0.1.example"])
@pytest.mark.parametrize(("method", "path", "body"), SECRET)
def test_without_keys_a_page_that_a_browser_here_has_open_reads_nobodys_past(keyless, method, path, body, origin):
    told = keyless.request(method, path, json=body, headers={"Origin": origin})
    assert (told.status_code, told.json()["code"]) == (403, "not_allowed")


def test_without_keys_a_page_of_this_machine_and_a_program_read_everything(keyless):
    for headers in ({}, {"Origin": "http://localhost:3000"}, {"Origin": "http://127.0.0.1:8080"}):
        assert keyless.get("/v1/users/u1", headers=headers).status_code == 200
    elsewhere = {"Origin": "https://elsewhere.example"}
    assert keyless.get("/v1/recommendations?anonymous_id=v1", headers=elsewhere).status_code == 200
    view = {"event": "Product Viewed", "anonymousId": "v1", "properties": {"product_id": "red-1"}}
    assert keyless.post("/v1/track", json=view, headers=elsewhere).status_code == 200
    assert keyless.post("/api/item", json={"ItemId": "red-1"}, headers=elsewhere).status_code == 403
