import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI

from channels.stream import Note, Other, hub_on, last_id, names, notes
from typed_sse.channels import Channel, Hub, Retain, Subscription, memory
from typed_sse.channels.memory import MemoryStore
from typed_sse.errors import InvalidField, Lagged, UsageError
from typed_sse.fastapi import EventRouter, LastEventId
from typed_sse.registry import Registry
from typed_sse.response import EventSourceResponse
from typed_sse.streams import EventStream, event_source, merge
from typed_sse.testing import open_stream


def room(hub: Hub, name: str = "room") -> Channel[Note]:
    return Channel(name, Note, hub=hub)


# --- in the program


async def test_events_are_typed_and_have_their_cursors_as_ids() -> None:
    async with hub_on() as hub:
        cursors = [await room(hub).publish(Note(number)) for number in range(3)]
        await room(hub).seal()
        got = [event async for event in room(hub).subscribe("earliest")]
        assert [type(event) for event in got] == [Note] * 3
        assert [(event.data, event.id) for event in got] == list(enumerate(cursors))


async def test_what_is_published_later_is_waited_for() -> None:
    async with hub_on() as hub:
        subscription = room(hub).subscribe()
        waiting = asyncio.ensure_future(anext(subscription))
        await asyncio.sleep(1)
        assert not waiting.done()
        await room(hub).publish(Note(7))
        assert (await waiting).data == 7
        await subscription.aclose()


async def test_a_gap_is_raised_and_reading_on_continues_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "_SPARE", 0)
    async with hub_on() as hub:
        channel = Channel("room", Note, hub=hub, retain=Retain(events=1))
        first = await channel.publish(Note(0))
        for number in range(1, 200):
            await channel.publish(Note(number))
        await channel.seal(Note(200))
        subscription = channel.subscribe(first)
        with pytest.raises(Lagged) as lagged:
            await anext(subscription)
        assert lagged.value.channel == "room"
        assert lagged.value.reason == "evicted"
        assert lagged.value.asked == first
        rest = [event.data async for event in subscription]
        assert rest
        assert rest == list(range(201))[-len(rest) :]


async def test_a_subscription_closed_before_it_is_read_ends_at_once() -> None:
    async with hub_on() as hub:
        subscription = room(hub).subscribe()
        await subscription.aclose()
        await subscription.aclose()
        assert [event async for event in subscription] == []
        assert not hub._channels


@pytest.mark.parametrize("turns", range(12))
async def test_closing_at_any_time_ends_a_read_that_waits_and_leaves_nothing(turns: int) -> None:
    async with hub_on() as hub:

        async def may_read(_: str) -> bool:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return True

        some = [
            room(hub, name).subscribe("earliest", authorize=may_read, reader="ann") for name in "ab"
        ]
        subscription = merge(*some)
        for name in "ab":
            await room(hub, name).publish(Note(1))
        got: list[int] = []

        async def read(subscription: EventStream[Note]) -> None:
            got.extend([event.data async for event in subscription])

        task = asyncio.ensure_future(read(subscription))
        for _ in range(turns):
            await asyncio.sleep(0)
        await subscription.aclose()
        async with asyncio.timeout(1):
            await task
        assert all(not followed.places for followed in hub._channels.values())
        assert not hub._subscriptions


@pytest.mark.parametrize("turns", range(10))
async def test_cancelling_a_read_at_any_time_loses_nothing(turns: int) -> None:
    async with hub_on() as hub:
        for number in range(300):
            await room(hub).publish(Note(number))
        await room(hub).seal()
        subscription = room(hub).subscribe("earliest")
        got: list[int] = []
        cancelled = 0
        while True:
            read = asyncio.ensure_future(anext(subscription, None))
            if cancelled < 5:
                for _ in range(turns):
                    await asyncio.sleep(0)
                if not read.done():
                    read.cancel()
            try:
                event = await read
            except asyncio.CancelledError:
                cancelled += 1
                continue
            if event is None:
                break
            got.append(event.data)
        assert got == list(range(300))
        await subscription.aclose()


async def test_a_hub_that_is_not_entered_says_so() -> None:
    hub = Hub("memory://")
    with pytest.raises(UsageError, match="not entered"):
        await anext(room(hub).subscribe())
    with pytest.raises(UsageError, match="not entered"):
        EventSourceResponse(room(hub).subscribe(), registry=Registry())
    with pytest.raises(UsageError, match="not entered"):
        await room(hub).publish(Note(1))


# --- several as one


async def test_the_subscriptions_of_a_merge_become_one_with_one_id() -> None:
    async with hub_on() as hub:
        merged = merge(*(room(hub, name).subscribe() for name in "abc"))
        assert isinstance(merged, Subscription)
        client = open_stream(EventSourceResponse(merged, registry=Registry()))
        await asyncio.sleep(1)
        for number, name in enumerate("abc"):
            await room(hub, name).publish(Note(number))
        await asyncio.sleep(1)
        client.leave()
        await client.ended()
        after = last_id(client.body)
        for name in "cab":  # another order of them
            await room(hub, name).publish(Note(9))
        again = open_stream(
            EventSourceResponse(
                merge(*(room(hub, name).subscribe(after) for name in "cba")), registry=Registry()
            )
        )
        await asyncio.sleep(1)
        assert notes(again.body) == [9, 9, 9]
        again.leave()
        await again.ended()


async def test_merges_within_merges_become_one_too() -> None:
    async with hub_on() as hub:
        inner = merge(room(hub, "a").subscribe(), room(hub, "b").subscribe())
        merged = merge(inner, room(hub, "c").subscribe())
        assert isinstance(merged, Subscription)
        assert [target.name for target in merged.reading.targets] == ["a", "b", "c"]


async def test_what_is_merged_with_a_generator_first_is_read_with_it() -> None:
    @event_source
    async def others() -> AsyncIterator[Other]:
        yield Other("x")
        await asyncio.sleep(100)

    async with hub_on() as hub:
        inner = merge(room(hub, "a").subscribe(), others())
        client = open_stream(
            EventSourceResponse(merge(inner, room(hub, "b").subscribe()), registry=Registry())
        )
        await asyncio.sleep(1)
        await room(hub, "a").publish(Note(1))
        await room(hub, "b").publish(Note(2))
        await asyncio.sleep(1)
        assert Counter(names(client.body)) == {"note": 2, "other": 1}
        client.leave()
        await client.ended()


async def test_one_channel_twice_is_refused() -> None:
    async with hub_on() as hub:
        with pytest.raises(InvalidField, match="in two of them"):
            merge(room(hub).subscribe(), room(hub).subscribe())


async def test_channels_of_different_hubs_are_refused() -> None:
    store = MemoryStore()
    async with hub_on(store) as one, hub_on(store) as two:
        with pytest.raises(InvalidField, match="one hub"):
            merge(room(one, "a").subscribe(), room(two, "b").subscribe())


async def test_subscriptions_of_different_readers_are_refused() -> None:
    async with hub_on() as hub:
        with pytest.raises(InvalidField, match="same reader"):
            merge(room(hub, "a").subscribe(reader="x"), room(hub, "b").subscribe(reader="y"))


async def test_a_channel_that_a_set_did_not_have_before_is_new() -> None:
    async with hub_on() as hub:
        await room(hub, "c").publish(Note(0))
        two = merge(*(room(hub, name).subscribe() for name in "ab"))
        client = open_stream(EventSourceResponse(two, registry=Registry()))
        await asyncio.sleep(1)
        client.leave()
        await client.ended()
        await room(hub, "a").publish(Note(1))
        three = merge(*(room(hub, name).subscribe(last_id(client.body)) for name in "abc"))
        client = open_stream(EventSourceResponse(three, registry=Registry()))
        await asyncio.sleep(1)
        await room(hub, "c").publish(Note(2))
        await asyncio.sleep(1)
        assert names(client.body) == ["note", "note"]
        assert notes(client.body) == [1, 2]
        client.leave()
        await client.ended()


# --- FastAPI


def app_of(hub: Hub) -> FastAPI:
    router = EventRouter()

    @router.get("/annotated")
    async def annotated(after: LastEventId) -> Subscription[Note | Other]:
        return Channel("room", Note | Other, hub=hub).subscribe(after=after)

    @router.get("/stream")
    async def stream(last_event_id: LastEventId) -> EventStream[Note]:
        return room(hub).subscribe(after=last_event_id)

    app = FastAPI(lifespan=hub.lifespan)
    app.include_router(router)
    return app


async def test_a_route_that_returns_a_subscription_is_described_with_its_ends() -> None:
    document = app_of(Hub("memory://")).openapi()
    text = str(document)
    # How a 204 is said in OpenAPI 3.1; in 3.2 it is a response.
    assert "'x-sse-may-be-over': True" in text
    for name in ("note", "other", "stream.gap", "stream.end", "stream.error"):
        assert f"'{name}'" in text


async def test_a_route_that_returns_a_subscription_resumes() -> None:
    async with hub_on() as hub:
        app = app_of(hub)
        for path in ("/annotated", "/stream"):
            client = open_stream(app, path)
            await asyncio.sleep(1)
            client.leave()
            await client.ended()
            await room(hub).publish(Note(1))
            headers = {"Last-Event-ID": last_id(client.body)}
            client = open_stream(app, path, headers=headers)
            await asyncio.sleep(1)
            assert notes(client.body) == [1]
            client.leave()
            await client.ended()
        await room(hub).seal()
        for path in ("/annotated", "/stream"):
            headers = {"Last-Event-ID": await room(hub).tail()}
            client = open_stream(app, path, headers=headers)
            await client.ended()
            assert client.status == 204
            assert not client.body
