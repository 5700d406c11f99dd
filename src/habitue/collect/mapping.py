"""A mapping: what the columns of somebody's file mean, as a small TOML file says it.

source = "online_retail"              # name of the origin; ids of its rows hang on it, so keep it
time_zone = "Europe/London"           # of times that carry no offset
currency = "GBP"

[columns]                             # our field = the file's column
at = "InvoiceDate"
order_id = "InvoiceNo"
item_id = "StockCode"

[user]
column = "CustomerID"                 # a row without one is a guest known by its order

[user_attributes]
country = "Country"

[[kind.rules]]                        # the first rule that fits decides, else kind.default
field = "order_id"
prefix = "C"
kind = "Order Refunded"
"""

from __future__ import annotations

import codecs
import datetime as dt
import zoneinfo
from dataclasses import dataclass, field
from pathlib import Path

from habitue.collect.sources import Form
from habitue.core.errors import SettingsError, did_you_mean
from habitue.core.schemas import CONSENT, EVENTS, EXAMPLES, EXPOSURES, ITEMS, MEDIA, OUTSIDE, SIGNALS, USERS, Table
from habitue.core.settings import fill, read_toml
from habitue.core.workspace import is_currency

MOMENT = ("at", "valid_from")
NUMBERS = (
    *("price", "quantity", "value", "rating", "dwell_s", "scroll", "position", "line"),
    *("propensity", "cost", "outcome", "start_s"),
)
FREE = ("query", "text")  # the customer's own words: masked before they are stored
WORDS = (
    *("event_id", "order_id", "item_id", "title", "kind", "session_id", "surface", "channel", "campaign_id"),
    *("recommendation_id", "currency", "description", "category", "brand", "what", "arm", "signal", "unit"),
    *("path", "owner", "owner_id", "label", "purpose"),
)
_ZONES = frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})  # names of no place


@dataclass(frozen=True)
class Rows:
    """What the rows of a file become: the table, the fields a mapping may name, and those it must."""

    table: Table
    fields: tuple[str, ...]
    required: tuple[str, ...]
    person: str = "none"  # "none", "may" or "must" a row be about a person
    moment: str | None = "at"  # the field `since` and `before` look at
    extra: str | None = None  # the table's column for JSON of what else a mapping names


WHAT = {
    "events": Rows(
        EVENTS,
        (
            *("event_id", "line", "at", "order_id", "item_id", "title", "kind", "price", "quantity", "currency"),
            *("value", "rating", "session_id", "query", "text", "dwell_s", "scroll", "position", "surface", "channel"),
            *("campaign_id", "recommendation_id"),
        ),
        ("at",),
        person="may",  # or is a guest known by its order
        extra="extra",
    ),
    "items": Rows(
        ITEMS,
        ("item_id", "title", "valid_from", "description", "category", "brand", "price", "currency"),
        ("item_id",),
        moment="valid_from",
        extra="attributes",
    ),
    "exposures": Rows(
        EXPOSURES, ("at", "what", "arm", "propensity", "cost", "outcome"), ("at", "what", "arm"), person="may"
    ),
    "outside": Rows(
        OUTSIDE, ("at", "kind", "item_id", "text", "price", "currency", "rating"), ("at", "kind"), extra="extra"
    ),
    "signals": Rows(SIGNALS, ("at", "signal", "value", "unit", "session_id"), ("at", "signal", "value"), person="must"),
    "users": Rows(USERS, ("valid_from",), (), person="must", moment="valid_from"),
    "consent": Rows(CONSENT, ("at", "purpose", "granted"), ("at", "purpose", "granted"), person="must"),
    "media": Rows(MEDIA, ("path", "owner", "owner_id", "at", "start_s"), ("path", "owner"), person="may"),
    "examples": Rows(EXAMPLES, ("text", "label"), (), moment=None, extra="columns"),
}
FIELDS = {name: rows.fields for name, rows in WHAT.items()}
OWNERS = ("item", "event", "user")


@dataclass(frozen=True)
class User:
    """Who a row is about."""

    column: str
    alias_kind: str = "user_id"  # what the column holds: user_id, email, phone, anonymous_id
    guest: str = "order"  # a row without a user: "order" = a guest known by its order, "refuse" = not accepted
    nobody: tuple[str, ...] = ()  # values of the column that name no user, such as "0"
    anonymous: str | None = None  # the column of a visitor's anonymous_id; a row with both joins visitor and user


@dataclass(frozen=True)
class Rule:
    """Rows whose `field` starts with `prefix` are of this kind."""

    field: str
    prefix: str
    kind: str


@dataclass(frozen=True)
class Kind:
    """The kind of event a row is: by rules, or by what a column says."""

    default: str = "Order Completed"
    rules: tuple[Rule, ...] = ()
    names: dict[str, str] = field(default_factory=dict)  # what the file's column says -> our kind


@dataclass(frozen=True)
class Mapping:
    """What a file's columns mean. Raises SettingsError when made from something that cannot be meant."""

    source: str
    time_zone: str | None = None  # of times that carry no offset: needed as soon as a column is a time
    columns: dict[str, str] = field(default_factory=dict)  # our field -> the file's column
    what: str = "events"  # or items, users, exposures, outside, signals, consent, media, examples
    fixed: dict[str, str] = field(default_factory=dict)  # our field -> what it is in every row
    currency: str | None = None  # None = the workspace's
    time_format: str | None = None  # strftime, or seconds, milliseconds, microseconds; None = ISO 8601
    time_formats: tuple[str, ...] = ()  # further ones, tried in this order where the first does not fit
    decimal: str = "."  # or ","
    user: User | None = None  # None = every row is a guest known by its order
    user_attributes: dict[str, str] = field(default_factory=dict)  # our name -> the file's column
    extra: dict[str, str] = field(default_factory=dict)  # our name -> the file's column, kept as JSON
    kind: Kind = Kind()
    valid_from: dt.datetime | None = None  # of items and users without a column that says so
    reader: str | None = None  # how the file is read, as in sources.Form; None = told from its content
    delimiter: str | None = None
    encoding: str | None = None
    header: bool = True
    quotes: bool | None = None
    sheet: str | None = None
    query: str | None = None
    lines: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        _check(self)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The columns of the file that are read."""
        user = [c for c in (self.user.column, self.user.anonymous) if c] if self.user else []
        more = (*self.user_attributes.values(), *self.extra.values())
        return tuple(dict.fromkeys((*self.columns.values(), *user, *more)))

    @property
    def form(self) -> Form:
        """How the file is read."""
        return Form(
            self.reader,
            self.delimiter,
            self.encoding,
            self.header,
            self.quotes,
            self.sheet,
            self.query,
            self.lines,
        )

    @property
    def rows(self) -> Rows:
        """What the rows become."""
        return WHAT[self.what]


def read_mapping(path: Path) -> Mapping:
    """Read a mapping file. Raises SettingsError: not TOML, an unknown key ("did you mean"), one that is missing."""
    return fill(Mapping, read_toml(path), where=path.name)


def _wrong(mapping: Mapping, setting: str, found: str, consequence: str, remedy: str) -> SettingsError:
    where = f"mapping '{mapping.source}'.{setting}"
    return SettingsError(where, found=found, consequence=consequence, remedy=remedy)


def _check(mapping: Mapping) -> None:
    _check_zone(mapping)
    if mapping.what not in FIELDS:
        raise _wrong(
            mapping,
            "what",
            f"'{mapping.what}' is unknown",
            "The rows would go nowhere",
            did_you_mean(mapping.what, FIELDS),
        )
    _check_columns(mapping)
    _check_people(mapping)
    _check_kind(mapping)
    _check_form(mapping)


def _check_zone(mapping: Mapping) -> None:
    hint = "Write a name such as Europe/London, or UTC"
    times = [name for name in MOMENT if name in mapping.columns]
    if mapping.time_zone is None and times:
        raise _wrong(
            mapping,
            "time_zone",
            f"'time_zone' is missing, and '{times[0]}' is a time",
            "A time without an offset could be that of any place",
            hint,
        )
    if mapping.time_zone is not None and mapping.time_zone not in _ZONES:
        raise _wrong(
            mapping,
            "time_zone",
            f"'{mapping.time_zone}' is no time zone of the IANA list",
            "Every moment of the file would be off by hours",
            f"{_zone(mapping.time_zone)} {hint}",
        )


def _check_columns(mapping: Mapping) -> None:
    for setting, names in (("columns", mapping.columns), ("fixed", mapping.fixed)):
        for name in names:
            if name not in FIELDS[mapping.what]:
                raise _wrong(
                    mapping,
                    setting,
                    f"there is no field '{name}' of {mapping.what}",
                    "The column would be ignored in silence",
                    did_you_mean(name, FIELDS[mapping.what]),
                )
    for name in mapping.fixed:
        if name in mapping.columns or name not in WORDS:
            raise _wrong(
                mapping,
                f"fixed.{name}",
                "there is a column for it as well" if name in mapping.columns else "only words can be fixed",
                "Two answers to one question" if name in mapping.columns else "It would have to be read as a number",
                "Keep the column or the fixed value" if name in mapping.columns else "Give a column for it",
            )
    for required in mapping.rows.required:
        if required not in mapping.columns and required not in mapping.fixed:
            raise _wrong(
                mapping,
                "columns",
                f"no column is given for '{required}'",
                f"A row of {mapping.what} without it means nothing",
                f'Add: {required} = "<column of the file>"',
            )
    if mapping.rows.moment == "valid_from" and mapping.valid_from is None and "valid_from" not in mapping.columns:
        raise _wrong(
            mapping,
            "valid_from",
            "neither a moment nor a column for it is given",
            f"Nobody could tell from when on the {mapping.what} were known to be so",
            "Add: valid_from = 2011-09-09, or the column that says so",
        )
    if mapping.what == "examples" and "text" not in mapping.columns and not mapping.extra:
        raise _wrong(
            mapping,
            "columns",
            "neither a text nor extra columns are given",
            "An example without them teaches nothing",
            'Add: text = "<column of the file>", or columns under [extra]',
        )
    if mapping.extra and mapping.rows.extra is None:
        raise _wrong(
            mapping,
            "extra",
            f"{mapping.what} have no place for extra columns",
            "They would be lost in silence",
            "Leave [extra] out",
        )


def _check_people(mapping: Mapping) -> None:
    person = mapping.rows.person
    if mapping.what == "users" and not mapping.user_attributes:
        raise _wrong(
            mapping,
            "user_attributes",
            "no column is given",
            "Nothing would be said of anybody",
            'Add under [user_attributes]: city = "<column of the file>"',
        )
    if mapping.user_attributes and mapping.what not in ("events", "users"):
        raise _wrong(
            mapping,
            "user_attributes",
            f"{mapping.what} have no place for what is said of a person",
            "The columns would be ignored in silence",
            'Leave them out, or import them with a mapping of what = "users"',
        )
    if mapping.what == "events" and mapping.user is None and "order_id" not in mapping.columns:
        raise _wrong(
            mapping,
            "user",
            "neither a user's column nor an order_id is given",
            "No row could be told to be anybody's",
            'Add: [user] column = "<column of the file>"',
        )
    if person == "must" and mapping.user is None:
        raise _wrong(
            mapping,
            "user",
            "no user's column is given",
            f"A row of {mapping.what} is about a person",
            'Add: [user] column = "<column of the file>"',
        )
    if mapping.user is not None and person == "none":
        raise _wrong(
            mapping,
            "user",
            f"{mapping.what} are about no person",
            "The raw ids would be stored for nothing",
            "Leave [user] out",
        )
    if mapping.user is not None and mapping.user.guest not in ("order", "refuse"):
        raise _wrong(
            mapping,
            "user.guest",
            f"'{mapping.user.guest}' is unknown",
            "What happens to a row without a user is undecided",
            'Write "order" (a guest known by its order) or "refuse"',
        )
    if mapping.what == "media":
        owner = mapping.fixed.get("owner")
        if owner is not None and owner not in OWNERS:
            raise _wrong(
                mapping,
                "fixed.owner",
                f"'{owner}' is unknown",
                "Nobody could tell what a picture shows",
                did_you_mean(owner, OWNERS),
            )
        if mapping.user is None and "owner_id" not in mapping.columns:
            raise _wrong(
                mapping,
                "columns",
                "neither an owner_id nor a user's column is given",
                "Nobody could tell what a picture shows",
                'Add: owner_id = "owner" (the name of the file without its number), or a column of the manifest',
            )


def _check_kind(mapping: Mapping) -> None:
    if mapping.kind.rules and ("kind" in mapping.columns or "kind" in mapping.fixed):
        raise _wrong(
            mapping,
            "kind.rules",
            "there are rules and a column for the kind",
            "Two answers to one question",
            "Keep the column or the rules",
        )
    if mapping.kind.names and "kind" not in mapping.columns:
        raise _wrong(
            mapping,
            "kind.names",
            "no column is given for the kind",
            "There is nothing to look the names up for",
            'Add under [columns]: kind = "<column of the file>"',
        )
    for rule in mapping.kind.rules:
        if rule.field not in mapping.columns or rule.field not in WORDS:
            raise _wrong(
                mapping,
                "kind.rules",
                f"the rule looks at '{rule.field}', which no text column is given for",
                "It could never fit",
                did_you_mean(rule.field, set(mapping.columns) & set(WORDS)),
            )


def _check_form(mapping: Mapping) -> None:
    given = mapping.delimiter
    if given is not None and given != "::" and (len(given) != 1 or not given.isascii() or given in '"\r\n'):
        raise _wrong(
            mapping,
            "delimiter",
            f"{mapping.delimiter!r} is no delimiter",
            "The columns could not be told apart",
            'Write one, such as "," or ";" or "\\t"',
        )
    if mapping.decimal not in (".", ","):
        raise _wrong(
            mapping,
            "decimal",
            f"{mapping.decimal!r} is no decimal mark",
            "Prices could not be read",
            'Write "." or ","',
        )
    if mapping.encoding is not None and not _is_encoding(mapping.encoding):
        raise _wrong(
            mapping,
            "encoding",
            f"'{mapping.encoding}' is no encoding of text",
            "The letters could not be read",
            "Write one, such as utf-8, gb18030, cp1252, latin-1, shift_jis or utf-16",
        )
    if mapping.currency is not None and not is_currency(mapping.currency):
        raise _wrong(
            mapping,
            "currency",
            f"'{mapping.currency}' is no currency code",
            "Money without a currency cannot be added up",
            "Write three capital letters, such as EUR, GBP or CNY",
        )


def _is_encoding(name: str) -> bool:
    try:
        return "a".encode(name).decode(name) == "a" and codecs.lookup(name)._is_text_encoding
    except (LookupError, ValueError, AttributeError, TypeError):
        return False


def _zone(name: str) -> str:
    """Suggest a zone by its city, without listing all six hundred."""
    hint = did_you_mean(name, _ZONES)
    if hint.startswith("Did you mean"):
        return hint
    city = name.rsplit("/", 1)[-1].casefold()
    same = sorted(zone for zone in _ZONES if zone.rsplit("/", 1)[-1].casefold() == city)
    return f"Did you mean '{same[0]}'?" if same else ""
