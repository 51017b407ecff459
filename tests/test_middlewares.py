"""Streams of a mounted application behind the middlewares of Starlette: not held back, not hung."""

import asyncio
import functools
import gzip
import json
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from typed_sse import BaseEvent, Drain, EndCause, EventSourceResponse, Registry
from typed_sse.fastapi import EventRouter
from typed_sse.testing import open_stream

ORIGIN = "https://page.example"
# What a browser sends from a page of another origin.
BROWSER = {"Origin": ORIGIN, "Accept-Encoding": "gzip, br"}


async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


async def read_and_pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    await request.body()
    return await call_next(request)


GZIP = Middleware(GZipMiddleware, minimum_size=0)
BASE = Middleware(BaseHTTPMiddleware, dispatch=pass_on)
READING_BASE = Middleware(BaseHTTPMiddleware, dispatch=read_and_pass_on)
CORS = Middleware(CORSMiddleware, allow_origins=[ORIGIN], allow_credentials=True)

# Around the whole application, and around the mounted one.
AROUND: dict[str, tuple[list[Middleware], list[Middleware]]] = {
    "none": ([], []),
    "gzip": ([GZIP], []),
    "base": ([BASE], []),
    "base that reads the body": ([READING_BASE], []),
    "base around base": ([BASE, BASE], []),
    "cors": ([CORS], []),
    "all": ([CORS, GZIP, BASE], []),
    "all, the other way round": ([BASE, GZIP, CORS], []),
    "all, around the mounted one": ([], [CORS, GZIP, BASE]),
    "all, around both": ([GZIP, BASE], [BASE, GZIP, CORS]),
}


class Count(BaseEvent[int]): ...


class Site:
    """An application at `/api` of another one.

    Attributes:
        made: how many events its streams have yielded.
        log: `closing` when the `finally` of a stream has begun, `closed` when that has completed.
        ended: the causes of the streams that have ended.
    """

    def __init__(self, name: str) -> None:
        self.made = 0
        self.log: list[str] = []
        self._registry = Registry()
        outside, inside = AROUND[name]
        self.has_cors = CORS in (*outside, *inside)
        self.bases = sum(middleware in (BASE, READING_BASE) for middleware in (*outside, *inside))
        router = EventRouter(
            respond=functools.partial(EventSourceResponse, registry=self._registry)
        )
        router.get("/counts")(self._counts)
        router.get("/few")(self._few)
        router.get("/missing")(self._missing)
        router.get("/failing")(self._failing)
        router.post("/sums")(self._sums)
        mounted = FastAPI(middleware=inside)
        mounted.include_router(router)
        self.app = Starlette(routes=[Mount("/api", app=mounted)], middleware=outside)

    @property
    def ended(self) -> list[EndCause]:
        return [
            cause for cause, count in self._registry.totals().ended.items() for _ in range(count)
        ]

    async def _counts(self, first_s: float = 0, every_s: float = 1) -> AsyncIterator[Count]:
        try:
            await asyncio.sleep(first_s)
            while True:
                self.made += 1
                yield Count(self.made)
                await asyncio.sleep(every_s)
        finally:
            self.log.append("closing")
            await asyncio.sleep(1)
            self.log.append("closed")

    async def _few(self) -> AsyncIterator[Count]:
        for count in (1, 2, 3):
            yield Count(count)

    async def _missing(self, after_s: float, there: bool = False) -> AsyncIterator[Count]:
        await asyncio.sleep(after_s)
        if not there:
            raise HTTPException(404, "There is no such count.")
        yield Count(0)

    async def _failing(self) -> AsyncIterator[Count]:
        yield Count(1)
        raise LookupError("secret")

    async def _sums(self, numbers: list[int]) -> AsyncIterator[Count]:
        for number in numbers:
            self.made += number
            yield Count(self.made)


@pytest.fixture(params=AROUND)
async def site(request: pytest.FixtureRequest) -> AsyncGenerator[Site]:
    before = len(asyncio.all_tasks())
    yield Site(request.param)
    assert len(asyncio.all_tasks()) == before, "a task is left"


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_each_event_arrives_when_it_is_yielded_and_by_itself(site: Site) -> None:
    stream = open_stream(site.app, "/api/counts", headers=BROWSER)
    for count in (1, 2, 3):
        await stream.events(count)
        assert now() == pytest.approx(count - 1)
        assert site.made == count
    assert "content-encoding" not in stream.headers
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.headers["x-accel-buffering"] == "no"
    frame = b"id: %d\nevent: count\ndata: %d\n\n"
    assert stream.chunks == [frame % (number, number + 1) for number in range(3)]
    stream.leave()
    await stream.ended()


async def test_the_headers_leave_though_there_is_no_event_yet(site: Site) -> None:
    stream = open_stream(site.app, "/api/counts?first_s=5", headers=BROWSER)
    await stream.started()
    assert now() == pytest.approx(0.5)
    assert stream.status == 200
    stream.leave()
    await stream.ended()


async def test_when_the_client_leaves_the_finally_completes_and_then_the_request_ends(
    site: Site,
) -> None:
    stream = open_stream(site.app, "/api/counts?every_s=1000", headers=BROWSER)
    await stream.events(1)
    await asyncio.sleep(5)
    stream.leave()
    await stream.ended()
    assert now() == pytest.approx(5 + 1)
    assert site.log == ["closing", "closed"]
    assert site.ended == [EndCause.CLIENT_LEFT]


async def test_when_the_client_leaves_during_a_send_the_finally_completes_too(site: Site) -> None:
    stream = open_stream(site.app, "/api/counts", headers=BROWSER)
    await stream.events(2)
    stream.pause()
    await asyncio.sleep(5)
    stream.leave()
    stream.resume()  # servers wake a send whose client has left
    await stream.ended()
    assert now() == pytest.approx(1 + 5 + 1)
    assert site.log == ["closing", "closed"]
    assert site.ended == [EndCause.CLIENT_LEFT]


async def test_a_stream_that_comes_to_its_end_is_complete_and_not_left(site: Site) -> None:
    stream = open_stream(site.app, "/api/few", headers=BROWSER)
    await stream.ended()
    assert await stream.events(3)
    assert stream.terminated
    assert site.ended == [EndCause.COMPLETE]


async def test_a_drain_ends_the_stream_with_a_retry_and_a_terminated_body(site: Site) -> None:
    async with Drain(signals=()) as drain:
        stream = open_stream(site.app, "/api/counts?every_s=1000", headers=BROWSER)
        await stream.events(1)
        drain.begin()
        await stream.ended()
    assert now() == pytest.approx(1)
    assert stream.retry_ms is not None
    assert stream.terminated
    assert site.log == ["closing", "closed"]
    assert site.ended == [EndCause.DRAINED]


@pytest.mark.parametrize("after_s", [0, 0.4])
async def test_an_error_before_the_first_event_has_its_status_and_the_headers_of_cors(
    after_s: float, site: Site
) -> None:
    stream = open_stream(site.app, f"/api/missing?after_s={after_s}", headers=BROWSER)
    await stream.ended()
    assert stream.status == 404
    assert stream.headers["content-type"] == "application/json"
    packed = stream.headers.get("content-encoding") == "gzip"
    body = gzip.decompress(stream.body) if packed else stream.body
    assert json.loads(body) == {"detail": "There is no such count."}
    origin = stream.headers.get("access-control-allow-origin")
    assert origin == (ORIGIN if site.has_cors else None)


async def test_an_error_after_an_event_is_told_in_the_stream_and_reaches_the_server(
    site: Site,
) -> None:
    stream = open_stream(site.app, "/api/failing", headers=BROWSER)
    events = await stream.events(2)
    assert [event.event for event in events] == ["count", "stream.error"]
    with pytest.raises(LookupError, match="secret"):
        await stream.ended()
    assert stream.terminated
    assert b"secret" not in stream.body
    assert site.ended == [EndCause.FAILED]


async def test_keepalives_pass(site: Site) -> None:
    stream = open_stream(site.app, "/api/counts?every_s=40", headers=BROWSER)
    await stream.events(1)
    for pings in (1, 2):
        await asyncio.sleep(15.1)
        assert stream.body.count(b": ping\n") == pings
    stream.leave()
    await stream.ended()


async def test_the_headers_of_cors_are_there_where_a_browser_needs_them(site: Site) -> None:
    stream = open_stream(site.app, "/api/counts", headers=BROWSER)
    await stream.started()
    names = ("access-control-allow-origin", "access-control-allow-credentials", "vary")
    given = {name: value for name, value in stream.headers.items() if name in names}
    assert given == (
        dict(zip(names, (ORIGIN, "true", "Origin"), strict=True)) if site.has_cors else {}
    )
    stream.leave()
    await stream.ended()


async def test_head_is_answered_at_once(site: Site) -> None:
    stream = open_stream(site.app, "/api/counts", headers=BROWSER, method="HEAD")
    await stream.ended()
    assert now() == 0
    assert stream.status == 200
    assert stream.terminated
    assert site.made == 0


async def test_the_body_of_a_request_reaches_the_stream(site: Site) -> None:
    stream = open_stream(site.app, "/api/sums", headers=BROWSER, method="POST", json=[1, 2, 3])
    assert [event.data for event in await stream.events(3)] == ["1", "3", "6"]
    await stream.ended()
    assert stream.terminated


class Connection:
    """As much of a server's connection as is looked for: a transport that `receive` leads to."""

    def __init__(self, app: ASGIApp) -> None:
        self.transport = self
        self.lost: Callable[[], None]
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        await self._app(scope, self.receive, send)

    async def receive(self) -> Message:
        return await self._receive()

    def abort(self) -> None:
        self.lost()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return 0


async def test_a_reader_that_takes_nothing_is_let_go_and_the_request_ends(
    site: Site,
) -> None:
    connection = Connection(site.app)
    stream = open_stream(connection, "/api/counts", headers=BROWSER)

    def lost() -> None:
        stream.leave()
        stream.resume()

    connection.lost = lost
    await stream.events(2)
    stream.pause()
    async with asyncio.timeout(100):
        await stream.ended()
    # One second after the second event the third one is yielded, and waits for 30 s. A
    # BaseHTTPMiddleware takes one more.
    assert now() == pytest.approx(1 + 1 + site.bases + 30 + 1, abs=0.1)
    assert site.log == ["closing", "closed"]
    assert site.ended == [EndCause.SEND_TIMEOUT]


async def test_a_gzip_that_compresses_streams_passes_each_event_on_when_it_is_yielded() -> None:
    site = Site("none")
    app = GZipMiddleware(site.app, minimum_size=0, exclude_content_types=())
    stream = open_stream(app, "/api/counts?first_s=5", headers=BROWSER)
    await stream.started()
    assert now() == pytest.approx(0.5)
    assert stream.headers["content-encoding"] == "gzip"
    await asyncio.sleep(5 + 2)
    unzip = zlib.decompressobj(wbits=31)
    frame = b"id: %d\nevent: count\ndata: %d\n\n"
    # The first piece is the head of the format alone.
    expected = [b"", *(frame % (number, number + 1) for number in range(3))]
    assert [unzip.decompress(chunk) for chunk in stream.chunks] == expected
    stream.leave()
    await stream.ended()
    assert site.log == ["closing", "closed"]
