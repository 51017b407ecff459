"""How fast do streams begin? `python -m bench.open`.

In each of 64 places a connection is opened, waits for its first event and is closed, and the next
one begins: what a deployment, or a proxy that has lost its upstream, asks of a server.
"""

from bench.field import UVICORN, Rival, command
from bench.report import CLIENT, SERVER, Figure, Measured, finish, options, take_turns
from bench.running import IDLE_MS, free_port, load_client, running

SIZE = 100
AT_ONCE = 64
TARGETS = {"starlette": 1.5, "sse-starlette": 2, "fastapi": 3}
CASE = f"connect, first event, close; {AT_ONCE} at once"

# Why a target is missed, where it is. docs/why/speed.md says what was tried.
REASONS = {
    "starlette": "Half of the cost is the kernel's, uvloop's and uvicorn's, the same for all. Two "
    "tasks and one frame, with no limit, no drain and no count, reached 1.6.",
}

OPENED = "connections/s"
OPENED_BY_CPU = "connections by CPU second"
P50 = "ms to the first event, median"
P99 = "ms to the first event, p99"


def main() -> None:
    given = options("How fast do streams begin?", rounds=5)
    warm_s, window_s = (0.2, 0.5) if given.quick else (0.5, 2.0)
    with load_client() as load:

        def measure(rival: Rival) -> Measured:
            port = free_port()
            with running(command(rival, UVICORN, port, load), port) as server:
                path = f"/{SIZE}/{IDLE_MS}"
                times = {"warm_s": warm_s, "window_s": window_s}
                with load.opening(server, path, AT_ONCE, **times) as client:
                    seen = client.window()
            return {
                Figure(CASE, OPENED, True, TARGETS): seen.opened / seen.seconds,
                Figure(CASE, OPENED_BY_CPU, True, TARGETS): seen.opened / seen.cpu_s,
                Figure(CASE, P50, False): seen.p50_us / 1000,
                Figure(CASE, P99, False): seen.p99_us / 1000,
                Figure(CASE, CLIENT, False): seen.client_share,
                Figure(CASE, SERVER, True): seen.server_share,
            }

        results = take_turns(given.rivals, given.rounds, measure)
    shown = [OPENED_BY_CPU if given.by_cpu else OPENED, P99]
    finish("open", given, results, shown, reasons=REASONS)


if __name__ == "__main__":
    main()
