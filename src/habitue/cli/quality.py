"""habitue check."""

from __future__ import annotations

from pathlib import Path

import typer

from habitue.cli.options import Json, Workspace, print_json, print_table


def check(workspace: Workspace = Path(), json: Json = False) -> None:
    """Say what the data is worth trusting: what was found, the rows and the money it touches, and four scores.

    Example: habitue check --json
    """
    import habitue

    found = habitue.open(workspace).check()
    findings, scores = found.findings.to_dicts(), found.scores.to_dicts()
    if json:
        print_json({"findings": findings, "scores": scores, "refused": found.refused.to_dicts()})
        return
    print_table(
        "What was found",
        {"finding": "left", "rows": "right", "money": "right", "share": "right", "treatment": "left"},
        [
            [f["sentence"], f"{f['rows']:,}", f"{f['money']:,.0f}", f"{f['share']:.1%}", f["treatment"]]
            for f in findings
        ],
    )
    print_table(
        "\nScores (0 to 1, formulas in docs/quality.md)",
        {"table": "left", "dimension": "left", "measure": "left", "score": "right"},
        [[s["table"], s["dimension"], s["measure"], f"{s['score']:.3f}"] for s in scores],
    )
    if found.refused.height:
        print_table(
            "\nRefused rows",
            {"reason": "left", "rows": "right", "for example": "left"},
            [[r["code"], f"{r['rows']:,}", r["sentence"]] for r in found.refused.to_dicts()],
        )
    typer.echo(f"\nAs a file: {found.path}")
