"""Hub: the channels of one engine in this process.

Starts and stops the engine, passes on what its feed tells, and keeps one `LiveChannel` for all
readers of a channel. Knows when something is due; knows nothing of events or of HTTP.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from typed_sse.channels.engine import Engine, GapReason, Health, Record
from typed_sse.channels.live import LiveChannel
from typed_sse.channels.urls import engine_of
from typed_sse.errors import EngineUnavailable, UsageError
from typed_sse.stepping import StandIn

_TICK_S = 1.0

# So long a channel is followed that nobody reads any more: most who leave come back.
_LINGER_S = 10.0

# How often a feed that may lose a channel's last event is checked.
_CHECK_EVERY_S = 10.0


_NOT_ENTERED = "the hub is not entered; use it as the application's lifespan"


@dataclass(frozen=True, slots=True)
class HubStatistics:
    """What a hub holds now, and what has become of its readers so far.

    Attributes:
        channels: channels that are followed, with those that nobody reads at the moment.
        subscriptions: open subscriptions.
        frames: frames that are held for all readers together.
        bytes: how large those are.
        gaps: gaps that readers were told of, by reason: `evicted`, `reset`, `overflow`.
        skipped: events that were left out for newer ones of the same key (`LatestBy`).
        closed: subscriptions that were closed because their reader was too slow.
    """

    channels: int
    subscriptions: int
    frames: int
    bytes: int
    gaps: Mapping[str, int]
    skipped: int
    closed: int


class Hears(Protocol):
    """An open subscription, as the hub knows it."""

    def appeared(self, channel: str) -> None:
        """A channel has its first event here; it may be one that the subscription is for."""

    def relist(self) -> None:
        """Channels may have begun unheard."""

    def revoked(self, channel: str | None, reader: str | None) -> None:
        """Permissions have changed: of a reader, in a channel; `None` for any."""

    def disconnected(self, channel: str, reader: str | None) -> None:
        """A reader in a channel is to come back anew; `None` for all of them."""

    def left(self) -> None:
        """The hub is left."""

    def tick(self) -> None:
        """About a second has gone by."""


class Hub:
    """The channels of one engine, in one process and one event loop.

    Enter it, or hand its lifespan to the application:

        hub = Hub("redis://127.0.0.1")
        app = FastAPI(lifespan=hub.lifespan)

    Args:
        engine: the URL of one (`memory://`, `sqlite:///path`, `redis://host`, `nats://host`; see
            `engine_of` for their options), or an `Engine`.

    Raises:
        InvalidField: the URL is none of an engine.
        ImportError: its library is not installed; the message names the extra.
        EngineUnavailable: on entering, where the engine cannot be reached or used.
        UsageError: on entering, where it is entered already.

    When it is left, streams that are still open end with an error; a `Drain` that is entered inside
    ends them before.

    Limits: of each channel that is read here, or was in the last 10 s, 1024 frames are held, up to
        1 MiB, and at times twice as much; and where readers come back from further behind, up to 16
        pages of 256 KiB for 5 s.
    """

    def __init__(self, engine: str | Engine) -> None:
        self.engine = engine_of(engine) if isinstance(engine, str) else engine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = Context()  # nobody's: what is done here is for all readers
        self._channels: dict[str, LiveChannel] = {}
        self._prefixes: dict[str, set[Hears]] = {}
        self._subscriptions: set[Hears] = set()
        self._stand_in: StandIn | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._checked_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts: Counter[str] = Counter()

    @asynccontextmanager
    async def lifespan(self, _: object) -> AsyncGenerator[None, None]:
        """Be the lifespan of a Starlette or FastAPI application."""
        async with self:
            yield

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise UsageError("this hub is entered already; make one for each event loop")
        loop = self._loop = asyncio.get_running_loop()
        self._stand_in = StandIn(loop)
        try:
            await self.engine.start(self)
        except BaseException:
            self._loop = None
            raise
        self._checked_s = loop.time()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._let_go()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.engine.stop()
        finally:
            self._let_go()  # of who came meanwhile
            if self._stand_in is not None:
                self._stand_in.close()
            self._loop = None

    def _let_go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        channels = list(self._channels.values())
        self._channels.clear()
        for live in channels:
            live.close()
        for subscription in list(self._subscriptions):
            subscription.left()
        for task in list(self._tasks):
            task.cancel()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that it is entered in; raises `UsageError` where it is not entered."""
        if self._loop is None:
            raise UsageError(_NOT_ENTERED)
        return self._loop

    def check_entered(self) -> None:
        """Raise `UsageError` where the hub is not entered."""
        if self._loop is None:
            raise UsageError(_NOT_ENTERED)

    @property
    def stand_in(self) -> StandIn:
        """In whose name frames are sent without a task."""
        if self._stand_in is None:
            raise UsageError(_NOT_ENTERED)
        return self._stand_in

    def statistics(self) -> HubStatistics:
        """Return what the hub holds now, and what has become of its readers so far."""
        sizes = [live.size for live in self._channels.values()]
        return HubStatistics(
            channels=len(sizes),
            subscriptions=len(self._subscriptions),
            frames=sum(frames for frames, _ in sizes),
            bytes=sum(size for _, size in sizes),
            gaps={reason.value: self._counts[reason.value] for reason in GapReason},
            skipped=self._counts["skipped"],
            closed=self._counts["closed"],
        )

    async def health(self) -> Health:
        """Say how the engine is, for a readiness probe; raises nothing."""
        return await self.engine.health()

    # For subscriptions.

    def follow(self, channel: str) -> LiveChannel:
        """Return a channel as this process follows it."""
        live = self._channels.get(channel)
        if live is None:
            live = self._channels[channel] = LiveChannel(channel, self.engine, self.loop)
            live.idle_since_s = self.loop.time()
            live.synchronise()
            self._tick_soon()
        return live

    def count(self, what: str, by: int = 1) -> None:
        """Count a gap by its reason, or what `HubStatistics` has beside."""
        self._counts[what] += by

    def opened(self, subscription: Hears) -> None:
        """Tell a subscription what it has to hear."""
        self._subscriptions.add(subscription)
        self._tick_soon()

    def closed(self, subscription: Hears) -> None:
        """Tell it no more."""
        self._subscriptions.discard(subscription)

    async def watch_prefix(self, prefix: str, subscription: Hears) -> None:
        """Tell a subscription of channels that begin under a prefix."""
        self._prefixes.setdefault(prefix, set()).add(subscription)
        await self.engine.watch((prefix,))

    def unwatch_prefix(self, prefix: str, subscription: Hears) -> None:
        """Tell it no more."""
        subscriptions = self._prefixes.get(prefix, set())
        subscriptions.discard(subscription)
        if not subscriptions:
            self._prefixes.pop(prefix, None)
            if self._loop is not None:
                self._do(self._unwatch((prefix,)))

    # The engine's feed.

    def record(self, record: Record) -> None:
        """A record has come."""
        live = self._channels.get(record.channel)
        if live is not None:
            live.record(record)
        for prefix, subscriptions in list(self._prefixes.items()):
            if record.channel.startswith(prefix):
                for subscription in list(subscriptions):
                    subscription.appeared(record.channel)

    def lost(self, channels: Collection[str] | None) -> None:
        """Records may have come and gone unheard."""
        for name in list(self._channels) if channels is None else channels:
            live = self._channels.get(name)
            if live is not None:
                live.synchronise()
        if channels is None:
            self.signal("revoked", b"")  # one may have gone unheard, too
        if self._prefixes:
            self._relist()  # a channel may have begun

    def _relist(self) -> None:
        for subscriptions in list(self._prefixes.values()):
            for subscription in list(subscriptions):
                subscription.relist()

    def signal(self, topic: str, data: bytes) -> None:
        """A signal has come, of a channel and a reader there."""
        channel, _, reader = data.decode(errors="replace").partition("\n")
        if topic == "dropped" and channel in self._channels:
            self._channels[channel].synchronise()
        for subscription in list(self._subscriptions):
            if topic == "revoked":
                subscription.revoked(channel or None, reader or None)
            elif topic == "disconnected":
                subscription.disconnected(channel, reader or None)

    # The clock.

    def _tick_soon(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(_TICK_S, self._tick, context=self._context)

    def _tick(self) -> None:
        self._timer = None
        now_s = self.loop.time()
        idle = [
            name
            for name, live in self._channels.items()
            if not live.places and now_s - live.idle_since_s >= _LINGER_S
        ]
        for name in idle:
            self._channels.pop(name).close()
        if idle:
            self._do(self._unwatch(idle))
        for live in self._channels.values():
            live.tidy()
        for subscription in list(self._subscriptions):
            subscription.tick()
        if self.engine.caps.lossy_feed and now_s - self._checked_s >= _CHECK_EVERY_S:
            self._checked_s = now_s
            self._do(self._check())
            self._relist()
        if self._channels or self._subscriptions:
            self._tick_soon()

    async def _unwatch(self, names: Collection[str]) -> None:
        try:
            unread = [n for n in names if n not in self._channels and n not in self._prefixes]
            await self.engine.unwatch(unread)
        except EngineUnavailable:
            pass  # what is not watched when it is back is not watched again
        # Somebody may have come meanwhile, and been watching before this.
        for name in names:
            live = self._channels.get(name)
            if live is not None:
                live.synchronise()
            for subscription in list(self._prefixes.get(name, ())):
                subscription.relist()

    async def _check(self) -> None:
        """Compare each channel's end with the engine's: a lost last event shows by nothing else."""
        before = {name: live.end for name, live in self._channels.items() if live.is_live}
        try:
            tails = await self.engine.tails(list(before))
        except EngineUnavailable:
            return  # its feed will tell
        for (name, end), tail in zip(before.items(), tails, strict=True):
            live = self._channels.get(name)
            if live is not None and live.is_live and live.end == end and tail.cursor != end:
                live.synchronise()

    def _do(self, work: Coroutine[object, object, None]) -> None:
        # A context of its own: an eager task enters it at once, and the clock's is entered already.
        task = self.loop.create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
