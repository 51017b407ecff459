"""Sources that are closed: one that records how, and three that answer badly."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class Closing:
    """An endless source.

    Attributes:
        made: how many items it has made.
        log: `closing` when its `finally` has begun, `closed` when that has completed.
        tasks: the tasks that read and closed it.
    """

    def __init__(self, *, every_s: float | None = 0, cleanup_s: float = 0) -> None:
        self.made = 0
        self.log: list[str] = []
        self.tasks: set[object] = set()
        self._every_s = every_s
        self._cleanup_s = cleanup_s

    def numbers(self) -> AsyncGenerator[int, None]:
        return self._items(int)

    def texts(self) -> AsyncGenerator[str, None]:
        return self._items(str)

    async def _items(self, make: Callable[[int], T]) -> AsyncGenerator[T, None]:
        self.tasks.add(asyncio.current_task())
        try:
            while True:
                self.made += 1
                yield make(self.made - 1)
                if self._every_s is not None:
                    await asyncio.sleep(self._every_s)
        finally:
            self.tasks.add(asyncio.current_task())
            self.log.append("closing")
            await asyncio.sleep(self._cleanup_s)
            self.log.append("closed")


async def failing_finally() -> AsyncGenerator[str, None]:
    """Fail when it is closed."""
    try:
        while True:
            yield "more"
            await asyncio.sleep(1)
    finally:
        raise LookupError("in the finally")


async def farewell() -> AsyncGenerator[str, None]:
    """Answer its cancellation with one more item."""
    try:
        while True:
            yield "more"
            await asyncio.sleep(1)
    except asyncio.CancelledError:
        yield "bye"
        raise


async def stubborn() -> AsyncGenerator[str, None]:
    """Take no notice of its cancellation."""
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1)
        yield "more"
