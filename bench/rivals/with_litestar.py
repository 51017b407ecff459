"""Litestar's `ServerSentEvent`, as its documentation shows.

Differs from the others: lines end with CRLF, there is no keep-alive, and data is text, so the model
is written by hand.
"""

import asyncio
from collections.abc import AsyncGenerator
from itertools import count

from bench.rivals.source import delta, filling
from litestar import Litestar, get
from litestar.response import ServerSentEvent, ServerSentEventMessage


async def tokens(size: int, pause_ms: int) -> AsyncGenerator[ServerSentEventMessage, None]:
    text = filling(size)
    for number in count():
        data = delta(number, text).model_dump_json()
        yield ServerSentEventMessage(data=data, event="token", id=number)
        if pause_ms:
            await asyncio.sleep(pause_ms / 1000)


@get("/{size:int}/{pause_ms:int}", sync_to_thread=False)
def stream(size: int, pause_ms: int) -> ServerSentEvent:
    return ServerSentEvent(tokens(size, pause_ms))


app = Litestar([stream])
