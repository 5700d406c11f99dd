"""The script a shop without a tracker puts into its pages: `habitue.js` beside this file, as it stands."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

from litestar import Request, Response, get
from litestar.datastructures import State

_SCRIPT = (Path(__file__).parent / "habitue.js").read_bytes()
_PACKED = gzip.compress(_SCRIPT, 9, mtime=0)
_TAG = f'"{hashlib.sha256(_SCRIPT).hexdigest()[:16]}"'
_HEADERS = {"Cache-Control": "public, max-age=3600", "ETag": _TAG, "Vary": "Accept-Encoding"}


@get("/habitue.js", opt={"type": "text/javascript"})
async def script(request: Request[Any, Any, State]) -> Response[bytes]:
    """Return the script; browsers keep it for an hour and then ask whether it has changed."""
    if request.headers.get("if-none-match") == _TAG:
        return Response(b"", status_code=304, headers=_HEADERS)
    packed = "gzip" in request.headers.get("accept-encoding", "")
    headers = _HEADERS | {"X-Content-Type-Options": "nosniff"} | ({"Content-Encoding": "gzip"} if packed else {})
    return Response(_PACKED if packed else _SCRIPT, media_type="text/javascript", headers=headers)
