"""The server: every route in one list, read from top to bottom."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.datastructures import State

from habitue.collect import receiver as collect
from habitue.core.workspace import Workspace
from habitue.serve import answers, collecting, desk, gorse, operating, personalize, snippet, streams
from habitue.serve.keys import Door


def create(
    workspace: Workspace,
    *,
    load: desk.Load | None = None,
    config: collect.Config | None = None,
    answering: desk.Config | None = None,
    clock: desk.Clock = desk.now,
    follow: Sequence[streams.Address] = (),
) -> Litestar:
    """Return the application of one workspace (ASGI); `follow`: brokers whose events are taken as well.

    It begins to receive and to answer when it starts, and finishes what waits when it stops. `load` reads the
    workspace for the answers (`habitue.serving.snapshot`); None = it only receives. `app.state.receiver` is the
    Receiver: append to its `subscribers` before the application starts.
    """
    receiver = collect.Receiver(workspace, config)
    answers_from = desk.Desk(workspace, load, config=answering, flush=receiver.compact, clock=clock)
    if load is not None:
        receiver.subscribers.append(answers_from.on_events)

    @asynccontextmanager
    async def receiving(_app: Litestar) -> AsyncIterator[None]:
        await receiver.start()
        try:
            if load is not None:
                await answers_from.start()
            async with streams.followed(follow, receiver):
                yield
        finally:
            await answers_from.stop()
            await receiver.stop()

    return Litestar(
        route_handlers=[
            # what is asked
            answers.recommendations_of_query,  # GET  /v1/recommendations
            answers.recommendations,  # POST /v1/recommendations
            answers.predictions_of_query,  # GET  /v1/predictions
            answers.predictions,  # POST /v1/predictions
            answers.user,  # GET  /v1/users/{user_id}
            answers.tokens,  # POST /v1/tokens
            gorse.recommend,  # GET  /api/recommend/{user_id}[/{category}]
            gorse.session_recommend,  # POST /api/session/recommend
            gorse.neighbours,  # GET  /api/item/{item_id}/neighbors, /api/item-to-item/{name}/{item_id}
            gorse.non_personalized,  # GET  /api/non-personalized/{name}, /api/popular, /api/latest
            gorse.item,  # GET  /api/item/{item_id}
            gorse.items,  # GET  /api/items
            gorse.user,  # GET  /api/user/{user_id}
            gorse.live,  # GET  /api/health/live
            gorse.ready,  # GET  /api/health/ready
            personalize.recommendations,  # POST /recommendations
            personalize.ranking,  # POST /personalize-ranking
            operating.live,  # GET  /health/live
            operating.ready,  # GET  /health/ready
            operating.prometheus,  # GET  /metrics
            operating.openapi,  # GET  /openapi.json
            # what is sent
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
        state=State({"receiver": receiver, "door": Door(workspace.state), "desk": answers_from}),
        middleware=[operating.Watch()],
        exception_handlers=collecting.ERRORS,
        before_send=[collecting.let_pages_ask],
        lifespan=[receiving],
        openapi_config=None,
        logging_config=None,
    )
