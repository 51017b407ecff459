import asyncio
import logging
import math
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import aiostream
import anyio
import pytest
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.types import Message

from closing import Closing, failing_finally, farewell, stubborn
from typed_sse.control import ErrorInfo, StreamEnd, StreamError
from typed_sse.drain import Drain
from typed_sse.errors import (
    InvalidField,
    InvalidPayload,
    SendTimeout,
    UndeclaredEvent,
    UsageError,
)
from typed_sse.events import BaseEvent, EventUnion
from typed_sse.limits import StreamLimit
from typed_sse.registry import EndCause, Registry, StreamRecord
from typed_sse.response import EventSourceResponse
from typed_sse.sources import Sendable
from typed_sse.streams import event_source, merge
from typed_sse.testing import OpenStream, open_stream
from typed_sse.wire import ServerSentEvent

FAILED = (
    b"event: stream.error\n"
    b'data: {"code":"internal","message":"The stream failed on the server."}\n\n'
)


class Tick(BaseEvent[int]): ...


class Tock(BaseEvent[int]): ...


@event_source
async def ticks(count: int, *, every_s: float = 1) -> AsyncIterator[Tick]:
    for number in range(count):
        yield Tick(number)
        await asyncio.sleep(every_s)


@event_source
async def tocks(count: int) -> AsyncIterator[Tock]:
    for number in range(count):
        yield Tock(number)
        await asyncio.sleep(1)


async def silence(seconds: float) -> AsyncIterator[str]:
    await asyncio.sleep(seconds)
    yield "at last"


# --- what is sent


async def test_the_response_has_the_headers_that_keep_a_stream_alive_behind_proxies() -> None:
    client = open_stream(EventSourceResponse(ticks(1)))
    await client.ended()
    assert client.start["status"] == 200
    assert client.headers == {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
        "stream-idle-limit": "45",
    }


async def test_the_callers_headers_and_status_win_over_the_defaults() -> None:
    response = EventSourceResponse(
        ticks(1), status_code=201, headers={"Cache-Control": "max-age=1", "X-Own": "yes"}
    )
    client = open_stream(response)
    await client.ended()
    assert client.start["status"] == 201
    assert [value for name, value in client.start["headers"] if name == b"cache-control"] == [
        b"max-age=1"
    ]
    assert client.headers["x-own"] == "yes"


@pytest.mark.parametrize(("start_within", "after_s"), [(0.5, 0.5), (0, 0), (3, 3), (None, 5)])
async def test_the_headers_leave_with_the_first_event_or_when_they_have_waited_long_enough(
    start_within: float | None, after_s: float
) -> None:
    client = open_stream(EventSourceResponse(silence(5), start_within=start_within))
    await client.started()
    assert asyncio.get_running_loop().time() == pytest.approx(after_s, abs=1e-6)
    await client.ended()
    assert client.body == b"data: at last\n\n"


async def test_while_the_first_event_may_take_any_time_no_keepalive_starts_the_response() -> None:
    client = open_stream(EventSourceResponse(silence(40), start_within=None))
    await client.started()
    assert asyncio.get_running_loop().time() == 40
    await client.ended()
    assert client.body == b"data: at last\n\n"


async def test_headers_that_leave_alone_have_an_empty_piece_of_body_with_them() -> None:
    # hypercorn keeps the headers until there is one.
    client = open_stream(EventSourceResponse(silence(5)))
    await client.started()
    await asyncio.sleep(1)
    assert [message["type"] for message in client.sent] == [
        "http.response.start",
        "http.response.body",
    ]
    client.leave()
    await client.ended()


async def test_typed_events_arrive_with_running_ids_and_a_terminated_body() -> None:
    client = open_stream(EventSourceResponse(ticks(2)))
    await client.ended()
    assert client.body == b"id: 0\nevent: tick\ndata: 0\n\nid: 1\nevent: tick\ndata: 1\n\n"
    assert client.terminated


async def test_a_merge_streams_both_of_its_sources() -> None:
    client = open_stream(EventSourceResponse(merge(ticks(2), tocks(2))))
    names = [event.event for event in await client.events(4)]
    assert names == ["tick", "tock", "tick", "tock"]
    await client.ended()


async def test_everything_sendable_can_be_mixed_in_one_stream() -> None:
    async def mixed() -> AsyncIterator[Sendable]:
        yield Tick(1)
        yield ServerSentEvent({"a": 1}, event="raw")
        yield {"data": "x", "id": 9}
        yield "text"

    client = open_stream(EventSourceResponse(mixed()))
    await client.ended()
    assert client.body == (
        b'event: tick\ndata: 1\n\nevent: raw\ndata: {"a":1}\n\nid: 9\ndata: x\n\ndata: text\n\n'
    )


async def test_events_that_are_ready_at_once_leave_in_one_piece_and_a_lone_one_at_once() -> None:
    async def bursts() -> AsyncIterator[str]:
        for size in (1, 3, 100):
            for number in range(size):
                yield f"{size}.{number}"
            await asyncio.sleep(10)

    client = open_stream(EventSourceResponse(bursts()))
    await client.events(1)
    assert client.chunks == [b"data: 1.0\n\n"]
    await client.ended()
    assert [chunk.count(b"data:") for chunk in client.chunks] == [1, 3, 64, 36]


async def test_a_piece_is_not_much_longer_than_32_kib() -> None:
    async def big() -> AsyncIterator[str]:
        for _ in range(10):
            yield "x" * 10_000

    client = open_stream(EventSourceResponse(big()))
    await client.ended()
    assert [chunk.count(b"data:") for chunk in client.chunks] == [4, 4, 2]


async def test_a_timeout_of_the_sources_own_is_the_sources_while_a_send_waits() -> None:
    async def impatient() -> AsyncIterator[str]:
        for number in range(4):
            yield f"before {number}"
            with suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await asyncio.sleep(1000)
        yield "after"

    client = open_stream(EventSourceResponse(impatient(), ping=0))
    await client.events(2)
    client.pause()
    await asyncio.sleep(10)
    client.resume()
    await client.ended()
    assert [event.data for event in await client.events(5)] == [
        "before 0",
        "before 1",
        "before 2",
        "before 3",
        "after",
    ]
    assert client.terminated


async def test_a_sync_generator_and_an_aiostream_stream_are_streamed() -> None:
    def blocking() -> Iterator[str]:
        yield "a"
        yield "b"

    for content in (blocking(), aiostream.stream.iterate(["a", "b"])):
        client = open_stream(EventSourceResponse(content, ping=0, send_timeout=None))
        await client.ended()
        assert client.body == b"data: a\n\ndata: b\n\n"


async def test_head_is_answered_with_the_headers_alone_and_the_source_is_not_read() -> None:
    source = Closing()
    texts = source.texts()
    log: list[str] = []
    background = BackgroundTask(log.append, "background")
    client = open_stream(EventSourceResponse(texts, background=background), method="HEAD")
    await client.ended()
    assert log == ["background"]
    assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (client.body, client.terminated) == (b"", True)
    assert source.made == 0
    with pytest.raises(StopAsyncIteration):
        await anext(texts)


async def test_a_websocket_handshake_is_denied_with_the_stream() -> None:
    client = open_stream(EventSourceResponse(ticks(1), status_code=403), type="websocket")
    await client.ended()
    assert [message["type"] for message in client.sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
        "websocket.http.response.body",
    ]
    assert client.sent[0]["status"] == 403


async def test_the_background_task_runs_after_the_stream_also_when_the_client_has_left() -> None:
    log: list[str] = []
    for leaves in (False, True):
        background = BackgroundTask(log.append, f"left={leaves}")
        client = open_stream(EventSourceResponse(ticks(3), background=background))
        await client.events(1)
        assert len(log) == leaves
        if leaves:
            client.leave()
        await client.ended()
    assert log == ["left=False", "left=True"]


# --- keep-alive


async def test_a_ping_is_sent_after_15_s_of_silence_and_every_15_s_from_then_on() -> None:
    client = open_stream(EventSourceResponse(silence(50)))
    await asyncio.sleep(14)
    assert client.chunks == []
    await asyncio.sleep(2)
    assert client.chunks == [b": ping\n"]
    await client.ended()
    assert client.chunks == [b": ping\n"] * 3 + [b"data: at last\n\n"]


async def test_no_ping_is_sent_while_events_flow() -> None:
    client = open_stream(EventSourceResponse(ticks(20, every_s=10)))
    await client.ended()
    assert b"ping" not in client.body


@pytest.mark.parametrize(("ping", "count"), [(5, 9), (0, 0), (0.5, 98), (100, 0)])
async def test_the_interval_of_the_ping_is_the_callers_choice(ping: float, count: int) -> None:
    client = open_stream(EventSourceResponse(silence(49.9), ping=ping))
    await client.ended()
    assert client.body.count(b"ping") == count


async def test_the_ping_can_be_any_message() -> None:
    response = EventSourceResponse(
        silence(8), ping=5, ping_message_factory=lambda: ServerSentEvent(event="beat", data="")
    )
    client = open_stream(response)
    await client.ended()
    assert client.chunks[0] == b"event: beat\ndata: \n\n"


async def test_none_for_the_ping_message_is_the_default() -> None:
    client = open_stream(EventSourceResponse(silence(20), ping_message_factory=None))
    await client.ended()
    assert client.chunks[0] == b": ping\n"


async def test_a_subclass_may_have_another_default_interval() -> None:
    class Patient(EventSourceResponse):
        DEFAULT_PING_INTERVAL = 30.0

    client = open_stream(Patient(silence(50)))
    await client.ended()
    assert client.body.count(b"ping") == 1


async def test_a_ping_message_that_cannot_be_made_ends_the_stream_with_its_error() -> None:
    def broken() -> ServerSentEvent:
        raise LookupError("no ping")

    source = Closing(every_s=100)
    client = open_stream(EventSourceResponse(source.texts(), ping_message_factory=broken))
    with pytest.raises(LookupError, match="no ping"):
        await client.ended()
    assert source.log == ["closing", "closed"]
    assert client.body == b"data: 0\n\n" + FAILED
    assert client.terminated


async def test_the_first_of_two_failures_is_the_one_that_is_raised() -> None:
    def broken() -> ServerSentEvent:
        raise LookupError("no ping")

    async def sender() -> None:
        await asyncio.sleep(1)
        raise LookupError("no data")

    source = Closing(every_s=1000, cleanup_s=25)
    response = EventSourceResponse(
        source.texts(), ping_message_factory=broken, data_sender_callable=sender
    )
    with pytest.raises(LookupError, match="no data"):
        await open_stream(response).ended()
    assert source.log[0] == "closing"


async def test_nothing_is_sent_after_the_end() -> None:
    client = open_stream(EventSourceResponse(ticks(1)))
    await client.ended()
    sent = len(client.sent)
    await asyncio.sleep(100)
    assert len(client.sent) == sent


async def test_sends_never_overlap_also_where_the_client_reads_slowly() -> None:
    client = open_stream(EventSourceResponse(ticks(10, every_s=3), ping=2, send_timeout=None))
    for _ in range(10):
        client.pause()
        await asyncio.sleep(2.5)
        client.resume()
        await asyncio.sleep(0.5)
    await client.ended()
    assert client.sends_at_once == 1


# --- the client leaves


async def test_when_the_client_leaves_the_finally_completes_in_the_task_that_read() -> None:
    source = Closing(every_s=1, cleanup_s=5)
    client = open_stream(EventSourceResponse(source.texts()))
    await client.events(3)
    client.leave()
    await client.ended()
    assert source.log == ["closing", "closed"]
    assert len(source.tasks) == 1


async def test_when_the_client_leaves_during_a_send_the_finally_completes_too() -> None:
    source = Closing(every_s=1, cleanup_s=5)
    client = open_stream(EventSourceResponse(source.texts()))
    await client.events(1)
    client.pause()
    await asyncio.sleep(2)
    client.leave()
    await client.ended()
    assert source.log == ["closing", "closed"]


async def test_a_server_that_refuses_a_send_because_the_client_left_ends_the_stream_quietly() -> (
    None
):
    source = Closing(every_s=1)
    client = open_stream(EventSourceResponse(source.texts()))
    await client.events(1)
    client.refuse(OSError("gone"))
    await client.ended()
    assert source.log == ["closing", "closed"]


async def test_a_server_that_refuses_a_ping_because_the_client_left_ends_the_stream_too() -> None:
    source = Closing(every_s=1000)
    client = open_stream(EventSourceResponse(source.texts()))
    await client.events(1)
    client.refuse(OSError("gone"))
    await client.ended()
    assert asyncio.get_running_loop().time() < 100
    assert source.log == ["closing", "closed"]


async def test_a_server_that_refuses_the_very_start_leaves_the_source_closed() -> None:
    source = Closing()
    texts = source.texts()
    await anext(texts)
    client = open_stream(EventSourceResponse(texts))
    client.refuse(OSError("gone"))
    await client.ended()
    assert client.sent == []
    assert source.log == ["closing", "closed"]


async def test_an_oserror_of_the_source_is_not_taken_for_a_client_that_left() -> None:
    async def failing() -> AsyncIterator[str]:
        yield "a"
        raise ConnectionResetError("the database")

    with pytest.raises(ConnectionResetError, match="the database"):
        await open_stream(EventSourceResponse(failing())).ended()


async def test_the_close_handler_is_called_when_a_send_finds_the_client_gone() -> None:
    messages: list[Message] = []

    async def left(message: Message) -> None:
        messages.append(message)

    client = open_stream(EventSourceResponse(ticks(9), client_close_handler_callable=left))
    await client.events(1)
    client.refuse(OSError("gone"))
    await client.ended()
    assert messages == [{"type": "http.disconnect"}]


async def test_a_source_that_yields_in_answer_to_its_cancellation_is_closed_and_not_sent() -> None:
    for source in (farewell, stubborn):
        client = open_stream(EventSourceResponse(source()))
        await client.events(3)
        client.leave()
        before = asyncio.get_running_loop().time()
        await client.ended()
        assert asyncio.get_running_loop().time() - before < 1
        assert client.body == b"data: more\n\n" * 3


async def test_a_source_that_is_cancelled_from_within_is_no_clean_end() -> None:
    async def cancelled() -> AsyncIterator[str]:
        yield "a"
        raise asyncio.CancelledError

    client = open_stream(EventSourceResponse(cancelled()))
    with pytest.raises(asyncio.CancelledError):
        await client.ended()
    assert not client.terminated


async def test_a_source_that_ends_because_a_helper_failed_is_no_clean_end() -> None:
    async def giving_up() -> AsyncIterator[str]:
        yield "a"
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)

    async def sender() -> None:
        await asyncio.sleep(1)
        raise LookupError("no data")

    client = open_stream(EventSourceResponse(giving_up(), data_sender_callable=sender))
    with pytest.raises(LookupError, match="no data"):
        await client.ended()
    assert client.body == b"data: a\n\n" + FAILED


async def test_a_timeout_of_the_servers_send_is_not_taken_for_a_client_that_left() -> None:
    client = open_stream(EventSourceResponse(ticks(9)))
    client.refuse(TimeoutError("the server's own"))
    with pytest.raises(TimeoutError, match="the server's own"):
        await client.ended()


async def test_a_sync_generator_may_use_its_object_again() -> None:
    def reusing() -> Iterator[dict[str, object]]:
        fields: dict[str, object] = {}
        for number in range(50):
            fields["data"] = number
            yield fields

    client = open_stream(EventSourceResponse(reusing(), ping=0, send_timeout=None))
    await client.ended()
    assert [event.data for event in await client.events(50)] == [str(n) for n in range(50)]


async def test_a_sync_generator_that_yields_what_nobody_declared_is_an_error_and_is_closed() -> (
    None
):
    closed: list[bool] = []

    def lying() -> Iterator[Any]:
        try:
            yield "a"
            yield 7
        finally:
            closed.append(True)

    client = open_stream(EventSourceResponse(lying(), ping=0, send_timeout=None))
    with pytest.raises(UndeclaredEvent, match="int"):
        await client.ended()
    assert client.body == b"data: a\n\n" + FAILED
    assert closed == [True]


async def test_the_close_handler_is_called_when_the_client_leaves_and_only_then() -> None:
    messages: list[Message] = []

    async def left(message: Message) -> None:
        messages.append(message)

    for leaves in (False, True):
        client = open_stream(EventSourceResponse(ticks(3), client_close_handler_callable=left))
        await client.events(1)
        if leaves:
            client.leave()
        await client.ended()
        assert messages == [{"type": "http.disconnect"}] * leaves


async def test_what_a_finally_raises_after_the_client_left_reaches_the_server() -> None:
    client = open_stream(EventSourceResponse(failing_finally()))
    await client.events(1)
    client.leave()
    with pytest.raises(LookupError, match="in the finally"):
        await client.ended()


async def test_a_client_that_leaves_at_the_last_event_is_no_error() -> None:
    for after_s in (0.9, 1, 1.1):
        client = open_stream(EventSourceResponse(ticks(1)))
        await asyncio.sleep(after_s)
        client.leave()
        await client.ended()


async def test_a_client_that_left_before_the_stream_began_leaves_the_source_closed() -> None:
    source = Closing()
    texts = source.texts()
    await anext(texts)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None: ...

    await EventSourceResponse(texts)({"type": "http", "method": "GET"}, receive, send)
    assert source.log == ["closing", "closed"]


async def test_a_finally_that_fails_after_a_send_timeout_is_told_as_its_cause() -> None:
    client = open_stream(EventSourceResponse(failing_finally(), send_timeout=5))
    await client.events(1)
    client.pause()
    with pytest.raises(SendTimeout) as raised:
        await client.ended()
    assert isinstance(raised.value.__cause__, LookupError)


async def test_a_request_that_is_cancelled_closes_the_source_first() -> None:
    source = Closing(every_s=1, cleanup_s=5)
    client = open_stream(EventSourceResponse(source.texts()))
    await client.events(1)
    client.task.cancel()
    await asyncio.sleep(2)
    client.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client.ended()
    assert source.log == ["closing", "closed"]


async def test_a_cancelled_scope_of_a_middleware_does_not_cut_the_finally_short() -> None:
    source = Closing(every_s=1, cleanup_s=5)
    scope = anyio.CancelScope()

    async def in_scope(*args: Any) -> None:
        with scope:
            await EventSourceResponse(source.texts())(*args)

    client = open_stream(in_scope)
    await client.events(1)
    scope.cancel()
    await client.ended()
    assert source.log == ["closing", "closed"]


async def test_cleanup_that_takes_too_long_is_logged_and_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = Closing(every_s=1, cleanup_s=1000)
    client = open_stream(EventSourceResponse(source.texts(), cleanup_timeout=3))
    await client.events(1)
    client.leave()
    loop = asyncio.get_running_loop()
    before = loop.time()
    with caplog.at_level(logging.WARNING, logger="typed_sse"):
        await client.ended()
    assert 3 <= loop.time() - before < 4
    assert source.log == ["closing"]
    assert "did not close in 3 s" in caplog.text


async def test_cleanup_that_refuses_to_end_is_left_behind() -> None:
    go_on = asyncio.Event()

    async def stubborn() -> AsyncIterator[str]:
        try:
            yield "a"
            await asyncio.sleep(1000)
        finally:
            while not go_on.is_set():
                try:
                    await go_on.wait()
                except asyncio.CancelledError:
                    continue

    client = open_stream(EventSourceResponse(stubborn(), cleanup_timeout=3))
    await client.events(1)
    client.leave()
    await asyncio.wait_for(client.ended(), 5)
    go_on.set()


async def test_without_a_cleanup_limit_the_finally_has_all_the_time_it_takes() -> None:
    source = Closing(every_s=1, cleanup_s=1000)
    client = open_stream(EventSourceResponse(source.texts(), cleanup_timeout=None))
    await client.events(1)
    client.leave()
    await client.ended()
    assert source.log == ["closing", "closed"]


# --- the source fails


async def test_what_was_yielded_before_an_error_is_sent_and_then_the_error_without_its_text() -> (
    None
):
    async def failing() -> AsyncIterator[str]:
        for number in range(10):
            yield str(number)
        raise LookupError("secret")

    client = open_stream(EventSourceResponse(failing()))
    with pytest.raises(LookupError, match="secret"):
        await client.ended()
    assert [event.data for event in await client.events(10)] == list("0123456789")
    assert client.body.endswith(b"data: 9\n\n" + FAILED)
    assert client.terminated
    assert b"secret" not in client.body


async def test_an_error_event_is_read_by_the_union_that_names_it() -> None:
    async def failing() -> AsyncIterator[Tick]:
        yield Tick(1, id=7)
        raise LookupError("secret")

    union = EventUnion(Tick | StreamError)
    client = open_stream(EventSourceResponse(failing()), events=union)
    tick, error = await client.events(2)
    assert (tick.data, tick.id) == (1, "7")
    assert isinstance(error, StreamError)
    assert error.data.code == "internal"
    assert b"id: 7" in client.body
    assert client.body.count(b"id:") == 1
    with pytest.raises(LookupError, match="secret"):
        await client.ended()


@pytest.mark.parametrize("error", [LookupError("no such thing"), HTTPException(404)])
async def test_an_error_before_the_response_has_begun_is_raised_and_nothing_is_sent(
    error: Exception,
) -> None:
    closed: list[bool] = []

    async def failing() -> AsyncIterator[str]:
        try:
            await asyncio.sleep(0.4)
            if not closed:
                raise error
            yield "never"
        finally:
            await asyncio.sleep(1)
            closed.append(True)

    client = open_stream(EventSourceResponse(failing(), start_within=5))
    with pytest.raises(type(error)):
        await client.ended()
    assert client.sent == []
    assert closed == [True]


async def test_an_error_after_the_headers_is_told_in_the_stream() -> None:
    async def late() -> AsyncIterator[str]:
        await asyncio.sleep(0.6)
        if missing:
            raise HTTPException(404, "no such order")
        yield "never"

    missing = True
    client = open_stream(EventSourceResponse(late()))
    with pytest.raises(HTTPException):
        await client.ended()
    assert client.status == 200
    assert client.body == (
        b'event: stream.error\ndata: {"code":"http_404","message":"no such order"}\n\n'
    )
    assert client.terminated


async def test_an_http_error_whose_detail_is_no_text_is_told_by_its_status_alone() -> None:
    async def late() -> AsyncIterator[str]:
        yield "a"
        raise HTTPException(409, {"secret": 1})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    client = open_stream(EventSourceResponse(late()))
    with pytest.raises(HTTPException):
        await client.ended()
    assert b'{"code":"http_409","message":"The stream failed on the server."}' in client.body
    assert b"secret" not in client.body


class Busy(BaseEvent[int]): ...


@pytest.mark.parametrize(
    ("told", "frames"),
    [
        (None, FAILED),
        (
            StreamError(ErrorInfo(code="busy", message="Too much to do.")),
            b'event: stream.error\ndata: {"code":"busy","message":"Too much to do."}\n\n',
        ),
        (Busy(5), b"event: busy\ndata: 5\n\n" + FAILED),
    ],
)
async def test_an_exception_can_be_mapped_to_a_typed_event(
    told: BaseEvent[object] | None, frames: bytes
) -> None:
    seen: list[Exception] = []

    def on_error(error: Exception) -> BaseEvent[object] | None:
        seen.append(error)
        return told

    async def failing() -> AsyncIterator[str]:
        yield "a"
        raise LookupError("secret")

    client = open_stream(EventSourceResponse(failing(), on_error=on_error))
    with pytest.raises(LookupError):
        await client.ended()
    assert client.body == b"data: a\n\n" + frames
    assert [str(error) for error in seen] == ["secret"]


async def test_a_mapping_that_fails_itself_is_logged_and_the_reader_is_told_the_default(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def on_error(error: Exception) -> BaseEvent[object]:
        raise RuntimeError("in on_error")

    async def failing() -> AsyncIterator[str]:
        yield "a"
        raise LookupError("secret")

    client = open_stream(EventSourceResponse(failing(), on_error=on_error))
    with pytest.raises(LookupError):
        await client.ended()
    assert client.body == b"data: a\n\n" + FAILED
    assert "in on_error" in caplog.text


async def test_a_complete_stream_says_so_where_it_is_asked_to() -> None:
    union = EventUnion(Tick | StreamEnd)
    client = open_stream(EventSourceResponse(ticks(2), end_event=True), events=union)
    *_, end = await client.events(3)
    assert isinstance(end, StreamEnd)
    assert end.data.events == 2
    assert end.id == "1"  # the last real event's: the control event has none of its own
    await client.ended()
    assert client.body.endswith(b'event: stream.end\ndata: {"events":2}\n\n')


async def test_a_stream_that_fails_does_not_say_that_it_is_complete() -> None:
    async def failing() -> AsyncIterator[str]:
        yield "a"
        raise LookupError

    client = open_stream(EventSourceResponse(failing(), end_event=True))
    with pytest.raises(LookupError):
        await client.ended()
    assert client.body == b"data: a\n\n" + FAILED


@pytest.mark.parametrize("item", [None, 7, b"data: raw\n\n", object()])
async def test_a_yielded_object_that_nobody_declared_is_an_error_and_leaves_no_trace(
    item: Any,
) -> None:
    async def lying() -> AsyncIterator[Any]:
        yield "a"
        yield item

    client = open_stream(EventSourceResponse(lying()))
    with pytest.raises(UndeclaredEvent, match=type(item).__name__):
        await client.ended()
    assert client.body == b"data: a\n\n" + FAILED


async def test_a_payload_that_went_wrong_is_an_error_and_leaves_no_trace() -> None:
    async def wrong() -> AsyncIterator[Tick]:
        event = Tick(1)
        object.__setattr__(event, "data", "secret")
        yield event

    client = open_stream(EventSourceResponse(wrong()))
    with pytest.raises(InvalidPayload):
        await client.ended()
    assert client.body == b""


async def test_an_error_of_the_servers_receive_is_not_swallowed() -> None:
    async def receive() -> Message:
        raise TimeoutError("the server's own")

    async def send(_: Message) -> None: ...

    with pytest.raises(TimeoutError, match="the server's own"):
        await EventSourceResponse(ticks(3))({"type": "http", "method": "GET"}, receive, send)


# --- slow and greedy


async def test_a_reader_that_takes_nothing_is_let_go_when_the_send_timeout_is_over() -> None:
    for send_timeout, ping in ((30, 15), (5, 15), (5, 0), (30, 1), (15, 15)):
        source = Closing(every_s=1)
        client = open_stream(
            EventSourceResponse(source.texts(), send_timeout=send_timeout, ping=ping)
        )
        await client.events(3)
        client.pause()
        loop = asyncio.get_running_loop()
        before = loop.time()
        with pytest.raises(SendTimeout, match=f"send_timeout={send_timeout} s"):
            await client.ended()
        # The send that stalls is the one of the next event, one second on.
        assert loop.time() - before == pytest.approx(send_timeout + 1, abs=0.01)
        assert source.log == ["closing", "closed"]
        assert not client.terminated


async def test_a_reader_that_stalls_at_a_ping_is_let_go_too() -> None:
    source = Closing(every_s=1000)
    client = open_stream(EventSourceResponse(source.texts(), send_timeout=5))
    await client.events(1)
    client.pause()
    with pytest.raises(SendTimeout):
        await client.ended()
    assert source.log == ["closing", "closed"]


async def test_a_slow_reader_is_not_let_go_while_it_reads() -> None:
    client = open_stream(EventSourceResponse(ticks(20), send_timeout=5, ping=0))
    for _ in range(30):
        client.pause()
        await asyncio.sleep(4)
        client.resume()
        await asyncio.sleep(0)
    await client.ended()
    assert client.terminated


async def test_a_slow_reader_slows_the_source_down() -> None:
    made = 0

    async def eager() -> AsyncIterator[str]:
        nonlocal made
        while True:
            made += 1
            yield "x"

    client = open_stream(EventSourceResponse(eager(), send_timeout=None))
    client.pause()
    await asyncio.sleep(100)
    assert made == 64
    client.leave()
    await client.ended()


async def test_a_generator_that_never_waits_cannot_keep_the_loop_to_itself() -> None:
    source = Closing(every_s=None)
    client = open_stream(EventSourceResponse(source.texts()))
    await client.events(1)
    client.leave()
    await client.ended()
    assert source.log == ["closing", "closed"]
    assert len(client.chunks) < 1000


async def test_a_sync_generator_whose_reader_leaves_is_closed_in_its_thread() -> None:
    closed_in: list[str] = []

    def endless() -> Iterator[str]:
        try:
            while True:
                yield "x"
        finally:
            closed_in.append(threading.current_thread().name)

    # No timer may be set: the virtual clock would jump ahead of the thread.
    response = EventSourceResponse(endless(), ping=0, send_timeout=None, cleanup_timeout=None)
    client = open_stream(response)
    await client.events(1)
    client.leave()
    await client.ended()
    assert closed_in == ["typed-sse generator"]


# --- data_sender_callable


async def test_a_data_sender_feeds_the_stream_and_is_cancelled_when_it_ends() -> None:
    queue: asyncio.Queue[str] = asyncio.Queue()
    log: list[str] = []

    async def sender() -> None:
        try:
            for number in range(100):
                await queue.put(str(number))
                await asyncio.sleep(1)
        finally:
            await asyncio.sleep(1)
            log.append("sender closed")

    async def events() -> AsyncIterator[str]:
        for _ in range(3):
            yield await queue.get()

    client = open_stream(EventSourceResponse(events(), data_sender_callable=sender))
    await client.ended()
    assert [event.data for event in await client.events(3)] == ["0", "1", "2"]
    assert log == ["sender closed"]


async def test_a_data_sender_that_fails_ends_the_stream_with_its_error() -> None:
    async def sender() -> None:
        await asyncio.sleep(1)
        raise LookupError("no data")

    source = Closing(every_s=1)
    client = open_stream(EventSourceResponse(source.texts(), data_sender_callable=sender))
    with pytest.raises(LookupError, match="no data"):
        await client.ended()
    assert source.log == ["closing", "closed"]


# --- what it takes


@pytest.mark.parametrize("option", ["ping", "send_timeout", "cleanup_timeout"])
@pytest.mark.parametrize("value", [-1, math.inf, math.nan, True, "15", 10**400])
def test_a_duration_that_is_none_is_refused_by_name(option: str, value: object) -> None:
    make: Any = EventSourceResponse
    with pytest.raises(InvalidField, match=f"^{option}=.*number of seconds"):
        make(["x"], **{option: value})


def test_a_send_timeout_of_zero_is_refused() -> None:
    with pytest.raises(InvalidField, match=r"^send_timeout=0: .*more than 0"):
        EventSourceResponse(["x"], send_timeout=0)


@pytest.mark.parametrize("content", ["text", {"data": "x"}, 7])
def test_content_that_is_no_stream_is_refused(content: Any) -> None:
    with pytest.raises(InvalidField, match=r"^content="):
        EventSourceResponse(content)


async def test_a_stream_costs_two_tasks_and_leaves_none_behind() -> None:
    before = len(asyncio.all_tasks())
    client = open_stream(EventSourceResponse(ticks(1000)))
    await client.events(2)
    assert len(asyncio.all_tasks()) - before == 2
    client.leave()
    await client.ended()
    assert len(asyncio.all_tasks()) == before


# --- how long it lives


async def test_a_stream_whose_lifetime_is_over_ends_with_a_retry_and_a_terminated_body() -> None:
    source = Closing(every_s=1, cleanup_s=2)
    client = open_stream(EventSourceResponse(source.texts(), max_lifetime=60, end_event=True))
    await client.ended()
    assert 54 <= asyncio.get_running_loop().time() <= 68
    assert source.log == ["closing", "closed"]
    assert client.retry_ms is not None
    assert 500 <= client.retry_ms <= 3000
    assert client.terminated
    assert b"stream.end" not in client.body


async def test_streams_that_began_together_do_not_end_together() -> None:
    ends: list[float] = []

    async def one() -> None:
        await open_stream(EventSourceResponse(silence(900), max_lifetime=600)).ended()
        ends.append(asyncio.get_running_loop().time())

    await asyncio.gather(*(one() for _ in range(50)))
    assert 540 <= min(ends) < 570
    assert 630 < max(ends) <= 660


async def test_a_stream_that_ends_before_its_lifetime_is_over_is_complete() -> None:
    client = open_stream(EventSourceResponse(ticks(3), max_lifetime=60))
    await client.ended()
    assert client.retry_ms is None


async def test_an_event_that_is_being_sent_when_the_lifetime_ends_is_not_lost() -> None:
    client = open_stream(EventSourceResponse(ticks(100), max_lifetime=10, ping=0))
    await client.events(5)
    client.pause()
    await asyncio.sleep(20)
    client.resume()
    await client.ended()
    assert [event.data for event in await client.events(7)] == list("0123456")
    assert client.body.count(b"data:") == 7
    assert client.terminated


async def test_a_source_that_yields_when_its_lifetime_is_over_is_closed_and_not_sent() -> None:
    client = open_stream(EventSourceResponse(farewell(), max_lifetime=10))
    await client.ended()
    assert b"bye" not in client.body
    assert client.terminated


# --- a finally that has begun


async def closing_early(log: list[str]) -> AsyncIterator[Any]:
    """Is closed by the response, because it yields what cannot be sent, and takes 5 s for it."""
    try:
        yield "a"
        yield object()
    finally:
        await asyncio.sleep(5)
        log.append("closed")


async def test_a_client_that_leaves_while_the_source_is_closed_does_not_cut_that_short() -> None:
    log: list[str] = []
    client = open_stream(EventSourceResponse(closing_early(log)))
    await asyncio.sleep(2)
    client.leave()
    with pytest.raises(UndeclaredEvent):
        await client.ended()
    assert log == ["closed"]


async def test_a_reader_that_stalls_while_the_source_is_closed_does_not_cut_that_short() -> None:
    log: list[str] = []
    response = EventSourceResponse(closing_early(log), ping=1, send_timeout=2)
    client = open_stream(response)
    await client.events(1)
    client.pause()
    with pytest.raises(UndeclaredEvent) as raised:
        await client.ended()
    assert isinstance(raised.value.__cause__, SendTimeout)
    assert log == ["closed"]
    assert not client.terminated


async def test_a_data_sender_that_fails_before_the_first_event_is_an_ordinary_error() -> None:
    async def sender() -> None:
        raise LookupError("no data")

    source = Closing(every_s=1)
    response = EventSourceResponse(silence(5), data_sender_callable=sender)
    client = open_stream(response)
    with pytest.raises(LookupError, match="no data"):
        await client.ended()
    assert client.sent == []
    assert source.log == []


# --- announced limits


@pytest.mark.parametrize(
    ("options", "told"),
    [({}, "45"), ({"ping": 2}, "6"), ({"idle_limit": 1e6 + 0.5}, "1000000.5"), ({"ping": 0}, None)],
)
async def test_the_idle_limit_is_told_in_a_header_and_is_three_keepalives_by_default(
    options: dict[str, float], told: str | None
) -> None:
    client = open_stream(EventSourceResponse(ticks(1), **options))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.ended()
    assert client.headers.get("stream-idle-limit") == told


@pytest.mark.parametrize(("ping", "idle_limit"), [(15, 15), (60, 45), (0, 45)])
def test_an_idle_limit_that_no_keepalive_keeps_is_refused(ping: float, idle_limit: float) -> None:
    with pytest.raises(InvalidField, match=rf"^idle_limit={idle_limit}: .*ping={ping}"):
        EventSourceResponse(["x"], ping=ping, idle_limit=idle_limit)


# --- limits on open streams


async def test_a_stream_beyond_the_limit_is_refused_with_429_and_its_source_is_closed() -> None:
    limit = StreamLimit(total=2, retry_after_s=7)
    open_ones = [open_stream(EventSourceResponse(ticks(100), limit=limit)) for _ in range(2)]
    await asyncio.sleep(1)
    source = Closing()
    texts = source.texts()
    await anext(texts)
    refused = open_stream(EventSourceResponse(texts, limit=limit))
    await refused.ended()
    assert refused.status == 429
    assert refused.headers["retry-after"] == "7"
    assert refused.headers["content-type"] == "application/json"
    assert b"try again in 7 s" in refused.body
    assert source.log == ["closing", "closed"]
    open_ones[0].leave()
    await open_ones[0].ended()
    async with open_stream(EventSourceResponse(ticks(9), limit=limit)) as admitted:
        assert (await admitted.events(1))[0].data == "0"
    open_ones[1].leave()
    await open_ones[1].ended()
    assert limit.open == 0


async def test_the_limit_of_one_key_does_not_touch_another() -> None:
    limit = StreamLimit(per_key=1, key=lambda connection: connection.headers["x-user"])

    async def status(user: str, *, stays: bool) -> int:
        stream = open_stream(EventSourceResponse(ticks(100), limit=limit), headers={"X-User": user})
        await stream.started()
        if not stays:
            stream.leave()
            await stream.ended()
        return stream.status

    assert await status("ann", stays=True) == 200
    assert await status("ann", stays=False) == 429
    assert await status("bob", stays=False) == 200
    assert await status("bob", stays=False) == 200


async def test_a_refused_websocket_is_denied() -> None:
    limit = StreamLimit(total=1)
    first = open_stream(EventSourceResponse(ticks(9), limit=limit))
    await first.events(1)
    refused = open_stream(EventSourceResponse(ticks(9), limit=limit), type="websocket")
    await refused.ended()
    assert refused.sent[0]["type"] == "websocket.http.response.start"
    assert refused.status == 429
    first.leave()
    await first.ended()


# --- the registry


async def test_the_registry_knows_the_open_streams_and_what_they_have_sent() -> None:
    own = Registry()
    client = open_stream(EventSourceResponse(ticks(10), registry=own), "/ticks?n=1", method="POST")
    other = open_stream(EventSourceResponse(silence(100), registry=own, start_within=None), "/s")
    await client.events(3)
    await asyncio.sleep(0.5)
    first, second = own.open_streams()
    assert (first.path, first.route, first.method) == ("/ticks", "", "POST")
    assert (first.events, first.bytes, first.dropped) == (3, 81, 0)
    assert (first.age_s, first.idle_s) == pytest.approx((2.5, 0.5))
    assert (second.path, second.events, second.idle_s) == ("/s", 0, None)
    assert (own.totals().opened, own.totals().events) == (2, 3)
    assert own.open_by_route() == {"": 2}
    for stream in (client, other):
        stream.leave()
        await stream.ended()
    assert own.open_streams() == []
    assert own.totals().events == 3


@pytest.mark.parametrize(
    ("cause", "dropped"),
    [
        (EndCause.COMPLETE, 0),
        (EndCause.CLIENT_LEFT, 0),
        (EndCause.FAILED, 0),
        (EndCause.SEND_TIMEOUT, 2),
        (EndCause.DRAINED, 0),
        (EndCause.LIFETIME, 0),
        (EndCause.CANCELLED, 0),
    ],
)
async def test_the_registry_counts_each_end_by_its_cause(cause: EndCause, dropped: int) -> None:
    async def failing() -> AsyncIterator[str]:
        yield "a"
        raise LookupError

    own = Registry()
    content: AsyncIterator[Sendable] = ticks(30)
    if cause is EndCause.FAILED:
        content = failing()
    lifetime = 10 if cause is EndCause.LIFETIME else None
    async with Drain(signals=()) as drain:
        response = EventSourceResponse(content, registry=own, max_lifetime=lifetime)
        client = open_stream(response)
        await client.events(1)
        if cause is EndCause.CLIENT_LEFT:
            client.leave()
        elif cause is EndCause.SEND_TIMEOUT:
            client.pause()
        elif cause is EndCause.DRAINED:
            drain.begin()
        elif cause is EndCause.CANCELLED:
            client.task.cancel()
        await asyncio.wait({client.task})
        if not client.task.cancelled():
            client.task.exception()
    totals = own.totals()
    assert {name for name, count in totals.ended.items() if count} == {cause}
    assert sum(totals.ended.values()) == totals.opened == 1
    assert totals.dropped == dropped


async def test_a_refusal_is_counted_and_is_no_open_stream() -> None:
    own, limit = Registry(), StreamLimit(total=1)
    first = open_stream(EventSourceResponse(ticks(9), limit=limit, registry=own))
    await first.events(1)
    await open_stream(EventSourceResponse(ticks(9), limit=limit, registry=own)).ended()
    assert (own.totals().opened, own.totals().refused) == (1, 1)
    first.leave()
    await first.ended()


async def test_the_end_of_a_stream_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="typed_sse"):
        client = open_stream(EventSourceResponse(ticks(2)), "/a%0Aforged%20line")
        await client.ended()
    (record,) = caplog.records
    assert record.getMessage() == (
        "stream ended method='GET' path='/a\\nforged line' route='' cause='complete' age_s=2.0 "
        "events=2 bytes=54 dropped=0 error=None"
    ).replace("\n", "\\n")
    assert record.__dict__["stream"]["cause"] == "complete"


async def test_an_observer_hears_of_every_stream_and_cannot_break_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[object] = []

    class Observer:
        def opened(self, stream: StreamRecord) -> None:
            heard.append(stream.path)
            raise RuntimeError("in opened")

        def ended(self, stream: StreamRecord, cause: EndCause, error: BaseException | None) -> None:
            heard.append((stream.path, stream.events, cause, type(error)))
            raise RuntimeError("in ended")

    async def failing() -> AsyncIterator[str]:
        yield "a"
        raise LookupError

    own = Registry()
    own.observe(Observer())
    client = open_stream(EventSourceResponse(failing(), registry=own), "/x")
    with pytest.raises(LookupError):
        await client.ended()
    assert heard == ["/x", ("/x", 1, EndCause.FAILED, LookupError)]
    assert "in opened" in caplog.text
    assert "in ended" in caplog.text


async def test_an_event_that_waits_to_be_sent_is_not_dropped_yet() -> None:
    own = Registry()
    client = open_stream(EventSourceResponse(ticks(5), registry=own))
    await client.events(1)
    client.pause()
    await asyncio.sleep(5)
    assert own.totals().dropped == 0
    client.resume()
    await client.ended()
    assert (own.totals().events, own.totals().dropped) == (5, 0)


# --- at the edges


async def test_a_response_answers_one_request_only() -> None:
    response = EventSourceResponse(ticks(1))
    await open_stream(response).ended()
    again = open_stream(response)
    with pytest.raises(UsageError, match="one for each"):
        await again.ended()
    assert again.sent == []


async def test_a_response_that_is_not_sent_can_close_its_source() -> None:
    source = Closing()
    texts = source.texts()
    await anext(texts)
    await EventSourceResponse(texts).aclose()
    assert source.log == ["closing", "closed"]


@pytest.mark.parametrize("told", ["a: text\n\nevent: admin\ndata: forged", 7, object(), b"bytes"])
async def test_what_on_error_gives_is_an_event_or_the_default_is_told(
    told: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing() -> AsyncIterator[str]:
        yield "a"
        raise LookupError("secret")

    client = open_stream(EventSourceResponse(failing(), on_error=lambda _: told))
    with pytest.raises(LookupError):
        await client.ended()
    assert client.body == b"data: a\n\n" + FAILED
    assert type(told).__name__ in caplog.text


async def test_a_detail_that_has_no_utf_8_is_told_by_its_status_alone() -> None:
    async def failing() -> AsyncIterator[str]:
        yield "a"
        raise HTTPException(404, "no \ud800")

    client = open_stream(EventSourceResponse(failing()))
    with pytest.raises(HTTPException):
        await client.ended()
    assert b'"code":"http_404","message":"The stream failed on the server."' in client.body
    assert client.terminated


async def test_no_ping_is_sent_once_the_stream_is_over() -> None:
    async def sender() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(5)

    async with Drain(signals=()) as drain:
        response = EventSourceResponse(ticks(1), ping=1, data_sender_callable=sender)
        client = open_stream(response)
        await asyncio.sleep(2)
        drain.begin()
        await client.ended()
        sent = len(client.sent)
        await asyncio.sleep(100)
        assert len(client.sent) == sent
        assert client.body.endswith(b"data: 0\n\n")


async def test_no_ping_is_sent_by_a_stream_that_was_left_behind() -> None:
    go_on = asyncio.Event()

    async def stubborn() -> AsyncIterator[str]:
        try:
            yield "a"
            await asyncio.sleep(1000)
        finally:
            while not go_on.is_set():
                with suppress(asyncio.CancelledError):
                    await go_on.wait()

    client = open_stream(EventSourceResponse(stubborn(), ping=1, cleanup_timeout=3))
    await client.events(1)
    client.leave()
    await client.ended()
    sent = len(client.sent)
    await asyncio.sleep(100)
    assert len(client.sent) == sent
    go_on.set()
    await asyncio.sleep(1)


async def test_the_finally_of_a_data_sender_completes_also_when_the_client_leaves_meanwhile() -> (
    None
):
    log: list[str] = []

    async def sender() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(5)
            log.append("done")

    client = open_stream(EventSourceResponse(ticks(1), data_sender_callable=sender))
    await asyncio.sleep(3)
    client.leave()
    await client.ended()
    assert log == ["done"]


@pytest.mark.parametrize("ends_by", ["drain", "lifetime"])
async def test_what_a_thread_or_a_merge_has_ready_is_sent_before_the_end(ends_by: str) -> None:
    async def together() -> AsyncIterator[str]:
        yield "together"
        await asyncio.sleep(1000)

    async with Drain(signals=()) as drain:
        lifetime = 10 if ends_by == "lifetime" else None
        content = merge(*(together() for _ in range(5)))
        client = open_stream(EventSourceResponse(content, max_lifetime=lifetime, ping=0))
        client.pause()
        await asyncio.sleep(20)
        if ends_by == "drain":
            drain.begin()
            await asyncio.sleep(0.5)
        client.resume()
        await client.ended()
    assert client.body.count(b"together") == 5
    assert client.body.endswith(f"retry: {client.retry_ms}\n".encode())


async def test_a_place_under_a_limit_is_free_when_the_stream_is_over() -> None:
    limit = StreamLimit(total=1)
    open_at_the_end: list[int] = []

    async def background() -> None:
        open_at_the_end.append(limit.open)

    response = EventSourceResponse(ticks(1), limit=limit, background=BackgroundTask(background))
    await open_stream(response).ended()
    assert open_at_the_end == [0]


async def test_a_key_that_cannot_be_told_is_an_error_and_leaves_the_source_closed() -> None:
    source = Closing()
    texts = source.texts()
    await anext(texts)
    limit = StreamLimit(per_key=1, key=lambda connection: connection.headers["x-user"])
    client = open_stream(EventSourceResponse(texts, limit=limit))
    with pytest.raises(KeyError):
        await client.ended()
    assert source.log == ["closing", "closed"]
    assert limit.open == 0


async def test_an_error_of_the_last_send_is_raised_and_counted_as_one() -> None:
    own = Registry()
    async with Drain(signals=()) as drain:
        client = open_stream(EventSourceResponse(ticks(9), registry=own))
        await client.events(1)
        client.refuse(RuntimeError("the server's own"))
        drain.begin()
        with pytest.raises(RuntimeError, match="the server's own"):
            await client.ended()
    assert own.totals().ended[EndCause.FAILED] == 1


async def test_a_close_handler_that_fails_does_not_hide_why_the_stream_has_failed() -> None:
    async def handler(_: Message) -> None:
        raise ValueError("in the handler")

    client = open_stream(
        EventSourceResponse(failing_finally(), client_close_handler_callable=handler)
    )
    await client.events(1)
    client.leave()
    with pytest.raises(LookupError, match="in the finally") as raised:
        await client.ended()
    assert "in the handler" in raised.value.__notes__[0]
    client = open_stream(EventSourceResponse(ticks(9), client_close_handler_callable=handler))
    await client.events(1)
    client.leave()
    with pytest.raises(ValueError, match="in the handler"):
        await client.ended()


def test_the_interval_that_a_subclass_sets_is_checked_too() -> None:
    class Hasty(EventSourceResponse):
        DEFAULT_PING_INTERVAL = -5.0

    with pytest.raises(InvalidField, match=r"^ping=-5"):
        Hasty(["x"])


async def test_a_lifetime_ends_also_for_a_reader_that_takes_nothing_and_has_no_send_timeout() -> (
    None
):
    client = open_stream(EventSourceResponse(ticks(99), max_lifetime=10, send_timeout=None))
    await client.events(1)
    client.pause()
    with pytest.raises(SendTimeout):
        await client.ended()
    assert asyncio.get_running_loop().time() < 50


async def test_a_stream_leaves_no_cancellation_behind_in_its_task() -> None:
    async def patient() -> AsyncIterator[str]:
        try:
            yield "a"
            await asyncio.sleep(1000)
        finally:
            async with asyncio.timeout(5):
                await asyncio.sleep(1)

    async def bounded(scope: Any, receive: Any, send: Any) -> None:
        async with asyncio.timeout(100):
            await EventSourceResponse(patient(), max_lifetime=10)(scope, receive, send)

    client = open_stream(bounded)
    await client.ended()
    assert client.terminated


async def test_a_path_is_cut_where_it_is_kept() -> None:
    own = Registry()
    async with open_stream(EventSourceResponse(ticks(9), registry=own), "/" + "x" * 999) as client:
        await client.events(1)
        assert len(own.open_streams()[0].path) == 200


async def test_a_key_that_has_no_stream_open_is_forgotten() -> None:
    limit = StreamLimit(per_key=1)
    for _ in range(3):
        await open_stream(EventSourceResponse(ticks(1), limit=limit)).ended()
    assert not limit._open_by_key


@pytest.mark.parametrize("options", [{"total": 0}, {"per_key": True}, {"total": 1.5}, {}])
def test_a_limit_that_is_none_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidField, match="give a"):
        StreamLimit(**options)


@pytest.mark.parametrize("retry_after_s", [0, -1, 86_401, 1.5, True])
def test_a_time_to_wait_that_is_none_is_refused(retry_after_s: Any) -> None:
    with pytest.raises(InvalidField, match=r"^retry_after_s="):
        StreamLimit(total=1, retry_after_s=retry_after_s)


# --- around the task


def in_a_coroutine_of_its_own(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
    """What a tracer's task factory does."""

    async def wrapped() -> Any:
        return await coro

    return asyncio.Task(wrapped(), loop=loop, **options)


async def then_wait(*texts: str, log: list[str]) -> AsyncIterator[str]:
    try:
        for text in texts:
            yield text
        await asyncio.sleep(100)
    finally:
        log.append("closed")


async def test_no_event_is_held_back_where_a_task_factory_wraps_coroutines() -> None:
    asyncio.get_running_loop().set_task_factory(in_a_coroutine_of_its_own)
    log: list[str] = []
    response = EventSourceResponse(then_wait("a", log=log), max_lifetime=10)
    client = open_stream(response)
    assert await client.events(1) == [ServerSentEvent("a")]
    assert asyncio.get_running_loop().time() == 0
    await client.ended()
    assert 9 <= asyncio.get_running_loop().time() <= 11.5
    assert (log, client.terminated) == (["closed"], True)


async def test_a_task_tells_where_its_stream_waits() -> None:
    client = open_stream(EventSourceResponse(then_wait("a", log=[])))
    await client.events(1)
    tasks = [task for task in asyncio.all_tasks() if "Connection._run" in repr(task)]
    assert [len(task.get_stack()) for task in tasks] == [1]
    client.leave()
    await client.ended()


async def test_keepalives_are_made_in_the_context_of_their_own_request() -> None:
    user: ContextVar[str] = ContextVar("user")

    def ping() -> ServerSentEvent:
        return ServerSentEvent(comment=f"for {user.get()}")

    clients: dict[str, OpenStream[Any]] = {}
    for name in ("alice", "bob"):
        user.set(name)
        clients[name] = open_stream(
            EventSourceResponse(silence(60), ping=5, ping_message_factory=ping)
        )
    await asyncio.sleep(12)
    for name, client in clients.items():
        assert client.body == f": for {name}\n".encode() * 2
        client.leave()
        await client.ended()


class Garbled(BaseEvent[int]):
    def encode(self, *, id: str | int | None = None) -> Any:
        return "no bytes"


async def test_a_frame_that_is_none_ends_the_stream_with_an_error_and_closes_the_source() -> None:
    log: list[str] = []

    async def source() -> AsyncIterator[Tick | Garbled]:
        try:
            yield Tick(1)
            await asyncio.sleep(1)
            yield Garbled(1)
            await asyncio.sleep(100)
        finally:
            log.append("closed")

    client = open_stream(EventSourceResponse(source()))
    with pytest.raises(TypeError):
        await client.ended()
    assert client.body == b"event: tick\ndata: 1\n\n" + FAILED
    assert (client.terminated, log) == (True, ["closed"])


async def test_a_send_that_is_cancelled_at_once_closes_the_source() -> None:
    log: list[str] = []
    cancelled = asyncio.get_running_loop().create_future()
    cancelled.cancel()

    async def receive() -> Message:
        await asyncio.sleep(1000)
        raise AssertionError

    async def send(message: Message) -> None:
        await cancelled

    response = EventSourceResponse(then_wait("a", log=log))
    with pytest.raises(asyncio.CancelledError):
        await response({"type": "http", "method": "GET", "path": "/"}, receive, send)
    assert log == ["closed"]
    assert asyncio.get_running_loop().time() == 0


async def test_what_was_yielded_before_the_source_cancels_itself_is_sent() -> None:
    async def source() -> AsyncIterator[str]:
        yield "a"
        raise asyncio.CancelledError

    client = open_stream(EventSourceResponse(source()))
    with pytest.raises(asyncio.CancelledError):
        await client.ended()
    assert client.body == b"data: a\n\n"


async def test_a_cleanup_is_not_cut_short_by_a_send_that_fails_meanwhile() -> None:
    source = Closing(every_s=1, cleanup_s=5)
    async with Drain(signals=()) as drain:
        client = open_stream(EventSourceResponse(source.texts(), send_timeout=30))
        await client.events(1)
        client.pause()
        await asyncio.sleep(1.5)  # a helper waits to send the second one
        drain.begin()
        with pytest.raises(SendTimeout):
            await client.ended()
    assert source.log == ["closing", "closed"]


async def test_the_grace_of_a_drain_and_the_clock_do_not_count_a_stream_twice() -> None:
    async with Drain(signals=()) as drain:
        client = open_stream(EventSourceResponse(silence(100), drain_grace=60, ping=15))
        asyncio.get_running_loop().call_at(0.5, drain.begin)
        await asyncio.sleep(50)
        assert client.body == b": ping\n" * 3
        client.leave()
        await client.ended()


class Feed:
    """Gives out another iterator than itself, and closes what it reads by itself."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def __aiter__(self) -> AsyncIterator[str]:
        raise AssertionError("it is an iterator already")

    async def __anext__(self) -> str:
        await asyncio.sleep(1)
        return "a"

    async def aclose(self) -> None:
        self.log.append("closed")


async def test_an_iterator_whose_aiter_is_another_is_read_and_closed_itself() -> None:
    class Other(Feed):
        def __aiter__(self) -> AsyncIterator[str]:
            return Feed()

    source = Other()
    client = open_stream(EventSourceResponse(source))
    assert await client.events(1) == [ServerSentEvent("a")]
    client.leave()
    await client.ended()
    assert source.log == ["closed"]


async def test_a_proxy_that_passes_attributes_on_is_read_as_what_it_stands_for() -> None:
    class Proxy:
        def __init__(self, of: object) -> None:
            self._of = of

        def __getattr__(self, name: str) -> object:
            return getattr(self._of, name)

    log: list[str] = []
    content: Any = Proxy(then_wait("a", log=log))
    client = open_stream(EventSourceResponse(content))
    assert await client.events(1) == [ServerSentEvent("a")]
    client.leave()
    await client.ended()
    assert log == ["closed"]


async def test_an_attribute_called_outlet_does_not_make_a_stream_of_ours() -> None:
    class Kitchen(Feed):
        outlet = "220 V"

        def __aiter__(self) -> AsyncIterator[str]:
            return self

    client = open_stream(EventSourceResponse(Kitchen()))
    assert await client.events(1) == [ServerSentEvent("a")]
    client.leave()
    await client.ended()


async def test_headers_that_a_subclass_sets_itself_are_not_sent_twice() -> None:
    class Own(EventSourceResponse):
        def init_headers(self, headers: Any = None) -> None:
            super().init_headers(headers)
            self.raw_headers.append((b"cache-control", b"private"))

    client = open_stream(Own(ticks(1)))
    await client.ended()
    values = [value for name, value in client.start["headers"] if name == b"cache-control"]
    assert values == [b"private"]


if sys.version_info >= (3, 12):

    async def test_in_an_eager_task_a_first_send_that_fails_ends_the_stream_at_once() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        log: list[str] = []

        async def receive() -> Message:
            await asyncio.sleep(1000)
            raise AssertionError

        async def send(message: Message) -> None:
            raise RuntimeError("broken")

        response = EventSourceResponse(then_wait("a", log=log))
        with pytest.raises(RuntimeError, match="broken"):
            await response({"type": "http", "method": "GET", "path": "/"}, receive, send)
        assert (log, loop.time()) == (["closed"], 0)
