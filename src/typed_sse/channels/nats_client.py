"""A connection to NATS servers: questions and answers, subscriptions, and the way back.

nats-py connects again by itself; where it gives up for good, another client takes its place. What
fails is told by what is known: not available, or of unknown outcome. Knows nats-py and its traps,
and is the only file that imports it; nothing of channels or of a stream's contents.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar, cast
from urllib.parse import urlsplit

from nats.aio.client import Client
from nats.aio.msg import Msg as Msg
from nats.aio.subscription import Subscription as Subscription
from nats.errors import Error as NatsError
from nats.errors import SlowConsumerError

from typed_sse.channels.nats_messages import Answer
from typed_sse.errors import EngineUnavailable, InvalidField, OutcomeUnknown, TypedSSEError

_NO_STREAM = 10059

# What may wait in this process to be looked at, before messages are dropped and the feed told.
_PENDING_MESSAGES = 65_536
_PENDING_BYTES = 128 * 1024 * 1024
# What may wait for a server that takes nothing.
_UNSENT_BYTES = 32 * 1024 * 1024
_RECONNECT_WAIT_S = 0.1
_CONNECT_TIMEOUT_S = 2
# A server that answers nothing is given up after three of these.
_PING_S = 5

_logger = logging.getLogger("typed_sse.channels")

_T = TypeVar("_T")


class Gone(Exception):
    """Nobody answers on the subject: no JetStream, or not this stream any more."""


class Broken(Exception):
    """The connection was lost before the answer came."""


@dataclass(slots=True, eq=False)
class _Call:
    """A question; `many` answers end with one that has a status."""

    done: "asyncio.Future[list[Msg]]"
    many: bool
    replies: list[Msg] = field(default_factory=list[Msg])


class Link:
    """The connection; made when it is started, and kept up until it is stopped.

    Args:
        url, stream, timeout_s: as in `NatsEngine`; raises `InvalidField` for a URL that is none.
        opened: called when a new client is connected, that has no subscriptions yet.
        cut: called when the connection is lost.
        resumed: called when it is there again, with its subscriptions.

    Attributes:
        name: where it is, without passwords.
        overflowed: called when messages of a subscription were dropped.
    """

    overflowed: Callable[[Subscription], None]

    def __init__(
        self,
        url: str,
        stream: str,
        timeout_s: float,
        opened: Callable[[], Awaitable[None]],
        cut: Callable[[], None],
        resumed: Callable[[], Coroutine[None, None, None]],
    ) -> None:
        self._servers = [part.strip() for part in url.split(",")]
        self.name = ",".join(map(_without_password, self._servers)) + f" (stream {stream})"
        if not all(map(_is_a_place, self._servers)):
            form = "nats://[user[:password]@]host[:port], without / ? # [ ] in a password"
            # Not the name: of a password that is taken apart wrongly, it would have a part.
            scheme = url.partition(":")[0]
            raise InvalidField("url", f"{scheme}://...", f"give {form}")
        self._timeout_s = timeout_s
        self._opened, self._cut, self._resumed = opened, cut, resumed
        self._client: Client | None = None
        self._error = ""
        self._inbox = ""
        self._asked = 0
        self._calls: dict[str, _Call] = {}
        self._up = False
        self._reviving: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    # --- The connection

    async def start(self) -> None:
        """Connect, or raise `EngineUnavailable` and let go of everything."""
        await self.stop()
        try:
            await self.within(self._open)
            self._up = True
        except BaseException:
            await self.stop()
            raise

    async def _open(self) -> None:
        client = self._client = Client()
        self._error = ""
        try:
            await client.connect(
                list(self._servers),
                name="typed-sse",
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnect,
                reconnected_cb=self._resumed,
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
            reason = self._error or str(error)
            if "ConnectionResetError" in reason:
                reason += "; a server does so to credentials that it does not know"
            raise self.unavailable(reason) from error
        # Only the first connection gives up.
        client.options["max_reconnect_attempts"] = -1
        client.options["reconnect_time_wait"] = _RECONNECT_WAIT_S
        self._inbox = client.new_inbox()
        await self.subscribe(f"{self._inbox}.*", self._on_reply)
        await self._opened()

    async def stop(self) -> None:
        """Return when all is closed; that goes on where this is cancelled."""
        self._up = False
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="typed-sse nats close")
        await asyncio.shield(self._closing)
        self._closing = None

    async def _close(self) -> None:
        if self._reviving is not None:
            self._reviving.cancel()
            await asyncio.wait({self._reviving})
            self._reviving = None
        await self._close_client()

    async def _close_client(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        try:
            # A stalled server does not take what is still to be sent.
            async with asyncio.timeout(self._timeout_s):
                await client.close()
        except (NatsError, OSError, TimeoutError) as error:
            _logger.debug("nats: %s", error)

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, SlowConsumerError):
            self.overflowed(error.sub)
            return
        # What the server says tells more than that it has closed the connection then.
        if not (isinstance(error, OSError) and "uthorization" in self._error):
            self._error = f"{type(error).__name__}: {error}"
        _logger.debug("nats: %s", self._error)

    async def _on_disconnect(self) -> None:
        self._cut()
        for call in self._calls.values():
            if not call.done.done():
                call.done.set_exception(Broken("the connection was lost"))

    async def _on_close(self, client: Client) -> None:
        # Beside `close`, nats-py gives up for good on most errors that a server sends: of too many
        # connections, of a slow consumer, of credentials that are not known yet.
        if client is self._client and self._up and self._reviving is None:
            self._reviving = asyncio.create_task(self._revive(), name="typed-sse nats revive")

    async def _revive(self) -> None:
        # A cancellation may get lost in nats-py, so the end is seen by `_up` too.
        while self._up:
            try:
                await self.within(self._open)
                if self._client is not None and self._client.is_connected:
                    break
            except EngineUnavailable as error:
                _logger.debug("nats: %s", error)
            await self._close_client()
            await asyncio.sleep(2 * _RECONNECT_WAIT_S)
        self._reviving = None
        if self._up:
            await self._resumed()

    def connected(self) -> Client:
        """Return the client, where something can be sent now."""
        client = self._client
        if client is None or not client.is_connected:
            raise self.unavailable(f"not connected ({self._error or 'it is not started'})")
        if client.pending_data_size > _UNSENT_BYTES:
            raise self.unavailable("the server takes nothing")
        return client

    # --- What becomes of a call

    def unavailable(self, reason: str) -> EngineUnavailable:
        """Return the error of what was not done."""
        return EngineUnavailable(self.name, reason)

    def failure(self, error: Exception, *, sent: bool) -> TypedSSEError:
        """Return the error of what may have been done, if it was `sent`, and was not otherwise."""
        if isinstance(error, TypedSSEError):
            return error
        late = f"no answer within timeout_s={self._timeout_s:g}"
        reason = late if isinstance(error, TimeoutError) else str(error) or self._error
        return OutcomeUnknown(self.name, reason) if sent else self.unavailable(reason)

    async def within(self, operation: Callable[[], Awaitable[_T]], *, writes: bool = False) -> _T:
        """Call something, for no longer than the timeout.

        Raises:
            EngineUnavailable: it could not be done.
            OutcomeUnknown: nobody knows, and it `writes`.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await operation()
        except (TimeoutError, Broken) as error:
            raise self.failure(error, sent=writes) from error
        except (Gone, NatsError) as error:
            raise self.failure(error, sent=False) from error

    # --- Messages

    async def ask(
        self,
        subject: str,
        payload: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        many: bool = False,
    ) -> list[Msg]:
        """Send a message, and return the answers.

        Raises:
            EngineUnavailable: it was not sent.
            Gone: nobody has heard it.
            Broken: the connection was lost before the answer came.
        """
        client = self.connected()
        self._asked += 1
        token = str(self._asked)
        inbox = f"{self._inbox}.{token}"
        call = self._calls[token] = _Call(asyncio.get_running_loop().create_future(), many)
        try:
            try:
                await client.publish(subject or inbox, payload, inbox if subject else "", headers)
            except NatsError as error:
                raise self.unavailable(str(error)) from error
            replies = await call.done
        finally:
            del self._calls[token]
        if status(replies[-1]) == "503":
            raise Gone(f"nothing answers on {subject}; is JetStream enabled (nats-server -js)?")
        return replies

    async def _on_reply(self, message: Msg) -> None:
        call = self._calls.get(message.subject.rpartition(".")[2])
        if call is None or call.done.done():
            return
        call.replies.append(message)
        if not call.many or status(message) is not None:
            call.done.set_result(call.replies)

    async def reached(self) -> None:
        """Return when the server has had all that was sent before.

        By a message to ourselves. `Client.flush` must neither be cancelled nor time out: the answer
        to a ping that nobody waits for any more ends nats-py's reading for good.
        """
        await self.ask("")

    async def tell(self, subject: str, payload: bytes) -> None:
        """Send a message that nobody answers; returns when the server has it."""
        client = self.connected()
        await client.publish(subject, payload)
        try:
            await self.reached()
        except EngineUnavailable as error:
            raise Broken(error.reason) from error

    async def ask_json(
        self,
        subject: str,
        payload: bytes,
        headers: dict[str, str] | None = None,
        *,
        expected: Collection[int] = (),
    ) -> Answer:
        """Ask JetStream; raises what it refuses, but for the `expected` errors."""
        (reply,) = await self.ask(subject, payload, headers)
        answer = cast("Answer", json.loads(reply.data))
        error = answer.get("error")
        if error is not None and error["err_code"] not in expected:
            if error["err_code"] == _NO_STREAM:
                raise Gone(error["description"])
            raise self.unavailable(error["description"])
        return answer

    async def subscribe(
        self, subject: str, heard: Callable[[Msg], Awaitable[None]]
    ) -> Subscription:
        """Subscribe; live after `reached`."""
        return await self.connected().subscribe(  # pyright: ignore[reportUnknownMemberType]
            subject,
            cb=heard,
            pending_msgs_limit=_PENDING_MESSAGES,
            pending_bytes_limit=_PENDING_BYTES,
        )

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription, whatever has become of it."""
        try:
            await subscription.unsubscribe()
        except NatsError as error:
            _logger.debug("nats: %s", error)


def status(message: Msg) -> str | None:
    """Return what the server says of a question, where this is no message but that."""
    headers = message.headers
    return headers.get("Status") if headers and not message.data else None


def _is_a_place(url: str) -> bool:
    # nats-py tells of a port that is none in words that may be a password's, and late.
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        return parts.port != 0 and bool(parts.hostname)
    except ValueError:
        return False


def _without_password(url: str) -> str:
    scheme, separator, place = url.partition("://")
    if not separator:
        scheme, place = "nats", url
    # The last "@": a password may have one, or a "/", that is not encoded.
    return f"{scheme}://{place.rpartition('@')[2].partition('/')[0]}"
