"""One input from another: a few changes in its bytes, its words or, of JSON, its values."""

from __future__ import annotations

import copy
import datetime as dt
import gzip
import json
import random
import re
from collections.abc import Iterable
from typing import Any

MOMENT = "2026-05-01T11:59:00Z"
ODD: list[Any] = [None, True, False, 0, -1, 1.5, -0.0, 2**31, 2**63, -(2**63) - 1, 10**400, 1e308, -1e-320]
ODD += ["", " ", "\u0000", "\ud800", "é" * 300, "x" * 9_000, "1e5", "1,5", "NaN", "-inf", "0x10", "١٢", "=1+1"]
ODD += ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-02-30", "2026-05-01T11:59:00+99:00", "1777636740", MOMENT]
ODD += [[], {}, [[]], {"a": {"b": [1]}}, [None], {"": ""}, ["A", 1], "track", "page", "Product Viewed", "$pageview"]
ODD += ["jane@shop.example", "\x1b[2J", "a\nb", "../a", "1.234,50 €", "(3)", "+49 151 2345678", "%s%d", "0000-00-00"]
ODD += [dt.datetime.max.year, 253_402_300_800, -62_135_596_801, 1e18, 4_111_111_111_111_111, "4111 1111 1111 1111"]
MARKS = ["{", "}", "[", "]", '"', "'", ",", ";", "\t", "|", "::", ":", "=", "#", "\\", "\\ud800", "1e999", "-", "null"]
MARKS += ["\n", "\r", "\r\n", '""', "'''", "<", "</", ">", "&#0;", "&a;", "<![CDATA[", "]]>", "<!--", "<!ENTITY a 'b'>"]
TOKENS = [mark.encode() for mark in MARKS]
TOKENS += [b"\x00", b"\xff", b"\x1f\x8b", b"PK\x03\x04", b"\xef\xbb\xbf", b"\xff\xfe", b"\x81\x30\x81\x30", b"\xe9"]
ODD += [json.loads("[" * 150 + "]" * 150), "[" * 3_000, "<a>" * 300]
TOKENS += [b"[" * 3_000, b'{"a":' * 1_500, b"<a>" * 300]
WORD = re.compile(rb"[\w.+-]+")
LONGEST = 40_000  # bytes of an input; a longer one is cut


def changed(bodies: list[bytes], values: list[Any], dice: random.Random) -> bytes:
    """Return an input one to four changes away from one of `bodies`, or of `values`, which JSON may hold."""
    if values and dice.random() < 0.7:
        value = copy.deepcopy(dice.choice(values[-200:] if dice.random() < 0.5 else values))
        for _ in range(dice.randint(1, 4)):
            value = _other_value(value, values, dice)
        body = json.dumps(value).encode()  # what JSON may hold, NaN and half letters too
    else:
        body = dice.choice(bodies)
        for _ in range(dice.randint(1, 4)):
            body = _other_bytes(body, bodies, dice)
    if dice.random() < 0.03:
        return gzip.compress(body[:LONGEST], 1, mtime=0)[: dice.choice([-1, -9, None, None, None])]
    return body[:LONGEST]


def _other_bytes(body: bytes, others: list[bytes], dice: random.Random) -> bytes:
    """Cut, overwrite, fill, double, join, or put another word in the place of one."""
    at, end = sorted((dice.randint(0, len(body)), dice.randint(0, len(body))))
    ways = [
        lambda: body[:at] + body[end:],
        lambda: body[:at] + bytes([dice.randrange(256)]) + body[at + 1 :],
        lambda: body[:at] + dice.choice(TOKENS) + body[at:],
        lambda: body[:at] + body[at:end][:2_000] * 2 + body[end:],
        lambda: body[:at] + dice.choice(others)[at:],
        lambda: _other_word(body, at, others, dice),
        lambda: _other_word(body, at, others, dice),
    ]
    return dice.choice(ways)()


def _other_word(body: bytes, at: int, others: list[bytes], dice: random.Random) -> bytes:
    """Put something odd, or a word of another input, where the first word after `at` stands."""
    found = WORD.search(body, at) or WORD.search(body)
    if found is None:
        return body
    if dice.random() < 0.6:
        odd = dice.choice(ODD)
        word = (odd if isinstance(odd, str) else json.dumps(odd)).encode(errors="surrogatepass")
    else:
        donor = dice.choice(others)
        some = WORD.search(donor, dice.randint(0, len(donor)))
        word = some.group() if some else b""
    return body[: found.start()] + word + body[found.end() :]


def _other_value(value: Any, others: list[Any], dice: random.Random) -> Any:
    """Change one place of a JSON value, or of the JSON or the words within one of its texts."""
    places = list(_places(value))
    if not places:
        return copy.deepcopy(dice.choice(ODD))
    holder, key = dice.choice(places)
    roll, donors = dice.random(), list(_places(dice.choice(others)))
    if isinstance(holder[key], str) and roll < 0.5:
        holder[key] = _other_text(holder[key], others, dice)
    elif roll < 0.55:
        holder[key] = copy.deepcopy(dice.choice(ODD))
    elif roll < 0.7 and donors:
        other, name = dice.choice(donors)
        holder[key] = copy.deepcopy(other[name])
    elif roll < 0.85 and isinstance(holder, dict):
        kept = holder.pop(key)
        if dice.random() < 0.5 and donors:
            holder[str(dice.choice(donors)[1])] = kept
    elif isinstance(holder, list):
        holder.extend(copy.deepcopy(holder[:50]))
    return value


def _other_text(text: str, others: list[Any], dice: random.Random) -> Any:
    if text[:1] in ("{", "["):
        try:
            return json.dumps(_other_value(json.loads(text), others, dice))
        except (ValueError, RecursionError):
            return dice.choice(ODD)
    if len(text) < 20 or dice.random() < 0.3:
        return copy.deepcopy(dice.choice(ODD))
    body = text.encode(errors="surrogatepass")
    return _other_bytes(body, [body], dice).decode(errors="surrogateescape")


def _places(value: Any, depth: int = 0) -> Iterable[tuple[Any, Any]]:
    """Yield every place of a value as its holder and its key there."""
    if depth > 12 or not isinstance(value, dict | list):
        return
    for key in list(value) if isinstance(value, dict) else range(min(len(value), 60)):
        yield value, key
        yield from _places(value[key], depth + 1)
