"""How fast does one event reach many? `python -m bench.fanout`.

One publisher in the server, N subscribers, whole events counted where they arrive. The load client
says how many bursts may leave: so many that 8,000 deliveries are under way, or two bursts, and one
more for each that has reached everyone. So nobody's buffers grow, nobody has to wait for the
client, and all are asked alike. Then what is published over HTTP, where nchan takes part too: in
lockstep, at a pace, once for subscribers that then wait, and while all of them are away.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from bench.field import FANOUT, TITLES, UVICORN, Rival, command
from bench.report import (
    CLIENT,
    SERVER,
    Figure,
    Measured,
    Options,
    Result,
    finish,
    options,
    take_turns,
)
from bench.running import Load, Server, free_port, listens, load_client, running

# How many times as fast as each we want to be.
TARGETS = {
    "raw-broadcast": 1.0,
    "sse-starlette-queues": 4.5,
    "fastapi-queues": 20.0,
    "better-sse-channel": 2.5,
}
OVER_HTTP_TARGETS = {"nchan": 1.0}
FEW, MANY = 1000, 5000
CASES = ((100, 100, 1), (FEW, 100, 1), (MANY, 100, 1), (FEW, 100, 10), (FEW, 2048, 1))
AIMED_AT = (FEW, 100, 1)
PACE_MS = 100
MOST_KIB = 16

# It can be published to over HTTP alone.
ONLY_OVER_HTTP = ("nchan",)
# Who keeps events, and gives those after a Last-Event-ID to who comes back.
REMEMBERING = ("typed-sse", "typed-sse-fastapi", "nchan")

# Why a target is missed, where it is.
REASONS = {
    "better-sse-channel": "The bare broadcaster itself has 1.9 times its deliveries.",
    "nchan": "One write a delivery for both; ours goes through ASGI and uvicorn, its own is C.",
}

DELIVERIES = "deliveries/s"
DELIVERIES_BY_CPU = "deliveries by CPU second"
CPU = "CPU s per million deliveries"
P50 = "ms, median latency"
P99 = "ms, p99 latency"
MEMORY = "KiB a subscriber"
STORM = "ms until all have it"
TWICE = "% of the deliveries asked for"


def main() -> None:
    given = options("How fast does one event reach many?", rounds=3, field=FANOUT)
    warm_s, window_s = (0.3, 0.5) if given.quick else (0.5, 2.0)
    crowd = 500 if given.quick else 2000
    inside = [rival for rival in given.rivals if rival.name not in ONLY_OVER_HTTP]
    remembering = [rival for rival in given.rivals if rival.name in REMEMBERING]
    results: list[Result] = []
    with load_client("fanout") as load:

        def ask(rivals: Sequence[Rival], measure: Callable[[Load, Server], Measured]) -> None:
            # Case by case, so that the runs that are compared are as near as can be.
            results.extend(_turns(given, load, rivals, measure))

        for case in CASES:
            ask(inside, partial(_published_inside, case, warm_s, window_s))
        ask(given.rivals, partial(_in_lockstep, warm_s, window_s))
        # Each event is one sample of what is late: at ten a second, they need their time.
        ask(given.rivals, partial(_paced, warm_s, 2 * window_s))
        ask(given.rivals, partial(_idle, crowd))
        if remembering:
            ask(remembering, _storm)
    rate = DELIVERIES_BY_CPU if given.by_cpu else DELIVERIES
    finish("fanout", given, results, [rate, CPU, P99, MEMORY, STORM, TWICE], reasons=REASONS)
    for line in (*_by_crowd(results, rate), *_without_memory(given.rivals)):
        print(line)


def _turns(
    given: Options,
    load: Load,
    rivals: Sequence[Rival],
    measure: Callable[[Load, Server], Measured],
) -> list[Result]:
    def of(rival: Rival) -> Measured:
        port = free_port()
        with running(command(rival, UVICORN, port, load), port, ready=listens) as server:
            return measure(load, server)

    return take_turns(rivals, given.rounds, of)


def _published_inside(
    asked: tuple[int, int, int], warm_s: float, window_s: float, load: Load, server: Server
) -> Measured:
    readers, size, burst = asked
    bursts = f"bursts of {burst}, " if burst > 1 else ""
    case = f"{readers:,} subscribers, {bursts}{size} B"
    # An event of a slow rival takes a second to reach so many.
    longer = 2 if readers == MANY else 1
    times = 1000 * longer * warm_s, 1000 * longer * window_s
    with load.subscribing("credits", server, "/events", readers, size, burst, *times) as client:
        seen = client.window()
    targets = TARGETS if asked == AIMED_AT else {}
    return {
        Figure(case, DELIVERIES, True, targets): seen.events / seen.seconds,
        Figure(case, DELIVERIES_BY_CPU, True, targets): seen.events / seen.cpu_s,
        Figure(case, CPU, False): 1e6 * seen.cpu_s / seen.events,
        # Not shown, since it is what the flow control makes it: so much is under way.
        Figure(case, f"{P99} at full speed", False): seen.p99_us / 1000,
        Figure(case, CLIENT, False): seen.client_share,
        Figure(case, SERVER, True): seen.server_share,
    }


def _in_lockstep(warm_s: float, window_s: float, load: Load, server: Server) -> Measured:
    case = f"{FEW:,} subscribers, published over HTTP in lockstep"
    times = 1000 * warm_s, 1000 * window_s
    with load.subscribing("posts", server, "/events", FEW, 100, 0, *times) as client:
        seen = client.window()
    return {
        Figure(case, DELIVERIES, True, OVER_HTTP_TARGETS): seen.events / seen.seconds,
        Figure(case, DELIVERIES_BY_CPU, True, OVER_HTTP_TARGETS): seen.events / seen.cpu_s,
        Figure(case, CPU, False): 1e6 * seen.cpu_s / seen.events,
        Figure(case, P99, False): seen.p99_us / 1000,
        Figure(case, CLIENT, False): seen.client_share,
    }


def _paced(warm_s: float, window_s: float, load: Load, server: Server) -> Measured:
    case = f"{FEW:,} subscribers, {1000 // PACE_MS} events a second over HTTP"
    times = 1000 * warm_s, 1000 * window_s
    with load.subscribing("posts", server, "/events", FEW, 100, PACE_MS, *times) as client:
        seen = client.window()
    return {
        Figure(case, P99, False): seen.p99_us / 1000,
        Figure(case, P50, False): seen.p50_us / 1000,
        Figure(case, CPU, False): 1e6 * seen.cpu_s / seen.events,
    }


def _idle(crowd: int, load: Load, server: Server) -> Measured:
    """Return what a subscriber holds that has had an event and waits for the next."""
    with load.subscribing("idle", server, "/events", 20) as client:
        client.window(quiet=True)  # whatever the first connections import or allocate once
    before = server.used().rss_kib
    with load.subscribing("idle", server, "/events", crowd) as client:
        client.window(quiet=True)
        held_kib = (server.used().rss_kib - before) / crowd
    return {Figure(f"{crowd:,} idle subscribers", MEMORY, False, limit=MOST_KIB): held_kib}


def _storm(load: Load, server: Server) -> Measured:
    """Return how long it takes until everyone is back and has what was missed, and how often."""
    case = f"{FEW:,} subscribers leave, an event is published, all come back"
    with load.subscribing("storm", server, "/events", FEW, 100) as client:
        seen = client.window()
    return {
        Figure(case, STORM, False): 1000 * seen.seconds,
        Figure(case, TWICE, False): 100 * seen.events / FEW,
    }


def _by_crowd(results: Sequence[Result], unit: str) -> Iterator[str]:
    """Say whether a delivery to many costs more than one to few; ours is not to."""
    plain = {result.figure.case: result.medians for result in results if result.figure.unit == unit}
    few, many = (plain.get(f"{readers:,} subscribers, 100 B", {}) for readers in (FEW, MANY))
    for name in many:
        ratio = many[name] / few[name]
        verdict = ("  ok" if ratio >= 1 else "  --") if name == "typed-sse" else ""
        yield f"{TITLES[name]}: {unit} at {MANY:,} ÷ at {FEW:,}: {ratio:.2f}{verdict}"


def _without_memory(rivals: Sequence[Rival]) -> Iterator[str]:
    names = [rival.title for rival in rivals if rival.name not in REMEMBERING]
    if names:
        yield f"keep no events, so that who comes back has lost some: {', '.join(names)}"


if __name__ == "__main__":
    main()
