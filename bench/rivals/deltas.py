"""A server of one stream: `python -m bench.rivals.deltas PORT FILE`, asked by `bench.client`.

Whatever is asked, the answer is the body in FILE, as fast as the client takes it: at `/many`, in
chunks of about 11 KiB, as a server that is faster than its client sends; at `/one`, each event in a
chunk of its own. At `/open`, it is one event, and nothing more. Everything is made beforehand.
"""

import asyncio
import re
import sys
from pathlib import Path
from typing import cast

import uvloop

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS_A_CHUNK = 64
LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)", re.IGNORECASE)


def in_chunks(events: list[bytes], count: int) -> bytes:
    pieces = [b"".join(events[at : at + count]) for at in range(0, len(events), count)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


class Delivering(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._asked = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class

    def data_received(self, data: bytes) -> None:
        """Answer a request once all of it is there."""
        self._asked += data
        head, end, body = self._asked.partition(b"\r\n\r\n")
        if not end:
            return
        length = LENGTH.search(head)
        if length is not None and len(body) < int(length[1]):
            return
        self._asked = b""
        path = head.split(b" ")[1]
        self._transport.write(next(self._answers[end] for end in self._answers if end in path))


async def main(port: int, body: bytes) -> None:
    events = [event + b"\n\n" for event in body.split(b"\n\n")[:-1]]
    answers = {
        b"/many": HEAD + in_chunks(events, EVENTS_A_CHUNK) + b"0\r\n\r\n",
        b"/one": HEAD + in_chunks(events, 1) + b"0\r\n\r\n",
        b"/open": HEAD + in_chunks(events[:1], 1),
    }
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Delivering(answers), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
