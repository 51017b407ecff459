"""Workers, publishers and readers of one store, by a seed; and whether a reader missed anything.

Each event knows which one was before it in its channel when it was appended, on whatever copy of
the log that was. So a reader's account is checked event by event: what follows must follow, unless
it was told of a gap.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Literal

import pytest

from typed_sse.channels import Channel, Hub, Subscription, live, memory, pages, reading
from typed_sse.channels.cursor import Cursor, channel_key, parsed
from typed_sse.channels.engine import Record, Retain
from typed_sse.channels.memory import MemoryEngine, MemoryStore
from typed_sse.errors import EngineUnavailable
from typed_sse.events import BaseEvent
from typed_sse.registry import Registry
from typed_sse.response import EventSourceResponse
from typed_sse.streams import merge
from typed_sse.testing import Fault, FaultyEngine, open_stream
from typed_sse.wire import Decoder, ServerSentEvent

Kind = Literal["one", "three", "twelve", "prefix"]

NAMES: Mapping[Kind, Sequence[str]] = {
    "one": ("c0",),
    "three": ("c0", "c1", "c2"),
    "twelve": tuple(f"c{n}" for n in range(12)),
    "prefix": ("p/0", "p/1", "p/2", "p/3"),
}


class Note(BaseEvent[int]): ...


@dataclass
class Trouble:
    """What goes wrong in a run."""

    rates: Mapping[Fault, float] = field(default_factory=dict[Fault, float])
    outages: bool = False
    forks: bool = False
    retain: Retain = field(default_factory=Retain)

    @property
    def may_gap(self) -> bool:
        """Whether events may really be gone."""
        return self.forks or self.retain.events < 1000


class Log:
    """What was published: by its number, each event's channel and the number before it there."""

    def __init__(self, store: MemoryStore, retain: Retain) -> None:
        self.store = store
        self.retain = retain
        self.before: dict[int, int | None] = {}
        self.channel: dict[int, str] = {}
        self.at: dict[tuple[str, Cursor], int | None] = {}
        self.last: dict[str, int | None] = {}
        self._numbers: list[int] = []
        self._engine = _Told(store, self)
        store.engines.insert(0, self._engine)

    async def publish(self, channel: str, count: int = 1, *, seal: bool = False) -> None:
        numbers = range(len(self.before), len(self.before) + count)
        before = self.last.get(channel)
        tail = self.store.log(channel).tail
        self.at.setdefault((channel, Cursor(tail.cursor.epoch, tail.base, 0)), None)
        for number in numbers:
            self.before[number], self.channel[number] = before, channel
            before = number
        self.last[channel] = before
        self._numbers = list(numbers)
        bodies = [Note(number).encode() for number in numbers]
        await self._engine.append(channel, bodies, retain=self.retain, seal=seal)

    def note(self, channel: str, records: Sequence[Record]) -> None:
        """Remember where each event is."""
        for record, number in zip(records, self._numbers, strict=True):
            self.at[channel, record.cursor] = number

    def copy(self) -> Callable[[], None]:
        """Return what puts the store back to where it is now."""
        copy, last = self.store.copy(), dict(self.last)

        def restore() -> None:
            self.store.restore(copy)
            self.last = dict(last)

        return restore

    def clear(self) -> None:
        self.store.restore(MemoryStore(self.store.clock))
        self.last.clear()

    def place(self, channel: str, last_id: str) -> int | str | None:
        """Return what a reader with this id has had last; `new` or `unknown` where it says none."""
        point = parsed(last_id)
        cursor = point.get(channel_key(channel)) if isinstance(point, Mapping) else point
        if cursor is None:
            return "new"
        if cursor.tag == 0:
            return self.at.get((channel, cursor), None)
        return self.at.get((channel, cursor), "unknown")


class _Told(MemoryEngine):
    def __init__(self, store: MemoryStore, log: Log) -> None:
        super().__init__(store)
        self._log = log

    def tell(self, channel: str, records: Sequence[Record]) -> None:
        self._log.note(channel, records)


_OPEN = "open"
_GAPPED = "gapped"


class Account:
    """What one reader has had, over all its connections."""

    def __init__(self, log: Log, names: Sequence[str], *, exact: bool, prefix: bool) -> None:
        self.log = log
        self.names = names
        self.exact = exact
        self.prefix = prefix
        self.last_id = ""
        self.trail: list[str] = []
        # From a gap on, until the place in each channel has a name again, ids may be left out.
        self.loose = False
        self.gaps: list[str] = []
        self.had: list[int] = []
        self.at: dict[str, int | str | None] = dict.fromkeys(names, _OPEN)

    def connects(self) -> None:
        """Begin where the last id says; nothing that it does not say was had, if it is exact."""
        for name in self.names:
            known = self.at[name]
            if not self.last_id:
                assert not self.exact or known in (_OPEN, _GAPPED), (name, known, "without an id")
                self.at[name] = _OPEN
                continue
            said = self.log.place(name, self.last_id)
            if said == "new":
                assert self.prefix, (name, self.last_id)
                said = None
            assert said != "unknown", (name, self.last_id)
            if self.exact and not self.loose and known not in (_OPEN, _GAPPED):
                assert said == known, (name, said, known, "the id is not of what was had")
            self.at[name] = said

    def read(self, body: bytes) -> None:
        """Take what has come over one connection."""
        decoder = Decoder(last_event_id=self.last_id)
        self.trail.append(f"connected with {self.last_id}")
        for block in body.split(b"\n\n")[:-1]:
            events = decoder.feed(block + b"\n\n")
            fresh = decoder.last_event_id != self.last_id
            self.last_id = decoder.last_event_id
            said = {name: self.log.place(name, self.last_id) for name in self.names}
            self.trail += [f"{event.event} {event.data}" for event in events] + [f"id {said}"]
            for event in events:
                self.event(event)
            if fresh and self.last_id:
                for name in self.names:
                    if self.at[name] == _OPEN:
                        place = self.log.place(name, self.last_id)
                        self.at[name] = None if place == "new" else place
                said = {name: self.log.place(name, self.last_id) for name in self.names}
                self.loose = self.loose and said != self.at

    def event(self, event: ServerSentEvent) -> None:
        if event.event == "stream.gap":
            gap = parsed_gap(event.data)
            self.gaps.append(gap["reason"])
            for name in self.names:
                if name == gap["channel"] or (self.prefix and name.startswith(gap["channel"])):
                    self.at[name] = _GAPPED
            self.loose = True
            return
        assert event.event == "note", event
        number = int(event.data or "")
        name = self.log.channel[number]
        at = self.at[name]
        self.had.append(number)
        if at not in (_OPEN, _GAPPED):
            before = self.log.before[number]
            assert before == at, f"{name}: {number} follows {before}, the reader had {at}"
        self.at[name] = number


def parsed_gap(data: str | None) -> dict[str, str]:
    assert data is not None
    gap: dict[str, str] = json.loads(data)
    return gap


class World:
    """One run."""

    def __init__(self, seed: int, kind: Kind, trouble: Trouble) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.kind: Kind = kind
        self.trouble = trouble
        self.names = NAMES[kind]
        self.over = False

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self.finished = asyncio.Event()
        self.store = MemoryStore(loop.time)
        self.log = Log(self.store, self.trouble.retain)
        self.engines = [
            FaultyEngine(
                MemoryEngine(self.store),
                seed=self.seed * 10 + n,
                rates=self.trouble.rates,
                delay_s=0.05,
                timeout_s=0.5,
            )
            for n in range(3)
        ]
        if self.kind != "prefix":
            for name in self.names:
                await self.log.publish(name, self.random.randrange(6) or 1)
        else:
            await self.log.publish("p/0", 3)
        async with AsyncExitStack() as stack:
            self.hubs = [Hub(engine) for engine in self.engines]
            for hub in self.hubs:
                await _entered(stack, hub)
            accounts = [
                Account(
                    self.log,
                    self.names,
                    exact=self.kind != "twelve",
                    prefix=self.kind == "prefix",
                )
                for _ in range(3)
            ]
            async with asyncio.TaskGroup() as group:
                for account in accounts:
                    group.create_task(self.reader(account))
                await self.publishers()
                await self.heal()
            for account in accounts:
                self.check(account)

    async def publishers(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(self.publisher())
            if self.trouble.outages:
                group.create_task(self.outages())
            if self.trouble.forks:
                group.create_task(self.forks())

    async def pause(self, longest_s: float) -> None:
        if self.random.random() < 0.3:
            for _ in range(self.random.randrange(6)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(self.random.uniform(0, longest_s))

    async def publisher(self) -> None:
        for _ in range(12):
            await self.pause(0.2)
            count = self.random.choice((1, 1, 2, 3, 7))
            await self.log.publish(self.random.choice(self.names), count)

    async def outages(self) -> None:
        for _ in range(3):
            await self.pause(1)
            engine = self.random.choice(self.engines)
            engine.crash()
            await self.pause(1)
            engine.recover()

    async def forks(self) -> None:
        for _ in range(2):
            restore = self.log.copy()
            await self.pause(1)
            for engine in self.engines:
                engine.crash()
            if self.random.random() < 0.3:
                self.log.clear()
            else:
                restore()
            for engine in self.engines:
                engine.recover()

    async def heal(self) -> None:
        """Let everything be well again, and give every channel a last event."""
        for engine in self.engines:
            engine._faults._rates = {}
            engine.recover()
        self.over = True
        await asyncio.sleep(5)
        for name in self.names:
            await self.log.publish(name)
        await asyncio.sleep(15)
        self.finished.set()

    def subscription(self, hub: Hub, after: str | None) -> "Subscription[Note]":
        if self.kind == "prefix":
            return Channel("p/{x}", Note, hub=hub).subscribe_all(after)
        some = [Channel(name, Note, hub=hub).subscribe(after) for name in self.names]
        merged = merge(*some)
        assert isinstance(merged, Subscription)
        return merged

    async def reader(self, account: Account) -> None:
        try:
            await self.reads(account)
        except AssertionError as error:
            error.add_note("\n".join(account.trail[-40:]))
            raise

    async def reads(self, account: Account) -> None:
        while True:
            account.connects()
            after = account.last_id or None
            stream = self.subscription(self.random.choice(self.hubs), after)
            client = open_stream(EventSourceResponse(stream, registry=Registry()))
            last = self.over
            for _ in range(self.random.randrange(5)):
                await self.pause(0.3)
                if self.random.random() < 0.3:
                    client.pause()
                    await self.pause(0.5)
                    client.resume()
            if last:
                client.resume()
                await self.finished.wait()
            client.resume()
            assert client.sends_at_once <= 1
            body = client.body
            if not last and self.random.random() < 0.5:
                body = body[: self.random.randint(0, len(body))]
            client.leave()
            await client.ended()
            account.read(body)
            if last:
                return

    def check(self, account: Account) -> None:
        ends = {name: self.log.last.get(name) for name in self.names}
        assert account.at == ends, "the last events have not come"
        if not self.trouble.may_gap:
            assert not account.gaps, account.gaps
            assert not account.exact or len(account.had) == len(set(account.had))


async def _entered(stack: AsyncExitStack, hub: Hub) -> None:
    for _ in range(100):
        try:
            await stack.enter_async_context(hub)
        except EngineUnavailable:
            continue
        return


def small(patch: pytest.MonkeyPatch, seed: int) -> None:
    """Make every limit so small that little is enough to reach it."""
    random = Random(seed)
    patch.setattr(memory, "_SPARE", 0)
    if random.random() < 0.2:
        return
    for module, name, values in (
        (live, "_RING_FRAMES", (2, 5, 20)),
        (live, "_PRELOADED", (1, 2, 8)),
        (pages, "_PAGE_RECORDS", (1, 3, 8)),
        (live, "_MOST_HELD", (1, 3, 50)),
        (live, "_PIECE_FRAMES", (1, 3, 50)),
        (live, "_READERS_A_TURN", (1, 2)),
        (reading, "_FRAMES_AT_ONCE", (1, 3, 50)),
    ):
        patch.setattr(module, name, random.choice(values))


async def told(seed: int, main: Callable[[], Awaitable[None]]) -> None:
    """Add the seed to whatever goes wrong."""
    try:
        async with asyncio.timeout(10_000):
            await main()
    except BaseException as error:
        error.add_note(f"seed={seed}")
        raise
