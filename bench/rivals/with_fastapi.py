"""FastAPI's own event streams, as its documentation shows them for events with a name and an id."""

import asyncio
from collections.abc import AsyncIterable
from itertools import count

from bench.rivals.source import delta, filling
from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

app = FastAPI()


@app.get("/{size}/{pause_ms}", response_class=EventSourceResponse)
async def stream(size: int, pause_ms: int) -> AsyncIterable[ServerSentEvent]:
    text = filling(size)
    for number in count():
        yield ServerSentEvent(data=delta(number, text), event="token", id=str(number))
        if pause_ms:
            await asyncio.sleep(pause_ms / 1000)
