"""habitue recommend, habitue predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from habitue.cli.options import Json, Out, Workspace, print_json, print_table, write_table


def recommend(
    user_id: Annotated[str, typer.Option("--user-id", "-u", help="The customer's id, as in your own files.")],
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many products.")] = 10,
    why: Annotated[bool, typer.Option("--why/--no-why", help="Reasons that a deletion test confirmed.")] = True,
    as_of: Annotated[str | None, typer.Option("--as-of", help="Ask as of this moment.")] = None,
    out: Out = None,
    workspace: Workspace = Path(),
    json: Json = False,
) -> None:
    """Recommend products to one customer, with reasons.

    Example: habitue recommend --user-id 17850 --n 10
    """
    import habitue

    frame = habitue.open(workspace).recommend(user_id=user_id, n=n, why=why, as_of=as_of)
    if out is not None:
        write_table(frame.drop("because"), out)
    if json:
        print_json(frame.to_dicts())
    else:
        print_table(
            f"For customer {user_id}",
            {"rank": "right", "item": "left", "title": "left", "because they bought": "left"},
            [[str(r["rank"]), r["item_id"], r["title"] or "", "; ".join(r["because"] or [])] for r in frame.to_dicts()],
        )
        if frame.height and frame["reason"][0]:
            typer.echo(f"What everyone buys now: {frame['reason'][0]}.")


def predict(
    task: Annotated[str, typer.Argument(help="churn, churn_7, churn_30, churn_90 or value.")],
    as_of: Annotated[str | None, typer.Option("--as-of", help="Ask as of this moment.")] = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many customers to print.")] = 10,
    out: Out = None,
    workspace: Workspace = Path(),
    json: Json = False,
) -> None:
    """Predict what each known customer will do in the next weeks (the plan's horizon_days).

    churn: probability of no order; churn_7, churn_30, churn_90: of none within so many days. value: money. The whole
    table goes to --out; the screen shows the first rows.

    Example: habitue predict churn --out churn.parquet
    """
    import habitue

    frame = habitue.open(workspace).predict(task, as_of=as_of)
    if out is not None:
        write_table(frame, out)
    if json:
        print_json(frame.head(n).to_dicts())
    else:
        print_table(
            f"{task}: {frame.height:,} customers, the first {min(n, frame.height)}",
            {"customer": "left", task: "right", "orders so far": "right", "spent so far": "right"},
            [
                [
                    r["user_id"],
                    f"{r['score']:,.3f}",
                    "" if r["orders"] is None else f"{r['orders']:,}",
                    "" if r["spent"] is None else f"{r['spent']:,.2f}",
                ]
                for r in frame.head(n).to_dicts()
            ],
        )
        for reason, count in frame.drop_nulls("reason")["reason"].value_counts(sort=True).iter_rows():
            typer.echo(f"{count:,} customers have the mean of the others instead of a score of their own: {reason}.")
