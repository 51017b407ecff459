"""The limit: a bare `asyncio.Protocol` under uvloop that speaks just enough HTTP.

It reads the same generator of typed events and encodes each with typed-sse; with `by-hand` it makes
the same frames from the same Pydantic model without it. Up to 64 events that are ready go out in
one write. Differs from the others: no routing, no parsing but of the path, no keep-alive, no end.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from itertools import count
from typing import cast

import uvloop
from bench.rivals.serve import announce_tasks
from bench.rivals.source import delta, filling
from bench.rivals.tokens import tokens

EVENTS_A_WRITE = 64
BY_HAND = sys.argv[2:] == ["by-hand"]
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


async def frames_by_hand(size: int, pause_ms: int) -> AsyncIterator[bytes]:
    text = filling(size)
    for number in count():
        made = delta(number, text)
        data = made.__pydantic_serializer__.to_json(made)
        yield b"id: %d\nevent: token\ndata: %b\n\n" % (number, data)
        if pause_ms:
            await asyncio.sleep(pause_ms / 1000)


class Stream(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self._transport = cast("asyncio.Transport", transport)
        self._writable = asyncio.Event()
        self._writable.set()
        self._asked = b""
        self._answer: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        """A part of the request has come, usually all of it."""
        self._asked += data
        if b"\r\n\r\n" in self._asked and self._answer is None:
            _, size, pause_ms = self._asked.split(b" ", 2)[1].split(b"/")
            self._answer = asyncio.create_task(self._stream(int(size), int(pause_ms)))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The client has left."""
        if self._answer is not None:
            self._answer.cancel()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writable.set()

    async def _stream(self, size: int, pause_ms: int) -> None:
        self._transport.write(HEAD)
        ready: list[bytes] = []
        source = frames_by_hand if BY_HAND else tokens
        async for event in source(size, pause_ms):
            ready.append(event if isinstance(event, bytes) else event.encode())
            if pause_ms or len(ready) == EVENTS_A_WRITE:
                body = b"".join(ready)
                ready.clear()
                self._transport.write(b"%x\r\n%b\r\n" % (len(body), body))
                if not pause_ms:
                    await asyncio.sleep(0)  # others get their turn
                await self._writable.wait()


async def main() -> None:
    announce_tasks()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stream, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
