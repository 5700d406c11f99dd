"""Every file an import reads, under every table it may fill; first guesses; and tables that are named to the bench."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import re
import sqlite3
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from changes import MOMENT
from loop import Group, Parser

import habitue
from habitue.bench import files as tables
from habitue.bench import sequences
from habitue.bench.tasks import reading
from habitue.collect import Limits, Mapping, guess, importer, sources
from habitue.collect.mapping import Kind, Rule, User, read_mapping
from habitue.collect.staging import staging
from habitue.core.errors import HabitueError
from habitue.core.workspace import open_workspace

NOW = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
LIMITS = Limits(max_bytes=4 << 20, max_rows=20_000, max_record=1 << 20)
FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))  # of the process, and small; nothing in it outlives an input
FILE = FOLDER / "file"
(FOLDER / "Mug").write_text("What the table of media names.")
HEAD = ("When", "Order", "Customer", "Visitor", "Sku", "Name", "Price", "Count", "Money", "Kind", "Stars", "Said")
ROWS = (
    (
        "2026-05-01 11:59:00",
        "o1",
        "u1",
        "v1",
        "A",
        "Mug",
        "2.50",
        "2",
        "EUR",
        "buy",
        "5",
        "From jane@shop.example",
    ),
    ("2026-05-02T08:00:00+02:00", "o1", "u1", "", "B", 'Cup "big"', "1,234.50", "1", "EUR", "view", "", ""),
    ("2026-05-03", "C2", "", "v2", "A", "Mug", "(3.00)", "-1", "USD", "buy", "4.5", "broken"),
)
COLUMNS = dict(zip(("at", "order_id", "item_id", "title"), ("When", "Order", "Sku", "Name"), strict=True))
EVENTS = COLUMNS | {"price": "Price", "quantity": "Count", "currency": "Money", "rating": "Stars", "text": "Said"}
PERSON = User("Customer", anonymous="Visitor", nobody=("0",))
LEDGER = Mapping(
    "ledger",
    "Europe/London",
    EVENTS,
    user=PERSON,
    time_formats=("%d.%m.%Y %H:%M", "seconds"),
    user_attributes={"country": "Kind"},
    extra={"note": "Said"},
    kind=Kind(rules=(Rule("order_id", "C", "Order Refunded"),)),
)
KINDS = Mapping(
    "kinds", "UTC", EVENTS | {"kind": "Kind"}, user=PERSON, kind=Kind(names={"buy": "Order Completed", "view": "Seen"})
)
OTHERS = {  # what the same table may become as well
    "items": Mapping(
        "i",
        "UTC",
        {"item_id": "Sku", "title": "Name", "price": "Price", "valid_from": "When", "category": "Kind"},
        what="items",
        extra={"stars": "Stars"},
    ),
    "users": Mapping("u", "UTC", {"valid_from": "When"}, what="users", user=PERSON, user_attributes={"kind": "Kind"}),
    "consent": Mapping(
        "c", "UTC", {"at": "When", "purpose": "Kind", "granted": "Count"}, what="consent", user=User("Customer")
    ),
    "exposures": Mapping(
        "x",
        "UTC",
        {"at": "When", "arm": "Kind", "propensity": "Count", "cost": "Price"},
        what="exposures",
        fixed={"what": "mail"},
        user=PERSON,
    ),
    "signals": Mapping(
        "s", "UTC", {"at": "When", "signal": "Kind", "value": "Price"}, what="signals", user=User("Customer")
    ),
    "outside": Mapping("o", "UTC", {"at": "When", "kind": "Kind", "text": "Said", "price": "Price"}, what="outside"),
    "examples": Mapping("e", columns={"text": "Said", "label": "Kind"}, what="examples", extra={"price": "Price"}),
    "media": Mapping("m", columns={"path": "Name", "owner_id": "Sku"}, what="media", fixed={"owner": "item"}),
}


def text(separator: str = ",", encoding: str = "utf-8", *, decimal: str = ".", end: str = "\n") -> bytes:
    """Write the table as text."""

    def field(value: str) -> str:
        value = value if decimal == "." else re.sub(r"^(\d+)\.(\d\d)$", r"\1,\2", value)
        return '"' + value.replace('"', '""') + '"' if separator in value or '"' in value else value

    lines = [separator.join(map(field, row)) for row in (HEAD, *ROWS)]
    return (end.join(lines) + end).encode(encoding)


RECORDS = [dict(zip(HEAD, row, strict=True)) for row in ROWS]
SHOPIFY = {  # an order of an app's dump, with its lines in it
    "id": 1,
    "created_at": MOMENT,
    "currency": "EUR",
    "total_price": "8.00",
    "customer": {"id": 7, "email": "jane@shop.example", "default_address": {"city": "Bonn"}},
    "line_items": [
        {"sku": "A", "title": "Mug", "price": "2.50", "quantity": 2, "properties": []},
        {"sku": "B", "title": "Cup", "price": "3.00", "quantity": 1},
    ],
}
OF_LINES = Mapping(
    "shopify",
    "UTC",
    {"at": "created_at", "order_id": "id", "item_id": "line_items.sku", "price": "line_items.price"},
    user=User("customer.id"),
    lines="line_items",
)
WOO = (
    "ID,Type,SKU,Name,Published,Short description,In stock?,Regular price,Categories,Images,Meta: _x\n"
    '7,simple,A-1,"Mug, blue",1,"<p>Keeps ""warm""</p>",1,12.50,"Home > Kitchen, Gifts",https://x/a.jpg,\n'
    "8,variable,A-2,Cup,1,,0,,Home,,1\n"
)
TRACKED = {"type": "track", "event": "Order Completed", "messageId": "m1", "userId": "u1", "anonymousId": "a1"}
TRACKED |= {"timestamp": MOMENT, "properties": {"order_id": "o", "products": [{"product_id": "A", "price": 2.5}]}}
NAMED = {"type": "identify", "messageId": "m2", "userId": "u1", "timestamp": MOMENT, "traits": {"plan": "gold"}}
DAILY = {"event_name": "purchase", "event_timestamp": 1_777_636_740_000_000, "user_pseudo_id": "a1", "user_id": "u1"}
DAILY |= {"items": [{"item_id": "A", "item_name": "Mug", "price": 2.5, "quantity": 1}], "geo": {"country": "DE"}}
DAILY |= {"event_params": [{"key": "transaction_id", "value": {"string_value": "o1"}}]}
ROW = {"at": "at", "event_id": "event_id", "line": "line", "kind": "kind", "item_id": "item_id", "price": "price"}
OF_TRACKERS = {
    "segment": Mapping("segment", "UTC", ROW, user=User("user_id", anonymous="anonymous_id")),
    "ga4": Mapping("ga4", "UTC", ROW, user=User("user_id", anonymous="anonymous_id"), time_format="microseconds"),
}
OF_NAMES = Mapping(
    "names",
    "UTC",
    {"valid_from": "at"},
    what="users",
    user=User("user_id", anonymous="anonymous_id"),
    user_attributes={"plan": "traits.plan"},
    reader="identify",
)
FEED = (
    '<?xml version="1.0"?>\n<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel><title>Shop</title>'
    "<item><g:id>A</g:id><title>Mug &amp; lid</title><g:price>2.50 EUR</g:price><g:brand>Acme</g:brand>"
    "<g:shipping><g:country>DE</g:country><g:price>1</g:price></g:shipping><g:link>https://x</g:link></item>"
    "<item><g:id>B</g:id><title><![CDATA[Cup]]></title><g:price>3</g:price></item></channel></rss>"
)
PAGE = (
    '<!DOCTYPE html><html><head><script type="application/ld+json">{"@context": "https://schema.org", "@graph": '
    '[{"@type": "Product", "sku": "A", "name": "Mug", "brand": {"name": "Acme"}, "offers": [{"price": 2.5, '
    '"priceCurrency": "EUR"}]}]}</script></head><body><p>Hello</body></html>'
)
IN_A_FEED = Mapping("feed", columns={"item_id": "id", "title": "title", "price": "price"}, what="items", valid_from=NOW)
NAMELESS = Mapping("n", "UTC", {"at": "4", "item_id": "2"}, user=User("1"), header=False, time_format="seconds")
LISTS = b"u1 a b c\nu2 b\nu3 c,a\n"
OF_LISTS = Mapping("lists", "UTC", {"at": "at", "item_id": "item"}, user=User("user"), reader="sequences")
SHEET = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
    '<row r="1"><c r="A1" t="inlineStr"><is><t>When</t></is></c><c r="B1" t="s"><v>0</v></c>'
    '<c r="C1" t="inlineStr"><is><t>Customer</t></is></c></row>'
    '<row r="2"><c r="A2" s="1"><v>45000.5</v></c><c r="B2" t="str"><v>o1</v></c><c r="C2"><v>7</v></c></row>'
    '<row r="3"><c r="A3" t="d"><v>2026-05-01</v></c><c r="B3" t="b"><v>1</v></c><c r="C3" t="e"><v>#N/A</v></c></row>'
    "</sheetData></worksheet>"
)
BOOK = {  # the files of a workbook
    "xl/workbook.xml": '<workbook xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">'
    '<sheets><sheet name="Orders" sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": '<Relationships><Relationship Id="rId1" Target="worksheets/sheet1.xml"/>'
    "</Relationships>",
    "xl/sharedStrings.xml": "<sst><si><t>Order</t></si><si><r><t>Na</t></r><r><t>me</t></r></si></sst>",
    "xl/styles.xml": '<styleSheet><numFmts><numFmt numFmtId="170" formatCode="yyyy\\-mm"/></numFmts>'
    '<cellXfs><xf numFmtId="0"/><xf numFmtId="170"/></cellXfs></styleSheet>',
    "xl/worksheets/sheet1.xml": SHEET,
}
SHORT = Mapping("short", "UTC", {"at": "When", "order_id": "Order"}, user=User("Customer"))
TYPES: dict[str, pl.DataType] = {
    "text": pl.String(),
    "whole": pl.Int64(),
    "number": pl.Float64(),
    "small": pl.Float32(),
    "moment": pl.Datetime("ns", "Asia/Tokyo"),
    "local": pl.Datetime("ms"),
    "date": pl.Date(),
    "clock": pl.Time(),
    "span": pl.Duration("us"),
    "truth": pl.Boolean(),
    "money": pl.Decimal(38, 6),
    "word": pl.Categorical(),
    "list": pl.List(pl.String()),
    "object": pl.Struct({"a": pl.Int64()}),
    "bytes": pl.Binary(),
    "nothing": pl.Null(),
}
TYPED = {  # column -> its type and its values, of which those that do not fit are left out
    "When": ["moment", [1_777_636_740_000_000_000, 0, None]],
    "Order": ["text", ["o1", "o2", "C3"]],
    "Customer": ["whole", [7, 8, None]],
    "Sku": ["text", ["A", "B", "A"]],
    "Price": ["money", ["2.5", "3", None]],
    "Count": ["number", [1.0, 2.5, -1.0]],
}
OF_TYPES = Mapping(
    "typed",
    "UTC",
    {"at": "When", "order_id": "Order", "item_id": "Sku", "price": "Price", "quantity": "Count"},
    user=User("Customer"),
)


def archive(members: dict[str, Any]) -> bytes:
    """Pack a zip."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            content = content if isinstance(content, str | bytes) else json.dumps(content)
            opened.writestr(name.encode(errors="replace").decode() or "x", _bytes(content))
    return packed.getvalue()


def _bytes(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode(errors="surrogateescape")


def packed(body: bytes) -> bytes:
    """Make a workbook of the names and texts of its files, told as JSON; anything else stays as it is."""
    try:
        members = json.loads(body)
        return archive(members) if isinstance(members, dict) else body
    except (ValueError, RecursionError):
        return body


def parquet(body: bytes) -> bytes:
    """Make Parquet of columns that are told as JSON; anything else stays as it is."""
    try:
        told = json.loads(body)
        columns = told.items() if isinstance(told, dict) else ()
        series = [_series(name, *one) for name, one in columns if isinstance(one, list) and len(one) == 2]
        height = max((len(one) for one in series), default=0)
        frame = pl.DataFrame([one.extend_constant(None, height - len(one)) for one in series])
    except (ValueError, RecursionError, TypeError, OverflowError, pl.exceptions.PolarsError):
        return body
    written = io.BytesIO()
    frame.write_parquet(written)
    return written.getvalue()


def _series(name: str, kind: Any, values: Any) -> pl.Series:
    dtype = TYPES.get(kind, pl.String()) if isinstance(kind, str) else pl.String()
    return pl.Series(name, values if isinstance(values, list) else [values], dtype=dtype, strict=False)


def sqlite() -> bytes:
    """Make a database with the table."""
    path = FOLDER / "shop.db"
    path.unlink(missing_ok=True)
    opened = sqlite3.connect(path)
    opened.execute(f"CREATE TABLE orders ({', '.join(map(json.dumps, HEAD))})")
    opened.executemany(f"INSERT INTO orders VALUES ({', '.join('?' * len(HEAD))})", ROWS)
    opened.commit()
    opened.close()
    return path.read_bytes()


def rows(mapping: Mapping, place: Path | str = FILE) -> Counter[str]:
    """Read a file's rows as an import does, as far as its staging."""
    with (
        sources.opened(place, mapping.form, wanted=mapping.wanted, limits=LIMITS) as source,
        staging(FOLDER, None) as staged,
    ):
        if source.columns is not None:
            sources.require(source.columns, mapping.wanted, where=source.name)
        blocks = source.blocks(mapping.wanted, 0)
        importer._stage(staged, blocks, mapping, None, None, where=source.name, folder=FOLDER)
        return Counter({"rows": staged.tally.read, "rows refused": staged.tally.refused})


def imported(mapping: Mapping, place: Path | str = FILE) -> None:
    """Import a file twice; what it says and what is in the lake must agree, and the second time adds nothing."""
    with tempfile.TemporaryDirectory() as lost:
        habitue.init(Path(lost) / "shop")
        space = open_workspace(Path(lost) / "shop")
        done = importer.import_file(space, place, mapping, limits=LIMITS)
        assert done.read == done.new + done.known + done.refused, done
        table = mapping.rows.table
        stored = table.shape(space.lake.read(table))
        assert stored.height >= done.new if mapping.what in ("items", "users") else stored.height == done.new, done
        stored.rows()
        again = importer.import_file(space, place, mapping, limits=LIMITS)
        assert (again.new, again.read) == (0, done.read), f"{done} and then {again}"


def table(name: str, mapping: Mapping, *good: bytes, made: Callable[[bytes], bytes] = bytes) -> Parser:
    """Make a parser of a file; `made` makes the file of an input that only describes it."""

    def read(body: bytes) -> Counter[str]:
        FILE.write_bytes(made(body))
        return rows(mapping)

    return Parser(name, good, read, lambda _: imported(mapping))


def database(name: str, mapping: Mapping, *good: bytes) -> Parser:
    """Make a parser of a database's file."""
    place = f"sqlite:///{FILE}"

    def read(body: bytes) -> Counter[str]:
        FILE.write_bytes(body)
        return rows(mapping, place)

    return Parser(name, good, read, lambda _: imported(mapping, place))


def guessed(body: bytes) -> Counter[str]:
    """Guess a mapping of a file, read the guess, and the file with it: as many rows as it says must be good."""
    FILE.write_bytes(body)
    said = guess(FILE, limits=LIMITS)
    beside = FOLDER / "guess.toml"
    beside.write_text(said, encoding="utf-8")
    mapping = read_mapping(beside)
    claim = re.search(r"^# (?:A guess from the first) ([\d,]+) rows.*\n# ([\d,]+) of them", said)
    assert claim is not None, said
    first, good = (int(number.replace(",", "")) for number in claim.groups())
    try:
        found = rows(mapping)
    except HabitueError as error:
        if good:
            raise AssertionError(f"{good} of {first} rows would be accepted, it says, and then: {error}") from error
        raise
    assert first >= 5_000 or found["rows"] == good, f"{good} of {first} rows said, {found['rows']} read"
    return found


def benched(read: Callable[[Path], Any]) -> Callable[[bytes], Counter[str]]:
    """Read a table that the bench is given."""

    def counted(body: bytes) -> Counter[str]:
        FILE.write_bytes(body)
        read(FILE)
        return Counter({"rows": 1})

    return counted


def _clicks(path: Path) -> None:
    sequences.read(tables.read(path, what="--events"))


def _labelled(path: Path) -> None:
    reading.read(path, reading.Columns(label="label", texts=("text",), time="at"), task="label")


def _zstd(body: bytes) -> bytes:
    from backports import zstd

    return zstd.compress(body)


def _lines(values: Sequence[Any]) -> bytes:
    return "\n".join(json.dumps(value) for value in values).encode() + b"\n"


GOOD = text()
CLICKS = b"user,item,at\nu1,a,2026-05-01\nu1,b,2026-05-02\nu2,a,2026-05-03 10:00:00\nu2,b,2026-05-04\n"
LABELLED = b"text,label,at,price\ngood mug,yes,1,2.5\nbad,no,2,\nfine,yes,3,1\nworse,no,4,x\n" * 3
UNKNOWN = (GOOD, text("\t", "utf-16"), text(";", "cp1252", decimal=","), _lines(RECORDS), json.dumps(SHOPIFY).encode())
UNKNOWN += (WOO.encode(), FEED.encode(), PAGE.encode(), LISTS, _lines([TRACKED]), _lines([DAILY]), archive(BOOK))
UNKNOWN += (b"1,2,5,978300760\n1,3,4,978302109\n2,2,3,978301968\n", parquet(json.dumps(TYPED).encode()))

PARSERS = [
    table("text", LEDGER, GOOD, text(end="\r\n"), text("|"), b"Orders of May\n\n" + GOOD),
    table("text, kinds", KINDS, GOOD, text("\t")),
    table("text, other letters", LEDGER, *(text(";", code) for code in ("cp1252", "utf-16", "utf-8-sig"))),
    table("text, Chinese", LEDGER, *(GOOD.replace(b"Mug", "茶杯大".encode(c)) for c in ("gb18030", "cp932", "utf-8"))),
    table("text, no header", NAMELESS, b"1,2,3,4\n"),
    *(table(f"text, {name}", mapping, GOOD) for name, mapping in OTHERS.items()),
    table("lists", OF_LISTS, LISTS),
    table("JSON lines", LEDGER, _lines(RECORDS), json.dumps(RECORDS[0]).encode()),
    table("JSON", LEDGER, json.dumps(RECORDS).encode(), json.dumps({"data": {"rows": RECORDS}}, indent=1).encode()),
    table("JSON, lines in orders", OF_LINES, json.dumps([SHOPIFY]).encode(), _lines([SHOPIFY, SHOPIFY])),
    table("Segment", OF_TRACKERS["segment"], json.dumps(TRACKED).encode(), _lines([TRACKED, NAMED])),
    table("Segment, names", OF_NAMES, json.dumps(NAMED).encode(), _lines([NAMED, TRACKED])),
    table("GA4", OF_TRACKERS["ga4"], json.dumps(DAILY).encode(), _lines([DAILY])),
]
PARSERS += [
    table("feed", IN_A_FEED, FEED.encode(), FEED.replace("item", "entry").encode()),
    table("page", IN_A_FEED, PAGE.encode()),
    table("workbook, bytes", SHORT, archive(BOOK)),
    table("workbook", SHORT, json.dumps(BOOK).encode(), made=packed),
    table("Parquet, bytes", OF_TYPES, parquet(json.dumps(TYPED).encode())),
    table("Parquet", OF_TYPES, json.dumps(TYPED).encode(), made=parquet),
    table("archives", LEDGER, gzip.compress(GOOD, mtime=0), archive({"a.csv": GOOD}), _zstd(GOOD)),
    table("archives, members", LEDGER, json.dumps({"a.csv": GOOD.decode()}).encode(), made=packed),
    database("SQLite", replace(KINDS, query="SELECT * FROM orders"), sqlite()),
    *(Parser(f"a guess, {number}", (good,), guessed) for number, good in enumerate(UNKNOWN)),
    Parser(
        "bench ranking",
        (CLICKS, _lines([{"user": "u", "items": ["a", "b"]}, {"user": "v", "items": ["b"]}])),
        benched(_clicks),
    ),
    Parser(
        "bench tasks",
        (LABELLED, _lines([{"text": f"a {n}", "label": n % 2, "at": n} for n in range(6)])),
        benched(_labelled),
    ),
]
GROUP = Group("files", "habitue", tuple(PARSERS), (HabitueError,), ("rows", "rows refused"), most_mb=600.0)
