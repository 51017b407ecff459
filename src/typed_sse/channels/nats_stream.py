"""The stream that holds all channels: found or made, asked for messages, cut where it is too long.

A stream may be deleted and made anew under the same name. The second word of its subjects is made
with it, so that what is meant for one cannot get into its successor. Knows JetStream's questions;
nothing of positions, or of what is too old.
"""

import asyncio
import json
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from typed_sse.channels.engine import Retain
from typed_sse.channels.nats_client import Gone, Link, status
from typed_sse.channels.nats_messages import (
    Answer,
    Message,
    channel_of,
    decoded,
    encoded,
    message_id,
    new_config,
    new_epoch,
    root_of,
    words,
)

_EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
_MSG_ID = "Nats-Msg-Id"
# No such rollup exists: a message that asks for it is refused, but after the look at its id. (Not
# one that expects another last id: with replicas, that is refused when it is applied, and
# nats-server 2.15 stops the whole stream then.)
_NEVER = {"Nats-Rollup": "typed-sse-probe"}
# Errors that are answers.
_REFUSED = (10111,)
_WRONG_LAST = (10071, 10164)
_NO_MESSAGE = (10037,)
_NAME_TAKEN = (10058,)
# So much of one answer the server sends at once, without waiting for us.
_PAGE_BYTES = 4 * 1024 * 1024
_PAGE_MESSAGES = 512
_LEAST_BYTES = 16 * 1024
_BEHIND_S = 0.01

_T = TypeVar("_T")


class Stream:
    """A stream of the server's; `moved` is called where it turns out to be another than before.

    Attributes:
        name: what it is called.
        root: what its subjects begin with.
    """

    def __init__(
        self, link: Link, name: str, replicas: int, moved: Callable[[], Awaitable[None]]
    ) -> None:
        self.name = name
        self.root = ""
        self._link = link
        self._replicas = replicas
        self._moved = moved
        self._server_ahead_s = 0.0
        self._learning = asyncio.Lock()

    def subject(self, channel: str) -> str:
        """Return what a channel's messages are sent to."""
        return f"{self.root}.c.{words(channel)}"

    def now_s(self) -> float:
        """Return the time on the server's clock."""
        return time.monotonic() + self._server_ahead_s

    async def calling(self, operation: Callable[[], Awaitable[_T]], *, writes: bool = False) -> _T:
        """Call what can be repeated, once more where the stream is gone; see `Link.within`."""

        async def call() -> _T:
            try:
                return await operation()
            except Gone:
                await self.learn()
                return await operation()

        return await self._link.within(call, writes=writes)

    async def learn(self) -> None:
        """Find the stream, or make it."""
        async with self._learning:
            try:
                info = await self.info()
            except Gone:
                config = new_config(self.name, self._replicas)
                info = await self._api("CREATE", config, expected=_NAME_TAKEN)
                if "error" in info:
                    info = await self.info()
            root = self._root_of(info)
            self._replicas = int(str(info["config"]["num_replicas"]))
            self._server_ahead_s = _seconds(info["ts"]) - time.monotonic()
            before, self.root = self.root, root
            if before not in ("", root):
                try:
                    await self._moved()
                except BaseException:
                    # So that it is done again.
                    self.root = before
                    raise

    async def info(self, request: Mapping[str, object] | None = None) -> Answer:
        """Ask what the stream is, and what is in it."""
        return await self._api("INFO", request or {})

    def _root_of(self, info: Answer) -> str:
        try:
            return root_of(self.name, info["config"])
        except ValueError as error:
            raise self._link.unavailable(
                f"the stream {self.name!r} is none of typed-sse's ({error});"
                " give another name as `stream`, or delete it"
            ) from error

    # --- Messages

    async def last(self, channel: str) -> Message | None:
        """Return a channel's last message."""
        subject = self.subject(channel)
        if self._replicas == 1:
            return await self._one(channel, last_by_subj=subject)
        # Any replica answers a direct get, and may be behind.
        answer = await self._api("MSG.GET", {"last_by_subj": subject}, expected=_NO_MESSAGE)
        if "message" not in answer:
            return None
        message = answer["message"]
        data = b64decode(message.get("data", ""))
        return self._decoded(channel, message["seq"], message["time"], data)

    async def last_or_begun(self, channel: str) -> Message:
        """Return a channel's last message; begin the channel where there is none."""
        while True:
            last = await self.last(channel)
            if last is not None:
                return last
            payload = encoded(None, new_epoch(), (), Retain())
            seq = await self.put(channel, payload, None)
            if seq is not None:
                return decoded(channel, seq, 0.0, payload)

    async def first(self, channel: str, seq: int = 1) -> Message | None:
        """Return a channel's first message that has this number or a higher one."""
        return await self._one(channel, seq=seq, next_by_subj=self.subject(channel))

    async def numbered(self, channel: str, seq: int) -> Message | None:
        """Return the message that has this number."""
        return await self._one(channel, seq=seq)

    async def some(
        self, channel: str, seq: int, last: Message, count: int, max_bytes: int
    ) -> Sequence[Message]:
        """Return messages from a number on, as the server likes, not beyond `last`."""
        request = {
            "seq": max(seq, 1),
            "next_by_subj": self.subject(channel),
            "batch": min(count, _PAGE_MESSAGES),
            "max_bytes": min(max(max_bytes, _LEAST_BYTES), _PAGE_BYTES),
        }
        while seq <= last.seq:
            messages = await self._get(channel, request, many=True)
            if messages or self._replicas == 1:
                return [message for message in messages if message.seq <= last.seq]
            # A replica that is behind.
            await asyncio.sleep(_BEHIND_S)
        return ()

    async def holding(self, channel: str, last: Message, number: int) -> Message:
        """Return the message that has a channel's record of this number, the first being 0.

        The oldest one where it is not there any more. Guesses first where it should be, then halves
        what is left: two or three questions where a channel is written to evenly.
        """
        if number >= last.before:
            return last
        low = await self.first(channel) or last
        end, top, guess = last.seq, last.before, True
        while low.total <= number and end - low.seq > 1:
            middle = (low.seq + end) // 2
            if guess:
                part = (number - low.before) / max(1, top - low.before)
                middle = low.seq + int((end - low.seq) * part)
            guess = not guess
            middle = min(max(middle, low.seq + 1), end - 1)
            message = await self.first(channel, middle)
            if message is None or message.before > number:
                end = middle
                top = message.before if message is not None else top
            else:
                low = message
        return low

    async def _one(self, channel: str, **request: object) -> Message | None:
        messages = await self._get(channel, request)
        return messages[0] if messages else None

    async def _get(
        self, channel: str, request: Mapping[str, object], *, many: bool = False
    ) -> list[Message]:
        """Ask for messages of a channel, whichever server answers."""
        get, payload = f"$JS.API.DIRECT.GET.{self.name}", json.dumps(request).encode()
        replies = await self._link.ask(get, payload, many=many)
        found = [(reply.headers or {}, reply.data) for reply in replies if status(reply) is None]
        return [
            self._decoded(channel, int(headers["Nats-Sequence"]), headers["Nats-Time-Stamp"], data)
            for headers, data in found
        ]

    def _decoded(self, channel: str, seq: int, stored: str, data: bytes) -> Message:
        try:
            return decoded(channel, seq, _seconds(stored), data)
        except ValueError as error:
            raise self._link.unavailable(
                f"message {seq} of the stream is none of typed-sse, or of a newer one"
            ) from error

    # --- Changes

    async def put(
        self, channel: str, payload: bytes, last: Message | None, key: str | None = None
    ) -> int | None:
        """Store a message behind `last`, and return its number.

        `None` where another has come in between, or one with the same key; on `EngineUnavailable`
        and `Gone` it was not stored, on `Broken` nobody knows.
        """
        headers = {_EXPECTED_LAST: str(last.seq if last is not None else 0)}
        if key is not None:
            headers[_MSG_ID] = message_id(channel, key)
        subject = self.subject(channel)
        answer = await self._link.ask_json(subject, payload, headers, expected=_WRONG_LAST)
        return None if "error" in answer or answer.get("duplicate") else answer["seq"]

    async def number_of(self, channel: str, key: str) -> int | None:
        """Return the number of the message that was stored under a key, if there was one.

        Servers look at what has to be the last message of the subject before they look for the key,
        so that `put` cannot tell.
        """
        headers = {_MSG_ID: message_id(channel, key), **_NEVER}
        subject = self.subject(channel)
        answer = await self._link.ask_json(subject, b"", headers, expected=_REFUSED)
        return None if "error" in answer else answer["seq"]

    async def purge(self, channel: str, before: int | None = None) -> None:
        """Remove a channel's messages; with `before`, those that have lower numbers."""
        request: dict[str, object] = {"filter": self.subject(channel)}
        if before is not None:
            request["seq"] = before
        await self._api("PURGE", request)

    async def _api(
        self, name: str, request: Mapping[str, object], *, expected: Collection[int] = ()
    ) -> Answer:
        subject = f"$JS.API.STREAM.{name}.{self.name}"
        payload = json.dumps(request).encode() if request else b""
        return await self._link.ask_json(subject, payload, expected=expected)

    # --- Names

    async def counts(self, prefix: str) -> Mapping[str, int]:
        """Return how many messages the channels have whose names begin so."""
        parent, slash, _ = prefix.rpartition("/")
        root = f"{self.root}.c."
        subjects = f"{root}{words(parent)}.>" if slash else f"{root}>"
        counts: dict[str, int] = {}
        offset, total = 0, 1
        while offset < total:
            info = await self.info({"subjects_filter": subjects, "offset": offset})
            if self._root_of(info) != self.root:
                raise Gone("the stream was made anew")
            for subject, count in info["state"].get("subjects", {}).items():
                channel = channel_of(subject.removeprefix(root))
                if channel.startswith(prefix):
                    counts[channel] = count
            total = info["total"]
            offset += max(1, info["limit"])
        return counts


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
