"""Step 2: the same, type-safe. The event's name is its class, its payload a Pydantic model.

Run it:   uvicorn --app-dir examples sse2:app --port 12345
Read it:  curl -N 'http://127.0.0.1:12345/sse2?message=hello'
"""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from pydantic import BaseModel

from typed_sse import BaseEvent, EventSourceResponse, event_source


class EchoPayload(BaseModel):
    message: str


class Echo(BaseEvent[EchoPayload]):
    """The event `echo`."""


app = FastAPI()


@event_source()
async def echoes(message: str) -> AsyncIterator[Echo]:
    while True:
        yield Echo.create(EchoPayload(message=message))
        await asyncio.sleep(1)


@app.get("/sse2")
async def sse2(message: str) -> EventSourceResponse:
    """Echo the message every second."""
    return EventSourceResponse(echoes(message))
