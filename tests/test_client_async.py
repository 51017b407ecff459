"""The asynchronous client's task: who may interrupt it, when it ends, what it leaves behind."""

import asyncio
import gc
import ssl
from collections.abc import Callable

import httpx2
import pytest

from answers import AT_ONCE, NEVER, STALL, URL, AsyncReply, AsyncScript
from typed_sse import BaseEvent, BrokenError, NotAStream, ServerSentEvent, UsageError
from typed_sse.client import AsyncEventSource, ClientState
from typed_sse.transport import Lost


class Echo(BaseEvent[str]): ...


def tasks() -> int:
    return len(asyncio.all_tasks())


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- cancelling who asks


def eventful() -> AsyncScript:
    """Connect, read, be cut off and come back, with a moment of rest everywhere."""
    return AsyncScript(
        Lost("unreachable", "refused"),
        AsyncReply(0.5, b"id: 1\ndata: 1\n\ndata: 2\n\nda", 1.0, b"ta: 3\n\n", Lost("cut", "x")),
        AsyncReply(b"data: 4\n\n", after_s=0.5),
        AsyncReply(b"data: 5\n\nevent: stream.end\ndata: {}\n\n"),
    )


@pytest.mark.parametrize("step_s", [0.05, 0.25, 0.3, 1.0])
async def test_an_event_is_neither_lost_nor_doubled_by_timeouts_at_any_time(step_s: float) -> None:
    got: list[str | None] = []
    async with AsyncEventSource(URL, client=eventful()) as source:
        messages = source.__aiter__()
        while True:
            try:
                async with asyncio.timeout(step_s):
                    got.append((await anext(messages)).data)
            except TimeoutError:
                continue
            except StopAsyncIteration:
                break
    assert got == ["1", "2", "3", "4", "5", "{}"]


@pytest.mark.parametrize("turn", range(12))
async def test_an_event_is_neither_lost_nor_doubled_by_a_cancellation_at_any_await(
    turn: int,
) -> None:
    got: list[str | None] = []
    script = AsyncScript(
        AsyncReply(b"data: 1\n\n", b"data: 2\n\n"),
        AsyncReply(b"data: 3\n\n"),
        AsyncReply(status=204),
    )
    source = AsyncEventSource(URL, client=script, policy=AT_ONCE)
    while not source._session.is_closed:
        asking = asyncio.ensure_future(anext(source, None))
        await turns(turn)
        asking.cancel()
        await asyncio.wait({asking})
        if asking.cancelled():
            event = await anext(source, None)
        else:
            event = asking.result()
        if event is not None:
            got.append(event.data)
    assert got == ["1", "2", "3"]


async def test_who_iterates_raw_messages_may_be_cancelled_too() -> None:
    async with AsyncEventSource(URL, client=eventful()) as source:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await anext(source.messages())
        assert [message.data async for message in source.messages()] == [*"12345", "{}"]


# --- closing it


REPLIES: list[Callable[[], AsyncScript]] = [
    lambda: AsyncScript(AsyncReply(after_s=STALL)),
    lambda: AsyncScript(AsyncReply(STALL)),
    lambda: AsyncScript(AsyncReply(b"data", STALL)),
    lambda: AsyncScript(AsyncReply(STALL, status=500)),
    lambda: AsyncScript(Lost("unreachable", "x")),
]
MOMENTS = ["connecting", "reading", "in an event", "refused", "waiting"]


@pytest.mark.parametrize("script", REPLIES, ids=MOMENTS)
@pytest.mark.parametrize("times", [1, 2])
async def test_closing_ends_the_wait_of_another_task_whatever_it_waits_for(
    script: Callable[[], AsyncScript], times: int
) -> None:
    states: list[ClientState] = []
    before = tasks()
    source = AsyncEventSource(URL, client=script(), on_state=states.append)
    asking = asyncio.create_task(anext(source, None))
    await asyncio.sleep(0.5)
    await asyncio.gather(*(source.aclose() for _ in range(times)))
    assert await asking is None
    assert states[-1] == ClientState("closed")
    assert [state.kind for state in states].count("closed") == 1
    assert tasks() == before


async def test_closing_closes_the_answer_and_ends_the_loop_that_it_is_called_in() -> None:
    reply = AsyncReply(b"data: 1\n\ndata: 2\n\n", STALL)
    got: list[ServerSentEvent] = []
    source = AsyncEventSource(URL, client=AsyncScript(reply))
    async for event in source:
        got.append(event)
        await source.aclose()
    assert got == [ServerSentEvent("1")]
    assert reply.closed == 1


async def test_a_source_that_was_closed_before_it_was_asked_sends_nothing() -> None:
    states: list[ClientState] = []
    async with AsyncEventSource(URL, client=AsyncScript(), on_state=states.append) as source:
        pass
    assert [event async for event in source] == []
    assert states == [ClientState("closed")]


async def test_a_source_that_has_ended_stays_so() -> None:
    source = AsyncEventSource(URL, client=AsyncScript(AsyncReply(b"data: 1\n\n")), policy=NEVER)
    assert len([event async for event in source]) == 1
    await source.aclose()
    assert [event async for event in source] == []
    assert [event async for event in source.messages()] == []


async def test_closing_that_is_cut_short_still_ends_the_task() -> None:
    class Slow(AsyncReply):
        async def aclose(self) -> None:
            await asyncio.sleep(10)
            self.end()

    states: list[ClientState] = []
    reply = Slow(STALL)
    before = tasks()
    source = AsyncEventSource(URL, client=AsyncScript(reply), on_state=states.append)
    asking = asyncio.create_task(anext(source, None))
    await asyncio.sleep(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await source.aclose()
    assert states[-1] == ClientState("closed")
    assert reply.closed == 0
    await source.aclose()
    assert reply.closed == 1, "a second call has cut off how the first was obeyed"
    assert await asking is None
    assert tasks() == before


async def test_a_headers_function_may_close_its_source() -> None:
    async def headers() -> dict[str, str]:
        await source.aclose()
        await asyncio.sleep(1)
        raise NotImplementedError

    before = tasks()
    source = AsyncEventSource(URL, client=AsyncScript(), headers=headers)
    assert [event async for event in source] == []
    assert tasks() == before


async def test_a_headers_function_that_closes_its_source_does_not_wait_for_itself() -> None:
    never: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    async def headers() -> dict[str, str]:
        try:
            return await never
        finally:
            await source.aclose()

    source = AsyncEventSource(URL, client=AsyncScript(), headers=headers)
    asking = asyncio.create_task(anext(source, None))
    await asyncio.sleep(1)
    await source.aclose()
    assert await asking is None


async def test_an_error_in_the_block_closes_the_connection() -> None:
    reply = AsyncReply(b"data: 1\n\n", STALL)
    with pytest.raises(LookupError):
        async with AsyncEventSource(URL, client=AsyncScript(reply)) as source:
            async for _ in source:
                raise LookupError
    assert reply.closed == 1


async def test_an_answer_that_fails_to_close_does_not_keep_the_source_open() -> None:
    reply = AsyncReply(STALL, close_error=RuntimeError("cannot close"))
    source = AsyncEventSource(URL, client=AsyncScript(reply))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await anext(source)
    await source.aclose()
    with pytest.raises(RuntimeError, match="cannot close"):
        await anext(source)
    assert [event async for event in source] == []


async def test_a_task_that_somebody_else_has_cancelled_is_not_taken_for_the_end() -> None:
    shared: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
    shared.cancel()
    source = AsyncEventSource(URL, client=AsyncScript(), headers=lambda: shared)
    with pytest.raises(BrokenError, match="use aclose"):
        await anext(source)
    assert [event async for event in source] == []


# --- who may ask, and how much is read ahead


async def test_two_tasks_that_ask_at_once_are_refused_and_the_first_gets_its_event() -> None:
    script = AsyncScript(AsyncReply(1.0, b"data: 1\n\n", STALL))
    async with AsyncEventSource(URL, client=script) as source:
        first = asyncio.ensure_future(anext(source))
        await asyncio.sleep(0.5)
        with pytest.raises(UsageError, match="give each a source of its own"):
            await anext(source)
        assert (await first).data == "1"


async def test_a_reader_that_asks_no_more_holds_the_stream_at_64_kib_and_a_chunk() -> None:
    chunk = b"data: x\n\n" * 1000
    reply = AsyncReply(endless=chunk)
    async with AsyncEventSource(URL, client=AsyncScript(reply)) as source:
        for _ in range(3):
            await anext(source)
            await asyncio.sleep(1000)
            assert reply.taken == 8
        for _ in range(7997):
            await anext(source)
        await asyncio.sleep(1000)
        assert reply.taken == 8
        await anext(source)
        await asyncio.sleep(1000)
        assert reply.taken == 16


async def test_a_lost_connection_is_not_made_again_before_the_last_event_is_taken() -> None:
    script = AsyncScript(
        AsyncReply(b"event: echo\ndata: 1\n\n", b"event: bye\ndata: 2\n\n", Lost("cut", "reset"))
    )
    source = AsyncEventSource(URL, client=script, terminal=["bye"], policy=AT_ONCE)
    assert (await anext(source)).data == "1"
    await asyncio.sleep(1000)
    assert [event.data async for event in source] == ["2"]
    assert len(script.requests) == 1


async def test_who_leaves_goes_on_behind_what_was_yielded_not_behind_what_was_read() -> None:
    reply = AsyncReply(b"id: 1\ndata: 1\n\nid: 2\ndata: 2\n\n", b"id: 3\n\n", STALL)
    async with AsyncEventSource(URL, client=AsyncScript(reply)) as source:
        await anext(source)
        await asyncio.sleep(1)
    assert reply.taken == 2
    assert source.last_event_id == "1"
    await source.aclose()
    assert source.last_event_id == "1"


async def test_who_leaves_when_all_is_taken_goes_on_behind_all_of_it() -> None:
    reply = AsyncReply(b"id: 1\ndata: 1\n\n", b"id: 2\n\n", STALL)
    async with AsyncEventSource(URL, client=AsyncScript(reply)) as source:
        await anext(source)
        await asyncio.sleep(1)
    assert source.last_event_id == "2"


@pytest.mark.parametrize(
    "garbage", [b"data: " + b"x" * 200, NotAStream("http://test", 200, "", b"", "broken gzip")]
)
async def test_what_is_wrong_behind_the_last_event_is_no_error(garbage: bytes | Exception) -> None:
    reply = AsyncReply(b"event: stream.end\ndata: {}\n\n", garbage, STALL)
    async with AsyncEventSource(URL, client=AsyncScript(reply), max_event_bytes=100) as source:
        assert (await anext(source)).event == "stream.end"
        await asyncio.sleep(1)
        assert [event async for event in source] == []


@pytest.mark.parametrize("chunk", [b"event: other\ndata: 1\n\n" * 100, b": nothing\n"])
async def test_a_timeout_hits_a_reader_that_gets_only_what_it_skips(chunk: bytes) -> None:
    seen_s = asyncio.get_running_loop().time()
    reply = AsyncReply(*(chunk, 0.01) * 10_000)
    async with AsyncEventSource(URL, Echo, client=AsyncScript(reply), unknown="skip") as source:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await anext(source)
    assert asyncio.get_running_loop().time() - seen_s == pytest.approx(1, abs=0.1)


async def test_an_endless_stream_of_skipped_events_lets_other_tasks_run() -> None:
    reply = AsyncReply(endless=b"event: other\ndata: 1\n\n" * 100)
    async with AsyncEventSource(URL, Echo, client=AsyncScript(reply), unknown="skip") as source:
        asking = asyncio.ensure_future(anext(source))
        await turns(100)
        asking.cancel()
        await asyncio.wait({asking})
    assert reply.taken < 100


# --- what is left behind


async def test_a_source_that_is_dropped_closes_its_answer() -> None:
    reply = AsyncReply(b"data: 1\n\n", STALL)
    async for _ in AsyncEventSource(URL, client=AsyncScript(reply)):
        break
    gc.collect()
    await turns(10)
    assert reply.closed == 1


# --- a client of its own


async def test_without_a_client_one_is_made_that_follows_redirects_and_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/sse":
            return httpx2.Response(302, headers={"location": "/there"})
        return httpx2.Response(
            200, headers={"content-type": "text/event-stream"}, text="data: 1\n\n"
        )

    made: list[httpx2.AsyncClient] = []

    class Client(httpx2.AsyncClient):
        def __init__(self, *, verify: ssl.SSLContext, follow_redirects: bool) -> None:
            transport = httpx2.MockTransport(answer)
            super().__init__(verify=verify, follow_redirects=follow_redirects, transport=transport)
            made.append(self)

    monkeypatch.setattr("typed_sse.client.httpx2.AsyncClient", Client)
    source = AsyncEventSource("http://test/sse", policy=AT_ONCE)
    assert (await anext(source)).data == "1"
    assert (await anext(source)).data == "1"
    assert [each.is_closed for each in made] == [False]
    await source.aclose()
    assert [each.is_closed for each in made] == [True]
