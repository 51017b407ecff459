"""What the contract of engines is tested with: processes, their ears, and hooks into the store.

A `Process` is an engine and all that it has told. `EngineHooks` is what whoever writes an engine
says of it, and how a test runs. Knows no law, and no test runner.
"""

import asyncio
import inspect
import secrets
import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar, cast
from unittest import SkipTest

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import (
    EARLIEST,
    Appended,
    Engine,
    GapReason,
    Newest,
    Page,
    Record,
    Retain,
    Tail,
)
from typed_sse.errors import EngineUnavailable

T = TypeVar("T")
E = TypeVar("E", bound=Exception)
H = TypeVar("H", bound="EngineHooks")
P = ParamSpec("P")

_MANY = 100_000
_MANY_BYTES = 1 << 30
_POLL_S = 0.01


class Lost(NamedTuple):
    """A call of `Feed.lost`."""

    channels: frozenset[str] | None


class Signal(NamedTuple):
    """A call of `Feed.signal`."""

    topic: str
    data: bytes


class Process:
    """An engine as one process has it, and what its feed has heard.

    Attributes:
        engine: the engine.
        heard: all calls of the feed, in order.
        stopped: nothing may be heard any more.
    """

    def __init__(self, engine: Engine, limit_s: float) -> None:
        self.engine = engine
        self.heard: list[Record | Lost | Signal] = []
        self.stopped = False
        self._limit_s = limit_s
        self._news = asyncio.Event()
        self._thread = threading.get_ident()
        self._faults: list[str] = []

    def record(self, record: Record) -> None:
        """Hear of a record."""
        self._hear(record)

    def lost(self, channels: Collection[str] | None) -> None:
        """Hear of a loss."""
        self._hear(Lost(None if channels is None else frozenset(channels)))

    def signal(self, topic: str, data: bytes) -> None:
        """Hear of a signal."""
        self._hear(Signal(topic, data))

    def _hear(self, what: Record | Lost | Signal) -> None:
        if threading.get_ident() != self._thread:
            self._faults.append(f"the feed was called in another thread: {what}")
        if self.stopped:
            self._faults.append(f"the feed was called after stop: {what}")
        self.heard.append(what)
        self._news.set()

    async def stop(self) -> None:
        """Stop the engine, and see that its feed was called as it should be."""
        await self.engine.stop()
        self.stopped = True
        same(self._faults, [], "faults of the feed")

    def records(self, channel: str) -> list[Record]:
        """Return what was heard of a channel."""
        return [each for each in self.heard if isinstance(each, Record) and each.channel == channel]

    def signals(self) -> list[Signal]:
        """Return the signals that were heard."""
        return [each for each in self.heard if isinstance(each, Signal)]

    def has_lost(self, channel: str) -> bool:
        """Whether it was told that records of a channel may be lost."""
        losses = [each.channels for each in self.heard if isinstance(each, Lost)]
        return any(channels is None or channel in channels for channels in losses)

    def has_heard(self, last: Cursor) -> bool:
        """Whether the record that this cursor names was heard."""
        return any(isinstance(each, Record) and each.cursor == last for each in self.heard)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until what was heard makes `condition` true."""
        try:
            async with asyncio.timeout(self._limit_s):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            last = self.heard[-3:]
            raise AssertionError(
                f"{what}: not within {self._limit_s} s; last heard: {last}"
            ) from None

    async def hears(self, last: Cursor) -> None:
        """Wait until the record that this cursor names was heard."""
        await self.until(lambda: self.has_heard(last), f"the record at {last.pos} is heard")

    async def accounts_for(self, expected: Sequence[Record]) -> None:
        """See that it hears these records, in order; or that a hole shows, or a loss was told."""
        channel, last = expected[0].channel, expected[-1].cursor
        await self.until(
            lambda: self.has_heard(last) or self.has_lost(channel),
            "the last record is heard or a loss told",
        )
        first = expected[0].cursor.pos
        heard = [record for record in self.records(channel) if record.cursor.pos >= first]
        # Of a part in the right order, any hole shows by `prev`.
        same(heard, [record for record in expected if record in heard], "what was heard")

    async def append(
        self,
        channel: str,
        *bodies: bytes,
        retain: Retain | None = None,
        key: str | None = None,
        expect: Cursor | None = None,
        seal: bool = False,
    ) -> Appended:
        """Append; what is not given is the default."""
        return await self.engine.append(
            channel, bodies, retain=retain or Retain(), key=key, expect=expect, seal=seal
        )

    async def read(
        self,
        channel: str,
        after: Cursor | Newest = EARLIEST,
        *,
        limit: int = _MANY,
        max_bytes: int = _MANY_BYTES,
    ) -> Page:
        """Read a page; all that there is by default."""
        return await self.engine.read(channel, after, limit=limit, max_bytes=max_bytes)

    async def all(self, channel: str, after: Cursor | Newest = EARLIEST) -> list[Record]:
        """Return all records behind a place, and see that the pages fit together."""
        records: list[Record] = []
        while True:
            page = await self.read(channel, after)
            same(page.gap, None, "the gap behind a valid place")
            records += page.records
            if not page.more:
                return records
            holds(len(page.records) > 0, "a page with more behind it has records")
            after = page.records[-1].cursor

    async def bodies(self, channel: str, after: Cursor | Newest = EARLIEST) -> list[bytes]:
        """Return what all records behind a place hold."""
        return [record.body for record in await self.all(channel, after)]

    async def tail(self, channel: str) -> Tail:
        """Return a channel's end."""
        (tail,) = await self.engine.tails([channel])
        return tail

    async def gap(self, channel: str, after: Cursor) -> GapReason | None:
        """Return the gap behind a cursor, and see that there are no records where there is one."""
        page = await self.read(channel, after)
        if page.gap is not None:
            same(tuple(page.records), (), "the records behind a gap")
            same(page.more, False, "whether there is more behind a gap")
        return page.gap


class EngineHooks:
    """How a test comes by engines; see `EngineContract`.

    Attributes:
        limit_s: how long a test waits for what has to happen, in seconds.
        whole_limit_s: how long a test may take in all, in seconds.
        examples: how many runs of random operations there are.
    """

    limit_s: float = 15.0
    whole_limit_s: float = 60.0
    examples: int = 6

    def make(self) -> Engine:
        """Return another engine on the test's one store, not started."""
        raise NotImplementedError

    def runner(self) -> asyncio.Runner:
        """Return what runs a test: a new event loop. Give a virtual one where that will do."""
        return asyncio.Runner()

    async def lose_connection(self) -> None:
        """Cut all connections to the store that there are; it accepts new ones."""
        raise SkipTest("this engine's tests have no lose_connection()")

    def outage(self) -> AbstractAsyncContextManager[None]:
        """Kill the store; start it again, with what it has kept, when the block is left."""
        raise SkipTest("this engine's tests have no outage()")

    def stall(self) -> AbstractAsyncContextManager[None]:
        """Let the store answer nothing, and stay connected, until the block is left."""
        raise SkipTest("this engine's tests have no stall()")

    async def copy_store(self) -> object:
        """Return a copy of all that is in the store."""
        raise SkipTest("this engine's tests have no copy_store()")

    async def restore_store(self, copy: object) -> None:  # noqa: ARG002
        """Put a copy back in the store's place, as a failover or a backup does."""
        raise SkipTest("this engine's tests have no restore_store()")

    async def clear_store(self) -> None:
        """Remove all that is in the store."""
        raise SkipTest("this engine's tests have no clear_store()")

    async def pass_time(self, seconds: float) -> None:  # noqa: ARG002
        """Let this much time pass for the store, at once."""
        raise SkipTest("this engine's tests have no pass_time()")

    @cached_property
    def _prefix(self) -> str:
        return f"t{secrets.token_hex(6)}"

    @cached_property
    def _processes(self) -> list[Process]:
        return []

    def name(self, rest: str) -> str:
        """Return a channel's name that no other test has."""
        return f"{self._prefix}/{rest}"

    async def open(self) -> Process:
        """Start another engine; it is stopped when the test ends."""
        process = Process(self.make(), self.limit_s)
        self._processes.append(process)
        await process.engine.start(process)
        return process

    async def eventually(
        self, condition: Callable[[], Awaitable[bool]], what: str, *, limit_s: float | None = None
    ) -> None:
        """Ask again and again until `condition` holds; a store that is away holds nothing."""
        limit_s = self.limit_s if limit_s is None else limit_s
        why: Exception | None = None
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    try:
                        if await condition():
                            return
                    except EngineUnavailable as error:
                        why = error
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise AssertionError(f"{what}: not within {limit_s} s") from why

    async def back(self, process: Process) -> None:
        """Wait until a process has its store again."""

        async def answers() -> bool:
            return (await process.engine.health()).ready

        await self.eventually(answers, "the engine is ready again")

    async def run(self, test: Callable[..., Coroutine[Any, Any, None]], count: int) -> None:
        """Run a test with so many processes, and see that they leave nothing behind."""
        before = asyncio.all_tasks()
        async with asyncio.timeout(self.whole_limit_s):
            try:
                processes = [await self.open() for _ in range(count)]
                await test(self, *processes)
            except BaseException:
                for process in self._processes:
                    await process.engine.stop()
                raise
            for process in self._processes:
                await process.stop()

        async def nothing_runs() -> bool:
            return not asyncio.all_tasks() - before

        await self.eventually(nothing_runs, "all tasks of stopped engines end")


def law(test: Callable[Concatenate[H, P], Coroutine[Any, Any, None]]) -> Callable[[H], None]:
    """Make a coroutine a test of any runner: it gets as many processes as it has parameters."""
    count = len(inspect.signature(test).parameters) - 1

    def run(self: H) -> None:
        # Whatever is left running belongs to this test, so its loop is its own too.
        with self.runner() as runner:
            runner.run(self.run(cast("Callable[..., Coroutine[Any, Any, None]]", test), count))

    run.__name__, run.__qualname__, run.__doc__ = test.__name__, test.__qualname__, test.__doc__
    run.__module__ = test.__module__
    return run


def same(found: object, expected: object, what: str) -> None:
    """Fail where two values differ."""
    if found != expected:
        raise AssertionError(f"{what}: {_cut(found)}, expected: {_cut(expected)}")


def holds(condition: bool, what: str) -> None:
    """Fail where a sentence is not true."""
    if not condition:
        raise AssertionError(f"not so: {what}")


async def repeated(call: Callable[[], Coroutine[Any, Any, object]], count: int) -> None:
    """Call so many times, and let others run in between."""
    for _ in range(count):
        await call()
        await asyncio.sleep(0)


async def refused(error: type[E], call: Awaitable[object]) -> E:
    """Return the error that a call raises, and fail where it raises none."""
    try:
        result = await call
    except error as raised:
        return raised
    raise AssertionError(f"{error.__name__} expected; found: {_cut(result)}")


def chained(records: Sequence[Record], before: Tail | Cursor) -> None:
    """See that records follow each other without a hole, behind a place."""
    cursor = before.cursor if isinstance(before, Tail) else before
    pos = cursor.pos
    for record in records:
        same(record.prev, pos, "prev")
        holds(record.cursor.pos > pos, f"{record.cursor.pos} is behind {pos}")
        same(record.cursor.epoch, cursor.epoch, "a record's epoch")
        holds(record.cursor.tag != 0, "a record's tag is not 0")
        pos = record.cursor.pos


def _cut(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 2000 else f"{text[:2000]}… ({len(text)} characters)"
