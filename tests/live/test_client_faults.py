"""Our clients, of real servers, through all that networks and proxies do to them.

Nothing is missed and nothing comes twice, or the error says what has become of the stream.
"""

import asyncio
import gzip
import os
import random
import socket
import ssl
import subprocess
import threading
import tracemalloc
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2
import pytest

from live.channel_readers import until
from live.client_app import WORDS, Counted, Said, Word
from live.conftest import served
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
from typed_sse import BaseEvent, ServerSentEvent
from typed_sse.client import AsyncEventSource, ClientState, EventSource, ReconnectPolicy
from typed_sse.errors import ConnectionFailed, EventTooLarge, NotAStream

pytestmark = pytest.mark.live

TESTS = Path(__file__).resolve().parents[1]
APP = f"-m uvicorn --app-dir {TESTS} live.client_app:app --port PORT --log-level warning"
LIMIT_S = 30
SEED = int(os.environ.get("CLIENT_SEED", "1"))
SOON = ReconnectPolicy(base_delay_s=0.01, max_delay_s=0.1)
STREAM = (("content-type", "text/event-stream"),)
LIMIT_BYTES = 1 << 18

Event = BaseEvent[Any] | ServerSentEvent
Read = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(APP, tmp_path_factory.mktemp("client") / "log") as (url, _):
        yield url


@pytest.fixture
def proxy(server: str) -> Iterator[FaultProxy]:
    with fault_proxy(server) as running:
        yield running


def published(server: str, run: str, count: int) -> None:
    httpx2.post(f"{server}/numbers/{run}", params={"count": count}).raise_for_status()


def number_of(event: Counted) -> int:
    return event.data.number


def read_sync(url: str, *events: Any, count: int | None = None, **options: Any) -> list[Any]:
    """Return the first events, or all of them."""
    with EventSource[Any](url, *events, **{"policy": SOON, **options}) as source:
        return list(islice(source, count))


def read_async(url: str, *events: Any, count: int | None = None, **options: Any) -> list[Any]:
    """Return the first events, or all of them, by a task."""

    async def read() -> list[Any]:
        got: list[Any] = []
        async with AsyncEventSource[Any](url, *events, **{"policy": SOON, **options}) as source:
            async for event in source:
                got.append(event)
                if len(got) == count:
                    break
        return got

    return asyncio.run(read())


@pytest.fixture(params=["read_sync", "read_async"])
def read(request: pytest.FixtureRequest) -> Read:
    return read_sync if request.param == "read_sync" else read_async


# All at once, by seed.


def faults(chance: random.Random) -> list[Fault]:
    """Return every kind of fault, in an order and with numbers left to chance."""

    def anywhere() -> int:
        return chance.randrange(1500)

    drawn: list[Fault] = [
        *(CutAfter(anywhere(), reset=True, coded=True) for _ in range(6)),
        *(CutAfter(anywhere(), reset=False, coded=True) for _ in range(6)),
        *(EndCleanly(anywhere()) for _ in range(6)),
        *(Stall(anywhere() // 5) for _ in range(4)),
        *(Answer(status, (("retry-after", "0"),)) for status in (502, 503, 503)),
        Answer(503, (("retry-after", "1"), *STREAM), b"data: no stream\n\n"),
        *(Redirect(status) for status in (301, 302, 307, 308)),
        *(Refuse() for _ in range(4)),
        *(AfterRequest() for _ in range(4)),
        *(Delay(chance.random() / 10) for _ in range(3)),
        *(Compressed() for _ in range(3)),
        *(Pass() for _ in range(3)),
    ]
    chance.shuffle(drawn)
    return drawn


async def test_a_client_over_a_channel_misses_nothing_and_sees_nothing_twice(
    server: str, proxy: FaultProxy
) -> None:
    print(f"CLIENT_SEED={SEED}")
    chance = random.Random(SEED)
    script = faults(chance)
    proxy.script(script)
    url, reasons = f"{proxy.url}/numbers/seed-{SEED}", list[object]()
    by_task, by_thread = list[int](), list[int]()

    def all_is_read() -> bool:
        return total == len(by_task) == len(by_thread)

    def met() -> int:
        # What follows a redirect takes nothing of the script.
        return proxy.refused + sum("redirected" not in each.path for each in proxy.requests)

    def heard(state: ClientState) -> None:
        if state.kind == "waiting":
            reasons.append(state.reason)

    async def in_task() -> None:
        async with AsyncEventSource(url, Counted, policy=SOON, on_state=heard) as source:
            async for event in source:
                by_task.append(number_of(event))

    thread_source = EventSource(url, Counted, policy=SOON, on_state=heard)

    def in_thread() -> None:
        for event in thread_source:
            by_thread.append(number_of(event))

    task = asyncio.create_task(in_task())
    thread = asyncio.create_task(asyncio.to_thread(in_thread))
    total = 0
    try:
        async with httpx2.AsyncClient(base_url=server) as publisher, asyncio.timeout(LIMIT_S):
            while met() < len(script) or "unreachable" not in reasons:
                if total == 200:
                    proxy.down()
                    proxy.cut_all()
                    await until("a refused connection", lambda: "unreachable" in reasons)
                    proxy.up()
                burst = {"count": 10, "pause_s": chance.random() / 200}
                answer = await publisher.post(f"/numbers/seed-{SEED}", params=burst)
                total = int(answer.text)
                with suppress(AssertionError):
                    await until("all is read", all_is_read, limit_s=0.05)
                if chance.random() < 0.5 and all_is_read():
                    proxy.cut_all()  # they have nothing else to suffer
            proxy.cut_all()
            await until("all is read", all_is_read)
    finally:
        task.cancel()
        thread_source.close()
        await asyncio.wait({task, thread}, timeout=LIMIT_S)

    assert by_task == by_thread == list(range(total))
    refused = {Refuse} if proxy.refused else set[type]()
    assert {type(each.fault) for each in proxy.requests} | refused == set(map(type, script))
    assert set(reasons) == {"cut", "ended", "idle", "status", "unanswered", "unreachable"}


# One at a time.


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "text/html; charset=utf-8", b"<!doctype html><title>Sign in</title>"),
        (200, "application/json", b'{"events": []}'),
        (404, "application/json", b'{"detail":"Not Found"}'),
        (401, "text/plain", b"who are you?"),
        (500, "text/event-stream", b"data: no\n\n"),
        (403, "", b""),
    ],
)
def test_what_is_no_stream_is_said_with_what_it_is_and_not_asked_again(
    proxy: FaultProxy, read: Read, status: int, kind: str, body: bytes
) -> None:
    proxy.script([Answer(status, (("content-type", kind),) if kind else (), body)])

    with pytest.raises(NotAStream) as told:
        read(f"{proxy.url}/numbers/none")

    assert (told.value.status, told.value.content_type, told.value.start) == (status, kind, body)
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("what", ["line", "event"])
def test_an_event_without_an_end_is_an_error_at_the_limit_and_fills_no_memory(
    server: str, read: Read, what: str
) -> None:
    got: list[object] = []

    def keep(event: ServerSentEvent) -> None:
        got.append(event.data)

    tracemalloc.start()
    try:
        with pytest.raises(EventTooLarge) as told:
            read(
                f"{server}/endless/{what}",
                decode=keep,
                max_event_bytes=LIMIT_BYTES,
            )
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert told.value.limit_bytes == LIMIT_BYTES
    assert got == ["first"]
    assert peak_bytes < 16 * LIMIT_BYTES


def test_what_is_not_utf_8_is_replaced(proxy: FaultProxy, read: Read) -> None:
    proxy.script([Answer(200, STREAM, b"data: a\xff\xfeb \xe2\x82\n\n")])
    (event,) = read(f"{proxy.url}/numbers/none", count=1)
    assert event.data == "a\ufffd\ufffdb \ufffd"


def test_a_compressed_stream_is_read_as_it_comes(
    server: str, proxy: FaultProxy, read: Read
) -> None:
    published(server, f"gzip-{read.__name__}", 3)
    proxy.script([Compressed()])
    got = read(f"{proxy.url}/numbers/gzip-{read.__name__}", Counted, count=3)
    assert [number_of(event) for event in got] == [0, 1, 2]
    assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    ("coding", "body"),
    [("gzip", b"data: not compressed\n\n"), ("br", b"\x0b\x02\x80data\x03"), ("gzip, br", b"x")],
)
def test_a_body_that_is_not_what_its_coding_says_is_no_stream_and_not_asked_again(
    proxy: FaultProxy, read: Read, coding: str, body: bytes
) -> None:
    proxy.script([Answer(200, (*STREAM, ("content-encoding", coding)), body)])
    with pytest.raises(NotAStream, match="Content-Encoding"):
        read(f"{proxy.url}/numbers/none")
    assert len(proxy.requests) == 1


def test_a_compressed_body_that_is_cut_short_is_read_so_far_and_asked_again(
    proxy: FaultProxy, read: Read
) -> None:
    first, second = (gzip.compress(b"id: %d\ndata: x%d\n\n" % (n, n)) for n in (1, 2))
    headers = (*STREAM, ("content-encoding", "gzip"))
    proxy.script([Answer(200, headers, first[:-4]), Answer(200, headers, second)])

    assert [event.data for event in read(f"{proxy.url}/numbers/none", count=2)] == ["x1", "x2"]

    assert [request.headers.get("last-event-id") for request in proxy.requests] == [None, "1"]


def test_a_proxy_that_ends_every_stream_properly_costs_a_reader_nothing(
    server: str, proxy: FaultProxy, read: Read
) -> None:
    run = f"ended-{read.__name__}"
    published(server, run, 20)
    proxy.script([EndCleanly(250) for _ in range(50)])

    got = read(f"{proxy.url}/numbers/{run}", Counted, count=20)

    assert [number_of(event) for event in got] == list(range(20))
    first, *more = [request.headers.get("last-event-id") for request in proxy.requests]
    assert first is None
    assert len(more) > 2
    assert len(set(more)) == len(more)


def test_a_post_that_ended_early_is_not_sent_again_and_fails_where_its_last_event_is_known(
    proxy: FaultProxy, read: Read
) -> None:
    proxy.script([EndCleanly(100)])
    with pytest.raises(ConnectionFailed, match="before its last event") as told:
        read(f"{proxy.url}/words", Word | Said, method="POST")
    assert told.value.reason == "ended"
    assert len(proxy.requests) == 1


def test_a_post_that_ended_early_is_over_where_its_last_event_is_not_known(
    proxy: FaultProxy, read: Read
) -> None:
    proxy.script([EndCleanly(100)])
    got = read(f"{proxy.url}/words", method="POST")
    said = [event.data for event in got]
    assert 0 < len(said) < len(WORDS)
    assert said == [f'"{word}"' for word in WORDS[: len(said)]]
    assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(CutAfter(100), "cut"), (CutAfter(100, reset=False), "cut"), (AfterRequest(), "unanswered")],
)
def test_a_post_that_was_cut_off_is_not_sent_again(
    proxy: FaultProxy, read: Read, fault: Fault, reason: str
) -> None:
    proxy.script([fault])
    with pytest.raises(ConnectionFailed) as told:
        read(f"{proxy.url}/words", Word | Said, method="POST")
    assert told.value.reason == reason
    assert len(proxy.requests) == 1


def test_a_post_that_was_put_off_is_sent_again(proxy: FaultProxy, read: Read) -> None:
    proxy.script([Answer(503, (("retry-after", "0"),))])
    got = read(f"{proxy.url}/words", Word | Said, method="POST")
    assert [event.data for event in got] == [*WORDS, len(WORDS)]
    assert [request.method for request in proxy.requests] == ["POST", "POST"]


def test_a_name_that_is_not_known_for_a_while_is_asked_for_again(
    server: str, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(server, f"dns-{read.__name__}", 1)
    fails, asked, states = 2, list[str](), list[ClientState]()
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name != "stream.invalid":
            return resolve(host, *args, **options)
        asked.append(name)
        if len(asked) <= fails:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return resolve("127.0.0.1", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    url = f"{server.replace('127.0.0.1', 'stream.invalid')}/numbers/dns-{read.__name__}"

    (event,) = read(url, Counted, count=1, on_state=states.append)

    assert number_of(event) == 0
    waits = [(state.reason, state.failures) for state in states if state.kind == "waiting"]
    assert waits == [("unreachable", 1), ("unreachable", 2)]


def test_a_server_that_is_down_is_found_when_it_is_up_again(
    server: str, proxy: FaultProxy, read: Read
) -> None:
    published(server, f"down-{read.__name__}", 2)
    states: list[ClientState] = []
    proxy.down()

    def heard(state: ClientState) -> None:
        states.append(state)
        if state.failures == 3:
            proxy.up()

    got = read(f"{proxy.url}/numbers/down-{read.__name__}", Counted, count=2, on_state=heard)

    assert [number_of(event) for event in got] == [0, 1]
    waits = [(state.reason, state.failures) for state in states if state.kind == "waiting"]
    assert waits == [("unreachable", 1), ("unreachable", 2), ("unreachable", 3)]


@contextmanager
def with_own_certificate(folder: Path) -> Generator[tuple[str, list[object]]]:
    """Serve TLS with a certificate that nobody has signed; give the URL, and who has come."""
    pem, key = folder / "own.pem", folder / "own.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-noenc", "-keyout", key, "-out", pem, "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    came: list[object] = []

    def accept(listening: socket.socket) -> None:
        with suppress(OSError):  # it is shut down
            while True:
                client, address = listening.accept()
                came.append(address)
                with client, suppress(OSError):
                    context.wrap_socket(client, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=accept, args=(listening,))
        thread.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}/", came
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_certificate_that_is_not_valid_is_an_error_at_once(tmp_path: Path, read: Read) -> None:
    with with_own_certificate(tmp_path) as (url, came):
        with pytest.raises(ConnectionFailed, match="self-signed certificate") as told:
            read(url)
        assert len(came) == 1
    assert told.value.reason == "unreachable"
