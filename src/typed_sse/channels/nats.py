"""The engine on NATS JetStream: one stream of the server's holds all channels.

The server republishes what it has stored, and each process hears that on one subscription a watched
name. No consumer is used: nothing has to be made for a reader, and an ordered one stalls when its
server is killed. Knows the laws of reading, and which part does what; nothing of nats-py.
"""

import asyncio
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import chain, compress

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
    Record,
    Retain,
    Tail,
    check_append,
    fitting,
    gap_behind,
)
from typed_sse.channels.nats_appends import Append, Appends
from typed_sse.channels.nats_client import Link, Msg
from typed_sse.channels.nats_feed import Watched
from typed_sse.channels.nats_messages import PLACES, Message
from typed_sse.channels.nats_stream import Stream
from typed_sse.errors import EngineUnavailable, InvalidField

_MAX_BODY_BYTES = 1024 * 1024
# What a message needs beside its records: the server's headers, ours, and 8 bytes a record.
_OVERHEAD_BYTES = 16 * 1024
# So many channels are asked for at once.
_AT_ONCE = 256


class NatsEngine:
    """Channels in a JetStream stream; see `Engine` for what its methods do.

    What is acknowledged outlives a crash of the server's process. nats-server syncs its files every
    two minutes by default: a crash of the host can lose what came since. Its option
    `sync_interval: always` or `replicas=3` are against that; readers are told of a loss in any
    case, since the tags of the records do not come again. (The tags of an append with a key are
    made of the key, so that the answer can be given when the records are gone already.)

    Args:
        url: `nats://user:password@host:4222`, or `tls://`; several servers of a cluster are parted
            by commas.
        timeout_s: how long a call may take.
        stream: the stream's name; it is made where there is none. Deleting it loses all channels.
        replicas: on how many servers of a cluster a stream that is made is kept; 1 by default.

    Raises:
        InvalidField: the URL, the stream's name, the timeout or the replicas cannot be used.

    Limits: nats-server 2.11 or newer. A record, and all of an append, have the server's
    `max_payload` less 16 KiB (1 MiB at most). Records go after 30 days, whatever a `Retain` says,
    and so does a channel that nothing is appended to.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        stream: str = "typed_sse",
        replicas: int = 1,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", stream):
            raise InvalidField("stream", stream, "give 1 to 64 letters, digits, `_` or `-`")
        if not timeout_s > 0:
            raise InvalidField("timeout_s", timeout_s, "give a number of seconds above 0")
        if not 1 <= replicas <= 5:
            raise InvalidField("replicas", replicas, "give 1 to 5")
        self._timeout_s = timeout_s
        self._link = Link(url, stream, timeout_s, self._opened, self._cut, self._resumed)
        self._stream = Stream(self._link, stream, replicas, self._moved)
        self._appends = Appends(self._link, self._stream)
        self._watched = Watched(self._link, self._stream)
        self._link.overflowed = self._watched.overflowed
        self._caps = _caps(_MAX_BODY_BYTES)

    @property
    def caps(self) -> Caps:
        """What it can do; after `start` as the server allows."""
        return self._caps

    # --- The connection

    async def start(self, feed: Feed) -> None:
        """Connect, make the stream where there is none, and call `feed` from now on."""
        if self._watched.feed is not None:
            raise InvalidField("feed", feed, "the engine is started already")
        self._watched.feed, self._watched.torn = feed, False
        try:
            await self._link.start()
        except BaseException:
            self._watched.feed = None
            raise

    async def stop(self) -> None:
        """Let go of everything."""
        self._watched.feed = None
        self._watched.clear()
        await self._appends.stop()
        await self._link.stop()

    async def _opened(self) -> None:
        most_bytes = self._link.connected().max_payload - _OVERHEAD_BYTES
        if most_bytes < _OVERHEAD_BYTES:
            reason = f"its max_payload leaves {most_bytes} bytes to a record; raise it"
            raise self._link.unavailable(reason)
        self._caps = _caps(most_bytes)
        self._appends.max_bytes = self._caps.max_batch_bytes
        await self._stream.learn()
        await self._link.subscribe(f"{self._stream.name}.signal", self._on_signal)
        await self._watched.renew()

    def _cut(self) -> None:
        self._watched.torn = True
        self._appends.forget()

    async def _resumed(self) -> None:
        self._watched.lose()
        # nats-py takes an error here for a failed connection; the next call finds it, and tells.
        with suppress(EngineUnavailable):
            await self._stream.calling(self._stream.learn)

    async def _moved(self) -> None:
        self._appends.forget()
        await self._watched.renew()
        self._watched.lose()

    # --- Appends

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
        """Append records to a channel, all or none.

        Cancellation: what still waited is not appended; otherwise the server's answer is waited
        for, so that nothing comes later. A second cancellation does not wait.
        """
        bodies = check_append(self._caps, bodies, key, seal=seal)
        if self._watched.feed is None:
            raise self._link.unavailable("it is not started, or stopped")
        self._link.connected()
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        append = Append(bodies, retain, key, expect, seal, deadline)
        return await self._appends.append(channel, append)

    async def drop(self, channel: str) -> None:
        """Remove a channel."""
        self._appends.forget(channel)
        try:
            await self._stream.calling(lambda: self._stream.purge(channel), writes=True)
        finally:
            self._appends.forget(channel)

    # --- Reading

    async def read(
        self, channel: str, after: Cursor | Newest, *, limit: int, max_bytes: int
    ) -> Page:
        """Return some of what is kept behind `after`."""
        return await self._stream.calling(lambda: self._page(channel, after, limit, max_bytes))

    async def _page(self, channel: str, after: Cursor | Newest, limit: int, max_bytes: int) -> Page:
        last = await self._stream.last_or_begun(channel)
        tail, since_s = last.tail, self._stream.now_s() - last.retain.age_s
        number, seq, pos = last.first_kept, 1, -1
        if isinstance(after, Newest):
            number = max(number, last.total - after.events)
            if number > 0:
                seq = (await self._stream.holding(channel, last, number)).seq
        else:
            # What else may be wrong with it does not depend on what is kept.
            gap = gap_behind(after, tail, None, None)
            if gap is not GapReason.EVICTED:
                return Page((), gap, tail, more=False)
            seq, pos = after.pos // PLACES, after.pos

        def kept(message: Message) -> Sequence[Record]:
            fresh = message.time_s >= since_s
            return message.records[max(0, number - message.before) :] if fresh else ()

        named: Record | None = None
        records: list[Record] = []
        size = 0
        while len(records) < limit and size <= max_bytes:
            count = limit - len(records) + 2
            messages = await self._stream.some(channel, seq, last, count, max_bytes)
            if not messages:
                break
            seq = messages[-1].seq + 1
            for record in chain.from_iterable(map(kept, messages)):
                if record.cursor.pos <= pos:
                    named = record
                else:
                    records.append(record)
                    size += len(record.body)
        if isinstance(after, Cursor):
            first = None if named is not None else await self._stream.first(channel)
            if first is not None:
                named = next((each for each in kept(first) if each.cursor.pos <= pos), None)
            gap = gap_behind(after, tail, named, records[0] if records else None)
            if gap is not None:
                return Page((), gap, tail, more=False)
        some = fitting(records[:limit], max_bytes)
        more = bool(some) and some[-1].cursor.pos < tail.cursor.pos
        return Page(some, None, tail, more)

    async def tails(self, channels: Sequence[str]) -> Sequence[Tail]:
        """Return the ends of these channels."""
        return await self._stream.calling(lambda: self._tails(channels))

    async def _tails(self, channels: Sequence[str]) -> Sequence[Tail]:
        tails: list[Tail] = []
        for start in range(0, len(channels), _AT_ONCE):
            some = channels[start : start + _AT_ONCE]
            lasts = await asyncio.gather(*map(self._stream.last_or_begun, some))
            tails += [last.tail for last in lasts]
        return tails

    async def names(self, prefix: str, *, limit: int) -> Sequence[str]:
        """Return the names that begin so."""
        return await self._stream.calling(lambda: self._names_below(prefix, limit))

    async def _names_below(self, prefix: str, limit: int) -> Sequence[str]:
        counts = await self._stream.counts(prefix)

        async def has_records(channel: str) -> bool:
            # A single message may be the one that begins the channel.
            last = await self._stream.last(channel) if counts[channel] == 1 else None
            return counts[channel] > 1 or (last is not None and last.total > 0)

        names: list[str] = []
        candidates = sorted(counts)
        for start in range(0, len(candidates), _AT_ONCE):
            if len(names) < limit:
                some = candidates[start : start + _AT_ONCE]
                names += compress(some, await asyncio.gather(*map(has_records, some)))
        return names[:limit]

    # --- What is heard

    async def watch(self, channels: Collection[str]) -> None:
        """Let their records come to the feed."""
        await self._link.within(lambda: self._watched.add(channels))

    async def unwatch(self, channels: Collection[str]) -> None:
        """Let them come no more."""
        await self._watched.remove(channels)

    async def signal(self, topic: str, data: bytes) -> None:
        """Tell every engine of the stream."""
        name = topic.encode()
        payload = b"%d:%b%b" % (len(name), name, data)
        subject = f"{self._stream.name}.signal"
        await self._link.within(lambda: self._link.tell(subject, payload), writes=True)

    async def _on_signal(self, message: Msg) -> None:
        size, _, rest = message.data.partition(b":")
        if self._watched.feed is not None and size.isdigit():
            name, data = rest[: int(size)], rest[int(size) :]
            self._watched.feed.signal(name.decode(errors="replace"), data)

    async def health(self) -> Health:
        """Ask the server for the stream."""
        try:
            info = await self._stream.calling(self._stream.info)
        except EngineUnavailable as error:
            return Health(ready=False, detail=str(error))
        channels, size = info["state"].get("num_subjects", 0), info["state"]["bytes"]
        return Health(ready=True, detail=f"{self._link.name}: {channels} channels, {size} bytes")


def _caps(most_bytes: int) -> Caps:
    most_bytes = min(most_bytes, _MAX_BODY_BYTES)
    return Caps(
        durability=Durability.HOST,
        shared=True,
        lossy_feed=True,
        max_body_bytes=most_bytes,
        max_batch_bytes=most_bytes,
    )
