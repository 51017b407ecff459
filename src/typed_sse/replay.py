"""An ASGI application that serves a recording as an event stream, with its timing.

Any path and any method but OPTIONS get the stream, and `Last-Event-ID` resumes it, so that a client
can be cut off and come back. Knows recordings and our response; serves nothing by itself.
"""

import asyncio
from collections.abc import AsyncGenerator

from typed_sse.connection import Message, Receive, Send
from typed_sse.control import StreamEnd, StreamError
from typed_sse.drain import Drain
from typed_sse.errors import InvalidField, UsageError
from typed_sse.recording import Recording
from typed_sse.response import EventSourceResponse
from typed_sse.wire import ServerSentEvent

_LAST = (StreamEnd.event_name, StreamError.event_name)
_FASTEST = 1e6


class Replay:
    """Serves a recording, to each request from its beginning or from behind an id.

    A request with the id of an event gets what was recorded behind the first event that has it,
    after the time that lay between; with an id that the recording does not have, everything. The
    end is a `stream.end`, unless the recording has one, or a `stream.error`; who comes back with
    the last id gets a 204. On shutdown, streams end as a `Drain` ends them.

    Args:
        recording: what is served.
        speed: how many times faster than it was recorded: 1 by default, 0 for as fast as it can be.
        loop: whether it begins again at its end, without an end of its own.
        allow_origin: what a page of another origin needs to be allowed to read it: its origin, or
            `*` for every page. None may by default.

    Raises:
        InvalidField: a speed below 0, or of more than a million; there is nothing to loop over;
            or an origin that is none.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        speed: float = 1.0,
        loop: bool = False,
        allow_origin: str | None = None,
    ) -> None:
        if not 0 <= speed <= _FASTEST:
            raise InvalidField("speed", speed, f"give 0, for no waiting, to {_FASTEST:g}")
        if loop and not recording.events:
            raise InvalidField("loop", loop, "the recording has no events")
        self._events = recording.events
        self._speed = speed
        self._loop = loop
        self._cors = [] if allow_origin is None else _cors(allow_origin)
        self._behind: dict[str, int] = {}
        for place, item in enumerate(recording.events, 1):
            if item.event.id:
                self._behind.setdefault(item.event.id, place)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or be the application's lifespan."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] != "http":
            raise UsageError(f"a recording is served over HTTP, not over {scope['type']}")
        elif scope["method"] == "OPTIONS":
            await _answer(send, 204, self._cors)
        else:
            start = self._behind.get(_last_event_id(scope), 0)
            if start and start == len(self._events) and not self._loop:
                await _answer(send, 204, self._cors)
                return
            headers = {name.decode(): value.decode() for name, value in self._cors}
            response = EventSourceResponse(
                self._from(start), headers=headers, end_event=not self._has_end()
            )
            await response(scope, receive, send)

    def _has_end(self) -> bool:
        return bool(self._events) and self._events[-1].event.event in _LAST

    async def _from(self, start: int) -> AsyncGenerator[ServerSentEvent, None]:
        clock = asyncio.get_running_loop().time
        began_s = clock()
        before_s = self._events[start - 1].at_s if start else 0.0
        while True:
            for item in self._events[start:]:
                due_s = (item.at_s - before_s) / self._speed if self._speed else 0.0
                if began_s + due_s > clock():
                    await asyncio.sleep(began_s + due_s - clock())
                yield item.event
            if not self._loop:
                return
            await asyncio.sleep(0)  # where nothing takes time, others have a turn all the same
            start, before_s, began_s = 0, 0.0, clock()


def _last_event_id(scope: Message) -> str:
    for name, value in scope["headers"]:
        if name == b"last-event-id":
            return bytes(value).decode("utf-8", "replace").strip(" \t")
    return ""


def _cors(origin: str) -> list[tuple[bytes, bytes]]:
    try:
        value = origin.encode("ascii")
    except UnicodeEncodeError:
        value = b""
    if not value or any(byte <= 0x20 or byte == 0x7F for byte in value):
        reason = "give an origin such as http://localhost:5173, or *"
        raise InvalidField("allow_origin", origin, reason)
    return [
        (b"access-control-allow-origin", value),
        (b"access-control-allow-headers", b"*"),
        (b"access-control-allow-methods", b"*"),
    ]


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    async with Drain():
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})
