import asyncio
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
)
from contextlib import aclosing, suppress
from functools import partial
from typing import Annotated, Any, cast

import aiostream
import pytest
from typing_extensions import TypeAliasType

import late_names
from closing import Closing, failing_finally, farewell, stubborn
from typed_sse.channels import Channel, Hub
from typed_sse.errors import InvalidDeclaration, InvalidField, UndeclaredEvent
from typed_sse.events import BaseEvent, EventUnion
from typed_sse.registry import Registry
from typed_sse.response import EventSourceResponse
from typed_sse.streams import EventStream, event_source, merge
from typed_sse.testing import open_stream
from typed_sse.wire import Decoder, ServerSentEvent


class Tick(BaseEvent[int]): ...


class Tock(BaseEvent[int]): ...


class Undeclared(BaseEvent[int]): ...


@event_source
async def ticks(count: int, *, every_s: float = 0) -> AsyncIterator[Tick]:
    """Say tick."""
    for number in range(count):
        yield Tick(number)
        await asyncio.sleep(every_s)


@event_source()
async def tocks(count: int, *, every_s: float = 0) -> AsyncIterator[Tock]:
    for number in range(count):
        yield Tock(number)
        await asyncio.sleep(every_s)


async def ids(stream: AsyncIterator[BaseEvent[object]]) -> list[str | None]:
    return [event.id async for event in stream]


# --- event_source: ids


async def test_events_get_running_ids_from_0() -> None:
    assert await ids(ticks(3)) == ["0", "1", "2"]


async def test_every_call_counts_from_0_again() -> None:
    assert await ids(ticks(1)) == await ids(ticks(1)) == ["0"]


async def test_an_id_that_an_event_brings_is_kept_and_the_count_goes_on() -> None:
    @event_source
    async def mixed() -> AsyncIterator[Tick]:
        yield Tick(1)
        yield Tick(2, id="mine")
        yield Tick(3)

    assert await ids(mixed()) == ["0", "mine", "2"]


# --- event_source: what it decorates


async def test_a_sync_generator_streams_as_an_async_one_does() -> None:
    @event_source
    def sync_ticks(count: int) -> Iterator[Tick]:
        for number in range(count):
            yield Tick(number)

    assert [event async for event in sync_ticks(100)] == [
        Tick(number, id=number) for number in range(100)
    ]


async def test_methods_and_static_and_class_methods_stream_too() -> None:
    class Clock:
        def __init__(self, start: int) -> None:
            self.start = start

        @event_source
        async def from_start(self, count: int) -> AsyncIterator[Tick]:
            for number in range(count):
                yield Tick(self.start + number)

        @classmethod
        @event_source
        async def from_class(cls) -> AsyncIterator[Tick]:
            yield Tick(len(cls.__name__))

        @staticmethod
        @event_source
        def blocking() -> Iterator[Tick]:
            yield Tick(7)

    assert [event.data async for event in Clock(5).from_start(2)] == [5, 6]
    assert [event.data async for event in Clock.from_class()] == [5]
    assert [event.data async for event in Clock.blocking()] == [7]


async def test_a_function_that_returns_a_stream_is_a_source_as_well() -> None:
    @event_source
    def chosen(count: int) -> AsyncIterator[Tick]:
        return ticks(count)

    assert await ids(chosen(2)) == ["0", "1"]


def test_the_signature_the_name_and_the_docstring_stay() -> None:
    assert str(inspect.signature(ticks)) == (
        "(count: int, *, every_s: float = 0) -> collections.abc.AsyncIterator["
        f"{Tick.__module__}.Tick]"
    )
    assert (ticks.__name__, ticks.__doc__) == ("ticks", "Say tick.")


def test_nothing_leads_from_the_stream_function_back_to_the_generator() -> None:
    # FastAPI unwraps endpoints, and would stream the bare generator as JSON lines.
    assert inspect.unwrap(ticks) is ticks
    assert not inspect.isasyncgenfunction(ticks)


# --- event_source: the declaration


def test_the_annotation_is_the_declaration() -> None:
    @event_source
    async def both() -> AsyncGenerator[Tick | Tock, None]:
        yield Tick(1)

    assert both().events == EventUnion(Tick | Tock)


@pytest.mark.parametrize("declared", late_names.SOURCES, ids=lambda source: source.__name__)
async def test_an_annotation_may_name_what_is_defined_later(
    declared: Callable[[], EventStream[BaseEvent[object]]],
) -> None:
    stream = declared()
    assert stream.events is not None
    assert list(stream.events.classes) == ["late"]
    assert await ids(stream) == ["0"]


async def test_a_name_that_never_comes_to_be_is_an_error_at_the_first_call() -> None:
    with pytest.raises(InvalidDeclaration, match=r"late_names\.unresolvable.*'Missing'"):
        late_names.unresolvable()


@pytest.mark.parametrize(
    "annotation", [int, AsyncIterator, AsyncIterator[int], Tick, list, Awaitable[Tick], None]
)
def test_an_annotation_that_is_no_iterator_of_events_is_refused(annotation: object) -> None:
    async def wrong() -> AsyncIterator[Any]:
        yield

    wrong.__annotations__["return"] = annotation
    with pytest.raises(InvalidDeclaration):
        event_source(wrong)


TickSource = TypeAliasType("TickSource", AsyncIterator[Tick])


async def test_an_alias_of_the_annotation_declares_as_well() -> None:
    for annotation in (TickSource, Annotated[AsyncIterator[Tick], "with a remark"]):

        async def aliased() -> AsyncIterator[Tick]:
            yield Tick(1)

        aliased.__annotations__["return"] = annotation
        assert event_source(aliased)().events == EventUnion(Tick)


class Callee:
    async def __call__(self) -> AsyncIterator[Tick]:
        yield Tick(1)


async def coroutine() -> AsyncIterator[Tick]:
    return ticks(1)


@pytest.mark.parametrize(
    "thing", [partial(ticks, 1), Callee(), coroutine, len, staticmethod(ticks)]
)
def test_what_is_no_generator_function_is_refused(thing: Any) -> None:
    with pytest.raises(InvalidDeclaration, match="is no generator function"):
        event_source(thing)


async def test_the_annotation_is_resolved_where_it_was_written() -> None:
    stream = late_names.decorated()
    assert stream.events is not None
    assert list(stream.events.classes) == ["late"]


def test_names_that_collide_are_refused_where_they_are_declared() -> None:
    class Other(BaseEvent[str], event="tick"): ...

    with pytest.raises(InvalidDeclaration, match="both are named 'tick'"):

        @event_source
        async def colliding() -> AsyncIterator[Tick | Other]:
            yield Tick(1)


async def test_a_generator_without_an_annotation_may_yield_any_event_and_nothing_else() -> None:
    async def unannotated(last):  # type: ignore[no-untyped-def]  # pyright: ignore[reportUnknownParameterType, reportMissingParameterType]
        yield Tick(1)
        yield last

    anything: Any = event_source(cast("Any", unannotated))
    assert await ids(anything(Tock(2))) == ["0", "1"]
    assert anything(Tock(2)).events is None
    with pytest.raises(UndeclaredEvent, match=r"BaseEvent yielded an object of type str"):
        await ids(anything("raw"))


async def test_an_undeclared_event_is_an_error_and_closes_the_generator() -> None:
    closed: list[bool] = []

    @event_source
    async def lying() -> AsyncIterator[Tick]:
        try:
            yield Tick(1)
            yield Undeclared(2)  # type: ignore[misc]  # pyright: ignore[reportReturnType]
        finally:
            await asyncio.sleep(1)
            closed.append(True)

    stream = lying()
    assert await anext(stream) == Tick(1, id=0)
    with pytest.raises(UndeclaredEvent, match="Undeclared"):
        await anext(stream)
    assert closed == [True]


# --- closing a stream


async def test_a_stream_closed_early_has_run_its_generators_finally() -> None:
    closing = Closing(cleanup_s=5)

    @event_source
    async def numbers() -> AsyncIterator[Tick]:
        async with aclosing(closing.numbers()) as source:
            async for number in source:
                yield Tick(number)

    async with aclosing(numbers()) as stream:
        await anext(stream)
    assert closing.log == ["closing", "closed"]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_started_generator_behind_a_stream_nobody_read_is_closed_too() -> None:
    closing = Closing()
    source = closing.numbers()
    await anext(source)
    await merge(source).aclose()
    assert closing.log == ["closing", "closed"]


async def test_a_generators_error_comes_after_what_it_yielded() -> None:
    @event_source
    async def failing() -> AsyncIterator[Tick]:
        yield Tick(1)
        raise LookupError("lost")

    stream = failing()
    assert await anext(stream) == Tick(1, id=0)
    with pytest.raises(LookupError, match="lost"):
        await anext(stream)


# --- merge


async def test_streams_that_are_always_ready_alternate() -> None:
    names = [event.event_name async for event in merge(ticks(3), tocks(3))]
    assert names == ["tick", "tock"] * 3


async def test_merged_events_come_in_the_order_of_arrival() -> None:
    merged = merge(ticks(4, every_s=2), tocks(2, every_s=5))
    assert [(event.event_name, event.data) async for event in merged] == [
        ("tick", 0),
        ("tock", 0),
        ("tick", 1),
        ("tick", 2),
        ("tock", 1),
        ("tick", 3),
    ]


async def test_merged_events_keep_the_ids_of_their_streams() -> None:
    assert await ids(merge(ticks(2), tocks(2))) == ["0", "0", "1", "1"]


async def test_a_merge_goes_on_until_the_last_source_has_ended() -> None:
    merged = merge(ticks(1), tocks(3), ticks(0))
    assert [event.event_name async for event in merged] == ["tick", "tock", "tock", "tock"]


async def test_a_merge_knows_the_union_of_its_sources_if_each_has_one() -> None:
    assert merge(ticks(1), tocks(1)).events == EventUnion(Tick | Tock)
    assert merge(ticks(1), Closing().numbers()).events is None


def test_merging_streams_whose_names_collide_is_an_error() -> None:
    class Other(BaseEvent[str], event="tick"): ...

    @event_source
    async def others() -> AsyncIterator[Other]:
        yield Other("x")

    with pytest.raises(InvalidDeclaration, match="both are named 'tick'"):
        merge(ticks(1), others())


def test_merging_a_stream_with_itself_is_an_error() -> None:
    stream = ticks(1)
    with pytest.raises(InvalidField, match="read once"):
        merge(stream, stream)


async def test_a_source_that_yields_in_answer_to_its_cancellation_does_not_hang_the_merge() -> None:
    merged = merge(farewell(), stubborn())
    for _ in range(4):
        assert await anext(merged) == "more"
    await asyncio.sleep(0.5)  # both are in their own await now, and not at the hand-over
    await asyncio.wait_for(merged.aclose(), 5)


async def test_every_source_behind_an_unread_stream_is_closed_also_where_one_fails() -> None:
    closing = Closing()
    sources = [closing.texts(), failing_finally()]
    for source in sources:
        await anext(source)
    with pytest.raises(LookupError, match="in the finally"):
        await merge(*sources).aclose()
    assert closing.log == ["closing", "closed"]


def test_merging_nothing_is_an_error() -> None:
    with pytest.raises(InvalidField, match="sources"):
        merge()


async def test_a_source_is_at_most_one_item_ahead_of_the_reader() -> None:
    closing = Closing()
    async with aclosing(merge(closing.numbers())) as merged:
        for number in range(5):
            assert await anext(merged) == number
            for _ in range(20):
                await asyncio.sleep(0)
            assert closing.made == number + 2


async def test_a_fast_source_does_not_keep_a_slow_one_from_its_turn() -> None:
    async with aclosing(merge(Closing().numbers(), ticks(3))) as merged:
        first = [await anext(merged) for _ in range(6)]
    assert sum(isinstance(item, Tick) for item in first) == 3


async def test_when_the_reader_leaves_every_source_has_completed_its_finally() -> None:
    quick, slow, waiting = Closing(), Closing(cleanup_s=60), Closing(every_s=3600, cleanup_s=5)
    async with aclosing(merge(quick.numbers(), slow.numbers(), waiting.numbers())) as merged:
        for _ in range(9):
            await anext(merged)
    for source in (quick, slow, waiting):
        assert source.log == ["closing", "closed"]


async def test_a_source_is_closed_in_the_task_that_read_it() -> None:
    sources = [Closing(), Closing()]
    async with aclosing(merge(*(source.numbers() for source in sources))) as merged:
        for _ in range(4):
            await anext(merged)
    assert [len(source.tasks) for source in sources] == [1, 1]


async def test_when_one_source_fails_what_was_ready_comes_first_and_the_rest_is_closed() -> None:
    other = Closing(cleanup_s=10)

    async def failing() -> AsyncIterator[str]:
        yield "last words"
        raise LookupError("lost")

    seen: list[object] = []
    with pytest.raises(LookupError, match="lost"):
        async for item in merge(failing(), other.numbers()):
            seen.append(item)
    assert seen[:2] == ["last words", 0]
    assert other.log[-1] == "closed"


async def test_a_source_that_fails_while_it_is_closed_fails_the_close() -> None:
    merged = merge(failing_finally(), ticks(100, every_s=1))
    await anext(merged)
    with pytest.raises(LookupError, match="in the finally"):
        await merged.aclose()


async def test_a_second_failure_goes_to_the_loops_exception_handler() -> None:
    async def failing(error: str) -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(0)
        finally:
            raise LookupError(error)

    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: reported.append(str(context["exception"]))
    )
    with pytest.raises(LookupError, match="first"):
        async for _ in merge(failing("first"), failing("second")):
            pass
    assert reported == ["second"]


async def test_a_source_that_is_cancelled_from_within_does_not_hang_the_merge() -> None:
    async def cancelled() -> AsyncIterator[int]:
        yield 1
        raise asyncio.CancelledError

    other = Closing(every_s=1)
    with pytest.raises(asyncio.CancelledError):
        async for _ in merge(cancelled(), other.numbers()):
            pass
    assert other.log[-1] == "closed"


async def test_a_reader_that_is_cancelled_twice_still_waits_for_the_sources() -> None:
    slow = Closing(every_s=1, cleanup_s=10)

    async def read() -> None:
        async with aclosing(merge(slow.numbers())) as merged:
            async for _ in merged:
                pass

    reader = asyncio.create_task(read())
    await asyncio.sleep(3.5)
    reader.cancel()
    await asyncio.sleep(1)
    assert slow.log[-1] == "closing"
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert slow.log[-1] == "closed"


async def test_a_close_that_is_cancelled_waits_for_the_sources_and_is_cancelled_then() -> None:
    slow = Closing(every_s=1, cleanup_s=10)
    merged = merge(slow.numbers())
    await anext(merged)
    closing = asyncio.create_task(merged.aclose())
    await asyncio.sleep(1)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert slow.log == ["closing", "closed"]


async def test_no_task_is_left_when_a_merge_has_ended() -> None:
    before = asyncio.all_tasks()
    await ids(merge(ticks(3), tocks(2)))
    assert asyncio.all_tasks() == before


# --- aiostream


async def test_aiostreams_merge_works_on_our_streams() -> None:
    async with aiostream.stream.merge(ticks(2, every_s=1), tocks(2, every_s=1)).stream() as merged:
        assert [event.event_name async for event in merged] == ["tick", "tock", "tick", "tock"]


async def test_aiostreams_merge_that_is_left_while_it_waits_closes_our_streams() -> None:
    closing = Closing(every_s=10)

    @event_source
    async def numbers() -> AsyncIterator[Tick]:
        async with aclosing(closing.numbers()) as source:
            async for number in source:
                yield Tick(number)

    async def read() -> None:
        async with aiostream.stream.merge(numbers(), tocks(9, every_s=9)).stream() as merged:
            async for _ in merged:
                pass

    reader = asyncio.create_task(read())
    await asyncio.sleep(25)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert closing.log == ["closing", "closed"]


async def test_both_merges_give_the_same_events() -> None:
    async with aiostream.stream.merge(ticks(3, every_s=1), tocks(3, every_s=1)).stream() as theirs:
        by_us = [event async for event in merge(ticks(3, every_s=1), tocks(3, every_s=1))]
        assert by_us == [event async for event in theirs]


# --- as a connection reads it


async def frames_of(stream: EventStream[object]) -> list[bytes]:
    outlet = stream.outlet()
    frames: list[bytes] = []
    with suppress(StopAsyncIteration):
        while True:
            frames.append(outlet.encode(await anext(aiter(outlet.items))))
    await outlet.aclose()
    return frames


async def test_a_stream_checks_numbers_and_encodes_its_events_in_one_step() -> None:
    @event_source
    async def numbers() -> AsyncIterator[Tick]:
        yield Tick(1)
        yield Tick(2, id="own")
        yield Tick(3)

    assert await frames_of(numbers()) == [
        b"id: 0\nevent: tick\ndata: 1\n\n",
        b"id: own\nevent: tick\ndata: 2\n\n",
        b"id: 2\nevent: tick\ndata: 3\n\n",
    ]
    begun = numbers()
    await anext(begun)
    await anext(begun)
    assert await frames_of(begun) == [b"id: 2\nevent: tick\ndata: 3\n\n"]


async def test_a_merge_is_encoded_as_its_streams_have_numbered_it() -> None:
    @event_source
    async def one() -> AsyncIterator[Tick]:
        yield Tick(1)

    assert await frames_of(merge(one(), one())) == [b"id: 0\nevent: tick\ndata: 1\n\n"] * 2


async def test_an_undeclared_event_is_refused_as_it_is_encoded() -> None:
    @event_source
    async def lying() -> AsyncIterator[Tick]:
        yield Tock(1)  # type: ignore[misc]  # pyright: ignore[reportReturnType]

    with pytest.raises(UndeclaredEvent, match="Tock"):
        await frames_of(lying())


# --- merge: subscriptions


async def seen(stream: EventStream[Any], seconds: float = 3) -> list[ServerSentEvent]:
    client = open_stream(EventSourceResponse(stream, registry=Registry()))
    await asyncio.sleep(seconds)
    client.leave()
    await client.ended()
    return Decoder().feed(client.body)


async def test_subscriptions_are_merged_into_one_that_resumes_in_each() -> None:
    async with Hub("memory://") as hub:
        one, two = Channel("one", Tick, hub=hub), Channel("two", Tock, hub=hub)
        await one.publish(Tick(1))
        await two.publish(Tock(2))
        events = await seen(merge(one.subscribe("earliest"), two.subscribe("earliest")))
        assert [event.data for event in events] == ["1", "2"]
        await one.publish(Tick(3))
        after = events[-1].id
        [missed] = await seen(merge(one.subscribe(after), two.subscribe(after)))
        assert missed.data == "3"


async def test_beside_a_subscription_no_other_stream_has_ids_also_in_a_merge_of_merges() -> None:
    async with Hub("memory://") as hub:
        channel = Channel("one", Tick, hub=hub)
        cursor = await channel.publish(Tick(7))

        async def texts() -> AsyncIterator[Any]:
            yield {"data": "0"}

        stream = merge(merge(channel.subscribe("earliest"), ticks(1)), tocks(1), texts())
        ids = {event.data: event.id for event in await seen(stream)}
        # An event without an id of its own has the last one before it, if any.
        assert set(ids) == {"7", "0"}
        assert set(ids.values()) - {None} == {cursor}


@pytest.mark.parametrize("item", [Tick(1, id="mine"), {"data": 1, "id": "mine"}])
async def test_an_id_beside_a_subscription_is_refused(item: Any) -> None:
    async def others() -> AsyncIterator[Any]:
        yield item

    async with Hub("memory://") as hub:
        stream = merge(Channel("one", Tick, hub=hub).subscribe(), others())
        client = open_stream(EventSourceResponse(stream, registry=Registry()))
        with pytest.raises(InvalidField, match="resume points"):
            await client.ended()


async def test_what_a_stream_does_not_declare_is_refused_beside_a_subscription_too() -> None:
    @event_source
    async def wrong() -> AsyncIterator[Tick]:
        yield Tock(1)  # type: ignore[misc]  # pyright: ignore[reportReturnType]

    async with Hub("memory://") as hub:
        stream = merge(Channel("one", Tick, hub=hub).subscribe(), wrong())
        client = open_stream(EventSourceResponse(stream, registry=Registry()))
        with pytest.raises(UndeclaredEvent):
            await client.ended()


async def test_a_merge_with_a_subscription_that_is_not_read_is_closed_too() -> None:
    source = Closing()
    async with Hub("memory://") as hub:
        stream = merge(Channel("one", Tick, hub=hub).subscribe(), cast("Any", source.numbers()))
        client = open_stream(EventSourceResponse(stream, registry=Registry()), method="HEAD")
        await client.ended()
        assert hub.statistics().subscriptions == 0
        assert source.made == 0


async def test_a_reader_that_is_to_come_back_ends_the_streams_beside_its_subscription() -> None:
    source = Closing(every_s=1)
    async with Hub("memory://") as hub:
        channel = Channel("one", Tick, hub=hub)
        stream = merge(channel.subscribe(), cast("Any", source.texts()))
        client = open_stream(EventSourceResponse(stream, registry=Registry()))
        await asyncio.sleep(1)
        await channel.disconnect()
        await client.ended()
        assert client.terminated
        assert client.retry_ms is not None
        assert source.log == ["closing", "closed"]


async def test_subscriptions_in_a_merge_of_merges_are_one_too() -> None:
    async with Hub("memory://") as hub:
        one, two = Channel("one", Tick, hub=hub), Channel("two", Tock, hub=hub)
        await one.publish(Tick(1))
        await two.publish(Tock(2))

        def both(after: str | None) -> EventStream[Any]:
            return merge(merge(one.subscribe(after), ticks(1)), two.subscribe(after))

        after = next(event for event in await seen(both("earliest")) if event.data == "2").id
        await one.publish(Tick(3))
        missed = {event.data for event in await seen(both(after))}
        assert missed - {"1"} == {"0", "3"}


async def test_a_merge_with_a_sealed_channel_ends_when_all_have_ended() -> None:
    async with Hub("memory://") as hub:
        channel = Channel("one", Tick, hub=hub)
        await channel.seal(Tick(7))
        stream = merge(channel.subscribe("earliest"), ticks(1))
        client = open_stream(EventSourceResponse(stream, registry=Registry()))
        await client.ended()
        assert client.terminated
        assert client.retry_ms is None
        assert {event.data for event in Decoder().feed(client.body)} == {"7", "0"}
