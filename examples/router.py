"""Step 4 of the tutorial: a typed generator is the path operation, and a reader can resume it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query

from typed_sse import BaseEvent, Drain
from typed_sse.fastapi import EventRouter, LastEventId


class Count(BaseEvent[int]):
    """So many seconds are left."""


class Liftoff(BaseEvent[str]):
    """The countdown is over."""


def seen(last_event_id: str) -> int:
    """Return the number that the reader has seen last."""
    if not last_event_id.isascii() or not last_event_id.isdecimal() or len(last_event_id) > 3:
        raise HTTPException(400, "This stream has no event of that id.")
    return int(last_event_id)


router = EventRouter()


@router.get("/countdown")
async def countdown(
    start: Annotated[int, Query(ge=1, le=100)], last_event_id: LastEventId
) -> AsyncIterator[Count | Liftoff]:
    """Count down, one a second; a reader that comes back goes on where it was."""
    first = start if last_event_id is None else seen(last_event_id) - 1
    if first < 0:
        raise HTTPException(204)  # it has read everything, and need not come back again
    for left in range(min(first, start), 0, -1):
        yield Count(left, id=left)
        await asyncio.sleep(1)
    yield Liftoff("Up it goes.", id=0)


app = FastAPI(lifespan=Drain().lifespan)
app.include_router(router)
