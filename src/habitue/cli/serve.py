"""habitue serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from habitue.cli.options import Workspace


def serve(
    workspace: Workspace = Path(),
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", help="The port to listen on; 0 = any free one.")] = 8080,
    follow: Annotated[
        list[str] | None,
        typer.Option(
            "--follow", help="Take events from this broker too: nats://, redis://, kafka://, amqp://host:port/name."
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--traces", metavar="URL", help="Send OpenTelemetry traces of requests to this collector; needs \\[traces]."
        ),
    ] = None,
    log: Annotated[
        bool, typer.Option("--log", help="Print a line of JSON a request: route, code, ms; no ids.")
    ] = False,
) -> None:
    """Answer HTTP for one shop: trackers send their events here, and pages fetch recommendations (docs/serve.md).

    Change one URL in the tracker you have (docs/collect.md). Stop it with Ctrl-C: what was received is then in the
    lake. Only this machine can reach it unless --host says otherwise, and that takes keys.

    Example: habitue serve --workspace my-shop --port 8080 --follow nats://127.0.0.1:4222/events
    """
    import logging
    import sys

    from habitue.core import runtime
    from habitue.core.errors import UsageError
    from habitue.core.extras import need

    runtime.modest()
    runtime.leave_a_core()
    for module in ("litestar", "msgspec", "httptools"):
        need(module, extra="serve", purpose="serve")
    from habitue.core.workspace import open_workspace
    from habitue.serve import logs, operating, running, streams, traces
    from habitue.serve.child import Child
    from habitue.serve.fields import this_machine
    from habitue.serve.keys import Door

    shop = open_workspace(workspace)
    if not this_machine(host) and Door(shop.root / "state").empty():
        raise UsageError(
            "serve --host",
            found=f"'{host}' can be reached from other machines, and the workspace has no keys",
            consequence="Anybody there could send events",
            remedy="Make one first: habitue keys create write",
        )
    logs.listen(sys.stderr)
    tracing = traces.Traces() if to is None else traces.sent_to(to)
    if log:
        lines = logging.StreamHandler(sys.stdout)
        lines.setFormatter(logging.Formatter("%(message)s"))
        operating.requests.addHandler(lines)
        operating.requests.setLevel(logging.INFO)
        operating.requests.propagate = False
    places = [streams.address(text) for text in follow or ()]
    running.run(
        shop,
        Child([sys.executable, "-P", "-m", "habitue.background", str(shop.root)]),
        host=host,
        port=port,
        ready=typer.echo,
        follow=places,
        tracing=tracing,
    )
