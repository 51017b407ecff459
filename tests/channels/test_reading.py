"""One reader's way, through the response that sends it, in virtual time."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from channels.stream import Note, Other, hub_on, last_id, names, notes
from typed_sse.channels import (
    Channel,
    Hub,
    LatestBy,
    Retain,
    Subscription,
    live,
    memory,
    pages,
    reading,
)
from typed_sse.channels.cursor import Cursor, parsed, vector
from typed_sse.channels.engine import Newest, Page
from typed_sse.channels.memory import MemoryEngine, MemoryStore
from typed_sse.errors import AccessDenied, EngineUnavailable, InvalidField
from typed_sse.registry import EndCause, Registry
from typed_sse.response import EventSourceResponse
from typed_sse.streams import event_source, merge
from typed_sse.testing import Fault, FaultyEngine, OpenStream, Step, open_stream
from typed_sse.wire import Decoder, ServerSentEvent


def room(hub: Hub, name: str = "room", **options: Any) -> Channel[Note]:
    return Channel(name, Note, hub=hub, **options)


def opened(stream: Any, registry: Registry | None = None) -> OpenStream[ServerSentEvent]:
    response = EventSourceResponse(stream, registry=registry or Registry())
    return open_stream(response)


async def after_a_while(client: OpenStream[ServerSentEvent], seconds: float = 3) -> bytes:
    """Let time pass, leave, and return the body."""
    await asyncio.sleep(seconds)
    client.leave()
    await client.ended()
    return client.body


async def published(channel: Channel[Note], count: int, first: int = 0) -> list[str]:
    return [await channel.publish(Note(number)) for number in range(first, first + count)]


def gaps(body: bytes) -> list[dict[str, str]]:
    return [
        json.loads(event.data or "")
        for event in Decoder().feed(body)
        if event.event == "stream.gap"
    ]


def cursor_of(text: str) -> Cursor:
    cursor = parsed(text)
    assert isinstance(cursor, Cursor)
    return cursor


@pytest.fixture(autouse=True)
def _little_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_SPARE", 0)


# --- where a reader starts


async def test_the_first_frame_is_an_id_alone_and_resumes_without_loss() -> None:
    async with hub_on() as hub:
        await published(room(hub), 3)
        client = opened(room(hub).subscribe())
        body = await after_a_while(client, 1)
        assert body == f"id: {await room(hub).tail()}\n\n".encode()
        await published(room(hub), 2, 3)
        resumed = await after_a_while(opened(room(hub).subscribe(last_id(body))))
        assert notes(resumed) == [3, 4]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (None, []),
        ("", []),
        ("latest", []),
        ("earliest", [0, 1, 2, 3, 4]),
        ("-0", []),
        ("-2", [3, 4]),
        ("-5", [0, 1, 2, 3, 4]),
        ("-9999", [0, 1, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize("frames", [2, 1024])
async def test_a_reader_starts_where_it_says(
    after: str | None, expected: Sequence[int], frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_RING_FRAMES", frames)
    monkeypatch.setattr(live, "_PRELOADED", frames)
    async with hub_on() as hub:
        await published(room(hub), 5)
        body = await after_a_while(opened(room(hub).subscribe(after)))
        assert notes(body) == expected
        assert not gaps(body)
        assert last_id(body) == await room(hub).tail()


async def test_every_cursor_of_a_channel_is_continued_behind_it() -> None:
    async with hub_on() as hub:
        birth = await room(hub).tail()
        cursors = [birth, *await published(room(hub), 300)]
        for place in (0, 1, 100, 171, 172, 173, 299, 300):
            body = await after_a_while(opened(room(hub).subscribe(cursors[place])))
            assert notes(body) == list(range(place, 300))
            assert not gaps(body)


@pytest.mark.parametrize(
    "garbage",
    [
        "x",
        "0",
        "...",
        "1.2",
        "1.2.3.4",
        "é.é.é",
        "%00",
        "a" * 4096,
        "-100000",
        "--1",
        "-x",
        " latest",
        "LATEST",
        "1.99999999999.1",
        "zzzzzzzzzzzzzz.1.1",
        "A" * 36,
        "\ud800",
        "null",
    ],
)
async def test_what_is_no_cursor_is_a_gap_and_no_error(garbage: str) -> None:
    async with hub_on() as hub:
        await published(room(hub), 3)
        body = await after_a_while(opened(room(hub).subscribe(garbage)))
        assert names(body) == ["stream.gap", "note", "note", "note"]
        assert gaps(body)[0]["reason"] == "reset"


async def test_cursors_of_others_and_of_the_future_are_a_gap() -> None:
    async with hub_on() as hub:
        await published(room(hub), 3)
        await published(room(hub, "other"), 5)
        epoch, pos, tag = cursor_of(await room(hub).tail())
        wrong = [
            await room(hub, "other").tail(),
            str(Cursor(epoch, pos + 1, tag)),
            str(Cursor(epoch, pos, tag ^ 1)),
            str(Cursor(epoch ^ 1, pos, tag)),
            str(Cursor(epoch, 1, 0)),
        ]
        for cursor in wrong:
            body = await after_a_while(opened(room(hub).subscribe(cursor)))
            assert gaps(body)[0]["reason"] == "reset", cursor
            assert notes(body) == [0, 1, 2]


# --- gaps


async def evicted(hub: Hub, on_gap: object) -> tuple[Channel[Note], str]:
    channel = room(hub, retain=Retain(events=2), on_gap=on_gap)
    cursors = await published(channel, 300)
    return channel, cursors[0]


async def test_a_gap_is_followed_by_the_oldest_that_is_kept() -> None:
    async with hub_on() as hub:
        channel, cursor = await evicted(hub, "oldest")
        body = await after_a_while(opened(channel.subscribe(cursor)))
        assert gaps(body)[0]["reason"] == "evicted"
        assert gaps(body)[0]["asked"] == cursor
        got = notes(body)
        assert got == list(range(got[0], 300))
        assert 2 <= len(got) <= 5
        assert names(body)[0] == "stream.gap"


async def test_a_gap_is_followed_by_what_is_new() -> None:
    async with hub_on() as hub:
        channel, cursor = await evicted(hub, "latest")
        client = opened(channel.subscribe(cursor))
        await asyncio.sleep(1)
        # Cut here, the reader is where the gap has put it.
        assert last_id(client.body) == await channel.tail()
        await published(channel, 2, 300)
        body = await after_a_while(client)
        assert names(body) == ["stream.gap", "note", "note"]
        assert notes(body) == [300, 301]


async def test_a_gap_ends_the_stream_and_whoever_comes_back_starts_anew() -> None:
    async with hub_on() as hub:
        channel, cursor = await evicted(hub, "close")
        client = opened(channel.subscribe(cursor))
        await client.ended()
        assert names(client.body) == ["stream.gap", "stream.end"]
        assert last_id(client.body) == ""


async def test_a_gap_is_followed_by_a_snapshot_and_what_follows_it() -> None:
    async with hub_on() as hub:
        plain = room(hub, retain=Retain(events=2))

        async def load() -> tuple[list[Note], str]:
            tail = await plain.tail()
            await published(plain, 1, 1000)  # after the tail was asked for
            return [Note(-1), Note(-2)], tail

        channel, cursor = await evicted(hub, load)
        body = await after_a_while(opened(channel.subscribe(cursor)))
        assert names(body)[0] == "stream.gap"
        assert notes(body) == [-1, -2, 1000]


@pytest.mark.parametrize("as_of", ["first", "latest", "", "garbage"])
async def test_a_snapshot_as_of_what_cannot_be_continued_is_not_loaded_again_and_again(
    as_of: str,
) -> None:
    async with hub_on() as hub:
        loaded = 0
        cursor = ""

        async def load() -> tuple[list[Note], str]:
            nonlocal loaded
            loaded += 1
            return [Note(-1)], cursor if as_of == "first" else as_of

        channel, cursor = await evicted(hub, load)
        client = opened(channel.subscribe(cursor))
        with pytest.raises(Exception, match="snapshot"):
            await client.ended()
        assert loaded == 1


async def test_an_error_of_a_snapshot_ends_the_stream_with_it() -> None:
    async with hub_on() as hub:

        async def load() -> tuple[list[Note], str]:
            raise KeyError

        channel, cursor = await evicted(hub, load)
        client = opened(channel.subscribe(cursor))
        with pytest.raises(KeyError):
            await client.ended()


async def test_a_log_that_is_lost_unheard_is_one_gap_and_not_one_after_the_other() -> None:
    """The ring is of the lost log, and nobody has told it."""
    store = MemoryStore()
    async with hub_on(store) as hub:
        cursors = await published(room(hub), 300)
        client = opened(room(hub).subscribe())
        await asyncio.sleep(1)
        store.restore(MemoryStore())
        body = await after_a_while(opened(room(hub).subscribe(cursors[3])))
        assert len(gaps(body)) <= 1
        client.leave()
        await client.ended()


async def test_an_older_copy_far_behind_the_ring_is_noticed_by_its_first_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "_RING_FRAMES", 4)
    monkeypatch.setattr(live, "_PRELOADED", 4)
    store = MemoryStore()
    async with hub_on(store) as hub:
        await published(room(hub), 10)
        copy = store.copy()
        client = opened(room(hub).subscribe())
        await asyncio.sleep(1)
        await published(room(hub), 100, 10)
        await asyncio.sleep(1)
        store.restore(copy)
        await published(room(hub), 1, 999)
        body = await after_a_while(client)
        assert len(gaps(body)) == 1
        assert notes(body)[-1] == 999


# --- the feed is late


async def test_a_cursor_that_this_worker_has_not_heard_of_yet_is_no_gap() -> None:
    store = MemoryStore()
    script = [Step("record", number, Fault.DELAY) for number in range(1, 10)]
    late = FaultyEngine(MemoryEngine(store), script=script, delay_s=100)
    async with hub_on(store) as first, Hub(late) as second:
        await published(room(first), 3)
        watching = opened(room(second).subscribe())
        await asyncio.sleep(1)
        cursors = await published(room(first), 3, 3)
        body = await after_a_while(opened(room(second).subscribe(cursors[1])), 1)
        assert not gaps(body)
        assert notes(body) == [5]
        watching.leave()
        await watching.ended()


async def test_a_start_that_finds_nothing_any_more_is_told_by_an_id() -> None:
    async with hub_on(MemoryStore(asyncio.get_running_loop().time)) as hub:
        channel = room(hub, retain=Retain(age_s=10))
        await published(channel, 3)
        await asyncio.sleep(100)
        client = opened(channel.subscribe("-2"))
        for _ in range(50):
            await asyncio.sleep(0)
        assert client.body == f"id: {await channel.tail()}\n\n".encode()
        await published(channel, 3, 3)
        body = await after_a_while(client)
        assert client.sent[0]["type"] == "http.response.start"
        assert notes(body) == [3, 4, 5]


# --- lag


async def lagging(
    channel: Channel[Note], monkeypatch: pytest.MonkeyPatch, count: int = 50
) -> OpenStream[ServerSentEvent]:
    """Return a reader that was stopped in a send while the ring went on."""
    monkeypatch.setattr(live, "_RING_FRAMES", 8)
    client = opened(channel.subscribe())
    await asyncio.sleep(1)
    client.pause()
    for number in range(count):
        await channel.publish(Note(number))
        await asyncio.sleep(0.01)
    await asyncio.sleep(1)
    client.resume()
    return client


async def test_a_slow_reader_catches_up_without_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hub_on() as hub:
        client = await lagging(room(hub), monkeypatch)
        body = await after_a_while(client)
        assert notes(body) == list(range(50))
        assert not gaps(body)
        assert hub.statistics().gaps == {"evicted": 0, "reset": 0, "overflow": 0}


async def test_a_slow_reader_that_cannot_catch_up_is_told_of_an_overflow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hub_on() as hub:
        client = await lagging(room(hub, retain=Retain(events=2)), monkeypatch)
        body = await after_a_while(client)
        assert [gap["reason"] for gap in gaps(body)] == ["overflow"]
        assert notes(body)[-1] == 49


async def test_a_slow_reader_skips_to_what_is_held_and_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hub_on() as hub:
        client = await lagging(room(hub, on_lag="drop_oldest"), monkeypatch)
        body = await after_a_while(client)
        (gap,) = gaps(body)
        assert gap["reason"] == "overflow"
        got = notes(body)
        assert got[-1] == 49
        assert 8 <= len(got) < 50
        behind = names(body).index("stream.gap")
        assert notes(body)[:behind] == list(range(behind))
        assert got[behind:] == list(range(got[behind], 50))


async def test_a_slow_reader_gets_the_newest_of_each_key(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hub_on() as hub:
        by_parity = LatestBy[Note](lambda note: str(note.data % 2))
        client = await lagging(room(hub, on_lag=by_parity), monkeypatch)
        body = await after_a_while(client)
        got = notes(body)
        assert got[-2:] == [48, 49]
        assert got == sorted(set(got))
        assert len(got) + hub.statistics().skipped == 50
        assert not gaps(body)


async def test_the_newest_of_each_key_of_a_sealed_channel_end_with_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hub_on() as hub:
        by_parity = LatestBy[Note](lambda note: str(note.data % 2))
        channel = room(hub, on_lag=by_parity)
        client = await lagging(channel, monkeypatch, 40)
        client.pause()
        for number in range(40, 80):
            await channel.publish(Note(number))
            await asyncio.sleep(0.01)
        await channel.seal()
        client.resume()
        await client.ended()
        assert names(client.body)[-1] == "stream.end"
        assert notes(client.body)[-2:] == [78, 79]
        assert last_id(client.body) == await channel.tail()


async def test_the_newest_of_each_key_are_not_lost_where_the_engine_is_away_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pages, "_PAGE_RECORDS", 5)

    class Away(MemoryEngine):
        reads = 0

        async def read(
            self, channel: str, after: Cursor | Newest, *, limit: int, max_bytes: int
        ) -> Page:
            if isinstance(after, Cursor):
                Away.reads += 1
                if Away.reads == 3:
                    raise EngineUnavailable("memory://", "it is tested")
            return await super().read(channel, after, limit=limit, max_bytes=max_bytes)

    async with Hub(Away()) as hub:
        by_ten = LatestBy[Note](lambda note: str(note.data // 10))
        client = await lagging(room(hub, on_lag=by_ten), monkeypatch)
        body = await after_a_while(client)
        assert Away.reads > 3
        assert {9, 19, 29, 39, 49} <= set(notes(body)) | {9}
        assert notes(body) == sorted(set(notes(body)))


@pytest.mark.parametrize("fails", [False, True])
async def test_the_newest_of_each_key_are_not_lost_where_reading_them_is_broken_off(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_RING_FRAMES", 4)
    monkeypatch.setattr(live, "_PRELOADED", 1)
    monkeypatch.setattr(pages, "_PAGE_RECORDS", 5)
    failures = [25] if fails else []

    def key(note: Note) -> str:
        if note.data in failures:
            raise KeyError(failures.pop())
        return str(note.data)

    async with Hub(Slowly()) as hub:
        channel = room(hub, on_lag=LatestBy(key))
        inside = channel.subscribe("earliest")
        await published(channel, 1)
        got = [(await anext(inside)).data]
        await published(channel, 30, 1)
        with pytest.raises(KeyError if fails else TimeoutError):
            await asyncio.wait_for(anext(inside), None if fails else 0.025)
        got += [(await anext(inside)).data for _ in range(30)]
        assert got == list(range(31))
        assert not failures
        await inside.aclose()


async def test_a_slow_reader_is_closed_and_comes_back_without_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hub_on() as hub:
        channel = room(hub, on_lag="close")
        client = await lagging(channel, monkeypatch)
        await client.ended()
        assert client.terminated
        assert client.retry_ms is not None
        assert "stream.end" not in names(client.body)
        rest = await after_a_while(opened(channel.subscribe(last_id(client.body))))
        assert notes(client.body) + notes(rest) == list(range(50))
        assert hub.statistics().closed == 1


async def test_a_stalled_reader_holds_no_more_than_the_ring_and_a_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "_RING_BYTES", 20_000)
    monkeypatch.setattr(pages, "_PAGE_BYTES", 10_000)
    async with hub_on() as hub:
        channel = Channel("room", Note, hub=hub, retain=Retain(events=5000))
        subscription = channel.subscribe()
        client = opened(subscription)
        await asyncio.sleep(1)
        client.pause()
        most = 0
        for number in range(3000):
            await channel.publish(Note(number))
            await asyncio.sleep(0.001)
            most = max(most, sum(map(len, subscription.reading._ready)))
            assert hub.statistics().bytes <= 2 * 20_000 + 100
        assert most <= 20_000
        client.resume()
        await asyncio.sleep(2)
        assert notes(client.body) == list(range(3000))
        client.leave()
        await client.ended()


# --- the end


async def test_a_sealed_channel_ends_its_stream_and_whoever_comes_back_gets_a_204() -> None:
    async with hub_on() as hub:
        registry = Registry()
        client = opened(room(hub).subscribe(), registry)
        await asyncio.sleep(1)
        await published(room(hub), 2)
        await room(hub).seal(Note(2))
        await client.ended()
        assert names(client.body) == ["note", "note", "note", "stream.end"]
        assert registry.totals().ended[EndCause.COMPLETE] == 1
        end = last_id(client.body)
        assert end == await room(hub).tail()
        again = opened(room(hub).subscribe(end))
        await again.ended()
        assert again.status == 204
        assert again.body == b""
        assert "content-type" not in again.headers


async def test_whoever_comes_back_to_the_end_late_in_the_start_gets_the_end_itself() -> None:
    engine = FaultyEngine(MemoryEngine())
    async with Hub(engine) as hub:
        last = await room(hub).seal(Note(1))
        engine.stall()
        client = opened(room(hub).subscribe(last))
        await asyncio.sleep(1)  # the response has begun without a word of the engine
        assert client.status == 200
        engine.resume()
        await client.ended()
        assert names(client.body) == ["stream.end"]


@pytest.mark.parametrize(("after", "expected"), [(None, []), ("earliest", [0, 1])])
async def test_a_first_connection_to_a_sealed_channel_gets_its_end(
    after: str | None, expected: list[int]
) -> None:
    async with hub_on() as hub:
        await published(room(hub), 2)
        await room(hub).seal()
        client = opened(room(hub).subscribe(after))
        await client.ended()
        assert client.status == 200
        assert notes(client.body) == expected
        assert names(client.body)[-1] == "stream.end"
        assert last_id(client.body) == await room(hub).tail()


async def test_a_set_ends_when_all_of_it_are_sealed_and_not_before() -> None:
    async with hub_on() as hub:
        some = [room(hub, name) for name in "abc"]
        client = opened(merge(*(each.subscribe() for each in some)))
        await asyncio.sleep(1)
        for number, each in enumerate(some):
            assert not client.task.done()
            await each.seal(Note(number))
            await asyncio.sleep(1)
        await client.ended()
        assert names(client.body) == ["note", "note", "note", "stream.end"]
        again = opened(merge(*(each.subscribe(last_id(client.body)) for each in some)))
        await again.ended()
        assert again.status == 204
        cursors = {each.name: cursor_of(await each.tail()) for each in some}
        assert last_id(client.body) == vector(cursors)


# --- who may read


async def test_whoever_may_not_read_gets_a_403_and_no_id() -> None:
    refusals: list[Any] = [str.isspace, _no, _says_nothing]
    for authorize in refusals:
        async with hub_on() as hub:
            client = opened(room(hub).subscribe(authorize=authorize))
            with pytest.raises(Exception, match="403"):
                await client.ended()
            assert not client.sent
            assert not hub._subscriptions


def _says_nothing(_: str) -> None: ...


async def _no(_: str) -> bool:
    await asyncio.sleep(0.1)
    return False


async def test_an_error_of_authorize_is_the_endpoints() -> None:
    async with hub_on() as hub:

        def fails(_: str) -> bool:
            raise KeyError

        client = opened(room(hub).subscribe(authorize=fails))
        with pytest.raises(KeyError):
            await client.ended()


class Permission:
    def __init__(self, *, wait_s: float = 0) -> None:
        self.granted = True
        self.asked: list[str] = []
        self.wait_s = wait_s

    async def __call__(self, channel: str) -> bool:
        self.asked.append(channel)
        granted = self.granted
        if self.wait_s:
            await asyncio.sleep(self.wait_s)
        return granted


async def test_a_reader_whose_permission_is_revoked_while_parked_gets_nothing_more() -> None:
    store = MemoryStore()
    async with hub_on(store) as hub, hub_on(store) as other:
        permission, stays = Permission(), Permission()
        client = opened(room(hub).subscribe(reader="ann", authorize=permission))
        bob = opened(room(hub).subscribe(reader="bob", authorize=stays))
        await asyncio.sleep(1)
        await published(room(other), 1)
        await asyncio.sleep(1)
        permission.granted = False
        await room(other).revoke("ann")
        await published(room(other), 1, 1)
        await client.ended()
        assert names(client.body) == ["note", "stream.error"]
        assert b"access_denied" in client.body
        assert stays.asked == ["room"]
        await room(other).revoke()
        assert notes(await after_a_while(bob)) == [0, 1]
        assert stays.asked == ["room", "room"]


async def test_a_reader_without_authorize_ends_where_it_is_named_and_only_there() -> None:
    async with hub_on() as hub:
        ann = opened(room(hub).subscribe(reader="ann"))
        bob = opened(room(hub).subscribe(reader="bob"))
        await asyncio.sleep(1)
        await room(hub).revoke("ann")
        await ann.ended()
        await room(hub).revoke()
        await published(room(hub), 1)
        assert notes(await after_a_while(bob)) == [0]
        assert names(ann.body) == ["stream.error"]


async def test_a_revocation_while_authorize_is_asked_is_not_missed() -> None:
    async with hub_on() as hub:
        permission = Permission(wait_s=1)
        client = opened(room(hub).subscribe(authorize=permission, reader="ann"))
        await asyncio.sleep(0.2)
        permission.granted = False
        await room(hub).revoke("ann")
        await asyncio.sleep(5)
        assert client.task.done()
        assert names(client.body) == ["stream.error"]


async def test_a_revocation_while_a_reader_waits_in_its_task_ends_it() -> None:
    async with hub_on() as hub:
        permission = Permission()
        subscription = room(hub).subscribe(authorize=permission)
        reading_on = asyncio.ensure_future(anext(subscription))
        await asyncio.sleep(1)
        permission.granted = False
        await room(hub).revoke()
        with pytest.raises(Exception, match="may not read"):
            await reading_on
        await subscription.aclose()


async def test_a_page_that_was_being_read_when_permission_was_revoked_is_not_delivered() -> None:
    class Slow(MemoryEngine):
        async def read(
            self, channel: str, after: Cursor | Newest, *, limit: int, max_bytes: int
        ) -> Page:
            page = await super().read(channel, after, limit=limit, max_bytes=max_bytes)
            await asyncio.sleep(1)
            return page

    async with Hub(Slow()) as hub:
        cursors = await published(room(hub), 600)
        permission = Permission()
        client = opened(room(hub).subscribe(cursors[0], authorize=permission))
        inside = room(hub).subscribe(cursors[0], authorize=permission)
        reading_on = asyncio.ensure_future(anext(inside))
        await asyncio.sleep(1.5)
        permission.granted = False
        before = len(notes(client.body))
        await room(hub).revoke()
        await client.ended()
        assert len(notes(client.body)) == before
        assert names(client.body)[-1] == "stream.error"
        for attempt in (reading_on, anext(inside)):
            with pytest.raises(AccessDenied):
                await attempt
        await inside.aclose()


async def test_a_lost_connection_asks_again_since_a_revocation_may_have_gone_unheard() -> None:
    engine = FaultyEngine(MemoryEngine())
    async with Hub(engine) as hub:
        permission = Permission()
        client = opened(room(hub).subscribe(authorize=permission))
        await asyncio.sleep(1)
        permission.granted = False
        engine.lose_connection()
        await client.ended()
        assert names(client.body) == ["stream.error"]


async def test_an_authorize_that_needs_an_engine_that_is_away_is_asked_until_it_answers() -> None:
    async with hub_on() as hub:
        answers: list[object] = [True, EngineUnavailable("x", "away"), False]

        def authorize(_: str) -> bool:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return bool(answer)

        client = opened(room(hub).subscribe(authorize=authorize))
        await asyncio.sleep(1)
        await room(hub).revoke()
        await client.ended()
        assert names(client.body) == ["stream.error"]
        assert not answers


async def test_who_gives_up_while_authorize_is_asked_again_is_asked_once_more() -> None:
    async with hub_on() as hub:
        permission = Permission()
        inside = room(hub).subscribe("earliest", authorize=permission)
        await published(room(hub), 1)
        assert (await anext(inside)).data == 0
        permission.granted, permission.wait_s = False, 5
        await room(hub).revoke()
        await published(room(hub), 1, 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(inside), 1)
        with pytest.raises(AccessDenied):
            await anext(inside)
        await inside.aclose()


# --- several channels


async def test_a_quiet_channel_of_a_set_does_not_keep_ids_from_the_others() -> None:
    store = MemoryStore()
    async with hub_on(store) as hub:
        some = [room(hub, name) for name in "abc"]
        await published(some[0], 3)
        client = opened(merge(*(each.subscribe() for each in some)))
        body = await after_a_while(client)
    store.restore(MemoryStore())
    async with hub_on(store) as hub:
        some = [room(hub, name) for name in "abc"]
        client = opened(merge(*(each.subscribe(last_id(body)) for each in some)))
        await asyncio.sleep(1)
        await published(some[0], 3)
        body = await after_a_while(client)
        assert len(gaps(body)) == 3
        rest = await after_a_while(opened(merge(*(each.subscribe(last_id(body)) for each in some))))
        assert notes(rest) == []
        assert not gaps(rest)


async def test_a_set_of_many_says_once_a_second_where_its_reader_is() -> None:
    async with hub_on() as hub:
        some = [room(hub, f"c{number}") for number in range(12)]
        client = opened(merge(*(each.subscribe() for each in some)))
        await asyncio.sleep(1)
        for number in range(100):
            await some[number % 12].publish(Note(number))
            await asyncio.sleep(0.05)
        await asyncio.sleep(3)
        ids = client.body.count(b"id: ")
        assert 4 <= ids <= 8
        rest = await after_a_while(
            opened(merge(*(each.subscribe(last_id(client.body)) for each in some)))
        )
        assert notes(rest) == []
        client.leave()
        await client.ended()


# --- channels under a prefix


def orders(hub: Hub) -> Channel[Note]:
    return Channel("orders/{number}", Note, hub=hub)


async def test_a_channel_that_begins_later_is_read_from_its_first_event() -> None:
    store = MemoryStore()
    async with hub_on(store) as hub, hub_on(store) as other:
        await published(orders(other).at(number=1), 2)
        client = opened(orders(hub).subscribe_all())
        await asyncio.sleep(1)
        await published(orders(other).at(number=2), 3, 10)
        await published(Channel("orders/1/lines", Note, hub=other), 1, 99)
        body = await after_a_while(client)
        assert notes(body) == [10, 11, 12]
        await published(orders(other).at(number=3), 1, 20)
        rest = await after_a_while(opened(orders(hub).subscribe_all(last_id(body))))
        assert notes(rest) == [20]


async def test_a_channel_that_is_heard_of_while_a_reader_resumes_is_not_read_again() -> None:
    async with hub_on() as hub:
        channel = orders(hub).at(number=1)
        await published(channel, 3)
        body = await after_a_while(opened(orders(hub).subscribe_all()))
        permission = Permission(wait_s=1)
        client = opened(orders(hub).subscribe_all(last_id(body), authorize=permission))
        await asyncio.sleep(0.5)
        await published(channel, 1, 3)
        assert notes(await after_a_while(client)) == [3]


async def test_a_prefix_is_watched_where_the_engine_was_away_at_first() -> None:
    script = [Step("watch", 1, Fault.UNAVAILABLE)]
    store = MemoryStore()
    async with hub_on(store) as other, Hub(FaultyEngine(MemoryEngine(store), script=script)) as hub:
        client = opened(orders(hub).subscribe_all())
        await asyncio.sleep(2)
        await published(orders(other).at(number=1), 2)
        assert notes(await after_a_while(client, 2)) == [0, 1]


async def test_a_channel_whose_first_event_is_lost_is_found_at_once() -> None:
    script = [Step("record", 1, Fault.LOST), Step("names", 2, Fault.UNAVAILABLE)]
    store = MemoryStore()
    async with hub_on(store) as other, Hub(FaultyEngine(MemoryEngine(store), script=script)) as hub:
        client = opened(orders(hub).subscribe_all())
        await asyncio.sleep(2)
        await published(orders(other).at(number=1), 1)
        assert notes(await after_a_while(client, 3)) == [0]


async def test_channels_that_are_gone_where_a_reader_comes_back_are_told_of() -> None:
    store = MemoryStore()
    async with hub_on(store) as hub:
        await published(orders(hub).at(number=1), 3)
        body = await after_a_while(opened(orders(hub).subscribe_all("earliest")))
        assert notes(body) == [0, 1, 2]
        store.restore(MemoryStore())
        client = opened(orders(hub).subscribe_all(last_id(body)))
        await asyncio.sleep(1)
        assert [gap["channel"] for gap in gaps(client.body)] == ["orders/"]
        await published(orders(hub).at(number=1), 1, 10)
        assert notes(await after_a_while(client)) == [10]


async def test_more_channels_than_a_cursor_can_name_are_refused() -> None:
    async with hub_on() as hub:
        for number in range(65):
            await published(orders(hub).at(number=number), 1)
        client = opened(orders(hub).subscribe_all())
        with pytest.raises(Exception, match="channels in a subscription"):
            await client.ended()


async def test_channels_behind_many_others_of_their_prefix_are_read() -> None:
    async with hub_on() as hub:
        client = opened(orders(hub).subscribe_all())
        await asyncio.sleep(1)
        for number in range(100, 160):
            lines = Channel("orders/{number}/lines", Note, hub=hub)
            await published(lines.at(number=number), 1)
            await published(orders(hub).at(number=number), 1, number)
        assert notes(await after_a_while(client)) == list(range(100, 160))
        body = await after_a_while(opened(orders(hub).subscribe_all("earliest")))
        assert sorted(notes(body)) == list(range(100, 160))


async def test_a_prefix_of_too_many_others_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_MOST_NAMES", 100)
    async with hub_on() as hub:
        for number in range(100):
            await published(Channel("orders/1/{line}", Note, hub=hub).at(line=number), 1)
        client = opened(orders(hub).subscribe_all())
        with pytest.raises(Exception, match="under a prefix"):
            await client.ended()


async def test_a_reader_of_many_channels_holds_little_more_than_one_page() -> None:
    async with hub_on() as hub:
        some = [Channel(f"c{number}", Other, hub=hub) for number in range(20)]
        for each in some:
            for number in range(300):
                await each.publish(Other(f"{number} {'x' * 1000}"))
        subscription = merge(*(each.subscribe("earliest") for each in some))
        assert isinstance(subscription, Subscription)
        most = 0
        got: Counter[str] = Counter()
        for number in range(20 * 300):
            event = await anext(subscription)
            got[event.data.partition(" ")[0]] += 1
            most = max(most, sum(map(len, subscription.reading._ready)))
            if number == 3000:
                assert len(got) < 300  # no channel waits for the end of another
        assert got == {str(number): 20 for number in range(300)}
        assert most <= 3 * reading._BYTES_AT_ONCE
        await subscription.aclose()


# --- strange engines do not make it spin


async def test_a_call_that_fails_again_and_again_is_not_made_in_a_hot_loop() -> None:
    class Broken(MemoryEngine):
        calls = 0

        async def names(self, prefix: str, *, limit: int) -> Sequence[str]:
            Broken.calls += 1
            if Broken.calls > 1:
                raise EngineUnavailable("memory://", "it is tested")
            return await super().names(prefix, limit=limit)

    async with Hub(Broken()) as hub:
        await published(orders(hub).at(number=1), 1)
        client = opened(orders(hub).subscribe_all())
        await asyncio.sleep(1)
        hub.lost(None)
        await asyncio.sleep(10)
        assert Broken.calls < 400
        client.leave()
        await client.ended()


async def test_a_cursor_that_can_never_be_read_is_not_asked_for_in_a_hot_loop() -> None:
    class Broken(MemoryEngine):
        calls = 0

        async def read(
            self, channel: str, after: Cursor | Newest, *, limit: int, max_bytes: int
        ) -> Page:
            if isinstance(after, Cursor) and after.pos == 1:
                Broken.calls += 1
                raise EngineUnavailable("memory://", "it is tested")
            return await super().read(channel, after, limit=limit, max_bytes=max_bytes)

    async with Hub(Broken()) as hub:
        cursors = await published(room(hub), 300)
        client = opened(room(hub).subscribe(cursors[0]))
        await asyncio.sleep(10)
        assert Broken.calls < 400
        client.leave()
        await client.ended()


# --- a hub that is left


@pytest.mark.parametrize("slow", [False, True])
async def test_streams_that_are_open_when_the_hub_is_left_end_with_an_error(slow: bool) -> None:
    registry = Registry()
    async with hub_on() as hub:
        client = opened(room(hub).subscribe(), registry)
        inside = room(hub).subscribe()
        reading_on = asyncio.ensure_future(anext(inside))
        if slow:
            inside.reading.never_again()
        await asyncio.sleep(1)
    with pytest.raises(EngineUnavailable):
        await client.ended()
    with pytest.raises(EngineUnavailable):
        await reading_on
    await inside.aclose()
    assert names(client.body) == ["stream.error"]


async def test_a_stream_of_no_channel_yet_ends_with_an_error_when_the_hub_is_left() -> None:
    async with hub_on() as hub:
        client = opened(orders(hub).subscribe_all())
        await asyncio.sleep(1)
    async with asyncio.timeout(1):
        with pytest.raises(EngineUnavailable):
            await client.ended()


async def test_a_page_that_is_read_when_the_hub_is_left_is_an_error_and_no_cancellation() -> None:
    engine = FaultyEngine(MemoryEngine())
    async with Hub(engine) as hub:
        cursors = await published(room(hub), 300)
        subscription = room(hub).subscribe(cursors[0])
        watching = opened(room(hub).subscribe())
        await asyncio.sleep(1)
        engine.stall()
        reading_on = asyncio.ensure_future(anext(subscription))
        await asyncio.sleep(1)
    with pytest.raises(EngineUnavailable):
        await reading_on
    with pytest.raises(EngineUnavailable):
        await watching.ended()
    await subscription.aclose()


# --- beside other streams


async def test_the_running_ids_of_a_generator_beside_a_channel_are_left_out() -> None:
    @event_source
    async def others() -> AsyncIterator[Note]:
        for number in range(100, 103):
            yield Note(number)
            await asyncio.sleep(1)

    async with hub_on() as hub:
        client = opened(merge(room(hub).subscribe(), others()))
        await asyncio.sleep(0.5)
        await published(room(hub), 2)
        body = await after_a_while(client, 4)
        assert sorted(notes(body)) == [0, 1, 100, 101, 102]
        assert last_id(body) == await room(hub).tail()
        assert body.count(b"id:") == 3


async def test_an_id_of_its_own_beside_a_channel_is_refused() -> None:
    @event_source
    async def others() -> AsyncIterator[Note]:
        yield Note(1, id="mine")
        await asyncio.sleep(100)

    async with hub_on() as hub:
        client = opened(merge(room(hub).subscribe(), others()))
        with pytest.raises(Exception, match="resume points"):
            await client.ended()
        assert not hub._subscriptions


def test_the_limits_that_these_tests_count_on() -> None:
    assert reading._FRAMES_AT_ONCE <= 64


# --- told by a channel's owner


async def test_a_channel_that_is_dropped_is_told_of_at_once_on_every_worker() -> None:
    store = MemoryStore()
    async with hub_on(store) as one, hub_on(store) as other:
        await published(room(one), 3)
        async with opened(room(other).subscribe("earliest")) as client:
            await asyncio.sleep(1)
            await room(one).drop()
            await asyncio.sleep(1)
            assert [gap["reason"] for gap in gaps(client.body)] == ["reset"]
            await published(room(one), 1, first=7)
            await asyncio.sleep(1)
            assert notes(client.body) == [0, 1, 2, 7]
        async with opened(room(other).subscribe("earliest")) as client:
            assert notes(await after_a_while(client)) == [7]


@pytest.mark.parametrize("who", ["ann", None])
async def test_a_reader_that_is_disconnected_is_told_when_to_come_back(who: str | None) -> None:
    store = MemoryStore()
    async with hub_on(store) as one, hub_on(store) as other:
        registry = Registry()
        mine = opened(room(other).subscribe(reader="ann"), registry)
        async with mine, opened(room(other).subscribe(reader="bob")) as client:
            await asyncio.sleep(1)
            await room(one).disconnect(who)
            await asyncio.sleep(1)
            assert mine.terminated
            assert mine.retry_ms is not None
            assert registry.totals().ended[EndCause.COMPLETE] == 1
            assert client.terminated is (who is None)


async def test_a_reader_that_is_disconnected_while_it_is_asked_for_comes_back_too() -> None:
    async with hub_on() as hub:
        permission = Permission(wait_s=1)
        client = opened(room(hub).subscribe(reader="ann", authorize=permission))
        await asyncio.sleep(0.5)
        await room(hub).disconnect("ann")
        await client.ended()
        assert client.retry_ms is not None


@pytest.mark.parametrize("reader", ["", "x" * 201])
async def test_a_reader_has_a_name_of_bounded_length(reader: str) -> None:
    async with hub_on() as hub:
        with pytest.raises(InvalidField, match="reader"):
            room(hub).subscribe(reader=reader)
        with pytest.raises(InvalidField, match="reader"):
            await room(hub).revoke(reader)


class Slowly(MemoryEngine):
    """Takes a moment for each read, counts them, and may be away."""

    reads = 0
    away = False

    async def read(
        self, channel: str, after: Cursor | Newest, *, limit: int, max_bytes: int
    ) -> Page:
        self.reads += 1
        await asyncio.sleep(0.01)
        if self.away:
            raise EngineUnavailable("slow", "gone")
        return await super().read(channel, after, limit=limit, max_bytes=max_bytes)


async def test_many_who_come_back_from_far_behind_share_what_is_read() -> None:
    store, engine = MemoryStore(), None
    async with hub_on(store) as one:
        ids = await published(room(one), 900)
    engine = Slowly(store)
    async with Hub(engine) as hub:
        clients = [opened(room(hub).subscribe(after)) for after in ids[:60]]
        bodies = [await after_a_while(client) for client in clients]
        assert [notes(body) for body in bodies] == [
            list(range(behind + 1, 900)) for behind in range(60)
        ]
        assert engine.reads <= 5  # the newest, and four pages from the oldest of the cursors on


async def test_those_who_come_back_one_after_the_other_share_what_was_read_a_moment_ago() -> None:
    store = MemoryStore()
    async with hub_on(store) as one:
        after = (await published(room(one), 900))[0]
    engine = Slowly(store)
    async with Hub(engine) as hub:
        for _ in range(10):
            client = opened(room(hub).subscribe(after))
            assert notes(await after_a_while(client, 0.15)) == list(range(1, 900))
        assert engine.reads <= 5


async def test_an_engine_that_is_away_is_not_asked_by_each_who_waits_for_a_page() -> None:
    store = MemoryStore()
    async with hub_on(store) as one:
        ids = await published(room(one), 400)
    engine = Slowly(store)
    async with Hub(engine) as hub:
        live_room = hub.follow("room")
        await live_room.ready()
        engine.away, engine.reads = True, 0
        pages = (live_room.page(cursor_of(after)) for after in ids[:50])
        answers = await asyncio.gather(*pages, return_exceptions=True)
        assert {type(answer) for answer in answers} == {EngineUnavailable}
        assert engine.reads == 1


async def test_a_prefix_whose_channels_are_gone_closes_where_it_is_declared_so() -> None:
    store = MemoryStore()
    async with hub_on(store) as hub:
        orders = Channel("orders/{n}", Note, hub=hub, on_gap="close")
        await orders.at(n=1).publish(Note(1))
        async with opened(orders.subscribe_all()) as client:
            await asyncio.sleep(1)
            after = last_id(client.body)
        store.restore(MemoryStore())
        client = opened(orders.subscribe_all(after))
        body = await after_a_while(client)
        assert names(body) == ["stream.gap", "stream.end"]
        assert last_id(body) == ""


async def test_beside_a_generator_who_is_disconnected_or_too_slow_is_told_to_come_back() -> None:
    @event_source
    async def others() -> AsyncIterator[Other]:
        yield Other("x")
        await asyncio.sleep(10**6)

    async with hub_on() as hub:
        client = opened(merge(room(hub).subscribe(reader="ann"), others()))
        await asyncio.sleep(1)
        await room(hub).disconnect("ann")
        async with asyncio.timeout(1):
            await client.ended()
        assert client.terminated
        assert client.retry_ms is not None
        slow = opened(merge(room(hub, "b", on_gap="close").subscribe("1.2.3"), others()))
        async with asyncio.timeout(1):
            await slow.ended()
        assert names(slow.body)[:1] == ["stream.gap"] or "stream.gap" in names(slow.body)
        assert not hub._subscriptions
