"""EventSourceResponse: an event stream as the answer to one HTTP request.

The request's own task waits for the client to leave; a second one, of the connection, reads the
source, sends its frames and closes it. Knows Starlette and anyio, and what a response may be asked
for; knows nothing of how a frame looks.
"""

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar, cast

import anyio
from pydantic import ValidationError
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from typed_sse.connection import LAST_CALL_S, Connection, Frames, Timing
from typed_sse.control import EndInfo, ErrorInfo, StreamEnd, StreamError
from typed_sse.drain import current_drain, farewell
from typed_sse.errors import (
    AccessDenied,
    InvalidField,
    InvalidPayload,
    SendTimeout,
    UndeclaredEvent,
    UsageError,
)
from typed_sse.events import BaseEvent
from typed_sse.limits import StreamLimit
from typed_sse.parking import LiveConnection
from typed_sse.registry import EndCause, Registry, StreamRecord, process_registry
from typed_sse.servers import Transport, cut_unless_read, let_go_after, route_of, transport_of
from typed_sse.sources import Sendable, outlet_of
from typed_sse.waiting import client_left, disconnected, finished
from typed_sse.wire import ServerSentEvent

logger = logging.getLogger("typed_sse")

# So long may what is still buffered at a stream's end take, and whatever a connection that is kept
# carries afterwards: a paused download must not be taken for a reader of events that stalls.
_LINGER_S = 60.0

# About thirty years; beyond it, floats and timers give up in ways of their own.
_LONGEST_S = 1e9

# So far on either side of `max_lifetime`, so that streams that began together do not end together.
_JITTER = 0.1

# So many keep-alives may be missing before a reader takes the connection for dead.
_IDLE_PINGS = 3

_PING = ServerSentEvent(comment="ping")


def _default_ping() -> ServerSentEvent:
    return _PING


def _no_end(_: StreamRecord) -> bytes:
    return b""


def _end(stream: StreamRecord) -> bytes:
    return StreamEnd(EndInfo(events=stream.events)).encode()


class EventSourceResponse(Response):
    """Stream events to one client, keep the connection alive, and close the source.

    Args:
        content: what to send: an `EventStream`, or any async or sync iterable of typed events,
            `ServerSentEvent`s, dicts of their fields, or strings (each one event's data). The
            streams of aiostream are entered and left. A sync iterable is read in a thread.
        status_code: 200 by default; browsers take no other.
        headers: further headers. They win over the defaults `Cache-Control: no-cache,
            no-transform` and `X-Accel-Buffering: no`.
        background: what Starlette runs after the response, also when the client has left; not
            after an error.
        ping: seconds without an event after which a keep-alive is sent: 15 by default
            (`DEFAULT_PING_INTERVAL`), 0 for none.
        ping_message_factory: makes the keep-alive; by default the comment `ping`.
        data_sender_callable: a coroutine function that runs beside the stream, to feed what
            `content` reads from. It is cancelled when the stream ends.
        send_timeout: seconds that one send may wait for the client to take bytes: 30 by default,
            `None` for no limit. Where the server lets us reach the connection (uvicorn does), it
            is closed at once, and on Linux a client that acknowledges nothing for so long is let
            go even if no send waits.
        client_close_handler_callable: called with the ASGI message when the client has left.
        cleanup_timeout: seconds that the source's `finally` may take: 30 by default, `None` for no
            limit. Cleanup that takes longer is logged and left behind.
        start_within: seconds that the status and the headers wait for the first event: 0.5 by
            default, `None` for as long as it takes. An error before that is an ordinary error with
            a status of its own.
        on_error: maps an exception to the event that tells the reader of it: a `StreamError`, or
            an event of your own, which is followed by the default one; `None` for the default
            alone.
        end_event: whether a stream that is complete ends with `stream.end`; not by default.
        max_lifetime: seconds after which the stream ends with a `retry`, give or take a tenth at
            random; no limit by default.
        drain_grace: seconds that the source goes on after a drain has begun: 0 by default. It
            learns of it from the `Drain`, and may end by itself before.
        idle_limit: seconds of silence after which a reader may take the connection for dead; told
            in the header `Stream-Idle-Limit`, which our clients heed. Three times `ping` by
            default, and not told where that is off.
        limit: refuses the stream with 429 where too many are open.
        registry: where the stream is counted: `process_registry` by default.

    Raises:
        InvalidField: `content` is not iterable; a number is negative, beyond 1e9, or no number; or
            `ping` is off, or not shorter than `idle_limit`.

    Calling the response streams. It raises what the source raises, after everything that was
    yielded before has been sent. Before the response has begun, that is an error like any other
    endpoint's, and an `HTTPException` has its own status. Afterwards the reader is told by
    `stream.error`, which says nothing of the exception unless it is an `HTTPException` or
    `on_error` says so, and the body is ended. `UndeclaredEvent` is raised when the source yields
    what cannot be sent. A reader that stalls has its connection closed; where the server lets
    nobody reach that, `SendTimeout` is raised, so that the server closes it. When a `Drain`
    begins or the lifetime is over, the source is closed, and the stream ends with a last `retry`
    and a terminated body.

    Cancellation: when the client leaves, or the request is cancelled, the source is cancelled where
        it waits. Its `finally` then completes, shielded, in the task that read it, before the call
        returns.

    Ordering: sends never overlap; a keep-alive goes out between events.

    Limits: what is due by the clock is up to a sixteenth of a second late. Events that are ready
        at once leave together, at most 64 of them or 32 KiB and one event
        more; while a send waits, the source is read one event further at most. HEAD is answered
        with the headers alone, and the source is closed unread. A response answers one request.
    """

    media_type = "text/event-stream"
    raw_headers: list[tuple[bytes, bytes]]
    DEFAULT_PING_INTERVAL: ClassVar[float] = 15.0

    def __init__(
        self,
        content: AsyncIterable[Sendable] | Iterable[Sendable],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        background: BackgroundTask | None = None,
        ping: float | None = None,
        ping_message_factory: Callable[[], Sendable] | None = None,
        data_sender_callable: Callable[[], Coroutine[object, object, object]] | None = None,
        send_timeout: float | None = 30.0,
        client_close_handler_callable: Callable[[Message], Awaitable[None]] | None = None,
        cleanup_timeout: float | None = 30.0,
        start_within: float | None = 0.5,
        on_error: Callable[[Exception], BaseEvent[object] | None] | None = None,
        end_event: bool = False,
        max_lifetime: float | None = None,
        drain_grace: float = 0.0,
        idle_limit: float | None = None,
        limit: StreamLimit | None = None,
        registry: Registry = process_registry,
    ) -> None:
        ping = self.DEFAULT_PING_INTERVAL if ping is None else ping
        timing = (start_within, ping, send_timeout, max_lifetime, drain_grace)
        try:
            self._timing = _timing(*timing)
        except TypeError:  # something that cannot be a key: no number, and this says so
            self._timing = _timing.__wrapped__(*timing)
        self._cleanup_timeout_s = _or_never("cleanup_timeout", cleanup_timeout)
        if idle_limit is not None:
            _check_idle_limit(idle_limit, ping)
        self._source = outlet_of(content)
        self._ping_message = ping_message_factory or _default_ping
        self._data_sender = data_sender_callable
        self._on_client_close = client_close_handler_callable
        self._on_error = on_error
        self._end_frame = _end if end_event else _no_end
        self._limit = limit
        self._registry = registry
        self._used = False
        self.status_code = status_code
        self.background = background
        self.init_headers(headers)
        given = {name for name, _ in self.raw_headers}
        standing = _headers(ping, idle_limit)
        self.raw_headers += [header for header in standing if header[0] not in given]

    # Not a coroutine function itself: that is a coroutine less as long as the stream is open.
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]  # CoroutineType, to it
        self, scope: Scope, receive: Receive, send: Send
    ) -> Coroutine[Any, Any, None]:
        """Answer one request; see the class for what it raises and when it returns.

        Raises:
            UsageError: it has answered one already: its source was read, or closed.
        """
        if self._used:
            raise UsageError("this response has answered a request; make one for each")
        self._used = True
        if scope["type"] == "websocket":
            send = _denying(send)
        if self._limit is None and self.background is None:
            return self._answer(scope, receive, send)
        return self._answer_in_full(scope, receive, send)

    @property
    def control_events(self) -> type[BaseEvent[object]]:
        """The events that it may send of its own, as a union: `stream.error`, `stream.end`."""
        ends = self._end_frame is _end
        return cast("type[BaseEvent[object]]", StreamError | StreamEnd if ends else StreamError)

    async def aclose(self) -> None:
        """Close the source of a response that is not to be sent."""
        self._used = True
        with anyio.CancelScope(shield=True):
            await self._source.aclose()

    async def _answer_in_full(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._limit is None:
            await self._answer(scope, receive, send)
        elif not await self._admitted(self._limit, scope, receive, send):
            return
        if self.background is not None:
            await self.background()

    async def _admitted(
        self, limit: StreamLimit, scope: Scope, receive: Receive, send: Send
    ) -> bool:
        """Answer with the stream and return `True`, or refuse where the limit is reached."""
        with ExitStack() as place:
            try:
                admitted = place.enter_context(limit.place(HTTPConnection(scope)))
            except BaseException:
                await self.aclose()
                raise
            if admitted:
                await self._answer(scope, receive, send)
                return True
        self._registry.refuse()
        await self.aclose()
        retry_after_s = limit.retry_after_s
        refusal = JSONResponse(
            {"detail": f"Too many streams are open; try again in {retry_after_s} s."},
            status_code=429,
            headers={"retry-after": str(retry_after_s)},
        )
        # A denied handshake is `_denying`'s, here as for the stream.
        await refusal({"type": "http"}, receive, send)
        return False

    def _start(self) -> Message:
        return {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }

    async def _answer_head(self, send: Send) -> None:
        await self.aclose()
        await send(self._start())
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") == "HEAD":
            await self._answer_head(send)
            return
        loop = asyncio.get_running_loop()
        path, method = scope.get("path", ""), scope.get("method", "")
        record = StreamRecord(path, route_of(scope), method, loop.time())
        transport = self._transport(scope, receive)
        connection = self._opened(loop, send, record, transport)
        connection.stream(self._source, self._data_sender)
        drain = current_drain(loop)
        if drain is not None:
            drain.add(connection.drain)
        left: Message | None = None
        try:
            left = await client_left(receive, connection)
        finally:
            connection.stop()
            try:
                if connection.task is not None:
                    await finished(connection.task, self._cleanup_timeout_s, record.path)
                if connection.parked or not connection.started:
                    await self.aclose()
            finally:
                connection.close()
                # Servers say "disconnect" after a complete response as well.
                has_left = connection.gone or (left is not None and not connection.complete)
                cause = connection.cause(client_left=has_left)
                self._registry.remove(record, cause, connection.failure)
                if drain is not None:
                    drain.remove(connection.drain)
        if not connection.cancelled and connection.raised is not None:
            raise connection.raised  # the source itself has raised CancelledError, or worse
        if transport is not None:
            if isinstance(connection.failure, SendTimeout):
                transport.abort()
                await disconnected(receive)
                if connection.failure.__cause__ is None:
                    return  # the reader's doing; an error of the source's would be its cause
            if not has_left:
                let_go_after(transport, max(_LINGER_S, self._timing.send_timeout_s))
            if cause is EndCause.DRAINED:
                # The server would wait for what is buffered.
                cut_unless_read(transport, LAST_CALL_S)
        if has_left and self._on_client_close is not None:
            try:
                await self._on_client_close(left or {"type": "http.disconnect"})
            except Exception as error:
                if connection.failure is None:
                    raise
                connection.failure.add_note(f"client_close_handler_callable failed too: {error!r}")
        if isinstance(connection.failure, AccessDenied):
            # Not the program's error; begun, the stream has told it.
            if not connection.begun:
                raise HTTPException(403, "You may not read this.")
            return
        if connection.failure is not None:
            try:
                raise connection.failure
            finally:
                # What was not sent must not live on in a circle of error, traceback and frame.
                connection.failure = None

    def _transport(self, scope: Scope, receive: Receive) -> Transport | None:
        """Return the transport where it is of use, and this stream's alone."""
        # The streams of an HTTP/2 connection share one.
        if self._timing.send_timeout_s == math.inf or scope.get("http_version", "") >= "2":
            return None
        return transport_of(receive)

    def _opened(
        self,
        loop: asyncio.AbstractEventLoop,
        send: Send,
        record: StreamRecord,
        transport: Transport | None,
    ) -> Connection:
        """Count the stream, and return its connection."""
        frames = Frames(self._ping_message, self._error_frame, self._end_frame, farewell)
        timing = self._timing
        if timing.lifetime_s < math.inf:
            jitter = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
            timing = replace(timing, lifetime_s=timing.lifetime_s * jitter)
        self._registry.add(record)
        kind = Connection if self._source.pushing is None else LiveConnection
        return kind(loop, send, self._start(), timing, frames, record, transport)

    def _error_frame(self, error: Exception) -> bytes:
        frame = _default_error(error)
        try:
            own = None if self._on_error is None else self._on_error(error)
            told = b"" if own is None else _frame_of(own)
        except Exception:
            logger.exception("on_error has failed; the reader is told the default")
            return frame
        return told if isinstance(own, StreamError) else told + frame


def _frame_of(event: object) -> bytes:
    if not isinstance(event, BaseEvent):  # whatever it is, its own `encode` would be another
        raise UndeclaredEvent(type(event).__qualname__, ("BaseEvent",))
    return event.encode()


def _default_error(error: Exception) -> bytes:
    if isinstance(error, AccessDenied):
        info = ErrorInfo(code="access_denied", message="You may not read this.")
        return StreamError(info).encode()
    if not isinstance(error, HTTPException):
        return StreamError(ErrorInfo()).encode()
    code = f"http_{error.status_code}"
    try:
        return StreamError(ErrorInfo(code=code, message=error.detail)).encode()
    except (ValidationError, InvalidPayload):
        # FastAPI lets a detail be any JSON, and a text may be one that has no UTF-8.
        return StreamError(ErrorInfo(code=code)).encode()


def _denying(send: Send) -> Send:
    """Answer a WebSocket handshake with an HTTP response instead, as Starlette's responses do."""

    async def deny(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    return deny


# Made once for each set of values: 3 µs and 200 bytes a stream. Typed, since True equals 1.
@lru_cache(maxsize=64, typed=True)
def _timing(
    start_within: float | None,
    ping: float,
    send_timeout: float | None,
    max_lifetime: float | None,
    drain_grace: float,
) -> Timing:
    return Timing(
        start_within_s=_or_never("start_within", start_within),
        ping_s=_seconds("ping", ping) or math.inf,
        send_timeout_s=_or_never("send_timeout", send_timeout, above_zero=True),
        lifetime_s=_or_never("max_lifetime", max_lifetime, above_zero=True),
        drain_grace_s=_seconds("drain_grace", drain_grace),
    )


@lru_cache(maxsize=64)
def _headers(ping: float, idle_limit: float | None) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers that a response has unless it is given others."""
    standing = ((b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no"))
    idle_s = _IDLE_PINGS * ping if idle_limit is None else idle_limit
    if not idle_s:
        return standing
    # In plain decimals: clients read no exponent.
    shown = f"{idle_s:.3f}".rstrip("0").rstrip(".")
    return (*standing, (b"stream-idle-limit", shown.encode()))


def _check_idle_limit(idle_limit: float, ping: float) -> None:
    _seconds("idle_limit", idle_limit, above_zero=True)
    if not ping:
        raise InvalidField("idle_limit", idle_limit, "needs a keep-alive, and ping=0 is none")
    if ping >= idle_limit:
        reason = f"must be longer than the keep-alive's interval, ping={ping:g}"
        raise InvalidField("idle_limit", idle_limit, reason)


def _seconds(field: str, value: object, *, above_zero: bool = False) -> float:
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 <= value <= _LONGEST_S
        and not (above_zero and value == 0)
    ):
        return float(value)
    at_least = "more than 0" if above_zero else "0 or more"
    raise InvalidField(field, value, f"give a number of seconds, {at_least}")


def _or_never(field: str, value: object, *, above_zero: bool = False) -> float:
    return math.inf if value is None else _seconds(field, value, above_zero=above_zero)
