"""The server: every route in one list, read from top to bottom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.datastructures import State

from habitue.collect import receiver as collect
from habitue.core.workspace import Workspace
from habitue.serve import collecting
from habitue.serve.keys import Door


def create(workspace: Workspace, *, config: collect.Config | None = None) -> Litestar:
    """Return the application of one workspace (ASGI).

    It begins to receive when it starts, and finishes what waits when it stops. `app.state.receiver` is the Receiver:
    append to its `subscribers` before the application starts.
    """
    receiver = collect.Receiver(workspace, config)

    @asynccontextmanager
    async def receiving(_app: Litestar) -> AsyncIterator[None]:
        await receiver.start()
        try:
            yield
        finally:
            await receiver.stop()

    return Litestar(
        route_handlers=[
            collecting.segment_message,  # POST /v1/{track,page,screen,identify,group,alias}, short {t,p,s,i,g,a}
            collecting.segment_batch,  # POST /v1/batch, /v1/b
        ],
        state=State({"receiver": receiver, "door": Door(workspace.root / "state")}),
        exception_handlers=collecting.ERRORS,
        lifespan=[receiving],
        openapi_config=None,
        logging_config=None,
    )
