"""Ring: the newest frames of one channel, encoded once for all its readers in this process.

A reader is an index into it. Knows cursors and bytes, nothing of time, tasks or engines.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import attrgetter

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import GapReason, Record, Tail
from typed_sse.sources import Unseen

_position = attrgetter("pos")


class Ring:
    """The newest frames of a channel, and the places in them.

    Index n stands behind the n-th frame that ever was in the ring: a reader at `head` has had all.

    Args:
        max_frames: how many frames are kept at least once there have been as many.
        max_bytes: ... unless they have more bytes together than this.

    Invariants:
    1. `_frames[i]` is the frame between the indices `base + i` and `base + i + 1`, `_cursors[i]`
       its cursor, `_times[i]` when it came here; they are in the order of their positions, without
       a hole.
    2. `tail` is the place behind the last frame; `_before` the one in front of the first, if known.
    """

    def __init__(self, tail: Tail, max_frames: int, max_bytes: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._frames: list[bytes] = []
        self._cursors: list[Cursor] = []
        self._times: list[float] = []
        self._bytes = 0
        self._before: Cursor | None = tail.cursor
        self.tail = tail
        self.base = 0

    @property
    def head(self) -> int:
        """The index behind the last frame."""
        return self.base + len(self._frames)

    def append(self, record: Record, now_s: float = 0.0) -> None:
        """Add a record's frame, as of a time."""
        frame = framed(record.cursor, record.body)
        if not record.body:
            frame = Unseen(frame)
        tail = self.tail
        if not self._frames and record.prev != tail.cursor.pos:
            # The first of the newest: in front of it is the channel's beginning, or nobody knows.
            self._before = self._birth if record.prev == tail.base else None
        self._frames.append(frame)
        self._cursors.append(record.cursor)
        self._times.append(now_s)
        self._bytes += len(frame)
        self.tail = Tail(record.cursor, record.seals, tail.base)

    @property
    def size(self) -> tuple[int, int]:
        """How many frames there are, and their bytes."""
        return len(self._frames), self._bytes

    @property
    def _birth(self) -> Cursor:
        return Cursor(self.tail.cursor.epoch, self.tail.base, 0)

    @property
    def is_full(self) -> bool:
        """Whether it is time to trim: twice as much is there as is kept."""
        return len(self._frames) > 2 * self._max_frames or self._bytes > 2 * self._max_bytes

    def excess(self) -> int:
        """Return the index that the ring would begin with if it were trimmed now."""
        size = self._bytes
        drop = max(0, len(self._frames) - self._max_frames)
        size -= sum(map(len, self._frames[:drop]))
        while size > self._max_bytes and drop < len(self._frames) - 1:
            size -= len(self._frames[drop])
            drop += 1
        return self.base + drop

    def trim(self, base: int) -> None:
        """Drop the frames in front of an index."""
        drop = base - self.base
        if drop:
            self._before = self._cursors[drop - 1]
            self._bytes -= sum(map(len, self._frames[:drop]))
            del self._frames[:drop], self._cursors[:drop], self._times[:drop]
            self.base = base

    def cursor_at(self, index: int) -> Cursor | None:
        """Return the cursor of what a reader at `index` has had last, if it is known."""
        return self._cursors[index - self.base - 1] if index > self.base else self._before

    def piece(self, start: int, max_frames: int, max_bytes: int) -> tuple[bytes, int, int]:
        """Return some frames behind an index as one, the index behind them, and how many events."""
        frames = self._frames[start - self.base : start - self.base + max_frames]
        size = 0
        for place, frame in enumerate(frames):
            size += len(frame)
            if place and size > max_bytes:
                frames = frames[:place]
                break
        events = len(frames)
        if self.tail.sealed and isinstance(frames[-1], Unseen):
            events -= 1
        return b"".join(frames), start + len(frames), events

    def frames(self, start: int, stop: int) -> Sequence[bytes]:
        """Return the frames between two indices."""
        return self._frames[start - self.base : stop - self.base]

    def cursors(self, start: int, stop: int) -> Sequence[Cursor]:
        """Return their cursors."""
        return self._cursors[start - self.base : stop - self.base]

    def locate(self, cursor: Cursor) -> int | GapReason | None:
        """Return the index behind a cursor, or why there is none; `None` for an older one.

        The same answer as `gap_behind` gives for what the engine keeps; the ring may keep more.
        """
        if cursor == self.tail.cursor:
            return self.head
        if cursor == self._before:
            return self.base
        if cursor.epoch != self.tail.cursor.epoch or cursor.pos >= self.tail.cursor.pos:
            return GapReason.RESET
        found = bisect_right(self._cursors, cursor.pos, key=_position)
        if found:
            same = self._cursors[found - 1] == cursor
            return self.base + found if same else GapReason.RESET
        return None

    def newest(self, events: int, since_s: float = -math.inf) -> int | None:
        """Return the index in front of the newest `events` that have come since a time.

        `None` where the ring has too few to say.
        """
        if events > len(self._frames) and self._before != self._birth:
            return None
        return max(self.base, self.head - events, self.base + bisect_left(self._times, since_s))


def framed(cursor: Cursor | str, body: bytes) -> bytes:
    """Return the frame of an event; without a body, one that only moves the reader's last id."""
    return b"id: %b\n%b" % (str(cursor).encode(), body or b"\n")


def body_of(frame: bytes) -> bytes:
    """Return what `framed` was given."""
    body = frame[frame.index(b"\n") + 1 :]
    return b"" if body == b"\n" else body
