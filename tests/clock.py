"""Virtual time: a loop that jumps to the next timer instead of waiting for it.

A test under it may sleep for hours and takes none. Time stands still while anything is ready to
run, so what happens "at" a moment happens whole before the next moment comes.
"""

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any


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
    """An event loop whose `time()` starts at 0 and moves only when nothing else can happen."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


VIRTUAL: tuple[str, Mapping[str, Any]] = ("asyncio", {"loop_factory": VirtualTimeLoop})
"""The backend for anyio's pytest plugin; every async test runs under it unless it is `live`."""
