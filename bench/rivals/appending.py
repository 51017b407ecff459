"""Measures whoever appends events: how many a second, and how long one takes.

So many publishers are tasks of one loop; each makes its next event when the last one is stored.
Knows no engine.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import count

from bench.rivals.source import Delta, delta, filling

CHANNEL = "feed"
# What is kept of a channel, by everyone who trims.
KEPT_EVENTS = 1000
SIZE = 100
WARM_S = 0.3

Append = Callable[[Delta], Awaitable[object]]


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile of some times, in milliseconds."""
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {"p50_ms": 1000 * ordered[last // 2], "p99_ms": 1000 * ordered[int(last * 0.99)]}


async def rate_of(append: Append, publishers: int, window_s: float) -> dict[str, float]:
    """Append for a while; return the rate, and the times of single ones."""
    numbers, text, took = count(), filling(SIZE), list[float]()
    begin = time.perf_counter() + WARM_S
    end = begin + window_s

    async def publisher() -> None:
        while (start := time.perf_counter()) < end:
            await append(delta(next(numbers), text))
            if start >= begin:
                took.append(time.perf_counter() - start)

    async with asyncio.TaskGroup() as group:
        for _ in range(publishers):
            group.create_task(publisher())
    return {"rate": len(took) / window_s, **quantiles(took)}
