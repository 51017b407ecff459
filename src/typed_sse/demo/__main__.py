"""Serves the demo on http://127.0.0.1:12345, or on the port given as the first argument.

With the engine that `TYPED_SSE_URL` names, where that is one that processes share, by two workers.
"""

import asyncio
import sys

import uvicorn

from typed_sse.channels import Hub
from typed_sse.demo import URL_VARIABLE, engine_url
from typed_sse.errors import EngineUnavailable, InvalidField


async def _workers(url: str) -> int:
    """Return how many workers there can be, once the engine was there."""
    async with Hub(url) as hub:
        return 2 if hub.engine.caps.shared else 1


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 12345
    try:
        workers = asyncio.run(_workers(engine_url()))
    except (EngineUnavailable, ImportError, InvalidField) as error:
        sys.exit(f"{URL_VARIABLE}: {error}")
    uvicorn.run("typed_sse.demo.app:app", host="127.0.0.1", port=port, workers=workers)
