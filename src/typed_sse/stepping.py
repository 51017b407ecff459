"""Coroutines that are stepped by hand, to hear of it when they wait.

Knows the protocol between a coroutine and its task, and nothing of what is waited for.
"""

from collections.abc import Coroutine, Generator
from typing import Any, Protocol


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
    """Lets a coroutine that was stepped by hand go on where it waits."""

    __slots__ = ("_step", "_waits_for")

    def __init__(self, step: Coroutine[object, Any, None], waits_for: object) -> None:
        self._step = step
        self._waits_for = waits_for

    def __await__(self) -> Generator[object, object, None]:
        waits_for = self._waits_for
        while True:
            try:
                try:
                    answer = yield waits_for
                except BaseException as error:
                    waits_for = self._step.throw(error)
                else:
                    waits_for = self._step.send(answer)
            except StopIteration:
                return
