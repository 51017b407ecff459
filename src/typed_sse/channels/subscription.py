"""Subscription: what one reader gets of a channel or several, as an event stream.

Knows typed events; `Reading` knows where they come from.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import reduce
from typing import Any, TypeVar, cast

from typed_sse.channels.hub import Hub
from typed_sse.channels.reading import Authorize, Reading, Target
from typed_sse.control import StreamGap
from typed_sse.errors import InvalidField, Lagged, UsageError
from typed_sse.events import BaseEvent, EventUnion
from typed_sse.sources import Outlet
from typed_sse.streams import EventStream
from typed_sse.wire import Decoder

E_co = TypeVar("E_co", bound=BaseEvent[object], covariant=True)

_GAPS = EventUnion(StreamGap)


class Subscription(EventStream[E_co]):
    """One reader's place in one or more channels; made by `Channel.subscribe`, and by `merge`.

    A response sends it with cursors as ids: whoever comes back with the last one gets what follows,
    on any worker. First comes a frame with an id alone, which says where the reader is before there
    is an event. Where something cannot be continued, `stream.gap` says so before anything else. A
    sealed channel's stream ends with `stream.end`, and a response that has nothing to send to who
    comes back to the end of one is a 204.

    Read in the program, `async for event in subscription`, each event has its cursor as `id`; where
    events are missing, `Lagged` is raised, and reading on continues behind the gap. Whether the end
    was that of the channel, or that of a reader which is to come back, is not told there.

    Ordering: the order of each channel; between channels the order in which they come here. With
        up to 8 channels each id says where the reader is in all of them, and nothing comes twice;
        with more, a frame that only has an id says so once a second, and what came since comes
        again to who comes back.

    Limits: 64 channels. While the reader keeps up, it costs an index into what the process holds
        once for all.
    """

    __slots__ = ("_decoder", "_is_sent", "reading")

    def __init__(
        self,
        hub: Hub,
        targets: Sequence[Target],
        events: EventUnion[BaseEvent[object]],
        reader: str | None,
        authorize: Authorize | None,
    ) -> None:
        self._is_sent = False
        self.reading = Reading(hub, targets, reader, authorize)
        self._decoder: Decoder | None = None
        super().__init__(_NeverRead(), events)

    def __del__(self) -> None:
        # Who breaks off an `async for` closes nothing, and the hub would hold the reading for ever.
        if not self._is_sent:
            with suppress(UsageError, RuntimeError):  # the hub was left, or its loop is closed
                self.reading.hub.loop.call_soon_threadsafe(self.reading.leave)

    async def __anext__(self) -> E_co:
        self.ag_running = True
        try:
            while True:
                event = self._decoded(await anext(self.reading))
                if event is not None:
                    return event
        finally:
            self.ag_running = False

    def _decoded(self, frame: bytes) -> E_co | None:
        decoder = self._decoder = self._decoder or Decoder()
        for received in decoder.feed(frame):
            if received.event == StreamGap.event_name:
                gap = _GAPS.decode(received).data
                raise Lagged(gap.channel, gap.reason, gap.asked, gap.first)
            return cast("E_co", cast("EventUnion[BaseEvent[object]]", self.events).decode(received))
        return None

    def outlet(self) -> Outlet[Any]:
        """Return the stream as a connection reads it: frames that were made once for all."""
        reading = self.reading
        reading.hub.check_entered()
        reading.parks = self._is_sent = True
        return Outlet(reading, _as_it_is, reading.aclose, pushing=reading, resumes=True)

    async def aclose(self) -> None:
        """Leave the channels."""
        await self.reading.aclose()

    def joined(self, others: Sequence["Subscription[Any]"]) -> "Subscription[Any]":
        """Return one subscription to the channels of several; those are not read themselves.

        Raises:
            InvalidField: a channel is in two of them, or they are of different hubs or readers.
        """
        all_of_them = (self, *others)
        readings = [subscription.reading for subscription in all_of_them]
        targets = [target for reading in readings for target in reading.targets]
        names = [target.name for target in targets]
        if len(set(names)) < len(names):
            raise InvalidField("sources", names, "a channel is in two of them; subscribe once")
        first = readings[0]
        for reading in readings[1:]:
            if reading.hub is not first.hub:
                raise InvalidField("sources", names, "merge channels of one hub")
            if (reading.reader, reading.authorize) != (first.reader, first.authorize):
                raise InvalidField("reader", reading.reader, "give the same reader and authorize")
        unions = [subscription.events for subscription in all_of_them]
        known = [union for union in unions if union is not None]
        events = reduce(lambda a, b: a | b, known)
        return Subscription(first.hub, targets, events, first.reader, first.authorize)


def _as_it_is(frame: bytes) -> bytes:
    return frame


class _NeverRead:
    """Stands where other streams have the source that they are read from step by step."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError
