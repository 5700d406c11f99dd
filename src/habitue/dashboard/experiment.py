"""An experiment as a sheet: what each arm brought, how sure that is, and how it stood from day to day."""

from __future__ import annotations

import datetime as dt
from typing import Any

from habitue import __version__
from habitue.apply.experiment import METRICS, Experiment


def sheet(found: Experiment, *, currency: str, command: str) -> dict[str, Any]:
    """Return the sheet (dashboard/sheet.py) of an experiment."""
    unit = {"money": f"{currency} a user", "orders": "share of users who order", "outcome": "outcome a user"}
    others = found.compared.arms.slice(1)
    sections: list[dict[str, Any]] = [
        {
            "title": "What each arm brought",
            "text": [
                f"{METRICS[found.metric].capitalize()} in the {found.days} days after a user met the experiment, "
                f"against '{found.control}'. The intervals hold however often one looks."
            ],
            "parts": [
                {
                    "kind": "bars",
                    "title": f"Difference from {found.control}",
                    "x": unit[found.metric],
                    "labels": others["arm"].to_list(),
                    "series": [
                        {
                            "name": "difference",
                            "values": others["difference"].to_list(),
                            "low": others["always_low"].to_list(),
                            "high": others["always_high"].to_list(),
                        }
                    ],
                },
                _table(found),
            ],
        }
    ]
    if found.daily.height:
        sections.append(
            {
                "title": "From day to day",
                "text": [
                    "As it stood at the end of each day: believe it where both dashed lines are on one side of 0."
                ],
                "parts": [_lines(found, arm) for arm in others["arm"]],
            }
        )
    return {
        "title": f"Experiment: {found.name}",
        "lead": [*found.compared.sentences, *found.notes],
        "sections": sections,
        "made": {"version": __version__, "at": dt.datetime.now(dt.UTC).isoformat(), "command": command},
    }


def _table(found: Experiment) -> dict[str, Any]:
    columns = ["Arm", "Users", "Mean", "Difference", "From", "To", "Relative", "Brought in all", "From", "To"]
    rows = [
        [
            *(row["arm"], row["users"], row["mean"], row["difference"], row["always_low"], row["always_high"]),
            *(row["relative"], row["incremental"], row["incremental_low"], row["incremental_high"]),
        ]
        for row in found.compared.arms.iter_rows(named=True)
    ]
    return {
        "kind": "table",
        "title": "In numbers",
        "columns": [
            {"name": name, "align": "left" if name == "Arm" else "right", "percent": name == "Relative"}
            for name in columns
        ],
        "rows": rows,
        "note": "Brought in all = the difference times the users of the arm; means are after CUPED.",
    }


def _lines(found: Experiment, arm: str) -> dict[str, Any]:
    days = found.daily.filter(arm=arm)
    place = range(1, days.height + 1)
    return {
        "kind": "lines",
        "title": f"{arm} against {found.control}",
        "x": "day with enough users",
        "y": "difference",
        "series": [
            {"name": name, "points": [list(p) for p in zip(place, days[column], strict=True)], "dashed": dashed}
            for name, column, dashed in (
                ("difference", "difference", False),
                ("at least", "always_low", True),
                ("at most", "always_high", True),
            )
        ],
    }
