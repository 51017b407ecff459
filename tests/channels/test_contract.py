"""The contract suite on the engines in memory, on Redis and on NATS; test_sqlite has SQLite's."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import pytest

from channels.nats_server import NatsServer
from channels.redis_server import RedisServer
from channels.server import Server
from typed_sse.channels.memory import MemoryEngine, MemoryStore
from typed_sse.channels.nats import NatsEngine
from typed_sse.channels.redis import RedisEngine
from typed_sse.testing import EngineContract, FaultyEngine, VirtualTimeLoop

TIMEOUT_S = 2.0

T = TypeVar("T")


def without(*laws: str) -> Callable[[type[T]], type[T]]:
    """Leave out what cannot be asked of a store: a test that is skipped looks like one that ran."""

    def leave_out(cls: type[T]) -> type[T]:
        for law in laws:
            assert callable(getattr(cls, law))
            setattr(cls, law, None)
        return cls

    return leave_out


OUTLIVES = (
    "test_what_a_store_has_kept_is_there_after_an_outage",
    "test_what_was_appended_outlives_an_outage_in_the_midst",
)
CONNECTED = (
    "test_a_lost_connection_is_told_before_the_next_record_and_watches_on",
    "test_appends_that_lose_their_connection_are_done_once_with_a_key",
    "test_without_a_store_every_call_fails_in_time_and_says_why",
    "test_a_store_that_does_not_answer_is_waited_for_until_the_timeout",
    "test_calls_that_are_cancelled_while_a_store_does_not_answer_end_at_once",
)


class InMemory(EngineContract):
    examples = 30

    def runner(self) -> asyncio.Runner:
        return asyncio.Runner(loop_factory=VirtualTimeLoop)

    @cached_property
    def store(self) -> MemoryStore:
        self.passed_s = 0.0
        return MemoryStore(lambda: self.passed_s + asyncio.get_running_loop().time())

    async def copy_store(self) -> object:
        return self.store.copy()

    async def restore_store(self, copy: object) -> None:
        assert isinstance(copy, MemoryStore)
        self.store.restore(copy)

    async def clear_store(self) -> None:
        self.store.restore(MemoryStore())

    async def pass_time(self, seconds: float) -> None:
        self.passed_s += seconds


@without(*OUTLIVES, *CONNECTED)  # it is there as long as its process; TestFaulty takes it away
class TestMemory(InMemory):
    def make(self) -> MemoryEngine:
        return MemoryEngine(self.store)


@without(*OUTLIVES)
class TestFaulty(InMemory):
    """Without faults of its own; the store in memory is lost as a server is."""

    examples = 10
    kind = FaultyEngine

    @cached_property
    def store(self) -> MemoryStore:
        self.engines: list[FaultyEngine] = []
        self.away = False
        return super().store

    def make(self) -> FaultyEngine:
        engine = self.kind(MemoryEngine(self.store))
        self.engines.append(engine)
        if self.away:
            engine.crash()
        return engine

    async def lose_connection(self) -> None:
        for engine in self.engines:
            engine.lose_connection()

    @asynccontextmanager
    async def outage(self) -> AsyncGenerator[None]:
        self.away = True
        for engine in self.engines:
            engine.crash()
        yield
        self.away = False
        self.store.restore(MemoryStore())
        for engine in self.engines:
            engine.recover()

    @asynccontextmanager
    async def stall(self) -> AsyncGenerator[None]:
        for engine in self.engines:
            engine.stall()
        yield
        for engine in self.engines:
            engine.resume()


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis") / "data")
    asyncio.run(server.start())
    yield server
    server.kill()


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats") / "data")
    asyncio.run(server.start())
    yield server
    server.kill()


class ServedContract(EngineContract):
    """An engine whose store is a server."""

    server: Server
    folder: Path

    async def lose_connection(self) -> None:
        cut(self.server.port)

    @asynccontextmanager
    async def outage(self) -> AsyncGenerator[None]:
        self.server.kill()
        try:
            yield
        finally:
            await self.server.start()

    @asynccontextmanager
    async def stall(self) -> AsyncGenerator[None]:
        self.server.pause()
        try:
            yield
        finally:
            self.server.go_on()

    async def copy_store(self) -> object:
        copy = self.folder / "copy"
        self.server.stop()
        self.server.copy(copy)
        await self.server.start()
        return copy

    async def restore_store(self, copy: object) -> None:
        assert isinstance(copy, Path)
        self.server.kill()
        self.server.put_back(copy)
        await self.server.start()

    async def clear_store(self) -> None:
        self.server.kill()
        self.server.clear()
        await self.server.start()


@pytest.mark.live
@without("test_a_key_is_remembered_for_its_window")  # nobody can move a server's clock
class TestRedis(ServedContract):
    @pytest.fixture(autouse=True)
    def given(self, redis_server: RedisServer, tmp_path: Path) -> None:
        self.server, self.folder = redis_server, tmp_path

    def make(self) -> RedisEngine:
        return RedisEngine(self.server.url, timeout_s=TIMEOUT_S)


@pytest.mark.live
@without("test_a_key_is_remembered_for_its_window")
class TestNats(ServedContract):
    @pytest.fixture(autouse=True)
    def given(self, nats_server: NatsServer, tmp_path: Path) -> None:
        self.server, self.folder = nats_server, tmp_path

    def make(self) -> NatsEngine:
        return NatsEngine(self.server.url, timeout_s=TIMEOUT_S)


def cut(port: int) -> None:
    """Break all connections of this process to a port, as a network does."""
    for name in os.listdir("/proc/self/fd"):
        # The folder's own one is closed by now.
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as other:
                    if other.family is socket.AF_INET and other.getpeername()[1] == port:
                        other.shutdown(socket.SHUT_RDWR)
