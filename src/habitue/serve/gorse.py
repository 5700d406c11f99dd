"""Gorse's reading routes, so that a shop changes one URL: PyGorse and gorsejs work as they are.

A path may end in a slash: both published clients put one before the question mark. Answers are lists of item_ids, and
with `X-API-Version: 2` of {"Id", "Score"}. Who is not known gets what everyone buys, as Gorse's own fallback does.
"""

from __future__ import annotations

import json
from typing import Any

from litestar import Response, get, post

from habitue.serve.answers import admitted
from habitue.serve.desk import Desk
from habitue.serve.fields import Asked, parsed
from habitue.serve.keys import CATALOGUE, RECOMMEND, USERS
from habitue.serve.problems import Problem
from habitue.serve.scorer import LONGEST, MOST, Answer, Filters, Question, bad

SECRET_ONLY = "Gorse's routes name users in their paths"


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
    category = str(request.path_params.get("category") or request.query_params.get("category", ""))
    n, offset = _page(request)
    question = Question(n=n + offset, filters=Filters(category=category))
    served = await desk.serve(desk.key(user_id=user_id), question)
    scored = request.scope["path"].startswith("/api/collaborative-filtering/")
    return _list(request, served.answer, n, offset, scored=scored)


@post("/api/session/recommend", status_code=200)
async def session_recommend(request: Asked) -> Response[Any]:
    """Recommend to somebody without a name, from the feedback in the body."""
    desk = _desk(request, RECOMMEND)
    said = await parsed(request)
    if not isinstance(said, list) or not all(isinstance(one, dict) for one in said):
        raise Problem(400, "invalid_request", "The body is no list of feedback", "Send a JSON list of objects")
    items = tuple(dict.fromkeys(str(one.get("ItemId", "")) for one in said if one.get("ItemId")))
    n, offset = _page(request)
    question = Question("cart", n=n + offset, item_ids=items[-50:], filters=Filters(without=items))
    return _list(request, desk.recommend(None, question), n, offset, scored=True)


@get(["/api/item/{item_id:str}/neighbors", "/api/item-to-item/{name:str}/{item_id:str}"])
async def neighbours(request: Asked) -> Response[Any]:
    """Return products alike to one; where there is none of that id, what everyone buys."""
    desk = _desk(request, RECOMMEND)
    item_id = request.path_params["item_id"]
    n, offset = _page(request)
    known = item_id in desk.shop.index
    question = Question("similar", n=n + offset, item_id=item_id) if known else Question(n=n + offset)
    return _list(request, desk.recommend(None, question), n, offset, scored=True)


@get(["/api/non-personalized/{name:str}", "/api/popular", "/api/latest"])
async def non_personalized(request: Asked) -> Response[Any]:
    """Return what everyone buys now."""
    desk = _desk(request, RECOMMEND)
    n, offset = _page(request)
    category = request.query_params.get("category", "")
    answer = desk.recommend(None, Question(n=n + offset, filters=Filters(category=category)))
    return _list(request, answer, n, offset, scored=True)


@get("/api/item/{item_id:str}")
async def item(request: Asked) -> Response[Any]:
    """Return one product."""
    desk = _desk(request, CATALOGUE)
    place = desk.shop.index.get(request.path_params["item_id"])
    if place is None:
        raise Problem(404, "unknown_item", "The item_id is not in the catalogue", "Import it, or send its events")
    return _json(_item(desk, place))


@get("/api/items")
async def items(request: Asked) -> Response[Any]:
    """Return the products, page by page."""
    desk = _desk(request, CATALOGUE)
    n, _ = _page(request)
    start = _whole(request, "cursor", 0)
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
    return _json({"UserId": user_id, "Labels": None, "Comment": ""})


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


def _desk(request: Asked, scope: str) -> Desk:
    """Return the desk to a secret key; a path that names a user is no place for a write key."""
    door, key = admitted(request, scope)
    if key.kind == "write":
        raise Problem(403, "not_allowed", f"A write key may not ask here: {SECRET_ONLY}", "Use a secret key")
    if any(len(one) > LONGEST for one in request.path_params.values()):
        raise bad("too_long", f"An id or a name has at most {LONGEST} characters")
    desk: Desk = request.app.state.desk
    return desk


def _page(request: Asked) -> tuple[int, int]:
    n, offset = _whole(request, "n", 10), _whole(request, "offset", 0)
    if not 1 <= n or n + offset > MOST:
        raise bad("n", f"n is from 1, and n + offset at most {MOST:,}")
    return n, offset


def _whole(request: Asked, name: str, default: int) -> int:
    said = request.query_params.get(name) or str(default)
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
