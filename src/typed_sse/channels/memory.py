"""The engine in memory: the reference for the others, and what one process needs.

`memory://` is a store of its own for each hub; engines that are given one `MemoryStore` behave as
processes that share a server. Knows the laws and the clock, nothing else.
"""

import secrets
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import (
    KEY_WINDOW_S,
    Appended,
    Caps,
    Durability,
    Feed,
    Health,
    Newest,
    Page,
    Record,
    Retain,
    Tail,
    check_append,
    fitting,
    gap_behind,
)
from typed_sse.errors import ChannelSealed, Conflict

_CAPS = Caps(durability=Durability.PROCESS, shared=False, lossy_feed=False)

# So long, at least, a channel is remembered after its last record.
_REMEMBER_S = 86_400.0

# So often, in appends and beginnings, channels whose events are all too old are looked for.
_SWEEP_EVERY = 4096

# So many more than twice what is to be kept there may be.
_SPARE = 100


@dataclass(slots=True)
class _Log:
    """One channel.

    Attributes:
        tail: the last record's place, which outlives it.
        touched_s: when it was begun, or last appended to, in seconds.
        records, times: what is kept, and when it came, in seconds; the oldest first.
        age_s: how old a record may get.
    """

    tail: Tail
    touched_s: float
    records: list[Record] = field(default_factory=list[Record])
    times: list[float] = field(default_factory=list[float])
    age_s: float = 0.0

    def first_kept(self, now_s: float) -> int:
        """Return the index of the oldest record that is not too old."""
        return bisect_left(self.times, now_s - self.age_s)

    def keep(self, events: int) -> None:
        """Drop what is too much, from time to time: each record is moved once at most."""
        if len(self.records) > 2 * events + _SPARE:
            del self.records[:-events], self.times[:-events]


class MemoryStore:
    """What the engines in memory that are given it share.

    Args:
        clock: the time in seconds, for the age of records: `time.monotonic` by default.

    Limits: a channel costs memory as long as its last record is not too old, or for a day.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.logs: dict[str, _Log] = {}
        self.keys: dict[tuple[str, str], tuple[float, Appended]] = {}
        self.engines: list[MemoryEngine] = []
        self._changes = 0

    def copy(self) -> "MemoryStore":
        """Return another store with the same channels, to be put back by `restore`."""
        copy = MemoryStore(self.clock)
        copy.restore(self)
        return copy

    def restore(self, copy: "MemoryStore") -> None:
        """Put a copy back, as a failover or a backup does; engines are not told."""
        self.logs, self.keys = deepcopy(copy.logs), dict(copy.keys)

    def log(self, channel: str) -> _Log:
        """Return a channel, begun where there is none."""
        log = self.logs.get(channel)
        if log is None:
            tail = Tail(Cursor(_random_bits(), 0, 0), sealed=False, base=0)
            log = self.logs[channel] = _Log(tail, self.clock())
            self.sweep()
        return log

    def known(self, channel: str, key: str) -> Appended | None:
        """Return what was appended under a key that is remembered."""
        if (channel, key) not in self.keys:
            return None
        expires_s, appended = self.keys[channel, key]
        return appended if self.clock() < expires_s else None

    def sweep(self) -> None:
        """Forget, from time to time, what is too old."""
        self._changes += 1
        if self._changes % _SWEEP_EVERY:
            return
        now_s = self.clock()
        self.keys = {key: value for key, value in self.keys.items() if now_s < value[0]}
        for channel, log in list(self.logs.items()):
            if log.touched_s + max(log.age_s, _REMEMBER_S) < now_s:
                del self.logs[channel]


class MemoryEngine:
    """Channels in this process; see `Engine` for what its methods do.

    Args:
        store: where they are; one of its own by default.
    """

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self._feed: Feed | None = None
        self._watched: set[str] = set()
        self._prefixes: tuple[str, ...] = ()

    @property
    def caps(self) -> Caps:
        """What it can do."""
        return _CAPS

    async def start(self, feed: Feed) -> None:
        """Begin to call `feed`."""
        self._feed = feed
        self.store.engines.append(self)

    async def stop(self) -> None:
        """Call it no more."""
        self._feed = None
        if self in self.store.engines:
            self.store.engines.remove(self)

    async def append(
        self,
        channel: str,
        bodies: Sequence[bytes],
        *,
        retain: Retain,
        key: str | None = None,
        expect: Cursor | None = None,
        seal: bool = False,
    ) -> Appended:
        """Append records to a channel, all or none."""
        bodies = check_append(_CAPS, bodies, key, seal=seal)
        store = self.store
        if key is not None and (before := store.known(channel, key)) is not None:
            return before._replace(duplicate=True)
        log = store.log(channel)
        tail = log.tail
        if tail.sealed:
            raise ChannelSealed(channel)
        if expect is not None and expect != tail.cursor:
            raise Conflict(channel, str(expect), str(tail.cursor))
        epoch, pos, _ = tail.cursor
        new: list[Record] = []
        for body in bodies:
            pos += 1
            new.append(Record(channel, Cursor(epoch, pos, _random_bits()), pos - 1, body, False))
        new[-1] = new[-1]._replace(seals=seal)
        log.touched_s, log.age_s = store.clock(), retain.age_s
        log.records += new
        log.times += [log.touched_s] * len(new)
        log.tail = Tail(new[-1].cursor, seal, tail.base)
        log.keep(retain.events)
        appended = Appended(new[0].cursor, new[-1].cursor, duplicate=False)
        if key is not None:
            store.keys[channel, key] = (log.touched_s + KEY_WINDOW_S, appended)
        store.sweep()
        for engine in list(store.engines):
            engine.tell(channel, new)
        return appended

    def tell(self, channel: str, records: Sequence[Record]) -> None:
        """Let records come to the feed, where it watches their channel."""
        if self._feed is None:
            return
        if channel in self._watched or channel.startswith(self._prefixes):
            for record in records:
                self._feed.record(record)

    async def read(
        self, channel: str, after: Cursor | Newest, *, limit: int, max_bytes: int
    ) -> Page:
        """Return some of what is kept behind `after`."""
        log = self.store.log(channel)
        first, records = log.first_kept(self.store.clock()), log.records
        if isinstance(after, Newest):
            start = max(first, len(records) - after.events)
        else:
            start = bisect_right(records, after.pos, key=lambda record: record.cursor.pos)
            start = max(start, first)
            named = records[start - 1] if start > first else None
            following = records[start] if start < len(records) else None
            gap = gap_behind(after, log.tail, named, following)
            if gap is not None:
                return Page((), gap, log.tail, more=False)
        some = fitting(records[start : start + limit], max_bytes)
        return Page(some, None, log.tail, more=start + len(some) < len(records))

    async def tails(self, channels: Sequence[str]) -> Sequence[Tail]:
        """Return the ends of these channels."""
        return [self.store.log(channel).tail for channel in channels]

    async def watch(self, channels: Collection[str]) -> None:
        """Let their records come to the feed."""
        self._watched.update(channels)
        self._note_prefixes()

    async def unwatch(self, channels: Collection[str]) -> None:
        """Let them come no more."""
        self._watched.difference_update(channels)
        self._note_prefixes()

    def _note_prefixes(self) -> None:
        self._prefixes = tuple(name for name in self._watched if name.endswith("/"))

    async def names(self, prefix: str, *, limit: int) -> Sequence[str]:
        """Return the names that begin so."""
        logs = self.store.logs
        return sorted(name for name in logs if name.startswith(prefix) and logs[name].records)[
            :limit
        ]

    async def drop(self, channel: str) -> None:
        """Remove a channel."""
        self.store.logs.pop(channel, None)

    async def signal(self, topic: str, data: bytes) -> None:
        """Tell every engine of the store."""
        for engine in list(self.store.engines):
            engine.hear(topic, data)

    def hear(self, topic: str, data: bytes) -> None:
        """Let a signal come to the feed."""
        if self._feed is not None:
            self._feed.signal(topic, data)

    async def health(self) -> Health:
        """Say that it is there."""
        return Health(ready=True, detail=f"in memory, {len(self.store.logs)} channels")


def _random_bits() -> int:
    return secrets.randbelow(2**32 - 1) + 1
