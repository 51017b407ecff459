"""Sources whose annotations are strings, because of the import below; used by test_streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import unrelated
from typed_sse.events import BaseEvent
from typed_sse.streams import EventStream, event_source

if TYPE_CHECKING:
    from decimal import Decimal


@event_source
async def defined_later(_: Decimal | None = None) -> AsyncIterator[Late]:
    yield Late(1)


def _local() -> Callable[[], EventStream[BaseEvent[object]]]:
    class LocalLate(BaseEvent[int], event="late"): ...

    @event_source
    async def defined_in_a_function() -> AsyncIterator[LocalLate]:
        yield LocalLate(1)

    return defined_in_a_function


def _local_and_later() -> Callable[[], EventStream[BaseEvent[object]]]:
    @event_source
    async def calls_itself(again: int = 0) -> AsyncIterator[LaterLocal]:
        yield LaterLocal(1)
        if again:
            async for event in calls_itself(again - 1):
                yield event

    class LaterLocal(BaseEvent[int], event="late"): ...

    return calls_itself


class Late(BaseEvent[int]): ...


@event_source
@unrelated.logged
async def decorated() -> AsyncIterator[Late]:
    yield Late(1)


if TYPE_CHECKING:
    Missing = Late


@event_source
async def unresolvable() -> AsyncIterator[Missing]:
    yield Late(1)


SOURCES: list[Callable[[], EventStream[BaseEvent[object]]]] = [
    defined_later,
    _local(),
    _local_and_later(),
]
