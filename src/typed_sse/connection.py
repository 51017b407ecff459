"""Connection: the sending side of one client's stream, in the one task that reads its source.

Starts the response, sends what is ready in one piece, serialises sends, keeps the connection alive,
lets go of readers that stall, closes the source and says how the stream has ended. Knows asyncio,
the messages of ASGI and a transport; nothing of requests, of who leaves, or of how a frame looks.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeAlias

from typed_sse.errors import SendTimeout
from typed_sse.registry import EndCause, StreamRecord
from typed_sse.servers import Transport, let_go_after
from typed_sse.sources import Outlet, Sendable, encode
from typed_sse.stepping import Resumed, Stepped
from typed_sse.wheel import wheel_of
from typed_sse.wire import unended

# What the ASGI specification says; Starlette's names for it are the same types.
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

# A generator that never waits would keep the loop to itself: after so much it makes way.
_FRAMES_A_TURN = 64
_BYTES_A_TURN = 32 * 1024
LAST_CALL_S = 1.0
"""What whoever was told to end has left to do so."""

# How long a reader may take for what is left when the server shuts down, and when its time is over.
_FAREWELL_S = 1.0
_LAST_SEND_S = 30.0


class ClientGoneError(Exception):
    """The server refused a send because the client is no longer there."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When a connection acts by itself, in seconds; infinity for never.

    Attributes:
        start_within_s: after this, the headers go out without an event.
        ping_s: after so long without a send, a keep-alive goes out.
        send_timeout_s: so long may a send take.
        lifetime_s: after this, the stream ends.
        drain_grace_s: so long the source goes on after a drain has begun.
    """

    start_within_s: float
    ping_s: float
    send_timeout_s: float
    lifetime_s: float
    drain_grace_s: float


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames that do not come from the source; each is made when it is needed."""

    ping: Callable[[], Sendable]
    error: Callable[[Exception], bytes]
    end: Callable[[StreamRecord], bytes]
    farewell: Callable[[], bytes]


class Connection:
    """The sending side of one client's stream.

    Attributes:
        loop: the loop in which it runs.
        context: the request's context variables, in which the task runs, and what the clock starts.
        over: nobody has to end the stream any more: it has ended, or is ending.
        when_over: called when it comes to that.
        started: the task has made its first step, so it closes the source itself.
        complete: the body has ended properly.
        gone: a send has found that the client is no longer there.
        cancelled: this class has cancelled the stream; a cancellation without it is the source's.
        failure: what the source, a keep-alive, a send or the data sender has ended the stream with.
        task: what sends, and closes the source; `None` when it has ended, or is parked.
        raised: what has come out of its task: that the source was cancelled by itself, or worse.
        parked: it has no task while the source has nothing to read, which it tells us by itself.

    Invariants:
    1. One send at a time, and the response's start is the first.
    2. `_sending_since` is set while a send is under way, and only then; who waits for its end has
       made `_sent`.
    3. While the stream runs and a limit is set, the loop's wheel calls `watch` when the next thing
       of `Timing` is due or before, and `_spoke` says where. Once `_closed` is set it does not.
    4. `_parting` is set once the stream is to end with a last frame of ours.
    5. `at_source` is set while the task is in the source's code, and `reading` while it waits
       there: an ending that can wait for a send does not take from the reader what was yielded.
    6. `_cancellable` is set while the task reads or sends, and not while it closes the source or
       waits for helpers: a `finally` is not cut short.
    7. While it is parked, nobody has closed the source, `task` is not set, and the response has
       begun; `_wake` starts another task for whatever takes time.
    """

    # What a connection holds while it waits is counted by bench/counts.py.
    __slots__ = (
        "__weakref__",
        "_batch",
        "_broken",
        "_cancellable",
        "_closed",
        "_farewell",
        "_frames",
        "_helpers",
        "_opened_at",
        "_parting",
        "_record",
        "_retired",
        "_retires_at",
        "_retires_by",
        "_send",
        "_send_timeout_s",
        "_sending_since",
        "_sent",
        "_sent_at",
        "_spoke",
        "_start",
        "_timing",
        "_transport",
        "_wheel",
        "at_source",
        "cancelled",
        "complete",
        "context",
        "failure",
        "gone",
        "loop",
        "over",
        "parked",
        "raised",
        "reading",
        "started",
        "task",
        "when_over",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        send: Send,
        start: Message,
        timing: Timing,
        frames: Frames,
        record: StreamRecord,
        transport: Transport | None,
    ) -> None:
        self.failure: Exception | None = None
        self.raised: BaseException | None = None
        self.started = self.complete = self.gone = self.cancelled = self.parked = False
        self.loop = loop
        self.over = False
        self.when_over: Callable[[], None] | None = None
        self._parting = self._cancellable = self._broken = self._closed = False
        self.at_source = self.reading = False
        self._retired: EndCause | None = None
        self._farewell = b""
        self._send = send
        self._start: Message | None = start
        self._timing = timing
        self._frames = frames
        self._record = record
        self._transport = transport
        self._send_timeout_s = timing.send_timeout_s
        self._batch: list[bytes] = []
        self._sending_since: float | None = None
        self._sent: asyncio.Event | None = None
        self._opened_at = self._sent_at = self.loop.time()
        self._retires_at = self._opened_at + timing.lifetime_s
        self._retires_by = EndCause.LIFETIME
        self.task: asyncio.Task[None] | None = None
        self.context = copy_context()
        self._wheel = wheel_of(self.loop)
        self._spoke: int | None = None
        self._helpers: set[asyncio.Task[None]] | None = None

    @property
    def begun(self) -> bool:
        """Whether the response has begun: from here on an error has no status of its own."""
        return self._start is None

    def stream(
        self,
        source: Outlet[object],
        data_sender: Callable[[], Coroutine[object, object, object]] | None,
    ) -> None:
        """Send the whole response and close the source, in a task.

        `failure` or `raised` is set at its end where the stream did not end well.
        """
        work = Stepped(self, self._run(source, data_sender))
        task = self.task = self.loop.create_task(work, context=self.context)
        task.add_done_callback(self._done)
        if self.cancelled and self._cancellable:
            task.cancel()  # an eager task has made its first step already

    def cause(self, *, client_left: bool) -> EndCause:
        """Return why the stream has ended."""
        if isinstance(self.failure, SendTimeout):
            return EndCause.SEND_TIMEOUT
        if self.failure is not None:
            return EndCause.FAILED
        if client_left or self.gone:
            return EndCause.CLIENT_LEFT
        if self._retired is not None:
            return self._retired
        return EndCause.COMPLETE if self.complete else EndCause.CANCELLED

    def stop(self) -> None:
        """Cancel the stream where it stands, unless it is ending by itself."""
        if not self.over:
            self.close()
            self._cancel()

    def close(self) -> None:
        """Do nothing more by the clock."""
        self._closed = True
        if self._spoke is not None:
            self._wheel.remove(self, self._spoke)
            self._spoke = None

    def drain(self, farewell: bytes) -> None:
        """Let the source go on for its grace period; then close it, send `farewell` and end."""
        if self._closed:
            return
        self._farewell = self._farewell or farewell
        grace_is_over = self.loop.time() + self._timing.drain_grace_s
        if self._timing.drain_grace_s == 0:
            self._retire(EndCause.DRAINED)
        elif grace_is_over < self._retires_at:
            self._retires_at, self._retires_by = grace_is_over, EndCause.DRAINED
        self._look_ahead()

    def _retire(self, cause: EndCause) -> None:
        self._retires_at = math.inf
        # A reader that takes nothing must hold up neither a shutdown nor the end of its own time.
        limit_s = _FAREWELL_S if cause is EndCause.DRAINED else _LAST_SEND_S
        self._send_timeout_s = min(self._send_timeout_s, limit_s)
        if self._sending_since is not None:
            self._sending_since = self.loop.time()
        if not self._parting and not self.cancelled:
            self._retired = cause
            self._farewell = self._farewell or self._frames.farewell()
            self._part()

    def _part(self) -> None:
        """End the stream with a last frame, after the send that is under way."""
        self._parting = True
        if self.reading:
            self._cancel()
        self._end()
        self._wake()

    def _wake(self) -> None:
        """Start a task again, where it is parked."""

    def _cancel(self) -> None:
        self.cancelled = True
        if self._cancellable and self.task is not None:
            # Once: what the source does in answer is not to be cut short.
            self._cancellable = False
            self.task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        if task is not self.task:
            return  # it was parked meanwhile
        self.task = None  # no circle: the task has the coroutine that has the connection
        self.raised = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._end()

    def _end(self) -> None:
        if not self.over:
            self.over = True
            if self.when_over is not None:
                self.when_over()

    async def _run(
        self,
        source: Outlet[object],
        data_sender: Callable[[], Coroutine[object, object, object]] | None,
    ) -> None:
        first, self.started = not self.started, True
        try:
            try:
                try:
                    if first:
                        self._look_ahead()
                        if data_sender is not None:
                            self._help(data_sender)
                    if not self._parting and not self.cancelled:
                        await self._put_all(source)
                        if source.pushing is not None:
                            self._park()
                finally:
                    if not self.parked:
                        await source.aclose()
            except asyncio.CancelledError:
                if not self._parting or self.task is None:
                    raise
                self.task.uncancel()
            except Exception as error:
                self._note(error)
            if self.parked:
                return
            try:
                await self._put_last()
            except Exception as error:
                self._note(error)
        finally:
            if not self.parked:
                self._cancellable = False
                self.close()
                if self._helpers:
                    for helper in self._helpers:
                        helper.cancel()
                    await asyncio.gather(*self._helpers, return_exceptions=True)

    def _park(self) -> None:
        """Let the task end here, and come back later, where the source can be parked."""

    async def _put_all(self, source: Outlet[object]) -> None:
        """Send what the source yields; what is ready at once leaves in one piece.

        An item that comes while the task has not waited was ready. Before the task waits for the
        source, `source_waits` sends what was ready, so that no event is held back. What is still
        ready when the stream is to end is sent too, as far as one turn goes.
        """
        batch = self._batch
        size = 0
        after_parting = _FRAMES_A_TURN
        self._cancellable = self.at_source = True
        try:
            async for item in source.items:
                if self.cancelled:
                    self._record.dropped += 1
                    break  # it yields in answer to its cancellation: closing it ends it
                frame = source.encode(item)
                size = size + len(frame) if batch else len(frame)
                batch.append(frame)
                if (
                    size >= _BYTES_A_TURN
                    or len(batch) >= _FRAMES_A_TURN
                    or self._sending_since is not None
                ):
                    self.at_source = False
                    await self._put_batch()
                    await asyncio.sleep(0)
                    self.at_source = True
                if self._parting:
                    after_parting -= 1
                    if after_parting == 0:
                        break
            self.at_source = False
            if batch:
                await self._put_batch()
        except ClientGoneError:
            raise
        except asyncio.CancelledError:
            self.at_source = False
            if batch and not self.cancelled:
                await self._put_batch()  # the source has raised it, without waiting
            raise
        except Exception as error:
            self.at_source = False
            self._note(error)  # now, since the send may fail as well
            if batch:
                await self._put_batch()
        finally:
            self._cancellable = self.at_source = False

    def source_waits(self) -> BaseException | None:
        """Send what is ready while the source waits: at once, or, where that takes time, beside it.

        A send that waited in the stream's task would be hit by a cancellation that is meant for the
        source, from a timeout of its own.
        """
        if self._batch:
            try:
                put = self._put_batch()
                waits_for = put.send(None)
            except StopIteration:
                pass
            except Exception as error:
                self._failed_beside(error)
            except BaseException as error:  # the source is to end with it
                return error
            else:
                self._help(lambda: Resumed(put, waits_for))
        if self._parting and not self.cancelled:
            self._cancel()  # it has nothing ready any more
        self.reading = True
        return None

    def _put_batch(self) -> Coroutine[object, object, None]:
        events = len(self._batch)
        try:
            piece = b"".join(self._batch)
        except BaseException:
            self._record.dropped += events
            raise
        finally:
            self._batch.clear()
        return self._put(piece, events)

    async def _put_last(self) -> None:
        """Say how the stream has ended, unless nobody is there or it has not begun to fail at."""
        if self._broken or self.gone or (self.cancelled and not self._parting):
            return
        self._cancellable = True
        if self.failure is not None:
            if not self.begun or isinstance(self.failure, SendTimeout):
                return
            last = self._farewell + self._frames.error(self.failure)
        elif self._farewell:
            # A source may end in answer to its cancellation: that is no clean end.
            self._retired = self._retired or EndCause.DRAINED
            last = self._farewell
        else:
            last = self._frames.end(self._record)
        await self._put(last, more=False)
        self.complete = True

    async def _put(self, body: bytes, events: int = 0, *, more: bool = True) -> None:
        """Send a piece of the body, and the response's start before the first."""
        try:
            while self._sending_since is not None:
                self._sent = self._sent or asyncio.Event()
                await self._sent.wait()
            self._sending_since = self.loop.time()
            try:
                if self._start is not None:
                    start, self._start = self._start, None
                    await self._send(start)
                await self._send({"type": "http.response.body", "body": body, "more_body": more})
            finally:
                self._sending_since = None
                self._sent_at = self._record.last_send_at = self.loop.time()
                if self._sent is not None:
                    self._sent.set()
                    self._sent = None
        except BaseException as error:
            self._record.dropped += events
            if isinstance(error, OSError) and not isinstance(error, TimeoutError):
                self.gone = True  # how ASGI 2.4 and later says that the client has left
                raise ClientGoneError from error
            self._broken = self._broken or isinstance(error, Exception)
            raise
        self._record.events += events
        self._record.bytes += len(body)

    def watch(self) -> None:
        """Do what is due: the wheel calls this, at first half a second after the start."""
        self._look_ahead()
        transport, self._transport = self._transport, None
        if transport is not None:
            # Only now, because it costs 10 µs. A little later than a send that waits, so that the
            # end has the right cause.
            let_go_after(transport, self._timing.send_timeout_s + LAST_CALL_S)

    def _look_ahead(self) -> None:
        """Do what is due, and look again when the next thing is."""
        if self._closed:
            return
        if self._spoke is not None:
            self._wheel.remove(self, self._spoke)
            self._spoke = None
        now = self.loop.time()
        # Never further away than the send timeout: a send that starts later is then seen in time.
        due = now + self._send_timeout_s
        if self._sending_since is not None:
            due = self._sending_since + self._send_timeout_s
            if now >= due:
                self._fail(SendTimeout(self._send_timeout_s))
                return
        elif not self.begun:
            starts_at = self._opened_at + self._timing.start_within_s
            if now >= starts_at:
                self._help(self._put_start)
            else:
                due = min(due, starts_at)
            due = min(due, now + self._timing.ping_s)
        elif now >= self._sent_at + self._timing.ping_s:
            self._help(self._put_ping)
            due = min(due, now + self._timing.ping_s)
        else:
            due = min(due, self._sent_at + self._timing.ping_s)
        if now >= self._retires_at:
            self._retire(self._retires_by)
            due = min(due, now + self._send_timeout_s)
        due = min(due, self._retires_at)
        if due < math.inf:
            self._spoke = self._wheel.add(self, due)

    async def _put_start(self) -> None:
        await self._put(b"")  # some servers keep the headers until there is a piece of a body

    async def _put_ping(self) -> None:
        await self._put(unended(encode(self._frames.ping())))

    def _help(self, work: Callable[[], Awaitable[object]]) -> None:
        helper = self.loop.create_task(self._helping(work))
        if self._helpers is None:
            self._helpers = set()
        self._helpers.add(helper)
        helper.add_done_callback(self._helpers.discard)

    async def _helping(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except Exception as error:
            self._failed_beside(error)

    def _failed_beside(self, error: Exception) -> None:
        if isinstance(error, ClientGoneError):
            self._cancel()
            self._wake()
        else:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._note(error)
        if isinstance(error, SendTimeout) or self._broken:
            self._parting = False
            self._cancel()
            self._end()
            self._wake()
        elif not self.cancelled and not self._parting:
            self._part()

    def _note(self, error: Exception) -> None:
        if isinstance(error, ClientGoneError):
            return  # `gone` says so
        if self.failure is None:
            self.failure = error
        elif self.failure is not error:
            self.failure.__cause__ = error
