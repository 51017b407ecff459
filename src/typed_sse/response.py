"""EventSourceResponse: an event stream as the answer to one HTTP request.

The request's own task waits for the client to leave; a second one, of the connection, reads the
source, sends its frames and closes it. The only file that knows Starlette and anyio; it knows
nothing of frames.
"""

import asyncio
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import ClassVar

import anyio
from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from typed_sse.connection import Connection
from typed_sse.drain import current_drain
from typed_sse.errors import InvalidField
from typed_sse.sources import Sendable, opened_for_sending
from typed_sse.wire import ServerSentEvent

logger = logging.getLogger("typed_sse")

# What cleanup that was cancelled at its deadline has left to end.
_LAST_CALL_S = 1.0

_DISCONNECTS = ("http.disconnect", "websocket.disconnect")

# About thirty years; beyond it, floats and timers give up in ways of their own.
_LONGEST_S = 1e9

_PING = ServerSentEvent(comment="ping")


def _default_ping() -> ServerSentEvent:
    return _PING


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
            `None` for no limit.
        client_close_handler_callable: called with the ASGI message when the client has left.
        cleanup_timeout: seconds that the source's `finally` may take: 30 by default, `None` for no
            limit. Cleanup that takes longer is logged and left behind.

    Raises:
        InvalidField: `content` is not iterable, or a number is negative, beyond 1e9, or no number.

    Calling the response streams. It raises what the source raises, after everything that was
    yielded before has been sent, and leaves the body unterminated, so that a client can tell a
    failure from the end; `UndeclaredEvent` when the source yields what cannot be sent; and
    `SendTimeout`. Nothing of an error reaches the client. When a `Drain` begins, the source is
    closed, and the stream ends with a last `retry` and a terminated body.

    Cancellation: when the client leaves, or the request is cancelled, the source is cancelled where
        it waits. Its `finally` then completes, shielded, in the task that read it, before the call
        returns.

    Ordering: sends never overlap; a keep-alive goes out between events.

    Limits: one frame at a time is in memory; a client that reads slowly slows the source down. HEAD
        is answered with the headers alone, and the source is closed unread.
    """

    media_type = "text/event-stream"
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
    ) -> None:
        self._source = opened_for_sending(content)
        self.status_code = status_code
        self.background = background
        self._ping_s = self.DEFAULT_PING_INTERVAL if ping is None else _seconds("ping", ping)
        self._ping_message = ping_message_factory or _default_ping
        self._data_sender = data_sender_callable
        self._send_timeout_s = (
            None
            if send_timeout is None
            else _seconds("send_timeout", send_timeout, above_zero=True)
        )
        self._on_client_close = client_close_handler_callable
        self._cleanup_timeout_s = (
            None if cleanup_timeout is None else _seconds("cleanup_timeout", cleanup_timeout)
        )
        self.init_headers(headers)
        self.headers.setdefault("cache-control", "no-cache, no-transform")
        self.headers.setdefault("x-accel-buffering", "no")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; see the class for what it raises and when it returns."""
        if scope["type"] == "websocket":
            send = _denying(send)
        start: Message = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        if scope.get("method") == "HEAD":
            await self._source.aclose()
            await send(start)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._stream(start, receive, send)
        if self.background is not None:
            await self.background()

    async def _stream(self, start: Message, receive: Receive, send: Send) -> None:
        connection = Connection(send, self._ping_s, self._ping_message, self._send_timeout_s)
        stream = connection.stream(start, self._source, self._data_sender)
        drain = current_drain()
        if drain is not None:
            drain.add(connection.drain)
        left: Message | None = None
        try:
            left = await _client_left(receive, connection.over)
        finally:
            if drain is not None:
                drain.remove(connection.drain)
            connection.stop()
            await _finished(stream, self._cleanup_timeout_s)
            if not connection.started:
                await self._source.aclose()
        # Servers say "disconnect" after a complete response as well.
        client_left = connection.gone or (left is not None and not connection.complete)
        if client_left and self._on_client_close is not None:
            await self._on_client_close(left or {"type": "http.disconnect"})
        late = stream.exception() if stream.done() and not stream.cancelled() else None
        if connection.failure is not None:
            raise connection.failure from late
        if late is not None:
            raise late
        if stream.cancelled() and not connection.cancelled:
            stream.result()  # the source itself has raised CancelledError


def _denying(send: Send) -> Send:
    """Answer a WebSocket handshake with an HTTP response instead, as Starlette's responses do."""

    async def deny(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    return deny


async def _client_left(receive: Receive, over: asyncio.Future[None]) -> Message | None:
    """Wait until the client leaves, and return its message, or `None` when the stream ends first.

    The stream's end interrupts `receive()` the way a timeout would: that costs no third task.
    """
    loop = asyncio.get_running_loop()
    interrupt = asyncio.timeout(None)
    waiting = True

    def stream_ended(_: asyncio.Future[None]) -> None:
        if waiting:
            interrupt.reschedule(loop.time())

    over.add_done_callback(stream_ended)
    try:
        async with interrupt:
            try:
                while True:
                    message = await receive()
                    if message["type"] in _DISCONNECTS:
                        return message
            finally:
                waiting = False
    except TimeoutError:
        if not interrupt.expired():
            raise  # the server's own
        return None


async def _finished(stream: asyncio.Task[None], limit_s: float | None) -> None:
    """Wait until a cancelled stream has closed its source, whatever happens to this task.

    After the limit the cleanup itself is cancelled, and after one more second it is left behind.
    """
    interrupted: asyncio.CancelledError | None = None
    loop = asyncio.get_running_loop()
    deadline = None if limit_s is None else loop.time() + limit_s
    # The scope keeps a middleware's cancelled scope out; a task's own cancellation comes once.
    with anyio.CancelScope(shield=True):
        while not stream.done():
            left_s = None if deadline is None else deadline - loop.time()
            try:
                if left_s is None or left_s > 0:
                    await asyncio.wait({stream}, timeout=left_s)
                else:
                    logger.warning("the source of a stream did not close in %g s", limit_s)
                    stream.cancel()
                    await asyncio.wait({stream}, timeout=_LAST_CALL_S)
                    break
            except asyncio.CancelledError as error:
                interrupted = error
    if interrupted is not None:
        raise interrupted


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
