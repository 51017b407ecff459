"""What the programs that `bench.servers` measures have in common: a record of what they did.

Each line of the record is a moment, a stream and what happened to it, written at once, so that it
outlives the process. Knows FastAPI's dependencies, and none of the libraries that are compared.
"""

import asyncio
import gc
import os
import resource
import signal
import struct
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from types import AsyncGeneratorType, FrameType
from typing import Annotated

import anyio
import uvicorn
from fastapi import Depends, FastAPI

RECORD = Path("record")
FIRST = "first"
BIG = "x" * 65_536
QUICK_YIELDS = 10
WORDS = {"known"}
# A server that takes whatever it is given would otherwise fill the machine.
MEMORY_LIMIT_BYTES = 512 << 20
# Time enough for a client to be gone before the response begins.
LATE_S = 0.5


class TooMuchMemoryError(Exception):
    """The server keeps what no reader takes."""


class Stream:
    """One request's stream: what the dependency hands to the generator."""

    def __init__(self, key: str, cleanup_s: float, *, shield: bool) -> None:
        self._key = key
        self._cleanup_s = cleanup_s
        self._shield = shield
        self._reader: asyncio.Task[object] | None = None
        self._yields = 0

    def note(self, what: str) -> None:
        """Add a line to the record."""
        line = f"{time.monotonic()} {self._key} {what}\n".encode()
        file = os.open(RECORD, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line)
        os.close(file)

    def begun(self) -> None:
        """Be the generator's first step."""
        self._reader = asyncio.current_task()
        self.note("generator begun")

    def yielding(self) -> None:
        """Count what a generator without end yields, where its reader's client can see it."""
        self._yields += 1
        Path(f"yields-{self._key}").write_bytes(struct.pack("=q", self._yields))
        if self._yields % 64 == 0 and _memory_bytes() > MEMORY_LIMIT_BYTES:
            self.note("too much memory")
            raise TooMuchMemoryError

    def left_open(self) -> bool:
        """Whether a generator exists that was handed this and that nobody began or closed."""
        return self._reader is None and any(
            isinstance(each, AsyncGeneratorType)
            and each.ag_code is not opened.__code__
            and each.ag_frame is not None
            and each.ag_frame.f_locals.get("stream") is self
            for each in gc.get_objects()
        )

    async def cleanup(self) -> None:
        """Be the generator's `finally`: an await, then a line in the record."""
        self.note("finally begun")
        try:
            with anyio.CancelScope(shield=self._shield):
                await asyncio.sleep(self._cleanup_s)
        except BaseException:
            self.note("finally cut")
            raise
        same = asyncio.current_task() is self._reader
        self.note(f"finally completed in {'the same' if same else 'another'} task")


async def opened(
    key: str, cleanup_s: float = 0.01, *, shield: bool = False
) -> AsyncGenerator[Stream, None]:
    """Be a dependency that holds something as long as the request needs it."""
    stream = Stream(key, cleanup_s, shield=shield)
    try:
        yield stream
    finally:
        stream.note(f"dependency closed, {'generator open' if stream.left_open() else 'none open'}")


async def opened_late(stream: Annotated[Stream, Depends(opened)]) -> Stream:
    """Take so long that the client has left meanwhile."""
    await asyncio.sleep(LATE_S)
    stream.note("dependency ready late")
    return stream


Opened = Annotated[Stream, Depends(opened)]
OpenedLate = Annotated[Stream, Depends(opened_late)]


def _memory_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def serve_in_thread(app: FastAPI, before_stop: Callable[[], None]) -> None:
    """Serve on the port in the arguments, in a thread; end it when SIGTERM comes.

    Args:
        app: the application.
        before_stop: what the library offers for a server that hears no signals.
    """
    config = uvicorn.Config(app, port=int(sys.argv[1]), access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    signal.signal(signal.SIGTERM, _wake)
    thread.start()
    signal.pause()
    before_stop()
    server.should_exit = True
    thread.join()


def _wake(_: int, __: FrameType | None) -> None:
    """Let `signal.pause` return."""
