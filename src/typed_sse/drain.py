"""Drain: the orderly end of open streams when their server shuts down.

An event stream has no end of its own, and servers wait for open responses before they tell the
application that it is over: so whoever wants a prompt shutdown has to hear of it earlier. A drain
hears of it by signal, because that is how every server does, and only while it is entered. Knows
the loop and signals, nothing of HTTP.
"""

import asyncio
import random
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from types import FrameType, TracebackType
from typing import Self
from weakref import WeakKeyDictionary

from typed_sse.errors import InvalidField, UsageError
from typed_sse.servers import when_it_shuts_down
from typed_sse.wire import ServerSentEvent, checked_retry, unended

RETRY_MS = (500, 3000)
"""The shortest and the longest time after which a reader is asked to come back, by default."""

# How long the default of a signal, which ends the process, waits for streams to end.
_LONGEST_WAIT_S = 5.0

_Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None

_drains: "WeakKeyDictionary[asyncio.AbstractEventLoop, Drain]" = WeakKeyDictionary()


class Drain:
    """Ends the streams of one event loop when the process is told to stop.

    Hand it to the application, or enter it in a lifespan of your own:

        drain = Drain()
        app = FastAPI(lifespan=drain.lifespan)

    When it begins, each open `EventSourceResponse` closes its source, sends a last `retry`, so that
    its reader comes back after a moment of its own, and ends the body properly. A response that
    starts later gets the same end at once.

    Args:
        signals: what to listen to while it is entered: SIGINT and SIGTERM by default, none to call
            `begin` yourself. The handlers that were there are called after ours and put back at the
            end; a default that ends the process waits until the streams have ended, 5 s at most, or
            until the signal comes again. Signals reach the main thread only: elsewhere, call
            `begin`.
        retry_ms: the shortest and the longest time that readers are told to wait before they come
            back, in milliseconds: 500 and 3000 by default. Each reader gets one between.

    Raises:
        InvalidField: `retry_ms` is no pair of whole numbers >= 0, the smaller one first.
        UsageError: on entering, where another drain is entered in the same loop.

    Invariants:
    1. `_begin_here` runs in the loop, once; `_begun` is set first.
    2. While entered, `_drains` maps the loop to this drain, and `_before` holds each handler that
       ours replaced.
    """

    def __init__(
        self,
        *,
        signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM),
        retry_ms: tuple[int, int] = RETRY_MS,
    ) -> None:
        shortest, longest = map(checked_retry, retry_ms)
        if shortest > longest:
            raise InvalidField("retry_ms", retry_ms, "give the shortest time first")
        self._signals = tuple(signals)
        self._retry_ms = (shortest, longest)
        self._begun = asyncio.Event()
        self._streams: set[Callable[[bytes], None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._before: dict[signal.Signals, _Handler] = {}
        self._listens_to_server = False
        self._ends_by: int | None = None

    @property
    def begun(self) -> bool:
        """Whether the drain has begun."""
        return self._begun.is_set()

    async def wait(self) -> None:
        """Wait until the drain begins: for work that wants to know, not for streams."""
        await self._begun.wait()

    def begin(self) -> None:
        """Begin the drain; may be called from any thread, and more than once.

        Raises:
            UsageError: the drain is not entered.
        """
        if self._loop is None:
            raise UsageError("the drain is not entered; use it as the application's lifespan")
        self._loop.call_soon_threadsafe(self._begin_here)

    @asynccontextmanager
    async def lifespan(self, _: object) -> AsyncGenerator[None, None]:
        """Be the lifespan of a Starlette or FastAPI application."""
        async with self:
            yield

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if loop in _drains:
            raise UsageError("this event loop has a drain already; enter one only")
        # Entered again, by the next start-up of the same application, it begins anew.
        self._begun = asyncio.Event()
        self._listens_to_server = False
        self._ends_by = None
        if threading.current_thread() is threading.main_thread():
            try:
                for number in self._signals:
                    self._before[number] = signal.signal(number, self._handle)
            except BaseException:
                self._put_back()
                raise
        _drains[loop] = self
        self._loop = loop
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._put_back()
        self._begin_here()
        self._loop = None
        del _drains[asyncio.get_running_loop()]

    def _put_back(self) -> None:
        for number, before in self._before.items():
            # A server may have put its own back meanwhile; `None` is one that is not Python's.
            if signal.getsignal(number) == self._handle and before is not None:
                signal.signal(number, before)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._loop is not None:
            self.begin()
        before = self._before.get(signal.Signals(number), signal.SIG_DFL)
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
            if self._loop is None:
                signal.raise_signal(number)
            else:
                self._loop.call_soon_threadsafe(self._end_by, number)

    def _end_by(self, number: int) -> None:
        # Nobody else handles the signal: the process ends by it when the streams have ended.
        self._ends_by = number
        asyncio.get_running_loop().call_later(_LONGEST_WAIT_S, signal.raise_signal, number)
        self._end_if_empty()

    def _end_if_empty(self) -> None:
        if self._ends_by is not None and not self._streams:
            signal.raise_signal(self._ends_by)

    def _begin_here(self) -> None:
        if self.begun:
            return
        self._begun.set()
        for end in list(self._streams):
            end(farewell(self._retry_ms))

    def add(self, end: Callable[[bytes], None]) -> None:
        """Call `end` with a last frame when the drain begins; at once where it has begun."""
        if not self._listens_to_server:
            # Not when it is entered: the server waits for its shutdown from the start-up's end on.
            self._listens_to_server = True
            when_it_shuts_down(self._begin_here)
        self._streams.add(end)
        if self.begun:
            end(farewell(self._retry_ms))

    def remove(self, end: Callable[[bytes], None]) -> None:
        """Forget `end`: its stream is over."""
        self._streams.discard(end)
        self._end_if_empty()


def farewell(retry_ms: tuple[int, int] = RETRY_MS) -> bytes:
    """Return the last frame of a stream whose reader is to come back, after a time of its own."""
    return unended(ServerSentEvent(retry=random.randint(*retry_ms)).encode())  # noqa: S311


def current_drain(loop: asyncio.AbstractEventLoop) -> Drain | None:
    """Return the drain that is entered in a loop, if there is one."""
    return _drains.get(loop)
