"""Gorse's reading routes, so that a shop changes one URL: PyGorse and gorsejs work as they are.

A path may end in a slash: both published clients put one before the question mark. Answers are lists of item_ids, and
with `X-API-Version: 2` of {"Id", "Score"}. Who is not known gets what everyone buys, as Gorse's own fallback does.
What Gorse can and this server cannot is answered with 404 and `not_done_here`, in words that say what does it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, NoReturn

from litestar import Response, delete, get, post, route

from habitue.collect.wires.gorse import kind_meant
from habitue.encode import search
from habitue.serve.answers import admitted
from habitue.serve.desk import Desk
from habitue.serve.events import Row
from habitue.serve.fields import Asked, Field, parsed
from habitue.serve.keys import CATALOGUE, RECOMMEND, USERS, Door, Key
from habitue.serve.problems import Problem
from habitue.serve.scorer import LONGEST, MOST, Answer, Filters, Question, bad

SECRET_ONLY = "Gorse's routes name users in their paths"
PAGE = (
    Field("n", "whole", f"How many, 1 to {MOST:,}; default 10"),
    Field("cursor", "text", "Where to go on: the Cursor of the page before"),
)


@get(
    [
        "/api/recommend/{user_id:str}",
        "/api/recommend/{user_id:str}/{category:str}",
        "/api/collaborative-filtering/{user_id:str}",
    ]
)
async def recommend(request: Asked) -> Response[Any]:
    """Recommend to a user, of one category or all; collaborative-filtering is the same list, always with scores."""
    desk = _desk(request, RECOMMEND)
    user_id = request.path_params["user_id"]
    if request.query_params.get("write-back-type"):
        cannot("What is recommended is not written back as feedback", "Leave write-back-type out, send what was seen")
    category = _category(request)
    n, offset = _page(request)
    question = Question(n=n + offset, filters=Filters(category=category))
    served = await desk.serve(desk.key(user_id=user_id), question)
    scored = request.scope["path"].startswith("/api/collaborative-filtering/")
    return _list(request, served.answer, n, offset, scored=scored)


@post(["/api/session/recommend", "/api/session/recommend/{category:str}"], status_code=200)
async def session_recommend(request: Asked) -> Response[Any]:
    """Recommend to somebody without a name, from the feedback in the body."""
    desk = _desk(request, RECOMMEND)
    said = await parsed(request)
    if not isinstance(said, list) or not all(isinstance(one, dict) for one in said):
        raise Problem(400, "invalid_request", "The body is no list of feedback", "Send a JSON list of objects")
    items = tuple(dict.fromkeys(str(one.get("ItemId", "")) for one in said if one.get("ItemId")))
    n, offset = _page(request)
    filters = Filters(category=_category(request), without=items)
    question = Question("cart", n=n + offset, item_ids=items[-50:], filters=filters)
    return _list(request, desk.recommend(None, question), n, offset, scored=True)


@get(
    [
        "/api/item/{item_id:str}/neighbors",
        "/api/item/{item_id:str}/neighbors/{category:str}",
        "/api/item-to-item/{name:str}/{item_id:str}",
    ]
)
async def neighbours(request: Asked) -> Response[Any]:
    """Return products alike to one; where there is none of that id, what everyone buys."""
    desk = _desk(request, RECOMMEND)
    item_id = request.path_params["item_id"]
    n, offset = _page(request)
    filters = Filters(category=_category(request))
    known = item_id in desk.shop.index
    about = {"placement": "similar", "item_id": item_id} if known else {}
    question = Question(n=n + offset, filters=filters, **about)
    return _list(request, desk.recommend(None, question), n, offset, scored=True)


@get(
    [
        "/api/non-personalized/{name:str}",
        *(f"/api/{name}{end}" for name in ("popular", "latest") for end in ("", "/{category:str}")),
    ]
)
async def non_personalized(request: Asked) -> Response[Any]:
    """Return what everyone buys now."""
    desk = _desk(request, RECOMMEND)
    n, offset = _page(request)
    answer = desk.recommend(None, Question(n=n + offset, filters=Filters(category=_category(request))))
    return _list(request, answer, n, offset, scored=True)


@get("/api/item/{item_id:str}")
async def item(request: Asked) -> Response[Any]:
    """Return one product."""
    desk = _desk(request, CATALOGUE)
    place = desk.shop.index.get(request.path_params["item_id"])
    if place is None:
        raise Problem(404, "unknown_item", "The item_id is not in the catalogue", "Import it, or send its events")
    return _json(_item(desk, place))


@get("/api/items", opt={"query": (*PAGE, Field("q", "text", "Only the products that these words mean"))})
async def items(request: Asked) -> Response[Any]:
    """Return the products, page by page; or those that a search means, the nearest first."""
    desk = _desk(request, CATALOGUE)
    n, _ = _page(request)
    if query := request.query_params.get("q"):
        (meant,) = search.products(desk.shop.searches, [query])
        return _json({"Cursor": "", "Items": [_item(desk, desk.shop.index[one]) for one in meant[:n]]})
    start = _counted("cursor", _cursor(request) or "0")
    places = range(start, min(start + n, len(desk.shop.items)))
    more = places.stop < len(desk.shop.items)
    return _json({"Cursor": str(places.stop) if more else "", "Items": [_item(desk, place) for place in places]})


@get("/api/user/{user_id:str}")
async def user(request: Asked) -> Response[Any]:
    """Return one user: that there is one."""
    desk = _desk(request, USERS)
    user_id = request.path_params["user_id"]
    if desk.key(user_id=user_id) is None:
        raise Problem(404, "unknown_user", "Nobody of this id has been met", "Send its events first, or import them")
    return _json(_user(user_id))


@get("/api/users", opt={"query": PAGE})
async def users(request: Asked) -> Response[Any]:
    """Return the ids of users, page by page: that there are those."""
    desk = await _people(request)
    n, _ = _page(request)
    found = desk.shoppers.persons.named("user_id", _cursor(request), n + 1)
    return _json({"Cursor": found[n][0] if len(found) > n else "", "Users": [_user(one) for one, _ in found[:n]]})


@get(["/api/user/{user_id:str}/feedback", "/api/user/{user_id:str}/feedback/{feedback_type:str}"])
async def feedback_of_user(request: Asked) -> Response[Any]:
    """Return the events of a user about products, the oldest first; of one type or all."""
    desk = await _people(request)
    return _json(list(_feedback_of_one(desk, request)))


@get("/api/feedback/{feedback_type:str}/{user_id:str}/{item_id:str}")
async def one_feedback(request: Asked) -> Response[Any]:
    """Return the newest event of a type between a user and a product."""
    desk = await _people(request)
    item_id = request.path_params["item_id"]
    found = [one for one in _feedback_of_one(desk, request) if one["ItemId"] == item_id]
    if not found:
        raise Problem(404, "unknown_feedback", "There is no such feedback", "See GET /api/user/{user_id}/feedback")
    return _json(found[-1])


@get(["/api/feedback", "/api/feedback/{feedback_type:str}"], opt={"query": PAGE})
async def feedback(request: Asked) -> Response[Any]:
    """Return the events of users about products, page by page: user by user, of each the oldest first.

    A page may be short while its Cursor names the next. Visitors without a user_id and who did not agree are left out.
    """
    desk = await _people(request)
    n, _ = _page(request)
    given, _, user_id = _cursor(request).partition(":")
    start = _counted("cursor", given or "0")
    persons = desk.shoppers.persons
    met = persons.named("user_id", user_id, n + 1)
    found: list[dict[str, str]] = []
    for one, key in met[:n]:
        first = start if one == user_id else 0
        named_first = persons.aliases(persons.person(key), "user_id")[0]  # a person of two ids stands under that one
        told = [] if one != named_first else list(_told(desk.events(key) or [], one, request))[first:]
        room = n - len(found)
        found += told[:room]
        if len(told) > room:
            return _json({"Cursor": f"{first + room}:{one}", "Feedback": found})
        await asyncio.sleep(0)  # others are answered between two people
    return _json({"Cursor": f"0:{met[n][0]}" if len(met) > n else "", "Feedback": found})


@get(["/api/user/{user_id:str}/neighbors", "/api/user-to-user/{name:str}/{user_id:str}"])
async def no_user_neighbours(request: Asked) -> Response[Any]:
    """Refuse: customers are not held against each other."""
    _desk(request, USERS)
    cannot("No list of customers like one is kept", "Customers are grouped by: habitue apply personas")


@get(["/api/item/{item_id:str}/feedback", "/api/item/{item_id:str}/feedback/{feedback_type:str}"])
async def no_feedback_of_item(request: Asked) -> Response[Any]:
    """Refuse: events lie by person."""
    _desk(request, USERS)
    cannot("Events lie by person, not by product", "Ask GET /api/feedback, or read the lake: habitue lake read events")


@route("/api/item/{item_id:str}/category/{category:str}", http_method=["PUT", "DELETE"], status_code=200)
async def no_item_category(request: Asked) -> Response[Any]:
    """Refuse: the categories of a product are one path."""
    _desk(request, CATALOGUE)
    cannot("The categories of a product are one path, said as a whole", "PATCH the item with all of its Categories")


@delete("/api/user/{user_id:str}", status_code=200)
async def no_user_erasure(request: Asked) -> Response[Any]:
    """Refuse: a person is erased from every table and file, while no server writes to them."""
    _desk(request, USERS)
    cannot("A running server erases nobody", "Stop it, then: habitue erase USER_ID, which writes a receipt")


@delete(
    [
        "/api/feedback/{user_id:str}/{item_id:str}",
        "/api/feedback/{feedback_type:str}/{user_id:str}/{item_id:str}",
    ],
    status_code=200,
)
async def no_feedback_erasure(request: Asked) -> Response[Any]:
    """Refuse: what happened stays, or the person goes as a whole."""
    _desk(request, USERS)
    cannot("An event that was stored stays", "Send what undoes it as feedback; a person goes whole: habitue erase")


@get("/api/health/live")
async def live(request: Asked) -> Response[Any]:
    """Say that the server runs."""
    del request
    return _json({"Ready": True})


@get("/api/health/ready")
async def ready(request: Asked) -> Response[Any]:
    """Say whether it can answer."""
    desk: Desk = request.app.state.desk
    return _json({"Ready": desk.ready}, 200 if desk.ready else 503)


def cannot(found: str, instead: str) -> NoReturn:
    """Raise Problem 404 for what Gorse does and this server does not."""
    raise Problem(404, "not_done_here", found, f"{instead} (docs/serve.md)")


def _feedback_of_one(desk: Desk, request: Asked) -> Iterator[dict[str, str]]:
    """Return what the path asks of its user; nothing of nobody. Raises Problem 403 for who did not agree."""
    user_id = request.path_params["user_id"]
    key = desk.key(user_id=user_id)
    rows = [] if key is None else desk.events(key)
    if rows is None:
        raise Problem(403, "no_consent", "This customer has not agreed to personal answers", "Do without it")
    return _told(rows, user_id, request)


def _told(rows: list[Row], user_id: str, request: Asked) -> Iterator[dict[str, str]]:
    """Return events as feedback, under the type that the path asks for, or else under the kind they are stored as."""
    asked = request.path_params.get("feedback_type")
    kind = None if asked is None else kind_meant(asked)
    for row in rows:
        if row["item_id"] is not None and (asked is None or row["kind"] == kind):
            yield {
                "FeedbackType": asked or row["kind"],
                "UserId": user_id,
                "ItemId": row["item_id"],
                "Timestamp": row["at"].isoformat(),
            }


def _user(user_id: str) -> dict[str, Any]:
    return {"UserId": user_id, "Labels": None, "Comment": ""}


async def _people(request: Asked) -> Desk:
    """Return the desk for what was done by people; that it was read stands in the audit log."""
    desk, door, key = _admitted(request, USERS)
    await asyncio.to_thread(door.note, key, "users", "read")
    return desk


def _desk(request: Asked, scope: str) -> Desk:
    return _admitted(request, scope)[0]


def _admitted(request: Asked, scope: str) -> tuple[Desk, Door, Key]:
    """Return the desk to a secret key; a path that names a user is no place for a write key."""
    door, key = admitted(request, scope)
    if key.kind == "write":
        raise Problem(403, "not_allowed", f"A write key may not ask here: {SECRET_ONLY}", "Use a secret key")
    if any(len(one) > LONGEST for one in request.path_params.values()):
        raise bad("too_long", f"An id or a name has at most {LONGEST} characters")
    desk: Desk = request.app.state.desk
    return desk, door, key


def _page(request: Asked) -> tuple[int, int]:
    n, offset = _whole(request, "n", 10), _whole(request, "offset", 0)
    if not 1 <= n or n + offset > MOST:
        raise bad("n", f"n is from 1, and n + offset at most {MOST:,}")
    return n, offset


def _category(request: Asked) -> str:
    return str(request.path_params.get("category") or request.query_params.get("category", ""))


def _cursor(request: Asked) -> str:
    """Return where to go on; gorsejs sends the name with a capital letter."""
    said = request.query_params.get("cursor") or request.query_params.get("Cursor") or ""
    if len(said) > LONGEST + 13:
        raise bad("cursor", "The cursor is none that was given out")
    return said


def _whole(request: Asked, name: str, default: int) -> int:
    return _counted(name, request.query_params.get(name) or str(default))


def _counted(name: str, said: str) -> int:
    if not said.isascii() or not said.isdigit() or len(said) > 12:
        raise bad(name, f"{name} is a whole number from 0")
    return int(said)


def _list(request: Asked, answer: Answer, n: int, offset: int, *, scored: bool = False) -> Response[Any]:
    """Return the page as Gorse's answers look: item_ids, or with scores where asked for or always so."""
    page = list(zip(answer.items, answer.scores, strict=True))[offset : offset + n]
    if scored or request.headers.get("x-api-version") == "2":
        return _json([{"Id": item, "Score": score} for item, score in page])
    return _json([item for item, _ in page])


def _item(desk: Desk, place: int) -> dict[str, Any]:
    shop = desk.shop
    category = shop.category[place]
    return {
        "ItemId": shop.items[place],
        "IsHidden": not bool(shop.in_stock[place]),
        "Categories": [] if category is None else category.split(" > "),
        "Timestamp": shop.snapshot.at.isoformat(),
        "Labels": {"brand": shop.brand[place]} if shop.brand[place] else None,
        "Comment": shop.titles[place] or "",
    }


def _json(body: Any, status: int = 200) -> Response[Any]:
    return Response(json.dumps(body, ensure_ascii=False).encode(), media_type="application/json", status_code=status)
