"""What the contract suite cannot know of SQLite: its file, its lock, its threads, its end."""

import asyncio
import os
import shutil
import signal
import sqlite3
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from typed_sse.channels import sqlite, sqlite_feed, sqlite_file, sqlite_log
from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import EARLIEST, GapReason, Newest, Page, Record, Retain
from typed_sse.channels.sqlite import SqliteEngine
from typed_sse.channels.sqlite_file import network_file_system
from typed_sse.channels.sqlite_log import SqliteLog
from typed_sse.contract import EngineContract
from typed_sse.errors import Conflict, EngineUnavailable, InvalidField, OutcomeUnknown

pytestmark = pytest.mark.live

RETAIN = Retain()
LIMIT_S = 30.0
DROPPED = "SELECT count(*) FROM channel WHERE name IS NULL"

APPENDER = """
import asyncio, sys
from typed_sse.channels.engine import Retain
from typed_sse.channels.sqlite import SqliteEngine

class Deaf:
    def record(self, record): pass
    def lost(self, channels): pass
    def signal(self, topic, data): pass

async def main(path, channels, count):
    engine = SqliteEngine(path, timeout_s=30)
    await engine.start(Deaf())
    for number in range(count):
        for channel in channels:
            done = await engine.append(channel, [b"%d" % number], retain=Retain(1_000_000))
            print(channel, done.last, flush=True)
    await engine.stop()

asyncio.run(main(sys.argv[1], sys.argv[3:], int(sys.argv[2])))
"""


class Ear:
    """A feed that keeps what it hears."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.losses: list[Collection[str] | None] = []
        self.signals: list[tuple[str, bytes]] = []

    def record(self, record: Record) -> None:
        self.records.append(record)

    def lost(self, channels: Collection[str] | None) -> None:
        self.losses.append(channels)

    def signal(self, topic: str, data: bytes) -> None:
        self.signals.append((topic, data))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def started(
    path: Path, ear: Ear | None = None, *, timeout_s: float = LIMIT_S
) -> AsyncGenerator[SqliteEngine]:
    engine = SqliteEngine(str(path), timeout_s=timeout_s)
    await engine.start(ear or Ear())
    try:
        yield engine
    finally:
        await engine.stop()


@asynccontextmanager
async def appender(
    path: Path, count: int, *channels: str
) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", APPENDER, str(path), str(count), *channels, stdout=-1
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "channels.db"


def asked(path: Path, sql: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchone()[0]


@asynccontextmanager
async def locked(path: Path) -> AsyncGenerator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def put_in_place(path: Path, copy: Path) -> None:
    """Move a copy to where the file is, as the docstring says."""
    for name in (f"{path}-wal", f"{path}-shm"):
        if os.path.exists(name):
            os.replace(name, f"{name}.old")
    os.replace(copy, path)


def copied(path: Path) -> Path:
    copy = path.with_name(f"{path.name}.{os.urandom(4).hex()}")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


async def everything(engine: SqliteEngine, channel: str) -> list[Record]:
    records: list[Record] = []
    after: Cursor | Newest = EARLIEST
    while True:
        page = await engine.read(channel, after, limit=1000, max_bytes=10**9)
        assert page.gap is None
        records += page.records
        if not page.more:
            return records
        after = page.records[-1].cursor


async def gap(engine: SqliteEngine, channel: str, after: Cursor) -> GapReason | None:
    return (await engine.read(channel, after, limit=10, max_bytes=10**6)).gap


class TestContract(EngineContract):
    """The laws of every engine; what is lost and put back is the file."""

    skipped_s = 0.0

    @pytest.fixture(autouse=True)
    def there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        self.directory = tmp_path
        self.path = tmp_path / "there" / "channels.db"
        self.path.parent.mkdir()
        self.locks: list[sqlite3.Connection] = []
        now_s = sqlite_log._now_s
        monkeypatch.setattr(sqlite_log, "_now_s", lambda: now_s() + self.skipped_s)
        # One law's test does not wait for a signal to be heard.
        monkeypatch.setattr(sqlite_feed, "_QUIET_POLL_S", sqlite_feed._POLL_S)
        yield
        for lock in self.locks:
            lock.close()

    def make(self) -> SqliteEngine:
        return SqliteEngine(str(self.path), timeout_s=2)

    async def copy_store(self) -> object:
        return copied(self.path)

    async def restore_store(self, copy: object) -> None:
        assert isinstance(copy, Path)
        with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(self.path)) as here:
            source.backup(here)

    async def clear_store(self) -> None:
        empty = self.directory / "empty.db"
        async with started(empty):
            pass
        await self.restore_store(empty)

    async def lose_connection(self) -> None:
        self.lock()
        put_in_place(self.path, copied(self.path))

    def lock(self) -> None:
        """See to it that to the file that is there now nothing is appended any more."""
        self.locks.append(sqlite3.connect(self.path, isolation_level=None))
        self.locks[-1].execute("BEGIN IMMEDIATE")

    @asynccontextmanager
    async def outage(self) -> AsyncGenerator[None]:
        away = self.directory / f"away{os.urandom(4).hex()}"
        self.lock()
        copy = copied(self.path)
        self.path.parent.rename(away)
        yield
        self.path.parent.mkdir()
        shutil.copy(away / copy.name, self.path)

    @asynccontextmanager
    async def stall(self) -> AsyncGenerator[None]:
        async with locked(self.path):
            yield

    async def pass_time(self, seconds: float) -> None:
        self.skipped_s += seconds


def content(path: Path) -> bytes | list[str]:
    return sorted(os.listdir(path)) if path.is_dir() else path.read_bytes()


def break_pages(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))


def write_text(path: Path) -> None:
    path.write_text("These are the notes of last week, and no database. " * 100)


def write_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE customer (name TEXT)")


def write_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA application_id = {sqlite_file._APPLICATION_ID}")
        other.execute("PRAGMA user_version = 7")


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (write_text, "not a database"),
        (write_table, "another program"),
        (write_version, "version 7"),
        (Path.mkdir, "unable to open"),
    ],
)
async def test_a_file_of_others_is_refused_and_left_as_it_is(
    path: Path, write: Callable[[Path], None], reason: str
) -> None:
    write(path)
    before = content(path)
    engine = SqliteEngine(str(path))
    with pytest.raises(EngineUnavailable, match=reason) as caught:
        await engine.start(Ear())
    assert str(path) in str(caught.value)
    assert content(path) == before


@pytest.mark.parametrize("name", [":memory:", "missing/channels.db"])
async def test_a_place_that_cannot_be_shared_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(EngineUnavailable):
        await SqliteEngine(str(tmp_path / name)).start(Ear())
    assert content(tmp_path) == []


async def test_a_file_that_cannot_be_wal_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stubborn(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            return super().execute("SELECT 'delete'" if "journal_mode" in sql else sql, *args)

    connect = sqlite3.connect

    def stubborn(*args: Any, **options: Any) -> sqlite3.Connection:
        return connect(*args, factory=Stubborn, **options)

    monkeypatch.setattr(sqlite3, "connect", stubborn)
    with pytest.raises(EngineUnavailable, match="write-ahead log"):
        await SqliteEngine(str(path)).start(Ear())


def test_a_network_file_system_is_known_by_its_mount() -> None:
    mounts = (
        "21 1 0:20 / / rw - ext4 /dev/vda rw\n"
        "22 21 0:31 / /srv rw,relatime shared:2 - nfs4 host:/srv rw\n"
        "23 22 0:32 / /srv/my\\040disk rw - xfs /dev/vdb rw\n"
    )
    assert network_file_system("/srv", mounts) == "nfs4"
    assert network_file_system("/srv/data", mounts) == "nfs4"
    assert network_file_system("/srvdata", mounts) is None
    assert network_file_system("/srv/my disk/x", mounts) is None


async def test_a_network_file_system_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nfs4(_: str) -> str:
        return "nfs4"

    monkeypatch.setattr(sqlite_file, "network_file_system", nfs4)
    with pytest.raises(EngineUnavailable, match="nfs4"):
        await SqliteEngine(str(path)).start(Ear())


@pytest.mark.parametrize(
    "options", [{"timeout_s": 0}, {"timeout_s": float("nan")}, {"synchronous": "off"}]
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidField):
        SqliteEngine("channels.db", **options)


async def test_a_start_that_failed_can_be_repeated_and_a_stop_too(tmp_path: Path) -> None:
    engine = SqliteEngine(str(tmp_path / "later" / "channels.db"))
    with pytest.raises(EngineUnavailable, match="later"):
        await engine.start(Ear())
    (tmp_path / "later").mkdir()
    await engine.start(Ear())
    with pytest.raises(EngineUnavailable, match="started already"):
        await engine.start(Ear())
    await engine.append("a", [b"x"], retain=RETAIN)
    await engine.stop()
    await engine.stop()
    with pytest.raises(EngineUnavailable, match="stopped"):
        await engine.append("a", [b"x"], retain=RETAIN)
    assert not (await engine.health()).ready
    assert not [each for each in threading.enumerate() if "sqlite" in each.name]
    assert [each.name for each in (tmp_path / "later").iterdir()] == ["channels.db"]


@pytest.mark.parametrize("synchronous", ["normal", "full"])
async def test_names_with_signs_of_urls_are_names_of_files(
    tmp_path: Path, synchronous: Any
) -> None:
    path = tmp_path / "50% of #1?mode=ro.db"
    engine = SqliteEngine(str(path), synchronous=synchronous)
    await engine.start(Ear())
    await engine.append("a", [b"x"], retain=RETAIN)
    await engine.stop()
    assert path.exists()


async def test_a_start_that_is_cancelled_leaves_nothing(path: Path) -> None:
    engine = SqliteEngine(str(path))
    for turns in range(12):
        task = asyncio.create_task(engine.start(Ear()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await engine.stop()
        assert not [each for each in threading.enumerate() if "sqlite" in each.name]


async def test_what_several_processes_append_is_heard_once_and_in_order(path: Path) -> None:
    ear, count, channels = Ear(), 150, ("a", "b", "room/c")
    async with started(path, ear) as engine:
        await engine.watch(["a", "b", "room/"])
        async with (
            appender(path, count, *channels) as one,
            appender(path, count, *channels) as two,
            appender(path, count, *channels) as three,
        ):
            for number in range(count):
                await engine.append("a", [b"%d" % number], retain=Retain(1_000_000))
            for process in (one, two, three):
                await asyncio.wait_for(process.communicate(), LIMIT_S)
                assert process.returncode == 0
        await until(lambda: len(ear.records) >= 10 * count)
        for channel in channels:
            heard = [record for record in ear.records if record.channel == channel]
            assert heard == await everything(engine, channel)
            assert [record.prev for record in heard] == list(range(len(heard)))
    assert ear.losses == []


async def test_all_that_was_acknowledged_outlives_a_kill(path: Path) -> None:
    acknowledged: list[tuple[str, str]] = []
    async with started(path) as engine:
        for _ in range(3):
            async with appender(path, 100_000, "a", "b") as process:
                assert process.stdout is not None
                for _ in range(101):
                    line = await asyncio.wait_for(process.stdout.readline(), LIMIT_S)
                    channel, cursor = line.decode().split()
                    acknowledged.append((channel, cursor))
                process.send_signal(signal.SIGKILL)
                rest, _ = await process.communicate()
                # The last line may have been cut off.
                for line in rest[: rest.rfind(b"\n") + 1].splitlines():
                    channel, cursor = line.decode().split()
                    acknowledged.append((channel, cursor))
            await engine.append("a", [b"next"], retain=Retain(1_000_000))
    async with started(path) as engine:
        kept = {
            (record.channel, str(record.cursor))
            for channel in ("a", "b")
            for record in await everything(engine, channel)
        }
    assert set(acknowledged) <= kept
    assert asked(path, "PRAGMA integrity_check") == "ok"


async def test_cursors_keys_and_seals_are_good_after_a_restart(path: Path) -> None:
    async with started(path) as engine:
        birth = (await engine.tails(["a"]))[0].cursor
        done = await engine.append("a", [b"x", b"y"], retain=RETAIN, key="k", seal=True)
    async with started(path) as engine:
        assert await gap(engine, "a", birth) is None
        assert await gap(engine, "a", done.first) is None
        tail = (await engine.tails(["a"]))[0]
        assert (tail.cursor, tail.sealed) == (done.last, True)
        again = await engine.append("a", [b"x", b"y"], retain=RETAIN, key="k", seal=True)
        assert again == done._replace(duplicate=True)


async def test_an_older_copy_in_the_files_place_is_noticed_before_anything_is_done(
    path: Path,
) -> None:
    ear = Ear()
    async with started(path, ear) as engine, started(path) as other:
        await engine.watch(["a"])
        kept = (await engine.append("a", [b"kept"], retain=RETAIN)).last
        copy = copied(path)
        lost = (await engine.append("a", [b"lost"], retain=RETAIN)).last
        put_in_place(path, copy)
        new = (await other.append("a", [b"new"], retain=RETAIN)).last
        assert new.pos == lost.pos
        assert await gap(engine, "a", kept) is None
        assert await gap(engine, "a", lost) is GapReason.RESET
        assert [record.body for record in await everything(engine, "a")] == [b"kept", b"new"]
        await until(lambda: ear.losses == [None])
        last = (await other.append("a", [b"more"], retain=RETAIN)).last
        await until(lambda: ear.records[-1].cursor == last)
    assert asked(path, "PRAGMA integrity_check") == "ok"


async def test_a_copy_that_grew_as_far_as_the_feed_was_is_noticed(path: Path) -> None:
    ear = Ear()
    async with started(path, ear) as engine:
        await engine.watch(["a"])
        copy = copied(path)
        for _ in range(3):
            await engine.append("a", [b"lost"], retain=RETAIN)
        async with started(copy) as other:
            for _ in range(5):
                await other.append("a", [b"of the other life"], retain=RETAIN)
        with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(path)) as here:
            source.backup(here)
        await until(lambda: ear.losses == [None])
        last = (await engine.append("a", [b"more"], retain=RETAIN)).last
        await until(lambda: ear.records[-1].cursor == last)
        assert [record.body for record in ear.records] == [b"lost"] * 3 + [b"more"]


async def test_a_file_that_is_gone_is_not_made_anew_and_is_taken_up_when_it_is_back(
    path: Path,
) -> None:
    ear = Ear()
    async with started(path, ear) as engine:
        await engine.watch(["a"])
        await engine.append("a", [b"x"], retain=RETAIN)
        copy = copied(path)
        os.unlink(path)
        for call in (engine.append("a", [b"no"], retain=RETAIN), engine.tails(["a"])):
            with pytest.raises(EngineUnavailable, match="gone"):
                await call
        assert not (await engine.health()).ready
        assert path.name not in os.listdir(path.parent)
        put_in_place(path, copy)
        await until(lambda: ear.losses == [None])
        last = (await engine.append("a", [b"y"], retain=RETAIN)).last
        await until(lambda: ear.records[-1].cursor == last)
        assert [record.body for record in await everything(engine, "a")] == [b"x", b"y"]


async def test_of_a_file_with_broken_pages_nothing_wrong_is_read(path: Path) -> None:
    async with started(path) as engine:
        for _ in range(50):
            await engine.append("a", [b"x" * 2000], retain=RETAIN)
    break_pages(path)
    engine = SqliteEngine(str(path))
    try:
        with pytest.raises(EngineUnavailable):
            await engine.start(Ear())
            await engine.read("a", EARLIEST, limit=1000, max_bytes=10**9)
    finally:
        await engine.stop()


async def test_what_a_full_disk_cannot_take_is_refused_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def small(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)
        connection.execute("PRAGMA max_page_count = 60")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    async with started(path) as engine:
        await engine.append("a", [b"first"], retain=RETAIN)
        async with locked(path):
            # They wait, and so become one group.
            calls = [
                asyncio.create_task(engine.append("a", [body], retain=RETAIN))
                for body in (b"before", b"x" * 500_000, b"behind")
            ]
            await asyncio.sleep(0)
        before, large, behind = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(large, EngineUnavailable)
        assert "full" in str(large)
        assert not isinstance(before, BaseException)
        assert not isinstance(behind, BaseException)
        bodies = [record.body for record in await everything(engine, "a")]
        assert bodies == [b"first", b"before", b"behind"]


async def test_what_waited_for_another_writer_too_long_is_never_appended(path: Path) -> None:
    async with started(path) as engine:
        await engine.append("a", [b"x"], retain=RETAIN)
        async with locked(path):
            engine._timeout_s = 0.2
            with pytest.raises(EngineUnavailable, match="other processes are writing"):
                await engine.append("a", [b"too late"], retain=RETAIN)
            engine._timeout_s = LIMIT_S
            assert (await engine.tails(["a"]))[0].cursor.pos == 1
        async with started(path) as patient:
            await patient.append("a", [b"y"], retain=RETAIN)
            assert [record.body for record in await everything(patient, "a")] == [b"x", b"y"]


@pytest.mark.parametrize("what", ["append", "drop", "signal"])
async def test_what_is_being_committed_at_the_timeout_has_an_unknown_outcome(
    path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    go_on, commit, ear = threading.Event(), SqliteLog.commit, Ear()

    def slow(log: SqliteLog) -> None:
        assert go_on.wait(LIMIT_S)
        commit(log)

    async with started(path, ear) as engine:
        await engine.append("a", [b"x"], retain=RETAIN)
        monkeypatch.setattr(SqliteLog, "commit", slow)
        engine._timeout_s = 0.2
        with pytest.raises(OutcomeUnknown, match=r"timeout_s=0\.2"):
            match what:
                case "append":
                    await engine.append("a", [b"y"], retain=RETAIN, key="k")
                case "drop":
                    await engine.drop("a")
                case _:
                    await engine.signal("topic", b"y")
        engine._timeout_s = LIMIT_S
        go_on.set()
        # It was done.
        again = await engine.append("a", [b"y"], retain=RETAIN, key="k")
        tail = (await engine.tails(["a"]))[0].cursor
        await until(lambda: again.duplicate or tail.pos == 1 or ear.signals == [("topic", b"y")])


async def test_where_a_commit_fails_its_outcome_is_unknown(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = SqliteLog.commit

    def failing(log: SqliteLog) -> None:
        commit(log)
        raise sqlite3.OperationalError("disk I/O error")

    async with started(path) as engine:
        await engine.append("a", [b"x"], retain=RETAIN)
        with monkeypatch.context() as broken:
            broken.setattr(SqliteLog, "commit", failing)
            with pytest.raises(OutcomeUnknown, match="disk I/O"):
                await engine.append("a", [b"y"], retain=RETAIN, key="k")
        assert (await engine.append("a", [b"y"], retain=RETAIN, key="k")).duplicate


async def test_an_append_that_is_cancelled_while_it_is_committed_ends_with_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, commit = threading.Event(), threading.Event(), SqliteLog.commit

    def slow(file: SqliteLog) -> None:
        begun.set()
        assert go_on.wait(LIMIT_S)
        commit(file)

    async with started(path) as engine:
        await engine.append("a", [b"x"], retain=RETAIN)
        monkeypatch.setattr(SqliteLog, "commit", slow)
        task = asyncio.create_task(engine.append("a", [b"y"], retain=RETAIN))
        await until(begun.is_set)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        await asyncio.wait([task], timeout=LIMIT_S)
        assert task.cancelled()
        assert len(await everything(engine, "a")) == 2


async def test_an_append_that_is_cancelled_while_it_waits_is_never_done(path: Path) -> None:
    async with started(path) as engine:
        await engine.append("a", [b"x"], retain=RETAIN)
        async with locked(path):
            task = asyncio.create_task(engine.append("a", [b"no"], retain=RETAIN))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task], timeout=LIMIT_S)
            assert task.cancelled()
        await engine.append("a", [b"y"], retain=RETAIN)
        assert [record.body for record in await everything(engine, "a")] == [b"x", b"y"]


@pytest.mark.parametrize(("limit", "value"), [("_MAX_WAITING", 3), ("_MAX_WAITING_BYTES", 30)])
async def test_no_more_than_the_limit_waits(
    path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(sqlite, limit, value)
    async with started(path) as engine:
        await engine.tails(["a"])
        async with locked(path):
            calls = [
                asyncio.create_task(engine.append("a", [b"x" * 10], retain=RETAIN))
                for _ in range(3)
            ]
            await asyncio.sleep(0)
            with pytest.raises(EngineUnavailable, match="3 appends of 30 bytes wait"):
                await engine.append("a", [b"one too many"], retain=RETAIN)
        await asyncio.gather(*calls)
        await engine.append("a", [b"now"], retain=RETAIN)


async def test_a_stop_ends_what_waits_and_lets_what_is_done_be_done(path: Path) -> None:
    async with started(path) as engine:
        await engine.append("a", [b"x"], retain=RETAIN)
        async with locked(path):
            calls: list[Awaitable[object]] = [
                asyncio.create_task(engine.append("a", [b"no"], retain=RETAIN)),
                asyncio.create_task(engine.read("new", EARLIEST, limit=1, max_bytes=1)),
            ]
            await asyncio.sleep(0)
            await engine.stop()
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(outcome, EngineUnavailable)
    assert asked(path, "SELECT count(*) FROM log") == 1


async def test_order_and_cursors_do_not_depend_on_the_clock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, ear = 1_000_000.0, Ear()
    monkeypatch.setattr(sqlite_log, "_now_s", lambda: now_s)
    async with started(path, ear) as engine:
        await engine.watch(["a"])
        for jump_s in (0, 3600, -7200, 3600, -3600, 3600):
            now_s += jump_s
            for _ in range(100):
                await engine.append("a", [b"x"], retain=Retain(10_000))
        records = await everything(engine, "a")
        assert [record.cursor.pos for record in records] == list(range(1, 601))
        for record in records[::50]:
            page = await engine.read("a", record.cursor, limit=1000, max_bytes=10**6)
            assert page.records == records[record.cursor.pos :]
        await until(lambda: ear.records == records)


async def test_what_is_too_old_is_read_no_more_and_the_tail_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1_000_000.0
    monkeypatch.setattr(sqlite_log, "_now_s", lambda: now_s)
    async with started(path) as engine:
        cursors: list[Cursor] = []
        for _ in range(40):
            now_s += 1
            cursors.append((await engine.append("a", [b"x"], retain=Retain(age_s=10))).last)
        assert [record.cursor for record in await everything(engine, "a")] == cursors[-11:]
        assert await gap(engine, "a", cursors[-12]) is GapReason.EVICTED
        assert await gap(engine, "a", cursors[-11]) is None
        now_s += 100
        assert await everything(engine, "a") == []
        assert await gap(engine, "a", cursors[-1]) is None
        assert await gap(engine, "a", cursors[-2]) is GapReason.EVICTED


async def test_what_came_behind_a_record_of_the_future_is_not_older_than_that(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1_000_000.0
    monkeypatch.setattr(sqlite_log, "_now_s", lambda: now_s)
    async with started(path) as engine:
        for jump_s in (0, 3600, -3599):
            now_s += jump_s
            await engine.append("a", [b"x"], retain=Retain(age_s=10))
        now_s += 15
        assert [record.cursor.pos for record in await everything(engine, "a")] == [2, 3]


async def test_the_file_does_not_grow_with_what_is_over(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1_000_000.0
    monkeypatch.setattr(sqlite_log, "_now_s", lambda: now_s)
    monkeypatch.setattr(sqlite, "_TIDY_EVERY_S", 0.0)
    async with started(path) as engine:
        for turn in range(400):
            now_s += 1
            await engine.append("a", [b"x"] * 20, retain=Retain(5), key=f"{turn}")
            await engine.signal("topic", b"")
        assert len(await everything(engine, "a")) <= 110
        assert asked(path, "SELECT count(*) FROM log WHERE channel IS NOT NULL") <= 500
        assert asked(path, "SELECT count(*) FROM log WHERE channel IS NULL") <= 200
        assert asked(path, "SELECT count(*) FROM answer") <= 500


async def test_less_to_be_kept_is_less_to_be_read_at_once(path: Path) -> None:
    async with started(path) as engine:
        for _ in range(5):
            await engine.append("a", [b"x"] * 1000, retain=Retain(10_000))
        assert len(await everything(engine, "a")) == 5000
        last = (await engine.append("a", [b"y"], retain=Retain(1))).last
        assert len(await everything(engine, "a")) <= 102
        assert await gap(engine, "a", last) is None


async def test_a_dropped_channel_is_deleted_by_and_by_and_no_seq_is_given_out_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_TIDY_EVERY_S", 0.0)
    ear = Ear()
    async with started(path, ear) as engine:
        await engine.watch(["a"])
        for _ in range(3):
            await engine.append("a", [b"x"] * 1000, retain=Retain(10_000))
        newest = asked(path, "SELECT max(seq) FROM log")
        old = (await engine.tails(["a"]))[0].cursor
        await engine.drop("a")
        for _ in range(200):  # so many writes that it is tidied up in between
            await engine.drop("nothing")
        assert await engine.names("", limit=10) == []
        assert await gap(engine, "a", old) is GapReason.RESET
        new = (await engine.append("a", [b"y"], retain=RETAIN)).last
        assert asked(path, "SELECT max(seq) FROM log") > newest + 1
        await until(lambda: ear.records[-1].cursor == new)
        for number in range(70):
            await engine.append("b", [b"%d" % number], retain=RETAIN)
        await until(lambda: asked(path, DROPPED) == 0)
        assert asked(path, "SELECT count(*) FROM log WHERE channel IS NOT NULL") == 71
    assert ear.losses == []


async def test_a_channel_without_records_for_a_day_is_forgotten(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1_000_000.0
    monkeypatch.setattr(sqlite_log, "_now_s", lambda: now_s)
    monkeypatch.setattr(sqlite, "_TIDY_EVERY_S", 0.0)
    async with started(path) as engine:
        await engine.tails(["empty"])
        await engine.append("idle", [b"x"], retain=RETAIN)
        await engine.append("long", [b"x"], retain=Retain(age_s=500_000))
        now_s += 50_000
        await engine.append("busy", [b"x"], retain=RETAIN)
        now_s += 50_000
        for _ in range(70):
            await engine.append("now", [b"x"], retain=RETAIN)
        await until(lambda: asked(path, "SELECT count(*) FROM channel") == 3)
        await until(lambda: asked(path, DROPPED) == 0)
        assert await engine.names("", limit=10) == ["busy", "long", "now"]


async def test_names_keys_and_topics_may_be_any_text(path: Path) -> None:
    ear, odd = Ear(), "\0\ud800ä%_'\U0010ffff"
    async with started(path, ear) as engine:
        await engine.watch([odd])
        done = await engine.append(odd, [b""], retain=RETAIN, key=odd)
        assert await engine.append(odd, [b""], retain=RETAIN, key=odd) == done._replace(
            duplicate=True
        )
        assert await engine.names("\0\ud800", limit=1) == [odd]
        await engine.signal(odd, b"\0")
        await until(lambda: ear.signals == [(odd, b"\0")])
        assert [record.channel for record in ear.records] == [odd]


async def test_the_feed_waits_for_a_loop_that_is_behind_and_loses_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_feed, "_PAGES_AHEAD", 1)
    monkeypatch.setattr(sqlite_log, "_PAGE_ROWS", 3)
    ear = Ear()
    async with started(path, ear) as engine, started(path) as other:
        await engine.watch(["a"])

        async def some(one: SqliteEngine) -> None:
            for _ in range(50):
                await one.append("a", [b"x", b"y"], retain=RETAIN)

        await asyncio.gather(*(some(one) for one in (engine, other) for _ in range(3)))
        await until(lambda: len(ear.records) == 600)
        assert ear.records == await everything(engine, "a")
    assert ear.losses == []


async def test_of_many_that_expect_the_same_tail_one_is_let(path: Path) -> None:
    async with started(path) as one, started(path) as two:
        tail = (await one.tails(["a"]))[0].cursor
        calls: list[Coroutine[Any, Any, object]] = [
            each.append("a", [b"x"], retain=RETAIN, expect=tail)
            for each in (one, two)
            for _ in range(20)
        ]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 39
        page: Page = await one.read("a", EARLIEST, limit=10, max_bytes=100)
        assert len(page.records) == 1
