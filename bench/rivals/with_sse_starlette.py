"""sse-starlette in a route of Starlette, as its documentation shows; every option is its default.

Differs from the others: lines end with CRLF.
"""

import asyncio
from collections.abc import AsyncIterator
from itertools import count

from bench.rivals.source import delta, filling
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route


async def tokens(size: int, pause_ms: int) -> AsyncIterator[ServerSentEvent]:
    text = filling(size)
    for number in count():
        data = delta(number, text).model_dump_json()
        yield ServerSentEvent(data, event="token", id=str(number))
        if pause_ms:
            await asyncio.sleep(pause_ms / 1000)


async def stream(request: Request) -> EventSourceResponse:
    asked = request.path_params
    return EventSourceResponse(tokens(asked["size"], asked["pause_ms"]))


app = Starlette(routes=[Route("/{size:int}/{pause_ms:int}", stream)])
