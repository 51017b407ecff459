"""Laws of the feed: who hears what, and until when."""

# A law is told by the name of its test.
# ruff: noqa: D102

import asyncio
import threading
from functools import partial

from typed_sse.contract.process import (
    EngineHooks,
    Lost,
    Process,
    Signal,
    holds,
    law,
    repeated,
    same,
)


class FeedLaws(EngineHooks):
    """L3; signals, health and stop."""

    # --- L3: watching

    @law
    async def test_whoever_watches_a_connection_that_is_well_hears_all(
        self, one: Process, two: Process
    ) -> None:
        for turn in range(10):
            channel = self.name(f"{turn}")
            await one.engine.watch([channel])
            await two.append(channel, b"x", b"y")
            await one.append(channel, b"z")
            records = await two.all(channel)
            await one.hears(records[-1].cursor)
            same(one.records(channel), records, "what was heard")
            same(two.records(channel), [], "what was heard by who did not watch")
        holds(not any(isinstance(each, Lost) for each in one.heard), "nothing was lost")

    @law
    async def test_what_comes_after_watch_has_returned_is_heard_or_missed(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        writing = asyncio.create_task(repeated(lambda: two.append(channel, b"x", b"y"), 60))
        await asyncio.sleep(0)
        await one.engine.watch([channel])
        tail = await one.tail(channel)
        await writing
        await two.append(channel, b"last")
        await one.accounts_for(await two.all(channel, tail.cursor))

    @law
    async def test_a_name_with_a_slash_at_its_end_watches_all_below(
        self, one: Process, two: Process
    ) -> None:
        below = [self.name("room/a"), self.name("room/b/c"), self.name("room/")]
        beside = [self.name("room"), self.name("roomy"), self.name("b/room/a")]
        begun = await two.append(below[0], b"before")
        await one.engine.watch([self.name("room/")])
        for channel in [*beside, *below]:
            await two.append(channel, b"x")
        for channel in below:
            await one.hears((await two.tail(channel)).cursor)
        heard = sum(len(one.records(channel)) for channel in beside)
        same(heard, 0, "the records that were heard from beside")
        same(one.records(below[0]), await two.all(below[0], begun.last), "heard from below")

    @law
    async def test_watching_twice_is_watching_once(self, one: Process, two: Process) -> None:
        channel = self.name("room/a")
        for _ in range(2):
            await one.engine.watch([channel, self.name("room/"), self.name("fence")])
        await two.append(channel, b"x", b"y")
        await fence(one, two, self.name("fence"))
        same(one.records(channel), await two.all(channel), "what was heard")
        await one.engine.unwatch([self.name("room/")])
        await one.hears((await two.append(channel, b"z")).last)
        await one.engine.unwatch([channel])
        await falls_silent(self, one, two, channel)

    @law
    async def test_after_unwatch_no_more_is_heard(self, one: Process, two: Process) -> None:
        channel, prefix = self.name("a"), self.name("room/")
        await one.engine.watch([channel, prefix, self.name("fence")])
        await one.engine.unwatch([channel])
        await one.hears((await two.append(prefix + "a", b"x")).last)
        await falls_silent(self, one, two, channel)
        await one.engine.unwatch([prefix, self.name("never watched")])
        await falls_silent(self, one, two, prefix + "a")
        await one.engine.watch([channel])
        await one.hears((await two.append(channel, b"again")).last)

    # --- signals, health, stop
    @law
    async def test_a_signal_comes_once_to_every_process(self, one: Process, two: Process) -> None:
        sent = [Signal("t/ö *", bytes(range(256))), Signal("", b""), Signal("t", b"x" * 5000)]
        sent.append(sent[0])
        for turn, signal in enumerate(sent, 1):
            await (one, two)[turn % 2].engine.signal(*signal)
            for process in (one, two):
                heard = f"signal {turn} is heard"
                await process.until(partial(_has_signals, process, turn), heard)
        await one.engine.signal("last", b"")
        for process in (one, two):
            await process.until(partial(_has_signals, process, len(sent) + 1), "the last is heard")
            same(process.signals(), [*sent, Signal("last", b"")], "the signals")

    @law
    async def test_health_says_that_it_is_ready(self, one: Process) -> None:
        health = await one.engine.health()
        same(health.ready, True, "ready")
        holds(health.detail != "", "there is a sentence for people")

    @law
    async def test_after_stop_nothing_is_called_and_nothing_runs(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        for process in (one, two):
            await process.engine.watch([channel])
        running = asyncio.all_tasks()
        threads = set(threading.enumerate())
        three = await self.open()
        await three.engine.watch([channel, self.name("room/")])
        await one.append(channel, b"x")
        await three.stop()
        known = len(three.heard)
        for _ in range(3):
            last = (await one.append(channel, b"y")).last
            await one.engine.signal("topic", b"")
            for process in (one, two):
                await process.hears(last)
        await three.stop()
        same(len(three.heard), known, "what was heard at all")

        async def nothing_is_left() -> bool:
            left = {
                thread for thread in set(threading.enumerate()) - threads if not _pooled(thread)
            }
            return not left and not asyncio.all_tasks() - running

        await self.eventually(nothing_is_left, "the tasks and threads of a stopped engine end")


async def fence(one: Process, two: Process, channel: str) -> None:
    """Append to a channel that `one` watches, and wait for it: what came before was heard too."""
    await one.hears((await two.append(channel, b"")).last)


async def falls_silent(hooks: EngineHooks, one: Process, two: Process, channel: str) -> None:
    """Wait until `one` hears no more of a channel, by the fence that it watches."""

    async def silent() -> bool:
        appended = await two.append(channel, b"unheard?")
        await fence(one, two, hooks.name("fence"))
        return not one.has_heard(appended.last)

    await hooks.eventually(silent, "a channel that is not watched is not heard")


def _has_signals(process: Process, count: int) -> bool:
    return len(process.signals()) >= count


def _pooled(thread: threading.Thread) -> bool:
    return thread.name.startswith("asyncio_")
