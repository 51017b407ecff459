"""Names that `awkward` has too, for other things: a model, an event, and a stream's function."""

from collections.abc import AsyncIterator

from pydantic import BaseModel

from typed_sse import BaseEvent
from typed_sse.fastapi import EventRouter

router = EventRouter(prefix="/warehouse")


class Item(BaseModel):
    """What lies on a shelf."""

    shelf: int
    weight_kg: float


class ClashStreamData(BaseModel):
    """Named as the data of a stream `clash` would be."""

    mine: int


class ItemChanged(BaseEvent[Item]):
    """Something on a shelf is other than before."""


@router.get("/items")
async def items() -> AsyncIterator[ItemChanged]:
    """Follow what lies on the shelves."""
    yield ItemChanged(Item(shelf=7, weight_kg=1.5))
