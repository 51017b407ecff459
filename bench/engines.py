"""What does it cost to store an event, and how soon is it elsewhere? `python -m bench.engines`.

Each engine stands beside the client of its server, used directly for the same durable write: by one
publisher, who waits for each event to be stored, and by 32 at once. Then, in a system that does
little else, how late an event is in another process than the one that has published it; with the
memory engine, in another task. Every run has a server of its own, and no data.
"""

import sys
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

from bench.alone import answer
from bench.field import ENGINES, Rival
from bench.report import Figure, Measured, Result, finish, options, take_turns
from bench.running import CLIENT_CORE, free_port, listens, running

CONCURRENT = 32
TARGETS = {"raw-client": 0.6}
# How late an event may be: SQLite is polled.
MOST_LATE_MS = {"memory": 5, "sqlite": 10, "redis": 5, "nats": 5}
BIN = Path(sys.executable).parent

# Why a target is missed, where it is.
REASONS = {
    "raw-client": "SQLite: an append reads the channel's end and writes a row and its index; "
    "the client alone writes a row.",
}

RATE = "events/s"
P50 = "ms, median of a publish"
P99 = "ms, p99 of a publish"
LATE_P50 = "ms late, median"
LATE_P99 = "ms late, p99"


def main() -> None:
    given = options("What does it cost to store an event?", rounds=3, field=ENGINES)
    window_s, events = (0.5, 100) if given.quick else (2.0, 1000)
    ours = [rival for rival in given.rivals if rival.name == "typed-sse"]
    results: list[Result] = []
    for engine, most_late_ms in MOST_LATE_MS.items():
        for publishers in (1, CONCURRENT):
            rivals = [rival for rival in given.rivals if _takes_part(rival, engine, publishers)]
            case = partial(_stored, engine, publishers, window_s)
            results += take_turns(rivals, given.rounds, case)
        if ours:
            late = partial(_late, engine, events, most_late_ms)
            results += take_turns(ours, given.rounds, late)
    finish("engines", given, results, [RATE, P50, P99, LATE_P50, LATE_P99], reasons=REASONS)


def _takes_part(rival: Rival, engine: str, publishers: int) -> bool:
    if rival.name == "raw-client":
        return engine != "memory"
    # Publishers of one loop that stands still take no turns.
    return rival.name != "raw-blocking" or (engine, publishers) == ("sqlite", 1)


def _stored(engine: str, publishers: int, window_s: float, rival: Rival) -> Measured:
    with _server(engine) as url:
        asked = {"url": url, "publishers": publishers, "window_s": window_s}
        seen = _answer(rival, asked)
    case = f"{engine}, {'one publisher' if publishers == 1 else f'{publishers} at once'}"
    return {
        Figure(case, RATE, True, TARGETS): seen["rate"],
        Figure(case, P50, False): seen["p50_ms"],
        Figure(case, P99, False): seen["p99_ms"],
    }


def _late(engine: str, events: int, most_late_ms: float, rival: Rival) -> Measured:
    with _server(engine) as url:
        seen = _answer(rival, {"url": url, "events": events})
    case = f"{engine}, in another {'task' if engine == 'memory' else 'process'}"
    return {
        Figure(case, LATE_P99, False, limit=most_late_ms): seen["p99_ms"],
        Figure(case, LATE_P50, False): seen["p50_ms"],
    }


def _answer(rival: Rival, asked: object) -> dict[str, float]:
    command = [sys.executable, "-m", f"bench.rivals.{rival.module}", *rival.arguments]
    return cast("dict[str, float]", answer(command, asked, core=CLIENT_CORE))


@contextmanager
def _server(engine: str) -> Generator[str, None, None]:
    """Run what an engine needs, from nothing; give the URL of a hub."""
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        if engine == "redis":
            with _running(port, *_redis(port, directory)):
                yield f"redis://127.0.0.1:{port}"
        elif engine == "nats":
            with _running(port, *_nats(port, directory)):
                yield f"nats://127.0.0.1:{port}"
        elif engine == "sqlite":
            yield f"sqlite:///{directory}/events.db"
        else:
            yield "memory://"


@contextmanager
def _running(port: int, *command: str) -> Generator[None, None, None]:
    with running(command, port, ready=listens):
        yield


def _redis(port: int, directory: str) -> Iterable[str]:
    # What is acknowledged is in the file, and on the disk within a second.
    durable = "--appendonly yes --appendfsync everysec --save"
    return (
        *(str(BIN / "redis-server"), "--bind", "127.0.0.1", "--port", str(port)),
        *("--dir", directory, *durable.split(), ""),
    )


def _nats(port: int, directory: str) -> Iterable[str]:
    return (
        *(str(BIN / "nats-server"), "--addr", "127.0.0.1", "--port", str(port)),
        *("--jetstream", "--store_dir", directory),
    )


if __name__ == "__main__":
    main()
