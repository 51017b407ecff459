"""One rival alone: a process of its own, pinned to a core, that is asked once and answers once.

What is asked goes in as JSON, what was measured comes out as JSON. Only Linux. Knows nothing of who
is compared, or of what is asked.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.running import ROOT, SERVER_CORE


def answer(command: Sequence[str], asked: object, core: int = SERVER_CORE) -> Any:
    """Run a command, pinned from its first instruction; what it prints is the answer."""
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core if core in ours else min(ours)})
    try:
        done = subprocess.run(
            command,
            check=True,
            cwd=ROOT,
            input=json.dumps(asked),
            stdout=subprocess.PIPE,
            text=True,
        )
    finally:
        os.sched_setaffinity(0, ours)
    return json.loads(done.stdout)


def asked() -> Any:
    """Return what this process was asked."""
    return json.load(sys.stdin)


def best_of(run: Callable[[], object], seconds: float) -> float:
    """Return the seconds that the best of some runs has taken; there are runs for so many seconds.

    The best, because whatever else the machine does can only make a run slower.
    """
    times: list[float] = []
    while sum(times) < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
