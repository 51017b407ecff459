"""Uses the demo's page in a real Chromium.

A page that complains fails its test: whatever Chromium logs as an error or a warning, every
exception, failed request and error status has to be in `deliberate`, word for word.
"""

import json
import re
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Error,
    Locator,
    Page,
    Request,
    Response,
    Route,
    expect,
)

from live.conftest import DEMO, wait_until_it_accepts
from live.fault_proxy import CutAfter, fault_proxy

pytestmark = pytest.mark.live

LIMIT_MS = 10_000
CHAT_LIMIT_MS = 30_000
RESTART_LIMIT_MS = 30_000  # where a server takes long to start, the wait before has grown

expect.set_options(timeout=LIMIT_MS)


# A page closes a stream behind its last event, sometimes before the server has.
CLOSED_AT_ITS_END = re.compile(r"failed: net::ERR_ABORTED /(job\?steps=\d+|chat)")


class Complaints:
    """Writes down what a page complains of; what it says again counts once."""

    def __init__(self, page: Page, base: str) -> None:
        self.seen: set[str] = set()
        self._base = base
        page.on("console", self._console)
        page.on("pageerror", self._error)
        page.on("requestfailed", self._failed)
        page.on("response", self._answered)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            path = message.location["url"].removeprefix(self._base)
            self.seen.add(f"console {message.type}: {message.text} {path}".rstrip())

    def _error(self, error: Error) -> None:
        self.seen.add(f"exception: {error}")

    def _failed(self, request: Request) -> None:
        complaint = f"failed: {request.failure} {request.url.removeprefix(self._base)}"
        if not CLOSED_AT_ITS_END.fullmatch(complaint):
            self.seen.add(complaint)

    def _answered(self, response: Response) -> None:
        if response.status >= HTTPStatus.BAD_REQUEST:
            self.seen.add(f"status: {response.status} {response.url.removeprefix(self._base)}")


@contextmanager
def watched_page(browser: Browser, demo: str, deliberate: list[str]) -> Generator[Page]:
    with browser.new_context(base_url=demo) as context:
        page = context.new_page()
        page.set_default_timeout(LIMIT_MS)
        complaints = Complaints(page, demo)
        yield page
        # What the browser has already said is delivered with the answer to this.
        page.evaluate("0")
        assert complaints.seen == set(deliberate)


@pytest.fixture
def deliberate() -> list[str]:
    """The complaints that a test provokes."""
    return []


@pytest.fixture
def page(browser: Browser, demo: str, deliberate: list[str]) -> Iterator[Page]:
    with watched_page(browser, demo, deliberate) as page:
        yield page


@pytest.fixture(scope="module", autouse=True)
def chat(browser: Browser, demo: str) -> Iterator[Locator]:
    """A chat that has just begun: it takes ten seconds, and so runs beside the other tests."""
    with watched_page(browser, demo, []) as page:
        page.goto("/")
        chat = panel(page, "/chat")
        chat.get_by_label("Prompt").fill("hello?")
        press(chat, "Connect")
        expect_state(chat, "open")
        expect(answer_of(chat)).to_contain_text("You asked: “hello?”. A stream")
        assert "next word yet" not in (answer_of(chat).text_content() or "")
        yield chat


def panel(page: Page, path: str) -> Locator:
    return page.locator(f"section[data-path='{path}']")


def press(within: Page | Locator, name: str) -> None:
    within.get_by_role("button", name=name, exact=True).click()


def expect_state(stream: Locator, text: str | re.Pattern[str], timeout_ms: int = LIMIT_MS) -> None:
    expect(stream.locator("[data-part=state]")).to_have_text(text, timeout=timeout_ms)


def first_names(stream: Locator, count: int) -> list[str]:
    """Return the names of the first `count` events, when they have come."""
    tags = stream.locator(".tag")
    expect(tags.nth(count - 1)).to_be_visible()
    return tags.all_text_contents()[:count]


def answer_of(chat: Locator) -> Locator:
    return chat.get_by_role("region", name="Answer")


def raw_text(stream: Locator) -> str:
    return stream.locator("[data-part=raw]").text_content() or ""


def stop(page: Page, path: str, deliberate: list[str], base: str = "") -> None:
    with page.expect_event("requestfailed"):
        press(panel(page, path), "Stop")
    expect_state(panel(page, path), "stopped")
    deliberate.append(f"failed: net::ERR_ABORTED {base}{path}?message=hello")


def test_three_echo_streams_are_live_at_once(page: Page) -> None:
    page.goto("/")
    for path in ("/sse", "/sse2", "/sse3"):
        press(panel(page, path), "Connect")

    assert first_names(panel(page, "/sse"), 2) == ["echo", "echo"]
    assert first_names(panel(page, "/sse2"), 2) == ["echo", "echo"]
    assert first_names(panel(page, "/sse3"), 4) == ["echo", "reverse_echo"] * 2
    expect(panel(page, "/sse3").locator("td.data").nth(1)).to_have_text('{ "message": "olleh" }')
    for path in ("/sse", "/sse2", "/sse3"):
        expect_state(panel(page, path), "open")


def test_a_stopped_stream_can_be_connected_again_and_starts_at_id_0(
    page: Page, deliberate: list[str]
) -> None:
    page.goto("/")
    sse = panel(page, "/sse")
    ids = sse.locator("td.id")

    press(sse, "Connect")
    expect(ids.nth(1)).to_have_text("1")
    stop(page, "/sse", deliberate)
    press(sse, "Connect")

    expect(ids.nth(1)).to_have_text("1")
    shown = ids.all_text_contents()
    assert shown == [str(n) for n in range(len(shown))]
    expect_state(sse, "open")
    stop(page, "/sse", deliberate)


def test_a_job_runs_to_its_end_and_fills_the_bar(page: Page) -> None:
    page.goto("/")
    job = panel(page, "/job")
    job.get_by_label("Steps").fill("5")

    press(job, "Connect")

    expect(job.locator("[data-part=doing]")).to_have_text(re.compile("^[1-4] of 5: "))
    expect_state(job, "complete")
    bar = job.get_by_role("progressbar")
    expect(bar).to_have_js_property("value", 5)
    expect(bar).to_have_js_property("max", 5)
    expect(job.locator(".tag").last).to_have_text("finished")
    expect(job.locator(".counts")).to_contain_text("6 events")


def test_a_chat_that_fails_says_what_the_server_has_said(page: Page) -> None:
    page.goto("/")
    chat = panel(page, "/chat")
    chat.get_by_label("Prompt").fill("please fail")

    press(chat, "Connect")

    expect_state(chat, "failed: The model lost its thread.")
    expect(chat.locator(".tag").last).to_have_text("stream.error")
    expect(answer_of(chat)).to_contain_text("You asked: “please fail”.")


def test_the_refusal_of_an_empty_message_is_shown_as_it_came(
    page: Page, deliberate: list[str]
) -> None:
    page.goto("/")
    refused = HTTPStatus(422)
    sse = panel(page, "/sse")
    sse.get_by_label("Message").fill("")

    with page.expect_event("console"):
        press(sse, "Connect")

    expect_state(sse, "refused: 422")
    expect(sse.locator(".refusal")).to_be_visible()
    shown = sse.locator(".refusal").text_content() or ""
    assert json.loads(shown)["detail"][0]["type"] == "string_too_short"
    assert json.loads(raw_text(sse)) == json.loads(shown)
    deliberate += [
        "status: 422 /sse?message=",
        "console error: Failed to load resource: the server responded with a status of 422 "
        f"({refused.phrase}) /sse?message=",
    ]


def test_an_endless_stream_waits_for_a_killed_server_and_comes_back(
    page: Page,
    own_demo: tuple[str, subprocess.Popen[bytes]],
    tmp_path: Path,
    deliberate: list[str],
) -> None:
    url, server = own_demo
    path = f"{url}/sse?message=hello"
    page.goto(url)
    sse = panel(page, "/sse")
    press(sse, "Connect")
    assert first_names(sse, 1) == ["echo"]

    server.kill()
    expect_state(sse, re.compile(r"^retry in \d+\.\d s: no answer$"))
    server.wait()
    with served_again(DEMO, url, tmp_path / "again"):
        expect_state(sse, "open", RESTART_LIMIT_MS)
        expect(sse.locator("tr.again .id")).to_have_text("0")
        expect(sse.locator(".counts")).to_contain_text(" · 2 connections")
        stop(page, "/sse", deliberate, url)

    for error in ("INCOMPLETE_CHUNKED_ENCODING", "CONNECTION_REFUSED"):
        deliberate += [
            f"failed: net::ERR_{error} {path}",
            f"console error: Failed to load resource: net::ERR_{error} {path}",
        ]


@contextmanager
def served_again(command: str, url: str, log: Path) -> Generator[None]:
    """Run `python command` where there was such a server before."""
    port = urlsplit(url).port
    assert port is not None
    arguments = command.replace("PORT", str(port)).split()
    with (
        log.open("wb") as output,
        subprocess.Popen([sys.executable, *arguments], stdout=output, stderr=output) as server,
    ):
        try:
            wait_until_it_accepts(server, port, log)
            yield
        finally:
            server.terminate()


@pytest.mark.parametrize("path", ["/job", "/chat"])
def test_what_does_work_is_not_asked_for_twice_when_its_connection_is_cut(
    page: Page, demo: str, path: str, deliberate: list[str]
) -> None:
    with fault_proxy(demo) as proxy:
        page.goto(proxy.url, wait_until="networkidle")
        proxy.script([CutAfter(200, reset=False)])

        press(panel(page, path), "Connect")

        expect_state(panel(page, path), "cut off; not sent again")
        press(panel(page, "/sse"), "Connect")
        assert first_names(panel(page, "/sse"), 2) == ["echo", "echo"]
        asked = [request for request in proxy.requests if request.path.startswith(path)]
        assert len(asked) == 1
        sent = proxy.url + asked[0].path
        expect(panel(page, path).locator(".tag").first).to_be_visible()
        stop(page, "/sse", deliberate, proxy.url)

    deliberate += [
        f"failed: net::ERR_INCOMPLETE_CHUNKED_ENCODING {sent}",
        f"console error: Failed to load resource: net::ERR_INCOMPLETE_CHUNKED_ENCODING {sent}",
    ]


def test_the_raw_bytes_are_exactly_what_was_sent(page: Page) -> None:
    page.goto("/")
    job = panel(page, "/job")
    job.get_by_label("Steps").fill("1")
    press(job, "Connect")
    expect_state(job, "complete")

    job.get_by_role("tab", name="Raw bytes").click()

    expect(job.locator("[data-part=raw]")).to_be_visible()
    assert raw_text(job) == (
        'id: 0\nevent: progress\ndata: {"step":1,"of":1,"doing":"fetching pages"}\n\n'
        'id: 1\nevent: finished\ndata: {"files":3,"seconds":0.4}\n\n'
    )


@pytest.mark.parametrize("path", ["/sse", "/chat"])
def test_the_copied_curl_command_sends_what_the_page_sends(
    page: Page, demo: str, path: str
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=demo)
    page.goto("/")
    stream = panel(page, path)
    stream.get_by_role("textbox").fill('it\'s "quoted" & ünï $HOME %20 \\')

    press(stream, "Copy the curl command")
    expect(stream.get_by_text("Copied")).to_be_visible()
    command: str = page.evaluate("navigator.clipboard.readText()")
    press(stream, "Connect")
    expect(stream.locator(".tag").first).to_be_visible()

    # The shell becomes curl, so that the terminated process is not its parent.
    shell = ["sh", "-c", f"exec {command} --silent --noproxy '*' --max-time 30"]
    received = b""
    with subprocess.Popen(shell, stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        while b"HOME" not in received and (line := curl.stdout.readline()):
            received += line
        curl.terminate()
    expect(stream.locator("[data-part=events]")).to_contain_text("HOME")
    assert b"HOME" in received
    assert raw_text(stream).startswith(received.decode())


def test_the_keyboard_alone_opens_and_closes_a_stream(page: Page, deliberate: list[str]) -> None:
    page.goto("/")
    sse = panel(page, "/sse")
    sse.get_by_label("Message").focus()

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect_state(sse, "open")
    expect(sse.get_by_role("button", name="Stop")).to_be_focused()
    with page.expect_event("requestfailed"):
        page.keyboard.press("Enter")
    expect_state(sse, "stopped")
    expect(sse.get_by_role("button", name="Connect")).to_be_focused()
    deliberate.append("failed: net::ERR_ABORTED /sse?message=hello")

    sse.get_by_role("tab", name="Events").focus()
    page.keyboard.press("ArrowRight")
    expect(sse.get_by_role("tab", name="Raw bytes")).to_be_focused()
    expect(sse.get_by_role("tabpanel", name="Raw bytes")).to_be_visible()


FLOOD = """
window.fetch = async () => {
    const body = new ReadableStream({
        start(stream) {
            for (const frame of frames_to_send) stream.enqueue(new TextEncoder().encode(frame));
            stream.close();
        },
    });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
};
"""
"""Answers every request with the frames, a chunk each, which Playwright itself cannot."""


def test_a_flood_leaves_500_events_and_64_ki_characters_on_the_page(page: Page) -> None:
    frames = [f"id: {n}\ndata: {'x' * 200}\n\n" for n in range(599)]
    frames.append("id: 599\nevent: stream.end\ndata: {}\n\n")
    page.add_init_script(f"window.frames_to_send = {json.dumps(frames)}; {FLOOD}")
    page.goto("/")
    sse = panel(page, "/sse")

    press(sse, "Connect")

    expect_state(sse, "ended by the server")
    expect(sse.locator(".counts")).to_contain_text("600 events (last 500 shown)")
    expect(sse.locator("[data-part=events] tr")).to_have_count(500)
    expect(sse.locator("td.id").first).to_have_text("100")
    assert raw_text(sse) == "".join(frames)[-64 * 1024 :]


def test_an_event_is_shown_as_text_and_never_as_markup(page: Page) -> None:
    page.goto("/")
    sse = panel(page, "/sse")
    markup = "<img src=/none onerror=alert(1)><b>bold</b>"
    sse.get_by_label("Message").fill(markup)

    press(sse, "Connect")

    expect(sse.locator("td.data").first).to_have_text(f'{{ "message": "{markup}" }}')
    expect(sse.locator("img, b")).to_have_count(0)


@pytest.mark.parametrize("tab", ["Events", "Raw bytes"])
def test_nothing_is_wider_than_a_screen_of_360_pixels(page: Page, tab: str) -> None:
    page.set_viewport_size({"width": 360, "height": 800})
    page.goto("/")
    panel(page, "/sse").get_by_label("Message").fill("x" * 300)
    for handle in page.get_by_role("tab", name=tab).all():
        handle.click()

    press(page, "Connect all")
    for path in ("/sse", "/sse2", "/sse3", "/job", "/chat"):
        expect(panel(page, path).locator("[data-part=raw]")).to_contain_text("data:")

    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_page_works_under_the_strictest_usual_content_security_policy(
    page: Page, deliberate: list[str]
) -> None:
    policy = "default-src 'self'"

    def with_policy(route: Route) -> None:
        answer = route.fetch()
        headers = {**answer.headers, "content-security-policy": policy}
        route.fulfill(response=answer, headers=headers)

    page.route("**/", with_policy)
    page.goto("/")

    press(page, "Connect all")
    for path in ("/sse", "/sse2", "/sse3", "/job", "/chat"):
        expect(panel(page, path).locator(".tag").first).to_be_visible()

    # The proof that the policy was in force: Chromium would say of the page what it says of this.
    with page.expect_event("console") as violation:
        page.evaluate("document.body.setAttribute('onclick', '0')")
    assert policy in violation.value.text
    deliberate.append(f"console error: {violation.value.text}")


def test_every_link_of_the_page_leads_somewhere_on_this_server(page: Page, demo: str) -> None:
    page.goto("/")

    targets = [
        *page.locator("[href]").evaluate_all("all => all.map(one => one.href)"),
        *page.locator("[src]").evaluate_all("all => all.map(one => one.src)"),
    ]

    assert {target.removeprefix(demo) for target in targets} >= {"/openapi.json"}
    for target in targets:
        assert target.startswith(demo)
        assert page.request.get(target).status == HTTPStatus.OK, target


def test_the_answer_of_the_chat_grows_to_its_end(chat: Locator) -> None:
    expect_state(chat, "complete", CHAT_LIMIT_MS)

    expect(answer_of(chat)).to_have_text(re.compile(r"next word yet\.\s*$"))
    expect(chat.locator(".tag").last).to_have_text("done")
