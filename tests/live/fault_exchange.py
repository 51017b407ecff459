"""The faults, and one exchange under one of them: what is sent to the client and how it ends.

It knows HTTP/1.1, through h11, and the two sockets of an exchange; nothing of threads, scripts and
records.
"""

import asyncio
import random
import socket
import sys
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import h11

MAX_REQUEST_BODY_BYTES = 1 << 20
"""Of a larger request the proxy makes a failure of the test."""

_PIECE_BYTES = 1 << 16
_NO_LIMIT = sys.maxsize
# What belongs to one connection; h11 writes its own.
_NOT_HANDED_ON = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade")
)
_CLOSE = (b"connection", b"close")


@dataclass(frozen=True, slots=True)
class Pass:
    """Hand on everything."""


@dataclass(frozen=True, slots=True)
class CutAfter:
    """Reset or close the connection after so many bytes of the body, and before its last chunk.

    Attributes:
        body_bytes: how many are sent; a shorter body is sent whole, and ended properly.
        reset: a RST, or else a FIN.
        coded: count the chunked coding too, so that the cut may be in a chunk's head or end.
    """

    body_bytes: int
    reset: bool = True
    coded: bool = False


@dataclass(frozen=True, slots=True)
class Stall:
    """Send nothing after so many bytes of the body; keep the connection until the client leaves."""

    body_bytes: int


@dataclass(frozen=True, slots=True)
class Delay:
    """Hold the whole response back for so long after the server has got the request."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Redirect:
    """Redirect to the same path and query and `redirected=1`; the request that follows passes."""

    status: int = 307


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer this, and do not ask the server."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Reset the connection at once: the client sees it connecting, sending or receiving."""


@dataclass(frozen=True, slots=True)
class AfterRequest:
    """Read the request, and reset the connection; the server does not get it."""


@dataclass(frozen=True, slots=True)
class EndCleanly:
    """End the response properly after so many bytes of body, as a proxy with a time limit does."""

    body_bytes: int


@dataclass(frozen=True, slots=True)
class Compressed:
    """Compress the body with gzip, asked for or not, and flush after each piece."""


HandedOn = Pass | CutAfter | Stall | Delay | EndCleanly | Compressed
"""The faults of a request that the server gets."""
Fault = HandedOn | Redirect | Answer | Refuse | AfterRequest
Drawn = Callable[[random.Random], Fault]
"""Makes a fault whose numbers are left to chance: `lambda chance: Stall(chance.randrange(99))`."""


class Side:
    """The client's or the server's side: a socket, and what HTTP has to say of its bytes.

    What is sent is handed to the kernel when `send` returns: so it comes before a cut.
    """

    def __init__(self, connection: socket.socket, http: h11.Connection) -> None:
        self._socket = connection
        self._http = http
        self._loop = asyncio.get_running_loop()
        self.left = _NO_LIMIT
        """How many bytes of body may still be sent."""
        self.counts_coding = False

    async def receive(self) -> h11.Event:
        """Return the next event of what comes; a `ConnectionError` where it is cut off."""
        cut = False
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                if cut:
                    raise ConnectionAbortedError("cut off in the middle of a message") from error
                raise
            if isinstance(event, h11.ConnectionClosed):
                raise ConnectionAbortedError("closed instead of a message")
            if isinstance(event, h11.Event):
                return event
            piece = await self.receive_bytes()
            cut = not piece
            self._http.receive_data(piece)

    async def receive_bytes(self) -> bytes:
        return await self._loop.sock_recv(self._socket, _PIECE_BYTES)

    async def send(self, event: h11.Event) -> bool:
        """Send an event, its body up to the limit; return whether there may be more."""
        out = bytearray()
        is_body = not isinstance(event, h11.Request | h11.Response)
        payload = event.data if isinstance(event, h11.Data) else None
        for part in self._http.send_with_data_passthrough(event) or []:
            if is_body and self.left == 0:
                break
            if is_body and (self.counts_coding or part is payload):
                out += part[: self.left]
                self.left -= min(self.left, len(part))
            else:
                out += part
        await self._loop.sock_sendall(self._socket, out)
        return self.left > 0

    async def send_all(self, events: Iterable[h11.Event]) -> None:
        for event in events:
            await self.send(event)


async def until_it_leaves(client: Side) -> None:
    """Raise a `ConnectionError` when the client closes its side; a second request is not read."""
    while await client.receive_bytes():
        pass
    raise ConnectionAbortedError("the client has left")


async def read_request(client: Side) -> tuple[h11.Request, bytes]:
    """Return the head and the whole body of the client's request."""
    head = await client.receive()
    assert isinstance(head, h11.Request)
    body = bytearray()
    while isinstance(event := await client.receive(), h11.Data):
        body += event.data
        if len(body) > MAX_REQUEST_BODY_BYTES:
            raise ValueError(f"a request of more than {MAX_REQUEST_BODY_BYTES} bytes")
    return head, bytes(body)


async def answer(
    client: Side,
    head: h11.Request,
    body: bytes,
    fault: Fault,
    *,
    upstream: tuple[str, int],
    url: str,
) -> bool:
    """Answer a request to the proxy at `url`; return whether the connection ends in order."""
    match fault:
        case Refuse() | AfterRequest():
            return False
        case Answer():
            await client.send_all(_answer_of(head, fault))
            return True
        case Redirect():
            location = url + marked(head.target.decode("ascii"))
            redirect = Answer(fault.status, (("location", location),))
            await client.send_all(_answer_of(head, redirect))
            return True
        case Pass() | CutAfter() | Stall() | Delay() | EndCleanly() | Compressed():
            with socket.socket() as connection:
                connection.setblocking(False)
                await asyncio.get_running_loop().sock_connect(connection, upstream)
                server = Side(connection, h11.Connection(h11.CLIENT))
                await server.send_all(_request_of(head, body))
                if isinstance(fault, Delay):
                    await asyncio.sleep(fault.seconds)
                return await _hand_on(server, client, head, fault)


async def _hand_on(server: Side, client: Side, head: h11.Request, fault: HandedOn) -> bool:
    """Hand on the response, with its fault; return whether the connection ends in order."""
    if isinstance(fault, CutAfter | Stall):
        client.left = fault.body_bytes
        client.counts_coding = isinstance(fault, CutAfter) and fault.coded
    left = fault.body_bytes if isinstance(fault, EndCleanly) else _NO_LIMIT
    response = await server.receive()
    while isinstance(response, h11.InformationalResponse):
        response = await server.receive()
    assert isinstance(response, h11.Response)
    has_body = head.method != b"HEAD" and response.status_code not in {204, 304}
    gzip = zlib.compressobj(wbits=31) if has_body and isinstance(fault, Compressed) else None
    headers = _handed_on(response.headers)
    if has_body and isinstance(fault, EndCleanly | Compressed):
        headers = [(name, value) for name, value in headers if name != b"content-length"]
    if gzip:
        headers.append((b"content-encoding", b"gzip"))
    more = await client.send(
        h11.Response(
            status_code=response.status_code,
            headers=[*headers, _CLOSE],
            reason=response.reason,
        )
    )
    while more and left and isinstance(event := await server.receive(), h11.Data):
        data = bytes(event.data[:left])
        left -= len(data)
        if gzip:
            data = gzip.compress(data) + gzip.flush(zlib.Z_SYNC_FLUSH)
        more = await client.send(h11.Data(data=data))
    if more:
        if gzip:
            await client.send(h11.Data(data=gzip.flush()))
        more = await client.send(h11.EndOfMessage())
    if not more and isinstance(fault, Stall):
        await asyncio.get_running_loop().create_future()
    return more or not (isinstance(fault, CutAfter) and fault.reset)


def _handed_on(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name not in _NOT_HANDED_ON]


def _request_of(head: h11.Request, body: bytes) -> list[h11.Event]:
    headers = _handed_on(head.headers)
    if body and all(name != b"content-length" for name, _ in headers):
        headers.append((b"content-length", b"%d" % len(body)))
    request = h11.Request(method=head.method, target=head.target, headers=[*headers, _CLOSE])
    return [request, h11.Data(data=body), h11.EndOfMessage()]


def _answer_of(head: h11.Request, answer: Answer) -> list[h11.Event]:
    headers = [(name.encode(), value.encode()) for name, value in answer.headers]
    if answer.body:
        headers.append((b"content-length", b"%d" % len(answer.body)))
    response = h11.Response(status_code=answer.status, headers=[*headers, _CLOSE])
    body = b"" if head.method == b"HEAD" else answer.body
    return [response, h11.Data(data=body), h11.EndOfMessage()]


def marked(path: str) -> str:
    """Return where a redirect of this path leads."""
    joint = "" if path.endswith(("?", "&")) else "&" if "?" in path else "?"
    return f"{path}{joint}redirected=1"
