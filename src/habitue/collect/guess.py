"""A first mapping for a file nobody described: which column is what, as far as names and values tell.

The answer is a TOML file with a comment for everything that was seen and for everything that is unsure. Nothing is
stored, and nothing of a person's stands in the comments: columns are named, values are not shown.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from habitue.collect import profiles, sources, typed
from habitue.collect.mapping import MOMENT, WHAT, Kind, Mapping, User
from habitue.collect.profiles import Profile
from habitue.collect.sources import Form, Limits, Source
from habitue.collect.sources.sql import is_dsn
from habitue.core.errors import InputError, SettingsError

ROWS = 5_000  # of the file that are looked at
PICTURES = 10  # of a product, on average, are as many as a shop takes
_ZONES = {
    "CNY": "Asia/Shanghai",
    "JPY": "Asia/Tokyo",
    "GBP": "Europe/London",
    "KRW": "Asia/Seoul",
    "INR": "Asia/Kolkata",
}


@dataclasses.dataclass
class _Draft:
    """A mapping in the making, with what is to be said about it."""

    what: str
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    fixed: dict[str, str] = dataclasses.field(default_factory=dict)
    attributes: dict[str, str] = dataclasses.field(default_factory=dict)
    extra: dict[str, str] = dataclasses.field(default_factory=dict)
    kinds: dict[str, str] = dataclasses.field(default_factory=dict)
    settings: dict[str, object] = dataclasses.field(default_factory=dict)
    user: dict[str, Any] = dataclasses.field(default_factory=dict)
    default_kind: str | None = None
    unsure: list[str] = dataclasses.field(default_factory=list)


def guess(place: Path | str, *, limits: Limits | None = None) -> str:
    """Return a commented mapping (TOML) for a file, a folder of media or a database.

    Reads the first thousands of rows. Raises InputError when the file cannot be read, when no column tells what it
    holds, and when two columns that would be read have one name.
    """
    place = str(place) if isinstance(place, str) and is_dsn(place) else Path(place)
    with sources.opened(place, _form(place, limits), limits=limits) as source:
        frame, broken = _sample(source)
        draft = _draft(source, frame)
        if "no_event" in broken:
            draft.unsure.append(
                f"{broken.count('no_event'):,} messages tell who somebody is: a second mapping, {_IDENTIFY}, reads them"
            )
        mapping = _mapping(source, draft)
        if source.columns is not None:  # of two columns of one name an import could not tell which is meant
            sources.require(source.columns, mapping.wanted, where=source.name)
        raw = frame.select(c for c in mapping.wanted if c in frame.columns)
        folder = place if isinstance(place, Path) and place.is_dir() else Path(place).parent
        _, reason = typed.read(raw, mapping, folder)
        return _toml(source, draft, mapping, frame, reason.drop_nulls().to_list(), broken)


def _form(place: Path | str, limits: Limits | None) -> Form:
    """Tell what the columns cannot: a file without a header, lists of a user's items, and orders that hold lines."""
    with sources.opened(place, limits=limits) as source:
        if source.format == "json":
            return Form(lines=_lines(source))
        if source.format != "csv" or source.columns is None:
            return Form()
        names = source.columns
        if len(names) == 1 and re.fullmatch(r"\S+(?: \S+){2,}", names[0]):
            return Form(reader="sequences")
        numbers = [bool(re.fullmatch(r"-?\d+(?:\.\d+)?", n)) for n in names]
        return Form(header=not (len(names) > 1 and sum(numbers) > 0.5 * len(names)))


def _lines(source: Source) -> str | None:
    """Name the list of objects that most records of a JSON file hold: the lines of an order."""
    block = next(source.blocks(None, 0), None)
    if block is None:
        return None
    frame = block.frame.head(ROWS)
    lists = [c for c in frame.columns if frame[c].dtype == pl.String and _share(frame[c], "[{") > 0.5]
    known = [c for c in lists if profiles.holds_lines(c)]
    return known[0] if known else lists[0] if len(lists) == 1 else None


def _share(column: pl.Series, start: str) -> float:
    return float(column.str.starts_with(start).fill_null(False).mean() or 0.0)  # type: ignore[arg-type]


_IDENTIFY = 'what = "users" with reader = "identify" (docs/mapping.md)'


def _sample(source: Source) -> tuple[pl.DataFrame, list[str]]:
    """The first rows with every column, as text, and the reasons of those that could not be read."""
    frames: list[pl.DataFrame] = []
    broken: list[str] = []
    for block in source.blocks(None, 0):
        last = block.numbers[ROWS] if len(block.numbers) > ROWS else None  # the first that is not looked at
        broken += [reason for number, reason in block.broken.items() if last is None or number < last]
        plain = [c for c, dtype in block.frame.schema.items() if not dtype.is_nested() and dtype != pl.Binary]
        frames.append(block.frame.select(plain))
        if sum(f.height for f in frames) >= ROWS:
            break
    frame = pl.concat(frames, how="diagonal_relaxed").head(ROWS) if frames else pl.DataFrame()
    there = [c for c in frame.columns if frame[c].null_count() < frame.height and c != source.form.lines]
    if set(broken) == {"no_event"} and frame.is_empty():
        raise InputError(
            source.name,
            found="its messages tell who somebody is, and none what anybody did",
            consequence="There are no events to map",
            remedy=f"Write a mapping of people: {_IDENTIFY}",
        )
    if frame.is_empty() or not there:
        raise InputError(
            source.name,
            found="there is no row with anything in it",
            consequence="Nothing tells what its columns mean",
            remedy="Export it again",
        )
    return frame.select(there).filter(~pl.all_horizontal(pl.all().is_null())), broken


def _draft(source: Source, frame: pl.DataFrame) -> _Draft:
    if source.format in ("segment", "ga4"):
        return _tracker(source.format, frame)
    if source.format == "sequences":
        lists = _Draft("events", {"at": "at", "item_id": "item", "position": "position"}, default_kind="Product Viewed")
        lists.user = {"column": "user"}
        lists.unsure.append("the lists have no times: their order is kept, and the dates, from 2000 on, mean nothing")
        return lists
    if source.format == "media":
        return _media(frame)
    lines = source.form.lines
    columns = [profiles.look(frame[c], called=profiles.of_lines(c, lines) if lines else c) for c in frame.columns]
    found = profiles.fields(columns)
    what = _what(source, found, columns)
    draft = _Draft(what)
    for profile in columns:
        name = next((n for n, p in found.items() if p is profile), None)
        if name in WHAT[what].fields:
            draft.columns[name] = profile.name
    _settings(draft, found, columns)
    {"events": _events, "items": _items, "outside": _outside, "examples": _examples}.get(what, _nothing)(
        draft, found, columns
    )
    if WHAT[what].person != "none":
        _person(draft, found, columns)
    _exposures(draft, found)
    return draft


def _media(frame: pl.DataFrame) -> _Draft:
    """Name the owner of each file: SKU1-1.jpg and SKU1-2.jpg are SKU1's, but sku-001.jpg and sku-002.jpg are not sku's.

    A number at the end counts pictures of a product only where not all of them would become a few products.
    """
    owners, names = frame["owner"].n_unique(), frame["name"].n_unique()
    owner = "owner" if owners * PICTURES >= names else "name"
    media = _Draft("media", {"path": "path", "owner_id": owner}, {"owner": "item"})
    if owner == "owner":
        said = "each file is taken to show the product its name starts with; owner may be item or event"
    else:
        said = (
            f"each file is taken to show the product it is named after: without the number at the end {names:,} names "
            f"would be {owners:,}; owner may be item or event"
        )
    media.unsure.append(said)
    return media


def _what(source: Source, found: dict[str, Profile], columns: list[Profile]) -> str:
    """Tell what the rows are by the fields that were found."""
    has = found.keys()
    person = bool(has & {"user", "anonymous", "email", "phone"})
    if "path" in has and has & {"owner_id", "item_id"} and not has & {"title", "price", "order_id"}:
        return "media"
    if source.format in ("feed", "pages") or ("item_id" in has and not has & {"at", "order_id"} and not person):
        return "items"
    if "arm" in has and "at" in has and "order_id" not in has:
        return "exposures"
    if {"signal", "value", "at"} <= has and person:
        return "signals"
    if "at" in has and ("competitor" in has or (not person and "order_id" not in has)):
        return "outside"
    if "at" in has and (person or "order_id" in has):
        return "events"
    if "text" in has or "label" in has:
        return "examples"
    names = ", ".join(repr(p.name) for p in columns[:12])
    nearly = max(columns, key=lambda p: p.times)
    near = f"; {_list([nearly.name])} is nearest: {nearly.times:.0%} of it reads as times" if nearly.times else ""
    raise InputError(
        source.name,
        found=f"no column tells when something happened, or which product a row describes (columns: {names}{near})",
        consequence="Nobody can guess what the rows are",
        remedy="Write a mapping by hand (docs/mapping.md), or export the file with its dates",
    )


def _settings(draft: _Draft, found: dict[str, Profile], columns: list[Profile]) -> None:
    """Set the time format and zone, the decimal mark and the currency."""
    moment = found.get("valid_from" if draft.what == "items" else "at")
    if moment is not None:
        if moment.formats and moment.formats[0] != "iso":
            draft.settings["time_format"] = moment.formats[0]
        if len(moment.formats) > 1:
            draft.settings["time_formats"] = moment.formats[1:]
        if len(moment.formats) > 1:
            draft.unsure.append(
                f"'{moment.name}' mixes {len(moment.formats)} ways to write a time; all of them are read"
            )
        if moment.ambiguous:
            draft.unsure.append(
                f"'{moment.name}': no day above 12 tells days from months; "
                f"{'day' if moment.day_first else 'month'} first is taken"
            )
        if moment.offsets < 1 and not (
            moment.formats and moment.formats[0] in ("seconds", "milliseconds", "microseconds")
        ):
            draft.unsure.append(f"'{moment.name}' says no zone: times are taken as local to time_zone; check it")
    money = [p for n, p in found.items() if n in ("price", "value") and p.numeric]
    if any(p.decimal_comma for p in money):
        draft.settings["decimal"] = ","
    for name, profile in profiles.misread(found, columns).items():
        if name in WHAT[draft.what].fields:
            point, comma = profile.reads
            draft.unsure.append(
                f"{_list([profile.name])} is called a {name}, but reads as numbers in {point:.0%} of the rows with '.' "
                f"before the decimals and in {comma:.0%} with ',': no {name} is read; write it in one way"
            )
    told = {c for p in columns for c in p.currencies}
    if "currency" in WHAT[draft.what].fields and len(told) > 1:
        draft.columns.setdefault("currency", next(p.name for p in columns if p.currencies))
        draft.unsure.append(f"there are {len(told)} currencies ({', '.join(sorted(told))}); nothing is converted")
    elif len(told) == 1:  # lines that leave it out mean it too
        draft.settings["currency"] = told.pop()
        draft.columns.pop("currency", None)
    elif money:
        draft.unsure.append(
            'no currency is told: the workspace\'s is taken; else write, for instance, currency = "EUR"'
        )
    place = _ZONES.get(str(draft.settings.get("currency")))
    if place is not None and moment is not None and moment.offsets < 1:
        draft.settings["time_zone"] = place
        draft.unsure.append(f"prices are in {draft.settings['currency']}, so the zone is taken to be {place}")


def _events(draft: _Draft, found: dict[str, Profile], columns: list[Profile]) -> None:
    kind = found.get("kind")
    if kind is not None:
        draft.kinds = {v: k for v in kind.values if (k := profiles.kind_of(v)) is not None and k != v}
        strange = [v for v in kind.values if profiles.kind_of(v) is None]
        if strange:
            draft.unsure.append(
                f"'{kind.name}' has {len(strange)} values that are no kind known here; they stay as they are"
            )
    if "kind" not in draft.columns:
        ratings, text, buys = "rating" in found, "text" in found, "order_id" in found or "price" in found
        draft.default_kind = (
            "Product Reviewed"
            if ratings or (text and any("review" in p.plain or "评" in p.plain for p in columns))
            else "Question Asked"
            if text and not buys
            else "Order Completed"
            if buys
            else "Product Viewed"
        )
        draft.unsure.append(f"no column tells the kind of event: every row is taken as '{draft.default_kind}'")
    if "price" in draft.columns and "quantity" in draft.columns and "value" in draft.columns:
        draft.unsure.append(f"'{draft.columns.pop('value')}' is left out: a line's value is price times quantity")
    if "item_id" not in found and "title" in found:
        draft.columns["item_id"] = found["title"].name
        draft.unsure.append(f"no column holds a product's id: '{found['title'].name}' stands for it")
    for profile in columns:
        if profile.person or profile.name in draft.columns.values():
            continue
        if profile.attribute:
            draft.attributes[profile.attribute] = profile.name
        elif profile.more:
            draft.extra[profile.more] = profile.name


def _items(draft: _Draft, found: dict[str, Profile], columns: list[Profile]) -> None:
    if "valid_from" not in draft.columns and "at" in found:
        draft.columns["valid_from"] = found["at"].name
    if "item_id" not in draft.columns and "title" in found:
        draft.columns["item_id"] = found["title"].name
    for profile in columns:
        if profile.name not in draft.columns.values() and profile.name.lower() in ("description", "body_html", "描述"):
            draft.columns["description"] = profile.name
    for profile in columns:
        if profile.name not in draft.columns.values() and re.fullmatch(r"\w[\w .\-]{0,40}", profile.name):
            draft.extra[profile.name.replace(" ", "_")] = profile.name


def _outside(draft: _Draft, found: dict[str, Profile], columns: list[Profile]) -> None:
    if "kind" not in draft.columns:
        price, rating = "price" in found, "rating" in found
        draft.fixed["kind"] = "competitor price" if price else "outside review" if rating else "social post"
        draft.unsure.append(f"every row is taken as '{draft.fixed['kind']}'")
    for profile in columns:
        if profile.more and profile.name not in draft.columns.values():
            draft.extra[profile.more] = profile.name
    if "competitor" in found:
        draft.extra["competitor"] = found["competitor"].name


def _examples(draft: _Draft, found: dict[str, Profile], columns: list[Profile]) -> None:
    del found
    for profile in columns:
        if profile.name not in draft.columns.values() and not profile.person:
            draft.extra[profile.name] = profile.name
    draft.unsure.append("no column tells when or who: the rows become EXAMPLES, which no model of a customer reads")


def _nothing(draft: _Draft, found: dict[str, Profile], columns: list[Profile]) -> None:
    del found, columns
    if draft.what == "media":
        draft.fixed["owner"] = "item"
        if "owner_id" not in draft.columns:
            draft.unsure.append("the owner of each file is taken to be a product")


def _exposures(draft: _Draft, found: dict[str, Profile]) -> None:
    if draft.what == "exposures" and "what" not in draft.columns:
        draft.fixed["what"] = "campaign"
        draft.unsure.append("no column names the campaign: 'campaign' is written for all")
    if draft.what == "media" and "owner_id" not in draft.columns and "item_id" in found:
        draft.columns["owner_id"] = found["item_id"].name


def _person(draft: _Draft, found: dict[str, Profile], columns: list[Profile]) -> None:
    """Choose who a row is about: a customer's number before an e-mail address before a phone number."""
    for name, kind in (("user", "user_id"), ("email", "email"), ("phone", "phone"), ("anonymous", "anonymous_id")):
        if name in found:
            draft.user = {"column": found[name].name}
            if kind != "user_id":
                draft.user["alias_kind"] = kind
            if name != "anonymous" and "anonymous" in found:
                draft.user["anonymous"] = found["anonymous"].name
            if found[name].nobody:
                draft.user["nobody"] = found[name].nobody
                draft.unsure.append(f"{_list(found[name].nobody)} in '{found[name].name}' is taken to name nobody")
            break
    others = [p.name for p in columns if p.person and p.name not in draft.user.values()]
    if others:
        draft.unsure.append(f"{_list(others)} may name a person: left out, so it is not stored")
    draft.attributes = {k: v for k, v in draft.attributes.items() if v not in others}


def _tracker(kind: str, frame: pl.DataFrame) -> _Draft:
    """Segment and GA4 are known: the reader gives the columns their names."""
    there = set(frame.columns)
    draft = _Draft("events")
    draft.columns = {name: name for name in WHAT["events"].fields if name in there}
    if kind == "ga4":
        draft.settings["time_format"] = "microseconds"
    draft.user = {"column": "user_id", "anonymous": "anonymous_id"}
    if "user_id" not in there or "anonymous_id" not in there:
        one = "user_id" if "user_id" in there else "anonymous_id"
        draft.user = {"column": one, "alias_kind": one}
    if "country" in there:
        draft.attributes["country"] = "country"
    return draft


def _mapping(source: Source, draft: _Draft) -> Mapping:
    """Make the mapping that the TOML will say."""
    form = source.form
    timed = any(name in MOMENT for name in draft.columns)
    zone = str(draft.settings.get("time_zone", "UTC")) if timed else None
    others = draft.settings.get("time_formats", ())
    first = draft.settings.get("time_format")
    currency = draft.settings.get("currency")
    try:
        return Mapping(
            source=re.sub(r"\W+", "_", Path(source.name).name.split(".")[0].lower()).strip("_") or "file",
            time_zone=zone,
            columns=draft.columns,
            what=draft.what,
            fixed=draft.fixed,
            currency=str(currency) if currency else None,
            time_format=str(first) if first else None,
            time_formats=tuple(str(f) for f in others) if isinstance(others, list) else (),
            decimal=str(draft.settings.get("decimal", ".")),
            user=User(**draft.user) if draft.user else None,
            user_attributes=draft.attributes,
            extra=draft.extra,
            kind=Kind(default=draft.default_kind or "Order Completed", names=draft.kinds),
            valid_from=profiles.TODAY if draft.what == "items" and "valid_from" not in draft.columns else None,
            reader=form.reader,
            delimiter=form.delimiter,
            encoding=form.encoding if form.encoding not in (None, "utf-8", "ascii") else None,
            header=form.header,
            quotes=form.quotes if form.quotes is False else None,
            lines=form.lines,
        )
    except SettingsError as error:
        raise InputError(
            source.name,
            found=f"too little is known of its columns ({error.found})",
            consequence="A mapping made of it would not import",
            remedy="Write a mapping by hand (docs/mapping.md)",
        ) from error


def _toml(
    source: Source, draft: _Draft, mapping: Mapping, frame: pl.DataFrame, refused: list[str], broken: list[str]
) -> str:
    """Write the mapping, commented. `refused`, `broken`: why rows would not be accepted, or could not be read."""
    rows, refused = frame.height + len(broken), refused + broken
    good = rows - len(refused)
    lines = [
        f"# A guess from the first {rows:,} rows of {source.name} ({_format(source)}); read it before use.",
        f"# {good:,} of them would be accepted as it stands{'' if good == rows else ', the others refused'}.",
        *(f"# Why: {count:,} x {code.replace('_', ' ')}" for code, count in Counter(refused).most_common(3)),
        *(f"# Unsure: {words}." for words in draft.unsure),
        "",
        f"source = {_text(mapping.source)}  # the ids of the rows hang on it: keep it from the first import on",
    ]
    if mapping.time_zone is not None:
        lines.append(f"time_zone = {_text(mapping.time_zone)}  # of times that carry no offset")
    if mapping.what != "events":
        lines.append(f"what = {_text(mapping.what)}")
    for name in ("currency", "time_format", "decimal", "reader", "delimiter", "encoding", "lines"):
        value = getattr(mapping, name)
        if value is not None and value != {"decimal": "."}.get(name) and not (name == "delimiter" and value == ","):
            lines.append(f"{name} = {_text(value)}")
    if mapping.time_formats:
        lines.append(f"time_formats = [{', '.join(map(_text, mapping.time_formats))}]")
    if not mapping.header:
        lines.append("header = false")
    if mapping.quotes is False:
        lines.append("quotes = false")
    if mapping.valid_from is not None:
        lines.append(f"valid_from = {mapping.valid_from:%Y-%m-%d}  # from when on the words were known: check it")
    lines += _section("columns", mapping.columns, "our field = the file's column")
    lines += _section("fixed", mapping.fixed, "the same in every row")
    if mapping.user is not None:
        lines += ["", "[user]", f"column = {_text(mapping.user.column)}"]
        if mapping.user.alias_kind != "user_id":
            lines.append(f"alias_kind = {_text(mapping.user.alias_kind)}")
        if mapping.user.anonymous:
            lines.append(f"anonymous = {_text(mapping.user.anonymous)}")
        if mapping.user.nobody:
            lines.append(f"nobody = [{', '.join(map(_text, mapping.user.nobody))}]  # what names no user")
    lines += _section("user_attributes", mapping.user_attributes, "what is said of the customer")
    lines += _section("extra", mapping.extra, "kept beside the row, masked")
    if draft.default_kind is not None:
        lines += ["", "[kind]", f"default = {_text(draft.default_kind)}"]
    lines += _section("kind.names", mapping.kind.names, "what the file says = the kind of event")
    unread = [c for c in frame.columns if c not in mapping.wanted]
    if unread:
        lines += ["", f"# Not read: {_list(unread)}."]
    return "\n".join(lines) + "\n"


def _section(name: str, entries: dict[str, str], comment: str) -> list[str]:
    if not entries:
        return []
    return ["", f"[{name}]  # {comment}", *(f"{_key(key)} = {_text(value)}" for key, value in entries.items())]


def _format(source: Source) -> str:
    form = source.form
    if source.format != "csv":
        return source.format
    return f"csv, {form.encoding}, fields apart by {form.delimiter!r}"


def _text(value: str) -> str:
    """Write a basic string of TOML."""
    escaped = "".join(
        {"\\": "\\\\", '"': '\\"', "\t": "\\t", "\n": "\\n", "\r": "\\r"}.get(c, c)
        if ord(c) >= 32 and ord(c) != 127 or c in "\t\n\r"
        else f"\\u{ord(c):04x}"
        for c in value
    )
    return f'"{escaped}"'


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _list(names: Sequence[str]) -> str:
    """Name columns in a comment: on one line, whatever they hold."""
    shown = ", ".join(ascii(n) if not n.isprintable() else f"'{n}'" for n in names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")
