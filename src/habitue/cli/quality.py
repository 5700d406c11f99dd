"""habitue check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from habitue.cli.options import Json, Workspace, print_json, print_table

if TYPE_CHECKING:
    from habitue.checking import Checked
    from habitue.shop import Shop

DRIFTS = 10  # columns shown on the screen


def check(
    workspace: Workspace = Path(),
    repair: Annotated[
        str | None, typer.Option("--repair", help="Make this repair (the check lists them), and nothing else.")
    ] = None,
    undo: Annotated[str | None, typer.Option("--undo", help="Take this repair back, and nothing else.")] = None,
    before: Annotated[
        str | None,
        typer.Option(
            "--before", help="Drift from this period, e.g. 2011-01-01..2011-03-31.", show_default="4 weeks before"
        ),
    ] = None,
    after: Annotated[
        str | None, typer.Option("--after", help="Drift to this period.", show_default="the latest 4 weeks")
    ] = None,
    json: Json = False,
) -> None:
    """Say what the data is worth trusting: what was found, the money it touches, scores, drift, and what to repair.

    Nothing is changed unless --repair asks for it, and --undo takes that back. Exit code 1 when a limit in
    habitue.toml \\[check] is broken. Everything is also written to reports/quality.html and reports/quality.json.

    Example: habitue check --before 2011-01-01..2011-03-31 --after 2011-04-01..2011-06-30
    """
    import habitue
    from habitue.core.errors import UsageError

    shop = habitue.open(workspace)
    asked = [name for name, value in (("--repair", repair), ("--undo", undo)) if value is not None]
    if len(asked) > 1 or (asked and (before or after)):
        raise UsageError(
            "check",
            found=f"{asked[0]} came with another question",
            consequence="It is not said which comes first",
            remedy="Ask one after the other",
        )
    if (before is None) != (after is None):
        raise UsageError(
            "check",
            found="one of the two periods of drift is missing",
            consequence="Drift is from one period to another",
            remedy="Give both --before and --after",
        )
    if repair is not None:
        _repair(shop, repair, json)
    elif undo is not None:
        _undo(shop, undo, json)
    else:
        found = shop.check(before=before, after=after)
        _told(found, json)
        found.hold()


def _repair(shop: Shop, name: str, json: bool) -> None:
    done = shop.repair(name)
    if json:
        print_json({"repair": done.name, "rows": done.rows, "money": done.money})
    else:
        typer.echo(f"{done.sentence}\nDone. To take it back: habitue check --undo {done.name}")


def _undo(shop: Shop, name: str, json: bool) -> None:
    rows = shop.undo(name)
    if json:
        print_json({"undone": name, "rows": rows})
    else:
        typer.echo(f"{rows:,} entries of '{name}' are taken back: those rows are as they were imported.")


def _told(found: Checked, json: bool) -> None:
    from habitue import checking

    if json:
        print_json(checking.document(found))
        return
    seen = found.examined
    print_table(
        "What was found",
        {"finding": "left", "rows": "right", "money": "right", "share": "right", "treatment": "left"},
        [
            [f["sentence"], f"{f['rows']:,}", f"{f['money']:,.0f}", f"{f['share']:.1%}", f["treatment"]]
            for f in seen.findings.to_dicts()
        ],
    )
    print_table(
        "\nScores (0 to 1, formulas in docs/quality.md)",
        {"table": "left", "dimension": "left", "measure": "left", "score": "right"},
        [[s["table"], s["dimension"], s["measure"], f"{s['score']:.3f}"] for s in seen.scores.to_dicts()],
    )
    moved = seen.drift.head(DRIFTS).filter(seen.drift.head(DRIFTS)["verdict"] != "none")
    if moved.height:
        (old, new), (start, end) = seen.before, seen.after
        print_table(
            f"\nDrift from {old:%Y-%m-%d} to {new:%Y-%m-%d} against {start:%Y-%m-%d} to {end:%Y-%m-%d}",
            {"column": "left", "PSI": "right", "JS": "right", "KS": "right", "moved": "left"},
            [
                [
                    f"{d['table']}.{d['column']}",
                    f"{d['psi']:.3f}",
                    f"{d['js']:.3f}",
                    "" if d["ks"] is None else f"{d['ks']:.3f}",
                    d["verdict"],
                ]
                for d in moved.to_dicts()
            ],
        )
    if seen.proposals:
        print_table(
            "\nWhat can be repaired, when you ask: habitue check --repair NAME",
            {"name": "left", "what it does": "left"},
            [[one.name, one.sentence] for one in seen.proposals],
        )
    if found.in_force.height:
        print_table(
            "\nRepairs in force; to take one back: habitue check --undo NAME",
            {"name": "left", "since": "left", "rows": "right", "money": "right"},
            [
                [r["repair"], f"{r['applied_at']:%Y-%m-%d %H:%M} UTC", f"{r['rows']:,}", f"{r['money']:,.2f}"]
                for r in found.in_force.to_dicts()
            ],
        )
    if found.refused.height:
        print_table(
            "\nRefused rows",
            {"reason": "left", "rows": "right", "for example": "left"},
            [[r["code"], f"{r['rows']:,}", r["sentence"]] for r in found.refused.to_dicts()],
        )
    typer.echo(f"\nAs a page: {found.page}; as JSON: {found.path}")
