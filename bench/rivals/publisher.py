"""The publisher of the fan-out rivals that are Python: the same events, and the same flow control.

`POST /start/SIZE/BURST` starts it. Each byte of the request's body allows one burst, and bodies end
when the load client leaves. After a burst the publisher makes way for one turn of the loop. Knows
no library that is compared.
"""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from itertools import count

from bench.rivals.source import Delta, delta, filling

EVENT = "token"
# What a queue for each client may hold: more than the load client ever allows.
QUEUED = 200

Publish = Callable[[Sequence[Delta]], Awaitable[object]]


class Publisher:
    """A task that publishes as often as it is allowed to."""

    def __init__(self, size: int, burst: int, publish: Publish) -> None:
        self._allowed = asyncio.Semaphore(0)
        self._task = asyncio.create_task(self._publish(size, burst, publish))

    def allow(self, bursts: int) -> None:
        """Let so many more bursts leave."""
        for _ in range(bursts):
            self._allowed.release()

    def stop(self) -> None:
        """Publish no more."""
        self._task.cancel()

    async def _publish(self, size: int, burst: int, publish: Publish) -> None:
        text, numbers = filling(size), count()
        while True:
            await self._allowed.acquire()
            await publish([delta(next(numbers), text) for _ in range(burst)])
            await asyncio.sleep(0)


async def publish_as_allowed(
    body: AsyncIterable[bytes], size: int, burst: int, publish: Publish
) -> None:
    """Publish until the body ends."""
    publisher = Publisher(size, burst, publish)
    try:
        async for chunk in body:
            publisher.allow(len(chunk))
    finally:
        publisher.stop()
