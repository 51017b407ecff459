import asyncio
import signal
import sys
import threading
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

from closing import Closing, stubborn
from typed_sse import (
    Drain,
    EventSourceResponse,
    InvalidField,
    SendTimeout,
    UndeclaredEvent,
    UsageError,
)
from typed_sse.testing import open_stream, running


@pytest.fixture
def received() -> Iterator[list[int]]:
    """The SIGTERMs that reach the handler which a server has installed before the application."""
    signals: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        signals.append(number)

    before = signal.signal(signal.SIGTERM, handle)
    yield signals
    assert signal.getsignal(signal.SIGTERM) == handle
    signal.signal(signal.SIGTERM, before)


async def test_a_signal_ends_every_open_stream_with_a_farewell_and_a_terminated_body(
    received: list[int],
) -> None:
    sources = [Closing(every_s=1, cleanup_s=2) for _ in range(3)]
    async with Drain() as drain:
        clients = [open_stream(EventSourceResponse(source.texts())) for source in sources]
        await asyncio.sleep(2.5)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.gather(*(client.ended() for client in clients))
        assert drain.begun
    for source, client in zip(sources, clients, strict=True):
        assert source.log == ["closing", "closed"]
        assert client.terminated
        assert client.body.startswith(b"data: 0\n\ndata: 1\n\ndata: 2\n\nretry: ")
        retry_ms = client.retry_ms
        assert retry_ms is not None
        assert 500 <= retry_ms <= 3000
    assert received == [signal.SIGTERM]


async def test_the_time_to_come_back_is_the_callers_and_each_reader_has_one_of_its_own() -> None:
    async with Drain(signals=(), retry_ms=(7, 1_000_000)) as drain:
        clients = [open_stream(EventSourceResponse(Closing(every_s=1).texts())) for _ in range(20)]
        await asyncio.sleep(0.5)
        drain.begin()
        await asyncio.gather(*(client.ended() for client in clients))
    times = {client.retry_ms for client in clients}
    assert len(times) > 10
    assert all(time is not None and 7 <= time <= 1_000_000 for time in times)


async def test_a_stream_that_starts_during_the_drain_ends_at_once_and_unread() -> None:
    async with Drain(signals=()) as drain:
        drain.begin()
        await drain.wait()
        source = Closing()
        client = open_stream(EventSourceResponse(source.texts()))
        await client.ended()
    assert source.made == 0
    assert client.start["status"] == 200
    assert client.terminated
    assert client.retry_ms is not None


async def test_a_drain_that_begins_while_the_response_starts_ends_it_properly_too() -> None:
    async with Drain(signals=()) as drain:
        client = open_stream(EventSourceResponse(Closing().texts()))
        client.pause()
        await asyncio.sleep(0)
        drain.begin()
        await asyncio.sleep(0.5)
        client.resume()
        await client.ended()
    assert client.start["status"] == 200
    assert client.terminated


async def test_a_reader_that_takes_nothing_does_not_hold_up_the_drain() -> None:
    async with Drain(signals=()) as drain:
        source = Closing(every_s=1)
        client = open_stream(EventSourceResponse(source.texts()))
        await client.events(1)
        client.pause()
        loop = asyncio.get_running_loop()
        before = loop.time()
        drain.begin()
        with pytest.raises(SendTimeout):
            await client.ended()
        assert loop.time() - before <= 1.1
    assert source.log == ["closing", "closed"]


async def test_cleanup_that_takes_too_long_does_not_hold_up_the_drain() -> None:
    async with Drain(signals=()) as drain:
        source = Closing(every_s=1, cleanup_s=1000)
        client = open_stream(EventSourceResponse(source.texts(), cleanup_timeout=3))
        await client.events(1)
        loop = asyncio.get_running_loop()
        before = loop.time()
        drain.begin()
        await client.ended()
        assert 3 <= loop.time() - before < 4
    assert client.terminated


async def test_a_stream_that_has_ended_or_whose_client_left_is_not_drained() -> None:
    async def short() -> AsyncIterator[str]:
        yield "all"

    async with Drain(signals=()) as drain:
        ended, left = (
            open_stream(EventSourceResponse(short())),
            open_stream(EventSourceResponse(Closing(every_s=1).texts())),
        )
        await ended.ended()
        await left.events(1)
        left.leave()
        await left.ended()
        drain.begin()
        await asyncio.sleep(1)
    assert ended.body == b"data: all\n\n"
    assert b"retry" not in left.body


async def test_a_drain_at_the_very_end_of_a_stream_sends_nothing_more() -> None:
    async def short() -> AsyncIterator[str]:
        yield "all"

    for turns in range(12):
        async with Drain(signals=()) as drain:
            client = open_stream(EventSourceResponse(short()))
            for _ in range(turns):
                await asyncio.sleep(0)
            drain.begin()
            await client.ended()
            sent = len(client.sent)
            await asyncio.sleep(100)
        assert client.terminated
        assert len(client.sent) == sent


async def test_leaving_the_drain_begins_it() -> None:
    async with Drain(signals=()):
        client = open_stream(EventSourceResponse(Closing(every_s=1).texts()))
        await client.events(1)
    await client.ended()
    assert client.terminated


async def test_without_a_drain_streams_go_on() -> None:
    drain = Drain()
    client = open_stream(EventSourceResponse(Closing(every_s=1).texts()))
    with pytest.raises(UsageError, match="not entered"):
        drain.begin()
    assert not drain.begun
    await client.events(3)
    client.leave()
    await client.ended()


async def test_begin_twice_at_once_does_not_cut_the_cleanup_short() -> None:
    async with Drain(signals=()) as drain:
        source = Closing(every_s=1, cleanup_s=2)
        client = open_stream(EventSourceResponse(source.texts()))
        await client.events(1)
        drain.begin()
        drain.begin()
        await client.ended()
    assert source.log == ["closing", "closed"]


async def test_a_source_that_goes_on_in_spite_of_the_drain_is_closed() -> None:
    async with Drain(signals=()) as drain:
        client = open_stream(EventSourceResponse(stubborn()))
        await client.events(2)
        drain.begin()
        await client.ended()
    assert client.terminated
    assert client.body.count(b"more") == 2


async def test_a_drain_while_a_failed_source_cleans_up_does_not_hide_the_failure() -> None:
    closed: list[bool] = []

    async def lying() -> AsyncIterator[Any]:
        try:
            yield "a"
            yield object()
        finally:
            await asyncio.sleep(5)
            closed.append(True)

    async with Drain(signals=()) as drain:
        client = open_stream(EventSourceResponse(lying()))
        await asyncio.sleep(1)
        drain.begin()
        with pytest.raises(UndeclaredEvent):
            await client.ended()
    assert closed == [True]
    assert b"event: stream.error" in client.body
    assert client.terminated


async def test_begin_may_be_called_from_another_thread_and_twice() -> None:
    async with Drain(signals=()) as drain:
        client = open_stream(EventSourceResponse(Closing(every_s=1).texts()))
        await client.events(1)
        for _ in range(2):
            thread = threading.Thread(target=drain.begin)
            thread.start()
            thread.join()
        await client.ended()
    assert client.body.count(b"retry") == 1


@pytest.mark.parametrize("make", [FastAPI, Starlette])
async def test_it_is_a_lifespan_for_fastapi_and_starlette(
    make: type[Starlette], received: list[int]
) -> None:
    drain = Drain()
    app = make(lifespan=drain.lifespan)
    async with app.router.lifespan_context(app):
        signal.raise_signal(signal.SIGTERM)
        await drain.wait()
    assert received == [signal.SIGTERM]


@pytest.fixture
def by_default(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The signals whose default, the end of the process, was asked for; it does not come."""
    raised: list[int] = []
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    yield raised
    signal.signal(signal.SIGTERM, before)


def terminate() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    assert callable(handler)
    handler(signal.SIGTERM, None)


async def test_a_signal_that_nobody_else_handles_keeps_its_default(by_default: list[int]) -> None:
    async with Drain(signals=[signal.SIGTERM]) as drain:
        terminate()
        await drain.wait()
        await asyncio.sleep(0)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert by_default == [signal.SIGTERM]


async def test_a_default_that_ends_the_process_waits_for_the_streams(by_default: list[int]) -> None:
    async with Drain(signals=[signal.SIGTERM]):
        clients = [
            open_stream(EventSourceResponse(Closing(every_s=1, cleanup_s=number).texts()))
            for number in range(3)
        ]
        await asyncio.sleep(0.5)
        terminate()
        await asyncio.sleep(1.9)
        assert by_default == []
        await asyncio.gather(*(client.ended() for client in clients))
        assert by_default == [signal.SIGTERM]
    assert all(client.terminated for client in clients)


async def test_a_default_that_ends_the_process_does_not_wait_for_ever(
    by_default: list[int],
) -> None:
    async with Drain(signals=[signal.SIGTERM]):
        client = open_stream(EventSourceResponse(Closing(every_s=1, cleanup_s=20).texts()))
        await client.events(1)
        terminate()
        await asyncio.sleep(5.1)
        assert by_default == [signal.SIGTERM]
        await client.ended()


async def test_an_ignored_signal_still_begins_the_drain() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    async with Drain() as drain:
        signal.raise_signal(signal.SIGTERM)
        await drain.wait()
    assert signal.signal(signal.SIGTERM, before) == signal.SIG_IGN


async def test_a_handler_that_outlives_its_drain_keeps_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raised: list[int] = []
    async with Drain(signals=[signal.SIGTERM]):
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    before = signal.getsignal(signal.SIGTERM)
    handler(signal.SIGTERM, None)
    signal.signal(signal.SIGTERM, before)
    assert raised == [signal.SIGTERM]


async def test_a_handler_that_somebody_puts_over_ours_is_left_there(received: list[int]) -> None:
    own = signal.getsignal(signal.SIGTERM)
    async with Drain():
        signal.signal(signal.SIGTERM, own)
    assert signal.getsignal(signal.SIGTERM) == own
    assert received == []


def test_in_another_thread_no_signal_is_touched() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    async def enter() -> None:
        async with Drain():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=lambda: asyncio.run(enter()))
    thread.start()
    thread.join()
    assert seen == [before]


async def test_a_loop_has_one_drain_at_a_time() -> None:
    async with Drain():
        with pytest.raises(UsageError, match="has a drain already"):
            await Drain().__aenter__()
    async with Drain():
        pass


@pytest.mark.parametrize("retry_ms", [(2, 1), (-1, 5), (0.5, 1), (True, 5)])
def test_times_that_are_none_are_refused(retry_ms: tuple[int, int]) -> None:
    with pytest.raises(InvalidField, match="retry"):
        Drain(retry_ms=retry_ms)


# --- a grace period


async def test_a_stream_that_asks_for_grace_goes_on_until_it_is_over() -> None:
    async with Drain(signals=()) as drain:
        source = Closing(every_s=1)
        client = open_stream(EventSourceResponse(source.texts(), drain_grace=5))
        await client.events(2)
        drain.begin()
        await client.ended()
        assert asyncio.get_running_loop().time() == pytest.approx(6, abs=0.01)
    assert client.body.count(b"data:") == 6
    assert client.body.endswith(f"retry: {client.retry_ms}\n".encode())
    assert client.terminated
    assert source.log == ["closing", "closed"]


async def test_a_stream_learns_of_the_drain_and_may_end_in_its_own_words() -> None:
    async def polite(drain: Drain) -> AsyncIterator[str]:
        while not drain.begun:
            yield "more"
            await asyncio.sleep(1)
        yield "the last one"

    async with Drain(signals=()) as drain:
        response = EventSourceResponse(polite(drain), drain_grace=5, end_event=True)
        client = open_stream(response)
        await client.events(2)
        drain.begin()
        await client.ended()
        assert asyncio.get_running_loop().time() < 3
    assert client.body == (
        b"data: more\n\n" * 2 + b"data: the last one\n\n" + f"retry: {client.retry_ms}\n".encode()
    )


async def test_a_lifetime_that_ends_before_the_grace_does_is_still_the_end() -> None:
    async with Drain(signals=()) as drain:
        client = open_stream(
            EventSourceResponse(Closing(every_s=1).texts(), drain_grace=500, max_lifetime=10)
        )
        await client.events(1)
        drain.begin()
        await client.ended()
        assert asyncio.get_running_loop().time() < 12
    assert client.body.count(b"retry") == 1


async def test_a_slow_reader_has_the_whole_grace_and_a_second_more() -> None:
    async with Drain(signals=()) as drain:
        for pause_s, ends_well in ((4, True), (30, False)):
            client = open_stream(EventSourceResponse(Closing(every_s=1).texts(), drain_grace=5))
            await client.events(1)
            client.pause()
            drain.begin()
            loop = asyncio.get_running_loop()
            loop.call_later(pause_s, client.resume)
            before = loop.time()
            await asyncio.wait({client.task})
            assert loop.time() - before < 6.1
            assert client.terminated == ends_well
            assert isinstance(client.task.exception(), SendTimeout) != ends_well


async def test_an_event_that_is_being_sent_when_the_drain_begins_is_not_lost() -> None:
    async with Drain(signals=()) as drain:
        client = open_stream(EventSourceResponse(Closing(every_s=1).texts()))
        await client.events(2)
        client.pause()
        await asyncio.sleep(1.5)
        drain.begin()
        await asyncio.sleep(0.5)
        client.resume()
        await client.ended()
    assert client.body.startswith(b"data: 0\n\ndata: 1\n\ndata: 2\n\nretry: ")
    assert client.terminated


@pytest.mark.parametrize("grace", [-1, float("nan"), "5", True])
def test_a_grace_that_is_none_is_refused(grace: Any) -> None:
    with pytest.raises(InvalidField, match=r"^drain_grace="):
        EventSourceResponse(["x"], drain_grace=grace)


# --- hypercorn's worker processes


async def test_the_event_that_hypercorn_tells_its_workers_by_begins_the_drain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = asyncio.Event()

    async def raise_shutdown(trigger: Callable[[], Awaitable[object]]) -> None:
        await trigger()

    raise_shutdown.__qualname__ = "raise_shutdown"
    monkeypatch.setitem(sys.modules, "hypercorn", types.ModuleType("hypercorn"))
    async with Drain(signals=()) as drain:
        waiting = asyncio.create_task(raise_shutdown(told.wait))
        client = open_stream(EventSourceResponse(Closing(every_s=1).texts()))
        await client.events(2)
        assert not drain.begun
        told.set()
        await client.ended()
        await drain.wait()
    await waiting
    assert client.terminated


# --- entered again


async def test_the_next_start_up_of_an_application_has_a_drain_that_has_not_begun() -> None:
    drain = Drain(signals=())
    app = FastAPI(lifespan=drain.lifespan)

    @app.get("/")
    async def endless() -> EventSourceResponse:
        return EventSourceResponse(Closing(every_s=1).texts())

    for _ in range(2):
        async with running(app):
            assert not drain.begun
            stream = open_stream(app)
            await stream.events(2)
        await stream.ended()
        assert stream.terminated


def test_a_drain_that_cannot_be_entered_leaves_everything_as_it_was() -> None:
    async def enter() -> None:
        with pytest.raises(OSError, match="Invalid argument"):
            await Drain(signals=(signal.SIGTERM, signal.SIGKILL)).__aenter__()
        async with Drain(signals=()):
            pass

    before = signal.getsignal(signal.SIGTERM)
    asyncio.run(enter())
    assert signal.getsignal(signal.SIGTERM) == before
