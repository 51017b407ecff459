"""Laws of trouble: lost connections, cancelled calls, stores that are away."""

# A law is told by the name of its test.
# ruff: noqa: D102

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any
from unittest import SkipTest

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import (
    Durability,
    GapReason,
    Record,
)
from typed_sse.contract.feeding import falls_silent
from typed_sse.contract.process import (
    EngineHooks,
    Lost,
    Process,
    holds,
    law,
    refused,
    same,
)
from typed_sse.errors import (
    EngineUnavailable,
    OutcomeUnknown,
)


class TroubleLaws(EngineHooks):
    """L8, L9 and L10."""

    # --- L8: lost connections

    @law
    async def test_a_lost_connection_is_told_before_the_next_record_and_watches_on(
        self, one: Process, two: Process
    ) -> None:
        channel, below = self.name("a"), self.name("room/b")
        await one.engine.watch([channel, self.name("room/")])
        for turn in range(3):
            await one.hears((await two.append(channel, b"well %d" % turn)).last)
            known = len(one.heard)
            await self.lose_connection()
            await self._is_heard(one, two, channel)
            await self._is_heard(one, two, below)
            since = one.heard[known:]
            next_record = next(i for i, each in enumerate(since) if isinstance(each, Record))
            holds(Lost(None) in since[:next_record], "the loss was told before the next record")

    @law
    async def test_appends_that_lose_their_connection_are_done_once_with_a_key(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        await one.engine.watch([channel])
        writing = [asyncio.create_task(self._persist(each, channel)) for each in (one, two, two)]
        for count in range(4):
            await self.eventually(partial(self._is_longer, two, channel, 9 * count), "more comes")
            await self.lose_connection()
        written = await asyncio.gather(*writing)
        await self.back(one)
        records = await one.all(channel)
        found = sorted(record.body for record in records)
        same(found, sorted(body for bodies in written for body in bodies), "what was appended")
        await one.accounts_for(records)

    @law
    async def test_what_was_appended_outlives_an_outage_in_the_midst(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        await one.engine.watch([channel])
        if one.engine.caps.durability is Durability.PROCESS:
            raise SkipTest("nothing outlives this engine's store")
        writing = [asyncio.create_task(self._persist(each, channel)) for each in (one, two, two)]
        await self.eventually(partial(self._is_longer, two, channel, 20), "20 are there")
        async with self.outage():
            pass
        written = await asyncio.gather(*writing)
        await self.back(one)
        records = await one.all(channel)
        found = sorted(record.body for record in records)
        same(found, sorted(body for bodies in written for body in bodies), "what was appended")
        await one.accounts_for(records)

    async def _is_longer(self, process: Process, channel: str, count: int) -> bool:
        return len((await process.read(channel)).records) >= count

    async def _persist(self, process: Process, channel: str) -> list[bytes]:
        """Append 40 records, each as often as it takes, and return them."""
        bodies = [secrets.token_hex(8).encode() for _ in range(40)]
        for body in bodies:
            surely_not = True
            async with asyncio.timeout(self.limit_s):
                while True:
                    try:
                        appended = await process.append(channel, body, key=body.decode())
                    except EngineUnavailable:
                        await asyncio.sleep(0.01)
                    except OutcomeUnknown:
                        surely_not = False
                    else:
                        break
            holds(not (surely_not and appended.duplicate), "nothing was done that was unavailable")
            await asyncio.sleep(0)
        return bodies

    async def _is_heard(self, one: Process, two: Process, channel: str) -> None:
        appended: list[Cursor] = []

        async def heard() -> bool:
            try:
                appended.append((await two.append(channel, b"again")).last)
            except OutcomeUnknown:
                return False
            return any(one.has_heard(cursor) for cursor in appended)

        await self.eventually(heard, f"{channel} is heard again")
        await one.hears(appended[-1])

    @law
    async def test_what_a_store_has_kept_is_there_after_an_outage(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        await one.engine.watch([channel])
        birth = (await one.tail(channel)).cursor
        old = await two.append(channel, b"x", b"y", key="k")
        await one.hears(old.last)
        known = len(one.heard)
        async with self.outage():
            pass
        await self.back(one)
        await self.back(two)
        if one.engine.caps.durability is Durability.HOST:
            same(await one.bodies(channel, birth), [b"x", b"y"], "what is behind the birth")
            same(await two.bodies(channel, old.first), [b"y"], "what is behind the first")
            again = await two.append(channel, b"x", b"y", key="k")
            same(again, old._replace(duplicate=True), "the answer to the same key")
        else:
            holds(await one.gap(channel, old.first) is GapReason.RESET, "what was lost is told of")
        await self._is_heard(one, two, channel)
        since = one.heard[known:]
        next_record = next(i for i, each in enumerate(since) if isinstance(each, Record))
        holds(Lost(None) in since[:next_record], "the loss was told before the next record")

    # --- L9: cancelled calls

    async def _cancelled(
        self,
        call: Callable[[int], Coroutine[Any, Any, object]],
        then: Callable[[int], Coroutine[Any, Any, None]],
    ) -> None:
        """Cancel a call after 0, 1, 2 … turns of the loop, until it completes before."""
        turns = 0
        while True:
            task = asyncio.create_task(call(turns))
            for _ in range(turns):
                await asyncio.sleep(0)
            completed = task.done()
            task.cancel()
            await asyncio.wait({task}, timeout=self.limit_s)
            holds(task.done(), f"a call that is cancelled after {turns} turns ends")
            if not task.cancelled():
                task.result()
            await then(turns)
            if completed:
                return
            turns += 1 + turns // 16

    @law
    async def test_an_append_that_is_cancelled_is_done_whole_or_not(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        await two.engine.watch([channel])
        count = 0

        async def then(turn: int) -> None:
            nonlocal count
            records = await two.all(channel)
            holds(len(records) in (count, count + 3), "all three are there, or none")
            again = await two.append(channel, b"x", b"y", b"z", key=f"{turn}")
            # What was begun may be done a moment later.
            holds(again.duplicate or len(records) == count, "what was there is a duplicate")
            count += 3
            records = await one.all(channel)
            same(len(records), count, "the records after it was repeated")
            if not two.engine.caps.lossy_feed:
                await two.accounts_for(records[-3:])

        await self._cancelled(
            lambda turn: one.append(channel, b"x", b"y", b"z", key=f"{turn}"), then
        )
        await two.accounts_for(await one.all(channel))

    @law
    async def test_an_append_that_expects_and_seals_can_be_cancelled(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("0")
        tail = await one.tail(channel)

        async def then(turn: int) -> None:
            nonlocal channel, tail
            page = await two.read(channel)
            seals = [record.seals for record in page.records]
            same(seals, [False, True] if page.tail.sealed else [], "what is there, sealed or not")
            channel = self.name(f"{turn}.")
            tail = await one.tail(channel)

        await self._cancelled(
            lambda _: one.append(channel, b"x", b"y", expect=tail.cursor, seal=True), then
        )

    @law
    async def test_a_watch_that_is_cancelled_leaves_no_half_of_it(
        self, one: Process, two: Process
    ) -> None:
        async def then(turn: int) -> None:
            channel, below = self.name(f"{turn}"), self.name(f"{turn}/a")
            for name in (channel, below):
                await two.append(name, b"perhaps")
            await one.engine.watch([channel, channel + "/"])
            for name in (channel, below):
                await one.hears((await two.append(name, b"surely")).last)
                heard = [record.cursor.pos for record in one.records(name)]
                same(heard, sorted(set(heard)), "what was heard, in order and once")

        await self._cancelled(
            lambda turn: one.engine.watch([self.name(f"{turn}"), self.name(f"{turn}/")]), then
        )

    @law
    async def test_an_unwatch_that_is_cancelled_can_be_taken_back_or_repeated(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        await one.engine.watch([channel, self.name("fence")])

        async def then(_: int) -> None:
            await one.engine.watch([channel])
            await one.hears((await two.append(channel, b"x")).last)

        await self._cancelled(lambda _: one.engine.unwatch([channel]), then)
        await one.engine.unwatch([channel])
        await falls_silent(self, one, two, channel)

    @law
    async def test_a_drop_that_is_cancelled_is_done_or_not(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        await two.append(channel, b"x", b"y")

        async def then(_: int) -> None:
            holds(await two.bodies(channel) in ([], [b"x", b"y"]), "both are there, or none")
            await two.engine.drop(channel)
            same(await one.bodies(channel), [], "what is left of it")
            await two.append(channel, b"x", b"y")

        await self._cancelled(lambda _: one.engine.drop(channel), then)

    @law
    async def test_whatever_is_cancelled_the_next_call_answers(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        await two.append(channel, *[b"%d" % i for i in range(20)])
        records, tail = await two.all(channel), await two.tail(channel)

        async def then(_: int) -> None:
            same(await one.all(channel), records, "the records")
            same(await one.engine.tails([channel]), [tail], "the tails")
            same(await one.engine.names(self.name(""), limit=10), [channel], "the names")
            holds((await one.engine.health()).ready, "the engine is ready")

        await self._cancelled(lambda _: one.read(channel), then)
        await self._cancelled(lambda _: one.read(channel, records[3].cursor), then)
        await self._cancelled(lambda _: one.engine.tails([channel, self.name("b")]), then)
        await self._cancelled(lambda _: one.engine.names(self.name(""), limit=10), then)
        await self._cancelled(lambda _: one.engine.signal("topic", b"data"), then)
        await self._cancelled(lambda _: one.engine.health(), then)
        await two.until(lambda: len(two.signals()) > 0, "the signal that was not cancelled")

    @law
    async def test_a_start_or_stop_that_is_cancelled_can_be_followed_by_stop(
        self, one: Process
    ) -> None:
        current = Process(self.make(), self.limit_s)

        async def started(_: int) -> None:
            nonlocal current
            await current.stop()
            await one.append(self.name("a"), b"x")
            current = Process(self.make(), self.limit_s)

        async def stopped(_: int) -> None:
            nonlocal current
            await current.stop()
            await one.append(self.name("a"), b"x")
            current = await self._watching(self.name("a"))

        await self._cancelled(lambda _: current.engine.start(current), started)
        current = await self._watching(self.name("a"))
        await self._cancelled(lambda _: current.engine.stop(), stopped)

    async def _watching(self, channel: str) -> Process:
        process = await self.open()
        await process.engine.watch([channel])
        return process

    # --- L10: errors and time

    @law
    async def test_without_a_store_every_call_fails_in_time_and_says_why(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        before = (await one.append(channel, b"before")).last
        async with self.outage():
            answers = await self._ends_in_time(one, channel)
            for answer in answers[1:]:
                away = isinstance(answer, EngineUnavailable | OutcomeUnknown)
                holds(away, f"{answer!r} says that it is away")
            health = await one.engine.health()
            holds(not health.ready and health.detail != "", "health says that it is not ready")
            three = Process(self.make(), self.limit_s)
            await refused(EngineUnavailable, three.engine.start(three))
            await three.stop()
        await self.back(one)
        await self.back(two)
        durable = one.engine.caps.durability is Durability.HOST
        if durable and isinstance(answers[0], EngineUnavailable):
            same(await two.bodies(channel, before), [], "what was appended without a store")

    @law
    async def test_a_store_that_does_not_answer_is_waited_for_until_the_timeout(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        await one.append(channel, b"before")
        async with self.stall():
            answers = await self._ends_in_time(one, channel)
        unknown = isinstance(answers[0], OutcomeUnknown)
        await self.back(one)
        await self.back(two)
        again = await two.append(channel, b"in between", key="k")
        holds(unknown or not again.duplicate, "what is refused for sure was not appended")
        await self.eventually(self._answers(one, channel), "the engine answers again")
        same(await one.bodies(channel), [b"before", b"in between"], "what was appended, once")

    async def _ends_in_time(self, one: Process, channel: str) -> Sequence[object]:
        """Try every method, `append` first, and return what has become of it."""
        async with asyncio.timeout(self.limit_s):
            answers = await asyncio.gather(*self._calls(one, channel), return_exceptions=True)
            await one.engine.health()
        for answer in answers[1:]:
            if isinstance(answer, BaseException):
                away = isinstance(answer, EngineUnavailable | OutcomeUnknown)
                holds(away, f"{answer!r} says that it is away")
        failed = isinstance(answers[0], EngineUnavailable | OutcomeUnknown)
        holds(failed, f"append fails, and tells how: {answers[0]!r}")
        return answers

    def _calls(self, one: Process, channel: str) -> Sequence[Coroutine[Any, Any, object]]:
        return [
            one.append(channel, b"in between", key="k"),
            one.read(channel),
            one.tail(channel),
            one.engine.watch([self.name("b")]),
            one.engine.names(self.name(""), limit=1),
            one.engine.drop(self.name("b")),
            one.engine.signal("topic", b""),
        ]

    @law
    async def test_calls_that_are_cancelled_while_a_store_does_not_answer_end_at_once(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        await one.append(channel, b"before")
        async with self.stall():
            calls = [asyncio.create_task(call) for call in self._calls(one, channel)]
            for _ in range(20):
                await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            answers = await asyncio.gather(*calls, return_exceptions=True)
        for answer in answers:
            unexpected = isinstance(answer, Exception)
            holds(not unexpected, f"{answer!r} says that it was cancelled")
        await self.back(one)
        await self.back(two)
        await self.eventually(self._answers(one, channel), "the engine answers again")
        await two.append(channel, b"in between", key="k")
        same(await one.bodies(channel), [b"before", b"in between"], "what was appended, once")
        await one.engine.watch([channel])
        await one.hears((await two.append(channel, b"heard")).last)

    def _answers(self, one: Process, channel: str) -> Callable[[], Coroutine[Any, Any, bool]]:
        async def answers() -> bool:
            await one.read(channel)
            return True

        return answers
