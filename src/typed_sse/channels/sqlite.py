"""The engine in a SQLite file: several processes on one host, and no server.

A commit writes one row a record into `log`, whose `seq` is the order of commits over all channels;
the newest row of a channel is its tail. So an append reads one row and writes its own. The row
with the largest `seq` is never deleted, so that no `seq` is given out twice, and a feed that finds
its last row unchanged (by its random tag) has missed nothing.

Three threads: one writes, and commits what waits as one transaction; one reads; one listens for
what other processes have committed. `_File` is the SQL, and knows neither threads nor tasks.
"""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import (
    DEFAULT_TIMEOUT_S,
    KEY_WINDOW_S,
    Appended,
    Caps,
    Durability,
    Feed,
    Health,
    Newest,
    Page,
    Record,
    Retain,
    Tail,
    check_append,
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

_T = TypeVar("_T")

_CAPS = Caps(durability=Durability.HOST, shared=True, lossy_feed=False)

_APPLICATION_ID = 0x74535345
_SCHEMA_VERSION = 1
# Names, keys and topics are UTF-8 in blobs: their order is that of strings, and none is refused.
_SCHEMA = (
    """CREATE TABLE channel (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name BLOB NOT NULL UNIQUE,
        epoch INTEGER NOT NULL,
        events INTEGER NOT NULL,
        age_s REAL NOT NULL,
        due_s REAL NOT NULL
    )""",
    "CREATE INDEX channel_due ON channel (due_s)",
    # A record, or with a topic and neither channel nor pos a signal. The body is last: whoever does
    # not ask for it does not read its pages.
    """CREATE TABLE log (
        seq INTEGER PRIMARY KEY,
        channel INTEGER,
        pos INTEGER,
        tag INTEGER NOT NULL,
        at_s REAL NOT NULL,
        seals INTEGER NOT NULL,
        topic BLOB,
        body BLOB NOT NULL
    )""",
    "CREATE UNIQUE INDEX log_place ON log (channel, pos)",
    """CREATE TABLE answer (
        id INTEGER PRIMARY KEY,
        name BLOB NOT NULL,
        key BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        first_pos INTEGER NOT NULL,
        first_tag INTEGER NOT NULL,
        last_pos INTEGER NOT NULL,
        last_tag INTEGER NOT NULL,
        expires_s REAL NOT NULL,
        UNIQUE (name, key)
    )""",
    # Channels that are gone, and whose rows are still to be deleted.
    "CREATE TABLE doomed (channel INTEGER PRIMARY KEY)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)
_CHANNEL = """SELECT c.id, c.epoch, c.events, c.age_s, l.pos, l.tag, l.seals, l.at_s
    FROM channel c LEFT JOIN log l ON l.channel = c.id
        AND l.pos = (SELECT max(pos) FROM log WHERE channel = c.id)
    WHERE c.name = ?"""
_NEWS = """SELECT l.seq, l.tag, c.name, c.epoch, l.pos, l.seals, l.topic, l.body
    FROM log l LEFT JOIN channel c ON c.id = l.channel"""
_NEWS_OF_ALL = f"{_NEWS} WHERE l.seq >= ? ORDER BY l.seq LIMIT ?"
_NEWS_OF_SIGNALS = f"""{_NEWS} WHERE l.channel IS NULL AND l.pos IS NULL AND l.seq >= ?
    ORDER BY l.seq LIMIT ?"""
_NEWEST = "SELECT seq, tag FROM log ORDER BY seq DESC LIMIT 1"

# Processes of several hosts would meet there, and the write-ahead log is for those of one.
_NETWORK_FILE_SYSTEMS = {
    *("afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "gfs2"),
    *("lustre", "nfs", "nfs4", "ocfs2", "smb3", "smbfs"),
}

# So long, at least, a channel is remembered after its last record.
_REMEMBER_S = 86_400.0
# So many more than twice what is to be kept may be read.
_SPARE = 100
# What is too much is deleted when a channel's positions pass a multiple of this, ...
_TRIM_EVERY = 64
# ... not before feeds had this long to see it, ...
_TRIM_AFTER_S = 1.0
# ... and so many rows at once, so that no append waits for a long deletion.
_TRIM_ROWS = 256
_SIGNAL_S = 60.0
_TIDY_EVERY_S = 1.0

_MAX_WAITING = 10_000
_MAX_WAITING_BYTES = 64 * 1024 * 1024
_MAX_GROUP = 256
_MAX_INTEGER = 2**63 - 1

_POLL_S = 0.004
# Without a watched channel it is only for signals.
_QUIET_POLL_S = 0.02
_REOPEN_AFTER_S = 0.1
_BUSY_S = 0.0002, 0.005
_PAGE_ROWS = 512
_PAGE_BYTES = 1024 * 1024
# So many pages may wait for the event loop.
_PAGES_AHEAD = 16


class _Unusable(Exception):
    """The file is none that can be used; the message says why, and what to do."""


class _Signal(NamedTuple):
    topic: str
    data: bytes


class _Place(NamedTuple):
    """A row of the log."""

    seq: int
    tag: int


class _Channel(NamedTuple):
    id: int
    tail: Tail
    events: int
    age_s: float
    at_s: float


_NOWHERE = _Place(0, 0)


class _File:
    """One connection to the file, opened anew where another file has taken its place.

    Invariants:
        1. No transaction is open between two calls, but between `begin` and `commit`.
        2. What `append` and `signal` have written is in `fresh`, from behind `before` up to
           `after`, and nobody else's is in between.
    """

    def __init__(self, path: str, synchronous: str) -> None:
        self.path = path
        self.identity: tuple[int, int] | None = None
        self.before = self.after = _NOWHERE
        self.fresh: list[Record | _Signal] = []
        self._synchronous = synchronous
        self._connection: sqlite3.Connection | None = None
        self._execute: Callable[..., sqlite3.Cursor] = self._closed

    def prepare(self) -> None:
        """Make the tables where there are none, and see that they can be written to."""
        if Path(self.path).name == ":memory:":
            raise _Unusable("no other process could see it; name a file, or use the memory engine")
        directory = Path(self.path).parent
        if not directory.is_dir():
            raise _Unusable(f"there is no directory {directory}; make it first")
        if (kind := network_file_system(os.path.realpath(directory))) is not None:
            raise _Unusable(f"{directory} is a network file system ({kind}); use a local disk")
        connection = self._connect("rwc")
        try:
            _check(connection)
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise _Unusable(f"it cannot have a write-ahead log (its mode stays {mode!r})")
            connection.execute("BEGIN IMMEDIATE")
            if not _check(connection):
                for statement in _SCHEMA:
                    connection.execute(statement)
            connection.execute("COMMIT")
        finally:
            connection.close()

    def ready(self) -> bool:
        """Connect, where that has not been done to the file that is there now; return whether."""
        # Looked at before it is opened: a file that comes in between is seen the next time.
        try:
            there = os.stat(self.path)
        except FileNotFoundError as error:
            # Made anew it would be in the way of whoever is about to put it back.
            raise _Unusable("the file is gone; put it back, or start again") from error
        identity = there.st_dev, there.st_ino
        if identity == self.identity:
            return False
        self.close()
        connection = self._connect("rw")
        try:
            if not _check(connection):
                raise _Unusable("its tables are gone; start again")  # noqa: TRY301
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA journal_size_limit = 67108864")
        except BaseException:
            connection.close()
            raise
        self._connection, self._execute = connection, connection.execute
        self.identity = identity
        return True

    def close(self) -> None:
        """Disconnect; what was not committed is undone."""
        self.identity, self._execute = None, self._closed
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _connect(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{Path(self.path).as_uri()}?mode={mode}",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
        )

    def _closed(self, *_: object) -> sqlite3.Cursor:
        raise _Unusable("it is closed")

    def begin(self) -> None:
        """Begin to write, with nobody beside."""
        self._execute("BEGIN IMMEDIATE")
        self.before = self.after = _Place(*(self._execute(_NEWEST).fetchone() or _NOWHERE))
        self.fresh = []

    def commit(self) -> None:
        """Let what was written be."""
        self._execute("COMMIT")

    def rollback(self) -> None:
        """Undo what was written, where SQLite has not done so by itself."""
        with suppress(sqlite3.Error, _Unusable):
            self._execute("ROLLBACK")

    def channel(self, name: bytes) -> _Channel | None:
        """Return what is known of a channel."""
        row = self._execute(_CHANNEL, (name,)).fetchone()
        if row is None:
            return None
        number, epoch, events, age_s, pos, tag, seals, at_s = row
        if pos is None:
            return _Channel(number, Tail(Cursor(epoch, 0, 0), sealed=False, base=0), 1, 0.0, 0.0)
        tail = Tail(Cursor(epoch, pos, tag), sealed=bool(seals), base=0)
        return _Channel(number, tail, events, age_s, at_s)

    def begun(self, name: bytes) -> _Channel:
        """Return what is known of a channel, begun where there is none; in a transaction."""
        channel = self.channel(name)
        if channel is not None:
            return channel
        epoch = _random_bits()
        added = self._execute(
            "INSERT INTO channel (name, epoch, events, age_s, due_s) VALUES (?, ?, 1, 0, ?)",
            (name, epoch, _now_s() + _REMEMBER_S),
        )
        tail = Tail(Cursor(epoch, 0, 0), sealed=False, base=0)
        return _Channel(added.lastrowid or 0, tail, 1, 0.0, 0.0)

    def append(
        self,
        channel: str,
        bodies: Sequence[bytes],
        retain: Retain,
        key: str | None,
        expect: Cursor | None,
        seal: bool,
    ) -> Appended:
        """Append, in a transaction; what is refused has written nothing but the channel's name."""
        name, now_s = _raw(channel), _now_s()
        if key is not None and (before := self._answered(name, key, now_s)) is not None:
            return before
        log = self.begun(name)
        if log.tail.sealed:
            raise ChannelSealed(channel)
        if expect is not None and expect != log.tail.cursor:
            raise Conflict(channel, str(expect), str(log.tail.cursor))
        epoch, pos, _ = log.tail.cursor
        # In a channel time does not go back, whatever the clock does: what is too old is a prefix.
        at_s = max(now_s, log.at_s)
        last = pos + len(bodies)
        written: list[Record] = []
        for body in bodies:
            pos += 1
            seals = seal and pos == last
            tag = self._write(log.id, pos, at_s, seals, None, body)
            written.append(Record(channel, Cursor(epoch, pos, tag), pos - 1, body, seals))
        self.fresh += written
        if (retain.events, retain.age_s) != (log.events, log.age_s):
            self._execute(
                "UPDATE channel SET events = ?, age_s = ? WHERE id = ?",
                (retain.events, retain.age_s, log.id),
            )
        newest = log.tail.cursor.pos
        if newest // _TRIM_EVERY != last // _TRIM_EVERY:
            self._trim(log.id, newest, last - retain.events, now_s, retain.age_s)
        appended = Appended(written[0].cursor, written[-1].cursor, duplicate=False)
        if key is not None:
            self._execute(
                "INSERT OR REPLACE INTO answer (name, key, epoch, first_pos, first_tag, last_pos,"
                " last_tag, expires_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (name, _raw(key), *appended.first, *appended.last[1:], now_s + KEY_WINDOW_S),
            )
        return appended

    def signal(self, topic: str, data: bytes) -> None:
        """Write a signal, in a transaction."""
        self._write(None, None, _now_s(), False, _raw(topic), data)
        self.fresh.append(_Signal(topic, data))

    def _write(
        self,
        channel: int | None,
        pos: int | None,
        at_s: float,
        seals: bool,
        topic: bytes | None,
        body: bytes,
    ) -> int:
        place = _Place(self.after.seq + 1, _random_bits())
        self._execute(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (place.seq, channel, pos, place.tag, at_s, seals, topic, body),
        )
        self.after = place
        return place.tag

    def _answered(self, name: bytes, key: str, now_s: float) -> Appended | None:
        row = self._execute(
            "SELECT epoch, first_pos, first_tag, last_pos, last_tag FROM answer"
            " WHERE name = ? AND key = ? AND expires_s > ?",
            (name, _raw(key), now_s),
        ).fetchone()
        if row is None:
            return None
        epoch, first_pos, first_tag, last_pos, last_tag = row
        first, last = Cursor(epoch, first_pos, first_tag), Cursor(epoch, last_pos, last_tag)
        return Appended(first, last, duplicate=True)

    def _trim(self, id: int, newest: int, surplus: int, now_s: float, age_s: float) -> None:
        """Delete some records up to `surplus`, or too old, but none behind `newest`."""
        oldest = self._oldest(id)
        end = min(oldest + _TRIM_ROWS - 1, newest)
        if end < oldest:
            return
        if self._at_s(id, end) >= now_s - age_s:
            end = min(end, surplus)
            # Of the future it is where the clock went back; it may go then, as nobody knows when.
            if end < oldest or abs(now_s - self._at_s(id, end)) < _TRIM_AFTER_S:
                return
        self._execute("DELETE FROM log WHERE channel = ? AND pos <= ?", (id, end))

    def _oldest(self, id: int) -> int:
        row = self._execute("SELECT min(pos) FROM log WHERE channel = ?", (id,)).fetchone()
        return row[0] or 0

    def _at_s(self, id: int, pos: int) -> float:
        row = self._execute(
            "SELECT at_s FROM log WHERE channel = ? AND pos = ?", (id, pos)
        ).fetchone()
        at_s: float = row[0]
        return at_s

    def drop(self, name: bytes) -> None:
        """Remove a channel, in a transaction; its rows are deleted later."""
        self._execute(
            "INSERT INTO doomed SELECT id FROM channel WHERE name = ?",
            (name,),
        )
        self._execute("DELETE FROM channel WHERE name = ?", (name,))

    def tidy(self) -> bool:
        """Delete some of what is over, in a transaction; return whether there is more."""
        now_s = _now_s()
        self._execute(
            "DELETE FROM answer WHERE id IN"
            " (SELECT id FROM (SELECT id, expires_s FROM answer ORDER BY id LIMIT ?)"
            " WHERE expires_s <= ?)",
            (_TRIM_ROWS, now_s),
        )
        self._execute(
            "DELETE FROM log WHERE seq < ? AND seq IN"
            " (SELECT seq FROM (SELECT seq, at_s FROM log WHERE channel IS NULL AND pos IS NULL"
            " ORDER BY seq LIMIT ?) WHERE at_s < ?)",
            (self.after.seq, _TRIM_ROWS, now_s - _SIGNAL_S),
        )
        idle = self._execute(
            "SELECT name FROM channel WHERE due_s < ? ORDER BY due_s LIMIT 16", (now_s,)
        ).fetchall()
        for (name,) in idle:
            channel = self.channel(name)
            due_s = 0.0 if channel is None else channel.at_s + max(channel.age_s, _REMEMBER_S)
            if due_s < now_s:
                self.drop(name)
            else:
                self._execute("UPDATE channel SET due_s = ? WHERE name = ?", (due_s, name))
        # The newest row of all stays, so that its seq is not given out again.
        row = self._execute(
            "SELECT channel FROM doomed"
            " WHERE channel IS NOT (SELECT channel FROM log WHERE seq = ?) LIMIT 1",
            (self.after.seq,),
        ).fetchone()
        if row is None:
            return bool(idle)
        self._execute(
            "DELETE FROM log WHERE seq IN (SELECT seq FROM log WHERE channel = ? LIMIT ?)",
            (row[0], _TRIM_ROWS),
        )
        left = self._execute("SELECT 1 FROM log WHERE channel = ? LIMIT 1", row).fetchone()
        if left is None:
            self._execute("DELETE FROM doomed WHERE channel = ?", row)
        return True

    def tails(self, names: Iterable[bytes]) -> Sequence[Tail | None]:
        """Return the ends of channels, `None` for those that there are not."""
        channels = [self.channel(name) for name in names]
        return [None if channel is None else channel.tail for channel in channels]

    def names(self, prefix: str, limit: int) -> Sequence[str]:
        """Return the names of channels with records, sorted."""
        low = _raw(prefix)
        # No byte of UTF-8 is 255.
        high = low[:-1] + bytes((low[-1] + 1,)) if low else b"\xff"
        rows = self._execute(
            "SELECT name FROM channel c WHERE name >= ? AND name < ?"
            " AND EXISTS (SELECT 1 FROM log WHERE channel = c.id) ORDER BY name LIMIT ?",
            (low, high, min(limit, _MAX_INTEGER)),
        )
        return [_text(name) for (name,) in rows]

    def read(self, channel: str, after: Cursor | Newest, limit: int, max_bytes: int) -> Page | None:
        """Return some records of a channel; `None` where there is no such channel."""
        self._execute("BEGIN")
        try:
            log = self.channel(_raw(channel))
            return None if log is None else self._page(channel, log, after, limit, max_bytes)
        finally:
            self.rollback()

    def _page(
        self, name: str, log: _Channel, after: Cursor | Newest, limit: int, max_bytes: int
    ) -> Page:
        tail = log.tail
        epoch, newest, _ = tail.cursor
        first = self._first_kept(log)
        if isinstance(after, Newest):
            start = max(first, newest + 1 - after.events)
        else:
            start = max(first, min(after.pos, newest) + 1)
            gap = gap_behind(
                after,
                tail,
                self._record(name, log, start - 1) if start > first else None,
                self._record(name, log, start) if start <= newest else None,
            )
            if gap is not None:
                return Page((), gap, tail, more=False)
        records: list[Record] = []
        size = 0
        rows = self._execute(
            "SELECT pos, tag, seals, body FROM log WHERE channel = ? AND pos >= ?"
            " ORDER BY pos LIMIT ?",
            (log.id, start, min(limit, _MAX_INTEGER)),
        )
        for pos, tag, seals, body in rows:
            size += len(body)
            if records and size > max_bytes:
                break
            records.append(Record(name, Cursor(epoch, pos, tag), pos - 1, body, bool(seals)))
        rows.close()
        return Page(records, None, tail, more=start + len(records) <= newest)

    def _record(self, name: str, log: _Channel, pos: int) -> Record | None:
        """Return a record, without its body."""
        row = self._execute(
            "SELECT tag, seals FROM log WHERE channel = ? AND pos = ?", (log.id, pos)
        ).fetchone()
        cursor = log.tail.cursor
        return row and Record(name, Cursor(cursor.epoch, pos, row[0]), pos - 1, b"", bool(row[1]))

    def _first_kept(self, log: _Channel) -> int:
        """Return the position of the oldest record to be read, or that behind the tail."""
        newest, oldest_s = log.tail.cursor.pos, _now_s() - log.age_s
        if log.at_s < oldest_s or not newest:
            return newest + 1
        low = max(self._oldest(log.id), newest + 1 - 2 * log.events - _SPARE)
        if self._at_s(log.id, low) >= oldest_s:
            return low
        high = newest
        while low < high:
            middle = (low + high) // 2
            if self._at_s(log.id, middle) < oldest_s:
                low = middle + 1
            else:
                high = middle
        return low

    def version(self) -> int:
        """Return a number that is another one after each commit of another connection."""
        number: int = self._execute("PRAGMA data_version").fetchone()[0]
        return number

    def newest(self) -> _Place:
        """Return the place of the newest row."""
        return _Place(*(self._execute(_NEWEST).fetchone() or _NOWHERE))

    def news(
        self, last: _Place, *, records: bool
    ) -> tuple[_Place, Sequence[Record | _Signal], bool] | None:
        """Return what is behind `last`: where the page ends, what there is, whether that is all.

        `None` where `last` is not there any more. Without `records`, only signals are looked for.
        """
        self._execute("BEGIN")
        try:
            if records:
                rows = self._execute(_NEWS_OF_ALL, (last.seq, _PAGE_ROWS))
            else:
                tag = self._execute("SELECT tag FROM log WHERE seq = ?", (last.seq,)).fetchone()
                if last.seq and tag != (last.tag,):
                    return None
                rows = self._execute(_NEWS_OF_SIGNALS, (last.seq + 1, _PAGE_ROWS))
            found: list[Record | _Signal] = []
            known, size, count, end = not (records and last.seq), 0, 0, last
            for seq, tag, name, epoch, pos, seals, topic, body in rows:
                if not known:
                    if (seq, tag) != last:
                        return None
                    known = True
                    continue
                end = _Place(seq, tag)
                count += 1
                size += len(body)
                if topic is not None:
                    found.append(_Signal(_text(topic), body))
                elif name is not None:
                    cursor = Cursor(epoch, pos, tag)
                    found.append(Record(_text(name), cursor, pos - 1, body, bool(seals)))
                if size > _PAGE_BYTES:
                    break
            rows.close()
            if not known:
                return None
            complete = size <= _PAGE_BYTES and count < _PAGE_ROWS - 1
            if complete and not records:
                end = self.newest()
            return end, found, complete
        finally:
            self.rollback()


class _Call(Generic[_T]):
    """Something that a thread is asked to do, and where its outcome goes.

    Invariant: who acquires `claim` decides: the thread, to do it; the caller, to have it not done.
    """

    __slots__ = ("claim", "future", "over", "run")

    def __init__(self, run: Callable[[_File], _T], future: asyncio.Future[_T]) -> None:
        self.run: Callable[[_File], _T] | None = run
        self.future = future
        self.claim = threading.Lock()
        self.over = False

    def withdraw(self) -> bool:
        """See that it is not done; false where it is being done, or was."""
        if not self.claim.acquire(blocking=False):
            return False
        self.run = None  # it stays in the queue for a while, what it would write does not
        return True

    def settle(self, outcome: "_T | Exception") -> None:
        """Tell the caller, if it still waits; in the loop."""
        self.over = True
        if self.future.done():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


# `None` ends the thread, `_LOOK` has it look at what there is.
_LOOK: Literal["look"] = "look"
_Calls = SimpleQueue["_Call[Any] | Literal['look'] | None"]
_Outcomes = Sequence[tuple["_Call[Any]", Any]]


class SqliteEngine:
    """Channels in a SQLite file that the processes of one host share; see `Engine` for its methods.

    Start it after a fork, not before. To put an older copy back while processes run, use SQLite's
    own backup (`.restore`), or move the copy to the file's place after the file, its `-wal` and its
    `-shm` were moved away; never write over it.

    Args:
        path: the file; made where there is none. It has to be on a local disk, where SQLite can
            keep its write-ahead log beside it.
        timeout_s: how long a call may take, in seconds; 5 by default.
        synchronous: `normal` outlives the end of the process, however it comes, and may lose the
            last appends, never their order, when the host crashes or loses its power. `full` waits
            for the disk at each commit and outlives that too; several times slower.

    Raises:
        InvalidField: `timeout_s` is not positive, or `synchronous` is neither of them.

    Limits: 10,000 appends, or 64 MiB of them, wait at most. A process hears of another's records
    within some milliseconds, by asking 250 times a second while it watches, 50 times while
    it does not.

    Invariants:
        1. What is watched, and up to where the feed is, changes only under `_hearing`, and so does
           what is handed to the loop: the feed's order is the log's.
        2. `_feed` and the numbers of what waits belong to the loop; all else to one thread each.
    """

    def __init__(
        self,
        path: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        synchronous: Literal["normal", "full"] = "normal",
    ) -> None:
        if not 0 < timeout_s < float("inf"):
            raise InvalidField("timeout_s", timeout_s, "give a positive number of seconds")
        if synchronous not in ("normal", "full"):
            raise InvalidField("synchronous", synchronous, "give 'normal' or 'full'")
        if not path or "\0" in path:
            raise InvalidField("path", path, "name a file")
        self._path = os.path.abspath(path)
        self._timeout_s = timeout_s
        self._synchronous = synchronous
        self._feed: Feed | None = None
        self._running = False
        self._waiting = self._waiting_bytes = 0
        self._trouble = ""
        self._threads: list[tuple[threading.Thread, asyncio.Future[None], _Calls]] = []
        self._reset()

    def _reset(self) -> None:
        self._writes: _Calls = SimpleQueue()
        self._reads: _Calls = SimpleQueue()
        self._listens: _Calls = SimpleQueue()
        self._woken = False
        self._hearing = threading.Lock()
        self._watched: set[str] = set()
        self._prefixes: tuple[str, ...] = ()
        self._heard: tuple[tuple[int, int] | None, _Place] = None, _NOWHERE
        self._ahead = threading.Semaphore(_PAGES_AHEAD)

    @property
    def caps(self) -> Caps:
        """What it can do."""
        return _CAPS

    async def start(self, feed: Feed) -> None:
        """Open the file, and begin to call `feed`.

        Raises:
            EngineUnavailable: the file cannot be used, or the engine has been started already.
        """
        if self._running or self._threads:
            raise self._unavailable("it is started already; use an engine for each hub")
        self._reset()
        self._loop = asyncio.get_running_loop()
        self._running = True
        deadline = self._deadline()
        try:
            self._spawn(self._write, self._writes)
            await self._ask(self._writes, _File.prepare, deadline)
            self._spawn(self._serve, self._reads)
            self._spawn(self._listen, self._listens)
            await self._ask(self._reads, _File.newest, deadline)
            await self._ask(self._listens, _File.newest, deadline)
            self._feed = feed
        except BaseException:
            await self.stop()
            raise

    def _spawn(self, target: Callable[[_File, _Calls], None], calls: _Calls) -> None:
        ended = self._loop.create_future()
        file = _File(self._path, self._synchronous)

        def run() -> None:
            try:
                target(file, calls)
            finally:
                file.close()
                self._tell(_done, ended)

        thread = threading.Thread(target=run, name="typed-sse-sqlite", daemon=True)
        thread.start()
        self._threads.append((thread, ended, calls))

    async def stop(self) -> None:
        """End the threads and close the file; calls that wait raise `EngineUnavailable`."""
        self._running, self._feed = False, None
        # The writer's connection is closed last: whichever is last clears the log away.
        for thread, ended, calls in reversed(self._threads):
            calls.put(None)
            # A disk that hangs holds its thread, not whoever stops.
            await asyncio.wait([ended], timeout=self._timeout_s)
            if ended.done():
                thread.join()
        self._threads.clear()

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
        size = sum(map(len, bodies))
        if self._waiting >= _MAX_WAITING or (
            self._waiting and self._waiting_bytes + size > _MAX_WAITING_BYTES
        ):
            raise self._unavailable(
                f"{self._waiting} appends of {self._waiting_bytes} bytes wait already; publish less"
            )
        self._waiting += 1
        self._waiting_bytes += size
        try:
            return await self._ask(
                self._writes,
                lambda file: file.append(channel, bodies, retain, key, expect, seal),
                self._deadline(),
                unsure=True,
            )
        finally:
            self._waiting -= 1
            self._waiting_bytes -= size

    async def read(
        self, channel: str, after: Cursor | Newest, *, limit: int, max_bytes: int
    ) -> Page:
        """Return some of what is kept behind `after`."""
        deadline = self._deadline()

        def read(file: _File) -> Page | None:
            return file.read(channel, after, limit, max_bytes)

        while (page := await self._ask(self._reads, read, deadline)) is None:
            await self._begun([_raw(channel)], deadline)
        return page

    async def tails(self, channels: Sequence[str]) -> Sequence[Tail]:
        """Return the ends of these channels."""
        names, deadline = [_raw(channel) for channel in channels], self._deadline()
        found = await self._ask(self._reads, lambda file: file.tails(names), deadline)
        tails = [tail for tail in found if tail is not None]
        return tails if len(tails) == len(names) else await self._begun(names, deadline)

    async def _begun(self, names: Sequence[bytes], deadline: float) -> Sequence[Tail]:
        return await self._ask(
            self._writes, lambda file: [file.begun(name).tail for name in names], deadline
        )

    async def watch(self, channels: Collection[str]) -> None:
        """Let their records come to the feed."""
        await self._watch(self._watched.update, channels)

    async def unwatch(self, channels: Collection[str]) -> None:
        """Let them come no more."""
        await self._watch(self._watched.difference_update, channels)

    async def _watch(
        self, change: Callable[[Collection[str]], None], channels: Collection[str]
    ) -> None:
        channels = tuple(channels)

        def watch(_: _File) -> None:
            change(channels)
            if any(name.endswith("/") for name in channels):
                self._prefixes = tuple(name for name in self._watched if name.endswith("/"))

        await self._ask(self._listens, watch, self._deadline())

    async def names(self, prefix: str, *, limit: int) -> Sequence[str]:
        """Return the names that begin so."""
        return await self._ask(
            self._reads, lambda file: file.names(prefix, limit), self._deadline()
        )

    async def drop(self, channel: str) -> None:
        """Remove a channel."""
        await self._ask(self._writes, lambda file: file.drop(_raw(channel)), self._deadline())

    async def signal(self, topic: str, data: bytes) -> None:
        """Tell every engine of the file, within some 20 ms."""
        await self._ask(self._writes, lambda file: file.signal(topic, data), self._deadline())

    async def health(self) -> Health:
        """Say whether the file can be read now."""
        try:
            await self._ask(self._reads, _File.newest, self._deadline())
        except EngineUnavailable as error:
            return Health(ready=False, detail=str(error))
        ready = self._waiting < _MAX_WAITING
        return Health(ready, f"SQLite file {self._path}, {self._waiting} appends wait")

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_s

    def _unavailable(self, reason: str) -> EngineUnavailable:
        return EngineUnavailable(f"sqlite:{self._path}", reason)

    async def _ask(
        self,
        calls: _Calls,
        run: Callable[[_File], _T],
        deadline: float,
        *,
        unsure: bool = False,
    ) -> _T:
        """Have a thread do something, and return what came of it."""
        if not self._running:
            raise self._unavailable("it is not started, or was stopped")
        future: asyncio.Future[_T] = self._loop.create_future()
        call = _Call(run, future)
        timer = self._loop.call_at(deadline, self._expire, call, unsure)
        calls.put(call)
        try:
            return await future
        except asyncio.CancelledError:
            # What cannot be withdrawn any more is waited for, so that nothing happens afterwards.
            if not call.over and not call.withdraw():
                call.future = self._loop.create_future()
                call.future.add_done_callback(_looked_at)
                await asyncio.wait([call.future])
            raise
        finally:
            timer.cancel()
            call.withdraw()

    def _expire(self, call: _Call[Any], unsure: bool) -> None:
        reason = f"it took more than timeout_s={self._timeout_s:g}"
        if not call.withdraw() and unsure:
            call.settle(OutcomeUnknown(f"sqlite:{self._path}", reason))
        else:
            why = f" ({self._trouble})" if self._trouble else ""
            call.settle(self._unavailable(reason + why))

    def _tell(self, callback: Callable[..., None], *args: Any) -> None:
        """Call something in the loop, if there still is one."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)

    def _failed(self, error: Exception) -> Exception:
        """Return what a caller is told of an error; of ours, the error itself."""
        if isinstance(error, (sqlite3.Error, OSError, _Unusable)):
            unavailable = self._unavailable(str(error) or type(error).__name__)
            unavailable.__cause__ = error
            return unavailable
        return error

    def _patiently(self, do: Callable[[], None], calls: Sequence[_Call[Any]]) -> bool:
        """Do what others may be in the way of; false where nobody waits for it any more."""
        pause_s, longest_s = _BUSY_S
        while True:
            try:
                do()
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise
                self._trouble = "other processes are writing"
            else:
                return True
            if all(call.future.done() for call in calls):
                return False
            if not self._running:
                raise _Unusable("it was stopped")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, longest_s)

    def _serve(self, file: _File, calls: _Calls) -> None:
        """Read, in a thread of its own, until `None` is asked for."""
        while (call := calls.get()) is not None:
            if call != _LOOK:
                self._answer(file, call)

    def _answer(self, file: _File, call: _Call[_T]) -> None:
        run = call.run
        if run is None:
            return

        def answer() -> None:
            file.ready()
            self._tell(call.settle, run(file))

        try:
            self._patiently(answer, [call])
        except Exception as error:
            file.close()
            self._tell(call.settle, self._failed(error))

    def _write(self, file: _File, calls: _Calls) -> None:
        """Write, in a thread of its own, until `None` is asked for; what waits is one group."""
        opening = calls.get()
        if opening is None or opening == _LOOK or not self._prepare(file, opening):
            return
        tidied_s, since, more = time.monotonic(), 0, False
        while True:
            group, over = self._group(calls, _QUIET_POLL_S if more else None)
            if group:
                self._commit(file, group)
            if over:
                return
            since += len(group)
            if more or since >= _TRIM_EVERY or time.monotonic() - tidied_s > _TIDY_EVERY_S:
                tidied_s, since, more = time.monotonic(), 0, self._tidy(file)

    def _prepare(self, file: _File, call: _Call[None]) -> bool:
        try:
            prepared = self._patiently(file.prepare, [call])
        except Exception as error:
            self._tell(call.settle, self._failed(error))
            return False
        self._tell(call.settle, None)
        return prepared

    def _group(self, calls: _Calls, timeout_s: float | None) -> tuple[Sequence[_Call[Any]], bool]:
        """Wait for calls, and return them, and whether they are the last."""
        group: list[_Call[Any]] = []
        with suppress(Empty):
            call = calls.get(timeout=timeout_s)
            while call is not None:
                if call != _LOOK and not call.claim.locked():
                    group.append(call)
                if len(group) == _MAX_GROUP:
                    return group, False
                call = calls.get_nowait()
            return group, True
        return group, False

    def _commit(self, file: _File, group: Sequence[_Call[Any]]) -> None:
        """Do what was asked for in one transaction, and tell everybody."""

        def begin() -> None:
            file.ready()
            file.begin()

        try:
            if not self._patiently(begin, group):
                return
        except Exception as error:
            file.close()
            failed = [(call, self._failed(error)) for call in group]
            self._tell(self._settle, failed, ())
            return
        self._trouble = ""
        # From here on it is done, and cannot be withdrawn.
        group = [call for call in group if call.claim.acquire(blocking=False)]
        try:
            outcomes = self._outcomes(file, group)
        except Exception as error:
            file.rollback()
            if len(group) == 1:
                file.close()
                self._tell(self._settle, [(group[0], self._failed(error))], ())
                return
            for call in group:  # each by itself, so that the trouble of one is not the others'
                call.claim.release()
                self._commit(file, [call])
        else:
            self._hand_over(file, outcomes)

    def _outcomes(self, file: _File, group: Sequence[_Call[Any]]) -> _Outcomes:
        """Carry out a group and commit it; where this raises, nothing was done."""
        outcomes: list[tuple[_Call[Any], Any]] = []
        for call in group:
            assert call.run is not None  # noqa: S101 - it is claimed
            try:
                outcomes.append((call, call.run(file)))
            except TypedSSEError as refused:
                outcomes.append((call, refused))
        try:
            file.commit()
        except sqlite3.Error as error:
            # A full disk shows before the end of the log is written, which is what commits.
            if _code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY):
                raise
            file.close()
            unknown = OutcomeUnknown(f"sqlite:{self._path}", str(error))
            return [(call, unknown) for call in group]
        return outcomes

    def _hand_over(self, file: _File, outcomes: _Outcomes) -> None:
        """Tell the callers, and the feed in the same breath where nobody else has committed."""
        if file.fresh and self._hearing.acquire(blocking=False):
            try:
                if self._heard == (file.identity, file.before):
                    wanted = self._wanted(file.fresh)
                    if not wanted or self._ahead.acquire(blocking=False):
                        self._heard = file.identity, file.after
                        self._tell(self._settle, outcomes, wanted)
                        return
            finally:
                self._hearing.release()
        self._tell(self._settle, outcomes, ())
        if not self._woken and self._wanted(file.fresh):
            self._woken = True
            self._listens.put(_LOOK)

    def _settle(self, outcomes: _Outcomes, news: Sequence[Record | _Signal]) -> None:
        for call, outcome in outcomes:
            call.settle(outcome)
        if news:
            self._hear(news)

    def _tidy(self, file: _File) -> bool:
        """Delete some of what is over; return whether there is more."""
        try:
            file.ready()
            file.begin()
            more = file.tidy()
            file.commit()
        except (sqlite3.Error, OSError, _Unusable):
            file.rollback()
            return False
        return more

    def _wanted(self, news: Sequence[Record | _Signal]) -> Sequence[Record | _Signal]:
        watched, prefixes = self._watched, self._prefixes
        return [
            one
            for one in news
            if isinstance(one, _Signal)
            or one.channel in watched
            or one.channel.startswith(prefixes)
        ]

    def _listen(self, file: _File, calls: _Calls) -> None:
        """Look for what was committed, in a thread of its own, until `None` is asked for."""
        asked: list[_Call[Any]] = []
        version: int | None = None
        while not self._loop.is_closed():
            try:
                version = self._catch_up(file, version)
            except (sqlite3.Error, OSError, _Unusable) as error:
                if not _is_busy(error):
                    file.close()
                    version = None
                    for call in asked:
                        self._tell(call.settle, self._failed(error))
                    asked.clear()
            else:
                for call in asked:
                    with self._hearing:
                        self._answer(file, call)
                asked.clear()
            over = self._asked(calls, asked, file.identity is not None)
            if over:
                return

    def _asked(self, calls: _Calls, asked: list[_Call[Any]], connected: bool) -> bool:
        """Wait until it is time to look again; gather what is asked for, and whether it is over."""
        pause_s = _POLL_S if self._watched else _QUIET_POLL_S
        timeout_s = pause_s if connected else _REOPEN_AFTER_S
        with suppress(Empty):
            call = calls.get(timeout=timeout_s)
            self._woken = False
            while call is not None:
                if call != _LOOK:
                    asked.append(call)
                call = calls.get_nowait()
            return True
        return False

    def _catch_up(self, file: _File, version: int | None) -> int:
        """Hand over what is new; return the version that was looked at. `None`: none was before."""
        anew = file.ready()
        now = file.version()
        identity, _ = self._heard
        if anew or identity != file.identity:
            with self._hearing:
                self._begin_anew(file, lost=identity is not None)
        elif now == version:
            return now
        complete = False
        while not complete:
            while not self._ahead.acquire(timeout=_REOPEN_AFTER_S):
                if not self._running:
                    return now
            with self._hearing:
                complete = self._hand_on(file)
        return now

    def _hand_on(self, file: _File) -> bool:
        """Hand over a page, for which there is room; return whether that was all."""
        wanted: Sequence[Record | _Signal] = ()
        try:
            news = file.news(self._heard[1], records=bool(self._watched))
            if news is None:
                self._begin_anew(file, lost=True)
                return True
            end, found, complete = news
            wanted = self._wanted(found)
            self._heard = file.identity, end
            if wanted:
                self._tell(self._hear, wanted)
        finally:
            if not wanted:
                self._ahead.release()
        return complete

    def _begin_anew(self, file: _File, *, lost: bool) -> None:
        self._heard = file.identity, file.newest()
        if lost:
            self._tell(self._hear_lost)

    def _hear(self, news: Sequence[Record | _Signal]) -> None:
        try:
            for one in news:
                if self._feed is None:
                    return
                if isinstance(one, Record):
                    self._feed.record(one)
                else:
                    self._feed.signal(*one)
        finally:
            self._ahead.release()

    def _hear_lost(self) -> None:
        if self._feed is not None:
            self._feed.lost(None)


def network_file_system(directory: str, mounts: str | None = None) -> str | None:
    """Return the kind of network file system that a directory is on, `None` where it is on none.

    Args:
        directory: its real path.
        mounts: what is mounted where, as in Linux's `/proc/self/mountinfo`, which it is by default.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(errors="replace")
        except OSError:
            return None
    longest, kind = -1, ""
    for line in mounts.splitlines():
        before, _, behind = line.partition(" - ")
        point = before.split(" ")[4:5]
        if not point:
            continue
        mounted = point[0].replace("\\040", " ").rstrip("/")
        # A later mount hides an earlier one at the same place.
        if len(mounted) >= longest and f"{directory}/".startswith(f"{mounted}/"):
            longest, kind = len(mounted), behind.split(" ")[0]
    return kind if kind in _NETWORK_FILE_SYSTEMS else None


def _check(connection: sqlite3.Connection) -> bool:
    """Return whether our tables are there; false where there are none at all."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == _APPLICATION_ID:
        if version != _SCHEMA_VERSION:
            raise _Unusable(
                f"its tables are of version {version}, and this program knows {_SCHEMA_VERSION};"
                " name another file"
            )
        return True
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables or application or version:
        raise _Unusable("it is the database of another program; name another file")
    return False


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _looked_at(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


def _code(error: BaseException) -> int | None:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _is_busy(error: BaseException) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL)


def _now_s() -> float:
    # The wall clock: the age of records is counted by other processes too, and later ones.
    return time.time()


def _raw(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogatepass")


def _random_bits() -> int:
    return int.from_bytes(os.urandom(4), "big") or 1
