import asyncio
import gc
from collections.abc import Collection, Sequence
from contextvars import ContextVar
from typing import Any

import pytest

from channels.stream import Note, hub_on, notes
from typed_sse.channels import Channel, Hub
from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import Caps, Durability, Feed, Newest, Page
from typed_sse.channels.memory import MemoryEngine, MemoryStore
from typed_sse.errors import EngineUnavailable, InvalidField, UsageError
from typed_sse.registry import Registry
from typed_sse.response import EventSourceResponse
from typed_sse.testing import (
    Fault,
    FaultyEngine,
    OpenStream,
    Step,
    open_stream,
    run_in_virtual_time,
)
from typed_sse.wire import ServerSentEvent


def room(hub: Hub, name: str = "room") -> Channel[Note]:
    return Channel(name, Note, hub=hub)


def opened(stream: Any) -> OpenStream[ServerSentEvent]:
    return open_stream(EventSourceResponse(stream, registry=Registry()))


async def test_a_hub_that_is_entered_twice_refuses() -> None:
    async with hub_on() as hub:
        with pytest.raises(UsageError, match="entered already"):
            async with hub:
                pass
        await room(hub).publish(Note(1))


async def test_a_hub_can_be_entered_again_when_it_was_left() -> None:
    hub = Hub("memory://")
    for number in range(2):
        async with hub:
            client = opened(room(hub).subscribe())
            await asyncio.sleep(1)
            await room(hub).publish(Note(number))
            await asyncio.sleep(1)
            assert notes(client.body) == [number]
            client.leave()
            await client.ended()


async def test_a_hub_whose_engine_cannot_start_is_not_entered() -> None:
    engine = FaultyEngine(MemoryEngine(), script=[Step("start", 1, Fault.UNAVAILABLE)])
    hub = Hub(engine)
    with pytest.raises(EngineUnavailable):
        await hub.__aenter__()
    async with hub:
        await room(hub).publish(Note(1))


async def test_a_hub_is_the_lifespan_of_an_application() -> None:
    hub = Hub("memory://")
    async with hub.lifespan(None):
        await room(hub).publish(Note(1))
    with pytest.raises(UsageError):
        await room(hub).publish(Note(1))


def test_an_engine_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidField):
        Hub("http://127.0.0.1")


async def test_health_is_the_engines() -> None:
    async with hub_on() as hub:
        assert (await hub.health()).ready


def test_a_loop_that_is_closed_after_a_hub_was_left_has_nothing_to_complain_of() -> None:
    async def main() -> None:
        async with hub_on() as hub:
            for number in range(3):
                client = opened(room(hub).subscribe())
                await asyncio.sleep(1)
                await room(hub).publish(Note(number))
                await client.events(1)
                client.leave()
                await client.ended()
            opened(room(hub).subscribe()).leave()
            room(hub, "other").subscribe()
            await asyncio.sleep(0)

    run_in_virtual_time(main())
    gc.collect()


class Counting(MemoryEngine):
    """Remembers what is watched."""

    async def unwatch(self, channels: Collection[str]) -> None:
        await asyncio.sleep(0)
        await super().unwatch(channels)


async def test_a_thousand_channels_that_nobody_reads_any_more_are_forgotten() -> None:
    engine = Counting()
    async with Hub(engine) as hub:
        for number in range(1000):
            subscription = room(hub, f"room/{number}").subscribe("latest")
            reading = asyncio.ensure_future(anext(subscription))
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await subscription.aclose()
        assert hub.statistics().channels == 1000
        await asyncio.sleep(15)
        assert hub.statistics().channels == 0
        assert hub.statistics().subscriptions == 0
        assert not engine._watched
        assert hub._timer is None or not hub._timer.when() > 1e9


async def test_a_channel_whose_reader_comes_back_soon_is_followed_all_the_time() -> None:
    async with hub_on() as hub:
        followed = None
        for _ in range(5):
            client = opened(room(hub).subscribe())
            await asyncio.sleep(5)
            live = hub._channels["room"]
            assert followed is None or live is followed
            followed = live
            client.leave()
            await client.ended()
            await asyncio.sleep(5)


class SlowUnwatch(MemoryEngine):
    """Takes its time, and may fail after it has done it."""

    fails = False

    async def unwatch(self, channels: Collection[str]) -> None:
        await asyncio.sleep(3)
        await super().unwatch(channels)
        if self.fails:
            raise EngineUnavailable("memory://", "it is tested")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", ["room/1", "room/{number}"])
async def test_who_comes_while_a_channel_is_unwatched_hears_of_it(name: str, fails: bool) -> None:
    store = MemoryStore()
    engine = SlowUnwatch(store)
    engine.fails = fails
    async with Hub(engine) as hub, hub_on(store) as other:

        def stream() -> OpenStream[ServerSentEvent]:
            channel = room(hub, name)
            return opened(channel.subscribe() if "{" not in name else channel.subscribe_all())

        for wait_s in (0.0, 0.5, 2.0, 10.5, 11.5, 12.5):
            client = stream()
            await asyncio.sleep(1)
            client.leave()
            await client.ended()
            await asyncio.sleep(wait_s)
            client = stream()
            await asyncio.sleep(5)
            await room(other, "room/1").publish(Note(7))
            await asyncio.sleep(1)
            assert notes(client.body) == [7], wait_s
            client.leave()
            await client.ended()


async def test_a_last_event_that_a_lossy_feed_has_lost_is_found_within_seconds() -> None:
    engine = FaultyEngine(MemoryEngine(), script=[Step("record", 2, Fault.DROP)])
    async with Hub(engine) as hub:
        client = opened(room(hub).subscribe())
        await asyncio.sleep(1)
        await room(hub).publish(Note(1))
        await room(hub).publish(Note(2))
        await asyncio.sleep(12)
        assert notes(client.body) == [1, 2]
        client.leave()
        await client.ended()


async def test_statistics_of_a_hub_that_nobody_reads_are_nothing() -> None:
    async with hub_on() as hub:
        statistics = hub.statistics()
        assert (statistics.channels, statistics.subscriptions, statistics.bytes) == (0, 0, 0)


async def test_a_signal_of_another_topic_or_of_bytes_that_are_no_text_is_no_error() -> None:
    async with hub_on() as hub:
        client = opened(room(hub).subscribe())
        await asyncio.sleep(1)
        await hub.engine.signal("something", b"\xff")
        await hub.engine.signal("revoked", b"\xff\n\xff")
        await room(hub).publish(Note(1))
        await asyncio.sleep(1)
        assert notes(client.body) == [1]
        client.leave()
        await client.ended()


class Reads(MemoryEngine):
    """Counts what is read."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        super().__init__(store)
        self.reads = 0

    async def read(
        self, channel: str, after: Cursor | Newest, *, limit: int, max_bytes: int
    ) -> Page:
        self.reads += 1
        await asyncio.sleep(0.01)
        return await super().read(channel, after, limit=limit, max_bytes=max_bytes)


async def test_many_that_come_back_at_once_are_answered_by_few_reads() -> None:
    engine = Reads()
    async with Hub(engine) as hub:
        cursors = [await room(hub).publish(Note(number)) for number in range(600)]
        watching = opened(room(hub).subscribe())
        await asyncio.sleep(1)
        engine.reads = 0
        near = [opened(room(hub).subscribe(cursors[590])) for _ in range(100)]
        await asyncio.sleep(1)
        assert engine.reads == 0
        far = [opened(room(hub).subscribe(cursors[0])) for _ in range(100)]
        await asyncio.sleep(1)
        assert engine.reads <= 6
        for client in near:
            assert notes(client.body) == list(range(591, 600))
        for client in far:
            assert notes(client.body) == list(range(1, 600))
        for client in (*near, *far, watching):
            client.leave()
            await client.ended()


class Lossy(MemoryEngine):
    """Says that its feed loses what is last, and gives strange answers."""

    @property
    def caps(self) -> Caps:
        return Caps(durability=Durability.PROCESS, shared=False, lossy_feed=True)

    async def start(self, feed: Feed) -> None:
        await super().start(feed)

    async def names(self, prefix: str, *, limit: int) -> Sequence[str]:
        return [*await super().names(prefix, limit=limit)] * 2


async def test_an_engine_that_lists_a_name_twice_does_no_harm() -> None:
    async with Hub(Lossy()) as hub:
        await room(hub, "room/1").publish(Note(0))
        client = opened(room(hub, "room/{number}").subscribe_all("earliest"))
        await asyncio.sleep(30)
        await room(hub, "room/1").publish(Note(1))
        await asyncio.sleep(1)
        assert notes(client.body) == [0, 1]
        client.leave()
        await client.ended()


_who = ContextVar("_who", default="nobody")


async def test_what_is_done_by_the_clock_is_in_nobodys_context() -> None:
    asked: list[str] = []

    class Asked(MemoryEngine):
        async def unwatch(self, channels: Collection[str]) -> None:
            asked.append(_who.get())
            await super().unwatch(channels)

    async with Hub(Asked()) as hub:
        _who.set("the first reader")
        async with opened(room(hub).subscribe()):
            await asyncio.sleep(1)
        orders = Channel("orders/{number}", Note, hub=hub)
        async with opened(orders.subscribe_all()):
            await asyncio.sleep(1)
        await asyncio.sleep(20)
    assert asked == ["nobody"] * 2


async def test_who_comes_while_a_hub_is_being_left_leaves_nothing() -> None:
    class Slowly(MemoryEngine):
        async def stop(self) -> None:
            await asyncio.sleep(5)
            await super().stop()

    hub = Hub(Slowly())
    before = asyncio.all_tasks()
    async with hub:
        leaving = asyncio.get_running_loop().create_task(hub.__aexit__(None, None, None))
        await asyncio.sleep(1)
        client = opened(room(hub).subscribe())
        await leaving
        with pytest.raises(EngineUnavailable):
            await client.ended()
        await asyncio.sleep(5)
        assert asyncio.all_tasks() == before
