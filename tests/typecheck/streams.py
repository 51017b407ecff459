"""What a type checker knows of streams."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import assert_never, assert_type

from typed_sse import BaseEvent, EventSourceResponse, EventStream, event_source, merge


class Tick(BaseEvent[int]): ...


class Tock(BaseEvent[str]): ...


class Bell(BaseEvent[bool]): ...


@event_source
async def ticks(count: int) -> AsyncIterator[Tick]:
    for number in range(count):
        yield Tick(number)


@event_source()
async def tocks(*, text: str = "tock") -> AsyncGenerator[Tock, None]:
    yield Tock(text)


@event_source
def both() -> Iterator[Tick | Tock]:
    yield Tick(1)
    yield Tock("x")


class Tower:
    @event_source
    async def bells(self, hour: int) -> AsyncIterator[Bell]:
        yield Bell(hour > 0)


async def a_decorated_generator_keeps_its_signature_and_its_union() -> None:
    assert_type(ticks(3), EventStream[Tick])
    assert_type(tocks(text="x"), EventStream[Tock])
    assert_type(both(), EventStream[Tick | Tock])
    assert_type(Tower().bells(3), EventStream[Bell])
    ticks("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tocks("x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ticks()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def iterating_gives_the_events() -> None:
    async for event in both():
        assert_type(event, Tick | Tock)


async def a_merge_is_the_union_of_its_inputs() -> None:
    assert_type(merge(ticks(1)), EventStream[Tick])
    assert_type(merge(ticks(1), tocks()), EventStream[Tick | Tock])
    assert_type(
        merge(ticks(1), tocks(), ticks(2), tocks(), Tower().bells(1)),
        EventStream[Tick | Tock | Bell],
    )
    assert_type(
        merge(ticks(1), tocks(), ticks(2), tocks(), ticks(3), Tower().bells(1)),
        EventStream[Tick | Tock | Bell],
    )
    merged = merge(ticks(1), both(), Tower().bells(1))
    assert_type(merged, EventStream[Tick | Tock | Bell])
    async for event in merged:
        match event:
            case Tick(number):
                assert_type(number, int)
            case Tock(text):
                assert_type(text, str)
            case Bell(rung):
                assert_type(rung, bool)
            case _:
                assert_never(event)


async def a_match_that_forgets_a_merged_class_is_an_error() -> None:
    async for event in merge(ticks(1), tocks()):
        match event:  # type: ignore[exhaustive-match]  # pyright: ignore[reportMatchNotExhaustive]
            case Tick():
                pass


@event_source
async def lying() -> AsyncIterator[Tick]:
    yield Tick(1)
    yield Tock("undeclared")  # type: ignore[misc]  # pyright: ignore[reportReturnType]


@event_source  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def numbers() -> AsyncIterator[int]:
    yield 1


def a_stream_of_fewer_events_can_be_used_where_more_are_expected(
    use: Callable[[EventStream[Tick | Tock]], None],
) -> None:
    use(ticks(1))
    use(Tower().bells(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def a_response_takes_everything_that_can_be_sent() -> None:
    EventSourceResponse(merge(ticks(1), tocks()))
    EventSourceResponse(["text", {"data": 1}, Tick(1)])
    EventSourceResponse([1, 2])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    EventSourceResponse(ticks)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
