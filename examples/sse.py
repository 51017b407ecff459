"""Step 1: an async generator of events, one a second.

Run it:   uvicorn --app-dir examples sse:app --port 12345
Read it:  curl -N 'http://127.0.0.1:12345/sse?message=hello'
"""

import asyncio
import itertools
from collections.abc import AsyncIterator

from fastapi import FastAPI

from typed_sse import EventSourceResponse, ServerSentEvent

app = FastAPI()


@app.get("/sse")
async def sse(message: str) -> EventSourceResponse:
    """Echo the message every second."""

    async def events() -> AsyncIterator[ServerSentEvent]:
        for t in itertools.count():
            yield ServerSentEvent(event="echo", id=t, data={"message": message})
            await asyncio.sleep(1)

    return EventSourceResponse(events())
