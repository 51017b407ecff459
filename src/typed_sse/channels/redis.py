"""The engine on Redis or Valkey: processes on many hosts, and appends that outlive all of them.

A channel is two keys: its end, a small string, and its records, a stream whose entry ids are
`position-tag`. A script appends: it numbers, stores, trims and publishes at once. All calls of a
process share one connection for appends and one for the rest, written as they come and answered in
order; a third one hears what is published. redis-py makes these connections from the URL; its
pools, its retries and its `PubSub`, which reconnects without a word, are not used.

What it outlives: with `appendonly yes` a crash of the server; a power loss takes the last second or
two (`appendfsync everysec`). Replicas are written to behind the server's back, so a failover can
lose appends that were acknowledged, and give their positions out again: a reader who comes back is
told, by the tag. Without AOF a restart loses what the last snapshot has not. `maxmemory-policy`
must be `noeviction`, or channels vanish under memory pressure; readers are then told of a gap.
"""

import asyncio
import logging
import random
import secrets
import struct
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b, sha1
from typing import Final, NoReturn, Protocol, cast
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import parse_url
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    NoScriptError,
    RedisError,
    ResponseError,
)

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import (
    DEFAULT_TIMEOUT_S,
    KEY_WINDOW_S,
    Appended,
    Caps,
    Durability,
    Feed,
    GapReason,
    Health,
    Newest,
    Page,
    Record,
    Retain,
    Tail,
    check_append,
    fitting,
    gap_behind,
)
from typed_sse.errors import (
    ChannelSealed,
    Conflict,
    EngineUnavailable,
    InvalidField,
    OutcomeUnknown,
)

_CAPS = Caps(durability=Durability.HOST, shared=True, lossy_feed=True)
_OLDEST_VERSION = (6, 2)

# So long, at least, a channel is remembered after its last record.
_REMEMBER_MS = 86_400_000
_LONGEST_NAMESPACE = 64

# So many calls wait on one connection at most; more wait for a place.
_MOST_CALLS = 256
# So many keys are asked for, or channels subscribed to, in one command.
_MOST_NAMES = 500
# Of so many channels a process remembers that it has put them into the index.
_MOST_KNOWN = 10_000

# The silence after which the feed's connection is asked whether it is alive.
_PING_S = 2.0
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.05, 2.0
_ALIVE = b"alive"

# What is subscribed to: the kind, as the commands have it in front, and a channel or a pattern.
_Topic = tuple[bytes, bytes]
_EXACT, _PATTERN = b"", b"P"

# In Lua: B is a byte, I4 and I8 are big-endian. `prev` is not stored: it is always pos - 1.
_META = struct.Struct(">IQIBQQ")  # epoch, pos, tag, sealed, age_ms, time_ms
_ENTRY = struct.Struct(">BIQIQ")  # seals (2: no record but a name), epoch, pos, tag, time_ms; body
_ORDER = struct.Struct(">IIQQBBIQI")  # epoch, events, age, remember, seal, expect and what
_RESULT = struct.Struct(">BIQIQI")  # what was done, epoch, first, its tag, last, its tag
_WINDOW_MS = int(KEY_WINDOW_S * 1000)

_APPENDED, _BEGUN, _DUPLICATE, _SEALED, _CONFLICT = range(5)

_APPEND: Final = """
local known = KEYS[3] and redis.call('GET', KEYS[3])
if known then return '\\2' .. known end
local epoch, events, age, remember, seal, expects, to_epoch, to_pos, to_tag =
  struct.unpack('>I4I4I8I8BBI4I8I4', ARGV[2])
local pos, tag, sealed, at, its_age = 0, 0, 0, 0, 0
local meta = redis.call('GET', KEYS[1])
if meta then epoch, pos, tag, sealed, its_age, at = struct.unpack('>I4I8I4BI8I8', meta) end
local function answer(what, first, its_tag)
  return struct.pack('>BI4I8I4I8I4', what, epoch, first, its_tag, pos, tag)
end
if sealed == 1 then return answer(3, 0, 0) end
if expects == 1 and (epoch ~= to_epoch or pos ~= to_pos or tag ~= to_tag) then
  return answer(4, 0, 0)
end
-- Records of an epoch whose end is forgotten must never mix with those of another.
if not meta then redis.call('DEL', KEYS[2]) end
local named = 0
local time = redis.call('TIME')
local now = math.max(at, time[1] * 1000 + math.floor(time[2] / 1000))
if pos > 0 and now >= at + its_age and redis.call('XLEN', KEYS[2]) == 0 then
  -- All was too old and is gone; whoever has read the last has missed nothing, so it stays by name.
  local name = struct.pack('>BI4I8I4I8', 2, epoch, pos, tag, at)
  redis.call('XADD', KEYS[2], string.format('%.0f-%.0f', pos, tag), 'r', name)
  named = 1
end
local first, first_tag = pos + 1, struct.unpack('>I4', ARGV[3])
local records = {}
for place = 4, #ARGV do
  pos = pos + 1
  tag = struct.unpack('>I4', ARGV[3], place * 4 - 15)
  local seals = place == #ARGV and seal or 0
  local record = struct.pack('>BI4I8I4I8', seals, epoch, pos, tag, now) .. ARGV[place]
  records[place - 3] = record
  local id = string.format('%.0f-%.0f', pos, tag)
  local added = redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', events, id, 'r', record)
  if type(added) == 'table' and added.err then
    -- The stream is of a later time than the end: what it holds is none of this log's.
    if not string.find(added.err, 'equal or smaller', 1, true) then return added end
    redis.call('DEL', KEYS[2])
    redis.call('XADD', KEYS[2], id, 'r', record)
  end
end
local kept = redis.call('XLEN', KEYS[2])
-- A channel that had no records may not be in the index any more.
local begun = kept <= #records + named and 1 or 0
if kept > 2 * events + 100 then
  redis.call('XTRIM', KEYS[2], 'MAXLEN', events)
end
redis.call('PEXPIRE', KEYS[2], string.format('%.0f', age))
redis.call('SET', KEYS[1], struct.pack('>I4I8I4BI8I8', epoch, pos, tag, seal, age, now),
  'PX', string.format('%.0f', math.max(age, remember)))
if KEYS[3] then
  redis.call('SET', KEYS[3], string.sub(answer(2, first, first_tag), 2), 'PX', %d)
end
for _, record in ipairs(records) do redis.call('PUBLISH', ARGV[1], record) end
return answer(begun, first, first_tag)
""".replace("%d", str(_WINDOW_MS))

# Begins a channel where there is none, and returns its end.
_BEGIN: Final = """
local meta = redis.call('GET', KEYS[1])
if not meta then
  redis.call('DEL', KEYS[2])
  local epoch = struct.unpack('>I4', ARGV[1])
  meta = struct.pack('>I4I8I4BI8I8', epoch, 0, 0, 0, 0, 0)
  redis.call('SET', KEYS[1], meta, 'PX', ARGV[2])
end
"""
_TAIL: Final = _BEGIN + "return meta"

# Returns the end, the newest record that is not behind the cursor (or ''), and what is behind it.
_READ: Final = (
    _BEGIN
    + """
local epoch, pos, tag, sealed, age, at = struct.unpack('>I4I8I4BI8I8', meta)
local limit, most = tonumber(ARGV[3]), tonumber(ARGV[4])
local after_epoch, after = tonumber(ARGV[5]), tonumber(ARGV[6])
local last = string.format('%.0f-%.0f', pos, tag)
local time = redis.call('TIME')
local oldest = math.max(at, time[1] * 1000 + math.floor(time[2] / 1000)) - age
local function is_old(entry) return struct.unpack('>I8', entry[2][2], 18) < oldest end
local function behind(place, count)
  return redis.call('XRANGE', KEYS[2], string.format('%.0f', place), last, 'COUNT', count)
end
local found = {meta, '', ''}
local start, expected
if after_epoch < 0 then
  start = math.max(1, pos - after + 1)
  local head = behind(start, 1)[1]
  if head and is_old(head) then
    -- Times never fall and positions leave nothing out, so halving finds the first young one.
    local old, young = start, pos + 1
    while young - old > 1 do
      local middle = math.floor((old + young) / 2)
      local entry = behind(middle, 1)[1]
      if entry and is_old(entry) then old = middle else young = middle end
    end
    start = young
  end
else
  if after_epoch ~= epoch or after >= pos then return found end
  local named = redis.call('XREVRANGE', KEYS[2], string.format('%.0f', after), '-', 'COUNT', 1)[1]
  if named and not is_old(named) then found[2] = named[2][2] end
  start, expected = after + 1, after + 1
  local head = behind(start, 1)[1]
  if head and is_old(head) then return found end
end
local size, count = 0, 8
while #found - 3 < limit and start <= pos and size <= most do
  local entries = behind(start, math.min(count, limit - #found + 3))
  if #entries == 0 then
    if after_epoch >= 0 then found[3] = 'torn' else found = {meta, '', ''} end
    return found
  end
  for _, entry in ipairs(entries) do
    local record = entry[2][2]
    local kind, its_epoch, its_pos = struct.unpack('>BI4I8', record)
    if expected and (its_pos ~= expected or its_epoch ~= epoch) then
      -- The two keys are of different times: one was evicted, or put back from a copy.
      if after_epoch >= 0 then
        found[3] = 'torn'
        return found
      end
      found, size = {meta, '', ''}, 0
    end
    expected = its_pos + 1
    if kind < 2 then
      found[#found + 1] = record
      size = size + #record - 25
    end
  end
  start = expected
  -- As many as may still fit, by the mean size so far: not a thousand of a channel of large ones.
  local mean = size / math.max(1, #found - 3)
  count = math.max(1, math.min(1000, math.floor((most - size) / (mean + 25))))
end
return found
"""
)

_logger = logging.getLogger(__name__)


class _Connection(Protocol):
    """What is used of a connection of redis-py."""

    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = False) -> None: ...
    async def send_packed_command(
        self, command: Iterable[bytes], check_health: bool = True
    ) -> None: ...
    async def read_response(
        self,
        disable_decoding: bool = False,
        *,
        disconnect_on_error: bool = True,
    ) -> object: ...


class _Pool(Protocol):
    """What is used of a pool of redis-py: that it knows what a connection is made with."""

    connection_kwargs: dict[str, object]

    def make_connection(self) -> _Connection: ...


class _Script:
    """A script, and the commands that run it."""

    def __init__(self, source: str) -> None:
        self.source = source.encode()
        self.sha = sha1(self.source, usedforsecurity=False).hexdigest().encode()


_APPENDING, _ENDING, _READING = _Script(_APPEND), _Script(_TAIL), _Script(_READ)


class _LostError(Exception):
    """The connection broke before the answer came."""


class _Call:
    """A command on its way.

    Attributes:
        packed: its bytes.
        answer: what the server said, or the error that it said.
        begun_s: when it was made, by the loop's clock.
        written: it may have been sent.
    """

    __slots__ = ("answer", "begun_s", "packed", "written")

    def __init__(self, *args: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.packed = _packed(args)
        self.begun_s = loop.time()
        self.answer: asyncio.Future[object] = loop.create_future()
        self.written = False


class _Wire:
    """An open connection.

    1. What is sent goes out in that order; what comes up meanwhile, together.
    2. `written` holds what went out and was not answered, in order; `unsent` what the server has
       not made room for.
    """

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self.unsent: list[_Call] = []
        self.written: deque[_Call] = deque()
        self._some = asyncio.Event()
        self._writer = asyncio.create_task(self._write())

    def send(self, call: _Call) -> None:
        self.unsent.append(call)
        self._some.set()

    def take_back(self, call: _Call) -> None:
        """Forget what was not sent yet; of what was, the answer is awaited by nobody."""
        if not call.written and call in self.unsent:
            self.unsent.remove(call)

    async def receive(self) -> object:
        """Return the next answer, or the error that the server has answered with."""
        try:
            return await self._connection.read_response(True, disconnect_on_error=False)
        except (ResponseError, BusyLoadingError, AuthenticationError) as error:
            return error

    async def close(self, reason: str) -> None:
        """Close it, and tell whoever waits why; may be called twice."""
        _cancel(self._writer)
        lost = _LostError(reason)
        for call in (*self.written, *self.unsent):
            if not call.answer.done():
                call.answer.set_exception(lost)
                call.answer.exception()  # whoever waits is told; nobody may be waiting
        self.written.clear()
        self.unsent.clear()
        await _closed(self._connection)
        await asyncio.wait([self._writer])

    async def _write(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            calls, self.unsent = self.unsent, []
            for call in calls:
                call.written = True
            self.written.extend(calls)
            packed = b"".join([call.packed for call in calls])
            try:
                await self._connection.send_packed_command([packed], check_health=False)
            except (RedisError, OSError):
                return  # that closed the connection, which `receive` tells


class _Lane:
    """A connection for calls, opened by the first that finds none.

    1. A call is repeated never; one that was not written is not written any more when it has ended.
    2. At most `_MOST_CALLS` are on their way.
    3. Of those who find no connection one tries to open it, the others share what comes of that.
    """

    def __init__(self, shown: str, connection: Callable[[], _Connection], timeout_s: float) -> None:
        self._shown = shown
        self._connection = connection
        self._timeout_s = timeout_s
        self._room = asyncio.Semaphore(_MOST_CALLS)
        self._opening = asyncio.Lock()
        self._attempts = 0
        self._failure = ""
        self._wire: _Wire | None = None
        self._readers: dict[asyncio.Task[None], _Wire] = {}
        self._heard_s = 0.0
        self._stopped = False

    async def call(self, deadline_s: float, *args: bytes) -> object:
        """Return the answer, which may be an error of the server's.

        Raises:
            EngineUnavailable: the call was not sent.
            OutcomeUnknown: it may have been.
        """
        call, wire = _Call(*args), None
        try:
            async with asyncio.timeout_at(deadline_s), self._room:
                if (wire := self._wire) is not None and self._is_silent(wire, call.begun_s):
                    self._drop(wire)
                wire = self._wire or await self._open()
                wire.send(call)
                return await call.answer
        except TimeoutError:
            reason = f"no answer within {self._timeout_s:g} s"
            if wire is not None and self._heard_s < call.begun_s:
                self._drop(wire)
            if not call.written:
                raise EngineUnavailable(self._shown, reason) from None
            raise OutcomeUnknown(self._shown, reason) from None
        except _LostError as lost:
            error = OutcomeUnknown if call.written else EngineUnavailable
            raise error(self._shown, str(lost)) from None
        finally:
            if wire is not None:
                wire.take_back(call)

    def end(self) -> None:
        """Begin to stop: nothing is sent or answered from now on."""
        self._stopped, self._wire = True, None
        for reader in self._readers:
            _cancel(reader)

    async def ended(self) -> None:
        while self._readers:
            reader, wire = next(iter(self._readers.items()))
            await asyncio.wait([reader])
            # A task that is cancelled before its first step has closed nothing.
            await wire.close("the engine was stopped")
            self._readers.pop(reader, None)

    async def _open(self) -> _Wire:
        attempt = self._attempts
        async with self._opening:
            if self._wire is not None:
                return self._wire
            if attempt != self._attempts:
                raise EngineUnavailable(self._shown, self._failure)
            try:
                connection = await _opened(self._connection)
            except (RedisError, OSError) as error:
                self._attempts += 1
                self._failure = _words(error)
                raise EngineUnavailable(self._shown, self._failure) from None
            if self._stopped:
                await _closed(connection)
                raise EngineUnavailable(self._shown, "the engine was stopped")
            wire = self._wire = _Wire(connection)
            self._readers[asyncio.create_task(self._read(wire))] = wire
            return wire

    def _is_silent(self, wire: _Wire, now_s: float) -> bool:
        """Say whether it owes an answer for too long: callers that cancel may never find out."""
        if not wire.written:
            return False
        return now_s - max(self._heard_s, wire.written[0].begun_s) > self._timeout_s

    def _drop(self, wire: _Wire) -> None:
        """Give a connection up that says nothing."""
        if self._wire is wire:
            self._wire = None
        for reader, its_wire in self._readers.items():
            if its_wire is wire:
                _cancel(reader)

    async def _read(self, wire: _Wire) -> None:
        reason = "the connection was closed"
        clock = asyncio.get_running_loop().time
        try:
            while True:
                said = await wire.receive()
                self._heard_s = clock()
                call = wire.written.popleft()
                if not call.answer.done():
                    call.answer.set_result(said)
        except (RedisError, OSError) as error:
            reason = _words(error)
        finally:
            if self._wire is wire:
                self._wire = None
            await wire.close(reason)
            if not self._stopped and (reader := asyncio.current_task()) is not None:
                self._readers.pop(reader, None)


class _Listener:
    """The connection that hears what is published, kept open and subscribed.

    1. What is in `_wanted` is subscribed to on every connection, before it counts as ready.
    2. After a connection was lost nothing is passed on until `lost` was called, and that is when
       all is subscribed to again.
    3. Whatever it says is answered within the timeout, or the connection is given up: a connection
       whose other end is gone says nothing of itself.
    """

    def __init__(
        self,
        shown: str,
        connection: Callable[[], _Connection],
        timeout_s: float,
        always: bytes,
        heard: Callable[[bytes, bytes], None],
        lost: Callable[[], None],
    ) -> None:
        self._shown = shown
        self._connection = connection
        self._timeout_s = timeout_s
        self._always = always
        self._heard = heard
        self._lost = lost
        # Channels and patterns, by how many calls still wait for them; what stays has none.
        self._wanted: dict[_Topic, int] = {}
        self._settled: set[_Topic] = set()
        self._barriers: dict[bytes, asyncio.Future[object]] = {}
        self._count = 0
        self._wire: _Wire | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._once = False
        self._why = ""
        self._exact: set[bytes] = set()
        self._patterns: set[bytes] = set()
        self.ready = asyncio.Event()

    async def start(self) -> None:
        """Return when it hears; raises what the first try does."""
        began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(began))
        await began

    def end(self) -> None:
        """Begin to stop: nothing is called from now on."""
        self._why = "the engine was stopped"
        if self._task is not None:
            _cancel(self._task)

    async def ended(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])

    async def watch(self, names: Collection[_Topic]) -> None:
        """Subscribe; return when the server has confirmed it.

        Raises:
            EngineUnavailable: it has not, within the timeout; nothing is subscribed to.
        """
        new = [name for name in names if name not in self._wanted]
        for name in names:
            self._wanted[name] = self._wanted.get(name, 0) + 1
        self._subscribe(b"SUBSCRIBE", new)
        done = False
        try:
            async with asyncio.timeout(self._timeout_s):
                while not done:
                    await self.ready.wait()
                    with suppress(_LostError):
                        refused = await self._barrier()
                        if isinstance(refused, RedisError):
                            raise EngineUnavailable(self._shown, _words(refused))
                        done = True
        except TimeoutError:
            reason = self._why or f"no answer within {self._timeout_s:g} s"
            raise EngineUnavailable(self._shown, reason) from None
        finally:
            # Whoever unwatched in between has taken the name out of both.
            for name in names:
                if name in self._wanted:
                    self._wanted[name] = max(0, self._wanted[name] - 1)
            if done:
                self._settled.update(name for name in names if name in self._wanted)
            else:
                self.unwatch(
                    [
                        name
                        for name in names
                        if self._wanted.get(name) == 0 and name not in self._settled
                    ]
                )

    def unwatch(self, names: Iterable[_Topic]) -> None:
        gone = [name for name in names if self._wanted.pop(name, None) is not None]
        self._settled.difference_update(gone)
        self._subscribe(b"UNSUBSCRIBE", gone)

    def _subscribe(self, command: bytes, topics: Sequence[_Topic]) -> None:
        wire = self._wire
        if wire is None:
            return  # a connection to come subscribes to what is wanted by then
        for kind in (_EXACT, _PATTERN):
            some = [name for its_kind, name in topics if its_kind == kind]
            for start in range(0, len(some), _MOST_NAMES):
                wire.send(_Call(kind + command, *some[start : start + _MOST_NAMES]))

    def _barrier(self) -> "asyncio.Future[object]":
        """Return what is done when all that was sent so far has been answered."""
        if self._wire is None:
            raise _LostError(self._why)
        self._count += 1
        token = b"%d" % self._count
        call = _Call(b"PING", token)
        self._barriers[token] = call.answer
        self._wire.send(call)
        return call.answer

    async def _run(self, began: "asyncio.Future[None]") -> None:
        delay_s = _FIRST_BACKOFF_S
        while True:
            error: Exception | None = None
            try:
                async with asyncio.timeout(self._timeout_s):
                    connection = await _opened(self._connection)
                await self._listen(connection, began)
            except (RedisError, OSError) as failure:
                error = failure
                why = _words(failure) or f"no answer within {self._timeout_s:g} s"
            except Exception as failure:
                error = failure
                why = "the feed's own error"
                _logger.exception("a feed of %s has raised; it is told of a loss", self._shown)
            if not began.done():
                began.set_exception(error)
                return
            if began.cancelled():
                return
            if not self._why:
                _logger.warning("the feed of %s is interrupted: %s", self._shown, why)
                delay_s = _FIRST_BACKOFF_S
            self._why = why
            await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311 - it spreads reconnects
            delay_s = min(2 * delay_s, _LONGEST_BACKOFF_S)

    async def _listen(self, connection: _Connection, began: "asyncio.Future[None]") -> NoReturn:
        wire = self._wire = _Wire(connection)
        self._exact, self._patterns = set(), set()
        try:
            async with asyncio.timeout(self._timeout_s) as silence:
                self._subscribe(b"SUBSCRIBE", [(_EXACT, self._always), *self._wanted])
                wire.send(_Call(b"PING", _ALIVE))
                while True:
                    said = await wire.receive()
                    # Answers are told by what they hold.
                    wire.written.clear()
                    self._take(said, wire, silence)
                    if self.ready.is_set() and not began.done():
                        began.set_result(None)
        finally:
            self._wire = None
            self.ready.clear()
            if self._timer is not None:
                self._timer.cancel()
            for barrier in self._barriers.values():
                if not barrier.done():
                    barrier.set_exception(_LostError("the connection was lost"))
                    barrier.exception()
            self._barriers.clear()
            await wire.close("the connection was lost")

    def _take(self, said: object, wire: _Wire, silence: asyncio.Timeout) -> None:
        if isinstance(said, RedisError):
            # Of a subscription that is not allowed; what waits for its barrier is the cause.
            waiting = [one for one in self._barriers.values() if not one.done()]
            if not waiting:
                raise said
            waiting[0].set_result(said)
            return
        match cast("list[object]", said):
            case [b"message", bytes(name), bytes(data)]:
                if self.ready.is_set():
                    self._heard(name, data)
            case [b"pmessage", bytes(pattern), bytes(name), bytes(data)]:
                # The server sends it for each subscription that it fits.
                if self.ready.is_set() and name not in self._exact:
                    first = min(known for known in self._patterns if name.startswith(_start(known)))
                    if first == pattern:
                        self._heard(name, data)
            case [b"pong", b"alive"]:
                loop = asyncio.get_running_loop()
                silence.reschedule(loop.time() + _PING_S + self._timeout_s)
                self._timer = loop.call_later(_PING_S, lambda: wire.send(_Call(b"PING", _ALIVE)))
                if not self.ready.is_set():
                    if self._once:
                        _logger.info("the feed of %s is there again", self._shown)
                        self._lost()
                    self._once = True
                    self._why = ""
                    self.ready.set()
            case [b"pong", bytes(token)]:
                barrier = self._barriers.pop(token, None)
                if barrier is not None and not barrier.done():
                    barrier.set_result(None)
            case [b"subscribe", bytes(name), _]:
                self._exact.add(name)
            case [b"unsubscribe", bytes(name), _]:
                self._exact.discard(name)
            case [b"psubscribe", bytes(name), _]:
                self._patterns.add(name)
            case [b"punsubscribe", bytes(name), _]:
                self._patterns.discard(name)
            case _:
                pass


class RedisEngine:
    """Channels on a server of Redis, 6.2 or later, or of Valkey; see `Engine` for the methods.

    Args:
        url: `redis://user:password@host:6379/0`, `rediss://` with TLS, `unix:///path?db=0`; with
            the options that redis-py knows; `valkey://` and `valkeys://` are the same.
        timeout_s: how long a call may take, in seconds.
        namespace: what all keys begin with; 1 to 64 letters, digits and `._:-`.

    Raises:
        InvalidField: the URL, the timeout or the namespace cannot be used.

    Limits: three connections a process. A failover or a power loss may lose what was acknowledged
    (see the head of the file); `maxmemory-policy` must be `noeviction`.
    """

    def __init__(
        self, url: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, namespace: str = "typed-sse"
    ) -> None:
        if not 0 < timeout_s <= 3600:
            raise InvalidField("timeout_s", timeout_s, "give seconds, more than 0, at most 3600")
        bare = namespace.translate(dict.fromkeys(map(ord, "._:-")))
        if not (bare.isalnum() and namespace.isascii() and len(namespace) <= _LONGEST_NAMESPACE):
            raise InvalidField("namespace", namespace, "give 1 to 64 letters, digits and ._:-")
        self._shown = _without_password(url)
        self._pool = _pool(url, self._shown, timeout_s)
        self._timeout_s = timeout_s
        self._namespace = namespace.encode()
        # Publishing knows no databases.
        database = str(self._pool.connection_kwargs.get("db", 0)).encode()
        self._events = b"%b:%b:e:" % (self._namespace, database)
        self._signals = b"%b:%b:signals" % (self._namespace, database)
        self._index = self._namespace + b":names"
        self._known: OrderedDict[str, None] = OrderedDict()
        self._feed: Feed | None = None
        self._appends: _Lane | None = None
        self._reads: _Lane | None = None
        self._listener: _Listener | None = None
        self._ending: list[_Lane | _Listener] = []
        self._version = ""

    @property
    def caps(self) -> Caps:
        """What it can do."""
        return _CAPS

    async def start(self, feed: Feed) -> None:
        """Connect, look at the server, and begin to call `feed`."""
        self._feed = feed
        self._appends = _Lane(self._shown, self._connection, self._timeout_s)
        self._reads = _Lane(self._shown, self._connection, self._timeout_s)
        self._listener = _Listener(
            self._shown,
            self._connection,
            self._timeout_s,
            self._signals,
            self._hear,
            lambda: feed.lost(None),
        )
        started = False
        try:
            deadline_s = self._deadline_s()
            await self._look(deadline_s)
            self._refuse(await self._appends.call(deadline_s, b"PING"))
            async with asyncio.timeout(self._timeout_s):
                await self._listener.start()
            started = True
        except TimeoutError:
            reason = f"no answer within {self._timeout_s:g} s"
            raise EngineUnavailable(self._shown, reason) from None
        except (RedisError, OSError) as error:
            raise EngineUnavailable(self._shown, _words(error)) from None
        finally:
            if not started:
                await self.stop()

    async def stop(self) -> None:
        """Close the connections."""
        self._feed = None
        self._ending += [
            part for part in (self._listener, self._appends, self._reads) if part is not None
        ]
        self._listener = self._appends = self._reads = None
        # First all of them at once, so that whoever cancels this can call it again.
        for part in self._ending:
            part.end()
        while self._ending:
            await self._ending[0].ended()
            del self._ending[:1]

    async def append(
        self,
        channel: str,
        bodies: Sequence[bytes],
        *,
        retain: Retain,
        key: str | None = None,
        expect: Cursor | None = None,
        seal: bool = False,
    ) -> Appended:
        """Append records to a channel, all or none."""
        bodies = check_append(_CAPS, bodies, key, seal=seal)
        lane, deadline_s = self._lane(self._appends), self._deadline_s()
        end, records, name = self._keys(channel)
        keys = (end, records) if key is None else (end, records, self._key(name, key))
        order = _ORDER.pack(
            _random_bits(),
            retain.events,
            int(retain.age_s * 1000),
            _REMEMBER_MS,
            seal,
            expect is not None,
            *(expect or (0, 0, 0)),
        )
        tags = b"".join([_random_bits().to_bytes(4, "big") for _ in bodies])
        args = (self._events + name, order, tags, *bodies)
        said = await self._run(lane, deadline_s, _APPENDING, keys, args)
        what, epoch, first, first_tag, last, last_tag = _RESULT.unpack(_as_bytes(said))
        tail = Cursor(epoch, last, last_tag)
        if what == _SEALED:
            raise ChannelSealed(channel)
        if what == _CONFLICT:
            raise Conflict(channel, str(expect), str(tail))
        if what == _BEGUN or channel not in self._known:
            await self._note(lane, deadline_s, channel, name)
        return Appended(Cursor(epoch, first, first_tag), tail, duplicate=what == _DUPLICATE)

    async def read(
        self, channel: str, after: Cursor | Newest, *, limit: int, max_bytes: int
    ) -> Page:
        """Return some of what is kept behind `after`."""
        place = (-1, after.events) if isinstance(after, Newest) else (after.epoch, after.pos)
        numbers = (_REMEMBER_MS, limit, max_bytes, *place)
        end, stream, _ = self._keys(channel)
        args = (_random_bits().to_bytes(4, "big"), *(b"%d" % number for number in numbers))
        deadline_s = self._deadline_s()
        said = await self._ask(
            lambda lane: self._run(lane, deadline_s, _READING, (end, stream), args)
        )
        meta, before, torn, *packed = cast("list[bytes]", said)
        tail = _tail(meta)
        records = [_record(channel, one) for one in packed]
        if isinstance(after, Cursor):
            named = _record(channel, before) if before else None
            gap = gap_behind(after, tail, named, records[0] if records else None)
            if gap is not None or torn:
                return Page((), gap or GapReason.EVICTED, tail, more=False)
        some = fitting(records, max_bytes)
        more = bool(some) and some[-1].cursor.pos < tail.cursor.pos
        return Page(some, None, tail, more=more)

    async def tails(self, channels: Sequence[str]) -> Sequence[Tail]:
        """Return the ends of these channels; begins those that there are not yet."""
        deadline_s = self._deadline_s()
        ends: list[Tail] = []
        for start in range(0, len(channels), _MOST_NAMES):
            some = channels[start : start + _MOST_NAMES]
            keys = [self._keys(channel)[0] for channel in some]
            metas = await self._values(deadline_s, keys)
            for channel, meta in zip(some, metas, strict=True):
                ends.append(_tail(meta or await self._begun(deadline_s, channel)))
        return ends

    async def watch(self, channels: Collection[str]) -> None:
        """Let their records come to the feed."""
        if channels:
            await self._listening().watch([self._topic(name) for name in channels])

    async def unwatch(self, channels: Collection[str]) -> None:
        """Let them come no more."""
        self._listening().unwatch([self._topic(name) for name in channels])

    async def names(self, prefix: str, *, limit: int) -> Sequence[str]:
        """Return the names that begin so."""
        deadline_s = self._deadline_s()
        start = prefix.encode()
        lowest, found = b"[" + start, list[str]()
        while len(found) < limit:
            count = b"%d" % min(_MOST_NAMES, limit - len(found))
            arguments = (self._index, lowest, b"[" + start + b"\xff", b"LIMIT", b"0", count)
            said = await self._command(deadline_s, b"ZRANGEBYLEX", *arguments)
            some = cast("list[bytes]", said)
            if not some:
                break
            lowest = b"(" + some[-1]
            there = await self._together(
                self._command(deadline_s, b"EXISTS", self._keys(name.decode())[1]) for name in some
            )
            for name, exists in zip(some, there, strict=True):
                if exists:
                    found.append(name.decode())
                else:
                    await self._forget(deadline_s, name)
        return found

    async def drop(self, channel: str) -> None:
        """Remove a channel."""
        deadline_s = self._deadline_s()
        end, records, name = self._keys(channel)
        self._known.pop(channel, None)
        await self._command(deadline_s, b"DEL", end, records)
        await self._forget(deadline_s, name)

    async def signal(self, topic: str, data: bytes) -> None:
        """Tell every engine of the server and namespace."""
        name = topic.encode()
        body = len(name).to_bytes(4, "big") + name + data
        deadline_s = self._deadline_s()
        try:
            said = await self._lane(self._appends).call(deadline_s, b"PUBLISH", self._signals, body)
        except OutcomeUnknown as unknown:
            raise EngineUnavailable(self._shown, unknown.reason) from None
        self._refuse(said)

    async def health(self) -> Health:
        """Ask the server, and say whether the feed is there."""
        listener = self._listener
        try:
            await self._command(self._deadline_s(), b"PING")
        except EngineUnavailable as error:
            return Health(ready=False, detail=f"{self._shown}: {error.reason}")
        if listener is None or not listener.ready.is_set():
            return Health(ready=False, detail=f"{self._shown}: the feed is being connected again")
        return Health(ready=True, detail=f"{self._version} at {self._shown}")

    def _connection(self) -> _Connection:
        return self._pool.make_connection()

    def _deadline_s(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_s

    def _lane(self, lane: _Lane | None) -> _Lane:
        if lane is None:
            raise EngineUnavailable(self._shown, "the engine is not started")
        return lane

    def _listening(self) -> _Listener:
        if self._listener is None:
            raise EngineUnavailable(self._shown, "the engine is not started")
        return self._listener

    def _keys(self, channel: str) -> tuple[bytes, bytes, bytes]:
        """Return the keys of a channel's end and records, and its name in bytes."""
        name = channel.encode()
        # What is in braces says which slot of a cluster it is; the first `}` ends it, so all of a
        # channel's keys have the same whatever the name.
        start = b"{%b:%b}:" % (self._namespace, name)
        return start + b"m", start + b"s", name

    def _key(self, name: bytes, key: str) -> bytes:
        digest = blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        return b"{%b:%b}:k:%b" % (self._namespace, name, digest.encode())

    def _topic(self, channel: str) -> _Topic:
        name = channel.encode()
        if not channel.endswith("/"):
            return _EXACT, self._events + name
        for sign in b"\\*?[]":
            name = name.replace(bytes([sign]), b"\\" + bytes([sign]))
        return _PATTERN, self._events + name + b"*"

    def _hear(self, name: bytes, data: bytes) -> None:
        feed = self._feed
        if feed is None:
            return
        if name == self._signals:
            end = 4 + int.from_bytes(data[:4], "big")
            feed.signal(data[4:end].decode(), data[end:])
        else:
            feed.record(_record(name[len(self._events) :].decode(), data))

    def _refuse(self, said: object) -> object:
        """Return what the server said, unless it was an error."""
        if isinstance(said, Exception):
            raise EngineUnavailable(self._shown, _words(said))
        return said

    async def _run(
        self,
        lane: _Lane,
        deadline_s: float,
        script: _Script,
        keys: tuple[bytes, ...],
        args: tuple[bytes, ...],
    ) -> object:
        count = b"%d" % len(keys)
        said = await lane.call(deadline_s, b"EVALSHA", script.sha, count, *keys, *args)
        if isinstance(said, NoScriptError):
            said = await lane.call(deadline_s, b"EVAL", script.source, count, *keys, *args)
        return self._refuse(said)

    async def _ask(self, ask: Callable[[_Lane], Awaitable[object]]) -> object:
        """Ask what may be asked twice, and do so where the connection broke."""
        lane = self._lane(self._reads)
        try:
            return await ask(lane)
        except OutcomeUnknown:
            pass
        try:
            return await ask(lane)
        except OutcomeUnknown as unknown:
            raise EngineUnavailable(self._shown, unknown.reason) from None

    async def _command(self, deadline_s: float, *args: bytes) -> object:
        return self._refuse(await self._ask(lambda lane: lane.call(deadline_s, *args)))

    async def _together(self, asked: Iterable[Awaitable[object]]) -> Sequence[object]:
        """Await all, and end all where one fails."""
        tasks = [asyncio.ensure_future(one) for one in asked]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _values(self, deadline_s: float, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        said = await self._ask(lambda lane: lane.call(deadline_s, b"MGET", *keys))
        if isinstance(said, ClusterCrossSlotError):
            said = await self._together(self._command(deadline_s, b"GET", key) for key in keys)
        return cast("Sequence[bytes | None]", self._refuse(said))

    async def _begun(self, deadline_s: float, channel: str) -> bytes:
        end, records, _ = self._keys(channel)
        args = (_random_bits().to_bytes(4, "big"), b"%d" % _REMEMBER_MS)
        return _as_bytes(
            await self._ask(lambda lane: self._run(lane, deadline_s, _ENDING, (end, records), args))
        )

    async def _note(self, lane: _Lane, deadline_s: float, channel: str, name: bytes) -> None:
        """Put a channel into the index: outside of the script, since it is in another slot.

        What was appended is appended, whatever becomes of this; the next append tries again.
        """
        self._known.pop(channel, None)
        with suppress(EngineUnavailable, OutcomeUnknown):
            self._refuse(await lane.call(deadline_s, b"ZADD", self._index, b"0", name))
            self._known[channel] = None
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)

    async def _forget(self, deadline_s: float, name: bytes) -> None:
        """Take a name out of the index, unless there is such a channel again."""
        await self._command(deadline_s, b"ZREM", self._index, name)
        if await self._command(deadline_s, b"EXISTS", self._keys(name.decode())[1]):
            await self._command(deadline_s, b"ZADD", self._index, b"0", name)

    async def _look(self, deadline_s: float) -> None:
        """Refuse a server that is too old, and warn of one that evicts."""
        server = _info(await self._command(deadline_s, b"INFO", b"server"))
        said = server.get("redis_version", "")
        numbers = [int(number) for number in said.split(".")[:2] if number.isdigit()]
        if tuple(numbers) < _OLDEST_VERSION:
            reason = f"it is version {said or 'unknown'}; Redis 6.2 is the oldest that will do"
            raise EngineUnavailable(self._shown, reason)
        self._version = f"Redis {said}"
        if "valkey_version" in server:
            self._version = f"Valkey {server['valkey_version']}"
        policy = _info(await self._command(deadline_s, b"INFO", b"memory")).get("maxmemory_policy")
        if policy is not None and policy.startswith("allkeys"):
            _logger.warning(
                "%s evicts under memory pressure (maxmemory-policy %s): channels may vanish, and "
                "their readers are told of a gap; set maxmemory-policy noeviction",
                self._shown,
                policy,
            )


def _pool(url: str, shown: str, timeout_s: float) -> _Pool:
    scheme, _, rest = url.partition(":")
    scheme = {"valkey": "redis", "valkeys": "rediss"}.get(scheme, scheme)
    try:
        options = {"socket_connect_timeout": timeout_s, **parse_url(f"{scheme}:{rest}")}
        # What the engine is built on, whatever the URL says.
        options |= {"protocol": 2, "decode_responses": False, "socket_timeout": None}
        options |= {"health_check_interval": 0, "retry_on_timeout": False}
        pool = cast("Callable[..., _Pool]", ConnectionPool)(**options)
        pool.make_connection()
    except (RedisError, TypeError, ValueError):
        # What it says may hold a part of a password.
        reason = "give redis://[user[:password]@]host[:port][/db], or rediss:// or unix:// alike"
        raise InvalidField("url", shown, f"{reason}, with options that redis-py knows") from None
    return pool


def _without_password(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return f"{url.partition(':')[0]}://..."
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def _cancel(task: "asyncio.Task[None]") -> None:
    # A second time it would interrupt the closing that the first has led to.
    if not task.cancelling():
        task.cancel()


async def _opened(make: Callable[[], _Connection]) -> _Connection:
    connection = make()
    try:
        await connection.connect()
    except BaseException:
        await _closed(connection)
        raise
    return connection


async def _closed(connection: _Connection) -> None:
    # A transport with something left to write stays open as long as the server takes nothing;
    # redis-py has no public way to give that up.
    writer = getattr(connection, "_writer", None)
    if isinstance(writer, asyncio.StreamWriter):
        writer.transport.abort()
    with suppress(RedisError, OSError):
        await connection.disconnect()


def _packed(args: Sequence[bytes]) -> bytes:
    pieces = [b"*%d\r\n" % len(args)]
    for arg in args:
        pieces += (b"$%d\r\n" % len(arg), arg, b"\r\n")
    return b"".join(pieces)


def _record(channel: str, packed: bytes) -> Record:
    seals, epoch, pos, tag, _ = _ENTRY.unpack_from(packed)
    return Record(channel, Cursor(epoch, pos, tag), pos - 1, packed[_ENTRY.size :], bool(seals))


def _tail(meta: bytes) -> Tail:
    epoch, pos, tag, sealed, _, _ = _META.unpack(meta)
    return Tail(Cursor(epoch, pos, tag), bool(sealed), 0)


def _info(said: object) -> dict[str, str]:
    lines = _as_bytes(said).decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _as_bytes(said: object) -> bytes:
    if not isinstance(said, bytes):
        raise TypeError(f"the server answered with a {type(said).__name__}, not with bytes")
    return said


def _words(error: BaseException) -> str:
    # An unknown command is answered with what it was called with: events, perhaps.
    return str(error).partition(", with args")[0][:300] or type(error).__name__


def _start(pattern: bytes) -> bytes:
    """Return what the names that a pattern fits begin with."""
    return pattern[:-1].replace(b"\\\\", b"\0").replace(b"\\", b"").replace(b"\0", b"\\")


def _random_bits() -> int:
    return secrets.randbelow(2**32 - 1) + 1
