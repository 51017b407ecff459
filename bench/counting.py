"""What a path does, counted: calls, tasks, timers, handles, sends, memory; never time.

A path is gone n times and 2 n times, so that what is done once falls out, in a loop of its own in
which nothing happens by chance. Counted is what an application does and what it calls. Not counted
are the loop's own code, which is another under another loop, and server, client and generators,
which are of the benchmark. Knows ASGI, nothing of what is counted.
"""

import asyncio
import gc
import selectors
import sys
import tracemalloc
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import median
from types import FrameType
from typing import Any, Self, TypeAlias, TypeVarTuple

from starlette.types import ASGIApp, Message, Scope

KIB = 1024

_NOT_COUNTED = {
    "__main__",
    "asyncio.base_events",
    "asyncio.events",
    "asyncio.selector_events",
    "asyncio.transports",
    "bench.counting",
    "bench.counts",
    "selectors",
}

Ts = TypeVarTuple("Ts")


class Tally:
    """What is done while it is entered: by kind in `counts`, by function in `called`."""

    def __init__(self, *, memory: bool) -> None:
        self.counts: defaultdict[str, float] = defaultdict(float)
        self.called: defaultdict[str, float] = defaultdict(float)
        self.loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._memory = memory
        self._traced = 0

    def __enter__(self) -> Self:
        gc.disable()
        gc.freeze()  # what was there before is neither counted nor searched
        if self._memory:
            tracemalloc.start()
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        tracemalloc.stop()
        self._tasks.clear()
        self.counts["garbage"] = gc.collect()
        gc.unfreeze()
        gc.enable()

    def ran(self, task: "asyncio.Task[Any] | None") -> None:
        """Count a task once, when it is made, or else when it runs."""
        if task is not None and task not in self._tasks:
            self._tasks.add(task)
            self.counts["tasks"] += 1

    def _profile(self, frame: FrameType, event: str, function: Any) -> None:
        if self._memory:
            # The peak from call to call: what is freed at once is seen too. A KiB and more, since
            # the counting itself allocates a little.
            kib = (tracemalloc.get_traced_memory()[1] - self._traced) / KIB
            if kib >= 1:
                self.counts["KiB allocated"] += kib
                self.called[f"KiB allocated in {frame.f_code.co_qualname}"] += kib
            tracemalloc.reset_peak()
            self._traced = tracemalloc.get_traced_memory()[0]
        if event == "call" and self.loop is not None:
            # One that was not made by the loop, as an eager one, is seen here.
            self.ran(asyncio.current_task(self.loop))
        module = frame.f_globals.get("__name__")
        if module in _NOT_COUNTED:
            return
        if event == "call":
            self.counts["calls"] += 1
            self.called[f"{module}.{frame.f_code.co_qualname}"] += 1
        elif event == "c_call":
            self.counts["C calls"] += 1
            self.called[f"{function.__qualname__}, in C"] += 1


class _IdleSelector(selectors.DefaultSelector):
    def __init__(self, idle: Callable[[], None]) -> None:
        super().__init__()
        self._idle = idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self._idle()
        return []


class CountingLoop(asyncio.SelectorEventLoop):
    """A loop that counts. Time stands still; what is awaited comes when nothing else is left."""

    def __init__(self, tally: Tally) -> None:
        tally.loop = self
        self._counts = tally.counts
        self._made = tally.ran
        self._waiting: deque[asyncio.Future[None]] = deque()
        super().__init__(_IdleSelector(self._idle))

    def quiet(self) -> asyncio.Future[None]:
        """Return what is done when nothing is ready to run, and whoever asked before had a turn."""
        self._waiting.append(asyncio.Future(loop=self))
        return self._waiting[-1]

    def _idle(self) -> None:
        if not self._waiting:
            raise RuntimeError("this path waits for what never comes")
        future = self._waiting.popleft()
        if not future.done():
            future.set_result(None)

    def time(self) -> float:
        """Return the same as ever."""
        return 0.0

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Count a handle."""
        self._counts["handles"] += 1
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Count a timer."""
        self._counts["timers"] += 1
        return super().call_at(when, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        """Count a future."""
        self._counts["futures"] += 1
        return super().create_future()

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Count a task."""
        task = super().create_task(coro, **options)
        self._made(task)
        return task


class Client:
    """What a server gives an application for one request. To send never waits."""

    transport = asyncio.Transport()

    def __init__(self, tally: Tally, *, leaves: bool = False) -> None:
        self._counts = tally.counts
        self._leaves = leaves
        self._asked = False

    async def receive(self) -> Message:
        """Return the request, and then wait until the client leaves, if it does."""
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await (running_loop().quiet() if self._leaves else never())
        return {"type": "http.disconnect"}

    async def send(self, _: Message) -> None:
        """Count a send."""
        self._counts["sends"] += 1

    async def request(self, app: ASGIApp) -> None:
        """Have `app` answer."""
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "path": "/",
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"counts.example")],
        }
        await app(scope, self.receive, self.send)


def running_loop() -> CountingLoop:
    """Return the loop that counts."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, CountingLoop)
    return loop


def never() -> asyncio.Future[None]:
    """Return what is never done."""
    return asyncio.Future(loop=running_loop())


Run: TypeAlias = Callable[[Tally, int], None]
Figures: TypeAlias = Mapping[str, float]


@dataclass(frozen=True)
class Path:
    """A path and how it is gone: `run` goes it as many `times` as it is told."""

    run: Run
    each: str = "event"
    times: int = 64
    memory: bool = False

    def count(self) -> tuple[Figures, Figures]:
        """Return what is done for each event (connection, chunk), and what is called."""
        self._tally(2 * self.times)  # what is made once, or grows once, and is kept
        once, twice = self._tally(self.times), self._tally(2 * self.times)
        return self._each(once.counts, twice.counts), self._each(once.called, twice.called)

    def _tally(self, times: int) -> Tally:
        tally = Tally(memory=self.memory)
        self.run(tally, times)
        return tally

    def _each(self, once: Figures, twice: Figures) -> Figures:
        return {what: (twice[what] - once.get(what, 0)) / self.times for what in twice}


AppOf: TypeAlias = Callable[[int], ASGIApp]
Around: TypeAlias = Callable[[], AbstractAsyncContextManager[object]]


def _in_loop(main: Callable[[Tally, int], Coroutine[Any, Any, None]]) -> Run:
    def run(tally: Tally, times: int) -> None:
        with asyncio.Runner(loop_factory=partial(CountingLoop, tally)) as runner:
            runner.run(main(tally, times))

    return run


def streamed(app_of: AppOf) -> Run:
    """One connection with so many events."""

    async def main(tally: Tally, events: int) -> None:
        app = app_of(events)
        with tally:
            await running_loop().create_task(Client(tally).request(app))

    return _in_loop(main)


def opened(app_of: AppOf) -> Run:
    """So many connections, one after the other; the client leaves after the first event."""

    async def main(tally: Tally, connections: int) -> None:
        app = app_of(1)
        with tally:
            for _ in range(connections):
                await running_loop().create_task(Client(tally, leaves=True).request(app))

    return _in_loop(main)


def idle(app_of: AppOf, around: Around = nullcontext) -> Run:
    """So many connections at once, which have had an event and wait for the next."""

    async def main(tally: Tally, connections: int) -> None:
        async with around():
            await held_by(tally, app_of(1), connections)

    async def held_by(tally: Tally, app: ASGIApp, connections: int) -> None:
        tasks: list[asyncio.Task[None]] = []
        held: list[int] = []
        gc.collect()
        gc.freeze()
        tracemalloc.start()
        for _ in range(connections):
            tasks.append(running_loop().create_task(Client(tally).request(app)))
            await running_loop().quiet()
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        gc.unfreeze()
        # Not the mean: now and then a table grows that is the process's.
        each = median(after - before for before, after in pairwise(held))
        tally.counts["KiB held"] = connections * each / KIB
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    return _in_loop(main)


def handed_out(app_of: AppOf, around: Around, publish: Callable[[], Awaitable[object]]) -> Run:
    """One event for so many connections that wait for it."""

    async def main(tally: Tally, connections: int) -> None:
        async with around():
            app, tasks = app_of(1), list[asyncio.Task[None]]()
            for _ in range(connections):
                tasks.append(running_loop().create_task(Client(tally).request(app)))
                await running_loop().quiet()
            tally.counts.clear()  # what the loop has counted meanwhile
            with tally:
                await publish()
                await running_loop().quiet()
            counted = dict(tally.counts)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        tally.counts.clear()
        tally.counts.update(counted)

    return _in_loop(main)
