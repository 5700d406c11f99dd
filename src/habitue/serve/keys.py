"""Who may ask the server for what: keys hashed at rest, and signed tokens that prove who a shopper is.

| key | stands | may |
|---|---|---|
| write | in every page, so it is public | send events; ask for the anonymous_id it names, or with a user token |
| secret | on the shop's own servers | everything its scopes say, about named users too |

A key is `hbw_` or `hbs_`, 8 hex digits that name it (they stand in lists and in the audit log), and 43 characters of
secret randomness. The operational store (operational.py) holds the SHA-256 of the whole: it is drawn, not
chosen by a person, so there is nothing to guess and a slow hash would bring nothing. A rotated key goes on for a
while beside its successor.

A user token says "the shopper with this key is user X until then", signed with HMAC-SHA256 by the server's own secret:

    base64url(JSON [user_id, expires, kid of the write key or ""]) . base64url(HMAC)

Without any key the server answers everybody on this machine, and listens there only; pages of other origins, which a
browser on this machine may have open, then get what a write key would.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from habitue.core.errors import LakeError, UsageError, did_you_mean
from habitue.serve import operational
from habitue.serve.operational import Book, Followed
from habitue.serve.problems import Problem

KINDS = ("write", "secret")
PREFIX = {"write": "hbw", "secret": "hbs"}
COLLECT, RECOMMEND, PREDICT = "collect", "recommend", "predict"
USERS, CATALOGUE, TOKENS, JOBS = "users", "catalogue", "tokens", "jobs"
SCOPES = {  # what each kind may be given, and gets unless told otherwise
    "write": (COLLECT, RECOMMEND),
    "secret": (COLLECT, RECOMMEND, PREDICT, USERS, CATALOGUE, TOKENS, JOBS),
}
RATE = {"write": 1_000.0, "secret": 1_000.0}  # requests a second
UNKNOWN = "unknown"  # in the audit log, in the place of a key that there is not
BURST_S = 2.0  # a key may spend so many seconds of its rate at once
TOKEN_S = 3_600  # a user token lives so long unless asked otherwise
TOKEN_MOST_S = 86_400
_log = logging.getLogger("habitue.serve")
LOOK_S = 1.0  # how often the file is looked at: a revoked key is refused within a second


@dataclass(frozen=True)
class Key:
    """What is known of a key; its text is known to its holder alone."""

    id: str
    kind: str
    scopes: tuple[str, ...]
    rate: float  # requests a second
    made_at: float
    ends_at: float | None
    note: str

    def ended(self, now: float) -> bool:
        """Whether it was revoked, or its time after a rotation is over."""
        return self.ends_at is not None and self.ends_at <= now


ANYBODY = Key("open", "secret", SCOPES["secret"], float("inf"), 0.0, None, "no key was made, this machine only")
PAGE = replace(ANYBODY, kind="write", scopes=SCOPES["write"], note="a page elsewhere, while no key was made")


def create(
    state: Path, kind: str, *, scopes: Sequence[str] = (), rate: float | None = None, note: str = ""
) -> tuple[Key, str]:
    """Make a key and return it with its text, which is shown this once. `state`: the workspace's folder of that name.

    Raises UsageError for a kind, a scope or a rate that there is not.
    """
    if kind not in KINDS:
        raise _wrong(f"there is no kind of key '{kind}'", did_you_mean(kind, KINDS))
    unknown = [scope for scope in scopes if scope not in SCOPES[kind]]
    if unknown:
        raise _wrong(f"a {kind} key cannot have the scope '{unknown[0]}'", did_you_mean(unknown[0], SCOPES[kind]))
    rate = RATE[kind] if rate is None else rate
    if not 0 < rate < float("inf"):
        raise _wrong(f"{rate:g} requests a second", "Give a number above 0")
    name, now = secrets.token_hex(4), time.time()
    text = f"{PREFIX[kind]}_{name}_{secrets.token_urlsafe(32)}"
    key = Key(name, kind, tuple(scopes) or SCOPES[kind], float(rate), now, None, note)
    with operational.change(state) as book:
        book.execute(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (key.id, kind, _hash(text), json.dumps(key.scopes), key.rate, now, None, note),
        )
        book.changed()
        book.note(key.id, "create", "done")
    return key, text


def listed(state: Path) -> list[Key]:
    """Return every key ever made, oldest first."""
    with operational.change(state) as book:
        return [key for key, _ in _keys(book)]


def revoke(state: Path, name: str) -> Key:
    """End a key now; a running server refuses it within a second. Raises UsageError for one that is not in force."""
    return _end(state, name, "revoke", time.time())


def rotate(state: Path, name: str, *, overlap_s: float = 86_400.0) -> tuple[Key, str]:
    """Make a key like this one and let the old one end after `overlap_s`, so that nobody is shut out meanwhile.

    Returns the new key and its text. Raises UsageError for a key that is not in force.
    """
    old = _end(state, name, "rotate", time.time() + overlap_s)
    return create(state, old.kind, scopes=old.scopes, rate=old.rate, note=old.note)


def user_token(state: Path, user_id: str, *, key: str = "", lives_s: int = TOKEN_S, now: float | None = None) -> str:
    """Sign that whoever holds this is `user_id`; `key`: the id of the only write key that may use it ("" = any).

    Raises UsageError for a life that is not within 1 second and a day.
    """
    if not 1 <= lives_s <= TOKEN_MOST_S:
        raise _wrong(f"a user token of {lives_s:,} seconds", f"Give 1 to {TOKEN_MOST_S:,} seconds")
    with operational.change(state) as book:
        secret = _signing(book)
    ends = int((time.time() if now is None else now) + lives_s)
    said = json.dumps([user_id, ends, key], ensure_ascii=False, separators=(",", ":")).encode()
    return f"{_b64(said)}.{_b64(_sign(secret, said))}"


def audit(state: Path, *, newest: int = 100) -> list[tuple[float, str, str, str]]:
    """Return (at, key id, action, result) of what was done with keys, newest first; it never names a person."""
    with operational.change(state) as book:
        rows = book.execute("SELECT at, key, action, result FROM audit ORDER BY at DESC LIMIT ?", (newest,))
        return [(float(at), str(key), str(action), str(result)) for at, key, action, result in rows]


@dataclass
class _Bucket:
    """What is left of a key's rate: filled as time goes by, one taken a request."""

    left: float
    at: float


@dataclass
class Door:
    """The keys as a running server uses them; the file is read again when it has changed."""

    state: Path
    followed: Followed = field(init=False)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)  # (key id or UNKNOWN, code), not noted yet
    _keys: dict[str, tuple[Key, str]] = field(default_factory=dict)
    _secret: bytes = b""
    _looked: float = -1.0
    _seen: object = None
    _buckets: dict[str, _Bucket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Follow the store."""
        self.followed = Followed(self.state)

    def empty(self) -> bool:
        """Whether no key was ever made, so that there is nobody to tell apart."""
        self._refresh()
        return not self._keys

    def admit(self, text: str | None, scope: str, *, page: bool = False) -> Key:
        """Return the key of this text when it may do `scope` now. Raises Problem 401, 403 or 429.

        Without any key in the workspace every program of this machine may do everything. A page of another origin
        (`page`) may do what a write key may: a browser here fetches for whatever page is open in it.
        """
        if self.empty():
            if page and scope not in PAGE.scopes:
                raise Problem(
                    403,
                    "not_allowed",
                    f"A page of another origin may not do this without a key ({scope})",
                    "Ask from a program of this machine, or make keys: habitue keys create secret",
                )
            return PAGE if page else ANYBODY
        name = UNKNOWN
        try:
            key = self._known(text)
            name = key.id
            self._may(key, scope)
            self._spend(key)
        except Problem as problem:
            self.refused[name, problem.code] += 1
            raise
        return key

    def _may(self, key: Key, scope: str) -> None:
        if scope not in key.scopes:
            raise Problem(
                403,
                "not_allowed",
                f"A {key.kind} key may not do this ({scope})",
                "Use a secret key from your own server: habitue keys create secret"
                if key.kind == "write"
                else f"Make a key with the scope '{scope}': habitue keys create secret --scope {scope}",
            )

    def user(self, key: Key, token: str) -> str:
        """Return the user_id that a token proves. Raises Problem 401 for one that proves nothing."""
        try:
            return self._proven(key, token)
        except Problem as problem:
            if not self.empty():
                self.refused[key.id, problem.code] += 1
            raise

    def _proven(self, key: Key, token: str) -> str:
        self._refresh()
        try:
            said, signature = (_unb64(part) for part in token.split("."))
        except ValueError as error:
            raise _no_token("This is no user token") from error
        if not hmac.compare_digest(_sign(self._secret, said), signature):
            raise _no_token("The user token was not signed by this server")
        user_id, ends, only = json.loads(said)
        if ends <= time.time():
            raise _no_token("The user token has run out")
        if only and only != key.id:
            raise _no_token("The user token belongs to another key")
        return str(user_id)

    def note(self, key: Key, action: str, result: str) -> None:
        """Write what was done with a key into the audit log."""
        if key.id != ANYBODY.id:
            with operational.change(self.state) as book:
                book.note(key.id, action, result)

    def note_refused(self, counts: Counter[tuple[str, str]]) -> None:
        """Write into the audit log who was refused: a line for each key and code. Raises LakeError."""
        if counts:
            with operational.change(self.state) as book:
                for (key, code), count in counts.items():
                    book.note(key, "refused", f"{code}, {count:,} times")

    def _known(self, text: str | None) -> Key:
        name = (text or "").split("_")[1:2]
        key, hashed = self._keys.get(name[0] if name else "", (None, ""))
        if key is None or text is None or not hmac.compare_digest(_hash(text), hashed) or key.ended(time.time()):
            raise Problem(
                401,
                "no_key" if not text else "unknown_key",
                "No key was sent" if not text else "The key is not known, or no longer",
                "Send a key of this workspace (habitue keys list), as docs/serve.md says",
            )
        return key

    def _spend(self, key: Key) -> None:
        now, most = time.monotonic(), max(key.rate * BURST_S, 1.0)
        bucket = self._buckets.setdefault(key.id, _Bucket(most, now))
        bucket.left, bucket.at = min(most, bucket.left + (now - bucket.at) * key.rate), now
        if bucket.left < 1:
            raise Problem(
                429,
                "too_many_requests",
                f"This key may ask {key.rate:g} times a second",
                "Wait as long as Retry-After says, then go on",
                retry_after_s=max(1, round((1 - bucket.left) / key.rate)),
            )
        bucket.left -= 1

    def _refresh(self) -> None:
        """Read the keys again when the file has changed, looking once a second at most.

        Until they could be read everybody is refused: keys that are not known are not keys that were never made.
        """
        now = time.monotonic()
        if self._looked >= 0 and now - self._looked < LOOK_S:
            return
        self._looked = -1.0
        seen = self.followed.now()
        if seen != self._seen:
            self._read(seen)
        self._looked = now

    def _read(self, seen: object) -> None:
        if seen is None:
            self._keys, self._secret, self._seen = {}, b"", None
            return
        try:
            with operational.change(self.state) as book:
                self._keys = {key.id: (key, hashed) for key, hashed in _keys(book)}
                self._secret = _signing(book)
        except LakeError:
            if not self.followed.remote or self._seen is None:
                raise
            _log.exception("the keys known so far hold until the database is back")
            return
        self._seen = seen


def _end(state: Path, name: str, action: str, at: float) -> Key:
    with operational.change(state) as book:
        found = {key.id: key for key, _ in _keys(book)}
        key = found.get(name)
        if key is None or key.ended(time.time()):
            raise _wrong(
                f"there is no key '{name}'" if key is None else f"the key '{name}' is not in force any more",
                "See them with: habitue keys list",
            )
        book.execute("UPDATE keys SET ends_at = ? WHERE id = ?", (at, name))
        book.changed()
        book.note(name, action, "done")
    return key


def _keys(book: Book) -> list[tuple[Key, str]]:
    rows = book.execute("SELECT id, kind, scopes, rate, made_at, ends_at, note, hash FROM keys ORDER BY made_at, id")
    return [
        (Key(str(name), str(kind), tuple(json.loads(scopes)), rate, made_at, ends_at, str(note)), str(hashed))
        for name, kind, scopes, rate, made_at, ends_at, note, hashed in rows
    ]


def _signing(book: Book) -> bytes:
    return bytes(book.execute("SELECT secret FROM signing")[0][0])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _sign(secret: bytes, said: bytes) -> bytes:
    return hmac.digest(secret, said, "sha256")


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _no_token(found: str) -> Problem:
    return Problem(401, "bad_user_token", found, "Let your server sign a new one: POST /v1/tokens (docs/serve.md)")


def _wrong(found: str, remedy: str) -> UsageError:
    return UsageError("keys", found=found, consequence="Nothing was changed", remedy=remedy)
