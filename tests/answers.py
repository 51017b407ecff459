"""Transports that answer by a script, for tests of the clients; no socket, no thread, no time.

A step of a reply is a chunk of the body, a number of seconds in which nothing comes, or an error
that the connection is lost by. The asynchronous transport lives in the loop's time; the other one
takes no time, and at `STALL` waits until it is aborted.
"""

import asyncio
import math
import threading
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from typing import Any, Literal, TypeAlias

from typed_sse.client import AsyncEventSource, EventSource, ReconnectPolicy
from typed_sse.transport import Lost, Request

URL = "http://ann:secret@test/sse?token=hidden#part"
"""With what must not be in any log or error."""

AT_ONCE = ReconnectPolicy(base_delay_s=0)
"""Comes back without a wait, so that a test of the synchronous client need not wait either."""

NEVER = ReconnectPolicy(repeat="unsent", max_attempts=1)
"""Does not come back, so that the end of the script is the end of the stream."""

STALL = math.inf
Step: TypeAlias = bytes | float | Exception


class Reply:
    """One answer, and what becomes of it.

    Attributes:
        taken: how many chunks of it have been taken.
        closed: how often it has been closed.
        aborted: set once it has been aborted, or closed.
        reading: set while a read waits in a stall.
    """

    def __init__(
        self,
        *steps: Step,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = "text/event-stream",
        endless: bytes = b"",
        after_s: float = 0,
        close_error: Exception | None = None,
        url: str = URL,
    ) -> None:
        self.steps = steps
        self.status = status
        kind = {} if content_type is None else {"content-type": content_type}
        self.headers = {**kind, **(headers or {})}
        self.url = url
        self.after_s = after_s
        self.taken = 0
        self.closed = 0
        self.aborted = threading.Event()
        self.reading = threading.Event()
        self._endless = endless
        self._close_error = close_error

    def all_steps(self) -> Iterable[Step]:
        yield from self.steps
        while self._endless:
            yield self._endless

    def is_idle(self, step: float, idle_s: float | None) -> bool:
        return idle_s is not None and step >= idle_s

    def end(self) -> None:
        self.closed += 1
        self.aborted.set()
        if self._close_error is not None:
            raise self._close_error


class AsyncReply(Reply):
    async def chunks(self, idle_s: float | None) -> AsyncGenerator[bytes, None]:
        for step in self.all_steps():
            await asyncio.sleep(0)
            if isinstance(step, Exception):
                raise step
            if isinstance(step, bytes):
                self.taken += 1
                yield step
            elif idle_s is not None and step >= idle_s:
                await asyncio.sleep(idle_s)
                raise Lost("idle", "nothing came")
            elif step == STALL:
                await asyncio.Event().wait()
            else:
                await asyncio.sleep(step)

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.end()


class SyncReply(Reply):
    def chunks(self, idle_s: float | None) -> Generator[bytes, None, None]:
        for step in self.all_steps():
            if isinstance(step, Exception):
                raise step
            if isinstance(step, bytes):
                self.taken += 1
                yield step
            elif idle_s is not None and step >= idle_s:
                raise Lost("idle", "nothing came")
            elif step == STALL:
                self.reading.set()
                assert self.aborted.wait(30), "nobody has aborted the read"
                raise Lost("cut", "aborted")

    def abort(self) -> None:
        self.aborted.set()

    def close(self) -> None:
        self.end()


class Script:
    """What both transports have written down.

    Attributes:
        requests: what was sent, in order.
        sent_at_s: when, by the loop's clock; for the asynchronous one only.
        answer_within_s: the time limits that came with them.
    """

    def __init__(self, *replies: Reply | Exception) -> None:
        self.requests: list[Request] = []
        self.sent_at_s: list[float] = []
        self.answer_within_s: list[float | None] = []
        self._replies = iter(replies)

    def reply(self, request: Request, answer_within_s: float | None) -> Reply:
        self.requests.append(request)
        self.answer_within_s.append(answer_within_s)
        reply = next(self._replies, None)
        assert reply is not None, "the script has no answer to another request"
        if isinstance(reply, Exception):
            raise reply
        return reply

    def header(self, name: str) -> list[str | None]:
        """Return what each request had for a header."""
        return [dict(request.headers).get(name) for request in self.requests]


class AsyncScript(Script):
    async def send(self, request: Request, *, answer_within_s: float | None) -> AsyncReply:
        self.sent_at_s.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0)
        reply = self.reply(request, answer_within_s)
        assert isinstance(reply, AsyncReply)
        await asyncio.sleep(reply.after_s)
        return reply


class SyncScript(Script):
    def send(self, request: Request, *, answer_within_s: float | None) -> SyncReply:
        reply = self.reply(request, answer_within_s)
        assert isinstance(reply, SyncReply)
        return reply


class Reading:
    """What came of reading a source to its end, with one of the two clients.

    Attributes:
        items: the events, and the errors among them, in order.
        script: the transport.
        last_event_id: the source's, at the end.
    """

    def __init__(self, items: list[Any], script: Script, last_event_id: str) -> None:
        self.items = items
        self.script = script
        self.last_event_id = last_event_id


class Reader:
    """Reads a scripted source to its end with one of the two clients, on behind every error."""

    def __init__(self, which: Literal["async", "sync"]) -> None:
        self._reply = AsyncReply if which == "async" else SyncReply
        self._is_async = which == "async"

    def reply(self, *steps: Step, **about: Any) -> Reply:
        return self._reply(*steps, **about)

    async def read(
        self, *replies: Reply | Exception | bytes, events: Any = None, raw: bool = False, **how: Any
    ) -> Reading:
        """Read; a reply that is bytes is a whole body."""
        made = [self.reply(reply) if isinstance(reply, bytes) else reply for reply in replies]
        if self._is_async:
            return await self._read_async(AsyncScript(*made), events, raw, how)
        return self._read_sync(SyncScript(*made), events, raw, how)

    async def _read_async(
        self, script: AsyncScript, events: Any, raw: bool, how: dict[str, Any]
    ) -> Reading:
        items: list[Any] = []
        async with AsyncEventSource(URL, events, client=script, **how) as source:
            messages = source.messages()
            while True:
                try:
                    items.append(await anext(messages if raw else source))
                except StopAsyncIteration:
                    break
                except Exception as error:
                    items.append(error)
        return Reading(items, script, source.last_event_id)

    def _read_sync(
        self, script: SyncScript, events: Any, raw: bool, how: dict[str, Any]
    ) -> Reading:
        items: list[Any] = []
        with EventSource(URL, events, client=script, **how) as source:
            messages = source.messages()
            while True:
                try:
                    items.append(next(messages if raw else source))
                except StopIteration:
                    break
                except Exception as error:
                    items.append(error)
        return Reading(items, script, source.last_event_id)
