"""Which of the trained models answers: the promoted one, or the newest when nobody promoted any.

    models/blend/<version>/       what `habitue train` wrote, newest last by name
    models/blend/promoted.json    versions in the order they were promoted, the last one answers
    models/blend/canary.json      a version that is tried out, and on what share of the customers

A version that is tried out answers nobody else until it is promoted. A running server looks at this every few seconds
and goes over to another model between two requests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from habitue.core import durable
from habitue.core.errors import ModelError, UsageError, did_you_mean

MODEL = "blend"
FILE, CANARY = "promoted.json", "canary.json"


@dataclass(frozen=True)
class Adapt:
    """The section `[adapt]` of habitue.toml: how the model follows its shop (`habitue.adapting`)."""

    every_hours: float = 0.0  # between two tries; 0 = never, whatever the data do
    drift: float = 0.25  # PSI of a column of the events from which it is tried at once; 0 = only by the clock
    drift_hours: float = 24.0  # between two looks at it, and at least so long after a try
    drift_days: float = 7.0  # held against as many before them
    passes: float = 0.2  # of those of a whole training
    rate: float = 0.5  # of its learning rate
    budget_s: float = 1_800.0  # CPU-seconds of the flagship's training
    margin: float = 0.05  # share of the present NDCG@10 that the low end of the difference may lie below 0
    least_orders: int = 90  # since the model was trained; a third of them judge
    canary: float = 0.0  # share of the customers who get it first; 0 = it is promoted when it was not refused


@dataclass(frozen=True)
class Canary:
    """A version that is tried out on a share of the customers."""

    version: str
    share: float

    def gets(self, person: int) -> bool:
        """Whether a person is among them: always the same ones, by a hash of the version and the person."""
        digest = hashlib.sha256(f"{self.version} {person}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2**64


@dataclass(frozen=True)
class Version:
    """A trained model."""

    name: str
    folder: Path
    answers: bool


def listed(models: Path) -> list[Version]:
    """Return the trained models, oldest first; `models`: the workspace's folder of that name."""
    names = _names(models)
    answering = _current(_answering(models), _history(models))
    return [Version(name, models / MODEL / name, name == answering) for name in names]


def current(models: Path) -> Path | None:
    """Return the folder of the model that answers, or None when there is none. Raises ModelError."""
    name = _current(_answering(models), _history(models))
    return None if name is None else models / MODEL / name


def promote(models: Path, version: str) -> str | None:
    """Let a trained model answer; returns the one that answered before. Raises UsageError for one there is not."""
    names, history = _names(models), _history(models)
    if version not in names:
        raise UsageError(
            "models promote",
            found=f"there is no trained model '{version}'",
            consequence="Nothing was changed",
            remedy=did_you_mean(version, names) if names else "Train one: habitue train",
        )
    before = _current(_answering(models), history)
    _write(models, FILE, [*(history or [] if before is None else [before] if not history else history), version])
    (models / MODEL / CANARY).unlink(missing_ok=True)
    return before


def keep(models: Path) -> None:
    """Let the model that answers go on answering when newer ones come: from now on only `promote` changes it."""
    history, answering = _history(models), current(models)
    if not history and answering is not None:
        _write(models, FILE, [answering.name])


def try_out(models: Path, version: str, *, share: float) -> None:
    """Let a version, trained or about to be, answer a share of the customers. Raises UsageError for a share of none."""
    if not 0 < share < 1:
        raise UsageError(
            "models canary",
            found=f"a share of {share:g}",
            consequence="Nobody, or everybody, would get the new model",
            remedy="Give a share above 0 and below 1, or promote it: habitue models promote",
        )
    keep(models)
    _write(models, CANARY, {"version": version, "share": share})


def canary(models: Path) -> Canary | None:
    """Return what is tried out now; None for nothing, and while it is not there yet. Raises ModelError."""
    told = _read(models / MODEL / CANARY)
    if told is None:
        return None
    if not isinstance(told, dict) or not isinstance(told.get("version"), str):
        raise _broken(models / MODEL / CANARY)
    return Canary(told["version"], float(told["share"])) if told["version"] in _names(models) else None


def rollback(models: Path) -> str:
    """Let the model answer that did before the one that answers, else the one trained before it; returns it.

    Raises UsageError when there is none. Where one is tried out, that ends, and the model that answered goes on.
    """
    if (models / MODEL / CANARY).exists():
        (models / MODEL / CANARY).unlink()
        now = current(models)
        assert now is not None, "a model was tried out where none answers"
        return now.name
    names = _names(models)
    answering = _current(names, _history(models))
    history = [name for name in _history(models) if name in names]
    while history and history[-1] == answering:
        history.pop()
    history = history or [name for name in names if answering is not None and name < answering][-1:]
    if not history:
        raise UsageError(
            "models rollback",
            found="no model answered or was trained before the one that answers",
            consequence="Nothing was changed",
            remedy="Name one of `habitue models trained`: habitue models promote VERSION",
        )
    _write(models, FILE, history)
    return history[-1]


def _names(models: Path) -> list[str]:
    return sorted(path.name for path in (models / MODEL).glob("[0-9]*") if path.is_dir())


def _answering(models: Path) -> list[str]:
    """Return the versions that may answer everybody."""
    told = _read(models / MODEL / CANARY)
    tried = told.get("version") if isinstance(told, dict) else None
    return [name for name in _names(models) if name != tried]


def _current(names: Sequence[str], history: Sequence[str]) -> str | None:
    chosen = [name for name in history if name in names]
    return chosen[-1] if chosen else (names[-1] if names else None)


def _history(models: Path) -> list[str]:
    path = models / MODEL / FILE
    found = _read(path)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise _broken(path)
    return found


def _read(path: Path) -> Any:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(path) from error


def _write(models: Path, name: str, told: Any) -> None:
    path = models / MODEL / name
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write(path, json.dumps(told).encode())


def _broken(path: Path) -> ModelError:
    return ModelError(
        str(path),
        found="the list of promoted models cannot be read",
        consequence="Which model should answer is unknown",
        remedy="Delete the file, then promote the model you want: habitue models promote VERSION",
    )
