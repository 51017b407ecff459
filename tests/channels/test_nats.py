"""The NATS engine: what the contract of engines cannot ask, as it is of JetStream or nats-py."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from nats.aio.client import Client

from channels.nats_server import NatsServer, Proxy
from channels.server import free_port
from typed_sse.channels import nats_client
from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import EARLIEST, Appended, GapReason, Newest, Record, Retain
from typed_sse.channels.nats import NatsEngine
from typed_sse.channels.nats_messages import message_id
from typed_sse.contract.process import Lost, Process
from typed_sse.errors import EngineUnavailable, InvalidField, OutcomeUnknown

pytestmark = [pytest.mark.live, pytest.mark.anyio]

LIMIT_S = 30.0


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    server = NatsServer(tmp_path / "data")
    async with running(server):
        yield server


@asynccontextmanager
async def running(server: NatsServer) -> AsyncGenerator[None]:
    await server.start()
    try:
        yield
    finally:
        server.stop()


@asynccontextmanager
async def engines(*urls: str, timeout_s: float = 10.0) -> AsyncGenerator[list[Process]]:
    processes = [Process(NatsEngine(url, timeout_s=timeout_s), LIMIT_S) for url in urls]
    try:
        for process in processes:
            await process.engine.start(process)
        yield processes
    finally:
        for process in processes:
            await process.stop()


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                if await condition():
                    return
            except EngineUnavailable:
                pass
            await asyncio.sleep(0.01)


async def back(*processes: Process) -> None:
    for process in processes:

        async def ready(process: Process = process) -> bool:
            return (await process.engine.health()).ready

        await eventually(ready)


async def published(process: Process, channel: str, body: bytes, key: str) -> Cursor:
    """Append once, whatever happens to the connection."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                return (await process.append(channel, body, key=key)).last
            except (EngineUnavailable, OutcomeUnknown):
                await asyncio.sleep(0.01)


def told_of_a_loss(process: Process, since: int) -> bool:
    return Lost(None) in process.heard[since:]


async def ask(server: NatsServer, subject: str, request: object) -> Mapping[str, object]:
    """Ask JetStream, or publish to it."""
    client = Client()
    await client.connect(server.url)
    try:
        reply = await client.request(subject, json.dumps(request).encode(), 10)
        return cast("Mapping[str, object]", json.loads(reply.data))
    finally:
        await client.close()


async def config_of(server: NatsServer) -> dict[str, object]:
    answer = await ask(server, "$JS.API.STREAM.INFO.typed_sse", {})
    return cast("dict[str, object]", answer["config"])


async def messages_in(server: NatsServer) -> int:
    answer = await ask(server, "$JS.API.STREAM.INFO.typed_sse", {})
    return cast("dict[str, int]", answer["state"])["messages"]


# --- Starting


async def test_a_start_without_a_server_fails_at_once_and_a_later_one_works(
    tmp_path: Path,
) -> None:
    server = NatsServer(tmp_path / "data")
    url = server.url.replace("//", "//somebody:secret@")
    process = Process(NatsEngine(url), LIMIT_S)
    with pytest.raises(EngineUnavailable) as error:
        await process.engine.start(process)
    assert f"127.0.0.1:{server.port}" in str(error.value)
    assert "secret" not in str(error.value)
    async with running(server):
        await process.engine.start(process)
        await process.append("a", b"x")
        await process.stop()
        await process.stop()


async def test_a_wrong_password_is_told_and_not_shown(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "data", "--user", "somebody", "--pass", "right")
    async with running(server):
        process = Process(NatsEngine(server.url.replace("//", "//somebody:secret@")), LIMIT_S)
        with pytest.raises(EngineUnavailable, match=r"(?i)authorization|credentials") as error:
            await process.engine.start(process)
        assert "secret" not in str(error.value)
        async with engines(server.url.replace("//", "//somebody:right@")) as (one,):
            await one.append("a", b"x")


async def test_a_server_without_jetstream_is_refused_with_what_to_do() -> None:
    server = NatsServer(None)
    async with running(server):
        process = Process(NatsEngine(server.url), LIMIT_S)
        with pytest.raises(EngineUnavailable, match="nats-server -js"):
            await process.engine.start(process)
        await process.stop()


async def test_a_stream_of_the_same_name_that_is_none_of_ours_is_refused_and_left_alone(
    server: NatsServer,
) -> None:
    config = {"name": "typed_sse", "subjects": ["orders.*"]}
    await ask(server, "$JS.API.STREAM.CREATE.typed_sse", config)
    with pytest.raises(EngineUnavailable, match=r"orders\.\*.*another name") as error:
        async with engines(server.url):
            pass
    assert "allow_direct" in str(error.value)
    assert (await config_of(server))["subjects"] == ["orders.*"]


async def test_a_stream_of_ours_that_was_changed_is_refused(server: NatsServer) -> None:
    async with engines(server.url):
        pass
    config = {**await config_of(server), "max_msgs_per_subject": 5}
    await ask(server, "$JS.API.STREAM.UPDATE.typed_sse", config)
    with pytest.raises(EngineUnavailable, match="max_msgs_per_subject is 5"):
        async with engines(server.url):
            pass


async def test_engines_that_start_at_once_make_one_stream(server: NatsServer) -> None:
    processes = [Process(NatsEngine(server.url), LIMIT_S) for _ in range(5)]
    await asyncio.gather(*(process.engine.start(process) for process in processes))
    for process in processes:
        await process.append("a", b"x")
    assert len(await processes[0].all("a")) == 5
    for process in processes:
        await process.stop()


@pytest.mark.parametrize(
    ("field", "engine"),
    [
        ("stream", lambda: NatsEngine("nats://h", stream="a.b")),
        ("timeout_s", lambda: NatsEngine("nats://h", timeout_s=0)),
        ("replicas", lambda: NatsEngine("nats://h", replicas=0)),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    field: str, engine: Callable[[], NatsEngine]
) -> None:
    with pytest.raises(InvalidField) as error:
        engine()
    assert error.value.field == field


async def test_the_largest_record_follows_the_servers_max_payload(tmp_path: Path) -> None:
    config = tmp_path / "nats.conf"
    config.write_text("max_payload: 65536")
    server = NatsServer(tmp_path / "data", "-c", str(config))
    async with running(server), engines(server.url) as (one,):
        assert one.engine.caps.max_body_bytes == 65_536 - 16_384
        await one.append("a", bytes(one.engine.caps.max_body_bytes))


# --- The store fails


async def test_a_deleted_stream_is_made_anew_and_all_cursors_are_told_of_a_reset(
    server: NatsServer,
) -> None:
    async with engines(server.url, server.url) as (one, two):
        await two.engine.watch(["a", "below/"])
        old = [(await process.append("a", b"x")).last for process in (one, two, one)]
        await two.hears(old[-1])
        await ask(server, "$JS.API.STREAM.DELETE.typed_sse", {})
        # Both know a last message of the channel; in the new stream its number comes again.
        new, *_ = [(await one.append("a", b"y")).last for _ in range(3)][::-1]
        assert new.pos >= old[-1].pos
        for process in (one, two):
            for cursor in old:
                assert await process.gap("a", cursor) is GapReason.RESET
        again = (await two.append("a", b"z")).last
        records = await one.all("a")
        assert [record.body for record in records] == [b"y", b"y", b"y", b"z"]
        assert {record.cursor.epoch for record in records} == {new.epoch}
        await two.tail("a")
        await two.until(lambda: Lost(None) in two.heard, "the loss is told")
        below = (await one.append("below/a", b"x")).last
        await two.hears(below)
        await two.hears((await one.append("a", b"last")).last)
        assert again.epoch == new.epoch


async def test_acknowledged_events_outlive_a_killed_server_and_are_there_once(
    server: NatsServer,
) -> None:
    async with engines(server.url, server.url) as (one, two):
        await two.engine.watch(["a"])
        count = 0

        async def publish(who: int) -> None:
            nonlocal count
            for turn in range(40):
                cursors.append(await published(one, "a", b"%d.%d" % (who, turn), f"{who}.{turn}"))
                count += 1

        cursors: list[Cursor] = []
        writing = asyncio.gather(*(publish(who) for who in range(4)))
        for done in (30, 80):
            async with asyncio.timeout(LIMIT_S):
                while count < done:
                    await asyncio.sleep(0)
            server.kill()
            await server.start()
        await writing
        await back(one, two)
        records = await two.all("a")
        assert sorted(record.cursor for record in records) == sorted(cursors)
        assert len({record.body for record in records}) == len(records) == 160
        for who in range(4):
            mine = [r.body for r in records if r.body.startswith(b"%d." % who)]
            assert mine == [b"%d.%d" % (who, turn) for turn in range(40)]
        assert Lost(None) in two.heard


async def test_an_older_copy_is_no_continuation_for_engines_that_knew_the_newer(
    server: NatsServer, tmp_path: Path
) -> None:
    async with engines(server.url, server.url) as (one, two):
        kept = (await one.append("a", b"kept")).last
        server.stop()
        server.copy(tmp_path / "copy")
        await server.start()
        await back(one, two)
        lost = [(await process.append("a", b"lost")).last for process in (one, two)]
        server.stop()
        server.put_back(tmp_path / "copy")
        await server.start()
        await back(one, two)
        new = [(await process.append("a", b"new")).last for process in (one, two)]
        assert [cursor.pos for cursor in new] == [cursor.pos for cursor in lost]
        for process in (one, two):
            for cursor in lost:
                assert await process.gap("a", cursor) is GapReason.RESET
            assert await process.bodies("a", kept) == [b"new", b"new"]


async def test_a_stalled_server_is_waited_for_no_longer_than_the_timeout_and_used_again(
    server: NatsServer,
) -> None:
    async with engines(server.url, timeout_s=0.5) as (one,):
        await one.append("a", b"x")
        server.pause()
        with pytest.raises(OutcomeUnknown, match=r"timeout_s=0\.5"):
            await one.append("a", b"y", key="k")
        for _ in range(2):
            with pytest.raises(EngineUnavailable):
                await one.read("a")
        for change in (one.engine.drop("b"), one.engine.signal("topic", b"data")):
            with pytest.raises(OutcomeUnknown, match=r"timeout_s=0\.5"):
                await change
        assert not (await one.engine.health()).ready
        server.go_on()
        await back(one)
        await published(one, "a", b"y", "k")
        await published(one, "a", b"z", "l")
        assert await one.bodies("a") == [b"x", b"y", b"z"]


async def test_a_watch_that_times_out_does_not_make_the_engine_deaf(server: NatsServer) -> None:
    # An answer to a ping that nobody waits for any more ends nats-py's reading.
    async with engines(server.url, timeout_s=0.5) as (one,):
        server.pause()
        for _ in range(2):
            with pytest.raises(EngineUnavailable):
                await one.engine.watch(["a"])
        server.go_on()
        await back(one)
        unwatched = await published(one, "a", b"unheard", "k")
        await one.engine.watch(["a", "a/"])
        await one.hears(await published(one, "a", b"heard", "l"))
        assert not one.has_heard(unwatched)


async def test_appends_through_connections_that_are_cut_are_done_once_and_heard_or_told(
    server: NatsServer,
) -> None:
    proxy = Proxy(server.port)
    await proxy.start()
    async with engines(proxy.url, proxy.url) as (one, two):
        await two.engine.watch(["a"])
        for turn in range(60):
            if turn % 6 == 5:
                known = len(two.heard)
                proxy.cut()
                await two.until(partial(told_of_a_loss, two, known), "the loss is told")
            await published(one, "a", b"%d" % turn, f"{turn}")
        await back(one, two)
        records = await two.all("a")
        assert [record.body for record in records] == [b"%d" % turn for turn in range(60)]
        last = await published(one, "a", b"last", "last")
        await two.hears(last)
        for before, after in zip(two.heard, two.heard[1:], strict=False):
            if isinstance(before, Record) and isinstance(after, Record):
                assert after.prev == before.cursor.pos
        assert two.heard.count(Lost(None)) >= 10
    await proxy.stop()


async def test_an_engine_that_the_server_has_thrown_out_comes_back_and_watches_again(
    server: NatsServer,
) -> None:
    proxy = Proxy(server.port)
    await proxy.start()
    async with engines(proxy.url, server.url) as (one, two):
        await one.engine.watch(["a", "below/"])
        await one.hears((await two.append("a", b"x")).last)
        # nats-py closes for good on this.
        proxy.say(b"-ERR 'Slow Consumer'\r\n")
        await one.until(lambda: Lost(None) in one.heard, "the loss is told")
        await back(one)
        await one.hears((await two.append("a", b"y")).last)
        await one.hears((await two.append("below/b", b"z")).last)
        await one.append("a", b"again")
    await proxy.stop()


async def test_messages_that_nats_py_drops_are_told_of(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engines(server.url) as (two,):
        monkeypatch.setattr(nats_client, "_PENDING_MESSAGES", 1)
        process = Process(NatsEngine(server.url), LIMIT_S)
        await process.engine.start(process)
        await process.engine.watch(["room/"])
        turn = 0

        async def lost() -> bool:
            nonlocal turn
            turn += 1
            await asyncio.gather(*(two.append(f"room/{i}", b"%d" % turn) for i in range(50)))
            return Lost(None) in process.heard

        await eventually(lost)
        await process.stop()


async def test_a_message_of_somebody_else_in_the_stream_is_an_error_and_no_crash(
    server: NatsServer,
) -> None:
    async with engines(server.url) as (one,):
        await one.engine.watch(["a"])
        (subject,) = cast("list[str]", (await config_of(server))["subjects"])
        await ask(server, subject.replace(">", "a"), "hello")
        with pytest.raises(EngineUnavailable, match="none of typed-sse"):
            await one.read("a")
        with pytest.raises(EngineUnavailable, match="none of typed-sse"):
            await one.append("a", b"x")
        await one.until(lambda: one.has_lost("a"), "the loss is told")
        await one.engine.drop("a")
        await one.hears((await one.append("a", b"x")).last)


async def test_of_three_replicas_each_process_is_told_the_same(tmp_path: Path) -> None:
    ports = [free_port() for _ in range(3)]
    routes = ",".join(f"nats://127.0.0.1:{port}" for port in ports)
    async with AsyncExitStack() as stack:
        processes: list[Process] = []
        for place, port in enumerate(ports):
            options = ("--name", f"n{place}", "--cluster_name", "c", "--routes", routes)
            server = NatsServer(
                tmp_path / f"{place}", *options, "--cluster", f"nats://127.0.0.1:{port}"
            )
            await stack.enter_async_context(running(server))
            processes.append(Process(NatsEngine(server.url, replicas=3), LIMIT_S))
        for process in processes:
            stack.push_async_callback(process.stop)

            async def started(process: Process = process) -> bool:
                # The servers have to agree on a leader first.
                await process.engine.start(process)
                return True

            await eventually(started)
        await processes[2].engine.watch(["a"])
        for turn in range(60):
            one, two = processes[turn % 3], processes[(turn + 1) % 3]
            # Whoever appends does not know that another has since, so the server is asked twice.
            appended = await one.append("a", b"%d" % turn, key=f"{turn}")
            assert (await two.tail("a")).cursor == appended.last
            assert (await two.read("a", Newest(1))).records[-1].cursor == appended.last
            again = await two.append("a", b"%d" % turn, key=f"{turn}")
            assert again == appended._replace(duplicate=True)
        records = await processes[0].all("a")
        assert [record.body for record in records] == [b"%d" % turn for turn in range(60)]
        await processes[2].accounts_for(records)


async def test_appends_that_wait_when_the_engine_is_stopped_end(server: NatsServer) -> None:
    for turns in range(12):
        async with engines(server.url) as (one,):
            appends = [asyncio.create_task(one.append("a", b"x", key=f"{i}")) for i in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0)
        async with asyncio.timeout(LIMIT_S):
            answers = await asyncio.gather(*appends, return_exceptions=True)
        expected = (EngineUnavailable, OutcomeUnknown, Appended)
        assert all(isinstance(answer, expected) for answer in answers), answers


# --- What is kept


async def test_the_server_keeps_no_more_than_it_should_of_small_appends(
    server: NatsServer,
) -> None:
    async with engines(server.url) as (one,):
        for turn in range(500):
            await one.append("a", b"%d" % turn, retain=Retain(10))
            if turn > 450:
                assert 10 <= await messages_in(server) <= 120
        bodies = await one.bodies("a")
        assert bodies == [b"%d" % turn for turn in range(500 - len(bodies), 500)]
        assert 10 <= len(bodies) <= 120


async def test_the_newest_are_found_between_messages_of_other_channels(
    server: NatsServer,
) -> None:
    async with engines(server.url) as (one,):
        number = 0
        for turn in range(60):
            bodies = [b"%d" % (number + i) for i in range(1 + turn * turn % 7)]
            number += len(bodies)
            await one.append("a", *bodies)
            if turn % 13 == 0:
                await asyncio.gather(*(one.append(f"b{i}", b"x") for i in range(40)))
        records = await one.all("a")
        assert [record.body for record in records] == [b"%d" % i for i in range(number)]
        for events in range(number + 3):
            assert (await one.read("a", Newest(events), limit=3)).records == (
                records[max(0, number - events) :][:3]
            )
        assert (await one.read("a", EARLIEST)).records == records


async def test_the_ends_of_many_channels_are_told_in_their_order(server: NatsServer) -> None:
    async with engines(server.url) as (one,):
        names = [f"many/{i}" for i in range(700)]
        # With large last records not all ends fit into one answer.
        large = [await one.append(name, bytes(500_000)) for name in names[:20]]
        tails = await one.engine.tails(names)
        assert [tail.cursor for tail in tails[:20]] == [each.last for each in large]
        assert await one.engine.tails(names[::-1]) == tails[::-1]
        assert await one.engine.names("many/", limit=1000) == sorted(names[:20])


def test_keys_that_are_no_unicode_are_told_apart() -> None:
    keys = ("?", "\ud800", "\ud801")
    assert len({message_id("a", key) for key in keys}) == 3
