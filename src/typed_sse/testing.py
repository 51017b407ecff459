"""Testing of endless streams: a client without a server between, and a clock that does not wait.

`open_stream` drives one request of any ASGI application in the test's own loop, event by event, and
shows what a server would have seen. Under `VirtualTimeLoop` an hour of silence takes no time.
`EngineContract` is the suite for whoever writes an engine, `FaultyEngine` goes wrong by a seed, for
tests of what is built on engines. Knows ASGI and the events of this package; nothing of any
framework, nor of a test runner.
"""

import asyncio
import json as jsonlib
import selectors
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Mapping,
    MutableMapping,
)
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar, overload
from urllib.parse import unquote

from typed_sse.connection import Message, Send
from typed_sse.contract import EngineContract as EngineContract
from typed_sse.contract.faults import Fault as Fault
from typed_sse.contract.faults import FaultyEngine as FaultyEngine
from typed_sse.contract.faults import Step as Step
from typed_sse.contract.faults import seeds_told as seeds_told
from typed_sse.errors import BrokenError, UsageError
from typed_sse.events import BaseEvent, EventUnion
from typed_sse.wire import Decoder, ServerSentEvent

T = TypeVar("T")
E = TypeVar("E", bound=BaseEvent[object])

ASGIApp: TypeAlias = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Send], Awaitable[None]
]


class OpenStream(AsyncIterator[T], Generic[T]):
    """One request to an application, and what has come of it so far; made by `open_stream`.

    Iterating gives one event after the other and waits for the next; it ends where the body does,
    and raises what the application raised. Leaving its `async with` closes the connection and waits
    until the application has returned.

    Attributes:
        sent: every ASGI message that the application has sent, in order.
        sends_at_once: how many sends were under way at the worst moment; more than one is a fault
            of the application.
        task: the task that runs the application, as a server's would.

    Limits: everything that was sent is kept.
    """

    def __init__(
        self,
        app: ASGIApp,
        scope: MutableMapping[str, Any],
        body: bytes,
        decode: Callable[[ServerSentEvent], T],
    ) -> None:
        self.sent: list[Message] = []
        self.sends_at_once = 0
        self._decode = decode
        self._decoder = Decoder()
        self._received: list[ServerSentEvent] = []
        self._taken = 0
        self._sending = 0
        self._refusal: Exception | None = None
        self._reading = asyncio.Event()
        self._reading.set()
        self._news = asyncio.Event()
        self._requests: asyncio.Queue[Message] = asyncio.Queue()
        self._requests.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self.task = asyncio.create_task(self._run(app, scope))
        self.task.add_done_callback(lambda _: self._news.set())

    async def _run(self, app: ASGIApp, scope: MutableMapping[str, Any]) -> None:
        await app(scope, self._requests.get, self._send)

    async def _send(self, message: Message) -> None:
        self._sending += 1
        self.sends_at_once = max(self.sends_at_once, self._sending)
        try:
            await self._reading.wait()
            if self._refusal is not None:
                raise self._refusal
            self.sent.append(message)
            self._received += self._decoder.feed(message.get("body", b""))
            self._news.set()
            if self.terminated:
                self.leave()  # servers tell the end of a response in these words too
        finally:
            self._sending -= 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.resume()
        self.leave()
        await self.ended()

    async def __anext__(self) -> T:
        if not await self._arrived(self._taken + 1):
            raise StopAsyncIteration
        self._taken += 1
        return self._decode(self._received[self._taken - 1])

    async def events(self, count: int) -> list[T]:
        """Wait until `count` events have arrived in all, and return these first ones.

        Raises:
            BrokenError: the stream has ended before.
            Exception: what the application has raised instead.
        """
        if not await self._arrived(count):
            arrived = len(self._received)
            raise BrokenError(f"the stream ended after {arrived} events; {count} were expected")
        return [self._decode(event) for event in self._received[:count]]

    async def _arrived(self, count: int) -> bool:
        while len(self._received) < count:
            if self.task.done():
                self.task.result()
                return False
            self._news.clear()
            await self._news.wait()
        return True

    async def started(self) -> None:
        """Wait until the status and the headers are there; raises what the application raised."""
        while not self.sent and not self.task.done():
            self._news.clear()
            await self._news.wait()
        if not self.sent:
            self.task.result()

    def pause(self) -> None:
        """Take nothing any more: the application's next send waits until `resume`."""
        self._reading.clear()

    def resume(self) -> None:
        """Take again what the application sends."""
        self._reading.set()

    def refuse(self, error: Exception) -> None:
        """Answer every further send with `error`; servers raise `OSError` when the client left."""
        self._refusal = error

    def leave(self) -> None:
        """Close the connection, as a browser tab does."""
        self._requests.put_nowait({"type": "http.disconnect"})

    async def ended(self) -> None:
        """Wait until the application has returned; raises what it raised."""
        await self.task

    @property
    def start(self) -> Message:
        """The message with the status and the headers.

        Raises:
            UsageError: it has not been sent yet.
        """
        if not self.sent:
            raise UsageError("the response has not started; wait for started() or for an event")
        return self.sent[0]

    @property
    def status(self) -> int:
        """The response's status code."""
        status: int = self.start["status"]
        return status

    @property
    def headers(self) -> dict[str, str]:
        """The response's headers, names in lower case; the last one wins where two are the same."""
        return {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in self.start["headers"]
        }

    @property
    def chunks(self) -> list[bytes]:
        """The body, in the pieces in which it was sent; without the empty ones."""
        return [message["body"] for message in self.sent if message.get("body")]

    @property
    def body(self) -> bytes:
        """The body so far."""
        return b"".join(self.chunks)

    @property
    def retry_ms(self) -> int | None:
        """The last `retry` that was sent."""
        return self._decoder.retry_ms

    @property
    def terminated(self) -> bool:
        """Whether the body has ended properly, so that a client would not take it for cut off."""
        return bool(self.sent) and "body" in (last := self.sent[-1]) and not last.get("more_body")


@overload
def open_stream(
    app: ASGIApp,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    json: object = None,
    type: str = "http",
) -> OpenStream[ServerSentEvent]: ...
@overload
def open_stream(
    app: ASGIApp,
    path: str = "/",
    *,
    events: EventUnion[E],
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    json: object = None,
    type: str = "http",
) -> OpenStream[E]: ...
def open_stream(
    app: ASGIApp,
    path: str = "/",
    *,
    events: EventUnion[E] | None = None,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    json: object = None,
    type: str = "http",
) -> OpenStream[E] | OpenStream[ServerSentEvent]:
    """Send one request to `app` in a task of the running loop, and return the open stream.

    Args:
        app: any ASGI application; an `EventSourceResponse` is one too.
        path: the path, percent-encoded where need be, with a query string if there is one.
        events: the union to decode by; without it, the events are `ServerSentEvent`s as they came.
        method: the HTTP method.
        headers: the request's headers; a value is sent as UTF-8.
        json: the request's body, sent as JSON; none by default.
        type: `http`, or `websocket` for a handshake that is answered by a response.

    Reading from the stream raises `UnknownEvent` and `MalformedPayload` as `EventUnion.decode`
    does.
    """
    raw_path, _, query = path.partition("?")
    given = {"host": "testserver"} | {k.lower(): v for k, v in (headers or {}).items()}
    if json is not None:
        given.setdefault("content-type", "application/json")
    scope: dict[str, Any] = {
        "type": type,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
        "state": {},
    }
    body = b"" if json is None else jsonlib.dumps(json).encode()
    if events is None:
        return OpenStream[ServerSentEvent](app, scope, body, lambda event: event)
    return OpenStream[E](app, scope, body, events.decode)


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncGenerator[None, None]:
    """Run the lifespan of `app` around the block: start-up before it, shutdown after it.

    Raises:
        BrokenError: the application could not start up or shut down; the message is its own.
        Exception: what the application raised instead of an answer.
    """
    requests: asyncio.Queue[Message] = asyncio.Queue()
    answers: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}

    async def lifespan() -> None:
        await app(scope, requests.get, answers.put)

    async def phase(name: str) -> None:
        requests.put_nowait({"type": f"lifespan.{name}"})
        answer = asyncio.ensure_future(answers.get())
        await asyncio.wait({task, answer}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            task.result()
            raise BrokenError(f"the application left its lifespan at {name} without an answer")
        if answer.result()["type"].endswith(".failed"):
            reason = answer.result().get("message", "")
            raise BrokenError(f"the application failed at {name}: {reason}")

    task = asyncio.create_task(lifespan())
    try:
        await phase("startup")
        yield
        await phase("shutdown")
        await task
    finally:
        task.cancel()
        await asyncio.wait({task})


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
    """An event loop whose `time()` starts at 0 and moves only when nothing else can happen.

    Code under it may sleep for hours and takes none. Time stands still while anything is ready to
    run, so what happens "at" a moment happens whole before the next moment comes.

    Limits: it sees its own timers, tasks and sockets. While work is under way in a thread and a
        timer is set, time jumps to that timer: switch off keep-alives and timeouts (`ping=0`,
        `send_timeout=None`) in a test of a generator that runs in a thread.
    """

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._jumping.now_s

    async def shutdown_default_executor(
        self,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
    ) -> None:
        """Wait for the threads of the default executor, without a limit: it would be a timer."""
        await super().shutdown_default_executor()


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine under a `VirtualTimeLoop`, as `asyncio.run` does, and return its result."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
