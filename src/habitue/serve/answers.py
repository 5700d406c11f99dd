"""The routes that answer: lists of products, what is foretold, one customer; and user tokens.

A write key asks for the anonymous_id it names, and is answered for that visitor alone; or for the user that an
X-User-Token proves; everything else takes a secret key (keys.py). An id may stand in the query, but a body or a header
keeps it out of other people's logs.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from litestar import Response, get, post

from habitue.protect import people
from habitue.serve.collecting import from_elsewhere, key_of
from habitue.serve.desk import Desk, Served
from habitue.serve.fields import Asked, Field, header, of_body, of_query
from habitue.serve.keys import PREDICT, RECOMMEND, TOKENS, USERS, Door, Key, user_token
from habitue.serve.problems import Problem
from habitue.serve.scorer import LONGEST, Answer, Filters, Question, bad

TOKEN = "X-User-Token"

WHO = (
    Field("user_id", "text", "The customer's id in the shop; a write key needs a user token for it"),
    Field("anonymous_id", "text", "The visitor's id, as the tracker sends it"),
)
RECOMMENDATIONS = (
    *WHO,
    Field("placement", "text", "home (default), similar, bought_together, cart, session or search"),
    Field("n", "whole", "How many products, 1 to 1,000; default 10"),
    Field("item_id", "text", "The product that similar and bought_together are about"),
    Field("item_ids", "words", "search: the products found; cart: what is in it (default: what the events say)"),
    Field("category", "text", "Only products of this category and below it"),
    Field("brand", "text", "Only products of this brand"),
    Field("price_from", "number", "Only products that cost so much or more"),
    Field("price_to", "number", "Only products that cost so much or less"),
    Field("exclude", "words", "bought and seen: products the customer knows already"),
    Field("without", "words", "item_ids that are not to be in the list"),
    Field("strict", "yes", "Where nothing fits: an error, not a list without the filters"),
    Field("diversity", "number", "0 (default) to 1: hold back products like those above them"),
    Field("price", "number", "-1 to 1: lower or raise dear products"),
    Field("explain", "yes", "Say why"),
)
TOKEN_FIELDS = (
    Field("user_id", "text", "The customer it proves", needed=True),
    Field("seconds", "whole", "How long it lives, 1 to 86,400; default 3,600"),
)


@get("/v1/recommendations", opt={"query": RECOMMENDATIONS})
async def recommendations_of_query(request: Asked) -> Response[dict[str, Any]]:
    """Recommend products to somebody, or beside a product; the question stands in the query."""
    return await _recommended(request, of_query(request, RECOMMENDATIONS))


@post("/v1/recommendations", status_code=200, opt={"body": RECOMMENDATIONS})
async def recommendations(request: Asked) -> Response[dict[str, Any]]:
    """Recommend products to somebody, or beside a product; the question stands in the body."""
    return await _recommended(request, await of_body(request, RECOMMENDATIONS))


@get("/v1/predictions", opt={"query": WHO})
async def predictions_of_query(request: Asked) -> Response[dict[str, Any]]:
    """Foretell what a customer does next: purchase, churn, value, the next action. Takes a secret key."""
    return await _predicted(request, of_query(request, WHO))


@post("/v1/predictions", status_code=200, opt={"body": WHO})
async def predictions(request: Asked) -> Response[dict[str, Any]]:
    """Foretell what a customer does next; who stands in the body. Takes a secret key."""
    return await _predicted(request, await of_body(request, WHO))


@get("/v1/users/{user_id:str}")
async def user(request: Asked) -> Response[dict[str, Any]]:
    """Return what is known of one customer: ids, declared features, what was done last. Takes a secret key."""
    door, key = admitted(request, USERS)
    user_id = request.path_params["user_id"]
    _short({"user_id": user_id})
    desk: Desk = request.app.state.desk
    found = desk.key(user_id=user_id)
    await asyncio.to_thread(door.note, key, "users", "unknown" if found is None else "found")
    if found is None:
        raise unknown_user()
    return Response(
        {
            "user_id": user_id,
            "pseudonym": people.pseudonym(found),
            "anonymous_ids": desk.aliases(found, "anonymous_id"),
            **desk.known(found),
        }
    )


@post("/v1/tokens", status_code=200, opt={"body": TOKEN_FIELDS})
async def tokens(request: Asked) -> Response[dict[str, Any]]:
    """Sign a user token for a page: with it a write key may ask for this customer. Takes a secret key."""
    door, key = admitted(request, TOKENS)
    asked = await of_body(request, TOKEN_FIELDS)
    _short(asked)
    seconds = asked.get("seconds", 3_600)
    if not 1 <= seconds <= 86_400:
        raise bad("seconds", "seconds is from 1 to 86,400")
    token = await asyncio.to_thread(user_token, door.state, asked["user_id"], lives_s=seconds)
    await asyncio.to_thread(door.note, key, "tokens", "signed")
    return Response({"user_token": token, "expires_in": seconds})


def admitted(request: Asked, scope: str) -> tuple[Door, Key]:
    """Return the door and the key that came, which may do `scope`. Raises Problem 401, 403, 429."""
    door: Door = request.app.state.door
    return door, door.admit(key_of(request), scope, page=from_elsewhere(request))


def named(request: Asked, door: Door, key: Key, asked: dict[str, Any]) -> tuple[int | None, bool]:
    """Return the key of who is asked about, None = nobody known, and whether it is the visitor alone.

    Whoever has a write key, so anybody, may send a login of whom they like. So a visitor whom a write key names is
    answered for what was done under that visitor's id, not for the customer it was joined to: that takes a user token.
    Raises Problem 400, 401 and 403.
    """
    _short(asked)
    user_id, anonymous_id = asked.get("user_id"), asked.get("anonymous_id")
    token = header(request, TOKEN)
    if token:
        proven = door.user(key, token)
        if user_id not in (None, proven):
            raise Problem(
                403, "not_allowed", "The user token is another user's", f"Send the token of this user in {TOKEN}"
            )
        user_id = proven
    elif user_id is not None and key.kind == "write":
        raise Problem(
            403,
            "not_allowed",
            "A write key may not ask for a named user",
            f"Ask with the anonymous_id, or send a user token in {TOKEN} (POST /v1/tokens)",
        )
    desk: Desk = request.app.state.desk
    if (found := None if user_id is None else desk.key(user_id=user_id)) is not None:
        return found, False
    return desk.key(anonymous_id=anonymous_id), key.kind == "write"


def unknown_user() -> Problem:
    """Return the 404 of somebody this shop has never met."""
    return Problem(404, "unknown_user", "Nobody of this id has been met", "Send its events first, or import them")


async def _recommended(request: Asked, asked: dict[str, Any]) -> Response[dict[str, Any]]:
    began = time.perf_counter()
    door, key = admitted(request, RECOMMEND)
    who, alone = named(request, door, key, asked)
    desk: Desk = request.app.state.desk
    served = await desk.serve(who, question(asked), alone=alone)
    return Response(body(served, began))


def question(asked: dict[str, Any]) -> Question:
    """Return the question that a request asks. Raises Problem 400."""
    of_filters = {
        name: asked[name] for name in ("category", "brand", "price_from", "price_to", "strict") if name in asked
    }
    filters = Filters(
        exclude=frozenset(asked.get("exclude", ())), without=tuple(asked.get("without", ())), **of_filters
    )
    names = ("placement", "n", "item_id", "diversity", "price", "explain")
    return Question(
        item_ids=tuple(asked.get("item_ids", ())), filters=filters, **{k: asked[k] for k in names if k in asked}
    )


def body(served: Served, began: float) -> dict[str, Any]:
    """Return a list as /v1/recommendations answers; `began`: time.perf_counter() of the request."""
    took = round((time.perf_counter() - began) * 1000, 3)
    return {
        "recommendation_id": served.recommendation_id,
        **listed(served.answer),
        "experiments": served.arms,
        "took_ms": took,
    }


def listed(answer: Answer) -> dict[str, Any]:
    """Return a list as the API writes it."""
    why = [[{"code": r.code, "text": r.text, "weight": r.weight} for r in one] for one in answer.reasons]
    reasons = why or [[]] * len(answer.items)
    return {
        "model": answer.model,
        "model_version": answer.version,
        "items": [
            {"item_id": item, "score": score, "rank": rank, "reasons": why}
            for rank, (item, score, why) in enumerate(zip(answer.items, answer.scores, reasons, strict=True), 1)
        ],
        "fallback": answer.fallback,
    }


async def _predicted(request: Asked, asked: dict[str, Any]) -> Response[dict[str, Any]]:
    door, key = admitted(request, PREDICT)
    who, _ = named(request, door, key, asked)
    if who is None and not (asked.get("user_id") or asked.get("anonymous_id") or header(request, TOKEN)):
        raise bad("user_id", "The question names nobody: it needs a user_id or an anonymous_id")
    desk: Desk = request.app.state.desk
    await asyncio.to_thread(door.note, key, "predictions", "unknown" if who is None else "asked")
    if who is None:
        raise unknown_user()
    return Response(desk.predict(who))


def _short(asked: dict[str, Any]) -> None:
    for name in ("user_id", "anonymous_id"):
        if len(asked.get(name) or "") > LONGEST:
            raise bad("too_long", f"{name} has more than {LONGEST} characters")
