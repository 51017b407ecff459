"""Servers as processes and their clients as plain sockets, for `bench.servers`.

A server is over when every process of its session is over. Only 127.0.0.1, only Linux: sessions are
read from /proc. Knows nothing of what is asked.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
START_LIMIT_S = 30.0
POLL_S = 0.02
BODY_END = b"\r\n0\r\n\r\n"
# Below the range from which the system takes the ports of clients.
PORTS = range(20_000, 32_000)

_ports = iter(random.sample(PORTS, len(PORTS)))
_ports_lock = threading.Lock()


@dataclass(frozen=True)
class Server:
    """A server that runs in a directory and a session of its own."""

    process: subprocess.Popen[bytes]
    port: int
    directory: Path

    def over_after(self, limit_s: float) -> float | None:
        """Wait for the last process to end; return the seconds, or `None` at the limit."""
        asked_at = time.monotonic()
        while time.monotonic() < asked_at + limit_s:
            if self.process.poll() is not None and not _session(self.process.pid):
                return time.monotonic() - asked_at
            time.sleep(POLL_S)
        return None

    def kill(self) -> None:
        """End whatever is left of the server."""
        while left := _session(self.process.pid):
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.poll()
            time.sleep(POLL_S)
        self.process.wait()


@contextmanager
def serving(command: str) -> Generator[Server, None, None]:
    """Run `python command` with a free port for PORT until it accepts connections; kill it then."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        port = _free_port()
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *command.replace("PORT", str(port)).split()],
                cwd=directory,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        server = Server(process, port, directory)
        try:
            _wait_until_it_accepts(server)
            yield server
        finally:
            server.kill()


def _free_port() -> int:
    with _ports_lock:
        for port in _ports:
            try:
                socket.create_server(("127.0.0.1", port)).close()
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


def _wait_until_it_accepts(server: Server) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
        except OSError:
            time.sleep(POLL_S)
        else:
            return
    log = (server.directory / "log").read_text(encoding="utf-8")
    raise RuntimeError(f"the server did not start:\n{log}")


def _session(leader: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    members: list[int] = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended since
        state, session = fields[0], int(fields[3])
        if session == leader and state not in "ZX":
            members.append(int(entry.parent.name))
    return members


class Client:
    """One request over a socket of its own, and whatever has been read of the answer."""

    def __init__(
        self, server: Server, path: str, *, method: str = "GET", small_buffer: bool = False
    ) -> None:
        self.seen = b""
        self._socket = socket.socket()
        if small_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(START_LIMIT_S)
        self._socket.connect(("127.0.0.1", server.port))
        self._socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def read_until(self, end: bytes, limit_s: float) -> bool:
        """Read until the answer has `end` in it; return whether it came."""
        deadline = time.monotonic() + limit_s
        while end not in self.seen:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                more = self._socket.recv(65_536)
            except OSError:
                return False
            if not more:
                return False
            self.seen += more
        return True

    def close(self) -> None:
        """Leave."""
        self._socket.close()


def answered(server: Server, path: str, limit_s: float) -> bool:
    """Whether the server answers another request with 200 now."""
    try:
        with closing(Client(server, path)) as client:
            return client.read_until(b"\r\n\r\n", limit_s) and b" 200 " in client.seen[:16]
    except OSError:
        return False
