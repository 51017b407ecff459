"""The proxy of faults, before a real uvicorn: each fault is exact, and the proxy hides nothing."""

import gzip
import http.client
import json
import random
import socket
import threading
import time
import zlib
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from urllib.parse import urlsplit

import anyio
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from live.fault_proxy import (
    AfterRequest,
    Answer,
    Compressed,
    CutAfter,
    Delay,
    EndCleanly,
    Fault,
    FaultProxy,
    Pass,
    Redirect,
    Refuse,
    Stall,
    fault_proxy,
)

pytestmark = pytest.mark.live

EVENTS = [b"data: one\n\n", "data: zwölf\n\n".encode(), "data: 十二\n\n".encode()]
BODY = b"".join(EVENTS)
CODED = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in EVENTS) + b"0\r\n\r\n"
LIMIT_S = 10


class Upstream:
    """A uvicorn in a thread: an echo, a stream that ends, and one that stays open."""

    def __init__(self) -> None:
        self.left: dict[str, threading.Event] = {}
        """What is set when the client of `/open` with this query has left."""
        routes = [
            Route("/echo", self._echo, methods=["GET", "POST"]),
            Route("/events", self._events),
            Route("/open", self._open),
        ]
        config = uvicorn.Config(Starlette(routes=routes), lifespan="off", log_level="error")
        self._uvicorn = uvicorn.Server(config)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._uvicorn.run, args=([self._socket],))
        self._thread.start()

    def stop(self) -> None:
        self._uvicorn.should_exit = True
        self._thread.join()

    async def _echo(self, request: Request) -> Response:
        body = (await request.body()).decode()
        return JSONResponse(
            {"target": str(request.url.query), "headers": dict(request.headers), "body": body},
            headers={"x-answer": "yes"},
        )

    async def _events(self, request: Request) -> Response:
        async def events() -> AsyncGenerator[bytes]:
            for event in EVENTS:
                yield event

        return StreamingResponse(events(), media_type="text/event-stream")

    async def _open(self, request: Request) -> Response:
        async def events() -> AsyncGenerator[bytes]:
            try:
                yield EVENTS[0]
                await anyio.sleep_forever()
            finally:
                self.left.get(request.url.query, threading.Event()).set()

        return StreamingResponse(events(), media_type="text/event-stream")


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    running = Upstream()
    yield running
    running.stop()


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[FaultProxy]:
    with fault_proxy(upstream.url) as running:
        yield running


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(proxy.url).port or 0), LIMIT_S)


@contextmanager
def asked(proxy: FaultProxy, path: str = "/events") -> Generator[socket.socket]:
    with connect(proxy) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        yield client


def read_until(client: socket.socket, end: bytes) -> bytes:
    seen = bytearray()
    while not seen.endswith(end):
        byte = client.recv(1)
        assert byte, bytes(seen)
        seen += byte
    return bytes(seen)


def rest_of(client: socket.socket) -> tuple[bytes, str]:
    """Read to the end; return what came and how it ended."""
    seen = b""
    try:
        while piece := client.recv(4096):
            seen += piece
    except ConnectionResetError:
        return seen, "reset"
    return seen, "closed"


def coded_up_to(body_bytes: int) -> bytes:
    """Return the chunked coding up to this byte of the body, and no end of its chunk."""
    coded = b""
    for event in EVENTS:
        if body_bytes <= len(event):
            return coded + (b"%x\r\n" % len(event) + event[:body_bytes] if body_bytes else b"")
        coded += b"%x\r\n%b\r\n" % (len(event), event)
        body_bytes -= len(event)
    raise AssertionError("beyond the body")


def coded_body(proxy: FaultProxy, path: str = "/events") -> tuple[bytes, str]:
    with asked(proxy, path) as client:
        read_until(client, b"\r\n\r\n")
        return rest_of(client)


def get(
    proxy: FaultProxy, path: str = "/events", method: str = "GET"
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(urlsplit(proxy.url).netloc, timeout=LIMIT_S)
    with closing(connection):
        connection.request(method, path)
        response = connection.getresponse()
        return response, response.read()


def test_pass_hands_on_the_request_and_the_response_and_records_the_request(
    proxy: FaultProxy,
) -> None:
    before_s = time.monotonic()
    connection = http.client.HTTPConnection(urlsplit(proxy.url).netloc, timeout=LIMIT_S)
    with closing(connection):
        headers: dict[str, str | bytes] = {"X-Id": "ü".encode(), "Connection": "keep-alive"}
        connection.request("POST", "/echo?a=%20b", iter([b"one", b"two"]), headers)
        response = connection.getresponse()
        echo = json.loads(response.read())
    (request,) = proxy.requests
    assert response.status == 200
    assert response.headers["x-answer"] == "yes"
    assert (echo["target"], echo["body"]) == ("a=%20b", "onetwo")
    assert echo["headers"]["host"] == urlsplit(proxy.url).netloc
    assert echo["headers"]["connection"] == "close"
    assert echo["headers"]["x-id"] == "ü".encode().decode("latin-1")
    assert (request.method, request.path, request.body) == ("POST", "/echo?a=%20b", b"onetwo")
    assert request.headers["x-id"] == "ü"
    assert request.fault == Pass()
    assert before_s < request.at_s < time.monotonic()


def test_a_stream_passes_as_it_is_chunk_by_chunk(proxy: FaultProxy) -> None:
    assert coded_body(proxy) == (CODED, "closed")


@pytest.mark.parametrize("reset", [True, False])
def test_a_cut_can_be_at_any_byte_of_the_chunked_coding(proxy: FaultProxy, reset: bool) -> None:
    proxy.script([CutAfter(n, reset, coded=True) for n in range(len(CODED) + 1)])
    seen = [coded_body(proxy) for _ in range(len(CODED) + 1)]
    end = "reset" if reset else "closed"
    assert seen == [(CODED[:n], end) for n in range(len(CODED) + 1)]


def test_a_cut_counts_the_bytes_of_the_body_and_comes_right_behind_them(proxy: FaultProxy) -> None:
    proxy.script([CutAfter(n) for n in range(len(BODY) + 1)])
    seen = [coded_body(proxy) for _ in range(len(BODY) + 1)]
    assert seen == [(coded_up_to(n), "reset") for n in range(len(BODY) + 1)]


def test_a_body_shorter_than_the_cut_is_whole(proxy: FaultProxy) -> None:
    proxy.script([CutAfter(len(BODY) + 1), Stall(len(BODY) + 1), EndCleanly(len(BODY) + 1)])
    assert [get(proxy)[1] for _ in range(3)] == [BODY] * 3


def test_a_body_of_known_length_can_be_cut(proxy: FaultProxy) -> None:
    proxy.script([CutAfter(3, reset=False)])
    with pytest.raises(http.client.IncompleteRead) as raised:
        get(proxy, "/echo")
    assert raised.value.partial == b'{"t'


def test_a_stalled_response_stays_open_and_gives_nothing_more(proxy: FaultProxy) -> None:
    proxy.script([Stall(5)])
    with asked(proxy) as client:
        read_until(client, b"\r\n\r\n")
        read_until(client, CODED[:8])
        proxy.cut_all()
        assert rest_of(client) == (b"", "reset")


@pytest.mark.parametrize("fault", [Pass(), Stall(3), Compressed()])
def test_the_server_sees_it_when_the_client_leaves(
    proxy: FaultProxy, upstream: Upstream, fault: Fault
) -> None:
    name = type(fault).__name__
    left = upstream.left[name] = threading.Event()
    proxy.script([fault])
    with asked(proxy, f"/open?{name}") as client:
        read_until(client, b"\r\n\r\n")
        client.recv(1)
        assert not left.is_set()
    assert left.wait(LIMIT_S)


def test_a_delay_holds_the_whole_response_back(proxy: FaultProxy) -> None:
    proxy.script([Delay(0.1)])
    _, body = get(proxy)
    assert time.monotonic() - proxy.requests[0].at_s >= 0.1
    assert body == BODY


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/events", "/events?redirected=1"),
        ("/events?", "/events?redirected=1"),
        ("/events?a=1&b=%26", "/events?a=1&b=%26&redirected=1"),
    ],
)
def test_a_redirect_leads_to_the_proxy_and_takes_no_second_fault(
    proxy: FaultProxy, path: str, location: str
) -> None:
    proxy.script([Redirect(308), AfterRequest()])
    response, _ = get(proxy, path)
    assert response.status == 308
    assert response.headers["location"] == proxy.url + location
    assert get(proxy, location)[1] == BODY
    with pytest.raises(ConnectionResetError):
        get(proxy, location)
    assert [request.fault for request in proxy.requests] == [
        Redirect(308),
        Pass(),
        AfterRequest(),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(503, (("retry-after", "7"),)),
        Answer(502, (("content-type", "text/html"),), b"<h1>Bad gateway</h1>"),
        Answer(204),
    ],
    ids=lambda answer: str(answer.status),
)
def test_an_answer_is_the_proxys_own(proxy: FaultProxy, answer: Answer) -> None:
    proxy.script([answer, answer])
    response, body = get(proxy, "/nowhere")
    assert (response.status, body) == (answer.status, answer.body)
    assert set(answer.headers) <= set(response.headers.items())
    assert get(proxy, "/nowhere", "HEAD")[1] == b""


def test_a_refused_connection_is_reset_and_its_request_unknown(proxy: FaultProxy) -> None:
    proxy.script([Refuse(), Refuse()])
    for _ in range(2):
        # In connecting, sending or receiving: wherever the client is by then.
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            get(proxy)
    assert (proxy.refused, proxy.requests) == (2, [])
    assert get(proxy)[1] == BODY


def test_a_reset_after_the_request_is_one_that_the_proxy_has_seen(proxy: FaultProxy) -> None:
    proxy.script([AfterRequest()])
    with asked(proxy, "/open") as client:
        assert rest_of(client) == (b"", "reset")
    (request,) = proxy.requests
    assert (request.path, request.fault) == ("/open", AfterRequest())


def test_a_response_that_is_ended_cleanly_is_complete_for_http(proxy: FaultProxy) -> None:
    ends = range(len(BODY) + 1)
    proxy.script([*(EndCleanly(n) for n in ends), EndCleanly(3)])
    assert [get(proxy)[1] for _ in ends] == [BODY[:n] for n in ends]
    assert get(proxy, "/echo")[1] == b'{"t'


def test_a_compressed_stream_gives_each_event_at_once(proxy: FaultProxy) -> None:
    proxy.script([Compressed(), Compressed(), Compressed()])
    with asked(proxy, "/open") as client:
        head = read_until(client, b"\r\n\r\n")
        size = int(read_until(client, b"\r\n"), 16)
        chunk = client.recv(size, socket.MSG_WAITALL)
        assert b"content-encoding: gzip\r\n" in head
        assert zlib.decompressobj(wbits=31).decompress(chunk) == EVENTS[0]
    assert gzip.decompress(get(proxy)[1]) == BODY
    assert json.loads(gzip.decompress(get(proxy, "/echo")[1]))["body"] == ""


def test_what_is_down_refuses_and_keeps_what_is_open(proxy: FaultProxy) -> None:
    with asked(proxy, "/open") as client:
        read_until(client, EVENTS[0])
        proxy.down()
        proxy.down()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        proxy.up()
        proxy.up()
        assert get(proxy)[1] == BODY
        proxy.cut_all()
        assert rest_of(client) == (b"\r\n", "reset")
    assert get(proxy)[1] == BODY


def test_a_cut_of_the_servers_is_one_for_the_client(proxy: FaultProxy) -> None:
    proxy.script([CutAfter(4), CutAfter(4, reset=False), AfterRequest()])
    with fault_proxy(proxy.url) as outer:
        seen = [coded_body(outer) for _ in range(2)]
        with asked(outer) as client:
            assert rest_of(client) == (b"", "reset")
    # What has come of a chunk is handed on as a chunk.
    assert seen == [(b"4\r\ndata\r\n", "reset")] * 2


def test_a_seed_gives_the_same_faults_again_and_is_printed(
    proxy: FaultProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(chance: random.Random) -> Fault:
        return EndCleanly(chance.randrange(len(BODY)))

    def drawn(seed: int) -> list[Fault]:
        before = len(proxy.requests)
        proxy.at_random(seed, {Pass(): 1, stop: 3, Answer(503): 1})
        for _ in range(20):
            get(proxy)
        return [request.fault for request in proxy.requests[before:]]

    first = drawn(7)
    assert drawn(7) == first
    assert drawn(8) != first
    assert {type(fault) for fault in first} == {Pass, EndCleanly, Answer}
    assert "seed 7" in capsys.readouterr().out
    proxy.script([])
    assert get(proxy)[1] == BODY


def test_a_wait_for_requests_ends_with_the_request_or_with_its_limit(proxy: FaultProxy) -> None:
    with pytest.raises(TimeoutError, match="0 of 1 requests"):
        proxy.wait_for_requests(1, 0.01)
    thread = threading.Thread(target=get, args=(proxy, "/echo"))
    thread.start()
    assert [request.path for request in proxy.wait_for_requests(1, LIMIT_S)] == ["/echo"]
    thread.join()


def test_what_goes_wrong_in_the_proxy_is_raised_at_its_end(upstream: Upstream) -> None:
    with (
        pytest.raises(ExceptionGroup, match="the fault proxy failed") as raised,
        fault_proxy(upstream.url) as proxy,
        connect(proxy) as client,
    ):
        client.sendall(b"no request\r\n\r\n")
        assert rest_of(client) == (b"", "reset")
    assert len(raised.value.exceptions) == 1


def test_a_proxy_that_ends_resets_what_is_open_and_leaves_no_thread(upstream: Upstream) -> None:
    before = threading.active_count()
    with ExitStack() as clients:
        with fault_proxy(upstream.url) as proxy:
            streaming = clients.enter_context(asked(proxy, "/open"))
            read_until(streaming, EVENTS[0])
            silent, halfway = (clients.enter_context(connect(proxy)) for _ in range(2))
            halfway.sendall(b"GET / HTTP")
        assert threading.active_count() == before
        assert [rest_of(client)[1] for client in (streaming, silent, halfway)] == ["reset"] * 3
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)


def test_a_client_that_leaves_or_a_server_that_is_away_is_no_failure(upstream: Upstream) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with fault_proxy(f"http://127.0.0.1:{nobody.getsockname()[1]}") as proxy:
            connect(proxy).close()
            with asked(proxy) as client:
                assert rest_of(client) == (b"", "reset")
            assert len(proxy.requests) == 1
