"""Faults of real servers under channels: killed, stopped, slow, cut off, emptied, put back.

Nothing is lost in silence and nothing comes twice; what is lost is told by a gap.
"""

import asyncio
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, cast

import nats
import pytest

from live.channel_readers import Gap, Publisher, Reader, faults, reading, until
from live.channel_servers import (
    ENGINES,
    TIMEOUT_S,
    Deployment,
    SqliteFile,
    all_deployed,
    figure,
)

pytestmark = pytest.mark.live

SERVERS = ("redis", "nats")
# What a call may take beyond its timeout where two busy cores are shared.
MARGIN_S = 5.0
PAUSE_S = 4.0
CUTTING_S = 2.0


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Deployment]]:
    with all_deployed(tmp_path_factory.mktemp("faults")) as running:
        yield running


@pytest.fixture(params=ENGINES)
def site(request: pytest.FixtureRequest, sites: Mapping[str, Deployment]) -> Deployment:
    return sites[request.param]


@pytest.fixture(params=SERVERS)
def server_site(request: pytest.FixtureRequest, sites: Mapping[str, Deployment]) -> Deployment:
    return sites[request.param]


async def test_a_worker_that_is_killed_costs_its_readers_nothing(site: Deployment) -> None:
    replayed = Publisher(site.port, "kill/replayed", text="x" * 4000)
    for _ in range(30):
        await replayed.publish(100)
    live = Publisher(site.port, "kill/live")
    await live.publish()
    midway = [
        Reader(site.port, "/one/kill/replayed?after=earliest", receive_bytes=16_384)
        for _ in range(6)
    ]
    for each in midway:
        each.hold_at = 200
    others = [Reader(site.port, "/one/kill/live?after=earliest") for _ in range(20)]
    stop = asyncio.Event()
    async with reading([*midway, *others]), asyncio.TaskGroup() as group:
        group.create_task(live.go_on(stop, 0.02))
        await until("all replay", lambda: all(each.hold_at is None for each in midway))
        await until("all are live", lambda: all(len(each.got) > 5 for each in others))
        (victim, _), *_ = Counter(each.workers[-1] for each in (*midway, *others)).most_common()
        hit = [each for each in others if each.workers[-1] == victim]
        site.kill_workers(victim)
        killed_s = time.time()
        for each in midway:
            each.reading.set()
        await until("those it had are back", lambda: all(len(e.resumes) > 0 for e in hit))
        await until("the replay ends", lambda: all(len(each.got) == 3000 for each in midway))
        stop.set()
    number = live.number
    async with reading(others):
        await until("they have all", lambda: all(len(each.got) == number for each in others))

    assert hit
    assert faults(midway, {"kill/replayed": range(3000)}) == []
    assert faults(others, {"kill/live": range(number)}) == []
    assert all(each.workers[-1] != victim for each in hit)
    back_s = [min(got.at_s for got in each.got if got.connection == 1) - killed_s for each in hit]
    figure(
        f"{site.engine}: kill -9 of a worker, mid-replay and live",
        f"{len(hit)} live readers had their next event within {1000 * max(back_s):.0f} ms of the"
        f" kill, a wait of 50 ms included; {sum(len(e.workers) > 1 for e in midway)} of"
        f" {len(midway)} replays went on elsewhere",
    )
    await asyncio.to_thread(site.wait_for_workers)


@asynccontextmanager
async def traffic(site: Deployment, prefix: str) -> AsyncGenerator["Traffic"]:
    """Publish and read three channels; afterwards all has come once and in order."""
    names = [f"{prefix}/{name}" for name in "abc"]
    running = Traffic(site, names)
    for each in running.publishers:
        await each.publish()
    async with reading(running.readers):
        async with asyncio.TaskGroup() as group:
            for each in running.publishers:
                group.create_task(each.go_on(running.stop, 0.05))
            await until("all have some", lambda: all(len(e.got) > 5 for e in running.readers))
            yield running
            running.stop.set()
        published = {each.channel: range(each.number) for each in running.publishers}
        await until("all have all", lambda: all(not running.missing(e) for e in running.readers))
    for place, reader in enumerate(running.readers):
        name = names[place] if place < len(names) else None
        wanted = published if name is None else {name: published[name]}
        assert faults([reader], wanted) == []
    longest_s = max(each.longest_s for each in running.publishers)
    assert longest_s < TIMEOUT_S + MARGIN_S
    assert running.refused().keys() <= {"EngineUnavailable", "OutcomeUnknown"}


class Traffic:
    def __init__(self, site: Deployment, names: Sequence[str]) -> None:
        self.stop = asyncio.Event()
        self.publishers = [Publisher(site.port, name) for name in names]
        paths = [f"/one/{name}?after=earliest" for name in names]
        paths += [f"/merged?names={','.join(names)}&after=earliest"]
        paths += [f"/under/{names[0].partition('/')[0]}?after=earliest"]
        self.readers = [Reader(site.port, path) for path in paths]

    def missing(self, reader: Reader) -> int:
        mine = [each for each in self.publishers if f"/{each.channel}?" in reader.path]
        return sum(each.number for each in mine or self.publishers) - len(reader.got)

    def refused(self) -> Counter[str]:
        return sum((Counter(each.refused) for each in self.publishers), Counter[str]())

    async def live_again(self, back_s: float) -> float:
        """Wait until everybody has something that was published after a moment; return how long."""

        def after(reader: Reader) -> list[float]:
            return [got.at_s for got in reader.got[-20:] if got.published_s > back_s]

        await until("live again", lambda: all(after(each) for each in self.readers))
        return max(min(after(each)) for each in self.readers) - back_s

    def said(self) -> str:
        longest_s = max(each.longest_s for each in self.publishers)
        refused = ", ".join(f"{count} {name}" for name, count in sorted(self.refused().items()))
        limit = f"timeout {TIMEOUT_S:g} s"
        return f"publish took {longest_s:.1f} s at most ({limit}): {refused or 'no error'}"


async def test_an_engine_that_is_killed_and_started_again_loses_nothing(
    server_site: Deployment,
) -> None:
    site = server_site
    assert not isinstance(site.server, SqliteFile)
    async with traffic(site, "killed") as running:
        site.server.kill()
        await until("a publish is refused", running.refused)
        await site.server.start()
        again_s = await running.live_again(time.time())
    figure(f"{site.engine}: kill -9 of the engine", f"live again {again_s:.2f} s; {running.said()}")


async def test_an_engine_that_holds_still_for_seconds_loses_nothing(
    server_site: Deployment,
) -> None:
    site = server_site
    assert not isinstance(site.server, SqliteFile)
    async with traffic(site, "paused") as running:
        site.server.pause()
        try:
            await asyncio.sleep(PAUSE_S)  # the length of the fault, not a wait for anything
        finally:
            site.server.go_on()
        again_s = await running.live_again(time.time())
    assert running.refused()
    figure(
        f"{site.engine}: stopped for {PAUSE_S:g} s", f"live again {again_s:.2f} s; {running.said()}"
    )


async def test_a_file_that_another_process_locks_for_seconds_loses_nothing(
    sites: Mapping[str, Deployment],
) -> None:
    site = sites["sqlite"]
    assert isinstance(site.server, SqliteFile)
    async with traffic(site, "locked") as running:
        with closing(sqlite3.connect(site.server.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(PAUSE_S)  # the length of the fault, not a wait for anything
            other.execute("ROLLBACK")
        again_s = await running.live_again(time.time())
    assert set(running.refused()) == {"EngineUnavailable"}
    figure(
        f"{site.engine}: locked for {PAUSE_S:g} s", f"live again {again_s:.2f} s; {running.said()}"
    )


async def test_connections_that_are_cut_every_50_ms_lose_nothing(server_site: Deployment) -> None:
    site = server_site
    assert site.proxy is not None
    async with traffic(site, "cut") as running:
        site.proxy.cut_every_s = 0.05
        await asyncio.sleep(CUTTING_S)  # the length of the fault, not a wait for anything
        site.proxy.cut_every_s = None
        again_s = await running.live_again(time.time())
    figure(
        f"{site.engine}: connections cut every 50 ms for {CUTTING_S:g} s",
        f"live again {again_s:.2f} s; {running.said()}",
    )


async def test_an_engine_that_takes_200_ms_a_call_loses_nothing(server_site: Deployment) -> None:
    site = server_site
    assert site.proxy is not None
    async with traffic(site, "slow") as running:
        site.proxy.delay_s = 0.1  # each way
        since = [each.number for each in running.publishers]
        newly = Reader(site.port, "/one/slow/a?after=earliest")
        async with reading([newly]):
            await until(
                "five more are published",
                lambda: all(
                    each.number >= before + 5
                    for each, before in zip(running.publishers, since, strict=True)
                ),
            )
            await until("who comes now has something", lambda: newly.got)
        site.proxy.delay_s = 0.0
        again_s = await running.live_again(time.time())
    figure(f"{site.engine}: 200 ms a call", f"live again {again_s:.2f} s; {running.said()}")


# What was lost.


async def emptied(site: Deployment) -> None:
    """Take everything from an engine while the workers run."""
    match site.engine:
        case "redis":
            await command(site, b"FLUSHALL")
        case "nats":
            assert not isinstance(site.server, SqliteFile)
            site.server.stop()
            shutil.rmtree(site.server.folder or "")
            await site.server.start()
        case _:
            # Whoever has the file open waits for it to be put back: the workers start again.
            moved_away(site)
            site.kill_workers()
            await asyncio.to_thread(site.wait_for_workers)


def moved_away(site: Deployment) -> None:
    assert isinstance(site.server, SqliteFile)
    for end in ("", "-wal", "-shm"):
        path = Path(f"{site.server.path}{end}")
        if path.exists():
            path.rename(path.with_name(f"old-{time.time_ns()}{end}"))


async def command(site: Deployment, *words: bytes) -> bytes:
    """Send one command to Redis, past the proxy; return the first line of its answer."""
    assert not isinstance(site.server, SqliteFile)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    packed = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    writer.write(b"*%d\r\n%b" % (len(words), packed))
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert not line.startswith(b"-"), line
    return line


def resuming(site: Deployment, path: str, after: str) -> Reader:
    reader = Reader(site.port, path)
    reader.last_event_id = after
    return reader


def story(reader: Reader, channel: str) -> list[object]:
    """Return what a reader has had of a channel: numbers, and between them the gaps' reasons.

    What is gone under a prefix may be told by the prefix's name, and again by the channel's.
    """
    told: list[object] = []
    gaps = [gap for gap in reader.gaps if gap.channel == channel or is_prefix(gap, channel)]
    for place, got in enumerate(reader.got):
        while gaps and gaps[0].behind <= place:
            reason = gaps.pop(0).reason
            if told[-1:] != [reason]:
                told.append(reason)
        if got.channel == channel:
            told.append(got.number)
    return [*told, *(gap.reason for gap in gaps)]


def is_prefix(gap: Gap, channel: str) -> bool:
    return gap.channel.endswith("/") and channel.startswith(gap.channel)


async def test_an_engine_that_was_emptied_is_a_reset_for_every_reader(site: Deployment) -> None:
    a = Publisher(site.port, "emptied/a")
    online = Reader(site.port, "/one/emptied/a?after=earliest")
    merged = Reader(site.port, "/merged?names=emptied/a,emptied/b,emptied/c&after=earliest")
    prefix = Reader(site.port, "/under/emptied?after=earliest")
    await a.publish(20)
    async with reading([online, merged, prefix]):
        everybody = [online, merged, prefix]
        await until("they have it", lambda: all(len(each.got) == 20 for each in everybody))
        ids = [got.id for got in online.got]
        await emptied(site)
        for _ in range(20):
            await a.publish()
        midway = resuming(site, "/one/emptied/a", ids[4])
        at_tail = resuming(site, "/one/emptied/a", ids[19])
        newly = Reader(site.port, "/one/emptied/a?after=earliest")
        async with reading([midway, at_tail, newly]):
            everybody += [midway, at_tail, newly]
            await until(
                "they have it", lambda: all(each.has("emptied/a", 39) for each in everybody)
            )

    old, new = list(range(20)), list(range(20, 40))
    assert {name: story(each, "emptied/a") for name, each in named(online, merged, prefix)} == {
        name: [*old, "reset", *new] for name, _ in named(online, merged, prefix)
    }
    assert story(midway, "emptied/a") == ["reset", *new]
    assert story(at_tail, "emptied/a") == ["reset", *new]
    assert story(newly, "emptied/a") == new


def named(*readers: Reader) -> list[tuple[str, Reader]]:
    return [(each.path, each) for each in readers]


async def test_an_older_copy_is_a_reset_for_who_was_ahead_of_it_and_for_nobody_else(
    site: Deployment,
) -> None:
    a, b = Publisher(site.port, "copy/a"), Publisher(site.port, "copy/b")
    online = Reader(site.port, "/one/copy/a?after=earliest")
    quiet = Reader(site.port, "/one/copy/b?after=earliest")
    merged = Reader(site.port, "/merged?names=copy/a,copy/b&after=earliest")
    await a.publish(50)
    await b.publish(10)
    async with reading([online, quiet, merged]):
        copy = site.folder / "copy"
        await copied(site, copy)
        a_again = Publisher(site.port, "copy/a", key="again")
        for _ in range(5):
            await a.publish(10)
        await until("online has it", lambda: len(online.got) == 100)
        await until("merged has it", lambda: len(merged.got) == 110)
        await until("quiet has it", lambda: len(quiet.got) == 10)
        ids = [got.id for got in online.got]
        quiet_id = quiet.last_event_id
        await put_back(site, copy)
        a_again.number = 100
        for _ in range(5):
            await a_again.publish(10)
        await b.publish()
        behind = resuming(site, "/one/copy/a", ids[29])
        at_copy = resuming(site, "/one/copy/a", ids[49])
        ahead = resuming(site, "/one/copy/a", ids[59])
        at_tail = resuming(site, "/one/copy/a", ids[99])
        calm = resuming(site, "/one/copy/b", quiet_id)
        async with reading([behind, at_copy, ahead, at_tail, calm]):
            of_a = [online, merged, behind, at_copy, ahead, at_tail]
            of_b = [quiet, merged, calm]
            await until("they have it", lambda: all(each.has("copy/a", 149) for each in of_a))
            await until("they have it too", lambda: all(each.has("copy/b", 10) for each in of_b))

    kept = [*range(50), *range(100, 150)]
    assert story(online, "copy/a") == [*range(100), "reset", *kept]
    assert story(merged, "copy/a") == [*range(100), "reset", *kept]
    assert went_on(story(behind, "copy/a"), 30, kept), story(behind, "copy/a")
    assert went_on(story(at_copy, "copy/a"), 50, kept), story(at_copy, "copy/a")
    told = story(ahead, "copy/a")
    place = told.index("reset")
    assert told == [*range(60, 60 + place), "reset", *kept]
    assert place <= 40
    assert story(at_tail, "copy/a") == ["reset", *kept]
    assert story(quiet, "copy/b") == list(range(11))
    assert story(merged, "copy/b") == list(range(11))
    assert story(calm, "copy/b") == [10]


def went_on(told: list[object], first: int, kept: list[int]) -> bool:
    """Whether a reader of what the copy has went on without a gap.

    A worker that has not heard of the copy yet still gives what was lost, and then tells of it.
    """
    if "reset" not in told:
        return told == [number for number in kept if number >= first]
    place = told.index("reset")
    lost_ones = list(range(50, first + place))
    return bool(lost_ones) and told == [*range(first, first + place), "reset", *kept]


async def copied(site: Deployment, to: Path) -> None:
    """Copy an engine's data as its makers say it is done."""
    if isinstance(site.server, SqliteFile):
        with (
            closing(sqlite3.connect(site.server.path)) as now,
            closing(sqlite3.connect(f"{to}.db")) as copy,
        ):
            now.backup(copy)
        return
    site.server.stop()
    site.server.copy(to)
    await site.server.start()


async def put_back(site: Deployment, copy: Path) -> None:
    if isinstance(site.server, SqliteFile):
        moved_away(site)
        shutil.move(f"{copy}.db", site.server.path)
        return
    site.server.stop()
    site.server.put_back(copy)
    await site.server.start()


async def test_what_the_store_itself_evicts_is_a_gap_for_who_was_behind_only(
    site: Deployment,
) -> None:
    a = Publisher(site.port, "evicted/a")
    online = Reader(site.port, "/one/evicted/a?after=earliest")
    await a.publish(20)
    for _ in range(5):
        await a.publish()
    async with reading([online]):
        await until("it has it", lambda: len(online.got) == 25)
        ids = [got.id for got in online.got]
        await evict(site, "evicted/a")
        # Workers that have the events still would answer from memory.
        site.kill_workers()
        await asyncio.to_thread(site.wait_for_workers)
        midway = resuming(site, "/one/evicted/a", ids[9])
        at_tail = resuming(site, "/one/evicted/a", ids[24])
        async with reading([midway, at_tail]):
            # The end is remembered, not what was the end before: they come back first.
            pids = site.pids()
            ends = [online, at_tail]
            await until("back", lambda: all(e.placed and e.workers[-1] in pids for e in ends))
            await a.publish()
            readers = [online, midway, at_tail]
            await until("they have it", lambda: all(each.has("evicted/a", 25) for each in readers))

    assert story(online, "evicted/a") == list(range(26))
    assert story(at_tail, "evicted/a") == [25]
    reason, *rest = story(midway, "evicted/a")
    assert reason == "evicted"
    assert rest[-1] == 25
    assert rest == list(range(26))[-len(rest) :]


async def evict(site: Deployment, channel: str) -> None:
    """Take a channel's records from the store by hand, and leave what says where it ends."""
    if isinstance(site.server, SqliteFile):
        with closing(sqlite3.connect(site.server.path, timeout=30)) as connection, connection:
            connection.execute(
                """DELETE FROM log WHERE channel = (SELECT id FROM channel WHERE name = ?1)
                AND pos < (SELECT max(pos) FROM log l JOIN channel c ON c.id = l.channel
                WHERE c.name = ?1)""",
                (channel.encode(),),
            )
    elif site.engine == "redis":
        assert await command(site, b"DEL", b"{typed-sse:%b}:s" % channel.encode()) == b":1\r\n"
    else:
        # nats-py leaves its options untyped.
        client = await cast("Any", nats).connect(f"nats://127.0.0.1:{site.server.port}")
        stream = client.jetstream()
        info: Any = await stream.stream_info("typed_sse")
        subject: str = info.config.subjects[0]
        name = subject.removesuffix(">") + channel.replace("/", ".")
        await stream.purge_stream("typed_sse", subject=name, keep=1)
        await client.close()


async def test_a_lost_end_with_its_events_still_there_is_a_reset_and_never_mixes_the_logs(
    sites: Mapping[str, Deployment],
) -> None:
    site = sites["redis"]
    a = Publisher(site.port, "ends/a")
    online = Reader(site.port, "/one/ends/a?after=earliest")
    await a.publish(20)
    async with reading([online]):
        await until("it has it", lambda: len(online.got) == 20)
        ids = [got.id for got in online.got]
        assert await command(site, b"DEL", b"{typed-sse:ends/a}:m") == b":1\r\n"
        for _ in range(10):
            await a.publish()
        midway = resuming(site, "/one/ends/a", ids[4])
        at_tail = resuming(site, "/one/ends/a", ids[19])
        async with reading([midway, at_tail]):
            readers = [online, midway, at_tail]
            await until("they have it", lambda: all(each.has("ends/a", 29) for each in readers))

    new = list(range(20, 30))
    assert story(online, "ends/a") == [*range(20), "reset", *new]
    assert story(midway, "ends/a") == ["reset", *new]
    assert story(at_tail, "ends/a") == ["reset", *new]
