"""The same hand-written frames in a route of Starlette."""

from bench.rivals.with_starlette import frames
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route


async def stream(request: Request) -> StreamingResponse:
    asked = request.path_params
    content = frames(asked["size"], asked["pause_ms"])
    return StreamingResponse(content, media_type="text/event-stream")


app = Starlette(routes=[Route("/{size:int}/{pause_ms:int}", stream)])
