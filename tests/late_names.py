"""Sources whose annotations are strings, because of the import below; used by test_streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

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


class Late(BaseEvent[int]): ...


if TYPE_CHECKING:
    Missing = Late


@event_source
async def unresolvable() -> AsyncIterator[Missing]:
    yield Late(1)


SOURCES: list[Callable[[], EventStream[BaseEvent[object]]]] = [defined_later, _local()]
