"""What the task of a request waits for: that the client leaves, that the source is closed.

Knows the messages of ASGI, asyncio, and of anyio the scope that a middleware may have cancelled.
"""

import asyncio
import logging
import math
from contextlib import suppress
from typing import cast

import anyio

from typed_sse.connection import LAST_CALL_S, Connection, Message, Receive

logger = logging.getLogger("typed_sse")

_DISCONNECTS = ("http.disconnect", "websocket.disconnect")


async def disconnected(receive: Receive) -> None:
    """Wait a moment until the server knows that the connection is closed.

    Sooner, it would complain of a response without an end.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_CALL_S):
            while (await receive())["type"] not in _DISCONNECTS:
                pass


async def client_left(receive: Receive, connection: Connection) -> Message | None:
    """Wait until the client leaves, and return its message, or `None` when the stream ends first.

    The stream's end interrupts `receive()` the way a timeout would: that costs no third task.
    """
    if connection.over:
        return None
    task = cast("asyncio.Task[object]", asyncio.current_task(connection.loop))
    cancelled_before = task.cancelling()
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        task.cancel()

    connection.when_over = interrupt
    try:
        while True:
            message = await receive()
            if message["type"] in _DISCONNECTS:
                return message
    except asyncio.CancelledError:
        # A cancellation that somebody else has asked for as well stays one.
        if not interrupted or task.cancelling() > cancelled_before + 1:
            raise
        return None
    finally:
        connection.when_over = None
        if interrupted:
            task.uncancel()


async def finished(stream: asyncio.Task[None], limit_s: float, path: str) -> None:
    """Wait until a cancelled stream has closed its source, whatever happens to this task.

    After the limit the cleanup itself is cancelled, and after one more second it is left behind.
    """
    interrupted: asyncio.CancelledError | None = None
    if not stream.done():
        try:
            # One turn is enough for most; what follows costs 20 µs.
            await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            interrupted = error
    if not stream.done():
        interrupted = await _waited_for(stream, limit_s, path) or interrupted
    if interrupted is not None:
        raise interrupted


async def _waited_for(
    stream: asyncio.Task[None], limit_s: float, path: str
) -> asyncio.CancelledError | None:
    """Wait until the stream is done, and return the cancellation that has come meanwhile."""
    interrupted: asyncio.CancelledError | None = None
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    # The scope keeps a middleware's cancelled scope out; a task's own cancellation comes once.
    with anyio.CancelScope(shield=True):
        while not stream.done():
            left_s = deadline - loop.time()
            try:
                if left_s > 0:
                    await asyncio.wait({stream}, timeout=left_s if left_s < math.inf else None)
                else:
                    path = ascii(path)
                    logger.warning(
                        "the source of the stream %s did not close in %g s", path, limit_s
                    )
                    stream.cancel()
                    await asyncio.wait({stream}, timeout=LAST_CALL_S)
                    break
            except asyncio.CancelledError as error:
                interrupted = error
    return interrupted
