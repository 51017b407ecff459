"""The registry: which streams are open, what they have sent, and how those before them ended.

Counts and hands out; decides nothing. Knows the loop's clock, nothing of HTTP or of frames.
"""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

logger = logging.getLogger("typed_sse")

_LONGEST_PATH = 200


class EndCause(StrEnum):
    """Why a stream has ended."""

    COMPLETE = "complete"
    """Its source has come to its end."""
    CLIENT_LEFT = "client_left"
    """The reader has closed the connection."""
    FAILED = "failed"
    """Its source, its data sender or the server's own send has raised an error."""
    SEND_TIMEOUT = "send_timeout"
    """The reader took nothing for `send_timeout` seconds."""
    DRAINED = "drained"
    """The server shuts down."""
    LIFETIME = "lifetime"
    """It was open for `max_lifetime` seconds."""
    CANCELLED = "cancelled"
    """The request's task was cancelled, or the source has raised `CancelledError`."""


@dataclass(slots=True, eq=False)
class StreamRecord:
    """One stream, open or just ended.

    Attributes:
        path: the path that was asked for, decoded, at most 200 characters.
        route: the path template of its route (`/orders/{id}`), or "" where none is known.
        method: the HTTP method.
        opened_at: the loop's time when it was opened, in seconds.
        events: events that were sent.
        bytes: bytes of the body that were sent, keep-alives included.
        dropped: events that were taken from the source and could not be sent any more. What a
            sync generator or a merge had ready beside them is not known.
        last_send_at: the loop's time after the last send, in seconds; `None` before the first.
    """

    path: str
    route: str = ""
    method: str = "GET"
    opened_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    events: int = 0
    bytes: int = 0
    dropped: int = 0
    last_send_at: float | None = None

    def __post_init__(self) -> None:
        self.path = self.path[:_LONGEST_PATH]


@dataclass(frozen=True, slots=True)
class StreamStatistics:
    """What one open stream has done so far.

    Attributes:
        path: the path that was asked for, at most 200 characters; a client chose it.
        route: the path template of its route, or "" where none is known.
        method: the HTTP method.
        age_s: seconds since it was opened.
        events: events that were sent.
        bytes: bytes of the body that were sent, keep-alives included.
        dropped: events that were taken from the source and could not be sent any more.
        idle_s: seconds since the last send; `None` before the first.
    """

    path: str
    route: str
    method: str
    age_s: float
    events: int
    bytes: int
    dropped: int
    idle_s: float | None


@dataclass(frozen=True, slots=True)
class Totals:
    """What all streams of a registry have done together, those that are open included.

    Attributes:
        opened: streams that were opened.
        refused: streams that a limit has refused.
        ended: how many have ended by each cause; every cause is there.
        events: events that were sent.
        bytes: bytes of bodies that were sent.
        dropped: events that were taken from a source and could not be sent any more.
    """

    opened: int
    refused: int
    ended: Mapping[EndCause, int]
    events: int
    bytes: int
    dropped: int


class StreamObserver(Protocol):
    """Hears of each stream as it opens and ends, in the task of its request.

    What it raises is logged and goes no further.
    """

    def opened(self, stream: StreamRecord) -> None:
        """A stream is open."""

    def ended(self, stream: StreamRecord, cause: EndCause, error: BaseException | None) -> None:
        """A stream has ended; its source is closed. `error` is set where the cause is one."""


class Registry:
    """The open streams of one process, and totals of all that there were.

    Every `EventSourceResponse` is in `process_registry` unless it is given another.
    Streams are added and removed in their event loop's thread; totals may be read from any.

    Invariants:
    1. A stream's figures are in `_open` or in the sums, never in both and never in neither, for
       whoever holds `_lock`.

    At the end of each stream one line is logged at INFO level to the logger `typed_sse`: `stream
    ended`, its figures as `key=value`, and the same as a dict in the record's attribute `stream`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[StreamRecord, None] = {}  # a set that keeps its order
        self._observers: list[StreamObserver] = []
        self._opened = self._refused = 0
        self._events = self._bytes = self._dropped = 0
        self._ended: Counter[EndCause] = Counter()

    def open_streams(self) -> list[StreamStatistics]:
        """Return what each open stream has done so far, the oldest first; call it in their loop."""
        now = asyncio.get_running_loop().time()
        return [
            StreamStatistics(
                path=stream.path,
                route=stream.route,
                method=stream.method,
                age_s=now - stream.opened_at,
                events=stream.events,
                bytes=stream.bytes,
                dropped=stream.dropped,
                idle_s=None if stream.last_send_at is None else now - stream.last_send_at,
            )
            for stream in self._open
        ]

    def open_by_route(self) -> Mapping[str, int]:
        """Return how many streams are open on each route."""
        with self._lock:
            return Counter(stream.route for stream in self._open)

    def totals(self) -> Totals:
        """Return what all streams together have done so far."""
        with self._lock:
            return Totals(
                opened=self._opened,
                refused=self._refused,
                ended={cause: self._ended[cause] for cause in EndCause},
                events=self._events + sum(stream.events for stream in self._open),
                bytes=self._bytes + sum(stream.bytes for stream in self._open),
                dropped=self._dropped + sum(stream.dropped for stream in self._open),
            )

    def observe(self, observer: StreamObserver) -> None:
        """Tell `observer` of every stream from now on."""
        self._observers.append(observer)

    def add(self, stream: StreamRecord) -> None:
        """Count a stream that opens."""
        with self._lock:
            self._opened += 1
            self._open[stream] = None
        for observer in self._observers:
            try:
                observer.opened(stream)
            except Exception:
                logger.exception("an observer of streams failed")

    def refuse(self) -> None:
        """Count a stream that a limit has refused."""
        with self._lock:
            self._refused += 1

    def remove(self, stream: StreamRecord, cause: EndCause, error: BaseException | None) -> None:
        """Count a stream that has ended, and say so."""
        with self._lock:
            del self._open[stream]
            self._ended[cause] += 1
            self._events += stream.events
            self._bytes += stream.bytes
            self._dropped += stream.dropped
        for observer in self._observers:
            try:
                observer.ended(stream, cause, error)
            except Exception:
                logger.exception("an observer of streams failed")
        _log(stream, cause, error)


def _log(stream: StreamRecord, cause: EndCause, error: BaseException | None) -> None:
    if not logger.isEnabledFor(logging.INFO):
        return
    figures: dict[str, object] = {
        "method": stream.method,
        "path": stream.path,
        "route": stream.route,
        "cause": cause.value,
        "age_s": round(asyncio.get_running_loop().time() - stream.opened_at, 3),
        "events": stream.events,
        "bytes": stream.bytes,
        "dropped": stream.dropped,
        "error": None if error is None else type(error).__qualname__,
    }
    # `ascii` quotes and escapes: a path that a client made up cannot forge a line.
    words = " ".join(
        f"{key}={ascii(value) if isinstance(value, str) else value}"
        for key, value in figures.items()
    )
    logger.info("stream ended %s", words, extra={"stream": figures})


process_registry = Registry()
"""The registry of this process."""
