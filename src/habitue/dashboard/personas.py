"""The personas of a shop as a sheet: who they are, where they lie, who moved, how sure it is."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl

from habitue import __version__
from habitue.apply.personas import Personas, movement
from habitue.apply.personas.portraits import NO_GROUP
from habitue.apply.personas.profile import BY_NAME, TASTE
from habitue.dashboard.words import money, percent, tidy
from habitue.protect.people import pseudonym

EFFECTS = 8  # differences drawn of each persona
SURPRISES = 20  # flows listed
DRAWN = 10  # customers of a flow from which it is drawn: fewer may point to a person


def sheet(found: Personas, *, shop: str, currency: str, command: str) -> dict[str, Any]:
    """Return the page as `dashboard.sheet` draws it; a customer is on it under a pseudonym only."""
    first, _, rest = found.verdict.partition(". ")
    return {
        "title": f"{shop}: who the customers are, {found.as_of:%-d %B %Y}",
        "lead": [tidy(f"{first}.", currency), *([tidy(rest, currency)] if rest else [])],
        "sections": [
            _overview(found, currency),
            *(_portrait(found, card, currency) for card in found.cards.to_dicts()),
            _map(found),
            *([_movement(found), _compared(found, currency)] if len(found.moments) > 1 else []),
            _trust(found),
        ],
        "made": {
            "version": __version__,
            "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "command": command,
        },
    }


def _overview(found: Personas, currency: str) -> dict[str, Any]:
    columns = ["Persona", "Customers", "Share", "Money so far", "Share of money", "Comes back"]
    risky = found.cards["risk"].is_not_null().any()
    rows = [
        [
            card["name"],
            card["size"],
            percent(card["share"], 0),
            money(card["money"], currency),
            percent(card["money_share"], 0),
            "" if card["stability"] is None else f"{card['stability']:.2f}",
            *([percent(card["risk"], 0)] if risky else []),
        ]
        for card in found.cards.to_dicts()
    ]
    names = [*columns, *(["Likely lost"] if risky else [])]
    return {
        "title": "The personas",
        "text": [f"{found.members.height:,} known customers have ordered; guests are in no persona."],
        "parts": [{"kind": "table", "columns": _columns(names), "rows": rows, "note": _OVERVIEW_NOTE}],
    }


_OVERVIEW_NOTE = (
    "Money is net of refunds. Comes back: the overlap of a persona with its like when the customers are drawn again, "
    "0 to 1; below 0.5 it is not stable."
)


def _portrait(found: Personas, card: dict[str, Any], currency: str) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    mine = found.effects.filter(pl.col("name") == card["name"]).head(EFFECTS).to_dicts()
    if mine:
        parts.append(
            {
                "kind": "bars",
                "title": "What makes them different",
                "x": "standard deviations from the rest",
                "labels": [_about(row["column"]) for row in mine],
                "series": [
                    {
                        "name": card["name"],
                        "values": [round(row["difference"], 2) for row in mine],
                        "low": [round(row["low"], 2) for row in mine],
                        "high": [round(row["high"], 2) for row in mine],
                    }
                ],
                "note": "With 95 % intervals, against all other customers; right of 0 they have more of it.",
            }
        )
    told = found.products.filter(pl.col("name") == card["name"]).to_dicts()
    if told:
        rows = [[row["title"], row["item_id"], f"×{row['lift']:.1f}", row["buyers"]] for row in told]
        columns = _columns(["Product", "Code", "More than others", "Buyers"], left=2)
        parts.append({"kind": "table", "title": "They buy more than others", "columns": columns, "rows": rows})
    text = [tidy(card["sentence"], currency), card["sure"]]
    return {"title": card["name"], "text": text, "parts": parts}


def _map(found: Personas) -> dict[str, Any]:
    groups = [
        {
            "name": name,
            "points": [
                [row["x"], row["y"], pseudonym(row["user_key"])]
                for row in found.map.filter(pl.col("name") == name).to_dicts()
            ],
        }
        for name in found.cards["name"]
    ]
    chart = {
        "kind": "scatter",
        "title": f"{found.map.height:,} customers, each a point",
        "x": "",
        "y": "",
        "groups": groups,
        "note": "Who lies near is alike. Gaps between clouds and their sizes mean nothing, nor do the axes.",
    }
    return {"title": "Map", "parts": [chart]}


def _movement(found: Personas) -> dict[str, Any]:
    order = [*found.cards["name"], movement.ASLEEP, movement.NOT_YET]
    steps = found.flows.filter(pl.col("n") >= DRAWN).with_columns(
        source=pl.format("{} | {}", pl.col("step"), pl.col("from")),
        target=pl.format("{} | {}", pl.col("step") + 1, pl.col("to")),
    )
    used = set(steps["source"]) | set(steps["target"])
    nodes = [
        {"name": f"{step} | {name}", "label": f"{name}, {label}"}
        for step, label in enumerate(found.labels)
        for name in order
        if f"{step} | {name}" in used
    ]
    more = found.flows.filter("more").sort("surprise", "step", "from", "to", descending=[True, False, False, False])
    rows = [
        [
            f"{found.labels[row['step']]} to {found.labels[row['step'] + 1]}",
            row["from"],
            "stayed" if row["to"] == row["from"] else row["to"],
            row["n"],
            round(row["expected"]),
        ]
        for row in more.head(SURPRISES).to_dicts()
    ]
    parts: list[dict[str, Any]] = []
    if nodes:
        chart = {
            "kind": "sankey",
            "title": f"Customers from {found.labels[0]} to {found.labels[-1]}",
            "nodes": nodes,
            "links": [*steps.select("source", "target", value="n").to_dicts(), *_waiting(found.flows, used)],
            "note": f"Flows of {DRAWN} customers or more.",
        }
        parts.append(chart)
    if rows:
        columns = _columns(["Period", "From", "To", "Customers", "By chance"], left=3)
        note = (
            "By chance: for who stayed, as if before and after were not connected; for who moved, the same among the "
            "movers. Listed: more than three standard deviations above it, and at least ten customers."
        )
        title = "Flows larger than chance"
        parts.append({"kind": "table", "title": title, "columns": columns, "rows": rows, "note": note})
    surprises = movement.surprises(found.flows, found.labels)
    return {
        "title": "Who moved",
        "text": [
            "The personas of today, the customers of each moment by the same measure. Asleep: no order in the 90 days "
            "before.",
            *(surprises or ["No move from one persona to another is larger than chance."]),
        ],
        "parts": parts,
    }


def _waiting(flows: pl.DataFrame, used: set[str]) -> list[dict[str, Any]]:
    """Return links that hold who joins later in the column of the moment: they are nobody's flow."""
    joined = flows.filter(pl.col("from") == movement.NOT_YET)
    waits = []
    for step in range(len(flows["step"].unique()) - 1):
        source, target = (f"{at} | {movement.NOT_YET}" for at in (step, step + 1))
        if {source, target} <= used:
            later = int(joined.filter(pl.col("step") > step)["n"].sum())
            waits.append({"source": source, "target": target, "value": later})
    return waits


def _compared(found: Personas, currency: str) -> dict[str, Any]:
    table = found.periods.filter(pl.col("name") != movement.ASLEEP)
    names = [name for name in found.cards["name"] if name in set(table["name"])]
    lines = [
        {
            "kind": "bars",
            "title": title,
            "x": axis,
            "labels": names,
            "series": [
                {"name": label, "values": [_at(table, step, name, column) for name in names]}
                for step, label in enumerate(found.labels)
            ],
        }
        for title, axis, column in (
            ("Customers awake", "customers", "size"),
            ("Money of the 90 days before", currency, "money"),
        )
    ]
    rows = [
        [
            row["name"],
            found.labels[row["step"]],
            row["size"],
            percent(row["share"], 0),
            money(row["money"], currency),
            _rounded(row["orders"], 1),
            "" if row["an_order"] is None else money(row["an_order"], currency),
            _rounded(row["silence"], 0),
        ]
        for name in names
        for row in table.filter(pl.col("name") == name).to_dicts()
    ]
    heads = ["Persona", "At", "Customers", "Share", "Money", "Orders in 180 days", "An order", "Days since the last"]
    numbers = {
        "kind": "table",
        "title": "The same personas at each moment",
        "columns": _columns(heads, left=2),
        "rows": rows,
        "note": "Medians of the customers awake; a young shop has shorter pasts at earlier moments.",
    }
    return {"title": "What changed", "text": movement.changes(found.periods), "parts": [*lines, numbers]}


def _trust(found: Personas) -> dict[str, Any]:
    heads = [
        "Grouping",
        "Groups",
        "Stability",
        "Told apart",
        "Stability × told apart",
        "Silhouette",
        "Smallest",
        NO_GROUP,
    ]
    rows = [
        [
            f"{row['said']} (taken)" if row["taken"] else row["said"],
            f"{row['groups']:.1f}",
            f"{row['stability']:.2f}",
            f"{row['apart']:.2f}",
            f"{row['score']:.2f}",
            "" if row["silhouette"] is None else f"{row['silhouette']:.2f}",
            percent(row["smallest"], 0),
            percent(row["none"], 0),
        ]
        for row in found.tried.to_dicts()
    ]
    return {
        "title": "How sure it is",
        "text": [*found.left_out, *_TRUST],
        "parts": [{"kind": "table", "title": "What was tried", "columns": _columns(heads), "rows": rows}],
    }


_TRUST = (
    "Stability: the customers are split into random halves, each is grouped by itself, and the agreement on the half "
    "that a grouping never saw is measured (adjusted Rand). Told apart: the chance that two customers fall into "
    "different groups, so that two stable halves do not win by being few.",
    "Of groupings within one standard error of the best, the one with the largest silhouette on the half left out is "
    "taken.",
)


def _at(table: pl.DataFrame, step: int, name: str, column: str) -> float | None:
    found = table.filter(pl.col("step") == step, pl.col("name") == name)[column]
    return round(float(found[0]), 2) if len(found) else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _about(column: str) -> str:
    if column.startswith(TASTE):
        return f"buys {column.removeprefix(TASTE)}"
    return BY_NAME[column].about


def _columns(names: list[str], *, left: int = 1) -> list[dict[str, str]]:
    return [{"name": name, "align": "left" if i < left else "right"} for i, name in enumerate(names)]
