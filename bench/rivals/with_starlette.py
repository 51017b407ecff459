"""Starlette's `StreamingResponse` on plain ASGI, with frames that are written by hand.

Differs from the others: no keep-alive, and nothing checks what is written.
"""

import asyncio
from collections.abc import AsyncIterator
from itertools import count

from bench.rivals.source import delta, filling
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


async def frames(size: int, pause_ms: int) -> AsyncIterator[str]:
    text = filling(size)
    for number in count():
        data = delta(number, text).model_dump_json()
        yield f"id: {number}\nevent: token\ndata: {data}\n\n"
        if pause_ms:
            await asyncio.sleep(pause_ms / 1000)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    _, size, pause_ms = scope["path"].split("/")
    content = frames(int(size), int(pause_ms))
    response = StreamingResponse(content, media_type="text/event-stream")
    await response(scope, receive, send)
