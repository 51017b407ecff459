"""Pages: what the engine has of one channel, read for many readers of this process together.

Many come back at once, from about the same place: so one page is read at a time, and kept for a
moment for those who find their place in it. Knows the engine and the loop, nothing of readers.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable
from contextvars import Context

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import EARLIEST, Engine, Newest, Page, Record
from typed_sse.errors import EngineUnavailable

# What is asked of an engine at once.
_PAGE_RECORDS = 256
_PAGE_BYTES = 256 * 1024

# So many pages are kept for others, for so long.
_MOST_RECENT = 16
_RECENT_S = 5.0


def _position(record: Record) -> int:
    return record.cursor.pos


class Pages:
    """The pages of one channel.

    Args:
        channel: its name.
        engine: where it is read.
        loop: the running loop.

    Invariants:
    1. `_reading` has a task for each place that somebody waits for; one of them reads at a time.
    2. Each of `_recent` has records, and begins behind the place that it is kept with.
    """

    def __init__(self, channel: str, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self._channel = channel
        self._engine = engine
        self._loop = loop
        self._reading: dict[Cursor | Newest, asyncio.Task[Page]] = {}
        self._recent: list[tuple[float, Cursor | Newest, Page]] = []
        self._turn = asyncio.Lock()
        self._failures = 0
        self._closed = False

    def check(self) -> None:
        """Raise `EngineUnavailable` where the channel is not followed any more."""
        if self._closed:
            raise EngineUnavailable("of this hub", "the hub was left")

    def close(self) -> None:
        """Read no more; whoever waits is told."""
        self._closed = True
        for task in self._reading.values():
            task.cancel()

    def tidy(self) -> None:
        """Keep nothing that was read too long ago."""
        since_s = self._loop.time() - _RECENT_S
        while self._recent and self._recent[0][0] < since_s:
            del self._recent[0]

    def forget(self) -> None:
        """Keep nothing of what was read: the log is another one."""
        self._recent.clear()

    async def read(self, after: Cursor | Newest) -> Page:
        """Read what the engine has behind a place now."""
        return await self._engine.read(
            self._channel, after, limit=_PAGE_RECORDS, max_bytes=_PAGE_BYTES
        )

    async def shared(self, after: Cursor | Newest) -> Page:
        """Return what the engine has behind a place, or had a moment ago.

        Raises:
            EngineUnavailable: the engine is away, or the channel is not followed any more.
        """
        self.check()
        known = self._known(after)
        if known is not None:
            return known
        task = self._reading.get(after)
        if task is None:
            # In nobody's context, since it is for all; a new one, which an eager task can enter.
            task = self._loop.create_task(self._read_in_turn(after), context=Context())
            self._reading[after] = task
            task.add_done_callback(self._came(after))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                self.check()
            raise

    async def _read_in_turn(self, after: Cursor | Newest) -> Page:
        failures = self._failures
        async with self._turn:
            known = self._known(after)
            if known is not None:
                return known
            if self._failures != failures:
                raise EngineUnavailable(self._channel, "a read before this one has failed")
            try:
                page = await self.read(after)
            except EngineUnavailable:
                self._failures += 1
                raise
        if page.gap is not None:
            self.forget()  # what is kept may be of a log that is not there any more
        elif page.records and (isinstance(after, Cursor) or after == EARLIEST):
            self._recent[: -_MOST_RECENT + 1] = []
            # What is behind it is to be asked for: by then there may be more.
            self._recent.append((self._loop.time(), after, page._replace(more=True)))
        return page

    def _known(self, after: Cursor | Newest) -> Page | None:
        """Return a page, or the rest of one, that was read a moment ago and is behind a place."""
        self.tidy()
        for _, begins, page in self._recent:
            if begins == after:
                return page
            if isinstance(after, Newest):
                continue
            place = bisect_left(page.records, after.pos, key=_position)
            # Behind the last one of a page is another.
            if place < len(page.records) - 1 and page.records[place].cursor == after:
                return page._replace(records=page.records[place + 1 :])
        return None

    def _came(self, after: Cursor | Newest) -> Callable[[asyncio.Task[Page]], None]:
        def came(task: asyncio.Task[Page]) -> None:
            del self._reading[after]
            if not task.cancelled():
                task.exception()  # whoever waits for it has it; if nobody does, nobody needs it

        return came
