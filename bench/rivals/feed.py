"""The channel of typed-sse's fan-out servers, as users of typed-sse write it."""

from collections.abc import Sequence

from bench.rivals.source import Delta
from bench.rivals.tokens import Token

from typed_sse.channels import Channel, Hub, Retain

hub = Hub("memory://")
feed = Channel("feed", Token, hub=hub, retain=Retain(events=1000))


async def publish(deltas: Sequence[Delta]) -> None:
    await feed.publish(*map(Token, deltas))
