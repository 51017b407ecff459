"""Reading: one reader's way through one channel or several, as frames.

Decides where to start, what to do when events are missing, what the ids are, and when there is
nothing more; an index into each channel's ring while the reader keeps up, pages from the engine
while it does not. Knows hubs and frames, nothing of how a stream is sent or of what is in an event.
"""

import asyncio
import inspect
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from typed_sse.channels.cursor import MAX_CHANNELS, Cursor, channel_key, parsed
from typed_sse.channels.engine import EARLIEST, GapReason, Newest, Page
from typed_sse.channels.gaps import OnGap, OnLag, Skip, newest_of_each, skip, to_the_ring
from typed_sse.channels.hub import Hub
from typed_sse.channels.ids import Ids
from typed_sse.channels.live import Place
from typed_sse.channels.ring import body_of, framed
from typed_sse.control import EndInfo, GapInfo, StreamEnd, StreamGap
from typed_sse.drain import farewell
from typed_sse.errors import AccessDenied, EngineUnavailable, PayloadTooLarge
from typed_sse.sources import Frame, Sink, Unseen
from typed_sse.stepping import StandIn

_FRAMES_AT_ONCE = 64

# So much of several channels is made ready at once; what is left comes next.
_BYTES_AT_ONCE = 256 * 1024

# So many names under a prefix are looked at for those that are meant.
_MOST_NAMES = 16_384

# How long to wait for an engine that is away where no channel says when it is back.
_RETRY_S = 0.5
_SOON_S = 0.05

_MOST_NEWEST = 10_000

Authorize: TypeAlias = Callable[[str], bool | Awaitable[bool]]
"""Says whether the reader may read the channel of this name."""


@dataclass(frozen=True, slots=True)
class Target:
    """A channel that is to be read.

    Attributes:
        name: its name; with a `/` at the end, every channel whose name begins so.
        after: where to start, as a client says it.
        on_gap: what follows a gap.
        on_lag: what becomes of a reader that is not in the ring any more; a function makes the key
            of a frame, and of each key the newest is delivered.
        age_s: how old events may be that nobody has asked for by a cursor.
        matches: whether a channel under the prefix is meant.
    """

    name: str
    after: str | None
    on_gap: OnGap
    on_lag: OnLag
    age_s: float = math.inf
    matches: Callable[[str], bool] = field(default=lambda _: True)


class Reading:
    """The frames of one subscription; see `Subscription` for what it promises.

    Invariants:
    1. `_places` has the place of each channel that is read; each is entered in its channel until
       `aclose`.
    2. While `_sink` is set the reading is parked: each place has an index, and `_ready` is empty.
    """

    # One for each reader there is, so it is kept small.
    __slots__ = (
        "_alone",
        "_asking",
        "_begun",
        "_closed",
        "_complete",
        "_failure",
        "_ids",
        "_last",
        "_new",
        "_news",
        "_places",
        "_prefixes",
        "_ready",
        "_recheck",
        "_relist",
        "_resumed",
        "_sink",
        "_target_of",
        "_unsettled",
        "authorize",
        "breaks_off",
        "hub",
        "is_over",
        "parks",
        "reader",
        "targets",
    )

    def __init__(
        self,
        hub: Hub,
        targets: Sequence[Target],
        reader: str | None,
        authorize: Authorize | None,
    ) -> None:
        self.is_over = self.breaks_off = False
        self.hub = hub
        self.targets = targets
        self.reader = reader
        self.authorize = authorize
        self.parks = False
        self._alone = len(targets) == 1 and not targets[0].name.endswith("/")
        self._places: dict[str, Place] = {}
        self._target_of: dict[Place, Target] = {}
        self._ids = Ids()
        self._prefixes: list[Target] = []
        self._new: dict[str, Target] = {}
        self._unsettled: list[Place] = []
        self._ready: list[bytes] = []
        self._sink: Sink | None = None
        self._begun = self._closed = self._complete = False
        self._resumed = True
        self._last: bytes | None = None
        self._failure: Exception | None = None
        self._recheck: frozenset[str] = frozenset()
        self._relist = False
        self._asking: frozenset[str] = frozenset()
        self._news: asyncio.Future[None] | None = None

    @property
    def stand_in(self) -> StandIn:
        """In whose name frames are sent without a task."""
        return self.hub.stand_in

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._ready or (self._begun and self._may_be_denied()):
            if self._closed or (self._complete and not self._ready):
                raise StopAsyncIteration
            try:
                if not self._begun:
                    await self._begin()
                elif self._ready:
                    await self._ask_again()
                elif not await self._read_on():
                    raise StopAsyncIteration
            except EngineUnavailable:
                if self._failure is not None:
                    raise  # not away, but the hub was left
                await self._engine_is_back()
        if self._closed:
            raise StopAsyncIteration
        return self._ready.pop(0)

    async def aclose(self) -> None:
        """Leave every channel; nothing is read afterwards."""
        self.leave()

    def leave(self) -> None:
        """Do what `aclose` does, for whoever cannot await."""
        self._closed = True
        self.unpark()
        self.wake()
        self._ready.clear()
        self.hub.closed(self)
        for place in self._places.values():
            place.live.leave(place)
        self._places.clear()
        for target in self._prefixes:
            self.hub.unwatch_prefix(target.name, self)
        self._prefixes.clear()

    # As a source that can be parked.

    def park(self, sink: Sink) -> bool:
        """Hand what comes to `sink`."""
        if self._complete or self._closed:
            return False
        self._sink = sink
        for place in self._places.values():
            place.push = sink.push if self._alone else None
            place.live.parked[place] = None
            place.live.flush_soon()
        if self._something_to_do():
            self.hub.loop.call_soon(self.wake)
        return True

    def unpark(self) -> None:
        """Hand over no more."""
        self._sink = None
        for place in self._places.values():
            place.push = None
            place.live.parked.pop(place, None)

    def never_again(self) -> None:
        """Wait for what is new, instead of being parked."""
        self.parks = False

    def last(self, events: int, /) -> bytes | None:
        """Return the last frame, once it is complete."""
        if not self._complete:
            return None
        return StreamEnd(EndInfo(events=events)).encode() if self._last is None else self._last

    # What the channels and the hub tell.

    def deliver(self, place: Place, stop: int) -> bool:
        """Hand what is new in one of several channels to the sink."""
        sink, start, ring = self._sink, place.index, place.ring
        if sink is None or start is None:
            return False
        ids, channels = self._ids, len(self._places)
        at = dict(ids.at)
        frames = [
            ids.frame(place.live.name, cursor, body_of(frame), channels)
            for cursor, frame in zip(
                ring.cursors(start, stop), ring.frames(start, stop), strict=True
            )
        ]
        events = sum(not isinstance(each, Unseen) for each in ring.frames(start, stop))
        piece = b"".join([*frames, ids.checkpoint_if_due(channels, self.hub.loop.time())])
        if not piece or sink.push(piece, events):
            return True
        ids.at, ids.unsaid = at, True
        self.unpark()
        return False

    def wake(self) -> None:
        """Come back from being parked, or from waiting."""
        if self._sink is not None:
            self._sink.resume()
        elif self._news is not None and not self._news.done():
            self._news.set_result(None)

    def appeared(self, channel: str) -> None:
        """A channel has its first event here."""
        if channel in self._places or channel in self._new:
            return
        for target in self._prefixes:
            if channel.startswith(target.name) and target.matches(channel):
                self._new[channel] = target
                self.wake()

    def relist(self) -> None:
        """Channels may have begun unheard."""
        self._relist = True
        self.wake()

    def revoked(self, channel: str | None, reader: str | None) -> None:
        """Permissions have changed; ask again, or end where there is nobody to ask."""
        if reader is not None and reader != self.reader:
            return
        known = self._places.keys() | self._asking
        concerned = known if channel is None else {channel} & known
        if not concerned:
            return
        if self.authorize is not None:
            self._recheck |= concerned
        elif reader is not None:
            self._failure = AccessDenied(min(concerned))
        else:
            return  # a signal may have gone unheard, and nobody can be asked
        self.wake()

    def disconnected(self, channel: str, reader: str | None) -> None:
        """End with a `retry`, for the reader to come back."""
        known = channel in self._places or channel in self._asking
        if known and reader in (None, self.reader):
            self._last = farewell()
            self._complete = self.breaks_off = True
            self.wake()

    def left(self) -> None:
        """The hub is left: end with an error."""
        if self._failure is None:
            self._failure = EngineUnavailable("of this hub", "the hub was left")
        self.wake()

    def tick(self) -> None:
        """Say where the reader is, where its ids are left out."""
        if self._ids.unsaid and self._sink is not None:
            checkpoint = self._checkpoint()
            if checkpoint and not self._sink.push(checkpoint, 0):
                self._ids.unsaid = True
                self.unpark()

    def _something_to_do(self) -> bool:
        if self._failure is not None or self._recheck or self._new or self._relist:
            return True
        return self._is_sealed() or any(place.index is None for place in self._places.values())

    # The start.

    async def _begin(self) -> None:
        self.hub.opened(self)
        for target in self.targets:
            if target.name.endswith("/"):
                await self._begin_prefix(target)
            else:
                await self._enter(target.name, target)
        while self._unsettled:  # all of them, or what is left where the engine was away meanwhile
            place = self._unsettled[-1]
            await place.live.ready()
            self._resumed = await self._settle(place) and self._resumed
            self._unsettled.pop()
        if self._closed:
            return
        for name in self._places:
            self._new.pop(name, None)  # it was told of before it was entered, and is not new now
        for target in self._prefixes:
            self._miss(target)
        self._begun = True
        if self._resumed and self._is_sealed():
            self.is_over = self._complete = True
        elif not self._complete:
            self._say_where()

    async def _begin_prefix(self, target: Target) -> None:
        if target not in self._prefixes:
            self._prefixes.append(target)
        await self.hub.watch_prefix(target.name, self)  # again, where the engine was away
        for name in await self._names_of(target):
            await self._enter(name, target)

    async def _names_of(self, target: Target) -> Sequence[str]:
        """Return the channels under a prefix that are meant; of too many, one more than can be."""
        limit = MAX_CHANNELS + 1
        while True:
            names = await self.hub.engine.names(target.name, limit=limit)
            meant = [name for name in names if target.matches(name)]
            if len(names) < limit or len(meant) > MAX_CHANNELS:
                return meant
            if limit >= _MOST_NAMES:
                raise PayloadTooLarge("channels under a prefix", limit, _MOST_NAMES - 1)
            limit = min(4 * limit, _MOST_NAMES)  # others, that are not meant, may be in front

    async def _enter(self, name: str, target: Target) -> None:
        if name in self._places:
            return
        if len(self._places) == MAX_CHANNELS:
            raise PayloadTooLarge("channels in a subscription", MAX_CHANNELS + 1, MAX_CHANNELS)
        self._asking = frozenset((name,))
        await self._ask(self._asking)
        if self._closed:
            raise StopAsyncIteration
        live = self.hub.follow(name)
        place = self._places[name] = Place(live, self)
        self._target_of[place] = target
        live.enter(place)
        self._unsettled.append(place)
        self._asking = frozenset()

    async def _ask(self, channels: frozenset[str]) -> None:
        if self.authorize is None:
            return
        for channel in sorted(channels):
            allowed = self.authorize(channel)
            if inspect.isawaitable(allowed):
                allowed = await allowed
            if allowed is not True:
                raise AccessDenied(channel)

    async def _settle(self, place: Place) -> bool:
        """Find where to start; return whether that is where the reader was."""
        target, ring = self._target_of[place], place.ring
        after = target.after
        start = _start_of(after, place.live.name)
        if start is _NEW:
            # Under a prefix the reader had all there were; it has nothing of this one yet.
            birth = Cursor(ring.tail.cursor.epoch, ring.tail.base, 0)
            start, after = (birth, None) if target.name.endswith("/") else (Newest(0), None)
        if isinstance(start, Newest):
            place.index = ring.newest(start.events, self.hub.loop.time() - target.age_s)
            place.cursor = start
            return False
        if start is None:
            await self._gap(place, GapReason.RESET, after)
            return False
        found = ring.locate(start)
        if not isinstance(found, int):
            # Not here; the ring may also be the one that is behind, or of a log that was lost.
            page = await place.live.page(start)
            if page.gap is not None:
                await self._gap(place, page.gap, after)
                return False
            found = None
        place.index, place.cursor = found, start
        return True

    def _miss(self, target: Target) -> None:
        """Tell of channels under a prefix that the reader has had events of, and that are gone.

        Their names are not known; and where they begin again, that is not what the reader had.
        """
        had = parsed(target.after) if target.after else None
        if isinstance(had, Mapping) and had.keys() - set(map(channel_key, self._places)):
            self.hub.count("reset")
            info = GapInfo(channel=target.name, reason="reset")
            self._ready.insert(0, Frame(StreamGap(info).encode()))
            if target.on_gap == "close":
                self._close_at_a_gap()

    def _say_where(self) -> None:
        """Tell the reader where it is: it may be cut off before the first event."""
        if self._alone:
            (place,) = self._places.values()
            cursor = place.at()
            if cursor is not None and not self._ready:
                self._ready.append(Unseen(framed(cursor, b"")))
            return
        for name, place in self._places.items():
            cursor = place.at()
            if cursor is not None:
                self._ids.at.setdefault(name, cursor)
        checkpoint = self._checkpoint()
        if checkpoint:
            self._ready.append(Unseen(checkpoint))

    # Reading on.

    def _may_be_denied(self) -> bool:
        return self._failure is not None or bool(self._recheck)

    async def _ask_again(self) -> None:
        """Ask whether the reader still may, where permissions have changed; raise where not."""
        if self._failure is not None:
            raise self._failure
        if not self._recheck:
            return
        recheck, self._recheck = self._recheck, frozenset[str]()
        try:
            await self._ask(recheck)
        except AccessDenied as error:
            self._failure = error
            raise
        except BaseException:  # it was not answered, and who reads on is to be asked for again
            self._recheck |= recheck
            raise

    async def _read_on(self) -> bool:
        """Make some frames ready; `False` when there is nothing now, or nothing any more."""
        await self._ask_again()
        for place in self._places.values():
            place.live.check()
        if self._relist:
            self._relist = False
            try:
                await self._list_again()
            except EngineUnavailable:
                self._relist = True
                raise
        while self._new:
            await self._begin_new(*next(iter(self._new.items())))
        await self._read_some()
        if self._ready:
            now_s = self.hub.loop.time()
            checkpoint = self._ids.checkpoint_if_due(len(self._places), now_s)
            if checkpoint:
                self._ready.append(Unseen(checkpoint))
            return True
        if any(place.index is None for place in self._places.values()):
            return True  # a page without records; read on
        if self._is_sealed():
            self._complete = True
            return False
        if self.parks:
            return False
        await self._wait()
        return True

    async def _read_some(self) -> None:
        """Make ready what there is, each channel's in turn, and not much more than a page."""
        size = 0
        for name, place in list(self._places.items()):
            known = len(self._ready)
            if place.index is None:
                await self._read_page(place)
            elif place.index < place.ring.head:
                self._read_ring(place, place.index)
            if place is self._places.get(name):  # not left meanwhile; the others are next now
                self._places[name] = self._places.pop(name)
            size += sum(map(len, self._ready[known:]))
            if size >= _BYTES_AT_ONCE:
                break

    def _read_ring(self, place: Place, start: int) -> None:
        stop = min(place.ring.head, start + _FRAMES_AT_ONCE)
        frames = place.ring.frames(start, stop)
        if self._alone:
            self._ready.extend(frames)
        else:
            for cursor, frame in zip(place.ring.cursors(start, stop), frames, strict=True):
                self._add(place, cursor, body_of(frame))
        place.index = stop

    async def _read_page(self, place: Place) -> None:
        """Read behind the place from the engine, and find back into the ring at the end."""
        target = self._target_of[place]
        if place.lagged and target.on_lag != "catch_up":
            await self._lag(place, target.on_lag)
            return
        await place.live.ready()
        if isinstance(place.cursor, Cursor):
            found = place.ring.locate(place.cursor)
            if isinstance(found, int):
                place.index, place.lagged = found, False
                self._read_ring(place, found)  # or whoever waits next would not see it
                return
        page = await place.live.page(place.cursor)
        if page.gap is not None:
            reason = page.gap
            if place.lagged and reason is GapReason.EVICTED:
                reason = GapReason.OVERFLOW
            cursor = place.at()
            await self._gap(place, reason, None if cursor is None else str(cursor))
            return
        for record in page.records:
            self._add(place, record.cursor, record.body)
        self._moved(place, page)
        await self._find_back(place, page)

    def _moved(self, place: Place, page: Page) -> None:
        if page.records:
            place.cursor = page.records[-1].cursor
        elif isinstance(place.cursor, Newest):
            place.cursor = self._ids.at[place.live.name] = page.tail.cursor
            self._ids.unsaid = not self._alone
            if self._alone:
                self._ready.append(Unseen(framed(place.cursor, b"")))

    async def _find_back(self, place: Place, page: Page) -> None:
        if page.more or not isinstance(place.cursor, Cursor):
            return
        await place.live.ready()
        found = place.ring.locate(place.cursor)
        if isinstance(found, int):
            place.index = found
            place.lagged = False
        elif found is not None or not page.records:
            # The engine and the ring do not agree: the feed is late, or the ring of a lost log.
            place.live.synchronise()

    async def _begin_new(self, name: str, target: Target) -> None:
        """Read a channel that began while its prefix was read, from its beginning."""
        await self._enter(name, target)
        place = self._places[name]
        await place.live.ready()
        if isinstance(_start_of(target.after, name), Cursor):
            # The reader had a channel of this name; its cursor tells whether this is the same log.
            await self._settle(place)
        else:
            place.cursor = Cursor(place.ring.tail.cursor.epoch, place.ring.tail.base, 0)
            found = place.ring.locate(place.cursor)
            place.index = found if isinstance(found, int) else None
        cursor = place.at()
        if cursor is not None:
            self._ids.at[name] = cursor
        self._unsettled.clear()
        del self._new[name]

    async def _list_again(self) -> None:
        for target in self._prefixes:
            await self.hub.watch_prefix(target.name, self)  # an unwatch may have come in between
            for name in await self._names_of(target):
                self.appeared(name)

    def _add(self, place: Place, cursor: Cursor, body: bytes) -> None:
        if self._alone:
            frame = framed(cursor, body)
        else:
            frame = self._ids.frame(place.live.name, cursor, body, len(self._places))
        if frame:
            self._ready.append(frame if body else Unseen(frame))

    def _checkpoint(self) -> bytes:
        return self._ids.checkpoint(len(self._places), self.hub.loop.time())

    def _at_the_seal(self, place: Place) -> bool:
        return place.index is not None and place.ring.tail.sealed and place.index == place.ring.head

    def _is_sealed(self) -> bool:
        return not self._prefixes and all(map(self._at_the_seal, self._places.values()))

    async def _wait(self) -> None:
        news = self._news = self.hub.loop.create_future()
        for place in self._places.values():
            place.live.waiting.add(news)
        try:
            async with asyncio.timeout(self._ids.wait_s):
                await news
        except TimeoutError:
            self._ready.append(Unseen(self._checkpoint()))  # at least the empty frame
        finally:
            self._news = None
            for place in self._places.values():
                place.live.waiting.discard(news)

    async def _engine_is_back(self) -> None:
        """Wait until the engine that was away is there again."""
        # At least a moment: what has failed may fail again where the channels are well.
        await asyncio.sleep(_SOON_S if self._places else _RETRY_S)
        for place in list(self._places.values()):
            place.live.synchronise()
            await place.live.ready()

    # What cannot be continued.

    async def _gap(self, place: Place, reason: GapReason, asked: str | None) -> None:
        """Tell the reader that events are missing, then do what the channel has declared."""
        on_gap = self._target_of[place].on_gap
        self._skip(place, await skip(place, on_gap, reason, asked))
        if on_gap == "close":
            self._close_at_a_gap()
        elif on_gap == "latest":
            self._say_id_of(place)

    def _close_at_a_gap(self) -> None:
        # Whoever comes back is to start anew, and not to hear of the same gap again.
        self._ready.append(Unseen(b"id\n\n"))
        self._complete = self.breaks_off = True

    def _skip(self, place: Place, skipped: Skip) -> None:
        place.index, place.cursor, place.lagged = skipped.index, skipped.cursor, False
        self._tell(skipped.info)
        self._ready.extend(skipped.state)

    def _tell(self, info: GapInfo) -> None:
        self.hub.count(info.reason)
        self._ready.append(Frame(StreamGap(info).encode()))

    def _say_id_of(self, place: Place) -> None:
        cursor = place.at()
        if cursor is None:
            return
        self._ids.at[place.live.name] = cursor
        frame = framed(cursor, b"") if self._alone else self._checkpoint()
        if frame:
            self._ready.append(Unseen(frame))

    async def _lag(self, place: Place, on_lag: OnLag) -> None:
        """Do what the channel has declared for a reader that is too slow."""
        if on_lag == "close":
            self.hub.count("closed")
            self._last = farewell()
            self._complete = self.breaks_off = True
        elif callable(on_lag):
            newest, skipped = await newest_of_each(place, on_lag)
            self.hub.count("skipped", skipped)
            for cursor, body in newest:
                self._add(place, cursor, body)
            place.lagged = False
        else:
            await place.live.ready()
            self._skip(place, to_the_ring(place))


def _start_of(after: str | None, channel: str) -> Cursor | Newest | None:
    """Return where a client asks to start; `None` for what is no cursor of ours."""
    if not after or after == "latest":
        return Newest(0)
    if after == "earliest":
        return EARLIEST
    if after.startswith("-") and after[1:].isdecimal() and len(after) <= 6:
        return Newest(min(int(after[1:]), _MOST_NEWEST))
    point = parsed(after)
    if isinstance(point, Mapping):
        # A channel that the set did not have then is new to the reader.
        return point.get(channel_key(channel), _NEW)
    return point


_NEW = Newest(-1)
