"""The generator of typed events, as users of typed-sse write it; `raw` reads it too."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count

from bench.rivals.source import Delta, delta, filling

from typed_sse import BaseEvent


class Token(BaseEvent[Delta]):
    """One token."""


async def tokens(size: int, pause_ms: int) -> AsyncIterator[Token]:
    text = filling(size)
    for number in count():
        yield Token(delta(number, text), id=number)
        if pause_ms:
            await asyncio.sleep(pause_ms / 1000)
