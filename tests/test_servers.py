import asyncio
import socket
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from closing import failing_finally
from typed_sse import Drain, EventSourceResponse, SendTimeout
from typed_sse.connection import Message
from typed_sse.servers import let_go_after, route_of, transport_of, when_it_shuts_down
from typed_sse.testing import open_stream

TCP_USER_TIMEOUT = 18  # on Linux, the only system that has it


class Transport:
    """What a server has under a request.

    Attributes:
        log: what was done to it.
    """

    def __init__(self, *, closed: Exception | None = None) -> None:
        self.log: list[object] = []
        self.buffered = 0
        self._closed = closed

    def abort(self) -> None:
        self.log.append("aborted")

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self if name == "socket" else default

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def setsockopt(self, level: int, option: int, value: int) -> None:
        assert (level, option) == (socket.IPPROTO_TCP, TCP_USER_TIMEOUT)
        if self._closed is not None:
            raise self._closed
        self.log.append(value)


class Cycle:
    """A request as uvicorn has it: `receive` is a method of what has the transport."""

    def __init__(self, transport: object, receive: Callable[[], Awaitable[Message]]) -> None:
        self.transport = transport
        self._receive = receive

    async def receive(self) -> Message:
        return await self._receive()


class Request:
    """A request as Starlette's: it passes `receive` on by a method of its own."""

    def __init__(self, receive: object) -> None:
        self.receive = receive

    async def wrapped(self) -> Message:
        raise NotImplementedError


async def nothing() -> Message:
    raise NotImplementedError


async def test_a_transport_is_found_through_the_wrappers_of_middlewares() -> None:
    cycle = Cycle(transport := Transport(), nothing)
    wrapped_receive = Request(cycle.receive).wrapped

    async def receive_or_disconnect() -> Message:
        return await wrapped_receive()

    assert transport_of(cycle.receive) is transport
    assert transport_of(wrapped_receive) is transport
    assert transport_of(receive_or_disconnect) is transport
    assert transport_of(Request(receive_or_disconnect).wrapped) is transport


async def test_where_there_is_no_transport_none_is_found() -> None:
    circle = Request(None)
    circle.receive = circle.wrapped
    for receive in (
        nothing,
        asyncio.Queue[Message]().get,
        Cycle(None, nothing).receive,
        Cycle("a transport of another kind", nothing).receive,
        circle.wrapped,
    ):
        assert transport_of(receive) is None


@pytest.mark.parametrize("closed", [OSError("closed"), ValueError("negative file descriptor")])
def test_a_connection_that_is_closed_already_needs_no_limit(closed: Exception) -> None:
    let_go_after(Transport(closed=closed), 30)


def test_a_transport_without_a_socket_needs_no_limit_either() -> None:
    class Bare(Transport):
        def get_extra_info(self, name: str, default: object = None) -> object:
            return default

    let_go_after(Bare(), 30)


def test_the_limit_is_in_milliseconds_and_has_an_end() -> None:
    transport = Transport()
    let_go_after(transport, 0.5)
    let_go_after(transport, 1e9)
    assert transport.log == [500, 2**31 - 1]


def on(transport: Transport, response: EventSourceResponse, **scope: object) -> Any:
    async def app(given: Any, receive: Any, send: Any) -> None:
        given.update(scope)
        await response(given, Cycle(transport, receive).receive, send)

    return app


async def ticks(count: int) -> AsyncIterator[str]:
    for _ in range(count):
        yield "x"
        await asyncio.sleep(1)


async def test_a_stream_limits_the_silence_of_its_reader_and_gives_the_connection_back() -> None:
    transport = Transport()
    await open_stream(on(transport, EventSourceResponse(ticks(3), send_timeout=7))).ended()
    assert transport.log == [8000, 60_000]


async def test_what_is_buffered_at_the_end_has_no_less_time_than_a_send() -> None:
    transport = Transport()
    await open_stream(on(transport, EventSourceResponse(ticks(3), send_timeout=90))).ended()
    assert transport.log == [91_000, 90_000]


async def test_the_connection_of_a_reader_that_takes_nothing_is_aborted_and_no_error_raised() -> (
    None
):
    transport = Transport()
    stream = open_stream(on(transport, EventSourceResponse(ticks(9), send_timeout=7)))
    await stream.events(1)
    stream.pause()
    await asyncio.sleep(8.5)
    assert transport.log == [8000, "aborted"]
    assert not stream.task.done()  # the server does not know of it yet
    stream.leave()
    await stream.ended()
    assert not stream.terminated


async def test_an_error_of_the_source_is_raised_although_the_reader_was_let_go() -> None:
    transport = Transport()
    stream = open_stream(on(transport, EventSourceResponse(failing_finally(), send_timeout=7)))
    await stream.events(1)
    stream.pause()
    with pytest.raises(SendTimeout) as raised:
        await stream.ended()
    assert isinstance(raised.value.__cause__, LookupError)
    assert "aborted" in transport.log


async def test_a_server_that_never_tells_of_the_disconnect_is_not_waited_for() -> None:
    transport = Transport()
    stream = open_stream(on(transport, EventSourceResponse(ticks(9), send_timeout=7)))
    await stream.events(1)
    stream.pause()
    await stream.ended()
    assert transport.log == [8000, "aborted"]


@pytest.mark.parametrize(
    ("buffered", "taken", "log"),
    [
        (5000, 0, [60_000, "aborted"]),
        (5000, 1, [60_000]),
        (0, 0, [60_000]),
    ],
)
async def test_a_drain_does_not_wait_for_a_reader_that_leaves_the_last_bytes(
    buffered: int, taken: int, log: list[object]
) -> None:
    transport = Transport()
    async with Drain(signals=()) as drain:
        stream = open_stream(on(transport, EventSourceResponse(ticks(99))))
        await stream.events(1)
        transport.buffered = buffered
        drain.begin()
        await stream.ended()
        transport.buffered -= taken
        await asyncio.sleep(5)
    assert transport.log == log


async def test_the_connection_of_a_reader_that_leaves_at_once_is_left_alone() -> None:
    transport = Transport()
    stream = open_stream(on(transport, EventSourceResponse(ticks(9))))
    await stream.events(1)
    stream.leave()
    await stream.ended()
    assert transport.log == []


async def test_without_a_send_timeout_the_connection_is_left_alone() -> None:
    transport = Transport()
    await open_stream(on(transport, EventSourceResponse(ticks(3), send_timeout=None))).ended()
    assert transport.log == []


async def test_a_connection_that_streams_share_is_left_alone() -> None:
    transport = Transport()
    await open_stream(on(transport, EventSourceResponse(ticks(3)), http_version="2")).ended()
    assert transport.log == []


class Route:
    def __init__(self, path: object) -> None:
        self.path = path


@pytest.mark.parametrize(
    ("scope", "route"),
    [
        ({}, ""),
        ({"route": Route("/orders/{id}")}, "/orders/{id}"),
        ({"route": Route(None)}, ""),
        (
            {
                "route": Route("/{id}"),
                "fastapi": {"effective_route_context": Route("/v1/orders/{id}")},
            },
            "/v1/orders/{id}",
        ),
        ({"route": Route("/{id}"), "fastapi": {}}, "/{id}"),
    ],
)
def test_a_route_is_known_by_its_whole_template(scope: dict[str, Any], route: str) -> None:
    assert route_of(scope) == route


async def test_without_hypercorn_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "hypercorn", raising=False)
    assert when_it_shuts_down(lambda: None) is False


async def test_with_hypercorn_the_end_of_its_waiting_task_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "hypercorn", types.ModuleType("hypercorn"))
    assert when_it_shuts_down(lambda: None) is False

    async def raise_shutdown() -> None:
        await asyncio.sleep(5)

    raise_shutdown.__qualname__ = "raise_shutdown"
    waiting = asyncio.create_task(raise_shutdown())
    heard: list[float] = []
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0)
    assert when_it_shuts_down(lambda: heard.append(loop.time())) is True
    await asyncio.sleep(10)
    assert len(heard) == 1
    await waiting
