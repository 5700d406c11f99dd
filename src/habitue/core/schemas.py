"""The contracts of the tables that stages hand each other: meaning, unit and null rule, written once.

`docs/schemas.md` is generated from this file. A public stage function calls `check(frame, TABLE, at="stage.name")` on
its first line. Types: `str`, `i64`, `i32`, `f64`, `bool`, `utc` (microseconds, UTC), `list[...]`; a trailing `?`
allows null. No float column may hold NaN or infinity: what is unknown is null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import polars as pl

from habitue.core.errors import SchemaError


@dataclass(frozen=True)
class Col:
    """One column: name, type (`?` = may be null), meaning with unit."""

    name: str
    type: str
    meaning: str

    @property
    def nullable(self) -> bool:
        """Whether null is a value of this column."""
        return self.type.endswith("?")

    @property
    def dtype(self) -> pl.DataType:
        """The Polars type."""
        return _dtype(self.type)


@dataclass(frozen=True)
class Table:
    """The contract of one table. `rest` is the type of further columns, or None when there may be none."""

    name: str
    version: int
    row: str
    key: tuple[str, ...]
    columns: tuple[Col, ...]
    rest: str | None = None

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """Column name -> Polars type, in order."""
        return {c.name: c.dtype for c in self.columns}

    def empty(self) -> pl.DataFrame:
        """Return the table with no row."""
        return pl.DataFrame(schema=self.schema)

    def shape(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Add the nullable columns `frame` lacks (as null), cast, and put the columns in order."""
        missing = [pl.lit(None, dtype=c.dtype).alias(c.name) for c in self.columns if c.name not in frame.columns]
        names = [c.name for c in self.columns]
        rest = [c for c in frame.columns if c not in names] if self.rest else []
        return frame.with_columns(missing).select(
            *(pl.col(c.name).cast(c.dtype) for c in self.columns), *(pl.col(r) for r in rest)
        )


# The two stored kinds that carry money of an order.
PURCHASE = "Order Completed"
REFUND = "Order Refunded"

EVENTS = Table(
    "events",
    1,
    "one event and item line",
    ("event_id", "line"),
    (
        Col("event_id", "str", "the same for every line of one event; on a repeated key the first row wins"),
        Col("line", "i32", "place in the event's list of items; 0 when there is no list"),
        Col("at", "utc", "client time, corrected for clock skew"),
        Col("received_at", "utc?", "server time; null for an imported file"),
        Col("user_key", "i64", "the person, see IDENTITIES; never negative"),
        Col("kind", "str", "Segment e-commerce name, e.g. 'Order Completed'"),
        Col("item_id", "str?", "the product; null when the event is about none"),
        Col("title", "str?", "the product's name as it stood on this very line"),
        Col("order_id", "str?", "orders are counted by distinct order_id"),
        Col("session_id", "str?", "the source's own visit id"),
        Col("query", "str?", "what was searched, masked"),
        Col("text", "str?", "free text of the customer, masked"),
        Col("dwell_s", "f64?", "seconds of attention"),
        Col("scroll", "f64?", "share of the page scrolled, 0 to 1"),
        Col("position", "i32?", "place in the list shown, from 1"),
        Col("surface", "str?", "where in the shop"),
        Col("channel", "str?", "web, app, store, phone"),
        Col("price", "f64?", "a unit, major units of `currency`"),
        Col("quantity", "f64?", "units; negative on a cancelled or returned line"),
        Col("currency", "str?", "ISO 4217"),
        Col("value", "f64?", "price x quantity, or the source's own line value; major units"),
        Col("rating", "f64?", "the source's own scale"),
        Col("recommendation_id", "str?", "the answer that was shown"),
        Col("campaign_id", "str?", "the campaign that brought the event"),
        Col("source", "str", "name of the mapping or wire"),
        Col("import_id", "str", "the import or batch that brought the row"),
        Col("extra", "str?", "JSON of what the source said beyond this contract"),
    ),
)

ITEMS = Table(
    "items",
    1,
    "a product's words and attributes as of `valid_from`",
    ("item_id", "valid_from", "title"),
    (
        Col("item_id", "str", "the product"),
        Col("valid_from", "utc", "first moment the shop is known to have used these words"),
        Col("title", "str?", "name; null = the source gave none on that line"),
        Col("description", "str?", "longer text"),
        Col("category", "str?", "path, parts joined by ' > '"),
        Col("brand", "str?", ""),
        Col("price", "f64?", "list price, major units"),
        Col("currency", "str?", "ISO 4217"),
        Col("attributes", "str?", "JSON"),
        Col("source", "str", "name of the mapping or wire"),
        Col("import_id", "str", "the import that brought the row"),
    ),
)

USERS = Table(
    "users",
    1,
    "a person's attributes as of `valid_from`",
    ("user_key", "valid_from"),
    (
        Col("user_key", "i64", "the person"),
        Col("valid_from", "utc", "first moment the attributes are known to hold"),
        Col("attributes", "str", 'JSON, e.g. {"country": "France"}'),
        Col("source", "str", "name of the mapping or wire"),
        Col("import_id", "str", "the import that brought the row"),
    ),
)

CONSENT = Table(
    "consent",
    1,
    "one purpose granted or withdrawn; it holds from `at` until the next row of the same person and purpose",
    ("user_key", "purpose", "at", "granted"),
    (
        Col("user_key", "i64", "the person"),
        Col("purpose", "str", "analytics, personalisation or marketing (docs/privacy.md); another one is kept, unused"),
        Col("granted", "bool", "false = withdrawn; of two rows of one moment the withdrawal counts"),
        Col("at", "utc", "when the person said so"),
        Col("source", "str", "name of the mapping or wire"),
        Col("import_id", "str", "the import that brought the row"),
    ),
)

IDENTITIES = Table(
    "identities",
    1,
    "one alias of a person; the only table with raw ids, kept in identities.sqlite",
    ("alias_kind", "alias"),
    (
        Col("alias_kind", "str", "user_id, anonymous_id, email, ..."),
        Col("alias", "str", "the raw id; a guest order is anonymous_id 'order:<order_id>'"),
        Col("user_key", "i64", "random, non-negative"),
        Col("linked_at", "utc", "when the alias was joined to the key"),
        Col("source", "str", "what linked it"),
    ),
)

EXAMPLES = Table(
    "examples",
    1,
    "a labelled row that belongs to no user of this shop; never joined to EVENTS",
    ("example_id",),
    (
        Col("example_id", "str", ""),
        Col("text", "str?", "the words, masked"),
        Col("columns", "str?", "JSON of the other columns"),
        Col("label", "str?", "the answer, as text"),
        Col("source", "str", "the data set"),
    ),
)

EXPOSURES = Table(
    "exposures",
    1,
    "a user met a campaign, an arm or a page slot",
    ("exposure_id",),
    (
        Col("exposure_id", "str", ""),
        Col("at", "utc", "when it was shown"),
        Col("user_key", "i64?", "the person; null when the log names nobody"),
        Col("what", "str", "campaign, experiment or slot"),
        Col("arm", "str", "what was shown"),
        Col("propensity", "f64?", "probability with which the logging policy showed this arm, in (0, 1]"),
        Col("cost", "f64?", "major units"),
        Col("outcome", "f64?", "e.g. 1 = clicked"),
        Col("recommendation_id", "str?", "the answer that was shown"),
        Col("placement", "str?", "where in the shop the answer stood"),
        Col("items", "str?", "JSON list of the item_ids shown, the first on top"),
        Col("chances", "str?", "JSON list, probability of each item at its place given those above; null = none drawn"),
        Col("source", "str", "the log"),
    ),
)

OUTSIDE = Table(
    "outside",
    1,
    "a fact from outside the shop",
    ("outside_id",),
    (
        Col("outside_id", "str", ""),
        Col("at", "utc", "when it was said or seen"),
        Col("kind", "str", "social post, outside review or competitor price"),
        Col("item_id", "str?", "the shop's product it is about"),
        Col("text", "str?", "the words, masked"),
        Col("price", "f64?", "a unit, major units of `currency`"),
        Col("currency", "str?", "ISO 4217"),
        Col("rating", "f64?", "the source's own scale"),
        Col("extra", "str?", "JSON of what the source said beyond this contract"),
        Col("source", "str", "name of the mapping"),
        Col("import_id", "str", "the import that brought the row"),
    ),
)

SIGNALS = Table(
    "signals",
    1,
    "one value sensed of one person, such as a pulse or a glance; never in EVENTS",
    ("signal_id",),
    (
        Col("signal_id", "str", ""),
        Col("user_key", "i64", "the person"),
        Col("at", "utc", "when it was sensed"),
        Col("signal", "str", "what was sensed, e.g. heart_rate"),
        Col("value", "f64", "in `unit`"),
        Col("unit", "str?", "e.g. 1/min"),
        Col("session_id", "str?", "the source's own visit id"),
        Col("source", "str", "name of the mapping or wire"),
        Col("import_id", "str", "the import that brought the row"),
    ),
)

MEDIA = Table(
    "media",
    1,
    "one text, picture, sound or video of a product, an event or a person",
    ("media_id",),
    (
        Col("media_id", "str", "made of the content and whose it is"),
        Col("owner", "str", "item, event or user"),
        Col("owner_id", "str?", "item_id or event_id; null when a person owns it"),
        Col("user_key", "i64?", "the person who owns it"),
        Col("modality", "str", "text, image, audio or video, told by its first bytes"),
        Col("path", "str", "the file, as an absolute path"),
        Col("at", "utc?", "when it was made"),
        Col("start_s", "f64?", "seconds from the start of a longer recording"),
        Col("sha256", "str", "of the content: another content is another medium"),
        Col("source", "str", "name of the mapping"),
        Col("import_id", "str", "the import that brought the row"),
    ),
)

REFUSED = Table(
    "refused",
    1,
    "a row that was not accepted",
    ("source", "import_id", "row"),
    (
        Col("source", "str", "name of the mapping or wire"),
        Col("import_id", "str", "the import that met it"),
        Col("row", "i64", "data row in the file, from 1 (a CSV header is not counted)"),
        Col("raw", "str", "the row as JSON; person columns and free text are masked"),
        Col("code", "str", "reason, one word with underscores"),
        Col("sentence", "str", "reason in words"),
    ),
)

TIMELINE = Table(
    "timeline",
    1,
    "one step of one user: the set of lines with the same time and kind",
    ("user_key", "step"),
    (
        Col("user_key", "i64", "the person"),
        Col("step", "i32", "from 0 in order of (at, kind)"),
        Col("at", "utc", "the moment of the set"),
        Col("kind", "str", "the event kind of the whole set"),
        Col("item_ids", "list[str]", "distinct, ascending: a set has no order"),
        Col("quantities", "list[f64]", "units per item, same order"),
        Col("values", "list[f64]", "money per item, same order; major units"),
        Col("order_ids", "list[str]", "distinct, ascending"),
        Col("has_item", "bool", "at least one line names a product"),
        Col("has_words", "bool", "a title, query or text is present"),
        Col("has_money", "bool", "a value is present"),
    ),
)

FEATURES = Table(
    "features",
    1,
    "what was known of one user at `as_of`; one column per declared feature",
    ("user_key", "as_of"),
    (Col("user_key", "i64", "the person"), Col("as_of", "utc", "only events strictly before this moment count")),
    rest="f64?",
)

LABELS = Table(
    "labels",
    1,
    "what one user did in [as_of, horizon_end)",
    ("user_key", "as_of"),
    (
        Col("user_key", "i64", "the person"),
        Col("as_of", "utc", "the moment of the forecast"),
        Col("horizon_end", "utc", "the label is closed from this moment on"),
        Col("churned", "bool", "no order in the horizon"),
        Col("orders", "i64", "distinct orders in the horizon"),
        Col("value", "f64", "net money in the horizon, refunds subtracted; major units"),
    ),
)

PROFILES = Table(
    "profiles",
    1,
    "what is known of one user at `as_of`, as one vector that serves every task",
    ("user_key", "as_of"),
    (
        Col("user_key", "i64", "the person"),
        Col("as_of", "utc", "only events strictly before this moment count"),
        Col("vector", "list[f16]", "equally long for all, at most 2,048; mean 0 over the users it was fitted on"),
    ),
)

SCORES = Table(
    "scores",
    1,
    "one answer of one model about one user (and item)",
    ("user_key", "as_of", "model", "task", "item_id"),
    (
        Col("user_key", "i64", "the person"),
        Col("as_of", "utc", "nothing later was used"),
        Col("model", "str", "file name of the model"),
        Col("task", "str", "rank, churn (probability of no order) or value (expected money in the horizon)"),
        Col("item_id", "str?", "for task rank"),
        Col("score", "f64", "higher = more likely, more money"),
        Col("rank", "i32?", "for task rank, from 1"),
    ),
)

REASONS = Table(
    "reasons",
    1,
    "one reason of one answer, kept only because deleting it changes the answer",
    ("user_key", "as_of", "model", "task", "item_id", "because"),
    (
        Col("user_key", "i64", "the person"),
        Col("as_of", "utc", "the moment of the answer"),
        Col("model", "str", "file name of the model"),
        Col("task", "str", "rank, churn or value"),
        Col("item_id", "str?", "the product answered, for task rank"),
        Col("code", "str", "bought (a product in the history) or feature (a declared feature)"),
        Col("because", "str", "the item_id or the feature"),
        Col("rank_with", "i32?", "the answer's rank with it"),
        Col("rank_without", "i32?", "the answer's rank after deleting it; always larger"),
        Col("weight", "f64", "fall of the score when it is deleted"),
    ),
)

METRICS = Table(
    "metrics",
    1,
    "one measured number",
    ("dataset", "protocol", "model", "slice", "metric"),
    (
        Col("dataset", "str", ""),
        Col("protocol", "str", "BASKET, churn-92d, value-92d, ..."),
        Col("model", "str", "file name of the model"),
        Col("fusion", "str?", "concat, gate, attention, decision, model; null = one view"),
        Col("modalities", "list[str]", "what the model read"),
        Col("slice", "str", "all, repeat, first_time, warm, cold"),
        Col("metric", "str", "ndcg@10, auc, mae, ..."),
        Col("mean", "f64", ""),
        Col("low", "f64?", "2.5 % of 1,000 bootstraps over users"),
        Col("high", "f64?", "97.5 %"),
        Col("n", "i64", "users (rows) measured"),
        Col("seeds", "i32", "training runs averaged"),
        Col("cpu_s", "f64?", "CPU-seconds of fit and score"),
        Col("peak_mb", "f64?", "peak memory of the process, MB"),
    ),
)

FINDINGS = Table(
    "findings",
    1,
    "one thing quality found, with the money it touches",
    ("code", "table"),
    (
        Col("code", "str", "one word with underscores"),
        Col("table", "str", "the table it is in"),
        Col("dimension", "str", "completeness, consistency, accuracy or diversity"),
        Col("sentence", "str", "what was found, in words with its numbers"),
        Col("rows", "i64", "rows (lines) it touches"),
        Col("orders", "i64?", "distinct orders it touches"),
        Col("money", "f64", "net money on those rows, major units; negative when they are refunds"),
        Col("share", "f64", "money / net money of the table; 0 when the table has none"),
        Col("treatment", "str", "what clean does with the rows"),
    ),
)

QUALITY = Table(
    "quality",
    1,
    "one score of one table; formulas in docs/quality.md",
    ("table", "dimension", "measure"),
    (
        Col("table", "str", ""),
        Col("dimension", "str", "completeness, consistency, accuracy or diversity"),
        Col("measure", "str", "what is measured"),
        Col("score", "f64", "0 to 1; 1 is best"),
        Col("formula", "str", "how"),
    ),
)

CHECKS = Table(
    "checks",
    1,
    "one score of one table as one `habitue check` took it; the trend is read from here",
    ("checked_at", "table", "dimension", "measure"),
    (
        Col("checked_at", "utc", "when the check ran"),
        Col("table", "str", ""),
        Col("dimension", "str", "completeness, consistency, accuracy or diversity"),
        Col("measure", "str", "what is measured"),
        Col("score", "f64", "0 to 1; 1 is best"),
        Col("rows", "i64", "rows the table had"),
    ),
)

REPAIRS = Table(
    "repairs",
    1,
    "what one repair does to one row; EVENTS and ITEMS stay as imported, and reading them applies it",
    ("repair_id", "event_id", "line", "item_id"),
    (
        Col("repair_id", "str", "one application of a repair; it is undone as one"),
        Col("repair", "str", "its name, e.g. drop_bots"),
        Col("applied_at", "utc", "when somebody asked for it; repairs are applied in this order"),
        Col("table", "str", "events (the row is event_id, line) or items (the product item_id, in both tables)"),
        Col("event_id", "str?", "the row of EVENTS"),
        Col("line", "i32?", "the row of EVENTS"),
        Col("user_key", "i64?", "the person of the row, so that an erasure finds it"),
        Col("item_id", "str?", "the product"),
        Col("column", "str?", "the column that is set; null = the row is left out"),
        Col("value", "str?", "what it is set to, as text; a moment in microseconds since 1970"),
        Col("money", "f64", "net money of the row as it was; major units"),
    ),
)

TABLES = (
    EVENTS,
    ITEMS,
    USERS,
    CONSENT,
    IDENTITIES,
    EXAMPLES,
    EXPOSURES,
    OUTSIDE,
    SIGNALS,
    MEDIA,
    REFUSED,
    TIMELINE,
    FEATURES,
    LABELS,
    PROFILES,
    SCORES,
    REASONS,
    METRICS,
    FINDINGS,
    QUALITY,
    CHECKS,
    REPAIRS,
)

Events = Annotated[pl.DataFrame, EVENTS]
Items = Annotated[pl.DataFrame, ITEMS]
Users = Annotated[pl.DataFrame, USERS]
Consents = Annotated[pl.DataFrame, CONSENT]
Identities = Annotated[pl.DataFrame, IDENTITIES]
Examples = Annotated[pl.DataFrame, EXAMPLES]
Exposures = Annotated[pl.DataFrame, EXPOSURES]
Outside = Annotated[pl.DataFrame, OUTSIDE]
Signals = Annotated[pl.DataFrame, SIGNALS]
Media = Annotated[pl.DataFrame, MEDIA]
Refused = Annotated[pl.DataFrame, REFUSED]
Timeline = Annotated[pl.DataFrame, TIMELINE]
Features = Annotated[pl.DataFrame, FEATURES]
Labels = Annotated[pl.DataFrame, LABELS]
Profiles = Annotated[pl.DataFrame, PROFILES]
Scores = Annotated[pl.DataFrame, SCORES]
Reasons = Annotated[pl.DataFrame, REASONS]
Metrics = Annotated[pl.DataFrame, METRICS]
Findings = Annotated[pl.DataFrame, FINDINGS]
Quality = Annotated[pl.DataFrame, QUALITY]
Checks = Annotated[pl.DataFrame, CHECKS]
Repairs = Annotated[pl.DataFrame, REPAIRS]


def check(frame: pl.DataFrame, table: Table, *, at: str) -> None:
    """Hold `frame` against the contract of `table`; O(rows x columns), no copy.

    Raises SchemaError naming the column for: a missing or unknown column, a wrong type, a null where none may be,
    NaN or infinity in a float column, a negative user_key. `at` is the dotted name of the function that asks.
    """
    names = [c.name for c in table.columns]
    missing = [n for n in names if n not in frame.columns]
    if missing:
        raise _broken(at, table, f"column '{missing[0]}' is missing", "Add it, or call TABLE.shape(frame)")
    for extra in (c for c in frame.columns if c not in names):
        if table.rest is None:
            raise _broken(
                at, table, f"column '{extra}' is not in the contract", "Drop it, or put it into a JSON column"
            )
        if frame.schema[extra] != _dtype(table.rest):
            raise _broken(at, table, f"column '{extra}' is {frame.schema[extra]}, not {table.rest}", "Cast it")
    for col in table.columns:
        if frame.schema[col.name] != col.dtype:
            raise _broken(
                at, table, f"column '{col.name}' is {frame.schema[col.name]}, not {col.type} ({col.dtype})", "Cast it"
            )
        if not col.nullable and frame[col.name].null_count():
            raise _broken(
                at,
                table,
                f"column '{col.name}' has {frame[col.name].null_count():,} nulls and may have none",
                "Fill them",
            )
    for name, dtype in frame.schema.items():
        if dtype == pl.Float64:
            bad = int((~frame[name].is_finite()).sum())
            if bad:
                raise _broken(at, table, f"column '{name}' has {bad:,} NaN or infinite values", "Make them null")
    if "user_key" in names and frame.height and (frame["user_key"].min() or 0) < 0:  # type: ignore[operator]
        raise _broken(at, table, "column 'user_key' has negative keys", "Take keys from protect.identities")


def to_markdown() -> str:
    """Write `docs/schemas.md`."""
    lines = ["# Tables", "", "Generated from `src/habitue/core/schemas.py` by `make docs`; do not edit.", ""]
    lines += ["Types: a trailing `?` allows null; `utc` is microseconds in UTC; no float may be NaN or infinite.", ""]
    for table in TABLES:
        lines += [f"## {table.name.upper()} (version {table.version})", "", f"One row is {table.row}.", ""]
        lines += [f"Key: {', '.join(table.key)}.", "", "| column | type | meaning |", "|---|---|---|"]
        lines += [f"| {c.name} | {c.type} | {c.meaning} |" for c in table.columns]
        if table.rest:
            lines.append(f"| ... | {table.rest} | one further column per declared name |")
        lines.append("")
    return "\n".join(lines)


def _broken(at: str, table: Table, found: str, remedy: str) -> SchemaError:
    return SchemaError(
        at,
        found=f"{table.name.upper()}: {found}",
        consequence="Every later stage relies on the contract in core/schemas.py",
        remedy=remedy,
    )


def _dtype(name: str) -> pl.DataType:
    name = name.removesuffix("?")
    if name.startswith("list["):
        return pl.List(_dtype(name[5:-1]))
    return {
        "str": pl.String(),
        "i32": pl.Int32(),
        "i64": pl.Int64(),
        "f64": pl.Float64(),
        "f16": pl.Float16(),
        "bool": pl.Boolean(),
        "utc": pl.Datetime("us", "UTC"),
    }[name]
