"""The answers of the server about many customers, made by its child process: `habitue.serve.jobs` asks for them.

The workspace is read as the server reads it, and each customer is answered by the code that answers one request, with
the shop's rules of that moment. A part is so many customers, a file of JSON lines; what a death interrupted goes on at
the first part that is missing, with the same customers. A new model meanwhile starts the job anew: no result is of two.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from habitue import serving
from habitue.core import durable
from habitue.core.errors import LakeError, UsageError
from habitue.core.workspace import Workspace
from habitue.protect import identities, people
from habitue.serve import about, answers, events, foretold, rules, scorer, work
from habitue.serve import shop as shops
from habitue.serve.persons import Persons
from habitue.serve.scorer import Question
from habitue.serve.shop import Shop
from habitue.serve.state import Shopper, Shoppers

CUSTOMERS = 500  # of a part, and asked about at once
READING = "reading"  # in the job's folder: the workspace as it was read
ABOUT = "about.json"  # in the job's folder: which model, which moment, which customers
Said = work.Said


def run(space: Workspace, arguments: dict[str, Any], said: Said) -> dict[str, Any]:
    """Answer a job of kind "batch"; returns parts, customers and the model.

    Raises HabitueError: a workspace that cannot be read, no model that foretells what is asked.
    """
    if arguments["what"] == "personas":
        return _personas(space)
    folder = work.folder(space.state, arguments["job"])
    folder.mkdir(parents=True, exist_ok=True)
    now = dt.datetime.now(dt.UTC)
    said(0, 0, "Reading the workspace")
    shop, base = _read(space, folder / READING)
    begun = _begun(folder, space, arguments, shop, now)
    persons = Persons(space.identities)
    shoppers = Shoppers(base, persons, hot=1)
    shoppers.searches = shop.searches
    persons.look()
    answer = _answer(space, shop, arguments, dt.datetime.fromisoformat(begun["at"]))
    keys: list[int] = begun["users"]
    parts = range(0, len(keys), CUSTOMERS)
    for number, start in enumerate(parts):
        path = folder / f"part-{number:06d}.ndjson"
        if not path.exists():
            some = keys[start : start + CUSTOMERS]
            told = answer(_agreed(shop, shoppers, some))
            lines = [
                json.dumps({"user_key": key, **one}, ensure_ascii=False) for key, one in zip(some, told, strict=True)
            ]
            _keep(path, "\n".join(lines) + "\n")
        said(min(start + CUSTOMERS, len(keys)), len(keys), "Answering")
    shutil.rmtree(folder / READING, ignore_errors=True)
    (space.state / work.FOLDER / str(arguments.get("users"))).unlink(missing_ok=True)
    return {"parts": len(parts), "customers": len(keys), "model_version": begun["version"], "as_of": begun["at"]}


def _agreed(shop: Shop, shoppers: Shoppers, keys: list[int]) -> Iterator[Shopper | None]:
    """Yield the shopper of each key; None for one who did not agree to it."""
    persons = shoppers.persons
    for key in keys:
        agreed = shop.snapshot.withheld.isdisjoint(persons.members(persons.person(key)))
        yield shoppers.of(key) if agreed else None


def _read(space: Workspace, folder: Path) -> tuple[Shop, events.Base]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shops.write(serving.reading(space), folder)
    return shops.opened(folder, models=space.models), events.mapped(folder)


def _begun(folder: Path, space: Workspace, arguments: dict[str, Any], shop: Shop, now: dt.datetime) -> dict[str, Any]:
    """Return what this job is about: as an earlier try wrote it down, unless another model answers now."""
    path = folder / ABOUT
    if path.exists():
        before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))  # whole: `_keep` made it
        if before["version"] == shop.snapshot.version:
            return before
        for part in folder.glob("part-*"):
            part.unlink()
        users = before["users"]
    else:
        users = _whom(space, arguments)
    begun = {"version": shop.snapshot.version, "at": now.isoformat(), "users": users}
    _keep(path, json.dumps(begun))
    return begun


def _keep(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all, after a power cut too. Raises LakeError."""
    try:
        durable.write(path, text.encode())
    except OSError as error:
        raise LakeError(
            str(path.parent),
            found=f"what was answered cannot be written ({error.strerror})",
            consequence="The job is not done; what it has done is kept",
            remedy="Check the disk's space and the folder's rights, then start the job again",
        ) from error


def _whom(space: Workspace, arguments: dict[str, Any]) -> list[int]:
    """Return the people asked about, ascending; without a list everybody whom the shop knows by a user_id."""
    if "users" in arguments:
        path = space.state / work.FOLDER / str(arguments["users"])
        if not path.exists():
            raise UsageError(
                "jobs",
                found="the list of customers is gone: somebody on it was erased",
                consequence="Whom the job is about is unknown",
                remedy="Start the job again",
            )
        asked = set(json.loads(path.read_text(encoding="utf-8")))
        became = dict(people.joins(space.identities).iter_rows())
        return sorted({became.get(key, key) for key in asked})
    named = identities.aliases(space.identities).filter(alias_kind="user_id").select("user_key")
    if named.is_empty():
        raise UsageError(
            "jobs",
            found="the shop knows no customer by a user_id",
            consequence="There is nobody to answer about",
            remedy='Send userId in events, or import orders whose mapping says alias_kind = "user_id"',
        )
    return people.joined(named, space.identities)["user_key"].unique().sort().to_list()


def _answer(
    space: Workspace, shop: Shop, arguments: dict[str, Any], now: dt.datetime
) -> Callable[[Iterable[Shopper | None]], list[dict[str, Any]]]:
    """Return the function that answers customers; None = one who did not agree to it."""
    as_of, stale = about.moment(shop.snapshot.newest, now)
    if arguments["what"] == "recommendations":
        asked: Question = answers.question(arguments["question"])
        held = rules.listed(space.state)
        return lambda some: [answers.listed(scorer.recommend(shop, one, asked, held, now=now)) for one in some]
    if arguments["what"] == "users":
        return lambda some: [about.known(one, as_of=as_of, now=now, stale=stale) for one in some]

    def told(some: Iterable[Shopper | None]) -> list[dict[str, Any]]:
        every = list(some)
        values = iter(foretold.predictions(shop, [one for one in every if one is not None], now=as_of))
        return [
            {"code": "no_consent"}
            if one is None
            else about.predicted(shop, next(values), as_of=as_of, now=now, stale=stale)
            for one in every
        ]

    return told


def _personas(space: Workspace) -> dict[str, Any]:
    from habitue.shop import Shop as Opened

    found = Opened(space).personas()
    about.keep(space.state, found)
    return {"parts": 0, "customers": found.members.height, "personas": found.cards["name"].to_list()}
