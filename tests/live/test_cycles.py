"""Ten thousand streams, opened and left in every way: the server is as it was before."""

import asyncio
import socket
import struct
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from live.crowd import PROGRAM, Server, State

pytestmark = pytest.mark.live

Serve = Callable[..., tuple[str, subprocess.Popen[bytes]]]

CYCLES = 10_000
# So many of them come first: caches and the allocator's pools fill.
WARM_UP = 2_000
AT_A_TIME = 100
# Cycles that each left an object behind would leave eight thousand.
OBJECTS = 500
# Half a KiB for each cycle, and two threads' worth of pools.
GROWTH_KIB = 6 * 1024
LIMIT_S = 15

ENDPOINTS = """
sources = {"opened": 0, "closed": 0}


def notes():
    return sources


@contextlib.contextmanager
def counted():
    sources["opened"] += 1
    try:
        yield
    finally:
        sources["closed"] += 1


@app.api_route("/endless", methods=["GET", "HEAD"])
async def endless():
    async def events():
        with counted():
            while True:
                yield "more"
                await asyncio.sleep(0.05)

    return EventSourceResponse(events())


@app.get("/late")
async def late():
    async def events():
        with counted():
            await asyncio.sleep(3600)
            yield "never"

    return EventSourceResponse(events(), start_within=0.02)


@app.get("/slow-to-close")
async def slow_to_close():
    async def events():
        with counted():
            try:
                while True:
                    yield "more"
                    await asyncio.sleep(0.05)
            finally:
                await asyncio.sleep(0.02)

    return EventSourceResponse(events())


@app.get("/short")
async def short():
    async def events():
        with counted():
            for number in range(5):
                yield str(number)

    return EventSourceResponse(events())


@app.get("/large")
async def large():
    async def events():
        with counted():
            while True:
                yield LARGE
                await asyncio.sleep(0.05)

    return EventSourceResponse(events())


@app.get("/flood")
async def flood():
    async def events():
        with counted():
            while True:
                yield BLOCK

    return EventSourceResponse(events())


@app.get("/thread")
async def thread():
    def events():
        with counted():
            while True:
                yield "more"
                time.sleep(0.05)

    return EventSourceResponse(events())


BLOCK = "x" * 4 * 1024
LARGE = "x" * 96 * 1024
"""

# Whatever such a server says is a complaint.
QUIET = "-W always -m uvicorn server:app --port PORT --no-access-log --log-level warning"
COMMANDS = [
    pytest.param(f"{QUIET} --loop uvloop --http httptools", id="uvloop, httptools"),
    pytest.param(f"{QUIET} --loop asyncio --http h11", id="asyncio, h11"),
]


class Client:
    """One connection, which can be left in the middle of anything."""

    def __init__(self, server: Server) -> None:
        self._address = (server.host, server.port)
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket()
        self._socket.setblocking(False)
        # A window so small that the server cannot write a large frame in one go.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.seen = b""

    async def ask(self, path: str, method: str = "GET", headers: str = "") -> None:
        await self._loop.sock_connect(self._socket, self._address)
        request = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n"
        await self._loop.sock_sendall(self._socket, request.encode())

    async def read(self) -> bool:
        more = await self._loop.sock_recv(self._socket, 4096)
        self.seen += more
        return bool(more)

    async def read_until(self, text: bytes) -> None:
        while text not in self.seen:
            assert await self.read(), self.seen

    def reset_at_the_end(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self) -> None:
        self._socket.close()


async def leave_after_an_event(client: Client) -> None:
    await client.ask("/endless")
    await client.read_until(b"data: more\n\n")


async def leave_before_an_event(client: Client) -> None:
    await client.ask("/late")


async def leave_before_an_event_and_after_the_headers(client: Client) -> None:
    await client.ask("/late")
    await client.read_until(b"\r\n\r\n")


async def leave_what_closes_slowly(client: Client) -> None:
    await client.ask("/slow-to-close")
    await client.read_until(b"data: more\n\n")


async def read_to_the_end(client: Client) -> None:
    await client.ask("/short", headers="Connection: close\r\n")
    while await client.read():
        pass
    assert client.seen.endswith(b"data: 4\n\n\r\n0\r\n\r\n")


async def read_to_the_end_and_stay(client: Client) -> None:
    await client.ask("/short")
    await client.read_until(b"\r\n0\r\n\r\n")


async def ask_for_the_headers(client: Client) -> None:
    await client.ask("/endless", method="HEAD")
    await client.read_until(b"\r\n\r\n")
    assert b"text/event-stream" in client.seen


async def leave_in_a_large_frame(client: Client) -> None:
    await client.ask("/large")
    await client.read_until(b"data: xxx")


async def reset_a_flood(client: Client) -> None:
    await client.ask("/flood")
    await client.read_until(b"data: xxx")
    client.reset_at_the_end()


async def leave_a_thread(client: Client) -> None:
    await client.ask("/thread")
    await client.read_until(b"data: more\n\n")


WAYS: list[Callable[[Client], Awaitable[None]]] = [
    leave_after_an_event,
    leave_before_an_event,
    leave_before_an_event_and_after_the_headers,
    leave_what_closes_slowly,
    read_to_the_end,
    read_to_the_end_and_stay,
    ask_for_the_headers,
    leave_in_a_large_frame,
    reset_a_flood,
    leave_a_thread,
]


async def cycle(server: Server, number: int) -> None:
    cycles = iter(range(number))

    async def one_after_the_other() -> None:
        for turn in cycles:
            async with asyncio.timeout(LIMIT_S):
                with closing(Client(server)) as client:
                    await WAYS[turn % len(WAYS)](client)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_A_TIME):
            group.create_task(one_after_the_other())


def settled(server: Server, fresh: State) -> State:
    def as_before(state: State) -> bool:
        return (
            state.open == 0
            and state.notes["opened"] == state.notes["closed"]
            and (state.tasks, state.threads, state.fds) == (fresh.tasks, fresh.threads, fresh.fds)
        )

    return server.wait_until("it is as before", as_before, LIMIT_S, collect=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_ten_thousand_streams_leave_no_task_descriptor_object_memory_or_complaint(
    command: str, serve: Serve, tmp_path: Path
) -> None:
    url, process = serve(PROGRAM + ENDPOINTS, command)
    log = tmp_path / "log"
    said_at_the_start = len(log.read_bytes())
    server = Server(url)
    fresh = server.state()
    asyncio.run(cycle(server, WARM_UP))
    before = settled(server, fresh)
    asyncio.run(cycle(server, CYCLES - WARM_UP))
    after = settled(server, fresh)
    process.terminate()
    process.wait(LIMIT_S)
    # A HEAD opens no stream.
    assert after.opened == CYCLES - CYCLES // len(WAYS)
    assert sum(after.ended.values()) == after.opened
    assert after.ended["complete"] == 2 * CYCLES // len(WAYS)
    assert after.ended["client_left"] == after.opened - after.ended["complete"]
    assert after.unclosed == []
    assert after.objects - before.objects < OBJECTS
    assert after.rss_kib - before.rss_kib < GROWTH_KIB
    assert log.read_bytes()[said_at_the_start:].decode() == ""
