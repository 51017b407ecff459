"""A native `EventSource` over three channels in one stream, and a server that is killed.

The page does nothing but keep what comes: that it resumes, with one `Last-Event-ID` for all three
channels, is the browser's doing and the server's.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from live.channel_readers import Publisher
from live.channel_servers import Deployment, deployed

pytestmark = pytest.mark.live

LIMIT_MS = 60_000
NAMES = ["page/a", "page/b", "page/c"]
COLLECT = """path => {
    window.got = [];
    window.opened = 0;
    window.gaps = 0;
    const source = new EventSource(path);
    source.addEventListener("open", () => window.opened++);
    source.addEventListener("stream.gap", () => window.gaps++);
    source.addEventListener("noted", event => {
        const {channel, number} = JSON.parse(event.data);
        window.got.push({channel, number, id: event.lastEventId});
    });
}"""


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed("sqlite", tmp_path_factory.mktemp("browser"), workers=1) as running:
        yield running


class Writer:
    """Publishes to three channels, in the order that it is told.

    Playwright's synchronous side has this thread's event loop, so each round has one of its own in
    another.
    """

    def __init__(self, site: Deployment) -> None:
        self.publishers = [Publisher(site.port, name) for name in NAMES]

    def publish(self, rounds: int) -> None:
        async def all_of_them() -> None:
            for _ in range(rounds):
                for each in self.publishers:
                    await each.publish(retry_ms=100)

        in_a_thread(all_of_them())

    @property
    def published(self) -> int:
        return sum(each.number for each in self.publishers)


def in_a_thread(work: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


def wait_for(page: Page, what: str) -> None:
    page.wait_for_function(what, timeout=LIMIT_MS)


def test_a_browser_resumes_three_channels_with_one_id_after_the_server_was_killed(
    browser: Browser, site: Deployment
) -> None:
    writer = Writer(site)
    writer.publish(5)
    with browser.new_context(base_url=f"http://127.0.0.1:{site.port}") as context:
        page = context.new_page()
        page.goto("/")
        page.evaluate(COLLECT, f"/merged?names={','.join(NAMES)}&after=earliest")
        wait_for(page, f"got.length === {writer.published}")
        for times in (2, 3):
            site.kill_web()
            site.start_web()
            writer.publish(5)
            wait_for(page, f"got.length >= {writer.published} && opened === {times}")
        writer.publish(5)
        wait_for(page, f"got.length >= {writer.published}")
        got = page.evaluate("got")
        gaps = page.evaluate("gaps")

    assert gaps == 0
    for each in writer.publishers:
        numbers = [note["number"] for note in got if note["channel"] == each.channel]
        assert numbers == list(range(each.number)), each.channel
    assert len({note["id"] for note in got}) == len(got)
