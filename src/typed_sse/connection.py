"""Connection: the sending side of one client's stream, in the one task that reads its source.

Serialises sends, keeps the connection alive, lets go of readers that stall, and closes the source.
Knows asyncio and the messages of ASGI; knows nothing of requests, of who leaves, or of how a frame
looks.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from contextlib import aclosing
from typing import Any, TypeAlias

from typed_sse.errors import SendTimeout
from typed_sse.sources import Closable, Sendable, encode

# What the ASGI specification says; Starlette's names for it are the same types.
Message: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

# A generator that never waits would keep the loop to itself: after so many frames it makes way.
_FRAMES_A_TURN = 64
# How long a reader may take for the last frame when the server shuts down.
_FAREWELL_S = 1.0


class _ClientGoneError(Exception):
    """The server refused a send because the client is no longer there."""


class Connection:
    """The sending side of one client's stream.

    Attributes:
        over: done when nobody has to end the stream any more: it has ended, or drains.
        started: the task has made its first step, so it closes the source itself.
        complete: the body has ended properly.
        gone: a send has found that the client is no longer there.
        cancelled: this class has cancelled the stream; a cancellation without it is the source's.
        failure: what a keep-alive, a send timeout or the data sender has ended the stream with.

    Invariants:
    1. `send` is called under `_lock` only.
    2. `_sending_since` is set while a send is under way, and only then.
    3. While the stream runs and a limit is set, `_timer` is due at the latest when a keep-alive or
       a send timeout is: one timer a connection, none an event.
    """

    def __init__(
        self,
        send: Send,
        ping_s: float,
        ping_message: Callable[[], Sendable],
        send_timeout_s: float | None,
    ) -> None:
        self.failure: BaseException | None = None
        self.started = self.complete = self.gone = self.cancelled = False
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._farewell: bytes | None = None
        self._reading = False
        self._send = send
        self._ping_s = ping_s or math.inf
        self._ping_message = ping_message
        self._send_timeout_s = math.inf if send_timeout_s is None else send_timeout_s
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._sending_since: float | None = None
        self._sent_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._helpers: set[asyncio.Task[None]] = set()

    def stream(
        self,
        start: Message,
        source: Closable[object],
        data_sender: Callable[[], Coroutine[object, object, object]] | None,
    ) -> asyncio.Task[None]:
        """Start the task that sends the whole response and closes the source.

        The task ends early when it is cancelled, or with `failure` set.
        """
        self._task = asyncio.create_task(self._run(start, source, data_sender))
        self._task.add_done_callback(lambda _: self._end())
        return self._task

    def stop(self) -> None:
        """Cancel the stream, unless it is ending by itself."""
        if not self.over.done():
            self._cancel()

    def _cancel(self) -> None:
        self.cancelled = True
        self._task.cancel()

    def drain(self, farewell: bytes) -> None:
        """Close the source, send `farewell` and end the body."""
        if self._task.done():
            return
        self._farewell = farewell
        # A reader that takes nothing must not hold up the shutdown.
        self._send_timeout_s = min(self._send_timeout_s, _FAREWELL_S)
        self._watch()
        if self._reading:
            self._cancel()
        self._end()

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    async def _run(
        self,
        start: Message,
        source: Closable[object],
        data_sender: Callable[[], Coroutine[object, object, object]] | None,
    ) -> None:
        self.started = True
        try:
            try:
                async with aclosing(source):
                    await self._put(start)
                    self._watch()
                    if data_sender is not None:
                        self._help(data_sender())
                    if self._farewell is None:
                        await self._put_all(source)
            except asyncio.CancelledError:
                if self._farewell is None:
                    raise
                self._task.uncancel()
            # A source may end in answer to its cancellation: that is no clean end.
            if not self.cancelled or self._farewell is not None:
                await self._put_body(self._farewell or b"", more=False)
                self.complete = True
        except _ClientGoneError:
            self.gone = True
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for helper in self._helpers:
                helper.cancel()
            await asyncio.gather(*self._helpers, return_exceptions=True)

    async def _put_all(self, source: Closable[object]) -> None:
        self._reading = True
        sent = 0
        try:
            async for item in source:
                if self.cancelled:
                    break  # it yields in answer to its cancellation: closing it ends it
                await self._put_body(encode(item), more=True)
                sent += 1
                if sent % _FRAMES_A_TURN == 0:
                    await asyncio.sleep(0)
        finally:
            self._reading = False

    async def _put_body(self, body: bytes, *, more: bool) -> None:
        await self._put({"type": "http.response.body", "body": body, "more_body": more})

    async def _put(self, message: Message) -> None:
        async with self._lock:
            self._sending_since = self._loop.time()
            try:
                await self._send(message)
            except TimeoutError:
                raise
            except OSError as error:  # how ASGI 2.4 and later says that the client has left
                raise _ClientGoneError from error
            finally:
                self._sending_since = None
                self._sent_at = self._loop.time()

    def _watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        now = self._loop.time()
        # Never further away than the send timeout: a send that starts later is then seen in time.
        due = now + self._send_timeout_s
        if self._sending_since is not None:
            due = self._sending_since + self._send_timeout_s
            if now >= due:
                self._fail(SendTimeout(self._send_timeout_s))
                return
        elif now >= self._sent_at + self._ping_s:
            self._help(self._put_ping())
            due = min(due, now + self._ping_s)
        else:
            due = min(due, self._sent_at + self._ping_s)
        if due < math.inf:
            self._timer = self._loop.call_at(due, self._watch)

    async def _put_ping(self) -> None:
        await self._put_body(encode(self._ping_message()), more=True)

    def _help(self, work: Coroutine[object, object, object]) -> None:
        helper = asyncio.create_task(self._helping(work))
        self._helpers.add(helper)
        helper.add_done_callback(self._helpers.discard)

    async def _helping(self, work: Coroutine[object, object, object]) -> None:
        try:
            await work
        except _ClientGoneError:
            self.gone = True
            self._cancel()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.failure = self.failure or error
        self._cancel()
