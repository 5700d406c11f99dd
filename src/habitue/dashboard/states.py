"""What customers are doing, as a sheet: the states of `model.states`, the moves between them, what each is worth."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np

from habitue import __version__
from habitue.model import states


def told(found: states.State) -> list[dict[str, Any]]:
    """Return one dict a state: name, share of the customers now, chance of no order in the horizon, orders expected.

    The last two are means over the kinds of customers, each as often as it is in that state.
    """
    silent, orders = states.forecast(found.chain, found.horizon_days / found.days)
    kinds = found.share / np.maximum(found.share.sum(axis=0), states.LITTLE)  # [G, K]
    return [
        {
            "state": name,
            "share": float(found.now[k]),
            "no_order": float(kinds[:, k] @ silent[:, k]),
            "orders": float(kinds[:, k] @ orders[:, k]),
        }
        for k, name in enumerate(found.names)
    ]


def sheet(found: states.State, *, shop: str, as_of: dt.datetime, command: str) -> dict[str, Any]:
    """Return the sheet (dashboard/sheet.py)."""
    rows = told(found)
    days = found.horizon_days
    names = ["State", "Customers now", f"No order in {days} days", f"Orders in {days} days"]
    tried = ", ".join(f"{count}: {bic:,.0f}" for count, bic in found.bic.items())
    table = {
        "kind": "table",
        "title": "The states",
        "columns": [
            {"name": name, "align": "right" if place else "left", "percent": place in (1, 2)}
            for place, name in enumerate(names)
        ],
        "rows": [[row["state"], row["share"], row["no_order"], row["orders"]] for row in rows],
        "note": "Nobody tells which state a customer is in: it is inferred from the days with orders and other events. "
        f"As many states as BIC asks for ({tried}; less is better).",
    }
    now = ", ".join(f"{row['share']:.0%} are {row['state']}" for row in rows)
    return {
        "title": f"{shop}: what customers are doing",
        "lead": [f"On {as_of.day} {as_of:%B %Y}, {now}."],
        "sections": [
            {"title": "From one state to another", "parts": [states.picture(found)]},
            {"title": "What each state is worth", "parts": [table]},
        ],
        "made": {"version": __version__, "at": dt.datetime.now(dt.UTC).isoformat(), "command": command},
    }
