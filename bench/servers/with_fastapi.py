"""The application that `bench.servers` measures, with FastAPI's own event streams.

Path operations are generators, as FastAPI's documentation shows; every option is its default.
"""

import asyncio
from collections.abc import AsyncIterable

from bench.servers.probe import (
    BIG,
    FIRST,
    QUICK_YIELDS,
    WORDS,
    Opened,
    OpenedLate,
    serve_in_thread,
)
from fastapi import FastAPI, HTTPException
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel

app = FastAPI()


class Word(BaseModel):
    text: str


@app.get("/alive")
async def alive() -> str:
    return "yes"


@app.get("/waiting/{key}", response_class=EventSourceResponse)
async def waiting(stream: Opened) -> AsyncIterable[Word]:
    stream.begun()
    try:
        yield Word(text=FIRST)
        await asyncio.sleep(3600)
    finally:
        await stream.cleanup()


@app.get("/pausing/{key}", response_class=EventSourceResponse)
async def pausing(stream: Opened) -> AsyncIterable[Word]:
    stream.begun()
    try:
        yield Word(text=FIRST)
        while True:
            stream.yielding()
            yield Word(text=BIG)
            await asyncio.sleep(0.001)
    finally:
        await stream.cleanup()


@app.get("/rushing/{key}", response_class=EventSourceResponse)
async def rushing(stream: Opened) -> AsyncIterable[Word]:
    stream.begun()
    try:
        yield Word(text=FIRST)
        while True:
            stream.yielding()
            yield Word(text=BIG)
    finally:
        await stream.cleanup()


@app.get("/late/{key}", response_class=EventSourceResponse)
async def late(stream: OpenedLate) -> AsyncIterable[Word]:
    stream.begun()
    try:
        yield Word(text=FIRST)
        await asyncio.sleep(3600)
    finally:
        await stream.cleanup()


@app.head("/head/{key}", response_class=EventSourceResponse)
async def head(stream: Opened) -> AsyncIterable[Word]:
    stream.begun()
    try:
        yield Word(text=FIRST)
        await asyncio.sleep(3600)
    finally:
        await stream.cleanup()


@app.get("/failing/{pause_s}", response_class=EventSourceResponse)
async def failing(pause_s: float) -> AsyncIterable[Word]:
    for number in range(QUICK_YIELDS):
        yield Word(text=f"number-{number}")
    if pause_s:
        await asyncio.sleep(pause_s)
    raise RuntimeError


@app.get("/lookup/{name}", response_class=EventSourceResponse)
async def lookup(name: str) -> AsyncIterable[Word]:
    if name not in WORDS:
        raise HTTPException(404)
    yield Word(text=name)


if __name__ == "__main__":
    serve_in_thread(app, lambda: None)
