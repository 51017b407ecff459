"""An application over channels, for real servers with several workers.

Environment: `ENGINE`, the URL of an engine; `FOLDER`, where each worker notes how often it has read
its engine, in a file named by its process id,
and that it has started.
"""

import asyncio
import gc
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from typed_sse import BaseEvent, Drain, EventSourceResponse, merge
from typed_sse.channels import Channel, Hub, Retain, Subscription
from typed_sse.errors import (
    ChannelSealed,
    Conflict,
    EngineUnavailable,
    InvalidField,
    OutcomeUnknown,
    PayloadTooLarge,
    TypedSSEError,
)
from typed_sse.registry import process_registry


class Note(BaseModel):
    """What is published.

    Attributes:
        channel: where.
        number: how many were published there before.
        text: anything.
        at_s: when, by the clock that all processes of the machine share.
    """

    channel: str
    number: int
    text: str = ""
    at_s: float = 0.0


class Noted(BaseEvent[Note], event="noted"):
    """Something was published."""


class Wanted(BaseModel):
    """What a POST asks for: so many notes, numbered on from the first, in one append."""

    first: Note
    count: int = 1
    key: str | None = None
    expect: str | None = None
    retry_ms: int | None = None


STATUS: dict[type[TypedSSEError], int] = {
    InvalidField: 422,
    PayloadTooLarge: 413,
    ChannelSealed: 410,
    Conflict: 409,
    EngineUnavailable: 503,
    OutcomeUnknown: 504,
}
KEPT = Retain(events=20_000)
PID = str(os.getpid())
HEADERS = {"x-worker": PID}

hub = Hub(os.environ["ENGINE"])
drain = Drain()


def _count_reads() -> None:
    """Note every read of the engine in a file, for whoever looks from outside."""
    read, reads = hub.engine.read, 0
    file = os.open(Path(os.environ["FOLDER"], f"reads-{PID}"), os.O_WRONLY | os.O_CREAT, 0o600)

    async def counted(*args: Any, **options: Any) -> object:
        nonlocal reads
        reads += 1
        os.pwrite(file, str(reads).encode(), 0)
        return await read(*args, **options)

    # Not a method that mypy would let one assign.
    setattr(hub.engine, "read", counted)  # noqa: B010


def _say_ready() -> None:
    Path(os.environ["FOLDER"], f"ready-{PID}").touch()


_count_reads()


def channel(name: str, on_gap: str | None = None) -> Channel[Noted]:
    policy = cast("Literal['oldest', 'latest', 'close']", on_gap or "oldest")
    return Channel(name, Noted, hub=hub, retain=KEPT, on_gap=policy)


async def publish(request: Request) -> Response:
    wanted = Wanted.model_validate_json(await request.body())
    first = wanted.first
    notes = [
        first.model_copy(update={"number": first.number + place}) for place in range(wanted.count)
    ]
    try:
        cursor = await channel(first.channel).publish(
            *(Noted(note, retry=wanted.retry_ms) for note in notes),
            key=wanted.key,
            expect=wanted.expect,
        )
    except TypedSSEError as error:
        told: dict[str, object] = {"error": type(error).__name__, "message": str(error)}
        if isinstance(error, PayloadTooLarge):
            told["size"] = error.size
        return JSONResponse(told, STATUS[type(error)])
    return JSONResponse({"cursor": cursor})


def respond(request: Request, events: Any) -> Response:
    timeout_s = float(request.query_params.get("send_timeout", 30))
    return EventSourceResponse(events, headers=HEADERS, send_timeout=timeout_s)


def after_of(request: Request) -> str | None:
    return request.headers.get("last-event-id") or request.query_params.get("after")


def subscription(request: Request, name: str) -> Subscription[Noted]:
    return channel(name, request.query_params.get("on_gap")).subscribe(after=after_of(request))


async def one(request: Request) -> Response:
    return respond(request, subscription(request, request.path_params["name"]))


async def merged(request: Request) -> Response:
    names = request.query_params["names"].split(",")
    return respond(request, merge(*(subscription(request, name) for name in names)))


async def under(request: Request) -> Response:
    named = channel(request.path_params["prefix"] + "/{name}")
    return respond(request, named.subscribe_all(after=after_of(request)))


async def failing(request: Request) -> Response:
    """Wrap a subscription in a generator that fails, or leaves it unfinished."""
    how = request.path_params["how"]
    events = subscription(request, request.path_params["name"])

    async def some() -> AsyncGenerator[Noted]:
        number = 0
        async for event in events:
            number += 1
            yield Noted(event.data)
            if number == 3:
                break
        if how == "raising":
            raise RuntimeError("the user's own")

    return respond(request, some())


async def abandoned(request: Request) -> Response:
    """Read some events in the program, and forget the subscription without closing it."""
    events = subscription(request, request.path_params["name"])
    async for _ in events:
        break
    return JSONResponse({})


async def tail(request: Request) -> Response:
    return JSONResponse({"cursor": await channel(request.path_params["name"]).tail()})


async def drop(request: Request) -> Response:
    await channel(request.path_params["name"]).drop()
    return JSONResponse({})


async def seal(request: Request) -> Response:
    return JSONResponse({"cursor": await channel(request.path_params["name"]).seal()})


async def state(request: Request) -> Response:
    if request.query_params.get("collect"):
        gc.collect()
    health = await hub.health()
    return JSONResponse(
        {
            "pid": int(PID),
            "open": len(process_registry.open_streams()),
            "ended": process_registry.totals().ended,
            "tasks": len(asyncio.all_tasks()),
            "objects": len(gc.get_objects()) if request.query_params.get("collect") else 0,
            "readings": _alive("Reading"),
            "ready": health.ready,
            "max_body_bytes": hub.engine.caps.max_body_bytes,
        }
    )


def _alive(kind: str) -> int:
    return sum(type(each).__name__ == kind for each in gc.get_objects())


async def page(request: Request) -> Response:
    return HTMLResponse("<!doctype html><title>channels</title><link rel=icon href='data:,'>")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None]:
    async with hub, drain.lifespan(app):
        _say_ready()
        yield


def _route(path: str, endpoint: Callable[[Request], Awaitable[Response]], *methods: str) -> Route:
    return Route(path, endpoint, methods=methods or ("GET",))


app = Starlette(
    routes=[
        _route("/", page),
        _route("/publish", publish, "POST"),
        _route("/one/{name:path}", one),
        _route("/merged", merged),
        _route("/under/{prefix:path}", under),
        _route("/failing/{how}/{name:path}", failing),
        _route("/abandoned/{name:path}", abandoned),
        _route("/tail/{name:path}", tail),
        _route("/drop/{name:path}", drop, "POST"),
        _route("/seal/{name:path}", seal, "POST"),
        _route("/state", state),
    ],
    lifespan=lifespan,
)
