"""The server: every route in one list, read from top to bottom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from litestar import Litestar
from litestar.datastructures import State

from habitue.collect import receiver as collect
from habitue.core.workspace import Workspace
from habitue.serve import (
    answers,
    auditing,
    collecting,
    desk,
    front,
    gorse,
    jobs,
    live,
    operating,
    personalize,
    sensing,
    snippet,
    streams,
)
from habitue.serve.child import Child
from habitue.serve.keys import Door
from habitue.serve.traces import Traces


def create(
    workspace: Workspace,
    *,
    read: Callable[[], Path] | None = None,
    child: Child | None = None,
    config: collect.Config | None = None,
    answering: desk.Config | None = None,
    clock: desk.Clock = desk.now,
    follow: Sequence[streams.Address] = (),
    tracing: Traces | None = None,
) -> Litestar:
    """Return the application of one workspace (ASGI); `follow`: brokers whose events are taken as well.

    It begins to receive and to answer when it starts, and finishes what waits when it stops. What takes long is done
    by `child` (`habitue.background`); without one a thread does it, and `read` reads the workspace for the answers
    (`habitue.serving.read`). Without both it only receives. `app.state.receiver` is the Receiver: append to its
    `subscribers` before the application starts.
    """

    async def store(segments: list[Path]) -> int:
        assert child is not None
        told = await child.ask("store", segments=[path.name for path in segments]) if segments else {"stored": 0}
        return int(told["stored"])

    async def folder() -> Path:
        if child is not None:
            return Path((await child.ask("read"))["folder"])
        assert read is not None
        return await asyncio.to_thread(read)

    answering_too = read is not None or child is not None
    receiver = collect.Receiver(workspace, config, store=None if child is None else store)
    door = Door(workspace.state)
    answers_from = desk.Desk(
        workspace,
        folder if answering_too else None,
        config=answering,
        flush=receiver.compact,
        expose=receiver.expose,
        followed=door.followed,
        clock=clock,
    )
    answers_from.traces = tracing = tracing or Traces()
    streams_open = live.Streams(answers_from)
    if answering_too:
        receiver.subscribers.append(answers_from.on_events)
        receiver.consent_subscribers.append(answers_from.on_consents)

    @asynccontextmanager
    async def receiving(_app: Litestar) -> AsyncIterator[None]:
        async with AsyncExitStack() as running:  # what was started last is stopped first
            if child is not None:
                await child.start()
                running.push_async_callback(child.stop)
            await receiver.start()
            running.push_async_callback(receiver.stop)
            running.push_async_callback(answers_from.stop)
            if answering_too:
                await answers_from.start()
            if child is not None:
                child.calm()
            await running.enter_async_context(auditing.kept(door))
            await running.enter_async_context(streams.followed(follow, receiver))
            running.callback(tracing.stop)
            running.callback(streams_open.close)
            yield

    made = Litestar(
        route_handlers=[
            # what is asked
            answers.recommendations_of_query,  # GET  /v1/recommendations
            answers.recommendations,  # POST /v1/recommendations
            answers.predictions_of_query,  # GET  /v1/predictions
            answers.predictions,  # POST /v1/predictions
            answers.user,  # GET  /v1/users/{user_id}
            answers.tokens,  # POST /v1/tokens
            live.live,  # GET  /v1/live
            jobs.submit,  # POST /v1/jobs
            jobs.every,  # GET  /v1/jobs
            jobs.one,  # GET  /v1/jobs/{job_id}
            jobs.cancel,  # DELETE /v1/jobs/{job_id}
            jobs.result,  # GET  /v1/jobs/{job_id}/result
            gorse.recommend,  # GET  /api/recommend/{user_id}[/{category}], /api/collaborative-filtering/{user_id}
            gorse.session_recommend,  # POST /api/session/recommend
            gorse.neighbours,  # GET  /api/item/{item_id}/neighbors[/{category}], /api/item-to-item/{name}/{item_id}
            gorse.non_personalized,  # GET  /api/non-personalized/{name}, /api/popular, /api/latest
            gorse.item,  # GET  /api/item/{item_id}
            gorse.items,  # GET  /api/items
            gorse.user,  # GET  /api/user/{user_id}
            gorse.users,  # GET  /api/users
            gorse.feedback_of_user,  # GET  /api/user/{user_id}/feedback[/{feedback_type}]
            gorse.feedback,  # GET  /api/feedback[/{feedback_type}]
            gorse.one_feedback,  # GET  /api/feedback/{feedback_type}/{user_id}/{item_id}
            gorse.no_user_neighbours,  # GET  /api/user/{user_id}/neighbors: 404 in words, as the next ones
            gorse.no_feedback_of_item,  # GET  /api/item/{item_id}/feedback[/{feedback_type}]
            gorse.no_item_category,  # PUT, DELETE /api/item/{item_id}/category/{category}
            gorse.no_user_erasure,  # DELETE /api/user/{user_id}
            gorse.no_feedback_erasure,  # DELETE /api/feedback[/{feedback_type}]/{user_id}/{item_id}
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
            collecting.gorse_item_changed,  # PATCH /api/item/{item_id}
            collecting.gorse_item_hidden,  # DELETE /api/item/{item_id}
            collecting.gorse_user_changed,  # PATCH /api/user/{user_id}
            collecting.personalize_events,  # POST /events
            collecting.personalize_items,  # POST /items
            collecting.personalize_users,  # POST /users
            sensing.media,  # POST /v1/media
            sensing.signals,  # POST /v1/signals
        ],
        state=State(
            {
                "receiver": receiver,
                "door": door,
                "desk": answers_from,
                "child": child,
                "live": streams_open,
                "looking": asyncio.Semaphore(sensing.AT_ONCE),
                "traces": tracing,
            }
        ),
        middleware=[operating.Watch()],
        exception_handlers=collecting.ERRORS,
        before_send=[collecting.let_pages_ask],
        lifespan=[receiving],
        openapi_config=None,
        logging_config=None,
    )
    front.shorten(
        made,
        [
            answers.recommendations,
            answers.recommendations_of_query,
            collecting.segment_message,
            collecting.segment_batch,
            collecting.posthog_batch,
        ],
    )
    return made
