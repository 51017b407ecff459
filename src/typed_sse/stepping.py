"""Coroutines that are stepped by hand, to hear of it when they wait.

Knows the protocol between a coroutine and its task, and nothing of what is waited for.
"""

import asyncio

# What the documentation of asyncio has for those who write tasks of their own.
from asyncio.tasks import _enter_task, _leave_task  # pyright: ignore[reportPrivateUsage]
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from types import CoroutineType
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Reader(Protocol):
    """Who reads a source, in a task of its own.

    Attributes:
        at_source: the task is in the source's code.
        reading: it waits there.
    """

    at_source: bool
    reading: bool

    def source_waits(self) -> BaseException | None:
        """The task has made a step, and waits for the source now; must not raise.

        What is returned is thrown into the source instead of what it waits for.
        """


class Stepped(Coroutine[object, object, None]):
    """The coroutine of a reader's task; the reader hears whenever it waits for its source.

    Whatever a task waits for passes through here. So a source can be read by a plain `async for`,
    without a step of its own for each event: 0.4 µs less than calling `__anext__` by hand.
    """

    __slots__ = ("_reader", "_work")

    def __init__(self, reader: Reader, work: Coroutine[object, object, None]) -> None:
        self._reader = reader
        self._work = work

    def send(self, value: object, /) -> object:
        """Go on until the work waits, and return what it waits for."""
        reader = self._reader
        reader.reading = False
        waits_for = self._work.send(value)
        if reader.at_source:
            error = reader.source_waits()
            if error is not None:
                return self.throw(error)
        return waits_for

    def throw(self, *error: Any) -> object:
        """Go on with an error."""
        reader = self._reader
        reader.reading = False
        try:
            waits_for = self._work.throw(*error)
        finally:
            del error  # no circle of the error, its traceback and this frame
        if reader.at_source:
            further = reader.source_waits()
            if further is not None:
                return self.throw(further)
        return waits_for

    def close(self) -> None:
        """End the work where it waits."""
        self._work.close()

    def __await__(self) -> Generator[object, object, None]:
        # A task factory may have put it into a coroutine of its own.
        try:
            waits_for = self.send(None)
        except StopIteration:
            return
        yield from Resumed(self, waits_for).__await__()

    def __getattr__(self, name: str) -> Any:
        # Its name and its frame, for who prints a task.
        return getattr(self._work, name)


class Resumed:
    """Lets a coroutine that was stepped by hand go on where it waits; in a context, if given."""

    __slots__ = ("_context", "_interrupted", "_step", "_waits_for")

    def __init__(
        self, step: Coroutine[object, Any, None], waits_for: object, context: Context | None = None
    ) -> None:
        self._step = step
        self._waits_for = waits_for
        self._context = context
        self._interrupted: BaseException | None = None

    def interrupt(self, error: BaseException) -> None:
        """Let the coroutine go on with an error; to be called before this is awaited."""
        cancel = getattr(self._waits_for, "cancel", None)
        if cancel is None or not cancel():
            self._interrupted = error

    def __await__(self) -> Generator[object, object, None]:
        waits_for = self._waits_for
        send, throw = self._step.send, self._step.throw
        if self._interrupted is not None:
            try:
                waits_for = self._stepped(throw, self._interrupted)
            except StopIteration:
                return
        while True:
            try:
                try:
                    answer = yield waits_for
                except BaseException as error:
                    waits_for = self._stepped(throw, error)
                else:
                    waits_for = self._stepped(send, answer)
            except StopIteration:
                return

    def _stepped(self, step: Callable[[Any], object], value: object) -> object:
        return step(value) if self._context is None else self._context.run(step, value)


class StandIn:
    """Begins coroutines without a task of their own; a task takes over each that has to wait.

    Most sends end at once, and a task for each would cost more than the send. So it is begun in the
    name of a task that stands by: `current_task()` is that one. If it has to wait, that task goes
    on with it, so that a timeout or a cancel scope inside is left by the task that entered it; and
    another one stands by for the next.

    Invariants:
    1. `_task` waits for `_handed`, and has no work yet.
    """

    __slots__ = ("_handed", "_loop", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._handed: asyncio.Future[Resumed] = loop.create_future()

    def begin(
        self, context: Context, work: Callable[[T], Awaitable[None]], value: T
    ) -> asyncio.Task[None] | None:
        """Run `work(value)` as far as it goes without waiting; to be called outside of any task.

        Raises:
            Exception: what the work raises before it waits.

        Returns `None` when it has ended, or the task that goes on with it.
        """
        step = work(value)
        if type(step) is not CoroutineType:
            step = _awaiting(step)
        task = self._task
        if task is None or task.cancelling():  # somebody may have cancelled every task there is
            self._handed = self._loop.create_future()
            task = self._task = self._loop.create_task(_stand_by(self._handed))
        _enter_task(self._loop, task)
        try:
            waits_for = context.run(step.send, None)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        except StopIteration:
            return None
        finally:
            _leave_task(self._loop, task)
        self._handed.set_result(Resumed(step, waits_for, context))  # pyright: ignore[reportUnknownArgumentType]
        self._task = None
        return task

    def begin_within(
        self, context: Context, work: Callable[[T], Awaitable[None]], value: T
    ) -> asyncio.Task[None] | None:
        """Do what `begin` does, called by a task that runs in `context`; in a copy of it."""
        caller = asyncio.current_task(self._loop)
        if caller is None:
            return self.begin(context, work, value)
        _leave_task(self._loop, caller)
        try:
            return self.begin(context.copy(), work, value)
        finally:
            _enter_task(self._loop, caller)

    def close(self) -> None:
        """Let nobody stand by."""
        if self._task is not None:
            self._task.cancel()
            self._task = None


async def _awaiting(work: Awaitable[None]) -> None:
    await work


async def _stand_by(handed: asyncio.Future[Resumed]) -> None:
    try:
        resumed = await handed
    except asyncio.CancelledError as error:
        if handed.cancelled() or not handed.done():
            raise
        # The work has it in this turn, from a timeout or a scope of its own.
        resumed = handed.result()
        resumed.interrupt(error)
    await resumed
