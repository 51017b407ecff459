"""sse-starlette in Starlette, the usual recipe: a bounded queue a client, as its examples show.

Its `examples/02_broadcasting.py` puts one `ServerSentEvent` into every queue, which each response
encodes again. Here it is encoded once, and the responses take the bytes: that is faster.
Every option is its default. Differs from the others: lines end with CRLF.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from bench.rivals.publisher import EVENT, QUEUED, publish_as_allowed
from bench.rivals.source import Delta
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

queues: set[asyncio.Queue[bytes]] = set()


async def publish(deltas: Sequence[Delta]) -> None:
    for made in deltas:
        event = ServerSentEvent(made.model_dump_json(), event=EVENT, id=str(made.index))
        frame = event.encode()
        for queue in queues:
            queue.put_nowait(frame)


async def listen() -> AsyncIterator[bytes]:
    queue = asyncio.Queue[bytes](QUEUED)
    queues.add(queue)
    try:
        while True:
            yield await queue.get()
    finally:
        queues.discard(queue)


async def events(request: Request) -> EventSourceResponse:  # noqa: ARG001
    return EventSourceResponse(listen())


async def publish_one(request: Request) -> Response:
    await publish([Delta.model_validate_json(await request.body())])
    return Response(status_code=204)


async def start(request: Request) -> Response:
    asked = request.path_params
    with suppress(ClientDisconnect):
        await publish_as_allowed(request.stream(), asked["size"], asked["burst"], publish)
    return Response(status_code=204)


app = Starlette(
    routes=[
        Route("/events", events),
        Route("/publish", publish_one, methods=["POST"]),
        Route("/start/{size:int}/{burst:int}", start, methods=["POST"]),
    ]
)
