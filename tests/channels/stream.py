"""Small helps for tests of channels: a hub in memory, and what was sent as a client reads it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from typed_sse.channels import Hub
from typed_sse.channels.memory import MemoryEngine, MemoryStore
from typed_sse.events import BaseEvent
from typed_sse.wire import Decoder


class Note(BaseEvent[int]): ...


class Other(BaseEvent[str]): ...


@asynccontextmanager
async def hub_on(store: MemoryStore | None = None) -> AsyncGenerator[Hub]:
    async with Hub(MemoryEngine(store)) as hub:
        yield hub


def notes(body: bytes) -> list[int]:
    """Return the numbers of the notes in a body, in order."""
    return [int(event.data or "") for event in Decoder().feed(body) if event.event == "note"]


def names(body: bytes) -> list[str | None]:
    """Return the names of the events in a body, in order."""
    return [event.event for event in Decoder().feed(body)]


def last_id(body: bytes) -> str:
    """Return the id that a client has after a body."""
    decoder = Decoder()
    decoder.feed(body)
    return decoder.last_event_id
