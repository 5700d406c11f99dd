"""What is said of one person: what they do next, and what is known of them; and how old that is.

**As of when.** A prediction counts the days since somebody's last order. Where the shop itself has been silent for
STALE or longer, nobody knows what its customers did since, and counting on would call them all lost: then the moment is
the newest event of the shop, `stale` is true and `notes` says so. Otherwise it is now.

**Two heads, one story.** `churn` (the blend, at the model's horizon) and `churn_within_days` (the flagship alone) are
told by different models. Who has not ordered within 90 days has not within 30: where the blend is off that order by
more than SLACK, `notes` says so.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from habitue.apply.personas import Personas as Found
from habitue.core.errors import LakeError
from habitue.serve.shop import Shop
from habitue.serve.state import Shopper

STALE = dt.timedelta(days=7)  # without any event of anybody
SLACK = 0.1  # of a probability, that two models may differ before it is said
STEPS = 50  # newest sets of a timeline
PERSONAS = "personas.json"  # in state/: what `habitue apply personas` found last


def moment(newest: dt.datetime | None, now: dt.datetime) -> tuple[dt.datetime, bool]:
    """Return as of when somebody is told about, and whether the data are stale; `newest`: the shop's latest event."""
    if newest is None or now - newest < STALE:
        return now, False
    return newest + dt.timedelta(microseconds=1), True


def predicted(
    shop: Shop, told: Mapping[str, float], *, as_of: dt.datetime, now: dt.datetime, stale: bool
) -> dict[str, Any]:
    """Return the answer of /v1/predictions; `told`: one of `foretold.predictions` at `as_of`."""
    later = {name.removeprefix("churn_"): value for name, value in told.items() if name.startswith("churn_")}
    following = {name.removeprefix("next_"): value for name, value in told.items() if name.startswith("next_")}
    horizon = shop.snapshot.horizon_days
    notes = [_old(as_of, now)] if stale else []
    notes += _disagreement(float(told["churn"]), horizon, {int(days): value for days, value in later.items()})
    return {
        "model": shop.model,
        "model_version": shop.snapshot.version,
        "as_of": as_of.isoformat(),
        "stale": stale,
        "notes": notes,
        "horizon_days": horizon,
        "churn": told["churn"],
        "purchase": 1 - told["churn"],
        "value": told["value"],
        "churn_within_days": later,
        "next_action": following,
    }


def known(shopper: Shopper | None, *, as_of: dt.datetime, now: dt.datetime, stale: bool) -> dict[str, Any]:
    """Return what /v1/users says of somebody's past; None = they did not agree to it."""
    newest = [] if shopper is None else list(reversed(shopper.sets[-STEPS:]))
    return {
        "as_of": as_of.isoformat(),
        "stale": stale,
        "notes": [_old(as_of, now)] if stale else [],
        "features": None if shopper is None else shopper.values(as_of),
        "timeline": [{"at": one.at.isoformat(), "kind": one.kind, "item_ids": sorted(one.items)} for one in newest],
    }


@dataclass
class Personas:
    """Who is in which persona, as `habitue apply personas` wrote it last; read again when the file has changed."""

    state: Path
    _seen: object = None
    _cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    _members: dict[int, tuple[str, float | None]] = field(default_factory=dict)
    _as_of: str = ""

    def of(self, keys: set[int]) -> dict[str, Any] | None:
        """Return a person's persona, or None where nobody grouped them. Raises LakeError for a broken file."""
        self._refresh()
        found = next((self._members[key] for key in sorted(keys) if key in self._members), None)
        if found is None:
            return None
        name, probability = found
        return {**self._cards[name], "probability": probability, "as_of": self._as_of}

    def _refresh(self) -> None:
        path = self.state / PERSONAS
        try:
            stat = path.stat()
        except FileNotFoundError:
            self._seen, self._members = None, {}
            return
        seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if seen == self._seen:
            return
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            self._cards = {card["name"]: card for card in said["personas"]}
            self._members = {int(key): (str(name), share) for key, name, share in said["members"]}
            self._as_of = str(said["as_of"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LakeError(
                PERSONAS,
                found=f"the personas cannot be read ({type(error).__name__})",
                consequence="Nobody's persona can be told",
                remedy="Delete the file, and make them again: habitue apply personas",
            ) from error
        self._seen = seen


def keep(state: Path, found: Found) -> None:
    """Write personas down for the server: names, sentences, and who is in which. Raises LakeError."""
    cards = found.cards.select("name", "sentence", "sure", "share").to_dicts()
    said = {
        "as_of": found.as_of.isoformat(),
        "personas": cards,
        "members": [list(row) for row in found.members.select("user_key", "name", "probability").iter_rows()],
    }
    draft = state / f".{PERSONAS}.draft"
    try:
        state.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(said, ensure_ascii=False), encoding="utf-8")
        draft.replace(state / PERSONAS)
    except OSError as error:
        raise LakeError(
            PERSONAS,
            found=f"the personas cannot be written ({error.strerror})",
            consequence="The server goes on with those it has",
            remedy="Check the disk's space and the rights of the workspace's folder 'state'",
        ) from error


def _old(as_of: dt.datetime, now: dt.datetime) -> str:
    days = (now - as_of).days
    return (
        f"The data are stale: the shop's newest event is {days:,} days old ({as_of:%Y-%m-%d}). What is told here is as "
        "of that moment."
    )


def _disagreement(churn: float, horizon: int, alone: Mapping[int, float]) -> list[str]:
    """Say where the blend's churn lies outside what the flagship tells of shorter and longer times."""
    shorter = [value for days, value in alone.items() if days <= horizon]
    longer = [value for days, value in alone.items() if days >= horizon]
    low, high = max(longer, default=0.0), min(shorter, default=1.0)
    if low - SLACK <= churn <= high + SLACK:
        return []
    return [
        f"churn ({churn:.0%} within {horizon} days) and churn_within_days are told by different models, and do not "
        f"agree: the second speaks for {low:.0%} to {high:.0%}. Take neither for certain."
    ]
