"""An error as an HTTP answer: a status, one word a program reads, a sentence a person reads, and what to do.

    {"success": false, "code": "not_allowed", "message": "...", "detail": "..."}

Trackers read `code` and `message`, and one of them sends again what was refused without them (docs/serve.md).
"""

from __future__ import annotations

from typing import Any

from habitue.core.errors import HabitueError


class Problem(HabitueError):
    """What a client did wrong or the server cannot do; never with personal data in it."""

    def __init__(self, status: int, code: str, message: str, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(code, found=message, consequence="The request was not answered", remedy=detail)
        self.status = status
        self.code = code
        self.message = message
        self.detail = detail
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """Return the JSON of the answer."""
        return {"success": False, "code": self.code, "message": self.message, "detail": self.detail}

    def headers(self) -> dict[str, str]:
        """Return the headers of the answer."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
