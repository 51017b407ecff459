"""When a client connects, how long it waits, and when it stops: its decisions, without its I/O.

A client tells what has happened, and is told what to do; it has no counter and no formula of its
own. Where the standard decides, this does what it says; what the standard leaves open is a field of
`ReconnectPolicy`. The TypeScript client has the same decisions, and both pass the same table,
`conformance/reconnect.json`. Knows the standard library alone, and no clock.

Source: WHATWG HTML, "Server-sent events", sections 9.2.2 and 9.2.3 (connecting and reconnecting).
"""

import random as randoms
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Literal, TypeAlias

from typed_sse.errors import InvalidField

LONGEST_WAIT_S = 3600.0
"""What a server asks for beyond an hour is taken for an hour."""

LONGEST_SILENCE_S = 86_400.0
"""A server that announces a longer limit is taken to mean a day: timers do not hold any number."""

MAX_ID_BYTES = 8192
"""The longest id that is sent back, in UTF-8; servers take no longer headers."""

Repeat: TypeAlias = Literal["always", "resume", "unsent"]
"""When a request is sent again. `always`: whenever the connection is lost or ends. `resume`: once
the server may have begun to work on it, only with a last event id, behind which it goes on.
`unsent`: only while the server cannot have begun: it was not reached, or has put it off."""

Loss: TypeAlias = Literal["unreachable", "unanswered", "cut", "idle"]
"""How a connection was lost. `unreachable`: nothing was sent. `unanswered`: the request was sent,
and no answer came, or not in time. `cut`: in the middle. `idle`: nothing came for too long."""

Reason: TypeAlias = Literal[
    Loss,
    "ended",
    "status",
    "content-type",
    "no-content",
    "terminal",
    "stream.end",
    "stream.error",
    "unsendable-id",
]
"""Why a client waits or stops: a `Loss`, or: the body has `ended` properly; the answer's `status`
or `content-type` is none of a stream; it was 204, `no-content`; an event that was declared
`terminal` has come, or `stream.end`, or `stream.error`; the last id cannot be in a header."""

PUT_OFF = frozenset((408, 425, 429, 503))
"""By these the server says itself that it has not begun to work on the request."""
_CONTENT_TYPE = "text/event-stream"
# The only form in which a date may be sent (RFC 9110, 5.6.7).
_DATE = re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}(?::[0-9]{2}){2} GMT")
# What strips a header's value; `strip()` alone would take what Unicode calls white as well.
_HTTP_SPACE = " \t"
# A lone surrogate has no UTF-8.
_NOT_IN_HEADER = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "QUERY"))
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectPolicy:
    """What the standard leaves to the client.

    The n-th wait in a row doubles the one before, up to `max_delay_s`, and up to half of it again
    is added at random, so that readers that lost the same server do not come back together. An
    event, or a connection that was open for `settled_after_s`, is progress: the next wait is the
    first again.

    Attributes:
        base_delay_s: the first wait where the server has sent no `retry`: 1 second.
        max_delay_s: what a wait grows to: 30 seconds. What the server asks for may be longer.
        jitter: how much of a wait, the server's too, is added at random at the most: half of it.
        max_attempts: how many connections may fail in a row; `None`, the default, for no limit.
        settled_after_s: how long a connection without an event is open to count as one that works.
        answer_within_s: how long the answer's head may take: 60 seconds; `None` for no limit.
        idle_limit_s: how long nothing may come, not even a keep-alive. `None`, the default: as long
            as the server announces in `Stream-Idle-Limit`, and without limit where it does not.
        retry_statuses: the statuses that are worth another attempt, after the `Retry-After` that
            comes with them. All others but 200 and 204 end the stream.
        repeat: when the request is sent again; `None`, the default, is `always` for a safe method
            and `unsent` for all others, as POST.

    Raises:
        InvalidField: a number is negative, more than an hour, or for the two limits on silence
            more than a day; `max_attempts` is below 1, or `repeat` none of its words.
    """

    base_delay_s: float = 1.0
    max_delay_s: float = 30.0
    jitter: float = 0.5
    max_attempts: int | None = None
    settled_after_s: float = 10.0
    answer_within_s: float | None = 60.0
    idle_limit_s: float | None = None
    retry_statuses: frozenset[int] = frozenset((408, 425, 429, 502, 503, 504))
    repeat: Repeat | None = None

    def __post_init__(self) -> None:
        for name in ("base_delay_s", "max_delay_s", "jitter", "settled_after_s"):
            value = getattr(self, name)
            if not 0 <= value <= LONGEST_WAIT_S:
                raise InvalidField(name, value, f"give 0 to {LONGEST_WAIT_S:g}")
        for name in ("answer_within_s", "idle_limit_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= LONGEST_SILENCE_S:
                reason = f"give more than 0 and up to {LONGEST_SILENCE_S:g} seconds, or None"
                raise InvalidField(name, value, reason)
        if self.max_attempts is not None and self.max_attempts < 1:
            raise InvalidField("max_attempts", self.max_attempts, "give 1 or more, or None")
        if self.repeat not in (None, "always", "resume", "unsent"):
            raise InvalidField("repeat", self.repeat, "give always, resume, unsent or None")


@dataclass(frozen=True, slots=True)
class Connect:
    """Send the request, with this `Last-Event-ID` unless it is empty."""

    last_event_id: str
    answer_within_s: float | None


@dataclass(frozen=True, slots=True)
class Read:
    """Read the body; where nothing comes for `idle_s`, the connection is lost as `idle`."""

    idle_s: float | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Close the connection, wait so many seconds, then connect; `failures` in a row so far."""

    delay_s: float
    reason: Reason
    failures: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Close the connection and do not come back; `error` says that it is not a good end."""

    reason: Reason
    error: bool


class Reconnector:
    """The decisions of one client, from its first connection to the last.

    Call `connect`, and do what is said; then tell what has come of it by `responded` or `lost`;
    while the body is read, tell `received` and `event`; at its end, `ended` or `lost`.

    Args:
        policy: what the standard leaves open.
        method: the request's.
        last_event_id: the id to begin behind; `""` for none.
        terminal: names of events after which nothing follows.
        random: gives the next number from 0 up to 1.

    Attributes:
        last_event_id: what the next connection resumes behind.
        failures: how many connections have failed since the last event.

    Invariants:
    1. `failures` is 0 after an event, and grows by one with each `Wait`.
    2. `retry_s` is the server's last `retry`, and outlives the connection.
    """

    def __init__(
        self,
        policy: ReconnectPolicy,
        *,
        method: str = "GET",
        last_event_id: str = "",
        terminal: Collection[str] = (),
        random: Callable[[], float] = randoms.random,
    ) -> None:
        safe = method.upper() in _SAFE_METHODS
        self.last_event_id = last_event_id
        self.failures = 0
        self._policy = policy
        self._repeat: Repeat = policy.repeat or ("always" if safe else "unsent")
        self._terminal = frozenset(terminal)
        self._random = random
        self._retry_s: float | None = None
        self._open_since_s: float | None = None

    def connect(self) -> Connect | Stop:
        """Say what to send."""
        self._open_since_s = None
        if not is_sendable(self.last_event_id):
            return Stop("unsendable-id", error=True)
        return Connect(self._resumed_id(), self._policy.answer_within_s)

    def responded(
        self, status: int, headers: Mapping[str, str], now_s: float
    ) -> Read | Wait | Stop:
        """Take the answer's head; the names of `headers` are in lower case."""
        if status == 200:
            if not _is_stream(headers):
                return Stop("content-type", error=True)
            self._open_since_s = now_s
            return Read(self._policy.idle_limit_s or _announced_idle_s(headers))
        if status == 204:
            return Stop("no-content", error=False)
        if status not in self._policy.retry_statuses:
            return Stop("status", error=True)
        return self._again("status", status in PUT_OFF, at_least_s=_retry_after_s(headers))

    def received(self, events: int, last_event_id: str, retry_ms: int | None) -> None:
        """Take what bytes have brought: so many events, the last id and `retry` of all so far."""
        if events:
            self.failures = 0
        self.last_event_id = last_event_id
        if retry_ms is not None:
            self._retry_s = retry_ms / 1000

    def event(self, name: str) -> Stop | None:
        """Take an event's name; what follows one that is the last is not read."""
        if name == "stream.error":
            return Stop("stream.error", error=True)
        if name == "stream.end":
            return Stop("stream.end", error=False)
        return Stop("terminal", error=False) if name in self._terminal else None

    def ended(self, now_s: float) -> Wait | Stop:
        """Take the proper end of the body."""
        self._settle(now_s)
        if self.may_repeat():
            return self._again("ended", unsent=False)
        # Where a last event is declared and has not come, the end has come too early.
        return Stop("ended", error=bool(self._terminal))

    def lost(self, how: Loss, now_s: float) -> Wait | Stop:
        """Take the loss of the connection, at whatever point of it."""
        self._settle(now_s)
        return self._again(how, unsent=how == "unreachable")

    def _settle(self, now_s: float) -> None:
        opened_s = self._open_since_s
        if opened_s is not None and now_s - opened_s >= self._policy.settled_after_s:
            self.failures = 0

    def may_repeat(self, *, unsent: bool = False) -> bool:
        """Whether the request would be sent again if the connection were lost now, attempts aside.

        Args:
            unsent: whether the server cannot have begun to work on it.
        """
        if unsent or self._repeat == "always":
            return True
        return self._repeat == "resume" and self._resumed_id() != ""

    def _resumed_id(self) -> str:
        # HTTP takes the space around a header's value off; an id of space alone is none.
        return self.last_event_id.strip(_HTTP_SPACE)

    def _again(self, reason: Reason, unsent: bool, at_least_s: float = 0.0) -> Wait | Stop:
        self.failures += 1
        limit = self._policy.max_attempts
        if (limit is not None and self.failures >= limit) or not self.may_repeat(unsent=unsent):
            return Stop(reason, error=True)
        delay_s = max(self._delay_s(), at_least_s) * (1 + self._policy.jitter * self._random())
        return Wait(min(delay_s, LONGEST_WAIT_S), reason, self.failures)

    def _delay_s(self) -> float:
        policy = self._policy
        first_s = policy.base_delay_s if self._retry_s is None else self._retry_s
        grown_s = first_s
        if self.failures > 1:
            # From our own delay at the least: a `retry: 0` is for those who come back once.
            start_s = max(first_s, policy.base_delay_s)
            grown_s = min(start_s * 2.0 ** min(self.failures - 1, 30), policy.max_delay_s)
        return max(grown_s, first_s)


def is_sendable(id: str) -> bool:
    """Whether an id can be in a header: it has UTF-8, no control character, and is not too long."""
    return _NOT_IN_HEADER.search(id) is None and len(id.encode("utf-8")) <= MAX_ID_BYTES


def _value(headers: Mapping[str, str], name: str) -> str:
    return headers.get(name, "").strip(_HTTP_SPACE)


def _is_stream(headers: Mapping[str, str]) -> bool:
    # Of several types the last counts, as in Fetch; a comma in quotes does not part them.
    last = _QUOTED.sub('""', _value(headers, "content-type")).rpartition(",")[2]
    return last.partition(";")[0].strip(_HTTP_SPACE).lower() == _CONTENT_TYPE


def _announced_idle_s(headers: Mapping[str, str]) -> float | None:
    announced = _value(headers, "stream-idle-limit")
    if not _SECONDS.fullmatch(announced):
        return None
    return min(float(announced), LONGEST_SILENCE_S) or None


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Return what `Retry-After` asks for; a date counts from the answer's own `Date`."""
    asked = _value(headers, "retry-after")
    if _SECONDS.fullmatch(asked):
        return float(asked)
    wanted, sent = _date(asked), _date(_value(headers, "date"))
    if wanted is None or sent is None:
        return 0.0
    return (wanted - sent).total_seconds()


def _date(text: str) -> datetime | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        date = parsedate_to_datetime(text)
    except ValueError:  # a day or a time of day that there is not
        return None
    # What comes back otherwise was read otherwise than it is written: a year of two digits.
    return date if format_datetime(date, usegmt=True) == text else None
