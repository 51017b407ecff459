"""Runs the pages' own parser, `sse.js`, in a real Chromium on every conformance case."""

import base64
import json
from collections.abc import Iterator
from typing import TypedDict, cast

import pytest
from playwright.sync_api import Browser, Page

from cases import CASES

pytestmark = pytest.mark.live

BY_ID = {case.id: case for case in CASES}
# Pieces are single bytes, but for the few bodies that are larger.
SMALL_BYTES = 10_000


class Parsed(TypedDict):
    seen: list[list[str]]
    retry: int | None
    finalId: str


PARSE = """
async bodies => {
    const { EventStreamParser } = await import("/docs/events/sse.js");
    const parse = (bytes, chunkBytes, lastEventId) => {
        const seen = [];
        const take = ({ name, data, id }) => seen.push([name, data, id]);
        const parser = new EventStreamParser(take, { lastEventId });
        for (let at = 0; at < bytes.length; at += chunkBytes)
            parser.push(bytes.subarray(at, at + chunkBytes));
        return { seen, retry: parser.retryMs ?? null, finalId: parser.lastEventId };
    };
    return JSON.stringify(bodies.map(([body, pieceBytes, lastId]) => {
        const bytes = Uint8Array.from(atob(body), character => character.charCodeAt(0));
        return [parse(bytes, bytes.length + 1, lastId), parse(bytes, pieceBytes, lastId)];
    }));
}
"""

PARSE_UP_TO_LIMIT = """
async ([body, maxEventChars]) => {
    const { EventStreamParser } = await import("/docs/events/sse.js");
    const seen = [];
    const parser = new EventStreamParser(event => seen.push(event.data), { maxEventChars });
    try {
        parser.push(new TextEncoder().encode(body));
    } catch (error) {
        seen.push(error.name);
    }
    return seen;
}
"""


@pytest.fixture(scope="module")
def page(browser: Browser, demo: str) -> Iterator[Page]:
    with browser.new_page(base_url=demo) as page:
        page.goto("/")
        yield page


@pytest.fixture(scope="module")
def parsed(page: Page) -> dict[str, list[Parsed]]:
    """Case id -> what the parser makes of its body whole, and of its body in pieces."""
    bodies = [
        (
            base64.b64encode(case.body).decode(),
            1 if len(case.body) <= SMALL_BYTES else 1000,
            case.initial_last_event_id,
        )
        for case in BY_ID.values()
    ]
    # As one string: Playwright's own encoding of many small arrays takes seconds.
    answers = cast("list[list[Parsed]]", json.loads(page.evaluate(PARSE, bodies)))
    return dict(zip(BY_ID, answers, strict=True))


@pytest.mark.parametrize("case", BY_ID)
def test_the_page_parses_the_case_whole_and_in_pieces(
    case: str, parsed: dict[str, list[Parsed]]
) -> None:
    wanted = BY_ID[case]
    for answer in parsed[case]:
        # A bool, because pytest would take minutes to explain how 10,000 events differ.
        agrees = [(name, data, last_id) for name, data, last_id in answer["seen"]] == wanted.events
        assert agrees, f"dispatched {answer['seen']!r:.2000}, not {wanted.events!r:.2000}"
        assert answer["finalId"] == wanted.final_last_event_id
        assert wanted.retry_ambiguous or answer["retry"] == wanted.retry


def test_an_event_over_the_limit_is_given_up_after_those_before_it(page: Page) -> None:
    fits, over = "data:12345\n\n", "data:123456\n\n"

    seen = page.evaluate(PARSE_UP_TO_LIMIT, [fits + fits + over + fits, len("data:12345")])

    assert seen == ["12345", "12345", "EventTooLarge"]
