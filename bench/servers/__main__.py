"""What becomes of open event streams on real servers, beside other libraries.

    python -m bench.servers [--write]

Every cell of a table is a server process of its own with a fresh record; clients are plain sockets.
With `--write` the tables replace those of docs/why/servers.md. Nothing here knows what a library
is expected to do: the cells are worded from what the clients and the records saw.
"""

import datetime as dt
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bench.servers.probe import QUICK_YIELDS
from bench.servers.process import ROOT, Server, serving
from bench.servers.questions import (
    ALIVE_LIMIT_S,
    fails_at_once,
    fails_later,
    head,
    not_found,
    reader_leaves,
    reader_leaves_before,
    reader_leaves_shielded,
    shutdown,
    stalled_reader_leaves,
    stalled_reader_leaves_shielded,
    stalled_reader_of_a_rush_leaves,
)

PAGE = ROOT / "docs" / "why" / "servers.md"
BEGIN = "<!-- measured: begin -->\n"
END = "<!-- measured: end -->\n"

LIBRARIES = {
    "typed-sse": "bench.servers.with_typed_sse",
    "FastAPI": "bench.servers.with_fastapi",
    "sse-starlette": "bench.servers.with_sse_starlette",
}
UVICORN = "-m uvicorn MODULE:app --port PORT"
HYPERCORN = "-m hypercorn MODULE:app --bind 127.0.0.1:PORT"
GRANIAN = "-m granian MODULE:app --interface asgi --host 127.0.0.1 --port PORT"
SERVERS = {"uvicorn": UVICORN, "hypercorn": f"{HYPERCORN} --workers 0", "granian": GRANIAN}
WAYS_TO_SERVE = {
    "uvicorn": UVICORN,
    "uvicorn `--workers 2`": f"{UVICORN} --workers 2",
    "uvicorn `--reload`": f"{UVICORN} --reload --reload-dir .",
    "uvicorn in a thread": "-m MODULE PORT",
    "hypercorn `--workers 0`": f"{HYPERCORN} --workers 0",
    "hypercorn, its default": HYPERCORN,
    "granian": GRANIAN,
}
PACKAGES = {
    "compared": ["typed-sse", "fastapi", "sse-starlette"],
    "servers": ["uvicorn", "hypercorn", "granian"],
    "beneath": ["starlette", "anyio", "pydantic", "uvloop", "httptools", "h11"],
}


@dataclass(frozen=True)
class Question:
    """What is asked of every library on every server: a table for each answer."""

    ask: Callable[[Server], list[str]]
    titles: tuple[str, ...]
    servers: Mapping[str, str] = field(default_factory=lambda: SERVERS)
    at_a_time: int = 4


QUESTIONS = [
    Question(
        shutdown,
        (
            "SIGTERM with three open streams: how long until every process has ended",
            "The same: bodies ended / `finally` begun / `finally` completed / farewell seen",
        ),
        WAYS_TO_SERVE,
    ),
    Question(
        reader_leaves,
        ("The client leaves while the generator waits: its `finally`",),
    ),
    Question(
        reader_leaves_shielded,
        ("The client leaves while the generator waits: a `finally` that shields itself",),
    ),
    Question(
        stalled_reader_leaves,
        ("The client stops reading and leaves, the generator awaits between events: `finally`",),
    ),
    Question(
        stalled_reader_leaves_shielded,
        ("The same: a `finally` that shields itself",),
    ),
    Question(
        stalled_reader_of_a_rush_leaves,
        (
            "The client stops reading and leaves, the generator never awaits: `finally`",
            f"The same: another request answered in {ALIVE_LIMIT_S:g} s, before / after it leaves",
        ),
        at_a_time=2,  # a server that hangs here takes a whole core
    ),
    Question(
        reader_leaves_before,
        ("The client leaves before the response begins: the generator, or its `finally`",),
    ),
    Question(
        head,
        ("HEAD, and the client leaves after the headers: the generator, or its `finally`",),
    ),
    Question(
        fails_at_once,
        (f"{QUICK_YIELDS} quick events, then an error: how many arrive, how the body ends",),
    ),
    Question(
        fails_later,
        (f"{QUICK_YIELDS} quick events, 50 ms, then an error: how many arrive, how the body ends",),
    ),
    Question(
        not_found,
        ("`raise HTTPException(404)` before the first event: the status",),
    ),
]


def cell(question: Question, name: str, library: str) -> list[str]:
    with serving(question.servers[name].replace("MODULE", LIBRARIES[library])) as server:
        answers = question.ask(server)
    print(f"{question.titles[0]}, {name}, {library}: {' | '.join(answers)}", flush=True)
    return answers


def tables(question: Question) -> str:
    with ThreadPoolExecutor(question.at_a_time) as pool:
        cells: dict[str, list[Future[list[str]]]] = {
            name: [pool.submit(cell, question, name, library) for library in LIBRARIES]
            for name in question.servers
        }
    parts: list[str] = []
    for number, title in enumerate(question.titles):
        rows = [["server", *LIBRARIES], ["---"] * (1 + len(LIBRARIES))]
        rows += [[name, *(f.result()[number] for f in row)] for name, row in cells.items()]
        lines = "".join(f"| {' | '.join(row)} |\n" for row in rows)
        parts.append(f"### {title}\n\n{lines}")
    return "\n".join(parts)


def circumstances() -> str:
    machine = (
        f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {platform.machine()}, "
        f"{os.cpu_count()} cores, {platform.python_implementation()} {platform.python_version()}"
    )
    lines = [f"Measured on {dt.datetime.now(dt.UTC):%Y-%m-%d} on {machine}.", ""]
    for kind, names in PACKAGES.items():
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
        lines.append(f"- {kind}: {versions}")
    return "\n".join(lines) + "\n"


def written(page: str, measured: str) -> str:
    """Return the page with everything between its markers replaced."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE.name} lacks a marker")
    return f"{before}{begin}\n{measured}\n{end}{after}"


def main(arguments: Sequence[str]) -> None:
    started_at = time.monotonic()
    measured = "\n".join([circumstances(), *(tables(question) for question in QUESTIONS)])
    print(f"\n{measured}\n{time.monotonic() - started_at:.0f} s")
    if "--write" in arguments:
        page = Path(PAGE)
        page.write_text(written(page.read_text(encoding="utf-8"), measured), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
