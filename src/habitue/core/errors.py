"""Errors for people: where it happened, what was found, what it would have broken, what to do.

Every error Habitue raises on purpose derives from `HabitueError`. The command line prints its message and exits
with `exit_code`; a traceback on the screen is our own mistake, never the user's.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# Names out of somebody's file stand in messages: what moves a terminal's cursor, turns the direction of writing or is
# half a letter is written as what it is.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class HabitueError(Exception):
    """A problem in words.

    Parameters: `where` the stage, file or setting; `found` what is there, without personal data; `consequence`
    what going on would have broken; `remedy` what to do about it.
    """

    exit_code = 1

    def __init__(self, where: str, *, found: str, consequence: str, remedy: str) -> None:
        self.where, self.found, self.consequence, self.remedy = where, found, consequence, remedy
        said = f"{where}: {_sentence(found)} {_sentence(consequence)} {_sentence(remedy)}"
        super().__init__(_UNSEEN.sub(lambda letter: ascii(letter.group())[1:-1], said))


class UsageError(HabitueError):
    """The command or call is wrong: an unknown option, workspace or name."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting is unknown, missing or of the wrong type."""


class SchemaError(HabitueError):
    """A table breaks its contract."""


class InputError(HabitueError):
    """A file cannot be read as what it was said to be."""


class LakeError(HabitueError):
    """The lake or the workspace cannot be read or written."""


class QualityError(HabitueError):
    """The data is worse than the plan allows."""


class LeakageError(HabitueError):
    """A column knows the future."""


class ModelError(HabitueError):
    """A model cannot be fitted, loaded or asked."""


class MissingExtraError(HabitueError):
    """An optional package is not installed."""


class PluginError(UsageError):
    """A modality, model or application file is missing or lacks a name its folder asks for."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'?" for the closest known word, else the list of known words."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Known: {', '.join(names)}." if names else "None is known here."


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "?", "!")) else f"{text}."
