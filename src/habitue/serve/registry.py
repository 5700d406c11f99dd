"""Which of the trained models answers: the promoted one, or the newest when nobody promoted any.

    models/blend/<version>/       what `habitue train` wrote, newest last by name
    models/blend/promoted.json    versions in the order they were promoted, the last one answers

A running server looks at this every few seconds and goes over to another model between two requests.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from habitue.core.errors import ModelError, UsageError, did_you_mean

MODEL = "blend"
FILE = "promoted.json"


@dataclass(frozen=True)
class Version:
    """A trained model."""

    name: str
    folder: Path
    answers: bool


def listed(models: Path) -> list[Version]:
    """Return the trained models, oldest first; `models`: the workspace's folder of that name."""
    names = _names(models)
    now = _current(names, _history(models))
    return [Version(name, models / MODEL / name, name == now) for name in names]


def current(models: Path) -> Path | None:
    """Return the folder of the model that answers, or None when there is none. Raises ModelError."""
    name = _current(_names(models), _history(models))
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
    before = _current(names, history)
    _write(models, [*(history or [] if before is None else [before] if not history else history), version])
    return before


def rollback(models: Path) -> str:
    """Let the model answer that did before the last promotion; returns it. Raises UsageError when there is none."""
    names = _names(models)
    history = [name for name in _history(models)[:-1] if name in names]
    if not history:
        raise UsageError(
            "models rollback",
            found="no model was promoted before the one that answers",
            consequence="Nothing was changed",
            remedy="Name one of `habitue models trained`: habitue models promote VERSION",
        )
    _write(models, history)
    return history[-1]


def _names(models: Path) -> list[str]:
    return sorted(path.name for path in (models / MODEL).glob("[0-9]*") if path.is_dir())


def _current(names: Sequence[str], history: Sequence[str]) -> str | None:
    chosen = [name for name in history if name in names]
    return chosen[-1] if chosen else (names[-1] if names else None)


def _history(models: Path) -> list[str]:
    path = models / MODEL / FILE
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(path) from error
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise _broken(path)
    return found


def _write(models: Path, history: list[str]) -> None:
    path = models / MODEL / FILE
    draft = path.with_name(f".{FILE}.draft")
    draft.write_text(json.dumps(history), encoding="utf-8")
    draft.replace(path)


def _broken(path: Path) -> ModelError:
    return ModelError(
        str(path),
        found="the list of promoted models cannot be read",
        consequence="Which model should answer is unknown",
        remedy="Delete the file, then promote the model you want: habitue models promote VERSION",
    )
