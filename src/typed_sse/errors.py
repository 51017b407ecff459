"""Every error typed-sse raises; the tree tells whose fault it is.

Data sits in fields, the message is built from them: what was wrong, which limit, what to do next.
This file imports nothing of ours and knows nothing of how an error comes to be.

    TypedSSEError
    ├── UsageError (ValueError)     ours to mend: a bad argument, declaration or event
    │   ├── InvalidField            a value that the wire or the response cannot take
    │   ├── InvalidDeclaration      event classes that cannot form a stream
    │   ├── InvalidPayload          data that does not fit the type its event declares
    │   ├── UndeclaredEvent         a stream yielded something it never declared
    │   └── PayloadTooLarge         more than a channel takes in one event or one batch
    ├── PeerError                   theirs: what came over the wire
    │   ├── EventTooLarge           more bytes in one event than the decoder may hold
    │   ├── UnknownEvent            an event name outside the union
    │   ├── MalformedPayload        data that does not fit the type its event declares
    │   ├── NotAStream              an answer that is no event stream, or none that can be read
    │   └── StreamFailed            the stream itself says that it has failed
    ├── ClosedError                 what is over takes no more
    │   └── ChannelSealed           nothing follows the channel's last event
    ├── Conflict                    the channel's end is not where it was expected
    ├── AccessDenied                whoever reads may not, or may not any more
    ├── Lagged                      events that the reader cannot get any more
    └── BrokenError                 the connection failed under a stream
        ├── ConnectionFailed        a client has lost its stream, and does not come back
        ├── SendTimeout             the reader took nothing for too long
        ├── EngineUnavailable       the store of channels cannot be reached; nothing was done
        └── OutcomeUnknown          it broke while it was written to; nobody knows what was done
"""

import reprlib
from collections.abc import Iterable
from typing import Protocol

# Bounds depth and length, so that the value in a message costs nothing, however large it is.
_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 120


def shown(value: object) -> str:
    """Return `repr(value)`, cut to what is fit for a message."""
    try:
        return _short.repr(value)
    except ValueError:  # an int of more digits than Python writes out
        return f"<{type(value).__name__}>"


class TypedSSEError(Exception):
    """The root of every error that typed-sse raises by itself."""


class UsageError(TypedSSEError, ValueError):
    """The program that called typed-sse has to change."""


class InvalidField(UsageError):
    """A field or option has a value that cannot be used.

    Attributes:
        field: the name of the field or option.
        value: what was given.
        reason: what is wrong with it, and what to give instead.
    """

    def __init__(self, field: str, value: object, reason: str) -> None:
        self.field = field
        self.value = value
        self.reason = reason
        super().__init__(f"{field}={shown(value)}: {reason}")


class InvalidDeclaration(UsageError):
    """Event classes, or a generator's annotation, cannot form a stream.

    Attributes:
        subjects: the qualified names of the classes or functions at fault.
        reason: what is wrong, and what to write instead.
    """

    def __init__(self, subjects: Iterable[str], reason: str) -> None:
        self.subjects = tuple(subjects)
        self.reason = reason
        super().__init__(f"{', '.join(self.subjects)}: {reason}")


class InvalidPayload(UsageError):
    """An event was given data that does not fit its declared type.

    The validator's own error, with every detail, is the `__cause__`.

    Attributes:
        event_class: the qualified name of the event class.
        reason: what does not fit.
    """

    def __init__(self, event_class: str, reason: str) -> None:
        self.event_class = event_class
        self.reason = reason
        super().__init__(f"{event_class} got data that does not fit its payload type: {reason}")


class UndeclaredEvent(UsageError):
    """A stream yielded an object that its declaration does not name.

    Attributes:
        got: the qualified name of the object's class.
        expected: what the stream may carry.
    """

    def __init__(self, got: str, expected: Iterable[str]) -> None:
        self.got = got
        self.expected = tuple(expected)
        super().__init__(
            f"a stream of {', '.join(self.expected)} yielded an object of type {got}; "
            "yield a declared event, or add the class to the declaration"
        )


class PayloadTooLarge(UsageError):
    """More than a channel takes at once.

    Attributes:
        what: what there is too much of: `bytes in an event`, `events in a batch`.
        size: how much there is.
        limit: how much is taken.
    """

    def __init__(self, what: str, size: int, limit: int) -> None:
        self.what = what
        self.size = size
        self.limit = limit
        super().__init__(f"{size} {what}, and {limit} are the most; publish less at once")


class Received(Protocol):
    """An event as it came, before it was understood: a `ServerSentEvent`."""

    @property
    def data(self) -> str | None:
        """Its data, as sent."""
        ...

    @property
    def event(self) -> str | None:
        """Its name, if it has one."""
        ...

    @property
    def id(self) -> str | None:
        """The last id up to it."""
        ...


class PeerError(TypedSSEError):
    """The other side of the connection sent something that cannot be used."""


class EventTooLarge(PeerError):
    """One event holds more bytes than the decoder may keep.

    Attributes:
        limit_bytes: the decoder's `max_event_bytes`.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(
            f"an event is larger than max_event_bytes={limit_bytes}; "
            "close the connection, or raise the limit if such events are expected"
        )


class UnknownEvent(PeerError):
    """An event arrived under a name that the union does not have.

    Attributes:
        event_name: the name that arrived.
        known: the names of the union.
        received: the event, as it came.
    """

    def __init__(self, event_name: str, known: Iterable[str], received: Received) -> None:
        self.event_name = event_name
        self.known = tuple(known)
        self.received = received
        super().__init__(f"event {shown(event_name)} is none of {', '.join(self.known)}")


class MalformedPayload(PeerError):
    """An event arrived whose data does not fit the declared payload type.

    The validator's own error, with every detail, is the `__cause__`.

    Attributes:
        event_name: the event's name on the wire.
        reason: what does not fit, and where; it may repeat keys of the data, as they came.
        received: the event, as it came.
    """

    def __init__(self, event_name: str, reason: str, received: Received) -> None:
        self.event_name = event_name
        self.reason = reason
        self.received = received
        # It may name keys that the peer has sent.
        why = repr(reason)[1:-1][:300]
        super().__init__(f"event {shown(event_name)} carries data that does not fit: {why}")


class NotAStream(PeerError):
    """A URL was asked for an event stream, and answered something else.

    Attributes:
        url: what has answered, without user, password, query and fragment.
        status: the answer's status.
        content_type: its `Content-Type`, empty where there is none.
        start: the first bytes of its body, 2 KiB at the most.
    """

    def __init__(
        self, url: str, status: int, content_type: str, start: bytes, reason: str = ""
    ) -> None:
        self.url = url
        self.status = status
        self.content_type = content_type
        self.start = start
        kind = shown(content_type) if content_type else "no Content-Type"
        begins = f", and begins with {shown(start)}" if start else ""
        why = reason or f"it answers {status} with {kind}{begins}"
        super().__init__(f"{url} is no event stream: {why}")


class StreamFailed(PeerError):
    """A stream has failed on the server, which has said so with `stream.error`.

    Attributes:
        code: the server's word for it.
        message: the server's sentence for people.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"the stream failed on the server: {shown(message)} ({shown(code)})")


class BrokenError(TypedSSEError):
    """The connection under a stream failed."""


class ConnectionFailed(BrokenError):
    """A client has lost its stream, or never had it, and its policy is not to come back.

    Attributes:
        url: where the stream is, without user, password, query and fragment.
        reason: `unreachable`, `unanswered`, `cut`, `idle`, `ended` or `unsendable-id`; what they
            mean is said in `typed_sse.reconnect`.
        failures: how many connections in a row have brought nothing.
        last_event_id: behind which the stream could go on, `""` where there is no id.
    """

    def __init__(
        self, url: str, reason: str, failures: int, last_event_id: str, detail: str
    ) -> None:
        self.url = url
        self.reason = reason
        self.failures = failures
        self.last_event_id = last_event_id
        tries = "" if failures <= 1 else f" after {failures} attempts"
        super().__init__(f"the stream of {url} is lost{tries} ({reason}): {detail}")


class SendTimeout(BrokenError):
    """A reader took no bytes for `send_timeout` seconds, so its stream was closed.

    Attributes:
        limit_s: the response's `send_timeout`, in seconds.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        super().__init__(f"the reader took nothing for send_timeout={limit_s:g} s")


class EngineUnavailable(BrokenError):
    """The store of channels cannot be reached or used; nothing was done.

    Attributes:
        engine: where it was looked for, without a password.
        reason: what became of that.
    """

    def __init__(self, engine: str, reason: str) -> None:
        self.engine = engine
        self.reason = reason
        super().__init__(f"the engine {engine} is not available: {reason}; nothing was done")


class OutcomeUnknown(BrokenError):
    """The connection to the store failed after it was told to do something.

    It may have been done, or not. What is published with a `key` can be repeated safely, with the
    same one.

    Attributes:
        engine: where the store is, without a password.
        reason: what became of the connection.
    """

    def __init__(self, engine: str, reason: str) -> None:
        self.engine = engine
        self.reason = reason
        super().__init__(
            f"the engine {engine} may or may not have done it: {reason}; "
            "do it again, with the same key if it was given one"
        )


class ClosedError(TypedSSEError):
    """Something that is over was asked for more."""


class ChannelSealed(ClosedError):
    """A channel is sealed: nothing is published there any more.

    Attributes:
        channel: its name.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        super().__init__(f"the channel {shown(channel)} is sealed; nothing can follow")


class Conflict(TypedSSEError):
    """Somebody else has published in between.

    Attributes:
        channel: the channel's name.
        expected: the cursor that its end was expected at.
        found: the cursor of its end.
    """

    def __init__(self, channel: str, expected: str, found: str) -> None:
        self.channel = channel
        self.expected = expected
        self.found = found
        super().__init__(
            f"the channel {shown(channel)} ends at {found}, not at {expected}; read on, then decide"
        )


class AccessDenied(TypedSSEError):
    """A reader may not read a channel, or may not any more.

    Attributes:
        channel: the channel's name.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        super().__init__(f"the reader may not read the channel {shown(channel)}")


class Lagged(TypedSSEError):
    """A reader in this process was not given some events, and cannot get them any more.

    Reading on continues where `first` says.

    Attributes:
        channel: the channel's name.
        reason: `evicted`, `reset` or `overflow`.
        asked: the cursor that the reader was to continue from.
        first: the cursor that it continues from instead.
    """

    def __init__(self, channel: str, reason: str, asked: str | None, first: str | None) -> None:
        self.channel = channel
        self.reason = reason
        self.asked = asked
        self.first = first
        super().__init__(
            f"events of the channel {shown(channel)} are gone ({reason}); "
            "what follows comes after a gap: load the state anew"
        )
