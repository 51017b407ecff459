"""An application for the console's tests: streams of every kind that it has to show."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from enum import Enum
from typing import Annotated, Literal, cast

from fastapi import Depends, FastAPI, Header, HTTPException, Query
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from typed_sse import BaseEvent, EventStream, ServerSentEvent
from typed_sse.console import EventDocs
from typed_sse.fastapi import EventRouter, LastEventId


class Fruit(Enum):
    """What is sold."""

    APPLE = "apple"
    PEAR = "pear"


class Place(BaseModel):
    """Where something is sold."""

    market: str
    stall: Annotated[int, Field(ge=1, description="From the gate on.")] = 1


class Price(BaseModel):
    """What a fruit costs at the moment."""

    fruit: Fruit
    cents: Annotated[int, Field(ge=0, examples=[120], description="For one of them.")]
    place: Place
    note: str | None = None
    earlier: Annotated[list[int], Field(deprecated=True)] = []


class Asked(BaseModel):
    """What the server has been asked for."""

    values: dict[str, str | int | list[str] | None]


class Heard(BaseEvent[Asked]):
    """The request, as it came in."""


class PriceChanged(BaseEvent[Price]):
    """A fruit costs *more* or **less** than before: `cents` says what."""


class MarketClosed(BaseEvent[None], terminal=True):
    """Come again tomorrow."""


class Counted(BaseEvent[int]):
    """One more."""


class Line(BaseModel):
    fruit: Fruit
    pieces: Annotated[int, Field(ge=1, le=99)] = 1


class Order(BaseModel):
    """What somebody wants to have."""

    customer: Annotated[str, Field(min_length=1, examples=["Ada"])]
    lines: list[Line]


router = EventRouter()
bearer = HTTPBearer(description="The token of a customer.")
api_key = APIKeyHeader(name="X-Key", auto_error=False)


@router.get("/prices/{market}", tags=["market"], summary="Follow prices")
async def prices(
    market: str,
    fruits: Annotated[list[Fruit], Query()],
    limit: Annotated[int, Query(ge=1, le=100, description="How many prices.")] = 3,
    haggle: bool = False,
    x_trace: Annotated[str | None, Header(description="For the log.")] = None,
) -> AsyncIterator[Heard | PriceChanged | MarketClosed]:
    """Every change of a price, as it is called out.

    - the first event says what was asked for;
    - `market_closed` is the last.
    """
    names = [fruit.value for fruit in fruits]
    yield Heard(Asked(values={"market": market, "fruits": names, "trace": x_trace}))
    for number in range(limit):
        place = Place(market=market, stall=number + 1)
        yield PriceChanged(Price(fruit=fruits[0], cents=100 + number * (not haggle), place=place))
    yield MarketClosed(None)


@router.post("/orders", tags=["orders"])
async def orders(
    order: Order,
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)],
    key: Annotated[str | None, Depends(api_key)],
) -> AsyncIterator[Heard]:
    """Place an order, and hear what becomes of it."""
    token = credentials.credentials
    yield Heard(Asked(values={"customer": order.customer, "token": token, "key": key}))


@router.get("/numbers", tags=["counting"])
async def numbers(last: LastEventId) -> AsyncIterator[Counted]:
    """Count, and go on where the reader was."""
    for number in itertools.count(int(last or 0) + 1):
        yield Counted(number, id=str(number))
        await asyncio.sleep(0.05)


@router.get("/flood", tags=["counting"])
async def flood(count: int = 10_000) -> AsyncIterator[Counted]:
    """Count as fast as possible."""
    for number in range(count):
        yield Counted(number)


@router.get("/wrong", tags=["market"])
async def wrong() -> EventStream[PriceChanged]:
    """Send what was never declared."""
    rest = '"note":null,"earlier":[]'
    fits = '{"fruit":"apple","cents":1,"place":{"market":"a","stall":1},' + rest + "}"
    wrong = '{"fruit":"plum","cents":-1,"place":{"stall":"x"},' + rest + "}"
    frames = (
        f"event: price_changed\ndata: {fits}\n\n",
        f"event: price_changed\ndata: {wrong}\n\n",
        "event: price_changed\ndata: not JSON\n\n",
        "event: rumour\ndata: {}\n\n",
    )
    answer = StreamingResponse(iter(frames), media_type="text/event-stream")
    return cast("EventStream[PriceChanged]", answer)


@router.get("/no-stream", tags=["other"])
async def no_stream(
    status: Annotated[int, Query(examples=[200])] = 200,
    kind: Literal["json", "none", "large"] = "json",
) -> EventStream[Counted] | None:
    """Answer with something else."""
    if status >= 400:
        raise HTTPException(status, "It is <b>not</b> allowed.", headers={"Retry-After": "7"})
    if kind == "none":
        return None
    text = "x" * 100_000 if kind == "large" else "a <b>stream</b>?"
    return cast("EventStream[Counted]", JSONResponse({"no": text}, status))


@router.get("/untyped", tags=["other"], deprecated=True)
async def untyped() -> AsyncIterator[ServerSentEvent]:
    """Send <img src=x onerror=alert(1)> what no schema knows."""
    yield ServerSentEvent("<script>alert(1)</script>", event="<b>bold</b>", id="1")
    yield ServerSentEvent("plain")


app = FastAPI(title="Market")
app.include_router(router)
EventDocs(app)


async def behind_a_prefix(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve `app` at `/shop`, as behind a proxy that takes the prefix off and says so."""
    if scope["type"] != "http" or scope["path"].startswith("/shop/"):
        await app({**scope, "root_path": "/shop"}, receive, send)
    else:
        await JSONResponse({"detail": "nothing but /shop/ is here"}, 404)(scope, receive, send)
