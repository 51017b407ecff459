"""What is published on a Redis server: a connection that hears it, kept open and subscribed.

Each thing that fits is passed on once, however many subscriptions it fits; where some may have gone
unheard, that is told before the next. Knows nothing of what is carried.
"""

import asyncio
import logging
import random
import re
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import cast

from typed_sse.channels.redis_wire import Call, LostError, Server, Wire, words
from typed_sse.errors import EngineUnavailable

# The silence after which the connection is asked whether it is alive.
_PING_S = 2.0
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.05, 2.0
# So many are subscribed to in one command.
_MOST_NAMES = 500

# What is subscribed to: the kind, as the commands have it in front, and a name or a pattern.
_Topic = tuple[bytes, bytes]
_EXACT, _PATTERN = b"", b"P"

_SETTLED = object()

_logger = logging.getLogger(__name__)


class Listener:
    """Hears what is published, from `start` to `end`.

    1. What is in `_wanted` is subscribed to on every connection, before it counts as ready.
    2. After a connection was lost nothing is passed on until `lost` was called, and that is when
       all is subscribed to again.
    3. Whatever it says is answered within the timeout, or the connection is given up: a connection
       whose other end is gone says nothing of itself.

    Args:
        server: where to listen.
        heard: called with the name that something was published under, and with that.
        lost: called when something may have gone unheard.

    Attributes:
        ready: set while it hears.
    """

    def __init__(
        self, server: Server, heard: Callable[[bytes, bytes], None], lost: Callable[[], None]
    ) -> None:
        self.ready = asyncio.Event()
        self._server = server
        self._heard = heard
        self._lost = lost
        # Who wants it: the calls that still wait, and `_SETTLED` once one has ended well.
        self._wanted: dict[_Topic, set[object]] = {}
        # What the server has confirmed; of the patterns, what the names that they fit begin with.
        self._exact: set[bytes] = set()
        self._patterns: dict[bytes, bytes] = {}
        self._wire: Wire | None = None
        self._alive: Call | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._was_ready = False
        self._why = ""

    async def start(self, deadline_s: float, name: bytes) -> None:
        """Begin, and watch a name that is never unwatched; raises as `watch`."""
        self._task = asyncio.create_task(self._run())
        await self.watch(deadline_s, [name])

    def end(self) -> set[asyncio.Task[None]]:
        """Begin to stop, once: nothing is called from now on; return what still ends."""
        self._why = "the engine was stopped"
        if self._task is None:
            return set()
        self._task.cancel()
        return {self._task}

    async def watch(self, deadline_s: float, names: Collection[bytes]) -> None:
        """Subscribe; return when the server has confirmed it.

        Args:
            deadline_s: when to give up, by the loop's clock.
            names: one that ends with `/` stands for all that begin with it.

        Raises:
            EngineUnavailable: it has not, by then; nothing new is subscribed to.
        """
        topics, me, done = [_topic(name) for name in names], object(), False
        for topic in topics:
            self._wanted.setdefault(topic, set()).add(me)
        try:
            async with asyncio.timeout_at(deadline_s):
                while not done:
                    await self.ready.wait()
                    wanted = [topic for topic in topics if topic in self._wanted]
                    with suppress(LostError):
                        for call in self._subscribe(b"SUBSCRIBE", wanted):
                            refused = (await call.answers)[-1]
                            if isinstance(refused, Exception):
                                raise EngineUnavailable(self._server.shown, words(refused))
                        done = True
        except TimeoutError:
            raise EngineUnavailable(self._server.shown, self._why or self._server.late) from None
        finally:
            for topic in topics:
                # Whoever unwatched in between has taken it out.
                wanting = self._wanted.get(topic, set())
                wanting.discard(me)
                if done:
                    wanting.add(_SETTLED)
            self._drop([topic for topic in topics if self._wanted.get(topic) == set()])

    def unwatch(self, names: Collection[bytes]) -> None:
        """Let nothing come of these names any more."""
        self._drop([topic for topic in map(_topic, names) if topic in self._wanted])

    def _drop(self, topics: Collection[_Topic]) -> None:
        for topic in topics:
            self._wanted.pop(topic, None)
        self._subscribe(b"UNSUBSCRIBE", topics)

    def _subscribe(self, command: bytes, topics: Collection[_Topic]) -> Sequence[Call]:
        calls: list[Call] = []
        if self._wire is None:
            return calls  # a connection to come subscribes to what is wanted by then
        for kind in (_EXACT, _PATTERN):
            some = [name for its_kind, name in topics if its_kind == kind]
            for start in range(0, len(some), _MOST_NAMES):
                names = some[start : start + _MOST_NAMES]
                calls.append(Call(inf, [(kind + command, *names)], answers=len(names)))
                self._wire.send(calls[-1])
        return calls

    async def _run(self) -> None:
        delay_s = _FIRST_BACKOFF_S
        while True:
            why = self._server.late
            try:
                await self._listen()
            except TimeoutError:
                pass
            except LostError as lost:
                why = str(lost)
            except Exception:
                why = "the feed's own error"
                _logger.exception(
                    "a feed of %s has raised; it is told of a loss", self._server.shown
                )
            if not self._why:
                _logger.warning("the feed of %s is interrupted: %s", self._server.shown, why)
                delay_s = _FIRST_BACKOFF_S
            self._why = why
            await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311 - it spreads reconnects
            delay_s = min(2 * delay_s, _LONGEST_BACKOFF_S)

    async def _listen(self) -> None:
        async with (
            asyncio.timeout(self._server.timeout_s) as silence,
            self._server.connected() as wire,
        ):
            self._wire, self._exact, self._patterns = wire, set(), {}
            self._subscribe(b"SUBSCRIBE", self._wanted)
            self._ping(wire)
            try:
                await wire.run(partial(self._take, wire, silence))
            finally:
                self._wire = None
                self.ready.clear()
                if self._timer is not None:
                    self._timer.cancel()

    def _ping(self, wire: Wire) -> None:
        self._alive = Call(inf, [(b"PING",)])
        wire.send(self._alive)

    def _take(self, wire: Wire, silence: asyncio.Timeout, said: object) -> None:
        if isinstance(said, Exception):
            # Of a subscription that is not allowed, and of all that it names.
            if not self.ready.is_set():
                raise LostError(words(said))
            wire.answered(said, wholly=True)
            return
        match cast("list[object]", said):
            case [b"message", bytes(name), bytes(data)]:
                if self.ready.is_set():
                    self._heard(name, data)
            case [b"pmessage", bytes(pattern), bytes(name), bytes(data)]:
                # The server sends it for each subscription that it fits.
                if self.ready.is_set() and name not in self._exact:
                    fits = [one for one, begin in self._patterns.items() if name.startswith(begin)]
                    if pattern == min(fits):
                        self._heard(name, data)
            case [bytes(done), bytes(name), int()]:
                if done == b"subscribe":
                    self._exact.add(name)
                elif done == b"unsubscribe":
                    self._exact.discard(name)
                elif done == b"psubscribe":
                    self._patterns[name] = re.sub(rb"(?s)\\(.)", rb"\1", name[:-1])
                else:
                    self._patterns.pop(name, None)
                wire.answered(said)
            case _:
                if wire.answered(said) is self._alive:
                    self._note_life(wire, silence)

    def _note_life(self, wire: Wire, silence: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        silence.reschedule(loop.time() + _PING_S + self._server.timeout_s)
        self._timer = loop.call_later(_PING_S, self._ping, wire)
        if self.ready.is_set():
            return
        if self._was_ready:
            _logger.info("the feed of %s is there again", self._server.shown)
            self._lost()
        self._was_ready = True
        self._why = ""
        self.ready.set()


def _topic(name: bytes) -> _Topic:
    if not name.endswith(b"/"):
        return _EXACT, name
    return _PATTERN, re.sub(rb"([\\*?\[\]])", rb"\\\1", name) + b"*"
