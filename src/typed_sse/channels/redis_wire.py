"""Calls to a Redis server: many at once over one connection, each with an outcome in time.

A call is answered, or ends by its deadline with the error that says what is known of it. redis-py
makes the connections from the URL; its pools, its retries and its `PubSub`, which reconnects
without a word, are not used. The only file that knows redis-py; knows nothing of channels.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from math import inf
from typing import NoReturn, Protocol, cast
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import parse_url
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoScriptError,
    RedisError,
    ResponseError,
)

from typed_sse.channels.redis_scripts import Script
from typed_sse.errors import EngineUnavailable, InvalidField, OutcomeUnknown

# So many calls wait on one connection at most; more wait for a place.
_MOST_CALLS = 256


class _Connection(Protocol):
    """What is used of a connection of redis-py."""

    async def connect(self) -> None: ...
    async def disconnect(self) -> None: ...
    async def send_packed_command(
        self, command: Iterable[bytes], check_health: bool = True
    ) -> None: ...
    async def read_response(
        self, disable_decoding: bool = False, *, disconnect_on_error: bool = True
    ) -> object: ...


class _Pool(Protocol):
    """What is used of a pool of redis-py: that it knows what a connection is made with."""

    connection_kwargs: dict[str, object]

    def make_connection(self) -> _Connection: ...


class LostError(Exception):
    """A connection broke, or could not be made; says why."""


class Call:
    """Commands that are sent together.

    Args:
        deadline_s: when nobody waits any more, by the loop's clock.
        commands: what to send.
        answers: how many answers it has; by default one a command.

    Attributes:
        answers: what the server said, or the errors that it said, in order.
        written: it may have been sent.
    """

    __slots__ = ("answers", "count", "deadline_s", "packed", "said", "written")

    def __init__(
        self, deadline_s: float, commands: Sequence[Sequence[bytes]], answers: int = 0
    ) -> None:
        self.deadline_s = deadline_s
        self.packed = b"".join(map(_packed, commands))
        self.count = answers or len(commands)
        self.said: list[object] = []
        self.answers: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()
        self.written = False


class Wire:
    """A connection.

    1. What is sent goes out in that order; what comes up meanwhile, together.
    2. `_written` holds what went out and was not answered, in order; `_unsent` what the server has
       not made room for.
    """

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._unsent: list[Call] = []
        self._written: deque[Call] = deque()
        self._some = asyncio.Event()
        self._heard_s = -inf
        self._reason = "the connection was closed"
        self._clock = asyncio.get_running_loop().time
        self._writer = asyncio.create_task(self._write())

    def send(self, call: Call) -> None:
        """Send it soon."""
        self._unsent.append(call)
        self._some.set()

    def take_back(self, call: Call) -> None:
        """Forget what was not sent yet; of what was, the answers are awaited by nobody."""
        if not call.written and call in self._unsent:
            self._unsent.remove(call)

    def answered(self, said: object, *, wholly: bool = False) -> Call:
        """Give an answer to the call that it is for, as the last one if `wholly`."""
        self._heard_s = self._clock()
        call = self._written[0]
        call.said.append(said)
        if wholly or len(call.said) == call.count:
            self._written.popleft()
            if not call.answers.done():
                call.answers.set_result(call.said)
        return call

    def is_silent(self, timeout_s: float) -> bool:
        """Say whether it owes an answer for too long."""
        since_s = self._heard_s + timeout_s
        return bool(self._written) and max(since_s, self._written[0].deadline_s) <= self._clock()

    async def run(self, take: Callable[[object], object]) -> NoReturn:
        """Let what comes in be taken: answers, or the errors that the server has answered with.

        Raises:
            LostError: the connection broke.
        """
        while True:
            said: object
            try:
                said = await self._connection.read_response(True, disconnect_on_error=False)
            except (ResponseError, BusyLoadingError, AuthenticationError) as error:
                said = error
            except (RedisError, OSError) as error:
                self._reason = words(error)
                raise LostError(self._reason) from None
            take(said)

    async def close(self) -> None:
        """Close it, and tell whoever waits why; nothing may be sent any more."""
        self._writer.cancel()
        for call in (*self._written, *self._unsent):
            if not call.answers.done():
                _fail(call.answers, LostError(self._reason))
        # A transport with something left to write stays open as long as the server takes nothing;
        # redis-py has no public way to give that up.
        writer = getattr(self._connection, "_writer", None)
        if isinstance(writer, asyncio.StreamWriter):
            writer.transport.abort()
        with suppress(RedisError, OSError):
            await self._connection.disconnect()
        await asyncio.wait([self._writer])

    async def _write(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            calls, self._unsent = self._unsent, []
            for call in calls:
                call.written = True
            self._written.extend(calls)
            packed = b"".join([call.packed for call in calls])
            try:
                await self._connection.send_packed_command([packed], check_health=False)
            except (RedisError, OSError):
                return  # that closed the connection, which `run` tells


class Server:
    """A server, and how to connect to it.

    Args:
        url: where it is, as `RedisEngine` says.
        timeout_s: how long connecting, or an answer, may take.

    Attributes:
        shown: the URL without a password and options.
        database: which of its databases it is.
        late: what to say of a timeout.

    Raises:
        InvalidField: the URL cannot be used.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self.shown = _without_password(url)
        self.timeout_s = timeout_s
        self.late = f"no answer within {timeout_s:g} s"
        scheme, _, rest = url.partition(":")
        scheme = {"valkey": "redis", "valkeys": "rediss"}.get(scheme, scheme)
        try:
            # What the calls are built on, whatever the URL says; the timeout is theirs.
            own = {"protocol": 2, "decode_responses": False, "socket_timeout": None}
            make = cast("Callable[..., _Pool]", ConnectionPool)
            self._pool = make(**{**parse_url(f"{scheme}:{rest}"), **own})
            self._pool.make_connection()
        except (RedisError, TypeError, ValueError):
            # What it says may hold a part of a password.
            form = "give redis://[user[:password]@]host[:port][/db], or rediss:// or unix:// alike"
            reason = f"{form}, with options that redis-py knows"
            raise InvalidField("url", self.shown, reason) from None
        self.database = str(self._pool.connection_kwargs.get("db", 0)).encode()

    @asynccontextmanager
    async def connected(self) -> AsyncGenerator[Wire]:
        """Open a connection for the time of a block.

        Raises:
            LostError: it cannot be opened.
        """
        connection = self._pool.make_connection()
        wire = Wire(connection)
        try:
            try:
                async with asyncio.timeout(self.timeout_s):
                    await connection.connect()
            except TimeoutError:
                raise LostError(self.late) from None
            except (RedisError, OSError) as error:
                raise LostError(words(error)) from None
            yield wire
        finally:
            await wire.close()


class Lane:
    """A connection for calls, opened when there is none.

    1. A call is repeated only where the lane `repeats`, when it is unknown what became of it; and
       one that was not written is not written any more when it has ended.
    2. At most `_MOST_CALLS` are on their way.
    3. All who find no connection share what comes of opening one.
    """

    def __init__(self, server: Server, *, repeats: bool) -> None:
        self._server = server
        self._repeats = repeats
        self._room = asyncio.Semaphore(_MOST_CALLS)
        self._wire: Wire | None = None
        self._opening: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    async def call(self, deadline_s: float, *commands: Sequence[bytes]) -> list[object]:
        """Return the answers to some commands.

        Raises:
            EngineUnavailable: they were not sent, or refused; or the lane repeats.
            OutcomeUnknown: they may have been done.
        """
        return self._accepted(await self._tried(deadline_s, commands))

    async def run(
        self, deadline_s: float, script: Script, keys: Sequence[bytes], args: Sequence[bytes]
    ) -> object:
        """Return the answer to a script; raises as `call`."""
        rest = (b"%d" % len(keys), *keys, *args)
        said = await self._tried(deadline_s, [(b"EVALSHA", script.sha, *rest)])
        if isinstance(said[0], NoScriptError):
            said = await self._tried(deadline_s, [(b"EVAL", script.source, *rest)])
        return self._accepted(said)[0]

    def end(self) -> set[asyncio.Task[None]]:
        """Begin to stop, once: nothing is sent or answered from now on; return what still ends."""
        self._stopped, self._wire = True, None
        if self._opening is not None:
            _fail(self._opening, LostError("the engine was stopped"))
        for task in self._tasks:
            _cancel(task)
        return set(self._tasks)

    def _accepted(self, said: list[object]) -> list[object]:
        for one in said:
            if isinstance(one, Exception):
                raise EngineUnavailable(self._server.shown, words(one))
        return said

    async def _tried(self, deadline_s: float, commands: Sequence[Sequence[bytes]]) -> list[object]:
        if not self._repeats:
            return await self._once(deadline_s, commands)
        with suppress(OutcomeUnknown):
            return await self._once(deadline_s, commands)
        try:
            return await self._once(deadline_s, commands)
        except OutcomeUnknown as unknown:
            raise EngineUnavailable(self._server.shown, unknown.reason) from None

    async def _once(self, deadline_s: float, commands: Sequence[Sequence[bytes]]) -> list[object]:
        call, wire = Call(deadline_s, commands), None
        try:
            async with asyncio.timeout_at(deadline_s), self._room:
                wire = await self._connected()
                wire.send(call)
                return await call.answers
        except TimeoutError:
            reason = self._server.late
        except LostError as lost:
            reason = str(lost)
        finally:
            if wire is not None:
                wire.take_back(call)
        error = OutcomeUnknown if call.written else EngineUnavailable
        raise error(self._server.shown, reason)

    async def _connected(self) -> Wire:
        if self._wire is not None and self._wire.is_silent(self._server.timeout_s):
            self._wire = None
            for task in self._tasks:
                _cancel(task)
        while self._wire is None:
            if self._stopped:
                raise LostError("the engine was stopped")
            if (opening := self._opening) is None:
                opening = self._opening = asyncio.get_running_loop().create_future()
                task = asyncio.create_task(self._serve(opening))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await asyncio.wait([opening])
            opening.result()
        return self._wire

    async def _serve(self, opening: asyncio.Future[None]) -> None:
        """Open a connection, and give its answers to whoever waits until it breaks."""
        reason = "connecting has failed"
        try:
            async with self._server.connected() as wire:
                self._wire, self._opening = wire, None
                opening.set_result(None)
                try:
                    await wire.run(wire.answered)
                finally:
                    if self._wire is wire:
                        self._wire = None
        except LostError as lost:
            reason = str(lost)
        finally:
            if not opening.done():
                self._opening = None
                _fail(opening, LostError(reason))


def words(error: BaseException) -> str:
    """Return what an error says, without what was sent."""
    # An unknown command is answered with what it was called with: events, perhaps.
    return str(error).partition(", with args")[0][:300] or type(error).__name__


def _cancel(task: "asyncio.Task[None]") -> None:
    # A second time it would interrupt the closing that the first has led to.
    if not task.cancelling():
        task.cancel()


def _fail(future: "asyncio.Future[None] | asyncio.Future[list[object]]", error: Exception) -> None:
    future.set_exception(error)
    future.exception()  # whoever waits is told; nobody may be waiting


def _packed(command: Sequence[bytes]) -> bytes:
    pieces = [b"*%d\r\n" % len(command)]
    for word in command:
        pieces += (b"$%d\r\n" % len(word), word, b"\r\n")
    return b"".join(pieces)


def _without_password(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return f"{url.partition(':')[0]}://..."
    if "@" in parts.path:  # a password with a "/" that is not encoded
        return f"{parts.scheme}://..."
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
