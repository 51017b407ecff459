"""EventSource: what `AsyncEventSource` is, for threads; `client` offers both.

A thin shell around a `Session`: it carries its requests and its bytes, waits as long as it is told,
and hands on its events. Knows httpx2 as what may be given to it, and threads; nothing of policies.
"""

import inspect
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from types import TracebackType
from typing import Generic, Literal, Self, TypeVar, cast, overload

import httpx2
from typing_extensions import TypeForm, Unpack

from typed_sse.errors import InvalidField, NotAStream, UsageError
from typed_sse.events import BaseEvent, EventUnion
from typed_sse.over_httpx2 import HTTPX2, own_tls
from typed_sse.reconnect import Connect, Read, Stop, Wait
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
from typed_sse.transport import Answer, Lost, Transport
from typed_sse.wire import ServerSentEvent

T = TypeVar("T")
U = TypeVar("U")
E = TypeVar("E", bound=BaseEvent[object])


class EventSource(Iterator[T], Generic[T]):
    """What `AsyncEventSource` is, for threads: the same arguments, with `httpx2.Client`.

    `with EventSource(url, Token | Done) as source: for event in source: …`. Everything happens in
    the thread that asks for an event; `close` may be called by any other, and ends its wait.
    `headers` may be a function, but no coroutine function. A `KeyboardInterrupt` closes the
    connection.

    Limits: a connection that is being made, while another thread closes the source, is given up
        after the time limit for an answer at the latest. To end a read of another thread, `close`
        ends its connection, and over HTTP/2 what else is on it.
    """

    @overload
    def __init__(
        self: "EventSource[E]",
        url: str,
        events: EventUnion[E],
        *,
        unknown: Literal["raise", "skip"] = "raise",
        client: httpx2.Client | Transport | None = None,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: "EventSource[E]",
        url: str,
        events: TypeForm[E],
        *,
        unknown: Literal["raise", "skip"] = "raise",
        client: httpx2.Client | Transport | None = None,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: "EventSource[E | ServerSentEvent]",
        url: str,
        events: EventUnion[E],
        *,
        unknown: Literal["yield"],
        client: httpx2.Client | Transport | None = None,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: "EventSource[E | ServerSentEvent]",
        url: str,
        events: TypeForm[E],
        *,
        unknown: Literal["yield"],
        client: httpx2.Client | Transport | None = None,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: "EventSource[U]",
        url: str,
        *,
        decode: Callable[[ServerSentEvent], U],
        client: httpx2.Client | Transport | None = None,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: "EventSource[ServerSentEvent]",
        url: str,
        *,
        client: httpx2.Client | Transport | None = None,
        **options: Unpack[Options],
    ) -> None: ...
    def __init__(
        self,
        url: str,
        events: object = None,
        *,
        decode: Callable[[ServerSentEvent], object] | None = None,
        unknown: Unknown = "raise",
        client: httpx2.Client | Transport | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._session = cast("Session[T]", session_of(url, events, decode, unknown, options))
        self._own: httpx2.Client | None = None
        self._transport = HTTPX2(client) if isinstance(client, httpx2.Client) else client
        self._answer: Answer | None = None
        self._ready: deque[ServerSentEvent] = deque()
        self._closing = threading.Event()
        # Whose it is may be in `_received`.
        self._turn = threading.Lock()
        self._received = self._run()

    @property
    def last_event_id(self) -> str:
        """The id to go on behind; see `AsyncEventSource.last_event_id`.

        That of a frame without data counts once the next event is asked for.
        """
        return self._session.last_event_id

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __next__(self) -> T:
        ready, session = self._ready, self._session
        while True:
            if not ready or session.stop is not None:
                self._more()
            try:
                message = ready.popleft()
            except IndexError:  # another thread has closed it in between
                continue
            got = session.take(message)
            if not isinstance(got, Skip):
                return got

    def messages(self) -> Generator[ServerSentEvent, None, None]:
        """Yield the events as they come; see `AsyncEventSource.messages`."""
        ready, session = self._ready, self._session
        while True:
            if not ready or session.stop is not None:
                try:
                    self._more()
                except StopIteration:
                    return
            try:
                message = ready.popleft()
            except IndexError:  # another thread has closed it in between
                continue
            session.note(message)
            yield message

    def close(self) -> None:
        """Close the connection and end the iteration, also of another thread that waits for it."""
        self._closing.set()
        self._ready.clear()
        if self._turn.acquire(blocking=False):
            try:
                self._received.close()
            finally:
                self._turn.release()
            self._session.closed()
            return
        # Somebody is in it, and comes to its end: at once where a read fails. Otherwise nothing is
        # aborted, since over HTTP/2 that ends all streams of the connection.
        answer = self._answer
        if answer is not None:
            answer.abort()

    def _more(self) -> None:
        """Wait until an event is ready; raise what ended it, or `StopIteration`."""
        self._ready.clear()  # what came behind the last event, in its chunk
        if self._session.stop is not None or self._closing.is_set():
            self.close()
            raise StopIteration
        if not self._turn.acquire(blocking=False):
            if self._closing.is_set():  # by another thread, which is at it
                raise StopIteration
            raise UsageError("two threads ask one source for an event; give each its own")
        try:
            self._ready.extend(next(self._received))
        finally:
            self._turn.release()
        if self._closing.is_set():  # by another thread, which has left the rest to this one
            self.close()
            raise StopIteration

    def _run(self) -> Generator[list[ServerSentEvent], None, None]:
        """Connect, read and wait, as the reconnector says."""
        session = self._session
        try:
            decision: Connect | Wait | Stop = session.reconnector.connect()
            while not isinstance(decision, Stop) and not self._closing.is_set():
                if isinstance(decision, Connect):
                    decision = yield from self._attempt(decision)
                else:
                    session.now(waiting(decision))
                    self._closing.wait(decision.delay_s)
                    decision = session.reconnector.connect()
            if isinstance(decision, Stop) and not self._closing.is_set():
                error = session.error_of(decision)
                if error is not None:
                    raise error
        finally:
            if self._own is not None:
                self._own.close()
            session.closed()

    def _attempt(self, connect: Connect) -> Generator[list[ServerSentEvent], None, Wait | Stop]:
        """Make one connection, and read it to its end."""
        session = self._session
        session.now(ClientState("connecting", failures=session.reconnector.failures))
        try:
            request = session.request(connect, self._headers())
            transport = self._transport or self._own_transport()
            answer = transport.send(request, answer_within_s=connect.answer_within_s)
            self._answer = answer
            try:
                head = answer.status, answer.headers
                decision = session.reconnector.responded(*head, time.monotonic())
                if isinstance(decision, Read):
                    session.now(ClientState("open", failures=session.reconnector.failures))
                    yield from self._read(answer, decision)
                    return session.reconnector.ended(time.monotonic())
                if not isinstance(decision, Stop) or decision.error:
                    session.refuse(answer.url, *head, _start_of(answer))
                return decision
            finally:
                self._answer = None
                answer.close()
        except Lost as lost:
            return session.lose(lost, time.monotonic())

    def _read(self, answer: Answer, read: Read) -> Generator[list[ServerSentEvent], None, None]:
        """Yield the events of one connection, those of a chunk together."""
        if self._closing.is_set():  # while it connected, when there was nothing to abort
            return
        decoder = self._session.decoder()
        with closing(answer.chunks(read.idle_s)) as chunks:
            for chunk in chunks:
                if self._closing.is_set():
                    return
                events = decoder.feed(chunk)
                self._session.reconnector.received(
                    len(events), decoder.last_event_id, decoder.retry_ms
                )
                if events:
                    yield events
                # Also of a frame that is nothing but an id, as a subscription's first.
                self._session.last_event_id = decoder.last_event_id

    def _headers(self) -> Headers:
        given = self._session.settings.headers
        made = given() if callable(given) else given or {}
        if inspect.isawaitable(made):
            if inspect.iscoroutine(made):
                made.close()
            raise InvalidField("headers", given, "give a function that is no coroutine function")
        return made

    def _own_transport(self) -> Transport:
        if self._own is None:
            self._own = httpx2.Client(verify=own_tls(), follow_redirects=True)
        return HTTPX2(self._own)


def _start_of(answer: Answer) -> bytes:
    start = bytearray()
    until_s = time.monotonic() + START_S
    with suppress(Lost, NotAStream), closing(answer.chunks(START_S)) as chunks:
        for chunk in chunks:
            start += chunk
            if len(start) >= START_BYTES or time.monotonic() > until_s:
                break
    return bytes(start)
