"""Laws of the log: its order, what is there when, where a cursor continues, and what is kept."""

# A law is told by the name of its test.
# ruff: noqa: D102

import asyncio

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import (
    EARLIEST,
    MAX_CHANNEL_BYTES,
    GapReason,
    Newest,
    Record,
    Retain,
)
from typed_sse.contract.process import (
    EngineHooks,
    Process,
    chained,
    holds,
    law,
    repeated,
    same,
)

RESET, EVICTED = GapReason.RESET, GapReason.EVICTED

# Names that one encoding or another of them would take for something else.
AWKWARD = (
    *("a b", "a.b", "a/b", "a*", "a>", "a%", "a_b", "a?b", "[a]", "A", "a", "a:b", "{a}", "a\\b"),
    *("a'b", 'a"b', "$a", "ä", "a\u0308", "\U0001f600", "a\tb", "a\nb", "-a", "a."),
)

# So much earlier an event may be too old by the store's clock.
_CLOCKS_S = 0.05


class LogLaws(EngineHooks):
    """L1, L2 and L4; what is kept, and what it is called."""

    # --- L1: order

    @law
    async def test_positions_grow_and_prev_names_the_record_before(self, one: Process) -> None:
        channel = self.name("a")
        appended = [await one.append(channel, *[b"x"] * count) for count in (1, 3, 1, 2)]
        page = await one.read(channel)
        chained(page.records, Cursor(page.tail.cursor.epoch, page.tail.base, 0))
        cursors = [record.cursor for record in page.records]
        same([each.first for each in appended], [cursors[i] for i in (0, 1, 4, 5)], "first")
        same([each.last for each in appended], [cursors[i] for i in (0, 3, 4, 6)], "last")
        same({record.channel for record in page.records}, {channel}, "the records' channel")
        same(page.tail, await one.tail(channel), "the page's tail")
        same(page.tail.cursor, cursors[-1], "the tail")
        holds(not page.tail.sealed and not any(r.seals for r in page.records), "nothing is sealed")
        holds(not any(each.duplicate for each in appended), "nothing is a duplicate")

    @law
    async def test_all_see_one_order_whoever_appends(self, one: Process, two: Process) -> None:
        channel = self.name("a")
        await one.engine.watch([channel])
        await two.engine.watch([channel])

        async def many(process: Process, who: str) -> None:
            for turn in range(20):
                await process.append(channel, *[f"{who}{turn}.{i}".encode() for i in range(3)])

        writers = [(one, "a"), (one, "b"), (two, "c"), (two, "d")]
        await asyncio.gather(*(many(process, who) for process, who in writers))
        records = await one.all(channel)
        same(await two.all(channel), records, "what the other reads")
        chained(records, Cursor(records[0].cursor.epoch, records[0].prev, 0))
        bodies = [record.body.decode() for record in records]
        for _, who in writers:
            mine = [body for body in bodies if body[0] == who]
            wanted = [f"{who}{turn}.{i}" for turn in range(20) for i in range(3)]
            same(mine, wanted, "one writer's records")
        batches = [bodies[start : start + 3] for start in range(0, len(bodies), 3)]
        holds(all(len({b.split(".")[0] for b in each}) == 1 for each in batches), "batches stay")
        for process in (one, two):
            await process.accounts_for(records)

    @law
    async def test_a_channel_begins_when_it_is_asked_for_its_tail(
        self, one: Process, two: Process
    ) -> None:
        channel, other = self.name("a"), self.name("b")
        tail, second = await one.engine.tails([channel, other])
        same((tail.cursor.tag, tail.cursor.pos, tail.sealed), (0, tail.base, False), "the birth")
        holds(tail.cursor.epoch != second.cursor.epoch, "two channels have two epochs")
        same(await two.engine.tails([other, channel]), [second, tail], "the tails, asked again")
        await two.append(channel, b"x", b"y")
        chained(await one.all(channel, tail.cursor), tail)
        same(await one.bodies(channel, tail.cursor), [b"x", b"y"], "all behind the birth")
        same(await one.tail(other), second, "the other channel's tail")

    @law
    async def test_a_page_of_a_new_channel_says_where_it_begins(self, one: Process) -> None:
        channel = self.name("a")
        page = await one.read(channel)
        same((tuple(page.records), page.gap, page.more), ((), None, False), "an empty channel")
        await one.append(channel, b"x")
        same(await one.bodies(channel, page.tail.cursor), [b"x"], "all behind its end")

    @law
    async def test_tags_are_random_and_never_0(self, one: Process) -> None:
        channel = self.name("a")
        await one.append(channel, *[b""] * 100)
        tags = {record.cursor.tag for record in await one.all(channel)}
        holds(len(tags) >= 99 and 0 not in tags, "100 records have 100 tags")

    # --- L2: what is appended is there

    @law
    async def test_what_append_returned_for_is_read_by_all(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        for turn in range(10):
            writer, reader = (one, two) if turn % 2 else (two, one)
            appended = await writer.append(channel, b"%d" % turn, b"last")
            page = await reader.read(channel)
            same(len(page.records), 2 * turn + 2, "the number of records")
            same(page.records[-1].cursor, appended.last, "the last record")
            same((await reader.tail(channel)).cursor, appended.last, "the tail")

    @law
    async def test_a_batch_is_there_all_or_none(self, one: Process, two: Process) -> None:
        channel, batches = self.name("a"), 30
        writing = asyncio.create_task(repeated(lambda: one.append(channel, *[b"x"] * 10), batches))
        try:
            while True:
                over = writing.done()
                for reader in (one, two):
                    page = await reader.read(channel)
                    same(len(page.records) % 10, 0, "the records of a part of a batch")
                    if page.records:
                        same(page.tail.cursor, page.records[-1].cursor, "the tail of this read")
                if over:
                    break
                # A store in memory answers at once, so nobody else would come to run.
                await asyncio.sleep(0)
        finally:
            await writing
        same(len(await two.all(channel)), 10 * batches, "the number of records")

    # --- L4: cursors

    @law
    async def test_every_cursor_continues_exactly_behind_it(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        birth = (await one.tail(channel)).cursor
        for count in (1, 4, 2, 7, 1):
            await one.append(channel, *[b"%d" % i for i in range(count)])
            # Where positions are shared with other channels, this leaves holes.
            await two.append(self.name("b"), b"beside")
        records = await one.all(channel)
        cursors = [birth, *(record.cursor for record in records)]
        for process in (one, two):
            for index, cursor in enumerate(cursors):
                page = await process.read(channel, cursor)
                same((page.gap, list(page.records)), (None, records[index:]), "what is behind")
                same((page.more, page.tail.cursor), (False, cursors[-1]), "more, and the tail")

    @law
    async def test_a_cursor_that_no_record_of_the_channel_has_is_told_of_a_reset(
        self, one: Process, two: Process
    ) -> None:
        channel, other = self.name("a"), self.name("b")
        foreign = (await one.append(other, b"x", b"y")).last
        for _ in range(3):
            await one.append(channel, b"x", b"y")
            foreign = (await one.append(other, b"x", b"y")).last
        records = await one.all(channel)
        base = (await one.tail(channel)).base
        epoch, middle, last = records[0].cursor.epoch, records[3].cursor, records[-1].cursor
        free = {*range(base + 1, last.pos)} - {record.cursor.pos for record in records}
        wrong = [
            foreign,
            foreign._replace(epoch=epoch),
            *(each._replace(epoch=each.epoch ^ 1) for each in (middle, last)),
            *(each._replace(tag=each.tag ^ 1 or 2) for each in (middle, last)),
            *(each._replace(tag=0) for each in (middle, last)),
            Cursor(0, 0, 0),
            *(Cursor(epoch, last.pos + ahead, middle.tag) for ahead in (1, 1000)),
            *(Cursor(epoch, 2**bits - 1, 7) for bits in (53, 63, 64)),
            *(Cursor(epoch, 2**bits, 0) for bits in (53, 63)),
            *(Cursor(epoch, pos, middle.tag) for pos in sorted(free)[-20:]),
        ]
        for cursor in wrong:
            for process in (one, two):
                same(await process.gap(channel, cursor), RESET, f"the gap behind {cursor!r}")
        page = await one.read(channel, foreign)
        same(page.tail.cursor, last, "the tail that comes with a gap")
        before = Cursor(epoch, base, 7)
        holds(await one.gap(channel, before) is not None, "there is a gap behind a made up birth")
        same(await one.gap(self.name("new"), middle), RESET, "the gap in a new channel")

    @law
    async def test_a_cursor_that_was_evicted_is_told_so_and_the_last_never_is(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        birth = (await one.tail(channel)).cursor
        issued = [birth]
        for turn in range(60):
            await one.append(channel, *[b"%d.%d" % (turn, i) for i in range(5)], retain=Retain(5))
            kept = await two.all(channel)
            first = kept[0].cursor.pos
            issued += [record.cursor for record in kept if record.cursor.pos > issued[-1].pos]
            same(len(issued), 5 * turn + 6, "the cursors that there were")
            for cursor in issued[:: 1 + turn // 3]:
                gap, there = await two.gap(channel, cursor), cursor.pos >= first
                if cursor == birth:
                    there = kept[0].prev == birth.pos
                same(gap, None if there else EVICTED, f"the gap behind {cursor!r}")
            for cursor in (kept[0].cursor, issued[-1]):
                behind = [record for record in kept if record.cursor.pos > cursor.pos]
                same(await one.all(channel, cursor), behind, "what is behind a kept one")
        holds(await one.gap(channel, birth) is EVICTED, "300 records are too many for 5")

    @law
    async def test_a_dropped_channel_begins_anew_and_tells_of_a_gap(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        await one.engine.watch([channel])
        birth = (await one.tail(channel)).cursor
        old = await one.append(channel, b"x", b"y", seal=True)
        await two.engine.drop(channel)
        same((await one.read(channel)).records or [], [], "the records of a dropped channel")
        for cursor in (birth, old.first, old.last):
            holds(await one.gap(channel, cursor) is not None, "there is a gap behind it")
        new = await two.append(channel, b"z")
        for cursor in (birth, old.first, old.last):
            holds(await one.gap(channel, cursor) is not None, "there still is")
        page = await one.read(channel)
        same([record.body for record in page.records], [b"z"], "what was appended anew")
        same((page.records[0].prev, page.tail.sealed), (page.tail.base, False), "prev and sealed")
        holds(new.last.epoch != old.last.epoch, "another log has another epoch")
        await one.hears(new.last)
        await two.engine.drop(self.name("never there"))

    @law
    async def test_cursors_of_a_newer_copy_are_told_of_a_reset(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        kept = await one.append(channel, b"x", b"y")
        copy = await self.copy_store()
        await self.back(two)
        lost = await two.append(channel, b"lost", b"lost too", b"and this")
        await self.restore_store(copy)
        await self.back(one)
        three = await self.open()
        for body in (b"", b"1", b"2", b"3", b"4"):
            if body:
                await three.append(channel, body)
            for process in (one, three):
                for cursor in (lost.first, lost.last):
                    holds(await process.gap(channel, cursor) is RESET, f"a reset after {body!r}")
                behind = [b"%d" % i for i in range(1, int(body or b"0") + 1)]
                same(await process.bodies(channel, kept.last), behind, "what is behind")
                same(await process.bodies(channel, kept.first), [b"y", *behind], "what is behind")

    @law
    async def test_cursors_of_a_store_that_lost_everything_are_told_of_a_reset(
        self, one: Process
    ) -> None:
        channel = self.name("a")
        birth = (await one.tail(channel)).cursor
        old = await one.append(channel, b"x", b"y")
        await self.clear_store()
        await self.back(one)
        two = await self.open()
        for body in (b"", b"1", b"2", b"3"):
            if body:
                await one.append(channel, body)
            for process in (one, two):
                for cursor in (birth, old.first, old.last):
                    same(await process.gap(channel, cursor), RESET, f"the gap after {body!r}")
        same(await two.bodies(channel), [b"1", b"2", b"3"], "what was appended since")

    @law
    async def test_pages_of_any_size_give_the_whole(self, one: Process) -> None:
        channel = self.name("a")
        sizes = (0, 10, 1, 100, 0, 3, 50, 50, 7, 0)
        await one.append(channel, *[bytes(size) for size in sizes])
        records = await one.all(channel)
        for limit in (1, 2, 3, 9, 10, 11):
            for max_bytes in (1, 10, 11, 60, 100, 111, 221, 222):
                after: Cursor | Newest = EARLIEST
                read: list[Record] = []
                while len(read) < len(records):
                    page = await one.read(channel, after, limit=limit, max_bytes=max_bytes)
                    holds(1 <= len(page.records) <= limit, "a page has 1 to `limit` records")
                    sizes_here = [len(record.body) for record in page.records]
                    holds(sum(sizes_here[:-1]) <= max_bytes, "`max_bytes` and one record")
                    read += page.records
                    same(page.more, len(read) < len(records), "whether there is more")
                    same(page.tail.cursor, records[-1].cursor, "the channel's end, not the page's")
                    after = read[-1].cursor
                same(read, records, "all pages together")

    @law
    async def test_newest_begins_so_many_before_the_end(self, one: Process) -> None:
        channel = self.name("a")
        same((await one.read(channel, Newest(3))).records or [], [], "of an empty channel")
        await one.append(channel, *[b"%d" % i for i in range(6)])
        records = await one.all(channel)
        for events in (0, 1, 5, 6, 7, 1000, EARLIEST.events):
            page = await one.read(channel, Newest(events))
            same((page.gap, page.more), (None, False), "gap and more")
            same(list(page.records), records[max(0, 6 - events) :], f"the newest {events}")
        page = await one.read(channel, Newest(4), limit=3)
        same((list(page.records), page.more), (records[2:5], True), "the first of the newest")

    # --- what is kept, and for how long

    @law
    async def test_so_many_are_kept_and_not_more_than_twice_as_many_and_100(
        self, one: Process, two: Process
    ) -> None:
        for events in (1, 2, 7, 40):
            channel, total, last = self.name(f"{events}"), 0, 0
            for count in (1, 2, 2 * events + 97, 1, 1, 60, 5, 60, 60, 1, 60, 300, 1, 250):
                await one.append(channel, *[b"x"] * count, retain=Retain(events))
                total += count
                records = await two.all(channel)
                least, most = min(total, events), 2 * events + 100
                holds(least <= len(records) <= most, f"{least} <= {len(records)} <= {most}")
                chained(records, records[0].cursor._replace(pos=records[0].prev))
                same(records[-1].cursor, (await two.tail(channel)).cursor, "the newest")
                holds(records[0].cursor.pos >= last, "what is not kept stays away")
                last = records[0].cursor.pos

    @law
    async def test_each_append_says_anew_how_much_is_kept(self, one: Process) -> None:
        channel = self.name("a")
        await one.append(channel, *[b"x"] * 400, retain=Retain(500))
        same(len(await one.all(channel)), 400, "the records")
        await one.append(channel, b"x", retain=Retain(2))
        holds(2 <= len(await one.all(channel)) <= 104, "fewer are kept")
        await one.append(channel, *[b"x"] * 400, retain=Retain(500))
        holds(len(await one.all(channel)) >= 402, "more are kept")

    @law
    async def test_what_is_too_old_is_not_read_and_what_is_not_is(
        self, one: Process, two: Process
    ) -> None:
        channel, retain = self.name("a"), Retain(1000, age_s=1)
        birth = (await one.tail(channel)).cursor
        times: list[tuple[float, Cursor]] = []
        loop = asyncio.get_running_loop()

        async def gone() -> bool:
            if len(times) < 4:
                times.append((loop.time(), (await one.append(channel, b"x", retain=retain)).last))
            records = await two.all(channel)
            kept, now_s = {record.cursor for record in records}, loop.time()
            for place, (appended_s, cursor) in enumerate(times):
                if cursor not in kept:
                    age_s = now_s - appended_s
                    holds(age_s > retain.age_s - _CLOCKS_S, f"{place} is gone after {age_s} s")
            chained(records, records[0].cursor._replace(pos=records[0].prev) if records else birth)
            return not records

        await self.eventually(gone, "records grow too old")
        for process in (one, two):
            tail = await process.tail(channel)
            same((tail.cursor, tail.sealed), (times[-1][1], False), "the remembered tail")
            same(await process.gap(channel, tail.cursor), None, "the gap behind the tail")
            for cursor in (birth, times[0][1], times[-2][1]):
                same(await process.gap(channel, cursor), EVICTED, "the gap behind older ones")
            ahead = tail.cursor._replace(pos=tail.cursor.pos + 1)
            same(await process.gap(channel, ahead), RESET, "the gap behind what never was")
            same(await process.bodies(channel), [], "what is kept")
        last = times[-1][1]
        new = await two.append(channel, b"new", b"newer", expect=last, retain=Retain(1000, 60))
        (first, _) = (await one.all(channel))[-2:]
        same((first.cursor, first.prev), (new.first, last.pos), "what was appended since")
        same(await one.bodies(channel, new.first), [b"newer"], "what is behind it")

    # --- names

    @law
    async def test_names_are_of_channels_with_records_sorted_and_as_given(
        self, one: Process, two: Process
    ) -> None:
        await one.tail(self.name("empty"))
        await one.read(self.name("empty, too"))
        names = sorted(self.name(name) for name in AWKWARD)
        for name in names:
            await one.append(name, name.encode())
        longest = self.name("x/")
        longest += "ä" * ((MAX_CHANNEL_BYTES - len(longest)) // 2)
        await one.append(longest, longest.encode())
        await one.engine.watch([*names, self.name("x/")])
        found = await two.engine.names(self.name(""), limit=1000)
        same(list(found), sorted([*names, longest]), "the names")
        for limit in (1, 2, len(AWKWARD)):
            some = await two.engine.names(self.name(""), limit=limit)
            same(list(some), sorted([*names, longest])[:limit], f"the first {limit}")
        for prefix in ("a", "a/", "a*", "a_", "[", "a%", "a.", "none"):
            found = await two.engine.names(self.name(prefix), limit=1000)
            wanted = [name for name in names if name.startswith(self.name(prefix))]
            same(list(found), wanted, f"the names that begin with {prefix!r}")
        for name in [*names, longest]:
            same(await two.bodies(name), [name.encode()], "what is in a channel of this name")
            await one.hears((await two.append(name, b"heard")).last)
        await two.engine.drop(names[0])
        found = await one.engine.names(self.name(""), limit=1000)
        same(list(found), sorted([*names[1:], longest]), "the names after one was dropped")
