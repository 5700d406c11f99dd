"""What one column of an unknown file looks like, and which of our fields its name and its values fit."""

from __future__ import annotations

import datetime as dt
import re
import tomllib
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from habitue.collect import values

TODAY = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)

_DATES = (
    ("%Y-%m-%d", "ymd"),
    ("%Y/%m/%d", "ymd"),
    ("%Y.%m.%d", "ymd"),
    ("%Y年%m月%d日", "ymd"),
    ("%Y%m%d", "ymd"),
    ("%d/%m/%Y", "dmy"),
    ("%m/%d/%Y", "mdy"),
    ("%d.%m.%Y", "dmy"),
    ("%d.%m.%y", "dmy"),
    ("%d/%m/%y", "dmy"),
    ("%m/%d/%y", "mdy"),
    ("%d-%m-%Y", "dmy"),
    ("%m-%d-%Y", "mdy"),
    ("%d %b %Y", "text"),
    ("%b %d, %Y", "text"),
    ("%d %B %Y", "text"),
    ("%B %d, %Y", "text"),
    ("%d-%b-%Y", "text"),
)
_CLOCKS = ("", " %H:%M:%S", " %H:%M", " %I:%M:%S %p", " %I:%M %p", " %p%I:%M:%S", " %p%I:%M", "T%H:%M:%S", "%H:%M:%S")
_ZONED = (" %z", "%z")
_EPOCH_SPANS = {"seconds": (6e8, 4e9), "milliseconds": (6e11, 4e12), "microseconds": (6e14, 4e15)}  # 1989 to 2096

_WORDS = tomllib.loads((Path(__file__).parent / "words.toml").read_text(encoding="utf-8"))
_NAMES, _ATTRIBUTES, _MORE, _KINDS = (_WORDS[table] for table in ("fields", "attributes", "more", "kinds"))
_PERSON = re.compile(
    r"name$|^name|address|street|zip|postcode|postal|phone|mobile|mail|birth|passport|idcard|iban|recipient|receiver"
    r"|author|handle|收货人|姓名|地址|电话|手机|邮|身份证|昵称|旺旺|会员名|联系",
    re.IGNORECASE,
)
_NOBODY = ("0", "-1", "null", "none", "nan", "n/a", "na", "guest", "anonymous", "unknown", "undefined", "游客", "匿名")
_THINGS = re.compile(r"product|item|商品|产品|宝贝|campaign|event|file|^whole")
_NUMBERS = ("price", "quantity", "value", "rating", "propensity", "cost", "outcome", "position", "dwell_s", "scroll")
_EVENT_WORDS = ("event", "eventname", "eventtype", "事件", "行为", "行为类型", "事件类型")


@dataclass
class Profile:
    """What a sample of a column's values tells."""

    name: str
    plain: str  # the name as words.toml has it
    filled: float  # share of rows with a value
    distinct: float  # distinct values a value
    numeric: bool = False
    whole: bool = False
    low: float = 0.0
    high: float = 0.0
    decimal_comma: bool = False
    reads: tuple[float, float] = (0.0, 0.0)  # share of values that read as numbers with a point, and with a comma
    currencies: tuple[str, ...] = ()
    formats: list[str] = field(default_factory=list)  # of times, the commonest first; "iso" among them
    times: float = 0.0  # share of values that read as times
    offsets: float = 0.0  # share of times that carry one
    ambiguous: bool = False  # days and months cannot be told apart
    day_first: bool = False
    length: float = 0.0  # mean letters of a value
    values: list[str] = field(default_factory=list)  # all distinct ones, where they are few
    attribute: str | None = None  # what it says of a customer
    more: str | None = None  # what else it is worth keeping as
    person: bool = False  # may name somebody
    nobody: tuple[str, ...] = ()  # values that stand where a name is missing


def look(column: pl.Series, *, called: str | None = None) -> Profile:
    """Look at a sample of one column; `called`: what its name means, where that is not the name itself."""
    there = values.words(column).drop_nulls() if not column.dtype.is_temporal() else column.drop_nulls()
    plain = plain_name(called if called is not None else column.name)
    profile = Profile(column.name, plain, len(there) / max(len(column), 1), there.n_unique() / max(len(there), 1))
    profile.attribute = next((a for a, names in _ATTRIBUTES.items() if plain in names), None)
    profile.more = next((m for m, names in _MORE.items() if plain in names), None)
    if plain.endswith(("email", "mail", "邮箱")):
        plain = "email"
    profile.person = bool(_PERSON.search(plain)) and not _THINGS.search(f"{plain} {column.name.lower()}")
    if column.dtype.is_temporal():
        profile.formats, profile.offsets = ["iso"], float(getattr(column.dtype, "time_zone", None) is not None)
        return profile
    text = there.cast(pl.String).str.strip_chars()
    profile.length = float(text.str.len_chars().mean() or 0.0)  # type: ignore[arg-type]
    if text.n_unique() <= 40:
        profile.values = sorted(text.unique())
    profile.nobody = tuple(sorted(text.filter(text.str.to_lowercase().is_in(_NOBODY)).unique()))
    _look_at_numbers(profile, text)
    _look_at_times(profile, text)
    return profile


def fields(columns: list[Profile]) -> dict[str, Profile]:
    """Choose for each field the column that fits it best by name, values allowing; a column serves one field."""
    found: dict[str, Profile] = {}
    taken: set[int] = set()
    # Of several texts the longest is the text: beside "text", "review" is the number of a review.
    longest = sorted((p for p in columns if p.plain in _NAMES["text"]), key=lambda p: -p.length)
    ranked = [
        (longest.index(p) if name == "text" else names.index(p.plain), order, name, p)
        for order, (name, names) in enumerate(_NAMES.items())
        for p in columns
        if p.plain in names and _fits(name, p)
    ]
    for _, _, name, profile in sorted(ranked, key=lambda r: (r[0], r[1])):
        if name not in found and id(profile) not in taken:
            found[name] = profile
            taken.add(id(profile))
    for name, ends in (("email", ("email", "mail", "邮箱")), ("phone", ("phone", "mobile", "手机"))):
        ending = [p for p in columns if p.plain.endswith(ends) and id(p) not in taken]
        if name not in found and len(ending) == 1:
            found[name] = ending[0]
            taken.add(id(ending[0]))
    if all(re.fullmatch(r"\d+", p.name) for p in columns):
        _by_values(found, columns)
    if "at" not in found:  # a name nobody thought of, but values that can only be times
        times = [p for p in columns if p.formats and id(p) not in taken]
        if times:
            found["at"] = max(times, key=lambda p: p.filled)
    if "text" not in found:
        long = [p for p in columns if p.length > 40 and p.distinct > 0.3 and id(p) not in taken and not p.formats]
        if len(long) == 1 and "title" in found:
            found["text"] = long[0]
    return found


def misread(found: dict[str, Profile], columns: list[Profile]) -> dict[str, Profile]:
    """Return the fields that no column was chosen for because the one of that name does not read as numbers."""
    taken = {id(profile) for profile in found.values()}
    free = [p for p in columns if id(p) not in taken and not p.numeric and max(p.reads) > 0]
    wanted = [name for name in ("price", "quantity", "value", "rating") if name not in found]
    return {name: p for name in wanted for p in reversed(free) if p.plain in _NAMES[name]}


def holds_lines(name: str) -> bool:
    """Whether a list of this name holds the lines of an order."""
    return plain_name(name.rpartition(".")[2]) in _WORDS["lists"]["lines"]


def of_lines(name: str, lines: str) -> str:
    """Return what a column of an order with a list of `lines` means: an "id" outside of the list is the order's.

    So is money, and a name or a number, outside of it: they are kept from being taken for a line's.
    """
    if name.startswith(f"{lines}."):
        return name.removeprefix(f"{lines}.")
    plain = plain_name(name)
    if plain in ("id", "number", "name"):
        return "order id" if plain == "id" else "order number"
    of_a_line = ("item_id", "title", "quantity", "price", "value", "category", "brand")
    return f"whole {name}" if any(plain in _NAMES[f] for f in of_a_line) else name


def names_a_person(name: str) -> bool:
    """Whether a field's name says that it holds somebody's name, address or number."""
    return bool(_PERSON.search(plain_name(name)))


def kind_of(value: str) -> str | None:
    """Return the kind of event a word of somebody's file means, or None."""
    if value in _KINDS:
        return value
    plain = plain_name(value)
    return next((kind for kind, words in _KINDS.items() if plain in words), None)


def _by_values(found: dict[str, Profile], columns: list[Profile]) -> None:
    """Tell the columns of a file without a header: user, item, rating, seconds, as rating sets are written."""
    times = [p for p in columns if p.formats]
    if times:
        found.setdefault("at", times[0])
    rest = [p for p in columns if p not in times]
    ratings = [p for p in rest if p.numeric and p.distinct < 0.1 and 0 <= p.low and p.high <= 10]
    if ratings:
        found.setdefault("rating", ratings[0])
        rest = [p for p in rest if p is not ratings[0]]
    for name, profile in zip(("user", "item_id"), rest, strict=False):
        found.setdefault(name, profile)


def _fits(name: str, profile: Profile) -> bool:
    """Whether the values of a column can be those of a field."""
    if name == "at":
        return bool(profile.formats)
    if name in _NUMBERS:
        return profile.numeric
    if name in ("text", "query", "label", "title"):
        return not profile.numeric
    if name == "currency":
        return bool(profile.currencies)
    if name == "event_id":
        return profile.distinct == 1.0 and profile.filled == 1.0  # of two rows with one id, the second would be lost
    if name == "kind":
        known = sum(kind_of(value) is not None for value in profile.values)
        return profile.plain in _EVENT_WORDS or known > 0.5 * len(profile.values)
    return True


def _look_at_numbers(profile: Profile, text: pl.Series) -> None:
    point, bad_point = values.numbers(text)
    comma, bad_comma = values.numbers(text, decimal=",")
    goods = len(text) - int(bad_point.sum()), len(text) - int(bad_comma.sum())
    decimals = int(text.str.contains(r",\d{1,2}(?:\D*)$").sum()), int(text.str.contains(r"\.\d{1,2}(?:\D*)$").sum())
    profile.decimal_comma = goods[1] > goods[0] or (goods[0] == goods[1] and decimals[0] > decimals[1])
    number = comma if profile.decimal_comma else point
    profile.numeric = len(text) > 0 and max(goods) >= 0.8 * len(text)
    profile.reads = goods[0] / max(len(text), 1), goods[1] / max(len(text), 1)
    if profile.numeric:
        known = number.drop_nulls()
        profile.low, profile.high = float(known.min() or 0), float(known.max() or 0)  # type: ignore[arg-type]
        profile.whole = bool((known == known.floor()).all())
    if profile.length < 30:
        codes = values.currencies(text).drop_nulls()
        if len(codes) > (0.05 if profile.numeric else 0.5) * len(text):
            common = codes.value_counts(sort=True)
            profile.currencies = tuple(sorted(common.filter(pl.col("count") > 0.01 * len(text))[:, 0]))


def _look_at_times(profile: Profile, text: pl.Series) -> None:
    if not len(text) or profile.length > 40:
        return
    number = text.cast(pl.Float64, strict=False)
    for unit, (low, high) in _EPOCH_SPANS.items():
        if bool(number.is_between(low, high).fill_null(False).all()):
            profile.formats, profile.offsets = [unit], 1.0
            return
    if profile.numeric and not (profile.whole and text.str.len_chars().eq(8).all()):
        return
    left, counts = text, dict[str, int]()
    iso = values.moments(text, zone="UTC", time_format=None)
    if iso.null_count() < len(iso):
        counts["iso"] = len(iso) - iso.null_count()
        left = text.filter(iso.is_null())
    while len(left):
        tried = {form: _reads(left, form) for form in _candidates(left)}
        best = max(tried, key=lambda form: tried[form], default=None)
        if best is None or tried[best] < max(1, 0.002 * len(text)):
            break
        rivals = [f for f in tried if tried[f] == tried[best] and f != best]
        swapped = best.replace("%d", "%x").replace("%m", "%d").replace("%x", "%m")
        if swapped in rivals and best != swapped:
            profile.ambiguous = True
            dotted = best if best.startswith("%d") else swapped
            other = swapped if dotted == best else best
            best = dotted if counts.keys() & {"iso"} or not _american(text) else other
            profile.day_first = best.startswith("%d")
        counts[best] = tried[best]
        left = left.filter(_moments(left, best).is_null())
    profile.times = sum(counts.values()) / len(text)
    if profile.times >= (0.5 if profile.plain in _NAMES["at"] else 0.8):  # a name that says so makes up for bad rows
        profile.formats = sorted(counts, key=lambda f: -counts[f])
        profile.offsets = float((text.str.contains(r"\d(?:Z| ?UTC| ?GMT| ?[+-]\d{2}:?\d{2})$")).mean() or 0.0)  # type: ignore[arg-type]


def _american(text: pl.Series) -> bool:
    """Half-day clocks are how America writes times."""
    return bool(text.str.contains(r"(?i)[ap]m").any())


def _candidates(left: pl.Series) -> list[str]:
    """The formats that the letters of a value allow."""
    head = left.head(200)
    marks = {m for m in ("/", ".", "年", ",", "-") if head.str.contains(m, literal=True).any()}
    letters = head.str.contains(r"[A-Za-z]{3}").any()
    zoned = head.str.contains(r"[+-]\d{2}:?\d{2}$").any()
    half = head.str.contains(r"(?i)[ap]m|上午|下午|凌晨|晚上").any()
    forms = []
    for date, kind in _DATES:
        marked = re.findall(r"[/.年,-]", date)
        if (kind == "text") != bool(letters and not half) and kind == "text":
            continue
        if any(m not in marks for m in marked):
            continue
        for clock in _CLOCKS:
            if ("%p" in clock) != bool(half) and "%p" in clock:
                continue
            forms.append(date + clock)
            if zoned and clock:
                forms += [date + clock + z for z in _ZONED]
    return forms


def _reads(text: pl.Series, form: str) -> int:
    found = _moments(text, form)
    sensible = found.dt.year().is_between(1970, 2100).fill_null(False)
    return int(sensible.sum())


def _moments(text: pl.Series, form: str) -> pl.Series:
    return values.moments(text, zone="UTC", time_format=form)


def plain_name(name: str) -> str:
    """A name in small letters without accents, spaces, marks and a leading namespace."""
    letters = unicodedata.normalize("NFD", name.rpartition(":")[2].strip().lower())
    return re.sub(r"[\s_\-./#()（）:：]+", "", "".join(c for c in letters if unicodedata.category(c) != "Mn"))
