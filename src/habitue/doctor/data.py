"""Why an answer would be empty: the numbers behind it, and what to map, import or set."""

from __future__ import annotations

import datetime as dt

import polars as pl

from habitue import quality
from habitue.core import plugins
from habitue.core.schemas import CONSENT, EVENTS, ITEMS, MEDIA, PURCHASE, REFUND, REFUSED
from habitue.core.workspace import Workspace
from habitue.doctor.finding import BROKEN, FINE, NOTICE, Finding
from habitue.look_back import TRAIN_HISTORY_DAYS
from habitue.plan import Plan
from habitue.protect import consent, people

EARLIEST = dt.datetime(1990, 1, 1, tzinfo=dt.UTC)  # before it no shop wrote events; 1970 is a clock that was never set
COLUMNS = ("at", "user_key", "kind", "item_id", "order_id", "value", "currency", "source")
MAPPING = "docs/mapping.md"
READERS = (("image", "pictures", "picture"), ("audio", "sounds", "sound"), ("video", "films", "video"))


def findings(space: Workspace, plan: Plan) -> list[Finding]:
    """Return every reason for which something would be empty, with the rows counted."""
    events = people.joined(space.lake.read(EVENTS, columns=COLUMNS), space.identities)
    found = _refused(space, events)
    if events.is_empty():
        remedy = "Import a file: habitue import orders.csv --mapping orders.toml"
        return [*found, Finding(BROKEN, "events", "0 events are stored: every answer would be empty.", remedy)]
    found += [*_kinds(events), *_clock(events), *_people(space, events), *_products(space, events), *_money(events)]
    cleaned, most = _cleaned(space, plan)
    if cleaned.is_empty():
        words = f"0 of {events.height:,} events are left after cleaning; most: {most}."
        found.append(
            Finding(BROKEN, "events", words, "See habitue check; [quality] in habitue.toml sets what is dropped")
        )
    found += [*_history(cleaned, plan), *_consent(space, plan, events), *_unread(space, plan)]
    return [*found, Finding(FINE, "events", f"{events.height:,} events, {cleaned.height:,} after cleaning.")]


def _unread(space: Workspace, plan: Plan) -> list[Finding]:
    """Name the media of products that no sense of the plan reads."""
    owned = space.lake.read(MEDIA, columns=["owner", "modality"]).filter(pl.col("owner") == "item")
    counts = dict(owned["modality"].value_counts().iter_rows())
    read = {getattr(plugins.load("encode", name, contract=()), "MEDIUM", "") for name in plan.content.senses}
    return [
        Finding(
            NOTICE,
            "media",
            f"{counts[medium]:,} {said} of products are stored, and the customer model does not read them.",
            f'Write under [content] in habitue.toml: senses = ["{sense}"]; then train again (docs/models.md)',
        )
        for medium, said, sense in READERS
        if counts.get(medium) and medium not in read
    ]


def _cleaned(space: Workspace, plan: Plan) -> tuple[pl.DataFrame, str]:
    """Return the times of the events that cleaning leaves, and what it drops most; one bucket in memory at a time."""
    times, counts = [pl.DataFrame(schema={"at": EVENTS.schema["at"]})], [pl.DataFrame(schema={"code": pl.String})]
    for bucket in range(space.lake.buckets):
        rows, dropped = quality.clean(space.lake.read(EVENTS, bucket=bucket), plan.quality)
        times.append(rows.select("at"))
        counts.append(dropped.select("code", "rows"))
    every = pl.concat(counts, how="diagonal").group_by("code").agg(pl.col("rows").sum())
    return pl.concat(times), str(every.sort("rows", "code", descending=True)["code"].first())


def _refused(space: Workspace, events: pl.DataFrame) -> list[Finding]:
    refused = space.lake.read(REFUSED, columns=["code", "sentence"])
    if refused.height <= events.height:
        return []
    most = refused["sentence"].value_counts(sort=True)
    words = f"{refused.height:,} rows were refused, and {events.height:,} accepted; most: {most['sentence'][0]}"
    return [
        Finding(BROKEN, "refused", words, f"Mend the mapping and import again ({MAPPING}); habitue check shows all")
    ]


def _kinds(events: pl.DataFrame) -> list[Finding]:
    kinds = events["kind"].value_counts(sort=True).head(3)
    if (events["kind"] == PURCHASE).any():
        return []
    there = ", ".join(f"'{kind}' {count:,}" for kind, count in kinds.iter_rows())
    only = "; all are refunds" if kinds["kind"].to_list() == [REFUND] else f"; the kinds are {there}"
    words = f"0 of {events.height:,} events are positive{only}: map `{PURCHASE}`."
    return [Finding(BROKEN, "events", words, f"Say which rows are orders: [kind] in the mapping ({MAPPING})")]


def _clock(events: pl.DataFrame) -> list[Finding]:
    now = dt.datetime.now(dt.UTC)
    found = []
    for late, rows, hint in (
        (False, events.filter(pl.col("at") < EARLIEST), "seconds read as milliseconds, or a clock that was never set"),
        (True, events.filter(pl.col("at") > now + dt.timedelta(days=1)), "day and month exchanged, or a wrong zone"),
    ):
        if rows.height:
            side = "in the future" if late else f"before {EARLIEST:%Y}"
            words = f"{rows.height:,} of {events.height:,} events lie {side} ({hint})."
            remedy = f"Set time_format and time_zone in the mapping ({MAPPING}), and import into a new workspace"
            found.append(Finding(BROKEN if rows.height == events.height else NOTICE, "events", words, remedy))
    return found


def _people(space: Workspace, events: pl.DataFrame) -> list[Finding]:
    orders = events["order_id"].drop_nulls().n_unique()
    known = people.known_keys(space.identities).filter("known")["user_key"]
    customers = events["user_key"].unique()
    if not customers.is_in(known.implode()).any():
        words = f"0 of {orders:,} orders name a customer: churn, value and personas would be empty."
        return [Finding(BROKEN, "events", words, f'Map who ordered: [user] column = "..." ({MAPPING})')]
    if len(customers) == 1 and orders > 1:
        words = f"All {events.height:,} events are of one customer."
        return [Finding(BROKEN, "events", words, f"[user] column names one that is the same in every row ({MAPPING})")]
    return []


def _products(space: Workspace, events: pl.DataFrame) -> list[Finding]:
    named = events["item_id"].drop_nulls()
    if named.is_empty():
        words = f"0 of {events.height:,} events name a product: there is nothing to recommend."
        return [Finding(BROKEN, "events", words, f'Map it: [columns] item_id = "..." ({MAPPING})')]
    if named.n_unique() == 1 and named.len() > 1:
        words = f"All {named.len():,} events with a product name the same one."
        return [Finding(BROKEN, "events", words, f"[columns] item_id names the wrong column ({MAPPING})")]
    items = space.lake.read(ITEMS, columns=["item_id", "title", "source"])
    found = []
    listed = items.join(events.select("source").unique(), on="source", how="anti")["item_id"].unique()
    if len(listed) and not named.is_in(listed.implode()).any():
        words = f"0 of {named.n_unique():,} products in events are among the {len(listed):,} of the catalogue."
        remedy = "Write the codes alike in both files, e.g. with the same leading zeros, and import the catalogue again"
        found.append(Finding(BROKEN, "items", words, remedy))
    if not items["title"].drop_nulls().len():
        words = f"0 of {named.n_unique():,} products have words: nothing can be learnt from names."
        found.append(Finding(NOTICE, "items", words, f"Map title, or import a catalogue ({MAPPING})"))
    return found


def _money(events: pl.DataFrame) -> list[Finding]:
    found = []
    bought = events.filter(pl.col("kind") == PURCHASE)
    if bought.height and not (bought["value"].fill_null(0) != 0).any():
        words = f"0 of {bought.height:,} order lines have money: value would be 0 for everybody."
        found.append(Finding(BROKEN, "events", words, f"Map price (and quantity), or value ({MAPPING})"))
    currencies = events["currency"].drop_nulls().unique().sort().to_list()
    if len(currencies) > 1:
        words = f"Money is in {len(currencies)} currencies ({', '.join(currencies[:5])}) and is added up as it stands."
        found.append(Finding(NOTICE, "events", words, "Convert to one currency before the import"))
    return found


def _history(events: pl.DataFrame, plan: Plan) -> list[Finding]:
    first, last = events["at"].min(), events["at"].max()
    if not isinstance(first, dt.datetime) or not isinstance(last, dt.datetime):
        return []
    days, least = (last - first).days + 1, TRAIN_HISTORY_DAYS + plan.horizon_days
    if days >= least:
        return []
    words = (
        f"The events span {days:,} days, and churn and value learn from {least:,} or more: they have 0 training rows."
    )
    return [Finding(BROKEN, "events", words, "Import a longer history, or set a shorter horizon_days in habitue.toml")]


def _consent(space: Workspace, plan: Plan, events: pl.DataFrame) -> list[Finding]:
    consents = people.joined(space.lake.read(CONSENT), space.identities)
    keys, found = events["user_key"].unique(), []
    for purpose in consent.PURPOSES:
        refused = consent.withheld(keys, consents, purpose=purpose, silence=plan.consent)
        if len(refused) < len(keys):
            continue
        words = f"0 of {len(keys):,} customers may be used for {purpose}."
        remedy = f"Import who granted it, or set [consent] {purpose} = true in habitue.toml (docs/privacy.md)"
        found.append(Finding(NOTICE if purpose == consent.MARKETING else BROKEN, "consent", words, remedy))
    unused = sorted(set(consents["purpose"]) - set(consent.PURPOSES))
    if unused:
        rows = consents.filter(pl.col("purpose").is_in(unused)).height
        words = f"{rows:,} rows are about purposes that nothing asks for ({', '.join(unused[:3])})."
        remedy = f"Map them to {', '.join(consent.PURPOSES)}"
        found.append(Finding(NOTICE, "consent", words, remedy))
    return found
