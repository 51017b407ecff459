"""AsyncEventSource: typed events from a URL, over as many connections as it takes.

A thin shell around a `Session`: it carries its requests and its bytes, waits as long as it is told,
and hands on its events. Its twin for threads, `EventSource`, is offered here too. Knows httpx2 as
what may be given to it, and tasks; nothing of policies.
"""

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, cast, overload

import httpx2
from typing_extensions import TypeForm, Unpack

from typed_sse.client_sync import EventSource
from typed_sse.errors import BrokenError, NotAStream, UsageError
from typed_sse.events import BaseEvent, EventUnion
from typed_sse.over_httpx2 import AsyncHTTPX2, own_tls
from typed_sse.reconnect import Connect, Read, ReconnectPolicy, Stop, Wait
from typed_sse.session import (
    START_BYTES,
    START_S,
    ClientState,
    Headers,
    Options,
    Session,
    Skip,
    Unknown,
    session_of,
    waiting,
)
from typed_sse.transport import AsyncAnswer, AsyncTransport, Lost
from typed_sse.wire import ServerSentEvent

__all__ = ["AsyncEventSource", "ClientState", "EventSource", "ReconnectPolicy"]

# So much may have been read that nobody has taken yet, so that chunks of one event need no turns.
_AHEAD_BYTES = 65_536

T = TypeVar("T")
U = TypeVar("U")
E = TypeVar("E", bound=BaseEvent[object])


class AsyncEventSource(AsyncIterator[T], Generic[T]):
    """The events of a URL, typed, over as many connections as it takes.

    `async with AsyncEventSource(url, Token | Done) as source: async for event in source: …` yields
    each event as its class. The connection is made when the first event is asked for. When it is
    lost, or ends, another one is made as `policy` says, which by default is what browsers do, and
    resumes behind the last id. Iterating ends, and the connection is closed, after `stream.end`,
    an event of a class that is `terminal`, or a 204; where it cannot go on, with an error.

    Args:
        url: absolute, `http` or `https`.
        events: an event class, a union of them, or an `EventUnion`. Without it, and without
            `decode`, events are yielded as they come, control events too.
        decode: makes a value of a received event, where there is no union; a `ValueError` says that
            it does not fit.
        unknown: what becomes of an event whose name is not in the union: `raise`, the default,
            `skip`, or `yield` it as it came.
        client: sends the requests: an `httpx2.AsyncClient`, with its authentication, proxies and
            TLS, or another `AsyncTransport`. It stays the caller's to close, and many sources may
            share one; its `Limits` count open streams. By default a client of the source's own,
            which follows redirects.
        options: further ones, by keyword:

            - `method`: `GET`, or `POST` where there is a body.
            - `headers`: a mapping, or a function, or a coroutine function, that returns one and is
              called at each attempt. They win over our own `Accept` and `Cache-Control`.
            - `params`: what is added to the URL's query.
            - `json`, `content`: the body, as a value, which may be a Pydantic model, or as bytes.
            - `last_event_id`: the id to begin behind, as this or another process has kept it.
            - `malformed`: what becomes of data that does not fit: `raise`, the default, or `skip`.
            - `terminal`: further names of events after which nothing follows.
            - `sentinel`: data after which nothing follows and which is not yielded, as `[DONE]`.
            - `policy`: a `ReconnectPolicy`.
            - `max_event_bytes`: the most bytes of one event: 16 MiB by default.
            - `on_state`: called with a `ClientState` at each change.

    Attributes:
        last_event_id: the last id up to the event that was yielded last, or behind it where nothing
            else has come: keep it once that event is dealt with, to go on behind it in another
            process.

    Raises:
        InvalidField: an option cannot be used.
        InvalidDeclaration: the union is none.

    Iterating raises what ends it: `NotAStream` where the answer is no event stream,
    `ConnectionFailed` where the policy is not to come back, `StreamFailed` after a `stream.error`,
    `EventTooLarge`. It also raises what does not end it: `MalformedPayload`, `UnknownEvent`, and
    `Lagged` at a gap in a channel; who goes on iterating gets the next event. A control event whose
    class is in the union is yielded instead.

    Cancellation: asking for an event may be cancelled; nothing is lost, and the next one who asks
        gets it.

    Ordering: events come in the order of the wire, each once; one task asks at a time.

    Limits: what is read ahead is 64 KiB and a chunk, which has 64 KiB at the most with httpx2, and
        the event that has begun in it. A compressed chunk is taken apart whole, to a thousand times
        its size. A task a source, which `aclose` ends; a source that is dropped while it is open
        is closed when it is collected.
    """

    # One overload for each form of `events`: to mypy, `Token | Done` is a union only where nothing
    # but a TypeForm is expected.
    @overload
    def __init__(
        self: "AsyncEventSource[E]",
        url: str,
        events: EventUnion[E],
        *,
        unknown: Literal["raise", "skip"] = "raise",
        client: httpx2.AsyncClient | AsyncTransport | None = None,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: "AsyncEventSource[E]",
        url: str,
        events: TypeForm[E],
        *,
        unknown: Literal["raise", "skip"] = "raise",
        client: httpx2.AsyncClient | AsyncTransport | None = None,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: "AsyncEventSource[E | ServerSentEvent]",
        url: str,
        events: EventUnion[E],
        *,
        unknown: Literal["yield"],
        client: httpx2.AsyncClient | AsyncTransport | None = None,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: "AsyncEventSource[E | ServerSentEvent]",
        url: str,
        events: TypeForm[E],
        *,
        unknown: Literal["yield"],
        client: httpx2.AsyncClient | AsyncTransport | None = None,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: "AsyncEventSource[U]",
        url: str,
        *,
        decode: Callable[[ServerSentEvent], U],
        client: httpx2.AsyncClient | AsyncTransport | None = None,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: "AsyncEventSource[ServerSentEvent]",
        url: str,
        *,
        client: httpx2.AsyncClient | AsyncTransport | None = None,
        **options: Unpack[Options],
    ) -> None: ...
    def __init__(
        self,
        url: str,
        events: object = None,
        *,
        decode: Callable[[ServerSentEvent], object] | None = None,
        unknown: Unknown = "raise",
        client: httpx2.AsyncClient | AsyncTransport | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._session = cast("Session[T]", session_of(url, events, decode, unknown, options))
        transport = AsyncHTTPX2(client) if isinstance(client, httpx2.AsyncClient) else client
        self._reader = _Reader(self._session, transport)
        self._ready = self._reader.ready

    def __del__(self) -> None:
        if hasattr(self, "_reader"):  # as it is not where an option was refused
            self._reader.drop()

    @property
    def last_event_id(self) -> str:
        """The id to go on behind, once the event that was yielded last is dealt with.

        Where nothing else is ready, that of a frame behind it that has no data counts too, as of a
        subscription's first. `""` where there is none.
        """
        if self._ready or self._reader.is_left or self._session.stop is not None:
            return self._session.last_event_id
        return self._session.reconnector.last_event_id

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def __anext__(self) -> T:
        while True:
            if not self._ready or self._session.stop is not None:
                await self._reader.more()
            got = self._session.take(self._ready.popleft())
            if not isinstance(got, Skip):
                return got

    async def messages(self) -> AsyncGenerator[ServerSentEvent, None]:
        """Yield the events as they come, control events too, in place of what is typed.

        Raises what iterating the source raises of the connection.
        """
        while True:
            if not self._ready or self._session.stop is not None:
                try:
                    await self._reader.more()
                except StopAsyncIteration:
                    return
            message = self._ready.popleft()
            self._session.note(message)
            yield message

    async def aclose(self) -> None:
        """Close the connection and end the iteration, also of another task that waits for it."""
        await self._reader.aclose()


class _Reader:
    """The task of a source, which connects and reads; it does not keep the source alive.

    Invariants:
    1. Events are in `ready` in the order of the wire, 64 KiB of them and a chunk at the most.
    2. What follows the end of a connection is decided once all of its events are taken and one more
       is asked for: only then it is known that none of them was the last.
    """

    def __init__(self, session: Session[Any], transport: AsyncTransport | None) -> None:
        self.ready: deque[ServerSentEvent] = deque()
        self._session = session
        self._transport = transport
        self._own: httpx2.AsyncClient | None = None
        self._task: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self.is_left = False
        self._asking = False
        self._ahead_bytes = 0
        self._closing = False
        self._over = False
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()

    def drop(self) -> None:
        """Close the connection, without waiting for that; from any thread."""
        task = self._task
        if task is None or task.done() or self._closing:
            return
        if not task.get_loop().is_closed():
            self._closing = True
            task.get_loop().call_soon_threadsafe(task.cancel)

    async def aclose(self) -> None:
        """Close the connection, and wait until that is done."""
        if not self.is_left:
            self.is_left = True
            if not self.ready and self._session.stop is None:
                self._session.last_event_id = self._session.reconnector.last_event_id
            # What was read and is not taken is for who comes back behind the last id.
            self.ready.clear()
        task = self._task
        try:
            if task is not None:
                if not self._closing:  # once: a second one would cut off how the first is obeyed
                    self._closing = True
                    task.cancel()
                if task is not asyncio.current_task():  # as in a function that makes headers
                    await asyncio.wait({task})
        finally:
            self._session.closed()

    async def more(self) -> None:
        """Wait until an event is ready; raise what ended it, or `StopAsyncIteration`."""
        if self._asking:
            raise UsageError("two tasks ask one source for an event; give each a source of its own")
        self._asking = True
        if self._session.stop is not None:
            self.ready.clear()  # what came behind the last event
        try:
            while not self.ready:
                if self._session.stop is not None or self._over:
                    await self.aclose()
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                if self._session.is_closed:
                    raise StopAsyncIteration
                self._ahead_bytes = 0
                self._news.clear()
                self._wanted.set()
                if self._task is None:  # an eager task has news before it is here
                    self._task = asyncio.create_task(self._run())
                await self._news.wait()
        finally:
            self._asking = False

    async def _run(self) -> None:
        """Connect, read and wait, as the reconnector says; the only task of the source."""
        session = self._session
        try:
            decision: Connect | Wait | Stop = session.reconnector.connect()
            while not isinstance(decision, Stop):
                if isinstance(decision, Connect):
                    decision = await self._attempt(decision)
                else:
                    session.now(waiting(decision))
                    await asyncio.sleep(decision.delay_s)
                    decision = session.reconnector.connect()
            self._error = session.error_of(decision)
        except asyncio.CancelledError:
            if not self._closing:
                self._error = BrokenError("the source's task was cancelled; use aclose to end it")
            raise
        except Exception as error:
            self._error = error
        finally:
            self._over = True
            self._news.set()
            if self._own is not None:
                await self._own.aclose()

    async def _attempt(self, connect: Connect) -> Wait | Stop:
        """Make one connection, and read it to its end."""
        session, clock = self._session, asyncio.get_running_loop().time
        session.now(ClientState("connecting", failures=session.reconnector.failures))
        try:
            request = session.request(connect, await self._headers())
            transport = self._transport or await self._own_transport()
            answer = await transport.send(request, answer_within_s=connect.answer_within_s)
            try:
                decision = session.reconnector.responded(answer.status, answer.headers, clock())
                if isinstance(decision, Read):
                    session.now(ClientState("open", failures=session.reconnector.failures))
                    await self._read(answer, decision)
                    return session.reconnector.ended(clock())
                if not isinstance(decision, Stop) or decision.error:
                    session.refuse(answer.url, answer.status, answer.headers, await _start(answer))
                return decision
            finally:
                await answer.aclose()
        except Lost as lost:
            return session.lose(lost, clock())

    async def _read(self, answer: AsyncAnswer, read: Read) -> None:
        """Read one connection to its end, no further ahead than the limit."""
        decoder, reconnector = self._session.decoder(), self._session.reconnector
        try:
            async with aclosing(answer.chunks(read.idle_s)) as chunks:
                async for chunk in chunks:
                    events = decoder.feed(chunk)
                    reconnector.received(len(events), decoder.last_event_id, decoder.retry_ms)
                    if events:
                        self.ready.extend(events)
                        self._news.set()
                        self._ahead_bytes += len(chunk)
                        if self._ahead_bytes >= _AHEAD_BYTES:
                            await self._all_taken()
        except Exception:
            await self._all_taken()
            raise
        # Only now is it known that none of them was the last.
        await self._all_taken()

    async def _all_taken(self) -> None:
        """Wait until all events are taken, and one more is asked for."""
        while self.ready or not self._asking:
            self._wanted.clear()
            await self._wanted.wait()

    async def _headers(self) -> Headers:
        given = self._session.settings.headers
        if not callable(given):
            return given or {}
        made = given()
        return await made if inspect.isawaitable(made) else made

    async def _own_transport(self) -> AsyncTransport:
        if self._own is None:
            tls = await asyncio.to_thread(own_tls)
            self._own = httpx2.AsyncClient(verify=tls, follow_redirects=True)
        return AsyncHTTPX2(self._own)


async def _start(answer: AsyncAnswer) -> bytes:
    """Return the first bytes of an answer that is no stream, as many as come soon."""
    start = bytearray()
    with suppress(Lost, NotAStream, TimeoutError):
        async with asyncio.timeout(START_S), aclosing(answer.chunks(START_S)) as chunks:
            async for chunk in chunks:
                start += chunk
                if len(start) >= START_BYTES:
                    break
    return bytes(start)
