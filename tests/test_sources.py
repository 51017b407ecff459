from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterator
from contextlib import aclosing, suppress

import aiostream
import pytest

from closing import Closing
from typed_sse.errors import InvalidField, UndeclaredEvent
from typed_sse.events import BaseEvent
from typed_sse.sources import Outlet, Sendable, encode, opened, outlet_of
from typed_sse.wire import ServerSentEvent


class Tick(BaseEvent[int]): ...


# --- opened


async def test_async_iterables_of_every_kind_are_read() -> None:
    class Two:
        def __aiter__(self) -> AsyncIterator[int]:
            return TwoMore()

    class TwoMore(AsyncIterator[int]):
        left = 2

        async def __anext__(self) -> int:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    class Generated:
        def __init__(self, closing: Closing) -> None:
            self._closing = closing

        def __aiter__(self) -> AsyncIterator[int]:
            return self._closing.numbers()

    class Ended:
        def __aiter__(self) -> AsyncIterator[int]:
            return opened([])

    closing = Closing()
    assert [item async for item in opened(Two())] == [1, 0]
    assert [item async for item in opened(TwoMore())] == [1, 0]
    assert [item async for item in opened(Ended())] == []
    async with aclosing(opened(Generated(closing))) as source:
        assert await anext(aiter(source)) == 0
    assert closing.log[-1] == "closed"


async def test_what_can_be_closed_already_is_taken_as_it_is() -> None:
    source = Closing().numbers()
    assert opened(source) is source


async def test_sync_iterables_are_read_too() -> None:
    def numbers() -> Generator[int, None, None]:
        yield 1

    assert [item async for item in opened(numbers())] == [1]
    assert [item async for item in opened([1, 2])] == [1, 2]


async def frames_of(outlet: Outlet[object]) -> list[bytes]:
    frames: list[bytes] = []
    with suppress(StopAsyncIteration):
        while True:
            frames.append(outlet.encode(await anext(aiter(outlet.items))))
    return frames


async def test_what_a_sync_iterable_yields_is_encoded_before_it_makes_the_next() -> None:
    closed: list[bool] = []

    def reusing() -> Iterator[dict[str, object]]:
        fields: dict[str, object] = {}
        try:
            for number in range(3):
                fields["data"] = number
                yield fields
        finally:
            closed.append(True)

    frames = await frames_of(outlet_of(reusing()))
    assert frames == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]
    assert closed == [True]
    assert await frames_of(outlet_of(["a"])) == [b"data: a\n\n"]


async def test_an_async_iterable_is_read_encoded_and_closed_through_its_outlet() -> None:
    source = Closing()
    outlet = outlet_of(source.texts())
    assert [outlet.encode(await anext(aiter(outlet.items))) for _ in range(2)] == [
        b"data: 0\n\n",
        b"data: 1\n\n",
    ]
    await outlet.aclose()
    assert source.log == ["closing", "closed"]
    with pytest.raises(InvalidField, match=r"^content="):
        outlet_of("text")


async def test_a_stream_that_has_an_outlet_of_its_own_is_read_through_that() -> None:
    class Own:
        def outlet(self) -> Outlet[str]:
            return own

        def __aiter__(self) -> AsyncIterator[str]:
            raise AssertionError("it is not to be iterated")

    own = outlet_of(["a"])
    assert outlet_of(Own()) is own


@pytest.mark.parametrize("content", ["text", b"bytes", {"data": "x"}, None, 7])
def test_what_is_no_stream_of_events_is_refused(content: object) -> None:
    with pytest.raises(InvalidField, match=r"^content="):
        opened(content)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_an_aiostream_stream_is_entered_read_and_left() -> None:
    closing = Closing(every_s=1)
    numbers: AsyncIterable[int] = closing.numbers()
    taken: AsyncIterable[int] = aiostream.stream.take(numbers, 2)  # type: ignore[arg-type]
    assert [item async for item in opened(taken)] == [0, 1]
    assert closing.log[-1] == "closed"


async def test_an_aiostream_stream_that_is_left_early_closes_its_source() -> None:
    def text(number: int, *_: int) -> str:
        return str(number)

    closing = Closing(every_s=1, cleanup_s=1)
    async with aclosing(opened(aiostream.stream.map(closing.numbers(), text))) as source:
        assert [await anext(aiter(source)), await anext(aiter(source))] == ["0", "1"]
    assert closing.log[-1] == "closed"


# --- encode


@pytest.mark.parametrize(
    ("item", "frame"),
    [
        (Tick(1, id=4), b"id: 4\nevent: tick\ndata: 1\n\n"),
        (ServerSentEvent("x", event="e"), b"event: e\ndata: x\n\n"),
        ({"data": {"a": 1}, "event": "e", "id": 1}, b'id: 1\nevent: e\ndata: {"a":1}\n\n'),
        ({"comment": "hi"}, b": hi\n\n"),
        ("two\nlines", b"data: two\ndata: lines\n\n"),
        ("", b"data: \n\n"),
    ],
)
def test_whatever_may_be_sent_has_a_frame(item: Sendable, frame: bytes) -> None:
    assert encode(item) == frame


@pytest.mark.parametrize("item", [None, 7, b"data: raw\n\n", ["data"], object()])
def test_whatever_else_is_yielded_is_undeclared(item: object) -> None:
    with pytest.raises(UndeclaredEvent, match=type(item).__name__):
        encode(item)


def test_a_key_that_is_no_field_is_named_with_those_that_are() -> None:
    with pytest.raises(
        InvalidField, match=r"name='echo': is no field.*data, event, id, retry, comment"
    ):
        encode({"name": "echo", "data": "x"})


class Feed:
    """An iterator that gives out another one."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def __aiter__(self) -> AsyncIterator[str]:
        return Feed()

    async def __anext__(self) -> str:
        return "a"

    async def aclose(self) -> None:
        self.log.append("closed")


async def test_an_iterator_that_gives_out_another_one_is_read_and_closed_itself() -> None:
    source = Feed()
    outlet = outlet_of(source)
    async for item in outlet.items:
        assert outlet.encode(item) == b"data: a\n\n"
        break
    await outlet.aclose()
    assert source.log == ["closed"]
