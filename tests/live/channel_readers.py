"""Readers that behave as a browser's `EventSource`, many in one process, over plain sockets.

They take chunks as they come, send the last id back, wait as long as `retry` says, stop on a 204,
and give up on any other status. Cuts come at random moments and at random bytes, by a seed.
"""

import asyncio
import contextlib
import json
import random
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from typed_sse import Decoder

LIMIT_S = 60.0
_READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Got:
    """A note that a reader got: which, when, and on which of its connections."""

    channel: str
    number: int
    text: str
    id: str
    published_s: float
    at_s: float
    connection: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A gap that a reader was told of: after how many notes."""

    channel: str
    reason: str
    behind: int


class Chunks:
    """Takes the chunked coding of HTTP/1.1 apart, however it is cut."""

    def __init__(self) -> None:
        self._rest = b""
        self._missing = 0
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        data = self._rest + data
        self._rest = b""
        parts: list[bytes] = []
        place = 0
        while place < len(data):
            if self._missing > 2:
                part = data[place : place + self._missing - 2]
                parts.append(part)
                place += len(part)
                self._missing -= len(part)
            elif self._missing:
                step = min(self._missing, len(data) - place)
                place += step
                self._missing -= step
            else:
                end = data.find(b"\r\n", place)
                if end < 0:
                    self._rest = data[place:]
                    break
                size = int(data[place:end], 16)
                if size == 0:
                    self.ended = True
                    break
                self._missing = size + 2
                place = end + 2
        return b"".join(parts)


class Reader:
    """One `EventSource`.

    Args:
        port: of the server.
        path: of the stream.
        seed: of its cuts and of when they come.
        cuts_s: between which times, in seconds, a connection is cut; never by default.
        retry_s: how long it waits before it comes back, until a `retry` says otherwise.
        receive_bytes: the size of its socket's buffer; the system's by default.

    Attributes:
        got: the notes, in order.
        gaps: what it was told is missing.
        workers: which process each connection was at.
        problems: what an `EventSource` would have failed at.
        resumes: of each connection after the first: the seconds from asking to the first note.
        placed: on its connection, it was told where it is.
        reading: cleared, it reads nothing more from its socket.
    """

    def __init__(
        self,
        port: int,
        path: str,
        *,
        seed: str = "0",
        cuts_s: tuple[float, float] | None = None,
        retry_s: float = 0.05,
        receive_bytes: int | None = None,
    ) -> None:
        self.port = port
        self.path = path
        self.last_event_id = ""
        self.got: list[Got] = []
        self.gaps: list[Gap] = []
        self.workers: list[int] = []
        self.problems: list[str] = []
        self.resumes: list[float] = []
        self.cuts = 0
        self.over = False
        self.away = asyncio.Event()
        self.may_connect = asyncio.Event()
        self.may_connect.set()
        self.reading = asyncio.Event()
        self.reading.set()
        self.hold_at: int | None = None
        self.connected = False
        self.placed = False
        self.most_bytes = _READ_BYTES
        self._random = random.Random(seed)
        self._cuts_s = cuts_s
        self.retry_s = retry_s
        self._receive_bytes = receive_bytes
        self._writer: asyncio.StreamWriter | None = None
        self._asked_s = 0.0
        self._fresh = False

    async def run(self) -> None:
        """Read until the stream is over, or this is cancelled."""
        while not self.over:
            await self.may_connect.wait()
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._connection()
            self.connected = False
            self.away.set()
            if not self.over:
                await asyncio.sleep(self.retry_s)

    def cut(self) -> None:
        """Break the connection, if there is one."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def _connection(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        if self._receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_bytes)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        except BaseException:
            sock.close()
            raise
        limit = self._receive_bytes or _READ_BYTES
        reader, writer = await asyncio.open_connection(sock=sock, limit=limit)
        self._writer = writer
        try:
            self._asked_s, self._fresh = time.monotonic(), True
            last = f"Last-Event-ID: {self.last_event_id}\r\n" if self.last_event_id else ""
            writer.write(
                f"GET {self.path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n{last}\r\n"
                "".encode()
            )
            if self._cuts_s is None:
                await self._read(reader, None)
            else:
                await self._read(reader, time.monotonic() + self._random.uniform(*self._cuts_s))
        finally:
            self._writer = None
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader, cut_s: float | None) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = int(head.split(maxsplit=2)[1])
        if status == 204:
            self.over = True
            return
        if status != 200:
            self.problems.append(f"status {status} for {self.last_event_id!r}")
            self.over = True
            return
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        self.workers.append(int(headers["x-worker"]))
        decoder, chunks = Decoder(last_event_id=self.last_event_id), Chunks()
        self.connected = True
        self.placed = False
        self.away.clear()
        while not chunks.ended:
            await self.reading.wait()
            left_s = None if cut_s is None else max(0.0, cut_s - time.monotonic())
            try:
                async with asyncio.timeout(left_s):
                    data = await reader.read(self.most_bytes)
            except TimeoutError:
                self.cuts += 1
                return
            is_last = cut_s is not None and time.monotonic() > cut_s
            if is_last:
                data = data[: self._random.randrange(len(data) + 1)]
            self._take(decoder, chunks.feed(data))
            if is_last or not data:
                self.cuts += is_last
                return

    def _take(self, decoder: Decoder, data: bytes) -> None:
        self.placed |= b"id: " in data
        for event in decoder.feed(data):
            given = json.loads(event.data or "null")
            if event.event == "noted":
                if self._fresh and len(self.workers) > 1:
                    self.resumes.append(time.monotonic() - self._asked_s)
                self._fresh = False
                self.got.append(
                    Got(
                        given["channel"],
                        given["number"],
                        given["text"],
                        event.id or "",
                        given["at_s"],
                        time.time(),
                        len(self.workers) - 1,
                    )
                )
                if self.hold_at is not None and len(self.got) >= self.hold_at:
                    self.hold_at = None
                    self.reading.clear()
            elif event.event == "stream.gap":
                self.gaps.append(Gap(given["channel"], given["reason"], len(self.got)))
            elif event.event == "stream.error":
                self.problems.append(f"stream.error: {event.data}")
        self.last_event_id = decoder.last_event_id
        if decoder.retry_ms is not None:
            self.retry_s = decoder.retry_ms / 1000

    def numbers(self, channel: str, behind: int = 0) -> list[int]:
        return [each.number for each in self.got[behind:] if each.channel == channel]

    def has(self, channel: str, number: int) -> bool:
        return any(each.channel == channel and each.number == number for each in reversed(self.got))


def faults(readers: Iterable[Reader], published: Mapping[str, Sequence[int]]) -> list[str]:
    """Return what readers without gaps have lost, had twice or out of order; nothing else."""
    found: list[str] = []
    for place, reader in enumerate(readers):
        found += [f"reader {place} {reader.path}: {problem}" for problem in reader.problems]
        found += [f"reader {place} {reader.path}: {gap}" for gap in reader.gaps]
        for channel, numbers in published.items():
            got = reader.numbers(channel)
            if got != list(numbers):
                found.append(f"reader {place} {reader.path} {channel}: {difference(got, numbers)}")
    return found


def difference(got: Sequence[int], wanted: Sequence[int]) -> str:
    lost = sorted(set(wanted) - set(got))
    twice = sorted({number for number in got if got.count(number) > 1}) if len(got) < 5000 else []
    strange = sorted(set(got) - set(wanted))
    moved = [b for a, b in pairwise(got) if b < a]
    return (
        f"lost {len(lost)} {lost[:5]}, twice {len(twice)} {twice[:5]}, "
        f"strange {strange[:5]}, out of order {moved[:5]}"
    )


async def until(what: str, holds: Callable[[], object], limit_s: float = LIMIT_S) -> float:
    """Wait until something holds; return how long that took, in seconds."""
    begin = time.monotonic()
    while not holds():
        if time.monotonic() - begin > limit_s:
            raise AssertionError(f"not within {limit_s:g} s: {what}")
        await asyncio.sleep(0.01)
    return time.monotonic() - begin


@contextlib.asynccontextmanager
async def reading(readers: Sequence[Reader]) -> AsyncGenerator[None]:
    """Let some readers run; one that fails fails the test."""
    tasks = [asyncio.create_task(reader.run()) for reader in readers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [end for end in ends if isinstance(end, Exception)] == []


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any
    took_s: float


async def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    """Make one request on a connection of its own; raises `OSError` where that breaks."""
    begin = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        content = b"" if body is None else json.dumps(body).encode()
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
        )
        writer.write(content)
        whole = await reader.read()
    finally:
        writer.transport.abort()
    head, _, rest = whole.partition(b"\r\n\r\n")
    if not head:
        raise ConnectionResetError("no answer")
    return Answer(int(head.split(maxsplit=2)[1]), json.loads(rest), time.monotonic() - begin)


class Publisher:
    """Publishes to one channel, numbered, each call with a key, and again until it is done.

    Attributes:
        number: the next note's.
        refused: how often each error was answered, by its name; `broken` where there was no answer.
        longest_s: the longest time that an answer took.
    """

    def __init__(self, port: int, channel: str, *, text: str = "", key: str = "") -> None:
        self.port = port
        self.channel = channel
        self.number = 0
        self.refused: dict[str, int] = {}
        self.longest_s = 0.0
        self.cursor = ""
        self._text = text
        self._key = key or channel

    async def publish(self, count: int = 1, retry_ms: int | None = None) -> None:
        deadline = time.monotonic() + LIMIT_S
        while True:
            first = {
                "channel": self.channel,
                "number": self.number,
                "text": self._text,
                "at_s": time.time(),
            }
            wanted = {
                "first": first,
                "count": count,
                "key": f"{self._key} {self.number}",
                "retry_ms": retry_ms,
            }
            error = "broken"
            with contextlib.suppress(OSError):
                answer = await ask(self.port, "POST", "/publish", wanted)
                self.longest_s = max(self.longest_s, answer.took_s)
                if answer.status == 200:
                    self.number += count
                    self.cursor = answer.body["cursor"]
                    return
                error = answer.body["error"]
                if answer.status not in (503, 504):
                    raise AssertionError(f"{self.channel} {self.number}: {answer}")
            self.refused[error] = self.refused.get(error, 0) + 1
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.channel} {self.number} was refused: {self.refused}")
            await asyncio.sleep(0.05)

    async def go_on(self, stop: asyncio.Event, every_s: float) -> None:
        while not stop.is_set():
            await self.publish()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await stop.wait()


def quantile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
