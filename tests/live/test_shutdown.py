"""SIGTERM with open streams, on real servers."""

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.live

PROGRAM = """
import asyncio
import pathlib
import signal
import sys
import threading

import uvicorn
from fastapi import FastAPI

from typed_sse import Drain, EventSourceResponse

drain = Drain()
app = FastAPI(lifespan=drain.lifespan)


@app.get("/stream/{number}")
async def stream(number: int) -> EventSourceResponse:
    async def events():
        try:
            yield "first"
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.1)
            pathlib.Path(f"closed-{number}").touch()

    return EventSourceResponse(events())


if __name__ == "__main__":
    # A server in a thread hears no signal: whoever stops it begins the drain.
    server = uvicorn.Server(uvicorn.Config(app, port=int(sys.argv[1])))
    thread = threading.Thread(target=server.run)
    signal.signal(signal.SIGTERM, lambda *_: None)
    thread.start()
    signal.pause()
    drain.begin()
    server.should_exit = True
    thread.join()
"""

SERVERS = {
    "uvicorn": "-m uvicorn server:app --port PORT",
    "uvicorn, h11 and asyncio": "-m uvicorn server:app --port PORT --http h11 --loop asyncio",
    "uvicorn, two workers": "-m uvicorn server:app --port PORT --workers 2",
    "uvicorn, reload": "-m uvicorn server:app --port PORT --reload",
    "uvicorn in a thread": "server.py PORT",
    "hypercorn": "-m hypercorn server:app --bind 127.0.0.1:PORT",
    "hypercorn, two workers": "-m hypercorn server:app --workers 2 --bind 127.0.0.1:PORT",
    "hypercorn, no workers": "-m hypercorn server:app --workers 0 --bind 127.0.0.1:PORT",
    "granian": "-m granian server:app --interface asgi --host 127.0.0.1 --port PORT",
}
STREAMS = 3


def open_stream(url: str, number: int) -> socket.socket:
    address = urlsplit(url)
    client = socket.create_connection((address.hostname, address.port), timeout=20)
    client.sendall(f"GET /stream/{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    seen = b""
    while b"data: first" not in seen:
        more = client.recv(65536)
        assert more, seen
        seen += more
    return client


def rest(client: socket.socket) -> bytes:
    seen = b""
    while more := client.recv(65536):
        seen += more
    return seen


@pytest.mark.parametrize("command", [pytest.param(SERVERS[name], id=name) for name in SERVERS])
def test_sigterm_ends_every_stream_with_a_farewell_and_then_the_process(
    command: str,
    serve: Callable[..., tuple[str, subprocess.Popen[bytes]]],
    tmp_path: Path,
) -> None:
    url, process = serve(PROGRAM, command)
    clients = [open_stream(url, number) for number in range(STREAMS)]
    sent_at = time.monotonic()
    process.terminate()
    for client in clients:
        last = rest(client)
        client.close()
        assert b"retry: " in last
        assert last.endswith(b"0\r\n\r\n")
    process.wait(10)
    # What a server does of its own takes up to a second; without the drain it is for ever.
    assert time.monotonic() - sent_at < 5
    closed = {path.name for path in tmp_path.glob("closed-*")}
    assert closed == {f"closed-{number}" for number in range(STREAMS)}
