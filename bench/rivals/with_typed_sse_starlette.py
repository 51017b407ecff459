"""typed-sse in a route of Starlette."""

from bench.rivals.tokens import tokens
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from typed_sse import EventSourceResponse


async def stream(request: Request) -> EventSourceResponse:
    asked = request.path_params
    return EventSourceResponse(tokens(asked["size"], asked["pause_ms"]))


app = Starlette(routes=[Route("/{size:int}/{pause_ms:int}", stream)])
