"""Log lines of the server and its child: one JSON object a line, and nothing of anybody in them.

    {"at": "...", "level": "error", "from": "habitue.serve", "message": "...", "error": "KeyError", "where": [...]}

What we write ourselves is in words without ids (`core.errors`). What Python says of a mistake is not: a KeyError quotes
its key. So of an exception only its kind and the places in the code are written, never its text, and a message that a
library made of arguments is written before they are put in.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import traceback
from typing import Any, TextIO

from habitue.core.errors import HabitueError

OURS = "habitue"


class Lines(logging.Formatter):
    """Writes a record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        ours = record.name.split(".")[0] == OURS
        told: dict[str, Any] = {
            "at": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "from": record.name,
            "message": record.getMessage() if ours else str(record.msg),
        }
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            told["error"] = type(error).__name__
            if isinstance(error, HabitueError):
                told["words"] = str(error)
            frames = traceback.extract_tb(error.__traceback__)
            told["where"] = [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(told, ensure_ascii=False)


def listen(stream: TextIO, *, level: int = logging.WARNING) -> None:
    """Write everything that is logged from now on, by us and by libraries, to a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Lines())
    logging.basicConfig(handlers=[handler], level=level, force=True)
