"""Opens every conformance case in the native EventSource of a real Chromium.

So the cases are checked by a reader that is not ours. Where Chromium and the standard part ways,
the standard wins, and the case is listed here with the reason.

The server plays a script to each EventSource: one response after another as it reconnects by
itself, and 204, which stops it, after the last. A page cannot see `retry`, so it is not compared.
"""

import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import pytest
import uvicorn
from playwright.sync_api import Browser, Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from cases import CASES, Case, Seen

pytestmark = pytest.mark.live

EVENTS_DEVIATE = {
    "bom/then-a-blank-line": "takes the byte after the mark for text, even where it ends a line",
    "bom/then-cr": "takes the byte after the mark for text, even where it ends a line",
    "wpt/format-utf-8": "refuses a stream that declares a charset other than UTF-8",
}
"""Case id -> what Chromium does instead of what the standard says."""

FINAL_ID_IS_HIDDEN = {
    "fields/space-in-id-alone": "HTTP strips white space around a header's value",
    "fields/two-spaces-in-id": "HTTP strips white space around a header's value",
    "line-ends/u000b-is-no-line-end": "h11 answers 400 to this control character in a header",
    "line-ends/u000c-is-no-line-end": "h11 answers 400 to this control character in a header",
}
"""Case id -> why the request that Chromium resumes with cannot show the final id."""

BY_ID = {case.id: case for case in CASES}


def names_in(body: bytes) -> list[str]:
    """Return every name that a reader, right or wrong, could give to an event of this body."""
    found: list[bytes] = re.findall(rb"event:? ?([^\r\n]*)", body)
    return ["message", "open", "error", *{name.decode("utf-8", "replace") for name in found}]


def reconnecting_at_once(body: bytes) -> bytes:
    """Return the body with a `retry: 0`, after a comment that ends a line which has no end yet."""
    return body + b":\nretry: 0\n"


@dataclass
class Play:
    """What one EventSource is served, and the `Last-Event-ID` of each of its requests so far."""

    bodies: list[bytes]
    content_type: str
    asked_with: list[str] = field(default_factory=list[str])


def play_of(case: Case, body: bytes) -> Play:
    initial = case.initial_last_event_id
    before = [f"id: {initial}\nretry: 0\n\n".encode()] if initial else []
    return Play([*before, body], case.content_type)


class Server:
    """A uvicorn on a free loopback port, in a thread; `/play/<n>` serves `plays[n]`."""

    def __init__(self) -> None:
        self.plays: list[Play] = []
        routes = [Route("/", self._page), Route("/play/{n:int}", self._play)]
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                Starlette(routes=routes),
                http="h11",  # httptools refuses more control characters in `Last-Event-ID`
                lifespan="off",
                log_level="error",
                timeout_graceful_shutdown=5,
            )
        )
        # It listens before the thread runs, so nobody has to wait for the start.
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._uvicorn.run, args=([self._socket],))
        self._thread.start()

    def stop(self) -> None:
        self._uvicorn.should_exit = True
        self._thread.join()

    async def _page(self, request: Request) -> Response:
        return HTMLResponse("<!doctype html><title>conformance</title>")

    async def _play(self, request: Request) -> Response:
        play = self.plays[cast("int", request.path_params["n"])]
        turn = len(play.asked_with)
        # Starlette reads headers as Latin-1; the id travels as UTF-8.
        play.asked_with.append(request.headers.get("last-event-id", "").encode("latin-1").decode())
        if turn >= len(play.bodies):
            return Response(status_code=204)
        return Response(play.bodies[turn], headers={"content-type": play.content_type})


OPEN = """
async sources => JSON.stringify(await Promise.race([
    Promise.all(sources.map(({url, names, connections}) => new Promise(done => {
        const seen = [];
        const source = new EventSource(url);
        const listen = event => {
            if (event instanceof MessageEvent) {
                seen.push([event.type, event.data, event.lastEventId]);
            } else if (event.type === "error") {
                connections -= 1;
                if (connections === 0) source.close();
                if (source.readyState === EventSource.CLOSED) done(seen);
            }
        };
        for (const name of names) source.addEventListener(name, listen);
    }))),
    new Promise((_, fail) => setTimeout(fail, 60_000, new Error("still open after a minute"))),
]))
"""
"""Opens each URL until `connections` of them have ended, or the server has said 204."""


def open_all(page: Page, server: Server, plays: list[Play], until_204: bool) -> list[Seen]:
    first = len(server.plays)
    server.plays += plays
    sources = [
        {
            "url": f"/play/{n}",
            "names": names_in(play.bodies[-1]),
            "connections": -1 if until_204 else len(play.bodies),
        }
        for n, play in enumerate(plays, first)
    ]
    # As one string: Playwright's own encoding of 40,000 small arrays takes seconds.
    answer = cast("list[list[list[str]]]", json.loads(page.evaluate(OPEN, sources)))
    return [[(kind, data, last_id) for kind, data, last_id in seen] for seen in answer]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def page(browser: Browser, server: Server) -> Page:
    page = browser.new_page()
    page.goto(server.url)
    return page


@pytest.fixture(scope="module")
def dispatched(page: Page, server: Server) -> dict[str, Seen]:
    plays = [play_of(case, case.body) for case in CASES]
    return dict(zip(BY_ID, open_all(page, server, plays, until_204=False), strict=True))


@pytest.fixture(scope="module")
def resumed_with(page: Page, server: Server) -> dict[str, str]:
    plays = [play_of(case, reconnecting_at_once(case.body)) for case in CASES]
    open_all(page, server, plays, until_204=True)
    return {case: play.asked_with[-1] for case, play in zip(BY_ID, plays, strict=True)}


@pytest.mark.parametrize("case", BY_ID)
def test_chromium_dispatches_the_events_of_the_case(case: str, dispatched: dict[str, Seen]) -> None:
    wanted = BY_ID[case].events
    # A bool, because pytest would take minutes to explain how 10,000 events differ.
    agrees = dispatched[case] == wanted
    if case in EVENTS_DEVIATE:
        assert not agrees, "Chromium does now: take the case off EVENTS_DEVIATE"
    else:
        assert agrees, f"dispatched {dispatched[case]!r:.2000}, not {wanted!r:.2000}"


@pytest.mark.parametrize("case", BY_ID)
def test_chromium_resumes_with_the_final_id_of_the_case(
    case: str, resumed_with: dict[str, str]
) -> None:
    wanted = BY_ID[case].final_last_event_id
    if case in FINAL_ID_IS_HIDDEN:
        assert resumed_with[case] != wanted, "it does now: take the case off FINAL_ID_IS_HIDDEN"
    else:
        assert resumed_with[case] == wanted


def test_every_case_that_is_listed_as_an_exception_exists() -> None:
    assert {*EVENTS_DEVIATE, *FINAL_ID_IS_HIDDEN} <= BY_ID.keys()
