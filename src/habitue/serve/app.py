"""The server: every route in one list, read from top to bottom."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.datastructures import State

from habitue.collect import receiver as collect
from habitue.core.workspace import Workspace
from habitue.serve import collecting, snippet, streams
from habitue.serve.keys import Door


def create(
    workspace: Workspace, *, config: collect.Config | None = None, follow: Sequence[streams.Address] = ()
) -> Litestar:
    """Return the application of one workspace (ASGI); `follow`: brokers whose events are taken as well.

    It begins to receive when it starts, and finishes what waits when it stops. `app.state.receiver` is the Receiver:
    append to its `subscribers` before the application starts.
    """
    receiver = collect.Receiver(workspace, config)

    @asynccontextmanager
    async def receiving(_app: Litestar) -> AsyncIterator[None]:
        await receiver.start()
        try:
            async with streams.followed(follow, receiver):
                yield
        finally:
            await receiver.stop()

    return Litestar(
        route_handlers=[
            snippet.script,  # GET  /habitue.js, for shops without a tracker
            collecting.segment_message,  # POST /v1/{track,page,screen,identify,group,alias}, short {t,p,s,i,g,a}
            collecting.segment_batch,  # POST /v1/batch, /v1/b
            collecting.segment_settings,  # GET  /v1/projects/{key}/settings
            collecting.snowplow_batch,  # POST /com.snowplowanalytics.snowplow/tp2
            collecting.snowplow_pixel,  # GET  /i
            collecting.ga4_batch,  # POST /mp/collect
            collecting.posthog_batch,  # POST /batch/, /capture/, /e/, /i/v0/e/
            collecting.posthog_beside,  # what posthog-js asks beside: /flags, /decide, /s, /array/{key}/config
            collecting.gorse_feedback,  # POST, PUT /api/feedback
            collecting.gorse_items,  # POST /api/item, /api/items
            collecting.gorse_users,  # POST /api/user, /api/users
            collecting.personalize_events,  # POST /events
            collecting.personalize_items,  # POST /items
            collecting.personalize_users,  # POST /users
        ],
        state=State({"receiver": receiver, "door": Door(workspace.root / "state")}),
        exception_handlers=collecting.ERRORS,
        before_send=[collecting.let_pages_ask],
        lifespan=[receiving],
        openapi_config=None,
        logging_config=None,
    )
