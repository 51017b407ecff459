"""Appends: what waits for a channel goes there in one message after the other.

A message is sent with the number of the one that it follows, and the server refuses it where
another has come in between. So the chain, the seal and `expect` are decided here, by whoever
appends. Knows the laws of appending; nothing of readers.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import MAX_BATCH, Appended, Retain
from typed_sse.channels.nats_client import Broken, Gone, Link
from typed_sse.channels.nats_messages import Message, decoded, encoded, new_epoch
from typed_sse.channels.nats_stream import Stream
from typed_sse.errors import ChannelSealed, Conflict, EngineUnavailable

_logger = logging.getLogger("typed_sse.channels")

_REMEMBERED_CHANNELS = 10_000
_STOPPED = Broken("the engine was stopped")


def _future() -> "asyncio.Future[None]":
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True, eq=False)
class Append:
    """One append that somebody waits for; `answer` is what has become of it when it is `over`."""

    bodies: Sequence[bytes]
    retain: Retain
    key: str | None
    expect: Cursor | None
    seal: bool
    deadline: float
    answer: Appended | Exception | None = None
    over: "asyncio.Future[None]" = field(default_factory=_future)

    @property
    def plain(self) -> bool:
        """Whether it may share a message with others."""
        return self.key is None and self.expect is None and not self.seal


@dataclass(slots=True)
class _Log:
    """What this process knows of a channel that it appends to.

    Attributes:
        last: its last message without the records, as far as known; checked by the server.
        floor: so many records, at least, were removed from here.
        task: the one that appends, while any `waiting` are there.
        sent: the server may have what is appended now.
    """

    last: Message | None = None
    floor: int = 0
    waiting: deque[Append] = field(default_factory=deque[Append])
    task: "asyncio.Task[None] | None" = None
    sent: bool = False


class Appends:
    """All appends of an engine."""

    def __init__(self, link: Link, stream: Stream) -> None:
        self.max_bytes = 0
        self._link = link
        self._stream = stream
        self._logs: OrderedDict[str, _Log] = OrderedDict()

    async def append(self, channel: str, append: Append) -> Appended:
        """Append; returns or raises what has become of it."""
        log = self._log(channel)
        log.waiting.append(append)
        if log.task is None:
            # A task of its own: who waits for one of several appends may be cancelled alone.
            log.task = asyncio.create_task(self._write(channel, log), name="typed-sse nats append")
        try:
            await append.over
        except asyncio.CancelledError:
            if append in log.waiting:
                log.waiting.remove(append)
            elif append.answer is None:
                # What was sent may be stored later than its end is told.
                append.over = _future()
                await append.over
            raise
        if isinstance(append.answer, Appended):
            return append.answer
        raise append.answer or _STOPPED

    def forget(self, channel: str | None = None) -> None:
        """Believe nothing any more of what was known of a channel, or of all."""
        for name, log in self._logs.items():
            if channel in (None, name):
                log.last, log.floor = None, 0

    async def stop(self) -> None:
        """End all."""
        logs = list(self._logs.values())
        tasks = [log.task for log in logs if log.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for log in logs:
            # Of a task that was cancelled before it began.
            self._end(log, log.waiting, _STOPPED)
        self._logs.clear()

    def _log(self, channel: str) -> _Log:
        log = self._logs.setdefault(channel, _Log())
        self._logs.move_to_end(channel)
        if len(self._logs) > _REMEMBERED_CHANNELS:
            oldest = next(iter(self._logs))
            if self._logs[oldest].task is None:
                del self._logs[oldest]
        return log

    async def _write(self, channel: str, log: _Log) -> None:
        """Append what waits for a channel, one message after the other."""
        try:
            while log.waiting:
                await self._write_some(channel, log, self._taken(log.waiting))
        finally:
            log.task = None

    def _taken(self, waiting: deque[Append]) -> Sequence[Append]:
        """Take the next append, and what can go with it."""
        taken = [waiting.popleft()]
        count, size = len(taken[0].bodies), sum(map(len, taken[0].bodies))
        while taken[0].plain and waiting and waiting[0].plain:
            count += len(waiting[0].bodies)
            size += sum(map(len, waiting[0].bodies))
            if count > MAX_BATCH or size > self.max_bytes:
                break
            taken.append(waiting.popleft())
        return taken

    async def _write_some(self, channel: str, log: _Log, appends: Sequence[Append]) -> None:
        try:
            async with asyncio.timeout_at(appends[0].deadline):
                try:
                    answers = await self._stored(channel, log, appends)
                except Gone:
                    await self._stream.learn()
                    answers = await self._stored(channel, log, appends)
                for append, answer in zip(appends, answers, strict=True):
                    append.answer = answer
                if log.last is not None and log.last.first_kept > log.floor:
                    await self._trim(channel, log, log.last)
        except Exception as error:  # whatever it is, somebody waits for it
            log.last = None
            # What could not be removed is hidden from readers, and removed another time.
            _logger.debug("nats: %s", error)
            self._end(log, appends, error)
        finally:
            self._end(log, appends, _STOPPED)

    def _end(self, log: _Log, appends: Iterable[Append], error: Exception) -> None:
        """Answer appends; by their failure those that have no answer."""
        for append in appends:
            if append.answer is None:
                append.answer = self._link.failure(error, sent=log.sent)
            if not append.over.done():
                append.over.set_result(None)
        log.sent = False

    async def _stored(
        self, channel: str, log: _Log, appends: Sequence[Append]
    ) -> Sequence[Appended]:
        """Store one message with the records of all; return what each is answered."""
        append, stream = appends[0], self._stream
        bodies = [body for each in appends for body in each.bodies]
        retain = appends[-1].retain
        while True:
            root, last = stream.root, log.last
            if append.expect is not None:
                last = await stream.last_or_begun(channel)
            elif last is None or last.tail.sealed:
                last = await stream.last(channel)
            end = last.tail if last is not None else None
            if end is not None and (end.sealed or append.expect not in (None, end.cursor)):
                known = await self._known(channel, last, append)
                if known is None:
                    raise (
                        ChannelSealed(channel)
                        if end.sealed
                        else Conflict(channel, str(append.expect), str(end.cursor))
                    )
                return [known]
            if root != stream.root:
                # Made anew meanwhile; a number of the old one may be right by chance.
                log.last = None
                continue
            epoch = last.tail.cursor.epoch if last is not None else new_epoch()
            payload = encoded(last, epoch, bodies, retain, key=append.key, seals=append.seal)
            log.last, log.sent = None, True
            try:
                seq = await stream.put(channel, payload, last, append.key)
            except (EngineUnavailable, Gone):
                log.sent = False
                raise
            log.sent = False
            if seq is not None:
                message = decoded(channel, seq, 0.0, payload)
                log.last = message._replace(records=())
                return _divided(message, appends)
            known = await self._known(channel, last, append)
            if known is not None:
                return [known]

    async def _known(self, channel: str, last: Message | None, append: Append) -> Appended | None:
        """Return what was appended under the key of an append, if it was."""
        if append.key is None:
            return None
        seq = await self._stream.number_of(channel, append.key)
        if seq is None:
            return None
        message = await self._stream.numbered(channel, seq)
        if message is None:
            epoch = last.tail.cursor.epoch if last is not None else 0
            again = encoded(last, epoch, append.bodies, append.retain, key=append.key)
            message = decoded(channel, seq, 0.0, again)
        return Appended(message.records[0].cursor, message.tail.cursor, duplicate=True)

    async def _trim(self, channel: str, log: _Log, last: Message) -> None:
        """Remove what is too much."""
        cut = await self._stream.holding(channel, last, last.total - last.retain.events)
        await self._stream.purge(channel, before=cut.seq)
        log.floor = cut.before


def _divided(message: Message, appends: Sequence[Append]) -> Sequence[Appended]:
    """Return what each of the appends in a message is answered."""
    answers: list[Appended] = []
    start = 0
    for append in appends:
        end = start + len(append.bodies)
        first, last = message.records[start], message.records[end - 1]
        answers.append(Appended(first.cursor, last.cursor, duplicate=False))
        start = end
    return answers
