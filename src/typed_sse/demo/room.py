"""A room: what one browser tab sends, every tab gets, and none misses anything while it is cut off.

Whoever sends counts its own messages, so that whoever reads can check the count by itself.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from typed_sse import BaseEvent, EventStream, event_source, merge
from typed_sse.channels import Channel, Hub, Retain
from typed_sse.errors import EngineUnavailable, Lagged, OutcomeUnknown
from typed_sse.fastapi import EventRouter, LastEventId
from typed_sse.servers import Transport, transport_of

KEPT_EVENTS = 1000

Tab = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
"""What a tab calls itself: 128 random bits, which nobody guesses."""

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class Message(BaseModel):
    """What somebody says."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    sender: Annotated[str, Field(pattern="^[0-9a-f]{16}$", examples=["0123456789abcdef"])]
    """Who says it, whatever its name is: 64 random bits."""

    number: Annotated[int, Field(ge=1, lt=2**53)]
    """The sender's first message is 1, the next one 2: so a reader sees what it misses."""

    name: Name
    """What the sender is called."""

    text: Text
    """What it says."""


class Said(BaseEvent[Message]):
    """Somebody has said something."""


class Worker(BaseModel):
    """A process of the server."""

    pid: int


class Served(BaseEvent[Worker]):
    """The process that serves this connection; another one may serve the next."""


class Cut(BaseModel):
    """Whose connection is to be cut."""

    reader: Tab


class CutOff(BaseEvent[Cut]):
    """A reader's connection is to be cut, in whatever process it is."""


class Accepted(BaseModel):
    """Where a message is in the room."""

    id: str


class Room:
    """The room of a hub: two channels, and the connections that this process can cut.

    Invariant: `_open` has the newest connection of each reader, while it is open.
    """

    def __init__(self, hub: Hub) -> None:
        self._messages = Channel("room", Said, hub=hub, retain=Retain(events=KEPT_EVENTS))
        self._cuts = Channel("room/cuts", CutOff, hub=hub, retain=Retain(events=1, age_s=60))
        self._open: dict[str, Transport] = {}

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        """Cut what any worker is asked to cut; needs the hub to be entered."""
        cutting = asyncio.create_task(self._cut_what_is_here())
        try:
            yield
        finally:
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)

    def router(self) -> APIRouter:
        """Return the room's path operations."""
        router = EventRouter(prefix="/room", tags=["room"])

        @router.get("")
        async def room(
            reader: Annotated[Tab, Query(description="Names this reader, to cut it off.")],
            after: LastEventId,
            request: Request,
        ) -> EventStream[Served | Said]:
            """What is said in the room, from where the reader was; `-50` starts 50 back."""
            served = self._serve(reader, transport_of(request.receive))
            return merge(served, self._messages.subscribe(after))

        @router.post("/messages", responses={503: {"description": "Not now; send it again."}})
        async def say(message: Message) -> Accepted:
            """Say something; the same sender and number again say nothing twice."""
            try:
                key = f"{message.sender}:{message.number}"
                return Accepted(id=await self._messages.publish(Said(message), key=key))
            except (EngineUnavailable, OutcomeUnknown) as error:
                raise _not_now() from error

        @router.post("/cut", status_code=204, responses={503: {"description": "Not now."}})
        async def cut(request: Cut) -> None:
            """Cut a reader's connection, as a bad network does."""
            try:
                await self._cuts.publish(CutOff(request))
            except (EngineUnavailable, OutcomeUnknown) as error:
                raise _not_now() from error

        return router

    @event_source
    async def _serve(self, reader: str, transport: Transport | None) -> AsyncIterator[Served]:
        """Say which process it is, and let the connection be cut for as long as it is open."""
        if transport is not None:
            self._open[reader] = transport
        try:
            yield Served(Worker(pid=os.getpid()))
            await asyncio.Event().wait()
        finally:
            if transport is not None and self._open.get(reader) is transport:
                del self._open[reader]

    async def _cut_what_is_here(self) -> None:
        cuts = self._cuts.subscribe()
        while True:
            try:
                async for cut in cuts:
                    transport = self._open.pop(cut.data.reader, None)
                    if transport is not None:
                        transport.abort()
            except Lagged:
                continue  # a cut that was missed is not missed by anybody
            return


def _not_now() -> HTTPException:
    return HTTPException(503, "The room cannot be reached; send it again.", {"Retry-After": "1"})
