"""typed-sse on plain ASGI: a channel's subscriptions, and nothing around the responses."""

from contextlib import suppress

from bench.rivals.feed import feed, hub, publish
from bench.rivals.publisher import publish_as_allowed
from bench.rivals.source import Delta
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from typed_sse import EventSourceResponse

LIFESPAN = "on"  # for `serve`
_lifespan = Router(lifespan=hub.lifespan)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(scope, receive, send)
    elif scope["path"] == "/events":
        after = dict(scope["headers"]).get(b"last-event-id")
        stream = feed.subscribe(after=after.decode() if after else None)
        await EventSourceResponse(stream)(scope, receive, send)
    else:
        await _publish(Request(scope, receive))
        await Response(status_code=204)(scope, receive, send)


async def _publish(request: Request) -> None:
    if request.url.path == "/publish":
        await publish([Delta.model_validate_json(await request.body())])
        return
    size, burst = request.url.path.split("/")[2:]
    with suppress(ClientDisconnect):
        await publish_as_allowed(request.stream(), int(size), int(burst), publish)
