"""Wheel: one timer of an event loop for all that is to be done there some time.

Knows the loop's clock, and nothing of what is due.
"""

import asyncio
import heapq
import math
from contextvars import Context
from typing import Protocol
from weakref import WeakKeyDictionary, ref

# A power of two, so that times which are multiples of it are exact.
SPOKES_A_SECOND = 16

# Some loops' timers are as fine as this, and may come that much too early.
_TICK_S = 0.001

# So many stale spokes are not worth clearing away.
_FEW = 64


class Watched(Protocol):
    """Something that acts by the clock.

    Attributes:
        context: where it is called.
    """

    context: Context

    def watch(self) -> None:
        """Do what is due."""


class Wheel:
    """Calls `watch` when it is due: not before, and at most a sixteenth of a second later.

    A timer of the loop's own for each of many takes 0.4 KiB and 3 µs; here it is a place in a set.

    Invariants:
    1. Each time in `_waiting` has a set with something in it, and is in `_due`, a heap in which
       there may be stale ones too.
    2. While something waits, `_timer` is set, and due at the first of `_due` or before.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, set[Watched]] = {}
        self._due: list[int] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, watched: Watched, due_s: float) -> int:
        """Call `watched.watch` at `due_s` of the loop's time, once; return its spoke."""
        spoke = math.ceil(due_s * SPOKES_A_SECOND)
        waiting = self._waiting.get(spoke)
        if waiting is None:
            waiting = self._waiting[spoke] = set()
            heapq.heappush(self._due, spoke)
            if self._due[0] == spoke:
                self._set_timer()
        waiting.add(watched)
        return spoke

    def remove(self, watched: Watched, spoke: int) -> None:
        """Do not call it any more; nothing happens where it was called already."""
        waiting = self._waiting.get(spoke)
        if waiting is None:
            return
        waiting.discard(watched)
        if not waiting:
            del self._waiting[spoke]
            if not self._waiting:
                self._due.clear()
                self._set_timer()  # a timer holds its loop, so none is left behind
            elif len(self._due) > 2 * len(self._waiting) + _FEW:
                self._due = list(self._waiting)
                heapq.heapify(self._due)

    def _set_timer(self, earliest_s: float = 0.0) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            due_s = max(self._due[0] / SPOKES_A_SECOND, earliest_s)
            # In a context of nobody's: who has set the timer is not who is due.
            self._timer = asyncio.get_running_loop().call_at(due_s, self._turn, context=Context())

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        while self._due and self._due[0] <= now_s * SPOKES_A_SECOND:
            for watched in self._waiting.pop(heapq.heappop(self._due), ()):
                # Each by itself: what one raises must not stop the others.
                loop.call_soon(watched.watch, context=watched.context)
        self._set_timer(now_s + _TICK_S)


# A loop's timer holds its wheel, and so does who waits there: that is as long as it is of use.
_wheels: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[Wheel]] = WeakKeyDictionary()


def wheel_of(loop: asyncio.AbstractEventLoop) -> Wheel:
    """Return the wheel of a loop that runs in this thread."""
    known = _wheels.get(loop)
    wheel = None if known is None else known()
    if wheel is None:
        wheel = Wheel()
        _wheels[loop] = ref(wheel)
    return wheel
