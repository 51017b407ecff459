"""Servers as real processes, and a real browser to look at them."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

DEMO = "-m typed_sse.demo PORT"
UVICORN = "-m uvicorn server:app --port PORT"
Serve = Callable[..., tuple[str, subprocess.Popen[bytes]]]
START_LIMIT_S = 20
STOP_LIMIT_S = 10
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def served(command: str, log: Path) -> Generator[tuple[str, subprocess.Popen[bytes]]]:
    """Run `python command`, a free port for PORT, beside its log; give the base URL and process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, *command.replace("PORT", str(port)).split()],
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until_it_accepts(server, port, log)
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.terminate()
        try:
            server.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            raise


def wait_until_it_accepts(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            # The pause between two tries is a wait for the process: it may have failed to start.
            try:
                server.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            break
        else:
            return
    pytest.fail(f"the server did not start:\n{log.read_text(encoding='utf-8')}")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a demo that all tests share."""
    with served(DEMO, tmp_path_factory.mktemp("demo") / "log") as (url, _):
        yield url


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A function that serves a program, `server.py` with an `app`: the base URL and the process."""
    with ExitStack() as running:

        def serve(program: str, command: str = UVICORN) -> tuple[str, subprocess.Popen[bytes]]:
            (tmp_path / "server.py").write_text(program, encoding="utf-8")
            return running.enter_context(served(command, tmp_path / "log"))

        yield serve


@pytest.fixture
def own_demo(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A demo for one test, which may kill it: the base URL and the process."""
    with served(DEMO, tmp_path / "log") as running:
        yield running


# Not for the session: while Playwright's synchronous side is open, no other event loop can run in
# this thread, neither an async test's nor a second Playwright's.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("no `chromium` on the PATH: `make test` installs it")
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS) as browser,
    ):
        yield browser
