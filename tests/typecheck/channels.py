"""What a type checker knows of channels and subscriptions."""

from collections.abc import AsyncIterator
from typing import assert_type

from typed_sse import BaseEvent, EventStream, event_source, merge
from typed_sse.channels import Channel, Hub, LatestBy, Subscription


class Echo(BaseEvent[str]): ...


class Count(BaseEvent[int]): ...


class Other(BaseEvent[str]): ...


hub = Hub("memory://")
both = Channel("both", Echo | Count, hub=hub)
others = Channel("others/{name}", Other, hub=hub)


@event_source
async def echoes() -> AsyncIterator[Echo]:
    yield Echo("x")


def a_channel_has_the_union_of_its_events() -> None:
    assert_type(both, Channel[Echo | Count])
    assert_type(others.at(name=7), Channel[Other])


async def it_publishes_its_events_only() -> None:
    assert_type(await both.publish(Echo("x"), Count(1), key="k"), str)
    await both.publish(Other("x"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def a_subscription_is_a_stream_of_them() -> None:
    assert_type(both.subscribe(), Subscription[Echo | Count])
    stream: EventStream[Echo | Count] = both.subscribe("-50")
    async for event in stream:
        assert_type(event, Echo | Count)


def subscriptions_merge_as_all_streams_do() -> None:
    assert_type(merge(both.subscribe(), others.subscribe_all()), EventStream[Echo | Count | Other])
    assert_type(merge(both.subscribe(), echoes()), EventStream[Echo | Count])


def the_key_of_the_newest_is_made_of_its_events() -> None:
    Channel("x", Count, hub=hub, on_lag=LatestBy[Count](lambda event: str(event.data)))
    Channel("x", Count, hub=hub, on_lag="sometimes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
