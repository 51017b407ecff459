"""The clients that the engines stand on, used directly for the same durable write.

Asked by `bench.engines`: `python -m bench.rivals.engine_raw [blocking]`. The same payload is made,
written as JSON, numbered by the server and stored; where readers elsewhere would have to be told,
the same write tells them. Nothing is checked or framed, and nobody reads. Each is set up as its
documentation says:

- sqlite3: a transaction an event in WAL with synchronous=NORMAL; in a thread, since otherwise the
  loop would stand still; `blocking` is without that.
- redis-py: one small script that counts, stores and publishes.
- nats-py: a publish to a JetStream that republishes; it waits for the stream's answer.
"""

import asyncio
import json
import sqlite3
import sys
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from importlib import import_module
from typing import Any

import uvloop
from bench.alone import asked
from bench.rivals.appending import CHANNEL, KEPT_EVENTS, Append, rate_of
from bench.rivals.source import Delta
from nats.js.api import RePublish, StreamConfig
from redis.asyncio import Redis

BLOCKING = sys.argv[1:] == ["blocking"]
SCRIPT = """
local pos = redis.call('INCR', KEYS[1] .. ':tail')
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], pos .. '-1', 'data', ARGV[1])
redis.call('PUBLISH', KEYS[1], ARGV[1])
return pos
"""


def encoded(made: Delta) -> bytes:
    return made.__pydantic_serializer__.to_json(made)


@asynccontextmanager
async def in_sqlite(url: str) -> AsyncGenerator[Append, None]:
    loop = asyncio.get_running_loop()
    path = url.removeprefix("sqlite:///")
    with (
        ThreadPoolExecutor(1) as thread,
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as database,
    ):
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute("CREATE TABLE raw (pos INTEGER PRIMARY KEY, channel TEXT, data BLOB)")

        def insert(data: bytes) -> None:
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO raw (channel, data) VALUES (?, ?)", (CHANNEL, data))
            database.execute("COMMIT")

        async def append(made: Delta) -> None:
            if BLOCKING:
                insert(encoded(made))
            else:
                await loop.run_in_executor(thread, insert, encoded(made))

        yield append


@asynccontextmanager
async def in_redis(url: str) -> AsyncGenerator[Append, None]:
    async with Redis(port=int(url.rpartition(":")[2])) as client:
        script = client.register_script(SCRIPT)
        yield lambda made: script(keys=[f"raw:{CHANNEL}"], args=[encoded(made), KEPT_EVENTS])


@asynccontextmanager
async def in_nats(url: str) -> AsyncGenerator[Append, None]:
    client = await import_module("nats").connect(url)  # it is not typed in full
    try:
        stream = client.jetstream()
        subject = f"raw.{CHANNEL}"
        await stream.add_stream(
            StreamConfig(
                name="raw",
                subjects=["raw.*"],
                max_msgs_per_subject=KEPT_EVENTS,
                republish=RePublish(src="raw.*", dest="told.{{wildcard(1)}}"),
            )
        )
        yield lambda made: stream.publish(subject, encoded(made))
    finally:
        await client.close()


CLIENTS = {"sqlite": in_sqlite, "redis": in_redis, "nats": in_nats}


async def main(what: dict[str, Any]) -> dict[str, float]:
    url: str = what["url"]
    async with CLIENTS[url.partition(":")[0]](url) as append:
        return await rate_of(append, what["publishers"], what["window_s"])


if __name__ == "__main__":
    print(json.dumps(uvloop.run(main(asked()))))
