"""Programs for sse-starlette, run on it and on typed-sse: a reader must get the same."""

import asyncio
import types
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
import sse_starlette
from sse_starlette.sse import SendTimeoutError
from starlette.background import BackgroundTask

import typed_sse
from typed_sse.testing import open_stream
from typed_sse.wire import Decoder, ServerSentEvent

Program = Callable[[Any], Any]
"""Makes a response with the library it is given."""


def dicts(library: Any) -> Any:
    async def events() -> AsyncIterator[dict[str, object]]:
        for number in range(3):
            yield {"event": "number", "id": str(number), "data": str(number), "retry": 1000}
            await asyncio.sleep(1)

    return library.EventSourceResponse(events())


def records(library: Any) -> Any:
    async def events() -> AsyncIterator[Any]:
        yield library.ServerSentEvent("two\nlines", event="text", id="a", comment="why")
        yield library.ServerSentEvent(event="nothing")
        yield library.ServerSentEvent("", event="empty")

    return library.EventSourceResponse(events(), status_code=202, headers={"X-Own": "yes"})


def strings(library: Any) -> Any:
    async def events() -> AsyncIterator[str]:
        yield "one"
        yield "two\r\nlines"

    return library.EventSourceResponse(events())


def quiet(library: Any) -> Any:
    async def events() -> AsyncIterator[str]:
        yield "one"
        await asyncio.sleep(11)
        yield "two"

    def ping() -> Any:
        return library.ServerSentEvent("", event="beat")

    return library.EventSourceResponse(events(), ping=5, ping_message_factory=ping)


def unpinged(library: Any) -> Any:
    async def events() -> AsyncIterator[str]:
        await asyncio.sleep(100)
        yield "one"

    return library.EventSourceResponse(events(), ping=0)


def pushed(library: Any) -> Any:
    writer, reader = anyio.create_memory_object_stream[Any](1)

    async def push() -> None:
        async with writer:
            for number in range(3):
                await writer.send({"data": str(number)})
                await asyncio.sleep(1)

    async def events() -> AsyncIterator[Any]:
        async with reader:
            async for item in reader:
                yield item

    return library.EventSourceResponse(events(), data_sender_callable=push)


def body_read(body: bytes) -> list[ServerSentEvent]:
    return Decoder().feed(body)


@pytest.mark.parametrize("program", [dicts, records, strings, quiet, unpinged, pushed])
async def test_a_program_streams_the_same_events_on_both_libraries(program: Program) -> None:
    seen: list[object] = []
    for library in (sse_starlette, typed_sse):
        client = open_stream(program(library))
        await client.ended()
        assert client.terminated
        seen.append((client.start["status"], client.headers.get("x-own"), body_read(client.body)))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("library", [sse_starlette, typed_sse])
async def test_the_close_handler_and_the_background_task_run_on_both_libraries(
    library: types.ModuleType,
) -> None:
    log: list[str] = []

    async def closed(message: Any) -> None:
        log.append(message["type"])

    async def events() -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
                await asyncio.sleep(1)
        finally:
            log.append("finally")

    response = library.EventSourceResponse(
        events(),
        client_close_handler_callable=closed,
        background=BackgroundTask(log.append, "background"),
    )
    client = open_stream(response)
    await client.events(2)
    client.leave()
    await client.ended()
    assert sorted(log) == ["background", "finally", "http.disconnect"]
    assert log[-1] == "background"


@pytest.mark.parametrize(
    ("library", "error"),
    [
        (sse_starlette, SendTimeoutError),
        (typed_sse, typed_sse.SendTimeout),
    ],
)
async def test_a_reader_that_stalls_is_let_go_on_both_libraries(
    library: types.ModuleType, error: type[Exception]
) -> None:
    async def events() -> AsyncIterator[str]:
        while True:
            yield "x"
            await asyncio.sleep(1)

    client = open_stream(library.EventSourceResponse(events(), send_timeout=5))
    await client.events(1)
    client.pause()
    with pytest.raises(error):
        await client.ended()


def test_the_tutorials_int_id_works_here() -> None:
    assert typed_sse.ServerSentEvent("x", id=0).encode() == b"id: 0\ndata: x\n\n"
    with pytest.raises(TypeError):
        sse_starlette.ServerSentEvent("x", id=0).encode()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
