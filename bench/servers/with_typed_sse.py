"""The application that `bench.servers` measures, with typed-sse.

Every option is its default. This is the only file of the comparison that imports typed-sse.
"""

import asyncio
from collections.abc import AsyncIterator

from bench.servers.probe import (
    BIG,
    FIRST,
    QUICK_YIELDS,
    WORDS,
    Opened,
    OpenedLate,
    Stream,
    serve_in_thread,
)
from fastapi import FastAPI, HTTPException

from typed_sse import BaseEvent, Drain, EventSourceResponse, event_source

drain = Drain()
app = FastAPI(lifespan=drain.lifespan)


class Word(BaseEvent[str], event="word"):
    """A word of a text."""


@app.get("/alive")
async def alive() -> str:
    return "yes"


@event_source
async def waiting(stream: Stream) -> AsyncIterator[Word]:
    stream.begun()
    try:
        yield Word(FIRST)
        await asyncio.sleep(3600)
    finally:
        await stream.cleanup()


@event_source
async def pausing(stream: Stream) -> AsyncIterator[Word]:
    stream.begun()
    try:
        yield Word(FIRST)
        while True:
            stream.yielding()
            yield Word(BIG)
            await asyncio.sleep(0.001)
    finally:
        await stream.cleanup()


@event_source
async def rushing(stream: Stream) -> AsyncIterator[Word]:
    stream.begun()
    try:
        yield Word(FIRST)
        while True:
            stream.yielding()
            yield Word(BIG)
    finally:
        await stream.cleanup()


@event_source
async def failing(pause_s: float) -> AsyncIterator[Word]:
    for number in range(QUICK_YIELDS):
        yield Word(f"number-{number}")
    if pause_s:
        await asyncio.sleep(pause_s)
    raise RuntimeError


@event_source
async def lookup(name: str) -> AsyncIterator[Word]:
    if name not in WORDS:
        raise HTTPException(404)
    yield Word(name)


@app.get("/waiting/{key}")
async def answer_waiting(stream: Opened) -> EventSourceResponse:
    return EventSourceResponse(waiting(stream))


@app.get("/pausing/{key}")
async def answer_pausing(stream: Opened) -> EventSourceResponse:
    return EventSourceResponse(pausing(stream))


@app.get("/rushing/{key}")
async def answer_rushing(stream: Opened) -> EventSourceResponse:
    return EventSourceResponse(rushing(stream))


@app.get("/late/{key}")
async def answer_late(stream: OpenedLate) -> EventSourceResponse:
    return EventSourceResponse(waiting(stream))


@app.head("/head/{key}")
async def answer_head(stream: Opened) -> EventSourceResponse:
    return EventSourceResponse(waiting(stream))


@app.get("/failing/{pause_s}")
async def answer_failing(pause_s: float) -> EventSourceResponse:
    return EventSourceResponse(failing(pause_s))


@app.get("/lookup/{name}")
async def answer_lookup(name: str) -> EventSourceResponse:
    return EventSourceResponse(lookup(name))


if __name__ == "__main__":
    serve_in_thread(app, drain.begin)
