from collections.abc import Sequence
from typing import Any

import pytest

from channels.stream import Note, Other, hub_on
from typed_sse.channels import Channel, Hub, Retain
from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import MAX_BATCH, MAX_CHANNEL_BYTES, Appended, Caps, Durability
from typed_sse.channels.memory import MemoryEngine, MemoryStore
from typed_sse.errors import (
    ChannelSealed,
    Conflict,
    InvalidDeclaration,
    InvalidField,
    PayloadTooLarge,
    UndeclaredEvent,
)
from typed_sse.events import BaseEvent


class Counting(MemoryEngine):
    """Counts the calls that would be I/O."""

    calls = 0

    @property
    def caps(self) -> Caps:
        return Caps(
            durability=Durability.PROCESS,
            shared=False,
            lossy_feed=False,
            max_body_bytes=1000,
            max_batch_bytes=3000,
        )

    async def append(
        self,
        channel: str,
        bodies: Sequence[bytes],
        *,
        retain: Retain,
        key: str | None = None,
        expect: Cursor | None = None,
        seal: bool = False,
    ) -> Appended:
        self.calls += 1
        return await super().append(
            channel, bodies, retain=retain, key=key, expect=expect, seal=seal
        )


# --- publishing


async def test_publishing_returns_the_cursor_of_the_last_event() -> None:
    async with hub_on() as hub:
        channel = Channel("room", Note, hub=hub)
        cursor = await channel.publish(Note(1), Note(2))
        assert cursor == await channel.tail()


@pytest.mark.parametrize(
    ("events", "options", "error"),
    [
        ((Other("x"),), {}, UndeclaredEvent),
        ((Note(1), Other("x")), {}, UndeclaredEvent),
        ((3,), {}, UndeclaredEvent),
        ((Note(1, id="7"),), {}, InvalidField),
        ((Note(1, id=""),), {}, InvalidField),
        ((), {}, InvalidField),
        ((Note(1),), {"key": ""}, InvalidField),
        ((Note(1),), {"key": "k" * 201}, InvalidField),
        ((Note(1),), {"expect": "garbage"}, InvalidField),
        ((Note(1),), {"expect": ""}, InvalidField),
        ((Note(1),), {"expect": "AQ"}, InvalidField),
        ((Note(10**2000),), {}, PayloadTooLarge),
        (tuple(Note(10**800) for _ in range(4)), {}, PayloadTooLarge),
        (tuple(Note(1) for _ in range(MAX_BATCH + 1)), {}, PayloadTooLarge),
    ],
)
async def test_what_cannot_be_published_is_refused_before_anything_is_sent(
    events: tuple[Any, ...], options: dict[str, Any], error: type[Exception]
) -> None:
    engine = Counting()
    async with Hub(engine) as hub:
        with pytest.raises(error):
            await Channel("room", Note, hub=hub).publish(*events, **options)
        assert engine.calls == 0
        assert not engine.store.logs


async def test_a_batch_is_all_or_none() -> None:
    async with hub_on() as hub:
        channel = Channel("room", Note | Other, hub=hub)
        await channel.publish(Note(1), Other("x"), Note(2))
        await channel.seal()
        got = [event.data async for event in channel.subscribe("earliest")]
        assert got == [1, "x", 2]


async def test_the_same_key_publishes_once_on_whatever_worker() -> None:
    store = MemoryStore()
    async with hub_on(store) as one, hub_on(store) as two:
        first = await Channel("room", Note, hub=one).publish(Note(1), key="k")
        again = await Channel("room", Note, hub=two).publish(Note(1), key="k")
        assert first == again
        other = await Channel("room2", Note, hub=two).publish(Note(1), key="k")
        assert other != first
        assert len(store.logs["room"].records) == 1


async def test_what_is_expected_at_the_end_and_is_not_there_is_a_conflict() -> None:
    async with hub_on() as hub:
        channel = Channel("room", Note, hub=hub)
        begin = await channel.tail()
        first = await channel.publish(Note(1), expect=begin)
        with pytest.raises(Conflict) as conflict:
            await channel.publish(Note(2), expect=begin)
        assert (conflict.value.expected, conflict.value.found) == (begin, first)
        await channel.publish(Note(2), expect=first)


async def test_a_sealed_channel_takes_no_more_and_sealing_with_its_key_is_answered() -> None:
    async with hub_on() as hub:
        channel = Channel("room", Note, hub=hub)
        end = await channel.seal(Note(1), key="end")
        with pytest.raises(ChannelSealed):
            await channel.publish(Note(2))
        with pytest.raises(ChannelSealed):
            await channel.seal()
        assert await channel.seal(Note(1), key="end") == end
        assert await channel.tail() == end


async def test_a_dropped_channel_is_a_gap_for_who_resumes() -> None:
    store = MemoryStore()
    async with hub_on(store) as hub:
        channel = Channel("room", Note, hub=hub)
        cursor = await channel.publish(Note(1))
        await channel.drop()
        with pytest.raises(Exception, match="gone"):
            await anext(channel.subscribe(cursor))


# --- names


@pytest.mark.parametrize(
    "name",
    [
        "room",
        "a/b/c",
        "A-Z_a.z~0",
        "x" * MAX_CHANNEL_BYTES,
        "orders/{order_id}",
        "{a}/{b}",
        "..",
        "v{n}",
    ],
)
def test_a_legal_name_is_taken(name: str) -> None:
    assert Channel(name, Note, hub=Hub("memory://")).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "a b",
        "a\n",
        "a:b",
        "é",
        "a?b",
        "a*",
        "{A}",
        "{",
        "a/{}",
        "a/{1}",
        "a/{b",
        "a/{b}}",
        "a/{b}{c}",
        "a/{b}-{c}/d",
        "x" * (MAX_CHANNEL_BYTES + 1),
    ],
)
def test_an_illegal_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidField) as error:
        Channel(name, Note, hub=Hub("memory://"))
    assert error.value.field == "name"


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({}, "order_id"),
        ({"order_id": 1, "other": 2}, "other"),
        ({"order_id": ""}, "order_id"),
        ({"order_id": "a/b"}, "order_id"),
        ({"order_id": "a b"}, "order_id"),
        ({"order_id": "a\n"}, "order_id"),
        ({"order_id": "é"}, "order_id"),
        ({"order_id": "{order_id}"}, "order_id"),
        ({"order_id": -1.5j}, "order_id"),
        ({"order_id": "x" * 200}, "name"),
    ],
)
def test_parameters_that_make_no_name_are_refused(parameters: dict[str, Any], field: str) -> None:
    orders = Channel("orders/{order_id}", Note, hub=Hub("memory://"))
    with pytest.raises(InvalidField) as error:
        orders.at(**parameters)
    assert error.value.field == field


def test_a_channel_at_parameters_is_of_that_name_and_the_first_is_as_it_was() -> None:
    orders = Channel("orders/{order_id}/of/{who}", Note, hub=Hub("memory://"))
    assert orders.at(order_id=7, who="ann").name == "orders/7/of/ann"
    assert orders.name == "orders/{order_id}/of/{who}"
    assert "orders/7/of/ann" in repr(orders.at(order_id=7, who="ann"))


async def test_a_channel_whose_parameters_are_not_filled_in_reaches_no_engine() -> None:
    engine = Counting()
    async with Hub(engine) as hub:
        orders = Channel("orders/{order_id}", Note, hub=hub)
        for call in (orders.publish(Note(1)), orders.seal(), orders.tail(), orders.drop()):
            with pytest.raises(InvalidField, match="order_id"):
                await call
        with pytest.raises(InvalidField, match="order_id"):
            await orders.revoke("ann")
        with pytest.raises(InvalidField, match="order_id"):
            orders.subscribe()
        assert engine.calls == 0
        assert not engine.store.logs


@pytest.mark.parametrize("name", ["room", "{a}", "v{n}", "a/v{n}"])
def test_a_name_without_a_parameter_behind_a_segment_has_no_all(name: str) -> None:
    with pytest.raises(InvalidField):
        Channel(name, Note, hub=Hub("memory://")).subscribe_all()


async def test_all_are_those_of_the_pattern_and_no_others() -> None:
    async with hub_on() as hub:
        orders = Channel("orders/{order_id}/of/{who}", Note, hub=hub)
        matches = orders.subscribe_all().reading.targets[0].matches
        assert matches("orders/1/of/ann")
        for name in ("orders/1", "orders/1/of/ann/x", "orders/1/of/", "orders/1/ofx/ann", "orders"):
            assert not matches(name)


def test_events_that_form_no_stream_are_refused() -> None:
    class Twin(BaseEvent[str], event="note"): ...

    with pytest.raises(InvalidDeclaration):
        Channel("room", Note | Twin, hub=Hub("memory://"))
