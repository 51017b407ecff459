"""What is watched: a subscription a name to what the stream republishes, and records to the feed.

Where a name stands for others too, a channel's records come by one subscription alone: two have no
order between them. Knows which names are watched; nothing of how a connection comes back.
"""

import asyncio
from collections.abc import Collection
from functools import partial

from typed_sse.channels.engine import Feed
from typed_sse.channels.nats_client import Link, Msg, Subscription
from typed_sse.channels.nats_messages import channel_of, decoded, words
from typed_sse.channels.nats_stream import Stream


class Watched:
    """All that an engine watches.

    Attributes:
        feed: who hears of it.
        torn: the connection was lost, and the feed does not know yet.
    """

    def __init__(self, link: Link, stream: Stream) -> None:
        self.feed: Feed | None = None
        self.torn = False
        self._link = link
        self._stream = stream
        self._changing = asyncio.Lock()
        self._names: dict[str, Subscription] = {}
        self._prefixes: tuple[str, ...] = ()

    def clear(self) -> None:
        """Watch nothing any more, where the connection is closed in any case."""
        self._names.clear()
        self._prefixes = ()

    def lose(self, channels: Collection[str] | None = None) -> None:
        """Tell the feed of a loss; of whatever there is by default."""
        if channels is None:
            self.torn = False
        if self.feed is not None:
            self.feed.lost(channels)

    def overflowed(self, subscription: Subscription) -> None:
        """Tell the feed that messages of a subscription were dropped."""
        for name, watching in self._names.items():
            if watching is subscription:
                self.lose(None if name.endswith("/") else [name])

    async def add(self, names: Collection[str]) -> None:
        """Watch these too; returns when the server knows."""
        async with self._changing:
            new: dict[str, Subscription] = {}
            try:
                for name in set(names) - set(self._names):
                    new[name] = await self._subscribed(name)
                await self._link.reached()
            except BaseException:
                for subscription in new.values():
                    await self._link.unsubscribe(subscription)
                raise
            self._names.update(new)
            self._note_prefixes()

    async def remove(self, names: Collection[str]) -> None:
        """Watch these no more."""
        gone = [self._names.pop(name) for name in names if name in self._names]
        self._note_prefixes()
        for subscription in gone:
            await self._link.unsubscribe(subscription)

    async def renew(self) -> None:
        """Subscribe to all that is watched, on a new connection or to a new stream."""
        async with self._changing:
            for name, before in list(self._names.items()):
                again = await self._subscribed(name)
                if name in self._names:
                    self._names[name] = again
                    await self._link.unsubscribe(before)
                else:
                    await self._link.unsubscribe(again)
            await self._link.reached()

    async def _subscribed(self, name: str) -> Subscription:
        root, end = self._stream.root, ".>" if name.endswith("/") else ""
        subject = f"{root}.live.{words(name.removesuffix('/'))}{end}"
        return await self._link.subscribe(subject, partial(self._hear, name, root))

    def _note_prefixes(self) -> None:
        prefixes = {name for name in self._names if name.endswith("/")}
        changed = prefixes ^ set(self._prefixes)
        self._prefixes = tuple(sorted(prefixes))
        # Their records come by another subscription now; one may have fallen between the two.
        below = tuple(changed)
        moved = [name for name in self._names if name.startswith(below) and name not in changed]
        if moved:
            self.lose(None if any(name.endswith("/") for name in moved) else moved)

    async def _hear(self, name: str, root: str, message: Msg) -> None:
        if name not in self._names or root != self._stream.root or self.feed is None:
            return
        if self.torn:
            self.lose()
        channel = channel_of(message.subject.removeprefix(f"{root}.live."))
        # The first of the prefixes is the shortest.
        if name != next((each for each in self._prefixes if channel.startswith(each)), channel):
            return
        try:
            seq = int((message.headers or {})["Nats-Sequence"])
            records = decoded(channel, seq, 0.0, message.data).records
        except (KeyError, ValueError):
            # Readers come upon it, and say so.
            self.lose([channel])
            return
        for record in records:
            self.feed.record(record)
