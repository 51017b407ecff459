"""typed-sse on plain ASGI: the response and nothing around it."""

from bench.rivals.tokens import tokens
from starlette.types import Receive, Scope, Send

from typed_sse import EventSourceResponse


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    _, size, pause_ms = scope["path"].split("/")
    await EventSourceResponse(tokens(int(size), int(pause_ms)))(scope, receive, send)
