"""The engine on NATS JetStream: one stream of the server's holds all channels.

An append is one message, with all its records, on the channel's subject, sent with the number of
the message that it follows: the server refuses it where another has come in between. So a batch is
atomic, and the chain, the seal and `expect` are decided by whoever appends. The server republishes
what it has stored, and each process hears that on one subscription a watched name. No consumer is
used: nothing has to be made for a reader, and an ordered one stalls when its server is killed.

Knows the laws of `engine.py`, JetStream's subjects and answers, and the traps of nats-py; the only
file that imports it. How a message is laid out is told at `_Message`.
"""

import asyncio
import json
import logging
import re
import secrets
import struct
import time
from base64 import b64decode
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache, partial
from hashlib import blake2s
from typing import Final, NamedTuple, Protocol, TypeVar, cast
from urllib.parse import quote, unquote

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import SlowConsumerError

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import (
    DEFAULT_TIMEOUT_S,
    KEY_WINDOW_S,
    MAX_BATCH,
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
    TypedSSEError,
)

_logger = logging.getLogger("typed_sse.channels")

_T = TypeVar("_T")

DEFAULT_MAX_AGE_S = 30 * 86_400.0
"""How old a message of the stream may get, whatever its channel's `Retain` says."""

# So many records more than twice what is to be kept there may be.
_SPARE = 100
# A position is the message's number times this, and the record's place in it from 1 on.
_PLACES = 1024
# What a message needs beside its records: the server's headers, ours, and 8 bytes a record.
_OVERHEAD_BYTES = 16 * 1024
_MAX_BODY_BYTES = 1024 * 1024
_LEAST_PAYLOAD_BYTES = 2 * _OVERHEAD_BYTES
# So much of one answer the server sends at once, without waiting for us.
_PAGE_BYTES = 4 * 1024 * 1024
_PAGE_MESSAGES = 512
_PAGE_SUBJECTS = 256
# What may wait in this process to be looked at, before messages are dropped and the feed told.
_PENDING_MESSAGES = 65_536
_PENDING_BYTES = 128 * 1024 * 1024
# What may wait for a server that takes nothing.
_UNSENT_BYTES = 32 * 1024 * 1024
_REMEMBERED_CHANNELS = 10_000
_RECONNECT_WAIT_S = 0.1
_CONNECT_TIMEOUT_S = 2
# A server that answers nothing is given up after three of these.
_PING_S = 5

_NANO = 1_000_000_000
_MESSAGE = struct.Struct(">BBIQQQIdH")
_ENTRY = struct.Struct(">II")
_VERSION = 1
_SEALS = 1

_MSG_ID = "Nats-Msg-Id"
_EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
# No such rollup exists: a message that asks for it is refused, but after the look at its id. (Not
# one that expects another last id: with replicas, that is refused when it is applied, and
# nats-server 2.15 stops the whole stream then.)
_NEVER = {"Nats-Rollup": "typed-sse-probe"}
_WRONG_LAST = frozenset({10071, 10164})
_NO_STREAM = 10059
_NO_MESSAGE = 10037
_NAME_TAKEN = 10058


class _Gone(Exception):
    """Nobody answers on the subject: no JetStream, or not this stream any more."""


class _Broken(Exception):
    """The connection was lost before the answer came."""


class _Message(NamedTuple):
    """One append.

    On the wire: version, flags, epoch, base, prev, before, events, age_s and the number of records
    (48 bytes), then a tag and a length for each record, then the records. A message without records
    begins a channel. Base and prev are 0 in the message that begins one: it does not know its own
    number.

    Attributes:
        seq: its number in the stream.
        time_s: when the server has stored it, in seconds of the server's clock; 0 in the feed.
        before, total: how many records the channel had before it, and with it.
        retain_events, age_s: how much is to be kept, as of this append.
        records: its records; none where this process has just appended them.
        tail: the channel's end, as of this append.
    """

    seq: int
    time_s: float
    before: int
    total: int
    retain_events: int
    age_s: float
    records: Sequence[Record]
    tail: Tail

    def appended(self, *, duplicate: bool) -> Appended:
        """Return what the append has returned that stored it."""
        return Appended(self.records[0].cursor, self.records[-1].cursor, duplicate)


@dataclass(slots=True, eq=False)
class _Job:
    """One append; `taken` says whether its turn has come, `sent` whether the server may have it."""

    bodies: Sequence[bytes]
    retain: Retain
    key: str | None
    expect: Cursor | None
    seal: bool
    deadline: float
    done: "asyncio.Future[Appended]"
    taken: bool = False
    sent: bool = False
    over: bool = False

    # Made where whoever waited was cancelled: `done` is over by that.
    settled: "asyncio.Future[None] | None" = None

    def settle(self, answer: Appended | Exception) -> None:
        """Answer it."""
        self.over = True
        if self.settled is not None and not self.settled.done():
            self.settled.set_result(None)
        if self.done.done():
            return
        if isinstance(answer, Exception):
            self.done.set_exception(answer)
        else:
            self.done.set_result(answer)

    @property
    def plain(self) -> bool:
        """Whether it may share a message with others."""
        return self.key is None and self.expect is None and not self.seal


@dataclass(slots=True)
class _Log:
    """What this process knows of a channel that it appends to.

    Attributes:
        last: its last message, as far as known; checked by the server with each append.
        floor: so many records, at least, are not there any more.
        jobs: appends that wait.
        task: the one that appends, while there are any.
    """

    last: _Message | None = None
    floor: int = 0
    jobs: deque[_Job] = field(default_factory=deque[_Job])
    task: "asyncio.Task[None] | None" = None


@dataclass(slots=True, eq=False)
class _Call:
    """A question to the server; `many` answers end with one that has a status."""

    done: "asyncio.Future[list[Msg]]"
    many: bool
    replies: list[Msg] = field(default_factory=list[Msg])


@dataclass(slots=True, eq=False)
class _Watch:
    """A name that is watched; `live` when the server is known to have the subscription."""

    name: str
    subscription: Subscription | None = None
    live: bool = False


class NatsEngine:
    """Channels in a JetStream stream; see `Engine` for what its methods do.

    What is acknowledged outlives a crash of the server's process. nats-server syncs its files every
    two minutes by default: a crash of the host can lose what came since. Its option
    `sync_interval: always` or `replicas=3` are against that; readers are told of a loss in any
    case, since the tags of the records do not come again. (The tags of an append with a key are
    made of the key, so that the answer can be given when the records are gone already.)

    Args:
        url: `nats://user:password@host:4222`, or `tls://`; several servers of a cluster are parted
            by commas.
        timeout_s: how long a call may take.
        stream: the stream's name; it is made where there is none. Deleting it loses all channels.
        replicas: on how many servers of a cluster it is kept; 1 by default.
        max_age_s: how old a message may get, whatever a `Retain` says, and how long a channel is
            remembered that nothing is appended to; 30 days by default. It and `replicas` count for
            a stream that is made: one that is there is left as it is.

    Raises:
        InvalidField: the stream's name, the timeout, the age or the replicas cannot be used.

    Limits: nats-server 2.11 or newer. A record, and all of an append, have the server's
    `max_payload` less 16 KiB (1 MiB at most).
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        stream: str = "typed_sse",
        replicas: int = 1,
        max_age_s: float = DEFAULT_MAX_AGE_S,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", stream):
            raise InvalidField("stream", stream, "give 1 to 64 letters, digits, `_` or `-`")
        if not timeout_s > 0:
            raise InvalidField("timeout_s", timeout_s, "give a number of seconds above 0")
        if not 1 <= replicas <= 5:
            raise InvalidField("replicas", replicas, "give 1 to 5")
        if not KEY_WINDOW_S <= max_age_s <= 1e9:
            raise InvalidField("max_age_s", max_age_s, f"give {KEY_WINDOW_S:g} to 1e9 seconds")
        self._servers = [part.strip() for part in url.split(",")]
        self._name = ",".join(map(_without_password, self._servers)) + f" (stream {stream})"
        self._timeout_s = timeout_s
        self._stream = stream
        self._replicas = replicas
        self._max_age_s = max_age_s
        self._caps = _caps(_MAX_BODY_BYTES)
        self._client: Client | None = None
        self._feed: Feed | None = None
        self._last_error = "it was not started"
        # The stream's subjects begin so. The second word is made with the stream: what is meant for
        # one that was deleted cannot get into its successor.
        self._root = ""
        self._server_ahead_s = 0.0
        self._learning = asyncio.Lock()
        self._inbox = ""
        self._asked = 0
        self._calls: dict[str, _Call] = {}
        self._logs: OrderedDict[str, _Log] = OrderedDict()
        self._watched: dict[str, _Watch] = {}
        self._prefixes: tuple[str, ...] = ()
        self._torn = False
        self._caught_up = False
        self._reviving: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def caps(self) -> Caps:
        """What it can do; after `start` as the server allows."""
        return self._caps

    # Connection

    async def start(self, feed: Feed) -> None:
        """Connect, make the stream where there is none, and call `feed` from now on."""
        if self._feed is not None:
            raise InvalidField("feed", feed, "the engine is started already")
        await self._closed()
        self._feed = feed
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._open()
        except BaseException as error:
            self._feed = None
            await self._closed()
            if isinstance(error, TimeoutError):
                raise self._unavailable(self._no_answer()) from error
            raise

    async def _open(self) -> None:
        """Connect, find the stream, and subscribe to what is watched."""
        client = Client()
        self._client, self._caught_up = client, False
        self._last_error = ""
        try:
            await client.connect(
                list(self._servers),
                name="typed-sse",
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnect,
                reconnected_cb=self._on_reconnect,
                closed_cb=partial(self._on_close, client),
                connect_timeout=_CONNECT_TIMEOUT_S,
                reconnect_time_wait=0,
                max_reconnect_attempts=1,
                ping_interval=_PING_S,
                # Nothing is kept for a later connection, and no publish waits for the socket:
                # nats-py swallows a cancellation there.
                pending_size=0,
            )
        except (NatsError, OSError) as error:
            # NoServersError says nothing; what came before it does.
            reason = self._last_error or str(error)
            if "ConnectionResetError" in reason:
                reason += "; a server does so to credentials that it does not know"
            raise self._unavailable(reason) from error
        # Only the first connection gives up.
        client.options["max_reconnect_attempts"] = -1
        client.options["reconnect_time_wait"] = _RECONNECT_WAIT_S
        self._inbox = client.new_inbox()
        await _subscribed(client, f"{self._inbox}.*", self._on_reply)
        payload_bytes = client.max_payload
        if payload_bytes < _LEAST_PAYLOAD_BYTES:
            raise self._unavailable(
                f"the server's max_payload is {payload_bytes}, and {_LEAST_PAYLOAD_BYTES} bytes"
                " are needed; raise it in its configuration"
            )
        self._caps = _caps(payload_bytes - _OVERHEAD_BYTES)
        try:
            await self._learn()
            await _subscribed(client, f"{self._stream}.signal", self._on_signal)
            await self._watch_again(client)
            self._caught_up = True
        except (_Gone, _Broken, NatsError) as error:
            raise self._unavailable(str(error) or self._last_error) from error

    async def stop(self) -> None:
        """Let go of everything."""
        self._feed = None
        await self._closed()

    async def _closed(self) -> None:
        """Return when all is closed; that goes on where this is cancelled."""
        if self._closing is None:
            if self._client is None:
                return
            self._closing = asyncio.create_task(self._close(), name="typed-sse nats close")
        await asyncio.shield(self._closing)
        self._closing = None

    async def _close(self) -> None:
        client, self._client = self._client, None
        logs = list(self._logs.values())
        self._logs.clear()
        tasks = [log.task for log in logs if log.task is not None]
        if self._reviving is not None:
            tasks.append(self._reviving)
        self._reviving = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for log in logs:
            # Of a task that was cancelled before it began.
            self._fail(log.jobs, "the engine was stopped")
            log.jobs.clear()
        self._root = ""
        self._watched.clear()
        self._prefixes = ()
        if client is None:
            return
        await self._close_client(client)
        # Its tasks are cancelled, and end in the next rounds of the loop.
        for _ in range(3):
            await asyncio.sleep(0)

    async def _close_client(self, client: Client) -> None:
        try:
            # A stalled server does not take what is still to be sent.
            async with asyncio.timeout(self._timeout_s):
                await client.close()
        except (NatsError, OSError, TimeoutError) as error:
            _logger.debug("nats: %s", error)

    async def _on_error(self, error: Exception) -> None:
        # What the server says tells more than that it has closed the connection then.
        if not (isinstance(error, OSError) and "uthorization" in self._last_error):
            self._last_error = f"{type(error).__name__}: {error}"
        if not isinstance(error, SlowConsumerError):
            _logger.debug("nats: %s", self._last_error)
            return
        feed = self._feed
        if feed is None:
            return
        for name, watch in self._watched.items():
            if watch.subscription is error.sub:
                feed.lost(None if name.endswith("/") else [name])

    async def _on_disconnect(self) -> None:
        self._torn = True
        self._forget()
        for call in self._calls.values():
            if not call.done.done():
                call.done.set_exception(_Broken("the connection was lost"))

    async def _on_reconnect(self) -> None:
        # nats-py has subscribed again, and flushed. It takes an error here for a failed connection.
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._learn()
        except (_Gone, _Broken, EngineUnavailable, TimeoutError) as error:
            _logger.debug("nats: %s", error)
        self._mend()

    def _mend(self) -> None:
        self._torn = False
        if self._feed is not None:
            self._feed.lost(None)

    async def _on_close(self, client: Client) -> None:
        # Beside `close`, nats-py gives up for good on most errors that a server sends: of too many
        # connections, of a slow consumer, of credentials that are not known yet.
        if client is self._client and self._feed is not None and self._reviving is None:
            self._reviving = asyncio.create_task(self._revive(), name="typed-sse nats revive")

    async def _revive(self) -> None:
        # A cancellation may get lost in nats-py, so the end is seen by the feed too.
        while self._feed is not None:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._open()
            except (EngineUnavailable, TimeoutError) as error:
                _logger.debug("nats: %s", error)
            client = self._client
            if client is not None and client.is_connected and self._caught_up:
                break
            if client is not None:
                await self._close_client(client)
            await asyncio.sleep(2 * _RECONNECT_WAIT_S)
        self._reviving = None
        self._mend()

    def _connected(self) -> Client:
        client = self._client
        if client is None:
            raise self._unavailable("it is not started, or stopped")
        if not client.is_connected:
            raise self._unavailable(f"not connected ({self._last_error})")
        if client.pending_data_size > _UNSENT_BYTES:
            raise self._unavailable("the server takes nothing")
        return client

    def _unavailable(self, reason: str) -> EngineUnavailable:
        return EngineUnavailable(self._name, reason)

    def _no_answer(self) -> str:
        return f"no answer within timeout_s={self._timeout_s:g}"

    # Questions to the server

    async def _ask(
        self,
        subject: str,
        payload: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        many: bool = False,
    ) -> list[Msg]:
        """Send a message, and return the answers."""
        replies = await self._send(subject, payload, headers, many=many)
        if _status(replies[-1]) == "503":
            raise _Gone(f"nothing answers on {subject}; is JetStream enabled (nats-server -js)?")
        return replies

    async def _reached(self) -> None:
        """Return when the server has had all that was sent before.

        By a message to ourselves. `Client.flush` must neither be cancelled nor time out: the answer
        to a ping that nobody waits for any more ends nats-py's reading for good.
        """
        await self._send(None, b"", None, many=False)

    async def _send(
        self, subject: str | None, payload: bytes, headers: dict[str, str] | None, *, many: bool
    ) -> list[Msg]:
        client = self._connected()
        self._asked += 1
        token = str(self._asked)
        inbox = f"{self._inbox}.{token}"
        call = _Call(asyncio.get_running_loop().create_future(), many)
        self._calls[token] = call
        try:
            try:
                await client.publish(subject or inbox, payload, inbox if subject else "", headers)
            except NatsError as error:
                raise self._unavailable(str(error)) from error
            return await call.done
        finally:
            del self._calls[token]

    async def _on_reply(self, message: Msg) -> None:
        call = self._calls.get(message.subject.rpartition(".")[2])
        if call is None or call.done.done():
            return
        call.replies.append(message)
        if not call.many or _status(message) is not None:
            call.done.set_result(call.replies)

    async def _api(self, subject: str, request: Mapping[str, object]) -> "_Answer":
        payload = json.dumps(request).encode() if request else b""
        (reply,) = await self._ask(f"$JS.API.{subject}", payload)
        return _Answer(reply.data)

    async def _get(self, channel: str, many: bool = False, **request: object) -> list[_Message]:
        """Ask for messages of a channel, without its stream's leader."""
        replies = await self._ask(
            f"$JS.API.DIRECT.GET.{self._stream}", json.dumps(request).encode(), many=many
        )
        return [self._stored(channel, reply) for reply in replies if _status(reply) is None]

    async def _last(self, channel: str) -> _Message | None:
        """Return a channel's last message."""
        subject = self._subject(channel)
        if self._replicas == 1:
            messages = await self._get(channel, last_by_subj=subject)
            return messages[0] if messages else None
        # Any replica answers a direct get, and may be behind.
        answer = await self._api(f"STREAM.MSG.GET.{self._stream}", {"last_by_subj": subject})
        if answer.code:
            if answer.code == _NO_MESSAGE:
                return None
            raise self._unavailable(answer.description)
        message = answer.object("message")
        data = b64decode(str(message.get("data", "")))
        seq, stored = int(str(message["seq"])), str(message["time"])
        return self._decoded(channel, seq, _seconds(stored), data)

    async def _from(self, channel: str, seq: int) -> _Message | None:
        """Return a channel's first message that has this number or a higher one."""
        messages = await self._get(channel, seq=seq, next_by_subj=self._subject(channel))
        return messages[0] if messages else None

    def _stored(self, channel: str, reply: Msg) -> _Message:
        headers = reply.headers or {}
        seq, stored = int(headers["Nats-Sequence"]), headers["Nats-Time-Stamp"]
        return self._decoded(channel, seq, _seconds(stored), reply.data)

    def _decoded(self, channel: str, seq: int, time_s: float, data: bytes) -> _Message:
        try:
            return _decoded(channel, seq, time_s, data)
        except (struct.error, ValueError) as error:
            raise self._unavailable(
                f"message {seq} of the stream is none of typed-sse, or of a newer one"
            ) from error

    async def _calling(self, operation: Callable[[], Awaitable[_T]]) -> _T:
        """Call what changes nothing, or can be repeated, within the timeout."""
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await operation()
                except _Gone:
                    await self._learn()
                    return await operation()
        except TimeoutError as error:
            raise self._unavailable(self._no_answer()) from error
        except (_Gone, _Broken, NatsError) as error:
            raise self._unavailable(str(error)) from error

    # The stream

    async def _learn(self) -> None:
        """Find the stream or make it; where it is another than before, everything was lost."""
        async with self._learning:
            answer = await self._api(f"STREAM.INFO.{self._stream}", {})
            if answer.code == _NO_STREAM:
                answer = await self._api(f"STREAM.CREATE.{self._stream}", self._wanted())
                if answer.code == _NAME_TAKEN:
                    answer = await self._api(f"STREAM.INFO.{self._stream}", {})
            if answer.code:
                raise self._unavailable(answer.description)
            config = answer.object("config")
            root = self._checked(config)
            self._replicas = int(str(config.get("num_replicas", 1)))
            self._server_ahead_s = _seconds(answer.text("ts")) - time.monotonic()
            if root == self._root:
                return
            before, self._root = self._root, root
            self._forget()
            if not before:
                return
            client = self._connected()
            await self._watch_again(client)
            if self._feed is not None:
                self._feed.lost(None)

    def _wanted(self) -> Mapping[str, object]:
        root = f"{self._stream}.{secrets.token_hex(4)}"
        return {
            "name": self._stream,
            "subjects": [f"{root}.c.>"],
            "num_replicas": self._replicas,
            "max_age": int(self._max_age_s) * _NANO,
            **_FIXED,
            "republish": {"src": f"{root}.c.>", "dest": f"{root}.live.>"},
        }

    def _checked(self, config: Mapping[str, object]) -> str:
        """Return what the subjects of the stream begin with, where it is one of ours."""
        subjects = config.get("subjects")
        found = re.fullmatch(rf"\['({re.escape(self._stream)}\.[0-9a-f]+)\.c\.>'\]", str(subjects))
        root = found[1] if found else ""
        wanted: dict[str, object] = {
            **_FIXED,
            "republish": {"src": f"{root}.c.>", "dest": f"{root}.live.>"},
        }
        differs = [
            f"{name} is {config.get(name)!r}" for name in wanted if config.get(name) != wanted[name]
        ]
        if not root:
            differs.insert(0, f"subjects is {subjects!r}")
        if differs:
            raise self._unavailable(
                f"the stream {self._stream!r} is none of typed-sse's ({', '.join(differs)});"
                " give another name as `stream`, or delete it"
            )
        return root

    def _forget(self) -> None:
        """Believe nothing any more of what was known of the channels."""
        for log in self._logs.values():
            log.last, log.floor = None, 0

    def _subject(self, channel: str) -> str:
        return f"{self._root}.c.{_tokens(channel)}"

    # Append

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
        """Append records to a channel, all or none.

        Cancellation: what still waited is not appended; otherwise the server's answer is waited
        for, so that nothing comes later. A second cancellation does not wait.
        """
        bodies = check_append(self._caps, bodies, key, seal=seal)
        self._connected()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        job = _Job(bodies, retain, key, expect, seal, deadline, loop.create_future())
        log = self._log(channel)
        log.jobs.append(job)
        if log.task is None:
            # A task of its own: who waits for one of several appends may be cancelled alone.
            log.task = asyncio.create_task(self._write(channel, log), name="typed-sse nats append")
        try:
            return await job.done
        except asyncio.CancelledError:
            if job.taken and not job.over:
                job.settled = loop.create_future()
                await job.settled
            raise

    def _log(self, channel: str) -> _Log:
        log = self._logs.get(channel)
        if log is None:
            log = self._logs[channel] = _Log()
        self._logs.move_to_end(channel)
        if len(self._logs) > _REMEMBERED_CHANNELS:
            oldest = next(iter(self._logs))
            # One that is just written to is forgotten when its turn comes again.
            if self._logs[oldest].task is None:
                del self._logs[oldest]
            else:
                self._logs.move_to_end(oldest)
        return log

    async def _write(self, channel: str, log: _Log) -> None:
        """Append what waits for a channel, one message after the other."""
        jobs: list[_Job] = []
        try:
            while log.jobs:
                jobs = self._taken(log)
                if jobs:
                    await self._write_some(channel, log, jobs)
        except asyncio.CancelledError:
            self._fail([*jobs, *log.jobs], "the engine was stopped")
            log.jobs.clear()
            raise
        finally:
            log.task = None

    def _taken(self, log: _Log) -> list[_Job]:
        """Take the next append, and what can go with it."""
        jobs: list[_Job] = []
        records = size = 0
        while log.jobs:
            job = log.jobs[0]
            records += len(job.bodies)
            size += sum(map(len, job.bodies))
            full = records > MAX_BATCH or size > self._caps.max_batch_bytes
            if jobs and (full or not job.plain or not jobs[0].plain):
                break
            log.jobs.popleft()
            # Cancelled by whoever waited.
            if not job.done.done():
                job.taken = True
                jobs.append(job)
            else:
                records -= len(job.bodies)
                size -= sum(map(len, job.bodies))
        return jobs

    async def _write_some(self, channel: str, log: _Log, jobs: Sequence[_Job]) -> None:
        appended: Sequence[Appended] = ()
        why: Exception | None = None
        try:
            async with asyncio.timeout_at(jobs[0].deadline):
                appended = await self._store(channel, log, jobs)
                retain = jobs[-1].retain
                if log.last is not None and _too_many(log.last, log.floor, retain):
                    await self._trim(channel, log, log.last, retain)
        except Exception as error:  # whatever it is, somebody waits for it
            why = error
        if appended:
            # What is too much is hidden from readers, and removed another time.
            if why is not None:
                _logger.debug("nats: %s", why)
            for job, answer in zip(jobs, appended, strict=True):
                job.settle(answer)
            return
        log.last = None
        if why is None or isinstance(why, (TimeoutError, _Broken, _Gone, NatsError)):
            self._fail(jobs, str(why or "") or self._no_answer())
            return
        for job in jobs:
            job.settle(why)

    def _fail(self, jobs: Iterable[_Job], reason: str) -> None:
        for job in jobs:
            unknown = OutcomeUnknown(self._name, reason)
            job.settle(unknown if job.sent else self._unavailable(reason))

    async def _store(self, channel: str, log: _Log, jobs: Sequence[_Job]) -> Sequence[Appended]:
        """Append one message with the records of all `jobs`; return what each is answered."""
        job = jobs[0]
        learnt = False
        while True:
            root = self._root
            last = log.last
            if last is None or job.expect is not None or last.tail.sealed:
                last = log.last = await self._last(channel)
            if last is None and job.expect is not None:
                last = log.last = await self._begun(channel)
            refusal = _refusal(channel, last, job)
            if refusal is not None:
                known = await self._known(channel, last, job)
                if known is None:
                    raise refusal
                return [known]
            if root != self._root:
                # Made anew meanwhile; a number of the old one may be right by chance.
                log.last = None
                continue
            epoch = last.tail.cursor.epoch if last is not None else _random_bits()
            bodies = [body for each in jobs for body in each.bodies]
            tags = _tags(len(bodies), epoch, job.key)
            payload = _encoded(last, epoch, bodies, tags, jobs[-1].retain, seals=job.seal)
            headers = {_EXPECTED_LAST: str(last.seq if last is not None else 0)}
            if job.key is not None:
                headers[_MSG_ID] = _message_id(channel, job.key)
            for each in jobs:
                each.sent = True
            log.last = None
            try:
                (reply,) = await self._ask(self._subject(channel), payload, headers)
            except (EngineUnavailable, _Gone) as error:
                for each in jobs:
                    each.sent = False
                if isinstance(error, EngineUnavailable) or learnt:
                    raise
                learnt = True
                await self._learn()
                continue
            answer = _Answer(reply.data)
            if answer.code or answer.duplicate:
                for each in jobs:
                    each.sent = False
                if answer.code and answer.code not in _WRONG_LAST:
                    raise self._unavailable(answer.description)
                known = await self._known(channel, last, job)
                if known is not None:
                    return [known]
                continue
            first = answer.seq * _PLACES
            base = last.tail.base if last is not None else first
            before = last.total if last is not None else 0
            tail = Tail(Cursor(epoch, first + len(tags), tags[-1]), job.seal, base)
            total, retain = before + len(tags), jobs[-1].retain
            log.last = _Message(
                answer.seq, 0.0, before, total, retain.events, retain.age_s, (), tail
            )
            answers: list[Appended] = []
            start = 0
            for each in jobs:
                end = start + len(each.bodies)
                one = Cursor(epoch, first + start + 1, tags[start])
                other = Cursor(epoch, first + end, tags[end - 1])
                answers.append(Appended(one, other, duplicate=False))
                start = end
            return answers

    async def _known(self, channel: str, last: _Message | None, job: _Job) -> Appended | None:
        """Return what was appended under the key of a job, if it was."""
        if job.key is None:
            return None
        # Servers look at what has to be the last message of the subject before they look for the
        # id, so that the answer to the append itself does not tell.
        headers = {_MSG_ID: _message_id(channel, job.key), **_NEVER}
        (reply,) = await self._ask(self._subject(channel), b"", headers)
        answer = _Answer(reply.data)
        if not answer.duplicate:
            return None
        messages = await self._get(channel, seq=answer.seq)
        if messages:
            return messages[0].appended(duplicate=True)
        epoch = last.tail.cursor.epoch if last is not None else 0
        tags = _tags(len(job.bodies), epoch, job.key)
        first = Cursor(epoch, answer.seq * _PLACES + 1, tags[0])
        final = Cursor(epoch, answer.seq * _PLACES + len(tags), tags[-1])
        return Appended(first, final, duplicate=True)

    async def _begun(self, channel: str) -> _Message:
        """Begin a channel; return the last message of one that somebody else has begun."""
        epoch = _random_bits()
        payload = _encoded(None, epoch, (), (), Retain(), seals=False)
        while True:
            (reply,) = await self._ask(self._subject(channel), payload, {_EXPECTED_LAST: "0"})
            answer = _Answer(reply.data)
            if not answer.code:
                return _decoded(channel, answer.seq, 0.0, payload)
            if answer.code not in _WRONG_LAST:
                raise self._unavailable(answer.description)
            last = await self._last(channel)
            if last is not None:
                return last

    async def _trim(self, channel: str, log: _Log, last: _Message, retain: Retain) -> None:
        """Remove what is too much."""
        first = await self._from(channel, 1)
        if first is None:
            return
        log.floor = first.before
        if not _too_many(last, log.floor, retain):
            return
        cut = await self._found(channel, first, last, last.total - retain.events)
        request = {"filter": self._subject(channel), "seq": cut.seq}
        answer = await self._api(f"STREAM.PURGE.{self._stream}", request)
        if answer.code:
            raise self._unavailable(answer.description)
        log.floor = cut.before

    async def _found(self, channel: str, low: _Message, high: _Message, index: int) -> _Message:
        """Return the message that has a channel's record of this number, the first being 0.

        The oldest one where it is not there any more. Guesses first where it should be, then halves
        what is left: two or three questions where a channel is written to evenly.
        """
        if index >= high.before:
            return high
        end, guess = high.seq, True
        top = high.before
        while low.total <= index and end - low.seq > 1:
            middle = (low.seq + end) // 2
            if guess:
                part = (index - low.before) / max(1, top - low.before)
                middle = low.seq + int((end - low.seq) * part)
            guess = not guess
            middle = min(max(middle, low.seq + 1), end - 1)
            message = await self._from(channel, middle)
            if message is None or message.before > index:
                end = middle
                top = message.before if message is not None else top
            else:
                low = message
        return low

    # Read

    async def read(
        self, channel: str, after: Cursor | Newest, *, limit: int, max_bytes: int
    ) -> Page:
        """Return some of what is kept behind `after`."""
        return await self._calling(lambda: self._page(channel, after, limit, max_bytes))

    async def _page(self, channel: str, after: Cursor | Newest, limit: int, max_bytes: int) -> Page:
        last = await self._last(channel) or await self._begun(channel)
        kept = self._kept(last)
        tail = last.tail
        if isinstance(after, Newest):
            start = max(last.total - after.events, kept.number)
            seq = 1
            if start > 0 and (first := await self._from(channel, 1)) is not None:
                seq = (await self._found(channel, first, last, start)).seq
            kept = kept._replace(number=start)
            _, records = await self._records(channel, seq, -1, kept, last, limit, max_bytes)
        else:
            gap = gap_behind(after, tail, None, None)
            if gap is not GapReason.EVICTED:
                return Page((), gap, tail, more=False)
            seq = after.pos // _PLACES
            named, records = await self._records(
                channel, seq, after.pos, kept, last, limit, max_bytes
            )
            if named is None and (after.tag or after.pos != tail.base):
                named = await self._earlier(channel, after.pos, kept)
            gap = gap_behind(after, tail, named, records[0] if records else None)
            if gap is not None:
                return Page((), gap, tail, more=False)
        some = fitting(records[:limit], max_bytes)
        more = bool(some) and some[-1].cursor.pos < tail.cursor.pos
        return Page(some, None, tail, more)

    def _kept(self, last: _Message) -> "_Kept":
        now_s = time.monotonic() + self._server_ahead_s
        return _Kept(max(0, last.total - 2 * last.retain_events - _SPARE), now_s - last.age_s)

    async def _records(
        self,
        channel: str,
        seq: int,
        pos: int,
        kept: "_Kept",
        last: _Message,
        limit: int,
        max_bytes: int,
    ) -> tuple[Record | None, list[Record]]:
        """Return what is kept behind a position, enough for a page, and what is kept before it."""
        named: Record | None = None
        records: list[Record] = []
        size = 0
        subject = self._subject(channel)
        while seq <= last.seq and len(records) < limit and size <= max_bytes:
            messages = await self._get(
                channel,
                many=True,
                seq=max(seq, 1),
                next_by_subj=subject,
                batch=min(limit - len(records) + 2, _PAGE_MESSAGES),
                max_bytes=min(max(max_bytes, _OVERHEAD_BYTES), _PAGE_BYTES),
            )
            if not messages:
                if self._replicas == 1:
                    break
                # A replica that is behind.
                await asyncio.sleep(_RECONNECT_WAIT_S / 10)
                continue
            seq = messages[-1].seq + 1
            for message in messages:
                if message.seq > last.seq:
                    break
                for record in kept.of(message):
                    if record.cursor.pos <= pos:
                        named = record
                    else:
                        records.append(record)
                        size += len(record.body)
        return named, records

    async def _earlier(self, channel: str, pos: int, kept: "_Kept") -> Record | None:
        """Return a record that is kept and not behind a position, if there is one."""
        first = await self._from(channel, 1)
        if first is None or first.seq > pos // _PLACES:
            return None
        return next((record for record in kept.of(first) if record.cursor.pos <= pos), None)

    async def tails(self, channels: Sequence[str]) -> Sequence[Tail]:
        """Return the ends of these channels."""
        return await self._calling(lambda: self._tails(channels))

    async def _tails(self, channels: Sequence[str]) -> Sequence[Tail]:
        found: dict[str, Tail] = {}
        wanted = list(dict.fromkeys(channels))
        for start in range(0, len(wanted), _PAGE_SUBJECTS):
            some = wanted[start : start + _PAGE_SUBJECTS]
            lasts = await self._lasts(some)
            missing = [channel for channel in some if lasts[channel] is None]
            begun = await asyncio.gather(*map(self._begun, missing))
            lasts.update(zip(missing, begun, strict=True))
            for channel in some:
                last = lasts[channel]
                if last is not None:
                    found[channel] = last.tail
        return [found[channel] for channel in channels]

    async def _lasts(self, channels: Sequence[str]) -> dict[str, _Message | None]:
        """Return the last messages of some channels."""
        if self._replicas > 1 or len(channels) == 1:
            each = await asyncio.gather(*map(self._last, channels))
            return dict(zip(channels, each, strict=True))
        by_subject = {self._subject(channel): channel for channel in channels}
        request = {"multi_last": list(by_subject), "max_bytes": _PAGE_BYTES}
        replies = await self._ask(
            f"$JS.API.DIRECT.GET.{self._stream}", json.dumps(request).encode(), many=True
        )
        lasts: dict[str, _Message | None] = dict.fromkeys(channels)
        for reply in replies:
            if _status(reply) is None:
                channel = by_subject[(reply.headers or {})["Nats-Subject"]]
                lasts[channel] = self._stored(channel, reply)
        end = replies[-1].headers or {}
        if end.get("Nats-Num-Pending", "0") != "0":
            rest = [channel for channel in channels if lasts[channel] is None]
            lasts.update(zip(rest, await asyncio.gather(*map(self._last, rest)), strict=True))
        return lasts

    async def names(self, prefix: str, *, limit: int) -> Sequence[str]:
        """Return the names that begin so."""
        return await self._calling(lambda: self._names(prefix, limit))

    async def _names(self, prefix: str, limit: int) -> Sequence[str]:
        parent = prefix.rpartition("/")[0]
        root = f"{self._root}.c."
        counts: dict[str, int] = {}
        offset, total = 0, 1
        while offset < total:
            filtered = f"{root}{_tokens(parent)}.>" if "/" in prefix else f"{root}>"
            answer = await self._api(
                f"STREAM.INFO.{self._stream}", {"subjects_filter": filtered, "offset": offset}
            )
            if answer.code == _NO_STREAM:
                raise _Gone(answer.description)
            if answer.code:
                raise self._unavailable(answer.description)
            if self._checked(answer.object("config")) != self._root:
                raise _Gone("the stream was made anew")
            subjects = _object(answer.object("state").get("subjects"))
            for subject, count in subjects.items():
                channel = _channel(subject[len(root) :])
                if channel.startswith(prefix):
                    counts[channel] = int(str(count))
            total = int(answer.text("total") or 0)
            offset += max(1, int(answer.text("limit") or 0))
        names: list[str] = []
        candidates = sorted(counts)
        while candidates and len(names) < limit:
            some, candidates = candidates[:_PAGE_SUBJECTS], candidates[_PAGE_SUBJECTS:]
            # A single message may be the one that begins a channel, and has no records.
            single = [channel for channel in some if counts[channel] == 1]
            lasts = await self._lasts(single) if single else {}
            for channel in some:
                last = lasts.get(channel)
                if counts[channel] > 1 or (last is not None and last.records):
                    names.append(channel)
        return names[:limit]

    async def drop(self, channel: str) -> None:
        """Remove a channel."""
        await self._calling(lambda: self._drop(channel))

    async def _drop(self, channel: str) -> None:
        log = self._logs.get(channel)
        if log is not None:
            log.last, log.floor = None, 0
        request = {"filter": self._subject(channel)}
        answer = await self._api(f"STREAM.PURGE.{self._stream}", request)
        if answer.code == _NO_STREAM:
            raise _Gone(answer.description)
        if answer.code:
            raise self._unavailable(answer.description)
        if log is not None:
            log.last, log.floor = None, 0

    # Feed

    async def watch(self, channels: Collection[str]) -> None:
        """Let their records come to the feed."""
        client = self._connected()
        new: list[_Watch] = []
        try:
            async with asyncio.timeout(self._timeout_s):
                for name in dict.fromkeys(channels):
                    before = self._watched.get(name)
                    if before is None or not before.live:
                        watch = self._watched[name] = _Watch(name)
                        new.append(watch)
                        await self._subscribe(client, watch)
                        await self._unsubscribe(before)
                await self._reached()
        except BaseException as error:
            for watch in new:
                if self._watched.get(watch.name) is watch:
                    del self._watched[watch.name]
                await self._unsubscribe(watch)
            if isinstance(error, (TimeoutError, _Broken, NatsError)):
                raise self._unavailable(str(error) or self._no_answer()) from error
            raise
        for watch in new:
            watch.live = True
        self._note_prefixes()

    async def _watch_again(self, client: Client) -> None:
        """Subscribe to all that is watched, on a new connection or to a new stream."""
        for watch in list(self._watched.values()):
            before = watch.subscription
            await self._subscribe(client, watch)
            if before is not None:
                await self._unsubscribe(_Watch(watch.name, before))
        await self._reached()

    async def _subscribe(self, client: Client, watch: _Watch) -> None:
        end = ".>" if watch.name.endswith("/") else ""
        subject = f"{self._root}.live.{_tokens(watch.name.removesuffix('/'))}{end}"
        heard = partial(self._on_record, watch, self._root)
        watch.subscription = await _subscribed(client, subject, heard)

    async def _unsubscribe(self, watch: _Watch | None) -> None:
        if watch is None or watch.subscription is None:
            return
        try:
            await watch.subscription.unsubscribe()
        except NatsError as error:
            _logger.debug("nats: %s", error)

    async def unwatch(self, channels: Collection[str]) -> None:
        """Let them come no more."""
        gone = [self._watched.pop(name) for name in channels if name in self._watched]
        self._note_prefixes()
        for watch in gone:
            await self._unsubscribe(watch)

    def _note_prefixes(self) -> None:
        prefixes = tuple(
            sorted(n for n, watch in self._watched.items() if watch.live and n.endswith("/"))
        )
        changed = set(prefixes) ^ set(self._prefixes)
        self._prefixes = prefixes
        # Their records come by another subscription now; one may have fallen between the two.
        moved = (
            [name for name in self._watched if name.startswith(tuple(changed))] if changed else []
        )
        moved = [name for name in moved if name not in changed]
        if moved and self._feed is not None:
            self._feed.lost(None if any(name.endswith("/") for name in moved) else moved)

    def _by(self, channel: str) -> str:
        """Return the watched name whose subscription brings a channel's records."""
        for prefix in self._prefixes:
            if channel.startswith(prefix):
                return prefix
        return channel

    async def _on_record(self, watch: _Watch, root: str, message: Msg) -> None:
        feed, headers = self._feed, message.headers or {}
        if feed is None or self._watched.get(watch.name) is not watch or root != self._root:
            return
        if self._torn:
            self._torn = False
            feed.lost(None)
        start = f"{root}.live."
        channel = _channel(message.subject[len(start) :])
        if self._by(channel) != watch.name:
            return
        try:
            stored = _decoded(channel, int(headers["Nats-Sequence"]), 0.0, message.data)
        except (KeyError, struct.error, ValueError):
            # Readers come upon it, and say so.
            feed.lost([channel])
            return
        for record in stored.records:
            feed.record(record)

    async def signal(self, topic: str, data: bytes) -> None:
        """Tell every engine of the stream."""
        name = topic.encode()
        client = self._connected()
        payload = len(name).to_bytes(2, "big") + name + data

        async def sent() -> None:
            await client.publish(f"{self._stream}.signal", payload)
            await self._reached()

        await self._calling(sent)

    async def _on_signal(self, message: Msg) -> None:
        data = message.data
        end = 2 + int.from_bytes(data[:2], "big")
        if self._feed is not None and 2 <= end <= len(data):
            self._feed.signal(data[2:end].decode(errors="replace"), data[end:])

    async def health(self) -> Health:
        """Ask the server for the stream."""
        try:
            answer = await self._calling(lambda: self._api(f"STREAM.INFO.{self._stream}", {}))
        except EngineUnavailable as error:
            return Health(ready=False, detail=str(error))
        if answer.code:
            return Health(ready=False, detail=f"{self._name}: {answer.description}")
        state = answer.object("state")
        detail = (
            f"{self._name}: {state.get('num_subjects', 0)} channels, {state.get('bytes', 0)} bytes"
        )
        return Health(ready=True, detail=detail)


class _Subscribe(Protocol):
    """`Client.subscribe`, whose own type is partly unknown."""

    async def __call__(
        self,
        subject: str,
        *,
        cb: Callable[[Msg], Awaitable[None]],
        pending_msgs_limit: int,
        pending_bytes_limit: int,
    ) -> Subscription:
        """Subscribe."""
        raise NotImplementedError


class _Kept(NamedTuple):
    """What of a channel is still read: from which record on, and from when on."""

    number: int
    since_s: float

    def of(self, message: _Message) -> Sequence[Record]:
        if message.time_s < self.since_s:
            return ()
        return message.records[max(0, self.number - message.before) :]


class _Answer:
    """What JetStream has answered; no field is taken for granted."""

    def __init__(self, data: bytes) -> None:
        try:
            parsed: object = json.loads(data.decode())
        except ValueError:
            parsed = None
        self._fields = _object(parsed)
        error = self.object("error")
        self.code = int(str(error.get("err_code", 0))) if "error" in self._fields else 0
        if not self._fields:
            self.code = -1
        self.description = str(error.get("description", "an answer that is none of JetStream's"))
        self.duplicate = self._fields.get("duplicate") is True
        self.seq = int(str(self._fields.get("seq", 0)))

    def object(self, name: str) -> Mapping[str, object]:
        return _object(self._fields.get(name))

    def text(self, name: str) -> str:
        return str(self._fields.get(name, ""))


# Of every stream of ours, as the server answers it.
_FIXED: Final[Mapping[str, object]] = {
    "retention": "limits",
    "storage": "file",
    "discard": "old",
    "allow_direct": True,
    "duplicate_window": int(KEY_WINDOW_S) * _NANO,
    "max_msgs": -1,
    "max_bytes": -1,
    "max_msgs_per_subject": -1,
    "max_msg_size": -1,
    "allow_rollup_hdrs": False,
}


async def _subscribed(
    client: Client, subject: str, heard: Callable[[Msg], Awaitable[None]]
) -> Subscription:
    subscribe = cast("_Subscribe", client.subscribe)  # pyright: ignore[reportUnknownMemberType]
    return await subscribe(
        subject,
        cb=heard,
        pending_msgs_limit=_PENDING_MESSAGES,
        pending_bytes_limit=_PENDING_BYTES,
    )


def _object(value: object) -> Mapping[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _caps(most_bytes: int) -> Caps:
    most_bytes = min(most_bytes, _MAX_BODY_BYTES)
    return Caps(
        durability=Durability.HOST,
        shared=True,
        lossy_feed=True,
        max_body_bytes=most_bytes,
        max_batch_bytes=most_bytes,
    )


def _without_password(url: str) -> str:
    _, _, place = (url if "://" in url else f"nats://{url}").partition("://")
    scheme = url.partition("://")[0] if "://" in url else "nats"
    host = place.partition("/")[0].rpartition("@")[2]
    return f"{scheme}://{host}"


def _status(message: Msg) -> str | None:
    headers = message.headers
    return headers.get("Status") if headers and not message.data else None


def _too_many(last: _Message, floor: int, retain: Retain) -> bool:
    return last.total - floor > 2 * retain.events + _SPARE


def _refusal(channel: str, last: _Message | None, job: _Job) -> TypedSSEError | None:
    if last is None:
        return None
    if last.tail.sealed:
        return ChannelSealed(channel)
    if job.expect is not None and job.expect != last.tail.cursor:
        return Conflict(channel, str(job.expect), str(last.tail.cursor))
    return None


def _encoded(
    last: _Message | None,
    epoch: int,
    bodies: Sequence[bytes],
    tags: Sequence[int],
    retain: Retain,
    *,
    seals: bool,
) -> bytes:
    base, prev, before = 0, 0, 0
    if last is not None:
        base, prev, before = last.tail.base, last.tail.cursor.pos, last.total
    flags = _SEALS if seals else 0
    head = _MESSAGE.pack(
        _VERSION, flags, epoch, base, prev, before, retain.events, retain.age_s, len(bodies)
    )
    table = b"".join(_ENTRY.pack(tag, len(body)) for tag, body in zip(tags, bodies, strict=True))
    return b"".join((head, table, *bodies))


def _decoded(channel: str, seq: int, time_s: float, data: bytes) -> _Message:
    version, flags, epoch, base, prev, before, events, age_s, count = _MESSAGE.unpack_from(data)
    if version != _VERSION:
        raise ValueError(version)
    first = seq * _PLACES
    base = base or first
    prev = prev or first
    start = _MESSAGE.size + count * _ENTRY.size
    table = data[_MESSAGE.size : start]
    tail = Cursor(epoch, first, 0)
    records: list[Record] = []
    for place, (tag, size) in enumerate(_ENTRY.iter_unpack(table), 1):
        tail = Cursor(epoch, first + place, tag)
        seals = place == count and bool(flags & _SEALS)
        records.append(Record(channel, tail, prev, data[start : start + size], seals))
        prev = tail.pos
        start += size
    if start != len(data) or len(records) != count:
        raise ValueError(len(data))
    end = Tail(tail, bool(flags & _SEALS), base)
    return _Message(seq, time_s, before, before + count, events, age_s, records, end)


def _tags(count: int, epoch: int, key: str | None) -> Sequence[int]:
    if key is None:
        drawn = struct.unpack(f">{count}I", secrets.token_bytes(4 * count))
        # 0 is no tag.
        return drawn if all(drawn) else [tag or 1 for tag in drawn]
    seed = blake2s(key.encode(errors="replace"), key=epoch.to_bytes(4, "big"))
    tags: list[int] = []
    for place in range(count):
        one = seed.copy()
        one.update(place.to_bytes(2, "big"))
        tags.append(int.from_bytes(one.digest()[:4], "big") or 1)
    return tags


def _message_id(channel: str, key: str) -> str:
    name = channel.encode()
    text = len(name).to_bytes(2, "big") + name + key.encode(errors="replace")
    return blake2s(text, digest_size=16).hexdigest()


@lru_cache(maxsize=8192)
def _tokens(channel: str) -> str:
    """Write a channel's name as words of a subject; a word cannot be empty, or have dots."""
    parts = (quote(part, safe="").replace(".", "%2E") or "%" for part in channel.split("/"))
    return ".".join(parts)


@lru_cache(maxsize=8192)
def _channel(tokens: str) -> str:
    return "/".join("" if part == "%" else unquote(part) for part in tokens.split("."))


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _random_bits() -> int:
    return secrets.randbelow(2**32 - 1) + 1
