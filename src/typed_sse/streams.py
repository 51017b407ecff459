"""Streams of typed events: `event_source` declares them, `merge` makes one of several.

A stream is an async iterator that somebody closes: whoever reads it to its end, or leaves it early,
calls `aclose()`, and when that returns every generator behind it has run its `finally`. Knows
asyncio and typed events, nothing of HTTP.
"""

import asyncio
import inspect
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from functools import reduce, update_wrapper
from types import FunctionType, SimpleNamespace
from typing import (
    Any,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from typed_sse.errors import InvalidDeclaration, InvalidField, UndeclaredEvent
from typed_sse.events import BaseEvent, EventUnion
from typed_sse.signatures import aliased, closure_of, name_of, signature_of
from typed_sse.sources import Closable, Frame, Outlet, encode, opened, outlet_of

P = ParamSpec("P")
T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
E = TypeVar("E", bound=BaseEvent[object])
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
U = TypeVar("U")


class EventStream(AsyncIterator[T_co], Generic[T_co]):
    """An async iterator of events that knows its union; made by `event_source` and `merge`.

    Read it once, in one task. A stream that was read to its end, or has failed, is closed.

    Attributes:
        events: the closed union of what it carries, or `None` where nobody declared one.
        behind: what it is merged of; `None` for a stream of its own.
        check: raises `UndeclaredEvent` at what it may not carry.
        ag_running: whether a read is under way, by the name that async generators have for it.
            aiostream asks before it closes a source: one that is being read it cancels instead.
    """

    __slots__ = ("_running", "_source", "ag_running", "behind", "check", "events")

    def __init__(
        self,
        source: Closable[T_co],
        events: EventUnion[BaseEvent[object]] | None,
        *,
        behind: Sequence[Closable[object]] | None = None,
    ) -> None:
        # With streams behind it that number their own events, it passes them on as they are.
        self._source = source
        self.behind = behind
        self._running = 0
        self.events = events
        self.ag_running = False
        self.check = _check_any if events is None else events.check

    async def __anext__(self) -> T_co:
        self.ag_running = True
        try:
            event = await self._source.__anext__()
        finally:
            self.ag_running = False
        if self.behind is not None:
            return event
        try:
            self.check(event)
        except UndeclaredEvent:
            await self.aclose()
            raise
        running = self._running
        self._running += 1
        own = cast("BaseEvent[object]", event)
        return event if own.id is not None else cast("T_co", own.with_id(running))

    def outlet(self) -> Outlet[Any]:
        """Return the stream as a connection reads it: checked, numbered and encoded in one step."""
        if self.behind is None:
            return Outlet(self._source, self._encode, self.aclose)
        lanes = [(lane, outlet_of(lane)) for lane in _lanes(self)]
        if not any(outlet.resumes for _, outlet in lanes):
            return Outlet(self._source, encode, self.aclose)
        frames = _until_broken_off(_merged([_frames(lane, outlet) for lane, outlet in lanes]))

        async def aclose() -> None:
            async with AsyncExitStack() as stack:
                stack.push_async_callback(self.aclose)
                stack.push_async_callback(frames.aclose)

        return Outlet(frames, _as_it_is, aclose, resumes=True)

    def _encode(self, event: Any) -> bytes:
        self.check(event)
        running = self._running
        self._running = running + 1
        frame: bytes = event.encode(id=running)
        return frame

    async def aclose(self) -> None:
        """End the stream; when it returns, every generator behind it has completed its `finally`.

        Does nothing when the stream has ended. What a `finally` raises comes out here.

        Cancellation: as in any async generator, a cancellation that arrives while a `finally`
            waits is raised there; a merge still waits until every source is closed.
        """
        if not self.behind:
            await self._source.aclose()
            return
        async with AsyncExitStack() as stack:
            # A generator that never started does not run its `finally`, so nobody closed these.
            for source in self.behind:
                stack.push_async_callback(source.aclose)
            stack.push_async_callback(self._source.aclose)


def _as_it_is(frame: bytes) -> bytes:
    return frame


def _lanes(stream: EventStream[object]) -> Iterator[Closable[object]]:
    """Yield what a merge is made of, merges within it taken apart."""
    for lane in stream.behind or ():
        yield from _apart(lane)


def _apart(source: T) -> Iterator[T]:
    """Yield a stream, or of a merge what it is made of."""
    if isinstance(source, EventStream) and source.behind is not None:
        yield from cast("Iterator[T]", _lanes(cast("EventStream[object]", source)))
    else:
        yield source


async def _frames(lane: Closable[object], outlet: Outlet[Any]) -> AsyncGenerator[bytes, None]:
    """Yield the frames of one of several streams whose ids together are resume points."""
    if outlet.pushing is not None:
        outlet.pushing.never_again()
    check = lane.check if isinstance(lane, EventStream) else None
    try:
        async for item in outlet.items:
            if outlet.resumes:
                yield outlet.encode(item)
                continue
            if check is not None:
                check(item)
            _check_without_id(item)
            yield Frame(encode(item))
        if outlet.pushing is not None and outlet.pushing.breaks_off:
            raise _BrokenOff(outlet.pushing.last(0) or b"")
    finally:
        await outlet.aclose()


class _BrokenOff(Exception):  # no error: an end
    """One of several streams has ended so that its reader comes back; the others end too."""

    def __init__(self, last: bytes) -> None:
        self.last = last


async def _until_broken_off(frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(frames):
        try:
            async for frame in frames:
                yield frame
        except _BrokenOff as end:
            yield end.last


def _check_without_id(item: object) -> None:
    if isinstance(item, Mapping):
        own = cast("Mapping[str, object]", item).get("id")
    else:
        own = getattr(item, "id", None)
    if own is not None:
        reason = "beside the events of a channel, whose ids are resume points, give it none"
        raise InvalidField("id", own, reason)


def _check_any(event: object) -> None:
    if not isinstance(event, BaseEvent):
        raise UndeclaredEvent(type(event).__qualname__, ("BaseEvent",))


class _EventSource(Protocol):
    @overload
    def __call__(
        self, generator: Callable[P, AsyncIterable[E]], /
    ) -> Callable[P, EventStream[E]]: ...
    @overload
    def __call__(self, generator: Callable[P, Iterable[E]], /) -> Callable[P, EventStream[E]]: ...


@overload
def event_source(generator: Callable[P, AsyncIterable[E]], /) -> Callable[P, EventStream[E]]: ...
@overload
def event_source(generator: Callable[P, Iterable[E]], /) -> Callable[P, EventStream[E]]: ...
@overload
def event_source() -> _EventSource: ...
def event_source(
    generator: Callable[P, AsyncIterable[E] | Iterable[E]] | None = None, /
) -> Callable[P, EventStream[E]] | _EventSource:
    """Make a generator function of typed events into one of event streams.

    Works as `@event_source` and as `@event_source()`, on async and on sync generator functions and
    on methods. The signature stays, and the annotation (`-> AsyncIterator[Echo | ReverseEcho]`) is
    the declaration: what it does not name cannot be yielded. A function without a return annotation
    may yield any event.

    Events without an `id` get the running one: 0 for the first event of the stream, 1 for the next.

    A sync generator runs from start to end in one worker thread of its own, which works at most 64
    events ahead of the reader: it must not change a payload that it has yielded. Closing the stream
    waits for the `next()` that is under way.

    Raises:
        InvalidDeclaration: at declaration, for what is no generator function, an annotation that
            is no iterator of event classes, or names that collide; at the first call, where a name
            in it is still unknown.

    The streams raise `UndeclaredEvent` at an object that the annotation does not name, after
    closing the generator; and whatever the generator raises.
    """
    if generator is None:
        return cast("_EventSource", event_source)
    function = generator
    declaration = _Declaration(function)

    def stream(*args: P.args, **kwargs: P.kwargs) -> EventStream[E]:
        return of_union(function(*args, **kwargs), declaration.events())

    update_wrapper(stream, function)
    # What follows __wrapped__ to the generator (FastAPI does) would take the stream for one.
    stream.__dict__["__signature__"] = signature_of(function)
    del stream.__dict__["__wrapped__"]
    return stream


def of_union(
    content: AsyncIterable[E] | Iterable[E], events: EventUnion[BaseEvent[object]] | None
) -> EventStream[E]:
    """Return the stream of what `content` yields, each event checked against `events`.

    Where `events` is `None`, any event may be yielded. Events without an id get the running one.
    """
    return EventStream(opened(content), events)


class _Declaration:
    """The union that a generator function's return annotation declares, resolved once.

    An annotation may name classes that are defined further down, so a name that is unknown at
    declaration is looked up again at the first call.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        if not inspect.isfunction(function) or inspect.iscoroutinefunction(function):
            reason = "is no generator function; decorate the function that yields, under any other"
            raise InvalidDeclaration((str(function),), reason)
        self._function: Callable[..., object] = function
        self._resolved = False
        self._events: EventUnion[BaseEvent[object]] | None = None
        with suppress(NameError):
            self._resolve()

    def events(self) -> EventUnion[BaseEvent[object]] | None:
        if not self._resolved:
            try:
                self._resolve()
            except NameError as error:
                reason = f"its return annotation cannot be resolved: {error}"
                raise InvalidDeclaration((name_of(self._function),), reason) from error
        return self._events

    def _resolve(self) -> None:
        # Where the annotation was written: below whatever decorators have wrapped it in.
        function = cast("FunctionType", inspect.unwrap(self._function))
        if "return" in function.__annotations__:
            # Only the return annotation: the others may name what exists for type checkers alone.
            declared = SimpleNamespace(
                __annotations__={"return": function.__annotations__["return"]}
            )
            hints = get_type_hints(declared, function.__globals__, closure_of(function))
            self._events = self._union(hints["return"])
        self._resolved = True

    def _union(self, annotation: object) -> EventUnion[BaseEvent[object]]:
        annotation = aliased(annotation)
        origin, args = get_origin(annotation), get_args(annotation)
        if not isinstance(origin, type) or not issubclass(origin, AsyncIterable | Iterable):
            reason = f"annotate what it yields, as AsyncIterator[Event], not {annotation}"
            raise InvalidDeclaration((name_of(self._function),), reason)
        return EventUnion[BaseEvent[object]](args[0])


@overload
def merge(a: AsyncIterable[A], /) -> EventStream[A]: ...
@overload
def merge(a: AsyncIterable[A], b: AsyncIterable[B], /) -> EventStream[A | B]: ...
@overload
def merge(
    a: AsyncIterable[A], b: AsyncIterable[B], c: AsyncIterable[C], /
) -> EventStream[A | B | C]: ...
@overload
def merge(
    a: AsyncIterable[A], b: AsyncIterable[B], c: AsyncIterable[C], d: AsyncIterable[D], /
) -> EventStream[A | B | C | D]: ...
@overload
def merge(
    a: AsyncIterable[A],
    b: AsyncIterable[B],
    c: AsyncIterable[C],
    d: AsyncIterable[D],
    e: AsyncIterable[T],
    /,
) -> EventStream[A | B | C | D | T]: ...
@overload
def merge(
    a: AsyncIterable[A],
    b: AsyncIterable[B],
    c: AsyncIterable[C],
    d: AsyncIterable[D],
    e: AsyncIterable[T],
    f: AsyncIterable[U],
    /,
) -> EventStream[A | B | C | D | T | U]: ...
@overload
def merge(*sources: AsyncIterable[T]) -> EventStream[T]: ...
def merge(*sources: AsyncIterable[Any]) -> EventStream[Any]:
    """Merge streams into one that carries the union of their events.

    Takes event streams, other async iterables, and the streams of aiostream.

    Raises:
        InvalidDeclaration: two of the streams have different events under one name.
        InvalidField: a source is not iterable, or given twice, or there is none.

    Subscriptions to channels become one, whose ids say where the reader is in all of them: who
    comes back with one `Last-Event-ID` resumes in each. What other streams yield beside them has no
    ids then: their running ones are left out, and one of its own is an `InvalidField`. Such a
    stream ends when all have ended, or when a reader is to come back; that channels are sealed it
    does not say.

    Ordering: the events of one source keep their order; across sources it is the order of arrival,
        and a source that is always ready gets one event in before each other that is ready gets
        its own. Ids stay as they are: streams that number their own events both start at 0.

    Limits: at most one event of read-ahead a source.

    The stream ends when all sources have ended. When one fails, what was ready before is delivered,
    the others are closed, and then the error is raised; a source that fails while it is being
    closed is reported to the loop's exception handler. Closing the stream closes every source in
    the task that read it, and returns when each has completed its `finally`.
    """
    if not sources:
        raise InvalidField("sources", sources, "give at least one stream")
    if len({id(source) for source in sources}) < len(sources):
        raise InvalidField("sources", sources, "a stream is read once; make a second one")
    sources = _joined(sources)
    if len(sources) == 1 and isinstance(sources[0], EventStream):
        return sources[0]
    lanes = [opened(source) for source in sources]
    unions = [source.events for source in sources if isinstance(source, EventStream)]
    known = [union for union in unions if union is not None]
    events = reduce(lambda a, b: a | b, known) if len(known) == len(sources) else None
    return EventStream(_merged(lanes), events, behind=lanes)


class _Joins(Protocol):
    """A stream that can be read as one with others of its kind."""

    def joined(self, others: Sequence[Any], /) -> EventStream[Any]:
        """Return one stream for this and others; those are not read themselves."""
        raise NotImplementedError


def _joined(sources: tuple[AsyncIterable[Any], ...]) -> tuple[AsyncIterable[Any], ...]:
    # In merges among them too: two vectors of ids in one stream would be half of the truth each.
    lanes = [lane for source in sources for lane in _apart(source)]
    joining = [lane for lane in lanes if callable(getattr(type(lane), "joined", None))]
    if len(joining) < 2:
        return sources
    others = tuple(lane for lane in lanes if lane not in joining)
    return (cast("_Joins", joining[0]).joined(joining[1:]), *others)


class _Ended:
    """A source has ended; the last thing in its lane."""


@dataclass(slots=True)
class _Failed:
    error: BaseException


@dataclass(slots=True)
class _Arrived(Generic[T]):
    item: T
    taken: asyncio.Event


async def _merged(sources: Sequence[Closable[T]]) -> AsyncGenerator[T, None]:
    # One task a source reads it from start to end and closes it, so that what a generator opens in
    # one task it never closes in another. A plain list of tasks, because a task group or a cancel
    # scope must not be open at a yield.
    waiting: deque[_Arrived[T] | _Failed | _Ended] = deque()
    arrival = asyncio.Event()

    def hand_over(item: T, taken: asyncio.Event) -> None:
        if closing:
            raise asyncio.CancelledError  # again: the source has swallowed it, and yielded
        taken.clear()
        waiting.append(_Arrived(item, taken))
        arrival.set()

    async def drive(source: Closable[T]) -> None:
        taken = asyncio.Event()
        try:
            async with aclosing(source):
                async for item in source:
                    hand_over(item, taken)
                    await taken.wait()
        except BaseException as error:  # the reader's, whatever it is
            waiting.append(_Failed(error))
        else:
            waiting.append(_Ended())
        arrival.set()

    closing = False
    failure: BaseException | None = None
    tasks = [asyncio.create_task(drive(source)) for source in sources]
    running = len(tasks)
    try:
        while running and failure is None:
            while not waiting:
                arrival.clear()
                await arrival.wait()
            turn = waiting.popleft()
            if isinstance(turn, _Arrived):
                turn.taken.set()
                yield turn.item
            elif isinstance(turn, _Failed):
                failure = turn.error
            else:
                running -= 1
    finally:
        closing = True
        for task in tasks:
            task.cancel()
        await _all_done(tasks)
        for late in waiting:
            if isinstance(late, _Failed) and not isinstance(late.error, asyncio.CancelledError):
                if failure is None:
                    failure = late.error
                else:
                    asyncio.get_running_loop().call_exception_handler(
                        {
                            "message": "a merged stream failed while it was closed",
                            "exception": late.error,
                        }
                    )
        if failure is not None:
            raise failure


async def _all_done(tasks: Sequence[asyncio.Task[None]]) -> None:
    interrupted: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            interrupted = error  # the sources' cleanup comes first
    if interrupted is not None:
        raise interrupted
