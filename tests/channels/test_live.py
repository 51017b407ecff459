import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

import pytest

from channels.stream import Note
from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import EARLIEST, Newest, Page, Record, Retain
from typed_sse.channels.live import LiveChannel, Place
from typed_sse.channels.memory import MemoryEngine, MemoryStore
from typed_sse.errors import EngineUnavailable

NOTE = Note(0).encode()


class Reader:
    """Takes what it is handed."""

    def __init__(self) -> None:
        self.woken = 0

    def deliver(self, place: Place, stop: int) -> bool:
        return True

    def unpark(self) -> None: ...

    def wake(self) -> None:
        self.woken += 1


class Script(MemoryEngine):
    """Does what a test says before each read."""

    before_read: Callable[[], object] = staticmethod(lambda: None)
    reads: int = 0

    async def read(
        self, channel: str, after: Cursor | Newest, *, limit: int, max_bytes: int
    ) -> Page:
        self.reads += 1
        page = await super().read(channel, after, limit=limit, max_bytes=max_bytes)
        self.before_read()
        await asyncio.sleep(0)
        return page


class Heard:
    """A feed of one channel."""

    def __init__(self, live: LiveChannel) -> None:
        self.live = live

    def record(self, record: Record) -> None:
        self.live.record(record)

    def lost(self, channels: object) -> None: ...

    def signal(self, topic: str, data: bytes) -> None: ...


async def followed(engine: Script) -> LiveChannel:
    live = LiveChannel("room", engine, asyncio.get_running_loop())
    await engine.start(Heard(live))
    live.synchronise()
    return live


def _index_of(place: Place) -> int | None:
    return place.index


async def append(engine: Script, count: int = 1) -> None:
    for _ in range(count):
        await engine.append("room", [NOTE], retain=Retain())


async def test_what_comes_between_the_watch_and_the_read_is_there_once() -> None:
    engine = Script()
    await append(engine, 3)
    live = await followed(engine)
    for _ in range(10):
        await append(engine)
        await asyncio.sleep(0)
    await live.ready()
    assert live.ring.head - live.ring.base == 13
    live.close()


async def test_more_than_is_held_while_the_engine_is_read_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("typed_sse.channels.live._MOST_HELD", 2)
    engine = Script()
    live = await followed(engine)
    loop = asyncio.get_running_loop()
    rounds = 0
    tasks: list[asyncio.Task[None]] = []

    def before_read() -> None:
        nonlocal rounds
        rounds += 1
        if rounds < 4:
            tasks.extend(loop.create_task(append(engine)) for _ in range(5))

    engine.before_read = before_read
    await live.ready()
    await asyncio.sleep(1)
    assert live.ring.head == 15
    assert live.end == (await engine.tails(["room"]))[0].cursor
    live.close()


async def test_a_loss_while_it_is_synchronising_makes_it_read_once_more() -> None:
    engine = Script()
    live = await followed(engine)
    engine.before_read = lambda: live.synchronise() if engine.reads < 3 else None
    await live.ready()
    assert engine.reads == 3
    live.close()


async def test_a_feed_with_a_hole_that_the_engine_does_not_know_either_does_not_spin() -> None:
    engine = Script()
    await append(engine)
    live = await followed(engine)
    await live.ready()
    tail = live.ring.tail.cursor
    loop = asyncio.get_running_loop()
    for number in range(20):
        ghost = Cursor(tail.epoch, tail.pos + 10 + number, 5)
        live.record(Record("room", ghost, tail.pos + 9, NOTE, seals=False))
        await asyncio.sleep(1)
    assert engine.reads < 100
    assert loop.time() >= 20
    await live.ready()
    await append(engine)
    await asyncio.sleep(5)
    assert live.end == (await engine.tails(["room"]))[0].cursor
    live.close()


async def test_an_engine_that_is_away_is_asked_less_and_less_often() -> None:
    class Away(Script):
        async def watch(self, channels: object) -> None:
            self.reads += 1
            raise EngineUnavailable("memory://", "it is tested")

    engine = Away()
    live = await followed(engine)
    await asyncio.sleep(600)
    assert 250 < engine.reads < 900
    live.close()
    with pytest.raises(EngineUnavailable, match="left"):
        await live.ready()


async def test_whoever_waits_for_a_channel_that_is_closed_is_told() -> None:
    engine = Script()
    live = await followed(engine)
    waiting = asyncio.ensure_future(live.ready())
    await asyncio.sleep(0)
    live.close()
    with pytest.raises(EngineUnavailable):
        await waiting
    with pytest.raises(EngineUnavailable):
        await live.page(Newest(1))
    live.synchronise()
    live.record(Record("room", Cursor(1, 1, 1), 0, NOTE, seals=False))


async def test_pages_asked_for_at_once_are_one_read_and_a_cancelled_reader_harms_none() -> None:
    engine = Script()
    await append(engine, 5)
    live = await followed(engine)
    await live.ready()
    engine.reads = 0
    asking = [asyncio.ensure_future(live.page(Newest(3))) for _ in range(5)]
    await asyncio.sleep(0)
    asking[0].cancel()
    pages = await asyncio.gather(*asking[1:])
    assert engine.reads == 1
    assert all(len(page.records) == 3 for page in pages)
    live.close()


async def test_a_place_keeps_its_cursor_when_the_ring_moves_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("typed_sse.channels.live._RING_FRAMES", 2)
    engine = Script()
    live = await followed(engine)
    await live.ready()
    place = Place(live, Reader())
    place.index = live.ring.head
    live.enter(place)
    await append(engine, 3)
    place.index = 3
    third = live.ring.cursor_at(3)
    await append(engine, 20)
    await asyncio.sleep(0)
    assert _index_of(place) is None
    assert place.lagged
    assert place.at() == third
    live.close()


async def test_a_log_that_begins_anew_wakes_who_is_parked() -> None:
    engine = Script()
    await append(engine, 3)
    live = await followed(engine)
    await live.ready()
    reader = Reader()
    place = Place(live, reader)
    place.index = live.ring.head
    live.enter(place)
    live.parked[place] = None
    last = live.end
    engine.store.logs.clear()
    await append(engine)
    await asyncio.sleep(5)
    assert reader.woken >= 1
    assert _index_of(place) is None
    assert place.at() == last
    live.close()


async def test_an_eager_task_that_is_through_at_once_is_not_taken_for_one_that_runs() -> None:
    loop = asyncio.get_running_loop()
    engine = MemoryEngine()
    live = LiveChannel("room", engine, loop)
    await engine.start(Heard(live))
    real = loop.create_task

    def eagerly(work: Coroutine[Any, Any, None], context: Context) -> asyncio.Task[None]:
        """Do what an eager task factory does with work that does not wait; 3.11 has none."""
        with pytest.raises(StopIteration):
            context.run(work.send, None)
        return real(asyncio.sleep(0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "create_task", eagerly)
        for number in range(3):
            live._context.run(live.synchronise)  # as from within a flush
            assert live.is_live
            await engine.append("room", [NOTE], retain=Retain())
            assert live.ring.head == number + 1
    live.close()


async def test_a_round_among_readers_is_over_when_the_log_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("typed_sse.channels.live._READERS_A_TURN", 1)
    engine = MemoryEngine()
    live = LiveChannel("room", engine, asyncio.get_running_loop())
    await engine.start(Heard(live))
    live.synchronise()
    await live.ready()
    for _ in range(5):
        place = Place(live, Reader())
        place.index = live.ring.head
        live.enter(place)
        live.parked[place] = None
    await engine.append("room", [NOTE], retain=Retain())
    await asyncio.sleep(0)
    assert live._round
    # Another log that is as long as the one before, in the midst of the round.
    engine.store.restore(MemoryStore())
    await engine.append("room", [NOTE], retain=Retain())
    waiting = asyncio.get_running_loop().create_future()
    live.waiting.add(waiting)
    async with asyncio.timeout(1):
        await waiting
    live.close()


async def test_pages_are_kept_for_a_moment_and_no_longer() -> None:
    engine = Script()
    await append(engine, 600)
    live = await followed(engine)
    await live.page(EARLIEST)
    assert live._pages._recent
    await asyncio.sleep(1)
    live.tidy()
    assert live._pages._recent
    await asyncio.sleep(5)
    live.tidy()
    assert not live._pages._recent
    live.close()
