"""typed-sse in FastAPI: a path operation of its router gives a channel's subscription."""

from contextlib import suppress

from bench.rivals.feed import feed, hub, publish
from bench.rivals.publisher import publish_as_allowed
from bench.rivals.source import Delta
from bench.rivals.tokens import Token
from fastapi import FastAPI, Request
from starlette.requests import ClientDisconnect

from typed_sse.channels import Subscription
from typed_sse.fastapi import EventRouter, LastEventId

LIFESPAN = "on"  # for `serve`
router = EventRouter()


@router.get("/events")
def events(last_event_id: LastEventId) -> Subscription[Token]:
    return feed.subscribe(after=last_event_id)


app = FastAPI(lifespan=hub.lifespan)
app.include_router(router)


@app.post("/publish", status_code=204)
async def publish_one(made: Delta) -> None:
    await publish([made])


@app.post("/start/{size}/{burst}", status_code=204)
async def start(request: Request, size: int, burst: int) -> None:
    with suppress(ClientDisconnect):
        await publish_as_allowed(request.stream(), size, burst, publish)
