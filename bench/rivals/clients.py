"""Clients in Python: `python -m bench.rivals.clients NAME`, asked by `bench.client`.

Each reads a stream over its own HTTP client, kept from run to run, up to `[DONE]`, by the way its
documentation shows. A rival has two ways, one to bare events and one to models:

- typed-sse: `messages()`; a class of event with a Pydantic payload. With reconnection and all.
- httpx2: `client.sse()`; the same model, by `model_validate_json`.
- httpx-sse: `connect_sse`, which needs httpx; the same model, as above.
- openai: to bare events, `_iter_events` of its stream, which is private; to models, `create` with
  `stream=True`, which gives models of its own, made without validation.

In memory, the HTTP client's transport is its own mock, with the body in chunks of 64 KiB.
"""

import asyncio
import gc
import json
import os
import resource
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from bench.alone import asked
from pydantic import BaseModel

DONE = "[DONE]"
HEADERS = {"Content-Type": "text/event-stream"}
CHUNK_BYTES = 65_536
# No limit but the one of the machine; httpx's own would be a hundred connections.
LIMITS = {"max_connections": None, "max_keepalive_connections": None}

# What a run has seen: events, and characters of their data or of what they say.
Seen = tuple[int, int]
Client = Any


class Delta(BaseModel):
    content: str | None = None


class Choice(BaseModel):
    index: int
    delta: Delta
    finish_reason: str | None


class Chunk(BaseModel):
    id: str
    object: str
    choices: list[Choice]


class Stream:
    """The body in memory, as httpx and httpx2 take it, awaited or not."""

    def __init__(self, body: bytes) -> None:
        starts = range(0, len(body), CHUNK_BYTES)
        self._chunks = [body[start : start + CHUNK_BYTES] for start in starts]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._chunks)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


def options(http: Any, body: bytes | None, *, awaited: bool) -> dict[str, Any]:
    """Return what an HTTP client is made with: to answer from memory, or to connect."""
    if body is None:
        return {"limits": http.Limits(**LIMITS), "timeout": None}
    stream = Stream(body)

    async def answer(_: Any) -> Any:
        return http.Response(200, headers=HEADERS, content=aiter(stream))

    def answer_now(_: Any) -> Any:
        return http.Response(200, headers=HEADERS, content=iter(stream))

    return {"transport": http.MockTransport(answer if awaited else answer_now)}


# Each of these reads one stream with a client: to its events, or to models.


def ours(*, awaited: bool) -> tuple[Any, Any, Any]:
    import httpx2

    from typed_sse import BaseEvent
    from typed_sse.client import AsyncEventSource, EventSource

    class Told(BaseEvent[Chunk], event="delta"):
        pass

    async def events(client: Client, url: str) -> Seen:
        count = size = 0
        async with AsyncEventSource(url, client=client, sentinel=DONE) as source:
            async for event in source.messages():
                count += 1
                size += len(event.data or "")
        return count - 1, size - len(DONE)

    async def models(client: Client, url: str) -> Seen:
        count = size = 0
        async with AsyncEventSource(url, Told, client=client, sentinel=DONE) as source:
            async for event in source:
                count += 1
                size += len(event.data.choices[0].delta.content or "")
        return count, size

    def events_now(client: Client, url: str) -> Seen:
        count = size = 0
        with EventSource(url, client=client, sentinel=DONE) as source:
            for event in source.messages():
                count += 1
                size += len(event.data or "")
        return count - 1, size - len(DONE)

    def models_now(client: Client, url: str) -> Seen:
        count = size = 0
        with EventSource(url, Told, client=client, sentinel=DONE) as source:
            for event in source:
                count += 1
                size += len(event.data.choices[0].delta.content or "")
        return count, size

    return (httpx2, events, models) if awaited else (httpx2, events_now, models_now)


def sse_of(
    http: Any, connect_async: Callable[..., Any], connect: Callable[..., Any], *, awaited: bool
) -> tuple[Any, Any, Any]:
    """Return the ways of a library that gives an object to iterate over; both look alike."""

    async def events(client: Client, url: str) -> Seen:
        count = size = 0
        async with connect_async(client, url) as source:
            async for event in source:
                if event.data == DONE:
                    break
                count += 1
                size += len(event.data)
        return count, size

    async def models(client: Client, url: str) -> Seen:
        count = size = 0
        async with connect_async(client, url) as source:
            async for event in source:
                if event.data == DONE:
                    break
                chunk = Chunk.model_validate_json(event.data)
                count += 1
                size += len(chunk.choices[0].delta.content or "")
        return count, size

    def events_now(client: Client, url: str) -> Seen:
        count = size = 0
        with connect(client, url) as source:
            for event in source:
                if event.data == DONE:
                    break
                count += 1
                size += len(event.data)
        return count, size

    def models_now(client: Client, url: str) -> Seen:
        count = size = 0
        with connect(client, url) as source:
            for event in source:
                if event.data == DONE:
                    break
                chunk = Chunk.model_validate_json(event.data)
                count += 1
                size += len(chunk.choices[0].delta.content or "")
        return count, size

    return (http, events, models) if awaited else (http, events_now, models_now)


def its_httpx2(*, awaited: bool) -> tuple[Any, Any, Any]:
    import httpx2

    return sse_of(httpx2, httpx2.AsyncClient.sse, httpx2.Client.sse, awaited=awaited)


def its_httpx_sse(*, awaited: bool) -> tuple[Any, Any, Any]:
    from contextlib import asynccontextmanager, contextmanager

    import httpx
    from httpx_sse import aconnect_sse, connect_sse

    @asynccontextmanager
    async def connect_async(client: Client, url: str) -> AsyncGenerator[Any]:
        async with aconnect_sse(client, "GET", url) as source:
            yield source.aiter_sse()

    @contextmanager
    def connect(client: Client, url: str) -> Generator[Any]:
        with connect_sse(client, "GET", url) as source:
            yield source.iter_sse()

    return sse_of(httpx, connect_async, connect, awaited=awaited)


def its_openai(*, awaited: bool) -> tuple[Any, Any, Any]:
    import httpx2
    from openai import AsyncOpenAI, OpenAI

    asking: dict[str, Any] = {
        "model": "any",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
    }

    def created(kind: Any, client: Client, url: str) -> Any:
        its = kind(api_key="any", base_url=url, http_client=client, max_retries=0)
        return its.chat.completions.create(**asking)

    async def events(client: Client, url: str) -> Seen:
        count = size = 0
        async with await created(AsyncOpenAI, client, url) as stream:
            async for event in stream._iter_events():  # noqa: SLF001
                if event.data == DONE:
                    break
                count += 1
                size += len(event.data)
        return count, size

    async def models(client: Client, url: str) -> Seen:
        count = size = 0
        async with await created(AsyncOpenAI, client, url) as stream:
            async for chunk in stream:
                count += 1
                size += len(chunk.choices[0].delta.content or "")
        return count, size

    def events_now(client: Client, url: str) -> Seen:
        count = size = 0
        with created(OpenAI, client, url) as stream:
            for event in stream._iter_events():  # noqa: SLF001
                if event.data == DONE:
                    break
                count += 1
                size += len(event.data)
        return count, size

    def models_now(client: Client, url: str) -> Seen:
        count = size = 0
        with created(OpenAI, client, url) as stream:
            for chunk in stream:
                count += 1
                size += len(chunk.choices[0].delta.content or "")
        return count, size

    return (httpx2, events, models) if awaited else (httpx2, events_now, models_now)


CLIENTS: dict[str, Callable[..., tuple[Any, Any, Any]]] = {
    "typed-sse": ours,
    "httpx2": its_httpx2,
    "httpx-sse": its_httpx_sse,
    "openai": its_openai,
}


def timed(name: str, case: dict[str, Any], seconds: float) -> dict[str, float]:
    """Read the stream of a case for so many seconds, again and again; tell of the best time.

    It is the CPU's: waiting for the server, or for whatever else the machine does, is no cost.
    """
    http, events, models = CLIENTS[name](awaited=case["awaited"])
    read = models if case["models"] else events
    body = Path(case["file"]).read_bytes() if case["in_memory"] else None
    its = options(http, body, awaited=case["awaited"])
    seen: list[Seen] = []
    times: list[float] = []

    def note(begin_s: float, its: Seen) -> None:
        times.append(time.process_time() - begin_s)
        seen.append(its)

    async def runs() -> None:
        async with http.AsyncClient(**its) as client:
            while sum(times) < seconds:
                begin_s = time.process_time()
                note(begin_s, await read(client, case["url"]))

    if case["awaited"]:
        asyncio.run(runs())
    else:
        with http.Client(**its) as client:
            while sum(times) < seconds:
                begin_s = time.process_time()
                note(begin_s, read(client, case["url"]))
    return {"seconds": min(times), "events": seen[-1][0], "characters": seen[-1][1]}


# What an open stream holds: for both a task, and one client that all share.


async def held_by_ours(client: Client, url: str, came: Callable[[], None]) -> None:
    from typed_sse.client import AsyncEventSource

    async with AsyncEventSource(url, client=client) as source:
        async for _ in source:
            came()


async def held_by_httpx2(client: Client, url: str, came: Callable[[], None]) -> None:
    async with client.stream("GET", url) as response:
        async for _ in response.aiter_bytes():
            came()


HOLDING: dict[str, Callable[..., Awaitable[None]]] = {
    "typed-sse": held_by_ours,
    "httpx2": held_by_httpx2,
}


async def held_kib(name: str, url: str, streams: int) -> float:
    """Return by how much the memory has grown a stream, once each has had something."""
    import httpx2

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(8192, hard)), hard))
    hold = HOLDING[name]
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            httpx2.AsyncClient(**options(httpx2, None, awaited=True))
        )
        tasks: list[asyncio.Task[None]] = []
        before_kib = 0.0
        # What is made once is there after the first; it does not count.
        for count in (1, streams):
            arrived = 0
            everybody = asyncio.Event()

            def came(count: int = count) -> None:
                nonlocal arrived
                arrived += 1
                if arrived == count:
                    everybody.set()  # noqa: B023

            gc.collect()
            before_kib = resident_kib()
            tasks += [asyncio.ensure_future(hold(client, url, came)) for _ in range(count)]
            await everybody.wait()
        gc.collect()
        grown_kib = resident_kib() - before_kib
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return grown_kib / streams


def resident_kib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def main(name: str) -> None:
    question = asked()
    if "streams" in question:
        held = partial(held_kib, name, question["url"], question["streams"])
        print(json.dumps(asyncio.run(held())))
        return
    print(json.dumps([timed(name, case, question["seconds"]) for case in question["cases"]]))


if __name__ == "__main__":
    main(sys.argv[1])
