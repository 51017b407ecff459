"""The demo application: a room, the three steps of the tutorial, a job, a chat; a console.

Every stream is a typed generator and every payload a Pydantic model, except in `/sse`, which shows
what the untyped layer looks like.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field
from starlette.staticfiles import StaticFiles

from typed_sse import (
    BaseEvent,
    Drain,
    ErrorInfo,
    EventSourceResponse,
    EventStream,
    ServerSentEvent,
    StreamError,
    event_source,
    merge,
)
from typed_sse.channels import Hub
from typed_sse.console import EventDocs
from typed_sse.demo import engine_url
from typed_sse.demo.room import Room
from typed_sse.fastapi import EventRouter

INTERVAL_S = 1.0
STEP_S = 0.4
TOKEN_S = 0.05
FAILS_AT = 10

Message = Annotated[str, Query(min_length=1, max_length=1000)]


class ModelError(Exception):
    """The chat's language model, which is none, has failed as it was asked to."""


def on_error(error: Exception) -> StreamError | None:
    """Tell the reader of a failed model, and of nothing else that may go wrong."""
    if isinstance(error, ModelError):
        return StreamError(ErrorInfo(code="model_failed", message="The model lost its thread."))
    return None


router = EventRouter(respond=partial(EventSourceResponse, on_error=on_error))


class EchoPayload(BaseModel):
    """What both echo events carry."""

    message: str


class Echo(BaseEvent[EchoPayload]):
    """The message, as it came."""


class ReverseEcho(BaseEvent[EchoPayload]):
    """The message, backwards."""


class JobStep(BaseModel):
    """How far a job has come."""

    step: int
    of: int
    doing: str


class JobResult(BaseModel):
    """What a job has made."""

    files: int
    seconds: float


class Progress(BaseEvent[JobStep]):
    """One step of a job is done."""


class Finished(BaseEvent[JobResult], terminal=True):
    """The job is done."""


class Prompt(BaseModel):
    """What a reader asks the chat."""

    prompt: Annotated[str, Field(min_length=1, max_length=1000)]


class TokenPayload(BaseModel):
    """A piece of the answer, to be put behind the piece before."""

    text: str


class Usage(BaseModel):
    """What an answer took."""

    tokens: int


class Token(BaseEvent[TokenPayload]):
    """The next piece of the answer."""


class Done(BaseEvent[Usage], terminal=True):
    """The answer is complete."""


@router.get("/sse")
async def sse(message: Message) -> AsyncIterator[ServerSentEvent]:
    """Step 1: untyped events, with ids of their own."""
    for t in itertools.count():
        yield ServerSentEvent(event="echo", id=t, data={"message": message})
        await asyncio.sleep(INTERVAL_S)


@event_source
async def echoes(message: str) -> AsyncIterator[Echo]:
    """Echo `message` every second."""
    while True:
        yield Echo.create(EchoPayload(message=message))
        await asyncio.sleep(INTERVAL_S)


@event_source
async def reverse_echoes(message: str) -> AsyncIterator[ReverseEcho]:
    """Echo `message` backwards every second."""
    while True:
        yield ReverseEcho.create(EchoPayload(message=message[::-1]))
        await asyncio.sleep(INTERVAL_S)


@router.get("/sse2")
async def sse2(message: Message) -> EventStream[Echo]:
    """Step 2: the same, typed."""
    return echoes(message)


@router.get("/sse3")
async def sse3(message: Message) -> EventStream[Echo | ReverseEcho]:
    """Step 3: two streams in one."""
    return merge(echoes(message), reverse_echoes(message))


_WORK = ("reading the order", "fetching pages", "resizing images", "writing captions", "packing")


@router.get("/job")
async def job(
    steps: Annotated[int, Query(ge=1, le=500)] = 20,
) -> AsyncIterator[Progress | Finished]:
    """Pretend to work, and say how far it is; at the end, give the result."""
    for step in range(1, steps + 1):
        await asyncio.sleep(STEP_S)
        yield Progress(JobStep(step=step, of=steps, doing=_WORK[step % len(_WORK)]))
    yield Finished(JobResult(files=steps * 3, seconds=round(steps * STEP_S, 1)))


@router.post("/chat")
async def chat(request: Prompt) -> AsyncIterator[Token | Done]:
    """Stream an answer over POST, word by word, as LLM APIs do; fail if the prompt asks for it."""
    words = (files("typed_sse.demo") / "answer.txt").read_text(encoding="utf-8").split(" ")
    opening = f"You asked: “{request.prompt}”. ".split(" ")
    tokens = [*opening[:-1], *words]
    for place, word in enumerate(tokens):
        yield Token(TokenPayload(text=word if place == 0 else f" {word}"))
        await asyncio.sleep(TOKEN_S)
        if place == FAILS_AT and "fail" in request.prompt:
            raise ModelError
    yield Done(Usage(tokens=len(tokens)))


def make_app(url: str) -> FastAPI:
    """Return the application, with its room on the engine of a URL.

    Raises:
        InvalidField: the URL is none of an engine.
        ImportError: the engine's library is not installed.
    """
    hub = Hub(url)
    room = Room(hub)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        # Inside of the hub, the drain ends the streams before it is left.
        async with hub, Drain(), room.lifespan():
            yield

    app = FastAPI(title="typed-sse demo", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.include_router(router)
    app.include_router(room.router())
    EventDocs(app)  # its files are the modules that the page at / is made of, too
    app.mount("/", StaticFiles(directory=Path(__file__).parent / "static", html=True))
    return app


app = make_app(engine_url())
