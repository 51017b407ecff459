"""Reads a blocking iterator from asyncio: one thread for its whole life, batches instead of hops.

Every other way costs a thread hop an item and a place in a pool that the rest of the process needs.
Knows threads and the event loop, nothing of events.
"""

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_BATCH = 32
"""Items that wait for the reader at most; as many again may be in the batch it is reading."""

_LOOK_EVERY_S = 1.0


async def read_in_thread(iterable: Iterable[T]) -> AsyncGenerator[T, None]:
    """Yield the items of `iterable`, which is advanced and closed in one worker thread of its own.

    An item that is alone is handed over at once; while the reader is busy they gather, at most
    `2 * MAX_BATCH` ahead of it. The thread sees the context variables of the task that reads first.

    Raises:
        Exception: whatever the iterator raises, after the items before it.

    Cancellation: closing tells the thread to stop after the `next()` that is under way and waits
        until the iterator is closed. When that wait is cancelled, the thread still ends by itself.
    """
    worker = _Worker(iterable)
    worker.start()
    try:
        while batch := await worker.take():
            while batch:
                yield batch.popleft()
    finally:
        await worker.stop()


class _Worker(Generic[T]):
    """One thread and its hand-over.

    Invariants:
    1. `_ready`, `_reader`, `_stopping` and `_ended` change only while `_changed` is held.
    2. The iterator is touched by the thread alone.
    3. `_reader` is set only while `_ready` is empty and the thread has not ended; whoever takes it
       out wakes it, once.
    """

    def __init__(self, iterable: Iterable[T]) -> None:
        self._iterable = iterable
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._ready: deque[T] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._stopping = False
        self._ended = False
        self._failure: BaseException | None = None

    def start(self) -> None:
        context = contextvars.copy_context()
        # A daemon: an iterator that blocks for ever must not keep the process from ending.
        threading.Thread(
            target=context.run, args=(self._run,), name="typed-sse generator", daemon=True
        ).start()

    async def take(self) -> deque[T]:
        """Wait for items and return them; an empty batch means that the iterator is closed."""
        while True:
            with self._changed:
                if self._ready or self._ended:
                    batch, self._ready = self._ready, deque()
                    self._changed.notify()
                    return batch
                reader = self._reader = self._loop.create_future()
            await reader

    async def stop(self) -> None:
        """Wait until the iterator is closed, and raise what it has raised."""
        with self._changed:
            self._stopping = True
        while not self._ended:
            await self.take()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            iterator = iter(self._iterable)
            try:
                for item in iterator:
                    if not self._hand_over(item):
                        break
            finally:
                if isinstance(iterator, Generator):
                    iterator.close()
        except BaseException as error:  # the reader's, whatever it is
            self._failure = error
        finally:
            with self._changed:
                self._ended = True
                self._wake_reader()

    def _hand_over(self, item: T) -> bool:
        with self._changed:
            while len(self._ready) >= MAX_BATCH and not self._stopping:
                # A loop that is closed without closing the stream takes nothing and says nothing.
                if not self._changed.wait(_LOOK_EVERY_S):
                    self._stopping = self._loop.is_closed()
            if self._stopping:
                return False
            self._ready.append(item)
            self._wake_reader()
            return True

    def _wake_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_set_done, reader)


def _set_done(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
