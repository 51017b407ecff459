"""An application whose streams are hard to describe; every one ends by itself.

`ASKED` has a request for each. The streams are here for their documents: what they send is little,
and each event of each comes once.
"""

import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from functools import partial
from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar
from uuid import UUID

from fastapi import APIRouter, Body, Depends, FastAPI, Header, Path, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PlainSerializer, computed_field
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict, deprecated

import awkward_items
from typed_sse import (
    BaseEvent,
    EventSourceResponse,
    EventStream,
    ServerSentEvent,
    event_source,
)
from typed_sse.fastapi import EventRouter, LastEventId

T = TypeVar("T")

router = EventRouter()


# --- a union, one of whose events ends it; one event alone; one model under two names


class Position(BaseModel):
    """Where something is."""

    x: float
    y: float = Field(default=0.0, description="How far up.")


class Arrival(BaseModel):
    """Where something came to rest."""

    place: str
    seconds: float


class Started(BaseEvent[Position]):
    """It moves."""


class Moved(BaseEvent[Position]):
    """It is elsewhere.

    This paragraph is for the schema; the table has the first one.
    """


class Arrived(BaseEvent[Arrival], terminal=True):
    """It is there."""


@router.get("/union")
async def union() -> AsyncIterator[Started | Moved | Arrived]:
    """Follow something on its way."""
    yield Started(Position(x=0))
    yield Moved(Position(x=1, y=1))
    yield Arrived(Arrival(place="home", seconds=2))


@router.get("/single")
async def single() -> AsyncIterator[Moved]:
    yield Moved(Position(x=1))


# --- generic, nested and recursive payloads; two components of one name


class Item(BaseModel):
    """What is sold."""

    name: str
    price_eur: Decimal


class Page(BaseModel, Generic[T]):
    """A part of a list."""

    items: list[T]
    next: str | None = None


class ItemChanged(BaseEvent[Item]):
    """Something that is sold is other than before."""


class Items(BaseEvent[Page[Item]]):
    """A page of what is sold."""


class Names(BaseEvent[Page[str]]):
    """A page of names."""


@router.get("/items")
async def items() -> AsyncIterator[ItemChanged | Items | Names]:
    """Follow what is sold."""
    item = Item(name="tea", price_eur=Decimal("3.20"))
    yield ItemChanged(item)
    yield Items(Page(items=[item]))
    yield Names(Page(items=["tea"], next="2"))


class Line(BaseModel):
    item: Item
    count: Annotated[int, Field(ge=1, le=99)]


class Customer(BaseModel):
    name: str
    address: "Address"


class Address(BaseModel):
    street: str
    country: Annotated[str, Field(pattern="^[A-Z]{2}$", examples=["DE"])]


class Order(BaseModel):
    """Models in models."""

    customer: Customer
    lines: Annotated[list[Line], Field(min_length=1)]
    notes: dict[str, str] = {}


class Ordered(BaseEvent[Order]): ...


@router.get("/nested")
async def nested() -> AsyncIterator[Ordered]:
    """Events without a docstring."""
    customer = Customer(name="Ada", address=Address(street="Main Street 1", country="GB"))
    line = Line(item=Item(name="tea", price_eur=Decimal("3.20")), count=2)
    yield Ordered(Order(customer=customer, lines=[line], notes={"gift": "yes"}))


class Node(BaseModel):
    """A tree."""

    value: int
    children: list["Node"]
    parent: "Node | None" = None


class Grown(BaseEvent[Node]):
    """The tree has grown."""


@router.get("/tree")
async def tree() -> AsyncIterator[Grown]:
    """Watch a tree."""
    yield Grown(Node(value=1, children=[Node(value=2, children=[])]))


# --- names and values that are not what they are called in Python


class Reading(BaseModel):
    """Written in camel case, but for what says otherwise."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    taken_at: datetime
    in_celsius: Annotated[float, Field(serialization_alias="t")]
    from_sensor: Annotated[
        str,
        Field(validation_alias=AliasChoices("sensor", "probe"), serialization_alias="sensor-name"),
    ]


class Measured(BaseEvent[Reading], event="measured.v2"):
    """A reading."""


@router.get("/aliased")
async def aliased() -> AsyncIterator[Measured]:
    """Follow a sensor."""
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    yield Measured(Reading.model_validate({"takenAt": now, "inCelsius": 21.5, "sensor": "roof"}))


class Colour(Enum):
    """How it looks."""

    RED = "red"
    GREEN = "green"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Lamp(BaseModel):
    """A lamp is of some colour."""

    colour: Colour = Colour.RED
    level: Level
    mode: Literal["on", "off", "blink"]
    version: Literal[2] = 2


class Switched(BaseEvent[Lamp]):
    """A lamp was switched."""


class ColourOnly(BaseEvent[Colour]):
    """A colour, alone."""


@router.get("/enums")
async def enums() -> AsyncIterator[Switched | ColourOnly]:
    """Watch a lamp."""
    yield Switched(Lamp(level=Level.HIGH, mode="blink"))
    yield ColourOnly(Colour.GREEN)


class Constrained(BaseModel):
    """What not every value will do for."""

    id: UUID
    at: datetime
    day: date
    clock: time
    lasts: timedelta
    price: Decimal
    share: Annotated[float, Field(gt=0, lt=1)]
    dozens: Annotated[int, Field(gt=0, multiple_of=12)]
    below: Annotated[int, Field(le=-5)]
    code: Annotated[str, Field(min_length=8, max_length=8)]
    short: Annotated[str, Field(max_length=2)]
    sku: Annotated[str, Field(pattern=r"^[A-Z]-\d$")]
    pair: tuple[int, str]
    three: Annotated[list[bool], Field(min_length=3, max_length=3)]
    raw: bytes
    anything: Any
    seen: set[int]
    as_text: Annotated[int, PlainSerializer(str, return_type=str)]


class Checked(BaseEvent[Constrained]):
    """Something was checked."""


@router.get("/moments")
async def moments() -> AsyncIterator[Checked]:
    """Send values that JSON has no type for."""
    yield Checked(
        Constrained(
            id=UUID(int=7),
            at=datetime(2026, 1, 31, 12, tzinfo=UTC),
            day=date(2026, 1, 31),
            clock=time(12, 30, tzinfo=UTC),
            lasts=timedelta(minutes=90),
            price=Decimal("1.50"),
            share=0.25,
            dozens=24,
            below=-7,
            code="12345678",
            short="ab",
            sku="T-1",
            pair=(1, "one"),
            three=[True, False, True],
            raw=b"bytes",
            anything={"of": ["any", "kind"]},
            seen={1},
            as_text=3,
        )
    )


# --- a body that is an event too, and differs as such; a body of several parts


class Filter(BaseModel):
    """What to look for. What may be left out of a question is always in the answer."""

    text: Annotated[str, Field(min_length=1, max_length=100)]
    limit: Annotated[int, Field(ge=1, le=50)] = 10
    tags: list[str] = []

    @computed_field(description="Whether it is about everything.")  # type: ignore[prop-decorator]
    @property
    def is_broad(self) -> bool:
        return not self.tags


class Understood(BaseEvent[Filter]):
    """What is looked for, with all defaults."""


class Found(BaseEvent[Item]):
    """Something fits."""


@router.post("/search", status_code=201)
async def search(question: Filter) -> AsyncIterator[Understood | Found]:
    """Search, and give what is found as it is found."""
    yield Understood(question)
    yield Found(Item(name=question.text, price_eur=Decimal(question.limit)))


@router.put("/parts/{part}")
async def parts(
    part: Annotated[int, Path(ge=1)],
    amount: Annotated[int, Body(ge=0)],
    reason: Annotated[str, Body()] = "none",
    *,
    trace: Annotated[str | None, Header()] = None,
    dry: Annotated[bool, Query(description="Change nothing.")] = False,
) -> AsyncIterator[Found]:
    """Parameters of every kind."""
    yield Found(Item(name=f"{part} {reason} {trace} {dry}", price_eur=Decimal(amount)))


# --- payloads that are no models


class LogLine(BaseEvent[str], event="line"):
    """A line of a log."""


class Comment(BaseEvent[str]):
    """A comment; a text too."""


class Numbers(BaseEvent[list[int]]): ...


class Rates(BaseEvent[dict[str, float]]): ...


class Nothing(BaseEvent[None]): ...


class Flag(BaseEvent[bool]): ...


class Perhaps(BaseEvent[Position | Arrival | None]): ...


@router.get("/plain")
async def plain() -> AsyncIterator[LogLine | Comment | Numbers | Rates | Nothing | Flag | Perhaps]:
    """Send what is no object."""
    yield LogLine("one\ntwo")
    yield Comment("")
    yield Numbers([1, 2])
    yield Rates({"EUR": 1.0})
    yield Nothing(None)
    yield Flag(data=True)
    yield Perhaps(None)
    yield Perhaps(Arrival(place="home", seconds=1))


@dataclass
class Score:
    """A dataclass."""

    points: int
    by: list[str] = field(default_factory=list[str])


class Result(TypedDict):
    """A dict of known keys."""

    winner: str
    margin: NotRequired[int]


class Scored(BaseEvent[Score]): ...


class Won(BaseEvent[Result], terminal=True): ...


@router.get("/others")
async def others() -> AsyncIterator[Scored | Won]:
    """Payloads of Python's own kinds."""
    yield Scored(Score(points=3))
    yield Won({"winner": "Ada"})


class Circle(BaseModel):
    kind: Literal["circle"]
    radius: float


class Square(BaseModel):
    kind: Literal["square"]
    side: float


class Drawn(BaseEvent[Annotated[Circle | Square, Field(discriminator="kind")]]):
    """Something was drawn."""


@router.get("/shapes")
async def shapes() -> AsyncIterator[Drawn]:
    """A payload that is a union itself."""
    yield Drawn(Circle(kind="circle", radius=1))
    yield Drawn(Square(kind="square", side=2))


# --- what is said of events


class Track(BaseModel):
    title: str
    length: Annotated[int | None, Field(deprecated=True, description="Use `seconds`.")] = None
    seconds: int = 0


class Playing(BaseEvent[Track]):
    """A track plays."""


@deprecated("use Playing")
class NowPlaying(BaseEvent[Track]):
    """A track plays; the old name of `playing`."""


@router.get("/deprecated", deprecated=True)
async def outdated() -> AsyncIterator[
    Playing | NowPlaying  # pyright: ignore[reportDeprecated]
]:
    """An event that is on its way out, and a field of another."""
    yield Playing(Track(title="Air", seconds=300))
    with warnings.catch_warnings(action="ignore"):
        old = NowPlaying(Track(title="Air"))  # pyright: ignore[reportDeprecated]
    yield old


class Piped(BaseEvent[int], event="a|b`c"):
    r"""Either a | or b, `x|y` and \| as well,
    on two lines of <b>one</b> paragraph. */
    """


class Size(BaseEvent[int], event="größe"):
    """A name that is not ASCII."""


class Sign(BaseEvent[int], event="✓"):
    """A name without a letter."""


@router.get("/described", summary="Names | and words")
async def described() -> AsyncIterator[Piped | Size | Sign]:
    """Say what is hard to say: | and ` and */.

    | one | two |
    | --- | --- |
    | 1   | 2   |
    \f
    This is not for the document.
    """
    yield Piped(1)
    yield Size(2)
    yield Sign(3)


# --- names that are taken


class MovedEvent(BaseModel):
    """Named as the event `moved` would be."""

    mine: int


@router.get("/clash")
async def clash() -> AsyncIterator[Moved]:
    """Its components have names that models of the application have."""
    yield Moved(Position(x=1))


@router.post("/clashing")
def clashing(data: awkward_items.ClashStreamData) -> MovedEvent:
    return MovedEvent(mine=data.mine)


# --- what else an operation can be


@event_source
async def moves() -> AsyncIterator[Moved]:
    yield Moved(Position(x=1))


@router.get("/maybe")
async def maybe(*, over: bool = False) -> EventStream[Moved] | None:
    """A stream, or word that it is over."""
    return None if over else moves()


@router.get("/untyped")
async def untyped() -> AsyncIterator[ServerSentEvent]:
    """Whatever comes."""
    yield ServerSentEvent("anything", event="any")


@router.get("/sync")
def synchronous() -> Iterator[Moved]:
    """A generator that blocks."""
    yield Moved(Position(x=1))


class Counted(BaseEvent[int]):
    """The next number."""


ending = EventRouter(respond=partial(EventSourceResponse, end_event=True))


@ending.get("/resumed")
async def resumed(last_event_id: LastEventId) -> AsyncIterator[Counted]:
    """Go on where the reader was, and say at the end that it is complete."""
    yield Counted(int(last_event_id) + 1 if last_event_id and last_event_id.isdecimal() else 0)


bearer = HTTPBearer(description="A token of any kind.")


@router.get("/secured")
async def secured(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)],
) -> AsyncIterator[LogLine]:
    """For those who are known."""
    yield LogLine(credentials.scheme)


class Problem(BaseModel):
    """Why it did not work."""

    reason: str


@router.get(
    "/responses",
    responses={
        404: {"model": Problem},
        "5XX": {"description": "Something is broken.", "model": Problem},
        200: {"description": "It moves.", "headers": {"X-Speed": {"schema": {"type": "integer"}}}},
    },
    tags=["moving"],
    operation_id="followResponses",
    openapi_extra={"x-own": "kept"},
)
async def responses() -> AsyncIterator[Moved]:
    """Say what else may be answered."""
    yield Moved(Position(x=1))


@router.get("/health")
async def health() -> dict[str, bool]:
    """An ordinary operation of the same router."""
    return {"ok": True}


ordinary = APIRouter()


@ordinary.get("/items/{name}", responses={404: {"model": Problem}})
async def item(name: str) -> Item:
    """An ordinary operation of another router."""
    return Item(name=name, price_eur=Decimal(1))


inner = EventRouter(prefix="/teams/{team}")


@inner.get("/moves")
async def team_moves(team: Annotated[str, Path(max_length=20)]) -> AsyncIterator[Moved | LogLine]:
    """A stream of a router within a router."""
    yield LogLine(team)
    yield Moved(Position(x=1))


outer = APIRouter(prefix="/v1")
outer.include_router(inner, prefix="/leagues", tags=["leagues"])

mounted = FastAPI(title="Mounted", version="2")
mounted_router = EventRouter()


@mounted_router.get("/moves")
async def mounted_moves() -> AsyncIterator[Moved]:
    """A stream of an application within an application."""
    yield Moved(Position(x=1))


mounted.include_router(mounted_router)


class App(FastAPI):
    """Has a document of its own making."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document["info"]["x-owner"] = "nobody"
        return document


app = App(
    title="Awkward streams",
    description="What is hard to describe.",
    version="1.2.3",
    license_info={"name": "MIT", "url": "https://opensource.org/license/mit"},
    contact={"name": "Nobody", "url": "https://example.com/"},
    servers=[{"url": "/", "description": "Where it is."}],
    openapi_tags=[{"name": "moving", "description": "What moves."}, {"name": "leagues"}],
)
app.include_router(router)
app.include_router(ending)
app.include_router(ordinary)
app.include_router(outer)
app.include_router(awkward_items.router)
app.mount("/mounted", mounted)

ASKED: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("get", "/union"): {},
    ("get", "/single"): {},
    ("get", "/items"): {},
    ("get", "/nested"): {},
    ("get", "/tree"): {},
    ("get", "/aliased"): {},
    ("get", "/enums"): {},
    ("get", "/moments"): {},
    ("post", "/search"): {"json": {"text": "tea"}},
    ("put", "/parts/{part}"): {"path": "/parts/3?dry=true", "json": {"amount": 2}},
    ("get", "/plain"): {},
    ("get", "/others"): {},
    ("get", "/shapes"): {},
    ("get", "/deprecated"): {},
    ("get", "/described"): {},
    ("get", "/clash"): {},
    ("get", "/maybe"): {},
    ("get", "/untyped"): {},
    ("get", "/sync"): {},
    ("get", "/resumed"): {"headers": {"Last-Event-ID": "7"}},
    ("get", "/secured"): {"headers": {"Authorization": "Bearer x"}},
    ("get", "/responses"): {},
    ("get", "/v1/leagues/teams/{team}/moves"): {"path": "/v1/leagues/teams/reds/moves"},
    ("get", "/warehouse/items"): {},
}
"""For each stream, how to ask for it: arguments of `open_stream`, and the path if it differs."""
