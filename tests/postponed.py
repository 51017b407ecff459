# pyright: basic, reportUndefinedVariable=false
"""Path operations whose annotations are strings until somebody resolves them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Query

from typed_sse import BaseEvent, event_source
from typed_sse.fastapi import EventRouter

router = EventRouter()

Number = Annotated[int, Query(ge=1)]


class Count(BaseEvent[int]): ...


@router.get("/generator")
async def generator(number: Number) -> AsyncIterator[Count]:
    yield Count(number)


@router.get("/source")
@event_source
async def source(number: Number) -> AsyncIterator[Count]:
    yield Count(number)


def declare() -> None:
    async def unknown(number: Unknown) -> AsyncIterator[Count]:  # type: ignore[name-defined]  # noqa: F821
        yield Count(1)

    router.get("/unknown")(unknown)


plain = EventRouter()


def unresolved() -> Unknown:  # type: ignore[name-defined]  # noqa: F821
    return 1


@plain.get("/plain", response_model=None)
async def ordinary(number: Annotated[int, Depends(unresolved)]) -> Unknown:  # type: ignore[name-defined]  # noqa: F821
    return "plain"
