"""Channels on real servers with two workers each: many readers, cuts, storms, odd payloads.

`CHANNELS_S=60` publishes for so many seconds, 15 by default. A failure prints its seed;
`CHANNELS_SEED` repeats it.
"""

import asyncio
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest

from live.channel_readers import Publisher, Reader, ask, faults, quantile, reading, until
from live.channel_servers import ENGINES, Deployment, all_deployed, figure

pytestmark = pytest.mark.live

PUBLISHING_S = float(os.environ.get("CHANNELS_S", "15"))
SEED = os.environ.get("CHANNELS_SEED") or str(random.randrange(10**6))
READERS = 50

CROWD = {"sqlite": 500, "redis": 2000, "nats": 500}
CROWD_CHANNELS = 4
BEHIND = 100
STORM_S = 5.0

STALLED = 60
TRICKLING = 10
OTHERS = 20
SEND_TIMEOUT_S = 3
SLOW_KIB = 16
# What 70 readers may cost beside what they are sent, which is 100 times as much: a socket's buffer,
# the piece that is in flight, and the rings.
STALLED_KIB = 96 * 1024

LEAVING = 60


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Deployment]]:
    with all_deployed(tmp_path_factory.mktemp("channels")) as running:
        yield running


@pytest.fixture(params=ENGINES)
def site(request: pytest.FixtureRequest, sites: Mapping[str, Deployment]) -> Deployment:
    return sites[request.param]


async def test_readers_that_are_cut_at_random_get_every_event_once_and_in_order(
    sites: Mapping[str, Deployment],
) -> None:
    async with asyncio.TaskGroup() as group:
        runs = {engine: group.create_task(cut_at_random(sites[engine])) for engine in ENGINES}

    assert {engine: run.result() for engine, run in runs.items()} == {key: [] for key in ENGINES}, (
        f"CHANNELS_SEED={SEED}"
    )


async def cut_at_random(site: Deployment) -> list[str]:
    """Return what was lost, came twice or out of order."""
    names = [f"cut/{name}" for name in "abc"]
    publishers = [Publisher(site.port, name) for name in names]
    for publisher in publishers:
        await publisher.publish(retry_ms=50)
    paths = [f"/merged?names={','.join(names)}&after=earliest", "/under/cut?after=earliest"]
    paths += [f"/one/{name}?after=earliest" for name in names]
    readers = [
        Reader(site.port, paths[place % len(paths)], seed=f"{SEED} {place}", cuts_s=(0.0, 3.0))
        for place in range(READERS)
    ]
    stop = asyncio.Event()
    async with reading(readers):
        async with asyncio.TaskGroup() as group:
            for publisher in publishers:
                group.create_task(publisher.go_on(stop, 0.1))
            await asyncio.sleep(PUBLISHING_S)  # the length of the run, not a wait for anything
            stop.set()
        published = {each.channel: range(each.number) for each in publishers}

        def complete() -> bool:
            return not any(missing(reader, published) for reader in readers)

        with suppress(AssertionError):  # what is missing is told below
            await until("every reader has everything", complete)
    count = sum(each.number for each in publishers)
    figure(
        f"{site.engine}: {READERS} readers, cut at random",
        f"{count} events in {PUBLISHING_S:g} s, {sum(len(each.got) for each in readers)} delivered,"
        f" {sum(each.cuts for each in readers)} cuts, resumed in p50"
        f" {1000 * quantile(resumes(readers), 0.5):.0f} ms",
    )
    assert {pid for each in readers for pid in each.workers} == {*site.pids()}
    return [fault for reader in readers for fault in faults([reader], mine(reader, published))]


def mine(reader: Reader, published: Mapping[str, Sequence[int]]) -> Mapping[str, Sequence[int]]:
    """Return what was published in the channels that a reader reads."""
    if reader.path.startswith("/one/"):
        name = reader.path.removeprefix("/one/").partition("?")[0]
        return {name: published[name]}
    return published


def missing(reader: Reader, published: Mapping[str, Sequence[int]]) -> int:
    return sum(map(len, mine(reader, published).values())) - len(reader.got)


def resumes(readers: Sequence[Reader]) -> list[float]:
    return [each for reader in readers for each in reader.resumes]


async def test_a_storm_of_reconnects_reads_the_engine_once_a_channel_and_loses_nothing(
    site: Deployment,
) -> None:
    crowd = CROWD[site.engine]
    names = [f"storm/{place}" for place in range(CROWD_CHANNELS)]
    publishers = [Publisher(site.port, name) for name in names]
    readers = [
        Reader(site.port, f"/one/{names[place % len(names)]}?after=earliest", retry_s=0)
        for place in range(crowd)
    ]
    draw = random.Random(SEED)
    for publisher in publishers:
        await publisher.publish(10)
    async with reading(readers):
        await until("all are here", lambda: all(len(each.got) == 10 for each in readers))
        for each in readers:
            each.may_connect.clear()
            each.cut()
        await until("all are away", lambda: all(each.away.is_set() for each in readers))
        # New workers know nothing of these channels: whatever comes is read from the engine.
        site.kill_workers()
        await asyncio.to_thread(site.wait_for_workers)
        for publisher in publishers:
            await publisher.publish(BEHIND)
        before = sum(site.reads().values())
        begin = time.monotonic()
        for each in readers:
            delay_s = draw.uniform(0, STORM_S)
            asyncio.get_running_loop().call_later(delay_s, each.may_connect.set)
        await until("all have all", lambda: all(len(each.got) == 10 + BEHIND for each in readers))
        took_s = time.monotonic() - begin
        reads = sum(site.reads().values()) - before
    wanted = range(10 + BEHIND)

    assert [f for each in readers for f in faults([each], {each.got[0].channel: wanted})] == [], (
        f"CHANNELS_SEED={SEED}"
    )
    assert reads <= CROWD_CHANNELS * 2 * 2  # workers, pages
    figure(
        f"{site.engine}: {crowd} readers of {CROWD_CHANNELS} channels come back, {BEHIND} behind",
        f"{reads} reads of the engine, all there after {took_s:.1f} s, "
        f"resumed in p50 {1000 * quantile(resumes(readers), 0.5):.0f} ms,"
        f" p99 {1000 * quantile(resumes(readers), 0.99):.0f} ms",
    )


async def test_readers_that_do_not_read_cost_a_bounded_memory_and_slow_nobody_down(
    sites: Mapping[str, Deployment],
) -> None:
    site = sites["sqlite"]
    publisher = Publisher(site.port, "slow/a", text="x" * 1024 * SLOW_KIB)
    await publisher.publish()
    path = f"/one/slow/a?send_timeout={SEND_TIMEOUT_S}"
    others = [Reader(site.port, path) for _ in range(OTHERS)]
    stalled = [Reader(site.port, path, receive_bytes=4096) for _ in range(STALLED)]
    trickling = [Reader(site.port, path, receive_bytes=4096) for _ in range(TRICKLING)]
    late = Reader(site.port, "/one/slow/a?send_timeout=30", receive_bytes=4096)
    async with reading(others):
        await until("the others are here", lambda: all(each.connected for each in others))
        calm = await latencies(publisher, others)
        before_kib = site.rss_kib()
        ended = await let_go(site)
        async with reading([*stalled, *trickling, late]):
            slow = [*stalled, *trickling, late]
            await until("the slow are here", lambda: all(each.connected for each in slow))
            for each in slow:
                each.retry_s = 3600  # they do not come back by themselves
                each.reading.clear()
            drops = [asyncio.create_task(one_byte_a_second(each)) for each in trickling]
            rounds: list[float] = []
            most_kib = 0
            sent = publisher.number
            deadline = time.monotonic() + 60
            while await let_go(site) - ended < STALLED + TRICKLING:
                rounds.append(quantile(await latencies(publisher, others), 0.99))
                most_kib = max(most_kib, site.rss_kib() - before_kib)
                assert time.monotonic() < deadline, "the slow were not let go of"
            for drop in drops:
                drop.cancel()
            sent = publisher.number - sent
            late.reading.set()
            last = publisher.number - 1
            await until("who was late has caught up", lambda: late.has("slow/a", last))
        await until("the others have all", lambda: all(e.has("slow/a", last) for e in others))
    got = late.numbers("slow/a")

    assert late.gaps == []
    assert got == list(range(got[0], last + 1))
    assert faults(others, {"slow/a": range(1, last + 1)}) == []
    assert most_kib < STALLED_KIB
    figure(
        f"{site.engine}: {STALLED} readers that stop, {TRICKLING} that take 1 byte/s",
        f"closed by send_timeout={SEND_TIMEOUT_S}; {sent * SLOW_KIB // 1024} MiB published to each "
        f"meanwhile; memory at most +{most_kib / 1024:.0f} MiB; the others' p99 "
        f"{1000 * quantile(calm, 0.99):.0f} ms before, {1000 * rounds[0]:.0f} ms while the buffers "
        f"of the 70 fill, {1000 * quantile(rounds[1:], 0.5):.0f} ms then",
    )


async def one_byte_a_second(reader: Reader) -> None:
    while True:
        reader.most_bytes = 1
        reader.reading.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        reader.reading.clear()
        await asyncio.sleep(1)


async def latencies(publisher: Publisher, readers: Sequence[Reader]) -> list[float]:
    """Publish for a second or so; return how long each note took to each reader."""
    since = [len(each.got) for each in readers]
    for _ in range(40):
        await publisher.publish(5)
    last = publisher.number - 1
    await until("they have it", lambda: all(each.has(publisher.channel, last) for each in readers))
    return [
        got.at_s - got.published_s
        for each, place in zip(readers, since, strict=True)
        for got in each.got[place:]
    ]


async def let_go(site: Deployment) -> int:
    """Return how many streams have ended: by the send timeout, or by the kernel's of the same time.

    The kernel's is first where it still holds what nobody takes, and no send waits.
    """
    return sum(sum(state["ended"].values()) for state in await states(site))


async def states(site: Deployment, *, collect: bool = False) -> Sequence[dict[str, Any]]:
    """Return what each worker says of itself."""
    pids = set(site.pids())
    seen: dict[int, dict[str, Any]] = {}

    async def look() -> None:
        answer = await ask(site.port, "GET", "/state" + ("?collect=1" if collect else ""))
        seen[answer.body["pid"]] = answer.body

    deadline = time.monotonic() + 60
    while not pids <= seen.keys():
        assert time.monotonic() < deadline, f"only {seen.keys()} of {pids} answer"
        await asyncio.gather(*(look() for _ in range(4)))
    return [seen[pid] for pid in pids]


async def test_whatever_is_in_an_event_comes_back_as_it_was(site: Deployment) -> None:
    most = min(state["max_body_bytes"] for state in await states(site))
    odd = "a\r\nb\rc\nd\0e\u2028\ufeff\x85 : id: 1\n\ndata: \U0001f600"
    live = Reader(site.port, "/one/odd/a?after=earliest")
    merged = Reader(site.port, "/merged?names=odd/a,odd/b,odd/c&after=earliest")

    async def put(text: str, key: str | None = None, *, number: int) -> Any:
        first = {"channel": "odd/a", "number": number, "text": text}
        return await ask(site.port, "POST", "/publish", {"first": first, "key": key})

    # One more than the limit says how much the rest of an event is.
    refused = await put("x" * most, number=0)
    overhead = refused.body["size"] - most
    exact = "x" * (most - overhead)
    texts = ["", odd, exact, "", odd]
    async with reading([live, merged]):
        answers = [
            await put(text, f"{odd} {place}", number=place) for place, text in enumerate(texts)
        ]
        again = await put(odd, f"{odd} 1", number=1)
        over = await put(exact + "x", number=9)
        newly = Reader(site.port, "/one/odd/a?after=earliest")
        async with reading([newly]):
            readers = [live, merged, newly]
            await until("it came", lambda: all(len(each.got) == len(texts) for each in readers))

    assert refused.status == over.status == 413
    assert over.body["size"] == most + 1
    assert [answer.status for answer in answers] == [200] * len(texts)
    assert again.body == answers[1].body
    for each in (live, merged, newly):
        assert [got.text for got in each.got] == texts
        assert each.gaps == []
        assert each.problems == []


async def test_a_last_event_id_of_anything_is_a_gap_and_never_an_error(site: Deployment) -> None:
    publisher = Publisher(site.port, "strange/a")
    await publisher.publish(3)
    asked = ["0", "1.2", "....", "a.b.c", "A" * 5000, "%00", "earliest.1", "AQ", "9.9.9"]
    readers: list[Reader] = []
    for text in asked:
        reader = Reader(site.port, "/one/strange/a")
        reader.last_event_id = text
        readers.append(reader)

    async with reading(readers):
        for text, each in zip(asked, readers, strict=True):
            await answered(each, text)

    told = {
        text: [gap.reason for gap in each.gaps] for text, each in zip(asked, readers, strict=True)
    }
    # An empty vector names none of the channels: this one is new to the reader.
    assert told == {text: [] if text == "AQ" else ["reset"] for text in asked}
    assert [problem for each in readers for problem in each.problems] == []


async def answered(reader: Reader, asked: str) -> None:
    await until(f"an answer to {asked!r}", lambda: reader.gaps or reader.last_event_id != asked)
    await until(f"all after {asked!r}", lambda: len(reader.got) == 3 or not reader.gaps)


async def test_whoever_leaves_at_whatever_moment_leaves_nothing_behind(site: Deployment) -> None:
    publisher = Publisher(site.port, "leave/a")
    await publisher.publish(10)
    names = "leave/a,leave/b,leave/c"
    paths = [f"/merged?names={names}&after=earliest", "/under/leave?after=earliest"]
    paths += ["/one/leave/a?after=earliest", "/failing/raising/leave/a?after=earliest"]
    paths += ["/failing/breaking/leave/a?after=earliest"]

    async def come_and_go(limit_s: float) -> int:
        readers = [
            Reader(
                site.port,
                paths[place % len(paths)],
                seed=f"{SEED} {place}",
                cuts_s=(0.0, 0.3),
                retry_s=0.01,
            )
            for place in range(LEAVING)
        ]
        stop = asyncio.Event()
        async with reading(readers):
            task = asyncio.create_task(publisher.go_on(stop, 0.02))
            await asyncio.sleep(limit_s)  # the length of the run, not a wait for anything
            stop.set()
            await task
        for _ in range(4):
            await ask(site.port, "GET", "/abandoned/leave/a?after=earliest")
        return sum(len(each.workers) for each in readers)

    await come_and_go(1.0)
    calm = await left(site)
    came = await come_and_go(3.0)
    after = await left(site)

    assert after["tasks"] <= calm["tasks"] + 4, (calm, after, SEED)
    assert after["objects"] <= calm["objects"] + 5 * 400, (calm, after, came, SEED)
    figure(
        f"{site.engine}: {came} readers came and left at random moments, 2 of 5 in failing code",
        f"{after['tasks'] - calm['tasks']} more tasks, {after['readings']} subscriptions, "
        f"{after['objects'] - calm['objects']} more objects",
    )


async def left(site: Deployment) -> Mapping[str, int]:
    """Wait until no stream is open in any worker; return what there is then, of all together."""
    deadline = time.monotonic() + 60
    while True:
        told = await states(site, collect=True)
        sums = {
            key: sum(each[key] for each in told) for key in ("open", "tasks", "objects", "readings")
        }
        if sums["open"] == 0 and sums["readings"] == 0:
            return sums
        assert time.monotonic() < deadline, f"still there: {sums} CHANNELS_SEED={SEED}"
        await asyncio.sleep(0.2)  # between two looks
