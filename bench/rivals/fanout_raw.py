"""The limit of fan-out: a bare `asyncio.Protocol` under uvloop that knows three requests.

An event is encoded once, by hand, and written once to each subscriber; what is written within one
turn of the loop, uvloop hands to the system together. Differs from the others: no routing, no
parsing but of the path, no back-pressure, no keep-alive, no end.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import cast

import uvloop
from bench.rivals.publisher import Publisher
from bench.rivals.raw import HEAD
from bench.rivals.source import Delta

subscribers: set[asyncio.Transport] = set()


async def publish(deltas: Sequence[Delta]) -> None:
    for made in deltas:
        data = made.__pydantic_serializer__.to_json(made)
        frame = b"id: %d\nevent: token\ndata: %b\n\n" % (made.index, data)
        chunk = b"%x\r\n%b\r\n" % (len(frame), frame)
        for subscriber in subscribers:
            subscriber.write(chunk)


class Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""
        self._publisher: Publisher | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def data_received(self, data: bytes) -> None:
        """A part of a request has come, usually all of it."""
        if self._publisher is not None:
            self._publisher.allow(len(data))
            return
        self._received += data
        head, empty_line, body = self._received.partition(b"\r\n\r\n")
        if not empty_line:
            return
        path = head.split(b" ", 2)[1]
        if path == b"/publish":
            if len(body) == int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
                self._received = b""
                task = asyncio.create_task(publish([Delta.model_validate_json(body)]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif path.startswith(b"/start/"):
            size, burst = path.split(b"/")[2:]
            self._publisher = Publisher(int(size), int(burst), publish)
            self._publisher.allow(len(body))
        elif self._transport not in subscribers:
            self._transport.write(HEAD)
            subscribers.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The client has left."""
        subscribers.discard(self._transport)
        if self._publisher is not None:
            self._publisher.stop()


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
