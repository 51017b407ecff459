"""FastAPI's own event streams with a queue a client; its documentation shows no fan-out.

One `ServerSentEvent` is made for each event, its JSON too, and put into every queue; FastAPI writes
the frame for each.
"""

import asyncio
from collections.abc import AsyncIterable, Sequence
from contextlib import suppress

from bench.rivals.publisher import EVENT, QUEUED, publish_as_allowed
from bench.rivals.source import Delta
from fastapi import FastAPI, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.requests import ClientDisconnect

app = FastAPI()
queues: set[asyncio.Queue[ServerSentEvent]] = set()


async def publish(deltas: Sequence[Delta]) -> None:
    for made in deltas:
        event = ServerSentEvent(raw_data=made.model_dump_json(), event=EVENT, id=str(made.index))
        for queue in queues:
            queue.put_nowait(event)


@app.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncIterable[ServerSentEvent]:
    queue = asyncio.Queue[ServerSentEvent](QUEUED)
    queues.add(queue)
    try:
        while True:
            yield await queue.get()
    finally:
        queues.discard(queue)


@app.post("/publish", status_code=204)
async def publish_one(made: Delta) -> None:
    await publish([made])


@app.post("/start/{size}/{burst}", status_code=204)
async def start(request: Request, size: int, burst: int) -> None:
    with suppress(ClientDisconnect):
        await publish_as_allowed(request.stream(), size, burst, publish)
