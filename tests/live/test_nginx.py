"""A real nginx before a real uvicorn, with the configuration that the how-to page shows."""

import os
import re
import shutil
import socket
import subprocess
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from select import select
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from typed_sse import EventSourceResponse

pytestmark = pytest.mark.live

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "nginx.md"
BLOCKS: list[str] = re.findall(
    r"^```nginx\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)
BLOCK, TLS, TWO_SERVERS, COMES_BACK = BLOCKS
MAIN = """
daemon off;
pid nginx.pid;
error_log error.log info;
events {
    worker_connections CONNECTIONS;
}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    scgi_temp_path scgi;
    uwsgi_temp_path uwsgi;
"""
# What nginx does by default before 1.29.7.
HTTP_1_0 = BLOCK.replace("proxy_http_version 1.1;", "proxy_http_version 1.0;").replace(
    'Connection "";', "Connection close;"
)
IGNORED = "proxy_ignore_headers X-Accel-Buffering;"

PROGRAM = """
import asyncio
import pathlib
from collections import defaultdict

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

from typed_sse import Drain, EventSourceResponse, StreamLimit, process_registry

drain = Drain(retry_ms=(100, 200))
app = FastAPI(lifespan=drain.lifespan)
to_say = defaultdict(asyncio.Queue)
limit = StreamLimit(per_key=1)


@app.get("/stream/{name}")
async def stream(name: str, ping: float = 15, limited: bool = False):
    async def events():
        try:
            yield "first"
            while (text := await to_say[name].get()) != "end":
                yield text
        finally:
            pathlib.Path(f"closed-{name}").touch()

    return EventSourceResponse(events(), ping=ping, limit=limit if limited else None)


@app.get("/say/{name}/{text}")
async def say(name: str, text: str):
    to_say[name].put_nowait(text)


@app.get("/flood")
async def flood():
    async def events():
        try:
            for _ in range(1000):
                yield "x" * 60_000
            pathlib.Path("taken").touch()
        finally:
            pathlib.Path("closed-flood").touch()

    return EventSourceResponse(events(), send_timeout=1)


@app.get("/open")
async def open_streams():
    return len(process_registry.open_streams())


@app.get("/port")
async def port(request: Request):
    return request.client.port


@app.get("/page")
async def page():
    return HTMLResponse("<!doctype html><title>streams</title>")
"""
UVICORN = "-m uvicorn server:app --port PORT"
H11 = f"{UVICORN} --http h11"
LIMIT_S = 10
# So long a test looks at something that must not happen.
A_WHILE_S = 0.5

Serve = Callable[..., tuple[str, subprocess.Popen[bytes]]]
Front = Callable[..., str]


class Reader:
    """A client that sends one request and reads the answer, byte for byte."""

    def __init__(
        self,
        url: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.seen = b""
        where = urlsplit(url)
        self._socket = socket.create_connection(
            (where.hostname, where.port), LIMIT_S, source_address=(address, 0)
        )
        lines = {"Host": "x", "Connection": "close", **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._socket.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())

    def until(self, text: bytes, times: int = 1, decode: Callable[[bytes], bytes] = bytes) -> None:
        """Read until `text` has come so many times."""
        deadline = time.monotonic() + LIMIT_S
        while decode(self.seen).count(text) < times:
            more = self._socket.recv(65536)
            assert more, f"the answer ended without {text!r}: {self.seen!r}"
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen!r}"
            self.seen += more

    def rest(self) -> bytes:
        """Read until the connection is closed, and return all that has come."""
        with suppress(ConnectionResetError):
            while more := self._socket.recv(65536):
                self.seen += more
        return self.seen

    def hears_nothing(self) -> bool:
        """Whether nothing more comes for a while."""
        return not select([self._socket], [], [], A_WHILE_S)[0]

    def leave(self) -> None:
        self._socket.close()

    @property
    def status(self) -> int:
        self.until(b"\r\n")
        return int(self.seen.split()[1])

    @property
    def body(self) -> bytes:
        """The whole body, as it came."""
        return self.rest().partition(b"\r\n\r\n")[2]

    @property
    def terminated(self) -> bool:
        return self.seen.endswith(b"\r\n0\r\n\r\n")


Read = Callable[..., Reader]


@pytest.fixture
def read() -> Iterator[Read]:
    """A function that sends a request and gives the `Reader` of the answer."""
    with ExitStack() as readers:

        def read(
            url: str,
            path: str,
            headers: Mapping[str, str] | None = None,
            address: str = "127.0.0.1",
        ) -> Reader:
            reader = Reader(url, path, headers, address)
            readers.callback(reader.leave)
            return reader

        yield read


@pytest.fixture
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A function that puts an nginx before an application: the base URL."""
    with ExitStack() as running:

        def front(
            app: str, settings: str = "", block: str = BLOCK, worker_connections: int = 512
        ) -> str:
            prefix = tmp_path_factory.mktemp("nginx")
            main = MAIN.replace("CONNECTIONS", str(worker_connections)) + settings
            return running.enter_context(nginx(prefix, app, main, block))

        yield front


@contextmanager
def nginx(prefix: Path, app: str, main: str, block: str) -> Generator[str]:
    # Debian's PATH has no sbin for those who are not root.
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.fail("no `nginx` on the PATH: `make test` installs it")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    assert "127.0.0.1:8000" in block
    block, listens = re.subn(r"listen (80|443)\b", f"listen 127.0.0.1:{port}", block)
    assert listens == 1
    block = block.replace("127.0.0.1:8000", urlsplit(app).netloc)
    # The worker of a root's nginx is nobody, who may not write into the prefix.
    user = "user root;\n" if os.geteuid() == 0 else ""
    config = prefix / "nginx.conf"
    config.write_text(f"{user}{main}\n{block}}}\n", encoding="utf-8")
    with (prefix / "output").open("wb") as output:
        process = subprocess.Popen(
            [program, "-p", str(prefix), "-c", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + LIMIT_S
        while process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.02)
            else:
                break
        else:
            pytest.fail(f"nginx did not start:\n{(prefix / 'output').read_text(encoding='utf-8')}")
        yield f"{'https' if ' ssl' in block else 'http'}://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(LIMIT_S)


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not file.exists():
        assert time.monotonic() < deadline, f"no {file.name}"
        time.sleep(0.02)


# --- buffering


def events_one_by_one(app: str, url: str, read: Read) -> Reader:
    """Have a stream say one thing after the other, and check that each has come before the next."""
    reader = read(url, "/stream/a")
    reader.until(b"data: first\n\n")
    for text in ("second", "third"):
        read(app, f"/say/a/{text}").rest()
        reader.until(f"data: {text}\n\n".encode())
    read(app, "/say/a/end").rest()
    reader.rest()
    assert reader.terminated
    return reader


def test_events_arrive_one_by_one_without_any_setting(
    serve: Serve, front: Front, read: Read
) -> None:
    app, _ = serve(PROGRAM)
    reader = events_one_by_one(app, front(app), read)
    assert b"\r\ncache-control: no-cache, no-transform\r\n" in reader.seen
    assert b"x-accel-buffering" not in reader.seen.lower()


def test_it_is_our_header_that_keeps_a_body_without_chunks_from_being_held_back(
    serve: Serve, front: Front, read: Read
) -> None:
    app, _ = serve(PROGRAM, H11)
    events_one_by_one(app, front(app, block=HTTP_1_0), read)

    reader = read(front(app, IGNORED, HTTP_1_0), "/stream/b")
    read(app, "/say/b/second").rest()
    assert reader.hears_nothing()
    read(app, "/say/b/end").rest()
    assert b"data: first\n\ndata: second\n\n" in reader.rest()


def test_chunks_are_passed_on_one_by_one_even_where_nginx_buffers(
    serve: Serve, front: Front, read: Read
) -> None:
    app, _ = serve(PROGRAM)
    events_one_by_one(app, front(app, IGNORED), read)


def test_a_reader_that_stalls_is_let_go_through_nginx(
    serve: Serve, front: Front, read: Read, tmp_path: Path
) -> None:
    app, _ = serve(PROGRAM)
    reader = read(front(app), "/flood")
    wait_for(tmp_path / "closed-flood")
    assert not (tmp_path / "taken").exists()
    reader.rest()
    assert not reader.terminated


@pytest.mark.parametrize("settings", [IGNORED, f"{IGNORED} proxy_buffering off;"])
def test_where_nginx_buffers_it_takes_everything_for_a_reader_that_stalls(
    settings: str, serve: Serve, front: Front, read: Read, tmp_path: Path
) -> None:
    app, _ = serve(PROGRAM)
    read(front(app, settings), "/flood")
    wait_for(tmp_path / "closed-flood")
    assert (tmp_path / "taken").exists() == (settings == IGNORED)


# --- silence


def test_the_keepalive_is_sent_more_often_than_nginx_gives_up() -> None:
    default_proxy_read_timeout_s = 60
    assert default_proxy_read_timeout_s / 2 > EventSourceResponse.DEFAULT_PING_INTERVAL


def test_a_keepalive_carries_a_stream_over_the_read_timeout_and_without_one_it_is_cut(
    serve: Serve, front: Front, read: Read, tmp_path: Path
) -> None:
    app, _ = serve(PROGRAM)
    url = front(app, "proxy_read_timeout 2s;")
    kept, cut = read(url, "/stream/kept?ping=1"), read(url, "/stream/cut?ping=0")
    cut.rest()
    assert cut.seen.endswith(b"data: first\n\n\r\n")
    wait_for(tmp_path / "closed-cut")
    kept.until(b": ping\n", times=3)
    read(app, "/say/kept/more").rest()
    kept.until(b"data: more\n\n")


# --- the connection to the application


@pytest.mark.parametrize(
    ("block", "command", "told"),
    [
        pytest.param(BLOCK, UVICORN, True, id="1.1 httptools"),
        pytest.param(BLOCK, H11, True, id="1.1 h11"),
        pytest.param(HTTP_1_0, UVICORN, True, id="1.0 httptools"),
        pytest.param(HTTP_1_0, H11, False, id="1.0 h11"),
    ],
)
def test_a_killed_application_is_told_from_the_end_of_a_stream_except_over_http_1_0_and_h11(
    block: str, command: str, told: bool, serve: Serve, front: Front, read: Read
) -> None:
    app, process = serve(PROGRAM, command)
    reader = read(front(app, block=block), "/stream/a")
    reader.until(b"data: first\n\n")
    process.kill()
    reader.rest()
    assert reader.terminated != told


def test_a_stream_that_has_ended_gives_its_connection_back(
    serve: Serve, front: Front, read: Read
) -> None:
    app, _ = serve(PROGRAM, f"{UVICORN} --no-proxy-headers")

    def port(url: str) -> bytes:
        return read(url, "/port").body

    url = front(app)
    before = port(url)
    reader = read(url, "/stream/a")
    reader.until(b"data: first\n\n")
    beside = port(url)
    assert beside != before
    read(app, "/say/a/end").rest()
    reader.rest()
    assert {port(url) for _ in range(4)} <= {before, beside}

    without = front(app, block=HTTP_1_0)
    assert len({port(without) for _ in range(4)}) == 4


def test_a_stream_takes_two_of_the_workers_connections(
    serve: Serve, front: Front, read: Read
) -> None:
    app, _ = serve(PROGRAM)
    url = front(app, worker_connections=20)
    opened = 0
    with suppress(AssertionError, ConnectionResetError):
        for number in range(20):
            read(url, f"/stream/{number}").until(b"data: first\n\n")
            opened += 1
    assert 6 <= opened < 10


# --- compression


def test_gzip_leaves_streams_alone(serve: Serve, front: Front, read: Read) -> None:
    app, _ = serve(PROGRAM)
    reader = read(front(app, "gzip on;"), "/stream/a", {"Accept-Encoding": "gzip"})
    reader.until(b"data: first\n\n")
    assert b"content-encoding" not in reader.seen.lower()


GZIP = "gzip on; gzip_types text/event-stream;"


def plain(answer: bytes) -> bytes:
    """What is in the compressed body of an answer so far."""
    chunks = answer.partition(b"\r\n\r\n")[2]
    packed = b""
    while size := re.match(rb"([0-9a-f]+)\r\n", chunks):
        end = size.end() + int(size[1], 16)
        packed += chunks[size.end() : end]
        chunks = chunks[end + 2 :]
    return zlib.decompressobj(wbits=31).decompress(packed)


def test_gzip_that_is_told_to_compress_streams_does_and_passes_each_event_on(
    serve: Serve, front: Front, read: Read
) -> None:
    app, _ = serve(PROGRAM)
    reader = read(front(app, GZIP), "/stream/a", {"Accept-Encoding": "gzip"})
    reader.until(b"data: first\n\n", decode=plain)
    for text in ("second", "third"):
        read(app, f"/say/a/{text}").rest()
        reader.until(f"data: {text}\n\n".encode(), decode=plain)
    assert b"\r\ncontent-encoding: gzip\r\n" in reader.seen.lower()


def test_gzip_of_a_stream_that_is_buffered_holds_it_back_to_its_end(
    serve: Serve, front: Front, read: Read
) -> None:
    app, _ = serve(PROGRAM)
    reader = read(front(app, GZIP + IGNORED), "/stream/a", {"Accept-Encoding": "gzip"})
    assert reader.hears_nothing()
    read(app, "/say/a/end").rest()
    reader.rest()
    assert plain(reader.seen) == b"data: first\n\n"


# --- readers that leave


def test_when_the_reader_leaves_the_finally_runs_though_nothing_is_sent(
    serve: Serve, front: Front, read: Read, tmp_path: Path
) -> None:
    app, _ = serve(PROGRAM)
    reader = read(front(app), "/stream/a?ping=0")
    reader.until(b"data: first\n\n")
    reader.leave()
    wait_for(tmp_path / "closed-a")


def test_an_nginx_that_ignores_who_leaves_notices_when_it_passes_something_on(
    serve: Serve, front: Front, read: Read, tmp_path: Path
) -> None:
    app, _ = serve(PROGRAM)
    url = front(app, "proxy_ignore_client_abort on;")
    silent, pinged = read(url, "/stream/silent?ping=0"), read(url, "/stream/pinged?ping=0.2")
    for reader in (silent, pinged):
        reader.until(b"data: first\n\n")
        reader.leave()
    wait_for(tmp_path / "closed-pinged")
    assert not (tmp_path / "closed-silent").exists()
    # The first one finds the other side closed, the second one fails.
    for text in ("more", "more"):
        read(app, f"/say/silent/{text}").rest()
    wait_for(tmp_path / "closed-silent")


# --- HTTP/2


@pytest.fixture
def over_tls(tmp_path: Path) -> str:
    """The block of the page that listens with TLS, and a certificate of this test's own."""
    pem, key = tmp_path / "app.pem", tmp_path / "app.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-noenc", "-keyout", key, "-out", pem, "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    tls = TLS.replace("/etc/ssl/certs/app.pem", str(pem))
    tls = tls.replace("/etc/ssl/private/app.key", str(key))
    block = BLOCK.replace("    listen 80;\n", tls)
    assert block.count(str(tmp_path)) == 2
    return block


def test_over_http_2_events_arrive_one_by_one_and_the_finally_runs_when_the_reader_leaves(
    over_tls: str, serve: Serve, front: Front, read: Read, tmp_path: Path
) -> None:
    app, _ = serve(PROGRAM)
    command = ["curl", "--silent", "--show-error", "--no-buffer", "--include", "--http2"]
    command += ["--noproxy", "*", "--max-time", "30", "--cacert", str(tmp_path / "app.pem")]
    url = front(app, block=over_tls)
    with subprocess.Popen([*command, f"{url}/stream/a"], stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        head = b"".join(iter(curl.stdout.readline, b"\r\n"))
        assert head.startswith(b"HTTP/2 200")
        assert b"\nconnection:" not in head.lower()
        assert curl.stdout.readline() == b"data: first\n"
        read(app, "/say/a/second").rest()
        assert curl.stdout.read(len(b"\ndata: second\n\n")) == b"\ndata: second\n\n"
        curl.terminate()
    wait_for(tmp_path / "closed-a")


OPEN_FOUR = """(names) => {
    window.heard = [];
    window.sources = names.map((name) => {
        const source = new EventSource(`/stream/${name}`);
        source.onmessage = (event) => window.heard.push(`${name} ${event.data}`);
        return source;
    });
}"""


def two_tabs(context: BrowserContext, url: str, names: str) -> list[Page]:
    """Open two tabs with half of the streams each."""
    tabs = [context.new_page(), context.new_page()]
    for tab, its_names in zip(tabs, (names[:4], names[4:]), strict=True):
        tab.goto(f"{url}/page")
        tab.evaluate(OPEN_FOUR, list(its_names))
    return tabs


def heard(tabs: list[Page]) -> int:
    return sum(tab.evaluate("window.heard.length") for tab in tabs)


def test_all_tabs_of_a_browser_have_six_streams_over_http_1_1_and_all_else_waits(
    serve: Serve, front: Front, browser: Browser
) -> None:
    app, _ = serve(PROGRAM)
    with browser.new_context() as context:
        first, second = tabs = two_tabs(context, front(app), "abcdefgh")
        first.wait_for_function("window.heard.length === 4")
        second.wait_for_function("window.heard.length === 2")
        second.evaluate("() => { fetch('/port').then(() => window.heard.push('an answer')); }")
        second.wait_for_timeout(1000 * A_WHILE_S)
        assert heard(tabs) == 6
        first.evaluate("window.sources.forEach((source) => source.close())")
        second.wait_for_function("window.heard.length === 5")


def test_over_http_2_more_than_six_are_open_and_one_that_is_closed_takes_no_other_with_it(
    over_tls: str, serve: Serve, front: Front, read: Read, browser: Browser, tmp_path: Path
) -> None:
    app, _ = serve(PROGRAM)
    with browser.new_context(ignore_https_errors=True) as context:
        first, second = two_tabs(context, front(app, block=over_tls), "abcdefgh")
        first.wait_for_function("window.heard.length === 4")
        second.wait_for_function("window.heard.length === 4")
        protocol = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
        assert first.evaluate(protocol) == "h2"
        first.evaluate("window.sources[0].close()")
        wait_for(tmp_path / "closed-a")
        for name in "bh":
            read(app, f"/say/{name}/more").rest()
        first.wait_for_function("window.heard.includes('b more')")
        second.wait_for_function("window.heard.includes('h more')")
        assert [path.name for path in tmp_path.glob("closed-*")] == ["closed-a"]


# --- the application restarts


def test_a_drain_ends_the_streams_behind_nginx_which_answers_502_until_somebody_is_there(
    serve: Serve, front: Front, read: Read
) -> None:
    app, process = serve(PROGRAM)
    url = front(app)
    reader = read(url, "/stream/a")
    reader.until(b"data: first\n\n")
    process.terminate()
    reader.rest()
    assert re.search(rb"\r\nretry: \d+\n\r\n0\r\n\r\n$", reader.seen)
    process.wait(LIMIT_S)
    assert read(url, "/stream/b").status == 502


def test_of_two_servers_the_other_one_takes_over(serve: Serve, front: Front, read: Read) -> None:
    app, process = serve(PROGRAM)
    other, _ = serve(PROGRAM)
    servers = BLOCK.replace(BLOCK[: BLOCK.index("}\n") + 2], TWO_SERVERS)
    url = front(app, block=servers.replace("127.0.0.1:8001", urlsplit(other).netloc))
    readers = [read(url, f"/stream/{number}") for number in range(2)]
    for reader in readers:
        reader.until(b"data: first\n\n")
    assert read(app, "/open").body == b"1"
    process.terminate()
    process.wait(LIMIT_S)
    for number in range(2, 6):
        read(url, f"/stream/{number}").until(b"data: first\n\n")


WATCH = """() => {
    window.opened = 0;
    window.source = new EventSource("/stream/a");
    window.source.onopen = () => { window.opened += 1; };
}"""


@pytest.mark.parametrize("gives_up", [True, False])
def test_an_event_source_gives_up_at_a_502_and_not_at_an_empty_stream(
    gives_up: bool, serve: Serve, front: Front, browser: Browser
) -> None:
    app, process = serve(PROGRAM)
    block = BLOCK
    if not gives_up:
        own = COMES_BACK.replace("retry: 3000", "retry: 100")
        block = BLOCK.replace("    location / {", own + "\n    location / {")
    page = browser.new_page()
    page.goto(f"{front(app, block=block)}/page")
    page.evaluate(WATCH)
    page.wait_for_function("window.opened === 1")
    process.terminate()
    process.wait(LIMIT_S)
    if gives_up:
        page.wait_for_function("window.source.readyState === EventSource.CLOSED")
    else:
        page.evaluate("window.opened = 0")
        page.wait_for_function("window.opened === 3")
    page.close()


# --- limits by client


def test_each_client_behind_nginx_has_a_limit_of_its_own_and_cannot_forge_another(
    serve: Serve, front: Front, read: Read
) -> None:
    app, _ = serve(PROGRAM)
    url = front(app)
    forged = {"X-Forwarded-For": "192.0.2.1"}
    read(url, "/stream/a?limited=1", address="127.0.0.2").until(b"data: first\n\n")
    assert read(url, "/stream/b?limited=1", address="127.0.0.2").status == 429
    assert read(url, "/stream/c?limited=1", forged, address="127.0.0.2").status == 429
    read(url, "/stream/d?limited=1", address="127.0.0.3").until(b"data: first\n\n")
    # Past nginx, too, it is believed only of 127.0.0.1.
    assert read(app, "/stream/e?limited=1", forged, address="127.0.0.2").status == 429


def test_all_clients_of_an_nginx_that_is_not_trusted_share_one_limit(
    serve: Serve, front: Front, read: Read
) -> None:
    app, _ = serve(PROGRAM, f"{UVICORN} --forwarded-allow-ips 127.0.0.9")
    url = front(app)
    read(url, "/stream/a?limited=1", address="127.0.0.2").until(b"data: first\n\n")
    assert read(url, "/stream/b?limited=1", address="127.0.0.3").status == 429


@pytest.mark.parametrize(("trusted", "status"), [("127.0.0.1", 429), ("*", 200)])
def test_a_header_that_is_appended_to_can_be_forged_where_everyone_is_trusted(
    trusted: str, status: int, serve: Serve, front: Front, read: Read
) -> None:
    app, _ = serve(PROGRAM, f"{UVICORN} --forwarded-allow-ips {trusted}")
    url = front(app, block=BLOCK.replace("$remote_addr", "$proxy_add_x_forwarded_for"))
    read(url, "/stream/a?limited=1", address="127.0.0.2").until(b"data: first\n\n")
    forged = {"X-Forwarded-For": "192.0.2.1"}
    assert read(url, "/stream/b?limited=1", forged, address="127.0.0.2").status == status
