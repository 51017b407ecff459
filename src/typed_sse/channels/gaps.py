"""Gaps: what a reader gets instead of events that it cannot get, as its channel has declared.

Reads what has to be read for it; who tells the reader is `Reading`. Knows places and pages.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from typed_sse.channels.cursor import Cursor, parsed
from typed_sse.channels.engine import EARLIEST, GapReason, Newest
from typed_sse.channels.live import Place
from typed_sse.control import GapInfo
from typed_sse.errors import InvalidField

_LONGEST_ASKED = 200

_MOST_KEYS = 10_000
_MOST_KEYS_BYTES = 8 * 1024 * 1024

Snapshot: TypeAlias = Callable[[], Awaitable[tuple[Sequence[bytes], str]]]
"""Loads a channel's state as frames, and the cursor that it is as of."""

OnGap: TypeAlias = Literal["oldest", "latest", "close"] | Snapshot
OnLag: TypeAlias = Literal["catch_up", "drop_oldest", "close"] | Callable[[bytes], str]


@dataclass(frozen=True, slots=True)
class Skip:
    """What becomes of a place behind which events are missing.

    Attributes:
        info: what the reader is told.
        state: frames that it gets then.
        index: where it goes on in the ring, or `None`:
        cursor: it goes on behind this.
    """

    info: GapInfo
    state: Sequence[bytes]
    index: int | None
    cursor: Cursor | Newest


async def skip(place: Place, on_gap: OnGap, reason: GapReason, asked: str | None) -> Skip:
    """Find out where a reader goes on that cannot do so where it has asked to.

    Raises:
        InvalidField: a snapshot's cursor is none that the channel can be continued from.
        EngineUnavailable: the engine is away.
    """
    await place.live.ready()
    state: Sequence[bytes] = ()
    index: int | None = None
    cursor: Cursor | Newest
    if on_gap == "oldest":
        page = await place.live.page(EARLIEST)
        first = page.records[0].cursor if page.records else page.tail.cursor
        cursor = EARLIEST
    elif callable(on_gap):
        state, as_of = await on_gap()
        start = parsed(as_of)
        if not isinstance(start, Cursor) or (await place.live.page(start)).gap is not None:
            # Told of as another gap, it would be loaded again and again.
            why = "a snapshot needs the cursor that `tail` has returned before it"
            raise InvalidField("cursor", as_of, why)
        first = cursor = start
    else:
        index = place.ring.head
        first = cursor = place.ring.tail.cursor
    return Skip(_info(place, reason, asked, first), state, index, cursor)


def to_the_ring(place: Place) -> Skip:
    """Return how a reader that was too slow skips to the oldest that the ring has."""
    ring = place.ring
    asked = place.at()
    first = ring.cursors(ring.base, ring.base + 1)
    info = _info(
        place, GapReason.OVERFLOW, str(asked) if asked else None, first[0] if first else None
    )
    return Skip(info, (), ring.base, place.cursor)


def _info(place: Place, reason: GapReason, asked: str | None, first: Cursor | None) -> GapInfo:
    if asked is not None and (len(asked) > _LONGEST_ASKED or not asked.isascii()):
        asked = None  # no cursor of ours is such a thing
    return GapInfo(
        channel=place.live.name,
        reason=reason.value,
        asked=asked,
        first=None if first is None else str(first),
    )


async def newest_of_each(
    place: Place, key_of: Callable[[bytes], str]
) -> tuple[Sequence[tuple[Cursor, bytes]], int]:
    """Read on to the channel's end; return the newest event of each key, and how many were older.

    The place is moved behind them; where this raises, or is cancelled, it is where it was. Of more
    than 10,000 keys, or 8 MiB, the newest are returned.

    Raises:
        EngineUnavailable: the engine is away.
    """
    newest: dict[str | None, tuple[Cursor, bytes]] = {}
    size = skipped = 0
    cursor = place.cursor
    while True:
        await place.live.ready()
        page = await place.live.page(cursor)
        for record in page.records:
            key = key_of(record.body) if record.body else None
            size += len(record.body)
            older = newest.pop(key, None)  # the order is that of the newest
            newest[key] = record.cursor, record.body
            if older is None and (len(newest) > _MOST_KEYS or size > _MOST_KEYS_BYTES):
                older = newest.pop(next(iter(newest)))  # the oldest of all gives way
            if older is not None:
                size -= len(older[1])
                skipped += 1
            cursor = record.cursor
        if page.gap is not None or not page.more:
            place.cursor = cursor
            return list(newest.values()), skipped
