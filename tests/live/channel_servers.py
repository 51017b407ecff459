"""The application of channels on real servers: engine, proxy and workers, each its own process.

The proxy, a thread, stands between the workers and the engine where that has a port.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from channels.nats_server import NatsServer
from channels.redis_server import RedisServer

TESTS = Path(__file__).resolve().parents[1]
ENGINES = ("sqlite", "redis", "nats")
TIMEOUT_S = 2.0
# Two workers import for seconds where the processor is busy with others.
_STARTS_WITHIN_S = 90
_STOPS_WITHIN_S = 30


class Proxy:
    """Passes bytes on to a port of this machine; slow, or cutting, as it is told.

    Attributes:
        delay_s: how long each piece is held back, each way.
        open: whether it takes connections at all, and keeps those it has.
    """

    def __init__(self, to: int) -> None:
        self.delay_s = 0.0
        self.cut_every_s: float | None = None
        self.port = 0
        self._to = to
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _run(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        while not self._stop.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self.cut_every_s or 0.05):
                    await self._stop.wait()
            if self.cut_every_s is not None:
                self._cut()
        server.close()
        self._cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _cut(self) -> None:
        for pair in self._pairs:
            for writer in pair:
                writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        pair = writer, back
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        finally:
            self._pairs.discard(pair)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


class SqliteFile:
    """Stands where other engines have a server: a file, and its lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "channels.db"
        folder.mkdir()


class Deployment:
    """Workers of uvicorn over an engine; made by `deployed`.

    Attributes:
        engine: `sqlite`, `redis` or `nats`.
        port: of the web server.
        server: the engine's server, or file.
        proxy: between the workers and it; none for SQLite.
    """

    def __init__(self, engine: str, folder: Path, workers: int) -> None:
        self.engine = engine
        self.folder = folder
        self.proxy: Proxy | None = None
        self.port = 0
        self._workers = workers
        self._web: subprocess.Popen[bytes] | None = None
        data = folder / "data"
        self.server: SqliteFile | RedisServer | NatsServer
        match engine:
            case "redis":
                self.server = RedisServer(data)
            case "nats":
                self.server = NatsServer(data)
            case _:
                self.server = SqliteFile(data)

    def start(self) -> None:
        if not isinstance(self.server, SqliteFile):
            asyncio.run(self.server.start())
            self.proxy = Proxy(self.server.port)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.start_web()

    @property
    def url(self) -> str:
        """The engine's, by way of the proxy."""
        match self.server:
            case SqliteFile():
                return f"sqlite:///{self.server.path}?timeout_s={TIMEOUT_S:g}"
            case RedisServer():
                assert self.proxy is not None
                return f"redis://127.0.0.1:{self.proxy.port}/0?timeout_s={TIMEOUT_S:g}"
            case NatsServer():
                assert self.proxy is not None
                return f"nats://127.0.0.1:{self.proxy.port}?timeout_s={TIMEOUT_S:g}"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start_web(self) -> None:
        """Start the workers, on the same port as before."""
        command = f"-m uvicorn live.channels_app:app --port {self.port} --log-level warning"
        many = ("--workers", str(self._workers)) if self._workers > 1 else ()
        with self.log.open("ab") as output:
            self._web = subprocess.Popen(
                [sys.executable, *command.split(), *many],
                cwd=TESTS,
                env={**os.environ, "ENGINE": self.url, "FOLDER": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.wait_for_workers()

    def wait_for_workers(self) -> None:
        """Return when as many workers as there should be have started."""
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while True:
            pids = self.pids()
            ready = [pid for pid in pids if (self.folder / f"ready-{pid}").exists()]
            if len(ready) == self._workers:
                return
            assert self._web is not None
            ended = self._web.poll() is not None or time.monotonic() > deadline
            assert not ended, self.log.read_text(encoding="utf-8")
            time.sleep(0.05)  # between two looks

    def pids(self) -> list[int]:
        """Return the process ids of the workers."""
        assert self._web is not None
        if self._workers == 1:
            return [self._web.pid]
        found: list[int] = []
        parent = self._web.pid
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            with suppress(OSError):
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))
        return found

    def kill_web(self) -> None:
        """End a single worker at once, as a crash does, and with it the server."""
        assert self._web is not None
        assert self._workers == 1
        self._web.kill()
        self._web.wait()
        self._web = None

    def kill_workers(self, *pids: int) -> None:
        """End these workers at once, as a crash does, all by default; others take their place."""
        for pid in pids or self.pids():
            (self.folder / f"ready-{pid}").unlink(missing_ok=True)
            os.kill(pid, signal.SIGKILL)

    def rss_kib(self) -> int:
        """Return the resident memory of all workers together."""
        pages = 0
        for pid in self.pids():
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 1024

    def reads(self) -> Mapping[int, int]:
        """Return how often each worker that lives has read the engine."""
        counts: dict[int, int] = {}
        for pid in self.pids():
            with suppress(OSError):
                counts[pid] = int((self.folder / f"reads-{pid}").read_text() or 0)
        return counts

    def stop(self) -> None:
        if self._web is not None:
            self._web.terminate()
            try:
                self._web.wait(_STOPS_WITHIN_S)
            except subprocess.TimeoutExpired:
                for pid in self.pids():
                    os.kill(pid, signal.SIGKILL)
                self._web.kill()
                self._web.wait()
                raise
        if self.proxy is not None:
            self.proxy.close()
        if not isinstance(self.server, SqliteFile):
            self.server.stop()
        shutil.rmtree(self.folder / "data", ignore_errors=True)


@contextmanager
def deployed(engine: str, folder: Path, workers: int = 2) -> Generator[Deployment]:
    deployment = Deployment(engine, folder, workers)
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.stop()


@contextmanager
def all_deployed(folder: Path) -> Generator[Mapping[str, Deployment]]:
    """Deploy on every engine, all at once."""
    for engine in ENGINES:
        (folder / engine).mkdir()
    sites = {engine: Deployment(engine, folder / engine, 2) for engine in ENGINES}
    with ThreadPoolExecutor() as pool, ExitStack() as stopping:
        for site in sites.values():
            stopping.callback(site.stop)
        list(pool.map(Deployment.start, sites.values()))
        yield sites


def figure(what: str, value: str) -> None:
    """Tell a figure for the table of docs/why/channels.md: `pytest -rP` shows them."""
    print(f"FIGURE | {what} | {value}")
