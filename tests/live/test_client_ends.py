"""How our clients end, before real servers: closed while they wait, killed, and left open.

Who is closed is gone at once, and the server sees it; who is killed goes on where it was.
"""

import asyncio
import itertools
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from live.channel_readers import until
from live.client_app import Counted
from live.conftest import served
from live.fault_proxy import Answer, FaultProxy, Stall, fault_proxy
from typed_sse.client import AsyncEventSource, ClientState, EventSource, ReconnectPolicy

pytestmark = pytest.mark.live

TESTS = Path(__file__).resolve().parents[1]
APP = f"-m uvicorn --app-dir {TESTS} live.client_app:app --port PORT --log-level warning"
LIMIT_S = 30
# No more than a caller would take for at once, on a machine with other work.
PROMPT_S = 2
# Nothing of it is reached in a test.
PATIENT = ReconnectPolicy(base_delay_s=600, max_delay_s=600, answer_within_s=600, idle_limit_s=600)
PATHS = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(APP, tmp_path_factory.mktemp("client") / "log") as (url, _):
        yield url


@pytest.fixture
def proxy(server: str) -> Iterator[FaultProxy]:
    with fault_proxy(server) as running:
        yield running


@pytest.fixture
def path(server: str) -> str:
    """The path of a run of its own, with one number in it."""
    path = f"/numbers/ends-{next(PATHS)}"
    publish(server + path, 1)
    return path


def publish(url: str, count: int, **options: float) -> None:
    httpx2.post(url, params={"count": count, **options}, timeout=LIMIT_S).raise_for_status()


def open_streams(server: str) -> int:
    return int(httpx2.get(f"{server}/open").text)


class States:
    """What a source has said of itself."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self._news = threading.Condition()

    def __call__(self, state: ClientState) -> None:
        with self._news:
            self.kinds.append(state.kind)
            self._news.notify_all()

    def wait_for(self, kind: str) -> None:
        with self._news:
            assert self._news.wait_for(lambda: kind in self.kinds, LIMIT_S), (kind, self.kinds)


@asynccontextmanager
async def closed_at_the_end(url: str, kind: str, count: int) -> AsyncGenerator[None]:
    """Read in a task, to a state and so many events; close it when this is left, at once."""
    states, got = States(), list[Counted]()

    async def read() -> None:
        async for event in source:
            got.append(event)

    source = AsyncEventSource(url, Counted, policy=PATIENT, on_state=states)
    reader = asyncio.create_task(read())
    await until(f"it is {kind}", lambda: kind in states.kinds and len(got) == count)
    yield
    begin_s = time.monotonic()
    await source.aclose()
    await asyncio.wait_for(reader, PROMPT_S)
    assert time.monotonic() - begin_s < PROMPT_S
    assert states.kinds[-1] == "closed"


async def test_an_async_source_that_is_closed_in_a_silence_is_gone_at_once(
    server: str, proxy: FaultProxy, path: str
) -> None:
    proxy.script([Stall(250)])
    async with closed_at_the_end(proxy.url + path, "open", 1):
        assert open_streams(server) == 1
    await until("the server sees it leave", lambda: open_streams(server) == 0)


async def test_an_async_source_that_is_closed_before_an_answer_is_gone_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(LIMIT_S)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        async with closed_at_the_end(url, "connecting", 0):
            client, _ = await asyncio.to_thread(listening.accept)
            asked = await asyncio.to_thread(client.recv, 65_536)
        with client:
            client.settimeout(LIMIT_S)
            assert asked.startswith(b"GET / HTTP/1.1")
            assert await asyncio.to_thread(client.recv, 65_536) == b""


async def test_an_async_source_that_is_closed_while_it_waits_is_gone_at_once(
    proxy: FaultProxy, path: str
) -> None:
    proxy.script([Answer(503)])
    async with closed_at_the_end(proxy.url + path, "waiting", 0):
        pass
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("own_client", [True, False])
def test_a_source_that_another_thread_closes_in_a_silence_is_gone_at_once(
    server: str, path: str, own_client: bool
) -> None:
    states, got = States(), threading.Event()
    with httpx2.Client() as client:
        client_or_none = None if own_client else client
        source = EventSource(
            server + path, Counted, client=client_or_none, policy=PATIENT, on_state=states
        )
        # It has the first event, and is asked for the second.

        def read() -> None:
            for _ in source:
                got.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert got.wait(LIMIT_S)
        assert open_streams(server) == 1

        source.close()
        reader.join(PROMPT_S)

        assert not reader.is_alive()
        assert states.kinds == ["connecting", "open", "closed"]
        asyncio.run(until_none_is_open(server))


async def until_none_is_open(server: str) -> None:
    await until("the server sees it leave", lambda: open_streams(server) == 0)


def test_a_source_that_another_thread_closes_while_it_waits_is_gone_at_once(
    proxy: FaultProxy, path: str
) -> None:
    proxy.script([Answer(503)])
    states = States()
    source = EventSource(proxy.url + path, Counted, policy=PATIENT, on_state=states)
    reader = threading.Thread(target=lambda: list(source))
    reader.start()
    states.wait_for("waiting")

    source.close()
    reader.join(PROMPT_S)

    assert not reader.is_alive()
    assert states.kinds == ["connecting", "waiting", "closed"]
    assert len(proxy.requests) == 1


# Of a process of its own.

# What is handled is a line in one file; behind what, in another, which is replaced as a whole.
HANDLING = """
import json, os, sys
from pathlib import Path

from typed_sse.client import EventSource

url, folder, order, last = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
kept = folder / "last-id"
began = kept.read_text() if kept.exists() else ""

def keep():
    (folder / "new").write_text(source.last_event_id)
    os.replace(folder / "new", kept)

with (
    EventSource(url, last_event_id=began) as source,
    (folder / "handled").open("a", buffering=1) as handled,
):
    for event in source:
        number = json.loads(event.data)["number"]
        if order == "before":
            keep()
        print(number, file=handled)
        if order == "after":
            keep()
        if number == last:
            break
"""


@pytest.mark.parametrize("order", ["after", "before"])
def test_a_process_that_is_killed_goes_on_behind_the_id_that_it_has_kept(
    server: str, path: str, tmp_path: Path, order: str
) -> None:
    last = 3000
    publish(server + path, last)
    file = tmp_path / "handled"
    command = [sys.executable, "-c", HANDLING, server + path, str(tmp_path), order, str(last)]
    with subprocess.Popen(command, cwd=tmp_path) as process:
        asyncio.run(until_handled(file, 100, process))
        process.kill()
    assert process.returncode == -signal.SIGKILL
    subprocess.run(command, cwd=tmp_path, check=True, timeout=LIMIT_S)

    times = Counter(handled(file))
    if order == "after":  # what was being handled comes again
        assert times.keys() == set(range(last + 1))
        assert times.total() <= last + 2
    else:  # what was being handled does not come again, and may not be handled
        assert set(times.values()) == {1}
        assert times.total() >= last
    assert handled(file) == sorted(handled(file))


async def until_handled(file: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    await until(
        "they are handled", lambda: len(handled(file)) > count or process.poll() is not None
    )


def handled(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()] if file.exists() else []


ASYNC = """
import asyncio, sys
from typed_sse.client import AsyncEventSource

async def main():
    source = AsyncEventSource(sys.argv[1])
    print((await anext(source)).event)

asyncio.run(main())
"""
SYNC = """
import sys
from typed_sse.client import EventSource

source = EventSource(sys.argv[1])
print(next(source).event)
"""
KEPT = f"import builtins\n{SYNC}builtins.kept = source\n"
IN_A_THREAD = """
import sys, threading
from typed_sse.client import EventSource

source = EventSource(sys.argv[1])
came = threading.Event()

def read():
    for event in source:
        print(event.event)
        came.set()

threading.Thread(target=read, daemon=True).start()
came.wait()
"""


@pytest.mark.parametrize("program", [ASYNC, SYNC, KEPT, IN_A_THREAD])
def test_a_program_that_leaves_its_source_open_ends_and_says_nothing_of_it(
    server: str, path: str, program: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program, server + path],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    # The first frame of a subscription has an id alone, and dispatches nothing.
    assert done.stdout == "counted\n"


@pytest.mark.parametrize("program", [ASYNC, SYNC])
def test_ctrl_c_ends_a_program_that_waits_for_an_event(
    server: str, path: str, program: str
) -> None:
    waiting = program.replace("print((await anext(source)).event)", "async for _ in source: tell()")
    waiting = waiting.replace("print(next(source).event)", "for _ in source: tell()")
    tell = "def tell(): print('had one', flush=True)\n"
    with subprocess.Popen(
        [sys.executable, "-c", tell + waiting, server + path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "had one\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == -signal.SIGINT
    assert said.rstrip().endswith("KeyboardInterrupt")
    asyncio.run(until_none_is_open(server))
