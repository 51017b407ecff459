"""What the contract suite cannot know of Redis: its keys, its ways to fail, its configuration."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from channels.redis_server import RedisServer
from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import EARLIEST, GapReason, Newest, Page, Record, Retain
from typed_sse.channels.redis import RedisEngine
from typed_sse.errors import EngineUnavailable, InvalidField, OutcomeUnknown

pytestmark = [pytest.mark.anyio, pytest.mark.live]

_LIMIT_S = 30
_T = TypeVar("_T")


class _Heard:
    """A feed that notes what it hears, in order: records, `None` for a loss, topics of signals."""

    def __init__(self) -> None:
        self.all: list[Record | str | None] = []

    def record(self, record: Record) -> None:
        self.all.append(record)

    def lost(self, channels: Collection[str] | None) -> None:
        assert channels is None
        self.all.append(None)

    def signal(self, topic: str, data: bytes) -> None:
        self.all.append(topic)

    def bodies(self) -> list[bytes]:
        return [one.body for one in self.all if isinstance(one, Record)]

    async def until(self, condition: Callable[[], bool]) -> None:
        await _until(condition)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    server = RedisServer(tmp_path / "data")
    await server.start()
    yield server
    server.stop()


@asynccontextmanager
async def _started(url: str, timeout_s: float = 10.0) -> AsyncGenerator[tuple[RedisEngine, _Heard]]:
    engine, heard = RedisEngine(url, timeout_s=timeout_s), _Heard()
    await engine.start(heard)
    try:
        yield engine, heard
    finally:
        await engine.stop()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_LIMIT_S):
        while not condition():
            await asyncio.sleep(0.005)


async def _in_the_end(call: Callable[[], Awaitable[_T]]) -> _T:
    """Return what a call returns once the store is there."""
    async with asyncio.timeout(_LIMIT_S):
        while True:
            try:
                return await call()
            except (EngineUnavailable, OutcomeUnknown):
                await asyncio.sleep(0.01)


async def _append(engine: RedisEngine, channel: str, *bodies: bytes) -> Cursor:
    return (await engine.append(channel, bodies, retain=Retain())).last


async def _read(engine: RedisEngine, channel: str, after: Cursor | Newest) -> Page:
    return await engine.read(channel, after, limit=1000, max_bytes=10_000_000)


def _bodies(page: Page) -> list[bytes]:
    return [record.body for record in page.records]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/0",
        "redis://:secret/word@127.0.0.1:1/0",
        "redis://127.0.0.1:1/0?no_such_option=1&password=secret",
        "redis://127.0.0.1:1/0?socket_timeout=secret",
    ],
)
def test_a_wrong_url_is_refused_without_what_may_be_a_password(url: str) -> None:
    with pytest.raises(InvalidField) as raised:
        RedisEngine(url)

    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("namespace", ["", "a b", "}", "ä", "n" * 65])
def test_a_namespace_that_could_break_a_key_is_refused(namespace: str) -> None:
    with pytest.raises(InvalidField, match="namespace"):
        RedisEngine("redis://127.0.0.1", namespace=namespace)


async def test_a_server_that_is_not_there_is_told_of_without_the_password(
    server: RedisServer,
) -> None:
    server.stop()
    engine = RedisEngine(f"redis://user:secret@127.0.0.1:{server.port}/0")

    with pytest.raises(EngineUnavailable) as raised:
        await engine.start(_Heard())

    assert "secret" not in str(raised.value)
    assert str(server.port) in str(raised.value)


async def test_a_start_that_failed_can_be_repeated(server: RedisServer) -> None:
    engine, heard = RedisEngine(server.url), _Heard()
    server.stop()
    with pytest.raises(EngineUnavailable):
        await engine.start(heard)
    await server.start()

    await engine.start(heard)
    await _append(engine, "a", b"1")
    await engine.stop()
    await engine.stop()

    with pytest.raises(EngineUnavailable, match="not started"):
        await engine.tails(["a"])


async def test_a_wrong_password_is_told_in_the_servers_words_and_not_shown(
    tmp_path: Path,
) -> None:
    server = RedisServer(tmp_path / "data")
    await server.start()
    try:
        await server.tell("CONFIG", "SET", "requirepass", "right")
        for secret in ("", ":secret@"):
            engine = RedisEngine(f"redis://{secret}127.0.0.1:{server.port}/0")
            with pytest.raises(EngineUnavailable) as raised:
                await engine.start(_Heard())
            assert "secret" not in str(raised.value)
            assert "uthentication" in str(raised.value) or "password" in str(raised.value)
        async with _started(f"valkey://:right@127.0.0.1:{server.port}/0") as (engine, _):
            assert (await engine.health()).ready
            assert "right" not in (await engine.health()).detail
    finally:
        server.stop()


async def test_a_server_that_is_too_old_is_refused() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line.strip() in (b"SETINFO", b"INFO"):
                info = b"redis_version:6.0.16\r\n"
                old = b"$%d\r\n%b\r\n" % (len(info), info)
                writer.write(old if line.strip() == b"INFO" else b"-ERR unknown\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        engine = RedisEngine(f"redis://127.0.0.1:{port}/0")
        with pytest.raises(EngineUnavailable, match=r"6\.0\.16.*6\.2"):
            await engine.start(_Heard())


async def test_a_server_that_evicts_is_warned_of(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await server.tell("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")

    with caplog.at_level(logging.WARNING):
        async with _started(server.url):
            pass

    assert "maxmemory-policy noeviction" in caplog.text


async def test_a_server_without_memory_refuses_and_appends_nothing(server: RedisServer) -> None:
    async with _started(server.url) as (engine, _):
        first = await _append(engine, "a", b"1")
        await server.tell("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(EngineUnavailable, match="maxmemory"):
            await _append(engine, "a", b"2")
        await server.tell("CONFIG", "SET", "maxmemory", "0")
        assert (await engine.tails(["a"]))[0].cursor == first


async def test_databases_and_namespaces_of_one_server_do_not_hear_each_other(
    server: RedisServer,
) -> None:
    async with (
        _started(server.url) as (engine, heard),
        _started(server.url.removesuffix("0") + "1") as (other, others),
    ):
        await engine.watch(["a"])
        await other.watch(["a"])
        await _append(engine, "a", b"here")
        await engine.signal("here", b"")
        await other.signal("there", b"")
        await heard.until(lambda: "here" in heard.all)
        await others.until(lambda: "there" in others.all)

        assert others.all == ["there"]
        assert await other.names("", limit=10) == []


async def test_a_prefix_and_a_channel_below_it_give_each_record_once(server: RedisServer) -> None:
    async with _started(server.url) as (engine, heard):
        await engine.watch(["a/b", "a/", "a/b/", "a*/"])
        for channel in ("a/b", "a/b/c", "ax/d", "a*/d"):
            await _append(engine, channel, channel.encode())
        await engine.signal("end", b"")
        await heard.until(lambda: "end" in heard.all)

        assert heard.bodies() == [b"a/b", b"a/b/c", b"a*/d"]


async def test_what_was_appended_is_there_after_a_crash_and_is_watched_on(
    server: RedisServer,
) -> None:
    async with _started(server.url) as (engine, heard):
        await engine.watch(["a"])
        cursor = await _append(engine, "a", b"1")
        await _append(engine, "a", b"2")
        server.kill()
        with pytest.raises((EngineUnavailable, OutcomeUnknown)):
            await _append(engine, "a", b"nowhere")
        assert not (await engine.health()).ready
        await server.start()

        await heard.until(lambda: None in heard.all)
        assert _bodies(await _read(engine, "a", cursor)) == [b"2"]
        await _append(engine, "a", b"3")
        await heard.until(lambda: b"3" in heard.bodies())
        assert heard.bodies()[-1] == b"3"


async def test_after_flushall_the_cursors_of_before_are_told_of_a_reset(
    server: RedisServer,
) -> None:
    async with _started(server.url) as (engine, heard):
        await engine.watch(["a"])
        empty = (await engine.tails(["a"]))[0].cursor
        last = await _append(engine, "a", b"1")
        await server.tell("FLUSHALL")
        new = await _append(engine, "a", b"1")

        assert new.epoch != last.epoch
        for cursor in (empty, last):
            assert (await _read(engine, "a", cursor)).gap is GapReason.RESET
        assert await engine.names("", limit=9) == ["a"]
        await heard.until(lambda: len(heard.bodies()) == 2)


async def test_a_channel_whose_end_was_evicted_begins_anew_without_its_old_records(
    server: RedisServer,
) -> None:
    async with _started(server.url) as (engine, _):
        last = await _append(engine, "a", b"1", b"2", b"3")
        await server.tell("DEL", "{typed-sse:a}:m")
        assert _bodies(await _read(engine, "a", EARLIEST)) == []
        assert (await _read(engine, "a", last)).gap is GapReason.RESET

        last = await _append(engine, "a", b"4")
        await server.tell("DEL", "{typed-sse:a}:m")
        new = await _append(engine, "a", b"5")
        assert new.epoch != last.epoch
        assert _bodies(await _read(engine, "a", EARLIEST)) == [b"5"]


async def test_a_channel_whose_records_were_evicted_goes_on_and_says_what_is_missing(
    server: RedisServer,
) -> None:
    async with _started(server.url) as (engine, _):
        empty = (await engine.tails(["a"]))[0].cursor
        first = await _append(engine, "a", b"1")
        last = await _append(engine, "a", b"2")
        await server.tell("DEL", "{typed-sse:a}:s")
        assert (await _read(engine, "a", last)).gap is None
        assert _bodies(await _read(engine, "a", EARLIEST)) == []

        new = await _append(engine, "a", b"3")
        assert (new.epoch, new.pos) == (last.epoch, 3)
        for cursor in (empty, first):
            assert (await _read(engine, "a", cursor)).gap is GapReason.EVICTED
        assert _bodies(await _read(engine, "a", EARLIEST)) == [b"3"]


async def test_an_older_stream_under_a_newer_end_is_no_whole_channel(server: RedisServer) -> None:
    stream = "{typed-sse:a}:s"
    async with _started(server.url) as (engine, _):
        first = await _append(engine, "a", b"1")
        await server.tell("COPY", stream, "older")
        await _append(engine, "a", b"2")
        await server.tell("COPY", "older", stream, "REPLACE")
        assert (await _read(engine, "a", first)).gap is GapReason.EVICTED
        assert _bodies(await _read(engine, "a", EARLIEST)) == []

        third = await _append(engine, "a", b"3")
        await _append(engine, "a", b"4")
        assert (await _read(engine, "a", first)).gap is GapReason.EVICTED
        assert _bodies(await _read(engine, "a", EARLIEST)) == [b"3", b"4"]
        assert _bodies(await _read(engine, "a", third)) == [b"4"]


async def test_an_older_end_over_a_newer_stream_gives_no_record_of_the_lost_future(
    server: RedisServer,
) -> None:
    end = "{typed-sse:a}:m"
    async with _started(server.url) as (engine, _):
        first = await _append(engine, "a", b"1")
        await server.tell("COPY", end, "older")
        lost = await _append(engine, "a", b"2", b"3")
        await server.tell("COPY", "older", end, "REPLACE")
        assert _bodies(await _read(engine, "a", EARLIEST)) == [b"1"]
        assert (await _read(engine, "a", first)).gap is None

        new = await _append(engine, "a", b"4")
        assert new.pos == 2
        assert (await _read(engine, "a", lost)).gap is GapReason.RESET
        assert _bodies(await _read(engine, "a", EARLIEST)) == [b"4"]


async def test_an_older_copy_put_back_resets_whoever_saw_more_and_nobody_else(
    server: RedisServer, tmp_path: Path
) -> None:
    async with _started(server.url) as (engine, heard):
        await engine.watch(["a"])
        first = await _append(engine, "a", b"1")
        second = await _append(engine, "a", b"2")
        server.stop()
        server.copy(tmp_path / "copy")
        await server.start()
        lost = [await _in_the_end(lambda: _append(engine, "a", b"lost")) for _ in range(2)]
        server.stop()
        server.put_back(tmp_path / "copy")
        await server.start()
        new = [await _in_the_end(lambda: _append(engine, "a", b"new")) for _ in range(3)]

        assert [cursor.pos for cursor in lost] == [cursor.pos for cursor in new[:2]]
        for cursor in lost:
            assert (await _read(engine, "a", cursor)).gap is GapReason.RESET
        assert _bodies(await _read(engine, "a", first)) == [b"2", b"new", b"new", b"new"]
        assert _bodies(await _read(engine, "a", second)) == [b"new"] * 3
        await heard.until(lambda: None in heard.all)


async def test_a_killed_feed_tells_of_a_loss_before_the_next_record(server: RedisServer) -> None:
    async with _started(server.url) as (engine, heard):
        await engine.watch(["a", "room/"])
        await _append(engine, "a", b"1")
        await heard.until(lambda: heard.bodies() == [b"1"])
        await server.tell("CLIENT", "KILL", "TYPE", "pubsub")
        await heard.until(lambda: None in heard.all)
        for channel in ("a", "room/x"):
            await _append(engine, channel, b"2")
        await heard.until(lambda: heard.bodies() == [b"1", b"2", b"2"])

        assert heard.all.index(None) == 1


async def test_a_server_that_holds_still_fails_calls_in_time_and_is_heard_again(
    server: RedisServer,
) -> None:
    async with _started(server.url, timeout_s=0.5) as (engine, heard):
        await engine.watch(["a"])
        first = await _append(engine, "a", b"1")
        server.pause()
        try:
            async with asyncio.timeout(_LIMIT_S):
                with pytest.raises(OutcomeUnknown, match=r"0\.5 s"):
                    await _append(engine, "a", b"2")
                with pytest.raises(EngineUnavailable, match=r"0\.5 s"):
                    await _append(engine, "a", b"3")
                with pytest.raises(EngineUnavailable):
                    await _read(engine, "a", first)
                while (await engine.health()).ready:
                    pass
            # The feed is found out by its silence.
            await heard.until(
                lambda: engine._parts is not None and not engine._parts.listener.ready.is_set()
            )
        finally:
            server.go_on()
        await _in_the_end(lambda: engine.watch(["b"]))
        assert None in heard.all
        await _in_the_end(lambda: _append(engine, "a", b"4"))
        await heard.until(lambda: b"4" in heard.bodies())
        assert b"3" not in _bodies(await _read(engine, "a", first))


async def test_of_a_signal_and_a_drop_that_are_not_answered_nobody_knows(
    server: RedisServer,
) -> None:
    async with _started(server.url, timeout_s=0.5) as (engine, _):
        server.pause()
        try:
            calls = engine.signal("topic", b""), engine.drop("a")
            answers = await asyncio.gather(*calls, return_exceptions=True)
        finally:
            server.go_on()
        assert [type(answer) for answer in answers] == [OutcomeUnknown, OutcomeUnknown]


async def test_scripts_that_the_server_forgot_are_sent_again(server: RedisServer) -> None:
    async with _started(server.url) as (engine, _):
        first = await _append(engine, "a", b"1")
        await server.tell("SCRIPT", "FLUSH")
        await _append(engine, "a", b"2")
        await server.tell("SCRIPT", "FLUSH")

        assert _bodies(await _read(engine, "a", first)) == [b"2"]
        assert (await engine.tails(["new"]))[0].cursor.pos == 0


async def test_a_cut_connection_never_appends_twice_and_a_key_makes_it_once(
    server: RedisServer,
) -> None:
    cuts = 0

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal cuts
        there, to = await asyncio.open_connection("127.0.0.1", server.port)
        left = 3000 + cuts * 37 % 1000
        cuts += 1

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            nonlocal left
            while left > 0 and (data := await source.read(100)):
                left -= len(data)
                sink.write(data)

        pumps = [asyncio.create_task(pump(reader, to)), asyncio.create_task(pump(there, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for one in (to, writer):
                one.transport.abort()

    proxy = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    async with proxy:
        port = proxy.sockets[0].getsockname()[1]
        engine, heard = RedisEngine(f"redis://127.0.0.1:{port}/0"), _Heard()
        await _in_the_end(lambda: engine.start(heard))
        try:
            for number in range(60):
                body, plain = b"%d" % number, b"plain %d" % number
                again = partial(engine.append, "a", [body], retain=Retain(), key=f"{number}")
                await _in_the_end(again)
                with suppress(EngineUnavailable, OutcomeUnknown):
                    await engine.append("b", [plain], retain=Retain())
        finally:
            await engine.stop()
    async with _started(server.url) as (engine, _):
        assert _bodies(await _read(engine, "a", EARLIEST)) == [b"%d" % n for n in range(60)]
        plain_bodies = _bodies(await _read(engine, "b", EARLIEST))
        assert len(plain_bodies) == len(set(plain_bodies))
    assert cuts > 3


async def test_trimming_keeps_the_law_where_the_server_trims_by_huge_nodes(
    server: RedisServer,
) -> None:
    await server.tell("CONFIG", "SET", "stream-node-max-entries", "0")
    await server.tell("CONFIG", "SET", "stream-node-max-bytes", "0")
    async with _started(server.url) as (engine, _):
        for _ in range(5):
            await engine.append("a", [b"x"] * 100, retain=Retain(events=10))
            kept = len((await _read(engine, "a", EARLIEST)).records)
            assert 10 <= kept <= 2 * 10 + 100


async def test_a_page_of_large_records_holds_what_was_asked_for_and_goes_on(
    server: RedisServer,
) -> None:
    async with _started(server.url) as (engine, _):
        bodies = [b"%03d" % n + b"x" * 50_000 for n in range(100)]
        await engine.append("a", bodies, retain=Retain())
        place: Cursor | Newest = EARLIEST
        found: list[bytes] = []
        more = True
        while more:
            page = await engine.read("a", place, limit=30, max_bytes=500_000)
            assert page.records
            assert sum(len(one.body) for one in page.records) <= 550_000
            found += _bodies(page)
            place, more = page.records[-1].cursor, page.more
        assert found == bodies


async def test_names_are_found_again_after_the_index_has_names_of_what_is_gone(
    server: RedisServer,
) -> None:
    async with _started(server.url) as (engine, _):
        for number in range(30):
            await _append(engine, f"n{number:02}", b"x")
        for number in range(0, 30, 2):
            await server.tell("DEL", f"{{typed-sse:n{number:02}}}:s")

        assert await engine.names("n", limit=3) == ["n01", "n03", "n05"]
        assert await server.tell("ZCARD", "typed-sse:names") == "27"


async def test_a_name_comes_back_to_the_index_with_the_next_record(server: RedisServer) -> None:
    async with _started(server.url) as (engine, _):
        await _append(engine, "a", b"1")
        await server.tell("DEL", "{typed-sse:a}:s")
        assert await engine.names("", limit=9) == []

        await _append(engine, "a", b"2")
        assert await engine.names("", limit=9) == ["a"]


async def test_callers_that_give_up_early_do_not_keep_a_silent_connection(
    server: RedisServer,
) -> None:
    async with _started(server.url, timeout_s=0.5) as (engine, _):
        assert engine._parts is not None
        lane = engine._parts.appends
        server.pause()
        try:
            async with asyncio.timeout(_LIMIT_S):
                wire = lane._wire
                while lane._wire is wire:
                    with suppress(TimeoutError, EngineUnavailable):
                        async with asyncio.timeout(0.05):
                            await _append(engine, "a", b"x")
        finally:
            server.go_on()
        await _in_the_end(lambda: _append(engine, "a", b"y"))
