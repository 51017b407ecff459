"""Step 3 with aiostream's `merge` instead of ours: its operators work on our streams.

Run it:   uvicorn --app-dir examples sse3_aiostream:app --port 12345
Read it:  curl -N 'http://127.0.0.1:12345/sse3?message=hello'
"""

from aiostream import stream
from fastapi import FastAPI
from sse3 import echoes, reverse_echoes

from typed_sse import EventSourceResponse

app = FastAPI()


@app.get("/sse3")
async def sse3(message: str) -> EventSourceResponse:
    """Echo the message every second, forwards and backwards."""
    return EventSourceResponse(stream.merge(echoes(message), reverse_echoes(message)))
