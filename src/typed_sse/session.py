"""What a client makes of its stream, without its I/O: requests, typed events, states and errors.

Both shells of `client` hold a `Session`, and only carry its requests and its bytes. Knows typed
events and the control events; leaves time to `reconnect` and bytes to `wire`.
"""

import json as jsonlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Generic, Literal, NoReturn, TypeAlias, TypeVar, cast
from urllib.parse import urlencode, urlsplit

from pydantic import BaseModel, ValidationError
from typing_extensions import TypedDict, TypeForm

from typed_sse.control import ErrorInfo, GapInfo, StreamEnd, StreamError, StreamGap
from typed_sse.errors import (
    ConnectionFailed,
    InvalidField,
    Lagged,
    MalformedPayload,
    NotAStream,
    StreamFailed,
    TypedSSEError,
    UnknownEvent,
)
from typed_sse.events import BaseEvent, EventUnion, summary
from typed_sse.reconnect import (
    Connect,
    Reason,
    Reconnector,
    ReconnectPolicy,
    Stop,
    Wait,
    is_sendable,
)
from typed_sse.transport import Lost, Request, shown_url
from typed_sse.wire import DEFAULT_MAX_EVENT_BYTES, Decoder, ServerSentEvent, checked_id

logger = logging.getLogger("typed_sse")

START_BYTES = 2048
"""How much of an answer that is no stream is kept, to be shown."""

START_S = 5.0
"""How long that may take, before the error goes without it, in seconds."""

T = TypeVar("T")

Headers: TypeAlias = Mapping[str, str]
Unknown: TypeAlias = Literal["raise", "skip", "yield"]
Malformed: TypeAlias = Literal["raise", "skip"]

Scalar: TypeAlias = str | int | float | bool


@dataclass(frozen=True, slots=True)
class ClientState:
    """What a client is about, as its `on_state` hears it.

    Attributes:
        kind: `connecting`, `open`, `waiting` for the next attempt, or `closed`, after which
            nothing follows.
        reason: why it waits or is closed; `None` otherwise, and where the program has closed it.
        delay_s: how long it waits, in seconds.
        failures: how many connections in a row have brought nothing.
    """

    kind: Literal["connecting", "open", "waiting", "closed"]
    reason: Reason | None = None
    delay_s: float | None = None
    failures: int = 0


class Options(TypedDict, total=False):
    """What both clients take beside the URL and the events; described at `AsyncEventSource`."""

    method: str
    headers: Headers | Callable[[], Headers | Awaitable[Headers]]
    params: Mapping[str, Scalar]
    json: object
    content: bytes
    last_event_id: str
    malformed: Malformed
    terminal: Collection[str]
    sentinel: str
    policy: ReconnectPolicy
    max_event_bytes: int
    on_state: Callable[[ClientState], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`Options`, with the defaults filled in."""

    method: str | None = None
    headers: Headers | Callable[[], Headers | Awaitable[Headers]] | None = None
    params: Mapping[str, Scalar] | None = None
    json: object = None
    content: bytes | None = None
    last_event_id: str = ""
    malformed: Malformed = "raise"
    terminal: Collection[str] = ()
    sentinel: str | None = None
    policy: ReconnectPolicy = field(default_factory=ReconnectPolicy)
    max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES
    on_state: Callable[[ClientState], object] | None = None


class Skip(Enum):
    """What stands for an event that is not handed on."""

    SKIP = "skip"


SKIP: Final = Skip.SKIP

_CONTROLS: Mapping[str, type[BaseEvent[BaseModel]]] = {
    cls.event_name: cls for cls in (StreamEnd, StreamError, StreamGap)
}


class Session(Generic[T]):
    """One client's stream: what it sends, what it hands on, and how it ends.

    Args:
        url: absolute, `http` or `https`.
        classes: the events that the program knows, by name.
        decode: makes what is handed on of an event; a `ValueError` says that it cannot.
        unknown: what becomes of events outside the union.
        settings: the rest.

    Attributes:
        settings: the rest, as given.
        reconnector: the client's decisions.
        last_event_id: the last id that has come, up to the first event that was not handed on.
        stop: set once an event has come after which nothing follows.
        is_closed: whether the program has been told so.

    Raises:
        InvalidField: an option cannot be used.
    """

    def __init__(
        self,
        url: str,
        classes: Mapping[str, type[BaseEvent[object]]],
        decode: Callable[[ServerSentEvent], T],
        unknown: Unknown,
        settings: Settings,
    ) -> None:
        self.settings = settings
        self._url = _checked_url(url, settings.params)
        self._body, self._fixed = _body_of(settings)
        method = settings.method or ("GET" if self._body is None else "POST")
        self._method = method.upper()
        self._decode = decode
        self._unknown = _one_of("unknown", unknown, ("raise", "skip", "yield"))
        self._skips_malformed = (
            _one_of("malformed", settings.malformed, ("raise", "skip")) == "skip"
        )
        self._sentinel = settings.sentinel
        self.last_event_id = checked_id(settings.last_event_id)
        if not is_sendable(self.last_event_id):
            reason = "it cannot be in a header: control characters, or too long"
            raise InvalidField("last_event_id", self.last_event_id, reason)
        if isinstance(settings.terminal, str):
            raise InvalidField("terminal", settings.terminal, "give a collection of names")
        terminal = {name for name, cls in classes.items() if cls.terminal} | {*settings.terminal}
        sentinel = () if settings.sentinel is None else (settings.sentinel,)
        self.reconnector = Reconnector(
            settings.policy,
            method=self._method,
            last_event_id=self.last_event_id,
            # A sentinel is a last event too: before it, an end has come too early.
            terminal={*(terminal - _CONTROLS.keys()), *sentinel},
        )
        self._last: frozenset[str | None] = frozenset(
            (*terminal, StreamEnd.event_name, StreamError.event_name)
        )
        if "message" in terminal:
            self._last |= {None}
        # What the program has not asked for by a class of its union is told by errors.
        self._controls = _CONTROLS.keys() - classes.keys()
        self.stop: Stop | None = None
        self.is_closed = False
        self._ended: Stop | None = None
        self._lost: Lost | None = None
        self._refusal: NotAStream | None = None
        self.shown_url = shown_url(url)
        self.decoder()  # refuses a limit that is none

    def request(self, connect: Connect, headers: Headers) -> Request:
        """Return what to send; the program's headers win over ours, but for `Last-Event-ID`.

        Raises:
            InvalidField: a header's name or value is no `str`.
        """
        for name, value in cast("Mapping[object, object]", headers).items():
            if not isinstance(name, str) or not isinstance(value, str):
                kind = type(value).__name__  # not the value, which may be a secret
                raise InvalidField("headers", name, f"its value is of type {kind}; give a str")
        given = {name.lower(): value for name, value in headers.items()}
        own = {"last-event-id": connect.last_event_id} if connect.last_event_id else {}
        sent = {**self._fixed, **given, **own}
        return Request(self._method, self._url, tuple(sent.items()), self._body)

    def decoder(self) -> Decoder:
        """Return the decoder for the next connection."""
        return Decoder(
            max_event_bytes=self.settings.max_event_bytes,
            last_event_id=self.reconnector.last_event_id,
        )

    def note(self, message: ServerSentEvent) -> None:
        """Take an event for handed on, and see whether it is the last."""
        self.last_event_id = message.id or ""
        if message.event in self._last:
            self.stop = self.reconnector.event(message.event or "message")
        elif message.data == self._sentinel:
            self.stop = Stop("terminal", error=False)

    def take(self, message: ServerSentEvent) -> T | Skip:
        """Turn a received event into what the program is given, or `SKIP`.

        Raises:
            StreamFailed: it says that the stream has failed; `stop` is set.
            Lagged: it says that events are missing.
            UnknownEvent: its name is not in the union.
            MalformedPayload: its data does not fit.
        """
        self.note(message)
        if message.data == self._sentinel:
            return SKIP
        name = message.event or "message"
        try:
            if name in self._controls:
                return _told(name, message)
            return self._decode(message)
        except UnknownEvent:
            if self._unknown == "skip":
                return SKIP
            if self._unknown == "yield":
                return message  # type: ignore[return-value]  # pyright: ignore[reportReturnType]
            raise
        except MalformedPayload:
            if self._skips_malformed:
                return SKIP
            raise
        except ValueError as error:
            if self._skips_malformed and name not in self._controls:  # a gap is always told
                return SKIP
            raise MalformedPayload(name, _reason(error), message) from error

    def now(self, state: ClientState) -> None:
        """Tell the program what the client is about, and the log what went wrong."""
        if state.kind == "waiting":
            level = logging.INFO if state.failures < 2 else logging.WARNING
            text = "%s: %s; connecting again in %.1f s"
            logger.log(level, text, self.shown_url, state.reason, state.delay_s)
        if self.settings.on_state is not None:
            self.settings.on_state(state)

    def closed(self) -> None:
        """Tell the program, once, that nothing follows, and why."""
        if not self.is_closed:
            self.is_closed = True
            end = self.stop or self._ended
            self.now(ClientState("closed", end.reason if end else None))

    def refuse(self, url: str, status: int, headers: Headers, start: bytes) -> None:
        """Keep what an answer was that is no stream."""
        kind = headers.get("content-type", "")[:200]
        self._refusal = NotAStream(shown_url(url), status, kind, start[:START_BYTES])

    def lose(self, lost: Lost, now_s: float) -> Wait | Stop:
        """Keep how a connection was lost, and say what is to be done."""
        self._lost = lost
        if lost.futile:
            return Stop(lost.how, error=True)
        return self.reconnector.lost(lost.how, now_s)

    def error_of(self, stop: Stop) -> TypedSSEError | None:
        """Return the error that an end is for the program, or `None` for a good one."""
        self._ended = stop
        if not stop.error:
            return None
        if self._refusal is not None and stop.reason in ("status", "content-type"):
            return self._refusal
        lost = self._lost if self._lost is not None and self._lost.how == stop.reason else None
        error = ConnectionFailed(
            self.shown_url,
            stop.reason,
            self.reconnector.failures,
            self.reconnector.last_event_id,
            lost.detail if lost is not None else _DETAILS.get(stop.reason, stop.reason),
        )
        error.__cause__ = lost
        return error


_DETAILS: Mapping[Reason, str] = {
    "ended": "it ended before its last event",
    "unsendable-id": "its last id cannot be sent back in a header",
}


def session_of(
    url: str,
    events: object,
    decode: Callable[[ServerSentEvent], object] | None,
    unknown: Unknown,
    options: Options,
) -> Session[object]:
    """Return the session for the arguments of a client.

    Raises:
        InvalidField: an option cannot be used.
        InvalidDeclaration: the union is none.
    """
    settings = Settings(**options)
    if events is not None:
        if decode is not None:
            raise InvalidField("decode", decode, "give either events or decode, not both")
        union = (
            cast("EventUnion[BaseEvent[object]]", events)
            if isinstance(events, EventUnion)
            else EventUnion(cast("TypeForm[BaseEvent[object]]", events))
        )
        return Session(url, union.classes, union.decode, unknown, settings)
    if decode is not None:
        return Session(url, {}, decode, unknown, settings)
    return Session(url, _CONTROLS, lambda message: message, unknown, settings)


def waiting(wait: Wait) -> ClientState:
    """Return the state of a client that waits."""
    return ClientState("waiting", wait.reason, wait.delay_s, wait.failures)


def _told(name: str, message: ServerSentEvent) -> Skip:
    """Raise what a control event says; `stream.end` says nothing that is not known by its end."""
    if name == StreamEnd.event_name:
        return SKIP
    if name == StreamError.event_name:
        _raise_failure(message)
    gap = GapInfo.model_validate_json(message.data or "")
    raise Lagged(gap.channel, gap.reason, gap.asked, gap.first)


def _raise_failure(message: ServerSentEvent) -> NoReturn:
    try:
        info = ErrorInfo.model_validate_json(message.data or "")
    except ValidationError:  # it has failed all the same
        info = ErrorInfo()
    raise StreamFailed(info.code, info.message)


def _reason(error: ValueError) -> str:
    # Not its text, which repeats the data: that is in `received`.
    return summary(error) if isinstance(error, ValidationError) else type(error).__name__


def _checked_url(url: str, params: Mapping[str, Scalar] | None) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:  # whose text repeats the URL, with what is secret in it
        raise InvalidField("url", shown_url(url), "it cannot be read as a URL") from None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InvalidField("url", shown_url(url), "give an absolute one: http://… or https://…")
    if not params:
        return url
    given = {name: _parameter(value) for name, value in params.items()}
    query = "&".join(filter(None, (parts.query, urlencode(given))))
    return parts._replace(query=query).geturl()


def _parameter(value: Scalar) -> str:
    # As JSON has it, and as FastAPI reads it.
    return str(value).lower() if isinstance(value, bool) else str(value)


def _body_of(settings: Settings) -> tuple[bytes | None, dict[str, str]]:
    fixed = {"accept": "text/event-stream", "cache-control": "no-store"}
    if settings.json is None:
        return settings.content, fixed
    if settings.content is not None:
        raise InvalidField("content", settings.content, "give either json or content, not both")
    value = settings.json
    if isinstance(value, BaseModel):
        body = value.model_dump_json(by_alias=True).encode()
    else:
        try:
            body = jsonlib.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError) as error:
            raise InvalidField("json", value, f"cannot be written as JSON: {error}") from error
    return body, {**fixed, "content-type": "application/json"}


def _one_of(field: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise InvalidField(field, value, f"give one of {', '.join(known)}")
    return value
