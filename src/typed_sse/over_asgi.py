"""Requests into an ASGI application of the same process, without a server between.

`open_stream` drives one request in the running loop, event by event, and shows what a server would
have seen; `ASGITransport` puts this package's own client there. `testing` offers both. Knows ASGI
and typed events; nothing of any framework, nor of a test runner.
"""

import asyncio
import json as jsonlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    MutableMapping,
)
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar, overload
from urllib.parse import quote, unquote, urlsplit

from typed_sse.connection import Message, Send
from typed_sse.errors import BrokenError, UsageError
from typed_sse.events import BaseEvent, EventUnion
from typed_sse.reconnect import Loss
from typed_sse.transport import Lost, Request
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
    scope = _scope(method, raw_path, query, given) | {"type": type}
    body = b"" if json is None else jsonlib.dumps(json).encode()
    if events is None:
        return OpenStream[ServerSentEvent](app, scope, body, lambda event: event)
    return OpenStream[E](app, scope, body, events.decode)


def _scope(method: str, raw_path: str, query: str, headers: Mapping[str, str]) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
        "state": {},
    }


class ASGITransport:
    """Carry the requests of an `AsyncEventSource` into an ASGI application of the same loop.

    `AsyncEventSource("http://test/sse", Echo, client=ASGITransport(app))` reads what `app` streams,
    without a server, also in virtual time; when its policy says so, it comes back with another
    request. The application gets method, path, query, headers and body of the client's request, and
    the URL's host and scheme. One that raises, or returns too early, is a lost connection:
    `unanswered` before its head, `cut` behind it. A connection that the client leaves ends by an
    `http.disconnect`.

    Args:
        app: any ASGI application; its lifespan is not run, see `running`.

    Attributes:
        raised: what the application has raised, in order, also after the client had left. A server
            would log it.

    Cancellation: the connection is left, and the application has returned when the client goes on.

    Limits: an application that does not return after an `http.disconnect` holds the client up. A
        send waits until the client has taken the one before; of one request everything is kept.
        Redirects are not followed, nor are user and password of the URL, cookies or codings known:
        a redirect is an answer that is no stream.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.raised: list[Exception] = []
        self._app = app

    async def send(self, request: Request, *, answer_within_s: float | None) -> "_ASGIAnswer":
        """Send a request; see `typed_sse.transport.AsyncTransport`."""
        url = urlsplit(request.url)
        length = {} if request.body is None else {"content-length": str(len(request.body))}
        headers = {"host": url.netloc.rpartition("@")[2], **length, **dict(request.headers)}
        path, query = (quote(part, safe=_IN_URL) for part in (url.path or "/", url.query))
        server = (url.hostname, url.port or {"http": 80, "https": 443}[url.scheme])
        scope = _scope(request.method, path, query, headers) | {
            "scheme": url.scheme,
            "server": server,
        }
        stream = _HeldBack(self._app, scope, request.body or b"", lambda event: event)
        answer = _ASGIAnswer(request.url, stream, self.raised)
        try:
            head = await stream.message(0, answer_within_s)
        except TimeoutError:
            await answer.aclose()
            raise Lost("unanswered", f"no answer came within {answer_within_s:g} s") from None
        except BaseException:
            await answer.aclose()
            raise
        if head is None:
            await answer.aclose()
            raise answer.lost("unanswered")
        return answer


_IN_URL = "/%:@!$&'()*+,;=~?"


class _HeldBack(OpenStream[ServerSentEvent]):
    """A stream whose application may send the next message when the last one has been taken."""

    _left = False

    async def _send(self, message: Message) -> None:
        await super()._send(message)
        if not self._left:
            self.pause()

    def leave(self) -> None:
        self._left = True
        self.resume()
        super().leave()

    async def message(self, number: int, within_s: float | None) -> Message | None:
        """Wait for the message of this number; `None` where the application ends without it.

        Raises:
            TimeoutError: it has not come within so many seconds.
        """
        async with asyncio.timeout(within_s):
            while len(self.sent) <= number and not self.task.done():
                self.resume()
                self._news.clear()
                await self._news.wait()
        return self.sent[number] if number < len(self.sent) else None


class _ASGIAnswer:
    """What an application has answered; an `AsyncAnswer`."""

    def __init__(self, url: str, stream: _HeldBack, raised: list[Exception]) -> None:
        self.url = url
        self._stream = stream
        self._raised = raised

    @property
    def status(self) -> int:
        return self._stream.status

    @property
    def headers(self) -> Mapping[str, str]:
        joined: dict[str, str] = {}
        for raw_name, raw_value in self._stream.start.get("headers", ()):
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        return joined

    async def chunks(self, idle_s: float | None) -> AsyncGenerator[bytes, None]:
        more = True
        number = 0
        while more:
            number += 1
            try:
                message = await self._stream.message(number, idle_s)
            except TimeoutError:
                raise Lost("idle", f"nothing came for {idle_s:g} s") from None
            if message is None:
                raise self.lost("cut")
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]

    def lost(self, how: Loss) -> Lost:
        """Return what it is that the application has ended without the rest of its answer."""
        error = self._error()
        what = "has returned" if error is None else "raised"
        lost = Lost(how, f"the application {what} before the end of its answer")
        lost.__cause__ = error
        return lost

    def _error(self) -> BaseException | None:
        task = self._stream.task
        return None if task.cancelled() else task.exception()

    async def aclose(self) -> None:
        self._stream.leave()
        await asyncio.wait({self._stream.task})
        error = self._error()
        if isinstance(error, Exception) and error not in self._raised:
            self._raised.append(error)
