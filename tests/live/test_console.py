"""Uses the console in a real Chromium, on an application with streams of every kind.

A page that complains fails its test: whatever Chromium logs, an exception or a violation of the
page's own policy has to be in `deliberate`.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Locator, Page, expect

from live.conftest import served

pytestmark = pytest.mark.live

LIMIT_MS = 10_000
SERVER = Path(__file__).with_name("console_server.py").read_text(encoding="utf-8")
UVICORN = "-m uvicorn server:{} --port PORT"
LOADED = "Failed to load resource"

expect.set_options(timeout=LIMIT_MS)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("market")
    (folder / "server.py").write_text(SERVER, encoding="utf-8")
    with served(UVICORN.format("app"), folder / "log") as (url, _):
        yield url


class Complaints:
    """Writes down what Chromium has to say of a page."""

    def __init__(self, page: Page) -> None:
        self.seen: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", self._error)
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation', violation =>"
            " console.error('violation', violation.effectiveDirective))"
        )

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.seen.append(message.text)

    def _error(self, error: Error) -> None:
        self.seen.append(f"exception: {error}")


@contextmanager
def watched_page(
    browser: Browser, base: str, deliberate: list[str], **options: Any
) -> Generator[Page]:
    with browser.new_context(base_url=base, **options) as context:
        page = context.new_page()
        page.set_default_timeout(LIMIT_MS)
        complaints = Complaints(page)
        yield page
        # What the browser has already said is delivered with the answer to this.
        page.evaluate("0")
        unexpected = [
            text for text in complaints.seen if not any(text.startswith(one) for one in deliberate)
        ]
        assert unexpected == []


@pytest.fixture
def deliberate() -> list[str]:
    """What the complaints begin with that a test provokes."""
    return []


@pytest.fixture
def page(browser: Browser, market: str, deliberate: list[str]) -> Iterator[Page]:
    with watched_page(browser, market, deliberate) as page:
        yield page


def opened(page: Page, path: str, base: str = "") -> Locator:
    """Go to the console, and there to the stream at `path`."""
    page.goto(f"{base}/docs/events")
    page.get_by_role("navigation", name="Streams").locator("a", has_text=path).first.click()
    stream = page.get_by_role("article")
    expect(stream.locator("h2")).to_contain_text(path)
    return stream


def press(within: Page | Locator, name: str | re.Pattern[str]) -> None:
    within.get_by_role("button", name=name, exact=isinstance(name, str)).click()


def expect_state(stream: Locator, text: str | re.Pattern[str]) -> None:
    expect(stream.locator("[data-part=state]")).to_have_text(text)


def field(stream: Locator, label: str) -> Locator:
    return stream.locator(".fields").get_by_label(label)


def rows(stream: Locator) -> Locator:
    return stream.locator(".row")


def payload(stream: Locator) -> Any:
    return json.loads(stream.locator("[data-part=payload]").text_content() or "")


# --- the list of streams


def test_the_list_has_every_stream_by_tag_and_can_be_filtered_by_path_and_event(
    page: Page,
) -> None:
    page.goto("/docs/events")
    streams = page.get_by_role("navigation", name="Streams")
    expect(streams.get_by_role("link")).to_have_count(7)
    assert streams.get_by_role("heading").all_text_contents() == [
        "market",
        "orders",
        "counting",
        "other",
    ]

    page.get_by_role("searchbox").fill("price_changed")
    expect(streams.get_by_role("link")).to_have_count(2)
    expect(streams.get_by_role("heading")).to_have_text(["market"])
    expect(streams.get_by_role("status")).to_have_text("2 streams found")
    page.get_by_role("searchbox").fill("post orders")
    expect(streams.get_by_role("link")).to_have_count(1)


def test_the_address_names_the_stream_and_leads_back_to_it(page: Page) -> None:
    opened(page, "/numbers")
    address = page.url
    assert "#" in address
    expect(page).to_have_title("GET /numbers - Market - Events")

    page.goto("about:blank")
    page.goto(address)

    expect(page.get_by_role("article").locator("h2")).to_contain_text("/numbers")
    page.evaluate("location.hash = 'nobody'")
    expect(page.locator("[data-part=notice]")).to_contain_text("There is no stream “nobody”")


def test_a_stream_is_described_with_its_events_and_their_schemas(page: Page) -> None:
    stream = opened(page, "/prices")

    expect(stream.locator(".heading .summary")).to_contain_text("Follow prices")
    about = stream.locator(".prose").first
    expect(about.locator("li").last).to_have_text("market_closed is the last.")
    expect(about).not_to_contain_text("|")
    contract = stream.get_by_role("region", name="Events", exact=True)
    expect(contract.locator("h4")).to_have_text(
        [
            "heard",
            "price_changed",
            "market_closed ends the stream",
            "stream.error ends the stream",
        ]
    )
    cents = contract.locator("li", has=page.locator("code.member", has_text="cents"))
    expect(cents).to_contain_text("integer")
    expect(cents).to_contain_text("at least 0")
    expect(cents).to_contain_text("For one of them.")
    fruit = contract.locator("li", has=page.locator("code.member", has_text="fruit")).first
    expect(fruit).to_contain_text('"apple" | "pear"')
    note = contract.locator("li", has=page.locator("code.member", has_text="note"))
    expect(note).to_contain_text("string | null")
    expect(note).to_contain_text("optional")
    earlier = contract.locator("li", has=page.locator("code.member", has_text="earlier"))
    expect(earlier).to_contain_text("deprecated")
    stall = contract.locator("li", has=page.locator("code.member", has_text="stall")).last
    expect(stall).to_contain_text("From the gate on.")


# --- requests


def test_a_get_stream_is_opened_with_path_query_and_header_parameters(page: Page) -> None:
    stream = opened(page, "/prices")
    field(stream, "market").fill("old town? süd&")
    field(stream, "fruits").fill("pear\napple")
    field(stream, "limit").fill("2")
    field(stream, "haggle").select_option("true")
    field(stream, "x-trace").fill("it's 1 & 2")

    press(stream, "Connect")

    expect_state(stream, "ended by the server")
    names = stream.locator(".row .tag")
    expect(names).to_have_text(["heard", "price_changed", "price_changed", "market_closed"])
    expect(stream.locator("[data-part=counts]")).to_contain_text("4 events")
    expect(stream.locator(".odd-mark")).to_have_count(0)
    rows(stream).first.click()
    assert payload(stream)["values"] == {
        "market": "old town? süd&",
        "fruits": ["pear", "apple"],
        "trace": "it's 1 & 2",
    }
    rows(stream).nth(1).click()
    assert payload(stream)["cents"] == 100
    expect(stream.locator("[data-part=facts]")).to_contain_text("id 1")


def test_a_required_parameter_that_is_missing_is_told_at_its_field(page: Page) -> None:
    stream = opened(page, "/prices")

    press(stream, "Connect")

    market = field(stream, "market")
    expect(market).to_be_focused()
    expect(market).to_have_attribute("aria-invalid", "true")
    expect(stream.locator(".complaint").nth(0)).to_have_text("is required")
    expect_state(stream, "not connected")


def test_a_post_stream_is_opened_with_a_body_and_credentials_in_memory(page: Page) -> None:
    stream = opened(page, "/orders")
    body = field(stream, "Body")
    assert json.loads(body.input_value()) == {
        "customer": "Ada",
        "lines": [{"fruit": "apple", "pieces": 1}],
    }
    body.fill('{"customer": 1}')
    expect(stream.locator(".complaint.warning")).to_have_text(
        'it has no "lines"; /customer is an integer, not a string'
    )
    body.fill('{"customer": "Löwe", "lines": []}')
    expect(stream.locator(".complaint.warning")).to_have_text("")
    field(stream, "Bearer token").fill("secret token")
    field(stream, "X-Key").fill("k")
    assert "secret" not in (stream.locator("[data-part=curl]").text_content() or "")

    press(stream, "Connect")

    expect_state(stream, "ended by the server")
    rows(stream).first.click()
    assert payload(stream)["values"] == {"customer": "Löwe", "token": "secret token", "key": "k"}
    kept = page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]")
    assert kept == ["", 0, 0]


def test_a_refusal_is_shown_with_its_status_headers_and_body(
    page: Page, deliberate: list[str]
) -> None:
    deliberate.append(LOADED)
    stream = opened(page, "/prices")
    field(stream, "market").fill("a")
    field(stream, "fruits").fill("apple")
    field(stream, "limit").fill("none")

    press(stream, "Connect")

    expect_state(stream, re.compile("^refused: 422 "))
    shown = stream.get_by_role("region", name="Answer")
    expect(shown.locator("[data-part=status]")).to_contain_text("422")
    expect(shown.locator("[data-part=headers]")).to_contain_text("application/json")
    said = json.loads(shown.locator("[data-part=body]").text_content() or "")
    assert said["detail"][0]["loc"] == ["query", "limit"]

    stream = opened(page, "/no-stream")
    field(stream, "status").fill("403")
    press(stream, "Connect")
    expect_state(stream, re.compile("^refused: 403 "))
    expect(stream.locator("[data-part=headers]")).to_contain_text("retry-after7")
    expect(stream.locator("[data-part=body]")).to_contain_text("It is <b>not</b> allowed.")


@pytest.mark.parametrize(
    ("kind", "meaning"),
    [
        ("json", "The answer is no event stream: application/json."),
        ("none", "There is nothing to stream; an EventSource would not come back."),
        ("large", "The answer is no event stream: application/json."),
    ],
)
def test_an_answer_that_is_no_stream_is_shown_as_such(page: Page, kind: str, meaning: str) -> None:
    stream = opened(page, "/no-stream")
    field(stream, "kind").select_option(kind)

    press(stream, "Connect")

    expect_state(stream, re.compile("^no stream: 20"))
    shown = stream.get_by_role("region", name="Answer")
    expect(shown).to_contain_text(meaning)
    body = shown.locator("[data-part=body]").text_content() or ""
    assert len(body) < 65 * 1024
    assert ("cut here, after 64 Ki characters" in body) is (kind == "large")


def test_the_copied_curl_command_sends_what_the_page_sends(page: Page, market: str) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=market)
    stream = opened(page, "/orders")
    customer = 'it\'s "quoted" & ünï $HOME %20 \\ `id`\n@file'
    field(stream, "Body").fill(json.dumps({"customer": customer, "lines": []}))
    field(stream, "Bearer token").fill("se'cret")

    press(stream, "Copy as curl")
    expect(stream.get_by_text("Copied")).to_be_visible()
    command: str = page.evaluate("navigator.clipboard.readText()")

    assert shlex.split(command)[:4] == ["curl", "-N", f"{market}/orders", "-H"]
    shell = ["sh", "-c", f"{command} --silent --noproxy '*' --max-time 30"]
    received = subprocess.run(shell, check=True, capture_output=True, text=True).stdout
    [data] = re.findall(r"^data: (.*)$", received, re.MULTILINE)
    assert json.loads(data)["values"] == {"customer": customer, "token": "se'cret", "key": None}


# --- what comes


def test_a_stream_is_left_and_resumed_after_its_last_id(page: Page, deliberate: list[str]) -> None:
    deliberate.append(LOADED)
    stream = opened(page, "/numbers")
    press(stream, "Connect")
    expect(stream.locator(".row .id").first).to_be_visible()
    press(stream, "Disconnect")
    expect_state(stream, "disconnected")
    last = int(stream.locator("[data-part=resume-id]").text_content() or "")

    with page.expect_request("**/numbers") as request:
        press(stream, re.compile("^Resume after"))

    assert request.value.headers["last-event-id"] == str(last)
    expect(stream.locator(".row .id").last).not_to_have_text(str(last))
    press(stream, "Disconnect")
    expect_state(stream, "disconnected")
    stream.get_by_role("listbox").press("Home")
    expect(rows(stream).nth(last + 1)).to_have_text(f"resumed after id {last}")
    expect(rows(stream).nth(last + 2).locator(".id")).to_have_text(str(last + 1))


def test_ten_thousand_events_are_counted_and_few_of_them_are_on_the_page(page: Page) -> None:
    stream = opened(page, "/flood")

    press(stream, "Connect")

    expect_state(stream, "ended by the server")
    expect(stream.locator("[data-part=counts]")).to_contain_text("10,000 events")
    expect(stream.locator(".chip .count").first).to_have_text("10,000")
    assert rows(stream).count() < 100
    assert page.evaluate("document.querySelectorAll('*').length") < 1500
    expect(stream.locator(".row .data").last).to_have_text("9999")
    stream.get_by_role("listbox").press("Home")
    expect(rows(stream).first).to_have_attribute("aria-posinset", "1")
    assert rows(stream).count() < 100


def test_more_than_ten_thousand_events_drop_the_oldest_and_say_so(page: Page) -> None:
    stream = opened(page, "/flood")
    field(stream, "count").fill("12000")

    press(stream, "Connect")

    expect_state(stream, "ended by the server")
    expect(stream.locator("[data-part=counts]")).to_contain_text("12,000 events")
    expect(stream.locator("[data-part=dropped]")).to_contain_text("2,001 older events dropped")
    stream.get_by_role("listbox").press("Home")
    expect(stream.locator(".row .data").first).to_have_text("2001")


def test_a_payload_that_does_not_fit_is_marked_with_the_place(page: Page) -> None:
    stream = opened(page, "/wrong")

    press(stream, "Connect")

    expect_state(stream, "ended by the server")
    expect(stream.locator(".odd-mark")).to_have_count(3)
    press(stream, "does not fit 3")
    expect(stream.locator(".row .tag")).to_have_text(["price_changed", "price_changed", "rumour"])

    rows(stream).first.click()
    assert stream.locator("[data-part=problems] li").all_text_contents() == [
        '/fruit is none of "apple", "pear"',
        "/cents is under 0",
        '/place has no "market"',
        "/place/stall is a string, not an integer",
    ]
    assert stream.locator("[data-part=payload] mark").all_text_contents() == [
        '"fruit"',
        '"plum"',
        '"cents"',
        "-1",
        '"place"',
        '"stall"',
        '"x"',
    ]
    rows(stream).nth(1).click()
    expect(stream.locator("[data-part=problems]")).to_have_text("the payload is no JSON")
    rows(stream).nth(2).click()
    expect(stream.locator("[data-part=problems]")).to_have_text(
        "The stream declares no event of this name."
    )


def test_events_are_filtered_by_name_paused_and_cleared(page: Page, deliberate: list[str]) -> None:
    stream = opened(page, "/prices")
    field(stream, "market").fill("a")
    field(stream, "fruits").fill("apple")
    press(stream, "Connect")
    expect_state(stream, "ended by the server")

    press(stream, re.compile("^heard"))
    expect(stream.locator(".row .tag")).to_have_text(["heard"])
    press(stream, re.compile("^market_closed"))
    expect(stream.locator(".row .tag")).to_have_text(["heard", "market_closed"])
    press(stream, re.compile("^heard"))
    press(stream, re.compile("^market_closed"))
    expect(stream.locator(".row .tag")).to_have_count(5)
    press(stream, "Clear")
    expect(stream.locator(".row")).to_have_count(0)
    expect(stream.locator("[data-part=counts]")).to_contain_text("0 events")

    stream = opened(page, "/numbers")
    press(stream, "Connect")
    expect(stream.locator(".row .id").first).to_be_visible()
    press(stream, "Pause")
    held = stream.locator(".row .id").all_text_contents()
    before = stream.locator("[data-part=counts]").text_content()
    expect(stream.locator("[data-part=counts]")).not_to_have_text(before or "")
    assert stream.locator(".row .id").all_text_contents() == held
    press(stream, "Pause")
    expect(stream.locator(".row .id").last).not_to_have_text(held[-1])


def test_the_raw_bytes_are_exactly_what_was_sent(page: Page) -> None:
    stream = opened(page, "/untyped")
    press(stream, "Connect")
    expect_state(stream, "ended by the server")

    stream.get_by_role("tab", name="Raw bytes").click()

    expect(stream.get_by_role("tabpanel", name="Raw bytes")).to_be_visible()
    assert stream.locator("[data-part=raw]").text_content() == (
        "id: 1\nevent: <b>bold</b>\ndata: <script>alert(1)</script>\n\ndata: plain\n\n"
    )


def test_nothing_of_the_document_or_the_stream_becomes_markup(page: Page) -> None:
    stream = opened(page, "/untyped")
    expect(stream.locator(".prose").first).to_contain_text("<img src=x onerror=alert(1)>")

    press(stream, "Connect")
    expect_state(stream, "ended by the server")
    rows(stream).first.click()

    expect(stream.locator("[data-part=payload]")).to_have_text("<script>alert(1)</script>")
    expect(page.locator("img, b, script:not([src])")).to_have_count(0)


def test_streams_stay_open_while_another_one_is_looked_at(page: Page) -> None:
    stream = opened(page, "/numbers")
    press(stream, "Connect")
    expect_state(stream, "open")
    streams = page.get_by_role("navigation", name="Streams")

    streams.get_by_role("link", name="/flood").click()
    expect(streams.get_by_role("link", name="/numbers open")).to_be_visible()
    page.go_back()

    expect_state(stream, "open")
    expect(stream.locator(".row .id").last).to_be_visible()


# --- where it runs


def test_the_console_works_behind_a_prefix(
    browser: Browser, tmp_path: Path, deliberate: list[str]
) -> None:
    (tmp_path / "server.py").write_text(SERVER, encoding="utf-8")
    with (
        served(UVICORN.format("behind_a_prefix"), tmp_path / "log") as (url, _),
        watched_page(browser, url, deliberate) as page,
    ):
        stream = opened(page, "/prices", "/shop")
        field(stream, "market").fill("a")
        field(stream, "fruits").fill("apple")
        press(stream, "Connect")

        expect_state(stream, "ended by the server")
        expect(stream.locator("[data-part=curl]")).to_contain_text(f"{url}/shop/prices/a?fruits=")


def test_the_policy_is_in_force(page: Page, deliberate: list[str]) -> None:
    opened(page, "/numbers")

    for forbidden in (
        "document.body.setAttribute('style', 'color: red')",
        "fetch('https://example.com/').catch(() => 0)",
        "document.body.append(Object.assign(new Image(), { src: 'https://example.com/x.png' }))",
    ):
        with page.expect_console_message(lambda message: "violat" in message.text):
            page.evaluate(f"{{ {forbidden} }}")
    with pytest.raises(Error, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = 'x'")
    # The complaints of this test are its point.
    deliberate.append("")


def test_a_document_that_cannot_be_read_is_told(page: Page, deliberate: list[str]) -> None:
    deliberate.append(LOADED)
    page.route("**/openapi-3.2.json", lambda route: route.fulfill(status=500, body="broken"))

    page.goto("/docs/events")

    expect(page.locator("[data-part=notice]")).to_contain_text("cannot be read: Error: 500")
    expect(page.locator("[data-part=notice]")).to_contain_text("broken")


@pytest.mark.parametrize("path", ["/prices", "/orders", "/wrong"])
def test_nothing_is_wider_than_a_screen_of_360_pixels(
    browser: Browser, market: str, deliberate: list[str], path: str
) -> None:
    size: Any = {"width": 360, "height": 800}
    deliberate.append(LOADED)
    with watched_page(browser, market, deliberate, viewport=size) as page:
        stream = opened(page, path)
        for box in stream.locator(".fields").get_by_role("textbox").all():
            if box.input_value() == "":
                box.fill("x" * 300)
        press(stream, "Connect")
        expect_state(stream, re.compile("ended|refused"))
        if rows(stream).first.is_visible():
            rows(stream).first.click()
        assert page.evaluate("document.documentElement.scrollWidth") == 360


# --- for everybody


def test_the_keyboard_alone_is_enough(page: Page, deliberate: list[str]) -> None:
    deliberate.append(LOADED)
    page.goto("/docs/events")
    expect(page.get_by_role("article")).to_be_visible()

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the stream")).to_be_focused()
    for _ in range(3):
        page.keyboard.press("Tab")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("numbers")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    stream = page.get_by_role("article")
    expect(stream.locator("h2")).to_contain_text("/numbers")
    expect(stream.locator("h2")).to_be_focused()

    connect = stream.get_by_role("button", name="Connect", exact=True)
    for _ in range(5):
        page.keyboard.press("Tab")
        if connect.evaluate("button => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect_state(stream, "open")
    disconnect = stream.get_by_role("button", name="Disconnect")
    expect(disconnect).to_be_focused()
    page.keyboard.press("Enter")
    expect_state(stream, "disconnected")
    expect(connect).to_be_focused()

    stream.get_by_role("listbox").focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowUp")
    expect(stream.get_by_role("region", name="Selected event")).to_be_visible()
    selected = stream.get_by_role("option", selected=True)
    active = stream.get_by_role("listbox").get_attribute("aria-activedescendant")
    assert selected.get_attribute("id") == active
    page.keyboard.press("Escape")
    expect(stream.get_by_role("region", name="Selected event")).to_be_hidden()


def test_shortcuts_work_outside_of_fields_are_listed_and_can_be_turned_off(
    page: Page, deliberate: list[str]
) -> None:
    deliberate.append(LOADED)
    stream = opened(page, "/numbers")
    page.keyboard.press("c")
    expect_state(stream, "open")
    page.keyboard.press("p")
    expect(stream.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("d")
    expect_state(stream, "disconnected")
    page.keyboard.press("x")
    expect(stream.locator(".row")).to_have_count(0)
    page.keyboard.press("r")
    expect_state(stream, "open")
    page.keyboard.press("j")
    expect(page.get_by_role("article").locator("h2")).to_contain_text("/flood")
    page.keyboard.press("k")
    expect(page.get_by_role("article").locator("h2")).to_contain_text("/numbers")
    page.keyboard.press("d")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("c")
    expect_state(stream, "disconnected")

    stream.locator("h2").focus()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Shortcuts")
    expect(dialog).to_be_visible()
    expect(dialog.locator("kbd")).to_have_text(["c", "d", "r", "p", "x", "j", "k", "/", "?"])
    dialog.get_by_role("checkbox").uncheck()
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()
    stream.locator("h2").focus()
    page.keyboard.press("c")
    expect_state(stream, "disconnected")


NEEDS_NAME = {
    "button",
    "checkbox",
    "combobox",
    "link",
    "listbox",
    "navigation",
    "region",
    "searchbox",
    "tab",
    "tablist",
    "tabpanel",
    "textbox",
    "image",
}


@pytest.mark.parametrize("path", ["/prices", "/orders", "/wrong", "/no-stream"])
def test_every_control_and_landmark_has_a_name_and_every_id_is_there_once(
    page: Page, path: str
) -> None:
    stream = opened(page, path)
    if path in {"/wrong", "/no-stream"}:
        press(stream, "Connect")
        expect_state(stream, re.compile("ended|no stream"))
    if path == "/wrong":
        rows(stream).first.click()

    devtools: Any = page.context.new_cdp_session(page)
    tree: list[dict[str, Any]] = devtools.send("Accessibility.getFullAXTree")["nodes"]

    seen = [node for node in tree if node.get("role", {}).get("value") in NEEDS_NAME]
    assert len(seen) > 15
    assert [node for node in seen if not node.get("name", {}).get("value")] == []
    assert page.evaluate(REFERENCES) == []


REFERENCES = """
() => {
    const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
    const twice = ids.filter((id, at) => ids.indexOf(id) !== at);
    const named = ["aria-labelledby", "aria-describedby", "aria-controls", "for"].flatMap(name =>
        [...document.querySelectorAll(`[${name}]`)].flatMap(one =>
            one.getAttribute(name).split(" ")));
    return [...twice, ...named.filter(id => !ids.includes(id))];
}
"""


def test_movement_stops_for_those_who_want_none(
    browser: Browser, market: str, deliberate: list[str]
) -> None:
    deliberate.append(LOADED)
    with watched_page(browser, market, deliberate, reduced_motion="reduce") as page:
        stream = opened(page, "/numbers")
        press(stream, "Connect")
        expect_state(stream, "open")
        assert page.evaluate("document.getAnimations().length") == 0
