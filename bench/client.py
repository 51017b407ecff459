"""What does it cost to read a stream through a client? `python -m bench.client`.

A server sends an LLM's answer as fast as the client takes it; each rival reads it over and over. A
rival is a process of its own on one core, the server has the other; a round's figure is the best of
some runs, by the CPU time that they took. How many events came, and how much was in them, is
compared with what was sent. Then: what a thousand open streams hold in memory.
"""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.alone import answer
from bench.decode import delta
from bench.field import CLIENTS, Rival
from bench.report import Figure, Measured, finish, options, take_turns
from bench.running import CLIENT_CORE, free_port, listens, running

COUNT = 20_000
STREAMS = 1000

EVENTS = "events/CPU s"
RIGHT = "% of the rounds gave the right events"
HELD = "KiB a stream"
BEYOND = "KiB a stream beyond httpx2's"

# How many times as fast as each we want to be.
TWICE = dict.fromkeys([rival.name for rival in CLIENTS.rivals[1:]], 2.0)
# Where most of the work is Pydantic's, or the HTTP library's, it is everybody's.
NOT_SLOWER = dict.fromkeys(TWICE, 1.0)
BEYOND_KIB = 30.0

_BY_HTTPX = (
    "Its httpx hands on a chunk for less than our httpx2 does, or is the same beside Pydantic"
)
REASONS = {"httpx-sse": f"{_BY_HTTPX}."}


@dataclass(frozen=True)
class Case:
    """One way to read the stream.

    Attributes:
        awaited: by the asynchronous client.
        path: of the server; nothing for a transport in memory.
        models: what is read is models, else bare events.
    """

    awaited: bool
    path: str
    models: bool

    @property
    def figure(self) -> Figure:
        """What is measured."""
        where = {"": "in memory", "/many": "loopback", "/one": "loopback, one event a chunk"}
        told = "async" if self.awaited else "sync"
        case = f"{told}, {where[self.path]}, {'models' if self.models else 'events'}"
        everybodys = self.models or self.path == "/one"
        return Figure(case, EVENTS, True, NOT_SLOWER if everybodys else TWICE)


CASES = [
    Case(awaited, path, models)
    for awaited in (True, False)
    for path in ("", "/many", "/one")
    for models in (False, True)
]


def deltas() -> tuple[bytes, Mapping[bool, int]]:
    """Return the stream, and how many characters are in its events, and in its models."""
    data = [delta(number) for number in range(COUNT)]
    body = "".join(f"event: delta\ndata: {each}\n\n" for each in data) + "data: [DONE]\n\n"
    said = sum(len(f" word{number % 97}") for number in range(COUNT))
    return body.encode(), {False: sum(map(len, data)), True: said}


def command(name: str) -> list[str]:
    return [sys.executable, "-m", "bench.rivals.clients", name]


def main() -> None:
    given = options("What does it cost to read a stream?", rounds=3, field=CLIENTS)
    seconds, streams = (0.01, STREAMS // 10) if given.quick else (0.4, STREAMS)
    body, characters = deltas()
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def held_kib(name: str) -> float:
        held = answer(command(name), {"url": f"{url}/open", "streams": streams}, CLIENT_CORE)
        return float(held)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "body"
        file.write_bytes(body)

        def measure(rival: Rival) -> Measured:
            cases = [
                {
                    "awaited": case.awaited,
                    "models": case.models,
                    "in_memory": not case.path,
                    "url": url + case.path,
                    "file": str(file),
                }
                for case in CASES
            ]
            question = {"cases": cases, "seconds": seconds}
            answers = answer(command(rival.name), question, CLIENT_CORE)
            figures: dict[Figure, float] = {}
            for case, seen in zip(CASES, answers, strict=True):
                right = (seen["events"], seen["characters"]) == (COUNT, characters[case.models])
                figures[case.figure] = COUNT / seen["seconds"]
                figures[Figure(case.figure.case, RIGHT, True)] = 100 * right
            if rival.name in ("typed-sse", "httpx2"):
                figures[Figure(f"{streams:,} open streams", HELD, False)] = held_kib(rival.name)
            if rival.name == "typed-sse":
                # Right before it, and of a process of its own too.
                beyond_kib = held_kib("typed-sse") - held_kib("httpx2")
                beyond = Figure(f"{streams:,} open streams", BEYOND, False, limit=BEYOND_KIB)
                figures[beyond] = beyond_kib
            return figures

        server = [sys.executable, "-m", "bench.rivals.deltas", str(port), str(file)]
        with running(server, port, ready=listens):
            results = take_turns(given.rivals, given.rounds, measure)
    shown = [EVENTS, HELD, BEYOND]
    finish("client", given, results, shown, reasons=REASONS, saturated=False)
    for result in results:
        if result.figure.unit == RIGHT and min(result.medians.values()) < 100:
            print(f"{result.figure.case}: not the events that were sent: {result.medians}")


if __name__ == "__main__":
    main()
