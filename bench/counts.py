"""What do the hot paths do? Counted and held to bounds, on any machine: `python -m bench.counts`.

One task, timer, wake-up, call or copy more for each event is lost in the noise of a clock, and seen
at once by who counts; bench/counting.py says how. `python -m bench.counts burst` also lists what
the path `burst` calls, and where it allocates memory.
"""

import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeAlias

from bench.counting import (
    KIB,
    AppOf,
    Path,
    Tally,
    handed_out,
    idle,
    never,
    opened,
    running_loop,
    streamed,
)
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

from typed_sse import BaseEvent, Decoder, EventSourceResponse, ServerSentEvent, event_source
from typed_sse.channels import Channel, Hub
from typed_sse.fastapi import EventRouter
from typed_sse.sources import Sendable

A_PIECE = 1 / 64  # 64 events leave in one piece
NONE = {"futures": 0, "tasks": 0, "timers": 0, "garbage": 0}
FOR_ALL = {"sends": A_PIECE, "handles": A_PIECE} | NONE
FOR_ONE = {"sends": 1, "handles": 1} | NONE
# The server's own task is among these; the one timer is the loop's, for all connections there are.
TO_OPEN = {"garbage": 0, "sends": 2, "handles": 7, "futures": 0, "tasks": 2, "timers": 1}

# The most of each that there may be for one event, connection or chunk, on every Python. `handles`
# are what the loop is given to run, wake-ups included; `garbage` are objects that only the garbage
# collector frees; `KiB allocated` are in pieces of a KiB or more.
BOUNDS: Mapping[str, Mapping[str, float]] = {
    "burst": {"calls": 6.15, "C calls": 6.1} | FOR_ALL,
    "burst, FastAPI": {"calls": 6.2, "C calls": 6.1} | FOR_ALL,
    "burst, records": {"calls": 9.15, "C calls": 10.1} | FOR_ALL,
    "burst, dicts": {"calls": 11.15, "C calls": 12.1} | FOR_ALL,
    "burst, 4 KiB": {"KiB allocated": 13.2},  # JSON, the frame with a fifth to spare, the piece
    "trickle": {"calls": 12, "C calls": 12} | FOR_ONE,
    "trickle, FastAPI": {"calls": 14, "C calls": 12} | FOR_ONE,
    "trickle, 64 KiB": {"KiB allocated": 145},  # JSON, the frame
    "open": {"calls": 83} | TO_OPEN,
    "open, FastAPI": {"calls": 293} | TO_OPEN,
    "idle": {"KiB held": 6.4},
    "idle, FastAPI": {"KiB held": 15.1},
    "fan-out": {"calls": 2, "C calls": 6.1, "sends": 1, "handles": 0} | NONE,
    "fan-out, idle": {"KiB held": 6.9},
    "encode": {"calls": 3, "C calls": 2},
    "decode": {"calls": 0.07, "C calls": 3.2},
    "decode, byte by byte": {"calls": 1, "C calls": 1, "KiB allocated": 0.1},
}
# Where one more would go unseen, a bound guards nothing. Python 3.11 calls the most, so the bounds
# are its own; on a later one a count may be lower by this share without a word.
SLACK = 0.0 if sys.version_info < (3, 12) else 0.15


class Chunk(BaseModel):
    id: str
    index: int
    text: str


class Delta(BaseEvent[Chunk]): ...


class Page(BaseEvent[str]): ...


CHUNK = Chunk(id="chatcmpl-9f2c7d1e", index=0, text=" word")
Events: TypeAlias = Callable[[], AsyncIterator[Delta | Page]]


def typed(count: int, *, kib: int | None = None, lone: bool = False, ends: bool = True) -> Events:
    """Make a generator of typed events that are ready at once, or `lone`: each waited for."""
    text = "x" * (kib or 0) * KIB

    async def source() -> AsyncIterator[Delta | Page]:
        for _ in range(count):
            if lone:
                await running_loop().quiet()
            yield Delta(CHUNK) if kib is None else Page(text)
        if not ends:
            await never()

    return source


def untyped(count: int, make: Callable[[], Sendable]) -> Callable[[], AsyncIterator[Sendable]]:
    async def source() -> AsyncIterator[Sendable]:
        for _ in range(count):
            yield make()

    return source


def plain(source: Callable[[], AsyncIterable[Sendable]]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await EventSourceResponse(source())(scope, receive, send)

    return app


class Feed:
    """A channel and the application that reads it, each time anew."""

    channel: Channel[Delta]

    @asynccontextmanager
    async def entered(self) -> AsyncGenerator[None]:
        """Make it, and let it be there meanwhile."""
        async with Hub("memory://") as hub:
            self.channel = Channel("feed", Delta, hub=hub)
            yield

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Subscribe."""
        await EventSourceResponse(self.channel.subscribe())(scope, receive, send)

    async def publish(self) -> None:
        """Publish one event."""
        await self.channel.publish(Delta(CHUNK))


def in_fastapi(source: Events) -> ASGIApp:
    app, router = FastAPI(), EventRouter()
    router.get("/")(source)
    app.include_router(router)
    return app


def encoded(tally: Tally, events: int) -> None:
    event = Delta(CHUNK)
    with tally:
        for number in range(events):
            event.encode(id=number)


def decoded(tally: Tally, events: int) -> None:
    decoder, body = Decoder(), Delta(CHUNK).encode() * 64
    with tally:
        for _ in range(events // 64):
            decoder.feed(body)


def decoded_byte_by_byte(tally: Tally, chunks: int, decoder: type[Decoder] = Decoder) -> None:
    feed = decoder().feed
    feed(b"data: " + bytes(16 * KIB))
    with tally:
        for _ in range(chunks):
            feed(b"x")


def _record() -> ServerSentEvent:
    return ServerSentEvent(" word", event="delta")


def _dict() -> dict[str, object]:
    return {"data": " word", "event": "delta"}


def paths(doctor: Callable[[ASGIApp], ASGIApp] = lambda app: app) -> dict[str, Path]:
    """Return every path, its applications put into what `doctor` makes of them."""

    def ours(source_of: Callable[[int], Events]) -> AppOf:
        return lambda n: doctor(plain(event_source(source_of(n))))

    def routed(source_of: Callable[[int], Events]) -> AppOf:
        return lambda n: doctor(in_fastapi(source_of(n)))

    def anything(make: Callable[[], Sendable]) -> AppOf:
        return lambda n: doctor(plain(untyped(n, make)))

    feed = Feed()
    lone, waiting = partial(typed, lone=True), partial(typed, ends=False)
    in_pieces, large = partial(typed, kib=4), partial(typed, kib=64, lone=True)
    return {
        "burst": Path(streamed(ours(typed))),
        "burst, FastAPI": Path(streamed(routed(typed))),
        "burst, records": Path(streamed(anything(_record))),
        "burst, dicts": Path(streamed(anything(_dict))),
        "burst, 4 KiB": Path(streamed(ours(in_pieces)), memory=True),
        "trickle": Path(streamed(ours(lone))),
        "trickle, FastAPI": Path(streamed(routed(lone))),
        "trickle, 64 KiB": Path(streamed(ours(large)), times=16, memory=True),
        "open": Path(opened(ours(waiting)), "connection", 20),
        "open, FastAPI": Path(opened(routed(waiting)), "connection", 20),
        "idle": Path(idle(ours(waiting)), "connection", 20),
        "idle, FastAPI": Path(idle(routed(waiting)), "connection", 20),
        "fan-out": Path(
            handed_out(lambda _: doctor(feed.app), feed.entered, feed.publish), "delivery"
        ),
        "fan-out, idle": Path(idle(lambda _: doctor(feed.app), feed.entered), "connection", 20),
        "encode": Path(encoded),
        "decode": Path(decoded),
        "decode, byte by byte": Path(decoded_byte_by_byte, "chunk", memory=True),
    }


def check(chosen: Mapping[str, Path], *, show_calls: bool = False) -> bool:
    """Print what is counted on the paths, and what to do about it; return whether all is well."""
    above: list[str] = []
    below: list[str] = []
    print("What is 0, and may only be 0, is left out.")
    print(f"{'path':22}{'for each':12}{'counted':15}{'count':>8}{'bound':>9}")
    for name, path in chosen.items():
        figures, called = path.count()
        for what, bound in BOUNDS[name].items():
            count = figures.get(what, 0)
            if count or bound:
                print(f"{name:22}{path.each:12}{what:15}{count:8.5g}{bound:9.5g}")
            told = f"{name}: {count:.5g} {what} for each {path.each}; the bound is {bound:.5g}."
            if count > bound:
                above.append(f"{told} Find out what is new: python -m bench.counts {name!r}")
            elif bound - count >= max(1, SLACK * bound):
                below.append(told)
        if show_calls:
            for function, calls in sorted(called.items(), key=lambda item: -item[1]):
                if calls > 0:
                    print(f"{calls:12.5g} {function}")
    if below:
        print("\nBelow the bound: lower it in bench/counts.py, or one more would go unseen.")
        print(*below, sep="\n")
    if above:
        print("\nABOVE THE BOUND: undo it; or raise the bound in bench/counts.py, and say why.")
        print(*above, sep="\n")
    return not above


def main(names: Sequence[str]) -> int:
    every = paths()
    if unknown := set(names) - set(every):
        print(f"no such path: {', '.join(sorted(unknown))}; there are: {', '.join(every)}")
        return 2
    chosen = {name: every[name] for name in names} or every
    return 0 if check(chosen, show_calls=bool(names)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
