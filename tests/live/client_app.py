"""An application for clients under faults: a channel of numbers, and streams that are none.

All is in the memory of its one process.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from typed_sse import BaseEvent, Drain, EventSourceResponse, EventStream
from typed_sse.channels import Channel, Hub, Retain
from typed_sse.fastapi import EventRouter, LastEventId
from typed_sse.registry import process_registry

PING_S = 0.4
IDLE_LIMIT_S = 1.0
WORDS = ["one", "two", "three", "four", "five", "six"]


class Count(BaseModel):
    """The how manieth event of its channel this is, from 0 on."""

    number: int


class Counted(BaseEvent[Count]):
    """One more was published."""


class Word(BaseEvent[str]):
    """A word of an answer that takes its time."""


class Said(BaseEvent[int], terminal=True):
    """The answer is complete: so many words."""


hub = Hub("memory://")
numbers = Channel("numbers/{run}", Counted, hub=hub, retain=Retain(events=20_000))
published: dict[str, int] = {}

router = EventRouter(
    respond=partial(EventSourceResponse, ping=PING_S, idle_limit=IDLE_LIMIT_S, start_within=0)
)


@router.get("/numbers/{run}")
async def read(run: str, after: LastEventId) -> EventStream[Counted]:
    """All numbers of a run, from the first, or from behind the last that was read."""
    return numbers.at(run=run).subscribe(after=after or "earliest")


@router.post("/words")
async def say() -> AsyncIterator[Word | Said]:
    """Say some words, without ids: whoever asks again has them said again."""
    for word in WORDS:
        yield Word(word)
    yield Said(len(WORDS))


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    async with hub, Drain():
        yield


app = FastAPI(lifespan=lifespan)
app.include_router(router)


@app.post("/numbers/{run}")
async def publish(run: str, count: int, pause_s: float = 0.0) -> int:
    """Publish so many more, at once or with pauses; return how many there are in all."""
    first = published.get(run, 0)
    published[run] = first + count
    events = [Counted(Count(number=number)) for number in range(first, first + count)]
    at_once = 1 if pause_s else 500
    for start in range(0, count, at_once):
        await numbers.at(run=run).publish(*events[start : start + at_once])
        await asyncio.sleep(pause_s)
    return published[run]


@app.get("/open")
async def open_streams() -> int:
    """Return how many streams are open."""
    return len(process_registry.open_streams())


async def _again_and_again(start: bytes, piece: bytes) -> AsyncGenerator[bytes]:
    yield start
    while True:
        yield piece
        await asyncio.sleep(0)  # what is sent to a reader that has left waits for nothing


@app.get("/endless/line")
async def endless_line() -> StreamingResponse:
    """Send one event that is one line without an end."""
    body = _again_and_again(b"data: first\n\ndata: ", b"x" * 65_536)
    return StreamingResponse(body, media_type="text/event-stream")


@app.get("/endless/event")
async def endless_event() -> StreamingResponse:
    """Send one event with ever more lines."""
    body = _again_and_again(b"data: first\n\n", b"data: x\n" * 8192)
    return StreamingResponse(body, media_type="text/event-stream")
