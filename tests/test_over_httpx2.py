"""httpx2 under both clients: what its errors mean, what it sends, how bodies are decoded."""

import asyncio
import gzip
import ssl
import traceback
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import httpx2
import pytest

from answers import AT_ONCE, NEVER, URL
from typed_sse import ConnectionFailed, InvalidField, NotAStream, ServerSentEvent
from typed_sse.client import AsyncEventSource, EventSource, ReconnectPolicy
from typed_sse.over_httpx2 import own_tls
from typed_sse.transport import Lost

STREAM = {"content-type": "text/event-stream"}
ONCE = ReconnectPolicy(max_attempts=1)


class Body(httpx2.AsyncByteStream, httpx2.SyncByteStream):
    """A body of chunks and errors."""

    def __init__(self, *steps: bytes | Exception) -> None:
        self.closed = 0
        self.taken = 0
        self._steps = steps

    def __iter__(self) -> Iterator[bytes]:
        for step in self._steps:
            self.taken += 1
            if isinstance(step, Exception):
                raise step
            yield step

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for step in self:
            await asyncio.sleep(0)
            yield step

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.close()


Handler = Callable[[httpx2.Request], httpx2.Response]


class Transport(httpx2.AsyncBaseTransport, httpx2.BaseTransport):
    def __init__(self, handler: Handler) -> None:
        self.requests: list[httpx2.Request] = []
        self._handler = handler

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return self._handler(request)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return self.handle_request(request)


class Seen:
    def __init__(self, items: list[Any], requests: list[httpx2.Request]) -> None:
        self.items = items
        self.requests = requests


@pytest.fixture(params=["async", "sync"])
def is_async(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "async")


async def read(
    is_async: bool,
    handler: Handler,
    *,
    url: str = URL,
    of_client: Mapping[str, Any] | None = None,
    **how: Any,
) -> Seen:
    """Read a stream to its end, or to its first error."""
    transport = Transport(handler)
    items: list[Any] = []
    options: dict[str, Any] = {"transport": transport, "follow_redirects": True}
    options |= of_client or {}
    try:
        if is_async:
            async with httpx2.AsyncClient(**options) as client:
                async with AsyncEventSource(url, client=client, **how) as source:
                    async for event in source:
                        items.append(event)
                assert not client.is_closed
        else:
            with httpx2.Client(**options) as blocking:
                with EventSource(url, client=blocking, **how) as source_of_thread:
                    items.extend(source_of_thread)
                assert not blocking.is_closed
    except Exception as error:
        items.append(error)
    return Seen(items, transport.requests)


def answering(
    *steps: bytes | Exception, status: int = 200, headers: Mapping[str, str] = STREAM
) -> Handler:
    return lambda _: httpx2.Response(status, headers=headers, stream=Body(*steps))


def raising(error: Exception) -> Handler:
    def handler(_: httpx2.Request) -> httpx2.Response:
        raise error

    return handler


# --- what is sent


async def test_a_request_is_sent_as_the_client_sends_its_own(is_async: bool) -> None:
    seen = await read(
        is_async,
        answering(b"data: x\n\n"),
        policy=NEVER,
        headers={"X-User": "é"},
        last_event_id="ü/5",
        content=b"body",
        of_client={"headers": {"x-client": "1"}, "cookies": {"session": "2"}},
    )
    assert seen.items == [ServerSentEvent("x", id="ü/5")]
    (request,) = seen.requests
    assert (request.method, str(request.url)) == ("POST", URL)
    raw = dict(request.headers.raw)
    lowered = {name.lower(): value for name, value in raw.items()}
    assert lowered[b"last-event-id"] == "ü/5".encode()
    assert lowered[b"x-user"] == "é".encode()
    assert lowered[b"accept"] == b"text/event-stream"
    assert (lowered[b"x-client"], lowered[b"cookie"]) == (b"1", b"session=2")
    assert lowered[b"authorization"].startswith(b"Basic ")
    assert request.content == b"body"


async def test_the_limit_of_an_answer_becomes_the_idle_limit_of_its_body(is_async: bool) -> None:
    limits: list[Any] = []

    class Limited(Body):
        def __iter__(self) -> Iterator[bytes]:
            limits.append(dict(kept[0].extensions["timeout"]))
            yield b"data: x\n\n"

    kept: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        kept.append(request)
        limits.append(dict(request.extensions["timeout"]))
        return httpx2.Response(200, headers={**STREAM, "stream-idle-limit": "45"}, stream=Limited())

    await read(is_async, handler, policy=ReconnectPolicy(repeat="unsent", answer_within_s=7))
    assert [limit["read"] for limit in limits] == [7, 45]
    assert limits[0] == {"connect": 7, "read": 7, "write": 7, "pool": 7}


async def test_the_answer_after_a_redirect_is_read_and_named(is_async: bool) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/sse":
            return httpx2.Response(307, headers={"location": "http://bob:pw@other/there?token=1"})
        return httpx2.Response(403, headers={"content-type": "text/plain"}, text="no")

    (error,) = (await read(is_async, handler)).items
    assert isinstance(error, NotAStream)
    assert (error.url, error.status, error.start) == ("http://other/there", 403, b"no")


async def test_redirects_are_not_followed_where_the_client_does_not(is_async: bool) -> None:
    handler = answering(status=307, headers={"location": "/there"})
    seen = await read(is_async, handler, of_client={"follow_redirects": False})
    assert isinstance(seen.items[0], NotAStream)
    assert len(seen.requests) == 1


# --- what is lost


def certificate_refused() -> httpx2.ConnectError:
    error = httpx2.ConnectError("[SSL] certificate verify failed")
    error.__cause__ = OSError("wrapped")
    error.__cause__.__context__ = ssl.SSLCertVerificationError("expired")
    return error


@pytest.mark.parametrize(
    ("error", "how", "futile"),
    [
        (httpx2.ConnectError("refused"), "unreachable", False),
        (httpx2.ConnectTimeout("late"), "unreachable", False),
        (httpx2.ProxyError("407 Proxy Authentication Required"), "unreachable", False),
        (httpx2.PoolTimeout("pool"), "unreachable", False),
        (certificate_refused(), "unreachable", True),
        (httpx2.ReadTimeout("late"), "unanswered", False),
        (httpx2.WriteTimeout("late"), "unanswered", False),
        (httpx2.ReadError("reset"), "unanswered", False),
        (httpx2.WriteError("reset"), "unanswered", False),
        (httpx2.CloseError("close"), "unanswered", False),
        (httpx2.RemoteProtocolError("garbage"), "unanswered", False),
        (httpx2.UnsupportedProtocol("gopher"), "unanswered", True),
        (httpx2.DecodingError("of a challenge"), "unanswered", False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_each_error_before_an_answer_says_how_the_connection_was_lost(
    is_async: bool, error: Exception, how: str, futile: bool
) -> None:
    policy = ReconnectPolicy(base_delay_s=0, max_attempts=2)
    seen = await read(is_async, raising(error), policy=policy)
    (failed,) = seen.items
    assert isinstance(failed, ConnectionFailed)
    lost = failed.__cause__
    assert isinstance(lost, Lost)
    assert (lost.how, lost.futile, lost.__cause__) == (how, futile, error)
    assert len(seen.requests) == (1 if futile else 2)


async def test_a_pool_without_a_connection_left_says_what_to_raise(is_async: bool) -> None:
    (failed,) = (await read(is_async, raising(httpx2.PoolTimeout("")), policy=ONCE)).items
    assert "raise max_connections in its httpx2.Limits" in str(failed)


async def test_an_error_without_a_text_is_named(is_async: bool) -> None:
    (failed,) = (await read(is_async, raising(httpx2.ReadError("")), policy=ONCE)).items
    assert str(failed).endswith("(unanswered): ReadError")


async def test_what_a_peer_has_put_into_an_error_is_escaped_and_cut(is_async: bool) -> None:
    error = httpx2.RemoteProtocolError("illegal: \x1b[2J\n" + "x" * 10_000)
    (failed,) = (await read(is_async, raising(error), policy=ONCE)).items
    assert r"illegal: \x1b[2J\n" in str(failed)
    assert len(str(failed)) < 400


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (httpx2.ReadTimeout("late"), "idle"),
        (httpx2.ReadError("reset"), "cut"),
        (httpx2.RemoteProtocolError("incomplete chunked read"), "cut"),
        (httpx2.StreamClosed(), "cut"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_each_error_of_a_body_says_how_the_connection_was_lost(
    is_async: bool, error: Exception, how: str
) -> None:
    policy = ReconnectPolicy(max_attempts=1)
    event, failed = (await read(is_async, answering(b"data: x\n\n", error), policy=policy)).items
    assert event == ServerSentEvent("x")
    assert isinstance(failed, ConnectionFailed)
    assert failed.reason == how
    assert isinstance(failed.__cause__, Lost)
    assert failed.__cause__.__cause__ is error


async def test_the_body_is_closed_whatever_happens(is_async: bool) -> None:
    bodies = [Body(b"data: x\n\n"), Body(b"data: y\n\n", httpx2.ReadError("x")), Body()]
    left = iter(bodies)

    def handler(_: httpx2.Request) -> httpx2.Response:
        body = next(left)
        status = 204 if body is bodies[-1] else 200
        return httpx2.Response(status, headers=STREAM, stream=body)

    seen = await read(is_async, handler, policy=AT_ONCE)
    assert [event.data for event in seen.items] == ["x", "y"]
    assert all(body.closed for body in bodies)


async def test_an_error_of_the_programs_own_transport_is_its_own(is_async: bool) -> None:
    (error,) = (await read(is_async, raising(LookupError("mine")))).items
    assert repr(error) == "LookupError('mine')"


# --- what cannot be sent


@pytest.mark.parametrize("url", ["http://host:port/", "http://ho\nst/", "http://[::g]/"])
async def test_a_url_that_cannot_be_asked_is_the_programs_fault(is_async: bool, url: str) -> None:
    (error,) = (await read(is_async, answering(), url=url, policy=NEVER)).items
    assert isinstance(error, InvalidField)
    assert error.field == "url"


async def test_a_url_whose_password_is_taken_for_a_port_is_not_repeated(is_async: bool) -> None:
    (error,) = (await read(is_async, answering(), url="http://ann:sec/ret@host/")).items
    assert isinstance(error, InvalidField)
    assert "sec" not in "".join(traceback.format_exception(error)).rpartition("InvalidField")[2]


@pytest.mark.parametrize("headers", [{"X-é": "1"}, {"X": "\ud800"}])
async def test_a_header_that_cannot_be_sent_is_the_programs_fault(
    is_async: bool, headers: Mapping[str, str]
) -> None:
    (error,) = (await read(is_async, answering(), headers=headers, policy=NEVER)).items
    assert isinstance(error, InvalidField)
    assert error.field == "headers"


async def test_what_http_has_no_room_for_is_the_programs_fault_and_is_not_repeated(
    is_async: bool,
) -> None:
    refused = httpx2.LocalProtocolError("Illegal header value b'Bearer secret\\n'")
    (error,) = (await read(is_async, raising(refused))).items
    assert isinstance(error, InvalidField)
    assert "look for line ends" in str(error)
    assert "secret" not in "".join(traceback.format_exception(error))


# --- redirects of a hostile peer


async def test_redirects_without_an_end_end(is_async: bool) -> None:
    seen = await read(is_async, answering(status=302, headers={"location": "/sse"}))
    (failed,) = seen.items
    assert isinstance(failed, ConnectionFailed)
    assert "more redirects than the client follows" in str(failed)
    assert len(seen.requests) == 21


@pytest.mark.parametrize("limit", [0, 1, 3])
async def test_as_many_redirects_are_followed_as_the_client_follows(
    is_async: bool, limit: int
) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        number = int(request.url.path[1:])
        if number < limit:
            return httpx2.Response(302, headers={"location": f"/{number + 1}"})
        return httpx2.Response(200, headers=STREAM, stream=Body(b"data: x\n\n"))

    url, of_client = "http://test/0", {"max_redirects": limit}
    seen = await read(is_async, handler, url=url, policy=NEVER, of_client=of_client)
    assert seen.items == [ServerSentEvent("x")]


@pytest.mark.parametrize("status", [301, 302, 303])
@pytest.mark.parametrize("busy", [httpx2.ConnectError("refused"), 408, 425, 429, 503])
async def test_a_post_that_was_answered_by_what_to_get_is_not_sent_again(
    is_async: bool, status: int, busy: Exception | int
) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            return httpx2.Response(status, headers={"location": "/answer?token=secret"})
        if isinstance(busy, Exception):
            raise busy
        return httpx2.Response(busy, stream=Body(b"busy"))

    thrice = ReconnectPolicy(base_delay_s=0, max_attempts=3)
    seen = await read(is_async, handler, json=1, policy=thrice)
    assert [request.method for request in seen.requests] == ["POST", "GET"]
    (error,) = seen.items
    assert isinstance(error, ConnectionFailed)
    assert error.reason == "unanswered"
    assert "secret" not in str(error)


async def test_a_post_that_was_sent_elsewhere_as_it_is_may_be_sent_again(is_async: bool) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        posts = sum(each.url.path == "/there" for each in requests)
        requests.append(request)
        if request.url.path == "/sse":
            return httpx2.Response(307, headers={"location": "/there"})
        if not posts:
            return httpx2.Response(503, stream=Body())
        return httpx2.Response(200, headers=STREAM, stream=Body(b"data: x\n\n"))

    requests: list[httpx2.Request] = []
    seen = await read(is_async, handler, json=1, policy=AT_ONCE)
    assert seen.items == [ServerSentEvent("x")]
    assert [request.method for request in requests] == ["POST"] * 4


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("ftp://host/", ConnectionFailed),
        ("http://host:port/", NotAStream),
        ("http://\x01/", NotAStream),
    ],
)
async def test_a_redirect_to_nowhere_is_the_peers_fault(
    is_async: bool, location: str, kind: type[Exception]
) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        if request.url.scheme == "ftp":
            raise httpx2.UnsupportedProtocol("Request URL has an unsupported protocol 'ftp://'.")
        return httpx2.Response(302, headers=[(b"location", location.encode())])

    (failed,) = (await read(is_async, handler, policy=ONCE)).items
    assert type(failed) is kind
    assert "\x01" not in str(failed)


async def test_the_body_of_a_redirect_is_not_read(is_async: bool) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/sse":
            # Reading it would be the error of a bad coding.
            headers = {"location": "/there", "content-encoding": "gzip"}
            return httpx2.Response(302, headers=headers, stream=Body(b"no gzip"))
        return httpx2.Response(200, headers=STREAM, stream=Body(b"data: there\n\n"))

    event, *_ = (await read(is_async, handler, policy=ONCE)).items
    assert event == ServerSentEvent("there")


async def test_credentials_do_not_go_to_another_host(is_async: bool) -> None:
    onward = {"/sse": "/same", "/same": "http://other/there"}

    def handler(request: httpx2.Request) -> httpx2.Response:
        if (location := onward.get(request.url.path)) is not None:
            return httpx2.Response(302, headers={"location": location})
        return httpx2.Response(403)

    seen = await read(is_async, handler, of_client={"auth": ("ann", "secret")})
    assert ["authorization" in request.headers for request in seen.requests] == [True, True, False]


# --- content codings


def compressed(coding: str, *parts: bytes) -> list[bytes]:
    """Compress parts so that each can be read as soon as it is there."""
    bits = {"gzip": 31, "deflate": 15, "raw": -15}[coding]
    compressor = zlib.compressobj(wbits=bits)
    pieces = [compressor.compress(part) + compressor.flush(zlib.Z_SYNC_FLUSH) for part in parts]
    return [*pieces, compressor.flush()]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw"])
async def test_a_compressed_stream_is_read_as_it_comes(is_async: bool, coding: str) -> None:
    first, second, end = compressed(coding, b"data: 1\n\n", b"data: 2\n\n")
    headers = {**STREAM, "content-encoding": "deflate" if coding == "raw" else "GZIP"}
    headers["content-encoding"] = {"gzip": " GZIP "}.get(coding, "deflate")
    cut = answering(first, httpx2.ReadError("reset"), headers=headers)
    event, _ = (await read(is_async, cut, policy=ONCE)).items
    assert event == ServerSentEvent("1")
    whole = answering(first, second, end, headers=headers)
    assert [e.data for e in (await read(is_async, whole, policy=NEVER)).items] == ["1", "2"]


@pytest.mark.parametrize("coding", ["br", "zstd", "x-gzip", "gzip, gzip", "x" * 1000])
async def test_a_coding_that_not_every_client_reads_is_refused_by_name(
    is_async: bool, coding: str
) -> None:
    handler = answering(
        gzip.compress(b"data: 1\n\n"), headers={**STREAM, "content-encoding": coding}
    )
    (error,) = (await read(is_async, handler, policy=NEVER)).items
    assert isinstance(error, NotAStream)
    assert f"its Content-Encoding is {coding[:40]!r}; ask for gzip or none" in str(error)


@pytest.mark.parametrize(
    ("offered", "sent"),
    [
        ("gzip, deflate, br, zstd", "gzip, deflate"),
        ("br;q=1.0, GZIP;q=0.5", "GZIP;q=0.5"),
        ("br", "identity"),
        ("identity", "identity"),
    ],
)
async def test_no_coding_is_asked_for_that_is_refused(
    is_async: bool, offered: str, sent: str
) -> None:
    of_client = {"headers": {"accept-encoding": offered}}
    seen = await read(is_async, answering(b"data: x\n\n"), policy=NEVER, of_client=of_client)
    assert [request.headers["accept-encoding"] for request in seen.requests] == [sent]


async def test_a_body_that_is_not_in_its_coding_is_no_stream(is_async: bool) -> None:
    handler = answering(b"data: 1\n\n", headers={**STREAM, "content-encoding": "gzip"})
    (error,) = (await read(is_async, handler, policy=NEVER)).items
    assert isinstance(error, NotAStream)
    assert "not what its Content-Encoding says" in str(error)


async def test_of_an_error_page_in_an_unknown_coding_the_head_is_told(is_async: bool) -> None:
    headers = {"content-type": "text/html", "content-encoding": "br"}
    (error,) = (await read(is_async, answering(b"\x0b", status=500, headers=headers))).items
    assert (error.status, error.start) == (500, b"")


async def test_headers_of_one_name_are_joined_and_the_last_type_counts(is_async: bool) -> None:
    def handler(_: httpx2.Request) -> httpx2.Response:
        headers = [(b"Content-Type", b"text/html"), (b"content-type", b"Text/Event-Stream")]
        return httpx2.Response(200, headers=headers, stream=Body(b"data: x\n\n"))

    assert (await read(is_async, handler, policy=NEVER)).items == [ServerSentEvent("x")]


# --- closing from another thread


class Socket:
    def __init__(self, error: OSError | None = None) -> None:
        self.shut: list[int] = []
        self._error = error

    def get_extra_info(self, name: str) -> object:
        assert name == "socket"
        return self

    def shutdown(self, how: int) -> None:
        self.shut.append(how)
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("connection", [Socket(), Socket(OSError("not connected")), None])
def test_closing_shuts_the_socket_of_a_read_down_where_there_is_one(
    connection: Socket | None,
) -> None:
    class Closing(Body):
        def __iter__(self) -> Iterator[bytes]:
            yield b"data: 1\n\n"
            source.close()
            yield b"data: 2\n\n"

    body = Closing()
    extensions = {} if connection is None else {"network_stream": connection}

    def handler(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=STREAM, stream=body, extensions=extensions)

    with httpx2.Client(transport=Transport(handler)) as client:
        source = EventSource(URL, client=client)
        assert [event.data for event in source] == ["1"]
    assert body.closed == 1
    assert connection is None or len(connection.shut) == 1


def test_closing_between_reads_leaves_the_socket_to_others_that_share_it() -> None:
    connection = Socket()
    body = Body(b"data: 1\n\n", b"data: 2\n\n")

    def handler(_: httpx2.Request) -> httpx2.Response:
        extensions = {"network_stream": connection}
        return httpx2.Response(200, headers=STREAM, stream=body, extensions=extensions)

    with httpx2.Client(transport=Transport(handler)) as client:
        source = EventSource(URL, client=client)
        assert next(source).data == "1"
        source.close()
    assert body.closed == 1
    assert connection.shut == []


def test_what_a_client_of_our_own_trusts_is_made_once() -> None:
    assert own_tls() is own_tls()
    assert own_tls().verify_mode is ssl.CERT_REQUIRED
