"""Streams behind Starlette's middlewares in a real uvicorn: what only a real socket shows."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.live

PROGRAM = """
import asyncio
import functools
import pathlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount

from typed_sse import BaseEvent, Drain, EventSourceResponse
from typed_sse.fastapi import EventRouter


class Text(BaseEvent[str]): ...


async def pass_on(request, call_next):
    return await call_next(request)


BASE = Middleware(BaseHTTPMiddleware, dispatch=pass_on)
CORS = Middleware(CORSMiddleware, allow_origins=["*"])
GZIP = Middleware(GZipMiddleware, minimum_size=0)
router = EventRouter(respond=functools.partial(EventSourceResponse, send_timeout=SEND_TIMEOUT))
to_say = asyncio.Queue()


@router.get("/said")
async def said() -> AsyncIterator[Text]:
    try:
        while True:
            yield Text(await to_say.get())
    finally:
        pathlib.Path("closed").touch()


@router.get("/say/{text}")
async def say(text: str):
    to_say.put_nowait(text)


made = 0


@router.get("/flood")
async def flood() -> AsyncIterator[Text]:
    global made
    try:
        while True:
            made += 1
            yield Text("x" * 60_000)
    finally:
        pathlib.Path("closed").touch()


@router.get("/made")
async def get_made() -> int:
    return made


drain = Drain()
mounted = FastAPI()
mounted.include_router(router)
app = Starlette(
    routes=[Mount("/api", app=mounted)], middleware=[MIDDLEWARES], lifespan=drain.lifespan
)
"""
UVICORN = "-m uvicorn server:app --port PORT"
LIMIT_S = 10

Serve = Callable[..., tuple[str, subprocess.Popen[bytes]]]
Client = Callable[[str, str], socket.socket]

AROUND = [
    pytest.param("", id="none"),
    pytest.param("GZIP, CORS", id="gzip and cors"),
    pytest.param("BASE", id="base"),
    pytest.param("BASE, BASE", id="base around base"),
    pytest.param("CORS, GZIP, BASE", id="all"),
]


@pytest.fixture
def client() -> Iterator[Client]:
    """A function that sends a request and gives the socket, from which nothing is read."""
    with ExitStack() as clients:

        def client(url: str, path: str) -> socket.socket:
            where = urlsplit(url)
            opened = socket.create_connection((where.hostname, where.port), LIMIT_S)
            clients.enter_context(opened)
            head = "Host: x\r\nConnection: close\r\nOrigin: https://a\r\nAccept-Encoding: gzip"
            opened.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n\r\n".encode())
            return opened

        yield client


def read_until(client: socket.socket, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        more = client.recv(65536)
        assert more, seen
        seen += more
    return seen


def rest(client: socket.socket) -> bytes:
    seen = b""
    while more := client.recv(65536):
        seen += more
    return seen


def wait_until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < deadline, f"it did not happen that {what}"
        time.sleep(0.05)


def wait_until_it_stalls(url: str, client: Client) -> None:
    """Wait until the source of a stream has yielded something, and for a while nothing more."""
    made: list[bytes] = []

    def stalls() -> bool:
        made.append(rest(client(url, "/api/made")).rpartition(b"\r\n")[2])
        return made[-10:] == 10 * [made[-1]] and made[-1] != b"0"

    wait_until(stalls, "the stream stalls")


def servers_side(client: socket.socket) -> list[str]:
    """The other end of a connection, as long as the system has it."""
    (_, client_port), (_, server_port) = client.getsockname(), client.getpeername()
    # Linux lists local and remote addresses in hexadecimal.
    ends = [f":{server_port:04X}", f":{client_port:04X}"]
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()
    return [line for line in lines[1:] if [end[-5:] for end in line.split()[1:3]] == ends]


@pytest.mark.parametrize("http", ["httptools", "h11"])
@pytest.mark.parametrize("middlewares", AROUND)
def test_a_reader_that_stalls_is_let_go_and_its_socket_is_gone(
    middlewares: str, http: str, serve: Serve, client: Client, tmp_path: Path
) -> None:
    program = PROGRAM.replace("MIDDLEWARES", middlewares).replace("SEND_TIMEOUT", "1")
    url, _ = serve(program, f"{UVICORN} --http {http}")
    with client(url, "/api/flood") as stalled:
        assert servers_side(stalled)
        wait_until((tmp_path / "closed").exists, "the source is closed")
        wait_until(lambda: not servers_side(stalled), "the socket is gone")


@pytest.mark.parametrize("middlewares", AROUND)
def test_a_reader_that_stalls_does_not_hold_up_the_end_of_the_process(
    middlewares: str, serve: Serve, client: Client
) -> None:
    program = PROGRAM.replace("MIDDLEWARES", middlewares).replace("SEND_TIMEOUT", "3600")
    url, process = serve(program)
    with client(url, "/api/flood"):
        wait_until_it_stalls(url, client)
        process.terminate()
        process.wait(LIMIT_S / 2)


@pytest.mark.parametrize("middlewares", ["BASE", "CORS, GZIP, BASE", "BASE, GZIP, CORS"])
def test_events_arrive_when_they_are_said_and_the_finally_runs_when_the_reader_leaves(
    middlewares: str, serve: Serve, client: Client, tmp_path: Path
) -> None:
    program = PROGRAM.replace("MIDDLEWARES", middlewares).replace("SEND_TIMEOUT", "30")
    url, process = serve(program)
    reader = client(url, "/api/said")
    for text in ("one", "two"):
        rest(client(url, f"/api/say/{text}"))
        read_until(reader, f'data: "{text}"\n\n'.encode())
    reader.close()
    wait_until((tmp_path / "closed").exists, "the source is closed")

    reader = client(url, "/api/said")
    rest(client(url, "/api/say/three"))
    read_until(reader, b'data: "three"\n\n')
    process.terminate()
    last = rest(reader)
    assert b"retry: " in last
    assert last.endswith(b"\r\n0\r\n\r\n")
    process.wait(LIMIT_S)
