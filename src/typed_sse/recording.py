r"""Recordings of event streams: a file of JSON Lines that people read, edit and search.

The first line says what it is; each further one has an event, or says that the connection was lost:

    {"typed-sse": 1, "url": "https://api.example/chat", "recorded": "2026-11-26T09:30:00+00:00"}
    {"at_s": 0.021, "event": "token", "id": "1", "json": {"text": "Hello"}}
    {"at_s": 0.514, "event": "note", "id": "1", "data": "two\nlines"}
    {"at_s": 0.982, "lost": "cut"}

What is read gives the events that were written, with their `id`, `event`, `retry` and `data`, to
the last byte. Knows events and files; no stream.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from typed_sse.errors import InvalidField, shown
from typed_sse.escaping import escaped_json
from typed_sse.transport import shown_url
from typed_sse.wire import ServerSentEvent

MAX_LINE_BYTES = 128 * 1024 * 1024
"""The longest line that is read: what an event of 16 MiB takes at the worst, and some more."""

MAX_FILE_BYTES = 512 * 1024 * 1024
"""The longest file that is read."""

_VERSION = 1
_LONGEST_S = 1e9
# Data with more brackets may be nested deeper than JSON can be read inside of a line.
_MAX_BRACKETS = 200
_MEMBERS = {"at_s", "event", "id", "retry", "data", "json"}
_LOSS_MEMBERS = {"at_s", "lost"}


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event, and when it came: seconds after the recording began."""

    at_s: float
    event: ServerSentEvent


@dataclass(frozen=True, slots=True)
class Recording:
    """What a file has.

    Attributes:
        url: where the stream came from, without user, password, query and fragment.
        events: in order; none is earlier than the one before.
        losses: how often the connection was lost.
        duration_s: when the last line was written.
        whole_bytes: the size of the file up to the end of its last whole line.
        torn: whether a line is left behind that was not written to its end, and is not counted.
    """

    url: str
    events: tuple[RecordedEvent, ...]
    losses: int
    duration_s: float
    whole_bytes: int
    torn: bool


def read_recording(file: Path) -> Recording:
    """Read a recording into memory.

    Raises:
        InvalidField: the file is no recording; its `field` has the file's name and the line.
        OSError: it cannot be read.

    Limits: `MAX_LINE_BYTES`, `MAX_FILE_BYTES`.
    """
    url: str | None = None
    events: list[RecordedEvent] = []
    losses, now_s, whole, torn = 0, 0.0, 0, False
    with file.open("rb") as source:
        for number, line in enumerate(_lines(source, file), 1):
            where = f"{file}:{number}"
            ended = line.endswith(b"\n")
            try:
                members = _members(line, where)
            except InvalidField:
                if ended or url is None:
                    raise
                torn = True
                break
            whole += len(line)
            if url is None:
                url = _url(members, where)
            elif members:
                now_s = _at_s(members, now_s, where)
                if "lost" in members:
                    _check_members(members, _LOSS_MEMBERS, where)
                    losses += 1
                else:
                    events.append(RecordedEvent(now_s, _event(members, where)))
    if url is None:
        raise InvalidField(str(file), "", "it is empty; give a file that tail --record has written")
    return Recording(url, tuple(events), losses, now_s, whole, torn)


class Recorder:
    """Writes a recording, each line at once, so that it is whole up to whenever it is cut off.

    Where no event has come, closing it removes the file that it has made.

    Args:
        file: must not exist, unless `append`.
        url: where the stream comes from; what may be secret in it is left out.
        append: write on in a recording that exists. It goes on where it has ended: its time stands
            still in between, and a line says that the connection was lost.
        clock: gives seconds.
        now: gives the date.

    Raises:
        InvalidField: the file exists; or it is to be written on, and is no recording.
        OSError: it cannot be written.
    """

    def __init__(
        self,
        file: Path,
        url: str,
        *,
        append: bool = False,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clock = clock
        self._began_s = clock()
        self._unused: Path | None = None
        if append and file.exists():
            before = read_recording(file)
            self._began_s -= before.duration_s
            self._file = file.open("r+b", buffering=0)
            self._file.truncate(before.whole_bytes)
            self._file.seek(before.whole_bytes)
            if not _ends_a_line(self._file):
                self._put(b"\n")
            self.lost("stopped")
            return
        try:
            self._file = file.open("xb", buffering=0)
        except FileExistsError:
            reason = "the file exists; give another name, or --append to write on in it"
            raise InvalidField("record", str(file), reason) from None
        self._unused = file
        head = {"typed-sse": _VERSION, "url": shown_url(url)}
        self._write({**head, "recorded": now().isoformat(timespec="seconds")})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        if self._unused is not None:
            self._unused.unlink(missing_ok=True)

    def event(self, event: ServerSentEvent) -> None:
        """Write an event.

        Raises:
            OSError: it cannot be written.
        """
        self._unused = None
        line: dict[str, object] = {"at_s": self._at_s()}
        if event.event is not None:
            line["event"] = event.event
        if event.id is not None:
            line["id"] = event.id
        if event.retry is not None:
            line["retry"] = event.retry
        data = event.data or ""
        value = _plain_json(data)
        line |= {"data": data} if value is None else {"json": value}
        self._write(line)

    def lost(self, how: str) -> None:
        """Write that the connection was lost; `OSError` as for an event."""
        self._write({"at_s": self._at_s(), "lost": how})

    def _at_s(self) -> float:
        return round(self._clock() - self._began_s, 3)

    def _write(self, line: dict[str, object]) -> None:
        self._put(escaped_json(_dumped(line, ", ", ": ")).encode() + b"\n")

    def _put(self, data: bytes) -> None:
        while data:
            data = data[self._file.write(data) :]


def _ends_a_line(file: BinaryIO) -> bool:
    file.seek(-1, 1)
    return file.read(1) == b"\n"


def _dumped(value: object, comma: str = ",", colon: str = ":") -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(comma, colon))


def _plain_json(data: str) -> object:
    """Return data as an object or a list, where writing that gives the same text; or `None`."""
    if data[:1] not in ("{", "[") or data.count("[") + data.count("{") > _MAX_BRACKETS:
        return None
    try:
        value: object = json.loads(data)
        return value if _dumped(value) == data else None
    except ValueError:
        return None


def _lines(source: BinaryIO, file: Path) -> Iterator[bytes]:
    total = 0
    number = 0
    while line := source.readline(MAX_LINE_BYTES + 1):
        number += 1
        total += len(line)
        if len(line) > MAX_LINE_BYTES:
            reason = f"the line is longer than {MAX_LINE_BYTES:,} bytes"
            raise InvalidField(f"{file}:{number}", line[:100], reason)
        if total > MAX_FILE_BYTES:
            reason = f"the file is longer than {MAX_FILE_BYTES:,} bytes; cut it into several"
            raise InvalidField(f"{file}:{number}", line[:100], reason)
        yield line


def _members(line: bytes, where: str) -> dict[str, Any]:
    """Return what a line has; nothing for an empty one."""
    if not line.strip():
        return {}
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidField(where, line[:100], f"it is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidField(where, line[:100], "give a JSON object on each line")
    return cast("dict[str, Any]", value)


def _url(members: dict[str, Any], where: str) -> str:
    if members.get("typed-sse") != _VERSION:
        reason = f'the first line of a recording has "typed-sse": {_VERSION}'
        raise InvalidField(where, members, reason)
    url = members.get("url", "")
    if not isinstance(url, str):
        raise InvalidField(where, url, "url is a string")
    return url


def _check_members(members: dict[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(members.keys() - known)
    if unknown:
        reason = f"nobody knows {shown(unknown[0])}; a line has {', '.join(sorted(known))}"
        raise InvalidField(where, members, reason)


def _at_s(members: dict[str, Any], before_s: float, where: str) -> float:
    at_s: object = members.get("at_s")
    # Not NaN either, which is nowhere between.
    if isinstance(at_s, bool) or not isinstance(at_s, int | float) or not 0 <= at_s <= _LONGEST_S:
        raise InvalidField(where, at_s, "at_s is the seconds since the recording began, from 0")
    if at_s < before_s:
        raise InvalidField(where, at_s, f"at_s is before {before_s:g}, on a line above")
    return float(at_s)


def _event(members: dict[str, Any], where: str) -> ServerSentEvent:
    _check_members(members, _MEMBERS, where)
    if ("data" in members) == ("json" in members):
        raise InvalidField(where, members, "give data, a string, or json, any value, and not both")
    data = members["data"] if "data" in members else _dumped_value(members["json"], where)
    if not isinstance(data, str):
        raise InvalidField(where, data, "data is a string; a value goes under json")
    try:
        return ServerSentEvent(
            data, event=members.get("event"), id=members.get("id"), retry=members.get("retry")
        )
    except InvalidField as error:
        raise InvalidField(where, error.value, f"{error.field}: {error.reason}") from None


def _dumped_value(value: object, where: str) -> str:
    try:
        return _dumped(value)
    except (ValueError, RecursionError) as error:
        raise InvalidField(where, value, f"json cannot be written: {error}") from None
