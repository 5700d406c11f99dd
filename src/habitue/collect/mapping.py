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

import datetime as dt
import zoneinfo
from dataclasses import dataclass, field
from pathlib import Path

from habitue.core.errors import SettingsError, did_you_mean
from habitue.core.settings import fill, read_toml
from habitue.core.workspace import is_currency

MOMENT = ("at", "valid_from")
NUMBERS = ("price", "quantity", "value", "rating", "dwell_s", "scroll", "position")
WORDS = (
    *("order_id", "item_id", "title", "kind", "session_id", "surface", "channel", "campaign_id"),
    *("description", "category", "brand"),
)
_ZONES = frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})  # names of no place
FIELDS = {
    "events": (
        *("at", "order_id", "item_id", "title", "kind", "price", "quantity", "value", "rating", "session_id"),
        *("dwell_s", "scroll", "position", "surface", "channel", "campaign_id"),
    ),
    "items": ("item_id", "title", "valid_from", "description", "category", "brand", "price"),
}


@dataclass(frozen=True)
class User:
    """Who a row is about."""

    column: str
    alias_kind: str = "user_id"  # what the column holds: user_id, email, phone, anonymous_id
    guest: str = "order"  # a row without a user: "order" = a guest known by its order, "refuse" = not accepted


@dataclass(frozen=True)
class Rule:
    """Rows whose `field` starts with `prefix` are of this kind."""

    field: str
    prefix: str
    kind: str


@dataclass(frozen=True)
class Kind:
    """The kind of event a row is, where no column says so."""

    default: str = "Order Completed"
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Mapping:
    """What a file's columns mean. Raises SettingsError when made from something that cannot be meant."""

    source: str
    time_zone: str
    columns: dict[str, str]  # our field -> the file's column
    what: str = "events"  # or "items": a catalogue
    currency: str | None = None  # None = the workspace's
    time_format: str | None = None  # strftime; None = ISO 8601
    delimiter: str = ","  # of a CSV
    user: User | None = None  # None = every row is a guest known by its order
    user_attributes: dict[str, str] = field(default_factory=dict)  # our name -> the file's column
    kind: Kind = Kind()
    valid_from: dt.datetime | None = None  # of a catalogue without a column that says so

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        _check(self)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The columns of the file that are read."""
        user = (self.user.column,) if self.user else ()
        return tuple(dict.fromkeys((*self.columns.values(), *user, *self.user_attributes.values())))


def read_mapping(path: Path) -> Mapping:
    """Read a mapping file. Raises SettingsError: not TOML, an unknown key ("did you mean"), one that is missing."""
    return fill(Mapping, read_toml(path), where=path.name)


def _check(mapping: Mapping) -> None:
    where = f"mapping '{mapping.source}'"

    def wrong(setting: str, found: str, consequence: str, remedy: str) -> SettingsError:
        return SettingsError(f"{where}.{setting}", found=found, consequence=consequence, remedy=remedy)

    if mapping.time_zone not in _ZONES:
        raise wrong(
            "time_zone",
            f"'{mapping.time_zone}' is no time zone of the IANA list",
            "Every moment of the file would be off by hours",
            f"{_zone(mapping.time_zone)} Write a name such as Europe/London, or UTC",
        )
    if mapping.what not in FIELDS:
        raise wrong(
            "what", f"'{mapping.what}' is unknown", "The rows would go nowhere", did_you_mean(mapping.what, FIELDS)
        )
    for name in mapping.columns:
        if name not in FIELDS[mapping.what]:
            raise wrong(
                "columns",
                f"there is no field '{name}' of {mapping.what}",
                "The column would be ignored in silence",
                did_you_mean(name, FIELDS[mapping.what]),
            )
    required = "at" if mapping.what == "events" else "item_id"
    if required not in mapping.columns:
        raise wrong(
            "columns",
            f"no column is given for '{required}'",
            f"A row of {mapping.what} without it means nothing",
            f'Add: {required} = "<column of the file>"',
        )
    if mapping.what == "events" and mapping.user is None and "order_id" not in mapping.columns:
        raise wrong(
            "user",
            "neither a user's column nor an order_id is given",
            "No row could be told to be anybody's",
            'Add: [user] column = "<column of the file>"',
        )
    if mapping.what == "items" and mapping.valid_from is None and "valid_from" not in mapping.columns:
        raise wrong(
            "valid_from",
            "neither a moment nor a column for it is given",
            "Nobody could tell from when on the words were known",
            "Add: valid_from = 2011-09-09, or the column that says so",
        )
    if mapping.user is not None and mapping.user.guest not in ("order", "refuse"):
        raise wrong(
            "user.guest",
            f"'{mapping.user.guest}' is unknown",
            "What happens to a row without a user is undecided",
            'Write "order" (a guest known by its order) or "refuse"',
        )
    if mapping.kind.rules and "kind" in mapping.columns:
        raise wrong(
            "kind.rules",
            "there are rules and a column for the kind",
            "Two answers to one question",
            "Keep the column or the rules",
        )
    for rule in mapping.kind.rules:
        if rule.field not in mapping.columns or rule.field not in WORDS:
            raise wrong(
                "kind.rules",
                f"the rule looks at '{rule.field}', which no text column is given for",
                "It could never fit",
                did_you_mean(rule.field, set(mapping.columns) & set(WORDS)),
            )
    if len(mapping.delimiter) != 1 or not mapping.delimiter.isascii() or mapping.delimiter in '"\r\n':
        raise wrong(
            "delimiter",
            f"{mapping.delimiter!r} is no delimiter",
            "The columns could not be told apart",
            'Write one, such as "," or ";" or "\\t"',
        )
    if mapping.currency is not None and not is_currency(mapping.currency):
        raise wrong(
            "currency",
            f"'{mapping.currency}' is no currency code",
            "Money without a currency cannot be added up",
            "Write three capital letters, such as EUR, GBP or CNY",
        )


def _zone(name: str) -> str:
    """Suggest a zone by its city, without listing all six hundred."""
    hint = did_you_mean(name, _ZONES)
    if hint.startswith("Did you mean"):
        return hint
    city = name.rsplit("/", 1)[-1].casefold()
    same = sorted(zone for zone in _ZONES if zone.rsplit("/", 1)[-1].casefold() == city)
    return f"Did you mean '{same[0]}'?" if same else ""
