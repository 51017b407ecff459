"""A proxy that does to a client what networks and other proxies do, for tests of clients.

It stands before a real server, and gives each request the next fault of a script or of a seed. One
request a connection, on both sides. What a fault does is in `fault_exchange`; this file knows
when, and what was asked.

Linux, where a socket keeps a port for one that listens, and a client can read what came before a
reset.
"""

import asyncio
import random
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import h11

from live.fault_exchange import (
    AfterRequest,
    Answer,
    Compressed,
    CutAfter,
    Delay,
    Drawn,
    EndCleanly,
    Fault,
    Pass,
    Redirect,
    Refuse,
    Side,
    Stall,
    answer,
    marked,
    read_request,
    until_it_leaves,
)

__all__ = [
    "AfterRequest",
    "Answer",
    "Compressed",
    "CutAfter",
    "Delay",
    "Drawn",
    "EndCleanly",
    "Fault",
    "FaultProxy",
    "Pass",
    "Redirect",
    "Refuse",
    "Request",
    "Stall",
    "fault_proxy",
]

_CALL_LIMIT_S = 10
_HOST = "127.0.0.1"
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Request:
    """A request that the proxy has read.

    Attributes:
        method: as sent.
        path: the path with its query, as sent.
        headers: by names in lower case; the values of one name joined by commas; UTF-8.
        body: all of it.
        at_s: the reading of `time.monotonic` when it was complete.
        fault: what it met.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at_s: float
    fault: Fault


@contextmanager
def fault_proxy(upstream_url: str) -> Generator["FaultProxy"]:
    """Run a proxy before the server at `upstream_url`, in a thread of its own.

    Everything is passed on until a script or a seed is given. What is open at the end is reset.

    Raises:
        ExceptionGroup: at the end, when something has gone wrong in the proxy: a malformed request
            too. A client or a server that leaves is no failure: the other one sees a reset.
    """
    proxy = FaultProxy(upstream_url)
    try:
        yield proxy
    finally:
        proxy.close()


class FaultProxy:
    """A running proxy; every method may be called from any thread but its own.

    1. A fault belongs to a request, and is taken when the request is complete. Only `Refuse`
       is taken when a connection comes and it is next: so a connection that a client opens
       beforehand takes no other, and may take that.
    2. A connection that is not ended in order is reset.
    3. What was set last holds: a script, or a seed.
    """

    def __init__(self, upstream_url: str) -> None:
        upstream = urlsplit(upstream_url)
        if upstream.scheme != "http" or upstream.hostname is None or upstream.path not in {"", "/"}:
            raise ValueError(f"upstream_url is {upstream_url!r}: give it as http://host:port")
        self._upstream = (upstream.hostname, upstream.port or 80)
        self._news = threading.Condition()
        self._script: deque[Fault] = deque()
        self._draw: Callable[[], Fault] = Pass
        self._requests: list[Request] = []
        self._refused = 0
        self._redirected: list[str] = []
        self._failures: list[Exception] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._listening: socket.socket | None = None
        # It never listens. While the proxy is down, it keeps the port from everybody else, and from
        # a client's own end, which would then be connected to itself.
        self._port_keeper = socket.socket()
        self._port_keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port_keeper.bind((_HOST, 0))
        self._port: int = self._port_keeper.getsockname()[1]
        self.url = f"http://{_HOST}:{self._port}"
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._note_failure)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.up()

    @property
    def requests(self) -> list[Request]:
        """The requests so far, in the order in which they were complete."""
        with self._news:
            return self._requests.copy()

    @property
    def refused(self) -> int:
        """How many connections were reset before their request was read."""
        with self._news:
            return self._refused

    def script(self, faults: Iterable[Fault]) -> None:
        """Give these faults to the next requests, and pass on what comes after them."""
        with self._news:
            self._script = deque(faults)
            self._draw = Pass

    def at_random(self, seed: int, weights: Mapping[Fault | Drawn, float]) -> None:
        """Draw a fault for each request from now on, by seed; it is printed, for a test that fails.

        Args:
            seed: equal seeds and weights give equal faults.
            weights: the faults, or functions that make one, by how often they are to come.
        """
        print(f"fault proxy: seed {seed}")
        chance = random.Random(seed)
        choices = list(weights)

        def draw() -> Fault:
            (choice,) = chance.choices(choices, list(weights.values()))
            return choice if isinstance(choice, Fault) else choice(chance)

        with self._news:
            self._script.clear()
            self._draw = draw

    def wait_for_requests(self, n: int, timeout_s: float = 10) -> list[Request]:
        """Block until `n` requests have come since the start; return all that have.

        Raises:
            TimeoutError: when there are fewer after `timeout_s`.
        """
        with self._news:
            if not self._news.wait_for(lambda: len(self._requests) >= n, timeout_s):
                raise TimeoutError(f"{len(self._requests)} of {n} requests in {timeout_s:g} s")
            return self._requests.copy()

    def down(self) -> None:
        """Refuse all connections from now on; those that are open stay."""
        self._call(self._stop_listening())

    def up(self) -> None:
        """Accept connections again, on the same port."""
        self._call(self._listen())

    def cut_all(self) -> None:
        """Reset all open connections, and return when that is done."""
        self._call(self._cut_all())

    def close(self) -> None:
        """Stop everything; raise what has gone wrong in the meantime."""
        self.down()
        self.cut_all()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._port_keeper.close()
        if self._failures:
            raise ExceptionGroup("the fault proxy failed", self._failures)

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_LIMIT_S)

    # In the thread of the loop from here on.

    async def _listen(self) -> None:
        if self._listening is None:
            self._listening = socket.create_server((_HOST, self._port), backlog=1024)
            self._listening.setblocking(False)
            self._loop.add_reader(self._listening, self._accept, self._listening)

    async def _stop_listening(self) -> None:
        if self._listening is not None:
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None

    async def _cut_all(self) -> None:
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _note_failure(self, _: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        self._failures.append(context.get("exception") or RuntimeError(context["message"]))

    def _accept(self, listening: socket.socket) -> None:
        try:
            client, _ = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # it has left already
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._loop.create_task(self._serve(client))
        self._connections.add(connection)

        # Here, and not in the task: one that is cancelled before it has begun runs nothing.
        def end(task: asyncio.Task[None]) -> None:
            self._connections.discard(task)
            if client.fileno() != -1:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
            if not task.cancelled() and isinstance(failure := task.exception(), Exception):
                self._failures.append(failure)

        connection.add_done_callback(end)

    async def _serve(self, client: socket.socket) -> None:
        if self._refuses():
            return
        in_order = False
        try:
            side = Side(client, h11.Connection(h11.SERVER))
            head, body = await read_request(side)
            fault = self._meet(head, body)
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(until_it_leaves(side))
                in_order = await answer(
                    side, head, body, fault, upstream=self._upstream, url=self.url
                )
                watch.cancel()
        except* ConnectionError:
            pass
        if in_order:
            client.close()

    def _next(self) -> Fault:
        if not self._script:
            self._script.append(self._draw())
        return self._script[0]

    def _refuses(self) -> bool:
        with self._news:
            refuses = isinstance(self._next(), Refuse)
            if refuses:
                self._script.popleft()
                self._refused += 1
        return refuses

    def _meet(self, head: h11.Request, body: bytes) -> Fault:
        """Take the fault of a request, and record both."""
        path = head.target.decode("ascii")
        headers: dict[str, list[str]] = {}
        for name, value in head.headers:
            text = value.decode("utf-8", "surrogateescape")
            headers.setdefault(name.decode("ascii"), []).append(text)
        joined = {name: ", ".join(values) for name, values in headers.items()}
        with self._news:
            if path in self._redirected:
                self._redirected.remove(path)
                fault: Fault = Pass()
            else:
                fault = self._next()
                self._script.popleft()
            if isinstance(fault, Redirect):
                self._redirected.append(marked(path))
            method = head.method.decode("ascii")
            self._requests.append(Request(method, path, joined, body, time.monotonic(), fault))
            self._news.notify_all()
        return fault
