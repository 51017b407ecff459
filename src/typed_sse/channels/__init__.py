"""Channels: named, ordered, resumable logs with many readers, over an engine that stores them.

    hub = Hub("redis://127.0.0.1")
    room = Channel("room", Message, hub=hub)

    await room.publish(Message(...))
    return room.subscribe(after=last_event_id)

The public names, sorted. The engines are imported from their modules, where they are made by hand.
"""

from typed_sse.channels.channel import Channel, LatestBy
from typed_sse.channels.engine import Caps, Durability, Health, Retain
from typed_sse.channels.hub import Hub, HubStatistics
from typed_sse.channels.subscription import Subscription

__all__ = [
    "Caps",
    "Channel",
    "Durability",
    "Health",
    "Hub",
    "HubStatistics",
    "LatestBy",
    "Retain",
    "Subscription",
]
