"""A client of an ASGI application, without a server between: it sees what a server would see."""

import asyncio
from collections.abc import MutableMapping
from json import dumps
from typing import Any

from starlette.types import ASGIApp, Message

from typed_sse.wire import Decoder, ServerSentEvent


class Client:
    """One request, driven step by step.

    Attributes:
        sent: every ASGI message that the application sent, in order.
        sending: how many sends were under way at the worst moment.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: str = "/",
        *,
        type: str = "http",
        method: str = "GET",
        json: object = None,
    ) -> None:
        self._app = app
        path, _, query = path.partition("?")
        self._scope: MutableMapping[str, Any] = {
            "type": type,
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [] if json is None else [(b"content-type", b"application/json")],
        }
        body = b"" if json is None else dumps(json).encode()
        self._requests: asyncio.Queue[Message] = asyncio.Queue()
        self._requests.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self.sent: list[Message] = []
        self.sending = 0
        self.reading = asyncio.Event()
        self.reading.set()
        self.refuse: Exception | None = None
        self._now_sending = 0
        self._arrived = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self._app(self._scope, self._requests.get, self._send)

    async def _send(self, message: Message) -> None:
        self._now_sending += 1
        self.sending = max(self.sending, self._now_sending)
        try:
            await self.reading.wait()
            if self.refuse is not None:
                raise self.refuse
            self.sent.append(message)
            self._arrived.set()
            if message.get("more_body") is False:
                self.leave()  # servers tell the end of a response in these words too
        finally:
            self._now_sending -= 1

    def leave(self) -> None:
        """Close the connection, as a browser tab does."""
        self._requests.put_nowait({"type": "http.disconnect"})

    async def ended(self) -> None:
        """Wait until the application is done; raises what it raised."""
        await self.task

    async def events(self, count: int) -> list[ServerSentEvent]:
        """Wait until `count` events have arrived, and return them."""
        while len(events := Decoder().feed(self.body)) < count:
            self._arrived.clear()
            await self._arrived.wait()
        return events[:count]

    @property
    def start(self) -> Message:
        assert self.sent[0]["type"] == "http.response.start"
        return self.sent[0]

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.start["headers"]}

    @property
    def chunks(self) -> list[bytes]:
        return [message["body"] for message in self.sent[1:]]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def terminated(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False
