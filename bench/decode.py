"""What does decoding cost? `python -m bench.decode`.

A body is cut into chunks; each rival turns them into events, and each event's data is looked at. A
rival is a process of its own, alone on its core; a round's figure is the best of some runs. How
many events came, and how much data, is compared with what the standard says.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.alone import answer
from bench.field import DECODERS, ON_NODE, RIVALS, TITLES, Rival, node
from bench.report import Figure, Measured, Result, finish, options, take_turns

COUNT = 20_000
CHUNK_BYTES = 65_536
# One event a chunk, for the size of a chunk.
ONE_EVENT = 0

EVENTS = "events/s"
COMMENTS = "comments/s"
MEGABYTES = "MB/s"
RIGHT = "% of the rounds gave the right events"

IN_PYTHON = [rival.name for rival in DECODERS.rivals[1:] if rival.package not in ON_NODE]
# How many times as fast as each we want to be, in general and where it counts most.
FASTER = dict.fromkeys(IN_PYTHON, 1.0)
MUCH_FASTER = {**dict.fromkeys(IN_PYTHON, 2.5), "launchdarkly": 1.7}


@dataclass(frozen=True)
class Case:
    """A body to decode.

    Attributes:
        title: what it is.
        body: the bytes.
        data: the data of all events that are in it.
        chunk_bytes: the size of the chunks.
        unit: what its figure counts: events, comments or megabytes.
        targets: as of a `Figure`.
        only_ours: the others are not asked.
    """

    title: str
    body: bytes
    data: Sequence[str]
    chunk_bytes: int = CHUNK_BYTES
    unit: str = EVENTS
    targets: Mapping[str, float] | None = None
    only_ours: bool = False

    @property
    def figure(self) -> Figure:
        """What is measured."""
        return Figure(self.title, self.unit, True, FASTER if self.targets is None else self.targets)

    def rate(self, seconds: float) -> float:
        """Return the value of the figure."""
        return (len(self.body) / 1e6 if self.unit == MEGABYTES else COUNT) / seconds


def cases() -> list[Case]:
    deltas = [delta(number) for number in range(COUNT)]
    named = "".join(f"event: delta\ndata: {data}\n\n" for data in deltas).encode()
    unnamed = "".join(f"data: {data}\n\n" for data in deltas).encode()
    with_ids = "".join(
        f"id: {number}\nevent: delta\ndata: {data}\n\n" for number, data in enumerate(deltas)
    ).encode()
    logs = b"id: 7\nevent: log\ndata: first\ndata: second\ndata: third\n\n" * COUNT
    comments = b": keep-alive\n\n" * COUNT
    after_id = b"id: 7\ndata: x\n\n" + comments
    english = [json.dumps({"text": "lorem ipsum " * 5460})] * 200
    german = [json.dumps({"text": "zwölf Boxkämpfer " * 3450}, ensure_ascii=False)] * 200
    tiny, small, huge = (["x" * (kibibytes << 10)] for kibibytes in (128, 1024, 8192))
    return [
        Case("LLM deltas", named, deltas, targets=MUCH_FASTER),
        Case("LLM deltas without names", unnamed, deltas),
        Case("LLM deltas with ids", with_ids, deltas),
        Case("LLM deltas, CRLF", named.replace(b"\n", b"\r\n"), deltas),
        Case("LLM deltas, one a chunk", named, deltas, ONE_EVENT),
        Case("LLM deltas, chunks of 100 bytes", named, deltas, 100),
        Case("three lines of data", logs, ["first\nsecond\nthird"] * COUNT),
        Case("keep-alives", comments, [], unit=COMMENTS),
        Case("keep-alives after an id", after_id, ["x"], unit=COMMENTS),
        Case("64 KiB of JSON an event", pages(english), english, unit=MEGABYTES),
        Case("64 KiB of JSON an event, not ASCII", pages(german), german, unit=MEGABYTES),
        Case("a line of 8 MiB", pages(huge), huge, unit=MEGABYTES),
        Case("a line of 8 MiB, chunks of 1 KiB", pages(huge), huge, 1024, MEGABYTES),
        # No target: that the next two have as many MB/s says that time is linear.
        Case("a line of 128 KiB, chunks of 1 byte", pages(tiny), tiny, 1, MEGABYTES, {}),
        Case("a line of 1 MiB, chunks of 1 byte", pages(small), small, 1, MEGABYTES, {}, True),
        Case("a line of 8 MiB, chunks of 1 byte", pages(huge), huge, 1, MEGABYTES, {}, True),
    ]


def delta(number: int) -> str:
    """Return what an LLM API sends for each token, more or less."""
    choice = {"index": 0, "delta": {"content": f" word{number % 97}"}, "finish_reason": None}
    chunk = {"id": "chatcmpl-9f2c7d1e", "object": "chat.completion.chunk", "choices": [choice]}
    return json.dumps(chunk, separators=(",", ":"))


def pages(texts: Sequence[str]) -> bytes:
    return "".join(f"event: page\ndata: {text}\n\n" for text in texts).encode()


def command(rival: Rival) -> list[str]:
    if rival.package in ON_NODE:
        return [node() or "node", str(RIVALS / f"{rival.module}.mjs")]
    return [sys.executable, "-m", f"bench.rivals.{rival.module}", rival.name]


def main() -> None:
    given = options("What does decoding cost?", rounds=5, field=DECODERS)
    seconds = 0.01 if given.quick else 0.2
    with tempfile.TemporaryDirectory() as folder:
        files = [(case, Path(folder) / str(number)) for number, case in enumerate(cases())]
        for case, file in files:
            file.write_bytes(case.body)

        def measure(rival: Rival) -> Measured:
            its = [each for each in files if rival.name == "typed-sse" or not each[0].only_ours]
            wanted = [{"file": str(file), "chunk_bytes": case.chunk_bytes} for case, file in its]
            answers = answer(command(rival), {"cases": wanted, "seconds": seconds})
            figures: dict[Figure, float] = {}
            for (case, _), seen in zip(its, answers, strict=True):
                expected = (len(case.data), sum(map(len, case.data)))
                right = (seen["events"], seen["characters"]) == expected
                figures[case.figure] = case.rate(seen["seconds"])
                figures[Figure(case.title, RIGHT, True)] = 100 * right
            return figures

        results = take_turns(given.rivals, given.rounds, measure)
    finish("decode", given, results, [EVENTS, COMMENTS, MEGABYTES])
    for line in _who_was_wrong(results):
        print(line)


def _who_was_wrong(results: Sequence[Result]) -> Iterator[str]:
    for result in results:
        wrong = [TITLES[name] for name, share in result.medians.items() if share < 100]
        if result.figure.unit == RIGHT and wrong:
            yield f"{result.figure.case}: other events than the standard says: {', '.join(wrong)}"


if __name__ == "__main__":
    main()
