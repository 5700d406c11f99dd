"""The command line: one file a stage, each command parses, calls and prints.

Exit codes: 0 fine, 1 the data or the run failed, 2 wrong use, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys

import typer

from habitue import STAGES, __version__
from habitue.cli import (
    apply,
    bench,
    collect,
    doctor,
    erase,
    experiment,
    identity,
    keys,
    lake,
    model,
    models,
    personas,
    quality,
    report,
    rules,
    serve,
    states,
    tune,
)
from habitue.core.errors import HabitueError

app = typer.Typer(
    name="habitue",
    help="Everything a shop's customers do, say and show, in one customer model.\n\n"
    f"The stages, in order: {' > '.join(STAGES)}.\n\nStart with: habitue demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.callback(invoke_without_command=True)
def about(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    """Print the version when asked."""
    if version:
        typer.echo(f"habitue {__version__}")
        raise typer.Exit


app.command("demo")(report.demo)
app.command("init")(collect.init)
app.command("import")(collect.import_)
app.command("replay")(collect.replay)
app.command("check")(quality.check)
app.command("train")(model.train)
app.command("recommend")(apply.recommend)
app.command("predict")(apply.predict)
personas.app.command("states")(states.states)
personas.app.command("experiment")(experiment.experiment)
app.add_typer(personas.app, name="apply")
app.add_typer(bench.app, name="bench")
app.command("tune")(tune.tune)
app.add_typer(models.app, name="models")
app.add_typer(identity.app, name="identity")
app.add_typer(keys.app, name="keys")
app.add_typer(rules.app, name="rules")
app.add_typer(experiment.app, name="experiment")
app.command("doctor")(doctor.doctor)
app.command("erase")(erase.erase)
app.add_typer(lake.app, name="lake")
app.command("migrate")(lake.migrate)
app.command("serve")(serve.serve)
app.command("report")(report.report)
app.command("run")(report.run)


def main() -> None:
    """Run the command line; a HabitueError becomes one sentence and its exit code."""
    try:
        app()
    except HabitueError as error:
        typer.echo(f"habitue: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo(
            "habitue: stopped by Ctrl-C. Nothing is half-written; the same command starts again where it is safe.",
            err=True,
        )
        sys.exit(130)
