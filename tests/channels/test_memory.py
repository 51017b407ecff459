"""What the engine in memory does beyond the laws; those are in test_contract.py."""

from collections.abc import Collection
from itertools import pairwise

from typed_sse.channels.engine import EARLIEST, Durability, Record, Retain
from typed_sse.channels.memory import MemoryEngine, MemoryStore

DAY_S = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Ear:
    def __init__(self) -> None:
        self.heard: list[Record] = []

    def record(self, record: Record) -> None:
        self.heard.append(record)

    def lost(self, channels: Collection[str] | None) -> None:
        raise AssertionError("nothing is ever lost in memory")

    def signal(self, topic: str, data: bytes) -> None:
        raise AssertionError("nobody signals here")


async def bodies(engine: MemoryEngine, channel: str) -> list[bytes]:
    page = await engine.read(channel, EARLIEST, limit=10_000, max_bytes=10**9)
    return [record.body for record in page.records]


async def test_engines_have_stores_of_their_own_unless_they_are_given_one() -> None:
    one, two = MemoryEngine(), MemoryEngine()
    await one.append("a", [b"x"], retain=Retain())
    assert await bodies(two, "a") == []
    assert await bodies(MemoryEngine(one.store), "a") == [b"x"]


async def test_it_says_that_it_outlives_nothing_and_loses_nothing() -> None:
    caps = MemoryEngine().caps
    assert (caps.durability, caps.shared, caps.lossy_feed) == (Durability.PROCESS, False, False)


async def test_a_record_is_as_old_as_the_clock_says_and_no_older() -> None:
    clock = Clock()
    engine = MemoryEngine(MemoryStore(clock))
    await engine.append("a", [b"x"], retain=Retain(age_s=60))
    clock.now_s += 30
    await engine.append("a", [b"y"], retain=Retain(age_s=60))
    clock.now_s += 30
    assert await bodies(engine, "a") == [b"x", b"y"]
    clock.now_s += 0.5
    assert await bodies(engine, "a") == [b"y"]
    clock.now_s += 30
    assert await bodies(engine, "a") == []


async def test_a_copy_is_what_there_was_and_neither_changes_the_other() -> None:
    engine = MemoryEngine()
    await engine.append("a", [b"x"], retain=Retain(), key="k")
    copy = engine.store.copy()
    await engine.append("a", [b"y"], retain=Retain())
    other = MemoryEngine(copy)
    assert (await other.append("a", [b"x"], retain=Retain(), key="k")).duplicate
    await other.append("a", [b"z"], retain=Retain())
    assert await bodies(engine, "a") == [b"x", b"y"]
    assert await bodies(other, "a") == [b"x", b"z"]
    engine.store.restore(copy)
    await other.append("a", [b"later"], retain=Retain())
    assert await bodies(engine, "a") == [b"x", b"z"]


async def test_what_is_too_old_is_forgotten_in_the_course_of_appends() -> None:
    clock = Clock()
    store = MemoryStore(clock)
    engine = MemoryEngine(store)
    await engine.append("old", [b"x"], retain=Retain(age_s=1), key="k")
    await engine.append("kept for longer", [b"x"], retain=Retain(age_s=3 * DAY_S))
    await engine.tails(["never appended to"])
    clock.now_s += 2 * DAY_S
    for _ in range(4096):
        await engine.append("new", [b"x"], retain=Retain(1))
    assert set(store.logs) == {"kept for longer", "new"}
    assert store.keys == {}


async def test_a_channel_whose_records_are_too_old_is_remembered_for_a_day() -> None:
    clock = Clock()
    engine = MemoryEngine(MemoryStore(clock))
    last = (await engine.append("old", [b"x"], retain=Retain(age_s=1))).last
    clock.now_s += DAY_S - 1
    for _ in range(4096):
        await engine.append("new", [b"x"], retain=Retain(1))
    page = await engine.read("old", last, limit=1, max_bytes=1)
    assert (page.gap, page.tail.cursor) == (None, last)


async def test_few_records_are_moved_however_many_are_appended() -> None:
    engine = MemoryEngine()
    log = engine.store.log("a")
    lengths: list[int] = []
    for _ in range(1000):
        await engine.append("a", [b"x"], retain=Retain(100))
        lengths.append(len(log.records))
    # It is cut down 200 and more at a time, so each cut of 100 moves one record in two appends.
    cuts = [a for a, b in pairwise(lengths) if b < a]
    assert cuts == [300] * len(cuts)
    assert len(cuts) == 4


async def test_a_stopped_engine_is_forgotten_by_its_store() -> None:
    store = MemoryStore()
    for _ in range(10):
        engine = MemoryEngine(store)
        await engine.start(Ear())
        await engine.stop()
    assert store.engines == []


async def test_an_engine_that_is_stopped_by_its_own_feed_hears_no_more() -> None:
    store, ear = MemoryStore(), Ear()
    one, two = MemoryEngine(store), MemoryEngine(store)
    await one.start(ear)
    await two.start(Ear())
    await one.watch(["a"])
    await two.append("a", [b"x"], retain=Retain())
    await one.stop()
    await two.append("a", [b"y"], retain=Retain())
    assert [record.body for record in ear.heard] == [b"x"]


async def test_health_counts_the_channels() -> None:
    engine = MemoryEngine()
    await engine.append("a", [b"x"], retain=Retain())
    await engine.append("b", [b"x"], retain=Retain())
    assert await engine.health() == (True, "in memory, 2 channels")


async def test_channels_that_are_asked_for_and_never_appended_to_are_forgotten() -> None:
    clock = Clock()
    store = MemoryStore(clock)
    engine = MemoryEngine(store)
    for day in range(3):
        await engine.tails([f"{day}.{number}" for number in range(5000)])
        clock.now_s += 2 * DAY_S
    assert len(store.logs) < 10_001
