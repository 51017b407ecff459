"""A program that ends while a client is open: nothing of it is seen."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

TESTS = Path(__file__).parent.parent

HEAD = f"""
import asyncio, sys, threading
sys.path.insert(0, {str(TESTS)!r})
from answers import *
STEPS = b"data: 1\\n\\ndata: 2\\n\\n", STALL
"""

ASYNC = """
async def main():
    source = AsyncEventSource(URL, client=AsyncScript(AsyncReply(*STEPS)))
    {body}

try:
    asyncio.run(main())
except LookupError:
    pass
print("ended")
"""

SYNC = """
source = EventSource(URL, client=SyncScript(SyncReply(*STEPS)))
{body}
print("ended")
"""

ASYNC_BODIES = [
    "async for event in source: break",
    "async for event in source.messages(): break",
    "await anext(source); asyncio.create_task(anext(source)); await asyncio.sleep(0)",
    "await anext(source); raise LookupError",
    "asyncio.create_task(anext(source))",
    "async with source: await anext(source)",
    "pass",
]
SYNC_BODIES = [
    "for event in source: break",
    "for event in source.messages(): break",
    "threading.Thread(target=list, args=(source,), daemon=True).start()",
    "kept = iter(source.messages()); next(kept)",
    "pass",
]


@pytest.mark.parametrize(
    "program",
    [ASYNC.format(body=body) for body in ASYNC_BODIES]
    + [SYNC.format(body=body) for body in SYNC_BODIES],
    ids=ASYNC_BODIES + SYNC_BODIES,
)
def test_a_program_that_ends_with_an_open_source_says_nothing_of_it(program: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", HEAD + program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == ("ended\n", "")
