"""Engine: what stores and moves channels, and the laws that every engine keeps.

An engine knows names, bytes and positions. What an event is, who reads, and what becomes of a
reader that is too slow is decided above it. Two processes with engines of the same URL see the same
channels.

The laws. `typed_sse.testing` has them as tests that run on any engine.

L1  A channel has one total order. Its positions grow strictly, and need not be contiguous; `prev`
    is the position of the record before it in the channel, for the first its `base`. A channel
    begins when it is appended to, or first asked for its tail, under an epoch of its own.
L2  What `append` has returned for, `read` shows in every process. The records of one append are
    there all, or none.
L3  After `watch` has returned, every later record of the channel comes to `Feed.record`, in order;
    or what is missing shows, since a `prev` is not the position of the record before; or
    `Feed.lost` is called. Where the last record is lost nothing of this happens: for engines whose
    `caps.lossy_feed` says so, the reader asks for `tails` from time to time.
L4  `read(channel, cursor)` continues exactly behind the cursor where the cursor is valid, and says
    why not otherwise. A cursor is valid when the record that it names is still there with the same
    tag, or is the channel's last, remembered one; the cursor of an empty channel (tag 0), while
    nothing was evicted. So it is after a restart, an eviction, a failover, and where an older copy
    was put back: never the wrong records, never some of them. `gap_behind` is this law as code.
L5  The same `key` within `KEY_WINDOW_S`: the same answer, marked `duplicate`, and nothing appended;
    also from another process, and after an append of unknown outcome.
L6  Refused, each with an error of its own, and with nothing appended: another tail than `expect`,
    a sealed channel, a record or a batch that is too large.
L7  Whoever watches hears of a seal as of a record: it is on the last one. Sealing a sealed channel
    is refused as appending is, and with the same `key` answered as the first time.
L8  A lost connection to the store always leads to `Feed.lost(None)` before the next record, and
    whatever was watched is watched again without being asked for.
L9  A call that is cancelled at any await leaves the other laws true.
L10 A call ends within the engine's timeout. `EngineUnavailable` means that nothing was done,
    `OutcomeUnknown`, from `append`, `drop` and `signal`, that nobody knows.
L11 Records are bytes: what was appended is what is read, whatever it is, up to
    `caps.max_body_bytes`.

The layers above add: leases, presence (not yet there).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from typed_sse.channels.cursor import Cursor
from typed_sse.errors import InvalidField, PayloadTooLarge

KEY_WINDOW_S = 300.0
"""How long the key of an append is remembered."""

MAX_BATCH = 1000
"""The most records in one append."""

MAX_KEY_BYTES = 200
"""The longest key of an append."""

MAX_CHANNEL_BYTES = 200
"""The longest name of a channel."""

DEFAULT_TIMEOUT_S = 5.0
"""How long a call of an engine may take by default."""

_FOREVER_S = 1e9


class Durability(StrEnum):
    """What an append that has returned outlives."""

    PROCESS = "process"
    """Nothing: it is in this process alone."""
    HOST = "host"
    """The process, and a crash of the store's."""


@dataclass(frozen=True, slots=True)
class Caps:
    """What an engine can do.

    Attributes:
        durability: what an append outlives.
        shared: whether other processes see the same channels.
        lossy_feed: whether the last record of a channel may fail to come to the feed.
        max_body_bytes: the largest record.
        max_batch_bytes: the largest sum of one append's records.
    """

    durability: Durability
    shared: bool
    lossy_feed: bool
    max_body_bytes: int = 1024 * 1024
    max_batch_bytes: int = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Retain:
    """How much of a channel is kept for those who come back.

    Args:
        events: so many of the newest are kept at least, and not more than twice as many and 100
            (one at least stays, for the cursor that names it); 1000 by default.
        age_s: so many seconds old they may get; older ones are not read any more, but by who comes
            back to a process that still holds them. A day by default.

    Raises:
        InvalidField: `events` is not between 1 and 1,000,000, or `age_s` not between 1 and 1e9.
    """

    events: int = 1000
    age_s: float = 86_400.0

    def __post_init__(self) -> None:
        """Refuse what cannot be kept."""
        # `not <=`: NaN is neither.
        if isinstance(self.events, bool) or not 1 <= self.events <= 1_000_000:
            raise InvalidField("events", self.events, "give 1 to 1,000,000 events to keep")
        if not 1 <= self.age_s <= _FOREVER_S:
            raise InvalidField("age_s", self.age_s, "give 1 to 1e9 seconds")


class Record(NamedTuple):
    """One event in a channel.

    Attributes:
        channel: the channel's name.
        cursor: the place behind it: epoch, position and tag.
        prev: the position of the record before it in the channel; its base for the first.
        body: what was appended.
        seals: nothing follows it.
    """

    channel: str
    cursor: Cursor
    prev: int
    body: bytes
    seals: bool


class Tail(NamedTuple):
    """A channel's end.

    Attributes:
        cursor: the last record's; of a channel that never had any, its epoch and base with tag 0.
        sealed: nothing follows.
        base: the position in front of the first record that there ever was.
    """

    cursor: Cursor
    sealed: bool
    base: int


class Appended(NamedTuple):
    """What an append has done.

    Attributes:
        first: the cursor of the first record.
        last: the cursor of the last.
        duplicate: it was appended before, under the same key.
    """

    first: Cursor
    last: Cursor
    duplicate: bool


class GapReason(StrEnum):
    """Why a reader cannot be given what follows its cursor."""

    EVICTED = "evicted"
    """It is not kept any more."""
    RESET = "reset"
    """The cursor is none of this log's: of another channel, of a log that was lost, or made up."""
    OVERFLOW = "overflow"
    """The reader was too slow, and its channel says that it then skips."""


class Page(NamedTuple):
    """Some records, in order.

    Attributes:
        records: at most as many as were asked for; none where `gap` is set.
        gap: why they do not start behind the cursor; `None` where they do.
        tail: the channel's end as of this read.
        more: there is more behind them; the last one's cursor continues.
    """

    records: Sequence[Record]
    gap: GapReason | None
    tail: Tail
    more: bool


class Newest(NamedTuple):
    """A place in a channel: in front of the newest `events` records, as far as they are kept."""

    events: int


EARLIEST: Final = Newest(2**53)
"""In front of all that is kept."""


class Health(NamedTuple):
    """How an engine is.

    Attributes:
        ready: a call would go through now.
        detail: a sentence for people, without passwords.
    """

    ready: bool
    detail: str


class Feed(Protocol):
    """Who hears of what is appended; called in the event loop that `start` was called in."""

    def record(self, record: Record) -> None:
        """A record of a watched channel has come."""

    def lost(self, channels: Collection[str] | None) -> None:
        """Records of these channels, or of any (`None`), may have come and gone unheard."""

    def signal(self, topic: str, data: bytes) -> None:
        """Somebody has sent a signal, in whatever process."""


class Engine(Protocol):
    """Stores channels and moves what is appended; see the laws at the head of this file.

    Every method but `caps` and `stop` raises `EngineUnavailable` while the store cannot be reached.
    """

    @property
    def caps(self) -> Caps:
        """What it can do; of a store that has to be asked, after `start`."""
        raise NotImplementedError

    async def start(self, feed: Feed) -> None:
        """Connect, once, and call `feed` from now on.

        Raises:
            EngineUnavailable: the store cannot be reached or used; the message says what was tried.
        """

    async def stop(self) -> None:
        """Let go of everything; nothing is called afterwards. May be called twice."""

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
        """Append records to a channel, all or none; with none given and `seal`, an empty one.

        Args:
            channel: its name; it begins with its first record.
            bodies: what to append, in order.
            retain: how much of the channel is to be kept.
            key: names this append, so that it can be repeated.
            expect: append only where this is the tail.
            seal: nothing is to follow.

        Raises:
            ChannelSealed: it is sealed.
            Conflict: the tail is not `expect`.
            PayloadTooLarge: a record, or all together, is larger than `caps` says, or there
                are too many.
            EngineUnavailable: nothing was appended.
            OutcomeUnknown: it may have been appended, or not; with a `key` it can be repeated.
        """
        raise NotImplementedError

    async def read(
        self, channel: str, after: Cursor | Newest, *, limit: int, max_bytes: int
    ) -> Page:
        """Return at most `limit` records behind `after`, of at most `max_bytes` and one record."""
        raise NotImplementedError

    async def tails(self, channels: Sequence[str]) -> Sequence[Tail]:
        """Return the ends of these channels, in this order; begins those that there are not yet."""
        raise NotImplementedError

    async def watch(self, channels: Collection[str]) -> None:
        """Let the records of these channels come to the feed; returns when that is so.

        A name that ends with `/` stands for all channels whose names begin with it. Watching twice
        is watching once.
        """

    async def unwatch(self, channels: Collection[str]) -> None:
        """Let them come no more; a few may still."""

    async def names(self, prefix: str, *, limit: int) -> Sequence[str]:
        """Return the names of channels that begin with `prefix` and have records, sorted."""
        raise NotImplementedError

    async def drop(self, channel: str) -> None:
        """Remove a channel and its records; who resumes there is told of a gap.

        Raises:
            OutcomeUnknown: it may have been done; do it again.
        """

    async def signal(self, topic: str, data: bytes) -> None:
        """Call `Feed.signal` in every process that has started an engine here, at most once.

        Raises:
            OutcomeUnknown: it may have been sent.
        """

    async def health(self) -> Health:
        """Say how the engine is; raises nothing."""
        raise NotImplementedError


def check_append(
    caps: Caps, bodies: Sequence[bytes], key: str | None, *, seal: bool
) -> Sequence[bytes]:
    """Return what an append is to store, before any of it is sent anywhere.

    Raises:
        PayloadTooLarge: a record or their sum is larger than `caps` says, or there are too many.
        InvalidField: there is nothing to append, or the key is empty or too long.
    """
    if not bodies:
        if not seal:
            raise InvalidField("events", bodies, "give at least one event to append")
        return (b"",)
    if len(bodies) > MAX_BATCH:
        raise PayloadTooLarge("events in a batch", len(bodies), MAX_BATCH)
    largest = max(map(len, bodies))
    if largest > caps.max_body_bytes:
        raise PayloadTooLarge("bytes in an event", largest, caps.max_body_bytes)
    together = sum(map(len, bodies))
    if together > caps.max_batch_bytes:
        raise PayloadTooLarge("bytes in a batch", together, caps.max_batch_bytes)
    if key is not None and not 0 < len(key.encode(errors="replace")) <= MAX_KEY_BYTES:
        raise InvalidField("key", key, f"give a key of 1 to {MAX_KEY_BYTES} bytes")
    return bodies


def fitting(records: Sequence[Record], max_bytes: int) -> Sequence[Record]:
    """Return the first records, as many as have `max_bytes` together, one at least."""
    size = 0
    for place, record in enumerate(records):
        size += len(record.body)
        if place and size > max_bytes:
            return records[:place]
    return records


def gap_behind(
    after: Cursor, tail: Tail, named: Record | None, following: Record | None
) -> GapReason | None:
    """Return why a channel cannot be continued behind a cursor, `None` where it can; this is L4.

    Args:
        after: the cursor that somebody has come back with.
        tail: the end of the channel.
        named: the newest record that is kept and not behind `after.pos`.
        following: the oldest record that is kept and behind `after.pos`.
    """
    if after.epoch != tail.cursor.epoch:
        return GapReason.RESET
    if after == tail.cursor:
        return None
    if after.pos >= tail.cursor.pos or after.pos < tail.base:
        return GapReason.RESET
    if named is not None:
        return None if named.cursor == after else GapReason.RESET
    if after.tag == 0 and after.pos == tail.base:
        complete = following is not None and following.prev == tail.base
        return None if complete else GapReason.EVICTED
    return GapReason.EVICTED
