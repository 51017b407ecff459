"""An engine that goes wrong, by a seed or by a script: for tests of what is built on engines.

What it does wrong, the laws allow: what it drops shows by `prev`, or is the last of its channel,
which `caps.lossy_feed` says. `DUPLICATE` and `SWAP` alone are worse than any engine may be.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from functools import partial
from random import Random
from typing import NamedTuple, TypeVar

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import (
    DEFAULT_TIMEOUT_S,
    Appended,
    Caps,
    Engine,
    Feed,
    Health,
    Newest,
    Page,
    Record,
    Retain,
    Tail,
)
from typed_sse.errors import EngineUnavailable, OutcomeUnknown

T = TypeVar("T")


class Fault(StrEnum):
    """What goes wrong: with a record on its way to the feed, or with a call."""

    DROP = "drop"
    """The record does not come."""
    DUPLICATE = "duplicate"
    """The record comes twice."""
    SWAP = "swap"
    """The record comes behind the next one."""
    LOST = "lost"
    """`Feed.lost` is called in the record's place, for its channel."""
    DELAY = "delay"
    """The record, and all behind it, come later; the call begins later."""
    UNAVAILABLE = "unavailable"
    """The call raises `EngineUnavailable`."""
    UNKNOWN_BEFORE = "unknown before"
    """The append raises `OutcomeUnknown`; it was not done. Other calls: as `UNAVAILABLE`."""
    UNKNOWN_AFTER = "unknown after"
    """The append raises `OutcomeUnknown`; it was done. Other calls: as `UNAVAILABLE`."""
    STALL = "stall"
    """The call is not answered until the timeout, or until its caller gives up."""
    CRASH = "crash"
    """The store is away from this call on, until `recover`."""


_OF_RECORDS = (Fault.DROP, Fault.DUPLICATE, Fault.SWAP, Fault.LOST, Fault.DELAY)
_OF_CALLS = (
    Fault.DELAY,
    Fault.UNAVAILABLE,
    Fault.UNKNOWN_BEFORE,
    Fault.UNKNOWN_AFTER,
    Fault.STALL,
    Fault.CRASH,
)


class Step(NamedTuple):
    """One fault at an exact place: `Step("record", 3, Fault.DROP)` drops the third record.

    Attributes:
        what: `record`, the name of a method of engines, or `call` for any of them.
        number: the how-manieth of those, from 1.
        fault: what goes wrong with it.
    """

    what: str
    number: int
    fault: Fault


class _Faults:
    """Decides what goes wrong, and remembers it."""

    def __init__(
        self, seed: int, rates: Mapping[Fault, float], script: Sequence[Step], delay_s: float
    ) -> None:
        self.seed = seed
        self.done: list[str] = []
        self._rates = rates
        self._script: dict[tuple[str, int], Fault] = {
            (step.what, step.number): step.fault for step in script
        }
        self._delay_s = delay_s
        self._random = Random(seed)  # noqa: S311
        self._counts: Counter[str] = Counter()

    def next(self, names: Sequence[str], faults: Sequence[Fault]) -> Fault | None:
        """Count an event of these names, and return what goes wrong with it."""
        found: Fault | None = None
        for name in names:
            self._counts[name] += 1
            found = self._script.get((name, self._counts[name])) or found
        number = self._random.random()
        for fault in faults if found is None else ():
            number -= self._rates.get(fault, 0.0)
            if number < 0:
                found = fault
                break
        if found is not None:
            self.done.append(f"{names[0]} {self._counts[names[0]]}: {found}")
        return found

    def delay_s(self) -> float:
        """Return how long a delay is."""
        return self._random.uniform(0, self._delay_s)

    def coin(self) -> bool:
        """Return one or the other."""
        return self._random.random() < 0.5


class _FaultyFeed:
    """A feed in front of another, where records go wrong."""

    def __init__(self, feed: Feed, faults: _Faults) -> None:
        self.silent = False
        self._feed = feed
        self._faults = faults
        # What waits for the end of a delay, in order, and what waits for the next record.
        self._waiting: list[Callable[[], None]] = []
        self._swapped: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def record(self, record: Record) -> None:
        """Let a record come, or not."""
        if self.silent:
            return
        tell = partial(self._feed.record, record)
        match self._faults.next(("record",), _OF_RECORDS):
            case Fault.DROP:
                pass
            case Fault.LOST:
                self._pass(partial(self._feed.lost, [record.channel]))
            case Fault.DUPLICATE:
                self._pass(tell)
                self._pass(tell)
            case Fault.SWAP:
                self._swapped.append(tell)
                self._later()
            case Fault.DELAY:
                self._waiting.append(tell)
                self._later()
            case _:
                self._pass(tell)

    def lost(self, channels: Collection[str] | None) -> None:
        """Let a loss come."""
        if not self.silent:
            self._pass(partial(self._feed.lost, channels))

    def signal(self, topic: str, data: bytes) -> None:
        """Let a signal come."""
        if not self.silent:
            self._pass(partial(self._feed.signal, topic, data))

    def forget(self) -> None:
        """Drop whatever waits."""
        self._waiting, self._swapped = [], []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pass(self, tell: Callable[[], None]) -> None:
        if self._waiting:
            self._waiting.append(tell)
            return
        swapped, self._swapped = self._swapped, []
        for each in (tell, *swapped):
            each()

    def _later(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._faults.delay_s(), self._now)

    def _now(self) -> None:
        self._timer = None
        late = [*self._waiting, *self._swapped]
        self._waiting, self._swapped = [], []
        for each in late:
            each()


class FaultyEngine:
    """Another engine, whose calls and feed go wrong.

    Args:
        engine: what does the work.
        seed: of the random numbers; the same one does the same to the same calls and records.
        rates: how often each fault comes, between 0 and 1 in all.
        script: faults at exact places, besides.
        delay_s: how long a delay is at most, in seconds.
        timeout_s: how long a call may take, in seconds.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        seed: int = 0,
        rates: Mapping[Fault, float] | None = None,
        script: Sequence[Step] = (),
        delay_s: float = 0.1,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self._engine = engine
        self._faults = _Faults(seed, rates or {}, script, delay_s)
        self._timeout_s = timeout_s
        self._feed: _FaultyFeed | None = None
        self._crashed = False
        self._answering = asyncio.Event()
        self._answering.set()

    def __repr__(self) -> str:
        """Say with which seed what has gone wrong."""
        done = ", ".join(self._faults.done[-20:]) or "nothing"
        return f"<FaultyEngine seed={self._faults.seed}, gone wrong: {done}>"

    @property
    def done(self) -> Sequence[str]:
        """What has gone wrong so far: `append 3: unknown after`."""
        return self._faults.done

    @property
    def caps(self) -> Caps:
        """What the engine can do; the feed may lose the last record."""
        return replace(self._engine.caps, lossy_feed=True)

    # --- from outside

    def crash(self) -> None:
        """Be away: every call raises `EngineUnavailable`, and nothing comes to the feed."""
        self._crashed = True
        if self._feed is not None:
            self._feed.silent = True
            self._feed.forget()

    def recover(self) -> None:
        """Be back from a crash; the feed is told of the loss."""
        self._crashed = False
        if self._feed is not None:
            self._feed.silent = False
        self.lose_connection()

    def lose_connection(self) -> None:
        """Lose what is on its way to the feed, and tell it so."""
        if self._feed is not None and not self._feed.silent:
            self._feed.forget()
            self._feed.lost(None)

    def stall(self) -> None:
        """Answer no call, until `resume`."""
        self._answering.clear()

    def resume(self) -> None:
        """Answer calls again."""
        self._answering.set()

    # --- what goes wrong with a call

    async def _call(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        fault = self._faults.next((name, "call"), _OF_CALLS)
        if fault is Fault.CRASH:
            self.crash()
        if self._crashed:
            raise self._unavailable("it has crashed")
        if fault is Fault.DELAY:
            await asyncio.sleep(self._faults.delay_s())
        if fault is Fault.STALL or not self._answering.is_set():
            # This one is not answered even when others are.
            return await self._stalled(
                name, call, asyncio.Event() if fault is Fault.STALL else self._answering
            )
        if fault is Fault.UNKNOWN_AFTER and name == "append":
            await call()
        if fault in (Fault.UNKNOWN_AFTER, Fault.UNKNOWN_BEFORE) and name == "append":
            raise self._unknown(str(fault))
        if fault not in (None, Fault.DELAY):
            raise self._unavailable(str(fault))
        return await call()

    async def _stalled(
        self, name: str, call: Callable[[], Awaitable[T]], answering: asyncio.Event
    ) -> T:
        """Do an append before its answer is waited for, or behind, where it comes."""
        appends = name == "append"
        done = [await call()] if appends and self._faults.coin() else []
        try:
            async with asyncio.timeout(self._timeout_s):
                await answering.wait()
        except TimeoutError:
            reason = f"no answer within {self._timeout_s:g} s"
            raise (self._unknown(reason) if appends else self._unavailable(reason)) from None
        return done[0] if done else await call()

    def _unavailable(self, reason: str) -> EngineUnavailable:
        return EngineUnavailable(f"faulty://seed={self._faults.seed}", reason)

    def _unknown(self, reason: str) -> OutcomeUnknown:
        return OutcomeUnknown(f"faulty://seed={self._faults.seed}", reason)

    # --- the calls

    async def start(self, feed: Feed) -> None:
        """Start the engine, with the feed behind this one."""
        faulty = self._feed = _FaultyFeed(feed, self._faults)
        await self._call("start", lambda: self._engine.start(faulty))

    async def stop(self) -> None:
        """Stop the engine; this does not go wrong."""
        if self._feed is not None:
            self._feed.silent = True
            self._feed.forget()
            self._feed = None
        await self._engine.stop()

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
        """Append, or not."""
        return await self._call(
            "append",
            lambda: self._engine.append(
                channel, bodies, retain=retain, key=key, expect=expect, seal=seal
            ),
        )

    async def read(
        self, channel: str, after: Cursor | Newest, *, limit: int, max_bytes: int
    ) -> Page:
        """Read, or not."""
        return await self._call(
            "read", lambda: self._engine.read(channel, after, limit=limit, max_bytes=max_bytes)
        )

    async def tails(self, channels: Sequence[str]) -> Sequence[Tail]:
        """Return the tails, or not."""
        return await self._call("tails", lambda: self._engine.tails(channels))

    async def watch(self, channels: Collection[str]) -> None:
        """Watch, or not."""
        await self._call("watch", lambda: self._engine.watch(channels))

    async def unwatch(self, channels: Collection[str]) -> None:
        """Watch no more, or not."""
        await self._call("unwatch", lambda: self._engine.unwatch(channels))

    async def names(self, prefix: str, *, limit: int) -> Sequence[str]:
        """Return the names, or not."""
        return await self._call("names", lambda: self._engine.names(prefix, limit=limit))

    async def drop(self, channel: str) -> None:
        """Drop, or not."""
        await self._call("drop", lambda: self._engine.drop(channel))

    async def signal(self, topic: str, data: bytes) -> None:
        """Signal, or not."""
        await self._call("signal", lambda: self._engine.signal(topic, data))

    async def health(self) -> Health:
        """Say how the engine is, or that it is away."""
        if self._crashed or not self._answering.is_set():
            return Health(ready=False, detail=f"{self!r} is away")
        return await self._engine.health()


@contextmanager
def seeds_told(*engines: FaultyEngine) -> Generator[None]:
    """Add to any error of the block with which seed what had gone wrong before."""
    try:
        yield
    except BaseException as error:
        for engine in engines:
            error.add_note(repr(engine))
        raise
