"""The feed of a SQLite file: hands over what was committed, by whomever, once and in order.

A thread asks SQLite whether another connection has committed; what this process commits by itself
is handed over at once, where nothing is missing in between. Knows nothing of calls.
"""

import sqlite3
import threading
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress

from typed_sse.channels.engine import Feed, Record
from typed_sse.channels.sqlite_file import Unusable, is_busy
from typed_sse.channels.sqlite_log import Place, Signal, SqliteLog

_POLL_S = 0.004
# Without a watched channel it is only for signals.
_QUIET_POLL_S = 0.02
_REOPEN_AFTER_S = 0.1
# So many pages may wait for the event loop.
_PAGES_AHEAD = 16

_News = Sequence[Record | Signal]


class SqliteFeed:
    """Calls a `Feed` in its loop.

    Invariant: what touches the log or `_heard`, up to where it was handed over, or what is watched,
    and what puts pages in line, has `_turn`: their order is the log's.
    """

    def __init__(self, log: SqliteLog, feed: Feed, loop: AbstractEventLoop) -> None:
        self._log = log
        self._feed = feed
        self._loop = loop
        self._over = False
        self._wake = threading.Event()
        self._turn = threading.Lock()
        self._version: int | None = None
        self._heard: tuple[tuple[int, int] | None, Place] = None, Place(0, 0)
        # `None` is a loss.
        self._pages = deque[_News | None]()
        self._names = set[str]()
        self._prefixes: tuple[str, ...] = ()

    def open(self) -> None:
        """Make the file where there is none, and begin behind what there is now."""
        with self._turn:
            self._log.prepare()
            self._begin()

    def _begin(self) -> None:
        self._log.ready()
        self._heard = self._log.identity, self._log.newest()

    def watch(self, names: Collection[str]) -> None:
        """Let the records of channels through; in a thread."""
        with self._turn:
            self._look()
            self._names.update(names)
            self._note_prefixes(names)

    def unwatch(self, names: Collection[str]) -> None:
        """Let them through no more; in a thread."""
        with self._turn:
            self._names.difference_update(names)
            self._note_prefixes(names)

    def _note_prefixes(self, changed: Collection[str]) -> None:
        if any(name.endswith("/") for name in changed):
            self._prefixes = tuple(name for name in self._names if name.endswith("/"))

    def stop(self) -> None:
        """Call the feed no more, and let `run` end."""
        self._over = True
        self._wake.set()

    def run(self) -> None:
        """Look for what was committed, until `stop`; in a thread of its own."""
        while not self._over and not self._loop.is_closed():
            pause_s = _POLL_S if self._names else _QUIET_POLL_S
            with self._turn:
                try:
                    self._look()
                except (sqlite3.Error, OSError, Unusable) as error:
                    if not is_busy(error):
                        self._log.close()
                        pause_s = _REOPEN_AFTER_S
            self._wake.wait(pause_s)
            self._wake.clear()

    def close(self) -> None:
        """Disconnect, when `run` has ended and nothing is watched any more."""
        with self._turn:
            self._log.close()

    def _look(self) -> None:
        """Put what is new in line, as long as there is room."""
        seen, self._version = self._version, None
        anew = self._log.ready()
        # Not anew, and another: when it was opened, somebody was in the way.
        if anew or self._heard[0] != self._log.identity:
            self._begin_anew()
            seen = None
        version = self._log.version()
        while version != seen and len(self._pages) < _PAGES_AHEAD:
            if not self._turn_page():
                seen = version
        if version == seen:
            self._version = version

    def _turn_page(self) -> bool:
        """Put a page in line; return whether there may be another."""
        _, last = self._heard
        page = self._log.news(last)
        if page is None:
            self._begin_anew()
            return False
        end, news = page
        self._heard = self._log.identity, end
        if wanted := self._wanted(news):
            self._put(wanted)
        return end != last

    def _begin_anew(self) -> None:
        self._begin()
        self._put(None)

    def _put(self, page: _News | None) -> None:
        self._pages.append(page)
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self.hear)

    def take(self, log: SqliteLog) -> bool:
        """Put in line what was just committed to `log`, where all before it is.

        Return whether `hear` is to be called for it, in the loop.
        """
        wanted = self._wanted(log.fresh)
        if self._turn.acquire(blocking=False):
            try:
                room = not wanted or len(self._pages) < _PAGES_AHEAD
                if room and self._heard == (log.identity, log.before):
                    self._heard = log.identity, log.after
                    if wanted:
                        self._pages.append(wanted)
                    return bool(wanted)
            finally:
                self._turn.release()
        if wanted:
            self._wake.set()
        return False

    def _wanted(self, news: _News) -> _News:
        names, prefixes = self._names, self._prefixes
        return [
            one
            for one in news
            if isinstance(one, Signal) or one.channel in names or one.channel.startswith(prefixes)
        ]

    def hear(self) -> None:
        """Call the feed with the page that is next; in the loop."""
        page = self._pages.popleft()
        if len(self._pages) == _PAGES_AHEAD - 1:
            self._wake.set()
        if page is None and not self._over:
            self._feed.lost(None)
        for one in page or ():
            if self._over:
                return
            if isinstance(one, Signal):
                self._feed.signal(*one)
            else:
                self._feed.record(one)
