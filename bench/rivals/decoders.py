"""Decoders in Python: `python -m bench.rivals.decoders NAME`, asked by `bench.decode`.

Each takes the chunks of a body and gives its events, by the shortest way of its own that begins
with bytes. Left out is what is of the HTTP client: connections, redirects, retries. Included:

- typed-sse: all that `Decoder` does.
- httpx-sse, httpx2: a response object, from which they take the text; they take nothing else. It is
  a tenth of what httpx-sse costs.
- sseclient-py: all of it; it takes any iterable of bytes.
- openai, anthropic: their decoder alone, which is private. What their clients do with an event on
  top, as to parse its JSON, is left out.
- launchdarkly-eventsource: its reader alone, which is private, and comments skipped, as its client
  does.

typed-sse and httpx2 refuse events over a limit, here 16 MiB for both; the others hold anything.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from bench.alone import asked, best_of

Chunks = Iterator[bytes]
Decode = Callable[[Chunks], Iterable[Any]]

HEADERS = {"Content-Type": "text/event-stream"}


def typed_sse() -> Decode:
    from typed_sse import Decoder

    return lambda chunks: chain.from_iterable(map(Decoder().feed, chunks))


def httpx_sse() -> Decode:
    from httpx import Response
    from httpx_sse import EventSource

    return lambda chunks: EventSource(Response(200, headers=HEADERS, content=chunks)).iter_sse()


def httpx2() -> Decode:
    from httpx2 import EventSource, Request, Response

    request, limit = Request("GET", "http://localhost"), 16 << 20

    def decode(chunks: Chunks) -> Iterable[Any]:
        response = Response(200, headers=HEADERS, content=chunks, request=request)
        return EventSource(response, max_event_size=limit)

    return decode


def sseclient() -> Decode:
    client = import_module("sseclient").SSEClient
    return lambda chunks: client(chunks).events()


def openai() -> Decode:
    decoder = import_module("openai._streaming").SSEDecoder
    return lambda chunks: decoder().iter_bytes(chunks)


def anthropic() -> Decode:
    decoder = import_module("anthropic._streaming").SSEDecoder
    return lambda chunks: decoder().iter_bytes(chunks)


def launchdarkly() -> Decode:
    reader = import_module("ld_eventsource.reader")
    event = import_module("ld_eventsource.actions").Event

    def decode(chunks: Chunks) -> Iterable[Any]:
        lines = reader._BufferedLineReader.lines_from(chunks)  # noqa: SLF001
        found = reader._SSEReader(lines).events_and_comments()  # noqa: SLF001
        return (action for action in found if isinstance(action, event))

    return decode


DECODERS = {
    "typed-sse": typed_sse,
    "httpx-sse": httpx_sse,
    "httpx2": httpx2,
    "sseclient-py": sseclient,
    "openai": openai,
    "anthropic": anthropic,
    "launchdarkly": launchdarkly,
}


def cut(body: bytes, chunk_bytes: int) -> Sequence[bytes]:
    """Cut a body into chunks of so many bytes, or else after each blank line."""
    if not chunk_bytes:
        return [block + b"\n\n" for block in body.split(b"\n\n")[:-1]]
    return [body[start : start + chunk_bytes] for start in range(0, len(body), chunk_bytes)]


def main(name: str) -> None:
    decode = DECODERS[name]()
    question = asked()
    answers: list[dict[str, float]] = []
    for case in question["cases"]:
        chunks = cut(Path(case["file"]).read_bytes(), case["chunk_bytes"])
        # Events and characters in each run, for all the same; they are what is verified.
        seen = (0, 0)

        def run() -> None:
            nonlocal seen
            events = characters = 0
            for event in decode(iter(chunks)):  # noqa: B023
                events += 1
                characters += len(event.data)
            seen = events, characters

        seconds = best_of(run, question["seconds"])
        answers.append({"seconds": seconds, "events": seen[0], "characters": seen[1]})
    print(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1])
