"""A look into a server that a crowd of clients is at, and into what the kernel holds for it.

Linux only, as `/proc` is; nothing here needs a privilege.
"""

import http.client
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import BaseModel

# The beginning of a server's program: an application that tells its own state.
PROGRAM = """
import asyncio
import contextlib
import gc
import os
import pathlib
import sys
import threading
import time

from fastapi import FastAPI

from typed_sse import EventSourceResponse
from typed_sse.registry import process_registry

unclosed = []


@contextlib.asynccontextmanager
async def lifespan(_):
    # A loop closes what the collector finds unclosed, and says nothing: so it is noted here.
    _, finalizer = sys.get_asyncgen_hooks()

    def note(generator):
        unclosed.append(generator.__qualname__)
        finalizer(generator)

    sys.set_asyncgen_hooks(finalizer=note)
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/state")
async def state(collect: bool = False):
    if collect:
        gc.collect()
    totals = process_registry.totals()
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return {
        "open": len(process_registry.open_streams()),
        "opened": totals.opened,
        "ended": totals.ended,
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "fds": len(os.listdir("/proc/self/fd")),
        "objects": len(gc.get_objects()) if collect else 0,
        "rss_kib": pages * os.sysconf("SC_PAGE_SIZE") // 1024,
        "unclosed": unclosed,
        "notes": notes(),
    }


def notes():
    return {}
"""

_LISTENING, _TIME_WAIT = "0A", "06"


class State(BaseModel):
    """What a server says of itself.

    Attributes:
        open: streams that are open.
        opened: streams that were opened.
        ended: how many have ended by each cause.
        tasks: tasks of its loop, the answer's own included.
        threads: its threads.
        fds: its file descriptors, the answer's own included.
        objects: what its collector knows of; 0 where that was not asked for.
        rss_kib: its resident memory, in KiB.
        unclosed: the async generators that were left to the collector.
        notes: what the program adds.
    """

    open: int
    opened: int
    ended: Mapping[str, int]
    tasks: int
    threads: int
    fds: int
    objects: int
    rss_kib: int
    unclosed: list[str]
    notes: Mapping[str, int]


class Server:
    """A running server with the program above, seen from outside."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        assert address.port is not None
        self.host = address.hostname
        self.port = address.port

    def get(self, path: str) -> bytes:
        with closing(http.client.HTTPConnection(self.host, self.port, timeout=10)) as connection:
            connection.request("GET", path, headers={"Connection": "close"})
            return connection.getresponse().read()

    def state(self, *, collect: bool = False) -> State:
        return State.model_validate_json(self.get(f"/state?collect={collect}"))

    def wait_until(
        self, what: str, holds: Callable[[State], bool], limit_s: float, *, collect: bool = False
    ) -> State:
        """Return the first state that `holds`, or fail with the last one."""
        deadline = time.monotonic() + limit_s
        while True:
            state = self.state(collect=collect)
            if holds(state):
                return state
            if time.monotonic() > deadline:
                pytest.fail(f"not within {limit_s:g} s: {what}\n{state}")
            time.sleep(0.1)  # between two looks

    def held_by_the_kernel(self) -> set[int]:
        """Return the clients' ports of the connections that the kernel still holds for the server.

        That is more than the server's file descriptors: a socket that is closed stays until its
        last bytes are acknowledged, and they with it.
        """
        held: set[int] = set()
        for row in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
            _, local, remote, state, *_ = row.split()
            if _port(local) == self.port and state not in (_LISTENING, _TIME_WAIT):
                held.add(_port(remote))
        return held


def _port(address: str) -> int:
    return int(address.partition(":")[2], 16)
