"""Connection: the sending side of one client's stream, in the one task that reads its source.

Starts the response, sends what is ready in one piece, serialises sends, keeps the connection alive,
lets go of readers that stall, closes the source and says how the stream has ended. Knows asyncio
and the messages of ASGI; knows nothing of requests, of who leaves, or of how a frame looks.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeAlias

from typed_sse.errors import SendTimeout
from typed_sse.registry import EndCause, StreamRecord
from typed_sse.sources import Outlet, Sendable, encode

# What the ASGI specification says; Starlette's names for it are the same types.
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

# A generator that never waits would keep the loop to itself: after so much it makes way.
_FRAMES_A_TURN = 64
_BYTES_A_TURN = 32 * 1024
# How long a reader may take for what is left when the server shuts down, and when its time is over.
_FAREWELL_S = 1.0
_LAST_SEND_S = 30.0


# What a coroutine, or whatever else can be awaited, looks like to who steps it by hand.
_Step: TypeAlias = Generator[object, Any, object] | Coroutine[object, Any, object]


class _ClientGoneError(Exception):
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
        over: done when nobody has to end the stream any more: it has ended, or is ending.
        started: the task has made its first step, so it closes the source itself.
        begun: the response has begun: from here on an error has no status of its own.
        complete: the body has ended properly.
        gone: a send has found that the client is no longer there.
        cancelled: this class has cancelled the stream; a cancellation without it is the source's.
        failure: what the source, a keep-alive, a send or the data sender has ended the stream with.

    Invariants:
    1. `send` is called under `_lock` only, and the response's start is the first that is sent.
    2. `_sending_since` is set while a send is under way, and only then.
    3. While the stream runs and a limit is set, `_timer` is due at the latest when the next thing
       of `Timing` is: one timer a connection, none an event. Once `_closed` is set there is none.
    4. `_parting` is set once the stream is to end with a last frame of ours.
    5. `_reading` is set while the source is waited for, and only then: an ending that can wait for
       a send does not take from the reader what was yielded.
    6. `_cancellable` is set while the task reads or sends, and not while it closes the source or
       waits for helpers: a `finally` is not cut short.
    """

    __slots__ = (
        "__weakref__",
        "_broken",
        "_cancellable",
        "_closed",
        "_farewell",
        "_frames",
        "_helpers",
        "_lock",
        "_loop",
        "_opened_at",
        "_parting",
        "_reading",
        "_record",
        "_retired",
        "_retires_at",
        "_retires_by",
        "_send",
        "_send_timeout_s",
        "_sending_since",
        "_sent_at",
        "_start",
        "_task",
        "_timer",
        "_timing",
        "begun",
        "cancelled",
        "complete",
        "failure",
        "gone",
        "over",
        "started",
    )

    def __init__(
        self, send: Send, start: Message, timing: Timing, frames: Frames, record: StreamRecord
    ) -> None:
        self.failure: Exception | None = None
        self.started = self.begun = self.complete = self.gone = self.cancelled = False
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()
        self._parting = self._reading = self._cancellable = self._broken = self._closed = False
        self._retired: EndCause | None = None
        self._farewell = b""
        self._send = send
        self._start = start
        self._timing = timing
        self._frames = frames
        self._record = record
        self._send_timeout_s = timing.send_timeout_s
        self._lock = asyncio.Lock()
        self._sending_since: float | None = None
        self._opened_at = self._sent_at = self._loop.time()
        self._retires_at = self._opened_at + timing.lifetime_s
        self._retires_by = EndCause.LIFETIME
        self._timer: asyncio.TimerHandle | None = None
        self._helpers: set[asyncio.Task[None]] = set()

    def stream(
        self,
        source: Outlet[object],
        data_sender: Callable[[], Coroutine[object, object, object]] | None,
    ) -> asyncio.Task[None]:
        """Start the task that sends the whole response and closes the source.

        It ends with `failure` set, or cancelled, where the stream did not end well.
        """
        self._task = self._loop.create_task(self._run(source, data_sender))
        self._task.add_done_callback(self._end)
        return self._task

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
        if not self.over.done():
            self.close()
            self._cancel()

    def close(self) -> None:
        """Do nothing more by the clock."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def drain(self, farewell: bytes) -> None:
        """Let the source go on for its grace period; then close it, send `farewell` and end."""
        if self._closed:
            return
        self._farewell = self._farewell or farewell
        grace_is_over = self._loop.time() + self._timing.drain_grace_s
        if self._timing.drain_grace_s == 0:
            self._retire(EndCause.DRAINED)
        elif grace_is_over < self._retires_at:
            self._retires_at, self._retires_by = grace_is_over, EndCause.DRAINED
        self._watch()

    def _retire(self, cause: EndCause) -> None:
        self._retires_at = math.inf
        # A reader that takes nothing must hold up neither a shutdown nor the end of its own time.
        limit_s = _FAREWELL_S if cause is EndCause.DRAINED else _LAST_SEND_S
        self._send_timeout_s = min(self._send_timeout_s, limit_s)
        if self._sending_since is not None:
            self._sending_since = self._loop.time()
        if not self._parting and not self.cancelled:
            self._retired = cause
            self._farewell = self._farewell or self._frames.farewell()
            self._part()

    def _part(self) -> None:
        """End the stream with a last frame, after the send that is under way."""
        self._parting = True
        if self._reading:
            self._cancel()
        self._end()

    def _cancel(self) -> None:
        self.cancelled = True
        if self._cancellable:
            self._task.cancel()

    def _end(self, _: object = None) -> None:
        if not self.over.done():
            self.over.set_result(None)

    async def _run(
        self,
        source: Outlet[object],
        data_sender: Callable[[], Coroutine[object, object, object]] | None,
    ) -> None:
        self.started = True
        try:
            try:
                async with aclosing(source):
                    self._watch()
                    if data_sender is not None:
                        self._help(data_sender)
                    if not self._parting and not self.cancelled:
                        await self._put_all(source)
            except asyncio.CancelledError:
                if not self._parting:
                    raise
                self._task.uncancel()
            except Exception as error:
                self._note(error)
            try:
                await self._put_last()
            except Exception as error:
                self._note(error)
        finally:
            self._cancellable = False
            self.close()
            for helper in self._helpers:
                helper.cancel()
            await asyncio.gather(*self._helpers, return_exceptions=True)

    async def _put_all(self, source: Outlet[object]) -> None:
        """Send what the source yields; what is ready at once leaves in one piece.

        The source is stepped by hand: a step that ends without waiting had its item ready. Before
        one waits, what was ready is sent, so that no event is held back. What is still ready when
        the stream is to end is sent too, as far as one turn goes.
        """
        batch: list[bytes] = []
        size = 0
        after_parting = _FRAMES_A_TURN
        self._cancellable = True
        try:
            while after_parting > 0:
                if batch and (
                    len(batch) >= _FRAMES_A_TURN or size >= _BYTES_A_TURN or self._lock.locked()
                ):
                    await self._put_events(batch)
                    await asyncio.sleep(0)
                    size = 0
                step = source.read().__await__()
                try:
                    waits_for = step.send(None)
                except StopIteration as ready:
                    item = ready.value
                except StopAsyncIteration:
                    break
                else:
                    self._put_beside(batch)
                    size = 0
                    if self._parting:
                        self._cancel()  # it has nothing ready any more
                    self._reading = True
                    try:
                        item = await _Resumed(step, waits_for)
                    except StopAsyncIteration:
                        break
                    finally:
                        self._reading = False
                    if self.cancelled:
                        self._record.dropped += 1
                        break  # it yields in answer to its cancellation: closing it ends it
                frame = source.encode(item)
                batch.append(frame)
                size += len(frame)
                after_parting -= self._parting
            await self._put_events(batch)
        except _ClientGoneError:
            raise
        except Exception as error:
            self._note(error)  # now, since the send may fail as well
            await self._put_events(batch)
        finally:
            self._cancellable = False

    def _put_beside(self, batch: list[bytes]) -> None:
        """Send while the source waits: at once, or, where a send has to wait, in a helper.

        A send that waited in this task would be hit by a cancellation that is meant for the source,
        from a timeout of its own.
        """
        if not batch:
            return
        put = self._put_events(batch)
        try:
            waits_for = put.send(None)
        except StopIteration:
            pass
        except Exception as error:
            self._failed_beside(error)
        else:
            self._help(lambda: _Resumed(put, waits_for))

    async def _put_events(self, batch: list[bytes]) -> None:
        if not batch:
            return
        events, piece = len(batch), b"".join(batch)
        batch.clear()
        try:
            await self._put(piece)
        except BaseException:
            self._record.dropped += events
            raise
        self._record.events += events

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

    async def _put(self, body: bytes, *, more: bool = True) -> None:
        async with self._lock:
            self._sending_since = self._loop.time()
            try:
                if not self.begun:
                    self.begun = True
                    await self._send(self._start)
                await self._send({"type": "http.response.body", "body": body, "more_body": more})
                self._record.bytes += len(body)
            except TimeoutError:
                self._broken = True
                raise
            except OSError as error:  # how ASGI 2.4 and later says that the client has left
                self.gone = True
                raise _ClientGoneError from error
            except Exception:
                self._broken = True
                raise
            finally:
                self._sending_since = None
                self._sent_at = self._record.last_send_at = self._loop.time()

    def _watch(self) -> None:
        """Do what is due, and look again when the next thing is."""
        if self._closed:
            return
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
            self._timer = self._loop.call_at(due, self._watch)

    async def _put_start(self) -> None:
        await self._put(b"")  # some servers keep the headers until there is a piece of a body

    async def _put_ping(self) -> None:
        await self._put(encode(self._frames.ping()))

    def _help(self, work: Callable[[], Awaitable[object]]) -> None:
        helper = self._loop.create_task(self._helping(work))
        self._helpers.add(helper)
        helper.add_done_callback(self._helpers.discard)

    async def _helping(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except Exception as error:
            self._failed_beside(error)

    def _failed_beside(self, error: Exception) -> None:
        if isinstance(error, _ClientGoneError):
            self._cancel()
        else:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._note(error)
        if isinstance(error, SendTimeout) or self._broken:
            self._parting = False
            self._cancel()
            self._end()
        elif not self.cancelled and not self._parting:
            self._part()

    def _note(self, error: Exception) -> None:
        if isinstance(error, _ClientGoneError):
            return  # `gone` says so
        if self.failure is None:
            self.failure = error
        elif self.failure is not error:
            self.failure.__cause__ = error


class _Resumed:
    """Lets a coroutine that was stepped by hand go on where it waits."""

    __slots__ = ("_step", "_waits_for")

    def __init__(self, step: _Step, waits_for: object) -> None:
        self._step = step
        self._waits_for = waits_for

    def __await__(self) -> Generator[object, object, object]:
        waits_for = self._waits_for
        while True:
            try:
                try:
                    answer = yield waits_for
                except BaseException as error:
                    waits_for = self._step.throw(error)
                else:
                    waits_for = self._step.send(answer)
            except StopIteration as done:
                return done.value
