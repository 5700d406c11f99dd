"""Fitted models on disk: damaged, outdated, left over, trained on somebody who was erased."""

from __future__ import annotations

import datetime as dt
import json

from habitue.core.errors import HabitueError, SettingsError
from habitue.core.schemas import EVENTS
from habitue.core.settings import moment
from habitue.core.workspace import Workspace
from habitue.doctor.finding import BROKEN, FINE, NOTICE, Finding


def findings(space: Workspace) -> list[Finding]:
    """Return what is wrong with the models, by `models/<name>/<version>`."""
    from habitue.model import artifact

    found, whole = [], 0
    erased = _erased(space)
    last = _last(space)
    for path in sorted(p for p in space.models.glob("*/*") if p.is_dir()):
        where = f"models/{path.parent.name}/{path.name}"
        if path.name.startswith("."):
            words = "A training was interrupted here."
            found.append(
                Finding(NOTICE, where, words, "The same habitue train goes on from it; or take the folder away")
            )
            continue
        try:
            manifest = artifact.inspect(path)
        except HabitueError as error:
            found.append(Finding(BROKEN, where, f"{error.found}.", error.remedy))
            continue
        whole += 1
        if where.removeprefix("models/") in erased:
            words = "It was trained on somebody who has been erased since."
            found.append(Finding(BROKEN, where, words, "Run habitue train, then take the folder away"))
        as_of = _moment(manifest)
        if as_of is not None and (last is None or as_of > last + dt.timedelta(days=1)):
            words = f"It knows the shop up to {as_of:%Y-%m-%d}, and the events end " + (
                "before they begin: there is none." if last is None else f"on {last:%Y-%m-%d}."
            )
            found.append(Finding(NOTICE, where, words, "It is of other data: take it away, or bring the data back"))
    if not whole:
        found.append(
            Finding(NOTICE, "models", "No model is trained: recommend and predict cannot answer.", "habitue train")
        )
    return [*found, Finding(FINE, "models", f"{whole} can be read.")]


def _erased(space: Workspace) -> set[str]:
    """Return the models that receipts of erasures name."""
    named: set[str] = set()
    for path in sorted(space.receipts.glob("erasure-*.json")):
        try:
            named |= set(json.loads(path.read_bytes())["models_to_retrain"])
        except (ValueError, KeyError, TypeError):
            continue  # `habitue erase --verify` says what is wrong with a receipt
    return named


def _last(space: Workspace) -> dt.datetime | None:
    try:
        last = space.lake.read(EVENTS, columns=["at"])["at"].max()
    except HabitueError:
        return None
    return last if isinstance(last, dt.datetime) else None


def _moment(manifest: dict[str, object]) -> dt.datetime | None:
    added = manifest.get("added")
    as_of = added.get("as_of") if isinstance(added, dict) else None
    try:
        return moment(as_of) if isinstance(as_of, str) else None
    except SettingsError:
        return None
