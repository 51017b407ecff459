"""What encoding and decoding cost, beside other libraries: `make bench`.

Each rival runs in a process of its own, pinned to one core, interleaved with the others, several
rounds; the table shows medians and the ratio to ours. See bench/README.md for what is not claimed.
"""

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

from pydantic import BaseModel

from typed_sse import BaseEvent, Decoder

ROUNDS = 5
REPEATS = 3
EVENTS = 20_000
CHUNK_BYTES = 65_536


class Delta(BaseModel):
    """What an LLM API sends for each token, more or less."""

    id: str
    index: int
    text: str


def delta(number: int) -> Delta:
    return Delta(id="chatcmpl-9f2c7d1e", index=number % 4, text=" word")


# --- bodies to decode


def llm(line_end: str = "\n") -> bytes:
    return b"".join(
        f"event: delta{line_end}data: {delta(number).model_dump_json()}{line_end * 2}".encode()
        for number in range(EVENTS)
    )


def unnamed() -> bytes:
    return b"".join(f"data: {delta(n).model_dump_json()}\n\n".encode() for n in range(EVENTS))


def multi_line() -> bytes:
    return b"id: 7\nevent: log\ndata: first\ndata: second\ndata: third\n\n" * EVENTS


def keep_alives() -> bytes:
    return b": keep-alive\n\n" * EVENTS


def huge_line() -> bytes:
    return b"data: " + b"x" * (8 << 20) + b"\n\n"


BODIES: dict[str, tuple[Callable[[], bytes], int]] = {
    "LLM deltas": (llm, CHUNK_BYTES),
    "LLM deltas, no names": (unnamed, CHUNK_BYTES),
    "LLM deltas, CRLF": (lambda: llm("\r\n"), CHUNK_BYTES),
    "LLM deltas, 100-byte chunks": (llm, 100),
    "three lines of data": (multi_line, CHUNK_BYTES),
    "keep-alives": (keep_alives, CHUNK_BYTES),
    "one 8 MiB line, 64 KiB chunks": (huge_line, CHUNK_BYTES),
    "one 8 MiB line, 1 KiB chunks": (huge_line, 1024),
}
ONE_BYTE = "one 8 MiB line, 1-byte chunks"


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


# --- rivals: chunks in, events counted


def decode_ours(chunks: Iterable[bytes]) -> int:
    feed = Decoder().feed
    return sum(len(feed(chunk)) for chunk in chunks)


def decode_httpx_sse(chunks: Iterable[bytes]) -> int:
    import httpx
    from httpx_sse import EventSource

    headers = {"content-type": "text/event-stream"}
    response = httpx.Response(200, headers=headers, content=iter(chunks))
    return sum(1 for _ in EventSource(response).iter_sse())


def decode_sseclient(chunks: Iterable[bytes]) -> int:
    from sseclient import SSEClient

    return sum(1 for _ in SSEClient(chunk for chunk in chunks).events())


class DeltaEvent(BaseEvent[Delta], event="delta"):
    """A delta as a typed event."""


def encode_ours() -> int:
    payload = delta(1)
    return sum(len(DeltaEvent(payload).encode(id=number)) > 0 for number in range(EVENTS))


def encode_sse_starlette() -> int:
    from sse_starlette import ServerSentEvent

    payload = delta(1)
    return sum(
        len(ServerSentEvent(payload.model_dump_json(), event="delta", id=str(number)).encode()) > 0
        for number in range(EVENTS)
    )


def encode_fastapi() -> int:
    from fastapi.sse import format_sse_event

    payload = delta(1)
    return sum(
        len(format_sse_event(data_str=payload.model_dump_json(), event="delta", id=str(number))) > 0
        for number in range(EVENTS)
    )


DECODERS = {
    "typed-sse": decode_ours,
    "httpx-sse": decode_httpx_sse,
    "sseclient-py": decode_sseclient,
}
ENCODERS = {
    "typed-sse": encode_ours,
    "sse-starlette": encode_sse_starlette,
    "fastapi": encode_fastapi,
}
TASKS: dict[str, list[str]] = {
    **{f"decode: {name}": list(DECODERS) for name in BODIES},
    f"decode: {ONE_BYTE}": ["typed-sse"],  # the others take minutes
    "encode: typed events": list(ENCODERS),
}


def measure(task: str, rival: str) -> float:
    """Return the best of a few runs of one rival at one task, in seconds."""
    kind, _, name = task.partition(": ")
    run: Callable[[], int]
    if kind == "encode":
        run = ENCODERS[rival]
    else:
        make, size = (huge_line, 1) if name == ONE_BYTE else BODIES[name]
        chunks = cut(make(), size)
        run = lambda: DECODERS[rival](chunks)  # noqa: E731
    times: list[float] = []
    for _ in range(1 if name == ONE_BYTE else REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def in_its_own_process(task: str, rival: str) -> float:
    command = [sys.executable, "-m", "bench.wire", task, rival]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    packages = [
        "typed-sse",
        "httpx-sse",
        "httpx",
        "sseclient-py",
        "sse-starlette",
        "fastapi",
        "pydantic",
    ]
    versions = {name: importlib.metadata.version(name) for name in packages}
    results: dict[str, dict[str, float]] = {}
    for task, rivals in TASKS.items():
        seconds: dict[str, list[float]] = {rival: [] for rival in rivals}
        for _ in range(1 if ONE_BYTE in task else ROUNDS):
            for rival in rivals:
                seconds[rival].append(in_its_own_process(task, rival))
        medians = {rival: statistics.median(times) for rival, times in seconds.items()}
        results[task] = medians
        ours = medians["typed-sse"]
        print(
            f"{task}: "
            + ", ".join(f"{r} {s * 1e3:.1f} ms ({s / ours:.2f})" for r, s in medians.items())
        )
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(machine, versions)
    with open("bench/results.json", "w", encoding="utf-8") as file:
        json.dump({"machine": machine, "versions": versions, "seconds": results}, file, indent=2)
        file.write("\n")


if __name__ == "__main__":
    if sys.argv[1:]:
        os.sched_setaffinity(0, {0})
        print(measure(sys.argv[1], sys.argv[2]))
    else:
        main()
