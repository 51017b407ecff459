"""The engine on Redis or Valkey: processes on many hosts, and appends that outlive all of them.

All calls of a process share one connection for appends and one for the rest, written as they come
and answered in order; a third one hears what is published. Knows what the answers mean; what is
stored is in `redis_scripts`, how calls travel in `redis_wire`, how records come in `redis_feed`.

What it outlives: with `appendonly yes` a crash of the server; a power loss takes the last second or
two (`appendfsync everysec`). Replicas are written to behind the server's back, so a failover can
lose appends that were acknowledged, and give their positions out again: a reader who comes back is
told, by the tag. Without AOF a restart loses what the last snapshot has not. `maxmemory-policy`
must be `noeviction`, or channels vanish under memory pressure; readers are then told of a gap.
"""

import asyncio
import logging
import re
import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import NamedTuple, cast

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import (
    DEFAULT_TIMEOUT_S,
    Appended,
    Caps,
    Durability,
    Feed,
    GapReason,
    Health,
    Newest,
    Page,
    Retain,
    Tail,
    check_append,
    fitting,
    gap_behind,
)
from typed_sse.channels.redis_feed import Listener
from typed_sse.channels.redis_scripts import (
    APPEND,
    BEGUN,
    CONFLICT,
    DUPLICATE,
    ORDER,
    READ,
    RESULT,
    SEALED,
    TAIL,
    keys_of,
    record_of,
    tail_of,
)
from typed_sse.channels.redis_wire import Lane, Server
from typed_sse.errors import (
    ChannelSealed,
    Conflict,
    EngineUnavailable,
    InvalidField,
    OutcomeUnknown,
)

_CAPS = Caps(durability=Durability.HOST, shared=True, lossy_feed=True)
_OLDEST_VERSION = (6, 2)

# So long, at least, a channel is remembered after its last record.
_REMEMBER_MS = 86_400_000

# So many channels are asked for at once.
_MOST_NAMES = 500
# Of so many channels a process remembers that it has put them into the index.
_MOST_KNOWN = 10_000

_logger = logging.getLogger(__name__)


class _Parts(NamedTuple):
    """What there is between `start` and `stop`."""

    appends: Lane
    reads: Lane
    listener: Listener


class RedisEngine:
    """Channels on a server of Redis, 6.2 or later, or of Valkey; see `Engine` for the methods.

    Args:
        url: `redis://user:password@host:6379/0`, `rediss://` with TLS, `unix:///path?db=0`; with
            the options that redis-py knows; `valkey://` and `valkeys://` are the same.
        timeout_s: how long a call may take, in seconds.
        namespace: what all keys begin with; 1 to 64 letters, digits and `._:-`.

    Raises:
        InvalidField: the URL, the timeout or the namespace cannot be used.

    Limits: three connections a process. A failover or a power loss may lose what was acknowledged
    (see the head of the file); `maxmemory-policy` must be `noeviction`.
    """

    def __init__(
        self, url: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, namespace: str = "typed-sse"
    ) -> None:
        if not 0 < timeout_s <= 3600:
            raise InvalidField("timeout_s", timeout_s, "give seconds, more than 0, at most 3600")
        if not re.fullmatch("[A-Za-z0-9._:-]{1,64}", namespace):
            raise InvalidField("namespace", namespace, "give 1 to 64 letters, digits and ._:-")
        self._server = Server(url, timeout_s)
        self._namespace = namespace.encode()
        # Publishing knows no databases.
        self._events = b"%b:%b:e:" % (self._namespace, self._server.database)
        self._signals = b"%b:%b:signals" % (self._namespace, self._server.database)
        self._index = self._namespace + b":names"
        self._known: set[str] = set()
        self._feed: Feed | None = None
        self._parts: _Parts | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._version = ""

    @property
    def caps(self) -> Caps:
        """What it can do."""
        return _CAPS

    async def start(self, feed: Feed) -> None:
        """Connect, look at the server, and begin to call `feed`."""
        self._feed = feed
        appends, reads = Lane(self._server, repeats=False), Lane(self._server, repeats=True)
        listener = Listener(self._server, self._hear, lambda: feed.lost(None))
        self._parts = _Parts(appends, reads, listener)
        try:
            deadline_s = self._deadline_s()
            await self._look(reads, deadline_s)
            await appends.call(deadline_s, (b"PING",))
            await listener.start(deadline_s, self._signals)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close the connections."""
        parts, self._parts, self._feed = self._parts, None, None
        # All of them at once, so that whoever cancels this can call it again.
        for part in parts or ():
            self._ending |= part.end()
        if self._ending:
            await asyncio.wait(self._ending)
        self._ending.clear()

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
        lane, deadline_s = self._started().appends, self._deadline_s()
        keys = keys_of(self._namespace, channel, key)
        order = ORDER.pack(
            secrets.randbits(32),
            retain.events,
            int(retain.age_s * 1000),
            _REMEMBER_MS,
            seal,
            expect is not None,
            *(expect or (0, 0, 0)),
        )
        tags = b"".join([_random_bits() for _ in bodies])
        args = (self._events + channel.encode(), order, tags, *bodies)
        said = await lane.run(deadline_s, APPEND, keys, args)
        what, epoch, first, first_tag, last, last_tag = RESULT.unpack(cast("bytes", said))
        tail = Cursor(epoch, last, last_tag)
        if what == SEALED:
            raise ChannelSealed(channel)
        if what == CONFLICT:
            raise Conflict(channel, str(expect), str(tail))
        if what == BEGUN or channel not in self._known:
            await self._note(lane, deadline_s, channel)
        return Appended(Cursor(epoch, first, first_tag), tail, duplicate=what == DUPLICATE)

    async def read(
        self, channel: str, after: Cursor | Newest, *, limit: int, max_bytes: int
    ) -> Page:
        """Return some of what is kept behind `after`."""
        place = (-1, after.events) if isinstance(after, Newest) else (after.epoch, after.pos)
        numbers = (_REMEMBER_MS, limit, max_bytes, *place)
        args = (_random_bits(), *(b"%d" % number for number in numbers))
        keys = keys_of(self._namespace, channel)
        said = await self._started().reads.run(self._deadline_s(), READ, keys, args)
        meta, before, torn, *packed = cast("list[bytes]", said)
        tail = tail_of(meta)
        records = [record_of(channel, one) for one in packed]
        if isinstance(after, Cursor):
            named = record_of(channel, before) if before else None
            gap = gap_behind(after, tail, named, records[0] if records else None)
            if gap is not None or torn:
                return Page((), gap or GapReason.EVICTED, tail, more=False)
        some = fitting(records, max_bytes)
        more = bool(some) and some[-1].cursor.pos < tail.cursor.pos
        return Page(some, None, tail, more=more)

    async def tails(self, channels: Sequence[str]) -> Sequence[Tail]:
        """Return the ends of these channels; begins those that there are not yet."""
        lane, deadline_s = self._started().reads, self._deadline_s()
        ends: list[Tail] = []
        for start in range(0, len(channels), _MOST_NAMES):
            some = channels[start : start + _MOST_NAMES]
            keys = [keys_of(self._namespace, channel) for channel in some]
            # Not `MGET`: a cluster has them in several slots.
            metas = await lane.call(deadline_s, *((b"GET", end) for end, _ in keys))
            for pair, meta in zip(keys, metas, strict=True):
                if meta is None:
                    args = (_random_bits(), b"%d" % _REMEMBER_MS)
                    meta = await lane.run(deadline_s, TAIL, pair, args)  # noqa: PLW2901
                ends.append(tail_of(cast("bytes", meta)))
        return ends

    async def watch(self, channels: Collection[str]) -> None:
        """Let their records come to the feed."""
        names = [self._events + name.encode() for name in channels]
        await self._started().listener.watch(self._deadline_s(), names)

    async def unwatch(self, channels: Collection[str]) -> None:
        """Let them come no more."""
        self._started().listener.unwatch([self._events + name.encode() for name in channels])

    async def names(self, prefix: str, *, limit: int) -> Sequence[str]:
        """Return the names that begin so."""
        lane, deadline_s = self._started().reads, self._deadline_s()
        lowest, highest = b"[" + prefix.encode(), b"[" + prefix.encode() + b"\xff"
        found: list[str] = []
        while len(found) < limit:
            count = b"%d" % min(_MOST_NAMES, limit - len(found))
            command = (b"ZRANGEBYLEX", self._index, lowest, highest, b"LIMIT", b"0", count)
            (said,) = await lane.call(deadline_s, command)
            some = cast("list[bytes]", said)
            if not some:
                break
            lowest = b"(" + some[-1]
            there = await self._there(deadline_s, some)
            found += [name.decode() for name in there]
            if gone := set(some).difference(there):
                await lane.call(deadline_s, (b"ZREM", self._index, *gone))
                # One may have begun again in between.
                for name in await self._there(deadline_s, [*gone]):
                    await lane.call(deadline_s, (b"ZADD", self._index, b"0", name))
        return found

    async def drop(self, channel: str) -> None:
        """Remove a channel."""
        # In this order a channel that begins meanwhile has its name afterwards.
        name = (b"ZREM", self._index, channel.encode())
        keys = (b"DEL", *keys_of(self._namespace, channel))
        await self._started().appends.call(self._deadline_s(), name, keys)

    async def signal(self, topic: str, data: bytes) -> None:
        """Tell every engine of the server and namespace."""
        name = topic.encode()
        body = len(name).to_bytes(4, "big") + name + data
        command = (b"PUBLISH", self._signals, body)
        await self._started().appends.call(self._deadline_s(), command)

    async def health(self) -> Health:
        """Ask the server, and say whether the feed is there."""
        shown = self._server.shown
        try:
            parts = self._started()
            await parts.reads.call(self._deadline_s(), (b"PING",))
        except EngineUnavailable as error:
            return Health(ready=False, detail=f"{shown}: {error.reason}")
        if not parts.listener.ready.is_set():
            return Health(ready=False, detail=f"{shown}: the feed is being connected again")
        return Health(ready=True, detail=f"{self._version} at {shown}")

    def _deadline_s(self) -> float:
        return asyncio.get_running_loop().time() + self._server.timeout_s

    def _started(self) -> _Parts:
        if self._parts is None:
            raise EngineUnavailable(self._server.shown, "the engine is not started")
        return self._parts

    def _hear(self, name: bytes, data: bytes) -> None:
        feed = self._feed
        if feed is None:
            return
        if name == self._signals:
            end = 4 + int.from_bytes(data[:4], "big")
            feed.signal(data[4:end].decode(), data[end:])
        else:
            feed.record(record_of(name.removeprefix(self._events).decode(), data))

    async def _there(self, deadline_s: float, names: Sequence[bytes]) -> Sequence[bytes]:
        """Return the names of those that have records."""
        keys = [keys_of(self._namespace, name.decode())[1] for name in names]
        commands = [(b"EXISTS", key) for key in keys]
        there = await self._started().reads.call(deadline_s, *commands)
        return [name for name, exists in zip(names, there, strict=True) if exists]

    async def _note(self, lane: Lane, deadline_s: float, channel: str) -> None:
        """Put a channel into the index: outside of the script, since it is in another slot.

        What was appended is appended, whatever becomes of this; the next append tries again.
        """
        self._known.discard(channel)
        with suppress(EngineUnavailable, OutcomeUnknown):
            await lane.call(deadline_s, (b"ZADD", self._index, b"0", channel.encode()))
            if len(self._known) == _MOST_KNOWN:
                self._known.pop()
            self._known.add(channel)

    async def _look(self, lane: Lane, deadline_s: float) -> None:
        """Refuse a server that is too old, and warn of one that evicts."""
        said = await lane.call(deadline_s, (b"INFO", b"server"), (b"INFO", b"memory"))
        lines = b"\n".join(cast("list[bytes]", said)).decode(errors="replace").splitlines()
        info = dict(line.split(":", 1) for line in lines if ":" in line)
        version = info.get("redis_version", "unknown")
        numbers = [int(number) for number in version.split(".")[:2] if number.isdigit()]
        if tuple(numbers) < _OLDEST_VERSION:
            reason = f"it is version {version}; Redis 6.2 is the oldest that will do"
            raise EngineUnavailable(self._server.shown, reason)
        self._version = f"Redis {version}"
        if "valkey_version" in info:
            self._version = f"Valkey {info['valkey_version']}"
        policy = info.get("maxmemory_policy", "")
        if policy.startswith("allkeys"):
            _logger.warning(
                "%s evicts under memory pressure (maxmemory-policy %s): channels may vanish, and "
                "their readers are told of a gap; set maxmemory-policy noeviction",
                self._server.shown,
                policy,
            )


def _random_bits() -> bytes:
    # Never 0: a tag of 0 names no event.
    return (secrets.randbelow(2**32 - 1) + 1).to_bytes(4, "big")
