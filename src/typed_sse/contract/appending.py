"""Laws of appending: keys, refusals, seals and bytes."""

# A law is told by the name of its test.
# ruff: noqa: D102

import asyncio

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import (
    KEY_WINDOW_S,
    MAX_BATCH,
    MAX_KEY_BYTES,
    Appended,
    Retain,
)
from typed_sse.contract.process import (
    EngineHooks,
    Process,
    law,
    refused,
    same,
)
from typed_sse.errors import (
    ChannelSealed,
    Conflict,
    InvalidField,
    PayloadTooLarge,
)


class AppendLaws(EngineHooks):
    """L5, L6, L7 and L11."""

    # --- L5: keys

    @law
    async def test_a_key_is_appended_once_from_whatever_process(
        self, one: Process, two: Process
    ) -> None:
        channel, other, key = self.name("a"), self.name("b"), "a key: ä {}*>%\n"
        first = await one.append(channel, b"x", b"y", key=key)
        same(first.duplicate, False, "whether the first is a duplicate")
        after = await one.append(channel, b"z", key=key + "2")
        for process in (one, two, one):
            again = await process.append(channel, b"x", b"y", key=key)
            same(again, first._replace(duplicate=True), "the answer to a repetition")
            stale = await process.append(channel, b"else", key=key, expect=first.first, seal=True)
            same(stale, again, "the answer, whatever else is different")
        same(await two.bodies(channel), [b"x", b"y", b"z"], "what was appended")
        same(await two.tail(channel), (after.last, False, (await one.tail(channel)).base), "tail")
        same((await two.append(other, b"o", key=key)).duplicate, False, "in another channel")
        same(await one.bodies(other), [b"o"], "what was appended to another channel")

    @law
    async def test_a_key_in_a_race_is_appended_once(self, one: Process, two: Process) -> None:
        for turn in range(10):
            channel = self.name(f"{turn}")
            answers = await asyncio.gather(
                *(process.append(channel, b"x", key="k") for process in (one, two, one, two))
            )
            same(sorted(each.duplicate for each in answers), [False, True, True, True], "answers")
            same(len({each.last for each in answers}), 1, "the cursors that were answered")
            same(len(await one.all(channel)), 1, "the records")

    @law
    async def test_a_key_outlives_its_records_and_a_refusal_leaves_none(self, one: Process) -> None:
        channel = self.name("a")
        wrong = Cursor(1, 1, 1)
        await refused(Conflict, one.append(channel, b"x", key="k", expect=wrong))
        first = await one.append(channel, b"x", key="k")
        same(first.duplicate, False, "whether a refused append has left its key")
        for _ in range(30):
            await one.append(channel, *[b"more"] * 10, retain=Retain(1))
        same(await one.append(channel, b"x", key="k"), first._replace(duplicate=True), "later")

    @law
    async def test_a_key_is_remembered_for_its_window(self, one: Process) -> None:
        channel = self.name("a")
        first = await one.append(channel, b"x", key="k")
        await self.pass_time(KEY_WINDOW_S - 10)
        same(await one.append(channel, b"x", key="k"), first._replace(duplicate=True), "before")
        await self.pass_time(20)
        same((await one.append(channel, b"x", key="k")).duplicate, False, "behind the window")

    @law
    async def test_keys_that_are_too_long_or_empty_are_refused(self, one: Process) -> None:
        channel = self.name("a")
        for key in ("", "k" * (MAX_KEY_BYTES + 1), "ä" * (MAX_KEY_BYTES // 2 + 1)):
            await refused(InvalidField, one.append(channel, b"x", key=key))
        for key in ("k" * MAX_KEY_BYTES, "ä" * (MAX_KEY_BYTES // 2)):
            await one.append(channel, b"x", key=key)
            same((await one.append(channel, b"x", key=key)).duplicate, True, "a repetition")
        same(len(await one.all(channel)), 2, "the records")

    # --- L6: refusals

    @law
    async def test_append_expects_the_tail(self, one: Process, two: Process) -> None:
        channel = self.name("a")
        birth = (await one.tail(channel)).cursor
        first = (await two.append(channel, b"x", expect=birth)).last
        second = (await one.append(channel, b"y", expect=first)).last
        wrong = [birth, first, second._replace(tag=second.tag ^ 1), second._replace(tag=0)]
        wrong += [second._replace(epoch=second.epoch ^ 1), second._replace(pos=second.pos + 1)]
        for cursor in [*wrong, Cursor(1, 2**64 - 1, 1)]:
            error = await refused(Conflict, two.append(channel, b"no", expect=cursor))
            same(error.channel, channel, "the error's channel")
            same((error.expected, error.found), (str(cursor), str(second)), "expected and found")
        await refused(Conflict, one.append(self.name("new"), b"no", expect=second))
        same(await one.bodies(channel), [b"x", b"y"], "what was appended")
        same(await one.bodies(self.name("new")), [], "what was appended to a new channel")

    @law
    async def test_of_many_that_expect_the_same_tail_one_appends(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        for turn in range(10):
            tail = (await one.tail(channel)).cursor
            answers = await asyncio.gather(
                *(process.append(channel, b"x", expect=tail) for process in (one, two, one, two)),
                return_exceptions=True,
            )
            won = [each for each in answers if isinstance(each, Appended)]
            refusals = [each for each in answers if isinstance(each, Conflict)]
            same((len(won), len(refusals)), (1, 3), "how many append, and are refused")
            same(len(await two.all(channel)), turn + 1, "the records")

    @law
    async def test_what_is_too_large_is_refused_and_the_largest_is_not(
        self, one: Process, two: Process
    ) -> None:
        channel, caps = self.name("a"), one.engine.caps
        await two.engine.watch([channel])
        tail = await one.tail(channel)
        most = caps.max_body_bytes
        parts = [most] * (caps.max_batch_bytes // most)
        too_large = [[most + 1], [1, most + 1], [0] * (MAX_BATCH + 1)]
        if len(parts) < MAX_BATCH:
            too_large.append([*parts, caps.max_batch_bytes + 1 - sum(parts)])
        for sizes in too_large:
            bodies = [bytes(size) for size in sizes]
            await refused(PayloadTooLarge, one.append(channel, *bodies, key="k"))
        await refused(InvalidField, one.append(channel))
        same(await two.tail(channel), tail, "the tail after what was refused")
        for sizes in ([most], [0] * MAX_BATCH, parts[:MAX_BATCH]):
            bodies = [bytes(size) for size in sizes]
            before = (await one.tail(channel)).cursor
            last = (await one.append(channel, *bodies, retain=Retain(10_000))).last
            records = await two.all(channel, before)
            same([len(record.body) for record in records], sizes, "the sizes")
            same(records[-1].cursor, last, "the last")
            await two.accounts_for(records)

    # --- L7: seals

    @law
    async def test_a_seal_is_on_the_last_record_and_heard(self, one: Process, two: Process) -> None:
        channel = self.name("a")
        await two.engine.watch([channel])
        last = (await one.append(channel, b"x", b"end", seal=True)).last
        records = await two.all(channel)
        same([record.seals for record in records], [False, True], "which record seals")
        same((await two.tail(channel))[:2], (last, True), "the sealed tail")
        await two.hears(last)
        same(two.records(channel), records, "what was heard")
        page = await two.read(channel, last)
        same((page.gap, tuple(page.records), page.tail.sealed), (None, (), True), "behind the end")

    @law
    async def test_nothing_follows_a_seal_but_the_same_answer_to_the_same_key(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        sealed = await one.append(channel, b"end", seal=True, key="end")
        for process in (one, two):
            for seal in (False, True):
                error = await refused(ChannelSealed, process.append(channel, b"no", seal=seal))
                same(error.channel, channel, "the error's channel")
                await refused(ChannelSealed, process.append(channel, b"no", seal=seal, key="x"))
            again = await process.append(channel, b"end", seal=True, key="end")
            same(again, sealed._replace(duplicate=True), "the answer to the same key")
        same(await two.bodies(channel), [b"end"], "what was appended")

    @law
    async def test_a_seal_without_a_record_is_an_empty_one(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        await two.engine.watch([channel])
        sealed = await one.append(channel, seal=True)
        (record,) = await two.all(channel)
        same((record.body, record.seals, record.cursor), (b"", True, sealed.last), "the record")
        await two.hears(sealed.last)
        await refused(ChannelSealed, two.append(channel, seal=True))

    @law
    async def test_of_many_that_seal_one_does(self, one: Process, two: Process) -> None:
        for turn in range(10):
            channel = self.name(f"{turn}")
            answers = await asyncio.gather(
                *(process.append(channel, b"x", seal=True) for process in (one, two, one, two)),
                return_exceptions=True,
            )
            same(sum(isinstance(each, Appended) for each in answers), 1, "how many seal")
            same(sum(isinstance(each, ChannelSealed) for each in answers), 3, "how many do not")
            same(len(await two.all(channel)), 1, "the records")

    # --- L11: bytes

    @law
    async def test_records_are_the_bytes_that_were_appended(
        self, one: Process, two: Process
    ) -> None:
        channel = self.name("a")
        await two.engine.watch([channel])
        every = bytes(range(256))
        most = one.engine.caps.max_body_bytes
        large = (every * (most // 256 + 1))[:most]
        bodies = [b"", every, every[::-1], b"\r\n\r\n", b"\xff\xfe\x00", b" ", b"0", b"-1", b"\0"]
        bodies += [b"a" * 7999 + b"'", b"\xed\xa0\x80", b'{"a":1}', b"", large]
        for start in range(0, len(bodies), 4):
            await one.append(channel, *bodies[start : start + 4])
        records = await two.all(channel)
        same([record.body for record in records], bodies, "what is read")
        await two.hears(records[-1].cursor)
        same(two.records(channel), records, "what was heard")
