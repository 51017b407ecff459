"""What `bench.servers` asks: each question puts one server to the test and words what was seen.

Knows clients and records; nothing of which library or server it asks.
"""

import re
import struct
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.servers.probe import FIRST, MEMORY_LIMIT_BYTES, QUICK_YIELDS, RECORD
from bench.servers.process import BODY_END, POLL_S, Client, Server, answered

STREAMS = 3
LIMIT_S = 12.0
REPLY_LIMIT_S = 20.0
ALIVE_LIMIT_S = 3.0
# As long as this without another event, and a generator counts as held up.
HELD_UP_S = 1.0
ERROR_REPEATS = 5
SHIELD = "?shield=true"
NEVER_HELD_UP = "never held up: the server takes all it is given"


@dataclass(frozen=True)
class Entry:
    at: float
    key: str
    what: str


def record(server: Server, key: str | None = None) -> list[Entry]:
    """Return what the server has noted so far, of one stream or of all."""
    file = server.directory / RECORD
    if not file.exists():
        return []
    lines = [line.split(" ", 2) for line in file.read_text(encoding="utf-8").splitlines()]
    entries = [Entry(float(at), of, what) for at, of, what in lines]
    return [entry for entry in entries if key in (None, entry.key)]


def moment(entries: Iterable[Entry], start: str) -> float | None:
    return next((entry.at for entry in entries if entry.what.startswith(start)), None)


def opened(server: Server, path: str, *, small_buffer: bool = False) -> Client:
    """Open a stream and read its first event."""
    client = Client(server, path, small_buffer=small_buffer)
    if not client.read_until(FIRST.encode(), REPLY_LIMIT_S):
        raise RuntimeError(f"no first event, but {client.seen!r}")
    return client


# --- shutdown


def shutdown(server: Server) -> list[str]:
    clients = [opened(server, f"/waiting/{number}?cleanup_s=0.1") for number in range(STREAMS)]
    server.process.terminate()
    over_s = server.over_after(LIMIT_S)
    # What the process has sent is in the sockets by now.
    ended = [client.read_until(BODY_END, 0.2) for client in clients]
    told = [b"\nretry:" in client.seen for client in clients]
    notes = [entry.what for entry in record(server)]
    begun = notes.count("finally begun")
    completed = sum(note.startswith("finally completed") for note in notes)
    for client in clients:
        client.close()
    return [
        f"still running after {LIMIT_S:g} s" if over_s is None else f"{over_s:.1f} s",
        f"{sum(ended)} / {begun} / {completed} / {sum(told)}",
    ]


# --- cleanup


@dataclass(frozen=True)
class Cleanup:
    """How a stream's cleanup went: in words, and how long after its client had left."""

    words: str
    after_s: float | None = None


def cleanup(entries: Sequence[Entry], left_at: float) -> Cleanup:
    """Word a finished record."""
    ready_at = moment(entries, "dependency ready late") or left_at
    start_at = max(left_at, ready_at)
    closed_at = moment(entries, "dependency closed")
    if moment(entries, "generator begun") is None and closed_at is not None:
        state = "open" if moment(entries, "dependency closed, generator") else "closed"
        words = f"never begun; {state} when the dependency closed"
        return Cleanup(words, max(closed_at - start_at, 0.0))
    full_at = moment(entries, "too much memory")
    if full_at is not None:
        # What came after it is the benchmark's own doing.
        return Cleanup(f"not begun, and {MEMORY_LIMIT_BYTES >> 20} MiB full", full_at - start_at)
    for ending in ENDINGS:
        ended_at = moment(entries, ending)
        if ended_at is not None:
            before = closed_at is None or ended_at < closed_at
            words = f"{ENDINGS[ending]}, {'before' if before else 'after'} the dependency closed"
            return Cleanup(words, max(ended_at - start_at, 0.0))
    state = "not begun" if moment(entries, "finally begun") is None else "begun, not completed"
    dependency = "still open" if closed_at is None else "closed"
    return Cleanup(f"{state} in {LIMIT_S:g} s, the dependency {dependency}")


ENDINGS = {
    "finally completed in the same": "completed, same task",
    "finally completed in another": "completed, another task",
    "finally cut": "cut at its `await`",
}


def settled(entries: Sequence[Entry]) -> bool:
    """Whether nothing more can come: the dependency closed, the generator over or never begun."""
    return moment(entries, "dependency closed") is not None and (
        moment(entries, "generator begun") is None
        or any(moment(entries, ending) is not None for ending in ENDINGS)
    )


def cleanups(server: Server, left_at: dict[str, float]) -> str:
    """Wait until the streams have settled, by their keys and when their clients left."""
    deadline = max(left_at.values()) + LIMIT_S
    while time.monotonic() < deadline and not all(settled(record(server, k)) for k in left_at):
        time.sleep(POLL_S)
    outcomes = [cleanup(record(server, key), at) for key, at in left_at.items()]
    return "; ".join(
        worded(words, count, len(outcomes), [o.after_s for o in outcomes if o.words == words])
        for words, count in Counter(outcome.words for outcome in outcomes).most_common()
    )


def worded(words: str, count: int, of: int, after_s: Sequence[float | None]) -> str:
    known = [seconds for seconds in after_s if seconds is not None]
    share = "" if count == of else f"{count} of {of}: "
    return f"{share}{words}" + (f", {max(known):.2f} s" if known else "")


def leave(client: Client) -> float:
    left_at = time.monotonic()
    client.close()
    return left_at


def reader_leaves(server: Server, *, query: str = "") -> list[str]:
    clients = {
        f"{number}": opened(server, f"/waiting/{number}{query}") for number in range(STREAMS)
    }
    return [cleanups(server, {key: leave(client) for key, client in clients.items()})]


def reader_leaves_shielded(server: Server) -> list[str]:
    return reader_leaves(server, query=SHIELD)


def reader_leaves_before(server: Server) -> list[str]:
    clients = {f"{number}": Client(server, f"/late/{number}") for number in range(STREAMS)}
    time.sleep(0.1)
    return [cleanups(server, {key: leave(client) for key, client in clients.items()})]


def head(server: Server) -> list[str]:
    client = Client(server, "/head/0", method="HEAD")
    if not client.read_until(b"\r\n\r\n", REPLY_LIMIT_S):
        return ["no answer"]
    return [cleanups(server, {"0": leave(client)})]


def held_up(server: Server, key: str) -> bool:
    """Wait until a stream's generator yields nothing any more."""
    deadline = time.monotonic() + LIMIT_S
    last, since = 0, time.monotonic()
    while time.monotonic() < deadline:
        if moment(record(server, key), "too much memory") is not None:
            return False
        file = server.directory / f"yields-{key}"
        packed = file.read_bytes() if file.exists() else b""
        yields: int = struct.unpack("=q", packed)[0] if len(packed) == 8 else last
        if yields != last:
            last, since = yields, time.monotonic()
        elif last and time.monotonic() - since >= HELD_UP_S:
            return True
        time.sleep(POLL_S)
    return False


def stalled(server: Server, path: str, query: str = "") -> dict[str, Client] | None:
    """Open streams and read no more than the first event; `None` if a generator is not held up."""
    clients = {
        f"{number}": opened(server, f"/{path}/{number}{query}", small_buffer=True)
        for number in range(STREAMS)
    }
    return clients if all(held_up(server, key) for key in clients) else None


def stalled_reader_leaves(server: Server, *, query: str = "") -> list[str]:
    clients = stalled(server, "pausing", query)
    if clients is None:
        return [NEVER_HELD_UP]
    return [cleanups(server, {key: leave(client) for key, client in clients.items()})]


def stalled_reader_leaves_shielded(server: Server) -> list[str]:
    return stalled_reader_leaves(server, query=SHIELD)


def stalled_reader_of_a_rush_leaves(server: Server) -> list[str]:
    clients = stalled(server, "rushing")
    during = answered(server, "/alive", ALIVE_LIMIT_S)
    if clients is None:
        return [NEVER_HELD_UP, "yes" if during else "no"]
    left_at = {key: leave(client) for key, client in clients.items()}
    after = answered(server, "/alive", ALIVE_LIMIT_S)
    alive = " / ".join("yes" if answer else "no" for answer in (during, after))
    return [cleanups(server, left_at), alive]


# --- errors


def failure(server: Server, pause_s: float) -> list[str]:
    arrived: list[int] = []
    endings: set[str] = set()
    for _ in range(ERROR_REPEATS):
        client = Client(server, f"/failing/{pause_s}")
        ended = client.read_until(BODY_END, REPLY_LIMIT_S)
        client.close()
        arrived.append(len(set(re.findall(rb"number-\d", client.seen))))
        endings.add(ending(client.seen, ended=ended))
    few, many = min(arrived), max(arrived)
    count = f"{few}" if few == many else f"{few} to {many}"
    return [f"{count} of {QUICK_YIELDS}; {', '.join(sorted(endings))}"]


def ending(seen: bytes, *, ended: bool) -> str:
    names = re.findall(rb"^event: ?(\S*error\S*)\r?$", seen, re.MULTILINE)
    body = "body ended" if ended else "body cut"
    if names:
        return f"event `{names[-1].decode()}`, {body}"
    return f"{body}, as at a clean end" if ended else body


def fails_at_once(server: Server) -> list[str]:
    return failure(server, 0.0)


def fails_later(server: Server) -> list[str]:
    return failure(server, 0.05)


def not_found(server: Server) -> list[str]:
    client = Client(server, "/lookup/unknown")
    complete = client.read_until(b"\r\n\r\n", REPLY_LIMIT_S)
    client.close()
    return [client.seen.split(b" ", 2)[1].decode() if complete else "no answer"]
