"""The SQLite file: which one is taken, how it is opened, and how another in its place is noticed.

One connection, of one thread at a time. Knows that there are tables, not what is in them.
"""

import os
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_APPLICATION_ID = 0x74535345
_SCHEMA_VERSION = 1
_TABLES = "SELECT count(*) FROM sqlite_master"

# Processes of several hosts would meet there, and the write-ahead log is for those of one.
_NETWORK_FILE_SYSTEMS = {
    *("afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "gfs2"),
    *("lustre", "nfs", "nfs4", "ocfs2", "smb3", "smbfs"),
}


class Unusable(Exception):
    """The file is none that can be used; the message says why, and what to do."""


class SqliteFile:
    """One connection to the file, opened anew where another file has taken its place.

    Args:
        path: the file, absolute.
        synchronous: SQLite's setting of this name.
        schema: the statements that make its tables.

    Attributes:
        identity: which file is open: device and inode; `None` while none is.
        execute: runs a statement on it.
    """

    def __init__(self, path: str, synchronous: str, schema: Sequence[str]) -> None:
        self.path = path
        self.identity: tuple[int, int] | None = None
        self.execute: Callable[..., sqlite3.Cursor] = _closed
        self._synchronous = synchronous
        self._schema = schema
        self._connection: sqlite3.Connection | None = None

    def prepare(self) -> None:
        """Make the file and its tables where there are none."""
        directory = Path(self.path).parent
        if Path(self.path).name == ":memory:":
            raise Unusable("no other process could see it; name a file, or use the memory engine")
        if not directory.is_dir():
            raise Unusable(f"there is no directory {directory}; make it first")
        if (kind := network_file_system(os.path.realpath(directory))) is not None:
            raise Unusable(f"{directory} is a network file system ({kind}); use a local disk")
        connection = self._connect("rwc")
        try:
            _check(connection)
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise Unusable(f"it cannot have a write-ahead log (its mode stays {mode!r})")
            connection.execute("BEGIN IMMEDIATE")
            if not _check(connection):
                for statement in self._schema:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
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
            raise Unusable("the file is gone; put it back, or start again") from error
        identity = there.st_dev, there.st_ino
        if identity == self.identity:
            return False
        self.close()
        self._connection = self._connect("rw")
        if not _check(self._connection):
            raise Unusable("its tables are gone; start again")
        self._connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        self._connection.execute("PRAGMA journal_size_limit = 67108864")
        self.execute, self.identity = self._connection.execute, identity
        return True

    def close(self) -> None:
        """Disconnect; what was not committed is undone."""
        self.execute, self.identity = _closed, None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextmanager
    def transaction(self) -> Generator[None, None, None]:
        """Do what is inside as of one moment, all of it or nothing."""
        self.execute("BEGIN")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite may have done so by itself
                self.execute("ROLLBACK")
            raise

    def _connect(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{Path(self.path).as_uri()}?mode={mode}",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
        )


def is_busy(error: BaseException) -> bool:
    """Return whether another connection is in the way, and will not be for long."""
    return primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL)


def primary_code(error: BaseException) -> int | None:
    """Return SQLite's code of an error; `None` where it has none."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def network_file_system(directory: str, mounts: str | None = None) -> str | None:
    """Return the kind of network file system that a directory is on, `None` where it is on none.

    What is mounted where is written as in Linux's `/proc/self/mountinfo`, which it is by default.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(errors="replace")
        except OSError:
            return None
    longest, kind = -1, ""
    for line in mounts.splitlines():
        before, _, behind = line.partition(" - ")
        mounted = before.split(" ")[4].replace("\\040", " ").rstrip("/")
        # A later mount hides an earlier one at the same place.
        if len(mounted) >= longest and f"{directory}/".startswith(f"{mounted}/"):
            longest, kind = len(mounted), behind.split(" ")[0]
    return kind if kind in _NETWORK_FILE_SYSTEMS else None


def _check(connection: sqlite3.Connection) -> bool:
    """Return whether our tables are there; false where there are none at all."""
    application, version, tables = (
        connection.execute(what).fetchone()[0]
        for what in ("PRAGMA application_id", "PRAGMA user_version", _TABLES)
    )
    if (application, version) == (_APPLICATION_ID, _SCHEMA_VERSION):
        return True
    if application or version or tables:
        raise Unusable(
            f"it is the database of another program, or of version {version} of this one and not"
            f" {_SCHEMA_VERSION}; name another file"
        )
    return False


def _closed(*_: object) -> sqlite3.Cursor:
    raise Unusable("it is closed")
