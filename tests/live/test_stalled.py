"""Clients that stop reading, and clients that vanish: a server lets go of them, and nobody notices.

A client vanishes by IP_MINTTL: its socket takes only segments that no router can have passed on,
and the server's, which begin with 64 hops to go, are dropped before TCP sees them. So it
acknowledges nothing, and neither closes nor resets: that is what a server sees of a machine without
power. Any user may do that to a socket of theirs. A network namespace, a packet filter (by Linux
6.18 on one's own TCP socket too) and TCP_REPAIR need privileges that a container on a CI machine
does not give, even to root.
"""

import http.client
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from live.crowd import PROGRAM, Server, State

pytestmark = pytest.mark.live

Serve = Callable[..., tuple[str, subprocess.Popen[bytes]]]

STALLED = 200
VANISHED = 200
OTHERS = 5
SEND_TIMEOUT_S = 2
PING_S = 1
# What two busy cores may take on top of the send timeout and the keep-alive before it.
MARGIN_S = 6
LONGEST_GAP_S = 2
FRAME_KIB = 4
# A batch of frames ends with the one that makes it 32 KiB.
BATCH_KIB = 32 + FRAME_KIB
# uvicorn takes 64 KiB and a batch more before a send waits, and the next batch is there in pieces
# and in one; the rest is tasks, other objects and fragments.
STALLED_KIB = 64 + 3 * BATCH_KIB + 64
VANISHED_KIB = 64
# What a second crowd may leave of fragments; how many let go by the response and not by the kernel,
# which costs more, is chance. An object for each client would be 400.
SLACK_KIB = 12 * 1024
OBJECTS = 300

ENDPOINTS = f"""
import socket

import uvicorn
from fastapi import Request

from typed_sse.servers import transport_of

flood = asyncio.Event()


def response(events):
    return EventSourceResponse(events, send_timeout={SEND_TIMEOUT_S}, ping={PING_S})


@app.get("/flood")
async def start():
    flood.set()
    flood.clear()


@app.get("/fast")
async def fast():
    async def events():
        yield "first"
        await flood.wait()
        while True:
            yield "x" * {FRAME_KIB * 1024}

    return response(events())


@app.get("/trickle")
async def trickle():
    async def events():
        number = 0
        while True:
            yield str(number)
            number += 1
            await asyncio.sleep(0.05)

    return response(events())


@app.get("/ending")
async def ending(request: Request):
    async def events():
        yield "first"
        await flood.wait()
        transport = transport_of(request.receive)
        # Half of what uvicorn takes before a send waits.
        while transport.get_write_buffer_size() < 32 * 1024:
            yield "x" * 16 * 1024
            await asyncio.sleep(0.05)

    return response(events())


@app.get("/idle")
async def idle():
    async def events():
        yield "first"
        await asyncio.sleep(3600)

    return response(events())


if __name__ == "__main__":
    _, port, loop, http = sys.argv
    listening = [
        socket.create_server(("127.0.0.1", int(port)), backlog=1024),
        socket.create_server("socket", family=socket.AF_UNIX, backlog=1024),
    ]
    config = uvicorn.Config(app, loop=loop, http=http, access_log=False)
    uvicorn.Server(config).run(sockets=listening)
"""

# A minute is too long for a test.
SHORT_LINGER = f"""
import typed_sse.response

typed_sse.response._LINGER_S = {SEND_TIMEOUT_S}
"""

SERVERS = [
    pytest.param("server.py PORT uvloop httptools", id="uvloop, httptools"),
    pytest.param("server.py PORT asyncio h11", id="asyncio, h11"),
]

# Linux's number for it, which Python does not have.
_IP_MINTTL = 21
_RESET = struct.pack("ii", 1, 0)


@contextmanager
def client(path: str, address: tuple[str, int] | str) -> Generator[socket.socket]:
    """Open a stream, read its first event and no more; reset the connection at the end."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(20)
        if family == socket.AF_INET:
            # Segments as on an Ethernet, and a small window: on the loopback the kernel would take
            # megabytes for each client before a send waits.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.connect(address)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        seen = b""
        while b"\n\n" not in seen:
            more = connection.recv(4096)
            assert more, seen
            seen += more
        yield connection


@contextmanager
def vanished(connection: socket.socket) -> Generator[None]:
    """Let nothing arrive at a connection, so that nothing is acknowledged either."""
    connection.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, 255)
    try:
        yield
    finally:
        connection.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, 0)


def has_heard_of_its_end(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        pass
    return True


class Reader(threading.Thread):
    """A client that reads 20 events a second, and notes them and the longest gap between two."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.numbers: list[int] = []
        self.longest_gap_s = 0.0
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
        self._left = threading.Event()

    def run(self) -> None:
        with closing(self._connection):
            self._connection.request("GET", "/trickle")
            response = self._connection.getresponse()
            seen_at: float | None = None
            while not self._left.is_set():
                line = response.readline()
                if not line:
                    return
                if line.startswith(b"data: "):
                    now = time.monotonic()
                    self.longest_gap_s = max(self.longest_gap_s, now - (seen_at or now))
                    seen_at = now
                    self.numbers.append(int(line.removeprefix(b"data: ")))

    def leave(self) -> None:
        self._left.set()
        self.join()


@contextmanager
def others(server: Server) -> Generator[list[Reader]]:
    readers = [Reader(server) for _ in range(OTHERS)]
    for reader in readers:
        reader.start()
    try:
        server.wait_until("the others read", lambda state: state.open == OTHERS, 10)
        yield readers
    finally:
        for reader in readers:
            reader.leave()


@dataclass(frozen=True, slots=True)
class Visit:
    """What a crowd has cost: the server before, at its largest, and when all were let go."""

    before: State
    peak_kib: int
    after: State


def visit_of_a_crowd(server: Server) -> Visit:
    """Have all 400 come, stop and vanish together, and wait until the server has let them go."""
    address = (server.host, server.port)
    before = server.state()
    with ExitStack() as crowd:
        vanishing = [
            crowd.enter_context(client(path, address))
            for path in ("/trickle", "/idle")
            for _ in range(VANISHED // 2)
        ]
        stalled = [crowd.enter_context(client("/fast", address)) for _ in range(STALLED)]
        ports: set[int] = {connection.getsockname()[1] for connection in vanishing + stalled}
        everybody = before.open + STALLED + VANISHED
        server.wait_until("all are there", lambda state: state.open == everybody, 10)
        assert ports <= server.held_by_the_kernel()
        peak_kib = 0

        def let_go(state: State) -> bool:
            nonlocal peak_kib
            peak_kib = max(peak_kib, state.rss_kib)
            return (state.open, state.fds, state.tasks) == (
                before.open,
                before.fds,
                before.tasks,
            ) and not ports & server.held_by_the_kernel()

        for connection in vanishing:
            crowd.enter_context(vanished(connection))
        server.get("/flood")
        limit_s = SEND_TIMEOUT_S + PING_S + MARGIN_S
        server.wait_until("all are let go", let_go, limit_s)
        assert not any(map(has_heard_of_its_end, vanishing))
    return Visit(before, peak_kib, server.state(collect=True))


@pytest.mark.parametrize("command", SERVERS)
def test_a_crowd_that_stops_or_vanishes_is_let_go_at_no_cost_to_others_and_to_memory(
    command: str, serve: Serve
) -> None:
    url, _ = serve(PROGRAM + ENDPOINTS, command)
    server = Server(url)
    with others(server) as readers:
        first = visit_of_a_crowd(server)
        second = visit_of_a_crowd(server)
    for reader in readers:
        assert reader.numbers == list(range(len(reader.numbers)))
        assert reader.longest_gap_s < LONGEST_GAP_S
        # Two visits, each longer than the send timeout, at half the speed at least.
        assert len(reader.numbers) > 2 * SEND_TIMEOUT_S * 10
    allowed_kib = STALLED * STALLED_KIB + VANISHED * VANISHED_KIB
    assert first.peak_kib - first.before.rss_kib < allowed_kib
    assert second.peak_kib - first.peak_kib < SLACK_KIB
    assert second.after.objects - first.after.objects < OBJECTS
    ended = second.after.ended
    # The kernel and the response give up at about the same time, and the kernel may be first.
    assert ended["send_timeout"] + ended["client_left"] == 2 * (STALLED + VANISHED)
    assert ended["send_timeout"] <= 2 * STALLED
    assert second.after.unclosed == []


@pytest.mark.parametrize("command", SERVERS)
def test_a_crowd_that_stops_behind_a_unix_socket_is_let_go_where_no_kernel_gives_up(
    command: str, serve: Serve, tmp_path: Path
) -> None:
    url, _ = serve(PROGRAM + ENDPOINTS, command)
    server = Server(url)
    before = server.state()
    with ExitStack() as crowd:
        for _ in range(STALLED):
            crowd.enter_context(client("/fast", str(tmp_path / "socket")))
        server.wait_until("all are there", lambda state: state.open == STALLED, 10)
        server.get("/flood")
        after = server.wait_until(
            "all are let go",
            lambda state: (state.fds, state.tasks) == (before.fds, before.tasks),
            SEND_TIMEOUT_S + MARGIN_S,
        )
    assert after.open == 0
    assert after.ended["send_timeout"] == STALLED
    assert after.unclosed == []


@pytest.mark.parametrize("command", SERVERS)
def test_a_reader_that_stops_before_the_last_bytes_of_a_stream_that_ends_is_let_go(
    command: str, serve: Serve
) -> None:
    url, _ = serve(PROGRAM + SHORT_LINGER + ENDPOINTS, command)
    server = Server(url)
    before = server.state()
    with ExitStack() as crowd:
        for _ in range(OTHERS):
            crowd.enter_context(client("/ending", (server.host, server.port)))
        server.get("/flood")
        server.wait_until("all end", lambda state: state.ended["complete"] == OTHERS, 10)
        server.wait_until(
            "all are let go",
            lambda state: (state.fds, state.tasks) == (before.fds, before.tasks),
            SEND_TIMEOUT_S + MARGIN_S,
        )
