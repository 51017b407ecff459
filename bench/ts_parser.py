"""What does parsing cost in JavaScript? `python -m bench.ts_parser`.

As `bench.decode`, with the parser of the npm package, on Node. Each case has a process of its own,
since a compiler that has seen other cases makes other code, and is finished before the next one.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.alone import answer
from bench.decode import COMMENTS, COUNT, EVENTS, MEGABYTES, ONE_EVENT, Case, delta, pages
from bench.field import RIVALS, TS_PARSERS, Rival, node
from bench.report import Figure, Measured, Result, finish, options, take_turns

TARGETS = {"eventsource-parser": 0.8}


def cases() -> list[Case]:
    deltas = [delta(number) for number in range(COUNT)]
    tokens = [f" tok{number % 97}" for number in range(COUNT)]
    named = "".join(f"event: delta\ndata: {data}\n\n" for data in deltas).encode()
    small = "".join(f"data: {data}\n\n" for data in tokens).encode()
    with_ids = "".join(
        f"id: {number}\nevent: delta\ndata: {data}\n\n" for number, data in enumerate(deltas)
    ).encode()
    english = [f'{{"text":"{"lorem ipsum " * 5460}"}}'] * 200
    german = [f'{{"text":"{"zwölf Boxkämpfer " * 3450}"}}'] * 200
    huge, large = ["x" * (8 << 20)], ["x" * (1 << 20)]
    many_lines = ["\n".join(["x"] * 100_000)]
    found = [
        Case("tokens", small, tokens),
        Case("LLM deltas", named, deltas),
        Case("LLM deltas without names", unnamed(deltas), deltas),
        Case("LLM deltas with ids", with_ids, deltas),
        Case("tokens, CRLF", crlf(small), tokens),
        Case("LLM deltas, CRLF", crlf(named), deltas),
        Case("LLM deltas, one a chunk", named, deltas, ONE_EVENT),
        Case("LLM deltas, chunks of 100 bytes", named, deltas, 100),
        Case("LLM deltas, chunks of 10 bytes", named, deltas, 10),
        Case(
            "three lines of data",
            b"id: 7\nevent: log\ndata: first\ndata: second\ndata: third\n\n" * COUNT,
            ["first\nsecond\nthird"] * COUNT,
        ),
        Case("keep-alives", b": keep-alive\n\n" * COUNT, [], unit=COMMENTS),
        Case("64 KiB of JSON an event", pages(english), english, unit=MEGABYTES),
        Case("64 KiB of JSON an event, not ASCII", pages(german), german, unit=MEGABYTES),
        Case("a line of 8 MiB", unnamed(huge), huge, unit=MEGABYTES),
        Case("a line of 8 MiB, chunks of 1 KiB", unnamed(huge), huge, 1024, MEGABYTES),
        # As many MB/s for both says that time is linear.
        Case("a line of 1 MiB, chunks of 1 byte", unnamed(large), large, 1, MEGABYTES),
        Case("a line of 8 MiB, chunks of 1 byte", unnamed(huge), huge, 1, MEGABYTES),
        Case("comments only", b": nothing to see\n" * 500_000, [], unit=MEGABYTES),
        Case("unknown fields only", b"nothing: to see\n" * 500_000, [], unit=MEGABYTES),
        Case("100,000 lines of data", b"data: x\n" * 100_000 + b"\n", many_lines, unit=MEGABYTES),
        Case("millions of empty lines", b"\n" * 4_000_000, [], unit=MEGABYTES),
        Case("millions of CRs", b"\r" * 4_000_000, [], unit=MEGABYTES),
    ]
    return [replace(case, targets=TARGETS) for case in found]


def unnamed(texts: list[str]) -> bytes:
    return "".join(f"data: {text}\n\n" for text in texts).encode()


def crlf(body: bytes) -> bytes:
    return body.replace(b"\n", b"\r\n")


def measure_in(case: Case, file: Path, seconds: float) -> Callable[[Rival], Measured]:
    expected = (len(case.data), sum(map(len, case.data)))

    def measure(rival: Rival) -> Measured:
        command = [node() or "node", str(RIVALS / f"{rival.module}.mjs"), rival.name]
        asked = {"file": str(file), "chunk_bytes": case.chunk_bytes, "seconds": seconds}
        seen = answer(command, asked)
        if (seen["events"], seen["characters"]) != expected:
            raise SystemExit(f"{case.title}: other events than the standard says: {rival.title}")
        figure: Figure = case.figure
        return {figure: case.rate(seen["seconds"])}

    return measure


def main() -> None:
    given = options("What does parsing cost in JavaScript?", rounds=5, field=TS_PARSERS)
    seconds = 0.02 if given.quick else 0.3
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "body"
        for case in cases():
            print(case.title, flush=True)
            file.write_bytes(case.body)
            measure = measure_in(case, file, seconds)
            results += take_turns(given.rivals, given.rounds, measure)
    finish("ts_parser", given, results, [EVENTS, COMMENTS, MEGABYTES])


if __name__ == "__main__":
    main()
