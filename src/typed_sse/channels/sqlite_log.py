"""The log in a SQLite file: its tables, its SQL, and what they mean.

A row a record, whose `seq` is the order of commits over all channels; the newest row of a channel
is its tail, so an append reads one row and writes its own. The row with the largest `seq` is never
deleted: no `seq` is given out twice, and whoever finds the last row that it knows unchanged, by its
random tag, has missed nothing. Knows neither threads nor tasks.
"""

import os
import time
from bisect import bisect_left
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import (
    KEY_WINDOW_S,
    Appended,
    Newest,
    Page,
    Record,
    Retain,
    Tail,
    gap_behind,
)
from typed_sse.channels.sqlite_file import SqliteFile
from typed_sse.errors import ChannelSealed, Conflict

# Names, keys and topics are UTF-8 in blobs: their order is that of strings, and none is refused.
_SCHEMA = (
    # Without a name it was dropped, and its rows are still to be deleted. When it is due it is
    # looked at, whether it is to be forgotten.
    """CREATE TABLE channel (id INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB UNIQUE,
        epoch INTEGER NOT NULL, events INTEGER NOT NULL, age_s REAL NOT NULL,
        due_s REAL NOT NULL)""",
    "CREATE INDEX channel_due ON channel (due_s)",
    # A record; with a topic a signal; with neither, where a channel was dropped. The body is last:
    # whoever does not ask for it does not read its pages.
    """CREATE TABLE log (seq INTEGER PRIMARY KEY, tag INTEGER NOT NULL, channel INTEGER,
        pos INTEGER, at_s REAL NOT NULL, seals INTEGER NOT NULL, topic BLOB,
        body BLOB NOT NULL)""",
    "CREATE UNIQUE INDEX log_place ON log (channel, pos)",
    # What the append of a key was answered.
    """CREATE TABLE answer (id INTEGER PRIMARY KEY, channel INTEGER NOT NULL, key BLOB NOT NULL,
        first_pos INTEGER NOT NULL, first_tag INTEGER NOT NULL, last_pos INTEGER NOT NULL,
        last_tag INTEGER NOT NULL, expires_s REAL NOT NULL, UNIQUE (channel, key))""",
)
_CHANNEL = """SELECT c.id, c.epoch, ifnull(l.pos, 0), ifnull(l.tag, 0), ifnull(l.seals, 0),
        c.events, c.age_s, ifnull(l.at_s, 0.0)
    FROM channel c LEFT JOIN log l ON l.channel = c.id WHERE c.name = ?
    ORDER BY l.pos DESC LIMIT 1"""
_NEWS = """SELECT l.seq, l.tag, c.name, c.epoch, l.pos, l.seals, l.topic, l.body
    FROM log l LEFT JOIN channel c ON c.id = l.channel
    WHERE l.seq >= ? ORDER BY l.seq LIMIT ?"""

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
_PAGE_ROWS = 512
_PAGE_BYTES = 1024 * 1024


class Signal(NamedTuple):
    """What `SqliteEngine.signal` was given."""

    topic: str
    data: bytes


class Place(NamedTuple):
    """A row of the log; before the first it is `(0, 0)`."""

    seq: int
    tag: int


class _Channel(NamedTuple):
    id: int
    tail: Tail
    events: int
    age_s: float
    at_s: float


class SqliteLog(SqliteFile):
    """The log, over one connection. What writes is called between `begin` and `commit`.

    Attributes:
        before, after: what the last transaction has written is behind `before` up to `after`, and
            nobody else's is in between.
        fresh: the records and signals there.
    """

    def __init__(self, path: str, synchronous: str) -> None:
        super().__init__(path, synchronous, _SCHEMA)
        self.before = self.after = Place(0, 0)
        self.fresh: list[Record | Signal] = []

    def begin(self) -> None:
        """Begin to write, with nobody beside."""
        self.ready()
        self.execute("BEGIN IMMEDIATE")
        self.before = self.after = self.newest()
        self.fresh = []

    def commit(self) -> None:
        """Let what was written be."""
        self.execute("COMMIT")

    def newest(self) -> Place:
        """Return the place of the newest row."""
        row = self.execute("SELECT seq, tag FROM log ORDER BY seq DESC LIMIT 1").fetchone()
        return Place(*(row or (0, 0)))

    def append(
        self,
        channel: str,
        bodies: Sequence[bytes],
        retain: Retain,
        key: str | None,
        expect: Cursor | None,
        seal: bool,
    ) -> Appended:
        """Append records; what is refused has written nothing but the channel's name."""
        name, now_s = _raw(channel), _now_s()
        log = self._begun(name)
        if key is not None and (before := self._answered(log, key, now_s)) is not None:
            return before
        epoch, newest, _ = log.tail.cursor
        if log.tail.sealed:
            raise ChannelSealed(channel)
        if expect is not None and expect != log.tail.cursor:
            raise Conflict(channel, str(expect), str(log.tail.cursor))
        # In a channel time does not go back, whatever the clock does: what is too old is a prefix.
        at_s, last = max(now_s, log.at_s), newest + len(bodies)
        written: list[Record] = []
        for pos, body in enumerate(bodies, newest + 1):
            seals = seal and pos == last
            tag = self._write(log.id, pos, at_s, seals, None, body)
            written.append(Record(channel, Cursor(epoch, pos, tag), pos - 1, body, seals))
        self.fresh += written
        if (retain.events, retain.age_s) != (log.events, log.age_s):
            self.execute(
                "UPDATE channel SET events = ?, age_s = ? WHERE id = ?",
                (retain.events, retain.age_s, log.id),
            )
        if newest // _TRIM_EVERY != last // _TRIM_EVERY:
            self._trim(log.id, newest, last - retain.events, now_s, retain.age_s)
        appended = Appended(written[0].cursor, written[-1].cursor, duplicate=False)
        if key is not None:
            self.execute(
                "INSERT OR REPLACE INTO answer VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)",
                (log.id, _raw(key), *appended.first[1:], *appended.last[1:], now_s + KEY_WINDOW_S),
            )
        return appended

    def signal(self, topic: str, data: bytes) -> None:
        """Write a signal."""
        self._write(None, None, _now_s(), False, _raw(topic), data)
        self.fresh.append(Signal(topic, data))

    def drop(self, channel: str) -> None:
        """Remove a channel; its rows are deleted later."""
        sql = "UPDATE channel SET name = NULL, due_s = 0 WHERE name = ?"
        if self.execute(sql, (_raw(channel),)).rowcount:
            # From now on the newest row of all is none of its.
            self._write(None, None, _now_s(), False, None, b"")

    def _write(self, *row: float | bytes | None) -> int:
        """Write a row, from `channel` on, and return its tag."""
        self.after = Place(self.after.seq + 1, _random_bits())
        self.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*self.after, *row))
        return self.after.tag

    def _answered(self, log: _Channel, key: str, now_s: float) -> Appended | None:
        row = self.execute(
            "SELECT first_pos, first_tag, last_pos, last_tag FROM answer"
            " WHERE channel = ? AND key = ? AND expires_s > ?",
            (log.id, _raw(key), now_s),
        ).fetchone()
        epoch = log.tail.cursor.epoch
        return row and Appended(Cursor(epoch, *row[:2]), Cursor(epoch, *row[2:]), duplicate=True)

    def _trim(self, id: int, newest: int, surplus: int, now_s: float, age_s: float) -> None:
        """Delete some records up to `surplus`, or too old, but none behind `newest`."""
        end = min(self._oldest(id) + _TRIM_ROWS - 1, newest)
        old = self._at_s(id, end) < now_s - age_s
        end = end if old else min(end, surplus)
        # Of the future it is where the clock went back; it may go then, as nobody knows when.
        if old or abs(now_s - self._at_s(id, end)) >= _TRIM_AFTER_S:
            self.execute("DELETE FROM log WHERE channel = ? AND pos <= ?", (id, end))

    def _oldest(self, id: int) -> int:
        sql = "SELECT ifnull(min(pos), 1) FROM log WHERE channel = ?"
        pos: int = self.execute(sql, (id,)).fetchone()[0]
        return pos

    def _at_s(self, id: int, pos: int) -> float:
        sql = "SELECT at_s FROM log WHERE channel = ? AND pos = ?"
        row = self.execute(sql, (id, pos)).fetchone()
        return row[0] if row else 0.0

    def tidy(self) -> bool:
        """Delete some of what is over; return whether there may be more."""
        now_s = _now_s()
        answers = self.execute(
            "DELETE FROM answer WHERE id IN"
            " (SELECT id FROM (SELECT id, expires_s FROM answer ORDER BY id LIMIT ?)"
            " WHERE expires_s <= ?)",
            (_TRIM_ROWS, now_s),
        ).rowcount
        signals = self.execute(
            "DELETE FROM log WHERE seq < ? AND seq IN"
            " (SELECT seq FROM (SELECT seq, at_s FROM log WHERE channel IS NULL AND pos IS NULL"
            " ORDER BY seq LIMIT ?) WHERE at_s < ?)",
            (self.after.seq, _TRIM_ROWS, now_s - _SIGNAL_S),
        ).rowcount
        due = self.execute(
            "SELECT id, name FROM channel WHERE due_s < ? ORDER BY due_s LIMIT 1", (now_s,)
        ).fetchone()
        if due is not None:
            self._visit(due[0], due[1], now_s)
        return due is not None or _TRIM_ROWS in (answers, signals)

    def _visit(self, id: int, name: bytes | None, now_s: float) -> None:
        """Look at a channel that is due."""
        if name is None:
            deleted = self.execute(
                "DELETE FROM log WHERE seq IN (SELECT seq FROM log WHERE channel = ? LIMIT ?)",
                (id, _TRIM_ROWS),
            ).rowcount
            if deleted < _TRIM_ROWS:
                self.execute("DELETE FROM channel WHERE id = ?", (id,))
            return
        channel = self._begun(name)
        due_s = channel.at_s + max(channel.age_s, _REMEMBER_S)
        if due_s < now_s:
            self.drop(_text(name))
        else:
            self.execute("UPDATE channel SET due_s = ? WHERE id = ?", (due_s, id))

    def _begun(self, name: bytes) -> _Channel:
        """Return what is known of a channel, begun where there is none."""
        row = self.execute(_CHANNEL, (name,)).fetchone()
        if row is None:
            self.execute(
                "INSERT INTO channel (name, epoch, events, age_s, due_s) VALUES (?, ?, 1, 0, ?)",
                (name, _random_bits(), _now_s() + _REMEMBER_S),
            )
            row = self.execute(_CHANNEL, (name,)).fetchone()
        number, epoch, pos, tag, seals, *rest = row
        return _Channel(number, Tail(Cursor(epoch, pos, tag), bool(seals), 0), *rest)

    def tails(self, channels: Sequence[str]) -> Sequence[Tail]:
        """Return the ends of channels, begun where there are none."""
        with self.transaction():
            return [self._begun(_raw(channel)).tail for channel in channels]

    def names(self, prefix: str, limit: int) -> Sequence[str]:
        """Return the names of channels with records, sorted."""
        low = _raw(prefix)
        rows = self.execute(
            "SELECT name FROM channel c WHERE name >= ?"
            " AND EXISTS (SELECT 1 FROM log WHERE channel = c.id) ORDER BY name LIMIT ?",
            (low, limit),
        ).fetchall()
        return [_text(name) for (name,) in takewhile(lambda row: row[0].startswith(low), rows)]

    def read(self, name: str, after: Cursor | Newest, limit: int, max_bytes: int) -> Page:
        """Return some records of a channel, begun where there is none."""
        with self.transaction():
            return self._page(name, self._begun(_raw(name)), after, limit, max_bytes)

    def _page(
        self, name: str, log: _Channel, after: Cursor | Newest, limit: int, max_bytes: int
    ) -> Page:
        tail, named, records, size = log.tail, None, list[Record](), 0
        epoch, newest, _ = tail.cursor
        first = self._first_kept(log)
        if isinstance(after, Newest):
            start = begin = max(first, newest + 1 - after.events)
        else:  # the record that the cursor names is looked at too
            start = max(first, min(after.pos, newest) + 1)
            begin = max(first, start - 1)
        rows = self.execute(
            "SELECT pos, tag, seals, body FROM log WHERE channel = ? AND pos >= ?"
            " ORDER BY pos LIMIT ?",
            (log.id, begin, limit + start - begin),
        )
        for pos, tag, seals, body in rows:
            record = Record(name, Cursor(epoch, pos, tag), pos - 1, body, bool(seals))
            if pos < start:
                named = record
                continue
            size += len(body)
            if records and size > max_bytes:
                break
            records.append(record)
        rows.close()
        if isinstance(after, Cursor):
            gap = gap_behind(after, tail, named, records[0] if records else None)
            if gap is not None:
                return Page((), gap, tail, more=False)
        return Page(records, None, tail, more=start + len(records) <= newest)

    def _first_kept(self, log: _Channel) -> int:
        """Return the position of the oldest record to be read, or that behind the tail."""
        newest, oldest_s = log.tail.cursor.pos, _now_s() - log.age_s
        low = max(self._oldest(log.id), newest + 1 - 2 * log.events - _SPARE)
        places = range(low, newest + 1)
        return low + bisect_left(places, oldest_s, key=lambda pos: self._at_s(log.id, pos))

    def version(self) -> int:
        """Return a number that is another one after each commit of another connection."""
        number: int = self.execute("PRAGMA data_version").fetchone()[0]
        return number

    def news(self, last: Place) -> tuple[Place, Sequence[Record | Signal]] | None:
        """Return where a page behind `last` ends, and what is in it; `None` where `last` is gone.

        It ends at `last` where there is nothing.
        """
        rows = self.execute(_NEWS, (last.seq, _PAGE_ROWS))
        if last.seq and (rows.fetchone() or ())[:2] != last:
            rows.close()
            return None
        found: list[Record | Signal] = []
        size, end = 0, last
        for seq, tag, name, epoch, pos, seals, topic, body in rows:
            end = Place(seq, tag)
            if topic is not None:
                found.append(Signal(_text(topic), body))
            elif name is not None:
                cursor = Cursor(epoch, pos, tag)
                found.append(Record(_text(name), cursor, pos - 1, body, bool(seals)))
            size += len(body)
            if size > _PAGE_BYTES:
                break
        rows.close()
        return end, found


def _raw(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogatepass")


def _now_s() -> float:
    # The wall clock: the age of records is counted by other processes too, and later ones.
    return time.time()


def _random_bits() -> int:
    return int.from_bytes(os.urandom(4), "big") or 1
