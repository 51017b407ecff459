"""The application that `bench.servers` measures, with sse-starlette inside FastAPI.

Endpoints return its response, as its documentation shows; every option is its default.
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
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import AppStatus

app = FastAPI()


@app.get("/alive")
async def alive() -> str:
    return "yes"


async def waiting(stream: Stream) -> AsyncIterator[ServerSentEvent]:
    stream.begun()
    try:
        yield ServerSentEvent(FIRST)
        await asyncio.sleep(3600)
    finally:
        await stream.cleanup()


async def pausing(stream: Stream) -> AsyncIterator[ServerSentEvent]:
    stream.begun()
    try:
        yield ServerSentEvent(FIRST)
        while True:
            stream.yielding()
            yield ServerSentEvent(BIG)
            await asyncio.sleep(0.001)
    finally:
        await stream.cleanup()


async def rushing(stream: Stream) -> AsyncIterator[ServerSentEvent]:
    stream.begun()
    try:
        yield ServerSentEvent(FIRST)
        while True:
            stream.yielding()
            yield ServerSentEvent(BIG)
    finally:
        await stream.cleanup()


async def failing(pause_s: float) -> AsyncIterator[ServerSentEvent]:
    for number in range(QUICK_YIELDS):
        yield ServerSentEvent(f"number-{number}")
    if pause_s:
        await asyncio.sleep(pause_s)
    raise RuntimeError


async def lookup(name: str) -> AsyncIterator[ServerSentEvent]:
    if name not in WORDS:
        raise HTTPException(404)
    yield ServerSentEvent(name)


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


def before_stop() -> None:
    AppStatus.should_exit = True


if __name__ == "__main__":
    serve_in_thread(app, before_stop)
