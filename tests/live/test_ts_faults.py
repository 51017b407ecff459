"""The TypeScript client, in Node and in Chromium, through all that networks and proxies do to it.

The Python client's tests of the same kind are in `test_client_faults`; server and proxy are theirs.
"""

import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Page

from live.client_app import WORDS
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
from live.typescript import bundle, node

pytestmark = pytest.mark.live

TESTS = Path(__file__).resolve().parents[1]
READER = Path(__file__).with_name("ts_reader.mjs")
APP = f"-m uvicorn --app-dir {TESTS} live.ts_app:app --port PORT --log-level warning"
LIMIT_S = 60
SEED = int(os.environ.get("CLIENT_SEED", "1"))
SOON = {"baseDelayMs": 10, "maxDelayMs": 100}
STREAM = (("content-type", "text/event-stream"),)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(APP, tmp_path_factory.mktemp("ts") / "log") as (url, _):
        yield url


@pytest.fixture
def proxy(server: str) -> Iterator[FaultProxy]:
    with fault_proxy(server) as running:
        yield running


class NodeReader:
    """A reader in a process of its own; what it has heard so far, read by a thread."""

    def __init__(self, url: str, **options: Any) -> None:
        argument = json.dumps({"url": url, "policy": SOON, **options})
        self._process = subprocess.Popen(
            [node(), str(READER), argument],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._hear)
        self._thread.start()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(json.loads(line))

    def heard(self, what: str) -> list[Any]:
        return [line[what] for line in self._lines if what in line]

    def numbers(self) -> list[int]:
        return [event["data"]["number"] for event in self.heard("event")]

    def reasons(self) -> list[str]:
        return waits(self.heard("state"))

    def wait(self) -> None:
        """Wait until the process has ended by itself."""
        try:
            code = self._process.wait(LIMIT_S)
        finally:
            error = self.kill()
        assert (code, error) == (0, "")

    def kill(self) -> str:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        with self._process.stdout, self._process.stderr:
            return self._process.stderr.read()


class PageReader:
    """A reader in a page; what it has heard so far is asked of the page."""

    def __init__(self, page: Page, path: str) -> None:
        self._page = page
        page.evaluate(
            """([path, policy]) => {
                globalThis.heard = { numbers: [], states: [], error: null };
                const onState = ({ error, ...state }) => heard.states.push(state);
                const stream = new typedSse.EventStream(path, { policy, onState });
                stream.on("counted", (event) => heard.numbers.push(event.data.number));
                stream.start().catch((error) => { heard.error = String(error); });
            }""",
            [path, SOON],
        )

    def numbers(self) -> list[int]:
        return list(self._page.evaluate("heard.numbers"))

    def reasons(self) -> list[str]:
        return waits(self._page.evaluate("heard.states"))


def waits(states: Sequence[dict[str, Any]]) -> list[str]:
    return [state["reason"] for state in states if state["state"] == "waiting"]


def read(url: str, **options: Any) -> NodeReader:
    """Return a reader whose process has ended by itself."""
    reader = NodeReader(url, **options)
    reader.wait()
    return reader


def publish(server: str, run: str, count: int, pause_s: float = 0.0) -> int:
    """Publish so many more numbers; return how many there are."""
    params = {"count": count, "pause_s": pause_s}
    return int(httpx2.post(f"{server}/numbers/{run}", params=params).raise_for_status().text)


def happens(test: Callable[[], bool], limit_s: float) -> bool:
    """Wait for something that another process does."""
    deadline = time.monotonic() + limit_s
    while not test():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)  # between two looks
    return True


# All at once, by seed.


def faults(chance: random.Random, times: int) -> list[Fault]:
    """Return every kind of fault, in an order and with numbers left to chance."""

    def anywhere() -> int:
        return chance.randrange(1500)

    drawn: list[Fault] = [
        *(CutAfter(anywhere(), reset=True, coded=True) for _ in range(2 * times)),
        *(CutAfter(anywhere(), reset=False, coded=True) for _ in range(2 * times)),
        *(EndCleanly(anywhere()) for _ in range(2 * times)),
        *(Stall(anywhere() // 5) for _ in range(times)),
        *(Answer(status, (("retry-after", "0"),)) for status in (502, 503) * times),
        Answer(503, (("retry-after", "1"), *STREAM), b"data: no stream\n\n"),
        *(Redirect(status) for status in (301, 302, 307, 308)),
        *(Refuse() for _ in range(times)),
        *(AfterRequest() for _ in range(times)),
        *(Delay(chance.random() / 10) for _ in range(times)),
        *(Compressed() for _ in range(times)),
        *(Pass() for _ in range(times)),
    ]
    chance.shuffle(drawn)
    return [*drawn, Pass()]


def take_away(proxy: FaultProxy, reader: NodeReader | PageReader) -> None:
    """Refuse everything until the reader has come back in vain."""
    waits = len(reader.reasons())
    proxy.down()
    proxy.cut_all()
    assert happens(lambda: len(reader.reasons()) >= waits + 3, LIMIT_S)
    proxy.up()


def put_through(
    reader: NodeReader | PageReader,
    script: Sequence[Fault],
    *,
    server: str,
    proxy: FaultProxy,
    chance: random.Random,
    run: str,
) -> int:
    """Publish until the reader has met all faults, the server's absence too, and read everything.

    Return how many there were.
    """
    total = 0
    was_away = False

    def met() -> int:
        asked = [it for it in proxy.requests if it.path.startswith("/numbers/")]
        return len([it for it in asked if "redirected" not in it.path]) + proxy.refused

    def is_lost_anyway() -> bool:
        # So long as more is published; another cut would come before that one.
        asked = proxy.requests
        return not asked or isinstance(asked[-1].fault, Stall | EndCleanly | CutAfter)

    def all_is_read() -> bool:
        return len(reader.numbers()) >= total

    deadline = time.monotonic() + LIMIT_S
    while met() < len(script) or not was_away:
        assert time.monotonic() < deadline, f"{met()} of {len(script)}"
        total = publish(server, run, 10, chance.random() / 200)
        if not was_away and total >= 50 and not is_lost_anyway():
            was_away = True
            take_away(proxy, reader)
        if happens(all_is_read, 0.05) and chance.random() < 0.5 and not is_lost_anyway():
            proxy.cut_all()  # it has nothing else to suffer
    proxy.cut_all()
    assert happens(all_is_read, LIMIT_S), (total, reader.numbers(), reader.reasons())
    return total


def kinds(faults: Sequence[Fault]) -> set[type[Fault]]:
    return {type(fault) for fault in faults}


def test_a_client_in_node_misses_nothing_and_sees_nothing_twice(
    server: str, proxy: FaultProxy
) -> None:
    print(f"CLIENT_SEED={SEED}")
    chance = random.Random(SEED)
    script = faults(chance, times=2)
    proxy.script(script)
    reader = NodeReader(f"{proxy.url}/numbers/node-{SEED}")
    try:
        total = put_through(
            reader, script, server=server, proxy=proxy, chance=chance, run=f"node-{SEED}"
        )
    finally:
        reader.kill()

    assert reader.numbers() == list(range(total))
    assert kinds(script) == {*kinds([it.fault for it in proxy.requests]), Refuse}
    assert proxy.refused == 2
    wanted = {"cut", "ended", "idle", "status", "unanswered", "unreachable"}
    assert set(reader.reasons()) == wanted


@pytest.fixture
def page(browser: Browser, proxy: FaultProxy, tmp_path: Path) -> Iterator[Page]:
    """A page behind the proxy that has the client as `typedSse`."""
    bundle("src/index.ts", folder=tmp_path, format="iife", globalName="typedSse")
    page = browser.new_page()
    page.goto(f"{proxy.url}/page")
    page.add_script_tag(path=tmp_path / "index.js")
    yield page
    page.close()


def test_a_client_in_a_browser_misses_nothing_and_sees_nothing_twice(
    server: str, proxy: FaultProxy, page: Page
) -> None:
    print(f"CLIENT_SEED={SEED}")
    chance = random.Random(SEED)
    script = faults(chance, times=1)
    proxy.script(script)
    reader = PageReader(page, f"/numbers/page-{SEED}")

    total = put_through(
        reader, script, server=server, proxy=proxy, chance=chance, run=f"page-{SEED}"
    )

    assert reader.numbers() == list(range(total))
    assert kinds(script) == {*kinds([it.fault for it in proxy.requests]), Refuse}
    # `fetch` does not tell a browser's program whether a request was sent.
    assert set(reader.reasons()) == {"cut", "ended", "idle", "status", "unanswered"}


# One at a time.


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "text/html; charset=utf-8", "<!doctype html><title>Sign in</title>"),
        (200, "application/json", '{"events": []}'),
        (404, "application/json", '{"detail":"Not Found"}'),
        (401, "text/plain", "who are you?"),
        (500, "text/event-stream", "data: no\n\n"),
        (403, "", ""),
    ],
)
def test_what_is_no_stream_is_said_with_what_it_is_and_not_asked_again(
    proxy: FaultProxy, status: int, kind: str, body: str
) -> None:
    headers = (("content-type", kind),) if kind else ()
    proxy.script([Answer(status, headers, body.encode())])

    (error,) = read(f"{proxy.url}/numbers/none?token=secret").heard("error")

    assert error == {
        "name": "NotAStream",
        "reason": "content-type" if status == 200 else "status",
        "url": f"{proxy.url}/numbers/none",
        "status": status,
        "contentType": kind,
        "start": body,
    }
    assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(CutAfter(100), "cut"), (CutAfter(100, reset=False), "cut"), (AfterRequest(), "unanswered")],
)
def test_a_post_that_was_cut_off_is_not_sent_again(
    proxy: FaultProxy, fault: Fault, reason: str
) -> None:
    proxy.script([fault])
    (error,) = read(f"{proxy.url}/words", method="POST", terminal=["said"]).heard("error")
    assert (error["name"], error["reason"]) == ("ConnectionFailed", reason)
    assert [request.method for request in proxy.requests] == ["POST"]


def test_a_post_that_ended_early_is_not_sent_again_and_fails_where_its_last_event_is_known(
    proxy: FaultProxy,
) -> None:
    proxy.script([EndCleanly(100)])
    (error,) = read(f"{proxy.url}/words", method="POST", terminal=["said"]).heard("error")
    assert (error["name"], error["reason"]) == ("ConnectionFailed", "ended")
    assert len(proxy.requests) == 1


def test_a_post_that_was_put_off_is_sent_again(proxy: FaultProxy) -> None:
    proxy.script([Answer(503, (("retry-after", "0"),))])
    reader = read(f"{proxy.url}/words", method="POST", terminal=["said"])
    assert [event["data"] for event in reader.heard("event")] == [*WORDS, len(WORDS)]
    assert [request.method for request in proxy.requests] == ["POST", "POST"]


def test_a_post_that_the_server_resumes_goes_on_behind_its_last_id(
    server: str, proxy: FaultProxy
) -> None:
    publish(server, "asked", 30)
    # One comes before any id, which would begin anew: so the first has to bring some.
    proxy.script([CutAfter(800), CutAfter(0), EndCleanly(600)])

    reader = read(
        f"{proxy.url}/asked",
        body={"run": "asked"},
        count=30,
        policy={**SOON, "repeat": "resume"},
    )

    assert reader.numbers() == list(range(30))
    assert {(it.method, json.loads(it.body)["run"]) for it in proxy.requests} == {("POST", "asked")}
    ids = [it.headers.get("last-event-id") for it in proxy.requests]
    assert ids[0] is None
    assert ids[1] == ids[2]
    assert len({*ids}) == 3
    assert None not in ids[1:]


@pytest.mark.parametrize("what", ["line", "event"])
def test_an_event_without_an_end_is_an_error_at_the_limit(server: str, what: str) -> None:
    reader = read(f"{server}/endless/{what}", parsed=False, maxEventChars=1 << 20)
    assert [event["data"] for event in reader.heard("event")] == ["first"]
    assert reader.heard("error") == [{"name": "EventTooLarge", "limitChars": 1 << 20}]


def test_a_server_that_is_down_is_found_when_it_is_up_again(server: str, proxy: FaultProxy) -> None:
    publish(server, "down", 2)
    proxy.down()
    reader = NodeReader(f"{proxy.url}/numbers/down", count=2)
    try:
        assert happens(lambda: len(reader.reasons()) >= 3, LIMIT_S)
        proxy.up()
    finally:
        reader.wait()
    assert reader.numbers() == [0, 1]
    assert set(reader.reasons()) == {"unreachable"}


@pytest.mark.parametrize(
    ("state", "fault"),
    [
        ("connecting", Delay(60)),
        ("open", Stall(0)),
        ("waiting", Answer(503, (("retry-after", "600"),))),
    ],
)
def test_a_process_ends_by_itself_once_its_stream_is_closed(
    proxy: FaultProxy, state: str, fault: Fault
) -> None:
    proxy.script([fault])
    reader = read(f"{proxy.url}/numbers/none", closeWhen=state)
    assert [it["state"] for it in reader.heard("state")][-2:] == [state, "closed"]
    assert reader.heard("ended") == [True]
