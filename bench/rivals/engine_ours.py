"""typed-sse's engines: publishing to a channel, and how late its events are elsewhere.

Asked by `bench.engines`. What is late is measured in one process and published in another, which
this one starts; with the memory engine, which has one process, in a task of its own.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager

import uvloop
from bench.alone import asked
from bench.rivals.appending import CHANNEL, KEPT_EVENTS, SIZE, quantiles, rate_of
from bench.rivals.source import delta, filling
from bench.rivals.tokens import Token
from bench.running import ROOT

from typed_sse.channels import Channel, Hub, Retain

PAUSE_S = 0.01
# What comes first is slower: connections are made, pages are read.
WARM_EVENTS = 50
PATIENCE_S = 60
MOST_EVENTS = 6000  # by itself it stops after a minute, should nobody stop it
IN_ONE_PROCESS = "memory://"
PUBLISH = "publish"


@asynccontextmanager
async def feed_at(url: str) -> AsyncGenerator[Channel[Token], None]:
    async with Hub(url) as hub:
        yield Channel(CHANNEL, Token, hub=hub, retain=Retain(events=KEPT_EVENTS))


async def appended(url: str, publishers: int, window_s: float) -> dict[str, float]:
    async with feed_at(url) as feed:
        return await rate_of(lambda made: feed.publish(Token(made)), publishers, window_s)


async def delivered(url: str, events: int) -> dict[str, float]:
    async with feed_at(url) as feed:
        if url != IN_ONE_PROCESS:
            return await late(feed, events)
        publisher = asyncio.create_task(publish_slowly(feed))
        try:
            return await late(feed, events)
        finally:
            publisher.cancel()


async def late(feed: Channel[Token], events: int) -> dict[str, float]:
    took: list[float] = []
    async with asyncio.timeout(PATIENCE_S), aclosing(feed.subscribe()) as stream:
        async for event in stream:
            took.append(time.monotonic_ns() / 1e9 - event.data.at_us / 1e6)
            if len(took) == WARM_EVENTS + events:
                break
    return quantiles(took[WARM_EVENTS:])


async def publish_slowly(feed: Channel[Token]) -> None:
    text = filling(SIZE)
    for number in range(MOST_EVENTS):
        await feed.publish(Token(delta(number, text)))
        await asyncio.sleep(PAUSE_S)


async def publish_elsewhere(url: str) -> None:
    async with feed_at(url) as feed:
        await publish_slowly(feed)


@contextmanager
def publishing_elsewhere(url: str) -> Generator[None, None, None]:
    if url == IN_ONE_PROCESS:
        yield
        return
    command = [sys.executable, "-m", "bench.rivals.engine_ours", PUBLISH, url]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            yield
        finally:
            process.kill()


def main() -> None:
    what = asked()
    url: str = what["url"]
    if "events" not in what:
        seen = uvloop.run(appended(url, what["publishers"], what["window_s"]))
    else:
        with publishing_elsewhere(url):
            seen = uvloop.run(delivered(url, what["events"]))
    print(json.dumps(seen))


if __name__ == "__main__":
    if sys.argv[1:2] == [PUBLISH]:
        uvloop.run(publish_elsewhere(sys.argv[2]))
    else:
        main()
