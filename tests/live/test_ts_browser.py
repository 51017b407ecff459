"""Runs the bundled parser of `ts/` in a real Chromium on every conformance case, cut everywhere."""

import base64
import json
from pathlib import Path
from typing import TypedDict, cast

import pytest
from playwright.sync_api import Browser

from cases import CASES, Case

pytestmark = pytest.mark.live

BUNDLE = Path(__file__).parents[2] / "src/typed_sse/demo/static/typed-sse.js"
BY_ID = {case.id: case for case in CASES}
# From this size on a body is not cut at every place, nor into single bytes.
LONG_BYTES = 2048


class Parsed(TypedDict):
    seen: list[list[str]]
    retry: int | None
    finalId: str


# Each different outcome comes back once, with the first cut that gave it: to send the same tens of
# thousands of times would take most of the time.
PARSE = """
async ([bundle, bodies]) => {
    const url = URL.createObjectURL(new Blob([bundle], { type: "text/javascript" }));
    const { Parser } = await import(url);
    const parse = (pieces, lastEventId) => {
        const parser = new Parser({ lastEventId });
        const seen = pieces.flatMap(piece => parser.push(piece))
            .map(({ event, data, id }) => [event, data, id]);
        return { seen, retry: parser.retryMs ?? null, finalId: parser.lastEventId };
    };
    return JSON.stringify(bodies.map(({ body, places, sizes, lastId }) => {
        const bytes = Uint8Array.from(atob(body), character => character.charCodeAt(0));
        const outcomes = new Map();
        const add = (how, pieces) => {
            const outcome = JSON.stringify(parse(pieces, lastId));
            if (!outcomes.has(outcome)) outcomes.set(outcome, how);
        };
        for (const at of places)
            add(`cut at ${at}`, [bytes.subarray(0, at), bytes.subarray(at)]);
        for (const size of sizes) {
            const count = Math.ceil(bytes.length / size);
            const pieces = Array.from({ length: count }, (_, n) =>
                bytes.subarray(n * size, (n + 1) * size));
            add(`chunks of ${size}`, pieces);
        }
        return [...outcomes].map(([outcome, how]) => [how, JSON.parse(outcome)]);
    }));
}
"""


def asked(case: Case) -> dict[str, object]:
    body = case.body
    is_long = len(body) > LONG_BYTES
    places = set(range(len(body) + 1))
    if is_long:
        ends = [at for at, byte in enumerate(body) if byte in b"\r\n"]
        near = {end + by for end in ends[:3] + ends[-3:] for by in (-1, 0, 1, 2)}
        places &= near | {0, 1, 65535, 65536, 65537, len(body) // 2}
    return {
        "body": base64.b64encode(body).decode(),
        "places": sorted(places),
        "sizes": [1000, 4093] if is_long else [1, 2, 3],
        "lastId": case.initial_last_event_id,
    }


@pytest.fixture(scope="module")
def outcomes(browser: Browser) -> dict[str, list[tuple[str, Parsed]]]:
    """Case id -> every different outcome, each with the first cut that has led to it."""
    bundle = BUNDLE.read_text(encoding="utf-8")
    with browser.new_page() as page:
        # As one string: Playwright's own encoding of many small arrays takes seconds.
        answers = json.loads(page.evaluate(PARSE, [bundle, [asked(case) for case in CASES]]))
    return dict(zip(BY_ID, cast("list[list[tuple[str, Parsed]]]", answers), strict=True))


@pytest.mark.parametrize("case", BY_ID)
def test_chromium_makes_the_same_of_the_case_wherever_it_is_cut(
    case: str, outcomes: dict[str, list[tuple[str, Parsed]]]
) -> None:
    wanted = BY_ID[case]
    assert outcomes[case]
    for how, outcome in outcomes[case]:
        # A bool, because pytest would take minutes to explain how 10,000 events differ.
        agrees = [(name, data, last_id) for name, data, last_id in outcome["seen"]] == wanted.events
        assert agrees, f"{how}: {outcome['seen']!r:.2000}, not {wanted.events!r:.2000}"
        assert outcome["finalId"] == wanted.final_last_event_id, how
        assert wanted.retry_ambiguous or outcome["retry"] == wanted.retry, how
