"""LiveConnection: a connection without a task while its source has nothing to read.

What many readers share is handed to each of them as it comes, in the turn of whoever has it: that
costs a reader no task, no queue and no wake-up. Where a send has to wait, or the reader has fallen
behind, the connection goes back to reading in a task of its own. Knows what `connection` knows.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import replace

from typed_sse.connection import ClientGoneError, Connection, Message, Send
from typed_sse.registry import StreamRecord
from typed_sse.sources import Outlet, Pushing, Unseen

# After so many sends in a row that had to wait, a task of the connection's own is cheaper.
_WAITS_IN_A_ROW = 3

# The headers that say what a body is; a 204 has none.
_OF_A_BODY = (b"content-type", b"content-length")


class LiveConnection(Connection):
    """The sending side of one client's stream whose source can be parked.

    Invariants, beside those of `Connection`:
    8. While it is parked, and only then, the source may call `push`.
    9. `_behind` is set where `push` has refused something; then whoever ends the send that is under
       way starts a task again, which reads it.
    """

    __slots__ = (
        "_begin",
        "_behind",
        "_data_sender",
        "_pushed",
        "_pushing",
        "_source",
        "_unseen",
        "_waits",
    )

    _source: Outlet[object]
    _data_sender: Callable[[], Coroutine[object, object, object]] | None
    _pushing: Pushing

    def stream(
        self,
        source: Outlet[object],
        data_sender: Callable[[], Coroutine[object, object, object]] | None,
    ) -> None:
        """Send the whole response and close the source, in a task while there is need of one."""
        if source.pushing is None:
            raise TypeError("a source that cannot be parked needs a plain Connection")
        self._source, self._data_sender, self._pushing = source, data_sender, source.pushing
        self._begin: Callable[[Context, Send, Message], asyncio.Task[None] | None]
        self._begin = source.pushing.stand_in.begin
        self._behind = False
        self._waits = self._unseen = 0
        self._pushed = (0, 0)
        self._frames = replace(self._frames, end=_Ending(source.pushing, self._frames.end))
        super().stream(source, data_sender)

    def stop(self) -> None:
        """Cancel the stream where it stands; parked without helpers, it only hears no more."""
        super().stop()
        if self.parked:
            self._pushing.unpark()
            if self._helpers:
                self._wake()

    def push(self, piece: bytes, events: int, /) -> bool:
        """Send frames, as far as that goes without waiting; `False` while another send is on."""
        if self._sending_since is not None:
            self._behind = True
            return False
        if self._start is not None:  # nothing was sent yet: a task begins the response
            self.loop.call_soon(self.resume)
            return False
        message = {"type": "http.response.body", "body": piece, "more_body": True}
        try:
            sending = self._begin(self.context, self._send, message)
        except (Exception, asyncio.CancelledError) as error:
            self._not_pushed(error, events)
            return True
        record = self._record
        if sending is None:
            self._waits = 0
            self._sent_at = record.last_send_at = self.loop.time()
            record.events += events
            record.bytes += len(piece)
        else:
            self._sending_since = self.loop.time()
            self._waits += 1
            self._behind = self._waits >= _WAITS_IN_A_ROW
            if self._behind:
                self._pushing.never_again()
            self._pushed = len(piece), events
            self._helpers = self._helpers or set()
            self._helpers.add(sending)
            sending.add_done_callback(self._sent_beside)
        return True

    def resume(self) -> None:
        """Start a task again, which reads the source and parks again, or ends."""
        if self.parked:
            self.parked = self._behind = False
            self._pushing.unpark()
            super().stream(self._source, self._data_sender)

    def _done(self, task: asyncio.Task[None]) -> None:
        if self.parked and task is self.task:
            self.task = None  # an eager task, which has parked before it was known
        super()._done(task)

    def _wake(self) -> None:
        self.resume()

    def _park(self) -> None:
        if self._parting or self.cancelled or self.failure is not None:
            return
        if self._pushing.park(self):
            self.parked = True
            self.task = None
        elif self._pushing.is_over and self._start is not None:
            self._start = _without_content(self._start)
            self._frames = replace(self._frames, end=_nothing)

    def source_waits(self) -> BaseException | None:
        """Send what is ready in the name of another task, which goes on with it if it waits."""
        if self._batch:
            begin = self._pushing.stand_in.begin_within
            try:
                sending = begin(self.context, self._helping, self._put_batch)
            except BaseException as error:  # the source is to end with it
                return error
            if sending is not None:
                self._helpers = self._helpers or set()
                self._helpers.add(sending)
                sending.add_done_callback(self._helpers.discard)
        return super().source_waits()

    def _put_batch(self) -> Coroutine[object, object, None]:
        self._unseen = sum(isinstance(frame, Unseen) for frame in self._batch)
        return super()._put_batch()

    async def _put(self, body: bytes, events: int = 0, *, more: bool = True) -> None:
        events -= self._unseen
        self._unseen = 0
        try:
            await super()._put(body, events, more=more)
        finally:
            if self._behind:
                self.resume()

    def _sent_beside(self, sending: asyncio.Task[None]) -> None:
        if self._helpers is not None:
            self._helpers.discard(sending)
        size, events = self._pushed
        self._sending_since = None
        self._sent_at = self._record.last_send_at = self.loop.time()
        if self._sent is not None:
            self._sent.set()
            self._sent = None
        error = asyncio.CancelledError() if sending.cancelled() else sending.exception()
        if error is None:
            self._record.events += events
            self._record.bytes += size
        else:
            self._not_pushed(error, events)
        if self._behind:
            self.resume()

    def _not_pushed(self, error: BaseException, events: int) -> None:
        self._record.dropped += events
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            self.gone = True
            self._failed_beside(ClientGoneError())
        elif isinstance(error, Exception):
            self._broken = True
            self._failed_beside(error)
        else:
            # Cancelled by itself: what is lost must not be followed by more.
            self._cancel()
            self._end()
            self._wake()


class _Ending:
    """Makes the last frame: the source's own, where it has one."""

    __slots__ = ("_by_default", "_pushing")

    def __init__(self, pushing: Pushing, by_default: Callable[[StreamRecord], bytes]) -> None:
        self._pushing = pushing
        self._by_default = by_default

    def __call__(self, record: StreamRecord) -> bytes:
        last = self._pushing.last(record.events)
        return self._by_default(record) if last is None else last


def _nothing(_: StreamRecord) -> bytes:
    return b""


def _without_content(start: Message) -> Message:
    headers = [header for header in start["headers"] if header[0] not in _OF_A_BODY]
    return {**start, "status": 204, "headers": headers}
