"""The runtime of Amazon Personalize, as its clients speak to it: boto3 and the JavaScript SDK with another endpoint.

    boto3.client("personalize-runtime", endpoint_url="http://...", aws_access_key_id="hbs_...", ...)

The access key id is a secret key of this server; the signature is not looked at, so put TLS in front. The last word of
campaignArn or recommenderArn names the placement (`.../similar`), any other is home, or similar with an itemId.
filterArn ends in exclude-bought, exclude-seen, or category with filterValues {"CATEGORY": "..."}. Shapes and limits:
the service model of botocore, API version 2018-05-22.
"""

from __future__ import annotations

import json
from typing import Any

from litestar import Response, post

from habitue.serve.answers import admitted
from habitue.serve.desk import Desk
from habitue.serve.fields import Asked, an_object
from habitue.serve.keys import RECOMMEND
from habitue.serve.problems import Problem
from habitue.serve.rules import PLACEMENTS
from habitue.serve.scorer import Answer, Filters, Question

MOST_RESULTS = 500
MOST_INPUT = 500
LONGEST = 256
NOT_THERE = ("promotions", "metadataColumns")  # read by the service, absent here: refused, never ignored


@post("/recommendations", status_code=200)
async def recommendations(request: Asked) -> Response[Any]:
    """GetRecommendations."""
    try:
        desk, asked = await _asked(request)
        n = asked.get("numResults", 25)
        if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= MOST_RESULTS:
            raise _invalid(f"numResults is a whole number from 0 to {MOST_RESULTS}")
        item = _text(asked, "itemId")
        placement = _placement(asked)
        if item and placement == "home":
            placement = "similar"
        question = Question(placement, n=n or 25, item_id=item, filters=_filters(asked))
        served = await desk.serve(_who(desk, asked), question)
        answer = served.answer
    except Problem as problem:
        return _failed(problem)
    listed = [{"itemId": one, "score": _share(answer, place)} for place, one in enumerate(answer.items)]
    return _json({"itemList": listed, "recommendationId": served.recommendation_id})


@post("/personalize-ranking", status_code=200)
async def ranking(request: Asked) -> Response[Any]:
    """GetPersonalizedRanking; products that may not be shown come last, in their order and without a score."""
    try:
        desk, asked = await _asked(request)
        given = asked.get("inputList")
        if not isinstance(given, list) or not given or not all(isinstance(one, str) for one in given):
            raise _invalid("inputList is a list of item ids, and not empty")
        if len(given) > MOST_INPUT:
            raise _invalid(f"inputList has at most {MOST_INPUT} item ids")
        question = Question("search", n=len(given), item_ids=tuple(given), filters=_filters(asked))
        served = await desk.serve(_who(desk, asked), question)
        answer = served.answer
    except Problem as problem:
        return _failed(problem)
    listed = [{"itemId": one, "score": _share(answer, place)} for place, one in enumerate(answer.items)]
    rest = [{"itemId": one} for one in dict.fromkeys(given) if one not in answer.items]
    return _json({"personalizedRanking": listed + rest, "recommendationId": served.recommendation_id})


async def _asked(request: Asked) -> tuple[Desk, dict[str, Any]]:
    _, key = admitted(request, RECOMMEND)
    if key.kind == "write":
        raise Problem(403, "not_allowed", "A write key may not ask for a named user", "Use a secret key")
    asked = await an_object(request)
    for name in NOT_THERE:
        if asked.get(name):
            raise _invalid(f"{name} is not known here")
    desk: Desk = request.app.state.desk
    return desk, asked


def _who(desk: Desk, asked: dict[str, Any]) -> int | None:
    """Return the user, else the visitor of that id."""
    named = _text(asked, "userId")
    if not named:
        return None
    key = desk.key(user_id=named)
    return desk.key(anonymous_id=named) if key is None else key


def _placement(asked: dict[str, Any]) -> str:
    word = (_text(asked, "recommenderArn") or _text(asked, "campaignArn")).replace("/", ":").rsplit(":", 1)[-1]
    return word if word in PLACEMENTS and word != "search" else "home"


def _filters(asked: dict[str, Any]) -> Filters:
    name = _text(asked, "filterArn").replace("/", ":").rsplit(":", 1)[-1]
    values = asked.get("filterValues") or {}
    if not isinstance(values, dict) or not all(isinstance(one, str) for one in values.values()):
        raise _invalid("filterValues is an object of text")
    if name in ("exclude-bought", "exclude-seen"):
        return Filters(exclude=frozenset({name.removeprefix("exclude-")}))
    if name == "category" and set(values) == {"CATEGORY"}:
        return Filters(category=values["CATEGORY"].strip('"'))
    if name:
        raise _invalid("There is no filter of that name: exclude-bought, exclude-seen, category with CATEGORY")
    return Filters()


def _text(asked: dict[str, Any], name: str) -> str:
    value = asked.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > LONGEST:
        raise _invalid(f"{name} is text of at most {LONGEST} characters")
    return value


def _share(answer: Answer, place: int) -> float:
    """Return a score from 0 to 1, as the service gives it: the place of the score between the list's ends."""
    low, high = answer.scores[-1], max(answer.scores)
    score = (answer.scores[place] - low) / (high - low) if high > low else 1.0
    return round(min(max(score, 0.0), 1.0), 7)


def _invalid(message: str) -> Problem:
    return Problem(400, "InvalidInputException", message, "See the service model of Amazon Personalize")


def _failed(problem: Problem) -> Response[Any]:
    """Answer an error as the service does, so that its clients raise the exception they know."""
    kind = {404: "ResourceNotFoundException", 400: "InvalidInputException"}.get(problem.status, problem.code)
    body = problem.body() | {"__type": kind}
    headers = problem.headers() | {"x-amzn-errortype": kind}
    return Response(
        json.dumps(body).encode(), media_type="application/json", status_code=problem.status, headers=headers
    )


def _json(body: Any) -> Response[Any]:
    return Response(json.dumps(body, ensure_ascii=False).encode(), media_type="application/json", status_code=200)
