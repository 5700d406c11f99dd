"""habitue erase."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from habitue.cli.options import Json, Workspace, print_json


def erase(
    who: Annotated[
        str | None, typer.Argument(help="An id as in your own files, KIND:ID (email:a@b.example), or key:NUMBER.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; it cannot be undone.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Finish an erasure that was interrupted.")] = False,
    verify: Annotated[
        Path | None, typer.Option("--verify", help="Hold a receipt against its digest and signature.")
    ] = None,
    workspace: Workspace = Path(),
    json: Json = False,
) -> None:
    """Erase one person: their rows in every table, their ids, the pages that name them. It cannot be undone.

    A receipt goes to receipts/: how many rows, which models were trained on the person and have to be trained again,
    and what a search of every byte left found. Exit code 1 when a file that is yours to change still names the person.
    A server must be stopped meanwhile; what it has received and not yet stored is stored first, and searched.

    Examples: habitue erase 17850 --yes        habitue erase --verify receipts/erasure-1f2e3d4c5b6a7988.json
    """
    from habitue.collect.settle import settled
    from habitue.core.errors import UsageError
    from habitue.core.runtime import signing_key
    from habitue.core.workspace import open_workspace
    from habitue.plan import load
    from habitue.protect import erase as erasing
    from habitue.protect import people

    if [who is not None, resume, verify is not None].count(True) != 1:
        raise UsageError(
            "erase",
            found="nobody is named" if who is None else "more than one thing is asked",
            consequence="Nothing was erased",
            remedy="Give one of: an id, --resume, --verify FILE",
        )
    if verify is not None:
        receipt = erasing.verify(verify, sign_with=signing_key())
        _tell(receipt, json, f"The receipt holds{', and so does its signature' if signing_key() else ''}. ")
        return
    space = open_workspace(workspace)
    key = signing_key() if load(space.plan).erase.sign else None
    if key is None and load(space.plan).erase.sign:
        raise UsageError(
            "erase",
            found="the plan says that receipts are signed, and HABITUE_SIGNING_KEY is not set",
            consequence="Nothing was erased",
            remedy="Set it to the key, or write sign = false under [erase] in habitue.toml",
        )
    begun = erasing.unfinished(space)
    if resume and not begun:
        raise UsageError(
            "erase --resume",
            found="no erasure was interrupted",
            consequence="There is nothing to finish",
            remedy="Name somebody: habitue erase ID",
        )
    with settled(space):
        if begun:
            receipt = erasing.erase(space, begun, sign_with=key)
            _tell(receipt, json and who is None, "An erasure that was interrupted is finished. ")
        if who is not None:
            found = people.find(space.identities, who)
            if not yes:
                typer.confirm("Erase everything about this person? It cannot be undone", abort=True)
            receipt = erasing.erase(space, [found], sign_with=key)
            _tell(receipt, json, "")
    if not receipt["complete"]:
        raise typer.Exit(1)


def _tell(receipt: dict[str, Any], json: bool, first: str) -> None:
    if json:
        print_json(receipt)
        return
    rows = ", ".join(f"{count:,} of {name}" for name, count in receipt["rows"].items()) or "no row"
    typer.echo(
        f"{first}Erased on {receipt['erased_at']}: {rows}; {receipt['aliases']:,} ids. "
        f"{receipt['searched']['files']:,} files ({receipt['searched']['bytes'] / 2**20:,.1f} MiB) were searched."
    )
    for name in receipt["files_removed"]:
        typer.echo(f"Removed, it can be made again: {name}")
    for name in receipt["files_left"]:
        typer.echo(f"Still names the person, and is yours to change: {name}")
    for name in receipt["models_to_retrain"]:
        typer.echo(f"Was trained on the person; train again, then remove it: models/{name}")
    typer.echo(f"Receipt: receipts/erasure-{receipt['id']}.json")
