"""The application of the clients' tests, with what the TypeScript client needs besides."""

from functools import partial

from pydantic import BaseModel
from starlette.responses import HTMLResponse

from live.client_app import IDLE_LIMIT_S, PING_S, Counted, app, numbers
from typed_sse import EventSourceResponse, EventStream
from typed_sse.fastapi import EventRouter, LastEventId

router = EventRouter(
    respond=partial(EventSourceResponse, ping=PING_S, idle_limit=IDLE_LIMIT_S, start_within=0)
)


class Wanted(BaseModel):
    """Which numbers."""

    run: str


@router.post("/asked")
async def read_asked(wanted: Wanted, after: LastEventId) -> EventStream[Counted]:
    """All numbers of a run, asked for by POST, from behind the last that was read."""
    return numbers.at(run=wanted.run).subscribe(after=after or "earliest")


@app.get("/page")
async def page() -> HTMLResponse:
    return HTMLResponse("<!doctype html><title>numbers</title><link rel=icon href='data:,'>")


app.include_router(router)
