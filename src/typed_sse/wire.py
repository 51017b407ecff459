r"""Bytes <-> ServerSentEvent: the encoder and the incremental decoder.

The only file that knows what a newline means. It knows nothing of time, tasks or Pydantic, and uses
the standard library alone.

Source: WHATWG HTML, "Server-sent events", sections 9.2.5 (parsing) and 9.2.6 (interpreting).

Two facts carry the whole decoder. CR, LF and ":" are ASCII, and no UTF-8 sequence, whole or broken,
contains or swallows an ASCII byte: so finished events may be cut off as bytes, and decoded
afterwards. And a blank line ends an event: so once every line end is an LF, events are what stands
between `\n\n`.
"""

import json
import re
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Protocol, cast, runtime_checkable
from uuid import UUID

from typed_sse.errors import EventTooLarge, InvalidField

DEFAULT_MAX_EVENT_BYTES = 16 * 1024 * 1024
"""What a `Decoder` holds of one event by default: 16 MiB."""

_BOM = b"\xef\xbb\xbf"
_NOT_IN_EVENT = re.compile("[\r\n\ud800-\udfff]")
_NOT_IN_ID = re.compile("[\0\r\n\ud800-\udfff]")
_LF, _CR = b"\n\r"
_LONE_CR = re.compile(b"\r(?!\n)")
_FIELDS = frozenset(("data", "event", "id", "retry"))
# Bytes from which on copying a line costs more than to avoid it.
_LONG = 4096
_A_STR = "give a str"
# Enough for 31,000 years in milliseconds, and far below the length at which int() refuses.
_MAX_RETRY_DIGITS = 15


@dataclass(frozen=True, slots=True, init=False)
class ServerSentEvent:
    """One record on the wire, to send or as received.

    Every field is checked at construction, so that `encode` cannot fail half way through a stream.
    A value with a forbidden character is refused, never stripped.

    Args:
        data: the payload. A `str` goes as it is, a line of its own for each of its lines. Anything
            else is written as one line of compact JSON: what `json` takes, and in it Pydantic
            models, dataclasses, sets, enums, dates, times, decimals, paths and UUIDs. `""`
            dispatches an empty string; `None` sends no `data`, and readers then dispatch nothing.
        event: the event's name. `None` (the default) leaves it out, and readers say `message`.
        id: the resume point that the reader sends back as `Last-Event-ID`; an `int` is written in
            decimal. It sticks in the reader until another one comes; `""` takes it back.
        retry: how long the reader waits before it reconnects, in milliseconds.
        comment: text for people and proxies, which readers skip; several lines are allowed.

    Attributes:
        data: as sent on the wire, JSON written out.
        id: as text; on a received event the last id seen up to here, also where this event has
            no `id` line of its own, or `None` when there was none.

    Raises:
        InvalidField: CR or LF in `event` or `id`, NUL in `id`, an empty `event`, a lone surrogate
            anywhere, a `retry` that is no integer >= 0, `data` that JSON cannot hold, or no field.

    Source: WHATWG HTML 9.2.5 and 9.2.6.
    """

    data: str | None
    event: str | None
    id: str | None
    retry: int | None
    comment: str | None

    def __init__(
        self,
        data: object = None,
        *,
        event: str | None = None,
        id: str | int | None = None,
        retry: int | None = None,
        comment: str | None = None,
    ) -> None:
        if data is None and event is None and id is None and retry is None and comment is None:
            raise InvalidField("data", None, "the event has no field at all; give at least one")
        _set_data(self, None if data is None else _data_text(data))
        _set_event(self, None if event is None else checked_event_name(event))
        _set_id(self, None if id is None else checked_id(id))
        _set_retry(self, None if retry is None else checked_retry(retry))
        _set_comment(self, None if comment is None else _checked_text("comment", comment))

    def encode(self) -> bytes:
        r"""Return the frame: UTF-8, LF line ends, one blank line at the end, no BOM.

        Fields come in the order comment, `id`, `event`, `retry`, `data`.
        """
        frame = ""
        if self.comment is not None:
            frame += _lines(": ", self.comment)
        if self.id is not None:
            frame += f"id: {self.id}\n"
        if self.event is not None:
            frame += f"event: {self.event}\n"
        if self.retry is not None:
            frame += f"retry: {self.retry}\n"
        if self.data is not None:
            frame += _lines("data: ", self.data)
        return f"{frame}\n".encode()


# The slots themselves, past the frozen class: a third cheaper than object.__setattr__ (measured).
_set_data, _set_event, _set_id, _set_retry, _set_comment = (
    getattr(ServerSentEvent, field).__set__ for field in ServerSentEvent.__slots__
)
_new = object.__new__


def _received(data: str, event: str | None, id: str | None, retry: int | None) -> ServerSentEvent:
    # What the decoder has cut out is good; the constructor's checks would triple its cost.
    received = _new(ServerSentEvent)
    _set_data(received, data)
    _set_event(received, event)
    _set_id(received, id)
    _set_retry(received, retry)
    _set_comment(received, None)
    return received


def _lines(prefix: str, text: str) -> str:
    # Not str.splitlines: that one also splits at U+000B, U+001C, U+0085, U+2028 and others.
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\n" in text:
        text = text.replace("\n", "\n" + prefix)
    return f"{prefix}{text}\n"


_COMMENTS_AND_RETRY = re.compile(rb"(?:(?::|retry:)[^\n]*\n)+\n")


def unended(frame: bytes) -> bytes:
    """Return a frame without its blank line, if all it has is comments and a `retry`.

    They count as soon as their lines have ended. A blank line behind them ends no event either, but
    several decoders take it for one, with empty data, once there was an id: httpx-sse, httpx2 and
    the SDKs of OpenAI and Anthropic among them.
    """
    return frame[:-1] if _COMMENTS_AND_RETRY.fullmatch(frame) else frame


def json_head(event: str) -> bytes:
    r"""Return the start of every frame of one event name: `event: …\ndata: `.

    Raises:
        InvalidField: as for `ServerSentEvent`.
    """
    return f"event: {checked_event_name(event)}\ndata: ".encode()


def json_frame(head: bytes, data: bytes, id: str | int | None, retry: int | None) -> bytes:
    """Return the frame of one event whose data is JSON, without the way through text.

    JSON text has no raw CR or LF, so there is nothing to scan or split. The caller vouches for
    the parts: `head` from `json_head`, `id` and `retry` checked.
    """
    if retry is not None:
        head = b"retry: %d\n%b" % (retry, head)
    if id is None:
        return b"%b%b\n\n" % (head, data)
    if isinstance(id, int):
        return b"id: %d\n%b%b\n\n" % (id, head, data)
    return b"id: %b\n%b%b\n\n" % (id.encode(), head, data)


def checked_event_name(event: object) -> str:
    """Return `event` as it stands on the wire, or raise `InvalidField`."""
    if not isinstance(event, str):
        raise InvalidField("event", event, _A_STR)
    if not event:
        raise InvalidField("event", event, "an empty name means none; leave it out")
    if _NOT_IN_EVENT.search(event):
        raise InvalidField("event", event, "CR, LF and lone surrogates cannot be in a name")
    return _plain(event)


def checked_id(id: object) -> str:
    """Return `id` as it stands on the wire, or raise `InvalidField`."""
    if isinstance(id, int) and not isinstance(id, bool):
        try:
            return str(int(id))
        except ValueError as error:
            raise InvalidField("id", id, f"{error}; give a str") from None
    if not isinstance(id, str):
        raise InvalidField("id", id, "give a str or an int")
    if _NOT_IN_ID.search(id):
        raise InvalidField("id", id, "NUL, CR, LF and lone surrogates cannot be in an id")
    return _plain(id)


def checked_retry(retry: object) -> int:
    """Return `retry`, or raise `InvalidField` unless it is a whole number of milliseconds >= 0."""
    if not isinstance(retry, int) or isinstance(retry, bool) or retry < 0:
        raise InvalidField("retry", retry, "give a whole number of milliseconds, 0 or more")
    if retry >= 10**_MAX_RETRY_DIGITS:
        raise InvalidField("retry", retry, f"more than {_MAX_RETRY_DIGITS} digits")
    return int(retry)


def _checked_text(field: str, text: object) -> str:
    if not isinstance(text, str):
        raise InvalidField(field, text, _A_STR)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            reason = f"the character at {error.start} is a lone surrogate, which UTF-8 cannot hold"
            raise InvalidField(field, text, reason) from None
    return _plain(text)


def _plain(text: str) -> str:
    # A member of a class(str, Enum) is a str, but formats as the member's name.
    return text if type(text) is str else str.__str__(text)


def _data_text(data: object) -> str:
    if isinstance(data, str):
        return _checked_text("data", data)
    try:
        text = json.dumps(
            data, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_jsonable
        )
    except (TypeError, ValueError, RecursionError) as error:
        reason = f"cannot be written as JSON ({error}); give a str, JSON types or a typed event"
        raise InvalidField("data", data, reason) from error
    return _checked_text("data", text)


@runtime_checkable
class _Dumpable(Protocol):
    # What a Pydantic model offers; matched by shape, so that this file needs no Pydantic.
    def model_dump(self, *, mode: str, by_alias: bool) -> object: ...


def _jsonable(value: object) -> object:
    match value:
        case _Dumpable():
            return value.model_dump(mode="json", by_alias=True)
        case date() | time():
            return value.isoformat()
        case UUID() | Decimal() | PurePath():
            return str(value)
        case Enum():
            return value.value
        case set() | frozenset():
            return list(cast("set[object]", value))
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {field.name: getattr(value, field.name) for field in fields(value)}
        case _:
            raise TypeError(f"{type(value).__name__} is no JSON type")


def _is_retry(value: str) -> bool:
    # Not int() alone: it takes signs, spaces, underscores and other scripts' digits.
    return value.isascii() and value.isdigit() and len(value) <= _MAX_RETRY_DIGITS


class Decoder:
    """Turn the bytes of an event stream into events, however they are cut.

    Nothing a peer sends makes it raise, except an event larger than the limit: invalid UTF-8
    becomes U+FFFD, unknown fields and comments are skipped, and an event that was not finished
    when the stream ended is never dispatched.

    Args:
        max_event_bytes: the most bytes of one event, from its first to the last before its blank
            line, each line end counted as one byte. At least 1; 16 MiB by default. No more than
            this and one chunk is kept; an event takes a few times its size while it is taken apart.
        last_event_id: the id that the connection was resumed from, if any.

    Attributes:
        last_event_id: the last id that an event, dispatched or not, has set; `""` at first. Send
            it back as `Last-Event-ID`.
        retry_ms: the last valid `retry` that was read, in milliseconds, or `None`. It counts as
            soon as its line has ended, also in an event that is never finished.

    Raises:
        InvalidField: `max_event_bytes` is below 1.

    Ordering: events come in the order of the wire, and where the chunks are cut changes nothing.

    Limits: time is linear in the bytes fed, also for one line in one-byte chunks. A `retry` of more
    than 15 digits is skipped as invalid.

    Source: WHATWG HTML 9.2.5 and 9.2.6.

    Invariants:
    1. Between calls `_tail` holds the bytes of the unfinished event, never starts with LF, and has
       no blank line.
    2. No CR is ever in `_tail`. `_cr` says that the last byte fed was a CR, already taken for a
       line end: an LF that follows it is its second half and is dropped.
    3. The lines before `_scanned` in `_tail` have been searched for a `retry`.
    4. Until `_bom_passed`, `_tail` is a strict prefix of the BOM and nothing was dispatched.
    5. `_name_line` is empty, or the last line, not a long one, that named an event `_name`.
    """

    def __init__(
        self, *, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES, last_event_id: str = ""
    ) -> None:
        if max_event_bytes < 1:
            raise InvalidField("max_event_bytes", max_event_bytes, "give 1 or more")
        self.last_event_id = last_event_id
        self._retry_ms: int | None = None
        self._has_id = bool(last_event_id)
        self._name_line: str = ""
        self._name: str | None = None
        self._limit = max_event_bytes
        self._tail = bytearray()
        self._scanned = 0
        self._cr = False
        self._bom_passed = False
        self._too_large = False

    @property
    def retry_ms(self) -> int | None:
        """The last valid `retry`, in milliseconds; see the class."""
        end = self._tail.rfind(b"\n", self._scanned) + 1
        if end:
            for line in self._tail[self._scanned : end].decode("utf-8", "replace").split("\n"):
                field, _, value = line.partition(":")
                if field == "retry" and _is_retry(value.removeprefix(" ")):
                    self._retry_ms = int(value)
            self._scanned = end
        return self._retry_ms

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Take the next bytes and return the events that they complete.

        Raises:
            EventTooLarge: an event is over the limit. Events that were complete before it are
                returned first and the next call raises, whatever the chunks; the decoder cannot
                be used after that.
        """
        if self._too_large:
            raise EventTooLarge(self._limit)
        if self._cr or _CR in chunk:
            chunk = self._with_lf_only(chunk)
        if not self._bom_passed:
            chunk = self._without_bom(chunk)
            if not self._bom_passed:
                return []
        tail = self._tail
        events: list[ServerSentEvent] = []
        rest: bytes | memoryview = chunk
        if _LF in chunk:
            blocks: bytes | memoryview
            if len(chunk) < _LONG:
                blocks, blank, rest = chunk.rpartition(b"\n\n")
            else:
                blocks, blank, rest = _rpartition(chunk)
            if not blank and tail and tail[-1] == chunk[0] == _LF:
                # It began with the last byte kept.
                blank, rest = b"\n", chunk[1:]
            if not blank:
                rest = chunk if tail else chunk.lstrip(b"\n")
            elif tail or isinstance(blocks, memoryview):
                tail += blocks
                self._interpret(tail, events)
                tail.clear()
                self._scanned = 0
            else:
                self._interpret(blocks, events)
        if rest:
            tail += rest
            # A last LF may turn out to be half of the blank line, which does not count.
            if len(tail) > self._limit and len(tail) - (tail[-1] == _LF) > self._limit:
                self._too_large = True
        if self._too_large:
            tail.clear()
            if not events:
                raise EventTooLarge(self._limit)
        return events

    def _with_lf_only(self, chunk: bytes) -> bytes:
        if self._cr and chunk:
            self._cr = False
            if chunk[0] == _LF:
                chunk = chunk[1:]
        if _CR in chunk:
            self._cr = chunk[-1] == _CR
            if _LONE_CR.search(chunk):
                return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            # Every CR is half of a CRLF: to look and to delete takes 0.4 of replacing (measured).
            return chunk.replace(b"\r", b"")
        return chunk

    def _without_bom(self, chunk: bytes) -> bytes:
        start = bytes(self._tail) + chunk
        self._tail.clear()
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._tail += start
            return b""
        self._bom_passed = True
        return start.removeprefix(_BOM)

    def _cut_before_too_large(self, blocks: bytes | bytearray) -> bytes | bytearray:
        kept = 0
        for block in blocks.split(b"\n\n"):
            # An odd number of line ends in a row leaves one at the edge of a block.
            if len(block.strip(b"\n")) > self._limit:
                self._too_large = True
                return blocks[:kept]
            kept += len(block) + 2
        return blocks

    def _interpret(self, blocks: bytes | bytearray, events: list[ServerSentEvent]) -> None:
        """Append the events of finished blocks."""
        size = len(blocks)
        if size > self._limit:
            blocks = self._cut_before_too_large(blocks)
        last: str | None = None
        if size > _LONG:
            blocks, last = _without_long_data(blocks)
        lines = blocks.decode("utf-8", "replace").split("\n")
        if last is None:
            lines.append("")
        last_id = self.last_event_id if self._has_id else None
        name_line, name = self._name_line, self._name
        data: str | None = None
        further: list[str] = []
        event: str | None = None
        retry: int | None = None
        for line in lines:
            if not line:
                if data is not None:
                    if further:
                        data = "\n".join((data, *further))
                        further.clear()
                    # What _received does, without its call: saves 5 % of the whole (measured).
                    received = _new(ServerSentEvent)
                    _set_data(received, data)
                    _set_event(received, event)
                    _set_id(received, last_id)
                    _set_retry(received, retry)
                    _set_comment(received, None)
                    events.append(received)
                    data = None
                event = retry = None
            elif line == name_line:
                # The same name as before, as mostly: saves a quarter of the whole (measured).
                event = name
            else:
                value = line.removeprefix("data: ")
                if value == line:
                    if line[0] == ":":
                        continue
                    field, _, value = line.partition(": ")
                    if field not in _FIELDS:
                        # No space after the colon, no colon, or a field that nobody knows.
                        field, _, value = line.partition(":")
                    if field == "event":
                        event = value or None
                        if len(line) < _LONG:
                            name_line = self._name_line = line
                            name = self._name = event
                    elif field == "id":
                        if "\0" not in value:
                            self.last_event_id = last_id = value
                            self._has_id = True
                    elif field == "retry" and _is_retry(value):
                        self._retry_ms = retry = int(value)
                    if field != "data":
                        continue
                if data is None:
                    data = value
                else:
                    further.append(value)
        if last is not None:
            data = last if data is None else "\n".join((data, *further, last))
            events.append(_received(data, event, last_id, retry))


def _rpartition(chunk: bytes) -> tuple[memoryview, bytes, memoryview]:
    r"""Do what `chunk.rpartition(b"\n\n")` does, but where lines are long."""
    view = memoryview(chunk)
    end = len(chunk)
    # One byte is searched 40 times as fast as two (measured), from line end to line end. After
    # some of them lines turn out to be short, and two bytes it is.
    for _ in range(16):
        end = chunk.rfind(b"\n", 0, end)
        if end <= 0:
            return view[:0], b"", view
        if chunk[end - 1] == _LF:
            return view[: end - 1], b"\n\n", view[end + 1 :]
    end = chunk.rfind(b"\n\n", 0, end)
    return (view[:end], b"\n\n", view[end + 2 :]) if end >= 0 else (view[:0], b"", view)


def _without_long_data(blocks: bytes | bytearray) -> tuple[bytes | bytearray, str | None]:
    """Return what is before the last line and its value, if that line is long and has data.

    It is decoded where it stands: lines that are split and stripped are copied twice more, and a
    long event takes twice as long (measured).
    """
    start = blocks.rfind(b"\n") + 1
    if len(blocks) - start < _LONG or not blocks.startswith(b"data: ", start):
        return blocks, None
    value = str(memoryview(blocks)[start + 6 :], "utf-8", "replace")
    return blocks[: max(start - 1, 0)], value
