"""Step 3: two typed streams merged into one; a type checker sees `Echo | ReverseEcho`.

Run it:   uvicorn --app-dir examples sse3:app --port 12345
Read it:  curl -N 'http://127.0.0.1:12345/sse3?message=hello'
"""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from pydantic import BaseModel

from typed_sse import BaseEvent, EventSourceResponse, event_source, merge


class EchoPayload(BaseModel):
    message: str


class Echo(BaseEvent[EchoPayload]):
    """The event `echo`."""


class ReverseEcho(BaseEvent[EchoPayload]):
    """The event `reverse_echo`."""


app = FastAPI()


@event_source()
async def echoes(message: str) -> AsyncIterator[Echo]:
    while True:
        yield Echo.create(EchoPayload(message=message))
        await asyncio.sleep(1)


@event_source()
async def reverse_echoes(message: str) -> AsyncIterator[ReverseEcho]:
    while True:
        yield ReverseEcho.create(EchoPayload(message=message[::-1]))
        await asyncio.sleep(1)


@app.get("/sse3")
async def sse3(message: str) -> EventSourceResponse:
    """Echo the message every second, forwards and backwards."""
    return EventSourceResponse(merge(echoes(message), reverse_echoes(message)))
