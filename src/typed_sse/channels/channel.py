"""Channel: publish and subscribe, typed by a union of events.

What is published is written once, as a frame without an id, and read by any number. Knows names and
typed events; the hub and `Reading` know the rest.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, Literal, Self, TypeAlias, TypeVar, cast

from typing_extensions import TypeForm

from typed_sse.channels.cursor import Cursor, parsed
from typed_sse.channels.engine import MAX_CHANNEL_BYTES, Engine, Retain, check_append
from typed_sse.channels.gaps import OnGap, OnLag, Snapshot
from typed_sse.channels.hub import Hub
from typed_sse.channels.reading import Authorize, Target
from typed_sse.channels.subscription import Subscription
from typed_sse.errors import InvalidField
from typed_sse.events import BaseEvent, EventUnion
from typed_sse.wire import Decoder

E = TypeVar("E", bound=BaseEvent[object])

# What a name is made of: segments of these, with "/" between them.
_SEGMENT = r"[A-Za-z0-9_.~-]+"
_NAME = re.compile(rf"{_SEGMENT}(/{_SEGMENT})*")
_PARAMETER = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
_TWO_IN_ONE = re.compile(r"\}[^/]*\{")
_LONGEST_READER = 200
_LETTERS = "A-Z a-z 0-9 _ . ~ - in segments with / between them"


class LatestBy(Generic[E]):
    """What a slow reader of a channel gets: of all that it has missed, the newest of each key.

    Args:
        key: makes the key of an event: `LatestBy(lambda price: price.data.symbol)`.

    Limits: 10,000 keys, or 8 MiB of events; of more, the newest.
    """

    def __init__(self, key: Callable[[E], str]) -> None:
        self.key = key


LoadSnapshot: TypeAlias = Callable[[], Awaitable[tuple[Iterable[E], str]]]
"""Loads the state as events, and the cursor that it is as of: `await channel.tail()`, asked for
before the state is loaded."""


class Channel(Generic[E]):
    """A named, ordered log of typed events, with many readers on every worker.

        hub = Hub("redis://127.0.0.1")
        orders = Channel("orders/{order_id}", Placed | Shipped, hub=hub)

        await orders.at(order_id=7).publish(Shipped(...))

        @router.get("/orders/{order_id}/events")
        async def events(order_id: int, after: LastEventId) -> Subscription[Placed | Shipped]:
            return orders.at(order_id=order_id).subscribe(after=after)

    Args:
        name: segments of letters, digits, `_`, `.`, `~` and `-`, with `/` between them, 200 bytes
            at most. What is in braces is a parameter, which `at` fills in; one a segment, so that
            no two values make the same name.
        events: the events that it carries: a class or a union of classes.
        hub: whose engine stores it.
        retain: how much is kept for those who come back: the newest 1000 events, for a day, by
            default.
        on_gap: what a reader gets after the `stream.gap` that tells it of a gap: from the `oldest`
            event that is kept (the default); only what is new, from the `latest` on; the end of the
            stream (`close`); or what a `LoadSnapshot` returns, and what follows it.
        on_lag: what becomes of a reader that is more than 1024 events behind, or 1 MiB. Whatever is
            kept is read for it from the engine (`catch_up`, the default); or it skips to what the
            process still holds, and is told so (`drop_oldest`); or it gets the newest event of each
            key (`LatestBy`); or its stream is closed with a `retry`, and it resumes (`close`).

    Raises:
        InvalidField: the name has other characters, is too long, or has two parameters in one
            segment.
        InvalidDeclaration: the events cannot form a stream.

    Attributes:
        name: its name, parameters in braces where there are any.
        events: the union of what it carries.
    """

    def __init__(
        self,
        name: str,
        events: TypeForm[E],
        *,
        hub: Hub,
        retain: Retain = Retain(),  # noqa: B008  # frozen
        on_gap: "Literal['oldest', 'latest', 'close'] | LoadSnapshot[E]" = "oldest",
        on_lag: "Literal['catch_up', 'drop_oldest', 'close'] | LatestBy[E]" = "catch_up",
    ) -> None:
        self.name = name
        self.events: EventUnion[E] = EventUnion(events)
        self._hub = hub
        self._retain = retain
        self._on_gap: Literal["oldest", "latest", "close"] | LoadSnapshot[E] = on_gap
        self._on_lag: Literal["catch_up", "drop_oldest", "close"] | LatestBy[E] = on_lag
        self._skips: OnGap = self._gap_policy()
        self._conflates: OnLag = self._lag_policy()
        self._matches = self._pattern()
        self._parameters = frozenset(_PARAMETER.findall(name))
        _check_name(_PARAMETER.sub("x", name) if self._parameters else name)
        if _TWO_IN_ONE.search(name):
            raise InvalidField("name", name, "give each parameter a segment of its own")

    def __repr__(self) -> str:
        return f"Channel({self.name!r}, {self.events!r})"

    def at(self, **parameters: str | int) -> Self:
        """Return the channel of these parameters.

        Raises:
            InvalidField: a parameter is missing, or not in the name; or a value has characters that
                no segment has, or makes the name too long.
        """
        for parameter in {*parameters} ^ self._parameters:
            wanted = ", ".join(sorted(self._parameters)) or "none"
            raise InvalidField(
                parameter, parameters.get(parameter), f"the channel's parameters are: {wanted}"
            )
        for parameter, value in parameters.items():
            if not re.fullmatch(_SEGMENT, str(value)):
                raise InvalidField(parameter, value, f"give {_LETTERS.partition(' in ')[0]}")
        name = _PARAMETER.sub(lambda match: str(parameters[match[1]]), self.name)
        _check_name(name)
        channel = type(self).__new__(type(self))
        channel.__dict__.update(self.__dict__, name=name, _parameters=frozenset())
        return channel

    async def publish(
        self,
        *events: E,
        key: str | None = None,
        expect: str | None = None,
    ) -> str:
        """Publish events, all or none, and return the cursor of the last one.

        When this returns, they are in the log: whoever resumes gets them, and what they outlive is
        what the engine promises (`hub.engine.caps.durability`).

        Args:
            events: at least one, at most 1000.
            key: a name for this call. The same one again, within 5 minutes and from whatever
                process, publishes nothing and returns the same cursor: so a call whose outcome is
                not known can be repeated.
            expect: the cursor that the channel must end at, as `tail` or a former `publish` has
                returned it; otherwise nothing is published.

        Raises:
            UndeclaredEvent: an event is not in the channel's union.
            InvalidField: an event has an `id`, which is the channel's to give; or no event, a bad
                `key`, or an `expect` that is no cursor.
            PayloadTooLarge: an event is larger than the engine takes (1 MiB, or a little less on
                NATS), or all together, or there are too many.
            ChannelSealed: it is sealed.
            Conflict: it does not end at `expect`.
            EngineUnavailable: the engine is away; nothing was published.
            OutcomeUnknown: the connection broke in between; publish again with the same `key`.

        Ordering: calls that follow one another, each awaited, are in that order. Of calls at the
            same time, the order is the engine's.
        """
        return await self._append(events, key, expect, seal=False)

    async def seal(self, *events: E, key: str | None = None) -> str:
        """Publish the last events, if any, and seal the channel, in one; return its last cursor.

        Readers get what is left and the end of the stream. Raises what `publish` raises.
        """
        return await self._append(events, key, None, seal=True)

    def subscribe(
        self,
        after: str | None = None,
        *,
        reader: str | None = None,
        authorize: Authorize | None = None,
    ) -> Subscription[E]:
        """Return what is published from now on, or behind a place, as an event stream.

        `latest` is what is there when the stream is first read, not when this is called.

        Args:
            after: what a client has sent: the last id it has seen, from this subscription or one
                to several channels. Or where to start: `latest` (as `None`, the default),
                `earliest`, or `-50` for the newest 50, 10,000 at most. A cursor that is none of
                this channel's is a gap, not an error.
            reader: whose subscription it is, for `revoke` and `disconnect`; 200 bytes at most.
            authorize: says whether the reader may read the channel of a name. It is asked when the
                stream starts, which answers 403 where it says no; and again when permissions are
                revoked, or that may have gone unheard.

        Raises:
            InvalidField: the name has parameters that are not filled in, or `reader` is empty or
                too long.
        """
        self._check_filled_in()
        return self._subscription(self.name, after, reader, authorize)

    def subscribe_all(
        self,
        after: str | None = None,
        *,
        reader: str | None = None,
        authorize: Authorize | None = None,
    ) -> Subscription[E]:
        """Return the events of every channel of this name, whatever its parameters, as one stream.

        Channels that begin later are in it from their first event on. `authorize` is asked for each
        of them, and one that the reader may not read ends the stream. The arguments are those of
        `subscribe`; the place where to start is that in each channel.

        Raises:
            InvalidField: the name has no parameters, or begins with one.

        Limits: 64 channels, and 16,383 of any kind under the name's first segments; where there are
            more, the stream fails with `PayloadTooLarge`.
        """
        prefix, brace, _ = self.name.partition("{")
        if not brace or not prefix.endswith("/"):
            raise InvalidField("name", self.name, "needs a parameter behind a first segment")
        return self._subscription(prefix, after, reader, authorize)

    async def tail(self) -> str:
        """Return the cursor of the last event: for who loads a state, and then subscribes.

        Raises:
            EngineUnavailable: the engine is away.
        """
        self._check_filled_in()
        (tail,) = await self._engine().tails((self.name,))
        return str(tail.cursor)

    async def revoke(self, reader: str | None = None) -> None:
        """Tell every worker that a reader's permissions have changed; of all readers by default.

        Their streams ask `authorize` again, and end where it says no. The streams of a `reader`
        that have no `authorize` end. Sent at most once: a worker that cannot hear it asks again
        when its engine is back.

        Raises:
            EngineUnavailable: the engine is away.
            OutcomeUnknown: it may have been sent; do it again.
        """
        await self._signal("revoked", reader)

    async def disconnect(self, reader: str | None = None) -> None:
        """End a reader's streams of this channel, on every worker, with a `retry`; or all streams.

        Whoever reads comes back by itself, is asked for its permissions as at first, and resumes.
        Sent at most once.

        Raises:
            EngineUnavailable: the engine is away.
            OutcomeUnknown: it may have been sent; do it again.
        """
        await self._signal("disconnected", reader)

    async def drop(self) -> None:
        """Remove the channel and all its events. Whoever resumes is told of a gap.

        Raises:
            EngineUnavailable: the engine is away.
            OutcomeUnknown: it may have been done; do it again.
        """
        self._check_filled_in()
        await self._engine().drop(self.name)
        await self._signal("dropped")

    async def _signal(self, topic: str, reader: str | None = None) -> None:
        self._check_filled_in()
        _check_reader(reader)
        await self._engine().signal(topic, f"{self.name}\n{reader or ''}".encode())

    async def _append(
        self, events: Sequence[E], key: str | None, expect: str | None, *, seal: bool
    ) -> str:
        self._check_filled_in()
        bodies: list[bytes] = []
        for event in events:
            self.events.check(event)
            if event.id is not None:
                reason = "the channel gives the ids; publish the event without one"
                raise InvalidField("id", event.id, reason)
            bodies.append(event.encode())
        expected = None if expect is None else _cursor("expect", expect)
        engine = self._engine()
        check_append(engine.caps, bodies, key, seal=seal)
        appended = await engine.append(
            self.name, bodies, retain=self._retain, key=key, expect=expected, seal=seal
        )
        return str(appended.last)

    def _subscription(
        self, name: str, after: str | None, reader: str | None, authorize: Authorize | None
    ) -> Subscription[E]:
        _check_reader(reader)
        target = Target(
            name, after, self._skips, self._conflates, self._retain.age_s, self._matches
        )
        events = cast("EventUnion[BaseEvent[object]]", self.events)
        return Subscription(self._hub, (target,), events, reader, authorize)

    def _gap_policy(self) -> OnGap:
        load = self._on_gap
        if not callable(load):
            return load

        async def frames() -> tuple[Sequence[bytes], str]:
            events, cursor = await load()
            return [self.events.encode(event) for event in events], cursor

        snapshot: Snapshot = frames
        return snapshot

    def _lag_policy(self) -> OnLag:
        policy = self._on_lag
        if not isinstance(policy, LatestBy):
            return policy

        def key_of(body: bytes) -> str:
            (received,) = Decoder().feed(body)
            return policy.key(self.events.decode(received))

        return key_of

    def _pattern(self) -> Callable[[str], bool]:
        pattern = re.compile(
            "".join(
                _SEGMENT if _PARAMETER.fullmatch(part) else re.escape(part)
                for part in re.split(r"(\{[a-z_][a-z0-9_]*\})", self.name)
            )
        )
        return lambda name: pattern.fullmatch(name) is not None

    def _engine(self) -> Engine:
        self._hub.check_entered()
        return self._hub.engine

    def _check_filled_in(self) -> None:
        for parameter in sorted(self._parameters):
            raise InvalidField("name", self.name, f"fill in its parameters: .at({parameter}=…)")


def _cursor(field: str, text: str) -> Cursor:
    cursor = parsed(text)
    if not isinstance(cursor, Cursor):
        raise InvalidField(field, text, "give the cursor of one channel")
    return cursor


def _check_reader(reader: str | None) -> None:
    if reader is not None and not 0 < len(reader.encode(errors="replace")) <= _LONGEST_READER:
        raise InvalidField("reader", reader, f"give 1 to {_LONGEST_READER} bytes")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidField("name", name, f"give {_LETTERS}")
    if len(name) > MAX_CHANNEL_BYTES:
        raise InvalidField("name", name, f"give at most {MAX_CHANNEL_BYTES} bytes")
