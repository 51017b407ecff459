"""The engine in a SQLite file: several processes on one host, and no server.

Three threads, each with a connection: one writes, and commits what waits as one transaction; one
reads; one is the feed's. Here calls are handed to them and answered, in time and for sure. Knows
nothing of SQL.
"""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Literal, TypeVar, cast

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import (
    DEFAULT_TIMEOUT_S,
    Appended,
    Caps,
    Durability,
    Feed,
    Health,
    Newest,
    Page,
    Retain,
    Tail,
    check_append,
)
from typed_sse.channels.sqlite_feed import SqliteFeed
from typed_sse.channels.sqlite_file import Unusable, is_busy, primary_code
from typed_sse.channels.sqlite_log import SqliteLog
from typed_sse.errors import EngineUnavailable, InvalidField, OutcomeUnknown, TypedSSEError

_T = TypeVar("_T")

_CAPS = Caps(durability=Durability.HOST, shared=True, lossy_feed=False)

_MAX_WAITING = 10_000
_MAX_WAITING_BYTES = 64 * 1024 * 1024
_MAX_GROUP = 256
_LONGEST_PAUSE_S = 0.005
_TIDY_EVERY_S = 1.0
_TIDY_ON_S = 0.02  # while there is more


class _Call:
    """Something that a thread is asked to do, and where its outcome goes; an error is one too.

    Invariant: who gets the lock decides: the thread, to do it; the caller, to have it not done.
    """

    def __init__(self, run: Callable[[SqliteLog], Any], future: "asyncio.Future[Any]") -> None:
        self.run: Callable[[SqliteLog], Any] = run
        self.future = future
        self.over = False
        self._claimed = False
        self._lock = threading.Lock()

    def claim(self) -> bool:
        """Return whether the thread is to do it."""
        self._claimed = self._claimed or self._lock.acquire(blocking=False)
        return self._claimed

    def withdraw(self) -> bool:
        """See that it is not done; false where it is being done, or was."""
        if not self._lock.acquire(blocking=False):
            return False
        self.run = lambda _: None  # it stays in the queue for a while, its records do not
        return True

    def settle(self, outcome: object) -> None:
        """Tell the caller, if it still waits; in the loop."""
        self.over = True
        if not self.future.done():
            self.future.set_result(outcome)


# `None` ends the thread.
_Calls = SimpleQueue[_Call | None]
_Outcomes = Sequence[tuple[_Call, Any]]


class SqliteEngine:
    """Channels in a SQLite file that the processes of one host share; see `Engine` for its methods.

    Start it after a fork, not before. To put an older copy back while processes run, use SQLite's
    own backup (`.restore`), or move the copy to the file's place after the file, its `-wal` and its
    `-shm` were moved away; never write over it.

    Args:
        path: the file; made where there is none. It has to be on a local disk, where SQLite can
            keep its write-ahead log beside it.
        timeout_s: how long a call may take, in seconds; 5 by default.
        synchronous: `normal` outlives the end of the process, however it comes, and may lose the
            last appends, never their order, when the host crashes or loses its power. `full` waits
            for the disk at each commit and outlives that too; several times slower.

    Raises:
        InvalidField: `timeout_s` is not positive, or `synchronous` is neither of them.

    Limits: 10,000 appends, or 64 MiB of them, wait at most. A process hears of another's records
    within some milliseconds, by asking 250 times a second while it watches, 50 times while
    it does not.

    Invariant: each thread has its log for itself; what is in no queue belongs to the loop.
    """

    _loop: asyncio.AbstractEventLoop
    _feed: SqliteFeed
    _reads: _Calls
    _writes: _Calls

    def __init__(
        self,
        path: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        synchronous: Literal["normal", "full"] = "normal",
    ) -> None:
        if not 0 < timeout_s < float("inf"):
            raise InvalidField("timeout_s", timeout_s, "give a positive number of seconds")
        if synchronous not in ("normal", "full"):
            raise InvalidField("synchronous", synchronous, "give 'normal' or 'full'")
        self._path = os.path.abspath(path)
        self._name = f"sqlite:{self._path}"
        self._timeout_s = timeout_s
        self._synchronous = synchronous
        self._running, self._trouble = False, ""
        self._waiting = self._waiting_bytes = 0
        self._untidy, self._tidied_s = False, time.monotonic()
        # In order of their beginning, each with how it is told to end, and whether it has.
        self._threads: list[tuple[threading.Thread, Callable[[], None], asyncio.Event]] = []

    @property
    def caps(self) -> Caps:
        """What it can do."""
        return _CAPS

    async def start(self, feed: Feed) -> None:
        """Open the file, and begin to call `feed`.

        Raises:
            EngineUnavailable: the file cannot be used, or the engine has been started already.
        """
        if self._running or self._threads:
            raise self._unavailable("it is started already; use an engine for each hub")
        self._running, self._loop = True, asyncio.get_running_loop()
        self._writes, self._reads = SimpleQueue(), SimpleQueue()
        self._feed = SqliteFeed(self._log(), feed, self._loop)
        try:
            self._spawn(self._write, lambda: self._writes.put(None))
            self._spawn(self._read, lambda: self._reads.put(None))
            await self._ask(self._reads, lambda _: self._feed.open())
            self._spawn(self._feed.run, self._feed.stop)
        except BaseException:
            await self.stop()
            raise

    def _log(self) -> SqliteLog:
        return SqliteLog(self._path, self._synchronous)

    def _spawn(self, target: Callable[[], None], end: Callable[[], None]) -> None:
        ended = asyncio.Event()

        def run() -> None:
            try:
                target()
            finally:
                self._tell(ended.set)

        thread = threading.Thread(target=run, name="typed-sse-sqlite", daemon=True)
        thread.start()
        self._threads.append((thread, end, ended))

    async def stop(self) -> None:
        """End the threads and close the file; calls that wait raise `EngineUnavailable`."""
        self._running = False
        # The writer's connection is closed last: whichever is last clears the log away.
        for thread, end, ended in reversed(self._threads):
            end()
            # A disk that hangs holds its thread, not whoever stops.
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), self._timeout_s)
                thread.join()
        self._threads.clear()

    async def append(
        self,
        channel: str,
        bodies: Sequence[bytes],
        *,
        retain: Retain,
        key: str | None = None,
        expect: Cursor | None = None,
        seal: bool = False,
    ) -> Appended:
        """Append records to a channel, all or none."""
        bodies = check_append(_CAPS, bodies, key, seal=seal)
        size = sum(map(len, bodies))
        full = self._waiting and self._waiting_bytes + size > _MAX_WAITING_BYTES
        if full or self._waiting >= _MAX_WAITING:
            raise self._unavailable(
                f"{self._waiting} appends of {self._waiting_bytes} bytes wait already; publish less"
            )
        self._waiting += 1
        self._waiting_bytes += size
        try:
            return await self._ask(
                self._writes, lambda log: log.append(channel, bodies, retain, key, expect, seal)
            )
        finally:
            self._waiting -= 1
            self._waiting_bytes -= size

    async def read(
        self, channel: str, after: Cursor | Newest, *, limit: int, max_bytes: int
    ) -> Page:
        """Return some of what is kept behind `after`."""
        return await self._look(lambda log: log.read(channel, after, limit, max_bytes))

    async def tails(self, channels: Sequence[str]) -> Sequence[Tail]:
        """Return the ends of these channels."""
        return await self._look(lambda log: log.tails(channels))

    async def watch(self, channels: Collection[str]) -> None:
        """Let their records come to the feed."""
        await self._look(lambda _: self._feed.watch(channels))

    async def unwatch(self, channels: Collection[str]) -> None:
        """Let them come no more."""
        await self._look(lambda _: self._feed.unwatch(channels))

    async def names(self, prefix: str, *, limit: int) -> Sequence[str]:
        """Return the names that begin so."""
        return await self._look(lambda log: log.names(prefix, limit))

    async def drop(self, channel: str) -> None:
        """Remove a channel."""
        await self._ask(self._writes, lambda log: log.drop(channel))

    async def signal(self, topic: str, data: bytes) -> None:
        """Tell every engine of the file, within some 20 ms."""
        await self._ask(self._writes, lambda log: log.signal(topic, data))

    async def health(self) -> Health:
        """Say whether the file can be read now."""
        try:
            await self._look(SqliteLog.newest)
        except EngineUnavailable as error:
            return Health(ready=False, detail=str(error))
        detail = f"SQLite file {self._path}, {self._waiting} appends wait"
        return Health(self._waiting < _MAX_WAITING, detail)

    def _unavailable(self, reason: str) -> EngineUnavailable:
        return EngineUnavailable(self._name, reason)

    async def _look(self, run: Callable[[SqliteLog], _T]) -> _T:
        def look(log: SqliteLog) -> _T:
            log.ready()
            return run(log)

        return await self._ask(self._reads, look)

    async def _ask(self, calls: _Calls, run: Callable[[SqliteLog], _T]) -> _T:
        """Have a thread do something, and return what came of it."""
        if not self._running:
            raise self._unavailable("it is not started, or was stopped")
        call = _Call(run, self._loop.create_future())
        timer = self._loop.call_later(self._timeout_s, self._expire, call)
        calls.put(call)
        try:
            outcome = await call.future
        except asyncio.CancelledError:
            # What cannot be withdrawn any more is waited for, so that nothing happens afterwards.
            if not call.over and not call.withdraw():
                call.future = self._loop.create_future()
                await asyncio.wait([call.future])
            raise
        finally:
            timer.cancel()
            call.withdraw()
        if isinstance(outcome, Exception):
            raise outcome
        return cast("_T", outcome)

    def _expire(self, call: _Call) -> None:
        reason = f"it took more than timeout_s={self._timeout_s:g}"
        if call.withdraw():
            call.settle(self._unavailable(reason + self._trouble))
        else:
            call.settle(OutcomeUnknown(self._name, reason))

    def _tell(self, callback: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(callback, *args)

    def _failed(self, error: Exception) -> Exception:
        """Return what a caller is told of an error; of ours, the error itself."""
        if not isinstance(error, (sqlite3.Error, OSError, Unusable)):
            return error
        unavailable = self._unavailable(str(error) or type(error).__name__)
        unavailable.__cause__ = error
        return unavailable

    def _patiently(self, do: Callable[[], None], calls: Sequence[_Call]) -> bool:
        """Do what others may be in the way of; false where nobody waits for it any more."""
        pause_s = 0.0002
        while True:
            try:
                do()
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                self._trouble = " (other processes are writing)"
            else:
                return True
            if all(call.future.done() for call in calls):
                return False
            if not self._running:
                raise Unusable("it was stopped")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)

    def _read(self) -> None:
        """Read, in a thread of its own."""
        log = self._log()
        while (call := self._reads.get()) is not None:
            if not call.future.done():
                self._answer(log, call)
        self._feed.close()
        log.close()

    def _answer(self, log: SqliteLog, call: _Call) -> None:
        try:
            self._patiently(lambda: self._tell(call.settle, call.run(log)), [call])
        except Exception as error:
            log.close()
            self._tell(call.settle, self._failed(error))

    def _write(self) -> None:
        """Write, in a thread of its own; what waits is one group."""
        log = self._log()
        calls: list[_Call | None] = []
        while None not in calls:
            calls = []
            with suppress(Empty):
                calls.append(self._writes.get(timeout=_TIDY_ON_S if self._untidy else None))
                while calls[-1] is not None and len(calls) < _MAX_GROUP:
                    calls.append(self._writes.get_nowait())
            self._commit(log, [call for call in calls if call is not None])
        log.close()

    def _commit(self, log: SqliteLog, group: Sequence[_Call]) -> None:
        """Do what was asked for in one transaction, and tell everybody."""
        try:
            if not self._patiently(log.begin, group):
                return
            self._trouble = ""
            # From here on it is done, and cannot be withdrawn.
            group = [call for call in group if call.claim()]
            outcomes = self._outcomes(log, group)
        except Exception as error:
            log.close()
            if len(group) == 1:
                self._tell(group[0].settle, self._failed(error))
            else:  # each by itself, so that the trouble of one is not the others'
                for call in group:
                    self._commit(log, [call])
        else:
            self._tell(self._settle, outcomes, self._feed.take(log))

    def _outcomes(self, log: SqliteLog, group: Sequence[_Call]) -> _Outcomes:
        """Carry out a group and commit it; where this raises, nothing was done."""
        outcomes: list[tuple[_Call, Any]] = []
        for call in group:
            try:
                outcomes.append((call, call.run(log)))
            except TypedSSEError as refused:
                outcomes.append((call, refused))
        if self._untidy or time.monotonic() - self._tidied_s > _TIDY_EVERY_S:
            self._untidy, self._tidied_s = False, time.monotonic()
            self._untidy = log.tidy()
        try:
            log.commit()
        except sqlite3.Error as error:
            # A full disk shows before the end of the log is written, which is what commits.
            if primary_code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY):
                raise
            log.close()
            return [(call, OutcomeUnknown(self._name, str(error))) for call in group]
        return outcomes

    def _settle(self, outcomes: _Outcomes, heard: bool) -> None:
        for call, outcome in outcomes:
            call.settle(outcome)
        if heard:
            self._feed.hear()
