"""Jobs: one question about many customers, answered by the child process at low priority, fetched when it is done.

    POST   /v1/jobs                 {"what": "recommendations", "user_ids": [...], "n": 5}  ->  202, a job_id
    GET    /v1/jobs/{job_id}        waiting, running (done of steps), done, failed (in words)
    GET    /v1/jobs/{job_id}/result    a line of JSON a customer; ?part=3: one part of it, to go on where one stopped
    DELETE /v1/jobs/{job_id}        cancels what has not begun

Without `user_ids` it is about every known customer. The answers are those that /v1/recommendations, /v1/predictions
and /v1/users give, by the same code (`habitue.batch`). Result files hold keys, never raw ids: ids are put in on the
way out, so somebody who was erased meanwhile is in no download.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from litestar import Response, delete, get, post
from litestar.response import Stream

from habitue.serve import work
from habitue.serve.answers import RECOMMENDATIONS, WHO, admitted, question
from habitue.serve.desk import Desk
from habitue.serve.fields import Asked, Field, of_body, of_query
from habitue.serve.keys import JOBS
from habitue.serve.persons import Persons
from habitue.serve.problems import Problem
from habitue.serve.scorer import LONGEST, bad

KIND = "batch"  # of work
WHAT = ("recommendations", "predictions", "users", "personas")
LONGEST_BODY = 2 * 1024 * 1024  # read while others wait: some 40 ms
MOST_USERS = 50_000
PARTS = "part-*.ndjson"

ASKED = (
    Field("what", "text", "recommendations, predictions, users (what is known of each) or personas", needed=True),
    Field("user_ids", "words", f"Only these customers, at most {MOST_USERS:,}; default: every known customer"),
    *(field for field in RECOMMENDATIONS if field not in WHO),
)
OF_RESULT = (Field("part", "whole", "Only this part, from 0; default: all of them, one after the other"),)


@post("/v1/jobs", status_code=202, opt={"body": ASKED})
async def submit(request: Asked) -> Response[dict[str, Any]]:
    """Queue a question about many customers. Takes a secret key."""
    door, key = admitted(request, JOBS)
    asked = await of_body(request, ASKED, longest=LONGEST_BODY)
    what, user_ids = asked.pop("what"), asked.pop("user_ids", None)
    if what not in WHAT:
        raise bad("what", f"There is no job of that name; there are {', '.join(WHAT)}")
    if what != "recommendations" and asked:
        raise bad("what", f"{what} takes user_ids only")
    if what == "personas" and user_ids is not None:
        raise bad("what", "personas are of every customer")
    if user_ids is not None and not 1 <= len(user_ids) <= MOST_USERS:
        raise bad("user_ids", f"user_ids are 1 to {MOST_USERS:,}")
    if any(len(one) > LONGEST for one in user_ids or ()):
        raise bad("too_long", f"An id has at most {LONGEST} characters")
    question(asked)  # refuses what cannot be meant, now and not in an hour
    desk: Desk = request.app.state.desk
    state, known, unknown = desk.workspace.state, None, 0
    if user_ids is not None:
        known, unknown = await asyncio.to_thread(_keys, desk.workspace.identities, user_ids)
    number = await asyncio.to_thread(_queued, state, {"what": what, "question": asked}, known)
    if request.app.state.child is not None:
        request.app.state.child.poke()
    await asyncio.to_thread(door.note, key, "jobs", what)
    return Response({"job_id": number, "state": work.WAITING, "what": what, "unknown_users": unknown})


@get("/v1/jobs")
async def every(request: Asked) -> Response[dict[str, Any]]:
    """List the newest jobs. Takes a secret key."""
    admitted(request, JOBS)
    desk: Desk = request.app.state.desk
    found = await asyncio.to_thread(lambda: work.listed(desk.workspace.state, kind=KIND))
    return Response({"jobs": [_told(job) for job in found]})


@get("/v1/jobs/{job_id:str}")
async def one(request: Asked) -> Response[dict[str, Any]]:
    """Say how far a job is. Takes a secret key."""
    admitted(request, JOBS)
    return Response(_told(await _job(request)))


@delete("/v1/jobs/{job_id:str}", status_code=200)
async def cancel(request: Asked) -> Response[dict[str, Any]]:
    """Cancel a job that has not begun. Takes a secret key."""
    admitted(request, JOBS)
    desk: Desk = request.app.state.desk
    job = await _job(request)
    if not await asyncio.to_thread(work.cancel, desk.workspace.state, job.number):
        raise Problem(409, "too_late", f"The job is {job.state}", "Only what waits can be cancelled")
    return Response({"job_id": job.number, "state": work.FAILED})


@get("/v1/jobs/{job_id:str}/result", opt={"query": OF_RESULT, "type": "application/x-ndjson"})
async def result(request: Asked) -> Stream:
    """Fetch what a job found: JSON lines, one a customer. Takes a secret key."""
    door, key = admitted(request, JOBS)
    desk: Desk = request.app.state.desk
    state = desk.workspace.state
    part = of_query(request, OF_RESULT).get("part")
    job = await _job(request)
    if job.state != work.DONE:
        raise Problem(409, "not_done", f"The job is {job.state}", "Ask /v1/jobs/{job_id} until it is done")
    parts = sorted(work.folder(state, job.number).glob(PARTS))
    if part is not None and not 0 <= part < job.result.get("parts", 0):
        raise Problem(404, "no_part", "The result has no such part", f"It has {job.result.get('parts', 0)}, from 0 on")
    if len(parts) != job.result.get("parts", 0):
        raise Problem(410, "gone", "The result is no longer whole: somebody in it was erased", "Start the job again")
    await asyncio.to_thread(door.note, key, "jobs", "fetched")
    chosen = parts if part is None else [parts[part]]
    return Stream(_lines(desk.workspace.identities, chosen), media_type="application/x-ndjson")


async def _lines(identities: Path, parts: list[Path]) -> AsyncIterator[bytes]:
    for path in parts:
        yield await asyncio.to_thread(_named, identities, path)


def _named(identities: Path, part: Path) -> bytes:
    """Return a part with each person's id in the place of the key; without people who have none any more."""
    persons = Persons(identities)
    persons.look()
    found = []
    for line in part.read_bytes().splitlines():
        row = json.loads(line)  # written aside and renamed: whole, or not there
        names = persons.aliases(row.pop("user_key"), "user_id")
        if names:
            found.append(json.dumps({"user_id": names[0], **row}, ensure_ascii=False).encode() + b"\n")
    persons.close()
    return b"".join(found)


def _keys(identities: Path, user_ids: list[str]) -> tuple[list[int], int]:
    """Return the keys of those who are known, ascending, and how many are not; not in the loop: thousands take long."""
    persons = Persons(identities)
    found = [persons.key("user_id", one) for one in dict.fromkeys(user_ids)]
    persons.close()
    known = sorted({key for key in found if key is not None})
    return known, sum(key is None for key in found)


def _queued(state: Path, arguments: dict[str, Any], keys: list[int] | None) -> str:
    """Queue the job; whom it is about lies beside, as keys: an erasure finds them there."""
    if keys is not None:
        folder = state / work.FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"asked-{secrets.token_hex(8)}.json"
        path.write_text(json.dumps(keys), encoding="utf-8")
        arguments = arguments | {"users": path.name}
    return work.submit(state, KIND, arguments)


async def _job(request: Asked) -> work.Job:
    desk: Desk = request.app.state.desk
    number = request.path_params["job_id"]
    job = await asyncio.to_thread(work.job, desk.workspace.state, number)
    if job is None or job.kind != KIND:
        raise Problem(404, "unknown_job", "There is no job of this id, or it was long ago", "See GET /v1/jobs")
    return job


def _told(job: work.Job) -> dict[str, Any]:
    def moment(seconds: float | None) -> str | None:
        return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()

    return {
        "job_id": job.number,
        "what": job.arguments.get("what"),
        "state": job.state,
        "words": job.words,
        "done": job.done,
        "steps": job.steps,
        "submitted_at": moment(job.submitted_at),
        "started_at": moment(job.started_at),
        "ended_at": moment(job.ended_at),
        **job.result,
    }
