"""Random operations on an engine, compared with the same ones on the engine in memory.

The one in memory evicts nothing here, so that it knows every record; between which numbers of them
another engine may keep is counted beside. Cursors differ from engine to engine: what is compared is
the how-manieth record they name. The only file that knows Hypothesis.
"""

import secrets
from collections.abc import Awaitable, Coroutine, Sequence
from itertools import pairwise
from typing import Any, Literal, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import Appended, GapReason, Newest, Page, Record, Retain, Tail
from typed_sse.channels.memory import MemoryEngine, MemoryStore
from typed_sse.contract.process import EngineHooks, Lost, Process, chained, holds, same
from typed_sse.errors import ChannelSealed, Conflict, TypedSSEError

T = TypeVar("T")

_PROCESSES = st.integers(0, 1)
_CHANNELS = st.sampled_from(["a", "room/b"])
# So many at once that there are evictions within a few steps.
_COUNTS = st.sampled_from([0, 1, 1, 2, 3, 60, 60, 110])
_PLACES = st.integers(0, 2**16)
_STEPS = 40

Expect = Literal["nothing", "the tail", "another"]


class _Log:
    """A channel since it was last begun: the same in memory and in the engine under test.

    Attributes:
        known, cursors: where it was begun, and behind each record, in memory and in the engine;
            `None` for those that were evicted before anybody saw them.
        least, most: the index of the oldest record that is kept, is between these.
    """

    def __init__(self, known: Tail, tail: Tail) -> None:
        self.known = [known.cursor]
        self.cursors: list[Cursor | None] = [tail.cursor]
        self.tail = tail
        self.least = self.most = 0

    @property
    def total(self) -> int:
        """The number of records that there were."""
        return len(self.known) - 1

    def appended(self, known: Appended, count: int, events: int) -> None:
        """Note that so many were appended, and how many are to be kept now."""
        first = known.last.pos - count + 1
        self.known += [known.last._replace(pos=first + i) for i in range(count)]
        self.cursors += [None] * count
        self.most = max(self.most, self.total - events)
        self.least = max(self.least, self.total - 2 * events - 100)

    def learn(self, index: int, record: Record) -> None:
        """Note, or compare, the cursor of a record."""
        before, cursor = self.cursors[index], self.cursors[index + 1]
        if cursor is None:
            self.cursors[index + 1] = cursor = record.cursor
        same(record.cursor, cursor, f"the cursor of record {index}")
        if before is not None:
            same(record.prev, before.pos, f"`prev` of record {index}")


class EngineMachine(RuleBasedStateMachine):
    """Two processes of an engine, and one in memory that is told the same.

    Args:
        hooks: how the engine is made; see `EngineContract`.
    """

    def __init__(self, hooks: EngineHooks) -> None:
        super().__init__()
        self._hooks = hooks
        self._prefix = f"m{secrets.token_hex(6)}/"
        self._runner = hooks.runner()
        self._logs: dict[str, _Log] = {}
        self._dropped: dict[str, list[Cursor]] = {}
        self._generation = 0
        self._count = 0
        # What each process has to hear: from which record of which log on.
        self._heard: dict[tuple[int, str], tuple[_Log, int]] = {}
        self._failed = False

    def _do(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            return self._runner.run(call)
        except BaseException:
            self._failed = True
            raise

    @initialize()
    def start(self) -> None:
        """Start the two processes, and the one in memory."""
        self._do(self._start())

    async def _start(self) -> None:
        # A clock that stands still: nothing grows too old in memory.
        self._memory = Process(MemoryEngine(MemoryStore(lambda: 0.0)), 1)
        self._processes = [Process(self._hooks.make(), self._hooks.limit_s) for _ in range(2)]
        for process in (self._memory, *self._processes):
            await process.engine.start(process)
        await self._watch(0, self._prefix + "room/b", by_prefix=True)
        await self._watch(1, self._prefix + "a", by_prefix=False)

    async def _log(self, channel: str) -> _Log:
        log = self._logs.get(channel)
        if log is None:
            known = await self._memory.tail(channel)
            log = self._logs[channel] = _Log(known, await self._processes[0].tail(channel))
            for (who, name), (_, _) in list(self._heard.items()):
                if name == channel:
                    self._heard[who, name] = (log, 0)
        return log

    @rule(
        who=_PROCESSES,
        name=_CHANNELS,
        count=_COUNTS,
        key=st.sampled_from([None, None, None, "k", "l"]),
        expect=st.sampled_from(["nothing", "nothing", "the tail", "another"]),
        seal=st.sampled_from([False] * 9 + [True]),
        events=st.sampled_from([1, 2, 5, 40]),
        place=_PLACES,
    )
    def append(
        self,
        who: int,
        name: str,
        count: int,
        key: str | None,
        expect: Expect,
        seal: bool,
        events: int,
        place: int,
    ) -> None:
        """Append to both, and compare what they answer and what there is afterwards."""
        self._do(self._append(who, self._prefix + name, count, key, expect, seal, events, place))

    async def _append(
        self,
        who: int,
        channel: str,
        count: int,
        key: str | None,
        expect: Expect,
        seal: bool,
        events: int,
        place: int,
    ) -> None:
        log, process = await self._log(channel), self._processes[who]
        index = log.total if expect == "the tail" else place % len(log.known)
        cursor = None if expect == "nothing" else log.cursors[index]
        wanted = None if cursor is None else log.known[index]
        bodies = [b"%d" % (self._count + i) + bytes(i % 7) for i in range(count)]
        self._count += count
        if key is not None:
            # What a key of a dropped channel answers, no law says.
            key = f"{self._generation}.{key}"
        known = await _outcome(
            self._memory.append(
                channel, *bodies, retain=Retain(10**6), key=key, expect=wanted, seal=seal
            )
        )
        found = await _outcome(
            process.append(
                channel, *bodies, retain=Retain(events), key=key, expect=cursor, seal=seal
            )
        )
        if isinstance(known, TypedSSEError) or isinstance(found, TypedSSEError):
            both_refuse = {type(known), type(found)} <= {ChannelSealed, Conflict}
            holds(type(known) is type(found) or both_refuse, f"{known!r} in memory, {found!r} here")
        else:
            same(found.duplicate, known.duplicate, "whether it is a duplicate")
            if not known.duplicate:
                log.appended(known, len(bodies) or 1, events)
            await self._learn(process, channel, log)
            base = log.known[0].pos
            for theirs, mine in ((known.first, found.first), (known.last, found.last)):
                there = log.cursors[theirs.pos - base]
                holds(there in (None, mine), f"{mine} names the record that {theirs} does")
                log.cursors[theirs.pos - base] = mine

    async def _learn(self, process: Process, channel: str, log: _Log) -> None:
        """Read all that is kept, and compare it."""
        records = await process.all(channel)
        await self._compare(channel, log, log.total - len(records), records)
        holds(
            log.least <= log.total - len(records) <= log.most,
            f"{log.total - log.most} to {log.total - log.least} are kept, not {len(records)}",
        )
        log.least = max(log.least, log.total - len(records))

    async def _compare(
        self, channel: str, log: _Log, index: int, records: Sequence[Record]
    ) -> None:
        known = await self._memory.all(channel, Newest(log.total - index))
        wanted = [(record.body, record.seals) for record in known[: len(records)]]
        same([(record.body, record.seals) for record in records], wanted, "bodies and seals")
        for offset, record in enumerate(records):
            log.learn(index + offset, record)
        if records:
            chained(records, records[0].cursor._replace(pos=records[0].prev))

    @rule(who=_PROCESSES, name=_CHANNELS, place=_PLACES, limit=st.sampled_from([1, 3, 50, 10**5]))
    def read_behind_a_cursor(self, who: int, name: str, place: int, limit: int) -> None:
        """Read behind any cursor that there ever was in the channel."""
        self._do(self._read_behind(who, self._prefix + name, place, limit))

    async def _read_behind(self, who: int, channel: str, place: int, limit: int) -> None:
        log, process = await self._log(channel), self._processes[who]
        index = place % len(log.cursors)
        cursor = log.cursors[index]
        if cursor is None:
            return
        page = await process.read(channel, cursor, limit=limit)
        # What has to be kept so that it is valid: its record; for the birth, the first one.
        oldest = max(0, index - 1)
        if page.gap is None:
            holds(index == log.total or log.least <= oldest, f"cursor {index} has been evicted")
            await self._page(channel, log, index, page, limit)
        else:
            same(page.gap, GapReason.EVICTED, f"the gap behind cursor {index} of {log.total}")
            holds(index < log.total and oldest < log.most, f"cursor {index} is to be kept")
            log.least = max(log.least, oldest + 1)
            same((tuple(page.records), page.tail), ((), await process.tail(channel)), "of a gap")

    async def _page(self, channel: str, log: _Log, index: int, page: Page, limit: int) -> None:
        await self._compare(channel, log, index, page.records)
        same(len(page.records), min(limit, log.total - index), "the number of records")
        same(page.more, index + len(page.records) < log.total, "whether there is more")

    @rule(
        who=_PROCESSES,
        name=_CHANNELS,
        events=st.sampled_from([0, 1, 4, 100, 150, 2**53]),
        limit=st.sampled_from([1, 10, 10**5]),
    )
    def read_the_newest(self, who: int, name: str, events: int, limit: int) -> None:
        """Read the newest, or all."""
        self._do(self._read_newest(who, self._prefix + name, events, limit))

    async def _read_newest(self, who: int, channel: str, events: int, limit: int) -> None:
        log, process = await self._log(channel), self._processes[who]
        page = await process.read(channel, Newest(events), limit=limit)
        same(page.gap, None, "the gap in front of the newest")
        if not page.records:
            same(min(events, log.total), 0, "the number of records")
            return
        first, cursor = log.total - events, page.records[0].cursor
        if cursor not in log.cursors:
            await self._learn(process, channel, log)
        index = log.cursors.index(cursor) - 1
        holds(max(log.least, first) <= index <= max(log.most, first), f"it begins at {index}")
        await self._page(channel, log, index, page, limit)

    @rule(who=_PROCESSES, name=_CHANNELS, place=_PLACES)
    def read_behind_a_strange_cursor(self, who: int, name: str, place: int) -> None:
        """Read behind a cursor of a dropped channel, or of another one."""
        self._do(self._read_strange(who, self._prefix + name, place))

    async def _read_strange(self, who: int, channel: str, place: int) -> None:
        await self._log(channel)
        strange = list(self._dropped.get(channel, []))
        for name, log in self._logs.items():
            if name != channel:
                strange += [cursor for cursor in log.cursors if cursor is not None]
        if strange:
            gap = await self._processes[who].gap(channel, strange[place % len(strange)])
            holds(gap is not None, "there is a gap behind a cursor of another log")

    @rule(who=_PROCESSES)
    def tails(self, who: int) -> None:
        """Compare the ends of all channels."""
        self._do(self._tails(who))

    async def _tails(self, who: int) -> None:
        tails = await self._processes[who].engine.tails(list(self._logs))
        known = await self._memory.engine.tails(list(self._logs))
        for log, theirs, mine in zip(self._logs.values(), known, tails, strict=True):
            holds(log.cursors[-1] in (None, mine.cursor), "the tail is the last record")
            same((mine.sealed, mine.base), (theirs.sealed, log.tail.base), "sealed, and the base")

    @precondition(lambda self: self._logs)
    @rule(who=_PROCESSES, place=_PLACES, so=st.sampled_from([False] * 4 + [True]))
    def drop(self, who: int, place: int, so: bool) -> None:
        """Drop a channel, now and then; it begins anew when it is used."""
        if so:
            channel = sorted(self._logs)[place % len(self._logs)]
            self._do(self._drop(who, channel))

    async def _drop(self, who: int, channel: str) -> None:
        await self._memory.engine.drop(channel)
        await self._processes[who].engine.drop(channel)
        log = self._logs.pop(channel)
        self._generation += 1
        gone = [cursor for cursor in log.cursors if cursor is not None]
        self._dropped.setdefault(channel, []).extend(gone)

    @rule(who=_PROCESSES, prefix=st.sampled_from(["", "r", "room/", "z"]), limit=st.integers(1, 4))
    def names(self, who: int, prefix: str, limit: int) -> None:
        """Compare the names of channels."""
        self._do(self._names(who, self._prefix + prefix, limit))

    async def _names(self, who: int, prefix: str, limit: int) -> None:
        known = await self._memory.engine.names(prefix, limit=limit)
        found = await self._processes[who].engine.names(prefix, limit=limit)
        same(list(found), list(known), f"the names that begin with {prefix}")

    @rule(who=_PROCESSES, name=_CHANNELS, by_prefix=st.booleans())
    def watch(self, who: int, name: str, by_prefix: bool) -> None:
        """Let a process hear of a channel; it has to hear all from here on."""
        self._do(self._watch(who, self._prefix + name, by_prefix))

    async def _watch(self, who: int, channel: str, by_prefix: bool) -> None:
        log = await self._log(channel)
        watched = self._prefix + "room/" if by_prefix and "room/" in channel else channel
        await self._processes[who].engine.watch([watched])
        self._heard.setdefault((who, channel), (log, log.total))

    def teardown(self) -> None:
        """See that all was heard, and stop."""
        try:
            if not self._failed:
                self._do(self._all_heard())
        finally:
            self._runner.run(self._stop())
            self._runner.close()

    async def _all_heard(self) -> None:
        for (who, channel), (log, since) in self._heard.items():
            if self._logs.get(channel) is log and log.total > since:
                await self._has_heard(self._processes[who], channel, log, since)

    async def _has_heard(self, process: Process, channel: str, log: _Log, since: int) -> None:
        last = (await process.tail(channel)).cursor
        await process.until(
            lambda: process.has_heard(last) or process.has_lost(channel), "the last is heard"
        )
        heard = [each for each in process.records(channel) if each.cursor.epoch == last.epoch]
        holds(
            all(a.cursor.pos < b.cursor.pos for a, b in pairwise(heard)),
            "records are heard in order, and once",
        )
        known = await self._memory.all(channel, Newest(log.total - since))
        bodies = [record.body for record in known]
        if [record.body for record in heard][-len(bodies) :] != bodies:
            holes = any(b.prev != a.cursor.pos for a, b in pairwise(heard))
            lost = any(isinstance(each, Lost) for each in process.heard)
            holds(holes or lost, "what was not heard shows, or is told")

    async def _stop(self) -> None:
        for process in (self._memory, *self._processes):
            await process.engine.stop()


def engine_machine(hooks: EngineHooks) -> type[EngineMachine]:
    """Return the machine for an engine, as Hypothesis wants it: a class without arguments."""

    class Machine(EngineMachine):
        def __init__(self) -> None:
            super().__init__(hooks)

    return Machine


def compare_with_memory(hooks: EngineHooks) -> None:
    """Run random operations, `hooks.examples` times; the same ones each time."""
    run_state_machine_as_test(
        engine_machine(hooks),
        settings=settings(
            max_examples=hooks.examples,
            stateful_step_count=_STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


async def _outcome(call: Awaitable[Appended]) -> Appended | TypedSSEError:
    try:
        return await call
    except TypedSSEError as error:
        return error
