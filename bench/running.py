"""Servers and the load client as processes, each on a core of its own.

A server has core 0, the client core 1; both end with the `with` that started them. What a process
has used is read from /proc. Only 127.0.0.1, only Linux. Knows nothing of who is compared, or of
what is asked.
"""

import json
import os
import random
import resource
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

ROOT = Path(__file__).parents[1]
SERVER_CORE, CLIENT_CORE = 0, 1
START_LIMIT_S = 30.0
POLL_S = 0.02
# Below the range from which the system takes the ports of clients.
PORTS = range(20_000, 32_000)
OPEN_FILES = 8192

# One event and no more: the pause outlasts every run.
IDLE_MS = 3_600_000


@dataclass(frozen=True)
class Seen:
    """What the client has seen in its window.

    Attributes:
        seconds: the length of the window.
        events, bytes: how many came.
        opened: connections that were opened, had their first event, and were closed.
        served: connections that had an event.
        lost: connections that the server has closed since the start.
        busy: the share of its core that the client has used.
        p50_us, p99_us, max_us: latency, from the event's making or from the connection's opening.
        cpu_s: CPU seconds that the server has used.
    """

    seconds: float
    events: int
    bytes: int
    opened: int
    served: int
    lost: int
    busy: float
    p50_us: int
    p99_us: int
    max_us: int
    cpu_s: float

    @property
    def client_share(self) -> float:
        """Per cent of its core that the client has used."""
        return 100 * self.busy

    @property
    def server_share(self) -> float:
        """Per cent of its core that the server has used."""
        return 100 * self.cpu_s / self.seconds


@dataclass(frozen=True)
class Used:
    """What a server has used: CPU seconds since its start, and memory now."""

    cpu_s: float
    rss_kib: int


@dataclass(frozen=True)
class Server:
    """A server that accepts connections."""

    process: subprocess.Popen[str]
    port: int

    def used(self) -> Used:
        """Return what all its processes have used."""
        cpu_s, rss_kib = 0.0, 0
        for process in _session(self.process.pid):
            # In nanoseconds, where /proc/PID/stat has hundredths of a second.
            threads = process.glob("task/*/schedstat")
            cpu_s += sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9
            pages = int((process / "statm").read_text().split()[1])
            rss_kib += pages * resource.getpagesize() // 1024
        return Used(cpu_s, rss_kib)

    def tasks(self) -> int:
        """Return how many asyncio tasks it has; only for those of `bench.rivals` that tell."""
        os.kill(self.process.pid, signal.SIGUSR1)
        return int(_output(self.process).readline())


class Load:
    """A load client, built; in a directory that is there as long as it is."""

    def __init__(self, binary: Path) -> None:
        self._binary = binary
        self.directory = binary.parent

    def serve_command(self, port: int) -> list[str]:
        """Return the command that serves prepared frames, to see what the client can take."""
        return [str(self._binary), "serve", str(port)]

    @contextmanager
    def reading(
        self,
        server: Server,
        path: str,
        connections: int,
        *,
        ramp_s: float = 0,
        warm_s: float,
        window_s: float,
    ) -> Generator["Client", None, None]:
        """Keep connections open, and read from them."""
        times = [f"{1000 * seconds:.0f}" for seconds in (ramp_s, warm_s, window_s)]
        with self._run("read", server, path, str(connections), *times) as client:
            yield client

    @contextmanager
    def opening(
        self, server: Server, path: str, at_once: int, *, warm_s: float, window_s: float
    ) -> Generator["Client", None, None]:
        """Open connections in so many places, and close each after its first event."""
        times = [f"{1000 * seconds:.0f}" for seconds in (warm_s, window_s)]
        with self._run("open", server, path, str(at_once), *times) as client:
            yield client

    @contextmanager
    def subscribing(
        self, mode: str, server: Server, path: str, *numbers: float
    ) -> Generator["Client", None, None]:
        """Subscribe and have the server publish, in a mode of `fanout.c`."""
        with self._run(mode, server, path, *(f"{number:.0f}" for number in numbers)) as client:
            yield client

    @contextmanager
    def _run(
        self, mode: str, server: Server, path: str, *rest: str
    ) -> Generator["Client", None, None]:
        command = [str(self._binary), mode, str(server.port), path, *rest]
        process = _started(command, CLIENT_CORE, stdin=subprocess.PIPE)
        try:
            yield Client(process, server)
        finally:
            process.kill()
            process.communicate()


@dataclass(frozen=True)
class Client:
    """A load client at work."""

    process: subprocess.Popen[str]
    server: Server

    def window(self, *, quiet: bool = False) -> Seen:
        """Wait until its window is over, and return what was seen; the connections stay open.

        Only where it is to be `quiet`, nothing may have come.
        """
        if _output(self.process).readline() != "begin\n":
            raise RuntimeError("the load client has failed; it says why above")
        before = self.server.used()
        line = _output(self.process).readline()
        if not line:
            raise RuntimeError("the load client has failed; it says why above")
        cpu_s = self.server.used().cpu_s - before.cpu_s
        seen = Seen(cpu_s=cpu_s, **cast("dict[str, int]", json.loads(line)))
        if not seen.events and not quiet:
            raise RuntimeError(f"nothing came in the window: {seen}, {self.server.process.args!r}")
        if seen.lost:
            raise RuntimeError(f"connections were closed: {seen}, {self.server.process.args!r}")
        return seen


@contextmanager
def load_client(name: str = "load") -> Generator[Load, None, None]:
    """Build a load client, from its file of this name."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(OPEN_FILES, hard)), hard))
    with tempfile.TemporaryDirectory() as directory:
        binary = Path(directory) / name
        source = str(Path(__file__).with_name(f"{name}.c"))
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", str(binary), source], check=True)
        yield Load(binary)


def free_port() -> int:
    for port in random.sample(PORTS, len(PORTS)):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise RuntimeError("no free port")


def sends_an_event(port: int) -> bool:
    """Say whether the server of an endless generator has begun to serve."""
    with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
        client.sendall(f"GET /100/{IDLE_MS} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        seen = b""
        while more := client.recv(65_536):
            seen += more
            if b"data:" in seen:
                return True
    return False


def listens(port: int) -> bool:
    """Say whether connections are accepted: for servers that begin with nothing to send."""
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
    return True


@contextmanager
def running(
    command: Sequence[str], port: int, *, ready: Callable[[int], bool] = sends_an_event
) -> Generator[Server, None, None]:
    """Run a server from when it is ready; kill it and its processes in the end."""
    with tempfile.TemporaryFile("w+") as log:
        process = _started(command, SERVER_CORE, stderr=log)
        server = Server(process, port)
        try:
            if not _becomes(ready, server):
                log.seek(0)
                raise RuntimeError(f"the server did not start: {command}\n{log.read()}")
            yield server
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def _started(
    command: Sequence[str],
    core: int,
    *,
    stdin: int = subprocess.DEVNULL,
    stderr: IO[str] | None = None,
) -> subprocess.Popen[str]:
    """Start a process in a session of its own, pinned to a core from its first instruction."""
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core if core in ours else min(ours)})
    try:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            text=True,
        )
    finally:
        os.sched_setaffinity(0, ours)


def _becomes(ready: Callable[[int], bool], server: Server) -> bool:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and server.process.poll() is None:
        with suppress(OSError):
            if ready(server.port):
                return True
        time.sleep(POLL_S)
    return False


def _session(leader: int) -> list[Path]:
    """Return the directories in /proc of a session's processes."""
    members: list[Path] = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended since
        if int(fields[3]) == leader and fields[0] not in "ZX":
            members.append(entry.parent)
    return members


def _output(process: subprocess.Popen[str]) -> IO[str]:
    if process.stdout is None:
        raise RuntimeError("the process was started without a pipe")
    return process.stdout
