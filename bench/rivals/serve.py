"""Runs one rival's application under uvicorn: `python -m bench.rivals.serve MODULE PORT`.

On SIGUSR1 it prints how many asyncio tasks there are; nothing else is added to the rival. Knows
uvicorn, nothing of the applications.
"""

import asyncio
import importlib
import signal
import sys

import uvicorn
import uvloop


def announce_tasks() -> None:
    """Print the number of tasks of this loop whenever SIGUSR1 comes."""
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGUSR1, lambda: print(len(asyncio.all_tasks()), flush=True)
    )


async def main(name: str, port: int) -> None:
    module = importlib.import_module(name)
    config = uvicorn.Config(
        module.app,
        host="127.0.0.1",
        port=port,
        http="httptools",
        lifespan=getattr(module, "LIFESPAN", "off"),  # most have nothing to start or stop
        ws="none",
        backlog=4096,
        access_log=False,
        log_level="warning",
    )
    announce_tasks()
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
