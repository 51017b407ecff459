"""Uses the demo's room in a real Chromium: tabs that talk, and connections that are really cut.

A page that logs an error other than a lost or refused connection, or an exception, fails its test.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Route, expect

from live.conftest import DEMO, served
from live.test_page import served_again
from typed_sse.channels import Channel, Hub
from typed_sse.demo.room import Message, Said

pytestmark = pytest.mark.live

LIMIT_MS = 20_000
LOST = re.compile(
    r"Failed to load resource: .*(ERR_INCOMPLETE_CHUNKED|ERR_CONNECTION_|status of (410|503))"
)
STREAM = "**/room?*"

expect.set_options(timeout=LIMIT_MS)

Join = Callable[[str], Locator]


@contextmanager
def joining(browser: Browser, url: str) -> Generator[tuple[BrowserContext, Join]]:
    """Give a function that joins the room in a new tab."""
    complaints: list[str] = []

    def complained(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not LOST.match(message.text):
            complaints.append(message.text)

    def join(name: str) -> Locator:
        page = context.new_page()
        page.set_default_timeout(LIMIT_MS)
        page.on("console", complained)
        page.on("pageerror", lambda error: complaints.append(f"exception: {error}"))
        page.goto("/")
        room = page.locator("section.room")
        room.get_by_label("Your name").fill(name)
        press(room, "Join")
        expect_fact(room, "state", "connected")
        expect_fact(room, "worker", re.compile(r"^\d+$"))
        return room

    with browser.new_context(base_url=url) as context:
        yield context, join
        for page in context.pages:
            page.evaluate("0")  # what the browser has already said is delivered with the answer
        assert complaints == []


@pytest.fixture
def join(browser: Browser, demo: str) -> Iterator[Join]:
    with joining(browser, demo) as (_, join):
        yield join


@pytest.fixture
def two_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """A demo with two workers and a room in a file: its base URL, and that of the room's engine."""
    engine = f"sqlite:///{tmp_path / 'room.db'}"
    monkeypatch.setenv("TYPED_SSE_URL", engine)
    with served(DEMO, tmp_path / "log") as (url, _):
        yield url, engine


def press(room: Locator, name: str) -> None:
    room.get_by_role("button", name=name, exact=True).click()


def fact(room: Locator, name: str) -> Locator:
    return room.locator(f"[data-part={name}]")


def expect_fact(room: Locator, name: str, text: str | re.Pattern[str]) -> None:
    expect(fact(room, name)).to_have_text(text)


def say(room: Locator, text: str) -> None:
    room.get_by_label("Message", exact=True).fill(text)
    press(room, "Send")


def texts(room: Locator) -> list[str]:
    return room.locator("li .text").all_text_contents()


def expect_said(room: Locator, text: str) -> None:
    expect(room.locator("li .text").last).to_have_text(text)


@contextmanager
def kept_away(room: Locator) -> Generator[None]:
    """Let the tab's next connection to the room wait until this is left."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    room.page.route(STREAM, hold)
    yield
    deadline = time.monotonic() + LIMIT_MS / 1000
    while not held and time.monotonic() < deadline:
        room.page.wait_for_timeout(20)  # a handler runs only while Playwright waits for something
    for route in held:
        route.continue_()
    assert held, "the browser has not come back"
    room.page.unroute(STREAM, hold)


def cut(room: Locator) -> None:
    press(room, "Cut the connection")
    # The wait may be over by now.
    expect_fact(room, "state", re.compile("^(retry in .* s: cut off|connecting)$"))


def expect_nothing_missed(room: Locator) -> None:
    counts = {name: fact(room, name).text_content() for name in ("missed", "twice", "gaps")}
    assert counts == {"missed": "0", "twice": "0", "gaps": "0"}


def test_what_one_tab_says_every_tab_shows(join: Join) -> None:
    ada, grace = join("Ada"), join("Grace")

    say(ada, "hello from the one")
    expect_said(grace, "hello from the one")
    say(grace, "and from the other")
    expect_said(ada, "and from the other")

    assert texts(ada)[-2:] == texts(grace)[-2:] == ["hello from the one", "and from the other"]
    assert ada.locator("li .tag").all_text_contents()[-2:] == ["Ada", "Grace"]
    assert fact(ada, "last-id").text_content() == fact(grace, "last-id").text_content()


def test_a_tab_that_is_cut_off_gets_the_20_messages_of_meanwhile_once(join: Join) -> None:
    ada, grace = join("Ada"), join("Grace")
    say(grace, "before the cut")
    expect_said(ada, "before the cut")

    with kept_away(ada):
        cut(ada)
        press(grace, "Send 20")
        expect_said(grace, "Round 1: 20 of 20")
        expect_said(ada, "before the cut")

    expect_fact(ada, "state", "connected")
    say(grace, "after the cut")
    expect_said(ada, "after the cut")
    sent = [f"Round 1: {number} of 20" for number in range(1, 21)]
    assert texts(ada)[-22:] == ["before the cut", *sent, "after the cut"]
    assert texts(grace)[-22:] == texts(ada)[-22:]
    expect_fact(ada, "cuts", "1")
    expect_fact(grace, "cuts", "0")
    expect_nothing_missed(ada)
    expect_nothing_missed(grace)


def test_a_refusal_for_now_is_followed_by_another_try(join: Join) -> None:
    def refuse(route: Route) -> None:
        route.fulfill(status=503)

    ada, grace = join("Ada"), join("Grace")
    say(grace, "before the refusal")
    expect_said(ada, "before the refusal")

    ada.page.route(STREAM, refuse, times=1)
    with ada.page.expect_response(lambda response: response.status == 503):
        cut(ada)
    say(grace, "after the refusal")

    expect_said(ada, "after the refusal")
    assert texts(ada)[-2:] == ["before the refusal", "after the refusal"]
    expect_nothing_missed(ada)


def test_a_room_that_is_not_there_is_left(browser: Browser, demo: str) -> None:
    with joining(browser, demo) as (_, join):
        ada = join("Ada")

        ada.page.route(STREAM, lambda route: route.fulfill(status=410))
        press(ada, "Cut the connection")

        expect_fact(ada, "state", "refused: 410")
        expect(ada.get_by_role("button", name="Join")).to_be_enabled()
        ada.page.unroute(STREAM)
        press(ada, "Join")
        expect_fact(ada, "state", "connected")


def test_a_page_that_is_loaded_anew_goes_on_where_it_was_and_counts_on(join: Join) -> None:
    ada, grace = join("Ada"), join("Grace")
    press(grace, "Send 20")
    expect_said(ada, "Round 1: 20 of 20")
    received = int(fact(ada, "received").text_content() or "")

    with kept_away(ada):
        ada.page.reload()
        press(grace, "Send 20")
        expect_said(grace, "Round 2: 20 of 20")

    expect_said(ada, "Round 2: 20 of 20")
    assert texts(ada) == [f"Round 2: {number} of 20" for number in range(1, 21)]
    expect_fact(ada, "received", str(received + 20))
    expect(ada.locator("li.anew")).to_contain_text("The page was loaded anew.")
    expect_nothing_missed(ada)


COUNT_ON = """
async () => {
    const { Tally } = await import("/tally.js");
    const before = new Tally();
    before.add("ada", 1);
    const after = new Tally(JSON.parse(JSON.stringify(before.counts)));
    for (const number of [4, 4]) after.add("ada", number);
    return [after.received, after.missed, after.twice];
}
"""


def test_a_tally_that_goes_on_sees_what_is_missed_in_between(join: Join) -> None:
    assert join("Ada").page.evaluate(COUNT_ON) == [3, 2, 1]


def test_a_room_that_was_left_is_not_joined_by_loading_the_page_anew(join: Join) -> None:
    ada = join("Ada")
    press(ada, "Leave")
    expect_fact(ada, "state", "left")

    ada.page.reload()

    expect_fact(ada, "state", "not joined")


def test_a_tab_waits_for_a_killed_server_and_gets_what_was_said_in_the_meantime(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = f"sqlite:///{tmp_path / 'room.db'}"
    monkeypatch.setenv("TYPED_SSE_URL", engine)
    # One process, so that to kill it is to kill the server.
    command = "-m uvicorn typed_sse.demo.app:app --port PORT"

    async def say_20() -> None:
        async with Hub(engine) as hub:
            for number in range(2, 22):
                said = Message(sender="a" * 16, number=number, name="Db", text=f"{number}")
                await Channel("room", Said, hub=hub).publish(Said(said))

    with served(command, tmp_path / "log") as (url, server), joining(browser, url) as (_, join):
        ada = join("Ada")
        first = {"sender": "a" * 16, "number": 1, "name": "Db", "text": "1"}
        ada.page.request.post(f"{url}/room/messages", data=first)
        expect_said(ada, "1")

        server.kill()
        expect(ada.locator("li.lost")).to_contain_text("Lost: cut off. The last id is")
        expect_fact(ada, "state", re.compile(r"^retry in \d+\.\d s: no answer$"))
        expect_fact(ada, "failures", re.compile("^[2-9]$"))
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, say_20()).result()
        with served_again(command, url, tmp_path / "again"):
            expect_said(ada, "21")

            assert texts(ada) == [str(number) for number in range(1, 22)]
            expect_fact(ada, "state", "connected")
            expect_fact(ada, "cuts", "1")
            expect_fact(ada, "failures", "0")
            expect_fact(ada, "wait", re.compile(r"^\d+\.\d s$"))
            expect_nothing_missed(ada)


def test_with_two_workers_a_cut_and_a_killed_worker_cost_nothing(
    browser: Browser, two_workers: tuple[str, str]
) -> None:
    url, _ = two_workers
    with joining(browser, url) as (_, join):
        ada, grace = join("Ada"), join("Grace")

        with kept_away(ada):
            cut(ada)
            press(grace, "Send 20")
            expect_said(grace, "Round 1: 20 of 20")
        expect_said(ada, "Round 1: 20 of 20")

        killed = fact(ada, "worker").text_content() or ""
        os.kill(int(killed), signal.SIGKILL)
        expect_fact(ada, "cuts", "2")
        press(grace, "Send 20")
        expect_said(ada, "Round 2: 20 of 20")

        expect(fact(ada, "worker")).not_to_have_text(killed)
        sent = [f"Round {turn}: {number} of 20" for turn in (1, 2) for number in range(1, 21)]
        assert texts(ada) == sent
        expect_fact(ada, "received", "40")
        expect_nothing_missed(ada)


def test_a_gap_is_shown_where_the_room_has_become_another_one(
    browser: Browser, two_workers: tuple[str, str]
) -> None:
    url, engine = two_workers

    async def drop_the_room() -> None:
        async with Hub(engine) as hub:
            await Channel("room", Said, hub=hub).drop()

    with joining(browser, url) as (_, join):
        ada, grace = join("Ada"), join("Grace")
        say(grace, "in the old room")
        expect_said(ada, "in the old room")

        with kept_away(ada):
            cut(ada)
            # In a thread: Playwright has the event loop of this one.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, drop_the_room()).result()
            say(grace, "in the new room")
            expect_said(grace, "in the new room")

        expect_said(ada, "in the new room")
        expect_fact(ada, "gaps", "1")
        expect(ada.locator("li.gap")).to_contain_text("messages are missing here")


def test_a_message_whose_answer_is_lost_is_sent_again_and_in_the_room_once(
    browser: Browser, demo: str
) -> None:
    lost: list[str] = []

    def lose_the_answer(route: Route) -> None:
        route.fetch()
        lost.append(route.request.post_data or "")
        route.abort("connectionaborted")

    with joining(browser, demo) as (_, join):
        ada = join("Ada")
        ada.page.route("**/room/messages", lose_the_answer, times=1)
        say(ada, "said once")
        expect_said(ada, "said once")
        say(ada, "and then this")
        expect_said(ada, "and then this")

        assert texts(ada)[-2:] == ["said once", "and then this"]
        assert len(lost) == 1
        expect_nothing_missed(ada)


def test_names_and_messages_are_shown_as_text_and_never_as_markup(join: Join) -> None:
    markup = "<img src=/none onerror=alert(1)>"
    ada = join(markup)

    say(ada, f"{markup}<b>bold</b>")

    expect_said(ada, f"{markup}<b>bold</b>")
    expect(ada.locator("li .tag").last).to_have_text(markup)
    expect(ada.locator("img, b")).to_have_count(0)


def test_the_room_works_under_the_strictest_usual_content_security_policy(
    browser: Browser, demo: str
) -> None:
    def with_policy(route: Route) -> None:
        answer = route.fetch()
        headers = {**answer.headers, "content-security-policy": "default-src 'self'"}
        route.fulfill(response=answer, headers=headers)

    with joining(browser, demo) as (context, join):
        context.route(f"{demo}/", with_policy)
        ada = join("Ada")
        say(ada, "under a policy")
        expect_said(ada, "under a policy")


def test_the_keyboard_alone_joins_says_something_and_leaves(browser: Browser, demo: str) -> None:
    with joining(browser, demo) as (_, join):
        room = join("Ada")
        keyboard = room.page.keyboard
        press(room, "Leave")
        expect(room.get_by_role("button", name="Join")).to_be_focused()

        keyboard.press("Enter")
        expect_fact(room, "state", "connected")
        expect(room.get_by_label("Message", exact=True)).to_be_focused()
        keyboard.type("typed")
        keyboard.press("Enter")

        expect_said(room, "typed")
        expect(room.get_by_label("Message", exact=True)).to_have_value("")


def test_a_long_name_and_message_are_not_wider_than_a_screen_of_360_pixels(join: Join) -> None:
    ada = join("W" * 40)
    ada.page.set_viewport_size({"width": 360, "height": 800})

    say(ada, "x" * 500)

    expect_said(ada, "x" * 500)
    assert ada.page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ("bogus://somewhere", "give one of memory://, sqlite:///path/to/file, redis://host"),
        ("redis://me:secret@127.0.0.1:1", "the engine redis://127.0.0.1:1 is not available"),
    ],
)
def test_an_engine_that_is_not_there_is_an_error_of_one_line_and_nothing_is_served(
    engine: str, says: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "typed_sse.demo", "0"],
        env={**os.environ, "TYPED_SSE_URL": engine},
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_MS / 1000,
    )
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stderr.startswith("TYPED_SSE_URL: ")
    assert len(done.stderr.splitlines()) == 1
    assert "secret" not in done.stderr
