"""What does an event cost when they are rare? `python -m bench.trickle`.

Three situations, one after the other, in a process that has served nothing before: 2,000
connections that have had one event and wait; 2,000 with one event a second each; an LLM's shape,
200 with 50 a second. CPU is what the server has used in the window, by the events that arrived in
it; latency is from the making of the payload to the client that has read the event.

Where CPU is not enough for all events, generators fall behind: the delivered rate says so.
"""

from bench.field import UVICORN, Rival, command
from bench.report import CLIENT, SERVER, Figure, Measured, finish, options, take_turns
from bench.running import IDLE_MS, Load, Server, free_port, load_client, running

SIZE = 100
CPU_TARGETS = {"fastapi": 0.35, "sse-starlette": 0.7, "starlette": 1.1}
MOST_KIB, MOST_TASKS = 16, 2

# Why a target is missed, where it is. docs/why/speed.md says what was tried.
REASONS = {
    "sse-starlette": "The limit is hardly lower: waking up and writing are most of a rare event.",
    "starlette": "A typed event is made, checked and counted; a frame by hand is not.",
}

CPU = "CPU s per million events"
P50 = "ms, median latency"
P99 = "ms, p99 latency"
RATE = "% of the events asked for"
MEMORY = "KiB a connection"
TASKS = "asyncio tasks a connection"


def main() -> None:
    given = options("What does an event cost when they are rare?", rounds=3)
    crowd, few = (500, 50) if given.quick else (2000, 200)
    window_s = 2.0 if given.quick else 6.0  # whole seconds: see the ramp
    with load_client() as load:

        def measure(rival: Rival) -> Measured:
            port = free_port()
            with running(command(rival, UVICORN, port, load), port) as server:
                return {
                    **_idle(load, rival, server, crowd),
                    **_paced(load, server, crowd, 1000, window_s),
                    **_paced(load, server, few, 20, window_s),
                }

        results = take_turns(given.rivals, given.rounds, measure)
    shown = [CPU, P50, P99, RATE, MEMORY, TASKS]
    finish("trickle", given, results, shown, reasons=REASONS, saturated=False)


def _idle(load: Load, rival: Rival, server: Server, connections: int) -> dict[Figure, float]:
    """Return what a connection holds that waits for its second event."""
    case = f"{connections:,} idle connections"
    path = f"/{SIZE}/{IDLE_MS}"
    with load.reading(server, path, 20, warm_s=0.2, window_s=0.1) as client:
        client.window(quiet=True)  # whatever the first connections import or allocate once
    before = server.used()
    tasks_before = server.tasks() if rival.tells_tasks else 0
    ramp_s = connections / 1000
    with load.reading(server, path, connections, ramp_s=ramp_s, warm_s=1.0, window_s=0.1) as client:
        client.window(quiet=True)
        memory_kib = (server.used().rss_kib - before.rss_kib) / connections
        figures = {Figure(case, MEMORY, False, limit=MOST_KIB): memory_kib}
        if rival.tells_tasks:
            tasks = (server.tasks() - tasks_before) / connections
            figures[Figure(case, TASKS, False, limit=MOST_TASKS)] = tasks
    return figures


def _paced(
    load: Load, server: Server, connections: int, pause_ms: int, window_s: float
) -> dict[Figure, float]:
    """Return what events cost that each connection has one of at a time."""
    per_second = 1000 // pause_ms
    each = "one event" if per_second == 1 else f"{per_second} events"
    case = f"{connections:,} connections, {each} a second each"
    # Over whole seconds, so that the connections' events are spread over the second.
    ramp_s = max(1, connections // 1000)
    with load.reading(
        server,
        f"/{SIZE}/{pause_ms}",
        connections,
        ramp_s=ramp_s,
        warm_s=1.5,
        window_s=window_s,
    ) as client:
        seen = client.window()
    asked_for = connections * per_second * seen.seconds
    return {
        Figure(case, CPU, False, CPU_TARGETS): seen.cpu_s / seen.events * 1e6,
        Figure(case, P99, False): seen.p99_us / 1000,
        Figure(case, P50, False): seen.p50_us / 1000,
        Figure(case, RATE, True): 100 * seen.events / asked_for,
        Figure(case, CLIENT, False): seen.client_share,
        Figure(case, SERVER, False): seen.server_share,
    }


if __name__ == "__main__":
    main()
