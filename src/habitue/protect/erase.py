"""One person taken out of a workspace: rows, aliases, pages about them; and a receipt that says so.

In this order, so that what was interrupted can be taken up where it stopped: a note of the keys, REFUSED, the tables of
people (written anew, older versions and their log removed), derived files that name the person, the aliases, a
search of every byte that is left, the receipt, and the note goes. Models are not changed here: those that were
trained on the person are named, to be trained again.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from habitue import __version__
from habitue.core import durable, lock
from habitue.core.errors import LakeError, SettingsError, UsageError
from habitue.core.lake import WAIT_S
from habitue.core.progress import stage
from habitue.core.schemas import EVENTS, IDENTITIES, MEDIA, REFUSED, TABLES
from habitue.core.settings import moment
from habitue.core.workspace import VERSION, Workspace
from habitue.protect import identities, people, sent, traces

NOTE = ".erasing"  # in the lake's folder, while an erasure is under way; holds keys, never aliases
DERIVED = ("reports", "state", "sealed")  # can be made again, so a file that names the person goes
LIVE = "live.*"  # in state/: the server's copies of events, without raw ids; they go whole and are made again
KEPT = ("keys.sqlite", "rules.json")  # in state/: the server's keys and the shop's rules, which hold nobody


@dataclass(frozen=True)
class Config:
    """How erasures are written down."""

    sign: bool = False  # with the key in HABITUE_SIGNING_KEY; then no erasure starts without one


IMPORTS = "import-*"  # in state/: rows of an import that never ended, ids of people included; the file has them all


def erase(workspace: Workspace, user_keys: list[int], *, sign_with: bytes | None = None) -> dict[str, Any]:
    """Erase the person these keys are part of, and return the receipt, which is also kept in `receipts/`.

    The receipt's `complete` is False when a trace was left in a file that is not ours to change: `files_left` names
    it. Interrupted, the same call does the rest. Raises LakeError when another process is at work, or something
    cannot be written; what was not erased then is as it was.
    """
    lake, state = workspace.lake, workspace.root / "state"
    with lock.exclusive(state / ".import.lock", wait_s=WAIT_S), lake.exclusive():
        keys = people.keys_of(workspace.identities, user_keys)
        named = identities.aliases(workspace.identities).filter(pl.col("user_key").is_in(keys))
        person = traces.Person(tuple(keys), tuple(named["alias"].unique().sort()))
        _note(workspace, keys)
        models, media = _trained_on(workspace, keys), _media_files(workspace, keys)
        rows = {REFUSED.name: _refused(workspace, person), MEDIA.name: _media_of_events(workspace, keys)}
        for table in sorted(
            TABLES, key=lambda table: table is EVENTS
        ):  # EVENTS last: it tells the order ids and models
            if table is not IDENTITIES and "user_key" in table.schema:
                with stage(f"Erasing from {table.name}"):
                    rows[table.name] = rows.get(table.name, 0) + lake.delete_users(table, keys)
        for folder in sorted(state.glob(IMPORTS)):
            shutil.rmtree(folder)
        removed = _derived(workspace, person)
        with identities.book(workspace.identities) as connection:
            aliases = identities.forget(connection, keys)
        identities.rebuild(workspace.identities)
        with stage("Searching what is left"):
            found = traces.search(workspace.root, person, leave_out=[workspace.models, lake.root / NOTE])
        receipt = _receipt(
            {
                "rows": {name: count for name, count in sorted(rows.items()) if count},
                "keys": len(keys),
                "aliases": aliases,
                "files_removed": removed,
                "files_left": [*map(str, found.paths), *media],
                "models_to_retrain": models,
                "searched": {"files": found.files, "bytes": found.size},
                "complete": not found.paths and not media,
            },
            sign_with,
        )
        _keep(workspace, receipt)
        (lake.root / NOTE).unlink()
    return receipt


def unfinished(workspace: Workspace) -> list[int]:
    """Return the keys of an erasure that was interrupted; none when there is none. Raises LakeError."""
    path = workspace.lake.root / NOTE
    if not path.exists():
        return []
    try:
        keys: list[int] = json.loads(path.read_text())["keys"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LakeError(
            str(path),
            found="the note of an unfinished erasure cannot be read",
            consequence="Whom it was about is unknown, and rows may be left",
            remedy="Erase the person again by an id of your own files, then remove the note",
        ) from error
    return keys


def verify(path: Path, *, sign_with: bytes | None = None) -> dict[str, Any]:
    """Return a receipt after holding it against its digest, and its signature when a key is given.

    Raises UsageError when it is no receipt, was changed, or was signed with another key or none.
    """
    try:
        receipt: dict[str, Any] = json.loads(path.read_bytes())
        digest, signature = receipt["sha256"], receipt["signature"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_receipt(path, "this is no receipt of an erasure") from error
    text = _text(receipt)
    if digest != hashlib.sha256(text).hexdigest():
        raise _no_receipt(path, "the receipt was changed after it was written")
    if sign_with is not None and not hmac.compare_digest(signature or "", _signature(text, sign_with)):
        raise _no_receipt(path, "the receipt was not signed" if signature is None else "it was signed with another key")
    return receipt


def _trained_on(workspace: Workspace, keys: list[int]) -> list[str]:
    """Return the models that know the shop after the person's first row; one without a moment is named as well."""
    rows = workspace.lake.read(EVENTS, columns=["user_key", "at"])
    first = rows.filter(pl.col("user_key").is_in(keys))["at"].min()
    found = []
    for manifest in sorted(workspace.models.glob("*/[!.]*/manifest.json")):
        try:
            as_of = moment(str(json.loads(manifest.read_bytes())["added"]["as_of"]))
        except (ValueError, KeyError, TypeError, SettingsError):
            as_of = dt.datetime.max.replace(tzinfo=dt.UTC)
        if isinstance(first, dt.datetime) and as_of > first:
            found.append(f"{manifest.parent.parent.name}/{manifest.parent.name}")
    return found


def _refused(workspace: Workspace, person: traces.Person) -> int:
    """Delete the refused rows of the person: those that name one of their orders, and events that trackers sent.

    Of a refused event its person is kept as a key, so that it can be read again (`collect.replay`); the person columns
    and words of a file are masked.
    """
    rows = workspace.lake.read(EVENTS, columns=["user_key", "order_id"])
    orders = rows.filter(pl.col("user_key").is_in(list(person.keys)))["order_id"].drop_nulls().unique()
    cells = [re.escape(json.dumps(word)) for word in (*orders, *person.aliases)]
    cells += [rf'"user_key":\s*{key}\b' for key in person.keys]
    if not cells:  # a pattern of nothing would find everybody's
        return 0
    return workspace.lake.delete_rows(REFUSED, pl.col("raw").str.contains("|".join(cells)))


def _media_of_events(workspace: Workspace, keys: list[int]) -> int:
    """Delete the media that belong to events of the person; those of the person go with the other tables."""
    return workspace.lake.delete_rows(MEDIA, _of_events(workspace, keys))


def _media_files(workspace: Workspace, keys: list[int]) -> list[str]:
    """Return the files of the person's pictures, sound and video: the shop's own, so they are named and left.

    Those that the server was sent lie in the workspace; they are removed unless somebody else's row names them.
    """
    mine = _of_events(workspace, keys) | pl.col("user_key").is_in(keys).fill_null(False)
    rows = workspace.lake.read(MEDIA)
    paths = rows.filter(mine)["path"].unique().sort()
    folder = (workspace.root / sent.SENT).resolve()
    ours = {path for path in paths if Path(path).is_relative_to(folder)}
    sent.remove(workspace.root, sorted(ours - {*rows.filter(~mine)["path"]}))
    return [path for path in paths if path not in ours and Path(path).exists()]


def _of_events(workspace: Workspace, keys: list[int]) -> pl.Expr:
    rows = workspace.lake.read(EVENTS, columns=["user_key", "event_id"])
    ids = rows.filter(pl.col("user_key").is_in(keys))["event_id"].unique()
    return (pl.col("owner") == "event") & pl.col("owner_id").is_in(ids.implode()).fill_null(False)


def _derived(workspace: Workspace, person: traces.Person) -> list[str]:
    """Remove the pages and tables made from the lake that name the person; returns their paths, ascending."""
    state = workspace.root / "state"
    removed = [f"state/{path.name}" for path in state.glob(LIVE)]
    for path in state.glob(LIVE):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for folder in DERIVED:
        found = traces.search(workspace.root / folder, person, leave_out=[state / name for name in KEPT])
        for path in found.paths:
            (workspace.root / folder / path).unlink()
            removed.append(f"{folder}/{path}")
    return sorted(removed)


def _note(workspace: Workspace, keys: list[int]) -> None:
    _write(workspace.lake.root / NOTE, json.dumps({"keys": keys}).encode())


def _receipt(said: Mapping[str, Any], sign_with: bytes | None) -> dict[str, Any]:
    receipt: dict[str, Any] = {
        "receipt": 1,
        "id": secrets.token_hex(8),
        "erased_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "habitue": __version__,
        "layout": VERSION,
        **said,
    }
    text = _text(receipt)
    signature = None if sign_with is None else _signature(text, sign_with)
    return {**receipt, "sha256": hashlib.sha256(text).hexdigest(), "signature": signature}


def _keep(workspace: Workspace, receipt: dict[str, Any]) -> None:
    content = json.dumps(receipt, ensure_ascii=False, indent=1).encode()
    _write(workspace.receipts / f"erasure-{receipt['id']}.json", content)


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    try:
        path.parent.mkdir(exist_ok=True)
        durable.write(path, content)
    except OSError as error:
        raise LakeError(
            str(path),
            found=f"the file cannot be written ({error.strerror})",
            consequence="The erasure is not finished",
            remedy="Check the disk's space and the folder's rights, then: habitue erase --resume",
        ) from error


def _text(receipt: Mapping[str, Any]) -> bytes:
    """Return what the digest and the signature are over: everything else of the receipt, keys in order."""
    said = {name: value for name, value in receipt.items() if name not in ("sha256", "signature")}
    return json.dumps(said, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _signature(text: bytes, key: bytes) -> str:
    """HMAC-SHA256 (RFC 2104)."""
    return hmac.new(key, text, hashlib.sha256).hexdigest()


def _no_receipt(path: Path, found: str) -> UsageError:
    return UsageError(
        path.name,
        found=found,
        consequence="It proves nothing",
        remedy="Take the file that `habitue erase` wrote into receipts/, and the key it was signed with",
    )
