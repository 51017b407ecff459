"""How fast do typed events leave? `python -m bench.stream`.

Every connection has a generator that yields as fast as it is asked; the client reads as fast as it
can. Counted are whole events that arrive in the window. Each case has a process of its own, because
some rivals never notice that the reader of such a generator has left, and serve nobody else then.
Some serve one connection and let the others wait as long as its reader keeps up: that is said below
the tables.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from bench.field import GRANIAN, TITLES, UVICORN, Rival, command
from bench.report import CLIENT, SERVER, Figure, Measured, Result, finish, options, take_turns
from bench.running import Load, free_port, load_client, running

# How many times as fast as each we want to be, by the size of the payload in bytes.
TARGETS = {
    100: {"fastapi": 12, "sse-starlette": 4.5, "starlette": 3, "better-sse": 2, "raw": 0.8},
    2048: {"fastapi": 7, "sse-starlette": 5, "starlette": 1.8, "better-sse": 3, "raw": 0.8},
}
AIMED_AT = (1, 10)
CASES = (
    *((UVICORN, size, connections) for size in TARGETS for connections in (1, 10, 100)),
    *((GRANIAN, size, 10) for size in TARGETS),
)

# Why a target is missed, where it is. docs/why/speed.md says what was tried.
REASONS = {
    "better-sse": "Nor does the limit reach it: Pydantic alone takes as long as all of Node.",
    "starlette": "The limit is hardly above it: it makes typed events, these are frames by hand.",
    "fastapi": "As beside sse-starlette: half of our time is the event's own.",
    "sse-starlette": "Half of our time is the event's own: made, checked and written by Pydantic.",
    "raw": "Between are the check of the event's type, the counting, ASGI's messages and uvicorn.",
}

EVENTS = "events/s"
EVENTS_BY_CPU = "events by CPU second"
SERVED = "% of the connections have had an event"


def main() -> None:
    given = options("How fast do typed events leave?", rounds=5)
    warm_s, window_s = (0.3, 0.5) if given.quick else (0.4, 0.8)
    # uvloop accepts one connection a turn, and a turn lasts until everyone has had a batch.
    crowd_warm_s = 1.0 if given.quick else 2.5
    results: list[Result] = []
    with load_client() as load:
        # Case by case, so that the runs that are compared are as near as can be: what else a
        # shared machine does changes within minutes.
        for host, size, connections in CASES:
            rivals = [rival for rival in given.rivals if rival.is_app or host == UVICORN]
            warm = warm_s if connections <= 10 else crowd_warm_s
            case = partial(_rate, load, host, size, connections, warm, window_s)
            results += take_turns(rivals, given.rounds, case)
    shown = [EVENTS_BY_CPU if given.by_cpu else EVENTS]
    finish("stream", given, results, shown, reasons=REASONS)
    for line in _who_waited(results):
        print(line)


def _who_waited(results: Sequence[Result]) -> Iterator[str]:
    for result in results:
        waited = [name for name, share in result.medians.items() if share < 100]
        if result.figure.unit == SERVED and waited:
            served = (f"{TITLES[name]} {result.medians[name]:.0f} %" for name in waited)
            yield f"{result.figure.case}: connections that had an event: {', '.join(served)}"


def _rate(
    load: Load,
    host: str,
    size: int,
    connections: int,
    warm_s: float,
    window_s: float,
    rival: Rival,
) -> Measured:
    port = free_port()
    times = {"warm_s": warm_s, "window_s": window_s}
    with (
        running(command(rival, host, port, load), port) as server,
        load.reading(server, f"/{size}/0", connections, **times) as client,
    ):
        seen = client.window()
    plural = "connection" if connections == 1 else "connections"
    case = f"{connections} {plural}, {size} B; {host}"
    targets = TARGETS[size] if connections in AIMED_AT and host == UVICORN else {}
    return {
        Figure(case, EVENTS, True, targets): seen.events / seen.seconds,
        Figure(case, EVENTS_BY_CPU, True, targets): seen.events / seen.cpu_s,
        Figure(case, SERVED, True): 100 * seen.served / connections,
        Figure(case, CLIENT, False): seen.client_share,
        Figure(case, SERVER, True): seen.server_share,
    }


if __name__ == "__main__":
    main()
