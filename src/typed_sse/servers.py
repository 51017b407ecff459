"""What ASGI does not pass on, and can be reached without changing anything of anybody's.

Each thing is looked for by its shape and is optional: where a server or framework has it
differently, or not at all, everything works on, and only this help is missing. The only file that
knows inner names of others.
"""

import asyncio
import inspect
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol, TypeGuard, cast

# A stack of middlewares is rarely half as high.
_MOST_WRAPPERS = 32

# Linux only; elsewhere the system's own patience holds.
_TCP_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)


class Transport(Protocol):
    """The part of an asyncio transport that is of use here; uvloop's has another class."""

    def abort(self) -> None:
        """Close at once, without sending what is buffered."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return what lies under the transport."""

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""
        raise NotImplementedError


def transport_of(receive: Callable[[], Awaitable[object]]) -> Transport | None:
    """Return the transport of the connection that `receive` belongs to, where it can be found.

    uvicorn's `receive` is a method of the request, which has it. Starlette's middlewares pass
    `receive` on as it is, or wrap it in a request whose `receive` is the one before, or, as
    `BaseHTTPMiddleware` does, in a function that closes over such a request's.
    """
    current: object = receive
    for _ in range(_MOST_WRAPPERS):
        owner = getattr(current, "__self__", None)
        transport = getattr(owner, "transport", None)
        if _is_transport(transport):
            return transport
        current = getattr(owner, "receive", None) or _enclosed(current)
    return None


# Not isinstance with a protocol, which costs 10 µs before Python 3.12.
def _is_transport(found: object) -> TypeGuard[Transport]:
    return (
        hasattr(found, "abort")
        and hasattr(found, "get_extra_info")
        and hasattr(found, "get_write_buffer_size")
    )


def _enclosed(receive: object) -> object | None:
    if not inspect.isfunction(receive):
        return None
    names = receive.__code__.co_freevars
    cells = dict(zip(names, receive.__closure__ or (), strict=True))
    cell = cells.get("wrapped_receive")
    return None if cell is None else cast("object", cell.cell_contents)


def let_go_after(transport: Transport, seconds: float) -> None:
    """Have the system give up a connection whose other side acknowledges nothing for so long.

    Without it, a client that vanished is noticed only after a quarter of an hour of repetitions,
    and one that keeps its window shut never.
    """
    connection = transport.get_extra_info("socket")
    if _TCP_USER_TIMEOUT is None or connection is None:
        return
    # No TCP (a Unix socket behind nginx), or closed already: uvloop says ValueError then.
    with suppress(OSError, ValueError):
        cast("socket.socket", connection).setsockopt(
            socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, min(int(seconds * 1000), 2**31 - 1)
        )


def cut_unless_read(transport: Transport, seconds: float) -> None:
    """Close the connection after so long, if nothing of what is buffered is taken until then."""
    buffered = transport.get_write_buffer_size()

    def cut() -> None:
        if transport.get_write_buffer_size() >= buffered:
            transport.abort()

    if buffered > 0:
        asyncio.get_running_loop().call_later(seconds, cut)


def route_of(scope: Mapping[str, Any]) -> str:
    """Return the path template of the route that was chosen; "" where none is known.

    FastAPI keeps the template with the prefixes of `include_router` beside the route, which has
    only its own router's; other frameworks' routes have the whole. The path of a mount is in none.
    """
    included = scope.get("fastapi", {}).get("effective_route_context")
    template = getattr(included or scope.get("route"), "path", "")
    return template if isinstance(template, str) else ""


def when_it_shuts_down(callback: Callable[[], None]) -> bool:
    """Call `callback` when hypercorn begins to shut down; return whether it is what runs here.

    hypercorn tells its worker processes by an event of their own, which no signal announces. The
    task that waits for it is an ordinary task of the loop, and done when it has come.
    """
    if "hypercorn" not in sys.modules:
        return False
    waiting = [
        task
        for task in asyncio.all_tasks()
        if getattr(task.get_coro(), "__qualname__", "") == "raise_shutdown"
    ]
    for task in waiting:
        task.add_done_callback(lambda _: callback())
    return bool(waiting)
