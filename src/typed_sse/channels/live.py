"""LiveChannel: one channel as this process follows it, for all its readers here.

Joins what the feed tells with what the engine keeps, without a hole and without a duplicate; holds
the newest frames in a ring, and hands what is new to everybody in one go. Knows the engine and the
loop, nothing of HTTP.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from contextvars import Context
from typing import Protocol

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import Engine, GapReason, Newest, Page, Record
from typed_sse.channels.pages import Pages
from typed_sse.channels.ring import Ring
from typed_sse.errors import EngineUnavailable

logger = logging.getLogger("typed_sse")

# What a ring keeps.
_RING_FRAMES = 1024
_RING_BYTES = 1024 * 1024

# So many of the newest events are fetched when a process begins to follow a channel, so that those
# who come back soon are answered from memory.
_PRELOADED = 128

# So much may come by the feed while the engine is read; beyond it, the engine is read again.
_MOST_HELD = 1024
_MOST_HELD_BYTES = 1024 * 1024

# What one reader is handed at once, and how many readers before others get their turn.
_PIECE_FRAMES = 256
_PIECE_BYTES = 64 * 1024
_READERS_A_TURN = 512

# How long to wait before an engine that is away is asked again.
_SHORTEST_WAIT_S = 0.05
_LONGEST_WAIT_S = 2.0


class Reader(Protocol):
    """Who reads some channels."""

    def deliver(self, place: "Place", stop: int) -> bool:
        """Take what is between `place.index` and `stop`; `False` if not now."""
        raise NotImplementedError

    def unpark(self) -> None:
        """Take nothing more."""

    def wake(self) -> None:
        """There is something to do that is not delivered."""


class Place:
    """One reader's place in one channel.

    Attributes:
        index: its place in the ring; `None` while it is further behind, at `cursor`.
        cursor: the last event that it has had, as far as `index` does not say it; or where it
            starts.
        lagged: it was in the ring, and was too slow.
        push: takes a piece as it is, and so many events; `False` if not now. `None` where the
            reader has to be asked.
    """

    __slots__ = ("cursor", "index", "lagged", "live", "push", "reader")

    def __init__(self, live: "LiveChannel", reader: Reader) -> None:
        self.live = live
        self.reader = reader
        self.index: int | None = None
        self.cursor: Cursor | Newest = Newest(0)
        self.lagged = False
        self.push: Callable[[bytes, int], bool] | None = None

    @property
    def ring(self) -> Ring:
        """The ring that `index` is in."""
        return self.live.ring

    def at(self) -> Cursor | None:
        """Return the cursor of the last event that was taken here, if it is known."""
        cursor = self.cursor if self.index is None else self.ring.cursor_at(self.index)
        return cursor if isinstance(cursor, Cursor) else None

    def fall_off(self) -> None:
        """Remember the place by its cursor: the ring moves on."""
        if self.index is not None:
            cursor = self.ring.cursor_at(self.index)
            self.cursor = self.cursor if cursor is None else cursor
            self.index = None


class LiveChannel:
    """One channel, followed.

    Attributes:
        name: the channel's name.
        places: everybody who reads it here.
        parked: those of them to whom it is to be handed.
        waiting: futures of those who wait for something new.
        idle_since_s: since when nobody reads, in the loop's time.

    Invariants:
    1. While `is_live`, the ring's tail is the last record of the channel that came by the feed, and
       what the feed tells follows it. Otherwise what comes is held, or `_overflown` is set, and
       `_is_synchronising` is set.
    2. A place with an index is in the ring; before the ring drops what is behind it, or is made
       anew, the place is told to `fall_off`.
    """

    def __init__(self, name: str, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.places: set[Place] = set()
        self.parked: dict[Place, None] = {}
        self.waiting: set[asyncio.Future[None]] = set()
        self.idle_since_s = 0.0
        self.is_live = False
        self._engine = engine
        self._loop = loop
        self._context = Context()  # nobody's: what is done here is for all readers
        self._ring: Ring | None = None
        self._held: list[Record] = []
        self._held_bytes = 0
        self._overflown = False
        self._again = False
        self._closed = False
        self._ready: asyncio.Future[None] | None = None
        self._pages = Pages(name, engine, loop)
        self._flush_is_due = False
        self._round: list[Place] = []
        self._round_head = 0
        self._is_synchronising = False
        self._synchronising: asyncio.Task[None] | None = None

    @property
    def ring(self) -> Ring:
        """The newest frames; there once `ready` has returned."""
        if self._ring is None:
            raise RuntimeError("the ring is asked for before the channel is ready")
        return self._ring

    @property
    def size(self) -> tuple[int, int]:
        """How many frames are held, and their bytes."""
        return (0, 0) if self._ring is None else self._ring.size

    @property
    def end(self) -> Cursor | None:
        """The cursor of the last event that is known here."""
        return None if self._ring is None else self._ring.tail.cursor

    async def ready(self) -> None:
        """Wait until it is followed, however long the engine is away.

        Raises:
            EngineUnavailable: it is not followed any more.
        """
        while not self.is_live:
            self.check()
            if self._ready is None:
                self._ready = self._loop.create_future()
            await asyncio.shield(self._ready)

    def tidy(self) -> None:
        """Let go of what is held for a moment only, and that is over."""
        self._pages.tidy()

    def check(self) -> None:
        """Raise `EngineUnavailable` where it is not followed any more."""
        self._pages.check()

    def close(self) -> None:
        """Follow it no more; whoever still reads is told."""
        self._closed = True
        self.is_live = False
        self._pages.close()
        if self._synchronising is not None:
            self._synchronising.cancel()
        self._say_ready()
        for place in list(self.places):
            place.reader.wake()

    # What comes by the feed.

    def record(self, record: Record) -> None:
        """Take a record that the feed tells."""
        if self.is_live:
            if self._take(record) and self.ring.locate(record.cursor) is not None:
                self.flush_soon()
            else:
                # Older than the ring, it is late, or of an older copy that was put back.
                self.synchronise(record)
        else:
            self._hold(record)

    def _hold(self, record: Record) -> None:
        self._held_bytes += len(record.body)
        if len(self._held) < _MOST_HELD and self._held_bytes <= _MOST_HELD_BYTES:
            self._held.append(record)
        else:
            self._overflown = True

    def _take(self, record: Record) -> bool:
        """Add a record to the ring unless it is there; `False` where it does not follow."""
        ring = self.ring
        tail = ring.tail.cursor
        if record.cursor.epoch == tail.epoch and record.cursor.pos <= tail.pos:
            # Had before; unless an older copy of the log gives positions out again.
            return ring.locate(record.cursor) is not GapReason.RESET
        if record.cursor.epoch != tail.epoch or record.prev != tail.pos:
            return False
        ring.append(record, self._loop.time())
        return True

    def synchronise(self, record: Record | None = None) -> None:
        """Read from the engine what the feed may have missed, then follow the feed again."""
        self.is_live = False
        self._held.clear()
        self._held_bytes = 0
        self._overflown = False
        if record is not None:
            self._hold(record)
        self._again = True
        if not self._is_synchronising and not self._closed:
            self._is_synchronising = True
            # A context of its own: an eager task enters it at once, perhaps within a flush.
            self._synchronising = self._loop.create_task(self._synchronise(), context=Context())

    async def _synchronise(self) -> None:
        wait_s = _SHORTEST_WAIT_S
        try:
            while True:
                self._again = False
                try:
                    await self._engine.watch((self.name,))
                    await self._read_up()
                except EngineUnavailable:
                    self._again = True
                except Exception:
                    # Not to be left without anybody who reads on: it may go away, as it came.
                    logger.exception("the channel %s cannot be followed", self.name)
                    self._again = True
                if not self._again and self._join():
                    break
                # A feed with a hole that the engine does not know either must not spin.
                await asyncio.sleep(wait_s * random.uniform(0.5, 1))  # noqa: S311
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
        finally:
            self._is_synchronising = False
        self.is_live = True
        self._say_ready()
        self.flush_soon()

    def _say_ready(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)
        self._ready = None

    async def _read_up(self) -> None:
        """Read on from the ring's end; from the newest events where there is none, or a gap."""
        if self._ring is not None:
            after: Cursor | Newest = self._ring.tail.cursor
        else:
            after = Newest(_PRELOADED)
        while True:
            page = await self._pages.read(after)
            if page.gap is not None:
                self._begin_anew()
                after = Newest(_PRELOADED)
                continue
            if self._ring is None:
                tail = page.tail
                if page.records:
                    tail = tail._replace(cursor=page.records[0].cursor, sealed=False)
                self._ring = Ring(tail, _RING_FRAMES, _RING_BYTES)
                for record in page.records:
                    self._ring.append(record, self._loop.time())
            elif not all(self._take(record) for record in page.records):
                self._begin_anew()
                after = Newest(_PRELOADED)
                continue
            self.flush_soon()
            if not page.more or not page.records:
                return
            after = self._ring.tail.cursor

    def _begin_anew(self) -> None:
        """Forget the ring: what it had is not what the log has. Readers find out for themselves."""
        for place in list(self.places):
            if self._ring is not None:
                place.fall_off()
        self._ring = None
        self._round = []  # its readers have nothing of the next ring
        self._pages.forget()
        for place in list(self.parked):
            place.reader.wake()

    def _join(self) -> bool:
        """Go on with what was held meanwhile; `False` where something is missing still."""
        held, self._held = self._held, []
        self._held_bytes = 0
        overflown, self._overflown = self._overflown, False
        return not overflown and all(self._take(record) for record in held)

    # What goes to the readers.

    async def page(self, after: Cursor | Newest) -> Page:
        """Read what the engine has behind a place; many who come back at once share what is read.

        Raises:
            EngineUnavailable: the engine is away, or the channel is not followed any more.
        """
        return await self._pages.shared(after)

    def enter(self, place: Place) -> None:
        """Somebody reads."""
        self.places.add(place)

    def leave(self, place: Place) -> None:
        """Somebody reads no more."""
        self.places.discard(place)
        self.parked.pop(place, None)
        if not self.places:
            self.idle_since_s = self._loop.time()

    def flush_soon(self) -> None:
        """Hand what is new to everybody, in a turn of its own."""
        if not self._flush_is_due and (self.parked or self.waiting):
            self._flush_is_due = True
            self._loop.call_soon(self._flush, context=self._context)
        elif self._ring is not None and self._ring.is_full:
            self._trim(self._ring)

    def _flush(self) -> None:
        """Hand what is new to some readers; to all in some turns."""
        ring = self._ring
        if ring is None:
            self._flush_is_due = False
            self._round = []
            return
        if not self._round:
            for waiter in self.waiting:
                if not waiter.done():
                    waiter.set_result(None)
            self.waiting.clear()
            self._round = list(self.parked)
            self._round.reverse()
            self._round_head = ring.head
        turn, self._round = self._round[-_READERS_A_TURN:], self._round[:-_READERS_A_TURN]
        self._hand_over(ring, reversed(turn))
        if self._round:
            self._loop.call_soon(self._flush, context=self._context)
            return
        if ring.is_full:
            self._trim(ring)
        self._flush_is_due = False
        if ring.head != self._round_head:
            self.flush_soon()

    def _hand_over(self, ring: Ring, places: Iterator[Place]) -> None:
        head = ring.head
        pieces: dict[int, tuple[bytes, int, int]] = {}
        parked = self.parked
        for place in places:
            start = place.index
            if start is None or start == head or place not in parked:
                continue
            made = pieces.get(start)
            if made is None:
                made = pieces[start] = ring.piece(start, _PIECE_FRAMES, _PIECE_BYTES)
            piece, stop, events = made
            if place.push is None:
                taken = place.reader.deliver(place, stop)
            else:
                taken = place.push(piece, events)
                if not taken:
                    place.reader.unpark()
            if taken:
                place.index = stop
                if stop == head and not ring.tail.sealed:
                    continue
                if stop < head:
                    self._round_head = -1  # another round
                else:
                    place.reader.wake()

    def _trim(self, ring: Ring) -> None:
        base = ring.excess()
        for place in list(self.places):
            if place.index is not None and place.index < base:
                place.fall_off()
                place.lagged = True
                if place in self.parked:
                    place.reader.wake()
        ring.trim(base)
