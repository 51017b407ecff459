"""Sources: whatever can be streamed, as one kind of iterator, and the frame of whatever it yields.

Knows typed events, records and threads; nothing of who reads.
"""

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeGuard, TypeVar, cast

from typed_sse.errors import InvalidField, UndeclaredEvent
from typed_sse.events import BaseEvent
from typed_sse.stepping import StandIn
from typed_sse.threads import read_in_thread
from typed_sse.wire import ServerSentEvent

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Sendable: TypeAlias = BaseEvent[object] | ServerSentEvent | Mapping[str, object] | str
"""What a stream may carry to a reader: a typed event, a record, the fields of one, or its data."""


class Closable(Protocol[T_co]):
    """An async iterator that can be closed: an async generator, or an `EventStream`."""

    def __aiter__(self) -> AsyncIterator[T_co]: ...
    def __anext__(self) -> Awaitable[T_co]: ...
    def aclose(self) -> Awaitable[None]:
        """End the iterator; what it holds open is released when this returns."""
        raise NotImplementedError


class Frame(bytes):
    """An event that is encoded already."""


class Unseen(Frame):
    """A frame that moves the reader's last id, or tells it nothing; no event."""


class Sink(Protocol):
    """Who takes the frames of a source that hands them over by itself."""

    def push(self, piece: bytes, events: int, /) -> bool:
        """Take frames, and return `True`; or refuse them, and come back when they can be taken."""
        raise NotImplementedError

    def resume(self) -> None:
        """Come back and read `items` again."""


class Pushing(Protocol):
    """A source that needs no task of its reader's while there is nothing to read.

    Its `items` end when nothing is ready; `park` then says what that means.
    """

    @property
    def stand_in(self) -> StandIn:
        """In whose name frames are sent while there is no task."""
        raise NotImplementedError

    def park(self, sink: Sink) -> bool:
        """Hand what comes to `sink` from now on; or return `False`: this was the end.

        Until it has refused something, or is told to come back.
        """
        raise NotImplementedError

    def unpark(self) -> None:
        """Hand over no more: the reader comes back, or leaves."""

    def never_again(self) -> None:
        """Let `items` wait instead of ending, from now on: the reader has a task."""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to stream, and never will be."""
        raise NotImplementedError

    @property
    def breaks_off(self) -> bool:
        """Whether it has ended so that its reader comes back, and not since nothing follows."""
        raise NotImplementedError

    def last(self, events: int, /) -> bytes | None:
        """Return the stream's last frame, where the source says it; so many events were sent."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Outlet(Generic[T]):
    """A source as a connection reads it.

    Attributes:
        items: what it yields, read once; again after having been parked, where it can be.
        encode: make the frame of the item that was read last; raises as `encode` does.
        aclose: close the source.
        pushing: the source as one that can be parked; `None` where it cannot.
        resumes: its ids are resume points, so that none may come between from elsewhere.
    """

    items: AsyncIterable[T]
    encode: Callable[[T], bytes]
    aclose: Callable[[], Awaitable[None]]
    pushing: Pushing | None = None
    resumes: bool = False


class HasOutlet(Protocol[T_co]):
    """A stream that makes its own frames, checks and ids included, without a step between."""

    def outlet(self) -> "Outlet[Any]":
        """Return the stream as a connection reads it; it is read there and nowhere else."""
        raise NotImplementedError


def outlet_of(content: AsyncIterable[T] | Iterable[T]) -> Outlet[Any]:
    """Return anything that can be streamed as a connection reads it.

    What a sync iterable yields is encoded at once, in its thread: that works ahead of the reader,
    so an object that the iterable uses again must be on its way before the next one is made.

    Raises:
        InvalidField: as for `opened`.
    """
    if _has_outlet(content):
        return content.outlet()
    source: Closable[object]
    if isinstance(content, AsyncIterable) or not _is_iterable(content):
        source = opened(content)
    else:
        source = opened(_encoded(content))
    return Outlet(source if _iterates_itself(source) else _Stepwise(source), encode, source.aclose)


class _Stepwise(Generic[T]):
    """Reads a source by `__anext__` alone: what is read is then what is closed."""

    def __init__(self, source: Closable[T]) -> None:
        self._source = source

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    def __anext__(self) -> Awaitable[T]:
        return self._source.__anext__()


def _iterates_itself(source: Closable[object]) -> bool:
    # `async for` asks the type: a proxy that only passes attributes on has neither.
    kind = type(source)
    has_both = hasattr(kind, "__aiter__") and hasattr(kind, "__anext__")
    return has_both and aiter(source) is source


def _encoded(items: Iterable[object]) -> Iterator[Frame]:
    iterator = iter(items)
    try:
        for item in iterator:
            yield Frame(encode(item))
    finally:
        if isinstance(iterator, Generator):
            cast("Generator[object]", iterator).close()


def opened(content: AsyncIterable[T] | Iterable[T]) -> Closable[T]:
    """Return anything that can be streamed as an async iterator that can be closed.

    Async iterators that are context managers, as aiostream's are, are entered at the first event
    and left at the end. A sync iterable is read in a thread of its own.

    Raises:
        InvalidField: `content` is not iterable, or is a string, bytes or a mapping.
    """
    if _is_closable(content):
        return content
    if isinstance(content, AsyncIterable):
        return _read(content)
    if not _is_iterable(content):
        raise InvalidField("content", content, "give an async or sync iterator of events")
    return read_in_thread(content)


# Not isinstance with a protocol, which costs 10 µs a stream before Python 3.12.
def _is_closable(content: AsyncIterable[T] | Iterable[T]) -> TypeGuard[Closable[T]]:
    return (
        hasattr(content, "__anext__")
        and hasattr(content, "aclose")
        and hasattr(content, "__aiter__")
    )


def _has_outlet(content: AsyncIterable[T] | Iterable[T]) -> TypeGuard[HasOutlet[T]]:
    return callable(getattr(type(content), "outlet", None))


def _is_iterable(content: object) -> bool:
    return isinstance(content, Iterable) and not isinstance(content, str | bytes | Mapping)


async def _read(content: AsyncIterable[T]) -> AsyncGenerator[T, None]:
    iterator = aiter(content)
    lifetime: AbstractAsyncContextManager[object] = nullcontext()
    if isinstance(iterator, AbstractAsyncContextManager):
        lifetime = cast("AbstractAsyncContextManager[object]", iterator)
    elif _is_closable(iterator):
        lifetime = aclosing(iterator)
    async with lifetime:
        async for item in iterator:
            yield item


def encode(item: object) -> bytes:
    """Return the frame of anything that a stream may carry.

    Raises:
        UndeclaredEvent: `item` is none of `Sendable`.
        InvalidField: a field of it cannot be on the wire, or is no field of an event.
        InvalidPayload: a typed event's payload was changed since, and no longer fits.
    """
    if isinstance(item, BaseEvent):  # first, and not in the match: that costs 0.1 µs more
        return item.encode()
    match item:
        case ServerSentEvent():
            return item.encode()
        case Frame():
            return item
        case str():
            return ServerSentEvent(item).encode()
        case Mapping():
            fields = cast("Mapping[str, Any]", item)
            for name, value in fields.items():
                if name not in _FIELDS:
                    reason = f"is no field of an event; those are {', '.join(_FIELDS)}"
                    raise InvalidField(name, value, reason)
            return ServerSentEvent(**fields).encode()
        case _:
            raise UndeclaredEvent(type(item).__qualname__, _SENDABLE)


_FIELDS = ("data", "event", "id", "retry", "comment")
_SENDABLE = ("typed events", "ServerSentEvent", "dicts of its fields", "str")
