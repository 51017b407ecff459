"""Testing of endless streams: a client without a server between, and a clock that does not wait.

`open_stream` drives one request of any ASGI application in the test's own loop, event by event, and
shows what a server would have seen; `ASGITransport` puts the package's own client there. Under
`VirtualTimeLoop` an hour of silence takes no time. `EngineContract` is the suite for whoever writes
an engine, `FaultyEngine` goes wrong by a seed, for tests of what is built on engines. Knows the
clock of a loop and the lifespan of an application; nothing of any framework, nor of a test runner.
"""

import asyncio
import selectors
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from typed_sse.connection import Message
from typed_sse.contract import EngineContract as EngineContract
from typed_sse.contract.faults import Fault as Fault
from typed_sse.contract.faults import FaultyEngine as FaultyEngine
from typed_sse.contract.faults import Step as Step
from typed_sse.contract.faults import seeds_told as seeds_told
from typed_sse.errors import BrokenError
from typed_sse.over_asgi import ASGIApp as ASGIApp
from typed_sse.over_asgi import ASGITransport as ASGITransport
from typed_sse.over_asgi import OpenStream as OpenStream
from typed_sse.over_asgi import open_stream as open_stream

T = TypeVar("T")


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncGenerator[None, None]:
    """Run the lifespan of `app` around the block: start-up before it, shutdown after it.

    Raises:
        BrokenError: the application could not start up or shut down; the message is its own.
        Exception: what the application raised instead of an answer.
    """
    requests: asyncio.Queue[Message] = asyncio.Queue()
    answers: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}

    async def lifespan() -> None:
        await app(scope, requests.get, answers.put)

    async def phase(name: str) -> None:
        requests.put_nowait({"type": f"lifespan.{name}"})
        answer = asyncio.ensure_future(answers.get())
        await asyncio.wait({task, answer}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            task.result()
            raise BrokenError(f"the application left its lifespan at {name} without an answer")
        if answer.result()["type"].endswith(".failed"):
            reason = answer.result().get("message", "")
            raise BrokenError(f"the application failed at {name}: {reason}")

    task = asyncio.create_task(lifespan())
    try:
        await phase("startup")
        yield
        await phase("shutdown")
        await task
    finally:
        task.cancel()
        await asyncio.wait({task})


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # No timer: only another thread can wake the loop, so wait for it.
        if timeout is None:
            return super().select(None)
        events = super().select(0)
        if not events:
            self.now_s += max(timeout, 0)
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` starts at 0 and moves only when nothing else can happen.

    Code under it may sleep for hours and takes none. Time stands still while anything is ready to
    run, so what happens "at" a moment happens whole before the next moment comes.

    Limits: it sees its own timers, tasks and sockets. While work is under way in a thread and a
        timer is set, time jumps to that timer: switch off keep-alives and timeouts (`ping=0`,
        `send_timeout=None`) in a test of a generator that runs in a thread.
    """

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._jumping.now_s

    async def shutdown_default_executor(
        self,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
    ) -> None:
        """Wait for the threads of the default executor, without a limit: it would be a timer."""
        await super().shutdown_default_executor()


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine under a `VirtualTimeLoop`, as `asyncio.run` does, and return its result."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
