import asyncio

import pytest

from typed_sse.channels.engine import Retain
from typed_sse.channels.memory import MemoryEngine, MemoryStore
from typed_sse.contract.process import Lost, Process
from typed_sse.errors import EngineUnavailable, OutcomeUnknown
from typed_sse.testing import Fault, FaultyEngine, Step, seeds_told

RECORD_FAULTS = [Fault.DROP, Fault.LOST, Fault.DELAY, Fault.DUPLICATE, Fault.SWAP]
LIMIT_S = 30


async def started(engine: FaultyEngine) -> Process:
    process = Process(engine, LIMIT_S)
    await engine.start(process)
    await engine.watch(["a"])
    return process


def heard(process: Process) -> list[bytes]:
    return [record.body for record in process.records("a")]


async def appended(engine: FaultyEngine, *bodies: bytes) -> None:
    for body in bodies:
        await engine.append("a", [body], retain=Retain())


# --- records


async def test_without_faults_nothing_goes_wrong() -> None:
    engine = FaultyEngine(MemoryEngine())
    process = await started(engine)
    await appended(engine, b"1", b"2", b"3")
    assert heard(process) == [b"1", b"2", b"3"]
    assert engine.done == []


async def test_the_third_record_is_dropped_and_the_fourth_shows_it() -> None:
    engine = FaultyEngine(MemoryEngine(), script=[Step("record", 3, Fault.DROP)])
    process = await started(engine)
    await appended(engine, b"1", b"2", b"3", b"4")
    assert heard(process) == [b"1", b"2", b"4"]
    before, behind = process.records("a")[1:]
    assert behind.prev != before.cursor.pos
    assert engine.caps.lossy_feed
    assert engine.done == ["record 3: drop"]


async def test_a_loss_is_told_in_the_records_place() -> None:
    engine = FaultyEngine(MemoryEngine(), script=[Step("record", 2, Fault.LOST)])
    process = await started(engine)
    await appended(engine, b"1", b"2", b"3")
    assert heard(process) == [b"1", b"3"]
    assert process.heard[1] == Lost(frozenset({"a"}))


async def test_a_record_comes_twice_or_behind_the_next_one() -> None:
    script = [Step("record", 1, Fault.DUPLICATE), Step("record", 2, Fault.SWAP)]
    engine = FaultyEngine(MemoryEngine(), script=script)
    process = await started(engine)
    await appended(engine, b"1", b"2", b"3")
    assert heard(process) == [b"1", b"1", b"3", b"2"]


async def test_a_swapped_record_that_nothing_follows_comes_later() -> None:
    engine = FaultyEngine(MemoryEngine(), script=[Step("record", 1, Fault.SWAP)])
    process = await started(engine)
    await appended(engine, b"1")
    assert heard(process) == []
    await process.until(lambda: heard(process) == [b"1"], "it comes")


async def test_what_is_behind_a_delayed_record_waits_for_it() -> None:
    engine = FaultyEngine(MemoryEngine(), script=[Step("record", 1, Fault.DELAY)])
    process = await started(engine)
    await appended(engine, b"1", b"2")
    await engine.signal("topic", b"")
    assert process.heard == []
    await process.until(lambda: len(process.heard) == 3, "all come")
    assert heard(process) == [b"1", b"2"]
    assert process.heard[2] == ("topic", b"")


async def test_nothing_comes_after_stop_however_late_it_is() -> None:
    script = [Step("record", 1, Fault.DELAY), Step("record", 2, Fault.SWAP)]
    engine = FaultyEngine(MemoryEngine(), script=script, delay_s=1)
    process = await started(engine)
    await appended(engine, b"1", b"2")
    await process.stop()
    await asyncio.sleep(2)  # in virtual time
    assert process.heard == []


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_is_lost_by_a_seed_shows_or_is_told(seed: int) -> None:
    store = MemoryStore()
    rates = {Fault.DROP: 0.1, Fault.LOST: 0.1, Fault.DELAY: 0.1}
    engine = FaultyEngine(MemoryEngine(store), seed=seed, rates=rates)
    process = await started(engine)
    with seeds_told(engine):
        for n in range(100):
            await appended(engine, b"%d" % n)
        # Records wait for a delay, which is over in virtual time; the last one may be lost.
        await asyncio.sleep(1)
        records = process.records("a")
        assert 50 < len(records) < 100
        assert records == [record for record in await process.all("a") if record in records]


async def test_a_seed_does_the_same_again_and_another_does_not() -> None:
    async def run(seed: int) -> list[str]:
        rates = dict.fromkeys(RECORD_FAULTS, 0.1)
        engine = FaultyEngine(MemoryEngine(), seed=seed, rates=rates, delay_s=0)
        await started(engine)
        for n in range(100):
            await engine.append("a", [b"%d" % n], retain=Retain())
        await engine.stop()
        return list(engine.done)

    assert await run(1) == await run(1)
    assert await run(1) != await run(2)
    assert {line.split(": ")[1] for line in await run(3)} == {*map(str, RECORD_FAULTS)}


# --- calls


async def test_the_second_append_is_not_done_and_says_so() -> None:
    engine = FaultyEngine(MemoryEngine(), script=[Step("append", 2, Fault.UNAVAILABLE)])
    process = await started(engine)
    await appended(engine, b"1")
    with pytest.raises(EngineUnavailable, match="seed=0"):
        await appended(engine, b"2")
    await appended(engine, b"3")
    assert await process.bodies("a") == [b"1", b"3"]


async def test_an_append_of_unknown_outcome_is_done_or_not_and_the_key_tells() -> None:
    script = [Step("append", 1, Fault.UNKNOWN_BEFORE), Step("append", 2, Fault.UNKNOWN_AFTER)]
    engine = FaultyEngine(MemoryEngine(), script=script)
    process = await started(engine)
    for key in ("before", "after"):
        with pytest.raises(OutcomeUnknown, match=key):
            await process.append("a", key.encode(), key=key)
    assert await process.bodies("a") == [b"after"]
    assert not (await process.append("a", b"before", key="before")).duplicate
    assert (await process.append("a", b"after", key="after")).duplicate


async def test_a_call_stalls_until_the_timeout_or_until_its_caller_gives_up() -> None:
    script = [Step("read", 1, Fault.STALL), Step("append", 1, Fault.STALL)]
    script.append(Step("tails", 1, Fault.STALL))
    engine = FaultyEngine(MemoryEngine(), script=script, timeout_s=3)
    process = await started(engine)
    now_s = asyncio.get_running_loop().time()
    with pytest.raises(EngineUnavailable, match="within 3 s"):
        await process.read("a")
    with pytest.raises(OutcomeUnknown, match="within 3 s"):
        await process.append("a", b"x")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(process.tail("a"), 1)
    assert asyncio.get_running_loop().time() == pytest.approx(now_s + 7)


async def test_after_a_crash_at_a_call_nothing_goes_until_it_recovers() -> None:
    store = MemoryStore()
    engine = FaultyEngine(MemoryEngine(store), script=[Step("call", 4, Fault.CRASH)])
    process = await started(engine)
    await appended(engine, b"1")
    for _ in range(2):
        with pytest.raises(EngineUnavailable, match="crashed"):
            await appended(engine, b"2")
    assert not (await engine.health()).ready
    await MemoryEngine(store).append("a", [b"unheard"], retain=Retain())
    assert heard(process) == [b"1"]
    engine.recover()
    assert process.heard[-1] == Lost(None)
    await appended(engine, b"3")
    assert heard(process) == [b"1", b"3"]
    assert await process.bodies("a") == [b"1", b"unheard", b"3"]


async def test_a_delayed_call_is_done_later() -> None:
    engine = FaultyEngine(MemoryEngine(), script=[Step("append", 1, Fault.DELAY)], delay_s=1000)
    process = await started(engine)
    await appended(engine, b"1")
    assert 0 < asyncio.get_running_loop().time() <= 1000
    assert heard(process) == [b"1"]


async def test_a_failure_tells_the_seed_and_what_has_gone_wrong() -> None:
    engine = FaultyEngine(MemoryEngine(), seed=42, script=[Step("record", 1, Fault.DROP)])
    process = await started(engine)
    await appended(engine, b"1")
    with pytest.raises(AssertionError) as failure, seeds_told(engine):
        assert heard(process) == [b"1"]
    assert failure.value.__notes__ == ["<FaultyEngine seed=42, gone wrong: record 1: drop>"]
