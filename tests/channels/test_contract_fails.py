"""The contract suite fails on an engine that breaks a law: each line below is one that does."""

import asyncio
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import SkipTest

import pytest

from channels import test_contract as suite
from typed_sse.channels import engine, memory
from typed_sse.contract import faults
from typed_sse.testing import EngineContract, VirtualTimeLoop

WAIT = "\n        import asyncio\n        await asyncio.sleep(0)\n"
STORE = (
    "        log.records += new\n"
    "        log.times += [log.touched_s] * len(new)\n"
    "        log.tail = Tail(new[-1].cursor, seal, tail.base)\n"
)
TELL = "        for engine in list(store.engines):\n            engine.tell(channel, new)"
NEW = "Record(channel, Cursor(epoch, pos, _random_bits()), pos - 1, body, False)"

# What is broken, a text in the engine, and what stands there instead.
BROKEN_MEMORY = [
    ("a cursor behind an evicted one is valid", "if start > first else None", "if start else None"),
    ("the oldest kept cursor is not valid", "if start > first", "if start - 1 > first"),
    ("reading begins at the cursor", "start = bisect_right(", "start = -1 + bisect_right("),
    ("a record is left out", "records[start : start + limit]", "records[start + 1 :]"),
    ("the limit is off by one", "start + limit]", "start + limit + 1]"),
    ("max_bytes is ignored", "start + limit], max_bytes)", "start + limit], 10**9)"),
    ("more is said of the page", "more=start + len(some) < len(records)", "more=bool(some)"),
    ("there is never more", "more=start + len(some) < len(records)", "more=False"),
    ("newest is off by one", "- after.events)", "- after.events - 1)"),
    ("newest finds what is too old", "max(first, len(records)", "max(0, len(records)"),
    (
        "the tail is the page's",
        "None, log.tail, more=s",
        "None, Tail(some[-1].cursor if some else log.tail.cursor, log.tail.sealed, 0), more=s",
    ),
    ("a key is ignored", "if key is not None and (before", "if key == () and (before"),
    ("a key is of all channels", "(channel, key)", "('', key)"),
    ("a repetition is no duplicate", "before._replace(duplicate=True)", "before"),
    ("a key is never forgotten", "if self.clock() < expires_s", "if True"),
    ("a key is forgotten early", "+ KEY_WINDOW_S", "+ KEY_WINDOW_S / 2"),
    (
        "a key is looked for, and then waited",
        "log = store.log(channel)\n        tail =",
        WAIT + "        log = store.log(channel)\n        tail =",
    ),
    ("prev is the one before", "pos - 1, body", "pos - 2, body"),
    ("prev is the batch's", "pos - 1, body", "tail.cursor.pos, body"),
    ("tags are all the same", "Cursor(epoch, pos, _random_bits())", "Cursor(epoch, pos, 1)"),
    ("epochs are all the same", "Tail(Cursor(_random_bits(), 0", "Tail(Cursor(7, 0"),
    ("what is sealed takes more", "if tail.sealed:", "if False:"),
    ("the tail is never sealed", "Tail(new[-1].cursor, seal, ", "Tail(new[-1].cursor, False, "),
    ("no record seals", "_replace(seals=seal)", "_replace(seals=False)"),
    ("the first one seals", "new[-1] = new[-1]._replace(", "new[0] = new[0]._replace("),
    ("a seal is not heard", "engine.tell(channel, new)", "engine.tell(channel, new[seal:])"),
    ("any tail will do", "expect != tail.cursor", "not expect"),
    ("a tail of the same position will do", "expect != tail.cursor", "expect[1] != tail.cursor[1]"),
    ("a tail with another tag will do", "expect != tail.cursor", "expect[:2] != tail.cursor[:2]"),
    ("another epoch's tail will do", "expect != tail.cursor", "expect[1:] != tail.cursor[1:]"),
    (
        "a batch comes in parts",
        STORE,
        "        for each in new:\n"
        "            log.records.append(each)\n            log.times.append(log.touched_s)\n"
        "            log.tail = Tail(each.cursor, each.seals, tail.base)\n"
        "            import asyncio\n            await asyncio.sleep(0)\n",
    ),
    ("cancelled, a batch is told to nobody", TELL, WAIT + TELL),
    (
        "cancelled, a key is not remembered",
        "log.keep(retain.events)",
        "log.keep(retain.events)" + WAIT,
    ),
    (
        "records are told in another order",
        "in records:\n                self",
        "in reversed(records):\n                self",
    ),
    ("only the own process hears", TELL, "        self.tell(channel, new)"),
    (
        "the own process hears nothing",
        TELL,
        TELL.replace("engine.tell", "engine is self or engine.tell"),
    ),
    (
        "the last of a batch is not heard",
        "engine.tell(channel, new)",
        "engine.tell(channel, new[: -1 or None] or new)",
    ),
    (
        "whoever watches twice hears twice",
        "self._feed.record(record)",
        "[self._feed.record(record)"
        " for _ in range(1 + (channel in self._watched and channel.startswith(self._prefixes)))]",
    ),
    ("all hear all", "if channel in self._watched or", "if True or"),
    ("nothing below is heard", "or channel.startswith(self._prefixes)", ""),
    (
        "what begins alike is heard",
        'name for name in self._watched if name.endswith("/")',
        'name.rstrip("/") for name in self._watched if name.endswith("/")',
    ),
    (
        "watch returns early",
        "self._watched.update(channels)\n        self._note_prefixes()",
        "import asyncio\n        asyncio.get_running_loop().call_soon(lambda: ("
        "self._watched.update(channels), self._note_prefixes()))",
    ),
    ("watching ends other watching", "self._watched.update(", "self._watched = set("),
    ("unwatch does nothing", "self._watched.difference_update(channels)", "pass"),
    ("unwatch forgets all", "difference_update(channels)", "clear()"),
    (
        "unwatch forgets no prefix",
        "difference_update(channels)\n        self._note_prefixes()",
        "difference_update(channels)",
    ),
    ("one too few is kept", "[:-events]", "[: 1 - events or None]"),
    ("too few are kept", "> 2 * events + _SPARE:", "> events:\n            events = 1"),
    ("one too many is kept", "> 2 * events + _SPARE", "> 2 * events + _SPARE + 1"),
    ("all are kept", "> 2 * events + _SPARE", "> 10**9"),
    ("nothing is too old", "now_s - self.age_s", "0"),
    ("what is new is too old", "now_s - self.age_s", "now_s - self.age_s / 2"),
    ("channels without records have names", "and logs[name].records", ""),
    ("names are not sorted", "return sorted(name for", "return list(name for"),
    ("there is a name too many", "            :limit\n", "            : limit + 1\n"),
    ("names know no case", "name.startswith(prefix)", "name.lower().startswith(prefix.lower())"),
    (
        "channels know no case",
        "log = self.logs.get(channel)",
        "log = self.logs.get(channel := channel.casefold())",
    ),
    ("what is dropped stays", "self.store.logs.pop(channel, None)", "pass"),
    (
        "what is dropped keeps its epoch",
        "self.store.logs.pop(channel, None)",
        "log = self.store.log(channel)\n        log.records, log.times = [], []",
    ),
    ("dropping what is not there fails", "logs.pop(channel, None)", "logs.pop(channel)"),
    (
        "dropping ends watching",
        "self.store.logs.pop(channel, None)",
        "self.store.logs.pop(channel,"
        " None)\n        [each._watched.discard(channel) for each in self.store.engines]",
    ),
    ("a signal comes to one", "for engine in list(self.store.engines)", "for engine in [self]"),
    (
        "a signal comes twice",
        "self._feed.signal(topic, data)",
        "[self._feed.signal(topic, data) for _ in range(2)]",
    ),
    ("after stop it goes on", "        self._feed = None\n        if self in", "        if not"),
    ("it cannot be stopped twice", "        if self in self.store.engines:", "        if True:"),
    (
        "a task is left",
        "        self._feed = None\n        if",
        "        self._feed = None\n"
        "        import asyncio\n        self._task = asyncio.create_task(asyncio.sleep(10**9))\n"
        "        if",
    ),
    ("it is never ready", "ready=True", "ready=False"),
    ("tails come in another order", "for channel in channels]", "for channel in sorted(channels)]"),
    (
        "what is read does not begin",
        "log = self.store.log(channel)\n        first",
        "log = self.store.logs.get(channel) or MemoryStore().log(channel)\n        first",
    ),
    ("anything is taken", "check_append(_CAPS, bodies, key, seal=seal)", "bodies or (b'',)"),
    ("bytes are changed", NEW, NEW.replace("body", "body.replace(bytes([0, 1]), b'')")),
    ("the first is the last", "Appended(new[0].cursor", "Appended(new[-1].cursor"),
    ("the last is the first", "new[-1].cursor, duplicate", "new[0].cursor, duplicate"),
]
BROKEN_ENGINE = [
    ("a tag is ignored", "None if named.cursor == after else GapReason.RESET", "None"),
    ("a tag is ignored at the tail", "if after == tail.cursor", "if after.pos == tail.cursor.pos"),
    ("an epoch is ignored", "after.epoch != tail.cursor.epoch", "after.epoch == -1"),
    (
        "the future is valid",
        "if after.pos >= tail.cursor.pos or",
        "if after.pos > tail.cursor.pos:\n        return None\n    if",
    ),
    ("an evicted birth is valid", "None if complete else GapReason.EVICTED", "None"),
    ("a birth is never valid", "None if complete else GapReason.EVICTED", "GapReason.EVICTED"),
    ("what is evicted is valid", "    return GapReason.EVICTED\n", "    return None\n"),
    ("a batch may be too large", "if together > caps", "if together > 2 * caps"),
    (
        "a record may be too large",
        "if largest > caps.max_body_bytes",
        "if largest > caps.max_body_bytes + 1",
    ),
    ("a batch may have too many", "if len(bodies) > MAX_BATCH", "if len(bodies) > MAX_BATCH + 1"),
    ("the largest is too large", "if largest > caps", "if largest >= caps"),
    ("a key may be too long", "<= MAX_KEY_BYTES:", "<= MAX_KEY_BYTES + 1:"),
    ("a key is counted in characters", 'len(key.encode(errors="replace"))', "len(key)"),
]
BROKEN_FAULTS = [
    ("a lost connection is not told", "self._feed.lost(None)", "pass"),
    ("a loss is told of no channel", "self._feed.lost(None)", "self._feed.lost([])"),
    (
        "a connection that is lost forgets what was watched",
        "            self._feed.forget()\n            self._feed.lost(None)",
        "            self._feed.lost(None)\n            self._engine._watched.clear()\n"
        "            self._engine._note_prefixes()",
    ),
    (
        "a loss is told too late",
        "self._feed.lost(None)",
        "asyncio.get_running_loop().call_later(1, self._feed.lost, None)",
    ),
    (
        "a store that is away is another error",
        'self._unavailable("it has crashed")',
        'OSError("it has crashed")',
    ),
    ("a store that is away answers", "        if self._crashed:\n", "        if False:\n"),
    ("health says nothing of it", "if self._crashed or not self._answering.is_set()", "if False"),
    ("a call waits for ever", "asyncio.timeout(self._timeout_s)", "asyncio.timeout(None)"),
    (
        "a timeout is another error",
        "raise (self._unknown(reason) if appends else self._unavailable(reason)) from None",
        "raise",
    ),
    (
        "what was appended was not, it says",
        "(self._unknown(reason) if appends else self._unavailable(reason))",
        "self._unavailable(reason)",
    ),
    (
        "a call that is cancelled goes on",
        "                await answering.wait()",
        "                await asyncio.shield(asyncio.ensure_future(answering.wait()))\n"
        "        except asyncio.CancelledError:\n            raise self._unknown('cancelled')",
    ),
]


@pytest.fixture
def modules() -> Iterator[tuple[ModuleType, ModuleType]]:
    names = "broken_engine", "broken_memory"
    made = [sys.modules.setdefault(name, ModuleType(name)) for name in names]
    yield made[0], made[1]
    for name in names:
        del sys.modules[name]


def built(modules: tuple[ModuleType, ModuleType], source: str, functions: str) -> Any:
    # The values are the real ones, so that the suite knows them; the functions are what is broken.
    vars(modules[0]).update(vars(engine) | {"__name__": "broken_engine"})
    exec(functions[functions.index("def check_append(") :], vars(modules[0]))
    source = source.replace("from typed_sse.channels.engine import", "from broken_engine import")
    exec(source, vars(modules[1]))
    return modules[1]


def failing(module: Any) -> str | None:
    """Return the name of a test that fails with an engine, of all but the random ones."""

    class Contract(EngineContract):
        passed_s = 0.0

        def runner(self) -> asyncio.Runner:
            return asyncio.Runner(loop_factory=VirtualTimeLoop)

        @cached_property
        def store(self) -> Any:
            return module.MemoryStore(lambda: self.passed_s + asyncio.get_running_loop().time())

        def make(self) -> Any:
            return module.MemoryEngine(self.store)

        async def copy_store(self) -> Any:
            return self.store.copy()

        async def restore_store(self, copy: Any) -> None:
            self.store.restore(copy)

        async def clear_store(self) -> None:
            self.store.restore(module.MemoryStore())

        async def pass_time(self, seconds: float) -> None:
            self.passed_s += seconds

    return failing_test(Contract)


def failing_test(contract: type[EngineContract]) -> str | None:
    for name in dir(contract):
        # What a subclass has set to None does not apply to it.
        test = getattr(contract, name)
        if name.startswith("test_") and "random" not in name and test is not None:
            try:
                getattr(contract(), name)()
            except SkipTest:
                pass
            except Exception:
                return name
    return None


def failing_in_trouble(source: str) -> str | None:
    """Return the name of a test that fails with what is broken in trouble."""
    broken: dict[str, Any] = {"__name__": "broken_faults"}
    exec(source, broken)

    class Contract(suite.TestFaulty):
        kind = broken["FaultyEngine"]

    return failing_test(Contract)


MEMORY = Path(memory.__file__).read_text()
FAULTS = Path(faults.__file__).read_text()
ENGINE = Path(engine.__file__).read_text()


@pytest.mark.parametrize(("old", "new"), [pytest.param(*e[1:], id=e[0]) for e in BROKEN_MEMORY])
def test_the_suite_fails_where_the_engine_is_broken(
    modules: tuple[ModuleType, ModuleType], old: str, new: str
) -> None:
    assert old in MEMORY
    assert failing(built(modules, MEMORY.replace(old, new), ENGINE)) is not None


@pytest.mark.parametrize(("old", "new"), [pytest.param(*e[1:], id=e[0]) for e in BROKEN_ENGINE])
def test_the_suite_fails_where_what_engines_share_is_broken(
    modules: tuple[ModuleType, ModuleType], old: str, new: str
) -> None:
    assert old in ENGINE
    assert failing(built(modules, MEMORY, ENGINE.replace(old, new))) is not None


@pytest.mark.parametrize(("old", "new"), [pytest.param(*e[1:], id=e[0]) for e in BROKEN_FAULTS])
def test_the_suite_fails_where_trouble_is_not_told(old: str, new: str) -> None:
    assert old in FAULTS
    assert failing_in_trouble(FAULTS.replace(old, new)) is not None


def test_the_suite_passes_where_nothing_is_broken(modules: tuple[ModuleType, ModuleType]) -> None:
    assert failing(built(modules, MEMORY, ENGINE)) is None
    assert failing_in_trouble(FAULTS) is None
